//! Commands that are interrupted right before one of their calls that change something outside of the process.

use std::{
    fs,
    io::{Read as _, pipe},
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

use crate::harness::{Ended, Repo, here};

/// How long a signal may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// The number of SIGSTOP on Linux, where these tests run.
const STOP: &str = "19";

/// The library that counts the calls, built once from the C file beside this one.
static KILL_AT: LazyLock<PathBuf> = LazyLock::new(|| {
    let library = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("kill_at_{}.so", std::process::id()));
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(here("tests/it/kill_at.c"))
        .arg("-ldl")
        .status();
    assert!(
        built
            .expect("these tests need a C compiler named cc")
            .success()
    );
    library
});

/// Which calls of a process count.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Calls {
    /// Those that change something on disk.
    Disk,
    /// Those that send something to a server.
    Socket,
}

impl Calls {
    /// A command whose calls are counted.
    fn counted(self, repo: &Repo, args: &[&str]) -> Command {
        let mut command = repo.command(args);
        command.env("LD_PRELOAD", &*KILL_AT).env(
            "KILL_CALLS",
            match self {
                Self::Disk => "disk",
                Self::Socket => "socket",
            },
        );
        command
    }
}

/// Runs a command that must be done, and says how many calls it made.
pub(crate) fn count(repo: &Repo, args: &[&str], calls: Calls) -> usize {
    let file = repo.path("count");
    let ended = Ended::of(calls.counted(repo, args).env("KILL_COUNT", &file));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    fs::read_to_string(file).unwrap().parse().unwrap()
}

/// Runs a command that is killed before its n-th call, counted from one. Whether it made so many.
pub(crate) fn kill(repo: &Repo, args: &[&str], calls: Calls, at: usize) -> bool {
    let ended = calls
        .counted(repo, args)
        .env("KILL_AT", at.to_string())
        .output()
        .unwrap();
    ended.status.signal() == Some(9)
}

/// A command that has stopped before one of its calls, and waits. It is killed when it is dropped.
pub(crate) struct Stopped(Option<Child>);

/// Starts a command and waits until it has stopped before its n-th call, counted from one. None when it makes fewer.
pub(crate) fn stop(repo: &Repo, args: &[&str], calls: Calls, at: usize) -> Option<Stopped> {
    let (mut said, says) = pipe().unwrap();
    let child = Stopped(Some(
        calls
            .counted(repo, args)
            .env("KILL_AT", at.to_string())
            .env("KILL_SIGNAL", STOP)
            .stdin(says)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    ));
    // A byte when it is about to stop; the end of the file when it has ended.
    if said.read(&mut [0]).unwrap() == 0 {
        return None;
    }
    let deadline = Instant::now() + PATIENCE;
    while !child.is_stopped() {
        assert!(Instant::now() < deadline, "{args:?} does not stop");
        std::thread::yield_now();
    }
    Some(child)
}

impl Stopped {
    fn id(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    fn is_stopped(&self) -> bool {
        // `pid (name) state …`
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('T')
    }

    /// Lets the command go on, and waits for its end. How long that took comes with it.
    pub(crate) fn go_on(mut self) -> (Ended, Duration) {
        let began = Instant::now();
        let continued = Command::new("kill")
            .args(["-CONT", &self.id().to_string()])
            .status();
        assert!(continued.unwrap().success());
        let child = self.0.take().unwrap();
        let ended = Ended::from(child.wait_with_output().unwrap());
        (ended, began.elapsed())
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// At most `most` of the numbers from one to `count`, evenly spread, the first one and the last one among them.
pub(crate) fn spread(count: usize, most: usize) -> Vec<usize> {
    let points = most.min(count);
    (0..points)
        .map(|point| 1 + point * (count - 1) / (points - 1).max(1))
        .collect()
}
