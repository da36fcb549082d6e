//! Ring 3: what becomes of bodies on their way: compression, bandwidth limits.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::time::{Duration, Instant};
use support::{Origin, Proxy, ok, tandem};

const HEAD: &str = "global\n stats socket {dir}/admin.sock level admin\n nbthread 2\ndefaults\n mode http\n timeout client 3s\n timeout server 1s\n timeout connect 500ms\n log stdout format raw local0\n option httplog\n";

fn proxy(rest: &str) -> Proxy {
    Proxy::start(&tandem(), &format!("{HEAD}{rest}"))
}

/// The whole answer to a request that ends the connection: its head, and its body without chunk framing.
fn ask(p: &Proxy, request: &str) -> (String, Vec<u8>) {
    let mut s = p.connect();
    s.write_all(request.as_bytes()).unwrap();
    let mut all = Vec::new();
    s.read_to_end(&mut all).unwrap();
    let end = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let (head, mut body) = (String::from_utf8(all[..end].to_vec()).unwrap(), all[end..].to_vec());
    if head.contains("transfer-encoding: chunked") {
        body = dechunked(&body);
    }
    (head, body)
}

fn dechunked(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let line = body.windows(2).position(|w| w == b"\r\n").unwrap();
        let n = usize::from_str_radix(std::str::from_utf8(&body[..line]).unwrap(), 16).unwrap();
        if n == 0 {
            return out;
        }
        out.extend_from_slice(&body[line + 2..line + 2 + n]);
        body = &body[line + 2 + n + 2..];
    }
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

fn text(n: usize) -> String {
    (0..).flat_map(|i: usize| format!("line {i}\n").into_bytes()).take(n).map(char::from).collect()
}

#[test]
fn answers_are_compressed_for_who_can_decode() {
    let big = text(200_000);
    let reply = big.clone();
    let o = Origin::start(move |r| {
        let (kind, body): (&str, &str) =
            if r.starts_with("GET /png") { ("image/png", "not text at all") } else { ("text/plain", &reply) };
        let length = if r.starts_with("GET /chunked") {
            let (a, b) = body.split_at(70_000);
            let chunks = format!("{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\nX-T: t\r\n\r\n", a.len(), b.len());
            return format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")
                .into_bytes();
        } else {
            body.len()
        };
        format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nETag: \"e\"\r\nContent-Length: {length}\r\n\r\n{body}")
            .into_bytes()
    });
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n compression type text/\n http-response set-header X-Comp %[res.comp],%[res.comp_algo]\n default_backend b\n\
         backend b\n compression algo deflate gzip\n compression offload\n server s 127.0.0.1:{}\n",
        o.port
    ));
    o.next();
    let (head, body) = ask(&p, "GET /a HTTP/1.1\r\nHost: x\r\nAccept-Encoding: br, gzip\r\nConnection: close\r\n\r\n");
    assert_eq!(
        head,
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\netag: W/\"e\"\r\nx-comp: 1,gzip\r\ntransfer-encoding: chunked\r\nvary: Accept-Encoding\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n"
    );
    assert!(body.len() < 100_000, "{}", body.len());
    assert_eq!(gunzip(&body), big.as_bytes());
    assert_eq!(o.next(), "GET /a HTTP/1.1\r\nhost: x\r\n\r\n");
    let (head, body) =
        ask(&p, "GET /chunked HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n");
    assert!(head.contains("content-encoding: gzip\r\n"), "{head}");
    assert_eq!(gunzip(&body), big.as_bytes());
    // What may not be compressed, and who cannot decode.
    for (request, want) in [
        ("GET /png HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n", "not text at all"),
        ("GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &big),
        ("GET /a HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n", &big),
    ] {
        let (head, body) = ask(&p, request);
        assert!(!head.contains("content-encoding") && head.contains("content-length: "), "{head}");
        assert!(body == want.as_bytes(), "{head}");
    }
    assert_eq!(p.column("b,BACKEND", "comp_rsp"), 2);
    assert_eq!(p.column("f,FRONTEND", "comp_in"), 400000);
    assert!(p.column("b,BACKEND", "comp_out") < 200_000);
    assert_eq!(p.column("b,BACKEND", "comp_byp"), 0);
}

