package importer

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lingpai/internal/config"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/wechat/wechattest"
)

func TestFlags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	literal := "user:s3cretpassw0rd@tcp(db:3306)/x"
	w.hidden = append(w.hidden, "s3cretpassw0rd")
	for _, c := range []struct{ args, want string }{
		{"", "-from: write one of wxjava"},
		{"-from x", "-from: write one of wxjava"},
		{"-from wxjava", "write -redis-url"},
		{"-from wxjava -redis-url 127.0.0.1:6379", "is no URL"},
		{"-from wxjava -redis-url redis://:s3cretpassw0rd@localhost", "may hold a password"},
		{"-from wxjava -redis-url env:LINGPAI_NO_SUCH", "is not set"},
		{"-from wxjava -redis-url file:/no/such", "no such file"},
		{"-from wxjava -redis-url http://localhost:1", "is no URL of Redis"},
		{"-from wxjava -redis-url redis://a,b", "several hosts"},
		{"-from wxjava -redis-url redis+sentinel://a,b", "names no master"},
		{"-from wxjava -redis-url unix:///x -file y", "-file means nothing to -from wxjava"},
		{"-from csv", "write -file"},
		{"-from csv -file /no/such", "no such file"},
		{"-from csv -file x -redis-url unix:///x", "-redis-url means nothing"},
		{"-from csv -file x -verify all", "-verify: write info, list or none"},
		{"-from csv -file x -namespace y", "-namespace means nothing"},
		{"-from csv -file x extra", `"extra" is no flag`},
		{"-from csv -unknown", "flag provided but not defined"},
		{"-from wxcomponent", "-file DUMP.sql or -dsn"},
		{"-from wxcomponent -file x -dsn env:Y", "one of them"},
		{"-from wxcomponent -dsn " + literal, "never a literal"},
		{"-from wxcomponent -file x -time-zone Asia/Shanghai", "-time-zone: write +08:00"},
		{"-from wechat -verify none", "the accounts come from WeChat's list"},
		{"-from wechat -new-component-token", "needs -write"},
		{"-from csv -file x -write -verify none -new-component-token", "which -verify none does not"},
	} {
		r := w.want(exitUsage, strings.Fields(c.args)...)
		contains(t, r.stderr, c.want)
	}
	if r := w.want(exitOK, "-help"); !strings.Contains(r.stderr, "-new-component-token") || !strings.Contains(r.stderr, "wxcomponent") {
		t.Errorf("help:\n%s", r.stderr)
	}
	for _, c := range []struct{ name, config, want string }{
		{"no file", "", "does not exist"},
		{"no component", "accounts: [{app_id: wx00000000000000aa, app_secret: \"file:secret\"}]", "component is missing"},
		{"memory", "store: {kind: memory}", "store.kind is memory"},
	} {
		path := filepath.Join(w.dir, c.name+".yaml")
		if c.config != "" {
			text, err := os.ReadFile(w.config)
			if err != nil {
				t.Fatal(err)
			}
			if c.name == "memory" {
				c.config = strings.ReplaceAll(string(text), "store: {path: lingpai.db}", c.config)
			}
			path = w.file(c.name+".yaml", c.config)
		}
		contains(t, w.want(exitUsage, "-config", path, "-from", "wechat").stderr, c.want)
	}
}

