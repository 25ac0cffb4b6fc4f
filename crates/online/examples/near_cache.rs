//! How long a warm hit of the near cache takes, and what an entry takes in memory.
//!
//! `cargo run --release -p vintner-online --example near_cache`. Needs `redis-server`.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::{error::Error, sync::Arc, time::Instant};

use vintner_core::{
    ByteSize, EntityKey, JoinKey, KeySchema, KeyType, KeyValue, ProjectName, RowTime, Timestamp,
    Value, ViewId,
};
use vintner_online::{Lookup, NearCache, OnlineRow, OnlineStore, RedisStore, RowLayout};
use vintner_registry::model::Layout;
use vintner_testkit::redis::RedisServer;

/// How many entities have a row.
const ENTITIES: i64 = 200_000;
/// How many reads are timed together.
const READS: usize = 200_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = RedisServer::start();
    let cache = NearCache::new(Arc::new(RedisStore::new(server.url().parse()?)?));
    let (project, view): (ProjectName, ViewId) = ("bench".parse()?, "view@1".parse()?);
    let keys = write(&cache, &project, &view).await?;
    let lookup = |keys| Lookup {
        view: &view,
        keys,
        cache: ByteSize::new(1 << 30),
    };
    while !cache.cache_stats().is_some_and(|stats| stats.tracking) {
        cache.read(&project, &[lookup(&keys[..1])]).await?;
    }

    let before = resident_bytes()?;
    for keys in keys.chunks(512) {
        cache.read(&project, &[lookup(keys)]).await?;
    }
    let entry = (resident_bytes()? - before) / keys.len() as u64;
    let stats = cache.cache_stats().ok_or("it has a cache")?;
    let [view_stats] = stats.views.as_slice() else {
        return Err("one view was read".into());
    };
    println!(
        "an entry: {entry} bytes resident, {} by the cache's estimate",
        view_stats.bytes / view_stats.entries
    );

    for batch in [1, 10, 100] {
        let mut ends = Vec::new();
        for _ in 0..5 {
            let began = Instant::now();
            let mut found = 0;
            for batch in keys.chunks(batch).cycle().take(READS / batch) {
                let rows = cache.read(&project, &[lookup(batch)]).await?;
                found += rows[0].iter().flatten().count();
            }
            ends.push(began.elapsed().as_nanos() / READS as u128);
            assert_eq!(found, READS);
        }
        ends.sort_unstable();
        println!(
            "a warm hit, {batch} keys in a read: {} ns a key (median of 5)",
            ends[2]
        );
    }
    let misses = cache.cache_stats().ok_or("it has a cache")?.views[0].misses;
    assert!(misses <= keys.len() as u64, "every timed read was a hit");
    Ok(())
}

/// Rows of ten floats.
async fn write(
    store: &NearCache,
    project: &ProjectName,
    view: &ViewId,
) -> Result<Vec<EntityKey>, Box<dyn Error>> {
    let key = JoinKey {
        name: "id".parse()?,
        key_type: KeyType::Int64,
    };
    let schema = KeySchema::new(vec![key])?;
    let fields = (0..10).map(|i| Ok((format!("f{i}").parse()?, "float64".parse()?)));
    let fields = fields.collect::<Result<_, Box<dyn Error>>>()?;
    let layout = RowLayout::new(&Layout { fields });
    let mut rows = Vec::new();
    for id in 0..ENTITIES {
        let at = Timestamp::from_micros(id);
        let time = RowTime {
            event: at,
            created: at,
        };
        #[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
        let values =
            [const { Some(Value::Float64(0.5)) }; 10].map(|_| Some(Value::Float64(id as f64)));
        rows.push(OnlineRow {
            key: EntityKey::encode(&schema, &[KeyValue::Int64(id)])?,
            row: layout.pack(time, &values)?,
        });
    }
    store.write(project, view, None, &rows).await?;
    Ok(rows.into_iter().map(|row| row.key).collect())
}

fn resident_bytes() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.ok_or("VmRSS is told")?.parse::<u64>()? * 1024)
}
