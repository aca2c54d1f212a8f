package wechattest

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// PageHeader tells programs which page they got, as data-page and data-reason
// tell it to browser tests: login, cancelled, redirect, redirect_lost or
// error/<reason>.
const PageHeader = "X-Simulate-Page"

// html is the answer of a browser's page. It is never kept, so that the back
// button asks again.
func html(page string, body []byte) reply {
	return reply{page: page, body: body, header: http.Header{
		"Content-Type":            {"text/html; charset=utf-8"},
		"Cache-Control":           {"no-store"},
		"Content-Security-Policy": {"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"},
		PageHeader:                {page},
	}}
}

// notice is a page that only says something.
type notice struct{ Page, Reason, Title, Chinese, English string }

// refusedPage is WeChat's error page. Its status is 200, as that of WeChat's
// errors is elsewhere.
func refusedPage(r *Refusal) reply {
	out := html("error/"+r.Reason, notice{"error", r.Reason, "授权失败", r.Chinese, r.English}.html())
	out.refused = true
	return out
}

// loginPage shows the page of a login link, and takes its form.
//
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/Authorization_Process_Technical_Description.html
func (q *request) loginPage() reply {
	switch q.r.Method {
	case http.MethodGet, http.MethodHead:
		l, refused := q.openLogin(loginForms[q.call.Path], q.query, q.r.Header.Get("Referer"))
		if refused != nil {
			return refusedPage(refused)
		}
		return html("login", q.loginView(l).html())
	case http.MethodPost:
		form, err := url.ParseQuery(string(q.body))
		if err != nil {
			return refusedPage(refuse(RefusedPage, "页面已失效，请重新发起授权。", "the form cannot be read"))
		}
		return q.loginSubmit(form)
	}
	rep := page(http.StatusMethodNotAllowed)
	rep.header.Set("Allow", "GET, HEAD, POST")
	rep.refused = true
	return rep
}

func (q *request) loginSubmit(form url.Values) reply {
	if form.Get("action") == "cancel" {
		if refused := q.cancelLogin(form.Get("login")); refused != nil {
			return refusedPage(refused)
		}
		return html("cancelled", notice{"cancelled", "", "已取消授权", "你没有授权，可以关闭本页面。",
			"You did not authorize. You may close this page."}.html())
	}
	appID := form.Get("app_id")
	account, _ := q.administered(appID)
	if l := q.logins[form.Get("login")]; l != nil {
		account = l.limit(account)
	}
	// The boxes are those of all accounts on the page; those that the account
	// cannot grant are not its own.
	ticked := []int{}
	for _, text := range form["scope"] {
		if id, err := strconv.Atoi(text); err == nil {
			ticked = append(ticked, id)
		}
	}
	c, refused := q.confirmLogin(form.Get("login"), appID, common(account.Scopes, ticked))
	if refused != nil {
		return refusedPage(refused)
	}
	return reply{then: func() reply {
		// A browser that went away does not stop WeChat.
		q.carryOut(q.ctx, c.d, &c.Authorization)
		if c.RedirectURL == "" {
			return html("redirect_lost", notice{"redirect_lost", "", "网络异常", "授权已完成，但没有跳转回第三方平台。",
				"The account has authorized, but the way back to the platform is lost."}.html())
		}
		return reply{status: http.StatusFound, page: "redirect", header: http.Header{
			"Location": {c.RedirectURL}, "Cache-Control": {"no-store"}, PageHeader: {"redirect"},
		}}
	}}
}

// loginView is what the page shows.
type loginView struct {
	ID, Form, Action, Component string
	Accounts                    []accountView
	Groups                      []scopeGroup
}

type accountView struct {
	LoginAccount
	TypeName   string
	Authorized bool
}

// scopeGroup are the permission sets that accounts of one type can grant.
type scopeGroup struct {
	Title  string
	Scopes []scopeView
}

type scopeView struct {
	ID   int
	Name string
}

func (q *request) loginView(l *login) loginView {
	v := loginView{ID: l.id, Form: l.form, Action: q.call.Path, Component: q.componentAppID}
	shown, byType := []int{}, map[int]int{}
	for _, account := range q.offered(l) {
		a := q.authorizers[account.AppID]
		v.Accounts = append(v.Accounts, accountView{account, typeName(account.Type), a != nil && a.authorized})
		i, ok := byType[account.Type]
		if !ok {
			i = len(v.Groups)
			byType[account.Type] = i
			v.Groups = append(v.Groups, scopeGroup{Title: typeName(account.Type)})
		}
		for _, id := range account.Scopes {
			if !slices.Contains(shown, id) {
				shown = append(shown, id)
				v.Groups[i].Scopes = append(v.Groups[i].Scopes, scopeView{id, scopeName(id)})
			}
		}
	}
	v.Groups = slices.DeleteFunc(v.Groups, func(g scopeGroup) bool { return len(g.Scopes) == 0 })
	return v
}
