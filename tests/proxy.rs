//! Ring 3: the binary as a black box on loopback; configuration in, bytes out.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};
use support::{Origin, Proxy, free_port, ok, tandem, wait_for};

const HEAD: &str = "global\n stats socket {dir}/admin.sock level admin\n nbthread 2\ndefaults\n mode http\n timeout client 3s\n timeout server 1s\n timeout connect 500ms\n timeout http-request 1s\n log stdout format raw local0\n option httplog\n";

fn proxy(rest: &str) -> Proxy {
    Proxy::start(&tandem(), &format!("{HEAD}{rest}"))
}

#[test]
fn kept_connections_bodies_and_pipelining() {
    let o =
        Origin::start(|r| if r.starts_with("POST") { ok(r.split("\r\n\r\n").nth(1).unwrap()) } else { ok("hello") });
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n server s 127.0.0.1:{}\n",
        o.port
    ));
    // Three requests in one packet, one with a body, on one connection.
    let answer = p.exchange(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nPOST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcdeGET /3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3, "{answer}");
    assert!(answer.contains("\r\n\r\nabcdeHTTP"), "{answer}");
    assert!(answer.ends_with("connection: close\r\n\r\nhello"), "{answer}");
    assert_eq!(o.next(), "GET /ready-check HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(o.next(), "GET /1 HTTP/1.1\r\nhost: x\r\n\r\n");
}

#[test]
fn chunked_bodies_pass_both_ways_however_they_are_cut() {
    let o = Origin::start(|r| {
        let body = r.split_once("\r\n\r\n").unwrap().1;
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}").into_bytes()
    });
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n server s 127.0.0.1:{}\n",
        o.port
    ));
    let mut s = p.connect();
    for part in [
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        "5\r\nhe",
        "llo\r\n",
        "0\r\n",
        "\r\n",
    ] {
        s.write_all(part.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut out = String::new();
    s.read_to_string(&mut out).unwrap();
    assert!(out.ends_with("5\r\nhello\r\n0\r\n\r\n"), "{out}");
}

#[test]
fn what_could_be_understood_in_two_ways_is_refused() {
    let o = Origin::start(|_| ok("x"));
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n server s 127.0.0.1:{}\n",
        o.port
    ));
    for bad in [
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nFoo : bar\r\n\r\n",
        "GET /# HTTP/1.1\r\nHost: a\r\n\r\n",
        "hello\r\n\r\n",
    ] {
        let answer = p.exchange(bad.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 Bad request\r\n"), "{bad:?} -> {answer}");
    }
    // A list of equal lengths reaches the server as one.
    p.exchange(b"POST /l HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\nConnection: close\r\n\r\nabc");
    let got = std::iter::repeat_with(|| o.next()).find(|r| r.starts_with("POST /l")).unwrap();
    assert_eq!(got, "POST /l HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc");
}

#[test]
fn rules_headers_and_answers_of_its_own() {
    let o = Origin::start(|_| ok("x"));
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n option forwardfor\n acl api path_beg /api\n http-request deny if {{ path /no }}\n http-request redirect location /there code 301 if {{ path /go }}\n http-request return status 200 content-type text/plain string hi if {{ path /hi }}\n http-request set-header X-A %[path] if api\n http-request del-header Cookie\n http-response add-header X-B b\n use_backend b if api or {{ method POST }}\n default_backend none\nbackend b\n server s 127.0.0.1:{}\nbackend none\n",
        o.port
    ));
    assert!(p.get("/no").starts_with("HTTP/1.1 403 Forbidden\r\ncontent-length: 93\r\ncache-control: no-cache\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n"));
    assert!(p.get("/go").contains("location: /there\r\n"));
    assert!(p.get("/hi").ends_with("\r\n\r\nhi"));
    assert!(p.get("/else").starts_with("HTTP/1.1 503 "));
    let a = p.exchange(b"GET /api/x HTTP/1.1\r\nHost: h\r\nCookie: a=b\r\nX-A: old\r\nConnection: close\r\n\r\n");
    assert!(a.contains("x-b: b\r\n"), "{a}");
    assert_eq!(o.next(), "GET /api/x HTTP/1.1\r\nhost: h\r\nx-a: /api/x\r\nx-forwarded-for: 127.0.0.1\r\n\r\n");
}

#[test]
fn round_robin_cookies_and_server_states() {
    let (a, b) = (Origin::start(|_| ok("A")), Origin::start(|_| ok("B")));
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n balance roundrobin\n cookie SRV insert indirect nocache\n server a 127.0.0.1:{} cookie ca\n server b 127.0.0.1:{} cookie cb\n",
        a.port, b.port
    ));
    let first = p.get("/");
    let second = p.get("/");
    assert_ne!(first.chars().last(), second.chars().last());
    let stuck = p.exchange(b"GET / HTTP/1.1\r\nHost: x\r\nCookie: SRV=cb; o=1\r\nConnection: close\r\n\r\n");
    assert!(stuck.ends_with('B') && !stuck.contains("set-cookie"), "{stuck}");
    assert!(first.contains("set-cookie: SRV=c") && first.contains("; path=/\r\n"));
    assert_eq!(p.cli("disable server b/b"), "\n");
    for _ in 0..4 {
        assert!(p.get("/").ends_with('A'));
    }
    assert!(p.cli("show servers state b").contains(" b 127.0.0.1 0 1 1 1 "), "{}", p.cli("show servers state b"));
    p.cli("enable server b/b");
    p.cli("set server b/a weight 0");
    assert!(p.get("/").ends_with('B'));
    assert_eq!(p.cli("set server b/zz state maint"), "No such server.\n\n");
}

#[test]
fn health_checks_take_a_server_out_and_bring_it_back() {
    let healthy = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let h = healthy.clone();
    let o = Origin::start(move |r| {
        if r.starts_with("OPTIONS") && !h.load(std::sync::atomic::Ordering::Relaxed) {
            b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n".to_vec()
        } else {
            ok("x")
        }
    });
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n option httpchk\n server s 127.0.0.1:{} check inter 50ms rise 2 fall 2\n",
        o.port
    ));
    let status = || {
        p.cli("show stat b 4 -1").lines().nth(1).unwrap_or_default().split(',').nth(17).unwrap_or_default().to_owned()
    };
    assert!(wait_for(Duration::from_secs(5), || status() == "UP"), "{}", status());
    healthy.store(false, std::sync::atomic::Ordering::Relaxed);
    assert!(wait_for(Duration::from_secs(5), || status().starts_with("DOWN")));
    assert!(p.get("/").starts_with("HTTP/1.1 503 "));
    healthy.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(wait_for(Duration::from_secs(5), || status() == "UP"));
    assert!(p.get("/").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_full_server_queues_and_the_queue_has_a_limit_in_time() {
    let o = Origin::start(|r| {
        if r.contains("/slow") {
            std::thread::sleep(Duration::from_millis(600));
        }
        ok("x")
    });
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n timeout queue 200ms\n default_backend b\nbackend b\n timeout queue 200ms\n server s 127.0.0.1:{} maxconn 1\n",
        o.port
    ));
    std::thread::scope(|s| {
        let slow = s.spawn(|| p.get("/slow"));
        assert!(wait_for(Duration::from_secs(5), || o
            .seen
            .lock()
            .unwrap()
            .try_recv()
            .is_ok_and(|r| r.contains("/slow"))
            || p.cli("show stat b 4 -1").contains("b,s,0,0,1,")));
        let begin = Instant::now();
        assert!(p.get("/queued").starts_with("HTTP/1.1 503 "));
        assert!(begin.elapsed() >= Duration::from_millis(190));
        assert!(slow.join().unwrap().starts_with("HTTP/1.1 200 "));
    });
    assert!(p.get("/after").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_reload_takes_effect_keeps_connections_and_a_bad_file_changes_nothing() {
    let o = Origin::start(|_| ok("x"));
    let text = |extra: &str| {
        format!(
            "{HEAD}frontend f\n bind 127.0.0.1:{{port}}\n {extra}\n default_backend b\nbackend b\n server s 127.0.0.1:{}\n",
            o.port
        )
    };
    let p = Proxy::start(&tandem(), &text("http-response set-header X-V 1"));
    let write = |extra: &str| {
        let t = text(extra).replace("{port}", &p.port.to_string()).replace("{dir}", p.dir.path().to_str().unwrap());
        std::fs::write(p.path("h.cfg"), t).unwrap();
    };
    let mut kept = p.connect();
    let mut ask = |want: &str| {
        kept.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut buf = [0u8; 4096];
        let n = kept.read(&mut buf).unwrap();
        let t = String::from_utf8_lossy(&buf[..n]).into_owned();
        assert!(t.contains(want), "{t}");
    };
    ask("x-v: 1");
    write("http-response set-header X-V 2");
    p.signal(12);
    assert!(wait_for(Duration::from_secs(5), || p.cli("show reloads").starts_with("1 in force")));
    // The very connection that was open is on the new configuration.
    ask("x-v: 2");
    write("nonsense here");
    p.signal(12);
    assert!(wait_for(Duration::from_secs(5), || p.cli("show reloads").contains("1 failed")));
    ask("x-v: 2");
}

#[test]
fn tls_is_terminated_and_spoken_to_servers() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
    let pem = dir.path().join("a.pem");
    std::fs::write(&pem, format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem())).unwrap();
    let pem = pem.to_str().unwrap();
    let o = Origin::start(|_| ok("deep"));
    // One frontend speaks TLS; the other speaks TLS to it, checking its certificate.
    let inner = support::free_port();
    let p = proxy(&format!(
        "frontend outer\n bind 127.0.0.1:{{port}}\n default_backend tls\nbackend tls\n server t 127.0.0.1:{inner} ssl verify required ca-file {pem} sni str(a.example)\nfrontend inner\n bind 127.0.0.1:{inner} ssl crt {pem} alpn h2,http/1.1\n http-response set-header X-Tls %[ssl_fc]\n default_backend b\nbackend b\n server s 127.0.0.1:{}\n",
        o.port
    ));
    let a = p.get("/");
    assert!(a.contains("x-tls: 1\r\n") && a.ends_with("deep"), "{a}");
}

