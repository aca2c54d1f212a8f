package cache

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLifetime(t *testing.T) {
	f := func(path string, status int, body string, want time.Duration) {
		t.Helper()
		if got := Lifetime(path, status, []byte(body)); got != want {
			t.Errorf("%s %d %s: %v, want %v", path, status, body, got, want)
		}
	}
	const ticket, ips = "/cgi-bin/ticket/getticket", "/cgi-bin/getcallbackip"
	f(ticket, 200, `{"errcode":0,"errmsg":"ok","ticket":"t","expires_in":7200}`, 115*time.Minute)
	f(ticket, 200, `{"ticket":"t","expires_in":"7200"}`, 115*time.Minute)
	f(ticket, 200, `{"errcode":"0","ticket":"t","expires_in":301}`, time.Second)
	f(ticket, 200, `{"ticket":"t","expires_in":300}`, 0)
	f(ticket, 200, `{"ticket":"t","expires_in":-1}`, 0)
	f(ticket, 200, `{"ticket":"t"}`, 0)
	f(ticket, 200, `{"errcode":40001,"errmsg":"x","expires_in":7200}`, 0)
	f(ticket, 200, `{"errcode":"40001","expires_in":7200}`, 0)
	f(ticket, 500, `{"ticket":"t","expires_in":7200}`, 0)
	f(ticket, 200, `<html>`, 0)
	f(ticket, 200, `{"expires_in":7200,"x":"`+strings.Repeat("x", MaxAnswer)+`"}`, 0)
	f(ips, 200, `{"ip_list":["127.0.0.1"]}`, time.Hour)
	f(ips, 200, `{"errcode":-1}`, 0)
	f("/cgi-bin/menu/get", 200, `{"expires_in":7200}`, 0)
}

func TestCacheable(t *testing.T) {
	f := func(method, path string, want bool) {
		t.Helper()
		if got := Cacheable(method, path); got != want {
			t.Errorf("%s %s: %v", method, path, got)
		}
	}
	f("GET", "/cgi-bin/ticket/getticket", true)
	f("GET", "/cgi-bin/get_api_domain_ip", true)
	f("GET", "/cgi-bin/getcallbackip", true)
	f("POST", "/cgi-bin/getcallbackip", false)
	f("GET", "/cgi-bin/component/api_create_preauthcode", false)
}

func TestKey(t *testing.T) {
	if Key("a", "/p", "type=jsapi&x=1") != Key("a", "/p", "x=1&type=jsapi") {
		t.Error("the order of the query makes a difference")
	}
	if Key("a", "/p", "type=jsapi") == Key("a", "/p", "type=wx_card") || Key("a", "/p", "") == Key("b", "/p", "") || Key("a", "/p", "q") == Key("a", "/q", "q") {
		t.Error("different calls share a key")
	}
}

func TestBypass(t *testing.T) {
	for value, want := range map[string]bool{
		"": false, "no-cache": true, "No-Cache": true, "max-age=0, no-cache": true, "no-store": true,
		"max-age=60": false, "no-cache=field": true, "x-no-cache": false,
	} {
		if got := Bypass(value); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
}

func TestAnswerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := New(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		now := time.Now()
		authorized := now.Add(-time.Hour)
		c.Put(&Answer{Key: "k", Body: []byte("b"), StoredAt: now, ExpiresAt: now.Add(time.Minute), AuthorizedAt: authorized})
		if a := c.Get("k", now.Add(time.Minute-1), authorized); a == nil || string(a.Body) != "b" {
			t.Error("gone before its end")
		}
		if c.Get("k", now.Add(time.Minute), authorized) != nil {
			t.Error("given at its end")
		}
		if c.Get("k", now, authorized.Add(time.Second)) != nil {
			t.Error("given after the account authorized again")
		}
		if c.Get("other", now, authorized) != nil {
			t.Error("given for another key")
		}
		a := c.Get("k", now, authorized)
		if got := a.Status(now.Add(10 * time.Second)); got != "lingpai; hit; ttl=50" {
			t.Error(got)
		}
		if got := a.Age(now.Add(10 * time.Second)); got != "10" {
			t.Error(got)
		}
	})
}

func TestBodyTellsTheLifetimeThatIsLeft(t *testing.T) {
	at := time.Now()
	f := func(body string, after time.Duration, want string) {
		t.Helper()
		a := &Answer{Body: []byte(body), StoredAt: at}
		if got := string(a.BodyAt(at.Add(after))); got != want {
			t.Errorf("%s after %v: %s, want %s", body, after, got, want)
		}
		if string(a.Body) != body {
			t.Error("the kept answer was changed")
		}
	}
	f(`{"ticket":"t","expires_in":7200}`, 0, `{"ticket":"t","expires_in":7200}`)
	f(`{"expires_in" : 7200 ,"ticket":"t"}`, 100*time.Second, `{"expires_in" : 7100 ,"ticket":"t"}`)
	f(`{"expires_in":"7200"}`, 6300*time.Second+time.Millisecond, `{"expires_in":"900"}`)
	f(`{"expires_in":10}`, time.Minute, `{"expires_in":1}`)
	f(`{"ip_list":["127.0.0.1"]}`, time.Minute, `{"ip_list":["127.0.0.1"]}`)
}
