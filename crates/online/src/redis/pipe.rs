//! A connection for reads: commands of any number of callers go out together, and answers come back as they came, to be
//! sliced, not copied.
//!
//! Why not the redis crate's, which all else here uses: it makes a value of its own of every string in an answer, in
//! the one task that all callers of a connection share. For a hundred rows that is most of what a read costs.
//!
//! One task has the socket. Callers append to one buffer; the task sends what has gathered there, and gives every answer
//! to the caller whose turn it is. It lets whoever is ready append first, so that what belongs together is sent together.
//! A caller that goes away leaves its place in the line: its answer comes and is dropped. Once the connection is lost
//! everybody is told, and so is whoever comes later.
//!
//! Not here: time limits, and what to do about a loss ([`super::server`]).

use std::{
    collections::VecDeque,
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use futures::task::AtomicWaker;
use tokio::{io::AsyncReadExt as _, net::TcpStream, sync::oneshot};

use super::resp;

/// Room for what is read at one time.
const READ_BYTES: usize = 32 * 1024;
/// With less room than this, more is made.
const LEAST_READ_BYTES: usize = 4 * 1024;

/// More than this is not kept for a server that does not take it: whoever comes then is told at once.
const MOST_UNSENT_BYTES: usize = 16 << 20;

/// Who waits for an answer.
type Waiter = oneshot::Sender<io::Result<Bytes>>;

/// A connection.
pub(super) struct Pipe {
    shared: Arc<Shared>,
}

struct Shared {
    outgoing: Mutex<Outgoing>,
    /// The task's, for when there is something to send.
    waker: AtomicWaker,
}

#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    /// Whose commands those are, in their order.
    waiters: Vec<Waiter>,
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Open,
    /// Nobody will ask any more.
    Left,
    Lost(io::ErrorKind, String),
}

impl Pipe {
    /// Takes over a connection that has no answer outstanding.
    pub(super) fn new(stream: TcpStream) -> Self {
        let shared = Arc::new(Shared {
            outgoing: Mutex::default(),
            waker: AtomicWaker::new(),
        });
        tokio::spawn(Traffic {
            stream,
            shared: Arc::clone(&shared),
            writing: Vec::new(),
            written: 0,
            gathers: false,
            waiting: VecDeque::new(),
            inbox: BytesMut::new(),
        });
        Self { shared }
    }

    /// Sends the one command that `encode` appends, and gives the answer's bytes.
    pub(super) async fn ask(&self, encode: impl FnOnce(&mut Vec<u8>)) -> io::Result<Bytes> {
        let (waiter, answer) = oneshot::channel();
        {
            let mut outgoing = self.shared.outgoing();
            if let State::Lost(kind, why) = &outgoing.state {
                return Err(io::Error::new(*kind, why.clone()));
            }
            if outgoing.bytes.len() > MOST_UNSENT_BYTES {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the server takes no more commands",
                ));
            }
            encode(&mut outgoing.bytes);
            outgoing.waiters.push(waiter);
        }
        self.shared.waker.wake();
        answer
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut outgoing = self.shared.outgoing();
        if let State::Open = outgoing.state {
            outgoing.state = State::Left;
        }
        drop(outgoing);
        self.shared.waker.wake();
    }
}

impl Shared {
    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that has the socket. Ends when the connection is lost or nobody has the pipe any more.
struct Traffic {
    stream: TcpStream,
    shared: Arc<Shared>,
    /// What is being sent, and how much of it has been.
    writing: Vec<u8>,
    written: usize,
    /// Whether others were let go first, to append what they have.
    gathers: bool,
    /// Who waits for answers to what was sent, in order.
    waiting: VecDeque<Waiter>,
    inbox: BytesMut,
}

impl Future for Traffic {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            match this.send(cx) {
                Ok(true) => {}
                Ok(false) => return Poll::Ready(()),
                Err(err) => {
                    this.lose(&err);
                    return Poll::Ready(());
                }
            }
            match ready!(this.receive(cx)) {
                Ok(()) => {}
                Err(err) => {
                    this.lose(&err);
                    return Poll::Ready(());
                }
            }
        }
    }
}

impl Traffic {
    /// Sends what there is and what the socket takes. False when nobody has the pipe any more.
    fn send(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        loop {
            if self.written == self.writing.len() {
                self.writing.clear();
                self.written = 0;
                self.shared.waker.register(cx.waker());
                let mut outgoing = self.shared.outgoing();
                if let State::Left = outgoing.state {
                    return Ok(false);
                }
                if outgoing.bytes.is_empty() {
                    return Ok(true);
                }
                if !self.gathers {
                    self.gathers = true;
                    cx.waker().wake_by_ref();
                    return Ok(true);
                }
                self.gathers = false;
                std::mem::swap(&mut outgoing.bytes, &mut self.writing);
                self.waiting.extend(outgoing.waiters.drain(..));
            }
            let rest = self.writing.get(self.written..).unwrap_or_default();
            if self.stream.poll_write_ready(cx)?.is_pending() {
                return Ok(true);
            }
            match self.stream.try_write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                Err(err) => return Err(err),
            }
        }
    }

    /// Reads once, and gives out the answers that are whole.
    fn receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let broken = |err: resp::Malformed| io::Error::new(io::ErrorKind::InvalidData, err);
        if self.inbox.capacity() - self.inbox.len() < LEAST_READ_BYTES {
            self.inbox.reserve(READ_BYTES);
        }
        // This way the socket is not asked once more when it has given less than there was room for.
        let count = ready!(pin!(self.stream.read_buf(&mut self.inbox)).poll(cx))?;
        if count == 0 {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server has closed the connection",
            )));
        }
        while let Some(length) = resp::length(&self.inbox).map_err(broken)? {
            let answer = self.inbox.split_to(length).freeze();
            match self.waiting.pop_front() {
                // Whoever has left is not told.
                Some(waiter) => drop(waiter.send(Ok(answer))),
                None => return Poll::Ready(Err(broken(resp::Malformed))),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Tells everybody that the connection is lost.
    fn lose(&mut self, err: &io::Error) {
        let (kind, why) = (err.kind(), err.to_string());
        let late = {
            let mut outgoing = self.shared.outgoing();
            outgoing.state = State::Lost(kind, why.clone());
            outgoing.bytes.clear();
            std::mem::take(&mut outgoing.waiters)
        };
        for waiter in self.waiting.drain(..).chain(late) {
            drop(waiter.send(Err(io::Error::new(kind, why.clone()))));
        }
    }
}

/// Appends a command of these parts.
pub(super) fn command<'a>(
    out: &mut Vec<u8>,
    name: &'a str,
    arguments: impl ExactSizeIterator<Item = &'a [u8]>,
) {
    count(out, b'*', arguments.len() + 1);
    for part in std::iter::once(name.as_bytes()).chain(arguments) {
        count(out, b'$', part.len());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

fn count(out: &mut Vec<u8>, kind: u8, mut number: usize) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.push(kind);
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}
