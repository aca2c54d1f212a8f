package proxy

import (
	"bufio"
	"bytes"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"lingpai/proxy/cache"
	"lingpai/proxy/route"
	"lingpai/tokens"
)

// operation is something that is measured.
type operation struct {
	name   string
	allocs float64 // that it makes, no more and no fewer
	bytes  int     // that it works on, 0 if their number says nothing
	do     func()
}

// bench measures operations, each as a sub-benchmark.
func bench(b *testing.B, operations func(testing.TB) []operation) {
	for _, o := range operations(b) {
		b.Run(o.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(o.bytes))
			for b.Loop() {
				o.do()
			}
		})
	}
}

// checkAllocs fails for each operation that allocates more or less often than
// is written at it.
func checkAllocs(t *testing.T, operations func(testing.TB) []operation) {
	t.Helper()
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, o := range operations(t) {
		got := testing.AllocsPerRun(500, o.do)
		for try := 0; got > o.allocs && try < 3; try++ { // what else runs in the process counts too
			got = min(got, testing.AllocsPerRun(500, o.do))
		}
		switch {
		case got > o.allocs:
			t.Errorf("%s: %v allocations, %v are allowed: find the new one with -bench and -memprofile, or say why it has to be", o.name, got, o.allocs)
		case got < o.allocs:
			t.Errorf("%s: %v allocations, %v are allowed: it got better, so write the lower figure", o.name, got, o.allocs)
		}
	}
}

var (
	microSplit   querySplit
	microFields  fields
	microErrcode int
	microTarget  target
	microChoice  choice
	microFound   *upstream
	microBytes   []byte
)

const longQuery = "begin_date=2026-01-01&end_date=2026-01-31&openid=oABCDEFGHIJKLMNOPQRSTUVWXYZ0&lang=zh_CN" +
	"&title=%E5%BE%AE%E4%BF%A1+%E5%BC%80%E6%94%BE%E5%B9%B3%E5%8F%B0&redirect=https%3A%2F%2Fexample.com%2Fa%3Fb%3Dc%26d%3De" +
	"&page=pages%2Findex%2Findex&scene=a%3D1%26b%3D2&next_openid=&count=100&offset=0&type=image&env_version=release&is_hyaline=true"

func queries(testing.TB) []operation {
	split := func(name string, allocs float64, query string) operation {
		q, dst := []byte(query), make([]byte, 0, 1000)
		return operation{name, allocs, len(query), func() { microSplit = splitQuery(dst, q) }}
	}
	user := []byte("access_token=" + strings.Repeat("u", 157) + "&openid=oABCDEFGH&lang=zh_CN")
	userDst := make([]byte, 0, 1000)
	return []operation{
		split("none", 0, ""),
		split("short", 0, "openid=oABCDEFGH&lang=zh_CN"),
		split("from-appid", 0, "openid=oABCDEFGH&lang=zh_CN&from_appid=wx0123456789abcdef"),
		split("long", 0, longQuery),
		split("escaped-name", 3, "openid=oABCDEFGH&tag%5Bid%5D=2&from_appid=wx0123456789abcdef"),
		split("foreign-token", 0, "access_token="+strings.Repeat("T", 157)+"&openid=oABCDEFGH&lang=zh_CN"),
		split("foreign-token-escaped", 3, "access_token="+strings.Repeat("T", 150)+"%2B%3D&openid=oABCDEFGH"),
		split("placeholder", 0, "access_token=lingpai-authorizer-wx0123456789abcdef&openid=oABCDEFGH&lang=zh_CN"),
		{"user", 0, len(user), func() { microBytes = userQuery(userDst, user) }},
	}
}

func BenchmarkQuery(b *testing.B) { bench(b, queries) }

// jsonOf returns an answer of a length that has end as its last members.
func jsonOf(length int, end string) []byte {
	const item = `{"openid":"oABCDEFGHIJKLMNOPQRSTUVWXYZ0","nickname":"x","sex":1},`
	head := `{"total":2,"data":[`
	tail := `{}]` + end + `}`
	items := strings.Repeat(item, max(length-len(head)-len(tail), 0)/len(item))
	return []byte(head + items + strings.Repeat(" ", length-len(head)-len(items)-len(tail)) + tail)
}