// What cannot be right is reported by line and not written, and stops nothing.
func TestMalformedRows(t *testing.T) {
	t.Parallel()
	good := "refreshtoken@@@" + strings.Repeat("r", 43)
	lines := []string{
		"app_id,refresh_token,access_token,expires_at,authorized_at",
		shop + "," + good + ",,,",
		idle + "," + good[:30] + ",,,",
		"notanappid-but-a-secret," + good + ",,,",
		"," + good + ",,,",
		gone + ",,,,",
		"wx5555555555555555,\"" + good + "\x01\x02\",,,",
		"wx6666666666666666," + good,
		shop + "," + good + ",,,",
		"wx7777777777777777," + good + ",,tomorrow,",
		"wx8888888888888888," + good + ",,1700000000000,",
		"wx9999999999999999," + good + ",short,1700000000,",
		"wxaaaaaaaaaaaaaaaa,\"bad\"quote,,,",
		"wxbbbbbbbbbbbbbbbb," + good + ",,,2026-03-01T00:00:00Z",
	}
	w := newWorld(t)
	w.hidden = append(w.hidden, good, "notanappid", "\x01")
	path := w.file("m.csv", strings.Join(lines, "\n")+"\n")
	r := w.report(exitFailed, "-from", "csv", "-file", path, "-verify", "none", "-write")
	details := map[string]string{}
	for _, l := range r.Authorizers {
		details[l.Where] = fmt.Sprint(l.AppID, " ", l.Outcome, ": ", l.Detail, l.AccessToken)
	}
	for where, want := range map[string]string{
		"line 2":  shop + " new: ",
		"line 3":  idle + " malformed: the refresh token looks cut off (30 characters)",
		"line 4":  " malformed: its app id is none",
		"line 5":  " malformed: app_id is empty",
		"line 6":  gone + " no_refresh_token: neither the source nor WeChat gives one: the account has to authorize again",
		"line 7":  "wx5555555555555555 malformed: the refresh token is binary",
		"line 8":  " malformed: has 2 values for 5 columns",
		"line 9":  shop + " malformed: its app_id is on line 2 too",
		"line 10": "wx7777777777777777 malformed: expires_at is no time: write 2026-03-01T12:00:00+08:00 or seconds since 1970",
		"line 11": "wx8888888888888888 malformed: expires_at is too large for seconds since 1970: are these milliseconds?",
		"line 12": "wx9999999999999999 new: not taken: looks cut off (5 characters)",
		"line 13": " malformed: is no CSV: extraneous or missing \" in quoted-field",
		"line 14": "wxbbbbbbbbbbbbbbbb new: ",
	} {
		same(t, where, details[where], want)
	}
	same(t, "records", len(w.content().authorizers), 3)
	text := w.want(exitFailed, "-from", "csv", "-file", path, "-verify", "none")
	contains(t, text.stdout, "malformed", "line 4", "no refresh token")
	contains(t, text.stderr, "could not be taken over")
}

func TestFilesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.hidden = append(w.hidden, "hidden-value")
	for i, c := range []struct {
		kind, text string
		code       int
		want       string
	}{
		{"csv", "", exitUsage, "line 1: there is no header"},
		{"csv", shop + ",hidden-value\n", exitUsage, "line 1: column 1 is none of app_id"},
		{"csv", "app_id,app_id\n", exitUsage, "column app_id is there twice"},
		{"csv", "refresh_token\n", exitUsage, "no column app_id"},
		{"csv", "app_id,access_token\n", exitUsage, "no expires_at"},
		{"csv", "app_id\n", exitFailed, "nothing to take over"},
		{"json", "", exitFailed, "nothing to take over"},
		{"json", "[]", exitFailed, "nothing to take over"},
		{"json", "\n\n[{\"app_id\":\n\"hidden-value", exitFailed, "line 3"},
		{"json", "[] 1", exitFailed, "behind the array"},
		{"json", "nonsense", exitFailed, "line 1: from here on it is no JSON"},
		{"wxcomponent", "INSERT INTO `authorizers` VALUES (1);", exitFailed, "the columns of table authorizers are not known"},
		{"wxcomponent", "INSERT INTO `comm` (`key`) VALUES ('hidden-value", exitFailed, "ends in the middle"},
		{"wxcomponent", "INSERT INTO `comm` (`key`) VALUES (,);", exitFailed, "line 1: is no SQL"},
		{"wxcomponent", "SELECT 1;", exitFailed, "table authorizers, comm, wxtoken"},
	} {
		path := w.file(fmt.Sprint("f", i), c.text)
		contains(t, w.want(c.code, "-from", c.kind, "-file", path, "-verify", "none").stderr, c.want)
	}
	path := w.file("rows.json", `{"app_id":"`+shop+`","refresh_token":5}`+"\n"+`{"app_id":"`+idle+`","token":"hidden-value"}`+"\n7\n")
	r := w.want(exitFailed, "-from", "json", "-file", path, "-verify", "none")
	contains(t, r.stdout, "line 1", "field refresh_token is no text", "line 2", "a field that is none of", "line 3", "is no object")
}

