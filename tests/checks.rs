//! Checks, agents, programs and alerts: what they send, what they make of the answers, and what the runtime socket says of it.
#![allow(clippy::unwrap_used)]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use support::{Origin, Proxy, ok, tandem, wait_for};

const HEAD: &str = "global\n stats socket {dir}/admin.sock level admin\n external-check\n insecure-fork-wanted\ndefaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 1s\n log stdout format raw local0\n option httplog\nfrontend f\n bind 127.0.0.1:{port}\n default_backend b\n";

fn proxy(rest: &str) -> Proxy {
    Proxy::start(&tandem(), &format!("{HEAD}{rest}"))
}

/// Waits for a word in the statistics of a server; the row as names and values.
fn stat(p: &Proxy, server: &str, column: &str, value: &str) {
    let mut last = String::new();
    let found = wait_for(Duration::from_secs(5), || {
        last = field(p, server, column);
        last == value
    });
    assert!(found, "{column} of {server} is '{last}', not '{value}'\n{}", p.cli("show stat"));
}

fn field(p: &Proxy, server: &str, column: &str) -> String {
    let text = p.cli("show stat");
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().trim_start_matches("# ").split(',').collect();
    let at = names.iter().position(|n| *n == column).unwrap();
    let row = lines.find(|l| l.starts_with(&format!("b,{server},"))).unwrap_or_default().to_owned();
    // Commas only stand in quoted values, which come late.
    let mut out = Vec::new();
    let (mut quoted, mut cur) = (false, String::new());
    for c in row.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => out.push(std::mem::take(&mut cur)),
            c => cur.push(c),
        }
    }
    out.get(at).cloned().unwrap_or_default()
}

/// The next log line that has all of these words.
fn logged(p: &Proxy, words: &[&str]) -> String {
    for _ in 0..200 {
        let l = p.line();
        if words.iter().all(|w| l.contains(w)) {
            return l;
        }
    }
    panic!("no line has {words:?}");
}

/// A server whose conversations are told by `talk`, one thread each.
fn server(talk: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let l = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = l.local_addr().unwrap().port();
    let talk = Arc::new(talk);
    std::thread::spawn(move || {
        for c in l.incoming().flatten() {
            let talk = talk.clone();
            std::thread::spawn(move || talk(c));
        }
    });
    port
}

/// Reads until what came ends with `end`.
fn until(c: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let (mut out, mut b) = (Vec::new(), [0; 1]);
    while !out.ends_with(end) && matches!(c.read(&mut b), Ok(1)) {
        out.push(b[0]);
    }
    out
}

#[test]
fn tcp_rules_speak_and_listen_and_say_what_they_found() {
    let (tx, heard) = mpsc::channel();
    let tx = Mutex::new(tx);
    let port = server(move |mut c| {
        let _ = c.write_all(b"+OK ready\r\n");
        let said = until(&mut c, b"\n");
        let _ = tx.lock().unwrap().send(String::from_utf8_lossy(&said).into_owned());
        let _ = c.write_all(b"+42 fine\r\n");
        let _ = c.read(&mut [0; 10]);
    });
    let p = proxy(&format!(
        "backend b\n option tcp-check\n tcp-check set-var(check.a) str(x)\n tcp-check connect port {port}\n tcp-check expect string +OK\n tcp-check send-lf \"hello %[var(check.a)] %[srv_name]\\n\"\n tcp-check expect rstring ^\\+42 on-success \"good %[res.payload(1,2)]\" status-code res.payload(1,2)\n server s 127.0.0.1:1 check inter 100ms\n"
    ));
    assert_eq!(heard.recv_timeout(Duration::from_secs(5)).unwrap(), "hello x s\n");
    stat(&p, "s", "last_chk", "good 42");
    assert_eq!((field(&p, "s", "check_status"), field(&p, "s", "check_code")), ("L7OK".into(), "42".into()));
}

