package tokens

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/ristretto/v2"
)

// entryCost is what a token in use takes beside its text at most, by
// TestTokensTakeNoMoreThanTheyCost: 80 bytes are the Token's, up to 20 its plan's,
// and 140 to 230 ristretto's, whose maps have been doubled or are about to be.
const entryCost = 344

// cost is what a token takes whose value and app id have length bytes together. The
// allocator rounds them up, to 16 bytes or to a sixteenth.
func cost(length int) int64 {
	step := max(1<<bits.Len(uint(length))/16, 16)
	return int64(entryCost + (length+step-1)/step*step)
}

// memory holds the tokens in use: the component's in a pointer of its own, the
// others in ristretto, which may drop any of them. It is never the only copy
// and never the judge of expiry.
type memory struct {
	component atomic.Pointer[Token]
	cache     *ristretto.Cache[string, *Token]
	// locks order the writers of a key, see Service.publish. Readers take none.
	// They are channels, since whoever waits for one has a deadline.
	locks  [256]chan struct{}
	seed   maphash.Seed
	closed atomic.Bool

	// epoch grows when changes of the store by other processes may have been
	// missed: a token checked in a former epoch is looked up again before it is
	// used. era grows when the store has lost its records: what memory has of a
	// former era is good though the store does not know it.
	epoch, era atomic.Uint32
	doubting   atomic.Bool // another epoch is about to begin

	schedule *schedule // of renewals; it plans only for what is here
}

// doubtAgain is when tokens are looked up again that could not be.
const doubtAgain = time.Second

// doubtLater begins another epoch soon: the store could not be asked in this one.
func (m *memory) doubtLater() {
	if !m.doubting.Swap(true) {
		time.AfterFunc(doubtAgain, func() {
			m.doubting.Store(false)
			m.epoch.Add(1)
		})
	}
}

// survivor returns the token of a key that the store knew before it lost its
// records, nil if there is none that can be sent at now.
func (m *memory) survivor(key Key, now time.Time) *Token {
	if t := m.get(key); t != nil && t.era.Load() != m.era.Load() && t.Usable(now) {
		return t
	}
	return nil
}

// counters is how many counters of use ristretto gets when so many tokens fit: about
// ten for each, as it advises. With four, 3 to 4 of 100 calls more read the store
// when a third or a tenth of the tokens fit. A power of two, since it takes memory
// for the next one anyway; bounded, since it does so at start.
func counters(fit int64) int64 {
	return min(max(int64(1)<<bits.Len64(uint64(fit)*20/3), 1<<10), 1<<22)
}

func newMemory(maxBytes int64, schedule *schedule) (*memory, error) {
	cache, err := ristretto.NewCache(&ristretto.Config[string, *Token]{
		NumCounters:        counters(maxBytes / cost(218)),
		MaxCost:            maxBytes,
		BufferItems:        64,
		IgnoreInternalCost: true,
		OnExit:             schedule.drop,
	})
	if err != nil {
		return nil, fmt.Errorf("make the token cache: %w", err)
	}
	m := &memory{cache: cache, seed: maphash.MakeSeed(), schedule: schedule}
	for i := range m.locks {
		m.locks[i] = make(chan struct{}, 1)
	}
	return m, nil
}

// get returns the token of a key, nil if memory has none. The token may have
// expired. It takes no lock shared by all keys and allocates nothing.
func (m *memory) get(key Key) *Token {
	if key.Kind == Component {
		if t := m.component.Load(); t != nil && t.AppID() == key.AppID {
			return t
		}
		return nil
	}
	t := m.find(key.AppID)
	if t == nil || t.Kind() != key.Kind {
		return nil
	}
	return t
}

// find returns the token of an authorizer or direct account, nil if memory has
// none. ristretto compares hashes only, so the app id is compared here.
func (m *memory) find(appID string) *Token {
	if m.closed.Load() {
		return nil
	}
	t, ok := m.cache.Get(appID)
	if !ok || t == nil || t.AppID() != appID {
		return nil
	}
	return t
}

// lock takes the lock of key's writers; ErrWait if ctx ends before.
func (m *memory) lock(ctx context.Context, key Key) (unlock func(), err error) {
	lock := m.locks[maphash.String(m.seed, key.AppID)%uint64(len(m.locks))]
	unlock = func() { <-lock }
	select {
	case lock <- struct{}{}:
		return unlock, nil
	default: // only who waits needs what ends the wait
	}
	select {
	case lock <- struct{}{}:
		return unlock, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", key, ErrWait)
	}
}

// lockAll takes the locks of all writers: ristretto must not be cleared or
// closed while it is written to.
func (m *memory) lockAll() (unlock func()) {
	for _, lock := range m.locks {
		lock <- struct{}{}
	}
	return func() {
		for _, lock := range m.locks {
			<-lock
		}
	}
}

