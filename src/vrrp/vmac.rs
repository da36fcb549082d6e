//! Interfaces with the virtual router's own MAC address (keepalived.conf(5), `use_vmac`; RFC 9568, 7.3): a macvlan beside the router's interface,
//! on which its addresses live and adverts leave.
use super::engine::{Engine, Told};
use super::fsm::{Input, State};
use super::router::addresses;
use crate::config::model::{VrrpInstance, VrrpModel};
use crate::net::netlink::{Address, Link, Netlink, NewMac};
use std::time::{Duration, Instant};

/// How often the kernel is asked whether new interfaces can be used, and how many times.
const LOOK: Duration = Duration::from_millis(5);
const PATIENCE: u32 = 60;
/// One that could not be made is tried again after this long.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// The kernel tells that an interface is down, and that it is gone, within this time.
const GONE: Duration = Duration::from_millis(20);
/// A changed MAC address harms nobody for this long, however busy the kernel's lock of interfaces is.
const GIVEN_BACK: Duration = Duration::from_millis(400);

/// What there has to be for a router's adverts, if its interface is there.
fn own(c: &VrrpInstance, index: impl Fn(&str) -> Option<u32>) -> Option<NewMac> {
    let v = c.vmac.as_ref()?;
    Some(NewMac {
        name: v.name.clone(),
        base: c.interface.clone(),
        parent: index(&c.interface)?,
        mac: v.mac,
        ipvlan: v.ipvlan,
        group: v.group,
    })
}

/// The same, and those of its addresses on other interfaces.
fn all(c: &VrrpInstance, index: impl Fn(&str) -> Option<u32>) -> Vec<NewMac> {
    let mut out: Vec<NewMac> = own(c, &index).into_iter().collect();
    for v in addresses(c) {
        let (Some(m), Some(name)) = (&v.own_mac, &v.dev) else { continue };
        if let Some(parent) = index(&m.base).filter(|_| !out.iter().any(|w| w.name == *name)) {
            out.push(NewMac {
                name: name.clone(),
                base: m.base.clone(),
                parent,
                mac: m.mac,
                ipvlan: None,
                group: None,
            });
        }
    }
    out
}

