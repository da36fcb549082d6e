//! The client: a fresh connection and a GET at a fixed pace, each remembered with its time.
use super::lab::Netns;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One probe.
#[derive(Clone, Debug)]
pub struct Shot {
    pub begun: Instant,
    pub ended: Instant,
    /// Node and server that answered, or what went wrong.
    pub result: Result<(u8, u8), &'static str>,
}

/// A probe takes no longer.
const LIMIT: Duration = Duration::from_secs(1);

pub struct Prober {
    shots: Arc<Mutex<Vec<Shot>>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Prober {
    pub fn start(ns: &Netns, to: SocketAddr, every: Duration) -> io::Result<Self> {
        let shots: Arc<Mutex<Vec<Shot>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (s, end) = (shots.clone(), stop.clone());
        let thread = ns.thread(move || {
            let Ok(rt) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            tokio::task::LocalSet::new().block_on(&rt, async move {
                let mut pace = tokio::time::interval(every);
                pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
                while !end.load(Relaxed) {
                    pace.tick().await;
                    let s = s.clone();
                    tokio::task::spawn_local(async move {
                        let begun = Instant::now();
                        let result = tokio::time::timeout(LIMIT, get(to)).await.unwrap_or(Err("time-out"));
                        let shot = Shot { begun, ended: Instant::now(), result };
                        crate::state::live::lock(&s).push(shot);
                    });
                }
            });
        })?;
        Ok(Self { shots, stop, thread: Some(thread) })
    }

    /// All probes that ended since `since`, in the order of their beginnings.
    pub fn since(&self, since: Instant) -> Vec<Shot> {
        let mut v: Vec<Shot> =
            crate::state::live::lock(&self.shots).iter().filter(|s| s.ended >= since).cloned().collect();
        v.sort_by_key(|s| s.begun);
        v
    }

    /// The node that answered last.
    pub fn node(&self) -> Option<u8> {
        crate::state::live::lock(&self.shots).iter().rev().find_map(|s| s.result.ok()).map(|r| r.0)
    }

    pub fn forget(&self) {
        crate::state::live::lock(&self.shots).clear();
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

async fn get(to: SocketAddr) -> Result<(u8, u8), &'static str> {
    let mut s = TcpStream::connect(to).await.map_err(|_| "connect")?;
    s.write_all(b"GET / HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n").await.map_err(|_| "send")?;
    let mut buf = Vec::with_capacity(512);
    loop {
        let n = s.read_buf(&mut buf).await.map_err(|_| "reset")?;
        if n == 0 {
            break;
        }
    }
    if !buf.starts_with(b"HTTP/1.1 200") {
        return Err(if buf.is_empty() { "closed" } else { "error status" });
    }
    let digit = |name: &str| {
        let text = String::from_utf8_lossy(&buf).to_ascii_lowercase();
        text.find(name)
            .and_then(|at| text[at + name.len()..].chars().find(char::is_ascii_digit))
            .and_then(|c| c.to_digit(10))
            .and_then(|d| u8::try_from(d).ok())
    };
    Ok((digit("x-node:").unwrap_or(0), digit("x-server:").unwrap_or(0)))
}

/// What an event cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Longest time without an answer, less the pace of the probes.
    pub outage: Duration,
    pub failed: usize,
    /// Failures of connections begun after the other node first answered.
    pub failed_new: usize,
    /// The other node answered.
    pub moved: bool,
}

/// Judges the probes around an event at `at`; `old` is the node that answered before.
pub fn cost(shots: &[Shot], at: Instant, old: Option<u8>, every: Duration) -> Cost {
    let mut c = Cost::default();
    let mut ends: Vec<Instant> = shots.iter().filter(|s| s.result.is_ok()).map(|s| s.ended).collect();
    ends.sort();
    // The last answer before the event opens the first gap.
    let start = ends.iter().rposition(|e| *e <= at).unwrap_or(0);
    for w in ends[start.min(ends.len())..].windows(2) {
        c.outage = c.outage.max((w[1] - w[0]).saturating_sub(every));
    }
    // A connection begun before the switch may be answered after it, by a retransmission: the switch is when the first answer came.
    let switched =
        shots.iter().filter(|s| s.begun >= at && s.result.is_ok_and(|r| Some(r.0) != old)).map(|s| s.ended).min();
    c.moved = switched.is_some();
    for s in shots.iter().filter(|s| s.result.is_err()) {
        c.failed += 1;
        c.failed_new += usize::from(switched.is_some_and(|t| s.begun > t));
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_is_the_longest_gap_and_tells_new_failures_from_old() {
        let t = Instant::now();
        let ms = |n: u64| t + Duration::from_millis(n);
        let ok = |b: u64, node| Shot { begun: ms(b), ended: ms(b + 1), result: Ok((node, 1)) };
        let bad = |b: u64| Shot { begun: ms(b), ended: ms(b + 3), result: Err("reset") };
        let shots = [ok(0, 1), ok(5, 1), bad(10), bad(15), ok(20, 2), bad(25), ok(30, 2)];
        let c = cost(&shots, ms(8), Some(1), Duration::from_millis(5));
        assert_eq!(c, Cost { outage: Duration::from_millis(10), failed: 3, failed_new: 1, moved: true });
    }
}
