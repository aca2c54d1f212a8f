package importer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"lingpai/tokens/secret"
)

const (
	redisTimeout = 10 * time.Second
	scanCount    = 2000
)

// redisReader reads another system's Redis. It sends SCAN, HSCAN, GET, PTTL and
// TYPE, and nothing that writes.
type redisReader struct {
	client rueidis.Client
	mask   []string // what no error may show
}

// openRedis connects to the Redis of a URL: redis://, rediss:// or unix://, or
// redis+sentinel:// and redis+cluster://, as for store.redis_url.
func openRedis(ctx context.Context, address secret.String) (*redisReader, error) {
	option, host, err := redisOption(address.Reveal())
	if err != nil {
		return nil, usagef("-redis-url: %w", err)
	}
	r := &redisReader{mask: []string{option.Password, option.Sentinel.Password}}
	type result struct {
		client rueidis.Client
		err    error
	}
	made := make(chan result, 1)
	go func() {
		client, err := rueidis.NewClient(option)
		made <- result{client, err}
	}()
	select {
	case got := <-made:
		if got.err != nil {
			return nil, fmt.Errorf("connect to Redis at %s: %w", host, r.clean(got.err))
		}
		r.client = got.client
		return r, nil
	case <-ctx.Done():
		go func() {
			if got := <-made; got.err == nil {
				got.client.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

func redisOption(text string) (option rueidis.ClientOption, host string, err error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return option, "", errNoURL
	}
	single, sentinel := true, false
	scheme = strings.ReplaceAll(scheme, "-", "+")
	for _, kind := range []string{"+sentinel", "+cluster"} {
		if base, ok := strings.CutSuffix(scheme, kind); ok {
			scheme, single, sentinel = base, false, kind == "+sentinel"
		}
	}
	// A list of hosts is no URL to the parser: the others go as parameters.
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	values, err := url.ParseQuery(query)
	if err != nil {
		return option, "", errNoURL
	}
	if scheme != "unix" {
		hosts := strings.Split(authority, ",")
		for i, host := range hosts {
			if host == "" || strings.HasSuffix(host, "@") {
				return option, "", errors.New("names no host") // the parser would take localhost
			}
			// The parser's default is the port of servers.
			if sentinel && strings.LastIndexByte(host, ':') <= max(strings.LastIndexByte(host, '@'), strings.LastIndexByte(host, ']')) {
				hosts[i] += ":26379"
			}
		}
		authority = hosts[0]
		values["addr"] = append(values["addr"], hosts[1:]...)
	}
	master := values.Get("master")
	if sentinel && master == "" {
		master, path, _ = strings.Cut(path, "/")
	}
	switch {
	case sentinel && master == "":
		return option, "", errors.New("names no master: write redis+sentinel://host:26379/master")
	case single && len(values["addr"]) > 0:
		return option, "", errors.New("has several hosts: these are for redis+sentinel:// and redis+cluster://")
	}
	caFile := values.Get("ca_file")
	if path != "" {
		path = "/" + path
	}
	option, err = rueidis.ParseURL(scheme + "://" + authority + path + "?" + url.Values{"addr": values["addr"], "db": values["db"]}.Encode())
	if err != nil || values.Has("db") && values.Get("db") == "" {
		return option, "", errNoURL
	}
	if caFile != "" && option.TLSConfig != nil {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return option, "", errors.New("ca_file cannot be read")
		}
		option.TLSConfig.RootCAs = x509.NewCertPool()
		if !option.TLSConfig.RootCAs.AppendCertsFromPEM(pem) {
			return option, "", errors.New("ca_file holds no certificate in PEM")
		}
	}
	if name := values.Get("server_name"); name != "" && option.TLSConfig != nil {
		option.TLSConfig.ServerName = name
	}
	option.ForceSingleClient = single
	if sentinel {
		option.Sentinel = rueidis.SentinelOption{
			MasterSet: master,
			Username:  values.Get("sentinel_user"),
			Password:  values.Get("sentinel_password"),
			TLSConfig: option.TLSConfig,
		}
	}
	// RESP2 and no client cache: the server may be an old one, or a proxy.
	option.AlwaysRESP2, option.DisableCache = true, true
	option.ClientSetInfo = rueidis.DisableClientSetInfo
	option.Dialer = net.Dialer{Timeout: 5 * time.Second}
	option.ConnWriteTimeout = redisTimeout
	option.PipelineMultiplex = -1
	if scheme == "unix" {
		option.DialCtxFn = func(ctx context.Context, address string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
			return d.DialContext(ctx, "unix", address)
		}
	}
	return option, strings.Join(option.InitAddress, ", "), nil
}

var errNoURL = errors.New("is no URL of Redis: write redis://host:6379/0; characters such as @ / ? # : in a password are written as %40 %2F %3F %23 %3A")

// clean keeps of an error what may be shown.
func (r *redisReader) clean(err error) error {
	if err == nil || rueidis.IsRedisNil(err) || errors.Is(err, context.Canceled) {
		return err
	}
	text, _, _ := strings.Cut(err.Error(), ", with args") // of an unknown command
	for _, secret := range r.mask {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "[redacted]")
		}
	}
	return errors.New(text)
}

