package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store/redis"
)

// startPoint is how long lingpai takes from its exec until /readyz says that it
// is ready.
type startPoint struct {
	store    string // bolt or Redis
	records  int
	bytes    int64           // of the file
	took     []time.Duration // by repeat
	kept     float64         // the most of the file that was in memory before a start
	coldness string          // why it is not cold, if it is not
}

func (g *growthRun) boltStarts(ctx context.Context) error {
	for _, n := range g.sizes.stored {
		file, err := g.filled(ctx, n)
		if err != nil {
			return err
		}
		p := startPoint{store: "bolt", records: n}
		if info, err := os.Stat(file); err == nil {
			p.bytes = info.Size()
		}
		for range g.sizes.repeats {
			kept, err := dropFromMemory(file)
			if err != nil {
				p.coldness = err.Error()
			}
			p.kept = max(p.kept, kept)
			took, err := g.startTime(ctx, fmt.Sprintf("store: {path: %q}", file))
			if err != nil {
				return err
			}
			p.took = append(p.took, took)
		}
		g.started(p)
	}
	return nil
}

func (g *growthRun) started(p startPoint) {
	g.starts = append(g.starts, p)
	fmt.Fprintf(g.progress, "  %s of %s authorizers: ready after %s ms\n", p.store, thousands(p.records), p.times())
}

func (p startPoint) times() string { return p.spread().format("%.0f") }

// spread is of milliseconds.
func (p startPoint) spread() spread {
	var all []float64
	for _, took := range p.took {
		all = append(all, took.Seconds()*1000)
	}
	return spreadOf(all)
}

// startTime starts a lingpai, waits until it is ready, and ends it.
func (g *growthRun) startTime(ctx context.Context, config string) (time.Duration, error) {
	g.count++
	dir := filepath.Join(g.folder, fmt.Sprint(g.count))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	began := time.Now()
	at, process, err := runLingpai(ctx, &g.site, g.secured(g.at), dir, config+"\n")
	if err != nil {
		return 0, err
	}
	defer process.stop()
	_, err = get(ctx, at.Metrics, "/readyz")
	return time.Since(began), err
}

func (g *growthRun) redisStarts(ctx context.Context) error {
	if err := notFound("redis-server", "redis-server"); err != nil {
		g.missing = append(g.missing, fmt.Sprintf("start with Redis: %v", err))
		return nil
	}
	address, server, err := g.startRedis(ctx)
	if err != nil {
		return err
	}
	defer server.stop()
	url := "redis://" + address
	filled := 0
	for _, n := range g.sizes.stored {
		if err := fillRedis(ctx, url, filled, n); err != nil {
			return err
		}
		filled = n
		p := startPoint{store: "Redis", records: n}
		for range g.sizes.repeats {
			took, err := g.startTime(ctx, fmt.Sprintf("store: {kind: redis, redis_url: %q}", url))
			if err != nil {
				return err
			}
			p.took = append(p.took, took)
		}
		g.started(p)
	}
	return nil
}

func fillRedis(ctx context.Context, url string, from, to int) error {
	if from == to {
		return nil
	}
	// So many writes at a time may each wait longer than a sidecar would.
	opened, err := redis.Open(ctx, redis.Options{URL: secret.New(url), KeyPrefix: "lingpai:", OperationTimeout: time.Minute})
	if err != nil {
		return err
	}
	return errors.Join(fill(ctx, opened, from, to, longLived), opened.Close())
}

// startRedis runs a Redis that keeps nothing on disk. It is beside the load, not
// on lingpai's processors.
func (g *growthRun) startRedis(ctx context.Context) (string, *child, error) {
	address, err := freePort()
	if err != nil {
		return "", nil, err
	}
	dir := filepath.Join(g.folder, "redis")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, err
	}
	host, port, _ := strings.Cut(address, ":")
	process, err := spawn("redis-server", g.others, nil, "redis-server", "--bind", host, "--port", port, "--dir", dir,
		"--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction")
	if err != nil {
		return "", nil, err
	}
	if err := process.waitListening(ctx, address); err != nil {
		process.stop()
		return "", nil, err
	}
	return address, process, nil
}
