// Package bolt keeps lingpai's records in one file on the local disk, for one
// process, with go.etcd.io/bbolt.
//
// A write is one transaction of the file and has been fsynced when its method
// returns. Concurrent writes share a transaction, and with it the fsync. A
// reader can see a write while it is being fsynced; nothing that is promised
// to WeChat may rest on a read alone, which is why AddPush looks for a
// duplicate in a write transaction.
package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"lingpai/tokens/store"
)

const (
	defaultLockTimeout = time.Second

	// batchDelay is how long a write waits for others to share its fsync with.
	// It is about what an fsync takes on an SSD: a lone write, of which each
	// credential has one in two hours, gets slower by that much, while a
	// thousand at once need a few fsyncs.
	batchDelay = time.Millisecond
)

// Options of Open.
type Options struct {
	// LockTimeout is how long Open waits for another process to let go of the
	// file; 0 means 1 s.
	LockTimeout time.Duration
	// Codec writes and reads the records; with keys, their secrets lie
	// encrypted in the file.
	Codec store.Codec
}

// Store is a store.Store in a file. Create it with Open. Its methods are safe
// for concurrent use. The function given to an Update method runs on another
// goroutine, inside the one write transaction of the file.
type Store struct {
	db    *bbolt.DB
	codec store.Codec

	// under counts the operations under way, for Close to wait for them; mu
	// keeps one from starting after closed was set. (Not mu alone, held through
	// each operation: a goroutine that waits for a mutex would stop the clock of
	// testing/synctest, which a shared transaction waits for.)
	mu     sync.RWMutex
	closed bool
	under  sync.WaitGroup
}

var (
	_ store.Store  = (*Store)(nil)
	_ store.Lister = (*Store)(nil)
)

// Open opens the file at path, or creates it with mode 0600 in a directory that
// must exist. The error is store.ErrLocked if another process has it open,
// store.ErrNewer if a newer lingpai wrote it, and store.ErrKey if values in it
// may be encrypted with a key that opts.Codec does not have.
func Open(path string, opts Options) (*Store, error) {
	return open(path, opts, func(*bbolt.Options) {})
}

// open lets tests change the options of the engine.
func open(path string, opts Options, tune func(*bbolt.Options)) (*Store, error) {
	dir := filepath.Dir(path)
	if info, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("bolt: open %s: its directory must exist: %w", path, err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("bolt: open %s: %s is not a directory", path, dir)
	}
	if opts.LockTimeout <= 0 {
		opts.LockTimeout = defaultLockTimeout
	}
	options := &bbolt.Options{
		Timeout: opts.LockTimeout,
		// The list of free pages is written with each transaction, 8 bytes for
		// each: a few hundred pages as a rule, so next to nothing. Without it
		// (NoFreelistSync) opening has to visit every page of the file: many
		// seconds for a million authorizers on a cold disk.
		NoFreelistSync: false,
		// The default, an array, becomes slow when many pages are free.
		FreelistType: bbolt.FreelistMapType,
		// Nobody reads them, and they cost every transaction a lock.
		NoStatistics: true,
		// MmapFlags stays empty: MAP_POPULATE would read the whole file at
		// start, while records are read on use.
	}
	tune(options)
	db, err := lock(path, options)
	if err != nil {
		return nil, err
	}
	db.MaxBatchDelay = batchDelay
	if err := prepare(db, opts.Codec); err != nil {
		db.Close()
		return nil, fmt.Errorf("bolt: open %s: %w", path, err)
	}
	if err := syncDir(path); err != nil {
		db.Close()
		return nil, fmt.Errorf("bolt: open %s: sync its directory: %w", path, err)
	}
	return &Store{db: db, codec: opts.Codec}, nil
}

// lock opens the file at path and locks it. Rekey puts another file in the place
// of the one it has locked: who waited for that lock would then write to a file
// without a name, so it has to be looked at again.
func lock(path string, options *bbolt.Options) (*bbolt.DB, error) {
	var file *os.File
	options.OpenFile = func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
		file, err = os.OpenFile(name, flag, mode)
		return file, err
	}
	for {
		db, err := bbolt.Open(path, 0o600, options)
		if errors.Is(err, bolterrors.ErrTimeout) {
			return nil, fmt.Errorf("bolt: open %s: %w (a bolt store is for one process; use store.kind redis for several)",
				path, store.ErrLocked)
		}
		if err != nil {
			return nil, fmt.Errorf("bolt: open %s: %w", path, err)
		}
		opened, err := file.Stat()
		if err == nil {
			var named os.FileInfo
			if named, err = os.Stat(path); err == nil && os.SameFile(opened, named) {
				return db, nil
			}
		}
		db.Close()
		if err != nil {
			return nil, fmt.Errorf("bolt: open %s: %w", path, err)
		}
	}
}

// syncDir makes the file's name durable. Without it a power cut may take away a
// file that was just created, with all that was fsynced into it.
func syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(real))
	if err != nil {
		return err
	}
	defer dir.Close()
	// Some file systems cannot sync a directory; there is nothing to be done.
	if err := dir.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// Ping implements store.Store.
func (s *Store) Ping(ctx context.Context) error {
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		_, err := schemaOf(tx)
		return err
	})
	if err != nil {
		return fmt.Errorf("bolt: ping: %w", err)
	}
	return nil
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	was := s.closed
	s.closed = true
	s.mu.Unlock()
	if was {
		return fmt.Errorf("bolt: close: %w", store.ErrClosed)
	}
	s.under.Wait()
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("bolt: close: %w", err)
	}
	return nil
}