// put replaces the token of key by one that was not here before; nil takes it
// out. The caller holds the lock.
func (m *memory) put(key Key, t *Token) {
	if m.closed.Load() {
		return
	}
	if t != nil {
		t.place = unplanned
	}
	switch {
	case key.Kind == Component:
		m.schedule.drop(m.component.Swap(t))
		return
	case t != nil:
		if !m.cache.Set(key.AppID, t, cost(len(t.Value().Reveal())+len(t.AppID()))) {
			m.schedule.drop(t)
		}
	case m.get(key) != nil:
		m.cache.Del(key.AppID)
	default:
		return // nothing to take out, as for each call while there is no token
	}
	// Set of a new key is asynchronous: without the wait the next call would
	// miss. It may still be dropped; then calls read the store.
	m.cache.Wait()
}

func (m *memory) clear() {
	defer m.lockAll()()
	m.schedule.drop(m.component.Swap(nil))
	if !m.closed.Load() {
		m.cache.Clear()
	}
}

// close ends ristretto's goroutines; memory is empty from then on. Reads should
// have ended by then.
func (m *memory) close() {
	defer m.lockAll()()
	m.schedule.drop(m.component.Swap(nil))
	if !m.closed.Swap(true) {
		m.cache.Close()
	}
}

// publish makes memory hold what the store holds for key, and returns it; nil
// if that is no usable token. It is the only way into memory. Reading the store
// under the key's lock is what keeps a slow publisher from putting an older
// generation over a newer one: whoever comes last has read last.
func (s *Service) publish(ctx context.Context, key Key) (*Token, error) {
	unlock, err := s.memory.lock(ctx, key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	// Both from before the store is read: what is doubted meanwhile stays so.
	epoch, era := s.memory.epoch.Load(), s.memory.era.Load()
	stored, authorizedAt, err := s.source(key.Kind).stored(ctx, key.AppID)
	now := time.Now()
	if errors.Is(err, ErrUnknown) || err == nil && stored.Generation == 0 {
		if t := s.memory.survivor(key, now); t != nil {
			t.checked.Store(epoch)
			return t, nil
		}
		// Or is the loss not noticed yet?
		if t := s.memory.get(key); t != nil && t.Usable(now) && s.unnoticedLoss(ctx) {
			return t, nil
		}
	}
	if err != nil {
		if noToken(err) {
			if s.memory.get(key) != nil { // else it may be a stranger's
				s.mirror.remove(key)
			}
			s.memory.put(key, nil)
		}
		return nil, err
	}
	if key.Kind == Component {
		s.metrics.ComponentToken(stored.ExpiresAt)
	}
	if !usable(stored, now) {
		s.memory.put(key, nil)
		return nil, nil
	}
	t := s.memory.get(key)
	known := t != nil && t.Generation == stored.Generation && t.expiresAt == instantOf(stored.ExpiresAt) && t.authorizedAt == instantOf(authorizedAt)
	if !known { // else t keeps what is known of its use
		t = newToken(key, stored, dueAt(key.Kind, stored.RefreshedAt, stored.ExpiresAt, s.config.Load().RefreshAhead, jitter()))
		t.authorizedAt = instantOf(authorizedAt)
	}
	t.checked.Store(epoch)
	t.era.Store(era)
	if !known {
		s.mirror.publish(t)
	}
	// An authorizer that is also a direct account is served as the latter.
	if !known && (key.Kind != Authorizer || s.KeyOf(key.AppID) == key) {
		s.memory.put(key, t)
	}
	return t, nil
}

// held returns the token of key that memory has, if the store could not be asked
// whether it is still the current one: then it is used on.
func (s *Service) held(key Key, storeErr error) *Token {
	t := s.memory.get(key)
	if t == nil || noToken(storeErr) || errors.Is(storeErr, ErrWait) || !t.Usable(time.Now()) {
		return nil
	}
	t.checked.Store(s.memory.epoch.Load())
	s.memory.doubtLater()
	return t
}

// noToken reports whether an error of a source says that there is no token,
// not that the store failed.
func noToken(err error) bool {
	return errors.Is(err, ErrUnknown) || errors.Is(err, ErrReauthorize) || errors.Is(err, ErrNoComponent)
}

// dropFromMemory makes memory hold what the store now has of an authorizer.
func (s *Service) dropFromMemory(ctx context.Context, appID string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	key := Key{Authorizer, appID}
	if _, err := s.publish(ctx, key); err == nil || noToken(err) {
		return
	}
	// The store fails: what memory has is known to be old.
	if unlock, err := s.memory.lock(context.WithoutCancel(ctx), key); err == nil {
		s.memory.put(key, nil)
		unlock()
	}
}
