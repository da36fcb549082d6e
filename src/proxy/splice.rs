//! Bulk data from one socket to another through a pipe, by `splice(2)`: the bytes never come into this process's memory.
use super::Thread;
use super::stream::Stream;
use crate::state::snapshot::Snapshot;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;

/// Less than this that is known to come is copied: setting a pipe up would cost more than it saves.
pub const WORTHWHILE: u64 = 64 * 1024;
/// A transfer smaller than this shows a conversation, not bulk, where the length is not known.
pub const SMALL: usize = 16 * 1024;
/// At most so many bytes at a time; the pipe's slots are the real limit.
const AT_ONCE: usize = 1 << 20;
/// Pipes kept for reuse by one thread.
const KEPT: usize = 32;

pub struct Pipe {
    rx: OwnedFd,
    tx: OwnedFd,
    /// Bytes in it.
    held: usize,
    /// How many the thread has open, this one included.
    open: Rc<Cell<usize>>,
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
    }
}

/// The pipes of one thread.
pub struct Pipes {
    idle: Vec<Pipe>,
    open: Rc<Cell<usize>>,
    limits: Limits,
}

/// The size of the first pipes, in bytes, where no size is said: more than a pipe's own is there to be taken at once from a fast peer
/// (seen: a tenth less CPU than with the 64 kB that a new one has).
const ROOM: i32 = 512 * 1024;
/// So many pipes of a process have it: the system counts the pages of all pipes of a user, and has 16,384 for those without rights.
const ROOMY: usize = 64;

/// What the configuration allows one thread.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Pipes at a time.
    most: usize,
    /// In bytes, if it is said.
    size: Option<i32>,
    /// How many have [`ROOM`], if it is not.
    roomy: usize,
}

impl Limits {
    pub fn new(snapshot: &Snapshot, threads: usize) -> Self {
        let pipes = snapshot.global.pipes;
        let all = if pipes.none { 0 } else { pipes.most.unwrap_or(snapshot.maxconn / 4).max(1) as usize };
        Self {
            most: all.div_ceil(threads.max(1)),
            size: pipes.size.and_then(|s| i32::try_from(s).ok()),
            roomy: ROOMY.div_ceil(threads.max(1)),
        }
    }
}

impl Pipes {
    pub fn new(limits: Limits) -> Self {
        Self { idle: Vec::new(), open: Rc::default(), limits }
    }
}

impl Thread {
    /// A pipe, if there may be one more and the system gives it.
    pub(super) fn take_pipe(&self) -> Option<Pipe> {
        let mut pipes = self.pipes.borrow_mut();
        if let Some(p) = pipes.idle.pop() {
            return Some(p);
        }
        if pipes.open.get() >= pipes.limits.most {
            return None;
        }
        let Limits { size, roomy, .. } = pipes.limits;
        Pipe::new(size.or((pipes.open.get() < roomy).then_some(ROOM)), pipes.open.clone()).ok()
    }

    /// Takes a pipe back; one that still holds bytes of a broken exchange is closed.
    pub(super) fn give_pipe(&self, p: Pipe) {
        let mut pipes = self.pipes.borrow_mut();
        if p.held == 0 && pipes.idle.len() < KEPT {
            pipes.idle.push(p);
        }
    }

    pub(super) fn count_spliced(&self, n: usize) {
        self.shared.live.spliced_bytes.fetch_add(n as u64, Relaxed);
    }

    /// Takes over what the configuration in force allows.
    pub(super) fn limit_pipes(&self, limits: Limits) {
        let mut pipes = self.pipes.borrow_mut();
        if pipes.limits != limits {
            pipes.limits = limits;
            pipes.idle.clear();
        }
    }
}

/// The descriptor's next result, under the event loop's readiness; `WouldBlock` waits.
fn attempt(s: &Stream, interest: Interest, f: impl FnMut() -> nix::Result<usize>) -> io::Result<usize> {
    let mut f = f;
    let once = || f().map_err(io::Error::from);
    match s {
        Stream::Tcp(s) => s.try_io(interest, once),
        Stream::Unix(s) => s.try_io(interest, once),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn fd(s: &Stream) -> BorrowedFd<'_> {
    match s {
        Stream::Tcp(s) => s.as_fd(),
        Stream::Unix(s) => s.as_fd(),
        Stream::Server(s) => s.get_ref().0.as_fd(),
        Stream::Client(s) => s.get_ref().0.as_fd(),
    }
}

impl Pipe {
    fn new(size: Option<i32>, open: Rc<Cell<usize>>) -> nix::Result<Self> {
        let (rx, tx) = nix::unistd::pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
        if let Some(size) = size {
            // A size beyond the system's limit is not worth a failure.
            let _ = fcntl(&tx, FcntlArg::F_SETPIPE_SZ(size));
        }
        open.set(open.get() + 1);
        Ok(Self { rx, tx, held: 0, open })
    }

    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// From a socket into the empty pipe, at most `most` bytes; 0 at the socket's end.
    pub fn fill(&mut self, cx: &mut Context<'_>, from: &Stream, most: u64) -> Poll<io::Result<usize>> {
        // A full pipe would answer as an empty socket does.
        debug_assert!(self.is_empty());
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(AT_ONCE);
        loop {
            match from {
                Stream::Tcp(s) => ready!(s.poll_read_ready(cx))?,
                Stream::Unix(s) => ready!(s.poll_read_ready(cx))?,
                _ => return Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
            }
            let once = || {
                splice(
                    fd(from),
                    None,
                    &self.tx,
                    None,
                    most,
                    SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE,
                )
            };
            match attempt(from, Interest::READABLE, once) {
                Ok(n) => {
                    self.held = n;
                    return Poll::Ready(Ok(n));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }

    /// From the pipe, which is not empty, into a socket.
    pub fn drain(&mut self, cx: &mut Context<'_>, to: &Stream) -> Poll<io::Result<usize>> {
        loop {
            match to {
                Stream::Tcp(s) => ready!(s.poll_write_ready(cx))?,
                Stream::Unix(s) => ready!(s.poll_write_ready(cx))?,
                _ => return Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
            }
            let once = || {
                splice(
                    &self.rx,
                    None,
                    fd(to),
                    None,
                    self.held,
                    SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE,
                )
            };
            match attempt(to, Interest::WRITABLE, once) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(n) => {
                    self.held -= n;
                    return Poll::Ready(Ok(n));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
}