#[test]
fn tcp_mode_relays_and_half_closes() {
    let l = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = l.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut s in l.incoming().flatten() {
            std::thread::spawn(move || {
                let mut all = Vec::new();
                // Reads to the end, then answers: only a half-closed connection gets that far.
                let _ = s.read_to_end(&mut all);
                let _ = s.write_all(&all);
            });
        }
    });
    let p = proxy(&format!(
        "frontend f\n mode tcp\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n mode tcp\n server s 127.0.0.1:{port}\n"
    ));
    let mut s = p.connect();
    let data = vec![7u8; 3_000_000];
    let mut w = s.try_clone().unwrap();
    let sent = data.clone();
    let writer = std::thread::spawn(move || {
        w.write_all(&sent).unwrap();
        w.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    s.read_to_end(&mut back).unwrap();
    writer.join().unwrap();
    assert_eq!(back.len(), data.len());
}

#[test]
fn hostile_clients_do_not_take_the_worker_down() {
    let o = Origin::start(|_| ok("x"));
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n maxconn 200\n default_backend b\nbackend b\n server s 127.0.0.1:{}\n",
        o.port
    ));
    let mut seed = 42u64;
    for round in 0..300 {
        let mut s = p.connect();
        let mut bytes = if round % 2 == 0 { b"GET / HTTP/1.1\r\n".to_vec() } else { Vec::new() };
        for _ in 0..200 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            bytes.push((seed >> 40) as u8);
        }
        let _ = s.write_all(&bytes);
    }
    // Heads larger than the buffer, and bytes one by one.
    let huge = [b"GET / HTTP/1.1\r\nA: ".to_vec(), vec![b'a'; 40_000]].concat();
    assert!(p.exchange(&huge).starts_with("HTTP/1.1 431"));
    let mut slow = p.connect();
    for b in b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" {
        slow.write_all(&[*b]).unwrap();
    }
    let mut out = String::new();
    slow.read_to_string(&mut out).unwrap();
    assert!(out.starts_with("HTTP/1.1 200"), "{out}");
    // More connections than allowed: the rest waits, nobody is dropped.
    let held: Vec<_> = (0..220).map(|_| p.connect()).collect();
    drop(held);
    assert!(wait_for(Duration::from_secs(5), || p.get("/").starts_with("HTTP/1.1 200")));
}

#[test]
fn the_command_line_answers_like_haproxys() {
    let run = |args: &[&str]| std::process::Command::new(tandem()).args(args).output().unwrap();
    let v = run(&["-v"]);
    assert!(String::from_utf8_lossy(&v.stdout).starts_with("HAProxy version 3.4.0 ") && v.status.success());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("h.cfg");
    let path = file.to_str().unwrap();
    std::fs::write(
        &file,
        "global\n maxcon 5\nfrontend f\n mode http\n timeout client 1s\n bind :8080\n default_backend none\n",
    )
    .unwrap();
    let bad = run(&["-c", "-f", path]);
    let err = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert_eq!(bad.status.code(), Some(1));
    assert!(err.contains("[ALERT]    (") && err.contains(&format!("config : parsing [{path}:2] : unknown keyword 'maxcon' in 'global' section; did you mean 'maxconn' maybe ?")), "{err}");
    assert!(err.contains(":7] : unable to find required backend: 'none'"), "{err}");
    std::fs::write(
        &file,
        "frontend f\n mode http\n timeout client 1s\n bind 127.0.0.1:8080\n http-request return status 200\n",
    )
    .unwrap();
    let good = run(&["-c", "-V", "-f", path]);
    assert_eq!(String::from_utf8_lossy(&good.stdout), "Configuration file is valid\n");
    assert!(run(&["-c", "-f", path]).status.success());
    assert_eq!(run(&["-S", "x", "-f", path]).status.code(), Some(1));
}

/// A server that answers once it has the head, and goes on reading: it gets the whole request, and the client's connection goes on.
#[test]
fn an_early_answer_does_not_cut_the_request() {
    let l = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = l.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut s, _) = l.accept().unwrap();
        let mut all = Vec::new();
        let mut part = [0u8; 4096];
        while !all.windows(4).any(|w| w == b"\r\n\r\n") {
            let n = s.read(&mut part).unwrap();
            all.extend_from_slice(&part[..n]);
        }
        s.write_all(&ok("early")).unwrap();
        let head = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let mut body = all.len() - head;
        while body < 200_000 {
            // Not a byte of what comes behind it.
            let most = part.len().min(200_000 - body);
            body += s.read(&mut part[..most]).unwrap();
        }
        let n = s.read(&mut part).unwrap();
        assert!(part[..n].starts_with(b"GET /next"), "the connection is used again");
        s.write_all(&ok("next")).unwrap();
        body
    });
    let p = Proxy::start(
        &tandem(),
        &format!("{HEAD}frontend f\n bind 127.0.0.1:{{port}}\n http-request return status 200 if {{{{ path /ready-check }}}}\n default_backend b\nbackend b\n server a 127.0.0.1:{at}\n").replace("{{", "{").replace("}}", "}"),
    );
    let mut c = p.connect();
    c.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n").unwrap();
    let mut buf = [0u8; 4096];
    let n = c.read(&mut buf).unwrap();
    assert!(buf[..n].ends_with(b"early"), "{:?}", String::from_utf8_lossy(&buf[..n]));
    for _ in 0..200 {
        c.write_all(&[b'x'; 1000]).unwrap();
    }
    c.write_all(b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let n = c.read(&mut buf).unwrap();
    assert!(buf[..n].ends_with(b"next"), "{:?}", String::from_utf8_lossy(&buf[..n]));
    assert_eq!(server.join().unwrap(), 200_000);
}

#[test]
fn maxconn_is_never_exceeded() {
    let p = Proxy::start(
        &tandem(),
        "global\n stats socket {dir}/admin.sock level admin\n nbthread 2\n maxconn 20\ndefaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 1s\nfrontend f\n bind 127.0.0.1:{port}\n http-request return status 200\n",
    );
    let all: Vec<TcpStream> = (0..60).map(|_| p.connect()).collect();
    let current = || -> u64 {
        let text = p.cli("show info");
        text.lines().find_map(|l| l.strip_prefix("CurrConns: ")?.trim().parse().ok()).unwrap()
    };
    assert!(support::wait_for(std::time::Duration::from_secs(3), || current() == 20), "{}", current());
    // Who waits is served when others go.
    drop(all);
    assert!(p.get("/").starts_with("HTTP/1.1 200"));
}

/// `shutdown sessions server` ends an exchange that waits for its server, and the log says who did it.
#[test]
fn sessions_of_a_server_can_be_closed() {
    let l = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = l.local_addr().unwrap().port();
    let (tx, held) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut s in l.incoming().flatten() {
            let mut part = [0u8; 4096];
            let _ = s.read(&mut part);
            let _ = s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
            if tx.send(s).is_err() {
                return;
            }
        }
    });
    let p = Proxy::start(
        &tandem(),
        &format!("global\n stats socket {{dir}}/admin.sock level admin\ndefaults\n mode http\n timeout client 9s\n timeout connect 1s\n log stdout format raw local0\n option httplog\nfrontend f\n bind 127.0.0.1:{{port}}\n http-request return status 200 if {{{{ path /ready-check }}}}\n default_backend b\nbackend b\n server s 127.0.0.1:{at}\n").replace("{{", "{").replace("}}", "}"),
    );
    let mut c = p.connect();
    c.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let _server = held.recv_timeout(std::time::Duration::from_secs(5)).unwrap();
    let mut buf = [0u8; 4096];
    assert!(c.read(&mut buf).unwrap() > 0);
    p.cli("shutdown sessions server b/s");
    let begin = std::time::Instant::now();
    while !matches!(c.read(&mut buf), Ok(0) | Err(_)) {}
    assert!(begin.elapsed() < std::time::Duration::from_secs(2));
    let line = p.line();
    assert!(line.contains(" KD-- "), "{line}");
}