#[test]
fn requests_are_compressed_on_their_way_to_servers() {
    let o = Origin::start(|r| ok(if r.contains("content-encoding: gzip") { "coded" } else { "plain" }));
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n default_backend b\n\
         backend b\n compression direction both\n compression algo-req gzip\n compression type-req text/plain\n compression minsize-req 800\n server s 127.0.0.1:{}\n",
        o.port
    ));
    let post = |n: usize| {
        let body = "x".repeat(n);
        ask(&p, &format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: {n}\r\nConnection: close\r\n\r\n{body}")).1
    };
    assert_eq!(post(800), b"coded");
    assert_eq!(post(799), b"plain");
}

#[test]
fn a_bandwidth_limit_holds_back_what_is_too_much() {
    let o = Origin::start(|_| ok(&"x".repeat(20_000)));
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n filter bwlim-out slow default-limit 10000 default-period 300ms\n \
         http-request set-bandwidth-limit slow if {{ path /slow }}\n http-response set-bandwidth-limit slow limit int(1000000) if {{ capture.req.uri /fast }}\n default_backend b\n\
         backend b\n server s 127.0.0.1:{}\n",
        o.port
    ));
    let timed = |path: &str| {
        let begin = Instant::now();
        let (_, body) = ask(&p, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
        assert_eq!(body.len(), 20_000);
        begin.elapsed()
    };
    // The first period's share at once, the rest over the second period.
    assert!(timed("/slow") >= Duration::from_millis(450));
    assert!(timed("/fast") < Duration::from_millis(450));
    assert!(timed("/") < Duration::from_millis(450));
}

const CACHE: &str = "cache c\n total-max-size 1\n max-object-size 20000\n max-age 60\n process-vary on\n";

