package tokens

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"lingpai/tokens/store"
	"lingpai/tokens/wechat"
)

// troubleNote is what processes that share a store tell each other of a key's
// trouble, so that all of them together ask WeChat no more often than one would.
type troubleNote struct {
	// Generation is that of the token that was to be replaced: the note says
	// nothing of another one.
	Generation uint64 `json:"generation"`
	// Code is WeChat's errcode, 0 if the refresh succeeded. Until is when WeChat
	// may be asked again.
	Code     int       `json:"code,omitempty"`
	Failures int       `json:"failures,omitempty"`
	Until    time.Time `json:"until,omitzero"`
	// What trouble.mayForce goes by.
	ForcedAt         time.Time     `json:"forced_at,omitzero"`
	ForcedInterval   time.Duration `json:"forced_interval,omitempty"`
	ForcedGeneration uint64        `json:"forced_generation,omitempty"`
	DoubledFor       uint64        `json:"doubled_for,omitempty"`
}

func troubleName(key Key) string { return "trouble/" + key.String() }

// told reports whether an error says the same to all processes. Which address a
// call comes from is each one's own matter, and so is the way to WeChat.
func told(err error) (*wechat.Error, bool) {
	e, ok := errors.AsType[*wechat.Error](err)
	if !ok {
		return nil, false
	}
	switch e.Code {
	case 40164, 45035, 61004:
		return nil, false
	}
	return e, true
}

// tellTrouble leaves a note of a refresh that failed or was forced.
func (s *Service) tellTrouble(ctx context.Context, key Key, current store.Token, why reason, err error) {
	if s.shared == nil || err == nil && why != reasonRejected {
		return
	}
	note := troubleNote{Generation: current.Generation}
	until := time.Now()
	s.troubles.with(key, func(t *trouble) {
		if e, ok := told(t.err); ok && err != nil {
			note.Code, note.Failures, note.Until = e.Code, t.failures, t.until
			until = t.until
		}
		note.ForcedAt, note.ForcedInterval = t.forcedAt, t.forcedInterval
		note.ForcedGeneration, note.DoubledFor = t.forcedGeneration, t.doubledFor
	})
	if note.Code == 0 && note.ForcedAt.IsZero() {
		return
	}
	text, _ := json.Marshal(note) // numbers and times
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	ttl := max(time.Until(until), 2*maxForcedInterval)
	if err := s.shared.SetNote(ctx, troubleName(key), string(text), ttl); err != nil {
		s.log.Debug("other sidecars are not told of a failed refresh", "error", err)
	}
}

// learnTrouble takes over what others have noted of the key.
func (s *Service) learnTrouble(ctx context.Context, key Key, current store.Token) error {
	text, err := s.shared.Note(ctx, troubleName(key))
	var note troubleNote
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	case json.Unmarshal([]byte(text), &note) != nil:
		return nil // of another version: then we find out ourselves
	}
	s.troubles.with(key, func(t *trouble) {
		if note.ForcedAt.After(t.forcedAt) {
			t.forcedAt, t.forcedInterval = note.ForcedAt, note.ForcedInterval
			t.forcedGeneration, t.doubledFor = note.ForcedGeneration, note.DoubledFor
		}
		if note.Code != 0 && note.Generation == current.Generation && note.Until.After(t.until) {
			t.err = &wechat.Error{Code: note.Code, Message: "as another sidecar was told", Endpoint: "token endpoint"}
			t.until, t.failures = note.Until, note.Failures
		}
	})
	return nil
}
