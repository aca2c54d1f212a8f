package config

import "strings"

// faultCase is a file, and the one fault it has.
type faultCase struct {
	name, yaml string
	key        string
	line       int
	word       string // of the message
}

// faultCases come with account in front, on lines 1 and 2, unless they hold
// accounts or component themselves.
var faultCases = []faultCase{
	// The document.
	{"broken brackets", "routes: [\n", "", 3, "YAML"},
	{"broken quotes", "default_app_id: \"wx\n", "", 3, "YAML"},
	{"a tab", "log:\n\tlevel: info\n", "", 4, "YAML"},
	{"not UTF-8", "log: {level: \xff}\n", "", 3, "UTF-8"},
	{"deep nesting", "routes: " + strings.Repeat("[", 99) + strings.Repeat("]", 99) + "\n", "", 1, "nested too deeply"},
	{"two documents", "---\nlog: {level: info}\n", "", 4, "second document"},
	{"directive", "%YAML 1.2\n---\naccounts: []\n", "", 1, "directive"},
	{"list at the top", "- accounts\n- component\n", "", 1, "is a list"},
	{"text at the top", "accounts", "", 1, "is text"},

	// Keys.
	{"misspelled key", "upstreem: {}\n", "upstreem", 3, "did you mean upstream?"},
	{"misspelled key inside", "upstream:\n  time_out: 3s\n", "upstream.time_out", 4, "did you mean upstream.timeout?"},
	{"camel case", "accounts:\n- appId: wxaaaa0001\n  app_id: wxaaaa0001\n  app_secret: env:APP_SECRET\n", "accounts[0].appId", 2, "did you mean accounts[0].app_id?"},
	{"key of another place", "wait_timeout: 3s\n", "wait_timeout", 3, "did you mean drain_timeout or tokens.wait_timeout?"},
	{"key of several places", "max_body: 3MiB\n", "max_body", 3, "replay.max_body or limits.max_body"},
	{"key of nowhere", "log: {colour: red}\n", "log.colour", 3, "known here are level, format"},
	{"key with an odd form", "log:\n  5ec2e7c0ffee: x\n", "log", 4, "no key"},
	{"key that is a number", "5: x\n", "", 3, "no key"},
	{"key given twice", "log:\n  level: info\n  level: warn\n", "log.level", 5, "twice, first on line 4"},
	{"section given twice", "log: {level: info}\nlog: {format: text}\n", "log", 4, "twice, first on line 3"},
	{"anchor", "default_app_id: &a wxaaaa0001\n", "default_app_id", 3, "anchors"},
	{"alias", "default_app_id: *a\n", "default_app_id", 3, "aliases"},
	{"tag", "default_app_id: !!str wxaaaa0001\n", "default_app_id", 3, "tags"},
	{"merge key", "log:\n  <<: {level: info}\n", "log", 4, "merge keys"},
	{"complex key", "? log\n: {level: info}\n", "", 3, "no key"},

	// Types.
	{"section that is text", "upstream: https://api.weixin.qq.com\n", "upstream", 3, "is text: write keys below it: url, hosts"},
	{"section that is a list", "log: [info]\n", "log", 3, "is a list"},
	{"list that is text", "listen:\n  names: lingpai\n", "listen.names", 4, "is text, not a list"},
	{"item that is a mapping", "listen:\n  names:\n  - a: b\n", "listen.names[0]", 5, "is a mapping, not text"},
	{"item that is empty", "listen:\n  names:\n  - a\n  -\n", "listen.names[1]", 6, "is empty"},
	{"text that is a number", "store:\n  key_prefix: 5\n", "store.key_prefix", 4, "is a number, not text"},
	{"text of two lines", "store:\n  key_prefix: |\n    a\n    b\n", "store.key_prefix", 4, "line break"},
	{"bool that is yes", "callback:\n  release_test: yes\n", "callback.release_test", 4, "true or false"},
	{"number that is text", "limits:\n  max_in_flight: many\n", "limits.max_in_flight", 4, `"many"`},
	{"number in hex", "limits:\n  max_in_flight: 0x10\n", "limits.max_in_flight", 4, "decimal"},
	{"number with a unit", "upstream:\n  max_connections: 5k\n", "upstream.max_connections", 4, `"5k"`},
	{"duration without unit", "upstream:\n  timeout: 30\n", "upstream.timeout", 4, `"30" has no unit: write a duration such as 30s`},
	{"duration 0 without unit", "upstream:\n  timeout: 0\n", "upstream.timeout", 4, "no unit"},
	{"duration of an odd unit", "upstream:\n  timeout: 1d\n", "upstream.timeout", 4, `"1d" is no duration`},
	{"duration that is a list", "drain_timeout: [30s]\n", "drain_timeout", 3, "is a list"},
	{"size without unit", "limits:\n  max_body: 1048576\n", "limits.max_body", 4, "no unit"},
	{"size of an odd unit", "cache:\n  max_bytes: 64M\n", "cache.max_bytes", 4, `"64M" is no size`},
	{"size beyond all bounds", "cache:\n  max_bytes: 9999999999GiB\n", "cache.max_bytes", 4, "is no size"},

	// Secrets.
	{"literal secret", "accounts:\n- app_id: wxaaaa0001\n  app_secret: " + appSecret + "\n", "accounts[0].app_secret", 3, "never a literal: write env:NAME or file:/path"},
	{"literal secret of digits", "accounts:\n- app_id: wxaaaa0001\n  app_secret: 123456\n", "accounts[0].app_secret", 3, "never a literal"},
	{"empty secret", "accounts:\n- app_id: wxaaaa0001\n  app_secret: \"\"\n", "accounts[0].app_secret", 3, "is empty"},
	{"missing secret", "accounts:\n- app_id: wxaaaa0001\n", "accounts[0].app_secret", 2, "is missing"},
	{"variable not set", "accounts:\n- app_id: wxaaaa0001\n  app_secret: env:NOT_SET\n", "accounts[0].app_secret", 3, "NOT_SET is not set"},
	{"variable named like a secret", "accounts:\n- app_id: wxaaaa0001\n  app_secret: env:" + appSecret + "\n", "accounts[0].app_secret", 3, "named here is not set"},
	{"variable without name", "accounts:\n- app_id: wxaaaa0001\n  app_secret: \"env:\"\n", "accounts[0].app_secret", 3, "env: names no variable"},
	{"empty variable", "accounts:\n- app_id: wxaaaa0001\n  app_secret: env:EMPTY\n", "accounts[0].app_secret", 3, "EMPTY is empty"},
	{"secret of two lines", "accounts:\n- app_id: wxaaaa0001\n  app_secret: env:TWO_LINES\n", "accounts[0].app_secret", 3, "more than one line"},
	{"secret with a space", "accounts:\n- app_id: wxaaaa0001\n  app_secret: env:SPACE\n", "accounts[0].app_secret", 3, "space"},
	{"secret file that is missing", "accounts:\n- app_id: wxaaaa0001\n  app_secret: file:no/such/file\n", "accounts[0].app_secret", 3, "does not exist"},
	{"secret file that is a folder", "accounts:\n- app_id: wxaaaa0001\n  app_secret: file:/\n", "accounts[0].app_secret", 3, "regular file"},
	{"secret file that never ends", "accounts:\n- app_id: wxaaaa0001\n  app_secret: file:/dev/zero\n", "accounts[0].app_secret", 3, "regular file"},
	{"secret file without path", "accounts:\n- app_id: wxaaaa0001\n  app_secret: \"file:\"\n", "accounts[0].app_secret", 3, "names no file"},

	// Listeners.
	{"proxy off", "listen: {proxy: \"\"}\n", "listen.proxy", 3, "cannot be switched off"},
	{"address without port", "listen:\n  proxy: 127.0.0.1\n", "listen.proxy", 4, "host:port"},
	{"address that is a number", "listen:\n  proxy: 9060\n", "listen.proxy", 4, "is a number"},
	{"port too large", "listen:\n  admin: 127.0.0.1:90600\n", "listen.admin", 4, `"90600" is no port`},
	{"port by name", "listen:\n  admin: 127.0.0.1:http\n", "listen.admin", 4, `"http" is no port`},
	{"address of an odd host", "listen:\n  admin: 'a b:80'\n", "listen.admin", 4, "host name"},
	{"unix without path", "listen:\n  proxy: 'unix:'\n", "listen.proxy", 4, "unix:/path"},
	{"unix with a long path", "listen:\n  proxy: unix:/" + strings.Repeat("p", 120) + "\n", "listen.proxy", 4, "too long"},
	{"unix for callback", "listen:\n  callback: unix:/run/c.sock\n", "listen.callback", 4, "cannot be a Unix socket"},
	{"equal addresses", "listen:\n  admin: 127.0.0.1:9060\n", "listen.admin", 4, "same address as listen.proxy"},
	{"all addresses and one", "listen:\n  metrics: 0.0.0.0:9060\n", "listen.metrics", 4, "same address as listen.proxy"},
	{"equal sockets", "listen:\n  proxy: unix:a/../s\n  admin: unix:s\n", "listen.admin", 5, "same address"},
	{"name with scheme", "listen:\n  names: [\"http://lingpai\"]\n", "listen.names[0]", 4, "scheme"},
	{"name twice", "listen:\n  names: [lingpai, LINGPAI:80]\n", "listen.names[1]", 4, "same name as listen.names[0]"},
	{"name of WeChat", "listen:\n  names: [API.weixin.qq.com]\n", "listen.names[0]", 4, "upstream.hosts too"},

	// Accounts.
	{"nobody to serve", "accounts: []\n", "component", 1, "so is accounts"},
	{"nobody to serve in an empty file", "# component:\n", "component", 1, "so is accounts"},
	{"app id of an odd form", "accounts:\n- app_id: gh_123456\n  app_secret: env:APP_SECRET\n", "accounts[0].app_id", 2, "no app id"},
	{"app id missing", "accounts:\n- app_secret: env:APP_SECRET\n", "accounts[0].app_id", 2, "is missing"},
	{"account twice", account + "- {app_id: wxaaaa0001, app_secret: env:APP_SECRET}\n", "accounts[1].app_id", 3, "same as accounts[0].app_id"},
	{"account that is the component", component + "accounts:\n- app_id: wxcccc0001\n  app_secret: env:APP_SECRET\n", "accounts[0].app_id", 7, "same as component.app_id"},
	{"account that is text", "accounts:\n- wxaaaa0001\n", "accounts[0]", 2, "is text"},
	{"component without app id", strings.Replace(component, "  app_id: wxcccc0001\n", "", 1), "component.app_id", 1, "missing"},
	{"component without secret", strings.Replace(component, "  app_secret: env:APP_SECRET\n", "", 1), "component.app_secret", 1, "missing"},
	{"component without token", strings.Replace(component, "  token: env:TOKEN\n", "", 1), "component.token", 1, "missing"},
	{"component without key", strings.Replace(component, "  encoding_aes_key: env:AES_KEY\n", "", 1), "component.encoding_aes_key", 1, "missing"},
	{"component that is text", "component: wxcccc0001\n", "component", 1, "is text"},
	{"key of 42 characters", strings.Replace(component, "AES_KEY", "AES_SHORT", 1), "component.encoding_aes_key", 5, "43 characters"},
	{"previous key of 42 characters", component + "  previous_encoding_aes_key: env:AES_SHORT\n", "component.previous_encoding_aes_key", 6, "43 characters"},
	{"previous key that is the key", component + "  previous_encoding_aes_key: env:AES_KEY\n", "component.previous_encoding_aes_key", 6, "same as encoding_aes_key"},
	{"default of an odd form", "default_app_id: me\n", "default_app_id", 3, "no app id"},
	{"default that is the component", component + "default_app_id: wxcccc0001\n", "default_app_id", 6, "component's own"},
	{"default that is nobody", "default_app_id: wxaaaa0009\n", "default_app_id", 3, "none of accounts"},

	// Upstream.
	{"url of an odd scheme", "upstream:\n  url: ftp://api.weixin.qq.com\n", "upstream.url", 4, "https://"},
	{"url without scheme", "upstream:\n  url: api.weixin.qq.com\n", "upstream.url", 4, "https://"},
	{"url with path", "upstream:\n  url: https://api.weixin.qq.com/cgi-bin\n", "upstream.url", 4, "path"},
	{"url with query", "upstream:\n  url: https://api.weixin.qq.com?a=b\n", "upstream.url", 4, "query"},
	{"url with password", "upstream:\n  url: https://me:pa55w0rd@api.weixin.qq.com\n", "upstream.url", 4, "user information"},
	{"url with an odd port", "upstream:\n  url: https://api.weixin.qq.com:99999\n", "upstream.url", 4, "host"},
	{"url empty", "upstream:\n  url: ''\n", "upstream.url", 4, "missing"},
	{"host with scheme", "upstream:\n  hosts: [\"https://api.weixin.qq.com\"]\n", "upstream.hosts[0]", 4, "scheme"},
	{"host with path", "upstream:\n  hosts:\n  - api.weixin.qq.com\n  - mp.weixin.qq.com/a\n", "upstream.hosts[1]", 6, "more than a host name"},
	{"host twice", "upstream:\n  hosts:\n  - api.weixin.qq.com\n  - API.weixin.qq.com=https://api2.weixin.qq.com\n", "upstream.hosts[1]", 6, "same name as upstream.hosts[0]"},
	{"host with nothing after =", "upstream:\n  hosts: [\"api.weixin.qq.com=\"]\n", "upstream.hosts[0]", 4, "nothing after ="},
	{"host with a url with path", "upstream:\n  hosts: [\"api.weixin.qq.com=https://a/b\"]\n", "upstream.hosts[0]", 4, "path"},
	{"ca_file missing", "upstream:\n  ca_file: no/such.pem\n", "upstream.ca_file", 4, "does not exist"},
	{"ca_file without certificate", "upstream:\n  ca_file: config.go\n", "upstream.ca_file", 4, "no certificate"},
	{"egress proxy without port", "upstream:\n  egress_proxy: http://proxy\n", "upstream.egress_proxy", 4, "http://host:port"},
	{"egress proxy with password", "upstream:\n  egress_proxy: http://me:pa55w0rd@proxy:80\n", "upstream.egress_proxy", 4, "http://host:port"},
	{"timeout of nothing", "upstream:\n  connect_timeout: 0s\n", "upstream.connect_timeout", 4, "1ms to 24h"},
	{"timeout below nothing", "upstream:\n  idle_timeout: -5s\n", "upstream.idle_timeout", 4, "1ms to 24h"},
	{"no connections", "upstream:\n  max_connections: 0\n", "upstream.max_connections", 4, "from 1"},

	// Routes.
	{"route without path", "routes:\n- token: none\n", "routes[0].path", 4, "missing"},
	{"route without /", "routes:\n- {path: a, token: none}\n", "routes[0].path", 4, "begin with /"},
	{"route with query", "routes:\n- {path: /a?b, token: none}\n", "routes[0].path", 4, "query"},
	{"route twice", "routes:\n- {path: /a, token: none}\n- {path: /a, token: user}\n", "routes[1].path", 5, "same as routes[0].path"},
	{"route without token", "routes:\n- path: /a\n", "routes[0].token", 4, "missing"},
	{"route of an odd token", "routes:\n- {path: /a, token: app}\n", "routes[0].token", 4, `"app"`},
	{"route of an odd param", "routes:\n- {path: /a, token: either, param: token}\n", "routes[0].param", 4, `"token"`},
	{"route of param and none", "routes:\n- {path: /a, token: none, param: access_token}\n", "routes[0].param", 4, "remove it"},

	// Numbers.
	{"tokens", "tokens:\n  refresh_timeout: 0s\n", "tokens.refresh_timeout", 4, "1ms to 24h"},
	{"tokens far ahead", "tokens:\n  refresh_ahead: 25h\n", "tokens.refresh_ahead", 4, "1ms to 24h"},
	{"cache of nothing", "cache:\n  max_bytes: 0B\n", "cache.max_bytes", 4, "1MiB"},
	{"replay beyond the limit", "replay:\n  max_body: 33MiB\n", "replay.max_body", 4, "more than limits.max_body: write at most 32MiB"},
	{"written replay above a lowered limit", "replay: {max_body: 1MiB}\nlimits:\n  max_body: 512KiB\n", "replay.max_body", 3, "at most 512KiB"},
	{"header too small", "limits:\n  max_header: 512B\n", "limits.max_header", 4, "from 1KiB to 1MiB"},
	{"header too large", "limits:\n  max_header: 2MB\n", "limits.max_header", 4, "from 1KiB to 1MiB"},
	{"nothing in flight", "limits:\n  max_in_flight: -1\n", "limits.max_in_flight", 4, "from 1"},
	{"drain of nothing", "drain_timeout: 0s\n", "drain_timeout", 3, "1ms"},

	// Store.
	{"odd store", "store:\n  kind: sqlite\n", "store.kind", 4, "bolt, redis, memory"},
	{"bolt without path", "store:\n  path: ''\n", "store.path", 4, "missing"},
	{"redis without url", "store:\n  kind: redis\n", "store.redis_url", 3, "missing"},
	{"redis with password", "store:\n  redis_url: redis://:pa55w0rd@redis:6379\n", "store.redis_url", 4, "password"},
	{"redis of an odd scheme", "store:\n  redis_url: env:HTTP\n", "store.redis_url", 4, "redis://"},
	{"store key too short", "store:\n  encryption_keys:\n  - env:STORE_KEY\n  - env:APP_SECRET\n", "store.encryption_keys[1]", 6, "32 bytes"},
	{"store key twice", "store:\n  encryption_keys: [env:STORE_KEY, env:STORE_KEY]\n", "store.encryption_keys[1]", 4, "same key"},
	{"store key literal", "store:\n  encryption_keys: [" + storeKey + "]\n", "store.encryption_keys[0]", 4, "never a literal"},

	// Callback.
	{"public url in the clear", "callback:\n  public_url: http://wx.example.com\n", "callback.public_url", 4, "https"},
	{"public url without scheme", "callback:\n  public_url: wx.example.com\n", "callback.public_url", 4, "https"},
	{"public url with query", "callback:\n  public_url: https://wx.example.com/?a\n", "callback.public_url", 4, "query"},
	{"return url without host", "callback:\n  return_urls: [/done]\n", "callback.return_urls[0]", 4, "https"},
	{"return url with password", "callback:\n  return_urls: [\"https://me:pa55w0rd@app\"]\n", "callback.return_urls[0]", 4, "user information"},
	{"forward without name", "callback:\n  forward:\n  - {url: http://a, secret: env:APP_SECRET}\n", "callback.forward[0].name", 5, "missing"},
	{"forward without url", "callback:\n  forward:\n  - {name: a, secret: env:APP_SECRET}\n", "callback.forward[0].url", 5, "missing"},
	{"forward of an odd url", "callback:\n  forward:\n  - {name: a, url: app, secret: env:APP_SECRET}\n", "callback.forward[0].url", 5, "http://"},
	{"forward without secret", "callback:\n  forward:\n  - {name: a, url: http://a}\n", "callback.forward[0].secret", 5, "missing"},
	{"forward of an odd format", "callback:\n  forward:\n  - {name: a, url: http://a, secret: env:APP_SECRET, format: yaml}\n", "callback.forward[0].format", 5, "xml, json"},
	{"forward of no events", "callback:\n  forward:\n  - {name: a, url: http://a, secret: env:APP_SECRET, events: []}\n", "callback.forward[0].events", 5, `"*"`},
	{"forward of an odd app id", "callback:\n  forward:\n  - {name: a, url: http://a, secret: env:APP_SECRET, app_ids: [all]}\n", "callback.forward[0].app_ids[0]", 5, "app id"},
	{"forward twice", "callback:\n  forward:\n  - {name: a, url: http://a, secret: env:APP_SECRET}\n  - {name: a, url: http://b, secret: env:APP_SECRET}\n", "callback.forward[1].name", 6, "same as callback.forward[0].name"},
	{"two replies", "callback:\n  forward:\n  - {name: a, url: http://a, secret: env:APP_SECRET, reply: true}\n  - {name: b, url: http://b, secret: env:APP_SECRET, reply: true}\n", "callback.forward[1].reply", 6, "only one"},

	// Log.
	{"odd level", "log:\n  level: trace\n", "log.level", 4, `"trace" is unknown: write one of debug, info, warn, error`},
	{"odd format", "log: {format: logfmt}\n", "log.format", 3, "json, text"},
}

