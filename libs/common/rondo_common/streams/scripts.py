"""The Lua that changes a partition's view in Redis. Each script is one atomic step.

KEYS are always the partition's three: states (hash), index (sorted set by name), timers (sorted set
by due time). They share a hash tag, so they lie on one node of a cluster.
"""

APPLY = """
-- Set states, remove states, add to the index, set timers, move the position: all or, when the
-- position is not the expected one, nothing. Counts first, then the lists they count.
if redis.call('HGET', KEYS[1], '~~pos') ~= ARGV[1] then return {0} end
local i = 8
local function each(n, size, call)
  local last = i + n - 1
  while i <= last do
    local to = math.min(i + size - 1, last)
    call(i, to)
    i = to + 1
  end
end
each(tonumber(ARGV[4]), 2000, function(a, b) redis.call('HSET', KEYS[1], unpack(ARGV, a, b)) end)
each(tonumber(ARGV[5]), 2000, function(a, b)
  redis.call('HDEL', KEYS[1], unpack(ARGV, a, b))
  redis.call('ZREM', KEYS[2], unpack(ARGV, a, b))
end)
each(tonumber(ARGV[6]), 1000, function(a, b)
  local scored = {}
  for at = a, b do
    scored[#scored + 1] = 0
    scored[#scored + 1] = ARGV[at]
  end
  redis.call('ZADD', KEYS[2], unpack(scored))
end)
each(tonumber(ARGV[7]), 2, function(a, b)
  if ARGV[b] == '' then redis.call('ZREM', KEYS[3], ARGV[a]) else redis.call('ZADD', KEYS[3], ARGV[b], ARGV[a]) end
end)
redis.call('HSET', KEYS[1], '~~pos', ARGV[2], '~~at', ARGV[3])
local first = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
return {1, redis.call('ZCARD', KEYS[3]), first[2] or ''}
"""

WIPE = """
-- Forget the partition and begin a restore: ARGV = marker, cluster id, topic id.
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
redis.call('HSET', KEYS[1], '~~pos', ARGV[1], '~~cluster', ARGV[2], '~~topic', ARGV[3])
return 1
"""

RANGE = """
-- Names from the index with their position: ARGV = expected position, from, to, how many.
-- nil when the position is another one.
if redis.call('HGET', KEYS[1], '~~pos') ~= ARGV[1] then return false end
return redis.call('ZRANGEBYLEX', KEYS[2], ARGV[2], ARGV[3], 'LIMIT', 0, ARGV[4])
"""

DUE = """
-- Owners with due timers, earliest first, with their position: ARGV = expected position, until, how many.
if redis.call('HGET', KEYS[1], '~~pos') ~= ARGV[1] then return false end
return redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', ARGV[2], 'WITHSCORES', 'LIMIT', 0, ARGV[3])
"""
