//! What runs inside Redis.

/// Sets a row unless the stored one is newer. The times are compared as numbers, since Lua compares text by the
/// server's locale. 1: written. 0: what is stored is newer.
pub(super) const WRITE_ROW: &str = r"
local stored = redis.call('GETRANGE', KEYS[1], 1, 16)
if #stored == 16 then
    local old = {struct.unpack('>I4I4I4I4', stored)}
    local new = {struct.unpack('>I4I4I4I4', string.sub(ARGV[1], 2, 17))}
    for i = 1, 4 do
        if old[i] > new[i] then return 0 end
        if old[i] < new[i] then break end
    end
end
if ARGV[2] == 'gone' then
    redis.call('DEL', KEYS[1])
elseif ARGV[2] == 'forever' then
    redis.call('SET', KEYS[1], ARGV[1])
else
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1
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
