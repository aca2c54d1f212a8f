package callback

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"lingpai/tokens/msgcrypt"
	"lingpai/tokens/wechat"
)

// maxShort is how much of a body is read before the request takes a slot, in
// bytes. A push is shorter as a rule: so strangers who send slowly take no slot
// from WeChat.
const maxShort = 64 << 10

var (
	errNoComponent = &refusal{http.StatusForbidden, "refused", "no component is configured"}
	errLong        = &refusal{http.StatusRequestEntityTooLarge, "malformed", "longer than 1 MiB"}
	errCut         = &refusal{http.StatusBadRequest, "malformed", "body ended early"}
	errTrickle     = &refusal{http.StatusRequestTimeout, "malformed", "body came too slowly"}
	errBusy        = &refusal{http.StatusServiceUnavailable, "error", "too many pushes at a time"}
	errNoEnvelope  = &refusal{http.StatusForbidden, "refused", "no encrypted envelope"}
	errSignature   = &refusal{http.StatusForbidden, "refused", "msg_signature does not match; check component.token"}
	errSealed      = &refusal{http.StatusForbidden, "refused", "the envelope does not open, or is for another platform; check component.encoding_aes_key and app_id"}
)

// open verifies a push and returns its decrypted message. release gives back
// the slot that the message takes.
func (h *Handler) open(ctx context.Context, w http.ResponseWriter, r *http.Request) (message []byte, release func(), err error) {
	config := h.config.Load()
	if config == nil {
		return nil, func() {}, errNoComponent
	}
	body, release, err := h.body(ctx, w, r)
	if err == nil {
		message, err = config.verify(r, body)
	}
	return message, release, err
}

// verify returns the message of an authentic push. Until the signature holds
// the envelope is no more than a stranger's word: whatever is wrong with it is
// answered alike.
func (c *Config) verify(r *http.Request, body []byte) ([]byte, error) {
	envelope, err := wechat.ParseEnvelope(body)
	if err != nil {
		return nil, errNoEnvelope
	}
	query := r.URL.Query()
	timestamp, nonce := query.Get("timestamp"), query.Get("nonce")
	// What is signed is joined without marks between: one part could hold two.
	if timestamp == "" || nonce == "" ||
		!msgcrypt.Verify(c.Token.Reveal(), timestamp, nonce, envelope.Encrypt, query.Get("msg_signature")) {
		return nil, errSignature
	}
	for _, key := range c.Keys {
		message, appID, err := key.Decrypt(envelope.Encrypt)
		if err != nil {
			continue
		}
		// With a wrong key the tail can only be ours by chance.
		if appID == c.AppID {
			return message, nil
		}
	}
	return nil, errSealed
}

// body reads a request's body within the time of ctx, and takes a slot.
func (h *Handler) body(ctx context.Context, w http.ResponseWriter, r *http.Request) (body []byte, release func(), err error) {
	if r.ContentLength > maxPush {
		return nil, func() {}, errLong
	}
	control := http.NewResponseController(w)
	if deadline, ok := ctx.Deadline(); ok {
		control.SetReadDeadline(deadline)
	}
	reader := http.MaxBytesReader(w, r.Body, maxPush)
	var read bytes.Buffer
	_, err = io.CopyN(&read, reader, maxShort)
	rest := err == nil
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, func() {}, unread(err)
	}
	select {
	case h.slots <- struct{}{}:
		release = func() { <-h.slots }
	case <-ctx.Done():
		return nil, func() {}, errBusy
	}
	if rest {
		if _, err = read.ReadFrom(reader); err != nil {
			return nil, release, unread(err)
		}
	}
	control.SetReadDeadline(time.Time{}) // else it would end the request's context while the store works
	return read.Bytes(), release, nil
}

// unread says why a body could not be read.
func unread(err error) error {
	if _, long := errors.AsType[*http.MaxBytesError](err); long {
		return errLong
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errTrickle
	}
	return errCut
}
