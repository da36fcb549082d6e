//! What routers track, and what it is made of: interfaces, scripts, files, processes.
use super::{Cx, asks_for_haproxy};
use crate::base::code::Code;
use crate::base::diag::{Place, suggestion};
use crate::config::keepalived::parse::Node;
use crate::config::model::{Bfd, ParamMatch, TrackEntry, TrackFile, TrackProcess, Tracked, VrrpModel, VrrpScript};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// The blocks, what they hold, and how large a weight may be.
const BLOCKS: &[(&str, Tracked, i32)] = &[
    ("track_interface", Tracked::Interface, 253),
    ("track_script", Tracked::Script, 253),
    ("track_file", Tracked::File, 254),
    ("track_process", Tracked::Process, 254),
    ("track_bfd", Tracked::Bfd, 253),
];

/// A block of tracked things, behind what was tracked before. False if it is none.
pub(super) fn block(cx: &mut Cx<'_>, n: &Node, to: &mut Vec<TrackEntry>) -> bool {
    let Some((_, kind, most)) = BLOCKS.iter().find(|b| b.0 == n.words[0]) else { return false };
    let mut seen: HashSet<String> = to.iter().filter(|t| t.kind == *kind).map(|t| t.name.clone()).collect();
    for line in cx.lines(n) {
        let t = entry(cx, line, *kind, *most);
        if !seen.insert(t.name.clone()) {
            let text = format!("'{}' is tracked twice in {}; the first one counts", t.name, n.words[0]);
            cx.lenient(Code::Duplicate, &line.place, text);
        } else {
            to.push(t);
        }
    }
    true
}

fn entry(cx: &mut Cx<'_>, n: &Node, kind: Tracked, most: i32) -> TrackEntry {
    let mut t = TrackEntry { kind, name: n.words[0].clone(), weight: None, reverse: None, inside: None };
    let mut i = 1;
    while let Some(w) = n.words.get(i) {
        match w.as_str() {
            "weight" => {
                match n.words.get(i + 1).and_then(|v| v.parse::<i32>().ok()) {
                    Some(v) => {
                        if !(-most..=most).contains(&v) {
                            let text = format!("'weight {v}' : weights go from -{most} to {most}");
                            cx.lenient(Code::Number, &n.place, text);
                        }
                        t.weight = Some(v.clamp(-most, most));
                    }
                    None => {
                        let text = format!("'weight' expects a number from -{most} to {most}");
                        cx.report.error(Code::Number, &n.place, text);
                    }
                }
                i += 1;
            }
            "reverse" => t.reverse = Some(true),
            "noreverse" => t.reverse = Some(false),
            o => cx.report.warning(
                Code::UnknownWord,
                &n.place,
                format!("unknown word '{o}' behind tracked '{}'", t.name),
            ),
        }
        i += 1;
    }
    t
}

/// The `weight <n> [reverse|noreverse]` of a definition.
fn weight(cx: &mut Cx<'_>, n: &Node, lo: i32, hi: i32) -> (i32, bool) {
    let weight = cx.number(n, lo, hi).unwrap_or(0);
    let reverse = match n.words.get(2).map(String::as_str) {
        Some("reverse") => true,
        None | Some("noreverse") => false,
        Some(o) => {
            let text = format!("unknown word '{o}' behind 'weight'{}", suggestion(o, ["reverse", "noreverse"]));
            cx.lenient(Code::UnknownWord, &n.place, text);
            false
        }
    };
    (weight, reverse)
}

/// The name behind the head of a block, if there is one.
fn name(cx: &mut Cx<'_>, block: &Node) -> Option<String> {
    let name = block.words.get(1).filter(|n| !n.is_empty()).cloned();
    if name.is_none() {
        let text = format!("'{}' is missing its name: it is left out", block.words[0]);
        cx.lenient(Code::Missing, &block.place, text);
    }
    name
}

pub fn blank_script(name: &str, place: &Place) -> VrrpScript {
    VrrpScript {
        name: name.to_owned(),
        place: place.to_string(),
        command: String::new(),
        interval: Duration::from_secs(1),
        timeout: Duration::ZERO,
        weight: 0,
        reverse: false,
        rise: 1,
        fall: 1,
        init_fail: false,
        user: None,
        liveness: false,
        pause: None,
        tells_codes: false,
    }
}

pub fn blank_file(name: &str, place: &Place) -> TrackFile {
    TrackFile {
        name: name.to_owned(),
        place: place.to_string(),
        path: String::new(),
        weight: 1,
        reverse: false,
        init: None,
    }
}

pub fn blank_process(name: &str, place: &Place) -> TrackProcess {
    TrackProcess {
        name: name.to_owned(),
        place: place.to_string(),
        command: Vec::new(),
        full_command: false,
        params: ParamMatch::Exact,
        weight: 0,
        reverse: false,
        quorum: 1,
        quorum_max: u32::MAX,
        fork_delay: Duration::ZERO,
        terminate_delay: Duration::ZERO,
    }
}

