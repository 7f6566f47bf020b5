#!lua flags=no-writes
-- Whether the user may do what token_bucket.lua does, and whether buckets may be
-- evicted. Reads and writes no key.
--
-- ARGV[1]  what the buckets' keys begin with
-- ARGV[2]  cluster: this is a Cluster's node, whose slots may move; else empty
--
-- Reply    strings: first the maxmemory-policy, if Redis may evict keys by it and
--          the user may know; else empty. Then the rights that the user lacks, as
--          ACL SETUSER takes them.

local may = redis.acl_check_cmd
local key = ARGV[1] .. 'check:'

local policy = ''
if may('INFO', 'memory') then
  local info = redis.call('INFO', 'memory')
  if info:match('\nmaxmemory:(%d+)') ~= '0' then
    policy = info:match('\nmaxmemory_policy:([%w-]+)') or ''
  end
end

local reply = {policy ~= 'noeviction' and policy or ''}
-- Who runs this may run EVALSHA, be it on other keys; and without the keys nothing is
-- known of the commands on them.
if not may('EVALSHA', '', '1', key) then
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
  commands[#commands + 1] = {'RESTORE-ASKING', key, '0', ''}
  commands[#commands + 1] = {'SELECT', '0'}  -- Which MIGRATE says to the other node.
end
for _, command in ipairs(commands) do
  if not may(unpack(command)) then reply[#reply + 1] = '+' .. command[1]:lower() end
end
return reply
