//! Logs: when lines are written and what they are, where they go, and what is received and passed on. HAProxy passes these as well:
//! `TANDEM_BIN=<haproxy> cargo test --test logs`, but for what is said at two tests.
#![allow(clippy::unwrap_used)]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::time::Duration;
use support::{Origin, Proxy, free_port, ok, tandem, wait_for};

const HEAD: &str = "global\n stats socket {dir}/admin.sock level admin\ndefaults\n mode http\n option dontlognull\n timeout client 5s\n timeout server 5s\n timeout connect 1s\n";

/// A frontend `f` with these lines, whose backend is an origin that says `ok`.
fn proxy(rest: &str, frontend: &str) -> (Proxy, Origin) {
    let origin = Origin::start(|_| ok("ok"));
    let config = format!(
        "{HEAD}frontend f\n bind 127.0.0.1:{{port}}\n default_backend b\n{frontend}\nbackend b\n server s 127.0.0.1:{}\n{rest}",
        origin.port
    );
    (Proxy::start(&tandem(), &config), origin)
}

/// A receiver of datagrams.
struct Receiver(UdpSocket);

impl Receiver {
    fn new() -> Self {
        let s = UdpSocket::bind("127.0.0.1:0").unwrap();
        s.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Self(s)
    }
    fn addr(&self) -> String {
        self.0.local_addr().unwrap().to_string()
    }
    fn next(&self) -> String {
        let mut buf = [0; 65536];
        let n = self.0.recv(&mut buf).expect("no datagram came");
        String::from_utf8_lossy(&buf[..n]).into_owned()
    }
    /// What came since, up to a line with these words.
    fn until(&self, words: &str) -> String {
        loop {
            let l = self.next();
            if l.contains(words) {
                return l;
            }
        }
    }
}

/// Lines of streams that come in, each connection's in a thread.
fn stream_receiver() -> (u16, mpsc::Receiver<String>) {
    let l = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = l.local_addr().unwrap().port();
    let (tx, rx) = mpsc::channel();
    std::thread::spawn(move || {
        for c in l.incoming().flatten() {
            let tx = tx.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(c).lines().map_while(Result::ok) {
                    let _ = tx.send(line);
                }
            });
        }
    });
    (port, rx)
}

fn next(rx: &mpsc::Receiver<String>) -> String {
    rx.recv_timeout(Duration::from_secs(5)).expect("no line came")
}

#[test]
fn items_are_quoted_escaped_and_encoded() {
    let r = Receiver::new();
    let frontend = format!(
        " log {} format raw local0\n option accept-unsafe-violations-in-http-request\n \
         capture request header x-a len 64\n capture request header x-b len 64\n capture request header x-c len 64\n \
         http-request return status 200 if {{ path_beg /a }}\n \
         log-format \"A%[capture.req.hdr(0)] Q%{{+Q}}[capture.req.hdr(0)] E%{{+E}}[capture.req.hdr(0)] %r %{{+Q}}r %hr %hrl %{{+Q}}hrl %HU  %HQ %{{+Q}}CC %hs %hs. %{{+X}}ci\"",
        r.addr()
    );
    let (p, _o) = proxy("", &frontend);
    p.exchange(
        b"GET /a\"b?c{d}|~e#f HTTP/1.1\r\nHost: x\r\nx-a: q\"w\\e\tz]{|}#\r\nx-b: v1\r\nConnection: close\r\n\r\n",
    );
    let line = r.until("/a");
    assert_eq!(
        line,
        "Aq\"w\\e\tz]{|}# Q\"q\"w\\e\tz]{|}#\" Eq\\\"w\\\\e\tz\\]{|}# GET /a#22b?c{d}|~e#23f HTTP/1.1 \"GET /a#22b?c{d}|~e#23f HTTP/1.1\" \
         {q#22w\\e#09z]#7B#7C#7D#23|v1|} q#22w\\e#09z]#7B#7C#7D#23 v1 - \"q#22w\\e#09z]#7B#7C#7D#23\" \"v1\" \"\" \
         /a#22b?c{d}|~e#23f ?c{d}|~e#23f \"\" . 7F000001\n"
    );
}

