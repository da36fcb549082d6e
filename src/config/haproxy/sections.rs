//! Sections that are not honoured yet (configuration manual 3 and 12): their words and values are checked all the same, so that a broken file is told
//! from one that only waits for a later version. An issue that honours a section takes its rows away from here.
use super::Cx;
use super::args::{
    self, Address, Any, Arg, I31, Ident, Int, Millis, ON_OFF, OPEN, OneOf, Pairs, Secs, Shape, Size, TAIL, U32,
};
use crate::base::code::Code;
use crate::base::diag::suggestion;
use std::collections::BTreeSet;

struct Word {
    section: &'static str,
    /// `option x` is one word.
    word: &'static str,
    shape: Shape,
}

const fn w(section: &'static str, word: &'static str, min: usize, max: usize, args: &'static [Arg]) -> Word {
    Word { section, word, shape: Shape { min, max, args } }
}

const LOG_FORMATS: Arg = OneOf(&["local", "rfc3164", "rfc5424", "priority", "short", "timed", "iso", "raw"]);
const LOAD: Arg = Pairs(&[
    ("crt", 1),
    ("key", 1),
    ("alias", 1),
    ("ocsp", 1),
    ("issuer", 1),
    ("sctl", 1),
    ("ocsp-update", 1),
    ("jwt", 1),
    ("acme", 1),
    ("domains", 1),
    ("ips", 1),
    ("generate-dummy", 1),
    ("keytype", 1),
    ("bits", 1),
    ("curves", 1),
]);
const TABLE: Arg = Pairs(&[
    ("type", 1),
    ("len", 1),
    ("size", 1),
    ("expire", 1),
    ("store", 1),
    ("nopurge", 0),
    ("srvkey", 1),
    ("recv-only", 0),
    ("write-to", 1),
    ("brates-factor", 1),
]);
const STEPS: Arg = OneOf(&[
    "accept",
    "request",
    "connect",
    "response",
    "close",
    "error",
    "any",
    "quic-init",
    "tcp-req-conn",
    "tcp-req-sess",
    "tcp-req-cont",
    "tcp-res-cont",
    "http-req",
    "http-res",
    "http-after-res",
]);

