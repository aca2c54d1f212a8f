package wechat

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"lingpai/tokens/secret"
)

const tokenValue = "72_component-token/with+signs@@@and-more"

// answering is a client whose every call gets this answer.
func answering(status int, body string, header ...string) *Client {
	return NewClient(roundTripper(func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		w.WriteString(body)
		response := w.Result()
		response.Request = r
		return response, nil
	}), "https://api.weixin.qq.com", time.Second)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestAnswersOfATokenCall(t *testing.T) {
	const forTen = 10 * 365 * 24 * time.Hour
	for _, c := range []struct {
		rule, body string
		expires    time.Duration // 0: an error
		code       int           // of it; 0: a TransportError
	}{
		{"as documented", `{"component_access_token":"v","expires_in":7200}`, 2 * time.Hour, 0},
		{"errcode 0 and ok", `{"errcode":0,"errmsg":"ok","component_access_token":"v","expires_in":7200}`, 2 * time.Hour, 0},
		{"errcode 0 as string", `{"errcode":"0","component_access_token":"v","expires_in":"7200"}`, 2 * time.Hour, 0},
		{"errcode null", `{"errcode":null,"component_access_token":"v","expires_in":7200}`, 2 * time.Hour, 0},
		{"space around", " \r\n{\"component_access_token\":\"v\",\"expires_in\":7200}\n", 2 * time.Hour, 0},
		{"a float", `{"component_access_token":"v","expires_in":7.2e3}`, 2 * time.Hour, 0},
		{"huge", `{"component_access_token":"v","expires_in":9223372036854775807}`, forTen, 0},
		{"too large for 64 bits", `{"component_access_token":"v","expires_in":99999999999999999999999}`, forTen, 0},
		{"errcode as number", `{"errcode":40125,"errmsg":"invalid appsecret"}`, 0, 40125},
		{"errcode as string", `{"errcode":"40125","errmsg":"invalid appsecret"}`, 0, 40125},
		{"errcode -1", `{"errcode":-1}`, 0, -1},
		{"an errcode wins over a token", `{"errcode":-1,"component_access_token":"v","expires_in":7200}`, 0, -1},
		{"no token", `{"errcode":0,"errmsg":"ok"}`, 0, 0},
		{"empty token", `{"component_access_token":"","expires_in":7200}`, 0, 0},
		{"no lifetime", `{"component_access_token":"v"}`, 0, 0},
		{"lifetime 0", `{"component_access_token":"v","expires_in":0}`, 0, 0},
		{"negative", `{"component_access_token":"v","expires_in":-7200}`, 0, 0},
		{"too negative", `{"component_access_token":"v","expires_in":-99999999999999999999999}`, 0, 0},
		{"no number", `{"component_access_token":"v","expires_in":"soon"}`, 0, 0},
		{"token of another type", `{"component_access_token":{},"expires_in":7200}`, 0, 0},
		{"empty", ``, 0, 0},
		{"null", `null`, 0, 0},
		{"array", `[]`, 0, 0},
		{"string", `"ok"`, 0, 0},
		{"HTML", `<html>login</html>`, 0, 0},
		{"cut", `{"component_access_token":"v","expires`, 0, 0},
		{"two objects", `{"component_access_token":"v","expires_in":7200}{}`, 0, 0},
		{"too long", `{"component_access_token":"v","expires_in":7200,"x":"` + strings.Repeat("x", maxAnswer) + `"}`, 0, 0},
	} {
		got, err := answering(200, c.body).ComponentToken(t.Context(), "wx", secret.New("s"), secret.New("t"))
		e, isError := errors.AsType[*Error](err)
		_, isTransport := errors.AsType[*TransportError](err)
		switch {
		case c.expires > 0 && (err != nil || got.Value.Reveal() != "v" || got.ExpiresIn != c.expires):
			t.Errorf("%s: %v %v", c.rule, got, err)
		case c.expires == 0 && c.code != 0 && (!isError || e.Code != c.code):
			t.Errorf("%s: %v", c.rule, err)
		case c.expires == 0 && c.code == 0 && !isTransport:
			t.Errorf("%s: %v %v", c.rule, got, err)
		}
	}
	for _, status := range []int{201, 204, 302, 400, 412, 500, 502} {
		_, err := answering(status, `{"component_access_token":"v","expires_in":7200}`).ComponentToken(t.Context(), "wx", secret.New("s"), secret.New("t"))
		if _, ok := errors.AsType[*TransportError](err); !ok {
			t.Errorf("HTTP %d: %v", status, err)
		}
	}
}

