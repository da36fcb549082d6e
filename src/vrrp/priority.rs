//! The priority a router contends with: its base, and what its tracks add or take (keepalived.conf(5), "weight").

/// How one tracked thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Up,
    Down,
    /// What a tracked file says.
    Value(i64),
}

/// What one tracked thing comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Points {
    /// Added to the priority, -253 to 253.
    pub sum: i32,
    /// It is tracked without a weight, and failed; or a file's value took more than a priority has.
    pub failed: bool,
}

/// The most that a priority can be moved by.
const MOST: i64 = 253;

impl Level {
    /// | weight | `reverse` | up | down |
    /// |---|---|---|---|
    /// | > 0 | no | + | |
    /// | < 0 | no | | - |
    /// | > 0 | yes | - | |
    /// | < 0 | yes | | + |
    ///
    /// Weight 0: down is a failure, or up is with `reverse`. A file's value is multiplied by the weight, and taken with `reverse`.
    pub fn points(self, weight: i32, reverse: bool) -> Points {
        let turned = |sum: i32| if reverse { -sum } else { sum };
        match (self, weight) {
            (Self::Up, 0) => Points { sum: 0, failed: reverse },
            (Self::Down, 0) => Points { sum: 0, failed: !reverse },
            (Self::Up, w @ 1..) | (Self::Down, w @ ..=-1) => Points { sum: turned(w), failed: false },
            (Self::Up | Self::Down, _) => Points::default(),
            (Self::Value(v), 0) => Points { sum: 0, failed: (v != 0) != reverse },
            (Self::Value(v), w) => {
                let product = v.saturating_mul(i64::from(w));
                let product = if reverse { product.saturating_neg() } else { product };
                let sum = i32::try_from(product.clamp(-MOST, MOST)).unwrap_or(0);
                Points { sum, failed: product < -MOST }
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// 1 to 254; 255 stays 255.
    pub priority: u8,
    /// A track without weight failed.
    pub failed: bool,
}

/// Base 255 (the owner) is not moved by weights, as in keepalived.
pub fn effective(base: u8, tracks: impl IntoIterator<Item = Points>) -> Outcome {
    let (mut sum, mut failed) = (i32::from(base), false);
    for t in tracks {
        sum += t.sum;
        failed |= t.failed;
    }
    let priority = if base == 255 { 255 } else { u8::try_from(sum.clamp(1, 254)).unwrap_or(1) };
    Outcome { priority, failed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Level::{Down, Up, Value};

    #[test]
    fn weights_add_when_up_and_take_when_down() {
        let p = |base, tracks: &[(Level, i32, bool)]| {
            effective(base, tracks.iter().map(|(level, weight, reverse)| level.points(*weight, *reverse)))
        };
        assert_eq!(p(100, &[(Up, 2, false)]).priority, 102);
        assert_eq!(p(100, &[(Down, 2, false)]).priority, 100);
        assert_eq!(p(100, &[(Down, -20, false)]).priority, 80);
        assert_eq!(p(100, &[(Up, -20, false)]), Outcome { priority: 100, failed: false });
        assert!(p(100, &[(Down, 0, false)]).failed);
        assert_eq!(p(250, &[(Up, 100, false)]).priority, 254);
        assert_eq!(p(10, &[(Down, -100, false)]).priority, 1);
        assert_eq!(p(255, &[(Down, -100, false)]).priority, 255);
        assert_eq!(p(200, &[(Up, 100, false), (Down, -100, false)]).priority, 200);
    }

    /// What keepalived 2.2.7 was seen to do.
    #[test]
    fn reversed_weights() {
        let p = |level: Level, weight| level.points(weight, true);
        assert_eq!(p(Up, 10).sum, -10);
        assert_eq!(p(Down, 10).sum, 0);
        assert_eq!(p(Up, -10).sum, 0);
        assert_eq!(p(Down, -10).sum, 10);
        assert!(p(Up, 0).failed && !p(Down, 0).failed);
    }

    /// 7 with weight 2 made 114 of 100 there, with weight 3 and `reverse` 79; with weight 0 it was a failure.
    #[test]
    fn files_multiply() {
        assert_eq!(Value(7).points(2, false).sum, 14);
        assert_eq!(Value(7).points(3, true).sum, -21);
        assert!(Value(7).points(0, false).failed && !Value(0).points(0, false).failed);
        assert_eq!(Value(-254).points(1, false), Points { sum: -253, failed: true });
        assert_eq!(Value(i64::MAX).points(i32::MAX, false), Points { sum: 253, failed: false });
        assert!(Value(i64::MIN).points(2, false).failed);
    }
}
