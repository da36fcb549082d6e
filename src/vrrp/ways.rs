//! Routes and rules that move with a virtual router's addresses (keepalived.conf(5), `virtual_routes`, `virtual_rules`), and those that stay.
use super::engine::{Engine, Told};
use super::fsm::Cause;
use super::router::Router;
use crate::config::model::{VrrpInstance, VrrpModel};
use crate::net::netlink;
use crate::net::routes::{Gone, Way};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// What watches the kernel's routes, and the protocols that it tells of.
#[derive(Default)]
pub(super) struct WayWatch {
    protocols: Vec<u8>,
    events: Option<mpsc::UnboundedReceiver<Option<Gone>>>,
    /// What a reload takes off itself, until the kernel has told of it.
    own: Vec<(Instant, Way)>,
}

/// The kernel tells of a removal within this time, if there was anything to remove.
const TOLD: Duration = Duration::from_secs(2);

/// Static things that are not there, and that routers track, are tried again after this.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(2);

impl WayWatch {
    /// The next route or rule that went; `None` inside: some were lost.
    pub async fn next(&mut self) -> Option<Option<Gone>> {
        match &mut self.events {
            Some(e) => e.recv().await,
            None => std::future::pending().await,
        }
    }

    /// These are about to be taken off by us.
    fn take(&mut self, ways: &[Way]) {
        let now = Instant::now();
        self.own.retain(|o| now.saturating_duration_since(o.0) < TOLD);
        self.own.extend(ways.iter().map(|w| (now, w.clone())));
    }

    /// True if it was us who took it off.
    fn was_own(&mut self, gone: &Gone, now: Instant, index: impl Fn(&str) -> Option<u32>) -> bool {
        let fresh = |o: &(Instant, Way)| now.saturating_duration_since(o.0) < TOLD && gone.is(&o.1, &index);
        let Some(at) = self.own.iter().position(fresh) else { return false };
        // Of several next hops each has its notice.
        if !matches!(&self.own[at].1, Way::Route(r) if !r.hops.is_empty()) {
            self.own.swap_remove(at);
        }
        true
    }

    /// Watches for what a model has; nothing where it has none.
    fn configure(&mut self, m: &VrrpModel) -> std::io::Result<()> {
        let all = m.instances.iter().flat_map(of).chain(statics(m));
        let mut wanted: Vec<u8> = all
            .map(|w| match w {
                Way::Route(r) => r.protocol,
                Way::Rule(r) => r.protocol,
            })
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted != self.protocols {
            self.events = (!wanted.is_empty()).then(|| netlink::monitor_ways(wanted.clone())).transpose()?;
            self.protocols = wanted;
        }
        Ok(())
    }
}

/// A router's routes and rules, in the order in which they are added.
pub(super) fn of(c: &VrrpInstance) -> impl Iterator<Item = Way> {
    let rules = c.rules.iter().cloned().map(Way::Rule);
    c.routes.iter().cloned().map(Way::Route).chain(rules)
}

pub(super) fn statics(m: &VrrpModel) -> impl Iterator<Item = Way> {
    let rules = m.static_rules.iter().cloned().map(Way::Rule);
    m.static_routes.iter().cloned().map(Way::Route).chain(rules)
}

/// Those of `all` that `others` do not have, the last one first: as they are taken off.
fn without(all: impl Iterator<Item = Way>, others: &[Way]) -> Vec<Way> {
    // Who tracks it is nothing that the kernel knows.
    let others: Vec<Way> = others.iter().map(Way::plain).collect();
    let mut left: Vec<Way> = all.filter(|w| !others.contains(&w.plain())).collect();
    left.reverse();
    left
}

impl Engine {
    /// With the tables of their VRFs, as far as those are known.
    fn settled(&self, ways: Vec<Way>) -> Vec<Way> {
        ways.into_iter().map(|w| w.settled(|vrf| self.links.get(vrf)?.vrf)).collect()
    }

    /// What a router or the configuration has no more; the kernel's notice of it is known by then.
    fn end_ways(&mut self, ways: Vec<Way>) {
        let ways = self.settled(ways);
        self.way_watch.take(&ways);
        self.keeper.ways(ways, false, None);
    }

    /// Those that stay, in a model that comes into force; those of before go if they are not in it. What a killed predecessor left is the same again.
    pub(super) fn put_static_ways(&mut self, before: &VrrpModel) {
        if let Err(e) = self.way_watch.configure(&self.model) {
            let text = format!("cannot watch for routes that go ({e}): what somebody removes stays away");
            self.told.push(Told::Log { important: true, text });
        }
        let now: Vec<Way> = statics(&self.model).collect();
        let gone = without(statics(before), &now);
        self.end_ways(gone);
        self.put_static(now);
    }

    /// Static ones are put on; those that routers track one by one, so that it is known which could not be.
    fn put_static(&mut self, ways: Vec<Way>) {
        let (guarded, plain): (Vec<Way>, Vec<Way>) = ways.into_iter().partition(|w| w.group().is_some());
        self.keeper.ways(self.settled(plain), true, None);
        for w in guarded {
            let group = w.group().cloned().unwrap_or_default();
            let tag = self.guard(group, w.text());
            self.keeper.ways(self.settled(vec![w]), true, Some(tag));
        }
    }

    /// What nobody has any more.
    pub(super) fn end_static_ways(&self, model: &VrrpModel) {
        self.keeper.ways(self.settled(without(statics(model), &[])), false, None);
    }

