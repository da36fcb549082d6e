//! What caches hold: answers by name and variant, least recently used first out. Shared by all threads; the lock is held for a look or a change.
use super::live::lock;
use crate::config::model::{Cache, Hints};
use crate::http::caching::{self, Secondary, Varies};
use crate::http::h1::head::Head;
use std::collections::hash_map::Entry as Place;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

/// One kept answer.
#[derive(Debug)]
pub struct Entry {
    pub head: Head,
    pub body: Vec<u8>,
    /// Its trailer section, if it came in chunks.
    pub trailer: Option<Vec<u8>>,
    /// Seconds since 1970: when it was kept, and until when it is fresh.
    pub stored: u64,
    pub expires: u64,
    /// How old it was then.
    pub age: u64,
    /// What its `Link` headers tell a client that it will need.
    pub hints: Vec<Vec<u8>>,
    /// Nothing is left of it but the hints.
    pub hints_alone: bool,
    varies: Varies,
    good: Secondary,
    /// What it takes besides its body.
    fixed: usize,
}

impl Entry {
    /// What it counts for, in bytes.
    pub fn size(&self) -> u64 {
        (self.fixed + self.body.len()) as u64
    }

    /// What is left of it when its time is over, if that is worth its place.
    fn reduced(&self, key: &[u8], ratio: u32) -> Option<Self> {
        let e = Self::of_hints(self.hints.clone(), key, self.varies, self.good.clone(), self.stored);
        (e.size() * 100 < self.size() * u64::from(ratio)).then_some(e)
    }

    fn of_hints(hints: Vec<Vec<u8>>, key: &[u8], varies: Varies, good: Secondary, stored: u64) -> Self {
        Self {
            fixed: OVERHEAD + 2 * key.len() + hints.iter().map(Vec::len).sum::<usize>() + good.memory(),
            head: Head::default(),
            body: Vec::new(),
            trailer: None,
            stored,
            expires: stored,
            age: 0,
            hints,
            hints_alone: true,
            varies,
            good,
        }
    }

    /// Its age at `now` (RFC 9111, 5.1 and 1.2.2).
    pub fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.stored).saturating_add(self.age).min(1 << 31)
    }
}

/// A longer value of `Link` is no hint, where answers are kept as well.
const LONGEST_HINT: usize = 1024;
/// What an entry takes besides its texts.
const OVERHEAD: usize = 200;

#[derive(Debug, Default)]
struct Held {
    /// Variants of an answer, each with its place in the order of use.
    entries: HashMap<Vec<u8>, Vec<(Arc<Entry>, u64)>>,
    /// Names in the order of use: the first was not used for longest.
    order: BTreeMap<u64, Vec<u8>>,
    next: u64,
    used: u64,
    /// Answers that are on their way in, each with its draft's number.
    filling: HashMap<(Vec<u8>, Secondary), u64>,
}

#[derive(Debug)]
pub struct Store {
    pub conf: Cache,
    held: Mutex<Held>,
}

impl Store {
    pub fn new(conf: Cache) -> Self {
        Self { conf, held: Mutex::default() }
    }

    /// A fresh answer for this request.
    pub fn find(&self, key: &[u8], said: &Secondary, now: u64) -> Option<Arc<Entry>> {
        let mut h = lock(&self.held);
        let h = &mut *h;
        let (next, all) = (h.next, h.entries.get_mut(key)?);
        let fits = |e: &Entry| now < e.expires && caching::answers(e.varies, &e.good, said);
        let (entry, place) = all.iter_mut().find(|(e, _)| fits(e))?;
        h.order.remove(place);
        h.order.insert(next, key.to_vec());
        *place = next;
        h.next += 1;
        Some(entry.clone())
    }

    /// What a client will need whose answer is not here any more; of the answer nothing else is kept from then on, if that is worth its place.
    pub fn hints(&self, key: &[u8], said: &Secondary, now: u64) -> Option<Arc<Entry>> {
        let mut h = lock(&self.held);
        let h = &mut *h;
        let all = h.entries.get_mut(key)?;
        let fits = |e: &Entry| now >= e.expires && !e.hints.is_empty() && caching::answers(e.varies, &e.good, said);
        let (entry, _) = all.iter_mut().find(|(e, _)| fits(e))?;
        let found = entry.clone();
        if !entry.hints_alone
            && let Some(less) = entry.reduced(key, self.conf.hints_ratio)
        {
            h.used = h.used - entry.size() + less.size();
            *entry = Arc::new(less);
        }
        Some(found)
    }

