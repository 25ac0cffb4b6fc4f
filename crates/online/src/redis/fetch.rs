//! Many keys' values in one round trip.

use bytes::Bytes;
use redis::Value;

use super::{
    READ_KEYS,
    errors::{Failure, Fault, code, sound},
    servers::{Keyed, Servers},
};

/// A key's slot and its place in the question.
type Place = (u16, usize);

/// The values of these keys, in their order; none where there is no such key. One command per slot, all sent at once.
/// Not bounded in time.
pub(super) async fn fetch<K: AsRef<[u8]>>(
    servers: &Servers,
    keys: &[K],
) -> Result<Vec<Option<Bytes>>, Failure> {
    if let Servers::One(server) = servers
        && let Some(values) = server.fetch(keys).await?
    {
        return Ok(values);
    }
    // Boxed, so that a read from a single server need not carry it.
    Box::pin(by_slot(servers, keys)).await
}

async fn by_slot<K: AsRef<[u8]>>(
    servers: &Servers,
    keys: &[K],
) -> Result<Vec<Option<Bytes>>, Failure> {
    let slots = keys.iter().map(|key| servers.slot(key.as_ref()));
    let mut places: Vec<Place> = slots.zip(0..).collect();
    places.sort_unstable();
    let groups = places
        .chunk_by(|(one, _), (other, _)| one == other)
        .flat_map(|slot| slot.chunks(READ_KEYS))
        .collect();
    let mut values = vec![None; keys.len()];
    let divided = ask(servers, keys, groups, &mut values).await?;
    if divided.is_empty() {
        return Ok(values);
    }
    // The keys of a slot that is moving are on two nodes, each of which answers for one key alone.
    let single = divided.iter().flat_map(|group| group.chunks(1)).collect();
    if ask(servers, keys, single, &mut values).await?.is_empty() {
        return Ok(values);
    }
    Err(Fault::Unexpected("a node cannot answer for a single key").into())
}

/// Asks for groups of keys and puts the values into their places. Gives back the groups that are on two nodes.
async fn ask<'p, K: AsRef<[u8]>>(
    servers: &Servers,
    keys: &[K],
    groups: Vec<&'p [Place]>,
    values: &mut [Option<Bytes>],
) -> Result<Vec<&'p [Place]>, Failure> {
    let commands = groups.iter().map(|group| {
        let mut command = redis::cmd("MGET");
        for (_, place) in *group {
            command.arg(keys[*place].as_ref());
        }
        Keyed {
            slot: group[0].0,
            command,
        }
    });
    let answers = servers.send(commands.collect()).await?;
    let mut divided = Vec::new();
    for (group, answer) in groups.into_iter().zip(answers) {
        if code(&answer) == Some("TRYAGAIN") {
            divided.push(group);
            continue;
        }
        match sound(answer)? {
            Value::Array(found) if found.len() == group.len() => {
                for ((_, place), value) in group.iter().zip(found) {
                    values[*place] = match value {
                        Value::BulkString(bytes) => Some(Bytes::from(bytes)),
                        Value::Nil => None,
                        _ => return Err(Fault::Unexpected("a value is no bytes").into()),
                    };
                }
            }
            _ => {
                return Err(Fault::Unexpected(
                    "the answer has another number of values than were asked for",
                )
                .into());
            }
        }
    }
    Ok(divided)
}