// What an exchange brings is kept, whatever is missing: the code is spent.
func TestExchangeKeepsWhatCame(t *testing.T) {
	const open = `{"authorization_info":{"authorizer_appid":"wxa"`
	for _, c := range []struct {
		rule, body     string
		token, refresh string
		scopes         int
	}{
		{"all", open + `,"authorizer_access_token":"a","expires_in":7200,"authorizer_refresh_token":"r","func_info":[{"funcscope_category":{"id":1}},{"funcscope_category":{"id":2,"name":"x"},"confirm_info":{}}]}}`, "a", "r", 2},
		{"no API permission", open + `,"func_info":[]}}`, "", "", 0},
		{"no access token", open + `,"authorizer_refresh_token":"r"}}`, "", "r", 0},
		{"no lifetime", open + `,"authorizer_access_token":"a","authorizer_refresh_token":"r"}}`, "", "r", 0},
		{"func_info of another form", open + `,"authorizer_access_token":"a","expires_in":"7200","authorizer_refresh_token":"r","func_info":{"1":2}}}`, "a", "r", 0},
		{"func_info null", open + `,"authorizer_access_token":"a","expires_in":7200,"authorizer_refresh_token":"","func_info":null}}`, "a", "", 0},
	} {
		got, err := answering(200, c.body).QueryAuth(t.Context(), secret.New("t"), "wxc", secret.New("code"))
		if err != nil || got.AppID != "wxa" || got.AccessToken.Value.Reveal() != c.token || got.RefreshToken.Reveal() != c.refresh || len(got.Scopes) != c.scopes {
			t.Errorf("%s: %+v %v", c.rule, got, err)
		}
	}
	for _, body := range []string{`{}`, `{"authorization_info":null}`, `{"authorization_info":{}}`, `{"authorization_info":[]}`} {
		if _, err := answering(200, body).QueryAuth(t.Context(), secret.New("t"), "wxc", secret.New("code")); !errors.Is(err, ErrBrokenAnswer) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestOtherCalls(t *testing.T) {
	ctx, s := t.Context(), secret.New("secret-value")
	if m, err := answering(200, `{"errcode":0,"errmsg":"in a normal state"}`).StartPushTicket(ctx, "wx", s); m != "in a normal state" || err != nil {
		t.Error(m, err)
	}
	if err := answering(200, `{"errcode":48006,"errmsg":"no"}`).ClearQuota(ctx, "wx", s); err == nil {
		t.Error("no error")
	}
	if err := answering(200, `null`).ClearQuota(ctx, "wx", s); !errors.Is(err, ErrBrokenAnswer) {
		t.Error(err)
	}
	if got, err := answering(200, `{"access_token":"v","expires_in":300}`).StableToken(ctx, "wx", s, true); err != nil || got.ExpiresIn != 5*time.Minute {
		t.Error(got, err)
	}
	got, err := answering(200, `{"authorizer_access_token":"v","expires_in":300,"authorizer_refresh_token":"n"}`).AuthorizerToken(ctx, s, "wxc", "wxa", s)
	if err != nil || got.RefreshToken.Reveal() != "n" || got.AppID != "wxa" || got.Scopes != nil {
		t.Error(got, err)
	}
}

// No error of any call shows what was sent.
func TestErrorsHoldNoSecret(t *testing.T) {
	escaped := url.QueryEscape(tokenValue)
	failing := func(err error) *Client {
		return NewClient(roundTripper(func(*http.Request) (*http.Response, error) { return nil, err }), "https://api.weixin.qq.com", time.Second)
	}
	for name, client := range map[string]*Client{
		"repeated":          answering(200, `{"errcode":40001,"errmsg":"bad `+tokenValue+` and refresh-token-value"}`),
		"repeated, escaped": answering(200, `{"errcode":40001,"errmsg":"bad `+escaped+`"}`),
		"long":              answering(200, `{"errcode":40001,"errmsg":"`+strings.Repeat("令", 200)+tokenValue+`"}`),
		"cut":               failing(errors.New("cut")),
		"timeout":           failing(context.DeadlineExceeded),
		"in the cause":      failing(fmt.Errorf("proxy refuses %s", tokenValue)),
		"broken":            answering(200, tokenValue),
		"status":            answering(500, tokenValue),
		"redirect":          answering(302, "", "Location", "http://elsewhere/?component_access_token="+escaped),
		"broken redirect":   answering(302, "", "Location", "http://else where/%zz?component_access_token="+escaped),
		"no URL":            NewClient(http.DefaultTransport, "https://%zz", time.Second),
		"no scheme":         NewClient(http.DefaultTransport, "api.weixin.qq.com", time.Second),
	} {
		_, err := client.AuthorizerToken(t.Context(), secret.New(tokenValue), "wxc", "wxa", secret.New("refresh-token-value"))
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for ; err != nil; err = errors.Unwrap(err) {
			for _, s := range []string{tokenValue, escaped, "refresh-token-value"} {
				if strings.Contains(fmt.Sprintf("%v %+v", err, err), s) {
					t.Errorf("%s: %v shows %s", name, err, s)
				}
			}
			if len(err.Error()) > maxMessage+100 {
				t.Errorf("%s: %d bytes", name, len(err.Error()))
			}
		}
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	calls := 0
	client := NewClient(roundTripper(func(r *http.Request) (*http.Response, error) {
		calls++
		w := httptest.NewRecorder()
		w.Header().Set("Location", "https://elsewhere.example/")
		w.WriteHeader(http.StatusTemporaryRedirect)
		return w.Result(), nil
	}), "https://api.weixin.qq.com", time.Second)
	if _, err := client.ComponentToken(t.Context(), "wx", secret.New("s"), secret.New("t")); err == nil || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

func TestRequestForm(t *testing.T) {
	client := NewClient(roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.ContentLength <= 0 || len(r.TransferEncoding) > 0 {
			t.Error("chunked: WeChat answers 412")
		}
		if got := r.URL.Query(); len(got) != 1 || got.Get("component_access_token") != tokenValue {
			t.Errorf("query %v", got)
		}
		w := httptest.NewRecorder()
		w.WriteString(`{}`)
		return w.Result(), nil
	}), "https://api.weixin.qq.com", time.Second)
	client.QueryAuth(t.Context(), secret.New(tokenValue), "wxc", secret.New("code"))
}

// The errcodes of the protocol's table that are not the caller's own affair.
func TestClasses(t *testing.T) {
	want := map[Class][]int{
		ClassBadToken:      {40001, 40014, 42001, 42006, 40094},
		ClassBusy:          {-1},
		ClassDailyQuota:    {45009},
		ClassMinuteQuota:   {45011},
		ClassOperator:      {40013, 40125, 41002, 41004, 41018, 40164, 45035, 61004, 40243, 48004, 50002, 61000, 61001, 61002, 61011, 61024, 61028, 61029},
		ClassTicket:        {40091, 61005, 61006},
		ClassNotAuthorized: {61003},
		ClassRefreshToken:  {61023},
		ClassCode:          {61009, 61010},
		ClassOther: {0, 41001, 42002, 42007, 40002, 40029, 40163, 40170, 40234, 87009, 43001, 43002, 43003, 44002, 47001, 48001, 48002,
			48006, 48017, 61007, 61008, 61012, 61013, 61014, 61015, 61016, 61017, 61018, 61019, 61020, 61021, 61022, 61025, 61026, 61027, 61030, 86000, 12345},
	}
	for class, codes := range want {
		for _, code := range codes {
			if got := (&Error{Code: code}).Class(); got != class {
				t.Errorf("%d is of class %d, want %d", code, got, class)
			}
			if BadToken(code) != (class == ClassBadToken) {
				t.Errorf("BadToken(%d)", code)
			}
		}
	}
}

func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"access_token":"v","expires_in":7200}`, `{"errcode":"40001","errmsg":"x"}`, `{"errcode":1e99}`, `{"expires_in":"-9e99"}`, `{"errcode":"NaN"}`, `[`, `"`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		got, err := answering(200, body).StableToken(t.Context(), "wx", secret.New("secret-of-the-account"), false)
		if err == nil && (got.Value.Empty() || got.ExpiresIn <= 0 || got.ExpiresIn > maxSeconds*time.Second) {
			t.Errorf("%q gave %v", body, got)
		}
		if err != nil && strings.Contains(err.Error(), "secret-of-the-account") {
			t.Errorf("%q: %v", body, err)
		}
	})
}

