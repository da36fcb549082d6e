//! Interfaces with the virtual router's own MAC address (keepalived.conf(5), `use_vmac`; RFC 9568, 7.3): a macvlan beside the router's interface,
//! on which its addresses live and adverts leave.
use super::engine::{Engine, Told};
use crate::config::model::VrrpModel;
use crate::net::netlink::{Netlink, NewMac};

/// What there has to be for the routers of a model, as far as their interfaces are there.
fn wanted(m: &VrrpModel, index: impl Fn(&str) -> Option<u32>) -> Vec<NewMac> {
    let routers = m.instances.iter().filter_map(|c| {
        let v = c.vmac.as_ref()?;
        Some(NewMac {
            name: v.name.clone(),
            base: c.interface.clone(),
            parent: index(&c.interface)?,
            mac: v.mac,
            group: v.group,
        })
    });
    routers.collect()
}

impl Engine {
    /// At the start, when there is time: all of them, before links are read.
    pub(super) async fn begin_vmacs(&mut self, m: &VrrpModel, netlink: &Netlink) -> Result<(), String> {
        if m.instances.iter().all(|c| c.vmac.is_none()) {
            return Ok(());
        }
        for l in netlink.links().await? {
            self.links.insert(l.name.clone(), l);
        }
        for w in wanted(m, |name| self.links.get(name).map(|l| l.index)) {
            if let Err(e) = netlink.make_mac(&w).await {
                self.told.push(Told::Log { important: true, text: e });
            }
            self.vmacs.push(w.name.clone());
            self.keeper.settle_mac(w);
        }
        Ok(())
    }

    /// A router's interface has none, or lost it: the keeper makes it, and its notice brings it to the router.
    pub(super) fn ask_vmac(&mut self, i: usize) {
        let r = &self.routers[i];
        let Some(v) = &r.conf.vmac else { return };
        let Some(parent) = self.links.get(&r.conf.interface).map(|l| l.index) else { return };
        let w = NewMac { name: v.name.clone(), base: r.conf.interface.clone(), parent, mac: v.mac, group: v.group };
        if !self.vmacs.contains(&w.name) {
            self.vmacs.push(w.name.clone());
        }
        self.keeper.make_mac(w);
    }

    /// Those that no router has any more go.
    pub(super) fn forget_vmacs(&mut self) {
        let routers = &self.routers;
        let used = |name: &String| routers.iter().any(|r| r.conf.vmac.as_ref().is_some_and(|v| v.name == *name));
        let (keep, gone): (Vec<String>, Vec<String>) = std::mem::take(&mut self.vmacs).into_iter().partition(used);
        self.vmacs = keep;
        gone.into_iter().for_each(|name| self.keeper.remove_mac(name));
    }

    /// The end.
    pub(super) fn end_vmacs(&mut self) {
        std::mem::take(&mut self.vmacs).into_iter().for_each(|name| self.keeper.remove_mac(name));
    }
}
