//! Which server gets which of the addresses that a name has (configuration manual 5.3).
use std::net::IpAddr;

/// One way to reach a service: from an address record, or from a service record (RFC 2782) and the address of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub ip: IpAddr,
    /// From a service record.
    pub port: Option<u16>,
    /// From a service record, in HAProxy's scale: 1 to 256.
    pub weight: Option<u32>,
}

/// A service record's weight, 0 to 65535, in the scale of servers.
pub fn weight_of(srv: u16) -> u32 {
    u32::from(srv) / 256 + 1
}

/// New places for the servers of one name in one backend. Who has a place that still is one keeps it; nobody gets one that another has,
/// unless `shared` (`resolve-opts allow-dup-ip`); `None` where there are none left.
pub fn assign(held: &[Option<(IpAddr, Option<u16>)>], found: &[Place], shared: bool) -> Vec<Option<Place>> {
    let same = |h: &(IpAddr, Option<u16>), p: &Place| h.0 == p.ip && (p.port.is_none() || h.1 == p.port);
    let mut taken = vec![false; found.len()];
    let mut out: Vec<Option<Place>> = vec![None; held.len()];
    for (h, o) in held.iter().zip(&mut out) {
        let Some(h) = h else { continue };
        let kept = (0..found.len()).find(|i| same(h, &found[*i]) && (shared || !taken[*i]));
        if let Some(i) = kept {
            taken[i] = true;
            *o = Some(found[i]);
        }
    }
    for o in out.iter_mut().filter(|o| o.is_none()) {
        match (0..found.len()).find(|i| !taken[*i]) {
            Some(i) => {
                taken[i] = true;
                *o = Some(found[i]);
            }
            None if shared => *o = found.first().copied(),
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(n: u8) -> Place {
        Place { ip: [10, 0, 0, n].into(), port: None, weight: None }
    }
    fn h(n: u8) -> Option<(IpAddr, Option<u16>)> {
        Some(([10, 0, 0, n].into(), Some(80)))
    }

    #[test]
    fn who_has_a_place_keeps_it_and_nobody_shares() {
        assert_eq!(assign(&[None, h(2)], &[p(2), p(3)], false), [Some(p(3)), Some(p(2))]);
        assert_eq!(assign(&[h(1), h(2)], &[p(3)], false), [Some(p(3)), None]);
        assert_eq!(assign(&[h(1), h(1)], &[p(1)], false), [Some(p(1)), None]);
        assert_eq!(assign(&[h(1), None], &[p(1)], true), [Some(p(1)), Some(p(1))]);
        assert_eq!(assign(&[h(1)], &[], false), [None]);
    }

    #[test]
    fn a_service_record_names_the_port_too() {
        let (a, b) = (Place { port: Some(80), ..p(1) }, Place { port: Some(81), ..p(1) });
        assert_eq!(assign(&[h(1), None], &[b, a], false), [Some(a), Some(b)]);
        assert_eq!((weight_of(0), weight_of(256), weight_of(65535)), (1, 2, 256));
    }
}
