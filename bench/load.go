package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// The load generator, on raw connections: requests are made beforehand, and of
// an answer only status and length are looked at.

type loadSpec struct {
	Address     string
	TLS         bool
	Root        string // file in PEM
	Direct      bool   // at the stub itself: with the token
	FixedToken  bool   // the proxy has one token: calls are about one account
	Apps        int
	Connections int
	Method      string
	Body, Size  int
	Rate        int
	Calls       int // this many and no more, over the app ids in turn
	Warmup      time.Duration
	Duration    time.Duration
	Watch       int // process whose tree is measured, 0 for none
}

type loadResult struct {
	Requests            int64
	Failed              int64
	Fault               string // the first one
	Elapsed             time.Duration
	CPU                 time.Duration // of the watched tree
	RSS                 int64         // of the watched tree at the end, in bytes
	P50, P90, P99, P999 time.Duration
	Max                 time.Duration
	Late                time.Duration // 99 % of an open loop's calls began at most this much late
}

// load is a load being made.
type load struct {
	spec     loadSpec
	tls      *tls.Config
	requests [][]byte
	next     atomic.Int64
	phase    atomic.Int32
	from     atomic.Int64   // when measuring began, Unix ns
	due      chan time.Time // of an open loop: when calls should begin

	mu      sync.Mutex
	latency histogram
	late    histogram
	result  loadResult
}

const (
	warming int32 = iota
	measuring
	finished
)

func loadPart(in io.Reader, out io.Writer) error {
	var spec loadSpec
	if err := json.NewDecoder(in).Decode(&spec); err != nil {
		return err
	}
	go func() {
		untilEnd(in)
		os.Exit(1)
	}()
	result, err := runLoad(spec)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}

func runLoad(spec loadSpec) (loadResult, error) {
	l := &load{spec: spec}
	if spec.TLS {
		roots, err := readRoots(spec.Root)
		if err != nil {
			return l.result, err
		}
		l.tls = &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}
	}
	w := workload{method: spec.Method, body: spec.Body, size: spec.Size}
	for i := range spec.Apps {
		l.requests = append(l.requests, w.request(spec.Address, appID(i), spec.FixedToken, spec.Direct))
	}
	var connected, done sync.WaitGroup
	faults := make(chan error, spec.Connections)
	begin := make(chan struct{})
	if spec.Rate > 0 {
		l.due = make(chan time.Time, spec.Rate*int(1+(spec.Warmup+spec.Duration)/time.Second))
	}
	for i := range spec.Connections {
		connected.Add(1)
		done.Go(func() {
			c, err := l.dial()
			if err != nil {
				faults <- err
			}
			connected.Done()
			if <-begin; err == nil {
				l.client(c, uint64(i))
			}
		})
	}
	connected.Wait()
	select {
	case err := <-faults:
		return l.result, err
	default:
	}
	close(begin)
	switch {
	case spec.Calls > 0:
		l.phase.Store(measuring)
		started := time.Now()
		done.Wait()
		l.result.Elapsed = time.Since(started)
	default:
		if l.due != nil {
			done.Go(l.schedule)
		}
		time.Sleep(spec.Warmup)
		l.watch()
		done.Wait()
	}
	l.result.Requests = int64(l.latency.total)
	for q, into := range map[float64]*time.Duration{0.5: &l.result.P50, 0.9: &l.result.P90, 0.99: &l.result.P99, 0.999: &l.result.P999} {
		*into = l.latency.quantile(q)
	}
	l.result.Max, l.result.Late = l.latency.max, l.late.quantile(0.99)
	return l.result, nil
}

// watch measures the watched processes while the load is on.
func (l *load) watch() {
	before, _ := treeUsage(l.spec.Watch)
	started := time.Now()
	l.from.Store(started.UnixNano())
	l.phase.Store(measuring)
	time.Sleep(l.spec.Duration)
	l.phase.Store(finished)
	elapsed := time.Since(started)
	after, _ := treeUsage(l.spec.Watch)
	l.result.Elapsed, l.result.CPU, l.result.RSS = elapsed, after.cpu-before.cpu, after.rss
}

// schedule tells when calls should begin.
func (l *load) schedule() {
	defer close(l.due)
	interval := time.Second / time.Duration(l.spec.Rate)
	for next := time.Now(); l.phase.Load() != finished; next = next.Add(interval) {
		sleepUntil(next)
		l.due <- next
	}
}

// client makes calls on one connection, one after another.
func (l *load) client(c *loadConn, seed uint64) {
	defer func() { c.Close() }()
	random := rand.New(rand.NewPCG(seed, 0x1f))
	var latency, late histogram
	for {
		began, ok := l.begin()
		if !ok {
			break
		}
		request := l.pick(random)
		if request == nil {
			break
		}
		if l.counts(began) && l.due != nil {
			late.add(time.Since(began))
		}
		err := c.call(request)
		ended := time.Now()
		if l.counts(began) {
			if err == nil {
				latency.add(ended.Sub(began))
			} else {
				l.failed(err)
			}
		}
		if err == nil {
			continue
		}
		c.Close()
		if c, err = l.dial(); err != nil {
			l.failed(err)
			c = &loadConn{}
			break
		}
	}
	l.mu.Lock()
	l.latency.merge(&latency)
	l.late.merge(&late)
	l.mu.Unlock()
}

// counts reports whether a call that began, or should have, and may have ended
// by now, is counted. Of a closed loop these are the answers that came while
// measuring. Of an open one they are the calls that were due then: one that is
// still waiting at the end is the last to be left out.
func (l *load) counts(began time.Time) bool {
	if l.due == nil {
		return l.phase.Load() == measuring
	}
	from := l.from.Load()
	return from > 0 && began.UnixNano() >= from
}

// begin says when a call should begin, and waits for that; false at the end.
func (l *load) begin() (time.Time, bool) {
	if l.due != nil {
		at, ok := <-l.due
		return at, ok
	}
	return time.Now(), l.phase.Load() != finished
}

// pick chooses the next request; nil if there is none.
func (l *load) pick(random *rand.Rand) []byte {
	if l.spec.Calls == 0 {
		return l.requests[random.IntN(len(l.requests))]
	}
	if i := int(l.next.Add(1)) - 1; i < l.spec.Calls {
		return l.requests[i%len(l.requests)]
	}
	return nil
}

func (l *load) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.result.Failed++
	if l.result.Fault == "" {
		l.result.Fault = err.Error()
	}
}

func (l *load) dial() (*loadConn, error) {
	conn, err := net.DialTimeout("tcp", l.spec.Address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(l.spec.Warmup + l.spec.Duration + 30*time.Second))
	if l.tls != nil {
		secured := tls.Client(conn, l.tls)
		if err := secured.Handshake(); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		conn = secured
	}
	return &loadConn{conn, bufio.NewReaderSize(conn, 32<<10)}, nil
}
