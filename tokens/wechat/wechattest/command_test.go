package wechattest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestMainRefusesFlags(t *testing.T) {
	badKnobs := filepath.Join(t.TempDir(), "knobs.json")
	os.WriteFile(badKnobs, []byte(`{"overlap":"1s"}`), 0o600)
	for _, c := range []struct {
		says string
		args []string
	}{
		{"-nonsense", []string{"-nonsense"}},
		{"unexpected argument", []string{"extra"}},
		{"component appid", []string{"-component-app-id", "x"}},
		{"EncodingAESKey", []string{"-encoding-aes-key", "x"}},
		{"appid=secret", []string{"-account", "wx"}},
		{"account appid", []string{"-account", "wx=secret"}},
		{"-authorizer", []string{"-authorizer", "x"}},
		{"-event-url", []string{"-event-url", "nowhere"}},
		{"-message-url", []string{"-message-url", "ftp://x"}},
		{"component_token_lifetime", []string{"-token-lifetime", "1ms"}},
		{"ticket_interval", []string{"-ticket-interval", "-1s"}},
		{"-tls-key", []string{"-tls-cert", "x"}},
		{"-journal", []string{"-journal", "0"}},
		{"no such file", []string{"-knobs", filepath.Join(t.TempDir(), "none")}},
		{`unknown field "overlap"`, []string{"-knobs", badKnobs}},
	} {
		var stderr bytes.Buffer
		if code := Main(t.Context(), c.args, io.Discard, &stderr); code != 2 || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%q: exit %d, says %q", c.args, code, stderr.String())
		}
	}
	if code := Main(t.Context(), []string{"-h"}, io.Discard, io.Discard); code != 0 {
		t.Errorf("-h: exit %d", code)
	}
	if code := Main(t.Context(), []string{"-listen", "256.0.0.1:0"}, io.Discard, io.Discard); code != 1 {
		t.Errorf("impossible address: exit %d", code)
	}
	if code := Main(t.Context(), []string{"-listen", "127.0.0.1:0", "-tls-cert", badKnobs, "-tls-key", badKnobs}, io.Discard, io.Discard); code != 1 {
		t.Errorf("bad certificate: exit %d", code)
	}
}

// output collects what Main prints and tells the address it listens on.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
	url  chan string
	once sync.Once
}

var listening = regexp.MustCompile(`listening on (\S+)`)

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	if m := listening.FindSubmatch(o.text.Bytes()); m != nil {
		o.once.Do(func() { o.url <- string(m[1]) })
	}
	return len(p), nil
}

// runMain starts the command on a free port.
func runMain(t *testing.T, args ...string) (url string, out *output, stop func() int) {
	t.Helper()
	out = &output{url: make(chan string, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() { code <- Main(ctx, append([]string{"-listen", "127.0.0.1:0"}, args...), out, out) }()
	select {
	case url = <-out.url:
	case c := <-code:
		t.Fatalf("exit %d: %s", c, out.text.String())
	}
	return url, out, func() int { cancel(); return <-code }
}

func TestMainServes(t *testing.T) {
	pushed := make(chan struct{}, 10)
	platform := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "success")
		pushed <- struct{}{}
	}))
	defer platform.Close()
	knobs := filepath.Join(t.TempDir(), "knobs.json")
	os.WriteFile(knobs, []byte(`{"token_latency":"0s","account_overlap":"1s"}`), 0o600)
	url, out, stop := runMain(t, "-event-url", platform.URL, "-message-url", platform.URL+"/$APPID$", "-knobs", knobs, "-seed", "5",
		"-authorizer", authorizerA, "-account", direct+"="+secretOfD, "-token-lifetime", "1m", "-ticket-interval", "1s")
	<-pushed
	<-pushed
	resp, err := http.Get(url + pathToken + "?grant_type=client_credential&appid=" + direct + "&secret=" + secretOfD)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if !strings.Contains(string(body), `"expires_in":`) {
		t.Errorf("body %s", body)
	}
	if code := stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	text := out.text.String()
	for _, want := range []string{DefaultComponentAppID, DefaultComponentAppSecret, DefaultMessageToken, DefaultEncodingAESKey,
		authorizerA, direct, secretOfD, platform.URL, ControlPrefix, "seed               5"} {
		if !strings.Contains(text, want) {
			t.Errorf("output lacks %q:\n%s", want, text)
		}
	}
}

func TestMainTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	private, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)},
		&x509.Certificate{SerialNumber: big.NewInt(1)}, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, _ := x509.MarshalPKCS8PrivateKey(private)
	os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600)
	url, _, stop := runMain(t, "-tls-cert", cert, "-tls-key", key)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get(url + ControlPrefix)
	if err != nil || resp.StatusCode != 200 || !strings.HasPrefix(url, "https://") {
		t.Errorf("%s: %v %v", url, resp, err)
	}
	resp.Body.Close()
	if code := stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
}
