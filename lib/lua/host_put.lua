-- host_put: a host's heartbeat, and its registration when it is new;
-- store_host_put(). A host whose history is not ours is shown with its state,
-- but what it says to have journaled and fenced belongs to another history.
-- ARGV: 1 journal epoch, 2 its id, 3 id of the event, 4 host, 5 side,
-- 6 journaled, 7 fenced, 8 swept, 9 the rest of its record.
local at, refusal = history(ARGV[1], ARGV[2])
if not at and refusal[1] == 'EMPTY' then return refusal end
local journaled, fenced, swept = ARGV[6], ARGV[7], ARGV[8]
if at and (tonumber(journaled) > at.epoch or tonumber(fenced) > at.epoch) then
    refusal = { 'LOST', decimal(at.epoch), journaled }
end
if refusal then
    journaled, fenced, swept = '0', '0', '0'
end
local known = redis.call('HGET', KEY .. 'hosts', ARGV[4])
if at and (not known or string.match(known, '^side=(%a+)') ~= ARGV[5]) then
    append(at, ARGV[3], 'host', 'o', now(), '', ARGV[4] .. '\t' .. ARGV[5] .. '\n')
elseif not known then
    return refusal
end
local time = redis.call('TIME')
redis.call('HSET', KEY .. 'hosts', ARGV[4],
           'side=' .. ARGV[5] .. '\tfenced=' .. fenced .. '\tjournaled=' .. journaled ..
           '\tswept=' .. swept .. '\tseen=' ..
           decimal(tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)) ..
           '\t' .. ARGV[9])
return refusal or { 'OK', decimal(at.epoch) }
