//! Level 4: what is compiled and swapped (`snapshot`), and what outlives a reload (`live`, `counters`).
pub mod cache;
pub mod cookies;
pub mod counters;
pub mod gauges;
pub mod limits;
pub mod live;
pub mod logging;
pub mod names;
pub mod snapshot;
pub mod sticky;
