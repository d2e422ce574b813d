-- playbook: writes fields of a domain's playbook run; store_playbook_put().
-- ARGV: 1 journal epoch, 2 its id, 3 id of the event, 4 domain, 5 the epoch that
-- the first field must have (0: it is not there), 6 whether the run is begun anew,
-- then field and value, one after the other.
-- Returns OK and the event's epoch, or TAKEN with what the field holds now.
local at, refusal = history(ARGV[1], ARGV[2])
if not at then return refusal end
local domain = ARGV[4]
if redis.call('HEXISTS', KEY .. 'home:' .. domain, '') == 0 then
    return { 'UNREGISTERED', domain }
end
local key = KEY .. 'playbook:' .. domain
local present = redis.call('HGET', key, ARGV[7])
local epoch = present and string.match(present, '^(%d+)\t') or '0'
if epoch ~= ARGV[5] then
    return { 'TAKEN', ARGV[7] == '' and 'the run' or ARGV[7], domain }
end
local stamp = decimal(at.epoch + 1) .. '\t'
local body, fields = {}, {}
for i = 7, #ARGV, 2 do
    fields[#fields + 1] = ARGV[i]
    fields[#fields + 1] = stamp .. ARGV[i + 1]
    body[#body + 1] = ARGV[i] .. '\t' .. stamp .. ARGV[i + 1] .. '\n'
end
local letter = ARGV[6] == '1' and 'a' or 'c' -- anew, or changed
append(at, ARGV[3], 'playbook', letter, now(), domain, table.concat(body))
if ARGV[6] == '1' then redis.call('DEL', key) end
redis.call('HSET', key, unpack(fields))
return { 'OK', decimal(at.epoch) }
