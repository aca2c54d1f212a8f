package wechattest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Errors of the pushes.
var (
	// ErrNoURL means that the URL to push to is not set.
	ErrNoURL = errors.New("no URL to push to")
	// ErrNotAcknowledged means that the receiver did not answer success, however
	// often it was tried.
	ErrNotAcknowledged = errors.New("push not acknowledged")
	// ErrPaused means that pushes rest after a failed one; see
	// Knobs.PushPauseAfterFailed.
	ErrPaused = errors.New("pushes pause after a failure")
)

// maxPushes bounds the memory of pushes.
const maxPushes = 10_000

// maxPushAnswer bounds what is read of a receiver's answer.
const maxPushAnswer = 1 << 20

// newPushClient gives a receiver 5 seconds, as WeChat does. It leaves no
// connections behind, follows no redirect and asks no proxy: receivers under
// test are near.
func newPushClient() *http.Client {
	return &http.Client{
		Timeout:       5 * time.Second,
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// PushRecord is one attempt to deliver a push.
type PushRecord struct {
	Sequence     int           `json:"sequence"` // from 1
	Time         time.Time     `json:"time"`
	Duration     time.Duration `json:"duration_ns"`
	Kind         string        `json:"kind"` // the InfoType, or "message"
	AppID        string        `json:"app_id"`
	URL          string        `json:"url"`     // without query
	Attempt      int           `json:"attempt"` // from 1
	Status       int           `json:"status"`  // 0: no answer
	Answer       string        `json:"answer"`  // as received
	Reply        string        `json:"reply"`   // a message's answer, decrypted
	Plain        string        `json:"plain"`   // the XML inside: holds tickets and codes
	Acknowledged bool          `json:"acknowledged"`
	Error        string        `json:"error,omitempty"`
}

// push is one thing to deliver.
type push struct {
	kind, appID string
	url         string
	msg         []byte
	sealing     Sealing
	attempts    int
	client      *http.Client // nil: the Server's
}

// Pushes returns all attempts so far, oldest first; the last 10000.
func (s *Server) Pushes() []PushRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.journal.pushes)
}

// deliver sends a push until it is acknowledged or the attempts are used up,
// and returns the last attempt. Each is sealed anew.
//
// https://developers.weixin.qq.com/doc/service/guide/dev/api/warn_guide.md
func (s *Server) deliver(ctx context.Context, p push) (PushRecord, error) {
	var last PushRecord
	if p.url == "" {
		return last, ErrNoURL
	}
	s.mu.Lock()
	paused, interval := time.Now().Before(s.pauseUntil), time.Duration(s.knobs.PushRetryInterval)
	s.mu.Unlock()
	if paused {
		return last, ErrPaused
	}
	for attempt := 1; attempt <= p.attempts; attempt++ {
		if attempt > 1 {
			s.sleep(ctx, interval)
		}
		if err := ctx.Err(); err != nil {
			return last, err
		}
		last = s.attempt(ctx, p, attempt)
		if last.Acknowledged {
			return last, nil
		}
	}
	s.mu.Lock()
	s.pauseUntil = time.Now().Add(time.Duration(s.knobs.PushPauseAfterFailed))
	s.mu.Unlock()
	return last, fmt.Errorf("%w: %s: status %d %s", ErrNotAcknowledged, p.kind, last.Status, last.Error)
}

func (s *Server) attempt(ctx context.Context, p push, number int) PushRecord {
	rec := PushRecord{Time: time.Now(), Kind: p.kind, AppID: p.appID, URL: p.url, Attempt: number, Plain: string(p.msg)}
	answer, status, err := s.send(ctx, p)
	rec.Status, rec.Answer = status, string(answer)
	switch {
	case err != nil:
	case status != http.StatusOK:
		err = fmt.Errorf("HTTP status %d", status)
	case p.kind == "message":
		rec.Reply, err = s.openReply(answer)
	case rec.Answer != "success":
		err = errors.New("the answer is not success")
	}
	if err != nil {
		rec.Error = err.Error()
	}
	rec.Acknowledged = err == nil
	rec.Duration = time.Since(rec.Time)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.journal.pushNumber++
	rec.Sequence = s.journal.pushNumber
	if len(s.journal.pushes) >= maxPushes {
		s.journal.pushes = slices.Delete(s.journal.pushes, 0, maxPushes/10)
	}
	s.journal.pushes = append(s.journal.pushes, rec)
	return rec
}