/// An origin that says how often it was asked, in a body of the length that the path ends with.
fn counting() -> Origin {
    let asked = std::sync::atomic::AtomicU32::new(0);
    Origin::start(move |r| {
        let n = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let path = r.split(' ').nth(1).unwrap();
        let body = format!("answer {n} ");
        let extra = match path.split('?').next().unwrap() {
            "/private" => "Cache-Control: private\r\n",
            "/vary" => "Vary: Origin\r\nCache-Control: max-age=30\r\n",
            "/chunked" => {
                return format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=30\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\nX-T: t\r\n\r\n", body.len()).into_bytes();
            }
            "/medium" => {
                let body = text(19_000);
                return format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=30\r\nContent-Length: 19000\r\n\r\n{body}")
                    .into_bytes();
            }
            "/large" => {
                let body = "x".repeat(30_000);
                return format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=30\r\nContent-Length: 30000\r\n\r\n{body}")
                    .into_bytes();
            }
            _ => "Cache-Control: max-age=30\r\nETag: \"e\"\r\nSet-Cookie: a=b\r\n",
        };
        format!("HTTP/1.1 200 OK\r\n{extra}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    })
}

#[test]
fn answers_are_kept_and_given_again() {
    let o = counting();
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n http-request cache-use c\n http-response cache-store c\n http-response set-header X-Hit %[res.cache_hit]/%[res.cache_name]\n server s 127.0.0.1:{}\n{CACHE}",
        o.port
    ));
    let get = |path: &str, headers: &str| {
        let (head, body) = ask(&p, &format!("GET {path} HTTP/1.1\r\nHost: h\r\n{headers}Connection: close\r\n\r\n"));
        (head, String::from_utf8(body).unwrap())
    };
    let (head, first) = get("/a", "");
    assert!(head.ends_with("set-cookie: a=b\r\ncontent-length: 9\r\nx-hit: 0/\r\nconnection: close\r\n\r\n"), "{head}");
    let (head, second) = get("/a", "");
    assert_eq!(first, second);
    assert_eq!(
        head,
        "HTTP/1.1 200 OK\r\ncache-control: max-age=30\r\netag: \"e\"\r\nset-cookie: a=b\r\ncontent-length: 9\r\nage: 0\r\nx-hit: 1/c\r\nconnection: close\r\n\r\n"
    );
    // On one connection, and a conditional one.
    let both = p.exchange(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /a HTTP/1.1\r\nHost: h\r\nIf-None-Match: \"e\"\r\nConnection: close\r\n\r\n");
    assert!(both.contains(&format!("{first}HTTP/1.1 304 Not Modified\r\n")), "{both}");
    assert!(both.ends_with("content-length: 9\r\nage: 0\r\nx-hit: 1/c\r\nconnection: close\r\n\r\n"), "{both}");
    let head = p.exchange(b"HEAD /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert!(head.ends_with("x-hit: 1/c\r\nconnection: close\r\n\r\n"), "{head}");
    // Who may not have it, and what may not be kept.
    for (path, headers, again) in [
        ("/a", "Authorization: x\r\n", false),
        ("/a", "Cache-Control: no-cache\r\n", false),
        ("/b", "Cache-Control: no-store\r\n", false),
        ("/private", "", false),
        ("/large", "", false),
        ("/chunked", "", true),
        ("/vary", "Origin: a\r\n", true),
        ("/vary", "Origin: b\r\n", true),
    ] {
        get(path, headers);
        let (head, body) = get(path, headers);
        assert_eq!(head.contains("x-hit: 1/c"), again, "{path} {headers}: {head}");
        assert!(body.starts_with("answer") || path == "/large", "{body}");
    }
    let raw = p.exchange(b"GET /chunked HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert!(
        raw.contains("transfer-encoding: chunked\r\nage: 0\r\n") && raw.ends_with("\r\n0\r\nx-t: t\r\n\r\n"),
        "{raw}"
    );
    // Longer than one piece.
    for hit in [false, true] {
        let (head, body) = get("/medium", "");
        assert_eq!((head.contains("x-hit: 1/c"), body == text(19_000)), (hit, true), "{head}");
    }
    // A change makes what is kept out of date.
    let (_, kept) = get("/a", "");
    p.exchange(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert_ne!(get("/a", "").1, kept);
    assert!(p.cli("show cache").contains(": c (shctx:0x"), "{}", p.cli("show cache"));
    assert!(p.column("b,BACKEND", "cache_hits") >= 6);
    p.drain();
    get("/a", "");
    let line = p.line();
    assert!(line.contains(" f b/<CACHE> 0/0/0/0/") && line.contains(" LR-- "), "{line}");
}

#[test]
fn what_broke_off_is_not_kept() {
    let n = std::sync::atomic::AtomicU32::new(0);
    let o = Origin::start(move |_| {
        // The second half never comes: the answer is as long as it says only from the second time on.
        let whole = n.fetch_add(1, std::sync::atomic::Ordering::SeqCst) > 1;
        let mut out =
            b"HTTP/1.1 200 OK\r\nCache-Control: max-age=30\r\nConnection: close\r\nContent-Length: 10\r\n\r\nhello"
                .to_vec();
        if whole {
            out.extend_from_slice(b"world");
        }
        out
    });
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n timeout server 200ms\n http-request cache-use c\n http-response cache-store c\n server s 127.0.0.1:{}\n{CACHE}",
        o.port
    ));
    let broken = p.exchange(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(broken.ends_with("\r\n\r\nhello"), "{broken}");
    let (head, body) = ask(&p, "GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert_eq!((body.as_slice(), head.contains("age: ")), (&b"helloworld"[..], false), "{head}");
    let (head, body) = ask(&p, "GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert_eq!((body.as_slice(), head.contains("age: ")), (&b"helloworld"[..], true), "{head}");
}

/// Whether a body goes to the client is decided by what the client has asked and by the final status; the server's is read all the same.
#[test]
fn a_body_that_nobody_expects_is_read_and_not_sent() {
    let o = Origin::start(|r| match r {
        r if r.contains("/chunks") => {
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec()
        }
        r if r.contains("/long") => ok(&text(200_000)),
        r if r.starts_with("HEAD ") => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_vec(),
        _ => ok("hello"),
    });
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n http-request set-var(txn.s) hdr(x-status)\n http-request set-method GET\n http-request set-method HEAD if {{ path /head }}\n http-response set-status 204 if {{ var(txn.s) 204 }}\n http-response set-status 304 if {{ var(txn.s) 304 }}\n http-response set-status 103 if {{ var(txn.s) 103 }}\n http-response set-status 101 if {{ var(txn.s) 101 }}\n default_backend b\nbackend b\n server s 127.0.0.1:{}\n",
        o.port
    ));
    let second = "GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let both = |method: &str, path: &str, status: &str| {
        p.exchange(format!("{method} {path} HTTP/1.1\r\nHost: h\r\nX-Status: {status}\r\n\r\n{second}").as_bytes())
    };
    let last = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
    for path in ["/", "/chunks", "/long"] {
        let answer = both("HEAD", path, "");
        let (head, rest) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {answer}");
        assert!(head.contains("content-length: ") || head.contains("transfer-encoding: chunked"), "{path}: {answer}");
        assert_eq!(rest, last, "{path}");
    }
    let answer = both("GET", "/", "204");
    assert_eq!(answer, format!("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n{last}"));
    // Without its framing the end of the answer is the end of the connection.
    assert_eq!(both("GET", "/chunks", "204"), "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
    let answer = both("GET", "/chunks", "304");
    assert_eq!(answer, format!("HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n{last}"));
    // And what promises a body that does not come ends the connection.
    let answer = both("GET", "/head", "");
    assert_eq!(answer, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\n");
    // What a rule calls an interim answer is the last one.
    assert_eq!(both("GET", "/", "103"), "HTTP/1.1 103 Informational\r\ncontent-length: 5\r\nconnection: close\r\n\r\n");
    assert_eq!(both("GET", "/", "101"), "");
}

/// A server of one answer after the other: so much of it at once, the rest when it is told to go on, or never.
fn slow_server(parts: &'static [(&'static str, &'static str)]) -> u16 {
    let l = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = l.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for s in l.incoming().flatten() {
            std::thread::spawn(move || {
                let mut s = s;
                let mut seen = Vec::new();
                let mut b = [0; 1];
                while matches!(s.read(&mut b), Ok(1)) {
                    seen.push(b[0]);
                    if !seen.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    let head = String::from_utf8_lossy(&seen).into_owned();
                    let (path, answer) = parts
                        .iter()
                        .find(|(p, _)| head.contains(p))
                        .unwrap_or(&("", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
                    let _ = s.write_all(answer.as_bytes());
                    if path.ends_with("/gone") {
                        return;
                    }
                    seen.clear();
                }
            });
        }
    });
    port
}

#[test]
fn the_body_of_an_answer_is_waited_for() {
    let port = slow_server(&[
        ("/half", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello"),
        ("/enough", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello"),
        ("/gone", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello"),
        ("/bad", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
        ("/whole", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"),
    ]);
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n http-request set-var(txn.p) path\n http-response wait-for-body time 200ms if !{{ var(txn.p) /enough }}\n http-response wait-for-body time 200ms at-least 5 if {{ var(txn.p) /enough }}\n http-response set-header x-waited yes\n default_backend b\nbackend b\n server s 127.0.0.1:{port}\n"
    ));
    assert!(p.get("/whole").contains("x-waited: yes\r\nconnection: close\r\n\r\nhello"));
    let late = p.get("/half");
    assert!(late.starts_with("HTTP/1.1 504 ") && !late.contains("x-waited"), "{late}");
    assert!(p.line().contains(" 200 "));
    assert!(p.line().contains(" sH-- "));
    // What there is goes on, as far as the server left it.
    let gone = p.get("/gone");
    assert!(gone.contains("x-waited: yes\r\n") && gone.ends_with("\r\n\r\nhello"), "{gone}");
    assert!(p.line().contains(" SD-- "));
    assert!(p.get("/bad").starts_with("HTTP/1.1 502 "));
    let mut s = p.connect();
    s.write_all(b"GET /enough HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let wanted = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\nx-waited: yes\r\n\r\nhello";
    let mut head = vec![0; wanted.len()];
    s.read_exact(&mut head).unwrap();
    assert_eq!(head, wanted);
}

#[test]
fn hints_go_out_before_the_answer() {
    let o = Origin::start(|_| ok("x"));
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n http-request early-hint Link </a.css> if {{ path /two }}\n http-request early-hint link </b.css>\n http-request early-hint link </c.css> if {{ path /two }}\n http-request deny if {{ path /no }}\n default_backend b\nbackend b\n server s 127.0.0.1:{}\n",
        o.port
    ));
    let one = "HTTP/1.1 103 Early Hints\r\nlink: </b.css>\r\n\r\n";
    assert!(p.get("/").starts_with(&format!("{one}HTTP/1.1 200 OK\r\n")));
    // What was said already stays said.
    assert!(p.get("/no").starts_with(&format!("{one}HTTP/1.1 403 Forbidden\r\n")));
    // Rules without a condition share an answer with the one before them.
    let two = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nlink: </b.css>\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </c.css>\r\n\r\n";
    let answer = p.get("/two");
    assert!(answer.starts_with(&format!("{two}HTTP/1.1 200 OK\r\n")), "{answer}");
    let old = p.exchange(b"GET / HTTP/1.0\r\n\r\n");
    assert!(old.starts_with("HTTP/1.1 200 OK\r\n") || old.starts_with("HTTP/1.0 200 OK\r\n"), "{old}");
}

/// A rewrite that has no room in the buffer ends the exchange, or is passed over.
#[test]
fn rules_that_find_no_room_fail() {
    let o = Origin::start(|r| ok(if r.contains("x-big: ") { "big" } else { "small" }));
    let early = slow_server(&[("POST /", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")]);
    let long = "v".repeat(700);
    let p = Proxy::start(
        &tandem(),
        &format!(
            "global\n stats socket {{dir}}/admin.sock level admin\n tune.bufsize 2048\n tune.maxrewrite 1024\ndefaults\n mode http\n timeout client 3s\n timeout server 1s\n timeout connect 500ms\nfrontend f\n bind 127.0.0.1:{{port}}\n http-request strict-mode off if {{ path /off }}\n http-request set-header x-big {long} if {{ path /fits }} || {{ path /off }} || {{ path /strict }}\n http-request set-header x-bigger {long}{long} if {{ path /strict }} || {{ path /off }}\n http-response set-header x-a {long}{long}{long} if {{ res.hdr(content-length) 5 }}\n use_backend early if {{ method POST }}\n default_backend b\nbackend early\n server s 127.0.0.1:{early}\nbackend b\n server s 127.0.0.1:{}\n",
            o.port
        ),
    );
    assert!(p.get("/fits").ends_with("big"));
    assert!(p.get("/off").ends_with("big"));
    assert!(p.get("/strict").starts_with("HTTP/1.1 500 "));
    assert!(p.get("/").starts_with("HTTP/1.1 500 "));
    // The server has answered before the whole of the request was there: what follows is not the next one.
    let mut s = p.connect();
    s.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 60\r\n\r\n").unwrap();
    let mut answer = String::new();
    let mut b = [0; 1];
    while !answer.ends_with("\r\n\r\n") && matches!(s.read(&mut b), Ok(1)) {
        answer.push(char::from(b[0]));
    }
    assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!((p.column("f,FRONTEND", "wrew"), p.column("b,s,", "wrew")), (5, 2));
}

#[test]
fn hints_go_ahead_of_answers_that_are_not_kept_any_more() {
    let o = Origin::start(|r| {
        let link = if r.starts_with("GET /plain") {
            "</terms>; rel=author"
        } else {
            "</a.css>; rel=preload; as=style, </x>; rel=next"
        };
        format!(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=1\r\nLink: {link}\r\nContent-Length: 600\r\n\r\n{}",
            "x".repeat(600)
        )
        .into_bytes()
    });
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n http-request cache-use only if {{ path_beg /only }}\n http-request cache-use c no-early-hints if {{ path_beg /c-silent }}\n http-request cache-use c if {{ path_beg /c }} !{{ path_beg /c-silent }}\n\
         http-response cache-store only if {{ capture.req.uri -m beg /only }}\n http-response cache-store c if {{ capture.req.uri -m beg /c }}\n server s 127.0.0.1:{}\n\
         cache only\n total-max-size 1\n max-object-size 500\n max-age 60\n early-hints only\n\
         cache c\n total-max-size 1\n max-object-size 20000\n max-age 60\n early-hints on\n",
        o.port
    ));
    let hint = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload; as=style\r\n\r\nHTTP/1.1 200 OK\r\n";
    let ask = |path: &str, more: &str| {
        p.exchange(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{more}\r\n").as_bytes())
    };
    // Too large to be kept, and not kept: the server is asked each time.
    assert!(ask("/only", "").starts_with("HTTP/1.1 200 OK"));
    assert!(ask("/only", "").starts_with(hint));
    assert!(p.cli("show cache").contains("type:hints"), "{}", p.cli("show cache"));
    assert!(ask("/only", "Cache-Control: no-cache\r\n").starts_with("HTTP/1.1 200 OK"));
    assert!(p.exchange(b"GET /only HTTP/1.0\r\nHost: h\r\n\r\n").starts_with("HTTP/1.1 200 OK"));
    // What kept an answer gives that, and its hints when its time is over.
    assert!(ask("/c", "").starts_with("HTTP/1.1 200 OK") && ask("/c-silent", "").starts_with("HTTP/1.1 200 OK"));
    assert!(ask("/c", "").contains("age: "));
    assert!(support::wait_for(Duration::from_secs(5), || ask("/c", "").starts_with(hint)), "{}", ask("/c", ""));
    assert!(!ask("/c-silent", "").contains("103"));
    assert!(p.column("b,BACKEND", "cache_hint_hits") >= 2);
}
