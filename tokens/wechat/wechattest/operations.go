package wechattest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// AuthorizeRequest is the body of the control API's authorize, reauthorize,
// update-authorize, fast-register, unauthorize and authorizers.
type AuthorizeRequest struct {
	AppID       string   `json:"app_id"`
	PreAuthCode string   `json:"pre_auth_code"`
	UserName    string   `json:"user_name"`
	NickName    string   `json:"nick_name"`
	Scopes      []int    `json:"scopes"`
	WithoutAPI  bool     `json:"without_api"`
	WithoutPush bool     `json:"without_push"`
	PushDelay   Duration `json:"push_delay"`
	RedirectURI string   `json:"redirect_uri"` // makes the answer's redirect_url
}

func (a AuthorizeRequest) options() []AuthorizeOption {
	return []AuthorizeOption{func(c *consent) {
		*c = consent{
			preAuthCode: a.PreAuthCode, userName: a.UserName, nickName: a.NickName, scopes: a.Scopes,
			noAPI: a.WithoutAPI, noPush: a.WithoutPush, pushDelay: time.Duration(a.PushDelay),
		}
	}}
}

// AuthorizeReply is the answer to an AuthorizeRequest: RedirectURL is where the
// administrator's browser goes next.
type AuthorizeReply struct {
	Authorization
	Event       string `json:"event,omitempty"` // of a login page: authorized, updateauthorized, "" for none
	RedirectURL string `json:"redirect_url,omitempty"`
}

// Config is the body of the control API's config. PATCH changes what is set.
type Config struct {
	ComponentAppID     string  `json:"component_app_id"` // cannot be changed
	ComponentAppSecret *string `json:"component_app_secret"`
	MessageToken       *string `json:"message_token"`
	EncodingAESKey     *string `json:"encoding_aes_key"`
	EventURL           *string `json:"event_url"`
	MessageURL         *string `json:"message_url"`
	TicketPush         *bool   `json:"ticket_push"`
}

