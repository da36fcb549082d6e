//! Sockets as the file wants them: where connections come from, what they are told, the master CLI.
#![allow(clippy::unwrap_used)]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::Duration;
use support::{Case, Need, Proxy, free_port, tandem, wait_for};

fn main() {
    support::run(&[
        Case { name: "connections_come_from_where_the_file_says", needs: &[], run: sources },
        Case { name: "connections_come_from_the_clients_address", needs: &[Need::Root], run: foreign_sources },
        Case { name: "a_server_is_reached_through_socks4", needs: &[], run: through_socks4 },
        Case { name: "segments_are_signed", needs: &[Need::Root], run: signed },
        Case { name: "the_master_cli_speaks_for_all", needs: &[], run: master },
    ]);
}

const HEAD: &str = "global\n stats socket {dir}/admin.sock level admin\ndefaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 1s\n retries 0\nfrontend f\n bind 127.0.0.1:{port}\n default_backend b\n";

/// A server that answers each request with an empty body, and who asked.
fn origin() -> (u16, mpsc::Receiver<SocketAddr>) {
    let l = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = l.local_addr().unwrap().port();
    let (tx, rx) = mpsc::channel();
    let tx = Mutex::new(tx);
    std::thread::spawn(move || {
        for c in l.incoming().flatten() {
            let _ = tx.lock().unwrap().send(c.peer_addr().unwrap());
            std::thread::spawn(move || {
                let mut c = c;
                let mut lines = BufReader::new(c.try_clone().unwrap()).lines();
                while let Some(Ok(l)) = lines.next() {
                    if l.is_empty() {
                        let _ = c.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                    }
                }
            });
        }
    });
    (port, rx)
}

/// The next one who asked that is not this machine's usual self.
fn next(from: &mpsc::Receiver<SocketAddr>) -> SocketAddr {
    from.recv_timeout(Duration::from_secs(5)).unwrap()
}

fn sources() {
    let (port, from) = origin();
    let low = free_port().min(60_000);
    let p = Proxy::start(
        &tandem(),
        &format!(
            "{HEAD}backend b\n source 127.0.0.9\n http-reuse never\n use-server t if {{ path /t }}\n use-server u if {{ path /u }}\n server s 127.0.0.1:{port}\n server t 127.0.0.1:{port} source 127.0.0.8:{low}-{} interface lo weight 0\n server u 127.0.0.1:{port} source 0.0.0.0 tcp-ut 3s cc reno weight 0\n",
            low + 9
        ),
    );
    assert_eq!(next(&from).ip(), "127.0.0.9".parse::<IpAddr>().unwrap());
    for _ in 0..3 {
        assert!(p.get("/t").starts_with("HTTP/1.1 200"));
        let a = next(&from);
        assert!(a.ip() == "127.0.0.8".parse::<IpAddr>().unwrap() && (low..=low + 9).contains(&a.port()), "{a}");
    }
    assert!(p.get("/u").starts_with("HTTP/1.1 200"));
    assert_eq!(next(&from).ip(), "127.0.0.1".parse::<IpAddr>().unwrap());
}

/// The user is given up and the right to foreign addresses is not.
fn foreign_sources() {
    let (port, from) = origin();
    let head = HEAD.replace("global\n", "global\n user nobody\n");
    let p = Proxy::start(
        &tandem(),
        &format!(
            "{head}backend b\n source 0.0.0.0 usesrc clientip\n use-server t if {{ path /t }}\n server s 127.0.0.1:{port}\n server t 127.0.0.1:{port} source 0.0.0.0 usesrc hdr_ip(x-ip,1) weight 0\n"
        ),
    );
    let _ = next(&from);
    let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    client.bind(&SocketAddr::from(([127, 0, 0, 7], 0)).into()).unwrap();
    client.connect(&p.addr().into()).unwrap();
    let mut c = TcpStream::from(client);
    c.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(next(&from).ip(), "127.0.0.7".parse::<IpAddr>().unwrap());
    let mut head = [0; 12];
    c.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    for ip in ["127.1.2.3", "127.1.2.4"] {
        let text = format!("GET /t HTTP/1.1\r\nHost: x\r\nX-IP: {ip}, 9.9.9.9\r\nConnection: close\r\n\r\n");
        assert!(p.exchange(text.as_bytes()).starts_with("HTTP/1.1 200"));
        assert_eq!(next(&from).ip(), ip.parse::<IpAddr>().unwrap());
    }
}

