//! What runs inside Redis.

/// Sets rows unless the stored ones are newer. KEYS are theirs; ARGV has each row and how long it may stay. The times are
/// compared as numbers, since Lua compares text by the server's locale. Out: how many were written.
pub(super) const WRITE: &str = r"
local call, sub, unpack = redis.call, string.sub, struct.unpack
local function newer(stored, given)
    local a, b, c, d = unpack('>I4I4I4I4', stored)
    local e, f, g, h = unpack('>I4I4I4I4', given)
    if a ~= e then return a > e end
    if b ~= f then return b > f end
    if c ~= g then return c > g end
    return d > h
end
local written = 0
for i = 1, #KEYS do
    local key, row, stay = KEYS[i], ARGV[2 * i - 1], ARGV[2 * i]
    local stored, given = call('GETRANGE', key, 1, 16), sub(row, 2, 17)
    if stored == given or #stored ~= 16 or not newer(stored, given) then
        written = written + 1
        if stay == 'gone' then
            call('DEL', key)
        elseif stay == 'forever' then
            call('SET', key, row)
        else
            call('SET', key, row, 'PX', stay)
        end
    end
end
return written
";

/// Replaces a value that is what was seen. 1: done. 0: there is something else, or nothing.
pub(super) const REPLACE_ROW: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == 'gone' then
    redis.call('DEL', KEYS[1])
elseif ARGV[2] == 'forever' then
    redis.call('SET', KEYS[1], ARGV[3])
else
    redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2])
end
return 1
";

/// Notes how far a load has come, unless rows of it may be gone: when the server's life, with the mark in KEYS[2], is no
/// longer that of ARGV[1], or when there is no note of the load's beginning. With an empty ARGV[1] the life is not
/// looked at.
/// 1: noted. 0: not.
pub(super) const END_LOAD: &str = r"
if ARGV[1] ~= '' then
    local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
    local history = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
    local mark = redis.call('GET', KEYS[2])
    if ARGV[1] ~= (run or '') .. ':' .. (history or '') .. ':' .. (mark or '') then return 0 end
end
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
";
