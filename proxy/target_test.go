package proxy

import (
	"bytes"
	"net"
	"testing"
)

func TestParseTarget(t *testing.T) {
	f := func(rule, uri, host, wantHost, wantPath, wantQuery string, wantHasQuery, wantHTTPS bool) {
		t.Helper()
		got, fault := parseTarget([]byte(uri), []byte(host))
		if fault != nil {
			t.Errorf("%s: %q is refused: %v", rule, uri, fault)
			return
		}
		if string(got.host) != wantHost || string(got.path) != wantPath || string(got.query) != wantQuery ||
			got.hasQuery != wantHasQuery || got.https != wantHTTPS {
			t.Errorf("%s: %q gives host %q path %q query %q (%t) https %t", rule, uri, got.host, got.path, got.query, got.hasQuery, got.https)
		}
	}
	f("origin form takes Host", "/a/b?c=d", "h", "h", "/a/b", "c=d", true, false)
	f("no query", "/a", "h", "h", "/a", "", false, false)
	f("? alone is a query", "/a?", "h", "h", "/a", "", true, false)
	f("only the first ? divides", "/a?b?c", "h", "h", "/a", "b?c", true, false)
	f("absolute form wins over Host", "http://api.weixin.qq.com/a", "other", "api.weixin.qq.com", "/a", "", false, false)
	f("absolute form with port", "http://x:80/a?b", "h", "x:80", "/a", "b", true, false)
	f("scheme without case", "HTTP://x/a", "h", "x", "/a", "", false, false)
	f("https", "https://x:443/a", "h", "x:443", "/a", "", false, true)
	f("absolute form without path", "http://x", "h", "x", "/", "", false, false)
	f("absolute form with query only", "http://x?a=b", "h", "x", "/", "a=b", true, false)
	f("a URL in the query is no absolute form", "/a?u=http://evil/", "h", "h", "/a", "u=http://evil/", true, false)
	f("two slashes are a path", "//evil/a", "h", "h", "//evil/a", "", false, false)
	f("spelling stays", "/%61/./b//c;x", "h", "h", "/%61/./b//c;x", "", false, false)

	refused := func(rule, uri string) {
		t.Helper()
		if _, fault := parseTarget([]byte(uri), []byte("h")); fault == nil || fault.status != 400 {
			t.Errorf("%s: %q gives %v, want 400", rule, uri, fault)
		}
	}
	refused("fragment", "/a#b")
	refused("fragment behind the query", "/a?b#c")
	refused("authority form", "api.weixin.qq.com:443")
	refused("asterisk form", "*")
	refused("empty", "")
	refused("another scheme", "ftp://x/a")
	refused("no host", "http:///a")
	refused("user information", "http://api.weixin.qq.com@evil/a")
}

func FuzzParseTarget(f *testing.F) {
	for _, seed := range []string{"/a?b", "http://x/a?b", "https://x:443", "http://x?y", "*", "//", "/a#", "http://a@b/", "hTTp://"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		got, fault := parseTarget([]byte(uri), []byte("host"))
		if fault != nil {
			return
		}
		if len(got.path) == 0 || got.path[0] != '/' || bytes.ContainsAny(got.path, "?#") || len(got.host) == 0 {
			t.Fatalf("%q gives host %q path %q", uri, got.host, got.path)
		}
		whole := string(got.path)
		if got.hasQuery {
			whole += "?" + string(got.query)
		}
		if !bytes.HasSuffix([]byte(uri), []byte(whole)) && whole[0] == '/' && !bytes.HasSuffix([]byte(uri), []byte(whole[1:])) {
			t.Fatalf("%q becomes %q", uri, whole)
		}
	})
}

func TestCutAppPrefix(t *testing.T) {
	f := func(rule, path, wantID, wantRest string) {
		t.Helper()
		id, rest := cutAppPrefix([]byte(path))
		if string(id) != wantID || string(rest) != wantRest {
			t.Errorf("%s: %q gives %q and %q", rule, path, id, rest)
		}
	}
	f("prefix", "/@wx1/cgi-bin/x", "wx1", "/cgi-bin/x")
	f("prefix alone", "/@wx1", "wx1", "/")
	f("prefix and slash", "/@wx1/", "wx1", "/")
	f("no prefix", "/cgi-bin/x", "", "/cgi-bin/x")
	f("@ further on", "/a/@wx1/x", "", "/a/@wx1/x")
	f("no app id", "/@/x", "", "/@/x")
	f("@ alone", "/@", "", "/@")
	f("root", "/", "", "/")
	f("only the first is taken", "/@wx1/@wx2/x", "wx1", "/@wx2/x")
}

