//! Names of servers at run time (configuration manual 5.3): one task for each name of a `resolvers` section, on the worker's control thread.
use super::names::{Place, assign, weight_of};
use super::verdict::Office;
use crate::base::addr::{Host, IpNet};
use crate::config::model::{PortRule, Resolvers};
use crate::net::dns::{self, Failure, Kind};
use crate::state::live::{Live, RESOLUTION_MAINT, lock};
use crate::state::names::{NameServer, Tally};
use crate::state::snapshot::{ProxyNode, ServerNode, Snapshot};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

/// The running resolutions of one snapshot; dropping it ends them.
pub struct Resolutions(Vec<JoinHandle<()>>);

impl Drop for Resolutions {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Servers of one backend that share a name.
struct Group {
    backend: Arc<ProxyNode>,
    servers: Vec<usize>,
    /// Since when each server's place is no longer one.
    lost: Vec<Option<Instant>>,
}

/// Starts to follow every name that servers have with `resolvers`.
pub fn start(snapshot: &Arc<Snapshot>, live: &Arc<Live>) -> Resolutions {
    let mut names: BTreeMap<(String, String), Vec<Group>> = BTreeMap::new();
    for p in snapshot.proxies.iter().filter(|p| p.conf.is_backend() && !p.conf.disabled) {
        let mut own: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
        for (i, s) in p.servers.iter().enumerate() {
            if let (Some(r), Host::Name(n)) = (&s.conf.resolvers, &s.conf.host) {
                own.entry((r.clone(), n.clone())).or_default().push(i);
            }
        }
        for (key, servers) in own {
            let lost = vec![None; servers.len()];
            names.entry(key).or_default().push(Group { backend: p.clone(), servers, lost });
        }
    }
    let tasks = names.into_iter().filter_map(|((section, name), groups)| {
        let r = snapshot.resolvers.iter().find(|r| r.name == section)?.clone();
        let tallies = r.servers.iter().map(|s| live.name_server(&r.name, &s.0)).collect();
        let (snapshot, live) = (snapshot.clone(), live.clone());
        Some(tokio::task::spawn_local(follow(Section { r, tallies }, name, groups, snapshot, live)))
    });
    Resolutions(tasks.collect())
}

/// A `resolvers` section, and what becomes of the questions to each of its name servers.
struct Section {
    r: Resolvers,
    tallies: Vec<Arc<NameServer>>,
}

impl std::ops::Deref for Section {
    type Target = Resolvers;
    fn deref(&self) -> &Resolvers {
        &self.r
    }
}

impl Section {
    fn count(&self, server: &str, t: Tally) {
        if let Some(i) = self.servers.iter().position(|s| s.0 == server) {
            self.tallies[i].count(t);
        }
    }
}

async fn follow(r: Section, name: String, mut groups: Vec<Group>, snapshot: Arc<Snapshot>, live: Arc<Live>) {
    let mut last_good = Instant::now();
    loop {
        // Sections may be shared by servers with other wishes; the first one's preference is asked for first.
        let first = &groups[0].backend.servers[groups[0].servers[0]].conf;
        let (answer, by) = places(&r, &name, first.prefer_ipv4).await;
        let wait = match answer {
            Ok(found) => {
                last_good = Instant::now();
                groups.iter_mut().for_each(|g| settle(g, &found, &r, &by, &snapshot, &live));
                r.hold_valid
            }
            Err(why) => {
                let (hold, text) = match why {
                    Failure::NoSuchName => (r.hold_nx, "DNS NX status"),
                    Failure::Refused => (r.hold_refused, "DNS refused status"),
                    Failure::Timeout => (r.hold_timeout, "DNS timeout status"),
                    Failure::Other => (r.hold_other, "unspecified DNS error"),
                };
                if last_good.elapsed() >= hold {
                    for g in &groups {
                        g.servers.iter().for_each(|i| lose(&g.backend, *i, text, &snapshot, &live));
                    }
                }
                r.timeout_resolve
            }
        };
        tokio::time::sleep(wait.max(Duration::from_millis(10))).await;
    }
}

/// Gives the servers of a group their places.
fn settle(g: &mut Group, found: &[Place], r: &Section, by: &str, snapshot: &Snapshot, live: &Live) {
    let held: Vec<_> = g.servers.iter().map(|i| address(&g.backend.servers[*i])).collect();
    let found = &preferred(found, &g.backend.servers[g.servers[0]].conf.resolve_nets, g.servers.len());
    let shared = g.servers.iter().any(|i| g.backend.servers[*i].conf.dup_ip);
    for ((i, new), lost) in g.servers.iter().zip(assign(&held, found, shared)).zip(&mut g.lost) {
        let s = &g.backend.servers[*i];
        let Some(new) = new else {
            // What it has may come back: `hold obsolete`.
            if lost.get_or_insert_with(Instant::now).elapsed() >= r.hold_obsolete {
                lose(&g.backend, *i, "No IP for server", snapshot, live);
            }
            continue;
        };
        *lost = None;
        let port = new.port.or(match s.conf.port {
            PortRule::Fixed(p) => Some(p),
            _ => None,
        });
        let old = address(s);
        let mut changed = false;
        if old.map(|o| o.0) != Some(new.ip) || new.port.is_some() && old.and_then(|o| o.1) != port {
            s.live.move_to(new.ip, port);
            r.count(by, Tally::Update);
            changed = true;
            let from = old.map_or_else(|| "(none)".to_owned(), |o| o.0.to_string());
            let text = format!(
                "{}/{} changed its IP from {from} to {} by {}/{by}.",
                g.backend.conf.name, s.conf.name, new.ip, r.name
            );
            say(&g.backend, crate::log::NOTICE, &text, snapshot, live);
        }
        if let Some(w) = new.weight.filter(|w| !s.conf.ignore_weight && *w != s.live.weight()) {
            s.live.set_weight(w);
            changed = true;
        }
        if s.live.set_admin(RESOLUTION_MAINT, false) {
            changed = true;
            let text = format!(
                "Server {}/{} ('{}') is {}/READY (resolves again).",
                g.backend.conf.name,
                s.conf.name,
                match &s.conf.host {
                    Host::Name(n) => n,
                    _ => "",
                },
                if s.live.is_up() { "UP" } else { "DOWN" }
            );
            say(&g.backend, crate::log::NOTICE, &text, snapshot, live);
        }
        if changed {
            Office { snapshot, live }.follow(&g.backend, s);
            g.backend.live.bump();
            g.backend.live.wake(None);
        }
    }
}

/// Places in the networks that are preferred (`resolve-net`): first, and alone if they are enough for all.
fn preferred(found: &[Place], nets: &[IpNet], wanted: usize) -> Vec<Place> {
    let (mut near, far): (Vec<Place>, Vec<Place>) =
        found.iter().cloned().partition(|p| nets.iter().any(|n| n.contains(p.ip)));
    if near.len() < wanted {
        near.extend(far);
    }
    near
}

/// A server without an address is in maintenance until it has one.
fn lose(p: &ProxyNode, i: usize, why: &str, snapshot: &Snapshot, live: &Live) {
    let s = &p.servers[i];
    if !s.live.set_admin(RESOLUTION_MAINT, true) {
        return;
    }
    Office { snapshot, live }.follow(p, s);
    p.live.bump();
    p.live.wake(None);
    let up =
        |backup: bool| p.servers.iter().filter(|s| s.conf.backup == backup && s.live.effective_weight() > 0).count();
    let text = format!(
        "Server {}/{} is going DOWN for maintenance ({why}). {} active and {} backup servers left. {} sessions active, 0 requeued, {} remaining in queue.",
        p.conf.name,
        s.conf.name,
        up(false),
        up(true),
        s.live.sessions.get(),
        s.live.queued.get()
    );
    say(p, crate::log::ALERT, &text, snapshot, live);
}

fn say(p: &ProxyNode, severity: u8, text: &str, snapshot: &Snapshot, live: &Live) {
    p.note(severity, text, live);
    if let Some(c) = &snapshot.sinks.console {
        c.warning(text);
    }
}

/// Where a server is now, if anywhere; the port if it does not depend on the client.
fn address(s: &ServerNode) -> Option<(IpAddr, Option<u16>)> {
    let fixed = match s.conf.port {
        PortRule::Fixed(p) => Some(p),
        _ => None,
    };
    (*lock(&s.live.addr)).or(s.conf.ip.map(|ip| (ip, fixed)))
}

/// All places of a name, and the name server that knew them.
async fn places(r: &Section, name: &str, prefer_ipv4: bool) -> (Result<Vec<Place>, Failure>, String) {
    if !name.starts_with('_') {
        let (found, by) = addresses(r, name, prefer_ipv4).await;
        return (found.map(|v| v.into_iter().map(|ip| Place { ip, port: None, weight: None }).collect()), by);
    }
    let (answer, by) = ask(r, name, Kind::Service).await;
    let answer = match answer {
        Ok(a) => a,
        Err(e) => return (Err(e), by),
    };
    let mut out = Vec::new();
    for srv in &answer.services {
        // What came along saves a question.
        let mut ips: Vec<IpAddr> = answer.addresses_of(&srv.target).collect();
        if ips.is_empty() {
            ips = addresses(r, &srv.target, prefer_ipv4).await.0.unwrap_or_default();
        }
        if let Some(ip) = ips.first() {
            out.push(Place { ip: *ip, port: Some(srv.port), weight: Some(weight_of(srv.weight)) });
        }
    }
    (Ok(out), by)
}

/// Addresses of one family, the preferred one if there are any.
async fn addresses(r: &Section, name: &str, prefer_ipv4: bool) -> (Result<Vec<IpAddr>, Failure>, String) {
    let order = if prefer_ipv4 { [Kind::V4, Kind::V6] } else { [Kind::V6, Kind::V4] };
    let mut last = (Err(Failure::Other), String::new());
    for kind in order {
        let (answer, by) = ask(r, name, kind).await;
        match answer {
            Ok(a) if !a.addresses.is_empty() => return (Ok(a.addresses), by),
            // A name without addresses is as good as none.
            Ok(_) => last = (Err(Failure::NoSuchName), by),
            Err(Failure::NoSuchName) => last = (Err(Failure::NoSuchName), by),
            // Who did not answer has not said that there is none of this family.
            Err(e) => return (Err(e), by),
        }
    }
    last
}

/// Asks all name servers at once, as often as `resolve_retries` says; the first usable answer counts.
async fn ask(r: &Section, name: &str, kind: Kind) -> (Result<dns::Answer, Failure>, String) {
    let mut worst = (Err(Failure::Timeout), String::new());
    for _ in 0..r.retries.max(1) {
        let mut round = tokio::task::JoinSet::new();
        let mut open: Vec<bool> = vec![true; r.servers.len()];
        for (i, (_, addr, tcp)) in r.servers.clone().into_iter().enumerate() {
            let (name, payload, tally) = (name.to_owned(), r.payload, r.tallies[i].clone());
            round.spawn_local(async move { (query(&name, kind, addr, tcp, payload, &tally).await, i) });
        }
        let end = tokio::time::Instant::now() + r.timeout_retry;
        loop {
            match tokio::time::timeout_at(end, round.join_next()).await {
                Ok(Some(Ok((said, i)))) => {
                    open[i] = false;
                    let who = r.servers[i].0.clone();
                    match said {
                        // That a name is not there is an answer, too.
                        Ok(_) | Err(Failure::NoSuchName) => return (said, who),
                        Err(e) => worst = (Err(e), who),
                    }
                }
                Ok(Some(Err(_))) => {}
                // All have failed: the next try comes when it is due.
                Ok(None) => {
                    tokio::time::sleep_until(end).await;
                    break;
                }
                Err(_) => {
                    r.tallies.iter().zip(&open).filter(|(_, o)| **o).for_each(|(t, _)| t.count(Tally::Timeout));
                    break;
                }
            }
        }
    }
    worst
}

/// One question to one name server, over TCP if the answer does not fit (RFC 7766).
async fn query(
    name: &str,
    kind: Kind,
    server: SocketAddr,
    tcp: bool,
    payload: u16,
    tally: &NameServer,
) -> Result<dns::Answer, Failure> {
    let (id, question) = dns::question(name, kind, payload).ok_or(Failure::Other)?;
    let failed = |_| Failure::Other;
    if !tcp {
        let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = tokio::net::UdpSocket::bind(any).await.map_err(failed)?;
        socket.connect(server).await.map_err(failed)?;
        if socket.send(&question).await.is_err() {
            tally.count(Tally::SendError);
            return Err(Failure::Other);
        }
        tally.count(Tally::Sent);
        let mut buf = vec![0u8; usize::from(payload.max(512))];
        loop {
            let n = socket.recv(&mut buf).await.map_err(failed)?;
            match dns::answer(&buf[..n], id, name, kind) {
                // Not what was asked for: the real one may still come.
                None => tally.count(Tally::Invalid),
                Some(Ok(a)) if a.truncated => {
                    tally.count(Tally::Truncated);
                    break;
                }
                Some(other) => return counted(other, tally),
            }
        }
    }
    let mut s = tokio::net::TcpStream::connect(server).await.map_err(failed)?;
    let mut out = u16::try_from(question.len()).map_err(|_| Failure::Other)?.to_be_bytes().to_vec();
    out.extend_from_slice(&question);
    s.write_all(&out).await.map_err(failed)?;
    tally.count(Tally::Sent);
    let len = s.read_u16().await.map_err(failed)?;
    let mut buf = vec![0u8; usize::from(len)];
    s.read_exact(&mut buf).await.map_err(failed)?;
    match dns::answer(&buf, id, name, kind) {
        Some(said) => counted(said, tally),
        None => {
            tally.count(Tally::Invalid);
            Err(Failure::Other)
        }
    }
}

/// What a name server said, in its tallies.
fn counted(said: Result<dns::Answer, Failure>, tally: &NameServer) -> Result<dns::Answer, Failure> {
    tally.count(match &said {
        Ok(_) => Tally::Valid,
        Err(Failure::NoSuchName) => Tally::NoSuchName,
        Err(Failure::Refused) => Tally::Refused,
        Err(Failure::Timeout) => Tally::Timeout,
        Err(Failure::Other) => Tally::Other,
    });
    said
}
