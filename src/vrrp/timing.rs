//! Timers of a virtual router, in integers (RFC 3768 6.1, RFC 5798 6.1). Nothing here is a float: skew must not round to zero.
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V2,
    V3,
}

/// The wait before taking over: shorter for a higher priority. VRRPv2 skews over one second, VRRPv3 over the master's interval.
pub fn skew(version: Version, priority: u8, master_interval: Duration) -> Duration {
    let unit = match version {
        Version::V2 => Duration::from_secs(1),
        Version::V3 => master_interval,
    };
    unit * (256 - u32::from(priority)) / 256
}

/// Intervals of silence before the skew (RFC 9568 6.1); keepalived's `down_timer_adverts` says another number.
pub const DOWN_ADVERTS: u32 = 3;

/// How long silence must last before a backup takes the master for dead: `adverts` of its intervals (1 to 100) and the skew.
pub fn master_down(version: Version, priority: u8, master_interval: Duration, adverts: u32) -> Duration {
    master_interval * adverts + skew(version, priority, master_interval)
}

/// A node that can serve waits only this long after a priority-0 advert (at most 10.2 ms): long enough for the highest priority to be first.
pub fn prompt(priority: u8) -> Duration {
    Duration::from_micros(40) * (256 - u32::from(priority))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skews_differ_by_priority_in_both_versions() {
        let s = Duration::from_secs(1);
        assert_eq!(skew(Version::V2, 100, s), Duration::from_micros(609_375));
        assert_eq!(skew(Version::V3, 100, Duration::from_millis(50)), Duration::from_nanos(30_468_750));
        assert!((1..255).all(|p| skew(Version::V3, p, s) > skew(Version::V3, p + 1, s)));
        assert_eq!(master_down(Version::V2, 254, s, DOWN_ADVERTS), Duration::from_nanos(3_007_812_500));
        assert_eq!(prompt(1), Duration::from_micros(10_200));
    }
}
