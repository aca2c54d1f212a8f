package wechattest

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// releasePairs are the accounts of the release test, from which WeChat picks
// one pair.
//
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/operation/thirdparty/releases_instructions.html
var releasePairs = [][2]LoginAccount{
	releasePair("wx570bc396a51b8ff8", "gh_3c884a361561", "wxd101a85aa106f53e", "gh_8dad206e9538"),
	releasePair("wx9252c5e0bb1836fc", "gh_c0f28a78b318", "wxc39235c15087f6f3", "gh_905ae9d01059"),
	releasePair("wx8e1097c5bc82cde9", "gh_3f222ed8d140", "wx7720d01d4b2a4500", "gh_393666f1fdf4"),
	releasePair("wx14550af28c71a144", "gh_26128078e9ab", "wx05d483572dcd5d8b", "gh_39abb5d4e1b7"),
	releasePair("wxa35b9c23cfe664eb", "gh_2b3713f184a6", "wx5910277cae6fd970", "gh_7818dcb60240"),
}

func releasePair(official, officialName, mini, miniName string) [2]LoginAccount {
	return [2]LoginAccount{
		{AppID: official, Type: TypeOfficialAccount, NickName: "全网发布检测公众号", UserName: officialName, Scopes: officialScopes},
		{AppID: mini, Type: TypeMiniProgram, NickName: "全网发布检测小程序", UserName: miniName, Scopes: miniProgramScopes},
	}
}

// releaseAnswer is how long the platform may take to answer a push.
const releaseAnswer = 5 * time.Second

// releaseUser is the openid of the tester.
const releaseUser = "oReleaseTester0000000000wxtest"

// ReleaseTest is a run of WeChat's release test (全网发布检测) against the
// platform.
type ReleaseTest struct {
	Pair            int      `json:"pair"`             // which of the five pairs of accounts, from 0
	Wait            Duration `json:"wait"`             // for an exchange and a customer-service message; 0: 10 s
	WithoutMessages bool     `json:"without_messages"` // no message permission set is ticked: cases 2 to 4 are skipped
	WithEvent       bool     `json:"with_event"`       // also the event of older runs, as case 5
}

// ReleaseReport is the outcome of a ReleaseTest.
type ReleaseReport struct {
	Passed          bool          `json:"passed"` // no case failed
	OfficialAccount string        `json:"official_account"`
	MiniProgram     string        `json:"mini_program"`
	Cases           []ReleaseCase `json:"cases"`
	Notes           []string      `json:"notes"` // what went wrong beside the cases
}

// ReleaseCase is one case of a ReleaseTest.
type ReleaseCase struct {
	Case     int           `json:"case"`
	Does     string        `json:"does"`
	AppID    string        `json:"app_id,omitempty"`
	Passed   bool          `json:"passed"`
	Skipped  bool          `json:"skipped,omitempty"`
	Reason   string        `json:"reason,omitempty"` // why it did not pass
	Duration time.Duration `json:"duration_ns"`
}

