//! Malformed, ambiguous and merely odd HTTP/1 messages, requests and responses: byte for byte what the client gets, what the server gets and who closes.
//! What is let through here is what request smuggling is made of, so nothing is compared in part.
//!
//! The cases are the lines of `tests/malformed/cases.jsonl`:
//!
//! ```text
//! id        unique within its variant
//! variant   which option the proxy has, see `OPTIONS`
//! sends     what the client writes; from the second piece on after a pause
//! answer    what the server writes to the first request it gets, in pieces like `sends`; without it the server says 200
//! closes    the server closes after `answer`
//! early     the server answers the head of a request and does not wait for its body
//! shut      the client says that it sends no more after `sends`
//! waits     the proxy's time-outs decide the outcome, so they are short
//! second    the client sends one more request after the first part of `client`
//! client    what the client gets; the second part comes after the second request
//! server    what the server gets, a text for each connection, sorted
//! closed    the proxy closes the client's connection of its own accord
//! haproxy   what HAProxy 3.5 does instead; it is said only where the difference matters
//! ```
//!
//! A text is a string in which each character is a byte, or a list of such strings, of `{"repeat", "times"}` and of `{"page"}`, an error page from `PAGES`.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

const OPTIONS: [(&str, &str); 5] = [
    ("base", ""),
    ("close", "option httpclose"),
    ("sclose", "option http-server-close"),
    ("unsafereq", "option accept-unsafe-violations-in-http-request"),
    ("unsaferes", "option accept-unsafe-violations-in-http-response"),
];

/// The two that most of the refusals consist of.
const PAGES: [(u64, &str); 2] = [
    (
        400,
        "HTTP/1.1 400 Bad request\r\ncontent-length: 90\r\ncache-control: no-cache\r\nconnection: close\r\ncontent-type: text/html\r\n\r\n<html><body><h1>400 Bad request</h1>\nYour browser sent an invalid request.\n</body></html>\n",
    ),
    (
        502,
        "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 107\r\ncache-control: no-cache\r\ncontent-type: text/html\r\n\r\n<html><body><h1>502 Bad Gateway</h1>\nThe server returned an invalid or incomplete response.\n</body></html>\n",
    ),
];

/// The second request of a client.
const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n";
/// The server's answer to all requests after the first, where that one got the answer of the case.
const SECOND: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond";

/// Cases at a time: those with time-outs too long to matter, and those with time-outs short enough to wait for.
const PATIENT: usize = 24;
const QUICK: usize = 8;
/// What should happen and has not happened by then is not going to.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long a connection that should stay open is looked at. A close comes with the last bytes or not at all.
const LOOK: Duration = Duration::from_millis(25);
/// Between the pieces of a message.
const PAUSE: Duration = Duration::from_millis(30);
/// What is already wrong is watched a little longer, to show more of it.
const WRONG: Duration = Duration::from_millis(200);

struct Case {
    id: String,
    variant: String,
    sends: Vec<Vec<u8>>,
    answer: Option<Vec<Vec<u8>>>,
    closes: bool,
    early: bool,
    shut: bool,
    waits: bool,
    second: bool,
    client: Vec<Vec<u8>>,
    server: Vec<Vec<u8>>,
    closed: bool,
}

impl Case {
    fn read(line: &str) -> Self {
        let v: Value = serde_json::from_str(line).unwrap();
        let word = |k: &str| v[k].as_str().unwrap().to_owned();
        let flag = |k: &str| v.get(k).is_some_and(|f| f.as_bool().unwrap());
        let texts = |k: &str| v.get(k).map(|l| l.as_array().unwrap().iter().map(text).collect::<Vec<_>>());
        Self {
            id: word("id"),
            variant: word("variant"),
            sends: texts("sends").unwrap(),
            answer: texts("answer"),
            closes: flag("closes"),
            early: flag("early"),
            shut: flag("shut"),
            waits: flag("waits"),
            second: flag("second"),
            client: texts("client").unwrap(),
            server: texts("server").unwrap(),
            closed: flag("closed"),
        }
    }

    /// The second request is to take another connection to the server than the first.
    fn parts(&self) -> bool {
        self.server.len() > 1 && self.server.iter().any(|b| b.starts_with(b"GET /next "))
    }
}

