//! CPU per forwarded request, Tandem against the installed HAProxy, in the same interleaved run: small keep-alive requests on one thread each.
//! `cargo bench --bench forward`; `HAPROXY=<path>` names another binary to compare with. Prints microseconds per request and the ratio; there is no limit in it, machines differ.
#![allow(clippy::unwrap_used)]
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
const CONNECTIONS: usize = 32;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\nContent-Length: 64\r\n\r\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const REQUEST: &[u8] =
    b"GET /index.html HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n\r\n";

fn main() {
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let haproxy = std::env::var("HAPROXY").unwrap_or_else(|_| "/usr/sbin/haproxy".to_owned());
    let haproxy = haproxy.as_str();
    if !std::path::Path::new(haproxy).exists() {
        println!("forward: there is no {haproxy} to compare with; install the distribution's package");
        return;
    }
    let origin = origin();
    let mut peers: Vec<Peer> =
        [("HAProxy", haproxy), ("Tandem", env!("CARGO_BIN_EXE_tandem"))].map(|(n, p)| Peer::start(n, p, origin)).into();
    for round in 0..ROUNDS {
        // The order changes, so that neither always runs on a warmer machine.
        for k in 0..2 {
            peers[(k + round) % 2].round();
        }
    }
    for p in &peers {
        println!(
            "{:<8} {:>7.2} us CPU a request, {:>8.0} requests/s (best of {ROUNDS}: {:.2} us)",
            p.name,
            p.mean(),
            p.rate(),
            p.best()
        );
    }
    println!(
        "ratio Tandem/HAProxy, mean of rounds: {:.2}; best rounds: {:.2}",
        peers[1].mean() / peers[0].mean(),
        peers[1].best() / peers[0].best()
    );
}

/// A server on threads of its own that answers each request with the same bytes.
fn origin() -> u16 {
    let l = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = l.local_addr().unwrap().port();
    l.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        rt.block_on(async move {
            let l = TcpListener::from_std(l).unwrap();
            loop {
                let Ok((mut s, _)) = l.accept().await else { continue };
                tokio::spawn(async move {
                    let mut buf = [0u8; 4096];
                    let mut tail = Vec::new();
                    while let Ok(n @ 1..) = s.read(&mut buf).await {
                        tail.extend_from_slice(&buf[..n]);
                        while let Some(end) = tail.windows(4).position(|w| w == b"\r\n\r\n") {
                            tail.drain(..end + 4);
                            if s.write_all(ANSWER).await.is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        });
    });
    port
}

struct Peer {
    name: &'static str,
    child: Child,
    port: u16,
    /// CPU microseconds and requests of each round.
    rounds: Vec<(f64, u64)>,
}

impl Peer {
    fn start(name: &'static str, program: &str, origin: u16) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = std::env::temp_dir().join(format!("tandem-bench-{}-{name}.cfg", std::process::id()));
        let text = format!(
            "global\n nbthread 1\ndefaults\n mode http\n timeout client 10s\n timeout server 10s\n timeout connect 1s\nfrontend f\n bind 127.0.0.1:{port}\n default_backend b\nbackend b\n server s 127.0.0.1:{origin}\n"
        );
        std::fs::write(&file, text).unwrap();
        let child = Command::new(program).args(["-q", "-db", "-f"]).arg(&file).stdout(Stdio::null()).spawn().unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "{name} did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(300));
        let _ = std::fs::remove_file(file);
        Self { name, child, port, rounds: Vec::new() }
    }

    /// CPU time of the program and its children, in microseconds.
    fn cpu(&self) -> f64 {
        let mut pids = vec![self.child.id()];
        if let Ok(t) = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.child.id())) {
            pids.extend(t.split_whitespace().filter_map(|p| p.parse::<u32>().ok()));
        }
        pids.iter()
            .flat_map(|p| std::fs::read_dir(format!("/proc/{p}/task")).into_iter().flatten().flatten())
            .filter_map(|t| {
                std::fs::read_to_string(t.path().join("schedstat")).ok()?.split_whitespace().next()?.parse::<f64>().ok()
            })
            .sum::<f64>()
            / 1000.0
    }

    fn round(&mut self) {
        let before = self.cpu();
        let n = drive(self.port);
        self.rounds.push((self.cpu() - before, n));
    }

    fn mean(&self) -> f64 {
        self.rounds.iter().map(|r| r.0).sum::<f64>() / self.rounds.iter().map(|r| r.1 as f64).sum::<f64>()
    }
    fn best(&self) -> f64 {
        self.rounds.iter().map(|r| r.0 / r.1 as f64).fold(f64::MAX, f64::min)
    }
    fn rate(&self) -> f64 {
        self.rounds.iter().map(|r| r.1 as f64).sum::<f64>() / (ROUND.as_secs_f64() * self.rounds.len() as f64)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// Closed-loop clients for one round; the number of answers.
fn drive(port: u16) -> u64 {
    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(async {
        for _ in 0..CONNECTIONS {
            let (done, stop) = (done.clone(), stop.clone());
            tokio::spawn(async move {
                let mut s = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let _ = s.set_nodelay(true);
                let mut buf = vec![0u8; 4096];
                while !stop.load(Relaxed) {
                    if s.write_all(REQUEST).await.is_err() {
                        return;
                    }
                    let mut got = 0;
                    // Both proxies add nothing but may reorder nothing: the body's end is enough to know.
                    while !buf[..got].ends_with(b"cdef") || got < 64 {
                        match s.read(&mut buf[got..]).await {
                            Ok(n @ 1..) => got += n,
                            _ => return,
                        }
                    }
                    done.fetch_add(1, Relaxed);
                }
            });
        }
        tokio::time::sleep(ROUND).await;
        stop.store(true, Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
    });
    done.load(Relaxed)
}
