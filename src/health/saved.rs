//! What a state file said of servers becomes what they are (`load-server-state-from-file`): once, before anything is served.
use super::found::{Found, Outcome, numbered};
use super::verdict::Office;
use crate::config::model::{Saved, SavedState};
use crate::state::live::{CheckResult, FORCED_DRAIN, FORCED_MAINT, lock};
use crate::state::snapshot::{ProxyNode, ServerNode};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the log says of a server whose state is another than the configuration alone would make it.
const WHY: &str = ", changed from server-state after a reload";

/// All servers that a state file knows.
pub fn take_over(office: &Office<'_>) {
    for p in &office.snapshot.proxies {
        for s in &p.servers {
            if let Some(saved) = &s.conf.saved {
                one(office, p, s, saved);
            }
        }
    }
}

fn one(office: &Office<'_>, p: &Arc<ProxyNode>, s: &ServerNode, saved: &Saved) {
    let l = &s.live;
    if let Some(f) = saved.forced {
        l.set_admin(FORCED_MAINT, f.maintenance);
        l.set_admin(FORCED_DRAIN, f.drain);
    }
    if let Some(w) = saved.weight {
        l.set_weight(w);
    }
    // An unspecified address stands for the one that the client asked for.
    if let (Some(port), Some(ip)) = (saved.port, s.conf.ip.filter(|ip| !ip.is_unspecified())) {
        l.move_to(ip, Some(port));
    }
    if s.conf.check {
        l.check_enabled.store(saved.check_enabled.unwrap_or(true), Relaxed);
        place(&l.check_addr, &l.check_port, saved.check_addr, saved.check_port);
        // Before the first check ends nothing else is known.
        let found = numbered(saved.status).map(Found::bare).filter(|f| f.outcome() != Outcome::Neutral);
        *lock(&l.check) = found.map(|found| CheckResult { found, took: Duration::ZERO });
    }
    if s.conf.agent.wanted {
        l.agent.enabled.store(saved.agent_enabled.unwrap_or(true), Relaxed);
        place(&l.agent.addr, &l.agent.port, saved.agent_addr, saved.agent_port);
    }
    // Who tracks another has that one's state, and who is in maintenance none.
    if s.conf.track.is_none() && !l.in_maintenance() {
        match saved.state {
            Some(SavedState::Stopped) => {
                l.force_health(false, false);
                office.down(p, s, WHY);
            }
            Some(SavedState::Stopping) => {
                l.force_health(true, false);
                office.stopping(p, s, WHY);
            }
            Some(SavedState::Starting) => {
                l.force_health(true, false);
                office.up(p, s, "");
                l.warm_up();
            }
            Some(SavedState::Running) => {
                l.force_health(true, false);
                office.up(p, s, "");
            }
            None => {}
        }
    }
    if saved.state != Some(SavedState::Starting) {
        l.changed_before(saved.since);
    }
    p.live.bump();
    office.follow(p, s);
}

/// As an operator's command would.
fn place(addr: &Mutex<Option<IpAddr>>, port: &AtomicU32, a: Option<IpAddr>, n: Option<u16>) {
    if a.is_some() {
        *lock(addr) = a;
    }
    if let Some(n) = n {
        port.store(n.into(), Relaxed);
    }
}