#[test]
fn json_and_cbor() {
    let (r, c) = (Receiver::new(), Receiver::new());
    let frontend = format!(
        " log {} format raw local0\n capture request header x-a len 64\n capture request header x-b len 64\n http-request return status 200 if {{ path_beg /a }}\n \
         log-format \"%{{+json}}o %(a)[capture.req.hdr(0)] text %(r)r %(hr)hr %(hrl)hrl %(hs)hs %(st)ST %(b:bool)ST %(s:str)ST %(n:sint)[capture.req.hdr(1)] %(m)[capture.req.hdr(5)] %(ts)tsc %(ci){{+X}}ci %(t)[always_true] %[src]\"\n\
         frontend g\n bind 127.0.0.1:{{port2}}\n log {} format raw local0\n log-format \"%{{+cbor}}o %(a)ST %(b)HM %(c)[str(x)]\"\n http-request return status 200",
        r.addr(),
        c.addr()
    );
    let port2 = free_port();
    let (p, _o) = proxy("", &frontend.replace("{port2}", &port2.to_string()));
    p.exchange(b"GET /a HTTP/1.1\r\nHost: x\r\nx-a: q\"w\r\nx-b: 12\r\nConnection: close\r\n\r\n");
    assert_eq!(
        r.until("/a"),
        "{\"a\": \"q\\\"w\", \"r\": \"GET /a HTTP/1.1\", \"hr\": \"{q#22w|12}\", \"hrl\": [\"q#22w\", \"12\"], \"hs\": null, \"st\": 200, \"b\": true, \"s\": \"200\", \"n\": 12, \"m\": \"\", \"ts\": \"LR--\", \"ci\": \"7F000001\", \"t\": true}\n"
    );
    let mut g = TcpStream::connect(("127.0.0.1", port2)).unwrap();
    g.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    g.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(c.next(), "BF616118C861627F63474554FF61636178FF\n");
}

#[test]
fn a_line_is_written_as_soon_as_all_is_known() {
    let r = Receiver::new();
    let frontend = format!(" log {} format raw local0\n log-format \"%OG %ST %r\"", r.addr());
    let (p, _o) = proxy("", &frontend);
    p.get("/x");
    assert_eq!(r.until("/x"), "txn_response 200 GET /x HTTP/1.1\n");
    let frontend = format!(" log {} format raw local0\n log-format \"%OG %r\"", r.addr());
    let (p, _o) = proxy("", &frontend);
    p.get("/y");
    assert_eq!(r.until("/y"), "txn_request GET /y HTTP/1.1\n");
    let frontend = format!(" log {} format raw local0\n log-format \"%OG %B %r\"", r.addr());
    let (p, _o) = proxy("", &frontend);
    p.get("/z");
    assert!(r.until("/z").starts_with("txn_close "));
}

