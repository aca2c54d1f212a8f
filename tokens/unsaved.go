package tokens

import (
	"sync"
	"time"

	"lingpai/tokens/secret"
)

// unsaved keeps answers of WeChat that could not be persisted.
type unsaved struct {
	mu   sync.Mutex
	keys map[Key]unsavedGrant
}

type unsavedGrant struct {
	generation uint64 // the one it was obtained to replace
	grant      grant
}

// grant is what a fetch brings.
type grant struct {
	token        secret.String
	expiresAt    time.Time
	refreshedAt  time.Time
	refreshToken secret.String // authorizers; empty: keep the one there is
}

func (u *unsaved) take(key Key, generation uint64) (grant, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	kept, ok := u.keys[key]
	delete(u.keys, key)
	return kept.grant, ok && kept.generation == generation
}

func (u *unsaved) put(key Key, generation uint64, g grant) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.keys[key] = unsavedGrant{generation, g}
}

// all returns the generations that the answers kept were obtained to replace.
func (u *unsaved) all() map[Key]uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := make(map[Key]uint64, len(u.keys))
	for key, kept := range u.keys {
		all[key] = kept.generation
	}
	return all
}
