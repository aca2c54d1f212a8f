package tokens

import (
	"errors"
	"sync"
	"time"

	"lingpai/tokens/wechat"
)

// Bounds of the back-off after failed refreshes.
const (
	firstBackoff = time.Second
	maxBackoff   = 5 * time.Minute
	// maxStoreBackoff bounds the back-off after a failure of the store, which
	// is ours: WeChat need not be spared.
	maxStoreBackoff = 5 * time.Second
	// maxNotAuthorized bounds the back-off after 61003, which may be temporary.
	maxNotAuthorized = time.Hour
	// releaseTestEvery lies between two refreshes that fail of an account of
	// WeChat's release test.
	releaseTestEvery = 24 * time.Hour
	// maxForcedInterval bounds the time between two refreshes that refusals force.
	maxForcedInterval = 10 * time.Minute
	// maxTroubles is how many keys are remembered before old ones are dropped.
	maxTroubles = 1 << 14
)

// beijing is where WeChat's day begins. Its offset is fixed.
var beijing = time.FixedZone("UTC+8", 8*3600)

// releaseTestAccounts are those that WeChat's release test (全网发布检测) authorizes.
// They stay in the list of authorizers when it is over, and fail for ever.
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/operation/thirdparty/releases_instructions.html
var releaseTestAccounts = map[string]bool{
	"wx570bc396a51b8ff8": true, "wxd101a85aa106f53e": true,
	"wx9252c5e0bb1836fc": true, "wxc39235c15087f6f3": true,
	"wx8e1097c5bc82cde9": true, "wx7720d01d4b2a4500": true,
	"wx14550af28c71a144": true, "wx05d483572dcd5d8b": true,
	"wxa35b9c23cfe664eb": true, "wx5910277cae6fd970": true,
}

// backoff is how long WeChat is not asked again after failures failures in a
// row, the last of which was err. jitter in [0, 1) takes up to half of it off.
func backoff(err error, failures int, now time.Time, jitter float64) time.Duration {
	limit := maxBackoff
	if e, ok := errors.AsType[*wechat.Error](err); ok {
		switch e.Class() {
		case wechat.ClassDailyQuota:
			y, m, d := now.In(beijing).Date()
			return time.Date(y, m, d+1, 0, 0, int(60*jitter), 0, beijing).Sub(now)
		case wechat.ClassMinuteQuota:
			return time.Minute + time.Duration(jitter*float64(10*time.Second))
		case wechat.ClassOperator:
			failures = 100 // only a person can mend it: no use in hurrying
		case wechat.ClassNotAuthorized:
			limit = maxNotAuthorized
		}
	} else if _, ok := errors.AsType[*wechat.TransportError](err); !ok {
		limit = maxStoreBackoff
	}
	d := limit
	if shift := failures - 1; shift < 12 {
		d = min(firstBackoff<<max(shift, 0), limit)
	}
	return d - time.Duration(jitter*float64(d)/2)
}

// classOf returns the class of WeChat's errcode in err, ClassOther if there is
// none.
func classOf(err error) wechat.Class {
	if e, ok := errors.AsType[*wechat.Error](err); ok {
		return e.Class()
	}
	return wechat.ClassOther
}

// trouble is what is remembered of a key whose refresh failed or was forced.
type trouble struct {
	failures int
	until    time.Time // WeChat is not asked before
	err      error     // of the last failure

	forcedAt         time.Time
	forcedInterval   time.Duration
	forcedGeneration uint64 // what the last forced refresh brought
	doubledFor       uint64 // generation that last doubled the interval
	foreign          uint64 // generation last counted as a foreign refresh
}

