package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
)

// The picture of growth is one SVG of small plots, two beside each other. It has
// a background of its own, so that it can be read on light and dark pages.

// plot is one of them.
type plot struct {
	title, x, y string
	lines       []line
}

// line is a series of points in the order of x, of which 0 stands one decade
// before the least other one.
type line struct {
	name   string
	points []plotted
}

type plotted struct {
	x        int
	y        float64
	min, max float64
}

const (
	plotWidth, plotHeight = 470, 250
	// The margins within a plot.
	plotLeft, plotRight, plotTop, plotBottom = 62, 18, 62, 46
	plotColumns                              = 2
)

var plotColors = []string{"#1f6f8b", "#c0622d", "#6b7f3a"}

// picture draws all curves.
func (g *growth) picture() []byte {
	plots := g.plots()
	rows := (len(plots) + plotColumns - 1) / plotColumns
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="#222">`+"\n",
		plotColumns*plotWidth, 36+rows*plotHeight)
	b.WriteString(`<rect width="100%" height="100%" fill="#fff"/>` + "\n")
	b.WriteString(`<text x="12" y="24" font-size="15" font-weight="bold">What growing costs lingpai (medians, with least and most; bars that reach the top may go on)</text>` + "\n")
	for i, p := range plots {
		fmt.Fprintf(&b, `<g transform="translate(%d %d)">`+"\n", i%plotColumns*plotWidth, 36+i/plotColumns*plotHeight)
		p.draw(&b)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// plots are all there is to draw.
func (g *growth) plots() []plot {
	var all []plot
	for _, curve := range []struct {
		x      string
		points []costPoint
	}{
		{"authorizers", g.authorizers},
		{"routes of the configuration", g.routes},
		{"connections held", g.held},
		{"refreshes a second", g.refreshes},
	} {
		if len(curve.points) == 0 {
			continue
		}
		all = append(all,
			plot{"CPU of a call by " + curve.x, curve.x, "µs", costLines(curve.points, false)},
			plot{fmt.Sprintf("Latency by %s, at %s calls/s", curve.x, thousands(growthRate)), curve.x, "ms", costLines(curve.points, true)})
	}
	if len(g.held) > 0 {
		all = append(all, plot{"Memory by connections held", "connections held", "MiB", heldLines(g.held)})
	}
	if len(g.memory) > 0 {
		all = append(all, plot{"Memory by authorizers in use", "authorizers whose tokens are in use", "MiB", g.memoryLines()})
	}
	if len(g.starts) > 0 {
		all = append(all, plot{"Start by records in the store", "authorizers in the store", "ms", g.startLines()})
	}
	return all
}

func costLines(points []costPoint, latency bool) []line {
	p50, p99 := line{name: "p50"}, line{name: "p99"}
	cpu := line{name: "closed loop"}
	other := line{name: seriesDefault}
	for _, p := range points {
		at := plottedOf(p.size, spreadBy(p.closed, loadResult.cpuEach))
		if p.series == seriesDefault {
			other.points = append(other.points, at)
			continue
		}
		if p.series != "" {
			cpu.name = p.series
		}
		cpu.points = append(cpu.points, at)
		p50.points = append(p50.points, plottedOf(p.size, spreadBy(p.open, millisecondsP50)))
		p99.points = append(p99.points, plottedOf(p.size, spreadBy(p.open, millisecondsP99)))
	}
	switch {
	case latency:
		return []line{p50, p99}
	case len(other.points) > 0:
		return []line{cpu, other}
	}
	return []line{cpu}
}

func plottedOf(x int, s spread) plotted { return plotted{x, s.median, s.min, s.max} }

// plottedBytes is a point without a spread, in MiB.
func plottedBytes(x int, n int64) plotted {
	return plotted{x, mib(n), mib(n), mib(n)}
}

func heldLines(points []costPoint) []line {
	rss, own := line{name: "RSS"}, line{name: "own memory"}
	for _, p := range points {
		rss.points = append(rss.points, plottedBytes(p.size, p.memory.rss))
		own.points = append(own.points, plottedBytes(p.size, p.memory.own))
	}
	return []line{rss, own}
}

func (g *growth) memoryLines() []line {
	rss, heap := line{name: "RSS without the store's file"}, line{name: "Go heap"}
	for _, p := range g.memory {
		if p.curve {
			rss.points = append(rss.points, plottedBytes(p.used, p.withoutStore()))
			heap.points = append(heap.points, plottedBytes(p.used, p.heap))
		}
	}
	return []line{rss, heap}
}

func (g *growth) startLines() []line {
	all := []line{{name: "bolt"}, {name: "Redis"}}
	for _, p := range g.starts {
		for i := range all {
			if all[i].name == p.store {
				all[i].points = append(all[i].points, plottedOf(p.records, p.spread()))
			}
		}
	}
	return all
}

// draw writes the plot at the origin.
func (p plot) draw(b *bytes.Buffer) {
	first, last, top := p.bounds()
	step := roundStep(top / 4)
	top = step * math.Ceil(top/step)
	toX := func(x int) float64 {
		return plotLeft + (decade(x, first)-first)/max(last-first, 1)*(plotWidth-plotLeft-plotRight-20) + 10
	}
	toY := func(y float64) float64 {
		return plotHeight - plotBottom - min(y, top)/top*(plotHeight-plotTop-plotBottom)
	}
	fmt.Fprintf(b, `<text x="12" y="20" font-weight="bold">%s</text><text x="12" y="%d">%s</text>`+"\n", html.EscapeString(p.title), plotTop-8, p.y)
	for y := 0.; y <= top*1.001; y += step {
		fmt.Fprintf(b, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end" font-size="11">%.4g</text>`+"\n",
			plotLeft, toY(y), plotWidth-plotRight, plotLeft-6, toY(y)+4, y)
	}
	for _, x := range p.xs() {
		fmt.Fprintf(b, `<path d="M%.1f %dv4" stroke="#222"/><text x="%.1f" y="%d" text-anchor="middle" font-size="11">%s</text>`+"\n",
			toX(x), plotHeight-plotBottom, toX(x), plotHeight-plotBottom+17, thousands(x))
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", (plotLeft+plotWidth-plotRight)/2, plotHeight-plotBottom+34, html.EscapeString(p.x+" (logarithmic)"))
	legend := plotLeft
	for i, l := range p.lines {
		if len(l.points) == 0 {
			continue
		}
		color := plotColors[i%len(plotColors)]
		fmt.Fprintf(b, `<path d="M%d %dh16" stroke="%s" stroke-width="2.5"/><text x="%d" y="%d" font-size="11">%s</text>`+"\n",
			legend, plotTop-24, color, legend+20, plotTop-20, html.EscapeString(l.name))
		legend += 34 + 7*len(l.name)
		l.draw(b, color, toX, toY)
	}
}

