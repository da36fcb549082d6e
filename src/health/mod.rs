//! Whether servers can serve: checks, agents, names, and who is told of it.
pub mod agent;
mod checkers;
pub mod connect;
pub mod dialect;
pub mod external;
pub mod found;
pub mod fsm;
pub mod mail;
pub mod names;
pub mod post;
pub mod prober;
pub mod pulse;
pub mod resolver;
pub mod saved;
pub mod script;
pub mod verdict;