// validCases have no fault.
var validCases = []struct{ name, yaml string }{
	{"account", account},
	{"component", component},
	{"component and previous key", component + "  previous_encoding_aes_key: env:AES_OTHER\n"},
	{"no previous key", component + "  previous_encoding_aes_key: \"\"\n"},
	{"byte order mark", "\ufeff" + account},
	{"CRLF", strings.ReplaceAll(component, "\n", "\r\n")},
	{"document marks", "---\n" + account + "...\n"},
	{"null sections", account + "listen:\nupstream: ~\nlog: null\ncomponent:\n"},
	{"null values", account + "log: {level: , format: ~}\nroutes:\n"},
	{"ports 0", account + "listen: {proxy: '127.0.0.1:0', admin: '127.0.0.1:0', metrics: ':0', callback: '[::1]:0'}\n"},
	{"listeners off", account + "listen: {admin: '', metrics: '', callback: ''}\n"},
	{"unix", account + "listen: {proxy: unix:/run/lingpai.sock, admin: unix:admin.sock}\n"},
	{"names", account + "listen: {names: [lingpai, 'lingpai:9060', 10.0.0.1, '[::1]:9060']}\n"},
	{"default of an authorizer", component + "default_app_id: wxaaaa0009\n"},
	{"default of an account", account + "default_app_id: wxaaaa0001\n"},
	{"simulator", account + "upstream: {url: 'http://127.0.0.1:9070/', hosts: []}\n"},
	{"redis", account + "store: {kind: redis, redis_url: env:REDIS}\n"},
	{"redis without password", account + "store: {kind: redis, redis_url: 'redis://a:6379?addr=b:6379'}\n"},
	{"memory", account + "store: {kind: memory, path: ''}\n"},
	{"no replays", account + "replay: {max_body: 0B}\n"},
	{"public url on loopback", account + "callback: {public_url: 'http://localhost:9061'}\n"},
	{"routes", account + "routes:\n- {path: /a, token: either, param: component_access_token}\n- {path: /b, token: user}\n"},
	{"newline at the end of a variable", "accounts: [{app_id: wxaaaa0001, app_secret: env:NEWLINE}]"},
}
