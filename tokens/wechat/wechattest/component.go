package wechattest

import (
	"slices"
	"time"
)

// maxTickets bounds the memory of tickets: 12 hours hold 72.
const maxTickets = 4096

// componentToken fetches a component_access_token. Every success replaces the
// previous token, which lives on for Knobs.ComponentOverlap; there is no
// idempotent mode.
//
// https://developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_getcomponentaccesstoken
func (q *request) componentToken() reply {
	switch {
	case q.params.ComponentAppID == "":
		return q.fail(41018)
	case q.params.ComponentAppID != q.componentAppID:
		return q.fail(40013)
	case q.params.ComponentAppSec == "":
		return q.fail(41004)
	case q.params.ComponentAppSec != q.componentSecret:
		return q.fail(40125)
	}
	if errcode := q.checkTicket(q.params.Ticket); errcode != 0 {
		return q.fail(errcode)
	}
	t := q.issue(chain{kind: KindComponent, appID: q.componentAppID}, q.knobs.ComponentTokenLifetime, q.knobs.ComponentOverlap)
	return q.answer(struct {
		Token     string `json:"component_access_token"`
		ExpiresIn int    `json:"expires_in"`
	}{t.value, q.knobs.ComponentTokenLifetime.seconds()})
}

func (q *request) checkTicket(value string) int {
	i := slices.IndexFunc(q.tickets, func(t ticket) bool { return t.value == value })
	switch {
	case i < 0:
		return 61006
	case time.Since(q.tickets[i].issued) >= time.Duration(q.knobs.TicketValidity):
		return 61005
	case q.knobs.OnlyNewestTicket && i < len(q.tickets)-1:
		return 61006
	}
	return 0
}

// startPushTicket switches the ticket push on; it does not push.
//
// https://developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_startpushticket.html
func (q *request) startPushTicket() reply {
	switch {
	case q.params.ComponentAppID == "":
		return q.fail(41018)
	case q.params.ComponentAppID != q.componentAppID:
		return q.fail(40013)
	case q.params.ComponentSecret == "":
		return q.fail(41004)
	case q.params.ComponentSecret != q.componentSecret:
		return q.fail(40125)
	}
	if !q.pushOff {
		return q.ok(object{"errmsg": "in a normal state"})
	}
	q.pushOff = false
	q.wakeRun()
	return q.ok(nil)
}

// SetTicketPush switches the periodical ticket push of Run, as
// api_start_push_ticket does. It is on at first.
func (s *Server) SetTicketPush(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pushOff = !on
	s.wakeRun()
}

// IssueTicket makes a ticket that api_component_token accepts, without pushing
// it.
func (s *Server) IssueTicket() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newTicket()
}

func (s *Server) newTicket() string {
	t := ticket{s.values.ticket(), time.Now()}
	s.addSecret(t.value)
	s.tickets = append(s.tickets, t)
	if len(s.tickets) > maxTickets {
		s.tickets = slices.Delete(s.tickets, 0, len(s.tickets)-maxTickets)
	}
	return t.value
}

// checkComponentAppID compares the component_appid of a body.
func (q *request) checkComponentAppID() int {
	switch q.params.ComponentAppID {
	case "":
		return 41018
	case q.componentAppID:
		return 0
	default:
		return 40013
	}
}

type preAuthCode struct {
	expires time.Time
	used    bool
	by      string // the login page that used it
}

// createPreAuthCode makes a pre_auth_code: single-use, several at a time.
//
// https://developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_getpreauthcode
func (q *request) createPreAuthCode() reply {
	if errcode := q.checkComponentAppID(); errcode != 0 {
		return q.fail(errcode)
	}
	return q.answer(struct {
		Code      string `json:"pre_auth_code"`
		ExpiresIn int    `json:"expires_in"`
	}{q.newPreAuthCode(), q.knobs.PreAuthCodeLifetime.seconds()})
}

func (s *Server) newPreAuthCode() string {
	code, now := s.values.preAuthCode(), time.Now()
	s.addSecret(code)
	if len(s.preAuthCodes)%1024 == 1023 {
		for old, c := range s.preAuthCodes {
			if c.expires.Before(now) {
				delete(s.preAuthCodes, old)
			}
		}
	}
	s.preAuthCodes[code] = &preAuthCode{expires: now.Add(time.Duration(s.knobs.PreAuthCodeLifetime))}
	return code
}
