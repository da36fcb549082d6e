//! Hash-based balancing (configuration manual, `hash-type`): functions over keys, and the tables that turn a hash into a server.

/// The second word of `hash-type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Function {
    #[default]
    Sdbm,
    Djb2,
    Wt6,
    Crc32,
    /// The key is a decimal number, and the hash itself.
    None,
}

impl Function {
    pub const NAMES: &'static [(&'static str, Function)] =
        &[("sdbm", Self::Sdbm), ("djb2", Self::Djb2), ("wt6", Self::Wt6), ("crc32", Self::Crc32), ("none", Self::None)];

    pub fn hash(self, key: &[u8]) -> u32 {
        match self {
            Self::Sdbm => {
                key.iter().fold(0u32, |h, c| u32::from(*c).wrapping_add(h << 6).wrapping_add(h << 16).wrapping_sub(h))
            }
            Self::Djb2 => key.iter().fold(5381u32, |h, c| h.wrapping_mul(33).wrapping_add(u32::from(*c))),
            Self::Wt6 => wt6(key),
            Self::Crc32 => crc32(key),
            Self::None => {
                let digits = key.iter().take_while(|c| c.is_ascii_digit());
                digits.fold(0u32, |n, c| n.wrapping_mul(10).wrapping_add(u32::from(c - b'0')))
            }
        }
    }
}

/// Wang/Tarreau's "6", as the converter `wt6` computes it.
pub fn wt6(key: &[u8]) -> u32 {
    let (mut h0, mut h1) = (0xa53c_965a_u32, 0x5ca6_953a_u32);
    let (mut step0, mut step1) = (6u32, 18u32);
    for c in key {
        h0 = !(h0 ^ u32::from(*c));
        h1 = !h1.wrapping_add(u32::from(*c));
        let t = h1.rotate_left(step0);
        h1 = h0.rotate_left(step1);
        h0 = t;
        let t = ((h0 >> 16) ^ h1) & 0xffff;
        (step0, step1) = (t & 0x1f, t >> 11);
    }
    h0 ^ h1
}

/// CRC-32 of Ethernet and gzip, a bit at a time: keys are short.
pub fn crc32(key: &[u8]) -> u32 {
    !key.iter().fold(!0u32, |crc, c| {
        (0..8).fold(crc ^ u32::from(*c), |c, _| (c >> 1) ^ (0xedb8_8320 & (c & 1).wrapping_neg()))
    })
}

/// `avalanche`: spreads small differences over all bits (Jenkins' integer hash), then over the whole ring.
pub fn avalanche(mut a: u32) -> u32 {
    a = a.wrapping_add(0x7ed5_5d16).wrapping_add(a << 12);
    a = a ^ 0xc761_c23c ^ (a >> 19);
    a = a.wrapping_add(0x1656_67b1).wrapping_add(a << 5);
    a = a.wrapping_add(0xd3a2_646c) ^ (a << 9);
    a = a.wrapping_add(0xfd70_46c5).wrapping_add(a << 3);
    a = a ^ 0xb55a_4f09 ^ (a >> 16);
    a.wrapping_mul(3_221_225_473)
}

/// How a hash finds its server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashType {
    /// `consistent`: a ring, so that a server that comes or goes moves its own share only; else a map.
    pub consistent: bool,
    pub function: Function,
    pub avalanche: bool,
}

impl HashType {
    pub fn of(self, key: &[u8]) -> u32 {
        self.finish(self.function.hash(key))
    }
    /// For keys that are numbers themselves: addresses.
    pub fn finish(self, hash: u32) -> u32 {
        if self.avalanche { avalanche(hash) } else { hash }
    }
}

/// `map-based`, and the turns of `static-rr`: each server as often as its weight says, spread out. Servers of weight 0 are not in it.
pub fn map(weights: &[u32]) -> Vec<u16> {
    let divisor = weights.iter().copied().filter(|w| *w > 0).fold(0, super::gcd).max(1);
    let w: Vec<i64> = weights.iter().map(|w| i64::from(w / divisor)).collect();
    let total: i64 = w.iter().sum();
    let mut score = vec![0i64; w.len()];
    (0..total)
        .filter_map(|_| {
            let mut best = None::<(usize, i64)>;
            for i in (0..w.len()).filter(|i| w[*i] > 0) {
                score[i] += w[i];
                let rank = (score[i] + total) / total;
                if best.is_none_or(|(_, r)| rank > r) {
                    best = Some((i, rank));
                }
            }
            let (b, _) = best?;
            score[b] -= total;
            u16::try_from(b).ok()
        })
        .collect()
}

/// Distance between the places of two servers before they are spread.
const RANGE: u32 = 4096;

