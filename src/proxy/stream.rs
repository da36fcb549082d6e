//! Streams of all kinds behind one face, and the relay of bytes between two of them.
use super::Thread;
use super::filters::{Paced, Recoded};
use super::splice::{Pipe, SMALL, WORTHWHILE};
use super::wheel::Timer;
use crate::http::h1::body::{BadChunk, Follower};
use rustix::net::{RecvFlags, SendFlags};
use std::future::{Future, poll_fn};
use std::hint::cold_path;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Server(Box<tokio_rustls::server::TlsStream<TcpStream>>),
    Client(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

macro_rules! each {
    ($self:expr, $s:ident => $e:expr) => {
        match $self {
            Stream::Tcp($s) => $e,
            Stream::Unix($s) => $e,
            Stream::Server($s) => $e,
            Stream::Client($s) => $e,
        }
    };
}

impl Stream {
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Self::Tcp(s) = self {
            return read_plain(s, cx, buf);
        }
        let mut b = ReadBuf::new(buf);
        ready!(each!(self, s => Pin::new(s).poll_read(cx, &mut b)))?;
        Poll::Ready(Ok(b.filled().len()))
    }
    /// As [`poll_read`](Self::poll_read); the bytes stay where they are. For sockets that TLS has not begun on.
    pub fn poll_peek(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        use std::os::fd::AsRawFd;
        match self {
            Self::Tcp(s) => s.poll_peek(cx, &mut ReadBuf::new(buf)),
            Self::Unix(s) => loop {
                ready!(s.poll_read_ready(cx))?;
                let fd = s.as_raw_fd();
                let n = s.try_io(tokio::io::Interest::READABLE, || {
                    // SAFETY: the descriptor is open as long as `s`; at most `buf.len()` bytes are written to `buf`.
                    let n = unsafe { libc::recv(fd, buf.as_mut_ptr().cast(), buf.len(), libc::MSG_PEEK) };
                    usize::try_from(n).map_err(|_| io::Error::last_os_error())
                });
                match n {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    r => return Poll::Ready(r),
                }
            },
            _ => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }
    pub fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = match self {
            Self::Tcp(s) => write_plain(s, cx, buf),
            other => each!(other, s => Pin::new(s).poll_write(cx, buf)),
        };
        match written {
            Poll::Ready(Ok(0)) if !buf.is_empty() => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            r => r,
        }
    }
    /// As much as the socket takes now, without a word to the event loop, where that is all there is to writing.
    fn write_now(&self, buf: &[u8]) -> usize {
        match self {
            // What is wrong is met again, and told, by whoever waits to write the rest.
            Self::Tcp(s) => rustix::net::send(s, buf, SendFlags::NOSIGNAL).unwrap_or(0),
            _ => 0,
        }
    }
    /// TLS keeps written bytes until it is flushed; plain sockets have nothing to flush.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Server(s) => Pin::new(s).poll_flush(cx),
            Self::Client(s) => Pin::new(s).poll_flush(cx),
        }
    }
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_shutdown(cx))
    }

    /// True if what is read from it and written to it is what goes over the wire.
    fn is_plain(&self) -> bool {
        matches!(self, Self::Tcp(_) | Self::Unix(_))
    }

    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(s) => Some(s),
            Self::Unix(_) => None,
            Self::Server(s) => Some(s.get_ref().0),
            Self::Client(s) => Some(s.get_ref().0),
        }
    }
    /// Its socket, if that is one of TCP.
    pub fn raw_fd(&self) -> Option<std::os::fd::RawFd> {
        self.tcp().map(std::os::fd::AsRawFd::as_raw_fd)
    }
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.tcp().and_then(|s| s.local_addr().ok())
    }
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.tcp().and_then(|s| s.peer_addr().ok())
    }

    /// False if the peer closed or spoke out of turn: such a connection is not used again. The kernel is asked only where the
    /// event loop has heard of something; what it has not heard of yet is met as a stale connection, and tried again on another.
    pub fn is_quiet(&self) -> bool {
        use std::os::fd::AsRawFd;
        let peek = |fd: std::os::fd::RawFd| {
            let mut byte = 0u8;
            // SAFETY: the descriptor is open as long as `self`; one byte may be written to `byte`.
            let n = unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, libc::MSG_PEEK | libc::MSG_DONTWAIT) };
            if n < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        };
        let heard = match (self, self.tcp()) {
            (Self::Unix(s), _) => s.try_io(Interest::READABLE, || peek(s.as_raw_fd())),
            (_, Some(s)) => s.try_io(Interest::READABLE, || peek(s.as_raw_fd())),
            (_, None) => return false,
        };
        heard.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
    }

    /// The close that follows resets a connection to a server that has nothing more to say: otherwise its port would be gone for a minute
    /// (TIME_WAIT), and four packets more would go.
    pub fn cut(&self) {
        if let Some(s) = self.tcp() {
            let _ = socket2::SockRef::from(s).set_linger(Some(std::time::Duration::ZERO));
        }
    }

    /// `silent-drop`: the close that follows frees everything here and does not reach the client. Its reset gets no further than the next router
    /// (nothing else can be done without rights, which the worker has not); on the very same network it is heard.
    pub fn vanish(&self) {
        if let Some(s) = self.tcp() {
            let s = socket2::SockRef::from(s);
            let _ = s.set_ttl_v4(1);
            let _ = s.set_unicast_hops_v6(1);
            let _ = s.set_linger(Some(std::time::Duration::ZERO));
        }
    }
}

