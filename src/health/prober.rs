//! Health checks (configuration manual 5.2, `check`): one task a server, on the worker's control thread.
use crate::base::addr::{Host, canonical};
use crate::config::model::{CheckKind, CheckStep, ExpectBytes, ExpectHttp, OnError, PortRule};
use crate::health::dialect::{Dialect, Next, Talk};
use crate::health::fsm::Change;
use crate::rules::sample::{HeadSide, Traffic};
use crate::state::counters::Counter;
use crate::state::live::{CheckResult, Live, lock};
use crate::state::snapshot::{ProxyNode, ServerNode, Snapshot};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Answers of checks are read no further.
const MAX_BODY: usize = 64 * 1024;

/// The running checks of one snapshot; dropping it ends them.
pub struct Probes(Vec<JoinHandle<()>>);

impl Drop for Probes {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Starts a check for every server that has one, spread over the first interval.
pub fn start(snapshot: &Arc<Snapshot>, live: &Arc<Live>) -> Probes {
    let mut tasks = Vec::new();
    // Who tracks a server that was checked before the reload begins with what it is.
    for p in &snapshot.proxies {
        p.servers.iter().filter(|s| s.conf.check).for_each(|s| follow(p, s, snapshot, live));
    }
    for p in snapshot.proxies.iter().filter(|p| p.conf.is_backend() && !p.conf.disabled) {
        let n = p.servers.iter().filter(|s| s.conf.check).count().max(1);
        for (k, i) in (0..p.servers.len()).filter(|i| p.servers[*i].conf.check).enumerate() {
            let (p, snapshot, live) = (p.clone(), snapshot.clone(), live.clone());
            let offset = p.servers[i].conf.inter * u32::try_from(k).unwrap_or(0) / u32::try_from(n).unwrap_or(1);
            tasks.push(tokio::task::spawn_local(async move {
                // A server that was checked before the reload keeps its state and its rhythm.
                let known = lock(&p.servers[i].live.check).is_some();
                tokio::time::sleep(if known {
                    p.servers[i].conf.inter.min(offset + Duration::from_millis(100))
                } else {
                    offset
                })
                .await;
                loop {
                    let s = &p.servers[i];
                    if s.live.in_maintenance() {
                        tokio::time::sleep(s.conf.inter).await;
                        continue;
                    }
                    let begin = Instant::now();
                    let limit = p.conf.timeouts.check.map_or(s.conf.inter, |c| {
                        c.max(Duration::from_millis(1)) + p.conf.timeouts.connect.unwrap_or_default().min(s.conf.inter)
                    });
                    let outcome = tokio::time::timeout(limit, check(&p, s))
                        .await
                        .unwrap_or_else(|_| Err(timeout_of(&p.conf.check)));
                    settle(&p, i, outcome, begin.elapsed(), &snapshot, &live);
                    let h = s.live.health();
                    let params = s.conf.health;
                    let full = params.rise + params.fall - 1;
                    let inter = match h.count() {
                        c if c == full => s.conf.inter,
                        0 => s.conf.downinter.unwrap_or(s.conf.inter),
                        _ => s.conf.fastinter.unwrap_or(s.conf.inter),
                    };
                    let next = tokio::time::Instant::now()
                        + inter.saturating_sub(begin.elapsed()).max(Duration::from_millis(1));
                    tokio::select! {
                        () = tokio::time::sleep_until(next) => {}
                        () = s.live.suspicion.notified(), if s.conf.observe.is_some() => {
                            if s.live.is_suspected() {
                                suspect(&p, i, &snapshot, &live);
                            }
                            let soon = s.conf.fastinter.unwrap_or(s.conf.inter);
                            tokio::time::sleep_until(next.min(tokio::time::Instant::now() + soon)).await;
                        }
                    }
                }
            }));
        }
    }
    Probes(tasks)
}

/// Traffic met so many errors in a row as `error-limit` allows: does what `on-error` says.
fn suspect(p: &Arc<ProxyNode>, i: usize, snapshot: &Snapshot, live: &Live) {
    let s = &p.servers[i];
    let params = s.conf.health;
    // Failures that it takes from full health to one before down, and to down.
    let failures = match s.conf.on_error {
        OnError::Fastinter => 0,
        OnError::FailCheck => 1,
        OnError::SuddenDeath => s.live.health().count().saturating_sub(params.rise),
        OnError::MarkDown => s.live.health().count().saturating_sub(params.rise) + 1,
    };
    for _ in 0..if s.live.is_up() { failures } else { 0 } {
        let info = format!("Detected {} consecutive errors", s.conf.error_limit);
        settle(p, i, Err(Found { status: "HANA", code: None, info }), Duration::ZERO, snapshot, live);
    }
}

/// What a check found out.
struct Found {
    status: &'static str,
    code: Option<u16>,
    info: String,
}

fn found(status: &'static str) -> Found {
    Found { status, code: None, info: String::new() }
}

fn timeout_of(kind: &CheckKind) -> Found {
    match kind {
        CheckKind::Tcp => found("L4TOUT"),
        CheckKind::SslHello => found("L6TOUT"),
        CheckKind::TcpScript(_) | CheckKind::Http(_) | CheckKind::Dialect(_) => found("L7TOUT"),
    }
}

/// The text behind a status code, as logs and statistics have it.
pub fn describe(status: &str) -> &'static str {
    match status {
        "HANA" => "Health analyze",
        "L4OK" => "Layer4 check passed",
        "L4CON" => "Layer4 connection problem",
        "L4TOUT" => "Layer4 timeout",
        "L6OK" => "Layer6 check passed",
        "L6RSP" => "Layer6 invalid response",
        "L6TOUT" => "Layer6 timeout",
        "L7OK" => "Layer7 check passed",
        "L7STS" => "Layer7 wrong status",
        "L7RSP" => "Layer7 invalid response",
        "L7TOUT" => "Layer7 timeout",
        "SOCKERR" => "Socket error",
        _ => "Initializing",
    }
}

