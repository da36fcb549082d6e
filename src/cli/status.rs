//! `tandem status -f haproxy.cfg [-k keepalived.conf] [--peer <address>[:<port>]]`: what the process that runs says of its virtual routers and its
//! proxies, and what the one on the other node says.
use super::haproxy;
use crate::base::addr::ListenAddr;
use crate::config::load::load;
use crate::process::loader;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A process that does not answer within this is not asked any longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// An answer is not longer.
const LONGEST: u64 = 64 << 20;

pub fn run(args: &[String]) -> i32 {
    match status(args) {
        Ok(text) => {
            print!("{text}");
            0
        }
        Err(e) => {
            eprintln!("tandem status: {e}");
            1
        }
    }
}

fn status(args: &[String]) -> Result<String, String> {
    let (named, args) = peers_named(args)?;
    let wanted = haproxy::load_args(&args)?;
    if wanted.haproxy.is_empty() {
        return Err("give the file with -f, so that its 'stats socket' is known".to_owned());
    }
    let mut l = loader::run(&wanted, false);
    let (model, _) = load(&mut l.recorded, &wanted);
    let sockets: Vec<Door> = model.global.stats_sockets.iter().filter_map(|s| Door::here(&s.addr)).collect();
    let mut why = "no 'stats socket' with a path or a port is configured; add one to 'global'".to_owned();
    for door in &sockets {
        match view(door) {
            Ok(text) => {
                let unicast = model.vrrp.instances.iter().flat_map(|i| i.peers.iter().map(|p| p.addr));
                let known = unicast.chain(senders(&text));
                return Ok(format!("{text}{}", others(&others_doors(&named, known, &sockets))));
            }
            Err(e) => why = format!("nobody answers on {door}: {e}"),
        }
    }
    Err(why)
}

/// `--peer <address>[:<port>]`, and the arguments without it.
fn peers_named(args: &[String]) -> Result<(Vec<String>, Vec<String>), String> {
    let (mut named, mut rest) = (Vec::new(), Vec::new());
    let mut all = args.iter();
    while let Some(a) = all.next() {
        if a == "--peer" {
            named.push(all.next().ok_or("--peer expects the other node's address, with a port if need be")?.clone());
        } else {
            rest.push(a.clone());
        }
    }
    Ok((named, rest))
}

/// Where a process is asked.
#[derive(Clone, Debug, PartialEq)]
enum Door {
    Path(String),
    Port(SocketAddr),
}

impl Door {
    /// A `stats socket` of this host; what listens everywhere is asked on the loopback address.
    fn here(a: &ListenAddr) -> Option<Self> {
        match a {
            ListenAddr::Unix(path) => Some(Self::Path(path.clone())),
            ListenAddr::Inet { addr, port, .. } => {
                let ip = match addr {
                    IpAddr::V4(a) if a.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                    IpAddr::V6(a) if a.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                    ip => *ip,
                };
                Some(Self::Port(SocketAddr::new(ip, *port)))
            }
            _ => None,
        }
    }

    fn ask(&self, line: &str) -> std::io::Result<String> {
        match self {
            Self::Path(p) => {
                let s = UnixStream::connect(p)?;
                s.set_read_timeout(Some(PATIENCE))?;
                talk(s, line)
            }
            Self::Port(a) => {
                let s = TcpStream::connect_timeout(a, PATIENCE)?;
                s.set_read_timeout(Some(PATIENCE))?;
                talk(s, line)
            }
        }
    }
}

impl std::fmt::Display for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(p) => f.write_str(p),
            Self::Port(a) => a.fmt(f),
        }
    }
}

fn talk(mut s: impl Read + Write, line: &str) -> std::io::Result<String> {
    s.write_all(format!("{line}\n").as_bytes())?;
    let mut out = String::new();
    s.take(LONGEST).read_to_string(&mut out)?;
    Ok(out)
}

fn view(door: &Door) -> std::io::Result<String> {
    let routers = door.ask("show vrrp explain")?;
    Ok(format!("{routers}{}", proxies(&door.ask("show stat")?)))
}

/// Nodes whose adverts were heard.
fn senders(explained: &str) -> impl Iterator<Item = IpAddr> {
    let lines = explained.lines().filter(|l| l.trim_start().starts_with("last advert"));
    let all = lines.filter_map(|l| l.split(" from ").nth(1)?.split(' ').next()?.parse().ok());
    // Which interface it is on is not said of a link-local one.
    all.filter(|ip| !matches!(ip, IpAddr::V6(a) if a.is_unicast_link_local()))
}

