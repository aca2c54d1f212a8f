package proxy

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
)

// target is what a request line and the Host field ask for.
type target struct {
	host     []byte // authority, as given; empty if there is none
	https    bool   // absolute form with the scheme https
	path     []byte // with its spelling; never empty
	query    []byte // behind ?, without it
	hasQuery bool
}

// parseTarget takes a request-target apart: origin form (/path?query) with the
// Host field, or absolute form, which wins over Host.
func parseTarget(uri, host []byte) (target, *fault) {
	if bytes.IndexByte(uri, '#') >= 0 {
		return target{}, badRequest("the request target must not have a fragment (#)")
	}
	t := target{host: host, path: uri}
	if len(uri) == 0 || uri[0] != '/' {
		rest, isHTTP := cutPrefixFold(uri, "http://")
		if !isHTTP {
			rest, t.https = cutPrefixFold(uri, "https://")
		}
		if !isHTTP && !t.https {
			return target{}, badRequest("write the request target as /path or http://host/path; " +
				"CONNECT is not served: give the app an http:// URL, lingpai speaks HTTPS to WeChat")
		}
		end := bytes.IndexAny(rest, "/?")
		if end < 0 {
			end = len(rest)
		}
		t.host, t.path = rest[:end], rest[end:]
		if len(t.host) == 0 || bytes.IndexByte(t.host, '@') >= 0 {
			return target{}, badRequest("the request target has no host, or user information before it")
		}
	}
	if q := bytes.IndexByte(t.path, '?'); q >= 0 {
		t.path, t.query, t.hasQuery = t.path[:q], t.path[q+1:], true
	}
	if len(t.path) == 0 {
		t.path = slash
	}
	return t, nil
}

var slash = []byte("/")

func cutPrefixFold(b []byte, prefix string) (rest []byte, ok bool) {
	if len(b) < len(prefix) || !equalFold(b[:len(prefix)], prefix) {
		return b, false
	}
	return b[len(prefix):], true
}

// equalFold compares with a lower-case ASCII string, without case.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// cutAppPrefix takes the account off a path of the form /@wx…/cgi-bin/….
func cutAppPrefix(path []byte) (appID, rest []byte) {
	if len(path) < 3 || path[1] != '@' || path[2] == '/' {
		return nil, path
	}
	end := bytes.IndexByte(path[2:], '/')
	if end < 0 {
		return path[2:], slash
	}
	return path[2 : 2+end], path[2+end:]
}

// names says which hosts calls may name.
type names struct {
	// own are the authorities that mean lingpai itself, lower case.
	own map[string]bool
	// hosts are WeChat's names, lower case, without port 80.
	hosts map[string]*upstream
	// main serves calls that name lingpai itself.
	main *upstream
}

// newNames collects lingpai's own authorities: the listening address, localhost
// with its port, and the further names, with and without the port.
func newNames(listen net.Addr, further []string) names {
	n := names{own: map[string]bool{}, hosts: map[string]*upstream{}}
	tcp, ok := listen.(*net.TCPAddr)
	if !ok {
		n.own["localhost"] = true
		for _, name := range further {
			n.own[strings.ToLower(name)] = true
		}
		return n
	}
	port := tcp.AddrPort().String()
	port = port[strings.LastIndexByte(port, ':'):] // ":9060"
	add := func(host string) {
		n.own[host+port] = true
		if port == ":80" {
			n.own[host] = true
		}
	}
	add("localhost")
	add(strings.ToLower(strings.TrimSuffix(listen.String(), port)))
	for _, name := range further {
		name = strings.ToLower(name)
		n.own[name] = true
		if _, _, err := net.SplitHostPort(name); err != nil {
			n.own[name+port] = true
		}
	}
	return n
}

// find returns where a call to authority goes; nil if it is not allowed. local
// is the address the connection came in at: it is lingpai's own as well, for a
// listener on all addresses. buf is scratch space of at least 64 bytes.
func (n *names) find(authority []byte, https bool, local net.Addr, buf []byte) *upstream {
	if len(authority) == 0 {
		return n.main // HTTP/1.0 without Host
	}
	lower := appendLower(buf[:0], authority)
	if n.own[string(lower)] {
		return n.main
	}
	name := lower
	if https {
		name = bytes.TrimSuffix(name, []byte(":443"))
	} else {
		name = bytes.TrimSuffix(name, []byte(":80"))
	}
	if u := n.hosts[string(name)]; u != nil {
		return u
	}
	if isLocal(lower, local) {
		return n.main
	}
	return nil
}

// isLocal reports whether authority, in lower case, is the address that a
// connection came in at. Its port may be left out if that is 80.
func isLocal(authority []byte, local net.Addr) bool {
	tcp, ok := local.(*net.TCPAddr)
	if !ok {
		return false
	}
	address := tcp.AddrPort()
	// An IPv4 client of a listener on all addresses shows as ::ffff:….
	address = netip.AddrPortFrom(address.Addr().Unmap(), address.Port())
	var buf [64]byte
	text := address.AppendTo(buf[:0])
	return bytes.Equal(authority, text) || address.Port() == 80 && bytes.Equal(authority, bytes.TrimSuffix(text, []byte(":80")))
}

func appendLower(dst, b []byte) []byte {
	for _, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}
