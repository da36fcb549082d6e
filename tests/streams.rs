//! Ring 3: words that order, slow down, mark and limit streams, and what servers and clients are told.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use support::{Origin, Proxy, ok, tandem, wait_for};

const HEAD: &str = "global\n stats socket {dir}/admin.sock level admin\n nbthread 1\ndefaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 500ms\n timeout queue 5s\n log stdout format raw local0\n option httplog\n";

fn proxy(rest: &str) -> Proxy {
    Proxy::start(&tandem(), &format!("{HEAD}{rest}"))
}

fn header<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = message.split("\r\n\r\n").next()?.lines();
    lines.find_map(|l| l.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v))
}

#[test]
fn who_waits_is_ordered_by_class_then_by_time_and_offset() {
    let gate = std::sync::Arc::new(std::sync::Mutex::new(()));
    let (held, inside) = (gate.clone(), gate);
    let o = Origin::start(move |r| {
        if r.starts_with("GET /first") {
            drop(inside.lock().unwrap());
        }
        ok("x")
    });
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n http-request set-priority-class hdr(x-class)\n http-request set-priority-offset hdr(x-offset)\n default_backend b\nbackend b\n http-response set-header x-prio %[prio_class]/%[prio_offset]\n server s 127.0.0.1:{} maxconn 1\n",
        o.port
    ));
    assert!(o.next().starts_with("GET /ready-check"));
    let lock = held.lock().unwrap();
    let ask = |path: &str, headers: &str| {
        let mut s = p.connect();
        s.write_all(format!("GET /{path} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n").as_bytes())
            .unwrap();
        s
    };
    let first = ask("first", "");
    assert!(wait_for(Duration::from_secs(2), || p.cli("show stat b 2 -1").contains("b,BACKEND,0,0,1")));
    let mut waiting = Vec::new();
    for (n, (path, headers)) in [
        ("late", "X-Offset: 100000\r\n"),
        ("usual", ""),
        ("low", "X-Class: 5\r\n"),
        ("high", "X-Class: -5\r\n"),
        ("early", "X-Offset: -100000\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        waiting.push(ask(path, headers));
        let queued = format!("b,BACKEND,{},", n + 1);
        assert!(wait_for(Duration::from_secs(2), || p.cli("show stat b 2 -1").contains(&queued)), "{queued}");
    }
    drop(lock);
    let order: Vec<String> = (0..6).map(|_| o.next().split([' ', '/']).nth(2).unwrap().to_owned()).collect();
    assert_eq!(order, ["first", "high", "early", "usual", "late", "low"]);
    drop(first);
    let mut out = String::new();
    waiting[3].read_to_string(&mut out).unwrap();
    assert_eq!(header(&out, "x-prio"), Some("-5/0"));
}

#[test]
fn rules_pause() {
    let o = Origin::start(|_| ok("x"));
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n http-request pause 150ms if {{ path /q }}\n http-request pause hdr(x-wait) if {{ path /e }}\n http-response pause int(150) if {{ hdr(x-none) -m found }} || {{ status 200 }}\n http-response set-header x-after yes\n default_backend b\nbackend b\n server s 127.0.0.1:{}\n",
        o.port
    ));
    let timed = |path: &str, more: &str| {
        let begun = Instant::now();
        let a = p.exchange(format!("GET {path} HTTP/1.1\r\nHost: x\r\n{more}Connection: close\r\n\r\n").as_bytes());
        assert_eq!(header(&a, "x-after"), Some("yes"), "{a}");
        begun.elapsed()
    };
    assert!(timed("/", "") >= Duration::from_millis(145));
    assert!(timed("/q", "") >= Duration::from_millis(290));
    assert!(timed("/e", "X-Wait: 100\r\n") >= Duration::from_millis(240));
    // What is no number is no pause.
    assert!(timed("/e", "X-Wait: soon\r\n") < Duration::from_millis(900));
}

