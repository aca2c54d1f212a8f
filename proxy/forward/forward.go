// Package forward delivers WeChat's pushes to apps, its targets: from a durable
// queue in the store, again and again until an app has taken each, in order.
//
// # What is sent
//
// A push is its decrypted XML, byte for byte as WeChat sent it, but for codes.
// One that brings a component_verify_ticket (its InfoType says so) is not
// forwarded at all. In all others whatever lies between the tags of an element
// named AuthorizationCode, PreAuthCode, ComponentVerifyTicket or auth_code is
// taken out, at any depth, children included; the tags stay. Names are compared
// without case, underscores and namespace prefix, so that pre_auth_code is one
// of them, and AuthorizationCodeExpiredTime is none. It is taken out before the
// push is stored, so that no delivery holds a code at any time. (A document that
// ends in <xml> instead of </xml>, as in WeChat's own examples, is mended, and
// spaces around the document go.)
//
// A target may have JSON instead. The elements in <xml> become an object, whose
// keys are their names, without prefix, in the order of the first element of
// each name:
//
//   - an element without elements in it becomes a string, all that it holds:
//     CDATA and text joined, entities replaced, no space taken off, "" if there
//     is nothing. Numbers are strings as well: XML does not tell them apart;
//   - an element with elements in it becomes an object in the same way; text
//     beside them that is not only white space is joined under the key #text;
//   - elements of one name beside each other become an array, in their order;
//     one alone does not. So an app that reads a list, such as the Item of a
//     PicList, must take one thing for a list of one;
//   - <xml> itself always becomes an object. Attributes, comments and processing
//     instructions are left out.
//
// # The request
//
// A POST with Content-Type application/xml or application/json and
//
//	X-Lingpai-Delivery   the delivery's id: the same in each attempt, and for the same push to the same target
//	X-Lingpai-Timestamp  Unix time of this attempt, in seconds
//	X-Lingpai-Signature  sha256= and the HMAC-SHA256, in hex, of the timestamp, a dot and the body, by the target's secret
//	X-Lingpai-Appid      the authorizer, absent for the platform's own pushes
//	X-Lingpai-Type       InfoType, or MsgType, or event/ and Event
//	X-Lingpai-Reply      true, if the answer is the reply to WeChat
//
// Any 2xx within Options.Timeout means that the app has taken it. Redirects are
// not followed. Whatever else happens, it is sent again after a time between one
// second and five minutes (five seconds while the app takes others) that doubles
// and is partly random, and not before a
// Retry-After says (of at most an hour). 410, or a failure more than 24 h after
// the push came, makes it a dead letter: it is kept to be looked at, and is sent
// again only when somebody asks for it. Delivery is at least once: an app that
// must not do a thing twice remembers ids.
//
// # Order
//
// To one target what is about one authorizer goes one after the other, in the
// order of arrival: nothing overtakes one that waits to be sent again. What is
// about different authorizers goes side by side, up to 32 at a time for each
// target, and no target waits for another. A dead letter that is sent again
// comes after all that is queued then.
//
// # Bounds
//
// Up to 100,000 deliveries wait for each target. Beyond that the oldest message
// becomes a dead letter; pushes about authorizations stay, however many. Of dead
// letters 10,000 are kept; beyond that the oldest are forgotten. Both are
// logged and counted. What waits for a target that is not configured any more
// becomes dead letters 24 h after it came.
package forward

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

// ErrMalformed means that a push cannot be forwarded, and never will be: it is
// no <xml> document, or is nested too deeply.
var ErrMalformed = errors.New("push cannot be forwarded: it is no <xml> document that is understood")

// errTargets is of a list of targets that cannot be.
var errTargets = errors.New("a target has no name, or one that another has, or more than one replies")

