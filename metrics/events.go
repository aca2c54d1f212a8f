package metrics

import (
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// method is an index of the HTTP methods that requests_total tells apart.
type method uint8

const (
	methodGet method = iota
	methodPost
	methodHead
	methodPut
	methodDelete
	methodOptions
	methodPatch
	methodOther
	methodCount
)

var methodLabels = [methodCount]string{"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "other"}

func methodOf(name []byte) method {
	switch string(name) {
	case "GET":
		return methodGet
	case "POST":
		return methodPost
	case "HEAD":
		return methodHead
	case "PUT":
		return methodPut
	case "DELETE":
		return methodDelete
	case "OPTIONS":
		return methodOptions
	case "PATCH":
		return methodPatch
	}
	return methodOther
}

// Request counts a call that was answered with status after took. It looks up
// no label and allocates nothing but at the first call of a series.
func (m *Metrics) Request(token Token, method []byte, status int, took time.Duration) {
	if status < 0 || status >= 600 {
		status = 599
	}
	slot := &m.requestSeries[token][methodOf(method)][status]
	counter := slot.Load()
	if counter == nil {
		c := m.requests.WithLabelValues(tokenLabels[token], methodLabels[methodOf(method)], strconv.Itoa(status))
		counter = &c
		slot.Store(counter)
	}
	(*counter).Inc()
	m.requestSeconds[token].Observe(took.Seconds())
}

// InFlight adds delta to the calls under way.
func (m *Metrics) InFlight(delta int) { m.inFlight.Add(int64(delta)) }

// Upstream counts one exchange with WeChat.
func (m *Metrics) Upstream(took time.Duration) { m.upstream.Observe(took.Seconds()) }

// Errcode counts an error answer of WeChat; 0 is none.
func (m *Metrics) Errcode(code int) {
	if code == 0 {
		return
	}
	if counter := m.errcodes[code]; counter != nil {
		counter.Inc()
		return
	}
	m.otherErrcode.Inc()
}

// Replay counts a call whose token was refused. result is ok, refused (the
// second token too), error (the second exchange failed), declined (no better
// token was to be had) or body_not_kept.
func (m *Metrics) Replay(result string) {
	m.replays.WithLabelValues(known(replayResults, result)).Inc()
}

// Lookup counts a token handed out. It allocates nothing.
func (m *Metrics) Lookup(kind Kind, source Source) { m.lookups[kind][source].Inc() }

// Refresh counts a call to a token endpoint. reason is missing, expiring,
// rejected, event or manual.
func (m *Metrics) Refresh(kind Kind, reason string, took time.Duration, err error) {
	m.refreshes.WithLabelValues(kind.String(), known(refreshReasons, reason), result(err)).Inc()
	m.refreshSeconds.WithLabelValues(kind.String()).Observe(took.Seconds())
}

// CacheResult is what a look for a kept answer came to.
type CacheResult uint8

// The results, in the order of their label values.
const (
	CacheHit CacheResult = iota
	CacheMiss
	CacheBypass
)

var cacheResults = []string{"hit", "miss", "bypass"}

// ResponseCache counts a look for a kept answer.
func (m *Metrics) ResponseCache(r CacheResult) { m.cache.WithLabelValues(cacheResults[r]).Inc() }

// LeaseResult is the label result of lease_total.
type LeaseResult uint8

// The outcomes of asking for a lease.
const (
	LeaseWon LeaseResult = iota
	LeaseLost
	LeaseError
)

var leaseResults = [...]string{"won", "lost", "error"}

// Lease counts a lease that was asked for before a refresh.
func (m *Metrics) Lease(r LeaseResult) { m.leases.WithLabelValues(leaseResults[r]).Inc() }

// Published counts a token that was published for other services.
func (m *Metrics) Published(result string) { m.published.WithLabelValues(result).Inc() }

// FlightWaiter counts a caller that joined another's refresh.
func (m *Metrics) FlightWaiter(kind Kind) { m.waiters.WithLabelValues(kind.String()).Inc() }

// ForeignRefresh counts a token refused soon after it was obtained.
func (m *Metrics) ForeignRefresh(kind Kind) { m.foreign.WithLabelValues(kind.String()).Inc() }

// ComponentToken says when the component_access_token expires; the zero time
// means that there is none.
func (m *Metrics) ComponentToken(expiresAt time.Time) { setTime(m.tokenExpiry, expiresAt) }

// VerifyTicket says when the newest component_verify_ticket came.
func (m *Metrics) VerifyTicket(receivedAt time.Time) { setTime(m.ticketTime, receivedAt) }

// Push counts a push. infoType may come from outside: unknown ones are other.
// result is ok, repeat, superseded (an older event than the last one applied),
// refused (signature, key or appid), malformed or error.
func (m *Metrics) Push(infoType, result string) {
	if !slices.Contains(infoTypes, infoType) {
		infoType = "other"
	}
	m.pushes.WithLabelValues(infoType, known(pushResults, result)).Inc()
}

func setTime(g prometheus.Gauge, t time.Time) {
	if t.IsZero() {
		g.Set(0)
		return
	}
	g.Set(float64(t.UnixMilli()) / 1000)
}

// known keeps a label inside of its fixed set; the last value stands for a
// mistake in this program.
func known(set []string, value string) string {
	if slices.Contains(set, value) {
		return value
	}
	return set[len(set)-1]
}
