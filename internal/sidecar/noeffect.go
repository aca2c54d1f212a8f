package sidecar

import (
	"log/slog"

	"lingpai/internal/config"
)

// warnOfNoEffect names the keys that are set and do nothing yet.
func warnOfNoEffect(log *slog.Logger, c config.Config) {
	var keys []string
	if len(c.Callback.Forward) > 0 {
		keys = append(keys, "callback.forward")
	}
	if len(c.Callback.ReturnURLs) > 0 {
		keys = append(keys, "callback.return_urls")
	}
	if len(keys) > 0 {
		log.Warn("these keys have no effect in this version", "keys", keys)
	}
}
