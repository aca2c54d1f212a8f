// Package importer is the command import: it takes over tickets, tokens and
// refresh tokens from another system, so that no account has to authorize the
// platform again.
package importer

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"lingpai/internal/config"
	"lingpai/internal/sidecar"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/store/memory"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // failed while running, or some authorizers could not be taken over
	exitUsage  = 2 // wrong flags or configuration
)

// usageError is an error that a person mends in flags or configuration.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errRows means that the report has rows that could not be taken over.
var errRows = errors.New("some authorizers could not be taken over; the report says which")

// kind is a system to take over from, and the flags that it takes.
type kind struct {
	name, about string
	flags       []string
	prefix      string // default of -prefix
}

// The kinds, as -help lists them.
var kinds = []kind{
	{"wxjava", "WxJava in Redis (Jedis, RedisTemplate, or Redisson with StringCodec)", []string{"redis-url", "prefix"}, "wx:open"},
	{"silenceper", "silenceper/wechat v2 in Redis", []string{"redis-url", "prefix"}, ""},
	{"senparc", "Senparc.Weixin in Redis, keys or hash", []string{"redis-url", "prefix", "namespace"}, ""},
	{"wechatpy", "wechatpy in Redis", []string{"redis-url", "prefix"}, "wechatpy"},
	{"fastwego", "fastwego/wxopen in Redis", []string{"redis-url", "prefix"}, ""},
	{"easywechat", "EasyWeChat 4, 5 and 6 in Redis; accounts from -file or WeChat's list", []string{"redis-url", "prefix", "file"}, ""},
	{"powerwechat", "PowerWeChat v3 in Redis; accounts from -file or WeChat's list", []string{"redis-url", "prefix", "file"}, ""},
	{"wxcomponent", "wxcloudrun-wxcomponent: a dump of its MySQL, or the server", []string{"file", "dsn", "time-zone"}, ""},
	{"csv", "a table of your own: " + strings.Join(fields, ","), []string{"file"}, ""},
	{"json", "objects with these fields, in an array or one after the other", []string{"file"}, ""},
	{"wechat", "nothing but WeChat's own list of authorizers", nil, ""},
}

// ownFlags are the flags that only some kinds take.
var ownFlags = []string{"redis-url", "prefix", "namespace", "file", "dsn", "time-zone"}

// infoUpTo is how many authorizers are verified one by one; more are compared
// with WeChat's list.
const infoUpTo = 100

// command is one run of the command.
type command struct {
	stdout, stderr io.Writer
	now            func() time.Time
	pause          time.Duration // between repeated calls; 0 is the default

	// The flags.
	kind                                                     kind
	config, redisURL, prefix, namespace, file, dsn, timeZone string
	verify                                                   string
	write, overwrite, newToken, json                         bool
	zone                                                     *time.Location

	conf     config.Config
	source   source
	verifier *verifier
	store    store.Store
	report   *report
}

// Main runs the command and returns its exit code.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := &command{stdout: stdout, stderr: stderr, now: time.Now}
	return c.main(ctx, args)
}

func (c *command) main(ctx context.Context, args []string) int {
	err := c.parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err == nil {
		err = c.run(ctx)
	}
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(c.stderr, "lingpai import: %v\n", err)
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

const about = `lingpai import takes over from another system: its ticket, its component token while
it is valid, and its accounts with their refresh tokens, so that no account has to
authorize the platform again. Without -write nothing is changed: it reads, asks
WeChat, and prints what it would do.

  lingpai import -from KIND [flags]

`

func (c *command) parse(args []string) error {
	flags := flag.NewFlagSet("lingpai import", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // main prints errors
	var from string
	flags.StringVar(&from, "from", "", "`KIND` of the system to take over from")
	flags.StringVar(&c.config, "config", "config.yaml", "the configuration `file`: it says component, upstream and store")
	flags.StringVar(&c.redisURL, "redis-url", "", "where the old system's Redis is: a `URL` without password, or env:NAME or file:/path of one")
	flags.StringVar(&c.prefix, "prefix", "", "what the old system's keys begin with (default: the SDK's, wx:open for wxjava)")
	flags.StringVar(&c.namespace, "namespace", "", "senparc: DefaultCacheNamespace (default: the one there is)")
	flags.StringVar(&c.file, "file", "", "the `file` to read; - is standard input")
	flags.StringVar(&c.dsn, "dsn", "", "wxcomponent: `env:NAME or file:/path` of user:password@tcp(host:3306)/database")
	flags.StringVar(&c.timeZone, "time-zone", "+08:00", "wxcomponent: of its DATETIME columns")
	flags.StringVar(&c.verify, "verify", "", fmt.Sprintf("how WeChat is asked about accounts before they are written: info asks about each,\n"+
		"list reads its list (500 a call), none does not ask (default: info up to %d accounts, list for more)", infoUpTo))
	flags.BoolVar(&c.write, "write", false, "write into the store; without it nothing is changed")
	flags.BoolVar(&c.overwrite, "overwrite", false, "replace what the store has also where it is no older; without it such records are kept")
	flags.BoolVar(&c.newToken, "new-component-token", false, "if no component token is valid, get one from WeChat, with -write. The token that the\n"+
		"old system uses is dead within minutes then, and the other way round when it gets its next one")
	flags.BoolVar(&c.json, "json", false, "print the report as JSON, with a line of every account")
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		c.help(flags)
		return err
	}
	if err != nil {
		return usageError{err}
	}
	if flags.NArg() > 0 {
		return usagef("%q is no flag; see lingpai import -help", flags.Arg(0))
	}
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == from })
	if i < 0 {
		var names []string
		for _, k := range kinds {
			names = append(names, k.name)
		}
		return usagef("-from: write one of %s", strings.Join(names, ", "))
	}
	c.kind = kinds[i]
	set := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { set[f.Name] = true })
	return c.checkFlags(set)
}

