//! Ring 4: the same `haproxy.cfg` given to the real HAProxy and to Tandem; same answers, same log lines but for times and ports.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

mod support;

use support::{Case, Need, Origin, Proxy, ok, tandem};

fn main() {
    support::run(&[
        Case { name: "same_answers_and_log_lines", needs: &[Need::Haproxy], run: answers },
        Case { name: "same_with_a_real_server", needs: &[Need::Haproxy, Need::Nginx], run: nginx },
        Case { name: "same_verdicts_on_configurations", needs: &[Need::Haproxy], run: verdicts },
        Case { name: "same_verdicts_on_the_language", needs: &[Need::Haproxy], run: language },
        Case { name: "same_codes_as_keepalived_t", needs: &[Need::Root, Need::Keepalived], run: keepalived_codes },
    ]);
}

const CONFIG: &str = "global\n stats socket {dir}/admin.sock level admin\n nbthread 1\ndefaults\n mode http\n timeout client 2s\n timeout server 500ms\n timeout connect 200ms\n timeout http-request 500ms\n log stdout format raw local0\n option httplog\n retries 1\nfrontend www\n bind 127.0.0.1:{port}\n option forwardfor\n acl api path_beg /api\n acl host_b hdr(host) -i b.example\n http-request deny if { path /deny }\n http-request deny deny_status 429 if { path /deny429 }\n http-request redirect location /else code 303 if { path /redir }\n http-request redirect scheme https code 301 if { path_end .tls }\n http-request redirect prefix http://n.example if { path_beg /pre }\n http-request return status 200 content-type text/plain string hello if { path /hello }\n http-request return status 404 if { path /gone }\n http-request set-header X-Path %[path,upper] if api\n http-request add-header X-Two 2 if api\n http-request del-header X-Del\n http-response set-header X-Res r\n use_backend api if api\n use_backend cookies if { path_beg /ck }\n use_backend dead if { path /dead }\n use_backend none if { path /none }\n use_backend slow if { path /slow }\n use_backend broken if { path_beg /broken }\n use_backend rd if { path /rd }\n use_backend plain if { path /plain }\n use_backend st if { path_beg /st }\n http-request use-service prometheus-exporter if { path /metrics } { req.hdr(x-real) yes }\n http-request set-header X-Env %[env(HOME)] if { path /env }\n http-request set-header X-Cat %[str(a),concat(-,,-z)] if { path /env }\n http-request deny deny_status 403 if { path /page }\n errorfile 403 {dir}/403.http\n default_backend app\nbackend app\n balance roundrobin\n server a 127.0.0.1:{a}\n server b 127.0.0.1:{b}\nbackend api\n balance leastconn\n server a 127.0.0.1:{a}\nbackend cookies\n cookie SRV insert indirect nocache httponly\n server a 127.0.0.1:{a} cookie ca\n server b 127.0.0.1:{b} cookie cb\nbackend dead\n server d 127.0.0.1:1\nbackend none\nbackend slow\n server a 127.0.0.1:{a}\nbackend broken\n server a 127.0.0.1:{a}\nbackend rd\n balance roundrobin\n option redispatch\n retries 2\n server d 127.0.0.1:1\n server a 127.0.0.1:{a}\nbackend plain\n cookie SRV insert indirect\n server a 127.0.0.1:{a}\nbackend st\n stats enable\n stats uri /stats\n";

fn origin(name: &'static str) -> Origin {
    Origin::start(move |r| {
        if r.contains("/slow") {
            std::thread::sleep(std::time::Duration::from_millis(900));
        }
        if r.contains("/broken/close") {
            return Vec::new();
        }
        if r.contains("/broken/garbage") {
            return b"not http at all\r\n\r\n".to_vec();
        }
        if r.contains("/broken/101") {
            return b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw".to_vec();
        }
        if r.contains("/broken/chunk") {
            return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n".to_vec();
        }
        if r.contains("/broken/coding") {
            return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n".to_vec();
        }
        if r.contains("/404") {
            return b"HTTP/1.1 404 Not Here\r\nContent-Length: 2\r\nX-Srv: z\r\n\r\nno".to_vec();
        }
        if r.contains("/chunked") {
            return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec();
        }
        if r.contains("/eof") {
            return b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end".to_vec();
        }
        if r.starts_with("HEAD") {
            return b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_vec();
        }
        ok(name)
    })
}