#[test]
fn steps_profiles_and_rules() {
    let r = Receiver::new();
    let frontend = format!(
        " log {a} format rfc5424 profile p local0\n log-format \"own %OG %r\"\n log-format-sd \"[x@1 a=\\\"%ST\\\"]\"\n log-steps accept,request,response,close\n \
         http-request set-log-level warning if {{ path /w }}\n http-request set-log-level silent if {{ path /s }}\n http-request do-log if {{ path /d }}\n http-request do-log profile q if {{ path /d }}",
        a = r.addr()
    );
    let profiles = "log-profile p\n log-tag tagged\n on accept drop\n on response format \"rsp %ST\"\n on close sd \"[y@1]\"\nlog-profile q\n on any format \"other %OG\"\n";
    let (p, _o) = proxy(profiles, &frontend);
    p.get("/a");
    // `<134>1 TIME - tagged PID - SD MESSAGE`
    let words = |l: &str| {
        let w: Vec<&str> = l.trim_end().splitn(7, ' ').collect();
        (w[0].to_owned(), w[3].to_owned(), w[6].to_owned())
    };
    let said = |pri: &str, rest: &str| (pri.to_owned(), "tagged".to_owned(), rest.to_owned());
    assert_eq!(words(&r.until("/a")), said("<134>1", "[x@1 a=\"-1\"] own txn_request GET /a HTTP/1.1"));
    assert_eq!(words(&r.next()), said("<134>1", "[x@1 a=\"200\"] rsp 200"));
    assert_eq!(words(&r.next()), said("<134>1", "[y@1] own txn_close GET /a HTTP/1.1"));
    // From the rule on.
    p.get("/w");
    assert_eq!(words(&r.until("/w")).0, "<134>1");
    assert_eq!(words(&r.next()).0, "<132>1");
    assert_eq!(words(&r.next()).0, "<132>1");
    p.get("/s");
    p.get("/d");
    let lines: Vec<String> = (0..4).map(|_| words(&r.next()).2).collect();
    assert_eq!(lines[0], "[x@1 a=\"-1\"] own txn_request GET /s HTTP/1.1");
    assert_eq!(lines[1], "[x@1 a=\"-1\"] own txn_request GET /d HTTP/1.1");
    assert_eq!(lines[2], "[x@1 a=\"-1\"] own http-req GET /d HTTP/1.1");
    assert_eq!(lines[3], "[x@1 a=\"-1\"] other http-req");
}

#[test]
fn what_was_no_request_has_a_format_of_its_own() {
    let r = Receiver::new();
    let frontend =
        format!(" log {} format raw local0\n option httplog\n error-log-format \"bad %OG %ST %ts %r\"", r.addr());
    let (p, _o) = proxy("", &frontend);
    p.exchange(b"BAD\r\n\r\n");
    assert_eq!(r.until("bad"), "bad sess_error 400 PR <BADREQ>\n");
}

#[test]
fn samples_count_for_each_line() {
    let (a, b) = (Receiver::new(), Receiver::new());
    let frontend = format!(
        " log {} format raw sample 2,4-5:6 local0\n log {} format raw local0\n log-format \"%r\"",
        a.addr(),
        b.addr()
    );
    let (p, _o) = proxy("", &frontend);
    for i in 1..=14 {
        p.get(&format!("/{i}"));
    }
    // What the other target got tells which number each had.
    let mut all = vec![b.next()];
    while !all[all.len() - 1].contains("/14 ") {
        all.push(b.next());
    }
    for (i, line) in all.iter().enumerate().filter(|(i, _)| matches!(i % 6 + 1, 2 | 4 | 5)) {
        assert_eq!(a.next(), *line, "number {}", i + 1);
    }
}

#[test]
fn rings_are_shown_and_shipped() {
    let (port, lines) = stream_receiver();
    let (octets, counted) = stream_receiver();
    let frontend = format!(
        " log ring@r local0\n log ring@s len 200 local0\n log tcp@127.0.0.1:{port} len 300 format rfc3164 local1\n log-format \"%r\"\n"
    );
    let rings = format!(
        "ring r\n description \"some events\"\n format priority\n maxlen 40\n size 8192\nring s\n format short\n server one 127.0.0.1:{octets} log-proto octet-count\n timeout connect 1s\n"
    );
    let (p, _o) = proxy(&rings, &frontend);
    p.get("/one");
    p.get(&format!("/{}", "x".repeat(100)));
    let shown = p.cli("show events r");
    let shown: Vec<&str> = shown.lines().filter(|l| !l.contains("ready-check") && !l.is_empty()).collect();
    let cut = format!("<134>GET /{}", "x".repeat(40));
    assert_eq!(shown, ["<134>GET /one HTTP/1.1", &cut[..40]]);
    let sinks = p.cli("show events");
    assert!(sinks.contains("\n    r          : type=buffer, 0 dropped, some events\n"), "{sinks}");
    assert!(
        sinks.contains("\n    ring#1     : type=buffer, 0 dropped, created from log directive declared into "),
        "{sinks}"
    );
    assert_eq!(p.cli("show events nope").trim(), "No such event sink");
    assert_eq!(p.cli("show events stdout").trim(), "Nothing to report for this sink");
    let line = loop {
        let l = next(&lines);
        if l.contains("/one") {
            break l;
        }
    };
    assert!(line.starts_with("<142>") && line.contains(" localhost haproxy["), "{line}");
    // Each is preceded by its length, and nothing follows it: they stand in one line.
    drop(p);
    let all = next(&counted);
    assert!(all.contains("20 <6>GET /one HTTP/1.1117 <6>GET /xxx"), "{all}");
}

