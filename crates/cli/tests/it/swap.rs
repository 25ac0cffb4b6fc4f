//! A new version of a view takes the place of the old one online when it is complete, and for all entities at once.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use crate::harness::Repo;

const ROWS: usize = 60_000;
/// What the new version adds to every value.
const ADDED: i64 = 1_000_000;

fn repo() -> Repo {
    let repo = Repo::empty();
    repo.write(
        "vintner.yaml",
        "project: swap\nregistry: .vintner/registry\noffline_store: .vintner/offline\n\
         online_store: {type: embedded, path: .vintner/online}\n",
    );
    repo.write(
        "definitions.yaml",
        "kind: entity\nname: thing\njoin_keys: {id: int64}\n---\n\
         kind: source\nname: events\npath: events.csv\nevent_timestamp: at\n---\n\
         kind: feature_view\nname: scores\nentities: [thing]\nquery: SELECT id, at, value + 0 AS score FROM events\n---\n\
         kind: feature_service\nname: model\nfeatures: [scores]\n",
    );
    let mut rows = "id,at,value\n".to_owned();
    for id in 0..ROWS {
        writeln!(rows, "{id},2026-01-01T00:00:00Z,{id}").unwrap();
    }
    repo.write("events.csv", &rows);
    repo.done(&["apply", "--yes"]);
    repo.done(&["materialize"]);
    repo
}

/// The version that answers a read of entities from both ends of the table, which must have the values of all of them.
fn read(repo: &Repo, server: &str) -> u64 {
    let ids = [0, 1, ROWS / 2, ROWS - 1];
    let entities: Vec<_> = ids.iter().map(|id| format!("id={id}")).collect();
    let mut args = vec!["get-online", "--service", "model", "--server", server];
    for entity in &entities {
        args.extend(["--entity", entity]);
    }
    let answer = repo.json(&args);
    let score = &answer["features"]["score"];
    let view = score["view"].as_str().unwrap();
    let version = match view {
        "scores@1" => 1,
        "scores@2" => 2,
        other => panic!("{other}"),
    };
    let added = if version == 2 { ADDED } else { 0 };
    for (at, id) in ids.iter().enumerate() {
        assert_eq!(score["statuses"][at], "PRESENT", "{answer}");
        assert_eq!(score["values"][at], *id as i64 + added, "{answer}");
    }
    version
}

#[test]
fn readers_see_the_old_version_complete_or_the_new_one_complete() {
    let repo = repo();
    let service = repo.serve();
    assert_eq!(read(&repo, &service.url), 1);
    repo.replace("definitions.yaml", "value + 0", &format!("value + {ADDED}"));
    repo.done(&["apply", "--yes"]);

    let loaded = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = Vec::new();
            let mut deadline = None;
            loop {
                let was_loaded = loaded.load(Ordering::Acquire);
                let version = read(&repo, &service.url);
                seen.push(version);
                match (version, was_loaded) {
                    (2, true) => return seen,
                    (1, true) => {
                        let by = *deadline
                            .get_or_insert_with(|| Instant::now() + Duration::from_secs(20));
                        assert!(Instant::now() < by, "the new version is never read");
                    }
                    _ => {}
                }
            }
        });
        repo.done(&["materialize"]);
        loaded.store(true, Ordering::Release);
        reader.join().unwrap()
    });
    assert!(seen.is_sorted(), "{seen:?}");
    assert_eq!((seen.first(), seen.last()), (Some(&1), Some(&2)));

    // A version that is named is read as it is, and one that only the new version answers is the new one's.
    let pinned = repo.json(&[
        "get-online",
        "--features",
        "scores@1:score",
        "--entity",
        "id=3",
    ]);
    assert_eq!(pinned["features"]["score"]["values"][0], 3);
}
