//! Ring 3 and 4: the processes of one binary: in the background, under the names of the two daemons, beside each other, in place of each other.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use support::{Case, Need, free_port, tandem, wait_for};
use tandem_proxy::cli::demo::lab::{Lab, Node, command};
use tandem_proxy::cli::demo::stage::VIP;

fn main() {
    support::run(&[
        Case { name: "in_the_background_it_serves_once_the_command_returns", needs: &[], run: background },
        Case { name: "a_start_that_fails_in_the_background_is_an_error", needs: &[], run: background_failure },
        Case { name: "sf_towards_a_tandem_is_a_reload", needs: &[Need::Root], run: replaced },
        Case { name: "words_that_need_a_new_worker_get_one", needs: &[], run: new_worker },
        Case { name: "a_reload_that_cannot_listen_leaves_no_trace", needs: &[], run: no_trace },
        Case { name: "keepalived_has_a_process_of_its_own", needs: &[Need::Root], run: keepalived_stub },
        Case { name: "started_separately_the_two_find_each_other", needs: &[Need::Root], run: two_names },
    ]);
}

/// A directory with a configuration; what it started is ended with it.
struct Place {
    dir: tempfile::TempDir,
    port: u16,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), port: free_port() }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// A proxy that answers with `status` by itself.
    fn config(&self, status: u16, global: &str) -> String {
        let text = format!(
            "global\n stats socket {} level admin\n {global}\ndefaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 1s\nfrontend f\n bind 127.0.0.1:{}\n http-request return status {status} content-type text/plain string x\n",
            self.path("s.sock"),
            self.port
        );
        std::fs::write(self.path("h.cfg"), text).unwrap();
        self.path("h.cfg")
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(tandem()).args(args).stdin(Stdio::null()).output().unwrap()
    }

    fn status(&self) -> Option<u16> {
        let mut s = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        s.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        s.read_to_string(&mut text).ok()?;
        text.split_whitespace().nth(1)?.parse().ok()
    }

    fn pid(&self) -> i32 {
        read_pid(&self.path("p.pid")).unwrap()
    }
}

fn read_pid(path: &str) -> Option<i32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(pid) = read_pid(&self.path("p.pid")) {
            signal(pid, 15);
            wait_for(Duration::from_secs(5), || !alive(pid));
        }
    }
}

fn signal(pid: i32, n: i32) {
    assert!(Command::new("kill").args([format!("-{n}"), pid.to_string()]).status().is_ok());
}

