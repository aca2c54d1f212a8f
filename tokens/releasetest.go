package tokens

import (
	"context"

	"lingpai/tokens/secret"
	"lingpai/tokens/wechat"
)

// ReleaseTestAccount reports whether an app id is one of those with which WeChat's
// release test (全网发布检测) plays.
func ReleaseTestAccount(appID string) bool { return releaseTestAccounts[appID] }

// AnswerReleaseTest does what the release test asks for after its message
// QUERY_AUTH_CODE: it exchanges the code and sends the answer to the user openID
// by the account's own token. It returns at once; false means that lingpai is
// stopping.
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/operation/thirdparty/releases_instructions.html
func (s *Service) AnswerReleaseTest(openID string, code secret.String) bool {
	if s.mayWrite() != nil || !s.begin() {
		return false
	}
	go func() {
		defer s.work.Done()
		ctx, cancel := context.WithTimeout(s.base, 2*flightTimeout(s.config.Load()))
		defer cancel()
		if err := s.answerReleaseTest(ctx, openID, code); err != nil {
			s.log.Error("release test: the answer to QUERY_AUTH_CODE could not be sent", "error", err)
			return
		}
		s.log.Info("release test: QUERY_AUTH_CODE answered")
	}()
	return true
}

func (s *Service) answerReleaseTest(ctx context.Context, openID string, code secret.String) error {
	spent := <-s.spend(code, nil, func() (wechat.Grant, error) { return s.exchange(code) })
	if spent.Err != nil {
		return spent.Err
	}
	t, err := s.Token(ctx, Key{Authorizer, spent.Val.(spending).brought.AppID})
	if err != nil {
		return err
	}
	return s.config.Load().Client.SendText(ctx, t.Value(), openID, code.Reveal()+"_from_api")
}
