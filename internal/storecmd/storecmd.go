// Package storecmd is the commands about what a store holds: keygen, rekey,
// export and restore.
package storecmd

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"lingpai/internal/config"
	"lingpai/internal/sidecar"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/store/backup"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // failed while running
	exitUsage  = 2 // wrong flags or configuration
)

// usageError is an error that a person mends in flags or configuration.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// about says what each command does, for -help.
var about = map[string]string{
	"keygen": "prints a new random key for store.encryption_keys: 32 bytes in Base64",
	"rekey": "encrypts all secrets in the store with the first of store.encryption_keys.\n" +
		"A bolt store is written anew, and must not be in use. Redis may be, if all that\n" +
		"use it have the same first key",
	"export": "writes all records of the store into a file, encrypted with the first of\n" +
		"store.encryption_keys or with -key. A bolt store must not be in use",
	"restore": "writes the records of a file of lingpai export into the store, of whatever kind.\n" +
		"A bolt store must not be in use",
}

// command is one run of a command.
type command struct {
	name   string
	stderr io.Writer

	// The flags; a command has those that mean something to it.
	config, output, input, key string
	overwrite                  bool
}

// Main runs the command keygen, rekey, export or restore and returns its exit
// code.
func Main(ctx context.Context, name string, args []string, stdout, stderr io.Writer) int {
	c := &command{name: name, stderr: stderr}
	err := c.parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err == nil {
		switch name {
		case "keygen":
			_, err = fmt.Fprintln(stdout, store.NewKey().Reveal())
		case "rekey":
			err = c.rekey(ctx)
		case "export":
			err = c.export(ctx)
		case "restore":
			err = c.restore(ctx)
		}
	}
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "lingpai %s: %v\n", name, err)
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

func (c *command) parse(args []string) error {
	flags := flag.NewFlagSet("lingpai "+c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // Main prints errors
	if c.name != "keygen" {
		flags.StringVar(&c.config, "config", "config.yaml", "the configuration file")
	}
	switch c.name {
	case "export":
		flags.StringVar(&c.output, "o", "", "the file to write; it must not exist")
	case "restore":
		flags.StringVar(&c.input, "i", "", "the file to read")
		flags.BoolVar(&c.overwrite, "overwrite", false, "replace records that the store has already")
	}
	if c.name == "export" || c.name == "restore" {
		flags.StringVar(&c.key, "key", "", "env:NAME or file:/path of the key of the file, in place of store.encryption_keys")
	}
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(c.stderr, "lingpai %s %s.\n\n", c.name, about[c.name])
		flags.SetOutput(c.stderr)
		flags.PrintDefaults()
		return err
	case err != nil:
		return usageError{err}
	case flags.NArg() > 0:
		return usagef("%q is no flag; see lingpai %s -help", flags.Arg(0), c.name)
	case c.name == "export" && c.output == "":
		return usagef("write -o FILE: the file to write")
	case c.name == "restore" && c.input == "":
		return usagef("write -i FILE: the file to read")
	}
	return nil
}

// load reads the configuration and the keys in it.
func (c *command) load() (config.Config, store.Codec, error) {
	conf, faults := config.Load(c.config, nil)
	if err := faults.Err(); err != nil {
		return conf, store.Codec{}, usageError{err}
	}
	if conf.Store.Kind == "memory" {
		return conf, store.Codec{}, usagef("store.kind is memory: outside of the process that serves there is nothing of it")
	}
	codec, err := store.NewCodec(conf.Store.EncryptionKeys...)
	if err != nil {
		return conf, codec, usagef("store.encryption_keys: %w", err)
	}
	return conf, codec, nil
}

// exists refuses a bolt file that is not there: opening it would make it.
func exists(conf config.Config) error {
	if _, err := os.Stat(conf.Store.Path); conf.Store.Kind == "bolt" && errors.Is(err, os.ErrNotExist) {
		return usagef("store.path: there is no file %s", conf.Store.Path)
	}
	return nil
}

// mayWrite refuses the configuration of a sidecar that only reads.
func mayWrite(conf config.Config) error {
	if conf.Store.Follower() {
		return usagef("store.role is follower, which writes nothing: use the configuration of a sidecar that refreshes")
	}
	return nil
}

// openStore opens the store of conf.
func openStore(conf config.Config) (store.Store, error) {
	s, err := sidecar.OpenStore(conf.Store, nil)
	return s, explain(err)
}

// explain says what to do about an error of opening.
func explain(err error) error {
	switch {
	case errors.Is(err, store.ErrLocked):
		return fmt.Errorf("%w: stop the lingpai that uses it first", err)
	case errors.Is(err, store.ErrKey), errors.Is(err, sidecar.ErrConfig):
		return usageError{err}
	}
	return err
}

// backupCodec is the codec of a backup: with -key its key, else codec.
func (c *command) backupCodec(codec store.Codec) (store.Codec, error) {
	if c.key != "" {
		key, err := readKey(c.key)
		if err != nil {
			return store.Codec{}, usagef("-key: %w", err)
		}
		return store.NewCodec(key)
	}
	if !codec.Encrypts() {
		return codec, usagef("a backup is always encrypted: set store.encryption_keys, or name a key with -key env:NAME or -key file:/path (lingpai keygen makes one)")
	}
	return codec, nil
}

// readKey reads what a reference, written as in the configuration, names. No
// error repeats it: it may be the key itself.
func readKey(reference string) (secret.String, error) {
	var text string
	if name, ok := strings.CutPrefix(reference, "env:"); ok {
		if text, ok = os.LookupEnv(name); !ok {
			return secret.String{}, errors.New("the environment variable named here is not set")
		}
	} else if path, ok := strings.CutPrefix(reference, "file:"); ok {
		data, err := os.ReadFile(path)
		if err != nil {
			if pathError, ok := errors.AsType[*os.PathError](err); ok {
				err = pathError.Err
			}
			return secret.String{}, fmt.Errorf("the file named here: %w", err)
		}
		text = string(data)
	} else {
		return secret.String{}, errors.New("a key is never a literal: write env:NAME or file:/path")
	}
	text = strings.TrimRight(text, "\r\n")
	if key, err := base64.StdEncoding.DecodeString(text); err != nil || len(key) != 32 {
		return secret.String{}, errors.New("what is referred to is not 32 bytes in Base64: lingpai keygen makes a key")
	}
	return secret.New(text), nil
}

// idsOf are the app ids that conf names.
func idsOf(conf config.Config) backup.IDs {
	var ids backup.IDs
	if conf.Component != nil {
		ids.Components = []string{conf.Component.AppID}
	}
	for _, account := range conf.Accounts {
		ids.Accounts = append(ids.Accounts, account.AppID)
	}
	return ids
}
