package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"lingpai/tokens/store"
)

// bufferSize of a connection, for each direction. The library's half a MiB is
// for other loads than ours.
const bufferSize = 32 << 10

var (
	// errNoAnswer is no context's error: the caller's context is still good.
	errNoAnswer = errors.New("no answer in time")
)

func (t *target) clientOption(opts Options) (rueidis.ClientOption, error) {
	config, err := t.tlsConfig(opts.RootCAs)
	if err != nil {
		return rueidis.ClientOption{}, err
	}
	// The library sends a PING on a connection that was silent for KeepAlive and
	// gives it up if there is no answer within ConnWriteTimeout.
	dialer := net.Dialer{Timeout: opts.DialTimeout, KeepAlive: 2 * time.Second}
	option := rueidis.ClientOption{
		InitAddress:         t.addrs,
		Username:            t.user,
		Password:            t.password,
		SelectDB:            t.database,
		TLSConfig:           config,
		Dialer:              dialer,
		ConnWriteTimeout:    opts.OperationTimeout,
		ForceSingleClient:   t.mode == single,
		ReadBufferEachConn:  bufferSize,
		WriteBufferEachConn: bufferSize,
		RingScaleEachConn:   8,
		// One connection: what one goroutine sends arrives in that order.
		PipelineMultiplex: -1,
		// A call alone on the connection would be read under its own deadline,
		// and close the connection for all when that has passed.
		AlwaysPipelining: true,
		// No command is sent twice: it may have been carried out. This is for
		// reads as well, so that they fail at once when the server is down.
		DisableRetry:  true,
		DisableCache:  true,
		ClientSetInfo: rueidis.DisableClientSetInfo,
		ClusterOption: rueidis.ClusterOption{MaxMovedRedirections: 8},
	}
	if t.network == "unix" {
		option.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
			return d.DialContext(ctx, "unix", addr)
		}
	}
	if t.mode == sentinel {
		option.Sentinel = rueidis.SentinelOption{
			MasterSet:               t.master,
			Username:                t.sentinelUser,
			Password:                t.sentinelPassword,
			TLSConfig:               config,
			Dialer:                  dialer,
			TopologyRefreshInterval: 5 * time.Second,
		}
	}
	return option, nil
}

func (t *target) tlsConfig(roots *x509.CertPool) (*tls.Config, error) {
	if !t.tls {
		return nil, nil
	}
	if t.caFile != "" {
		pem, err := os.ReadFile(t.caFile)
		if err != nil {
			return nil, fmt.Errorf("url: ca_file: %w", err)
		}
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("url: ca_file: %s holds no certificate in PEM", t.caFile)
		}
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: t.serverName}, nil
}

// connect is rueidis.NewClient with a context.
func connect(ctx context.Context, option rueidis.ClientOption) (rueidis.Client, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	type result struct {
		client rueidis.Client
		err    error
	}
	made := make(chan result, 1)
	go func() {
		client, err := rueidis.NewClient(option)
		if err != nil && client != nil {
			client.Close()
		}
		made <- result{client, err}
	}()
	select {
	case r := <-made:
		return r.client, r.err
	case <-ctx.Done():
		go func() {
			if r := <-made; r.err == nil {
				r.client.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// begin starts an operation; done ends it.
func (s *Store) begin(ctx context.Context) (_ context.Context, done func(), err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, nil, store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	s.under.Add(1)
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, errNoAnswer)
	return ctx, func() { cancel(); s.under.Done() }, nil
}

// beginWrite is begin for what writes.
func (s *Store) beginWrite(ctx context.Context) (_ context.Context, done func(), err error) {
	if s.readOnly {
		return nil, nil, store.ErrReadOnly
	}
	return s.begin(ctx)
}

// ended is why ctx, which comes from begin, has ended.
func ended(ctx context.Context) error {
	if context.Cause(ctx) == errNoAnswer {
		return errNoAnswer
	}
	return ctx.Err()
}

// exec sends what send sends, inside an operation, and leaves it when ctx ends.
//
// send runs under a context of its own, because whoever finds no connection
// makes it for all who come then, and they get that one's error: a caller who
// leaves must not fail the rest, nor wait for what another began.
func (s *Store) exec(ctx context.Context, send func(context.Context) rueidis.RedisResult) (rueidis.RedisMessage, error) {
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
	answer := make(chan rueidis.RedisResult, 1)
	s.under.Go(func() {
		defer cancel()
		answer <- send(own)
	})
	select {
	case r := <-answer:
		m, err := r.ToMessage()
		return m, clean(err, s.mask)
	case <-ctx.Done():
		return rueidis.RedisMessage{}, ended(ctx)
	}
}

// do sends one command.
func (s *Store) do(ctx context.Context, command rueidis.Completed) (rueidis.RedisMessage, error) {
	return s.exec(ctx, func(ctx context.Context) rueidis.RedisResult { return s.client.Do(ctx, command) })
}

// clean keeps of an error what may be shown, and none of its chain but the nil
// answer: errors of contexts and time-outs in there are not the caller's.
func clean(err error, mask func(string) string) error {
	switch {
	case err == nil || rueidis.IsRedisNil(err):
		return err
	case err == context.Canceled || err == context.DeadlineExceeded:
		return errNoAnswer
	}
	text := err.Error()
	if answer, ok := rueidis.IsRedisErr(err); ok {
		// An unknown command is quoted with its arguments, secrets included.
		text, _, _ = strings.Cut(text, ", with args")
		if _, moved := answer.IsMoved(); moved {
			text += " (the server is part of a cluster: write redis+cluster://)"
		}
	}
	return errors.New(mask(text))
}
