//! A network between a client and Redis that can be told to fail.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// Listens on a port of its own and passes everything on.
pub(super) struct Proxy {
    address: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    /// Where new connections lead.
    target: String,
    /// Whether what servers push and answer on tracking connections is held back.
    frozen: bool,
    connections: Vec<Connection>,
}

struct Connection {
    client: TcpStream,
    /// Whether the client has turned tracking on.
    tracks: Arc<AtomicBool>,
}

impl Proxy {
    pub(super) fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State::default());
        state.lock().target = target.to_owned();
        thread::spawn({
            let state = Arc::clone(&state);
            move || {
                for client in listener.incoming().map_while(Result::ok) {
                    accept(client, &state);
                }
            }
        });
        Self { address, state }
    }

    pub(super) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Holds back what comes on tracking connections, which stay open; or lets it go on.
    pub(super) fn freeze(&self, frozen: bool) {
        self.state.lock().frozen = frozen;
        self.state.changed.notify_all();
    }

    /// Closes all connections but the tracking ones; new ones lead to `target`.
    pub(super) fn lead_to(&self, target: &str) {
        let mut state = self.state.lock();
        state.target = target.to_owned();
        for connection in &state.connections {
            if !connection.tracks.load(Ordering::SeqCst) {
                connection.client.shutdown(Shutdown::Both).ok();
            }
        }
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn wait_while_frozen(&self) {
        let state = self.changed.wait_while(self.lock(), |state| state.frozen);
        drop(state.unwrap());
    }
}

fn accept(client: TcpStream, state: &Arc<State>) {
    let target = state.lock().target.clone();
    let Ok(server) = TcpStream::connect(target) else {
        return;
    };
    let tracks = Arc::new(AtomicBool::new(false));
    state.lock().connections.push(Connection {
        client: client.try_clone().unwrap(),
        tracks: Arc::clone(&tracks),
    });
    for (from, to) in [(&client, &server), (&server, &client)] {
        from.set_nodelay(true).unwrap();
        let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let (state, tracks) = (Arc::clone(state), Arc::clone(&tracks));
        thread::spawn(move || pass_on(from, to, &tracks, &state));
    }
}

/// One direction of a connection. What is held back is the bytes that come next from the server.
fn pass_on(mut from: TcpStream, mut to: TcpStream, tracks: &AtomicBool, state: &State) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        let bytes = &bytes[..read];
        // No server says this word.
        if bytes.windows(8).any(|word| word == b"TRACKING") {
            tracks.store(true, Ordering::SeqCst);
        } else if tracks.load(Ordering::SeqCst) {
            state.wait_while_frozen();
        }
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
}
