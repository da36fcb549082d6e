//! Interfaces with a virtual router's MAC address (keepalived.conf(5), `use_vmac`): what they are called, and what their addresses are.
use super::vrrp::{Vip, VrrpInstance};
use serde::{Deserialize, Serialize};

/// An interface with the virtual router's MAC address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vmac {
    /// Empty in a reader until all are read: [`Vmac::name_all`].
    pub name: String,
    pub mac: [u8; 6],
    /// Link group; `None`: that of the router's interface.
    pub group: Option<u32>,
    /// `vmac_xmit_base`: adverts leave and are heard on the router's own interface.
    pub from_base: bool,
}

impl Vmac {
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
                for v in i.vips.iter_mut().chain(&mut i.excluded).filter(|v| v.own_mac.as_ref() == Some(&own)) {
                    v.dev = Some(name.clone());
                }
            }
        }
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
        let of_addresses = self.vips.iter().chain(&self.excluded).filter(named).filter_map(|v| v.dev.as_ref());
        self.vmac.iter().map(|v| &v.name).chain(of_addresses)
    }

    /// What this one is called, if it is here.
    fn name_of(&self, own: &OwnMac) -> Option<&String> {
        let routers = self.vmac.as_ref().filter(|v| self.interface == own.base && v.mac == own.mac).map(|v| &v.name);
        let addresses = || self.vips.iter().chain(&self.excluded).find(|v| v.own_mac.as_ref() == Some(own));
        routers.or_else(|| addresses()?.dev.as_ref())
    }

    /// The first interface of an address that has no name yet, and whether that address is of IPv6.
    fn unnamed(&self) -> Option<(OwnMac, bool)> {
        let v = self.vips.iter().chain(&self.excluded).find(|v| v.own_mac.is_some() && v.dev.is_none())?;
        Some((v.own_mac.clone()?, v.addr.addr.is_ipv6()))
    }
}
