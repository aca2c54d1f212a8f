package wxjava

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store/redis/redistest"
)

// The keys are those of AbstractWxOpenInRedisConfigStorage, the values what its
// GET reads, the time to live what it sets: SETEX with expires_in less 200. It
// takes a TTL below 2 for an expired token.
func TestLayoutIsWxJavas(t *testing.T) {
	srv := redistest.Start(t)
	f := running(t, srv.URL())
	began := time.Now()
	const expiresIn = 7200
	expiresAt := began.Add(expiresIn * time.Second)
	f.Publish(Component, platform, secret.New("component-token"), expiresAt)
	f.Publish(Authorizer, merchant, secret.New("89_merchant-token_x"), expiresAt)
	// None of these has a key in the layout.
	f.Publish("account", "wxdddd0001", secret.New("account-token"), expiresAt)
	f.Publish(Component, "wxcccc0002", secret.New("other-platform"), expiresAt)
	f.Publish(Authorizer, "", secret.New("nobody"), expiresAt)
	f.Remove("account", "wxdddd0001")
	eventually(t, "both are written", func() bool { return f.count(ResultWritten) == 2 })

	for key, want := range map[string]string{componentKey: "component-token", merchantKey: "89_merchant-token_x"} {
		if got := get(t, srv, key); got != want {
			t.Errorf("%s holds %q", key, got)
		}
		if got := srv.Must("TYPE " + key); got != "+string\r\n" {
			t.Errorf("%s is %q", key, got)
		}
		ttl := time.Duration(number(t, srv, "PTTL "+key)) * time.Millisecond
		most := (expiresIn - 200) * time.Second
		// Both times are rounded down to milliseconds, on two clocks.
		if least := most - time.Since(began) - 5*time.Millisecond; ttl > most || ttl < least {
			t.Errorf("%s lives for %s, want %s to %s", key, ttl, least, most)
		}
	}
	if n := number(t, srv, "DBSIZE"); n != 2 {
		t.Errorf("%d keys: %s", n, srv.Must("KEYS *"))
	}
}

func TestKeyPrefix(t *testing.T) {
	f := func(configured, want string) {
		t.Helper()
		p := newFixture(t, "redis://localhost", func(o *Options) { o.KeyPrefix = configured })
		if got := p.name(key{Authorizer, "wx1"}); got != want+"wechat_authorizer_access_token:"+platform+":wx1" {
			t.Errorf("%q: %s", configured, got)
		}
		if got := p.name(key{Component, platform}); got != want+"wechat_component_access_token:"+platform {
			t.Errorf("%q: %s", configured, got)
		}
	}
	f("", "")
	f("wx:open", "wx:open:")
	f("wx:open:", "wx:open:")
	f("{shop}", "{shop}:")
}

