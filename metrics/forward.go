package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	deliveryResults  = []string{"delivered", "retried", "dead", "dropped"}
	deliveryStoreOps = []string{"add_deliveries", "delivery", "find_delivery", "deliveries", "dead_deliveries", "update_delivery",
		"delete_delivery", "count_deliveries"}
)

// forwarding are the collectors of pushes that are forwarded to apps. The label
// target has the names of the configuration, and other.
type forwarding struct {
	deliveries  *prometheus.CounterVec
	seconds     prometheus.Histogram
	pending     *prometheus.GaugeVec
	oldest      *prometheus.GaugeVec
	deadLetters *prometheus.GaugeVec // without labels, so that it can be absent
}

func (m *Metrics) registerForwarding() {
	r := m.registry
	m.forwarding = forwarding{
		deliveries: counterVec(r, "push_deliveries_total",
			"Deliveries of pushes to apps: delivered, retried (an attempt failed), dead (given up) or dropped (a dead letter was forgotten for want of room).",
			"target", "result"),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "lingpai", Name: "push_delivery_duration_seconds",
			Help: "Time of an attempt to deliver a push to an app.", Buckets: callBuckets}),
		pending: gaugeVec(r, "push_deliveries_pending", "Pushes that wait to be delivered; from the sidecar that delivers.", "target"),
		oldest: gaugeVec(r, "push_deliveries_oldest_timestamp_seconds",
			"When the oldest push that waits came, Unix time; 0 if none waits.", "target"),
		deadLetters: gaugeVec(r, "push_dead_letters", "Pushes that were given up and are kept; from the sidecar that delivers."),
	}
	r.MustRegister(m.forwarding.seconds)
	initSeries(m.storeOps, deliveryStoreOps, okOrError)
	for _, op := range deliveryStoreOps {
		m.storeSeconds.WithLabelValues(op)
	}
}

// PushTargets makes the series of these targets, at 0.
func (m *Metrics) PushTargets(names ...string) {
	for _, name := range names {
		initSeries(m.forwarding.deliveries.MustCurryWith(prometheus.Labels{"target": name}), deliveryResults)
	}
}

// PushDelivery counts a delivery. result is delivered, retried, dead or dropped.
func (m *Metrics) PushDelivery(target, result string) {
	m.forwarding.deliveries.WithLabelValues(target, known(deliveryResults, result)).Inc()
}

// PushDeliveryTook is of one attempt.
func (m *Metrics) PushDeliveryTook(took time.Duration) { m.forwarding.seconds.Observe(took.Seconds()) }

// PushDeliveriesPending says how many pushes wait for a target, and since when the
// oldest does; the zero time means that none does.
func (m *Metrics) PushDeliveriesPending(target string, n int, oldest time.Time) {
	m.forwarding.pending.WithLabelValues(target).Set(float64(n))
	setTime(m.forwarding.oldest.WithLabelValues(target), oldest)
}

// PushDeadLetters says how many dead letters are kept.
func (m *Metrics) PushDeadLetters(n int) {
	m.forwarding.deadLetters.WithLabelValues().Set(float64(n))
}

// PushDeliveriesUnknown takes back what waits and what is dead: another sidecar
// delivers.
func (m *Metrics) PushDeliveriesUnknown() {
	m.forwarding.pending.Reset()
	m.forwarding.oldest.Reset()
	m.forwarding.deadLetters.Reset()
}
