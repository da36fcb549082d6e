//! A listening socket that an operator may close and open again (management.txt, `disable frontend`, `enable frontend`, `shutdown frontend`).
use super::Thread;
use super::listener::{Place, accept, accept_open};
use crate::net::listen;
use crate::state::live::Doors;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// A socket that cannot listen, because another program has its port by now, is tried again after this.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// Accepts until told to stop; then takes what is queued already, so that closing the socket resets nobody. In between an operator may have it
/// refuse connections.
pub async fn accept_loop(t: Rc<Thread>, mut socket: OwnedFd, place: Place, mut stop: watch::Receiver<bool>) {
    let mut doors = t.shared.live.doors.subscribe();
    let mut said = false;
    loop {
        if !place.is_open(&mut doors) {
            if let Some(s) = closed(socket, &place, &mut stop, &mut doors).await {
                socket = s
            } else {
                return;
            }
            continue;
        }
        if *stop.borrow() && socket2::SockRef::from(&socket).is_listener().is_ok_and(|l| !l) {
            return;
        }
        match open_door(&t, &socket, &place) {
            Ok(()) => match accept_open(&t, socket, &place, &mut stop, &mut doors).await {
                Some(s) => socket = s,
                None => return,
            },
            Err(e) => {
                if !std::mem::replace(&mut said, true) {
                    place.tell(&t, &format!("cannot listen again: {}", crate::base::diag::io_words(&e)));
                }
                tokio::select! {
                    _ = doors.changed() => {}
                    _ = stop.changed() => {}
                    () = tokio::time::sleep(LISTEN_AGAIN) => {}
                }
            }
        }
    }
}

/// Connections are refused, and the port is given up as far as others share it. One with a path has no such state: who connects is let go at once.
/// The socket comes back when something has changed; `None` at the end.
async fn closed(
    socket: OwnedFd,
    place: &Place,
    stop: &mut watch::Receiver<bool>,
    doors: &mut watch::Receiver<HashMap<String, Doors>>,
) -> Option<OwnedFd> {
    if !place.unix {
        // One that is closed already stays so.
        let _ = rustix::net::shutdown(&socket, rustix::net::Shutdown::Read);
    }
    let dismissed = async {
        if !place.unix {
            std::future::pending::<()>().await;
        }
        // SAFETY: the descriptor outlives its registration, which ends with this future.
        let Ok(fd) = (unsafe { AsyncFd::register(std::os::fd::BorrowedFd::borrow_raw(socket.as_raw_fd())) }) else {
            return std::future::pending().await;
        };
        while let Ok(mut ready) = fd.readable().await {
            match accept(socket.as_raw_fd()) {
                Ok(_) => tokio::task::yield_now().await,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(_) => tokio::time::sleep(LISTEN_AGAIN).await,
            }
        }
    };
    let goes_on = tokio::select! {
        r = doors.changed() => r.is_ok(),
        r = stop.changed() => r.is_ok() && !*stop.borrow(),
        () = dismissed => true,
    };
    goes_on.then_some(socket)
}

/// The socket listens again, if it did not: it was closed here, or by a predecessor.
fn open_door(t: &Thread, socket: &OwnedFd, place: &Place) -> std::io::Result<()> {
    if socket2::SockRef::from(socket).is_listener()? {
        return Ok(());
    }
    let snapshot = t.snapshot();
    let Some(fe) = snapshot.frontend(&place.frontend) else { return Ok(()) };
    let listener = fe.listeners.get(place.listener);
    // The kernel has forgotten it with the rest.
    if let Some(mss) = listener.and_then(|l| l.conf.options.mss).filter(|m| *m > 0) {
        let _ = socket2::SockRef::from(socket).set_tcp_mss(mss.unsigned_abs());
    }
    let backlog = listener.and_then(|l| l.conf.backlog).or(fe.conf.backlog);
    let backlog = backlog.map_or(listen::DEFAULT_BACKLOG, |n| i32::try_from(n).unwrap_or(i32::MAX));
    Ok(rustix::net::listen(socket, backlog)?)
}
