//! Ceilings that files set and operators change: connections at a time, and events a second (`maxconnrate`, `rate-limit sessions`).
use super::live::lock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A ceiling. What an operator set counts until a configuration says something else than the one before it.
#[derive(Debug, Default)]
pub struct Limit {
    said: AtomicU64,
    now: AtomicU64,
}

impl Limit {
    pub fn new(said: u64) -> Self {
        Self { said: AtomicU64::new(said), now: AtomicU64::new(said) }
    }
    /// A configuration with this value is in force.
    pub fn adopt(&self, said: u64) {
        if self.said.swap(said, Relaxed) != said {
            self.now.store(said, Relaxed);
        }
    }
    pub fn set(&self, n: u64) {
        self.now.store(n, Relaxed);
    }
    pub fn get(&self) -> u64 {
        self.now.load(Relaxed)
    }
}

/// The length of a period, in milliseconds.
const PERIOD: u64 = 1_000;

/// Events of this period and the one before.
#[derive(Debug, Default)]
struct Periods {
    /// When this one began.
    since: u64,
    here: u64,
    before: u64,
}

impl Periods {
    fn turn(&mut self, now: u64) {
        match now.saturating_sub(self.since) {
            0..PERIOD => {}
            gone @ PERIOD..2_000 => {
                (self.before, self.here) = (self.here, 0);
                self.since += gone - gone % PERIOD;
            }
            _ => (self.since, self.before, self.here) = (now, 0, 0),
        }
    }

    /// Events of the last second: of the period before, what of it belongs to that.
    fn last_second(&self, now: u64) -> u64 {
        let left = PERIOD - now.saturating_sub(self.since).min(PERIOD);
        self.here + (self.before * left).div_ceil(PERIOD)
    }
}

/// So many events a second, as HAProxy counts them: within any second, not from one to the next.
#[derive(Debug, Default)]
pub struct Ceiling {
    /// 0: there is none.
    pub limit: Limit,
    seen: Mutex<Periods>,
}

impl Ceiling {
    /// Takes the place of one event, `now` in milliseconds; false if there were enough. Without a ceiling nothing is counted, or locked.
    pub fn take(&self, now: impl FnOnce() -> u64) -> bool {
        let most = self.limit.get();
        if most == 0 {
            return true;
        }
        let now = now();
        let mut p = lock(&self.seen);
        p.turn(now);
        let yes = p.last_second(now) < most;
        p.here += u64::from(yes);
        yes
    }

    /// The event did not come, or does not count.
    pub fn give_back(&self) {
        if self.limit.get() > 0 {
            let mut p = lock(&self.seen);
            p.here = p.here.saturating_sub(1);
        }
    }
}

/// The ceilings of the process.
#[derive(Debug, Default)]
pub struct Limits {
    pub maxconn: Limit,
    /// `maxconnrate`
    pub connections: Ceiling,
    /// `maxsessrate`
    pub sessions: Ceiling,
    /// `maxsslrate`
    pub tls: Ceiling,
    /// `maxcomprate`: bytes of content compressed a second; 0 is no limit.
    pub compression: Limit,
}

impl Limits {
    /// True if there are so many a second of anything.
    pub fn any(&self) -> bool {
        [&self.connections, &self.sessions, &self.tls].iter().any(|c| c.limit.get() > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_has_more() {
        let c = Ceiling { limit: Limit::new(10), ..Ceiling::default() };
        let mut taken: Vec<u64> = Vec::new();
        // Somebody tries every millisecond, for ten seconds.
        for now in 5_400..15_400 {
            if c.take(|| now) {
                taken.push(now);
            }
        }
        let most = (5_400..14_400u64).map(|t| taken.iter().filter(|x| (t..t + 1_000).contains(*x)).count()).max();
        // What is left of a period is an average: one more may slip in.
        assert!(most <= Some(11), "{most:?}: {taken:?}");
        assert!(taken.len() >= 90, "{}", taken.len());
        // Nor has one that lies across two periods.
        let c = Ceiling { limit: Limit::new(10), ..Ceiling::default() };
        assert!(c.take(|| 5_400));
        let across = (6_300..6_500).filter(|now| c.take(|| *now)).count();
        assert!(across <= 11, "{across}");
        c.give_back();
        assert!(Ceiling::default().take(|| unreachable!()));
    }

    #[test]
    fn operators_count_until_files_change() {
        let l = Limit::new(5);
        l.set(7);
        l.adopt(5);
        assert_eq!(l.get(), 7);
        l.adopt(6);
        assert_eq!(l.get(), 6);
    }
}