const REQUESTS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /a?b=c HTTP/1.0\r\n\r\n",
    "HEAD /h HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /api/one HTTP/1.1\r\nHost: x\r\nX-Del: 1\r\nx-path: mine\r\nConnection: close\r\n\r\n",
    "POST /api/p HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody",
    "GET /deny HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "HEAD /deny HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /deny429 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /redir HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /x.tls?q=1 HTTP/1.1\r\nHost: h.example:80\r\nConnection: close\r\n\r\n",
    "GET /pre/a?b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /gone HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /404 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /eof HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /chunked HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /dead HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /broken/close HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /broken/garbage HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /ck HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /ck HTTP/1.1\r\nHost: x\r\nCookie: a=1; SRV=cb\r\nConnection: close\r\n\r\n",
    "GET /ck HTTP/1.1\r\nHost: x\r\nCookie: SRV=unknown\r\nConnection: close\r\n\r\n",
    "GET /rd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /rd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /plain HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /env HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /page HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /broken/chunk HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /broken/coding HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /broken/garbage HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET http://y/abs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "CONNECT x:443 HTTP/1.1\r\nHost: y\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "POST /up HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\nT: v\r\n\r\n",
    "\u{16}\u{3}\u{1}",
    "bad request\r\n\r\n",
    "GET / HTTP/1.1\r\nFoo : bar\r\n\r\n",
    "GET /partial HTTP/1.1\r\nHost: x\r\n",
    "GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
];

/// Requests whose status has to be the same: what else differs is in `docs/compatibility.md`.
const SAME_STATUS: &[&str] = &[
    "GET /broken/101 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET http://x:80/abs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
];

/// Times, ports and dates out of a log line.
fn plain(line: &str) -> String {
    let mut out: Vec<String> = line.split(' ').map(str::to_owned).collect();
    if let Some(w) = out.first_mut() {
        *w = w.split(':').next().unwrap_or_default().to_owned();
    }
    if let Some(w) = out.get_mut(1) {
        *w = "[date]".into();
    }
    // Timers: only whether they were reached.
    if let Some(w) = out.get_mut(4) {
        *w = w.split('/').map(|t| if t.starts_with('-') { "-1" } else { "n" }).collect::<Vec<_>>().join("/");
    }
    out.join(" ")
}

/// Header names as the older reference spells them where it answers before a request was understood.
fn answer(text: &str, own_port: u16) -> String {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let lines: Vec<String> = head
        .lines()
        .enumerate()
        .map(|(i, l)| match l.split_once(": ") {
            Some((n, v)) if i > 0 => format!("{}: {v}", n.to_ascii_lowercase()),
            _ => l.to_owned(),
        })
        .collect();
    format!("{}\n\n{body}", lines.join("\n")).replace(&own_port.to_string(), "PORT")
}

