-- recover: the steps of store_recover(). Until the last one the chain has no
-- epoch, so every reader fails and every change is refused.
-- ARGV: 1 step, 2 this run's random token, then by step:
--   start
--   clear  3 domain
--   homes  3 domain, pairs of local part and record
--   playbook 3 domain, 4 whether what is there is dropped, pairs of field and value
--   totals 3 domain, pairs of letter and number
--   locks  3 domain, pairs of head of a record and number
--   ids    pairs of epoch and event id
--   finish 3 journal's last epoch, 4 its id, 5 floor, 6 id of the event,
--          7 secret if there is none, pairs of host and side
local step, token, chain = ARGV[1], ARGV[2], KEY .. 'chain'
if step == 'start' then
    redis.call('UNLINK', chain, KEY .. 'events')
    redis.call('HSET', chain, 'recovering', token)
    return { 'OK' }
end
if redis.call('HGET', chain, 'recovering') ~= token then return { 'OVERTAKEN' } end

if step == 'playbook' then
    if ARGV[4] == '1' then redis.call('UNLINK', KEY .. 'playbook:' .. ARGV[3]) end
    for i = 5, #ARGV, 2 do
        redis.call('HSET', KEY .. 'playbook:' .. ARGV[3], ARGV[i], ARGV[i + 1])
    end
    return { 'OK' }
end
if step == 'clear' then
    redis.call('UNLINK', KEY .. 'home:' .. ARGV[3], KEY .. 'totals:' .. ARGV[3],
               KEY .. 'locks:' .. ARGV[3])
    redis.call('SADD', KEY .. 'domains', ARGV[3])
elseif step == 'homes' or step == 'totals' or step == 'locks' then
    local key = KEY .. (step == 'homes' and 'home' or step) .. ':' .. ARGV[3]
    redis.call('HSET', key, unpack(ARGV, 4))
    -- Floaters are in no journal, so some may be forgotten: it was not quiet before.
    if step == 'totals' then redis.call('HSET', key, 'flipped', now()) end
elseif step == 'ids' then
    redis.call('HSET', chain, unpack(ARGV, 3))
else
    -- What hosts had journaled and fenced may have been another history's.
    local zeros = '\tfenced=0\tjournaled=0\tswept=0'
    local known = redis.call('HGETALL', KEY .. 'hosts')
    for i = 1, #known, 2 do
        redis.call('HSET', KEY .. 'hosts', known[i], (string.gsub(known[i + 1],
                   '\tfenced=%d+\tjournaled=%d+\tswept=%d+', zeros, 1)))
    end
    for i = 8, #ARGV, 2 do
        redis.call('HSETNX', KEY .. 'hosts', ARGV[i], 'side=' .. ARGV[i + 1] .. zeros .. '\tseen=0')
    end
    redis.call('SET', KEY .. 'secret', ARGV[7], 'NX')
    redis.call('HSET', chain, 'floor', ARGV[5])
    redis.call('HDEL', chain, 'recovering')
    append({ epoch = tonumber(ARGV[3]), id = ARGV[4] }, ARGV[6], 'recover', 'o', now(), '', '')
end
return { 'OK' }
