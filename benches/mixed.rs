//! Mixed load with clients and servers that die at random: `MINUTES=30 cargo bench --bench mixed`. Every byte of every answer is checked; at the
//! end the counters have to add up, every gauge has to be back at 0, and memory and descriptors where they were after the first tenth.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{Proxy, tandem, wait_for};

const CLIENTS: u64 = 40;
const SERVERS: u64 = 4;

/// Small and repeatable; only a spread is wanted.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n.max(1)
    }
}

/// The content that belongs to a seed.
fn content(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|i| b"abcdefghijklmnopqrstuvwxyz\n0123456789"[((i * 7 + i / 50 + seed) % 37) as usize])
        .collect()
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

fn invalid() -> std::io::Error {
    std::io::ErrorKind::InvalidData.into()
}

/// A head, and what its headers say of length and chunks.
fn head(r: &mut impl BufRead) -> std::io::Result<(String, Option<usize>, bool)> {
    let (mut text, mut length, mut chunked) = (String::new(), None, false);
    loop {
        let at = text.len();
        if r.read_line(&mut text)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = text[at..].to_ascii_lowercase();
        if line == "\r\n" {
            return Ok((text, length, chunked));
        }
        if let Some(n) = line.strip_prefix("content-length:") {
            length = n.trim().parse().ok();
        }
        chunked |= line.starts_with("transfer-encoding: chunked");
    }
}

fn body(r: &mut impl BufRead, length: Option<usize>, chunked: bool, until_close: bool) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    if chunked {
        loop {
            let mut line = String::new();
            r.read_line(&mut line)?;
            let n = usize::from_str_radix(line.trim(), 16).map_err(|_| invalid())?;
            let at = out.len();
            out.resize(at + n, 0);
            r.read_exact(&mut out[at..])?;
            line.clear();
            r.read_line(&mut line)?;
            if n == 0 {
                return Ok(out);
            }
        }
    }
    match length {
        Some(n) => {
            out.resize(n, 0);
            r.read_exact(&mut out)?;
        }
        None if until_close => drop(r.read_to_end(&mut out)?),
        None => {}
    }
    Ok(out)
}

