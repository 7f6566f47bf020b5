#!lua
-- Decides transactions against token buckets, atomically, by Redis's clock: of
-- each, all buckets that are not shadows must have their tokens, then all pay.
-- Several transactions, of limits with the same numbers, are decided one after
-- the other, each as if alone; they may have buckets in common.
--
-- KEYS     for each transaction its buckets, each a hash of
--            tokens     whole tokens when it was last written
--            time       when that was, in microseconds since the epoch
--            <numbers>  a field named by the numbers that it was written under:
--                       how much of the next token had come, in parts of which
--                       the refill interval in microseconds make a token. Under
--                       other numbers it is not found, and so never read in the
--                       wrong unit.
--          A missing bucket is a full one.
-- ARGV[1]  take: take the costs if all is allowed; look: change nothing;
--          give: put the costs back, up to the capacity; keep: change no bucket,
--          but have its key be there for the next 10 seconds, full or not
-- ARGV     then five for each bucket of a transaction, the same for all of them:
--            capacity, in tokens
--            refill tokens: so many come in every refill interval
--            refill interval, in microseconds
--            the name of these three numbers, an integer
--            1 for a shadow, which does not refuse, and pays if the transaction
--            is allowed and its own tokens are there; else 0
-- ARGV     then one for each of KEYS:
--            cost, in tokens, at most the capacity
--
-- Reply    four integers for each of KEYS: 1 if the bucket has the tokens, else 0;
--          whole tokens left; microseconds until the same charge passes, 0 if it
--          does; microseconds until the bucket is full
--
-- All arithmetic is on integers below 2^53, which Lua's doubles hold exactly,
-- provided capacity * refill_tokens and the time to full in microseconds are
-- below 2^52. Never formed, for it may be larger: capacity * interval. Elapsed
-- time * refill tokens is formed for an estimate alone.
--
-- What fails, fails before the first write: a key of another type, a bucket that
-- holds nonsense. Redis propagates the writes, not the script, so TIME may be read
-- before them.

local call, ceil, floor, max = redis.call, math.ceil, math.floor, math.max
local gives, takes, keeps = ARGV[1] == 'give', ARGV[1] == 'take', ARGV[1] == 'keep'
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]

