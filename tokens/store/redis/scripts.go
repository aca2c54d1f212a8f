package redis

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/rueidis"
)

// Every script that writes begins with this: KEYS[1] is the schema, ARGV[1] the
// version this lingpai writes. A server that came back empty gets its version
// again with the first write, and nothing is written beside records of another
// one. Then KEYS[2] is free; ARGV[2] is the channel, ARGV[3] the notice.
//
// Scripts answer an array that begins with the outcome: 1 done, 0 not done, -1
// another schema. No script reads or writes a key that is not in KEYS. The first
// write of each is the one that may be refused for lack of memory, so that none
// stops half way.
const preamble = `
local version = redis.call('GET', KEYS[1])
if not version then
  redis.call('SET', KEYS[1], ARGV[1])
elseif version ~= ARGV[1] then
  return {-1, version}
end
`

func script(body string) *rueidis.Lua { return rueidis.NewLuaScript(preamble + body) }

var (
	// KEYS[2] alive; ARGV[4] the writer
	pingScript = script(`
redis.call('SET', KEYS[2], ARGV[4], 'PX', 60000)
return {1}
`)

	// KEYS[2] record, [3] index of its kind, [4] counts; ARGV[4] '1' if there was
	// a record, [5] its bytes, [6] the new bytes, [7] app id, [8] and [9] the state
	// before and now, '' if it is not counted. Not done: the bytes now there, or
	// nil.
	updateScript = script(`
local now = redis.call('GET', KEYS[2])
if (ARGV[4] == '1' and now ~= ARGV[5]) or (ARGV[4] == '0' and now) then
  return {0, now}
end
redis.call('SET', KEYS[2], ARGV[6])
redis.call('ZADD', KEYS[3], 0, ARGV[7])
if ARGV[8] ~= ARGV[9] then
  if ARGV[8] ~= '' then redis.call('HINCRBY', KEYS[4], ARGV[8], -1) end
  if ARGV[9] ~= '' then redis.call('HINCRBY', KEYS[4], ARGV[9], 1) end
end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return {1}
`)

	// KEYS[2] record, [3] authorizers, [4] counts; ARGV[4] its bytes, [5] app id,
	// [6] its state. Not done: the bytes now there, or nil.
	deleteAuthorizerScript = script(`
local now = redis.call('GET', KEYS[2])
if now ~= ARGV[4] then
  return {0, now}
end
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[5])
if ARGV[6] ~= '' then redis.call('HINCRBY', KEYS[4], ARGV[6], -1) end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return {1}
`)

	// KEYS[2] pushes, [3] order, [4] digests, [5] last Seq; ARGV[4] digest, [5]
	// bytes, [6] the least Seq. Done: the Seq. Not done: Seq and bytes of the one
	// that is pending.
	addPushScript = script(`
local pending = redis.call('HGET', KEYS[4], ARGV[4])
if pending then
  local bytes = redis.call('HGET', KEYS[2], pending)
  if bytes then return {0, pending, bytes} end
end
local last = tonumber(redis.call('GET', KEYS[5]) or '0')
local seq = string.format('%.0f', math.max(last + 1, tonumber(ARGV[6])))
redis.call('SET', KEYS[5], seq)
redis.call('HSET', KEYS[2], seq, ARGV[5])
redis.call('ZADD', KEYS[3], seq, seq)
redis.call('HSET', KEYS[4], ARGV[4], seq)
redis.call('PUBLISH', ARGV[2], ARGV[3])
return {1, seq}
`)

	// KEYS[2] pushes, [3] order, [4] digests; ARGV[4] Seq, [5] digest.
	deletePushScript = script(`
if redis.call('HDEL', KEYS[2], ARGV[4]) == 0 then
  return {0}
end
redis.call('ZREM', KEYS[3], ARGV[4])
if redis.call('HGET', KEYS[4], ARGV[5]) == ARGV[4] then
  redis.call('HDEL', KEYS[4], ARGV[5])
end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return {1}
`)

	// KEYS[1] lease; ARGV[1] owner. It stands without the preamble: a lease is
	// given up whatever the schema has become.
	releaseScript = rueidis.NewLuaScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
`)

	// KEYS[1] lease; ARGV[1] owner, [2] milliseconds.
	extendScript = rueidis.NewLuaScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
`)

	// KEYS[1] a string; ARGV[1] what it must be, '' for absent, [2] what it becomes.
	swapScript = rueidis.NewLuaScript(`
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
`)
)

var errAnswer = errors.New("the server's answer is not understood")

// run runs a script that sends no notice.
func (s *Store) run(ctx context.Context, lua *rueidis.Lua, keys []string, args ...string) (outcome, error) {
	return s.runNotice(ctx, lua, "", keys, args...)
}

// runNotice runs a script that begins with the preamble. The outcome's error is
// ErrNewer if the schema is a newer one.
func (s *Store) runNotice(ctx context.Context, lua *rueidis.Lua, notice string, keys []string, args ...string) (outcome, error) {
	keys = append([]string{s.keys.schema}, keys...)
	args = append([]string{s.version, s.keys.changes, notice}, args...)
	m, err := s.exec(ctx, func(ctx context.Context) rueidis.RedisResult {
		return lua.Exec(ctx, s.client, keys, args)
	})
	if err != nil {
		return outcome{}, err
	}
	answer, err := m.ToArray()
	if err != nil || len(answer) == 0 {
		return outcome{}, errAnswer
	}
	code, err := answer[0].AsInt64()
	switch {
	case err != nil:
		return outcome{}, errAnswer
	case code < 0 && len(answer) == 2:
		found, _ := answer[1].ToString()
		return outcome{}, s.otherSchema(found)
	case code < 0:
		return outcome{}, errAnswer
	}
	return outcome{done: code == 1, values: answer[1:]}, nil
}

// outcome of a script.
type outcome struct {
	done   bool
	values []rueidis.RedisMessage
}

// text returns the value at i; found is false if it is nil.
func (o outcome) text(i int) (text string, found bool, err error) {
	if i >= len(o.values) {
		return "", false, errAnswer
	}
	if o.values[i].IsNil() {
		return "", false, nil
	}
	text, err = o.values[i].ToString()
	if err != nil {
		return "", false, fmt.Errorf("%w: value %d", errAnswer, i)
	}
	return text, true, nil
}
