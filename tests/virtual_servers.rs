//! keepalived's virtual servers as the proxy serves them: what checkers ask and make of the answers, who is told, and where clients go.
#![allow(clippy::unwrap_used)]
mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::time::Duration;
use support::{Origin, Proxy, free_port, ok, tandem, wait_for};

const HEAD: &str = "global\n stats socket {dir}/admin.sock level admin\ndefaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 1s\nfrontend ready\n bind 127.0.0.1:{port}\n";

fn serve(keepalived: &str) -> Proxy {
    Proxy::start_both(&tandem(), HEAD, Some(keepalived))
}

fn row(p: &Proxy, section: &str, server: &str) -> BTreeMap<String, String> {
    let text = p.cli("show stat");
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().trim_start_matches("# ").split(',').collect();
    let line = lines.find(|l| l.starts_with(&format!("{section},{server},"))).unwrap_or_default();
    names.iter().zip(line.split(',')).map(|(n, v)| ((*n).to_owned(), v.to_owned())).collect()
}

#[track_caller]
fn becomes(p: &Proxy, section: &str, server: &str, column: &str, value: &str) {
    let get = || row(p, section, server).get(column).cloned().unwrap_or_default();
    assert!(
        wait_for(Duration::from_secs(8), || get() == value),
        "{column} of {section}/{server} is '{}', not '{value}'\n{}",
        get(),
        p.cli("show stat")
    );
}

/// What one connection to a virtual server is answered with; nothing if it is refused or cut.
fn ask(port: u16) -> String {
    let mut out = String::new();
    if let Ok(mut s) = TcpStream::connect(("127.0.0.1", port)) {
        s.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let _ = s.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n");
        let mut b = [0; 1000];
        let n = s.read(&mut b).unwrap_or(0);
        out = String::from_utf8_lossy(&b[..n]).into_owned();
    }
    out.rsplit("\r\n").next().unwrap_or_default().to_owned()
}

fn shares(port: u16, n: usize) -> BTreeMap<String, usize> {
    let mut out = BTreeMap::new();
    (0..n).for_each(|_| *out.entry(ask(port)).or_default() += 1);
    out
}

/// A server of pages whose checks can be made to fail.
struct Page {
    origin: Origin,
    status: Arc<AtomicU16>,
}

impl Page {
    fn new(name: &'static str) -> Self {
        let status = Arc::new(AtomicU16::new(200));
        let now = status.clone();
        let origin = Origin::start(move |req| match req.starts_with("GET /check ") {
            true => {
                assert!(
                    req.contains("user-agent: KeepAliveClient\r\n") || req.contains("User-Agent: KeepAliveClient\r\n")
                );
                format!("HTTP/1.0 {} X\r\nConnection: close\r\n\r\nfine", now.load(SeqCst)).into_bytes()
            }
            false => ok(name),
        });
        Self { origin, status }
    }
}

