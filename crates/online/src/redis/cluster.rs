//! A Redis Cluster: which node has which slot, and commands sent to the nodes that have their keys.
//!
//! What is known of the slots is a map that is never changed, only replaced whole. It is learned from the nodes when it
//! is first needed and when a node cannot be reached, and mended where a node says that a slot has moved. Commands go to
//! all nodes at once, one pipeline each; those that a node sends elsewhere are sent there, in their order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use backon::{Sleeper, TokioSleeper};
use futures::{FutureExt, StreamExt, future::join_all, stream};
use redis::{Cmd, Pipeline, Value};
use tokio::time::timeout;

use super::{
    CONNECT_TIMEOUT,
    address::Address,
    attempt::Attempt,
    config::{Login, TlsFiles},
    connect::Access,
    errors::{Failure, Fault, code, sound},
    server::{Place, Server},
    servers::Keyed,
    slot::SLOTS,
};

/// How often a command is sent before its slot counts as not served.
const ROUNDS: u32 = 5;
/// How much longer every round waits than the one before it; the second one does not wait.
const PAUSE: Duration = Duration::from_millis(10);
/// How many nodes are asked for the slots at one time.
const ASKED: usize = 4;
/// The owner of a slot that nobody serves.
const NOBODY: u16 = u16::MAX;

/// A cluster.
pub(super) struct Cluster {
    seeds: Vec<Arc<Server>>,
    access: Access,
    map: ArcSwap<Map>,
    learning: Attempt<Arc<Map>>,
    /// Which node is asked first for the slots: another one each time.
    turn: AtomicUsize,
}

/// Which node has which slot.
struct Map {
    /// Places in `nodes`, by slot.
    owners: Vec<u16>,
    nodes: Vec<Arc<Server>>,
    /// Whether a node has told it.
    is_learned: bool,
}

/// A range of slots and the primary that serves them.
struct Served {
    first: u16,
    last: u16,
    primary: Address,
}

/// A command on its way.
struct Asked {
    /// Its place among the answers.
    index: usize,
    slot: u16,
    command: Cmd,
    /// The node that a slot is moving to, for a key that has moved already.
    moving_to: Option<Address>,
}

/// The commands of one round for one node.
struct Parcel {
    server: Arc<Server>,
    asked: Vec<Asked>,
}

/// What a round has told about the cluster.
#[derive(Default)]
struct News {
    moved: Vec<(u16, Address)>,
    /// Nodes that slots are moving to.
    nodes: Vec<Address>,
    /// Why the whole map should be learned again.
    trouble: Option<Failure>,
}

impl Cluster {
    /// A cluster of which these nodes are asked first.
    pub(super) fn new(seeds: &[Address], login: &Login, tls: Option<TlsFiles>) -> Self {
        let access = Access::new(login, 0, tls);
        let node =
            |address: &Address| Arc::new(Server::new(Place::Node(access.clone(), address.clone())));
        Self {
            seeds: seeds.iter().map(node).collect(),
            access,
            map: ArcSwap::from_pointee(Map {
                owners: vec![NOBODY; usize::from(SLOTS)],
                nodes: Vec::new(),
                is_learned: false,
            }),
            learning: Attempt::new(),
            turn: AtomicUsize::new(0),
        }
    }

    pub(super) fn check(&self) -> Result<(), Failure> {
        self.access.check()
    }

    /// Sends every command to the node that has its slot, and gives the answers in the order of the commands. An answer
    /// may be an error of the server's, `TRYAGAIN` among them.
    pub(super) async fn send(&self, commands: Vec<Keyed>) -> Result<Vec<Value>, Failure> {
        let mut answers = vec![Value::Nil; commands.len()];
        let mut left: Vec<Asked> = commands
            .into_iter()
            .enumerate()
            .map(|(index, Keyed { slot, command })| Asked {
                index,
                slot,
                command,
                moving_to: None,
            })
            .collect();
        let mut map = self.map.load_full();
        if !map.is_learned {
            map = self.learn().await?;
        }
        let mut trouble = None;
        for round in 0..ROUNDS {
            if round > 1 {
                TokioSleeper.sleep(PAUSE * (round - 1)).await;
            }
            let mut news = News::default();
            let (parcels, unserved) = map.parcels(left);
            left = unserved;
            if let Some(asked) = left.first() {
                news.trouble = Some(Fault::Unserved(asked.slot).into());
            }
            for (parcel, outcome) in join_all(parcels.into_iter().map(Parcel::send)).await {
                parcel.sort(outcome?, &mut answers, &mut left, &mut news)?;
            }
            if left.is_empty() {
                return Ok(answers);
            }
            left.sort_unstable_by_key(|asked| asked.index);
            trouble = news.trouble.clone();
            map = match news.trouble {
                Some(_) => self.learn().await?,
                None => self.mend(&news),
            };
        }
        let slot = left.first().map_or(0, |asked| asked.slot);
        Err(trouble.unwrap_or_else(|| Fault::Unserved(slot).into()))
    }

