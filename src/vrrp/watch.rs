//! What the kernel reports of interfaces and addresses.
use super::engine::{Engine, Told};
use super::fsm::{Cause, Input, State};
use super::ways;
use crate::base::addr::IpNet;
use crate::config::model::Tracked;
use crate::net::netlink::{Address, Event, Link, NewMac};
use crate::net::routes::Way;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What is put back because an interface has its first address, or lost its last one, is put back after this.
const SOON: Duration = Duration::from_millis(50);

impl Engine {
    /// A change that the kernel reports.
    pub fn event(&mut self, e: Event, now: Instant) {
        match e {
            // What the kernel says of one that we have removed ourselves.
            Event::Link(l) if self.removed.contains(&l.index) => {}
            Event::Link(l) => self.link_changed(l, now),
            Event::LinkGone(l) => {
                self.addrs.retain(|a| a.ifindex != l.index);
                let own = self.removed.iter().position(|i| *i == l.index).map(|at| self.removed.swap_remove(at));
                if own.is_none() && self.links.get(&l.name).is_some_and(|k| k.index == l.index) {
                    self.lose(&l.name, now);
                }
                self.roamers_look(None, now);
                self.settle(now);
            }
            Event::Address(a) => {
                let known = self.addrs.iter().position(|b| b.ifindex == a.ifindex && b.addr == a.addr);
                if known.is_some_and(|k| self.addrs[k] == a) {
                    return;
                }
                if a.duplicate && !known.is_some_and(|k| self.addrs[k].duplicate) {
                    self.duplicate(&a);
                }
                let first = !self.has_address_like(&a);
                match known {
                    Some(k) => self.addrs[k] = a.clone(),
                    None => self.addrs.push(a.clone()),
                }
                self.addresses_changed(&a, now);
                if first {
                    self.restore_ways_over(&a, now);
                }
                self.missing_at = self.missing_at.map(|t| t.min(now + SOON));
            }
            Event::AddressGone(a) => {
                self.addrs.retain(|b| b.ifindex != a.ifindex || b.addr != a.addr);
                match self.altered.iter().position(|o| *o == (a.ifindex, a.addr)) {
                    // It is on its way back.
                    Some(at) => drop(self.altered.swap_remove(at)),
                    None => self.address_gone(a.addr, now),
                }
                self.static_gone(a.addr, now);
                self.ipvlan_gone(&a, now);
                self.addresses_changed(&a, now);
                if !self.has_address_like(&a) {
                    self.restore_ways_over(&a, now);
                }
            }
            Event::Overrun => self.keeper.survey(),
        }
    }

    /// True if its interface has an address of its family.
    fn has_address_like(&self, a: &Address) -> bool {
        self.addrs.iter().any(|b| b.ifindex == a.ifindex && b.addr.is_ipv4() == a.addr.is_ipv4())
    }

    /// With the last address of an interface the kernel drops all routes over it, and says nothing; with the first one those that were refused may be put on.
    /// Not at once: several come together, and interfaces of containers come and go.
    fn restore_ways_over(&mut self, a: &Address, now: Instant) {
        let Some(name) = self.links.values().find(|l| l.index == a.ifindex).map(|l| l.name.clone()) else { return };
        let net = IpNet { addr: a.addr, prefix: a.prefix };
        let over = |w: &Way| w.names(&name) || w.leads_into(net);
        let sooner = |t: Option<Instant>| Some(t.map_or(now + SOON, |t| t.min(now + SOON)));
        for r in &mut self.routers {
            let over = ways::of(&r.conf).any(|w| over(&w));
            if over && r.machine.state().has_address() && r.cause != Cause::Frozen {
                r.ways_at = sooner(r.ways_at);
            }
        }
        if ways::statics(&self.model).any(|w| over(&w)) {
            self.statics_at = sooner(self.statics_at);
        }
    }

    /// Another node has an address of ours: the kernel does not answer for it here.
    fn duplicate(&mut self, a: &Address) {
        if let Some(r) = self.routers.iter().find(|r| r.has(a.addr)) {
            let text = format!(
                "({}) another node has address {} (duplicate address detection failed): look for who else was given it",
                r.conf.name, a.addr
            );
            self.told.push(Told::Log { important: true, text });
        }
    }

    /// Addresses of an interface came or went: adverts may have to leave from another one.
    fn addresses_changed(&mut self, a: &Address, now: Instant) {
        for i in 0..self.routers.len() {
            if self.routers[i].link.as_ref().is_some_and(|l| l.index == a.ifindex) {
                self.attach_again(i, now);
            }
        }
        self.roamers_look(Some(a.addr), now);
        self.settle(now);
    }

    /// Routers that speak over any interface look for the address that they speak from: those of this one, and those that could not.
    fn roamers_look(&mut self, addr: Option<IpAddr>, now: Instant) {
        for i in 0..self.routers.len() {
            let r = &self.routers[i];
            if r.roams() && (addr.is_none() || r.conf.unicast_src == addr || !r.open()) {
                self.attach_again(i, now);
            }
        }
    }

    fn attach_again(&mut self, i: usize, now: Instant) {
        let before = self.up(i);
        self.attach(i);
        // While sockets are being opened anew nothing is said; what comes of it decides.
        if self.routers[i].opening.is_none() && self.routers[i].machine.state() != State::Init && before != self.up(i) {
            let up = self.up(i);
            self.feed(i, now, Input::Interface(up));
        }
    }

