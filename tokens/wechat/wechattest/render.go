package wechattest

import (
	_ "embed" // for pageStyle
	"strconv"

	"lingpai/internal/dom"
)

//go:embed pages/style.css
var pageStyle dom.Fixed

const pageHead dom.Fixed = `
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
`

const simulated dom.Fixed = `
<p class="simulated" role="note">模拟页面，不是微信。Simulated by lingpai: this is not WeChat, and nothing here is real.</p>
`

// document is a page with what all pages have; body are its attributes.
func document(lang, title string, body, main dom.Node) []byte {
	return dom.Page(lang,
		dom.El("head", dom.Raw(pageHead), el("title", title), dom.Style("\n"+pageStyle)),
		dom.El("body", body, dom.Raw(simulated), dom.El("main", main)))
}

// el is an element with nothing but a text in it.
func el(name dom.Fixed, text string) dom.Node { return dom.El(name, dom.Text(text)) }

func class(name string) dom.Node { return dom.Attr("class", name) }

// input is a field of a form.
func input(kind, name, value string, more ...dom.Node) dom.Node {
	return dom.El("input", dom.Attr("type", kind), dom.Attr("name", name), dom.Attr("value", value), dom.Group(more...))
}

func (n notice) html() []byte {
	return document("zh-CN", n.Title+" (simulated)",
		dom.Group(dom.Attr("data-page", n.Page), dom.If(n.Reason != "", dom.Attr("data-reason", n.Reason))),
		dom.Group(el("h1", n.Title), el("p", n.Chinese), el("p", n.English)))
}

func (v loginView) html() []byte {
	return document("zh-CN", "授权登录 (simulated)",
		dom.Group(dom.Attr("data-page", "login"), dom.Attr("data-login", v.ID), dom.Attr("data-form", v.Form)),
		dom.Group(
			dom.Raw(`<h1>授权登录 <small>Authorize</small></h1>`),
			dom.El("p", dom.Text("第三方平台 "), el("strong", v.Component),
				dom.Raw(` 申请以下权限。<br>The platform asks for the permissions below.`)),
			dom.El("form", dom.Attr("method", "post"), dom.Attr("action", v.Action),
				input("hidden", "login", v.ID),
				v.choice(),
				dom.Each(v.Groups, scopeGroup.html),
				dom.El("p",
					dom.If(len(v.Accounts) > 0, dom.Raw(`<button name="action" value="confirm">授权 Confirm</button> `)),
					dom.Raw(`<button class="plain" name="action" value="cancel">取消 Cancel</button>`)))))
}

// choice are the accounts to choose from, the first of them chosen.
func (v loginView) choice() dom.Node {
	in := []dom.Node{dom.Raw(`<legend>选择帐号 <small>Account that you administer</small></legend>`)}
	for i, a := range v.Accounts {
		about := a.AppID + " · " + a.TypeName
		if a.Authorized {
			about += " · 已授权 authorized"
		}
		in = append(in, dom.El("label", input("radio", "app_id", a.AppID, dom.If(i == 0, dom.Flag("checked"))),
			dom.Text(" "+a.NickName+" "), el("small", about)))
	}
	if len(v.Accounts) == 0 {
		in = append(in, dom.Raw(`<p data-empty="accounts">没有可以授权的帐号。None of your accounts can authorize here.</p>`))
	}
	return dom.El("fieldset", in...)
}

func (g scopeGroup) html() dom.Node {
	return dom.El("fieldset", dom.El("legend", dom.Text(g.Title), dom.Raw(` <small>Permission sets</small>`)),
		dom.Each(g.Scopes, func(s scopeView) dom.Node {
			id := strconv.Itoa(s.ID)
			return dom.El("label", input("checkbox", "scope", id, dom.Flag("checked")), dom.Text(" "+s.Name+" "), el("small", id))
		}))
}

func (v consoleView) html() []byte {
	return document("en", "WeChat simulator", dom.Attr("data-page", "console"), dom.Group(
		dom.Raw(`<h1>微信模拟器 <small>WeChat simulator</small></h1>`),
		v.outcome(),
		v.about(),
		row(button("", "ticket", "推送 ticket Push a ticket")),
		list("授权页 Login pages that wait", "None. Open a login link on the platform's page.", v.Logins, Login.html),
		list("扣下的事件 Events held back", "None.", v.Held, HeldEvent.html),
		list("授权方 Authorizers", "None yet.", v.Authorizers, AuthorizerState.html),
		v.more(),
		v.forms()))
}

// outcome is what came of the form that was sent.
func (v consoleView) outcome() dom.Node {
	if v.Did == "" {
		return dom.Node{}
	}
	return dom.El("section", dom.Attr("id", "result"), class("card"), dom.Attr("data-ok", strconv.FormatBool(v.Fault == "")),
		el("strong", v.Did),
		dom.If(v.Fault != "", el("p", v.Fault)),
		dom.If(v.Result != "", el("pre", v.Result)))
}