/// A section's own check rules take the place of those in `defaults`.
#[test]
fn checks_of_defaults_are_replaced_and_not_added_to() {
    let o = Origin::start(|r| {
        if r.starts_with("GET /x") { b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec() } else { ok("") }
    });
    let p = Proxy::start(
        &tandem(),
        &format!(
            "global\n stats socket {{dir}}/admin.sock level admin\ndefaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 1s\n option httpchk GET /h\n http-check expect status 200\nfrontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n option httpchk GET /x\n http-check expect status 404\n server s 127.0.0.1:{} check inter 50ms\n",
            o.port
        ),
    );
    let passed = || p.cli("show stat").lines().any(|l| l.starts_with("b,s,") && l.contains(",L7OK,404,"));
    assert!(support::wait_for(std::time::Duration::from_secs(3), passed), "{}", p.cli("show stat"));
}

#[test]
fn a_head_is_too_large_however_it_comes() {
    let p = Proxy::start(
        &tandem(),
        &format!("{HEAD}frontend f\n bind 127.0.0.1:{{port}}\n http-request return status 200\n"),
    );
    let big = format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Big: {}\r\n\r\n", "a".repeat(20_000));
    assert!(p.exchange(big.as_bytes()).starts_with("HTTP/1.1 431"));
    let mut c = p.connect();
    c.write_all(&big.as_bytes()[..9000]).unwrap();
    c.write_all(&big.as_bytes()[9000..]).unwrap();
    let mut out = String::new();
    let _ = c.read_to_string(&mut out);
    assert!(out.starts_with("HTTP/1.1 431"), "{out}");
}

/// A ClientHello that asks for `name`, whole.
fn client_hello(name: &str) -> Vec<u8> {
    let len16 = |n: usize| (n as u16).to_be_bytes();
    let sni = [&len16(name.len() + 3)[..], &[0], &len16(name.len()), name.as_bytes()].concat();
    let ext = [&[0, 0][..], &len16(sni.len()), &sni].concat();
    let body = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0], &len16(ext.len()), &ext].concat();
    [&[0x16, 3, 1][..], &len16(body.len() + 4), &[1, 0], &len16(body.len()), &body].concat()
}

/// A server of a TCP frontend: says its name and what came in first.
fn named_server(name: &'static str) -> u16 {
    let l = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = l.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for s in l.incoming() {
            let mut s = s.unwrap();
            std::thread::spawn(move || {
                let mut buf = [0u8; 1000];
                let n = s.read(&mut buf).unwrap_or(0);
                let _ = s.write_all(format!("{name} {n}").as_bytes());
            });
        }
    });
    port
}

#[test]
fn streams_are_routed_by_what_their_first_bytes_say() {
    let (a, b) = (named_server("A"), named_server("B"));
    let p = Proxy::start(
        &tandem(),
        &format!(
            "global\n stats socket {{dir}}/admin.sock level admin\ndefaults\n mode tcp\n timeout client 3s\n timeout server 3s\n timeout connect 1s\nfrontend f\n bind 127.0.0.1:{{port}}\n tcp-request inspect-delay 2s\n tcp-request content accept if {{ req.ssl_hello_type 1 }}\n tcp-request content accept if {{ req.len ge 4 }} {{ req.payload(0,4) -m bin 01020304 }}\n tcp-request content reject if {{ req.len gt 0 }} !{{ req.payload(0,1) -m bin 16 }} !{{ req.payload(0,1) -m bin 01 }}\n use_backend a if {{ req.ssl_sni -i a.example }}\n default_backend b\nbackend a\n server a 127.0.0.1:{a}\nbackend b\n server b 127.0.0.1:{b}\n"
        ),
    );
    let ask = |parts: &[&[u8]]| {
        let mut s = p.connect();
        let begin = Instant::now();
        for (i, part) in parts.iter().enumerate() {
            if i > 0 {
                // The proxy has to see the first part alone.
                std::thread::sleep(Duration::from_millis(50));
            }
            s.write_all(part).unwrap();
        }
        let mut out = String::new();
        let _ = s.read_to_string(&mut out);
        (out, begin.elapsed())
    };
    let (ha, hb) = (client_hello("A.example"), client_hello("other.example"));
    assert_eq!(ask(&[&ha]).0, format!("A {}", ha.len()));
    // In pieces: what was looked at reaches the server as it came.
    assert_eq!(ask(&[&ha[..3], &ha[3..30], &ha[30..]]).0, format!("A {}", ha.len()));
    assert_eq!(ask(&[&hb]).0, format!("B {}", hb.len()));
    assert_eq!(ask(&[&[1, 2, 3], &[4]]).0, "B 4");
    let (out, took) = ask(&[b"GET / HTTP/1.1\r\n"]);
    assert!(out.is_empty() && took < Duration::from_secs(1), "{out} {took:?}");
    // A client that says nothing is looked at again when the delay is over, and no rule rejects it then.
    let s = p.connect();
    s.shutdown(std::net::Shutdown::Write).unwrap();
    let mut out = String::new();
    (&s).read_to_string(&mut out).unwrap();
    assert_eq!(out, "B 0");
}

#[test]
fn hashes_and_use_server_choose() {
    let servers: Vec<Origin> = ["0", "1", "2", "3"].map(|n| Origin::start(move |_| ok(n))).into();
    let lines: String = servers
        .iter()
        .zip([1, 3, 2, 5])
        .enumerate()
        .map(|(i, (o, w))| format!(" server s{i} 127.0.0.1:{} weight {w}\n", o.port))
        .collect();
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n use_backend ring if {{ hdr(x-ring) 1 }}\n default_backend map\nbackend map\n balance uri\n use-server s2 if {{ path /two }}\n{lines}backend ring\n balance uri\n hash-type consistent\n{lines}"
    ));
    // What HAProxy 2.6 chose for the same keys, numbers and weights.
    let (mut map, mut ring) = (String::new(), String::new());
    for i in 0..12 {
        let path = format!("/dir{}/sub{i}/x?id={i}", i * 7);
        map.push(p.get(&path).pop().unwrap());
        let text = format!("GET {path} HTTP/1.1\r\nHost: x\r\nX-Ring: 1\r\nConnection: close\r\n\r\n");
        ring.push(p.exchange(text.as_bytes()).pop().unwrap());
    }
    assert_eq!((&map[..], &ring[..]), ("233313313301", "133201333130"));
    assert!(p.get("/two").ends_with('2'));
    // A hash insists on its server: full, its queue is waited in, though others are free.
    p.cli("disable server map/s2");
    assert!(!p.get("/two").ends_with('2'));
}

#[test]
fn bodies_are_waited_for_and_answers_edited_behind_everything() {
    let o = Origin::start(|_| ok("x"));
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("404.http");
    std::fs::write(&page, "HTTP/1.1 404 Nope\r\nX-Gone: 1\r\n\r\nnone here").unwrap();
    let page = page.display();
    let p = proxy(&format!(
        "http-errors site\n errorfile 404 {page}\nfrontend f\n bind 127.0.0.1:{{port}}\n tcp-request inspect-delay 1s\n tcp-request content reject unless HTTP\n tcp-request content reject unless REQ_CONTENT\n tcp-request content reject if {{ path /closed }}\n capture request header x-one len 3\n capture response header content-length len 10\n unique-id-format %{{+X}}o\\ %ci-%rt\n unique-id-header X-Id\n http-after-response set-header x-seen \"%[capture.req.hdr(0)]-%[status]\"\n http-after-response del-header x-gone\n http-request return status 404 errorfiles site if {{ path /none }}\n http-request deny deny_status 429 if {{ path /busy }}\n http-request wait-for-body time 300ms if {{ method POST }}\n http-request replace-path /old/(.*) /new/\\1\n http-request set-pathq /q?%[query] if {{ path /p }}\n http-request set-src hdr(x-src) if {{ hdr(x-src) -m found }}\n http-response set-header x-two twice\n default_backend b\nbackend b\n http-request set-timeout server 200ms if {{ path /slow }}\n option forwardfor\n option originalto\n server s 127.0.0.1:{}\n",
        o.port
    ));
    let a = p.get("/none");
    assert!(a.contains("x-seen: -404\r\n") && !a.contains("x-gone") && a.ends_with("none here"), "{a}");
    let ask = |path: &str, more: &str| {
        p.exchange(format!("GET {path} HTTP/1.1\r\nHost: h\r\n{more}Connection: close\r\n\r\n").as_bytes())
    };
    assert_eq!(ask("/closed", ""), "");
    let a = ask("/busy", "X-One: abcdef\r\n");
    assert!(a.starts_with("HTTP/1.1 429 ") && a.contains("x-seen: abc-429\r\n"), "{a}");
    let sent = |path: &str, more: &str| {
        assert!(ask(path, more).starts_with("HTTP/1.1 200 "), "{path}");
        std::iter::repeat_with(|| o.next()).find(|r| !r.contains("ready-check")).unwrap()
    };
    let r = sent("/old/a/b?c=d", "X-Src: 9.8.7.6\r\n");
    assert!(r.starts_with("GET /new/a/b?c=d HTTP/1.1\r\n"), "{r}");
    assert!(r.contains("x-forwarded-for: 9.8.7.6\r\nx-original-to: 127.0.0.1\r\nx-id: 7F000001-"), "{r}");
    assert!(sent("/p?z=1", "").starts_with("GET /q?z=1 HTTP/1.1\r\n"));
    let line = std::iter::repeat_with(|| p.line()).find(|l| l.contains("/p?z=1")).unwrap();
    assert!(line.contains(" {} {1} \"GET /p?z=1 HTTP/1.1\""), "{line}");
    // The body is not there in time.
    let mut s = p.connect();
    s.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab").unwrap();
    let mut out = String::new();
    s.read_to_string(&mut out).unwrap();
    assert!(out.starts_with("HTTP/1.1 408 "), "{out}");
    // It comes in two parts, and the server gets it as one.
    let mut s = p.connect();
    s.write_all(b"POST /two HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 5\r\n\r\nab").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    s.write_all(b"cde").unwrap();
    let mut out = String::new();
    s.read_to_string(&mut out).unwrap();
    assert!(out.starts_with("HTTP/1.1 200 "), "{out}");
    assert!(std::iter::repeat_with(|| o.next()).find(|r| r.starts_with("POST /two")).unwrap().ends_with("abcde"));
}

