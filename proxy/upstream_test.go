package proxy

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestUpstreamTrouble(t *testing.T) {
	f := func(rule, url string, change func(*Config, *ServerConfig), wantStatus int, wantError string) {
		t.Helper()
		s := start(t, url, change)
		r := s.call(request("POST", "/x?secret=sesame", "body"))
		want := `{"errcode":` + itoa(990000+wantStatus) + `,"errmsg":"lingpai: `
		if r.status != wantStatus || !strings.HasPrefix(r.body, want) || r.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %q %s", rule, r.head, r.body)
		}
		if got := r.header.Get("Proxy-Status"); got != "lingpai; error="+wantError {
			t.Errorf("%s: Proxy-Status %q", rule, got)
		}
		if strings.Contains(r.body+s.log.String(), authorizerValue) || strings.Contains(r.body+s.log.String(), "sesame") {
			t.Errorf("%s: a secret is told: %s %s", rule, r.body, s.log)
		}
	}
	saying := func(text string) string {
		return newPeerWith(t, func(_ *peer, c net.Conn, _ received) bool {
			io.WriteString(c, text)
			return false
		}).url()
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	f("refused", "http://"+closed.Addr().String(), nil, 502, "connection_refused")
	f("no such name", "http://nowhere.invalid", nil, 502, "dns_error")
	f("cut before the header", saying(""), nil, 502, "http_response_incomplete")
	f("cut in the header", saying("HTTP/1.1 200 OK\r\nContent-"), nil, 502, "http_response_incomplete")
	f("garbage", saying("hello\r\n\r\n"), nil, 502, "http_protocol_error")
	f("a header without end", saying("HTTP/1.1 200 OK\r\nA: "+strings.Repeat("b", 20_000)), nil, 502, "http_protocol_error")
	f("two lengths", saying("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), nil, 502, "http_protocol_error")
	f("another protocol", saying("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"), nil, 502, "http_protocol_error")
	f("informational answers without end", saying(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 20)), nil, 502, "http_protocol_error")
	f("garbage for a chunk", saying("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"), nil, 502, "http_protocol_error")

	silent := newPeerWith(t, func(p *peer, c net.Conn, _ received) bool {
		io.Copy(io.Discard, c)
		return false
	})
	short := func(c *Config, _ *ServerConfig) { c.Upstream.Timeout = 100 * time.Millisecond }
	f("no answer", silent.url(), short, 504, "http_response_timeout")
	busy := start(t, silent.url(), func(c *Config, _ *ServerConfig) {
		c.Upstream.MaxConnections, c.Upstream.ConnectTimeout = 1, 100*time.Millisecond
	})
	busy.dial().send(get("/x"))
	eventually(t, "the only connection is in use", func() bool { return len(silent.requests()) >= 2 })
	if r := busy.call(get("/x")); r.status != 504 || r.header.Get("Proxy-Status") != "lingpai; error=connection_limit_reached" {
		t.Errorf("no free connection: %q", r.head)
	}

	plain, err := net.Listen("tcp", "127.0.0.1:0") // accepts, but never shakes hands
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	f("connection not made in time", "https://"+plain.Addr().String(), func(c *Config, _ *ServerConfig) {
		c.Upstream.ConnectTimeout = 100 * time.Millisecond
	}, 504, "connection_timeout")
	secured := securePeer(t, nil)
	f("certificate not trusted", "https://"+secured.Addr().String(), nil, 502, "tls_certificate_error")
	f("no TLS", "https://"+strings.TrimPrefix(saying("HTTP/1.1 400 Bad Request\r\n\r\n"), "http://"), func(c *Config, _ *ServerConfig) {
		c.Upstream.ConnectTimeout = 100 * time.Millisecond
	}, 504, "connection_timeout")
}

// roots holds the certificate of securePeer.
var roots = x509.NewCertPool()

func securePeer(t *testing.T, resumed *atomic.Int32) *peer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(crand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, _ := x509.ParseCertificate(der)
	roots.AddCert(certificate)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return servePeer(t, tls.NewListener(l, config), func(_ *peer, c net.Conn, r received) bool {
		if resumed != nil && c.(*tls.Conn).ConnectionState().DidResume {
			resumed.Add(1)
		}
		io.WriteString(c, okAnswer)
		return !strings.Contains(r.target(), "last")
	})
}

func TestTLS(t *testing.T) {
	var resumed atomic.Int32
	p := securePeer(t, &resumed)
	s := start(t, "https://"+p.Addr().String(), func(c *Config, _ *ServerConfig) { c.Upstream.Roots = roots })
	for range 3 {
		if r := s.call(get("/last")); r.status != 200 {
			t.Fatalf("status %d: %s %s", r.status, r.body, s.log)
		}
		eventually(t, "connection closed by the server", func() bool { return p.open() == 0 })
		time.Sleep(2 * idleBeforeLook)
	}
	if p.opened.Load() != 3 || resumed.Load() != 2 {
		t.Errorf("%d connections, %d resumed", p.opened.Load(), resumed.Load())
	}
	for range 3 {
		s.call(get("/x"))
	}
	if p.opened.Load() != 4 {
		t.Errorf("%d connections, though the last one could be used again", p.opened.Load())
	}
}

func TestStaleConnections(t *testing.T) {
	p := newPeerWith(t, func(_ *peer, c net.Conn, r received) bool {
		io.WriteString(c, okAnswer)
		return !strings.Contains(r.target(), "last")
	})
	s := start(t, p.url(), func(c *Config, _ *ServerConfig) { c.Upstream.IdleTimeout = time.Minute })
	for range 5 {
		if r := s.call(request("POST", "/last", "body")); r.status != 200 {
			t.Fatalf("a connection closed while idle: status %d", r.status)
		}
		eventually(t, "connection closed by the server", func() bool { return p.open() == 0 })
		time.Sleep(2 * idleBeforeLook)
	}
	if n := len(p.requests()); n != 5 {
		t.Errorf("%d requests arrived", n)
	}
	// Several at once, all of them stale at the next call.
	for range 3 {
		c := s.dial()
		c.send(get("/x"))
		c.receive("GET")
	}
	p.closeAll()
	eventually(t, "connections closed by the server", func() bool { return p.open() == 0 })
	time.Sleep(2 * idleBeforeLook)
	if r := s.call(request("POST", "/x", "body")); r.status != 200 {
		t.Errorf("status %d", r.status)
	}
}

// A server that closes behind each answer without a word costs at most one call
// that comes at once; then connections are looked at before each use.
func TestServerThatAlwaysCloses(t *testing.T) {
	p := newPeerWith(t, func(_ *peer, c net.Conn, _ received) bool {
		io.WriteString(c, okAnswer)
		return false
	})
	s := start(t, p.url(), nil)
	c := s.dial()
	failed := 0
	for range 20 {
		c.send(get("/x"))
		if r := c.receive("GET"); r.status != 200 {
			failed++
		}
		eventually(t, "connection closed by the server", func() bool { return p.open() == 0 })
	}
	if failed > 1 {
		t.Errorf("%d of 20 calls failed", failed)
	}
}

func TestEgressProxy(t *testing.T) {
	target := securePeer(t, nil)
	var wantUser string
	status := "200 Connection established"
	egress, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer egress.Close()
	go func() {
		for {
			c, err := egress.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				br := bufio.NewReader(c)
				r, err := http.ReadRequest(br)
				if err != nil || r.Method != "CONNECT" || r.Host != target.Addr().String() || r.Header.Get("Proxy-Authorization") != wantUser {
					io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
					return
				}
				onward, err := net.Dial("tcp", target.Addr().String())
				if err != nil {
					return
				}
				defer onward.Close()
				io.WriteString(c, "HTTP/1.1 "+status+"\r\nX: y\r\n\r\n")
				go io.Copy(onward, br)
				io.Copy(c, onward)
			}()
		}
	}()
	f := func(rule, egressURL, user string, want int) {
		t.Helper()
		wantUser = ""
		if user != "" {
			wantUser = "Basic " + base64.StdEncoding.EncodeToString([]byte(user))
		}
		s := start(t, "https://"+target.Addr().String(), func(c *Config, _ *ServerConfig) {
			c.Upstream.Roots, c.Upstream.EgressProxy = roots, egressURL
		})
		r := s.call(get("/x"))
		if r.status != want || strings.Contains(r.body+s.log.String(), "pass:word") || strings.Contains(r.body+s.log.String(), "pass%3Aword") {
			t.Errorf("%s: %d %s %s", rule, r.status, r.body, s.log)
		}
	}
	f("tunnel", "http://"+egress.Addr().String(), "", 200)
	f("with a user", "http://me:pass%3Aword@"+egress.Addr().String(), "me:pass:word", 200)
	f("with another user", "http://you:pass%3Aword@"+egress.Addr().String(), "me:pass:word", 502)
}
