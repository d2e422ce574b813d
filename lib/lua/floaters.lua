-- floaters: counts floaters of one domain.
-- ARGV: 1 domain, 2 unix seconds, then the mailboxes; "" for each address that
-- is not listed.
local key, time = KEY .. 'floaters:' .. ARGV[1], ARGV[2]
for i = 3, #ARGV do
    local known = redis.call('HGET', key, ARGV[i]) or ''
    local count, first = string.match(known, '^(%d+) (%d+)')
    redis.call('HSET', key, ARGV[i], decimal((tonumber(count) or 0) + 1) .. ' ' ..
               (first or time) .. ' ' .. time)
end
return { 'OK' }
