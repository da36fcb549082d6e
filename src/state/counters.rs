//! Counters: each worker thread has its own shard with one writer, and readers add the shards up.
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// More threads than this do not run (`nbthread`).
pub const MAX_THREADS: usize = 64;

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(0) };
}

/// Names the calling worker thread's shard, once, before it serves.
pub fn set_shard(n: usize) {
    SHARD.set(n % MAX_THREADS);
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counter { $($(#[$doc])* $name),* }
        pub const COUNTERS: usize = [$(stringify!($name)),*].len();
    };
}

counters! {
    /// Connections accepted (frontend, listener) or opened sessions (backend, server).
    Sessions,
    Requests,
    BytesIn,
    BytesOut,
    DeniedRequests,
    DeniedResponses,
    RequestErrors,
    ConnectErrors,
    ResponseErrors,
    Retries,
    Redispatches,
    ClientAborts,
    ServerAborts,
    Http1xx,
    Http2xx,
    Http3xx,
    Http4xx,
    Http5xx,
    HttpOther,
    /// Requests answered by the proxy itself.
    Intercepted,
    DeniedConnections,
    DeniedSessions,
    Connects,
    Reuses,
    Chosen,
    ChecksFailed,
    ChecksDown,
    SslSessions,
    FailedHandshakes,
    FailedRewrites,
    InternalErrors,
    /// Bytes of answers before and after they were compressed.
    CompressionIn,
    CompressionOut,
    /// Those that passed through as they were.
    CompressionBypassed,
    CompressedResponses,
    CacheLookups,
    CacheHits,
    /// Hints that were sent ahead of an answer.
    CacheHintHits,
    /// Connections that began as streams of bytes and became HTTP.
    Upgrades,
    /// Exchanges of HTTP/1, and those that are over. What is under way is the difference: they are never cleared.
    Begun,
    Ended,
    /// Bytes of HTTP/1 as they came in and went out, heads and chunk sizes included.
    H1In,
    H1Out,
    /// Those of them that were spliced.
    H1SplicedIn,
    H1SplicedOut,
}

#[repr(align(64))]
#[derive(Debug)]
struct Shard([AtomicU64; COUNTERS]);

/// The counters of one proxy, listener or server.
#[derive(Debug)]
pub struct Counters(Box<[Shard]>);

impl Counters {
    pub fn new(threads: usize) -> Self {
        Self((0..threads.clamp(1, MAX_THREADS)).map(|_| Shard(std::array::from_fn(|_| AtomicU64::new(0)))).collect())
    }

    #[inline]
    pub fn add(&self, c: Counter, n: u64) {
        let own = SHARD.get();
        // Hardly ever a division: there are twenty counts in a small request.
        let own = if own < self.0.len() { own } else { own % self.0.len() };
        let shard = &self.0[own].0[c as usize];
        // One writer a shard: no read-modify-write needed. A janitor thread that shares shard 0 may lose a count of a rare event.
        shard.store(shard.load(Relaxed).wrapping_add(n), Relaxed);
    }

    #[inline]
    pub fn inc(&self, c: Counter) {
        self.add(c, 1);
    }

    pub fn get(&self, c: Counter) -> u64 {
        self.0.iter().map(|s| s.0[c as usize].load(Relaxed)).sum()
    }

    pub fn clear(&self) {
        for s in &self.0 {
            let kept = [Counter::Begun as usize, Counter::Ended as usize];
            s.0.iter().enumerate().filter(|(i, _)| !kept.contains(i)).for_each(|(_, a)| a.store(0, Relaxed));
        }
    }

    pub fn http(&self, status: u16) {
        self.inc(match status / 100 {
            1 => Counter::Http1xx,
            2 => Counter::Http2xx,
            3 => Counter::Http3xx,
            4 => Counter::Http4xx,
            5 => Counter::Http5xx,
            _ => Counter::HttpOther,
        });
    }
}

/// A current value with its highest.
#[derive(Debug, Default)]
pub struct Gauge {
    now: AtomicU64,
    max: AtomicU64,
}

impl Gauge {
    pub fn up(&self) -> u64 {
        let n = self.now.fetch_add(1, Relaxed) + 1;
        if n > self.max.load(Relaxed) {
            self.max.fetch_max(n, Relaxed);
        }
        n
    }
    /// One more, unless there are `limit` already.
    pub fn up_below(&self, limit: u64) -> bool {
        let yes = self.reserve(limit);
        if yes {
            self.confirm();
        }
        yes
    }
    /// As [`Gauge::up_below`], for something that may not come: it counts for the highest value only once it is confirmed.
    pub fn reserve(&self, limit: u64) -> bool {
        self.now.fetch_update(Relaxed, Relaxed, |n| (n < limit).then_some(n + 1)).is_ok()
    }
    pub fn confirm(&self) {
        let n = self.get();
        if n > self.max.load(Relaxed) {
            self.max.fetch_max(n, Relaxed);
        }
    }
    pub fn down(&self) {
        self.now.fetch_sub(1, Relaxed);
    }
    pub fn get(&self) -> u64 {
        self.now.load(Relaxed)
    }
    pub fn max(&self) -> u64 {
        self.max.load(Relaxed)
    }
    pub fn clear_max(&self) {
        self.max.store(self.get(), Relaxed);
    }
}

/// Counts its holder in a gauge until it is dropped.
#[derive(Debug)]
pub struct Held<T: AsRef<Gauge>>(T);

impl<T: AsRef<Gauge>> Held<T> {
    /// Reserves a place, if there are fewer than `limit`.
    pub fn reserve(t: T, limit: u64) -> Option<Self> {
        t.as_ref().reserve(limit).then(|| Self(t))
    }
    pub fn confirm(&self) {
        self.0.as_ref().confirm();
    }
}

impl<T: AsRef<Gauge>> Drop for Held<T> {
    fn drop(&mut self) {
        self.0.as_ref().down();
    }
}

/// Events of the current and the last second, for the `rate` columns. Sampled once a second by the janitor.
#[derive(Debug, Default)]
pub struct Rate {
    last_total: AtomicU64,
    rate: AtomicU64,
    max: AtomicU64,
}

impl Rate {
    pub fn sample(&self, total: u64) {
        let before = self.last_total.swap(total, Relaxed);
        let r = total.saturating_sub(before);
        self.rate.store(r, Relaxed);
        self.max.fetch_max(r, Relaxed);
    }
    pub fn get(&self) -> u64 {
        self.rate.load(Relaxed)
    }
    pub fn max(&self) -> u64 {
        self.max.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_add_up() {
        let c = std::sync::Arc::new(Counters::new(4));
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let c = c.clone();
                std::thread::spawn(move || {
                    set_shard(n);
                    (0..1000).for_each(|_| c.inc(Counter::Requests));
                })
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(c.get(Counter::Requests), 4000);
    }
}
