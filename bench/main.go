// Command bench measures lingpai beside other reverse proxies: it builds and
// starts all of them with a stub upstream, loads them in turn and prints tables.
// README.md says how to read them.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if code, ok := runPart(os.Args[1:]); ok {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// parts are the processes that bench starts of itself, so that what they use is
// not mixed up. Each reads JSON from its input and writes JSON lines.
var parts = map[string]func(in io.Reader, out io.Writer) error{
	"part-stub":         stubPart,
	"part-load":         loadPart,
	"part-hold":         holdPart,
	"part-fasthttp":     fasthttpPart,
	"part-reverseproxy": reverseProxyPart,
}

// runPart runs the part that the arguments name, if they do.
func runPart(args []string) (code int, ok bool) {
	if len(args) != 1 || parts[args[0]] == nil {
		return 0, false
	}
	if err := parts[args[0]](os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", args[0], err)
		return 1, true
	}
	return 0, true
}

// run is the command without the process around it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return 2
	}
	if o.profile != "" {
		if err := profile(ctx, o, stderr); err != nil {
			fmt.Fprintln(stderr, "bench:", err)
			return 1
		}
		return 0
	}
	r, err := measure(ctx, o, stderr)
	if err == nil {
		err = r.publish(o, stdout, stderr)
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	if r.failed() > 0 {
		fmt.Fprintf(stderr, "bench: %d requests failed, see the tables\n", r.failed())
		return 1
	}
	return 0
}