/// A real server behind both: static files, ranges, conditions, keep-alive, compression.
fn nginx() {
    let dir = tempfile::tempdir().unwrap();
    let path = |n: &str| dir.path().join(n).to_str().unwrap().to_owned();
    std::fs::create_dir(path("www")).unwrap();
    std::fs::write(path("www/index.html"), "hello from nginx\n").unwrap();
    std::fs::write(path("www/big.bin"), (0..3_000_000u32).map(|i| (i % 251) as u8).collect::<Vec<_>>()).unwrap();
    std::fs::write(path("www/text.txt"), "compress me ".repeat(1000)).unwrap();
    let port = support::free_port();
    std::fs::write(
        path("nginx.conf"),
        format!(
            "pid {0}/pid;\nerror_log {0}/error.log;\nworker_processes 1;\ndaemon off;\nevents {{}}\nhttp {{\n access_log off;\n gzip on;\n gzip_types text/plain;\n gzip_min_length 100;\n client_body_temp_path {0}/b;\n proxy_temp_path {0}/p;\n fastcgi_temp_path {0}/f;\n uwsgi_temp_path {0}/u;\n scgi_temp_path {0}/s;\n server {{\n listen 127.0.0.1:{port};\n root {0}/www;\n location /old {{ return 301 /new; }}\n }}\n}}\n",
            dir.path().to_str().unwrap()
        ),
    )
    .unwrap();
    let server = Ended(
        std::process::Command::new("/usr/sbin/nginx")
            .args(["-c", &path("nginx.conf"), "-e", &path("error.log")])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap(),
    );
    assert!(support::wait_for(std::time::Duration::from_secs(5), || std::net::TcpStream::connect(("127.0.0.1", port))
        .is_ok()));
    let text = format!(
        "defaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 1s\n log stdout format raw local0\n option httplog\nfrontend f\n bind 127.0.0.1:{{port}}\n default_backend b\nbackend b\n option httpchk GET /\n server n 127.0.0.1:{port} check inter 500ms\n"
    );
    let theirs = Proxy::start("/usr/sbin/haproxy", &text);
    let ours = Proxy::start(&tandem(), &text);
    let mut wrong = Vec::new();
    for (what, headers) in [
        ("GET / HTTP/1.1", ""),
        ("HEAD / HTTP/1.1", ""),
        ("GET /big.bin HTTP/1.1", ""),
        ("GET /big.bin HTTP/1.1", "Range: bytes=1000-1999\r\n"),
        ("GET /big.bin HTTP/1.1", "Range: bytes=0-9,100-109\r\n"),
        ("GET /text.txt HTTP/1.1", "Accept-Encoding: gzip\r\n"),
        ("GET / HTTP/1.1", "If-Modified-Since: Fri, 01 Jan 2038 00:00:00 GMT\r\n"),
        ("GET /none HTTP/1.1", ""),
        ("GET /old HTTP/1.1", ""),
        ("GET / HTTP/1.0", ""),
        ("PUT /x HTTP/1.1", "Content-Length: 3\r\n"),
        ("GET / HTTP/1.1", "Host: twice\r\n"),
    ] {
        let body = if headers.contains("Content-Length") { "abc" } else { "" };
        let r = format!("{what}\r\nHost: x\r\n{headers}Connection: close\r\n\r\n{body}");
        // The boundary of a multipart answer is another one each time; dates and ports are not compared.
        let same = |p: &Proxy| {
            let text = answer(&p.exchange(r.as_bytes()), p.port);
            let boundary =
                text.split("boundary=").nth(1).and_then(|b| b.lines().next()).unwrap_or("no boundary").to_owned();
            let dated: Vec<&str> = text.lines().filter(|l| !l.starts_with("date: ")).collect();
            // Chunk sizes are passed on as the server wrote them.
            let mut text = dated.join("\n");
            if let Some(at) = text.find("\n\n").filter(|_| text.contains("chunked")) {
                let end = text[at + 2..].find('\n').map_or(text.len(), |n| at + 2 + n);
                let size = text[at..end].to_lowercase();
                text.replace_range(at..end, &size);
            }
            (text.replace(&boundary, "BOUNDARY").replace(&port.to_string(), "ORIGIN"), plain(&p.line()))
        };
        let (t, o) = (same(&theirs), same(&ours));
        if t != o {
            let short = |s: &(String, String)| {
                format!("{} bytes {:?} ... {}", s.0.len(), s.0.chars().take(600).collect::<String>(), s.1)
            };
            wrong.push(format!("request {r:?}\n  HAProxy: {}\n  Tandem:  {}", short(&t), short(&o)));
        }
    }
    drop(server);
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong.join("\n"));
}

/// Ends a server in order, whatever becomes of the test: its own children go with it.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = std::process::Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

