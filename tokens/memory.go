package tokens

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/ristretto/v2"

	"lingpai/tokens/store"
)

// entryCost is what a cached token takes beside its value's bytes, as measured:
// the Token, the cache's own entry and its policy's.
const entryCost = 420

// memory holds the tokens in use: the component's in a pointer of its own, the
// others in ristretto, which may drop any of them. It is never the only copy
// and never the judge of expiry.
type memory struct {
	component atomic.Pointer[Token]
	cache     *ristretto.Cache[string, *Token]
	// locks order the writers of a key, see Service.publish. Readers take none.
	locks [256]sync.Mutex
	seed  maphash.Seed
}

func newMemory(maxBytes int64) (*memory, error) {
	cache, err := ristretto.NewCache(&ristretto.Config[string, *Token]{
		// Ten counters for each token that fits, as ristretto advises; bounded,
		// since they are taken at start.
		NumCounters:        min(max(maxBytes/(entryCost+200)*10, 1000), 1<<22),
		MaxCost:            maxBytes,
		BufferItems:        64,
		IgnoreInternalCost: true,
	})
	if err != nil {
		return nil, fmt.Errorf("make the token cache: %w", err)
	}
	return &memory{cache: cache, seed: maphash.MakeSeed()}, nil
}

// get returns the token of a key, nil if memory has none. The token may have
// expired. It takes no lock shared by all keys and allocates nothing.
func (m *memory) get(key Key) *Token {
	if key.Kind == Component {
		if t := m.component.Load(); t != nil && t.AppID == key.AppID {
			return t
		}
		return nil
	}
	t := m.find(key.AppID)
	if t == nil || t.Kind != key.Kind {
		return nil
	}
	return t
}

// find returns the token of an authorizer or direct account, nil if memory has
// none. ristretto compares hashes only, so the app id is compared here.
func (m *memory) find(appID string) *Token {
	t, ok := m.cache.Get(appID)
	if !ok || t == nil || t.AppID != appID {
		return nil
	}
	return t
}

func (m *memory) lock(key Key) *sync.Mutex {
	return &m.locks[maphash.String(m.seed, key.AppID)%uint64(len(m.locks))]
}

// put replaces the token of key; nil takes it out. The caller holds the lock.
func (m *memory) put(key Key, t *Token) {
	if key.Kind == Component {
		m.component.Store(t)
		return
	}
	if t == nil {
		m.cache.Del(key.AppID)
	} else {
		m.cache.Set(key.AppID, t, int64(entryCost+len(t.escaped)+len(t.AppID)))
	}
	// Set of a new key is asynchronous: without the wait the next call would
	// miss. It may still be dropped; then calls read the store.
	m.cache.Wait()
}

func (m *memory) clear() {
	m.component.Store(nil)
	m.cache.Clear()
}

func (m *memory) close() { m.cache.Close() }

// publish makes memory hold what the store holds for key, and returns it; nil
// if that is no usable token. It is the only way into memory. Reading the store
// under the key's lock is what keeps a slow publisher from putting an older
// generation over a newer one: whoever comes last has read last.
func (s *Service) publish(ctx context.Context, key Key) (*Token, error) {
	lock := s.memory.lock(key)
	lock.Lock()
	defer lock.Unlock()
	stored, err := s.source(key.Kind).stored(ctx, key.AppID)
	if err != nil {
		if errors.Is(err, store.ErrNotFound) || errors.Is(err, ErrUnknown) || errors.Is(err, ErrReauthorize) {
			s.memory.put(key, nil)
		}
		return nil, err
	}
	if key.Kind == Component {
		s.metrics.ComponentToken(stored.ExpiresAt)
	}
	if !usable(stored, time.Now()) {
		s.memory.put(key, nil)
		return nil, nil
	}
	if t := s.memory.get(key); t != nil && t.Generation == stored.Generation && t.ExpiresAt.Equal(stored.ExpiresAt) {
		return t, nil // keeps what is known of its use
	}
	t := newToken(key, stored, dueAt(key.Kind, stored.RefreshedAt, stored.ExpiresAt, s.config.Load().RefreshAhead, jitter()))
	s.memory.put(key, t)
	return t, nil
}
