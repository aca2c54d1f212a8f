package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// spread is the middle and the ends of repeated figures.
type spread struct{ median, min, max float64 }

func spreadOf(figures []float64) spread {
	if len(figures) == 0 {
		return spread{math.NaN(), math.NaN(), math.NaN()}
	}
	sorted := slices.Sorted(slices.Values(figures))
	middle := sorted[len(sorted)/2]
	if len(sorted)%2 == 0 {
		middle = (middle + sorted[len(sorted)/2-1]) / 2
	}
	return spread{middle, sorted[0], sorted[len(sorted)-1]}
}

// format prints the median and, of more than one figure, the ends.
func (s spread) format(verb string) string {
	if math.IsNaN(s.median) {
		return "–"
	}
	if s.min == s.max {
		return fmt.Sprintf(verb, s.median)
	}
	return fmt.Sprintf(verb+" ("+verb+"–"+verb+")", s.median, s.min, s.max)
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
