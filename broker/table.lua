#!lua name=kakitome_v1
--[[ The session table's steps inside Redis: one function for each transition of a row (docs/protocol.md, section 6).

  A function runs alone, but an error in its middle would leave half of its writes. Therefore each one reads and checks everything
  first, the types of its keys included, and from its first write on does only what cannot fail.

  KEYS of every function, all in one slot by the bucket's hash tag:
    1 row      hash: `state`, the declaration, `vanishAt`, and what the state adds (session.ts)
    2 aud      stream: event, session, at, who
    3 due      sorted set: session -> when the sweep has to look at it, milliseconds since the epoch
    4 out      hash: evidence -> session of each receipt that is not mailed
    5 receipt  string, for keep_receipt only
  ARGV[1] is the session hash, ARGV[2] the time of the step (of `done` and `keep_receipt`: the evidence). ]]

local KINDS = { 'hash', 'stream', 'zset', 'hash', 'string' }
local STATES = { declared = true, dispatched = true, released = true, confirmed = true, expired = true, withdrawn = true }

local function refuse(what, keys)
  error({ err = 'BROKEN ' .. what .. ' at ' .. keys[1] })
end

--- The row as a table, or nil. Every function begins with it.
local function row_of(keys)
  for i, key in ipairs(keys) do
    local kind = redis.call('TYPE', key).ok
    if kind ~= 'none' and kind ~= KINDS[i] then refuse('key type ' .. kind, { key }) end
  end
  local flat = redis.call('HGETALL', keys[1])
  if #flat == 0 then return nil end
  local row = {}
  for i = 1, #flat, 2 do row[flat[i]] = flat[i + 1] end
  if not STATES[row.state or ''] then refuse('field state', keys) end
  return row
end

local function number(row, field, keys)
  return tonumber(row[field]) or refuse('field ' .. field, keys)
end

--- Exact for every integer that JavaScript can hold.
local function digits(value)
  return string.format('%.0f', value)
end

local function audit(keys, event, session, at, who)
  redis.call('XADD', keys[2], '*', 'event', event, 'session', session, 'at', at, 'who', who)
end

--- "Longer than the retention ago" begins one millisecond after it.
local function forget_at(ended, retention)
  return digits(tonumber(ended) + tonumber(retention) + 1)
end

