package tokens

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"lingpai/metrics"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/wechat"
)

// Config is what a Service can be told again while it runs.
type Config struct {
	// Component is the third-party platform; nil for direct accounts only.
	Component *ComponentConfig
	// Accounts are the direct accounts: app id to AppSecret.
	Accounts map[string]secret.String
	// RefreshAhead is how long before its end a token is renewed; never more
	// than a third of its lifetime.
	RefreshAhead time.Duration
	// RefreshTimeout bounds one call to a token endpoint.
	RefreshTimeout time.Duration
	// WaitTimeout is how long a call waits for a token.
	WaitTimeout time.Duration
	// MinRefreshInterval lies between two refreshes that refusals forced.
	MinRefreshInterval time.Duration
	// Client calls WeChat.
	Client *wechat.Client
	// Follower: the Service reads the tokens that others keep in a store.Shared
	// and never asks WeChat for any. It needs no secrets.
	Follower bool
}

// ComponentConfig is the third-party platform.
type ComponentConfig struct {
	AppID     string
	AppSecret secret.String
}

// maxRefreshes is how many calls to token endpoints run at a time.
const maxRefreshes = 64

// storeTimeout bounds one operation on the store that a refresh stands on.
const storeTimeout = 5 * time.Second

// Service hands out tokens and keeps them. Make one with NewService, start its
// background work with Run. Safe for concurrent use.
type Service struct {
	config  atomic.Pointer[Config]
	store   store.Store
	shared  store.Shared // the store, if other processes use it too; else nil
	memory  *memory
	metrics *metrics.Metrics
	log     *slog.Logger

	flights  singleflight.Group
	slots    chan struct{} // taken by calls to token endpoints
	troubles *troubles
	unsaved  unsaved
	schedule *schedule
	events   *events
	codes    codes
	lists    lists
	retired  retired
	mirror   mirror
	hooks    Hooks

	// What only a shared store takes.
	signals   signals
	survivors survivors
	identity  atomic.Pointer[string] // of the records that memory stems from
	emptied   chan struct{}          // the store has lost its records
	lost      atomic.Bool            // and WeChat's list has not been read since
	wants     chan struct{}          // taken by refreshes that followers want

	storeLogged atomic.Int64 // Unix ns when a failure of the store was logged

	base   context.Context // of flights; ends when the Service is closed
	cancel context.CancelFunc
	mu     sync.Mutex // guards closed against work being added
	closed bool
	work   sync.WaitGroup // flights and renewals under way
}

// NewService returns a Service that keeps its records in st and at most
// cacheBytes of tokens in memory. The error is of a follower whose store is not
// shared, or of sizes that cannot be.
func NewService(config Config, st store.Store, cacheBytes int64, m *metrics.Metrics, log *slog.Logger) (*Service, error) {
	schedule := newSchedule()
	memory, err := newMemory(cacheBytes, schedule)
	if err != nil {
		return nil, err
	}
	s := &Service{
		store:    st,
		memory:   memory,
		metrics:  m,
		log:      log,
		slots:    make(chan struct{}, maxRefreshes),
		troubles: newTroubles(),
		unsaved:  unsaved{keys: map[Key]unsavedGrant{}},
		schedule: schedule,
		events:   newEvents(),
		retired:  retired{generations: map[string]uint64{}},
		mirror:   mirror{changed: make(chan struct{}, 1)},
		emptied:  make(chan struct{}, 1),
		wants:    make(chan struct{}, maxRefreshes),
	}
	s.shared, _ = st.(store.Shared)
	if config.Follower && s.shared == nil {
		memory.close()
		return nil, errors.New("a follower needs a store that others write into")
	}
	s.base, s.cancel = context.WithCancel(context.Background())
	s.config.Store(&config)
	return s, nil
}

// recovering is what is answered for accounts that a store does not know, as long
// as that may be because it has lost its records.
var recovering = &Unavailable{
	Detail:     "the store has lost its records; they are being read from WeChat's list of authorizers",
	RetryAfter: emptyEvery,
}

// Reconfigure takes over another configuration. Tokens are looked up anew in
// the store, and what had failed is tried again.
func (s *Service) Reconfigure(config Config) {
	old := s.config.Swap(&config)
	s.memory.clear()
	s.troubles.clear()
	if old.Client != config.Client {
		old.Client.CloseIdleConnections()
	}
}

// Run works on events and renews tokens ahead of their end until ctx ends, and
// returns when that has stopped.
func (s *Service) Run(ctx context.Context) {
	s.showStored(ctx)
	var running sync.WaitGroup
	running.Go(func() { s.renewScheduled(ctx) })
	if s.shared != nil {
		running.Go(func() { s.watch(ctx) })
	}
	if !s.config.Load().Follower {
		running.Go(func() { s.leading(ctx, "events", s.runEvents) })
		running.Go(func() { s.readWhenEmpty(ctx) })
		running.Go(func() { s.readNightly(ctx) })
		running.Go(func() { s.leading(ctx, "mirror", s.runMirror) })
	}
	running.Wait()
}

// Close waits, at most until ctx ends, for refreshes under way, so that what
// WeChat has answered is stored. The store must be open until Close returns.
// Later calls find no token in memory and begin no refresh.
func (s *Service) Close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.work.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.cancel()
		<-done
	}
	s.cancel()
	s.memory.close()
	s.config.Load().Client.CloseIdleConnections()
}

// begin adds to the work that Close waits for; false if closed.
func (s *Service) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.work.Add(1)
	return true
}

// ComponentKey returns the key of the configured platform; false if there is
// none.
func (s *Service) ComponentKey() (Key, bool) {
	if c := s.config.Load().Component; c != nil {
		return Key{Component, c.AppID}, true
	}
	return Key{}, false
}