#[test]
fn sessions_a_second_are_limited() {
    let p = proxy(
        "frontend f\n bind 127.0.0.1:{port}\n http-request return status 200\nfrontend g\n bind {dir}/g.sock\n rate-limit sessions 5\n http-request return status 200\n",
    );
    let ask = || {
        let mut s = std::os::unix::net::UnixStream::connect(p.path("g.sock")).unwrap();
        s.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut out = String::new();
        s.read_to_string(&mut out).unwrap();
        assert!(out.starts_with("HTTP/1.1 200"), "{out}");
    };
    let begun = Instant::now();
    (0..12).for_each(|_| ask());
    let took = begun.elapsed();
    // Five at once, and the others five a second.
    assert!((Duration::from_millis(1_000)..Duration::from_millis(3_500)).contains(&took), "{took:?}");
    assert!(p.cli("show stat g 1 -1").lines().nth(1).unwrap().split(',').nth(34) == Some("5"));
    // An operator's ceiling of the process holds for all.
    assert_eq!(p.cli("set rate-limit sessions global 3").trim(), "");
    assert!(p.cli("show info").contains("SessRateLimit: 3\n"));
    std::thread::sleep(Duration::from_millis(1_100));
    let begun = Instant::now();
    (0..6).for_each(|_| drop(p.get("/")));
    assert!(begun.elapsed() > Duration::from_millis(500), "{:?}", begun.elapsed());
    assert_eq!(p.cli("set rate-limit sessions global 0").trim(), "");
    let begun = Instant::now();
    (0..20).for_each(|_| drop(p.get("/")));
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
}

/// Those that are refused come in as well: there would be no protection against them.
#[test]
fn refused_connections_count_as_connections() {
    let p = Proxy::start(
        &tandem(),
        "global\n nbthread 1\n maxconnrate 50\n stats socket {dir}/admin.sock level admin\ndefaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 1s\nfrontend f\n bind 127.0.0.1:{port}\n http-request return status 200\nfrontend g\n bind {dir}/g.sock\n tcp-request connection reject\n http-request return status 200\n",
    );
    let end = Instant::now() + Duration::from_millis(900);
    let mut refused = 0;
    while Instant::now() < end {
        let mut s = std::os::unix::net::UnixStream::connect(p.path("g.sock")).unwrap();
        s.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        refused += usize::from(matches!(s.read(&mut [0; 8]), Ok(0)));
    }
    assert!((20..=110).contains(&refused), "{refused}");
}

#[test]
fn effects_of_stream_rules_outlive_the_upgrade() {
    let o = Origin::start(|_| ok("x"));
    let p = proxy(&format!(
        "frontend f\n mode tcp\n option tcplog\n bind 127.0.0.1:{{port}}\n tcp-request inspect-delay 1s\n tcp-request content set-priority-class int(7)\n tcp-request content capture str(kept) len 10\n tcp-request content switch-mode http if HTTP\n default_backend b\nbackend b\n http-response set-header x-seen \"%[prio_class] %[capture.req.hdr(0)]\"\n server s 127.0.0.1:{}\n",
        o.port
    ));
    assert_eq!(header(&p.get("/"), "x-seen"), Some("7 kept"));
}

#[test]
fn streams_of_bytes_are_slowed_down() {
    let o = Origin::start(|_| ok(&"x".repeat(20_000)));
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n http-request return status 200\nlisten l\n mode tcp\n bind {{dir}}/l.sock\n filter bwlim-out slow default-limit 20000 default-period 1s\n tcp-request content set-bandwidth-limit slow\n server s 127.0.0.1:{}\n",
        o.port
    ));
    let mut s = std::os::unix::net::UnixStream::connect(p.path("l.sock")).unwrap();
    let begun = Instant::now();
    s.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut got = 0;
    let mut buf = [0; 4096];
    while got < 40_000 {
        got += s.read(&mut buf).unwrap();
    }
    assert!(begun.elapsed() > Duration::from_millis(700), "{:?}", begun.elapsed());
}

#[test]
fn ceilings_are_changed_by_operators() {
    let p = proxy("frontend f\n bind 127.0.0.1:{port}\n http-request return status 200\n");
    assert_eq!(p.cli("set maxconn frontend f 2").trim(), "");
    assert!(p.cli("show stat f 1 -1").lines().nth(1).unwrap().split(',').nth(6) == Some("2"));
    let kept: Vec<TcpStream> = (0..2)
        .map(|_| {
            let mut s = p.connect();
            s.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut buf = [0; 512];
            assert!(s.read(&mut buf).unwrap() > 0);
            s
        })
        .collect();
    let mut third = p.connect();
    third.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    third.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(third.read(&mut [0; 16]).is_err());
    drop(kept);
    third.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert!(third.read(&mut [0; 16]).unwrap() > 0);
    for (line, said) in [
        ("set maxconn frontend none 1", "No such frontend."),
        ("set maxconn frontend f", "Integer value expected."),
        ("set maxconn global", "Expects an integer value."),
        ("set maxconn global 900000000", "Value out of range."),
        ("set rate-limit sessions global x", "Value out of range."),
        ("set dynamic-cookie-key backend none k", "No such backend."),
    ] {
        assert_eq!(p.cli(line).trim(), said, "{line}");
    }
}

