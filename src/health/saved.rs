//! What a state file said of servers becomes what they are (`load-server-state-from-file`): once, before anything is served.
use super::found::{Found, Outcome, numbered};
use super::verdict::Office;
use crate::config::model::{Saved, SavedState};
use crate::state::live::{CheckResult, FORCED_DRAIN, FORCED_MAINT, lock};
use crate::state::snapshot::{ProxyNode, ServerNode};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
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
    if s.conf.check {
        l.check_enabled.store(saved.check_enabled, Relaxed);
        if let Some(a) = saved.check_addr {
            *lock(&l.check_addr) = Some(a);
        }
        if let Some(n) = saved.check_port {
            l.check_port.store(n.into(), Relaxed);
        }
        // Before the first check ends nothing else is known.
        let found = numbered(saved.status).map(Found::bare).filter(|f| f.outcome() != Outcome::Neutral);
        *lock(&l.check) = found.map(|found| CheckResult { found, took: Duration::ZERO });
    }
    if s.conf.agent.wanted {
        l.agent.enabled.store(saved.agent_enabled, Relaxed);
        if let Some(a) = saved.agent_addr {
            *lock(&l.agent.addr) = Some(a);
        }
        if let Some(n) = saved.agent_port {
            l.agent.port.store(n.into(), Relaxed);
        }
    }
    // Who tracks another has that one's state, and who is in maintenance none.
    if s.conf.track.is_none() && !l.in_maintenance() {
        match saved.state {
            SavedState::Stopped => {
                l.force_health(false, false);
                office.down(p, s, WHY);
            }
            SavedState::Stopping => {
                l.force_health(true, false);
                office.stopping(p, s, WHY);
            }
            SavedState::Starting => l.warm_up(),
            SavedState::Running => l.force_health(true, false),
        }
    }
    l.changed_before(saved.since);
    p.live.bump();
    office.follow(p, s);
}
