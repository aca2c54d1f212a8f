package authorize

import (
	"context"
	"net/http"
	"strings"
	"time"

	"lingpai/tokens"
)

// expiryMargin is how long before its end a code is no longer offered: the
// visitor has to get to WeChat with it.
const expiryMargin = 30 * time.Second

// begin serves the page with the button that leads to WeChat.
func (v visit) begin() {
	q, fault := readRequest(v.settings, v.r.URL.Query())
	if fault != "" {
		v.show(http.StatusBadRequest, v.notice(fault))
		return
	}
	if !v.settings.wantsCode(v.r) {
		status := http.StatusOK
		if isPrefetch(v.r) {
			status = http.StatusServiceUnavailable // so that it is not kept for later
		}
		v.show(status, v.askFirst(q))
		return
	}
	now := time.Now()
	if wait, ok := v.codes.allow(clientOf(v.r, v.settings.TrustedProxies), now); !ok {
		v.show(http.StatusTooManyRequests, v.waiting(pageTooMany, wait))
		return
	}
	if err := v.codes.pause(now); err != nil {
		v.fail(err, passage{request: q})
		return
	}
	ctx, cancel := context.WithTimeout(v.r.Context(), visitTimeout)
	defer cancel()
	code, expiresIn, err := v.platform.PreAuthCode(ctx)
	if err != nil {
		v.codes.failed(err, time.Now())
		v.log.Warn("an authorization page has no pre_auth_code to offer", "error", err)
		v.fail(err, passage{request: q})
		return
	}
	component, ok := v.platform.ComponentKey()
	if !ok {
		v.show(http.StatusServiceUnavailable, v.notice(pageUnconfigured))
		return
	}
	state := passage{request: q, Link: tokens.LinkOf(code), IssuedAt: now.Unix()}.seal(v.settings.stateKey)
	l := q.link()
	l.RedirectURI = v.settings.PublicURL + PathDone + "?state=" + state
	pc, mobile := v.settings.login.URLs(component.AppID, code, l)
	v.show(http.StatusOK, v.offer(q, pc, mobile, max(expiresIn-expiryMargin, 0)))
}

// offer is the page with the button. The other way is beside it, with the same
// code: whichever is taken, the visitor is one.
func (v visit) offer(q request, pc, mobile string, lifetime time.Duration) view {
	phone, inWeChat := onPhone(v.r)
	out := v.notice(pageOffer)
	out.Lines[0] = strings.ReplaceAll(out.Lines[0], "{accounts}", accountNames[q.Type].in(v.lang))
	out.BizAppID = q.BizAppID
	out.Lifetime = int(lifetime.Seconds())
	out.Lasts = strings.ReplaceAll(wordLasts.in(v.lang), "{lasts}", v.lang.duration(wholeMinutes(lifetime)))
	out.Again = v.settings.again(q)
	out.Main, out.Other = &action{wordToWeChat.in(v.lang), pc}, &action{wordOnThisPhone.in(v.lang), mobile}
	if phone {
		out.Main.URL, out.Other = mobile, &action{wordOnAnother.in(v.lang), pc}
		out.Lines[1] = wordConfirmHere.in(v.lang)
		out.OpenInWeChat = !inWeChat
	}
	return out
}

// wholeMinutes is a time in seconds, rounded down to what people count in.
func wholeMinutes(d time.Duration) int {
	if d >= 2*time.Minute {
		d = d.Truncate(time.Minute)
	}
	return int(d.Seconds())
}

// askFirst is the page for those of whom it is not known that they are human: its
// button asks for the page with the code.
func (v visit) askFirst(q request) view {
	out := v.notice(pageAskFirst)
	out.Lines[0] = strings.ReplaceAll(out.Lines[0], "{accounts}", accountNames[q.Type].in(v.lang))
	out.BizAppID = q.BizAppID
	out.Form = &form{v.settings.base + Path, append(q.fields(), field{"go", "1"}), wordNext.in(v.lang)}
	return out
}