#[test]
fn servers_come_and_go_and_scripts_are_told() {
    let (a, b, sorry) = (Page::new("a"), Page::new("b"), Page::new("sorry"));
    let v = free_port();
    let (pa, pb, ps) = (a.origin.port, b.origin.port, sorry.origin.port);
    let check = "HTTP_GET {\n url {\n path /check\n digest fff25994ee3941b225ba898fd17d186f\n }\n connect_timeout 1\n retry 1\n delay_before_retry 0.05\n }";
    let p = serve(&format!(
        "virtual_server 127.0.0.1 {v} {{\n delay_loop 0.2\n lvs_sched wrr\n protocol TCP\n quorum 2\n quorum_up \"/bin/touch {{dir}}/gained\"\n quorum_down \"/bin/touch {{dir}}/lost\"\n sorry_server 127.0.0.1 {ps}\n real_server 127.0.0.1 {pa} {{\n weight 3\n notify_down \"/bin/touch {{dir}}/a-down\"\n notify_up \"/bin/touch {{dir}}/a-up\"\n {check}\n }}\n real_server 127.0.0.1 {pb} {{\n weight 1\n alpha\n {check}\n }}\n}}\n"
    ));
    let (section, sa, sb) = (format!("tcp@127.0.0.1:{v}"), format!("127.0.0.1:{pa}"), format!("127.0.0.1:{pb}"));
    becomes(&p, &section, &sb, "status", "UP");
    let there = |name: &str| wait_for(Duration::from_secs(5), || std::path::Path::new(&p.path(name)).exists());
    assert!(there("gained"));
    assert_eq!(shares(v, 40), BTreeMap::from([("a".into(), 30), ("b".into(), 10)]));
    // One weighs too little for the quorum: the sorry server serves, though that one is up.
    a.status.store(503, SeqCst);
    becomes(&p, &section, &sa, "status", "DOWN");
    assert_eq!(row(&p, &section, &sa)["check_status"], "L7STS");
    assert!(there("a-down") && there("lost"));
    assert_eq!(shares(v, 4), BTreeMap::from([("sorry".into(), 4)]));
    // Who talks to the sorry server does so until the others are back.
    let mut talk = TcpStream::connect(("127.0.0.1", v)).unwrap();
    talk.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    talk.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    let mut b = [0; 1000];
    assert!(talk.read(&mut b).unwrap() > 0);
    std::fs::remove_file(p.path("gained")).unwrap();
    a.status.store(200, SeqCst);
    becomes(&p, &section, &sa, "status", "UP");
    assert!(there("a-up") && there("gained"));
    assert!(matches!(talk.read(&mut b), Ok(0) | Err(_)), "it is cut");
    assert_eq!(shares(v, 40), BTreeMap::from([("a".into(), 30), ("b".into(), 10)]));
}

#[test]
fn a_client_keeps_its_server() {
    let (a, b) = (Page::new("a"), Page::new("b"));
    let (v, w) = (free_port(), free_port());
    let (pa, pb) = (a.origin.port, b.origin.port);
    let reals = format!("real_server 127.0.0.1 {pa} {{\n}}\n real_server 127.0.0.1 {pb} {{\n}}\n");
    let p = serve(&format!(
        "virtual_server 127.0.0.1 {v} {{\n lb_algo rr\n persistence_timeout 1\n {reals}}}\nvirtual_server 127.0.0.1 {w} {{\n lb_algo rr\n {reals}}}\n"
    ));
    assert_eq!(shares(w, 10), BTreeMap::from([("a".into(), 5), ("b".into(), 5)]));
    let all = shares(v, 9);
    assert_eq!(all.len(), 1, "{all:?}");
    let first = all.keys().next().unwrap().clone();
    // A server in maintenance has nobody: its clients are another's from now on.
    let (gone, stays) = if first == "a" { (pa, "b") } else { (pb, "a") };
    assert_eq!(p.cli(&format!("disable server tcp@127.0.0.1:{v}/127.0.0.1:{gone}")).trim(), "");
    assert_eq!(shares(v, 3), BTreeMap::from([(stays.into(), 3)]));
    assert_eq!(p.cli(&format!("enable server tcp@127.0.0.1:{v}/127.0.0.1:{gone}")).trim(), "");
    assert_eq!(shares(v, 3), BTreeMap::from([(stays.into(), 3)]));
    // Its time is over one day.
    assert!(wait_for(Duration::from_secs(10), || {
        std::thread::sleep(Duration::from_millis(1100));
        ask(v) == first
    }));
}

/// Says its name before what it was asked.
fn echo(name: &'static str) -> u16 {
    let s = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = s.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut b = [0; 2048];
        while let Ok((n, from)) = s.recv_from(&mut b) {
            let _ = s.send_to(&[name.as_bytes(), b":", &b[..n]].concat(), from);
        }
    });
    port
}

fn client(port: u16) -> UdpSocket {
    let s = UdpSocket::bind("127.0.0.1:0").unwrap();
    s.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    s.connect(("127.0.0.1", port)).unwrap();
    s
}

fn say(s: &UdpSocket, text: &str) -> String {
    s.send(text.as_bytes()).unwrap();
    let mut b = [0; 2048];
    let n = s.recv(&mut b).unwrap_or_else(|e| panic!("no answer to {text}: {e}"));
    String::from_utf8_lossy(&b[..n]).into_owned()
}

