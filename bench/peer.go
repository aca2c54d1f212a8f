package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// upstream is the stub as one peer sees it.
type upstream struct {
	address string // host:port
	tls     bool
	root    string // file in PEM
	apps    int
	counts  string // host:port at which the stub tells what it counts
}

func (u upstream) scheme() string {
	if u.tls {
		return "https"
	}
	return "http"
}

// running is a peer that runs. Of direct, there is no process.
type running struct {
	peer    peer
	address string
	process *child
}

func (r *running) pid() int {
	if r.process == nil {
		return 0
	}
	return r.process.cmd.Process.Pid
}

// peer is what can stand between an app and the upstream.
type peer struct {
	name       string
	title      string
	fixedToken bool // one token for all calls, else one by app id
	// missing says why the peer cannot run here, nil if it can.
	missing func() error
	// start runs it, with a folder of its own.
	start func(ctx context.Context, s *site, u upstream, dir string) (address string, process *child, err error)
	// version says what runs; nil if this repository's go.mod does.
	version func() string
}

// site is what peers need of a run.
type site struct {
	lingpai string   // the built program
	prefix  []string // before each peer's command
	workers int      // processes or threads of peers that want a number
}

// allPeers are the names that -peers knows, in the order of a run.
var allPeers = []string{"direct", "lingpai", "nginx", "nginx-lua", "haproxy", "fasthttp", "reverseproxy", "caddy"}

var peers = map[string]peer{
	"direct": {
		name: "direct", title: "direct (no proxy)",
		start: func(_ context.Context, _ *site, u upstream, _ string) (string, *child, error) {
			return u.address, nil, nil
		},
	},
	"lingpai": {name: "lingpai", title: "lingpai", start: startLingpai},
	"nginx": {
		name: "nginx", title: "nginx, one fixed token", fixedToken: true, missing: nginxMissing, version: nginxVersion,
		start: func(ctx context.Context, s *site, u upstream, dir string) (string, *child, error) {
			return startNginx(ctx, s, u, dir, false)
		},
	},
	"nginx-lua": {
		name: "nginx-lua", title: "nginx with Lua, token by app id", missing: luaMissing, version: nginxVersion,
		start: func(ctx context.Context, s *site, u upstream, dir string) (string, *child, error) {
			return startNginx(ctx, s, u, dir, true)
		},
	},
	"haproxy": {
		name: "haproxy", title: "HAProxy with a map file, token by app id", start: startHAProxy,
		missing: func() error { return notFound("haproxy", "haproxy") },
		version: func() string { line, _ := output("haproxy", "-v"); return line },
	},
	"fasthttp": {
		name: "fasthttp", title: "bare fasthttp, one fixed token", fixedToken: true,
		start: func(ctx context.Context, s *site, u upstream, _ string) (string, *child, error) {
			return startGoProxy(ctx, s, u, "part-fasthttp")
		},
	},
	"reverseproxy": {
		name: "reverseproxy", title: "httputil.ReverseProxy, one fixed token", fixedToken: true,
		start: func(ctx context.Context, s *site, u upstream, _ string) (string, *child, error) {
			return startGoProxy(ctx, s, u, "part-reverseproxy")
		},
	},
	"caddy": {
		name: "caddy", title: "Caddy, one fixed token", fixedToken: true, start: startCaddy,
		missing: func() error { return notFound("caddy", "caddy") },
		version: func() string { line, _ := output("caddy", "version"); return line },
	},
}

func notFound(program, debianPackage string) error {
	if _, err := exec.LookPath(program); err != nil {
		return fmt.Errorf("%s is not installed (Debian package %s)", program, debianPackage)
	}
	return nil
}

func startGoProxy(ctx context.Context, s *site, u upstream, name string) (string, *child, error) {
	var ready goProxyReady
	process, err := part(ctx, name, s.prefix, goProxySpec{Upstream: u.address, TLS: u.tls, Root: u.root, Token: tokenOf(appID(0))}, &ready)
	return ready.Address, process, err
}

// launch starts a program of others and waits until it listens.
func launch(ctx context.Context, s *site, name, address string, command ...string) (string, *child, error) {
	process, err := spawn(name, s.prefix, nil, command...)
	if err != nil {
		return "", nil, err
	}
	if err := process.waitListening(ctx, address); err != nil {
		process.stop()
		return "", nil, err
	}
	return address, process, nil
}

// writeTokens writes a line for each app id: the format has two %s.
func writeTokens(file, format string, apps int) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	for i := range apps {
		if _, err := fmt.Fprintf(f, format, appID(i), tokenOf(appID(i))); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}

func startHAProxy(ctx context.Context, s *site, u upstream, dir string) (string, *child, error) {
	address, err := freePort()
	if err != nil {
		return "", nil, err
	}
	tokens, file := filepath.Join(dir, "tokens.map"), filepath.Join(dir, "haproxy.cfg")
	if err := writeTokens(tokens, "%s %s\n", u.apps); err != nil {
		return "", nil, err
	}
	secure := ""
	if u.tls {
		secure = " ssl verify required ca-file " + u.root + " sni str(localhost) verifyhost localhost"
	}
	config := fmt.Sprintf(`global
  nbthread %d
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 30s
  http-reuse always
frontend apps
  bind %s
  http-request set-query %%[query]&access_token=%%[req.hdr(X-Wechat-Appid),map_str(%s)]
  http-request del-header X-Wechat-Appid
  http-request set-header Host %s
  default_backend wechat
backend wechat
  server stub %s%s pool-max-conn -1
`, s.workers, address, tokens, u.address, u.address, secure)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return "", nil, err
	}
	return launch(ctx, s, "haproxy", address, "haproxy", "-db", "-q", "-f", file)
}