/// A session to nobody yet.
pub fn blank_bfd(name: &str, place: &Place) -> Bfd {
    Bfd {
        name: name.to_owned(),
        place: place.to_string(),
        neighbour: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        source: None,
        min_rx: Duration::from_millis(10),
        min_tx: Duration::from_millis(10),
        idle_tx: Duration::from_secs(1),
        multiplier: 5,
        passive: false,
        ttl: 255,
        max_hops: 0,
        multihop: false,
        weight: 0,
        reverse: false,
    }
}

/// TTL of what a session sends where none is said, as keepalived has it.
pub fn usual_ttl(neighbour: IpAddr) -> u8 {
    if neighbour.is_ipv4() { 255 } else { 64 }
}

/// `bfd_instance <name> { ... }`
pub(super) fn bfd(cx: &mut Cx<'_>, block: &Node, m: &mut VrrpModel) {
    let Some(name) = name(cx, block) else { return };
    let mut b = blank_bfd(&name, &block.place);
    let (mut neighbour, mut ttl, mut limit) = (None, None, None);
    for n in block.block.iter().flatten() {
        let Some(head) = n.words.first() else { continue };
        match head.as_str() {
            "neighbor_ip" | "neighbour_ip" | "source_ip" => match cx.value(n).map(str::parse::<IpAddr>) {
                Some(Ok(ip)) if head == "source_ip" => b.source = Some(ip),
                Some(Ok(ip)) => neighbour = Some(ip),
                Some(Err(_)) => {
                    let text =
                        format!("'{head}' : '{}' is not an IP address; it is left out, as keepalived does", n.words[1]);
                    cx.lenient(Code::Lenient, &n.place, text);
                }
                None => {}
            },
            "min_rx" => b.min_rx = millis(cx, n, 1.0, 1000.0).unwrap_or(b.min_rx),
            "min_tx" => b.min_tx = millis(cx, n, 1.0, 1000.0).unwrap_or(b.min_tx),
            "idle_tx" => b.idle_tx = millis(cx, n, 1000.0, 10_000.0).unwrap_or(b.idle_tx),
            "multiplier" => b.multiplier = cx.number(n, 1u8, 255).unwrap_or(5),
            "passive" => b.passive = true,
            "ttl" => ttl = cx.number(n, 1u8, 255),
            "hoplimit" => limit = cx.number(n, 1u8, 255),
            "max_hops" => b.max_hops = cx.number(n, 0u8, 255).unwrap_or(0),
            "multihop" => b.multihop = cx.flag(n),
            "weight" => (b.weight, b.reverse) = weight(cx, n, -253, 253),
            // Routers are who is told.
            "vrrp" => {}
            _ => cx.unknown(n, "bfd_instance"),
        }
    }
    let Some(neighbour) = neighbour else {
        let text = format!("bfd_instance '{name}' has no 'neighbor_ip': it is left out, as keepalived does");
        return cx.lenient(Code::RouterIncomplete, &block.place, text);
    };
    if b.source.is_some_and(|s| s.is_ipv4() != neighbour.is_ipv4()) {
        let text =
            format!("bfd_instance '{name}' : 'source_ip' is of another family than its neighbour: it is left out");
        return cx.lenient(Code::AddressFamily, &block.place, text);
    }
    if m.bfds.iter().any(|o| o.name == name || o.neighbour == neighbour) {
        let text =
            format!("bfd_instance '{name}' : there is one of this name or to this neighbour already: it is left out");
        return cx.lenient(Code::Duplicate, &block.place, text);
    }
    b.neighbour = neighbour;
    b.ttl = if neighbour.is_ipv4() { ttl } else { limit }.unwrap_or_else(|| usual_ttl(neighbour));
    m.bfds.push(b);
}

/// Milliseconds, with a fraction down to microseconds.
fn millis(cx: &mut Cx<'_>, n: &Node, lo: f64, hi: f64) -> Option<Duration> {
    cx.number::<f64>(n, lo, hi).map(|ms| Duration::from_secs_f64(ms / 1000.0))
}

/// `vrrp_script <name> { ... }`
pub(super) fn script(cx: &mut Cx<'_>, block: &Node, m: &mut VrrpModel) {
    let Some(name) = name(cx, block) else { return };
    let mut s = blank_script(&name, &block.place);
    for n in block.block.iter().flatten() {
        let Some(head) = n.words.first() else { continue };
        match head.as_str() {
            "script" => {
                s.command = if n.words.len() > 2 {
                    n.raw.trim_matches('"').to_owned()
                } else {
                    cx.value(n).unwrap_or_default().to_owned()
                }
            }
            "interval" => s.interval = cx.seconds(n, 0.001, 1_000_000.0).unwrap_or(s.interval),
            "timeout" => s.timeout = cx.seconds(n, 0.001, 1_000_000.0).unwrap_or_default(),
            "weight" => (s.weight, s.reverse) = weight(cx, n, -253, 253),
            "rise" => s.rise = cx.number(n, 1u32, u32::MAX).unwrap_or(1),
            "fall" => s.fall = cx.number(n, 1u32, u32::MAX).unwrap_or(1),
            "user" => s.user = cx.value(n).map(|u| (u.to_owned(), n.words.get(2).filter(|g| !g.is_empty()).cloned())),
            "init_fail" => s.init_fail = true,
            _ => cx.unknown(n, "vrrp_script"),
        }
    }
    if s.timeout.is_zero() {
        s.timeout = s.interval;
    }
    if s.command.is_empty() {
        return cx.lenient(
            Code::RouterIncomplete,
            &block.place,
            format!("vrrp_script '{}' has no 'script': it is left out, as keepalived does", s.name),
        );
    }
    s.liveness = asks_for_haproxy(&s.command);
    if s.liveness {
        let what = if s.weight == 0 {
            "a node whose proxy cannot serve yields".to_owned()
        } else {
            format!("weight {} is applied", s.weight)
        };
        cx.report.notice(Code::Remark, &block.place, format!("vrrp_script '{}' only asks whether HAProxy is alive: it is answered from inside, within milliseconds, and never run; {what}", s.name));
    }
    m.scripts.push(s);
}

