package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lingpai/tokens/wechat/wechattest"
)

// TestPlainClients calls the program with the HTTP clients that languages come
// with, as docs/sdk.md tells their users: no token, no secret, and lingpai as
// base URL or as HTTP proxy.
func TestPlainClients(t *testing.T) {
	const size = 1 << 20
	sum := sha256.New()
	io.Copy(sum, wechattest.GeneratedMedia(size))
	const common = "component_call authorizer_call download own_error"
	for _, client := range []struct {
		name, program, how, script string
		proxied                    bool
		steps                      string
		calls                      int // of /cgi-bin/menu/get that reach WeChat
	}{
		{"curl", "curl", "install curl", "curl.sh", false,
			"component_call authorizer_call authorizer_call_by_header authorizer_call_by_path authorizer_call_by_proxy " +
				"authorizer_call_by_alias cloud_run_call download own_error no_tunnel", 6},
		{"Node's fetch", "node", "install Node.js 20 or later", "fetch.mjs", false,
			"component_call authorizer_call upload upload_stream download own_error", 1},
		{"Python's urllib", "python3", "install Python 3", "urllib_proxy.py", true, common, 1},
		{"Java's HttpClient", "java", "install a JDK, 17 or later", "HttpClientProxy.java", false, common, 1},
	} {
		t.Run(client.name, func(t *testing.T) {
			program := need(t, client.program, client.how)
			w := newWeChat(t, everyTokenLives)
			s := start(t, w, binaries.race, "")
			s.addAuthorizers(1)
			s.pushTicket()
			r := record(t, s.proxy)
			env := map[string]string{
				"LINGPAI": r.url, "AUTHORIZER_APPID": appID(0),
				"MEDIA_ID": fmt.Sprintf("size-%d", size), "MEDIA_SHA256": hex.EncodeToString(sum.Sum(nil)),
			}
			if client.proxied {
				env["HTTP_PROXY"] = r.url
			}
			switch client.program {
			case "curl":
				program = "sh"
			case "java":
				need(t, "javac", client.how) // to run a source file, a JRE is not enough
			}
			script, err := filepath.Abs(filepath.Join("sdk", client.script))
			if err != nil {
				t.Fatal(err)
			}
			left := runScript(t, env, strings.Fields(client.steps), program, script)
			for _, secret := range leaks(t, w, r.received()+left) {
				t.Errorf("a secret of %d characters that begins with %.12q reached the client", len(secret), secret)
			}
			calls := w.CallsTo("/cgi-bin/menu/get")
			if len(calls) != client.calls {
				t.Errorf("%d calls reached WeChat, want %d", len(calls), client.calls)
			}
			for _, call := range calls {
				if call.TokenAppID != appID(0) || call.TokenKind != wechattest.KindAuthorizer {
					t.Errorf("token %q of %q", call.TokenKind, call.TokenAppID)
				}
			}
		})
	}
}

// toLingpai is what docs/sdk.md tells users of Go SDKs that take an http.Client
// but no address.
type toLingpai struct{ host string }

func (t toLingpai) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == "api.weixin.qq.com" {
		r = r.Clone(r.Context())
		r.URL.Scheme, r.URL.Host, r.Host = "http", t.host, ""
	}
	return http.DefaultTransport.RoundTrip(r)
}

// TestGoTransport: an SDK in Go with a fixed https address gets a token and uses
// it, through a transport of its user's.
func TestGoTransport(t *testing.T) {
	w := newWeChat(t, everyTokenLives)
	s := start(t, w, binaries.race, "")
	s.addAuthorizers(1)
	s.pushTicket()
	client := &http.Client{Transport: toLingpai{strings.TrimPrefix(s.proxy, "http://")}}
	get := func(url string, answer any) {
		t.Helper()
		response, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if err := json.NewDecoder(response.Body).Decode(answer); err != nil || response.StatusCode != 200 {
			t.Fatalf("%s: status %d, %v", url, response.StatusCode, err)
		}
	}
	var token struct {
		Value     string `json:"access_token"`
		ExpiresIn int    `json:"expires_in"`
	}
	get("https://api.weixin.qq.com/cgi-bin/token?grant_type=client_credential&secret=unused&appid="+appID(0), &token)
	if token.Value != "lingpai-authorizer-"+appID(0) || token.ExpiresIn <= 0 || token.ExpiresIn > 7200 {
		t.Errorf("token %+v", token)
	}
	var answer struct{ Errcode int }
	get("https://api.weixin.qq.com/cgi-bin/menu/get?access_token="+token.Value, &answer)
	if calls := w.CallsTo("/cgi-bin/menu/get"); answer.Errcode != 0 || len(calls) != 1 || calls[0].TokenAppID != appID(0) {
		t.Errorf("errcode %d, calls %+v", answer.Errcode, calls)
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// TestTicketLifetimeForSDKs: SDKs keep a ticket for expires_in seconds from when
// they get it and do not look at Age, so a ticket from lingpai's cache has to
// say what is left of its life.
func TestTicketLifetimeForSDKs(t *testing.T) {
	w := newWeChat(t, everyTokenLives)
	s := start(t, w, binaries.race, "")
	s.addAuthorizers(1)
	s.pushTicket()
	var ticket struct {
		Value     string `json:"ticket"`
		ExpiresIn int    `json:"expires_in"`
	}
	fetch := func() {
		t.Helper()
		// The ticket is WeChat's to apps, so the answer is none that leaks.
		response, err := s.client.Get(s.proxy + "/cgi-bin/ticket/getticket?type=jsapi&from_appid=" + appID(0))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if err := json.NewDecoder(response.Body).Decode(&ticket); err != nil || ticket.Value == "" {
			t.Fatalf("status %d, %v", response.StatusCode, err)
		}
	}
	fetch()
	first := ticket
	eventually(t, 10*time.Second, "the life that is left is told", func() bool {
		fetch()
		return ticket.Value != first.Value || ticket.ExpiresIn <= first.ExpiresIn-2
	})
	if ticket.Value != first.Value {
		t.Error("another ticket: nothing was kept")
	}
}
