//! The registry and the offline store on S3: what they hold is what they hold in a local folder, whoever else writes and
//! whatever is killed.

use std::time::{Duration, Instant};

use serde_json::Value as Json;
use vintner_testkit::s3::S3Server;

use crate::{
    harness::{Ended, Repo},
    interrupt::{Calls, count, kill, spread, stop},
    kill::{answers, more_data},
    stores::{Deployment, assert_alike, deployment},
};

/// The moment at which all commands run, after everything in the data.
const NOW: &str = "2026-04-01T00:00:00Z";

/// Long after everything was written, so that the retention has run out.
const LATER: &str = "2099-01-01";

/// How many times each test interrupts, at most.
const POINTS: usize = 8;

/// How long a command may take to say what is wrong with a bucket.
const DEADLINE: Duration = Duration::from_secs(30);

/// A repo whose registry and offline store are in a bucket.
pub(crate) struct Bucket<'a> {
    server: &'a S3Server,
    name: String,
    pub(crate) repo: Repo,
}

impl<'a> Bucket<'a> {
    pub(crate) fn new(server: &'a S3Server) -> Self {
        let bucket = Self {
            name: server.bucket(),
            repo: Repo::new().at(NOW).with_environment(server.environment()),
            server,
        };
        bucket.deploy(
            "registry: .vintner/registry",
            "offline_store: .vintner/offline",
        );
        bucket
    }

    /// A bucket and a repo of their own with the same contents.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self {
            name: self.server.copy(&self.name),
            repo: self.repo.copy(),
            server: self.server,
        };
        let [registry, offline] = self.lines();
        copy.deploy(&registry, &offline);
        copy
    }

    /// Puts the bucket's places in the place of others.
    fn deploy(&self, registry: &str, offline: &str) {
        let lines = self.lines();
        self.repo.replace("vintner.yaml", registry, &lines[0]);
        self.repo.replace("vintner.yaml", offline, &lines[1]);
    }

    fn lines(&self) -> [String; 2] {
        [
            "registry: s3://NAME/registry",
            "offline_store: s3://NAME/offline",
        ]
        .map(|line| line.replace("NAME", &self.name))
    }

    /// What the stores hold, to be compared: as files where a local folder has them.
    pub(crate) fn deployment(self, story: &str) -> Deployment {
        self.server.dump(&self.name, &self.repo.path(".vintner"));
        deployment(story, self.repo)
    }
}

/// Makes training rows, and saves them as the dataset `first`.
fn save_first(repo: &Repo) {
    let rows = [
        "--entity-rows",
        "data/decisions.csv",
        "--out",
        "out/rows.csv",
    ];
    let historical = [
        "get-historical",
        "--service",
        "churn_model",
        "--save",
        "first",
    ];
    repo.done(&[&historical[..], &rows].concat());
}

/// The main job. Out: what was said of it, but for what differs between any two runs.
fn main_job(repo: &Repo) -> Vec<Json> {
    repo.done(&["apply", "--yes"]);
    repo.done(&["materialize"]);
    save_first(repo);
    let rows = std::fs::read_to_string(repo.path("out/rows.csv")).unwrap();
    more_data(repo);
    repo.done(&["materialize"]);
    let compacted = repo.json(&["compact"]);
    let vacuumed = repo.json(&["--now", LATER, "vacuum", "--yes"]);
    repo.done(&["dataset", "reproduce", "first", "--out", "out/again.csv"]);
    let again = std::fs::read_to_string(repo.path("out/again.csv")).unwrap();
    assert_eq!(again, rows);
    let mut runs = repo.json(&["runs"]);
    steady(&mut runs);
    // All of them began at the same moment, so their order is anybody's.
    runs.as_array_mut().unwrap().sort_by_key(Json::to_string);
    let mut told = vec![answers(repo), runs];
    for mut list in [compacted, vacuumed, repo.json(&["datasets"])] {
        steady(&mut list);
        told.push(list);
    }
    told
}

/// Takes out ids, times that things took, and the names of files.
fn steady(json: &mut Json) {
    match json {
        Json::Object(fields) => {
            fields.retain(|name, _| {
                let differs = ["id", "path", "file", "delta_id", "finished_at"];
                !differs.contains(&name.as_str()) && !name.ends_with("micros")
            });
            fields.values_mut().for_each(steady);
        }
        Json::Array(items) => items.iter_mut().for_each(steady),
        _ => {}
    }
}

#[test]
fn the_main_job_on_s3_leaves_what_it_leaves_in_a_local_folder() {
    let server = S3Server::start();
    let (local, s3) = (Repo::new().at(NOW), Bucket::new(&server));
    let (want, got) = (main_job(&local), main_job(&s3.repo));
    assert_eq!(got, want);
    assert!(
        !s3.repo.path(".vintner/offline").exists(),
        "it is in the bucket"
    );
    assert_alike(&[deployment("a local folder", local), s3.deployment("S3")]);
}

