package admin

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// guard keeps web pages of strangers from operating the API through an
// operator's browser. The API asks for no password: whoever reaches it may use
// it, and a browser on the same machine reaches it for any page it shows.
//
//   - A page of another origin may not change anything: browsers say where a
//     request comes from, in Sec-Fetch-Site and Origin. What says nothing, such
//     as curl, is no browser.
//   - A page whose own name was made to resolve to this machine (DNS rebinding)
//     is of the same origin to its browser, and could even read. Its requests
//     carry its name in Host. So Host must be an address, a name that nobody can
//     register (localhost, or without a dot, as in a compose network), or one of
//     listen.names. A Unix socket is out of browsers' reach: any Host will do.
type guard struct {
	origins *http.CrossOriginProtection
	names   []string
}

func newGuard(names []string) guard {
	g := guard{origins: http.NewCrossOriginProtection()}
	for _, name := range names {
		g.names = append(g.names, hostOf(name))
	}
	return g
}

var (
	errOrigin = &problem{status: http.StatusForbidden, message: "pages of other origins may not operate lingpai: use curl, or a page of lingpai's own"}
	errHost   = &problem{status: http.StatusForbidden, message: "this host name could be a stranger's page: call lingpai by its address or localhost, or add the name to listen.names"}
)

// check returns why a request is refused, nil if it is not.
func (g guard) check(r *http.Request) *problem {
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && local.Network() == "unix" {
		return nil
	}
	if !g.ours(hostOf(r.Host)) {
		return errHost
	}
	if g.origins.Check(r) != nil {
		return errOrigin
	}
	return nil
}

// ours reports whether no stranger's page can have this host.
func (g guard) ours(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return !strings.Contains(host, ".") || strings.HasSuffix(host, ".localhost") || slices.Contains(g.names, host)
}

// hostOf is the host of a Host field, in the form that ours compares.
func hostOf(authority string) string {
	host := authority
	if name, _, err := net.SplitHostPort(authority); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