// mayForce decides whether the refusal of generation may force a refresh at
// now, and notes it if so. minimum is the configured interval; it doubles while
// the tokens that forced refreshes bring are refused as well, since some 40001
// are about the request, not the token. A token that served for
// maxForcedInterval before its first refusal was good: it begins anew.
func (t *trouble) mayForce(generation uint64, now time.Time, minimum time.Duration) bool {
	switch {
	case t.forcedGeneration == 0 || generation != t.forcedGeneration:
		t.forcedInterval = minimum
	case t.doubledFor != generation && now.Sub(t.forcedAt) > maxForcedInterval:
		t.forcedInterval, t.doubledFor = minimum, generation
	case t.doubledFor != generation: // once for each token, however many calls it refused
		t.forcedInterval = max(minimum, min(2*t.forcedInterval, maxForcedInterval))
		t.doubledFor = generation
	}
	if !t.forcedAt.IsZero() && now.Sub(t.forcedAt) < t.forcedInterval {
		return false
	}
	t.forcedAt = now
	return true
}

// wouldForce is mayForce without a note of it.
func (t trouble) wouldForce(generation uint64, now time.Time, minimum time.Duration) bool {
	return t.mayForce(generation, now, minimum)
}

// troubles remembers, per key, only what goes wrong. Safe for concurrent use;
// the path of a call with a known token never comes here.
type troubles struct {
	mu   sync.Mutex
	keys map[Key]*trouble
}

func newTroubles() *troubles { return &troubles{keys: map[Key]*trouble{}} }

// with calls fn with the key's entry, under the lock.
func (ts *troubles) with(key Key, fn func(*trouble)) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.keys[key]
	if t == nil {
		if len(ts.keys) >= maxTroubles {
			ts.dropOld(time.Now())
		}
		t = &trouble{}
		ts.keys[key] = t
	}
	fn(t)
}

func (ts *troubles) dropOld(now time.Time) {
	for key, t := range ts.keys {
		if now.After(t.until) && now.Sub(t.forcedAt) > maxForcedInterval {
			delete(ts.keys, key)
		}
	}
	for key := range ts.keys { // still full: any half
		if len(ts.keys) < maxTroubles/2 {
			return
		}
		delete(ts.keys, key)
	}
}

// blocked returns how long WeChat is not to be asked again for the key, and the
// last error; nil if it may be asked.
func (ts *troubles) blocked(key Key, now time.Time) (time.Duration, error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.keys[key]
	if t == nil || t.err == nil || !now.Before(t.until) {
		return 0, nil
	}
	return t.until.Sub(now), t.err
}

// wouldForce reports whether the refusal of generation may force a refresh of
// the key at now, and notes nothing.
func (ts *troubles) wouldForce(key Key, generation uint64, now time.Time, minimum time.Duration) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.keys[key]
	return t == nil || t.wouldForce(generation, now, minimum)
}

// failed notes a failure and returns how long WeChat is not asked again.
func (ts *troubles) failed(key Key, err error, now time.Time) (wait time.Duration) {
	ts.with(key, func(t *trouble) {
		t.failures++
		wait = backoff(err, t.failures, now, jitter())
		if releaseTestAccounts[key.AppID] && classOf(err) == wechat.ClassNotAuthorized {
			wait = releaseTestEvery
		}
		t.err, t.until = err, now.Add(wait)
	})
	return wait
}

// mended forgets the failures of a key: a refresh succeeded, or something came
// that may have mended the cause.
func (ts *troubles) mended(key Key) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t := ts.keys[key]; t != nil {
		ts.forget(key, t)
	}
}

// mendedTicket forgets a failure of the platform that was about its ticket: a
// new one has come. Quotas and secrets are not mended by it.
func (ts *troubles) mendedTicket(key Key) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t := ts.keys[key]; t != nil && classOf(t.err) == wechat.ClassTicket {
		ts.forget(key, t)
	}
}

// mendedComponent forgets which authorizers' refreshes failed because the
// component's token was refused: there is another one.
func (ts *troubles) mendedComponent() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for key, t := range ts.keys {
		if key.Kind == Authorizer && classOf(t.err) == wechat.ClassBadToken {
			ts.forget(key, t)
		}
	}
}

func (ts *troubles) forget(key Key, t *trouble) {
	t.failures, t.err, t.until = 0, nil, time.Time{}
	if t.forcedAt.IsZero() {
		delete(ts.keys, key)
	}
}

// clear forgets all failures: the configuration has changed.
func (ts *troubles) clear() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	clear(ts.keys)
}
