package importer

import (
	"strings"
	"testing"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	const a, b = "refresh a", "refresh b"
	record := func(state store.State, refresh string, at, event time.Time) store.Authorizer {
		return store.Authorizer{
			AppID: shop, State: state, RefreshToken: secret.New(refresh), AuthorizedAt: at, EventAt: event,
			Token: store.Token{Value: secret.New("stored"), ExpiresAt: now.Add(time.Hour), Generation: 4},
		}
	}
	imported := func(refresh string, at time.Time) *candidate {
		return &candidate{row: row{appID: shop, refreshToken: secret.New(refresh), authorizedAt: at,
			accessToken: secret.New("imported"), accessExpiresAt: now.Add(30 * time.Minute)}}
	}
	never := time.Time{}
	for _, c := range []struct {
		rule      string
		stored    store.Authorizer
		imported  *candidate
		overwrite bool
		want      outcome
		token     string // in the record afterwards
	}{
		{"not there", store.Authorizer{AppID: shop}, imported(a, never), false, outcomeNew, "imported"},
		{"the same", record(store.StateActive, a, ago(1), never), imported(a, ago(1)), false, outcomeKept, "stored"},
		{"the same, its own token lives longer", record(store.StateActive, a, ago(1), never), imported(a, ago(1)), true, outcomeKept, "stored"},
		{"another, of unknown time", record(store.StateActive, a, ago(1), never), imported(b, never), false, outcomeKept, "stored"},
		{"another, older", record(store.StateActive, a, ago(1), never), imported(b, ago(2)), false, outcomeKept, "stored"},
		{"another, newer", record(store.StateActive, a, ago(2), never), imported(b, ago(1)), false, outcomeUpdated, "imported"},
		{"another, overwrite", record(store.StateActive, a, ago(1), never), imported(b, ago(2)), true, outcomeUpdated, "imported"},
		{"none stored", record(store.StateActive, "", ago(1), never), imported(b, never), false, outcomeUpdated, "imported"},
		{"ended later", record(store.StateUnauthorized, a, ago(2*time.Hour), ago(time.Hour)), imported(a, ago(2*time.Hour)), false, outcomeKept, "stored"},
		{"ended, time unknown", record(store.StateUnauthorized, a, ago(2*time.Hour), ago(time.Hour)), imported(b, never), false, outcomeKept, "stored"},
		{"ended before", record(store.StateUnauthorized, a, ago(2*time.Hour), ago(time.Hour)), imported(b, ago(time.Minute)), false, outcomeUpdated, "imported"},
		{"ended, overwrite", record(store.StateUnauthorized, a, ago(2*time.Hour), ago(time.Hour)), imported(a, never), true, outcomeUpdated, "imported"},
		{"refused before", record(store.StateReauthorize, a, ago(1), never), imported(a, ago(1)), false, outcomeKept, "stored"},
		{"another than was refused", record(store.StateReauthorize, a, ago(1), never), imported(b, never), false, outcomeUpdated, "imported"},
	} {
		rec := c.stored
		v := decide(&rec, c.imported, c.overwrite, now, func(g uint64) uint64 { return g + 1 })
		same(t, c.rule, v.outcome, c.want)
		same(t, c.rule+": access token", rec.Token.Value.Reveal(), c.token)
		if v.outcome == outcomeKept {
			same(t, c.rule+": unchanged", rec, c.stored)
			continue
		}
		same(t, c.rule+": generation", rec.Token.Generation, c.stored.Token.Generation+1)
		same(t, c.rule+": refresh token", rec.RefreshToken, c.imported.refreshToken)
		same(t, c.rule+": state", rec.State, store.StateActive)
	}

	// A dead access token is replaced, the rest of the record stays.
	rec := record(store.StateActive, a, ago(time.Hour), ago(time.Hour))
	rec.Token.ExpiresAt = now
	v := decide(&rec, imported(a, never), false, now, func(g uint64) uint64 { return g + 1 })
	same(t, "dead access token", v, verdict{outcomeUpdated, "access token", true})
	same(t, "authorized at", rec.AuthorizedAt, ago(time.Hour))
	same(t, "access token", rec.Token.Value.Reveal(), "imported")
}