// Without a valid component token nothing is verified; a new one, which ends the
// old system's, is got only if that was asked for.
func TestNewComponentToken(t *testing.T) {
	t.Parallel()
	const path = "/cgi-bin/component/api_component_token"
	w := newWorld(t)
	url := w.redis()
	w.set("wx:open:wechat_component_verify_ticket:"+platformID, w.ticket, 2147483000*time.Second)
	w.set("wx:open:wechat_component_access_token:"+platformID, w.token, left)
	w.set("wx:open:wechat_authorizer_refresh_token:"+platformID+":"+shop, w.refresh[shop], 0)
	w.wechat.RevokeToken(wechattest.KindComponent, platformID)
	w.wechat.ResetCalls()
	args := []string{"-from", "wxjava", "-redis-url", url, "-write"}
	r := w.want(exitFailed, args...)
	contains(t, r.stderr, "no component token", "-new-component-token", "-verify none")
	same(t, "calls", w.wechat.Count(path), 0)
	same(t, "records", len(w.content().authorizers), 0)

	r = w.want(exitOK, append(args, "-new-component-token")...)
	contains(t, r.stdout, "a new component token was got", "not taken: WeChat refuses it")
	same(t, "calls", w.wechat.Count(path), 1)
	got := w.content()
	same(t, "records", len(got.authorizers), 1)
	same(t, "component token", []string{got.component.Token.Value.Reveal()}, w.wechat.LiveTokens(wechattest.KindComponent, platformID))

	w.want(exitOK, append(args, "-new-component-token")...) // the store's will do now
	same(t, "calls", w.wechat.Count(path), 1)

	// And WeChat's list, which needs nothing but that.
	list := w.want(exitOK, "-from", "wechat", "-write")
	contains(t, list.stdout, "2 accounts from WeChat's list", "compared with WeChat's list of 2")
	same(t, "records", len(w.content().authorizers), 2)
}

// Where WeChat knows another refresh token, it is right, and the access token
// beside the other is not taken.
func TestWeChatKnowsBetter(t *testing.T) {
	t.Parallel()
	for _, verify := range []string{"info", "list"} {
		w := newWorld(t)
		url := w.redis()
		w.set("wx:open:wechat_component_access_token:"+platformID, w.token, left)
		set := func(appID, refresh string) {
			w.set("wx:open:wechat_authorizer_refresh_token:"+platformID+":"+appID, refresh, 0)
		}
		set(shop, w.refresh[gone])
		w.set("wx:open:wechat_authorizer_access_token:"+platformID+":"+shop, w.access, left)
		set(idle, "cut")
		w.wechat.AddAuthorizer(stranger) // its access token only
		w.set("wx:open:wechat_authorizer_access_token:"+platformID+":"+stranger, w.access, left)
		w.do("HSET", "wx:open:wechat_authorizer_access_token:"+platformID+":"+idle, "no", "string")
		r := w.report(exitOK, "-from", "wxjava", "-redis-url", url, "-verify", verify, "-write")
		got := w.content().authorizers
		same(t, "refresh token", got[shop].RefreshToken.Reveal(), w.refresh[shop])
		same(t, "refresh token", got[idle].RefreshToken.Reveal(), w.refresh[idle])
		same(t, "access token", got[shop].Token.Value.Empty(), true)
		details := fmt.Sprint(r.Authorizers)
		contains(t, details, "the source has another one", "it is of another authorization", "looks cut off (3 characters)", "the source has none", "is no string in Redis")
	}
}