impl Engine {
    /// At the start, when there is time: all of them, before links are read. Those that were not there come back.
    pub(super) async fn begin_vmacs(&mut self, m: &VrrpModel, netlink: &Netlink) -> Result<Vec<NewMac>, String> {
        let mut made = Vec::new();
        if m.instances.iter().all(|c| c.mac_names().next().is_none()) {
            return Ok(made);
        }
        for l in netlink.links().await? {
            self.links.insert(l.name.clone(), l);
        }
        let wanted: Vec<NewMac> =
            m.instances.iter().flat_map(|c| all(c, |name| self.links.get(name).map(|l| l.index))).collect();
        for w in wanted {
            match netlink.make_mac(&w).await {
                Ok(true) => made.push(w.clone()),
                Ok(false) => {}
                Err(e) => {
                    self.told.push(Told::Log { important: true, text: e });
                    continue;
                }
            }
            self.vmacs.push(w.clone());
            self.keeper.settle_mac(w);
        }
        // A router does not begin as one whose interface is down because the kernel has not got round to it.
        for _ in 0..PATIENCE {
            let links = netlink.links().await?;
            let usable = |name: &str| links.iter().any(|l| l.name == name && l.usable);
            if self.vmacs.iter().all(|w| usable(&w.name) || !usable(&w.base)) {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(made)
    }

    /// What a router's own interface has to be.
    fn vmac_of(&self, i: usize) -> Option<NewMac> {
        own(&self.routers[i].conf, |name| self.links.get(name).map(|l| l.index))
    }

    /// That, and those of its addresses.
    pub(super) fn vmacs_of(&self, i: usize) -> Vec<NewMac> {
        all(&self.routers[i].conf, |name| self.links.get(name).map(|l| l.index))
    }

    /// A router's own interface, if it is there and no other one of its name.
    pub(super) fn vmac_link(&self, i: usize) -> Option<&Link> {
        let w = self.vmac_of(i)?;
        self.links.get(&w.name).filter(|l| l.is(&w))
    }

    /// A router's interface has none, or lost it: the keeper makes it, and its notice brings it to the router. Not while it waits because of a quarrel.
    pub(super) fn ask_vmac(&mut self, i: usize) {
        if self.ending || self.routers[i].vmac_at.is_some() {
            return;
        }
        if let Some(w) = self.vmac_of(i) {
            self.make_vmac(w);
        }
        self.ask_address_vmacs(i);
    }

    /// Those of its addresses that are not there, or not up.
    pub(super) fn ask_address_vmacs(&mut self, i: usize) {
        if self.ending || self.routers[i].departing {
            return;
        }
        let own = self.routers[i].conf.vmac.as_ref().map(|v| v.name.clone());
        for w in self.vmacs_of(i).into_iter().filter(|w| Some(&w.name) != own.as_ref()) {
            if !self.links.get(&w.name).is_some_and(|l| l.is(&w) && l.usable) {
                self.make_vmac(w);
            }
        }
    }

    fn make_vmac(&mut self, w: NewMac) {
        // Beside an interface that is gone, it went with that. One beside another interface is still to be removed.
        let there = |index: u32| self.links.values().any(|l| l.index == index);
        self.vmacs.retain(|v| v.name != w.name || v.parent != w.parent && there(v.parent));
        self.vmacs.push(w.clone());
        self.keeper.make_mac(w);
    }

    /// Somebody removed `what`, or set it down, or changed its MAC address: it is put right, later and later when that keeps happening.
    pub(super) fn vmac_lost(&mut self, i: usize, what: &str, now: Instant) {
        let r = &mut self.routers[i];
        if self.ending {
            return;
        }
        let (wait, text) = r.vmac_lost.lost(what, now);
        (r.vmac_at, r.vmac_down_at) = ((!wait.is_zero()).then(|| now + wait), None);
        if let Some(text) = text {
            self.told.push(Told::Log { important: true, text: format!("({}) {text}", r.conf.name) });
        }
        self.ask_vmac(i);
    }

    /// Somebody took the address off that adverts of an IPVLAN leave from.
    pub(super) fn ipvlan_gone(&mut self, a: &Address, now: Instant) {
        for i in 0..self.routers.len() {
            let own = self.routers[i].conf.vmac.as_ref().and_then(|v| v.ipvlan?.addr);
            if own.is_some_and(|o| o.addr == a.addr) && self.vmac_link(i).is_some_and(|l| l.index == a.ifindex) {
                self.vmac_lost(i, &format!("address {}", a.addr), now);
            }
        }
    }

    /// It could not be made: it is tried again.
    pub(super) fn vmac_not_made(&mut self, name: &str, why: &str, now: Instant) {
        for i in 0..self.routers.len() {
            if self.routers[i].conf.mac_names().any(|n| n == name) {
                let r = &mut self.routers[i];
                r.vmac_at = Some(now + TRY_AGAIN);
                // There is nothing to wait for.
                r.vmac_down_at = r.vmac_down_at.map(|t| t.min(now));
                self.problem(i, why.to_owned());
            }
        }
    }

    /// It went down though its parent did not, or its parent came back before it: it counts as up for a moment yet. The kernel says that it is down of one that
    /// is removed, too.
    pub(super) fn vmac_down(&mut self, i: usize, now: Instant) {
        self.spare(i, now + GONE);
    }

    /// It has another MAC address, and gets its own back.
    pub(super) fn vmac_renamed(&mut self, i: usize, now: Instant) {
        self.spare(i, now + GIVEN_BACK);
    }

    /// Until then it counts as up, or until an earlier time that was set before.
    fn spare(&mut self, i: usize, until: Instant) {
        let at = &mut self.routers[i].vmac_down_at;
        *at = Some(at.map_or(until, |t| t.min(until)));
    }

    /// What has waited long enough.
    pub(super) fn vmac_due(&mut self, i: usize, now: Instant) {
        if self.routers[i].vmac_down_at.is_some_and(|t| t <= now) {
            self.routers[i].vmac_down_at = None;
            let up = |name: &str| self.links.get(name).is_some_and(|l| l.usable);
            let down = |w: &NewMac| up(&w.base) && self.links.get(&w.name).is_some_and(|l| l.is(w) && !l.usable);
            if let Some(w) = self.vmacs_of(i).into_iter().find(down) {
                self.vmac_lost(i, &format!("interface {}", w.name), now);
            }
            if self.routers[i].machine.state() != State::Init && self.routers[i].opening.is_none() {
                let up = self.up(i);
                self.feed(i, now, Input::Interface(up));
            }
        }
        if self.routers[i].vmac_at.is_some_and(|t| t <= now) {
            self.routers[i].vmac_at = None;
            self.ask_vmac(i);
        }
    }

    /// The interface can be used, if the router has one of its own. While its parent cannot, that one decides.
    pub(super) fn vmac_up(&self, i: usize) -> bool {
        let c = &self.routers[i].conf;
        let parent = self.links.get(&c.interface).is_some_and(|l| l.usable);
        let spared = !parent || self.routers[i].vmac_down_at.is_some();
        match (&c.vmac, self.vmac_link(i)) {
            (None, _) => true,
            (Some(_), Some(l)) => l.usable || spared,
            // With another MAC address: it gets its own back in a moment.
            (Some(v), None) => self.routers[i].vmac_down_at.is_some() && self.links.contains_key(&v.name),
        }
    }

    /// Those that no router has any more go, and those that are to be another way.
    pub(super) fn forget_vmacs(&mut self) {
        let used: Vec<NewMac> = (0..self.routers.len()).flat_map(|i| self.vmacs_of(i)).collect();
        let (keep, gone): (Vec<NewMac>, Vec<NewMac>) = std::mem::take(&mut self.vmacs).into_iter().partition(|v| {
            // What several share has the link group of one of them.
            let same: Vec<&NewMac> = used.iter().filter(|u| u.is_same(v)).collect();
            same.contains(&v) || same.len() > 1
        });
        self.vmacs = keep;
        // What could not be made because of them can be.
        if !gone.is_empty() {
            let soon = Instant::now() + GONE;
            self.routers.iter_mut().for_each(|r| r.vmac_at = r.vmac_at.map(|t| t.min(soon)));
        }
        for w in gone {
            // What the kernel has to say of it is no news. What comes under its name is another one.
            if let Some(l) = self.links.get(&w.name).filter(|l| l.is(&w)) {
                self.removed.push(l.index);
                self.links.remove(&w.name);
                self.debounce.forget(&w.name);
            }
            self.keeper.remove_mac(w);
        }
    }

    /// The end, of those of routers that nobody else runs by now.
    pub(super) fn end_vmacs(&mut self, ours: &[&VrrpInstance]) {
        let names: Vec<&String> = ours.iter().flat_map(|c| c.mac_names()).collect();
        let all = std::mem::take(&mut self.vmacs);
        all.into_iter().filter(|w| names.contains(&&w.name)).for_each(|w| self.keeper.remove_mac(w));
    }
}
