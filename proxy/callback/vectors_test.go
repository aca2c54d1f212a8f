package callback

import (
	"bytes"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"lingpai/metrics"
	"lingpai/tokens/msgcrypt"
	"lingpai/tokens/secret"
)

// vector is a push that WeChat's own documents publish.
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/message_push.html
type vector struct {
	name, token, key, appID, toUserName string
	query                               map[string]string
	encrypt                             string
}

var vectors = []vector{
	{
		name: "V1", token: "AAAAA", key: strings.Repeat("A", 43), appID: "wx134c8103faa5a59e", toUserName: "gh_97417a04a28d",
		query: map[string]string{
			"signature": "cc0c594499c1634947d5b502f158ee518947db27", "timestamp": "1715943329", "nonce": "1590219412",
			"openid": "o9AgO5Kd5ggOC-bXrbNODIiE3bGY", "encrypt_type": "aes",
			"msg_signature": "6c12a4205838198b8fa631b3220723bb07f1015c",
		},
		encrypt: "D7yzvUNAL930rd28wf21s4hvXhz0L6Uit/p2Di6C5DHyYGpEgdBRnKjBec34JwoQXicwaZC7fOVihW80F4VtsdvE//1vr7oAbqjDv8KenVp+ajKYpJnyQ4zMRhIC+a31fCVOMC03FfzV/QuC94kBP55a+Za3sJgvAn+ZbsNqZI5DkyuzkhQN8OBqCzFhizGmy0xpM0MEA4agpvE+RuNO1rhHTtuJB5yltw1FiYzecSXJ+y/D2r81VkRn2eYjh2ltsoyfbDR7Is6ookXIFxTfyeNyeHxMeT4KN5WpCDmSbTcUYrbBUlkGLJ9n/rU8YOywma6G7aTb7KZKOqCxgfoUlYEZPk4FUL/TK7ShriFDMVCLyjQJ15Ob++agDWtcxhfUfe6HIoIpRW8mKNBQiY/Jd1svvuskA1wLef1RTtzKfMpagSCX/laZINmdnX4zrF6kIaR9P4xQrWXbsTFHTYe0Mg==",
	},
	{
		name: "V4", token: "spamtest", key: "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG", appID: "wx2c2769f8efd9abc2", toUserName: "gh_10f6c3c3ac5a",
		query: map[string]string{
			"timestamp": "1409735669", "nonce": "1320562132", "msg_signature": "5d197aaffba7e9b25a30732f161a50dee96bd5fa",
		},
		encrypt: "hyzAe4OzmOMbd6TvGdIOO6uBmdJoD0Fk53REIHvxYtJlE2B655HuD0m8KUePWB3+LrPXo87wzQ1QLvbeUgmBM4x6F8PGHQHFVAFmOD2LdJF9FrXpbUAh0B5GIItb52sn896wVsMSHGuPE328HnRGBcrS7C41IzDWyWNlZkyyXwon8T332jisa+h6tEDYsVticbSnyU8dKOIbgU6ux5VTjg3yt+WGzjlpKn6NPhRjpA912xMezR4kw6KWwMrCVKSVCZciVGCgavjIQ6X8tCOp3yZbGpy0VxpAe+77TszTfRd5RJSVO/HTnifJpXgCSUdUue1v6h0EIBYYI1BD1DlD+C0CR8e6OewpusjZ4uBl9FyJvnhvQl+q5rv1ixrcpCumEPo5MJSgM9ehVsNPfUM669WuMyVWQLCzpu9GhglF2PE=",
	},
}

