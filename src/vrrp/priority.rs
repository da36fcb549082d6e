//! The priority a router contends with: its base, and what its tracks add or take (keepalived.conf(5), "weight").

/// One tracked thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Track {
    pub weight: i32,
    pub reverse: bool,
    pub up: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// 1 to 254; 255 stays 255.
    pub priority: u8,
    /// A track without weight failed.
    pub failed: bool,
}

/// Base 255 (the owner) is not moved by weights, as in keepalived.
pub fn effective(base: u8, tracks: impl IntoIterator<Item = Track>) -> Outcome {
    let (mut sum, mut failed) = (i32::from(base), false);
    for t in tracks {
        let up = t.up != t.reverse;
        match t.weight {
            0 => failed |= !up,
            w if w > 0 && up => sum += w,
            w if w < 0 && !up => sum += w,
            _ => {}
        }
    }
    let priority = if base == 255 { 255 } else { u8::try_from(sum.clamp(1, 254)).unwrap_or(1) };
    Outcome { priority, failed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_add_when_up_and_take_when_down() {
        let t = |weight, up| Track { weight, reverse: false, up };
        let p = |base, tracks: &[Track]| effective(base, tracks.iter().copied());
        assert_eq!(p(100, &[t(2, true)]).priority, 102);
        assert_eq!(p(100, &[t(2, false)]).priority, 100);
        assert_eq!(p(100, &[t(-20, false)]).priority, 80);
        assert_eq!(p(100, &[t(-20, true)]), Outcome { priority: 100, failed: false });
        assert!(p(100, &[t(0, false)]).failed);
        assert_eq!(p(250, &[t(100, true)]).priority, 254);
        assert_eq!(p(10, &[t(-100, false)]).priority, 1);
        assert_eq!(p(255, &[t(-100, false)]).priority, 255);
    }
}
