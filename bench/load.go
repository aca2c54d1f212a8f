package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
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
	Watch       int           // process whose tree is measured, 0 for none
	Stub        string        // address at which the stub tells what it counts
	StubTLS     bool          // the upstream is the stub's HTTPS
	Bucket      time.Duration // of the timeline, 0 for none
	Slow        time.Duration // an answer that takes longer is counted as slow

	// Of growth: the app ids are those of growthApp.
	Order string // in which they are called for, else as the other fields say
	Seed  uint64 // of what is random
}

type loadResult struct {
	Requests            int64
	Failed              int64
	Refused             int64  // of the failed: the token was not good (any more)
	Slow                int64  // took longer than asked for, failed or not
	Fault               string // the first one
	Elapsed             time.Duration
	CPU                 time.Duration // of the watched tree
	System              float64       // share of the kernel in it
	RSS, PSS            int64         // of the watched tree at the end, in bytes, all connections open
	Opened              int64         // connections that the upstream accepted while measuring
	Own                 time.Duration // CPU of the load generator
	P50, P90, P99, P999 time.Duration
	Max                 time.Duration
	LateP50, Late       time.Duration // half and 99 % of an open loop's calls began at most this much late
	From                time.Time     // when measuring began
	Timeline            []moment      // by the time at which calls should have begun
}

// moment is what happened to the calls of one bucket of the timeline.
type moment struct {
	Worst  time.Duration `json:"w"` // the longest wait, for an answer or a failure
	Slow   int           `json:"s,omitempty"`
	Failed int           `json:"f,omitempty"`
}

// load is a load being made.
type load struct {
	spec     loadSpec
	tls      *tls.Config
	requests [][]byte
	many     *many // in the place of requests, if there is an order
	next     atomic.Int64
	phase    atomic.Int32
	from     atomic.Int64   // when measuring began, Unix ns
	until    atomic.Int64   // when it ends
	due      chan time.Time // of an open loop: when the next call should begin
	measured chan struct{}  // closed when the watched processes have been looked at

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
	if spec.Rate > 0 {
		// With one processor alone, a thread that sleeps in the kernel keeps it
		// from the others: answers lie unread until all connections wait for one.
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 2)
	}
	result, err := runLoad(spec)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}

func runLoad(spec loadSpec) (loadResult, error) {
	l := &load{spec: spec, measured: make(chan struct{})}
	if spec.TLS {
		roots, err := readRoots(spec.Root)
		if err != nil {
			return l.result, err
		}
		l.tls = &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}
	}
	w := workload{method: spec.Method, body: spec.Body, size: spec.Size}
	if spec.Order != "" {
		l.many, spec.Apps = newMany(spec), 0
	}
	for i := range spec.Apps {
		l.requests = append(l.requests, w.request(spec.Address, appID(i), spec.FixedToken, spec.Direct))
	}
	var connected, done sync.WaitGroup
	faults := make(chan error, spec.Connections)
	begin := make(chan struct{})
	if spec.Rate > 0 {
		l.due = make(chan time.Time, 1)
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
		close(l.measured)
		l.phase.Store(measuring)
		started := time.Now()
		done.Wait()
		l.result.Elapsed = time.Since(started)
	default:
		if l.due != nil {
			l.due <- time.Now()
		}
		l.watch()
		done.Wait()
	}
	l.result.Requests = int64(l.latency.total)
	for q, into := range map[float64]*time.Duration{0.5: &l.result.P50, 0.9: &l.result.P90, 0.99: &l.result.P99, 0.999: &l.result.P999} {
		*into = l.latency.quantile(q)
	}
	l.result.Max = max(l.result.Max, l.latency.max)
	l.result.LateP50, l.result.Late = l.late.quantile(0.5), l.late.quantile(0.99)
	return l.result, nil
}

// watch warms up and then measures the watched processes while the load is on.
func (l *load) watch() {
	count := l.stubConnections()
	count() // its own connection is open from now on
	time.Sleep(l.spec.Warmup)
	opened := count()
	pids, _ := processTree(l.spec.Watch)
	own := []int{os.Getpid()}
	ownBefore, before := cpuOf(own), cpuOf(pids)
	started := time.Now()
	l.until.Store(started.Add(l.spec.Duration).UnixNano())
	l.from.Store(started.UnixNano())
	l.phase.Store(measuring)
	time.Sleep(l.spec.Duration)
	after := cpuOf(pids)
	l.phase.Store(finished)
	l.result.From, l.result.Elapsed = started, time.Since(started)
	l.result.CPU, l.result.System = after.cpuSince(before)
	l.result.Own, _ = cpuOf(own).cpuSince(ownBefore)
	l.result.Opened = count() - opened
	l.result.RSS, l.result.PSS = memoryOf(pids)
	close(l.measured)
}

// stubConnections returns a function that asks the stub how many connections it
// has accepted, always on the same one.
func (l *load) stubConnections() func() int64 {
	if l.spec.Stub == "" {
		return func() int64 { return 0 }
	}
	client := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
	return func() int64 {
		counts, _ := countsOf(client, l.spec.Stub, false)
		if l.spec.StubTLS {
			return counts.TLS
		}
		return counts.Plain
	}
}

// client makes calls on one connection, one after another.
func (l *load) client(c *loadConn, seed uint64) {
	// Connections stay open until the memory that they take has been measured.
	defer func() { <-l.measured; c.Close() }()
	random := rand.New(rand.NewPCG(seed^l.spec.Seed, 0x1f))
	var latency, late histogram
	var line timeline
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
			took := ended.Sub(began)
			if err == nil {
				latency.add(took)
			} else {
				l.failed(err, took)
			}
			line.add(&l.spec, time.Duration(began.UnixNano()-l.from.Load()), took, err)
		}
		if err == nil {
			continue
		}
		c.Close()
		if c, err = l.dial(); err != nil {
			l.failed(err, 0)
			c = &loadConn{}
			break
		}
	}
	l.mu.Lock()
	l.latency.merge(&latency)
	l.late.merge(&late)
	l.result.Slow += line.slow
	l.result.Timeline = line.into(l.result.Timeline)
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

// begin says when a call should begin, and waits for that; false at the end. In
// an open loop one connection sleeps, hands the next call's time to another one
// when it wakes, and makes its call itself: so no call waits for a second
// thread to wake up.
func (l *load) begin() (time.Time, bool) {
	if l.due == nil {
		return time.Now(), l.phase.Load() != finished
	}
	at := <-l.due
	until := l.until.Load()
	if until > 0 && at.UnixNano() >= until {
		l.due <- at
		return at, false
	}
	sleepUntil(at)
	l.due <- at.Add(time.Second / time.Duration(l.spec.Rate))
	return at, true
}

// pick chooses the next request; nil if there is none.
func (l *load) pick(random *rand.Rand) []byte {
	if l.many != nil {
		return l.many.pick(random)
	}
	if l.spec.Calls == 0 {
		return l.requests[random.IntN(len(l.requests))]
	}
	if i := int(l.next.Add(1)) - 1; i < l.spec.Calls {
		return l.requests[i%len(l.requests)]
	}
	return nil
}

func (l *load) failed(err error, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.result.Failed++
	l.result.Max = max(l.result.Max, took)
	if errors.Is(err, errRefused) {
		l.result.Refused++
	}
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
	conn = turning(conn)
	if l.tls != nil {
		secured := tls.Client(conn, l.tls)
		if err := secured.Handshake(); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		conn = secured
	}
	return &loadConn{conn, bufio.NewReaderSize(conn, 32<<10)}, nil
}