#[test]
fn a_mismatch_is_told_as_the_rule_wants() {
    let says = Arc::new(Mutex::new("+OK"));
    let words = says.clone();
    let port = server(move |mut c| {
        let line = format!("{} busy\r\n", words.lock().unwrap());
        let _ = c.write_all(line.as_bytes());
    });
    let p = proxy(&format!(
        "backend b\n option tcp-check\n tcp-check comment outer\n tcp-check expect ! string -ERR error-status L6RSP on-error \"said %[res.payload(5,4)]\"\n server s 127.0.0.1:{port} check inter 100ms rise 1 fall 1\n server t 127.0.0.1:{port}\n"
    ));
    stat(&p, "s", "check_status", "L7OK");
    *says.lock().unwrap() = "-ERR";
    stat(&p, "s", "check_status", "L6RSP");
    assert_eq!(field(&p, "s", "last_chk"), "said busy comment: outer");
    let line = logged(&p, &["Server b/s is DOWN"]);
    assert!(
        line.contains("reason: Layer6 invalid response, info: \"said busy comment: outer\", check duration: "),
        "{line}"
    );
}

#[test]
fn silence_ends_with_the_timeout_that_the_rule_names() {
    let port = server(|mut c| {
        let _ = c.read(&mut [0; 10]);
    });
    let p = proxy(&format!(
        "backend b\n timeout check 100ms\n option tcp-check\n tcp-check expect string +OK tout-status L6TOUT comment zz\n server s 127.0.0.1:{port} check inter 200ms rise 1 fall 1\n"
    ));
    stat(&p, "s", "check_status", "L6TOUT");
    assert_eq!(field(&p, "s", "last_chk"), " at step 1 of tcp-check (expect string '+OK') comment: 'zz'");
}

#[test]
fn http_rules_make_the_request_and_read_the_answer() {
    let o = Origin::start(|_| b"HTTP/1.1 302 Moved Away\r\nX-A: one, two\r\nContent-Length: 5\r\n\r\nhello".to_vec());
    let p = proxy(&format!(
        "backend b\n option httpchk\n http-check send-state\n http-check send meth POST uri-lf /%[srv_name]/%[be_name] ver HTTP/1.1 hdr Host h hdr X-E \"%[var(check.none)]\" body-lf \"b=%[srv_id]\"\n http-check expect hdr name x-a value -m beg tw\n http-check expect rstring ^hel\n http-check expect status 302 on-success \"%[status] %[res.hdr(x-a)]\"\n server s 127.0.0.1:{} check inter 100ms weight 10\n",
        o.port
    ));
    let asked = loop {
        let r = o.next();
        // Not one that went out while the proxy was being waited for.
        if r.starts_with("POST") && r.contains("scur=0/0") {
            break r;
        }
    };
    let lines: Vec<&str> = asked.split("\r\n").collect();
    assert_eq!(lines[..2], ["POST /s/b HTTP/1.1", "host: h"], "{asked}");
    assert!(lines[2].starts_with("x-haproxy-server-state: UP"), "{asked}");
    assert!(lines[2].contains("; name=b/s; node=") && lines[2].contains("; weight=10/10; scur=0/0; qcur=0"), "{asked}");
    assert_eq!(lines[3..5], ["content-length: 3", "connection: close"], "{asked}");
    assert!(asked.ends_with("\r\n\r\nb=1"), "{asked}");
    stat(&p, "s", "last_chk", "302 two");
    assert_eq!(field(&p, "s", "check_code"), "302");
}

#[test]
fn an_answer_in_pieces_is_waited_for() {
    let port = server(|mut c| {
        let _ = until(&mut c, b"\r\n\r\n");
        for part in
            ["HTTP/1.1 200 OK\r\nTransfer-", "Encoding: chunked\r\n\r\n3\r\nrea", "\r\n2\r\ndy\r\n", "0\r\n\r\n"]
        {
            let _ = c.write_all(part.as_bytes());
            let _ = c.flush();
            std::thread::yield_now();
        }
        let _ = c.read(&mut [0; 10]);
    });
    let p = proxy(&format!(
        "backend b\n option httpchk GET /\n http-check expect string ready\n server s 127.0.0.1:{port} check inter 100ms\n server t 127.0.0.1:{port} check inter 100ms\n"
    ));
    stat(&p, "s", "check_status", "L7OK");
}

