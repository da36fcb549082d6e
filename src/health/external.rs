//! Checks by programs (configuration manual 4.2, `option external-check`, `external-check command`).
use super::found::Found;
use crate::base::addr::Host;
use crate::config::model::Mode;
use crate::state::snapshot::{ProxyNode, ServerNode, Snapshot};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::{Instant, timeout_at};

/// In place of an address or a port that there is none of.
const NOT_USED: &str = "NOT_USED";

/// Address and port of the section's first listener.
fn own_address(p: &ProxyNode) -> (String, String) {
    let Some(b) = p.conf.binds.first() else { return (NOT_USED.into(), NOT_USED.into()) };
    let text = b.addr.to_string();
    match text.rsplit_once(':') {
        Some((ip, port)) if !text.starts_with('/') => (ip.trim_matches(['[', ']']).to_owned(), port.to_owned()),
        _ => (text, NOT_USED.into()),
    }
}

fn server_address(s: &ServerNode) -> (String, String) {
    match (&s.conf.host, crate::proxy::server_address(s)) {
        (_, Some(a)) => (a.ip().to_string(), a.port().to_string()),
        (Host::Unix(path), None) => (path.clone(), NOT_USED.into()),
        (h, None) => (h.to_string(), NOT_USED.into()),
    }
}

/// How long a program that is late has to end by itself.
const GRACE: Duration = Duration::from_millis(500);

/// The processes of one check; dropped, they are told to end.
struct Group(Option<i32>);

impl Group {
    fn signal(&self, n: i32) {
        if let Some(pid) = self.0 {
            // SAFETY: a plain system call; the group is that of a child that was started for this.
            unsafe { libc::killpg(pid, n) };
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(libc::SIGTERM);
    }
}

/// Runs the program once, until `limit`.
pub async fn run(p: &ProxyNode, s: &ServerNode, snapshot: &Snapshot, limit: Instant) -> Found {
    let Some(command) = &p.conf.external_command else { return Found::bare("SOCKERR") };
    let (own, server) = (own_address(p), server_address(s));
    let used = |t: &str| if t == NOT_USED { String::new() } else { t.to_owned() };
    // Not found by this process's PATH but by the one that the file says.
    let path = p.conf.external_path.clone().unwrap_or_default();
    let program = match command.starts_with('/') {
        true => command.clone(),
        false => {
            let dirs = path.split(':').map(|d| format!("{d}/{command}"));
            dirs.into_iter().find(|f| std::path::Path::new(f).exists()).unwrap_or_else(|| command.clone())
        }
    };
    let mut c = Command::new(&program);
    c.as_std_mut().args([&own.0, &own.1, &server.0, &server.1]);
    std::os::unix::process::CommandExt::arg0(c.as_std_mut(), command);
    if !snapshot.global.external_check.is_some_and(|k| k.0) {
        c.env_clear();
    }
    let proto = if p.conf.mode == Mode::Http { "h1" } else { "tcp" };
    c.env("PATH", path)
        .env("HAPROXY_PROXY_NAME", &p.conf.name)
        .env("HAPROXY_PROXY_ID", p.iid.to_string())
        .env("HAPROXY_PROXY_ADDR", used(&own.0))
        .env("HAPROXY_PROXY_PORT", used(&own.1))
        .env("HAPROXY_SERVER_NAME", &s.conf.name)
        .env("HAPROXY_SERVER_ID", s.sid.to_string())
        .env("HAPROXY_SERVER_ADDR", used(&server.0))
        .env("HAPROXY_SERVER_PORT", used(&server.1))
        .env("HAPROXY_SERVER_MAXCONN", s.live.maxconn.load(Relaxed).to_string())
        .env("HAPROXY_SERVER_CURCONN", s.live.sessions.get().to_string())
        .env("HAPROXY_SERVER_SSL", if s.conf.traffic_tls { "1" } else { "0" })
        .env("HAPROXY_SERVER_PROTO", proto)
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = match c.spawn() {
        Ok(c) => c,
        // As if it had been started and had found nothing to run.
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied) => {
            let text = format!("'{command}' : {}", crate::base::diag::io_words(&e));
            return Found::new("PROCERR", 255, text);
        }
        Err(e) => return Found::new("SOCKERR", 0, crate::base::diag::io_words(&e)),
    };
    // Given up with a reload, it is told to end, with all that it started.
    let mut group = Group(child.id().and_then(|p| i32::try_from(p).ok()));
    match timeout_at(limit, child.wait()).await {
        Ok(Ok(status)) => {
            // It has ended: its number may be another's soon.
            group.0 = None;
            match (status.code(), status.signal()) {
                (Some(0), _) => Found::new("PROCOK", 0, ""),
                (Some(n), _) => Found::new("PROCERR", n, ""),
                (None, _) => Found::new("PROCERR", -1, ""),
            }
        }
        Ok(Err(_)) => Found::bare("SOCKERR"),
        Err(_) => {
            group.signal(libc::SIGTERM);
            if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
                group.signal(libc::SIGKILL);
                let _ = child.wait().await;
            }
            Found::new("PROCTOUT", 0, "")
        }
    }
}
