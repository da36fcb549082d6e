//! What virtual servers need of the guardian: checks that it makes for the proxy, and scripts that it runs for it. Pure: the guardian asks and runs.
use crate::config::model::{Fact, FactOf, ScriptCall, ServerScripts, TrackFile, VrrpModel};
use crate::state::live::Happening;
use std::collections::HashMap;
use std::time::Instant;

/// A file that adds so little means that the server is down, as keepalived's own limit of weights has it.
const FAULT: i64 = -254;
/// Scripts that may be started at once, and how many more each second: the proxy, which asks for them, may be in other hands.
const BURST: f64 = 2000.0;
const A_SECOND: f64 = 20.0;
/// No more of a reason is written.
const MOST_WORDS: usize = 300;

/// What there is to be done about something that happened.
#[derive(Debug, PartialEq)]
pub struct News {
    /// For the log.
    pub text: String,
    pub script: Option<ScriptCall>,
    /// Of a mail (`smtp_alert`).
    pub subject: Option<String>,
}

#[derive(Default)]
pub struct Servers {
    model: VrrpModel,
    /// What programs, files and neighbours said last.
    scripts: HashMap<String, (bool, i32)>,
    files: HashMap<String, i64>,
    bfds: HashMap<String, bool>,
    /// What the proxy was told of it.
    facts: HashMap<String, Fact>,
    /// What the proxy told last: section, server.
    states: HashMap<(String, Option<String>), bool>,
    /// Scripts that may still be started, and when that was counted.
    tokens: Option<(f64, Instant)>,
}

impl Servers {
    /// A model in force. What it does not have any more is forgotten; what is left is everything that the proxy has to know of it.
    pub fn configure(&mut self, m: &VrrpModel) -> &HashMap<String, Fact> {
        let old = &self.model;
        self.scripts.retain(|n, _| {
            let find = |m: &VrrpModel| m.checks.iter().find(|s| s.name == *n).cloned();
            find(m).is_some() && find(m) == find(old)
        });
        self.files.retain(|n, _| {
            let find = |m: &VrrpModel| m.files.iter().find(|f| f.name == *n).cloned();
            find(m).is_some() && find(m) == find(old)
        });
        self.bfds.retain(|n, _| {
            let find = |m: &VrrpModel| m.bfds.iter().find(|b| b.name == *n).cloned();
            find(m).is_some() && find(m) == find(old)
        });
        self.states.retain(|k, _| m.told.iter().any(|t| t.section == k.0 && t.server == k.1));
        self.model = VrrpModel {
            facts: m.facts.clone(),
            told: m.told.clone(),
            files: m.files.clone(),
            checks: m.checks.clone(),
            bfds: m.bfds.clone(),
            router_id: m.router_id.clone(),
            ..VrrpModel::default()
        };
        self.facts.clear();
        self.learn(|_| true);
        &self.facts
    }

    /// Everything that is known: for a worker that is new.
    pub fn facts(&self) -> &HashMap<String, Fact> {
        &self.facts
    }

    /// What the proxy told of its servers: for a worker that is new.
    pub fn states(&self) -> impl Iterator<Item = Happening> {
        let all = self.states.iter();
        all.map(|(k, up)| Happening { section: k.0.clone(), server: k.1.clone(), up: *up, why: String::new() })
    }

    /// Works out anew what these rules come to; what of it is news.
    fn learn(&mut self, which: impl Fn(&FactOf) -> bool) -> HashMap<String, Fact> {
        let mut fresh = HashMap::new();
        for r in self.model.facts.iter().filter(|r| which(&r.of)) {
            let fact = match &r.of {
                FactOf::Script { dynamic } => self.scripts.get(&r.key).map(|(up, code)| Fact {
                    up: *up,
                    // The exit status is two more than the weight that the server is to have in place of the one it has.
                    weight: match dynamic {
                        Some(is) if *code > 1 => (*code - 2).saturating_sub(i32::try_from(*is).unwrap_or(i32::MAX)),
                        _ => 0,
                    },
                }),
                FactOf::File { name, weight, dynamic } => {
                    let file = self.model.files.iter().find(|f| f.name == *name);
                    file.zip(self.files.get(name)).map(|(f, v)| of_file(f, *v, *weight, *dynamic))
                }
                // One that was never heard of cannot be reached.
                FactOf::Bfd { name } => Some(Fact { up: self.bfds.get(name).copied().unwrap_or(false), weight: 0 }),
            };
            if let Some(f) = fact.filter(|f| self.facts.get(&r.key) != Some(f)) {
                fresh.insert(r.key.clone(), f);
            }
        }
        self.facts.extend(fresh.clone());
        fresh
    }

