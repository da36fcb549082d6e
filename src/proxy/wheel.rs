//! One coarse deadline wheel a thread. Pushing a deadline back is a store; only a deadline that comes nearer is queued again.
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// Milliseconds a slot.
pub const TICK: u64 = 10;
const SLOTS: usize = 1024;
const NEVER: u64 = u64::MAX;
/// Entries, and places of a slot, that are kept for reuse.
const KEPT: usize = 1024;

struct Entry {
    /// Tick at which the timer is over.
    at: Cell<u64>,
    /// Tick of the slot the entry waits in, `NEVER` if it waits in none, and its place there.
    queued: Cell<u64>,
    place: Cell<usize>,
    waker: RefCell<Option<Waker>>,
    /// Its holder has nothing under way and may be told to go.
    idle: Cell<bool>,
}

pub struct Wheel {
    start: Instant,
    now: Cell<u64>,
    second: Cell<u64>,
    slots: RefCell<Vec<Vec<Rc<Entry>>>>,
    /// Entries that nobody holds any more, for whoever needs one next.
    free: RefCell<Vec<Rc<Entry>>>,
}

impl Default for Wheel {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            now: Cell::new(0),
            second: Cell::new(0),
            slots: RefCell::new((0..SLOTS).map(|_| Vec::new()).collect()),
            free: RefCell::default(),
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
            let slot = Self::slot(t);
            let mut due = std::mem::take(&mut self.slots.borrow_mut()[slot]);
            // None of them is in a slot now: with a waker a task may go, and with it a timer that is one of them.
            due.iter().for_each(|e| e.queued.set(NEVER));
            for e in due.drain(..) {
                let at = e.at.get();
                if at <= target {
                    if let Some(w) = e.waker.take() {
                        w.wake();
                    }
                } else if at != NEVER && Rc::strong_count(&e) > 1 {
                    self.queue(&e, at);
                }
            }
            // Its room is used again.
            let mut slots = self.slots.borrow_mut();
            if slots[slot].is_empty() && due.capacity() <= KEPT {
                slots[slot] = due;
            }
        }
    }

    fn queue(&self, e: &Rc<Entry>, at: u64) {
        // Beyond one turn it waits in the last slot of the turn and is queued again there.
        let tick = at.min(self.now.get() + SLOTS as u64 - 1);
        let slot = &mut self.slots.borrow_mut()[Self::slot(tick)];
        e.queued.set(tick);
        e.place.set(slot.len());
        slot.push(e.clone());
    }

    /// Takes an entry out of the slot that it waits in.
    fn unqueue(&self, e: &Entry) {
        let tick = e.queued.replace(NEVER);
        if tick == NEVER {
            return;
        }
        let slot = &mut self.slots.borrow_mut()[Self::slot(tick)];
        let place = e.place.get();
        slot.swap_remove(place);
        if let Some(moved) = slot.get(place) {
            moved.place.set(place);
        }
    }

    fn slot(tick: u64) -> usize {
        // Less than SLOTS.
        usize::try_from(tick % SLOTS as u64).unwrap_or(0)
    }

    /// Ends every wait that is marked idle: the worker drains.
    pub fn expire_idle(&self) {
        let idle = |e: &&Rc<Entry>| e.idle.get();
        self.slots.borrow().iter().flatten().filter(idle).for_each(|e| e.at.set(0));
        self.wake(idle);
    }

    /// Wakes whoever waits with a deadline, so that he looks again whether he is still wanted.
    pub fn wake_all(&self) {
        self.wake(|_| true);
    }

    /// With a waker a task may go, and its timers with it: no slot is borrowed then.
    fn wake(&self, wanted: impl Fn(&&Rc<Entry>) -> bool) {
        let all: Vec<Waker> = {
            let slots = self.slots.borrow();
            slots.iter().flatten().filter(wanted).filter_map(|e| e.waker.take()).collect()
        };
        all.into_iter().for_each(Waker::wake);
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

    /// Forgets entries that are kept for reuse.
    pub fn shrink(&self) {
        self.free.borrow_mut().clear();
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
            self.wheel.free.borrow_mut().pop().unwrap_or_else(|| {
                Rc::new(Entry {
                    at: Cell::new(NEVER),
                    queued: Cell::new(NEVER),
                    place: Cell::new(0),
                    waker: RefCell::new(None),
                    idle: Cell::new(false),
                })
            })
        });
        let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX / 4);
        // Never early: the present may be just before the next tick.
        let at = self.wheel.now.get() + ms.div_ceil(TICK) + 1;
        entry.at.set(at);
        if entry.queued.get() > at {
            self.wheel.unqueue(entry);
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
        let Some(e) = self.entry.take() else { return };
        e.at.set(NEVER);
        e.idle.set(false);
        self.wheel.unqueue(&e);
        // It would keep its task's memory.
        e.waker.take();
        let mut free = self.wheel.free.borrow_mut();
        if free.len() < KEPT {
            free.push(e);
        }
    }

    /// Waits for the deadline.
    pub async fn wait(&self) {
        std::future::poll_fn(|cx| if self.expired(cx) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending })
            .await;
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.release();
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

    #[test]
    fn a_timer_that_is_gone_keeps_nobody() {
        struct Task;
        impl std::task::Wake for Task {
            fn wake(self: std::sync::Arc<Self>) {}
        }
        let w = Rc::new(Wheel::default());
        let task = std::sync::Arc::new(Task);
        let waker = Waker::from(task.clone());
        let t = w.timer();
        t.set(Some(Duration::from_secs(5)));
        assert!(!t.expired(&Context::from_waker(&waker)));
        drop(waker);
        assert_eq!(std::sync::Arc::strong_count(&task), 2);
        drop(t);
        assert_eq!(std::sync::Arc::strong_count(&task), 1);
        // The next one takes its place, in time.
        let t = w.timer();
        t.set(Some(Duration::ZERO));
        let cx = Context::from_waker(Waker::noop());
        while w.start.elapsed() < Duration::from_millis(40) {
            std::hint::spin_loop();
        }
        w.advance();
        assert!(t.expired(&cx));
        assert!(w.free.borrow().is_empty());
    }
}
