package forward

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"lingpai/tokens/store"
)

const (
	// replyWithin bounds Reply: WeChat waits for 5 s.
	replyWithin = 4 * time.Second
	// replyReserve is what of it is left for taking the message off the queue.
	replyReserve = 200 * time.Millisecond
	// replyFirst is how long a message stays in the queue untouched, for Reply: for
	// as long as that can take, and some more for clocks that differ.
	replyFirst = replyWithin + 2*time.Second
	// maxReply is how long a reply may be, in bytes.
	maxReply = 1 << 20
)

// Reply sends a message that was accepted to the target that replies, and returns
// its answer: the plain XML that the caller is to encrypt. ok is false if WeChat is
// to be answered success: there is no such target, it does not want this message,
// its answer is empty or success, or is no <xml> document, or did not come within
// 4 s in all, or before the end of ctx.
//
// The target gets a message once: from here, and not from the queue, and beside
// the order of what is queued. Accept has queued it, but for some seconds nobody
// touches it there; when the target has taken it from here, which a 2xx in time
// says, it is taken off. Else, and if the process dies meanwhile, it is delivered
// from the queue with the same id, again and again as any; an answer comes too
// late then and is dropped.
func (f *Forwarder) Reply(ctx context.Context, push Push) (answer []byte, ok bool) {
	t := f.targets.Load().replier()
	if t == nil {
		return nil, false
	}
	m, err := readPush(push)
	if err != nil || !m.replyable() || !t.wants(m, push.AppID) {
		return nil, false
	}
	d := newDelivery(push, m, t.Name)
	ctx, cancel := context.WithTimeout(ctx, replyWithin)
	defer cancel()
	answer, failed := f.ask(ctx, t, d)
	if failed != "" {
		f.metrics.PushDelivery(t.Name, resultRetried)
		f.log.Debug("a message is not replied to: it is delivered later", "target", t.Name, "delivery", d.ID, "error", failed)
		return nil, false
	}
	f.metrics.PushDelivery(t.Name, resultDelivered)
	queued, err := f.store.FindDelivery(ctx, d.ID)
	if err == nil {
		err = f.store.DeleteDelivery(ctx, queued.Seq)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		f.log.Error("a message that was replied to stays in the queue, and is delivered again", "target", t.Name, "delivery", d.ID, "error", err)
	}
	return answer, len(answer) > 0
}

// ask sends a message, and waits for its answer no longer than leaves time to take
// it off the queue. failed is why the target has not taken it.
func (f *Forwarder) ask(ctx context.Context, t *Target, d store.Delivery) (answer []byte, failed string) {
	select {
	case f.replies <- struct{}{}:
		defer func() { <-f.replies }()
	default:
		return nil, "too many at a time"
	}
	deadline, _ := ctx.Deadline()
	ctx, cancel := context.WithDeadline(ctx, deadline.Add(-replyReserve))
	defer cancel()
	began := time.Now()
	defer func() { f.metrics.PushDeliveryTook(time.Since(began)) }()
	r, err := newRequest(ctx, t, d, began)
	if err != nil {
		return nil, class(err)
	}
	r.Header.Set("X-Lingpai-Reply", "true")
	response, err := f.client.Do(r)
	if err != nil {
		return nil, class(err)
	}
	defer response.Body.Close()
	if out := outcomeOf(response, began); out.err != "" {
		return nil, out.err
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, response.Body, maxReply))
	if err != nil {
		// It has taken the message, as a 2xx says; its reply is lost.
		f.log.Warn("the answer to a message cannot be read, or is longer than 1 MiB", "target", t.Name, "delivery", d.ID, "error", class(err))
		return nil, ""
	}
	text := strings.TrimSpace(string(body))
	switch {
	case text == "" || text == "success":
		return nil, ""
	case walk(text, func(element) {}) != nil:
		f.log.Warn("the answer to a message is no <xml> document", "target", t.Name, "delivery", d.ID)
		return nil, ""
	}
	return []byte(text), ""
}