#[test]
fn a_404_takes_a_server_out_of_balancing_only() {
    let status = Arc::new(Mutex::new(200));
    let now = status.clone();
    let o =
        Origin::start(move |_| format!("HTTP/1.1 {} X\r\nContent-Length: 0\r\n\r\n", now.lock().unwrap()).into_bytes());
    let p = proxy(&format!(
        "backend b\n option httpchk GET /\n option log-health-checks\n http-check disable-on-404\n server s 127.0.0.1:{} check inter 50ms rise 2 fall 2\n server t 127.0.0.1:{} backup\n",
        o.port, o.port
    ));
    stat(&p, "s", "check_status", "L7OK");
    *status.lock().unwrap() = 404;
    stat(&p, "s", "status", "NOLB");
    let line = logged(&p, &["conditionally succeeded"]);
    assert!(line.contains("Health check for server b/s conditionally succeeded, reason: Layer7 check conditionally passed, code: 404, check duration: "), "{line}");
    assert!(line.ends_with("status: 2/2 UP."), "{line}");
    logged(
        &p,
        &[
            "Server b/s is stopping. 0 active and 1 backup servers online. Running on backup. 0 sessions requeued, 0 total in queue.",
        ],
    );
    assert_eq!(field(&p, "s", "check_status"), "L7OKC");
    *status.lock().unwrap() = 200;
    stat(&p, "s", "status", "UP");
    logged(&p, &["Server b/s is UP. 1 active and 1 backup servers online."]);
    *status.lock().unwrap() = 500;
    stat(&p, "s", "status", "DOWN");
    // Down, it takes more than a 404 to come back.
    *status.lock().unwrap() = 404;
    stat(&p, "s", "check_code", "404");
    assert_eq!(field(&p, "s", "status"), "DOWN");
}

/// An agent that says what it is told to; the words can be changed.
fn agent() -> (u16, Arc<Mutex<String>>, mpsc::Receiver<String>) {
    let says = Arc::new(Mutex::new("up".to_owned()));
    let words = says.clone();
    let (tx, heard) = mpsc::channel();
    let tx = Mutex::new(tx);
    let port = server(move |mut c| {
        let _ = tx.lock().unwrap().send(String::from_utf8_lossy(&until(&mut c, b"\n")).into_owned());
        let line = format!("{}\n", words.lock().unwrap());
        let _ = c.write_all(line.as_bytes());
        let _ = c.read(&mut [0; 10]);
    });
    (port, says, heard)
}

#[test]
fn an_agent_says_how_its_server_is() {
    let (port, says, heard) = agent();
    let o = Origin::start(|_| ok(""));
    let p = proxy(&format!(
        "backend b\n server s 127.0.0.1:{} weight 50 maxconn 10 agent-check agent-port {port} agent-inter 50ms agent-send \"who\\n\"\n",
        o.port
    ));
    assert_eq!(heard.recv_timeout(Duration::from_secs(5)).unwrap(), "who\n");
    stat(&p, "s", "last_agt", "via agent : up");
    assert_eq!(
        (field(&p, "s", "agent_status").trim_start_matches("* "), &field(&p, "s", "agent_code")[..]),
        ("L7OK", "0")
    );
    let say = |words: &str| words.clone_into(&mut says.lock().unwrap());
    say("75%");
    stat(&p, "s", "weight", "37");
    say("down # bye \"x\"");
    stat(&p, "s", "status", "DOWN (agent)");
    let line = logged(&p, &["Server b/s is DOWN"]);
    assert!(
        line.contains(
            "reason: Layer7 wrong status, code: 0, info: \"via agent : down (bye <22>x<22>)\", check duration: "
        ),
        "{line}"
    );
    say("up 100% maxconn:30");
    stat(&p, "s", "slim", "30");
    stat(&p, "s", "status", "no check");
    say("drain");
    stat(&p, "s", "status", "DRAIN (agent)");
    say("maint");
    stat(&p, "s", "status", "MAINT");
    say("ready");
    stat(&p, "s", "status", "no check");
    // What cannot be asked changes nothing; an operator may speak in its place.
    assert_eq!(p.cli("set server b/s agent-port 1").trim(), "");
    stat(&p, "s", "agent_status", "L4CON");
    assert_eq!(field(&p, "s", "status"), "no check");
    assert_eq!(p.cli("set server b/s agent down").trim(), "");
    stat(&p, "s", "status", "DOWN (agent)");
    logged(&p, &["Server b/s is DOWN, changed from CLI."]);
    assert_eq!(p.cli("set server b/s agent up").trim(), "");
    stat(&p, "s", "status", "no check");
    assert_eq!(p.cli("disable agent b/s").trim(), "");
    assert_eq!(field(&p, "s", "agent_status"), "");
    assert!(p.cli("set server b/s agent up").contains("agent checks are not enabled on this server."));
}

