//! The registry on S3: the same code, against as much of the protocol as it speaks.

use std::{collections::BTreeMap, sync::PoisonError};

use object_store::aws::AmazonS3Builder;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::*;

type Objects = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A bucket on a port of this machine, which speaks what S3 documents of GET, HEAD, PUT with `If-None-Match: *`, and
/// ListObjectsV2.
async fn bucket() -> (Arc<dyn ObjectStore>, Objects) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let objects = Objects::default();
    let held = Arc::clone(&objects);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&held)));
        }
    });
    let store = AmazonS3Builder::new()
        .with_url("s3://bucket")
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_access_key_id("key")
        .with_secret_access_key("secret")
        .with_region("us-east-1");
    (Arc::new(store.build().unwrap()), objects)
}

async fn serve(stream: TcpStream, objects: Objects) -> Option<()> {
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
        let (status, content) = answer(method, path, create, body, &objects);
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
    objects: &Objects,
) -> (&'static str, Vec<u8>) {
    let mut objects = objects.lock().unwrap_or_else(PoisonError::into_inner);
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
        _ => ("501 Not Implemented", vec![]),
    }
}

#[tokio::test]
async fn the_registry_on_s3_is_the_same() {
    let (store, objects) = bucket().await;
    let (ann, bob) = (registry(Arc::clone(&store)), registry(Arc::clone(&store)));
    assert_eq!(ann.latest().await.unwrap().version.0, 0);
    for version in 1..=3 {
        ann.write(&snapshot(version, "ann")).await.unwrap();
    }
    let stale = bob.write(&snapshot(3, "bob")).await.unwrap_err();
    insta::assert_snapshot!(stale, @"planned against registry version 2, which is now 3; plan again");
    assert_eq!(*bob.latest().await.unwrap(), snapshot(3, "ann"));
    assert_eq!(bob.history(5).await.unwrap().len(), 3);
    objects.lock().unwrap().remove("base/registry/latest");
    assert_eq!(registry(store).latest().await.unwrap().version.0, 3);
}

#[tokio::test]
async fn writers_that_race_on_s3_make_one_history() {
    let (store, _objects) = bucket().await;
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
