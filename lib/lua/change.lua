-- change: one chunk of an import or a transition; store_change().
-- ARGV: 1 journal epoch, 2 its id, 3 id of the event, 4 op, 5 domain, 6 force,
-- 7 whether items have an extra, 8 number of hosts to do without, those hosts,
-- then the items: local part (and extra: TAB-separated e=<expected epoch, hex>
-- n=<new address> c=<copy>).
-- Returns OK, epoch of the event or 0, and one line per item: its status letter
-- and the record that it had; or a refusal.
local at, refusal = history(ARGV[1], ARGV[2])
if not at then return refusal end
local op, domain, extras = ARGV[4], ARGV[5], ARGV[7] == '1'
local first, without = 9 + tonumber(ARGV[8]), {}
for i = 9, first - 1 do
    without[ARGV[i]] = true
end
local change = change_begin(at, op, domain, ARGV[6] == '1', without)
local own = redis.call('HGET', change.key, '')
if not own then return { 'UNREGISTERED', domain } end
local own_letter, own_epoch, own_since = parse_record(own)
if not own_letter then return { 'BAD', '@' .. domain } end
local own_head = own_letter .. own_epoch .. '.' .. own_since
if change.no_host then return { 'NOHOST', change.rule.delivers } end

local locals, extra = {}, {}
if extras then
    for i = first, #ARGV, 2 do
        locals[#locals + 1] = ARGV[i]
        extra[#locals] = ARGV[i + 1]
    end
else
    for i = first, #ARGV do
        locals[#locals + 1] = ARGV[i]
    end
end
local records = redis.call('HMGET', change.key, unpack(locals))

-- The addresses of a record with those of an import's extra put over them.
local function merge(rest, more)
    local new, copy = string.match(rest, '\tn=([^\t]*)'), string.match(rest, '\tc=([^\t]*)')
    new, copy = string.match(more, '\tn=([^\t]*)') or new, string.match(more, '\tc=([^\t]*)') or copy
    return ((new and new ~= '') and '\tn=' .. new or '')
        .. ((copy and copy ~= '') and '\tc=' .. copy or '')
end

local function expects_other(more, epoch)
    local expected = more and string.match(more, '^e=(%x+)')
    return expected and expected ~= epoch
end

-- One mailbox of an import: status, what it had, the record it gets.
local function import(name, record, more)
    if name == '' then
        return 'S', own_head
    end
    if not record then
        local made = more and own_head .. merge('', more) or own_head
        put(change, name, made, name .. '\t' .. made)
        count(change, nil, own_head)
        return 'M', '', made
    end
    local letter, epoch, since, rest = parse_record(record)
    if not letter then
        return nil
    end
    local head = letter .. epoch .. '.' .. since
    local made = head .. (more and merge(rest, more) or rest)
    if made == record then
        return 'A', head
    elseif expects_other(more, epoch) then
        return 'E', head
    end
    put(change, name, made, name .. '\t' .. made)
    return 'M', head, made
end

local function transition(name, record, more)
    if not record then
        return 'U', ''
    end
    local verdict = change.judged[record]
    if not verdict then
        verdict = judge(change, record)
        if not verdict then
            return nil
        end
        change.judged[record] = verdict
    end
    if verdict.status ~= 'A' and more and expects_other(more, verdict.epoch) then
        return 'E', verdict.head
    end
    if verdict.status == 'M' then
        put(change, name, verdict.record, name)
        if name ~= '' then
            count(change, verdict.head, verdict.new_head)
        end
    end
    return verdict.status, verdict.head, verdict.record
end

local treat = op == 'import' and import or transition
local answers, again = {}, {}
for i, name in ipairs(locals) do
    local status, before, made = treat(name, again[name] or records[i], extra[i])
    if not status then return { 'BAD', name .. '@' .. domain } end
    again[name] = made or again[name]
    answers[i] = status .. before
end
change_commit(change, change.rule and change.rule.to or own_letter, ARGV[3])
return { 'OK', change.made > 0 and decimal(at.epoch) or '0', table.concat(answers, '\n') }
