// Package mask takes credentials out of WeChat's answers before apps get to see
// them, and knows the placeholders that lingpai gives out in their place.
package mask

import (
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
// placeholders, whatever their values are; everything else stays byte-exact.
// Empty values stay. jsonedit.ErrNoObject if the answer is not one JSON object.
func Grants(answer []byte) ([]byte, error) {
	appIDs := map[int]string{} // by object
	var tokens []jsonedit.Member
	err := jsonedit.Members(answer, func(m jsonedit.Member) {
		switch {
		case m.Name == "authorizer_appid":
			appIDs[m.Object] = m.Text
		case m.IsString && m.Text == "" || string(answer[m.Start:m.End]) == "null":
		case isAccess(m.Name) || isRefresh(m.Name):
			tokens = append(tokens, m)
		}
	})
	if err != nil || len(tokens) == 0 {
		return answer, err
	}
	edits := make([]jsonedit.Edit, len(tokens))
	for i, m := range tokens {
		placeholder := Authorizer(appIDs[m.Object])
		if isRefresh(m.Name) {
			placeholder = Refresh(appIDs[m.Object])
		}
		edits[i] = jsonedit.Edit{Start: m.Start, End: m.End, With: jsonedit.Quote(placeholder)}
	}
	return jsonedit.Apply(answer, edits), nil
}

func isAccess(name string) bool { return strings.HasSuffix(strings.ToLower(name), "access_token") }

func isRefresh(name string) bool { return strings.HasSuffix(strings.ToLower(name), "refresh_token") }
