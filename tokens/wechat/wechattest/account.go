package wechattest

import (
	"time"
)

// How often stable_token may be forced.
const (
	forcedPerDay  = 20
	forcedSpacing = 30 * time.Second
	stablePerMin  = 10_000
	// stableAhead: normal mode replaces a token this long before its end, or for
	// the last quarter of its life if that is shorter.
	stableAhead = 5 * time.Minute
)

// stableUse counts the stable_token calls of one account.
type stableUse struct {
	day         int64
	forced      int
	lastForced  time.Time
	minute      int64
	minuteCalls int
}

// checkAccount compares appid and secret of a direct account's token call.
func (q *request) checkAccount(grantType, appID, secret string) int {
	switch {
	case grantType != "client_credential":
		return 40002
	case appID == "":
		return 41002
	case secret == "":
		return 41004
	case appID == q.componentAppID:
		return 61024
	}
	return q.checkSecret(appID, secret)
}

func (q *request) checkSecret(appID, secret string) int {
	want, ok := q.accounts[appID]
	switch {
	case ok && want == secret:
		return 0
	case ok || q.authorizers[appID] != nil: // a known account, another secret
		return 40125
	default:
		return 40013
	}
}

// plainToken is GET /cgi-bin/token: each call replaces the token, the previous
// one works for five more minutes. It does not touch stable tokens.
//
// https://developers.weixin.qq.com/doc/service/en/api/base/api_getaccesstoken
func (q *request) plainToken() reply {
	appID := q.query.Get("appid")
	if errcode := q.checkAccount(q.query.Get("grant_type"), appID, q.query.Get("secret")); errcode != 0 {
		return q.fail(errcode)
	}
	t := q.issue(chain{kind: KindAccount, appID: appID}, q.knobs.AccountTokenLifetime, q.knobs.AccountOverlap)
	return q.accountToken(t)
}

func (q *request) accountToken(t *token) reply {
	return q.answer(struct {
		Token     string `json:"access_token"`
		ExpiresIn int    `json:"expires_in"`
	}{t.value, int(time.Until(t.expires) / time.Second)})
}

// stableToken is POST /cgi-bin/stable_token. Normal mode gives the same token
// until five minutes before its end; force mode makes a new one and ends the
// previous at once, 20 times a day, 30 seconds apart.
//
// https://developers.weixin.qq.com/doc/service/api/base/api_getstableaccesstoken
func (q *request) stableToken() reply {
	appID := q.params.AppID
	if errcode := q.checkAccount(q.params.GrantType, appID, q.params.Secret); errcode != 0 {
		return q.fail(errcode)
	}
	now := time.Now()
	use := q.stable[appID]
	if use == nil {
		use = &stableUse{}
		q.stable[appID] = use
	}
	if minute := now.Unix() / 60; minute != use.minute {
		use.minute, use.minuteCalls = minute, 0
	}
	if use.minuteCalls++; use.minuteCalls > stablePerMin {
		return q.fail(45011)
	}
	c := chain{kind: KindAccount, appID: appID, stable: true}
	if q.params.ForceRefresh {
		if day := dayOf(now); day != use.day {
			use.day, use.forced = day, 0
		}
		switch {
		case !use.lastForced.IsZero() && now.Sub(use.lastForced) < forcedSpacing:
			return q.fail(45011)
		case use.forced >= forcedPerDay:
			return q.fail(45009)
		}
		use.forced++
		use.lastForced = now
		for _, t := range q.chains[c] {
			t.endAt(now, 40001)
		}
		return q.accountToken(q.issue(c, q.knobs.AccountTokenLifetime, 0))
	}
	t := q.current(c)
	ahead := min(stableAhead, time.Duration(q.knobs.AccountTokenLifetime)/4)
	if t == nil || t.expires.Sub(now) <= ahead {
		// The previous one lives on to its own end, which is the overlap.
		t = q.issue(c, q.knobs.AccountTokenLifetime, Duration(stableAhead))
	}
	return q.accountToken(t)
}

// jsTicket is getticket. Each fetch gives a ticket with a life of its own;
// unlike token calls it answers an errcode on success.
//
// https://developers.weixin.qq.com/doc/service/en/api/webdev/jssdk/api_getticket.html
func (q *request) jsTicket() reply {
	switch q.query.Get("type") {
	case "jsapi", "wx_card":
	default:
		return q.fail(40097)
	}
	value := q.values.jsTicket()
	q.addSecret(value)
	return q.ok(object{"ticket": value, "expires_in": q.knobs.JSTicketLifetime.seconds()})
}
