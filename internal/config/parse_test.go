package config

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	aesKey      = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
	otherAESKey = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefg"
	appSecret   = "5ec2e7c0ffee5ec2e7c0ffee5ec2e7c0"
	// account is the least a valid file holds, on two lines.
	account = "accounts:\n- {app_id: wxaaaa0001, app_secret: env:APP_SECRET}\n"
	// component is the same for a platform, on five lines.
	component = "component:\n  app_id: wxcccc0001\n  app_secret: env:APP_SECRET\n  token: env:TOKEN\n  encoding_aes_key: env:AES_KEY\n"
)

// storeKey is a key of store.encryption_keys.
var storeKey = base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))

// testEnv is the environment of all tests here.
func testEnv(name string) (string, bool) {
	value, ok := map[string]string{
		"APP_SECRET": appSecret,
		"TOKEN":      "message-token-5ec2e7",
		"AES_KEY":    aesKey,
		"AES_OTHER":  otherAESKey,
		"AES_SHORT":  aesKey[:42],
		"STORE_KEY":  storeKey,
		"EMPTY":      "",
		"NEWLINE":    appSecret + "\n",
		"TWO_LINES":  appSecret + "\nmore",
		"SPACE":      " " + appSecret,
		"REDIS":      "redis://:pa55w0rd@redis:6379/0",
		"HTTP":       "http://redis:6379",

		"LINGPAI_APP_SECRET":       appSecret,
		"LINGPAI_MESSAGE_TOKEN":    "message-token-5ec2e7",
		"LINGPAI_ENCODING_AES_KEY": aesKey,
		"LINGPAI_ACCOUNT_SECRET":   appSecret,
		"LINGPAI_STORE_KEY":        storeKey,
		"LINGPAI_FORWARD_SECRET":   appSecret,
	}[name]
	return value, ok
}

// file is the case's whole file.
func (c faultCase) file() string {
	if strings.Contains(c.yaml, "accounts") || strings.Contains(c.yaml, "component:") {
		return c.yaml
	}
	return account + c.yaml
}

func TestEachFault(t *testing.T) {
	for _, c := range faultCases {
		t.Run(c.name, func(t *testing.T) {
			_, faults := Parse("config.yaml", []byte(c.file()), ".", testEnv)
			if len(faults) != 1 {
				t.Fatalf("%d faults, want 1:\n%v", len(faults), faults)
			}
			fault := faults[0]
			if fault.Key != c.key || fault.Line != c.line || !strings.Contains(fault.Message, c.word) {
				t.Errorf("got  %v\nwant line %d: %s: … %s …", fault, c.line, c.key, c.word)
			}
			if fault.Column < 1 || fault.File != "config.yaml" {
				t.Errorf("column %d of file %q", fault.Column, fault.File)
			}
		})
	}
}

func TestValid(t *testing.T) {
	for _, c := range validCases {
		if _, faults := Parse("config.yaml", []byte(c.yaml), ".", testEnv); len(faults) > 0 {
			t.Errorf("%s:\n%v", c.name, faults)
		}
	}
}

// The order is that of the lines, whatever part of the program found a fault.
func TestAllFaultsAtOnce(t *testing.T) {
	const file = `listen:
  proxy: nowhere
component:
  app_id: wxcccc0001
  app_secret: literal-5ec2e7
  encoding_aes_key: env:AES_SHORT
upstream:
  timeout: 30
  timout: 30s
limits:
  max_body: 5
routes:
- {path: /a, token: app}
log: {level: loud}
`
	_, faults := Parse("config.yaml", []byte(file), ".", testEnv)
	want := `config.yaml:2:3: listen.proxy: "nowhere" is no address: write host:port such as 127.0.0.1:9060, or unix:/path
config.yaml:3:1: component.token: is missing: write env:NAME or file:/path of the message verification token (消息校验Token)
config.yaml:5:3: component.app_secret: a secret is never a literal: write env:NAME or file:/path
config.yaml:6:3: component.encoding_aes_key: EncodingAESKey must be 43 characters of a-z, A-Z, 0-9 (and + or /): copy it from WeChat's console
config.yaml:8:3: upstream.timeout: "30" has no unit: write a duration such as 30s
config.yaml:9:3: upstream.timout: no such key: did you mean upstream.timeout?
config.yaml:11:3: limits.max_body: "5" has no unit: write a size such as 512B, 16KiB or 1MiB
config.yaml:13:14: routes[0].token: "app" is unknown: write one of component, authorizer, either, user, none
config.yaml:14:7: log.level: "loud" is unknown: write one of debug, info, warn, error`
	if got := faults.Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var b strings.Builder
	Report(&b, "config.yaml", faults)
	if want := want + "\n9 faults in config.yaml\n"; b.String() != want {
		t.Errorf("report:\n%s", &b)
	}
}

