//! Cookies of servers that are made of their addresses (`cookie ... dynamic`), the same on every node that has the same key.
use super::live::{ServerLive, lock};
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// What a backend has for them: the key, unless they are switched off. The number grows with each change; 0 is switched off.
#[derive(Debug, Default)]
pub struct Cookies {
    version: AtomicU64,
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    key: String,
    on: bool,
    /// What the configuration in force says.
    file: Option<(Option<String>, bool)>,
    changes: u64,
}

/// What a server remembers of its own.
#[derive(Debug, Default)]
pub struct Made {
    /// Of which state of key and address it was made.
    of: AtomicU64,
    value: AtomicU64,
}

/// Numbers of changes that are told apart.
const CHANGES: u32 = 24;

impl Cookies {
    /// A configuration in force: it counts where it says something else than before.
    pub fn adopt(&self, key: Option<&str>, on: bool) {
        let mut s = lock(&self.said);
        let file = Some((key.map(str::to_owned), on));
        if s.file != file {
            s.file = file;
            s.key = key.unwrap_or_default().to_owned();
            s.on = on;
            self.changed(&mut s);
        }
    }
    pub fn set_key(&self, key: &str) {
        let mut s = lock(&self.said);
        key.clone_into(&mut s.key);
        self.changed(&mut s);
    }
    pub fn switch(&self, on: bool) {
        let mut s = lock(&self.said);
        s.on = on;
        self.changed(&mut s);
    }
    fn changed(&self, s: &mut Said) {
        s.changes += 1;
        self.version.store(if s.on { s.changes } else { 0 }, Release);
    }

    /// The cookie of a server at this address. It is made once for each address and key; nothing is locked after that.
    pub fn of(&self, server: &ServerLive, address: impl FnOnce() -> Option<SocketAddr>) -> Option<u64> {
        let version = self.version.load(Acquire);
        if version == 0 {
            return None;
        }
        let state = server.moves() << CHANGES | version & ((1 << CHANGES) - 1);
        let made = &server.cookie;
        if made.of.load(Acquire) == state {
            return Some(made.value.load(Relaxed));
        }
        let value = hash(&lock(&self.said).key, address()?);
        made.value.store(value, Relaxed);
        made.of.store(state, Release);
        Some(value)
    }
}

/// XXH64 over key, address and port, the port in four bytes of the network's order.
fn hash(key: &str, at: SocketAddr) -> u64 {
    let mut all = key.as_bytes().to_vec();
    match at.ip() {
        IpAddr::V4(ip) => all.extend(ip.octets()),
        IpAddr::V6(ip) => all.extend(ip.octets()),
    }
    all.extend(u32::from(at.port()).to_be_bytes());
    xxhash_rust::xxh64::xxh64(&all, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_cookies_as_the_reference() {
        // Seen in answers of HAProxy 3.5.
        assert_eq!(hash("secret", "[::1]:7100".parse().unwrap()), 0xb311_df8f_def1_8b31);
    }
}
