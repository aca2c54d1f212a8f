package store_test

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

var instant = time.Date(2026, 3, 1, 23, 59, 59, 123456789, time.UTC)

func token() store.Token {
	return store.Token{
		Value:       secret.New("access-令牌"),
		ExpiresAt:   instant.Add(2 * time.Hour),
		RefreshedAt: instant,
		Generation:  math.MaxUint64,
	}
}

func component() store.Component {
	return store.Component{
		AppID:            "wx0123456789abcdef",
		Ticket:           secret.New("ticket@@@x"),
		TicketCreatedAt:  instant.Add(-time.Second),
		TicketReceivedAt: instant,
		Token:            token(),
	}
}

func authorizer() store.Authorizer {
	return store.Authorizer{
		AppID:        "wxfedcba9876543210",
		State:        store.StateReauthorize,
		RefreshToken: secret.New("refreshtoken@@@" + strings.Repeat("r", 4096)),
		Token:        token(),
		AuthorizedAt: instant.Add(-time.Hour),
		EventAt:      instant.Add(-time.Minute),
		EventDigest:  "摘要",
		Scopes:       []int{1, 15, -4},
	}
}

func push() store.Push {
	return store.Push{
		Seq:        7,
		Digest:     "d1",
		ReceivedAt: instant,
		Message:    secret.New("<xml>\x00\xff 不是 UTF-8</xml>"),
	}
}

func roundTrip[R any](t *testing.T, name string, encode func(R) ([]byte, error), decode func([]byte) (R, error), rec, want R) {
	t.Helper()
	data, err := encode(rec)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	got, err := decode(data)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: a record came back different", name)
	}
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	roundTrip(t, "component", store.EncodeComponent, store.DecodeComponent, component(), component())
	roundTrip(t, "authorizer", store.EncodeAuthorizer, store.DecodeAuthorizer, authorizer(), authorizer())
	account := store.Account{AppID: "wx1", Token: token()}
	roundTrip(t, "account", store.EncodeAccount, store.DecodeAccount, account, account)
	roundTrip(t, "push", store.EncodePush, store.DecodePush, push(), push())

	bare := store.Authorizer{AppID: "wx1"}
	roundTrip(t, "zero fields", store.EncodeAuthorizer, store.DecodeAuthorizer, bare, bare)
	empty := store.Authorizer{AppID: "wx1", Scopes: []int{}}
	roundTrip(t, "no scopes", store.EncodeAuthorizer, store.DecodeAuthorizer, empty, bare)
}

func TestTimesComeBackInUTC(t *testing.T) {
	local := store.Account{AppID: "wx1"}
	local.Token.RefreshedAt = time.Now().In(time.FixedZone("CST", 8*3600))
	want := local
	want.Token.RefreshedAt = local.Token.RefreshedAt.UTC().Round(0)
	roundTrip(t, "local time", store.EncodeAccount, store.DecodeAccount, local, want)

	epoch := store.Account{AppID: "wx1", Token: store.Token{RefreshedAt: time.Unix(0, 0)}}
	want.Token.RefreshedAt = time.Unix(0, 0).UTC()
	roundTrip(t, "the epoch is not the zero time", store.EncodeAccount, store.DecodeAccount, epoch, want)
}

