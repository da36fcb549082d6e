//! HTTP/1 messages (RFC 9112): a head is one buffer with offsets; a body is passed on while its end is looked for.
pub mod body;
pub mod case;
mod examine;
pub mod head;
mod parse;
mod quick;
