//! Rings of events (configuration manual 3.7): the last ones in a fixed room, for whoever asks and for servers that have not got them yet.
//!
//! Laid out as HAProxy lays out its rings, so that a backing file is read by the same tools: records of a length, the event, and a zero, one behind
//! the other around the area. An event is copied in under a lock that nobody holds longer than such a copy takes (and a write to the page cache where
//! there is a backing file); only traffic that logs to a ring meets it.
use crate::config::model::{RING_HEADER, Ring as Conf};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Who reads a ring and has not read all.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct ReaderId(usize);

#[derive(Debug)]
pub struct Ring {
    pub conf: std::sync::Arc<Conf>,
    events: Mutex<Events>,
    /// Events that found no room.
    pub dropped: AtomicU64,
    more: Notify,
    /// Somebody waits for `more`: else nobody has to be woken.
    awaited: AtomicBool,
}

#[derive(Debug)]
struct Events {
    area: Box<[u8]>,
    /// Bytes written since the beginning, up to the oldest event that is there and up to the end of the newest.
    head: u64,
    tail: u64,
    /// Where each reader stands.
    readers: Vec<Option<u64>>,
    /// Where readers with a name stood when they went, for when they come back.
    marks: HashMap<String, u64>,
    /// Lost since the last one that was not.
    lost: u64,
    file: Option<File>,
}

impl Ring {
    /// Opens the backing file, if there is one. What it held before is kept beside it, as `<path>.bak`.
    pub fn open(conf: std::sync::Arc<Conf>) -> Result<Self, String> {
        let mut file = None;
        if let Some(path) = &conf.backing_file {
            let say = |e: std::io::Error| {
                format!("ring '{}' : cannot use backing file '{path}' : {}", conf.name, crate::base::diag::io_words(&e))
            };
            if holds_events(path) {
                std::fs::rename(path, format!("{path}.bak")).map_err(say)?;
            }
            use std::os::unix::fs::OpenOptionsExt;
            let f = File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(path);
            let f = f.map_err(say)?;
            f.set_len(conf.size as u64).map_err(say)?;
            file = Some(f);
        }
        Ok(Self::with(conf, file))
    }

    fn with(conf: std::sync::Arc<Conf>, file: Option<File>) -> Self {
        let size = conf.size;
        let e = Events {
            area: vec![0; size.saturating_sub(RING_HEADER).max(1)].into_boxed_slice(),
            // One byte stands before the first record: the end of none.
            head: 1,
            tail: 1,
            readers: Vec::new(),
            marks: HashMap::new(),
            lost: 0,
            file,
        };
        e.note();
        Self {
            conf,
            events: Mutex::new(e),
            dropped: AtomicU64::new(0),
            more: Notify::new(),
            awaited: AtomicBool::new(false),
        }
    }

    /// The ring that is always there: a mebibyte, which takes no memory until something is put in.
    pub fn buf0() -> Self {
        let place = crate::base::diag::Place::default();
        let conf = Conf {
            name: "buf0".to_owned(),
            description: "in-memory ring buffer".to_owned(),
            form: Some(crate::config::model::LogForm::Timed),
            max_len: 1024,
            size: 1 << 20,
            backing_file: None,
            proxy: Box::new(crate::config::model::Proxy::new(
                place.clone(),
                "buf0",
                crate::config::model::Kind::Backend,
            )),
            place,
        };
        Self::with(std::sync::Arc::new(conf), None)
    }

    fn lock(&self) -> MutexGuard<'_, Events> {
        // Each change of the area is whole before anything can panic.
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event; false if a reader has not read what would have to go for it. `missed` makes the event that tells of those that were lost.
    pub fn write(&self, event: &[u8], missed: &dyn Fn(&str, &mut Vec<u8>)) -> bool {
        let mut e = self.lock();
        if e.lost > 0 {
            let text = format!("{} event{} dropped", e.lost, if e.lost == 1 { "" } else { "s" });
            let mut record = Vec::new();
            missed(&text, &mut record);
            if !e.room(event.len().saturating_add(record.len()) + 2 * MOST_AROUND) || !e.append(&record) {
                e.lost += 1;
                self.dropped.fetch_add(1, Relaxed);
                return false;
            }
            e.lost = 0;
        }
        let done = e.append(event);
        if !done {
            e.lost += 1;
            self.dropped.fetch_add(1, Relaxed);
        }
        drop(e);
        if done && self.awaited.load(Relaxed) && self.awaited.swap(false, Relaxed) {
            self.more.notify_waiters();
        }
        done
    }

