package wechattest

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// liveTokens makes one live token of each kind.
func liveTokens(t *testing.T, s *Server) map[TokenKind]string {
	t.Helper()
	component := componentToken(t, s)
	user, _ := s.IssueUserToken(direct, "code")
	return map[TokenKind]string{
		KindComponent:  component,
		KindAuthorizer: refresh(t, s, component, authorizerA, s.AddAuthorizer(authorizerA)).text("authorizer_access_token"),
		KindAccount:    plainToken(t, s).text("access_token"),
		KindUser:       user,
	}
}

func TestTokenKinds(t *testing.T) {
	s := newSim(t)
	tokens := liveTokens(t, s)
	for _, c := range []struct {
		method, path                         string
		component, authorizer, account, user int
	}{
		{"GET", "/wxa/gettemplatelist", 0, 61014, 48001, 40001},
		{"POST", "/componenttcb/anything", 0, 61014, 48001, 40001},
		{"POST", "/wxa/msg_sec_check", 61015, 0, 0, 40001},
		{"GET", "/no/such/path", 61015, 0, 0, 40001},
		{"POST", "/cgi-bin/component/setprivacysetting", 61015, 0, 86000, 40001},
		{"POST", "/tcb/modifyenv", 0, 0, 0, 40001},
		{"GET", "/cgi-bin/getcallbackip", 0, 0, 0, 40001},
		{"GET", "/sns/auth", 40001, 40001, 40001, 41009},
	} {
		for kind, want := range map[TokenKind]int{
			KindComponent: c.component, KindAuthorizer: c.authorizer, KindAccount: c.account, KindUser: c.user,
		} {
			t.Run(c.path+" with "+string(kind), func(t *testing.T) {
				call(t, s, c.method, c.path+"?access_token="+tokens[kind], nil).want(want)
			})
		}
	}
	// Dead before wrong: the state of a token comes before its kind.
	s.RevokeAll()
	call(t, s, "POST", "/wxa/msg_sec_check?access_token="+tokens[KindComponent], nil).want(40001)
}

func TestTokenForm(t *testing.T) {
	s := newSim(t)
	use(t, s, "").want(41001)
	use(t, s, "lingpai-authorizer-"+authorizerA).want(40014)
	use(t, s, strings.Repeat("x", 140)).want(40001)
	use(t, s, strings.Repeat("x", 140)+"@").want(40014)
}

func TestTwoTokens(t *testing.T) {
	s := newSim(t)
	tokens := liveTokens(t, s)
	account := tokens[KindAccount]
	for _, query := range []string{
		"access_token=" + account + "&access_token=" + account,
		"access_token=" + account + "&component_access_token=" + tokens[KindComponent],
		"access_token=&access_token=" + account,
	} {
		call(t, s, "GET", "/cgi-bin/user/get?"+query, nil).want(40014)
	}
	if v := s.Violations(); len(v) != 3 || !strings.Contains(v[0], "2 tokens in one query") {
		t.Errorf("violations %q", v)
	}
}

func TestSpurious40001(t *testing.T) {
	s := newSim(t)
	token := plainToken(t, s).text("access_token")
	s.SetKnobs(func(k *Knobs) { k.Spurious40001 = 1 })
	use(t, s, token).want(40001)
	use(t, s, token).want(0)
}