#[test]
fn datagrams_go_to_a_server_and_come_back() {
    let (a, b) = (echo("a"), echo("b"));
    let (v, w) = (free_port(), free_port());
    let reals = format!("real_server 127.0.0.1 {a} {{\n}}\n real_server 127.0.0.1 {b} {{\n}}\n");
    let p = serve(&format!(
        "virtual_server 127.0.0.1 {v} {{\n protocol UDP\n lb_algo rr\n {reals}}}\nvirtual_server 127.0.0.1 {w} {{\n protocol UDP\n lb_algo rr\n ops\n {reals}}}\n"
    ));
    let mut names = BTreeMap::<String, usize>::new();
    for _ in 0..4 {
        let c = client(v);
        let first = say(&c, "1");
        let name = first.split(':').next().unwrap().to_owned();
        // A client's port stays with its server.
        assert_eq!((say(&c, "2"), say(&c, "3")), (format!("{name}:2"), format!("{name}:3")));
        *names.entry(name).or_default() += 1;
    }
    assert_eq!(names, BTreeMap::from([("a".into(), 2), ("b".into(), 2)]));
    let c = client(w);
    let one: Vec<String> = (0..4).map(|n| say(&c, &n.to_string())).collect();
    assert_eq!(one.iter().filter(|o| o.starts_with("a:")).count(), 2, "a server for each datagram: {one:?}");
    let section = format!("udp@127.0.0.1:{v}");
    let s = row(&p, &section, "FRONTEND");
    assert_eq!((&s["stot"][..], &s["scur"][..]), ("4", "4"), "{s:?}");
    // A server that is not there says so; the client's next datagram goes elsewhere.
    let dead = free_port();
    assert_eq!(p.cli(&format!("set server {section}/127.0.0.1:{a} addr 127.0.0.1 port {dead}")).lines().count(), 2);
    let c = client(v);
    c.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(wait_for(Duration::from_secs(5), || {
        let mut b = [0; 100];
        c.send(b"x").unwrap();
        c.recv(&mut b).is_ok()
    }));
}

/// A name server that answers everything with this code.
fn names(code: u8) -> u16 {
    let s = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = s.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut b = [0; 512];
        while let Ok((n, from)) = s.recv_from(&mut b) {
            (b[2], b[3]) = (b[2] | 0x80, code);
            let _ = s.send_to(&b[..n], from);
        }
    });
    port
}

fn smtp(greeting: &'static [u8]) -> u16 {
    let l = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = l.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut c in l.incoming().flatten() {
            let mut b = [0; 200];
            let _ = c.write_all(greeting);
            while matches!(c.read(&mut b), Ok(1..)) {
                let _ = c.write_all(b"250 fine\r\n");
            }
        }
    });
    port
}

