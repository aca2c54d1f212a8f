package wechat

import (
	"testing"
	"time"
)

func TestParseAuthorizerList(t *testing.T) {
	f := func(authTime string, want time.Time) {
		t.Helper()
		list, total, err := ParseAuthorizerList([]byte(`{"total_count":"1","list":[{"authorizer_appid":"wx1","refresh_token":"r"` + authTime + `}]}`))
		if err != nil || total != 1 || len(list) != 1 || !list[0].AuthorizedAt.Equal(want) {
			t.Errorf("%s: %v, %d, %v", authTime, list, total, err)
		}
	}
	f(`,"auth_time":1763690000`, time.Unix(1763690000, 0))
	f(`,"auth_time":"1763690000"`, time.Unix(1763690000, 0))
	f(``, time.Time{})
	f(`,"auth_time":null`, time.Time{})
	f(`,"auth_time":-1`, time.Time{})
	f(`,"auth_time":99999999999999999999`, time.Time{})
	f(`,"auth_time":{}`, time.Time{})
	for _, answer := range []string{"", "[]", "<html>", `{"list":{}}`, `{"list":[{"authorizer_appid":1}]}`} {
		if _, _, err := ParseAuthorizerList([]byte(answer)); err == nil {
			t.Errorf("%s was read", answer)
		}
	}
}
