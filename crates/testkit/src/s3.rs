//! A real S3 server for tests: moto's, on a port of the system's choice, in memory, gone when it is dropped.
//!
//! It honours `If-None-Match: *`. What it can be told besides is described in `python/s3_server.py`.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The key and the secret that it is asked with. It checks neither.
const CREDENTIALS: &str = "testing";

/// A running S3 server. Every method panics when the server does not do what was asked: it is for tests.
#[derive(Debug)]
pub struct S3Server {
    port: u16,
    process: Child,
    lines: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    buckets: AtomicUsize,
}

impl S3Server {
    /// Starts a server without buckets and waits until it answers.
    ///
    /// # Panics
    /// When `VINTNER_TEST_PYTHON` names no Python with moto, or the server does not start.
    pub fn start() -> Self {
        let python = std::env::var("VINTNER_TEST_PYTHON").expect(
            "VINTNER_TEST_PYTHON must name a Python with the moto package; `make test` sets it",
        );
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/s3_server.py");
        let mut process = Command::new(python)
            .arg("-B")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the Python of VINTNER_TEST_PYTHON can be run");
        let told = process.stdin.take().expect("the input is piped");
        let says = process.stdout.take().expect("the output is piped");
        let mut says = BufReader::new(says);
        let line = next_line(&mut says);
        let port = line
            .strip_prefix("port ")
            .and_then(|port| port.parse().ok());
        Self {
            port: port.unwrap_or_else(|| panic!("the S3 server did not start; it said {line:?}")),
            process,
            lines: Mutex::new((told, says)),
            buckets: AtomicUsize::new(0),
        }
    }

    /// `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The environment in which a program works with this server.
    pub fn environment(&self) -> Vec<(String, String)> {
        let variables = [
            ("AWS_ACCESS_KEY_ID", CREDENTIALS),
            ("AWS_SECRET_ACCESS_KEY", CREDENTIALS),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", &self.endpoint()),
            ("AWS_ALLOW_HTTP", "true"),
        ];
        variables
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    }

    /// A new bucket, empty.
    pub fn bucket(&self) -> String {
        let bucket = self.next_name();
        self.tell(&format!("create {bucket}"));
        bucket
    }

    /// A new bucket with the objects of another one.
    pub fn copy(&self, bucket: &str) -> String {
        let copy = self.next_name();
        self.tell(&format!("copy {bucket} {copy}"));
        copy
    }

    /// Makes a file an object. Neither name may have a space in it.
    pub fn put(&self, bucket: &str, key: &str, file: &Path) {
        self.tell(&format!("put {bucket} {key} {}", file.display()));
    }

    /// Writes the objects of a bucket into a folder, as files. Its path may not have a space in it.
    pub fn dump(&self, bucket: &str, folder: &Path) {
        self.tell(&format!("dump {bucket} {}", folder.display()));
    }

    /// Does the next PUT in a bucket whose key has the text in it, and ends the connection in place of the answer.
    pub fn lose_answer(&self, bucket: &str, text: &str) {
        self.tell(&format!("lose {bucket} {text}"));
    }

    /// Whether an answer that was to be lost has been.
    pub fn has_lost_answer(&self, bucket: &str) -> bool {
        self.ask(&format!("lost {bucket}")) == "yes"
    }

    fn next_name(&self) -> String {
        let number = self.buckets.fetch_add(1, Ordering::Relaxed);
        format!("bucket-{number}")
    }

    fn tell(&self, line: &str) {
        let answer = self.ask(line);
        assert_eq!(answer, "ok", "{line}");
    }

    fn ask(&self, line: &str) -> String {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let (told, says) = &mut *lines;
        writeln!(told, "{line}").expect("the S3 server reads");
        next_line(says)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn next_line(says: &mut impl BufRead) -> String {
    let mut line = String::new();
    says.read_line(&mut line).expect("the S3 server says text");
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read as _, net::TcpStream};

    use super::*;

    /// The status of an answer; none when there is no answer.
    fn put(server: &S3Server, bucket: &str, key: &str, content: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        let request = format!(
            "PUT /{bucket}/{key} HTTP/1.1\r\nHost: s3\r\nAuthorization: AWS4-HMAC-SHA256 \
             Credential={CREDENTIALS}/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\n\
             If-None-Match: *\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{content}",
            content.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.split(' ').nth(1).map(str::to_owned)
    }

    #[test]
    fn an_object_is_written_once_also_when_nobody_hears_of_it() {
        let server = S3Server::start();
        let bucket = server.bucket();
        assert_eq!(put(&server, &bucket, "a/b", "one").as_deref(), Some("200"));
        assert_eq!(put(&server, &bucket, "a/b", "two").as_deref(), Some("412"));
        server.lose_answer(&bucket, "c");
        assert!(!server.has_lost_answer(&bucket));
        assert_eq!(put(&server, &bucket, "a/c", "three"), None);
        assert!(server.has_lost_answer(&bucket));
        assert_eq!(put(&server, &bucket, "a/c", "four").as_deref(), Some("412"));
        assert_eq!(put(&server, "no-bucket", "a", "x").as_deref(), Some("404"));

        let copy = server.copy(&bucket);
        assert_eq!(put(&server, &bucket, "d", "five").as_deref(), Some("200"));
        let folder = tempfile::tempdir().unwrap();
        server.dump(&copy, folder.path());
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).ok();
        assert_eq!(read("a/b").as_deref(), Some("one"));
        assert_eq!(read("a/c").as_deref(), Some("three"));
        assert_eq!(read("d"), None);
        server.put(&copy, "e", &folder.path().join("a/b"));
        server.dump(&copy, folder.path());
        assert_eq!(read("e").as_deref(), Some("one"));
    }
}
