package wechattest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a network without ports that works inside a synctest bubble.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
	dials  int
}

func newPipes() *pipes { return &pipes{accept: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.accept <- server:
		p.dials++
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// overPipes serves s inside a bubble.
func overPipes(t *testing.T, s *Server) (*http.Client, *pipes) {
	network := newPipes()
	server := s.HTTPServer()
	transport := &http.Transport{DialContext: network.dial}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(network) })
	t.Cleanup(func() {
		s.Close()
		transport.CloseIdleConnections()
		server.Close()
		serving.Wait()
	})
	return &http.Client{Transport: transport}, network
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t)
		client, network := overPipes(t, s)
		get := func() {
			resp, err := client.Get("http://api.weixin.qq.com/cgi-bin/user/get")
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		get()
		time.Sleep(20*time.Second - time.Millisecond)
		get()
		if network.dials != 1 {
			t.Errorf("%d connections before the idle timeout", network.dials)
		}
		time.Sleep(20*time.Second + time.Millisecond)
		synctest.Wait()
		get()
		if network.dials != 2 {
			t.Errorf("%d connections after the idle timeout", network.dials)
		}
	})
}

// A client may refresh again as soon as it has read the answer, and after it
// gave up waiting: neither is an overlap.
func TestRefreshesInSequenceDoNotOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t)
		rt := s.AddAuthorizer(authorizerA)
		component := componentToken(t, s)
		client, _ := overPipes(t, s)
		body := `{"component_appid":"` + DefaultComponentAppID + `","authorizer_appid":"` + authorizerA + `","authorizer_refresh_token":"` + rt + `"}`
		post := func(timeout time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			req, _ := http.NewRequestWithContext(ctx, "POST", "http://api.weixin.qq.com"+pathAuthorizerToken+"?access_token="+component, strings.NewReader(body))
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			_, err = io.ReadAll(resp.Body)
			return err
		}
		for range 200 {
			if err := post(time.Second); err != nil {
				t.Fatal(err)
			}
		}
		s.AddFault(Fault{Kind: FaultDelay, Delay: Duration(time.Minute), Times: 1})
		if err := post(time.Second); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := post(time.Second); err != nil {
			t.Fatal(err)
		}
		if v := s.Violations(); len(v) != 0 {
			t.Errorf("violations %q", v)
		}
		time.Sleep(time.Minute) // WeChat executes the abandoned call nevertheless
		if n := s.Executed(pathAuthorizerToken); n != 202 {
			t.Errorf("%d executed", n)
		}
	})
}
