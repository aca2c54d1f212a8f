package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// default.pgo, beside main.go, tells the compiler which of lingpai's calls are
// worth to be inlined (https://go.dev/doc/pgo). It is a CPU profile of lingpai
// under the loads of bench, over HTTPS. The program has no code to profile
// itself: that is added to this one build.

// profiling is that code. What it writes is complete when it has its name.
const profiling = `package main

import (
	"os"
	"runtime/pprof"
	"time"
)

func init() {
	file, took := os.Getenv("BENCH_PROFILE"), os.Getenv("BENCH_PROFILE_FOR")
	d, err := time.ParseDuration(took)
	if err != nil {
		panic(err)
	}
	f, err := os.Create(file + ".part")
	if err != nil {
		panic(err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		panic(err)
	}
	time.AfterFunc(d, func() {
		pprof.StopCPUProfile()
		f.Close()
		os.Rename(file+".part", file)
	})
}
`

// profile makes the file -profile names.
func profile(ctx context.Context, o options, progress io.Writer) error {
	dir, err := os.MkdirTemp("", "lingpai-bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o.upstreams, o.repeats = []string{"tls"}, 1
	run := &runner{options: o, results: &results{figures: map[cell][]loadResult{}}, progress: progress, dir: dir}
	if err := run.prepare(ctx); err != nil {
		return err
	}
	defer run.stub.stop()
	if err := buildProfiled(dir, run.site.lingpai); err != nil {
		return err
	}
	made := filepath.Join(dir, "profile")
	run.site.prefix = append(run.site.prefix, "BENCH_PROFILE="+made, "BENCH_PROFILE_FOR="+o.profileFor.String())
	u := run.upstreamOf(run.at, "tls", o.apps)
	address, process, err := startLingpai(ctx, &run.site, u, dir)
	if err != nil {
		return err
	}
	defer process.stop()
	lingpai := &running{peers["lingpai"], address, process}
	run.present = []peer{lingpai.peer}
	run.loads = o.loads()
	if err := run.prime(ctx, lingpai, u); err != nil {
		return err
	}
	for began, i := time.Now(), 0; ; i++ {
		text, err := os.ReadFile(made)
		if err == nil {
			fmt.Fprintln(progress, "kept in", o.profile)
			return os.WriteFile(o.profile, text, 0o644)
		}
		if time.Since(began) > o.profileFor+time.Minute {
			return errors.New("lingpai has written no profile")
		}
		if run.began = time.Now(); i%len(run.loads) == 0 {
			run.done = 0
		}
		if err := run.one(ctx, lingpai, u, "tls", run.loads[i%len(run.loads)], i/len(run.loads)); err != nil {
			return err
		}
	}
}

// buildProfiled builds lingpai into file, without a profile but with profiling.
func buildProfiled(dir, file string) error {
	module, err := output("go", "list", "-m", "-f", "{{.Dir}}", "lingpai")
	if err != nil {
		return err
	}
	source, overlay := filepath.Join(dir, "profiling.go"), filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(source, []byte(profiling), 0o600); err != nil {
		return err
	}
	text, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(strings.TrimSpace(module), "profiling.go"): source}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		return err
	}
	return goBuild(file, "-pgo=off", "-overlay", overlay)
}
