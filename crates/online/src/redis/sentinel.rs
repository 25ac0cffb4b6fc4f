//! The master that sentinels name.
//!
//! All sentinels are asked at once, over connections of their own that are not kept. The address that most of them name
//! is tried first, and one that does not answer as a master is not taken: a sentinel may be the last to hear of a
//! failover.

use std::collections::BTreeMap;

use futures::{StreamExt, stream::FuturesUnordered};
use redis::{Value, from_redis_value};
use tokio::time::timeout;

use super::{
    SENTINEL_TIMEOUT,
    address::Address,
    config::{SentinelConfig, TlsFiles},
    connect::Access,
    errors::{Failure, Fault, sound},
    server::{Connected, primary},
};

/// The sentinels of one master.
pub(super) struct Sentinels {
    master: String,
    nodes: Vec<Address>,
    /// How a sentinel is asked.
    sentinel: Access,
    /// How the master is asked.
    access: Access,
}

impl Sentinels {
    pub(super) fn new(config: &SentinelConfig, tls: Option<TlsFiles>) -> Self {
        Self {
            master: config.master.clone(),
            nodes: config.nodes.clone(),
            sentinel: Access::new(&config.sentinel_login, 0, tls.clone()),
            access: Access::new(&config.login, 0, tls),
        }
    }

    pub(super) fn check(&self) -> Result<(), Failure> {
        self.access.check()
    }

    /// How the master is asked.
    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    /// A connection to the master.
    pub(super) async fn master(&self) -> Result<Connected, Failure> {
        let mut last = None;
        for address in self.candidates().await? {
            match primary(&self.access, &address).await {
                Ok(connected) => return Ok(connected),
                Err(failure) => last = Some(failure.at(&address)),
            }
        }
        Err(last.unwrap_or_else(|| self.no_master("none of them names one")))
    }

    /// The addresses that the sentinels name, first the one that most of them do. Waits until most of them agree, or
    /// all have said what they know, but not for long.
    async fn candidates(&self) -> Result<Vec<Address>, Failure> {
        let majority = self.nodes.len() / 2 + 1;
        let mut votes: BTreeMap<Address, usize> = BTreeMap::new();
        let mut failures = Vec::new();
        let mut asked: FuturesUnordered<_> = self.nodes.iter().map(|node| self.ask(node)).collect();
        let count = async {
            while let Some(answer) = asked.next().await {
                match answer {
                    Ok(address) => {
                        let named = votes.entry(address).or_default();
                        *named += 1;
                        if *named == majority {
                            break;
                        }
                    }
                    Err(failure) => failures.push(failure),
                }
            }
        };
        let all_in_time = timeout(SENTINEL_TIMEOUT, count).await.is_ok();
        if votes.is_empty() {
            // What a sentinel says itself helps more than that another one cannot be reached.
            let said = failures.iter().find(|failure| !failure.is_lost());
            return Err(match said.or(failures.first()) {
                Some(failure) => failure.clone(),
                None if all_in_time => self.no_master("none is given"),
                None => self.no_master("none of them answers"),
            });
        }
        let mut addresses: Vec<(Address, usize)> = votes.into_iter().collect();
        addresses.sort_by_key(|(_, votes)| std::cmp::Reverse(*votes));
        Ok(addresses.into_iter().map(|(address, _)| address).collect())
    }

    async fn ask(&self, node: &Address) -> Result<Address, Failure> {
        let ask = async {
            let connected = self.sentinel.connect(node).await?;
            let mut question = redis::pipe();
            question
                .cmd("SENTINEL")
                .arg("GET-MASTER-ADDR-BY-NAME")
                .arg(&self.master);
            let answer = connected.exchange(&question).await?.pop();
            let answer = sound(answer.unwrap_or(Value::Nil))?;
            let named: Option<(String, u16)> = from_redis_value(answer)
                .map_err(|_| Failure::from(Fault::Unexpected("the answer is no address")))?;
            match named {
                Some((host, port)) => Ok(Address { host, port }),
                None => Err(Fault::UnknownMaster(self.master.clone()).into()),
            }
        };
        ask.await.map_err(|failure: Failure| failure.at(node))
    }

    fn no_master(&self, why: &str) -> Failure {
        Fault::NoMaster(format!(
            "the sentinels do not say where the master `{}` is: {why}",
            self.master
        ))
        .into()
    }
}
