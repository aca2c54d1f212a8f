package wechattest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// request is one call while it is being answered. All but the waiting happens
// under the Server's lock.
type request struct {
	*Server
	r        *http.Request
	query    url.Values
	body     []byte
	params   params
	jsonErr  error
	knobs    Knobs
	endpoint endpoint
	call     *Call
	rid      string
	token    *token // nil: none or unknown
	value    string // of the token parameter
	two      bool   // more than one token parameter
}

// params are all fields that the simulator reads from JSON bodies.
type params struct {
	AppID             string `json:"appid"`
	AppSecret         string `json:"appsecret"`
	Secret            string `json:"secret"`
	GrantType         string `json:"grant_type"`
	ForceRefresh      bool   `json:"force_refresh"`
	ComponentAppID    string `json:"component_appid"`
	ComponentSecret   string `json:"component_secret"`
	ComponentAppSec   string `json:"component_appsecret"`
	Ticket            string `json:"component_verify_ticket"`
	AuthorizationCode string `json:"authorization_code"`
	AuthorizerAppID   string `json:"authorizer_appid"`
	RefreshToken      string `json:"authorizer_refresh_token"`
	Offset            int    `json:"offset"`
	Count             int    `json:"count"`
	OptionName        string `json:"option_name"`
	OptionValue       string `json:"option_value"`
	CgiPath           string `json:"cgi_path"`
	RID               string `json:"rid"`
	Scene             string `json:"scene"`
	ToUser            string `json:"touser"`
	MsgType           string `json:"msgtype"`
}

// ServeHTTP answers a call as WeChat would.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == strings.TrimSuffix(ControlPrefix, "/") || strings.HasPrefix(r.URL.Path, ControlPrefix) {
		s.control.ServeHTTP(w, r)
		return
	}
	if r.URL.Path == strings.TrimSuffix(ConsolePath, "/") || r.URL.Path == ConsolePath {
		s.console.ServeHTTP(w, r)
		return
	}
	q := &request{Server: s, r: r, endpoint: lookUp(r.URL.Path)}
	chunked := r.ContentLength < 0 || len(r.TransferEncoding) > 0
	q.call = &Call{
		Time: time.Now(), Method: r.Method, Path: r.URL.Path, RawQuery: r.URL.RawQuery, Host: r.Host,
		Header: r.Header.Clone(), Remote: r.RemoteAddr, ContentLength: r.ContentLength, Chunked: chunked,
	}
	var readErr error
	if r.ContentLength > MaxBody {
		readErr = &http.MaxBytesError{Limit: MaxBody}
	} else if r.Body != nil {
		q.body, readErr = io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	}
	hit := q.arrive()
	if q.knobs.CloseAfterReply {
		w.Header().Set("Connection", "close")
	}
	if tooLarge := new(http.MaxBytesError); errors.As(readErr, &tooLarge) {
		q.finish(page(http.StatusRequestEntityTooLarge), "").write(w)
		return
	} else if readErr != nil { // the client went away in the middle
		q.finish(reply{}, "")
		panic(http.ErrAbortHandler)
	}
	if chunked && q.knobs.RefuseChunked {
		q.finish(page(http.StatusPreconditionFailed), "").write(w)
		return
	}
	latency := q.knobs.CallLatency
	if q.endpoint.slow {
		latency = q.knobs.TokenLatency
	}
	// A client that went away does not stop WeChat, so its context does not end
	// the wait.
	background := withoutCancel(r)
	s.sleep(background, time.Duration(latency)+hit.before)
	q.respond(w, hit, func() { s.sleep(background, hit.after) })
}

// respond executes the call unless a fault forbids it, and answers.
func (q *request) respond(w http.ResponseWriter, hit struck, delay func()) {
	f := hit.fault
	if f == nil {
		rep := q.execute()
		delay()
		q.finish(rep, "").write(w)
		return
	}
	var rep reply
	if f.hasEffect() {
		rep = q.execute()
	}
	delay()
	switch f.Kind {
	case FaultCut, FaultReset, FaultLost:
		rep.status = -1
		q.finish(rep, f.Kind)
		abort(w, f.Kind == FaultReset)
	case FaultTruncated:
		q.finish(rep, f.Kind).truncate(w)
	default:
		q.finish(q.broken(f), f.Kind).write(w)
	}
}

