package sidecar

import (
	"fmt"
	"log/slog"

	"lingpai/internal/config"
)

// Supported returns an error that wraps ErrConfig if a valid configuration asks
// for something that comes with a later version, and that must not be left out
// in silence.
func Supported(c config.Config) error {
	if c.Store.Kind == "redis" {
		return fmt.Errorf("%w: store.kind: redis comes with a later version; write bolt or memory", ErrConfig)
	}
	return nil
}

// warnOfNoEffect names the keys that are set and do nothing yet.
func warnOfNoEffect(log *slog.Logger, c config.Config) {
	var keys []string
	if len(c.Callback.Forward) > 0 {
		keys = append(keys, "callback.forward")
	}
	if c.Callback.ReleaseTest {
		keys = append(keys, "callback.release_test")
	}
	if len(c.Callback.ReturnURLs) > 0 {
		keys = append(keys, "callback.return_urls")
	}
	if len(keys) > 0 {
		log.Warn("these keys have no effect in this version", "keys", keys)
	}
}