    /// Notices were lost: what is there now, against what was known.
    pub(super) fn surveyed(&mut self, links: Vec<Link>, addrs: Vec<Address>, now: Instant) {
        self.altered.clear();
        let gone: Vec<Link> =
            self.links.values().filter(|l| !links.iter().any(|n| n.name == l.name)).cloned().collect();
        gone.into_iter().for_each(|l| self.event(Event::LinkGone(l), now));
        links.into_iter().for_each(|l| self.link_changed(l, now));
        let lost: Vec<Address> = self
            .addrs
            .iter()
            .filter(|a| !addrs.iter().any(|b| b.ifindex == a.ifindex && b.addr == a.addr))
            .cloned()
            .collect();
        lost.into_iter().for_each(|a| self.event(Event::AddressGone(a), now));
        addrs.into_iter().for_each(|a| self.event(Event::Address(a), now));
        for r in self.routers.iter_mut().filter(|r| r.machine.state().has_address()) {
            (r.renew_at, r.ways_at) = (Some(now), Some(now));
        }
    }

    fn link_changed(&mut self, l: Link, now: Instant) {
        // A rename: the old name is nobody's.
        let old: Vec<String> =
            self.links.values().filter(|k| k.index == l.index && k.name != l.name).map(|k| k.name.clone()).collect();
        old.iter().for_each(|name| self.lose(name, now));
        let before = self.links.insert(l.name.clone(), l.clone());
        if before.as_ref().is_some_and(|b| *b == l) {
            return;
        }
        let (was, is) = (before.as_ref().is_some_and(|b| b.usable), l.usable);
        if was && !is {
            self.set_down(&l.name, now);
            self.try_guarded_on(&l.name);
        }
        // What is beside it may have been set down meanwhile, and comes back a moment later in any case.
        if is && !was {
            for i in 0..self.routers.len() {
                if self.vmacs_of(i).iter().any(|w| w.base == l.name) {
                    // What could not be made beside one that was on its way out can be now.
                    self.routers[i].vmac_at = None;
                    self.ask_vmac(i);
                    self.vmac_down(i, now);
                }
            }
        }
        for i in 0..self.routers.len() {
            // Somebody gave a router's own interface another MAC address.
            let was = |w: &NewMac| before.as_ref().is_some_and(|b| b.is(w)) && !l.is(w) && l.beside == Some(w.parent);
            if let Some(w) = self.vmacs_of(i).into_iter().find(was) {
                self.vmac_lost(i, &format!("the MAC address of interface {}", w.name), now);
                self.vmac_renamed(i, now);
            }
        }
        self.link_counts(&l, now);
        // The kernel has forgotten routes, however short it was.
        if is && !was {
            self.restore_ways_on(&l.name);
        }
    }

    /// An interface of our own went down though its parent did not.
    fn set_down(&mut self, name: &str, now: Instant) {
        for i in 0..self.routers.len() {
            let parent_up = |w: &NewMac| self.links.get(&w.base).is_some_and(|l| l.usable);
            if self.vmacs_of(i).iter().any(|w| w.name == name && parent_up(w)) {
                self.vmac_down(i, now);
            }
        }
    }

    /// There is no interface of this name any more: that needs no time to be believed.
    fn lose(&mut self, name: &str, now: Instant) {
        self.links.remove(name);
        self.debounce.forget(name);
        self.try_guarded_on(name);
        if self.facts.links.insert(name.to_owned(), false) == Some(true)
            && self.model.tracks().any(|t| t.kind == Tracked::Interface && t.name == name)
        {
            self.told.push(Told::Log { important: true, text: format!("tracked interface {name} is gone") });
        }
        for i in 0..self.routers.len() {
            let vmac = self.routers[i].conf.vmac.as_ref().is_some_and(|v| v.name == name);
            if self.routers[i].conf.interface != name && !vmac {
                if self.routers[i].conf.mac_names().any(|n| n == name) {
                    self.vmac_lost(i, &format!("interface {name}"), now);
                }
                continue;
            }
            if self.routers[i].machine.state() != State::Init {
                self.feed(i, now, Input::Interface(false));
            }
            let r = &mut self.routers[i];
            r.close();
            if vmac {
                self.vmac_lost(i, &format!("interface {name}"), now);
                continue;
            }
            (r.link, r.src) = (None, None);
        }
        self.spread_ability(now);
    }

    /// The state of an interface, as far as it counts by now.
    pub(super) fn link_counts(&mut self, l: &Link, now: Instant) {
        let up = self.debounce.see(&l.name, l.usable, now);
        let changed = self.facts.links.insert(l.name.clone(), up) != Some(up);
        let tracks =
            self.routers.iter().flat_map(|r| &r.conf.tracks).chain(self.model.groups.iter().flat_map(|g| &g.tracks));
        if changed && tracks.into_iter().any(|t| t.kind == Tracked::Interface && t.name == l.name) {
            let text = format!("tracked interface {} {}", l.name, if up { "can be used" } else { "is lost" });
            self.told.push(Told::Log { important: true, text });
        }
        for i in 0..self.routers.len() {
            let vmac = self.routers[i].conf.vmac.as_ref().is_some_and(|v| v.name == l.name);
            // An interface that moves into a VRF or out of it takes its addresses along without a word.
            let lost = self.routers[i].roams() && !self.routers[i].open();
            if self.routers[i].conf.interface == l.name || vmac || lost {
                self.attach(i);
                if self.routers[i].machine.state() == State::Init {
                    continue;
                }
                let up = self.up(i);
                // Not yet known to be up again while its sockets are opened.
                if !up || self.routers[i].opening.is_none() {
                    self.feed(i, now, Input::Interface(up));
                }
            }
        }
        if up {
            self.restore_on(&l.name);
            if changed && !self.ending && self.model.statics.iter().any(|v| v.dev.as_deref() == Some(l.name.as_str())) {
                self.put_statics(&[], now);
            }
        }
        self.spread_ability(now);
    }
}
