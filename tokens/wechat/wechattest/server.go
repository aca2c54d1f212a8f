package wechattest

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"sync"
	"time"

	"lingpai/tokens/msgcrypt"
)

// What zero Options stand for. They are valid in form and secret to no one.
const (
	DefaultComponentAppID     = "wx0123456789abcdef"
	DefaultComponentAppSecret = "0123456789abcdef0123456789abcdef"
	DefaultMessageToken       = "lingpai-simulator-token"
	DefaultEncodingAESKey     = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
)

// MaxBody bounds request bodies: larger ones get HTTP 413.
const MaxBody = 64 << 20

// Options say what platform the simulator knows. The zero value is usable.
type Options struct {
	ComponentAppID     string // "": DefaultComponentAppID
	ComponentAppSecret string // "": DefaultComponentAppSecret
	MessageToken       string // 消息校验Token; "": DefaultMessageToken
	EncodingAESKey     string // 消息加解密Key, 43 characters; "": DefaultEncodingAESKey

	Accounts   map[string]string // direct accounts: appid to secret
	Login      []LoginAccount    // pickable on login pages; nil: DefaultLoginAccounts
	EventURL   string            // 授权事件接收URL; "": pushes fail with ErrNoURL
	MessageURL string            // 消息与事件接收URL, holds $APPID$

	Seed        uint64       // of all values; 0: another one each time
	Knobs       *Knobs       // nil: DefaultKnobs
	Client      *http.Client // sends the pushes; nil: one with a timeout of 5 s
	JournalSize int          // calls kept; 0: 100000
}

// Server is the simulated WeChat. Make it with New; it is safe for concurrent
// use.
type Server struct {
	control   http.Handler
	console   http.Handler
	client    *http.Client
	closed    <-chan struct{}
	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	ownClient bool          // Options named no client
	wake      chan struct{} // tells Run that knobs changed
	pushes    sync.WaitGroup

	mu   sync.Mutex // guards all below
	done bool

	componentAppID, componentSecret string
	messageToken, encodingAESKey    string
	key                             msgcrypt.Key
	eventURL, messageURL            string
	accounts                        map[string]string
	seedAccounts                    map[string]string // as configured, for Reset
	seedLogin                       []LoginAccount
	knobs, seedKnobs                Knobs
	values                          *values
	changed                         chan struct{} // closed and made anew by news

	state
	journal journal
	secrets []string
	known   map[string]bool // secrets as a set
	userN   int             // how many of them are a user's
}

// New makes a simulator. It panics if the options are no valid ones, since
// nothing a test could do would mend that; CheckOptions asks first.
func New(o Options) *Server {
	own := o.Client == nil
	o = o.withDefaults()
	if err := CheckOptions(o); err != nil {
		panic("wechattest: " + err.Error())
	}
	key, _ := msgcrypt.ParseKey(o.EncodingAESKey)
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		client: o.Client, ownClient: own, ctx: ctx, cancel: cancel, closed: ctx.Done(), wake: make(chan struct{}, 1),
		componentAppID: o.ComponentAppID, componentSecret: o.ComponentAppSecret,
		messageToken: o.MessageToken, encodingAESKey: o.EncodingAESKey, key: key,
		eventURL: o.EventURL, messageURL: o.MessageURL,
		accounts: maps.Clone(o.Accounts), seedAccounts: maps.Clone(o.Accounts),
		knobs: o.Knobs.clone(), seedKnobs: o.Knobs.clone(),
		seedLogin: cloneAccounts(o.Login), changed: make(chan struct{}),
		values: newValues(o.Seed), state: newState(o.Login),
		journal: newJournal(o.JournalSize), known: map[string]bool{},
	}
	for _, secret := range []string{o.ComponentAppSecret, o.MessageToken, o.EncodingAESKey} {
		s.addSecret(secret)
	}
	for _, appID := range slices.Sorted(maps.Keys(o.Accounts)) {
		s.addSecret(o.Accounts[appID])
	}
	s.control, s.console = s.controlHandler(), s.consoleHandler()
	return s
}

var appIDForm = regexp.MustCompile(`^wx[0-9a-f]{16}$`)

// CheckOptions returns an error that says what is wrong with the options.
func CheckOptions(o Options) error {
	o = o.withDefaults()
	if !appIDForm.MatchString(o.ComponentAppID) {
		return fmt.Errorf("component appid %q: must be wx and 16 hexadecimal digits", o.ComponentAppID)
	}
	if _, err := msgcrypt.ParseKey(o.EncodingAESKey); err != nil {
		return err
	}
	for appID, secret := range o.Accounts {
		if !appIDForm.MatchString(appID) || appID == o.ComponentAppID {
			return fmt.Errorf("account appid %q: must be wx and 16 hexadecimal digits, and not the component's", appID)
		}
		if secret == "" {
			return fmt.Errorf("account %s has no secret", appID)
		}
	}
	for _, a := range o.Login {
		if err := a.check(o.ComponentAppID); err != nil {
			return err
		}
	}
	return o.Knobs.Validate()
}

