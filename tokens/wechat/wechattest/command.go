package wechattest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// settings are the flags of Main.
type settings struct {
	listen, tlsCert, tlsKey, knobsFile string
	tokenLifetime, ticketInterval      time.Duration
	authorizers                        []string
	options                            Options
}

// Main is the command `lingpai simulate`: it serves a simulator and pushes
// tickets until ctx ends. It returns the exit code: 0 when ctx ended, 1 for a
// failure, 2 for flags that cannot be used.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	set, err := parseFlags(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "simulate:", err)
		return 2
	}
	s := New(set.options)
	defer s.Close()
	for _, appID := range set.authorizers {
		if _, err := s.addAuthorizer(appID, nil); err != nil {
			fmt.Fprintln(stderr, "simulate: -authorizer:", err)
			return 2
		}
	}
	if err := s.serve(ctx, set, stdout); err != nil {
		fmt.Fprintln(stderr, "simulate:", err)
		return 1
	}
	return 0
}

// parseFlags reads the flags and checks all of them.
func parseFlags(args []string, stderr io.Writer) (settings, error) {
	set := settings{options: Options{Accounts: map[string]string{}}}
	o := &set.options
	fs := flag.NewFlagSet("lingpai simulate", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&set.listen, "listen", "127.0.0.1:9070", "address to serve on")
	fs.StringVar(&o.ComponentAppID, "component-app-id", DefaultComponentAppID, "the platform's appid")
	fs.StringVar(&o.ComponentAppSecret, "component-secret", DefaultComponentAppSecret, "the platform's AppSecret")
	fs.StringVar(&o.MessageToken, "message-token", DefaultMessageToken, "message Token (消息校验Token)")
	fs.StringVar(&o.EncodingAESKey, "encoding-aes-key", DefaultEncodingAESKey, "EncodingAESKey (消息加解密Key), 43 characters")
	fs.StringVar(&o.EventURL, "event-url", "", "where to push tickets and authorization events")
	fs.StringVar(&o.MessageURL, "message-url", "", "where to push messages; holds $APPID$")
	fs.Func("authorizer", "appid of an account that is already authorized; may be repeated", func(v string) error {
		set.authorizers = append(set.authorizers, v)
		return nil
	})
	fs.Func("account", "appid=secret of a direct account; may be repeated", func(v string) error {
		appID, secret, ok := strings.Cut(v, "=")
		if !ok || appID == "" || secret == "" {
			return errors.New("must be appid=secret")
		}
		o.Accounts[appID] = secret
		return nil
	})
	fs.DurationVar(&set.tokenLifetime, "token-lifetime", 0, "lifetime of all tokens (default 2h, or what -knobs says)")
	fs.DurationVar(&set.ticketInterval, "ticket-interval", 0, "time between ticket pushes (default 10m, or what -knobs says)")
	fs.StringVar(&set.knobsFile, "knobs", "", "JSON file of knobs; those not in it keep their defaults")
	fs.Uint64Var(&o.Seed, "seed", 0, "seed of all values (default: another one each time)")
	fs.IntVar(&o.JournalSize, "journal", 10_000, "calls to remember")
	fs.StringVar(&set.tlsCert, "tls-cert", "", "certificate file (PEM), to serve https")
	fs.StringVar(&set.tlsKey, "tls-key", "", "its key file (PEM)")
	if err := fs.Parse(args); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			err = errors.New("see the flags above")
		}
		return set, err
	}
	return set, set.check(fs.Args())
}

