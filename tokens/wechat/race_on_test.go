//go:build race

package wechat

// raceEnabled: the race detector allocates.
const raceEnabled = true
