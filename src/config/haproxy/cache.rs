//! `cache` sections (configuration manual 6.1).
use super::{Cx, sections};
use crate::base::code::Code;
use crate::config::model::Cache;

/// What the lines of the section say; their shape was checked where every section's is.
pub fn line(cx: &mut Cx<'_>, c: &mut Cache, s: &mut sections::Open, w: &[String]) {
    let before = cx.report.count(crate::base::diag::Severity::Error);
    sections::line(cx, s, w);
    if cx.report.count(crate::base::diag::Severity::Error) > before {
        return;
    }
    match w[0].as_str() {
        "total-max-size" => c.total = cx.number::<u64>(w, 1, "megabytes").unwrap_or(0) << 20,
        "max-object-size" => c.max_object = cx.number(w, 1, "a size in bytes").unwrap_or(0),
        "max-age" => match w.get(1).map(|t| t.parse()) {
            Some(Ok(n)) => c.max_age = n,
            // HAProxy takes what is no number in silence.
            _ => {
                let text = format!("'max-age' : no number of seconds is said; it stays at {}", c.max_age);
                cx.report.notice(Code::Remark, &cx.place, text);
            }
        },
        "process-vary" => match w.get(1).map(String::as_str) {
            Some("on") => c.vary = true,
            Some("off") => c.vary = false,
            o => cx.error(format!("'process-vary' expects 'on' or 'off', not '{}'", o.unwrap_or_default())),
        },
        "max-secondary-entries" => c.max_variants = cx.number(w, 1, "a number of variants").unwrap_or(c.max_variants),
        "early-hints" if w.get(1).map(String::as_str) != Some("off") => cx.not_yet("'early-hints'"),
        _ => {}
    }
}

/// At its end: an object may be at most half of the whole, and is a 256th of it unless said.
pub fn finish(cx: &mut Cx<'_>, c: &mut Cache, place: &crate::base::diag::Place) {
    if c.max_object == 0 {
        c.max_object = c.total / 256;
    }
    if c.max_object > c.total / 2 {
        let text = format!(
            "section 'cache {}' : 'max-object-size' is {}, and at most half of 'total-max-size', {}, can be",
            c.name,
            c.max_object,
            c.total / 2
        );
        cx.report.error(Code::Value, place, text);
    }
}
