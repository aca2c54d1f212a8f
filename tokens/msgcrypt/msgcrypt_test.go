package msgcrypt

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// The vectors that WeChat publishes: V1 and V2 on
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/message_push.html
// V3 and V4 in the sample code linked on
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/Message_encryption_and_decryption.html
const (
	keyV1 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	keyV3 = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"

	encryptV1 = "D7yzvUNAL930rd28wf21s4hvXhz0L6Uit/p2Di6C5DHyYGpEgdBRnKjBec34JwoQXicwaZC7fOVihW80F4VtsdvE//1vr7oAbqjDv8KenVp+ajKYpJnyQ4zMRhIC+a31fCVOMC03FfzV/QuC94kBP55a+Za3sJgvAn+ZbsNqZI5DkyuzkhQN8OBqCzFhizGmy0xpM0MEA4agpvE+RuNO1rhHTtuJB5yltw1FiYzecSXJ+y/D2r81VkRn2eYjh2ltsoyfbDR7Is6ookXIFxTfyeNyeHxMeT4KN5WpCDmSbTcUYrbBUlkGLJ9n/rU8YOywma6G7aTb7KZKOqCxgfoUlYEZPk4FUL/TK7ShriFDMVCLyjQJ15Ob++agDWtcxhfUfe6HIoIpRW8mKNBQiY/Jd1svvuskA1wLef1RTtzKfMpagSCX/laZINmdnX4zrF6kIaR9P4xQrWXbsTFHTYe0Mg=="
	encryptV2 = "hE8R6mGXHkJJjU72KxzKUd1GEkKJaEZq7vRL8XgK3o+00k8JGq6+pZJUIlTSyhsX+bxIBQ72g3GyvDdIZcr6+3HAZbSvPT9t/o11MI7d6WELwqrGd7jMnV0zv3Zc9Nq7"
	encryptV3 = "jn1L23DB+6ELqJ+6bruv21Y6MD7KeIfP82D6gU39rmkgczbWwt5+3bnyg5K55bgVtVzd832WzZGMhkP72vVOfg=="
	encryptV4 = "hyzAe4OzmOMbd6TvGdIOO6uBmdJoD0Fk53REIHvxYtJlE2B655HuD0m8KUePWB3+LrPXo87wzQ1QLvbeUgmBM4x6F8PGHQHFVAFmOD2LdJF9FrXpbUAh0B5GIItb52sn896wVsMSHGuPE328HnRGBcrS7C41IzDWyWNlZkyyXwon8T332jisa+h6tEDYsVticbSnyU8dKOIbgU6ux5VTjg3yt+WGzjlpKn6NPhRjpA912xMezR4kw6KWwMrCVKSVCZciVGCgavjIQ6X8tCOp3yZbGpy0VxpAe+77TszTfRd5RJSVO/HTnifJpXgCSUdUue1v6h0EIBYYI1BD1DlD+C0CR8e6OewpusjZ4uBl9FyJvnhvQl+q5rv1ixrcpCumEPo5MJSgM9ehVsNPfUM669WuMyVWQLCzpu9GhglF2PE="

	msgV1 = `<xml><ToUserName><![CDATA[gh_97417a04a28d]]></ToUserName>
<FromUserName><![CDATA[o9AgO5Kd5ggOC-bXrbNODIiE3bGY]]></FromUserName>
<CreateTime>1715943329</CreateTime>
<MsgType><![CDATA[event]]></MsgType>
<Event><![CDATA[debug_demo]]></Event>
<debug_str><![CDATA[hello world]]></debug_str>
</xml>`
	msgV2 = `<xml><demo_resp>[CDATA[good luck]]</demo_resp></xml>`
)

func mustKey(t testing.TB, s string) Key {
	t.Helper()
	key, err := ParseKey(s)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestPublishedVectorsOpen(t *testing.T) {
	f := func(name, key, encrypt, wantMsg, wantAppID string) {
		t.Helper()
		msg, appID, err := mustKey(t, key).Decrypt(encrypt)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if wantMsg != "" && string(msg) != wantMsg {
			t.Errorf("%s: message %q, want %q", name, msg, wantMsg)
		}
		if appID != wantAppID {
			t.Errorf("%s: appid %q, want %q", name, appID, wantAppID)
		}
	}
	f("V1", keyV1, encryptV1, msgV1, "wx134c8103faa5a59e")
	f("V2", keyV1, encryptV2, msgV2, "wx134c8103faa5a59e")
	f("V3", keyV3, encryptV3, "我是中文abcd123", "wxb11529c136998cb6")
	f("V4", keyV3, encryptV4, "", "wx2c2769f8efd9abc2")
}

func TestPublishedVectorsSeal(t *testing.T) {
	f := func(name, key, random, msg, appID, want string) {
		t.Helper()
		got, err := mustKey(t, key).Encrypt([16]byte([]byte(random)), []byte(msg), appID)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s: %s\nwant %s", name, got, want)
		}
	}
	f("V1", keyV1, "1205899eaf019bbd", msgV1, "wx134c8103faa5a59e", encryptV1)
	f("V2", keyV1, "999951349e8ee746", msgV2, "wx134c8103faa5a59e", encryptV2)
	f("V3", keyV3, "aaaabbbbccccdddd", "我是中文abcd123", "wxb11529c136998cb6", encryptV3)
}

