package config

import (
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// maxUnixPath is what the kernel takes as the path of a Unix socket.
const maxUnixPath = 107

// validateListen checks the addresses of the listeners, each and against each
// other, and the further names.
func (l *loader) validateListen(c *Config) {
	if c.Listen.Proxy == "" {
		l.fault("listen.proxy", `cannot be switched off: write host:port or unix:/path`)
	}
	listeners := []struct {
		key, address string
		unix         bool
	}{
		{"listen.proxy", c.Listen.Proxy, true},
		{"listen.callback", c.Listen.Callback, false},
		{"listen.metrics", c.Listen.Metrics, false},
		{"listen.admin", c.Listen.Admin, true},
	}
	for i, a := range listeners {
		if problem := addressProblem(a.address, a.unix); problem != "" {
			l.fault(a.key, "%s", problem)
		}
		for _, b := range listeners[:i] {
			if !l.broken[a.key] && !l.broken[b.key] && l.collide(a.address, b.address) {
				l.fault(a.key, "takes the same address as %s: write another port", b.key)
			}
		}
	}
	l.hostNames("listen.names", c.Listen.Names)
	for i, name := range c.Listen.Names {
		for _, host := range c.Upstream.Hosts {
			if normalName(name) == host.Name {
				l.fault(item("listen.names", i), "is in upstream.hosts too: a name is either lingpai's own or WeChat's")
			}
		}
	}
}

// addressProblem says what is wrong with the address of a listener.
func addressProblem(address string, unix bool) string {
	if address == "" {
		return ""
	}
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		switch {
		case !unix:
			return "cannot be a Unix socket: write host:port"
		case path == "":
			return "has no path: write unix:/path"
		case len(path) > maxUnixPath:
			return "is too long for a Unix socket: write a path of at most " + strconv.Itoa(maxUnixPath) + " bytes"
		}
		return ""
	}
	instead := "write host:port such as 127.0.0.1:9060"
	if unix {
		instead += ", or unix:/path"
	}
	host, port, err := net.SplitHostPort(address)
	switch {
	case err != nil:
		return show(address) + " is no address: " + instead
	case !validPort(port):
		return show(port) + " is no port: write a number from 0 to 65535"
	case host != "" && !validHost(host):
		return show(host) + " is neither an IP address nor a host name: " + instead
	}
	return ""
}

// collide reports whether two valid addresses cannot both be listened on. A
// port of 0 is a different one each time.
func (l *loader) collide(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	pathA, unixA := strings.CutPrefix(a, "unix:")
	pathB, unixB := strings.CutPrefix(b, "unix:")
	if unixA || unixB {
		return unixA && unixB && l.absolute(pathA) == l.absolute(pathB)
	}
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	numberA, _ := strconv.Atoi(portA)
	numberB, _ := strconv.Atoi(portB)
	return numberA == numberB && numberA != 0 &&
		(wildcard(hostA) || wildcard(hostB) || strings.EqualFold(hostA, hostB))
}

// wildcard reports whether host means all addresses.
func wildcard(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

// hostNames checks a list of names that calls may carry.
func (l *loader) hostNames(key string, names []string) {
	first := map[string]int{}
	for i, name := range names {
		at := item(key, i)
		if l.broken[at] {
			continue
		}
		if problem := nameProblem(name); problem != "" {
			l.fault(at, "%s", problem)
			continue
		}
		if earlier, taken := first[normalName(name)]; taken {
			l.fault(at, "is the same name as %s: remove one", item(key, earlier))
			continue
		}
		first[normalName(name)] = i
	}
}

// nameProblem says what is wrong with a host name, with or without port.
func nameProblem(name string) string {
	switch {
	case name == "":
		return "is empty: write a host name such as api.weixin.qq.com"
	case strings.Contains(name, "://"):
		return "has a scheme: write the host name alone, such as api.weixin.qq.com"
	case strings.ContainsAny(name, "/?#@ "):
		return "is more than a host name: write it alone, such as api.weixin.qq.com"
	case !validAuthority(name):
		return show(name) + " is no host name: write one such as api.weixin.qq.com, with :port if it is not 80"
	}
	return ""
}

// normalName is how names compare: without case and port 80.
func normalName(name string) string {
	return strings.TrimSuffix(strings.ToLower(name), ":80")
}

// validAuthority reports whether s is host or host:port, IPv6 in brackets.
func validAuthority(s string) bool {
	host := s
	if at := strings.LastIndexByte(s, ':'); at >= 0 && !strings.HasSuffix(s, "]") {
		host = s[:at]
		if port := s[at+1:]; !validPort(port) || port == "0" {
			return false
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, closed := strings.CutSuffix(inner, "]")
		ip, err := netip.ParseAddr(inner)
		return closed && err == nil && ip.Is6()
	}
	return hostPattern.MatchString(host)
}

// hostPattern are host names and IPv4 addresses.
var hostPattern = regexp.MustCompile(`^[0-9A-Za-z_]([0-9A-Za-z_-]*[0-9A-Za-z_])?(\.[0-9A-Za-z_]([0-9A-Za-z_-]*[0-9A-Za-z_])?)*$`)

// validHost reports whether s is an IP address without brackets or a host name.
func validHost(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil || hostPattern.MatchString(s)
}

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && strconv.FormatUint(n, 10) == s
}

// item is the key of an item of a list.
func item(key string, i int) string { return key + "[" + strconv.Itoa(i) + "]" }