    /// A router that has its addresses gets its routes and rules, or gets them again.
    pub(super) fn put_ways(&mut self, i: usize) {
        let r = &mut self.routers[i];
        r.ways_at = None;
        let all: Vec<Way> = of(&r.conf).collect();
        if all.is_empty() {
            return;
        }
        let (key, tag) = (r.key, self.next_tag());
        self.puts.push((tag, key));
        self.keeper.ways(self.settled(all), true, Some(tag));
    }

    /// Routes that have lost their source with an address: they are added anew with it. Only those that are ours to the letter are taken off.
    pub(super) fn take_sourceless_off(&mut self, i: usize, ip: IpAddr) {
        let bare: Vec<Way> = of(&self.routers[i].conf).filter(|w| w.loses_its_source(ip)).collect();
        self.end_ways(bare);
    }

    pub(super) fn take_ways_off(&self, c: &VrrpInstance) {
        self.keeper.ways(self.settled(without(of(c), &[])), false, None);
    }

    /// A known router has others from now on.
    pub(super) fn change_ways(&mut self, r: &mut Router, new: &VrrpInstance, now: Instant) {
        let wanted: Vec<Way> = of(new).collect();
        if wanted.iter().cloned().eq(of(&r.conf)) {
            return;
        }
        self.end_ways(without(of(&r.conf), &wanted));
        r.ways_at = Some(now);
    }

    pub(super) fn ways_done(&mut self, tag: Option<u64>, failures: &[String], now: Instant) {
        let news = self.guarded_done(tag, failures.is_empty(), now);
        let owner = tag.and_then(|t| {
            let at = self.puts.iter().position(|p| p.0 == t)?;
            Some(self.puts.swap_remove(at).1)
        });
        if failures.is_empty() {
            return;
        }
        let text = failures.join("; ");
        match owner.and_then(|key| self.routers.iter().position(|r| r.key == key)) {
            Some(i) => self.problem(i, text),
            // What keeps failing is said once.
            None if news && self.static_problem != text => {
                self.told.push(Told::Log { important: true, text: text.clone() });
                self.static_problem = text;
            }
            None => {}
        }
    }

    /// A route or a rule went, and not by us if a router here should have it: put back, like an address.
    pub(super) fn way_gone(&mut self, gone: Option<&Gone>, now: Instant) {
        let Some(gone) = gone else {
            if self.ending {
                return;
            }
            // Whatever it was.
            (0..self.routers.len())
                .filter(|i| self.routers[*i].machine.state().has_address())
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|i| self.put_ways(i));
            return self.put_static(statics(&self.model).collect());
        };
        let known: Vec<(String, u32)> = self.links.values().map(|l| (l.name.clone(), l.index)).collect();
        let index = |name: &str| known.iter().find(|k| k.0 == name).map(|k| k.1);
        let tables: Vec<(String, u32)> = self.links.values().filter_map(|l| Some((l.name.clone(), l.vrf?))).collect();
        let table = |vrf: &str| tables.iter().find(|k| k.0 == vrf).map(|k| k.1);
        let is_gone = |w: &Way| gone.is(&w.clone().settled(table), index) && !w.is_untracked();
        if self.way_watch.was_own(gone, now, index) {
            return;
        }
        for i in 0..self.routers.len() {
            let r = &self.routers[i];
            if !r.machine.state().has_address() || r.cause == Cause::Frozen {
                continue;
            }
            let Some(w) = of(&r.conf).find(is_gone) else { continue };
            let wait = self.put_back_after(i, &w.text(), now);
            if wait.is_zero() {
                self.put_ways(i);
            } else {
                let r = &mut self.routers[i];
                r.ways_at = Some(r.ways_at.map_or(now + wait, |t| t.min(now + wait)));
            }
        }
        let lost = statics(&self.model).find(is_gone);
        if let Some(w) = lost.filter(|_| !self.ending) {
            let (wait, text) = self.statics_lost.lost(&format!("static {}", w.text()), now);
            self.told.extend(text.map(|text| Told::Log { important: true, text }));
            if wait.is_zero() {
                self.put_static(vec![w]);
            } else {
                self.statics_at = Some(self.statics_at.map_or(now + wait, |t| t.min(now + wait)));
            }
        }
    }

    /// Static ones that have waited long enough.
    pub(super) fn static_ways_due(&mut self, now: Instant) {
        if self.ending {
            self.statics_at = None;
        }
        if self.statics_at.is_some_and(|t| t <= now) {
            self.statics_at = None;
            self.put_static(statics(&self.model).collect());
        }
    }

    /// An interface went, and routes over it without a word: whether those that routers track can be put back is tried.
    pub(super) fn try_guarded_on(&mut self, ifname: &str) {
        if !self.ending {
            self.put_static(statics(&self.model).filter(|w| w.group().is_some() && w.names(ifname)).collect());
        }
    }

    /// Static things that routers track and that are not there are tried again: something has changed, or time has passed.
    pub(super) fn try_missing(&mut self, now: Instant) {
        self.missing_at = None;
        if self.ending || self.missing.is_empty() {
            return;
        }
        self.missing_at = Some(now + TRY_AGAIN);
        let ways = statics(&self.model).filter(|w| w.group().is_some() && self.missing.contains_key(&w.text()));
        self.put_static(ways.collect());
        self.put_missing(now);
    }

    /// An interface came back: the kernel has forgotten the routes over it.
    pub(super) fn restore_ways_on(&mut self, ifname: &str) {
        let over = |w: &Way| w.names(ifname) || matches!(w, Way::Route(r) if r.dev.is_none());
        for i in 0..self.routers.len() {
            let r = &self.routers[i];
            if r.machine.state().has_address() && of(&r.conf).any(|w| over(&w)) {
                self.put_ways(i);
            }
        }
        if !self.ending {
            self.put_static(statics(&self.model).filter(over).collect());
        }
    }
}