/// Where the other nodes are asked: both have the same file as a rule, and so the same port.
fn others_doors(
    named: &[String],
    known: impl Iterator<Item = IpAddr>,
    sockets: &[Door],
) -> Vec<(String, Option<Door>)> {
    let port = sockets.iter().find_map(|d| match d {
        Door::Port(a) => Some(a.port()),
        Door::Path(_) => None,
    });
    let mut out: Vec<(String, Option<Door>)> = Vec::new();
    let of = |text: &str| {
        let with_port = text.parse().ok();
        let alone = || Some(SocketAddr::new(text.parse().ok()?, port?));
        with_port.or_else(alone).map(Door::Port)
    };
    for name in named.iter().cloned().chain(known.map(|ip| ip.to_string()).filter(|_| named.is_empty())) {
        let door = of(&name);
        if !out.iter().any(|o| o.0 == name) {
            out.push((name, door));
        }
    }
    out
}

/// What the other nodes say of themselves.
fn others(doors: &[(String, Option<Door>)]) -> String {
    let mut out = String::new();
    for (name, door) in doors {
        let said = match door {
            Some(d) => view(d).unwrap_or_else(|e| format!("nobody answers on {d}: {e}\n")),
            None => "it cannot be asked: no 'stats socket' with a port is configured; give --peer <address>:<port>, or add 'stats socket ipv4@<address>:<port> level user' to both nodes\n".to_owned(),
        };
        out.push_str(&format!("\n--- the other node, {name}\n{said}"));
    }
    out
}

/// A line for each frontend and each backend, from the statistics in HAProxy's form.
fn proxies(csv: &str) -> String {
    let mut lines = csv.lines();
    let head: Vec<&str> = lines.next().unwrap_or_default().trim_start_matches("# ").split(',').collect();
    let at = |name: &str| head.iter().position(|h| *h == name);
    let (Some(name), Some(kind), Some(state), Some(now)) = (at("pxname"), at("svname"), at("status"), at("scur"))
    else {
        return String::new();
    };
    let mut servers: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    let rows: Vec<Vec<&str>> = lines.map(|l| l.split(',').collect()).collect();
    let cell = |r: &Vec<&str>, i: usize| r.get(i).map_or_else(String::new, |c| (*c).to_owned());
    for r in &rows {
        let Some(proxy) = r.get(name) else { continue };
        if !matches!(r.get(kind).copied(), Some("FRONTEND" | "BACKEND") | None) {
            let s = servers.entry(proxy).or_default();
            s.1 += 1;
            s.0 += u32::from(r.get(state).is_some_and(|s| s.starts_with("UP") || s.starts_with("no check")));
        }
    }
    let mut out = String::new();
    for r in &rows {
        let what = cell(r, kind);
        let (proxy, state, sessions) = (cell(r, name), cell(r, state), cell(r, now));
        match what.as_str() {
            "FRONTEND" => out.push_str(&format!("frontend {proxy}: {state}, {sessions} sessions\n")),
            "BACKEND" => {
                let (up, all) = servers.get(proxy.as_str()).copied().unwrap_or_default();
                out.push_str(&format!("backend {proxy}: {state}, {up} of {all} servers up, {sessions} sessions\n"));
            }
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_node_is_asked_where_this_one_listens() {
        let port = |text: &str| Door::Port(text.parse().unwrap());
        let sockets = [Door::Path("/run/x".into()), port("127.0.0.1:9999")];
        let heard = "v\n  last advert 0.010 s ago from 10.0.0.2 with priority 100; adverts were up to 0.1 ms off their time\nw\n  last advert none was heard\n";
        let known = || senders(heard).chain(["10.0.0.2".parse().unwrap()]);
        assert_eq!(others_doors(&[], known(), &sockets), [("10.0.0.2".into(), Some(port("10.0.0.2:9999")))]);
        assert_eq!(others_doors(&[], known(), &sockets[..1]), [("10.0.0.2".into(), None)]);
        let named = ["10.0.0.3:7".to_owned()];
        assert_eq!(others_doors(&named, known(), &sockets), [("10.0.0.3:7".into(), Some(port("10.0.0.3:7")))]);
        let here = ListenAddr::Inet { addr: Ipv4Addr::UNSPECIFIED.into(), port: 5, v4v6: false, device: None };
        assert_eq!(Door::here(&here), Some(port("127.0.0.1:5")));
    }

    #[test]
    fn a_line_for_each_side() {
        let csv = "# pxname,svname,qcur,scur,status,\nf,FRONTEND,,3,OPEN,\nb,s1,0,1,UP,\nb,s2,0,0,DOWN 1/2,\nb,BACKEND,0,1,UP,\n";
        assert_eq!(proxies(csv), "frontend f: OPEN, 3 sessions\nbackend b: UP, 1 of 2 servers up, 1 sessions\n");
        assert_eq!(proxies(""), "");
    }
}