func (c *command) help(flags *flag.FlagSet) {
	fmt.Fprint(c.stderr, about, "Kinds:\n")
	for _, k := range kinds {
		fmt.Fprintf(c.stderr, "  %-12s %s\n", k.name, k.about)
	}
	fmt.Fprint(c.stderr, "\nFlags:\n")
	flags.SetOutput(c.stderr)
	flags.PrintDefaults()
}

func (c *command) checkFlags(set map[string]bool) error {
	for _, name := range ownFlags {
		if set[name] && !slices.Contains(c.kind.flags, name) {
			return usagef("-%s means nothing to -from %s", name, c.kind.name)
		}
	}
	if !set["prefix"] {
		c.prefix = c.kind.prefix
	}
	takes := func(name string) bool { return slices.Contains(c.kind.flags, name) }
	switch {
	case takes("redis-url") && c.redisURL == "":
		return usagef("write -redis-url: where the old system's Redis is")
	case c.kind.name == "wxcomponent" && (c.file == "") == (c.dsn == ""):
		return usagef("write -file DUMP.sql or -dsn env:NAME, one of them")
	case (c.kind.name == "csv" || c.kind.name == "json") && c.file == "":
		return usagef("write -file: the file to read")
	case !slices.Contains([]string{"", "info", "list", "none"}, c.verify):
		return usagef("-verify: write info, list or none")
	case c.usesList() && (c.verify == "none" || c.verify == "info"):
		return usagef("-verify %s: the accounts come from WeChat's list here", c.verify)
	case c.newToken && !c.write:
		return usagef("-new-component-token needs -write: a token that is not stored would be lost, and the old system's dead")
	case c.newToken && c.verify == "none":
		return usagef("-new-component-token is for verifying, which -verify none does not")
	}
	zone, err := time.Parse("-07:00", c.timeZone)
	if err != nil {
		return usagef("-time-zone: write +08:00, or +00:00 for UTC")
	}
	c.zone = zone.Location()
	return nil
}

// usesList reports whether the accounts come from WeChat's list.
func (c *command) usesList() bool {
	return c.kind.name == "wechat" || (c.kind.name == "easywechat" || c.kind.name == "powerwechat") && c.file == ""
}

func (c *command) run(ctx context.Context) (err error) {
	conf, faults := config.Load(c.config, nil)
	if err := faults.Err(); err != nil {
		return usageError{err}
	}
	c.conf = conf
	switch {
	case conf.Component == nil:
		return usagef("%s: component is missing: it says which platform is taken over", c.config)
	case conf.Store.Kind == "memory":
		return usagef("store.kind is memory: outside of the process that serves there is nothing of it")
	case conf.Store.Follower() && c.write:
		return usagef("this configuration is a follower's, which writes nothing: use that of the lingpai that does")
	}
	if c.verify != "none" {
		if c.verifier, err = newVerifier(conf); err != nil {
			return err
		}
		defer c.verifier.close()
		if c.pause > 0 {
			c.verifier.pause = c.pause
		}
	}
	if c.source, err = c.openSource(ctx); err != nil {
		return err
	}
	defer c.source.close()
	if c.store, err = c.openStore(); err != nil {
		return err
	}
	defer func() {
		if closeErr := c.store.Close(); err == nil {
			err = closeErr
		}
	}()
	c.report = newReport(c)
	err = c.takeOver(ctx)
	c.report.finish(err)
	if err != nil {
		return err
	}
	if c.report.failed() {
		return errRows
	}
	return nil
}

