package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lingpai/tokens/wechat/wechattest"
)

// dummy is what SDKs are given in place of a secret, a ticket, a refresh token.
const dummy = "dummy"

// Paths that bring a token. lingpai answers them itself.
const (
	pathComponentToken  = "/cgi-bin/component/api_component_token"
	pathAuthorizerToken = "/cgi-bin/component/api_authorizer_token"
	pathToken           = "/cgi-bin/token"
	pathStableToken     = "/cgi-bin/stable_token"
	pathQueryAuth       = "/cgi-bin/component/api_query_auth"
	pathAuthorizerList  = "/cgi-bin/component/api_get_authorizer_list"
)

// newlyAuthorized is the account whose code SDKs exchange.
var newlyAuthorized = appID(0xff)

// sdk is a script in the folder sdk that uses published packages as their
// documents say, and what is expected of it.
type sdk struct {
	name     string
	script   string
	packages []string // of package.json
	app      string   // the account of SDKs that know one; "": a third-party platform's
	login    bool     // the script also does what takes the account's AppSecret
	proxied  bool     // the address of WeChat is fixed, HTTPS_PROXY names lingpai
	steps    string   // that have to succeed, in this order
	// reached says how often which path may reach WeChat through lingpai. Paths
	// that are not in it must not, but for lingpai's own token calls.
	reached map[string]int
}