func (v consoleView) about() dom.Node {
	events, messages := v.State.EventURL, v.State.MessageURL
	if events == "" {
		events = "nowhere: no event URL is set"
	}
	if messages == "" {
		messages = "nowhere: no message URL is set"
	}
	return dom.El("p", dom.Text("Platform "+v.State.ComponentAppID), dom.Raw(`<br>`),
		dom.El("small",
			dom.Text("Events go to "+events), dom.Raw(`<br>`),
			dom.Text("Messages go to "+messages), dom.Raw(`<br>`),
			dom.Text("Violations: "+strconv.Itoa(v.Violations)+" · "), dom.Raw(`<a href="/_simulate/v1/">control API</a>`)))
}

// list is a part of the page with an entry for each of a list, or a text if there
// are none.
func list[T any](title, none string, entries []T, html func(T) dom.Node) dom.Node {
	return dom.Group(el("h2", title), dom.Each(entries, html), dom.If(len(entries) == 0, el("p", none)))
}

func (l Login) html() dom.Node {
	return dom.El("div", class("card"), dom.Attr("data-login", l.ID),
		el("small", l.Form+" · "+l.RedirectURI),
		row(input("hidden", "login", l.ID),
			choose("app_id", "account", l.Accounts, func(a LoginAccount) dom.Node {
				return option(a.AppID, a.NickName+" "+a.AppID)
			}),
			button("", "confirm", "授权 Confirm"), button("plain", "cancel", "取消 Cancel")))
}

func (e HeldEvent) html() dom.Node {
	return row(input("hidden", "id", strconv.Itoa(e.ID)), el("span", e.InfoType+" "+e.AppID), button("", "release", "推送 Release"))
}

func (a AuthorizerState) html() dom.Node {
	status := "未授权 not authorized"
	if a.Authorized {
		status = "已授权 authorized"
	}
	return dom.El("div", class("card"), dom.Attr("data-authorizer", a.AppID), dom.Attr("data-authorized", strconv.FormatBool(a.Authorized)),
		el("strong", a.AppID), dom.Text(" "), el("small", a.UserName+" · "+status),
		dom.If(a.Authorized, row(
			input("hidden", "app_id", a.AppID),
			dom.El("input", dom.Attr("name", "scopes"), dom.Attr("value", joinInts(a.Scopes)),
				dom.Attr("aria-label", "permission sets"), dom.Attr("inputmode", "numeric"), dom.Attr("size", "24")),
			button("plain", "update", "变更权限 Change permissions"),
			button("plain", "unauthorize", "取消授权 Unauthorize"))))
}

func (v consoleView) more() dom.Node {
	return dom.If(v.More > 0, dom.El("p", dom.Text("and "+strconv.Itoa(v.More)+" more: see "), dom.Raw(`<a href="/_simulate/v1/state">state</a>`)))
}

// forms are those that belong to no entry.
func (v consoleView) forms() dom.Node {
	const message dom.Fixed = `<input name="app_id" placeholder="wx…" aria-label="account" required><input name="text" placeholder="hello" aria-label="text">`
	pairs := []dom.Node{dom.Attr("name", "pair"), dom.Attr("aria-label", "pair")}
	for i, pair := range v.Pairs {
		pairs = append(pairs, option(strconv.Itoa(i), pair[0].AppID+" · "+pair[1].AppID))
	}
	return dom.Group(
		el("h2", "顺序 Order of redirect and event"),
		row(choose("push_order", "order", v.Orders, selected(v.Knobs.PushOrder)),
			choose("redirect_code", "codes", v.Codes, selected(v.Knobs.RedirectCode)),
			button("plain", "order", "设置 Set")),
		el("h2", "消息 A message of a user"),
		row(dom.Raw(message), button("plain", "message", "发送 Send")),
		el("h2", "全网发布检测 Release test"),
		row(dom.El("select", pairs...), button("plain", "release-test", "检测 Run")))
}

// row is a form on one line.
func row(in ...dom.Node) dom.Node {
	return dom.El("form", class("row"), dom.Attr("method", "post"), dom.Group(in...))
}

// button is one that sends its form; do says what for.
func button(className, do, text string) dom.Node {
	return dom.El("button", dom.If(className != "", class(className)), dom.Attr("name", "do"), dom.Attr("value", do), dom.Text(text))
}

// choose is a choice from a list.
func choose[T any](name, label string, entries []T, html func(T) dom.Node) dom.Node {
	return dom.El("select", dom.Attr("name", name), dom.Attr("aria-label", label), dom.Each(entries, html))
}

func option(value, text string) dom.Node {
	return dom.El("option", dom.Attr("value", value), dom.Text(text))
}

// selected makes options whose value is their text; that of present is chosen.
func selected(present string) func(string) dom.Node {
	return func(text string) dom.Node {
		return dom.El("option", dom.If(text == present, dom.Flag("selected")), dom.Text(text))
	}
}
