#!lua name=kakitome_v3
--[[ The session table's steps inside Redis: one function for each transition of a row (docs/protocol.md, section 6).

  A function runs alone, but an error in its middle would leave half of its writes. Therefore each one reads and checks everything
  first, the types of its keys included, and from its first write on does only what cannot fail.

  KEYS of every function, all in one slot by the bucket's hash tag:
    1 row      hash: `state`, the declaration, `vanishAt`, and what the state adds (session.ts)
    2 aud      stream: event, session, at, who
    3 due      sorted set: session -> when the sweep has to look at it, milliseconds since the epoch
    4 out      hash: evidence -> session of each receipt that is not mailed, behind it who mails it and until when
    5 receipt  string, for keep_receipt only
  ARGV[1] is the session hash, ARGV[2] the time of the step (of `done`, `claim` and `keep_receipt`: the evidence).

  Every function answers with two things: the ID of the audit entry that it wrote, or '', by which the broker knows later that this
  step is still there; and what it has to say. A step that was done before still writes (`seenAt`, `releases`): WAIT, which follows,
  counts the replicas that have the connection's last write, and that one comes after the step itself. ]]

local KINDS = { 'hash', 'stream', 'zset', 'hash', 'string' }
local STATES = { declared = true, dispatched = true, released = true, confirmed = true, expired = true, withdrawn = true }
--- What a row loses when its key goes.
local OF_THE_KEY = { 'wrappedKey', 'ticket', 'nextTicket', 'filing', 'releasedMac', 'holder', 'claimedUntil', 'releases' }

local function refuse(what, keys) error({ err = 'BROKEN ' .. what .. ' at ' .. keys[1] }) end

local written = ''

--- Every function begins with it. Returns whether there is a first key.
local function begin(keys)
  written = ''
  local first
  for i, key in ipairs(keys) do
    local kind = redis.call('TYPE', key).ok
    if kind ~= 'none' and kind ~= KINDS[i] then refuse('key type ' .. kind, { key }) end
    first = first or kind
  end
  return first ~= 'none'
end

--- The row as a table, or nil.
local function row_of(keys)
  begin(keys)
  local flat = redis.call('HGETALL', keys[1])
  if #flat == 0 then return nil end
  local row = {}
  for i = 1, #flat, 2 do row[flat[i]] = flat[i + 1] end
  if not STATES[row.state or ''] then refuse('field state', keys) end
  return row
end

local function number(row, field, keys) return tonumber(row[field]) or refuse('field ' .. field, keys) end

--- Exact for every integer that JavaScript can hold.
local function digits(value) return string.format('%.0f', value) end

local function audit(keys, event, session, at, who)
  written = redis.call('XADD', keys[2], '*', 'event', event, 'session', session, 'at', at, 'who', who)
  return 1 -- something has changed
end

--- What decides whether a bearer gets anything. It costs the same for every ticket, and each refusal writes the same entry: neither
-- the answer nor its time tells an unknown ticket from one that is foreign, expired, withdrawn or used. args from `first` on: the
-- bearer's mailboxes. Returns the row's decisive fields where it is one of theirs.
local DECISIVE = { 'state', 'recipient', 'expiresAt', 'terms', 'holder', 'claimedUntil', 'nextSession' }
local function theirs(keys, args, first)
  local exists = begin(keys)
  local values, row = redis.call('HMGET', keys[1], unpack(DECISIVE)), {}
  for i, name in ipairs(DECISIVE) do row[name] = values[i] or nil end
  if exists and not STATES[row.state or ''] then refuse('field state', keys) end
  for i = first, #args do
    if row.recipient == args[i] then return row end
  end
  return nil
end

--- "Longer than the retention ago" begins one millisecond after it.
local function forget_at(ended, retention) return digits(tonumber(ended) + tonumber(retention) + 1) end

--- What has to be the same where a declaration comes again, its answer having been lost.
local AGREED = { gateway = true, sender = true, recipient = true, messageId = true, commit = true, terms = true }

--- ARGV 3 when the sweep has to look at it first; from 4 on the fields and their values. Returns the row as it is kept, a flat list;
-- nil where another declaration has the name, or this one has gone further.
local function declare(keys, args)
  local row = row_of(keys)
  local fields, gateway = { 'state', 'declared' }, nil
  for i = 4, #args, 2 do
    fields[#fields + 1] = args[i]
    fields[#fields + 1] = args[i + 1]
    if args[i] == 'gateway' then gateway = args[i + 1] end
    if row and AGREED[args[i]] and row[args[i]] ~= args[i + 1] then return nil end
  end
  if row and row.state ~= 'declared' and row.state ~= 'dispatched' then return nil end

  if row then
    redis.call('HSET', keys[1], 'seenAt', args[2])
  else
    redis.call('HSET', keys[1], unpack(fields))
    redis.call('ZADD', keys[3], args[3], args[1])
    audit(keys, 'declared', args[1], args[2], gateway)
  end
  return redis.call('HGETALL', keys[1])
end

--- ARGV 3 gateway. Returns -1 where nobody can open the letter any more.
local function dispatched(keys, args)
  local row = row_of(keys)
  if not row or row.gateway ~= args[3] or row.state == 'expired' or row.state == 'withdrawn' then return -1 end
  local expires = number(row, 'expiresAt', keys)
  if row.state ~= 'declared' then
    redis.call('HSET', keys[1], 'seenAt', args[2])
    return 0
  end

  redis.call('HSET', keys[1], 'state', 'dispatched')
  redis.call('ZADD', keys[3], digits(expires), args[1])
  return audit(keys, 'dispatched', args[1], args[2], args[3])
end

--- ARGV 3 gateway, 4 retention. Returns whether the row is withdrawn.
local function withdraw(keys, args)
  local row = row_of(keys)
  if not row or row.gateway ~= args[3] then return 0 end
  if row.state == 'withdrawn' then
    redis.call('HSET', keys[1], 'seenAt', args[2])
    return 1
  end
  if row.state ~= 'declared' and row.state ~= 'dispatched' then return 0 end
  local due = forget_at(args[2], args[4])

  redis.call('HDEL', keys[1], unpack(OF_THE_KEY))
  redis.call('HSET', keys[1], 'state', 'withdrawn', 'endedAt', args[2])
  redis.call('ZADD', keys[3], due, args[1])
  return audit(keys, 'withdrawn', args[1], args[2], args[3])
end

--- S7. ARGV 3 next session, 4 next ticket, 5 the ticket as it was presented, 6 marker of the filed copy, 7 who opens it, 8 until when
-- nobody else may, 9 MAC of the release, from 10 on the presenter's mailboxes.
-- Returns the row as a flat list; nil where there is nothing to give; 'claimed' where somebody else is at it.
local function release(keys, args)
  local at, row = tonumber(args[2]), theirs(keys, args, 10)
  local expires = row and number(row, 'expiresAt', keys)
  local waits = row and (row.state == 'declared' or row.state == 'dispatched')
  if not row or at >= expires or not (waits or row.state == 'released') then
    audit(keys, 'release refused', args[1], args[2], args[10])
    return nil
  end
  if redis.call('HEXISTS', keys[1], 'wrappedKey') == 0 then refuse('field wrappedKey', keys) end
  if row.state == 'released' then
    if row.holder ~= args[7] and at < number(row, 'claimedUntil', keys) then return 'claimed' end
    redis.call('HSET', keys[1], 'holder', args[7], 'claimedUntil', args[8])
    redis.call('HINCRBY', keys[1], 'releases', 1)
    return redis.call('HGETALL', keys[1])
  end
  local session, ticket = args[3], args[4]
  if string.find(row.terms or '', '"confirm":"same-session"', 1, true) then session, ticket = args[1], args[5] end

  redis.call('HSET', keys[1], 'state', 'released', 'releasedAt', args[2], 'nextSession', session, 'nextTicket', ticket, 'filing', args[6])
  redis.call('HSET', keys[1], 'holder', args[7], 'claimedUntil', args[8], 'releases', '1', 'releasedMac', args[9])
  redis.call('ZADD', keys[3], digits(expires), args[1])
  audit(keys, 'released', args[1], args[2], row.recipient)
  return redis.call('HGETALL', keys[1])
end

--- ARGV from 3 on the bearer's mailboxes. Returns the row as a flat list where its key was given to one of them, or nil.
local function given_out(keys, args)
  local row = theirs(keys, args, 3)
  if not row or (row.state ~= 'released' and row.state ~= 'confirmed') then return nil end
  return redis.call('HGETALL', keys[1])
end

--- S10-S11. ARGV 3 next session, 4 evidence, 5 certificate, 6 proof, 7 MAC of the confirmation, 8 recipient. Returns the row as a flat
-- list, or nil. The row leaves `due`: as long as its receipt is not mailed it must not be forgotten.
local function confirm(keys, args)
  local row = theirs(keys, args, 8)
  if not row or row.nextSession ~= args[3] or (row.state ~= 'released' and row.state ~= 'confirmed') then
    audit(keys, 'confirm refused', args[1], args[2], args[8])
    return nil
  end
  if row.state == 'confirmed' then
    redis.call('HSET', keys[1], 'seenAt', args[2])
    return redis.call('HGETALL', keys[1])
  end

  redis.call('HDEL', keys[1], unpack(OF_THE_KEY))
  redis.call('HSET', keys[1], 'state', 'confirmed', 'confirmedAt', args[2], 'evidence', args[4], 'certificate', args[5])
  redis.call('HSET', keys[1], 'proof', args[6], 'confirmedMac', args[7])
  redis.call('ZREM', keys[3], args[1])
  audit(keys, 'confirmed', args[1], args[2], args[8])
  redis.call('HSET', keys[4], args[4], args[1])
  return redis.call('HGETALL', keys[1])
end

local function forget(keys, session, at, event)
  redis.call('DEL', keys[1])
  redis.call('ZREM', keys[3], session)
  return audit(keys, event, session, at, 'broker')
end

local function expire(keys, session, at, retention)
  redis.call('HDEL', keys[1], 'nextSession', unpack(OF_THE_KEY))
  redis.call('HSET', keys[1], 'state', 'expired', 'endedAt', at)
  redis.call('ZADD', keys[3], forget_at(at, retention), session)
  return audit(keys, 'expired', session, at, 'broker')
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
  redis.call('SET', keys[5], args[3], 'NX')
  return redis.call('GET', keys[5])
end

--- Of an outbox entry.
local function entry_of(keys, evidence)
  local value = redis.call('HGET', keys[4], evidence)
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
  redis.call('HSET', keys[4], args[2], args[1] .. ' ' .. args[5] .. ' ' .. args[3])
  return 1
end

--- ARGV 3 retention. From now on the row can be forgotten.
local function done(keys, args)
  local row = row_of(keys)
  if entry_of(keys, args[2]) ~= args[1] then return 0 end
  local due = row and row.state == 'confirmed' and forget_at(number(row, 'confirmedAt', keys), args[3])

  redis.call('HDEL', keys[4], args[2])
  if due then redis.call('ZADD', keys[3], due, args[1]) end
  return 1
end

--- KEYS 1 what is revoked in this bucket: name -> record, 2 aud. ARGV 1 SHA-256 of the name, 2 time, 3 name, 4 record, 5 who says so.
-- Returns the record that is kept: the first one.
local function revoke(keys, args)
  begin(keys)
  if redis.call('HSETNX', keys[1], args[3], args[4]) == 1 then audit(keys, 'revoked', args[1], args[2], args[5]) end
  return redis.call('HGET', keys[1], args[3])
end

--- @param frees such a step gives memory back, so it runs even where Redis has reached its limit and refuses every other write
local function register(name, step, frees)
  redis.register_function {
    function_name = 'kakitome_v3_' .. name,
    callback = function(keys, args)
      local answer = step(keys, args)
      return { written, answer == nil and false or answer }
    end,
    flags = frees and { 'allow-oom' } or {},
  }
end

register('declare', declare); register('dispatched', dispatched); register('withdraw', withdraw, true)
register('release', release); register('given_out', given_out); register('confirm', confirm); register('sweep', sweep, true)
register('keep_receipt', keep_receipt); register('claim', claim); register('done', done, true); register('revoke', revoke)
