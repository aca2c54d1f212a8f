package forward

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lingpai/tokens/store"
)

// Letter is a dead letter without what it says.
type Letter struct {
	Seq    uint64 `json:"seq"`
	ID     string `json:"id"`
	Target string `json:"target"`
	AppID  string `json:"app_id,omitempty"`
	Type   string `json:"type"`
	// ReceivedAt is when the push came.
	ReceivedAt time.Time `json:"received_at"`
	Attempts   int       `json:"attempts"`
	LastError  string    `json:"last_error"`
}

func letterOf(d store.Delivery) Letter {
	return Letter{d.Seq, d.ID, d.Target, d.AppID, d.Type, d.ReceivedAt, d.Attempts, d.LastError}
}

// Content is what a delivery sends.
type Content struct {
	Type string // the Content-Type
	Body []byte
}

// Counts is how many deliveries wait for each target, targets of former
// configurations included, and how many dead letters there are.
func (f *Forwarder) Counts(ctx context.Context) (store.DeliveryCounts, error) {
	return f.store.CountDeliveries(ctx)
}

// DeadLetters returns up to limit dead letters, of target or with "" of all, with
// a Seq greater than after, oldest first.
func (f *Forwarder) DeadLetters(ctx context.Context, target string, after uint64, limit int) ([]Letter, error) {
	letters := []Letter{}
	err := f.eachDead(ctx, target, after, func(d store.Delivery) (bool, error) {
		if len(letters) < limit {
			letters = append(letters, letterOf(d))
		}
		return len(letters) < limit, nil
	})
	return letters, err
}

// eachDead calls fn with dead letters until it returns false.
func (f *Forwarder) eachDead(ctx context.Context, target string, after uint64, fn func(store.Delivery) (bool, error)) error {
	for {
		page, err := f.store.DeadDeliveries(ctx, after, pageSize)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, d := range page {
			after = d.Seq
			if target != "" && d.Target != target {
				continue
			}
			if more, err := fn(d); err != nil || !more {
				return err
			}
		}
	}
}

// DeadLetter returns a dead letter and what would be sent if it were sent again
// now: codes are not in it, but what users wrote is. It is XML if its target is no
// more. The error is store.ErrNotFound if there is no such dead letter.
func (f *Forwarder) DeadLetter(ctx context.Context, seq uint64) (Letter, Content, error) {
	d, err := f.dead(ctx, seq)
	if err != nil {
		return Letter{}, Content{}, err
	}
	t := f.targets.Load().byName[d.Target]
	body, contentType, err := content(t != nil && t.JSON, d.Message)
	return letterOf(d), Content{contentType, body}, err
}

func (f *Forwarder) dead(ctx context.Context, seq uint64) (store.Delivery, error) {
	d, err := f.store.Delivery(ctx, seq)
	if err == nil && !d.Dead {
		err = fmt.Errorf("delivery %d is no dead letter: %w", seq, store.ErrNotFound)
	}
	return d, err
}

// ErrNoTarget means that no target of the configuration has the name.
var ErrNoTarget = errors.New("no target of this name is configured")

// Resend queues a dead letter again, behind all that waits, and returns it with
// its new Seq. It is tried for another 24 h. The error is store.ErrNotFound if
// there is no such dead letter, and ErrNoTarget.
func (f *Forwarder) Resend(ctx context.Context, seq uint64) (Letter, error) {
	d, err := f.dead(ctx, seq)
	if err != nil {
		return Letter{}, err
	}
	if f.targets.Load().byName[d.Target] == nil {
		return Letter{}, ErrNoTarget
	}
	d, err = f.store.UpdateDelivery(ctx, seq, func(d *store.Delivery) error {
		if !d.Dead {
			return store.ErrNotFound
		}
		d.Dead, d.Attempts, d.NextAt, d.LastError = false, 0, time.Time{}, ""
		d.GiveUpAt = time.Now().Add(keepFor)
		return nil
	})
	if err != nil {
		return Letter{}, err
	}
	f.Wake()
	return letterOf(d), nil
}

// ResendAll queues all dead letters of target that there are now again, in their
// order, and returns how many. After an error some are queued. The error is
// ErrNoTarget, or the store's.
func (f *Forwarder) ResendAll(ctx context.Context, target string) (n int, err error) {
	if f.targets.Load().byName[target] == nil {
		return 0, ErrNoTarget
	}
	counts, err := f.store.CountDeliveries(ctx)
	if err != nil {
		return 0, err
	}
	// What dies again while this goes on has a Seq behind all others; without a
	// bound that could go on for ever.
	left := counts.Dead
	err = f.eachDead(ctx, target, 0, func(d store.Delivery) (bool, error) {
		_, err := f.Resend(ctx, d.Seq)
		if err == nil {
			n++
		}
		if errors.Is(err, store.ErrNotFound) { // somebody else was faster
			err = nil
		}
		left--
		return left > 0, err
	})
	return n, err
}

// DeleteDeadLetter forgets a dead letter; store.ErrNotFound if there is none.
func (f *Forwarder) DeleteDeadLetter(ctx context.Context, seq uint64) error {
	// One that is sent again meanwhile has another Seq then, and stays.
	if _, err := f.dead(ctx, seq); err != nil {
		return err
	}
	return f.store.DeleteDelivery(ctx, seq)
}