var sdks = []sdk{
	{
		name: "node-easywechat, platform", script: "node-easywechat-platform.js", packages: []string{"node-easywechat"},
		steps: "component_token pre_auth_link query_auth authorizer_info authorizer_list authorizer_token call post upload download " +
			"jssdk mini_program_login mini_program_code web_login error_of_wechat unknown_account authorizer_tokens_again",
		reached: map[string]int{
			"/cgi-bin/component/api_create_preauthcode": 1, "/wxa/get_category": 1, "/cgi-bin/component/api_get_authorizer_info": 1,
			"/cgi-bin/menu/get": 2, "/cgi-bin/message/custom/send": 1, "/cgi-bin/media/upload": 1, "/cgi-bin/media/get": 2,
			"/cgi-bin/ticket/getticket": 1, "/sns/component/jscode2session": 1, "/wxa/getwxacodeunlimit": 1,
			"/sns/oauth2/component/access_token": 1, "/sns/userinfo": 1,
		},
	},
	{
		name: "tnwx, platform", script: "tnwx.js", packages: []string{"@tnwx/openmp"}, proxied: true,
		steps: "component_token pre_auth_code query_auth authorizer_info authorizer_list authorizer_token call web_login",
		reached: map[string]int{
			"/cgi-bin/component/api_create_preauthcode": 1, "/cgi-bin/component/api_get_authorizer_info": 1,
			"/cgi-bin/menu/get": 1, "/sns/oauth2/component/access_token": 1,
		},
	},
	{
		name: "nest-wechat, platform and account", script: "nest-wechat.js", packages: []string{"nest-wechat"}, app: directAppID,
		steps: "start_push_ticket ticket component_token pre_auth_code query_auth authorizer_info authorizer_token call request_of_an_error " +
			"account_token jssdk web_login",
		reached: map[string]int{
			"/cgi-bin/component/api_start_push_ticket": 1, "/cgi-bin/component/api_create_preauthcode": 1,
			"/cgi-bin/component/api_get_authorizer_info": 1, "/cgi-bin/account/getaccountbasicinfo": 1, "/cgi-bin/media/get": 1,
			"/cgi-bin/openapi/rid/get": 1, "/cgi-bin/ticket/getticket": 1, "/sns/oauth2/access_token": 1, "/sns/userinfo": 1,
		},
	},
	{
		name: "node-easywechat, direct account", script: "node-easywechat-account.js", packages: []string{"node-easywechat"}, app: directAppID, login: true,
		steps: "token stable_token call upload download jssdk mini_program_code mini_program_login web_login",
		reached: map[string]int{
			"/cgi-bin/menu/get": 2, "/cgi-bin/media/upload": 1, "/cgi-bin/media/get": 1, "/cgi-bin/ticket/getticket": 1,
			"/wxa/getwxacodeunlimit": 1, "/sns/jscode2session": 1, "/sns/oauth2/access_token": 1, "/sns/userinfo": 1,
		},
	},
	{
		name: "node-easywechat, authorizer as account", script: "node-easywechat-account.js", packages: []string{"node-easywechat"}, app: appID(0),
		steps: "token stable_token call upload download jssdk mini_program_code",
		reached: map[string]int{
			"/cgi-bin/menu/get": 2, "/cgi-bin/media/upload": 1, "/cgi-bin/media/get": 1, "/cgi-bin/ticket/getticket": 1, "/wxa/getwxacodeunlimit": 1,
		},
	},
	{
		name: "co-wechat-api, direct account", script: "co-wechat-api.js", packages: []string{"co-wechat-api"}, app: directAppID, login: true,
		steps: "token call post upload download jssdk error_of_wechat mini_program_login",
		reached: map[string]int{
			"/cgi-bin/menu/get": 1, "/cgi-bin/message/custom/send": 1, "/cgi-bin/media/upload": 1, "/cgi-bin/media/get": 2,
			"/cgi-bin/ticket/getticket": 1, "/sns/jscode2session": 1,
		},
	},
	{
		name: "co-wechat-api, authorizer as account", script: "co-wechat-api.js", packages: []string{"co-wechat-api"}, app: appID(0),
		steps: "token call post upload download jssdk error_of_wechat",
		reached: map[string]int{
			"/cgi-bin/menu/get": 1, "/cgi-bin/message/custom/send": 1, "/cgi-bin/media/upload": 1, "/cgi-bin/media/get": 2,
			"/cgi-bin/ticket/getticket": 1,
		},
	},
	{
		name: "wechat-api, direct account", script: "wechat-api.js", packages: []string{"wechat-api"}, app: directAppID,
		steps: "token call post upload download jssdk callback_ip error_of_wechat",
		reached: map[string]int{
			"/cgi-bin/menu/get": 1, "/cgi-bin/message/custom/send": 2, "/cgi-bin/media/upload": 1, "/cgi-bin/media/get": 1,
			"/cgi-bin/ticket/getticket": 1, "/cgi-bin/getcallbackip": 1,
		},
	},
	{
		name: "wechat-api, authorizer as account", script: "wechat-api.js", packages: []string{"wechat-api"}, app: appID(0),
		steps: "token call post upload download jssdk callback_ip error_of_wechat",
		reached: map[string]int{
			"/cgi-bin/menu/get": 1, "/cgi-bin/message/custom/send": 2, "/cgi-bin/media/upload": 1, "/cgi-bin/media/get": 1,
			"/cgi-bin/ticket/getticket": 1, "/cgi-bin/getcallbackip": 1,
		},
	},
	{
		name: "wechat-oauth and co-wechat-oauth, direct account", script: "wechat-oauth.js",
		packages: []string{"wechat-oauth", "co-wechat-oauth"}, app: directAppID,
		steps: "web_login user mini_program_login web_login_promise",
		reached: map[string]int{
			"/sns/oauth2/access_token": 2, "/sns/userinfo": 2, "/sns/jscode2session": 1, "/sns/oauth2/refresh_token": 1,
		},
	},
}

// TestSDKs runs published SDKs with dummy secrets through the program: they
// work, no call of theirs for a token reaches WeChat, and no real token, refresh
// token, AppSecret or ticket is in anything that they receive, print or store.
// jsapi tickets, pre_auth_codes, users' tokens and session keys are what WeChat
// means for apps; they go through.
//
// Where an SDK can do without lingpai it first runs straight against the
// simulator with real secrets. That shows that its steps are right, and that a
// token would be seen if there were one.
func TestSDKs(t *testing.T) {
	scripts := installSDKs(t)
	for _, k := range sdks {
		t.Run(k.name, func(t *testing.T) {
			if k.app == "" || k.app == directAppID {
				t.Run("without lingpai", func(t *testing.T) { k.runDirectly(t, scripts) })
			}
			t.Run("with lingpai", func(t *testing.T) { k.runThrough(t, scripts) })
		})
	}
}