// What WeChat refuses for one account is reported; what it refuses for the
// platform ends the run, and what is done is told.
func TestWeChatRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	url := w.redis()
	w.set("wx:open:wechat_component_access_token:"+platformID, w.token, left)
	for _, appID := range []string{shop, idle} {
		w.set("wx:open:wechat_authorizer_refresh_token:"+platformID+":"+appID, w.refresh[appID], 0)
	}
	const info = "/cgi-bin/component/api_get_authorizer_info"
	args := []string{"-from", "wxjava", "-redis-url", url, "-write"}
	w.wechat.AddFault(wechattest.Fault{Path: info, Kind: wechattest.FaultErrcode, Errcode: 50002, Times: 1})
	r := w.report(exitFailed, args...)
	same(t, "refused", [2]int{r.Summary[outcomeRefused], r.Summary[outcomeNew]}, [2]int{1, 1})

	w.wechat.AddFault(wechattest.Fault{Path: info, Kind: wechattest.FaultErrcode, Errcode: -1, Times: 3})
	w.want(exitOK, args...) // busy: once more
	w.wechat.AddFault(wechattest.Fault{Path: info, Kind: wechattest.FaultReset, Times: 1})
	w.want(exitOK, args...)
	w.wechat.AddFault(wechattest.Fault{Path: info, Kind: wechattest.FaultErrcode, Errcode: 45009, Times: 1})
	contains(t, w.want(exitFailed, args...).stderr, "errcode 45009")
	w.wechat.ClearFaults()
	w.wechat.AddFault(wechattest.Fault{Path: info, Kind: wechattest.FaultGarbage})
	contains(t, w.want(exitFailed, args...).stderr, "answer is not what the endpoint documents")
}

// What the store has already is kept unless the import is newer.
func TestStoreIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(store.Authorizer{AppID: shop, State: store.StateActive, RefreshToken: secret.New("another"), AuthorizedAt: time.Now(), Token: store.Token{Generation: 7}})
	path := w.file("m.csv", table(w))
	args := []string{"-from", "csv", "-file", path, "-verify", "none", "-write"}
	contains(t, w.want(exitOK, args...).stdout, "the store has another refresh token")
	same(t, "refresh token", w.content().authorizers[shop].RefreshToken.Reveal(), "another")
	w.want(exitOK, append(args, "-overwrite")...)
	got := w.content().authorizers[shop]
	same(t, "refresh token", got.RefreshToken.Reveal(), w.refresh[shop])
	same(t, "generation", got.Token.Generation, uint64(8))
}

func TestLockedStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.open()
	defer s.Close()
	r := w.want(exitFailed, "-from", "csv", "-file", w.file("m.csv", table(w)), "-verify", "none")
	contains(t, r.stderr, "in use", "stop the lingpai", "store.kind redis")
}

// Binary values are those of Redisson: the report says so, and what to do.
func TestRedissonBinary(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	url := w.redis()
	kryo := func(text string) string { return "\x03\x01\xba" + text[:len(text)-1] + string(rune(0xff)) }
	w.set("wx:open:wechat_component_access_token:"+platformID, kryo(w.token), left)
	w.set("wx:open:wechat_authorizer_refresh_token:"+platformID+":"+shop, kryo(w.refresh[shop]), 0)
	r := w.want(exitFailed, "-from", "wxjava", "-redis-url", url, "-verify", "none", "-write")
	contains(t, r.stdout, "is binary", "Redisson", "StringCodec", "-from csv")
	same(t, "records", len(w.content().authorizers), 0)
}

// A wrong prefix is not success, and the right one is told.
func TestPrefixHint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	url := w.redis()
	w.set("shop1:wechat_authorizer_refresh_token:"+platformID+":"+shop, w.refresh[shop], 0)
	r := w.want(exitFailed, "-from", "wxjava", "-redis-url", url, "-verify", "none")
	contains(t, r.stderr, "nothing to take over", `write -prefix "shop1:"`)
	r = w.want(exitFailed, "-from", "silenceper", "-redis-url", url, "-verify", "none")
	contains(t, r.stderr, "database number")
	r = w.want(exitFailed, "-from", "senparc", "-redis-url", url, "-verify", "none")
	contains(t, r.stderr, "-namespace")
	for _, namespace := range []string{"One", "Two"} {
		w.set("Senparc:"+namespace+senparcContainer+"AuthorizerBag:"+shop, "{}", 0)
	}
	r = w.want(exitUsage, "-from", "senparc", "-redis-url", url, "-verify", "none")
	contains(t, r.stderr, "Senparc:One, Senparc:Two", "-namespace")
}