func (s *Server) operations() []operation {
	type none = struct{}
	const authorizeExample = `{"app_id":"wx…","pre_auth_code":"","user_name":"","nick_name":"","scopes":[1,2],"without_api":false,"without_push":false,"push_delay":"0s","redirect_uri":""}`
	out := []operation{
		read("state", "tickets, live tokens, authorizers, quotas, refresh counts; no secret values", nil,
			func(*http.Request) (any, error) { return s.State(), nil }),
		read("knobs", "all knobs", nil,
			func(*http.Request) (any, error) { return s.Knobs(), nil }),
		{Method: "PATCH", Path: "knobs", Does: "changes the knobs named", Body: `{"authorizer_overlap":"300s"}`,
			do: func(_ *http.Request, body []byte) (any, error) {
				err := s.editKnobs(func(k *Knobs) error { return decodeStrict(body, k) })
				return s.Knobs(), err
			}},
		read("config", "credentials and URLs", nil,
			func(*http.Request) (any, error) { return s.config(), nil }),
		write("PATCH", "config", "changes the URLs and credentials named", `{"event_url":"http://127.0.0.1:9061/wechat/events"}`, s.patchConfig),

		write("POST", "ticket", "pushes a ticket, or only issues one and tells it", `{"without_push":false}`, s.controlTicket),
		write("POST", "authorizers", "adds an account that is already authorized, without a push", `{"app_id":"wx…"}`,
			func(_ context.Context, in AuthorizeRequest) (any, error) {
				refreshToken, err := s.addAuthorizer(in.AppID, in.options())
				return map[string]string{"app_id": in.AppID, "refresh_token": refreshToken}, err
			}),
		write("POST", "authorize", "an account authorizes the platform", authorizeExample, s.controlAuthorize(s.Authorize)),
		write("POST", "reauthorize", "an account authorizes it again", authorizeExample, s.controlAuthorize(s.Reauthorize)),
		write("POST", "update-authorize", "an account changes its permission sets", authorizeExample, s.controlAuthorize(s.UpdateAuthorize)),
		write("POST", "fast-register", "a mini program is registered through the platform", authorizeExample, s.controlAuthorize(s.PushFastRegister)),
		write("POST", "unauthorize", "an account ends its authorization", `{"app_id":"wx…","without_push":false}`,
			func(ctx context.Context, in AuthorizeRequest) (any, error) {
				return s.Unauthorize(ctx, in.AppID, in.options()...)
			}),
		write("POST", "event", "pushes any event to the event URL", `{"info_type":"notify_3rd_wxa_wxverify","fields":[{"name":"appid","value":"wx…"}]}`,
			func(ctx context.Context, in struct {
				InfoType string  `json:"info_type"`
				Fields   []Field `json:"fields"`
			}) (any, error) {
				if in.InfoType == "" {
					return nil, errors.New("info_type is missing")
				}
				return s.PushEvent(ctx, in.InfoType, in.Fields...)
			}),
		read("pushes", "attempts to push, oldest first", nil,
			func(*http.Request) (any, error) { return map[string]any{"pushes": s.Pushes()}, nil }),

		write("POST", "revoke", "kills live tokens of one kind (component, authorizer, account) and appid, or all", `{"kind":"authorizer","app_id":"wx…","all":false}`,
			func(_ context.Context, in struct {
				Kind  TokenKind `json:"kind"`
				AppID string    `json:"app_id"`
				All   bool      `json:"all"`
			}) (any, error) {
				if in.All {
					return map[string]int{"revoked": s.RevokeAll()}, nil
				}
				switch in.Kind {
				case KindComponent, KindAuthorizer, KindAccount:
					return map[string]int{"revoked": s.RevokeToken(in.Kind, in.AppID)}, nil
				}
				return nil, fmt.Errorf("kind %q is not one of component, authorizer, account", in.Kind)
			}),
		read("faults", "faults with their hits", nil,
			func(*http.Request) (any, error) { return map[string]any{"faults": s.Faults()}, nil }),
		write("POST", "faults", "adds a fault", `{"path":"/cgi-bin/*","app_id":"","kind":"errcode|status|delay|cut|reset|lost|garbage|empty|truncated|huge","times":1,"for":"0s","probability":0,"errcode":-1,"errmsg":"","status":502,"delay":"0s","size":0,"after_effect":false}`,
			func(_ context.Context, in Fault) (any, error) {
				id, err := s.addFault(in)
				return map[string]int{"id": id}, err
			}),
		{Method: "DELETE", Path: "faults", Does: "removes the fault ?id=, or all", query: []string{"id"}, do: s.deleteFaults},
		read("calls", "calls, oldest first, with counts", []string{"path", "app_id", "after", "limit"}, s.listCalls),
		write("DELETE", "calls", "forgets calls, counts and violations", "",
			func(context.Context, none) (any, error) { s.ResetCalls(); return done, nil }),
		read("violations", "what no correct client does", nil, func(*http.Request) (any, error) {
			return map[string]any{"violations": append([]string{}, s.Violations()...)}, nil
		}),
		read("messages", "customer-service messages that were sent", nil,
			func(*http.Request) (any, error) { return map[string]any{"messages": s.CustomMessages()}, nil }),
		read("secrets", "every secret value configured or issued, to look for in logs", nil,
			func(*http.Request) (any, error) { return map[string]any{"secrets": s.Secrets()}, nil }),
		write("POST", "reset", "forgets everything but URLs and credentials; knobs as at the start", "",
			func(context.Context, none) (any, error) { s.Reset(); return done, nil }),
	}
	out = append(out, s.loginOperations()...)
	return append(out, s.messageOperations()...)
}

func (s *Server) config() Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	secret, token, key, event, message, push := s.componentSecret, s.messageToken, s.encodingAESKey, s.eventURL, s.messageURL, !s.pushOff
	return Config{s.componentAppID, &secret, &token, &key, &event, &message, &push}
}

