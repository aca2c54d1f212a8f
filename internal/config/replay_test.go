package config

import "testing"

// A file that lowers limits.max_body below the default of replay.max_body was
// refused for a key it does not have.
func TestReplayFollowsTheLimit(t *testing.T) {
	f := func(text string, want int64) {
		t.Helper()
		config, faults := Parse("config.yaml", []byte(account+text), ".", testEnv)
		if len(faults) > 0 || config.Replay.MaxBody != want {
			t.Errorf("%q: replay.max_body %d, want %d; %v", text, config.Replay.MaxBody, want, faults)
		}
	}
	f("", 1*mib)
	f("limits: {max_body: 2MiB}\n", 1*mib)
	f("limits: {max_body: 1MiB}\n", 1*mib)
	f("limits: {max_body: 512KiB}\n", 512*kib)
	f("replay: {max_body: }\nlimits: {max_body: 512KiB}\n", 512*kib)
	f("replay: {}\nlimits: {max_body: 1KiB}\n", 1*kib)
	f("replay: {max_body: 0B}\nlimits: {max_body: 512KiB}\n", 0)
	f("replay: {max_body: 100KiB}\nlimits: {max_body: 512KiB}\n", 100*kib)
	f("replay: {max_body: 2MiB}\n", 2*mib)
	if got := Default().Replay.MaxBody; got != 1*mib {
		t.Errorf("default %d", got)
	}
}
