//! `vrrp_sync_group`, and what can only be looked at once everything is read.
use super::{Cx, notify, place_of, track};
use crate::base::code::Code;
use crate::base::diag::{Severity, suggestion};
use crate::config::keepalived::parse::Node;
use crate::config::model::{INSIDE_WEIGHT, Notify, TrackEntry, Tracked, VrrpGroup, VrrpModel};
use std::collections::{HashMap, HashSet};

/// `vrrp_sync_group <name> { ... }`
pub(super) fn read(cx: &mut Cx<'_>, block: &Node, m: &mut VrrpModel) {
    if block.words.len() != 2 {
        let text = "'vrrp_sync_group' must have a name of one word: it is left out, as keepalived does";
        return cx.lenient(Code::RouterIncomplete, &block.place, text.into());
    }
    let mut g = VrrpGroup {
        name: block.words.get(1).cloned().unwrap_or_default(),
        members: Vec::new(),
        notify: Notify::default(),
        tracks: Vec::new(),
        own_weights: false,
    };
    g.notify.priority_changes = cx.globals.priority_changes;
    g.notify.mail = cx.globals.alerts.of_routers();
    for n in block.block.iter().flatten() {
        let Some(head) = n.words.first() else { continue };
        match head.as_str() {
            "group" => {
                if !g.members.is_empty() {
                    let text = "'group' is already given; its members are added".to_owned();
                    cx.lenient(Code::Duplicate, &n.place, text);
                }
                let mut seen: HashSet<String> = g.members.iter().cloned().collect();
                for w in cx.lines(n).flat_map(|l| &l.words) {
                    if !seen.insert(w.clone()) {
                        cx.lenient(Code::Duplicate, &n.place, format!("'{w}' is in the group twice"));
                    } else {
                        g.members.push(w.clone());
                    }
                }
            }
            h if h.starts_with("track_") && track::block(cx, n, &mut g.tracks) => {}
            "sync_group_tracking_weight" => g.own_weights = true,
            "smtp_alert" => g.notify.mail = cx.flag(n),
            h if h.starts_with("notify") => notify::read(cx, n, "vrrp_sync_group", &mut g.notify),
            _ => cx.unknown(n, "vrrp_sync_group"),
        }
    }
    match g.members.len() {
        0 => {
            let text =
                format!("vrrp_sync_group '{}' has no virtual router: it is left out, as keepalived does", g.name);
            return cx.lenient(Code::RouterIncomplete, &block.place, text);
        }
        1 => {
            let text = format!("vrrp_sync_group '{}' has a single member: nothing moves along with it", g.name);
            cx.lenient(Code::Useless, &block.place, text);
        }
        _ => {}
    }
    m.groups.push(g);
}

/// `track_group <name> { group { <router> ... } }`
pub(super) fn tracking(cx: &mut Cx<'_>, block: &Node, m: &mut VrrpModel) {
    let Some(name) = block.words.get(1).cloned() else {
        let text = "'track_group' needs a name: it is left out, as keepalived does".to_owned();
        return cx.lenient(Code::Lenient, &block.place, text);
    };
    let (mut members, mut blocks) = (Vec::new(), 0);
    for n in block.block.iter().flatten() {
        let Some(head) = n.words.first() else { continue };
        match head.as_str() {
            "group" => {
                let words: Vec<String> = cx.lines(n).flat_map(|l| l.words.clone()).collect();
                members.extend(words);
                blocks += 1;
            }
            _ => cx.unknown(n, "track_group"),
        }
    }
    if members.is_empty() {
        let text = format!("track_group '{name}' has no virtual router: it is left out, as keepalived does");
        // Without a word of routers nothing is said there.
        return match blocks {
            0 => cx.report.notice(Code::NoEffect, &block.place, text),
            _ => cx.lenient(Code::Lenient, &block.place, text),
        };
    }
    if m.track_groups.iter().any(|g| g.0 == name) {
        let text = format!("track_group '{name}' is defined twice: the second one is left out, as keepalived does");
        return cx.lenient(Code::Duplicate, &block.place, text);
    }
    m.track_groups.push((name, members));
}

/// Names of what is defined, by kind.
fn defined(m: &VrrpModel, kind: Tracked) -> Option<HashSet<String>> {
    Some(match kind {
        // Whether there is such an interface is the host's to say.
        Tracked::Interface | Tracked::Backend | Tracked::Frontend | Tracked::Load => return None,
        Tracked::Script => m.scripts.iter().map(|s| s.name.clone()).collect(),
        Tracked::File => m.files.iter().map(|f| f.name.clone()).collect(),
        Tracked::Process => m.processes.iter().map(|p| p.name.clone()).collect(),
        Tracked::Bfd => m.bfds.iter().map(|b| b.name.clone()).collect(),
    })
}