fn text(v: &Value) -> Vec<u8> {
    match v {
        Value::String(s) => s.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect(),
        Value::Array(parts) => parts.iter().flat_map(text).collect(),
        _ => match v["page"].as_u64() {
            Some(n) => PAGES.iter().find(|p| p.0 == n).unwrap().1.into(),
            None => text(&v["repeat"]).repeat(usize::try_from(v["times"].as_u64().unwrap()).unwrap()),
        },
    }
}

/// A case that is being run, as its server sees it.
struct Live {
    case: Arc<Case>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    connections: Vec<Connection>,
    /// The first request has been given the answer of the case, and all of it has been written.
    taken: bool,
    answered: bool,
    /// So many bytes have reached the client.
    client: usize,
}

struct Connection {
    seen: Vec<u8>,
    /// Until the connection is over.
    stream: Option<TcpStream>,
}

impl State {
    fn seen(&self) -> Vec<Vec<u8>> {
        let mut all: Vec<Vec<u8>> = self.connections.iter().map(|c| c.seen.clone()).collect();
        all.sort();
        all
    }

    fn over(&self) -> bool {
        self.connections.iter().all(|c| c.stream.is_none())
    }
}

impl Live {
    fn new(case: &Arc<Case>) -> Arc<Self> {
        Arc::new(Self { case: case.clone(), state: Mutex::default(), changed: Condvar::new() })
    }

    fn change<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        let out = f(&mut self.state.lock().unwrap());
        self.changed.notify_all();
        out
    }

    fn wait(&self, limit: Duration, holds: impl Fn(&State) -> bool) -> bool {
        !self.changed.wait_timeout_while(self.state.lock().unwrap(), limit, |s| !holds(s)).unwrap().1.timed_out()
    }

    /// Writes the pieces of a message, so far apart that they are read one by one: many of them need not be as far apart as a few. What follows a
    /// whole head also waits until that has `arrived` on the other side, because what is wrong may have another outcome then than in a message
    /// that is seen at once.
    fn write(mut s: &TcpStream, pieces: &[Vec<u8>], arrived: impl Fn()) -> std::io::Result<()> {
        for (i, p) in pieces.iter().enumerate() {
            if i > 0 {
                std::thread::sleep(if pieces.len() > 10 { PAUSE / 10 } else { PAUSE });
                if find(&pieces[..i].concat(), b"\r\n\r\n").is_some() {
                    arrived();
                }
            }
            s.write_all(p)?;
        }
        Ok(())
    }

    /// Ends what is left of the server's connections, so that nothing gets into the next case. What has come by now is still read.
    fn end(&self) {
        self.change(|s| {
            s.connections.iter().filter_map(|c| c.stream.as_ref()).for_each(|c| drop(c.shutdown(Shutdown::Both)))
        });
        assert!(self.wait(DEADLINE, State::over), "{}: a connection of the test's own does not end", self.case.id);
    }

    fn serve(&self, mut s: TcpStream, n: usize) {
        let _ = self.talk(&mut s, n);
        drop(s);
        self.change(|s| s.connections[n].stream = None);
    }

    /// Reads requests as leniently as can be, as a server that is to be smuggled something would.
    fn talk(&self, s: &mut TcpStream, n: usize) -> std::io::Result<()> {
        let (mut got, mut at, mut head) = (Vec::new(), 0, None);
        let mut part = vec![0; 65536];
        loop {
            let k = s.read(&mut part)?;
            if k == 0 {
                return Ok(());
            }
            got.extend_from_slice(&part[..k]);
            self.change(|s| s.connections[n].seen.extend_from_slice(&part[..k]));
            loop {
                if head.is_none() {
                    let Some(length) = find(&got[at..], b"\r\n\r\n") else { break };
                    head = Some(at..at + length + 4);
                    at += length + 4;
                    if self.case.early {
                        s.write_all(&good(&got[head.clone().unwrap()]))?;
                    }
                }
                let Some(range) = head.clone() else { break };
                let Some(end) = body_end(&got[range.clone()], &got, at) else { break };
                (at, head) = (end, None);
                if !self.case.early && self.answer(s, &got[range])? {
                    return Ok(());
                }
            }
        }
    }

    /// Answers a request; says whether the server is to close now.
    fn answer(&self, s: &mut TcpStream, head: &[u8]) -> std::io::Result<bool> {
        let Some(pieces) = &self.case.answer else {
            s.write_all(&good(head))?;
            return Ok(false);
        };
        if self.change(|s| std::mem::replace(&mut s.taken, true)) {
            s.write_all(SECOND)?;
            return Ok(false);
        }
        let written = Self::write(s, pieces, || {
            self.wait(DEADLINE, |s| s.client > 0);
        });
        self.change(|s| s.answered = true);
        written.map(|()| self.case.closes)
    }
}

