// Package metrics holds lingpai's Prometheus collectors, by name. It imports
// nothing of lingpai; only it imports client_golang.
//
// Labels come from small fixed sets: no app id, path or error text. Series
// whose labels are all fixed exist from the start, at 0.
package metrics

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Kind is the kind of a credential, the index of the fixed label kind.
type Kind uint8

// The kinds, in the order of their label values.
const (
	Component Kind = iota
	Authorizer
	Account
	Ticket
	kindCount
)

var kindLabels = [kindCount]string{"component", "authorizer", "account", "ticket"}

// String returns the label's value.
func (k Kind) String() string { return kindLabels[k] }

// Source is where a token was found.
type Source uint8

// The sources, in the order of their label values.
const (
	FromMemory Source = iota
	FromStore
	FromUpstream
	sourceCount
)

var sourceLabels = [sourceCount]string{"memory", "store", "upstream"}

// Token says which token a call was given: the label token.
type Token uint8

// The values of the label token.
const (
	TokenNone Token = iota
	TokenComponent
	TokenAuthorizer
	TokenAccount
	TokenUser
	tokenCount
)

var tokenLabels = [tokenCount]string{"none", "component", "authorizer", "account", "user"}

// Reasons and results, the values of the labels reason and result.
var (
	refreshReasons = []string{"missing", "expiring", "rejected", "event", "manual"}
	replayResults  = []string{"ok", "refused", "error", "declined", "body_not_kept"}
	storeOps       = []string{"component", "update_component", "account", "update_account", "authorizer",
		"update_authorizer", "delete_authorizer", "authorizers", "count_authorizers", "add_push", "pushes", "delete_push", "ping",
		"lease", "extend_lease", "release_lease", "note", "set_note", "identity", "want"}
	infoTypes = []string{"component_verify_ticket", "authorized", "updateauthorized", "unauthorized",
		"notify_third_fasteregister", "message", "other"}
	publishResults = []string{"written", "unchanged", "foreign", "deleted", "expired", "dropped", "error"}
	pushResults    = []string{"ok", "repeat", "superseded", "refused", "malformed", "error"}
)

// knownErrcodes are the errcodes that upstream_errcodes_total tells apart.
// https://developers.weixin.qq.com/doc/oplatform/Return_codes/Return_code_descriptions_new.html
var knownErrcodes = []int{
	-1, 40001, 40002, 40003, 40007, 40013, 40014, 40029, 40091, 40094, 40125, 40163, 40164, 40170, 40234, 40243,
	41001, 41002, 41004, 41018, 42001, 42002, 42006, 42007, 43001, 43002, 43003, 44002, 45009, 45011, 45015, 45035,
	45047, 47001, 48001, 48002, 48004, 48006, 48017, 50002, 61000, 61001, 61002, 61003, 61004, 61005, 61006, 61007,
	61008, 61009, 61010, 61011, 61012, 61013, 61014, 61015, 61016, 61017, 61018, 61019, 61020, 61021, 61022, 61023,
	61024, 61025, 61026, 61027, 61028, 61029, 61030, 86000, 87009,
}

// Metrics are the collectors. All methods are safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry

	requests       *prometheus.CounterVec
	requestSeries  [tokenCount][methodCount][600]atomic.Pointer[prometheus.Counter]
	requestSeconds [tokenCount]prometheus.Observer
	upstream       prometheus.Histogram
	errcodes       map[int]prometheus.Counter
	otherErrcode   prometheus.Counter
	replays        *prometheus.CounterVec
	inFlight       atomic.Int64

	lookups        [kindCount][sourceCount]prometheus.Counter
	refreshes      *prometheus.CounterVec
	refreshSeconds *prometheus.HistogramVec
	waiters        *prometheus.CounterVec
	foreign        *prometheus.CounterVec
	tokenExpiry    prometheus.Gauge
	ticketTime     prometheus.Gauge

	pushes       *prometheus.CounterVec
	cache        *prometheus.CounterVec
	leases       *prometheus.CounterVec
	published    *prometheus.CounterVec
	storeUp      prometheus.Gauge
	storeOps     *prometheus.CounterVec
	storeSeconds *prometheus.HistogramVec

	forwarding forwarding
}