/// Leaves out what nothing defines; `who` tracks it.
fn known_ones(
    cx: &mut Cx<'_>,
    who: &str,
    place: Option<&crate::base::diag::Place>,
    tracks: &mut Vec<TrackEntry>,
    all: &[(Tracked, Option<HashSet<String>>)],
) {
    tracks.retain(|t| {
        let Some(names) = all.iter().find(|a| a.0 == t.kind).and_then(|a| a.1.as_ref()) else { return true };
        let known = names.contains(&t.name);
        if !known {
            let what = t.kind.name();
            let near = suggestion(&t.name, names.iter().map(String::as_str));
            let text = format!(
                "{who} tracks {what} '{}', which nothing defines: it is not tracked, as in keepalived{near}",
                t.name
            );
            match place {
                Some(p) => cx.lenient(Code::UnknownTracked, p, text),
                None => cx.report.push(Code::UnknownTracked, Severity::Error, None, text),
            }
        }
        known
    });
}

pub(super) fn finish(cx: &mut Cx<'_>, m: &mut VrrpModel) {
    for (said, text) in m.drop_undefined_groups() {
        let severity = match (said, cx.strict) {
            (true, true) => Severity::Error,
            (true, false) => Severity::Warning,
            (false, _) => Severity::Notice,
        };
        cx.report.push(Code::UnknownTracked, severity, None, format!("{text}; it is left out, as keepalived does"));
    }
    let all: Vec<_> = [Tracked::Interface, Tracked::Script, Tracked::File, Tracked::Process, Tracked::Bfd]
        .into_iter()
        .map(|k| (k, defined(m, k)))
        .collect();
    for i in &mut m.instances {
        let place = &place_of(&i.place);
        known_ones(cx, &format!("vrrp_instance '{}'", i.name), Some(place), &mut i.tracks, &all);
        let own = i.interface.clone();
        let is_own = |t: &TrackEntry| t.kind == Tracked::Interface && t.name == own;
        if i.tracks.iter().any(is_own) {
            cx.report.warning(
                Code::Advice,
                place,
                format!("vrrp_instance '{}' tracks {own}, its own interface, which it does in any case", i.name),
            );
        }
        i.tracks.retain(|t| !is_own(t));
    }
    let instances: HashSet<&str> = m.instances.iter().map(|i| i.name.as_str()).collect();
    let mut grouped: HashMap<String, String> = HashMap::new();
    for g in &mut m.groups {
        known_ones(cx, &format!("vrrp_sync_group '{}'", g.name), None, &mut g.tracks, &all);
        let mut bad = |code, text: String| cx.report.push(code, Severity::Error, None, text);
        for name in &g.members {
            if let Some(other) = grouped.insert(name.clone(), g.name.clone()) {
                let text =
                    format!("vrrp_instance '{name}' is in two sync groups, '{other}' and '{}'; keep it in one", g.name);
                bad(Code::Duplicate, text);
            }
        }
        for name in g.members.iter().filter(|n| !instances.contains(n.as_str())) {
            let text = format!("vrrp_sync_group '{}' names '{name}', which no vrrp_instance defines", g.name);
            bad(Code::UnknownTarget, text);
        }
    }
    weights(cx, m);
}

/// Members of a group have one priority: what one of them tracks with a weight is not tracked, unless the group says so, as in keepalived.
fn weights(cx: &mut Cx<'_>, m: &mut VrrpModel) {
    let VrrpModel { instances, groups, scripts, files, processes, bfds, .. } = m;
    let own = |t: &TrackEntry| match t.kind {
        Tracked::Interface => 0,
        Tracked::Backend | Tracked::Frontend | Tracked::Load => INSIDE_WEIGHT,
        Tracked::Script => scripts.iter().find(|s| s.name == t.name).map_or(0, |s| s.weight),
        Tracked::File => files.iter().find(|f| f.name == t.name).map_or(0, |f| f.weight),
        Tracked::Bfd => bfds.iter().find(|b| b.name == t.name).map_or(0, |b| b.weight),
        Tracked::Process => processes.iter().find(|p| p.name == t.name).map_or(0, |p| p.weight),
    };
    for i in instances.iter_mut() {
        let Some(g) = groups.iter().find(|g| g.members.contains(&i.name)).filter(|g| !g.own_weights) else { continue };
        let place = place_of(&i.place);
        i.tracks.retain(|t| {
            let weightless = t.weight.unwrap_or_else(|| own(t)) == 0;
            if !weightless {
                let text = format!(
                    "vrrp_instance '{}' tracks {} '{}' with a weight, which its sync group '{}' does not permit: it is not tracked, as in keepalived; track it in the group, or say 'sync_group_tracking_weight' there",
                    i.name,
                    t.kind.name(),
                    t.name,
                    g.name
                );
                cx.lenient(Code::Lenient, &place, text);
            }
            weightless
        });
    }
}
