//! `cache` sections (configuration manual 6.1).
use super::{Cx, sections};
use crate::base::code::Code;
use crate::config::model::{Cache, Hints};

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
        "early-hints" => early_hints(cx, c, w),
        _ => {}
    }
}

/// `early-hints on|off|only [ratio <percent>]`
fn early_hints(cx: &mut Cx<'_>, c: &mut Cache, w: &[String]) {
    c.hints = match w.get(1).map(String::as_str) {
        Some("on") => Hints::On,
        Some("off") => Hints::Off,
        Some("only") => Hints::Only,
        _ => {
            return cx.warn(
                "'early-hints' expects \"on\", \"off\" or \"only\" (enable or disable HTTP 103 Early Hints support, or store only hints).",
            );
        }
    };
    match (w.get(2).map(String::as_str), w.get(3).map(|n| n.parse::<u32>())) {
        (None, _) => {}
        (Some("ratio"), Some(Ok(n @ 1..=99))) => c.hints_ratio = n,
        (Some("ratio"), _) => {
            cx.error_of(Code::Number, "'early-hints ratio' expects an integer argument between 1 and 99.");
        }
        (Some(o), _) => cx.error(format!("'early-hints' unexpected argument '{o}', expected 'ratio'.")),
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
