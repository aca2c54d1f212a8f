package importer

import (
	"context"
	"time"

	"lingpai/tokens/secret"
)

// row is what a source says of one authorizer, not checked yet.
type row struct {
	appID string
	where string // in the source, such as "line 3"; "" if the app id says it

	refreshToken secret.String
	accessToken  secret.String
	// accessExpiresAt is never later than WeChat's; zero: the source does not say
	// how long the access token lives.
	accessExpiresAt time.Time
	// authorizedAt is zero if the source does not say it.
	authorizedAt time.Time

	// fault says why the whole row cannot be read. The others say that of one
	// value, which is then empty.
	fault, refreshFault, accessFault string
}

// platform is what a source says of the component.
type platform struct {
	ticket secret.String
	// ticketAt is when the ticket came; zero: the source does not say it.
	ticketAt    time.Time
	ticketFault string

	token          secret.String
	tokenExpiresAt time.Time
	tokenFault     string
}

// source is a system to take over from. Its methods are called once each,
// platform first.
type source interface {
	platform(ctx context.Context) (platform, error)
	// authorizers calls each with batches of rows until it returns an error.
	authorizers(ctx context.Context, each func([]row) error) error
	// hint says what to look at when the source held nothing, or nothing that
	// could be read; "" is nothing special.
	hint(ctx context.Context) string
	close()
}

// batchRows is how many rows a source gives at a time.
const batchRows = 1000

// batcher collects rows into batches.
type batcher struct {
	each func([]row) error
	rows []row
}

func (b *batcher) add(r row) error {
	if b.rows = append(b.rows, r); len(b.rows) < batchRows {
		return nil
	}
	return b.flush()
}

func (b *batcher) flush() error {
	if len(b.rows) == 0 {
		return nil
	}
	rows := b.rows
	b.rows = nil
	return b.each(rows)
}
