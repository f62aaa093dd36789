--[[ The session table's steps inside Redis: one function for each transition of a row (docs/protocol.md, section 6).

  A function runs alone, but an error in its middle would leave half of its writes. Therefore each one reads and checks everything
  first, the types of its keys included, and from its first write on does only what cannot fail.

  KEYS of every function, all in one slot by the bucket's hash tag:
    1 row      hash: `state`, the declaration, `vanishAt`, and what the state adds (session.ts)
    2 aud      stream: event, session, at, who, and its place in the chain: n, hash
    3 head     hash: n and hash of the newest entry of aud
    4 due      sorted set: session -> when the sweep has to look at it, milliseconds since the epoch
    5 out      hash: evidence -> session of each receipt that is not mailed, behind it who mails it and until when
    6 decoy    hash: read in place of a row that is not there, see theirs(); one a bucket, it belongs to nobody
    7 receipt  string, for keep_receipt only
  ARGV[1] is the session hash, ARGV[2] the time of the step (of `done`, `claim` and `keep_receipt`: the evidence).

  Every function answers with two things: the ID of the audit entry that it wrote, or '', by which the broker knows later that this
  step is still there; and what it has to say. A step that was done before still writes (`seenAt`, `releases`): WAIT, which follows,
  counts the replicas that have the connection's last write, and that one comes after the step itself. ]]

local KINDS = { 'hash', 'stream', 'hash', 'zset', 'hash', 'hash', 'string' }
local STATES = { declared = true, dispatched = true, released = true, confirmed = true, expired = true, withdrawn = true, recalled = true }
--- What a row loses when its key goes; and what it keeps where it has to say later when the key was given out.
local OF_THE_KEY = { 'wrappedKey', 'ticket', 'nextTicket', 'holder', 'claimedUntil', 'releases' }
local OF_THE_RELEASE = { 'filing', 'releasedMac' }

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
  local known = redis.call('HMGET', keys[3], 'n', 'hash')
  local n = digits((tonumber(known[1] or '0') or 0) + 1)
  local hash = chained(known[2] or '', { n, event, session, at, who })
  written = redis.call('XADD', keys[2], '*', 'event', event, 'session', session, 'at', at, 'who', who, 'n', n, 'hash', hash)
  redis.call('HSET', keys[3], 'n', n, 'hash', hash)
  return 1 -- something has changed
end

--- What a bearer's right is decided by.
local DECISIVE =
  { 'state', 'recipient', 'sender', 'declaredAt', 'expiresAt', 'terms', 'holder', 'claimedUntil', 'nextSession', 'delayedEvidence' }

--- As long as a row, so that Redis keeps and reads it in the same way. Its parties are no addresses: nobody has them.
local function make_decoy(key)
  local digest, time, id = string.rep('0', 64), '1000000000000', '00000000-0000-4000-8000-000000000000@invalid'
  local terms = '{"hold":"held","signing":"signed","confirm":"next-session","contentId":"' .. id .. '"}'
  redis.call(
    'HSET', key, 'state', 'declared', 'gateway', 'gateway.invalid', 'sender', 'sender at invalid', 'recipient', 'recipient at invalid',
    'messageId', '<' .. id .. '>', 'commit', digest, 'declaredAt', time, 'expiresAt', time, 'vanishAt', time, 'terms', terms,
    'ticketHash', digest, 'declaredMac', digest, 'wrappedKey', string.rep('0', 92), 'ticket', string.rep('0', 400)
  )
end

--- What decides whether a bearer gets anything. It costs the same for every ticket, and each refusal writes the same entry: neither
-- the answer nor its time tells an unknown ticket from one that is foreign, expired, withdrawn or used. args from `first` on: the
-- bearer's mailboxes; party: `recipient` or `sender`. Returns the row's decisive fields where it is one of theirs, or nil; and the fields
-- that were read in any case, the decoy's where there is no row. Only the first call in a bucket takes longer: it makes the decoy.
local function theirs(keys, args, first, party)
  local exists = begin(keys)
  if redis.call('HEXISTS', keys[6], 'state') == 0 then make_decoy(keys[6]) end
  local values, row = redis.call('HMGET', exists and keys[1] or keys[6], unpack(DECISIVE)), {}
  for i, name in ipairs(DECISIVE) do row[name] = values[i] or nil end
  if not STATES[row.state or ''] then refuse('field state', keys) end
  for i = first, #args do
    if row[party] == args[i] then return row, row end
  end
  return nil, row
end

--- "Longer than the retention ago" begins one millisecond after it.
local function forget_at(ended, retention) return digits(tonumber(ended) + tonumber(retention) + 1) end

--- What was agreed on; nothing where it cannot be read.
local function terms_of(row)
  local known, terms = pcall(cjson.decode, row.terms or '')
  return known and type(terms) == 'table' and terms or {}
end

--- T1 or T2, whichever the sweep has to look at first: session.ts has the same rule.
local function first_look(row, keys)
  local look, terms = number(row, 'expiresAt', keys), terms_of(row)
  local wish, after = tonumber(terms.warnAt), tonumber(terms.warnAfter)
  local latest = after and number(row, 'declaredAt', keys) + after
  local warn = wish and latest and math.min(wish, latest) or wish or latest
  if row.delayedEvidence or not warn then return look end
  return math.min(warn, look)
end

--- What has to be the same where a declaration comes again, its answer having been lost.
local AGREED = { gateway = true, sender = true, recipient = true, messageId = true, commit = true, terms = true }

--- ARGV 3 when the sweep has to look at it first; from 4 on the fields and their values. Returns 1 where the row is new and holds just
-- these; a row that was kept before as a flat list; nil where another declaration has the name, or this one has gone further.
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
    return redis.call('HGETALL', keys[1])
  end
  redis.call('HSET', keys[1], unpack(fields))
  redis.call('ZADD', keys[4], args[3], args[1])
  return audit(keys, 'declared', args[1], args[2], gateway)
end

--- ARGV 3 gateway. Returns -1 where nobody can open the letter any more.
local function dispatched(keys, args)
  local row = row_of(keys)
  if not row or row.gateway ~= args[3] or row.endedAt then return -1 end
  local look = first_look(row, keys)
  if row.state ~= 'declared' then
    redis.call('HSET', keys[1], 'seenAt', args[2])
    return 0
  end

  redis.call('HSET', keys[1], 'state', 'dispatched')
  redis.call('ZADD', keys[4], digits(look), args[1])
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
  redis.call('ZADD', keys[4], due, args[1])
  return audit(keys, 'withdrawn', args[1], args[2], args[3])
end

--- S7. ARGV 3 next session, 4 next ticket, 5 the ticket as it was presented, 6 marker of the filed copy, 7 who opens it, 8 until when
-- nobody else may, 9 MAC of the release, from 10 on the presenter's mailboxes.
-- Returns the row as a flat list; nil where there is nothing to give; 'claimed' where somebody else is at it; 'recalled' where the
-- sender has taken back what is theirs: that too is recorded as every other refusal.
local function release(keys, args)
  local at, row, read = tonumber(args[2]), theirs(keys, args, 10, 'recipient')
  local expires, look = number(read, 'expiresAt', keys), first_look(read, keys) -- in any case: it takes its time
  local waits = row and (row.state == 'declared' or row.state == 'dispatched')
  if not row or at >= expires or not (waits or row.state == 'released') then
    audit(keys, 'release refused', args[1], args[2], args[10])
    return row and row.state == 'recalled' and 'recalled' or nil
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
  redis.call('ZADD', keys[4], digits(look), args[1])
  audit(keys, 'released', args[1], args[2], row.recipient)
  return redis.call('HGETALL', keys[1])
end

--- ARGV from 3 on the bearer's mailboxes. Returns the row as a flat list where its key was given to one of them, or nil.
local function given_out(keys, args)
  local row = theirs(keys, args, 3, 'recipient')
  if not row or (row.state ~= 'released' and row.state ~= 'confirmed') then return nil end
  return redis.call('HGETALL', keys[1])
end

--- ARGV from 3 on the sender's mailboxes. Returns the row as a flat list where one of them sent the letter, or nil.
local function sent(keys, args)
  if not theirs(keys, args, 3, 'sender') then return nil end
  return redis.call('HGETALL', keys[1])
end

--- The end of a letter that was not opened. The row leaves `due`: as long as its report is not mailed it must not be forgotten.
local function finish(keys, session, state, at, evidence, mac)
  redis.call('HSET', keys[1], 'state', state, 'endedAt', at, 'evidence', evidence, 'endedMac', mac)
  redis.call('ZREM', keys[4], session)
  redis.call('HSET', keys[5], evidence, session)
end

--- ARGV 3 evidence, 4 MAC of the end, from 5 on the sender's mailboxes. Returns the row as it is now, a flat list; nil where none of
-- them sent it.
local function recall(keys, args)
  local row = theirs(keys, args, 5, 'sender')
  if not row then
    audit(keys, 'recall refused', args[1], args[2], args[5])
    return nil
  end
  if row.state == 'declared' or row.state == 'dispatched' then
    redis.call('HDEL', keys[1], unpack(OF_THE_KEY))
    finish(keys, args[1], 'recalled', args[2], args[3], args[4])
    audit(keys, 'recalled', args[1], args[2], row.sender)
  else
    redis.call('HSET', keys[1], 'seenAt', args[2])
  end
  return redis.call('HGETALL', keys[1])
end

--- S10-S11. ARGV 3 next session, 4 evidence, 5 certificate, 6 proof, 7 MAC of the confirmation, 8 retention, 9 recipient. Returns the row
-- as a flat list, or nil. The row leaves `due`: as long as its receipt is not mailed it must not be forgotten.
local function confirm(keys, args)
  local row = theirs(keys, args, 9, 'recipient')
  if not row or row.nextSession ~= args[3] or (row.state ~= 'released' and row.state ~= 'confirmed') then
    audit(keys, 'confirm refused', args[1], args[2], args[9])
    return nil
  end
  if row.state == 'confirmed' then
    redis.call('HSET', keys[1], 'seenAt', args[2])
    return redis.call('HGETALL', keys[1])
  end
  local due = terms_of(row).receipt == false and forget_at(args[2], args[8]) -- the sender wants no mail

  redis.call('HDEL', keys[1], unpack(OF_THE_KEY))
  redis.call('HDEL', keys[1], unpack(OF_THE_RELEASE))
  redis.call('HSET', keys[1], 'state', 'confirmed', 'confirmedAt', args[2], 'evidence', args[4], 'certificate', args[5])
  redis.call('HSET', keys[1], 'proof', args[6], 'confirmedMac', args[7])
  if due then
    redis.call('ZADD', keys[4], due, args[1])
  else
    redis.call('ZREM', keys[4], args[1])
    redis.call('HSET', keys[5], args[4], args[1])
  end
  audit(keys, 'confirmed', args[1], args[2], args[9])
  return redis.call('HGETALL', keys[1])
end