    /// A program has answered. What the proxy has to be told.
    pub fn script(&mut self, name: &str, up: bool, code: i32) -> HashMap<String, Fact> {
        if !self.model.checks.iter().any(|s| s.name == name) {
            return HashMap::new();
        }
        self.scripts.insert(name.to_owned(), (up, code));
        self.learn(|of| matches!(of, FactOf::Script { .. }))
    }

    /// A file says another number.
    pub fn file(&mut self, name: &str, value: i64) -> HashMap<String, Fact> {
        self.files.insert(name.to_owned(), value);
        self.learn(|of| matches!(of, FactOf::File { name: n, .. } if n == name))
    }

    /// A neighbour that BFD watches.
    pub fn neighbour(&mut self, name: &str, up: bool) -> HashMap<String, Fact> {
        self.bfds.insert(name.to_owned(), up);
        self.learn(|of| matches!(of, FactOf::Bfd { name: n } if n == name))
    }

    /// The proxy says what became of a virtual server or of one of its servers: what is to be done. Nothing if it is no news,
    /// or nothing that there is.
    pub fn happened(&mut self, h: Happening, now: Instant) -> Option<News> {
        let scripts = self.model.told.iter().find(|t| t.section == h.section && t.server == h.server)?;
        let before = self.states.get(&(h.section.clone(), h.server.clone())).copied().or(scripts.begins);
        if before == Some(h.up) {
            return None;
        }
        let state = if h.up { "up" } else { "down" };
        let why: String = h.why.chars().filter(|c| !c.is_control()).take(MOST_WORDS).collect();
        let mut text = match &h.server {
            Some(s) if why.is_empty() => format!("virtual server {} : server {s} is {state}", h.section),
            Some(s) => format!("virtual server {} : server {s} is {state}, {why}", h.section),
            None => format!("virtual server {} : {why}", h.section),
        };
        let mut script = if h.up { scripts.up.clone() } else { scripts.down.clone() };
        let id = &self.model.router_id;
        let mut subject = scripts.mail.then(|| match &h.server {
            Some(s) => {
                format!("[{id}] Realserver {s} of virtual server {} - {}", h.section, if h.up { "UP" } else { "DOWN" })
            }
            None => format!("[{id}] Virtualserver {} - Quorum {}", h.section, if h.up { "gained" } else { "lost" }),
        });
        self.states.insert((h.section, h.server), h.up);
        if script.is_some() || subject.is_some() {
            let (left, since) = self.tokens.unwrap_or((BURST, now));
            let left = (left + now.saturating_duration_since(since).as_secs_f64() * A_SECOND).min(BURST);
            self.tokens = Some(((left - 1.0).max(0.0), now));
            if left < 1.0 {
                text.push_str("; nobody is told: there was too much");
                (script, subject) = (None, None);
            }
        }
        Some(News { text, script, subject })
    }

