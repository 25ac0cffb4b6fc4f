//! A repo in a folder of its own, the binary that works on it, and a service that serves it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::Value as Json;
use tempfile::TempDir;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_vintner");

/// How long what must come may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A feature repo in a temporary folder.
pub(crate) struct Repo {
    folder: TempDir,
    now: Option<&'static str>,
    environment: Vec<(String, String)>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code; none when it was killed.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Repo {
    /// What `vintner init` writes.
    pub(crate) fn new() -> Self {
        let repo = Self::in_folder();
        let ended = repo.command(&["init"]).arg(repo.root()).output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
        repo
    }

    /// An empty folder.
    pub(crate) fn empty() -> Self {
        let repo = Self::in_folder();
        fs::create_dir(repo.root()).unwrap();
        repo
    }

    fn in_folder() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            now: None,
            environment: Vec::new(),
        }
    }

    /// A repo of its own with the same files, those of local stores among them.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self {
            now: self.now,
            environment: self.environment.clone(),
            ..Self::in_folder()
        };
        copy_folder(&self.root(), &copy.root());
        copy
    }

    /// The same repo, whose commands have these variables too.
    pub(crate) fn with_environment(self, environment: Vec<(String, String)>) -> Self {
        Self {
            environment,
            ..self
        }
    }

    /// The same repo, with a clock that stands still: what its commands do depends on the moment no more.
    pub(crate) fn at(self, now: &'static str) -> Self {
        Self {
            now: Some(now),
            ..self
        }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Changes a file; what is replaced must be there.
    pub(crate) fn replace(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from:?}");
        self.write(name, &text.replace(from, to));
    }

    /// A command that has the repo's folder as its own, and nothing of the caller's environment that matters.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(args).stdin(Stdio::null());
        if self.root().is_dir() {
            command.current_dir(self.root());
        }
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["VINTNER_", "AWS_", "OTEL_"]
                .iter()
                .any(|prefix| text.starts_with(prefix))
            {
                command.env_remove(&name);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(now) = self.now {
            command.env("VINTNER_NOW", now);
        }
        command.env("VINTNER_AUTHOR", "tester").env("NO_COLOR", "1");
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        Ended::of(&mut self.command(args))
    }

    /// Runs a command that must be done.
    pub(crate) fn done(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
        ended.stdout
    }

    /// Runs a command that must be done and answer with JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Json {
        let stdout = self.done(&[args, &["--format", "json"]].concat());
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {stdout}"))
    }

    /// What a command says when it fails, with its exit code, for a snapshot: paths of this run are left out.
    pub(crate) fn failure(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_ne!(ended.code, Some(0), "{args:?} was done: {ended:?}");
        assert!(
            !ended.stderr.contains("panicked"),
            "{args:?}: {}",
            ended.stderr
        );
        let text = format!(
            "exit {}\n{}{}",
            ended.code.unwrap_or(-1),
            ended.stdout,
            ended.stderr
        );
        self.without_paths(&text)
    }

    pub(crate) fn without_paths(&self, text: &str) -> String {
        let root = self.root();
        let canonical = fs::canonicalize(&root).unwrap_or_else(|_| root.clone());
        let mut text = text.to_owned();
        for path in [canonical, root] {
            let path = path.display().to_string();
            text = text
                .replace(&path, "[repo]")
                .replace(path.trim_start_matches('/'), "[repo]");
        }
        text
    }

    /// Serves the repo until the answer is dropped.
    pub(crate) fn serve(&self) -> Service {
        self.serve_with(&[])
    }

    pub(crate) fn serve_with(&self, args: &[&str]) -> Service {
        let mut service = self.serve_unheard(args);
        service.hear();
        service
    }

    /// Serves, and nobody reads what is said on stderr.
    pub(crate) fn serve_unheard(&self, args: &[&str]) -> Service {
        let mut command = self.command(&[&["serve", "--listen", "127.0.0.1:0"], args].concat());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let url = line
            .split_whitespace()
            .last()
            .unwrap_or_default()
            .to_owned();
        assert!(
            url.starts_with("http://127.0.0.1:"),
            "the service says {line:?}"
        );
        Service {
            child,
            url,
            log: None,
        }
    }
}

impl Ended {
    pub(crate) fn of(command: &mut Command) -> Self {
        Self::from(command.output().unwrap())
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A running service.
pub(crate) struct Service {
    child: Child,
    pub(crate) url: String,
    /// Reads what is said on stderr.
    log: Option<JoinHandle<String>>,
}

impl Service {
    /// Asks the service to stop, and waits until it has.
    pub(crate) fn stop(self) -> Option<i32> {
        self.stop_with_log().0
    }

    /// Begins to read what is said on stderr.
    pub(crate) fn hear(&mut self) {
        let mut stderr = self.child.stderr.take().unwrap();
        self.log = Some(thread::spawn(move || {
            let mut log = String::new();
            stderr.read_to_string(&mut log).unwrap();
            log
        }));
    }

    /// The id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The body of a page, with its status.
    pub(crate) fn page(&self, path: &str) -> (u16, String) {
        let address = self.url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
        (
            status,
            if chunked {
                joined(body)
            } else {
                body.to_owned()
            },
        )
    }

    /// How many calls the service works on.
    pub(crate) fn in_flight(&self) -> f64 {
        let metrics = self.page("/metrics").1;
        let mut lines = metrics.lines();
        let found = lines.find_map(|line| line.strip_prefix("vintner_grpc_requests_in_flight "));
        found.unwrap().parse().unwrap()
    }

    /// As [`Self::stop`], and what was said on stderr.
    pub(crate) fn stop_with_log(mut self) -> (Option<i32>, String) {
        let id = self.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &id])
                .status()
                .unwrap()
                .success()
        );
        let code = self.child.wait().unwrap().code();
        if self.log.is_none() {
            self.hear();
        }
        let log = self.log.take().unwrap();
        (code, log.join().unwrap())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The body of an answer that came in chunks.
fn joined(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}

/// Waits for what must come, and says how long it took.
pub(crate) fn until(what: &str, mut comes: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !comes() {
        assert!(began.elapsed() < PATIENCE, "{what} does not come");
        std::thread::yield_now();
    }
    began.elapsed()
}

/// A folder of this crate.
pub(crate) fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}
