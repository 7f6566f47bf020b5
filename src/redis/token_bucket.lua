#!lua
-- Decides one charge against one token bucket, atomically, by Redis's clock.
--
-- KEYS[1]  the bucket: a hash of
--            tokens      whole tokens when it was last written
--            time        when that was, in microseconds since the epoch
--            <interval>  a field named by the refill interval in microseconds:
--                        how much of the next token had come, of that many
--                        parts. Under another interval it is not found, and so
--                        never read in the wrong unit.
--          A missing bucket is a full one.
-- ARGV[1]  capacity, in tokens
-- ARGV[2]  refill tokens: so many come in every refill interval
-- ARGV[3]  refill interval, in microseconds
-- ARGV[4]  cost, in tokens, at most the capacity
-- ARGV[5]  1: take the cost if it is there; 0: change nothing
--
-- Reply    four integers: 1 allowed or 0 refused; whole tokens left; on a
--          refusal microseconds until the same charge passes, else 0;
--          microseconds until the bucket is full
--
-- All arithmetic is on integers below 2^53, which Lua's doubles hold exactly,
-- provided capacity * refill_tokens and the time to full in microseconds are
-- below 2^52. Never formed, for they may be larger: capacity * interval, and
-- elapsed time * refill tokens.
--
-- Redis propagates the writes, not the script, so TIME may be read before them.

local key = KEYS[1]
local capacity = tonumber(ARGV[1])
local refill_tokens = tonumber(ARGV[2])
local interval = tonumber(ARGV[3])
local cost = tonumber(ARGV[4])
local take = ARGV[5] == '1'

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

-- A token takes interval / refill_tokens = whole + rest / refill_tokens
-- microseconds, and is made of `interval` parts, of which `refill_tokens` come
-- every microsecond.
local rest = interval % refill_tokens
local whole = (interval - rest) / refill_tokens

local stored = redis.call('HMGET', key, 'tokens', 'time', ARGV[3])
local tokens = capacity
local time = now
local part = 0
if stored[1] then
  tokens = tonumber(stored[1])
  time = tonumber(stored[2])
  part = tonumber(stored[3] or 0)
end

-- Microseconds after `time` until the n-th further token has come, rounded up.
local function wait_for(n)
  return n * whole + math.ceil((n * rest - part) / refill_tokens)
end

local stepped_back = time > now
local elapsed = math.max(now - time, 0)

if elapsed >= wait_for(capacity - tokens) then  -- Or lowered below what is there.
  tokens, part = capacity, 0
else
  -- The quotient of doubles is off by a token at the most; the loops settle it.
  local earned = math.floor((elapsed * refill_tokens + part) / interval)
  while wait_for(earned) > elapsed do earned = earned - 1 end
  while wait_for(earned + 1) <= elapsed do earned = earned + 1 end
  tokens = tokens + earned
  part = (elapsed - earned * whole) * refill_tokens + (part - earned * rest)
end

local allowed = cost <= tokens
if allowed and take then tokens = tokens - cost end

local until_full = wait_for(capacity - tokens)
local until_allowed = allowed and 0 or wait_for(cost - tokens)

if take and cost > 0 and (allowed or stepped_back) then
  -- A field left from another interval must not be found again later.
  if stored[1] and not stored[3] then redis.call('DEL', key) end
  redis.call('HSET', key, 'tokens', tokens, 'time', now, ARGV[3], part)
  -- Rounded up: a bucket that expired before it is full would come back full.
  redis.call('PEXPIREAT', key, math.ceil((now + until_full) / 1000))
end

return { allowed and 1 or 0, tokens, until_allowed, until_full }
