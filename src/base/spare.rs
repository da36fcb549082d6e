//! Things that are kept for their next use. How many follows what was needed: of those that lay unused throughout a period, half are let go.

pub struct Spare<T> {
    /// The one given last is taken first, so that the first ones are those not needed.
    free: Vec<T>,
    most: usize,
    /// The fewest that lay here since the last [`Self::decay`].
    least: usize,
}

impl<T> Spare<T> {
    /// Keeps `most` of them.
    pub const fn new(most: usize) -> Self {
        Self { free: Vec::new(), most, least: 0 }
    }

    pub fn take(&mut self) -> Option<T> {
        let one = self.free.pop();
        self.least = self.least.min(self.free.len());
        one
    }

    /// Keeps it, or drops it if there are enough.
    pub fn give(&mut self, one: T) {
        if self.free.len() < self.most {
            self.free.push(one);
        }
    }

    /// Lets go of half of those that nobody took since the last call.
    pub fn decay(&mut self) {
        self.free.drain(..self.least.div_ceil(2));
        self.least = self.free.len();
    }

    /// Keeps so many at most.
    pub fn shrink(&mut self, to: usize) {
        self.free.truncate(to);
        self.least = self.least.min(self.free.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_not_needed_go_by_and_by() {
        let mut s = Spare::new(10);
        (0..12).for_each(|i| s.give(i));
        assert_eq!(s.free.len(), 10);
        // They have lain here for less than a period.
        s.decay();
        assert_eq!(s.free.len(), 10);
        // Four are in use at a time.
        for left in [7, 5, 4, 4] {
            let used: Vec<_> = (0..4).map_while(|_| s.take()).collect();
            used.into_iter().rev().for_each(|i| s.give(i));
            s.decay();
            assert_eq!(s.free.len(), left, "{:?}", s.free);
        }
        // Those taken last time are still here.
        assert_eq!(s.take(), Some(9));
        s.shrink(1);
        assert_eq!(s.free.len(), 1);
        s.decay();
        s.decay();
        assert_eq!(s.take(), None);
    }
}
