//! Several processes write and read through near caches of their own, on one real Redis to which things happen.
//!
//! Clusters and sentinels are in `failover`. A service is this test binary, started again to run [`serve_when_asked`] alone. It reads all keys all the time, and
//! writes when it is told to, over a socket.

#![expect(
    clippy::cast_possible_truncation,
    reason = "no test takes that many nanoseconds or writes"
)]

use std::{
    io::{BufRead, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{LazyLock, RwLock},
    thread,
};

use vintner_core::Value;
use vintner_testkit::redis::{MASTER, RedisServer};

use super::{
    super::LEASE,
    history::{History, Push, Run, Write},
    *,
};
use crate::{Address, Login, RedisConfig, RedisServers, RedisStore, SentinelConfig, row::Row};

/// Names the socket that a service listens to, and makes the binary a service.
const SOCKET: &str = "VINTNER_TEST_NEAR_CACHE_SOCKET";
/// Where its Redis is: see [`config`].
const URL: &str = "VINTNER_TEST_NEAR_CACHE_URL";
/// Makes it deaf to pushes.
const DEAF: &str = "VINTNER_TEST_NEAR_CACHE_DEAF";

const KEYS: usize = 6;
const BUDGET: Option<ByteSize> = ByteSize::new(1 << 20);
/// How many tasks of a service read.
const READERS: usize = 2;

/// Nanoseconds of the machine's monotonic clock, the same in every process.
fn nanos(instant: Instant) -> u64 {
    /// An instant, and what the clock showed then. Only an instant's description tells it.
    static BASE: LazyLock<(Instant, u64)> = LazyLock::new(|| {
        let now = Instant::now();
        let shown = format!("{now:?}");
        let number = |field: &str| -> u64 {
            let rest = shown.split_once(field).expect("a field of an instant").1;
            let digits = rest.trim_start_matches([':', ' ']);
            let end = digits.find(|c: char| !c.is_ascii_digit());
            digits[..end.unwrap_or(digits.len())].parse().unwrap()
        };
        (now, number("tv_sec") * 1_000_000_000 + number("tv_nsec"))
    });
    let (base, shown) = *BASE;
    let after = instant.saturating_duration_since(base).as_nanos() as u64;
    let before = base.saturating_duration_since(instant).as_nanos() as u64;
    shown + after - before
}

/// A URL, `cluster=` and URLs, or `sentinel=` and the addresses of sentinels, with commas between them.
pub(super) fn config(place: &str) -> RedisConfig {
    let servers = match place.split_once('=') {
        Some(("cluster", urls)) => {
            RedisServers::Cluster(urls.split(',').map(|url| url.parse().unwrap()).collect())
        }
        Some(("sentinel", nodes)) => RedisServers::Sentinel(SentinelConfig {
            master: MASTER.to_owned(),
            nodes: nodes.split(',').map(address).collect(),
            login: Login::default(),
            sentinel_login: Login::default(),
        }),
        _ => return place.parse().unwrap(),
    };
    RedisConfig { servers, tls: None }
}

fn address(text: &str) -> Address {
    let (host, port) = text.rsplit_once(':').unwrap();
    Address {
        host: host.to_owned(),
        port: port.parse().unwrap(),
    }
}

fn key_of(number: usize) -> EntityKey {
    key(&number.to_string())
}

/// A row of the one view; its number is its value.
fn row_of(key: usize, number: u64) -> OnlineRow {
    let revision = revision("view@1", &[feature("number", "int64")], None);
    let number = i64::try_from(number).unwrap();
    let value = Some(Value::Int64(number));
    row(&revision, &key.to_string(), time(number, 0), &[value])
}

fn number_of(row: Option<&Bytes>) -> u64 {
    let revision = revision("view@1", &[feature("number", "int64")], None);
    let layout = crate::RowLayout::new(&revision.layout());
    row.map_or(0, |row| match Row::parse(&layout, row).unwrap().value(0) {
        Ok(Some(Value::Int64(number))) => number.try_into().unwrap(),
        other => panic!("{other:?}"),
    })
}

/// The service. Does nothing in a normal run of the tests.
#[test]
fn serve_when_asked() {
    let Ok(socket) = std::env::var(SOCKET) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let _context = runtime.enter();
    let redis = RedisStore::new(config(&std::env::var(URL).unwrap())).unwrap();
    let cache = Arc::new(NearCache::new(Arc::new(redis)));
    let deaf = std::env::var_os(DEAF).is_some();
    cache.shared.hearing.deaf.store(deaf, Ordering::Relaxed);
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..READERS)
        .map(|_| runtime.spawn(read_on(Arc::clone(&cache), Arc::clone(&stop))))
        .collect();
    let mut readers = Some(readers);
    let socket = TcpStream::connect(socket).unwrap();
    socket.set_nodelay(true).unwrap();
    let mut answers = socket.try_clone().unwrap();
    for line in BufReader::new(socket).lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words.as_slice() {
            ["write", key, number] => {
                let row = row_of(key.parse().unwrap(), number.parse().unwrap());
                let written = runtime.block_on(cache.write(&project(), &view(), None, &[row]));
                match written {
                    Ok(_) => format!("{}\n", nanos(Instant::now())),
                    Err(_) => "failed\n".to_owned(),
                }
            }
            ["tracking"] => format!("{}\n", cache.cache_stats().unwrap().tracking),
            ["report"] => {
                stop.store(true, Ordering::Relaxed);
                let mut report = String::new();
                for reader in readers.take().into_iter().flatten() {
                    for run in runtime.block_on(reader).unwrap() {
                        let (key, number) = (run.key, run.number);
                        let (first, last) = (run.first_ended, run.last_began);
                        report += &format!("run {key} {number} {first} {last}\n");
                    }
                }
                let heard = std::mem::take(&mut *cache.shared.hearing.heard.lock().unwrap());
                for (at, row) in heard {
                    let key =
                        (0..KEYS).find(|&key| row == row_key(&project(), &view(), &key_of(key)));
                    report += &format!("push {} {}\n", key.unwrap(), nanos(at));
                }
                let stats = cache.cache_stats().unwrap();
                let hits: u64 = stats
                    .views
                    .iter()
                    .map(|view| view.hits + view.negative_hits)
                    .sum();
                report + &format!("end {hits} {}\n", stats.generations)
            }
            other => panic!("{other:?}"),
        };
        answers.write_all(answer.as_bytes()).unwrap();
    }
}

