//! The addresses of a virtual router: put on, announced, renewed, given up. What may wait for the kernel is done by its keeper.
use super::announce;
use super::engine::{Engine, Placed, Told};
use super::fsm::{Action, Cause, State};
use super::router::{Held, Router};
use crate::config::model::Vip;
use crate::net::netlink::NewAddress;
use crate::net::raw;
use crate::net::sockdiag::Then;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long a new master waits for its addresses before it announces them all the same.
const ACQUIRE: Duration = Duration::from_millis(50);

impl Engine {
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
                Some(NewAddress {
                    ifindex: link.index,
                    addr: v.addr.addr,
                    prefix: v.addr.prefix,
                    lifetime,
                    scope: v.scope,
                    label: v.label.clone(),
                    broadcast: v.broadcast,
                    no_prefix_route: v.no_prefix_route,
                })
            })
            .collect();
        if let Some(tag) = tag {
            self.puts.push((tag, r.key));
        }
        self.keeper.put(all, tag);
    }

    /// The keeper has put addresses on.
    pub(super) fn put_done(&mut self, tag: Option<u64>, failures: &[String], now: Instant) {
        let owner = tag.and_then(|t| {
            let at = self.puts.iter().position(|p| p.0 == t)?;
            Some(self.puts.swap_remove(at).1)
        });
        let i = owner.and_then(|key| self.routers.iter().position(|r| r.key == key));
        if !failures.is_empty() {
            let text = failures.join("; ");
            match i {
                Some(i) => self.problem(i, text),
                None => self.told.push(Told::Log { important: true, text }),
            }
        }
        let Some(i) = i.filter(|i| self.routers[*i].machine.state().has_address()) else { return };
        match &self.routers[i].held {
            Some(h) if Some(h.tag) == tag => self.speak(i, now),
            Some(_) => {}
            // Put back, or on an interface that came back. Only a master says where the addresses are.
            None if matches!(self.routers[i].machine.state(), State::Master { .. }) => self.announce(i, 1),
            None => {}
        }
    }

    /// Says what was held.
    pub(super) fn speak(&mut self, i: usize, now: Instant) {
        if let Some(h) = self.routers[i].held.take() {
            self.perform(i, now, h.actions);
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

    pub(super) fn announce(&mut self, i: usize, times: u32) {
        let r = &self.routers[i];
        let Some(frames) = &self.frames else { return };
        for _ in 0..times {
            for v in r.addresses() {
                let Some(link) = self.links.get(r.device(v)).filter(|l| l.ethernet) else { continue };
                // A full queue loses one: the repeat makes up for it.
                let _ = match v.addr.addr {
                    IpAddr::V4(ip) => raw::send_frame(frames, link.index, &announce::gratuitous_arp(link.mac, ip)),
                    IpAddr::V6(ip) => {
                        raw::send_frame(frames, link.index, &announce::neighbour_advertisement(link.mac, ip, false))
                    }
                };
            }
        }
    }

    pub(super) fn take_off(&self, r: &Router, v: &Vip) {
        if let Some(link) = self.links.get(r.device(v)) {
            self.keeper.remove(link.index, v.addr.addr, v.addr.prefix);
        }
    }

    pub(super) fn take_all_off(&self, r: &Router) {
        r.addresses().for_each(|v| self.take_off(r, v));
    }

    /// Resets connections on the addresses, then removes them.
    pub(super) fn release(&mut self, i: usize) {
        let r = &mut self.routers[i];
        (r.announce_at, r.refresh_at, r.renew_at, r.held) = (None, None, None, None);
        r.resetting = true;
        let ips: Vec<IpAddr> = r.addresses().map(|v| v.addr.addr).collect();
        self.resets.reset(ips, Then::Tell(r.key));
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
            for (ifindex, addr, prefix) in self.leaving.swap_remove(at).1 {
                self.keeper.remove(ifindex, addr, prefix);
            }
        }
    }

    /// Addresses that a router does not have any more after a reload: reset, then removed, like any that is lost.
    pub(super) fn part_with(&mut self, r: &Router, gone: &[Vip]) {
        let what: Vec<Placed> = gone
            .iter()
            .filter_map(|v| Some((self.links.get(r.device(v))?.index, v.addr.addr, v.addr.prefix)))
            .collect();
        if !what.is_empty() {
            let key = self.next_tag();
            self.resets.reset(what.iter().map(|w| w.1).collect(), Then::Tell(key));
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

    /// An address of ours was removed, and not by us: put back. Not after a freeze, in which it expired: somebody else may have it.
    pub(super) fn address_gone(&mut self, ip: IpAddr) {
        for i in 0..self.routers.len() {
            let r = &self.routers[i];
            if r.machine.state().has_address() && r.has(ip) && r.cause != Cause::Frozen {
                let text = format!("({}) address {ip} was removed by somebody else: put back", r.conf.name);
                self.told.push(Told::Log { important: true, text });
                let tag = self.next_tag();
                self.put_on(i, Some(tag));
            }
        }
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