fn good(head: &[u8]) -> Vec<u8> {
    let body = if head.starts_with(b"HEAD ") { "" } else { "ok" };
    format!("HTTP/1.1 200 OK\r\nX-O: 1\r\nContent-Length: 2\r\n\r\n{body}").into_bytes()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}

/// Where the body that begins at `at` ends, if it is there to its end.
fn body_end(head: &[u8], got: &[u8], mut at: usize) -> Option<usize> {
    let head = head.to_ascii_lowercase();
    let fields = || head.split(|b| *b == b'\n').skip(1);
    let line = |at: usize| Some(at + find(got.get(at..)?, b"\n")? + 1);
    if fields().any(|l| l.starts_with(b"transfer-encoding:") && find(l, b"chunked").is_some()) {
        loop {
            let next = line(at)?;
            let digits = got[at..next].iter().take_while(|b| b.is_ascii_hexdigit()).count();
            if digits == 0 {
                return Some(next);
            }
            let size = u64::from_str_radix(std::str::from_utf8(&got[at..at + digits]).unwrap(), 16);
            let size = size.ok().and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
            at = next;
            if size == 0 {
                loop {
                    let next = line(at)?;
                    if got[at..next].iter().all(|b| matches!(b, b'\r' | b'\n')) {
                        return Some(next);
                    }
                    at = next;
                }
            }
            at = at.checked_add(size)?.checked_add(2).filter(|end| *end <= got.len())?;
        }
    }
    let length = fields().find_map(|l| {
        let value = l.strip_prefix(b"content-length:")?.trim_ascii_start();
        let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
        (digits > 0).then(|| std::str::from_utf8(&value[..digits]).unwrap().parse().unwrap_or(usize::MAX))
    });
    at.checked_add(length.unwrap_or(0)).filter(|end| *end <= got.len())
}

/// A section of the proxy with a server of its own: the cases of a slot come one after the other.
struct Slot {
    server: u16,
    /// What is being run. Who connects to the server at any other time is turned away.
    now: Arc<Mutex<Option<Arc<Live>>>>,
}

impl Slot {
    fn open() -> Self {
        let l = TcpListener::bind("127.0.0.1:0").unwrap();
        let slot = Self { server: l.local_addr().unwrap().port(), now: Arc::default() };
        let now = slot.now.clone();
        std::thread::spawn(move || {
            for s in l.incoming().flatten() {
                let Some(live) = now.lock().unwrap().clone() else { continue };
                let _ = s.set_nodelay(true);
                let stream = s.try_clone().unwrap();
                let n = live.change(|s| {
                    s.connections.push(Connection { seen: Vec::new(), stream: Some(stream) });
                    s.connections.len() - 1
                });
                std::thread::spawn(move || live.serve(s, n));
            }
        });
        slot
    }