--- ARGV 3 when the sweep has to look at it first; from 4 on the fields and their values. Returns 0 where another row has the name.
local function declare(keys, args)
  local row = row_of(keys)
  local fields = { 'state', 'declared' }
  local same, gateway = true, nil
  for i = 4, #args, 2 do
    fields[#fields + 1] = args[i]
    fields[#fields + 1] = args[i + 1]
    if args[i] == 'gateway' then gateway = args[i + 1] end
    if row and args[i] ~= 'vanishAt' and row[args[i]] ~= args[i + 1] then same = false end
  end
  if row then return same and 1 or 0 end

  redis.call('HSET', keys[1], unpack(fields))
  redis.call('ZADD', keys[3], args[3], args[1])
  audit(keys, 'declared', args[1], args[2], gateway)
  return 1
end

--- ARGV 3 gateway.
local function dispatched(keys, args)
  local row = row_of(keys)
  if not row or row.gateway ~= args[3] or row.state ~= 'declared' then return 0 end
  local expires = number(row, 'expiresAt', keys)

  redis.call('HSET', keys[1], 'state', 'dispatched')
  redis.call('ZADD', keys[3], digits(expires), args[1])
  audit(keys, 'dispatched', args[1], args[2], args[3])
  return 1
end

--- ARGV 3 gateway, 4 retention. Returns whether the row is withdrawn.
local function withdraw(keys, args)
  local row = row_of(keys)
  if not row or row.gateway ~= args[3] then return 0 end
  if row.state == 'withdrawn' then return 1 end
  if row.state ~= 'declared' and row.state ~= 'dispatched' then return 0 end
  local due = forget_at(args[2], args[4])

  redis.call('HDEL', keys[1], 'wrappedKey')
  redis.call('HSET', keys[1], 'state', 'withdrawn', 'endedAt', args[2])
  redis.call('ZADD', keys[3], due, args[1])
  audit(keys, 'withdrawn', args[1], args[2], args[3])
  return 1
end

--- S7. ARGV 3 recipient, 4 next session, 5 next ticket. Returns the row as a flat list, or nil where there is nothing to give.
local function release(keys, args)
  local row = row_of(keys)
  if not row then return nil end
  local expires, at = number(row, 'expiresAt', keys), tonumber(args[2])
  if row.recipient ~= args[3] then
    audit(keys, 'release refused', args[1], args[2], args[3])
    return nil
  end
  if at >= expires then return nil end
  if row.state == 'released' then return redis.call('HGETALL', keys[1]) end
  if row.state ~= 'declared' and row.state ~= 'dispatched' then return nil end
  if not row.wrappedKey then refuse('field wrappedKey', keys) end

  redis.call('HSET', keys[1], 'state', 'released', 'releasedAt', args[2], 'nextSession', args[4], 'nextTicket', args[5])
  redis.call('ZADD', keys[3], digits(expires), args[1])
  audit(keys, 'released', args[1], args[2], args[3])
  return redis.call('HGETALL', keys[1])
end

--- S10-S11. ARGV 3 recipient, 4 next session, 5 evidence, 6 certificate, 7 proof. Returns the row as a flat list, or nil.
-- The row leaves `due`: as long as its receipt is not mailed it must not be forgotten.
local function confirm(keys, args)
  local row = row_of(keys)
  if not row then return nil end
  if row.recipient ~= args[3] then
    audit(keys, 'confirm refused', args[1], args[2], args[3])
    return nil
  end
  if row.nextSession ~= args[4] then return nil end
  if row.state == 'confirmed' then return redis.call('HGETALL', keys[1]) end
  if row.state ~= 'released' then return nil end

  redis.call('HDEL', keys[1], 'wrappedKey', 'nextTicket')
  redis.call('HSET', keys[1], 'state', 'confirmed', 'confirmedAt', args[2], 'evidence', args[5], 'certificate', args[6], 'proof', args[7])
  redis.call('ZREM', keys[3], args[1])
  audit(keys, 'confirmed', args[1], args[2], args[3])
  redis.call('HSET', keys[4], args[5], args[1])
  return redis.call('HGETALL', keys[1])
end

local function forget(keys, session, at, event)
  redis.call('DEL', keys[1])
  redis.call('ZREM', keys[3], session)
  audit(keys, event, session, at, 'broker')
  return 1
end

local function expire(keys, session, at, retention)
  redis.call('HDEL', keys[1], 'wrappedKey', 'nextSession', 'nextTicket')
  redis.call('HSET', keys[1], 'state', 'expired', 'endedAt', at)
  redis.call('ZADD', keys[3], forget_at(at, retention), session)
  audit(keys, 'expired', session, at, 'broker')
  return 1
end

--- What the sweep's time makes of a row; looked at again here, because the row may have moved since it was listed.
-- ARGV 3 retention, 4 what the keys of the bucket's receipts begin with. Returns how many rows changed, and leaves the session in `due` only for a later time.
local function sweep(keys, args)
  local row = row_of(keys)
  local session, at, retention = args[1], tonumber(args[2]), tonumber(args[3])
  if not row then
    redis.call('ZREM', keys[3], session)
    return 0
  end
  local look
  if row.state == 'declared' and at >= number(row, 'vanishAt', keys) then return forget(keys, session, args[2], 'vanished') end
  if row.state == 'declared' or row.state == 'dispatched' or row.state == 'released' then
    look = number(row, 'expiresAt', keys)
    if at >= look then return expire(keys, session, args[2], args[3]) end
    if row.state == 'declared' then look = math.min(look, number(row, 'vanishAt', keys)) end
  elseif row.state == 'confirmed' then
    if not row.evidence then refuse('field evidence', keys) end
    if redis.call('HEXISTS', keys[4], row.evidence) == 1 then
      redis.call('ZREM', keys[3], session)
      return 0
    end
    look = number(row, 'confirmedAt', keys) + retention + 1
    if at >= look then
      redis.call('DEL', args[4] .. row.evidence)
      return forget(keys, session, args[2], 'forgotten')
    end
  else
    look = number(row, 'endedAt', keys) + retention + 1
    if at >= look then return forget(keys, session, args[2], 'forgotten') end
  end
  redis.call('ZADD', keys[3], digits(look), session)
  return 0
end

--- ARGV 3 bytes. Returns the bytes that are kept, or nil where no such receipt is due.
local function keep_receipt(keys, args)
  local row = row_of(keys)
  if not row or row.evidence ~= args[2] then return nil end
  local kept = redis.call('GET', keys[5])
  if kept then return kept end

  redis.call('SET', keys[5], args[3])
  return args[3]
end

--- ARGV 3 retention. From now on the row can be forgotten.
local function done(keys, args)
  local row = row_of(keys)
  if redis.call('HGET', keys[4], args[2]) ~= args[1] then return 0 end
  local due = row and row.state == 'confirmed' and forget_at(number(row, 'confirmedAt', keys), args[3])

  redis.call('HDEL', keys[4], args[2])
  if due then redis.call('ZADD', keys[3], due, args[1]) end
  return 1
end

redis.register_function('kakitome_v1_declare', declare)
redis.register_function('kakitome_v1_dispatched', dispatched)
redis.register_function('kakitome_v1_release', release)
redis.register_function('kakitome_v1_confirm', confirm)
redis.register_function('kakitome_v1_keep_receipt', keep_receipt)
-- These give memory back, so they run even where Redis has reached its limit and refuses every other write.
redis.register_function { function_name = 'kakitome_v1_withdraw', callback = withdraw, flags = { 'allow-oom' } }
redis.register_function { function_name = 'kakitome_v1_sweep', callback = sweep, flags = { 'allow-oom' } }
redis.register_function { function_name = 'kakitome_v1_done', callback = done, flags = { 'allow-oom' } }
