package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sync"
	"time"

	"lingpai/bench/bare"
)

// The two peers in Go. Both add one fixed token and do nothing else.

type goProxySpec struct {
	Upstream string // host:port
	TLS      bool
	Root     string // file in PEM
	Token    string
	Scheme   string // of schemes, in place of the token
	Lifetime time.Duration
}

type goProxyReady struct{ Address string }

func readRoots(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, errors.New("no certificate in " + file)
	}
	return roots, nil
}

// serveGoProxy does what both have in common; serve is called with a listener.
func serveGoProxy(in io.Reader, out io.Writer, serve func(net.Listener, goProxySpec, *tls.Config) error) error {
	var spec goProxySpec
	if err := json.NewDecoder(in).Decode(&spec); err != nil {
		return err
	}
	var config *tls.Config
	if spec.TLS {
		roots, err := readRoots(spec.Root)
		if err != nil {
			return err
		}
		config = &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(512)}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ended := make(chan error, 2)
	go func() { ended <- serve(listener, spec, config) }()
	if err := json.NewEncoder(out).Encode(goProxyReady{listener.Addr().String()}); err != nil {
		return err
	}
	go func() { ended <- untilEnd(in) }()
	return <-ended
}

func fasthttpPart(in io.Reader, out io.Writer) error {
	return serveGoProxy(in, out, func(listener net.Listener, spec goProxySpec, config *tls.Config) error {
		client := bare.Client(spec.Upstream, func(addr string) (net.Conn, error) {
			if config == nil {
				return net.Dial("tcp", addr)
			}
			return tls.Dial("tcp", addr, config)
		})
		token := func([]byte) (string, error) { return spec.Token, nil }
		if spec.Scheme != "" {
			kept := newScheme(spec, client)
			token = func(app []byte) (string, error) { return kept(string(app)) }
		}
		return bare.Server(client, token).Serve(listener)
	})
}

func reverseProxyPart(in io.Reader, out io.Writer) error {
	return serveGoProxy(in, out, func(listener net.Listener, spec goProxySpec, config *tls.Config) error {
		target := &url.URL{Scheme: "http", Host: spec.Upstream}
		if config != nil {
			target.Scheme = "https"
		}
		proxy := &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(target)
				r.Out.URL.RawQuery += "&access_token=" + spec.Token
				r.Out.Header.Del("X-Wechat-Appid")
			},
			Transport: &http.Transport{
				DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
					return (&net.Dialer{}).DialContext(ctx, network, addr)
				},
				TLSClientConfig: config, MaxIdleConnsPerHost: 4096, IdleConnTimeout: 15 * time.Second, DisableCompression: true,
			},
			BufferPool: &bufferPool{},
		}
		return (&http.Server{Handler: proxy}).Serve(listener)
	})
}

type bufferPool struct{ pool sync.Pool }

func (b *bufferPool) Get() []byte {
	if buf, ok := b.pool.Get().(*[]byte); ok {
		return *buf
	}
	return make([]byte, 32<<10)
}

func (b *bufferPool) Put(buf []byte) { b.pool.Put(&buf) }
