package wxjava

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store/redis/redistest"
)

func TestRedisDownAndBack(t *testing.T) {
	srv := redistest.New(t)
	f := running(t, srv.URL())
	f.Publish(Authorizer, merchant, secret.New("v1"), inTwoHours())
	f.Publish(Component, platform, secret.New("c1"), inTwoHours())
	eventually(t, "it has tried more than once", func() bool { return f.count(ResultError) > 1 })
	f.Publish(Authorizer, merchant, secret.New("v2"), inTwoHours())
	if f.Pending() != 2 {
		t.Errorf("%d wait", f.Pending())
	}
	srv.Start()
	eventually(t, "both are written", func() bool { return f.count(ResultWritten) == 2 })
	if v, c := get(t, srv, merchantKey), get(t, srv, componentKey); v != "v2" || c != "c1" {
		t.Errorf("got %q and %q", v, c)
	}

	// Again, with a connection that breaks, and longer: values that came
	// meanwhile, one that ended, one that was removed.
	srv.Kill()
	errors := f.count(ResultError)
	f.Publish(Authorizer, merchant, secret.New("v3"), inTwoHours())
	eventually(t, "it has tried more than once", func() bool { return f.count(ResultError) > errors+1 })
	f.Publish(Authorizer, merchant, secret.New("v4"), inTwoHours())
	f.Publish(Authorizer, "wxaaaa0002", secret.New("removed"), inTwoHours())
	f.Remove(Authorizer, "wxaaaa0002")
	short := time.Now().Add(50 * time.Millisecond)
	f.Publish(Authorizer, "wxaaaa0003", secret.New("short"), short.Add(margin))
	eventually(t, "it is over", func() bool { return time.Now().After(short) })
	srv.Start()
	eventually(t, "all are worked on", func() bool { return f.Pending() == 0 && f.count(ResultDeleted) == 1 && f.count(ResultExpired) == 1 })
	eventually(t, "the new value is written", func() bool { return get(t, srv, merchantKey) == "v4" })
	if n := number(t, srv, "DBSIZE"); n != 1 {
		t.Errorf("%d keys", n)
	}
	// The loss of all keys is not the work of somebody else.
	if told := f.foreigners(); len(told) != 0 {
		t.Errorf("told of %q", told)
	}
	for text, want := range map[string]int{"trying again": 2, "published for WxJava services again": 2, "level=": 4} {
		eventually(t, text, func() bool { return strings.Count(f.log.String(), text) == want })
	}
}

// A value of unknown fate is ours when it is found later.
func TestWrittenWithoutAnswerIsNotForeign(t *testing.T) {
	srv := redistest.Start(t)
	f := running(t, srv.URL())
	f.publish(t, Authorizer, merchant, "v1")
	srv.Freeze()
	f.Publish(Authorizer, merchant, secret.New("v2"), inTwoHours())
	eventually(t, "the attempt is given up", func() bool { return f.count(ResultError) > 0 })
	f.Publish(Authorizer, merchant, secret.New("v3"), inTwoHours())
	srv.Thaw()
	eventually(t, "the newest is written", func() bool { return get(t, srv, merchantKey) == "v3" && f.Pending() == 0 })
	if told := f.foreigners(); len(told) != 0 {
		t.Errorf("told of %q", told)
	}
}

// The last token before a restart is written though Run is told to end at once.
func TestLastValueIsWritten(t *testing.T) {
	srv := redistest.Start(t)
	f := newFixture(t, srv.URL())
	stop := f.start(t)
	f.publish(t, Authorizer, merchant, "v1")
	for i := range 20 {
		f.Publish(Authorizer, merchant, secret.New(fmt.Sprint("last", i)), inTwoHours())
		stop()
		if got := get(t, srv, merchantKey); got != fmt.Sprint("last", i) {
			t.Fatalf("got %q in turn %d", got, i)
		}
		stop = f.start(t)
		f.publish(t, Authorizer, merchant, "between")
	}
	stop()
}

