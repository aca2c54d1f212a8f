package mask

import (
	"errors"
	"strings"
	"testing"

	"lingpai/proxy/jsonedit"
)

func TestGrants(t *testing.T) {
	f := func(answer, want string) {
		t.Helper()
		got, err := Grants([]byte(answer))
		if err != nil || string(got) != want {
			t.Errorf("%s:\n%s, %v; want\n%s", answer, got, err, want)
		}
	}
	f(`{"errcode":61010,"errmsg":"code is expired"}`, `{"errcode":61010,"errmsg":"code is expired"}`)
	f(`{"authorization_info": {"authorizer_appid":"wx1", "authorizer_access_token":"AAA","expires_in":7200,
 "authorizer_refresh_token": "refreshtoken@@@x" ,"func_info":[{"funcscope_category":{"id":1}}]}}`,
		`{"authorization_info": {"authorizer_appid":"wx1", "authorizer_access_token":"lingpai-authorizer-wx1","expires_in":7200,
 "authorizer_refresh_token": "lingpai-refresh-wx1" ,"func_info":[{"funcscope_category":{"id":1}}]}}`)
	f(`{"list":[{"refresh_token":"r1","authorizer_appid":"wx1"},{"authorizer_appid":"wx2","refresh_token":""},{"authorizer_appid":"wx3","refresh_token":"r3"}]}`,
		`{"list":[{"refresh_token":"lingpai-refresh-wx1","authorizer_appid":"wx1"},{"authorizer_appid":"wx2","refresh_token":""},{"authorizer_appid":"wx3","refresh_token":"lingpai-refresh-wx3"}]}`)
	// Without an app id beside it a token is hidden all the same.
	f(`{"authorizer_access_token":"AAA"}`, `{"authorizer_access_token":"lingpai-authorizer-"}`)
	if _, err := Grants([]byte("<html>")); !errors.Is(err, jsonedit.ErrNoObject) {
		t.Errorf("no JSON: %v", err)
	}
}

func TestReport(t *testing.T) {
	const token = "57_AbCdEf-0123456789"
	for _, answer := range []string{
		`{"request":{"request_url":"access_token=` + token + `&x=1"}}`,
		`{"request":{"request_url":"/a?x=1\u0026component_access_token=` + token + `\u0026y=2"}}`,
		`{"request":{"request_body":"{\"component_appsecret\":\"` + token + `\",\"x\":1}"}}`,
		`{"request":{"response_body":"{\"authorizer_access_token\" : \"` + token + `\"}"}}`,
		`{"request":{"response_body":"{\\\"authorizer_refresh_token\\\":\\\"` + token + `\\\"}"}}`,
		`{"request":{"request_url":"/sns/jscode2session?secret=` + token + `&js_code=` + token + `"}}`,
		`{"request":{"response_body":"{\"session_key\":\"` + token + `\",\"openid\":\"o\"}"}}`,
	} {
		got := string(Report([]byte(answer)))
		if strings.Contains(got, token) || !strings.Contains(got, masked) {
			t.Errorf("%s became %s", answer, got)
		}
	}
	const harmless = `{"errcode":0,"request":{"invoke_time":1,"client_ip":"127.0.0.1","request_url":"/cgi-bin/menu/get?x=1"}}`
	if got := string(Report([]byte(harmless))); got != harmless {
		t.Errorf("%s became %s", harmless, got)
	}
}
