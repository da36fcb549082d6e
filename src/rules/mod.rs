//! Level 1: the rule engine. Samples, patterns, ACLs, log formats and actions, compiled when loaded and evaluated without allocation where no rule asks for it.
pub mod acl;
pub mod action;
pub mod gauge;
pub mod logformat;
pub mod pattern;
pub mod sample;
