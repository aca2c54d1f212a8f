package admin

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
)

// asBrowser is a request with the fields that say where it comes from.
func asBrowser(method, host string, fields ...string) *http.Request {
	request := httptest.NewRequest(method, "/v1/component/refresh", nil)
	if method == http.MethodGet {
		request = httptest.NewRequest(method, "/v1/status", nil)
	}
	request.Host = host
	for i := 0; i < len(fields); i += 2 {
		request.Header.Set(fields[i], fields[i+1])
	}
	return request
}

func TestPagesOfOthersMayNotOperate(t *testing.T) {
	w := newWorld(t)
	const here = "127.0.0.1:9063"
	f := func(allowed bool, method string, fields ...string) {
		t.Helper()
		rec := w.do(w.api, asBrowser(method, here, fields...))
		if refused := rec.Code == http.StatusForbidden; refused == allowed {
			t.Errorf("%s %v: %d %s", method, fields, rec.Code, rec.Body)
		}
	}
	const site, origin = "Sec-Fetch-Site", "Origin"
	f(true, "POST") // curl
	f(true, "POST", "Content-Type", "application/x-www-form-urlencoded")
	f(true, "POST", site, "none")
	f(true, "POST", site, "same-origin", origin, "http://"+here) // the console
	f(true, "POST", origin, "http://"+here)                      // over plain HTTP to another machine
	f(false, "POST", site, "cross-site")
	f(false, "POST", site, "same-site") // another port of this machine
	f(false, "POST", site, "cross-site", origin, "http://"+here)
	f(false, "POST", site, "nonsense")
	f(false, "POST", origin, "https://evil.example")
	f(false, "POST", origin, "http://127.0.0.1:8080")
	f(false, "POST", origin, "null")
	f(false, "DELETE", site, "cross-site")
	f(false, "PUT", origin, "null")
	f(true, "GET", site, "cross-site") // a link to the console; nobody else reads the answer
	if n := w.sim.Count(tokenPath); n != 0 {
		t.Errorf("%d refreshes", n)
	}
}

// A page can make its own name resolve to 127.0.0.1 after it was loaded; to its
// browser lingpai is then of its own origin.
func TestRebinding(t *testing.T) {
	w := newWorld(t)
	f := func(want int, hosts ...string) {
		t.Helper()
		for _, host := range hosts {
			for _, fields := range [][]string{{}, {"Sec-Fetch-Site", "same-origin", "Origin", "http://" + host}} {
				if rec := w.do(w.api, asBrowser("GET", host, fields...)); rec.Code != want {
					t.Errorf("Host %q: %d, want %d", host, rec.Code, want)
				}
			}
		}
	}
	f(200, "127.0.0.1:9063", "127.0.0.1", "10.1.2.3:80", "[::1]:9063", "[::1]", "::1", "localhost", "LocalHost:9063", "localhost.:9063", "a.localhost:1",
		"lingpai:9063", "lingpai", "lingpai.example.com:9063", "lingpai.example.com", "LINGPAI.EXAMPLE.COM.:80", "")
	f(403, "evil.example", "evil.example:9063", "localhost.evil.example", "127.0.0.1.evil.example", "lingpai.example.com.evil.example",
		"127.0.0.1.nip.io:9063", "xlingpai.example.com", "1.2.3", "notlocalhost.example.")
}

// No browser reaches a Unix socket, and curl's Host is whatever was typed.
func TestAnyHostOnAUnixSocket(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "admin.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: w.api}
	go server.Serve(listener)
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	response, err := client.Get("http://what.ever/v1/status")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != 200 {
		t.Errorf("%d", response.StatusCode)
	}
}