// sealVectors are published as what a receiver makes, which is signed and
// sealed alike. V3 has no signature, and holds no XML.
var (
	vector2 = vector{
		name: "V2", token: "AAAAA", key: strings.Repeat("A", 43), appID: "wx134c8103faa5a59e",
		query:   map[string]string{"timestamp": "1713424427", "nonce": "415670741", "msg_signature": "03e0812039325c2712ef5f0f980fd14c70d6e307"},
		encrypt: "hE8R6mGXHkJJjU72KxzKUd1GEkKJaEZq7vRL8XgK3o+00k8JGq6+pZJUIlTSyhsX+bxIBQ72g3GyvDdIZcr6+3HAZbSvPT9t/o11MI7d6WELwqrGd7jMnV0zv3Zc9Nq7",
	}
	vector3 = vector{
		name: "V3", token: "spamtest", key: "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG", appID: "wxb11529c136998cb6",
		query: map[string]string{"timestamp": "1", "nonce": "2",
			"msg_signature": msgcrypt.Signature("spamtest", "1", "2", encrypt3)},
		encrypt: encrypt3,
	}
)

const encrypt3 = "jn1L23DB+6ELqJ+6bruv21Y6MD7KeIfP82D6gU39rmkgczbWwt5+3bnyg5K55bgVtVzd832WzZGMhkP72vVOfg=="

func (v vector) config(t testing.TB) *Config {
	return &Config{AppID: v.appID, Token: secret.New(v.token), Keys: []msgcrypt.Key{parseKey(t, v.key)}}
}

func (v vector) values() url.Values {
	values := url.Values{}
	for name, value := range v.query {
		values.Set(name, value)
	}
	return values
}

func (v vector) body() []byte { return envelope(v.toUserName, v.encrypt) }

func envelope(to, encrypt string) []byte {
	return []byte("<xml>\n    <ToUserName><![CDATA[" + to + "]]></ToUserName>\n    <Encrypt><![CDATA[" + encrypt + "]]></Encrypt>\n</xml>")
}

func TestPublishedVectorsAreAccepted(t *testing.T) {
	for _, v := range append(vectors, vector2) {
		w := newWorld(t)
		w.handler.Reconfigure(v.config(t))
		before := w.snapshot()
		for _, path := range []string{"/wechat/messages/wxba5fad812f8e6fb9", "/wechat/messages/whatever", events} {
			if status, answer := w.post(path, v.values(), v.body()); status != http.StatusOK || answer != "success" {
				t.Errorf("%s to %s: %d %q", v.name, path, status, answer)
			}
		}
		if w.snapshot() != before {
			t.Errorf("%s changed the store", v.name)
		}
	}
}

func TestAuthenticButNoXML(t *testing.T) {
	w := newWorld(t)
	w.handler.Reconfigure(vector3.config(t))
	for _, path := range []string{events, messages} {
		if status, _ := w.post(path, vector3.values(), vector3.body()); status != http.StatusBadRequest {
			t.Errorf("%s: %d", path, status)
		}
	}
}

