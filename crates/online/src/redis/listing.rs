//! The entities that have a row of a view version.
//!
//! Redis has no list of a view's keys: `SCAN` goes through all keys of a server, other programs' too, a bounded number
//! at a time, so no other client waits long. What matches is a row key of the view and nothing else. In a cluster the
//! primaries are gone through one after the other. A key whose slot moves meanwhile from a primary that is still to
//! come to one that is done is not found.

use redis::{Value, from_redis_value};
use vintner_core::{ProjectName, ViewId};

use super::{
    SCAN_KEYS,
    errors::{Failure, Fault, sound, text},
    keys::{RowKeys, row_keys},
    server::field,
    servers::Servers,
};
use crate::store::{KeyCursor, KeyPage};

/// Where a listing has come.
struct Place {
    /// The primaries that are gone through, in their order.
    servers: String,
    /// Which of them is at hand.
    server: usize,
    /// Its process, for which alone `cursor` means something; empty before its first page.
    process: String,
    cursor: String,
}

/// A page. A listing begins anew when the servers are no longer those that it began with.
pub(super) async fn keys(
    servers: &Servers,
    project: &ProjectName,
    view: &ViewId,
    from: Option<&KeyCursor>,
) -> Result<KeyPage, Failure> {
    let mut primaries = servers.primaries().await?;
    primaries.sort_by_key(|server| server.node().cloned());
    let names: Vec<String> = primaries
        .iter()
        .map(|server| server.node().map(ToString::to_string).unwrap_or_default())
        .collect();
    let first = Place {
        servers: names.join(","),
        server: 0,
        process: String::new(),
        cursor: "0".to_owned(),
    };
    let begun = from.and_then(|from| Place::parse(&from.0));
    let mut place = match begun {
        Some(begun) if begun.servers == first.servers => begun,
        _ => first,
    };
    let Some(server) = primaries.get(place.server) else {
        return Ok(KeyPage::default());
    };
    let mut question = redis::pipe();
    question.cmd("INFO").arg("server");
    question
        .cmd("SCAN")
        .arg(&place.cursor)
        .arg("MATCH")
        .arg(row_keys(project, view))
        .arg("COUNT")
        .arg(SCAN_KEYS);
    let mut answers = server.ask(&question).await?.into_iter();
    let info = text(answers.next().unwrap_or(Value::Nil))?;
    let process = field(&info, "run_id").unwrap_or_default();
    if !place.process.is_empty() && place.process != process {
        // The next page is the first one.
        place = Place {
            server: 0,
            process: String::new(),
            cursor: "0".to_owned(),
            ..place
        };
        return Ok(KeyPage {
            keys: Vec::new(),
            next: Some(place.cursor()),
        });
    }
    let (next, found): (String, Vec<Vec<u8>>) =
        from_redis_value(sound(answers.next().unwrap_or(Value::Nil))?)
            .map_err(|_| Failure::from(Fault::Unexpected("the answer is no part of a scan")))?;
    let is_last = next == "0";
    let next = Place {
        server: place.server + usize::from(is_last),
        process: if is_last {
            String::new()
        } else {
            process.to_owned()
        },
        cursor: next,
        servers: place.servers,
    };
    let row_keys = RowKeys::new(project, view);
    Ok(KeyPage {
        keys: found
            .iter()
            .filter_map(|key| row_keys.entity(key))
            .collect(),
        next: (next.server < primaries.len()).then(|| next.cursor()),
    })
}

impl Place {
    fn cursor(&self) -> KeyCursor {
        let Self {
            servers,
            server,
            process,
            cursor,
        } = self;
        KeyCursor(format!("{servers} {server} {process} {cursor}").into_bytes())
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(bytes).ok()?.split(' ');
        let mut word = || words.next().map(str::to_owned);
        Some(Self {
            servers: word()?,
            server: word()?.parse().ok()?,
            process: word()?,
            cursor: word()?,
        })
    }
}