/// The number `show servers state` has for a check status.
pub fn status_number(status: &str) -> u8 {
    match status {
        "HANA" => 4,
        "SOCKERR" => 5,
        "L4OK" => 6,
        "L4TOUT" => 7,
        "L4CON" => 8,
        "L6OK" => 9,
        "L6TOUT" => 10,
        "L6RSP" => 11,
        "L7TOUT" => 12,
        "L7RSP" => 13,
        "L7OK" => 15,
        "L7STS" => 17,
        _ => 1,
    }
}

/// `Connection refused`, as the C library has it.
fn capital(text: &str) -> String {
    let mut c = text.chars();
    c.next().map_or_else(String::new, |f| f.to_uppercase().chain(c).collect())
}

trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

async fn connect(
    p: &ProxyNode,
    s: &ServerNode,
    port: Option<u16>,
    tls: bool,
    send_proxy: bool,
) -> Result<Box<dyn Io>, Found> {
    let refused = |e: &std::io::Error| Found { info: capital(&crate::base::diag::io_words(e)), ..found("L4CON") };
    if let Host::Unix(path) = &s.conf.host {
        return tokio::net::UnixStream::connect(path)
            .await
            .map(|s| Box::new(s) as Box<dyn Io>)
            .map_err(|e| refused(&e));
    }
    if let Host::Abstract(name) = &s.conf.host {
        return crate::net::connect_abstract(name).map(|s| Box::new(s) as Box<dyn Io>).map_err(|e| refused(&e));
    }
    let set = *lock(&s.live.addr);
    let ip = s.conf.check_addr.or(set.map(|a| a.0)).or(s.conf.ip).ok_or_else(|| found("SOCKERR"))?;
    let own = match (set, &s.conf.port) {
        (Some((_, Some(port))), _) => port,
        (_, PortRule::Fixed(port)) => *port,
        (_, _) => 0,
    };
    let addr = SocketAddr::new(ip, port.or(s.conf.check_port).unwrap_or(own));
    let wait = p.conf.timeouts.connect.unwrap_or(s.conf.inter).min(s.conf.inter);
    let mut tcp = match tokio::time::timeout(wait, TcpStream::connect(addr)).await {
        Ok(Ok(t)) => t,
        Ok(Err(e)) => return Err(refused(&e)),
        Err(_) => return Err(found("L4TOUT")),
    };
    // Checks end with a reset: no TIME_WAIT, and the application sees at once that nobody waits.
    let _ = socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO));
    let _ = tcp.set_nodelay(true);
    if send_proxy && let Some(v) = s.conf.send_proxy {
        let line = crate::proxy::proxy_header(v, tcp.local_addr().ok(), tcp.peer_addr().ok());
        tcp.write_all(&line).await.map_err(|_| found("SOCKERR"))?;
    }
    if !tls {
        return Ok(Box::new(tcp));
    }
    let Some(config) = &s.tls else { return Err(found("SOCKERR")) };
    let name = match s
        .conf
        .tls
        .as_ref()
        .and_then(|t| t.verify_host.clone())
        .and_then(|n| rustls_pki_types::ServerName::try_from(n).ok())
    {
        Some(n) => n,
        None => rustls_pki_types::ServerName::IpAddress(canonical(addr.ip()).into()),
    };
    match tokio_rustls::TlsConnector::from(config.clone()).connect(name, tcp).await {
        Ok(s) => Ok(Box::new(s)),
        Err(e) => Err(Found { info: e.to_string(), ..found("L6RSP") }),
    }
}

