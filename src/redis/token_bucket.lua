#!lua
-- Decides transactions against one or more token buckets, atomically, by Redis's
-- clock: all buckets that are not shadows must have their tokens, then all pay.
-- Several transactions, which differ in their costs alone, are decided one after
-- the other, each as if alone.
--
-- KEYS     the buckets, each a hash of
--            tokens     whole tokens when it was last written
--            time       when that was, in microseconds since the epoch
--            <numbers>  a field named by the numbers that it was written under:
--                       how much of the next token had come, in parts of which
--                       the refill interval in microseconds make a token. Under
--                       other numbers it is not found, and so never read in the
--                       wrong unit.
--          A missing bucket is a full one.
-- ARGV[1]  take: take the costs if all is allowed; look: change nothing;
--          give: put the costs back, up to the capacity
-- ARGV     then five for each key:
--            capacity, in tokens
--            refill tokens: so many come in every refill interval
--            refill interval, in microseconds
--            the name of these three numbers, an integer
--            1 for a shadow, which does not refuse, and pays if the transaction
--            is allowed and its own tokens are there; else 0
-- ARGV     then, for each transaction, one for each key:
--            cost, in tokens, at most the capacity
--
-- Reply    for each transaction four integers for each key: 1 if the bucket has
--          the tokens, else 0; whole tokens left; microseconds until the same
--          charge passes, 0 if it does; microseconds until the bucket is full
--
-- All arithmetic is on integers below 2^53, which Lua's doubles hold exactly,
-- provided capacity * refill_tokens and the time to full in microseconds are
-- below 2^52. Never formed, for it may be larger: capacity * interval. Elapsed
-- time * refill tokens is formed for an estimate alone.
--
-- Redis propagates the writes, not the script, so TIME may be read before them.

local action = ARGV[1]
local gives, takes = action == 'give', action == 'take'
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

-- Microseconds after a bucket's time until its n-th further token has come,
-- rounded up. A token takes interval / refill = whole + rest / refill
-- microseconds, and is made of `interval` parts, of which `refill` come every
-- microsecond.
local function wait_for(bucket, n)
  return n * bucket.whole + math.ceil((n * bucket.rest - bucket.part) / bucket.refill)
end

-- The bucket as it is now.
local function refilled(key, capacity, refill, interval, numbers)
  local rest = interval % refill
  local stored = redis.call('HMGET', key, 'tokens', 'time', numbers)
  local bucket = {
    capacity = capacity,
    refill = refill,
    rest = rest,
    whole = (interval - rest) / refill,
    tokens = capacity,
    part = 0,
    stored = stored[1],
  }
  if not stored[1] then return bucket end

  local time = tonumber(stored[2])
  bucket.tokens = tonumber(stored[1])
  bucket.part = tonumber(stored[3] or 0)
  bucket.other_numbers = not stored[3]
  bucket.stepped_back = time > now
  local elapsed = math.max(now - time, 0)
  if elapsed >= wait_for(bucket, capacity - bucket.tokens) then
    bucket.tokens, bucket.part = capacity, 0  -- Or lowered below what is there.
  else
    -- The quotient of doubles is off by a token at the most; the loops settle it.
    local earned = math.floor((elapsed * refill + bucket.part) / interval)
    while wait_for(bucket, earned) > elapsed do earned = earned - 1 end
    while wait_for(bucket, earned + 1) <= elapsed do earned = earned + 1 end
    bucket.tokens = bucket.tokens + earned
    bucket.part = (elapsed - earned * bucket.whole) * refill + (bucket.part - earned * rest)
  end
  return bucket
end

local function write(key, bucket, numbers)
  -- Rounded up: a bucket that expired before it is full would come back full.
  local expires = math.ceil((now + bucket.until_full) / 1000)
  if bucket.other_numbers then
    -- Nor does it expire before it would be full under the numbers that wrote it
    -- before: it may hold more under them.
    expires = math.max(expires, redis.call('PEXPIRETIME', key))
    -- A field left from other numbers must not be found again later.
    redis.call('DEL', key)
  end
  redis.call('HSET', key, 'tokens', bucket.tokens, 'time', now, numbers, bucket.part)
  if bucket.stored and not bucket.other_numbers then
    redis.call('PEXPIREAT', key, expires, 'GT')
  else
    redis.call('PEXPIREAT', key, expires)
  end
end

local buckets = {}
for i, key in ipairs(KEYS) do
  local at = 5 * i - 3
  buckets[i] = refilled(key, tonumber(ARGV[at]), tonumber(ARGV[at + 1]),
                        tonumber(ARGV[at + 2]), ARGV[at + 3])
  buckets[i].shadow = ARGV[at + 4] == '1'
end

-- The costs begin behind this.
local behind = 1 + 5 * #KEYS
local reply = {}
for first = behind + 1, #ARGV, #KEYS do
  local allowed = true
  for i, bucket in ipairs(buckets) do
    bucket.cost = tonumber(ARGV[first + i - 1])
    bucket.allowed = gives or bucket.cost <= bucket.tokens
    allowed = allowed and (bucket.allowed or bucket.shadow)
  end

  for i, bucket in ipairs(buckets) do
    if gives then
      bucket.tokens = bucket.tokens + bucket.cost
      if bucket.tokens >= bucket.capacity then bucket.tokens, bucket.part = bucket.capacity, 0 end
      bucket.changed = bucket.stored
    elseif takes and bucket.cost > 0 then
      if allowed and bucket.allowed then
        bucket.tokens = bucket.tokens - bucket.cost
        bucket.changed = true
      elseif bucket.stepped_back then
        bucket.changed = true
      end
    end

    bucket.until_full = wait_for(bucket, bucket.capacity - bucket.tokens)
    reply[#reply + 1] = bucket.allowed and 1 or 0
    reply[#reply + 1] = bucket.tokens
    reply[#reply + 1] = bucket.allowed and 0 or wait_for(bucket, bucket.cost - bucket.tokens)
    reply[#reply + 1] = bucket.until_full
  end
end

for i, key in ipairs(KEYS) do
  local bucket = buckets[i]
  if bucket.changed and gives and bucket.until_full == 0 then
    redis.call('DEL', key)
  elseif bucket.changed then
    write(key, bucket, ARGV[5 * i])
  end
end
return reply
