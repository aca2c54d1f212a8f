package authorize

import (
	_ "embed" // for style
	"strconv"

	"lingpai/internal/dom"
)

//go:embed pages/style.css
var style dom.Fixed

const head dom.Fixed = `
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="format-detection" content="telephone=no">
`

// icons are the pictures of the moods.
var icons = map[string]dom.Fixed{
	"plain": `<svg viewBox="0 0 24 24"><path d="M9.5 14.5l5-5"/><path d="M11 6.5l1.3-1.3a4.5 4.5 0 0 1 6.4 6.4L17.4 13"/><path d="M13 17.5l-1.3 1.3a4.5 4.5 0 0 1-6.4-6.4L6.6 11"/></svg>`,
	"good":  `<svg viewBox="0 0 24 24"><path d="M5 12.5l4.5 4.5L19 7.5"/></svg>`,
	"wait":  `<svg viewBox="0 0 24 24"><circle cx="12" cy="12" r="8.5"/><path d="M12 7.5V12l3 2"/></svg>`,
	"bad":   `<svg viewBox="0 0 24 24"><path d="M12 7v6"/><path d="M12 16.8v.2"/><circle cx="12" cy="12" r="9"/></svg>`,
}

// html is the page that shows v.
func (v view) html() []byte {
	return dom.Page(v.Lang.html(),
		dom.El("head", dom.Raw(head), el("title", "", v.Title), dom.Style(v.style(), dom.Attr("nonce", v.Nonce))),
		dom.El("body", dom.Attr("data-page", string(v.Page)),
			dom.El("main", class(v.Mood),
				dom.El("header",
					dom.El("span", class("icon"), dom.Attr("aria-hidden", "true"), dom.Raw(icons[v.Mood])),
					el("h1", "", v.Title)),
				dom.Each(v.Lines, func(line string) dom.Node { return el("p", "", line) }),
				v.limit(),
				v.authorized(),
				dom.If(v.OpenInWeChat, el("p", "note", wordInWeChat.in(v.Lang))),
				v.form(),
				v.buttons())))
}

func class(name string) dom.Node { return dom.Attr("class", name) }

// el is an element with nothing but a text in it; without a class if that is "".
func el(name dom.Fixed, className, text string) dom.Node {
	return dom.El(name, dom.If(className != "", class(className)), dom.Text(text))
}

// style is the style of the page: a button that lasts is replaced in time, without
// a script.
func (v view) style() dom.Fixed {
	if v.Lifetime == 0 {
		return "\n" + style
	}
	seconds := dom.Fixed(strconv.Itoa(v.Lifetime))
	return "\n" + style +
		".while { animation: leave 0s linear " + seconds + "s forwards }\n" +
		".after { animation: enter 0s linear " + seconds + "s forwards }\n"
}

// limit says which account may authorize, or was to.
func (v view) limit() dom.Node {
	if v.BizAppID == "" {
		return dom.Node{}
	}
	word := wordOnlyAccount
	if v.Account != nil {
		word = wordWantedAccount
	}
	return dom.El("p", class("note neutral"), dom.Text(word.in(v.Lang)+" "), el("code", "", v.BizAppID))
}

// authorized is the account that was authorized, and what it permits.
func (v view) authorized() dom.Node {
	if v.Account == nil {
		return dom.Node{}
	}
	name, scopes := v.Account.Name, el("p", "", wordNoPermissions.in(v.Lang))
	if len(v.Account.Scopes) > 0 {
		scopes = dom.El("ul", class("scopes"), dom.Each(v.Account.Scopes, func(s string) dom.Node { return el("li", "", s) }))
	}
	return dom.Group(
		section("account", wordAccount.in(v.Lang), dom.El("dl",
			dom.If(name != "", dom.El("div", el("dt", "", wordName.in(v.Lang)), el("dd", "", name))),
			dom.El("div", el("dt", "", "AppID"), dom.El("dd", el("code", "", v.Account.AppID))))),
		section("permissions", wordPermissions.in(v.Lang), scopes))
}

func section(id, title string, content dom.Node) dom.Node {
	return dom.El("section", dom.Attr("aria-labelledby", id), dom.El("h2", dom.Attr("id", id), dom.Text(title)), content)
}

// form is the button that asks for the page with the code.
func (v view) form() dom.Node {
	if v.Form == nil {
		return dom.Node{}
	}
	return dom.El("form", dom.Attr("method", "get"), dom.Attr("action", v.Form.Action),
		dom.Each(v.Form.Fields, func(f field) dom.Node {
			return dom.El("input", dom.Attr("type", "hidden"), dom.Attr("name", f.Name), dom.Attr("value", f.Value))
		}),
		dom.El("button", class("button"), dom.Attr("type", "submit"), dom.Text(v.Form.Button)))
}

// buttons are the ways on from the page.
func (v view) buttons() dom.Node {
	switch {
	case v.Again != "":
		return v.lastingButtons()
	case v.Main == nil && v.Other == nil:
		return dom.Node{}
	}
	return dom.El("p", class("actions"), v.Main.link("button"), v.Other.link("button quiet"))
}

// lastingButtons are the ways to WeChat, and what takes their place when they
// work no longer.
func (v view) lastingButtons() dom.Node {
	again := &action{wordFresh.in(v.Lang), v.Again}
	return dom.Group(
		dom.El("div", class("while"),
			dom.El("p", class("actions"), v.Main.link("button")),
			dom.El("p", class("small"), dom.Text(v.Lasts+" "), again.link("")),
			dom.El("p", class("small"), v.Other.link(""))),
		dom.El("div", class("after"),
			el("p", "", wordOver.in(v.Lang)),
			dom.El("p", class("actions"), again.link("button"))),
		dom.El("footer", el("p", "small", wordSafe.in(v.Lang))))
}

// link is the action as a link; nothing if there is none.
func (a *action) link(className string) dom.Node {
	if a == nil {
		return dom.Node{}
	}
	return dom.El("a", dom.If(className != "", class(className)), dom.Attr("href", a.URL), dom.Text(a.Text))
}
