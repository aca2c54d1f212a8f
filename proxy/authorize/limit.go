package authorize

import (
	"maps"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"lingpai/tokens/wechat"
)

// How often one kind of call is made for visitors. A merchant needs one or two.
// Behind a reverse proxy that is not among Config.TrustedProxies all visitors have
// one address, and 20 a minute do for them too.
const (
	addressBurst = 20
	addressEvery = 3 * time.Second
	totalBurst   = 60
	totalEvery   = time.Second
	// maxAddresses bounds how many addresses are remembered: about 1 MiB.
	maxAddresses = 8192
)

// bucket is a token bucket that was last used at, when it lacked used tokens of
// its burst.
type bucket struct {
	at   time.Time
	used float64
}

// lacks returns how many tokens are lacking at now.
func (b bucket) lacks(every time.Duration, now time.Time) float64 {
	return max(b.used-float64(now.Sub(b.at))/float64(every), 0)
}

// asking is one kind of call to WeChat that visitors cause. The zero value is
// ready. Safe for concurrent use.
type asking struct {
	mu        sync.Mutex
	addresses map[netip.Prefix]bucket
	total     bucket
	paused    error // why WeChat is not asked before until
	until     time.Time
}

// allow takes leave for one call; else wait says when to come again.
func (a *asking) allow(address netip.Prefix, now time.Time) (wait time.Duration, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	used, total := a.addresses[address].lacks(addressEvery, now), a.total.lacks(totalEvery, now)
	wait = max(over(used+1-addressBurst, addressEvery), over(total+1-totalBurst, totalEvery))
	if wait > 0 {
		return wait, false
	}
	a.forget(now)
	if a.addresses == nil {
		a.addresses = map[netip.Prefix]bucket{}
	}
	a.addresses[address] = bucket{now, used + 1}
	a.total = bucket{now, total + 1}
	return 0, true
}

// over is how long it takes until tokens more are there.
func over(tokens float64, every time.Duration) time.Duration {
	if tokens <= 0 {
		return 0
	}
	return max(time.Duration(tokens*float64(every)), time.Millisecond)
}

// forget makes room: first of those whose bucket is full, then of any, which the
// limit of all makes harmless.
func (a *asking) forget(now time.Time) {
	if len(a.addresses) < maxAddresses {
		return
	}
	maps.DeleteFunc(a.addresses, func(_ netip.Prefix, b bucket) bool { return b.lacks(addressEvery, now) == 0 })
	for address := range a.addresses {
		if len(a.addresses) < maxAddresses*3/4 {
			break
		}
		delete(a.addresses, address)
	}
}

// pause says why WeChat is not to be asked now; nil if it is.
func (a *asking) pause(now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Before(a.until) {
		return a.paused
	}
	return nil
}

// failed has WeChat left alone for a while if an error asks for that.
func (a *asking) failed(err error, now time.Time) {
	wait := pauseAfter(err)
	if wait == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.paused, a.until = err, now.Add(wait)
}

// pauseAfter is how long the next call would fail in the same way.
func pauseAfter(err error) time.Duration {
	switch classOf(err) {
	case wechat.ClassMinuteQuota, wechat.ClassOperator:
		return time.Minute
	case wechat.ClassDailyQuota:
		return 10 * time.Minute
	}
	return 0
}

// clientOf is the address that a visitor's calls are counted for: an IPv6 network
// of 64 bits is one client's.
func clientOf(r *http.Request, trusted []netip.Prefix) netip.Prefix {
	remote, _ := netip.ParseAddrPort(r.RemoteAddr)
	client := remote.Addr().Unmap()
	forwarded := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(forwarded) - 1; i >= 0 && isTrusted(client, trusted); i-- {
		before, err := netip.ParseAddr(strings.TrimSpace(forwarded[i]))
		if err != nil {
			break
		}
		client = before.Unmap()
	}
	bits := 32
	if client.Is6() {
		bits = 64
	}
	network, _ := client.WithZone("").Prefix(bits) // the zero one for a socket
	return network
}

func isTrusted(address netip.Addr, trusted []netip.Prefix) bool {
	for _, network := range trusted {
		if network.Contains(address) {
			return true
		}
	}
	return false
}