func errcodes(t testing.TB) []operation {
	watch := func(name string, body []byte, want int) operation {
		return operation{name, 0, len(body), func() {
			if microErrcode = errcodeOf(body); microErrcode != want {
				t.Fatalf("%s: %d", name, microErrcode)
			}
		}}
	}
	binary := make([]byte, 4<<10)
	for i := range binary {
		binary[i] = byte(i*i>>3 ^ i)
	}
	copy(binary, "\xff\xd8\xff\xe0\x00\x10JFIF")
	return []operation{
		watch("194B/none", jsonOf(194, ""), 0),
		watch("194B/0", jsonOf(194, `,"errcode":0,"errmsg":"ok"`), 0),
		watch("194B/40001", jsonOf(194, `,"errcode":40001,"errmsg":"invalid credential"`), 40001),
		watch("27B/0", []byte(`{"errcode":0,"errmsg":"ok"}`), 0),
		watch("4KiB/none", jsonOf(4<<10, ""), 0),
		watch("4KiB/40001", jsonOf(4<<10, `,"errcode":40001`), 40001),
		watch("4KiB/binary", binary, 0),
		watch("10KiB", jsonOf(10<<10, `,"errcode":40001`), 0), // too long to be looked at
		watch("64KiB", jsonOf(64<<10, `,"errcode":40001`), 0),
	}
}

func BenchmarkErrcode(b *testing.B) { bench(b, errcodes) }

func requestFields(t testing.TB) []operation {
	read := func(name string, allocs float64, raw string) operation {
		lines, dst := []byte(raw+"\r\n"), make([]byte, 0, 2000)
		return operation{name, allocs, len(lines), func() {
			var f *fault
			if microFields, f = readFields(dst, lines); f != nil {
				t.Fatalf("%s: %v", name, f)
			}
		}}
	}
	const few = "Host: api.weixin.qq.com\r\nUser-Agent: app/1.0\r\nAccept: */*\r\nContent-Type: application/json\r\nX-Wechat-Appid: wx1\r\nContent-Length: 300\r\n"
	return []operation{
		read("few", 0, few),
		read("keep-alive", 0, few+"Connection: keep-alive\r\n"),
		read("token", 0, few+"X-Wechat-Token: component\r\n"),
		read("many", 0, few+"Accept-Encoding: gzip, deflate, br\r\nAccept-Language: zh-CN,zh;q=0.9,en;q=0.8\r\nCache-Control: no-cache\r\nPragma: no-cache\r\n"+
			"Cookie: a=b; c=d\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Request-Id: 0123456789abcdef\r\n"+
			"Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nX-Real-Ip: 10.0.0.1\r\n"),
		read("connection-names", 8, few+"Connection: keep-alive, x-a\r\nX-A: 1\r\n"),
	}
}

func BenchmarkRequestFields(b *testing.B) { bench(b, requestFields) }

// answerFields are header fields of answers. Reading them is fasthttp's, and is
// measured with each, since an answer's fields can be dropped but once.
func answerFields(t testing.TB) []operation {
	const plain = "HTTP/1.1 200 OK\r\nContent-Type: application/json; encoding=utf-8\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Length: 27\r\n"
	read := func(text string, drop bool) func() {
		text += "\r\n"
		var header fasthttp.ResponseHeader
		header.DisableNormalizing()
		header.SetNoDefaultContentType(true)
		source := strings.NewReader("")
		reader := bufio.NewReaderSize(source, upstreamBuffer)
		return func() {
			source.Reset(text)
			reader.Reset(source)
			if err := header.Read(reader); err != nil {
				t.Fatal(err)
			}
			if drop {
				dropHopByHop(&header)
			}
		}
	}
	return []operation{
		{"read-only", 0, 0, read(plain+"Connection: keep-alive\r\n", false)},
		{"no-connection", 0, 0, read(plain, true)},
		{"keep-alive", 0, 0, read(plain+"Connection: keep-alive\r\n", true)},
		{"close", 0, 0, read(plain+"Connection: close\r\n", true)},
		{"many", 1, 0, read(plain+"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTrailer: x\r\nLogicRet: 0\r\nRetKey: 11\r\n"+
			"Cache-Control: no-cache, must-revalidate\r\nServer: nginx\r\nSet-Cookie: a=b\r\n", true)},
		{"connection-names", 1, 0, read(plain+"Connection: keep-alive, x-a\r\nX-A: 1\r\n", true)},
	}
}

func BenchmarkAnswerFields(b *testing.B) { bench(b, answerFields) }

