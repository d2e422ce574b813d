-- floaters: counts floaters of one domain: by mailbox, by hour, by sender.
-- ARGV: 1 domain, 2 unix seconds, 3 hours that are kept, 4 most senders that are
-- kept, 5 client, 6 its name, then the mailboxes; "" for each address that is not
-- listed.
-- Hours are those of Redis' clock: a host whose own is wrong cannot drop them.
local domain, time = ARGV[1], ARGV[2]
local first_mailbox = 7
local REST, SAMPLE = '*', 8

local key = KEY .. 'floaters:' .. domain
for i = first_mailbox, #ARGV do
    local known = redis.call('HGET', key, ARGV[i]) or ''
    local count, first = string.match(known, '^(%d+) (%d+)')
    redis.call('HSET', key, ARGV[i], decimal((tonumber(count) or 0) + 1) .. ' ' ..
               (first or time) .. ' ' .. time)
end

local floaters, at = #ARGV - first_mailbox + 1, now()
local hours, hour = KEY .. 'hours:' .. domain, math.floor(tonumber(at) / 3600)
redis.call('HINCRBY', hours, 'total', floaters)
redis.call('HSET', hours, 'last', at)
if redis.call('HINCRBY', hours, decimal(hour), floaters) == floaters then
    for _, field in ipairs(redis.call('HKEYS', hours)) do
        local old = tonumber(field)
        if old and old <= hour - tonumber(ARGV[3]) then redis.call('HDEL', hours, field) end
    end
end

-- One row for each sending host. Of a few picked at random the one with the least
-- makes room for another, so those who send much stay.
local senders = KEY .. 'senders:' .. domain
local function parse(value)
    local count, first, last, name = string.match(value or '', '^(%d+) (%d+) (%d+) (.*)$')
    return count and { count = tonumber(count), first = first, last = last, name = name }
end
local function add(client, count, first, last, name)
    local known = parse(redis.call('HGET', senders, client))
    if known then
        count, first = count + known.count, known.first
        if name == '' then name = known.name end
    end
    redis.call('HSET', senders, client,
               decimal(count) .. ' ' .. first .. ' ' .. last .. ' ' .. name)
end
local function make_room()
    local some = redis.pcall('HRANDFIELD', senders, SAMPLE, 'WITHVALUES') -- since Redis 6.2
    local client, least
    for i = 1, some.err and 0 or #some, 2 do
        local row = parse(some[i + 1])
        if some[i] ~= REST and row and not (least and least.count < row.count) then
            client, least = some[i], row
        end
    end
    if not least or least.count > floaters then return false end
    redis.call('HDEL', senders, client)
    add(REST, least.count, least.first, least.last, '')
    return true
end
if ARGV[5] ~= '' then
    local client, name = ARGV[5], ARGV[6]
    if redis.call('HEXISTS', senders, client) == 0 and
       redis.call('HLEN', senders) >= tonumber(ARGV[4]) and not make_room() then
        client, name = REST, ''
    end
    add(client, floaters, at, at, name)
end
return { 'OK' }
