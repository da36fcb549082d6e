//! Health checks: the pure rise and fall counter, and the prober that performs them.
pub mod dialect;
pub mod fsm;
pub mod names;
pub mod prober;
pub mod resolver;
