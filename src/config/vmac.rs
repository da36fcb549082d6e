//! Interfaces of a virtual router's own beside another (keepalived.conf(5), `use_vmac`, `use_ipvlan`): what they are called, and what their addresses are.
use super::vrrp::{Vip, VrrpInstance};
use crate::base::addr::IpNet;
use serde::{Deserialize, Serialize};

/// An interface with the virtual router's MAC address, or one that shares its parent's and has an IP address of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vmac {
    /// Empty in a reader until all are read: [`Vmac::name_all`].
    pub name: String,
    /// Of an IPVLAN all zeros.
    pub mac: [u8; 6],
    pub ipvlan: Option<Ipvlan>,
    /// Link group; `None`: that of the router's interface.
    pub group: Option<u32>,
    /// `vmac_xmit_base`: adverts leave and are heard on the router's own interface.
    pub from_base: bool,
}

/// `use_ipvlan`: an interface in mode L2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipvlan {
    pub mode: IpvlanMode,
    /// Adverts leave from it. An IPv4 router needs one; without it an IPv6 router speaks from a link-local address.
    pub addr: Option<IpNet>,
}

/// Which of the interfaces beside the same other one hear each other; it has to be the same for all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpvlanMode {
    #[default]
    Bridge,
    Private,
    Vepa,
}

/// Words of the modes, in both languages.
pub const IPVLAN_MODES: &[(&str, IpvlanMode)] =
    &[("bridge", IpvlanMode::Bridge), ("private", IpvlanMode::Private), ("vepa", IpvlanMode::Vepa)];

impl Vmac {
    /// `use_ipvlan` of IPv4 without an address to speak from: such a router stays in FAULT.
    pub fn lacks_address(&self, six: bool) -> bool {
        !six && self.ipvlan.is_some_and(|i| i.addr.is_none())
    }

    /// The MAC address of RFC 9568, 7.3.
    pub fn usual_mac(vrid: u8, six: bool) -> [u8; 6] {
        [0, 0, 0x5e, 0, if six { 2 } else { 1 }, vrid]
    }

    /// Names those that have none, as keepalived does: `vrrp.51`, for IPv6 `vrrp6.51` where that is taken, and then with numbers.
    pub fn name_all(instances: &mut [VrrpInstance], prefix: &str, addr_prefix: &str) {
        for at in 0..instances.len() {
            if instances[at].vmac.as_ref().is_some_and(|v| v.name.is_empty()) {
                let name = free_name(instances, at, instances[at].is_six(), prefix);
                instances[at].vmac.iter_mut().for_each(|v| v.name.clone_from(&name));
            }
        }
        for at in 0..instances.len() {
            while let Some((own, six)) = instances[at].unnamed() {
                // The kernel has one interface with a MAC address beside another: all share it.
                let name = instances.iter().find_map(|i| i.name_of(&own)).cloned();
                let name = name.unwrap_or_else(|| free_name(instances, at, six, addr_prefix));
                let i = &mut instances[at];
                for v in i.addresses_mut().filter(|v| v.own_mac.as_ref() == Some(&own)) {
                    v.dev = Some(name.clone());
                }
            }
        }
    }

    /// Interfaces of addresses that a configuration of before had as well keep their names, whatever came before them in the file then: nothing of
    /// theirs changes with a reload.
    pub fn keep_names(instances: &mut [VrrpInstance], before: &[VrrpInstance]) {
        let routers = |name: &String| instances.iter().any(|i| i.vmac.as_ref().is_some_and(|v| v.name == *name));
        let addresses = || instances.iter().flat_map(VrrpInstance::addresses);
        let Some(stem) = addresses().find(|v| v.own_mac.is_some()).and_then(|v| v.dev.as_ref()) else { return };
        let stem = stem.split('.').next().unwrap_or_default().trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
        let mut kept: Vec<(OwnMac, String)> = Vec::new();
        for own in
            addresses().filter(|v| v.dev.as_ref().is_some_and(|d| !routers(d))).filter_map(|v| v.own_mac.as_ref())
        {
            let name = before.iter().find_map(|b| b.name_of(own)).filter(|n| !routers(n));
            if let Some(name) = name.filter(|_| !kept.iter().any(|k| k.0 == *own)) {
                kept.push((own.clone(), name.clone()));
            }
        }
        for v in instances.iter_mut().flat_map(VrrpInstance::addresses_mut) {
            let Some(own) = &v.own_mac else { continue };
            match kept.iter().find(|k| k.0 == *own) {
                Some((_, name)) => v.dev = Some(name.clone()),
                None if kept.iter().any(|k| Some(&k.1) == v.dev.as_ref()) => v.dev = None,
                None => {}
            }
        }
        Self::name_all(instances, &stem, &stem);
    }
}

