package memory

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"lingpai/tokens/store"
)

// Group is a store.Shared in memory, for tests of what several processes do: each
// Peer is what one of them opens. Safe for concurrent use.
type Group struct {
	opts Options

	mu       sync.Mutex
	records  *Store
	leases   map[string]lease
	notes    map[string]note
	identity string
	watchers map[*watcher]bool
	owners   int
	down     bool
}

type lease struct {
	owner int
	until time.Time
}

type note struct {
	text  string
	until time.Time
}

// ErrDown is what every operation returns while a Group is down.
var ErrDown = errors.New("the store is down")

// errSame is of a write that has written nothing: others are not told.
var errSame = errors.New("nothing to write")

// NewGroup returns a Group without records.
func NewGroup(opts Options) *Group {
	g := &Group{opts: opts, watchers: map[*watcher]bool{}}
	g.Lose()
	return g
}

// Open returns another process's view of the store. Its Close closes that alone.
func (g *Group) Open() *Peer { return &Peer{group: g} }

// SetDown has every operation fail, or work again. Leases go on ending.
func (g *Group) SetDown(down bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.down
	g.down = down
	if was && !down {
		g.tellLost()
	}
}

// Lose takes away all records, leases and notes, and with them the identity. The
// Seqs of pushes go on growing, as they do in a Redis that was restarted empty.
func (g *Group) Lose() {
	g.mu.Lock()
	defer g.mu.Unlock()
	former := g.records
	g.records = Open(g.opts)
	if former != nil {
		g.records.pushes.lastSeq = former.pushes.lastSeq
		g.records.deliveries.lastSeq = former.deliveries.lastSeq
	}
	g.leases, g.notes = map[string]lease{}, map[string]note{}
	g.identity = rand.Text()
	if !g.down {
		g.tellLost()
	}
}

// tellLost is called with mu held.
func (g *Group) tellLost() {
	for w := range g.watchers {
		w.lose()
	}
}

// tell is called with mu held.
func (g *Group) tell(by *Peer, c store.Change) {
	for w := range g.watchers {
		if w.peer != by {
			w.put(c)
		}
	}
}

// Peer is one process's view of a Group.
type Peer struct {
	group  *Group
	mu     sync.Mutex
	closed bool
}

var (
	_ store.Shared = (*Peer)(nil)
	_ store.Lister = (*Peer)(nil)
)

// usable returns an error if p cannot be used now.
func (p *Peer) usable(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return fmt.Errorf("memory: %w", store.ErrClosed)
	case p.group.down:
		return fmt.Errorf("memory: %w", ErrDown)
	}
	return ctx.Err()
}

// read runs fn on the records of p's group.
func read[R any](ctx context.Context, p *Peer, fn func(*Store) (R, error)) (R, error) {
	p.group.mu.Lock()
	defer p.group.mu.Unlock()
	if err := p.usable(ctx); err != nil {
		var none R
		return none, err
	}
	return fn(p.group.records)
}

// write is read for what others are told of, unless fn returns errSame.
func write[R any](ctx context.Context, p *Peer, c store.Change, fn func(*Store) (R, error)) (R, error) {
	return read(ctx, p, func(s *Store) (R, error) {
		r, err := fn(s)
		switch err {
		case nil:
			p.group.tell(p, c)
		case errSame:
			err = nil
		}
		return r, err
	})
}

// Component implements store.Store.
func (p *Peer) Component(ctx context.Context, appID string) (store.Component, error) {
	return read(ctx, p, func(s *Store) (store.Component, error) { return s.Component(ctx, appID) })
}

// UpdateComponent implements store.Store.
func (p *Peer) UpdateComponent(ctx context.Context, appID string, fn func(*store.Component) error) (store.Component, error) {
	return write(ctx, p, store.Change{Kind: store.ChangedComponent, AppID: appID}, func(s *Store) (store.Component, error) {
		return s.UpdateComponent(ctx, appID, fn)
	})
}

// Account implements store.Store.
func (p *Peer) Account(ctx context.Context, appID string) (store.Account, error) {
	return read(ctx, p, func(s *Store) (store.Account, error) { return s.Account(ctx, appID) })
}

// UpdateAccount implements store.Store.
func (p *Peer) UpdateAccount(ctx context.Context, appID string, fn func(*store.Account) error) (store.Account, error) {
	return write(ctx, p, store.Change{Kind: store.ChangedAccount, AppID: appID}, func(s *Store) (store.Account, error) {
		return s.UpdateAccount(ctx, appID, fn)
	})
}

