package storecmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"lingpai/tokens/store"
	"lingpai/tokens/store/backup"
)

func (c *command) export(ctx context.Context) (err error) {
	conf, codec, err := c.load()
	if err != nil {
		return err
	}
	if codec, err = c.backupCodec(codec); err != nil {
		return err
	}
	if err := exists(conf); err != nil {
		return err
	}
	if _, err := os.Lstat(c.output); err == nil {
		return usagef("%s is there already: remove it or write another name", c.output)
	}
	// The file has its name only when it is complete.
	file, err := os.CreateTemp(filepath.Dir(c.output), filepath.Base(c.output)+".*.part") // of mode 0600
	if err != nil {
		return usageError{err}
	}
	defer func() {
		file.Close()
		if err != nil {
			os.Remove(file.Name())
		}
	}()
	s, err := openStore(conf)
	if err != nil {
		return err
	}
	defer s.Close()
	p := &progress{w: c.stderr, what: "exported"}
	w := bufio.NewWriterSize(file, 1<<20)
	counts, err := backup.Write(ctx, w, codec, s, idsOf(conf), p.one)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		// A link, unlike a rename, does not replace a file that has come since.
		err = os.Link(file.Name(), c.output)
		if err == nil {
			err = os.Remove(file.Name())
		} else if !errors.Is(err, os.ErrExist) {
			err = os.Rename(file.Name(), c.output) // a file system without links
		}
	}
	if err != nil {
		return err
	}
	if dir, err := os.Open(filepath.Dir(c.output)); err == nil {
		dir.Sync() // some file systems cannot
		dir.Close()
	}
	fmt.Fprintf(c.stderr, "exported %s into %s, encrypted with key %s\n", describe(counts), c.output, codec.KeyID())
	return nil
}

func (c *command) restore(ctx context.Context) error {
	conf, codec, err := c.load()
	if err != nil {
		return err
	}
	if codec, err = c.backupCodec(codec); err != nil {
		return err
	}
	if err := mayWrite(conf); err != nil {
		return err
	}
	file, err := os.Open(c.input)
	if err != nil {
		return usageError{err}
	}
	defer file.Close()
	// All of it is read before the first record is written.
	counts, err := backup.Verify(ctx, bufio.NewReaderSize(file, 1<<20), codec)
	if err != nil {
		return c.inputError(err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("%s cannot be read twice: %w", c.input, err)
	}
	s, err := openStore(conf)
	if err != nil {
		return err
	}
	defer s.Close()
	if !c.overwrite {
		empty, err := backup.Empty(ctx, s, idsOf(conf))
		if err != nil {
			return err
		}
		if !empty {
			return fmt.Errorf("%w: with -overwrite the records of the backup replace those it has", backup.ErrNotEmpty)
		}
	}
	p := &progress{w: c.stderr, what: "restored", of: counts.Total()}
	counts, err = backup.Restore(ctx, bufio.NewReaderSize(file, 1<<20), codec, s, c.overwrite, p.one)
	if err != nil {
		return fmt.Errorf("%w (some records are restored; run it again with -overwrite)", err)
	}
	if err := s.Close(); err != nil {
		return err
	}
	fmt.Fprintf(c.stderr, "restored %s from %s\n", describe(counts), c.input)
	return nil
}

func (c *command) inputError(err error) error {
	err = fmt.Errorf("%s: %w", c.input, err)
	if errors.Is(err, store.ErrKey) && c.key != "" {
		return usagef("%s: it is encrypted with another key than that of -key", c.input)
	}
	if errors.Is(err, store.ErrKey) || errors.Is(err, backup.ErrFormat) {
		return usageError{err}
	}
	return err
}

func describe(c backup.Counts) string {
	return fmt.Sprintf("%d authorizers, %d components, %d accounts, %d pushes, %d deliveries",
		c.Authorizers, c.Components, c.Accounts, c.Pushes, c.Deliveries)
}
