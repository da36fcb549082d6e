//! Interfaces that come and go: a change counts once it has lasted (keepalived.conf(5), `interface_up_down_delays`).
use crate::config::model::Debounce;
use std::collections::HashMap;
use std::time::Instant;

/// What counts as the state of each interface, and what is under way.
#[derive(Debug, Default)]
pub struct Debouncer {
    delays: Vec<Debounce>,
    counts: HashMap<String, bool>,
    pending: HashMap<String, Instant>,
}

impl Debouncer {
    /// Delays after a reload; what is under way goes on.
    pub fn configure(&mut self, delays: &[Debounce]) {
        self.delays = delays.to_vec();
    }

    /// The interface is `up`, or is not, at `now`. Gives what counts.
    pub fn see(&mut self, name: &str, up: bool, now: Instant) -> bool {
        let Some(counts) = self.counts.get(name).copied() else {
            // The first time there is nothing that could bounce.
            self.counts.insert(name.to_owned(), up);
            return up;
        };
        if counts == up {
            self.pending.remove(name);
            return counts;
        }
        let delay = self
            .delays
            .iter()
            .find(|d| d.interface == name)
            .map_or_else(Default::default, |d| if up { d.up } else { d.down });
        if now >= *self.pending.entry(name.to_owned()).or_insert(now + delay) {
            self.pending.remove(name);
            self.counts.insert(name.to_owned(), up);
            return up;
        }
        counts
    }

    /// Interfaces whose time is over: they are to be looked at again.
    pub fn due(&self, now: Instant) -> Vec<String> {
        self.pending.iter().filter(|p| *p.1 <= now).map(|p| p.0.clone()).collect()
    }

    pub fn next(&self) -> Option<Instant> {
        self.pending.values().min().copied()
    }

    pub fn forget(&mut self, name: &str) {
        self.counts.remove(name);
        self.pending.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn only_what_lasts_counts() {
        let s = Duration::from_secs;
        let mut d = Debouncer::default();
        d.configure(&[Debounce { interface: "e".into(), down: s(2), up: s(3) }]);
        let t = Instant::now();
        assert!(d.see("e", true, t) && !d.see("other", false, t) && d.see("other", true, t));
        assert!(d.see("e", false, t));
        assert_eq!(d.next(), Some(t + s(2)));
        // It bounced.
        assert!(d.see("e", true, t + s(1)));
        assert_eq!(d.next(), None);
        assert!(d.see("e", false, t + s(2)));
        assert!(d.see("e", false, t + s(3)));
        assert_eq!(d.due(t + s(4)), ["e"]);
        assert!(!d.see("e", false, t + s(4)));
        assert!(!d.see("e", true, t + s(5)) && d.see("e", true, t + s(8)));
    }
}
