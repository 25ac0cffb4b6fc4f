//! A repo in a folder of its own, the binary that works on it, and a service that serves it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value as Json;
use tempfile::TempDir;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_vintner");

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
        Service { child, url }
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
}

impl Service {
    /// Asks the service to stop, and waits until it has.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &id])
                .status()
                .unwrap()
                .success()
        );
        self.child.wait().unwrap().code()
    }
}

impl Service {
    /// As [`Self::stop`], and what was said on stderr.
    pub(crate) fn stop_with_log(mut self) -> (Option<i32>, String) {
        let mut stderr = self.child.stderr.take().unwrap();
        let code = self.stop();
        let mut log = String::new();
        stderr.read_to_string(&mut log).unwrap();
        (code, log)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
