//! The addresses of a virtual router: put on, announced, renewed, given up. What may wait for the kernel is done by its keeper.
use super::announce;
use super::engine::{Engine, Placed, Told};
use super::fsm::{Action, Cause, State};
use super::pacer::Job;
use super::router::{Held, Router};
use crate::config::model::Vip;
use crate::net::netlink::{MARK, NewAddress, OldAddress, STATIC_MARK};
use crate::net::raw;
use crate::net::sockdiag::Then;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long a new master waits for its addresses before it announces them all the same.
const ACQUIRE: Duration = Duration::from_millis(50);

fn new_address(v: &Vip, ifindex: u32, lifetime: u32, mark: u8) -> NewAddress {
    NewAddress {
        ifindex,
        addr: v.addr.addr,
        prefix: v.addr.prefix,
        peer: v.peer,
        lifetime,
        scope: v.scope,
        label: v.label.clone(),
        broadcast: v.broadcast,
        no_prefix_route: v.no_prefix_route,
        home: v.home,
        temporary: v.temporary,
        autojoin: v.autojoin,
        preferred: v.preferred,
        mark,
    }
}

/// What the kernel is told when it goes.
pub(super) fn old_address(v: &Vip) -> OldAddress {
    OldAddress { addr: v.addr.addr, prefix: v.addr.prefix, peer: v.peer }
}

/// A static address as it is told of.
fn static_name(v: &Vip) -> String {
    format!("address {}", v.addr.addr)
}

impl Engine {
    /// Static addresses: those of before that are not wanted any more go, all others are put on.
    pub(super) fn put_statics(&mut self, before: &[Vip], now: Instant) {
        // Who tracks it is nothing that the kernel knows.
        let plain = |v: &Vip| Vip { group: None, untracked: false, ..v.clone() };
        let wanted: Vec<Vip> = self.model.statics.iter().map(plain).collect();
        for v in before.iter().filter(|v| !wanted.contains(&plain(v))) {
            if let Some(l) = v.dev.as_ref().and_then(|d| self.links.get(d)) {
                self.keeper.remove(l.index, old_address(v));
            }
        }
        self.put_static_addresses(self.model.statics.clone(), now);
    }

    fn put_static_addresses(&mut self, which: Vec<Vip>, now: Instant) {
        let mut all = Vec::new();
        for v in which {
            let index = v.dev.as_ref().and_then(|d| self.links.get(d)).map(|l| l.index);
            let new = index.map(|i| new_address(&v, i, u32::MAX, STATIC_MARK));
            let what = static_name(&v);
            match (new, v.group) {
                (Some(new), None) => all.push(new),
                (Some(new), Some(g)) => {
                    let tag = self.guard(g, what);
                    self.keeper.put(vec![new], Some(tag));
                }
                (None, Some(g)) => drop(self.guarded_is(what, &g, false, now)),
                (None, None) => {}
            }
        }
        if !all.is_empty() {
            let tag = self.next_tag();
            self.keeper.put(all, Some(tag));
        }
    }

    /// Those that routers track and that are not there.
    pub(super) fn put_missing(&mut self, now: Instant) {
        let away = |v: &&Vip| v.group.is_some() && self.missing.contains_key(&static_name(v));
        let which = self.model.statics.iter().filter(away).cloned().collect();
        self.put_static_addresses(which, now);
    }

    /// What routers tracked before a reload and do not now.
    pub(super) fn forget_guarded(&mut self) {
        let m = &self.model;
        let addresses = m.statics.iter().filter_map(|v| Some((static_name(v), v.group.clone()?)));
        let ways = super::ways::statics(m).filter_map(|w| Some((w.text(), w.group().cloned()?)));
        let now: Vec<(String, String)> = addresses.chain(ways).collect();
        let known = |what: &String, group: &String| now.iter().any(|n| n.0 == *what && n.1 == *group);
        self.missing.retain(|what, group| known(what, group));
        self.guarded.retain(|(_, group, what)| known(what, group));
    }

    /// The tag of an order for a static thing that routers track.
    pub(super) fn guard(&mut self, group: String, what: String) -> u64 {
        let tag = self.next_tag();
        self.guarded.push((tag, group, what));
        tag
    }

