package wechattest

import (
	"cmp"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// dayOf numbers the days on which quotas run, from midnight to midnight in
// Beijing.
func dayOf(t time.Time) int64 { return (t.Unix() + 8*3600) / 86400 }

// clearsPerMonth is how often an account may clear its quota.
const clearsPerMonth = 10

type quotas struct {
	day    int64
	used   map[pathApp]int
	month  time.Month
	clears map[string]int
}

func newQuotas() quotas {
	return quotas{used: map[pathApp]int{}, clears: map[string]int{}}
}

func (qs *quotas) roll(now time.Time) {
	if day := dayOf(now); day != qs.day {
		qs.day = day
		clear(qs.used)
	}
	if month := now.UTC().Add(8 * time.Hour).Month(); month != qs.month {
		qs.month = month
		clear(qs.clears)
	}
}

func (k Knobs) quota(path string) int {
	if n, ok := k.Quotas[path]; ok {
		return n
	}
	return k.DefaultQuota
}

func (qs *quotas) state(now time.Time, k Knobs) []QuotaState {
	qs.roll(now)
	out := []QuotaState{}
	for key, used := range qs.used {
		out = append(out, QuotaState{key.appID, key.path, used, k.quota(key.path)})
	}
	slices.SortFunc(out, func(a, b QuotaState) int {
		return cmp.Or(cmp.Compare(a.AppID, b.AppID), cmp.Compare(a.Path, b.Path))
	})
	return out
}

// spend takes one call from the daily quota of the token's owner, or of the
// appid that a call without token names. It returns false if none is left.
func (q *request) spend() bool {
	if strings.Contains(q.call.Path, "clear_quota") {
		return true
	}
	appID := q.call.TokenAppID
	if q.endpoint.token == takesNone {
		appID = cmp.Or(q.params.ComponentAppID, q.params.AppID, q.query.Get("appid"))
	}
	q.quotas.roll(time.Now())
	limit, key := q.knobs.quota(q.call.Path), pathApp{q.call.Path, appID}
	if limit > 0 && q.quotas.used[key] >= limit {
		return false
	}
	q.quotas.used[key]++
	return true
}

// clearUse sets the quotas of an appid back, ten times a month.
func (q *request) clearUse(appID string) reply {
	q.quotas.roll(time.Now())
	if q.quotas.clears[appID] >= clearsPerMonth {
		return q.fail(48006)
	}
	q.quotas.clears[appID]++
	for key := range q.quotas.used {
		if key.appID == appID {
			delete(q.quotas.used, key)
		}
	}
	return q.ok(nil)
}

// clearQuota is /cgi-bin/clear_quota: the appid has to be the token's.
//
// https://developers.weixin.qq.com/doc/oplatform/openApi/openapi/api_componentclearquota_v2.html
func (q *request) clearQuota() reply {
	if q.params.AppID == "" {
		return q.fail(41002)
	}
	if q.params.AppID != q.token.appID {
		return q.fail(40013)
	}
	return q.clearUse(q.params.AppID)
}

// clearQuotaBySecret is the way out when no token can be had any more:
// component/clear_quota/v2, and clear_quota/v2 for direct accounts.
//
// https://developers.weixin.qq.com/doc/oplatform/openApi/openapi/api_componentclearquota_v2.html
func (q *request) clearQuotaBySecret() reply {
	p := q.params
	if q.call.Path == "/cgi-bin/clear_quota/v2" {
		switch {
		case p.AppID == "":
			return q.fail(41002)
		case p.AppSecret == "":
			return q.fail(41004)
		}
		if errcode := q.checkSecret(p.AppID, p.AppSecret); errcode != 0 {
			return q.fail(errcode)
		}
		return q.clearUse(p.AppID)
	}
	switch {
	case p.ComponentAppID == "":
		return q.fail(41018)
	case p.ComponentAppID != q.componentAppID:
		return q.fail(40013)
	case p.AppSecret == "":
		return q.fail(41004)
	case p.AppSecret != q.componentSecret:
		return q.fail(40125)
	}
	if p.AppID == "" || p.AppID == q.componentAppID {
		return q.clearUse(q.componentAppID)
	}
	if a := q.authorizers[p.AppID]; a == nil || !a.authorized {
		return q.fail(61003)
	}
	return q.clearUse(p.AppID)
}

// unlimited is what quota/get says for a path without a limit.
const unlimited = 100_000_000

// quotaGet tells a path's quota.
//
// https://developers.weixin.qq.com/doc/service/api/apimanage/api_getapiquota
func (q *request) quotaGet() reply {
	path := q.params.CgiPath
	switch {
	case !strings.HasPrefix(path, "/"):
		return q.fail(76021)
	case strings.HasPrefix(path, "/sns/"):
		return q.fail(76022)
	}
	limit := cmp.Or(q.knobs.quota(path), unlimited)
	used := q.quotas.used[pathApp{path, q.token.appID}]
	return q.ok(object{
		"quota":                object{"daily_limit": limit, "used": used, "remain": max(limit-used, 0)},
		"rate_limit":           object{"call_count": 100_000, "refresh_second": 60},
		"component_rate_limit": object{"call_count": 100_000, "refresh_second": 60},
	})
}

// ridLife and maxRIDs bound the memory of calls by rid.
const (
	ridLife = 7 * 24 * time.Hour
	maxRIDs = 10_000
)

type ridRecord struct {
	at                      time.Time
	cost                    time.Duration
	appID                   string
	url, body, answer, from string
}

type rids struct {
	byID  map[string]ridRecord
	order []string
}

func newRIDs() rids { return rids{byID: map[string]ridRecord{}} }

// add remembers a call that was answered with an error, for its rid is told
// then. Bodies are cut at 4 KiB.
func (r *rids) add(q *request, rep reply) {
	if rep.errcode == 0 || rep.status != 0 && rep.status != http.StatusOK {
		return
	}
	if len(r.order) >= maxRIDs {
		delete(r.byID, r.order[0])
		r.order = r.order[1:]
	}
	cut := func(b []byte) string { return string(b[:min(len(b), 4096)]) }
	appID := q.call.TokenAppID
	r.order = append(r.order, q.rid)
	r.byID[q.rid] = ridRecord{
		at: q.call.Time, cost: time.Since(q.call.Time), appID: appID,
		url: "https://api.weixin.qq.com" + q.r.URL.RequestURI(), body: cut(q.body), answer: cut(rep.body), from: q.clientIP(),
	}
}

var ridForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}$`)

// ridGet tells about an earlier call that failed. As in reality, request_url
// holds that call's access token.
//
// https://developers.weixin.qq.com/doc/oplatform/openApi/openapi/api_getridinfo.md
func (q *request) ridGet() reply {
	if !ridForm.MatchString(q.params.RID) {
		return q.fail(76002)
	}
	rec, ok := q.rids.byID[q.params.RID]
	if !ok || time.Since(rec.at) >= ridLife {
		return q.fail(76001)
	}
	if rec.appID != "" && rec.appID != q.token.appID {
		return q.fail(76003)
	}
	return q.ok(object{"request": object{
		"invoke_time": rec.at.Unix(), "cost_in_ms": rec.cost.Milliseconds(), "request_url": rec.url,
		"request_body": rec.body, "response_body": rec.answer, "client_ip": rec.from,
	}})
}

// callbackIPs lists the addresses pushes come from.
//
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/troubleshooting/component_verify_ticket_troubleshooting.html
func (q *request) callbackIPs() reply {
	return q.answer(object{"ip_list": []string{"101.226.103.0/25", "101.226.62.0/24", "127.0.0.1"}})
}

// domainIPs lists the addresses of api.weixin.qq.com.
//
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/overview.html
func (q *request) domainIPs() reply {
	return q.answer(object{"ip_list": []string{"101.91.34.103", "180.153.100.196", "127.0.0.1"}})
}