    /// Runs a case over the proxy's port of this slot; what is not as wanted comes back in words.
    fn run(&self, port: u16, case: &Arc<Case>) -> Result<(), String> {
        let live = Live::new(case);
        *self.now.lock().unwrap() = Some(live.clone());
        let mut wrong = Vec::new();
        let wanted = case.client.concat();
        let mut client = match Client::start(port, &live) {
            Ok(c) => c,
            Err(e) => {
                *self.now.lock().unwrap() = None;
                return Err(format!("connecting: {e}"));
            }
        };
        client.read(DEADLINE, |got| got.len() >= case.client[0].len() || !wanted.starts_with(got));
        if case.second && client.got == case.client[0] {
            let gone = |s: &State| s.connections.first().is_some_and(|c| c.stream.is_none());
            let mut ready = live.wait(DEADLINE, |s| s.answered);
            if case.parts() {
                // What the server has said too much makes the proxy close. What it says later lies on an idle connection, which is looked at when it is
                // to be used again, if not before.
                let late = case.answer.as_ref().is_some_and(|a| a.len() > 1);
                ready &= live.wait(if late { PAUSE } else { DEADLINE }, gone) || late;
            }
            if ready {
                let _ = client.stream.write_all(NEXT);
                client.read(DEADLINE, |got| got.len() >= wanted.len() || !wanted.starts_with(got));
            } else {
                wrong.push("the server's first connection is not closed".to_owned());
            }
        }
        if client.got == wanted {
            client.read(if case.closed { DEADLINE } else { LOOK }, |got| got.len() > wanted.len());
            if client.ended != case.closed {
                wrong
                    .push(format!("the client's connection {}", if client.ended { "is closed" } else { "stays open" }));
            }
            // One that was rightly left open ends with the client's part of it: until then there may be bytes too many.
            if !client.ended {
                let _ = client.stream.shutdown(Shutdown::Write);
                client.read(DEADLINE, |got| got.len() > wanted.len());
                if !client.ended && client.got == wanted {
                    wrong.push("the client's connection does not end".to_owned());
                }
            }
        } else {
            client.read(WRONG, |_| false);
        }
        if client.got != wanted {
            wrong.push(format!("client wants {}\n     client got {}", short(&wanted), short(&client.got)));
        }
        live.wait(if wrong.is_empty() { DEADLINE } else { WRONG }, |s| s.seen() == case.server);
        drop(client);
        live.end();
        *self.now.lock().unwrap() = None;
        let seen = live.change(|s| s.seen());
        if seen != case.server {
            let list = |l: &[Vec<u8>]| l.iter().map(|b| short(b)).collect::<Vec<_>>().join(" and ");
            wrong.push(format!("server wants [{}]\n     server got [{}]", list(&case.server), list(&seen)));
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n     ")) }
    }
}

struct Client<'a> {
    live: &'a Live,
    stream: TcpStream,
    got: Vec<u8>,
    ended: bool,
}

impl<'a> Client<'a> {
    /// Connects and sends all pieces. The proxy may close before it has read all of them, which is no error.
    fn start(port: u16, live: &'a Live) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(DEADLINE))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let case = &live.case;
        let _ = Live::write(&stream, &case.sends, || {
            live.wait(DEADLINE, |s| case.server.is_empty() || !s.connections.is_empty());
            // An early answer has come before there is more of the request.
            if case.early {
                let _ = stream.peek(&mut [0]);
            }
        });
        if case.shut {
            let _ = stream.shutdown(Shutdown::Write);
        }
        Ok(Self { live, stream, got: Vec::new(), ended: false })
    }

    /// Reads until there is enough, the connection ends or the time is over.
    fn read(&mut self, limit: Duration, enough: impl Fn(&[u8]) -> bool) {
        let until = Instant::now() + limit;
        let mut part = vec![0; 65536];
        while !self.ended && !enough(&self.got) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            match self.stream.read(&mut part) {
                Ok(n) if n > 0 => {
                    self.got.extend_from_slice(&part[..n]);
                    self.live.change(|s| s.client = self.got.len());
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
                // A reset is an end like any other: the client had not been read to its end.
                Ok(_) | Err(_) => self.ended = true,
            }
        }
    }
}

fn short(bytes: &[u8]) -> String {
    let s = bytes.escape_ascii().to_string();
    if s.len() <= 600 {
        return format!("\"{s}\"");
    }
    format!("\"{}\" .. \"{}\" ({} bytes)", &s[..400], &s[s.len() - 150..], bytes.len())
}

static STARTING: Mutex<()> = Mutex::new(());

/// The binary with a file of its own.
struct Proxy {
    child: Child,
    dir: PathBuf,
    ports: Vec<u16>,
}

unsafe extern "C" {
    #[link_name = "kill"]
    fn libc_kill(pid: i32, sig: i32) -> i32;
}

