//! The clients and the server of a comparison.
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the clients ask for.
pub struct Load {
    pub path: &'static str,
    /// Length of the answer's body.
    pub body: usize,
    pub connections: usize,
    /// A new connection for each request.
    pub close: bool,
}

impl Load {
    fn request(&self) -> Vec<u8> {
        let last = if self.close { "Connection: close\r\n" } else { "" };
        format!(
            "GET {} HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n{last}\r\n",
            self.path
        )
        .into_bytes()
    }
}

/// Where a thread, and the threads it starts, may run.
#[derive(Clone, Copy)]
pub enum Cores {
    /// The proxies'.
    First,
    /// Those of proxies with two threads.
    Two,
    /// All but the first, which the load has.
    Others,
    /// All but the first two; all of them where there are no more.
    Wide,
}

/// Binds this thread, and the threads it starts.
pub fn pin(cores: Cores) {
    let n = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let which = match cores {
        Cores::First => 0..1,
        Cores::Two => 0..n.min(2),
        Cores::Others => n.min(2) - 1..n,
        Cores::Wide if n >= 4 => 2..n,
        Cores::Wide => 0..n,
    };
    // SAFETY: a plain set of bits, filled before use; the call reads it only.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        which.for_each(|i| libc::CPU_SET(i, &mut set));
        libc::sched_setaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

/// Raises the limit of descriptors as far as may be.
pub fn many_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure lives through both calls.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server that answers `/64`, `/16k` and `/1m`, and a place for log lines.
pub struct Origin {
    pub port: u16,
    pub log_port: u16,
}

impl Origin {
    pub fn start() -> Self {
        let l = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = l.local_addr().unwrap().port();
        l.set_nonblocking(true).unwrap();
        let logs = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let log_port = logs.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let mut b = [0u8; 4096];
            while logs.recv(&mut b).is_ok() {}
        });
        std::thread::spawn(move || {
            runtime().block_on(async move {
                let l = TcpListener::from_std(l).unwrap();
                let answer = |n: usize| -> Rc<[u8]> {
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\nContent-Length: {n}\r\n\r\n"
                    );
                    [head.into_bytes(), vec![b'x'; n]].concat().into()
                };
                let answers = [answer(64), answer(16 << 10), answer(1 << 20)];
                tokio::task::LocalSet::new()
                    .run_until(async move {
                        loop {
                            let Ok((s, _)) = l.accept().await else { continue };
                            tokio::task::spawn_local(serve(s, answers.clone()));
                        }
                    })
                    .await;
            });
        });
        Self { port, log_port }
    }
}