fn alive(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn comm(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

fn background() {
    let p = Place::new();
    let cfg = p.config(200, "");
    let out = p.run(&["-D", "-f", &cfg, "-p", &p.path("p.pid")]);
    assert!(out.status.success(), "{out:?}");
    // No waiting: the command has returned because it serves.
    assert_eq!(p.status(), Some(200));
    assert_eq!(comm(p.pid()), "tandem");
}

fn background_failure() {
    let p = Place::new();
    let cfg = p.config(200, "");
    let _taken = std::net::TcpListener::bind(("127.0.0.1", p.port)).unwrap();
    let out = p.run(&["-D", "-f", &cfg, "-p", &p.path("p.pid")]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("another program listens there"), "{out:?}");
    assert!(!Path::new(&p.path("p.pid")).exists());
}

fn replaced() {
    let p = Place::new();
    let cfg = p.config(200, "");
    assert!(p.run(&["-D", "-f", &cfg, "-p", &p.path("p.pid")]).status.success());
    let pid = p.pid();
    let kept = TcpStream::connect(("127.0.0.1", p.port)).unwrap();
    p.config(404, "");
    let out = p.run(&["-D", "-f", &cfg, "-p", &p.path("p.pid"), "-sf", &pid.to_string()]);
    assert!(out.status.success(), "{out:?}");
    assert_eq!(p.status(), Some(404));
    assert_eq!(p.pid(), pid, "no second guardian");
    // A bad file changes nothing, and the command says so.
    std::fs::write(&cfg, "nonsense\n").unwrap();
    assert!(!p.run(&["-D", "-f", &cfg, "-p", &p.path("p.pid"), "-sf", &pid.to_string()]).status.success());
    assert_eq!((p.status(), p.pid()), (Some(404), pid));
    drop(kept);
}

fn new_worker() {
    let p = Place::new();
    let cfg = p.config(200, "nbthread 1");
    assert!(p.run(&["-D", "-f", &cfg, "-p", &p.path("p.pid")]).status.success());
    let worker = || {
        let text = command(&p.path("s.sock"), "show info").unwrap_or_default();
        let field = |k: &str| text.lines().find_map(|l| l.strip_prefix(k)?.trim().parse::<i32>().ok());
        Some((field("Pid:")?, field("Nbthread:")?))
    };
    let (first, _) = worker().unwrap();
    // A connection that is open stays with the old worker to its end.
    let mut kept = TcpStream::connect(("127.0.0.1", p.port)).unwrap();
    kept.write_all(b"GET /1 HTTP/1.1\r\nHost: x\r\n").unwrap();
    p.config(200, "nbthread 2");
    signal(p.pid(), 12);
    let fine = || p.status() == Some(200);
    assert!(wait_for(Duration::from_secs(10), || fine() && worker().is_some_and(|w| w.0 != first && w.1 == 2)));
    kept.write_all(b"\r\n").unwrap();
    let mut text = [0u8; 64];
    let n = kept.read(&mut text).unwrap();
    assert!(text[..n].starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&text[..n]));
    drop(kept);
    assert!(wait_for(Duration::from_secs(10), || !alive(first)), "the old worker ends with its last connection");
    assert!(fine());
}

/// The new configuration wants another socket as well, and a certificate that is none: nothing may be seen of it.
fn no_trace() {
    let p = Place::new();
    let cfg = p.config(200, "");
    assert!(p.run(&["-D", "-f", &cfg, "-p", &p.path("p.pid")]).status.success());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = std::fs::read_to_string(&cfg).unwrap();
    let unix = p.path("other.sock");
    std::fs::write(&cfg, format!("{text} bind unix@{unix}\n bind 127.0.0.1:{port}\n")).unwrap();
    signal(p.pid(), 12);
    let failed = || command(&p.path("s.sock"), "show reloads").is_ok_and(|t| t.contains("1 failed"));
    assert!(wait_for(Duration::from_secs(10), failed));
    let left: Vec<PathBuf> = std::fs::read_dir(p.dir.path())
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .filter(|f| f.to_string_lossy().contains("other"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(p.status(), Some(200));
}

const KEEPALIVED: &str = "global_defs {\n vrrp_version 3\n}\nvrrp_instance VI_1 {\n state BACKUP\n interface eth0\n virtual_router_id 51\n priority 150\n advert_int 0.05\n virtual_ipaddress {\n 10.77.0.100/24\n }\n}\n";

fn holds(lab: &Lab) -> bool {
    lab.addresses(0).contains(&VIP)
}

fn keepalived_stub() {
    let p = Place::new();
    let lab = Lab::new(1).unwrap();
    let cfg = p.config(200, "");
    std::fs::write(p.path("k.conf"), KEEPALIVED).unwrap();
    let args =
        ["-f", &cfg, "-k", &p.path("k.conf"), "-db", "-p", &p.path("h.pid"), "--keepalived-pid", &p.path("k.pid")];
    let node = Node::start(&lab, 0, &tandem(), &args.map(str::to_owned), &p.path("log")).unwrap();
    let log = || std::fs::read_to_string(p.path("log")).unwrap_or_default();
    assert!(wait_for(Duration::from_secs(10), || holds(&lab)), "{}", log());
    assert!(wait_for(Duration::from_secs(5), || read_pid(&p.path("k.pid")).is_some()), "{}", log());
    let stub = read_pid(&p.path("k.pid")).unwrap();
    assert_eq!(comm(stub), "keepalived");
    assert_ne!(stub, node.guardian());
    // keepalived's reload; its SIGUSR1 is a dump and no stop.
    signal(stub, 1);
    assert!(wait_for(Duration::from_secs(5), || log().contains("configuration 2 is in force")), "{}", log());
    signal(stub, 10);
    assert!(wait_for(Duration::from_secs(5), || log().contains("writing /tmp/keepalived.data")), "{}", log());
    assert!(alive(stub) && holds(&lab));
    // keepalived's stop gives the address up, and nothing else.
    signal(stub, 15);
    assert!(wait_for(Duration::from_secs(5), || !holds(&lab) && !Path::new(&p.path("k.pid")).exists()), "{}", log());
    assert!(alive(node.guardian()) && node.worker().is_some());
}

fn two_names() {
    let p = Place::new();
    let lab = Lab::new(1).unwrap();
    let (haproxy, keepalived) = (p.path("haproxy"), p.path("keepalived"));
    for name in [&haproxy, &keepalived] {
        std::os::unix::fs::symlink(std::fs::canonicalize(tandem()).unwrap(), name).unwrap();
    }
    let cfg = p.config(200, "");
    std::fs::write(p.path("k.conf"), KEEPALIVED).unwrap();
    let log = || std::fs::read_to_string(p.path("log")).unwrap_or_default();
    let proxy = ["-f", &cfg, "-db", "-p", &p.path("h.pid")].map(str::to_owned);
    let vrrp = ["-f", &p.path("k.conf"), "-n", "-p", &p.path("k.pid")].map(str::to_owned);
    let serves = || {
        lab.hosts[0]
            .run({
                let port = p.port;
                move || TcpStream::connect(("127.0.0.1", port)).is_ok()
            })
            .unwrap()
    };
    for first_is_proxy in [true, false] {
        let (first, second) = if first_is_proxy {
            ((&haproxy, &proxy), (&keepalived, &vrrp))
        } else {
            ((&keepalived, &vrrp), (&haproxy, &proxy))
        };
        let mut a = Node::start(&lab, 0, first.0, first.1, &p.path("log")).unwrap();
        assert!(wait_for(Duration::from_secs(10), || if first_is_proxy { serves() } else { holds(&lab) }), "{}", log());
        let mut b = Node::start(&lab, 0, second.0, second.1, &p.path("log")).unwrap();
        assert!(wait_for(Duration::from_secs(10), || serves() && holds(&lab)), "{}", log());
        assert!(b.child.try_wait().unwrap().is_none(), "the second one stays, as its daemon would\n{}", log());
        assert_eq!(b.workers(), 0, "one guardian has the work");
        assert_eq!(a.workers(), 1);
        assert!(wait_for(Duration::from_secs(5), || comm(b.guardian())
            == if first_is_proxy { "keepalived" } else { "haproxy" }));
        // The second one stops: its half goes, the other stays.
        b.signal(b.guardian(), 15);
        let gone = || if first_is_proxy { serves() && !holds(&lab) } else { !serves() && holds(&lab) };
        assert!(wait_for(Duration::from_secs(10), gone), "{}", log());
        assert!(wait_for(Duration::from_secs(5), || b.child.try_wait().unwrap().is_some()));
        // And comes back; then the first one goes, and the second goes on alone.
        let mut b = Node::start(&lab, 0, second.0, second.1, &p.path("log")).unwrap();
        assert!(wait_for(Duration::from_secs(10), || serves() && holds(&lab)), "{}", log());
        a.signal(a.guardian(), 15);
        assert!(wait_for(Duration::from_secs(5), || a.child.try_wait().unwrap().is_some()), "{}", log());
        let alone = || if first_is_proxy { !serves() && holds(&lab) } else { serves() && !holds(&lab) };
        assert!(wait_for(Duration::from_secs(10), alone), "{}", log());
        b.signal(b.guardian(), 15);
        assert!(wait_for(Duration::from_secs(5), || b.child.try_wait().unwrap().is_some()), "{}", log());
    }
}
