//! What the engine shows of a virtual router to statistics and metrics.
use super::fsm::Role;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// A change of state that is kept in mind.
#[derive(Clone, Debug)]
pub struct Transition {
    pub at: Instant,
    pub to: Role,
    /// In words.
    pub cause: String,
    /// The effective priority then.
    pub priority: u8,
}

/// One virtual router as the statistics show it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct VrrpView {
    pub name: String,
    pub interface: String,
    pub vrid: u8,
    pub state: String,
    pub priority: u8,
    pub effective: u8,
    pub able: bool,
    pub vips: Vec<String>,
    pub cause: String,
    /// Seconds in this state.
    pub since: f64,
    /// What it tracks, and what each comes to.
    pub shares: Vec<String>,
    /// The last changes of state, the newest first: seconds ago, and in words.
    pub history: Vec<(f64, String)>,
    /// The last advert of another: seconds ago, from whom, with which priority.
    pub heard: Option<(f64, String, u8)>,
    /// The largest deviation of a master's adverts from their interval in the last minute or two, milliseconds.
    pub jitter: f64,
    /// Seconds to what it does next by itself.
    pub next: Option<f64>,
    pub master_priority: Option<u8>,
    pub sent: u64,
    pub received: u64,
    pub became_master: u64,
    pub released_master: u64,
    pub rejected: Vec<(String, u64)>,
}
