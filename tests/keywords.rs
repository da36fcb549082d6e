//! The keyword table against the parser, and against the document made from it.
#![allow(clippy::unwrap_used)]

use tandem_proxy::base::diag::{Diag, Report, Severity};
use tandem_proxy::cli::coverage;
use tandem_proxy::config::haproxy::keywords::{Class, ROWS, Row};
use tandem_proxy::config::haproxy::{State, parse, state};
use tandem_proxy::config::keepalived::{self, known};
use tandem_proxy::config::source::{LoadArgs, Recorded};

fn read(text: &str) -> Report {
    let mut report = Report::default();
    let args = LoadArgs { haproxy: vec!["/h".into()], ..LoadArgs::default() };
    parse(&[("/h".into(), text.as_bytes().into())], &mut Recorded::default(), &args, &mut report);
    report
}

/// Files that use a word, with and without arguments. Arguments may be wrong: what counts is whether the word is said to be unknown or not yet.
fn uses(r: &Row) -> Vec<String> {
    let n = r.name;
    let lines: Vec<String> = match r.class {
        Class::Global => vec![format!("global\n {n}")],
        Class::Listen => ["frontend f", "backend b", "defaults"].map(|s| format!("{s}\n {n}")).to_vec(),
        Class::Option => ["frontend f", "backend b"].map(|s| format!("{s}\n option {n}")).to_vec(),
        Class::Bind => vec![format!("frontend f\n bind :80 {n}")],
        Class::Server => vec![format!("backend b\n server s 10.0.0.1:80 {n}")],
        Class::TcpConnection => vec![format!("frontend f\n tcp-request connection {n}")],
        Class::TcpSession => vec![format!("frontend f\n tcp-request session {n}")],
        Class::TcpContent => vec![format!("frontend f\n tcp-request content {n}")],
        Class::TcpResponse => vec![format!("backend b\n tcp-response content {n}")],
        Class::HttpRequest => ["", "(txn.a)"].map(|p| format!("frontend f\n http-request {n}{p}")).to_vec(),
        Class::HttpResponse => ["", "(txn.a)"].map(|p| format!("frontend f\n http-response {n}{p}")).to_vec(),
        Class::HttpAfterResponse => {
            ["", "(txn.a)"].map(|p| format!("frontend f\n http-after-response {n}{p}")).to_vec()
        }
        Class::Acl => vec![format!("frontend f\n acl a {n}"), format!("frontend f\n acl a {n}(x)")],
        Class::Fetch => {
            ["", "(x)"].map(|p| format!("frontend f\n http-request set-header x %[{n}{p}] if TRUE\n #")).to_vec()
        }
        Class::Converter => {
            ["", "(1)"].map(|p| format!("frontend f\n http-request set-header x %[str(a),{n}{p}]\n #")).to_vec()
        }
        _ => return Vec::new(),
    };
    let arguments = ["", "1", "2048", "a", "on", "/a", "1 2", "none", "h1", "a b", "if TRUE"];
    lines.iter().flat_map(|l| arguments.map(|a| format!("{l} {a}\n"))).collect()
}

