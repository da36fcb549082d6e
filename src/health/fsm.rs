//! Rise and fall (configuration manual 5.2, `rise`, `fall`): a counter from 0 to rise+fall-1; `rise` and above is up.

/// What is held of a server before its first check (`init-state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitState {
    FullyUp,
    Up,
    Down,
    FullyDown,
}

impl InitState {
    pub fn is_up(self) -> bool {
        matches!(self, Self::FullyUp | Self::Up)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    pub rise: u32,
    pub fall: u32,
}

/// The counter of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    count: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    None,
    Up,
    Down,
}

impl Health {
    /// A server starts up, one failure away from down, so that a dead one is found with its first check.
    pub fn start(p: Params) -> Self {
        Self { count: p.rise }
    }
    /// As [`start`](Self::start), or as `init-state` says.
    pub fn begin(p: Params, init: Option<InitState>) -> Self {
        match init {
            None | Some(InitState::Up) => Self::start(p),
            Some(InitState::FullyUp) => Self::set(p, true),
            Some(InitState::Down) => Self { count: p.rise - 1 },
            Some(InitState::FullyDown) => Self::set(p, false),
        }
    }
    /// Takes it down to so much, without a failure: what `on-error` does first.
    pub fn lower_to(&mut self, most: u32) {
        self.count = self.count.min(most);
    }
    pub fn set(p: Params, up: bool) -> Self {
        Self { count: if up { p.rise + p.fall - 1 } else { 0 } }
    }
    /// The value as `show stat` and `show servers state` have it.
    pub fn count(self) -> u32 {
        self.count
    }
    pub fn is_up(self, p: Params) -> bool {
        self.count >= p.rise
    }

    pub fn passed(&mut self, p: Params) -> Change {
        let top = p.rise + p.fall - 1;
        if self.count >= p.rise {
            self.count = top;
            return Change::None;
        }
        self.count += 1;
        if self.count < p.rise {
            return Change::None;
        }
        self.count = top;
        Change::Up
    }

    pub fn failed(&mut self, p: Params) -> Change {
        if self.count > p.rise {
            self.count -= 1;
            return Change::None;
        }
        let was_up = self.count == p.rise;
        self.count = 0;
        if was_up { Change::Down } else { Change::None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    const P: Params = Params { rise: 2, fall: 3 };

    #[test]
    fn starts_one_failure_from_down() {
        assert_eq!(Health::start(P).failed(P), Change::Down);
    }

    #[test]
    fn falls_after_fall_and_rises_after_rise() {
        let mut h = Health::start(P);
        assert_eq!(h.passed(P), Change::None);
        assert_eq!([h.failed(P), h.failed(P), h.failed(P)], [Change::None, Change::None, Change::Down]);
        assert!(!h.is_up(P));
        assert_eq!(
            [h.passed(P), h.failed(P), h.passed(P), h.passed(P)],
            [Change::None, Change::None, Change::None, Change::Up]
        );
        assert_eq!(h.count(), 4);
    }
}