#[test]
fn checks_speak_a_servers_own_protocol() {
    let l = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = l.local_addr().unwrap().port();
    let good = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let says = good.clone();
    std::thread::spawn(move || {
        for s in l.incoming() {
            let mut s = s.unwrap();
            let mut buf = [0u8; 14];
            if s.read_exact(&mut buf).is_ok() && &buf == b"*1\r\n$4\r\nPING\r\n" {
                let good = says.load(std::sync::atomic::Ordering::Relaxed);
                let _ = s.write_all(if good { b"+PONG\r\n" } else { b"-LOADING\r\n" });
            }
        }
    });
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n mode tcp\n option redis-check\n server s 127.0.0.1:{port} check inter 100ms rise 1 fall 1\n"
    ).replace("frontend f\n", "frontend f\n mode tcp\n"));
    let has = |text: &str| wait_for(Duration::from_secs(5), || p.cli("show stat").contains(text));
    assert!(has("L7OK"), "{}", p.cli("show stat"));
    good.store(false, std::sync::atomic::Ordering::Relaxed);
    assert!(has("L7STS"), "{}", p.cli("show stat"));
    assert!(p.cli("show stat").contains("-LOADING"));
}

#[test]
fn a_server_that_comes_back_warms_up_and_minconn_follows_the_load() {
    let (a, b) = (Origin::start(|_| ok("A")), Origin::start(|_| ok("B")));
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n balance roundrobin\n server a 127.0.0.1:{} slowstart 60s\n server b 127.0.0.1:{}\n",
        a.port, b.port
    ));
    let hits = || (0..20).filter(|_| p.get("/").ends_with('A')).count();
    // Warm from the start.
    assert_eq!(hits(), 10);
    p.cli("disable server b/a");
    assert_eq!(hits(), 0);
    p.cli("enable server b/a");
    let cold = hits();
    assert!(cold <= 2, "{cold}");
    let throttle = p.cli("show stat");
    let row = throttle.lines().find(|l| l.starts_with("b,a,")).unwrap();
    assert!((1..10).contains(&row.split(',').nth(29).unwrap().parse::<u32>().unwrap()), "{row}");
}

#[test]
fn cookies_of_the_servers_are_rewritten_or_prefixed() {
    let set = |r: &str| {
        let seen = r.lines().find(|l| l.starts_with("cookie:")).unwrap_or("none").to_owned();
        format!("HTTP/1.1 200 OK\r\nSet-Cookie: ID=abc; path=/\r\nX-Seen: {seen}\r\nContent-Length: 0\r\n\r\n")
            .into_bytes()
    };
    let (a, b) = (Origin::start(set), Origin::start(set));
    let lines = format!(" server a 127.0.0.1:{} cookie ca\n server b 127.0.0.1:{} cookie cb\n", a.port, b.port);
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n use_backend r if {{ path /r }}\n use_backend p if {{ path /p }}\n default_backend n\nbackend r\n cookie ID rewrite\n{lines}backend p\n cookie ID prefix\n{lines}backend n\n cookie ID\n{lines}"
    ));
    assert!(p.get("/r").contains("set-cookie: ID=ca; path=/\r\n"));
    assert!(p.get("/p").contains("set-cookie: ID=ca~abc; path=/\r\n"));
    assert!(p.get("/n").contains("set-cookie: ID=abc; path=/\r\n"));
    for _ in 0..3 {
        let ask = |path: &str, cookie: &str| {
            p.exchange(
                format!("GET {path} HTTP/1.1\r\nHost: h\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n").as_bytes(),
            )
        };
        let answer = ask("/p", "x=1; ID=cb~abc; y=2");
        assert!(answer.contains("x-seen: cookie: x=1; ID=abc; y=2\r\n"), "{answer}");
        assert!(answer.contains("set-cookie: ID=cb~abc"), "{answer}");
        assert!(ask("/r", "ID=cb").contains("set-cookie: ID=cb"));
    }
}

#[test]
fn connections_that_are_not_shared_stay_with_their_client() {
    // Each answer says which request of its connection it is.
    let l = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = l.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for s in l.incoming() {
            let mut s = s.unwrap();
            std::thread::spawn(move || {
                let (mut n, mut seen) = (0, Vec::new());
                let mut buf = [0u8; 1000];
                while let Ok(k @ 1..) = s.read(&mut buf) {
                    seen.extend_from_slice(&buf[..k]);
                    while let Some(end) = seen.windows(4).position(|w| w == b"\r\n\r\n") {
                        seen.drain(..end + 4);
                        n += 1;
                        s.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n#{n}").as_bytes()).unwrap();
                    }
                }
            });
        }
    });
    let p = proxy(&format!(
        "frontend b\n bind 127.0.0.1:{{port}}\n http-response set-header x-front 1\n http-response del-header content-length\n http-request set-header transfer-encoding chunked\n http-request set-timeout tarpit 0 if {{ path /trap }}\n http-request tarpit if {{ path /trap }}\n http-request set-src hdr(x-src) if {{ hdr(x-src) -m found }}\n default_backend b\nbackend b\n http-reuse never\n http-request capture hdr(host) id 99999999999\n server s 127.0.0.1:{port}\n"
    ));
    // A backend of the frontend's name does not hide the frontend's rules, nor does a slot that is not there matter.
    assert!(p.get("/").contains("x-front: 1\r\n"));
    // Nor can rules take away what says where a message ends.
    assert!(p.get("/").contains("content-length: 2\r\n"));
    assert!(p.get("/trap").starts_with("HTTP/1.1 500 "));
    let twice = b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    for _ in 0..3 {
        let answer = p.exchange(twice);
        assert!(answer.contains("#1HTTP") && answer.ends_with("#2"), "{answer}");
    }
    // Who is not told of the client does not care for its name.
    let other =
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\nX-Src: 9.9.9.9\r\nConnection: close\r\n\r\n";
    assert!(p.exchange(other).ends_with("#2"));
}

/// A name server whose answers can be changed; it knows addresses of names only.
struct Names {
    port: u16,
    zone: std::sync::Arc<std::sync::Mutex<Zone>>,
}

