-- init_domain: registers a domain; store_init_domain().
-- ARGV: 1 journal epoch, 2 its id, 3 id of the event, 4 domain, 5 secret.
local home = KEY .. 'home:' .. ARGV[4]
local at, refusal = history(ARGV[1], ARGV[2])
local first = not at
if first then
    if ARGV[1] ~= '0' then return refusal end
    if redis.call('EXISTS', KEY .. 'chain', KEY .. 'events', home) > 0 then
        return { 'PARTIAL', ARGV[4] }
    end
    at = { epoch = 0, id = '-' }
elseif redis.call('HEXISTS', home, '') == 1 then
    redis.call('SET', KEY .. 'secret', ARGV[5], 'NX')
    redis.call('SADD', KEY .. 'domains', ARGV[4])
    return { 'OK', '0' }
end
local time = now()
append(at, ARGV[3], 'init', 'o', time, ARGV[4], '\n')
if first then redis.call('HSET', KEY .. 'chain', 'floor', '1') end
redis.call('HSET', home, '', string.format('o%x.%x', at.epoch, tonumber(time)))
redis.call('SADD', KEY .. 'domains', ARGV[4])
redis.call('SET', KEY .. 'secret', ARGV[5], 'NX')
return { 'OK', decimal(at.epoch) }
