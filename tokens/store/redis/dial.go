package redis

import (
	"context"
	"fmt"

	"github.com/redis/rueidis"
)

// Dialer connects to the Redis of a URL, for a package that keeps something else
// there than a Store does.
type Dialer struct {
	target *target
	option rueidis.ClientOption
}

// NewDialer reads opts.URL and the files it names, and does not connect. Of opts
// it takes what a connection takes: URL, RootCAs and the two time-outs.
func NewDialer(opts Options) (*Dialer, error) {
	if opts.DialTimeout <= 0 {
		opts.DialTimeout = defaultDialTimeout
	}
	if opts.OperationTimeout <= 0 {
		opts.OperationTimeout = defaultOperationTimeout
	}
	t, err := parseURL(opts.URL.Reveal())
	if err != nil {
		return nil, fmt.Errorf("redis: url: %w", err)
	}
	option, err := t.clientOption(opts)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	return &Dialer{t, option}, nil
}

// Dial connects. The client sends no command twice of its own accord; what it
// returns as errors is for Clean before anybody sees it.
func (d *Dialer) Dial(ctx context.Context) (rueidis.Client, error) {
	client, err := connect(ctx, d.option)
	if err != nil {
		return nil, fmt.Errorf("redis: connect to %s: %w", d, d.Clean(err))
	}
	return client, nil
}

// Clean keeps of an error what may be shown: no password, and no argument of a
// command.
func (d *Dialer) Clean(err error) error { return clean(err, d.target.mask) }

// String names the addresses only.
func (d *Dialer) String() string { return d.target.String() }

// Format keeps every verb from the password.
func (d *Dialer) Format(f fmt.State, _ rune) { fmt.Fprint(f, d.String()) }