func (o Options) withDefaults() Options {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&o.ComponentAppID, DefaultComponentAppID)
	set(&o.ComponentAppSecret, DefaultComponentAppSecret)
	set(&o.MessageToken, DefaultMessageToken)
	set(&o.EncodingAESKey, DefaultEncodingAESKey)
	if o.Accounts == nil {
		o.Accounts = map[string]string{}
	}
	if o.Login == nil {
		o.Login = slices.DeleteFunc(DefaultLoginAccounts(), func(a LoginAccount) bool { return a.AppID == o.ComponentAppID })
	}
	if o.Knobs == nil {
		knobs := DefaultKnobs()
		o.Knobs = &knobs
	}
	if o.Client == nil {
		o.Client = newPushClient()
	}
	if o.JournalSize <= 0 {
		o.JournalSize = 100_000
	}
	return o
}

// HTTPServer returns a server for s that closes idle connections as WeChat
// does, after [Knobs.IdleTimeout].
func (s *Server) HTTPServer() *http.Server {
	return &http.Server{
		Handler:           s,
		IdleTimeout:       time.Duration(s.Knobs().IdleTimeout),
		ReadHeaderTimeout: 10 * time.Second,
	}
}

// Close ends all delays and outstanding pushes and waits for the latter. Close
// it before the HTTP server that serves it, so that no delayed call is waited
// for. It may be called twice.
func (s *Server) Close() {
	s.mu.Lock()
	s.done = true
	s.mu.Unlock()
	s.cancel()
	s.pushes.Wait()
}

// Knobs returns a copy of the knobs as they are now.
func (s *Server) Knobs() Knobs {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.knobs.clone()
}

// SetKnobs lets change edit the knobs and puts them to use at once, unless one
// has no usable value: then nothing changes.
func (s *Server) SetKnobs(change func(*Knobs)) error {
	return s.editKnobs(func(k *Knobs) error { change(k); return nil })
}

func (s *Server) editKnobs(change func(*Knobs) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.knobs.clone()
	if err := change(&k); err != nil {
		return err
	}
	if err := k.Validate(); err != nil {
		return err
	}
	s.knobs = k.clone()
	s.wakeRun()
	return nil
}

func (s *Server) wakeRun() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Seed returns the seed of all values, so that a run can be repeated.
func (s *Server) Seed() uint64 { return s.values.seed }

// SetEventURL sets the 授权事件接收URL.
func (s *Server) SetEventURL(url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.eventURL = url
}

// SetMessageURL sets the 消息与事件接收URL, which holds $APPID$.
func (s *Server) SetMessageURL(url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messageURL = url
}

// SetComponentAppSecret resets the platform's AppSecret: the old one is refused
// at once, tokens live on.
func (s *Server) SetComponentAppSecret(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.componentSecret = secret
	s.addSecret(secret)
}

// SetMessageSecurity changes the message Token and the EncodingAESKey of all
// further pushes.
func (s *Server) SetMessageSecurity(token, encodingAESKey string) error {
	key, err := msgcrypt.ParseKey(encodingAESKey)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messageToken, s.encodingAESKey, s.key = token, encodingAESKey, key
	s.addSecret(token)
	s.addSecret(encodingAESKey)
	return nil
}

// Secrets returns every secret value ever configured or issued: AppSecrets,
// message tokens, keys, tickets, tokens, refresh tokens, codes. None of them
// belongs into a log. Of the users' tokens and session keys it keeps the first
// 100000. A Reset does not shorten it.
func (s *Server) Secrets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.secrets)
}

func (s *Server) addSecret(value string) {
	if value != "" && !s.known[value] {
		s.known[value] = true
		s.secrets = append(s.secrets, value)
	}
}

func (s *Server) addUserSecret(value string) {
	if s.userN++; s.userN <= 100_000 {
		s.addSecret(value)
	}
}

// Reset forgets tickets, tokens, authorizers, codes, login pages, held events,
// quotas, media, faults, calls, pushes and violations, and puts the knobs and
// accounts back to those of the Options.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = newState(s.seedLogin)
	s.journal = newJournal(s.journal.size)
	s.knobs = s.seedKnobs.clone()
	s.accounts = maps.Clone(s.seedAccounts)
	s.wakeRun()
}

// news tells waiters that a code was exchanged or a message sent.
func (s *Server) news() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// sleep waits unless the Server is closed.
func (s *Server) sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-s.closed:
	}
}
