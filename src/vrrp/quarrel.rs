//! Things that somebody else keeps taking away: when each is put back, and what is said of it.
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// After the second time it waits this long before it is put back, and twice as long each time.
const BACK_OFF: Duration = Duration::from_millis(25);
/// So often is a quarrel.
const OFTEN: u32 = 4;
/// After this long it is forgotten.
const CALM: Duration = Duration::from_secs(10);
/// What is known by now is said again once in this time.
const AGAIN: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Quarrel(HashMap<String, Lost>);

#[derive(Debug)]
struct Lost {
    last: Instant,
    times: u32,
    said: Instant,
}

impl Quarrel {
    /// `what` was taken away: how long to wait before it is put back, and what there is to say.
    pub fn lost(&mut self, what: &str, now: Instant) -> (Duration, Option<String>) {
        let l = self.0.entry(what.to_owned()).or_insert(Lost { last: now, times: 0, said: now });
        if now.saturating_duration_since(l.last) > CALM.max(wait(l.times) * 2) {
            l.times = 0;
        }
        let wait = wait(l.times);
        let how = if wait.is_zero() { "put back".to_owned() } else { format!("put back in {} ms", wait.as_millis()) };
        let text = match l.times {
            0..OFTEN => Some(format!("{what} was removed by somebody else: {how}")),
            n if n == OFTEN || now.saturating_duration_since(l.said) >= AGAIN => Some(format!(
                "{what} keeps being removed by somebody else: look for another program that manages the network; {how}"
            )),
            _ => None,
        };
        l.last = now;
        l.times = l.times.saturating_add(1);
        if text.is_some() {
            l.said = now;
        }
        (wait, text)
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn wait(times: u32) -> Duration {
    times.checked_sub(1).map_or(Duration::ZERO, |n| BACK_OFF * (1u32 << n.min(7)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_takes_longer_and_calm_is_forgiven() {
        let (mut q, mut now) = (Quarrel::default(), Instant::now());
        let waits: Vec<u128> = (0..11).map(|_| q.lost("x", now).0.as_millis()).collect();
        assert_eq!(waits, [0, 25, 50, 100, 200, 400, 800, 1600, 3200, 3200, 3200]);
        assert_eq!(q.lost("y", now).0, Duration::ZERO);
        now += CALM + Duration::from_millis(1);
        assert_eq!(q.lost("x", now).0, Duration::ZERO);
    }

    #[test]
    fn a_quarrel_is_said_once_a_minute() {
        let (mut q, begun) = (Quarrel::default(), Instant::now());
        let said = (0..1200).filter(|n| q.lost("x", begun + Duration::from_millis(200) * *n).1.is_some()).count();
        // Four single losses, the quarrel, and three minutes of it.
        assert_eq!(said, 4 + 1 + 3);
        q.clear();
        assert!(q.is_empty());
    }
}
