package store_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

// key is a key that is the same in every run.
func key(n byte) secret.String {
	return secret.New(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{n}, 32)))
}

func codec(t testing.TB, keys ...byte) store.Codec {
	t.Helper()
	var all []secret.String
	for _, n := range keys {
		all = append(all, key(n))
	}
	c, err := store.NewCodec(all...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func account() store.Account { return store.Account{AppID: "wx1", Token: token()} }

func TestEncryptedRecordsComeBackAsTheyWere(t *testing.T) {
	c := codec(t, 1)
	roundTrip(t, "component", c.EncodeComponent, c.DecodeComponent, component(), component())
	roundTrip(t, "authorizer", c.EncodeAuthorizer, c.DecodeAuthorizer, authorizer(), authorizer())
	roundTrip(t, "account", c.EncodeAccount, c.DecodeAccount, account(), account())
	roundTrip(t, "push", c.EncodePush, c.DecodePush, push(), push())
	bare := store.Authorizer{AppID: "wx1"}
	roundTrip(t, "no secrets", c.EncodeAuthorizer, c.DecodeAuthorizer, bare, bare)
	one := store.Authorizer{AppID: "wx1", RefreshToken: secret.New("rt")}
	roundTrip(t, "one secret", c.EncodeAuthorizer, c.DecodeAuthorizer, one, one)

	// No two encryptions are alike.
	first, _ := c.EncodeAccount(account())
	second, _ := c.EncodeAccount(account())
	if bytes.Equal(first, second) {
		t.Error("a nonce was used twice")
	}
}

// The form is what stores out there hold; see TestFormIsKept.
func TestEncryptedFormIsKept(t *testing.T) {
	const stored = `{"v":2,"id":"wx1","s":"active",` +
		`"rt":"enc:AXLNboQixAf7quy9ZJv0uy3Cn2rV3htvZX/c/SjH2/69ESKZcx37",` +
		`"at":{"t":"enc:AXLNboQixAf7dg9JjeQ9H6yI3Azq2Hb6EkrfFidjSDdNM9AKJGaj","g":3}}`
	want := store.Authorizer{AppID: "wx1", State: store.StateActive, RefreshToken: secret.New("rt"),
		Token: store.Token{Value: secret.New("at"), Generation: 3}}
	c := codec(t, 1)
	got, err := c.DecodeAuthorizer([]byte(stored))
	if err != nil || !reflect.DeepEqual(got, want) {
		data, _ := c.EncodeAuthorizer(want)
		t.Errorf("a record of this form is not read: %v\nit is written as %s", err, data)
	}
	if c.KeyID() != "72cd6e8422c407fb" {
		t.Errorf("key id %s", c.KeyID())
	}
	// A record without secrets is the same with and without keys.
	data, err := c.EncodeAuthorizer(store.Authorizer{AppID: "wx1"})
	if err != nil || string(data) != `{"v":1,"id":"wx1"}` {
		t.Errorf("%s, %v", data, err)
	}
}

func TestNoSecretIsInAnEncryptedRecord(t *testing.T) {
	c, plain := codec(t, 1), store.Codec{}
	f := func(name string, secrets []secret.String, encode func(store.Codec) ([]byte, error)) {
		t.Helper()
		for _, encrypts := range []bool{true, false} {
			codec := plain
			if encrypts {
				codec = c
			}
			data, err := encode(codec)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range secrets {
				// The control: without keys they are found.
				if found := holds(data, s.Reveal()); found == encrypts {
					t.Errorf("%s, encrypted %v: secret found: %v", name, encrypts, found)
				}
			}
		}
	}
	f("component", []secret.String{component().Ticket, component().Token.Value},
		func(c store.Codec) ([]byte, error) { return c.EncodeComponent(component()) })
	f("authorizer", []secret.String{authorizer().RefreshToken, authorizer().Token.Value},
		func(c store.Codec) ([]byte, error) { return c.EncodeAuthorizer(authorizer()) })
	f("account", []secret.String{account().Token.Value},
		func(c store.Codec) ([]byte, error) { return c.EncodeAccount(account()) })
	f("push", []secret.String{push().Message},
		func(c store.Codec) ([]byte, error) { return c.EncodePush(push()) })
}

// holds looks for a secret as it is and as plain records have it.
func holds(data []byte, value string) bool {
	return bytes.Contains(data, []byte(value)) ||
		bytes.Contains(data, []byte(strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(value[:len(value)/3*3])), "=")))
}