func (s *Server) send(ctx context.Context, p push) (answer []byte, status int, err error) {
	query, body, err := s.SealPush(p.msg, p.sealing)
	if err != nil {
		return nil, 0, err
	}
	target, err := url.Parse(p.url)
	if err != nil {
		return nil, 0, fmt.Errorf("push URL is no URL")
	}
	// A query of the receiver's own stays in front.
	target.RawQuery = strings.TrimPrefix(target.RawQuery+"&"+query.Encode(), "&")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, 0, errors.New("push URL is no URL")
	}
	req.Header.Set("Content-Type", "text/xml")
	req.Header.Set("User-Agent", "Mozilla/4.0")
	client := p.client
	if client == nil {
		client = s.client
	}
	resp, err := client.Do(req)
	if err != nil {
		if e := new(url.Error); errors.As(err, &e) {
			err = e.Err // the URL's query is of no use to a reader
		}
		return nil, 0, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxPushAnswer))
	return answer, resp.StatusCode, err
}

// event prepares the push of an event.
func (s *Server) event(kind, appID string, attempts int, fields []Field) push {
	return push{kind: kind, appID: appID, url: s.eventURL, msg: s.eventXML(kind, fields), attempts: attempts}
}

// PushEvent pushes any InfoType with the given fields after AppId, CreateTime
// and InfoType, and returns the last attempt.
func (s *Server) PushEvent(ctx context.Context, infoType string, fields ...Field) (PushRecord, error) {
	s.mu.Lock()
	p := s.event(infoType, "", s.knobs.EventAttempts, fields)
	s.mu.Unlock()
	return s.deliver(ctx, p)
}

// PushTicket pushes a component_verify_ticket, of the kind that Knobs.Ticket
// says. From the moment of the push on it is accepted.
//
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/component_verify_ticket.html
func (s *Server) PushTicket(ctx context.Context) error {
	s.mu.Lock()
	if s.knobs.Ticket == TicketNone {
		s.mu.Unlock()
		return nil
	}
	if s.eventURL == "" {
		s.mu.Unlock()
		return ErrNoURL
	}
	fields := []Field{{Name: "ComponentVerifyTicket", Value: s.nextTicket()}}
	p := s.event("component_verify_ticket", "", s.knobs.TicketAttempts, fields)
	s.mu.Unlock()
	_, err := s.deliver(ctx, p)
	return err
}

// nextTicket is the ticket of the next push.
func (s *Server) nextTicket() string {
	repeat := false
	switch s.knobs.Ticket {
	case TicketGarbage:
		value := s.values.ticket()
		s.addSecret(value)
		return value
	case TicketSame:
		repeat = true
	case TicketEverySecond:
		repeat = s.ticketsSent%2 == 1
	}
	s.ticketsSent++
	if n := len(s.tickets); repeat && n > 0 && time.Since(s.tickets[n-1].issued) < time.Duration(s.knobs.TicketValidity) {
		return s.tickets[n-1].value
	}
	return s.newTicket()
}

// PushMessage pushes a plain message or event XML of an account to the message
// URL and returns the last attempt, whose Reply is the decrypted answer.
//
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/message_push.html
func (s *Server) PushMessage(ctx context.Context, appID string, xml []byte) (PushRecord, error) {
	return s.deliver(ctx, s.messagePush(appID, xml))
}

func (s *Server) messagePush(appID string, xml []byte) push {
	s.mu.Lock()
	defer s.mu.Unlock()
	return push{
		kind: "message", appID: appID, msg: xml, attempts: s.knobs.MessageAttempts,
		url:     strings.ReplaceAll(s.messageURL, "$APPID$", appID),
		sealing: Sealing{ToUserName: s.userNameOf(appID), OpenID: element(xml, "FromUserName")},
	}
}

// element finds the text of an XML element.
func element(xml []byte, name string) string {
	_, rest, ok := strings.Cut(string(xml), "<"+name+">")
	if !ok {
		return ""
	}
	text, _, _ := strings.Cut(rest, "</"+name+">")
	text = strings.TrimSpace(text)
	return strings.TrimSuffix(strings.TrimPrefix(text, "<![CDATA["), "]]>")
}

// Run pushes tickets until ctx ends: one at once, tried again each second until
// the receiver acknowledges it, then one each Knobs.TicketInterval while the
// push is switched on.
func (s *Server) Run(ctx context.Context) {
	var last time.Time
	first := true
	for ctx.Err() == nil {
		s.mu.Lock()
		off, closed, interval := s.pushOff, s.done, time.Duration(s.knobs.TicketInterval)
		s.mu.Unlock()
		if closed {
			return
		}
		wait := interval - time.Since(last)
		if !off && (first || wait <= 0) {
			last, wait = time.Now(), interval
			err := s.PushTicket(ctx)
			if first = first && err != nil; first {
				wait = time.Second
			}
		}
		if off || wait <= 0 {
			wait = interval
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-s.wake:
		case <-s.closed:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}
