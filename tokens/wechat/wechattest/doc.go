// Package wechattest simulates the part of WeChat that a third-party platform
// (微信第三方平台) talks to: the token chain, the pushes, the account APIs and
// the way all of them fail. It serves lingpai's tests, its demo, `lingpai
// simulate`, and the tests of any other program that speaks to WeChat.
//
// A [Server] is an http.Handler that keeps WeChat's state: tickets, tokens with
// their expiry, overlap and rotation, single-use codes, quotas. It refuses what
// WeChat refuses, in WeChat's order, with WeChat's errcodes. Where the truth is
// unknown or varies, a knob chooses ([Knobs]). [Fault]s break single calls,
// [Server.Calls] tells what was called and [Server.Violations] what no correct
// client does: two tokens in one call, two refreshes of a token at once.
//
// It also plays the people: login pages with Confirm and Cancel under WeChat's
// own paths ([Server.OpenLogin]), and WeChat's release test
// ([Server.RunReleaseTest]). A page for a person is at [ConsolePath].
//
// The same things are open to programs in other languages as JSON under
// [ControlPrefix]; [Main] is the command.
//
// All waiting is done with the standard package time, so a Server works inside
// a testing/synctest bubble. Make it in the bubble in which it is used.
package wechattest