    /// The end: scripts of those with `omega` that are up.
    pub fn ending(&mut self) -> Vec<ScriptCall> {
        let states = std::mem::take(&mut self.states);
        let up = |t: &ServerScripts| {
            let known = states.get(&(t.section.clone(), t.server.clone())).copied();
            known.or(t.begins).unwrap_or(false)
        };
        let last = self.model.told.iter().filter(|t| t.omega && up(t));
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
    use crate::config::keepalived::build;
    use crate::config::model::FactRule;

    fn call(c: &str) -> Option<ScriptCall> {
        Some(ScriptCall { command: c.into(), user: None })
    }

    fn servers() -> Servers {
        let rule = |key: &str, of| FactRule { key: key.into(), place: String::new(), of };
        let place = Default::default();
        let mut file = build::blank_file("f", &place);
        file.weight = 2;
        let mut s = Servers::default();
        s.configure(&VrrpModel {
            facts: vec![
                rule("m", FactOf::Script { dynamic: None }),
                rule("d", FactOf::Script { dynamic: Some(3) }),
                rule("f1", FactOf::File { name: "f".into(), weight: None, dynamic: true }),
                rule("f2", FactOf::File { name: "f".into(), weight: Some(0), dynamic: false }),
                rule("b", FactOf::Bfd { name: "n".into() }),
            ],
            files: vec![file],
            checks: vec![build::blank_script("m", &place), build::blank_script("d", &place)],
            bfds: vec![build::blank_bfd("n", &place)],
            told: vec![
                ServerScripts {
                    section: "v".into(),
                    up: call("q+"),
                    down: call("q-"),
                    omega: true,
                    ..Default::default()
                },
                ServerScripts {
                    section: "v".into(),
                    server: Some("r".into()),
                    down: call("r-"),
                    omega: true,
                    begins: Some(true),
                    mail: true,
                    ..Default::default()
                },
            ],
            router_id: "lb1".into(),
            ..VrrpModel::default()
        });
        s
    }

    #[test]
    fn what_is_outside_becomes_facts() {
        let mut s = servers();
        let one = |m: HashMap<String, Fact>, k: &str| (m.len(), m[k].up, m[k].weight);
        // A neighbour of which nothing was heard.
        assert_eq!(s.facts().clone(), HashMap::from([("b".to_owned(), Fact { up: false, weight: 0 })]));
        assert_eq!(one(s.script("m", false, 1), "m"), (1, false, 0));
        assert!(s.script("m", false, 1).is_empty(), "no news");
        assert_eq!(one(s.script("d", true, 12), "d"), (1, true, 7));
        assert_eq!(one(s.script("d", true, 0), "d"), (1, true, 0));
        let m = s.file("f", 5);
        assert_eq!((m["f1"], m["f2"]), (Fact { up: true, weight: 10 }, Fact { up: false, weight: 0 }));
        assert!(!s.file("f", -127)["f1"].up);
        assert_eq!(one(s.neighbour("n", true), "b"), (1, true, 0));
        // A reload that changes a rule counts with what was said last.
        let mut m = s.model.clone();
        m.facts[1].of = FactOf::Script { dynamic: Some(9) };
        m.facts[2].of = FactOf::File { name: "f".into(), weight: Some(1), dynamic: true };
        s.script("d", true, 12);
        let all = s.configure(&m).clone();
        assert_eq!((all.len(), all["d"].weight, all["f1"].weight, all["b"].up), (5, 1, -127, true));
        // One that changes what is asked knows nothing of it.
        m.checks[1].command = "/other".into();
        m.files[0].path = "/other".into();
        let all = s.configure(&m);
        assert_eq!((all.len(), all.contains_key("d"), all.contains_key("f1")), (2, false, false));
        assert!(s.configure(&VrrpModel::default()).is_empty());
    }

    #[test]
    fn scripts_are_run_for_what_happens_and_at_the_end() {
        let (mut s, t) = (servers(), Instant::now());
        let h = |server: Option<&str>, up| Happening {
            section: "v".into(),
            server: server.map(str::to_owned),
            up,
            why: "TCP_CHECK: \x1b[31mLayer4\n timeout".into(),
        };
        let News { text, script, subject } = s.happened(h(Some("r"), false), t).unwrap();
        assert_eq!(subject.unwrap(), "[lb1] Realserver r of virtual server v - DOWN");
        assert_eq!(text, "virtual server v : server r is down, TCP_CHECK: [31mLayer4 timeout");
        assert_eq!(script, call("r-"));
        assert_eq!(s.happened(h(Some("r"), false), t), None, "no news");
        assert_eq!(s.happened(h(Some("r"), true), t).unwrap().script, None);
        assert_eq!(s.happened(h(Some("other"), false), t), None, "there is no such server");
        // A new worker is told what was known.
        assert_eq!(s.states().map(|h| (h.server, h.up)).collect::<Vec<_>>(), [(Some("r".to_owned()), true)]);
        // A quorum of which nothing was heard was never gained.
        assert_eq!(s.ending(), [call("r-").unwrap()]);
        assert_eq!(s.happened(h(None, true), t).unwrap().script, call("q+"));
        assert_eq!(s.ending(), [call("q-").unwrap(), call("r-").unwrap()]);
        // A proxy in other hands.
        let runs = (0..10_000).filter(|n| s.happened(h(None, n % 2 == 0), t).unwrap().script.is_some()).count();
        assert!(runs <= 2000, "{runs}");
        assert!(s.happened(h(None, true), t + std::time::Duration::from_secs(1)).unwrap().script.is_some());
    }
}
