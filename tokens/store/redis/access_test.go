package redis

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/store/redis/redistest"
	"lingpai/tokens/store/storetest"
)

func TestPassword(t *testing.T) {
	srv := redistest.Start(t, "--requirepass", "r1ght-pa55")
	sock := srv.Socket()
	s := openStore(t, "unix://:r1ght-pa55@"+sock, "p:")
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	for name, url := range map[string]string{
		"wrong password": "unix://:wr0ng-pa55@" + sock,
		"wrong user":     "unix://nobody:r1ght-pa55@" + sock,
		"no password":    "unix://" + sock,
	} {
		_, err := Open(t.Context(), Options{URL: secret.New(url)})
		if err == nil || strings.Contains(err.Error(), "pa55") {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		if !regexp.MustCompile("WRONGPASS|NOAUTH").MatchString(err.Error()) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// rightsOf are those of the package comment for a user.
func rightsOf(t *testing.T, user string) string {
	t.Helper()
	source, err := os.ReadFile("redis.go")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(source), "//\tACL SETUSER "+user+" on >PASSWORD ")
	text, _, found2 := strings.Cut(text, "\n//\n")
	if !found || !found2 {
		t.Fatal("the package comment has no ACL line")
	}
	return strings.Join(strings.Fields(strings.ReplaceAll(text, "//", "")), " ")
}

// What the package comment says is enough.
func TestMinimalRights(t *testing.T) {
	srv := redistest.Start(t)
	acl := rightsOf(t, "lingpai")
	srv.Must("ACL SETUSER lingpai on >pa55w0rd " + acl)
	url := "unix://lingpai:pa55w0rd@" + srv.Socket()
	var log bytes.Buffer
	withLog := func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) }
	t.Run("every method", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) (store.Store, func() store.Store) {
			prefix := "lingpai:" + t.Name() + ":"
			again := func() store.Store { return openStore(t, url, prefix) }
			return again(), again
		})
	})
	t.Run("beside another", func(t *testing.T) {
		storetest.RunShared(t, func(t *testing.T) (a, b store.Shared) {
			prefix := "lingpai:" + t.Name() + ":"
			return openStore(t, url, prefix), openStore(t, url, prefix)
		})
	})
	s := openStore(t, url, "lingpai:", withLog)
	if err := s.ForgetKeys(t.Context()); err != nil {
		t.Error(err)
	}
	if strings.Contains(log.String(), "could not be checked") {
		t.Error(log.String())
	}
	if _, err := Open(t.Context(), Options{URL: secret.New(url), KeyPrefix: "other:"}); err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("a foreign prefix: %v", err)
	}

	// Without +config|get it works as well, and says what it could not check.
	srv.Must("ACL SETUSER lingpai -config|get")
	log.Reset()
	openStore(t, url, "lingpai:", withLog)
	if !strings.Contains(log.String(), "could not be checked") {
		t.Errorf("logged %q", log.String())
	}
	if strings.Contains(log.String(), "pa55") {
		t.Error(log.String())
	}
}

func TestSettingsAreChecked(t *testing.T) {
	f := func(want []string, args ...string) {
		t.Helper()
		srv := redistest.Start(t, args...)
		var log bytes.Buffer
		openStore(t, srv.URL(), "", func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		if got := strings.Count(log.String(), "level=WARN"); got != len(want) {
			t.Errorf("%q: %d warnings, want %d: %s", args, got, len(want), log.String())
		}
		for _, text := range want {
			if !strings.Contains(log.String(), text) {
				t.Errorf("%q: no %q in %s", args, text, log.String())
			}
		}
	}
	f(nil, "--appendonly", "yes", "--appendfsync", "always")
	f([]string{"setting=appendfsync value=everysec want=always"}, "--appendonly", "yes", "--appendfsync", "everysec")
	f([]string{"setting=appendonly value=no want=yes", "setting=maxmemory-policy value=allkeys-lru want=noeviction"}, "--maxmemory-policy", "allkeys-lru")
}

// No error may carry what a server quotes of a command.
func TestErrorsQuoteNoCommand(t *testing.T) {
	srv := redistest.Start(t, "--rename-command", "EVALSHA", "", "--rename-command", "EVAL", "")
	s, err := Open(t.Context(), Options{URL: secret.New(srv.URL())})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.UpdateAuthorizer(t.Context(), "wx1", func(a *store.Authorizer) error {
		a.RefreshToken = secret.New("r3fresh")
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "unknown command") || strings.Contains(err.Error(), "args") || strings.Contains(err.Error(), s.keys.prefix) {
		t.Errorf("got %v", err)
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	roots := certificate(t, dir)
	port := redistest.FreePort(t)
	srv := redistest.Start(t, "--tls-port", port, "--bind", "127.0.0.1", "--requirepass", "pa55w0rd",
		"--tls-cert-file", filepath.Join(dir, "cert.pem"), "--tls-key-file", filepath.Join(dir, "key.pem"),
		"--tls-ca-cert-file", filepath.Join(dir, "cert.pem"), "--tls-auth-clients", "no")
	_ = srv
	url := "rediss://:pa55w0rd@127.0.0.1:" + port
	for name, s := range map[string]*Store{
		"RootCAs": openStore(t, url, "a:", func(o *Options) { o.RootCAs = roots }),
		"ca_file": openStore(t, url+"?ca_file="+filepath.Join(dir, "cert.pem"), "a:"),
	} {
		seen := watch(t, s)
		if _, err := s.UpdateAuthorizer(t.Context(), "wx1", increment); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		seen.cancel()
	}
	f := func(name, url string, opts Options) {
		t.Helper()
		opts.URL, opts.DialTimeout = secret.New(url), time.Second
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := Open(ctx, opts)
		if err == nil || strings.Contains(err.Error(), "pa55") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	f("unknown roots", url, Options{})
	f("another name", url+"?server_name=other.example", Options{RootCAs: roots})
	f("no TLS", "redis://:pa55w0rd@127.0.0.1:"+port, Options{})
	f("no file", url+"?ca_file="+filepath.Join(dir, "none.pem"), Options{})
	f("no certificate", url+"?ca_file="+filepath.Join(dir, "key.pem"), Options{})
}

// certificate writes cert.pem and key.pem for 127.0.0.1.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyBytes, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyBytes})
	err = errors.Join(
		os.WriteFile(filepath.Join(dir, "cert.pem"), certPEM, 0o600),
		os.WriteFile(filepath.Join(dir, "key.pem"), keyPEM, 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	return roots
}
