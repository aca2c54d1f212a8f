package tokens

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"lingpai/tokens/store"
	"lingpai/tokens/wechat"
)

// codePoll is how often one that waits for another process's exchange of a code
// looks whether that has ended.
const codePoll = 100 * time.Millisecond

func codeName(code codeDigest) string { return fmt.Sprintf("code/%x", code) }

// codeTurn waits for the right to spend a code, which one process has at a time.
// elsewhere is not nil if another one has spent it. end gives up the right.
func (s *Service) codeTurn(code codeDigest) (elsewhere any, end func(), err error) {
	if s.shared == nil {
		return nil, func() {}, nil
	}
	ctx, cancel := context.WithTimeout(s.base, flightTimeout(s.config.Load()))
	defer cancel()
	for {
		lease, err := s.shared.Lease(ctx, codeName(code), flightTimeout(s.config.Load())+storeTimeout)
		if err != nil && !errors.Is(err, store.ErrLeased) {
			return nil, nil, s.storeError(err)
		}
		spent, ok, noteErr := s.spentElsewhere(ctx, code)
		if lease != nil && (ok || noteErr != nil) {
			s.release(lease)
		}
		switch {
		case noteErr != nil:
			return nil, nil, s.storeError(noteErr)
		case ok:
			return spent, nil, nil
		case lease != nil:
			return nil, func() { s.release(lease) }, nil
		}
		if sleep(ctx, codePoll); ctx.Err() != nil {
			return nil, nil, ErrWait
		}
	}
}

// tellCode leaves a note of whose code was spent, for others who have it too.
func (s *Service) tellCode(code codeDigest, appID string) {
	if s.shared == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.base), storeTimeout)
	defer cancel()
	if err := s.shared.SetNote(ctx, codeName(code), appID, rememberCodes); err != nil {
		s.log.Debug("other sidecars are not told of a spent code", "app_id", appID, "error", err)
	}
}

// spentElsewhere returns what a code has brought that another process has spent.
func (s *Service) spentElsewhere(ctx context.Context, code codeDigest) (spent spending, ok bool, err error) {
	appID, err := s.shared.Note(ctx, codeName(code))
	if errors.Is(err, store.ErrNotFound) {
		return spent, false, nil
	}
	if err != nil {
		return spent, false, err
	}
	record, err := s.store.Authorizer(ctx, appID)
	if err != nil {
		return spent, false, err
	}
	return spending{brought: wechat.Grant{AppID: appID, Answer: answerOf(record)}, result: "ok"}, true, nil
}

// answerOf is WeChat's answer to api_query_auth as far as it can be told from what
// was stored, with words in the place of the tokens: no app sees them anyway.
// https://developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_getauthorizerrefreshtoken
func answerOf(a store.Authorizer) []byte {
	type id struct {
		ID int `json:"id"`
	}
	type function struct {
		Category id `json:"funcscope_category"`
	}
	functions := make([]function, len(a.Scopes))
	for i, scope := range a.Scopes {
		functions[i].Category.ID = scope
	}
	lifetime := 2 * time.Hour
	if !a.Token.Value.Empty() {
		lifetime = max(time.Until(a.Token.ExpiresAt), time.Second)
	}
	answer, _ := json.Marshal(map[string]any{"authorization_info": map[string]any{
		"authorizer_appid":         a.AppID,
		"authorizer_access_token":  "kept by lingpai",
		"expires_in":               int(lifetime.Seconds()),
		"authorizer_refresh_token": "kept by lingpai",
		"func_info":                functions,
	}})
	return answer
}