#[test]
fn backends_of_logs() {
    let (a, b) = (Receiver::new(), Receiver::new());
    let (port, lines) = stream_receiver();
    let frontend = " log backend@rr format raw local0\n log backend@tcp format priority local0\n log backend@hash format raw local0\n log-format \"%r\"\n";
    let backends = format!(
        "backend rr\n mode log\n balance roundrobin\n server a udp@{} weight 3\n server b udp@{}\nbackend tcp\n mode log\n balance sticky\n server t 127.0.0.1:{port}\nbackend hash\n mode log\n balance log-hash field(2,/)\n server a udp@{}\n",
        a.addr(),
        b.addr(),
        a.addr(),
    );
    let (p, _o) = proxy(&backends, frontend);
    for i in 0..8 {
        p.get(&format!("/r{i}"));
    }
    let got: Vec<String> = (0..2).map(|_| b.next()).collect();
    assert!(got.iter().all(|l| l.starts_with("GET /r")), "{got:?}");
    let line = loop {
        let l = next(&lines);
        if l.contains("/r0") {
            break l;
        }
    };
    assert_eq!(line, "<134>GET /r0 HTTP/1.1");
}

#[test]
fn messages_are_received_and_passed_on() {
    let r = Receiver::new();
    let (udp, tcp) = (free_port(), free_port());
    let rest = format!(
        "log-forward in\n dgram-bind 127.0.0.1:{udp}\n bind 127.0.0.1:{tcp}\n log {} local7\n timeout client 5s\n",
        r.addr()
    );
    let (p, _o) = proxy(&rest, "");
    let s = UdpSocket::bind("127.0.0.1:0").unwrap();
    s.send_to(b"<13>Nov  5 10:11:12 myhost app[77]: hello world\n", ("127.0.0.1", udp)).unwrap();
    assert_eq!(r.next(), "<13>Nov  5 10:11:12 myhost app[77]: hello world\n");
    s.send_to(b"<165>1 - - - - - - msg", ("127.0.0.1", udp)).unwrap();
    let line = r.next();
    assert!(line.starts_with("<165>1 ") && line.ends_with(" 127.0.0.1 - - - - msg\n"), "{line}");
    let mut c = TcpStream::connect(("127.0.0.1", tcp)).unwrap();
    c.write_all(b"<13>Nov  5 10:11:12 h a: one\n47 <13>Nov  5 10:11:12 myhost app[77]: hello worl\n").unwrap();
    assert_eq!(r.next(), "<13>Nov  5 10:11:12 h a: one\n");
    // The last byte of it is missing: it stays where it is until the rest comes.
    c.write_all(b"").unwrap();
    let info = p.cli("show info");
    assert!(info.contains("\nCumRecvLogs: 3\n") || info.contains("\nCumRecvLogs: 4\n"), "{info}");
    assert!(!p.cli("show stat").contains("\nin,"));
    // What is no message ends the connection.
    let mut c = TcpStream::connect(("127.0.0.1", tcp)).unwrap();
    c.write_all(b"hello\n").unwrap();
    assert_eq!(c.read(&mut [0; 10]).unwrap_or(0), 0);
}