func TestPublishedSignatures(t *testing.T) {
	f := func(name, token, timestamp, nonce, encrypt, want string) {
		t.Helper()
		if got := Signature(token, timestamp, nonce, encrypt); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		if !Verify(token, timestamp, nonce, encrypt, want) {
			t.Errorf("%s: refused", name)
		}
		for i, tampered := range [][]string{
			{token + "x", timestamp, nonce, encrypt, want},
			{token, timestamp + "0", nonce, encrypt, want},
			{token, timestamp, nonce + "0", encrypt, want},
			{token, timestamp, nonce, "A" + encrypt[1:], want},
			{token, timestamp, nonce, encrypt, strings.ToUpper(want)},
			{token, timestamp, nonce, encrypt, want[:39]},
			{token, timestamp, nonce, encrypt, ""},
		} {
			if Verify(tampered[0], tampered[1], tampered[2], tampered[3], tampered[4]) {
				t.Errorf("%s: tampered %d accepted", name, i)
			}
		}
	}
	f("V1", "AAAAA", "1715943329", "1590219412", encryptV1, "6c12a4205838198b8fa631b3220723bb07f1015c")
	f("V2", "AAAAA", "1713424427", "415670741", encryptV2, "03e0812039325c2712ef5f0f980fd14c70d6e307")
	f("V4", "spamtest", "1409735669", "1320562132", encryptV4, "5d197aaffba7e9b25a30732f161a50dee96bd5fa")
}

func TestBadKeys(t *testing.T) {
	for _, key := range []string{"", "short", keyV1 + "A", keyV1[1:], strings.Repeat("*", 43)} {
		if _, err := ParseKey(key); !errors.Is(err, ErrKey) {
			t.Errorf("ParseKey(%d characters) = %v", len(key), err)
		}
	}
	if _, _, err := (Key{}).Decrypt(encryptV3); !errors.Is(err, ErrKey) {
		t.Errorf("zero key decrypts: %v", err)
	}
	if _, err := (Key{}).Encrypt([16]byte{}, nil, ""); !errors.Is(err, ErrKey) {
		t.Errorf("zero key encrypts: %v", err)
	}
}

func TestBadCiphertexts(t *testing.T) {
	key := mustKey(t, keyV3)
	for _, c := range []string{"", "====", "AAAA", encryptV3[:40], strings.Repeat("A", 44), "not base64!"} {
		if msg, _, err := key.Decrypt(c); !errors.Is(err, ErrCiphertext) {
			t.Errorf("Decrypt(%q) = %q, %v", c, msg, err)
		}
	}
	// The wrong key gives garbage whose length field does not fit.
	if msg, _, err := mustKey(t, keyV1).Decrypt(encryptV3); !errors.Is(err, ErrCiphertext) {
		t.Errorf("wrong key: %q, %v", msg, err)
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte(msgV2), "wx134c8103faa5a59e")
	f.Add([]byte{}, "")
	f.Add(bytes.Repeat([]byte("x"), 12), "")
	key, err := ParseKey(keyV3)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, msg []byte, appID string) {
		sealed, err := key.Encrypt([16]byte{1}, msg, appID)
		if err != nil {
			t.Fatal(err)
		}
		gotMsg, gotAppID, err := key.Decrypt(sealed)
		if err != nil || !bytes.Equal(gotMsg, msg) || gotAppID != appID {
			t.Fatalf("got %q, %q, %v; want %q, %q", gotMsg, gotAppID, err, msg, appID)
		}
	})
}

func FuzzDecrypt(f *testing.F) {
	for _, c := range []string{encryptV1, encryptV3, encryptV4, "", "AAAA"} {
		f.Add(c)
	}
	key, err := ParseKey(keyV3)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, encrypt string) {
		msg, _, err := key.Decrypt(encrypt)
		if err != nil && msg != nil {
			t.Fatalf("message beside error %v", err)
		}
	})
}
