#!lua
-- Decides transactions against token buckets, atomically and by Redis's clock. In a transaction
-- every bucket that is not a shadow must have its tokens; then all pay, otherwise none does.
-- Transactions with the same limits share a run: they are decided in order, each as if alone, and
-- may have buckets in common.
--
-- KEYS     the buckets of each transaction. A bucket is a hash:
--            tokens  whole tokens at the time of the last write
--            time    that time, in microseconds since the epoch
--            <spec>  the fraction of the next token at that time. Its unit depends on the limit's
--                    spec: refill interval (in microseconds) parts make a token. The field is
--                    named after the spec, so that it is never read under another one.
--          A missing bucket is full.
-- ARGV[1]  take: take the costs if allowed; peek: change nothing; refund: put the costs back, up
--          to the capacity; touch: change no bucket, but keep every key for the next 10 seconds
-- ARGV     then five for each bucket of a transaction; all transactions share them:
--            capacity, in tokens
--            refill tokens per refill interval
--            refill interval, in microseconds
--            name of the spec, an integer that stands for these three
--            1 for a shadow, else 0. A shadow never refuses, and pays if the transaction is allowed
--            and its own tokens are there
-- ARGV     then one for each of KEYS:
--            cost, in tokens, up to the capacity
--
-- Reply    four integers for each of KEYS:
--            1 if the bucket has the tokens, else 0
--            whole tokens left
--            microseconds until the same charge passes; 0 if it does now
--            microseconds until the bucket is full
--
-- All arithmetic is on integers below 2^53, which Lua's doubles hold exactly, provided that
-- capacity * refill_tokens and the time to full in microseconds are below 2^52. The product
-- capacity * interval may be larger and is never formed. Elapsed time * refill tokens is formed
-- only for an estimate.
--
-- Errors (a key of another type, a bucket with invalid fields) come before the first write. Redis
-- replicates the writes, not the script, so that reading TIME first is safe.

local call, ceil, floor, max = redis.call, math.ceil, math.floor, math.max
local takes, refunds, touches = ARGV[1] == 'take', ARGV[1] == 'refund', ARGV[1] == 'touch'
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]

local limits = {}
for i = 1, (#ARGV - 1 - #KEYS) / 5 do
  local capacity, refill, interval, spec_name, shadow = unpack(ARGV, 5 * i - 3, 5 * i + 1)
  local rest = interval % refill
  limits[i] = {
    capacity = tonumber(capacity),
    refill = tonumber(refill),
    interval = tonumber(interval),
    whole = (interval - rest) / refill,
    rest = rest,
    spec_name = spec_name,
    shadow = shadow == '1',
  }
end

-- Microseconds from a bucket's time until n more tokens have come, rounded up. A token takes
-- interval / refill = whole + rest / refill microseconds. It consists of `interval` parts, of which
-- `refill` come every microsecond.
local function wait_for(limit, bucket, n)
  return n * limit.whole + ceil((n * limit.rest - bucket.part) / limit.refill)
end

-- The bucket, refilled to now.
local function read(key, limit)
  local stored = call('HMGET', key, 'tokens', 'time', limit.spec_name)
  -- Lists every field, because a table that grows is slow. Eight fit without growing.
  local bucket = {
    limit = limit,
    stored = stored[1],
    tokens = limit.capacity,
    part = 0,
    until_full = 0,
    other_spec = false,
    stepped_back = false,
    update = false,
  }
  if not stored[1] then return bucket end

  local time = tonumber(stored[2])
  bucket.tokens = tonumber(stored[1])
  bucket.part = tonumber(stored[3] or 0)
  bucket.other_spec = not stored[3]
  bucket.stepped_back = time > now
  local elapsed = max(now - time, 0)
  if elapsed >= wait_for(limit, bucket, limit.capacity - bucket.tokens) then
    bucket.tokens, bucket.part = limit.capacity, 0  -- Full, or above a lowered capacity.
  else
    -- The quotient of doubles is off by one token at most; the loops correct it.
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
  -- Rounded up, because an expired bucket comes back full.
  local expires = ceil((now + bucket.until_full) / 1000)
  if bucket.other_spec then
    -- Never shortened: under the previous spec the bucket may be full later.
    expires = max(expires, call('PEXPIRETIME', key))
  end
  call('HSET', key, 'tokens', bucket.tokens, 'time', now, bucket.limit.spec_name, bucket.part)
  if bucket.other_spec then
    -- The previous spec's field must not be found again later. The key itself stays: while its
    -- slot moves to another node of a Cluster, it could not be created again.
    for _, field in ipairs(call('HKEYS', key)) do
      if field ~= 'tokens' and field ~= 'time' and field ~= bucket.limit.spec_name then
        call('HDEL', key, field)
      end
    end
  end
  if bucket.stored and not bucket.other_spec then
    -- If GT set nothing, the key lives long enough already, or has lost its expiry (PERSIST).
    if call('PEXPIREAT', key, expires, 'GT') == 1 or call('PEXPIRETIME', key) > 0 then return end
  end
  call('PEXPIREAT', key, expires)
end

-- Extends the life of a refused bucket until it is full under this spec. Under the spec that wrote
-- it, it may be full and expire earlier, and would come back full before the waits of this reply
-- are over. The fields stay unchanged: otherwise refusals under two specs in turns would drop each
-- other's fraction of a token, and neither would ever earn one.
local function extend(key, bucket)
  call('PEXPIREAT', key, ceil((now + bucket.until_full) / 1000), 'GT')
end

local function touch(key, bucket)
  local expires = ceil(now / 1000) + 10000
  if bucket.stored then
    call('PEXPIREAT', key, expires, 'GT')
  else
    call('HSET', key, 'tokens', bucket.tokens, 'time', now, bucket.limit.spec_name, 0)
    call('PEXPIREAT', key, expires)
  end
end

local buckets = {}   -- By key, with the effect of the transactions so far.
local has = {}       -- By position in the transaction: whether the bucket has its tokens.
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
    has[i] = refunds or tonumber(ARGV[costs + before + i]) <= bucket.tokens
    allowed = allowed and (has[i] or limit.shadow)
  end

  for i, limit in ipairs(limits) do
    local bucket = buckets[KEYS[before + i]]
    local cost = tonumber(ARGV[costs + before + i])
    if refunds then
      bucket.tokens = bucket.tokens + cost
      if bucket.tokens >= limit.capacity then bucket.tokens, bucket.part = limit.capacity, 0 end
      bucket.update = bucket.stored and write
    elseif takes and cost > 0 then
      if allowed and has[i] then bucket.tokens = bucket.tokens - cost end
      if (allowed and has[i]) or bucket.stepped_back then
        bucket.update = write
      elseif bucket.other_spec then
        bucket.update = bucket.update or extend
      end
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
  if touches then
    touch(key, bucket)
  elseif bucket.update and refunds and bucket.until_full == 0 then
    call('DEL', key)
  elseif bucket.update then
    bucket.update(key, bucket)
  end
end
return reply
