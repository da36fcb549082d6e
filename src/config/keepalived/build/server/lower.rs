//! A virtual server as a section of the proxy.
use super::{Real, Schedule, Virtual, spell};
use crate::balance::Algorithm;
use crate::balance::hash::HashType;
use crate::base::addr::{Host, ListenAddr};
use crate::config::model::{
    Bind, HashKey, Kind, Mode, PortRule, Probe, Proxy, Server, ServerScripts, ServerTls, SocketOptions, VirtualServer,
    VrrpModel,
};
use crate::health::fsm::InitState;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What the kernel's IPVS gives connections without traffic: of TCP, behind a FIN, and of UDP.
const TCP_IDLE: Duration = Duration::from_secs(900);
const TCP_FIN: Duration = Duration::from_secs(120);
const UDP_IDLE: Duration = Duration::from_secs(300);
/// How long a connection to a real server may take.
const CONNECT: Duration = Duration::from_secs(5);

pub(super) fn section(v: Virtual, m: &mut VrrpModel) -> Proxy {
    let mut p = Proxy::new(v.place.clone(), &v.name, Kind::Listen);
    p.mode = if v.udp { Mode::Udp } else { Mode::Tcp };
    p.mode_said = true;
    p.log_global = true;
    let idle = Some(if v.udp { UDP_IDLE } else { TCP_IDLE });
    (p.timeouts.client, p.timeouts.server, p.timeouts.connect) = (idle, idle, Some(CONNECT));
    (p.timeouts.client_fin, p.timeouts.server_fin) = (Some(TCP_FIN), Some(TCP_FIN));
    p.options.redispatch = Some(1);
    p.binds = v.listens.iter().map(|l| bind(&v, *l)).collect();
    balance(&mut p, &v);
    p.servers = v.reals.iter().map(|r| server(r, &v)).collect();
    if matches!(v.schedule, Schedule::Fo | Schedule::Ovf) {
        // The heaviest that is there has all, or all that it can take.
        p.servers.sort_by_key(|s| std::cmp::Reverse(s.weight));
    }
    if let Some((ip, port)) = v.sorry {
        let mut s = plain(ip, port);
        s.place = v.place.clone();
        s.name = format!("sorry@{}", s.name);
        s.backup = true;
        s.shutdown_on_down = !v.sorry_inhibit;
        p.servers.push(s);
    }
    p.virtual_server = Some(Arc::new(VirtualServer {
        persistence: v.persistence,
        quorum: v.quorum,
        hysteresis: v.hysteresis,
        one_packet: v.one_packet,
        level: matches!(v.schedule, Schedule::Rr | Schedule::Lc),
    }));
    m.told.push(ServerScripts {
        section: v.name.clone(),
        server: None,
        up: v.quorum_up,
        down: v.quorum_down,
        omega: v.omega,
        mail: v.mail,
        begins: None,
    });
    for r in v.reals {
        m.pings |= r.checkers.iter().any(|c| matches!(c.probe, Probe::Ping));
        m.told.push(ServerScripts {
            section: v.name.clone(),
            server: Some(spell(r.addr, r.port)),
            up: r.up,
            down: r.down,
            omega: v.omega,
            mail: r.mail,
            begins: Some(!r.alpha || r.checkers.is_empty()),
        });
        m.checks.extend(r.own.checks);
        m.facts.extend(r.own.facts);
    }
    p
}

fn bind(v: &Virtual, (addr, port): (IpAddr, u16)) -> Bind {
    Bind {
        place: v.place.clone(),
        addr: ListenAddr::Inet { addr, port, v4v6: false, device: None },
        id: None,
        name: None,
        maxconn: 0,
        backlog: None,
        datagram: v.udp,
        accept_proxy: false,
        accept_cip: None,
        tls: None,
        mode: None,
        user: None,
        group: None,
        options: SocketOptions::default(),
        guid: None,
        never_http: true,
    }
}

fn plain(ip: IpAddr, port: u16) -> Server {
    Server { name: spell(ip, port), host: Host::Ip(ip), ip: Some(ip), port: PortRule::Fixed(port), ..Server::default() }
}

fn server(r: &Real, v: &Virtual) -> Server {
    let mut s = plain(r.addr, r.port);
    s.place = r.place.clone();
    s.weight = r.weight;
    s.maxconn = match v.schedule {
        // It flows over where a server has as many connections as it weighs.
        Schedule::Ovf if r.most == 0 => r.weight,
        _ => r.most,
    };
    s.check = !r.checkers.is_empty();
    s.init_state = (s.check && r.alpha).then_some(InitState::FullyDown);
    s.health = crate::health::fsm::Params { rise: 1, fall: 1 };
    // What is taken out of IPVS's table has its connections cut; what weighs nothing there keeps them.
    s.shutdown_on_down = !r.inhibit;
    if r.checkers.iter().any(|c| matches!(&c.probe, Probe::Http(h) if h.tls)) {
        s.tls = Some(ServerTls::unverified());
    }
    s.inter = r.checkers.iter().map(|c| c.every).min().unwrap_or(s.inter);
    s.checkers = r.checkers.clone().into();
    s
}

/// `lvs_sched` in the terms of `balance`.
fn balance(p: &mut Proxy, v: &Virtual) {
    let source = if v.with_port { HashKey::SourcePort } else { HashKey::Source };
    let (algorithm, key, consistent) = match v.schedule {
        Schedule::Rr | Schedule::Wrr => (Algorithm::RoundRobin, None, false),
        Schedule::Lc | Schedule::Wlc => (Algorithm::LeastConn, None, false),
        Schedule::Sed => (Algorithm::ShortestDelay, None, false),
        Schedule::Nq => (Algorithm::NeverQueue, None, false),
        Schedule::Sh => (Algorithm::Source, Some(source), false),
        Schedule::Mh => (Algorithm::Source, Some(source), true),
        Schedule::Dh => (Algorithm::Hash, Some(HashKey::Destination), false),
        Schedule::Lblc => (Algorithm::Hash, Some(HashKey::Destination), true),
        Schedule::Fo | Schedule::Ovf => (Algorithm::First, None, false),
        Schedule::Twos => (Algorithm::Random(Algorithm::DRAWS), None, false),
    };
    p.balance = Some(algorithm);
    if let Some(k) = key {
        p.hash_key = k;
    }
    p.hash_type = HashType { consistent, ..HashType::default() };
}
