//! A connection on which what belongs together goes out together.
//!
//! An answer is three frames: its head, the message, and how it ended. On a socket that takes several buffers at once,
//! h2 sends a message of more than 256 bytes from where it lies, and therefore before it looks at the next frame: the
//! end goes out alone, which costs this side a system call and the caller a wake-up. With a socket that takes one
//! buffer at a time it copies messages of up to 1,024 bytes behind their heads, and all three go out at once. So this
//! one says that it takes one at a time. What h2 writes piece by piece is gathered here until it flushes, so
//! that a larger message has no more system calls than it would have otherwise.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// With more than this, it is sent without waiting for a flush.
const MOST_HELD_BYTES: usize = 4 * 1024;

/// A connection that was accepted.
#[derive(Debug)]
pub(crate) struct Gathered<S = TcpStream> {
    stream: S,
    /// What was written and is not sent.
    held: Vec<u8>,
    /// How much of that is sent all the same.
    sent: usize,
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            held: Vec::new(),
            sent: 0,
        }
    }

    /// Sends what is held.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.held.get(self.sent..).filter(|rest| !rest.is_empty()) {
            self.sent += some(ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?)?;
        }
        self.held.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

/// A socket that takes nothing is an error, since to try again would not end.
fn some(count: usize) -> io::Result<usize> {
    match count {
        0 => Err(io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.held.len() + bytes.len() <= MOST_HELD_BYTES {
            this.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        // What is held and these bytes, at once.
        while let Some(rest) = this.held.get(this.sent..).filter(|rest| !rest.is_empty()) {
            let both = [IoSlice::new(rest), IoSlice::new(bytes)];
            let length = rest.len();
            let count = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, &both))?;
            match some(count)?.checked_sub(length) {
                None => this.sent += count,
                Some(of_these) => {
                    this.held.clear();
                    this.sent = 0;
                    if of_these > 0 {
                        return Poll::Ready(Ok(of_these));
                    }
                }
            }
        }
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        false
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl Connected for Gathered<TcpStream> {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Takes a few bytes at a time, not always at once, and counts how often it is asked.
    #[derive(Default)]
    struct Slow {
        taken: Vec<u8>,
        calls: usize,
        /// How many bytes it takes each time; 0 is not yet. Without any left it takes all.
        takes: Vec<usize>,
    }

    impl Slow {
        fn take(&mut self, cx: &mut Context<'_>, bytes: &[&[u8]]) -> Poll<io::Result<usize>> {
            self.calls += 1;
            let most = self.takes.pop().unwrap_or(usize::MAX);
            if most == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let all: Vec<u8> = bytes.concat();
            let count = all.len().min(most);
            self.taken.extend_from_slice(&all[..count]);
            Poll::Ready(Ok(count))
        }
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.take(cx, &[bytes])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let bytes: Vec<&[u8]> = bytes.iter().map(|part| &**part).collect();
            self.take(cx, &bytes)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn small_pieces_go_out_with_the_flush_and_large_ones_with_what_is_held() {
        let mut gathered = Gathered::new(Slow::default());
        gathered.write_all(b"head ").await.unwrap();
        gathered.write_all(b"message ").await.unwrap();
        gathered.write_all(b"end").await.unwrap();
        assert_eq!(gathered.stream.calls, 0);
        gathered.flush().await.unwrap();
        gathered.flush().await.unwrap();
        assert_eq!(
            (gathered.stream.calls, &*gathered.stream.taken),
            (1, &b"head message end"[..])
        );

        gathered.write_all(b"head ").await.unwrap();
        gathered.write_all(&[7; 10_000]).await.unwrap();
        assert_eq!(
            (gathered.stream.calls, gathered.stream.taken.len()),
            (2, 16 + 5 + 10_000)
        );
    }

    proptest! {
        #[test]
        fn all_bytes_go_out_in_their_order_however_slowly(
            pieces in prop::collection::vec((prop_oneof![0_usize..9, 1_000_usize..5_000], any::<bool>()), 0..12),
            takes in prop::collection::vec(prop_oneof![Just(0_usize), 1_usize..9, 500_usize..5_000], 0..40),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (taken, want) = runtime.block_on(async {
                let mut gathered = Gathered::new(Slow { takes, ..Slow::default() });
                let mut want = Vec::new();
                for (length, flush) in pieces {
                    let begin = want.len();
                    let byte = |at: usize| u8::try_from((begin + at) % 251).unwrap();
                    let piece: Vec<u8> = (0..length).map(byte).collect();
                    gathered.write_all(&piece).await.unwrap();
                    want.extend(piece);
                    if flush {
                        gathered.flush().await.unwrap();
                        assert_eq!(gathered.stream.taken, want);
                    }
                }
                gathered.shutdown().await.unwrap();
                (gathered.stream.taken, want)
            });
            prop_assert_eq!(taken, want);
        }
    }
}
