//! Pages of the proxy's own answers (configuration manual 4.2 `errorfile`, `errorfiles`, `http-error`; 12.4 `http-errors`).
use super::{Cx, ErrorSet, args, rules};
use crate::base::code::Code;
use crate::base::diag::suggestion;
use crate::config::model::Proxy;
use crate::http::status;
use crate::rules::sample::Scope;
use std::sync::Arc;

/// `http-errors <name>`
pub fn open(cx: &mut Cx<'_>, w: &[String]) -> Option<String> {
    let name = cx.arg(w, 1, "a name")?.to_owned();
    cx.at_most(w, 2);
    if let Some(bad) = args::foreign(&name) {
        let text = format!(
            "character '{bad}' is not permitted in the name of a section ('{name}'); use letters, digits and -_.:"
        );
        cx.error_of(Code::Name, text);
    }
    if cx.error_sets.insert(name.clone(), ErrorSet::new()).is_some() {
        cx.error_of(Code::Duplicate, format!("there is a section 'http-errors {name}' already; give one another name"));
    }
    Some(name)
}

/// A line of such a section.
pub fn line(cx: &mut Cx<'_>, name: &str, w: &[String]) {
    if w[0] != "errorfile" {
        let text = format!("unknown keyword '{}' in 'http-errors' section; it takes 'errorfile <code> <file>'", w[0]);
        return cx.error_of(Code::UnknownWord, text);
    }
    let Some(code) = cx.number::<u16>(w, 1, "a status code and a file") else { return };
    // Sections may have pages for statuses that only rules answer with.
    if !(200..=599).contains(&code) {
        return cx.error(format!("'errorfile' : a status code from 200 to 599 is wanted, not {code}"));
    }
    let Some(page) = page(cx, w) else { return };
    if let Some(set) = cx.error_sets.get_mut(name) {
        set.insert(code, page);
    }
}

/// `errorfile <code> <file>` of a proxy.
pub fn errorfile(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let Some(code) = cx.number::<u16>(w, 1, "a status code and a file") else { return };
    if cx.arg(w, 2, "a file").is_none() {
        return;
    }
    if !status::is_page(code) {
        return cx.error(format!("'errorfile' : status code {code} is not one that the proxy makes itself"));
    }
    if let Some(b) = page(cx, w) {
        p.error_replies.remove(&code);
        p.error_files.insert(code, b);
    }
}

/// `errorloc`, `errorloc302`, `errorloc303` `<code> <url>`
pub fn errorloc(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let Some(code) = cx.number::<u16>(w, 1, "a status code and a URL") else { return };
    let Some(url) = cx.arg(w, 2, "a URL").map(str::to_owned) else { return };
    if !status::is_page(code) {
        return cx.error(format!("'{}' : status code {code} is not one that the proxy makes itself", w[0]));
    }
    if url.bytes().any(|c| c < b' ') {
        return cx.error(format!("'{}' : a URL has no control characters", w[0]));
    }
    let to = if w[0] == "errorloc303" { 303 } else { 302 };
    let reason = status::reason(to);
    let text =
        format!("HTTP/1.1 {to} {reason}\r\ncache-control: no-cache\r\ncontent-length: 0\r\nlocation: {url}\r\n\r\n");
    p.error_replies.remove(&code);
    p.error_files.insert(code, text.into_bytes().into());
}

fn page(cx: &mut Cx<'_>, w: &[String]) -> Option<Arc<[u8]>> {
    let path = cx.arg(w, 2, "a file")?;
    let bytes = cx.read(path)?;
    rules::checked_errorfile(cx, path, &bytes)
}

/// The set of this name, which has to stand further up.
pub fn find<'c>(cx: &'c mut Cx<'_>, name: &str) -> Option<&'c ErrorSet> {
    if !cx.error_sets.contains_key(name) {
        let near = suggestion(name, cx.error_sets.keys().map(String::as_str));
        let text = format!(
            "there is no section 'http-errors {name}' before this line{near}; sections stand before their users here"
        );
        cx.error_of(Code::UnknownTarget, text);
    }
    cx.error_sets.get(name)
}

/// `errorfiles <name> [<code>...]`
pub fn errorfiles(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let Some(name) = cx.arg(w, 1, "the name of a section 'http-errors'") else { return };
    let codes: Vec<u16> = (2..w.len()).filter_map(|i| cx.number(w, i, "a status code")).collect();
    let Some(set) = find(cx, name) else { return };
    let wanted: Vec<_> = set
        .iter()
        .filter(|(c, _)| if codes.is_empty() { status::is_page(**c) } else { codes.contains(c) })
        .map(|(c, b)| (*c, b.clone()))
        .collect();
    for c in &codes {
        if !wanted.iter().any(|x| x.0 == *c) {
            cx.error(format!("'errorfiles' : section 'http-errors {name}' has no page for status {c}"));
        }
    }
    for (code, page) in wanted {
        p.error_replies.remove(&code);
        p.error_files.insert(code, page);
    }
}

/// `http-error status <code> [<reply>]`
pub fn http_error(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    if w.get(1).map(String::as_str) != Some("status") {
        return cx.error_of(Code::Missing, "'http-error' expects 'status <code>'");
    }
    let Some((reply, used)) = rules::reply(cx, w, 1, 0, Scope::Request, false) else { return };
    cx.at_most(w, used);
    if !status::is_page(reply.status) {
        return cx.error(format!("'http-error' : status code {} is not one that the proxy makes itself", reply.status));
    }
    if let crate::rules::action::Body::Raw(page) = &reply.body {
        p.error_replies.remove(&reply.status);
        p.error_files.insert(reply.status, page.clone());
    } else {
        p.error_replies.insert(reply.status, Arc::new(reply));
    }
}
