//! Who may ask: users with few rights, and certificates.

use std::path::PathBuf;

use vintner_testkit::redis::tls;

use super::*;

/// The rights that `docs/redis.md` says are enough.
fn documented_rights() -> Vec<String> {
    let page = include_str!("../../../../../docs/redis.md");
    let line = page
        .lines()
        .find(|line| line.starts_with("ACL SETUSER vintner "));
    line.unwrap().split(' ').map(str::to_owned).collect()
}

fn give_rights(server: &RedisServer) {
    let rights = documented_rights();
    server.command::<()>(&rights.iter().map(String::as_str).collect::<Vec<_>>());
}

/// The URL of the user who has the documented rights.
fn as_user(url: &str) -> String {
    url.replace("://", "://vintner:PASSWORD@")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_the_documented_rights_can_do_everything() {
    let server = RedisServer::start();
    give_rights(&server);
    let cache = near_cache(&Arc::new(at(&as_user(&server.url())))).await;
    suite::run(Arc::clone(&cache) as Arc<dyn OnlineStore>).await;
    cache.probe().await.unwrap();
    // Nothing was tried that is not allowed.
    let denied: Vec<redis::Value> = server.command(&["ACL", "LOG"]);
    assert!(denied.is_empty(), "{denied:?}");
}

#[tokio::test]
async fn a_user_who_may_not_read_or_not_these_keys_is_denied() {
    let server = RedisServer::start();
    give_rights(&server);
    let store = at(&as_user(&server.url()));
    let rows = rows(1);
    write(&store, &rows).await.unwrap();
    for right in ["-mget", "resetkeys"] {
        server.command::<()>(&["ACL", "SETUSER", "vintner", right]);
        let err = read(&store, &rows).await.unwrap_err();
        assert!(
            matches!(err, OnlineError::Denied { .. }),
            "{right}: {err:?}"
        );
        give_rights(&server);
        read(&store, &rows).await.unwrap();
    }
}

fn with_tls(port: u16, ca: Option<PathBuf>, identity: Option<(PathBuf, PathBuf)>) -> RedisConfig {
    let url: RedisUrl = format!("rediss://127.0.0.1:{port}").parse().unwrap();
    RedisConfig {
        servers: RedisServers::One(url),
        tls: Some(TlsFiles { ca, identity }),
    }
}

fn identity(name: &str) -> Option<(PathBuf, PathBuf)> {
    Some((
        tls::file(&format!("{name}.crt")),
        tls::file(&format!("{name}.key")),
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_a_certificate_keeps_the_rules_of_every_store() {
    let (_server, port) = RedisServer::start_with_tls();
    let config = with_tls(port, Some(tls::file("ca.crt")), identity("client"));
    suite::run(Arc::new(RedisStore::new(config).unwrap())).await;
}

#[tokio::test]
async fn certificates_that_nobody_vouches_for_are_refused() {
    let (_server, port) = RedisServer::start_with_tls();
    let ca = || Some(tls::file("ca.crt"));
    let mut messages = Vec::new();
    for (what, config) in [
        (
            "a server of a foreign authority",
            with_tls(port, Some(tls::file("foreign-ca.crt")), identity("client")),
        ),
        (
            "a server that the system does not trust",
            with_tls(port, None, identity("client")),
        ),
        ("no certificate", with_tls(port, ca(), None)),
        (
            "a certificate of a foreign authority",
            with_tls(port, ca(), identity("foreign-client")),
        ),
    ] {
        let store = RedisStore::new(config).unwrap();
        let err = store.check().await.unwrap_err();
        let said = chain(&err).replace(&port.to_string(), "PORT");
        match &err {
            OnlineError::Failed { .. } if what.starts_with("a server") => {
                messages.push(format!("{what}: {said}"));
            }
            // The server's reason may get lost on the way.
            OnlineError::Denied { .. } if !what.starts_with("a server") => {
                assert!(said.contains("refuses the connection over TLS"), "{said}");
            }
            OnlineError::Unavailable { .. } if !what.starts_with("a server") => {
                assert!(
                    said.contains("asks for a certificate that it trusts"),
                    "{said}"
                );
            }
            other => panic!("{what}: {other:?}"),
        }
    }
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn files_for_tls_that_cannot_be_used_are_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let none = file("none.pem", "nothing");
    let cases = [
        with_tls(1, Some(folder.path().join("gone.pem")), None),
        with_tls(1, Some(none.clone()), None),
        with_tls(1, None, Some((none.clone(), tls::file("client.key")))),
        with_tls(1, None, Some((tls::file("client.crt"), none))),
    ];
    let messages = cases.map(|config| {
        let err = RedisStore::new(config).unwrap_err();
        assert!(matches!(err, OnlineError::Failed { .. }), "{err:?}");
        chain(&err).replace(&folder.path().display().to_string(), "FOLDER")
    });
    insta::assert_snapshot!(messages.join("\n"));
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_new_store() {
    let (_server, port) = RedisServer::start_with_tls();
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("crt"), folder.path().join("key"));
    let renew = |name: &str| {
        std::fs::copy(tls::file(&format!("{name}.crt")), &cert).unwrap();
        std::fs::copy(tls::file(&format!("{name}.key")), &key).unwrap();
    };
    renew("foreign-client");
    let config = with_tls(
        port,
        Some(tls::file("ca.crt")),
        Some((cert.clone(), key.clone())),
    );
    let store = RedisStore::new(config).unwrap();
    store.check().await.unwrap_err();
    renew("client");
    store.check().await.unwrap();
}
