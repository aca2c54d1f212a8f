package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// spread is the middle of repeated figures, its ends, and where the middle half
// of them begins and ends.
type spread struct {
	median, min, max float64
	q1, q3           float64
}

func spreadOf(figures []float64) spread {
	sorted := slices.Sorted(slices.Values(figures))
	at := func(q float64) float64 { return quantileOf(sorted, q) }
	return spread{at(0.5), at(0), at(1), at(0.25), at(0.75)}
}

// quantileOf returns a quantile of sorted figures, between two of them if need be.
func quantileOf(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	place := q * float64(len(sorted)-1)
	i := int(place)
	below, above := sorted[i], sorted[min(i+1, len(sorted)-1)]
	return below + (above-below)*(place-float64(i))
}

// none reports whether there are no figures.
func (s spread) none() bool { return math.IsNaN(s.median) }

// format prints the median and, of more than one figure, the ends.
func (s spread) format(verb string) string {
	if s.none() {
		return "–"
	}
	if s.min == s.max {
		return fmt.Sprintf(verb, s.median)
	}
	return fmt.Sprintf(verb+" ("+verb+"–"+verb+")", s.median, s.min, s.max)
}

// quartiles prints the median and the middle half.
func (s spread) quartiles(verb string) string {
	if s.none() || s.q1 == s.q3 {
		return s.format(verb)
	}
	return fmt.Sprintf(verb+" ("+verb+"–"+verb+")", s.median, s.q1, s.q3)
}

func spreadBy(repeats []loadResult, figure func(loadResult) float64) spread {
	var all []float64
	for _, one := range repeats {
		all = append(all, figure(one))
	}
	return spreadOf(all)
}

// ratios divides figures of the same repeat.
func ratios(repeats, base []loadResult, figure func(loadResult) float64) []float64 {
	var all []float64
	for i := range min(len(repeats), len(base)) {
		if below := figure(base[i]); below > 0 && figure(repeats[i]) > 0 {
			all = append(all, figure(repeats[i])/below)
		}
	}
	return all
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond))
}
