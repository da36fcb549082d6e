//! Announcements in a queue: no more at a time than a turn has room for, so that adverts keep their time, and no closer than the network bears
//! (keepalived.conf(5), `vrrp_garp_interval`, `vrrp_gna_interval`, `garp_group`).
use crate::config::model::Pace;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// As many frames go out before the rest of the engine has its turn: some 0.2 ms.
const BURST: usize = 64;

/// One announcement: of an address, on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    pub ifindex: u32,
    pub addr: IpAddr,
}

/// Interfaces that share a pace, for one of the two kinds of frames.
#[derive(Debug)]
struct Lane {
    /// Position of a group in the configuration, or an interface of its own.
    key: Result<usize, u32>,
    six: bool,
    gap: Duration,
    /// Not before.
    free_at: Instant,
    /// Each address once, with how often it is still to be announced: however often somebody asks, it does not grow.
    queue: VecDeque<(Job, u32)>,
}

#[derive(Debug, Default)]
pub struct Pacer {
    pace: Pace,
    lanes: Vec<Lane>,
}

impl Pacer {
    /// A new pace after a reload. True if what waited is dropped: the caller announces again.
    pub fn configure(&mut self, pace: &Pace) -> bool {
        let changed = self.pace != *pace;
        if changed {
            self.pace = pace.clone();
            self.lanes.clear();
        }
        changed
    }

    /// Puts so many announcements behind the others of its interface; those that wait already count.
    pub fn push(&mut self, now: Instant, ifname: &str, job: Job, times: u32) {
        if times == 0 {
            return;
        }
        let six = job.addr.is_ipv6();
        let group = self.pace.groups.iter().position(|g| g.interfaces.iter().any(|i| i == ifname));
        let key = group.ok_or(job.ifindex);
        let i = match self.lanes.iter().position(|l| l.key == key && l.six == six) {
            Some(i) => i,
            None => {
                let (arp, na) = match group {
                    Some(g) => (self.pace.groups[g].arp, self.pace.groups[g].na),
                    None => (self.pace.arp, self.pace.na),
                };
                let gap = if six { na } else { arp };
                self.lanes.push(Lane { key, six, gap, free_at: now, queue: VecDeque::new() });
                self.lanes.len() - 1
            }
        };
        match self.lanes[i].queue.iter_mut().find(|q| q.0 == job) {
            Some(q) => q.1 = q.1.max(times),
            None => self.lanes[i].queue.push_back((job, times)),
        }
    }

    /// What may go out at `now`, no more than a turn has room for.
    pub fn take(&mut self, now: Instant) -> Vec<Job> {
        let mut out = Vec::new();
        for l in &mut self.lanes {
            while l.free_at <= now && out.len() < BURST {
                let Some((j, times)) = l.queue.pop_front() else { break };
                out.push(j);
                if times > 1 {
                    l.queue.push_back((j, times - 1));
                }
                if !l.gap.is_zero() {
                    l.free_at = now + l.gap;
                }
            }
        }
        out
    }

    /// When something may go out.
    pub fn next(&self) -> Option<Instant> {
        self.lanes.iter().filter(|l| !l.queue.is_empty()).map(|l| l.free_at).min()
    }

    /// Addresses that are another's now: nothing more is said of them.
    pub fn forget(&mut self, lost: impl Fn(&IpAddr) -> bool) {
        for l in &mut self.lanes {
            l.queue.retain(|q| !lost(&q.0.addr));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::PaceGroup;

    fn job(ifindex: u32, n: u8) -> Job {
        Job { ifindex, addr: IpAddr::from([10, 0, 0, n]) }
    }

    #[test]
    fn a_turn_has_its_end_and_interfaces_share_a_switch() {
        let t = Instant::now();
        let mut p = Pacer::default();
        (0..200).for_each(|n| p.push(t, "a", job(1, n), 1));
        assert_eq!(p.take(t).len(), BURST);
        assert_eq!(p.next(), Some(t));
        p.forget(|a| *a != IpAddr::from([10, 0, 0, 199]));
        assert_eq!(p.take(t), [job(1, 199)]);
        assert_eq!(p.next(), None);
        let ms = Duration::from_millis;
        p.configure(&Pace {
            arp: ms(1),
            na: ms(0),
            groups: vec![PaceGroup { arp: ms(5), na: ms(0), interfaces: vec!["a".into(), "b".into()] }],
        });
        for (name, index) in [("a", 1), ("b", 2), ("c", 3)] {
            p.push(t, name, job(index, 1), 1);
            p.push(t, name, job(index, 2), 1);
        }
        assert_eq!(p.take(t), [job(1, 1), job(3, 1)]);
        assert_eq!(p.next(), Some(t + ms(1)));
        assert_eq!(p.take(t + ms(1)), [job(3, 2)]);
        assert_eq!(p.take(t + ms(5)), [job(1, 2)]);
        assert_eq!(p.take(t + ms(10)), [job(2, 1)]);
        // A flood of wishes is one wish.
        let mut p = Pacer::default();
        (0..1000).for_each(|_| p.push(t, "a", job(1, 1), 5));
        assert_eq!(p.take(t), [job(1, 1); 5]);
        assert_eq!(p.next(), None);
    }
}
