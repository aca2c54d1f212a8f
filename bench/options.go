package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// options is what a run is asked for.
type options struct {
	repeats     int
	duration    time.Duration // of one measurement
	warmup      time.Duration // before it
	connections []int
	peers       []string // of allPeers
	upstreams   []string // plain, tls
	workloads   []string // of workloadNames
	apps        int      // authorizers of the mix
	rate        int      // requests a second of the open loop
	workers     int      // processes, threads or GOMAXPROCS of each proxy
	pin         bool
	only        string        // proxies, stampede, "" for both
	lifetime    time.Duration // of a token in the stampede
	lapses      int           // lifetimes that its load goes on

	stampedeRate      int      // requests a second of its load
	stampedeUpstreams []string // plain, tls

	growth growthSizes

	memoryUpstreams []string // plain, tls
	save            bool
	results         string // folder for -save
	profile         string // file to make, "" to measure
	profileFor      time.Duration
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	o := options{}
	quick := f.Bool("quick", false, "a smoke run of less than a minute; its figures mean little")
	f.IntVar(&o.repeats, "repeats", 5, "how often each measurement is repeated, in turn with the others")
	f.DurationVar(&o.duration, "duration", 3*time.Second, "of one measurement")
	f.DurationVar(&o.warmup, "warmup", 500*time.Millisecond, "load before each measurement that is not counted")
	connections := f.String("connections", "1,16,64,256", "connections of the closed loops")
	peers := f.String("peers", strings.Join(allPeers, ","), "what is measured")
	upstream := f.String("upstream", "both", "plain, tls or both")
	workloads := f.String("workloads", strings.Join(workloadNames, ","), "what is asked for")
	f.IntVar(&o.apps, "apps", 10_000, "app ids of the mix")
	f.IntVar(&o.rate, "rate", 1000, "requests a second of the open loop")
	f.IntVar(&o.workers, "workers", min(2, runtime.NumCPU()), "processes, threads or GOMAXPROCS of each proxy")
	f.BoolVar(&o.pin, "pin", false, "proxies on the last processors, as many as -workers, load and upstream on the others (needs taskset)")
	f.StringVar(&o.only, "only", "", "one part alone: "+strings.Join(partsOfRun, ", "))
	f.DurationVar(&o.lifetime, "lifetime", 12*time.Second, "of a token in the stampede, whole seconds")
	f.IntVar(&o.lapses, "lapses", 3, "lifetimes that the stampede's load goes on")
	f.IntVar(&o.stampedeRate, "stampede-rate", 2000, "requests a second when tokens lapse in the stampede")
	stampedeUpstream := f.String("stampede-upstream", "tls", "plain, tls or both, of the stampede")
	f.BoolVar(&o.save, "save", false, "keep the tables and the picture in the folder of -results, by date and commit")
	f.StringVar(&o.profile, "profile", "", "measure nothing, but make this CPU profile of lingpai for the compiler (default.pgo)")
	f.DurationVar(&o.profileFor, "profile-for", 2*time.Minute, "of -profile")
	f.StringVar(&o.results, "results", "bench/results", "folder for -save")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.growth = growthSizesOf(*quick)
	given := map[string]bool{}
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if *quick {
		set := func(name string, change func()) {
			if !given[name] {
				change()
			}
		}
		set("repeats", func() { o.repeats = 1 })
		set("duration", func() { o.duration = 100 * time.Millisecond })
		set("warmup", func() { o.warmup = 20 * time.Millisecond })
		set("workloads", func() { *workloads = "get,post,mix,1m,rate" })
		set("connections", func() { *connections = "64" })
		set("lifetime", func() { o.lifetime = 2 * time.Second })
		set("lapses", func() { o.lapses = 1 })
		set("apps", func() { o.apps = 1000 })
		set("profile-for", func() { o.profileFor = 2 * time.Second })
	}
	if o.pin && !given["workers"] {
		o.workers = max(1, min(2, runtime.NumCPU()-1))
	}
	var err error
	var faults []error
	o.connections, err = numbers(*connections)
	faults = append(faults, err)
	o.peers, err = names("peers", *peers, allPeers)
	faults = append(faults, err)
	o.workloads, err = names("workloads", *workloads, workloadNames)
	faults = append(faults, err)
	o.upstreams, err = kinds("upstream", *upstream)
	faults = append(faults, err)
	o.memoryUpstreams = o.upstreams
	if *quick && len(o.upstreams) > 0 {
		o.memoryUpstreams = o.upstreams[len(o.upstreams)-1:]
	}
	o.stampedeUpstreams, err = kinds("stampede-upstream", *stampedeUpstream)
	faults = append(faults, err)
	if o.repeats < 1 || o.duration <= 0 || o.warmup < 0 || o.apps < 1 || o.rate < 1 || o.lapses < 1 || o.stampedeRate < 1 {
		faults = append(faults, errors.New("-repeats, -duration, -apps, -rate, -lapses and -stampede-rate must be more than 0"))
	}
	if o.only != "" && !slices.Contains(partsOfRun, o.only) {
		faults = append(faults, fmt.Errorf("-only: %q is none of %s", o.only, strings.Join(partsOfRun, ", ")))
	}
	if o.lifetime < 2*time.Second || o.lifetime%time.Second != 0 {
		faults = append(faults, errors.New("-lifetime must be whole seconds, 2s or more"))
	}
	if o.workers < 1 || o.workers > runtime.NumCPU() || o.pin && o.workers == runtime.NumCPU() {
		faults = append(faults, fmt.Errorf("-workers: this machine has %d processors, and with -pin one has to be left", runtime.NumCPU()))
	}
	if f.NArg() > 0 {
		faults = append(faults, fmt.Errorf("unknown argument %q", f.Arg(0)))
	}
	if err := errors.Join(faults...); err != nil {
		fmt.Fprintln(stderr, err)
		return o, err
	}
	return o, nil
}

// kindTitles are the kinds of upstream.
var kindTitles = map[string]string{"plain": "HTTP", "tls": "HTTPS"}

// kinds reads which of them are asked for.
func kinds(flag, value string) ([]string, error) {
	if value == "both" {
		return []string{"plain", "tls"}, nil
	}
	if kindTitles[value] == "" {
		return nil, fmt.Errorf("-%s is plain, tls or both, not %q", flag, value)
	}
	return []string{value}, nil
}

func numbers(list string) ([]int, error) {
	var all []int
	for item := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(item))
		if err != nil || n < 1 || n > 4096 {
			return nil, fmt.Errorf("-connections: %q is no number from 1 to 4096", item)
		}
		all = append(all, n)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// names reads a list whose items are of known; the order is that of known.
func names(flag, list string, known []string) ([]string, error) {
	asked := strings.Split(list, ",")
	for i, name := range asked {
		asked[i] = strings.TrimSpace(name)
		if !slices.Contains(known, asked[i]) {
			return nil, fmt.Errorf("-%s: %q is none of %s", flag, asked[i], strings.Join(known, ", "))
		}
	}
	var all []string
	for _, name := range known {
		if slices.Contains(asked, name) {
			all = append(all, name)
		}
	}
	return all, nil
}
