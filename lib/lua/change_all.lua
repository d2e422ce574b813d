-- change_all: one step of a transition of a whole domain; store_change_all().
-- ARGV: 1 journal epoch, 2 its id, 3 id of the event, 4 op, 5 domain, 6 force,
-- 7 cursor of the scan, or "own" for the domain's own record (the last step),
-- 8 how many to scan, then the hosts to do without.
-- Returns OK, next cursor, numbers of made, already, wrong state, not fenced,
-- highest epoch of the records now in the target state, and how many mailboxes
-- are still in a state that the transition starts from; or a refusal.
local at, refusal = history(ARGV[1], ARGV[2])
if not at then return refusal end
local op, domain = ARGV[4], ARGV[5]
local without = {}
for i = 9, #ARGV do
    without[ARGV[i]] = true
end
local force = ARGV[6] == '1'
local change = change_begin(at, op, domain, force, without)
local own = redis.call('HGET', change.key, '')
if not own then return { 'UNREGISTERED', domain } end
if change.no_host then return { 'NOHOST', change.rule.delivers } end

local cursor, found = '0', { '', own }
if ARGV[7] ~= 'own' then
    local scan = redis.call('HSCAN', change.key, ARGV[7], 'COUNT', ARGV[8])
    cursor, found = scan[1], scan[2]
end

-- A scan may find more than an event may hold: then there is one more event.
local ids, reached = 0, 0
local function commit()
    local id = ARGV[3]
    if ids > 0 then
        id = string.sub(redis.sha1hex(id .. ids), 1, 16)
    end
    ids = ids + 1
    if change.made > 0 then
        reached = math.max(reached, at.epoch + 1)
    end
    change_commit(change, change.rule.to, id)
end

local numbers = { M = 0, A = 0, S = 0, F = 0 }
local seen = {}
for i = 1, #found, 2 do
    local name, record = found[i], found[i + 1]
    if not seen[name] and (name ~= '' or ARGV[7] == 'own') then
        seen[name] = true
        if change.made == EVENT_ITEMS then
            commit()
            change = change_begin(at, op, domain, force, without)
        end
        local verdict = change.judged[record] or judge(change, record)
        if not verdict then
            return { 'BAD', name .. '@' .. domain }
        end
        change.judged[record] = verdict
        numbers[verdict.status] = numbers[verdict.status] + 1
        if verdict.status == 'M' then
            put(change, name, verdict.record, name)
            if name ~= '' then
                count(change, verdict.head, verdict.new_head)
            end
        elseif verdict.status == 'A' then
            reached = math.max(reached, tonumber(verdict.epoch, 16))
        end
    end
end
commit()

local left = 0
for letter in pairs(change.rule.from) do
    left = left + tonumber(redis.call('HGET', KEY .. 'totals:' .. domain, letter) or 0)
end
return { 'OK', cursor, numbers.M, numbers.A, numbers.S, numbers.F, decimal(reached), left }
