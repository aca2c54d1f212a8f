package tokens

import (
	"errors"
	"fmt"
	"time"

	"lingpai/tokens/wechat"
)

// Errors that a caller of Token tells apart, beside *Unavailable.
var (
	// ErrUnknown means that an app id is neither an authorizer of this platform
	// nor a direct account.
	ErrUnknown = errors.New("app id is neither an authorizer of this platform nor a direct account")
	// ErrReauthorize means that the authorizer has to authorize again.
	ErrReauthorize = errors.New("the account's administrator must authorize the platform again")
	// ErrWait means that no token came before the wait was over.
	ErrWait = errors.New("waiting for a token took too long")
	// ErrNoComponent means that no third-party platform is configured.
	ErrNoComponent = errors.New("no component is configured")
	// ErrDeclined means that a refused token is not to be refreshed now.
	ErrDeclined = errors.New("no other token is to be had now")
)

// Unavailable means that there is no token now, though later there may be.
type Unavailable struct {
	// Detail says why and what to do. It holds no secret.
	Detail string
	// Code is WeChat's errcode, 0 if there is none.
	Code int
	// RetryAfter is how long WeChat will not be asked again.
	RetryAfter time.Duration
	// Err is the cause, for the log; nil if Detail says all.
	Err error
}

// Error implements error.
func (u *Unavailable) Error() string { return u.Detail }

// Unwrap returns the cause.
func (u *Unavailable) Unwrap() error { return u.Err }

// notAsked reports whether a renewal ended before WeChat was asked for the
// key's own token: that is no failure of the key.
func notAsked(err error) bool {
	if _, ok := errors.AsType[*Unavailable](err); ok {
		return true
	}
	return noToken(err) || errors.Is(err, ErrWait)
}

// unavailable is what callers get to see of a failed refresh: what failed and
// WeChat's errcode, never its text.
func unavailable(key Key, err error, wait time.Duration) *Unavailable {
	u := &Unavailable{RetryAfter: wait, Err: err}
	token := "the " + key.Kind.String() + "'s access token"
	if e, ok := errors.AsType[*wechat.Error](err); ok {
		u.Code = e.Code
		if key.Kind == Authorizer && e.Class() == wechat.ClassBadToken {
			token = "the component's access token, without which no authorizer's is had,"
		}
		u.Detail = fmt.Sprintf("WeChat refuses to give %s: errcode %d%s", token, e.Code, advice(e))
		return u
	}
	if _, ok := errors.AsType[*wechat.TransportError](err); ok {
		u.Detail = "WeChat's token endpoint does not answer as it should; " + token + " cannot be obtained now"
		return u
	}
	u.Detail = "the store does not work; see lingpai's log"
	return u
}

// advice says what a person can do about an errcode.
func advice(e *wechat.Error) string {
	switch e.Class() {
	case wechat.ClassOperator:
		switch e.Code {
		case 40164, 45035, 61004:
			return ": add this machine's egress address to the IP whitelist in WeChat's console"
		case 40125:
			return ": the AppSecret is wrong; check app_secret"
		}
		return ": check the app id, secret and state of the platform in WeChat's console"
	case wechat.ClassDailyQuota:
		return ": the daily quota is used up; see POST /v1/component/clear-quota"
	case wechat.ClassMinuteQuota:
		return ": too many calls this minute"
	case wechat.ClassTicket:
		return ": the component_verify_ticket is not accepted; wait for the next push, at most 10 minutes"
	case wechat.ClassNotAuthorized:
		return ": the account does not authorize this platform"
	case wechat.ClassBadToken:
		return ": check app_secret and whether another program uses the same platform"
	}
	return ""
}

// storeError passes on what callers tell apart, and turns the rest, which is a
// fault of the store, into *Unavailable.
func (s *Service) storeError(err error) error {
	if err == nil || notAsked(err) || errors.Is(err, ErrDeclined) {
		return err
	}
	// A call a line would be a flood: once a second says as much.
	now := time.Now().UnixNano()
	if last := s.storeLogged.Load(); now-last >= int64(time.Second) && s.storeLogged.CompareAndSwap(last, now) {
		s.log.Error("the store does not work", "error", err)
	}
	return &Unavailable{Detail: "the store does not work; see lingpai's log", RetryAfter: time.Second, Err: err}
}
