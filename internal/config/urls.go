package config

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// validateUpstream checks how WeChat is reached.
func (l *loader) validateUpstream(u *Upstream) {
	l.origin("upstream.url", u.URL)
	names := make([]string, len(u.Hosts))
	for i, host := range u.Hosts {
		names[i] = host.Name
		if host.URL != "" {
			l.origin(item("upstream.hosts", i), host.URL)
		}
	}
	l.hostNames("upstream.hosts", names)
	l.caFile("upstream.ca_file", u.CAFile)
	if u.EgressProxy != "" {
		parsed, problem := parseURL(u.EgressProxy, "http")
		if problem != "" || parsed.Port() == "" || !bare(parsed) {
			l.fault("upstream.egress_proxy", "is no proxy address: write http://host:port and nothing else")
		}
	}
	l.duration24h("upstream.connect_timeout", u.ConnectTimeout)
	l.duration24h("upstream.timeout", u.Timeout)
	l.duration24h("upstream.idle_timeout", u.IdleTimeout)
	l.numberBetween("upstream.max_connections", u.MaxConnections, 1, 1_000_000)
}

// validateCallback checks what WeChat's pushes and the authorization pages
// need.
func (l *loader) validateCallback(c *Callback) {
	if c.PublicURL != "" {
		l.publicURL("callback.public_url", c.PublicURL)
	}
	if c.LoginURL != "" {
		l.origin("callback.login_url", c.LoginURL)
	}
	for i, text := range c.TrustedProxies {
		if _, err := ParsePrefix(text); err != nil {
			l.fault(item("callback.trusted_proxies", i), "is neither an address nor a network: write 10.0.0.7 or 10.0.0.0/8")
		}
	}
	if len(c.ReturnURLs) > 0 && c.ReturnSecret.Empty() && !l.broken["callback.return_secret"] {
		l.fault("callback.return_secret", "is missing: %s of the key that signs what the pages in return_urls are called with", howToRefer)
	}
	for i, text := range c.ReturnURLs {
		key := item("callback.return_urls", i)
		parsed, problem := parseURL(text, "https", "http")
		switch {
		case problem != "":
			l.fault(key, "%s: write the beginning of the app's pages, such as https://app.example.com/", problem)
		case parsed.Fragment != "":
			l.fault(key, "has a fragment (#): write the beginning of the app's pages without it")
		}
	}
	names, replying := map[string]int{}, -1
	for i, forward := range c.Forward {
		key := item("callback.forward", i)
		if l.broken[key] {
			continue
		}
		l.validateForward(key, forward)
		if earlier, taken := names[forward.Name]; taken && forward.Name != "" {
			l.fault(key+".name", "is the same as %s.name: write another", item("callback.forward", earlier))
		} else {
			names[forward.Name] = i
		}
		switch {
		case !forward.Reply:
		case replying >= 0:
			l.fault(key+".reply", "is true in %s too: only one app can reply", item("callback.forward", replying))
		default:
			replying = i
		}
	}
}

func (l *loader) validateForward(key string, f Forward) {
	if f.Name == "" {
		l.fault(key+".name", "is missing: write a name for logs and metrics")
	}
	if f.URL == "" {
		l.fault(key+".url", "is missing: write where pushes go, such as http://app:8080/wechat")
	} else if _, problem := parseURL(f.URL, "http", "https"); problem != "" {
		l.fault(key+".url", "%s: write where pushes go, such as http://app:8080/wechat", problem)
	}
	l.required(key+".secret", f.Secret, "the key that signs what is forwarded")
	l.oneOf(key+".format", f.Format, "xml", "json")
	for _, list := range []struct {
		key    string
		values []string
		valid  func(string) bool
		what   string
	}{
		{key + ".events", f.Events, func(s string) bool { return !strings.ContainsAny(s, " ") }, "an event such as subscribe"},
		{key + ".app_ids", f.AppIDs, appIDPattern.MatchString, "an app id such as wx0123456789abcdef"},
	} {
		if len(list.values) == 0 {
			l.fault(list.key, `is empty, so nothing is ever forwarded: write "*" for all`)
		}
		for i, value := range list.values {
			if value == "" || value != "*" && !list.valid(value) {
				l.fault(item(list.key, i), `is neither "*" nor %s`, list.what)
			}
		}
	}
}