    /// The primaries that serve slots, as the cluster sees it now.
    pub(super) async fn primaries(&self) -> Result<Vec<Arc<Server>>, Failure> {
        Ok(self.learn().await?.owners())
    }

    /// Slots that are served, `every` so many of them one, and one at least of each primary that is known.
    pub(super) fn spread(&self, every: u16) -> Vec<u16> {
        self.map.load().spread(every)
    }

    /// Asks the nodes that are known, and the first ones, for the slots. The first answer counts.
    async fn learn(&self) -> Result<Arc<Map>, Failure> {
        let map = self
            .learning
            .join(|| {
                let known = self.map.load_full();
                let mut candidates: Vec<Arc<Server>> = known.nodes.clone();
                if !candidates.is_empty() {
                    let turn = self.turn.fetch_add(1, Ordering::Relaxed) % candidates.len();
                    candidates.rotate_left(turn);
                }
                let is_new =
                    |seed: &&Arc<Server>| !known.nodes.iter().any(|node| Arc::ptr_eq(node, seed));
                candidates.extend(self.seeds.iter().filter(is_new).cloned());
                let (seeds, access) = (self.seeds.clone(), self.access.clone());
                async move {
                    let served = first_answer(candidates).await?;
                    let known = known.nodes.iter().chain(&seeds);
                    Ok(Arc::new(Map::of(&served, known, &access)))
                }
                .boxed()
            })
            .await?;
        self.map.store(Arc::clone(&map));
        Ok(map)
    }

    /// The map with what the nodes have said of single slots.
    fn mend(&self, news: &News) -> Arc<Map> {
        let map = self.map.load_full();
        let is_known = |address: &Address| {
            let mut nodes = map.nodes.iter();
            nodes.any(|server| server.node() == Some(address))
        };
        if news.moved.is_empty() && news.nodes.iter().all(is_known) {
            return map;
        }
        self.map.rcu(|map| {
            let mut map = Map {
                owners: map.owners.clone(),
                nodes: map.nodes.clone(),
                is_learned: map.is_learned,
            };
            for address in &news.nodes {
                map.node(address, self.seeds.iter(), &self.access);
            }
            for (slot, address) in &news.moved {
                let owner = map.node(address, self.seeds.iter(), &self.access);
                if let Some(place) = map.owners.get_mut(usize::from(*slot)) {
                    *place = owner;
                }
            }
            Arc::new(map)
        });
        self.map.load_full()
    }
}

impl Map {
    /// The nodes that have slots.
    fn owners(&self) -> Vec<Arc<Server>> {
        let mut owners = self.owners.clone();
        owners.sort_unstable();
        owners.dedup();
        let nodes = owners
            .iter()
            .filter_map(|&owner| self.nodes.get(usize::from(owner)));
        nodes.cloned().collect()
    }

    /// See [`Cluster::spread`]. In ascending order.
    fn spread(&self, every: u16) -> Vec<u16> {
        let mut spread = BTreeSet::new();
        let mut first = BTreeMap::new();
        for (slot, &owner) in (0..).zip(&self.owners) {
            if owner == NOBODY {
                continue;
            }
            if slot % every == 0 {
                spread.insert(slot);
                first.insert(owner, None);
            } else {
                first.entry(owner).or_insert(Some(slot));
            }
        }
        spread.extend(first.into_values().flatten());
        spread.into_iter().collect()
    }