#[test]
fn every_checker_says_what_it_found() {
    let page = Page::new("a");
    let (dns, servfail) = (names(0), names(2));
    let (mail, busy) = (smtp(b"220 hi\r\n"), smtp(b"554 no\r\n"));
    let (udp, dead, dir) = (echo("u"), free_port(), tempfile::tempdir().unwrap());
    let (misc, file) = (dir.path().join("misc"), dir.path().join("file"));
    let script = |code: i32| {
        use std::os::unix::fs::PermissionsExt;
        let new = dir.path().join("new");
        std::fs::write(&new, format!("#!/bin/sh\nexit {code}\n")).unwrap();
        std::fs::set_permissions(&new, PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::rename(&new, &misc).unwrap();
    };
    script(12);
    std::fs::write(&file, "2\n").unwrap();
    let v = free_port();
    let mut conf = format!(
        "track_file f {{\n file {}\n weight 1\n}}\nvirtual_server 127.0.0.1 {v} {{\n delay_loop 0.2\n retry 0\n connect_timeout 1\n lb_algo wrr\n",
        file.display()
    );
    let misc = misc.display().to_string();
    let pa = page.origin.port;
    let cases: &[(&str, String, &str)] = &[
        ("127.0.0.11", format!("TCP_CHECK {{\n connect_ip 127.0.0.1\n connect_port {pa}\n }}"), "L4OK"),
        ("127.0.0.12", format!("TCP_CHECK {{\n connect_ip 127.0.0.1\n connect_port {dead}\n }}"), "L4CON"),
        (
            "127.0.0.13",
            format!(
                "DNS_CHECK {{\n connect_ip 127.0.0.1\n connect_port {dns}\n type A\n name www.example\n retry 0\n }}"
            ),
            "L7OK",
        ),
        (
            "127.0.0.14",
            format!("DNS_CHECK {{\n connect_ip 127.0.0.1\n connect_port {servfail}\n retry 0\n }}"),
            "L7STS",
        ),
        ("127.0.0.15", format!("SMTP_CHECK {{\n connect_ip 127.0.0.1\n connect_port {mail}\n }}"), "L7OK"),
        ("127.0.0.16", format!("SMTP_CHECK {{\n connect_ip 127.0.0.1\n connect_port {busy}\n }}"), "L7STS"),
        (
            "127.0.0.17",
            format!(
                "UDP_CHECK {{\n connect_ip 127.0.0.1\n connect_port {udp}\n payload 41 42\n require_reply 75 3X 41\n min_reply_length 4\n }}"
            ),
            "L7OK",
        ),
        (
            "127.0.0.18",
            format!("UDP_CHECK {{\n connect_ip 127.0.0.1\n connect_port {udp}\n payload 41 42\n require_reply 76\n }}"),
            "L7RSP",
        ),
        ("127.0.0.19", format!("UDP_CHECK {{\n connect_ip 127.0.0.1\n connect_port {dead}\n }}"), "L4CON"),
        (
            "127.0.0.20",
            format!(
                "HTTP_GET {{\n connect_ip 127.0.0.1\n connect_port {pa}\n bindto 127.0.0.77\n url {{\n path /check\n status_code 200\n regex ^fi.e$\n }}\n }}"
            ),
            "L7OK",
        ),
        (
            "127.0.0.21",
            format!(
                "HTTP_GET {{\n connect_ip 127.0.0.1\n connect_port {pa}\n url {{\n path /check\n regex fine\n regex_no_match\n }}\n }}"
            ),
            "L7RSP",
        ),
        ("127.0.0.22", format!("MISC_CHECK {{\n misc_path \"{misc}\"\n misc_dynamic\n }}"), "PROCOK"),
        ("127.0.0.23", "FILE_CHECK {\n track_file f\n dynamic\n weight 3\n }".into(), "PROCOK"),
        // All of a server's checkers have to be content.
        (
            "127.0.0.24",
            format!(
                "TCP_CHECK {{\n connect_ip 127.0.0.1\n connect_port {pa}\n }}\n DNS_CHECK {{\n connect_ip 127.0.0.1\n connect_port {servfail}\n retry 0\n }}"
            ),
            "",
        ),
    ];
    for (ip, check, _) in cases {
        conf.push_str(&format!(" real_server {ip} 80 {{\n weight 5\n {check}\n }}\n"));
    }
    conf.push_str("}\n");
    let p = serve(&conf);
    let section = format!("tcp@127.0.0.1:{v}");
    for (ip, _, status) in cases {
        let server = format!("{ip}:80");
        let up = status.ends_with("OK");
        becomes(&p, &section, &server, "status", if up { "UP" } else { "DOWN" });
        if !status.is_empty() {
            becomes(&p, &section, &server, "check_status", status);
        }
    }
    // What programs and files say counts as weight.
    becomes(&p, &section, "127.0.0.22:80", "weight", "10");
    becomes(&p, &section, "127.0.0.23:80", "weight", "11");
    script(1);
    std::fs::write(&file, "-100\n").unwrap();
    becomes(&p, &section, "127.0.0.22:80", "status", "DOWN");
    becomes(&p, &section, "127.0.0.23:80", "status", "DOWN");
}

/// Waits until a check of this section says so.
#[track_caller]
fn settles(p: &Proxy, section: &str, server: &str, up: bool) {
    becomes(p, section, server, "status", if up { "UP" } else { "DOWN" });
}

#[test]
fn what_was_known_outlives_reloads_workers_and_maintenance() {
    use std::os::unix::fs::PermissionsExt;
    let page = Page::new("a");
    let pa = page.origin.port;
    let (v, dir) = (free_port(), tempfile::tempdir().unwrap());
    let misc = dir.path().join("misc").display().to_string();
    std::fs::write(&misc, "#!/bin/sh\nexit 1\n").unwrap();
    std::fs::set_permissions(&misc, PermissionsExt::from_mode(0o755)).unwrap();
    // 'rr' knows no weights, and the quorum does.
    let conf = |comment: &str, extra: &str| {
        format!(
            "{comment}virtual_server 127.0.0.1 {v} {{\n delay_loop 60\n lb_algo rr\n lb_kind NAT\n quorum 150\n quorum_up \"/bin/sh -c 'echo up >> {{dir}}/said'\"\n quorum_down \"/bin/sh -c 'echo down >> {{dir}}/said'\"\n real_server 127.0.0.1 {pa} {{\n weight 100\n TCP_CHECK {{\n warmup 0\n }}\n }}\n real_server 127.0.0.2 {pa} {{\n weight 50\n MISC_CHECK {{\n misc_path \"{misc}\"\n }}\n }}\n real_server 127.0.0.3 {pa} {{\n weight 40\n {extra}\n }}\n}}\n"
        )
    };
    let p = serve(&conf("", ""));
    let section = format!("tcp@127.0.0.1:{v}");
    let (up, down) = (format!("127.0.0.1:{pa}"), format!("127.0.0.2:{pa}"));
    settles(&p, &section, &down, false);
    let said = || std::fs::read_to_string(p.path("said")).unwrap_or_default();
    // 190 were there before the program was asked; then 140 are too few.
    assert!(wait_for(Duration::from_secs(5), || said().contains("down\n")), "{}", said());
    // Out of maintenance it is what its check says, not what it was at the start.
    let name = format!("{section}/{down}");
    assert_eq!(p.cli(&format!("disable server {name}")).trim(), "");
    assert_eq!(p.cli(&format!("enable server {name}")).trim(), "");
    settles(&p, &section, &down, false);
    // A reload that moves the lines, and adds a check that asks the same program.
    let extra = format!("MISC_CHECK {{\n misc_path \"{misc}\"\n }}");
    std::fs::write(
        p.path("k.conf"),
        conf("# one more line\n", &extra).replace("{dir}", p.dir.path().to_str().unwrap()),
    )
    .unwrap();
    p.cli("reload");
    settles(&p, &section, &format!("127.0.0.3:{pa}"), false);
    settles(&p, &section, &down, false);
    settles(&p, &section, &up, true);
    // A worker that is new is told what was known, and tells nobody again. Its checks come in a minute.
    let pid = || {
        let info = p.cli("show info");
        info.lines().find_map(|l| l.strip_prefix("Pid: ")).map(str::to_owned).unwrap_or_default()
    };
    let old = pid();
    let n: i32 = old.parse().unwrap();
    // SAFETY: plain system call; the worker is a grandchild of this test.
    unsafe { libc::kill(n, libc::SIGKILL) };
    assert!(wait_for(Duration::from_secs(8), || {
        std::os::unix::net::UnixStream::connect(p.path("admin.sock")).is_ok() && !pid().is_empty() && pid() != old
    }));
    assert_eq!(row(&p, &section, &down)["status"], "DOWN");
    settles(&p, &section, &up, true);
    // Scripts run side by side: their order says nothing.
    let more = || said().matches("up").count() > 1 || said().matches("down").count() > 1;
    assert!(!wait_for(Duration::from_secs(1), more), "{}", said());
}

#[test]
fn a_full_server_has_no_persistence() {
    let (a, b) = (Page::new("a"), Page::new("b"));
    let v = free_port();
    let (pa, pb) = (a.origin.port, b.origin.port);
    let p = serve(&format!(
        "virtual_server 127.0.0.1 {v} {{\n lb_algo rr\n lb_kind NAT\n persistence_timeout 30\n real_server 127.0.0.1 {pa} {{\n uthreshold 1\n }}\n real_server 127.0.0.1 {pb} {{\n uthreshold 1\n }}\n}}\n"
    ));
    let talk = |s: &mut TcpStream| {
        s.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        s.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
        let mut b = [0; 1000];
        let n = s.read(&mut b).unwrap_or(0);
        String::from_utf8_lossy(&b[..n]).rsplit("\r\n").next().unwrap().to_owned()
    };
    let mut one = TcpStream::connect(("127.0.0.1", v)).unwrap();
    let first = talk(&mut one);
    let mut two = TcpStream::connect(("127.0.0.1", v)).unwrap();
    assert_ne!(talk(&mut two), first, "its server is full");
    // It has the other one from now on.
    let held = talk(&mut two);
    drop((one, two));
    becomes(&p, &format!("tcp@127.0.0.1:{v}"), "BACKEND", "scur", "0");
    assert_eq!(ask(v), held);
}

/// A mail server that keeps what it is given.
fn mailbox() -> (u16, std::sync::mpsc::Receiver<String>) {
    use std::io::{BufRead as _, BufReader};
    let l = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = l.local_addr().unwrap().port();
    let (tx, rx) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for c in l.incoming().flatten() {
            let mut out = c.try_clone().unwrap();
            let _ = out.write_all(b"220 hi\r\n");
            let (mut mail, mut data) = (String::new(), false);
            for line in BufReader::new(c).lines().map_while(Result::ok) {
                mail.push_str(&format!("{line}\n"));
                data = (data || line == "DATA") && line != ".";
                let reply: &[u8] = match &line[..] {
                    "DATA" => b"354 go\r\n",
                    "QUIT" => b"221 bye\r\n",
                    _ if data => b"",
                    _ => b"250 fine\r\n",
                };
                let _ = out.write_all(reply);
            }
            let _ = tx.send(mail);
        }
    });
    (port, rx)
}