func TestNewRefusesWhatCannotBeRight(t *testing.T) {
	f := func(change func(*Options), want string) {
		t.Helper()
		opts := Options{URL: secret.New("redis://user:pa55w0rd@localhost"), KeyPrefix: "wx:open", Component: platform}
		change(&opts)
		_, err := New(opts)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "pa55") {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	url := func(url string) func(*Options) { return func(o *Options) { o.URL = secret.New(url) } }
	f(url(""), "url: it has no scheme")
	f(url("http://:pa55w0rd@localhost"), "url: its scheme is none of redis")
	f(url("redis://:pa55w0rd@localhost:x"), "url: a port in it is no number")
	f(url("rediss://:pa55w0rd@localhost?ca_file=/nowhere/ca.pem"), "ca_file")
	prefix := func(prefix string) func(*Options) { return func(o *Options) { o.KeyPrefix = prefix } }
	f(prefix("wx open"), "key prefix: it holds a space")
	f(prefix("wx:open\n"), "key prefix: it holds a space")
	f(prefix("\xff"), "key prefix: it holds a space or a character")
	f(prefix("wx:open:wechat_component_access_token:wx1"), "key prefix: it is a whole key")
	f(func(o *Options) { o.Component = "" }, "no app id of a platform")
}

// A value is in Redis only as long as it is good, with WxJava's own margin.
func TestWhatEndsIsDeleted(t *testing.T) {
	srv := redistest.Start(t)
	f := running(t, srv.URL())
	deleted := 0
	ends := func(name string, value string, expiresAt time.Time) {
		t.Helper()
		f.publish(t, Authorizer, merchant, "good")
		f.Publish(Authorizer, merchant, secret.New(value), expiresAt)
		deleted++
		eventually(t, name, func() bool { return f.count(ResultDeleted) == deleted })
		if n := number(t, srv, "EXISTS "+merchantKey); n != 0 {
			t.Errorf("%s: the key is there", name)
		}
	}
	ends("within the margin", "good", time.Now().Add(margin))
	ends("expired", "good", time.Now().Add(-time.Hour))
	ends("no time", "good", time.Time{})
	ends("no value", "", inTwoHours())
	// A moment longer than the margin is published for that moment.
	srv.Must("CONFIG RESETSTAT")
	f.Publish(Authorizer, merchant, secret.New("short"), time.Now().Add(margin+500*time.Millisecond))
	eventually(t, "it was written", func() bool { return strings.Contains(srv.Must("INFO commandstats"), "cmdstat_set:calls=1") })
	eventually(t, "it is gone", func() bool { return number(t, srv, "EXISTS "+merchantKey) == 0 })
}

func TestRemove(t *testing.T) {
	srv := redistest.Start(t)
	f := running(t, srv.URL())
	f.publish(t, Authorizer, merchant, "v1")
	f.publish(t, Authorizer, "wxaaaa0002", "other")
	f.Remove(Authorizer, merchant)
	eventually(t, "the key is gone", func() bool { return number(t, srv, "EXISTS "+merchantKey) == 0 })
	if got := get(t, srv, strings.Replace(merchantKey, merchant, "wxaaaa0002", 1)); got != "other" {
		t.Errorf("the other account's is %q", got)
	}
	eventually(t, "it is told", func() bool { return f.count(ResultDeleted) == 1 })
	// What comes after the end of an authorization begins anew.
	srv.Must("SET " + merchantKey + " theirs")
	f.publish(t, Authorizer, merchant, "v2")
	if got := get(t, srv, merchantKey); got != "v2" {
		t.Errorf("got %q", got)
	}
	if told := f.foreigners(); len(told) != 0 {
		t.Errorf("told of %q", told)
	}
}

func TestSweepWritesNothingButRestores(t *testing.T) {
	srv := redistest.Start(t)
	f := running(t, srv.URL())
	expiresAt := inTwoHours()
	again := func() {
		t.Helper()
		before := f.settled()
		f.Publish(Authorizer, merchant, secret.New("v1"), expiresAt)
		eventually(t, "it is worked on", func() bool { return f.settled() > before })
		if got := get(t, srv, merchantKey); got != "v1" {
			t.Errorf("got %q", got)
		}
		if ttl := number(t, srv, "TTL "+merchantKey); ttl < 6990 || ttl > 7000 {
			t.Errorf("lives for %d s", ttl)
		}
	}
	again()
	srv.Must("CONFIG RESETSTAT")
	again()
	if stats := srv.Must("INFO commandstats"); strings.Contains(stats, "cmdstat_set:") {
		t.Errorf("what was there was written again:\n%s", stats)
	}
	if f.count(ResultUnchanged) != 1 {
		t.Errorf("%v", f.results)
	}
	// As WxJava does when WeChat refuses a token.
	srv.Must("EXPIRE " + merchantKey + " 0")
	again()
	// With either of these WxJava or its user would see another end of the token.
	srv.Must("PERSIST " + merchantKey)
	again()
	srv.Must("EXPIRE " + merchantKey + " 60")
	again()
	srv.Must("EXPIRE " + merchantKey + " 9000")
	again()
	// A Redis that lost everything.
	srv.Must("FLUSHALL")
	again()
	if f.count(ResultWritten) != 6 || len(f.foreigners()) != 0 {
		t.Errorf("%v %q", f.results, f.foreigners())
	}
}

func TestForeignValueIsNoticed(t *testing.T) {
	srv := redistest.Start(t)
	// What was there before says nothing.
	srv.Must("SET " + merchantKey + " from-before EX 5000")
	f := running(t, srv.URL())
	expect := func(told ...string) {
		t.Helper()
		if got := f.foreigners(); !slices.Equal(got, told) {
			t.Errorf("told of %q, want %q", got, told)
		}
		if n := f.count(ResultForeign); n != len(told) {
			t.Errorf("%d foreign results, want %d", n, len(told))
		}
	}
	f.publish(t, Authorizer, merchant, "v1")
	f.publish(t, Authorizer, merchant, "v2")
	expect()
	srv.Must("SET " + merchantKey + " theirs EX 7000")
	f.publish(t, Authorizer, merchant, "v2")
	first := "authorizer " + merchant + " theirs"
	expect(first)
	if got := get(t, srv, merchantKey); got != "v2" {
		t.Errorf("got %q", got)
	}
	// It is told once.
	f.publish(t, Authorizer, merchant, "v2")
	expect(first)
	// One that comes with a new value of ours.
	srv.Must("SET " + merchantKey + " theirs2 EX 7000")
	f.publish(t, Authorizer, merchant, "v3")
	second := "authorizer " + merchant + " theirs2"
	expect(first, second)
	// A value of ours that comes back, as after a failover, or that a fellow has
	// brought.
	srv.Must("SET " + merchantKey + " v2 EX 7000")
	f.publish(t, Authorizer, merchant, "v3")
	srv.Must("SET " + merchantKey + " v4 EX 7000")
	f.publish(t, Authorizer, merchant, "v4")
	expect(first, second)
	// A key of another type is no token of ours either.
	f.publish(t, Component, platform, "c1")
	srv.Must("DEL "+componentKey, "LPUSH "+componentKey+" x")
	f.publish(t, Component, platform, "c1")
	expect(first, second, "component "+platform+" ")
	if got := get(t, srv, componentKey); got != "c1" {
		t.Errorf("got %q", got)
	}
}

// What Foreign does while a batch is settled must not be lost.
func TestForeignMayPublish(t *testing.T) {
	srv := redistest.Start(t)
	var f *fixture
	f = newFixture(t, srv.URL(), func(o *Options) {
		o.Foreign = func(kind, appID string, _ secret.String) {
			f.Publish(kind, appID, secret.New("renewed"), inTwoHours())
		}
	})
	t.Cleanup(f.start(t))
	f.publish(t, Authorizer, merchant, "v1")
	srv.Must("SET " + merchantKey + " theirs")
	f.publish(t, Authorizer, merchant, "v1")
	eventually(t, "its value is written", func() bool { return get(t, srv, merchantKey) == "renewed" })
}

func TestManyKeysInBatches(t *testing.T) {
	srv := redistest.Start(t)
	f := newFixture(t, srv.URL())
	const n = 3*maxBatch + 7
	for i := range n {
		// Of values that wait, the last one of a key is written, and no other.
		f.Publish(Authorizer, fmt.Sprint("wx", i), secret.New(fmt.Sprint("old", i)), inTwoHours())
		f.Publish(Authorizer, fmt.Sprint("wx", i), secret.New(fmt.Sprint("new", i)), inTwoHours())
	}
	if f.Pending() != n {
		t.Errorf("%d wait, want %d", f.Pending(), n)
	}
	t.Cleanup(f.start(t))
	eventually(t, "all are written", func() bool { return f.count(ResultWritten) == n })
	if got := number(t, srv, "DBSIZE"); got != n {
		t.Errorf("%d keys, want %d", got, n)
	}
	for _, i := range []int{0, maxBatch - 1, maxBatch, n - 1} {
		if got := get(t, srv, strings.Replace(merchantKey, merchant, fmt.Sprint("wx", i), 1)); got != fmt.Sprint("new", i) {
			t.Errorf("key %d holds %q", i, got)
		}
	}
	if stats := srv.Must("INFO commandstats"); !strings.Contains(stats, fmt.Sprintf("cmdstat_set:calls=%d,", n)) {
		t.Errorf("not %d writes:\n%s", n, stats)
	}
}

// In a cluster the keys of a batch lie in many slots.
func TestCluster(t *testing.T) {
	port, bus := redistest.FreePort(t), redistest.FreePort(t)
	srv := redistest.Start(t, "--port", port, "--bind", "127.0.0.1", "--cluster-enabled", "yes", "--cluster-port", bus,
		"--cluster-announce-ip", "127.0.0.1", "--cluster-config-file", "nodes.conf")
	srv.Must("CLUSTER ADDSLOTSRANGE 0 16383")
	eventually(t, "the cluster is up", func() bool { return strings.Contains(srv.Talk("CLUSTER INFO"), "cluster_state:ok") })
	f := newFixture(t, "redis+cluster://127.0.0.1:"+port)
	for i := range 50 {
		f.Publish(Authorizer, fmt.Sprint("wx", i), secret.New(fmt.Sprint("v", i)), inTwoHours())
	}
	f.Remove(Authorizer, "wx49")
	t.Cleanup(f.start(t))
	eventually(t, "all are written", func() bool { return number(t, srv, "DBSIZE") == 49 && f.Pending() == 0 && f.settled() == 50 })
	f.publish(t, Authorizer, "wx7", "v7")
	if f.count(ResultUnchanged) != 1 {
		t.Errorf("%v", f.results)
	}
}

// What the package comment says is enough.
func TestMinimalRights(t *testing.T) {
	source, err := os.ReadFile("wxjava.go")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(source), "//\tACL SETUSER lingpai on >PASSWORD ")
	text, _, found2 := strings.Cut(text, "\npackage ")
	if !found || !found2 {
		t.Fatal("the package comment has no ACL line")
	}
	srv := redistest.Start(t)
	srv.Must("ACL SETUSER lingpai on >pa55w0rd " + strings.Join(strings.Fields(strings.ReplaceAll(text, "//", "")), " "))
	f := running(t, "unix://lingpai:pa55w0rd@"+srv.Socket())
	f.publish(t, Component, platform, "c1")
	f.publish(t, Authorizer, merchant, "v1")
	f.publish(t, Authorizer, merchant, "v1")
	f.Remove(Authorizer, merchant)
	eventually(t, "it is deleted", func() bool { return f.count(ResultDeleted) == 1 })
	if f.count(ResultWritten) != 2 || f.count(ResultUnchanged) != 1 || f.count(ResultError) != 0 {
		t.Errorf("%v\n%s", f.results, f.log.String())
	}
	if answer := srv.Talk("AUTH lingpai pa55w0rd", "GET wx:open:wechat_authorizer_refresh_token:x:y"); !strings.Contains(answer, "NOPERM") {
		t.Errorf("it may read refresh tokens: %s", answer)
	}
}