async fn check(p: &ProxyNode, s: &ServerNode) -> Result<Found, Found> {
    let tls = s.conf.check_tls || s.conf.traffic_tls && s.conf.check_port.is_none();
    let proxy = s.conf.check_send_proxy
        || s.conf.send_proxy.is_some() && s.conf.check_port.is_none() && s.conf.check_addr.is_none();
    match &p.conf.check {
        CheckKind::Tcp => connect(p, s, None, tls, proxy).await.map(|_| found(if tls { "L6OK" } else { "L4OK" })),
        CheckKind::SslHello => ssl_hello(connect(p, s, None, false, proxy).await?).await,
        CheckKind::TcpScript(steps) => tcp_script(p, s, steps, tls, proxy).await,
        CheckKind::Dialect(d) => dialect(connect(p, s, None, tls, proxy).await?, d).await,
        CheckKind::Http(steps) => http(connect(p, s, None, tls, proxy).await?, steps).await,
    }
}

/// A conversation in the server's own protocol.
async fn dialect(mut io: Box<dyn Io>, d: &Dialect) -> Result<Found, Found> {
    let mut talk = Talk::new(d);
    let (mut seen, mut closed) = (Vec::new(), false);
    loop {
        match talk.go_on(&mut seen, closed) {
            // A server that does not take it may have said why.
            Next::Send(bytes) => drop(io.write_all(&bytes).await),
            Next::Done(v) => {
                let f = Found { status: v.status, code: v.code, info: v.info.clone() };
                return if v.passed() { Ok(f) } else { Err(f) };
            }
            Next::Read => {
                let mut buf = [0u8; 4096];
                match io.read(&mut buf).await {
                    Ok(n @ 1..) if seen.len() < MAX_BODY => seen.extend_from_slice(&buf[..n]),
                    _ => closed = true,
                }
            }
        }
    }
}

