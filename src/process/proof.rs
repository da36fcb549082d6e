//! Proof of life: every worker thread advances an epoch in a shared page; the guardian reads it, and judges a thread that does not.
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One cache line a thread.
const STRIDE: usize = 64;
/// Every thread there can be, and the control thread.
const CELLS: usize = 128;
const LEN: NonZeroUsize = NonZeroUsize::new(CELLS * STRIDE).expect("not zero");

/// The page of epochs.
pub struct Page {
    ptr: std::ptr::NonNull<libc::c_void>,
}

/// Why a thread that has ended counts as hung.
pub const DEAD: &str = "is dead";

// SAFETY: the mapping is only used through atomics.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    /// Makes the page, sealed against resizing before anyone else has it: a truncated mapping would kill its reader.
    pub fn create() -> nix::Result<(Self, OwnedFd)> {
        use nix::fcntl::{FcntlArg, SealFlag, fcntl};
        let fd = nix::sys::memfd::memfd_create(
            c"tandem-proof",
            nix::sys::memfd::MFdFlags::MFD_CLOEXEC | nix::sys::memfd::MFdFlags::MFD_ALLOW_SEALING,
        )?;
        nix::unistd::ftruncate(&fd, i64::try_from(LEN.get()).unwrap_or(0))?;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL))?;
        Ok((Self::map(&fd)?, fd))
    }

    pub fn map(fd: impl AsFd) -> nix::Result<Self> {
        // SAFETY: a new shared mapping of a file whose size is sealed.
        let ptr =
            unsafe { mmap(None, LEN, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, fd, 0)? };
        Ok(Self { ptr })
    }

    fn cell(&self, thread: usize) -> &AtomicU64 {
        let at = (thread % CELLS) * STRIDE;
        // SAFETY: `at` is within the page and aligned; the mapping lives as long as `self`.
        unsafe { &*self.ptr.as_ptr().byte_add(at).cast::<AtomicU64>() }
    }

    pub fn advance(&self, thread: usize) {
        self.cell(thread).fetch_add(1, Ordering::Relaxed);
    }
    pub fn epoch(&self, thread: usize) -> u64 {
        self.cell(thread).load(Ordering::Relaxed)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped by us with this length, and not used any more.
        let _ = unsafe { munmap(self.ptr, LEN.get()) };
    }
}

/// How often the guardian looks.
pub const LOOK: Duration = Duration::from_millis(20);
/// A look later than this was itself disturbed, and does not count against anybody.
const ON_TIME: Duration = Duration::from_millis(40);
/// A thread that is stopped, or burns CPU without an epoch, is hung after this.
pub const HUNG: Duration = Duration::from_millis(120);
/// One that waits for a CPU, or sleeps in the kernel, only after this.
pub const STARVED: Duration = Duration::from_secs(1);

/// The control thread may be busy with a reload or with thousands of servers: what is alarming in a traffic thread is not yet in it.
const PATIENT: Duration = Duration::from_secs(5);

/// What `/proc` says of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sched {
    /// `R`, `S`, `D`, `T`, `t`, `Z`
    pub state: char,
    /// Time on a CPU.
    pub ran: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Alive,
    Hung(&'static str),
    /// Runnable but without a CPU: matters only if a better peer is there.
    Starved,
}

/// Follows one thread. Pure: times and facts come in.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    epoch: u64,
    /// Stall counted over looks that were on time.
    stalled: Duration,
    ran_at_stall: Option<Duration>,
    /// How long one may burn CPU, and how long it may wait.
    limits: [Duration; 2],
}

impl Default for Watch {
    fn default() -> Self {
        Self { epoch: u64::MAX, stalled: Duration::ZERO, ran_at_stall: None, limits: [HUNG, STARVED] }
    }
}

impl Watch {
    /// For the control thread.
    pub fn patient() -> Self {
        Self { limits: [PATIENT, PATIENT], ..Self::default() }
    }

    /// True if the facts of `/proc` are wanted: the epoch has stood still for a look; with patience, for a second, since a thread that has little to do
    /// moves it less often than one looks.
    pub fn wants_facts(&self, epoch: u64) -> bool {
        epoch == self.epoch && (self.limits[0] <= HUNG || self.stalled >= STARVED)
    }

