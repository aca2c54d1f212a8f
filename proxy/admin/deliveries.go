package admin

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"lingpai/proxy/forward"
	"lingpai/tokens/store"
)

// Deliveries are the pushes to apps, and the dead letters among them.
// *forward.Forwarder is one, and says what the methods do. Safe for concurrent
// use.
type Deliveries interface {
	Targets() []string
	Counts(ctx context.Context) (store.DeliveryCounts, error)
	DeadLetters(ctx context.Context, target string, after uint64, limit int) ([]forward.Letter, error)
	DeadLetter(ctx context.Context, seq uint64) (forward.Letter, forward.Content, error)
	Resend(ctx context.Context, seq uint64) (forward.Letter, error)
	ResendAll(ctx context.Context, target string) (n int, err error)
	DeleteDeadLetter(ctx context.Context, seq uint64) error
}

var _ Deliveries = (*forward.Forwarder)(nil)

var (
	errNotForwarding = &problem{status: http.StatusNotFound, message: "this lingpai forwards no pushes: list apps in callback.forward; a follower, and a store that keeps no deliveries, cannot"}
	errNoLetter      = &problem{status: http.StatusNotFound, message: "there is no such dead letter: it may have been sent again, which gives it another number, or deleted; GET /v1/deliveries/dead lists them"}
	errNoTarget      = conflict("no target of this name is configured: add it to callback.forward, then POST /v1/reload")
	errMalformed     = conflict("this dead letter is no XML that is understood, and cannot be sent: delete it")
)

// seqShape is what the number of a dead letter looks like: no other spelling
// names the same one.
var seqShape = regexp.MustCompile(`^[1-9][0-9]{0,18}$`)

type deliveriesBody struct {
	Pending map[string]int `json:"pending"`
	Dead    int            `json:"dead"`
}

// letterBody is a dead letter without what it says.
type letterBody struct {
	Seq        uint64     `json:"seq"`
	ID         string     `json:"id"`
	Target     string     `json:"target"`
	AppID      string     `json:"app_id"` // "" if it is the platform's own
	Type       string     `json:"type"`
	ReceivedAt *time.Time `json:"received_at"`
	Attempts   int        `json:"attempts"`
	LastError  string     `json:"last_error"`
}

type letterListBody struct {
	Letters    []letterBody `json:"dead_letters"`
	NextCursor string       `json:"next_cursor"` // empty at the end
}

// letterContentBody is the one body that holds what users wrote.
type letterContentBody struct {
	letterBody
	ContentType string `json:"content_type"`
	Content     string `json:"content"`
}

func showLetter(l forward.Letter) letterBody {
	return letterBody{l.Seq, l.ID, l.Target, l.AppID, l.Type, moment(l.ReceivedAt), l.Attempts, l.LastError}
}

// countDeliveries has each target that is configured, and others for which
// something waits.
func (a *API) countDeliveries(r *http.Request) (any, error) {
	answer := deliveriesBody{Pending: map[string]int{}}
	if a.info.Deliveries == nil {
		return answer, nil
	}
	counts, err := a.info.Deliveries.Counts(r.Context())
	if err != nil {
		return nil, err
	}
	answer.Dead = counts.Dead
	for _, name := range a.info.Deliveries.Targets() {
		answer.Pending[name] = 0
	}
	for name, n := range counts.Pending {
		answer.Pending[name] = n
	}
	return answer, nil
}

func (a *API) listDead(r *http.Request) (any, error) {
	if a.info.Deliveries == nil {
		return nil, errNotForwarding
	}
	query, limit, cursor, err := readPage(r, seqShape)
	if err != nil {
		return nil, err
	}
	after := uint64(0)
	if cursor != "" {
		after, _ = strconv.ParseUint(cursor, 10, 64) // 19 digits fit
	}
	// One more than is shown says whether this page is the last.
	letters, err := a.info.Deliveries.DeadLetters(r.Context(), query.Get("target"), after, limit+1)
	if err != nil {
		return nil, err
	}
	answer := letterListBody{Letters: []letterBody{}}
	if len(letters) > limit {
		letters = letters[:limit]
		answer.NextCursor = strconv.FormatUint(letters[limit-1].Seq, 10)
	}
	for _, l := range letters {
		answer.Letters = append(answer.Letters, showLetter(l))
	}
	return answer, nil
}

