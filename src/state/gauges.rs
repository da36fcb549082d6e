//! The numbers of proxies and servers that rules ask about.
use super::live::ServerLive;
use super::snapshot::{ProxyNode, ServerNode};
use crate::rules::gauge::{Gauge, Subject};
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::Ordering::Relaxed;

fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// What is free of a server's limit, -1 without one.
fn free(p: &ProxyNode, s: &ServerNode) -> i64 {
    match p.limit(s) {
        0 => -1,
        most => int(most.saturating_sub(s.live.sessions.get())),
    }
}

fn of_server(what: Gauge, p: &ProxyNode, s: &ServerNode) -> i64 {
    let l: &ServerLive = &s.live;
    match what {
        Gauge::SrvConn => int(l.sessions.get()),
        Gauge::SrvConnFree => free(p, s),
        Gauge::SrvIsUp => i64::from(l.is_up() && !l.in_maintenance()),
        Gauge::SrvIweight => i64::from(s.conf.weight),
        Gauge::SrvQueue => int(l.queued.get()),
        Gauge::SrvSessRate => int(l.rate.get()),
        Gauge::SrvUweight => i64::from(l.weight()),
        _ => i64::from(l.effective_weight()) * i64::from(l.warmth()) / 100,
    }
}

fn of_proxy(what: Gauge, p: &ProxyNode) -> i64 {
    let running = || p.servers.iter().filter(|s| s.live.is_up() && !s.live.in_maintenance());
    let waiting = || int(p.live.queued.get());
    match what {
        Gauge::FeConn => int(p.live.front_conns.get()),
        Gauge::FeReqRate => int(p.live.req_rate.get()),
        Gauge::FeSessRate => int(p.live.front_rate.get()),
        Gauge::BeConn => int(p.live.back_sessions.get()),
        Gauge::BeSessRate => int(p.live.back_rate.get()),
        Gauge::Queue => waiting(),
        Gauge::AvgQueue => match int(p.usable_servers() as u64) {
            0 => waiting() * 2,
            n => (waiting() + n - 1) / n,
        },
        Gauge::BeConnFree => {
            // Of those that may get traffic now.
            let mut sum = Some(0);
            p.candidates(|_, s| {
                sum = match (sum, free(p, s)) {
                    (Some(sum), n @ 0..) => Some(sum + n),
                    _ => None,
                };
            });
            sum.unwrap_or(-1)
        }
        Gauge::ConnSlots => {
            let mut sum = 0;
            for s in running() {
                let max = i64::from(s.live.maxconn.load(Relaxed));
                if max == 0 || s.conf.maxqueue == 0 {
                    return -1;
                }
                sum += (max - int(s.live.sessions.get())) + (i64::from(s.conf.maxqueue) - int(s.live.queued.get()));
            }
            sum.max(0)
        }
        _ => int(p.usable_servers() as u64),
    }
}

/// The number of a proxy or server that is named, or of `fe` and `be`.
pub fn gauge(
    what: Gauge,
    fe: Option<&ProxyNode>,
    be: &ProxyNode,
    proxy: Option<&str>,
    server: Option<&str>,
) -> Option<i64> {
    let named = &be.routes().named;
    let found: Option<Arc<ProxyNode>> = match (what.subject(), proxy) {
        (_, None) => None,
        (Subject::Frontend, Some(n)) => Some(named.frontends.get(n).and_then(Weak::upgrade)?),
        (_, Some(n)) => Some(named.backends.get(n).and_then(Weak::upgrade)?),
    };
    let p = match (&found, what.subject()) {
        (Some(p), _) => p,
        (None, Subject::Frontend) => fe?,
        (None, _) => be,
    };
    match server {
        None => Some(of_proxy(what, p)),
        Some(n) => Some(of_server(what, p, p.servers.iter().find(|s| s.conf.name == n)?)),
    }
}
