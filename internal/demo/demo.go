// Package demo shows lingpai at work on one machine: the WeChat simulator, a
// pushed ticket, two authorizers that authorized, and the sidecar in front.
package demo

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"lingpai/internal/config"
	"lingpai/internal/sidecar"
	"lingpai/tokens/wechat/wechattest"
)

// The accounts of the demo: two that authorized, and one that is left to a click.
const (
	firstAppID  = "wx1111111111111111"
	secondAppID = "wx2222222222222222"
	thirdAppID  = "wx3333333333333333"
)

// Main runs the demo until ctx ends. It returns the exit code: 0 after a drain,
// 1 if something failed, 2 for wrong flags.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer, options sidecar.Options) int {
	flags := flag.NewFlagSet("lingpai demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	listen := map[string]*string{
		"proxy":     flags.String("proxy", "127.0.0.1:9060", "address of listen.proxy"),
		"callback":  flags.String("callback", "127.0.0.1:9061", "address of listen.callback"),
		"metrics":   flags.String("metrics", "127.0.0.1:9062", "address of listen.metrics"),
		"admin":     flags.String("admin", "127.0.0.1:9063", "address of listen.admin"),
		"simulator": flags.String("simulator", "127.0.0.1:9070", "address of the WeChat simulator"),
	}
	level := flags.String("log", "warn", "level of the log on standard error: debug, info, warn, error")
	if err := flags.Parse(args); err != nil {
		if err == flag.ErrHelp {
			return 0
		}
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "lingpai demo takes no arguments, only flags; %q is none\n", flags.Arg(0))
		return 2
	}
	options.Log = stderr
	if err := run(ctx, listen, *level, stdout, options); err != nil {
		fmt.Fprintln(stderr, "lingpai demo:", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, listen map[string]*string, level string, stdout io.Writer, options sidecar.Options) error {
	dir, err := os.MkdirTemp("", "lingpai-demo-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	wechatListener, err := net.Listen("tcp", *listen["simulator"])
	if err != nil {
		return fmt.Errorf("%w; -simulator names another address", err)
	}
	wechat := wechattest.New(wechattest.Options{})
	server := wechat.HTTPServer()
	defer server.Close()
	defer wechat.Close()
	go server.Serve(wechatListener)

	c, err := configuration(listen, level, "http://"+wechatListener.Addr().String(), dir)
	if err != nil {
		return err
	}
	options.Load = func() (config.Config, error) { return c, nil }
	s, err := sidecar.New(c, options)
	if err != nil {
		return fmt.Errorf("%w; is another demo running? -proxy, -callback, -metrics and -admin name other addresses", err)
	}
	// Where browsers reach the pages is known now, whatever port it has become.
	c.Callback.PublicURL = "http://" + s.Addr("callback").String()
	if err := s.Reload(); err != nil {
		return err
	}
	serving, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(serving) }()

	err = prepare(ctx, s, wechat)
	if err == nil {
		explain(stdout, s, wechatListener.Addr().String())
		go wechat.Run(serving) // pushes a ticket every ten minutes, as WeChat does
		return <-ended
	}
	stop()
	<-ended
	if ctx.Err() != nil {
		return nil // interrupted while starting
	}
	return err
}

// configuration is what a config.yaml of the demo would say.
func configuration(listen map[string]*string, level, upstream, dir string) (config.Config, error) {
	secrets := map[string]string{
		"DEMO_APP_SECRET":       wechattest.DefaultComponentAppSecret,
		"DEMO_MESSAGE_TOKEN":    wechattest.DefaultMessageToken,
		"DEMO_ENCODING_AES_KEY": wechattest.DefaultEncodingAESKey,
	}
	text := fmt.Sprintf(`
listen: {proxy: %q, callback: %q, metrics: %q, admin: %q}
component:
  app_id: %s
  app_secret: env:DEMO_APP_SECRET
  token: env:DEMO_MESSAGE_TOKEN
  encoding_aes_key: env:DEMO_ENCODING_AES_KEY
upstream: {url: %q}
store: {path: %q}
callback: {login_url: %q}
log: {level: %s, format: text}
`, *listen["proxy"], *listen["callback"], *listen["metrics"], *listen["admin"],
		wechattest.DefaultComponentAppID, upstream, filepath.Join(dir, "lingpai.db"), upstream, level)
	c, faults := config.Parse("the demo's flags", []byte(text), dir, func(name string) (string, bool) {
		value, ok := secrets[name]
		return value, ok
	})
	return c, faults.Err()
}

// prepare has WeChat push a ticket and two accounts authorize the platform, and
// waits until both can be called for.
func prepare(ctx context.Context, s *sidecar.Sidecar, wechat *wechattest.Server) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	callback := "http://" + s.Addr("callback").String()
	wechat.SetEventURL(callback + "/wechat/events")
	wechat.SetMessageURL(callback + "/wechat/messages/$APPID$")
	if err := wechat.PushTicket(ctx); err != nil {
		return fmt.Errorf("push a ticket: %w", err)
	}
	for _, appID := range []string{firstAppID, secondAppID} {
		authorization, err := wechat.Authorize(ctx, appID)
		if err == nil && !authorization.Pushed {
			err = fmt.Errorf("%s", authorization.PushError)
		}
		if err != nil {
			return fmt.Errorf("authorize %s: %w", appID, err)
		}
	}
	for _, appID := range []string{firstAppID, secondAppID} {
		if err := waitFor(ctx, "http://"+s.Addr("admin").String()+"/v1/authorizers/"+appID); err != nil {
			return fmt.Errorf("authorization of %s: %w", appID, err)
		}
	}
	return nil
}

// waitFor asks until it is answered 200.
func waitFor(ctx context.Context, url string) error {
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func explain(w io.Writer, s *sidecar.Sidecar, simulator string) {
	proxy := "http://" + s.Addr("proxy").String()
	fmt.Fprintf(w, `lingpai runs in front of a simulated WeChat. A ticket was pushed, two accounts
authorized the platform. Apps call lingpai without credentials; try:

  # the platform's own call, with component_access_token
  curl -sS -X POST %[1]s/cgi-bin/component/api_create_preauthcode -d '{"component_appid":"%[5]s"}'

  # calls for the two accounts, each with its authorizer_access_token
  curl -sS -H 'X-Wechat-Appid: %[6]s' %[1]s/cgi-bin/menu/get
  curl -sS '%[1]s/cgi-bin/user/info?openid=o1&from_appid=%[7]s'

  # a media download of 1 MiB, streamed
  curl -sS -o /dev/null -w '%%{http_code} %%{size_download} bytes\n' '%[1]s/@%[6]s/cgi-bin/media/get?media_id=size-1048576'

  # have a third account authorize: open this in a browser, click, confirm with %[9]s,
  #   %[8]s/authorize
  # and call for it at once:
  #   curl -sS -H 'X-Wechat-Appid: %[9]s' %[1]s/cgi-bin/menu/get

  # what an operator and Prometheus see
  curl -sS %[2]s/v1/status
  curl -sS %[3]s/metrics

The simulator listens on http://%[4]s (/_simulate/ is its page, /_simulate/v1/ lists
what it can be told).
Ctrl-C stops everything.
`, proxy, "http://"+s.Addr("admin").String(), "http://"+s.Addr("metrics").String(), simulator,
		wechattest.DefaultComponentAppID, firstAppID, secondAppID, "http://"+s.Addr("callback").String(), thirdAppID)
}