#[rustfmt::skip] // One line a word.
const WORDS: &[Word] = &[
    w("resolvers", "nameserver", 2, 2 + TAIL, &[Ident, Address]),
    w("resolvers", "parse-resolv-conf", 0, TAIL, &[]),
    w("resolvers", "hold", 2, 2 + TAIL, &[OneOf(&["nx", "other", "refused", "timeout", "valid", "obsolete"]), Millis]),
    w("resolvers", "resolve_retries", 1, 1 + TAIL, &[Any]),
    w("resolvers", "timeout", 2, 2 + TAIL, &[OneOf(&["retry", "resolve"]), Millis]),
    w("resolvers", "accepted_payload_size", 1, 1 + TAIL, &[Int(12, 65535)]),
    w("peers", "bind", 0, OPEN, &[Any]),
    w("peers", "default-bind", 0, OPEN, &[Any]),
    w("peers", "default-server", 0, OPEN, &[Any]),
    w("peers", "log", 1, 12, &[Any]),
    w("peers", "peer", 0, OPEN, &[Ident, Any]),
    w("peers", "server", 0, OPEN, &[Ident, Any]),
    w("peers", "shards", 1, 1 + TAIL, &[Int(1, I31)]),
    w("peers", "table", 5, OPEN, &[Any, TABLE]),
    w("peers", "disabled", 0, TAIL, &[]),
    w("peers", "enabled", 0, TAIL, &[]),
    w("userlist", "group", 1, 3, &[Ident, Pairs(&[("users", 1)])]),
    w("userlist", "user", 1, OPEN, &[Any, Pairs(&[("password", 1), ("insecure-password", 1), ("groups", 1)])]),
    w("mailers", "mailer", 2, 2 + TAIL, &[Ident, Address]),
    w("mailers", "timeout", 2, 2 + TAIL, &[OneOf(&["mail"]), Millis]),
    w("cache", "total-max-size", 1, 1, &[Int(1, 4095)]),
    w("cache", "max-age", 0, 1, &[Any]),
    w("cache", "max-object-size", 1, 1, &[Int(0, U32)]),
    w("cache", "process-vary", 0, 1, &[Any]),
    w("cache", "max-secondary-entries", 1, 1, &[Int(1, U32)]),
    w("cache", "early-hints", 0, 3, &[Any]),
    w("ring", "size", 1, 1 + TAIL, &[Size]),
    w("ring", "maxlen", 1, 1 + TAIL, &[Int(1, U32)]),
    w("ring", "format", 1, 1 + TAIL, &[LOG_FORMATS]),
    w("ring", "description", 1, 1 + TAIL, &[Any]),
    w("ring", "backing-file", 1, 1 + TAIL, &[Any]),
    w("ring", "server", 2, OPEN, &[Ident, Address, Any]),
    w("ring", "timeout", 0, 2 + TAIL, &[Any, Millis]),
    w("log-forward", "bind", 0, OPEN, &[Any]),
    w("log-forward", "dgram-bind", 0, OPEN, &[Any]),
    w("log-forward", "log", 1, 12, &[Any]),
    w("log-forward", "maxconn", 1, 1, &[Any]),
    w("log-forward", "backlog", 1, 1, &[Any]),
    w("log-forward", "timeout", 2, 2 + TAIL, &[OneOf(&["client"]), Millis]),
    w("log-forward", "option assume-rfc6587-ntf", 0, 0, &[]),
    w("log-forward", "option dont-parse-log", 0, 0, &[]),
    w("log-forward", "option host", 1, 1 + TAIL, &[OneOf(&["replace", "fill", "keep", "append"])]),
    w("log-profile", "log-tag", 1, 1 + TAIL, &[Any]),
    w("log-profile", "on", 2, OPEN, &[STEPS, Pairs(&[("drop", 0), ("format", 1), ("sd", 1)])]),
    w("fcgi-app", "acl", 2, OPEN, &[Ident, Any]),
    w("fcgi-app", "docroot", 1, 1, &[Any]),
    w("fcgi-app", "index", 1, 1, &[Any]),
    w("fcgi-app", "path-info", 1, 1, &[Arg::Regex]),
    w("fcgi-app", "log-stderr", 1, 12, &[Any]),
    w("fcgi-app", "pass-header", 1, OPEN, &[Any, OneOf(&["if", "unless"]), Any]),
    w("fcgi-app", "set-param", 2, OPEN, &[Any, Any, OneOf(&["if", "unless"]), Any]),
    w("fcgi-app", "option keep-conn", 0, 0, &[]),
    w("fcgi-app", "option get-values", 0, 0, &[]),
    w("fcgi-app", "option mpxs-conns", 0, 0, &[]),
    w("fcgi-app", "option max-reqs", 1, 1, &[Int(1, I31)]),
    w("crt-store", "crt-base", 1, 1 + TAIL, &[Any]),
    w("crt-store", "key-base", 1, 1 + TAIL, &[Any]),
    w("crt-store", "load", 2, OPEN, &[LOAD]),
    w("acme", "directory", 1, 1, &[Any]),
    w("acme", "contact", 1, 1, &[Any]),
    w("acme", "account-key", 1, 1, &[Any]),
    w("acme", "challenge", 1, 1, &[OneOf(&["http-01", "dns-01", "dns-persist-01", "HTTP-01", "DNS-01"])]),
    w("acme", "challenge-ready", 1, 1, &[Any]),
    w("acme", "dns-delay", 1, 1, &[Secs]),
    w("acme", "dns-timeout", 1, 1, &[Secs]),
    w("acme", "keytype", 1, 1, &[OneOf(&["RSA", "ECDSA"])]),
    w("acme", "bits", 1, 1, &[Int(-I31, I31)]),
    w("acme", "curves", 1, 1, &[Any]),
    w("acme", "map", 1, 1, &[Any]),
    w("acme", "profile", 1, 1, &[Any]),
    w("acme", "reuse-key", 1, 1, &[ON_OFF]),
    w("acme", "acme-vars", 1, 1, &[Any]),
    w("acme", "provider-name", 1, 1, &[Any]),
    w("acme", "eab-key-id", 1, 1, &[Any]),
    w("acme", "eab-mac-key", 1, 1, &[Any]),
    w("acme", "eab-mac-alg", 1, 1, &[OneOf(&["HS256", "HS384", "HS512"])]),
    w("traces", "trace", 0, OPEN, &[Any]),
    w("healthcheck", "type", 1, OPEN, &[OneOf(&["tcp-check", "httpchk", "ssl-hello-chk", "smtpchk", "pgsql-check", "redis-check", "mysql-check", "ldap-check", "spop-check"]), Any]),
    w("healthcheck", "tcp-check", 1, OPEN, &[Any]),
    w("healthcheck", "http-check", 1, OPEN, &[Any]),
    w("namespace_list", "namespace", 0, OPEN, &[Ident]),
    w("program", "command", 1, OPEN, &[Any]),
    w("program", "user", 1, 1, &[Any]),
    w("program", "group", 1, 1, &[Any]),
    w("program", "option start-on-reload", 0, 0, &[]),
];

