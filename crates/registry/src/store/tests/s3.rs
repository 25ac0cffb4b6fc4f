//! The registry on S3: the same code, against as much of the protocol as it speaks.

use std::{collections::BTreeMap, error::Error as _, sync::PoisonError};

use object_store::aws::AmazonS3Builder;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::*;

type Server = Arc<Mutex<Held>>;

/// What a server holds, and how it behaves.
#[derive(Default)]
struct Held {
    objects: BTreeMap<String, Vec<u8>>,
    /// How many writes it will give up because of another one on its way.
    conflicts: usize,
    /// Whether it passes over `If-None-Match: *`, as old servers do.
    overwrites: bool,
    /// What it answers to everything.
    refuses: Option<(&'static str, &'static str)>,
}

/// A bucket on a port of this machine, which speaks what S3 documents of GET, HEAD, PUT with `If-None-Match: *`,
/// DeleteObjects and ListObjectsV2.
async fn bucket() -> (Arc<dyn ObjectStore>, Server) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::default();
    let held = Arc::clone(&server);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&held)));
        }
    });
    (open(&endpoint), server)
}

fn settings(endpoint: &str) -> AmazonS3Builder {
    AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_access_key_id("key")
        .with_secret_access_key("secret")
        .with_region("us-east-1")
}

fn open(endpoint: &str) -> Arc<dyn ObjectStore> {
    remote::open_bucket("bucket", settings(endpoint)).unwrap()
}

async fn serve(stream: TcpStream, server: Server) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            if line == "\r\n" {
                break;
            }
            head.push(line.trim_end().to_ascii_lowercase());
        }
        let header = |name: &str| {
            head.iter()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let length = header("content-length").map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let mut request = head[0].split(' ');
        let (method, target) = (request.next()?, request.next()?);
        let path = target
            .split('?')
            .next()?
            .trim_start_matches("/bucket")
            .trim_start_matches('/');
        let create = header("if-none-match") == Some("*");
        let (status, content) = answer(method, path, create, body, &server);
        let length = content.len();
        let date = "Mon, 23 Nov 2026 12:00:00 GMT";
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\netag: \"e\"\r\nlast-modified: {date}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.ok()?;
        if method != "head" {
            stream.write_all(&content).await.ok()?;
        }
        stream.flush().await.ok()?;
    }
}

fn answer(
    method: &str,
    path: &str,
    create: bool,
    body: Vec<u8>,
    server: &Server,
) -> (&'static str, Vec<u8>) {
    let mut server = server.lock().unwrap_or_else(PoisonError::into_inner);
    let failed = |status, code: &str| {
        let told = format!("<Error><Code>{code}</Code><Message>told</Message></Error>");
        (status, told.into_bytes())
    };
    if let Some((status, code)) = server.refuses {
        return failed(status, code);
    }
    if create && server.conflicts > 0 {
        server.conflicts -= 1;
        return failed("409 Conflict", "ConditionalRequestConflict");
    }
    let create = create && !server.overwrites;
    let objects = &mut server.objects;
    match (method, path) {
        ("get", "") => {
            let item = |(key, bytes): (&String, &Vec<u8>)| {
                format!(
                    "<Contents><Key>{key}</Key><LastModified>2026-11-23T12:00:00.000Z</LastModified>\
                     <ETag>\"e\"</ETag><Size>{}</Size></Contents>",
                    bytes.len()
                )
            };
            let items: String = objects.iter().map(item).collect();
            let list = format!(
                "<ListBucketResult><IsTruncated>false</IsTruncated>{items}</ListBucketResult>"
            );
            ("200 OK", list.into_bytes())
        }
        ("get" | "head", key) => match objects.get(key) {
            Some(bytes) => ("200 OK", bytes.clone()),
            None => ("404 Not Found", vec![]),
        },
        ("put", key) if create && objects.contains_key(key) => ("412 Precondition Failed", vec![]),
        ("put", key) => {
            objects.insert(key.to_owned(), body);
            ("200 OK", vec![])
        }
        ("post", "") => {
            let named = String::from_utf8(body).unwrap();
            let named = named.split("<Key>").skip(1);
            let mut told = String::new();
            for key in named.filter_map(|rest| rest.split("</Key>").next()) {
                objects.remove(&key.to_ascii_lowercase());
                told += &format!("<Deleted><Key>{key}</Key></Deleted>");
            }
            (
                "200 OK",
                format!("<DeleteResult>{told}</DeleteResult>").into_bytes(),
            )
        }
        _ => ("501 Not Implemented", vec![]),
    }
}

#[tokio::test]
async fn the_registry_on_s3_is_the_same() {
    let (store, server) = bucket().await;
    let (ann, bob) = (registry(Arc::clone(&store)), registry(Arc::clone(&store)));
    assert_eq!(ann.latest().await.unwrap().version.0, 0);
    for version in 1..=3 {
        ann.write(&snapshot(version, "ann")).await.unwrap();
    }
    let stale = bob.write(&snapshot(3, "bob")).await.unwrap_err();
    insta::assert_snapshot!(stale, @"planned against registry version 2, which is now 3; plan again");
    assert_eq!(*bob.latest().await.unwrap(), snapshot(3, "ann"));
    assert_eq!(bob.history(5).await.unwrap().len(), 3);
    server
        .lock()
        .unwrap()
        .objects
        .remove("base/registry/latest");
    assert_eq!(registry(store).latest().await.unwrap().version.0, 3);
}

