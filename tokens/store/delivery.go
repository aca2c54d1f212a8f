package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"lingpai/tokens/secret"
)

// Delivery is a push that is to be delivered to one app, its target, or that
// could not be delivered and is kept as a dead letter.
type Delivery struct {
	// Seq orders deliveries by arrival. AddDeliveries assigns it.
	Seq uint64
	// ID names push and target; two deliveries that are kept never share one.
	ID string
	// Target is the name of the app.
	Target string
	// AppID is the authorizer that the push is about, "" for the platform's own.
	AppID string
	// Type is the push's InfoType, its MsgType, or event/ and its Event.
	Type string
	// Lasting means that the push is not given up for want of room: it is about
	// an authorization, not a message to an account.
	Lasting bool
	// ReceivedAt is when the push came.
	ReceivedAt time.Time
	// Message is the XML to deliver. It is what users wrote: never log it.
	Message secret.String
	// Attempts is how often it was tried, NextAt when it may be tried again, and
	// GiveUpAt when a further failure makes it a dead letter.
	Attempts int
	NextAt   time.Time
	GiveUpAt time.Time
	// Dead means that it is a dead letter: kept, but not tried any more.
	Dead bool
	// LastError is the status or the class of error of the last attempt, never
	// anything of a message or an answer.
	LastError string
}

// DeliveryCounts is how many deliveries are kept.
type DeliveryCounts struct {
	// Pending is by target; a target that has none is not in it.
	Pending map[string]int
	// Dead is of all targets together.
	Dead int
}

// Deliveries is a Store that keeps deliveries too. What Store says of its
// methods holds for these.
type Deliveries interface {
	// AddDeliveries stores all of ds, pending, under the next Seqs in their
	// order, in one atomic write, but for those whose ID is kept already, dead
	// letters included. It returns how many it has stored. No two of ds may share
	// an ID.
	AddDeliveries(ctx context.Context, ds []Delivery) (added int, err error)
	// Delivery returns a pending delivery or dead letter; ErrNotFound if there is
	// none.
	Delivery(ctx context.Context, seq uint64) (Delivery, error)
	// FindDelivery returns the pending delivery or dead letter of this ID;
	// ErrNotFound if there is none.
	FindDelivery(ctx context.Context, id string) (Delivery, error)
	// Deliveries returns up to limit pending deliveries to target with a Seq
	// greater than after, oldest first.
	Deliveries(ctx context.Context, target string, after uint64, limit int) ([]Delivery, error)
	// DeadDeliveries returns up to limit dead letters, of any target, with a Seq
	// greater than after, oldest first.
	DeadDeliveries(ctx context.Context, after uint64, limit int) ([]Delivery, error)
	// UpdateDelivery is an Update method, but of a record that must be there:
	// ErrNotFound if it is not. Of what fn makes of it Seq, ID and Target are not
	// taken. A dead letter that fn makes pending arrives anew: it gets the next
	// Seq, which the record returned shows.
	UpdateDelivery(ctx context.Context, seq uint64, fn func(*Delivery) error) (Delivery, error)
	// DeleteDelivery forgets a delivery. Deleting one that does not exist is no
	// error.
	DeleteDelivery(ctx context.Context, seq uint64) error
	// CountDeliveries costs the same however many there are.
	CountDeliveries(ctx context.Context) (DeliveryCounts, error)
}

const kindDelivery = "delivery"

type wireDelivery struct {
	Version    int       `json:"v"`
	Seq        uint64    `json:"n,omitempty"`
	ID         string    `json:"d"`
	Target     string    `json:"to"`
	AppID      string    `json:"id,omitempty"`
	Type       string    `json:"y,omitempty"`
	Lasting    bool      `json:"l,omitempty"`
	ReceivedAt time.Time `json:"r,omitzero"`
	Message    sealed    `json:"m,omitempty"`
	Attempts   int       `json:"a,omitempty"`
	NextAt     time.Time `json:"x,omitzero"`
	GiveUpAt   time.Time `json:"g,omitzero"`
	Dead       bool      `json:"z,omitempty"`
	LastError  string    `json:"e,omitempty"`
}

// EncodeDelivery gives the bytes to store for rec, or ErrInvalid: the target is
// a key too, and has no zero byte. Without keys the result holds the message.
func (c Codec) EncodeDelivery(rec Delivery) ([]byte, error) {
	if rec.Target == "" || len(rec.Target) > maxKey || strings.ContainsRune(rec.Target, 0) {
		return nil, fmt.Errorf("encode %s: target of %d bytes: %w", kindDelivery, len(rec.Target), ErrInvalid)
	}
	version, s := c.sealAll(kindDelivery, rec.ID, named{"m", rec.Message})
	return encode(kindDelivery, rec.ID, []string{rec.Target, rec.AppID, rec.Type, rec.LastError}, wireDelivery{
		Version:    version,
		Seq:        rec.Seq,
		ID:         rec.ID,
		Target:     rec.Target,
		AppID:      rec.AppID,
		Type:       rec.Type,
		Lasting:    rec.Lasting,
		ReceivedAt: rec.ReceivedAt.UTC(),
		Message:    s[0],
		Attempts:   rec.Attempts,
		NextAt:     rec.NextAt.UTC(),
		GiveUpAt:   rec.GiveUpAt.UTC(),
		Dead:       rec.Dead,
		LastError:  rec.LastError,
	})
}

// DecodeDelivery reads what EncodeDelivery wrote. Times are in UTC. The error is
// ErrCorrupt, ErrNewer or ErrKey.
func (c Codec) DecodeDelivery(data []byte) (Delivery, error) {
	var w wireDelivery
	if err := decode(kindDelivery, data, &w, &w.Version); err != nil {
		return Delivery{}, err
	}
	s, err := c.openAll(kindDelivery, w.ID, w.Version, stored{"m", w.Message})
	if err != nil {
		return Delivery{}, err
	}
	return Delivery{
		Seq:        w.Seq,
		ID:         w.ID,
		Target:     w.Target,
		AppID:      w.AppID,
		Type:       w.Type,
		Lasting:    w.Lasting,
		ReceivedAt: w.ReceivedAt.UTC(),
		Message:    s[0],
		Attempts:   w.Attempts,
		NextAt:     w.NextAt.UTC(),
		GiveUpAt:   w.GiveUpAt.UTC(),
		Dead:       w.Dead,
		LastError:  w.LastError,
	}, nil
}

// EncodeDelivery is Codec{}.EncodeDelivery.
func EncodeDelivery(rec Delivery) ([]byte, error) { return Codec{}.EncodeDelivery(rec) }

// DecodeDelivery is Codec{}.DecodeDelivery.
func DecodeDelivery(data []byte) (Delivery, error) { return Codec{}.DecodeDelivery(data) }