#[test]
fn a_program_checks() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (script, result, out) = (dir.path().join("check.sh"), dir.path().join("result"), dir.path().join("out"));
    std::fs::write(&result, "0").unwrap();
    std::fs::write(
        &script,
        format!(
            "#!/bin/sh\necho \"$@ $HAPROXY_PROXY_NAME $HAPROXY_SERVER_NAME $HAPROXY_SERVER_PORT $HAPROXY_SERVER_PROTO $PATH $HOME\" > {}\nread r < {}\nexit $r\n",
            out.display(),
            result.display()
        ),
    )
    .unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let p = proxy(&format!(
        "backend b\n option external-check\n external-check path /nowhere:/bin\n external-check command {}\n server s 127.0.0.1:1234 check inter 100ms rise 1 fall 1\n",
        script.display()
    ));
    stat(&p, "s", "check_status", "PROCOK");
    let said = std::fs::read_to_string(&out).unwrap();
    assert_eq!(said.trim_end(), "NOT_USED NOT_USED 127.0.0.1 1234 b s 1234 h1 /nowhere:/bin");
    std::fs::write(&result, "3").unwrap();
    stat(&p, "s", "check_status", "PROCERR");
    let line = logged(&p, &["Server b/s is DOWN"]);
    assert!(line.contains("reason: External check error, code: 3, check duration: "), "{line}");
}

#[test]
fn an_alert_goes_out_by_mail() {
    let (tx, mails) = mpsc::channel();
    let tx = Mutex::new(tx);
    let port = server(move |mut c| {
        let _ = c.write_all(b"220 hi\r\n");
        let mut lines = BufReader::new(c.try_clone().unwrap()).lines();
        let (mut said, mut data) = (Vec::new(), false);
        while let Some(Ok(l)) = lines.next() {
            let reply = match (data, l.as_str()) {
                (true, ".") => {
                    data = false;
                    "250 ok\r\n"
                }
                (true, _) => "",
                (_, "DATA") => {
                    data = true;
                    "354 go\r\n"
                }
                (_, "QUIT") => "221 bye\r\n",
                _ => "250 ok\r\n",
            };
            said.push(l);
            let _ = c.write_all(reply.as_bytes());
        }
        let _ = tx.lock().unwrap().send(said);
    });
    let p = proxy(&format!(
        "mailers m\n mailer one 127.0.0.1:{port}\nbackend b\n email-alert mailers m\n email-alert from a@x\n email-alert to b@y\n email-alert myhostname lb\n server s 127.0.0.1:1 check inter 100ms rise 1 fall 1\n server t 127.0.0.1:1\n"
    ));
    let said = mails.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!(said[..4], ["HELO lb", "MAIL FROM:<a@x>", "RCPT TO:<b@y>", "DATA"]);
    let subject = said.iter().find(|l| l.starts_with("Subject: ")).unwrap();
    assert!(
        subject.starts_with("Subject: [HAProxy Alert] Server b/s is DOWN, reason: Layer4 connection problem"),
        "{subject}"
    );
    assert!(said.iter().any(|l| l.starts_with("Date: ") && l.ends_with(" +0000 (UTC)")), "{said:?}");
    drop(p);
}

