package authorize

import (
	"encoding/hex"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"lingpai/tokens/secret"
)

// Results that an app is told.
const (
	resultAuthorized = "authorized"
	resultOther      = "other_account"
	resultCancelled  = "cancelled"
	resultFailed     = "failed"
)

// ownParams are what is added to a return_to, which may not bring any of them.
var ownParams = []string{"app_id", "result", "state", "timestamp", "signature"}

// maxReturnTo bounds a return_to, in bytes: it travels through WeChat's URLs.
const maxReturnTo = 1024

var errReturnURL = errors.New("must be a whole http or https URL without user, dot segments or backslashes")

// parseReturnURL reads a page of an app, or a prefix of some. What browsers and
// url.Parse read differently is refused.
func parseReturnURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Opaque != "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errReturnURL
	}
	if len(text) > maxReturnTo || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == '\\' || r == 0x7f }) {
		return nil, errReturnURL
	}
	for segment := range strings.SplitSeq(u.Path, "/") { // decoded: %2e and %2f count
		if segment == "." || segment == ".." || strings.Contains(segment, `\`) {
			return nil, errReturnURL
		}
	}
	if strings.Contains(strings.ToLower(u.EscapedPath()), "%2f") {
		return nil, errReturnURL
	}
	return u, nil
}

// canonicalHost is a host with its port, if that is not the scheme's.
func canonicalHost(u *url.URL) string {
	host := strings.ToLower(u.Host)
	if u.Scheme == "https" {
		return strings.TrimSuffix(host, ":443")
	}
	return strings.TrimSuffix(host, ":80")
}

// under reports whether a page is one of those that a prefix names.
func under(page, prefix *url.URL) bool {
	if page.Scheme != prefix.Scheme || canonicalHost(page) != canonicalHost(prefix) {
		return false
	}
	if prefix.RawQuery != "" || prefix.Fragment != "" {
		return page.String() == prefix.String()
	}
	path, begin := page.EscapedPath(), strings.TrimSuffix(prefix.EscapedPath(), "/")
	if path == prefix.EscapedPath() || begin == "" && path == "" {
		return true
	}
	return strings.HasPrefix(path, begin+"/")
}

// mayReturnTo reports whether visitors may go on to a page.
func (s *settings) mayReturnTo(text string) bool {
	page, err := parseReturnURL(text)
	if err != nil || s.ReturnSecret.Empty() {
		return false
	}
	query, err := url.ParseQuery(page.RawQuery)
	if err != nil || slices.ContainsFunc(ownParams, query.Has) {
		return false
	}
	return slices.ContainsFunc(s.returnTo, func(prefix *url.URL) bool { return under(page, prefix) })
}

// returnURL is the page of the app with a signed result; "" if the visitor is not
// to go on anywhere, or may not any more.
func (s *settings) returnURL(p passage, appID, result string, now time.Time) string {
	if p.ReturnTo == "" || !s.mayReturnTo(p.ReturnTo) {
		return ""
	}
	page, _ := url.Parse(p.ReturnTo)
	timestamp := strconv.FormatInt(now.Unix(), 10)
	added := url.Values{}
	for i, value := range []string{appID, result, p.State, timestamp, signature(s.ReturnSecret, timestamp, appID, result, p.State)} {
		added.Set(ownParams[i], value)
	}
	if page.RawQuery != "" {
		page.RawQuery += "&"
	}
	page.RawQuery += added.Encode()
	return page.String()
}

// signature proves to an app that a result is lingpai's. The values before the
// last cannot hold a line feed.
func signature(with secret.String, timestamp, appID, result, state string) string {
	return hex.EncodeToString(sign([]byte(with.Reveal()), timestamp+"\n"+appID+"\n"+result+"\n"+state))
}
