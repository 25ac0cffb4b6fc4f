//! What is wrong with `vintner.yaml`.

use super::{DEPLOYMENT, env, report, report_deployment};
use crate::{OnlineStoreConfig, RedisDeployment, RedisServers, RepoFile, parse_deployment};

fn with_online_store(store: &str) -> String {
    report_deployment(&format!(
        "project: flights\nregistry: r\noffline_store: o\nonline_store: {store}\n"
    ))
}

#[test]
fn a_deployment_that_is_missing() {
    insta::assert_snapshot!(report(&[("a.yaml", "# nothing")]), @r"
    repo::missing_deployment

      error: the feature repo has no vintner.yaml
      help: write one like this:
            project: flights
            registry: .vintner/registry
            offline_store: .vintner/offline
            online_store: {type: embedded, path: .vintner/online}
    ");
    insta::assert_snapshot!(report(&[("vintner.yml", DEPLOYMENT)]), @r"
    repo::missing_deployment

      error: the feature repo has no vintner.yaml
       ╭─[vintner.yml:1:1]
     1 │ project: flights
       · ▲
       · ╰── this file has another name
     2 │ registry: .vintner/registry
       ╰────
      help: rename it to vintner.yaml
    ");
    insta::assert_snapshot!(report_deployment("# nothing\n"), @r"
    repo::missing_deployment

      error: vintner.yaml says nothing
       ╭─[vintner.yaml:1:1]
     1 │ # nothing
       · ▲
       · ╰── here
       ╰────
      help: write one like this:
            project: flights
            registry: .vintner/registry
            offline_store: .vintner/offline
            online_store: {type: embedded, path: .vintner/online}
    ");
    insta::assert_snapshot!(report_deployment(""), @r"
    repo::missing_deployment

      error: vintner.yaml says nothing
      help: write one like this:
            project: flights
            registry: .vintner/registry
            offline_store: .vintner/offline
            online_store: {type: embedded, path: .vintner/online}
    ");
}

#[test]
fn a_second_deployment() {
    insta::assert_snapshot!(
        report(&[("vintner.yaml", DEPLOYMENT), ("b/vintner.yaml", DEPLOYMENT), ("vintner.yml", DEPLOYMENT)]),
        @r"
    repo::second_deployment

      error: a feature repo has one vintner.yaml, at its root
       ╭─[b/vintner.yaml:1:1]
     1 │ project: flights
       · ▲
       · ╰── another one
     2 │ registry: .vintner/registry
       ╰────
      help: remove this file, or move its folder out of the repo

    repo::second_deployment

      error: a feature repo has one vintner.yaml, at its root
       ╭─[vintner.yml:1:1]
     1 │ project: flights
       · ▲
       · ╰── another one
     2 │ registry: .vintner/registry
       ╰────
      help: remove this file, or move its folder out of the repo
    "
    );
    insta::assert_snapshot!(
        report_deployment(&format!("{DEPLOYMENT}---\nkind: entity\nname: a\n")),
        @r"
    repo::second_deployment

      error: vintner.yaml has more than one document
       ╭─[vintner.yaml:6:1]
     5 │ ---
     6 │ kind: entity
       · ──────┬─────
       ·       ╰── another document
     7 │ name: a
       ╰────
      help: move entities, sources, views and services to another file
    "
    );
}

#[test]
fn fields_that_are_unknown_missing_or_wrong() {
    insta::assert_snapshot!(report_deployment("proyect: flights\nregistry: 7\noffline_store: [a]\n"), @r#"
    repo::unknown_field

      error: the deployment has no field `proyect`
       ╭─[vintner.yaml:1:1]
     1 │ proyect: flights
       · ───┬───
       ·    ╰── unknown field
     2 │ registry: 7
       ╰────
      help: did you mean `project`?

    repo::missing_field

      error: the deployment has no `online_store`
       ╭─[vintner.yaml:1:1]
     1 │ proyect: flights
       · ───┬───
       ·    ╰── needs `online_store`
     2 │ registry: 7
       ╰────
      help: add `online_store: {type: embedded, path: .vintner/online}`

    repo::needs_quotes

      error: `registry` must be a text, but YAML reads `7` as a number
       ╭─[vintner.yaml:2:11]
     1 │ proyect: flights
     2 │ registry: 7
       ·           ┬
       ·           ╰── a number
     3 │ offline_store: [a]
       ╰────
      help: quote it: "7"

    repo::wrong_type

      error: `offline_store` must be a text, but is a list
       ╭─[vintner.yaml:3:16]
     2 │ registry: 7
     3 │ offline_store: [a]
       ·                ─┬─
       ·                 ╰── a list
       ╰────
      help: write something like `.vintner/offline`
    "#);
}

#[test]
fn a_project_that_is_no_name() {
    insta::assert_snapshot!(
        report_deployment("project: my flights\nregistry: r\noffline_store: o\nonline_store: {type: embedded, path: p}\n"),
        @r"
    repo::bad_name

      error: the project name `my flights` may only have letters, digits and `_`, and must not start
      │ with a digit
       ╭─[vintner.yaml:1:10]
     1 │ project: my flights
       ·          ─────┬────
       ·               ╰── not a name
     2 │ registry: r
       ╰────
      help: `my_flights` would do
    "
    );
}

#[test]
fn a_project_with_the_name_of_the_operational_tables() {
    insta::assert_snapshot!(
        report_deployment("project: system\nregistry: r\noffline_store: o\nonline_store: {type: embedded, path: p}\n"),
        @"
        repo::bad_name

          error: the project name `system` is reserved: Vintner keeps its own tables under it
           ╭─[vintner.yaml:1:10]
         1 │ project: system
           ·          ───┬──
           ·             ╰── reserved
         2 │ registry: r
           ╰────
          help: `my_system` would do
        "
    );
    insta::assert_snapshot!(
        report_deployment("project: ${P:-System}\nregistry: r\noffline_store: o\nonline_store: {type: embedded, path: p}\n"),
        @"
        repo::bad_name

          error: the project name `System` is reserved: Vintner keeps its own tables under it
           ╭─[vintner.yaml:1:10]
         1 │ project: ${P:-System}
           ·          ──────┬─────
           ·                ╰── reserved
         2 │ registry: r
           ╰────
          help: `my_System` would do
        "
    );
}

#[test]
fn an_online_store_that_is_not_right() {
    insta::assert_snapshot!(with_online_store("embedded"), @r"
    repo::wrong_type

      error: `online_store` must be a mapping, but is a text
       ╭─[vintner.yaml:4:15]
     3 │ offline_store: o
     4 │ online_store: embedded
       ·               ────┬───
       ·                   ╰── a text
       ╰────
      help: write something like `{type: embedded, path: .vintner/online}`
    ");
    insta::assert_snapshot!(with_online_store("{type: redys, url: \"redis://h\"}"), @r#"
    repo::unknown_store

      error: there is no online store of type `redys`
       ╭─[vintner.yaml:4:22]
     3 │ offline_store: o
     4 │ online_store: {type: redys, url: "redis://h"}
       ·                      ──┬──
       ·                        ╰── unknown type
       ╰────
      help: did you mean `redis`?
    "#);
    insta::assert_snapshot!(with_online_store("{type: embedded, url: \"redis://h\"}"), @r#"
    repo::missing_field

      error: the online store has no `path`
       ╭─[vintner.yaml:4:15]
     3 │ offline_store: o
     4 │ online_store: {type: embedded, url: "redis://h"}
       ·               ─────────────────┬────────────────
       ·                                ╰── needs `path`
       ╰────
      help: add `path: .vintner/online`

    repo::unknown_field

      error: an online store of type `embedded` has no `url`
       ╭─[vintner.yaml:4:37]
     3 │ offline_store: o
     4 │ online_store: {type: embedded, url: "redis://h"}
       ·                                     ─────┬─────
       ·                                          ╰── does not belong here
       ╰────
      help: remove `url`, or change the type
    "#);
    insta::assert_snapshot!(with_online_store("{type: redis}"), @r#"
    repo::missing_field

      error: the online store has no `url`
       ╭─[vintner.yaml:4:15]
     3 │ offline_store: o
     4 │ online_store: {type: redis}
       ·               ──────┬──────
       ·                     ╰── needs `url`
       ╰────
      help: add `url: "redis://127.0.0.1:6379"`
    "#);
    insta::assert_snapshot!(with_online_store("{type: redis, url: localhost:6379}"), @r#"
    repo::bad_url

      error: a URL of Redis does not begin with `localhost:`
       ╭─[vintner.yaml:4:34]
     3 │ offline_store: o
     4 │ online_store: {type: redis, url: localhost:6379}
       ·                                  ───────┬──────
       ·                                         ╰── not a URL of Redis
       ╰────
      help: write it like "redis://127.0.0.1:6379", or rediss:// for TLS
    "#);
}

#[test]
fn a_password_in_clear() {
    insta::assert_snapshot!(with_online_store("{type: redis, url: \"redis://me:hunter2@db:6379\"}"), @r#"
    repo::secret_in_clear

      warning: the password of a URL is written in clear
       ╭─[vintner.yaml:4:46]
     3 │ offline_store: o
     4 │ online_store: {type: redis, url: "redis://me:*******@db:6379"}
       ·                                              ───┬───
       ·                                                 ╰── in clear
       ╰────
      help: put it in the environment and write ${REDIS_PASSWORD} here
    "#);
    insta::assert_snapshot!(with_online_store("{type: redis, url: \"redis://h\", password: hunter2}"), @r#"
    repo::unknown_field

      error: the online store has no field `password`
       ╭─[vintner.yaml:4:47]
     3 │ offline_store: o
     4 │ online_store: {type: redis, url: "redis://h", password: *******}
       ·                                               ────┬───
       ·                                                   ╰── unknown field
       ╰────
      help: the fields are `type`, `path`, `url`, `cluster`, `sentinel` and `tls`

    repo::secret_in_clear

      warning: a secret is written in clear
       ╭─[vintner.yaml:4:57]
     3 │ offline_store: o
     4 │ online_store: {type: redis, url: "redis://h", password: *******}
       ·                                                         ───┬───
       ·                                                            ╰── in clear
       ╰────
      help: put it in the environment and write ${PASSWORD} here
    "#);
    assert_eq!(
        with_online_store("{type: redis, url: \"redis://:${EMPTY:-x}@db\"}"),
        ""
    );
}

#[test]
fn a_password_is_covered_in_what_is_not_yaml_too() {
    let report =
        report_deployment("project: a: b\nonline_store: {type: redis, url: redis://:hunter2@db}\n");
    assert!(!report.contains("hunter2"), "{report}");
}

#[test]
fn variables_are_expanded_and_what_they_hold_is_not_printed() {
    let file = RepoFile {
        path: "vintner.yaml".to_owned(),
        text: "project: ${P:-flights}\nregistry: ${R:-r}\noffline_store: $${o}\nonline_store: {type: redis, url: \"${REDIS_URL}\"}\n"
            .to_owned(),
    };
    let (deployment, diagnostics) = parse_deployment(&file, &env);
    assert_eq!(diagnostics, []);
    let deployment = deployment.unwrap();
    assert_eq!(deployment.offline_store, "${o}");
    let OnlineStoreConfig::Redis(RedisDeployment {
        servers: RedisServers::One(url),
        ..
    }) = &deployment.online_store
    else {
        panic!("{deployment:?}");
    };
    assert_eq!(url.reveal(), "redis://:hunter2@db:6379");
    insta::assert_debug_snapshot!(deployment, @r#"
    Deployment {
        project: "flights",
        registry: "r",
        offline_store: "${o}",
        online_store: Redis(
            RedisDeployment {
                servers: One(
                    RedisUrl(redis://:***@db:6379),
                ),
                tls: None,
            },
        ),
    }
    "#);
}

#[test]
fn a_variable_that_is_not_set() {
    insta::assert_snapshot!(with_online_store("\n  type: redis\n  url: redis://:${REDIS_PASSWORD}@db"), @r"
    repo::undefined_variable

      error: the variable `REDIS_PASSWORD` is not set
       ╭─[vintner.yaml:6:17]
     5 │   type: redis
     6 │   url: redis://:${REDIS_PASSWORD}@db
       ·                 ────────┬────────
       ·                         ╰── not set
       ╰────
      help: set REDIS_PASSWORD in the environment, or give a default: ${REDIS_PASSWORD:-default}
    ");
}

/// What is read of an online store without fault.
fn read_online_store(store: &str) -> RedisDeployment {
    let file = RepoFile {
        path: "vintner.yaml".to_owned(),
        text: format!("project: flights\nregistry: r\noffline_store: o\nonline_store: {store}\n"),
    };
    let (deployment, diagnostics) = parse_deployment(&file, &env);
    match deployment.map(|deployment| deployment.online_store) {
        Some(OnlineStoreConfig::Redis(redis)) => redis,
        other => panic!("{other:?}: {diagnostics:?}"),
    }
}

#[test]
fn redis_in_all_its_forms() {
    insta::assert_debug_snapshot!(
        [
            "{type: redis, url: \"rediss://db\"}",
            "{type: redis, url: \"rediss://db\", tls: {ca: ca.crt, cert: a.crt, key: a.key}}",
            "{type: redis, cluster: [\"rediss://me:hunter2@a:7000\", \"rediss://me:hunter2@b\"], tls: {}}",
            "{type: redis, sentinel: {master: m, nodes: [\"a:1\", b, \"[::1]:3\"]}}",
            "{type: redis, tls: {ca: \"${CA:-ca.crt}\"}, sentinel: {master: m, nodes: [a], user: me, password: hunter2, \
             sentinel_user: you, sentinel_password: hunter3}}",
        ]
        .map(read_online_store)
    );
}

#[test]
fn redis_that_is_not_said_right() {
    let mistakes = [
        "{type: redis, tls: {ca: ca.crt}}",
        "{type: redis, url: \"redis://a\", cluster: [\"redis://b\"]}",
        "{type: redis, cluster: \"redis://a\"}",
        "{type: redis, cluster: []}",
        "{type: redis, cluster: [\"redis://a\", b]}",
        "{type: redis, cluster: [\"redis://me:hunter2@a\", \"redis://me:hunter3@b\"]}",
        "{type: redis, cluster: [\"redis://a\", \"rediss://b\"]}",
        "{type: redis, cluster: [\"redis://a/3\"]}",
        "{type: redis, sentinel: {nodes: [a]}}",
        "{type: redis, sentinel: {master: m, nodes: []}}",
        "{type: redis, sentinel: {master: m, nodes: [\"redis://me:hunter2@a\"]}}",
        "{type: redis, sentinel: {master: m, nodes: [a], pasword: secret}}",
        "{type: redis, sentinel: {master: 7, nodes: a}}",
        "{type: redis, sentinel: {master: m, nodes: [a], password: \"${NOT_SET}\"}}",
        "{type: redis, url: \"redis://a\", tls: {ca: ca.crt}}",
        "{type: redis, url: \"rediss://a\", tls: {cert: a.crt}}",
        "{type: redis, url: \"rediss://a\", tls: {key: a.key}}",
        "{type: redis, url: \"rediss://a\", tls: {ca: }}",
        "{type: redis, url: \"rediss://a\", tls: {certificate: a.crt}}",
        "{type: redis, url: \"rediss://a\", tls: yes}",
        "{type: redis, url: \"rediss://a#insecure\"}",
        "{type: redis, url: \"redis://a/database\"}",
        "{type: embedded, path: p, tls: {ca: ca.crt}, sentinel: {master: m, nodes: [a]}}",
    ];
    let reports = mistakes.map(|store| format!("{store}\n\n{}", with_online_store(store)));
    let said = reports
        .join("\n\n---\n\n")
        .replace("hunter2", "SECRET2")
        .replace("hunter3", "SECRET3");
    // The first line of each is the mistake itself; below it no secret may stand.
    for report in &reports {
        let (_, below) = report.split_once("\n\n").unwrap();
        assert!(!below.contains("hunter"), "{below}");
    }
    insta::assert_snapshot!(said);
}
