//! The entities that have a row of a view version.
//!
//! Redis has no list of a view's keys: `SCAN` goes through all keys of the database, other programs' too, a bounded
//! number at a time, so no other client waits long. What matches is a row key of the view and nothing else.

use vintner_core::{EntityKey, ProjectName, ViewId};

use super::RedisStore;
use crate::{
    error::OnlineError,
    store::{KeyCursor, KeyPage},
};

/// Keys that one page looks at.
const SCAN_KEYS: usize = 1000;

pub(super) async fn keys(
    store: &RedisStore,
    project: &ProjectName,
    view: &ViewId,
    from: Option<&KeyCursor>,
) -> Result<KeyPage, OnlineError> {
    // Names have none of the characters that are special in a pattern, and no view id has a brace, so the pattern is
    // exact although entity keys are any bytes.
    let mut pipeline = redis::pipe();
    pipeline
        .cmd("SCAN")
        .arg(from.map_or(b"0".as_slice(), |from| &from.0))
        .arg("MATCH")
        .arg(format!("vn:{{{project}|*}}:{view}"))
        .arg("COUNT")
        .arg(SCAN_KEYS);
    let action = format!("list the entities of {view}");
    let ((next, found),): ((Vec<u8>, Vec<Vec<u8>>),) = store.query(&pipeline, &action).await?;
    let (before, after) = (format!("vn:{{{project}|"), format!("}}:{view}"));
    let entity = |key: &Vec<u8>| {
        let key = key.strip_prefix(before.as_bytes())?;
        Some(EntityKey::from_bytes(key.strip_suffix(after.as_bytes())?))
    };
    Ok(KeyPage {
        keys: found.iter().filter_map(entity).collect(),
        next: (next != b"0").then_some(KeyCursor(next)),
    })
}
