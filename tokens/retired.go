package tokens

import (
	"sync"

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
func (r *retired) next(a store.Authorizer) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(r.generations[a.AppID], a.Token.Generation) + 1
}
