package wechattest

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzServeHTTP sends anything to the simulator: it must not panic, and an
// answer of WeChat's side has status 200 and an errcode or a body.
func FuzzServeHTTP(f *testing.F) {
	for path := range endpoints {
		f.Add("POST", path, "access_token=TOKEN", `{"component_appid":"`+DefaultComponentAppID+`"}`)
		f.Add("GET", path, "component_access_token=TOKEN&appid="+direct, "")
	}
	f.Add("GET", "/cgi-bin/media/get", "access_token=TOKEN&media_id=size-9", "")
	f.Add("POST", "/cgi-bin/message/custom/send", "access_token=a&access_token=b", `{"touser":[]}`)
	f.Add("PATCH", ControlPrefix+"knobs", "", `{"quotas":null}`)
	f.Add("POST", ControlPrefix+"authorize", "", `{"app_id":"wx"}`)
	k := DefaultKnobs()
	k.TokenLatency = 0
	s := New(Options{Seed: 1, Accounts: map[string]string{direct: secretOfD}, Knobs: &k})
	f.Cleanup(s.Close)
	s.AddAuthorizer(authorizerA)
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		if method == "" || strings.ContainsFunc(method, func(c rune) bool { return c < 'A' || c > 'Z' }) ||
			strings.Contains(query, "size-") && len(query) > 60 {
			return
		}
		token, err := s.IssueToken(KindComponent, DefaultComponentAppID)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(method, "/", strings.NewReader(body))
		r.URL = &url.URL{Path: "/" + strings.TrimPrefix(path, "/"), RawQuery: strings.ReplaceAll(query, "TOKEN", token)}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if !strings.HasPrefix(r.URL.Path, "/_simulate/v1") && w.Code != http.StatusOK {
			t.Errorf("status %d", w.Code)
		}
		s.Reset()
		s.AddAuthorizer(authorizerA)
	})
}
