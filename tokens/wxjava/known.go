package wxjava

import (
	"hash/maphash"

	"lingpai/tokens/secret"
)

// maxKnown is for how many keys it is known what was published, in some 30 MB.
// Foreign values of further keys go unnoticed.
const maxKnown = 1 << 18

// known remembers what was published, as hashes: tokens lie around nowhere
// longer than they must, and hashes are smaller.
type known struct {
	max  int
	seed maphash.Seed
	keys map[key]published
}

// published are the last values of a key that were sent, the newest first. One
// that was sent and not confirmed may have been written, and one before the last
// may come back with the failover of a server.
type published struct {
	hashes    [4]uint32 // 0 is none
	confirmed bool
}

func newKnown(max int) known {
	return known{max: max, seed: maphash.MakeSeed(), keys: map[key]published{}}
}

func (k *known) hash(value secret.String) uint32 {
	return uint32(maphash.String(k.seed, value.Reveal())) | 1
}

// sending notes that value is about to be sent.
func (k *known) sending(of key, value secret.String) {
	p, ok := k.keys[of]
	if !ok && len(k.keys) >= k.max {
		for any := range k.keys {
			delete(k.keys, any)
			break
		}
	}
	if hash := k.hash(value); p.hashes[0] != hash {
		copy(p.hashes[1:], p.hashes[:])
		p.hashes[0] = hash
		k.keys[of] = p
	}
}

// confirm notes that a value sent for the key is there.
func (k *known) confirm(of key) {
	if p, ok := k.keys[of]; ok && !p.confirmed {
		p.confirmed = true
		k.keys[of] = p
	}
}

// foreign reports whether held, which the key held, comes from somebody else
// who wrote after us. What was there before our first value says nothing: it may
// be from the time before this process.
func (k *known) foreign(of key, held secret.String) bool {
	p := k.keys[of]
	if !p.confirmed {
		return false
	}
	hash := k.hash(held)
	for _, ours := range p.hashes {
		if ours == hash {
			return false
		}
	}
	return true
}

func (k *known) forget(of key) { delete(k.keys, of) }