func TestRunEndsAndLeavesNothing(t *testing.T) {
	gone := func(t *testing.T) {
		t.Helper()
		eventually(t, "no goroutine is left", func() bool { return len(goroutines()) == 0 })
	}
	gone(t)
	t.Run("idle", func(t *testing.T) {
		srv := redistest.Start(t)
		f := newFixture(t, srv.URL())
		stop := f.start(t)
		f.publish(t, Authorizer, merchant, "v1")
		stop()
		gone(t)
		// What is told later waits for another Run.
		f.Publish(Authorizer, merchant, secret.New("v2"), inTwoHours())
		if f.Pending() != 1 {
			t.Errorf("%d wait", f.Pending())
		}
	})
	t.Run("never reached", func(t *testing.T) {
		f := newFixture(t, redistest.New(t).URL())
		stop := f.start(t)
		f.Publish(Authorizer, merchant, secret.New("v1"), inTwoHours())
		eventually(t, "it has tried", func() bool { return f.count(ResultError) > 0 })
		began := time.Now()
		stop()
		if took := time.Since(began); took > time.Second {
			t.Errorf("took %s", took)
		}
		gone(t)
	})
	t.Run("silent", func(t *testing.T) {
		srv := redistest.Start(t)
		f := newFixture(t, srv.URL())
		stop := f.start(t)
		f.publish(t, Authorizer, merchant, "v1")
		srv.Freeze()
		f.Publish(Authorizer, merchant, secret.New("v2"), inTwoHours())
		began := time.Now()
		stop()
		if took := time.Since(began); took > operationTimeout+2*time.Second {
			t.Errorf("took %s", took)
		}
		gone(t)
		srv.Thaw()
	})
	t.Run("silent from the start", func(t *testing.T) {
		srv := redistest.Start(t)
		srv.Freeze()
		f := newFixture(t, srv.URL())
		stop := f.start(t)
		eventually(t, "it waits for an answer", func() bool { return strings.Contains(strings.Join(goroutines(), ""), "rueidis.") })
		began := time.Now()
		stop()
		if took := time.Since(began); took > time.Second {
			t.Errorf("took %s", took)
		}
		gone(t)
		srv.Thaw()
	})
}

// Neither tokens nor passwords, in whatever state Redis is.
func TestNothingSecretInLogs(t *testing.T) {
	const password, token = "pa55w0rd", "t0ken-of-a-merchant"
	check := func(name string, f *fixture, want string) {
		t.Helper()
		eventually(t, name, func() bool { return f.count(ResultError) > 0 && strings.Contains(f.log.String(), want) })
		log := f.log.String() + fmt.Sprintf("%v %+v %#v", f.dialer, f.dialer, f.dialer)
		for _, hidden := range []string{password, "t0ken", merchant, "args"} {
			if strings.Contains(log, hidden) {
				t.Errorf("%s: %s is in %s", name, hidden, log)
			}
		}
	}
	start := func(url string) *fixture {
		t.Helper()
		f := running(t, url)
		f.Publish(Authorizer, merchant, secret.New(token), inTwoHours())
		return f
	}
	url := func(srv *redistest.Server) string { return "unix://:" + password + "@" + srv.Socket() }

	down := redistest.New(t, "--requirepass", password)
	check("down", start(url(down)), "connect to")

	other := redistest.Start(t, "--user", "default", "on", ">other", "~*", "+@all")
	check("wrong password", start(url(other)), "WRONGPASS")

	// Such a server quotes the arguments of the command it does not know.
	noScripts := redistest.Start(t, "--rename-command", "EVAL", "")
	check("no scripts", start(noScripts.URL()), "unknown command")

	full := redistest.Start(t)
	f := start(full.URL())
	eventually(t, "it is written", func() bool { return f.count(ResultWritten) == 1 })
	full.Must("CONFIG SET maxmemory 1")
	f.Publish(Authorizer, merchant, secret.New(token+"2"), inTwoHours())
	check("out of memory", f, "OOM")
	full.Must("CONFIG SET maxmemory 0")
	eventually(t, "it recovers", func() bool { return get(t, full, merchantKey) == token+"2" })
}
