// Command lingpai is a caching reverse-proxy sidecar for WeChat third-party
// platforms: apps call WeChat's API through it without credentials.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"lingpai/internal/config"
	"lingpai/internal/demo"
	"lingpai/internal/importer"
	"lingpai/internal/sidecar"
	"lingpai/internal/storecmd"
	"lingpai/tokens/wechat/wechattest"
)

// Set at build time: -ldflags "-X main.version=… -X main.commit=…".
var (
	version = "dev"
	commit  = ""
)

// Exit codes.
const (
	exitOK     = 0 // asked to stop, and drained
	exitFailed = 1 // failed while running
	exitUsage  = 2 // wrong flags or configuration
)

const usage = `lingpai: a sidecar that calls WeChat with the right token

  lingpai [serve] [-config config.yaml]   run the sidecar (SIGTERM drains, SIGHUP reloads)
  lingpai check [-config config.yaml]     name every fault of a configuration
  lingpai demo                            everything on this machine, with a simulated WeChat
  lingpai simulate [-listen ADDRESS]      the WeChat simulator alone, for tests
  lingpai import -from KIND               take over from another system; changes nothing without -write
  lingpai keygen                          a new key for store.encryption_keys
  lingpai rekey [-config F]               encrypt the whole store with the first key
  lingpai export [-config F] -o FILE      all records into an encrypted file
  lingpai restore [-config F] -i FILE     and back, into a store of any kind
  lingpai version                         version, commit, Go version

Each command tells its flags with -help.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	command := "serve"
	switch {
	case len(args) > 0 && (args[0] == "-version" || args[0] == "--version"):
		command = "version"
	case len(args) > 0 && (args[0] == "" || args[0][0] != '-'):
		command, args = args[0], args[1:]
	}
	switch command {
	case "serve":
		return serve(ctx, args, stderr)
	case "check":
		return check(args, stdout, stderr)
	case "demo":
		return demo.Main(ctx, args, stdout, stderr, buildInfo())
	case "simulate":
		return wechattest.Main(ctx, args, stdout, stderr)
	case "import":
		return importer.Main(ctx, args, stdout, stderr)
	case "keygen", "rekey", "export", "restore":
		return storecmd.Main(ctx, command, args, stdout, stderr)
	case "version":
		info := buildInfo()
		fmt.Fprintf(stdout, "lingpai %s commit %s %s\n", info.Version, info.Commit, info.GoVersion)
		return exitOK
	case "help":
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	fmt.Fprintf(stderr, "lingpai: there is no command %q\n\n%s", command, usage)
	return exitUsage
}

// buildInfo says what runs. Without ldflags, the commit is the one that Go
// noted.
func buildInfo() sidecar.Options {
	options := sidecar.Options{Version: version, Commit: commit, GoVersion: runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok && commit == "" {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				options.Commit = setting.Value
			}
		}
	}
	if options.Commit == "" {
		options.Commit = "unknown"
	}
	return options
}

// parse reads the flags of a command; done means that there is nothing to do,
// and code is the exit code.
func parse(name string, args []string, stderr io.Writer) (path string, done bool, code int) {
	flags := flag.NewFlagSet("lingpai "+name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage, "\nFlags of ", name, ":\n")
		flags.PrintDefaults()
	}
	file := flags.String("config", "config.yaml", "the configuration file")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return "", true, exitOK
	case err != nil:
		return "", true, exitUsage
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "lingpai %s: %q is no flag; write -config FILE\n", name, flags.Arg(0))
		return "", true, exitUsage
	}
	return *file, false, exitOK
}

func check(args []string, stdout, stderr io.Writer) int {
	path, done, code := parse("check", args, stderr)
	if done {
		return code
	}
	_, faults := config.Load(path, nil)
	config.Report(stdout, path, faults)
	if len(faults) > 0 {
		return exitUsage
	}
	return exitOK
}

func serve(ctx context.Context, args []string, stderr io.Writer) int {
	path, done, code := parse("serve", args, stderr)
	if done {
		return code
	}
	load := func() (config.Config, error) {
		c, faults := config.Load(path, nil)
		return c, faults.Err()
	}
	c, err := load()
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	collectGarbage()
	options := buildInfo()
	options.Load, options.Log = load, stderr
	s, err := sidecar.New(c, options)
	if err != nil {
		fmt.Fprintln(stderr, "lingpai:", err)
		if errors.Is(err, sidecar.ErrConfig) {
			return exitUsage
		}
		return exitFailed
	}
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	go func() {
		for range reload {
			s.Reload() // which logs what is wrong
		}
	}()
	go giveBackWhenQuiet(ctx)
	if err := s.Run(ctx); err != nil {
		return exitFailed
	}
	return exitOK
}
