//! A stub: a process that stands for one of the two daemons where another process does the work. It has the daemon's name and pid file, and passes its signals on
//! (management manual 4; keepalived(8), SIGNALS).
use super::rendezvous::{Ask, Found, Half, Wish};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use std::os::fd::AsFd;

/// How a stub ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to, and its half is given up.
    Told,
    /// The guardian is gone.
    Gone,
}

/// keepalived's signal for a dump in JSON.
pub fn json_signal() -> i32 {
    libc::SIGRTMIN() + 2
}

/// keepalived's signal that clears the counters.
pub fn clear_signal() -> i32 {
    libc::SIGRTMAX() - 1
}

/// What a signal means to a daemon; `None`: nothing.
fn wish(half: Half, number: i32) -> Option<Wish> {
    if half == Half::Keepalived && number == json_signal() {
        return Some(Wish::Json);
    }
    if half == Half::Keepalived && number == clear_signal() {
        return Some(Wish::Clear);
    }
    match (half, Signal::try_from(number).ok()?) {
        (_, Signal::SIGHUP) | (Half::Haproxy, Signal::SIGUSR2) => Some(Wish::Reload),
        (_, Signal::SIGTERM | Signal::SIGINT) => Some(Wish::Leave { soft: false }),
        (Half::Haproxy, Signal::SIGUSR1) => Some(Wish::Leave { soft: true }),
        (Half::Keepalived, Signal::SIGUSR1) => Some(Wish::Data),
        (Half::Keepalived, Signal::SIGUSR2) => Some(Wish::Stats),
        _ => None,
    }
}

/// Passes signals on until it is told to end or the guardian is gone. Must be called while single-threaded.
pub fn run(half: Half, mut guardian: Found) -> End {
    super::privilege::set_name(half.name());
    let set = signals();
    if set.thread_block().is_err() {
        return End::Gone;
    }
    let end = SignalFd::new(&set).map_or(End::Gone, |signals| relay(half, &mut guardian, &signals));
    // Whatever this process becomes hears them again.
    let _ = set.thread_unblock();
    end
}

/// Keeps signals that would be passed on until [`run`] does it: from the moment that another process takes our half, it has to hear of them.
pub fn hold() {
    let _ = signals().thread_block();
}

/// No stub comes of it: signals mean what they always do.
pub fn let_go() {
    let _ = signals().thread_unblock();
}

/// What is passed on.
fn signals() -> SigSet {
    let mut set = SigSet::empty();
    for s in [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1, Signal::SIGUSR2] {
        set.add(s);
    }
    let mut raw = *set.as_ref();
    for n in [json_signal(), clear_signal()] {
        // SAFETY: `raw` is a valid set, and the numbers are those of signals.
        unsafe { libc::sigaddset(&raw mut raw, n) };
    }
    // SAFETY: the set was made by the library itself, with two real-time signals that its type has no names for.
    unsafe { SigSet::from_sigset_t_unchecked(raw) }
}

fn relay(half: Half, guardian: &mut Found, signals: &SignalFd) -> End {
    loop {
        let mut fds =
            [PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(guardian.stream.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::NONE).is_err_and(|e| e != nix::errno::Errno::EINTR) {
            return End::Gone;
        }
        let (signal, gone) = (fds[0].any() == Some(true), fds[1].any() == Some(true));
        if signal
            && let Ok(Some(info)) = signals.read_signal()
            && let Some(w) = i32::try_from(info.ssi_signo).ok().and_then(|n| wish(half, n))
        {
            let leaves = matches!(w, Wish::Leave { .. });
            match guardian.ask(&Ask::Wish(half, w), None) {
                None => return if leaves { End::Told } else { End::Gone },
                Some(a) => {
                    if !a.ok {
                        eprintln!("[ALERT]    ({}) : {}", std::process::id(), a.text.trim_end());
                    }
                    if leaves {
                        return End::Told;
                    }
                }
            }
        } else if gone {
            // Nothing comes without a question: it has closed.
            return End::Gone;
        }
    }
}
