package redis

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	f := func(url string, want target) {
		t.Helper()
		if want.network == "" {
			want.network = "tcp"
		}
		got, err := parseURL(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			return
		}
		if !reflect.DeepEqual(*got, want) {
			type plain target
			t.Errorf("%s: got %+v, want %+v", url, plain(*got), plain(want))
		}
	}
	f("redis://h", target{addrs: []string{"h:6379"}})
	f("redis://h:1/", target{addrs: []string{"h:1"}})
	f("redis://h:1/3", target{addrs: []string{"h:1"}, database: 3})
	f("redis://h?db=3", target{addrs: []string{"h:6379"}, database: 3})
	f("redis://:p@h", target{addrs: []string{"h:6379"}, password: "p"})
	f("redis://u:p@h", target{addrs: []string{"h:6379"}, user: "u", password: "p"})
	f("redis://u%3a:p%40%2f%3F+@h", target{addrs: []string{"h:6379"}, user: "u:", password: "p@/?+"})
	f("redis://u:p@q:r@h", target{addrs: []string{"h:6379"}, user: "u", password: "p@q:r"})
	f("redis://[::1]:1", target{addrs: []string{"[::1]:1"}})
	f("redis://[::1]", target{addrs: []string{"[::1]:6379"}})
	f("rediss://h?ca_file=/ca.pem&server_name=n", target{addrs: []string{"h:6379"}, tls: true, caFile: "/ca.pem", serverName: "n"})
	f("unix:///run/redis.sock", target{network: "unix", addrs: []string{"/run/redis.sock"}})
	f("unix://:p@/run/redis.sock?db=2", target{network: "unix", addrs: []string{"/run/redis.sock"}, password: "p", database: 2})
	three := []string{"a:26379", "b:1", "c:26379"}
	f("redis+sentinel://a,b:1,c/main", target{mode: sentinel, addrs: three, master: "main"})
	f("redis-sentinel://a,b:1,c/main/4", target{mode: sentinel, addrs: three, master: "main", database: 4})
	f("redis+sentinel://a?addr=b:1&addr=c&master=main", target{mode: sentinel, addrs: three, master: "main"})
	f("redis+sentinel://a,b:1,c/4?master_set=main", target{mode: sentinel, addrs: three, master: "main", database: 4})
	f("rediss+sentinel://u:p@h/m?sentinel_user=su&sentinel_password=sp", target{
		mode: sentinel, tls: true, addrs: []string{"h:26379"}, master: "m", user: "u", password: "p", sentinelUser: "su", sentinelPassword: "sp",
	})
	f("redis+cluster://a,b:1", target{mode: cluster, addrs: []string{"a:6379", "b:1"}})
	f("rediss-cluster://a?addr=b:1", target{mode: cluster, tls: true, addrs: []string{"a:6379", "b:1"}})
}

func TestParseURLRefuses(t *testing.T) {
	f := func(url, want string) {
		t.Helper()
		_, err := parseURL(url)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "pa55") {
			t.Errorf("%s: got %v, want %s", url, err, want)
		}
	}
	f("", "scheme")
	f("h:6379", "scheme")
	f("http://h", "scheme")
	f("redisx://h", "scheme")
	f("redis+sentinels://h/m", "scheme")
	f("redis://", "no host")
	f("redis:///3", "no host")
	f("redis://u:pa55@", "no host")
	f("redis://pa55@h", "without password")
	f("redis://u:@h", "empty")
	f("redis://u:pa55%zz@h", "%25")
	f("redis://u:pa55/word@h", "port")
	f("redis://:pa55#x@h:x", "port")
	f("redis://h:0", "port")
	f("redis://h:65536", "port")
	f("redis://a b", "%40")
	f("redis://::1", "%40")
	f("redis://h/pa55", "database")
	f("redis://h/1/2", "database")
	f("redis://h?pa55=x", "query")
	f("redis://h?%zz", "query")
	f("redis://a,b", "several hosts")
	f("redis://a?addr=b:1", "several hosts")
	f("redis://a?master=m", "redis+sentinel")
	f("redis+sentinel://a", "master")
	f("redis+cluster://a/1", "databases")
	f("redis://a?ca_file=x", "rediss")
	f("unix://relative", "absolute")
}

func TestTargetPrintsNoPassword(t *testing.T) {
	got, err := parseURL("redis+sentinel://user:pa55w0rd@h/m?sentinel_password=pa55w0rd2")
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if out := fmt.Sprintf(verb, got); out != "h:26379" {
			t.Errorf("%s prints %s", verb, out)
		}
	}
	if out := got.mask("a pa55w0rd b"); out != "a [redacted] b" {
		t.Error(out)
	}
}

func TestKeyPrefix(t *testing.T) {
	f := func(prefix, want string) {
		t.Helper()
		got, err := tagged(prefix)
		if err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", prefix, got, err, want)
		}
	}
	f("lingpai:", "lingpai:{lingpai}:")
	f("", "{lingpai}:")
	f(":", ":{lingpai}:")
	f("a:b:", "a:b:{a:b}:")
	f("a{b}c", "a{b}c")
	for _, prefix := range []string{"{", "}", "{}", "a{b", "a}b{"} {
		if got, err := tagged(prefix); err == nil {
			t.Errorf("%q became %q", prefix, got)
		}
	}
	k, err := newKeys("lingpai:")
	if err != nil {
		t.Fatal(err)
	}
	all := []string{k.schema, k.encryption, k.alive, k.changes, k.index("authorizer"), k.counts, k.pushes, k.pushOrder, k.pushDigests, k.lastPush, k.lease("l"), k.record("authorizer", "wx1")}
	slices.Sort(all)
	if n := len(slices.Compact(all)); n != 12 {
		t.Errorf("only %d different keys", n)
	}
}

func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{
		"redis://u:p@h:1/2?db=3", "rediss+sentinel://:p@a,b:1/m/2?addr=c", "redis-cluster://[::1]:7,b", "unix:///s?db=1", "redis://u:p%40@h?ca_file=x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, url string) {
		got, err := parseURL(url)
		if err != nil {
			return
		}
		if len(got.addrs) == 0 {
			t.Errorf("%q has no address", url)
		}
		for _, addr := range got.addrs {
			if addr == "" || got.network == "tcp" && strings.Contains(addr, "@") {
				t.Errorf("%q has the address %q", url, addr)
			}
		}
	})
}