// KeyOf returns the key that an app id given by a caller stands for: a
// configured direct account, else an authorizer, known or not.
func (s *Service) KeyOf(appID string) Key {
	if _, direct := s.config.Load().Accounts[appID]; direct {
		return Key{Account, appID}
	}
	return Key{Authorizer, appID}
}

// ComponentToken returns the component_access_token as Token does.
func (s *Service) ComponentToken(ctx context.Context) (*Token, error) {
	key, ok := s.ComponentKey()
	if !ok {
		return nil, ErrNoComponent
	}
	return s.Token(ctx, key)
}

// Find returns the token of an authorizer or direct account if memory has one
// that can be sent at now, else nil: then ask Token. It keeps appID only as
// long as the call lasts, takes no lock shared by all keys and allocates
// nothing.
func (s *Service) Find(appID string, now time.Time) *Token {
	return s.inUse(s.memory.find(appID), now)
}

// FindComponent is Find for the component_access_token.
func (s *Service) FindComponent(now time.Time) *Token {
	return s.inUse(s.memory.component.Load(), now)
}

// inUse notes that t is used, begins its renewal if that is due, and returns
// it, or nil if it cannot be sent any more.
func (s *Service) inUse(t *Token, now time.Time) *Token {
	if t == nil || !t.Usable(now) || t.checked.Load() != s.memory.epoch.Load() {
		return nil
	}
	s.markUsed(t)
	if t.due(now) {
		s.renewAhead(t, now)
	}
	s.metrics.Lookup(metrics.Kind(t.Kind()), metrics.FromMemory)
	return t
}

// Token returns a token that can be sent now: from memory, else from the
// store, else from WeChat, for which it waits at most WaitTimeout and no longer
// than ctx. Errors: ErrUnknown, ErrReauthorize, ErrWait, *Unavailable,
// ErrNoComponent.
func (s *Service) Token(ctx context.Context, key Key) (*Token, error) {
	if t := s.inUse(s.memory.get(key), time.Now()); t != nil {
		return t, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.Load().WaitTimeout)
	defer cancel()
	t, err := s.publish(ctx, key)
	if err != nil {
		t = s.held(key, err)
		err = s.storeError(err)
	}
	switch {
	case t != nil:
	case errors.Is(err, ErrUnknown) && key.Kind == Authorizer && s.lost.Load():
		return nil, recovering
	case err != nil:
		return nil, err
	}
	if t != nil {
		s.metrics.Lookup(metrics.Kind(key.Kind), metrics.FromStore)
		s.renewAhead(t, time.Now()) // if memory has no room for t, no plan will
		return s.markUsed(t), nil
	}
	t, err = s.await(ctx, key, 0, reasonMissing)
	if err != nil {
		return nil, err
	}
	s.metrics.Lookup(metrics.Kind(key.Kind), metrics.FromUpstream)
	return s.markUsed(t), nil
}

func (s *Service) markUsed(t *Token) *Token {
	if t.firstUse() {
		s.schedule.add(t)
	}
	return t
}

// Rejected says that WeChat refused t with errcode, and returns another token
// to try, which is the current one if t no longer is, else a new one if a
// refresh may be forced now. ErrDeclined means that the refusal should stand.
func (s *Service) Rejected(ctx context.Context, t *Token, errcode int) (*Token, error) {
	if current := s.memory.get(t.Key()); current != nil && current.Generation != t.Generation && current.Usable(time.Now()) {
		return s.markUsed(current), nil
	}
	fresh, err := s.await(ctx, t.Key(), t.Generation, reasonRejected)
	if errors.Is(err, ErrReauthorize) {
		s.dropRefused(ctx, t)
	}
	if err != nil {
		return nil, err
	}
	s.log.Debug("refused token replaced", "kind", t.Kind().String(), "app_id", t.AppID(), "errcode", errcode)
	return s.markUsed(fresh), nil
}

// Refresh obtains a new token at once, whatever state the present one is in and
// whatever failed before.
func (s *Service) Refresh(ctx context.Context, key Key) (*Token, error) {
	if err := s.mayWrite(); err != nil {
		return nil, err
	}
	stored, _, err := s.source(key.Kind).stored(ctx, key.AppID)
	if err != nil {
		return nil, s.storeError(err)
	}
	return s.await(ctx, key, stored.Generation, reasonManual)
}

// renewAhead begins one background renewal of t if that is due: none has been
// begun or has failed lately.
func (s *Service) renewAhead(t *Token, now time.Time) {
	renewAt := t.renewAt.Load()
	// For as long as one renewal may take, no other begins.
	busyUntil := now.Add(flightTimeout(s.config.Load())).UnixNano()
	if now.UnixNano() < renewAt || !t.renewAt.CompareAndSwap(renewAt, busyUntil) || !s.begin() {
		return
	}
	go func() {
		defer s.work.Done()
		_, err := s.await(s.base, t.Key(), t.Generation, reasonExpiring)
		if err == nil {
			return
		}
		// The present token serves on. Without the error's own word, ask again
		// when a part of what is left has passed.
		wait := max(time.Until(t.ExpiresAt())/8, firstBackoff)
		if u, ok := errors.AsType[*Unavailable](err); ok && u.RetryAfter > 0 {
			wait = u.RetryAfter
		}
		retryAt := time.Now().Add(wait)
		t.renewAt.Store(retryAt.UnixNano())
		if retryAt.Before(t.ExpiresAt()) {
			s.schedule.add(t)
		}
		s.log.Debug("token not renewed, the present one serves on", "kind", t.Kind().String(), "app_id", t.AppID(),
			"expires_at", t.ExpiresAt().UTC(), "error", err)
	}()
}
