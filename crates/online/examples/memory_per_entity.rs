//! How much memory Redis needs for an entity: the same 100,000 entities of ten `float64` features, in one view and in five, in
//! Vintner's layout and in Feast's, each in a server of its own, measured by `used_memory` before and after.
//!
//! Feast's layout (entity key serialization version 3): a hash per entity, a field of four bytes per feature, which are
//! the MurmurHash3 of `view:feature`, with a serialized `feast.types.Value`; and a field `_ts:<view>` with the event time.

#![allow(
    clippy::unwrap_used,
    reason = "a measurement ends where something is not as it must be"
)]

use std::io::Write as _;

use vintner_core::{EntityKey, JoinKey, KeySchema, KeyType, KeyValue, RowTime, Timestamp, Value};
use vintner_online::{OnlineRow, OnlineStore as _, RedisStore, RowLayout};
use vintner_registry::model::Layout;
use vintner_testkit::redis::RedisServer;

const ENTITIES: i64 = 100_000;
const PROJECT: &str = "flights";
/// Names of one length.
const VIEWS: [&str; 5] = ["weather", "traffic", "history", "demands", "notices"];
/// How many views, and how many features each has.
const SHAPES: [(usize, usize); 2] = [(1, 10), (5, 2)];
/// 2026-01-05T08:00:00Z.
const SECONDS: i64 = 1_767_600_000;

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let entities = ENTITIES.unsigned_abs();
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "| views x features | layout | bytes per entity | all {entities} entities, MiB |\n| --- | --- | ---: | ---: |"
    )
    .unwrap();
    for (views, features) in SHAPES {
        let vintner =
            taken(|server| runtime.block_on(load_vintner(server, &VIEWS[..views], features)));
        let feast = taken(|server| load_feast(server, &VIEWS[..views], features));
        for (layout, bytes) in [
            ("Vintner: a packed row per view", vintner),
            ("Feast: one hash", feast),
        ] {
            let mib = bytes / (1 << 20);
            writeln!(
                out,
                "| {views} x {features} | {layout} | {} | {mib} |",
                bytes / entities
            )
            .unwrap();
        }
    }
}

/// How much memory a new server takes for what is loaded.
fn taken(load: impl FnOnce(&RedisServer)) -> u64 {
    let server = RedisServer::start();
    let before = used(&server);
    load(&server);
    used(&server) - before
}

fn feature(index: usize) -> String {
    format!("feature_{index}")
}

#[expect(clippy::cast_precision_loss, reason = "any number will do")]
fn value(entity: i64, index: usize) -> f64 {
    entity as f64 * 0.5 + index as f64 / 3.0
}

async fn load_vintner(server: &RedisServer, views: &[&str], features: usize) {
    let store = RedisStore::new(server.url().parse().unwrap()).unwrap();
    let fields = (0..features).map(|i| (feature(i).parse().unwrap(), "float64".parse().unwrap()));
    let layout = RowLayout::new(&Layout {
        fields: fields.collect(),
    });
    let join_key = JoinKey {
        name: "station_id".parse().unwrap(),
        key_type: KeyType::Int64,
    };
    let schema = KeySchema::new(vec![join_key]).unwrap();
    let time = Timestamp::from_micros(SECONDS * 1_000_000);
    let time = RowTime {
        event: time,
        created: time,
    };
    let rows = (0..ENTITIES).map(|entity| {
        let values = (0..features).map(|index| Some(Value::Float64(value(entity, index))));
        OnlineRow {
            key: EntityKey::encode(&schema, &[KeyValue::Int64(entity)]).unwrap(),
            row: layout.pack(time, &values.collect::<Vec<_>>()).unwrap(),
        }
    });
    let rows: Vec<_> = rows.collect();
    let project = PROJECT.parse().unwrap();
    for view in views {
        let view = format!("{view}@1").parse().unwrap();
        let done = store.write(&project, &view, None, &rows).await.unwrap();
        assert_eq!(done.written, ENTITIES.unsigned_abs());
    }
}

fn load_feast(server: &RedisServer, views: &[&str], features: usize) {
    let mut connection = server.connection();
    let time = [&[0x08][..], &varint(SECONDS.unsigned_abs())].concat();
    for first in (0..ENTITIES).step_by(1000) {
        let mut pipeline = redis::pipe();
        for entity in first..ENTITIES.min(first + 1000) {
            let command = pipeline.cmd("HSET").arg(feast_key(entity));
            for view in views {
                for index in 0..features {
                    let field = murmur3(format!("{view}:{}", feature(index)).as_bytes());
                    // `double_val` is field 5 of the message.
                    let value = [&[0x29][..], &value(entity, index).to_le_bytes()].concat();
                    command.arg(&field.to_le_bytes()).arg(value);
                }
                command.arg(format!("_ts:{view}")).arg(&time);
            }
            command.ignore();
        }
        pipeline.exec(&mut connection).unwrap();
    }
}

/// The number of join keys, their types and names, the types and lengths of their values with these, and the project.
fn feast_key(entity: i64) -> Vec<u8> {
    let name = b"station_id";
    let mut key = Vec::new();
    key.extend(1u32.to_le_bytes());
    key.extend(2u32.to_le_bytes());
    key.extend(u32::try_from(name.len()).unwrap().to_le_bytes());
    key.extend(name);
    key.extend(4u32.to_le_bytes());
    key.extend(8u32.to_le_bytes());
    key.extend(entity.to_le_bytes());
    key.extend(PROJECT.as_bytes());
    key
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        match number {
            0 => {
                bytes.push(low);
                return bytes;
            }
            _ => bytes.push(low | 0x80),
        }
    }
}

/// MurmurHash3, x86, 32 bits, seed 0.
fn murmur3(bytes: &[u8]) -> u32 {
    let mixed = |word: u32| {
        word.wrapping_mul(0xcc9e_2d51)
            .rotate_left(15)
            .wrapping_mul(0x1b87_3593)
    };
    let mut hash = 0u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        hash = (hash ^ mixed(u32::from_le_bytes(*word)))
            .rotate_left(13)
            .wrapping_mul(5)
            .wrapping_add(0xe654_6b64);
    }
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    hash ^= mixed(u32::from_le_bytes(last));
    hash ^= u32::try_from(bytes.len()).unwrap();
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

fn used(server: &RedisServer) -> u64 {
    let info = redis::cmd("INFO")
        .arg("memory")
        .query(&mut server.connection());
    let info: String = info.unwrap();
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    line.unwrap().trim().parse().unwrap()
}