// everyTokenLives lets superseded tokens live on, so that LiveTokens tells all
// that were issued.
func everyTokenLives(k *wechattest.Knobs) {
	k.TokenLatency, k.AuthorizerOverlap = 0, wechattest.Duration(time.Hour)
	k.ComponentOverlap, k.AccountOverlap = k.AuthorizerOverlap, k.AuthorizerOverlap
}

func (k *sdk) runDirectly(t *testing.T, scripts string) {
	w := newWeChat(t, everyTokenLives)
	refreshToken := w.AddAuthorizer(appID(0))
	ticket := w.IssueTicket()
	authorization, err := w.Authorize(t.Context(), newlyAuthorized, wechattest.WithoutPush())
	if err != nil {
		t.Fatal(err)
	}
	w.ResetCalls()
	r := record(t, w.url)
	seen := k.run(t, scripts, r, 3, authorization.Code, wechattest.DefaultComponentAppSecret, ticket, refreshToken, directSecret)
	logCalls(t, k, scripts, r, w)
	if k.script == "wechat-oauth.js" {
		return // the tokens it gets are users'
	}
	if leaked := leaks(t, w, seen); len(leaked) == 0 {
		t.Error("no token was seen: a leak would not be, either")
	}
}

func (k *sdk) runThrough(t *testing.T, scripts string) {
	w := newWeChat(t, everyTokenLives)
	s := start(t, w, binaries.race, "")
	s.pushTicket()
	s.addAuthorizers(1)
	// lingpai spends the code of the push at once, and the SDK the same one later.
	authorization, err := w.Authorize(t.Context(), newlyAuthorized)
	if err != nil {
		t.Fatal(err)
	}
	const refreshes = 1000
	r := record(t, s.proxy)
	seen := k.run(t, scripts, r, refreshes, authorization.Code, dummy, dummy, dummy, dummy)
	logCalls(t, k, scripts, r, w)
	for _, secret := range leaks(t, w, seen) {
		t.Errorf("a secret of %d characters that begins with %.12q reached the SDK", len(secret), secret)
	}
	k.checkReached(t, w, r)
}

// directSecret is the direct account's AppSecret, as the harness gives it to
// simulator and sidecar.
const directSecret = "5ec4e70fd14ec7acc0007"

// run runs the script against what r records, checks its steps, and returns all
// that the SDK got to see or left behind.
func (k *sdk) run(t *testing.T, scripts string, r *recorder, refreshes int, code, secret, ticket, refreshToken, accountSecret string) string {
	t.Helper()
	env := map[string]string{
		"WECHAT_URL": r.url, "COMPONENT_APPID": wechattest.DefaultComponentAppID, "COMPONENT_SECRET": secret, "TICKET": ticket,
		"AUTHORIZER_APPID": appID(0), "REFRESH_TOKEN": refreshToken, "REFRESHES": fmt.Sprint(refreshes),
		"AUTH_APPID": newlyAuthorized, "AUTH_CODE": code, "APPID": k.app, "SECRET": accountSecret,
	}
	if k.login {
		env["LOGIN"] = "1"
	}
	if k.proxied {
		env["HTTPS_PROXY"] = r.url
	}
	left := runScript(t, env, strings.Fields(k.steps), "node", filepath.Join(scripts, k.script))
	return r.received() + left
}

// ownCalls is how many token calls lingpai itself may make in these tests: one
// for each credential.
var ownCalls = map[string]int{pathComponentToken: 1, pathAuthorizerToken: 1, pathStableToken: 1, pathToken: 0, pathQueryAuth: 1}