/// Reads all keys in turn until told to stop.
async fn read_on(cache: Arc<NearCache>, stop: Arc<AtomicBool>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut last: [Option<usize>; KEYS] = [None; KEYS];
    while !stop.load(Ordering::Relaxed) {
        for (key, last) in last.iter_mut().enumerate() {
            let keys = [key_of(key)];
            let lookup = Lookup {
                view: &view(),
                keys: &keys,
                cache: BUDGET,
            };
            let began = nanos(Instant::now());
            let Ok(rows) = cache.read(&project(), &[lookup]).await else {
                continue;
            };
            let ended = nanos(Instant::now());
            let number = number_of(rows[0][0].as_ref());
            match last.map(|index| &mut runs[index]) {
                Some(run) if run.number == number => run.last_began = began,
                _ => {
                    *last = Some(runs.len());
                    runs.push(Run {
                        process: 0,
                        key,
                        number,
                        first_ended: ended,
                        last_began: began,
                    });
                }
            }
        }
        tokio::task::yield_now().await;
    }
    runs
}

/// A service, as the test sees it.
struct Service {
    child: Child,
    answers: BufReader<TcpStream>,
    questions: TcpStream,
}

/// What a service has told at its end.
struct Report {
    history: History,
    hits: u64,
    generations: u64,
}

impl Service {
    fn start(place: &str, deaf: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        let name = concat!(module_path!(), "::serve_when_asked");
        let (_crate, name) = name.split_once("::").unwrap();
        command
            .args(["--exact", name, "--nocapture"])
            .env(SOCKET, listener.local_addr().unwrap().to_string())
            .env(URL, place)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if deaf {
            command.env(DEAF, "1");
        }
        let mut child = command.spawn().unwrap();
        listener.set_nonblocking(true).unwrap();
        let socket = loop {
            match listener.accept() {
                Ok((socket, _)) => break socket,
                Err(_) => assert_eq!(child.try_wait().unwrap(), None, "the service has ended"),
            }
            thread::yield_now();
        };
        socket.set_nonblocking(false).unwrap();
        socket.set_nodelay(true).unwrap();
        Self {
            child,
            answers: BufReader::new(socket.try_clone().unwrap()),
            questions: socket,
        }
    }