#[test]
fn a_server_begins_as_it_is_told_to() {
    let o = Origin::start(|_| ok(""));
    let p = proxy(&format!(
        "backend b\n server s 127.0.0.1:{} check inter 300ms rise 2 init-state down\n server t 127.0.0.1:{} init-state fully-down\n server u 127.0.0.1:{} check inter 10s init-state fully-up\n",
        o.port, o.port, o.port
    ));
    // One passed check is enough.
    stat(&p, "s", "status", "UP");
    assert_eq!(field(&p, "s", "chkdown"), "0");
    assert_eq!(field(&p, "t", "status"), "DOWN");
    assert_eq!(field(&p, "u", "status"), "UP");
}

#[test]
fn backups_lose_their_sessions_when_a_server_comes_up() {
    let (slow, other) =
        (Origin::start(|r| if r.contains("/ready-check") { ok("") } else { ok("B") }), Origin::start(|_| ok("A")));
    let p = proxy(&format!(
        "backend b\n server s 127.0.0.1:{} check inter 50ms rise 1 init-state fully-down on-marked-up shutdown-backup-sessions addr 127.0.0.1 port 1\n server t 127.0.0.1:{} backup\n",
        other.port, slow.port
    ));
    let silent = server(|mut c| drop(c.read_to_end(&mut Vec::new())));
    assert!(p.cli(&format!("set server b/t addr 127.0.0.1 port {silent}")).contains("port changed"));
    let mut c = p.connect();
    c.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(wait_for(Duration::from_secs(5), || field(&p, "t", "scur") == "1"));
    assert_eq!(p.cli("set server b/s health up").trim(), "");
    let mut out = String::new();
    let _ = c.read_to_string(&mut out);
    let line = logged(&p, &[" f b/t "]);
    assert!(line.contains(" UH-- ") || line.contains(" UD-- ") || line.contains(" UC-- "), "{line}");
}

#[test]
fn who_tracks_a_server_is_what_it_is() {
    let o = Origin::start(|_| ok(""));
    let p = proxy(&format!(
        "backend b\n server s 127.0.0.1:{} check inter 100ms rise 1 fall 1\n server t 127.0.0.1:{} track b/s\n",
        o.port, o.port
    ));
    stat(&p, "s", "check_status", "L4OK");
    assert_eq!(p.cli("set server b/s state maint").trim(), "");
    stat(&p, "t", "status", "MAINT (via b/s)");
    assert_eq!(p.cli("set server b/s state drain").trim(), "");
    stat(&p, "t", "status", "DRAIN");
    assert_eq!(p.cli("set server b/s state ready").trim(), "");
    stat(&p, "t", "status", "UP");
    assert_eq!(p.cli("set server b/s health down").trim(), "");
    // Its own maintenance ends, and it is what the other one is: nothing was said of that meanwhile but passed checks.
    assert!(p.cli("set server b/t health up").contains("cannot change health on a tracking server"));
    assert_eq!(p.cli("disable health b/s").trim(), "");
    assert_eq!(p.cli("set server b/s health down").trim(), "");
    stat(&p, "t", "status", "DOWN");
    assert_eq!(p.cli("set server b/t state maint").trim(), "");
    assert_eq!(p.cli("set server b/t state ready").trim(), "");
    assert_eq!(field(&p, "t", "status"), "DOWN");
}

