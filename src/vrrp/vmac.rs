//! Interfaces with the virtual router's own MAC address (keepalived.conf(5), `use_vmac`; RFC 9568, 7.3): a macvlan beside the router's interface,
//! on which its addresses live and adverts leave.
use super::engine::{Engine, Told};
use crate::config::model::{VrrpInstance, VrrpModel};
use crate::net::netlink::{Netlink, NewMac};
use std::time::{Duration, Instant};

/// How often the kernel is asked whether new interfaces can be used, and how many times.
const LOOK: Duration = Duration::from_millis(5);
const PATIENCE: u32 = 60;

/// What there has to be for a router, if its interface is there.
fn wanted(c: &VrrpInstance, index: impl Fn(&str) -> Option<u32>) -> Option<NewMac> {
    let v = c.vmac.as_ref()?;
    Some(NewMac {
        name: v.name.clone(),
        base: c.interface.clone(),
        parent: index(&c.interface)?,
        mac: v.mac,
        group: v.group,
    })
}

impl Engine {
    /// At the start, when there is time: all of them, before links are read. Those that were not there come back.
    pub(super) async fn begin_vmacs(&mut self, m: &VrrpModel, netlink: &Netlink) -> Result<Vec<NewMac>, String> {
        let mut made = Vec::new();
        if m.instances.iter().all(|c| c.vmac.is_none()) {
            return Ok(made);
        }
        for l in netlink.links().await? {
            self.links.insert(l.name.clone(), l);
        }
        for c in &m.instances {
            let Some(w) = wanted(c, |name| self.links.get(name).map(|l| l.index)) else { continue };
            match netlink.make_mac(&w).await {
                Ok(true) => made.push(w.clone()),
                Ok(false) => {}
                Err(e) => self.told.push(Told::Log { important: true, text: e }),
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

    /// A router's interface has none, or lost it: the keeper makes it, and its notice brings it to the router. Not while it waits because of a quarrel.
    pub(super) fn ask_vmac(&mut self, i: usize) {
        let r = &self.routers[i];
        let index = |name: &str| self.links.get(name).map(|l| l.index);
        let Some(w) = wanted(&r.conf, index).filter(|_| r.vmac_at.is_none()) else { return };
        if !self.vmacs.contains(&w) {
            self.vmacs.push(w.clone());
        }
        self.keeper.make_mac(w);
    }

    /// Somebody removed it, or set it down: it is put right, later and later when that keeps happening.
    pub(super) fn vmac_lost(&mut self, i: usize, what: &str, now: Instant) {
        let r = &mut self.routers[i];
        let Some(name) = r.conf.vmac.as_ref().map(|v| &v.name) else { return };
        let (wait, text) = r.vmac_lost.lost(&format!("interface {name}{what}"), now);
        r.vmac_at = (!wait.is_zero()).then(|| now + wait);
        if let Some(text) = text {
            self.told.push(Told::Log { important: true, text: format!("({}) {text}", r.conf.name) });
        }
        self.ask_vmac(i);
    }

    /// What has waited long enough.
    pub(super) fn vmac_due(&mut self, i: usize, now: Instant) {
        if self.routers[i].vmac_at.is_some_and(|t| t <= now) {
            self.routers[i].vmac_at = None;
            self.ask_vmac(i);
        }
    }

    /// The interface can be used, if the router has one of its own.
    pub(super) fn vmac_up(&self, i: usize) -> bool {
        let own = self.routers[i].conf.vmac.as_ref();
        own.is_none_or(|v| self.links.get(&v.name).is_some_and(|l| l.usable))
    }

    /// Those that no router has any more go, and those that are to be another way.
    pub(super) fn forget_vmacs(&mut self) {
        let index = |name: &str| self.links.get(name).map(|l| l.index);
        let used: Vec<NewMac> = self.routers.iter().filter_map(|r| wanted(&r.conf, index)).collect();
        let (keep, gone): (Vec<NewMac>, Vec<NewMac>) =
            std::mem::take(&mut self.vmacs).into_iter().partition(|v| used.contains(v));
        self.vmacs = keep;
        for w in gone {
            // What comes under its name is another one; its notice is about nothing that is known.
            self.links.remove(&w.name);
            self.debounce.forget(&w.name);
            self.keeper.remove_mac(w);
        }
    }

    /// The end.
    pub(super) fn end_vmacs(&mut self) {
        std::mem::take(&mut self.vmacs).into_iter().for_each(|w| self.keeper.remove_mac(w));
    }
}