#[test]
fn a_reload_sends_nothing_twice() {
    let (port, lines) = stream_receiver();
    let (p, _o) = proxy(
        &format!("ring r\n format priority\n server one 127.0.0.1:{port}\n timeout connect 1s\n"),
        " log ring@r local0\n log-format \"%r\"\n",
    );
    p.get("/one");
    while next(&lines) != "<134>GET /one HTTP/1.1" {}
    p.cli("reload");
    assert!(
        support::wait_for(Duration::from_secs(5), || p.cli("show reloads").contains("1 in force")),
        "{}",
        p.cli("show reloads")
    );
    p.get("/two");
    assert_eq!(next(&lines), "<134>GET /two HTTP/1.1");
}

/// Lines leave many at a time; none is lost or overtaken, and each target has all of them.
#[test]
fn lines_of_many_requests_keep_their_order() {
    let (a, dir) = (Receiver::new(), tempfile::tempdir().unwrap());
    let path = dir.path().join("log");
    let unix = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    unix.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let (p, _origin) = proxy(
        "",
        &format!(
            " log {} format raw local0\n log {} format raw local0\n log-format %HU\n http-request return status 200 if {{ path_beg /n }}\n",
            a.addr(),
            path.display()
        ),
    );
    a.until("/ready-check");
    let mut buf = [0; 256];
    let mut next = || {
        let n = unix.recv(&mut buf).unwrap();
        String::from_utf8_lossy(&buf[..n]).trim_end().to_owned()
    };
    while next() != "/ready-check" {}
    const N: usize = 60;
    let mut s = p.connect();
    let all: String = (0..N)
        .map(|n| {
            format!("GET /n{n} HTTP/1.1\r\nHost: h\r\n{}\r\n", if n + 1 == N { "Connection: close\r\n" } else { "" })
        })
        .collect();
    s.write_all(all.as_bytes()).unwrap();
    for n in 0..N {
        assert_eq!(a.next().trim_end(), format!("/n{n}"));
        assert_eq!(next(), format!("/n{n}"));
    }
}

/// A receiver that reads nothing loses its own lines only.
#[test]
fn a_stuck_receiver_costs_the_others_nothing() {
    let (a, dir) = (Receiver::new(), tempfile::tempdir().unwrap());
    let path = dir.path().join("log");
    let _never_read = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let (p, _origin) = proxy(
        "",
        &format!(
            " log {} format raw local0\n log {} format raw local0\n log-format %HU\n http-request return status 200 if {{ path_beg /n }}\n",
            path.display(),
            a.addr()
        ),
    );
    a.until("/ready-check");
    // More than the kernel's queue for the one and what is kept for it.
    for n in 0..1200 {
        assert!(p.get(&format!("/n{n}")).starts_with("HTTP/1.1 200 "));
        assert_eq!(a.next().trim_end(), format!("/n{n}"));
    }
    let dropped = p.cli("show info").lines().find_map(|l| l.strip_prefix("DroppedLogs: ").map(str::to_owned)).unwrap();
    assert_ne!(dropped, "0");
}

/// Reads one answer with a Content-Length, and what comes in front of it.
fn answer(s: &mut BufReader<TcpStream>) -> String {
    let mut all = String::new();
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(s.read_line(&mut head).unwrap() > 0, "{all}{head}");
        }
        all.push_str(&head);
        if head.starts_with("HTTP/1.1 103") {
            continue;
        }
        let mut body = [0; 2];
        s.read_exact(&mut body).unwrap();
        return all;
    }
}

