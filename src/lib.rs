//! Tandem: a load balancer that reads HAProxy's and keepalived's files, and an address that follows the proxy that can serve.
//!
//! Layers, imports going down only (`tests/architecture.rs` holds the table): `process` > `control` > `proxy`, drivers > `state` >
//! `tls`, `net`, `log` > `config` > `rules`, `http`, `balance`, pure machines > `base`.
pub mod balance;
pub mod base;
pub mod cli;
pub mod config;
pub mod control;
pub mod health;
pub mod http;
pub mod log;
pub mod net;
pub mod process;
pub mod proxy;
pub mod rules;
pub mod state;
pub mod tls;
pub mod vrrp;
pub mod wire;
