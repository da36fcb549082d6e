//! What routers track, and what it comes to (keepalived.conf(5): `track_interface`, `track_script`, `track_file`, `track_process`).
use super::priority::{Level, Points};
use crate::config::model::{INSIDE_WEIGHT, TrackEntry, Tracked, VrrpInstance, VrrpModel};
use std::collections::HashMap;

/// What is known of the tracked things.
#[derive(Debug, Default)]
pub struct Facts {
    /// Interfaces that can be used.
    pub links: HashMap<String, bool>,
    pub scripts: HashMap<String, bool>,
    /// What the files say.
    pub files: HashMap<String, i64>,
    pub processes: HashMap<String, bool>,
    /// BFD sessions that are up.
    pub bfds: HashMap<String, bool>,
    /// What the proxy sees inside, as far as it counts, by the name of [`inside_key`].
    pub inside: HashMap<String, bool>,
    /// The local proxy serves: the answer of scripts that only ask for that.
    pub serving: bool,
}

/// One name for a thing inside the proxy and what is wanted of it.
pub fn inside_key(t: &TrackEntry) -> String {
    format!("{} {} {:?}", t.kind.name(), t.name, t.inside)
}

/// One tracked thing, and what it does to the priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    pub kind: Tracked,
    pub name: String,
    pub level: Level,
    pub points: Points,
}

impl Share {
    /// In words, for people.
    pub fn text(&self) -> String {
        let state = match self.level {
            Level::Up => "up".to_owned(),
            Level::Down => "down".to_owned(),
            Level::Value(v) => format!("says {v}"),
        };
        let effect = match self.points {
            Points { failed: true, .. } => " (gives way)".to_owned(),
            Points { sum: 0, .. } => String::new(),
            Points { sum, .. } => format!(" ({sum:+})"),
        };
        let blank = if self.name.is_empty() { "" } else { " " };
        format!("{}{blank}{} {state}{effect}", self.kind.name(), self.name)
    }
}

impl Facts {
    /// State of a tracked thing, and its own weight and direction. `None`: nothing is known of such a thing, and it does not count.
    fn of(&self, model: &VrrpModel, t: &TrackEntry) -> Option<(Level, i32, bool)> {
        let level = |up: bool| if up { Level::Up } else { Level::Down };
        Some(match t.kind {
            Tracked::Interface => (level(self.links.get(&t.name).copied().unwrap_or(false)), 0, false),
            Tracked::Script => {
                let s = model.scripts.iter().find(|s| s.name == t.name)?;
                let up =
                    if s.liveness { self.serving } else { self.scripts.get(&s.name).copied().unwrap_or(!s.init_fail) };
                (level(up), s.weight, s.reverse)
            }
            Tracked::File => {
                let f = model.files.iter().find(|f| f.name == t.name)?;
                (Level::Value(self.files.get(&f.name).copied().unwrap_or(0)), f.weight, f.reverse)
            }
            // Until the proxy has said something, all is well.
            Tracked::Backend | Tracked::Frontend | Tracked::Load => {
                (level(self.inside.get(&inside_key(t)).copied().unwrap_or(true)), INSIDE_WEIGHT, false)
            }
            Tracked::Bfd => {
                let b = model.bfds.iter().find(|b| b.name == t.name)?;
                // It is down until it is up, as there.
                (level(self.bfds.get(&b.name).copied().unwrap_or(false)), b.weight, b.reverse)
            }
            Tracked::Process => {
                let p = model.processes.iter().find(|p| p.name == t.name)?;
                // Until the first look, they are taken to be there.
                (level(self.processes.get(&p.name).copied().unwrap_or(true)), p.weight, p.reverse)
            }
        })
    }

    /// What a router tracks, itself and through its group.
    pub fn shares(&self, model: &VrrpModel, i: &VrrpInstance) -> Vec<Share> {
        let groups = model.groups.iter().filter(|g| g.members.contains(&i.name)).flat_map(|g| &g.tracks);
        i.tracks
            .iter()
            .chain(groups)
            .filter_map(|t| {
                let (level, weight, reverse) = self.of(model, t)?;
                let points = level.points(t.weight.unwrap_or(weight), t.reverse.unwrap_or(reverse));
                Some(Share { kind: t.kind, name: t.name.clone(), level, points })
            })
            .collect()
    }
}
