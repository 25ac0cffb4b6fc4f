//! The way of a log's lines to stderr, on which nobody waits: neither for a reader that stalls nor for a disk that is full.
//!
//! Lines wait in bounded memory for a thread of their own, which writes them one by one. A line that has no room is dropped
//! whole, and counted. [`LogLines::end`] gives what waits some time to go out, so a reader that comes back
//! finds every line whole.
//!
//! Why not `tracing-appender`: it bounds the number of lines and not what they take, gives up at the end when its queue is
//! full, and brings along what rolls files.

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;
use vintner_core::meter::Count;

/// How many bytes of lines may wait: some thousand lines. As many more may be on their way out.
const MOST_BYTES: usize = 1 << 20;

/// The lines that wait, and what is known of them. Clones are the same lines.
#[derive(Clone, Debug)]
pub(crate) struct LogLines(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The state has changed.
    changed: Condvar,
    most_bytes: usize,
    dropped: Arc<Count>,
}

#[derive(Debug, Default)]
struct State {
    /// Whole lines.
    waiting: Vec<u8>,
    /// The thread ends when it has written those that wait.
    is_over: bool,
    /// The thread has ended.
    is_out: bool,
}

impl LogLines {
    /// Lines that go to stderr.
    pub(crate) fn to_stderr() -> io::Result<Self> {
        Self::to(io::stderr(), MOST_BYTES)
    }

    fn to(out: impl Write + Send + 'static, most_bytes: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            most_bytes,
            dropped: Arc::default(),
        });
        let own = Arc::clone(&shared);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || own.write_to(out))?;
        Ok(Self(shared))
    }

    /// How many lines were dropped since too many waited.
    pub(crate) fn dropped(&self) -> Arc<Count> {
        Arc::clone(&self.0.dropped)
    }

    /// Waits until all lines are out, but not longer than this: nobody may ever read them.
    pub(crate) fn end(&self, patience: Duration) {
        let mut state = self.0.state();
        state.is_over = true;
        self.0.changed.notify_all();
        let waited = self
            .0
            .changed
            .wait_timeout_while(state, patience, |state| !state.is_out);
        drop(waited);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what comes until the end.
    fn write_to(&self, mut out: impl Write) {
        let mut told = 0;
        while let Some(lines) = self.next() {
            // There is room again, right behind the lines before the gap.
            let dropped = self.dropped.get();
            if dropped > told {
                let lines = dropped - told;
                told = dropped;
                tracing::warn!(
                    lines,
                    "lines of the log were dropped: they came faster than they were read"
                );
            }
            // One by one: the system takes one of usual length whole or not at all, even when the process ends meanwhile.
            for line in lines.split_inclusive(|byte| *byte == b'\n') {
                // Nobody is left to tell when stderr is gone.
                let _ = out.write_all(line);
            }
        }
        self.state().is_out = true;
        self.changed.notify_all();
    }

    /// The lines that wait, when there are some; none when no more come.
    fn next(&self) -> Option<Vec<u8>> {
        let state = self.state();
        let nothing = |state: &mut State| state.waiting.is_empty() && !state.is_over;
        let mut state = self
            .changed
            .wait_while(state, nothing)
            .unwrap_or_else(PoisonError::into_inner);
        let lines = std::mem::take(&mut state.waiting);
        (!lines.is_empty()).then_some(lines)
    }

    fn add(&self, line: &[u8]) {
        let mut state = self.state();
        if state.waiting.len() + line.len() > self.most_bytes {
            self.dropped.increment();
            return;
        }
        state.waiting.extend_from_slice(line);
        self.changed.notify_all();
    }
}

/// Gives a writer for one entry, which comes as a whole.
impl<'a> MakeWriter<'a> for LogLines {
    type Writer = Entry<'a>;

    fn make_writer(&'a self) -> Entry<'a> {
        Entry(&self.0)
    }
}

/// Takes the line of one entry.
pub(crate) struct Entry<'a>(&'a Shared);

impl Write for Entry<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Says that it was asked to write, and does when it may.
    struct Stalled {
        asked: mpsc::Sender<()>,
        may: mpsc::Receiver<()>,
        written: Arc<Mutex<Vec<String>>>,
    }

    /// Who reads what [`Stalled`] writes, when it is let go.
    struct Reader {
        was_asked: mpsc::Receiver<()>,
        let_go: mpsc::Sender<()>,
        written: Arc<Mutex<Vec<String>>>,
    }

    /// Lines of which so many bytes may wait, and their reader, who stalls.
    fn stalled(most_bytes: usize) -> (LogLines, Reader) {
        let (asked, was_asked) = mpsc::channel();
        let (let_go, may) = mpsc::channel();
        let written = Arc::default();
        let out = Stalled {
            asked,
            may,
            written: Arc::clone(&written),
        };
        let reader = Reader {
            was_asked,
            let_go,
            written,
        };
        (LogLines::to(out, most_bytes).unwrap(), reader)
    }

    impl Write for Stalled {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.asked.send(());
            let _ = self.may.recv();
            let line = String::from_utf8(line.to_vec()).unwrap();
            self.written.lock().unwrap().push(line);
            Ok(line_len(&self.written))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn line_len(written: &Mutex<Vec<String>>) -> usize {
        written.lock().unwrap().last().map_or(0, String::len)
    }

    fn entry(lines: &LogLines, text: &str) {
        lines.make_writer().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn what_has_no_room_is_dropped_whole_and_the_rest_comes_in_order() {
        let (lines, reader) = stalled(10);
        entry(&lines, "first\n");
        reader.was_asked.recv_timeout(LONG).unwrap();
        // One is on its way, and ten bytes may wait.
        for (line, dropped) in [
            ("12345\n", 0),
            ("12345\n", 1),
            ("123\n", 1),
            ("\n", 2),
            ("longer than all that may wait\n", 3),
        ] {
            entry(&lines, line);
            assert_eq!(lines.dropped().get(), dropped, "{line:?}");
        }
        drop(reader.let_go);
        lines.end(LONG);
        assert_eq!(
            *reader.written.lock().unwrap(),
            ["first\n", "12345\n", "123\n"]
        );
    }

    #[test]
    fn the_end_waits_for_what_is_not_out_and_not_for_ever() {
        let (lines, reader) = stalled(1000);
        for number in 0..100 {
            entry(&lines, &format!("{number}\n"));
        }
        reader.was_asked.recv_timeout(LONG).unwrap();
        lines.end(Duration::from_millis(1));
        assert_eq!(reader.written.lock().unwrap().len(), 0);
        drop(reader.let_go);
        lines.end(LONG);
        assert_eq!(reader.written.lock().unwrap().len(), 100);
        assert_eq!(lines.dropped().get(), 0);
    }
}