/// `consistent`: the servers' places on a ring of 2^32, in order.
#[derive(Clone, Debug, Default)]
pub struct Ring(Vec<(u32, u16)>);

impl Ring {
    /// `servers`: index, key and places of each that may be used, sixteen for one unit of weight. The key is the server's number unless `hash-key` says otherwise.
    pub fn new(servers: impl Iterator<Item = (u16, u32, u32)>) -> Self {
        let mut places: Vec<(u32, u16)> = servers
            .flat_map(|(i, key, places)| (0..places).map(move |n| (avalanche(key.wrapping_add(n)), i)))
            .collect();
        places.sort_by_key(|p| p.0);
        Self(places)
    }

    /// The key of server number `id`.
    pub fn key_of_id(id: u32) -> u32 {
        id.wrapping_mul(RANGE)
    }

    /// The server whose place is nearest to `hash`; those that `eligible` refuses are passed over, clockwise.
    pub fn find(&self, hash: u32, mut eligible: impl FnMut(u16) -> bool) -> Option<u16> {
        let n = self.0.len();
        if n == 0 {
            return None;
        }
        let at = self.0.partition_point(|p| p.0 < hash);
        let (next, before) = (at % n, (at + n - 1) % n);
        let (behind, ahead) = (hash.wrapping_sub(self.0[before].0), self.0[next].0.wrapping_sub(hash));
        let start = if behind <= ahead { before } else { next };
        (0..n).map(|k| self.0[(start + k) % n].1).find(|i| eligible(*i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHTS: [u32; 4] = [1, 3, 2, 5];

    /// Forty keys of each kind, as they were sent through HAProxy 2.6 with four servers of weights 1, 3, 2 and 5.
    fn paths() -> Vec<String> {
        (0..40).map(|i| format!("/dir{}/sub{i}/x", i * 7)).collect()
    }
    fn short() -> Vec<String> {
        (0..40).map(|i| format!("key{i}")).collect()
    }

    fn through(kind: HashType, keys: &[String]) -> String {
        let map = map(&WEIGHTS);
        let ring = Ring::new((0u16..4).map(|i| (i, Ring::key_of_id(u32::from(i) + 1), 16 * WEIGHTS[usize::from(i)])));
        keys.iter()
            .map(|k| {
                let h = kind.of(k.as_bytes());
                let s = if kind.consistent { ring.find(h, |_| true).unwrap() } else { map[h as usize % map.len()] };
                s.to_string()
            })
            .collect()
    }

    #[test]
    fn the_same_servers_as_the_reference() {
        use Function::*;
        let kind = |consistent, function, avalanche| HashType { consistent, function, avalanche };
        for (kind, want) in [
            (kind(false, Sdbm, false), "2333133133013223113211322311321132230132"),
            (kind(false, Sdbm, true), "2133233333131213333322233320123131320132"),
            (kind(false, Djb2, false), "3111332330111122111132111132111221111221"),
            (kind(false, Wt6, false), "1333333131233323133101320203212223032120"),
            (kind(false, Crc32, false), "3331322332303323311301332331130003203331"),
            (kind(true, Sdbm, true), "1332013331300023331113333331313311333310"),
            (kind(true, Djb2, false), "3300230113033022332011203233011132331130"),
            (kind(true, Wt6, false), "1331112231302311313103331313313313133101"),
        ] {
            assert_eq!(through(kind, &paths()), want, "{kind:?}");
        }
        assert_eq!(through(kind(true, Crc32, true), &short()), "1323131333210331321333031331031330223133");
        assert_eq!(through(kind(false, Sdbm, false), &short()), "3231323013013132313231323013131313231323");
    }

    #[test]
    fn a_ring_moves_only_what_it_must() {
        let all = Ring::new((0u16..4).map(|i| (i, Ring::key_of_id(u32::from(i) + 1), 16)));
        let less = Ring::new([0u16, 1, 3].into_iter().map(|i| (i, Ring::key_of_id(u32::from(i) + 1), 16)));
        for n in 0..1000u32 {
            let h = avalanche(n);
            let before = all.find(h, |_| true).unwrap();
            if before != 2 {
                assert_eq!(less.find(h, |_| true), Some(before));
            }
            assert_ne!(all.find(h, |i| i != before), Some(before));
        }
        assert_eq!(Ring::default().find(1, |_| true), None);
    }

    #[test]
    fn numbers_and_known_sums() {
        assert_eq!(Function::None.hash(b"1234x"), 1234);
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert!(map(&[0, 0]).is_empty());
        assert_eq!(map(&[2, 2]), [0, 1]);
    }
}