// openSource opens the system to take over from.
func (c *command) openSource(ctx context.Context) (source, error) {
	component := c.conf.Component.AppID
	if c.file != "" && c.file != "-" {
		if _, err := os.Stat(c.file); err != nil {
			return nil, usagef("-file %s: %w", c.file, reason(err))
		}
	}
	switch c.kind.name {
	case "csv":
		return &csvFile{c.file}, nil
	case "json":
		return &jsonFile{c.file}, nil
	case "wechat":
		return listSource{c.verifier}, nil
	case "wxcomponent":
		w := &wxcomponent{component: component, zone: c.zone}
		if c.file != "" {
			w.fill = dumpTables(func() (io.ReadCloser, error) { return openFile(c.file) })
			return w, nil
		}
		dsn, err := reference("-dsn", c.dsn)
		if err != nil {
			return nil, err
		}
		db, err := openMySQL(dsn)
		if err != nil {
			return nil, err
		}
		w.fill = liveTables(db)
		return w, nil
	}
	address, err := redisReference(c.redisURL)
	if err != nil {
		return nil, err
	}
	reader, err := openRedis(ctx, address)
	if err != nil {
		return nil, err
	}
	plainLayouts := map[string]func(prefix, component string) layout{
		"wxjava": wxJavaLayout, "silenceper": silenceperLayout, "wechatpy": wechatpyLayout, "fastwego": fastwegoLayout,
	}
	if of, ok := plainLayouts[c.kind.name]; ok {
		return &keyed{redis: reader, layout: of(c.prefix, component), prefix: c.prefix, component: component}, nil
	}
	if c.kind.name == "senparc" {
		return &senparc{redis: reader, component: component, prefix: c.prefix, namespace: c.namespace}, nil
	}
	h := &hashed{redis: reader, prefix: c.prefix, table: listSource{c.verifier}}
	if c.file != "" {
		h.table = &csvFile{c.file}
	}
	if c.kind.name == "easywechat" {
		h.layout = easyWeChatLayout(c.prefix, component, c.conf.Component.AppSecret)
	} else {
		h.layout = powerWeChatLayout(c.prefix, component, c.conf.Component.AppSecret)
	}
	return h, nil
}

// openStore opens the store of the configuration. A dry run with a bolt file
// that is not there does not make it.
func (c *command) openStore() (store.Store, error) {
	if _, err := os.Stat(c.conf.Store.Path); !c.write && c.conf.Store.Kind == "bolt" && errors.Is(err, os.ErrNotExist) {
		return memory.Open(memory.Options{}), nil
	}
	s, err := sidecar.OpenStore(c.conf.Store, nil)
	switch {
	case errors.Is(err, store.ErrLocked):
		return nil, fmt.Errorf("%w: stop the lingpai that uses it, then run this again", err)
	case errors.Is(err, store.ErrKey), errors.Is(err, sidecar.ErrConfig):
		return nil, usageError{err}
	}
	return s, err
}

// reference reads what env:NAME or file:/path names. No error repeats it: it may
// be the secret itself.
func reference(name, text string) (secret.String, error) {
	var value string
	if variable, ok := strings.CutPrefix(text, "env:"); ok {
		if value, ok = os.LookupEnv(variable); !ok {
			return secret.String{}, usagef("%s: the environment variable named there is not set", name)
		}
	} else if path, ok := strings.CutPrefix(text, "file:"); ok {
		data, err := os.ReadFile(path)
		if err != nil {
			return secret.String{}, usagef("%s: the file named there: %w", name, reason(err))
		}
		value = string(data)
	} else {
		return secret.String{}, usagef("%s: a secret is never a literal: write env:NAME or file:/path", name)
	}
	if value = strings.TrimSpace(value); value == "" {
		return secret.String{}, usagef("%s: what is referred to is empty", name)
	}
	return secret.New(value), nil
}

// redisReference also takes a URL that can hold no password.
func redisReference(text string) (secret.String, error) {
	if strings.HasPrefix(text, "env:") || strings.HasPrefix(text, "file:") {
		return reference("-redis-url", text)
	}
	if !strings.Contains(text, "://") || strings.Contains(text, "@") || strings.Contains(strings.ToLower(text), "pass") {
		return secret.String{}, usagef("-redis-url: is no URL, or may hold a password: write redis://host:6379/0 without one, else env:NAME or file:/path")
	}
	return secret.New(text), nil
}