#[test]
fn an_operator_says_where_checks_go() {
    let good = Origin::start(|_| ok("x"));
    let p = proxy("backend b\n server s 127.0.0.2:1 check inter 50ms\n server t 127.0.0.1:1\n");
    stat(&p, "s", "status", "DOWN");
    assert_eq!(p.cli("set server b/s check-port nine").trim(), "provided port is not an integer");
    assert_eq!(p.cli("set server b/s check-port 70000").trim(), "provided port is invalid");
    assert_eq!(p.cli("set server b/t check-port 9").trim(), "health checks are not enabled on this server");
    assert_eq!(p.cli("set server b/s check-addr nowhere").trim(), "invalid addr 'nowhere'");
    assert_eq!(p.cli(&format!("set server b/s check-addr 127.0.0.1 port {}", good.port)).trim(), "");
    stat(&p, "s", "status", "UP");
    assert!(p.cli("show servers state b").contains(&format!(" {} 127.0.0.1 ", good.port)));
}

#[test]
fn a_server_may_have_a_check_of_its_own() {
    let o = Origin::start(|r| {
        let status = if r.starts_with("GET /own ") { "200 OK" } else { "500 Broken" };
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    });
    let mute = server(|mut c| {
        let _ = c.write_all(b"+OK\r\n");
        let _ = c.read(&mut [0; 10]);
    });
    // One section stands behind the server that names it; `add server` finds it as well.
    let p = proxy(&format!(
        "healthcheck own\n type httpchk GET /own\n http-check expect status 200\nbackend b\n option httpchk GET /\n server s 127.0.0.1:{0} check inter 100ms fall 1\n server t 127.0.0.1:{0} check inter 100ms healthcheck own\n server u 127.0.0.1:{mute} check inter 100ms healthcheck later\n server v 127.0.0.1:{mute} check inter 100ms healthcheck plain\nhealthcheck later\n type tcp-check\n tcp-check expect string +OK\nhealthcheck plain\n",
        o.port
    ));
    for (server, status) in [("s", "L7STS"), ("t", "L7OK"), ("u", "L7OK"), ("v", "L4OK")] {
        stat(&p, server, "check_status", status);
    }
    assert!(
        p.cli(&format!("add server b/w 127.0.0.1:{} check inter 100ms healthcheck own", o.port))
            .contains("server registered")
    );
    p.cli("enable server b/w");
    p.cli("enable health b/w");
    stat(&p, "w", "check_status", "L7OK");
    assert!(
        p.cli("add server b/x 127.0.0.1:1 check healthcheck owl").contains("'healthcheck owl'; did you mean 'own'")
    );
}

#[test]
fn what_a_healthcheck_section_may_not_say() {
    let verdict = |section: &str| {
        let d = tempfile::tempdir().unwrap();
        let file = d.path().join("haproxy.cfg");
        let text = format!(
            "{section}\nlisten f\n mode http\n bind 127.0.0.1:1\n timeout client 1s\n timeout connect 1s\n timeout server 1s\nbackend b\n mode http\n timeout connect 1s\n timeout server 1s\n server s 127.0.0.1:1 check healthcheck h\n"
        );
        std::fs::write(&file, text).unwrap();
        let out = std::process::Command::new(tandem()).arg("-c").arg("-f").arg(&file).output().unwrap();
        (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    // As HAProxy 3.5 judges them.
    for (section, good) in [
        ("healthcheck h\n type httpchk GET /x", true),
        ("healthcheck h", true),
        ("healthcheck h\n http-check send uri /x\n type httpchk", true),
        ("healthcheck h\n http-check send uri /x\n type tcp-check", false),
        ("healthcheck h\n type httpchk\n type tcp-check", false),
        ("healthcheck h\n type httpchk\n tcp-check connect", false),
        ("healthcheck h\n type tcp-check\n http-check send uri /x", false),
        ("healthcheck h\n type tcp-check\nhealthcheck h\n type tcp-check", false),
        ("healthcheck i\n type tcp-check", false),
        ("healthcheck h\n type tcp-check\n bogus", false),
        ("healthcheck h\n type external-check", false),
        ("healthcheck h\n type pgsql-check", false),
        ("healthcheck h\n type pgsql-check user u", true),
        ("healthcheck\n type tcp-check", false),
    ] {
        let (accepted, said) = verdict(section);
        assert_eq!(accepted, good, "{section}\n{said}");
    }
}
