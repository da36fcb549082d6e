//! Ring 3: which server a client stays with, and whose connections are whose.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::{Origin, Proxy, ok, tandem};

const HEAD: &str = "global\n stats socket {dir}/admin.sock level admin\n nbthread 1\ndefaults\n mode http\n timeout client 3s\n timeout server 3s\n timeout connect 500ms\n timeout queue 3s\n log stdout format raw local0\n option httplog\n";

fn proxy(rest: &str) -> Proxy {
    Proxy::start(&tandem(), &format!("{HEAD}{rest}"))
}

/// A server that says its name.
fn named(name: &'static str) -> Origin {
    Origin::start(move |_| ok(name))
}

fn ask(p: &Proxy, headers: &str) -> String {
    p.exchange(format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n").as_bytes())
}

fn set_cookie(answer: &str) -> Option<&str> {
    answer.lines().find_map(|l| l.strip_prefix("set-cookie: "))
}

/// The log's letters about cookies.
fn letters(p: &Proxy) -> String {
    p.line().split(' ').find(|w| w.len() == 4 && w.starts_with("--")).unwrap().to_owned()
}

/// A date as cookies have it: four seconds, six bits a letter.
fn date(ago: u64) -> String {
    let letters: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).collect();
    let n = (SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - ago) / 4;
    [24, 18, 12, 6, 0].map(|s| letters[usize::try_from(n >> s & 63).unwrap()]).iter().collect()
}

#[test]
fn cookies_have_dates() {
    let (a, b) = (named("a"), named("b"));
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n cookie SRV insert indirect nocache maxidle 100s maxlife 1h\n server a 127.0.0.1:{} cookie ca\n server b 127.0.0.1:{} cookie cb\n",
        a.port, b.port
    ));
    let fresh = ask(&p, "");
    let cookie = set_cookie(&fresh).unwrap().split(';').next().unwrap().to_owned();
    let parts: Vec<&str> = cookie.split('|').collect();
    assert_eq!((parts.len(), parts[1].len(), parts[1]), (3, 5, parts[2]), "{cookie}");
    assert_eq!(letters(&p), "--NI");
    // Seen a while ago: the date is refreshed, and the first one stays.
    let first = date(500);
    let answer = ask(&p, &format!("Cookie: SRV=cb|{}|{first}\r\n", date(50)));
    assert!(answer.ends_with('b') && set_cookie(&answer).unwrap().contains(&format!("|{first};")), "{answer}");
    assert_eq!(letters(&p), "--VU");
    // Idle for too long, too old, and from too far in the future.
    for (what, expected) in [
        (format!("SRV=cb|{}|{}", date(200), date(300)), "--EI"),
        (format!("SRV=cb|{}|{}", date(10), date(4_000)), "--OI"),
    ] {
        ask(&p, &format!("Cookie: {what}\r\n"));
        assert_eq!(letters(&p), expected, "{what}");
    }
    // Without a date it is good, and gets one.
    let answer = ask(&p, "Cookie: SRV=cb\r\n");
    assert!(answer.ends_with('b') && set_cookie(&answer).is_some(), "{answer}");
    assert_eq!(letters(&p), "--VU");
}

#[test]
fn cookies_are_made_of_addresses() {
    let (a, b) = (named("a"), named("b"));
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n balance roundrobin\n cookie SRV insert indirect nocache dynamic\n dynamic-cookie-key secret\n server a 127.0.0.1:{}\n server b 127.0.0.1:{} cookie own\n",
        a.port, b.port
    ));
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..4 {
        let answer = ask(&p, "");
        let cookie = set_cookie(&answer).unwrap().split(';').next().unwrap().to_owned();
        seen.insert(answer.chars().last().unwrap(), cookie);
    }
    assert_eq!(seen[&'b'], "SRV=own");
    assert_eq!(seen[&'a'].len(), "SRV=".len() + 16, "{seen:?}");
    for _ in 0..3 {
        assert!(ask(&p, &format!("Cookie: {}\r\n", seen[&'a'])).ends_with('a'));
    }
    // Another key, another cookie.
    assert_eq!(p.cli("set dynamic-cookie-key backend b other").trim(), "");
    p.drain();
    ask(&p, &format!("Cookie: {}\r\n", seen[&'a']));
    assert_eq!(letters(&p), "--II");
    assert_eq!(p.cli("disable dynamic-cookie backend b").trim(), "");
    let all: Vec<String> = (0..2).map(|_| ask(&p, "")).collect();
    assert!(all.iter().any(|a| set_cookie(a).is_some_and(|c| c.starts_with("SRV=;"))), "{all:?}");
}

#[test]
fn a_shared_cookie_finds_who_is_up_and_rules_come_before_it() {
    let (a, b, c) = (named("a"), named("b"), named("c"));
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n cookie SRV insert indirect\n use-server c if {{ hdr(x-use) -m found }}\n ignore-persist if {{ hdr(x-ignore) -m found }}\n server a 127.0.0.1:{} cookie both\n server b 127.0.0.1:{} cookie both\n server c 127.0.0.1:{} cookie c\n",
        a.port, b.port, c.port
    ));
    assert_eq!(p.cli("set server b/a state maint").trim(), "");
    p.drain();
    assert!(ask(&p, "Cookie: SRV=both\r\n").ends_with('b'));
    assert_eq!(letters(&p), "--VN");
    // Who is sent somewhere by a rule, or whose cookie is ignored, gets none.
    let used = ask(&p, "Cookie: SRV=both\r\nX-Use: 1\r\n");
    assert!(used.ends_with('c') && set_cookie(&used).is_none(), "{used}");
    assert_eq!(letters(&p), "--UN");
    let ignored = ask(&p, "Cookie: SRV=both\r\nX-Ignore: 1\r\n");
    assert!(set_cookie(&ignored).is_none(), "{ignored}");
    assert_eq!(letters(&p), "--UN");
}