    /// What became of it: routers of its group give way while it is not there. False if that is no news.
    pub(super) fn guarded_done(&mut self, tag: Option<u64>, there: bool, now: Instant) -> bool {
        let Some(at) = self.guarded.iter().position(|g| Some(g.0) == tag) else { return true };
        let (_, group, what) = self.guarded.swap_remove(at);
        self.guarded_is(what, &group, there, now)
    }

    fn guarded_is(&mut self, what: String, group: &str, there: bool, now: Instant) -> bool {
        if !there {
            self.missing_at.get_or_insert(now + super::ways::TRY_AGAIN);
        }
        let changed = match there {
            true => self.missing.remove(&what).is_some(),
            false => self.missing.insert(what.clone(), group.to_owned()).is_none(),
        };
        if changed {
            let state = if there { "there again" } else { "not there" };
            self.tracked_changed(format!("static {what}, which track_group {group} tracks, is {state}"), now);
        }
        changed
    }

    /// A static address was removed: put back.
    pub(super) fn static_gone(&mut self, ip: IpAddr, now: Instant) {
        if self.ending || !self.model.statics.iter().any(|v| v.addr.addr == ip && !v.untracked) {
            return;
        }
        let text = format!("static address {ip} was removed by somebody else: put back");
        self.told.push(Told::Log { important: true, text });
        self.put_statics(&[], now);
    }

    /// A new master's addresses; what it has to say of them is held until they are on.
    pub(super) fn acquire(&mut self, i: usize, now: Instant) {
        let tag = self.next_tag();
        self.put_on(i, Some(tag));
        let r = &mut self.routers[i];
        r.held = Some(Held { tag, until: now + ACQUIRE, actions: Vec::new() });
        r.renew_at = Some(now + r.lifetime() / 3);
    }

    /// Adds the addresses, or renews them.
    pub(super) fn put_on(&mut self, i: usize, tag: Option<u64>) {
        let r = &self.routers[i];
        let lifetime = u32::try_from(r.lifetime().as_secs()).unwrap_or(u32::MAX);
        let all = r
            .addresses()
            .filter_map(|v| {
                let link = self.links.get(r.device(v))?;
                // What is not tracked is put on with the others once, and renewed while it is there.
                let away = v.untracked && tag.is_none() && !self.addrs.iter().any(|a| a.addr == v.addr.addr);
                (!away).then(|| new_address(v, link.index, lifetime, MARK))
            })
            .collect();
        if let Some(tag) = tag {
            self.puts.push((tag, r.key));
        }
        self.keeper.put(all, tag);
        // The kernel drops routes with the addresses that they come from, and says nothing.
        if tag.is_some() {
            self.put_ways(i);
        }
    }

    /// The keeper has put addresses on.
    pub(super) fn put_done(&mut self, tag: Option<u64>, failures: &[String], now: Instant) {
        let owner = tag.and_then(|t| {
            let at = self.puts.iter().position(|p| p.0 == t)?;
            Some(self.puts.swap_remove(at).1)
        });
        let news = self.guarded_done(tag, failures.is_empty(), now);
        let i = owner.and_then(|key| self.routers.iter().position(|r| r.key == key));
        if !failures.is_empty() {
            let text = failures.join("; ");
            match i {
                Some(i) => self.problem(i, text),
                None if news => self.told.push(Told::Log { important: true, text }),
                None => {}
            }
        }
        let Some(i) = i.filter(|i| self.routers[*i].machine.state().has_address()) else { return };
        match &self.routers[i].held {
            Some(h) if Some(h.tag) == tag => self.speak(i, now),
            Some(_) => {}
            // Put back, or on an interface that came back. Only a master says where the addresses are.
            None if matches!(self.routers[i].machine.state(), State::Master { .. }) => self.announce(i, 1, now),
            None => {}
        }
    }

    /// Says what was held.
    pub(super) fn speak(&mut self, i: usize, now: Instant) {
        if let Some(h) = self.routers[i].held.take()
            && matches!(self.routers[i].machine.state(), State::Master { .. })
        {
            self.perform(now, h.actions.into_iter().map(|a| (i, a)).collect());
        }
    }

