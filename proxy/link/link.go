// Package link makes the links by which the administrator of a WeChat account
// lets the platform act for it: it reads what is asked of a link, and knows the
// addresses of WeChat's login page.
package link

import (
	"bytes"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"lingpai/tokens/secret"
)

// Where WeChat's login pages are.
const (
	weChatPC     = "https://mp.weixin.qq.com"
	weChatMobile = "https://open.weixin.qq.com"
)

// Config is where links lead.
type Config struct {
	// PublicURL is where browsers reach listen.callback; "" if that is not known.
	PublicURL string
	// LoginURL is the origin of both login pages; "": WeChat's own two.
	LoginURL string
}

// Request is what is asked of a link.
type Request struct {
	RedirectURI string `json:"redirect_uri"`
	// AuthType is which kinds of accounts may authorize, one of 1 to 6 and 8; nil
	// is 3, official accounts and mini programs.
	AuthType       *int   `json:"auth_type"`
	BizAppID       string `json:"biz_appid"`
	CategoryIDList string `json:"category_id_list"`
}

// Invalid is an error of a Request. Its text says what to send, and may be shown.
type Invalid string

// Error implements error.
func (i Invalid) Error() string { return string(i) }

// What can be wrong with a Request.
const (
	ErrBody     = Invalid("the body must be a JSON object with redirect_uri, auth_type (a number), biz_appid, category_id_list, all of them optional")
	ErrRedirect = Invalid("redirect_uri must be a whole https address on the domain registered with WeChat (or set callback.public_url)")
	ErrAuthType = Invalid("auth_type must be 1 (official accounts), 2 (mini programs), 3 (both), 4, 5, 6 (all) or 8")
	ErrBizAppID = Invalid("biz_appid must be the app id of the one account that may authorize")
	ErrCategory = Invalid("category_id_list must be ids of permission sets, joined by |, at most 100")
)

var (
	authTypes  = []int{1, 2, 3, 4, 5, 6, 8}
	bizAppID   = regexp.MustCompile(`^[0-9A-Za-z_-]+$`) // counted apart: a count in the pattern is memory
	categories = regexp.MustCompile(`^[0-9]{1,9}(\|[0-9]{1,9})*$`)
)

const (
	maxBizAppID   = 64
	maxCategories = 100
)

// Check returns what is wrong with a Request, an Invalid, but for its
// RedirectURI; nil if nothing is.
func (r Request) Check() error {
	switch {
	case r.AuthType != nil && !slices.Contains(authTypes, *r.AuthType):
		return ErrAuthType
	case r.BizAppID != "" && (len(r.BizAppID) > maxBizAppID || !bizAppID.MatchString(r.BizAppID)):
		return ErrBizAppID
	case r.CategoryIDList != "" && (strings.Count(r.CategoryIDList, "|") >= maxCategories || !categories.MatchString(r.CategoryIDList)):
		return ErrCategory
	}
	return nil
}

// Read reads and checks the body of a request for a link: a JSON object, or
// nothing. A link without redirect_uri leads back to listen.callback. The error
// is an Invalid.
func (c Config) Read(body []byte) (r Request, err error) {
	if len(bytes.TrimSpace(body)) > 0 {
		decoder := json.NewDecoder(bytes.NewReader(body))
		decoder.DisallowUnknownFields()
		if !json.Valid(body) || decoder.Decode(&r) != nil {
			return Request{}, ErrBody
		}
	}
	if r.RedirectURI == "" && c.PublicURL != "" {
		r.RedirectURI = strings.TrimRight(c.PublicURL, "/") + "/authorize/done"
	}
	if u, err := url.Parse(r.RedirectURI); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return Request{}, ErrRedirect
	}
	if err := r.Check(); err != nil {
		return Request{}, err
	}
	return r, nil
}

// URLs are the addresses of WeChat's login page for the visitor that a
// pre_auth_code is for: to scan on a PC, and to open in WeChat. component is the
// platform's app id.
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/Authorization_Process_Technical_Description.html
func (c Config) URLs(component string, preAuthCode secret.String, r Request) (pc, mobile string) {
	authType := 3
	if r.AuthType != nil {
		authType = *r.AuthType
	}
	var query strings.Builder
	add := func(name, value string) {
		if value != "" {
			query.WriteString("&" + name + "=" + url.QueryEscape(value))
		}
	}
	add("component_appid", component)
	add("pre_auth_code", preAuthCode.Reveal())
	add("redirect_uri", r.RedirectURI)
	add("auth_type", strconv.Itoa(authType))
	add("biz_appid", r.BizAppID)
	add("category_id_list", r.CategoryIDList)
	onPC, onMobile := weChatPC, weChatMobile
	if c.LoginURL != "" {
		onPC = strings.TrimRight(c.LoginURL, "/")
		onMobile = onPC
	}
	pc = onPC + "/cgi-bin/componentloginpage?" + query.String()[1:]
	mobile = onMobile + "/wxaopen/safe/bindcomponent?action=bindcomponent&no_scan=1" + query.String() + "#wechat_redirect"
	return pc, mobile
}

// Answer is a link as those who ask for it get it, with the pre_auth_code for one
// visitor.
type Answer struct {
	PreAuthCode string `json:"pre_auth_code"`
	ExpiresIn   int64  `json:"expires_in"` // seconds
	PC          string `json:"pc_url"`
	Mobile      string `json:"mobile_url"`
}

// Answer makes the answer to a Request.
func (c Config) Answer(component string, preAuthCode secret.String, expiresIn time.Duration, r Request) Answer {
	pc, mobile := c.URLs(component, preAuthCode, r)
	return Answer{preAuthCode.Reveal(), int64(expiresIn / time.Second), pc, mobile}
}
