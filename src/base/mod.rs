//! Level 0: values that every layer speaks in. No sockets, clocks or files here.
pub mod addr;
pub mod code;
pub mod diag;
pub mod hash;
pub mod pace;
pub mod spare;
pub mod units;
pub mod version;