    /// A map that a node has told. Servers that are known keep their connections.
    fn of<'s>(
        served: &[Served],
        known: impl Iterator<Item = &'s Arc<Server>> + Clone,
        access: &Access,
    ) -> Self {
        let mut map = Self {
            owners: vec![NOBODY; usize::from(SLOTS)],
            nodes: Vec::new(),
            is_learned: true,
        };
        for Served {
            first,
            last,
            primary,
        } in served
        {
            let owner = map.node(primary, known.clone(), access);
            let range = usize::from(*first)..=usize::from(*last);
            if let Some(slots) = map.owners.get_mut(range) {
                slots.fill(owner);
            }
        }
        map
    }

    /// The place of a node in `nodes`, where it is added when it is new.
    fn node<'s>(
        &mut self,
        address: &Address,
        mut known: impl Iterator<Item = &'s Arc<Server>>,
        access: &Access,
    ) -> u16 {
        let is_it = |server: &&Arc<Server>| server.node() == Some(address);
        let place = match self.nodes.iter().position(|server| is_it(&server)) {
            Some(place) => place,
            None => {
                let server = known.find(is_it).cloned().unwrap_or_else(|| {
                    Arc::new(Server::new(Place::Node(access.clone(), address.clone())))
                });
                self.nodes.push(server);
                self.nodes.len() - 1
            }
        };
        u16::try_from(place).unwrap_or(NOBODY)
    }

    /// Commands by node, in their order, and those whose slots nobody serves.
    fn parcels(&self, commands: Vec<Asked>) -> (Vec<Parcel>, Vec<Asked>) {
        let mut by_node: Vec<Vec<Asked>> = self.nodes.iter().map(|_| Vec::new()).collect();
        let mut unserved = Vec::new();
        for asked in commands {
            let place = match &asked.moving_to {
                Some(address) => self
                    .nodes
                    .iter()
                    .position(|server| server.node() == Some(address)),
                None => self
                    .owners
                    .get(usize::from(asked.slot))
                    .map(|&owner| usize::from(owner)),
            };
            match place.and_then(|place| by_node.get_mut(place)) {
                Some(parcel) => parcel.push(asked),
                None => unserved.push(asked),
            }
        }
        let parcels = self
            .nodes
            .iter()
            .zip(by_node)
            .filter(|(_, asked)| !asked.is_empty())
            .map(|(server, asked)| Parcel {
                server: Arc::clone(server),
                asked,
            })
            .collect();
        (parcels, unserved)
    }
}

impl Parcel {
    /// Sends the commands in one pipeline. Out: the answers, those of `ASKING` left out; or why there are none, when
    /// another node may do better.
    async fn send(self) -> (Self, Result<Result<Vec<Value>, Failure>, Failure>) {
        let mut pipeline = Pipeline::with_capacity(self.asked.len());
        for asked in &self.asked {
            if asked.moving_to.is_some() {
                pipeline.cmd("ASKING");
            }
            pipeline.add_command(asked.command.clone());
        }
        let outcome = match self.server.exchange(&pipeline).await {
            Ok(answers) => {
                let mut answers = answers.into_iter();
                let own = self.asked.iter().map(|asked| {
                    if asked.moving_to.is_some() {
                        answers.next();
                    }
                    answers.next().unwrap_or(Value::Nil)
                });
                Ok(Ok(own.collect()))
            }
            Err(failure) if failure.is_lost() => Ok(Err(failure)),
            Err(failure) => Err(failure),
        };
        (self, outcome)
    }

