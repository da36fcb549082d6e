//! Servers and backends made, renamed and removed at run time (management manual 9.3): what speaks against it in the configuration in force.
//! What is left is decided where the configuration is compiled anew ([`crate::config::change`]).
use super::execute::find;
use crate::base::addr::Host;
use crate::config::change::Change;
use crate::config::haproxy::foreign;
use crate::config::model::{Chosen, Kind, Mode};
use crate::proxy::server_address;
use crate::state::snapshot::{ProxyNode, ServerNode, Snapshot};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What a client of the runtime socket wants; names as it wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    AddServer { backend: String, server: String, args: Vec<String> },
    DelServer { backend: String, server: String },
    RenameServer { backend: String, server: String, name: String },
    Fqdn { backend: String, server: String, name: String },
    AddBackend { name: String, args: Vec<String> },
    DelBackend { name: String },
}

/// What a `wait` is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removable {
    Server { backend: String, server: String },
    Backend(String),
}

/// Why something cannot be removed.
pub enum Refusal {
    /// Waiting would not help.
    Never(String),
    Yet(&'static str),
}

impl Refusal {
    pub fn text(&self) -> &str {
        match self {
            Self::Never(t) => t,
            Self::Yet(t) => t,
        }
    }
}

const POINTED_AT: &str = "This server cannot be removed at runtime due to other configuration elements pointing to it.";
const BACKEND_POINTED_AT: &str =
    "This proxy cannot be removed at runtime due to other configuration elements pointing to it.";

/// What is to be done, and what is said when it is done.
pub fn plan(w: &Wish, s: &Snapshot) -> Result<(Change, String), String> {
    let names = |p: &ProxyNode, n: &ServerNode| (p.conf.name.clone(), n.conf.name.clone());
    Ok(match w {
        Wish::AddServer { backend, server, args } => {
            let p = s.backend_of(backend).ok_or("No such backend.")?;
            let (backend, server) = (p.conf.name.clone(), server.clone());
            let change = Change::AddServer { backend, server, args: args.clone(), number: None };
            let cookie = p.conf.mode == Mode::Tcp && args.iter().any(|a| a == "cookie");
            let note = if cookie { "Ignoring cookie as HTTP mode is disabled.\n" } else { "" };
            (change, format!("{note}New server registered.\n"))
        }
        Wish::DelServer { backend, server } => {
            let (p, n) = find(s, backend, server)?;
            server_removable(s, &p, n).map_err(|r| r.text().to_owned())?;
            let (backend, server) = names(&p, n);
            (Change::DelServer { backend, server }, "Server deleted.\n".into())
        }
        Wish::RenameServer { backend, server, name } => {
            let (p, n) = find(s, backend, server)?;
            if foreign(name).is_some() {
                return Err("Server name contains invalid characters.".into());
            }
            if name.len() > 64 {
                return Err("Server name too long.".into());
            }
            if !n.live.in_maintenance() {
                return Err(format!(
                    "Server must be in maintenance mode to be renamed (set server {}/{} state maint).",
                    p.conf.name, n.conf.name
                ));
            }
            if pointed_at(s, &p, n) {
                return Err(
                    "Cannot rename: server's name is statically referenced (use-server, track, or sample argument)."
                        .into(),
                );
            }
            if p.servers.iter().any(|o| o.sid != n.sid && o.conf.name == *name) {
                return Err("A server with the same name already exists in this backend.".into());
            }
            let (backend, server) = names(&p, n);
            (Change::RenameServer { backend, server, name: name.clone() }, "Server name updated.\n".into())
        }
        Wish::Fqdn { backend, server, name } => {
            let (p, n) = find(s, backend, server)?;
            if n.conf.resolvers.is_none() {
                return Err("set server <b>/<s> fqdn failed because no resolution is configured.".into());
            }
            let old = match &n.conf.host {
                Host::Name(name) => name.as_str(),
                _ => "(null)",
            };
            if old.starts_with('_') {
                return Err("set server <b>/<s> fqdn failed because SRV resolution is configured.".into());
            }
            let by = "by 'stats socket command'";
            if old == name {
                return Err(format!("no need to change the FDQN {by}"));
            }
            if name.is_empty() || name.len() > 253 || name.split('.').any(|l| l.len() > 63) {
                return Err(format!("invalid fqdn '{name}' {by}"));
            }
            let said = format!("{}/{} changed its FQDN from {old} to {name} {by}\n", p.conf.name, n.conf.name);
            let (backend, server) = names(&p, n);
            let ip = server_address(n).map(|a| a.ip());
            (Change::Fqdn { backend, server, name: name.clone(), ip }, said)
        }
        Wish::AddBackend { name, args } => (
            Change::AddBackend { name: name.clone(), args: args.clone(), number: None },
            "New backend registered.\n".into(),
        ),
        Wish::DelBackend { name } => {
            let p = s.backend_of(name).ok_or("No such backend.")?;
            backend_removable(s, p).map_err(|r| r.text().to_owned())?;
            (Change::DelBackend { name: p.conf.name.clone() }, "Backend deleted.\n".into())
        }
    })
}

/// Something in the configuration names it, or asks name servers for it.
fn pointed_at(s: &Snapshot, p: &ProxyNode, n: &ServerNode) -> bool {
    let used = p.conf.use_server.iter().any(|u| matches!(&u.1, Chosen::Name(name) if *name == n.conf.name));
    let tracks = |t: &ServerNode| t.conf.track.as_ref().is_some_and(|k| k.0 == p.conf.name && k.1 == n.conf.name);
    used || n.conf.asked || s.proxies.iter().any(|q| q.servers.iter().any(tracks))
}

fn server_removable(s: &Snapshot, p: &ProxyNode, n: &ServerNode) -> Result<(), Refusal> {
    if pointed_at(s, p, n) || n.conf.resolvers.is_some() {
        return Err(Refusal::Never(POINTED_AT.into()));
    }
    if !n.live.in_maintenance() {
        return Err(Refusal::Never("Only servers in maintenance mode can be deleted.".into()));
    }
    // Idle connections are nobody's: they go with it.
    if n.live.sessions.get() > 0 || n.live.queued.get() > 0 {
        return Err(Refusal::Yet("Server still has connections attached to it, cannot remove it."));
    }
    Ok(())
}

fn backend_removable(s: &Snapshot, p: &ProxyNode) -> Result<(), Refusal> {
    let never = |t: &str| Err(Refusal::Never(t.into()));
    if p.conf.kind == Kind::Listen {
        return never("Cannot delete a listen section.");
    }
    let leads = |q: &Arc<ProxyNode>| {
        q.conf.use_backend.iter().any(|u| matches!(&u.1, Chosen::Name(name) if *name == p.conf.name))
            || q.conf.default_backend.as_ref().is_some_and(|d| d.0 == p.conf.name)
    };
    if s.proxies.iter().any(leads) {
        return never(BACKEND_POINTED_AT);
    }
    if !matches!(p.conf.mode, Mode::Http | Mode::Tcp) {
        return never("Only TCP or HTTP proxies can be removed at runtime.");
    }
    if !p.live.unpublished.load(Relaxed) {
        return never("Backend must be unpublished prior to its deletion.");
    }
    if !p.servers.is_empty() {
        return never("Only a backend without server can be deleted.");
    }
    if p.live.back_sessions.get() > 0 {
        return Err(Refusal::Yet("Backend still has attached streams on it."));
    }
    Ok(())
}

/// Whether what a `wait` is for is so.
pub fn is_removable(r: &Removable, s: &Snapshot) -> Result<(), Refusal> {
    match r {
        Removable::Server { backend, server } => {
            let (p, n) = find(s, backend, server).map_err(Refusal::Never)?;
            server_removable(s, &p, n)
        }
        Removable::Backend(name) => match s.backend_of(name) {
            Some(p) => backend_removable(s, p),
            None => Err(Refusal::Never("No such backend.".into())),
        },
    }
}

/// `publish backend`, `unpublish backend`
pub fn publish(s: &Snapshot, name: &str, yes: bool) -> String {
    let Some(p) = s.backend_of(name) else { return "No such backend.\n".into() };
    if p.conf.disabled {
        return "No effect on a disabled backend.\n".into();
    }
    p.live.unpublished.store(!yes, Relaxed);
    if yes { "Backend published.\n".into() } else { "Backend unpublished.\n".into() }
}

/// Why a change did not come into force, from what was found against it.
pub fn refusal(change: &Change, found: &str) -> String {
    match change {
        Change::DelBackend { .. } => BACKEND_POINTED_AT.to_owned(),
        Change::DelServer { .. } => POINTED_AT.to_owned(),
        // The line that it would be in a file is not what the client wrote.
        Change::AddServer { server, .. } => {
            let line = format!("'server {server}' : ");
            found.strip_prefix(&line).or(found.strip_prefix("'server' : ")).unwrap_or(found).to_owned()
        }
        _ => found.to_owned(),
    }
}

/// What was made keeps its number, whatever goes before it.
pub fn pin(change: &mut Change, s: &Snapshot) {
    match change {
        Change::AddServer { backend, server, number, .. } => {
            let its = s.backend(backend).and_then(|p| p.servers.iter().find(|n| n.conf.name == *server));
            *number = its.map(|n| n.sid);
        }
        Change::AddBackend { name, number, .. } => *number = s.backend(name).map(|p| p.iid),
        _ => {}
    }
}