func TestSNS(t *testing.T) {
	s := newSim(t)
	tokens := liveTokens(t, s)
	onBehalf := url.Values{
		"appid": {authorizerA}, "component_appid": {DefaultComponentAppID}, "component_access_token": {tokens[KindComponent]},
	}
	get := func(path string, base url.Values, more ...string) answer {
		t.Helper()
		q := url.Values{}
		for name, v := range base {
			q[name] = v
		}
		for i := 0; i < len(more); i += 2 {
			q.Set(more[i], more[i+1])
		}
		return call(t, s, "GET", path+"?"+q.Encode(), nil)
	}
	const session = "/sns/component/jscode2session"
	first := get(session, onBehalf, "grant_type", "authorization_code", "js_code", "c1").want(0)
	if first.text("openid") == "" || first.text("session_key") == "" {
		t.Error(first.raw)
	}
	get(session, onBehalf, "grant_type", "authorization_code", "js_code", "c1").want(40163)
	get(session, onBehalf, "grant_type", "authorization_code", "js_code", "invalid-1").want(40029)
	get(session, onBehalf, "grant_type", "authorization_code").want(41008)
	get(session, onBehalf, "js_code", "c2").want(40002)
	get(session, onBehalf, "grant_type", "authorization_code", "js_code", "c2", "component_appid", "").want(41018)
	get(session, onBehalf, "grant_type", "authorization_code", "js_code", "c2", "appid", authorizerB).want(61003)
	get(session, onBehalf, "grant_type", "authorization_code", "js_code", "c2", "component_access_token", tokens[KindAuthorizer]).want(61014)

	ownSecret := url.Values{"appid": {direct}, "secret": {secretOfD}, "grant_type": {"authorization_code"}}
	get("/sns/jscode2session", ownSecret, "js_code", "c1").want(0)
	get("/sns/jscode2session", ownSecret, "js_code", "c2", "secret", "x").want(40125)

	for path, base := range map[string]url.Values{
		"/sns/oauth2/component": onBehalf,
		"/sns/oauth2":           ownSecret,
	} {
		user := get(path+"/access_token", base, "grant_type", "authorization_code", "code", "oauth").want(0)
		query := url.Values{"access_token": {user.text("access_token")}, "openid": {user.text("openid")}}
		get("/sns/userinfo", query).want(0)
		get("/sns/auth", query).want(0)
		get("/sns/userinfo", query, "openid", "x").want(40003)
		again := get(path+"/refresh_token", base, "grant_type", "refresh_token", "refresh_token", user.text("refresh_token")).want(0)
		get("/sns/userinfo", query, "access_token", again.text("access_token")).want(0)
		get(path+"/refresh_token", base, "grant_type", "refresh_token", "refresh_token", "x").want(40030)
	}
	if len(s.Violations()) != 0 {
		t.Errorf("violations %q", s.Violations())
	}
	get("/sns/userinfo", url.Values{"access_token": {tokens[KindAuthorizer]}, "openid": {"x"}}).want(40001)
	if v := s.Violations(); len(v) != 1 || !strings.Contains(v[0], "takes a user's") {
		t.Errorf("violations %q", v)
	}
}

func TestMedia(t *testing.T) {
	s := newSim(t)
	tokens := liveTokens(t, s)
	upload := func(kind, field string, data []byte) answer {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		part, _ := w.CreateFormFile(field, `a.png`)
		part.Write(data)
		w.Close()
		r := httptest.NewRequest("POST", "/cgi-bin/media/upload?type="+kind+"&access_token="+tokens[KindAuthorizer], &b)
		r.Header.Set("Content-Type", w.FormDataContentType())
		return do(t, s, r)
	}
	get := func(kind TokenKind, id string) answer {
		return call(t, s, "GET", "/cgi-bin/media/get?media_id="+id+"&access_token="+tokens[kind], nil)
	}
	id := upload("image", "media", []byte("\x89PNG data")).want(0).text("media_id")
	got := get(KindAuthorizer, id)
	spelled := "Content-disposition" // as WeChat writes it
	if got.raw != "\x89PNG data" || got.header[spelled][0] != `attachment; filename="a.png"` {
		t.Errorf("%q %v", got.raw, got.header)
	}
	get(KindAccount, id).want(40007)
	get(KindAuthorizer, "x").want(40007)
	get(KindAuthorizer, "").want(41006)
	upload("x", "media", nil).want(40004)
	upload("image", "file", nil).want(41005)
	upload("thumb", "media", make([]byte, 64<<10+1)).want(40006)
	upload("thumb", "media", nil).want(0).text("thumb_media_id")
	get(KindAuthorizer, upload("video", "media", nil).want(0).text("media_id")).want(0).text("video_url")
	call(t, s, "POST", "/cgi-bin/media/upload?type=image&access_token="+tokens[KindAuthorizer], "x").want(41005)

	big := get(KindAccount, "size-100001")
	want, _ := io.ReadAll(GeneratedMedia(100001))
	if len(big.raw) != 100001 || big.raw != string(want) || big.header.Get("Content-Length") != "100001" {
		t.Errorf("generated: %d bytes", len(big.raw))
	}
}

func TestCodeImageAndCustomMessage(t *testing.T) {
	s := newSim(t)
	token := liveTokens(t, s)[KindAuthorizer]
	post := func(path string, body object) answer { return call(t, s, "POST", path+"?access_token="+token, body) }
	img := post("/wxa/getwxacodeunlimit", object{"scene": "a=1"})
	if !strings.HasPrefix(img.raw, "\x89PNG") || img.header.Get("Content-Type") != "image/png" {
		t.Errorf("image %.20q", img.raw)
	}
	post("/wxa/getwxacodeunlimit", object{"scene": strings.Repeat("x", 33)}).want(40169)
	post("/cgi-bin/message/custom/send", object{"msgtype": "text"}).want(40003)
	post("/cgi-bin/message/custom/send", object{"touser": "o"}).want(40008)
	post("/cgi-bin/message/custom/send", object{"touser": "o", "msgtype": "text", "text": object{"content": "hi"}}).want(0)
	sent := s.CustomMessages()
	if len(sent) != 1 || sent[0].AppID != authorizerA || !strings.Contains(string(sent[0].Body), `"hi"`) {
		t.Errorf("sent %+v", sent)
	}
}
