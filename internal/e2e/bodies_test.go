package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"

	"lingpai/tokens/wechat/wechattest"
)

const mib = 1 << 20

// peakMemory returns the most memory the process has held, in bytes.
func (s *sidecar) peakMemory() int64 { return s.memory("VmHWM") }

// ownMemory returns the memory the process holds now, without the pages of files
// that it maps, in bytes.
func (s *sidecar) ownMemory() int64 { return s.memory("RssAnon") }

func (s *sidecar) memory(field string) int64 {
	s.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.command.Process.Pid))
	if errors.Is(err, os.ErrNotExist) {
		s.t.Skip("memory is read from /proc, which this system does not have")
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			n, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			if err != nil {
				s.t.Fatal(err)
			}
			return n << 10
		}
	}
	s.t.Fatal("no " + field)
	return 0
}

// unannounced hides a reader's length, so that it is sent chunked.
type unannounced struct{ io.Reader }

// TestLargeBodies: a download of 100 MiB and uploads of 20 MiB, announced and
// chunked, byte for byte, in bounded memory.
func TestLargeBodies(t *testing.T) {
	w := newWeChat(t, nil)
	s := start(t, w, binaries.release, "")
	s.addAuthorizers(1)
	s.pushTicket()
	if r, err := s.call("GET", "/cgi-bin/menu/get", appID(0), nil); err != nil || r.failed() != "" {
		t.Fatalf("%v %s", err, r.failed())
	}
	before := s.peakMemory()

	const size = 100 * mib
	request, err := http.NewRequest("GET", fmt.Sprintf("%s/cgi-bin/media/get?media_id=size-%d", s.proxy, size), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Wechat-Appid", appID(0))
	response, err := s.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	got, want := sha256.New(), sha256.New()
	n, err := io.Copy(got, response.Body)
	response.Body.Close()
	if err != nil || n != size {
		t.Fatalf("%d bytes, %v", n, err)
	}
	io.Copy(want, wechattest.GeneratedMedia(size))
	if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Error("the download has other bytes")
	}
	if !strings.Contains(response.Header.Get("Content-Disposition"), "attachment") {
		t.Errorf("fields %v", response.Header)
	}

	for _, chunked := range []bool{false, true} {
		w.ResetCalls()
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		part, err := form.CreateFormFile("media", "video.mp4")
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(part, wechattest.GeneratedMedia(20*mib))
		form.Close()
		sum := sha256.Sum256(body.Bytes())
		length := int64(body.Len())
		var reader io.Reader = &body
		if chunked {
			reader = unannounced{&body}
		}
		request, err := http.NewRequest("POST", s.proxy+"/cgi-bin/media/upload?type=video", reader)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Wechat-Appid", appID(0))
		request.Header.Set("Content-Type", form.FormDataContentType())
		r, err := s.do(request)
		if err != nil || r.status != 200 {
			t.Fatalf("chunked %v: %v, %d %s", chunked, err, r.status, r.body)
		}
		calls := w.CallsTo("/cgi-bin/media/upload")
		if len(calls) != 1 {
			t.Fatalf("chunked %v: %d calls", chunked, len(calls))
		}
		if c := calls[0]; c.Chunked || c.ContentLength != length || c.BodySHA256 != hex.EncodeToString(sum[:]) {
			t.Errorf("chunked %v: arrived chunked %v, Content-Length %d (sent %d), the same bytes: %v",
				chunked, c.Chunked, c.ContentLength, length, c.BodySHA256 == hex.EncodeToString(sum[:]))
		}
	}
	peak := s.peakMemory()
	t.Logf("peak memory %.1f MiB, before %.1f MiB", float64(peak)/mib, float64(before)/mib)
	if peak > 96*mib {
		t.Errorf("peak memory %d MiB, want less than 96 MiB", peak/mib)
	}
}

// TestWaysIn: reverse, absolute-form and host-alias calls, and each way to name
// the account.
func TestWaysIn(t *testing.T) {
	w := newWeChat(t, nil)
	s := start(t, w, binaries.race, "")
	s.addAuthorizers(2)
	s.pushTicket()
	f := func(what string, change func(*http.Request), wantStatus int) {
		t.Helper()
		w.ResetCalls()
		request, err := http.NewRequest("GET", s.proxy+"/cgi-bin/menu/get?x=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		change(request)
		r, err := s.do(request)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if r.status != wantStatus {
			t.Errorf("%s: status %d %s, want %d", what, r.status, r.body, wantStatus)
		}
		calls := w.CallsTo("/cgi-bin/menu/get")
		if wantStatus != 200 {
			if len(calls) != 0 || r.errcode != 990000+wantStatus || !strings.HasPrefix(r.header.Get("Proxy-Status"), "lingpai; error=") {
				t.Errorf("%s: %d calls, errcode %d, Proxy-Status %q", what, len(calls), r.errcode, r.header.Get("Proxy-Status"))
			}
			return
		}
		if len(calls) != 1 || calls[0].TokenAppID != appID(1) || !strings.HasPrefix(calls[0].RawQuery, "x=1&access_token=") {
			t.Errorf("%s: calls %+v", what, calls)
		}
		for name := range calls[0].Header {
			if strings.HasPrefix(name, "X-Wechat") {
				t.Errorf("%s: %s was forwarded", what, name)
			}
		}
	}
	named := func(r *http.Request) { r.Header.Set("X-Wechat-Appid", appID(1)) }
	f("header", named, 200)
	f("query", func(r *http.Request) { r.URL.RawQuery = "from_appid=" + appID(1) + "&x=1" }, 200)
	f("path prefix", func(r *http.Request) { r.URL.Path = "/@" + appID(1) + r.URL.Path }, 200)
	f("placeholder", func(r *http.Request) { r.URL.RawQuery = "access_token=lingpai-authorizer-" + appID(1) + "&x=1" }, 200)
	f("header before query", func(r *http.Request) { named(r); r.URL.RawQuery = "from_appid=" + appID(0) + "&x=1" }, 200)
	f("hosts alias", func(r *http.Request) { named(r); r.Host = "API.Weixin.QQ.com:80" }, 200)
	f("foreign token with an account", func(r *http.Request) { named(r); r.URL.RawQuery = "access_token=other&x=1" }, 200)
	f("foreign token without", func(r *http.Request) { r.URL.RawQuery = "access_token=other&x=1" }, 400)
	f("no account", func(r *http.Request) {}, 400)
	f("unknown account", func(r *http.Request) { r.Header.Set("X-Wechat-Appid", "wxffffffffffffffff") }, 404)
	f("other host", func(r *http.Request) { named(r); r.Host = "example.com" }, 403)

	// HTTP_PROXY: the client sends the absolute form.
	w.ResetCalls()
	proxied := *s.client
	proxied.Transport = &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return url.Parse(s.proxy) }}
	request, err := http.NewRequest("GET", "http://api.weixin.qq.com/cgi-bin/menu/get?x=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	named(request)
	response, err := proxied.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if calls := w.CallsTo("/cgi-bin/menu/get"); response.StatusCode != 200 || len(calls) != 1 || calls[0].TokenAppID != appID(1) {
		t.Errorf("absolute form: status %d, calls %+v", response.StatusCode, calls)
	}
	proxied.CloseIdleConnections()
}
