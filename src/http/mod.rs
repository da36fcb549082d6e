//! HTTP without sockets: heads, framing, cookies, built-in answers.
pub mod caching;
pub mod coding;
pub mod cookie;
pub mod h1;
pub mod status;
