//! What this version honours of the reference's words: `-dK` (management manual 3), and the generated part of `docs/compatibility.md`.
use crate::config::haproxy::keywords::{Class, ROWS, Row};
use crate::config::haproxy::{State, state};
use crate::config::keepalived::known;
use crate::control::command;
use crate::process::master;
use std::fmt::Write as _;

/// A heading inside a dump, and the classes under it.
type Listed = (&'static str, &'static [Class]);

/// Classes of `-dK`: name, heading, and what the rows belong to.
const DUMPS: &[(&str, &str, &[Listed])] = &[
    ("acl", "# List of registered ACL keywords:\n", &[("", &[Class::Acl])]),
    (
        "cfg",
        "# List of registered configuration keywords:\n",
        &[
            ("global\n", &[Class::Global]),
            (
                "listen\n",
                &[
                    Class::Listen,
                    Class::Bind,
                    Class::Server,
                    Class::Option,
                    Class::TcpConnection,
                    Class::TcpSession,
                    Class::TcpContent,
                    Class::TcpResponse,
                    Class::HttpRequest,
                    Class::HttpResponse,
                    Class::HttpAfterResponse,
                ],
            ),
            ("userlist\n", &[Class::Userlist]),
            ("peers\n", &[]),
            ("crt-list\n", &[Class::CrtList]),
            ("crt-store\n", &[Class::CrtStore]),
            ("traces\n", &[Class::Traces]),
            ("acme\n", &[Class::Acme]),
        ],
    ),
    ("cli", "# List of registered CLI keywords:\n", &[("", &[Class::Cli])]),
    ("cnv", "# List of registered sample converter functions:\n", &[("", &[Class::Converter])]),
    ("flt", "# List of registered filter names:\n", &[("", &[Class::Filter])]),
    ("smp", FETCHES, &[("", &[Class::Fetch])]),
    ("svc", "# List of registered service names:\n", &[("", &[Class::Service])]),
];

/// The contexts of the matrix, as the reference draws them.
#[rustfmt::skip]
const FETCHES: &str = "\
# List of registered sample fetch functions:
#                       _.---------------------- frontend tcp-request connection rule
#                      / _.--------------------- frontend tcp-request session rule
#                     / / _.-------------------- frontend tcp-request content rule
#                    / / / _.------------------- frontend http-request header rule
#                   / / / / _.------------------ frontend http-request body rule
#                  / / / / / _.----------------- frontend use-backend rule
#                 / / / / / / _.---------------- backend tcp-request content rule
#                / / / / / / / _.--------------- backend http-request header rule
#               / / / / / / / / _.-------------- backend http-request body rule
#              / / / / / / / / / _.------------- backend use-server, balance or stick-match rule
#             / / / / / / / / / / _.------------ server source selection
#            / / / / / / / / / / / _.----------- backend tcp-response content rule
#           / / / / / / / / / / / / _.---------- backend http-response header rule
#          / / / / / / / / / / / / / _.--------- backend http-response body rule
#         / / / / / / / / / / / / / / _.-------- backend stick-store rule
#        / / / / / / / / / / / / / / / _.------- frontend tcp-response content rule
#       / / / / / / / / / / / / / / / / _.------ frontend http-response header rule
#      / / / / / / / / / / / / / / / / / _.----- frontend http-response body rule
#     / / / / / / / / / / / / / / / / / / _.---- logs
#    / / / / / / / / / / / / / / / / / / / _.--- backend tcp-check rule
#   / / / / / / / / / / / / / / / / / / / / _.-- configuration parser
#  / / / / / / / / / / / / / / / / / / / / / _.- CLI parser
# / / / / / / / / / / / / / / / / / / / / / /  
# | | | | | | | | | | | | | | | | | | | | | | 
";

const HELP: &str = "\
# List of supported keyword classes:
all: list all keywords
acl: ACL keywords
cfg: configuration keywords
cli: CLI keywords
cnv: sample converter keywords
flt: filter names
smp: sample fetch functions
svc: service names
";

/// `-dK<class>[,<class>...]`: the honoured words, in the reference's own format and order.
pub fn dump(classes: &str) -> String {
    dump_of(classes, |r| outcome(r) == State::Honoured)
}

fn dump_of(classes: &str, wanted: impl Fn(&Row) -> bool) -> String {
    let asked: Vec<&str> = classes.split(',').collect();
    let mut out = String::new();
    if asked.contains(&"help") {
        out.push_str(HELP);
    }
    for (_, heading, parts) in DUMPS.iter().filter(|d| asked.contains(&"all") || asked.contains(&d.0)) {
        out.push_str(heading);
        for (title, members) in *parts {
            out.push_str(title);
            for class in *members {
                for r in ROWS.iter().filter(|r| r.class == *class && !r.listed.is_empty() && wanted(r)) {
                    out.push_str(r.listed);
                    out.push('\n');
                }
            }
        }
    }
    out
}

