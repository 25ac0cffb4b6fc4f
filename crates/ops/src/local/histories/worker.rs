//! The process that writes: this test binary, started again to run [`write_when_asked`] alone. It is told what to do
//! over a socket, a line each, and can be killed at any moment.

use std::{
    io::{BufRead, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use crate::{
    Local, Operations as _, OpsError,
    api::{PushOutcome, Scope},
    local::world::{ByHand, Row, deletion, open, request, run},
};

/// Names the socket that the process listens to, and makes the binary one.
const SOCKET: &str = "VINTNER_TEST_WORKER_SOCKET";

/// How long it may take to answer.
const DEADLINE: Duration = Duration::from_secs(60);

/// The process, as the test sees it.
pub(super) struct Worker {
    child: Child,
    questions: TcpStream,
    answers: mpsc::Receiver<String>,
    /// The deployment that it has open.
    folder: Option<PathBuf>,
}

impl Worker {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = concat!(module_path!(), "::write_when_asked");
        let (_crate, name) = name.split_once("::").unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(SOCKET, listener.local_addr().unwrap().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        listener.set_nonblocking(true).unwrap();
        let socket = loop {
            match listener.accept() {
                Ok((socket, _)) => break socket,
                Err(_) => assert_eq!(child.try_wait().unwrap(), None, "the worker has ended"),
            }
            thread::park_timeout(Duration::from_millis(1));
        };
        socket.set_nonblocking(false).unwrap();
        socket.set_nodelay(true).unwrap();
        let (send, answers) = mpsc::channel();
        let reader = BufReader::new(socket.try_clone().unwrap());
        thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                // Nobody may be there to hear it.
                let _ = send.send(line);
            }
        });
        Self {
            child,
            questions: socket,
            answers,
            folder: None,
        }
    }

    /// Has it open a deployment, and every later one of its kind as well.
    pub(super) fn open(&mut self, folder: &Path) {
        self.folder = Some(folder.to_owned());
        let question = format!("open {}", folder.display());
        self.ask(&question, None::<(Duration, fn(&mut Self))>)
            .unwrap();
    }

    /// Kills it with SIGKILL, and starts another one in its place.
    pub(super) fn kill(&mut self) {
        self.kill_and(|| ());
    }

    /// The same, with something to do before the other one starts.
    pub(super) fn kill_and(&mut self, then: impl FnOnce()) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        then();
        let folder = self.folder.take();
        *self = Self::start();
        if let Some(folder) = folder {
            self.open(&folder);
        }
    }

    /// Asks, has an accident happen so long after, and gives the words of the answer. An error says why there is none.
    pub(super) fn ask(
        &mut self,
        question: &str,
        accident: Option<(Duration, impl FnOnce(&mut Self))>,
    ) -> Result<Vec<String>, String> {
        writeln!(self.questions, "{question}").map_err(|error| error.to_string())?;
        let asked = self.child.id();
        let mut answer = None;
        if let Some((after, accident)) = accident {
            answer = self.answers.recv_timeout(after).ok();
            accident(self);
        }
        let answer = match answer {
            Some(answer) => answer,
            None if self.child.id() != asked => return Err("the worker was killed".to_owned()),
            None => self
                .answers
                .recv_timeout(DEADLINE)
                .map_err(|error| error.to_string())?,
        };
        let mut words = answer.split(' ').map(str::to_owned);
        match words.next().as_deref() {
            Some("done") => Ok(words.collect()),
            _ => Err(answer),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Rows in one word.
pub(super) fn text(rows: &[Row]) -> String {
    let number = |value: &Option<i64>| value.map_or("-".to_owned(), |value| value.to_string());
    let row =
        |(key, event, created, value): &Row| format!("{key},{event},{created},{};", number(value));
    rows.iter().map(row).collect()
}

fn parse(text: &str) -> Vec<Row> {
    let row = |text: &str| {
        let numbers: Vec<_> = text.split(',').map(|number| number.parse().ok()).collect();
        let [Some(key), Some(event), Some(created), value] = numbers[..] else {
            panic!("{text}");
        };
        (key, event, created, value)
    };
    text.split_terminator(';').map(row).collect()
}

/// The process. Does nothing in a normal run of the tests.
#[test]
fn write_when_asked() {
    let Ok(socket) = std::env::var(SOCKET) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _context = runtime.enter();
    let clock = ByHand::at(0);
    let mut local = None;
    let socket = TcpStream::connect(socket).unwrap();
    socket.set_nodelay(true).unwrap();
    let mut answers = socket.try_clone().unwrap();
    for line in BufReader::new(socket).lines() {
        let line = line.unwrap();
        let answer = match line.split_once(' ').unwrap() {
            ("open", folder) => {
                local = Some(open(Path::new(folder), &clock));
                "done".to_owned()
            }
            (verb, words) => {
                let local = local.as_ref().unwrap();
                let words: Vec<&str> = words.split(' ').collect();
                match runtime.block_on(write(local, &clock, verb, &words)) {
                    Ok(answer) => format!("done {answer}"),
                    Err(error) => format!("failed {}", error.chain().replace('\n', " ")),
                }
            }
        };
        writeln!(answers, "{}", answer.trim_end()).unwrap();
    }
}

async fn write(
    local: &Local,
    clock: &Arc<ByHand>,
    verb: &str,
    words: &[&str],
) -> Result<String, OpsError> {
    clock.set(words[0].parse().unwrap());
    match (verb, &words[1..]) {
        ("run", ["news"]) => run(local, Scope::Incremental, None).await?,
        ("run", ["all"]) => run(local, Scope::FullRefresh, None).await?,
        ("run", ["online"]) => run(local, Scope::OnlineOnly, None).await?,
        ("run", [start, end]) => {
            let window = (start.parse().unwrap(), end.parse().unwrap());
            run(local, Scope::Incremental, Some(window)).await?;
        }
        ("push", [producer, rows]) => {
            let request = request(&parse(rows), Some((producer, 1)));
            let report = local.push(&request).await?;
            let outcome = match report.outcome {
                PushOutcome::Written => "written",
                PushOutcome::AlreadyThere => "already_there",
            };
            return Ok(format!("{outcome} {} {}", report.late, report.token));
        }
        ("delete", [keys]) => {
            let keys: Vec<i64> = keys.split(',').map(|key| key.parse().unwrap()).collect();
            local.delete(&deletion(&keys)).await?;
        }
        other => panic!("{other:?}"),
    }
    Ok(String::new())
}