/// A name that no interface of these has.
fn free_name(instances: &[VrrpInstance], at: usize, six: bool, prefix: &str) -> String {
    let vrid = instances[at].vrid;
    let taken = |name: &String| instances.iter().any(|o| o.mac_names().any(|n| n == name));
    let first = [format!("{prefix}.{vrid}")].into_iter().chain(six.then(|| format!("{prefix}6.{vrid}")));
    let mut all = first.chain((1..).map(|n: u32| format!("{prefix}{n}.{vrid}")));
    // There are more numbers than interfaces.
    all.find(|name| !taken(name)).unwrap_or_default()
}

/// True if an interface may be called so.
pub fn is_interface(name: &str) -> bool {
    (1..=15).contains(&name.len()) && !name.contains('/')
}

/// Six octets, or five in front of the virtual router's number.
pub fn mac_of(text: &str, vrid: u8) -> Option<[u8; 6]> {
    let octets: Option<Vec<u8>> =
        text.split(':').map(|t| u8::from_str_radix(t, 16).ok().filter(|_| t.len() <= 2)).collect();
    let mut octets = octets?;
    if octets.len() == 5 {
        octets.push(vrid);
    }
    octets.try_into().ok()
}

/// An interface of an address that has the virtual router's MAC address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwnMac {
    /// The interface beside which it is.
    pub base: String,
    pub mac: [u8; 6],
}

impl VrrpInstance {
    /// Interfaces with MAC addresses of its own.
    pub fn mac_names(&self) -> impl Iterator<Item = &String> {
        let named = |v: &&Vip| v.own_mac.is_some();
        let of_addresses = self.addresses().filter(named).filter_map(|v| v.dev.as_ref());
        self.vmac.iter().map(|v| &v.name).chain(of_addresses)
    }

    /// What this one is called, if it is here.
    fn name_of(&self, own: &OwnMac) -> Option<&String> {
        let routers = self.vmac.as_ref().filter(|v| self.interface == own.base && v.mac == own.mac).map(|v| &v.name);
        let addresses = || self.addresses().find(|v| v.own_mac.as_ref() == Some(own));
        routers.or_else(|| addresses()?.dev.as_ref())
    }

    /// The first interface of an address that has no name yet, and whether that address is of IPv6.
    fn unnamed(&self) -> Option<(OwnMac, bool)> {
        let v = self.addresses().find(|v| v.own_mac.is_some() && v.dev.is_none())?;
        Some((v.own_mac.clone()?, v.addr.addr.is_ipv6()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::keepalived::build::{blank_instance, place_of};

    /// A router 51 with addresses beside these interfaces.
    fn router(bases: &[&str]) -> Vec<VrrpInstance> {
        let mut i = blank_instance("V", &place_of("f:1"));
        (i.interface, i.vrid) = ("eth0".into(), 51);
        for (n, base) in bases.iter().enumerate() {
            let mut v = Vip::plain(IpNet::parse(&format!("10.0.{n}.1/24")).unwrap());
            v.own_mac = Some(OwnMac { base: (*base).into(), mac: Vmac::usual_mac(51, false) });
            i.vips.push(v);
        }
        let mut all = vec![i];
        Vmac::name_all(&mut all, "vrrp", "vrrp");
        all
    }

    fn names(all: &[VrrpInstance]) -> Vec<String> {
        all[0].vips.iter().map(|v| format!("{}@{}", v.dev.clone().unwrap(), v.own_mac.clone().unwrap().base)).collect()
    }

    #[test]
    fn interfaces_of_addresses_are_shared_and_keep_their_names() {
        let before = router(&["x0", "x1", "x0"]);
        assert_eq!(names(&before), ["vrrp.51@x0", "vrrp1.51@x1", "vrrp.51@x0"]);
        for (bases, wanted) in [
            (&["x1"][..], &["vrrp1.51@x1"][..]),
            (&["x1", "x0"], &["vrrp1.51@x1", "vrrp.51@x0"]),
            (&["x2", "x1"], &["vrrp.51@x2", "vrrp1.51@x1"]),
            (&["x1", "x2", "x0"], &["vrrp1.51@x1", "vrrp2.51@x2", "vrrp.51@x0"]),
        ] {
            let mut now = router(bases);
            Vmac::keep_names(&mut now, &before);
            assert_eq!(names(&now), wanted);
        }
        // The router's own comes first, and its name is its name.
        let mut now = router(&["x0"]);
        let mac = [2, 0, 0, 0, 0, 1];
        now[0].vmac = Some(Vmac { name: "vrrp.51".into(), mac, ipvlan: None, group: None, from_base: false });
        now[0].vips[0].dev = None;
        Vmac::name_all(&mut now, "vrrp", "vrrp");
        Vmac::keep_names(&mut now, &before);
        assert_eq!(names(&now), ["vrrp1.51@x0"]);
    }
}
