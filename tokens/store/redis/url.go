package redis

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

type mode int

const (
	single mode = iota
	sentinel
	cluster
)

// target is what a URL says. It is kept from being printed as a whole.
type target struct {
	mode       mode
	network    string // tcp or unix
	tls        bool
	addrs      []string
	user       string
	password   string
	database   int
	master     string
	caFile     string
	serverName string

	sentinelUser, sentinelPassword string
}

// String names the addresses only.
func (t *target) String() string { return strings.Join(t.addrs, ", ") }

// Format keeps every verb from the password.
func (t *target) Format(f fmt.State, _ rune) { fmt.Fprint(f, t.String()) }

// mask takes the passwords out of a text that came from elsewhere.
func (t *target) mask(text string) string {
	for _, password := range []string{t.password, t.sentinelPassword} {
		if password != "" {
			text = strings.ReplaceAll(text, password, "[redacted]")
		}
	}
	return text
}

var schemes = map[string]mode{"redis": single, "redis-sentinel": sentinel, "redis-cluster": cluster}

// parseURL reads Options.URL. Not net/url.Parse: it refuses a list of hosts and
// quotes the URL in its errors. None of the errors here quotes a value.
func parseURL(raw string) (*target, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return nil, errors.New("it has no scheme: write redis://host:6379")
	}
	rest, query, _ := strings.Cut(rest, "?")
	t := &target{network: "tcp"}
	if scheme == "unix" {
		t.network = "unix"
		return t, t.parseSocket(rest, query)
	}
	scheme = strings.ReplaceAll(scheme, "+", "-")
	if after, ok := strings.CutPrefix(scheme, "rediss"); ok {
		t.tls = true
		scheme = "redis" + after
	}
	if t.mode, ok = schemes[scheme]; !ok {
		return nil, errors.New("its scheme is none of redis, rediss, redis+sentinel, rediss+sentinel, redis+cluster, rediss+cluster, unix")
	}
	authority, path, _ := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		if err := t.parseUser(authority[:at]); err != nil {
			return nil, err
		}
		authority = authority[at+1:]
	}
	for _, host := range strings.Split(authority, ",") {
		if err := t.addAddr(host); err != nil {
			return nil, err
		}
	}
	if err := t.parseQuery(query); err != nil {
		return nil, err
	}
	if err := t.parsePath(path); err != nil {
		return nil, err
	}
	return t, t.check()
}

func (t *target) parseSocket(path, query string) error {
	if at := strings.LastIndexByte(path, '@'); at >= 0 {
		if err := t.parseUser(path[:at]); err != nil {
			return err
		}
		path = path[at+1:]
	}
	if !strings.HasPrefix(path, "/") {
		return errors.New("the path of the socket must be absolute: unix:///path")
	}
	t.addrs = []string{path}
	if err := t.parseQuery(query); err != nil {
		return err
	}
	return t.check()
}

func (t *target) parseUser(userinfo string) error {
	user, password, ok := strings.Cut(userinfo, ":")
	if !ok {
		return errors.New("it has a user without password: write user:password@, or :password@ without user")
	}
	var err, err2 error
	t.user, err = url.PathUnescape(user)
	t.password, err2 = url.PathUnescape(password)
	if err != nil || err2 != nil {
		return errors.New("user or password has a % that is no escape: write %25 for it")
	}
	if t.password == "" {
		return errors.New("its password is empty")
	}
	return nil
}

// addAddr adds host[:port].
func (t *target) addAddr(hostport string) error {
	port := "6379"
	if t.mode == sentinel {
		port = "26379"
	}
	host := hostport
	if i := strings.LastIndexByte(hostport, ':'); i > strings.LastIndexByte(hostport, ']') {
		host, port = hostport[:i], hostport[i+1:]
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errors.New("a port in it is no number from 1 to 65535")
	}
	if host == "" {
		return errors.New("it names no host")
	}
	if strings.ContainsAny(host, " @[]/\\#") || strings.Contains(host, ":") && net.ParseIP(host) == nil {
		return errors.New("a host in it is no host; characters such as @ / ? # : in a password are written as %40 %2F %3F %23 %3A")
	}
	t.addrs = append(t.addrs, net.JoinHostPort(host, port))
	return nil
}

func (t *target) parseQuery(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("its query cannot be read")
	}
	for name, all := range values {
		value := all[len(all)-1]
		switch name {
		case "addr":
			for _, addr := range all {
				if err := t.addAddr(addr); err != nil {
					return err
				}
			}
		case "db":
			if err := t.parseDatabase(value); err != nil {
				return err
			}
		case "master", "master_set":
			t.master = value
		case "sentinel_user":
			t.sentinelUser = value
		case "sentinel_password":
			t.sentinelPassword = value
		case "ca_file":
			t.caFile = value
		case "server_name":
			t.serverName = value
		default:
			return errors.New("its query has a name that is none of addr, db, master, sentinel_user, sentinel_password, ca_file, server_name")
		}
	}
	return nil
}

// parsePath reads [master/][database].
func (t *target) parsePath(path string) error {
	path = strings.Trim(path, "/")
	if t.mode == sentinel && t.master == "" {
		t.master, path, _ = strings.Cut(path, "/")
	}
	if path == "" {
		return nil
	}
	return t.parseDatabase(path)
}

func (t *target) parseDatabase(text string) error {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return errors.New("its database is no number")
	}
	t.database = int(n)
	return nil
}

func (t *target) check() error {
	switch {
	case t.mode == single && len(t.addrs) > 1:
		return errors.New("several hosts are for redis+sentinel:// and redis+cluster://")
	case t.mode == sentinel && t.master == "":
		return errors.New("it names no master: write redis+sentinel://host:26379/master")
	case t.mode != sentinel && (t.master != "" || t.sentinelUser != "" || t.sentinelPassword != ""):
		return errors.New("a master and what begins with sentinel_ is for redis+sentinel://")
	case t.mode == cluster && t.database != 0:
		return errors.New("a cluster has no databases but 0")
	case !t.tls && (t.caFile != "" || t.serverName != ""):
		return errors.New("ca_file and server_name are for rediss://")
	}
	return nil
}
