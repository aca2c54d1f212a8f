package authorize

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"lingpai/tokens"
	"lingpai/tokens/secret"
	"lingpai/tokens/wechat"
)

// maxCode bounds an auth_code, in bytes: they have about 100.
const maxCode = 512

// done serves the page that WeChat sends the browser back to. That is a request
// that anybody can make: only the exchange of the code proves anything.
func (v visit) done() {
	query := v.r.URL.Query()
	now := time.Now()
	p, err := passage{}, error(nil)
	if query.Has("state") { // a link made for an app has none
		p, err = openState(v.settings.stateKey, query.Get("state"), now)
	}
	code := query.Get("auth_code")
	back := v.settings.returnURL(p, "", resultFailed, now)
	switch {
	case isPrefetch(v.r):
		v.show(http.StatusServiceUnavailable, v.notice(pageEmbedded))
	case v.r.Method == http.MethodHead:
		v.show(http.StatusOK, v.notice(pageEmbedded))
	case saysHow(v.r) && !isNavigation(v.r):
		v.show(http.StatusForbidden, v.notice(pageEmbedded))
	case errors.Is(err, errExpired):
		v.showWith(http.StatusGone, pageExpired, v.settings.again(p.request), "")
	case err != nil:
		v.showWith(http.StatusBadRequest, pageForged, v.settings.base+Path, "")
	case code == "":
		v.showWith(http.StatusOK, pageCancelled, v.settings.again(p.request), v.settings.returnURL(p, "", resultCancelled, now))
	case !isCode(code):
		v.showWith(http.StatusBadRequest, pageForged, v.settings.again(p.request), back)
	default:
		v.exchange(secret.New(code), p, now)
	}
}

// isCode reports whether a text may be a code of WeChat's.
func isCode(text string) bool {
	return len(text) <= maxCode && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}

// exchange has a code exchanged and shows what came of it.
func (v visit) exchange(code secret.String, p passage, now time.Time) {
	if wait, ok := v.exchanges.allow(clientOf(v.r, v.settings.TrustedProxies), now); !ok {
		v.show(http.StatusTooManyRequests, v.waiting(pageTooMany, wait))
		return
	}
	if err := v.exchanges.pause(now); err != nil {
		v.fail(err, p)
		return
	}
	ctx, cancel := context.WithTimeout(v.r.Context(), visitTimeout)
	defer cancel()
	authorized, err := v.platform.Authorize(ctx, code, p.Link)
	if err != nil {
		v.exchanges.failed(err, time.Now())
		v.log.Warn("a visitor's authorization code was not exchanged", "error", err)
		v.fail(err, p)
		return
	}
	if p.BizAppID != "" && p.BizAppID != authorized.AppID {
		out := v.account(pageOther, authorized)
		out.BizAppID = p.BizAppID
		out.Main = v.button(wordOtherAccount, v.settings.again(p.request))
		out.Other = v.button(wordGoOn, v.settings.returnURL(p, authorized.AppID, resultOther, time.Now()))
		v.show(http.StatusOK, out)
		return
	}
	if next := v.settings.returnURL(p, authorized.AppID, resultAuthorized, time.Now()); next != "" {
		v.w.Header().Set("Location", next)
		v.w.WriteHeader(http.StatusSeeOther)
		return
	}
	v.show(http.StatusOK, v.account(pageDone, authorized))
}

// classOf is the class of WeChat's errcode in err.
func classOf(err error) wechat.Class {
	if e, ok := errors.AsType[*wechat.Error](err); ok {
		return e.Class()
	}
	if u, ok := errors.AsType[*tokens.Unavailable](err); ok {
		return wechat.ClassOf(u.Code)
	}
	return wechat.ClassOther
}

// outcome is the page for an error.
type outcome struct {
	page   page
	status int
	wait   time.Duration // 0: it does not come right by itself
}

// outcomeOf says which page an error of Platform gets.
func outcomeOf(err error) outcome {
	u, unavailable := errors.AsType[*tokens.Unavailable](err)
	e, refused := errors.AsType[*wechat.Error](err)
	_, lost := errors.AsType[*wechat.TransportError](err)
	class := classOf(err)
	switch {
	case tokens.NoTicket(err), class == wechat.ClassTicket:
		return outcome{pageNotReady, http.StatusServiceUnavailable, time.Minute}
	case tokens.StoreDown(err):
		return outcome{pageStoreDown, http.StatusServiceUnavailable, 10 * time.Second}
	case errors.Is(err, tokens.ErrNoComponent), errors.Is(err, tokens.ErrFollower), class == wechat.ClassOperator:
		return outcome{pageUnconfigured, http.StatusServiceUnavailable, 0}
	case errors.Is(err, tokens.ErrReauthorize), class == wechat.ClassNotAuthorized:
		return outcome{pageEnded, http.StatusConflict, 0}
	case refused && e.Code == 61010:
		return outcome{pageSpent, http.StatusGone, 0}
	case class == wechat.ClassCode:
		return outcome{pageForged, http.StatusBadRequest, 0}
	case class == wechat.ClassMinuteQuota:
		return outcome{pageBusy, http.StatusServiceUnavailable, time.Minute}
	case class == wechat.ClassDailyQuota:
		return outcome{pageQuota, http.StatusServiceUnavailable, time.Hour}
	case lost:
		return outcome{pageUnreachable, http.StatusBadGateway, 5 * time.Second}
	case errors.Is(err, tokens.ErrWait), errors.Is(err, context.DeadlineExceeded):
		return outcome{pageSlow, http.StatusGatewayTimeout, 5 * time.Second}
	case unavailable:
		return outcome{pageBusy, http.StatusServiceUnavailable, max(u.RetryAfter, time.Second)}
	}
	return outcome{pageBusy, http.StatusServiceUnavailable, 10 * time.Second}
}

// fail shows the page for an error of Platform.
func (v visit) fail(err error, p passage) {
	o := outcomeOf(err)
	if o.wait > 0 {
		v.show(o.status, v.waiting(o.page, o.wait))
		return
	}
	switch o.page {
	case pageUnconfigured:
		v.show(o.status, v.notice(o.page))
	default:
		v.showWith(o.status, o.page, v.settings.again(p.request), v.settings.returnURL(p, "", resultFailed, time.Now()))
	}
}
