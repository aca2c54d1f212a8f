package wechattest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

const (
	authorizerA = "wxaaaaaaaaaaaaaaaa"
	authorizerB = "wxbbbbbbbbbbbbbbbb"
	direct      = "wxdddddddddddddddd"
	secretOfD   = "dddddddddddddddddddddddddddddddd"
)

// newSim makes a simulator without latency.
func newSim(t *testing.T, change ...func(*Knobs)) *Server {
	t.Helper()
	return newSimWith(t, Options{}, change...)
}

func newSimWith(t *testing.T, o Options, change ...func(*Knobs)) *Server {
	t.Helper()
	k := DefaultKnobs()
	k.TokenLatency = 0
	for _, c := range change {
		c(&k)
	}
	o.Knobs, o.Seed = &k, 1
	if o.Accounts == nil {
		o.Accounts = map[string]string{direct: secretOfD}
	}
	s := New(o)
	t.Cleanup(s.Close)
	return s
}

type answer struct {
	t      *testing.T
	status int
	header http.Header
	raw    string
	fields map[string]any
}

func (a answer) text(name string) string {
	a.t.Helper()
	v, ok := a.fields[name].(string)
	if !ok {
		a.t.Fatalf("answer has no text %q: %s", name, a.raw)
	}
	return v
}

func (a answer) number(name string) int {
	a.t.Helper()
	v, ok := a.fields[name].(float64)
	if !ok {
		a.t.Fatalf("answer has no number %q: %s", name, a.raw)
	}
	return int(v)
}

func (a answer) object(name string) answer {
	a.t.Helper()
	v, ok := a.fields[name].(map[string]any)
	if !ok {
		a.t.Fatalf("answer has no object %q: %s", name, a.raw)
	}
	a.fields = v
	return a
}

func (a answer) errcode() int {
	v, _ := a.fields["errcode"].(float64)
	return int(v)
}

func (a answer) want(errcode int) answer {
	a.t.Helper()
	if a.errcode() != errcode || a.status != http.StatusOK {
		a.t.Fatalf("status %d %s, want errcode %d", a.status, a.raw, errcode)
	}
	return a
}

// call sends a request past the network. body is nil, a string or a value for
// JSON.
func call(t *testing.T, h http.Handler, method, target string, body any) answer {
	t.Helper()
	var content io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		content = strings.NewReader(string(text))
	}
	return do(t, h, httptest.NewRequest(method, target, content))
}

func do(t *testing.T, h http.Handler, r *http.Request) answer {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	a := answer{t: t, status: w.Code, header: w.Header(), raw: w.Body.String()}
	json.Unmarshal(w.Body.Bytes(), &a.fields)
	return a
}

func fetchComponent(t *testing.T, s *Server, ticket string) answer {
	t.Helper()
	return call(t, s, "POST", pathComponentToken, object{
		"component_appid": DefaultComponentAppID, "component_appsecret": DefaultComponentAppSecret, "component_verify_ticket": ticket,
	})
}

// componentToken fetches one by a fresh ticket.
func componentToken(t *testing.T, s *Server) string {
	t.Helper()
	return fetchComponent(t, s, s.IssueTicket()).want(0).text("component_access_token")
}

func componentCall(t *testing.T, s *Server, name, token string, body object) answer {
	t.Helper()
	if body["component_appid"] == nil {
		body["component_appid"] = DefaultComponentAppID
	}
	return call(t, s, "POST", "/cgi-bin/component/"+name+"?access_token="+url.QueryEscape(token), body)
}

func refresh(t *testing.T, s *Server, token, appID, refreshToken string) answer {
	t.Helper()
	return componentCall(t, s, "api_authorizer_token", token, object{"authorizer_appid": appID, "authorizer_refresh_token": refreshToken})
}

// use calls an account's API.
func use(t *testing.T, s *Server, token string) answer {
	t.Helper()
	return call(t, s, "POST", "/wxa/msg_sec_check?access_token="+url.QueryEscape(token), `{"content":"x"}`)
}

// useComponent calls a component API.
func useComponent(t *testing.T, s *Server, token string) answer {
	t.Helper()
	return call(t, s, "GET", "/wxa/gettemplatelist?access_token="+url.QueryEscape(token), nil)
}

func plainToken(t *testing.T, s *Server) answer {
	t.Helper()
	return call(t, s, "GET", pathToken+"?grant_type=client_credential&appid="+direct+"&secret="+secretOfD, nil)
}

func stableToken(t *testing.T, s *Server, force bool) answer {
	t.Helper()
	return call(t, s, "POST", pathStableToken, object{
		"grant_type": "client_credential", "appid": direct, "secret": secretOfD, "force_refresh": force,
	})
}
