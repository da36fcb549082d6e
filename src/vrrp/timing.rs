//! Timers of a virtual router, in integers (RFC 3768 6.1, RFC 5798 6.1). Nothing here is a float: skew must not round to zero.
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V2,
    V3,
    /// Not VRRP at all, but with the same machine: priorities are `advskew` counted down from 254.
    Carp,
}

/// The wait before taking over: shorter for a higher priority. VRRPv2 skews over one second, VRRPv3 over the master's interval, CARP by its `advskew`.
pub fn skew(version: Version, priority: u8, master_interval: Duration) -> Duration {
    let (unit, whole) = match version {
        Version::V2 => (Duration::from_secs(1), 256),
        Version::V3 => (master_interval, 256),
        Version::Carp => (Duration::from_secs(1), 254),
    };
    unit * (whole - u32::from(priority).min(whole)) / 256
}

/// How often a master of this priority advertises: in VRRP as often as every other one, in CARP the less often the lower it is.
pub fn period(version: Version, priority: u8, interval: Duration) -> Duration {
    match version {
        Version::V2 | Version::V3 => interval,
        Version::Carp => interval + skew(version, priority, interval),
    }
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
        assert_eq!(period(Version::V2, 100, s), s);
        assert_eq!(period(Version::Carp, 254, s), s);
        assert_eq!(period(Version::Carp, 126, s), Duration::from_millis(1500));
        assert_eq!(skew(Version::Carp, 255, s), Duration::ZERO);
        assert_eq!(prompt(1), Duration::from_micros(10_200));
    }
}
