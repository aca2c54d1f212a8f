package main

import (
	"fmt"
	"strings"
	"time"
)

// workload is one kind of load.
type workload struct {
	name        string
	title       string
	connections int
	method      string
	body        int  // bytes of a request's body
	size        int  // bytes of an answer, 0 for a small JSON
	mix         bool // over all app ids, else one alone
	rate        int  // requests a second, 0 for a closed loop
}

// workloadNames are the kinds that -workloads knows, in the order of a run.
var workloadNames = []string{"get", "post", "mix", "10k", "1m", "rate"}

// sizedConnections is the most connections for large answers and the open loop.
const sizedConnections = 64

// workloads makes the loads of a run.
func (o options) loads() []workload {
	var all []workload
	medium := o.connections[0]
	for _, n := range o.connections {
		if n <= sizedConnections {
			medium = n
		}
	}
	for _, name := range o.workloads {
		w := workload{method: "GET", connections: medium}
		title := ""
		switch name {
		case "get", "post", "mix":
			title = "GET"
			if name == "post" {
				w.method, w.body, title = "POST", 300, "POST of 300 bytes"
			}
			if w.mix = name == "mix"; w.mix {
				title = fmt.Sprintf("GET for %d app ids", o.apps)
			}
			for _, n := range o.connections {
				w.connections, w.name = n, fmt.Sprintf("%s-%d", name, n)
				w.title = title + ", " + connections(n)
				all = append(all, w)
			}
			continue
		case "10k":
			w.size, title = 10<<10, "GET of 10 KiB"
		case "1m":
			w.size, title = 1<<20, "GET of 1 MiB"
			w.connections = min(w.connections, 16)
		case "rate":
			w.rate, title = o.rate, fmt.Sprintf("open loop, %d GET a second", o.rate)
			w.connections = sizedConnections
		}
		w.name = fmt.Sprintf("%s-%d", name, w.connections)
		w.title = title + ", " + connections(w.connections)
		all = append(all, w)
	}
	return all
}

// duration is how long one measurement takes, if those of closed loops take one: at
// a fixed rate there are few requests, and of these but one in a hundred is behind
// p99.
func (w workload) duration(one time.Duration) time.Duration {
	if w.rate > 0 {
		return 3 * one
	}
	return one
}

func connections(n int) string {
	if n == 1 {
		return "1 connection"
	}
	return fmt.Sprintf("%d connections", n)
}

// appID returns the n-th authorizer's.
func appID(n int) string { return fmt.Sprintf("wx%016x", 0xbe0000+n) }

// tokenBytes is how long a token is; WeChat's are about as long.
const tokenBytes = 200

// tokenOf returns the token that the stub takes for an account.
func tokenOf(app string) string {
	token := "bench-" + app + "-"
	return token + strings.Repeat("t", tokenBytes-len(token))
}

// request returns the bytes of one call. The app id stands in the query too, for
// the stub to see that the token is the right one.
func (w workload) request(host, app string, fixedToken, direct bool) []byte {
	path := "/cgi-bin/user/info"
	if w.method == "POST" {
		path = "/cgi-bin/message/custom/send"
	}
	subject := app
	if fixedToken {
		subject = appID(0)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s?openid=%s&lang=zh_CN", w.method, path, subject)
	if w.size > 0 {
		fmt.Fprintf(&b, "&size=%d", w.size)
	}
	if direct {
		fmt.Fprintf(&b, "&access_token=%s", tokenOf(app))
	}
	fmt.Fprintf(&b, " HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\n", host)
	if !direct {
		fmt.Fprintf(&b, "X-Wechat-Appid: %s\r\n", app)
	}
	if w.body > 0 {
		text := `{"touser":"` + app + `","msgtype":"text","text":{"content":"`
		const end = `"}}`
		fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s%s%s",
			w.body, text, strings.Repeat("c", w.body-len(text)-len(end)), end)
	} else {
		b.WriteString("\r\n")
	}
	return []byte(b.String())
}