// arrive notes the call in the journal, finds its token, its account and the
// faults that hit it.
func (q *request) arrive() struck {
	q.query, _ = url.ParseQuery(q.r.URL.RawQuery)
	sum := sha256.Sum256(q.body)
	q.call.BodySHA256, q.call.BodyLength = hex.EncodeToString(sum[:]), int64(len(q.body))
	if q.endpoint.json {
		q.jsonErr = json.Unmarshal(q.body, &q.params)
	}

	s := q.Server
	s.mu.Lock()
	defer s.mu.Unlock()
	q.knobs = s.knobs // maps and slices in it are replaced, never changed
	q.rid = s.values.rid(q.call.Time)
	s.journal.begin(q.call)
	q.findToken()
	q.call.AppID = q.subject()
	s.journal.byPathApp[pathApp{q.call.Path, q.call.AppID}]++
	if q.endpoint.token != takesPage { // a browser's Referer is its own affair
		q.checkHeaders()
	}
	q.checkOverlap()
	return s.strike(q.call.Path, q.call.AppID)
}

// tokenParams are the two query parameters that carry a token.
var tokenParams = []string{"access_token", "component_access_token"}

func (q *request) findToken() {
	n := 0
	for _, name := range tokenParams {
		for _, value := range q.query[name] {
			if n++; n == 1 {
				q.call.TokenParam, q.value = name, value
			}
		}
	}
	if n > 1 {
		q.two = true
		q.journal.violation(q.call, "%d tokens in one query", n)
	}
	if q.token = q.tokens[q.value]; q.token != nil {
		q.call.TokenKind, q.call.TokenAppID, q.call.TokenSerial = q.token.kind, q.token.appID, q.token.serial
	}
}

// subject is the account that the call is about.
func (q *request) subject() string {
	for _, appID := range []string{q.params.AuthorizerAppID, q.subjectOfEndpoint(), q.call.TokenAppID} {
		if appID != "" {
			return appID
		}
	}
	return ""
}

func (q *request) subjectOfEndpoint() string {
	switch q.endpoint.token {
	case takesNone:
		for _, appID := range []string{q.params.AppID, q.params.ComponentAppID, q.query.Get("appid")} {
			if appID != "" {
				return appID
			}
		}
	case takesComponentSNS:
		return q.query.Get("appid")
	case takesPage:
		if q.r.Method == http.MethodPost {
			form, _ := url.ParseQuery(string(q.body))
			return form.Get("app_id")
		}
		return q.query.Get("component_appid")
	}
	return ""
}

// checkHeaders looks for secrets where none belongs: WeChat takes tokens from
// the query only.
func (q *request) checkHeaders() {
	for name, values := range q.r.Header {
		for _, value := range values {
			for _, word := range strings.FieldsFunc(value, notSecretRune) {
				if len(word) >= 16 && q.known[word] {
					q.journal.violation(q.call, "a secret in header %s", name)
				}
			}
		}
	}
}

func notSecretRune(c rune) bool {
	return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '@')
}

// refreshKey names the credential that the call would replace.
func (q *request) refreshKey() string {
	switch q.call.Path {
	case pathComponentToken:
		return credentialKey(KindComponent, q.params.ComponentAppID)
	case pathAuthorizerToken:
		return credentialKey(KindAuthorizer, q.params.AuthorizerAppID)
	case pathToken:
		return credentialKey(KindAccount, q.query.Get("appid"))
	case pathStableToken:
		return credentialKey(KindAccount, q.params.AppID)
	}
	return ""
}

// checkOverlap notes a refresh that starts while another of the same credential
// is under way. One whose client is gone does not count: a client that timed
// out may try again.
func (q *request) checkOverlap() {
	key := q.refreshKey()
	if key == "" {
		return
	}
	for _, other := range q.inFlight[key] {
		if other.r.Context().Err() == nil {
			q.journal.violation(q.call, "refresh of %s while call %d refreshes it too", key, other.call.Sequence)
			break
		}
	}
	q.inFlight[key] = append(q.inFlight[key], q)
}

// leave ends the refresh, before the client can see the answer: it may refresh
// again at once.
func (q *request) leave() {
	key := q.refreshKey()
	if key == "" {
		return
	}
	list := q.inFlight[key]
	for i, other := range list {
		if other == q {
			q.inFlight[key] = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if len(q.inFlight[key]) == 0 {
		delete(q.inFlight, key)
	}
}

// finish completes the journal's entry. Nothing is written to the client
// before.
func (q *request) finish(rep reply, fault FaultKind) reply {
	q.Server.mu.Lock()
	defer q.Server.mu.Unlock()
	q.leave()
	q.call.Errcode, q.call.Page, q.call.Fault = rep.errcode, rep.page, string(fault)
	switch rep.status {
	case -1:
		q.call.Status = 0
	case 0:
		q.call.Status = http.StatusOK
	default:
		q.call.Status = rep.status
	}
	q.journal.finish(q.call)
	q.rids.add(q, rep)
	return rep
}

// clientIP is the address that WeChat compares with its whitelists.
func (q *request) clientIP() string {
	host, _, err := net.SplitHostPort(q.r.RemoteAddr)
	if err != nil {
		return q.r.RemoteAddr
	}
	return host
}
