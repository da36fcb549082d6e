//! What the engine shows of a virtual router to statistics and metrics.
use serde::{Deserialize, Serialize};

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
    pub master_priority: Option<u8>,
    pub sent: u64,
    pub received: u64,
    pub became_master: u64,
    pub released_master: u64,
    pub rejected: Vec<(String, u64)>,
}