// Whatever part of a push does not fit, it is refused with the same answer and
// nothing is stored.
func TestEachPartOfAVectorCounts(t *testing.T) {
	for _, v := range vectors {
		w := newWorld(t)
		w.handler.Reconfigure(v.config(t))
		before := w.snapshot()
		refused := func(what string, config *Config, query url.Values, body []byte) {
			t.Helper()
			w.handler.Reconfigure(config)
			for _, path := range []string{events, messages} {
				rec := serve(w.handler, path, query, body)
				if rec.Code != http.StatusForbidden || rec.Body.String() != "Forbidden\n" {
					t.Errorf("%s %s to %s: %d %q", v.name, what, path, rec.Code, rec.Body)
				}
			}
		}
		good := v.config(t)
		for _, name := range []string{"msg_signature", "timestamp", "nonce"} {
			for what, value := range map[string]string{
				"missing": "", "cut": v.query[name][1:], "longer": v.query[name] + "0", "with a space": v.query[name] + " ",
				"of another": v.query["signature"], "changed": "9" + v.query[name][1:],
			} {
				query := v.values()
				query.Set(name, value)
				refused(name+" "+what, good, query, v.body())
				if what == "missing" {
					query.Del(name)
					refused(name+" absent", good, query, v.body())
				}
			}
		}
		query := v.values()
		query.Set("msg_signature", strings.ToUpper(v.query["msg_signature"]))
		refused("upper-case signature", good, query, v.body())
		swapped := v.values()
		swapped.Set("timestamp", v.query["nonce"]+v.query["timestamp"])
		swapped.Set("nonce", "")
		refused("nonce in the timestamp", good, swapped, v.body())

		for i, c := range []byte(v.encrypt) {
			other := byte('A')
			if c == other {
				other = 'B'
			}
			changed := []byte(v.encrypt)
			changed[i] = other
			rec := serve(w.handler, messages, v.values(), envelope(v.toUserName, string(changed)))
			if rec.Code != http.StatusForbidden {
				t.Fatalf("%s with character %d of the ciphertext changed: %d", v.name, i, rec.Code)
			}
		}
		for what, body := range map[string][]byte{
			"empty body":       nil,
			"half a body":      v.body()[:100],
			"no XML":           []byte("hello"),
			"JSON":             []byte(`{"Encrypt":"` + v.encrypt + `"}`),
			"no Encrypt":       []byte("<xml><ToUserName>x</ToUserName></xml>"),
			"empty Encrypt":    envelope("x", ""),
			"other root":       []byte("<a><Encrypt>" + v.encrypt + "</Encrypt></a>"),
			"deeper Encrypt":   []byte("<xml><x><Encrypt>" + v.encrypt + "</Encrypt></x></xml>"),
			"a second Encrypt": slices.Concat(v.body()[:len(v.body())-len("</xml>")], []byte("<Encrypt>AAAA</Encrypt></xml>")),
			"a DOCTYPE":        slices.Concat([]byte(`<!DOCTYPE xml [<!ENTITY a "b">]>`), v.body()),
		} {
			refused(what, good, v.values(), body)
		}

		// The same push at a platform that is another one in one point.
		other := *good
		other.AppID = "wx134c8103faa5a59f"
		refused("for another platform", &other, v.values(), v.body())
		other.AppID = ""
		refused("for no platform", &other, v.values(), v.body())
		other = *good
		other.Token = secret.New(v.token + "x")
		refused("with another token", &other, v.values(), v.body())
		other.Token = secret.String{}
		refused("with no token", &other, v.values(), v.body())
		other = *good
		other.Keys = []msgcrypt.Key{parseKey(t, otherKey)}
		refused("with another key", &other, v.values(), v.body())
		other.Keys = nil
		refused("with no key", &other, v.values(), v.body())
		refused("with no component", nil, v.values(), v.body())

		if w.snapshot() != before {
			t.Errorf("%s: the store changed: %s", v.name, w.snapshot())
		}
		if n := w.counted("other", "refused"); n < 50 {
			t.Errorf("%s: %d refusals counted", v.name, n)
		}
	}
}

// While the key is being changed both open, and afterwards only the new one.
func TestPreviousKey(t *testing.T) {
	v := vectors[0]
	h := New(nil, nil, nil, metrics.New("", "", ""), (&lines{}).logger())
	f := func(want int, keys ...string) {
		t.Helper()
		config := v.config(t)
		config.Keys = nil
		for _, key := range keys {
			config.Keys = append(config.Keys, parseKey(t, key))
		}
		h.Reconfigure(config)
		if rec := serve(h, messages, v.values(), v.body()); rec.Code != want {
			t.Errorf("%d keys: %d, want %d", len(keys), rec.Code, want)
		}
	}
	f(200, v.key)
	f(200, otherKey, v.key)
	f(200, v.key, otherKey)
	f(403, otherKey)
}

// The signature is made of the query's values as they were before encoding.
func TestQueryForms(t *testing.T) {
	v := vectors[0]
	h := New(v.config(t), nil, nil, metrics.New("", "", ""), (&lines{}).logger())
	names := slices.Sorted(maps.Keys(v.query))
	var reversed []string
	for _, name := range slices.Backward(names) {
		reversed = append(reversed, name+"="+strings.ReplaceAll(v.query[name], "1", "%31"))
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, messages+"?x&"+strings.Join(reversed, "&"), bytes.NewReader(v.body())))
	if rec.Code != 200 {
		t.Errorf("%d", rec.Code)
	}
}
