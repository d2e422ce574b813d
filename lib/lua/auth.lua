-- auth: adds to the figures of those who send as one domain (auth_row.h).
-- ARGV: 1 domain, 2 most rows that are kept, then for each row: field, messages,
-- would fail, first, last, counts, HELO.
--
-- A domain that has its rows is not taken up by whoever sends most forgeries: of
-- a few rows picked at random the least one makes room, and is added to REST.
local key, most = KEY .. 'auth:' .. ARGV[1], tonumber(ARGV[2])
local REST = '* '
local SAMPLE = 8

local function parse(value)
    local messages, fails, first, last, counts, helo =
        string.match(value or '', '^(%d+) (%d+) (%d+) (%d+) (%S+) (.*)$')
    return messages and { messages = tonumber(messages), fails = tonumber(fails),
                          first = tonumber(first), last = tonumber(last),
                          counts = counts, helo = helo }
end

local function add_counts(one, other)
    local sums, names = {}, {}
    for name, count in string.gmatch(one .. other, '(%l%l)(%d+)') do
        if not sums[name] then names[#names + 1] = name end
        sums[name] = (sums[name] or 0) + tonumber(count)
    end
    table.sort(names)
    for i, name in ipairs(names) do names[i] = name .. decimal(sums[name]) end
    return names[1] and table.concat(names) or '-'
end

local function add(field, row)
    local known = parse(redis.call('HGET', key, field))
    if known then
        if known.last > row.last or row.helo == '' then row.helo = known.helo end
        row = { messages = known.messages + row.messages, fails = known.fails + row.fails,
                first = math.min(known.first, row.first),
                last = math.max(known.last, row.last),
                counts = add_counts(known.counts, row.counts), helo = row.helo }
    end
    redis.call('HSET', key, field, decimal(row.messages) .. ' ' .. decimal(row.fails) ..
               ' ' .. decimal(row.first) .. ' ' .. decimal(row.last) .. ' ' ..
               row.counts .. ' ' .. row.helo)
end

local function rest(row)
    row.helo = ''
    add(REST, row)
end

-- Whether one goes before other.
local function less(one, other)
    if one.messages ~= other.messages then return one.messages < other.messages end
    return one.last < other.last
end

-- Makes room for row; false: it is the least one itself.
local function make_room(row)
    local some = redis.pcall('HRANDFIELD', key, SAMPLE, 'WITHVALUES') -- since Redis 6.2
    local field, least
    for i = 1, some.err and 0 or #some, 2 do
        local found = parse(some[i + 1])
        if some[i] ~= REST and found and not (least and less(least, found)) then
            field, least = some[i], found
        end
    end
    if not least or less(row, least) then return false end
    redis.call('HDEL', key, field)
    rest(least)
    return true
end

for i = 3, #ARGV - 6, 7 do
    local row = parse(table.concat(ARGV, ' ', i + 1, i + 6))
    if row and ARGV[i] ~= REST and
       (redis.call('HEXISTS', key, ARGV[i]) == 1 or redis.call('HLEN', key) < most or
        make_room(row)) then
        add(ARGV[i], row)
    elseif row then
        rest(row)
    end
end
return { 'OK' }