#[test]
fn sources_are_read_from_s3() {
    let server = S3Server::start();
    let (local, s3) = (Repo::new().at(NOW), Bucket::new(&server));
    for file in ["orders.csv", "profiles.csv"] {
        let key = format!("in/{file}");
        server.put(&s3.name, &key, &s3.repo.path(&format!("data/{file}")));
        std::fs::remove_file(s3.repo.path(&format!("data/{file}"))).unwrap();
        let (from, to) = (
            format!("data/{file}"),
            format!("s3://{}/in/*{}", s3.name, &file[3..]),
        );
        s3.repo.replace("features.yaml", &from, &to);
    }
    for repo in [&local, &s3.repo] {
        repo.done(&["apply", "--yes"]);
        repo.done(&["materialize"]);
    }
    let of = |repo: &Repo| {
        let answers = answers(repo);
        (answers["historical"].clone(), answers["online"].clone())
    };
    assert_eq!(of(&s3.repo), of(&local));

    // Of other formats: what has just been written.
    let table = format!("s3://{}/offline/shop/customer_profile/v1", s3.name);
    let features = std::fs::read_to_string(s3.repo.path("features.yaml")).unwrap();
    let of_format = |format: &str, path: &str| {
        format!(
            "---\nkind: source\nname: as_{format}\npath: {path}\nformat: {format}\nevent_timestamp: event_timestamp\n\
             ---\nkind: feature_view\nname: of_{format}\nentities: [customer]\n\
             query: SELECT customer_id, event_timestamp, plan FROM as_{format}\n"
        )
    };
    let (delta, parquet) = (
        of_format("delta", &table),
        of_format("parquet", &format!("{table}/*.parquet")),
    );
    s3.repo
        .write("features.yaml", &(features + &delta + &parquet));
    s3.repo.done(&["apply", "--yes"]);
    for (views, rows) in [
        (["customer_orders", "customer_profile"], 0),
        (["of_delta", "of_parquet"], 5),
    ] {
        for run in s3
            .repo
            .json(&[&["materialize"], &views[..]].concat())
            .as_array()
            .unwrap()
        {
            assert_eq!(run["rows_written"], rows, "{run}");
        }
    }
}

/// One `apply` stops before a request, another one runs from its beginning to its end, and the first one goes on.
#[test]
fn of_two_applies_that_race_on_s3_one_wins_and_the_other_is_told() {
    let server = S3Server::start();
    let apply = ["apply", "--yes"];
    let counted = Bucket::new(&server);
    let calls = count(&counted.repo, &apply, Calls::Socket);
    let (mut told, mut done) = (0, 0);
    for at in spread(calls, POINTS) {
        let s3 = Bucket::new(&server);
        let Some(outer) = stop(&s3.repo, &apply, Calls::Socket, at) else {
            continue;
        };
        s3.repo.done(&apply);
        let (ended, _) = outer.go_on();
        match ended.code {
            Some(0) => done += 1,
            Some(1) => {
                told += 1;
                insta::assert_snapshot!("stale", ended.stderr);
            }
            _ => panic!("before call {at} of {calls}: {ended:?}"),
        }
        let versions = s3.repo.json(&["history"]);
        assert_eq!(
            versions.as_array().unwrap().len(),
            1,
            "before call {at} of {calls}"
        );
    }
    assert!(told > 0 && done > 0, "{told} were told, {done} were done");
}

/// Kills `materialize` between its requests, runs it again, and compares with a clean run.
fn survives(server: &S3Server, before: Bucket<'_>) {
    let materialize = ["materialize"];
    let clean = before.copy();
    let calls = count(&clean.repo, &materialize, Calls::Socket);
    assert!(calls > 10, "it made only {calls} calls");
    let mut deployments = vec![clean.deployment("a clean run")];
    let points = spread(calls, POINTS);
    let mut killed = 0;
    for at in &points {
        let s3 = before.copy();
        killed += usize::from(kill(&s3.repo, &materialize, Calls::Socket, *at));
        s3.repo.done(&materialize);
        deployments.push(s3.deployment(&format!("killed before call {at} of {calls}")));
    }
    assert!(killed + 2 >= points.len(), "only {killed} runs were killed");
    // The answer to each kind of write is lost once: nobody knows whether it was written.
    for text in ["_delta_log", ".parquet"] {
        let s3 = before.copy();
        server.lose_answer(&s3.name, text);
        let first = s3.repo.run(&materialize);
        assert!(
            server.has_lost_answer(&s3.name),
            "nothing was written to {text}"
        );
        if first.code != Some(0) {
            s3.repo.done(&materialize);
        }
        deployments.push(s3.deployment(&format!("the answer to a write of {text} was lost")));
    }
    assert_alike(&deployments);
}

