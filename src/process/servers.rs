//! What virtual servers need of the guardian: checks that it makes for the proxy, and scripts that it runs for it. Pure: the guardian asks and runs.
use crate::config::model::{Fact, FactOf, ScriptCall, TrackFile, VrrpModel};
use crate::state::live::Happening;
use std::collections::HashMap;

/// A file that adds so little means that the server is down, as keepalived's own limit of weights has it.
const FAULT: i64 = -254;

#[derive(Default)]
pub struct Servers {
    model: VrrpModel,
    /// What is known so far, by the keys of the rules.
    facts: HashMap<String, Fact>,
    /// What was told last: section, server.
    states: HashMap<(String, Option<String>), bool>,
}

impl Servers {
    /// A model in force. What it does not have any more is forgotten.
    pub fn configure(&mut self, m: &VrrpModel) {
        let same = |k: &String| {
            let find = |m: &VrrpModel| m.facts.iter().find(|r| r.key == *k).cloned();
            find(m).is_some() && find(m) == find(&self.model)
        };
        self.facts.retain(|k, _| same(k));
        self.states.retain(|k, _| m.told.iter().any(|t| t.section == k.0 && t.server == k.1));
        self.model = VrrpModel {
            facts: m.facts.clone(),
            told: m.told.clone(),
            files: m.files.clone(),
            ..VrrpModel::default()
        };
    }

    /// Everything that is known: for a worker that is new.
    pub fn facts(&self) -> &HashMap<String, Fact> {
        &self.facts
    }

    fn learn(&mut self, news: Vec<(String, Fact)>) -> HashMap<String, Fact> {
        let fresh: HashMap<_, _> = news.into_iter().filter(|(k, f)| self.facts.get(k) != Some(f)).collect();
        self.facts.extend(fresh.clone());
        fresh
    }

    /// A program has answered. What the proxy has to be told.
    pub fn script(&mut self, name: &str, up: bool, code: i32) -> HashMap<String, Fact> {
        let fact = |dynamic: Option<u32>| Fact {
            up,
            // The exit status is two more than the weight that the server is to have in place of the one it has.
            weight: match dynamic {
                Some(is) if code > 1 => (code - 2).saturating_sub(i32::try_from(is).unwrap_or(i32::MAX)),
                _ => 0,
            },
        };
        let news = self.model.facts.iter().filter(|r| r.key == name).filter_map(|r| match r.of {
            FactOf::Script { dynamic } => Some((r.key.clone(), fact(dynamic))),
            _ => None,
        });
        let news = news.collect();
        self.learn(news)
    }

    /// A file says another number.
    pub fn file(&mut self, name: &str, value: i64) -> HashMap<String, Fact> {
        let files = &self.model.files;
        let news = self.model.facts.iter().filter_map(|r| match &r.of {
            FactOf::File { name: n, weight, dynamic } if n == name => {
                Some((r.key.clone(), of_file(files.iter().find(|f| f.name == *n)?, value, *weight, *dynamic)))
            }
            _ => None,
        });
        let news = news.collect();
        self.learn(news)
    }

    /// A neighbour that BFD watches.
    pub fn neighbour(&mut self, name: &str, up: bool) -> HashMap<String, Fact> {
        let is = |of: &FactOf| matches!(of, FactOf::Bfd { name: n } if n == name);
        let news = self.model.facts.iter().filter(|r| is(&r.of)).map(|r| (r.key.clone(), Fact { up, weight: 0 }));
        let news = news.collect();
        self.learn(news)
    }

    /// The proxy says what became of a virtual server or of one of its servers: a line for the log, and the script to run.
    pub fn happened(&mut self, h: Happening) -> (String, Option<ScriptCall>) {
        let state = if h.up { "up" } else { "down" };
        let text = match &h.server {
            Some(s) if h.why.is_empty() => format!("virtual server {} : server {s} is {state}", h.section),
            Some(s) => format!("virtual server {} : server {s} is {state}, {}", h.section, h.why),
            None => format!("virtual server {} : {}", h.section, h.why),
        };
        let scripts = self.model.told.iter().find(|t| t.section == h.section && t.server == h.server);
        let call = scripts.and_then(|t| if h.up { t.up.clone() } else { t.down.clone() });
        if scripts.is_some() {
            self.states.insert((h.section, h.server), h.up);
        }
        (text, call)
    }

