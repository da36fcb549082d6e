//! Ring 3: streams of bytes that become HTTP, and what rules make of what comes back.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use support::{Origin, Proxy, ok, tandem};

const HEAD: &str = "global\n stats socket {dir}/admin.sock level admin\n nbthread 2\ndefaults\n timeout client 5s\n timeout server 2s\n timeout connect 500ms\n log stdout format raw local0\n log-format \"%ci %ft %b/%s %ST %ts %{+Q}r\"\n";

fn proxy(rest: &str) -> Proxy {
    Proxy::start(&tandem(), &format!("{HEAD}{rest}"))
}

/// Tells what it was asked for, and what a rule said of the stream.
fn origin() -> Origin {
    Origin::start(|r| {
        let said = |name: &str| {
            r.lines().find_map(|l| l.strip_prefix(&format!("{name}: ")).map(str::to_owned)).unwrap_or_default()
        };
        ok(&format!("{} {} {}", r.split(' ').nth(1).unwrap(), said("x-mode"), said("x-name")))
    })
}

/// Two requests on one connection.
fn two(p: &Proxy) -> [String; 2] {
    let mut c = p.connect();
    ["/1", "/2"].map(|path| {
        c.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
        let mut buf = vec![0; 4096];
        let n = c.read(&mut buf).unwrap();
        String::from_utf8_lossy(&buf[..n]).rsplit("\r\n").next().unwrap_or_default().to_owned()
    })
}

#[test]
fn a_rule_makes_a_stream_http_from_its_first_byte_on() {
    let o = origin();
    let p = proxy(&format!(
        "frontend f\n mode tcp\n bind 127.0.0.1:{{port}}\n tcp-request inspect-delay 2s\n\
         tcp-request content set-var(txn.m) internal.strm.is_htx,iif(http,bytes)\n tcp-request content switch-mode http if HTTP\n tcp-request content reject\n\
         http-request set-header x-mode %[var(txn.m)]\n http-request set-header x-name %[fe_name]\n default_backend b\n\
         backend b\n mode http\n server s 127.0.0.1:{}\n",
        o.port
    ));
    // The first request was looked at as bytes, the second one as a message; both go through the rules of HTTP.
    assert_eq!(two(&p), ["/1 bytes f", "/2 http f"]);
    assert_eq!(p.line(), "127.0.0.1 f b/s 200 -- \"GET /1 HTTP/1.1\"");
    assert_eq!(p.line(), "127.0.0.1 f b/s 200 -- \"GET /2 HTTP/1.1\"");
    // What is no request is refused by the rule behind it.
    let mut c = p.connect();
    c.write_all(b"\x16\x03\x01 no request").unwrap();
    let mut rest = Vec::new();
    let _ = c.read_to_end(&mut rest);
    assert!(rest.is_empty());
    assert_eq!(p.line(), "127.0.0.1 f f/<NOSRV> -1 PR \"<BADREQ>\"");
}

#[test]
fn a_backend_of_http_makes_a_stream_http() {
    let o = origin();
    let p = proxy(&format!(
        "frontend f\n mode tcp\n bind 127.0.0.1:{{port}}\n default_backend b\n\
         backend b\n mode http\n http-request set-header x-name %[be_name]\n server s 127.0.0.1:{}\n",
        o.port
    ));
    assert_eq!(two(&p), ["/1  b", "/2  b"]);
    assert!(p.exchange(b"GET / nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
    // The connections of a listener that must not become HTTP end.
    let p = proxy(&format!(
        "frontend f\n mode tcp\n bind 127.0.0.1:{{port}} proto none\n default_backend b\nbackend b\n mode http\n server s 127.0.0.1:{}\n",
        o.port
    ));
    assert_eq!(p.exchange(b"GET / HTTP/1.0\r\n\r\n"), "");
}

#[test]
fn rules_of_bytes_may_ask_about_a_request() {
    let (a, b) = (Origin::start(|_| ok("A")), Origin::start(|_| ok("B")));
    let p = proxy(&format!(
        "frontend f\n mode tcp\n bind 127.0.0.1:{{port}}\n tcp-request inspect-delay 5s\n\
         tcp-request content reject unless {{ path_beg /ok }}\n use_backend a if {{ hdr(host) -i a.example }}\n default_backend b\n\
         backend a\n mode tcp\n server s 127.0.0.1:{}\nbackend b\n mode tcp\n server s 127.0.0.1:{}\n",
        a.port, b.port
    ));
    // In two parts: what can be said of the first is that more has to come.
    let ask = |first: &str, second: &str| {
        let mut c = p.connect();
        c.set_nodelay(true).unwrap();
        c.write_all(first.as_bytes()).unwrap();
        c.write_all(second.as_bytes()).unwrap();
        let mut buf = vec![0; 4096];
        let n = c.read(&mut buf).unwrap_or(0);
        buf[..n].last().map(|c| char::from(*c))
    };
    assert_eq!(ask("GET /ok HT", "TP/1.1\r\nHost: A.example\r\n\r\n"), Some('A'));
    assert_eq!(ask("GET /ok HTTP/1.1\r\n", "Host: c.example\r\n\r\n"), Some('B'));
    assert_eq!(ask("GET /no HTTP/1.1\r\n", "Host: a.example\r\n\r\n"), None);
    // That it is no request is known at once, long before the delay is over.
    let begin = std::time::Instant::now();
    assert_eq!(ask("\x01\x02", "\x03"), None);
    assert!(begin.elapsed() < std::time::Duration::from_secs(4));
}

/// A server that sends a greeting in two parts and then what it gets.
fn greeter(first: &'static [u8], second: &'static [u8]) -> u16 {
    let l = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = l.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut s in l.incoming().flatten() {
            let _ = s.set_nodelay(true);
            let _ = s.write_all(first);
            let _ = s.write_all(second);
            let mut buf = [0; 100];
            while let Ok(n @ 1..) = s.read(&mut buf) {
                let _ = s.write_all(&buf[..n]);
            }
        }
    });
    port
}

