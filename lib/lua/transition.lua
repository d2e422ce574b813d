-- transition: the rules of a change and how it is written; shared by change.lua
-- and change_all.lua. One table says what leads where.
local RULES = {
    lock = { to = 'l', from = { o = true }, delivers = 'old' },
    flip = { to = 'n', from = { l = true, r = true }, fenced = 'l' },
    unlock = { to = 'o', from = { l = true, r = true }, fenced = 'r' },
    rollback = { to = 'r', from = { n = true }, delivers = 'new' },
}
local EVENT_ITEMS = 1000 -- EVENT_ITEMS_MAX of home.h

-- The registered hosts: the lowest fenced epoch, leaving out those of the set
-- without, and whether one of them is on the side.
local function hosts(without, side)
    local fence, found = math.huge, false
    local all = redis.call('HGETALL', KEY .. 'hosts')
    for i = 1, #all, 2 do
        local record = all[i + 1]
        if not without[all[i]] then
            fence = math.min(fence, tonumber(string.match(record, '\tfenced=(%d+)') or 0))
        end
        found = found or string.match(record, '^side=(%a+)') == side
    end
    return fence, found
end

-- A change in the making. judge() is asked once for each different record.
local function change_begin(at, op, domain, force, without)
    local change = { at = at, op = op, domain = domain, rule = RULES[op],
                     key = KEY .. 'home:' .. domain, time = now(),
                     writes = {}, lines = {}, delta = {}, locks = {}, judged = {}, made = 0 }
    change.epoch = string.format('%x', at.epoch + 1)
    local fence, found = hosts(without, change.rule and change.rule.delivers)
    change.fence = force and math.huge or fence
    change.no_host = change.rule and change.rule.delivers and not found
    change.since = string.format('%x', tonumber(change.time))
    return change
end

-- What the transition makes of a record: status letter (M made, A already,
-- S wrong state, F not fenced), the new record, the old state's letter, its
-- epoch, and the record without addresses. nil: not a record.
local function judge(change, record)
    local letter, epoch, since, rest = parse_record(record)
    if not letter then
        return nil
    end
    local verdict = { from = letter, epoch = epoch, head = letter .. epoch .. '.' .. since }
    local rule = change.rule
    if letter == rule.to then
        verdict.status = 'A'
    elseif not rule.from[letter] then
        verdict.status = 'S'
    elseif rule.fenced == letter and tonumber(epoch, 16) > change.fence then
        verdict.status = 'F'
    else
        verdict.status = 'M'
        verdict.record = rule.to .. change.epoch .. '.' .. change.since .. rest
        verdict.new_head = rule.to .. change.epoch .. '.' .. change.since
    end
    return verdict
end

-- Counts a mailbox's way from one head of a record (nil: new) to another: by
-- state, and those that are locked by the change that locked them, so that the
-- oldest lock is known without a look at every mailbox. The domain's own record is
-- not counted.
local function count(change, from, to)
    local delta, locks = change.delta, change.locks
    local letter = string.sub(to, 1, 1)
    delta[letter] = (delta[letter] or 0) + 1
    if letter == 'l' or letter == 'r' then
        locks[to] = (locks[to] or 0) + 1
    end
    if not from then return end
    letter = string.sub(from, 1, 1)
    delta[letter] = (delta[letter] or 0) - 1
    if letter == 'l' or letter == 'r' then
        locks[from] = (locks[from] or 0) - 1
    end
end

-- Notes that the field gets the record; line is its line of the event.
local function put(change, field, record, line)
    local writes = change.writes
    writes[#writes + 1] = field
    writes[#writes + 1] = record
    change.made = change.made + 1
    change.lines[change.made] = line
end

-- Writes all that was noted, as one event.
local function change_commit(change, letter, id)
    if change.made == 0 then
        return
    end
    change.lines[change.made + 1] = ''
    append(change.at, id, change.op, letter, change.time, change.domain,
           table.concat(change.lines, '\n'))
    for i = 1, #change.writes, 1000 do
        redis.call('HSET', change.key,
                   unpack(change.writes, i, math.min(i + 999, #change.writes)))
    end
    for state, delta in pairs(change.delta) do
        if delta ~= 0 then
            redis.call('HINCRBY', KEY .. 'totals:' .. change.domain, state, delta)
        end
    end
    for head, delta in pairs(change.locks) do
        local key = KEY .. 'locks:' .. change.domain
        if delta ~= 0 and redis.call('HINCRBY', key, head, delta) <= 0 then
            redis.call('HDEL', key, head)
        end
    end
    if change.op == 'flip' then
        redis.call('HSET', KEY .. 'totals:' .. change.domain, 'flipped', change.time)
    end
end
