//! keepalived's language: lines of words, nested braces, includes and definitions (keepalived.conf(5)).
pub mod build;
mod glob;
mod include;
pub mod known;
mod parse;

use super::model::{Proxy, VrrpModel};
use super::source::Source;
use crate::base::diag::Report;

/// How a file is to be read.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// What `@id` is compared with: `--config-id`, else the host's name up to its first dot.
    pub id: String,
    /// `fault strict` of the `global` section.
    pub fault_strict: bool,
    /// `--strict`: what keepalived only reports is an error.
    pub strict: bool,
}

/// Reads a `keepalived.conf` and everything it includes: its virtual routers, and its virtual servers as sections of the proxy.
pub fn load(path: &str, src: &mut dyn Source, manner: &Manner, report: &mut Report) -> (VrrpModel, Vec<Proxy>) {
    let tree = parse::tree(path, src, &manner.id, report);
    build::model(&tree, manner, src, report)
}