    /// Keeps nothing of an answer but what its client will need (`early-hints only`).
    pub fn keep_hints(&self, key: &[u8], head: &Head, keep: &caching::Keep, said: &Secondary, now: u64) {
        let hints = caching::hints(head);
        let Some(good) = caching::good_for(head, keep.varies, said).filter(|_| !hints.is_empty()) else { return };
        self.insert(key.to_vec(), Entry::of_hints(hints, key, keep.varies, good, now));
    }

    /// Begins to keep an answer, unless another like it is on its way in, or there are variants enough.
    pub fn begin(
        self: &Arc<Self>,
        key: &[u8],
        head: &Head,
        keep: &caching::Keep,
        said: &Secondary,
        now: u64,
    ) -> Option<Draft> {
        let good = caching::good_for(head, keep.varies, said)?;
        let mut h = lock(&self.held);
        let live = |(e, _): &&(Arc<Entry>, u64)| now < e.expires && e.good != good;
        let variants = h.entries.get(key).map_or(0, |all| all.iter().filter(live).count());
        if variants >= self.conf.max_variants as usize {
            return None;
        }
        let number = h.next;
        match h.filling.entry((key.to_vec(), good.clone())) {
            Place::Occupied(_) => return None,
            Place::Vacant(v) => {
                v.insert(number);
            }
        }
        h.next += 1;
        drop(h);
        let mut kept = head.clone();
        kept.kill("age");
        let mut hints = if self.conf.hints == Hints::Off { Vec::new() } else { caching::hints(&kept) };
        hints.retain(|h| h.len() <= LONGEST_HINT);
        let hinted = hints.iter().map(Vec::len).sum::<usize>();
        let fixed = OVERHEAD + 2 * key.len() + kept.memory() + good.memory() + hinted;
        let entry = Entry {
            fixed,
            head: kept,
            body: Vec::new(),
            trailer: None,
            stored: now,
            expires: now + keep.lifetime,
            age: keep.age,
            hints,
            hints_alone: false,
            varies: keep.varies,
            good,
        };
        Some(Draft { store: self.clone(), key: key.to_vec(), number, entry: Some(entry) })
    }

    /// Forgets an answer with all its variants.
    pub fn forget(&self, key: &[u8]) {
        let mut h = lock(&self.held);
        h.filling.retain(|(k, _), _| k != key);
        for (e, place) in h.entries.remove(key).unwrap_or_default() {
            h.order.remove(&place);
            h.used -= e.size();
        }
    }

    /// Fresh entries with their names.
    pub fn list(&self, now: u64) -> Vec<(Vec<u8>, Arc<Entry>)> {
        let h = lock(&self.held);
        let all = h.entries.iter().flat_map(|(k, all)| all.iter().map(|(e, _)| (k.clone(), e.clone())));
        all.filter(|(_, e)| now < e.expires || e.hints_alone).collect()
    }

    /// Bytes that are not in use.
    pub fn free(&self) -> u64 {
        self.conf.total.saturating_sub(lock(&self.held).used)
    }

    fn insert(&self, key: Vec<u8>, entry: Entry) {
        let mut h = lock(&self.held);
        let h = &mut *h;
        // One that has the same variant, and what is over, makes room.
        if let Some(all) = h.entries.get_mut(&key) {
            all.retain(|(e, place)| {
                let stays = e.good != entry.good && (entry.stored < e.expires || e.hints_alone);
                if !stays {
                    h.order.remove(place);
                    h.used -= e.size();
                }
                stays
            });
        }
        h.used += entry.size();
        while h.used > self.conf.total {
            let Some((place, oldest)) = h.order.pop_first() else { break };
            if let Some(all) = h.entries.get_mut(&oldest) {
                all.retain(|(e, p)| {
                    if *p == place {
                        h.used -= e.size();
                    }
                    *p != place
                });
                if all.is_empty() {
                    h.entries.remove(&oldest);
                }
            }
        }
        let place = h.next;
        h.next += 1;
        h.order.insert(place, key.clone());
        h.entries.entry(key).or_default().push((Arc::new(entry), place));
    }
}

/// An answer on its way in; dropped before it is whole it leaves nothing behind.
#[derive(Debug)]
pub struct Draft {
    store: Arc<Store>,
    key: Vec<u8>,
    number: u64,
    entry: Option<Entry>,
}

impl Draft {
    /// A part of the body. False: it is too large to be kept.
    pub fn push(&mut self, part: &[u8]) -> bool {
        let Some(e) = &mut self.entry else { return false };
        if e.size() + part.len() as u64 > self.store.conf.max_object {
            return false;
        }
        e.body.extend_from_slice(part);
        true
    }

    /// It is whole.
    pub fn finish(mut self, trailer: Option<Vec<u8>>) {
        if let Some(mut e) = self.entry.take() {
            e.fixed += trailer.as_ref().map_or(0, Vec::len);
            e.trailer = trailer;
            e.body.shrink_to_fit();
            // What was forgotten meanwhile is out of date already.
            if self.done(&e.good) && e.size() <= self.store.conf.max_object {
                self.store.insert(std::mem::take(&mut self.key), e);
            }
        }
    }

