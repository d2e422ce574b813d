-- host_remove: forgets a host; store_host_remove().
-- ARGV: 1 journal epoch, 2 its id, 3 id of the event, 4 host.
local at, refusal = history(ARGV[1], ARGV[2])
if not at then return refusal end
if redis.call('HEXISTS', KEY .. 'hosts', ARGV[4]) == 0 then return { 'OK', '0' } end
append(at, ARGV[3], 'unhost', 'o', now(), '', ARGV[4] .. '\n')
redis.call('HDEL', KEY .. 'hosts', ARGV[4])
return { 'OK', decimal(at.epoch) }
