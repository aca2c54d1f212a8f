package importer

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// linesUpTo is how many accounts get a line each in the text report. With more
// of them, only those do that were not taken over, up to as many.
const linesUpTo = 50

// report is what the command says at the end.
type report struct {
	c     *command
	began time.Time

	From    string  `json:"from"`
	Written bool    `json:"written"`
	Verify  string  `json:"verify"`
	Seconds float64 `json:"seconds"`
	// Complete is false if an error ended the run before all was read; what is
	// reported is true all the same.
	Complete bool            `json:"complete"`
	Error    string          `json:"error,omitempty"`
	Summary  map[outcome]int `json:"summary"`
	// Listed is how many accounts WeChat's list has, if it was read, and
	// NotInSource how many of them the source does not have.
	Listed            int             `json:"listed,omitempty"`
	NotInSource       int             `json:"not_in_source"`
	NewComponentToken bool            `json:"new_component_token"`
	Component         componentReport `json:"component"`
	Authorizers       []line          `json:"authorizers"`
	Hint              string          `json:"hint,omitempty"`
}

// componentReport says what became of the component's ticket and token.
type componentReport struct {
	AppID  string `json:"app_id"`
	Ticket string `json:"ticket"`
	Token  string `json:"token"`
}

// line is what became of one account.
type line struct {
	AppID       string  `json:"app_id,omitempty"`
	Where       string  `json:"where,omitempty"`
	Outcome     outcome `json:"outcome"`
	Errcode     int     `json:"errcode,omitempty"`
	AccessToken string  `json:"access_token,omitempty"`
	Detail      string  `json:"detail,omitempty"`
}

func newReport(c *command) *report {
	r := &report{c: c, began: time.Now(), From: c.kind.name, Summary: map[outcome]int{}, Authorizers: []line{}}
	for _, o := range outcomes {
		r.Summary[o] = 0
	}
	return r
}

func (r *report) total() int {
	total := 0
	for _, n := range r.Summary {
		total += n
	}
	return total
}

func (r *report) failed() bool {
	for o, n := range r.Summary {
		if o.failed() && n > 0 {
			return true
		}
	}
	return false
}

func (r *report) add(c *candidate) {
	r.Summary[c.outcome]++
	// Many of those that went well are only counted, unless all are asked for.
	fine := c.outcome == outcomeNew || c.outcome == outcomeUpdated || c.outcome == outcomeKept
	if fine && len(r.Authorizers) > linesUpTo && !r.c.json {
		return
	}
	l := line{AppID: c.appID, Where: c.where, Outcome: c.outcome, Errcode: c.errcode, AccessToken: c.access, Detail: c.detail}
	r.Authorizers = append(r.Authorizers, l)
}

// finish prints the report.
func (r *report) finish(err error) {
	r.Seconds = float64(time.Since(r.began).Round(time.Millisecond)) / float64(time.Second)
	r.Written, r.Complete = r.c.write, err == nil
	switch {
	case r.c.verifier == nil:
		r.Verify = "none"
	case r.c.verifier.list != nil:
		r.Verify = "list"
	default:
		r.Verify = "info"
	}
	slices.SortStableFunc(r.Authorizers, func(a, b line) int { return strings.Compare(a.AppID, b.AppID) })
	if err != nil {
		r.Error = err.Error()
		if r.total() == 0 && !r.c.json {
			return // the error says it all
		}
	}
	if r.c.json {
		encoder := json.NewEncoder(r.c.stdout)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		encoder.Encode(r)
		return
	}
	r.text(r.c.stdout)
}

// titles are the outcomes in words; each begins with how it reads in a line.
var titles = map[outcome]string{
	outcomeNew:          "new",
	outcomeUpdated:      "updated: the store had an older record",
	outcomeKept:         "kept: the store has it already",
	outcomeUnauthorized: "unauthorized: do not authorize the platform (any more), by WeChat; skipped",
	outcomeNoRefresh:    "no refresh token: have to authorize again",
	outcomeMalformed:    "malformed: what the old system has of them cannot be right",
	outcomeRefused:      "refused: WeChat answered an errcode",
}

