//! `log-forward` sections at work (configuration manual 3.8): messages come in over streams and in datagrams, and go where the section's `log` lines say.
use super::Thread;
use super::listener::{Connection, Place};
use super::wheel::FOREVER;
use crate::config::model::Forwarding;
use crate::log::Line;
use crate::log::frame::{Meta, Time};
use crate::log::syslog::{self, Cut, MOST, Received};
use crate::state::snapshot::ProxyNode;
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::SystemTime;
use tokio::io::unix::AsyncFd;

/// Messages that one readiness of a datagram socket may bring before others have their turn.
const BATCH: usize = 64;

/// One stream, until it ends or something that is no message comes.
pub async fn run(t: &Rc<Thread>, c: &mut Connection) {
    let Some(stream) = &mut c.stream else { return };
    let source = c.client.src.map(|a| crate::base::addr::canonical(a.ip()).to_string());
    let timer = t.wheel.timer();
    let mut buf = t.take_buf();
    'stream: loop {
        // On the wheel in any case: who has to go is woken there.
        timer.set(c.fe.conf.timeouts.client.or(Some(FOREVER)));
        let read = poll_fn(|cx| match t.poll_read_more(cx, stream, &mut buf, &timer) {
            Poll::Pending if t.shared.drains() => Poll::Ready(Ok(0)),
            r => r,
        });
        timer.idle(true);
        if !matches!(read.await, Ok(1..)) {
            break;
        }
        // What came is passed on as the configuration in force wants it.
        if let Some(now) = t.snapshot().frontend(&c.fe.conf.name) {
            c.fe = now.clone();
        }
        let forwarding = c.fe.conf.forwarding.as_deref().cloned().unwrap_or_default();
        let mut used = 0;
        loop {
            match syslog::cut(&buf[used..], forwarding.lines) {
                Cut::More => break,
                Cut::Broken => break 'stream,
                Cut::Message(m, n) => {
                    pass(t, &c.fe, &forwarding, &buf[used..][m], source.as_deref());
                    used += n;
                }
            }
        }
        buf.drain(..used);
    }
    t.give_buf(buf);
}

/// A datagram socket of a `dgram-bind` line.
pub async fn datagrams(t: Rc<Thread>, socket: OwnedFd, place: Place, mut stop: tokio::sync::watch::Receiver<bool>) {
    let unix = place.unix;
    let socket = socket2::Socket::from(socket);
    // SAFETY: the socket is owned by the AsyncFd from here on.
    let Ok(fd) = (unsafe { AsyncFd::register(socket) }) else { return };
    let mut buf = Vec::with_capacity(MOST);
    loop {
        let mut guard = tokio::select! {
            g = fd.readable() => match g { Ok(g) => g, Err(_) => return },
            _ = stop.changed() => return,
        };
        let snapshot = t.snapshot();
        let Some(fe) = snapshot.frontend(&place.frontend).cloned() else { return };
        let forwarding = fe.conf.forwarding.as_deref().cloned().unwrap_or_default();
        for n in 0..=BATCH {
            if n == BATCH {
                // More may wait; so do others.
                tokio::task::yield_now().await;
                break;
            }
            buf.clear();
            let Ok((n, from)) = fd.get_ref().recv_from(buf.spare_capacity_mut()) else {
                guard.clear_ready();
                break;
            };
            // SAFETY: so many bytes were just received into the room behind the vector's end, which is MOST bytes.
            unsafe { buf.set_len(n) };
            let from = from.as_socket().filter(|_| !unix);
            let source = from.map(|a| crate::base::addr::canonical(a.ip()).to_string());
            pass(&t, &fe, &forwarding, buf.trim_ascii_end(), source.as_deref());
        }
    }
}

/// Passes one message on to every target that wants it.
fn pass(t: &Thread, fe: &ProxyNode, f: &Forwarding, message: &[u8], source: Option<&str>) {
    let now = SystemTime::now();
    t.shared.live.received_logs.fetch_add(1, Relaxed);
    let r = if f.unparsed { Received { text: message, ..Received::default() } } else { syslog::read(message, now) };
    if r.text.iter().all(|c| matches!(c, b'\n' | 0)) {
        return;
    }
    let name = if f.unparsed { None } else { syslog::host(r.host, source, f.host) };
    let r = Received { host: name.as_deref(), ..r };
    t.with_outlet(fe, |out, _| {
        for l in fe.logs.iter().filter(|l| l.wants(r.level().and_then(|n| u8::try_from(n).ok()).unwrap_or(0))) {
            let at = Time::At(now, fe.sinks.utc_offset);
            let meta: Meta<'_> = r.meta(l.conf.facility, l.conf.min_level, name.as_deref(), at);
            let form = l.conf.form.unwrap_or_else(|| r.form());
            out.deliver(l, Line { form, meta: &meta, message: r.text });
        }
    });
}
