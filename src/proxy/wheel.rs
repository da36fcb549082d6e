//! One coarse deadline wheel a thread. Pushing a deadline back is a store; only a deadline that comes nearer is queued again.
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// Milliseconds a slot.
pub const TICK: u64 = 10;
const SLOTS: usize = 1024;
const NEVER: u64 = u64::MAX;

struct Entry {
    /// Tick at which the timer is over.
    at: Cell<u64>,
    /// Tick of the slot the entry waits in.
    queued: Cell<u64>,
    waker: RefCell<Option<Waker>>,
    /// Its holder has nothing under way and may be told to go.
    idle: Cell<bool>,
}

pub struct Wheel {
    start: Instant,
    now: Cell<u64>,
    second: Cell<u64>,
    slots: RefCell<Vec<Vec<Rc<Entry>>>>,
}

impl Default for Wheel {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            now: Cell::new(0),
            second: Cell::new(0),
            slots: RefCell::new((0..SLOTS).map(|_| Vec::new()).collect()),
        }
    }
}

impl Wheel {
    /// Moves to the present and wakes what is over.
    pub fn advance(&self) {
        let target = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(0) / TICK;
        let from = self.now.get();
        self.now.set(target);
        // After a long stall every slot is looked at once, not once per missed turn.
        let steps = (target - from).min(SLOTS as u64);
        for t in (target - steps + 1)..=target {
            let slot = usize::try_from(t % SLOTS as u64).unwrap_or(0);
            let due = std::mem::take(&mut self.slots.borrow_mut()[slot]);
            for e in due {
                // Queued again elsewhere since: this is an old entry of it.
                if e.queued.get() > target {
                    continue;
                }
                let at = e.at.get();
                if at == NEVER || Rc::strong_count(&e) == 1 {
                    e.queued.set(NEVER);
                } else if at <= target {
                    e.queued.set(NEVER);
                    if let Some(w) = e.waker.borrow_mut().take() {
                        w.wake();
                    }
                } else {
                    self.queue(&e, at);
                }
            }
        }
    }

    fn queue(&self, e: &Rc<Entry>, at: u64) {
        // Beyond one turn it waits in the last slot of the turn and is queued again there.
        let slot = at.min(self.now.get() + SLOTS as u64 - 1);
        e.queued.set(slot);
        self.slots.borrow_mut()[usize::try_from(slot % SLOTS as u64).unwrap_or(0)].push(e.clone());
    }

    /// Ends every wait that is marked idle: the worker drains.
    pub fn expire_idle(&self) {
        for e in self.slots.borrow().iter().flatten().filter(|e| e.idle.get()) {
            e.at.set(0);
            if let Some(w) = e.waker.borrow_mut().take() {
                w.wake();
            }
        }
    }

    /// Wakes whoever waits with a deadline, so that he looks again whether he is still wanted.
    pub fn wake_all(&self) {
        for e in self.slots.borrow().iter().flatten() {
            if let Some(w) = e.waker.borrow_mut().take() {
                w.wake();
            }
        }
    }

    /// The present tick.
    pub fn now(&self) -> u64 {
        self.now.get()
    }

    /// Milliseconds since the wheel was made, finer than its ticks.
    pub fn millis(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// True once for each second that began.
    pub fn second_passed(&self) -> bool {
        let s = self.now.get() * TICK / 1000;
        self.second.replace(s) != s
    }

    pub fn timer(self: &Rc<Self>) -> Timer {
        Timer { wheel: self.clone(), entry: OnceCell::new() }
    }
}

/// In place of no time-out at all, where a wait has to be on the wheel to be found by [`Wheel::wake_all`]: longer than any that can be configured.
pub const FOREVER: Duration = Duration::from_secs(30 * 86_400);

/// One deadline, moved as often as needed.
pub struct Timer {
    wheel: Rc<Wheel>,
    /// Made with the first deadline.
    entry: OnceCell<Rc<Entry>>,
}

impl Timer {
    /// Sets the deadline from now; `None` is never.
    pub fn set(&self, after: Option<Duration>) {
        let Some(after) = after else {
            if let Some(e) = self.entry.get() {
                e.at.set(NEVER);
            }
            return;
        };
        let entry = self.entry.get_or_init(|| {
            let (at, queued, idle) = (Cell::new(NEVER), Cell::new(NEVER), Cell::new(false));
            Rc::new(Entry { at, queued, waker: RefCell::new(None), idle })
        });
        let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX / 4);
        // Never early: the present may be just before the next tick.
        let at = self.wheel.now.get() + ms.div_ceil(TICK) + 1;
        entry.at.set(at);
        if entry.queued.get() > at {
            self.wheel.queue(entry, at);
        }
    }

    /// True when the deadline has passed; else the task is woken when it does.
    pub fn expired(&self, cx: &Context<'_>) -> bool {
        let Some(entry) = self.entry.get() else { return false };
        let at = entry.at.get();
        if at == NEVER {
            return false;
        }
        if at <= self.wheel.now.get() {
            return true;
        }
        let mut w = entry.waker.borrow_mut();
        if !w.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *w = Some(cx.waker().clone());
        }
        drop(w);
        if entry.queued.get() == NEVER {
            self.wheel.queue(entry, at);
        }
        false
    }

    /// The tick of the deadline; `u64::MAX` if there is none.
    pub fn deadline(&self) -> u64 {
        self.entry.get().map_or(NEVER, |e| e.at.get())
    }

    /// Marks the wait as one between requests.
    pub fn idle(&self, yes: bool) {
        if let Some(e) = self.entry.get() {
            e.idle.set(yes);
        }
    }

    /// Gives up the deadline and the memory it took.
    pub fn release(&mut self) {
        self.set(None);
        self.entry.take();
    }

    /// Waits for the deadline.
    pub async fn wait(&self) {
        std::future::poll_fn(|cx| if self.expired(cx) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending })
            .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_move_both_ways() {
        let w = Rc::new(Wheel::default());
        let t = w.timer();
        let cx = Context::from_waker(Waker::noop());
        t.set(Some(Duration::from_millis(50)));
        assert!(!t.expired(&cx));
        let until = |ms: u64| {
            while w.start.elapsed() < Duration::from_millis(ms) {
                std::hint::spin_loop();
            }
            w.advance();
        };
        until(30);
        assert!(!t.expired(&cx));
        t.set(Some(Duration::from_millis(100)));
        until(90);
        assert!(!t.expired(&cx));
        until(160);
        assert!(t.expired(&cx));
        t.set(None);
        assert!(!t.expired(&cx));
        t.set(Some(Duration::from_secs(100)));
        t.set(Some(Duration::ZERO));
        until(190);
        assert!(t.expired(&cx));
    }
}
