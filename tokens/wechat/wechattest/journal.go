package wechattest

import (
	"fmt"
	"net/http"
	"slices"
	"time"
)

// Call is one request that reached the simulator (the control API's are not
// counted).
type Call struct {
	Sequence int           `json:"sequence"` // from 1, in order of arrival
	Time     time.Time     `json:"time"`
	Duration time.Duration `json:"duration_ns"` // until the answer was ready
	Done     bool          `json:"done"`        // false while it is being answered

	Method   string      `json:"method"`
	Path     string      `json:"path"`
	RawQuery string      `json:"raw_query"` // holds tokens
	Host     string      `json:"host"`
	Header   http.Header `json:"header"`
	Remote   string      `json:"remote"`

	AppID       string    `json:"app_id"`       // the account it is about, whatever token it carries
	TokenParam  string    `json:"token_param"`  // access_token, component_access_token or none
	TokenKind   TokenKind `json:"token_kind"`   // "" for no token or an unknown one
	TokenAppID  string    `json:"token_app_id"` // whose token it carries
	TokenSerial int       `json:"token_serial"` // which of them, from 1

	BodySHA256    string `json:"body_sha256"` // hex
	BodyLength    int64  `json:"body_length"`
	ContentLength int64  `json:"content_length"` // as the request said, -1 if it did not
	Chunked       bool   `json:"chunked"`

	Status   int    `json:"status"`         // 0 if the connection was cut
	Errcode  int    `json:"errcode"`        // as answered (before garbling by a fault)
	Page     string `json:"page,omitempty"` // which page a browser got, as PageHeader says
	Executed bool   `json:"executed"`
	Fault    string `json:"fault,omitempty"` // kind of the fault that hit it
}

// maxViolations bounds the list of violations.
const maxViolations = 10_000

type pathApp struct{ path, appID string }

// journal is the bounded memory of calls; its counters are exact beyond that.
type journal struct {
	size       int
	ring       []*Call
	next       int // in ring, once it is full
	sequence   int
	byPath     map[string]int
	byPathApp  map[pathApp]int
	executed   map[string]int
	executedBy map[pathApp]int
	violations []string
	pushes     []PushRecord
	pushNumber int
}

func newJournal(size int) journal {
	return journal{
		size: size, byPath: map[string]int{}, byPathApp: map[pathApp]int{},
		executed: map[string]int{}, executedBy: map[pathApp]int{},
	}
}

func (j *journal) begin(c *Call) {
	j.sequence++
	c.Sequence = j.sequence
	j.byPath[c.Path]++
	if len(j.ring) < j.size {
		j.ring = append(j.ring, c)
		return
	}
	j.ring[j.next] = c
	j.next = (j.next + 1) % j.size
}

func (j *journal) finish(c *Call) {
	c.Done = true
	c.Duration = time.Since(c.Time)
}

func (j *journal) ran(c *Call) {
	c.Executed = true
	j.executed[c.Path]++
	j.executedBy[pathApp{c.Path, c.AppID}]++
}

func (j *journal) violation(c *Call, format string, args ...any) {
	if len(j.violations) < maxViolations {
		text := fmt.Sprintf("call %d %s: ", c.Sequence, c.Path) + fmt.Sprintf(format, args...)
		j.violations = append(j.violations, text)
	}
}

// Calls returns the calls that are still remembered, oldest first.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Call, 0, len(s.journal.ring))
	for i := range s.journal.ring {
		c := *s.journal.ring[(s.journal.next+i)%len(s.journal.ring)]
		out = append(out, c)
	}
	return out
}

// CallsTo returns the remembered calls of one path, oldest first.
func (s *Server) CallsTo(path string) []Call {
	return slices.DeleteFunc(s.Calls(), func(c Call) bool { return c.Path != path })
}

// Dropped returns how many calls are counted but no longer remembered.
func (s *Server) Dropped() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.journal.sequence - len(s.journal.ring)
}

// Count returns how many calls of the path arrived.
func (s *Server) Count(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.journal.byPath[path]
}

// CountFor returns how many calls of the path arrived for an account: the
// authorizer or appid a token call names, else the owner of the call's token.
func (s *Server) CountFor(path, appID string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.journal.byPathApp[pathApp{path, appID}]
}

// Executed returns how many calls of the path passed all checks and did their
// work.
func (s *Server) Executed(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.journal.executed[path]
}

// ExecutedFor is Executed for one account.
func (s *Server) ExecutedFor(path, appID string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.journal.executedBy[pathApp{path, appID}]
}

// ResetCalls forgets calls, counts and violations; pushes and refresh counts
// stay.
func (s *Server) ResetCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	pushes, number := s.journal.pushes, s.journal.pushNumber
	s.journal = newJournal(s.journal.size)
	s.journal.pushes, s.journal.pushNumber = pushes, number
}

// Violations returns what no correct client does, as text without secrets: two
// tokens in one call, a secret in a header, a dead refresh token used, two
// refreshes of one credential overlapping in time, a platform's token on a call
// that takes a user's. The first 10000 are kept.
func (s *Server) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.journal.violations)
}