func TestDecideComponent(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	next := func(g uint64) uint64 { return g + 1 }
	p := platform{ticket: secret.New("new ticket"), ticketAt: now.Add(-time.Hour), token: secret.New("new token"), tokenExpiresAt: now.Add(time.Hour)}
	with := func(change func(*platform)) platform { q := p; change(&q); return q }
	old := store.Component{AppID: platformID, Ticket: secret.New("old ticket"), TicketReceivedAt: now.Add(-30 * time.Minute), TicketCreatedAt: now,
		Token: store.Token{Value: secret.New("old token"), ExpiresAt: now.Add(90 * time.Minute), Generation: 3}}
	for _, c := range []struct {
		rule               string
		stored             store.Component
		p                  platform
		accepted, refused  bool
		overwrite, changed bool
		ticket, token      string // in the record afterwards
	}{
		{"empty store", store.Component{}, p, true, false, false, true, "new ticket", "new token"},
		{"refused token", store.Component{}, p, false, true, false, true, "new ticket", ""},
		{"expired token", store.Component{}, with(func(p *platform) { p.tokenExpiresAt = now }), true, false, false, true, "new ticket", ""},
		{"token without end", store.Component{}, with(func(p *platform) { p.tokenExpiresAt = time.Time{} }), true, false, false, true, "new ticket", ""},
		{"token with too long a life", store.Component{}, with(func(p *platform) { p.tokenExpiresAt = now.Add(3 * time.Hour) }), true, false, false, true, "new ticket", ""},
		{"old ticket", store.Component{}, with(func(p *platform) { p.ticketAt = now.Add(-12 * time.Hour) }), true, false, false, true, "", "new token"},
		{"ticket of unknown age", store.Component{}, with(func(p *platform) { p.ticketAt = time.Time{} }), true, false, false, true, "new ticket", "new token"},
		{"nothing", old, platform{}, false, false, false, false, "old ticket", "old token"},
		{"older than the store's", old, p, true, false, false, false, "old ticket", "old token"},
		{"overwrite", old, p, true, false, true, true, "new ticket", "new token"},
		{"newer than the store's", old, with(func(p *platform) { p.ticketAt, p.tokenExpiresAt = now, now.Add(2*time.Hour) }), true, false, false, true, "new ticket", "new token"},
	} {
		rec := c.stored
		v := decideComponent(&rec, c.p, c.accepted, c.refused, c.overwrite, now, next)
		same(t, c.rule, []any{v.changed, rec.Ticket.Reveal(), rec.Token.Value.Reveal()}, []any{c.changed, c.ticket, c.token})
		if rec.Token.Generation < c.stored.Token.Generation {
			t.Errorf("%s: the generation goes back", c.rule)
		}
	}
}

func TestPHP(t *testing.T) {
	t.Parallel()
	f := func(value, want string, ok bool) {
		t.Helper()
		got, err := phpToken(value)
		if got != want || (err == nil) != ok {
			t.Errorf("phpToken(%q) = %q, %v", value, got, err)
		}
	}
	f(`s:3:"abc";`, "abc", true)
	f(`abc`, "abc", true)
	f(`"abc"`, "abc", true)
	f(`a:3:{i:0;N;s:1:"x";a:1:{s:1:"y";b:1;}s:12:"access_token";s:3:"a"b";}`, `a"b`, true)
	f(`a:1:{s:1:"x";s:1:"y";}`, "", false)
	f(`s:4:"abc";`, "", false)
	f(`s:-1:"";`, "", false)
	f(`s:99999999999999999999:"";`, "", false)
	f(`a:1000000000:{`, "", false)
	f(`s:3:"abc";x`, "", false)
	f(strings.Repeat(`a:1:{i:0;`, 100), "", false)
}

func FuzzPHP(f *testing.F) {
	f.Add(`a:2:{s:12:"access_token";s:3:"abc";s:10:"expires_in";i:7200;}`)
	f.Fuzz(func(t *testing.T, text string) { phpToken(text) })
}

func FuzzSQLDump(f *testing.F) {
	f.Add("CREATE TABLE `comm` (`key` text, `value` text);\nINSERT INTO `comm` VALUES ('a\\'','b'),(NULL,0x41);-- x\n/*!1 x */;")
	f.Fuzz(func(t *testing.T, text string) {
		rows := 0
		newSQLDump(strings.NewReader(text), func(string) bool { return true }, func(sqlRow) error { rows++; return nil }).read()
		if rows > len(text) {
			t.Error("more rows than bytes")
		}
	})
}