/// Sends the start of a TLS handshake and wants to see the start of an answer.
async fn ssl_hello(mut io: Box<dyn Io>) -> Result<Found, Found> {
    // A hello as old as they come, with suites that everybody knew: even who refuses it answers, and it is no use to anybody else.
    let suites = [0, 0x0a, 0, 0x09, 0, 0x64, 0, 0x62, 0, 3, 0, 6, 0, 5, 0, 4, 0, 0x2f, 0, 0x35];
    let mut hello = vec![0x16, 3, 0, 0, 63, 1, 0, 0, 59, 3, 0];
    hello.extend_from_slice(&[0x5a; 32]);
    hello.extend_from_slice(&[0, 0, 20]);
    hello.extend_from_slice(&suites);
    hello.extend_from_slice(&[1, 0]);
    io.write_all(&hello).await.map_err(|_| found("L6RSP"))?;
    let mut first = [0u8; 1];
    let nothing = |_| Found { info: "TCPCHK got an empty response at step 2".into(), ..found("L6RSP") };
    io.read_exact(&mut first).await.map_err(nothing)?;
    // A handshake record or an alert: either way it speaks TLS.
    if matches!(first[0], 0x15 | 0x16) { Ok(found("L6OK")) } else { Err(found("L6RSP")) }
}

async fn tcp_script(
    p: &ProxyNode,
    s: &ServerNode,
    steps: &[CheckStep],
    tls: bool,
    proxy: bool,
) -> Result<Found, Found> {
    let mut io: Option<Box<dyn Io>> = None;
    let mut seen: Vec<u8> = Vec::new();
    let mut asked = false;
    // `timeout check` counts once the connection is there.
    let limit = p.conf.timeouts.check.map_or(s.conf.inter, |c| c.max(Duration::from_millis(1)));
    let mut until = tokio::time::Instant::now() + limit;
    for (n, step) in steps.iter().enumerate() {
        if let CheckStep::Connect { port, tls, send_proxy, comment } = step {
            let told = |mut f: Found| {
                let what = port.map_or_else(String::new, |p| format!(" port {p}"));
                let refused = if f.info == "Connection refused" {
                    "ECONNREFUSED returned by OS (Connection refused)"
                } else {
                    &f.info
                };
                f.info = at_step(refused, n, &format!("connect{what}"), comment.as_deref());
                f
            };
            io = Some(connect(p, s, *port, *tls, *send_proxy || proxy).await.map_err(told)?);
            until = tokio::time::Instant::now() + limit;
            seen.clear();
            continue;
        }
        if io.is_none() {
            io = Some(connect(p, s, None, tls, proxy).await?);
            until = tokio::time::Instant::now() + limit;
        }
        let Some(io) = io.as_mut() else { continue };
        match step {
            CheckStep::Send(bytes) => {
                asked = true;
                io.write_all(bytes)
                    .await
                    .map_err(|e| Found { info: crate::base::diag::io_words(&e), ..found("L7RSP") })?;
                seen.clear();
            }
            CheckStep::ExpectBytes { pattern, negate, min_recv, shown, comment } => {
                asked = true;
                let late = |_| {
                    let info = at_step("", n, &format!("expect {shown}"), comment.as_deref());
                    Found { info, ..found("L7TOUT") }
                };
                let failed = |what: &str| {
                    let what = match shown.strip_prefix("string ") {
                        Some(text) => format!("{what} {text}"),
                        None if shown == "regex" => format!("{what} (regex)"),
                        None => what.to_owned(),
                    };
                    let comment = comment.as_ref().map_or_else(String::new, |c| format!(" comment: {c}"));
                    Found { info: format!("TCPCHK {what} at step {}{comment}", n + 1), ..found("L7RSP") }
                };
                let mut closed = false;
                loop {
                    let mut buf = [0u8; 4096];
                    if seen.len() < *min_recv && !closed {
                        match tokio::time::timeout_at(until, io.read(&mut buf)).await.map_err(late)? {
                            Ok(k @ 1..) => seen.extend_from_slice(&buf[..k]),
                            _ => closed = true,
                        }
                        continue;
                    }
                    let hit = match pattern {
                        ExpectBytes::String(w) => w.is_empty() || seen.windows(w.len()).any(|x| x == &w[..]),
                        ExpectBytes::Regex(r) => r.is_match(&seen),
                    };
                    if hit {
                        if *negate {
                            return Err(failed("matched unwanted content"));
                        }
                        break;
                    }
                    // What was asked for is there, and is not what must not be.
                    if *negate && *min_recv > 0 {
                        break;
                    }
                    match tokio::time::timeout_at(until, io.read(&mut buf)).await.map_err(late)? {
                        Ok(0) | Err(_) if *negate => break,
                        Ok(0) | Err(_) => return Err(failed("did not match content")),
                        Ok(k) => seen.extend_from_slice(&buf[..k]),
                    }
                    if seen.len() > MAX_BODY {
                        return Err(failed("did not match content"));
                    }
                }
            }
            CheckStep::Connect { .. } | CheckStep::HttpSend { .. } | CheckStep::ExpectHttp { .. } => {}
        }
    }
    if io.is_none() {
        drop(connect(p, s, None, tls, proxy).await?);
    }
    Ok(if asked { Found { code: Some(0), info: "(tcp-check)".into(), ..found("L7OK") } } else { found("L4OK") })
}

