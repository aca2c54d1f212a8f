package forward

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

const (
	firstBackoff = time.Second
	maxBackoff   = 5 * time.Minute
	// maxWhileTaking bounds it while the target takes others: it is up, and what
	// it refused by chance should not wait long.
	maxWhileTaking = 5 * time.Second
	// takingFor is how long after it took something a target is held to be up.
	takingFor = time.Minute
	// maxRetryAfter bounds what a target may ask for.
	maxRetryAfter = time.Hour
	// maxDropped is how much of an answer nobody wants is read, so that its
	// connection can be used again.
	maxDropped = 64 << 10
)

// outcome is what came of an attempt. err is "" if the target has taken it,
// else the status or a class of error: it is shown to operators.
type outcome struct {
	err        string
	gone       bool // 410
	retryAfter time.Duration
	took       time.Duration
}

// content is what is sent of a message, and its type.
func content(json bool, xml secret.String) (body []byte, contentType string, err error) {
	if !json {
		return []byte(xml.Reveal()), "application/xml", nil
	}
	body, err = toJSON(xml.Reveal())
	return body, "application/json", err
}

// sign is the value of X-Lingpai-Signature.
func sign(key secret.String, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(key.Reveal()))
	mac.Write([]byte(timestamp))
	mac.Write([]byte{'.'})
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// newRequest is one attempt to deliver d to t.
func newRequest(ctx context.Context, t *Target, d store.Delivery, now time.Time) (*http.Request, error) {
	body, contentType, err := content(t.JSON, d.Message)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.URL, bytes.NewReader(body))
	if err != nil {
		return nil, errURL // the error would quote it
	}
	timestamp := strconv.FormatInt(now.Unix(), 10)
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("User-Agent", "lingpai")
	r.Header.Set("X-Lingpai-Delivery", d.ID)
	r.Header.Set("X-Lingpai-Timestamp", timestamp)
	r.Header.Set("X-Lingpai-Signature", sign(t.Secret, timestamp, body))
	r.Header.Set("X-Lingpai-Type", d.Type)
	if d.AppID != "" {
		r.Header.Set("X-Lingpai-Appid", d.AppID)
	}
	return r, nil
}

var errURL = errors.New("url")

// send makes one attempt, and reads no more of the answer than needed.
func (f *Forwarder) send(ctx context.Context, t *Target, d store.Delivery) outcome {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	began := time.Now()
	out := f.attempt(ctx, t, d)
	out.took = time.Since(began)
	f.metrics.PushDeliveryTook(out.took)
	return out
}

func (f *Forwarder) attempt(ctx context.Context, t *Target, d store.Delivery) outcome {
	r, err := newRequest(ctx, t, d, time.Now())
	if err != nil {
		return outcome{err: class(err)}
	}
	answer, err := f.client.Do(r)
	if err != nil {
		return outcome{err: class(err)}
	}
	defer answer.Body.Close()
	io.CopyN(io.Discard, answer.Body, maxDropped) // the status has said it all
	return outcomeOf(answer, time.Now())
}

func outcomeOf(answer *http.Response, now time.Time) outcome {
	if answer.StatusCode/100 == 2 {
		return outcome{}
	}
	return outcome{
		err:        "status " + strconv.Itoa(answer.StatusCode),
		gone:       answer.StatusCode == http.StatusGone,
		retryAfter: retryAfter(answer.Header.Get("Retry-After"), now),
	}
}

// retryAfter reads the field of this name, in seconds or as a date; 0 if it says
// nothing.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// backoff is how long to wait after so many failed attempts: between one and two
// seconds after the first, twice that after each further one, at most maxBackoff.
// jitter is in [0,1).
func backoff(attempts int, jitter float64) time.Duration {
	return backoffUpTo(maxBackoff, attempts, jitter)
}

func backoffUpTo(limit time.Duration, attempts int, jitter float64) time.Duration {
	base := firstBackoff << min(max(attempts-1, 0), 20)
	return min(base+time.Duration(jitter*float64(base)), limit-time.Duration(jitter*float64(limit/4)))
}

func jitter() float64 { return rand.Float64() }

// class names the kind of a transport's error. The error itself may hold the
// target's URL, and with it a password.
func class(err error) string {
	var (
		dns     *net.DNSError
		network net.Error
	)
	switch {
	case errors.Is(err, ErrMalformed):
		return "message is malformed"
	case errors.Is(err, errURL):
		return "url is malformed"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.As(err, &dns):
		return "host not found"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case isTLS(err):
		return "tls"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection closed"
	}
	return "network error"
}

func isTLS(err error) bool {
	var (
		alert       tls.AlertError
		record      tls.RecordHeaderError
		certificate *tls.CertificateVerificationError
		hostname    x509.HostnameError
		authority   x509.UnknownAuthorityError
	)
	return errors.As(err, &alert) || errors.As(err, &record) || errors.As(err, &certificate) ||
		errors.As(err, &hostname) || errors.As(err, &authority)
}