impl Proxy {
    /// Starts the binary and returns when it serves. The ports were free a moment ago; should one be taken meanwhile, there are others.
    fn start(variant: &str, option: &str, slots: &[Slot]) -> Self {
        let program = std::env::var("TANDEM_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_tandem").to_owned());
        let dir = std::env::temp_dir().join(format!("tandem-malformed-{}-{variant}", std::process::id()));
        let hello = Arc::new(Case::read(
            r#"{"id":"","variant":"","sends":["GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"],"client":[[{"page":400}]],"server":[],"closed":true}"#,
        ));
        let mut last = String::new();
        // One at a time, because proxies may share a port: two that got the same free one would not notice.
        let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..5 {
            // All are held until all are known, so that no port comes twice.
            let held: Vec<TcpListener> = slots.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
            let ports: Vec<u16> = held.iter().map(|l| l.local_addr().unwrap().port()).collect();
            drop(held);
            std::fs::create_dir_all(&dir).unwrap();
            let file = dir.join("h.cfg");
            std::fs::write(&file, config(option, slots, &ports)).unwrap();
            let child = Command::new(&program)
                .args(["-db", "-f"])
                .arg(&file)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(std::fs::File::create(dir.join("log")).unwrap())
                .spawn()
                .unwrap();
            let mut p = Self { child, dir: dir.clone(), ports };
            let until = Instant::now() + DEADLINE;
            while Instant::now() < until && p.runs() {
                match slots[0].run(p.ports[0], &hello) {
                    Ok(()) => return p,
                    Err(e) => last = e,
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            last = format!("{last}\n{}", p.log());
        }
        panic!("{program} does not start\n{last}");
    }

    fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // A signal that it may act upon, since what it has started itself is to end as well.
        if self.runs() {
            // SAFETY: plain system call on a child of this test that has not been waited for.
            unsafe { libc_kill(i32::try_from(self.child.id()).unwrap(), 15) };
        }
        let until = Instant::now() + DEADLINE;
        while self.runs() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn config(option: &str, slots: &[Slot], ports: &[u16]) -> String {
    let mut text = format!("global\n maxconn 2000\ndefaults\n mode http\n {option}\n");
    for (i, (slot, port)) in slots.iter().zip(ports).enumerate() {
        let time = if i < PATIENT { "60s" } else { "1s" };
        text += &format!("listen l{i}\n bind 127.0.0.1:{port}\n server o 127.0.0.1:{}\n", slot.server);
        for which in ["connect", "client", "server", "http-request", "http-keep-alive", "queue"] {
            text += &format!(" timeout {which} {time}\n");
        }
    }
    text
}

fn run(variant: &str) {
    let option = OPTIONS.iter().find(|o| o.0 == variant).unwrap().1;
    let all = include_str!("malformed/cases.jsonl").lines().map(Case::read).filter(|c| c.variant == variant);
    let (quick, patient): (Vec<_>, Vec<_>) = all.map(Arc::new).partition(|c| c.waits);
    let count = quick.len() + patient.len();
    assert!(count > 100, "{count} cases of {variant}");
    let slots: Vec<Slot> = (0..PATIENT + QUICK).map(|_| Slot::open()).collect();
    let mut proxy = Proxy::start(variant, option, &slots);
    let (next, wrong) = ([AtomicUsize::new(0), AtomicUsize::new(0)], Mutex::new(BTreeMap::new()));
    std::thread::scope(|s| {
        for (i, (slot, port)) in slots.iter().zip(&proxy.ports).enumerate() {
            let (cases, next) = if i < PATIENT { (&patient, &next[0]) } else { (&quick, &next[1]) };
            let wrong = &wrong;
            s.spawn(move || {
                while let Some(case) = cases.get(next.fetch_add(1, Relaxed)) {
                    if let Err(e) = slot.run(*port, case) {
                        wrong.lock().unwrap().insert(case.id.clone(), e);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    let log = proxy.log();
    assert!(proxy.runs(), "{variant}: the proxy has ended\n{log}");
    let list: Vec<String> = wrong.iter().map(|(id, e)| format!("{id}\n     {e}")).collect();
    let n = list.len();
    assert!(n == 0, "{variant}: {n} of {count} cases are not as wanted\n{log}{}", list.join("\n"));
}

#[test]
fn as_it_comes() {
    run("base");
}

#[test]
fn with_httpclose() {
    run("close");
}

#[test]
fn with_http_server_close() {
    run("sclose");
}

#[test]
fn with_unsafe_requests_accepted() {
    run("unsafereq");
}

#[test]
fn with_unsafe_responses_accepted() {
    run("unsaferes");
}