// checkReached compares the calls that reached WeChat with those that may.
func (k *sdk) checkReached(t *testing.T, w *wechat, r *recorder) {
	t.Helper()
	counts, refused := map[string]int{}, map[string]int{}
	for _, call := range w.Calls() {
		counts[call.Path]++
		switch call.Errcode {
		case 0, 40003, 40007: // an unknown user and an unknown medium, on purpose
		default:
			refused[fmt.Sprintf("%s with %d", call.Path, call.Errcode)]++
		}
	}
	for what, n := range refused {
		t.Errorf("WeChat refused %s, %d times", what, n)
	}
	made := r.count()
	for path, n := range counts {
		limit, own := ownCalls[path]
		switch {
		case own && n > limit:
			t.Errorf("%s reached WeChat %d times, want at most %d", path, n, limit)
		case path == pathAuthorizerList && n > made[path]+1: // lingpai may read it once for itself
			t.Errorf("%s reached WeChat %d times, %d were made", path, n, made[path])
		case !own && path != pathAuthorizerList && n != k.reached[path]:
			t.Errorf("%s reached WeChat %d times, want %d", path, n, k.reached[path])
		}
	}
	for path := range k.reached {
		if counts[path] == 0 {
			t.Errorf("%s did not reach WeChat", path)
		}
	}
	for _, violation := range w.Violations() {
		t.Errorf("WeChat objects: %s", violation)
	}
}

// leaks returns what must not be in an app's hands and is in text: platforms',
// authorizers' and accounts' tokens, refresh tokens, AppSecrets, tickets, keys.
func leaks(t *testing.T, w *wechat, text string) (found []string) {
	t.Helper()
	var guarded []string
	for _, of := range []struct {
		kind  wechattest.TokenKind
		appID string
	}{
		{wechattest.KindComponent, wechattest.DefaultComponentAppID}, {wechattest.KindAuthorizer, appID(0)},
		{wechattest.KindAuthorizer, newlyAuthorized}, {wechattest.KindAccount, directAppID},
	} {
		live := w.LiveTokens(of.kind, of.appID)
		if issued := w.Refreshes(of.kind, of.appID); len(live) != issued {
			t.Fatalf("%d tokens of %s were issued, %d are live", issued, of.appID, len(live))
		}
		guarded = append(guarded, live...)
	}
	guarded = append(guarded, wechattest.DefaultComponentAppSecret, wechattest.DefaultMessageToken, wechattest.DefaultEncodingAESKey, directSecret)
	for _, secret := range w.Secrets() {
		if strings.HasPrefix(secret, "refreshtoken@@@") || strings.HasPrefix(secret, "ticket@@@") {
			guarded = append(guarded, secret)
		}
	}
	for _, secret := range guarded {
		if strings.Contains(text, secret) {
			found = append(found, secret)
		}
	}
	return found
}

// logCalls prints what the SDK called and what of it reached the simulator.
func logCalls(t *testing.T, k *sdk, scripts string, r *recorder, w *wechat) {
	t.Helper()
	var versions []string
	for _, name := range k.packages {
		versions = append(versions, name+" "+packageVersion(t, scripts, name))
	}
	made := r.count()
	var text strings.Builder
	total, reached := 0, 0
	for _, path := range slices.Sorted(maps.Keys(made)) {
		total, reached = total+made[path], reached+w.Count(path)
		fmt.Fprintf(&text, "\n%6d %6d  %s", made[path], w.Count(path), path)
	}
	t.Logf("%s: %d calls made, %d calls of these paths reached WeChat\n  made reached  path%s",
		strings.Join(versions, ", "), total, reached, text.String())
}

