package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func nginxMissing() error { return notFound("nginx", "nginx") }

func nginxVersion() string {
	line, _ := output("nginx", "-v")
	return strings.TrimPrefix(line, "nginx version: ")
}

// luaModules are what Debian's libnginx-mod-http-lua brings.
var luaModules = []string{"ndk_http_module.so", "ngx_http_lua_module.so"}

const moduleFolder = "/usr/lib/nginx/modules"

func luaMissing() error {
	err := nginxMissing()
	for _, module := range luaModules {
		if _, fault := os.Stat(filepath.Join(moduleFolder, module)); fault != nil {
			return errors.Join(err, errors.New("nginx has no Lua (Debian package libnginx-mod-http-lua)"))
		}
	}
	return err
}

// startNginx runs nginx with one token for all, or with Lua that looks the token
// up by app id in a shared dictionary.
func startNginx(ctx context.Context, s *site, u upstream, dir string, lua bool) (string, *child, error) {
	address, err := freePort()
	if err != nil {
		return "", nil, err
	}
	var modules, dictionary, secure strings.Builder
	token := tokenOf(appID(0))
	if lua {
		tokens := filepath.Join(dir, "tokens")
		if err := writeTokens(tokens, "%s %s\n", u.apps); err != nil {
			return "", nil, err
		}
		for _, module := range luaModules {
			fmt.Fprintf(&modules, "load_module %s;\n", filepath.Join(moduleFolder, module))
		}
		fmt.Fprintf(&dictionary, `
  lua_shared_dict tokens %dm;
  init_by_lua_block {
    local tokens = ngx.shared.tokens
    for line in io.lines(%q) do
      local app, token = line:match("^(%%S+) (%%S+)$")
      assert(tokens:safe_set(app, token))
    end
  }`, 2+u.apps/1000, tokens)
		token = "$token"
	}
	setToken := ""
	if lua {
		setToken = "set_by_lua_block $token { return ngx.shared.tokens:get(ngx.var.http_x_wechat_appid) }"
	}
	if u.tls {
		fmt.Fprintf(&secure, "proxy_ssl_verify on; proxy_ssl_trusted_certificate %s; proxy_ssl_name localhost; proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.2 TLSv1.3;", u.root)
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user root;"
	}
	config := fmt.Sprintf(`%s%s
daemon off;
worker_processes %d;
pid %s/pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path %[4]s/body;
  proxy_temp_path %[4]s/proxy;
  fastcgi_temp_path %[4]s/fastcgi;
  uwsgi_temp_path %[4]s/uwsgi;
  scgi_temp_path %[4]s/scgi;
  proxy_max_temp_file_size 0;
  proxy_buffers 16 16k;
  proxy_buffer_size 16k;%[5]s
  upstream wechat {
    server %[6]s;
    keepalive 1024;
    keepalive_requests 1000000000;
    keepalive_timeout 15s;
  }
  server {
    listen %[7]s;
    keepalive_requests 1000000000;
    location / {
      %[8]s
      set $args $args&access_token=%[9]s;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host %[6]s;
      proxy_set_header X-Wechat-Appid "";
      %[10]s
      proxy_pass %[11]s://wechat;
    }
  }
}
`, modules.String(), user, s.workers, dir, dictionary.String(), u.address, address, setToken, token, secure.String(), u.scheme())
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return "", nil, err
	}
	return launch(ctx, s, "nginx", address, "nginx", "-p", dir, "-e", "stderr", "-c", file)
}
