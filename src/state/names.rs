//! What became of questions to name servers (`show resolvers`, `show stat domain resolvers`).
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! tallies {
    ($($(#[$doc:meta])* $name:ident $text:literal),* $(,)?) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Tally { $($(#[$doc])* $name),* }
        /// Their names, in HAProxy's order.
        pub const TALLIES: &[&str] = &[$($text),*];
    };
}

tallies! {
    Sent "sent",
    SendError "snd_error",
    Valid "valid",
    /// A server's address changed by it.
    Update "update",
    Cname "cname",
    CnameError "cname_error",
    AnyError "any_err",
    NoSuchName "nx",
    Timeout "timeout",
    Refused "refused",
    Other "other",
    Invalid "invalid",
    TooBig "too_big",
    Truncated "truncated",
    Outdated "outdated",
}

/// The tallies of one name server.
#[derive(Debug, Default)]
pub struct NameServer([AtomicU64; TALLIES.len()]);

impl NameServer {
    pub fn count(&self, t: Tally) {
        self.0[t as usize].fetch_add(1, Relaxed);
    }
    /// All, in the order of [`TALLIES`].
    pub fn all(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().map(|n| n.load(Relaxed))
    }
}
