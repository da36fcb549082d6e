//! Choosing a server (configuration manual, `balance`): pure functions over weights and loads.

pub mod hash;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    RoundRobin,
    /// Round robin in the order of the map that hashes use.
    StaticRr,
    LeastConn,
    /// Of virtual servers: the least loaded, counting the connection that is to come (`sed` of IPVS).
    ShortestDelay,
    /// The same, but an idle one before all others (`nq` of IPVS).
    NeverQueue,
    First,
    /// Hashes: what is hashed is said elsewhere.
    Source,
    Uri,
    UrlParam,
    Header,
    Hash,
    RdpCookie,
    /// The least loaded of so many that were drawn.
    Random(u32),
    /// Of log backends: the first one that is there.
    Sticky,
    /// Of log backends: a hash of what converters make of the message.
    LogHash,
}

impl Algorithm {
    pub const NAMES: &'static [(&'static str, Algorithm)] = &[
        ("roundrobin", Self::RoundRobin),
        ("static-rr", Self::StaticRr),
        ("leastconn", Self::LeastConn),
        ("source", Self::Source),
        ("first", Self::First),
        ("uri", Self::Uri),
        ("url_param", Self::UrlParam),
        ("hdr", Self::Header),
        ("hash", Self::Hash),
        ("rdp-cookie", Self::RdpCookie),
        ("random", Self::Random(Self::DRAWS)),
        ("sticky", Self::Sticky),
        ("log-hash", Self::LogHash),
    ];
    /// Servers that `random` draws when it is not said.
    pub const DRAWS: u32 = 2;

    /// As the `algo` column of the statistics has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random(_) => "random",
            Self::ShortestDelay => "sed",
            Self::NeverQueue => "nq",
            other => Self::NAMES.iter().find(|n| n.1 == other).map_or("unknown", |n| n.0),
        }
    }

    /// True if a key decides on the server, and nothing else may take its place.
    pub fn is_hash(self) -> bool {
        matches!(self, Self::Source | Self::Uri | Self::UrlParam | Self::Header | Self::Hash | Self::RdpCookie)
    }
}

/// The longest turn list kept; beyond it weights are scaled down.
const MAX_TURNS: usize = 4096;

/// Server indexes in the order of their turns: smooth weighted round robin over one whole cycle. Equal weights give 0, 1, 2, ...
pub fn turns(weights: &[u32]) -> Vec<u16> {
    let divisor = weights.iter().copied().filter(|w| *w > 0).fold(0, gcd).max(1);
    let mut w: Vec<i64> = weights.iter().map(|w| i64::from(w / divisor)).collect();
    let mut total: i64 = w.iter().sum();
    while total > i64::try_from(MAX_TURNS).unwrap_or(i64::MAX) {
        w.iter_mut().filter(|w| **w > 1).for_each(|w| *w /= 2);
        let next = w.iter().sum();
        if next == total {
            break;
        }
        total = next;
    }
    let mut current = vec![0i64; w.len()];
    (0..total)
        .filter_map(|_| {
            for (c, w) in current.iter_mut().zip(&w) {
                *c += w;
            }
            // The first of the largest wins, so that equal weights keep the order of the file.
            let mut best = None::<usize>;
            for i in (0..w.len()).filter(|i| w[*i] > 0) {
                if best.is_none_or(|b| current[i] > current[b]) {
                    best = Some(i);
                }
            }
            let b = best?;
            current[b] -= total;
            u16::try_from(b).ok()
        })
        .collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// What `leastconn` and `first` look at.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub weight: u32,
    /// Connections being served plus those queued for this server.
    pub conns: u32,
    /// 0 means no limit.
    pub maxconn: u32,
}

/// The least loaded relative to its weight; among equals the first at or after `start`, so that idle servers take turns.
pub fn least_conn(loads: &[Load], start: usize) -> Option<usize> {
    let n = loads.len();
    (0..n).map(|k| (start + k) % n.max(1)).filter(|i| loads[*i].weight > 0).min_by(|a, b| {
        let (a, b) = (&loads[*a], &loads[*b]);
        (u64::from(a.conns) * u64::from(b.weight)).cmp(&(u64::from(b.conns) * u64::from(a.weight)))
    })
}

/// As [`least_conn`], with the connection that is to come among those counted; `idle_first`: one without connections before all others.
pub fn shortest_delay(loads: &[Load], start: usize, idle_first: bool) -> Option<usize> {
    let n = loads.len();
    let around = || (0..n).map(|k| (start + k) % n.max(1)).filter(|i| loads[*i].weight > 0);
    let idle = around().find(|i| loads[*i].conns == 0).filter(|_| idle_first);
    idle.or_else(|| {
        around().min_by(|a, b| {
            let (a, b) = (&loads[*a], &loads[*b]);
            let delay = |x: &Load, y: &Load| (u64::from(x.conns) + 1) * u64::from(y.weight);
            delay(a, b).cmp(&delay(b, a))
        })
    })
}

/// The first server with a connection slot left.
pub fn first(loads: &[Load]) -> Option<usize> {
    loads.iter().position(|l| l.weight > 0 && (l.maxconn == 0 || l.conns < l.maxconn))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_weights_keep_the_order_and_others_their_share() {
        assert_eq!(turns(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(turns(&[100, 100]), [0, 1]);
        let t = turns(&[3, 1]);
        assert_eq!((t.iter().filter(|i| **i == 0).count(), t.len()), (3, 4));
        assert_eq!(turns(&[0, 5]), [1]);
        assert!(turns(&[]).is_empty() && turns(&[0]).is_empty());
        assert!(turns(&[256; 500]).len() <= 500);
    }

    #[test]
    fn least_conn_weighs_and_rotates() {
        let l = |weight, conns| Load { weight, conns, maxconn: 0 };
        assert_eq!(least_conn(&[l(1, 2), l(1, 1)], 0), Some(1));
        assert_eq!(least_conn(&[l(1, 0), l(1, 0)], 1), Some(1));
        assert_eq!(least_conn(&[l(1, 2), l(4, 4)], 0), Some(1));
        assert_eq!(least_conn(&[l(0, 0)], 0), None);
        assert_eq!(least_conn(&[], 0), None);
    }

    #[test]
    fn delays_count_what_is_to_come() {
        let l = |weight, conns| Load { weight, conns, maxconn: 0 };
        // Both idle: the heavier one answers sooner.
        assert_eq!(shortest_delay(&[l(1, 0), l(4, 0)], 0, false), Some(1));
        assert_eq!(shortest_delay(&[l(1, 0), l(4, 2)], 0, false), Some(1));
        assert_eq!(shortest_delay(&[l(1, 0), l(4, 2)], 0, true), Some(0));
        assert_eq!(shortest_delay(&[l(1, 1), l(4, 2)], 0, true), Some(1));
        assert_eq!(shortest_delay(&[l(0, 0)], 0, true), None);
    }

    #[test]
    fn first_fills_up() {
        let l = |conns, maxconn| Load { weight: 1, conns, maxconn };
        assert_eq!(first(&[l(2, 2), l(0, 2)]), Some(1));
        assert_eq!(first(&[l(2, 2)]), None);
    }
}