#[test]
fn packets_are_marked_for_those_between() {
    let l = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = l.local_addr().unwrap().port();
    // Says with what kind of service its connections began.
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut s in l.incoming().flatten() {
            let mut buf = [0; 4096];
            while let Ok(1..) = s.read(&mut buf) {
                let _ = tell.send(received_tos(&s));
                let _ = s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        }
    });
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n http-request set-fc-tos 0x20 if {{ path /c }}\n http-request set-bc-tos int(64) if {{ path /s }}\n default_backend b\nbackend b\n server s 127.0.0.1:{port}\n"
    ));
    let mut seen = vec![told.recv().unwrap()];
    // A connection that is marked is another one than those that are not.
    for path in ["/c", "/s", "/", "/s"] {
        p.get(path);
        seen.push(told.recv().unwrap());
    }
    assert_eq!(seen, [0, 0, 64, 0, 64]);
}

/// The byte of services that a connection which came in began with.
fn received_tos(s: &TcpStream) -> u8 {
    const ON: i32 = 1;
    const IP_PKTOPTIONS: i32 = 9;
    const IP_RECVTOS: i32 = 13;
    unsafe extern "C" {
        fn setsockopt(fd: i32, level: i32, name: i32, value: *const i32, len: u32) -> i32;
        fn getsockopt(fd: i32, level: i32, name: i32, value: *mut u8, len: *mut u32) -> i32;
    }
    let (mut buf, mut len) = ([0u8; 256], 256u32);
    // SAFETY: the kernel reads four bytes of an integer, and writes at most `len` bytes into `buf`.
    unsafe {
        assert_eq!(setsockopt(s.as_raw_fd(), 0, IP_RECVTOS, &ON, 4), 0);
        assert_eq!(getsockopt(s.as_raw_fd(), 0, IP_PKTOPTIONS, buf.as_mut_ptr(), &raw mut len), 0);
    }
    // Control messages: length, level and type in 16 bytes; IP_TOS is type 1.
    let mut at = 0;
    while at + 16 < len as usize {
        if buf[at + 12] == 1 {
            return buf[at + 16];
        }
        let size = usize::try_from(u64::from_ne_bytes(buf[at..at + 8].try_into().unwrap())).unwrap();
        at += size.max(16).next_multiple_of(8);
    }
    0
}

#[test]
fn servers_are_told_by_one_header_of_everything() {
    let o = Origin::start(|_| ok("x"));
    let s = |name: &str, words: &str| {
        format!("backend {name}\n option forwarded {words}\n server s 127.0.0.1:{}\n", o.port)
    };
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n use_backend %[path,field(2,/)]\n default_backend a\n{}{}{}{}{}",
        s("a", ""),
        s("b", "proto host by by_port for"),
        s("c", "host-expr str(a@b) by-expr str(ha) for-expr src,hex for_port-expr int(10)"),
        s("d", "by-expr str(_h.a-p) by_port-expr str(abc) for-expr str(::1)"),
        s("e", "for-expr str(1.2.3.4) for_port-expr str(_x) by-expr str(a%b)"),
    ));
    o.next();
    let host = format!("127.0.0.1:{}", p.port);
    let ask = |path: &str, more: &str| {
        p.exchange(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n").as_bytes());
        header(&o.next(), "forwarded").unwrap().to_owned()
    };
    assert_eq!(ask("/a", ""), "proto=http;for=127.0.0.1");
    assert_eq!(ask("/a", "Forwarded: for=9.9.9.9\r\n"), "for=9.9.9.9,proto=http;for=127.0.0.1");
    // Whatever a client says first, what was said last is not lost.
    p.exchange(
        format!("GET /a HTTP/1.1\r\nHost: {host}\r\nForwarded: for=1.1.1.1\r\nX: y\r\nForwarded: for=2.2.2.2\r\nConnection: close\r\n\r\n")
            .as_bytes(),
    );
    let seen = o.next();
    let lines: Vec<&str> = seen.lines().filter(|l| l.starts_with("forwarded")).collect();
    assert_eq!(lines, ["forwarded: for=1.1.1.1", "forwarded: for=2.2.2.2,proto=http;for=127.0.0.1"]);
    assert_eq!(ask("/b", ""), format!("proto=http;host=\"{host}\";by=\"{host}\";for=127.0.0.1"));
    assert_eq!(ask("/c", ""), "host=\"\";by=_ha;for=\"_7F000001:10\"");
    assert_eq!(ask("/d", ""), "by=\"_h.a-p:_abc\";for=unknown");
    assert_eq!(ask("/e", ""), "by=unknown;for=\"1.2.3.4:_x\"");
}

