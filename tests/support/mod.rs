//! Shared by the rings that run the binary.
#![allow(dead_code)] // Each test file uses its part.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The binary under test; the timed rings are run on a release build in CI.
pub fn tandem() -> String {
    std::env::var("TANDEM_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_tandem").to_owned())
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn wait_for(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    holds()
}

/// A program on loopback with a configuration of its own; its standard output is kept.
pub struct Proxy {
    pub child: Child,
    pub dir: tempfile::TempDir,
    pub port: u16,
    lines: std::sync::Mutex<mpsc::Receiver<String>>,
}

impl Proxy {
    /// Starts `program` with the configuration; `{port}` and `{dir}` in it are filled in. Returns once the port answers.
    pub fn start(program: &str, config: &str) -> Self {
        Self::start_both(program, config, None)
    }

    /// The same with a `keepalived.conf` beside it.
    pub fn start_both(program: &str, config: &str, keepalived: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let write = |name: &str, text: &str| {
            let text = text.replace("{port}", &port.to_string()).replace("{dir}", dir.path().to_str().unwrap());
            let file = dir.path().join(name);
            std::fs::write(&file, text).unwrap();
            file
        };
        let mut child = Command::new(program)
            .args(["-db", "-f"])
            .arg(write("h.cfg", config))
            .args(keepalived.iter().flat_map(|k| ["-k".into(), write("k.conf", k)]))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let out = child.stdout.take().unwrap();
        let (tx, lines) = mpsc::channel();
        std::thread::spawn(move || {
            use std::io::BufRead;
            for l in std::io::BufReader::new(out).lines().map_while(Result::ok) {
                if tx.send(l).is_err() {
                    return;
                }
            }
        });
        let mut p = Self { child, dir, port, lines: lines.into() };
        let up = wait_for(Duration::from_secs(10), || {
            TcpStream::connect(p.addr()).is_ok() || p.child.try_wait().unwrap().is_some()
        });
        assert!(up && p.child.try_wait().unwrap().is_none(), "{program} did not start");
        // Waits until it really serves, not only until the socket is bound, and for the connection above to be over.
        let _ = p.get("/ready-check");
        p.drain();
        p
    }

    pub fn addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub fn connect(&self) -> TcpStream {
        let s = TcpStream::connect(self.addr()).unwrap();
        s.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        s
    }