// in is the outcome in a line.
func (o outcome) in() string {
	title, _, _ := strings.Cut(titles[o], ":")
	return title
}

func (r *report) text(w io.Writer) {
	total := r.total()
	lines := r.Authorizers
	if total > linesUpTo {
		lines = slices.DeleteFunc(slices.Clone(lines), func(l line) bool {
			return l.Outcome == outcomeNew || l.Outcome == outcomeUpdated || l.Outcome == outcomeKept
		})
	}
	left := max(len(lines)-linesUpTo, 0)
	lines = lines[:len(lines)-left]
	if len(lines) > 0 {
		rows := [][]string{{"ACCOUNT", "RESULT", "ACCESS TOKEN", "DETAIL"}}
		for _, l := range lines {
			rows = append(rows, []string{
				strings.TrimSpace(l.AppID + " " + l.Where), l.Outcome.in(), cmp.Or(l.AccessToken, "-"), l.Detail,
			})
		}
		aligned(w, rows)
		if left > 0 {
			fmt.Fprintf(w, "… and %d more that were not taken over; -json prints them all\n", left)
		}
		fmt.Fprintln(w)
	}
	if r.Component.AppID != "" {
		fmt.Fprintf(w, "platform %s\n", r.Component.AppID)
		aligned(w, [][]string{{"  ticket", r.Component.Ticket}, {"  component token", r.Component.Token}})
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%d accounts from %s in %.1f s, %s\n", total, r.source(), r.Seconds, r.verified())
	counts := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, o := range outcomes {
		if n := r.Summary[o]; n > 0 || o == outcomeNew {
			fmt.Fprintf(counts, "%d\t %s\n", n, titles[o])
		}
	}
	counts.Flush()
	if r.NotInSource > 0 {
		fmt.Fprintf(w, "\n%d more accounts authorize the platform by WeChat's list: lingpai import -from wechat takes them over\n", r.NotInSource)
	}
	if r.NewComponentToken {
		fmt.Fprintf(w, "\na new component token was got from WeChat and stored: the old system's is dead within minutes\n")
	}
	if r.Hint != "" {
		fmt.Fprintf(w, "\n%s\n", r.Hint)
	}
	r.end(w)
}

// aligned prints rows of cells as columns.
func aligned(w io.Writer, rows [][]string) {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	table.Flush()
	for line := range strings.Lines(text.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}

func (r *report) source() string {
	if r.From == "wechat" {
		return "WeChat's list"
	}
	return r.From
}

func (r *report) verified() string {
	switch r.Verify {
	case "list":
		return fmt.Sprintf("compared with WeChat's list of %d", r.Listed)
	case "info":
		return "each asked of WeChat"
	}
	return "WeChat was not asked"
}

func (r *report) end(w io.Writer) {
	switch {
	case !r.Complete:
		fmt.Fprintf(w, "\nit ended early, with the error below; what is above is done, and a second run goes on from there\n")
	case !r.Written:
		fmt.Fprintf(w, "\ndry run: nothing was written; -write does it\n")
	case r.Summary[outcomeNew]+r.Summary[outcomeUpdated]+r.Summary[outcomeKept] > 0:
		fmt.Fprint(w, whatNext)
	}
}

const whatNext = `
What next: the old system is still at it. Each time it refreshes a token, lingpai's dies.
  1. Have WeChat's events come to lingpai (/wechat/events on listen.callback).
  2. Start lingpai, and point the old system's SDK at it (docs/sdk.md). Services with
     WxJava that cannot be moved yet: lingpai keeps valid tokens in their Redis, with
     coexistence.wxjava_redis_url and coexistence.wxjava_key_prefix (docs/sidecars.md).
  3. Switch off whatever else refreshes tokens: cron jobs, other instances.
  4. Take over who has authorized meanwhile: POST /v1/authorizers/sync.
`
