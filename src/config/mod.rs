//! Level 2: from bytes to a checked model. `load` is a pure function of a [`source::Source`], so the checker, the loader and the chrooted worker share it.
pub mod change;
pub mod convert;
pub mod haproxy;
pub mod keepalived;
pub mod lex;
pub mod load;
pub mod logging;
pub mod model;
mod route;
pub mod source;
mod together;
mod virtual_server;
mod vmac;
mod vrrp;
