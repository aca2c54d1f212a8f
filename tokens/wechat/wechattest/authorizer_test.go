package wechattest

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func queryAuth(t *testing.T, s *Server, component, code string) answer {
	t.Helper()
	return componentCall(t, s, "api_query_auth", component, object{"authorization_code": code})
}

func TestQueryAuth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t)
		component := componentToken(t, s)
		a, err := s.Authorize(t.Context(), authorizerA, WithScopes(1, 18))
		if err != nil {
			t.Fatal(err)
		}
		if a.Code != a.EventCode || !strings.HasPrefix(a.Code, "queryauthcode@@@") || !strings.Contains(a.RedirectQuery, "expires_in=3600") {
			t.Errorf("authorization %+v", a)
		}
		queryAuth(t, s, component, "queryauthcode@@@x").want(61009)
		queryAuth(t, s, component, a.PreAuthCode).want(61009)
		info := queryAuth(t, s, component, a.Code).want(0).object("authorization_info")
		if info.text("authorizer_appid") != authorizerA || len(info.fields["func_info"].([]any)) != 2 {
			t.Errorf("info %v", info.fields)
		}
		use(t, s, info.text("authorizer_access_token")).want(0)
		refresh(t, s, component, authorizerA, info.text("authorizer_refresh_token")).want(0)
		queryAuth(t, s, component, a.Code).want(61010)

		late, _ := s.Authorize(t.Context(), authorizerB)
		time.Sleep(time.Hour)
		queryAuth(t, s, component, late.Code).want(61010)
		none, _ := s.UpdateAuthorize(t.Context(), authorizerB, WithoutAPI())
		info = queryAuth(t, s, component, none.Code).want(0).object("authorization_info")
		if _, ok := info.fields["authorizer_access_token"]; ok {
			t.Error("a token without API permission")
		}
	})
}

func TestDifferentCodes(t *testing.T) {
	s := newSim(t, func(k *Knobs) { k.RedirectCode = CodeDifferent })
	component := componentToken(t, s)
	a, _ := s.Authorize(t.Context(), authorizerA)
	if a.Code == a.EventCode {
		t.Fatal("the codes are equal")
	}
	queryAuth(t, s, component, a.EventCode).want(0)
	queryAuth(t, s, component, a.Code).want(61010)
	first, _ := s.Authorize(t.Context(), authorizerA)
	second, _ := s.Authorize(t.Context(), authorizerA)
	queryAuth(t, s, component, first.Code).want(61010)
	queryAuth(t, s, component, second.Code).want(0)
}

func TestRefreshErrors(t *testing.T) {
	s := newSim(t)
	component := componentToken(t, s)
	tokenA, tokenB := s.AddAuthorizer(authorizerA), s.AddAuthorizer(authorizerB)
	refresh(t, s, component, authorizerA, tokenA).want(0)
	refresh(t, s, component, authorizerA, "").want(61023)
	refresh(t, s, component, authorizerA, "refreshtoken@@@x").want(61023)
	refresh(t, s, component, authorizerA, tokenB).want(61023)
	refresh(t, s, component, direct, tokenA).want(61003)
	refresh(t, s, component, "", tokenA).want(40013)
	if v := s.Violations(); len(v) != 0 {
		t.Errorf("violations %q", v)
	}
}

func TestAuthorizerOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t)
		component := componentToken(t, s)
		rt := s.AddAuthorizer(authorizerA)
		next := func() string {
			return refresh(t, s, component, authorizerA, rt).want(0).text("authorizer_access_token")
		}
		first := next()
		second := next()
		use(t, s, first).want(40001)
		s.SetKnobs(func(k *Knobs) { k.AuthorizerOverlap = Duration(5 * time.Minute) })
		third := next()
		time.Sleep(5*time.Minute - time.Nanosecond)
		use(t, s, second).want(0)
		time.Sleep(time.Nanosecond)
		use(t, s, second).want(40001)
		use(t, s, third).want(0)
	})
}