#[test]
fn mail_tells_of_servers_that_go() {
    let (page, v, (port, mails)) = (Page::new("a"), free_port(), mailbox());
    let pa = page.origin.port;
    let _p = serve(&format!(
        "global_defs {{\n router_id lb7\n notification_email {{\n ops@example.net\n boss@example.net\n }}\n notification_email_from lb@example.net\n smtp_server 127.0.0.1 {port}\n smtp_connect_timeout 5\n}}\nvirtual_server 127.0.0.1 {v} {{\n delay_loop 0.2\n lb_kind NAT\n smtp_alert\n real_server 127.0.0.1 {pa} {{\n HTTP_GET {{\n url {{\n path /check\n }}\n retry 0\n }}\n }}\n real_server 127.0.0.2 {pa} {{\n smtp_alert false\n HTTP_GET {{\n url {{\n path /check\n }}\n retry 0\n }}\n }}\n}}\n"
    ));
    let next = || mails.recv_timeout(Duration::from_secs(8)).expect("a mail within 8 s");
    let first = next();
    assert!(first.contains(&format!("Subject: [lb7] Virtualserver tcp@127.0.0.1:{v} - Quorum gained\n")), "{first}");
    for line in [
        "MAIL FROM:<lb@example.net>",
        "RCPT TO:<ops@example.net>",
        "RCPT TO:<boss@example.net>",
        "To: ops@example.net, boss@example.net",
    ] {
        assert!(first.contains(&format!("{line}\n")), "{line} in {first}");
    }
    page.status.store(503, SeqCst);
    let two = [next(), next()].concat();
    assert!(
        two.contains(&format!("Subject: [lb7] Realserver 127.0.0.1:{pa} of virtual server tcp@127.0.0.1:{v} - DOWN\n")),
        "{two}"
    );
    assert!(two.contains("- Quorum lost\n") && two.contains("Layer7 wrong status"), "{two}");
}