// RunReleaseTest authorizes a pair of WeChat's test accounts to the platform
// and plays WeChat's tester. The accounts stay in the authorizer list
// afterwards, where a refresh of their tokens gives 61003, as in reality.
//
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/operation/thirdparty/releases_instructions.html
func (s *Server) RunReleaseTest(ctx context.Context, test ReleaseTest) (ReleaseReport, error) {
	if test.Pair < 0 || test.Pair >= len(releasePairs) {
		return ReleaseReport{}, fmt.Errorf("pair must be 0 to %d", len(releasePairs)-1)
	}
	if test.Wait == 0 {
		test.Wait = Duration(2 * releaseAnswer)
	}
	pair := releasePairs[test.Pair]
	official, mini := pair[0], pair[1]
	report := ReleaseReport{OfficialAccount: official.AppID, MiniProgram: mini.AppID, Notes: []string{}}
	run := func(number int, does, appID string, do func() error) {
		c := ReleaseCase{Case: number, Does: does, AppID: appID}
		if c.Skipped = test.WithoutMessages && number > 1; !c.Skipped {
			start := time.Now()
			err := do()
			c.Duration, c.Passed = time.Since(start), err == nil
			if err != nil {
				c.Reason = err.Error()
			}
		}
		report.Cases = append(report.Cases, c)
	}

	run(1, "ticket: answer success", "", func() error { return s.releaseTicket(ctx) })
	for _, account := range pair {
		note, err := s.releaseAuthorize(ctx, account, test)
		if err != nil {
			return report, err
		}
		if note != "" {
			report.Notes = append(report.Notes, note)
		}
	}
	run(2, "text: answer an encrypted text at once", official.AppID, func() error { return s.releaseText(ctx, official) })
	run(3, "code in a text: answer empty, exchange it, send a customer-service message", official.AppID,
		func() error { return s.releaseCode(ctx, official, test) })
	run(4, "the same for the mini program", mini.AppID, func() error { return s.releaseCode(ctx, mini, test) })
	if test.WithEvent {
		run(5, "event: answer an encrypted text at once", official.AppID, func() error { return s.releaseEvent(ctx, official) })
	}

	report.Passed = true
	for _, c := range report.Cases {
		report.Passed = report.Passed && (c.Passed || c.Skipped)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, account := range pair {
		if a := s.authorizers[account.AppID]; a != nil {
			a.tester = true
		}
	}
	return report, ctx.Err()
}

// releaseTicket pushes a new ticket, whatever Knobs.Ticket says.
func (s *Server) releaseTicket(ctx context.Context) error {
	s.mu.Lock()
	p := s.event("component_verify_ticket", "", 1, []Field{{Name: "ComponentVerifyTicket", Value: s.newTicket()}})
	s.mu.Unlock()
	record, err := s.deliver(ctx, p)
	return inTime(record, err)
}

// inTime adds the limit of five seconds to what became of a push.
func inTime(record PushRecord, err error) error {
	if err == nil && record.Duration > releaseAnswer {
		return fmt.Errorf("answered after %v, later than %v", record.Duration.Round(time.Millisecond), releaseAnswer)
	}
	return err
}

// releaseAuthorize lets an account of the pair authorize the platform, and
// waits for the exchange of its code: WeChat's tester is not so quick that the
// messages could overtake it. What went wrong is a note, for no case is about
// it.
func (s *Server) releaseAuthorize(ctx context.Context, account LoginAccount, test ReleaseTest) (note string, err error) {
	scopes := account.Scopes
	if test.WithoutMessages {
		scopes = []int{scopes[1]} // neither messages nor customer service
	}
	a, err := s.Authorize(ctx, account.AppID, WithUserName(account.UserName), WithNickName(account.NickName), WithScopes(scopes...),
		func(c *consent) { c.kind = account.Type })
	switch {
	case err != nil:
		return "", err
	case a.PushError != "":
		return fmt.Sprintf("authorized event of %s: %s", account.AppID, a.PushError), nil
	case !a.Pushed:
		return fmt.Sprintf("authorized event of %s was not pushed before the messages", account.AppID), nil
	}
	if !s.await(ctx, test.Wait, func() bool {
		code := s.authCodes[a.EventCode]
		return code != nil && code.used
	}) {
		return fmt.Sprintf("the code of the authorized event of %s was not exchanged", account.AppID), nil
	}
	return "", nil
}

// await waits until a condition on the state holds, at most so long, and
// reports whether it did.
func (s *Server) await(ctx context.Context, wait Duration, holds func() bool) bool {
	timer := time.NewTimer(time.Duration(wait))
	defer timer.Stop()
	for {
		s.mu.Lock()
		ok, changed := holds(), s.changed
		s.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		case <-s.closed:
			return false
		}
	}
}

// releaseMessage pushes a message once: a second try would hide a failure.
func (s *Server) releaseMessage(ctx context.Context, m Message) (PushRecord, error) {
	m.OpenID = releaseUser
	p := s.messagePush(m.AppID, s.MessageXML(m))
	p.attempts = 1
	record, err := s.deliver(ctx, p)
	return record, inTime(record, err)
}

// short keeps reasons readable.
func short(text string) string {
	text = strings.TrimSpace(text)
	if runes := []rune(text); len(runes) > 300 {
		return string(runes[:300]) + "…"
	}
	return text
}