/// What a header may say.
struct Header {
    name: &'static str,
    /// Its own name: wanted, possible, or none.
    named: Named,
    ident: bool,
    /// Further words are refused; elsewhere they are passed over.
    strict: bool,
    /// A second one of the same name is refused.
    once: bool,
    /// A line without which it cannot be, if it is there at all.
    needs: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    Yes,
    Maybe,
    No,
    /// Whatever stands there is passed over.
    Ignored,
}

const fn h(name: &'static str, named: Named, ident: bool, strict: bool, once: bool, needs: &'static str) -> Header {
    Header { name, named, ident, strict, once, needs }
}

#[rustfmt::skip] // One line a section.
const HEADERS: &[Header] = &[
    h("resolvers", Named::Yes, true, false, true, ""),
    h("peers", Named::Yes, true, true, true, ""),
    h("userlist", Named::Yes, true, true, false, ""),
    h("mailers", Named::Yes, true, false, true, ""),
    h("cache", Named::Yes, false, true, true, "total-max-size"),
    h("ring", Named::Yes, true, false, true, ""),
    h("log-forward", Named::Yes, true, true, true, ""),
    h("log-profile", Named::Yes, true, true, true, ""),
    h("fcgi-app", Named::Yes, true, true, true, "docroot"),
    h("crt-store", Named::Maybe, false, true, false, ""),
    h("acme", Named::Yes, false, true, true, "directory"),
    h("traces", Named::No, true, true, false, ""),
    h("healthcheck", Named::Yes, true, false, true, ""),
    h("namespace_list", Named::Ignored, false, false, false, ""),
    h("program", Named::Yes, false, true, true, "command"),
];

pub fn is_header(word: &str) -> bool {
    HEADERS.iter().any(|h| h.name == word)
}

pub fn names() -> impl Iterator<Item = &'static str> {
    HEADERS.iter().map(|h| h.name)
}

/// A section being read.
pub struct Open {
    header: &'static Header,
    name: String,
    pub place: crate::base::diag::Place,
    /// The words that were there.
    seen: BTreeSet<String>,
}

/// Its header. `None`: what is wrong is said, and its lines cannot be judged.
pub fn open(cx: &mut Cx<'_>, words: &[String]) -> Option<Open> {
    let header = HEADERS.iter().find(|h| h.name == words[0])?;
    if header.name == "program" && cx.strict {
        cx.error_of(Code::RemovedWord, "section 'program' is not supported any more; let the service manager run it");
        return None;
    }
    let name = words.get(1).cloned().unwrap_or_default();
    match header.named {
        Named::Yes if name.is_empty() => {
            cx.arg(words, 1, "a name");
            return None;
        }
        Named::No => cx.at_most(words, 1),
        Named::Yes | Named::Maybe if header.strict => cx.at_most(words, 2),
        _ => {}
    }
    if header.ident
        && let Some(bad) = args::foreign(&name)
    {
        let text = format!(
            "character '{bad}' is not permitted in the name of a section ('{name}'); use letters, digits and -_.:"
        );
        cx.error_of(Code::Name, text);
    }
    if header.once && !cx.sections.insert((header.name.to_owned(), name.clone())) {
        cx.error_of(
            Code::Duplicate,
            format!("there is a section '{} {name}' already; give one another name", header.name),
        );
    }
    cx.crt_store |= header.name == "crt-store";
    if !matches!(
        header.name,
        "resolvers" | "cache" | "mailers" | "ring" | "log-profile" | "log-forward" | "healthcheck"
    ) {
        cx.not_yet(&format!("section '{}'", header.name));
    }
    Some(Open { header, name, place: cx.place.clone(), seen: BTreeSet::new() })
}

pub fn line(cx: &mut Cx<'_>, s: &mut Open, words: &[String]) {
    let section = s.header.name;
    let mut at = 1;
    let mut word = words[0].clone();
    if word == "option" {
        let Some(o) = cx.arg(words, 1, "a name") else { return };
        word = format!("option {o}");
        at = 2;
    }
    let Some(row) = WORDS.iter().find(|r| r.section == section && r.word == word) else {
        // It passes over what it does not know.
        if section != "namespace_list" {
            let known = WORDS.iter().filter(|r| r.section == section).map(|r| r.word);
            let text = format!("unknown keyword '{word}' in '{section}' section{}", suggestion(&word, known));
            cx.error_of(Code::UnknownWord, text);
        }
        return;
    };
    s.seen.insert(word.clone());
    let given = &words[at.min(words.len())..];
    args::check(cx, &word, &row.shape, given);
}

/// At its end: what it cannot be without.
pub fn finish(cx: &mut Cx<'_>, s: &Open) {
    if !s.header.needs.is_empty() && !s.seen.contains(s.header.needs) {
        let text =
            format!("section '{} {}' has no '{}', without which it cannot be", s.header.name, s.name, s.header.needs);
        cx.report.error(Code::Missing, &s.place, text);
    }
}