func TestUnknownKeyIsNamed(t *testing.T) {
	data, err := codec(t, 1).EncodeAuthorizer(authorizer())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]store.Codec{"none": {}, "another": codec(t, 2, 3)} {
		a, err := c.DecodeAuthorizer(data)
		if !errors.Is(err, store.ErrKey) || !reflect.DeepEqual(a, store.Authorizer{}) {
			t.Fatalf("%s: %v", name, err)
		}
		const want = "decode authorizer: field rt: key 72cd6e8422c407fb: encrypted with a key that store.encryption_keys does not hold"
		if err.Error() != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPlainRecordsAreReadWithKeys(t *testing.T) {
	c := codec(t, 1)
	data, err := store.EncodeAuthorizer(authorizer())
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.DecodeAuthorizer(data)
	if err != nil || !reflect.DeepEqual(a, authorizer()) {
		t.Fatal(err)
	}
	// A plain value that looks encrypted is no other than it is.
	odd := store.Push{Digest: "d", Message: secret.New("enc:AXLNboQixAf7")}
	roundTrip(t, "looks encrypted", store.EncodePush, c.DecodePush, odd, odd)
	roundTrip(t, "looks encrypted", c.EncodePush, c.DecodePush, odd, odd)
}

// A changed byte gives an error, or a record with the same secrets: never with
// others, and never without.
func TestTampering(t *testing.T) {
	c := codec(t, 1, 2)
	small := store.Authorizer{AppID: "wx1", State: store.StateActive, RefreshToken: secret.New("rt"), Token: store.Token{Value: secret.New("at"), Generation: 3}}
	tampered(t, "authorizer", small, c.EncodeAuthorizer, c.DecodeAuthorizer, func(a, b store.Authorizer) bool {
		return a.AppID == b.AppID && a.RefreshToken == b.RefreshToken && a.Token.Value == b.Token.Value
	})
	tampered(t, "component", store.Component{AppID: "wx1", Ticket: secret.New("ti")}, c.EncodeComponent, c.DecodeComponent,
		func(a, b store.Component) bool {
			return a.AppID == b.AppID && a.Ticket == b.Ticket && a.Token.Value == b.Token.Value
		})
	tampered(t, "account", store.Account{AppID: "wx1", Token: store.Token{Value: secret.New("at")}}, c.EncodeAccount, c.DecodeAccount,
		func(a, b store.Account) bool { return a.AppID == b.AppID && a.Token.Value == b.Token.Value })
	tampered(t, "push", store.Push{Seq: 1, Digest: "d", Message: secret.New("m")}, c.EncodePush, c.DecodePush,
		func(a, b store.Push) bool { return a.Digest == b.Digest && a.Message == b.Message })
}

func tampered[R any](t *testing.T, name string, rec R, encode func(R) ([]byte, error), decode func([]byte) (R, error), same func(a, b R) bool) {
	t.Helper()
	data, err := encode(rec)
	if err != nil {
		t.Fatal(err)
	}
	others := []byte("\x00\xff \"{}[]:,.0129aAzZ=+/_")
	for i, was := range data {
		bytesHere := others
		for bit := range 8 {
			bytesHere = append(bytesHere, was^1<<bit)
		}
		for _, b := range bytesHere {
			data[i] = b
			if got, err := decode(data); err == nil && !same(got, rec) {
				t.Errorf("%s: byte %d as %q gives another record:\n%s", name, i, b, data)
			}
		}
		data[i] = was
	}
	for n := range data {
		if _, err := decode(data[:n]); err == nil {
			t.Errorf("%s: the first %d bytes are read", name, n)
		}
	}
}

func TestValuesCannotBeMoved(t *testing.T) {
	c := codec(t, 1)
	encode := func(a store.Authorizer) map[string]any {
		data, err := c.EncodeAuthorizer(a)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber() // a generation is no float64
		if err := d.Decode(&fields); err != nil {
			t.Fatal(err)
		}
		return fields
	}
	decode := func(fields map[string]any) (store.Authorizer, error) {
		data, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		return c.DecodeAuthorizer(data)
	}
	// The control: what is not changed is read.
	if a, err := decode(encode(authorizer())); err != nil || !reflect.DeepEqual(a, authorizer()) {
		t.Fatal(err)
	}
	refused := func(what string, change func(fields map[string]any)) {
		t.Helper()
		fields := encode(authorizer())
		change(fields)
		a, err := decode(fields)
		if !errors.Is(err, store.ErrCorrupt) || !reflect.DeepEqual(a, store.Authorizer{}) {
			t.Errorf("%s: %v", what, err)
		}
	}
	at := func(fields map[string]any) map[string]any { return fields["at"].(map[string]any) }
	other := authorizer()
	other.AppID = "wx2"
	alone := store.Authorizer{AppID: authorizer().AppID, RefreshToken: authorizer().RefreshToken}

	refused("fields swapped", func(f map[string]any) { f["rt"], at(f)["t"] = at(f)["t"], f["rt"] })
	refused("one field in both", func(f map[string]any) { f["rt"] = at(f)["t"] })
	refused("another's value", func(f map[string]any) { f["rt"] = encode(other)["rt"] })
	refused("another's app id", func(f map[string]any) { f["id"] = "wx2" })
	refused("one secret removed", func(f map[string]any) { delete(at(f), "t") })
	refused("the other removed", func(f map[string]any) { delete(f, "rt") })
	refused("both removed", func(f map[string]any) { delete(f, "rt"); delete(f, "at") })
	refused("one secret emptied", func(f map[string]any) { f["rt"] = "" })
	refused("from a record with this secret only", func(f map[string]any) { f["rt"] = encode(alone)["rt"] })
	refused("called plain", func(f map[string]any) { f["v"] = 1 })
	refused("a plain value among encrypted", func(f map[string]any) { f["rt"] = "cnQ=" })

	// The same field, alone in a record of the same key, under another kind.
	same := store.Authorizer{AppID: "wx1", Token: token()}
	data, err := c.EncodeAuthorizer(same)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.DecodeComponent(data); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("as a component: %v", err)
	}
	if _, err := c.DecodeAccount(data); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("as an account: %v", err)
	}
}

