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
	colors := map[string]string{"plain": "#8fa8bf", "tls": "#1f6f8b"}
	labels := map[string]string{"plain": "HTTP upstream", "tls": "HTTPS upstream"}
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
	height := 70 + row*len(lines)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n", right+90, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#fff"/>`+"\n")
	fmt.Fprintf(&b, `<text x="12" y="24" font-size="15" font-weight="bold">CPU per request of the proxy, µs (GET and POST of small size, median; less is better)</text>`+"\n")
	for i, kind := range o.upstreams {
		x := 12 + 150*i
		fmt.Fprintf(&b, `<rect x="%d" y="36" width="12" height="12" fill="%s"/><text x="%d" y="47">%s</text>`+"\n", x, colors[kind], x+18, labels[kind])
	}
	for i, l := range lines {
		y := 62 + row*i
		weight := ""
		if l.title == peers["lingpai"].title {
			weight = ` font-weight="bold"`
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end"%s>%s</text>`+"\n", left-10, y+bar+5, weight, html.EscapeString(l.title))
		for j, kind := range o.upstreams {
			value, ok := l.values[kind]
			if !ok {
				continue
			}
			width := value / most * (right - left)
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/><text x="%.1f" y="%d" font-size="12">%.1f</text>`+"\n",
				left, y+j*(bar+2), width, bar, colors[kind], left+width+6, y+j*(bar+2)+12, value)
		}
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}