/// As tokio reads, without the detour of the C library, whose calls can be cancelled by threads and pay for it (seen: a fiftieth of a small
/// request's CPU).
fn read_plain(s: &TcpStream, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
    plain(
        Interest::READABLE,
        buf.len(),
        || s.poll_read_ready(cx),
        s,
        || Ok(rustix::net::recv(s, &mut *buf, RecvFlags::empty())?.1),
    )
}

/// The same for what is written.
fn write_plain(s: &TcpStream, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
    plain(
        Interest::WRITABLE,
        buf.len(),
        || s.poll_write_ready(cx),
        s,
        || Ok(rustix::net::send(s, buf, SendFlags::NOSIGNAL)?),
    )
}

/// One transfer of at most `most` bytes. A part of them shows that there is nothing more for now, which saves asking again.
fn plain(
    interest: Interest,
    most: usize,
    mut ready: impl FnMut() -> Poll<io::Result<()>>,
    s: &TcpStream,
    mut transfer: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(ready())?;
        let mut part = None;
        let once = || match transfer()? {
            n if 0 < n && n < most => {
                part = Some(n);
                // The event loop takes it for exhausted.
                Err(io::ErrorKind::WouldBlock.into())
            }
            n => Ok(n),
        };
        match (s.try_io(interest, once), part) {
            (_, Some(n)) => return Poll::Ready(Ok(n)),
            (Err(e), None) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            (done, None) => return Poll::Ready(done),
        }
    }
}

#[derive(Debug)]
pub enum ReadError {
    Timeout,
    Io(io::Error),
}

/// A read that gets a head takes so much of the body along: small bodies whole, and little of those that are spliced.
const FIRST: usize = 24 * 1024;

impl Thread {
    /// Reads once and appends to `buf`. The bytes pass through the thread's scratch buffer, so that nobody owns memory while waiting.
    pub async fn read_more(&self, s: &mut Stream, buf: &mut Vec<u8>, timer: &Timer) -> Result<usize, ReadError> {
        poll_fn(|cx| self.poll_read_more(cx, s, buf, timer)).await
    }

