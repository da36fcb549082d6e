//! Level 7: the processes of one binary. The loader reads, the guardian owns addresses and sockets, the worker serves.
pub mod bundle;
pub mod child;
pub mod guardian;
mod host;
pub mod ipc;
pub mod loader;
pub mod master;
pub mod privilege;
pub mod proof;
pub mod rendezvous;
mod servers;
pub mod sockets;
pub mod start;
pub mod stub;
pub mod worker;
