package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// buildLingpai builds the program as it is released.
func buildLingpai(ctx context.Context, dir string) (string, error) {
	file := filepath.Join(dir, "lingpai")
	err := goBuild(file)
	if err == nil {
		err = context.Cause(ctx)
	}
	return file, err
}

func goBuild(file string, flags ...string) error {
	command := append([]string{"env", "CGO_ENABLED=0", "GOFLAGS=", "go", "build", "-trimpath", "-ldflags", "-s -w"}, flags...)
	_, err := output(append(command, "-o", file, "lingpai")...)
	return err
}

// startLingpai runs lingpai on a store of its own and makes all authorizers known
// to it, as an operator does.
func startLingpai(ctx context.Context, s *site, u upstream, dir string) (string, *child, error) {
	at, process, err := runLingpai(ctx, s, u, dir, "")
	if err != nil {
		return "", nil, err
	}
	if err = giveTicket(ctx, at); err == nil {
		err = post(ctx, at.Admin, "/v1/authorizers/sync", "")
	}
	if err != nil {
		process.stop()
		return "", nil, err
	}
	return at.Proxy, process, nil
}

// giveTicket gives lingpai what it needs to ask for tokens.
func giveTicket(ctx context.Context, at lingpaiAddresses) error {
	return post(ctx, at.Admin, "/v1/component/ticket", `{"ticket":"ticket@@@bench"}`)
}

// runLingpai runs lingpai with a folder of its own; extra are further lines of its
// configuration. It returns when lingpai says that it has started.
func runLingpai(ctx context.Context, s *site, u upstream, dir, extra string) (at lingpaiAddresses, process *child, err error) {
	caFile := ""
	if u.tls {
		caFile = u.root
	}
	config := fmt.Sprintf(`
listen: {proxy: "127.0.0.1:0", callback: "127.0.0.1:0", metrics: "127.0.0.1:0", admin: "127.0.0.1:0"}
component:
  app_id: %s
  app_secret: file:%[2]s/secret
  token: file:%[2]s/secret
  encoding_aes_key: file:%[2]s/aes
upstream: {url: "%[3]s://%[4]s", ca_file: "%[5]s"}
%[6]s`, componentAppID, dir, u.scheme(), u.address, caFile, extra)
	for name, text := range map[string]string{
		"config.yaml": config, "secret": "0123456789abcdef0123456789abcdef", "aes": "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return at, nil, err
		}
	}
	log := &startLog{started: make(chan lingpaiAddresses, 1)}
	process, err = spawn("lingpai", s.prefix, log, s.lingpai, "serve", "-config", filepath.Join(dir, "config.yaml"))
	if err != nil {
		return at, nil, err
	}
	select {
	case at = <-log.started:
	case <-process.exited:
		return at, nil, process.gone()
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-time.After(30 * time.Second):
		err = fmt.Errorf("lingpai did not start: %s", &log.lastWords)
	}
	if err != nil {
		process.stop()
		return at, nil, err
	}
	return at, process, nil
}

// post calls lingpai's operator API.
func post(ctx context.Context, address, path, body string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
		return fmt.Errorf("POST %s: %s: %s", path, response.Status, text)
	}
	return nil
}

type lingpaiAddresses struct{ Msg, Proxy, Callback, Metrics, Admin string }

// startLog finds the addresses in lingpai's log.
type startLog struct {
	lastWords
	line    []byte
	started chan lingpaiAddresses
}

func (l *startLog) Write(p []byte) (int, error) {
	l.lastWords.Write(p)
	l.line = append(l.line, p...)
	for {
		line, rest, ok := bytes.Cut(l.line, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		var at lingpaiAddresses
		if json.Unmarshal(line, &at) == nil && at.Msg == "started" {
			l.started <- at
		}
		l.line = append(l.line[:0], rest...)
	}
}
