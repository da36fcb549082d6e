//! keepalived's language: lines of words, nested braces, includes and definitions (keepalived.conf(5)).
pub mod build;
mod parse;

use super::model::VrrpModel;
use super::source::Source;
use crate::base::diag::Report;

/// Reads a `keepalived.conf` and everything it includes.
pub fn load(path: &str, src: &mut dyn Source, fault_strict: bool, report: &mut Report) -> VrrpModel {
    let tree = parse::tree(path, src, report);
    build::model(&tree, src, fault_strict, report)
}
