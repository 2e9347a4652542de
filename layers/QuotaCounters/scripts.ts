/**
 * KEYS of every script, all of one hash slot: 1 the counters (hash: used, limit, version, reserved, run), 2 reservations
 * (hash upload → bytes), 3 expiries (sorted set upload → milliseconds), 4 commits that came before one that precedes them
 * (sorted set "upload used limit milliseconds" → version). ARGV 1 is the run id of the Redis that is asked.
 * A script answers `false` when the counters are missing or were made by another run, having changed nothing.
 * Invariant of all: `reserved` is the sum of key 2, and no reservation grows beyond `limit - used - reserved`.
 *
 * The figures after a commit contain all that committed before it. Taken over while reservations of those stand, they
 * would count these twice; so they wait, and the commit's own reservation stands for it, until the figures are the next
 * ones. After a second they wait no longer: a node may have died between a commit and its word of it.
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
local version = tonumber(redis.call('HGET', KEYS[1], 'version'))
local function take(used, limit, of)
  redis.call('HSET', KEYS[1], 'used', used, 'limit', limit, 'version', of)
  version = tonumber(of)
end
local function advance()
  while true do
    local first = redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')
    if #first == 0 then return end
    local upload, used, limit, since = string.match(first[1], '^(.*) (%d+) (%d+) (%d+)$')
    local of = tonumber(first[2])
    if of > version + 1 and now - tonumber(since) < 1000 then return end
    redis.call('ZREM', KEYS[4], first[1])
    drop(upload)
    if of > version then take(used, limit, first[2]) end
  end
end
advance()
local figures = redis.call('HMGET', KEYS[1], 'used', 'limit', 'reserved', 'version')
local used, limit, reserved = tonumber(figures[1]), tonumber(figures[2]), tonumber(figures[3])
local function hold(upload, held, bytes, lifetime)
  if bytes ~= held then
    redis.call('HINCRBY', KEYS[1], 'reserved', string.format('%.0f', bytes - held))
  end
  redis.call('HSET', KEYS[2], upload, string.format('%.0f', bytes))
  redis.call('ZADD', KEYS[3], string.format('%.0f', now + lifetime), upload)
end
`

const grant = `
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

/**
 * ARGV: run, upload, need, want, lifetime ms, upload whose reservation ends first or ''. Returns {1, bytes held} or
 * {0, used, reserved, limit}.
 */
export const reserve = `${prelude}
if ARGV[6] ~= '' then
  drop(ARGV[6])
  reserved = tonumber(redis.call('HGET', KEYS[1], 'reserved'))
end
${grant}`

/** ARGV: run, upload, need, want, lifetime ms. Returns as `reserve` does, or {2} when there is no reservation. */
export const extend = `${prelude}
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 0 then return {2} end
${grant}`

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

/**
 * ARGV: run, upload or '', used, limit, version ('' when there are none). Newer figures win: those of a commit when it
 * is the next one, others, which free bytes or change the limit, at once. Returns 1.
 */
export const settle = `${prelude}
local upload, of = ARGV[2], tonumber(ARGV[5])
if upload ~= '' and of and of > version + 1 then
  redis.call('ZADD', KEYS[4], ARGV[5], upload .. ' ' .. ARGV[3] .. ' ' .. ARGV[4] .. ' ' .. string.format('%.0f', now))
  return 1
end
if upload ~= '' then drop(upload) end
if of and of > version then
  take(ARGV[3], ARGV[4], ARGV[5])
  advance()
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
  if ARGV[5] == version then redis.call('DEL', KEYS[4]) end
  if ARGV[5] == version or tonumber(ARGV[4]) > tonumber(version) then
    redis.call('HSET', KEYS[1], 'used', ARGV[2], 'limit', ARGV[3], 'version', ARGV[4])
  end
  return 1
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
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