func TestRefreshTokenOnRefresh(t *testing.T) {
	for mode, check := range map[string]func(t *testing.T, s *Server, component, old string, a answer){
		RefreshTokenSame: func(t *testing.T, s *Server, component, old string, a answer) {
			if a.text("authorizer_refresh_token") != old {
				t.Error("it changed")
			}
		},
		RefreshTokenEmpty: func(t *testing.T, s *Server, component, old string, a answer) {
			if a.text("authorizer_refresh_token") != "" {
				t.Error("it is not empty")
			}
			refresh(t, s, component, authorizerA, old).want(0)
		},
		RefreshTokenAbsent: func(t *testing.T, s *Server, component, old string, a answer) {
			if _, ok := a.fields["authorizer_refresh_token"]; ok {
				t.Error("it is there")
			}
			refresh(t, s, component, authorizerA, old).want(0)
		},
		RefreshTokenRotated: func(t *testing.T, s *Server, component, old string, a answer) {
			s.SetKnobs(func(k *Knobs) { k.RefreshToken = RefreshTokenSame })
			newer := a.text("authorizer_refresh_token")
			if newer == old {
				t.Fatal("it did not change")
			}
			time.Sleep(5*time.Minute - time.Nanosecond)
			refresh(t, s, component, authorizerA, old).want(0)
			time.Sleep(time.Nanosecond)
			refresh(t, s, component, authorizerA, old).want(61023)
			refresh(t, s, component, authorizerA, newer).want(0)
			if v := s.Violations(); len(v) != 1 || !strings.Contains(v[0], "dead refresh token") {
				t.Errorf("violations %q", v)
			}
		},
	} {
		t.Run(mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSim(t, func(k *Knobs) { k.RefreshToken = mode })
				component := componentToken(t, s)
				old := s.AddAuthorizer(authorizerA)
				check(t, s, component, old, refresh(t, s, component, authorizerA, old).want(0))
			})
		})
	}
}

func TestReauthorize(t *testing.T) {
	for mode, want := range map[string]int{TokenDead: 40001, TokenLive: 0} {
		t.Run("access token "+mode, func(t *testing.T) {
			s := newSim(t, func(k *Knobs) { k.ReauthorizedToken = mode })
			component := componentToken(t, s)
			old := s.AddAuthorizer(authorizerA)
			token := refresh(t, s, component, authorizerA, old).want(0).text("authorizer_access_token")
			a, err := s.Reauthorize(t.Context(), authorizerA)
			if err != nil {
				t.Fatal(err)
			}
			use(t, s, token).want(want)
			refresh(t, s, component, authorizerA, old).want(61023)
			info := queryAuth(t, s, component, a.Code).want(0).object("authorization_info")
			if info.text("authorizer_refresh_token") == old {
				t.Error("the refresh token did not change")
			}
			if len(s.Violations()) != 1 {
				t.Errorf("violations %q", s.Violations())
			}
		})
	}
	s := newSim(t)
	if _, err := s.Reauthorize(t.Context(), authorizerA); err == nil {
		t.Error("an unknown account authorized again")
	}
}

func TestUpdateAuthorize(t *testing.T) {
	for _, changes := range []bool{false, true} {
		t.Run(fmt.Sprint("changes ", changes), func(t *testing.T) {
			s := newSim(t, func(k *Knobs) { k.UpdateChangesRefreshToken = changes })
			component := componentToken(t, s)
			old := s.AddAuthorizer(authorizerA)
			a, err := s.UpdateAuthorize(t.Context(), authorizerA, WithScopes(3))
			if err != nil {
				t.Fatal(err)
			}
			info := queryAuth(t, s, component, a.Code).want(0).object("authorization_info")
			if changed := info.text("authorizer_refresh_token") != old; changed != changes {
				t.Errorf("changed: %v", changed)
			}
		})
	}
}

