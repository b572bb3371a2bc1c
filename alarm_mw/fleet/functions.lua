#!lua name=@LIBRARY@
-- What masters share, as Redis Functions. Each call is atomic, and says the same when it is repeated.
--
-- KEYS[1] is "{alarm_mw:FLEET}:gen"; all other keys have the same hash tag, and so lie in the same slot:
--   gen          the generation of this state: a new one begins when the state was lost, or may be incomplete
--   i:KEY        a message key: an incident, or events with the same fingerprint; "a:ALARM" is the state of an alarm
--   m:KEY c:KEY  its machines by the time since which they are firing, and what each of them has counted
--   open empty   incidents that are firing somewhere; those without machines whose alarms still wait for the end
--   past e:KEY   episodes that are over, KEY~NUMBER by the times of their ends; what is known of them, by their numbers
--   hb mach inst left late dead   machines: last heartbeat, facts, process, planned leave, silence
--   rate: arate  the messages of an alarm, of all alarms for humans together
--   sil ev lock  silences, the stream of events, which machine sweeps
-- All times are milliseconds by Redis' clock. ARGV[1] is JSON, as are all answers.

local DAY = 86400000
local STEPS = {10, 100, 1000, 10000, 100000}
local MOST_OPEN, MOST_SILENCES, MOST_MACHINES = 10000, 5000, 20000
-- Episodes that are over: in all, of one incident, and how long they are kept. The names of so many machines are kept.
local MOST_EPISODES, MOST_OF_ONE, EPISODE_AGE, NAMED = 10000, 100, 90 * DAY, 20
-- Nobody waits any more for the answer to a call that took so long: Redis hung meanwhile.
local TOO_LATE = 4000
-- A claim whose owner lives, and does nothing.
local STALE_CLAIM = 600000

local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

local function event(p, kind, body)
  redis.call('XADD', p .. 'ev', 'MAXLEN', '~', 10000, '*', 't', kind, 'd', cjson.encode(body))
end

local function new_generation(p, now, grace, run)
  redis.call('HSET', p .. 'gen', 'id', now, 'grace', now + grace, 'run', run)
  redis.call('PEXPIRE', p .. 'gen', 8 * DAY)
  event(p, 'gen', {gen = now, grace = grace})
  return now, now + grace
end

local function generation(p, now, grace)
  local g = redis.call('HMGET', p .. 'gen', 'id', 'grace')
  if g[1] then return tonumber(g[1]), tonumber(g[2]) end
  return new_generation(p, now, grace, '')
end

-- What every function begins with.
local function begin(keys, argv)
  local x = {p = string.sub(keys[1], 1, -4), now = now_ms(), o = cjson.decode(argv[1])}
  x.gen, x.grace = generation(x.p, x.now, x.o.grace or 6000)
  return x
end

local function answer(x, kind, more)
  local a = more or {}
  a.kind, a.gen, a.now = kind, x.gen, x.now
  return cjson.encode(a)
end

-- The state of a message key, and of one alarm in it.
local function load(x)
  local o = x.o
  x.ik, x.mk, x.ck, x.field = x.p .. 'i:' .. o.key, x.p .. 'm:' .. o.key, x.p .. 'c:' .. o.key, 'a:' .. o.alarm
  local h = redis.call('HMGET', x.ik, 'ep', 'open', 'ack', x.field, 'rs', 'rb')
  x.ep, x.open, x.ack = tonumber(h[1]) or 0, h[2] == '1', h[3]
  -- What had begun when somebody ended the incident by hand is over, on machines that were away as well.
  local resolved = tonumber(h[5])
  local is_before = resolved and o.is_member and not o.is_event and o.began and o.began <= resolved
  if is_before and not redis.call('ZSCORE', x.mk, o.machine) then
    x.over = {by = h[6] or '', at = resolved}
  end
  x.s = h[4] and cjson.decode(h[4]) or {}
end

local function save(x)
  redis.call('HSET', x.ik, 'ep', x.ep)
  if x.o.alarm ~= '' then redis.call('HSET', x.ik, x.field, cjson.encode(x.s)) end
  local ttl = x.o.is_event and math.max(3600000, 2 * (x.o.window or 0)) or 2 * DAY
  redis.call('PEXPIRE', x.ik, ttl)
  redis.call('PEXPIRE', x.mk, ttl)
  redis.call('PEXPIRE', x.ck, ttl)
end

local function forget_key(p, key)
  redis.call('DEL', p .. 'i:' .. key, p .. 'm:' .. key, p .. 'c:' .. key)
  redis.call('ZREM', p .. 'open', key)
  redis.call('ZREM', p .. 'empty', key)
end

local function is_alive(x, machine)
  local beat = redis.call('ZSCORE', x.p .. 'hb', machine)
  return beat and x.now - tonumber(beat) < (x.o.owner_timeout or 15000)
end

-- Whether another message of this alarm is about to be sent.
local function is_claimed(x)
  local s = x.s
  return s.o and x.now - s.c < STALE_CLAIM and is_alive(x, s.o)
