//! What the engine is told of tracked things, and what it makes of it: priorities, and routers that give way.
use super::engine::{Engine, Told};
use super::fsm::Input;
use super::priority;
use super::track::{Share, inside_key};
use crate::config::model::{Seen, Tracked, VrrpModel};
use std::time::Instant;

/// True if both have the same thing, or neither has it.
fn unchanged<T: PartialEq>(old: &[T], new: &[T], is: impl Fn(&T) -> bool) -> bool {
    old.iter().find(|t| is(t)) == new.iter().find(|t| is(t))
}

impl Engine {
    /// What is known of things that are not tracked any more, or are defined in another way, is not known of those that come instead.
    pub(super) fn forget_facts(&mut self, new: &VrrpModel) {
        let old = &self.model;
        let used = |kind, name: &str| new.tracks().any(|t| t.kind == kind && t.name == name);
        let f = &mut self.facts;
        f.scripts.retain(|n, _| used(Tracked::Script, n) && unchanged(&old.scripts, &new.scripts, |s| s.name == *n));
        f.files.retain(|n, _| used(Tracked::File, n) && unchanged(&old.files, &new.files, |t| t.name == *n));
        f.processes
            .retain(|n, _| used(Tracked::Process, n) && unchanged(&old.processes, &new.processes, |p| p.name == *n));
        f.bfds.retain(|n, _| used(Tracked::Bfd, n) && unchanged(&old.bfds, &new.bfds, |b| b.name == *n));
        f.inside.retain(|key, _| new.tracks().any(|t| inside_key(t) == *key));
    }

    /// True if something tracked without weight failed: the node yields.
    pub(super) fn failed_tracks(&self, i: usize) -> bool {
        let name = &self.routers[i].conf.name;
        let in_group = |g: &String| self.model.track_groups.iter().any(|t| t.0 == *g && t.1.contains(name));
        self.outcome(i).failed || self.missing.values().any(in_group)
    }

    /// What its tracks come to.
    pub(super) fn outcome(&self, i: usize) -> priority::Outcome {
        let conf = &self.routers[i].conf;
        priority::effective(conf.priority, self.facts.shares(&self.model, conf).iter().map(|s| s.points))
    }

    pub(super) fn update_priority(&mut self, i: usize, now: Instant) {
        let p = self.outcome(i).priority;
        let r = &self.routers[i];
        let before = r.machine.priority();
        if p == before {
            return;
        }
        let shares = self.facts.shares(&self.model, &r.conf);
        let why: Vec<String> = shares.iter().filter(|s| s.points.sum != 0).map(Share::text).collect();
        let why = if why.is_empty() { "nothing adds to it or takes from it".to_owned() } else { why.join(", ") };
        let text = format!("({}) effective priority {before} -> {p}: {why}", r.conf.name);
        self.told.push(Told::Log { important: false, text });
        self.feed(i, now, Input::Priority(p));
        self.tell_priority(i);
    }

    /// Something that is tracked changed; `text` for the log.
    pub(super) fn tracked_changed(&mut self, text: String, now: Instant) {
        self.told.push(Told::Log { important: true, text });
        self.spread_ability(now);
    }

    /// A check script's state changed.
    pub fn script(&mut self, name: &str, up: bool, now: Instant) {
        if self.facts.scripts.insert(name.to_owned(), up) != Some(up) {
            self.tracked_changed(format!("script {name} {}", if up { "succeeds" } else { "fails" }), now);
        }
    }

    /// What the proxy sees of its backends, its frontends and its load.
    pub fn inside(&mut self, seen: Vec<Seen>, now: Instant) {
        self.seen = seen;
        self.weigh(now);
    }

    /// Takes what the proxy sees for what it is worth by now.
    pub(super) fn weigh(&mut self, now: Instant) {
        let mut told = Vec::new();
        for t in self.model.tracks() {
            let Some(i) = t.inside else { continue };
            let Some(s) = self.seen.iter().find(|s| s.kind == t.kind && s.name == t.name) else { continue };
            let key = inside_key(t);
            let up = self.inside.see(&key, i.min_up.enough(s.up, s.total), now);
            if self.facts.inside.insert(key, up).unwrap_or(true) != up {
                let (what, blank) = (t.kind.name(), if t.name.is_empty() { "" } else { " " });
                let state = if up { "well" } else { "not well" };
                told.push(format!("{what}{blank}{} is {state}: {} of {} up", t.name, s.up, s.total));
            }
        }
        for text in told {
            self.tracked_changed(text, now);
        }
    }

    /// What a tracked file says changed.
    pub fn file(&mut self, name: &str, value: i64, now: Instant) {
        if self.facts.files.insert(name.to_owned(), value) != Some(value) {
            self.tracked_changed(format!("file {name} says {value}"), now);
        }
    }

    /// A neighbour that BFD watches can be reached, or cannot any more.
    pub fn neighbour(&mut self, name: &str, up: bool, why: &str, now: Instant) {
        if self.facts.bfds.insert(name.to_owned(), up) != Some(up) {
            self.tracked_changed(format!("bfd {name} is {}: {why}", if up { "up" } else { "down" }), now);
        }
    }

    /// Enough of the processes that are looked for are there, or not.
    pub fn processes(&mut self, name: &str, up: bool, now: Instant) {
        if self.facts.processes.insert(name.to_owned(), up) != Some(up) {
            let what = if up { "as many as wanted are there" } else { "not as many as wanted are there" };
            self.tracked_changed(format!("process {name}: {what}"), now);
        }
    }
}