/// What a row comes to, commands of the runtime socket included.
fn outcome(r: &Row) -> State {
    match r.class {
        Class::Cli if command::knows(r.name) || master::knows(r.name) => State::Honoured,
        _ => state(r),
    }
}

/// Classes as the document names them.
const TITLES: &[(Class, &str)] = &[
    (Class::Global, "`global`"),
    (Class::Listen, "`defaults`, `frontend`, `listen`, `backend`"),
    (Class::Option, "`option`"),
    (Class::Bind, "`bind`"),
    (Class::Server, "`server`"),
    (Class::TcpConnection, "`tcp-request connection`"),
    (Class::TcpSession, "`tcp-request session`"),
    (Class::TcpContent, "`tcp-request content`"),
    (Class::TcpResponse, "`tcp-response content`"),
    (Class::HttpRequest, "`http-request`"),
    (Class::HttpResponse, "`http-response`"),
    (Class::HttpAfterResponse, "`http-after-response`"),
    (Class::Acl, "ACL keywords"),
    (Class::Fetch, "sample fetches"),
    (Class::Converter, "converters"),
    (Class::Cli, "runtime commands"),
    (Class::Filter, "filters"),
    (Class::Service, "services"),
    (Class::Userlist, "`userlist`"),
    (Class::CrtList, "`crt-list`"),
    (Class::CrtStore, "`crt-store`"),
    (Class::Traces, "`traces`"),
    (Class::Acme, "`acme`"),
];

/// A class or block, and its words with what they come to.
type Part = (String, Vec<(&'static str, State)>);

/// The generated part of `docs/compatibility.md`: counts, then every word with what it comes to.
pub fn table() -> String {
    let words = |c: Class| ROWS.iter().filter(|r| r.class == c).map(|r| (r.name, outcome(r))).collect();
    let haproxy: Vec<Part> = TITLES.iter().map(|(class, title)| ((*title).to_owned(), words(*class))).collect();
    let mut keepalived: Vec<Part> = Vec::new();
    for (block, word, why) in known::WORDS {
        let title = if block.is_empty() { "the file".to_owned() } else { format!("`{block}`") };
        let one = (*word, known::state(block, word, why));
        match keepalived.iter_mut().find(|p| p.0 == title) {
            Some(p) => p.1.push(one),
            None => keepalived.push((title, vec![one])),
        }
    }
    let mut out = String::from("## Every word of HAProxy's language\n\n");
    section(&mut out, &haproxy);
    out.push_str("\n## Every word of keepalived's language\n\n");
    section(&mut out, &keepalived);
    out
}

fn section(out: &mut String, parts: &[Part]) {
    out.push_str("| where | honoured | accepted | not yet |\n|---|---|---|---|\n");
    let mut sum = [0; 3];
    for (title, words) in parts {
        let mut n = [0; 3];
        words.iter().for_each(|(_, s)| n[place(*s)] += 1);
        sum.iter_mut().zip(n).for_each(|(s, n)| *s += n);
        let _ = writeln!(out, "| {title} | {} | {} | {} |", n[0], n[1], n[2]);
    }
    let _ = writeln!(out, "| together | {} | {} | {} |", sum[0], sum[1], sum[2]);
    for (title, words) in parts {
        let _ = writeln!(out, "\n### {title}\n");
        for (at, name) in ["Honoured", "Accepted", "Not yet"].into_iter().enumerate() {
            let words: Vec<String> = words
                .iter()
                .filter(|(_, s)| place(*s) == at)
                .map(|(n, s)| match s {
                    State::Accepted(why) => format!("`{n}` ({why})"),
                    _ => format!("`{n}`"),
                })
                .collect();
            if !words.is_empty() {
                let _ = writeln!(out, "{name}: {}.\n", words.join(", "));
            }
        }
        out.pop();
    }
}

fn place(s: State) -> usize {
    match s {
        State::Honoured => 0,
        State::Accepted(_) => 1,
        State::NotYet => 2,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_title_and_every_row_a_class() {
        assert!(ROWS.iter().all(|r| TITLES.iter().any(|t| t.0 == r.class)));
        assert!(ROWS.iter().all(|r| !r.name.is_empty()));
        let mut seen = std::collections::BTreeSet::new();
        for r in ROWS {
            assert!(seen.insert((r.class, r.name)), "twice: {r:?}");
        }
    }

    #[test]
    fn dumps_have_the_references_form() {
        let all = dump("all");
        assert!(all.starts_with("# List of registered ACL keywords:\n"));
        assert!(all.contains("\nglobal\n\t"), "sections at the margin, words behind a tab");
        assert!(all.contains("\n\tbind <addr> ssl ssl-min-ver +1\n"));
        assert!(all.contains("\n[ . . Y Y"), "the matrix of a fetch");
        assert!(!all.contains("\n\tstick-table\n"), "what is not honoured is not listed");
        assert_eq!(dump("svc,nonsense"), "# List of registered service names:\nprometheus-exporter\n");
        assert!(dump("help").starts_with("# List of supported keyword classes:\n"));
        assert_eq!(dump("nonsense"), "");
    }
}