func (r *redisReader) close() { r.client.Close() }

// scan calls each with the keys that match pattern. In a cluster all nodes are
// asked, replicas too, so a key may come more than once, as with SCAN itself.
func (r *redisReader) scan(ctx context.Context, pattern string, each func(key string) error) error {
	for _, node := range r.client.Nodes() {
		for cursor := uint64(0); ; {
			page, err := node.Do(ctx, node.B().Scan().Cursor(cursor).Match(pattern).Count(scanCount).Build()).AsScanEntry()
			if err != nil {
				return fmt.Errorf("redis: SCAN: %w", r.clean(err))
			}
			for _, key := range page.Elements {
				if err := each(key); err != nil {
					return err
				}
			}
			if cursor = page.Cursor; cursor == 0 {
				break
			}
		}
	}
	return nil
}

// entry is what a key holds.
type entry struct {
	raw   string
	found bool
	// until is when the key expires, or a little before; zero if it does not.
	until time.Time
	fault string
}

// value decodes what an entry holds.
func (e entry) value(decode decoder) (secret.String, string) {
	if e.fault != "" || !e.found {
		return secret.String{}, e.fault
	}
	return text(e.raw, decode)
}

// get reads keys in one pipeline. The time to live is asked before the value:
// if the value is replaced between the two, its life is told too short, never
// too long.
func (r *redisReader) get(ctx context.Context, keys ...string) ([]entry, error) {
	commands := make([]rueidis.Completed, 0, 2*len(keys))
	for _, key := range keys {
		commands = append(commands, r.client.B().Pttl().Key(key).Build(), r.client.B().Get().Key(key).Build())
	}
	asked := time.Now()
	answers := r.client.DoMulti(ctx, commands...)
	entries := make([]entry, len(keys))
	for i := range keys {
		left, err := answers[2*i].AsInt64()
		if err == nil && left >= 0 {
			entries[i].until = asked.Add(time.Duration(left) * time.Millisecond)
		}
		raw, err2 := answers[2*i+1].ToString()
		switch {
		case rueidis.IsRedisNil(err2):
			entries[i].until = time.Time{}
		case wrongType(err2):
			entries[i] = entry{found: true, fault: faultNoString}
		case err2 != nil:
			return nil, fmt.Errorf("redis: GET: %w", r.clean(err2))
		case err != nil:
			return nil, fmt.Errorf("redis: PTTL: %w", r.clean(err))
		default:
			entries[i].raw, entries[i].found = raw, true
		}
	}
	return entries, nil
}

func wrongType(err error) bool {
	answer, ok := rueidis.IsRedisErr(err)
	return ok && strings.HasPrefix(answer.Error(), "WRONGTYPE")
}

// literal quotes what SCAN would take for a pattern.
func literal(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(text)
}