    fn ask(&mut self, question: &str) -> String {
        writeln!(self.questions, "{question}").unwrap();
        self.answer()
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn wait_for_tracking(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.ask("tracking") != "true" {
            assert!(Instant::now() < deadline, "tracking never came on");
        }
    }

    /// When the write was acknowledged; none when it failed, and may have been made or not.
    fn write(&mut self, key: usize, number: u64) -> Option<u64> {
        self.ask(&format!("write {key} {number}")).parse().ok()
    }

    fn report(mut self, process: usize) -> Report {
        let mut history = History::default();
        let mut line = self.ask("report");
        loop {
            let (word, numbers) = line.split_once(' ').unwrap();
            let numbers: Vec<u64> = numbers.split(' ').map(|n| n.parse().unwrap()).collect();
            match (word, numbers.as_slice()) {
                ("run", &[key, number, first_ended, last_began]) => history.runs.push(Run {
                    process,
                    key: key as usize,
                    number,
                    first_ended,
                    last_began,
                }),
                ("push", &[key, handled]) => history.pushes.push(Push {
                    process,
                    key: key as usize,
                    handled,
                }),
                ("end", &[hits, generations]) => {
                    return Report {
                        history,
                        hits,
                        generations,
                    };
                }
                other => panic!("{other:?}"),
            }
            line = self.answer();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// How a history was made.
pub(super) struct Outcome {
    history: History,
    /// Per service.
    hits: Vec<u64>,
    pub(super) generations: Vec<u64>,
}

/// What accidents can do to the services.
pub(super) struct Hand {
    ids: [u32; 2],
    /// Held by everyone who writes, while it writes.
    writing: RwLock<()>,
}

impl Hand {
    /// Signals one of the services.
    fn signal(&self, service: usize, signal: &str) {
        let id = self.ids[service].to_string();
        let status = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(status.success());
    }

    /// Does something while nobody writes; reads go on.
    pub(super) fn still<T>(&self, act: impl FnOnce() -> T) -> T {
        let _nobody = self.writing.write().unwrap();
        act()
    }
}

/// Two services write, each its own keys, as fast as they can until `accidents` has come to its end.
pub(super) fn run(places: [&str; 2], deaf: bool, accidents: impl FnOnce(&Hand) + Send) -> Outcome {
    let mut services = places.map(|place| Service::start(place, deaf));
    for service in &mut services {
        service.wait_for_tracking();
    }
    let hand = Hand {
        ids: services.each_ref().map(|service| service.child.id()),
        writing: RwLock::new(()),
    };
    let done = AtomicBool::new(false);
    let writes = thread::scope(|scope| {
        let writers: Vec<_> = services
            .iter_mut()
            .enumerate()
            .map(|(process, service)| {
                let (done, writing) = (&done, &hand.writing);
                scope.spawn(move || {
                    let mut writes = Vec::new();
                    let mut number = 0;
                    while !done.load(Ordering::Relaxed) {
                        number += 1;
                        for key in (0..KEYS).filter(|key| key % 2 == process) {
                            let _writing = writing.read().unwrap();
                            if let Some(acknowledged) = service.write(key, number) {
                                writes.push(Write {
                                    process,
                                    key,
                                    number,
                                    acknowledged,
                                });
                            }
                        }
                    }
                    writes
                })
            })
            .collect();
        accidents(&hand);
        done.store(true, Ordering::Relaxed);
        let writes = writers.into_iter().map(|writer| writer.join().unwrap());
        writes.flatten().collect::<Vec<_>>()
    });
    let mut outcome = Outcome {
        history: History {
            writes,
            ..History::default()
        },
        hits: vec![],
        generations: vec![],
    };
    for (process, service) in services.into_iter().enumerate() {
        let report = service.report(process);
        outcome.history.runs.extend(report.history.runs);
        outcome.history.pushes.extend(report.history.pushes);
        outcome.hits.push(report.hits);
        outcome.generations.push(report.generations);
    }
    outcome
}

/// Lets time pass in which the services go on.
pub(super) fn pass(time: Duration) {
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    never.recv_timeout(time).unwrap_err();
}

#[expect(clippy::print_stderr, reason = "figures, for whoever looks")]
fn show_delays(what: &str, history: &History) {
    let mut histogram = hdrhistogram::Histogram::<u64>::new(3).unwrap();
    for delay in history.delays() {
        histogram.record(delay.as_micros() as u64).unwrap();
    }
    eprintln!(
        "{what}: {} writes, {} runs of reads; from the acknowledgement to the last stale read elsewhere: p50 {} us, \
         p99 {} us, max {} us",
        history.writes.len(),
        history.runs.len(),
        histogram.value_at_quantile(0.5),
        histogram.value_at_quantile(0.99),
        histogram.max(),
    );
}

/// What holds whatever happens.
pub(super) fn assert_coherent(what: &str, outcome: &Outcome) {
    let history = &outcome.history;
    show_delays(what, history);
    assert!(
        history.writes.len() > 50,
        "{what}: hardly anything happened"
    );
    assert!(
        outcome.hits.iter().all(|&hits| hits > 0),
        "{what}: nothing was read from a cache"
    );
    let nothing: [String; 0] = [];
    assert_eq!(history.stale(LEASE), nothing, "{what}");
    assert_eq!(history.back(), nothing, "{what}");
    assert_eq!(history.not_own(), nothing, "{what}");
}

#[test]
fn services_read_what_was_written_and_a_handled_push_is_final() {
    let server = RedisServer::start();
    // On a busy machine a service may lose its lease, and with it some pushes; that is another history.
    for _ in 0..5 {
        let outcome = run([&server.url(); 2], false, |_| pass(Duration::from_secs(2)));
        assert_coherent("undisturbed", &outcome);
        if outcome.generations == [1, 1] {
            let nothing: [String; 0] = [];
            assert_eq!(outcome.history.after_push(2), nothing);
            return;
        }
        redis::cmd("FLUSHALL")
            .exec(&mut server.connection())
            .unwrap();
    }
    panic!("tracking was lost in every history");
}

#[test]
fn a_service_that_does_not_hear_of_changes_is_found_out() {
    let server = RedisServer::start();
    let outcome = run([&server.url(); 2], true, |_| pass(Duration::from_secs(3)));
    assert!(!outcome.history.stale(LEASE).is_empty());
}

#[test]
fn a_push_connection_that_is_closed_makes_no_read_stale() {
    let server = RedisServer::start();
    let outcome = run([&server.url(); 2], false, |_| {
        let mut connection = server.connection();
        for _ in 0..20 {
            pass(Duration::from_millis(100));
            let mut list = redis::cmd("CLIENT");
            let clients: String = list.arg("LIST").query(&mut connection).unwrap();
            for client in clients.lines() {
                let field = |name: &str| {
                    let mut fields = client.split(' ');
                    fields.find_map(|field| field.strip_prefix(name)).unwrap()
                };
                // B: it is pushed all keys with its prefixes.
                if field("flags=").contains('B') {
                    let mut kill = redis::cmd("CLIENT");
                    let kill = kill.arg(&["KILL", "ID", field("id=")]);
                    kill.exec(&mut connection).unwrap();
                }
            }
        }
    });
    assert_coherent("push connections closed", &outcome);
    assert!(outcome.generations.iter().all(|&count| count > 3));
}

#[test]
fn a_server_that_is_killed_and_comes_back_makes_no_read_stale() {
    // Nothing that was acknowledged is lost, so no read may go back.
    let options = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut server = RedisServer::start_with(&options);
    let url = server.url();
    let outcome = run([&url; 2], false, |_| {
        for _ in 0..3 {
            pass(Duration::from_millis(700));
            server.kill();
            server.restart();
        }
        pass(Duration::from_millis(700));
    });
    assert_coherent("server killed", &outcome);
    assert!(outcome.generations.iter().all(|&count| count > 1));
}

#[test]
fn a_server_that_stands_still_makes_no_read_stale() {
    let server = RedisServer::start();
    let outcome = run([&server.url(); 2], false, |_| {
        for stopped in [100, 700, 1500] {
            pass(Duration::from_millis(500));
            server.stop();
            pass(Duration::from_millis(stopped));
            server.cont();
        }
        pass(Duration::from_millis(500));
    });
    assert_coherent("server stopped", &outcome);
}

#[test]
fn a_service_that_stands_still_reads_nothing_stale_when_it_goes_on() {
    let server = RedisServer::start();
    let outcome = run([&server.url(); 2], false, |hand| {
        for stopped in [500, 1500, 2500] {
            pass(Duration::from_millis(500));
            hand.signal(1, "-STOP");
            pass(Duration::from_millis(stopped));
            hand.signal(1, "-CONT");
        }
        pass(Duration::from_millis(500));
    });
    assert_coherent("service stopped", &outcome);
}