func packageVersion(t *testing.T, scripts, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(scripts, "node_modules", filepath.FromSlash(name), "package.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct{ Version string }
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	return manifest.Version
}

// installSDKs copies the folder sdk to a temporary one, installs the packages of
// its lock file there and returns it.
func installSDKs(t *testing.T) string {
	t.Helper()
	need(t, "node", "install Node.js 20 or later, with npm")
	npm := need(t, "npm", "install Node.js 20 or later, with npm")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("sdk")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, npm, "ci")
	command.Dir = dir
	if out, err := command.CombinedOutput(); err != nil {
		unavailable(t, fmt.Sprintf("npm ci: %v: the packages of sdk/package-lock.json are needed once\n%s", err, tail(string(out))))
	}
	return dir
}

// unavailable skips a test, but not in CI: there everything has to run.
func unavailable(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// runScript runs a program in a folder of its own, with env as its environment,
// and checks that it did its steps and all of them succeeded. It returns what
// the program printed and the files it left.
func runScript(t *testing.T, env map[string]string, steps []string, program string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, program, args...)
	command.Dir = dir
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "LANG=C.UTF-8", "JAVA_HOME=" + os.Getenv("JAVA_HOME")}
	for name, value := range env {
		command.Env = append(command.Env, name+"="+value)
	}
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	var did []string
	for line := range strings.Lines(stdout.String()) {
		var step struct {
			Step, Detail string
			OK           bool
		}
		if json.Unmarshal([]byte(line), &step) != nil {
			continue // a package may print as well
		}
		did = append(did, step.Step)
		if !step.OK {
			t.Errorf("%s: %s", step.Step, step.Detail)
		}
		// Scripts tell the tokens they got only if these are lingpai's.
		if env["SECRET"] == dummy && strings.HasSuffix(step.Step, "token") && !strings.HasPrefix(step.Detail, "lingpai-") {
			t.Errorf("%s: %s", step.Step, step.Detail)
		}
	}
	if !slices.Equal(did, steps) {
		t.Errorf("steps %v, want %v", did, steps)
	}
	if err != nil {
		t.Errorf("%s %s: %v\n%s", program, strings.Join(args, " "), err, tail(stderr.String()))
	}
	return stdout.String() + stderr.String() + readAll(t, dir)
}

// readAll returns the names and the contents of all files below dir.
func readAll(t *testing.T, dir string) string {
	t.Helper()
	var text strings.Builder
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		fmt.Fprintf(&text, "%s\n%s\n", path, content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// recorder passes calls on, as they are, and keeps what the client receives.
type recorder struct {
	url   string
	mu    sync.Mutex
	seen  bytes.Buffer
	calls []string // paths
}

// record starts a recorder before the server at target.
func record(t *testing.T, target string) *recorder {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	own, to := listener.Addr().String(), strings.TrimPrefix(target, "http://")
	r := &recorder{url: "http://" + own}
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	server := &http.Server{Handler: &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			r.called(p.In)
			// Opaque keeps the request target as it came, absolute or not.
			p.Out.URL = &url.URL{Scheme: "http", Host: to, Opaque: p.In.RequestURI}
			if p.Out.Host == own {
				p.Out.Host = to
			}
		},
		ModifyResponse: func(response *http.Response) error {
			var head bytes.Buffer
			fmt.Fprintf(&head, "%s\n", response.Status)
			response.Header.Write(&head)
			r.Write(head.Bytes())
			response.Body = struct {
				io.Reader
				io.Closer
			}{io.TeeReader(response.Body, r), response.Body}
			return nil
		},
		Transport: transport,
	}}
	go server.Serve(listener)
	t.Cleanup(func() {
		server.Close()
		transport.CloseIdleConnections()
	})
	return r
}

func (r *recorder) called(request *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, request.URL.Path)
}

// Write keeps what a client receives.
func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen.Write(p)
}

func (r *recorder) received() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen.String()
}

// count returns how many calls were made, by path.
func (r *recorder) count() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts := map[string]int{}
	for _, path := range r.calls {
		counts[path]++
	}
	return counts
}