#[test]
fn the_next_request_of_a_connection_has_nothing_of_the_last_one() {
    let r = Receiver::new();
    let marked = "if { req.hdr(x-a) -m found }";
    let frontend = format!(
        " log {} format raw local0\n capture request header x-a len 20\n capture response header x-r len 20\n capture cookie C len 20\n \
         unique-id-format U%[req.hdr(x-a)]\n unique-id-header x-id\n declare capture request len 10\n \
         http-request set-log-level silent {marked}\n http-request set-var(txn.a) req.hdr(x-a) {marked}\n http-request set-var(sess.a) req.hdr(x-a) {marked}\n \
         http-request set-src req.hdr(x-src) {marked}\n http-request set-priority-class int(5) {marked}\n http-request early-hint link y {marked}\n \
         http-request capture req.hdr(x-a) id 1 {marked}\n http-request set-header x-seen %[var(txn.a)]\n \
         http-request del-header x-src\n http-response set-header x-r %[var(txn.a)]\n \
         log-format \"%HM %HU %ST %B %U %tsc %CC %CS %hr %hs %sq %bq %rc %s %[src] %ID %[var(txn.a)] sess:%[var(sess.a)]\"",
        r.addr()
    );
    let (p, o) = proxy(
        " cookie SRV insert indirect\n http-request set-timeout server 2s if { req.hdr(x-a) -m found }\n server t 127.0.0.1:1 cookie t weight 0\n",
        &frontend,
    );
    let open = || {
        let s = p.connect();
        s.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        BufReader::new(s)
    };
    let mut kept = open();
    kept.get_mut()
        .write_all(b"POST /first HTTP/1.1\r\nHost: x\r\nx-a: one\r\nx-src: 9.9.9.9\r\nCookie: SRV=s; C=c1\r\nContent-Length: 3\r\n\r\nabc")
        .unwrap();
    let first = answer(&mut kept);
    assert!(first.starts_with("HTTP/1.1 103") && first.contains("x-r: one"), "{first}");
    // The first one is whether the proxy is there.
    let seen = [o.next(), o.next()];
    assert!(seen[1].contains("x-seen: one"), "{seen:?}");
    let plain = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut fresh = open();
    let seen: Vec<[String; 3]> = [&mut kept, &mut fresh]
        .into_iter()
        .map(|c| {
            c.get_mut().write_all(plain).unwrap();
            let a = answer(c);
            [a, o.next(), r.until("/next")]
        })
        .collect();
    // What belongs to the session stays with it.
    assert!(seen[0][2].contains("sess:one"), "{}", seen[0][2]);
    let kept: Vec<String> = seen[0].iter().map(|t| t.replace("sess:one", "sess:-")).collect();
    assert_eq!(kept, seen[1]);
}

