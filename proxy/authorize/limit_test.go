package authorize

import (
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		for _, target := range []string{here, doneURL(authCode, "")} {
			ok, limited := 0, answer{}
			for range 3 * addressBurst {
				if a := s.visit(target, "remote", "192.0.2.1:1000"); a.Code == 200 {
					ok++
				} else {
					limited = a.is(http.StatusTooManyRequests, pageTooMany)
				}
			}
			if ok != addressBurst {
				t.Errorf("%d visits of one address at once", ok)
			}
			if limited.Header().Get("Retry-After") != "3" {
				t.Errorf("Retry-After %q", limited.Header().Get("Retry-After"))
			}
			if links := limited.links(); len(links) != 1 || links[0] != "" {
				t.Errorf("links %q", links)
			}
			s.visit(target, "remote", "192.0.2.2:1000").is(200, s.visit(target, "remote", "192.0.2.2:1001").page())
			time.Sleep(addressEvery)
			if a := s.visit(target, "remote", "192.0.2.1:1000"); a.Code != 200 {
				t.Errorf("%d after the wait", a.Code)
			}
		}
		// What costs nothing is not limited.
		for range 200 {
			s.visit(here, "Sec-Purpose", "prefetch").is(503, pageAskFirst)
			s.visit(doneURL("", "")).is(200, pageCancelled)
		}
		// In all, for whole minutes.
		time.Sleep(10 * time.Minute)
		ok := 0
		for i := range 600 {
			address := netip.AddrFrom4([4]byte{10, 1, byte(i / 200), byte(i % 200)})
			if s.visit(here, "remote", netip.AddrPortFrom(address, 1).String()).Code == 200 {
				ok++
			}
			time.Sleep(100 * time.Millisecond)
		}
		if ok < totalBurst+59 || ok > totalBurst+61 {
			t.Errorf("%d codes in a minute", ok)
		}
	})
}

func TestBoundedMemoryOfLimits(t *testing.T) {
	var a asking
	now := time.Unix(1e9, 0)
	for i := range 4 * maxAddresses {
		address := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		now = now.Add(totalEvery)
		if _, ok := a.allow(netip.PrefixFrom(address, 32), now); !ok {
			t.Fatal("refused")
		}
	}
	if len(a.addresses) > maxAddresses {
		t.Errorf("%d addresses", len(a.addresses))
	}
	clear(a.addresses)
	for i := range maxAddresses { // none has a full bucket
		a.addresses[netip.PrefixFrom(netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)}), 32)] = bucket{now, addressBurst}
	}
	if _, ok := a.allow(netip.MustParsePrefix("192.0.2.1/32"), now.Add(time.Millisecond)); !ok || len(a.addresses) > maxAddresses*3/4 {
		t.Errorf("%d addresses", len(a.addresses))
	}
}

func TestClientAddress(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		rule, remote, forwarded, want string
		trusted                       []netip.Prefix
	}{
		{"IPv4", "192.0.2.1:99", "", "192.0.2.1/32", nil},
		{"IPv6 is a network", "[2001:db8:1:2:3::4]:99", "", "2001:db8:1:2::/64", nil},
		{"mapped", "[::ffff:192.0.2.1]:99", "", "192.0.2.1/32", nil},
		{"nobody is trusted", "10.0.0.1:99", "192.0.2.9", "10.0.0.1/32", nil},
		{"a proxy is", "10.0.0.1:99", "192.0.2.9", "192.0.2.9/32", proxies},
		{"a stranger is not", "192.0.2.1:99", "198.51.100.1", "192.0.2.1/32", proxies},
		{"the last before the proxies", "10.0.0.1:99", "1.1.1.1, 192.0.2.9, 10.0.0.2", "192.0.2.9/32", proxies},
		{"all proxies", "10.0.0.1:99", "10.0.0.3, 10.0.0.2", "10.0.0.3/32", proxies},
		{"rubbish", "10.0.0.1:99", "unknown", "10.0.0.1/32", proxies},
		{"IPv6 behind a proxy", "[fd00::1]:99", "2001:db8::1", "2001:db8::/64", proxies},
		{"a socket", "@", "192.0.2.9", "invalid Prefix", proxies},
	} {
		r, _ := http.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.remote
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		if got := clientOf(r, c.trusted).String(); got != c.want {
			t.Errorf("%s: %s", c.rule, got)
		}
	}
}
