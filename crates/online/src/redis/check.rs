//! Whether the servers are there and fit for use.

use redis::Value;

use super::{
    errors::{Failure, text},
    server::{Server, field},
    servers::{Servers, within},
};

/// What was found.
pub(super) struct Found {
    /// The software, and what it is made of when it is several servers.
    pub(super) version: String,
    /// What should be changed, for people.
    pub(super) warnings: Vec<String>,
}

pub(super) async fn check(servers: &Servers) -> Result<Found, Failure> {
    within(async {
        let primaries = servers.primaries().await?;
        let mut found = Found {
            version: String::new(),
            warnings: Vec::new(),
        };
        for server in &primaries {
            look_at(server, &mut found).await?;
        }
        if let (Servers::Cluster(_), Some(server)) = (servers, primaries.first()) {
            found.version = format!("{}, {} primaries", found.version, primaries.len());
            found.warnings.extend(state(server).await?);
        }
        Ok(found)
    })
    .await
}

async fn look_at(server: &Server, found: &mut Found) -> Result<(), Failure> {
    let [process, memory] = info(server, ["INFO server", "INFO memory"]).await?;
    let version = match field(&process, "valkey_version") {
        Some(version) => format!("Valkey {version}"),
        None => format!(
            "Redis {}",
            field(&process, "redis_version").unwrap_or("of unknown version")
        ),
    };
    if found.version.is_empty() {
        found.version = version;
    }
    let policy = field(&memory, "maxmemory_policy").unwrap_or("noeviction");
    if policy != "noeviction" {
        let which = match server.node() {
            Some(address) => format!("the maxmemory-policy of {address}"),
            None => "its maxmemory-policy".to_owned(),
        };
        found.warnings.push(format!(
            "{which} is {policy}: rows that it evicts read as NOT_FOUND; set it to noeviction"
        ));
    }
    Ok(())
}

/// What is wrong with a cluster as a whole.
async fn state(server: &Server) -> Result<Option<String>, Failure> {
    let [cluster] = info(server, ["CLUSTER INFO"]).await?;
    let state = field(&cluster, "cluster_state").unwrap_or("unknown");
    let served = field(&cluster, "cluster_slots_ok").unwrap_or("some");
    Ok((state != "ok").then(|| {
        format!(
            "its cluster_state is {state}, and {served} of its 16384 hash slots are served; see \
             `redis-cli --cluster check`"
        )
    }))
}

async fn info<const N: usize>(
    server: &Server,
    commands: [&str; N],
) -> Result<[String; N], Failure> {
    let mut question = redis::pipe();
    for command in commands {
        let mut words = command.split(' ');
        question.cmd(words.next().unwrap_or_default());
        for word in words {
            question.arg(word);
        }
    }
    let mut answers = server.ask(&question).await?.into_iter();
    let mut texts = [(); N].map(|()| String::new());
    for place in &mut texts {
        *place = text(answers.next().unwrap_or(Value::Nil))?;
    }
    Ok(texts)
}
