package msgcrypt

import (
	"strings"
	"testing"
)

// pushXML is a push of 600 bytes.
var pushXML = msgV1[:len(msgV1)-len("</xml>")] + "<x>" + strings.Repeat("x", 600-len(msgV1)-len("<x></x>")) + "</x></xml>"

var (
	text    string
	message []byte
	equal   bool
)

func operations(t testing.TB) []operation {
	const appID, token, timestamp, nonce = "wx134c8103faa5a59e", "AAAAA", "1715943329", "1590219412"
	key, plain := mustKey(t, keyV1), []byte(pushXML)
	sealed, err := key.Encrypt([16]byte{1}, plain, appID)
	if err != nil {
		t.Fatal(err)
	}
	signature := Signature(token, timestamp, nonce, sealed)
	wrong := mustKey(t, keyV3)
	return []operation{
		{name: "Decrypt", allocs: 4, bytes: len(plain), do: func() {
			if message, text, err = key.Decrypt(sealed); err != nil || len(message) != len(plain) || text != appID {
				t.Fatal(text, err)
			}
		}},
		{name: "Decrypt/wrong-key", allocs: 3, bytes: len(plain), do: func() {
			if message, _, err = wrong.Decrypt(sealed); err == nil {
				t.Fatal("opened")
			}
		}},
		{name: "Encrypt", allocs: 5, bytes: len(plain), do: func() {
			if text, err = key.Encrypt([16]byte{1}, plain, appID); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "Signature", allocs: 4, bytes: len(sealed), do: func() { text = Signature(token, timestamp, nonce, sealed) }},
		{name: "Verify", allocs: 4, bytes: len(sealed), do: func() {
			if equal = Verify(token, timestamp, nonce, sealed, signature); !equal {
				t.Fatal("refused")
			}
		}},
		{name: "ParseKey", allocs: 3, do: func() {
			if _, err = ParseKey(keyV1); err != nil {
				t.Fatal(err)
			}
		}},
	}
}

func BenchmarkPush(b *testing.B) { bench(b, operations) }
