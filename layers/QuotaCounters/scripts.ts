/**
 * KEYS of every script, all of one hash slot: 1 the counters (hash: used, limit, version, reserved, run), 2 reservations
 * (hash upload → bytes), 3 expiries (sorted set upload → milliseconds). ARGV 1 is the run id of the Redis that is asked.
 * A script answers `false` when the counters are missing or were made by another run, having changed nothing.
 * Invariant of all: `reserved` is the sum of key 2, and no reservation grows beyond `limit - used - reserved`.
 */
const prelude = `
local run = redis.call('HGET', KEYS[1], 'run')
if run ~= ARGV[1] then return false end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function drop(upload)
  local bytes = redis.call('HGET', KEYS[2], upload)
  if bytes then
    redis.call('HDEL', KEYS[2], upload)
    -- Formatted from 0 - bytes, for the minus of an empty file's zero would be "-0", which is no integer to Redis.
    redis.call('HINCRBY', KEYS[1], 'reserved', string.format('%.0f', 0 - tonumber(bytes)))
  end
  redis.call('ZREM', KEYS[3], upload)
end
for _, upload in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 200)) do drop(upload) end
local figures = redis.call('HMGET', KEYS[1], 'used', 'limit', 'reserved', 'version')
local used, limit, reserved, version = tonumber(figures[1]), tonumber(figures[2]), tonumber(figures[3]), tonumber(figures[4])
local function hold(upload, held, bytes, lifetime)
  if bytes ~= held then
    redis.call('HINCRBY', KEYS[1], 'reserved', string.format('%.0f', bytes - held))
  end
  redis.call('HSET', KEYS[2], upload, string.format('%.0f', bytes))
  redis.call('ZADD', KEYS[3], string.format('%.0f', now + lifetime), upload)
end
`

/** ARGV: run, upload, need, want, lifetime ms. Returns {1, bytes held} or {0, used, reserved, limit}. */
export const reserve = `${prelude}
local need, want = tonumber(ARGV[3]), tonumber(ARGV[4])
local held = tonumber(redis.call('HGET', KEYS[2], ARGV[2]) or '0')
local room = limit - used - (reserved - held)
if need > held and need > room then
  return {0, figures[1], string.format('%.0f', reserved), figures[2]}
end
local bytes = math.max(held, math.min(want, room))
hold(ARGV[2], held, bytes, tonumber(ARGV[5]))
return {1, string.format('%.0f', bytes)}
`

/** ARGV: run, upload, bytes, lifetime ms. Prolongs; a reservation that was lost comes back if it fits. Returns 1. */
export const renew = `${prelude}
local held = tonumber(redis.call('HGET', KEYS[2], ARGV[2]) or '-1')
local bytes = tonumber(ARGV[3])
if held >= 0 then
  hold(ARGV[2], held, held, tonumber(ARGV[4]))
elseif bytes <= limit - used - reserved then
  hold(ARGV[2], 0, bytes, tonumber(ARGV[4]))
end
return 1
`

/** ARGV: run, upload or '', used, limit, version ('' when there are none). Newer figures win. Returns 1. */
export const settle = `${prelude}
if ARGV[2] ~= '' then drop(ARGV[2]) end
if ARGV[5] ~= '' and tonumber(ARGV[5]) > version then
  redis.call('HSET', KEYS[1], 'used', ARGV[3], 'limit', ARGV[4], 'version', ARGV[5])
end
return 1
`

/** ARGV: run. Returns {used, reserved, limit, version}. */
export const read = `${prelude}
return {figures[1], string.format('%.0f', reserved), figures[2], figures[4]}
`

/**
 * ARGV: run, used, limit, version, the version present counters must still have to be overruled, or '',
 * lifetime ms, then pairs of upload and bytes. Makes missing counters anew with these reservations; of present ones
 * takes over newer figures, or any if they are still of the version named. Returns 1.
 */
export const load = `
if redis.call('HGET', KEYS[1], 'run') == ARGV[1] then
  local version = redis.call('HGET', KEYS[1], 'version')
  if ARGV[5] == version or tonumber(ARGV[4]) > tonumber(version) then
    redis.call('HSET', KEYS[1], 'used', ARGV[2], 'limit', ARGV[3], 'version', ARGV[4])
  end
  return 1
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
local clock = redis.call('TIME')
local expiry = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[6]))
local reserved = 0
for i = 7, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  redis.call('ZADD', KEYS[3], expiry, ARGV[i])
  reserved = reserved + tonumber(ARGV[i + 1])
end
redis.call('HSET', KEYS[1], 'run', ARGV[1], 'used', ARGV[2], 'limit', ARGV[3], 'version', ARGV[4],
  'reserved', string.format('%.0f', reserved))
return 1
`