#[tokio::test]
async fn writers_that_race_on_s3_make_one_history() {
    let (store, _server) = bucket().await;
    let (ann, bob) = (registry(Arc::clone(&store)), registry(store));
    for version in 1..=10 {
        let (a, b) = (snapshot(version, "ann"), snapshot(version, "bob"));
        let (a, b) = futures::join!(ann.write(&a), bob.write(&b));
        assert_eq!(
            a.is_ok() as u8 + b.is_ok() as u8,
            1,
            "version {version}: {a:?} {b:?}"
        );
        let winner = if a.is_ok() { "ann" } else { "bob" };
        assert_eq!(*bob.latest().await.unwrap(), snapshot(version, winner));
    }
}

#[tokio::test]
async fn a_write_that_s3_gives_up_because_of_another_one_is_tried_again() {
    let (store, server) = bucket().await;
    server.lock().unwrap().conflicts = 3;
    registry(Arc::clone(&store))
        .write(&snapshot(1, "ann"))
        .await
        .unwrap();
    server.lock().unwrap().conflicts = 4;
    let given_up = registry(Arc::clone(&store))
        .write(&snapshot(2, "ann"))
        .await;
    assert!(
        matches!(given_up, Err(WriteError::Store { .. })),
        "{given_up:?}"
    );
    assert_eq!(registry(store).latest().await.unwrap().version.0, 1);
}

#[tokio::test]
async fn a_store_that_overwrites_what_it_should_not_is_no_registry() {
    let (store, server) = bucket().await;
    server.lock().unwrap().overwrites = true;
    let refused = registry(Arc::clone(&store))
        .write(&snapshot(1, "ann"))
        .await;
    insta::assert_snapshot!(told(&refused.unwrap_err()), @"
    could not write registry version 1 to here
      Generic S3 error: ENDPOINT overwrites objects that it is asked not to overwrite (`If-None-Match: *`), so writers would undo each other's work; use a store with conditional writes
    ");
    assert_eq!(registry(store).latest().await.unwrap().version.0, 0);
}

#[tokio::test]
async fn what_is_wrong_with_a_bucket_is_told_and_it_is_never_empty() {
    let (store, server) = bucket().await;
    let mut said = String::new();
    for (status, code) in [
        ("404 Not Found", "NoSuchBucket"),
        ("403 Forbidden", "SignatureDoesNotMatch"),
        ("403 Forbidden", "AccessDenied"),
        ("400 Bad Request", "ExpiredToken"),
    ] {
        server.lock().unwrap().refuses = Some((status, code));
        let registry = registry(Arc::clone(&store));
        let read = registry.latest().await.unwrap_err();
        let listed = store.list(None).try_collect::<Vec<_>>().await.unwrap_err();
        said += &format!("{code}\n{}\n{}\n", told(&read), told(&listed));
    }
    insta::assert_snapshot!(said);
}

#[tokio::test]
async fn a_store_that_does_not_answer_or_has_no_credentials_is_told() {
    // Nobody listens on port 1.
    let silent = open("http://127.0.0.1:1");
    let failed = registry(silent).latest().await.unwrap_err();
    insta::assert_snapshot!(failed.source().unwrap(), @"Generic S3 error: http://127.0.0.1:1 does not answer (Connection refused (os error 111)); check AWS_ENDPOINT_URL and the network");
    let nobody = AmazonS3Builder::new()
        .with_endpoint("https://s3.test")
        .with_metadata_endpoint("http://127.0.0.1:1");
    let nobody = remote::open_bucket("bucket", nobody).unwrap();
    let failed = registry(nobody).latest().await.unwrap_err();
    insta::assert_snapshot!(failed.source().unwrap(), @"Generic S3 error: there are no credentials (Connection refused (os error 111)); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where AWS gives out those of a role");
}

#[test]
fn settings_that_do_not_fit_are_told() {
    let told = |settings| {
        remote::open_bucket("bucket", settings)
            .unwrap_err()
            .to_string()
    };
    let plain = settings("http://127.0.0.1:1").with_allow_http(false);
    insta::assert_snapshot!(told(plain), @"the endpoint http://127.0.0.1:1 is plain HTTP; set AWS_ALLOW_HTTP=true to use it all the same");
    let half = AmazonS3Builder::new().with_access_key_id("key");
    insta::assert_snapshot!(told(half), @"Generic S3 error: Missing SecretAccessKey");
}

/// An error and what is said of its cause, without the port.
fn told(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(ToString::to_string);
    let told = format!("{error}\n  {}", cause.unwrap_or_default());
    let words = told
        .split(' ')
        .map(|word| match word.strip_prefix("http://127.0.0.1:") {
            Some(rest) => format!(
                "ENDPOINT{}",
                rest.trim_start_matches(|c: char| c.is_ascii_digit())
            ),
            None => word.to_owned(),
        });
    words.collect::<Vec<_>>().join(" ")
}
