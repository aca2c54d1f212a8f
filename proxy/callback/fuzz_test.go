package callback

import (
	"bytes"
	"context"
	"net/http/httptest"
	"testing"

	"lingpai/metrics"
	"lingpai/tokens/wechat/wechattest"
)

// FuzzPush sends whatever a stranger may: only the real pushes, which are the
// seeds, reach the receiver.
func FuzzPush(f *testing.F) {
	sim := wechattest.New(wechattest.Options{Seed: 1})
	defer sim.Close()
	m := metrics.New("", "", "")
	real := map[string]bool{}
	seed := func(message []byte) {
		query, body := sim.BuildPush(message)
		for _, part := range append(wechattest.Tamperings, "") {
			q, b := query, body
			if part != "" {
				q, b = wechattest.Tamper(query, body, part)
			}
			f.Add(q.Encode(), b)
		}
		envelope := bytes.SplitN(body, []byte("<Encrypt><![CDATA["), 2)[1]
		real[string(bytes.SplitN(envelope, []byte("]]>"), 2)[0])] = true
	}
	seed(at(1, "ticket@@@x"))
	seed(sim.EventXML("authorized", text("AuthorizerAppid", authorizer), text("AuthorizationCode", "queryauthcode@@@x")))
	seed(sim.TextMessage(authorizer, "o1", "hello"))
	seed([]byte("no XML"))
	for _, v := range vectors {
		f.Add(v.values().Encode(), v.body())
	}
	f.Fuzz(func(t *testing.T, query string, body []byte) {
		genuine := false
		for encrypt := range real {
			genuine = genuine || bytes.Contains(body, []byte(encrypt))
		}
		h := New(settings(t), receiverFunc(func(context.Context) error {
			if !genuine {
				t.Error("a push that WeChat never sent was believed")
			}
			return nil
		}), nil, m, (&lines{}).logger())
		request := httptest.NewRequest("POST", events, bytes.NewReader(body))
		request.URL.RawQuery = query
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, request)
		switch rec.Code {
		case 200, 400:
			if !genuine {
				t.Errorf("%d for a push that WeChat never sent", rec.Code)
			}
		case 403, 413:
		default:
			t.Errorf("%d", rec.Code)
		}
	})
}