// draw writes a line, its points, and between the least and the most a bar.
func (l line) draw(b *bytes.Buffer, color string, toX func(int) float64, toY func(float64) float64) {
	path := ""
	for i, at := range l.points {
		command := "L"
		if i == 0 {
			command = "M"
		}
		path += fmt.Sprintf("%s%.1f %.1f", command, toX(at.x), toY(at.y))
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`, toX(at.x), toY(at.y), color)
		if at.min < at.max {
			fmt.Fprintf(b, `<path d="M%.1f %.1fV%.1f" stroke="%s"/>`, toX(at.x), toY(at.min), toY(at.max), color)
		}
	}
	fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", path, color)
}

// xs returns the places on the axis, each once, in the order of the lines.
func (p plot) xs() []int {
	var all []int
	seen := map[int]bool{}
	for _, l := range p.lines {
		for _, at := range l.points {
			if !seen[at.x] {
				seen[at.x], all = true, append(all, at.x)
			}
		}
	}
	return all
}

// bounds returns the first and last decade of x, and the most of y: all medians,
// while a stray figure far above them is cut off.
func (p plot) bounds() (first, last, top float64) {
	first, last = math.Inf(1), math.Inf(-1)
	zero := false
	for _, x := range p.xs() {
		if x == 0 {
			zero = true
			continue
		}
		first, last = min(first, math.Log10(float64(x))), max(last, math.Log10(float64(x)))
	}
	if math.IsInf(first, 1) {
		first, last = 0, 0
	}
	if zero {
		first--
	}
	median := 0.
	for _, l := range p.lines {
		for _, at := range l.points {
			median, top = max(median, at.y), max(top, at.max)
		}
	}
	return first, last, max(min(top, 1.5*median), 0.01)
}

// decade places x on the axis.
func decade(x int, first float64) float64 {
	if x == 0 {
		return first
	}
	return math.Log10(float64(x))
}

// roundStep returns 1, 2 or 5 times a power of ten, at least n.
func roundStep(n float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(n)))
	for _, times := range []float64{1, 2, 5} {
		if times*power >= n*0.999 {
			return times * power
		}
	}
	return 10 * power
}
