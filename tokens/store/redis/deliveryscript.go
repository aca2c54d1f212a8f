package redis

// deadField is the field of the counts of dead letters. It is in no name of a
// target.
const deadField = "\x00"

var (
	// KEYS[2] deliveries, [3] ids, [4] pending, [5] counts, [6] targets, [7] last
	// Seq; ARGV[4] the least Seq, then ID, target and bytes of each. Done: how many
	// were added.
	addDeliveriesScript = script(`
local last = tonumber(redis.call('GET', KEYS[7]) or '0')
local first = math.max(last + 1, tonumber(ARGV[4]))
local new = {}
for i = 5, #ARGV, 3 do
  if not redis.call('HGET', KEYS[3], ARGV[i]) then new[#new + 1] = i end
end
if #new == 0 then
  return {0}
end
redis.call('SET', KEYS[7], string.format('%.0f', first + #new - 1))
for n, i in ipairs(new) do
  local seq = string.format('%.0f', first + n - 1)
  redis.call('HSET', KEYS[2], seq, ARGV[i + 2])
  redis.call('HSET', KEYS[3], ARGV[i], seq)
  redis.call('ZADD', KEYS[4], 0, ARGV[i + 1] .. '\0' .. string.format('%020.0f', first + n - 1))
  redis.call('HINCRBY', KEYS[5], ARGV[i + 1], 1)
  redis.call('ZADD', KEYS[6], 0, ARGV[i + 1])
end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return {1, tostring(#new)}
`)

	// KEYS[2] deliveries, [3] ids, [4] pending, [5] dead, [6] counts, [7] targets,
	// [8] last Seq; ARGV[4] Seq, [5] the bytes that were read, [6] the new bytes, ''
	// to delete, [7] ID, [8] target, [9] and [10] '1' if it was and will be dead,
	// [11] the least Seq, [12] the Seq as a member. Not done: the bytes now there,
	// or nil. Done: the Seq.
	changeDeliveryScript = script(`
local now = redis.call('HGET', KEYS[2], ARGV[4])
if now ~= ARGV[5] then
  return {0, now}
end
local seq = ARGV[4]
if ARGV[6] ~= '' and ARGV[9] == ARGV[10] then
  redis.call('HSET', KEYS[2], seq, ARGV[6])
  return {1, seq}
end
local member = ARGV[12]
if ARGV[6] ~= '' then
  if ARGV[9] == '1' then
    local last = tonumber(redis.call('GET', KEYS[8]) or '0')
    local next = math.max(last + 1, tonumber(ARGV[11]))
    seq = string.format('%.0f', next)
    member = string.format('%020.0f', next)
    redis.call('SET', KEYS[8], seq)
  end
  redis.call('HSET', KEYS[2], seq, ARGV[6])
  redis.call('HSET', KEYS[3], ARGV[7], seq)
  if ARGV[10] == '1' then
    redis.call('ZADD', KEYS[5], seq, seq)
    redis.call('HINCRBY', KEYS[6], '\0', 1)
  else
    redis.call('ZADD', KEYS[4], 0, ARGV[8] .. '\0' .. member)
    redis.call('HINCRBY', KEYS[6], ARGV[8], 1)
    redis.call('ZADD', KEYS[7], 0, ARGV[8])
    redis.call('PUBLISH', ARGV[2], ARGV[3])
  end
end
if ARGV[6] == '' or seq ~= ARGV[4] then
  redis.call('HDEL', KEYS[2], ARGV[4])
end
if ARGV[6] == '' then
  redis.call('HDEL', KEYS[3], ARGV[7])
end
local field = ARGV[8]
if ARGV[9] == '1' then
  redis.call('ZREM', KEYS[5], ARGV[4])
  field = '\0'
else
  redis.call('ZREM', KEYS[4], ARGV[8] .. '\0' .. ARGV[12])
end
if redis.call('HINCRBY', KEYS[6], field, -1) <= 0 then
  redis.call('HDEL', KEYS[6], field)
  if field ~= '\0' then redis.call('ZREM', KEYS[7], field) end
end
return {1, seq}
`)
)
