package wechattest

import (
	stdhtml "html"
	"strings"
	"testing"

	"lingpai/internal/dom"
)

// fullPages are pages that show all that there is, with the same for every text.
func fullPages(text string) [][]byte {
	account := LoginAccount{AppID: text, NickName: text, UserName: text}
	return [][]byte{
		notice{text, text, text, text, text}.html(),
		loginView{
			ID: text, Form: text, Action: "/x", Component: text,
			Accounts: []accountView{{account, text, true}, {account, text, false}},
			Groups:   []scopeGroup{{text, []scopeView{{1, text}, {2, text}}}},
		}.html(),
		consoleView{
			Did: text, Fault: text, Result: text,
			State:       State{ComponentAppID: text, EventURL: text, MessageURL: text},
			Knobs:       Knobs{PushOrder: text, RedirectCode: text},
			Logins:      []Login{{ID: text, Form: text, RedirectURI: text, Accounts: []LoginAccount{account}}},
			Held:        []HeldEvent{{InfoType: text, AppID: text}},
			Authorizers: []AuthorizerState{{AppID: text, UserName: text, Authorized: true}, {AppID: text, UserName: text}},
			Orders:      []string{text}, Codes: []string{text}, Pairs: [][2]LoginAccount{{account, account}},
		}.html(),
	}
}

func TestOutsideTextsAreEscaped(t *testing.T) {
	for _, hostile := range []string{`"'></title></style><script>alert(1)</script>&amp;`, "javascript:alert(1)"} {
		harmless := fullPages("x")
		for i, page := range fullPages(hostile) {
			// Nothing but the texts is different.
			got := strings.ReplaceAll(string(page), stdhtml.EscapeString(hostile), "x")
			if strings.Contains(got, "alert") || got != string(harmless[i]) {
				t.Errorf("page %d:\n%s\nwant\n%s", i, got, harmless[i])
			}
			for _, attribute := range []string{"href", "action", "src"} {
				if strings.Contains(string(page), attribute+`="`+stdhtml.EscapeString(hostile)) {
					t.Errorf("page %d: %s is a text from elsewhere", i, attribute)
				}
			}
		}
	}
}

func TestFormRunsNoScript(t *testing.T) {
	page := string(loginView{Action: "javascript:alert(1)"}.html())
	if !strings.Contains(page, `action="`+dom.RefusedURL+`"`) || strings.Contains(page, "javascript") {
		t.Error(page)
	}
}

// What a test calls an account is shown on the pages of people.
func TestHostileNickName(t *testing.T) {
	b := newBrowser(t)
	const name = `<script>alert("1")</script>`
	if err := b.s.SetLoginAccount(LoginAccount{AppID: authorizerA, NickName: name}); err != nil {
		t.Fatal(err)
	}
	openPage(t, b.s, b.code())
	page := b.visit(ConsolePath, "").body
	if strings.Contains(page, "<script") || !strings.Contains(page, stdhtml.EscapeString(name)) {
		t.Error(page)
	}
}