end

-- Return whether the alarm knows that the incident is firing, or may know.
local function is_told_open(s)
  return s.ts == 'open' or (s.o and s.tried and s.k ~= 'resolved')
end

-- Return whether an alarm must still be notified of the end.
local function owes_end(s)
  return is_told_open(s) and not s.nr
end

-- Budgets

local function is_used_up(key, limit, id, now)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - limit[2])
  return not redis.call('ZSCORE', key, id) and redis.call('ZCARD', key) >= limit[1]
end

local function spend(key, limit, id, at)
  redis.call('ZADD', key, 'NX', at, id)
  redis.call('ZREMRANGEBYRANK', key, 0, -limit[1] - 1)
  redis.call('PEXPIRE', key, math.ceil(limit[2]))
end

local function spend_all(x, id, at)
  local o = x.o
  if o.rate and x.now - at < o.rate[2] then spend(x.p .. 'rate:' .. o.alarm, o.rate, id, at) end
  if o.alarm_rate and x.now - at < o.alarm_rate[2] then spend(x.p .. 'arate', o.alarm_rate, id, at) end
end

local function used_up(x, id)
  local o = x.o
  if o.rate and is_used_up(x.p .. 'rate:' .. o.alarm, o.rate, id, x.now) then return 'rate' end
  if o.alarm_rate and is_used_up(x.p .. 'arate', o.alarm_rate, id, x.now) then return 'alarm_rate' end
end

-- Machines of a message key

local function split(value)
  local count, thread = string.match(value or '', '^(%d+):(.*)$')
  return tonumber(count) or 0, thread or ''
end

-- A machine has nothing to report any more. It has counted so much, if it says so. Its place among the counts remains, as
-- one of the machines of the episode.
local function leave(p, key, machine, counted)
  local value = redis.call('HGET', p .. 'c:' .. key, machine)
  if value and value ~= '0:' then
    redis.call('HSET', p .. 'c:' .. key, machine, '0:')
    redis.call('HINCRBY', p .. 'i:' .. key, 'n', math.max(split(value), counted or 0))
  end
  local was = redis.call('ZREM', p .. 'm:' .. key, machine)
  if was == 1 then redis.call('HSET', p .. 'i:' .. key, 'lm', machine) end
  return was
end

local function alarms_of(p, key)
  local all = redis.call('HGETALL', p .. 'i:' .. key)
  local found = {}
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 2) == 'a:' then found[string.sub(all[i], 3)] = cjson.decode(all[i + 1]) end
  end
  return found
end

-- Episodes that are over

local function forget_episode(p, key, ep)
  redis.call('HDEL', p .. 'e:' .. key, ep)
  redis.call('ZREM', p .. 'past', key .. '~' .. ep)
end

local function forget_episodes(p, members)
  for _, member in ipairs(members) do forget_episode(p, string.match(member, '^(.*)~(%d+)$')) end
end

local function first_number(ek)
  local all, least = redis.call('HGETALL', ek), math.huge
  for i = 1, #all, 2 do least = math.min(least, tonumber(all[i])) end
  return string.format('%d', least)
end

-- Keep an episode, known by its key and number: a later call for the same one replaces it.
local function keep_episode(p, key, e)
  local ek, ep = p .. 'e:' .. key, string.format('%d', e.ep)
  redis.call('HSET', ek, ep, cjson.encode(e))
  redis.call('ZADD', p .. 'past', e.ended, key .. '~' .. ep)
  if redis.call('HLEN', ek) > MOST_OF_ONE then forget_episode(p, key, first_number(ek)) end
  local surplus = redis.call('ZCARD', p .. 'past') - MOST_EPISODES
  if surplus > 0 then forget_episodes(p, redis.call('ZRANGE', p .. 'past', 0, surplus - 1)) end
  redis.call('PEXPIRE', ek, EPISODE_AGE)
  redis.call('PEXPIRE', p .. 'past', EPISODE_AGE)
end

-- What an alarm was told of an episode: the first and the last message, that it is over, and how many there were.
local function told_of(s)
  local a = {first = s.ft, first_by = s.fb, n = s.q}
  if s.ts == 'over' then
    a.over, a.over_by = s.told, s.by
  elseif s.told ~= s.ft then
    a.last, a.last_by = s.told, s.by
  end
  return a
end

