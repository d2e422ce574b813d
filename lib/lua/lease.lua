-- lease: takes, renews or drops a lease.
-- ARGV: 1 name, 2 holder, 3 seconds, 0: drop. Returns OK, or HELD and by whom.
local key = KEY .. 'lease:' .. ARGV[1]
local holder = redis.call('GET', key)
if ARGV[3] == '0' then
    if holder == ARGV[2] then redis.call('DEL', key) end
    return { 'OK' }
end
if holder and holder ~= ARGV[2] then return { 'HELD', holder } end
redis.call('SET', key, ARGV[2], 'EX', ARGV[3])
return { 'OK' }