#[test]
fn an_authenticated_connection_is_its_clients_alone() {
    let port = numbered();
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n http-reuse always\n server a 127.0.0.1:{port}\n server b 127.0.0.1:{port}\n"
    ));
    let mut alice = p.connect();
    let hers = request(&mut alice, "/login");
    // Nobody else gets it, and she keeps it.
    for _ in 0..4 {
        let mut bob = p.connect();
        assert_ne!(request(&mut bob, "/"), hers);
        assert_ne!(request(&mut bob, "/"), hers);
        assert_eq!(request(&mut alice, "/secret"), hers);
    }
    drop(alice);
    // It ends with her.
    std::thread::sleep(Duration::from_millis(50));
    for _ in 0..4 {
        assert_ne!(request(&mut p.connect(), "/"), hers);
    }
}

#[test]
fn the_last_server_is_preferred() {
    let (a, b) = (named("a"), named("b"));
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n balance roundrobin\n http-reuse never\n option prefer-last-server\n server a 127.0.0.1:{}\n server b 127.0.0.1:{}\n",
        a.port, b.port
    ));
    let answer = p.exchange(
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
            .repeat(5)
            .as_bytes()
            .iter()
            .copied()
            .chain(*b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .collect::<Vec<u8>>()
            .as_slice(),
    );
    let (of_a, of_b) = (answer.matches("\r\n\r\na").count(), answer.matches("\r\n\r\nb").count());
    assert!(of_a + of_b == 6 && of_a.min(of_b) == 0, "{answer}");
}

#[test]
fn connections_wear_out() {
    let port = numbered();
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n http-reuse always\n server a 127.0.0.1:{port} max-reuse 2\n"
    ));
    let mut s = p.connect();
    let seen: Vec<String> = (0..9).map(|_| request(&mut s, "/")).collect();
    let most = seen.iter().map(|n| seen.iter().filter(|m| *m == n).count()).max();
    // Used once, and twice again.
    assert_eq!(most, Some(3), "{seen:?}");
}

/// A server that answers with the number of the connection, and asks for NTLM at `/login`.
fn numbered() -> u16 {
    let l = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = l.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (n, mut s) in l.incoming().flatten().enumerate() {
            std::thread::spawn(move || {
                let mut buf = [0; 4096];
                while let Ok(k @ 1..) = s.read(&mut buf) {
                    let body = format!("connection {n}");
                    let status = match String::from_utf8_lossy(&buf[..k]).contains("/login") {
                        true => "401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\nWWW-Authenticate: NTLM TlRM",
                        false => "200 OK",
                    };
                    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                    if s.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// Asks on a connection that is kept; the answer's body.
fn request(s: &mut TcpStream, path: &str) -> String {
    s.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    let mut buf = [0; 4096];
    let n = s.read(&mut buf).unwrap();
    let text = String::from_utf8_lossy(&buf[..n]).into_owned();
    text.rsplit("\r\n\r\n").next().unwrap().to_owned()
}

#[test]
fn a_server_of_remote_desktops_is_found_by_its_address() {
    let (a, b) = (named("a"), named("b"));
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n http-request return status 200\nlisten rdp\n mode tcp\n bind {{dir}}/rdp.sock\n tcp-request inspect-delay 2s\n tcp-request content accept if {{ rdp_cookie -m found }}\n persist rdp-cookie\n server a 127.0.0.1:{}\n server b 127.0.0.1:{}\n",
        a.port, b.port
    ));
    for (o, name) in [(&a, "a"), (&b, "b"), (&b, "b"), (&a, "a")] {
        let mut s = std::os::unix::net::UnixStream::connect(p.path("rdp.sock")).unwrap();
        let (ip, port) = (u32::from_le_bytes([127, 0, 0, 1]), o.port.swap_bytes());
        let mut packet = b"\x03\x00\x00\x2a\x25\xe0\x00\x00\x00\x00\x00".to_vec();
        packet.extend(format!("Cookie: msts={ip}.{port}.0000\r\n\r\n").bytes());
        s.write_all(&packet).unwrap();
        s.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let mut out = [0; 256];
        let n = s.read(&mut out).unwrap();
        assert!(String::from_utf8_lossy(&out[..n]).ends_with(name));
    }
}

#[test]
fn first_requests_share_connections_as_the_file_says() {
    for (line, shared) in
        [("", true), (" http-reuse safe\n", false), (" http-reuse aggressive\n", false), (" http-reuse always\n", true)]
    {
        let port = numbered();
        let p = proxy(&format!(
            "frontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n{line} server a 127.0.0.1:{port}\n"
        ));
        let mut first = p.connect();
        let one = request(&mut first, "/");
        assert_eq!(request(&mut p.connect(), "/") == one, shared, "{line}");
        // Only a client's first request is special.
        let mut other = p.connect();
        request(&mut other, "/");
        let seen: Vec<String> = (0..3).map(|_| request(&mut other, "/")).collect();
        assert!(seen.iter().all(|n| *n == seen[0]), "{line} {seen:?}");
        if line.contains("aggressive") {
            // By now it is known that the server keeps this one.
            assert_eq!(request(&mut p.connect(), "/"), seen[0]);
        }
    }
}