    /// A reader that begins with the oldest event, or behind the newest. Nothing is overwritten that it has not read.
    pub fn attach(&self, at_end: bool) -> ReaderId {
        let mut e = self.lock();
        let at = if at_end { e.tail } else { e.head };
        e.enter(at)
    }

    /// A reader that goes on where the last one of this name has stopped, as far as those events are still there.
    pub fn attach_as(&self, name: &str) -> ReaderId {
        let mut e = self.lock();
        let at = e.marks.remove(name).unwrap_or(0).max(e.head);
        e.enter(at)
    }

    /// As [`detach`](Ring::detach), for a reader that may come back.
    pub fn detach_as(&self, r: ReaderId, name: &str) {
        let mut e = self.lock();
        if let Some(at) = e.readers[r.0].take() {
            e.marks.insert(name.to_owned(), at);
        }
    }

    pub fn detach(&self, r: ReaderId) {
        self.lock().readers[r.0] = None;
    }

    /// The events that a reader has not seen, each given to `take`, until there is no other or it says that it is enough; true if there was one.
    pub fn read(&self, r: ReaderId, take: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let mut e = self.lock();
        let mut at = e.readers[r.0].unwrap_or(e.tail);
        let begun = at;
        let mut event = Vec::new();
        while at < e.tail {
            at = e.record(at, &mut event);
            if !take(&event) {
                break;
            }
        }
        e.readers[r.0] = Some(at);
        at != begun
    }

    /// Until there is something that this reader has not seen.
    pub async fn wait(&self, r: ReaderId) {
        loop {
            let notified = self.more.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            self.awaited.store(true, Relaxed);
            {
                let e = self.lock();
                if e.readers[r.0].is_some_and(|at| at < e.tail) {
                    return;
                }
            }
            notified.await;
        }
    }
}

/// Bytes around an event: its length and the zero.
const MOST_AROUND: usize = 11;

impl Events {
    fn enter(&mut self, at: u64) -> ReaderId {
        match self.readers.iter().position(Option::is_none) {
            Some(free) => {
                self.readers[free] = Some(at);
                ReaderId(free)
            }
            None => {
                self.readers.push(Some(at));
                ReaderId(self.readers.len() - 1)
            }
        }
    }

    fn len(&self) -> u64 {
        self.area.len() as u64
    }

    /// Makes room by forgetting the oldest events, though none that a reader still wants.
    fn room(&mut self, need: usize) -> bool {
        let need = need as u64;
        if need > self.len() {
            return false;
        }
        let unread = self.readers.iter().flatten().min().copied().unwrap_or(u64::MAX);
        let mut event = Vec::new();
        while self.tail - self.head + need > self.len() {
            if self.head >= unread {
                return false;
            }
            self.head = self.record(self.head, &mut event);
        }
        true
    }

    fn append(&mut self, event: &[u8]) -> bool {
        let mut record = Vec::with_capacity(event.len() + MOST_AROUND);
        push_length(event.len() as u64, &mut record);
        record.extend_from_slice(event);
        record.push(0);
        if !self.room(record.len()) {
            return false;
        }
        let at = self.place(self.tail);
        let first = record.len().min(self.area.len() - at);
        self.area[at..at + first].copy_from_slice(&record[..first]);
        self.area[..record.len() - first].copy_from_slice(&record[first..]);
        if let Some(f) = &self.file {
            // What cannot be written is lost with the process only.
            let _ = f.write_all_at(&record[..first], (RING_HEADER + at) as u64);
            let _ = f.write_all_at(&record[first..], RING_HEADER as u64);
        }
        self.tail += record.len() as u64;
        self.note();
        true
    }

    /// Where a byte is in the area.
    fn place(&self, at: u64) -> usize {
        // Less than the area's length, which is a usize.
        usize::try_from(at % self.len()).unwrap_or(0)
    }

    /// Reads the event at a place; where the next one begins.
    fn record(&self, at: u64, event: &mut Vec<u8>) -> u64 {
        let byte = |n: u64| self.area[self.place(at + n)];
        let (mut n, mut len) = (1, u64::from(byte(0)));
        if len >= 240 {
            let mut shift = 4;
            loop {
                let b = u64::from(byte(n));
                n += 1;
                len += b << shift;
                shift += 7;
                if b < 128 || shift > 60 {
                    break;
                }
            }
        }
        event.clear();
        let from = self.place(at + n);
        let len_here = usize::try_from(len).unwrap_or(0).min(self.area.len());
        let first = len_here.min(self.area.len() - from);
        event.extend_from_slice(&self.area[from..from + first]);
        event.extend_from_slice(&self.area[..len_here - first]);
        at + n + len + 1
    }