    /// The end: scripts of those with `omega` that are up.
    pub fn ending(&mut self) -> Vec<ScriptCall> {
        let states = std::mem::take(&mut self.states);
        let up = |s: &str, r: &Option<String>| {
            states.get(&(s.to_owned(), r.clone())).copied().unwrap_or(r.is_some())
        };
        let last = self.model.told.iter().filter(|t| t.omega && up(&t.section, &t.server));
        last.filter_map(|t| t.down.clone()).collect()
    }
}

/// What a `track_file` comes to (keepalived.conf(5), `FILE_CHECK`).
fn of_file(f: &TrackFile, value: i64, weight: Option<i64>, dynamic: bool) -> Fact {
    let weight = weight.unwrap_or_else(|| if f.reverse { -i64::from(f.weight) } else { f.weight.into() });
    if weight == 0 {
        return Fact { up: value == 0, weight: 0 };
    }
    let points = value.saturating_mul(weight);
    let more = i32::try_from(points.clamp(-65_535, 65_535)).unwrap_or(0);
    Fact { up: points > FAULT, weight: if dynamic { more } else { 0 } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{FactRule, ServerScripts};

    fn call(c: &str) -> Option<ScriptCall> {
        Some(ScriptCall { command: c.into(), user: None })
    }

    fn servers() -> Servers {
        let rule = |key: &str, of| FactRule { key: key.into(), place: String::new(), of };
        let mut s = Servers::default();
        let mut file = crate::config::keepalived::build::blank_file("f", &Default::default());
        file.weight = 2;
        s.configure(&VrrpModel {
            facts: vec![
                rule("m", FactOf::Script { dynamic: None }),
                rule("d", FactOf::Script { dynamic: Some(3) }),
                rule("f1", FactOf::File { name: "f".into(), weight: None, dynamic: true }),
                rule("f2", FactOf::File { name: "f".into(), weight: Some(0), dynamic: false }),
                rule("b", FactOf::Bfd { name: "n".into() }),
            ],
            files: vec![file],
            told: vec![
                ServerScripts { section: "v".into(), up: call("q+"), down: call("q-"), omega: true, server: None },
                ServerScripts { section: "v".into(), server: Some("r".into()), down: call("r-"), omega: true, ..Default::default() },
            ],
            ..VrrpModel::default()
        });
        s
    }

    #[test]
    fn what_is_outside_becomes_facts() {
        let mut s = servers();
        let one = |m: HashMap<String, Fact>, k: &str| (m.len(), m[k].up, m[k].weight);
        assert_eq!(one(s.script("m", false, 1), "m"), (1, false, 0));
        assert!(s.script("m", false, 1).is_empty(), "no news");
        assert_eq!(one(s.script("d", true, 12), "d"), (1, true, 7));
        assert_eq!(one(s.script("d", true, 0), "d"), (1, true, 0));
        let m = s.file("f", 5);
        assert_eq!((m["f1"], m["f2"]), (Fact { up: true, weight: 10 }, Fact { up: false, weight: 0 }));
        assert!(!s.file("f", -127)["f1"].up);
        assert_eq!(one(s.neighbour("n", false), "b"), (1, false, 0));
        assert_eq!(s.facts().len(), 5);
        s.configure(&VrrpModel::default());
        assert!(s.facts().is_empty());
    }

    #[test]
    fn scripts_are_run_for_what_happens_and_at_the_end() {
        let mut s = servers();
        let h = |server: Option<&str>, up| Happening {
            section: "v".into(),
            server: server.map(str::to_owned),
            up,
            why: "TCP_CHECK: Layer4 timeout".into(),
        };
        let (text, script) = s.happened(h(Some("r"), false));
        assert_eq!(text, "virtual server v : server r is down, TCP_CHECK: Layer4 timeout");
        assert_eq!(script, call("r-"));
        assert_eq!(s.happened(h(Some("r"), true)).1, None);
        assert_eq!(s.happened(h(Some("other"), false)).1, None);
        // A quorum of which nothing was heard was never gained.
        assert_eq!(s.ending(), [call("r-").unwrap()]);
        assert_eq!(s.happened(h(None, true)).1, call("q+"));
        assert_eq!(s.ending(), [call("q-").unwrap(), call("r-").unwrap()]);
    }
}