// A password is needed and stays hidden.
func TestRedisPassword(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const password, wrong = "p4ss@word/1", "wr0ng-passw0rd"
	w.hidden = append(w.hidden, password, "p4ss%40word%2F1", wrong)
	url := w.redis("--requirepass", password)
	right := "file:" + w.file("url", strings.Replace(url, "unix://", "unix://:p4ss%40word%2F1@", 1)+"\n")
	bad := "file:" + w.file("bad", strings.Replace(url, "unix://", "unix://:"+wrong+"@", 1))
	contains(t, w.want(exitFailed, "-from", "wxjava", "-redis-url", right, "-verify", "none").stderr, "nothing to take over")
	contains(t, w.want(exitFailed, "-from", "wxjava", "-redis-url", bad, "-verify", "none").stderr, "WRONGPASS")
	contains(t, w.want(exitFailed, "-from", "wxjava", "-redis-url", url, "-verify", "none").stderr, "NOAUTH")
	contains(t, w.want(exitFailed, "-from", "wxjava", "-redis-url", "unix:///no/such", "-verify", "none").stderr, "connect to Redis at /no/such")
}

// Not to be in a list that was not read to its end proves nothing: WeChat is
// asked about that account.
func TestIncompleteList(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	conf, _ := config.Load(w.config, nil)
	v, err := newVerifier(conf)
	if err != nil {
		t.Fatal(err)
	}
	defer v.close()
	if err := v.choose(t.Context(), secret.New("dead"), secret.New(w.token)); err != nil {
		t.Fatal(err)
	}
	same(t, "refused", v.refused, map[string]bool{"dead": true})
	v.list = map[string]listed{shop: {secret.New(w.refresh[shop]), 1_700_000_000}}
	for _, complete := range []bool{false, true} {
		v.complete = complete
		var rows []*candidate
		for _, appID := range []string{shop, idle, gone} {
			rows = append(rows, check(row{appID: appID}, time.Now()))
		}
		if err := v.verify(t.Context(), rows); err != nil {
			t.Fatal(err)
		}
		want := outcome("")
		if complete {
			want = outcomeUnauthorized
		}
		same(t, "outcomes", []outcome{rows[0].outcome, rows[1].outcome, rows[2].outcome}, []outcome{"", want, outcomeUnauthorized})
		same(t, "authorized at", rows[0].authorizedAt, time.Unix(1_700_000_000, 0))
	}
}

func TestRedisURL(t *testing.T) {
	t.Parallel()
	f := func(url, addresses, master string, database int, single, tls bool) {
		t.Helper()
		option, _, err := redisOption(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			return
		}
		got := []any{strings.Join(option.InitAddress, " "), option.Sentinel.MasterSet, option.SelectDB, option.ForceSingleClient, option.TLSConfig != nil}
		same(t, url, got, []any{addresses, master, database, single, tls})
	}
	f("redis://db/3", "db:6379", "", 3, true, false)
	f("rediss://user:p%40w@db:1", "db:1", "", 0, true, true)
	f("unix:///run/redis.sock?db=2", "/run/redis.sock", "", 2, true, false)
	f("redis+cluster://a,b:7001", "a:6379 b:7001", "", 0, false, false)
	f("rediss-sentinel://:p@a,b:7001/main/4", "a:26379 b:7001", "main", 4, false, true)
	for _, bad := range []string{"", "redis", "http://a", "redis://a/x", "redis://a,b", "redis+sentinel://a", "redis://a?%", "redis:///0", "redis://:p@/0", "redis+cluster://a,", "redis://a?db=x"} {
		if _, _, err := redisOption(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