type Zone = Vec<(&'static str, [u8; 4])>;

impl Names {
    fn start() -> Self {
        use hickory_proto::op::{Message, MessageType, ResponseCode};
        use hickory_proto::rr::{RData, Record, RecordType, rdata};
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let zone = std::sync::Arc::new(std::sync::Mutex::new(Zone::new()));
        let known = zone.clone();
        std::thread::spawn(move || {
            let mut buf = [0u8; 1024];
            while let Ok((n, from)) = socket.recv_from(&mut buf) {
                let mut m = Message::from_vec(&buf[..n]).unwrap();
                let q = m.queries[0].clone();
                let name = q.name().to_string();
                m.metadata.message_type = MessageType::Response;
                let zone = known.lock().unwrap();
                let those: Vec<_> = zone.iter().filter(|(k, _)| *k == name).collect();
                if those.is_empty() {
                    m.metadata.response_code = ResponseCode::NXDomain;
                }
                for (_, ip) in those.iter().filter(|_| q.query_type() == RecordType::A) {
                    m.add_answer(Record::from_rdata(q.name().clone(), 5, RData::A(rdata::A((*ip).into()))));
                }
                socket.send_to(&m.to_vec().unwrap(), from).unwrap();
            }
        });
        Self { port, zone }
    }
    fn set(&self, zone: &[(&'static str, [u8; 4])]) {
        *self.zone.lock().unwrap() = zone.to_vec();
    }
}

#[test]
fn servers_follow_their_names() {
    let first = Origin::start(|_| ok("first"));
    // The same port at another address.
    let second = TcpListener::bind(("127.0.0.2", first.port)).unwrap();
    std::thread::spawn(move || {
        for c in second.incoming() {
            let mut c = c.unwrap();
            let mut buf = [0u8; 4096];
            while matches!(c.read(&mut buf), Ok(1..)) {
                c.write_all(&ok("second")).unwrap();
            }
        }
    });
    let names = Names::start();
    let p = proxy(&format!(
        "resolvers r\n nameserver n 127.0.0.1:{}\n hold valid 50ms\n hold nx 50ms\n timeout resolve 50ms\n\
         frontend f\n bind 127.0.0.1:{{port}}\n use_backend t if {{ path_beg /t }}\n default_backend b\n\
         backend b\n server s app.test:{port} resolvers r init-addr none\n\
         backend t\n server-template w 3 many.test:{port} resolvers r init-addr none\n",
        names.port,
        port = first.port,
    ));
    assert!(p.get("/").starts_with("HTTP/1.1 503"));
    let soon = |holds: &dyn Fn() -> bool| wait_for(Duration::from_secs(5), holds);
    names.set(&[("app.test.", [127, 0, 0, 1])]);
    assert!(soon(&|| p.get("/").ends_with("first")));
    names.set(&[("app.test.", [127, 0, 0, 2])]);
    assert!(soon(&|| p.get("/").ends_with("second")), "a pooled connection to the old place was used");
    names.set(&[("many.test.", [127, 0, 0, 1]), ("many.test.", [127, 0, 0, 2])]);
    assert!(soon(&|| p.get("/").starts_with("HTTP/1.1 503")), "a name that is gone still led somewhere");
    assert!(soon(&|| p.get("/t").starts_with("HTTP/1.1 200")));
    let state = p.cli("show servers state t");
    let those: Vec<&str> = state.lines().filter(|l| l.contains(" t ")).map(|l| l.split(' ').nth(4).unwrap()).collect();
    assert_eq!(those, ["127.0.0.1", "127.0.0.2", "-"], "{state}");
    // Another name, while it serves on where it is.
    names.set(&[("app.test.", [127, 0, 0, 1]), ("other.test.", [127, 0, 0, 1])]);
    assert!(soon(&|| p.get("/").ends_with("first")));
    let said = p.cli("set server b/s fqdn other.test");
    assert_eq!(said.trim(), "b/s changed its FQDN from app.test to other.test by 'stats socket command'");
    assert!(p.get("/").ends_with("first"));
    names.set(&[("other.test.", [127, 0, 0, 2])]);
    assert!(soon(&|| p.get("/").ends_with("second")));
    let tallies = p.cli("show resolvers r");
    let of = |name: &str| -> u64 {
        tallies.lines().find_map(|l| l.trim().strip_prefix(&format!("{name}:"))?.trim().parse().ok()).unwrap()
    };
    assert!(of("sent") > 10 && of("valid") > 3 && of("nx") > 0 && of("update") >= 4 && of("invalid") == 0, "{tallies}");
    assert_eq!(p.cli("show resolvers nobody").trim(), "Can't find that resolvers section");
}

#[test]
fn a_client_that_was_silent_for_long_is_still_heard_and_still_timed_out() {
    let o = Origin::start(|_| ok("hello"));
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n timeout http-keep-alive 4s\n default_backend b\nbackend b\n server s 127.0.0.1:{}\n",
        o.port
    ));
    let mut c = p.connect();
    let ask = |c: &mut TcpStream| {
        c.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut buf = [0u8; 1024];
        let n = c.read(&mut buf).unwrap();
        assert!(buf[..n].ends_with(b"hello"));
    };
    ask(&mut c);
    // Long enough to be taken off the event loop: the silence is what is tried here.
    std::thread::sleep(Duration::from_millis(2500));
    ask(&mut c);
    let begun = Instant::now();
    assert_eq!(c.read(&mut [0u8; 16]).unwrap(), 0);
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(3900) && took < Duration::from_millis(5500), "{took:?}");
}

#[test]
fn pages_of_the_backend_come_before_those_of_the_frontend() {
    let p = proxy(
        "frontend f\n bind 127.0.0.1:{port}\n http-error status 400 content-type text/plain string fe400\n http-error status 403 content-type text/plain string fe403\n \
         http-error status 503 content-type text/plain string fe503\n http-request deny if { path /deny }\n default_backend b\n\
         backend b\n http-error status 503 content-type text/plain string be503\n",
    );
    assert!(p.get("/").ends_with("be503"));
    assert!(p.get("/deny").ends_with("fe403"));
    assert!(p.exchange(b"GET\r\n\r\n").ends_with("fe400"));
}

#[test]
fn a_rule_replaces_the_whole_of_what_it_matches() {
    let o = Origin::start(ok);
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n http-request replace-header X-A b(.) <\\1>\n http-request replace-path /old(.*) /new\\1\n default_backend b\n\
         backend b\n use-server down if TRUE\n use-server up if TRUE\n server other 127.0.0.1:1\n server down 127.0.0.1:1 disabled\n server up 127.0.0.1:{}\n",
        o.port
    ));
    let got = p.exchange(b"GET /x/old/y?q HTTP/1.1\r\nHost: x\r\nX-A: abcd\r\nConnection: close\r\n\r\n");
    assert!(got.contains("GET /new/y?q HTTP/1.1\r\n"), "{got}");
    assert!(got.contains("x-a: <c>\r\n"), "{got}");
}

#[test]
fn what_may_be_tried_again_is_tried_again_with_its_body() {
    // Two servers that fail each in its way, and one that does not.
    let failing = |answer: &'static [u8]| {
        let l = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = l.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for c in l.incoming() {
                let mut c = c.unwrap();
                let mut buf = [0u8; 4096];
                let _ = c.read(&mut buf);
                let _ = c.write_all(answer);
            }
        });
        port
    };
    let (silent, busy) = (failing(b""), failing(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"));
    let good = Origin::start(|r| ok(r.split("\r\n\r\n").nth(1).unwrap()));
    let servers = format!(
        "server a 127.0.0.1:{silent}\n server b 127.0.0.1:{busy}\n server c 127.0.0.1:{}\n balance roundrobin\n option redispatch 1\n retries 3\n",
        good.port
    );
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n http-request disable-l7-retry if {{ path /once }}\n use_backend plain if {{ path /plain }}\n default_backend b\n\
         backend b\n retry-on all-retryable-errors\n {servers}backend plain\n {servers}"
    ));
    for _ in 0..6 {
        let got = p.exchange(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody");
        assert!(got.starts_with("HTTP/1.1 200") && got.ends_with("body"), "{got}");
    }
    for path in ["/once", "/plain"] {
        let mut answers: Vec<String> = (0..3).map(|_| p.get(path)[9..12].to_owned()).collect();
        answers.sort();
        assert_eq!(answers, ["200", "502", "503"], "{path}");
    }
}

#[test]
fn persistence_is_ignored_or_forced_by_rule_and_errors_lead_elsewhere() {
    let (a, b) = (Origin::start(|_| ok("a")), Origin::start(|_| ok("b")));
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n errorloc303 403 http://else.where/\n http-request deny if {{ path /deny }}\n default_backend b\n\
         backend b\n cookie S insert indirect\n ignore-persist if {{ path /any }}\n force-persist if {{ path /forced }}\n balance first\n \
         server a 127.0.0.1:{} cookie a\n server b 127.0.0.1:{} cookie b disabled\n",
        a.port, b.port
    ));
    let with = |path: &str, cookie: &str| {
        p.exchange(
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nCookie: S={cookie}\r\nConnection: close\r\n\r\n").as_bytes(),
        )
    };
    assert!(with("/", "b").ends_with('a'));
    assert!(with("/forced", "b").ends_with('b'));
    p.cli("enable server b/b");
    assert!(with("/", "b").ends_with('b'));
    assert!(with("/any", "b").ends_with('a'));
    let got = with("/deny", "a");
    assert!(got.starts_with("HTTP/1.1 303 See Other") && got.contains("location: http://else.where/\r\n"), "{got}");
}

#[test]
fn traffic_tells_of_a_server_and_others_follow_it() {
    // Checks only connect, and pass: what takes it down is what it answers.
    let bad = Origin::start(|_| b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_vec());
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n default_backend b\n\
         backend b\n server s 127.0.0.1:{} check inter 500ms rise 1000 observe layer7 error-limit 5 on-error mark-down\n\
         backend t\n server follows 127.0.0.1:1 track b/s\n server also 127.0.0.1:1 track t/follows\n",
        bad.port
    ));
    let status = || {
        let all = p.cli("show stat");
        ["b,s,", "t,follows,", "t,also,"].map(|s| {
            let line = all.lines().find(|l| l.starts_with(s)).unwrap();
            line.split(',').nth(17).unwrap().split(' ').next().unwrap().to_owned()
        })
    };
    assert_eq!(status(), ["UP", "UP", "UP"].map(str::to_owned));
    // One is the request that waited for the start.
    for _ in 0..3 {
        assert!(p.get("/").starts_with("HTTP/1.1 500"));
    }
    assert_eq!(status()[0], "UP");
    assert!(wait_for(Duration::from_secs(5), || {
        p.get("/");
        status().iter().all(|s| s == "DOWN")
    }));
    assert!(p.get("/").starts_with("HTTP/1.1 503"));
}