// A key is changed in three steps, each a restart of one process after the
// other: at every moment all of them read what any of them wrote.
func TestRotationWhileProcessesOverlap(t *testing.T) {
	steps := []store.Codec{
		codec(t, 1),
		codec(t, 1, 2), // all know the new key
		codec(t, 2, 1), // it encrypts
	}
	var mark []byte
	for i := range steps[1:] {
		running := steps[i : i+2]
		for w, writer := range running {
			data, err := writer.EncodeAuthorizer(authorizer())
			if err != nil {
				t.Fatal(err)
			}
			if mark, err = writer.Mark(mark); err != nil {
				t.Errorf("step %d: start of process %d: %v", i, w, err)
			}
			for r, reader := range running {
				if a, err := reader.DecodeAuthorizer(data); err != nil || !reflect.DeepEqual(a, authorizer()) {
					t.Errorf("step %d: process %d does not read what %d wrote: %v", i, r, w, err)
				}
			}
		}
	}
	// The third: not before all values are written anew.
	last := codec(t, 2)
	if _, err := last.Mark(mark); !errors.Is(err, store.ErrKey) || !strings.Contains(err.Error(), codec(t, 1).KeyID()) {
		t.Errorf("start without the former key: %v", err)
	}
	mark, err := steps[2].Mark(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := last.Mark(mark); err != nil {
		t.Errorf("start after the rekey: %v", err)
	}
}

func TestMark(t *testing.T) {
	one, two := codec(t, 1), codec(t, 2, 1)
	f := func(c store.Codec, found, want string, wantErr error) {
		t.Helper()
		mark, err := c.Mark([]byte(found))
		if string(mark) != want || !errors.Is(err, wantErr) {
			t.Errorf("%q: %q, %v", found, mark, err)
		}
	}
	both := one.KeyID() + " " + two.KeyID()
	f(store.Codec{}, "", "", nil)
	f(one, "", one.KeyID(), nil)
	f(one, one.KeyID(), one.KeyID(), nil)
	f(two, one.KeyID(), both, nil)
	f(two, both, both, nil)
	f(codec(t, 1, 2), both, both, nil)
	f(one, both, "", store.ErrKey)
	f(store.Codec{}, one.KeyID(), "", store.ErrKey)
	f(one, "72cd", "", store.ErrCorrupt)
	f(one, strings.Repeat("x", 16), "", store.ErrCorrupt)
}

func TestNewCodecRefuses(t *testing.T) {
	for _, text := range []string{"", "hush", strings.Repeat("x", 43) + "!", base64.StdEncoding.EncodeToString(make([]byte, 31)), base64.StdEncoding.EncodeToString(make([]byte, 33))} {
		_, err := store.NewCodec(key(1), secret.New(text))
		if err == nil || !strings.Contains(err.Error(), "key 2 ") || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
	c, err := store.NewCodec()
	if err != nil || c.Encrypts() || c.KeyID() != "" || c != (store.Codec{}) {
		t.Errorf("no keys: %v", err)
	}
	if c, err := store.NewCodec(store.NewKey()); err != nil || !c.Encrypts() {
		t.Errorf("a new key: %v", err)
	}
	if store.NewKey().Equal(store.NewKey()) {
		t.Error("a key came twice")
	}
	if text := fmt.Sprintf("%+v %#v", codec(t, 1), store.NewKey()); strings.Contains(text, key(1).Reveal()) {
		t.Error(text)
	}
}

func TestEnvelope(t *testing.T) {
	c := codec(t, 1)
	envelope := c.Seal([]byte("value"), []byte("place"))
	if len(envelope) != len("value")+store.Overhead {
		t.Errorf("%d bytes", len(envelope))
	}
	f := func(what string, envelope []byte, associated string, want error) {
		t.Helper()
		if value, err := c.Open(envelope, []byte(associated)); !errors.Is(err, want) || err != nil && value != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	newer := bytes.Clone(envelope)
	newer[0] = 2
	f("as it was", envelope, "place", nil)
	f("elsewhere", envelope, "another", store.ErrCorrupt)
	f("newer", newer, "place", store.ErrNewer)
	f("version 0", make([]byte, 100), "place", store.ErrCorrupt)
	f("cut", envelope[:store.Overhead-1], "place", store.ErrCorrupt)
	f("nothing", nil, "place", store.ErrCorrupt)
}

func FuzzDecodeEncrypted(f *testing.F) {
	c := codec(f, 1)
	for _, encode := range []func() ([]byte, error){
		func() ([]byte, error) { return c.EncodeComponent(component()) },
		func() ([]byte, error) { return c.EncodeAuthorizer(authorizer()) },
		func() ([]byte, error) { return c.EncodeAccount(account()) },
		func() ([]byte, error) { return c.EncodePush(push()) },
		func() ([]byte, error) { return codec(f, 2).EncodePush(push()) },
		func() ([]byte, error) { return store.EncodePush(push()) },
	} {
		data, err := encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		again(t, data, c.EncodeComponent, c.DecodeComponent)
		again(t, data, c.EncodeAuthorizer, c.DecodeAuthorizer)
		again(t, data, c.EncodeAccount, c.DecodeAccount)
		again(t, data, c.EncodePush, c.DecodePush)
	})
}

func BenchmarkDecodeAuthorizer(b *testing.B) {
	a := authorizer()
	a.RefreshToken = secret.New(strings.Repeat("r", 60))
	for name, c := range map[string]store.Codec{"plain": {}, "encrypted": codec(b, 1)} {
		data, err := c.EncodeAuthorizer(a)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := c.DecodeAuthorizer(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
