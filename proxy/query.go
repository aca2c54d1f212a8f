package proxy

import (
	"bytes"
	"net/url"
)

// Parameters of a query that lingpai reads.
const (
	paramAccess    = "access_token"
	paramComponent = "component_access_token"
	paramFrom      = "from_appid"
	// paramCloudbase carries the token of WeChat's cloud hosting, which is no use
	// outside of it: lingpai's takes its place.
	// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/cloudbase/wxtoken.html
	paramCloudbase = "cloudbase_access_token"
)

// querySplit is a query without what lingpai takes out of it.
type querySplit struct {
	rest []byte // what goes on, byte-exact and in its order
	any  bool   // rest holds at least one part, though perhaps an empty one
	// fromAppID is the first value of from_appid that is not empty.
	fromAppID []byte
	// token is the first value of a token parameter that is neither empty nor a
	// placeholder; placeholder the first that is one. Decoded.
	token       []byte
	placeholder []byte
	// joined is the app id behind the first TOKEN@APPID, as the cloud hosting of
	// third-party platforms takes it.
	joined []byte
}

// splitQuery takes the token parameters and from_appid out of a query, wherever
// they stand, however often, and however their names are percent-encoded. What
// remains is appended to dst. A query without them costs one pass and no
// allocation.
func splitQuery(dst, query []byte) querySplit {
	s := querySplit{rest: dst}
	for {
		part, behind, more := query, []byte(nil), false
		if i := bytes.IndexByte(query, '&'); i >= 0 {
			part, behind, more = query[:i], query[i+1:], true
		}
		if !s.take(part) {
			if s.any {
				s.rest = append(s.rest, '&')
			}
			s.any = true
			s.rest = append(s.rest, part...)
		}
		if !more {
			return s
		}
		query = behind
	}
}

// take reports whether a part is lingpai's, and notes what it says.
func (s *querySplit) take(part []byte) bool {
	name, value, _ := bytes.Cut(part, equals)
	switch string(decode(name)) {
	case paramFrom:
		if len(s.fromAppID) == 0 {
			s.fromAppID = decode(value)
		}
		return true
	case paramAccess, paramComponent:
		s.note(decode(value))
		return true
	case paramCloudbase:
		if appID := joinedAppID(decode(value)); s.joined == nil {
			s.joined = appID
		}
		return true
	}
	return false
}

func (s *querySplit) note(value []byte) {
	joined := joinedAppID(value)
	switch {
	case len(value) == 0:
	case joined != nil:
		if s.joined == nil {
			s.joined = joined
		}
	case bytes.HasPrefix(value, placeholderPrefix):
		if s.placeholder == nil {
			s.placeholder = value
		}
	case s.token == nil:
		s.token = value
	}
}

// decode undoes percent-encoding; what is malformed stays as it is.
func decode(b []byte) []byte {
	if bytes.IndexByte(b, '%') < 0 && bytes.IndexByte(b, '+') < 0 {
		return b
	}
	s, err := url.QueryUnescape(string(b))
	if err != nil {
		return b
	}
	return []byte(s)
}

// joinedAppID returns the app id of a value TOKEN@APPID, nil for any other.
// Tokens of WeChat have no @ before wx.
func joinedAppID(value []byte) []byte {
	at := bytes.LastIndexByte(value, '@')
	if at < 0 || !bytes.HasPrefix(value[at+1:], []byte("wx")) {
		return nil
	}
	return value[at+1:]
}

var equals = []byte{'='}

// placeholderPrefix begins what lingpai gives out in place of a token:
// lingpai-component-<appid>, lingpai-authorizer-<appid>, lingpai-account-<appid>,
// lingpai-refresh-<appid>.
var placeholderPrefix = []byte("lingpai-")

// placeholderAccount returns the app id of the account that a placeholder
// names; nil if it names the platform, or nothing that can be read.
func placeholderAccount(placeholder []byte) []byte {
	rest := bytes.TrimPrefix(placeholder, placeholderPrefix)
	for _, kind := range []string{"authorizer-", "account-"} {
		if len(rest) > len(kind) && string(rest[:len(kind)]) == kind {
			return rest[len(kind):]
		}
	}
	return nil
}

// userQuery appends the query of a call with a WeChat user's own token: nothing
// is taken out of it but from_appid and placeholders.
func userQuery(dst, query []byte) []byte {
	some := false
	for part := range bytes.SplitSeq(query, []byte{'&'}) {
		name, value, _ := bytes.Cut(part, equals)
		switch string(decode(name)) {
		case paramFrom:
			continue
		case paramAccess, paramComponent:
			if bytes.HasPrefix(decode(value), placeholderPrefix) {
				continue
			}
		case paramCloudbase:
			continue
		}
		if some {
			dst = append(dst, '&')
		}
		some = true
		dst = append(dst, part...)
	}
	return dst
}
