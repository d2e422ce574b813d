-- playbook: writes fields of a domain's playbook run; store_playbook_put().
-- ARGV: 1 journal epoch, 2 its id, 3 id of the event, 4 domain, 5 the epoch that
-- the first field must have (0: it is not there), 6 whether the run is begun anew,
-- 7 the epoch that the run itself must have (0: any), then field and value, one
-- after the other.
-- Returns OK and the event's epoch, or TAKEN and what was changed by another.
local at, refusal = history(ARGV[1], ARGV[2])
if not at then return refusal end
local domain = ARGV[4]
if redis.call('HEXISTS', KEY .. 'home:' .. domain, '') == 0 then
    return { 'UNREGISTERED', domain }
end
local key = KEY .. 'playbook:' .. domain
local function epoch_of(field)
    local present = redis.call('HGET', key, field)
    return present and string.match(present, '^(%d+)\t') or '0'
end
if ARGV[7] ~= '0' and epoch_of('') ~= ARGV[7] then
    return { 'TAKEN', 'the run', domain }
end
if epoch_of(ARGV[8]) ~= ARGV[5] then
    return { 'TAKEN', ARGV[8] == '' and 'the run' or ARGV[8], domain }
end
local stamp = decimal(at.epoch + 1) .. '\t'
local body, fields = {}, {}
for i = 8, #ARGV, 2 do
    fields[#fields + 1] = ARGV[i]
    fields[#fields + 1] = stamp .. ARGV[i + 1]
    body[#body + 1] = ARGV[i] .. '\t' .. stamp .. ARGV[i + 1] .. '\n'
end
local letter = ARGV[6] == '1' and 'a' or 'c' -- anew, or changed
append(at, ARGV[3], 'playbook', letter, now(), domain, table.concat(body))
if ARGV[6] == '1' then redis.call('DEL', key) end
redis.call('HSET', key, unpack(fields))
return { 'OK', decimal(at.epoch) }