-- Record the open episode of a key, which is about to end. `how` has its cause, and who has ended it.
local function record_episode(p, key, now, how)
  local h = redis.call('HMGET', p .. 'i:' .. key, 'open', 'ep', 'st', 'n', 'info', 'ack')
  if h[1] ~= '1' or not h[2] then return end
  local e = {ep = tonumber(h[2]), began = tonumber(h[3]) or now, ended = now, count = tonumber(h[4]) or 0, alarms = {},
    info = h[5] or nil, ack = h[6] and cjson.decode(h[6]) or nil, cause = how.cause, by = how.by}
  local counts, names = redis.call('HGETALL', p .. 'c:' .. key), {}
  for i = 1, #counts, 2 do
    names[#names + 1] = counts[i]
    e.count = e.count + split(counts[i + 1])
  end
  table.sort(names)
  e.n = #names
  if #names > 0 then e.machines = {unpack(names, 1, math.min(#names, NAMED))} end
  for alarm, s in pairs(alarms_of(p, key)) do
    if s.te == e.ep and s.ft then e.alarms[alarm] = told_of(s) end
  end
  keep_episode(p, key, e)
end

-- Add a message to an episode that is over: mostly that it is.
local function add_to_episode(x, told)
  local ep = string.format('%d', told.ep)
  local known = redis.call('HGET', x.p .. 'e:' .. x.o.key, ep)
  if not known then return end
  local e = cjson.decode(known)
  local a = e.alarms[x.o.alarm] or {}
  if told.status == 'over' then
    a.over, a.over_by = told.at, told.by
  elseif a.first then
    a.last, a.last_by = told.at, told.by
  else
    a.first, a.first_by = told.at, told.by
  end
  a.n, e.alarms[x.o.alarm] = told.seq, a
  redis.call('HSET', x.p .. 'e:' .. x.o.key, ep, cjson.encode(e))
end

-- The last machine has left: the episode is over, and is recorded. Return which alarms, beside `but`, are to be told.
local function close(p, key, now, but, how)
  record_episode(p, key, now, how)
  redis.call('HDEL', p .. 'i:' .. key, 'open', 'ack')
  redis.call('DEL', p .. 'c:' .. key)
  redis.call('ZREM', p .. 'open', key)
  local owed, any = {}, false
  for alarm, s in pairs(alarms_of(p, key)) do
    if owes_end(s) then
      any = true
      if alarm ~= but then owed[#owed + 1] = alarm end
    end
  end
  if any then redis.call('ZADD', p .. 'empty', 'NX', now, key) end
  return owed
end

local function make_room(p)
  if redis.call('ZCARD', p .. 'open') >= MOST_OPEN then
    local oldest = redis.call('ZRANGE', p .. 'open', 0, 0)
    forget_key(p, oldest[1])
  end
end

local function reopen(x, ep, since)
  local known = redis.call('ZSCORE', x.p .. 'open', x.o.key)
  if not known then make_room(x.p) end
  x.ep, x.open, x.ack = ep, true, false
  forget_episode(x.p, x.o.key, string.format('%d', ep))
  redis.call('HSET', x.ik, 'ep', ep, 'open', 1, 'st', since, 'n', 0)
  redis.call('HDEL', x.ik, 'ack', 'info')
  redis.call('DEL', x.ck)
  redis.call('ZADD', x.p .. 'open', x.now, x.o.key)
end

-- A machine reports an incident. Where nobody else does, an episode begins.
local function join(x)
  local o = x.o
  local _, thread = split(redis.call('HGET', x.ck, o.machine))
  if thread ~= '' and o.thread and thread ~= o.thread then
    leave(x.p, o.key, o.machine)
    if redis.call('ZCARD', x.mk) == 0 then
      record_episode(x.p, o.key, x.now, {})
      x.open = false
    end
  end
  if not x.open then
    local ep = o.ep or 0
    if x.ep > 0 then ep = math.max(x.ep + 1, ep) elseif ep == 0 then ep = math.floor(x.now / 60000) end
    reopen(x, ep, o.fired or x.now)
  end
  redis.call('ZADD', x.mk, 'NX', x.now, o.machine)
  redis.call('HSET', x.ck, o.machine, string.format('%d:%s', o.count or 1, o.thread or thread))
  redis.call('ZREM', x.p .. 'empty', o.key)
  if o.info then redis.call('HSETNX', x.ik, 'info', o.info) end
  if o.ack and not x.ack and o.ack['until'] > x.now then
    x.ack = cjson.encode(o.ack)
    redis.call('HSET', x.ik, 'ack', x.ack)
  end
end

-- Count an event, once for each firing.
local function count_event(x)
  local o = x.o
  if redis.call('HGET', x.ck, o.machine) ~= o.id then
    redis.call('HSET', x.ck, o.machine, o.id)
    redis.call('ZADD', x.mk, 'NX', x.now, o.machine)
    x.s.n = (x.s.n or 0) + (o.count or 1)
  end
  if o.info then redis.call('HSETNX', x.ik, 'info', o.info) end
end

-- Answers

local function own(x)
  local s, o = x.s, x.o
  local machines = redis.call('ZRANGE', x.mk, 0, 19)
  local more = {id = s.i, token = s.t, claimed = s.k, ep = x.ep, n = redis.call('ZCARD', x.mk), held = s.held, since = s.hs}
  if #machines > 0 then more.machines = machines end
  if o.is_event then
    more.count = s.n
  else
    local kept = redis.call('HMGET', x.ik, 'n', 'st')
    local count = tonumber(kept[1]) or 0
    for _, value in ipairs(redis.call('HVALS', x.ck)) do count = count + split(value) end
    more.count, more.started = count, tonumber(kept[2])
  end
  save(x)
  return answer(x, 'own', more)
end

-- The id of the message that is not sent yet, if this offer is about the same.
local function pending_id(x)
  local s = x.s
  local is_same = x.o.is_event or (s.ce == x.ep and (s.k == 'resolved') == (x.o.kind == 'resolved'))
  return is_same and s.i or nil
end

local function deferred(x)
  local by = x.s.o
  save(x)
  return answer(x, 'deferred', {by = by, id = pending_id(x), ep = x.ep})
end

local function left(x, reason, more)
  local s = x.s
  local a = more or {}
  a.reason, a.by, a.told, a.id, a.ep, a.seq, a.status = reason, s.by, s.told, s.li, s.te or x.ep, s.q, s.ts
  save(x)
  return answer(x, 'left', a)
end

local function wait(x, ms)
  save(x)
  return answer(x, 'wait', {wait = ms, id = pending_id(x), ep = x.ep})
end

-- The sender went on without the fleet long ago, unless its clock is wrong: then it asks again.
local function is_late(x)
  return x.o.sent and x.o.sent > 0 and x.now - x.o.sent > TOO_LATE
end

local function base36(n)
  local digits, out = '0123456789abcdefghijklmnopqrstuvwxyz', ''
  repeat
    local d = n % 36
    out, n = string.sub(digits, d + 1, d + 1) .. out, (n - d) / 36
  until n == 0
  return out
end

local function new_id(x, kind)
  local o, s = x.o, x.s
  if o.is_event then return o.key .. '-' .. base36(x.now) end
  -- The beginning may have been sent although nobody has said so: the end must not have its id.
  local seq = kind == 'resolved' and 'end' or (s.te == x.ep and s.q or 0) + 1
  return o.key .. '-' .. base36(x.ep) .. '-' .. seq .. '.' .. o.name
end

local function grant(x, kind)
  local s, o = x.s, x.o
  if x.grace > x.now then return wait(x, x.grace - x.now) end
  if s.rm == o.machine and x.now - s.ra < (o.release_pause or 10000) then
    return wait(x, (o.release_pause or 10000) - (x.now - s.ra))
  end
  -- An unsent message keeps its id when another machine takes it over; one about another episode gets its own.
  if s.i and (s.ce ~= x.ep or (s.k == 'resolved') ~= (kind == 'resolved')) then s.i = nil end
  local id = s.i or (o.given ~= s.li and o.given) or new_id(x, kind)
  if kind ~= 'resolved' then
    local reason = used_up(x, id)
    if reason then
      if s.hl ~= o.id then s.held, s.hl, s.hs = (s.held or 0) + (o.count_held or 1), o.id, s.hs or x.now end
      return left(x, reason)
    end
  end
  spend_all(x, id, x.now)
  s.g = s.i and s.g or x.now
  s.i, s.o, s.t, s.f, s.k, s.c, s.ce = id, o.machine, math.max((s.t or 0) + 1, x.now), o.id, kind, x.now, x.ep
  s.tried, s.nr, s.rm, s.ra = nil, o.no_resolved, nil, nil
  if kind == 'acknowledged' then s.ka = x.now end
  return own(x)
end

-- Take in that a message was sent.
local function note_told(x, told)
  local s = x.s
  if not x.o.is_event then
    if told.status == 'open' and (s.te ~= told.ep or not s.ft) then s.ft, s.fb = told.at, told.by end
    add_to_episode(x, told)
  end
  s.told, s.te, s.ts, s.by, s.li, s.q = told.at, told.ep, told.status, told.by, told.id, told.seq
  s.tn, s.i, s.o, s.f, s.k, s.c, s.tried, s.held, s.hs, s.hl = told.n, nil, nil, nil, nil, nil, nil, nil, nil, nil
  s.due, s.g, s.rm, s.ra = s.g or told.at, nil, nil, nil
  event(x.p, 'settled', {key = x.o.key, alarm = x.o.alarm, at = s.told, by = s.by, id = s.li, ep = s.te, seq = s.q,
    status = s.ts, gen = x.gen, event = x.o.is_event})
end

-- An alarm was notified of an end: forget what nobody waits for.
local function tidy(x)
  if x.open then return end
  for alarm, s in pairs(alarms_of(x.p, x.o.key)) do
    if alarm ~= x.o.alarm and owes_end(s) then return end
  end
  if owes_end(x.s) then return end
  redis.call('ZREM', x.p .. 'empty', x.o.key)
end

-- Members that could not reach each other may have counted episodes differently: while the incident is firing, what they
-- were told is about this episode. Only what is older than a state without gaps is about a former one.
local function agree_on_episode(x, told)
  if not x.open or told.ep == x.ep then return true end
  if told.ep < x.ep and x.grace <= x.now and not told.is_guess then return false end
  told.ep = x.ep
  return true
end

-- A member says that a message was sent, of which this state may not know.
local function restore(x)
  local s, o = x.s, x.o
  local told = o.told
  if told.is_guess and (s.te or s.o or s.i) then return end
  if not o.is_event and not agree_on_episode(x, told) then return end
  if told.ep < (s.te or 0) or told.at <= (s.told or 0) then return end
  if not o.is_event and told.ep >= x.ep then
    if told.status == 'open' and not x.open and not x.over then
      reopen(x, told.ep, o.fired or told.at)
      if o.info then redis.call('HSETNX', x.ik, 'info', o.info) end
    end
    x.ep = told.ep
  end
  if s.o then s.t = math.max(s.t + 1, x.now) end
  s.nr = o.no_resolved
  note_told(x, {at = told.at, ep = told.ep, status = told.status, by = told.by or o.machine, id = told.id,
    seq = told.seq or 1, n = told.n or 1})
  spend_all(x, told.id, told.at)
  if o.is_event then
    s.ts = nil
  elseif told.status == 'open' and redis.call('ZCARD', x.mk) == 0 then
    redis.call('ZADD', x.p .. 'empty', 'NX', x.now, o.key)
  end
end

-- Confirm a claim, and begin an attempt; or take one up again that this state has lost.
local function confirm(x)
  local s, o = x.s, x.o
  if s.o == o.machine and s.t == o.token then
    s.c, s.tried = x.now, true
    return own(x)
  end
  local is_told = s.li == o.given or (o.claimed == 'begin' and s.te == x.ep and s.ts == 'open')
    or (o.claimed == 'resolved' and s.ts == 'over')
    or (o.is_event and s.told and x.now - s.told < o.window)
  if s.o or (s.t or 0) >= o.token or is_told then
    save(x)
    return answer(x, 'lost', {})
  end
  s.i, s.o, s.t, s.f, s.k, s.c, s.ce, s.tried = o.given, o.machine, o.token, o.id, o.claimed, x.now, x.ep, true
  s.nr = o.no_resolved
  spend_all(x, o.given, x.now)
  return own(x)
end

local function offer_event(x)
  local s, o = x.s, x.o
  if s.told and x.now - s.told < o.window then return left(x, 'fleet', {n = s.n, machines_n = redis.call('ZCARD', x.mk)}) end
  if is_claimed(x) then
    if s.o == o.machine and s.f == o.id then return own(x) end
    return deferred(x)
  end
  return grant(x, 'event')
end

-- Return which message about an incident is to be sent now, or nil.
local function wanted(x)
  local s, o = x.s, x.o
  if o.kind == 'acknowledged' then
    if s.te ~= x.ep or s.ts ~= 'open' then return nil end
    if not s.ka or s.ka < (s.tb or 0) or (x.ack and cjson.decode(x.ack).at > s.ka) then return 'acknowledged' end
    return nil
  end
  if s.te ~= x.ep or s.ts ~= 'open' then return 'begin' end
  -- Since the last message was due, however long it took to send it.
  if o.kind == 'repeat' and o.interval and x.now - (s.due or s.told) >= 0.9 * o.interval then return 'repeat' end
  local n = redis.call('ZCARD', x.mk)
  for _, step in ipairs(STEPS) do
    if n >= step and (s.tn or 1) < step then return 'update' end
  end
  return nil
end

local function offer_incident(x)
  local s, o = x.s, x.o
  if is_claimed(x) then
    if s.o == o.machine and s.f == o.id then return own(x) end
    -- What is about to be sent says all that there is to say, and is sent in any case.
    return deferred(x)
  end
  local ack = x.ack and cjson.decode(x.ack)
  local is_held = ack and ack['until'] > x.now and o.kind ~= 'acknowledged'
  local kind = wanted(x)
  if kind == nil then return left(x, 'fleet', {ack = is_held and ack or nil}) end
  if is_held then return left(x, 'acknowledged', {ack = ack}) end
  return grant(x, kind)
end

local function offer(keys, argv)
  local x = begin(keys, argv)
  local o = x.o
  if o.spent then
    for _, each in ipairs(o.spent) do spend_all(x, each[1], each[2]) end
    return answer(x, 'told', {})
  end
  if is_late(x) then return answer(x, 'wait', {wait = 1000}) end
  load(x)
  if o.told then restore(x) end
  if o.is_member and not o.is_event and not x.over then join(x) end
  if o.kind == 'restore' then
    save(x)
    return answer(x, 'told', {ep = x.ep, over = x.over})
  end
  if o.is_event then count_event(x) end
  if o.token then return confirm(x) end
  if x.over and not (x.s.o == o.machine and x.s.f == o.id) then return left(x, 'fleet', {over = x.over}) end
  if o.is_event then return offer_event(x) end
  return offer_incident(x)
end

local function resolve(keys, argv)
  local x = begin(keys, argv)
  local s, o
  if is_late(x) then return answer(x, 'wait', {wait = 1000}) end
  load(x)
  s, o = x.s, x.o
  if o.token then return confirm(x) end
  leave(x.p, o.key, o.machine, o.count)
  local n = redis.call('ZCARD', x.mk)
  if n > 0 then
    if o.alarm == '' then return answer(x, 'left', {reason = 'fleet'}) end
    return left(x, 'fleet', {n = n, machines = redis.call('ZRANGE', x.mk, 0, 2)})
  end
  local owed = {}
  if x.open then
    owed = close(x.p, o.key, x.now, o.alarm, {cause = o.cause, by = o.by})
    x.open = false
  end
  local more = {}
  if #owed > 0 then more.owed = owed end
  if o.alarm == '' then
    more.reason = 'fleet'
    return answer(x, 'left', more)
  end
  if is_claimed(x) then
    if s.o == o.machine and s.f == o.id then return own(x) end
    return deferred(x)
  end
  if not is_told_open(s) then
    -- Members may be about to say that it was told: a machine that has the incident says that it is over, with all it knows.
    if x.grace > x.now then return wait(x, x.grace - x.now) end
    return left(x, 'fleet', more)
  end
  local ended = cjson.decode(grant(x, 'resolved'))
  ended.owed = more.owed
  return cjson.encode(ended)
end

local function settle(keys, argv)
  local x = begin(keys, argv)
  local o, s
  load(x)
  o, s = x.o, x.s
  local is_owner = s.o == o.machine and s.t == o.token
  -- A former owner has sent it after all: what it says is true, unless that is known already.
  local is_late = not is_owner and s.i ~= nil and s.i == o.id
  if not is_owner and not is_late then return answer(x, 'lost', {}) end
  local kind, ep = s.k, s.ce
  if is_late then s.t = math.max(s.t + 1, x.now) end
  local status = kind == 'resolved' and 'over' or 'open'
  if kind == 'begin' then s.tb = x.now end
  note_told(x, {at = x.now, ep = ep, status = status, by = o.machine, id = o.id, seq = (s.te == ep and s.q or 0) + 1,
    n = math.max(redis.call('ZCARD', x.mk), s.te == ep and s.tn or 1)})
  if o.is_event then
    s.n, s.ts = nil, nil
    redis.call('DEL', x.mk, x.ck)
  end
  save(x)
  if not o.is_event then
    if status == 'over' then
      tidy(x)
    elseif not x.open then -- it ended while it was being sent
      redis.call('ZADD', x.p .. 'empty', 'NX', x.now, o.key)
    end
  end
  return answer(x, 'told', {ep = ep, seq = s.q, told = s.told})
end

local function release(keys, argv)
  local x = begin(keys, argv)
  local o, s
  load(x)
  o, s = x.o, x.s
  if s.o ~= o.machine or s.t ~= o.token then return answer(x, 'lost', {}) end
  s.rm, s.ra = s.o, x.now
  s.o, s.f = nil, nil
  save(x)
  event(x.p, 'released', {key = o.key, alarm = o.alarm, by = o.machine})
  return answer(x, 'released', {})
end

-- Silences and orders

local function silence(keys, argv)
  local x = begin(keys, argv)
  local o = x.o
  local known = redis.call('HGET', x.p .. 'sil', o.id)
  if known and cjson.decode(known).updated >= o.updated then return answer(x, 'known', {}) end
  if not known and redis.call('HLEN', x.p .. 'sil') >= MOST_SILENCES then return answer(x, 'full', {}) end
  redis.call('HSET', x.p .. 'sil', o.id, argv[1])
  redis.call('PEXPIRE', x.p .. 'sil', 40 * DAY)
  event(x.p, 'silence', o)
  return answer(x, 'taken', {})
end

-- Somebody has ended an incident: it is over on all machines, whether they can be asked or not.
local function end_by_hand(x)
  local o, p = x.o, x.p
  local key = o.incident
  local known = redis.call('HMGET', p .. 'i:' .. key, 'open', 'st')
  if known[1] ~= '1' or o.time < (tonumber(known[2]) or 0) then return end
  redis.call('HSET', p .. 'i:' .. key, 'rs', math.min(o.time, x.now), 'rb', o.by, 're',
    redis.call('HGET', p .. 'i:' .. key, 'ep') or 0)
  local is_heard = false
  for _, machine in ipairs(redis.call('ZRANGE', p .. 'm:' .. key, 0, -1)) do
    if is_alive(x, machine) then is_heard = true end
    leave(p, key, machine)
  end
  close(p, key, x.now, nil, {cause = 'operator', by = o.by})
  -- A machine that has the incident says that it is over. If there is none, the next machine that sweeps does.
  if not is_heard then redis.call('ZADD', p .. 'empty', 'XX', 0, key) end
end

local function order(keys, argv)
  local x = begin(keys, argv)
  local o = x.o
  local ik = x.p .. 'i:' .. o.incident
  if o.kind == 'resolved' then end_by_hand(x) end
  if o.kind == 'acknowledged' and redis.call('HGET', ik, 'open') == '1' then
    redis.call('HSET', ik, 'ack', cjson.encode({by = o.by, comment = o.comment, at = o.time, ['until'] = o['until']}))
  elseif o.kind == 'unacknowledged' then
    redis.call('HDEL', ik, 'ack')
  end
  event(x.p, 'order', o)
  return answer(x, 'taken', {})
end

-- Machines

local function beat(keys, argv)
  local x = begin(keys, argv)
  local o, p, now = x.o, x.p, x.now
  if o.hello then
    local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
    local known = redis.call('HGET', p .. 'gen', 'run')
    if known == '' then
      redis.call('HSET', p .. 'gen', 'run', run)
    elseif known ~= run then
      x.gen, x.grace = new_generation(p, now, o.grace or 6000, run)
    end
  end
  local more = {grace = math.max(x.grace - now, 0)}
  if o.leaving then
    redis.call('ZREM', p .. 'hb', o.machine)
    redis.call('ZADD', p .. 'left', now, o.machine)
    redis.call('HSET', p .. 'inst', o.machine, 'left ' .. o.instance)
    redis.call('HDEL', p .. 'dead', o.machine)
    event(p, 'left', {machine = o.machine})
    return answer(x, 'beat', more)
  end
  local other = redis.call('HGET', p .. 'inst', o.machine)
  -- Its heartbeat was overtaken by its goodbye, which took another connection.
  if other == 'left ' .. o.instance then return answer(x, 'beat', more) end
  local last = redis.call('ZSCORE', p .. 'hb', o.machine)
  if other and other ~= o.instance and last and now - tonumber(last) < (o.owner_timeout or 15000) then more.twin = other end
  if not last and redis.call('ZCARD', p .. 'hb') >= MOST_MACHINES then return answer(x, 'full', more) end
  redis.call('ZADD', p .. 'hb', now, o.machine)
  redis.call('ZREM', p .. 'left', o.machine)
  redis.call('SREM', p .. 'late', o.machine)
  redis.call('HSET', p .. 'mach', o.machine, o.info or '{}')
  redis.call('HSET', p .. 'inst', o.machine, o.instance)
  if redis.call('HDEL', p .. 'dead', o.machine) == 1 then more.back = true end
  more.sweep = redis.call('SET', p .. 'lock', o.machine, 'NX', 'PX', o.sweep_every or 5000) and true or false
  return answer(x, 'beat', more)
end

-- Return the machines that were not heard of for so long, with the time since when.
local function unheard(x, ms)
  local found = {}
  local all = redis.call('ZRANGEBYSCORE', x.p .. 'hb', '-inf', x.now - ms, 'WITHSCORES')
  for i = 1, #all, 2 do
    -- What happened while Redis was away is nobody's silence.
    local since = math.max(tonumber(all[i + 1]), x.awake)
    if x.now - since >= ms then found[#found + 1] = {all[i], tonumber(all[i + 1])} end
  end
  return found
end

-- Where no member could sweep for a while, Redis hung, or could not be reached by anybody.
local function note_awake(x)
  local g = redis.call('HMGET', x.p .. 'gen', 'swept', 'awake')
  local swept, awake = tonumber(g[1] or x.now), tonumber(g[2] or 0)
  if x.now - swept > (x.o.owner_timeout or 15000) then awake = x.now end
  redis.call('HSET', x.p .. 'gen', 'swept', x.now, 'awake', awake)
  x.awake = math.max(x.gen, awake)
end

local function note_dead(x)
  local o, p = x.o, x.p
  local after = o.silent_after
  local late, dead = {}, {}
  for _, m in ipairs(unheard(x, o.owner_timeout or 15000)) do
    -- Others may take over what it is about to send.
    if redis.call('SADD', p .. 'late', m[1]) == 1 then event(p, 'late', {machine = m[1]}) end
    if redis.call('HEXISTS', p .. 'dead', m[1]) == 0 then late[#late + 1] = m end
  end
  for _, m in ipairs(late) do
    if x.now - math.max(m[2], x.awake) >= after then dead[#dead + 1] = m end
  end
  if #dead == 0 then return end
  local total = redis.call('ZCARD', p .. 'hb')
  local many = #late >= 3 and #late * 5 > total
  if many or x.now - x.awake < 2 * after then
    local is_due = false
    for _, m in ipairs(dead) do
      if x.now - math.max(m[2], x.awake) >= 2 * after then is_due = true end
    end
    if not is_due then return end
  end
  local group = many and ('several-' .. base36(x.now)) or nil
  for _, m in ipairs(dead) do
    redis.call('HSET', p .. 'dead', m[1], cjson.encode({since = m[2], group = group or m[1]}))
  end
end

-- Forget what machines reported that are gone for long.
local function prune(x)
  local o, p = x.o, x.p
  local gone = {}
  local cut = x.now - o.gone_after
  if x.now - x.gen >= o.gone_after then
    for _, m in ipairs(redis.call('ZRANGEBYSCORE', p .. 'hb', '-inf', cut, 'LIMIT', 0, 100)) do
      local d = redis.call('HGET', p .. 'dead', m)
      d = d and cjson.decode(d)
      if d and not d.pruned and #gone < 5 then
        gone[#gone + 1] = m
        d.pruned = true
        redis.call('HSET', p .. 'dead', m, cjson.encode(d))
      end
    end
    for _, m in ipairs(redis.call('ZRANGEBYSCORE', p .. 'left', '-inf', cut, 'LIMIT', 0, 5 - #gone)) do
      gone[#gone + 1] = m
      redis.call('ZREM', p .. 'left', m)
      redis.call('HDEL', p .. 'mach', m)
      redis.call('HDEL', p .. 'inst', m)
    end
    for _, m in ipairs(redis.call('ZRANGEBYSCORE', p .. 'hb', '-inf', x.now - o.forget_after, 'LIMIT', 0, 100)) do
      redis.call('ZREM', p .. 'hb', m)
      redis.call('HDEL', p .. 'mach', m)
      redis.call('HDEL', p .. 'inst', m)
      redis.call('HDEL', p .. 'dead', m)
      redis.call('SREM', p .. 'late', m)
    end
  end
  if #gone == 0 then return end
  for _, key in ipairs(redis.call('ZRANGE', p .. 'open', 0, -1)) do
    for _, m in ipairs(gone) do leave(p, key, m) end
    if redis.call('ZCARD', p .. 'm:' .. key) == 0 then close(p, key, x.now, nil, {cause = 'gone'}) end
  end
end

-- Return alarms that believe that an incident is firing which no machine reports any more.
local function owed_ends(x)
  local o, p = x.o, x.p
  local found = {}
  -- Members that have an incident say its end as soon as the grace is over.
  if x.now < x.grace + o.owed_after then return found end
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', p .. 'empty', '-inf', x.now - o.owed_after, 'LIMIT', 0, 20)) do
    local alarms = {}
    x.o.key = key
    for alarm, s in pairs(alarms_of(p, key)) do
      x.s = s
      if owes_end(s) and not is_claimed(x) then alarms[#alarms + 1] = alarm end
    end
    local info = redis.call('HGET', p .. 'i:' .. key, 'info')
    if redis.call('EXISTS', p .. 'i:' .. key) == 0 then
      redis.call('ZREM', p .. 'empty', key)
    elseif #alarms > 0 then
      if redis.call('HGET', p .. 'i:' .. key, 'open') == '1' then close(p, key, x.now, nil, {cause = 'gone'}) end
      local h = redis.call('HMGET', p .. 'i:' .. key, 'ep', 'n', 'st', 'lm', 're', 'rb')
      found[#found + 1] = {key = key, alarms = alarms, info = info or nil, ep = tonumber(h[1]), n = h[2] or nil,
        started = tonumber(h[3]), machine = h[4] or nil, by = h[5] == h[1] and h[6] or nil}
      redis.call('ZADD', p .. 'empty', x.now, key) -- and not again before that time has passed once more
    end
  end
  return found
end

local function sweep(keys, argv)
  local x = begin(keys, argv)
  local o, p = x.o, x.p
  note_awake(x)
  note_dead(x)
  prune(x)
  for _, name in ipairs({'gen', 'hb', 'mach', 'inst', 'left', 'dead', 'late', 'open', 'empty', 'ev'}) do
    redis.call('PEXPIRE', p .. name, 8 * DAY)
  end
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', p .. 'open', '-inf', x.now - 2 * DAY, 'LIMIT', 0, 100)) do
    if redis.call('EXISTS', p .. 'i:' .. key) == 0 then forget_key(p, key) end
  end
  local dead = redis.call('HGETALL', p .. 'dead')
  local text = redis.sha1hex(table.concat(dead, ' '))
  if redis.call('HGET', p .. 'gen', 'dead') ~= text then
    redis.call('HSET', p .. 'gen', 'dead', text)
    event(p, 'dead', {n = #dead / 2})
  end
  if redis.call('SET', p .. 'tidy', x.now, 'NX', 'PX', DAY / 24) then
    for _, value in ipairs(redis.call('HVALS', p .. 'sil')) do
      local s = cjson.decode(value)
      if s.ends < x.now - 3 * DAY then redis.call('HDEL', p .. 'sil', s.id) end
    end
    forget_episodes(p, redis.call('ZRANGEBYSCORE', p .. 'past', '-inf', x.now - EPISODE_AGE, 'LIMIT', 0, 1000))
  end
  local owed = owed_ends(x)
  return answer(x, 'swept', #owed > 0 and {owed = owed} or {})
end

redis.register_function('@LIBRARY@_offer', offer)
redis.register_function('@LIBRARY@_settle', settle)
redis.register_function('@LIBRARY@_release', release)
redis.register_function('@LIBRARY@_resolve', resolve)
redis.register_function('@LIBRARY@_beat', beat)
redis.register_function('@LIBRARY@_sweep', sweep)
redis.register_function('@LIBRARY@_silence', silence)
redis.register_function('@LIBRARY@_order', order)