// Push is an authentic push of WeChat, decrypted.
type Push struct {
	// Digest names its content, as store.Push's does; if it is empty, one is
	// made. A repeat of the same push has the same.
	Digest string
	// AppID is the authorizer: of a message the one in the path it came to, of an
	// authorization event the AuthorizerAppid, or "" if it is about none.
	AppID string
	// ReceivedAt is when it came; the zero time is now.
	ReceivedAt time.Time
	XML        secret.String // decrypted
}

// Metrics is told what becomes of deliveries. Its methods are called from several
// goroutines. Targets are those of the configuration.
type Metrics interface {
	// PushTargets names the targets of the configuration.
	PushTargets(names ...string)
	// PushDelivery counts a delivery that was delivered, retried (it will be),
	// dead, or dropped (forgotten before its time).
	PushDelivery(target, result string)
	// PushDeliveryTook is of an attempt, whatever came of it.
	PushDeliveryTook(took time.Duration)
	// PushDeliveriesPending is how many wait, and since when the oldest does; the
	// zero time if none.
	PushDeliveriesPending(target string, n int, oldest time.Time)
	// PushDeadLetters is how many dead letters there are.
	PushDeadLetters(n int)
	// PushDeliveriesUnknown takes back what the last two said: another process
	// knows it better.
	PushDeliveriesUnknown()
}

// The results that Metrics counts.
const (
	resultDelivered = "delivered"
	resultRetried   = "retried"
	resultDead      = "dead"
	resultDropped   = "dropped"
)

// Options of New.
type Options struct {
	Targets []Target
	// Store keeps what is to be delivered.
	Store store.Deliveries
	// Transport sends requests; nil is one that uses no proxy, so that deliveries
	// do not depend on the environment, and keeps 32 idle connections for each host.
	Transport http.RoundTripper
	// Timeout bounds one attempt; 0 means 10 s.
	Timeout time.Duration
	// Metrics is told of deliveries; nil is nobody.
	Metrics Metrics
	// Log is told what an operator has to know; nil is nobody.
	Log *slog.Logger
}

const defaultTimeout = 10 * time.Second

// limits are constants, but for tests.
type limits struct {
	pending  int // deliveries to a target
	dead     int // dead letters
	window   int // pending deliveries to a target of which the numbers are in memory
	parallel int // attempts at a time to a target
	replies  int // synchronous attempts at a time
}

// window is more than pending, since pushes about authorizations may exceed that.
// An entry is 16 bytes, so that a target takes 2 MiB at most, and some more for
// each authorizer.
var defaultLimits = limits{pending: 100_000, dead: 10_000, window: 1 << 17, parallel: 32, replies: 256}

// keepFor is how long a delivery is tried for.
const keepFor = 24 * time.Hour

// Forwarder queues pushes and delivers them. Make one with New. Its methods are
// safe for concurrent use.
type Forwarder struct {
	store   store.Deliveries
	client  *http.Client
	timeout time.Duration
	metrics Metrics
	log     *slog.Logger
	limits  limits
	replies chan struct{}
	targets atomic.Pointer[targets]
	// trim asks the Run under way to look at the bound of dead letters.
	trim chan struct{}

	mu      sync.Mutex
	runners map[string]*runner // of the Run under way, by target
	// changed is closed and made anew when the targets are others.
	changed chan struct{}
}