    /// True if the action has to wait for the addresses; it is kept then.
    pub(super) fn hold(r: &mut Router, a: Action) -> bool {
        match (&mut r.held, a) {
            (Some(h), Action::Announce { .. } | Action::SendAdvert { priority: 1.. }) => {
                if !h.actions.contains(&a) {
                    h.actions.push(a);
                }
                true
            }
            _ => false,
        }
    }

    /// Puts announcements of all its addresses into the queue, and sends what may go at once.
    pub(super) fn announce(&mut self, i: usize, times: u32, now: Instant) {
        self.announce_some(i, times, now, |_, _| true);
        self.send_frames(now);
    }

    fn announce_some(&mut self, i: usize, times: u32, now: Instant, which: impl Fn(&Router, &Vip) -> bool) {
        let r = &self.routers[i];
        for v in r.addresses().filter(|v| which(r, v)) {
            if let Some(link) = self.links.get(r.device(v)).filter(|l| l.ethernet) {
                self.pacer.push(now, &link.name, Job { ifindex: link.index, addr: v.addr.addr }, times);
            }
        }
    }

    /// Announcements whose time has come. Only a master says where the addresses are.
    pub(super) fn announce_due(&mut self, i: usize, now: Instant) {
        let r = &mut self.routers[i];
        if !matches!(r.machine.state(), State::Master { .. }) {
            (r.announce_at, r.refresh_at, r.elsewhere_at) = (None, None, None);
        }
        let g = r.conf.garp.clone();
        if r.announce_at.is_some_and(|t| t <= now) {
            r.announce_at = None;
            let n = r.announce_times;
            self.announce_some(i, n, now, |_, _| true);
        }
        let r = &mut self.routers[i];
        if r.refresh_at.is_some_and(|t| t <= now) {
            r.refresh_at = g.refresh.map(|d| now + d);
            self.announce_some(i, g.refresh_repeat, now, |_, _| true);
        }
        let r = &mut self.routers[i];
        if r.elsewhere_at.is_some_and(|t| t <= now) {
            r.elsewhere_at = g.extra.map(|(every, _)| now + every);
            if let Some((_, all)) = g.extra {
                // Without 'all' it is for interfaces of virtual MAC addresses.
                self.announce_some(i, 1, now, |r, v| {
                    r.device(v) != super::router::home_of(&r.conf) && (all || v.own_mac.is_some())
                });
            }
        }
    }

    /// Sends what may go at `now`; the rest has a deadline.
    pub(super) fn send_frames(&mut self, now: Instant) {
        let Some(frames) = &self.frames else { return };
        for job in self.pacer.take(now) {
            let Some(link) = self.links.values().find(|l| l.index == job.ifindex) else { continue };
            // A full queue loses one: the repeat makes up for it.
            let _ = match job.addr {
                IpAddr::V4(ip) => raw::send_frame(frames, link.index, &announce::gratuitous_arp(link.mac, ip)),
                IpAddr::V6(ip) => {
                    raw::send_frame(frames, link.index, &announce::neighbour_advertisement(link.mac, ip, false))
                }
            };
        }
    }

    pub(super) fn take_off(&self, r: &Router, v: &Vip) {
        if let Some(link) = self.links.get(r.device(v)) {
            self.keeper.remove(link.index, old_address(v));
        }
    }

    /// As [`Engine::take_off`]; it comes back at once, with what the kernel cannot change of it while it is there.
    pub(super) fn take_off_for_now(&mut self, r: &Router, v: &Vip) {
        if let Some(link) = self.links.get(r.device(v)) {
            if self.addrs.iter().any(|a| a.ifindex == link.index && a.addr == v.addr.addr) {
                self.altered.push((link.index, v.addr.addr));
            }
            self.keeper.remove(link.index, old_address(v));
        }
    }

    pub(super) fn take_all_off(&self, r: &Router) {
        self.take_ways_off(&r.conf);
        r.addresses().for_each(|v| self.take_off(r, v));
    }

    /// Resets connections on the addresses, then removes them.
    pub(super) fn release(&mut self, i: usize) {
        let r = &mut self.routers[i];
        (r.announce_at, r.refresh_at, r.elsewhere_at, r.renew_at, r.held) = (None, None, None, None, None);
        r.ways_at = None;
        r.resetting = true;
        r.put_back.clear();
        let ips: Vec<IpAddr> = r.addresses().map(|v| v.addr.addr).collect();
        self.pacer.forget(|a| ips.contains(a));
        self.resets.reset(ips, Then::Tell(self.routers[i].key));
    }

