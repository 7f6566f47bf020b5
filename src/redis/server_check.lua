#!lua flags=no-writes
-- Finds the commands of token_bucket.lua that Redis lacks or the user may not run, and
-- whether Redis may evict buckets. Reads and writes no key.
--
-- ARGV[1]  prefix of the buckets' keys
-- ARGV[2]  cluster: a Cluster's node, whose slots may migrate; else empty
-- ARGV[3]  auth: MIGRATE authenticates to the other node; else empty
--
-- Reply    strings: the maxmemory-policy if Redis may evict keys by it and INFO may be
--          run, else empty; then the missing rights as ACL SETUSER takes them (+hset),
--          and the unknown commands (HSET), which rename-command may have disabled.

local key = ARGV[1] .. 'check:'

-- Whether the user may run the command; nil if Redis does not know it.
local function may(...)
  local known, allowed = pcall(redis.acl_check_cmd, ...)
  if known then return allowed end
end

local policy = ''
if may('INFO', 'memory') then
  local info = redis.call('INFO', 'memory')
  if info:match('\nmaxmemory:(%d+)') ~= '0' then
    policy = info:match('\nmaxmemory_policy:([%w-]+)') or ''
  end
end

local reply = {policy ~= 'noeviction' and policy or ''}
-- One of the two runs this script, so it is the key that is not allowed. Without it,
-- the checks below say nothing about the commands.
if not may('EVALSHA', '', '1', key) and not may('EVAL', '', '1', key) then
  reply[2] = '~' .. ARGV[1] .. '*'
  return reply
end
local commands = {
  {'TIME'},
  {'HMGET', key, 'tokens'},
  {'HSET', key, 'tokens', '1'},
  {'HKEYS', key},
  {'HDEL', key, 'tokens'},
  {'PEXPIREAT', key, '1'},
  {'PEXPIRETIME', key},
  {'DEL', key},
}
if ARGV[2] == 'cluster' then
  commands[#commands + 1] = {'ASKING'}
  commands[#commands + 1] = {'MIGRATE', 'host', '1', '', '0', '1', 'KEYS', key}
  -- MIGRATE sends these to the other node.
  commands[#commands + 1] = {'RESTORE-ASKING', key, '0', ''}
  commands[#commands + 1] = {'SELECT', '0'}
  if ARGV[3] == 'auth' then commands[#commands + 1] = {'AUTH', ''} end
end
for _, command in ipairs(commands) do
  local allowed = may(unpack(command))
  if allowed == nil then
    reply[#reply + 1] = command[1]
  elseif not allowed then
    reply[#reply + 1] = '+' .. command[1]:lower()
  end
end
return reply
