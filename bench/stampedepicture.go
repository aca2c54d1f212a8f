package main

import (
	"bytes"
	"fmt"
	"html"
	"strconv"
	"strings"
	"time"
)

// Sizes of the stampede's picture.
const (
	panelLeft   = 56
	panelWidth  = 780
	panelHeight = 96
	panelStep   = 164 // from one panel to the next
	panelTop    = 108 // of the first
)

// pictureStyle is for light and dark pages: the picture has a ground of its own.
const pictureStyle = `<style>
.bg { fill: #fff; stroke: #d0d7de; } text { fill: #1f2328; } .dim { fill: #57606a; } .grid { stroke: #d8dee4; }
.own { fill: #1a7f37; } .bar { fill: #6e7781; } .slow { fill: #cf222e; } .call { fill: #9a6700; }
.plain { fill: #8fa8bf; } .tls { fill: #1f6f8b; }
@media (prefers-color-scheme: dark) {
.bg { fill: #0d1117; stroke: #30363d; } text { fill: #e6edf3; } .dim { fill: #9198a1; } .grid { stroke: #2a313c; }
.own { fill: #3fb950; } .bar { fill: #9198a1; } .slow { fill: #f85149; } .call { fill: #d29922; }
.plain { fill: #5f7a94; } .tls { fill: #4fb3d4; }
}
</style>
`

const pictureFont = `font-family="-apple-system, 'Segoe UI', 'Noto Sans', 'PingFang SC', 'Microsoft YaHei', sans-serif"`

// stampedePicture draws how long callers waited over time, one panel for each
// way to keep tokens: of its repeats the one in the middle.
func (r *results) stampedePicture(o options) []byte {
	var shown []stampede
	kind := o.stampedeUpstreams[len(o.stampedeUpstreams)-1] // HTTPS, of both
	highest := 2 * tokenLatency
	for _, s := range r.stampedes {
		if s.Upstream != kind || s.Scheme == noTokens || len(s.Repeats) == 0 {
			continue
		}
		shown = append(shown, s)
		for _, m := range s.middle().Lapse.Timeline {
			highest = max(highest, m.Worst)
		}
	}
	highest = (highest + tokenLatency - 1) / tokenLatency * tokenLatency
	width, height := panelLeft+panelWidth+24, panelTop+panelStep*len(shown)-14
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="How long callers wait when a token lapses" %s font-size="13">`+"\n",
		width, height, width, height, pictureFont)
	b.WriteString(pictureStyle)
	fmt.Fprintf(&b, `<rect class="bg" x="0.5" y="0.5" width="%d" height="%d" rx="8"/>`+"\n", width-1, height-1)
	fmt.Fprintf(&b, `<text x="20" y="32" font-size="17" font-weight="bold">The token lapses under %s requests a second</text>`+"\n", thousands(o.stampedeRate))
	fmt.Fprintf(&b, `<text x="20" y="54" class="dim">Longest wait of a caller in each %d ms, over %d lifetimes of a token of %d s; ▲ calls to the token endpoint, which takes %d ms</text>`+"\n",
		stampedeBucket.Milliseconds(), o.lapses, o.lifetime/time.Second, tokenLatency.Milliseconds())
	for i, s := range shown {
		fmt.Fprintf(&b, `<g transform="translate(0 %d)">`+"\n", panelTop+i*panelStep)
		s.panel(&b, o, highest)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// panel draws one way.
func (s stampede) panel(b *bytes.Buffer, o options, highest time.Duration) {
	one, whole := s.middle(), o.stampedeTime()
	x := func(at time.Duration) float64 { return panelLeft + panelWidth*float64(at)/float64(whole) }
	high := func(d time.Duration) float64 { return panelHeight * float64(d) / float64(highest) }
	renewals := one.renewals(o.lifetime)
	fmt.Fprintf(b, `<text x="20" y="-14" font-weight="bold"%s>%s</text>`+"\n", classOf(s.Scheme == "", "own"), html.EscapeString(s.Title))
	fmt.Fprintf(b, `<text x="%d" y="-14" text-anchor="end" class="dim">%s</text>`+"\n", panelLeft+panelWidth, s.caption(renewals))
	steps := int(highest / tokenLatency)
	for i := range steps + 1 {
		if i%((steps+3)/4) != 0 {
			continue // no more than a few lines
		}
		at := time.Duration(i) * tokenLatency
		y := panelHeight - high(at)
		fmt.Fprintf(b, `<line class="grid" x1="%d" y1="%.1f" x2="%d" y2="%.1f"/><text x="%d" y="%.1f" font-size="11" text-anchor="end" class="dim">%s</text>`+"\n",
			panelLeft, y, panelLeft+panelWidth, y, panelLeft-6, y+4, axisText(at.Milliseconds(), "ms"))
	}
	bar := x(stampedeBucket) - panelLeft
	for i, m := range one.Lapse.Timeline {
		at := time.Duration(i) * stampedeBucket
		if at >= whole || m.Worst == 0 {
			continue
		}
		class := "bar"
		switch {
		case m.Worst > waited:
			class = "slow"
		case s.Scheme == "":
			class = "own"
		}
		tall := max(high(m.Worst), 1)
		fmt.Fprintf(b, `<rect class="%s" x="%.1f" y="%.1f" width="%.2f" height="%.1f"/>`+"\n", class, x(at), panelHeight-tall, bar, tall)
	}
	firsts := one.renewalTimes(o.lifetime)
	for i, n := range renewals {
		at := x(firsts[i].Sub(one.Lapse.From))
		if at < panelLeft || at > panelLeft+panelWidth {
			continue
		}
		beside, anchor := at+8, "start"
		if at > panelLeft+panelWidth-50 {
			beside, anchor = at-8, "end"
		}
		fmt.Fprintf(b, `<path class="call" d="M%.1f %d l5 9 h-10 z"/><text x="%.1f" y="%d" font-size="12" text-anchor="%s" class="call">%d</text>`+"\n",
			at, panelHeight+3, beside, panelHeight+13, anchor, n)
	}
	for second := time.Duration(0); second <= whole; second += secondsStep(whole) {
		fmt.Fprintf(b, `<text x="%.1f" y="%d" font-size="11" text-anchor="middle" class="dim">%s</text>`+"\n",
			x(second), panelHeight+27, axisText(int64(second/time.Second), "s"))
	}
}

// caption says in words what the panel shows.
func (s stampede) caption(renewals []int) string {
	one := s.middle()
	most := 0
	for _, n := range renewals {
		most = max(most, n)
	}
	text := "1 token call for each renewal"
	if most != 1 {
		text = fmt.Sprintf("up to %s token calls for one renewal", thousands(most))
	}
	text += ", " + thousands(int(one.Lapse.Slow)) + " callers waited"
	if one.Lapse.Slow == 0 {
		text = strings.Replace(text, "0 callers", "nobody", 1)
	}
	if one.Lapse.Failed > 0 {
		text += ", " + thousands(int(one.Lapse.Failed)) + " calls failed"
	}
	return text
}

func classOf(when bool, class string) string {
	if when {
		return ` class="` + class + `"`
	}
	return ""
}

// axisText names the unit at zero alone.
func axisText(n int64, unit string) string {
	if n == 0 {
		return "0 " + unit
	}
	return strconv.FormatInt(n, 10)
}

// secondsStep is how far the marks of the time axis are apart.
func secondsStep(whole time.Duration) time.Duration {
	for _, step := range []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second} {
		if whole/step <= 12 {
			return step
		}
	}
	return time.Minute
}
