package admin

import (
	"net/url"
	"strings"
	"testing"

	"lingpai/proxy/link"
	"lingpai/tokens/wechat/wechattest"
)

func TestAuthorizationLink(t *testing.T) {
	w := newWorld(t)
	w.wrong(503, "POST", "/v1/authorization-link", "", "ticket")
	w.give()
	query := func(answer object, key, wantStart string) url.Values {
		t.Helper()
		text, _ := answer[key].(string)
		u, err := url.Parse(text)
		if err != nil || !strings.HasPrefix(text, wantStart) || u.Query().Get("pre_auth_code") != answer["pre_auth_code"] || u.Query().Get("component_appid") != component {
			t.Errorf("%s: %s, want %s…", key, text, wantStart)
		}
		return u.Query()
	}
	const pc, mobile = "https://mp.weixin.qq.com/cgi-bin/componentloginpage?", "https://open.weixin.qq.com/wxaopen/safe/bindcomponent?"
	codes := map[any]bool{}
	f := func(body, wantRedirect, wantType, wantBiz, wantCategories string) {
		t.Helper()
		answer := w.call(200, "POST", "/v1/authorization-link", body)
		if answer.keys("") != "expires_in mobile_url pc_url pre_auth_code" || codes[answer["pre_auth_code"]] || answer["expires_in"].(float64) < 60 {
			t.Errorf("%v", answer)
		}
		codes[answer["pre_auth_code"]] = true
		for _, q := range []url.Values{query(answer, "pc_url", pc), query(answer, "mobile_url", mobile)} {
			if q.Get("redirect_uri") != wantRedirect || q.Get("auth_type") != wantType || q.Get("biz_appid") != wantBiz || q.Get("category_id_list") != wantCategories {
				t.Errorf("%s: %v", body, q)
			}
		}
	}
	const done = "https://wx.example.com/authorize/done"
	f("", done, "3", "", "")
	f("{}", done, "3", "", "")
	f(`{"redirect_uri":"https://a.example/?x=1&y=2","auth_type":2,"biz_appid":"wxm","category_id_list":"1|2"}`, "https://a.example/?x=1&y=2", "2", "wxm", "1|2")

	w.wrong(400, "POST", "/v1/authorization-link", "[]", string(link.ErrBody))
	w.wrong(400, "POST", "/v1/authorization-link", `{"redirect_uri":"/done"}`, string(link.ErrRedirect))
	w.wrong(400, "POST", "/v1/authorization-link", `{"auth_type":7}`, string(link.ErrAuthType))
	w.wrong(413, "POST", "/v1/authorization-link", strings.Repeat(" ", maxBody+1), "64 KiB")
	w.sim.AddFault(wechattest.Fault{Path: codePath, Kind: wechattest.FaultErrcode, Errcode: 61004})
	w.wrong(502, "POST", "/v1/authorization-link", "", "61004")
	w.sim.ClearFaults()

	w.api.Reconfigure(link.Config{LoginURL: "http://127.0.0.1:1"})
	w.wrong(400, "POST", "/v1/authorization-link", "", "redirect_uri must be")
	answer := w.call(200, "POST", "/v1/authorization-link", redirect)
	query(answer, "pc_url", "http://127.0.0.1:1/cgi-bin/componentloginpage?")
	query(answer, "mobile_url", "http://127.0.0.1:1/wxaopen/safe/bindcomponent?")
}
