package e2e

import (
	"bytes"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// need skips a test that needs a program this machine does not have; in CI that
// is a failure.
func need(t *testing.T, program, how string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed: %s", program, how)
	}
	t.Skipf("%s is not installed: %s", program, how)
	return ""
}

// TestDemo runs the demo and every line it prints.
func TestDemo(t *testing.T) {
	need(t, "curl", "install curl")
	shell := need(t, "sh", "install a POSIX shell")
	log, out := &logBuffer{}, &logBuffer{}
	demo := exec.Command(binaries.race, "demo", "-proxy", "127.0.0.1:0", "-callback", "127.0.0.1:0",
		"-metrics", "127.0.0.1:0", "-admin", "127.0.0.1:0", "-simulator", "127.0.0.1:0")
	demo.Stdout, demo.Stderr = out, log
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- demo.Wait() }()
	eventually(t, 30*time.Second, "the demo prints its last line", func() bool { return strings.Contains(out.all(), "Ctrl-C") })

	lines := 0
	for line := range strings.Lines(out.all()) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "curl ") {
			continue
		}
		lines++
		printed, err := exec.Command(shell, "-c", line+" -w '\\nstatus %{http_code}'").CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", line, err, printed)
			continue
		}
		if !bytes.HasSuffix(printed, []byte("status 200")) {
			t.Errorf("%s: %s", line, printed)
		}
		body, _, _ := bytes.Cut(printed, []byte("\nstatus "))
		var answer struct{ Errcode int }
		if json.Unmarshal(body, &answer) == nil && answer.Errcode != 0 {
			t.Errorf("%s: errcode %d", line, answer.Errcode)
		}
	}
	if lines < 6 {
		t.Errorf("only %d lines to try in:\n%s", lines, out.all())
	}

	authorizeByClicking(t, out.all())

	demo.Process.Signal(syscall.SIGINT)
	select {
	case err := <-exited:
		if err != nil {
			t.Errorf("exit after ctrl-C: %v", err)
		}
	case <-time.After(30 * time.Second):
		demo.Process.Kill()
		t.Error("no exit after ctrl-C")
	}
	if log.all() != "" {
		t.Errorf("the demo complains:\n%s", log.all())
	}
}

// TestCheckNamesEveryFault gives lingpai check a file with six faults.
func TestCheckNamesEveryFault(t *testing.T) {
	file := t.TempDir() + "/config.yaml"
	text := `listen:
  proxy: 127.0.0.1:9060
  prxy: 127.0.0.1:1
component:
  app_id: wx0123456789abcdef
  app_secret: 0123456789abcdef0123456789abcdef
  token: env:LINGPAI_E2E_NOT_SET
  encoding_aes_key: env:LINGPAI_E2E_KEY
upstream:
  timeout: 30
limits:
  max_body: lots
store:
  kind: postgres
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(binaries.race, "check", "-config", file)
	command.Env = append(os.Environ(), "LINGPAI_E2E_KEY=abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG")
	out, err := command.CombinedOutput()
	exit, ok := err.(*exec.ExitError)
	if !ok || exit.ExitCode() != 2 {
		t.Errorf("exit %v, want 2", err)
	}
	for _, want := range []string{
		":3:3: listen.prxy", ":6:3: component.app_secret", ":7:3: component.token",
		":10:3: upstream.timeout", ":12:3: limits.max_body", ":14:3: store.kind", "6 faults",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "0123456789abcdef0123456789abcdef") {
		t.Errorf("a literal secret is shown:\n%s", out)
	}
}

func TestVersionAndUsage(t *testing.T) {
	f := func(wantCode int, wantOut string, args ...string) {
		t.Helper()
		out, err := exec.Command(binaries.release, args...).CombinedOutput()
		code := 0
		if exit, ok := err.(*exec.ExitError); ok {
			code = exit.ExitCode()
		}
		if code != wantCode || !strings.Contains(string(out), wantOut) {
			t.Errorf("%q: exit %d, want %d; printed %q, want %q in it", args, code, wantCode, out, wantOut)
		}
	}
	f(0, "lingpai dev commit ", "version")
	f(0, "lingpai check", "help")
	f(2, "there is no command", "frobnicate")
	f(2, "-config", "check", "-colour")
	f(2, "no-such-file.yaml", "serve", "-config", "no-such-file.yaml")
	f(2, "no-such-file.yaml", "-config", "no-such-file.yaml")
	f(2, "is no flag", "serve", "config.yaml")
	f(0, "-config", "serve", "-help")
}

// authorizeByClicking does what the demo says of its third account, as far as that
// goes without a browser.
func authorizeByClicking(t *testing.T, printed string) {
	t.Helper()
	page := regexp.MustCompile(`http://[0-9.:]+/authorize`).FindString(printed)
	call := regexp.MustCompile(`#   curl -sS -H 'X-Wechat-Appid: (\w+)' (\S+)`).FindStringSubmatch(printed)
	if page == "" || call == nil {
		t.Fatalf("no page or call in:\n%s", printed)
	}
	visit := func(method, target, referer string, form url.Values) (*http.Response, string) {
		t.Helper()
		request, err := http.NewRequest(method, target, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Referer", referer)
		request.Header.Set("Sec-Fetch-Mode", "navigate")
		request.Header.Set("Sec-Fetch-Dest", "document")
		if form != nil {
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		if response.StatusCode != 200 {
			t.Fatalf("%s: %d %s", target, response.StatusCode, body)
		}
		return response, string(body)
	}
	find := func(pattern, body string) string {
		t.Helper()
		found := regexp.MustCompile(pattern).FindStringSubmatch(body)
		if found == nil {
			t.Fatalf("no %s in %s", pattern, body)
		}
		return html.UnescapeString(found[1])
	}
	_, body := visit("GET", page, "", nil)
	link := find(`href="([^"]*componentloginpage[^"]*)"`, body)
	_, body = visit("GET", link, page, nil)
	login := find(`name="login" value="([^"]*)"`, body)
	path, _, _ := strings.Cut(link, "?")
	response, body := visit("POST", path, link, url.Values{"login": {login}, "app_id": {call[1]}, "action": {"confirm"}, "scope": {"1", "2"}})
	if !strings.HasPrefix(response.Request.URL.String(), page+"/done?") || !strings.Contains(body, call[1]) {
		t.Fatalf("%s shows\n%s", response.Request.URL.Path, body)
	}
	request, err := http.NewRequest("GET", call[2], nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Wechat-Appid", call[1])
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if said, _ := io.ReadAll(answer.Body); answer.StatusCode != 200 || !strings.Contains(string(said), `"errcode":0`) {
		t.Errorf("%d %s", answer.StatusCode, said)
	}
}
