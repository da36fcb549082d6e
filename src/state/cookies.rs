//! Cookies of servers that are made of their addresses (`cookie ... dynamic`), the same on every node that has the same key.
use super::live::{ServerLive, lock};
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};

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

/// What a server remembers of its own: of which state of the key and which address it was made, and what it is.
#[derive(Debug, Default)]
pub struct Made(Mutex<Option<(u64, SocketAddr, u64)>>);

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

    /// The cookie of a server that is at `address`, made once for each address and key.
    pub fn of(&self, server: &ServerLive, address: impl FnOnce() -> Option<SocketAddr>) -> Option<u64> {
        let version = self.version.load(Acquire);
        if version == 0 {
            return None;
        }
        let at = address()?;
        let mut made = lock(&server.cookie.0);
        match *made {
            Some((v, a, value)) if (v, a) == (version, at) => Some(value),
            _ => {
                let said = lock(&self.said);
                let value = hash(&said.key, at);
                *made = Some((said.changes, at, value));
                Some(value)
            }
        }
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
