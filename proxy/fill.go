package proxy

import (
	"bytes"
	"net/url"

	"lingpai/proxy/jsonedit"
	"lingpai/proxy/route"
	"lingpai/tokens/secret"
)

// Credentials are the secrets that some paths want beside or in place of a
// token.
type Credentials struct {
	ComponentAppSecret secret.String            // empty without component
	Accounts           map[string]secret.String // direct accounts: app id to AppSecret
}

var (
	componentPrefix    = []byte("/cgi-bin/component/")
	componentAppIDName = []byte(`"component_appid"`)
)

// takesSecret reports whether a call gets a secret, or brings one that has to be
// kept.
func (p *Proxy) takesSecret(s *settings, c *call, work route.Work, said *asked) bool {
	switch work {
	case route.FillAccountSecret: // others' accounts come with their own
		_, direct := s.Credentials.Accounts[accountOfSecret(c, namedAccount(said))]
		return direct
	case route.FillComponentSecret, route.FillQuotaSecret, route.FillAccountQuotaSecret, route.ExchangeCode:
		return true
	}
	return false
}

// accountOfSecret is the account whose secret a call takes.
func accountOfSecret(c *call, named []byte) string {
	if appID := paramValue(c.query.rest, "appid"); appID != "" {
		return appID
	}
	return string(named)
}

// fillQuery puts credentials into the query of a call, without disturbing
// anything else in it.
func (p *Proxy) fillQuery(s *settings, c *call, work route.Work, named []byte) {
	switch work {
	case route.FillComponentAppID:
		if key, ok := p.tokens.ComponentKey(); ok {
			c.query.fill("component_appid", key.AppID)
		}
	case route.FillAccountSecret:
		appID := accountOfSecret(c, named)
		appSecret, direct := s.Credentials.Accounts[appID]
		if !direct {
			return
		}
		c.query.fill("appid", appID)
		c.query.set("secret", appSecret.Reveal())
		c.appID = appID
	}
}

// fill adds a parameter that has no value yet.
func (s *querySplit) fill(name, value string) {
	if paramValue(s.rest, name) == "" {
		s.set(name, value)
	}
}

// set puts a parameter in the place of all of its name.
func (s *querySplit) set(name, value string) {
	s.rest = withoutParam(s.rest, name)
	s.add(name, value)
}

// add appends a parameter.
func (s *querySplit) add(name, value string) {
	if len(s.rest) > 0 {
		s.rest = append(s.rest, '&')
	}
	s.any = true
	s.rest = append(append(s.rest, name...), '=')
	s.rest = append(s.rest, url.QueryEscape(value)...)
}

// paramValue returns the first value of a parameter.
func paramValue(query []byte, name string) string {
	for part := range bytes.SplitSeq(query, []byte{'&'}) {
		n, value, _ := bytes.Cut(part, equals)
		if string(decode(n)) == name && len(value) > 0 {
			return string(decode(value))
		}
	}
	return ""
}

// withoutParam returns a query without a parameter, wherever it stands.
func withoutParam(query []byte, name string) []byte {
	kept := make([]byte, 0, len(query))
	for part := range bytes.SplitSeq(query, []byte{'&'}) {
		n, _, _ := bytes.Cut(part, equals)
		if string(decode(n)) == name {
			continue
		}
		if len(kept) > 0 {
			kept = append(kept, '&')
		}
		kept = append(kept, part...)
	}
	return kept
}

// fillBody puts credentials into the JSON body of a call; the rest of it stays
// byte-exact, and a body that is no JSON object stays as it is.
func (p *Proxy) fillBody(s *settings, c *call, work route.Work, chosen choice, named []byte) {
	if string(c.outgoing.method) != "POST" || !c.body.inMemory() {
		return
	}
	// Most calls need nothing, and pay next to nothing for that.
	body := c.body.memory
	if work == route.Forward && len(body) > 0 {
		value := memberOf(body, componentAppIDName)
		if json, _ := looksLikeJSON(body); !json || len(value) > 2 && value[0] == '"' && value[1] != '"' {
			return
		}
	}
	fields := p.fieldsToFill(s, c, work, chosen, named)
	if len(fields) == 0 {
		return
	}
	filled, err := jsonedit.Put(c.body.memory, fields...)
	if err != nil || bytes.Equal(filled, c.body.memory) {
		return
	}
	c.body.replace(filled)
	c.outgoing.forward = withoutLength(c.outgoing.forward)
}

func (p *Proxy) fieldsToFill(s *settings, c *call, work route.Work, chosen choice, named []byte) []jsonedit.Field {
	if work == route.FillAccountQuotaSecret {
		appID := stringMember(c.body.memory, "appid")
		if appID == "" {
			appID = string(named)
		}
		appSecret, direct := s.Credentials.Accounts[appID]
		if !direct {
			return nil
		}
		return []jsonedit.Field{{Name: "appid", Value: appID}, {Name: "appsecret", Value: appSecret.Reveal(), Replace: true}}
	}
	key, ok := p.tokens.ComponentKey()
	if !ok || !bytes.HasPrefix(c.outgoing.path, componentPrefix) || chosen.token != route.Component && chosen.token != route.None {
		return nil
	}
	fields := []jsonedit.Field{{Name: "component_appid", Value: key.AppID}}
	switch work {
	case route.FillComponentSecret:
		fields = append(fields, jsonedit.Field{Name: "component_secret", Value: s.Credentials.ComponentAppSecret.Reveal(), Replace: true})
	case route.FillQuotaSecret:
		fields = append(fields, jsonedit.Field{Name: "appsecret", Value: s.Credentials.ComponentAppSecret.Reveal(), Replace: true})
	}
	return fields
}

// stringMember returns a member of the object that a document is.
func stringMember(document []byte, name string) (value string) {
	jsonedit.Members(document, func(m jsonedit.Member) {
		if m.Depth == 1 && m.Name == name {
			value = m.Text
		}
	})
	return value
}

// withoutLength takes Content-Length out of header lines.
func withoutLength(lines []byte) []byte {
	kept := make([]byte, 0, len(lines))
	for line := range bytes.SplitAfterSeq(lines, []byte{'\n'}) {
		if colon := bytes.IndexByte(line, ':'); colon > 0 && classify(line[:colon]) == fieldLength {
			continue
		}
		kept = append(kept, line...)
	}
	return kept
}
