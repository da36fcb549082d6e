//! Connections that say nothing for long: taken off the event loop and watched by one epoll set of the thread, so that each costs its
//! addresses and a place in a list, not a task.
use super::Thread;
use super::listener::{Connection, resume};
use super::stream::Stream;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use tokio::io::unix::AsyncFd;

struct Parked {
    /// Its stream is `socket`.
    rest: Box<Connection>,
    socket: std::net::TcpStream,
    /// Tick of the wheel at which it has waited long enough.
    until: u64,
}

#[derive(Default)]
struct Places {
    all: Vec<Option<Parked>>,
    free: Vec<u32>,
}

pub struct Parking {
    set: Epoll,
    places: RefCell<Places>,
    /// Tick of the last look at time-outs.
    looked: Cell<u64>,
}

/// Ticks between two looks at the time-outs.
const LOOK: u64 = 10;
/// Events taken at a time.
const BATCH: usize = 64;

impl Parking {
    /// None where the system gives no epoll set; then nobody is parked.
    pub fn new() -> Option<Self> {
        let set = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).ok()?;
        Some(Self { set, places: RefCell::default(), looked: Cell::new(0) })
    }

    fn put(&self, p: Parked) -> Result<(), Parked> {
        let mut places = self.places.borrow_mut();
        let i = match places.free.pop() {
            Some(i) => i,
            None => {
                places.all.push(None);
                u32::try_from(places.all.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLONESHOT;
        if self.set.add(&p.socket, EpollEvent::new(flags, u64::from(i))).is_err() {
            places.free.push(i);
            return Err(p);
        }
        places.all[i as usize] = Some(p);
        Ok(())
    }

    fn take(&self, i: u64) -> Option<Parked> {
        let mut places = self.places.borrow_mut();
        let at = usize::try_from(i).ok()?;
        let p = places.all.get_mut(at)?.take()?;
        places.free.push(u32::try_from(i).ok()?);
        let _ = self.set.delete(&p.socket);
        Some(p)
    }

    /// Closes, now and then, those whose time is over.
    pub fn look(&self, now: u64) {
        if now.saturating_sub(self.looked.get()) >= LOOK {
            self.looked.set(now);
            self.expire(now);
        }
    }

    /// Closes those whose time is over at tick `now`; all with `u64::MAX`.
    pub fn expire(&self, now: u64) {
        let over = |p: &Option<Parked>| p.as_ref().is_some_and(|p| p.until <= now);
        let found: Vec<usize> = {
            let places = self.places.borrow();
            (0..places.all.len()).filter(|i| over(&places.all[*i])).collect()
        };
        for i in found {
            drop(self.take(i as u64));
        }
        let mut places = self.places.borrow_mut();
        if places.free.len() == places.all.len() && !places.all.is_empty() {
            *places = Places::default();
        }
    }
}

/// Takes a quiet plain connection off the event loop until its client says something or tick `until` comes. Gives it back if that cannot be.
pub fn park(t: &Thread, mut rest: Box<Connection>, until: u64) -> Result<(), Box<Connection>> {
    let Some(parking) = &t.parking else { return Err(rest) };
    let s = match rest.stream.take() {
        Some(Stream::Tcp(s)) => s,
        other => {
            rest.stream = other;
            return Err(rest);
        }
    };
    // Off the event loop it goes with this; without a descriptor there is nothing to be kept.
    let Ok(socket) = s.into_std() else { return Ok(()) };
    parking.put(Parked { rest, socket, until }).or_else(|p| {
        let mut rest = p.rest;
        rest.stream = tokio::net::TcpStream::from_std(p.socket).ok().map(Stream::Tcp);
        if rest.stream.is_some() { Err(rest) } else { Ok(()) }
    })
}

/// Brings connections back whose clients say something; runs as long as the thread.
pub async fn attend(t: Rc<Thread>) {
    let Some(parking) = &t.parking else { return };
    // SAFETY: the set's descriptor is open as long as the thread's state, which this task holds, and nobody else registers it.
    let watch = unsafe { AsyncFd::register_with_interest(Fd(&parking.set), tokio::io::Interest::READABLE) };
    let Ok(watch) = watch else { return };
    let mut events = [EpollEvent::empty(); BATCH];
    loop {
        let Ok(mut guard) = watch.readable().await else { return };
        loop {
            let n = parking.set.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
            for e in &events[..n] {
                let Some(mut p) = parking.take(e.data()) else { continue };
                if let Ok(s) = tokio::net::TcpStream::from_std(p.socket) {
                    p.rest.stream = Some(Stream::Tcp(s));
                    resume(&t, p.rest);
                }
            }
            if n < BATCH {
                guard.clear_ready();
                break;
            }
        }
    }
}

/// The set as something that has a descriptor.
struct Fd<'a>(&'a Epoll);

impl std::os::fd::AsRawFd for Fd<'_> {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.0.0)
    }
}
