package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// startCaddy runs Caddy with one token for all.
func startCaddy(ctx context.Context, s *site, u upstream, dir string) (string, *child, error) {
	address, err := freePort()
	if err != nil {
		return "", nil, err
	}
	secure := ""
	if u.tls {
		secure = fmt.Sprintf("tls\n      tls_trusted_ca_certs %s\n      tls_server_name localhost", u.root)
	}
	config := fmt.Sprintf(`{
  admin off
  auto_https off
  storage file_system %s/data
  log {
    level ERROR
  }
}
http://%s {
  rewrite * {path}?{query}&access_token=%s
  reverse_proxy %s://%s {
    header_up -X-Wechat-Appid
    header_up Host {upstream_hostport}
    transport http {
      versions 1.1
      compression off
      keepalive 15s
      keepalive_idle_conns 4096
      keepalive_idle_conns_per_host 4096
      %s
    }
  }
}
`, dir, address, tokenOf(appID(0)), u.scheme(), u.address, secure)
	file := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return "", nil, err
	}
	return launch(ctx, s, "caddy", address, "env", "XDG_CONFIG_HOME="+dir, "caddy", "run", "--adapter", "caddyfile", "--config", file)
}