// steps are the others that each call takes.
func steps(t testing.TB) []operation {
	listen := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9060}
	n := newNames(listen, []string{"lingpai"})
	n.main, n.hosts["api.weixin.qq.com"] = &upstream{}, &upstream{}
	uri, absolute := []byte("/cgi-bin/user/info?"+"openid=oABC&lang=zh_CN"), []byte("http://api.weixin.qq.com/cgi-bin/user/info?openid=oABC")
	host, own, stranger := []byte("api.weixin.qq.com"), []byte("127.0.0.1:9060"), []byte("example.com")
	var lower [64]byte
	find := func(authority []byte) func() {
		return func() { microFound = n.find(authority, false, listen, lower[:0]) }
	}
	parse := func(uri []byte) func() {
		return func() {
			var f *fault
			if microTarget, f = parseTarget(uri, host); f != nil {
				t.Fatal(f)
			}
		}
	}
	path := []byte(authorizerPath)
	rule, _ := route.Builtin().Find(path)
	choose := func(f fields, q querySplit) func() {
		said := asked{path: path, rule: rule, fields: &f, query: &q, component: true}
		return func() {
			var f *fault
			if microChoice, f = choose(&said); f != nil {
				t.Fatal(f)
			}
		}
	}
	o := &outgoing{method: []byte("POST"), path: path, rest: []byte("openid=oABC&lang=zh_CN"), hasQuery: true, param: paramAccess,
		token: shared(t, tokens.Authorizer, authorizer, authorizerValue), body: &requestBody{},
		forward: []byte("User-Agent: app/1.0\r\nAccept: */*\r\nContent-Type: application/json\r\nContent-Length: 300\r\n")}
	head := make([]byte, 0, 2000)
	return []operation{
		{"target/origin", 0, 0, parse(uri)},
		{"target/absolute", 0, 0, parse(absolute)},
		{"host/wechat", 0, 0, find(host)},
		{"host/own", 0, 0, find(own)},
		{"host/stranger", 0, 0, find(stranger)},
		{"choose/header", 0, 0, choose(fields{appID: []byte(authorizer)}, querySplit{})},
		{"choose/query", 0, 0, choose(fields{}, querySplit{fromAppID: []byte(authorizer)})},
		{"choose/placeholder", 0, 0, choose(fields{}, querySplit{placeholder: []byte("lingpai-authorizer-" + authorizer)})},
		{"head", 0, 0, func() { microBytes = o.appendHead(head, host) }},
	}
}

func BenchmarkStep(b *testing.B) { bench(b, steps) }

// calls are whole ones that lingpai answers by itself.
func calls(t testing.TB) []operation {
	const ticket = `{"errcode":0,"errmsg":"ok","ticket":"bxLdikRXVbTPdHSM05e5u5sUoXNKd8-41ZO3MhKoyN5OfkWITDGgnr2fwJ0m9E8NYzWKVZvdVtaUgWvsdshFKA","expires_in":7200}`
	const path = "/cgi-bin/ticket/getticket"
	p := inMemory(t)
	token, now := shared(t, tokens.Authorizer, authorizer, authorizerValue), time.Now()
	p.answers.Put(&cache.Answer{Key: cache.Key(token.Key().String(), path, "type=jsapi"), Body: []byte(ticket), ContentType: "application/json",
		StoredAt: now, ExpiresAt: now.Add(time.Hour), AuthorizedAt: token.AuthorizedAt()})
	call := func(target, want string, fields ...string) func() {
		text := get(target, append([]string{"User-Agent: app/1.0", "X-Wechat-Appid: " + authorizer}, fields...)...)
		head, _, _ := strings.Cut(text, "\r\n\r\n")
		var ctx fasthttp.RequestCtx
		ctx.Init(&fasthttp.Request{}, nil, nil)
		if err := ctx.Request.Header.Read(bufio.NewReader(strings.NewReader(head + "\r\n\r\n"))); err != nil {
			t.Fatal(err)
		}
		needle := []byte(want)
		return func() {
			p.Handle(&ctx)
			if ctx.Response.StatusCode() != 200 || !bytes.Contains(ctx.Response.Body(), needle) {
				t.Fatalf("%d %s", ctx.Response.StatusCode(), ctx.Response.Body())
			}
		}
	}
	return []operation{
		{"kept-ticket", 7, 0, call(path+"?type=jsapi", `"ticket":"bxLd`)},
		{"jssdk-signature", 29, 0, call("/_lingpai/v1/jssdk-signature?url=https%3A%2F%2Fexample.com%2Fpage", `"signature"`)},
		{"health", 1, 0, call("/_lingpai/v1/health", `"ok"`)},
	}
}

func BenchmarkOwnAnswer(b *testing.B) { bench(b, calls) }

func TestAllocQuery(t *testing.T)         { checkAllocs(t, queries) }
func TestAllocErrcode(t *testing.T)       { checkAllocs(t, errcodes) }
func TestAllocRequestFields(t *testing.T) { checkAllocs(t, requestFields) }
func TestAllocAnswerFields(t *testing.T)  { checkAllocs(t, answerFields) }
func TestAllocStep(t *testing.T)          { checkAllocs(t, steps) }
func TestAllocOwnAnswer(t *testing.T)     { checkAllocs(t, calls) }