#[test]
fn servers_are_told_their_names_and_clients_where_to_go() {
    let o = Origin::start(|_| ok("x"));
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n use_backend r if {{ path_beg /move }}\n use_backend d if {{ path_beg /d }}\n default_backend n\nbackend n\n http-send-name-header X-Server\n server s-1 127.0.0.1:{port}\nbackend r\n server s 127.0.0.1:{port} redir http://images.example.com\nbackend d\n option http-server-close\n option http-pretend-keepalive\n option http-drop-request-trailers\n server s 127.0.0.1:{port}\n",
        port = o.port
    ));
    o.next();
    p.exchange(b"GET / HTTP/1.1\r\nHost: x\r\nX-Server: me\r\nX-Server: again\r\nConnection: close\r\n\r\n");
    let seen = o.next();
    assert_eq!((header(&seen, "x-server"), seen.matches("x-server").count()), (Some("s-1"), 1), "{seen}");
    p.drain();
    let moved = p.get("/move/a?b=c");
    assert!(moved.starts_with("HTTP/1.1 302 Found\r\n"), "{moved}");
    assert_eq!(header(&moved, "location"), Some("http://images.example.com/move/a?b=c"));
    assert!(p.line().contains(" r/s "));
    let posted = p.exchange(b"POST /move HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx");
    assert!(posted.starts_with("HTTP/1.1 200"), "{posted}");
    o.next();
    p.exchange(b"POST /d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: t\r\nConnection: close\r\n\r\n1\r\nx\r\n0\r\nT: v\r\n\r\n");
    let seen = o.next();
    assert!(header(&seen, "connection").is_none() && seen.ends_with("0\r\n\r\n"), "{seen}");
}

#[test]
fn trailers_end_here_if_they_are_to() {
    let o =
        Origin::start(|_| b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nT: v\r\n\r\n".to_vec());
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n option http-drop-response-trailers\n default_backend b\nfrontend g\n bind {{dir}}/g.sock\n default_backend b\nbackend b\n server s 127.0.0.1:{}\n",
        o.port
    ));
    assert!(p.get("/").ends_with("1\r\nx\r\n0\r\n\r\n"));
    let mut s = std::os::unix::net::UnixStream::connect(p.path("g.sock")).unwrap();
    s.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut out = String::new();
    s.read_to_string(&mut out).unwrap();
    assert!(out.ends_with("0\r\nt: v\r\n\r\n"), "{out}");
}

#[test]
fn parameters_of_posts_choose_servers() {
    let (a, b) = (Origin::start(|_| ok("a")), Origin::start(|_| ok("b")));
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n balance url_param key check_post\n server a 127.0.0.1:{}\n server b 127.0.0.1:{}\n",
        a.port, b.port
    ));
    let by_url = |key: &str| p.get(&format!("/?key={key}")).pop().unwrap();
    let by_body = |body: &str| {
        let text =
            format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        p.exchange(text.as_bytes()).pop().unwrap()
    };
    let keys: Vec<String> = (0..12).map(|n| format!("k{n}")).collect();
    let chosen: Vec<char> = keys.iter().map(|k| by_url(k)).collect();
    assert!(chosen.contains(&'a') && chosen.contains(&'b'));
    for (k, c) in keys.iter().zip(&chosen) {
        assert_eq!(by_body(&format!("x=1&key={k}&y=2")), *c, "{k}");
        assert_eq!(by_body(&format!("key={k} and=more")), *c, "{k}");
    }
    // What stands behind the body belongs to somebody else.
    let mut seen = std::collections::BTreeSet::new();
    for next in ["A", "B", "C", "D", "E", "F"] {
        let two = format!(
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nkey=1{next} / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        );
        let answer = p.exchange(two.as_bytes());
        let first = answer.split("\r\n\r\n").nth(1).unwrap().chars().next().unwrap();
        seen.insert(first);
    }
    assert_eq!(seen.len(), 1);
}

