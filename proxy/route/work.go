package route

// Work is what lingpai does for a path beside adding a token.
type Work uint8

// The works.
const (
	// Forward: nothing else.
	Forward Work = iota
	// AnswerToken: /cgi-bin/token is answered with a placeholder.
	AnswerToken
	// AnswerStableToken: /cgi-bin/stable_token likewise.
	AnswerStableToken
	// AnswerComponentToken: api_component_token likewise.
	AnswerComponentToken
	// AnswerAuthorizerToken: api_authorizer_token likewise.
	AnswerAuthorizerToken
	// ExchangeCode: api_query_auth goes through the token service, once a code.
	ExchangeCode
	// LearnInfo: what api_get_authorizer_info brings is stored, and its tokens
	// are replaced.
	LearnInfo
	// LearnList: api_get_authorizer_list likewise.
	LearnList
	// MaskReport: tokens in the answer of /cgi-bin/openapi/rid/get are masked.
	MaskReport
	// FillAccountSecret: appid and secret of a direct account go into the query.
	FillAccountSecret
	// FillComponentAppID: component_appid goes into the query.
	FillComponentAppID
	// FillComponentSecret: api_start_push_ticket gets component_secret.
	FillComponentSecret
	// FillQuotaSecret: the platform's clear_quota/v2 gets appsecret.
	FillQuotaSecret
	// FillAccountQuotaSecret: a direct account's clear_quota/v2 gets appsecret.
	FillAccountQuotaSecret
	// Cache: the answer is kept.
	Cache
)

// works are the paths with a work of their own.
var works = map[string]Work{
	"/cgi-bin/token":                             AnswerToken,
	"/cgi-bin/stable_token":                      AnswerStableToken,
	"/cgi-bin/component/api_component_token":     AnswerComponentToken,
	"/cgi-bin/component/api_authorizer_token":    AnswerAuthorizerToken,
	"/cgi-bin/component/api_query_auth":          ExchangeCode,
	"/cgi-bin/component/api_get_authorizer_info": LearnInfo,
	"/cgi-bin/component/api_get_authorizer_list": LearnList,
	"/cgi-bin/openapi/rid/get":                   MaskReport,
	"/sns/jscode2session":                        FillAccountSecret,
	"/sns/oauth2/access_token":                   FillAccountSecret,
	"/sns/component/jscode2session":              FillComponentAppID,
	"/sns/oauth2/component/access_token":         FillComponentAppID,
	"/sns/oauth2/component/refresh_token":        FillComponentAppID,
	"/cgi-bin/component/api_start_push_ticket":   FillComponentSecret,
	"/cgi-bin/component/clear_quota/v2":          FillQuotaSecret,
	"/cgi-bin/clear_quota/v2":                    FillAccountQuotaSecret,
	"/cgi-bin/ticket/getticket":                  Cache,
	"/cgi-bin/get_api_domain_ip":                 Cache,
	"/cgi-bin/getcallbackip":                     Cache,
}

// Canonical returns a path spelled the one way that rules are; it may be path
// itself.
func Canonical(path []byte) []byte {
	if plain(path) {
		return path
	}
	return clean(path)
}