func tcpAddr(t *testing.T, s string) *net.TCPAddr {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestNames(t *testing.T) {
	main, other := &upstream{}, &upstream{}
	named := func(listen net.Addr, further ...string) names {
		n := newNames(listen, further)
		n.main = main
		n.hosts["api.weixin.qq.com"] = main
		n.hosts["mp.weixin.qq.com"] = other
		return n
	}
	var n names
	local := net.Addr(tcpAddr(t, "127.0.0.1:9060"))
	f := func(rule, authority string, https bool, want *upstream) {
		t.Helper()
		var buf [64]byte
		if got := n.find([]byte(authority), https, local, buf[:0]); got != want {
			t.Errorf("%s: %q gives %p, want %p (main %p)", rule, authority, got, want, main)
		}
	}

	n = named(tcpAddr(t, "127.0.0.1:9060"), "lingpai", "Side.Car:8080")
	f("listening address", "127.0.0.1:9060", false, main)
	f("localhost with port", "localhost:9060", false, main)
	f("localhost without case", "LocalHost:9060", false, main)
	f("localhost with another port", "localhost:80", false, nil)
	f("localhost without port", "localhost", false, nil)
	f("no Host at all", "", false, main)
	f("further name", "lingpai", false, main)
	f("further name with the port", "LINGPAI:9060", false, main)
	f("further name with another port", "lingpai:9999", false, nil)
	f("further name that has a port", "side.car:8080", false, main)
	f("further name that has a port, without", "side.car", false, nil)
	f("hosts alias", "api.weixin.qq.com", false, main)
	f("hosts alias without case and port 80", "API.Weixin.QQ.com:80", false, main)
	f("hosts alias with another port", "api.weixin.qq.com:8080", false, nil)
	f("hosts alias on http with port 443", "api.weixin.qq.com:443", false, nil)
	f("https with port 443", "api.weixin.qq.com:443", true, main)
	f("https with port 80", "api.weixin.qq.com:80", true, nil)
	f("another upstream", "mp.weixin.qq.com", false, other)
	f("another host", "evil.example", false, nil)
	f("a suffix is another host", "xapi.weixin.qq.com", false, nil)
	f("a long name", "a.very.long.name.that.does.not.fit.into.the.scratch.space.of.a.call.example.com:80", false, nil)
	f("dot at the end", "api.weixin.qq.com.", false, nil)

	n = named(tcpAddr(t, "0.0.0.0:9060"))
	local = tcpAddr(t, "10.1.2.3:9060")
	f("listener on all addresses, its local address", "10.1.2.3:9060", false, main)
	f("listener on all addresses, another address", "10.1.2.4:9060", false, nil)
	f("listener on all addresses, another port", "10.1.2.3:9061", false, nil)
	f("listener on all addresses, localhost", "localhost:9060", false, main)

	n = named(&net.TCPAddr{IP: net.IPv6unspecified, Port: 9060})
	local = &net.TCPAddr{IP: net.ParseIP("10.1.2.3").To16(), Port: 9060}
	f("IPv4 client of a dual-stack listener", "10.1.2.3:9060", false, main)
	local = &net.TCPAddr{IP: net.ParseIP("fd00::1"), Port: 9060}
	f("IPv6 local address", "[fd00::1]:9060", false, main)
	f("IPv6 without case", "[FD00::1]:9060", false, main)

	n = named(tcpAddr(t, "127.0.0.1:80"))
	local = tcpAddr(t, "127.0.0.1:80")
	f("port 80 may be left out", "127.0.0.1", false, main)
	f("port 80 may be left out of localhost", "localhost", false, main)
	n = named(tcpAddr(t, "0.0.0.0:80"))
	local = tcpAddr(t, "10.1.2.3:80")
	f("port 80 may be left out of a local address", "10.1.2.3", false, main)

	n = named(&net.UnixAddr{Name: "/run/lingpai.sock", Net: "unix"}, "lingpai")
	local = &net.UnixAddr{Name: "/run/lingpai.sock", Net: "unix"}
	f("unix socket, localhost", "localhost", false, main)
	f("unix socket, further name", "lingpai", false, main)
	f("unix socket, hosts alias", "api.weixin.qq.com", false, main)
	f("unix socket, another host", "evil.example", false, nil)
}