func TestUnauthorize(t *testing.T) {
	for _, c := range []struct {
		token   string
		errcode int
		wantUse int
	}{{TokenDead, 61003, 61003}, {TokenLive, 61023, 0}} {
		t.Run(c.token, func(t *testing.T) {
			s := newSim(t, func(k *Knobs) { k.UnauthorizedToken, k.UnauthorizedErrcode = c.token, c.errcode })
			component := componentToken(t, s)
			rt := s.AddAuthorizer(authorizerA)
			token := refresh(t, s, component, authorizerA, rt).text("authorizer_access_token")
			if _, err := s.Unauthorize(t.Context(), authorizerA); err != nil {
				t.Fatal(err)
			}
			use(t, s, token).want(c.wantUse)
			refresh(t, s, component, authorizerA, rt).want(c.errcode)
			if list := componentCall(t, s, "api_get_authorizer_list", component, object{"offset": 0, "count": 10}); list.number("total_count") != 0 {
				t.Errorf("list %s", list.raw)
			}
			if len(s.Violations()) != 0 {
				t.Errorf("violations %q", s.Violations())
			}
			if _, err := s.Unauthorize(t.Context(), authorizerA); err == nil {
				t.Error("it ended twice")
			}
		})
	}
}

func TestAuthorizerList(t *testing.T) {
	s := newSim(t)
	component := componentToken(t, s)
	refreshToken := s.AddAuthorizer(authorizerA)
	fresh, _ := s.Authorize(t.Context(), authorizerB)
	list := func(offset, count int) answer {
		return componentCall(t, s, "api_get_authorizer_list", component, object{"offset": offset, "count": count})
	}
	list(0, 501).want(40170)
	list(-1, 1).want(47001)
	entries := list(0, 500).want(0).fields["list"].([]any)
	if len(entries) != 2 {
		t.Fatalf("%d entries", len(entries))
	}
	first, second := entries[0].(map[string]any), entries[1].(map[string]any)
	if first["refresh_token"] != refreshToken || first["auth_time"].(float64) == 0 {
		t.Errorf("first %v", first)
	}
	if _, ok := second["refresh_token"]; ok {
		t.Error("a refresh token although the code was never exchanged")
	}
	queryAuth(t, s, component, fresh.Code).want(0)
	page := list(1, 1)
	entries = page.fields["list"].([]any)
	if page.number("total_count") != 2 || len(entries) != 1 || entries[0].(map[string]any)["refresh_token"] == nil {
		t.Errorf("page %s", page.raw)
	}
	if got := list(9, 5).fields["list"].([]any); len(got) != 0 {
		t.Errorf("behind the end: %v", got)
	}
}

func TestAuthorizerInfoAndOptions(t *testing.T) {
	s := newSim(t)
	component := componentToken(t, s)
	rt := s.AddAuthorizer(authorizerA, WithUserName("gh_3c884a361561"))
	info := componentCall(t, s, "api_get_authorizer_info", component, object{"authorizer_appid": authorizerA}).want(0)
	if info.object("authorizer_info").text("user_name") != "gh_3c884a361561" ||
		info.object("authorization_info").text("authorizer_refresh_token") != rt ||
		strings.Contains(info.raw, "access_token") {
		t.Errorf("info %s", info.raw)
	}
	componentCall(t, s, "api_get_authorizer_info", component, object{"authorizer_appid": authorizerB}).want(61003)

	token := refresh(t, s, component, authorizerA, rt).text("authorizer_access_token")
	for _, prefix := range []string{"", "api_"} {
		componentCall(t, s, prefix+"set_authorizer_option", component,
			object{"authorizer_appid": authorizerA, "option_name": "location_report", "option_value": "2"}).want(0)
		got := componentCall(t, s, prefix+"get_authorizer_option", token, object{"option_name": "location_report"}).want(0)
		if got.text("option_value") != "2" {
			t.Errorf("option %s", got.raw)
		}
	}
	componentCall(t, s, "get_authorizer_option", token, object{"option_name": "x"}).want(61012)
	componentCall(t, s, "set_authorizer_option", token, object{"option_name": "voice_recognize", "option_value": "7"}).want(61013)
	componentCall(t, s, "get_authorizer_option", component, object{"authorizer_appid": authorizerB, "option_name": "x"}).want(61003)
}