#[test]
fn an_early_answer_that_breaks_off_does_not_leave_the_rest_of_the_request_behind() {
    let l = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = l.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for c in l.incoming() {
            let mut c = c.unwrap();
            let mut buf = [0u8; 4096];
            let _ = c.read(&mut buf);
            let _ = c.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n");
        }
    });
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n server s 127.0.0.1:{port}\n"
    ));
    // What looks like a second request is the body of the first.
    let mut c = p.connect();
    c.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n0123456789").unwrap();
    let mut got = vec![0u8; 12];
    c.read_exact(&mut got).unwrap();
    assert_eq!(got, b"HTTP/1.1 502");
    let _ = c.write_all(b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut rest = String::new();
    let _ = c.read_to_string(&mut rest);
    assert!(rest.contains("connection: close") && !rest.contains("HTTP/1.1"), "{rest}");
}

#[test]
fn a_rule_may_close_either_connection() {
    let o = Origin::start(|_| b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok".to_vec());
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n http-response set-header Connection close\n http-request set-header Connection close\n default_backend b\nbackend b\n server s 127.0.0.1:{}\n",
        o.port
    ));
    let got = p.exchange(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(got.matches("HTTP/1.1 200").count(), 1, "{got}");
    assert_eq!(got.matches("connection: close").count(), 1, "{got}");
    assert!(got.ends_with("connection: close\r\n\r\nok"), "{got}");
    assert!(wait_for(Duration::from_secs(2), || o.next().contains("connection: close")));
}

#[test]
fn names_are_written_as_an_application_insists_on() {
    let o = Origin::start(|_| b"HTTP/1.1 200 OK\r\nX-Some: x-some: v\r\nContent-Length: 0\r\n\r\n".to_vec());
    let p = Proxy::start(
        &tandem(),
        &format!(
            "global\n h1-case-adjust x-some X-SOME\n h1-case-adjust content-length Content-Length\n h1-case-adjust host HOST\ndefaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 1s\nfrontend f\n bind 127.0.0.1:{{port}}\n option h1-case-adjust-bogus-client\n use_backend plain if {{ path /plain }}\n http-request return status 204 hdr x-some own if {{ path /own }}\n default_backend b\nbackend b\n option h1-case-adjust-bogus-server\n server s 127.0.0.1:{}\nbackend plain\n server s 127.0.0.1:{}\n",
            o.port, o.port
        ),
    );
    while o.next().starts_with("GET /ready-check") {
        let text = p.get("/a");
        assert!(text.contains("\r\nX-SOME: x-some: v\r\n") && text.contains("\r\nContent-Length: 0\r\n"), "{text}");
    }
    assert!(p.get("/own").contains("\r\nX-SOME: own\r\n"));
    p.get("/plain");
    assert!(o.next().contains("\r\nhost: "));
    p.get("/b");
    assert!(o.next().contains("\r\nHOST: "));
}

/// What [`numbered`] told.
fn conn(text: String) -> String {
    text.split("x-conn: ").nth(1).unwrap().split("\r\n").next().unwrap().to_owned()
}

/// A server that tells which of its connections a request came over, and how many there were.
fn numbered() -> (u16, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let conns = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let l = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = l.local_addr().unwrap().port();
    let count = conns.clone();
    std::thread::spawn(move || {
        for c in l.incoming().flatten() {
            let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            std::thread::spawn(move || {
                let mut c = c;
                let mut buf = Vec::new();
                let mut b = [0; 1];
                while matches!(c.read(&mut b), Ok(1)) {
                    buf.push(b[0]);
                    if buf.ends_with(b"\r\n\r\n") || buf.ends_with(b"\r\n\r\nx") {
                        if buf.starts_with(b"POST") && !buf.ends_with(b"x") {
                            continue;
                        }
                        buf.clear();
                        let _ = c.write_all(
                            format!("HTTP/1.1 200 OK\r\nX-Conn: {n}\r\nContent-Length: 0\r\n\r\n").as_bytes(),
                        );
                    }
                }
            });
        }
    });
    (port, conns)
}

/// A client's first request takes a connection that was used again before, or a new one.
#[test]
fn aggressive_reuse_takes_proven_connections_only() {
    let (port, conns) = numbered();
    let p = Proxy::start(
        &tandem(),
        &format!(
            "global\n nbthread 1\ndefaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 1s\nfrontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n http-reuse aggressive\n server s 127.0.0.1:{port}\n"
        ),
    );
    // The proxy was waited for with one request: its connection has served once.
    let post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx";
    assert_eq!(conn(p.exchange(post)), "1");
    // Second requests use any of them, and with that it is good enough.
    let two = p.exchange(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let again = two.rsplit_once("x-conn: ").map(|(_, n)| n.lines().next().unwrap().to_owned()).unwrap();
    assert_eq!(conn(p.exchange(post)), again, "{two}");
    assert_eq!(conns.load(std::sync::atomic::Ordering::Relaxed), 3);
}

#[test]
fn invalid_messages_are_kept_byte_for_byte() {
    let origin = Origin::start(|r| {
        if r.contains("/junk") { b"HTTP/1.1 200 OK\r\nX y: bad\r\n\r\n\x01\xe9".to_vec() } else { ok("x") }
    });
    let p = Proxy::start(
        &tandem(),
        &format!(
            "global\n stats socket {{dir}}/admin.sock level admin\ndefaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 1s\nfrontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n server s1 127.0.0.1:{}\n",
            origin.port
        ),
    );
    p.exchange(b"GET / HTTP/1.1\r\nHost: x\r\nBad header: \x01y\r\n\r\n");
    p.get("/junk");
    let said = p.cli("show errors");
    assert!(
        said.contains("] frontend f (#2): invalid request\n  backend <NONE> (#-1), server <NONE> (#-1), event #"),
        "{said}"
    );
    assert!(said.contains("len 43, error at position 28\n  \n  00000  GET / HTTP/1.1\\r\\n\n  00016  Host: x\\r\\n\n  00025  Bad header: \\x01y\\r\\n\n  00041  \\r\\n\n"), "{said}");
    assert!(said.contains("] backend b (#3): invalid response\n  frontend f (#2), server s1 (#1), event #"), "{said}");
    assert!(said.contains("error at position 18\n  \n  00000  HTTP/1.1 200 OK\\r\\n\n  00017  X y: bad\\r\\n\n  00027  \\r\\n\n  00029  \\x01\\xE9\n"), "{said}");
    assert!(!p.cli("show errors b").contains("invalid request"));
    assert!(!p.cli("show errors -1 request").contains("invalid response"));
    assert_eq!(p.cli("show errors zz").trim(), "No such proxy.");
}

#[test]
fn statistics_say_what_each_value_is() {
    let p = Proxy::start(
        &tandem(),
        "global\n stats socket {dir}/admin.sock level admin\ndefaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 1s\nfrontend f\n bind 127.0.0.1:{port}\n default_backend b\nbackend b\n server s1 127.0.0.1:1 cookie a\n",
    );
    let typed = p.cli("show stat typed");
    for line in [
        "F.2.0.0.pxname.1:KNSV:str:f\n",
        "S.3.1.1.svname.1:KNSV:str:s1\n",
        "S.3.1.74.cookie.1:CNSV:str:a\n",
        "B.3.0.1.svname.1:KNSV:str:BACKEND\n",
    ] {
        assert!(typed.contains(line), "{line} is not in {typed}");
    }
    let json: serde_json::Value = serde_json::from_str(&p.cli("show stat b 4 -1 json")).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 1);
    assert_eq!(json[0][1]["value"]["value"], "s1");
    assert_eq!(json[0][1]["tags"]["nature"], "Name");
    let info = p.cli("show info typed");
    assert!(info.starts_with("0.Name.1:POSV:str:HAProxy\n"), "{info}");
    let json: serde_json::Value = serde_json::from_str(&p.cli("show info json")).unwrap();
    assert_eq!(json[0]["value"]["value"], "HAProxy");
}

#[test]
fn connections_are_shared_by_name() {
    let seen = |more: &str| {
        let (port, _) = numbered();
        let p = Proxy::start(
            &tandem(),
            &format!(
                "global\n nbthread 1\ndefaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 1s\nfrontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n http-reuse always\n server s 127.0.0.1:{port} pool-conn-name hdr(x-name){more}\n"
            ),
        );
        let over = |name: &str| {
            conn(p.exchange(
                format!("GET / HTTP/1.1\r\nHost: x\r\nX-Name: {name}\r\nConnection: close\r\n\r\n").as_bytes(),
            ))
        };
        ["a", "b", "a", "b", "c", "a", "c"].into_iter().map(over).collect::<Vec<String>>()
    };
    // The first connection is that of the request without a name that the proxy was waited for with.
    assert_eq!(seen(" pool-low-conn 9"), ["1", "2", "1", "2", "3", "1", "3"]);
    // One at a time is all that was ever needed, and the first one is kept for that.
    assert_eq!(seen(""), ["1", "2", "3", "4", "5", "6", "7"]);
}