async fn serve(mut s: TcpStream, answers: [Rc<[u8]>; 3]) {
    let _ = s.set_nodelay(true);
    let mut buf = [0u8; 4096];
    let mut tail = Vec::new();
    while let Ok(n @ 1..) = s.read(&mut buf).await {
        tail.extend_from_slice(&buf[..n]);
        while let Some(end) = tail.windows(4).position(|w| w == b"\r\n\r\n") {
            let which = match tail.get(5) {
                Some(b'1') if tail.get(6) == Some(&b'm') => 2,
                Some(b'1') => 1,
                _ => 0,
            };
            tail.drain(..end + 4);
            if s.write_all(&answers[which]).await.is_err() {
                return;
            }
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Asks once and reads the whole answer; false if the connection failed.
async fn exchange(s: &mut TcpStream, request: &[u8], body: usize, buf: &mut [u8]) -> bool {
    if s.write_all(request).await.is_err() {
        return false;
    }
    let mut got = 0;
    let mut left = loop {
        match s.read(&mut buf[got..]).await {
            Ok(n @ 1..) => got += n,
            _ => return false,
        }
        if let Some(end) = buf[..got].windows(4).position(|w| w == b"\r\n\r\n") {
            assert!(buf.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&buf[..end]));
            break body - (got - end - 4);
        }
    };
    while left > 0 {
        match s.read(buf).await {
            Ok(n @ 1..) => left -= n,
            _ => return false,
        }
    }
    true
}

/// Closed-loop clients for one round; the number of answers.
pub fn drive(load: &Load, port: u16, time: Duration) -> u64 {
    let (done, stop) = (Rc::new(Cell::new(0u64)), Rc::new(Cell::new(false)));
    let rt = runtime();
    let local = tokio::task::LocalSet::new();
    local.block_on(&rt, async {
        let mut all = Vec::new();
        for _ in 0..load.connections {
            let (done, stop) = (done.clone(), stop.clone());
            let (request, body, close) = (load.request(), load.body, load.close);
            all.push(tokio::task::spawn_local(async move {
                let mut buf = vec![0u8; 128 << 10];
                while !stop.get() {
                    let mut s = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    let _ = s.set_nodelay(true);
                    while !stop.get() && exchange(&mut s, &request, body, &mut buf).await {
                        done.set(done.get() + 1);
                        if close {
                            break;
                        }
                    }
                }
            }));
        }
        tokio::time::sleep(time).await;
        stop.set(true);
        for t in all {
            let _ = t.await;
        }
    });
    done.get()
}

/// [`drive`], from as many threads as the proxies of [`Cores::Two`] leave cores, or two.
pub fn drive_wide(load: &Load, port: u16, time: Duration) -> u64 {
    let n = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let each = if n >= 4 { n - 2 } else { 2 };
    let part = Load { connections: load.connections / each, ..*load };
    std::thread::scope(|s| {
        let all: Vec<_> = (0..each)
            .map(|_| {
                s.spawn(|| {
                    pin(Cores::Wide);
                    drive(&part, port, time)
                })
            })
            .collect();
        all.into_iter().map(|t| t.join().unwrap()).sum()
    })
}

/// Clients that ask once and stay.
pub fn hold(port: u16, load: &Load, clients: usize) -> Vec<std::net::TcpStream> {
    let rt = runtime();
    let request = load.request();
    let held = rt.block_on(async {
        let mut held = Vec::new();
        let mut buf = vec![0u8; 8192];
        for _ in 0..clients {
            let Ok(mut s) = TcpStream::connect(("127.0.0.1", port)).await else { break };
            if exchange(&mut s, &request, load.body, &mut buf).await {
                held.push(s.into_std().unwrap());
            }
        }
        held
    });
    std::thread::sleep(Duration::from_millis(500));
    held
}

/// Requests at a given rate over many connections; the 99th percentile of their times, in microseconds.
pub fn percentile99(load: &Load, port: u16, rate: f64, time: Duration) -> f64 {
    let times = Rc::new(std::cell::RefCell::new(Vec::<f64>::new()));
    let rt = runtime();
    let local = tokio::task::LocalSet::new();
    local.block_on(&rt, async {
        let begun = Instant::now();
        let mut all = Vec::new();
        let step = Duration::from_secs_f64(load.connections as f64 / rate);
        for i in 0..load.connections {
            let (times, request, body) = (times.clone(), load.request(), load.body);
            all.push(tokio::task::spawn_local(async move {
                let mut buf = vec![0u8; 8192];
                let mut s = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let _ = s.set_nodelay(true);
                let mut due = begun + step.mul_f64((i + 1) as f64 / 32.0);
                while begun.elapsed() < time {
                    if let Some(wait) = due.checked_duration_since(Instant::now()) {
                        tokio::time::sleep(wait).await;
                    }
                    due += step;
                    let sent = Instant::now();
                    if !exchange(&mut s, &request, body, &mut buf).await {
                        return;
                    }
                    times.borrow_mut().push(sent.elapsed().as_secs_f64() * 1e6);
                }
            }));
        }
        for t in all {
            let _ = t.await;
        }
    });
    let mut t = times.borrow_mut();
    t.sort_by(f64::total_cmp);
    t.get(t.len() * 99 / 100).copied().unwrap_or(f64::NAN)
}
