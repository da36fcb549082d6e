//! A `vrrp` section that has been read: what it lacks, what does not go together, and its routers, one for each family.
use super::{Draft, carp};
use crate::base::code::Code;
use crate::config::haproxy::Cx;
use crate::config::keepalived::build::{MAX_VIPS4, MAX_VIPS6};
use crate::config::model::{Auth, OwnMac, Vip, Vmac, VrrpModel, VrrpVersion};
use std::time::Duration;

pub fn finish(cx: &mut Cx<'_>, mut d: Draft, model: &mut VrrpModel) {
    let place = &d.place;
    let mut bad = |m: String| cx.report.error(Code::RouterIncomplete, place, m);
    d.priority_set |= d.carp.wanted();
    std::mem::take(&mut d.carp).finish(&mut d.inst, &d.said).into_iter().for_each(&mut bad);
    carp::sign(&mut d.inst.auth, d.vips.iter().map(|v| v.addr.addr));
    let name = &d.inst.name;
    let lacks = unbound(&d);
    lacks.into_iter().for_each(|why| bad(format!("vrrp '{name}' {why}")));
    if d.inst.vrid == 0 {
        bad(format!("vrrp '{name}' has no 'vrid'; both nodes need the same number from 1 to 255"));
    }
    if !d.priority_set {
        bad(format!("vrrp '{name}' has no 'priority'; give each node its own, from 1 to 254"));
    }
    if d.inst.version == VrrpVersion::V2 && d.inst.advert_int.subsec_nanos() != 0 {
        bad(format!("vrrp '{name}' : VRRPv2 has whole seconds only; write 'advertise 1s' or use version 3"));
    }
    if d.inst.version == VrrpVersion::V3 && d.inst.advert_int > Duration::from_millis(40_950) {
        bad(format!("vrrp '{name}' : VRRPv3 carries at most 40950ms; write a shorter 'advertise' or use version 2"));
    }
    if d.inst.hmac.as_ref().is_some_and(|h| h.key(h.active).is_none()) {
        bad(format!("vrrp '{name}' has no 'hmac-key' of the id that signs"));
    }
    if let Some(v) = d.inst.vmac.as_ref().filter(|v| !v.name.is_empty())
        && let Some(o) = model.instances.iter().find(|o| o.vmac.as_ref().is_some_and(|w| w.name == v.name))
    {
        bad(format!("vrrp '{name}' : vrrp '{}' has a virtual MAC address on interface {} already", o.name, v.name));
    }
    if d.inst.hmac.is_some() && d.inst.auth != Auth::None {
        bad(format!("vrrp '{name}' : 'auth' and 'hmac-key' do not go together; remove one"));
    }
    match (&d.inst.auth, d.inst.version) {
        (Auth::Pass(_), VrrpVersion::V3) if d.inst.also_v2 => {}
        (Auth::None | Auth::Carp(_), _) | (_, VrrpVersion::V2 | VrrpVersion::Carp) => {}
        _ => bad(format!("vrrp '{name}' : version 3 has no 'auth'; use 'hmac-key', or version 2")),
    }
    for (six, most) in [(false, MAX_VIPS4), (true, MAX_VIPS6)] {
        if d.vips.iter().filter(|v| v.addr.addr.is_ipv6() == six).count() > most {
            bad(format!(
                "vrrp '{name}' : an advert carries at most {most} addresses of this family; say 'unannounced' behind the others"
            ));
        }
    }
    let (vrid, carp) = (d.inst.vrid, d.inst.version == VrrpVersion::Carp);
    let both = families_of(&d.vips, &d.inst.excluded) == (true, true);
    // The MAC address that the section says is of one family.
    let said = d.inst.vmac.as_ref().map(|v| v.mac).filter(|m| *m != [0; 6] && !both);
    let interface = d.inst.interface.clone();
    let mut macs = Vec::new();
    for v in d.vips.iter_mut().chain(&mut d.inst.excluded).filter(|v| v.own_mac.is_some()) {
        let base = v.dev.take().unwrap_or_else(|| interface.clone());
        let six = v.addr.addr.is_ipv6();
        let own = OwnMac { base, mac: said.unwrap_or(Vmac::usual_mac(vrid, six && !carp)) };
        macs.push((six, own.clone()));
        v.own_mac = Some(own);
    }
    if carp && macs.iter().any(|a| macs.iter().any(|b| a.0 != b.0 && a.1.base == b.1.base)) {
        bad(format!("vrrp '{name}' : CARP with 'virtual-mac' has addresses of one family beside one interface"));
    }
    let unicast_only = d.inst.lacks_peer;
    d.inst.lacks_peer &= d.inst.peers.is_empty();
    let only_six = families_of(&d.vips, &d.inst.excluded) == (false, true);
    if let Some(v) = d.inst.vmac.as_mut().filter(|v| v.ipvlan.is_none() && v.mac == [0; 6] && d.vips.is_empty()) {
        v.mac = Vmac::usual_mac(vrid, only_six && !carp);
    }
    if let Some(a) = d.inst.vmac.as_ref().and_then(|v| v.ipvlan?.addr)
        && !d.vips.is_empty()
        && !d.vips.iter().any(|v| v.addr.addr.is_ipv6() == a.addr.is_ipv6())
    {
        bad(format!("vrrp '{name}' : 'ipvlan' has the address {}, of whose family it has no 'address'", a.addr));
    }
    if d.vips.is_empty() {
        let why = if d.inst.excluded.is_empty() { "it has no 'address'" } else { "all are 'unannounced'" };
        cx.warn_of(Code::RouterIncomplete, format!("vrrp '{name}' advertises no address: {why}"));
        return model.instances.push(d.inst);
    }
    if d.inst.version == VrrpVersion::Carp && d.inst.vmac.is_some() {
        let six = d.vips.iter().filter(|v| v.addr.addr.is_ipv6()).count();
        if six > 0 && six < d.vips.len() {
            // The kernel has no two interfaces with one MAC address beside another.
            bad(format!(
                "vrrp '{name}' : CARP with 'virtual-mac' has addresses of one family; write another section with another 'vrid'"
            ));
        }
    }
    let (six, four): (Vec<Vip>, Vec<Vip>) = d.vips.into_iter().partition(|v| v.addr.addr.is_ipv6());
    let mixed = !six.is_empty() && !four.is_empty();
    for (vips, is_six) in [(four, false), (six, true)] {
        if vips.is_empty() {
            continue;
        }
        let mut inst = d.inst.clone();
        inst.vips = vips;
        if let Some(v) = &mut inst.vmac {
            if v.ipvlan.is_none() && (v.mac == [0; 6] || mixed && is_six) {
                // CARP has one for both families.
                v.mac = Vmac::usual_mac(inst.vrid, is_six && inst.version != VrrpVersion::Carp);
            }
            if mixed && is_six {
                v.name.clear();
            }
            if let Some(p) = &mut v.ipvlan {
                p.addr = p.addr.filter(|a| a.addr.is_ipv6() == is_six);
            }
            if v.lacks_address(is_six) {
                let text = format!("vrrp '{}' : 'ipvlan' of IPv4 needs an 'address' to speak from", d.inst.name);
                cx.report.error(Code::RouterIncomplete, place, text);
            }
        }
        inst.peers.retain(|p| p.addr.is_ipv6() == is_six);
        inst.lacks_peer = unicast_only && inst.peers.is_empty();
        if inst.lacks_peer && mixed && !d.inst.peers.is_empty() {
            let family = if is_six { "IPv6" } else { "IPv4" };
            let text =
                format!("vrrp '{}' : 'unicast-only' and no peer of {family}, whose addresses it has", d.inst.name);
            cx.report.error(Code::RouterIncomplete, place, text);
        }
        inst.mcast_dst = inst.mcast_dst.filter(|a| a.is_ipv6() == is_six);
        inst.unicast_src = inst.unicast_src.filter(|a| a.is_ipv6() == is_six);
        inst.mcast_src = inst.mcast_src.filter(|a| a.is_ipv6() == is_six);
        if lacks.is_none() && inst.roams() && (inst.unicast_src.is_none() || inst.peers.is_empty()) {
            let family = if is_six { "IPv6" } else { "IPv4" };
            let text = format!(
                "vrrp '{}' : without an 'interface' its addresses of {family} need a 'source' and a 'peer' of it",
                inst.name
            );
            cx.report.error(Code::RouterIncomplete, place, text);
        }
        if is_six {
            if inst.version != VrrpVersion::Carp {
                (inst.version, inst.also_v2) = (VrrpVersion::V3, false);
                inst.auth = Auth::None;
            }
            if mixed {
                // What is not announced moves with the first of the two.
                inst.excluded.clear();
                inst.routes.clear();
                inst.rules.clear();
                inst.twin_of = Some(d.inst.name.clone());
                inst.name = format!("{}.6", d.inst.name);
            }
        }
        model.instances.push(inst);
    }
}

