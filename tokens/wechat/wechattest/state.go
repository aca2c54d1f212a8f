package wechattest

import (
	"cmp"
	"slices"
	"time"
)

// state is what WeChat remembers; Reset makes it anew.
type state struct {
	tickets     []ticket
	ticketsSent int
	pushOff     bool
	pauseUntil  time.Time

	tokens    map[string]*token
	chains    map[chain][]*token
	serials   map[string]int
	refreshes map[string]int

	authorizers  map[string]*authorizer
	authOrder    []string // appids by first authorization
	preAuthCodes map[string]*preAuthCode
	authCodes    map[string]*authCode
	oldRefresh   map[string]oldRefreshToken

	loginAccounts []LoginAccount
	logins        map[string]*login
	loginOrder    []*login // oldest first
	held          []heldEvent
	lastHeld      int

	stable      map[string]*stableUse
	userRefresh map[string]userGrant
	usedCodes   map[string]bool
	jsTickets   map[string]int

	quotas quotas
	rids   rids
	media  mediaStore
	sent   []CustomMessage

	faults      []*Fault
	lastFaultID int
	inFlight    map[string][]*request
}

func newState(accounts []LoginAccount) state {
	return state{
		loginAccounts: cloneAccounts(accounts), logins: map[string]*login{},
		tokens: map[string]*token{}, chains: map[chain][]*token{},
		serials: map[string]int{}, refreshes: map[string]int{},
		authorizers: map[string]*authorizer{}, preAuthCodes: map[string]*preAuthCode{},
		authCodes: map[string]*authCode{}, oldRefresh: map[string]oldRefreshToken{},
		stable: map[string]*stableUse{}, userRefresh: map[string]userGrant{},
		usedCodes: map[string]bool{}, jsTickets: map[string]int{},
		quotas: newQuotas(), rids: newRIDs(), media: newMediaStore(),
		inFlight: map[string][]*request{},
	}
}

type ticket struct {
	value  string
	issued time.Time
}

// State is a picture of what the simulator remembers, for people and tests. It
// holds serials and times, no secret values.
type State struct {
	ComponentAppID string            `json:"component_app_id"`
	EventURL       string            `json:"event_url"`
	MessageURL     string            `json:"message_url"`
	Seed           uint64            `json:"seed"`
	TicketPushOn   bool              `json:"ticket_push_on"`
	Tickets        []TicketState     `json:"tickets"`
	Tokens         []TokenState      `json:"tokens"`
	Authorizers    []AuthorizerState `json:"authorizers"`
	Accounts       []string          `json:"accounts"`
	Quotas         []QuotaState      `json:"quotas"`
	Refreshes      map[string]int    `json:"refreshes"` // by kind/appid
}

// TicketState is a ticket that is still valid.
type TicketState struct {
	IssuedAt  time.Time `json:"issued_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

// TokenState is a live token.
type TokenState struct {
	Kind      TokenKind `json:"kind"`
	AppID     string    `json:"app_id"`
	Stable    bool      `json:"stable,omitempty"`
	Serial    int       `json:"serial"`
	Newest    bool      `json:"newest"`
	IssuedAt  time.Time `json:"issued_at"`
	ExpiresAt time.Time `json:"expires_at"` // as told to the client
	EndsAt    time.Time `json:"ends_at"`    // when it really ends
	OpenID    string    `json:"open_id,omitempty"`
}

// AuthorizerState is an account that is or was authorized.
type AuthorizerState struct {
	AppID        string    `json:"app_id"`
	UserName     string    `json:"user_name"`
	Authorized   bool      `json:"authorized"`
	Exchanged    bool      `json:"exchanged"` // its code was used, so a refresh token is known
	AuthorizedAt time.Time `json:"authorized_at"`
	Scopes       []int     `json:"scopes"`
}

// QuotaState is the use of one path by one appid on the present day.
type QuotaState struct {
	AppID string `json:"app_id"`
	Path  string `json:"path"`
	Used  int    `json:"used"`
	Limit int    `json:"limit"` // 0: none
}

// State returns a picture of what the simulator remembers.
func (s *Server) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	out := State{
		ComponentAppID: s.componentAppID, EventURL: s.eventURL, MessageURL: s.messageURL,
		Seed: s.values.seed, TicketPushOn: !s.pushOff, Refreshes: map[string]int{},
		Tickets: []TicketState{}, Tokens: []TokenState{}, Authorizers: []AuthorizerState{},
		Accounts: []string{}, Quotas: []QuotaState{},
	}
	for _, t := range s.tickets {
		if end := t.issued.Add(time.Duration(s.knobs.TicketValidity)); now.Before(end) {
			out.Tickets = append(out.Tickets, TicketState{t.issued, end})
		}
	}
	for _, t := range s.tokens {
		if t.live(now) {
			out.Tokens = append(out.Tokens, TokenState{
				Kind: t.kind, AppID: t.appID, Stable: t.stable, Serial: t.serial, Newest: s.current(t.chain) == t,
				IssuedAt: t.issued, ExpiresAt: t.expires, EndsAt: t.end, OpenID: t.openID,
			})
		}
	}
	slices.SortFunc(out.Tokens, func(a, b TokenState) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.AppID, b.AppID), cmp.Compare(a.Serial, b.Serial))
	})
	for _, appID := range s.authOrder {
		a := s.authorizers[appID]
		out.Authorizers = append(out.Authorizers, AuthorizerState{
			AppID: appID, UserName: a.userName, Authorized: a.authorized, Exchanged: a.exchanged,
			AuthorizedAt: a.authTime, Scopes: slices.Clone(a.scopes),
		})
	}
	for appID := range s.accounts {
		out.Accounts = append(out.Accounts, appID)
	}
	slices.Sort(out.Accounts)
	out.Quotas = s.quotas.state(now, s.knobs)
	for key, n := range s.refreshes {
		out.Refreshes[key] = n
	}
	return out
}
