package redis

import (
	"context"

	"lingpai/tokens/store"

	"github.com/redis/rueidis"
)

// settings are those of the server that decide whether records can be lost, with
// the value that keeps them.
var settings = []struct{ name, good, risk string }{
	{"maxmemory-policy", "noeviction", "redis may evict records"},
	{"appendonly", "yes", "redis may lose records when it restarts"},
	{"appendfsync", "always", "redis may lose the last seconds of writes in a crash"},
}

// advise warns of settings that may lose records. They are the operator's
// decision, so that Open goes on whatever they are.
func (s *Store) advise(ctx context.Context) {
	for addr, node := range s.client.Nodes() {
		for _, setting := range settings {
			value, err := s.setting(ctx, node, setting.name)
			if err != nil {
				s.log.Warn("redis settings could not be checked", "address", addr, "setting", setting.name, "want", setting.good, "error", err)
				break
			}
			if value != setting.good {
				s.log.Warn(setting.risk, "address", addr, "setting", setting.name, "value", value, "want", setting.good)
			}
			if setting.name == "appendonly" && value != setting.good {
				break // appendfsync has no effect
			}
		}
	}
}

func (s *Store) setting(ctx context.Context, node rueidis.Client, name string) (string, error) {
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	m, err := s.exec(ctx, func(ctx context.Context) rueidis.RedisResult {
		return node.Do(ctx, node.B().ConfigGet().Parameter(name).Build())
	})
	if err != nil {
		return "", err
	}
	values, err := m.AsStrMap()
	if err != nil {
		return "", errAnswer
	}
	value, ok := values[name]
	if !ok {
		return "", store.ErrNotFound
	}
	return value, nil
}