// Authorizer implements store.Store.
func (p *Peer) Authorizer(ctx context.Context, appID string) (store.Authorizer, error) {
	return read(ctx, p, func(s *Store) (store.Authorizer, error) { return s.Authorizer(ctx, appID) })
}

// UpdateAuthorizer implements store.Store.
func (p *Peer) UpdateAuthorizer(ctx context.Context, appID string, fn func(*store.Authorizer) error) (store.Authorizer, error) {
	return write(ctx, p, store.Change{Kind: store.ChangedAuthorizer, AppID: appID}, func(s *Store) (store.Authorizer, error) {
		return s.UpdateAuthorizer(ctx, appID, fn)
	})
}

// DeleteAuthorizer implements store.Store.
func (p *Peer) DeleteAuthorizer(ctx context.Context, appID string) error {
	_, err := write(ctx, p, store.Change{Kind: store.ChangedAuthorizer, AppID: appID}, func(s *Store) (struct{}, error) {
		return struct{}{}, s.DeleteAuthorizer(ctx, appID)
	})
	return err
}

// Authorizers implements store.Store.
func (p *Peer) Authorizers(ctx context.Context, after string, limit int) ([]store.Authorizer, error) {
	return read(ctx, p, func(s *Store) ([]store.Authorizer, error) { return s.Authorizers(ctx, after, limit) })
}

// CountAuthorizers implements store.Store.
func (p *Peer) CountAuthorizers(ctx context.Context) (store.Counts, error) {
	return read(ctx, p, func(s *Store) (store.Counts, error) { return s.CountAuthorizers(ctx) })
}

// AddPush implements store.Store.
func (p *Peer) AddPush(ctx context.Context, push store.Push) (stored store.Push, added bool, err error) {
	stored, err = write(ctx, p, store.Change{Kind: store.ChangedPushes}, func(s *Store) (store.Push, error) {
		stored, added, err = s.AddPush(ctx, push)
		if err == nil && !added {
			err = errSame
		}
		return stored, err
	})
	return stored, added, err
}

// Pushes implements store.Store.
func (p *Peer) Pushes(ctx context.Context, after uint64, limit int) ([]store.Push, error) {
	return read(ctx, p, func(s *Store) ([]store.Push, error) { return s.Pushes(ctx, after, limit) })
}

// DeletePush implements store.Store.
func (p *Peer) DeletePush(ctx context.Context, seq uint64) error {
	_, err := write(ctx, p, store.Change{Kind: store.ChangedPushes}, func(s *Store) (struct{}, error) {
		if _, ok := s.pushes.pending[seq]; !ok {
			return struct{}{}, errSame
		}
		return struct{}{}, s.DeletePush(ctx, seq)
	})
	return err
}

// ComponentIDs implements store.Lister.
func (p *Peer) ComponentIDs(ctx context.Context) ([]string, error) {
	return read(ctx, p, func(s *Store) ([]string, error) { return s.ComponentIDs(ctx) })
}

// AccountIDs implements store.Lister.
func (p *Peer) AccountIDs(ctx context.Context) ([]string, error) {
	return read(ctx, p, func(s *Store) ([]string, error) { return s.AccountIDs(ctx) })
}

// Ping implements store.Store.
func (p *Peer) Ping(ctx context.Context) error {
	_, err := read(ctx, p, func(s *Store) (struct{}, error) { return struct{}{}, s.Ping(ctx) })
	return err
}

// Close implements store.Store.
func (p *Peer) Close() error {
	p.mu.Lock()
	was := p.closed
	p.closed = true
	p.mu.Unlock()
	if was {
		return fmt.Errorf("memory: close: %w", store.ErrClosed)
	}
	p.group.mu.Lock()
	defer p.group.mu.Unlock()
	for w := range p.group.watchers {
		if w.peer == p {
			w.end()
		}
	}
	return nil
}

// Identity implements store.Shared.
func (p *Peer) Identity(ctx context.Context) (string, error) {
	return read(ctx, p, func(*Store) (string, error) { return p.group.identity, nil })
}

// Note implements store.Shared.
func (p *Peer) Note(ctx context.Context, name string) (string, error) {
	return read(ctx, p, func(*Store) (string, error) {
		n, ok := p.group.notes[name]
		if !ok || !time.Now().Before(n.until) {
			return "", fmt.Errorf("memory: note %q: %w", name, store.ErrNotFound)
		}
		return n.text, nil
	})
}

