package importer

import (
	"slices"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

// outcome is what becomes of an authorizer.
type outcome string

// The outcomes.
const (
	outcomeNew          outcome = "new"          // the store had no such record
	outcomeUpdated      outcome = "updated"      // the store's record was older
	outcomeKept         outcome = "kept"         // the store's record stays as it is
	outcomeUnauthorized outcome = "unauthorized" // WeChat says that it does not authorize the platform
	outcomeRefused      outcome = "refused"      // WeChat answered an errcode
	outcomeMalformed    outcome = "malformed"    // the source's values cannot be right
	outcomeNoRefresh    outcome = "no_refresh_token"
)

// outcomes in the order of the summary.
var outcomes = []outcome{outcomeNew, outcomeUpdated, outcomeKept, outcomeUnauthorized, outcomeNoRefresh, outcomeMalformed, outcomeRefused}

// failed reports whether an authorizer could not be taken over though it should
// be. One that does not authorize the platform should not.
func (o outcome) failed() bool {
	return o == outcomeRefused || o == outcomeMalformed || o == outcomeNoRefresh
}

// candidate is a row that was checked, and what becomes of it.
type candidate struct {
	row
	scopes  []int // nil: not known
	outcome outcome
	detail  string
	errcode int
	// access says what becomes of the access token: "" if there is none.
	access string
}

func (c *candidate) set(o outcome, detail string) { c.outcome, c.detail = o, detail }

func (c *candidate) note(text string) {
	if c.detail != "" {
		text = c.detail + "; " + text
	}
	c.detail = text
}

// check looks at the values of a row as they are.
func check(r row, now time.Time) *candidate {
	c := &candidate{row: r}
	if !appIDForm.MatchString(c.appID) {
		if c.fault == "" {
			c.fault = "its app id is none"
		}
		c.appID = "" // whatever it is, it is not shown
	}
	if c.fault != "" {
		c.set(outcomeMalformed, c.fault)
		return c
	}
	if c.refreshFault == "" {
		c.refreshFault = refreshTokenFault(c.refreshToken)
	}
	if c.refreshFault != "" {
		c.refreshToken = secret.String{}
	}
	if c.accessFault == "" {
		c.accessFault = accessTokenFault(c.accessToken)
	}
	if c.accessFault == "" && !c.accessToken.Empty() {
		c.accessFault = lifetimeFault(c.accessExpiresAt, now)
	}
	if c.accessFault != "" {
		c.dropAccess(c.accessFault)
	}
	return c
}

func (c *candidate) dropAccess(why string) {
	c.accessToken, c.accessExpiresAt = secret.String{}, time.Time{}
	c.access = "not taken: " + why
}

// confirm takes in what WeChat says of an authorizer. Where it knows another
// refresh token than the source, WeChat is right.
func (c *candidate) confirm(refreshToken secret.String, authorizedAt time.Time, scopes []int) {
	c.scopes = scopes
	if !authorizedAt.IsZero() {
		c.authorizedAt = authorizedAt
	}
	if refreshToken.Empty() || refreshToken.Equal(c.refreshToken) {
		return
	}
	switch {
	case c.refreshFault != "":
		c.note("refresh token is WeChat's: the source's " + c.refreshFault)
		c.refreshFault = ""
	case c.refreshToken.Empty():
		c.note("refresh token is WeChat's: the source has none")
	default:
		c.note("refresh token is WeChat's: the source has another one")
		if !c.accessToken.Empty() {
			c.dropAccess("it is of another authorization")
		}
	}
	c.refreshToken = refreshToken
}

// settle ends a row without a refresh token.
func (c *candidate) settle() {
	switch {
	case c.outcome != "" || !c.refreshToken.Empty():
	case c.refreshFault != "":
		c.set(outcomeMalformed, "the refresh token "+c.refreshFault)
	default:
		c.set(outcomeNoRefresh, "neither the source nor WeChat gives one: the account has to authorize again")
	}
}

// following is the generation after another. The first of a record that many
// processes share is the time: so it is above what one of them may remember of
// a record that was deleted.
func following(s store.Store, generation uint64, now time.Time) uint64 {
	if _, shared := s.(store.Shared); shared && generation == 0 {
		return uint64(max(now.Unix(), 1))
	}
	return generation + 1
}

// verdict is what decide says.
type verdict struct {
	outcome outcome
	detail  string
	// access reports whether the access token is part of what is written.
	access bool
}

// decide merges c into the record that the store has, which has only its AppID
// if there is none. Nothing changes if the outcome is outcomeKept. next gives
// the generation that follows.
func decide(a *store.Authorizer, c *candidate, overwrite bool, now time.Time, next func(uint64) uint64) verdict {
	usable := !c.accessToken.Empty() && c.accessExpiresAt.After(now)
	token := func() store.Token {
		t := store.Token{Generation: next(a.Token.Generation)}
		if usable {
			t.Value, t.ExpiresAt = c.accessToken, c.accessExpiresAt
			t.RefreshedAt = earlier(c.accessExpiresAt.Add(-tokenLifetime), now)
		}
		return t
	}
	take := func(o outcome, detail string) verdict {
		a.State, a.RefreshToken, a.AuthorizedAt, a.Token = store.StateActive, c.refreshToken, c.authorizedAt, token()
		if c.scopes != nil {
			a.Scopes = c.scopes
		}
		return verdict{o, detail, usable}
	}
	same := a.RefreshToken.Equal(c.refreshToken)
	newer := c.authorizedAt.After(a.AuthorizedAt)
	switch {
	case a.State == "":
		return take(outcomeNew, "")
	case a.State == store.StateUnauthorized:
		if overwrite || !c.authorizedAt.IsZero() && !c.authorizedAt.Before(a.EventAt.Truncate(time.Second)) {
			return take(outcomeUpdated, "the store had it as unauthorized")
		}
		return verdict{outcomeKept, "the store has it as unauthorized; -overwrite takes it", false}
	case a.State == store.StateReauthorize && same && !newer && !overwrite:
		return verdict{outcomeKept, "WeChat has refused this refresh token before: the account has to authorize again", false}
	case a.State == store.StateReauthorize:
		return take(outcomeUpdated, "the store had it as to be authorized again")
	case same:
		return mergeSame(a, c, usable, overwrite, now, token)
	case a.RefreshToken.Empty():
		return take(outcomeUpdated, "the store had no refresh token")
	case newer:
		return take(outcomeUpdated, "a newer authorization")
	case overwrite:
		return take(outcomeUpdated, "the store had another refresh token")
	}
	return verdict{outcomeKept, "the store has another refresh token, no older than this; -overwrite replaces it", false}
}

// mergeSame fills what an active record of the same authorization lacks.
func mergeSame(a *store.Authorizer, c *candidate, usable, overwrite bool, now time.Time, token func() store.Token) verdict {
	v := verdict{outcome: outcomeKept}
	present := !a.Token.Value.Empty() && a.Token.ExpiresAt.After(now)
	if usable && !a.Token.Value.Equal(c.accessToken) && (!present || overwrite && c.accessExpiresAt.After(a.Token.ExpiresAt)) {
		a.Token = token()
		v = verdict{outcomeUpdated, "access token", true}
	}
	if c.scopes != nil && !slices.Equal(a.Scopes, c.scopes) {
		a.Scopes = c.scopes
		if v.outcome = outcomeUpdated; v.detail == "" {
			v.detail = "permission sets"
		}
	}
	return v
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// componentVerdict says what becomes of the ticket and the token.
type componentVerdict struct {
	ticket, token string
	changed       bool
}

// decideComponent merges p into the component's record. accepted are the tokens
// WeChat has accepted, refused those it has not; without verification both are
// false.
func decideComponent(rec *store.Component, p platform, accepted, refused bool, overwrite bool, now time.Time, next func(uint64) uint64) componentVerdict {
	var v componentVerdict
	at := p.ticketAt
	age := ""
	if at.IsZero() {
		at = now.Add(-unknownTicketAge)
		age = "; the source does not say when it came, so it is used for an hour at most"
	}
	switch fault := p.ticketFault; {
	case fault != "":
		v.ticket = "not taken: " + fault
	case p.ticket.Empty():
		v.ticket = "none in the source"
	case now.Sub(at) >= ticketLifetime:
		v.ticket = "not taken: it is older than 12 hours"
	case rec.Ticket.Equal(p.ticket):
		v.ticket = "kept: the store has the same"
	case !rec.Ticket.Empty() && !rec.TicketReceivedAt.Before(at) && !overwrite:
		v.ticket = "kept: the store's is newer"
	default:
		// Without the time of the push, so that any push replaces it.
		rec.Ticket, rec.TicketReceivedAt, rec.TicketCreatedAt = p.ticket, at, time.Time{}
		v.ticket, v.changed = "taken, received "+at.UTC().Format(time.RFC3339)+age, true
	}

	present := !rec.Token.Value.Empty() && rec.Token.ExpiresAt.After(now)
	switch fault := p.tokenFault; {
	case fault != "":
		v.token = "not taken: it " + fault
	case p.token.Empty():
		v.token = "none in the source"
	case refused:
		v.token = "not taken: WeChat refuses it"
	case rec.Token.Value.Equal(p.token):
		v.token = "kept: the store has the same"
	case lifetimeFault(p.tokenExpiresAt, now) != "":
		v.token = "not taken: it " + lifetimeFault(p.tokenExpiresAt, now)
	case present && !overwrite && !p.tokenExpiresAt.After(rec.Token.ExpiresAt):
		v.token = "kept: the store's is newer"
	default:
		rec.Token = store.Token{
			Value: p.token, ExpiresAt: p.tokenExpiresAt,
			RefreshedAt: earlier(p.tokenExpiresAt.Add(-tokenLifetime), now),
			Generation:  next(rec.Token.Generation),
		}
		v.token, v.changed = "taken, "+remaining(p.tokenExpiresAt, now)+" left", true
		if accepted {
			v.token += ", WeChat accepts it"
		}
	}
	return v
}

// check looks at the values of the component as they are.
func (p *platform) check() {
	if p.ticketFault == "" {
		p.ticketFault = ticketFault(p.ticket)
	}
	if p.ticketFault != "" {
		p.ticket = secret.String{}
	}
	if p.tokenFault == "" {
		p.tokenFault = accessTokenFault(p.token)
	}
	if p.tokenFault != "" {
		p.token = secret.String{}
	}
}

// remaining is a lifetime as people read it.
func remaining(until, now time.Time) string {
	left := until.Sub(now).Round(time.Minute)
	if left < time.Minute {
		return "less than 1m"
	}
	text := left.String() // 1h52m0s
	return text[:len(text)-len("0s")]
}
