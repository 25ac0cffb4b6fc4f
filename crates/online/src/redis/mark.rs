//! Marks that go when the rows go: by them a server that was emptied is told from one that was not.
//!
//! A mark is a key with a value that is made once and never again. One server has one. In a cluster they have slots of
//! their own, spread so that each primary has one at least; a mark moves with its slot, so slots that move change
//! nothing. Source: "A load that ends" in `docs/formats/online-row.md`.

use std::sync::LazyLock;

use redis::Value;
use uuid::Uuid;

use super::{
    errors::{Failure, Fault, bytes, sound},
    servers::Servers,
    slot::{SLOTS, slot},
};

/// The mark of one server.
pub(super) const MARK: &str = "vn:life";

/// How many slots there are from one mark of a cluster to the next.
const EVERY: u16 = 256;

/// The marks at hand, in the order of their slots, as one text. Those that are missing are made.
pub(super) async fn marks(servers: &Servers) -> Result<String, Failure> {
    let keys = match servers {
        Servers::One(_) => vec![MARK.to_owned()],
        Servers::Cluster(cluster) => cluster.spread(EVERY).into_iter().map(mark_in).collect(),
    };
    let mut found = read(servers, &keys).await?;
    if found.contains(&None) {
        let missing = keys.iter().zip(&found).filter(|(_, mark)| mark.is_none());
        let made = missing.map(|(key, _)| {
            let mut set = redis::cmd("SET");
            // Another process may make it at the same time: one of the two stays.
            set.arg(key)
                .arg(Uuid::new_v4().simple().to_string())
                .arg("NX");
            servers.keyed(key.as_bytes(), set)
        });
        for answer in servers.send(made.collect()).await? {
            sound(answer)?;
        }
        found = read(servers, &keys).await?;
    }
    let found: Option<Vec<Vec<u8>>> = found.into_iter().collect();
    let found = found.ok_or(Fault::Unexpected("a mark that was made is gone"))?;
    match servers {
        Servers::One(_) => Ok(String::from_utf8_lossy(&found.concat()).into_owned()),
        Servers::Cluster(_) => Ok(blake3::hash(&found.join(&b","[..])).to_hex()[..32].to_owned()),
    }
}

async fn read(servers: &Servers, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Failure> {
    let commands = keys.iter().map(|key| {
        let mut get = redis::cmd("GET");
        get.arg(key);
        servers.keyed(key.as_bytes(), get)
    });
    let answers = servers.send(commands.collect()).await?;
    let marks = answers.into_iter().map(|answer: Value| bytes(answer));
    marks.collect()
}

/// The key of the mark in a slot.
fn mark_in(wanted: u16) -> String {
    /// A number for every slot: the least whose text has it.
    static TAGS: LazyLock<Vec<u32>> = LazyLock::new(|| {
        let mut tags = vec![u32::MAX; usize::from(SLOTS)];
        let mut left = tags.len();
        for number in 0.. {
            let place = usize::from(slot(number.to_string().as_bytes()));
            if let Some(tag) = tags.get_mut(place).filter(|tag| **tag == u32::MAX) {
                *tag = number;
                left -= 1;
            }
            if left == 0 {
                break;
            }
        }
        tags
    });
    let tag = TAGS.get(usize::from(wanted)).copied().unwrap_or_default();
    format!("{MARK}:{{{tag}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_a_mark_of_its_own() {
        for wanted in 0..SLOTS {
            assert_eq!(slot(mark_in(wanted).as_bytes()), wanted);
        }
    }
}