// New returns a Forwarder; Run makes it deliver. The error is of its targets.
func New(o Options) (*Forwarder, error) {
	if o.Transport == nil {
		o.Transport = &http.Transport{
			MaxIdleConnsPerHost: defaultLimits.parallel, IdleConnTimeout: 90 * time.Second,
			TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true, DisableCompression: true,
			MaxResponseHeaderBytes: 64 << 10,
		}
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Metrics == nil {
		o.Metrics = nobody{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	f := &Forwarder{
		store: o.Store,
		client: &http.Client{
			Transport:     o.Transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		timeout: o.Timeout, metrics: o.Metrics, log: o.Log, limits: defaultLimits,
		replies: make(chan struct{}, defaultLimits.replies),
		trim:    make(chan struct{}, 1),
		runners: map[string]*runner{},
		changed: make(chan struct{}),
	}
	return f, f.Reconfigure(o.Targets)
}

// Reconfigure takes over other targets; after an error the former ones stay. A
// target is known by its name: what waits for it goes to its present URL in its
// present form. What filters say counts for pushes that come from now on.
func (f *Forwarder) Reconfigure(list []Target) error {
	next, err := newTargets(list)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.targets.Store(next)
	f.metrics.PushTargets(f.Targets()...)
	close(f.changed)
	f.changed = make(chan struct{})
	return nil
}

// Targets returns the names of the targets, in the order of the configuration.
func (f *Forwarder) Targets() []string {
	var names []string
	for _, t := range f.targets.Load().list {
		names = append(names, t.Name)
	}
	return names
}

// Accept queues a push for every target that wants it. When it has returned nil,
// they are stored durably, or nothing is to be. The target that replies gets a
// message from Reply, which the caller calls next; from the queue only if that
// does not happen, or in vain. The error is ErrMalformed, for which there is no
// use in trying again, or the store's.
func (f *Forwarder) Accept(ctx context.Context, push Push) error {
	all := f.targets.Load()
	if len(all.list) == 0 {
		return nil
	}
	m, err := readPush(push)
	if err != nil || m.ticket {
		return err
	}
	var ds []store.Delivery
	for _, t := range all.list {
		if t.wants(m, push.AppID) {
			d := newDelivery(push, m, t.Name)
			if t.Reply && m.replyable() {
				d.NextAt = time.Now().Add(replyFirst)
			}
			ds = append(ds, d)
		}
	}
	return f.queue(ctx, ds)
}

// readPush is readMessage of a push that can be sent.
func readPush(push Push) (message, error) {
	if !plain(push.AppID) {
		return message{}, ErrMalformed
	}
	return readMessage(push.XML)
}

// queue stores deliveries and has them delivered.
func (f *Forwarder) queue(ctx context.Context, ds []store.Delivery) error {
	if len(ds) == 0 {
		return nil
	}
	added, err := f.store.AddDeliveries(ctx, ds)
	if err == nil && added > 0 {
		f.Wake()
	}
	return err
}

// Wake has a Run under way look at the store at once. A process that shares its
// store calls it when another one has stored pushes; without it Run looks a few
// seconds later.
func (f *Forwarder) Wake() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.runners {
		r.signal()
	}
}

// newDelivery is a push for the target of this name.
func newDelivery(push Push, m message, target string) store.Delivery {
	if push.ReceivedAt.IsZero() {
		push.ReceivedAt = time.Now()
	}
	return store.Delivery{
		ID: deliveryID(push, target), Target: target, AppID: push.AppID,
		Type: m.label(), Lasting: m.infoType != "",
		ReceivedAt: push.ReceivedAt, GiveUpAt: push.ReceivedAt.Add(keepFor),
		Message: m.xml,
	}
}

// deliveryID is the same for a repeat of the push, and another for each target.
func deliveryID(push Push, target string) string {
	digest := push.Digest
	if digest == "" {
		sum := sha256.Sum256([]byte(push.XML.Reveal()))
		digest = hex.EncodeToString(sum[:])
	}
	// Equal messages to two accounts are two.
	sum := sha256.Sum256([]byte("lingpai delivery\x00" + digest + "\x00" + push.AppID + "\x00" + target))
	return hex.EncodeToString(sum[:16])
}

type nobody struct{}

func (nobody) PushTargets(...string)                        {}
func (nobody) PushDelivery(string, string)                  {}
func (nobody) PushDeliveryTook(time.Duration)               {}
func (nobody) PushDeliveriesPending(string, int, time.Time) {}
func (nobody) PushDeadLetters(int)                          {}
func (nobody) PushDeliveriesUnknown()                       {}
