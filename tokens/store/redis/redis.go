// Package redis keeps lingpai's records in Redis, for one sidecar or many that
// serve the same platform.
//
// # Layout
//
// All keys begin with Options.KeyPrefix followed by a hash tag, {tag}:, that is
// made of the prefix; P stands for both. With the prefix lingpai: P is
// lingpai:{lingpai}: and all keys match lingpai:*. So a cluster keeps all
// records of a platform in one slot, where one script can change a record, the
// order and the counters together. A cluster is used for its failover: a million
// authorizers are about 1 GB and, renewed every two hours, 140 writes a second,
// which is little for one node. Several platforms in one cluster have several
// prefixes, and with them several slots.
//
//	P schema               string  version of this layout
//	P identity             string  names this set of records
//	P encryption_keys      string  ids of the keys that records may be encrypted with, if any
//	P component:<app id>   string  record, the bytes of package store's codec
//	P account:<app id>     string  record
//	P authorizer:<app id>  string  record
//	P components           zset    app ids of all components, score 0, so in order of their bytes
//	P accounts             zset    app ids of all accounts
//	P authorizers          zset    app ids of all authorizers
//	P counts               hash    state -> number of authorizers in it
//	P pushes               hash    Seq -> record; the Seq inside the record is 0, its field is what counts
//	P push_order           zset    Seqs of pending pushes, scored by themselves
//	P push_digests         hash    digest -> Seq of the pending push
//	P push_seq             string  last Seq given
//	P deliveries           hash    Seq -> record, its Seq as that of pushes
//	P delivery_ids         hash    ID -> Seq
//	P delivery_pending     zset    target, a zero byte and the Seq in 20 digits, score 0
//	P delivery_dead        zset    Seqs of dead letters, scored by themselves
//	P delivery_counts      hash    target -> how many are pending; a zero byte -> how many are dead
//	P delivery_targets     zset    targets that have some pending, score 0
//	P delivery_seq         string  last Seq given
//	P lease:<name>         string  owner; these three have a time to live, and nothing else
//	P note:<name>          string  hints between sidecars
//	P alive                string  written by Ping, gone after a minute
//	P changes              channel one message for each write: writer, kind, app id
//
// Updates compare and set: a script writes the new bytes only if the record
// still has the bytes that were read, else the update starts again. A command
// that may have reached the server is never sent twice.
//
// A Seq is the last one plus one, or the milliseconds since 1970 if that is
// more, so that Seqs go on growing when a server has lost the last ones.
//
// # Durability
//
// A write is as durable as the server makes it before it answers. Only with
//
//	appendonly yes
//	appendfsync always
//	maxmemory-policy noeviction
//
// does that mean fsync, as store.Store promises. With appendfsync everysec a
// crash of the machine loses up to two seconds, and a failover to a replica
// loses what had not been replicated (min-replicas-to-write bounds that; it does
// not end it). A lost refresh token comes back from api_get_authorizer_list. Open
// looks at these settings and warns. Records never get a time to live.
//
// # Rights
//
// What a user of Redis needs at least, for the prefix lingpai: (config|get is for
// the warnings of Open, cluster|slots and cluster|shards for a cluster, select
// for a database other than 0):
//
//	ACL SETUSER lingpai on >PASSWORD resetkeys ~lingpai:* resetchannels &lingpai:*
//	  -@all +ping +get +mget +set +del +pexpire +hget +hmget +hset +hdel +hincrby
//	  +zadd +zrem +zrangebylex +zrangebyscore +eval +evalsha
//	  +publish +subscribe +unsubscribe +config|get
//
// And for a follower, with Options.ReadOnly, which without +publish cannot ask
// for the tokens it needs, but reads those that others need:
//
//	ACL SETUSER follower on >PASSWORD resetkeys %R~lingpai:* resetchannels &lingpai:*
//	  -@all +ping +get +mget +hmget +zrangebylex +zrangebyscore
//	  +publish +subscribe +unsubscribe
//
// # Library
//
// The client is rueidis and not go-redis, for three reasons: it can be told
// never to send a command twice of its own accord, while go-redis's cluster
// client repeats scripts after network errors; concurrent commands share a
// connection, so that a thousand refreshes at once need no thousand connections;
// and its subscriptions tell when they are confirmed and when they have broken,
// which Watch rests on. Its client-side cache is not used: package tokens has
// its own in front of any store.
package redis

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

const (
	defaultDialTimeout      = 5 * time.Second
	defaultOperationTimeout = 3 * time.Second
)

