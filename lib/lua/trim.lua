-- trim: drops events that every registered host has journaled, and their ids;
-- the id at the lowest journal's head stays, to compare with. store_trim().
-- ARGV: 1 how many at the most. Returns OK and how many are left to drop.
local got = redis.call('HMGET', KEY .. 'chain', 'epoch', 'floor')
if not got[1] or not got[2] then return { 'OK', 0 } end
local target, floor = tonumber(got[1]), tonumber(got[2])
for _, record in ipairs(redis.call('HVALS', KEY .. 'hosts')) do
    target = math.min(target, tonumber(string.match(record, '\tjournaled=(%d+)') or 0))
end
local stop = math.min(target, floor + tonumber(ARGV[1]))
if stop <= floor then return { 'OK', 0 } end
local entries, ids = {}, {}
for epoch = floor, stop - 1 do
    ids[#ids + 1] = decimal(epoch)
    entries[#entries + 1] = decimal(epoch) .. '-0'
end
-- The event at the new floor is journaled everywhere too; its id stays.
entries[#entries + 1] = decimal(stop) .. '-0'
redis.call('XDEL', KEY .. 'events', unpack(entries))
redis.call('HDEL', KEY .. 'chain', unpack(ids))
redis.call('HSET', KEY .. 'chain', 'floor', decimal(stop))
return { 'OK', target - stop }
