package wechat

import (
	"fmt"
	"net/url"
	"strings"

	"lingpai/tokens/secret"
)

// Class says what an errcode asks of the program. All errcodes are classed in
// one table, classOf.
type Class uint8

// The classes.
const (
	// ClassOther: about the call itself; it goes to the caller as it is.
	ClassOther Class = iota
	// ClassBadToken: the access token that came with the call is refused.
	ClassBadToken
	// ClassBusy: WeChat could not; later it may.
	ClassBusy
	// ClassMinuteQuota: too many calls this minute.
	ClassMinuteQuota
	// ClassDailyQuota: no more calls until the next day, Beijing time.
	ClassDailyQuota
	// ClassOperator: only a person can mend it: secret, whitelist, appid.
	ClassOperator
	// ClassTicket: the component_verify_ticket is not accepted.
	ClassTicket
	// ClassNotAuthorized: the account does not authorize the platform (61003).
	// It has been seen for hours and then gone.
	ClassNotAuthorized
	// ClassRefreshToken: the authorizer's refresh token is dead (61023).
	ClassRefreshToken
	// ClassCode: the authorization code is spent, expired or not ours.
	ClassCode
)

// classOf is the table of errcodes with a class of their own.
// https://developers.weixin.qq.com/doc/oplatform/Return_codes/Return_code_descriptions_new.html
var classOf = map[int]Class{
	40001: ClassBadToken, 40014: ClassBadToken, 42001: ClassBadToken, 42006: ClassBadToken, 40094: ClassBadToken,
	-1:    ClassBusy,
	45011: ClassMinuteQuota,
	45009: ClassDailyQuota,
	40013: ClassOperator, 40125: ClassOperator, 40164: ClassOperator, 40243: ClassOperator, 41002: ClassOperator,
	41004: ClassOperator, 41018: ClassOperator, 45035: ClassOperator, 48004: ClassOperator, 50002: ClassOperator,
	61000: ClassOperator, 61001: ClassOperator, 61002: ClassOperator, 61004: ClassOperator, 61011: ClassOperator,
	61024: ClassOperator, 61028: ClassOperator, 61029: ClassOperator,
	40091: ClassTicket, 61005: ClassTicket, 61006: ClassTicket,
	61003: ClassNotAuthorized,
	61023: ClassRefreshToken,
	61009: ClassCode, 61010: ClassCode,
}

// ClassOf returns the class of an errcode.
func ClassOf(errcode int) Class { return classOf[errcode] }

// BadToken reports whether an errcode speaks of the access token of the call,
// so that the call was refused before it ran.
func BadToken(errcode int) bool { return errcode != 0 && ClassOf(errcode) == ClassBadToken }

// Error is an error answer of WeChat: HTTP 200 with an errcode.
type Error struct {
	Code     int
	Message  string // errmsg, with what was sent taken out
	Endpoint string // path
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("%s: errcode %d: %s", e.Endpoint, e.Code, e.Message)
}

// Class returns the class of the errcode.
func (e *Error) Class() Class { return ClassOf(e.Code) }

// TransportError means that no answer of WeChat's could be read: it is not
// known whether the call ran. Its text holds neither query nor body.
type TransportError struct {
	Endpoint string
	Err      error
}

// Error implements error.
func (e *TransportError) Error() string { return e.Endpoint + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *TransportError) Unwrap() error { return e.Err }

// maxMessage bounds how much of an errmsg is kept, in bytes.
const maxMessage = 300

// scrub takes every value that was sent out of an errmsg, in case WeChat
// repeats one, as it was or as a query has it.
func scrub(message string, sent ...secret.String) string {
	for _, s := range sent {
		if !s.Empty() {
			message = strings.ReplaceAll(message, s.Reveal(), secret.Redacted)
			message = strings.ReplaceAll(message, url.QueryEscape(s.Reveal()), secret.Redacted)
		}
	}
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "") + "…"
	}
	return message
}
