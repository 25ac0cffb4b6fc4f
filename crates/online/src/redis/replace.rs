//! Rows in the place of exactly what was seen.

use vintner_core::{ProjectName, ViewId};

use super::{RedisStore, WRITE_BYTES, WRITE_ROWS, lifetime, row_key};
use crate::{
    error::OnlineError,
    store::{Expiry, Replacement},
};

/// Replaces a value that is what was seen. 1: done. 0: there is something else, or nothing.
const REPLACE_SCRIPT: &str = r"
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

pub(super) async fn replace(
    store: &RedisStore,
    project: &ProjectName,
    view: &ViewId,
    expiry: Option<Expiry>,
    replacements: &[Replacement],
) -> Result<u64, OnlineError> {
    let action = format!("replace rows of {view}");
    let mut changed = 0;
    let mut rest = replacements.iter().peekable();
    while rest.peek().is_some() {
        let mut pipeline = redis::pipe();
        let mut bytes = 0;
        while let Some(one) = rest.next_if(|_| pipeline.len() < WRITE_ROWS && bytes < WRITE_BYTES) {
            let row = one.row.as_ref();
            let packed = row.map(|row| row.as_bytes()).unwrap_or_default();
            bytes += one.seen.len() + packed.len();
            // The script goes along each time: what is replaced is rare.
            pipeline
                .cmd("EVAL")
                .arg(REPLACE_SCRIPT)
                .arg(1)
                .arg(row_key(project, view, &one.key))
                .arg(&one.seen[..])
                .arg(row.map_or_else(|| "gone".to_owned(), |row| lifetime(expiry, row)))
                .arg(packed);
        }
        let counts: Vec<u64> = store.query(&pipeline, &action).await?;
        changed += counts.iter().sum::<u64>();
    }
    Ok(changed)
}
