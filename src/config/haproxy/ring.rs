//! `ring` sections (configuration manual 3.7), and the rings that `log` lines to streams make.
use super::{Cx, log, sections, server};
use crate::base::code::Code;
use crate::base::diag::Severity;
use crate::base::units::{TimeUnit, parse_size};
use crate::config::model::{Kind, LogForm, LogTarget, Proxy, RING_HEADER, RING_SIZE, Ring};
use std::sync::Arc;
use std::time::Duration;

/// Rings that are always there. What is put into them can be read with `show events`.
pub const BUILT_IN: [&str; 1] = ["buf0"];
/// Names that nobody else may have.
const RESERVED: [&str; 4] = ["stdout", "stderr", "buf0", "dpapi"];

pub fn new(cx: &mut Cx<'_>, name: &str) -> Ring {
    if RESERVED.contains(&name) {
        cx.error_of(Code::Duplicate, format!("there is a sink named '{name}' already; give the ring another name"));
    }
    Ring {
        place: cx.place.clone(),
        name: name.to_owned(),
        description: name.to_owned(),
        form: Some(LogForm::Raw),
        max_len: 1024,
        size: RING_SIZE,
        backing_file: None,
        proxy: Box::new(Proxy::new(cx.place.clone(), name, Kind::Backend)),
    }
}

pub fn line(cx: &mut Cx<'_>, r: &mut Ring, s: &mut sections::Open, w: &[String]) {
    if w[0] == "server" {
        return server::server(cx, &mut r.proxy, w);
    }
    let before = cx.report.count(Severity::Error);
    sections::line(cx, s, w);
    if cx.report.count(Severity::Error) > before {
        return;
    }
    // Their number was judged just now.
    let value = w.get(1).map_or("", String::as_str);
    match w[0].as_str() {
        "description" => r.description = value.to_owned(),
        "format" => r.form = log::form(cx, value).or(r.form),
        "maxlen" => r.max_len = cx.number(w, 1, "a number of bytes").unwrap_or(r.max_len),
        "size" => {
            if r.backing_file.is_some() {
                return cx.error("'size' has to stand before 'backing-file': the file is made in this size");
            }
            match parse_size(value).map(usize::try_from) {
                // Smaller than what its header takes: passed over, as there.
                Ok(Ok(n)) if n > RING_HEADER => r.size = n,
                Ok(Ok(_)) => cx.warn(format!("'size {value}' is too small for a ring, and is not used")),
                Ok(Err(_)) | Err(_) => cx.error_of(Code::Number, format!("'size' : '{value}' is no size")),
            }
        }
        "backing-file" => r.backing_file = Some(value.to_owned()),
        "timeout" => match value {
            "connect" => r.proxy.timeouts.connect = cx.time(w, 2, TimeUnit::Millis),
            "server" => r.proxy.timeouts.server = cx.time(w, 2, TimeUnit::Millis),
            o => cx.warn(format!("'timeout {o}' means nothing in a ring, which only has 'connect' and 'server'")),
        },
        _ => {}
    }
}

/// Bytes of the largest event that fits: its length and its end have to fit as well.
fn capacity(size: usize) -> usize {
    size.saturating_sub(RING_HEADER + 4)
}

pub fn finish(cx: &mut Cx<'_>, mut r: Ring) {
    if r.backing_file.is_some() {
        // Whole pages, as there.
        r.size = r.size.saturating_add(4095) & !4095;
    }
    let most = capacity(r.size);
    if r.max_len > most {
        let text = format!(
            "ring '{}' : 'maxlen {}' is more than its size has room for, and is taken as {most}",
            r.name, r.max_len
        );
        cx.report.warning(Code::Number, &r.place, text);
        r.max_len = most;
    }
    cx.rings.push(Arc::new(r));
}

/// The ring of a `log` line to a stream: its name.
pub fn implicit(cx: &mut Cx<'_>, addr: &str, t: &LogTarget) -> Option<String> {
    let name = format!("ring#{}", cx.rings.iter().filter(|r| r.name.starts_with("ring#")).count() + 1);
    let mut r = new(cx, &name);
    r.description = format!("created from log directive declared into '{}' at line {}", t.place.file, t.place.line);
    (r.form, r.max_len) = (t.form, t.max_len);
    r.proxy.timeouts.connect = Some(Duration::from_secs(1));
    r.proxy.timeouts.server = Some(Duration::from_secs(5));
    let before = cx.report.count(Severity::Error);
    let servers = std::mem::take(&mut cx.servers);
    server::server(cx, &mut r.proxy, &["server".to_owned(), "default".to_owned(), addr.to_owned()]);
    cx.servers = servers;
    if cx.report.count(Severity::Error) > before {
        return None;
    }
    finish(cx, r);
    Some(name)
}
