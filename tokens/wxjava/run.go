package wxjava

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"lingpai/tokens/secret"
)

const (
	// maxBatch is how many keys are written in one pipeline.
	maxBatch = 256

	// firstDelay and maxDelay bound the wait before a failed batch is tried again.
	firstDelay = 50 * time.Millisecond
	maxDelay   = 5 * time.Second
)

// publishScript has KEYS[1] hold ARGV[1] for ARGV[2] ms. It answers what it did
// and, for a value replaced, which one that was.
//
// It is a script and not SET with GET, because that one writes what is there
// already, which each sweep would cost every replica and the append-only file,
// and because it needs Redis 6.2, which the Redis of old services may not be. A
// key of another type is replaced like another value, where GET would fail for
// ever. A time to live that is off by less than 5 s stays: that much is the time
// between reckoning and writing.
//
// It is sent as text, not by its hash: some 400 bytes a key are cheaper than
// another right, another answer to handle and, in a cluster, a script to load on
// each node.
const publishScript = `
local held = redis.pcall('GET', KEYS[1])
if held == ARGV[1] then
  local off = redis.call('PTTL', KEYS[1]) - tonumber(ARGV[2])
  if off > -5000 and off < 5000 then return {0} end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if not held or held == ARGV[1] then return {1} end
if type(held) == 'table' then held = '' end
return {2, held}
`

// What publishScript has done.
const (
	didNothing = iota
	didWrite
	didReplace
)

var errAnswer = errors.New("redis: an answer that is none to our script")

// Run writes what is published until ctx ends. While Redis fails it tries again
// with growing waits of up to 5 s, and each attempt takes at most 3 s. When ctx
// ends while Redis works, what still waits is written in at most 3 s more: the
// last tokens before a restart are to be found there while lingpai is down.
// When Run returns no connection of it is left, but for one that was just being
// made, which ends within seconds. It must not run twice at a time.
func (p *Publisher) Run(ctx context.Context) {
	defer p.disconnect()
	for delay := firstDelay; ctx.Err() == nil; {
		did, err := p.write(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			p.failed(err)
			pause(ctx, delay/2+rand.N(delay/2))
			delay = min(2*delay, maxDelay)
			continue
		case did:
			p.works()
		}
		delay = firstDelay
		if p.queue.len() == 0 {
			p.dropping.Store(false)
			select {
			case <-p.queue.ready:
			case <-ctx.Done():
			}
		}
	}
	p.flush(context.WithoutCancel(ctx))
}

// flush writes what still waits, if Redis works.
func (p *Publisher) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	for p.client != nil && !p.failing && p.queue.len() > 0 {
		if _, err := p.write(ctx); err != nil {
			p.failed(err)
		}
	}
}

func (p *Publisher) disconnect() {
	if p.client != nil {
		p.client.Close()
		p.client = nil
	}
}

// failed tells of an attempt that failed.
func (p *Publisher) failed(err error) {
	p.observe(ResultError)
	if !p.failing {
		p.failing = true
		p.log.Warn("access tokens cannot be published for WxJava services, trying again", "redis", p.dialer.String(), "error", err)
	}
}

// works tells of one that did not.
func (p *Publisher) works() {
	if p.failing {
		p.failing = false
		p.log.Info("access tokens are published for WxJava services again", "redis", p.dialer.String(), "pending", p.queue.len())
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// write connects, if there is no connection yet, and writes one batch. It
// reports whether Redis was reached. What failed waits on.
func (p *Publisher) write(ctx context.Context) (reached bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	if p.client == nil {
		if p.client, err = p.dialer.Dial(ctx); err != nil {
			p.client = nil
			return false, err
		}
		reached = true
	}
	batch, commands := p.batch(time.Now())
	if len(batch) == 0 {
		return reached, nil
	}
	var again []item
	for n, answer := range p.client.DoMulti(ctx, commands...) {
		if e := p.settle(batch[n], answer); e != nil {
			again = append(again, batch[n])
			if err == nil {
				err = fmt.Errorf("publish: %w", p.dialer.Clean(e))
			}
		}
	}
	p.dropped(p.queue.putBack(again))
	return true, err
}

// batch takes items that are to be written at now, and makes the commands.
func (p *Publisher) batch(now time.Time) (batch []item, commands rueidis.Commands) {
	for _, i := range p.queue.take(maxBatch) {
		name := p.name(i.key)
		if i.delete {
			batch = append(batch, i)
			commands = append(commands, p.client.B().Del().Key(name).Build())
			continue
		}
		left := lifetime(i.expiresAt, now)
		if left <= 0 {
			p.observe(ResultExpired)
			continue
		}
		p.known.sending(i.key, i.value)
		batch = append(batch, i)
		commands = append(commands, p.client.B().Eval().Script(publishScript).Numkeys(1).Key(name).
			Arg(i.value.Reveal(), strconv.FormatInt(left.Milliseconds(), 10)).Build())
	}
	return batch, commands
}

// settle takes the answer to the command of i.
func (p *Publisher) settle(i item, answer rueidis.RedisResult) error {
	if i.delete {
		if err := answer.Error(); err != nil {
			return err
		}
		if i.forget {
			p.known.forget(i.key)
		}
		p.observe(ResultDeleted)
		return nil
	}
	parts, err := answer.ToArray()
	if err != nil {
		return err
	}
	if len(parts) == 0 {
		return errAnswer
	}
	did, err := parts[0].AsInt64()
	if err != nil {
		return errAnswer
	}
	held := ""
	if did == didReplace && len(parts) > 1 {
		if held, err = parts[1].ToString(); err != nil {
			return errAnswer
		}
	}
	p.settled(i.key, did, secret.New(held))
	return nil
}

// settled tells what was done for a key, which held another value if that was
// replaced.
func (p *Publisher) settled(of key, did int64, held secret.String) {
	foreign := did == didReplace && p.known.foreign(of, held)
	p.known.confirm(of)
	switch {
	case foreign:
		p.observe(ResultForeign)
		p.foreign(of.kind, of.appID, held)
	case did == didNothing:
		p.observe(ResultUnchanged)
	default:
		p.observe(ResultWritten)
	}
}