// New registers every collector on a registry of its own.
func New(version, commit, goVersion string) *Metrics {
	r := prometheus.NewRegistry()
	m := &Metrics{registry: r, errcodes: make(map[int]prometheus.Counter, len(knownErrcodes))}
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registerRequests()
	m.registerTokens()
	m.registerStore()
	m.registerForwarding()
	build := gaugeVec(r, "build_info", "Always 1; the labels say what runs.", "version", "commit", "go_version")
	build.WithLabelValues(version, commit, goVersion).Set(1)
	return m
}

func (m *Metrics) registerRequests() {
	r := m.registry
	m.requests = counterVec(r, "requests_total", "Calls from apps, by the token they were given, method and HTTP status of the answer.", "token", "method", "status")
	seconds := histogramVec(r, "request_duration_seconds", "Time from a call's last header byte to its answer's first byte.", callBuckets, "token")
	for t := range tokenCount {
		m.requestSeconds[t] = seconds.WithLabelValues(tokenLabels[t])
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			m.requests.WithLabelValues(tokenLabels[t], method, "200")
		}
	}
	m.upstream = prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "lingpai", Name: "upstream_duration_seconds",
		Help: "Time from sending a call to WeChat to the first byte of its answer.", Buckets: callBuckets})
	r.MustRegister(m.upstream)
	errcodes := counterVec(r, "upstream_errcodes_total", "Error answers of WeChat to calls of apps, by errcode.", "errcode")
	for _, code := range knownErrcodes {
		m.errcodes[code] = errcodes.WithLabelValues(strconv.Itoa(code))
	}
	m.otherErrcode = errcodes.WithLabelValues("other")
	m.replays = counterVec(r, "replays_total", "Calls whose token WeChat refused, by what came of them.", "result")
	initSeries(m.replays, replayResults)
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "lingpai", Name: "in_flight_requests", Help: "Calls from apps under way."},
		func() float64 { return float64(m.inFlight.Load()) }))
	m.cache = counterVec(r, "response_cache_total", "Look-ups of cached answers.", "result")
	initSeries(m.cache, cacheResults)
}

func (m *Metrics) registerTokens() {
	r := m.registry
	lookups := counterVec(r, "token_lookups_total", "Tokens handed out, by where they were found.", "kind", "source")
	m.refreshes = counterVec(r, "token_refreshes_total", "Calls to WeChat's token endpoints.", "kind", "reason", "result")
	m.refreshSeconds = histogramVec(r, "token_refresh_duration_seconds", "Time of a refresh, storing it included.", callBuckets, "kind")
	m.waiters = counterVec(r, "token_flight_waiters_total", "Callers that waited for a refresh another caller had begun.", "kind")
	m.foreign = counterVec(r, "foreign_refreshes_total", "Tokens refused soon after they were obtained: somebody else refreshes them too.", "kind")
	for k := range kindCount {
		for s := range sourceCount {
			m.lookups[k][s] = lookups.WithLabelValues(kindLabels[k], sourceLabels[s])
		}
		m.refreshSeconds.WithLabelValues(kindLabels[k])
		m.waiters.WithLabelValues(kindLabels[k])
		m.foreign.WithLabelValues(kindLabels[k])
		initSeries(m.refreshes.MustCurryWith(prometheus.Labels{"kind": kindLabels[k]}), refreshReasons, okOrError)
	}
	m.tokenExpiry = gauge(r, "component_token_expiry_timestamp_seconds", "When the component_access_token expires, Unix time; 0 if there is none.")
	m.ticketTime = gauge(r, "verify_ticket_timestamp_seconds", "When the newest component_verify_ticket came, Unix time; 0 if there is none.")
	m.pushes = counterVec(r, "pushes_total", "Pushes of WeChat, by InfoType and what came of them.", "info_type", "result")
	initSeries(m.pushes, infoTypes, pushResults)
}