// SetNote implements store.Shared.
func (p *Peer) SetNote(ctx context.Context, name, text string, ttl time.Duration) error {
	_, err := read(ctx, p, func(*Store) (struct{}, error) {
		switch {
		case name == "" || text != "" && ttl <= 0:
			return struct{}{}, fmt.Errorf("memory: set note %q for %s: %w", name, ttl, store.ErrInvalid)
		case text == "":
			delete(p.group.notes, name)
		default:
			p.group.notes[name] = note{text, time.Now().Add(ttl)}
		}
		return struct{}{}, nil
	})
	return err
}

// Want implements store.Shared.
func (p *Peer) Want(ctx context.Context, text string) error {
	_, err := write(ctx, p, store.Change{Kind: store.ChangedWanted, AppID: text}, func(*Store) (struct{}, error) { return struct{}{}, nil })
	return err
}

// Lease implements store.Shared.
func (p *Peer) Lease(ctx context.Context, name string, ttl time.Duration) (store.Lease, error) {
	l, err := read(ctx, p, func(*Store) (*held, error) {
		g := p.group
		if name == "" || ttl <= 0 {
			return nil, fmt.Errorf("memory: lease %q for %s: %w", name, ttl, store.ErrInvalid)
		}
		if time.Now().Before(g.leases[name].until) {
			return nil, fmt.Errorf("memory: lease %q: %w", name, store.ErrLeased)
		}
		g.owners++
		g.leases[name] = lease{g.owners, time.Now().Add(ttl)}
		return &held{p, name, g.owners}, nil
	})
	if err != nil {
		return nil, err // and no nil *held
	}
	return l, nil
}

// held is a lease that was taken.
type held struct {
	peer  *Peer
	name  string
	owner int
}

// Extend implements store.Lease.
func (h *held) Extend(ctx context.Context, ttl time.Duration) error {
	_, err := read(ctx, h.peer, func(*Store) (struct{}, error) {
		g := h.peer.group
		if ttl <= 0 {
			return struct{}{}, fmt.Errorf("memory: extend %q by %s: %w", h.name, ttl, store.ErrInvalid)
		}
		if l := g.leases[h.name]; l.owner != h.owner || !time.Now().Before(l.until) {
			return struct{}{}, fmt.Errorf("memory: extend %q: %w", h.name, store.ErrLeased)
		}
		g.leases[h.name] = lease{h.owner, time.Now().Add(ttl)}
		return struct{}{}, nil
	})
	return err
}

// Release implements store.Lease.
func (h *held) Release(ctx context.Context) error {
	_, err := read(ctx, h.peer, func(*Store) (struct{}, error) {
		g := h.peer.group
		if g.leases[h.name].owner == h.owner {
			delete(g.leases, h.name)
		}
		return struct{}{}, nil
	})
	return err
}

// Watch implements store.Shared. It calls changed and lost one at a time, on the
// caller's goroutine and without a lock, so that they may call the store. While
// the Group is down it waits, as it does with nothing to tell.
func (p *Peer) Watch(ctx context.Context, changed func(store.Change), lost func()) error {
	w := &watcher{peer: p, ready: make(chan struct{}, 1), ended: make(chan struct{})}
	g := p.group
	g.mu.Lock()
	if err := p.usable(ctx); err != nil && !errors.Is(err, ErrDown) {
		g.mu.Unlock()
		return err
	}
	g.watchers[w] = true
	if !g.down { // else it is told when the group is up
		w.lose()
	}
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.watchers, w)
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.ended:
			return fmt.Errorf("memory: watch: %w", store.ErrClosed)
		case <-w.ready:
		}
		missed, changes := w.take()
		if missed {
			lost()
		}
		for _, c := range changes {
			if w.over(ctx) {
				break
			}
			changed(c)
		}
	}
}

// watcher holds what a Watch has not been told yet.
type watcher struct {
	peer  *Peer
	ready chan struct{}
	ended chan struct{}

	mu      sync.Mutex
	lost    bool
	pending []store.Change
	known   map[store.Change]bool
	once    sync.Once
}

func (w *watcher) end() { w.once.Do(func() { close(w.ended) }) }

// over reports whether Watch is to return.
func (w *watcher) over(ctx context.Context) bool {
	select {
	case <-w.ended:
		return true
	default:
		return ctx.Err() != nil
	}
}

func (w *watcher) put(c store.Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known[c] {
		return
	}
	if w.known == nil {
		w.known = map[store.Change]bool{}
	}
	w.known[c] = true
	w.pending = append(w.pending, c)
	w.wake()
}

// lose makes everything pending a loss.
func (w *watcher) lose() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost, w.pending, w.known = true, nil, nil
	w.wake()
}

func (w *watcher) wake() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

func (w *watcher) take() (lost bool, changes []store.Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	lost, changes = w.lost, w.pending
	w.lost, w.pending, w.known = false, nil, nil
	return lost, changes
}