    pub fn poll_read_more(
        &self,
        cx: &mut Context<'_>,
        s: &mut Stream,
        buf: &mut Vec<u8>,
        timer: &Timer,
    ) -> Poll<Result<usize, ReadError>> {
        let mut scratch = self.scratch.borrow_mut();
        match s.poll_read(cx, &mut scratch[..FIRST]) {
            Poll::Ready(Ok(n)) => {
                if buf.capacity() == 0 {
                    *buf = self.take_buf();
                }
                buf.extend_from_slice(&scratch[..n]);
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(ReadError::Io(e))),
            Poll::Pending if timer.expired(cx) => Poll::Ready(Err(ReadError::Timeout)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Writes all of `bytes`, under a timer.
pub async fn write_all(s: &mut Stream, bytes: &[u8], timer: &Timer) -> Result<(), ReadError> {
    // Nearly always there is room.
    let mut at = s.write_now(bytes);
    if at == bytes.len() && at > 0 {
        // Who has sent many requests at once waits for his turn as one does who asks the event loop.
        tokio::task::coop::consume_budget().await;
        return Ok(());
    }
    poll_fn(|cx| {
        loop {
            let step = if at < bytes.len() {
                s.poll_write(cx, &bytes[at..])
            } else {
                s.poll_flush(cx).map_ok(|()| usize::MAX)
            };
            match step {
                Poll::Ready(Ok(usize::MAX)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(n)) => at += n,
                Poll::Ready(Err(e)) => return Poll::Ready(Err(ReadError::Io(e))),
                Poll::Pending if timer.expired(cx) => return Poll::Ready(Err(ReadError::Timeout)),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// Why one direction ended before its body did.
#[derive(Debug)]
pub enum HalfError {
    /// The source closed or failed.
    Source,
    /// The destination failed.
    Sink,
    BadChunk,
}

/// One direction: follows a body from a source to a sink.
pub struct Half {
    pub follower: Follower,
    pending: Vec<u8>,
    sent: usize,
    pub bytes: u64,
    /// Those of them that were spliced.
    pub spliced: u64,
    /// The source's end was seen; what is pending still has to go out.
    eof: bool,
    flushed: bool,
    /// The destination failed: what it got is unknown, and its connection is good for nothing more.
    pub failed: bool,
    /// Bytes behind the end of the body, which belong to the next message.
    pub rest: Vec<u8>,
    /// In use while bulk data is spliced.
    pipe: Option<Pipe>,
    /// The last transfer showed that there is more to come than a conversation.
    bulk: bool,
    /// The body is written anew.
    pub recoded: Option<Box<Recoded>>,
    /// Only so much of it goes out at a time.
    pub paced: Option<Box<Paced>>,
    /// The body is read to its end, and nobody gets it.
    pub mute: bool,
}

/// Reads of one direction before the other gets its turn.
const BURST: usize = 16;

impl Half {
    pub fn new(follower: Follower) -> Self {
        Self {
            follower,
            pending: Vec::new(),
            sent: 0,
            bytes: 0,
            spliced: 0,
            eof: false,
            flushed: true,
            failed: false,
            rest: Vec::new(),
            pipe: None,
            bulk: false,
            recoded: None,
            paced: None,
            mute: false,
        }
    }

    /// True if its bytes may go from socket to socket as they are.
    fn is_plain(&self) -> bool {
        self.recoded.is_none() && self.paced.is_none() && !self.mute
    }

    /// Bytes that are there already: they go out first.
    pub fn preload(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        self.flushed = false;
    }

    pub fn bad(e: BadChunk) -> HalfError {
        let BadChunk = e;
        HalfError::BadChunk
    }

    /// True if the next step is the destination's.
    pub fn waits_for_sink(&self) -> bool {
        !self.pending.is_empty() || self.spliced() || !self.flushed && (self.eof || self.follower.done())
    }

    /// True once the whole body was read and the destination has all of it.
    pub fn complete(&self) -> bool {
        !self.failed && self.follower.done() && self.pending.is_empty() && !self.spliced() && self.flushed
    }

    /// True if a pipe holds bytes that have still to go out.
    fn spliced(&self) -> bool {
        self.pipe.as_ref().is_some_and(|p| !p.is_empty())
    }

    fn release_pipe(&mut self, t: &Thread) {
        if let Some(p) = self.pipe.take() {
            t.give_pipe(p);
        }
    }

    /// True if nobody knows how much is to come, and it could be spliced.
    fn may_be_bulk(&self, from: &Stream, to: &Stream) -> bool {
        !self.bulk && self.follower.ahead() == u64::MAX && self.is_plain() && from.is_plain() && to.is_plain()
    }

    /// Takes a pipe if what comes next is worth one.
    fn consider_pipe(&mut self, from: &Stream, to: &Stream, t: &Thread) {
        let ahead = self.follower.ahead();
        if ahead >= WORTHWHILE
            && self.is_plain()
            && (self.bulk || ahead != u64::MAX)
            && from.is_plain()
            && to.is_plain()
        {
            self.pipe = t.take_pipe();
        }
    }

    /// One step through the pipe. Nothing is pending beside it, and nothing is to be flushed.
    fn splice(
        &mut self,
        cx: &mut Context<'_>,
        from: &Stream,
        to: &Stream,
        t: &Thread,
        moved: &mut [bool; 2],
    ) -> Poll<Result<(), HalfError>> {
        let Some(pipe) = &mut self.pipe else { return Poll::Ready(Ok(())) };
        if pipe.is_empty() {
            let ahead = self.follower.ahead();
            let n = match (ahead, self.bulk || ahead != u64::MAX) {
                (1.., true) => match pipe.fill(cx, from, ahead) {
                    // Who is silent needs no pipe.
                    Poll::Pending => {
                        self.release_pipe(t);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(n)) => n,
                    // These two do not splice.
                    Poll::Ready(Err(e))
                        if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) =>
                    {
                        0
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(HalfError::Source)),
                },
                _ => 0,
            };
            if n == 0 {
                // Nothing more to splice. A source's end is met again by copying, which says what it means.
                self.release_pipe(t);
                self.bulk = false;
                return Poll::Ready(Ok(()));
            }
            moved[0] = true;
            self.follower.skip(n as u64);
            self.bytes += n as u64;
            self.spliced += n as u64;
            self.bulk = n >= SMALL;
        }
        while !pipe.is_empty() {
            match ready!(pipe.drain(cx, to)) {
                Ok(n) => {
                    moved[1] = true;
                    t.count_spliced(n);
                }
                Err(_) => return self.sink_failed(),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn sink_failed(&mut self) -> Poll<Result<(), HalfError>> {
        self.failed = true;
        Poll::Ready(Err(HalfError::Sink))
    }

    fn finished(&self) -> bool {
        self.pending.is_empty() && !self.spliced() && self.flushed && (self.eof || self.follower.done())
    }

    /// Moves what can be moved. `Ready(Ok)` when the body has ended and is out; `moved` is set when any byte was read or written.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        t: &Thread,
        moved: &mut [bool; 2],
    ) -> Poll<Result<(), HalfError>> {
        for _ in 0..BURST {
            while !self.pending.is_empty() {
                let mut end = self.pending.len();
                if let Some(p) = &mut self.paced {
                    let last = self.eof || self.follower.done();
                    end = self.sent + p.allow(cx, t, end - self.sent, last);
                    if end == self.sent {
                        // Nobody is late for what has to wait here.
                        *moved = [true; 2];
                        if !self.flushed && to.poll_flush(cx).is_ready() {
                            self.flushed = true;
                        }
                        return Poll::Pending;
                    }
                }
                match to.poll_write(cx, &self.pending[self.sent..end]) {
                    Poll::Ready(Ok(n)) => {
                        moved[1] = true;
                        self.sent += n;
                        self.flushed = false;
                        if let Some(p) = &mut self.paced {
                            p.written(n);
                        }
                        if self.sent == self.pending.len() {
                            t.give_buf(std::mem::take(&mut self.pending));
                            self.sent = 0;
                        }
                    }
                    Poll::Ready(Err(_)) => return self.sink_failed(),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if self.finished() {
                self.release_pipe(t);
                return Poll::Ready(Ok(()));
            }
            if self.eof || self.follower.done() {
                match to.poll_flush(cx) {
                    Poll::Ready(Ok(())) => {
                        self.flushed = true;
                        self.release_pipe(t);
                        return Poll::Ready(Ok(()));
                    }
                    Poll::Ready(Err(_)) => return self.sink_failed(),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if self.pipe.is_none() {
                self.consider_pipe(from, to, t);
            }
            if self.pipe.is_some() {
                match self.splice(cx, from, to, t, moved) {
                    // What comes in the meantime goes with the next, larger transfer.
                    Poll::Ready(Ok(())) if self.pipe.is_some() && !self.finished() => break,
                    Poll::Ready(Ok(())) if self.pipe.is_some() => continue,
                    Poll::Ready(Ok(())) => {}
                    other => return other,
                }
            }
            let mut scratch = t.scratch.borrow_mut();
            // Bulk data shows itself with a small read: what follows is not copied.
            let room = if self.may_be_bulk(from, to) { SMALL } else { scratch.len() };
            let scratch = &mut scratch[..room];
            match from.poll_read(cx, scratch) {
                Poll::Ready(Ok(0)) => {
                    if !self.follower.ends_with_close() {
                        return Poll::Ready(Err(HalfError::Source));
                    }
                    self.eof = true;
                    self.flushed = false;
                }
                Poll::Ready(Ok(n)) => {
                    moved[0] = true;
                    self.bulk = n == scratch.len();
                    if self.mute {
                        let used = self.follower.feed(&scratch[..n]).map_err(Self::bad)?;
                        self.bytes += used as u64;
                        self.rest.extend_from_slice(&scratch[used..n]);
                        continue;
                    }
                    if !self.is_plain() {
                        let mut out = t.take_buf();
                        let used = match &mut self.recoded {
                            Some(r) => r.pass(&mut self.follower, &scratch[..n], &mut out),
                            None => self.follower.pass(&scratch[..n], &mut out),
                        };
                        if out.is_empty() {
                            t.give_buf(out);
                        } else {
                            self.pending = out;
                        }
                        let used = used.map_err(Self::bad)?;
                        self.bytes += used as u64;
                        self.rest.extend_from_slice(&scratch[used..n]);
                        self.flushed = false;
                        continue;
                    }
                    let used = self.follower.feed(&scratch[..n]).map_err(Self::bad)?;
                    self.bytes += used as u64;
                    if used < n {
                        self.rest.extend_from_slice(&scratch[used..n]);
                    }
                    let (verbatim, trailer) = (self.follower.verbatim(used), self.follower.take_trailer());
                    if verbatim.is_none() {
                        cold_path();
                        self.pending = t.take_buf();
                        self.follower.copy(&scratch[..used], &mut self.pending);
                    }
                    // Straight on, without a copy, as far as the sink takes it.
                    let (mut at, verbatim) = (0, verbatim.unwrap_or(0));
                    while at < verbatim {
                        match to.poll_write(cx, &scratch[at..verbatim]) {
                            Poll::Ready(Ok(n)) => {
                                moved[1] = true;
                                self.flushed = false;
                                at += n;
                            }
                            Poll::Ready(Err(_)) => return self.sink_failed(),
                            Poll::Pending => {
                                self.pending = t.take_buf();
                                self.pending.extend_from_slice(&scratch[at..verbatim]);
                                break;
                            }
                        }
                    }
                    self.pending.extend_from_slice(&trailer);
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(HalfError::Source)),
                Poll::Pending => {
                    // Nothing more to come now: what TLS holds back must not wait for it.
                    if !self.flushed {
                        match to.poll_flush(cx) {
                            Poll::Ready(Ok(())) => self.flushed = true,
                            Poll::Ready(Err(_)) => return self.sink_failed(),
                            Poll::Pending => {}
                        }
                    }
                    return Poll::Pending;
                }
            }
        }
        // Others on this thread come first, and what the event loop has to say; this goes on after them. (Dropped at once: the first
        // poll has left the waker with the runtime.)
        std::pin::pin!(tokio::task::yield_now()).poll(cx).map(|()| Ok(()))
    }
}