/// `track_file <name> { ... }`
pub(super) fn file(cx: &mut Cx<'_>, block: &Node, m: &mut VrrpModel) {
    let Some(name) = name(cx, block) else { return };
    let mut f = blank_file(&name, &block.place);
    let mut said = false;
    for n in block.block.iter().flatten() {
        let Some(head) = n.words.first() else { continue };
        match head.as_str() {
            "file" => f.path = cx.value(n).unwrap_or_default().to_owned(),
            "weight" if n.words.len() < 2 => {
                let text =
                    format!("track_file '{}' : 'weight' has no number; it is ignored, as keepalived does", f.name);
                cx.lenient(Code::Lenient, &n.place, text);
            }
            "weight" => {
                (f.weight, f.reverse) = weight(cx, n, -i32::MAX, i32::MAX);
                said = true;
            }
            "init_file" => {
                let mut init = (0, false);
                for w in &n.words[1..] {
                    match w.parse::<i64>() {
                        Ok(v) => init.0 = v,
                        Err(_) if w == "overwrite" => init.1 = true,
                        Err(_) => {
                            let text = format!("'init_file' takes a number and 'overwrite', not '{w}'");
                            cx.lenient(Code::Value, &n.place, text);
                        }
                    }
                }
                f.init = Some(init);
            }
            _ => cx.unknown(n, "track_file"),
        }
    }
    if f.path.is_empty() {
        let text = format!("track_file '{}' has no 'file': it is left out, as keepalived does", f.name);
        return cx.lenient(Code::RouterIncomplete, &block.place, text);
    }
    if m.files.iter().any(|o| o.name == f.name) {
        let text = format!("track_file '{}' is already defined: the first one is used", f.name);
        return cx.lenient(Code::Duplicate, &block.place, text);
    }
    if !said {
        f.weight = 1;
    }
    m.files.push(f);
}

/// `vrrp_track_process <name> { ... }`
pub(super) fn process(cx: &mut Cx<'_>, block: &Node, m: &mut VrrpModel) {
    let Some(name) = name(cx, block) else { return };
    let mut p = blank_process(&name, &block.place);
    for n in block.block.iter().flatten() {
        let Some(head) = n.words.first() else { continue };
        match head.as_str() {
            "process" => p.command = n.words[1..].to_vec(),
            "param_match" => match cx.value(n) {
                Some("initial") => p.params = ParamMatch::Initial,
                Some("partial") => p.params = ParamMatch::Partial,
                Some(o) => {
                    let text = format!("'param_match' knows initial and partial, not '{o}'");
                    cx.lenient(Code::Value, &n.place, text);
                }
                None => {}
            },
            "weight" => (p.weight, p.reverse) = weight(cx, n, -254, 254),
            "quorum" => p.quorum = cx.number(n, 1u32, 65535).unwrap_or(1),
            "quorum_max" => p.quorum_max = cx.number(n, 0u32, 65535).unwrap_or(u32::MAX),
            "fork_delay" => p.fork_delay = cx.seconds(n, 0.0, 3600.0).unwrap_or_default(),
            "terminate_delay" => p.terminate_delay = cx.seconds(n, 0.0, 3600.0).unwrap_or_default(),
            "delay" => {
                let both = cx.seconds(n, 0.0, 3600.0).unwrap_or_default();
                (p.fork_delay, p.terminate_delay) = (both, both);
            }
            "full_command" => p.full_command = true,
            _ => cx.unknown(n, "vrrp_track_process"),
        }
    }
    if p.command.iter().all(String::is_empty) {
        let text = format!("vrrp_track_process '{}' has no 'process': it is left out, as keepalived does", p.name);
        return cx.lenient(Code::RouterIncomplete, &block.place, text);
    }
    if p.quorum_max < p.quorum && p.quorum_max != 0 {
        let text = format!(
            "vrrp_track_process '{}' : 'quorum {}' is more than 'quorum_max {}': it could never succeed",
            p.name, p.quorum, p.quorum_max
        );
        cx.lenient(Code::Value, &block.place, text);
    }
    m.processes.push(p);
}
