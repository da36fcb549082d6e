//! VRRP (RFC 3768, RFC 5798, RFC 9568): pure packets, timing and state machine; one engine drives them.
pub mod announce;
pub mod engine;
pub mod fsm;
pub mod group;
pub mod packet;
pub mod priority;
pub mod router;
pub mod script;
pub mod timing;
pub mod view;
mod vip;