fn answers() {
    let (a, b) = (origin("from a"), origin("from b"));
    let text = CONFIG.replace("{a}", &a.port.to_string()).replace("{b}", &b.port.to_string());
    // A page that says another status than the rule: the log has the rule's.
    let page = tempfile::tempdir().unwrap();
    std::fs::write(
        page.path().join("403.http"),
        "HTTP/1.1 503 Later\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nno",
    )
    .unwrap();
    let text = text.replace("{dir}/403.http", page.path().join("403.http").to_str().unwrap());
    let theirs = Proxy::start("/usr/sbin/haproxy", &text);
    let ours = Proxy::start(&tandem(), &text);
    let mut wrong = Vec::new();
    for r in REQUESTS {
        let (t, o) =
            (answer(&theirs.exchange(r.as_bytes()), theirs.port), answer(&ours.exchange(r.as_bytes()), ours.port));
        if t != o {
            wrong.push(format!("request {r:?}\n  HAProxy: {t:?}\n  Tandem:  {o:?}"));
        }
        let lines = r.matches(" HTTP/1.").count().max(1);
        for _ in 0..lines {
            let (t, o) = (plain(&theirs.line()), plain(&ours.line()));
            if t != o {
                wrong.push(format!("log of {r:?}\n  HAProxy: {t}\n  Tandem:  {o}"));
            }
        }
    }
    for r in SAME_STATUS {
        let status = |p: &Proxy| p.exchange(r.as_bytes()).lines().next().unwrap_or_default().to_owned();
        let (t, o) = (status(&theirs), status(&ours));
        if t != o {
            wrong.push(format!("request {r:?}\n  HAProxy: {t}\n  Tandem:  {o}"));
        }
    }
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong.join("\n"));
}

