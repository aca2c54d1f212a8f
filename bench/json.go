package main

import (
	"encoding/json"
	"time"
)

// kept is a run as it is kept for later ones to be compared with. Durations are
// in nanoseconds, memory is in bytes.
type kept struct {
	Started          time.Time
	Took             time.Duration
	Machine, Commit  string
	Load             [2]string // averages before and after
	Repeats, Workers int
	Duration, Warmup time.Duration
	Pinned           bool
	Versions         map[string]string
	Missing          []string
	Goals            []goal
	Figures          []keptFigures
	Memory           []keptMemory
	Stampedes        []stampede
}

// keptFigures are the repeats of one cell.
type keptFigures struct {
	Upstream, Workload, Peer string
	Repeats                  []loadResult
}

type keptMemory struct {
	Upstream, When, Peer string
	Repeats              []memory
}

func (r *results) json(o options) ([]byte, error) {
	k := kept{
		Started: r.started, Took: r.took, Machine: r.machine.String(), Commit: r.machine.commit,
		Load: [2]string{r.machine.loadBefore, r.machine.loadAfter}, Repeats: o.repeats, Workers: o.workers,
		Duration: o.duration, Warmup: o.warmup, Pinned: o.pin,
		Versions: map[string]string{}, Missing: r.missing, Goals: r.goals(o), Stampedes: r.stampedes,
	}
	for _, p := range r.present {
		if p.version != nil {
			k.Versions[p.name] = p.version()
		}
	}
	for _, kind := range o.upstreams {
		for _, p := range r.present {
			for _, w := range r.loads {
				if repeats := r.figures[cell{kind, w.name, p.name}]; len(repeats) > 0 {
					k.Figures = append(k.Figures, keptFigures{kind, w.name, p.name, repeats})
				}
			}
			for _, when := range []string{idleOne, loadedOne, configured, primed} {
				if repeats := r.memory[cell{kind, when, p.name}]; len(repeats) > 0 && p.name != "direct" {
					k.Memory = append(k.Memory, keptMemory{kind, when, p.name, repeats})
				}
			}
		}
	}
	text, err := json.Marshal(k)
	return append(text, '\n'), err
}
