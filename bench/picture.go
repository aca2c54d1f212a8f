package main

import (
	"bytes"
	"fmt"
	"html"
)

// picture draws the CPU of a small call by peer and upstream, as an SVG that
// can be read on light and dark pages.
func (r *results) picture(o options) []byte {
	const left, right, row, bar = 300, 620, 46, 15
	type line struct {
		title  string
		values map[string]float64
	}
	var lines []line
	most := 1.0
	for _, p := range r.present {
		if p.name == "direct" {
			continue
		}
		l := line{p.title, map[string]float64{}}
		for _, kind := range o.upstreams {
			var all []float64
			for _, w := range r.small() {
				for _, one := range r.figures[cell{kind, w.name, p.name}] {
					all = append(all, one.cpuEach())
				}
			}
			if len(all) > 0 {
				l.values[kind] = spreadOf(all).median
				most = max(most, l.values[kind])
			}
		}
		lines = append(lines, l)
	}
	var b bytes.Buffer
	height := 84 + row*len(lines)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="CPU per request by proxy" %s font-size="13">`+"\n",
		right+90, height, right+90, height, pictureFont)
	b.WriteString(pictureStyle)
	fmt.Fprintf(&b, `<rect class="bg" x="0.5" y="0.5" width="%d" height="%d" rx="8"/>`+"\n", right+89, height-1)
	fmt.Fprintf(&b, `<text x="20" y="32" font-size="17" font-weight="bold">CPU of the proxy for one request, µs</text>`+"\n")
	fmt.Fprintf(&b, `<text x="20" y="54" class="dim">small GET and POST, median; less is better</text>`+"\n")
	for i, kind := range o.upstreams {
		x := right - 190 + 150*i
		fmt.Fprintf(&b, `<rect class="%s" x="%d" y="44" width="12" height="12"/><text x="%d" y="54">%s upstream</text>`+"\n", kind, x, x+18, kindTitles[kind])
	}
	for i, l := range lines {
		y := 80 + row*i
		weight := ""
		if l.title == peers["lingpai"].title {
			weight = ` font-weight="bold" class="own"`
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end"%s>%s</text>`+"\n", left-10, y+(bar+2)*len(o.upstreams)/2+4, weight, html.EscapeString(l.title))
		for j, kind := range o.upstreams {
			value, ok := l.values[kind]
			if !ok {
				continue
			}
			width := value / most * (right - left)
			fmt.Fprintf(&b, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d"/><text x="%.1f" y="%d" font-size="12">%.1f</text>`+"\n",
				kind, left, y+j*(bar+2), width, bar, left+width+6, y+j*(bar+2)+12, value)
		}
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}