    /// Puts answers in their places; what must be sent again goes to `left`.
    fn sort(
        self,
        outcome: Result<Vec<Value>, Failure>,
        answers: &mut [Value],
        left: &mut Vec<Asked>,
        news: &mut News,
    ) -> Result<(), Failure> {
        let got = match outcome {
            Ok(got) => got,
            Err(failure) => {
                news.trouble = Some(failure);
                left.extend(self.asked.into_iter().map(Asked::for_owner));
                return Ok(());
            }
        };
        let host = self.server.node().map_or("", |address| &address.host);
        for (asked, answer) in self.asked.into_iter().zip(got) {
            match code(&answer) {
                Some("MOVED") => {
                    let (slot, address) = redirection(&answer, host)?;
                    news.moved.push((slot, address));
                    left.push(asked.for_owner());
                }
                Some("ASK") => {
                    let (_, address) = redirection(&answer, host)?;
                    news.nodes.push(address.clone());
                    left.push(Asked {
                        moving_to: Some(address),
                        ..asked
                    });
                }
                Some("CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | "READONLY") => {
                    let failure = sound(answer).err();
                    news.trouble = match self.server.node() {
                        Some(address) => failure.map(|failure| failure.at(address)),
                        None => failure,
                    };
                    left.push(asked.for_owner());
                }
                _ => {
                    if let Some(place) = answers.get_mut(asked.index) {
                        *place = answer;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Asked {
    fn for_owner(self) -> Self {
        Self {
            moving_to: None,
            ..self
        }
    }
}

/// The slot and the address that an answer `MOVED` or `ASK` names.
fn redirection(answer: &Value, asked: &str) -> Result<(u16, Address), Failure> {
    let Value::ServerError(error) = answer else {
        return Err(Fault::Unexpected("the answer sends nowhere").into());
    };
    error
        .details()
        .and_then(|details| {
            let (slot, address) = details.split_once(' ')?;
            Some((slot.parse().ok()?, Address::from_server(address, asked)?))
        })
        .ok_or_else(|| Fault::Unexpected("a redirection names no slot and node").into())
}

/// Asks some nodes at one time, and takes the first answer.
async fn first_answer(candidates: Vec<Arc<Server>>) -> Result<Vec<Served>, Failure> {
    let mut asked = stream::iter(candidates.into_iter().map(slots)).buffer_unordered(ASKED);
    let mut failed: Option<Failure> = None;
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(served) => return Ok(served),
            // A node that says no is told of rather than one that is away.
            Err(failure) => {
                let keep = failed.as_ref().is_some_and(|failed| !failed.is_lost());
                if !keep {
                    failed = Some(failure);
                }
            }
        }
    }
    Err(failed.unwrap_or_else(|| Fault::Unexpected("no node of the cluster is given").into()))
}

/// What one node says of the slots.
async fn slots(server: Arc<Server>) -> Result<Vec<Served>, Failure> {
    let mut question = redis::pipe();
    question.cmd("CLUSTER").arg("SLOTS");
    let answer = timeout(CONNECT_TIMEOUT, server.exchange(&question))
        .await
        .unwrap_or_else(|_| Err(Fault::NotReached.into()));
    let host = server.node().map_or("", |address| &address.host);
    let parsed = answer
        .and_then(|mut answers| sound(answers.pop().unwrap_or(Value::Nil)))
        .and_then(|answer| match served(answer, host) {
            // A node that has forgotten its cluster is not believed to know it.
            Some(served) if served.is_empty() => Err(Fault::Unserved(0).into()),
            Some(served) => Ok(served),
            None => Err(Fault::Unexpected("the answer does not say who serves which slots").into()),
        });
    parsed.map_err(|failure| match server.node() {
        Some(address) => failure.at(address),
        None => failure,
    })
}

/// The answer of `CLUSTER SLOTS`: ranges, each with its primary first. `asked` is the host that was asked.
fn served(answer: Value, asked: &str) -> Option<Vec<Served>> {
    let Value::Array(ranges) = answer else {
        return None;
    };
    let range = |range: Value| {
        let Value::Array(range) = range else {
            return None;
        };
        let mut range = range.into_iter();
        let (Value::Int(first), Value::Int(last), Value::Array(primary)) =
            (range.next()?, range.next()?, range.next()?)
        else {
            return None;
        };
        let mut primary = primary.into_iter();
        let host = match primary.next()? {
            Value::BulkString(host) => String::from_utf8(host).ok()?,
            Value::SimpleString(host) => host,
            Value::Nil => String::new(),
            _ => return None,
        };
        let Value::Int(port) = primary.next()? else {
            return None;
        };
        Some(Served {
            first: first.try_into().ok()?,
            last: last.try_into().ok()?,
            primary: Address {
                host: match host.as_str() {
                    "" | "?" => asked.to_owned(),
                    _ => host,
                },
                port: port.try_into().ok()?,
            },
        })
    };
    ranges.into_iter().map(range).collect()
}