    /// Writes the file's header: size, header's length, tail and head, as they stand in HAProxy's.
    fn note(&self) {
        let Some(f) = &self.file else { return };
        let mut h = [0u8; RING_HEADER];
        h[..8].copy_from_slice(&self.len().to_le_bytes());
        h[8..16].copy_from_slice(&(RING_HEADER as u64).to_le_bytes());
        h[64..72].copy_from_slice(&(self.tail % self.len()).to_le_bytes());
        // It stands on the end of the record before.
        h[128..136].copy_from_slice(&((self.head - 1) % self.len()).to_le_bytes());
        let _ = f.write_all_at(&h, 0);
    }
}

/// True if a backing file of ours, or of HAProxy's, has any.
fn holds_events(path: &str) -> bool {
    let mut h = [0u8; RING_HEADER];
    let read = File::open(path).and_then(|f| f.read_exact_at(&mut h, 0));
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| h[at + i]));
    // Behind the end of the last record stands the next one, if there is one.
    read.is_ok() && number(64) != number(128) + 1
}

/// A number in one byte below 240, else in its lowest four bits and then seven a byte.
fn push_length(mut n: u64, out: &mut Vec<u8>) {
    let low = |n: u64, mask: u64| u8::try_from(n & mask).unwrap_or(0);
    if n < 240 {
        return out.push(low(n, 0xff));
    }
    out.push(240 | low(n, 15));
    n = (n - 240) >> 4;
    while n >= 128 {
        out.push(128 | low(n, 127));
        n = (n - 128) >> 7;
    }
    out.push(low(n, 127));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Kind, LogForm, Proxy};
    use std::sync::Arc;

    fn ring(size: usize, backing_file: Option<String>) -> Ring {
        Ring::open(Arc::new(Conf {
            place: crate::base::diag::Place::default(),
            name: "r".to_owned(),
            description: String::new(),
            form: Some(LogForm::Raw),
            max_len: 1024,
            size,
            backing_file,
            proxy: Box::new(Proxy::new(crate::base::diag::Place::default(), "r", Kind::Backend)),
        }))
        .unwrap()
    }

    fn put(r: &Ring, text: &str) -> bool {
        r.write(text.as_bytes(), &|t, out| out.extend_from_slice(t.as_bytes()))
    }

    fn read(r: &Ring, who: ReaderId) -> Vec<String> {
        let mut all = Vec::new();
        r.read(who, &mut |e| {
            all.push(String::from_utf8_lossy(e).into_owned());
            true
        });
        all
    }

    #[test]
    fn the_oldest_make_room() {
        let r = ring(RING_HEADER + 100, None);
        for i in 0..12 {
            assert!(put(&r, &format!("event number {i:02} of many")));
        }
        let who = r.attach(false);
        let last: Vec<String> = (8..12).map(|i| format!("event number {i:02} of many")).collect();
        assert_eq!(read(&r, who), last);
        assert!(read(&r, who).is_empty());
    }

    #[test]
    fn what_a_reader_has_not_seen_stays_and_the_rest_is_counted() {
        let r = ring(RING_HEADER + 100, None);
        let who = r.attach(false);
        let taken = (0..12).filter(|i| put(&r, &format!("event number {i:02} of many"))).count();
        assert_eq!((taken, r.dropped.load(Relaxed)), (4, 8));
        assert_eq!(read(&r, who).len(), 4);
        assert!(put(&r, "next"));
        assert_eq!(read(&r, who), ["8 events dropped", "next"]);
        r.detach(who);
    }

    #[test]
    fn lengths_of_every_size_come_back() {
        let r = ring(1 << 20, None);
        let who = r.attach(false);
        for n in [0, 1, 239, 240, 241, 304, 2287, 2288, 2289, 100_000] {
            assert!(put(&r, &"y".repeat(n)));
            assert_eq!(read(&r, who), ["y".repeat(n)]);
        }
    }

    #[test]
    fn a_file_holds_what_the_ring_holds() {
        let dir = std::env::temp_dir().join(format!("tandem-ring-{}", std::process::id()));
        let path = dir.to_string_lossy().into_owned();
        let r = ring(4096, Some(path.clone()));
        put(&r, "<6>/0");
        put(&r, &"z".repeat(304));
        drop(r);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 4096);
        assert_eq!(bytes[..16], [64, 15, 0, 0, 0, 0, 0, 0, 192, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[192..202], [0, 5, b'<', b'6', b'>', b'/', b'0', 0, 0xf0, 4]);
        let again = ring(4096, Some(path.clone()));
        drop(again);
        assert_eq!(std::fs::read(format!("{path}.bak")).unwrap(), bytes);
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(format!("{path}.bak")).unwrap();
    }
}