/// One server: answers `/seed/length/how` with the content of the seed, and a POST with the sum of what it got. Dies and comes back.
fn server(port: u16, mut dice: Dice, stop: Arc<AtomicBool>) {
    while !stop.load(Relaxed) {
        let Ok(l) = TcpListener::bind(("127.0.0.1", port)) else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        l.set_nonblocking(true).unwrap();
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let end = Instant::now() + Duration::from_millis(500 + dice.roll(8_000));
        while Instant::now() < end && !stop.load(Relaxed) {
            match l.accept() {
                Ok((s, _)) => {
                    s.set_nonblocking(false).unwrap();
                    let mut all = open.lock().unwrap();
                    if all.len() > 500 {
                        all.retain(|s| s.take_error().is_ok() && s.peer_addr().is_ok());
                    }
                    all.extend(s.try_clone());
                    std::thread::spawn(move || drop(serve(s)));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        drop(l);
        open.lock().unwrap().iter().for_each(|s| drop(s.shutdown(Shutdown::Both)));
        std::thread::sleep(Duration::from_millis(dice.roll(1_500)));
    }
}

fn serve(s: TcpStream) -> std::io::Result<()> {
    s.set_nodelay(true)?;
    s.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut r = BufReader::new(s.try_clone()?);
    let mut w = s;
    loop {
        let (text, length, chunked) = head(&mut r)?;
        let got = body(&mut r, length, chunked, false)?;
        let path = text.split(' ').nth(1).unwrap_or_default();
        let part = |i: usize| path.split('/').nth(i).and_then(|p| p.parse::<u64>().ok()).unwrap_or(0);
        let content = if text.starts_with("POST") {
            sum(&got).to_string().into_bytes()
        } else {
            content(part(1), part(2) as usize)
        };
        let mut out = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n".to_vec();
        match part(3) {
            1 => {
                out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for c in content.chunks(9_000) {
                    out.extend_from_slice(format!("{:x}\r\n", c.len()).as_bytes());
                    out.extend_from_slice(c);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(b"0\r\n\r\n");
            }
            2 => {
                out.extend_from_slice(b"Connection: close\r\n\r\n");
                out.extend_from_slice(&content);
                w.write_all(&out)?;
                return w.shutdown(Shutdown::Both);
            }
            _ => {
                out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", content.len()).as_bytes());
                out.extend_from_slice(&content);
            }
        }
        w.write_all(&out)?;
    }
}

/// What came of everything that was asked.
#[derive(Default)]
struct Tally {
    right: AtomicU64,
    wrong: AtomicU64,
    /// The connection broke off, as it does when a server dies in the middle of an answer.
    broken: AtomicU64,
    left: AtomicU64,
    statuses: Mutex<BTreeMap<u16, u64>>,
}

/// One client: connection after connection, until `end`.
fn client(ports: [u16; 2], mut dice: Dice, end: Instant, t: &Tally) {
    while Instant::now() < end {
        let tcp = dice.roll(5) == 0;
        let Ok(s) = TcpStream::connect(("127.0.0.1", ports[usize::from(tcp)])) else { continue };
        let _ = s.set_read_timeout(Some(Duration::from_secs(15)));
        let _ = s.set_nodelay(true);
        let Ok(reading) = s.try_clone() else { continue };
        let (mut r, mut w) = (BufReader::new(reading), s);
        for _ in 0..=dice.roll(30) {
            match one(&mut r, &mut w, &mut dice, tcp, t) {
                Ok(true) if Instant::now() < end => {}
                Ok(_) => break,
                Err(_) => {
                    t.broken.fetch_add(1, Relaxed);
                    break;
                }
            }
            std::thread::sleep(Duration::from_millis(dice.roll(30)));
        }
    }
}

/// One request. False: the connection is at its end.
fn one(
    r: &mut BufReader<TcpStream>,
    w: &mut TcpStream,
    dice: &mut Dice,
    tcp: bool,
    t: &Tally,
) -> std::io::Result<bool> {
    let seed = dice.roll(1_000_000);
    let len = match dice.roll(20) {
        0 => 1 << 20,
        1..4 => 20_000 + dice.roll(150_000),
        _ => dice.roll(3_000),
    } as usize;
    // What ends with the close ends without a word too when its server dies: its end proves nothing. Over TCP it stays out.
    let how = if tcp { dice.roll(2) } else { dice.roll(12).saturating_sub(9) };
    let post = dice.roll(4) == 0;
    let sent = content(seed, if post { len } else { 0 });
    let coded = !tcp && dice.roll(4) == 0;
    let accept = if coded { "Accept-Encoding: gzip\r\n" } else { "" };
    let mut out = if post {
        let mut out = Vec::new();
        if dice.roll(2) == 0 {
            out.extend_from_slice(
                format!("POST /{seed}/{len}/0 HTTP/1.1\r\nHost: h\r\n{accept}Content-Length: {len}\r\n\r\n").as_bytes(),
            );
            out.extend_from_slice(&sent);
        } else {
            let head =
                format!("POST /{seed}/{len}/0 HTTP/1.1\r\nHost: h\r\n{accept}Transfer-Encoding: chunked\r\n\r\n");
            out.extend_from_slice(head.as_bytes());
            for c in sent.chunks(7_000) {
                out.extend_from_slice(format!("{:x}\r\n", c.len()).as_bytes());
                out.extend_from_slice(c);
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b"0\r\n\r\n");
        }
        out
    } else {
        format!("GET /{seed}/{len}/{how} HTTP/1.1\r\nHost: h\r\n{accept}\r\n").into_bytes()
    };
    // Some leave in the middle of what they say, some in the middle of what they hear.
    let leaves = dice.roll(40);
    if leaves == 0 {
        out.truncate(out.len() / 2);
    }
    w.write_all(&out)?;
    if leaves == 0 || leaves == 1 {
        if leaves == 1 {
            let mut some = [0; 200];
            let _ = r.read(&mut some);
        }
        t.left.fetch_add(1, Relaxed);
        let _ = w.shutdown(Shutdown::Both);
        return Ok(false);
    }
    let (text, length, chunked) = head(r)?;
    let status: u16 = text.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(invalid)?;
    let until_close = length.is_none() && !chunked;
    let mut got = body(r, length, chunked, until_close)?;
    *t.statuses.lock().unwrap().entry(status).or_default() += 1;
    if status == 200 {
        if text.contains("content-encoding: gzip") {
            let mut plain = Vec::new();
            let whole = flate2::read::GzDecoder::new(&got[..]).read_to_end(&mut plain).is_ok();
            got = if whole { plain } else { b"not gzip".to_vec() };
        }
        let want = if post { sum(&sent).to_string().into_bytes() } else { content(seed, len) };
        let right = if until_close && got.len() < want.len() { want.starts_with(&got) } else { got == want };
        if right {
            t.right.fetch_add(1, Relaxed);
        } else {
            t.wrong.fetch_add(1, Relaxed);
            println!("WRONG: {} bytes for {}: {text:?}", got.len(), want.len());
        }
    }
    Ok(!until_close && !text.contains("connection: close"))
}

fn memory_kb(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn main() {
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let minutes: f64 = std::env::var("MINUTES").ok().and_then(|m| m.parse().ok()).unwrap_or(0.5);
    let time = Duration::from_secs_f64(minutes * 60.0);
    let stop = Arc::new(AtomicBool::new(false));
    let ports: Vec<u16> = (0..SERVERS).map(|_| support::free_port()).collect();
    let servers: Vec<_> = ports
        .iter()
        .zip(1..)
        .map(|(port, n)| {
            let (port, stop) = (*port, stop.clone());
            std::thread::spawn(move || server(port, Dice(n), stop))
        })
        .collect();
    let log = UdpSocket::bind("127.0.0.1:0").unwrap();
    let log_port = log.local_addr().unwrap().port();
    let lines = Arc::new(AtomicU64::new(0));
    let counted = lines.clone();
    std::thread::spawn(move || {
        let mut b = [0; 4096];
        while log.recv(&mut b).is_ok() {
            counted.fetch_add(1, Relaxed);
        }
    });
    let list: String = ports
        .iter()
        .enumerate()
        .map(|(i, p)| format!(" server s{i} 127.0.0.1:{p} check inter 200ms fastinter 50ms rise 1 fall 2 maxconn 30\n"))
        .collect();
    let tcp_port = support::free_port();
    let p = Proxy::start(
        &tandem(),
        &format!(
            "global\n stats socket {{dir}}/admin.sock level admin\n nbthread 2\n log 127.0.0.1:{log_port} local0\n\
             defaults\n timeout client 10s\n timeout server 5s\n timeout connect 1s\n timeout queue 3s\n retries 3\n option redispatch 1\n log global\n\
             frontend http\n mode http\n option httplog\n bind 127.0.0.1:{{port}}\n default_backend web\n\
             backend web\n mode http\n balance leastconn\n compression algo gzip\n compression type text/\n option httpchk GET /1/5/0\n{list}\
             listen tcp\n mode tcp\n option tcplog\n bind 127.0.0.1:{tcp_port}\n balance roundrobin\n{list}"
        ),
    );
    let info = p.cli("show info");
    let pid: u32 = info.lines().find_map(|l| l.strip_prefix("Pid: ")).unwrap().parse().unwrap();
    let classes = || -> u64 {
        let each = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];
        each.iter().map(|c| p.column("http,FRONTEND", &format!("hrsp_{c}"))).sum()
    };
    let before = [p.column("http,FRONTEND", "req_tot"), classes()];
    let begin = Instant::now();
    let (t, ports) = (Tally::default(), [p.port, tcp_port]);
    let early = std::thread::scope(|s| {
        for n in 0..CLIENTS {
            let t = &t;
            s.spawn(move || client(ports, Dice(1_000 + n), begin + time, t));
        }
        let tenths = (0..9).map(|_| {
            std::thread::sleep(time / 10);
            (memory_kb(pid), descriptors(pid))
        });
        tenths.collect::<Vec<_>>()
    });
    let idle = || {
        p.column("http,FRONTEND", "scur")
            + p.column("web,BACKEND", "scur")
            + p.column("tcp,FRONTEND", "scur")
            + (0..SERVERS).map(|i| p.column(&format!("web,s{i},"), "scur")).sum::<u64>()
            + p.column("web,BACKEND", "qcur")
    };
    let rest = wait_for(Duration::from_secs(30), || idle() == 0);
    // Idle connections to servers end by themselves.
    std::thread::sleep(Duration::from_secs(7));
    let statuses = t.statuses.lock().unwrap().clone();
    let (right, wrong) = (t.right.load(Relaxed), t.wrong.load(Relaxed));
    println!(
        "right {right}, wrong {wrong}, broken off {}, left early {}",
        t.broken.load(Relaxed),
        t.left.load(Relaxed)
    );
    println!("statuses {statuses:?}, log lines {}", lines.load(Relaxed));
    let (now, classes) = (p.column("http,FRONTEND", "req_tot") - before[0], classes() - before[1]);
    println!("requests {now}, answers by class {classes}");
    println!(
        "memory {:?} kB after each tenth, {} kB at the end; descriptors {}, {}",
        early.iter().map(|e| e.0).collect::<Vec<_>>(),
        memory_kb(pid),
        early[0].1,
        descriptors(pid)
    );
    stop.store(true, Relaxed);
    servers.into_iter().for_each(|s| drop(s.join()));
    assert!(rest, "gauges are not back at 0: {}", idle());
    assert_eq!(wrong, 0);
    assert_eq!(now, classes, "each request ends in one class");
    assert!(right > 0);
    drop(p);
}