// ParsePrefix reads an address or a network.
func ParsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	return prefix.Masked(), err
}

// publicURL checks the URL at which WeChat and browsers reach us. Only for
// trying things out on one machine may it do without TLS.
func (l *loader) publicURL(key, text string) {
	const instead = "write it such as https://wx.example.com"
	parsed, problem := parseURL(text, "https", "http")
	switch {
	case problem != "":
		l.fault(key, "%s: %s", problem, instead)
	case parsed.Scheme == "http" && !loopback(parsed.Hostname()):
		l.fault(key, "is not https: %s", instead)
	case parsed.RawQuery != "" || parsed.ForceQuery || parsed.Fragment != "":
		l.fault(key, "has a query or fragment: %s", instead)
	}
}

// origin checks a URL that is a scheme and a host and no more.
func (l *loader) origin(key, text string) {
	const instead = "write it such as https://api.weixin.qq.com"
	parsed, problem := parseURL(text, "https", "http")
	switch {
	case text == "":
		l.fault(key, "is missing: %s", instead)
	case problem != "":
		l.fault(key, "%s: %s", problem, instead)
	case !bare(parsed):
		l.fault(key, "has a path, query or fragment: %s", instead)
	}
}

// parseURL parses an absolute URL with one of the schemes. The problem does not
// repeat the URL, which may hold a password.
func parseURL(text string, schemes ...string) (*url.URL, string) {
	parsed, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, "is no URL"
	case !slices.Contains(schemes, parsed.Scheme):
		return nil, "is no URL with " + strings.Join(schemes, ":// or ") + "://"
	case parsed.User != nil:
		return nil, "holds user information (before @)"
	case parsed.Host == "":
		return nil, "has no host"
	case !validAuthority(parsed.Host):
		return nil, "has a host that is none"
	}
	return parsed, ""
}

// bare reports whether a URL is a scheme and a host and at most a final slash.
func bare(u *url.URL) bool {
	return (u.Path == "" || u.Path == "/") && u.RawQuery == "" && !u.ForceQuery && u.Fragment == ""
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.IsLoopback()
}

// resolveURLs brings URLs into the form the rest of lingpai relies on: scheme
// and host in lower case, an origin or public_url without a final slash, a
// return URL with at least the slash after its host, since else
// https://app.example.com would be the beginning of
// https://app.example.com.evil.example.
func (c *Config) resolveURLs() {
	c.Upstream.URL = normalURL(c.Upstream.URL, false)
	for i := range c.Upstream.Hosts {
		c.Upstream.Hosts[i].URL = normalURL(c.Upstream.Hosts[i].URL, false)
	}
	c.Upstream.EgressProxy = normalURL(c.Upstream.EgressProxy, false)
	c.Callback.PublicURL = normalURL(c.Callback.PublicURL, false)
	for i := range c.Callback.ReturnURLs {
		c.Callback.ReturnURLs[i] = normalURL(c.Callback.ReturnURLs[i], true)
	}
}

func normalURL(text string, slash bool) string {
	parsed, err := url.Parse(text)
	if err != nil || text == "" {
		return text
	}
	parsed.Host = strings.ToLower(parsed.Host)
	if slash {
		if parsed.Path == "" {
			parsed.Path = "/"
		}
	} else {
		parsed.Path = strings.TrimRight(parsed.Path, "/")
		parsed.RawPath = strings.TrimRight(parsed.RawPath, "/")
	}
	return parsed.String()
}