local limits = {}
for i = 1, (#ARGV - 1 - #KEYS) / 5 do
  local capacity, refill, interval, numbers, shadow = unpack(ARGV, 5 * i - 3, 5 * i + 1)
  local rest = interval % refill
  limits[i] = {
    capacity = tonumber(capacity),
    refill = tonumber(refill),
    interval = tonumber(interval),
    whole = (interval - rest) / refill,
    rest = rest,
    numbers = numbers,
    shadow = shadow == '1',
  }
end

-- Microseconds after a bucket's time until its n-th further token has come,
-- rounded up. A token takes interval / refill = whole + rest / refill
-- microseconds, and is made of `interval` parts, of which `refill` come every
-- microsecond.
local function wait_for(limit, bucket, n)
  return n * limit.whole + ceil((n * limit.rest - bucket.part) / limit.refill)
end

-- The bucket as it is now.
local function read(key, limit)
  local stored = call('HMGET', key, 'tokens', 'time', limit.numbers)
  -- Every field that it will have, for a table that grows is slow.
  local bucket = {
    limit = limit,
    stored = stored[1],
    tokens = limit.capacity,
    part = 0,
    until_full = 0,
    other_numbers = false,
    stepped_back = false,
    changed = false,
    waits_told = false,
  }
  if not stored[1] then return bucket end

  local time = tonumber(stored[2])
  bucket.tokens = tonumber(stored[1])
  bucket.part = tonumber(stored[3] or 0)
  bucket.other_numbers = not stored[3]
  bucket.stepped_back = time > now
  local elapsed = max(now - time, 0)
  if elapsed >= wait_for(limit, bucket, limit.capacity - bucket.tokens) then
    bucket.tokens, bucket.part = limit.capacity, 0  -- Or lowered below what is there.
  else
    -- The quotient of doubles is off by a token at the most; the loops settle it.
    local earned = floor((elapsed * limit.refill + bucket.part) / limit.interval)
    while wait_for(limit, bucket, earned) > elapsed do earned = earned - 1 end
    while wait_for(limit, bucket, earned + 1) <= elapsed do earned = earned + 1 end
    bucket.tokens = bucket.tokens + earned
    bucket.part = (elapsed - earned * limit.whole) * limit.refill
                  + (bucket.part - earned * limit.rest)
  end
  return bucket
end

local function write(key, bucket)
  -- Rounded up: a bucket that expired before it is full would come back full.
  local expires = ceil((now + bucket.until_full) / 1000)
  if bucket.other_numbers then
    -- Nor does it expire before it would be full under the numbers that wrote it
    -- before: it may hold more under them.
    expires = max(expires, call('PEXPIRETIME', key))
  end
  call('HSET', key, 'tokens', bucket.tokens, 'time', now, bucket.limit.numbers, bucket.part)
  if bucket.other_numbers then
    -- A field left from other numbers must not be found again later. The key stays:
    -- of a slot that a Cluster's node gives away it could not be made again.
    for _, field in ipairs(call('HKEYS', key)) do
      if field ~= 'tokens' and field ~= 'time' and field ~= bucket.limit.numbers then
        call('HDEL', key, field)
      end
    end
  end
  if bucket.stored and not bucket.other_numbers then
    -- Where it was not set, the key lives long enough, or for ever (somebody's PERSIST).
    if call('PEXPIREAT', key, expires, 'GT') == 1 or call('PEXPIRETIME', key) > 0 then return end
  end
  call('PEXPIREAT', key, expires)
end

-- Keeps the key of a refused bucket until it is full under this spec: under the one that it was
-- written under it may be full earlier, and an expired bucket comes back full before the waits
-- that are told now are over. The fields stay: refusals under two specs in turns would else drop
-- each other's fraction of a token, and neither would ever earn one.
local function extend(key, bucket)
  call('PEXPIREAT', key, ceil((now + bucket.until_full) / 1000), 'GT')
end

local function keep(key, bucket)
  local expires = ceil(now / 1000) + 10000
  if bucket.stored then
    call('PEXPIREAT', key, expires, 'GT')
  else
    call('HSET', key, 'tokens', bucket.tokens, 'time', now, bucket.limit.numbers, 0)
    call('PEXPIREAT', key, expires)
  end
end

local buckets = {}   -- By key, as they are after the transactions so far.
local has = {}       -- Whether the i-th bucket of a transaction has its tokens.
local reply = {}
local costs = #ARGV - #KEYS
for before = 0, #KEYS - 1, #limits do
  local allowed = true
  for i, limit in ipairs(limits) do
    local key = KEYS[before + i]
    local bucket = buckets[key]
    if not bucket then
      bucket = read(key, limit)
      buckets[key] = bucket
    end
    has[i] = gives or tonumber(ARGV[costs + before + i]) <= bucket.tokens
    allowed = allowed and (has[i] or limit.shadow)
  end

  for i, limit in ipairs(limits) do
    local bucket = buckets[KEYS[before + i]]
    local cost = tonumber(ARGV[costs + before + i])
    if gives then
      bucket.tokens = bucket.tokens + cost
      if bucket.tokens >= limit.capacity then bucket.tokens, bucket.part = limit.capacity, 0 end
      bucket.changed = bucket.stored
    elseif takes and cost > 0 then
      if allowed and has[i] then bucket.tokens = bucket.tokens - cost end
      bucket.changed = bucket.changed or (allowed and has[i]) or bucket.stepped_back
      bucket.waits_told = true
    end

    bucket.until_full = wait_for(limit, bucket, limit.capacity - bucket.tokens)
    local at = 4 * (before + i)
    reply[at - 3] = has[i] and 1 or 0
    reply[at - 2] = bucket.tokens
    reply[at - 1] = has[i] and 0 or wait_for(limit, bucket, cost - bucket.tokens)
    reply[at] = bucket.until_full
  end
end

for key, bucket in pairs(buckets) do
  if keeps then
    keep(key, bucket)
  elseif bucket.changed and gives and bucket.until_full == 0 then
    call('DEL', key)
  elseif bucket.changed then
    write(key, bucket)
  elseif bucket.waits_told and bucket.other_numbers then
    extend(key, bucket)
  end
end
return reply
