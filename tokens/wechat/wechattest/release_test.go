package wechattest

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"lingpai/tokens/msgcrypt"
)

// platform is a third-party platform that passes the release test, unless told
// to make a mistake. It knows WeChat only by HTTP and msgcrypt.
type platform struct {
	t       *testing.T
	wechat  string
	mistake string
	work    sync.WaitGroup

	mu                sync.Mutex
	ticket, component string
}

func (p *platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var envelope struct{ Encrypt string }
	xml.Unmarshal(body, &envelope)
	key, _ := msgcrypt.ParseKey(DefaultEncodingAESKey)
	msg, _, err := key.Decrypt(envelope.Encrypt)
	if err != nil {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	switch content := element(msg, "Content"); {
	case element(msg, "InfoType") == "component_verify_ticket":
		p.mu.Lock()
		p.ticket = element(msg, "ComponentVerifyTicket")
		p.mu.Unlock()
		io.WriteString(w, map[bool]string{true: "ok", false: "success"}[p.mistake == "ticket"])
	case element(msg, "InfoType") == "authorized":
		io.WriteString(w, "success")
		p.exchange(element(msg, "AuthorizationCode"))
	case content == "TESTCOMPONENT_MSG_TYPE_TEXT":
		p.reply(w, key, msg, content+"_callback")
	case element(msg, "Event") != "":
		p.reply(w, key, msg, element(msg, "Event")+"from_callback")
	case strings.HasPrefix(content, "QUERY_AUTH_CODE:"):
		if p.mistake == "not empty" {
			io.WriteString(w, "success")
		}
		p.work.Go(func() { p.answerLater(msg, strings.TrimPrefix(content, "QUERY_AUTH_CODE:")) })
	}
}

// reply answers a message with an encrypted text.
func (p *platform) reply(w io.Writer, key msgcrypt.Key, msg []byte, content string) {
	to, from, kind, token := element(msg, "FromUserName"), element(msg, "ToUserName"), "text", DefaultMessageToken
	switch p.mistake {
	case "no reply":
		return
	case "clear reply":
		io.WriteString(w, "<xml><Content>"+content+"</Content></xml>")
		return
	case "content":
		content = "x" + content
	case "to":
		to, from = from, to
	case "kind":
		kind = "image"
	case "signature":
		token = "other"
	}
	plain := writeXML([]Field{
		{Name: "ToUserName", Value: to}, {Name: "FromUserName", Value: from}, {Name: "CreateTime", Value: "1", Number: true},
		{Name: "MsgType", Value: kind}, {Name: "Content", Value: content},
	}, "</xml>")
	encrypt, _ := key.Encrypt([16]byte{1}, plain, DefaultComponentAppID)
	w.Write(writeXML([]Field{
		{Name: "Encrypt", Value: encrypt}, {Name: "MsgSignature", Value: msgcrypt.Signature(token, "1", "2", encrypt)},
		{Name: "TimeStamp", Value: "1", Number: true}, {Name: "Nonce", Value: "2"},
	}, "</xml>"))
}

// post calls WeChat and returns the text of a field of the answer.
func (p *platform) post(path, token string, body any, field string) string {
	text, _ := json.Marshal(body)
	resp, err := http.Post(p.wechat+path+"?access_token="+url.QueryEscape(token), "application/json", bytes.NewReader(text))
	if err != nil {
		p.t.Error(err)
		return ""
	}
	defer resp.Body.Close()
	var fields, inner map[string]any
	json.NewDecoder(resp.Body).Decode(&fields)
	if inner, _ = fields["authorization_info"].(map[string]any); inner != nil {
		fields = inner
	}
	value, _ := fields[field].(string)
	return value
}

func (p *platform) exchange(code string) (token string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.component == "" {
		p.component = p.post(pathComponentToken, "", object{
			"component_appid": DefaultComponentAppID, "component_appsecret": DefaultComponentAppSecret, "component_verify_ticket": p.ticket,
		}, "component_access_token")
	}
	return p.post(pathQueryAuth, p.component, object{"component_appid": DefaultComponentAppID, "authorization_code": code}, "authorizer_access_token")
}

func (p *platform) answerLater(msg []byte, code string) {
	if p.mistake == "no exchange" {
		return
	}
	token, content := p.exchange(code), code+"_from_api"
	to, kind := element(msg, "FromUserName"), "text"
	switch p.mistake {
	case "silence":
		return
	case "api content":
		content = code
	case "touser":
		to = "oSomeoneElse"
	case "msgtype":
		kind = "image"
	case "component token":
		token = p.component
	}
	p.post("/cgi-bin/message/custom/send", token, object{"touser": to, "msgtype": kind, "text": object{"content": content}}, "errmsg")
}

func newPlatform(t *testing.T, mistake string) (*Server, *platform) {
	t.Helper()
	s := newSim(t)
	wechat := httptest.NewServer(s)
	p := &platform{t: t, wechat: wechat.URL, mistake: mistake}
	ts := httptest.NewServer(p)
	t.Cleanup(func() { ts.Close(); p.work.Wait(); wechat.Close(); http.DefaultClient.CloseIdleConnections() })
	s.SetEventURL(ts.URL + "/events")
	s.SetMessageURL(ts.URL + "/messages/$APPID$")
	return s, p
}

func TestReleaseTest(t *testing.T) {
	for mistake, want := range map[string]struct {
		failed string // cases that fail
		says   string
	}{
		"":                {"[]", ""},
		"ticket":          {"[1]", "not success"},
		"no reply":        {"[2 5]", "not an encrypted text reply"},
		"clear reply":     {"[2 5]", "neither empty nor success"},
		"signature":       {"[2 5]", "MsgSignature"},
		"content":         {"[2 5]", `Content is "xTESTCOMPONENT_MSG_TYPE_TEXT_callback"`},
		"to":              {"[2 5]", "ToUserName"},
		"kind":            {"[2 5]", "MsgType"},
		"not empty":       {"[3 4]", `answered "success", not empty`},
		"no exchange":     {"[3 4]", "not exchanged"},
		"silence":         {"[3 4]", "no customer-service message"},
		"api content":     {"[3 4]", "want the code and _from_api"},
		"touser":          {"[3 4]", "oSomeoneElse"},
		"msgtype":         {"[3 4]", "image"},
		"component token": {"[3 4]", "no customer-service message"},
	} {
		t.Run("mistake "+mistake, func(t *testing.T) {
			t.Parallel()
			s, _ := newPlatform(t, mistake)
			wait := Duration(10 * time.Second)
			if strings.HasPrefix(want.failed, "[3") {
				wait = Duration(200 * time.Millisecond) // what is to come never comes
			}
			report, err := s.RunReleaseTest(t.Context(), ReleaseTest{Pair: 1, Wait: wait, WithEvent: true})
			if err != nil {
				t.Fatal(err)
			}
			failed, reasons := []int{}, ""
			for i, c := range report.Cases {
				if c.Case != i+1 || c.Skipped || c.Passed != (c.Reason == "") {
					t.Errorf("case %+v", c)
				}
				if !c.Passed {
					failed, reasons = append(failed, c.Case), reasons+c.Reason+"\n"
				}
			}
			if fmt.Sprint(failed) != want.failed || !strings.Contains(reasons, want.says) || report.Passed != (want.failed == "[]") || len(report.Cases) != 5 {
				t.Errorf("failed %v, want %s: %+v", failed, want.failed, report)
			}
			if report.OfficialAccount != "wx9252c5e0bb1836fc" || report.MiniProgram != "wxc39235c15087f6f3" || len(report.Notes) != 0 {
				t.Errorf("report %+v", report)
			}
		})
	}
}

// The accounts stay in the list, and their tokens cannot be refreshed.
func TestReleaseTestAccountsStay(t *testing.T) {
	s, p := newPlatform(t, "")
	report, err := s.RunReleaseTest(t.Context(), ReleaseTest{WithoutMessages: true})
	if err != nil || !report.Passed || len(report.Cases) != 4 || !report.Cases[0].Passed || !report.Cases[1].Skipped || !report.Cases[3].Skipped {
		t.Fatalf("%+v %v", report, err)
	}
	list := componentCall(t, s, "api_get_authorizer_list", p.component, object{"offset": 0, "count": 10}).want(0)
	if list.number("total_count") != 2 {
		t.Fatal(list.raw)
	}
	for _, entry := range list.fields["list"].([]any) {
		e := entry.(map[string]any)
		refresh(t, s, p.component, e["authorizer_appid"].(string), e["refresh_token"].(string)).want(61003)
	}
	if _, err := s.Authorize(t.Context(), report.MiniProgram, WithoutPush()); err != nil {
		t.Fatal(err)
	}
	for _, pair := range []int{-1, 5} {
		if _, err := s.RunReleaseTest(t.Context(), ReleaseTest{Pair: pair}); err == nil {
			t.Errorf("pair %d", pair)
		}
	}
	s.SetEventURL("")
	s.SetMessageURL("")
	report, err = s.RunReleaseTest(t.Context(), ReleaseTest{})
	if err != nil || report.Passed || report.Cases[0].Reason != ErrNoURL.Error() || report.Cases[2].Reason != ErrNoURL.Error() || len(report.Notes) != 2 {
		t.Errorf("without URLs: %+v %v", report, err)
	}
}

func TestReleaseAnswerInTime(t *testing.T) {
	for took, good := range map[time.Duration]bool{5 * time.Second: true, 5*time.Second + 1: false} {
		if err := inTime(PushRecord{Duration: took}, nil); (err == nil) != good {
			t.Errorf("%v: %v", took, err)
		}
	}
}