/// Lines that make a file good or bad; both must say the same.
fn verdicts() {
    let base = "defaults\n mode http\n timeout client 1s\n timeout server 1s\n timeout connect 1s\n";
    let front = "frontend f\n bind 127.0.0.1:8080\n";
    let lines = [
        "acl a path_beg /x",
        "acl a path_bg /x",
        "acl a hdr(host) -i x",
        "acl a src 10.0.0.0/8",
        "acl a src 10.0.0.0/99",
        "http-request deny if { path /x }",
        "http-request deny if nope",
        "http-request deny if { path /x",
        "http-request set-header X",
        "http-request set-header X y",
        "http-request set-header X %[path]",
        "http-request set-header X %[pth]",
        "http-request redirect location /x code 302",
        "http-request redirect location /x code 333",
        "http-request redirect",
        "redirect scheme https if !{ ssl_fc }",
        "timeout client 5x",
        "timeout client 99999999999",
        "timeout foo 5s",
        "maxconn 10",
        "option httplog",
        "option httplgo",
        "option forwardfor except 127.0.0.0/8",
        "log 127.0.0.1:514 local0",
        "log 127.0.0.1:514 local9",
        "log global",
        "default_backend nope",
        "errorfile 503 /nonexistent",
        "bind :99999",
        "bind 127.0.0.1",
        "use_backend nope if TRUE",
        "foo bar",
        "'quoted",
        "http-request return status 200 content-type text/plain string x",
        "http-request return status 200 string x",
        "http-response set-header A b",
        "monitor-uri /up",
        "stats uri /s",
        "stats nonsense",
        "http-request deny deny_status 404",
        "capture",
        "mode ftp",
        "no option httplog",
        "no maxconn",
        "acl",
        "tcp-request connection reject if { src 1.2.3.4 }",
    ];
    let backend = [
        "server s 127.0.0.1:80",
        "server s 127.0.0.1:80 check inter 1s",
        "server s 127.0.0.1:80 chck",
        "server s 127.0.0.1:808080",
        "server s",
        "server s 127.0.0.1:80 weight 300",
        "server s 127.0.0.1:80 weight 10",
        "balance roundrobin",
        "balance rr",
        "balance leastconn",
        "option httpchk GET /",
        "http-check expect status 200",
        "http-check expect foo 200",
        "tcp-check connect",
        "tcp-check foo",
        "cookie S insert indirect",
        "retries 3",
        "option redispatch",
        "default-server inter 1s",
        "server s 127.0.0.1:80 ssl verify none",
        "server s 127.0.0.1:80 check\n server s 127.0.0.1:81",
    ];
    let mut files: Vec<String> = lines.iter().map(|l| format!("{base}{front} {l}\n")).collect();
    files.extend(backend.iter().map(|l| format!("{base}{front} default_backend b\nbackend b\n {l}\n")));
    // Pairs make a few hundred files of mixed good and bad.
    for (i, l) in lines.iter().enumerate() {
        for k in [7, 13, 29] {
            files.push(format!(
                "{base}{front} {l}\n {}\nbackend b\n {}\n",
                lines[(i + k) % lines.len()],
                backend[i % backend.len()]
            ));
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v.cfg");
    let mut wrong = Vec::new();
    for f in &files {
        std::fs::write(&path, f).unwrap();
        let run =
            |program: &str| std::process::Command::new(program).args(["-c", "-q", "-f"]).arg(&path).output().unwrap();
        let (t, o) = (run("/usr/sbin/haproxy"), run(&tandem()));
        if t.status.success() != o.status.success() {
            let said = |x: &std::process::Output| {
                String::from_utf8_lossy(&x.stderr).lines().find(|l| l.contains("ALERT")).unwrap_or_default().to_owned()
            };
            let mut c = std::process::Command::new(tandem());
            let full = c.args(["-c", "-f"]).arg(&path).output().unwrap();
            wrong.push(format!(
                "{:?}\n  HAProxy {}: {}\n  Tandem {}: {}",
                f.trim_start_matches(base),
                t.status,
                said(&t),
                o.status,
                said(&full)
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {} verdicts differ\n{}", wrong.len(), files.len(), wrong.join("\n"));
}

/// Files about the language itself: quoting, variables, conditions. `{front}` is a frontend that is whole.
const LANGUAGE: &[&str] = &[
    ".if 1\n{front}.endif\n",
    ".if 0\nnonsense here\n.endif\n{front}",
    ".if defined(HOME)\n{front}.else\nnonsense\n.endif\n",
    ".if streq(a,a) && !streq(a,b)\n{front}.endif\n",
    ".if 0\nx\n.elif version_atleast(2.0)\n{front}.else\ny\n.endif\n",
    ".if version_before(1.0) || feature(NOSUCHTHING)\nx\n.endif\n{front}",
    ".if 0\n.if nonsense\n.endif\n.endif\n{front}",
    ".if nonsense\n.endif\n{front}",
    ".if 1\n{front}",
    ".endif\n{front}",
    ".else\n{front}",
    ".if 1\n.else\n.else\n.endif\n{front}",
    ".if 1\n.endif x\n{front}",
    ".if (1\n.endif\n{front}",
    ".if streq(a)\n.endif\n{front}",
    ".notice \"hello\"\n{front}",
    ".warning \"hello\"\n{front}",
    ".alert \"hello\"\n{front}",
    ".nonsense\n{front}",
    "{front} log-tag \"x y\"\n",
    "{front} log-tag 'x y'\n",
    "{front} log-tag x\\ y\n",
    "{front} log-tag \"x y\n",
    "{front} log-tag 'x y\n",
    "{front} log-tag \"$HOME\"\n",
    "{front} log-tag \"${HOME}\"\n",
    "{front} log-tag \"${HOME\"\n",
    "{front} log-tag \"${NOSUCH-default}\"\n",
    "{front} log-tag \"x$\"\n",
    "{front} log-tag \"$1\"\n",
    "{front} log-tag \"\\$1\"\n",
    "{front} log-tag \\x41\n",
    "{front} log-tag \\xZZ\n",
    "{front} log-tag a#b\n",
    "{front} log-tag \\#a\n",
    "{front} log-tag a \\\n",
    "{front} acl a path_reg ^/x$\n",
    "{front} acl a path_reg \"^/x$\"\n",
    "{front} http-request set-header X \"%[path]\"\n",
    "{front} no option dontlognull\n",
    "{front} no timeout client\n",
    "{front} default maxconn 5\n",
    "{front} use_backend b if { path /x }\nbackend b\n server s 127.0.0.1:80/path\n",
    "{front} http-request deny if HTTP_1.1\n",
    "{front} http-request deny if METH_GET WAIT_END\n",
    "nonsense\n{front}",
];

fn language() {
    let front = "defaults\n mode http\n timeout client 1s\n timeout server 1s\n timeout connect 1s\nfrontend f\n bind 127.0.0.1:8080\n";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l.cfg");
    let mut wrong = Vec::new();
    for text in LANGUAGE {
        std::fs::write(&path, text.replace("{front}", front)).unwrap();
        let run = |program: &str| std::process::Command::new(program).args(["-c", "-f"]).arg(&path).output().unwrap();
        let (t, o) = (run("/usr/sbin/haproxy"), run(&tandem()));
        if t.status.success() != o.status.success() {
            wrong.push(format!(
                "{text:?}\n  HAProxy {}: {}\n  Tandem {}: {}",
                t.status,
                String::from_utf8_lossy(&t.stderr).lines().find(|l| l.contains("ALERT")).unwrap_or_default(),
                o.status,
                String::from_utf8_lossy(&o.stderr).lines().find(|l| l.contains("ALERT")).unwrap_or_default()
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {} verdicts differ\n{}", wrong.len(), LANGUAGE.len(), wrong.join("\n"));
}

/// Lines of an instance: whether keepalived has anything to report about them. Nothing is started.
const INSTANCE: &[&str] = &[
    "",
    "nonsense 1\n",
    "priority 300\n",
    "priority 100\n",
    "state PEER\n",
    "advert_int 1.5\n",
    "nopreempt\n",
    "authentication {\n auth_type PASS\n auth_pass secret\n }\n",
    "authentication {\n auth_type PASS\n auth_pass muchtoolong\n }\n",
    "track_interface {\n eth0\n }\n",
    "garp_master_delay 5\n",
    "garp_master_repeat 3 # comment\n",
    "notify_master \"/bin/true\"\n",
    "version 3\n",
    "version 4\n",
    "preempt_delay 10\n",
    "unicast_src_ip 10.77.0.11\nunicast_peer {\n 10.77.0.12\n }\n",
    "virtual_ipaddress_excluded {\n 10.9.9.9/32\n }\n",
    "lvs_sync_daemon_interface eth0\n",
    "skip_check_adv_addr\n",
    "accept\n",
];

const WHOLE: &[&str] = &[
    "{one}",
    "$V=51\n{one}",
    "! comment\n# another\n{one}",
    "~SEQ(N, 2) vrrp_instance I$N {\n interface eth0\n virtual_router_id 5$N\n virtual_ipaddress {\n 10.9.9.$N/32\n }\n }\n",
    "@nosuchhost nonsense\n{one}",
    "@^nosuchhost global_defs {\n}\n{one}",
    "global_defs {\n router_id x\n vrrp_version 3\n}\n{one}",
    "global_defs {\n nonsense\n}\n{one}",
    "nonsense\n{one}",
    "{one}}\n",
    "vrrp_instance A {\n interface eth0\n",
];

fn keepalived_codes() {
    let one = |extra: &str| {
        format!(
            "vrrp_instance A {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n priority 100\n {extra}virtual_ipaddress {{\n 10.9.9.1/32\n }}\n}}\n"
        )
    };
    let safe = "global_defs {\n enable_script_security\n script_user root\n}\n";
    let mut files: Vec<String> = INSTANCE.iter().map(|l| format!("{safe}{}", one(l))).collect();
    files.extend(WHOLE.iter().map(|w| w.replace("{one}", &one(""))));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("k.conf");
    let ours = dir.path().join("keepalived");
    // The interface that the files name.
    let lab = tandem_proxy::cli::demo::lab::Lab::new(1).unwrap();
    std::os::unix::fs::symlink(std::fs::canonicalize(tandem()).unwrap(), &ours).unwrap();
    let mut wrong = Vec::new();
    for f in &files {
        std::fs::write(&path, f).unwrap();
        let run = |program: &std::path::Path| {
            let mut c = std::process::Command::new(program);
            c.arg("-t").arg("-f").arg(&path);
            lab.hosts[0].run(move || c.output().unwrap()).unwrap()
        };
        let (t, o) = (run("/usr/sbin/keepalived".as_ref()), run(&ours));
        // Whether anything is reported is what counts; which of its codes above 4 is keepalived's own matter.
        let said = |x: &std::process::Output| x.status.code() != Some(0);
        if said(&t) != said(&o) {
            wrong.push(format!(
                "{f:?}\n  keepalived {}: {}\n  Tandem {}: {}",
                t.status,
                String::from_utf8_lossy(&t.stderr).trim(),
                o.status,
                String::from_utf8_lossy(&o.stderr).trim()
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {} verdicts differ\n{}", wrong.len(), files.len(), wrong.join("\n"));
}