#[test]
fn what_servers_send_is_looked_at_before_it_goes_on() {
    let port = greeter(b"220 ", b"mail\r\n");
    let run = |rules: &str| {
        let p = proxy(&format!(
            "frontend f\n mode tcp\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n mode tcp\n tcp-response inspect-delay 2s\n{rules}\n server s 127.0.0.1:{port}\n"
        ));
        let mut c = p.connect();
        // It may be over by then.
        let _ = c.write_all(b"hello");
        let _ = c.shutdown(Shutdown::Write);
        let mut all = Vec::new();
        let _ = c.read_to_end(&mut all);
        (String::from_utf8(all).unwrap(), p.line())
    };
    let (text, line) =
        run(" tcp-response content accept if { res.payload(0,8) -m str \"220 mail\" }\n tcp-response content reject");
    assert_eq!((text.as_str(), line.as_str()), ("220 mail\r\nhello", "127.0.0.1 f b/s -1 -- \"<BADREQ>\""));
    let (text, line) = run(" tcp-response content reject if { res.payload(0,3) -m str 220 }");
    assert_eq!((text.as_str(), line.as_str()), ("", "127.0.0.1 f b/s -1 PD \"<BADREQ>\""));
    let (text, line) = run(" tcp-response content close if { res.len ge 4 }");
    assert_eq!((text.as_str(), line.as_str()), ("", "127.0.0.1 f b/s -1 -- \"<BADREQ>\""));
    // Of an answer in HTTP its head is there, where there is a delay.
    let o = Origin::start(|_| ok("secret"));
    let web = |rules: &str| {
        proxy(&format!(
            "frontend f\n mode http\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n mode http\n{rules}\n server s 127.0.0.1:{}\n",
            o.port
        ))
    };
    let get = b"GET / HTTP/1.0\r\n\r\n";
    let p = web(" tcp-response inspect-delay 1s\n tcp-response content reject if { status 200 }");
    p.cli("clear counters all");
    assert_eq!(p.exchange(get), "");
    assert_eq!(p.line(), "127.0.0.1 f b/s 200 PD \"GET / HTTP/1.0\"");
    let stat = p.cli("show stat");
    let denied = |row: &str| stat.lines().find(|l| l.starts_with(row)).unwrap().split(',').nth(11).unwrap().to_owned();
    assert_eq!([denied("f,FRONTEND"), denied("b,s"), denied("b,BACKEND")], ["1", "1", "1"]);
    let p = web(" tcp-response content reject if { status 200 }");
    assert!(p.exchange(get).ends_with("secret"));
    // The server's connection ends, not the answer.
    let p = web(" tcp-response inspect-delay 1s\n tcp-response content close if { status 200 }");
    assert!(p.exchange(get).ends_with("secret") && p.get("/").ends_with("secret"));
    let stat = p.cli("show stat");
    let reuse = stat.lines().next().unwrap().split(',').position(|c| c == "reuse").unwrap();
    assert_eq!(stat.lines().find(|l| l.starts_with("b,s,")).unwrap().split(',').nth(reuse), Some("0"));
}

/// What leads round the rules of a backend or of a frontend: a first request that comes late or in pieces, or one that is answered early.
#[test]
fn every_request_of_an_upgraded_stream_meets_the_rules() {
    let o = origin();
    let p = proxy(&format!(
        "frontend f\n mode tcp\n bind 127.0.0.1:{{port}}\n default_backend b\n\
         backend b\n mode http\n tcp-request content reject if {{ path_beg /admin }}\n server s 127.0.0.1:{}\n",
        o.port
    ));
    let mut c = p.connect();
    c.set_nodelay(true).unwrap();
    for part in ["GET /ad", "min HTTP/1.0\r\n", "\r\n"] {
        c.write_all(part.as_bytes()).unwrap();
        // Each part comes by itself: that is what is tried here.
        std::thread::sleep(std::time::Duration::from_millis(60));
    }
    let mut text = String::new();
    let _ = c.read_to_string(&mut text);
    assert_eq!(text, "");
    assert!(p.exchange(b"GET /fine HTTP/1.0\r\n\r\n").ends_with("/fine  "));
    let p = proxy(&format!(
        "frontend f\n mode tcp\n bind 127.0.0.1:{{port}}\n monitor-uri /alive\n tcp-request inspect-delay 2s\n tcp-request content reject if {{ path_beg /admin }}\n\
         tcp-request content switch-mode http if HTTP\n default_backend b\nbackend b\n mode http\n server s 127.0.0.1:{}\n",
        o.port
    ));
    let mut c = p.connect();
    c.write_all(b"GET /alive HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut buf = [0; 4096];
    let n = c.read(&mut buf).unwrap();
    assert!(buf[..n].starts_with(b"HTTP/1.1 200"));
    c.write_all(b"GET /admin HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    let _ = c.read_to_end(&mut rest);
    assert!(!String::from_utf8_lossy(&rest).contains("/admin"), "{}", String::from_utf8_lossy(&rest));
}