/// `abns@` has its name filled up with zeros, `abnsz@` as it is: other programs have to find them.
#[test]
fn abstract_sockets_are_called_as_the_reference_calls_them() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixStream};
    let name = format!("tandem-test-{}", std::process::id());
    let p = Proxy::start(
        &tandem(),
        &format!(
            "defaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 1s\nlisten l\n bind 127.0.0.1:{{port}}\n server a abns@{name}\nfrontend x\n bind abns@{name}\n bind abnsz@{name}\n http-request return status 200 hdr x-here 1\n"
        ),
    );
    assert!(p.get("/").contains("x-here: 1\r\n"));
    for called in [name.clone(), format!("{name}{}", "\0".repeat(107 - name.len()))] {
        let mut c = UnixStream::connect_addr(&SocketAddr::from_abstract_name(&called).unwrap()).unwrap();
        c.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        c.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("x-here: 1\r\n"), "{answer}");
    }
}

/// A connection that tells of its client is another client's only if it tells the same.
#[test]
fn connections_that_tell_of_clients_are_not_mixed_up() {
    let (port, _) = numbered();
    let other = TcpListener::bind(("127.0.0.2", port)).unwrap();
    std::thread::spawn(move || {
        for s in other.incoming().flatten() {
            std::thread::spawn(move || {
                let mut s = s;
                let mut b = [0; 4096];
                while matches!(s.read(&mut b), Ok(1..)) {
                    let _ = s.write_all(&ok("another"));
                }
            });
        }
    });
    let p = Proxy::start(
        &tandem(),
        &format!(
            "global\n nbthread 1\ndefaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 1s\nfrontend f\n bind 127.0.0.1:{{port}}\n http-request set-dst hdr(x-to) if {{ hdr(x-to) -m found }}\n use_backend anywhere if {{ hdr(x-to) -m found }}\n default_backend b\nbackend b\n http-reuse always\n server s 127.0.0.1:{port} send-proxy\nbackend anywhere\n http-reuse always\n server s 0.0.0.0:{port}\n"
        ),
    );
    let twice = b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let over = |bytes: &[u8]| {
        let all = p.exchange(bytes);
        all.split("x-conn: ").skip(1).map(|t| t.split("\r\n").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (first, second) = (over(twice), over(twice));
    assert_eq!((&first[0], &second[0]), (&first[1], &second[1]));
    assert_ne!(first[0], second[0]);
    // Where it leads is part of what it is.
    let to = |ip: &str| {
        p.exchange(format!("GET / HTTP/1.1\r\nHost: h\r\nX-To: {ip}\r\nConnection: close\r\n\r\n").as_bytes())
    };
    let a = conn(to("127.0.0.1"));
    assert!(to("127.0.0.2").ends_with("another"));
    assert_eq!(conn(to("127.0.0.1")), a);
    assert!(to("127.0.0.2").ends_with("another"));
}

#[test]
fn a_unix_server_is_told_who_the_client_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let l = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for s in l.incoming().flatten() {
            let mut s = s;
            let mut seen = Vec::new();
            let mut b = [0; 1];
            while !seen.ends_with(b"\r\n\r\n") && matches!(s.read(&mut b), Ok(1)) {
                seen.push(b[0]);
            }
            let line = String::from_utf8_lossy(&seen).lines().next().unwrap_or_default().to_owned();
            let _ = s.write_all(&ok(&line));
        }
    });
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n server s unix@{} send-proxy\n",
        path.display()
    ));
    let answer = p.get("/");
    assert!(answer.contains("\r\n\r\nPROXY TCP4 127.0.0.1 127.0.0.1 "), "{answer}");
}

/// A thread that has no idle connection asks the one that had one last.
#[test]
fn threads_share_idle_connections() {
    let (port, conns) = numbered();
    let start = |shared: &str| {
        Proxy::start(
            &tandem(),
            &format!(
                "global\n nbthread 16\n tune.idle-pool.shared {shared}\ndefaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 1s\nfrontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n http-reuse always\n server s 127.0.0.1:{port}\n"
            ),
        )
    };
    let made = || conns.load(std::sync::atomic::Ordering::Relaxed);
    let p = start("on");
    // Clients come to nearly all threads; a few may find the one that has the connection late.
    (0..40).for_each(|_| assert!(p.get("/").contains("x-conn: ")));
    let shared = made();
    assert!(shared < 8, "{shared}");
    drop(p);
    let p = start("off");
    (0..40).for_each(|_| assert!(p.get("/").contains("x-conn: ")));
    let own = made() - shared;
    assert!((8..=16).contains(&own), "{own}");
}

/// Long connections are spread so that no thread has more than 1.25 times its share.
#[test]
fn no_thread_carries_much_more_than_its_share() {
    const THREADS: usize = 4;
    const CLIENTS: usize = 240;
    // A CPU that this process may run on.
    let mine = std::fs::read_to_string("/proc/self/status").unwrap();
    let list = mine.split("Cpus_allowed_list:\t").nth(1).unwrap();
    let cpu = list.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    let p = Proxy::start(
        &tandem(),
        &"global\n nbthread 4\n cpu-map 1/1 {cpu}\ndefaults\n mode http\n timeout client 30s\n timeout server 5s\n timeout connect 1s\nfrontend f\n bind 127.0.0.1:{port}\n http-request return status 200\n"
            .replace("{cpu}", cpu),
    );
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| p.connect()).collect();
    // The worker is a child of the guardian; its threads' event loops list what they watch.
    let task = |pid: u32| {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        threads
            .map(|t| t.path())
            .filter(|t| std::fs::read_to_string(t.join("comm")).is_ok_and(|c| c.starts_with("haproxy/")))
            .count()
    };
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", p.child.id())).unwrap();
    let worker = children
        .split_whitespace()
        .filter_map(|c| c.parse().ok())
        .chain([p.child.id()])
        .find(|c| task(*c) == THREADS)
        .unwrap();
    let watched = |info: String| info.lines().filter(|l| l.starts_with("tfd:")).count();
    let loads = || {
        let fds = std::fs::read_dir(format!("/proc/{worker}/fdinfo")).unwrap().flatten();
        let mut all: Vec<usize> = fds.filter_map(|f| std::fs::read_to_string(f.path()).ok()).map(watched).collect();
        all.sort_unstable();
        all.split_off(all.len() - THREADS)
    };
    // Each loop watches a few descriptors of its own.
    assert!(wait_for(Duration::from_secs(5), || loads().iter().sum::<usize>() >= CLIENTS), "{:?}", loads());
    let loads = loads();
    assert!(loads.iter().all(|n| *n * 4 <= CLIENTS / THREADS * 5 + 40), "{loads:?}");
    assert!(loads.iter().all(|n| *n * 5 >= CLIENTS / THREADS * 4), "{loads:?}");
    // And the first thread runs where it was told to.
    let allowed =
        std::fs::read_dir(format!("/proc/{worker}/task")).unwrap().flatten().map(|t| t.path()).find_map(|t| {
            (std::fs::read_to_string(t.join("comm")).ok()?.trim() == "haproxy/0")
                .then(|| std::fs::read_to_string(t.join("status")).ok())?
        });
    assert!(allowed.unwrap().contains(&format!("Cpus_allowed_list:\t{cpu}\n")));
    drop(clients);
}