func (s *Server) patchConfig(_ context.Context, in Config) (any, error) {
	now := s.config()
	if in.ComponentAppID != "" && in.ComponentAppID != now.ComponentAppID {
		return nil, errors.New("component_app_id cannot be changed")
	}
	for name, value := range map[string]*string{"component_app_secret": in.ComponentAppSecret, "message_token": in.MessageToken} {
		if value != nil && *value == "" {
			return nil, fmt.Errorf("%s must not be empty", name)
		}
	}
	for name, value := range map[string]*string{"event_url": in.EventURL, "message_url": in.MessageURL} {
		if value != nil && checkPushURL(*value) != nil {
			return nil, fmt.Errorf("%s: %w", name, checkPushURL(*value))
		}
	}
	if in.MessageToken == nil {
		in.MessageToken = now.MessageToken
	}
	if in.EncodingAESKey == nil {
		in.EncodingAESKey = now.EncodingAESKey
	}
	if err := s.SetMessageSecurity(*in.MessageToken, *in.EncodingAESKey); err != nil {
		return nil, fmt.Errorf("encoding_aes_key: %w", err)
	}
	if in.ComponentAppSecret != nil {
		s.SetComponentAppSecret(*in.ComponentAppSecret)
	}
	if in.EventURL != nil {
		s.SetEventURL(*in.EventURL)
	}
	if in.MessageURL != nil {
		s.SetMessageURL(*in.MessageURL)
	}
	if in.TicketPush != nil {
		s.SetTicketPush(*in.TicketPush)
	}
	return s.config(), nil
}

// checkPushURL returns an error unless the text is empty or an http URL.
func checkPushURL(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("must be an http:// or https:// URL")
	}
	return nil
}

func (s *Server) controlTicket(ctx context.Context, in struct {
	WithoutPush bool `json:"without_push"`
}) (any, error) {
	if in.WithoutPush {
		return map[string]string{"ticket": s.IssueTicket()}, nil
	}
	if err := s.PushTicket(ctx); err != nil {
		return nil, err
	}
	return done, nil
}

func (s *Server) controlAuthorize(do func(context.Context, string, ...AuthorizeOption) (Authorization, error)) func(context.Context, AuthorizeRequest) (any, error) {
	return func(ctx context.Context, in AuthorizeRequest) (any, error) {
		if _, err := url.Parse(in.RedirectURI); err != nil {
			return nil, errors.New("redirect_uri is no URL")
		}
		a, err := do(ctx, in.AppID, in.options()...)
		if err != nil {
			return nil, err
		}
		out := AuthorizeReply{Authorization: a}
		if in.RedirectURI != "" && a.RedirectQuery != "" {
			out.RedirectURL = addQuery(in.RedirectURI, a.RedirectQuery)
		}
		return out, nil
	}
}

func (s *Server) deleteFaults(r *http.Request, _ []byte) (any, error) {
	if !r.URL.Query().Has("id") {
		s.ClearFaults()
		return done, nil
	}
	id, err := strconv.Atoi(r.URL.Query().Get("id"))
	if err != nil {
		return nil, errors.New("id is no number")
	}
	if !s.RemoveFault(id) {
		return nil, statusError{http.StatusNotFound, fmt.Errorf("no fault %d", id)}
	}
	return done, nil
}

// listCalls lists calls by ?path=, ?app_id=, ?after= (a sequence) and ?limit=
// (the newest ones). count and executed are of path and app_id, whatever is
// still remembered.
func (s *Server) listCalls(r *http.Request) (any, error) {
	query := r.URL.Query()
	after, limit := 0, 0
	for name, target := range map[string]*int{"after": &after, "limit": &limit} {
		if !query.Has(name) {
			continue
		}
		n, err := strconv.Atoi(query.Get(name))
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%s is no number", name)
		}
		*target = n
	}
	path, appID := query.Get("path"), query.Get("app_id")
	calls := []Call{}
	for _, c := range s.Calls() {
		if c.Sequence > after && (path == "" || c.Path == path) && (appID == "" || c.AppID == appID) {
			calls = append(calls, c)
		}
	}
	if limit > 0 && len(calls) > limit {
		calls = calls[len(calls)-limit:]
	}
	out := map[string]any{"calls": calls, "dropped": s.Dropped()}
	switch {
	case path != "" && appID != "":
		out["count"], out["executed"] = s.CountFor(path, appID), s.ExecutedFor(path, appID)
	case path != "":
		out["count"], out["executed"] = s.Count(path), s.Executed(path)
	}
	return out, nil
}