// Options of Open.
type Options struct {
	// URL says where Redis is: redis://[[user]:password@]host[:6379][/database],
	// rediss:// for TLS, unix:///path/of/socket[?db=0];
	// redis+sentinel://host[:26379][,host…]/master[/database] with user and
	// password of the servers, those of the sentinels in sentinel_user and
	// sentinel_password; redis+cluster://host[:6379][,host…]. The last two also
	// with rediss, and with - for +. Further hosts may come as addr=host:port,
	// the master as master=name. ca_file=path names the roots (PEM) that TLS
	// trusts instead of the system's, server_name the name in the certificate
	// where it is not the host's.
	URL secret.String
	// Codec writes and reads the records; with keys, their secrets lie encrypted
	// in Redis.
	Codec store.Codec
	// KeyPrefix begins every key and channel. Stores of different prefixes do
	// not see each other. It may hold a {hash tag} of its own.
	KeyPrefix string
	// RootCAs are trusted by TLS instead of the system's, unless the URL has
	// ca_file.
	RootCAs *x509.CertPool
	// DialTimeout bounds the making of a connection; 0 means 5 s.
	DialTimeout time.Duration
	// OperationTimeout bounds each method, unless its context ends before; 0
	// means 3 s.
	OperationTimeout time.Duration
	// ReadOnly opens the records of others: nothing is written, and what would
	// write returns store.ErrReadOnly.
	ReadOnly bool
	// Log is told of settings of the server that may lose records, and of
	// interruptions of Watch; nil is nobody.
	Log *slog.Logger
}

// Store is a store.Shared in Redis. Create it with Open. Its methods are safe
// for concurrent use.
type Store struct {
	client  rueidis.Client
	keys    keys
	codec   store.Codec
	log     *slog.Logger
	timeout time.Duration
	// mask hides passwords in what a server answers.
	mask func(string) string
	// writer tells one's own changes from those of others.
	writer     string
	version    string
	migrations []migration
	readOnly   bool

	// turns let one update of a record at a time through: updates of one process
	// wait for each other here instead of failing to write.
	turns [64]chan struct{}

	// under counts what is under way, for Close to wait for it; mu keeps
	// anything from starting after closed was set.
	mu     sync.RWMutex
	closed bool
	under  sync.WaitGroup
	// life ends with Close.
	life context.Context
	end  context.CancelFunc
}

var (
	_ store.Shared = (*Store)(nil)
	_ store.Lister = (*Store)(nil)
)

// Open connects to Redis and makes sure that the records there are of the
// present layout; the error is store.ErrNewer if a newer lingpai wrote them, and
// store.ErrKey if opts.Codec lacks a key they may be encrypted with. No
// error shows a password. ctx bounds Open alone.
func Open(ctx context.Context, opts Options) (*Store, error) {
	return open(ctx, opts, migrations)
}

// open lets tests have other migrations.
func open(ctx context.Context, opts Options, migrations []migration) (*Store, error) {
	if opts.DialTimeout <= 0 {
		opts.DialTimeout = defaultDialTimeout
	}
	if opts.OperationTimeout <= 0 {
		opts.OperationTimeout = defaultOperationTimeout
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	t, err := parseURL(opts.URL.Reveal())
	if err != nil {
		return nil, fmt.Errorf("redis: url: %w", err)
	}
	keys, err := newKeys(opts.KeyPrefix)
	if err != nil {
		return nil, fmt.Errorf("redis: key prefix: %w", err)
	}
	option, err := t.clientOption(opts)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	client, err := connect(ctx, option)
	if err != nil {
		return nil, fmt.Errorf("redis: connect to %s: %w", t, clean(err, t.mask))
	}
	s := &Store{
		client:     client,
		keys:       keys,
		codec:      opts.Codec,
		log:        opts.Log,
		timeout:    opts.OperationTimeout,
		mask:       t.mask,
		writer:     rand.Text(),
		migrations: migrations,
		readOnly:   opts.ReadOnly,
		version:    fmt.Sprint(len(migrations) + 1),
	}
	for i := range s.turns {
		s.turns[i] = make(chan struct{}, 1)
	}
	s.life, s.end = context.WithCancel(context.Background())
	if err = s.prepare(ctx); err == nil {
		err = s.mark(ctx)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("redis: open %s: %w", t, err)
	}
	if !s.readOnly {
		s.advise(ctx)
	}
	return s, nil
}

// Ping implements store.Store. It writes, because a server that is a replica, or
// out of memory or disk, can still be read. One that is open for reading only
// reads.
func (s *Store) Ping(ctx context.Context) error {
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return fmt.Errorf("redis: ping: %w", err)
	}
	defer done()
	if s.readOnly {
		_, err = s.foundSchema(ctx)
	} else {
		_, err = s.run(ctx, pingScript, []string{s.keys.alive}, s.writer)
	}
	if err != nil {
		return fmt.Errorf("redis: ping: %w", err)
	}
	return nil
}

// Close implements store.Store. It ends Watch and must not be called by the
// functions given to it.
func (s *Store) Close() error {
	s.mu.Lock()
	was := s.closed
	s.closed = true
	s.mu.Unlock()
	if was {
		return fmt.Errorf("redis: close: %w", store.ErrClosed)
	}
	s.end()
	s.under.Wait()
	s.client.Close()
	return nil
}