async fn http(io: Box<dyn Io>, steps: &[CheckStep]) -> Result<Found, Found> {
    let bad = |info: String| Found { info, ..found("L7RSP") };
    let Some(CheckStep::HttpSend { method, uri, version, headers, body }) =
        steps.iter().find(|s| matches!(s, CheckStep::HttpSend { .. }))
    else {
        return Err(found("SOCKERR"));
    };
    let (mut sender, conn) =
        hyper::client::conn::http1::Builder::new().handshake(TokioIo::new(io)).await.map_err(|e| bad(e.to_string()))?;
    let driver = tokio::task::spawn_local(async move { drop(conn.await) });
    let _abort = Abort(driver);
    let mut req = hyper::Request::builder().method(method.as_str()).uri(uri.as_str());
    req = req.version(if *version == 0 { hyper::Version::HTTP_10 } else { hyper::Version::HTTP_11 });
    for (n, f) in headers {
        let mut v = Vec::new();
        f.render(&Nothing, &mut v);
        req = req.header(n.as_str(), v);
    }
    if *version == 1 {
        req = req.header("connection", "close");
    }
    let req = req.body(Full::new(Bytes::from(body.clone()))).map_err(|e| bad(e.to_string()))?;
    let res = sender.send_request(req).await.map_err(|e| bad(e.to_string()))?;
    let status = res.status().as_u16();
    // The server's own words, if it has any.
    let reason = match res.extensions().get::<hyper::ext::ReasonPhrase>() {
        Some(r) => String::from_utf8_lossy(r.as_bytes()).into_owned(),
        None => res.status().canonical_reason().unwrap_or_default().to_owned(),
    };
    let expects: Vec<_> = steps
        .iter()
        .filter_map(|s| match s {
            CheckStep::ExpectHttp { what, negate } => Some((what, *negate)),
            _ => None,
        })
        .collect();
    let wants_body = expects.iter().any(|(w, _)| matches!(w, ExpectHttp::Body(_) | ExpectHttp::BodyRegex(_)));
    let text = if wants_body {
        Limited::new(res.into_body(), MAX_BODY).collect().await.map(|b| b.to_bytes().to_vec()).unwrap_or_default()
    } else {
        Vec::new()
    };
    let wrong = || Found { status: "L7STS", code: Some(status), info: reason.clone() };
    if expects.is_empty() && !(200..400).contains(&status) {
        return Err(wrong());
    }
    for (what, negate) in expects {
        let (hit, content) = match what {
            ExpectHttp::Status(ranges) => (ranges.iter().any(|(a, b)| (*a..=*b).contains(&status)), false),
            ExpectHttp::StatusRegex(r) => (r.is_match(status.to_string().as_bytes()), false),
            ExpectHttp::Body(w) => (w.is_empty() || text.windows(w.len()).any(|x| x == &w[..]), true),
            ExpectHttp::BodyRegex(r) => (r.is_match(&text), true),
        };
        if hit == negate {
            return Err(match (content, negate) {
                (false, _) => wrong(),
                (true, true) => bad("HTTP check matched unwanted content".into()),
                (true, false) => bad("HTTP content check did not match".into()),
            });
        }
    }
    Ok(Found { code: Some(status), ..found("L7OK") })
}