func TestAnswersWithAPreAuthCode(t *testing.T) {
	for _, c := range []struct {
		rule, body string
		expires    time.Duration // 0: an error
	}{
		{"as documented", `{"pre_auth_code":"preauthcode@@@v","expires_in":1800}`, 30 * time.Minute},
		{"strings", `{"errcode":"0","pre_auth_code":"preauthcode@@@v","expires_in":"600"}`, 10 * time.Minute},
		{"no code", `{"expires_in":1800}`, 0},
		{"no lifetime", `{"pre_auth_code":"preauthcode@@@v"}`, 0},
		{"an errcode", `{"errcode":45009,"errmsg":"reach max api daily quota limit"}`, 0},
	} {
		code, expires, err := answering(200, c.body).PreAuthCode(t.Context(), secret.New(tokenValue), "wx")
		if c.expires == 0 && (err == nil || !code.Empty()) || c.expires > 0 && (err != nil || code.Reveal() != "preauthcode@@@v") || expires != c.expires {
			t.Errorf("%s: %v %v", c.rule, expires, err)
		}
		if err != nil && strings.Contains(err.Error(), tokenValue) {
			t.Errorf("%s: the token is in %v", c.rule, err)
		}
	}
}

func TestAuthorizerInfo(t *testing.T) {
	for _, c := range []struct {
		rule, body, name string
		scopes           int // -1: an error
	}{
		{"as documented", `{"authorizer_info":{"nick_name":"花店"},"authorization_info":{"authorizer_appid":"wxa","func_info":[{"funcscope_category":{"id":1}}]}}`, "花店", 1},
		{"no name", `{"authorizer_info":{},"authorization_info":{"authorizer_appid":"wxa"}}`, "", 0},
		{"an errcode", `{"errcode":61003}`, "", -1},
		{"name of another type", `{"authorizer_info":{"nick_name":{}}}`, "", -1},
	} {
		info, name, err := answering(200, c.body).AuthorizerInfo(t.Context(), secret.New(tokenValue), "wx", "wxa")
		if (err != nil) != (c.scopes < 0) || name != c.name || err == nil && (info.AppID != "wxa" || len(info.Scopes) != c.scopes) {
			t.Errorf("%s: %q %+v %v", c.rule, name, info.Scopes, err)
		}
	}
}