/// As 3.5 has it, but that it says `----` of a client that leaves in the very moment of the answer; 2.6 gives no status to a request whose client
/// left.
#[test]
fn clients_that_leave_are_logged_and_counted_once() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let (seen, sees) = mpsc::channel();
    std::thread::spawn(move || {
        for mut c in server.incoming().flatten() {
            let seen = seen.clone();
            std::thread::spawn(move || {
                let (mut got, mut b) = (Vec::new(), [0; 1000]);
                while !got.windows(4).any(|w| w == b"\r\n\r\n") {
                    match c.read(&mut b) {
                        Ok(n @ 1..) => got.extend_from_slice(&b[..n]),
                        _ => return,
                    }
                }
                if !got.starts_with(b"POST /half") && !got.starts_with(b"POST /bad") {
                    c.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
                }
                // Whether the proxy serves was asked with another method.
                if got.starts_with(b"POST") {
                    seen.send(()).unwrap();
                }
                while matches!(c.read(&mut b), Ok(1..)) {}
            });
        }
    });
    let r = Receiver::new();
    let p = Proxy::start(
        &tandem(),
        &format!(
            "{HEAD}frontend f\n bind 127.0.0.1:{{port}}\n default_backend b\n log {} format raw local0\n log-format \"%ST %tsc %HM\"\n\
             backend b\n server s 127.0.0.1:{port}\n",
            r.addr()
        ),
    );
    let of = |row: &str, names: &[&str]| names.iter().map(|n| p.column(row, n)).collect::<Vec<_>>();
    const FRONT: &[&str] = &["req_tot", "ereq", "hrsp_2xx", "hrsp_4xx", "hrsp_other"];
    const BACK: &[&str] = &["req_tot", "hrsp_2xx", "hrsp_4xx", "cli_abrt"];
    let rows = || [of("f,FRONTEND", FRONT), of("b,BACKEND", BACK), of("b,s,", BACK)];
    let before = rows();
    let connect = |said: &[u8]| {
        let mut c = TcpStream::connect(("127.0.0.1", p.port)).unwrap();
        c.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        c.write_all(said).unwrap();
        c
    };
    let leaves = |c: TcpStream| c.shutdown(std::net::Shutdown::Write).unwrap();
    let c = connect(b"GET /half HTTP/1.1\r\nHo");
    leaves(c.try_clone().unwrap());
    assert_eq!(r.until("CR"), "400 CR-- <BADREQ>\n");
    let c = connect(b"POST /half HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n12345");
    sees.recv_timeout(Duration::from_secs(5)).unwrap();
    leaves(c.try_clone().unwrap());
    assert_eq!(r.until("POST"), "400 CH-- POST\n");
    let mut c = connect(b"POST /early HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n32\r\nxxx");
    sees.recv_timeout(Duration::from_secs(5)).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok") {
        let mut b = [0; 200];
        let n = c.read(&mut b).unwrap();
        assert!(n > 0, "the whole answer");
        answer.extend_from_slice(&b[..n]);
    }
    leaves(c.try_clone().unwrap());
    assert_eq!(r.until("POST"), "200 CL-- POST\n");
    let mut c = connect(b"POST /bad HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    sees.recv_timeout(Duration::from_secs(5)).unwrap();
    c.write_all(b"zz\r\n").unwrap();
    assert_eq!(r.until("POST"), "400 PH-- POST\n");
    let more: Vec<Vec<u64>> =
        rows().iter().zip(&before).map(|(now, then)| now.iter().zip(then).map(|(n, t)| n - t).collect()).collect();
    // What was answered in the server's place is not its answer.
    assert_eq!(more, [vec![4, 2, 1, 3, 0], vec![3, 1, 2, 2], vec![1, 1, 0, 2]]);
}

/// Whoever was refused and then has to wait for another server waited in the queue. (HAProxy does not have it wait: `docs/compatibility.md`.)
#[test]
fn a_wait_behind_a_refusal_is_the_queues() {
    let r = Receiver::new();
    let origin = Origin::start(|_| ok("ok"));
    let p = Proxy::start(
        &tandem(),
        &format!(
            "{HEAD}frontend f\n mode tcp\n bind 127.0.0.1:{{port}}\n default_backend b\n log {} format raw local0\n log-format \"%Tw %Tc %s\"\n\
             backend b\n mode tcp\n balance roundrobin\n option redispatch 1\n timeout queue 5s\n \
             server s0 127.0.0.1:{} maxconn 1\n server s1 127.0.0.1:{} maxconn 1\n",
            r.addr(),
            free_port(),
            origin.port
        ),
    );
    let ask = |c: &mut BufReader<TcpStream>| {
        c.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        answer(c)
    };
    assert!(wait_for(Duration::from_secs(5), || p.column("b,BACKEND", "scur") == 0));
    let mut first = BufReader::new(p.connect());
    ask(&mut first);
    let mut second = BufReader::new(p.connect());
    assert!(wait_for(Duration::from_secs(5), || p.column("b,BACKEND", "qcur") == 1));
    // So long it waits at least.
    std::thread::sleep(Duration::from_millis(200));
    drop(first);
    ask(&mut second);
    drop(second);
    let times = loop {
        let line = r.next();
        let mut words = line.split_whitespace();
        let [queue, connect] = [(); 2].map(|()| words.next().unwrap().parse::<i64>().unwrap());
        if queue + connect >= 200 {
            break (queue, connect);
        }
    };
    assert!(times.1 < 200, "{times:?}");
}
