package tokens

import (
	"sync"
	"time"

	"lingpai/tokens/store"
)

// retired remembers the last generations of authorizers that were deleted, so
// that those of one that is added again are not taken for them by calls and
// refreshes still under way.
type retired struct {
	mu          sync.Mutex
	generations map[string]uint64 // by app id
}

func (r *retired) note(a store.Authorizer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.generations[a.AppID] = max(r.generations[a.AppID], a.Token.Generation)
}

// next is the generation that follows an authorizer's present one.
func (s *Service) next(a store.Authorizer) uint64 {
	s.retired.mu.Lock()
	defer s.retired.mu.Unlock()
	return s.following(max(s.retired.generations[a.AppID], a.Token.Generation))
}

// following is the generation that follows another one. The first one of a record
// that many processes share is the time, in seconds: so it is greater than those
// that others of them remember of a record that was deleted or lost, as long as
// there is no more than one refresh a second.
func (s *Service) following(generation uint64) uint64 {
	if generation == 0 && s.shared != nil {
		return uint64(max(time.Now().Unix(), 1))
	}
	return generation + 1
}
