//! Level 7: the processes of one binary. The loader reads, the guardian owns addresses and sockets, the worker serves.
pub mod bundle;
pub mod guardian;
pub mod ipc;
pub mod loader;
pub mod logger;
pub mod privilege;
pub mod proof;
pub mod sockets;
pub mod worker;
