package route

import "testing"

var (
	foundRule  Rule
	foundKnown bool
)

// finds are look-ups by how a path is spelled and what is known of it. The last
// goes through all paths of the table in turn.
func finds(testing.TB) []operation {
	withRules := Builtin().With(map[string]Rule{
		"/wxa/mine": {Token: Component}, "/wxa/mine/theirs": {Token: Authorizer}, "/cgi-bin/user/*": {Token: None},
	})
	find := func(table *Table, path string) func() {
		p := []byte(path)
		return func() { foundRule, foundKnown = table.Find(p) }
	}
	rows := Endpoints()
	paths := make([][]byte, len(rows))
	for i, row := range rows {
		paths[i] = []byte(row.Path)
	}
	next := 0
	return []operation{
		{name: "exact", do: find(Builtin(), "/cgi-bin/message/custom/send")},
		{name: "below", do: find(Builtin(), "/componenttcb/some/new")},
		{name: "unknown", do: find(Builtin(), "/wxa/something/quite/new")},
		{name: "root", do: find(Builtin(), "/")},
		{name: "rules/exact", do: find(withRules, "/cgi-bin/message/custom/send")},
		{name: "rules/pattern", do: find(withRules, "/cgi-bin/user/info")},
		{name: "rules/unknown", do: find(withRules, "/wxa/something/quite/new")},
		{name: "spelled", allocs: 6, do: find(Builtin(), "/cgi-bin//%74oken")},
		{name: "table", do: func() {
			foundRule, foundKnown = Builtin().Find(paths[next])
			next = (next + 1) % len(paths)
		}},
	}
}

func BenchmarkFind(b *testing.B) { bench(b, finds) }
