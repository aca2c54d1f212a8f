package memory

import (
	"context"
	"fmt"

	"lingpai/tokens/store"
)

// pushes is what is still to be worked on.
type pushes struct {
	pending map[uint64]store.Push
	digests map[string]uint64
	order   index[uint64]
	lastSeq uint64
}

func (p *pushes) init() {
	p.pending = make(map[uint64]store.Push)
	p.digests = make(map[string]uint64)
	p.order.live = func(seq uint64) bool {
		_, ok := p.pending[seq]
		return ok
	}
}

// AddPush implements store.Store.
func (s *Store) AddPush(ctx context.Context, p store.Push) (store.Push, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return store.Push{}, false, err
	}
	if seq, ok := s.pushes.digests[p.Digest]; ok {
		return s.pushes.pending[seq], false, nil
	}
	p.Seq = s.pushes.lastSeq + 1
	data, err := s.codec.EncodePush(p)
	if err == nil {
		p, err = s.codec.DecodePush(data)
	}
	if err != nil {
		return store.Push{}, false, fmt.Errorf("memory: add push: %w", err)
	}
	s.pushes.lastSeq = p.Seq
	s.pushes.pending[p.Seq] = p
	s.pushes.digests[p.Digest] = p.Seq
	s.pushes.order.add(p.Seq)
	return p, true, nil
}

// Pushes implements store.Store.
func (s *Store) Pushes(ctx context.Context, after uint64, limit int) ([]store.Push, error) {
	s.mu.Lock() // not RLock: page may put the order right
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	var page []store.Push
	for _, seq := range s.pushes.order.page(after, limit) {
		page = append(page, s.pushes.pending[seq])
	}
	return page, nil
}

// DeletePush implements store.Store.
func (s *Store) DeletePush(ctx context.Context, seq uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return err
	}
	if p, ok := s.pushes.pending[seq]; ok {
		delete(s.pushes.pending, seq)
		delete(s.pushes.digests, p.Digest)
		s.pushes.order.removed()
	}
	return nil
}