// letterOf returns the number in the path of a request.
func (a *API) letterOf(r *http.Request) (seq uint64, err error) {
	if a.info.Deliveries == nil {
		return 0, errNotForwarding
	}
	text := r.PathValue("seq")
	if !seqShape.MatchString(text) {
		return 0, errNoLetter
	}
	return strconv.ParseUint(text, 10, 64)
}

// explainLetter is explain for what is about dead letters.
func explainLetter(err error) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return errNoLetter
	case errors.Is(err, forward.ErrNoTarget):
		return errNoTarget
	case errors.Is(err, forward.ErrMalformed):
		return errMalformed
	}
	return err
}

// showDead is the one operation that shows what users wrote.
func (a *API) showDead(r *http.Request) (any, error) {
	seq, err := a.letterOf(r)
	if err != nil {
		return nil, err
	}
	letter, content, err := a.info.Deliveries.DeadLetter(r.Context(), seq)
	if err != nil {
		return nil, explainLetter(err)
	}
	// Users' messages are personal data: that somebody has read one is on record.
	a.log.Info("dead letter shown to an operator", "seq", letter.Seq, "target", letter.Target, "app_id", letter.AppID, "remote", r.RemoteAddr)
	return letterContentBody{showLetter(letter), content.Type, string(content.Body)}, nil
}

func (a *API) resendDead(r *http.Request) (any, error) {
	seq, err := a.letterOf(r)
	if err != nil {
		return nil, err
	}
	letter, err := a.info.Deliveries.Resend(r.Context(), seq)
	if err != nil {
		return nil, explainLetter(err)
	}
	a.log.Info("dead letter queued again by an operator", "seq", seq, "target", letter.Target, "new_seq", letter.Seq)
	return showLetter(letter), nil
}

func (a *API) resendTarget(r *http.Request) (any, error) {
	if a.info.Deliveries == nil {
		return nil, errNotForwarding
	}
	var body struct {
		Target string `json:"target"`
	}
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	if body.Target == "" {
		return nil, badRequest("target must be the name of an app in callback.forward")
	}
	n, err := a.info.Deliveries.ResendAll(r.Context(), body.Target)
	if n > 0 {
		a.log.Info("dead letters queued again by an operator", "target", body.Target, "count", n)
	}
	switch {
	case err != nil && n > 0:
		a.log.Error("not all dead letters queued again", "target", body.Target, "error", err)
		return nil, &problem{http.StatusServiceUnavailable, "only " + strconv.Itoa(n) + " dead letters are queued again: ask again for the rest; lingpai's log says more", time.Second}
	case err != nil:
		return nil, explainLetter(err)
	}
	return struct {
		Target string `json:"target"`
		Resent int    `json:"resent"`
	}{body.Target, n}, nil
}

func (a *API) deleteDead(r *http.Request) (any, error) {
	seq, err := a.letterOf(r)
	if err != nil {
		return nil, err
	}
	letter, _, err := a.info.Deliveries.DeadLetter(r.Context(), seq)
	if err != nil && !errors.Is(err, forward.ErrMalformed) { // to be deleted it need not be understood
		return nil, explainLetter(err)
	}
	if err := a.info.Deliveries.DeleteDeadLetter(r.Context(), seq); err != nil {
		return nil, explainLetter(err)
	}
	a.log.Info("dead letter deleted by an operator", "seq", letter.Seq, "target", letter.Target, "app_id", letter.AppID)
	return showLetter(letter), nil
}
