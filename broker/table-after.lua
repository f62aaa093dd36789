--[[ What comes after the parties' own steps: the sweep, the outbox and the registry. Stands behind table.lua in one library, and follows
  its rules. ]]

local function forget(keys, session, at, event)
  redis.call('DEL', keys[1])
  redis.call('ZREM', keys[4], session)
  return audit(keys, event, session, at, 'broker')
end

--- T2. What an expired row still says of its release is what its report is made of.
local function expire(keys, row, args)
  redis.call('HDEL', keys[1], 'nextSession', unpack(OF_THE_KEY))
  finish(keys, args[1], 'expired', args[2], args[5], row.state == 'released' and args[8] or args[7])
  return audit(keys, 'expired', args[1], args[2], 'broker')
end

--- T1, once.
local function warn(keys, args, expires)
  redis.call('HSET', keys[1], 'delayedAt', args[2], 'delayedEvidence', args[6], 'delayedMac', args[9])
  redis.call('ZADD', keys[4], digits(expires), args[1])
  redis.call('HSET', keys[5], args[6], args[1])
  return audit(keys, 'delayed', args[1], args[2], 'broker')
end

--- What the sweep's time makes of a row; looked at again here, because the row may have moved since it was listed.
-- ARGV 3 retention, 4 what the keys of the bucket's receipts begin with, 5 evidence of its end, 6 evidence of its delay, MACs: 7 of its
-- end without a release, 8 after one, 9 of its delay. Returns how many rows changed, and leaves the session in `due` only for a later time.
local function sweep(keys, args)
  local row = row_of(keys)
  local session, at, retention = args[1], tonumber(args[2]), tonumber(args[3])
  if not row then
    redis.call('ZREM', keys[4], session)
    return 0
  end
  local look
  if row.state == 'declared' and at >= number(row, 'vanishAt', keys) then return forget(keys, session, args[2], 'vanished') end
  if row.state == 'declared' or row.state == 'dispatched' or row.state == 'released' then
    local expires = number(row, 'expiresAt', keys)
    if at >= expires then return expire(keys, row, args) end
    if row.state == 'declared' then
      look = math.min(expires, number(row, 'vanishAt', keys))
    else
      look = first_look(row, keys)
      if at >= look then return warn(keys, args, expires) end
    end
  else
    if row.state == 'confirmed' and not row.evidence then refuse('field evidence', keys) end
    if row.evidence and redis.call('HEXISTS', keys[5], row.evidence) == 1 then
      redis.call('ZREM', keys[4], session)
      return 0
    end
    look = number(row, row.state == 'confirmed' and 'confirmedAt' or 'endedAt', keys) + retention + 1
    if at >= look then
      for _, evidence in ipairs({ row.evidence or '', row.delayedEvidence or '' }) do redis.call('DEL', args[4] .. evidence) end
      return forget(keys, session, args[2], 'forgotten')
    end
  end
  redis.call('ZADD', keys[4], digits(look), session)
  return 0
end

--- ARGV 3 bytes. Returns the bytes that are kept, or nil where no such receipt is due.
local function keep_receipt(keys, args)
  local row = row_of(keys)
  if not row or (row.evidence ~= args[2] and row.delayedEvidence ~= args[2]) then return nil end
  redis.call('SET', keys[7], args[3], 'NX')
  return redis.call('GET', keys[7])
end

--- Of an outbox entry.
local function entry_of(keys, evidence)
  local value = redis.call('HGET', keys[5], evidence)
  if not value then return nil end
  local session, till, holder = string.match(value, '^(%x+) (%d+) (%S+)$')
  return session or value, tonumber(till), holder
end

--- ARGV 3 who wants to mail the receipt, 4 the time, 5 until when nobody else may. Returns whether it is theirs.
local function claim(keys, args)
  row_of(keys)
  local session, till, holder = entry_of(keys, args[2])
  if session ~= args[1] then return 0 end
  if holder and holder ~= args[3] and tonumber(args[4]) < till then return 0 end
  redis.call('HSET', keys[5], args[2], args[1] .. ' ' .. args[5] .. ' ' .. args[3])
  return 1
end

--- ARGV 3 retention. From now on the row can be forgotten.
local function done(keys, args)
  local row = row_of(keys)
  if entry_of(keys, args[2]) ~= args[1] then return 0 end
  local ended = row and row.evidence == args[2] and (row.state == 'confirmed' and 'confirmedAt' or 'endedAt')
  local due = ended and forget_at(number(row, ended, keys), args[3])

  redis.call('HDEL', keys[5], args[2])
  if due then redis.call('ZADD', keys[4], due, args[1]) end
  return 1
end

--- KEYS 1 what is revoked in this bucket: name -> record, 2 aud, 3 head. ARGV 1 SHA-256 of the name, 2 time, 3 name, 4 record, 5 who says so.
-- Returns the record that is kept: the first one.
local function revoke(keys, args)
  begin(keys)
  if redis.call('HSETNX', keys[1], args[3], args[4]) == 1 then audit(keys, 'revoked', args[1], args[2], args[5]) end
  return redis.call('HGET', keys[1], args[3])
end

--- KEYS 1 a mailbox's record, JSON. ARGV 1 the signing certificate that the present record has, '' where there is none; 2 the new record.
-- Returns whether it was written.
local function put_mailbox(keys, args)
  written = ''
  local known = redis.call('GET', keys[1])
  if (known and cjson.decode(known).signingCertificate or '') ~= args[1] then return 0 end
  redis.call('SET', keys[1], args[2])
  return 1
end

--- Writes an entry of a restored audit log: ARGV 2 at, 3 event, 4 who. It gets its place in this table's chain.
local function record(keys, args)
  begin(keys)
  return audit(keys, args[3], args[1], args[2], args[4])
end

--- @param frees such a step gives memory back, so it runs even where Redis has reached its limit and refuses every other write
local function register(name, step, frees)
  redis.register_function {
    function_name = 'kakitome_v6_' .. name,
    callback = function(keys, args)
      local answer = step(keys, args)
      return { written, answer == nil and false or answer }
    end,
    flags = frees and { 'allow-oom' } or {},
  }
end

register('declare', declare); register('dispatched', dispatched); register('withdraw', withdraw, true)
register('release', release); register('given_out', given_out); register('confirm', confirm); register('sweep', sweep, true)
register('sent', sent); register('recall', recall, true); register('record', record)
register('keep_receipt', keep_receipt); register('claim', claim); register('done', done, true); register('revoke', revoke)
register('put_mailbox', put_mailbox)
