-- common: what every script that changes the history begins with. The scripts
-- run whole or not at all, so each checks first and writes last.
if redis.replicate_commands then redis.replicate_commands() end -- before Redis 7

local KEY = 'sluice:'

-- The caller's history (the head of its host's journal; '0': it has none) must
-- be part of ours. Returns our position, or nil and the refusal.
local function history(epoch, id)
    local got = redis.call('HMGET', KEY .. 'chain', 'epoch', 'id', epoch, 'floor')
    if not got[1] then
        return nil, { 'EMPTY', epoch }
    end
    if epoch ~= '0' and got[3] ~= id then
        local mine, theirs, floor = tonumber(got[1]), tonumber(epoch), tonumber(got[4])
        if mine < theirs then
            return nil, { 'LOST', got[1], epoch }
        elseif theirs < floor then
            return nil, { 'BEHIND', got[1], epoch }
        end
        return nil, { 'DIVERGED', got[1], epoch }
    end
    return { epoch = tonumber(got[1]), id = got[2] }
end

local function decimal(number)
    return string.format('%.0f', number)
end

-- Appends an event with the given random id and moves the position to it.
local function append(at, id, op, letter, time, domain, body)
    local epoch = decimal(at.epoch + 1)
    redis.call('XADD', KEY .. 'events', epoch .. '-0', 'id', id, 'prev', at.id, 'op', op,
               'letter', letter, 'time', time, 'domain', domain, 'body', body)
    redis.call('HSET', KEY .. 'chain', 'epoch', epoch, 'id', id, epoch, id)
    at.epoch, at.id = at.epoch + 1, id
end

local function parse_record(record)
    return string.match(record, '^([olrn])(%x+)%.(%x+)(.*)$')
end

local function now()
    return redis.call('TIME')[1]
end