/// The three states are what the parser does, word for word: no word is unknown, none is passed over in silence.
#[test]
fn states_are_what_the_parser_says() {
    let mut wrong = Vec::new();
    for r in ROWS {
        let reports: Vec<Report> = uses(r).iter().map(|u| read(u)).collect();
        if reports.is_empty() {
            continue;
        }
        let any = |s: Severity| reports.iter().any(|p| p.count(s) > 0);
        let not_yet = |p: &Report| p.count(Severity::NotYet) > 0;
        let says = |m: &str| {
            m.split("unknown ")
                .skip(1)
                .any(|rest| rest.split_once('\'').is_some_and(|q| q.1.starts_with(&format!("{}'", r.name))))
        };
        // Refused for good, with advice.
        let refused = |p: &Report| p.diags.iter().any(|d| d.message.contains("not supported any more"));
        if let Some(d) = reports.iter().flat_map(|p| &p.diags).find(|d| says(&d.message)) {
            wrong.push(format!("{:?} {}: said to be unknown: {}", r.class, r.name, d.message));
        }
        match state(r) {
            State::Honoured if reports.iter().all(not_yet) => {
                wrong.push(format!("{:?} {}: honoured, but every use is not yet", r.class, r.name));
            }
            State::Accepted(_) if !any(Severity::Notice) && !any(Severity::Warning) => {
                wrong.push(format!("{:?} {}: accepted, but nothing is said", r.class, r.name));
            }
            State::Accepted(_) if any(Severity::NotYet) => {
                wrong.push(format!("{:?} {}: accepted, but a use is not yet", r.class, r.name));
            }
            State::NotYet if !reports.iter().any(|p| not_yet(p) || refused(p)) => {
                wrong.push(format!(
                    "{:?} {}: not yet, but no use is refused as such: {:?}",
                    r.class, r.name, reports[0].diags
                ));
            }
            State::NotYet if reports.iter().any(|p| !p.has_fatal()) => {
                wrong.push(format!("{:?} {}: not yet, but a use is let through", r.class, r.name));
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), ROWS.len(), wrong.join("\n"));
}

/// The same for keepalived's words, in the blocks that are read.
#[test]
fn keepalived_states_are_what_the_reader_says() {
    let mut wrong = Vec::new();
    for (block, word, why) in known::WORDS {
        let line = |value: &str| match *block {
            "" => format!("{word} {value}\n"),
            "authentication" => format!("vrrp_instance x {{\n authentication {{\n {word} {value}\n }}\n}}\n"),
            "virtual_server" => {
                format!("virtual_server 10.0.0.1 80 {{\n {word} {value}\n real_server 10.0.0.2 80 {{\n }}\n}}\n")
            }
            b => format!("{b} x {{\n {word} {value}\n}}\n"),
        };
        let mut silent = true;
        let (mut not_yet, mut always) = (false, true);
        for value in ["", "1", "PASS", "{\n }", "a b"] {
            let mut src = Recorded::default();
            src.files.insert("/k".into(), Ok(line(value).into_bytes()));
            let mut report = Report::default();
            keepalived::load("/k", &mut src, &keepalived::Manner::default(), &mut report);
            let about = |d: &Diag| d.message.starts_with(&format!("'{word}'"));
            if let Some(d) = report.diags.iter().find(|d| d.message.contains(&format!("unknown keyword '{word}'"))) {
                wrong.push(format!("{block}/{word}: {}", d.message));
            }
            silent &= !report.diags.iter().any(|d| about(d) && d.message.contains("has no effect"));
            let refused = report.diags.iter().any(|d| about(d) && d.severity == Severity::NotYet);
            (not_yet, always) = (not_yet | refused, always & refused);
        }
        // A block that is not honoured is refused as a whole.
        if !matches!(*block, "" | "authentication") && !known::honoured("").contains(block) {
            continue;
        }
        match known::state(block, word, why) {
            State::Honoured if always || !silent => {
                wrong.push(format!("{block}/{word}: honoured, but refused or of no effect"))
            }
            State::Accepted(_) if silent || not_yet => {
                wrong.push(format!("{block}/{word}: accepted, but nothing is said"))
            }
            State::NotYet if !not_yet => {
                wrong.push(format!("{block}/{word}: not yet, but not said to be"));
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// `docs/compatibility.md` ends with what the table says. `UPDATE=1 cargo test --test keywords` writes it.
#[test]
fn the_document_is_current() {
    const MARK: &str = "<!-- Generated from the keyword tables; see tests/keywords.rs. -->\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/compatibility.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (by_hand, generated) = text.split_once(MARK).expect("the mark of the generated part");
    let now = coverage::table();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, format!("{by_hand}{MARK}\n{now}")).unwrap();
        return;
    }
    assert!(
        generated.trim() == now.trim(),
        "docs/compatibility.md is behind the tables: UPDATE=1 cargo test --test keywords"
    );
}