struct Abort(JoinHandle<()>);
impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What went wrong, and in which step of a `tcp-check`, as HAProxy says it.
fn at_step(what: &str, step: usize, kind: &str, comment: Option<&str>) -> String {
    let comment = comment.map_or_else(String::new, |c| format!(" comment: '{c}'"));
    format!("{what} at step {} of tcp-check ({kind}){comment}", step + 1)
}

/// Takes a result in: counters, health, log lines, and the sessions of a server that went down.
fn settle(
    p: &Arc<ProxyNode>,
    i: usize,
    outcome: Result<Found, Found>,
    took: Duration,
    snapshot: &Snapshot,
    live: &Live,
) {
    let s = &p.servers[i];
    let passed = outcome.is_ok();
    let (Ok(f) | Err(f)) = outcome;
    let params = s.conf.health;
    let was_backend_up = p.is_up();
    if !passed && s.live.is_up() {
        s.live.counters.inc(Counter::ChecksFailed);
    }
    let before = s.live.health();
    let change = s.live.update_health(|h| if passed { h.passed(params) } else { h.failed(params) });
    let h = s.live.health();
    let mut reason = format!("reason: {}", describe(f.status));
    if let Some(c) = f.code {
        reason.push_str(&format!(", code: {c}"));
    }
    if !f.info.is_empty() && (!passed || matches!(p.conf.check, CheckKind::Dialect(_))) {
        reason.push_str(&format!(", info: \"{}\"", f.info));
    }
    reason.push_str(&format!(", check duration: {}ms", took.as_millis()));
    let status = f.status;
    let said_before = lock(&s.live.check).as_ref().map(|c| c.status);
    *lock(&s.live.check) = Some(CheckResult { status: f.status, code: f.code, duration: took, desc: f.info });
    let kind = if s.conf.backup { "Backup Server" } else { "Server" };
    let mut lines: Vec<(u8, String)> = Vec::new();
    let verbose = p.conf.options.log_health_checks;
    if verbose && (before.count() != h.count() || change != Change::None || said_before != Some(status)) {
        let up = h.is_up(params);
        let (n, m) = if up { (h.count() - params.rise + 1, params.fall) } else { (h.count(), params.rise) };
        lines.push((
            crate::log::NOTICE,
            format!(
                "Health check for {}server {}/{} {}, {reason}, status: {n}/{m} {}.",
                if s.conf.backup { "backup " } else { "" },
                p.conf.name,
                s.conf.name,
                if passed { "succeeded" } else { "failed" },
                if up { "UP" } else { "DOWN" }
            ),
        ));
    }
    let counts = |p: &ProxyNode| {
        let up = |backup: bool| {
            p.servers.iter().filter(|s| s.conf.backup == backup && s.live.effective_weight() > 0).count()
        };
        (up(false), up(true))
    };
    match change {
        Change::Down => {
            s.live.set_up(false);
            s.live.counters.inc(Counter::ChecksDown);
            p.live.bump();
            if s.conf.shutdown_on_down {
                s.live.shutdown_sessions(true);
            }
            let (a, b) = counts(p);
            let why = if verbose { String::new() } else { format!(", {reason}") };
            let on_backup = if a == 0 && b > 0 { " Running on backup." } else { "" };
            lines.push((
                crate::log::ALERT,
                format!(
                    "{kind} {}/{} is DOWN{why}. {a} active and {b} backup servers left.{on_backup} {} sessions active, 0 requeued, {} remaining in queue.",
                    p.conf.name,
                    s.conf.name,
                    s.live.sessions.get(),
                    s.live.queued.get()
                ),
            ));
            p.live.wake(None);
        }
        Change::Up => {
            s.live.set_up(true);
            p.live.bump();
            let (a, b) = counts(p);
            let why = if verbose { String::new() } else { format!(", {reason}") };
            lines.push((
                crate::log::NOTICE,
                format!("{kind} {}/{} is UP{why}. {a} active and {b} backup servers online. 0 sessions requeued, {} total in queue.", p.conf.name, s.conf.name, p.live.queued.get()),
            ));
            p.live.wake(None);
        }
        Change::None => {}
    }
    if change != Change::None {
        follow(p, s, snapshot, live);
    }
    if was_backend_up && !p.is_up() {
        lines.push((0, format!("backend {} has no server available!", p.conf.name)));
    }
    let tag = crate::log::Tag { tag: &p.log_tag, hostname: p.log_hostname.as_deref() };
    for (severity, text) in lines {
        snapshot.sinks.send(&p.logs, severity, &tag, text.as_bytes(), &mut Vec::new(), &live.dropped_logs);
        if let Some(c) = &snapshot.sinks.console {
            c.warning(text);
        }
    }
}

