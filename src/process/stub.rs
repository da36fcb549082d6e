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

/// What a signal means to a daemon; `None`: nothing.
fn wish(half: Half, s: Signal) -> Option<Wish> {
    match (half, s) {
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
    let mut set = SigSet::empty();
    for s in [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1, Signal::SIGUSR2] {
        set.add(s);
    }
    if set.thread_block().is_err() {
        return End::Gone;
    }
    let end = SignalFd::new(&set).map_or(End::Gone, |signals| relay(half, &mut guardian, &signals));
    // Whatever this process becomes hears them again.
    let _ = set.thread_unblock();
    end
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
            && let Some(w) =
                i32::try_from(info.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok()).and_then(|s| wish(half, s))
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
