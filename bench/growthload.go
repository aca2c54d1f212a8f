package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What the load generator needs for many accounts and many connections.

// scatter maps numbers to numbers, each to another one, in no order (the end of
// splitmix64).
func scatter(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}

// growthApp returns the n-th authorizer's app id. These are in no order, as
// WeChat's are.
func growthApp(n int) string { return fmt.Sprintf("wx%016x", scatter(uint64(n))) }

// The orders in which a load of growth calls for its app ids.
const (
	atRandom = "random"
	inTurn   = "turn"
)

// many makes requests as they are sent: a million made beforehand would fill the
// processor's caches with what no proxy has to do with.
type many struct {
	template []byte
	places   []int // of the app id's digits in it
	apps     int
	calls    int // 0: without end
	order    string
	next     atomic.Int64
}

func newMany(spec loadSpec) *many {
	app := growthApp(0)
	m := &many{apps: spec.Apps, calls: spec.Calls, order: spec.Order}
	m.template = workload{method: spec.Method, body: spec.Body, size: spec.Size}.request(spec.Address, app, false, spec.Direct)
	for at := 0; ; {
		found := bytes.Index(m.template[at:], []byte(app))
		if found < 0 {
			return m
		}
		at += found + len("wx")
		m.places = append(m.places, at)
	}
}

// pick chooses the next request; nil if there is none.
func (m *many) pick(random *rand.Rand) []byte {
	switch {
	case m.calls == 0 && m.order == atRandom:
		return m.request(random.IntN(m.apps))
	default:
		i := int(m.next.Add(1)) - 1
		if m.calls > 0 && i >= m.calls {
			return nil
		}
		if m.order == atRandom {
			i = random.IntN(m.apps)
		}
		return m.request(i % m.apps)
	}
}

func (m *many) request(n int) []byte {
	request := slices.Clone(m.template)
	id := binary.BigEndian.AppendUint64(make([]byte, 0, 8), scatter(uint64(n)))
	for _, place := range m.places {
		hex.Encode(request[place:], id)
	}
	return request
}

// holdSpec asks for connections that make one call each and are then held open.
type holdSpec struct {
	Address     string
	Connections int
	Apps        int
}

type holdReady struct{ Held int }

// holders is how many connections are opened at a time.
const holders = 64

// holdPart opens connections and holds them until it is ended.
func holdPart(in io.Reader, out io.Writer) error {
	var spec holdSpec
	if err := json.NewDecoder(in).Decode(&spec); err != nil {
		return err
	}
	held, err := hold(spec)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(holdReady{len(held)}); err != nil {
		return err
	}
	err = untilEnd(in)
	for _, conn := range held {
		conn.Close()
	}
	return err
}

func hold(spec holdSpec) ([]net.Conn, error) {
	requests := newMany(loadSpec{Method: "GET", Address: spec.Address, Apps: spec.Apps, Order: inTurn})
	held := make([]net.Conn, spec.Connections)
	faults := make(chan error, holders)
	var left atomic.Int64
	var opening sync.WaitGroup
	for range holders {
		opening.Go(func() {
			for {
				i := int(left.Add(1)) - 1
				if i >= len(held) {
					return
				}
				conn, err := holdOne(spec.Address, requests.request(i%spec.Apps))
				if err != nil {
					faults <- fmt.Errorf("connection %d: %w", i, err)
					return
				}
				held[i] = conn
			}
		})
	}
	opening.Wait()
	select {
	case err := <-faults:
		return nil, err
	default:
		return held, nil
	}
}

func holdOne(address string, request []byte) (net.Conn, error) {
	l := load{spec: loadSpec{Address: address}}
	c, err := l.dial()
	if err != nil {
		return nil, err
	}
	if err := c.call(request); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c.Conn, c.SetDeadline(time.Time{})
}

// hold starts a process that holds connections to a proxy; nil for none.
func (g *growthRun) hold(ctx context.Context, address string, connections, apps int) (*child, error) {
	if connections == 0 {
		return nil, nil
	}
	var ready holdReady
	return part(ctx, "part-hold", g.others, holdSpec{address, connections, apps}, &ready)
}

// openOn returns how many connections are open that came in at an address of this
// machine.
func openOn(address string) int {
	_, port, _ := net.SplitHostPort(address)
	number, err := strconv.Atoi(port)
	if err != nil {
		return 0
	}
	const established = "01"
	text, _ := os.ReadFile("/proc/net/tcp")
	n, own := 0, fmt.Sprintf(":%04X", number)
	for line := range strings.Lines(string(text)) {
		// Number, local address, remote address, state.
		if fields := strings.Fields(line); len(fields) > 3 && fields[3] == established && strings.HasSuffix(fields[1], own) {
			n++
		}
	}
	return n
}