#[test]
fn a_first_materialize_survives_a_kill_between_its_requests_to_s3() {
    let server = S3Server::start();
    let before = Bucket::new(&server);
    before.repo.done(&["apply", "--yes"]);
    survives(&server, before);
}

#[test]
fn a_later_materialize_survives_a_kill_between_its_requests_to_s3() {
    let server = S3Server::start();
    let before = Bucket::new(&server);
    before.repo.done(&["apply", "--yes"]);
    before.repo.done(&["materialize"]);
    more_data(&before.repo);
    survives(&server, before);
}

#[test]
fn a_write_whose_answer_is_lost_counts_once() {
    let server = S3Server::start();
    let s3 = Bucket::new(&server);
    server.lose_answer(&s3.name, "registry/0");
    s3.repo.done(&["apply", "--yes"]);
    assert!(server.has_lost_answer(&s3.name));
    assert_eq!(s3.repo.json(&["history"]).as_array().unwrap().len(), 1);
    s3.repo.done(&["materialize"]);
    server.lose_answer(&s3.name, "manifest.json");
    save_first(&s3.repo);
    assert!(server.has_lost_answer(&s3.name));
    s3.repo
        .done(&["dataset", "reproduce", "first", "--out", "out/again.csv"]);
}

/// What a command says when it fails, in bounded time, without the ports of this run.
fn failure(server: &S3Server, repo: &Repo, args: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = repo.command(args);
    for (name, value) in environment {
        match value.is_empty() {
            true => command.env_remove(name),
            false => command.env(name, value),
        };
    }
    let began = Instant::now();
    let ended = Ended::of(&mut command);
    assert!(
        began.elapsed() < DEADLINE,
        "{args:?} took {:?}",
        began.elapsed()
    );
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    let told = format!(
        "exit {}\n{}{}",
        ended.code.unwrap_or(-1),
        ended.stdout,
        ended.stderr
    );
    repo.without_paths(&told)
        .replace(&server.endpoint(), "ENDPOINT")
}

#[test]
fn what_is_wrong_with_a_bucket_is_told() {
    let server = S3Server::start();
    let s3 = Bucket::new(&server);
    s3.repo.done(&["apply", "--yes"]);
    // Nobody listens on port 1.
    let nobody = "http://127.0.0.1:1";
    let no_key = [
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_METADATA_ENDPOINT", nobody),
    ];
    let told =
        |args: &[&str], environment: &[(&str, &str)]| failure(&server, &s3.repo, args, environment);
    insta::assert_snapshot!("no_credentials", told(&["plan"], &no_key));
    insta::assert_snapshot!("half_credentials", told(&["plan"], &no_key[1..]));
    insta::assert_snapshot!(
        "no_endpoint",
        told(&["materialize"], &[("AWS_ENDPOINT_URL", nobody)])
    );
    insta::assert_snapshot!("plain_http", told(&["plan"], &[("AWS_ALLOW_HTTP", "")]));
}

/// An object store has no folders, so nothing there could be taken for an empty store.
#[test]
fn a_bucket_that_is_missing_is_not_an_empty_store() {
    let server = S3Server::start();
    let s3 = Bucket::new(&server);
    s3.repo.done(&["apply", "--yes"]);
    let lines = s3.lines();
    let told = |args: &[&str]| failure(&server, &s3.repo, args, &[]);
    s3.repo.replace(
        "vintner.yaml",
        &lines[1],
        "offline_store: s3://no-such-bucket/offline",
    );
    let mut offline = String::new();
    let rows = [
        "--entity-rows",
        "data/decisions.csv",
        "--out",
        "out/rows.csv",
    ];
    let historical = ["get-historical", "--service", "churn_model"];
    for args in [
        &[&historical[..], &rows].concat()[..],
        &["materialize", "customer_profile"],
        &["compact"],
        &["vacuum", "--yes"],
        &["datasets"],
        &["runs"],
        &["show", "view", "customer_profile"],
    ] {
        offline += &format!("$ {}\n{}", args.join(" "), told(args));
    }
    insta::assert_snapshot!("no_bucket_offline", offline);
    s3.repo.replace(
        "vintner.yaml",
        &lines[0],
        "registry: s3://no-such-bucket/registry",
    );
    let registry = told(&["apply", "--yes"]) + &told(&["history"]);
    insta::assert_snapshot!("no_bucket_registry", registry);
    s3.repo.replace(
        "vintner.yaml",
        "s3://no-such-bucket/registry",
        ".vintner/registry",
    );
    s3.repo.replace(
        "features.yaml",
        "data/orders.csv",
        "s3://no-such-bucket/orders.csv",
    );
    insta::assert_snapshot!("no_bucket_source", told(&["plan"]));
}
