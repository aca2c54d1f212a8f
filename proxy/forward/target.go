package forward

import (
	"slices"
	"strings"

	"lingpai/tokens/secret"
)

// Target is an app that gets pushes.
type Target struct {
	// Name is for logs, metrics, and what waits in the store.
	Name string
	URL  string
	// Secret signs what is sent.
	Secret secret.String
	// Events are the InfoTypes, MsgTypes and Event names that it wants, compared
	// without case; event, as a MsgType, is all events. "*" is everything.
	Events []string
	// AppIDs are the authorizers that it wants pushes of; "*" is all of them, and
	// the platform's own pushes, which no other entry brings.
	AppIDs []string
	// JSON has it get JSON instead of XML.
	JSON bool
	// Reply means that its answer to a message is the reply to WeChat. One
	// target at most has it.
	Reply bool
}

// wants reports whether the filters of t let m through.
func (t *Target) wants(m message, appID string) bool {
	if !slices.Contains(t.AppIDs, "*") && (appID == "" || !slices.Contains(t.AppIDs, appID)) {
		return false
	}
	return slices.ContainsFunc(t.Events, func(want string) bool {
		if want == "*" {
			return true
		}
		return slices.ContainsFunc([]string{m.infoType, m.msgType, m.event}, func(is string) bool {
			return is != "" && strings.EqualFold(want, is)
		})
	})
}

// targets are those of one configuration, never changed.
type targets struct {
	list   []*Target
	byName map[string]*Target
}

func newTargets(list []Target) (*targets, error) {
	all := &targets{byName: map[string]*Target{}}
	replies := 0
	for _, t := range list {
		if t.Reply {
			replies++
		}
		if t.Name == "" || strings.ContainsRune(t.Name, 0) || all.byName[t.Name] != nil || replies > 1 {
			return nil, errTargets
		}
		t.Events, t.AppIDs = slices.Clone(t.Events), slices.Clone(t.AppIDs)
		all.list = append(all.list, &t)
		all.byName[t.Name] = &t
	}
	return all, nil
}

// replier returns the target that replies, or nil.
func (t *targets) replier() *Target {
	if i := slices.IndexFunc(t.list, func(t *Target) bool { return t.Reply }); i >= 0 {
		return t.list[i]
	}
	return nil
}