    /// `gap`: time since the last look.
    pub fn look(&mut self, epoch: u64, gap: Duration, facts: Option<Sched>) -> Verdict {
        if epoch != self.epoch {
            *self = Self { epoch, limits: self.limits, ..Self::default() };
            return Verdict::Alive;
        }
        if gap <= ON_TIME {
            self.stalled += gap;
        }
        let [hung, starved] = self.limits;
        let Some(f) = facts else {
            // A thread that is not there any more has no facts.
            return if self.stalled >= starved { Verdict::Hung("is gone") } else { Verdict::Alive };
        };
        let since = *self.ran_at_stall.get_or_insert(f.ran);
        let ran = f.ran.saturating_sub(since);
        match f.state {
            'T' | 't' if self.stalled >= HUNG => Verdict::Hung("is stopped"),
            // It has had most of the time of the stall: it is not waiting for a CPU, it is in a loop.
            // On a crowded machine it takes longer to burn as much, but no turn of the event loop takes so much CPU.
            'R' if self.stalled >= hung && (ran >= self.stalled.mul_f32(0.6) || ran >= hung) => {
                Verdict::Hung("burns CPU in a loop")
            }
            'R' if self.stalled >= starved => Verdict::Starved,
            'S' | 'D' if self.stalled >= starved => Verdict::Hung("is blocked"),
            'Z' | 'X' => Verdict::Hung(DEAD),
            _ => Verdict::Alive,
        }
    }
}

/// Reads state and CPU time of a thread.
pub fn sched(pid: i32, tid: i32) -> Option<Sched> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).ok()?;
    let state = stat.rsplit_once(')')?.1.trim_start().chars().next()?;
    let ran = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).ok()?;
    let ns: u64 = ran.split_whitespace().next()?.parse().ok()?;
    Some(Sched { state, ran: Duration::from_nanos(ns) })
}

/// Measures the gaps between looks.
#[derive(Debug)]
pub struct Clock {
    last: Instant,
}

impl Clock {
    pub fn new(now: Instant) -> Self {
        Self { last: now }
    }
    pub fn gap(&mut self, now: Instant) -> Duration {
        let g = now.saturating_duration_since(self.last);
        self.last = now;
        g
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(looks: u32, gap_ms: u64, state: char, cpu_share: f64) -> Verdict {
        let mut w = Watch::default();
        w.look(1, LOOK, None);
        let mut v = Verdict::Alive;
        for i in 0..looks {
            let ran = Duration::from_secs_f64(f64::from(i) * gap_ms as f64 / 1000.0 * cpu_share);
            v = w.look(1, Duration::from_millis(gap_ms), Some(Sched { state, ran }));
        }
        v
    }

    #[test]
    fn hung_and_starved_are_told_apart() {
        assert!(matches!(run(7, 20, 'T', 0.0), Verdict::Hung(_)));
        assert_eq!(run(5, 20, 'T', 0.0), Verdict::Alive);
        assert!(matches!(run(8, 20, 'R', 1.0), Verdict::Hung(_)));
        assert_eq!(run(40, 20, 'R', 0.1), Verdict::Alive);
        // A quarter of a CPU is enough to give a loop away, only later.
        assert_eq!(run(20, 20, 'R', 0.25), Verdict::Alive);
        assert!(matches!(run(30, 20, 'R', 0.25), Verdict::Hung(_)));
        assert_eq!(run(51, 20, 'R', 0.1), Verdict::Starved);
        assert!(matches!(run(51, 20, 'S', 0.0), Verdict::Hung(_)));
    }

    #[test]
    fn late_looks_count_against_nobody() {
        assert_eq!(run(100, 200, 'T', 0.0), Verdict::Alive);
        assert_eq!(run(100, 200, 'R', 1.0), Verdict::Alive);
    }

    #[test]
    fn an_epoch_clears_the_slate() {
        let mut w = Watch::default();
        for i in 0..100 {
            assert_eq!(w.look(i / 4, LOOK, Some(Sched { state: 'T', ran: Duration::ZERO })), Verdict::Alive);
        }
    }

    #[test]
    fn the_page_is_shared_and_sealed() {
        let (page, fd) = Page::create().unwrap();
        let other = Page::map(&fd).unwrap();
        other.advance(3);
        assert_eq!((page.epoch(3), page.epoch(2)), (1, 0));
        assert!(nix::unistd::ftruncate(&fd, 0).is_err());
    }
}