    /// The connections are reset.
    pub(super) fn released(&mut self, key: u64) {
        if let Some(i) = self.routers.iter().position(|r| r.key == key) {
            self.routers[i].resetting = false;
            if !self.routers[i].machine.state().has_address() {
                self.take_all_off(&self.routers[i]);
            }
            self.forget_departed();
        } else if let Some(at) = self.leaving.iter().position(|l| l.0 == key) {
            for (ifindex, old) in self.leaving.swap_remove(at).1 {
                // It may be here again, with something else about it.
                let same = |r: &Router, v: &Vip| {
                    let n = old_address(v);
                    let peer = n.addr.is_ipv6() || n.peer == old.peer;
                    (n.addr, n.prefix) == (old.addr, old.prefix)
                        && peer
                        && self.links.get(r.device(v)).is_some_and(|l| l.index == ifindex)
                };
                let kept = |r: &Router| r.machine.state().has_address() && r.addresses().any(|v| same(r, v));
                if !self.routers.iter().any(kept) {
                    self.keeper.remove(ifindex, old);
                }
            }
        }
    }

    /// Addresses that a router does not have any more after a reload: reset, then removed, like any that is lost.
    pub(super) fn part_with(&mut self, r: &Router, gone: &[Vip]) {
        let what: Vec<Placed> =
            gone.iter().filter_map(|v| Some((self.links.get(r.device(v))?.index, old_address(v)))).collect();
        self.pacer.forget(|a| what.iter().any(|w| w.1.addr == *a));
        if !what.is_empty() {
            let key = self.next_tag();
            self.resets.reset(what.iter().map(|w| w.1.addr).collect(), Then::Tell(key));
            self.leaving.push((key, what));
        }
    }

    /// Resets what is open on the addresses while they are here, then kills the hung worker that held it: its clients come back at once.
    pub fn reset_and_kill(&self, pidfd: OwnedFd) {
        let ips: Vec<IpAddr> = self
            .routers
            .iter()
            .filter(|r| r.machine.state().has_address())
            .flat_map(|r| r.addresses().map(|v| v.addr.addr))
            .collect();
        self.resets.reset(ips, Then::Kill(pidfd));
    }

    /// An address of ours was removed, and not by us: put back, at once the first time, and later and later when it keeps happening. Not after a freeze,
    /// in which it expired: somebody else may have it.
    pub(super) fn address_gone(&mut self, ip: IpAddr, now: Instant) {
        for i in 0..self.routers.len() {
            let r = &mut self.routers[i];
            let untracked = r.addresses().any(|v| v.addr.addr == ip && v.untracked);
            if untracked || !r.machine.state().has_address() || !r.has(ip) || r.cause == Cause::Frozen {
                continue;
            }
            self.take_sourceless_off(i, ip);
            let wait = self.put_back_after(i, &format!("address {ip}"), now);
            if wait.is_zero() {
                let tag = self.next_tag();
                self.put_on(i, Some(tag));
            } else {
                // The renewal puts on whatever is missing.
                let r = &mut self.routers[i];
                r.renew_at = Some(r.renew_at.map_or(now + wait, |t| t.min(now + wait)));
                r.announce_at = Some(r.announce_at.map_or(now + wait, |t| t.min(now + wait)));
            }
        }
    }

    /// Something of a master's was removed by somebody else: how long it waits before it is put back. Said.
    pub(super) fn put_back_after(&mut self, i: usize, what: &str, now: Instant) -> Duration {
        let r = &mut self.routers[i];
        let (wait, text) = r.put_back.lost(what, now);
        if let Some(text) = text {
            self.told.push(Told::Log { important: true, text: format!("({}) {text}", r.conf.name) });
        }
        wait
    }

    /// An interface other than a router's own came back: addresses that live on it are put there again.
    pub(super) fn restore_on(&mut self, ifname: &str) {
        for i in 0..self.routers.len() {
            let r = &self.routers[i];
            if r.machine.state().has_address()
                && r.conf.interface != ifname
                && r.addresses().any(|v| r.device(v) == ifname)
            {
                let tag = self.next_tag();
                self.put_on(i, Some(tag));
            }
        }
    }
}
