//! A Redis server tried out, and what it says of itself.

use std::time::{Duration, Instant};

use redis::{Cmd, Value, from_redis_value};
use vintner_core::Timestamp;

use super::{
    errors::{Failure, Fault, sound, text},
    server::{Server, field},
    servers::{Servers, within},
};
use crate::store::Probe;

/// How often each call is timed.
const TIMES: usize = 5;

/// What is told of the server: the section of `INFO`, the field there, and its name for people.
const FACTS: [(&str, &str, &str); 9] = [
    ("memory", "used_memory_human", "memory used"),
    ("memory", "maxmemory_human", "maxmemory"),
    ("memory", "maxmemory_policy", "maxmemory-policy"),
    ("persistence", "aof_enabled", "appendonly"),
    ("persistence", "rdb_last_save_time", "last save"),
    ("persistence", "rdb_last_bgsave_status", "last bgsave"),
    ("replication", "role", "role"),
    ("replication", "connected_slaves", "replicas"),
    ("cluster", "cluster_enabled", "cluster"),
];

/// Tries the servers out, and asks each for what it says of itself; of several, each fact with the server's address.
pub(super) async fn probe(servers: &Servers) -> Result<Probe, Failure> {
    let key = format!("vn:doctor:{}", std::process::id());
    let mut latencies = [const { Vec::new() }; 3];
    for _ in 0..TIMES {
        let command = |name: &str| {
            let mut command = redis::cmd(name);
            command.arg(&key);
            command
        };
        // Gone by itself when the doctor dies.
        let mut set = command("SET");
        set.arg("ok").arg("PX").arg(60_000);
        let calls = [set, command("GET"), command("UNLINK")];
        for (call, times) in calls.into_iter().zip(&mut latencies) {
            times.push(timed(servers, &key, call).await?);
        }
    }
    let (mut facts, mut clocks) = (Vec::new(), Vec::new());
    for server in within(servers.primaries()).await? {
        let of = match server.node() {
            Some(address) => format!(" of {address}"),
            None => String::new(),
        };
        let told = within(describe(&server)).await?;
        let told = told.into_iter();
        facts.extend(told.map(|(name, value)| (format!("{name}{of}"), value)));
        clocks.push((of, within(time(&server)).await?));
    }
    Ok(Probe {
        latencies: latencies.map(median),
        clocks,
        facts,
    })
}

async fn timed(servers: &Servers, key: &str, call: Cmd) -> Result<Duration, Failure> {
    let started = Instant::now();
    sound(within(servers.send_one(key.as_bytes(), call)).await?)?;
    Ok(started.elapsed())
}

async fn describe(server: &Server) -> Result<Vec<(String, String)>, Failure> {
    let mut facts = Vec::new();
    for section in ["memory", "persistence", "replication", "cluster"] {
        let mut info = redis::pipe();
        info.cmd("INFO").arg(section);
        let told = text(
            server
                .ask(&info)
                .await?
                .into_iter()
                .next()
                .unwrap_or(Value::Nil),
        )?;
        let wanted = FACTS.iter().filter(|(of, ..)| *of == section);
        facts.extend(wanted.filter_map(|(_, name, fact)| {
            Some(((*fact).to_owned(), field(&told, name)?.to_owned()))
        }));
    }
    Ok(facts)
}

async fn time(server: &Server) -> Result<Timestamp, Failure> {
    let mut time = redis::pipe();
    time.cmd("TIME");
    let told = server
        .ask(&time)
        .await?
        .into_iter()
        .next()
        .unwrap_or(Value::Nil);
    let (seconds, micros): (i64, i64) = from_redis_value(sound(told)?)
        .map_err(|_| Failure::from(Fault::Unexpected("the answer is no time")))?;
    Ok(Timestamp::from_micros(
        seconds.saturating_mul(1_000_000).saturating_add(micros),
    ))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
