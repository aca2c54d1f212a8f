package proxy

import (
	"bytes"
	"strings"
	"testing"

	"lingpai/proxy/route"
)

func TestReadFields(t *testing.T) {
	f := func(rule, raw, want string) {
		t.Helper()
		got, fault := readFields(nil, []byte(raw+"\r\n"))
		if fault != nil {
			t.Errorf("%s: refused: %v", rule, fault)
		} else if string(got.forward) != want {
			t.Errorf("%s: %q becomes %q, want %q", rule, raw, got.forward, want)
		}
	}
	f("spelling and order stay", "x-B: 1\r\nA:2\r\nX-b:  3 \r\n", "x-B: 1\r\nA:2\r\nX-b:  3 \r\n")
	f("empty values stay", "A:\r\nB: \r\n", "A:\r\nB: \r\n")
	f("LF alone ends a line", "A: 1\nB: 2\n", "A: 1\r\nB: 2\r\n")
	f("Host goes", "hOST: x\r\nA: 1\r\n", "A: 1\r\n")
	for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "TE", "Trailer",
		"Upgrade", "Accept-Encoding", "Expect", "X-Wechat-Anything", "X-Wechat-Appid", "X-Forwarded-For", "x-forwarded-proto", "x-wechat-x"} {
		f(name+" goes", "A: 1\r\n"+name+": v\r\n"+strings.ToLower(name)+": v\r\nB: 2\r\n", "A: 1\r\nB: 2\r\n")
	}
	for _, name := range []string{"Forwarded", "X-Forwarded", "X-Wechat", "Accept", "Wechatmp-Appid", "Cookie", "User-Agent", "Content-Type",
		"Content-Encoding", "X-Real-Ip", "Via", "Authorization", "Tea", "Hosts", "Proxy"} {
		f(name+" stays", name+": v\r\n", name+": v\r\n")
	}
	f("what Connection names goes", "X-A: 1\r\nConnection: x-a, X-B\r\nB: 2\r\nx-b: 3\r\n", "B: 2\r\n")
	f("what a second Connection names goes", "X-A: 1\r\nConnection: close\r\nConnection: keep-alive\r\nConnection: x-a\r\n", "")
	f("Connection cannot take Content-Length away", "Content-Length: 3\r\nConnection: content-length\r\n", "Content-Length: 3\r\n")

	refused := func(rule, raw string) {
		t.Helper()
		if got, fault := readFields(nil, []byte(raw+"\r\n")); fault == nil || fault.status != 400 || !fault.close {
			t.Errorf("%s: %q gives %q, %v, want 400 and an end of the connection", rule, raw, got.forward, fault)
		}
	}
	refused("folded line", "A: 1\r\n b\r\n")
	refused("folded line with a tab", "A: 1\r\n\tb: c\r\n")
	refused("no colon", "A\r\n")
	refused("no name", ": v\r\n")
	refused("space before the colon", "A : v\r\n")
	refused("tab before the colon", "A\t: v\r\n")
	refused("CR in a line", "A: 1\rB: 2\r\n")
	refused("length and chunked", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n")
	refused("chunked and length", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n")
	refused("two lengths", "Content-Length: 3\r\nContent-Length: 4\r\n")
	refused("two equal lengths", "Content-Length: 3\r\nContent-Length: 3\r\n")
	refused("two encodings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")
	refused("gzip", "Transfer-Encoding: gzip, chunked\r\n")
	refused("identity", "Transfer-Encoding: identity\r\n")
	refused("empty encoding", "Transfer-Encoding:\r\n")
}

func TestReadOwnFields(t *testing.T) {
	f := func(rule, raw, wantAppID string, wantOverride bool, wantToken route.Token, wantClose bool, want *fault) {
		t.Helper()
		got, fault := readFields(nil, []byte(raw+"\r\n"))
		if fault != want || fault == nil && (string(got.appID) != wantAppID || got.override != wantOverride || got.token != wantToken || got.close != wantClose) {
			t.Errorf("%s: %q %t %v close %t, %v", rule, got.appID, got.override, got.token, got.close, fault)
		}
	}
	f("none", "A: 1\r\n", "", false, 0, false, nil)
	f("app id", "x-wechat-APPID:  wx1 \r\n", "wx1", false, 0, false, nil)
	f("app id twice the same", "X-Wechat-Appid: wx1\r\nX-Wechat-Appid: wx1\r\n", "wx1", false, 0, false, nil)
	f("two app ids", "X-Wechat-Appid: wx1\r\nX-Wechat-Appid: wx2\r\n", "", false, 0, false, faultTwoApps)
	f("component", "X-Wechat-Token: component\r\n", "", true, route.Component, false, nil)
	f("authorizer", "x-wechat-token: authorizer\r\n", "", true, route.Authorizer, false, nil)
	f("none at all", "X-Wechat-Token: none\r\n", "", true, route.None, false, nil)
	f("user cannot be asked for", "X-Wechat-Token: user\r\n", "", false, 0, false, faultTokenField)
	f("either cannot be asked for", "X-Wechat-Token: either\r\n", "", false, 0, false, faultTokenField)
	f("nonsense", "X-Wechat-Token: x\r\n", "", false, 0, false, faultTokenField)
	f("two tokens", "X-Wechat-Token: none\r\nX-Wechat-Token: component\r\n", "", false, 0, false, faultTokenField)
	f("close", "Connection: close\r\n", "", false, 0, true, nil)
	f("close without case", "Connection: CLOSE\r\n", "", false, 0, true, nil)
	f("close among others", "Connection: te,Close\r\n", "", false, 0, true, nil)
	f("keep-alive", "Connection: Keep-Alive\r\n", "", false, 0, false, nil)
}

func FuzzReadFields(f *testing.F) {
	for _, seed := range []string{"A: b\r\n\r\n", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "A: b\r\n c: d\r\n\r\n",
		"Connection: a\r\na: 1\r\n\r\n", "Transfer-Encoding: chunked\n\n", "X-Wechat-Token: user\r\n\r\n", "A : b\r\n\r\n", "A: b\rC: d\r\n\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, fault := readFields([]byte("kept"), raw)
		if fault != nil {
			return
		}
		if !bytes.HasPrefix(got.forward, []byte("kept")) {
			t.Fatal("what stood before is lost")
		}
		lengths := 0
		for line := range bytes.Lines(got.forward[4:]) {
			line, ok := bytes.CutSuffix(line, []byte("\r\n"))
			if !ok || bytes.ContainsAny(line, "\r\n") {
				t.Fatalf("%q goes on as a line", line)
			}
			name, _, ok := bytes.Cut(line, []byte(":"))
			if !ok || len(name) == 0 || bytes.ContainsAny(name[:1], " \t") {
				t.Fatalf("%q goes on", line)
			}
			switch strings.ToLower(string(name)) {
			case "transfer-encoding", "connection", "host", "te", "trailer", "upgrade", "x-wechat-appid":
				t.Fatalf("%q goes on", line)
			case "content-length":
				lengths++
			}
		}
		if lengths > 1 || lengths > 0 && got.chunked {
			t.Fatalf("ambiguous framing goes on: %q", got.forward)
		}
	})
}
