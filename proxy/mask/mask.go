// Package mask takes credentials out of WeChat's answers before apps get to see
// them, and knows the placeholders that lingpai gives out in their place.
package mask

import (
	"bytes"
	"regexp"
	"strings"

	"lingpai/proxy/jsonedit"
)

// Prefix begins every placeholder.
const Prefix = "lingpai-"

// Component returns the placeholder of the component_access_token.
func Component(appID string) string { return Prefix + "component-" + appID }

// Authorizer returns the placeholder of an authorizer_access_token.
func Authorizer(appID string) string { return Prefix + "authorizer-" + appID }

// Account returns the placeholder of a direct account's access token.
func Account(appID string) string { return Prefix + "account-" + appID }

// Refresh returns the placeholder of an authorizer_refresh_token.
func Refresh(appID string) string { return Prefix + "refresh-" + appID }

// Grants replaces the tokens in an answer of api_query_auth,
// api_get_authorizer_info, api_get_authorizer_list or api_authorizer_token by
// placeholders; everything else stays byte-exact. Empty values stay.
// jsonedit.ErrNoObject if the answer is not one JSON object.
func Grants(answer []byte) ([]byte, error) {
	appIDs := map[int]string{} // by object
	var tokens []jsonedit.Member
	err := jsonedit.Strings(answer, func(m jsonedit.Member) {
		switch {
		case m.Name == "authorizer_appid":
			appIDs[m.Object] = m.Value
		case m.Value != "" && (strings.HasSuffix(m.Name, "access_token") || strings.HasSuffix(m.Name, "refresh_token")):
			tokens = append(tokens, m)
		}
	})
	if err != nil || len(tokens) == 0 {
		return answer, err
	}
	edits := make([]jsonedit.Edit, len(tokens))
	for i, m := range tokens {
		placeholder := Authorizer(appIDs[m.Object])
		if strings.HasSuffix(m.Name, "refresh_token") {
			placeholder = Refresh(appIDs[m.Object])
		}
		edits[i] = jsonedit.Edit{Start: m.Start, End: m.End, With: jsonedit.Quote(placeholder)}
	}
	return jsonedit.Apply(answer, edits), nil
}

// masked stands in the place of a credential in a report of a call.
const masked = "***"

var (
	// inQuery finds tokens and secrets in a query, however & is written.
	inQuery = regexp.MustCompile(`(?i)((?:access_token|refresh_token|secret|appsecret|component_secret|component_appsecret|auth_code|authorization_code|js_code|code|ticket)=)[^&"\\#\s]+`)
	// inJSON finds them in JSON, itself inside of a JSON string any number of
	// times.
	inJSON = regexp.MustCompile(`(?i)((?:access_token|refresh_token|secret|appsecret|session_key|authorization_code|auth_code|ticket)\\*"\s*:\s*\\*")[^"\\]+`)
)

// Report masks every token, secret, ticket and code in the answer of
// /cgi-bin/openapi/rid/get, which tells an earlier call's URL, body and answer.
// https://developers.weixin.qq.com/doc/oplatform/openApi/openapi/api_getridinfo.md
func Report(answer []byte) []byte {
	if !bytes.ContainsAny(answer, "=:") {
		return answer
	}
	answer = inQuery.ReplaceAll(answer, []byte("${1}"+masked))
	return inJSON.ReplaceAll(answer, []byte("${1}"+masked))
}