// No fault shows a value that was read, nor a literal where a reference
// belongs, whichever way it is written.
func TestFaultsHoldNoSecrets(t *testing.T) {
	secrets := []string{appSecret, "5ec2e7", aesKey[:20], otherAESKey[:20], storeKey[:20], "pa55w0rd"}
	var files []string
	for _, c := range faultCases {
		files = append(files, c.file())
	}
	for _, literal := range []string{
		appSecret, strconv.Quote(appSecret), "'" + appSecret + "'", "|\n    " + appSecret, "&a " + appSecret, "!!str " + appSecret,
		"[" + appSecret + "]", "{" + appSecret + "}", "{" + appSecret + ": x}", "\"" + appSecret, "env: " + appSecret, "env:" + appSecret,
		"file:" + appSecret, "file:/no/" + appSecret, "@" + appSecret, "%" + appSecret, "\"\\q" + appSecret + "\"", "[" + appSecret, appSecret + ": a: b",
		"&" + appSecret, "*" + appSecret, "!" + appSecret, "!" + appSecret + " x", "a\n\t" + appSecret, "redis://:pa55w0rd@h", "{pa55w0rd: 1}",
	} {
		for _, key := range []string{"app_secret", "token", "encoding_aes_key", "previous_encoding_aes_key"} {
			files = append(files, "component:\n  app_id: wxcccc0001\n  "+key+": "+literal+"\n")
		}
		files = append(files,
			"store:\n  redis_url: "+literal+"\n",
			"store:\n  encryption_keys:\n  - "+literal+"\n",
			"callback:\n  forward:\n  - secret: "+literal+"\n",
			"component: {app_id: wxcccc0001, app_secret:"+literal+"}\n",
			"component:\n  app_secret:"+literal+"\n",
			"component: "+literal+"\n",
		)
	}
	for _, file := range files {
		_, faults := Parse("config.yaml", []byte(file), ".", testEnv)
		if len(faults) == 0 {
			t.Errorf("no faults in\n%s", file)
		}
		for _, secret := range secrets {
			if strings.Contains(faults.Error(), secret) {
				t.Errorf("%q is in the faults of\n%s\n%v", secret, file, faults)
			}
		}
	}
}

func TestAuthority(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "a.b-c_d.example": true, "a:9060": true, "10.0.0.1": true, "10.0.0.1:1": true, "[::1]": true, "[::1]:9060": true,
		"": false, "a:": false, "a:0": false, "a:065": false, "a:65536": false, "a b": false, "a.": false, ".a": false, "-a": false, "a..b": false,
		"::1": false, "[::1": false, "::1]": false, "[::1]:": false, "[a]": false, "[a]:80": false, "[10.0.0.1]": false, "[]": false, "a:1:2": false,
	} {
		if got := validAuthority(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"0B": 0, "512B": 512, "16KiB": 16384, "1MiB": 1048576, "2GiB": 2147483648, "1kB": 1000, "5 MB": 5000000, "1GB": 1000000000,
		"9223372036854775807B": 9223372036854775807,
		"":                     -1, "1": -1, "1k": -1, "1.5MiB": -1, "-1B": -1, "MiB": -1, "8589934592GiB": -1, "9223372036854775808B": -1, "1  B": -1,
	} {
		if got, ok := parseSize(text); got != max(want, 0) || ok != (want >= 0) {
			t.Errorf("%q: %d, %v", text, got, ok)
		}
	}
	for n, want := range map[int64]string{0: "0B", 1000: "1000B", 1024: "1KiB", 3 << 20: "3MiB", 1 << 30: "1GiB"} {
		if got := formatSize(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

// However deep and long a file is, the answer comes soon.
func TestParseIsBounded(t *testing.T) {
	for _, unit := range []string{"[", "{", "- ", "? ", "{a: ", "a: [", "a:\n", "# c\n", "x: y\n", "&a ", "*a ", "!a ", "---\n", "\"", "|\n", "[a, "} {
		start := time.Now()
		_, faults := Parse("config.yaml", []byte(strings.Repeat(unit, 32*kib/len(unit))), ".", testEnv)
		if len(faults) == 0 {
			t.Errorf("%q: no faults", unit)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%q took %v", unit, took)
		}
		t.Logf("%q: %v, %d faults", unit, time.Since(start), len(faults))
	}
}

func TestLoadFaults(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.yaml")
	_, faults := Load(missing, testEnv)
	if got := faults.Error(); got != missing+": does not exist: name the file with -config" {
		t.Error(got)
	}
	large := filepath.Join(t.TempDir(), "large.yaml")
	if err := os.WriteFile(large, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, faults = Load(large, testEnv); !strings.Contains(faults.Error(), "larger than 256KiB") {
		t.Error(faults)
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range faultCases {
		f.Add(c.file())
	}
	for _, c := range validCases {
		f.Add(c.yaml)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, file string) {
		if len(file) > 4*kib {
			return
		}
		config, faults := Parse("config.yaml", []byte(file), dir, testEnv)
		if len(faults) == 0 && config.Component == nil && len(config.Accounts) == 0 {
			t.Error("valid, with nobody to serve")
		}
		for _, fault := range faults {
			if fault.Line < 1 || fault.Column < 1 || fault.Message == "" {
				t.Errorf("%#v", fault)
			}
			for _, secret := range []string{appSecret, storeKey, "pa55w0rd@redis"} {
				if !strings.Contains(file, secret) && strings.Contains(fault.String(), secret) {
					t.Errorf("a secret in %v", fault)
				}
			}
		}
	})
}