    /// Sends bytes and reads until the end.
    pub fn exchange(&self, bytes: &[u8]) -> String {
        let mut s = self.connect();
        s.write_all(bytes).unwrap();
        let mut out = Vec::new();
        let _ = s.read_to_end(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    pub fn get(&self, path: &str) -> String {
        self.exchange(format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").as_bytes())
    }

    /// The next line of standard output.
    pub fn line(&self) -> String {
        self.lines.lock().unwrap().recv_timeout(Duration::from_secs(5)).expect("a log line within 5 s")
    }

    /// Passes over lines until none has come for a moment.
    pub fn drain(&self) {
        while self.lines.lock().unwrap().recv_timeout(Duration::from_millis(150)).is_ok() {}
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn cli(&self, line: &str) -> String {
        tandem_proxy::cli::demo::lab::command(&self.path("admin.sock"), line).unwrap()
    }

    /// A column of `show stat` in the first row that begins with `row`; 0 where nothing is counted.
    pub fn column(&self, row: &str, name: &str) -> u64 {
        let all = self.cli("show stat");
        let at = all.lines().next().unwrap().trim_start_matches("# ").split(',').position(|c| c == name).unwrap();
        all.lines().find(|l| l.starts_with(row)).unwrap().split(',').nth(at).unwrap().parse().unwrap_or(0)
    }

    pub fn signal(&self, n: i32) {
        // SAFETY: plain system call on a child of this test.
        unsafe { libc_kill(i32::try_from(self.child.id()).unwrap(), n) };
    }
}

unsafe extern "C" {
    #[link_name = "kill"]
    fn libc_kill(pid: i32, sig: i32) -> i32;
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.signal(15);
        if !wait_for(Duration::from_secs(5), || self.child.try_wait().is_ok_and(|s| s.is_some())) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A server whose answer is made from the bytes of the request head and body part that came with it.
pub struct Origin {
    pub port: u16,
    pub seen: std::sync::Mutex<mpsc::Receiver<String>>,
}

impl Origin {
    /// Answers every request on a connection with `answer(request)`; an empty answer closes.
    pub fn start(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let l = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = l.local_addr().unwrap().port();
        let (tx, seen) = mpsc::channel();
        let answer = std::sync::Arc::new(answer);
        std::thread::spawn(move || {
            for s in l.incoming().flatten() {
                let (answer, tx) = (answer.clone(), tx.clone());
                std::thread::spawn(move || serve(s, &*answer, &tx));
            }
        });
        Self { port, seen: seen.into() }
    }

    pub fn next(&self) -> String {
        self.seen.lock().unwrap().recv_timeout(Duration::from_secs(5)).expect("a request within 5 s")
    }
}

fn serve(mut s: TcpStream, answer: &(dyn Fn(&str) -> Vec<u8> + Send + Sync), tx: &mpsc::Sender<String>) {
    let mut buf = Vec::new();
    loop {
        let (head, need) = loop {
            if let Some(end) = buf.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&buf[..end + 4]).into_owned();
                let length =
                    head.lines().find_map(|l| l.strip_prefix("content-length: ")).and_then(|n| n.parse::<usize>().ok());
                let have = &buf[end + 4..];
                let whole = match length {
                    Some(n) => (have.len() >= n).then_some(n),
                    None if head.contains("transfer-encoding: chunked") => {
                        have.windows(5).position(|w| w == b"0\r\n\r\n").map(|p| p + 5)
                    }
                    None => Some(0),
                };
                if let Some(n) = whole {
                    break (head, end + 4 + n);
                }
            }
            let mut part = [0u8; 4096];
            match s.read(&mut part) {
                Ok(0) | Err(_) => return,
                Ok(n) => buf.extend_from_slice(&part[..n]),
            }
        };
        let request = String::from_utf8_lossy(&buf[..need]).into_owned();
        buf.drain(..need);
        let out = answer(&request);
        // The health checks of these tests are requests as well; the tests tell them by their path.
        if !head.starts_with("OPTIONS") {
            let _ = tx.send(request);
        }
        if out.is_empty() || s.write_all(&out).is_err() {
            return;
        }
        if String::from_utf8_lossy(&out).to_ascii_lowercase().contains("connection: close") {
            return;
        }
    }
}

pub fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A test of rings that need more than the toolchain: its name, what it needs, itself.
pub struct Case {
    pub name: &'static str,
    pub needs: &'static [Need],
    pub run: fn(),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    Root,
    Haproxy,
    Keepalived,
    Ucarp,
    Nginx,
}

impl Need {
    fn there(self) -> bool {
        match self {
            // Namespaces are what root is needed for.
            Self::Root => Command::new("unshare").args(["-n", "true"]).status().is_ok_and(|s| s.success()),
            Self::Haproxy => std::path::Path::new("/usr/sbin/haproxy").exists(),
            Self::Nginx => std::path::Path::new("/usr/sbin/nginx").exists(),
            Self::Keepalived => std::path::Path::new("/usr/sbin/keepalived").exists(),
            Self::Ucarp => std::path::Path::new("/usr/sbin/ucarp").exists(),
        }
    }
}

/// Runs cases one after the other, in libtest's words. What is missing makes a case ignored, by name; with TANDEM_REQUIRE_PEERS set that is a failure.
pub fn run(cases: &[Case]) {
    let filters: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    if std::env::args().any(|a| a == "--list") {
        cases.iter().for_each(|c| println!("{}: test", c.name));
        return;
    }
    let strict = std::env::var_os("TANDEM_REQUIRE_PEERS").is_some();
    let chosen: Vec<&Case> =
        cases.iter().filter(|c| filters.is_empty() || filters.iter().any(|f| c.name.contains(f.as_str()))).collect();
    println!("\nrunning {} tests", chosen.len());
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    for c in chosen {
        let missing: Vec<&Need> = c.needs.iter().filter(|n| !n.there()).collect();
        if !missing.is_empty() {
            println!("test {} ... ignored, needs {missing:?}", c.name);
            ignored += 1;
            failed += usize::from(strict);
            continue;
        }
        let begin = Instant::now();
        let good = std::panic::catch_unwind(c.run).is_ok();
        println!("test {} ... {} ({:.1} s)", c.name, if good { "ok" } else { "FAILED" }, begin.elapsed().as_secs_f64());
        if good { passed += 1 } else { failed += 1 }
    }
    println!(
        "\ntest result: {}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; 0 filtered out\n",
        if failed == 0 { "ok" } else { "FAILED" }
    );
    if failed > 0 {
        std::process::exit(101);
    }
}