fn through_socks4() {
    let (port, from) = origin();
    let l = TcpListener::bind("127.0.0.1:0").unwrap();
    let socks = l.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for c in l.incoming().flatten() {
            std::thread::spawn(move || {
                let mut c = c;
                let mut ask = [0; 16];
                c.read_exact(&mut ask).unwrap();
                assert!(ask.starts_with(&[4, 1]) && ask.ends_with(b"HAProxy\0"));
                let to = SocketAddr::from(([ask[4], ask[5], ask[6], ask[7]], u16::from_be_bytes([ask[2], ask[3]])));
                c.write_all(&[0, 0x5a, 0, 0, 0, 0, 0, 0]).unwrap();
                let mut s = TcpStream::connect(to).unwrap();
                let (mut a, mut b) = (c.try_clone().unwrap(), s.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut a, &mut b));
                let _ = std::io::copy(&mut s, &mut c);
            });
        }
    });
    let p = Proxy::start(
        &tandem(),
        &format!(
            "{HEAD}backend b\n server s 127.0.0.1:{port} socks4 127.0.0.1:{socks} check-via-socks4 check inter 50ms\n"
        ),
    );
    let _ = next(&from);
    assert!(p.get("/").starts_with("HTTP/1.1 200"));
    assert!(wait_for(Duration::from_secs(5), || p.cli("show stat").contains("L4OK")));
}

/// Both ends have the key; who has none is not heard.
fn signed() {
    let (port, from) = origin();
    let inner = free_port();
    let p = Proxy::start(
        &tandem(),
        &format!(
            "{HEAD}frontend g\n bind 127.0.0.1:{inner} tcp-md5sig secret defer-accept tfo mss 1000 tcp-ut 5s\n default_backend c\nbackend b\n server s 127.0.0.1:{inner} tcp-md5sig secret\nbackend c\n server s 127.0.0.1:{port}\n"
        ),
    );
    let _ = next(&from);
    assert!(p.get("/").starts_with("HTTP/1.1 200"));
    let stranger = SocketAddr::from(([127, 0, 0, 1], inner));
    assert!(TcpStream::connect_timeout(&stranger, Duration::from_millis(300)).is_err());
}

struct Ended(Child);
impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ask(path: &std::path::Path, line: &str) -> String {
    let Ok(mut s) = UnixStream::connect(path) else { return String::new() };
    let _ = s.write_all(format!("{line}\n").as_bytes());
    let _ = s.shutdown(std::net::Shutdown::Write);
    let mut out = String::new();
    let _ = s.read_to_string(&mut out);
    out
}

fn master() {
    let dir = tempfile::tempdir().unwrap();
    let (file, sock) = (dir.path().join("h.cfg"), dir.path().join("m.sock"));
    std::fs::write(
        &file,
        format!("defaults\n mode http\n timeout client 5s\nfrontend f\n bind 127.0.0.1:{}\n", free_port()),
    )
    .unwrap();
    let mut child = Ended(
        Command::new(tandem())
            .args(["-W", "-S", &format!("{},level,admin,mode,600", sock.display()), "-f"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let workers = || {
        let t = ask(&sock, "show proc");
        t.lines()
            .filter(|l| l.contains(" worker "))
            .map(|l| l.split(' ').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert!(wait_for(Duration::from_secs(10), || ask(&sock, "@1 show info").contains("Name: ")));
    let pid = workers().pop().unwrap();
    assert!(ask(&sock, &format!("@!{pid} show info")).contains(&format!("Pid: {pid}")));
    assert_eq!(ask(&sock, "@9 show info"), "Can't find the target PID matching the prefix '@9'\n");
    let text = ask(&sock, "prompt\n@1\nshow version\n@master\nshow cli level\nquit");
    assert!(text.starts_with(&format!("master> {pid}> ")) && text.contains("master> admin\n"), "{text}");
    assert!(ask(&sock, "reload").starts_with("Success=1\n--\n"));
    std::fs::write(&file, "nonsense\n").unwrap();
    assert!(ask(&sock, "reload").starts_with("Success=0\n--\n"));
    let first = ask(&sock, "show proc");
    assert!(first.lines().nth(1).unwrap().contains(" master          1 [failed: 1] "), "{first}");
    assert!(ask(&sock, "user; show cli level; reload").contains("user\n\nPermission denied"));
    // What this connection may not do, it may not have a worker do.
    assert!(ask(&sock, "user; @1 debug dev loop 1").contains("Permission denied"));
    // SAFETY: a plain system call; the pid is that of a child that was not waited for.
    unsafe { libc::kill(i32::try_from(child.0.id()).unwrap(), libc::SIGINT) };
    assert_eq!(child.0.wait().unwrap().code(), Some(130));
}
