//! Backends of logs (`mode log`): one server has a message, by turns, by chance, by what the message says, or always the same one.
use super::live::lock;
use super::snapshot::ProxyNode;
use crate::balance::{Algorithm, hash, turns};
use crate::config::model::HashKey;
use crate::log::ring::Ring;
use crate::log::{Deliver, Line, Outlet, ring_event};
use crate::rules::sample::Traffic;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

#[derive(Debug)]
pub struct LogBackend {
    node: Arc<ProxyNode>,
    /// Of each server: where its messages wait for a stream. None: it gets datagrams.
    rings: Vec<Option<Arc<Ring>>>,
    turn: AtomicUsize,
    /// The order in which `sticky` prefers servers: who comes back stands behind.
    order: Mutex<Vec<usize>>,
}

impl LogBackend {
    pub fn new(node: Arc<ProxyNode>, rings: Vec<Option<Arc<Ring>>>) -> Self {
        Self { node, rings, turn: AtomicUsize::new(0), order: Mutex::new(Vec::new()) }
    }

    fn choose(&self, message: &[u8]) -> Option<usize> {
        let mut weights = vec![0; self.node.servers.len()];
        self.node.candidates(|i, s| weights[i] = s.live.effective_weight());
        let algorithm = self.node.conf.balance.unwrap_or(Algorithm::Random(1));
        if algorithm == Algorithm::Sticky {
            let mut order = lock(&self.order);
            order.retain(|i| weights[*i] > 0);
            // Who is new here came up in this order.
            let mut new: Vec<usize> = (0..weights.len()).filter(|i| weights[*i] > 0 && !order.contains(i)).collect();
            new.sort_by_key(|i| self.node.servers[*i].live.changed_at());
            order.extend(new);
            return order.first().copied();
        }
        let turns = match algorithm {
            Algorithm::RoundRobin => in_a_row(&weights),
            Algorithm::LogHash => hash::map(&weights),
            _ => turns(&weights),
        };
        let at = match algorithm {
            Algorithm::RoundRobin => self.turn.fetch_add(1, Relaxed),
            Algorithm::LogHash => {
                let HashKey::Sample(e) = &self.node.conf.hash_key else { return None };
                let message = Message(message);
                let key = e.eval(&message)?;
                usize::try_from(self.node.conf.hash_type.of(&key.text())).ok()?
            }
            // By chance: the hash of a number that is never the same.
            _ => usize::try_from(hash::avalanche(u32::try_from(self.turn.fetch_add(1, Relaxed) & 0xffff_ffff).ok()?))
                .ok()?,
        };
        turns.get(at.checked_rem(turns.len())?).map(|i| usize::from(*i))
    }
}

/// Each server as often as it weighs, one after the other.
fn in_a_row(weights: &[u32]) -> Vec<u16> {
    let each = weights.iter().enumerate();
    each.flat_map(|(i, w)| std::iter::repeat_n(u16::try_from(i).unwrap_or(0), usize::try_from(*w).unwrap_or(0)))
        .collect()
}

impl Deliver for LogBackend {
    fn deliver(&self, out: &mut Outlet<'_>, line: Line<'_>, most: usize) -> bool {
        let Some(i) = self.choose(line.message) else { return false };
        if let Some(ring) = &self.rings[i] {
            ring_event(ring, line, most, out.frame);
            return true;
        }
        let s = &self.node.servers[i];
        let set = *lock(&s.live.addr);
        let Some(ip) = set.map(|a| a.0).or(s.conf.ip) else { return false };
        let port = set.and_then(|a| a.1).or(match s.conf.port {
            crate::config::model::PortRule::Fixed(p) => Some(p),
            _ => None,
        });
        out.datagram(SocketAddr::new(ip, port.unwrap_or(SYSLOG)), line, most)
    }
}

/// The port of syslog.
const SYSLOG: u16 = 514;

/// A message as converters see it.
struct Message<'a>(&'a [u8]);

impl Traffic for Message<'_> {
    fn payload(&self) -> (&[u8], bool) {
        (self.0, true)
    }
    fn backend(&self) -> &str {
        ""
    }
    fn server(&self) -> &str {
        ""
    }
}