#[test]
fn statistics_leave_out_what_is_not_wanted_and_count_what_was_spliced() {
    let body = "x".repeat(1 << 20);
    let o = Origin::start(move |_| ok(&body));
    let p = Proxy::start(
        &tandem(),
        &format!(
            "global\n stats socket {{dir}}/admin.sock level admin\ndefaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 1s\nfrontend f\n bind 127.0.0.1:{{port}}\n stats uri /st\n stats admin if TRUE\n default_backend b\nbackend b\n server up 127.0.0.1:{}\n server down 127.0.0.1:1 disabled\nbackend c\n server s1 127.0.0.1:1\n",
            o.port
        ),
    );
    assert!(p.get("/").len() > 1 << 20);
    let csv = p.cli("show stat");
    let header: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    assert_eq!(&header[118..121], ["cache_hint_hits", "-", "h2_headers_rcvd"]);
    assert!(csv.lines().filter(|l| !l.is_empty()).all(|l| l.split(',').count() == header.len()), "{csv}");
    let typed = p.cli("show stat typed");
    let value = |row: &str, name: &str| -> u64 {
        let line = typed.lines().find(|l| l.starts_with(row) && l.contains(&format!(".{name}.1:"))).unwrap();
        line.rsplit(':').next().unwrap().parse().unwrap()
    };
    let (read, spliced) = (value("B.3.", "h1_bytes_in"), value("B.3.", "h1_spliced_bytes_in"));
    assert!(read > 1 << 20 && spliced > 0 && spliced < read, "{read} {spliced}");
    assert_eq!((value("F.2.", "h1_spliced_bytes_out"), value("F.2.", "h1_spliced_bytes_in")), (spliced, 0));
    assert_eq!((value("F.2.", "h1_open_streams"), value("F.2.", "h1_open_connections")), (0, 0));
    let some = p.cli("show stat b -1 -1 no-maint");
    assert!(some.contains("\nb,up,") && !some.contains("\nb,down,") && some.contains(",UP (1/2),"), "{some}");
    // The page: part of a proxy's name, and actions with their outcome.
    let page = p.get("/st;csv;scope=C");
    assert!(
        page.contains("\nb,BACKEND")
            && p.get("/st;csv;scope=fr").contains("# pxname")
            && !p.get("/st;csv;scope=zz").contains("\nb,")
    );
    let post = |body: &str| {
        p.exchange(
            format!(
                "POST /st;up HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        )
    };
    assert!(post("s=s1&action=maint&b=%234").contains("location: /st;st=DONE;up\r\n"));
    assert!(post("s=s1&s=nobody&action=ready&b=c").contains(";st=PART"));
    assert!(post("s=nobody&action=ready&b=c").contains(";st=ERRP"));
    assert!(post("s=s1&action=ehlth&b=c").contains(";st=NONE"));
    assert!(p.get("/st;st=DONE").contains("Action processed successfully."));
}

/// `use_backend` and `use-server` with a format instead of a name.
#[test]
fn names_of_backends_and_servers_may_be_computed() {
    let said = |what: &'static str| Origin::start(move |_| ok(what));
    let (a, b, c) = (said("a"), said("b"), said("c"));
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n use_backend be_%[req.hdr(x-to)] if {{ req.hdr(x-to) -m found }}\n use_backend be_c\n default_backend be_a\nbackend be_a\n server s 127.0.0.1:{}\nbackend be_b\n use-server %[req.hdr(x-server)] if {{ req.hdr(x-server) -m found }}\n balance first\n server one 127.0.0.1:{}\n server two 127.0.0.1:{}\nbackend be_c\n server s 127.0.0.1:{}\n",
        a.port, b.port, c.port, c.port
    ));
    let to = |headers: &str| {
        let text = p.exchange(format!("GET / HTTP/1.1\r\nHost: h\r\n{headers}Connection: close\r\n\r\n").as_bytes());
        text.rsplit("\r\n\r\n").next().unwrap().to_owned()
    };
    assert_eq!(to("X-To: b\r\n"), "b");
    assert_eq!(to(""), "c");
    // A name that nobody has leads to the default backend, and no later rule is asked.
    assert_eq!(to("X-To: nobody\r\n"), "a");
    assert_eq!(to("X-To: b\r\nX-Server: two\r\n"), "c");
    assert_eq!(to("X-To: b\r\nX-Server: nobody\r\n"), "b");
    // In TCP mode a name may stand in what the client says first.
    let (x, y) = (named_server("x.test"), named_server("y.test"));
    let p = Proxy::start(
        &tandem(),
        &format!(
            "defaults\n mode tcp\n timeout client 3s\n timeout server 3s\n timeout connect 1s\nfrontend f\n bind 127.0.0.1:{{port}}\n tcp-request inspect-delay 2s\n tcp-request content accept if {{ req.ssl_hello_type 1 }}\n use_backend %[req.ssl_sni] if {{ req.ssl_sni -m found }}\n default_backend x.test\nbackend x.test\n server s 127.0.0.1:{x}\nbackend y.test\n server s 127.0.0.1:{y}\n"
        ),
    );
    let hello = client_hello("y.test");
    let mut s = p.connect();
    let (first, rest) = hello.split_at(20);
    s.write_all(first).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    s.write_all(rest).unwrap();
    let mut answer = String::new();
    let _ = s.read_to_string(&mut answer);
    assert!(answer.starts_with("y.test"), "{answer}");
}

/// As HAProxy 3.5 was seen to do it.
#[test]
fn redirects_keep_queries_and_pass_over_empty_locations() {
    let p = Proxy::start(
        &tandem(),
        "global\n stats socket {dir}/admin.sock level admin\n nbthread 1\ndefaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 1s\n\
         frontend f\n bind 127.0.0.1:{port}\n http-request redirect location %[var(txn.none)] ignore-empty if { path /a }\n http-request redirect scheme %[var(txn.none)] ignore-empty if { path /c }\n \
         http-request redirect location /x keep-query if { path /d }\n http-request redirect location /x?y=1 drop-query keep-query if { path /e }\n \
         http-request redirect prefix /x?y=1 keep-query if { path /g }\n http-request redirect location /x keep-query set-cookie-fmt \"A=%[path]\" if { path /h }\n \
         http-request redirect location '/x?#frag' keep-query if { path /i }\n http-request redirect location %[var(txn.none)] keep-query ignore-empty if { path /m }\n \
         http-request redirect location %[var(txn.none)] keep-query if { path /n }\n http-request redirect location '/x#' keep-query if { path /o }\n \
         http-request redirect location /x? keep-query if { path /p }\n http-request return status 204\n",
    );
    let location = |path: &str| {
        let answer = p.exchange(format!("GET {path} HTTP/1.0\r\nHost: h\r\n\r\n").as_bytes());
        let of = |name: &str| answer.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim().to_owned());
        let cookie = of("set-cookie: ").map_or_else(String::new, |c| format!(" {c}"));
        of("location:").map_or_else(|| answer[9..12].to_owned(), |l| format!("{l}{cookie}"))
    };
    for (path, wanted) in [
        ("/a?q=1", "204"),
        ("/c?q=1", "://h/c?q=1"),
        ("/d?q=1", "/x?q=1"),
        ("/d", "/x"),
        ("/d?", "/x"),
        ("/e?q=1", "/x?y=1&q=1"),
        ("/e", "/x?y=1"),
        ("/g?q=1", "/x?y=1/g?q=1"),
        ("/h?q=1", "/x?q=1 A=/h; path=/;"),
        ("/i?q=1", "/x?#frag&q=1"),
        ("/m?q=1", "204"),
        ("/n?q=1", "?q=1"),
        ("/o?q=1", "/x#?q=1"),
        ("/p?q=1", "/x?q=1"),
    ] {
        assert_eq!(location(path), wanted, "{path}");
    }
}

/// `grace`: the end is told before it begins.
#[test]
fn a_stop_with_grace_is_told_while_all_goes_on() {
    let mut p = Proxy::start(
        &tandem(),
        &HEAD.replace("global\n", "global\n grace 4s\n").replace(
            "option httplog\n",
            "option httplog\nfrontend f\n bind 127.0.0.1:{port}\n monitor-uri /m\n monitor fail if { stopping }\n http-request return status 200 content-type text/plain string here\n",
        ),
    );
    assert!(p.get("/m").starts_with("HTTP/1.1 200"));
    let begun = Instant::now();
    p.signal(10);
    assert!(wait_for(Duration::from_secs(2), || p.get("/m").starts_with("HTTP/1.1 503")));
    // Connections come in all the same, and no sooner than said the process is gone.
    assert!(p.get("/").ends_with("here"));
    assert!(wait_for(Duration::from_secs(10), || p.child.try_wait().unwrap().is_some()));
    assert!(begun.elapsed() >= Duration::from_secs(4), "{:?}", begun.elapsed());
}

/// One who sends very many requests at once, and takes the answers, is not served before everybody else.
#[test]
fn many_requests_in_one_piece_keep_nobody_waiting() {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const MANY: usize = 40_000;
    let head = HEAD.replace("nbthread 2", "nbthread 1").replace(" log stdout format raw local0\n option httplog\n", "");
    let p = Proxy::start(
        &tandem(),
        &format!("{head}frontend f\n bind 127.0.0.1:{{port}}\n http-request return status 200 hdr x y\n"),
    );
    let answered = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut c = p.connect();
    let (mut from, count) = (c.try_clone().unwrap(), answered.clone());
    let reader = std::thread::spawn(move || {
        let mut buf = [0; 1 << 16];
        let mut bytes = 0;
        while let Ok(n @ 1..) = from.read(&mut buf) {
            bytes += n;
            count.store(bytes, std::sync::atomic::Ordering::SeqCst);
        }
        bytes
    });
    let writer = std::thread::spawn(move || {
        c.write_all(&REQUEST.repeat(MANY)).unwrap();
        c.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let answers = || answered.load(std::sync::atomic::Ordering::SeqCst);
    assert!(wait_for(Duration::from_secs(10), || answers() > 0));
    let mut most = 0;
    for _ in 0..5 {
        let before = answers();
        assert!(p.get("/").starts_with("HTTP/1.1 200"));
        most = most.max(answers() - before);
    }
    writer.join().unwrap();
    let all = reader.join().unwrap();
    assert_eq!(all % MANY, 0, "each of them has its answer: {all}");
    assert!(most < all / 4, "{most} of {all} bytes went out in front of one who asked meanwhile");
}

/// With `option redispatch` a refused connection goes to another server at once, whatever the algorithm: the pause of a second in front of each retry
/// is for those on the same server (seen in HAProxy 2.6 and 3.5). The last of three retries would come after three seconds.
#[test]
fn another_server_is_asked_at_once() {
    for balance in ["roundrobin", "leastconn", "first", "static-rr", "random"] {
        let up = Origin::start(|_| ok("up"));
        let p = Proxy::start(
            &tandem(),
            &format!(
                "defaults\n mode http\n timeout client 9s\n timeout server 9s\n timeout connect 5s\n retries 3\n option redispatch\nfrontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n balance {balance}\n server dead 127.0.0.1:{}\n server up 127.0.0.1:{}\n",
                free_port(),
                up.port
            ),
        );
        let begin = Instant::now();
        assert!((0..6).all(|_| p.get("/").ends_with("up")), "{balance}");
        assert!(begin.elapsed() < Duration::from_millis(2500), "{balance}: {:?}", begin.elapsed());
    }
}