/// Servers that `track` this one are what it is.
fn follow(p: &ProxyNode, s: &ServerNode, snapshot: &Snapshot, live: &Live) {
    let up = s.live.is_up();
    for q in &snapshot.proxies {
        for t in
            q.servers.iter().filter(|t| t.conf.track.as_ref().is_some_and(|k| k.0 == p.conf.name && k.1 == s.conf.name))
        {
            if t.live.is_up() == up {
                continue;
            }
            t.live.set_up(up);
            q.live.bump();
            if !up && t.conf.shutdown_on_down {
                t.live.shutdown_sessions(true);
            }
            let n = |backup: bool| {
                q.servers.iter().filter(|s| s.conf.backup == backup && s.live.effective_weight() > 0).count()
            };
            let kind = if t.conf.backup { "Backup Server" } else { "Server" };
            let (word, rest) = if up {
                ("UP", format!("online. 0 sessions requeued, {} total in queue.", q.live.queued.get()))
            } else {
                let (now, waiting) = (t.live.sessions.get(), t.live.queued.get());
                ("DOWN", format!("left. {now} sessions active, 0 requeued, {waiting} remaining in queue."))
            };
            let text = format!(
                "{kind} {}/{} is {word} via {}/{}. {} active and {} backup servers {rest}",
                q.conf.name,
                t.conf.name,
                p.conf.name,
                s.conf.name,
                n(false),
                n(true)
            );
            let severity = if up { crate::log::NOTICE } else { crate::log::ALERT };
            let tag = crate::log::Tag { tag: &q.log_tag, hostname: q.log_hostname.as_deref() };
            snapshot.sinks.send(&q.logs, severity, &tag, text.as_bytes(), &mut Vec::new(), &live.dropped_logs);
            if let Some(c) = &snapshot.sinks.console {
                c.warning(&text);
            }
            q.live.wake(None);
            follow(q, t, snapshot, live);
        }
    }
}

/// A check has no client.
struct Nothing;

impl Traffic for Nothing {
    fn src(&self) -> Option<SocketAddr> {
        None
    }
    fn dst(&self) -> Option<SocketAddr> {
        None
    }
    fn ssl_fc(&self) -> bool {
        false
    }
    fn ssl_sni(&self) -> Option<&str> {
        None
    }
    fn method(&self) -> &[u8] {
        b""
    }
    fn url(&self) -> &[u8] {
        b""
    }
    fn version(&self) -> &str {
        ""
    }
    fn header<'a>(&'a self, _: &str, _: HeadSide, _: &mut dyn FnMut(&'a [u8]) -> bool) {}
    fn status(&self) -> u16 {
        0
    }
    fn frontend(&self) -> &str {
        ""
    }
    fn backend(&self) -> &str {
        ""
    }
    fn server(&self) -> &str {
        ""
    }
    fn nbsrv(&self, _: Option<&str>) -> i64 {
        0
    }
    fn fe_conn(&self, _: Option<&str>) -> i64 {
        0
    }
    fn be_conn(&self, _: Option<&str>) -> i64 {
        0
    }
    fn unique_id(&self) -> u64 {
        0
    }
    fn var(&self, _: &str) -> Option<&[u8]> {
        None
    }
}