func (set *settings) check(rest []string) error {
	o := &set.options
	knobs := DefaultKnobs()
	if set.knobsFile != "" {
		text, err := os.ReadFile(set.knobsFile)
		if err != nil {
			return fmt.Errorf("-knobs: %w", err)
		}
		if err := decodeStrict(text, &knobs); err != nil {
			return fmt.Errorf("-knobs %s: %s", set.knobsFile, strings.TrimPrefix(err.Error(), "body: "))
		}
	}
	if set.tokenLifetime != 0 {
		lifetime := Duration(set.tokenLifetime)
		knobs.ComponentTokenLifetime, knobs.AuthorizerTokenLifetime, knobs.AccountTokenLifetime = lifetime, lifetime, lifetime
	}
	if set.ticketInterval != 0 {
		knobs.TicketInterval = Duration(set.ticketInterval)
	}
	o.Knobs = &knobs
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case (set.tlsCert == "") != (set.tlsKey == ""):
		return errors.New("-tls-cert and -tls-key go together")
	case o.JournalSize <= 0:
		return errors.New("-journal must be above 0")
	}
	if err := checkPushURL(o.EventURL); err != nil {
		return fmt.Errorf("-event-url: %w", err)
	}
	if err := checkPushURL(o.MessageURL); err != nil {
		return fmt.Errorf("-message-url: %w", err)
	}
	for _, appID := range set.authorizers {
		if !appIDForm.MatchString(appID) || appID == o.ComponentAppID {
			return fmt.Errorf("-authorizer %q: must be wx and 16 hexadecimal digits, and not the component's", appID)
		}
	}
	return CheckOptions(*o)
}

// serve listens, tells where, and runs until ctx ends.
func (s *Server) serve(ctx context.Context, set settings, stdout io.Writer) error {
	listener, err := net.Listen("tcp", set.listen)
	if err != nil {
		return err
	}
	scheme := "http"
	if set.tlsCert != "" {
		scheme = "https"
	}
	s.announce(stdout, scheme+"://"+listener.Addr().String(), set)

	ctx, cancel := context.WithCancel(ctx)
	var loops sync.WaitGroup
	defer loops.Wait()
	defer cancel()
	loops.Go(func() { s.Run(ctx) })

	server := s.HTTPServer()
	failed := make(chan error, 1)
	loops.Go(func() {
		if set.tlsCert != "" {
			failed <- server.ServeTLS(listener, set.tlsCert, set.tlsKey)
		} else {
			failed <- server.Serve(listener)
		}
	})
	select {
	case err := <-failed:
		listener.Close()
		return err
	case <-ctx.Done():
	}
	s.Close() // ends delays, so that Shutdown need not wait for them
	end, stop := context.WithTimeout(context.Background(), 2*time.Second)
	defer stop()
	if server.Shutdown(end) != nil {
		server.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// announce prints what a program under test has to be told. These are the
// credentials of a simulator, so they may be seen.
func (s *Server) announce(w io.Writer, address string, set settings) {
	o := set.options
	fmt.Fprintf(w, "WeChat simulator listening on %s\n", address)
	fmt.Fprintf(w, "  component appid    %s\n", o.ComponentAppID)
	fmt.Fprintf(w, "  component secret   %s\n", o.ComponentAppSecret)
	fmt.Fprintf(w, "  message token      %s\n", o.MessageToken)
	fmt.Fprintf(w, "  encoding AES key   %s\n", o.EncodingAESKey)
	for _, appID := range set.authorizers {
		fmt.Fprintf(w, "  authorizer         %s\n", appID)
	}
	for _, appID := range slices.Sorted(maps.Keys(o.Accounts)) {
		fmt.Fprintf(w, "  account            %s secret %s\n", appID, o.Accounts[appID])
	}
	if o.EventURL == "" {
		fmt.Fprintf(w, "  no event URL: no ticket is pushed until PATCH %s%sconfig sets event_url\n", address, ControlPrefix)
	} else {
		fmt.Fprintf(w, "  pushes events to   %s\n", o.EventURL)
	}
	if o.MessageURL != "" {
		fmt.Fprintf(w, "  pushes messages to %s\n", o.MessageURL)
	}
	fmt.Fprintf(w, "  login links        %s%s and %s%s\n", address, pathLoginPC, address, pathLoginMobile)
	fmt.Fprintf(w, "  control API        %s%s\n", address, ControlPrefix)
	fmt.Fprintf(w, "  console            %s%s\n", address, ConsolePath)
	fmt.Fprintf(w, "  seed               %d\n", s.Seed())
}