// The form is what files out there hold: a change here needs a new version, or
// to be one that version 1 can read.
func TestFormIsKept(t *testing.T) {
	data, err := store.EncodeAuthorizer(store.Authorizer{
		AppID: "wx1", State: store.StateActive, RefreshToken: secret.New("rt"),
		Token:        store.Token{Value: secret.New("at"), ExpiresAt: instant, RefreshedAt: instant, Generation: 3},
		AuthorizedAt: instant, EventAt: instant, EventDigest: "d", Scopes: []int{1, 2},
	})
	const at = `"2026-03-01T23:59:59.123456789Z"`
	want := `{"v":1,"id":"wx1","s":"active","rt":"cnQ=","at":{"t":"YXQ=","x":` + at + `,"r":` + at + `,"g":3},` +
		`"au":` + at + `,"ev":` + at + `,"ed":"d","sc":[1,2]}`
	if err != nil || string(data) != want {
		t.Errorf("got %s, %v\nwant %s", data, err, want)
	}
	if data, err = store.EncodeComponent(store.Component{AppID: "wx1", Ticket: secret.New("t")}); string(data) != `{"v":1,"id":"wx1","tk":"dA=="}` {
		t.Errorf("got %s, %v", data, err)
	}
	if data, err = store.EncodePush(store.Push{Seq: 2, Digest: "d", Message: secret.New("m")}); string(data) != `{"v":1,"n":2,"d":"d","m":"bQ=="}` {
		t.Errorf("got %s, %v", data, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	f := func(data string, want error) {
		t.Helper()
		_, err := store.DecodeAuthorizer([]byte(data))
		if !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", data, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: the error quotes the record: %v", data, err)
		}
	}
	f(`{"v":1,"id":"wx1","unknown":{"a":[1]}}`, nil)
	f(`{"v":3,"id":"wx1"}`, store.ErrNewer)
	f(`{"v":3,"id":["another","type"]}`, store.ErrNewer)
	f(`{"v":2,"id":"wx1"}`, store.ErrCorrupt)
	f(`{"v":2,"id":"wx1","rt":"cnQ="}`, store.ErrCorrupt)
	f(`{"v":1,"id":"wx1","rt":"enc:cnQ="}`, store.ErrCorrupt)
	f(`{"id":"wx1"}`, store.ErrCorrupt)
	f(`{"v":0}`, store.ErrCorrupt)
	f(`{"v":-1}`, store.ErrCorrupt)
	f(`{"v":"1"}`, store.ErrCorrupt)
	f(``, store.ErrCorrupt)
	f(`null`, store.ErrCorrupt)
	f(`{"v":1,"rt":"hush`, store.ErrCorrupt)
	f(`{"v":1,"rt":"hush!"}`, store.ErrCorrupt)
	f(`{"v":1,"au":"hush"}`, store.ErrCorrupt)
	f(`{"v":1} trailing`, store.ErrCorrupt)
}

func TestEncodeRefusesWhatWouldNotComeBack(t *testing.T) {
	f := func(what string, a store.Authorizer) {
		t.Helper()
		if data, err := store.EncodeAuthorizer(a); !errors.Is(err, store.ErrInvalid) || data != nil {
			t.Errorf("%s: got %v", what, err)
		}
	}
	f("no app id", store.Authorizer{})
	f("long app id", store.Authorizer{AppID: strings.Repeat("w", 257)})
	f("app id not UTF-8", store.Authorizer{AppID: "wx\xff"})
	f("digest not UTF-8", store.Authorizer{AppID: "wx1", EventDigest: "\xff"})
	f("year of five digits", store.Authorizer{AppID: "wx1", EventAt: time.Unix(math.MaxInt32*1000, 0)})
	if _, err := store.EncodePush(store.Push{Seq: 1}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("push without digest: got %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	c, _ := store.EncodeComponent(component())
	a, _ := store.EncodeAuthorizer(authorizer())
	p, _ := store.EncodePush(push())
	for _, seed := range [][]byte{c, a, p, []byte(`{"v":1,"id":"wx1"}`), []byte(`{"v":3}`), []byte(`{"v":1,"sc":[]}`), nil} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		again(t, data, store.EncodeComponent, store.DecodeComponent)
		again(t, data, store.EncodeAuthorizer, store.DecodeAuthorizer)
		again(t, data, store.EncodeAccount, store.DecodeAccount)
		again(t, data, store.EncodePush, store.DecodePush)
	})
}

// again checks that what can be read can be written and read once more.
func again[R any](t *testing.T, data []byte, encode func(R) ([]byte, error), decode func([]byte) (R, error)) {
	rec, err := decode(bytes.Clone(data))
	if err != nil {
		if !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrNewer) && !errors.Is(err, store.ErrKey) {
			t.Fatalf("error without a class: %v", err)
		}
		return
	}
	second, err := encode(rec)
	if errors.Is(err, store.ErrInvalid) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decode(second); err != nil || !reflect.DeepEqual(got, rec) {
		t.Fatalf("second reading differs: %v", err)
	}
}

func TestCounts(t *testing.T) {
	var c store.Counts
	c.Add(store.StateActive, 3)
	c.Add(store.StateReauthorize, 2)
	c.Add(store.StateUnauthorized, 1)
	c.Add(store.StateActive, -1)
	c.Add("", 5)
	if c != (store.Counts{Active: 2, Reauthorize: 2, Unauthorized: 1}) {
		t.Errorf("got %+v", c)
	}
}
