package authorize

import (
	"net/url"
	"strconv"
	"strings"

	"lingpai/tokens/secret"
)

// Where WeChat's login pages are.
const (
	weChatPC     = "https://mp.weixin.qq.com"
	weChatMobile = "https://open.weixin.qq.com"
)

// login is a way to WeChat's login page for one visitor.
type login struct {
	component   string // the platform's app id
	code        secret.String
	redirectURI string
	request     request
}

// links are the addresses of WeChat's login page: with a QR code to be scanned,
// and for the WeChat app itself.
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/Authorization_Process_Technical_Description.html
func (s *settings) links(l login) (pc, mobile string) {
	var query strings.Builder
	add := func(name, value string) {
		if value != "" {
			query.WriteString("&" + name + "=" + url.QueryEscape(value))
		}
	}
	add("component_appid", l.component)
	add("pre_auth_code", l.code.Reveal())
	add("redirect_uri", l.redirectURI)
	add("auth_type", strconv.Itoa(l.request.Type))
	add("biz_appid", l.request.BizAppID)
	add("category_id_list", l.request.Categories)
	return s.pcURL + "/cgi-bin/componentloginpage?" + query.String()[1:],
		s.mobileURL + "/wxaopen/safe/bindcomponent?action=bindcomponent&no_scan=1" + query.String() + "#wechat_redirect"
}
