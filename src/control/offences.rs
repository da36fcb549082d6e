//! `show errors` (management manual 9.3): the last invalid request and response of each proxy, byte for byte.
use crate::rules::logformat::{DateForm, date};
use crate::state::live::{Live, Offence, lock};
use crate::state::snapshot::Snapshot;
use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

/// Which of them: all, or those of a proxy, on one side or on both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Its name or number.
    pub proxy: Option<String>,
    /// 0 for requests, 1 for responses.
    pub side: Option<usize>,
}

/// Columns of a line of bytes.
const WIDTH: usize = 64;

pub fn show(w: &Wanted, s: &Snapshot, live: &Live) -> String {
    let offset = s.sinks.utc_offset;
    let known = |n: &String| s.proxies.iter().any(|p| p.conf.name == *n || p.iid.to_string() == *n);
    if w.proxy.as_ref().is_some_and(|n| !known(n)) {
        return "No such proxy.\n".to_owned();
    }
    let mut out =
        format!("Total events captured on [{}] : {}\n", moment(SystemTime::now(), offset), live.offences.load(Relaxed));
    for p in &s.proxies {
        if w.proxy.as_ref().is_some_and(|n| p.conf.name != *n && p.iid.to_string() != *n) {
            continue;
        }
        for side in [0, 1] {
            let kept = lock(&p.live.offences[side]);
            if let Some(o) = kept.as_ref().filter(|_| w.side.is_none_or(|s| s == side)) {
                one(o, side, (&p.conf.name, p.iid), offset, &mut out);
            }
        }
    }
    out
}

fn moment(at: SystemTime, offset: i32) -> String {
    let mut text = Vec::new();
    date(at, offset, DateForm::Log, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn one(o: &Offence, side: usize, owner: (&str, u32), offset: i32, out: &mut String) {
    let nobody = || ("<NONE>".to_owned(), None);
    let with = |p: &Option<(String, u32)>| {
        let (name, id) = p.clone().map_or_else(nobody, |(n, id)| (n, Some(id)));
        format!("{name} (#{})", id.map_or_else(|| "-1".to_owned(), |id| id.to_string()))
    };
    let (kind, what, other) =
        if side == 0 { ("frontend", "request", "backend") } else { ("backend", "response", "frontend") };
    let src = crate::base::addr::source_text(o.src);
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        " \n[{}] {kind} {} (#{}): invalid {what}\n  {other} {}, server {}, event #{}, src {src}\n  len {}, error at position {}\n  \n",
        moment(o.at, offset),
        owner.0,
        owner.1,
        with(&o.other),
        with(&o.server),
        o.number,
        o.bytes.len(),
        o.position
    );
    let (mut at, mut goes_on) = (0, false);
    while at < o.bytes.len() {
        let _ = write!(out, "  {at:05}{} ", if goes_on { '+' } else { ' ' });
        let (mut width, mut ended) = (0, false);
        while at < o.bytes.len() && !ended {
            let c = o.bytes[at];
            let text = match c {
                b'\n' => "\\n".to_owned(),
                b'\r' => "\\r".to_owned(),
                b'\t' => "\\t".to_owned(),
                0x1b => "\\e".to_owned(),
                b'\\' => "\\\\".to_owned(),
                0x20..0x7f => char::from(c).to_string(),
                c => format!("\\x{c:02X}"),
            };
            if width + text.len() > WIDTH + 6 {
                break;
            }
            out.push_str(&text);
            width += text.len();
            at += 1;
            ended = c == b'\n';
        }
        goes_on = !ended;
        out.push('\n');
    }
}