func (m *Metrics) registerStore() {
	r := m.registry
	m.storeUp = gauge(r, "store_up", "1 if the store answered last time, else 0.")
	m.storeOps = counterVec(r, "store_operations_total", "Operations on the store.", "op", "result")
	m.storeSeconds = histogramVec(r, "store_operation_duration_seconds", "Time of an operation on the store.", storeBuckets, "op")
	initSeries(m.storeOps, storeOps, okOrError)
	for _, op := range storeOps {
		m.storeSeconds.WithLabelValues(op)
	}
	m.leases = counterVec(r, "lease_total", "Leases asked for before a refresh, by outcome.", "result")
	initSeries(m.leases, leaseResults[:])
	m.published = counterVec(r, "published_tokens_total", "Tokens published for other services (coexistence), by what became of them.", "result")
	initSeries(m.published, publishResults)
}

// AuthorizerCounts makes the gauge authorizers{state} call count at each
// scrape. A state that count leaves out is not shown; a nil map shows none.
func (m *Metrics) AuthorizerCounts(count func() map[string]int) {
	m.registry.MustRegister(&stateCollector{
		desc:  prometheus.NewDesc("lingpai_authorizers", "Authorizers, by state.", []string{"state"}, nil),
		count: count,
	})
}

type stateCollector struct {
	desc  *prometheus.Desc
	count func() map[string]int
}

func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	for state, n := range c.count() {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(n), state)
	}
}

// Handler serves /metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 8})
}

// Gather returns the value of a series, for tests: of a counter or gauge its
// value, of a histogram its count. ok is false if there is no such series.
func (m *Metrics) Gather(name string, labels map[string]string) (value float64, ok bool) {
	families, err := m.registry.Gather()
	if err != nil {
		return 0, false
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, series := range family.GetMetric() {
			matched := 0
			for _, pair := range series.GetLabel() {
				if want, has := labels[pair.GetName()]; has && want == pair.GetValue() {
					matched++
				}
			}
			if matched < len(labels) {
				continue
			}
			ok = true
			switch {
			case series.Counter != nil:
				value += series.Counter.GetValue()
			case series.Gauge != nil:
				value += series.Gauge.GetValue()
			case series.Histogram != nil:
				value += float64(series.Histogram.GetSampleCount())
			}
		}
	}
	return value, ok
}

var (
	callBuckets  = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	storeBuckets = []float64{.00001, .0001, .00025, .0005, .001, .0025, .005, .01, .05, .25, 1, 5}
	okOrError    = []string{"ok", "error"}
)

// initSeries makes the series of every combination of label values.
func initSeries(vec *prometheus.CounterVec, values ...[]string) {
	combination := make([]string, len(values))
	var fill func(i int)
	fill = func(i int) {
		if i == len(values) {
			vec.WithLabelValues(combination...)
			return
		}
		for _, v := range values[i] {
			combination[i] = v
			fill(i + 1)
		}
	}
	fill(0)
}

func counterVec(r prometheus.Registerer, name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "lingpai", Name: name, Help: help}, labels)
	r.MustRegister(v)
	return v
}

func gauge(r prometheus.Registerer, name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "lingpai", Name: name, Help: help})
	r.MustRegister(g)
	return g
}

func gaugeVec(r prometheus.Registerer, name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "lingpai", Name: name, Help: help}, labels)
	r.MustRegister(v)
	return v
}

func histogramVec(r prometheus.Registerer, name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "lingpai", Name: name, Help: help, Buckets: buckets}, labels)
	r.MustRegister(v)
	return v
}

func result(err error) string {
	if err != nil {
		return "error"
	}
	return "ok"
}

// StoreOperation counts one operation of the store and whether it answered.
func (m *Metrics) StoreOperation(op string, took time.Duration, err error) {
	m.storeOps.WithLabelValues(op, result(err)).Inc()
	m.storeSeconds.WithLabelValues(op).Observe(took.Seconds())
	m.StoreUp(err == nil)
}

// StoreUp says whether the store answered.
func (m *Metrics) StoreUp(up bool) {
	value := 0.0
	if up {
		value = 1
	}
	m.storeUp.Set(value)
}
