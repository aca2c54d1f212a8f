package authorize

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"lingpai/proxy/link"
)

// maxState bounds an app's state, in bytes.
const maxState = 512

// request is what an app asks of a visit to WeChat.
type request struct {
	Type       int    `json:"t"` // auth_type
	BizAppID   string `json:"b,omitempty"`
	Categories string `json:"c,omitempty"`
	ReturnTo   string `json:"r,omitempty"`
	State      string `json:"s,omitempty"`
}

// defaultType is the type taken if none is asked for: official accounts and mini
// programs.
const defaultType = 3

// link is the link to WeChat that a request asks for.
func (q request) link() link.Request {
	return link.Request{AuthType: &q.Type, BizAppID: q.BizAppID, CategoryIDList: q.Categories}
}

// readRequest reads the query of Path. fault is the page that says what is wrong.
func readRequest(s *settings, query url.Values) (q request, fault page) {
	q = request{
		Type:       defaultType,
		BizAppID:   query.Get("biz_appid"),
		Categories: query.Get("category_id_list"),
		ReturnTo:   query.Get("return_to"),
		State:      query.Get("state"),
	}
	if text := query.Get("type"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || text != strconv.Itoa(n) {
			return q, pageBadLink
		}
		q.Type = n
	}
	switch {
	case q.link().Check() != nil,
		len(q.State) > maxState || !utf8.ValidString(q.State) || strings.ContainsFunc(q.State, unicode.IsControl):
		return q, pageBadLink
	case q.ReturnTo != "" && !s.mayReturnTo(q.ReturnTo):
		return q, pageBadReturn
	}
	return q, ""
}

// fields are the query that asks for the same again.
func (q request) fields() []field {
	var out []field
	add := func(name, value string) {
		if value != "" {
			out = append(out, field{name, value})
		}
	}
	if q.Type != 0 && q.Type != defaultType {
		add("type", strconv.Itoa(q.Type))
	}
	add("biz_appid", q.BizAppID)
	add("category_id_list", q.Categories)
	add("return_to", q.ReturnTo)
	add("state", q.State)
	return out
}

// again is the address of the page that begins the same visit anew.
func (s *settings) again(q request) string {
	query := url.Values{}
	for _, f := range q.fields() {
		query.Set(f.Name, f.Value)
	}
	if len(query) == 0 {
		return s.base + Path
	}
	return s.base + Path + "?" + query.Encode()
}

// isPrefetch reports whether nobody looks at the answer yet, and perhaps never
// will.
func isPrefetch(r *http.Request) bool {
	for _, name := range []string{"Sec-Purpose", "Purpose", "X-Purpose", "X-Moz"} {
		value := strings.ToLower(r.Header.Get(name))
		if strings.Contains(value, "prefetch") || strings.Contains(value, "prerender") || strings.Contains(value, "preview") {
			return true
		}
	}
	return false
}

// saysHow reports whether a browser says how the answer will be used.
func saysHow(r *http.Request) bool { return r.Header.Get("Sec-Fetch-Mode") != "" }

// isNavigation reports whether a browser that says how the answer will be used
// says that it is for a tab of its own.
func isNavigation(r *http.Request) bool {
	dest := r.Header.Get("Sec-Fetch-Dest")
	return r.Header.Get("Sec-Fetch-Mode") == "navigate" && (dest == "document" || dest == "")
}

// wantsCode reports whether a human is about to see the page, so that it needs a
// code: see the package's comment.
func (s *settings) wantsCode(r *http.Request) bool {
	if r.Method != http.MethodGet || isPrefetch(r) {
		return false
	}
	if saysHow(r) {
		return isNavigation(r)
	}
	referer, err := url.Parse(r.Referer())
	return err == nil && r.URL.Query().Get("go") == "1" && canonicalHost(referer) == s.host
}

// onPhone reports whether a visitor has a phone in hand, and whether the browser
// is WeChat's. WeChat on a PC is a PC.
func onPhone(r *http.Request) (phone, inWeChat bool) {
	agent := r.UserAgent()
	inWeChat = strings.Contains(agent, "MicroMessenger")
	if strings.Contains(agent, "WindowsWechat") || strings.Contains(agent, "MacWechat") {
		return false, inWeChat
	}
	switch r.Header.Get("Sec-CH-UA-Mobile") {
	case "?1":
		return true, inWeChat
	case "?0":
		return false, inWeChat
	}
	for _, word := range []string{"iPhone", "iPad", "iPod", "Android", "Mobile", "HarmonyOS", "OpenHarmony"} {
		if strings.Contains(agent, word) {
			return true, inWeChat
		}
	}
	return false, inWeChat
}