/// What a section without an `interface`, or with `vrf`, lacks: it speaks to peers only, from an address that is not the link's, and has no place for addresses.
fn unbound(d: &Draft) -> Option<&'static str> {
    let i = &d.inst;
    if i.vrf && d.said.iter().any(|w| w == "interface") {
        Some("has both 'interface' and 'vrf'; remove one")
    } else if !i.roams() {
        None
    } else if i.peers.is_empty() {
        Some(if i.vrf { "has 'vrf' and no 'peer'; name one, or an 'interface' instead" } else { "has no 'interface'" })
    } else if i.unicast_src.is_none() {
        Some("has no 'interface' and no 'source'; write one of them")
    } else if i.is_link_local() {
        Some("has link-local addresses in 'source' or 'peer' and no 'interface' on which they are; name it")
    } else if i.vmac.is_some() {
        Some("has no 'interface' beside which 'virtual-mac' or 'ipvlan' could make one; name it")
    } else if d.vips.iter().chain(&i.excluded).any(|v| v.dev.is_none()) {
        Some("has no 'interface', and addresses without one; write 'dev <interface>' behind them")
    } else {
        None
    }
}

/// Whether there are addresses of IPv4, and of IPv6.
fn families_of(vips: &[Vip], more: &[Vip]) -> (bool, bool) {
    let any = |six| vips.iter().chain(more).any(|v| v.addr.addr.is_ipv6() == six);
    (any(false), any(true))
}