#[test]
fn connections_are_known_by_their_ends_and_their_times() {
    let o = Origin::start(|_| ok("x"));
    let b = Proxy::start(
        &tandem(),
        &format!(
            "defaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 500ms\n log stdout format raw local0\n log-format \"%[bc_src] %[bc_dst]:%[bc_dst_port]\"\nfrontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n http-response set-header x-back \"%[bc_rtt(us)] %[bc_dst_port] %[bc_src]\"\n server s 127.0.0.1:{}\n",
            o.port
        ),
    );
    let answer = b.get("/");
    let words: Vec<&str> = header(&answer, "x-back").unwrap().split(' ').collect();
    assert!(words[0].parse::<u32>().unwrap() > 0, "{answer}");
    assert_eq!(words[1..], [o.port.to_string(), "127.0.0.1".to_owned()]);
    assert_eq!(b.line(), format!("127.0.0.1 127.0.0.1:{}", o.port));
    let p = proxy(
        "frontend f\n bind 127.0.0.1:{port}\n http-request set-src hdr(x-src) if { hdr(x-src) -m found }\n http-request return status 200 hdr x-ends \"%[src] %[fc_src] %[fc_dst] %[fc_dst_port]\" hdr x-rtt \"%[fc_rtt(us)] %[fc_rtt] %[fc_lost] %[fc_http_major]\"\n",
    );
    let a = p.exchange(b"GET / HTTP/1.1\r\nHost: x\r\nX-Src: 10.1.2.3\r\nConnection: close\r\n\r\n");
    assert_eq!(header(&a, "x-ends"), Some(&*format!("10.1.2.3 127.0.0.1 127.0.0.1 {}", p.port)));
    let numbers: Vec<i64> = header(&a, "x-rtt").unwrap().split(' ').map(|n| n.parse().unwrap()).collect();
    assert!(numbers[0] > 0 && numbers[0] / 1_000 >= numbers[1] && numbers[2..] == [0, 1], "{numbers:?}");
}

#[test]
fn lines_keep_so_much_of_a_request() {
    for (global, line, cookie) in [
        ("", 1_023, 63),
        (" tune.http.logurilen 100\n tune.http.cookielen 20\n", 100, 20),
        (" tune.http.logurilen 1\n", 1, 63),
    ] {
        let o = Origin::start(|_| ok("x"));
        let p = Proxy::start(
            &tandem(),
            &format!(
                "global\n{global}defaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 500ms\n log stdout len 8192 format raw local0\n option httplog\nfrontend f\n bind 127.0.0.1:{{port}}\n capture cookie C len 200\n http-request return status 200 if {{ path /here }}\n default_backend b\nbackend b\n server s 127.0.0.1:{}\n",
                o.port
            ),
        );
        let ask = |path: &str| {
            let c = "b".repeat(150);
            p.exchange(
                format!("GET {path} HTTP/1.1\r\nHost: x\r\nCookie: C={c}\r\nConnection: close\r\n\r\n").as_bytes(),
            );
            p.line()
        };
        let long = ask(&format!("/{}", "a".repeat(2_000)));
        let quoted = long.split('"').nth(1).unwrap();
        assert_eq!(quoted.len(), line, "{long}");
        assert_eq!(long.split(' ').find(|w| w.starts_with("C=")).map(str::len), Some(cookie), "{long}");
        // Who is answered here was not asked for it.
        assert!(!ask("/here").contains("C=b"));
        let head = p.exchange(
            b"HEAD /here HTTP/1.1\r\nHost: x\r\n\r\nGET /here HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        );
        assert_eq!(head.matches("HTTP/1.1 200").count(), 2, "{head}");
        p.drain();
    }
}

/// A worker that stops lets connections be, warm or parked, until an answer has told their clients.
#[test]
fn idle_connections_are_told_that_they_end() {
    let p = proxy(
        "frontend f\n bind 127.0.0.1:{port}\n option idle-close-on-response\n http-request return status 200\nfrontend g\n bind {dir}/g.sock\n http-request return status 200\n",
    );
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut buf = [0; 512];
    let mut parked = p.connect();
    parked.write_all(request).unwrap();
    assert!(parked.read(&mut buf).unwrap() > 0);
    // After this time of silence it is off the event loop.
    std::thread::sleep(Duration::from_millis(1_700));
    let mut warm = p.connect();
    warm.write_all(request).unwrap();
    assert!(warm.read(&mut buf).unwrap() > 0);
    let mut other = std::os::unix::net::UnixStream::connect(p.path("g.sock")).unwrap();
    other.write_all(request).unwrap();
    assert!(other.read(&mut buf).unwrap() > 0);
    p.signal(10);
    other.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(other.read(&mut buf).unwrap(), 0);
    for s in [&mut parked, &mut warm] {
        s.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert!(s.read(&mut buf).is_err());
        s.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        s.write_all(request).unwrap();
        let n = s.read(&mut buf).unwrap();
        let answer = String::from_utf8_lossy(&buf[..n]).into_owned();
        assert_eq!(header(&answer, "connection"), Some("close"), "{answer}");
    }
}
