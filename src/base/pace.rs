//! How much of a stream may pass now, for a limit of bytes in a period (configuration manual 9.8, `bwlim`). Times are in milliseconds.

/// The state of one stream.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Bytes in a period.
    limit: u64,
    period: u64,
    /// Fewer bytes than this do not pass alone, unless they are the last.
    min: u64,
    /// When the period that is counted began, what passed in it, and in the one before.
    began: u64,
    now: u64,
    before: u64,
    /// Nothing passes until then.
    until: u64,
}

/// What is beyond this, in bytes or milliseconds, is no limit that anybody would notice.
const MOST: u64 = 1 << 40;

impl Pace {
    /// `limit` and `period` are larger than 0.
    pub fn new(limit: u64, period: u64, min: u64) -> Self {
        let [limit, period] = [limit, period].map(|n| n.clamp(1, MOST));
        let min = min.min(MOST);
        Self { limit, period, min, began: 0, now: 0, before: 0, until: 0 }
    }

    /// Another limit for the same stream: what has passed counts on.
    pub fn set(&mut self, limit: u64, period: u64) {
        (self.limit, self.period, self.until) = (limit.clamp(1, MOST), period.clamp(1, MOST), 0);
    }

    fn count(&mut self, at: u64, n: u64) {
        if at.saturating_sub(self.began) < self.period {
            self.now += n;
            return;
        }
        (self.before, self.now) = (self.now, n);
        self.began += self.period;
        if at.saturating_sub(self.began) >= self.period {
            (self.before, self.began) = (0, at);
        }
    }

    /// What passed in the last period and `more`, times the period: the period before counts for its part that is not over.
    fn passed(&self, at: u64, more: u64) -> u64 {
        let end = self.began + self.period;
        let (rest, before, now) = match at {
            a if a <= end => (end - a, self.before, self.now),
            a if a <= end + self.period => (end + self.period - a, self.now, 0),
            _ => (0, 0, 0),
        };
        before.saturating_mul(rest).saturating_add((now + more).saturating_mul(self.period))
    }

    /// How many of `len` bytes may pass at `at`, and until when the rest has to wait. `last`: no more will come.
    pub fn allow(&mut self, at: u64, len: u64, last: bool) -> (u64, Option<u64>) {
        if at < self.until {
            return (0, Some(self.until));
        }
        self.until = 0;
        if len == 0 {
            return (0, None);
        }
        let wait = |ms: u64| Some(at.saturating_add(ms.max(1)));
        let since = at.saturating_sub(self.began);
        let due = since.saturating_mul(self.limit) / self.period;
        if since <= self.period && self.now > due {
            // More than its time allowed passed at once.
            let over = self.now - due;
            let then = wait((self.min + over).saturating_mul(self.period) / self.limit);
            self.until = then.unwrap_or(0);
            return (0, then);
        }
        let left = self.limit.saturating_sub(self.passed(at, 0) / self.period);
        if left >= len {
            self.count(at, len);
            return (len, None);
        }
        let (mut n, mut ms) = (left, 0);
        let least = if last { len.min(self.min) } else { self.min };
        if n < least && self.limit >= least {
            n = 0;
        }
        self.count(at, n);
        let then = self.passed(at, (len - n).min(self.min));
        let whole = self.limit.saturating_mul(self.period);
        if then >= whole {
            ms += ((then - whole) / self.limit).max(1);
        }
        let until = wait(ms);
        self.until = until.unwrap_or(0);
        (n, until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When each part of a body passed.
    fn run(mut p: Pace, mut len: u64) -> Vec<(u64, u64)> {
        let (mut at, mut parts) = (1_000_000, Vec::new());
        while len > 0 {
            let (n, until) = p.allow(at, len, true);
            if n > 0 {
                parts.push((at - 1_000_000, n));
                len -= n;
            }
            at = until.unwrap_or(at + 1);
        }
        parts
    }

    #[test]
    fn a_burst_and_then_an_even_flow() {
        let parts = run(Pace::new(10_000, 1000, 2896), 35_000);
        assert_eq!(parts[0], (0, 10_000));
        assert!((1285..=1295).contains(&parts[1].0), "{parts:?}");
        let (end, _) = parts[parts.len() - 1];
        assert!((3700..=3750).contains(&end), "{parts:?}");
        let parts = run(Pace::new(10_000, 1000, 0), 35_000);
        let (end, _) = parts[parts.len() - 1];
        assert!((3490..=3515).contains(&end), "{end}");
        // No period of a second sees more than the limit and what passes at once.
        for (from, _) in &parts {
            let sum: u64 = parts.iter().filter(|(t, _)| t >= from && *t < from + 1000).map(|p| p.1).sum();
            assert!(sum <= 10_100, "{from}: {sum}");
        }
    }

    #[test]
    fn what_fits_passes_at_once() {
        assert_eq!(run(Pace::new(1000, 1000, 0), 1000), [(0, 1000)]);
        assert_eq!(Pace::new(1000, 1000, 0).allow(5, 0, false), (0, None));
    }
}