    /// It is no longer on its way; false if it was forgotten.
    fn done(&self, good: &Secondary) -> bool {
        match lock(&self.store.held).filling.entry((self.key.clone(), good.clone())) {
            Place::Occupied(o) if *o.get() == self.number => {
                o.remove();
                true
            }
            _ => false,
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(e) = self.entry.take() {
            self.done(&e.good);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::h1::head::Accept;

    fn store(total: u64) -> Arc<Store> {
        let conf = Cache { total, max_object: total / 2, vary: true, max_variants: 2, ..Cache::new("c") };
        Arc::new(Store::new(conf))
    }

    fn put(s: &Arc<Store>, key: &str, body: &[u8], request: &str) -> bool {
        let (mut req, mut res) = (Head::default(), Head::default());
        req.parse_request(format!("GET / HTTP/1.1\r\n{request}\r\n").as_bytes(), Accept::default()).unwrap();
        let head = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=9\r\nVary: Origin\r\nContent-Length: 1\r\n\r\n";
        res.parse_response(head, b"GET", Accept::default()).unwrap();
        let keep = caching::keep(&res, true, 60, true, 100).unwrap();
        let said = caching::secondary(&req);
        let Some(mut d) = s.begin(key.as_bytes(), &res, &keep, &said, 100) else { return false };
        assert!(s.begin(key.as_bytes(), &res, &keep, &said, 100).is_none(), "two at a time");
        d.push(body) && {
            d.finish(None);
            true
        }
    }

    fn get(s: &Store, key: &str, request: &str, now: u64) -> Option<Vec<u8>> {
        let mut req = Head::default();
        req.parse_request(format!("GET / HTTP/1.1\r\n{request}\r\n").as_bytes(), Accept::default()).unwrap();
        s.find(key.as_bytes(), &caching::secondary(&req), now).map(|e| e.body.clone())
    }

    #[test]
    fn variants_age_and_are_forgotten() {
        let s = store(100_000);
        assert!(put(&s, "k", b"1", "Origin: a\r\n") && put(&s, "k", b"2", "Origin: b\r\n"));
        assert!(!put(&s, "k", b"3", "Origin: c\r\n"), "variants enough");
        assert_eq!(get(&s, "k", "Origin: a\r\n", 108).as_deref(), Some(&b"1"[..]));
        assert_eq!(get(&s, "k", "Origin: b\r\n", 108).as_deref(), Some(&b"2"[..]));
        assert_eq!(get(&s, "k", "Origin: a\r\n", 109), None);
        assert!(put(&s, "k", b"4", "Origin: a\r\n"));
        assert_eq!(get(&s, "k", "Origin: a\r\n", 100).as_deref(), Some(&b"4"[..]));
        s.forget(b"k");
        assert_eq!((get(&s, "k", "Origin: a\r\n", 100), s.free()), (None, 100_000));
    }

    #[test]
    fn what_was_forgotten_on_its_way_in_is_not_kept() {
        let s = store(100_000);
        let mut res = Head::default();
        let head = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=9\r\nContent-Length: 1\r\n\r\n";
        res.parse_response(head, b"GET", Accept::default()).unwrap();
        let keep = caching::keep(&res, true, 60, true, 100).unwrap();
        let old = s.begin(b"k", &res, &keep, &Secondary::default(), 100).unwrap();
        s.forget(b"k");
        let mut new = s.begin(b"k", &res, &keep, &Secondary::default(), 100).unwrap();
        old.finish(None);
        assert_eq!(get(&s, "k", "", 100), None);
        assert!(new.push(b"n"));
        new.finish(None);
        assert_eq!(get(&s, "k", "", 100).as_deref(), Some(&b"n"[..]));
    }

    #[test]
    fn the_least_used_goes_first_and_what_is_too_large_is_not_kept() {
        let s = store(3_000);
        assert!(put(&s, "a", &[b'a'; 600], "") && put(&s, "b", &[b'b'; 600], "") && put(&s, "c", &[b'c'; 600], ""));
        assert!(get(&s, "a", "", 100).is_some());
        assert!(put(&s, "d", &[b'd'; 600], ""));
        let there: Vec<bool> = ["a", "b", "c", "d"].iter().map(|k| get(&s, k, "", 100).is_some()).collect();
        assert_eq!(there, [true, false, true, true]);
        assert!(!put(&s, "e", &[b'e'; 1_500], ""));
        // Given up, it can be begun again.
        assert!(put(&s, "e", b"e", ""));
    }
}
