//! Stable codes of findings, and what `tandem explain` says of each.
use super::diag::Severity;

/// The kind of a finding. Its code never changes its meaning; a code that is given up is not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    Unreadable,
    Quoting,
    EmptyArgument,
    Conditional,
    LastLine,
    Said,
    TooMuch,
    Braces,
    Include,
    UnknownWord,
    NotYet,
    NoEffect,
    OldWord,
    RemovedWord,
    Misplaced,
    OutOfSection,
    Missing,
    Extra,
    Number,
    Time,
    Value,
    Name,
    Unresolved,
    Expression,
    Advice,
    Remark,
    UnknownTarget,
    Duplicate,
    ModeMismatch,
    IgnoredByMode,
    NoListener,
    NoTimeout,
    SharedAddress,
    Loop,
    NoServer,
    Unreachable,
    Useless,
    Tls,
    ZeroWarning,
    VipUnserved,
    ForeignListener,
    SameRouter,
    NopreemptMaster,
    AdvertInterval,
    AuthPass,
    ScriptMissing,
    ScriptUnsafe,
    WeightWithoutEffect,
    UnknownTracked,
    RouterIncomplete,
    AddressFamily,
    TwoSources,
    Lenient,
    Interface,
    NotifyMissing,
}

/// What is to be said of a code.
#[derive(Debug)]
pub struct Row {
    pub code: Code,
    /// `T` and three digits: 1 reading, 2 words, 3 values, 4 proxies, 5 virtual routers.
    pub id: &'static str,
    pub severity: Severity,
    pub title: &'static str,
    /// Why it matters.
    pub why: &'static str,
    pub mend: &'static str,
}

const fn row(
    code: Code,
    id: &'static str,
    severity: Severity,
    title: &'static str,
    why: &'static str,
    mend: &'static str,
) -> Row {
    Row { code, id, severity, title, why, mend }
}

impl Code {
    pub fn row(self) -> &'static Row {
        // Every code has its row: a test goes through them.
        ROWS.iter().find(|r| r.code == self).unwrap_or(&ROWS[0])
    }
    pub fn id(self) -> &'static str {
        self.row().id
    }
    pub fn severity(self) -> Severity {
        self.row().severity
    }
}

/// Finds a row by its code, in either case.
pub fn find(id: &str) -> Option<&'static Row> {
    ROWS.iter().find(|r| r.id.eq_ignore_ascii_case(id))
}

use Severity::{Error, NotYet, Notice, Warning};

/// All codes, in the order of their numbers.
#[rustfmt::skip] // One row a code, in the form of a list to be read.
pub const ROWS: &[Row] = &[
    row(Code::Unreadable, "T101", Error, "a file cannot be read",
        "The configuration names a file (another configuration, a certificate, an error page, a list) that is not there, or that the starting user may not read.",
        "Correct the path, create the file, or give the user the right to read it. Relative paths count from the directory that the program is started in, or from 'crt-base' and 'ca-base'."),
    row(Code::Quoting, "T102", Error, "quotes, escapes or variables on a line do not fit together",
        "Where a quote is open at the end of a line, or an escape is not one, nobody can tell where the words end. Single quotes keep everything as it is; double quotes keep blanks but expand ${VAR} and \\-escapes; outside quotes '#' begins a comment and '\\ ' is a blank.",
        "Close the quote at the column that is named, or put a backslash in front of a quote that is meant as a character."),
    row(Code::EmptyArgument, "T103", Warning, "an argument is empty and ends the line",
        "Mostly an environment variable that is not set: \"${NAME}\" becomes an empty word, and what stands behind it on the line is lost.",
        "Set the variable for the service, or give a value for when it is not set: \"${NAME-default}\"."),
    row(Code::Conditional, "T104", Error, "a conditional block is not well formed",
        ".if, .elif, .else and .endif have to pair up inside one file, and a condition consists of the predicates of the configuration manual: defined(NAME), feature(NAME), version_atleast(X), streq(A,B), strneq, strstr, enabled(...), joined by '&&' and '||'.",
        "Close every .if with .endif; try a condition alone with 'haproxy -cc <condition>'."),
    row(Code::LastLine, "T105", Warning, "the last line has no line feed",
        "A file that was cut off while it was copied looks just like this, so a missing line feed is worth a look.",
        "If the file is whole, add an empty line at its end."),
    row(Code::Said, "T106", Notice, "the file itself says so",
        "A '.notice', '.warning' or '.alert' line was read. '.alert' ends the load.",
        "Follow what the text says, or remove the line."),
    row(Code::TooMuch, "T107", Error, "more than can be meant",
        "Lines of more than a megabyte, hundreds of errors, includes that include themselves: almost always the wrong file was named.",
        "See whether the file is a configuration; then mend the first errors and try again."),
    row(Code::Braces, "T108", Error, "braces do not pair up",
        "In keepalived.conf every '{' has its '}'. Where they do not pair up, blocks swallow each other, and an address may end in the wrong virtual router.",
        "Indent the file by its braces; the place that is named is where the count goes wrong, the mistake is there or above."),
    row(Code::Include, "T109", Error, "an include finds no file",
        "What was to be included is missing, and with it perhaps a whole virtual router.",
        "Correct the pattern: it counts from the directory of the file that includes. 'include' passes over what is missing; 'includer' and its kin do not."),
    row(Code::UnknownWord, "T201", Error, "a word is not known here",
        "Neither this program nor the one it replaces has such a word at this place: mostly a typing error, or a word that belongs into another section. It is not passed over, because what it was to do would be missing without a sign. (In keepalived.conf it is a warning, as there, unless --strict is given.)",
        "Take the word that is suggested, or look it up in docs/compatibility.md, which lists every word by section."),
    row(Code::NotYet, "T202", NotYet, "a word is right, but this version does not honour it yet",
        "The word means something in HAProxy or keepalived that is not built yet. Starting without it would do something else than the file says, so the load stops.",
        "Remove the line if it can be spared, or stay with the other program for this configuration. docs/compatibility.md says what is honoured; 'tandem check' counts these apart from errors."),
    row(Code::NoEffect, "T203", Notice, "a word has no meaning here",
        "The word tunes something that does not exist in this program, such as a process per core or mail. Nothing is lost but what the reason says.",
        "Nothing has to be done; the line may stay for the sake of the other program."),
    row(Code::OldWord, "T204", Warning, "a word of an older version",
        "HAProxy has replaced this word since. It is translated and works, but newer manuals do not have it, and '--dialect 3.5' refuses it as HAProxy 3.5 does.",
        "Write the modern form that is named."),
    row(Code::RemovedWord, "T205", Error, "a word that was given up",
        "HAProxy has dropped the word, and it cannot be translated into something that does the same.",
        "Write what is advised in its place."),
    row(Code::Misplaced, "T206", Warning, "a word stands where it has no effect",
        "The word is right, but not in this section: it is passed over, as HAProxy does.",
        "Move the line to one of the sections that are named, or remove it."),
    row(Code::OutOfSection, "T207", Error, "a line stands outside of all sections",
        "A configuration consists of sections that begin with a word such as 'global', 'defaults', 'frontend', 'backend' or 'listen'. A misspelled header makes its lines belong to nothing.",
        "Correct the header above this line."),
    row(Code::Missing, "T301", Error, "an argument is missing",
        "The directive cannot be understood without it.",
        "Add what is named. An empty variable has the same effect: see T103."),
    row(Code::Extra, "T302", Error, "there are more arguments than the directive takes",
        "What stands behind would have no effect. Often two lines were joined, or blanks in a text were not quoted.",
        "Remove what is too much, or quote the text."),
    row(Code::Number, "T303", Error, "a number is wanted",
        "The value is no number, or lies outside of the range that is named.",
        "Write digits within the range, without a unit unless the message names units."),
    row(Code::Time, "T304", Error, "a time is wanted",
        "Times are digits with a unit: us, ms, s, m, h, d. Without a unit most are milliseconds.",
        "Write for example '500ms', '30s' or '5m'. The largest is a little over 24 days."),
    row(Code::Value, "T305", Error, "a value does not fit",
        "The directive is known and the value is understood, but it is none that can stand here.",
        "Take one of the values that are named."),
    row(Code::Name, "T306", Error, "a name has a character that is not permitted",
        "Names appear in logs, statistics and commands, and must be recognisable there.",
        "Use letters, digits and -_.: only."),
    row(Code::Unresolved, "T307", Error, "a host name cannot be resolved",
        "Names of servers are resolved at the start. A name that does not resolve is a typing error, or the resolver is not there yet when the service starts.",
        "Correct the name, write an address, or start after the network is up."),
    row(Code::Expression, "T308", Error, "an expression cannot be understood",
        "Sample expressions are a fetch with arguments and converters behind commas: 'req.hdr(host),lower'. In log formats they stand in '%[...]'.",
        "Look at the word that is named: an unknown fetch, a missing parenthesis, or an argument of the wrong kind."),
    row(Code::Advice, "T391", Warning, "something will probably not do what was meant",
        "The line is valid and is honoured as the message says.",
        "Do what the message says, or leave it if it is meant so."),
    row(Code::Remark, "T392", Notice, "worth knowing",
        "Nothing is wrong.",
        "Nothing has to be done."),
    row(Code::UnknownTarget, "T401", Error, "something is named that is not defined",
        "A rule or a section refers to a backend, a list or another section by a name that nothing has.",
        "Correct the name as suggested, or define what it names."),
    row(Code::Duplicate, "T402", Error, "a name is used twice",
        "Statistics, commands and rules find things by name; of two with one name, one could never be addressed.",
        "Give one of the two another name."),
    row(Code::ModeMismatch, "T403", Error, "frontend and backend speak different modes",
        "Requests cannot be handed from 'mode http' to 'mode tcp': one side understands HTTP, the other passes bytes on.",
        "Give both the same 'mode', for instance in 'defaults'. Without a 'mode' line it is tcp."),
    row(Code::IgnoredByMode, "T404", Warning, "HTTP words in 'mode tcp'",
        "These rules are never looked at, because in 'mode tcp' nobody reads requests: what they protect is open.",
        "Add 'mode http' to the section, or remove the lines."),
    row(Code::NoListener, "T405", Warning, "a frontend without 'bind'",
        "Nothing can ever arrive there.",
        "Add a 'bind' line, or remove the section."),
    row(Code::NoTimeout, "T406", Warning, "a time-out is missing",
        "Without it a dead peer keeps its connection for ever, and connections are limited: in the end nobody gets one.",
        "Set 'timeout client', 'timeout server' and 'timeout connect', best in 'defaults': 30s, 30s and 5s are usual."),
    row(Code::SharedAddress, "T407", Warning, "two sections listen on the same address",
        "The kernel shares the connections out between them, so that every second one ends in the wrong section.",
        "Give one of them another port or address, or join the two with 'use_backend' rules."),
    row(Code::Loop, "T408", Warning, "a server is this proxy itself",
        "Requests would go round until the connections are used up.",
        "Correct the server's address or port."),
    row(Code::NoServer, "T409", Warning, "a backend without servers",
        "Requests that are sent there get '503 Service Unavailable' at once.",
        "Add a 'server' line, answer in place with 'http-request return' or 'redirect', or remove what leads there."),
    row(Code::Unreachable, "T410", Warning, "a rule that is never reached",
        "An earlier rule of the same list ends the evaluation without a condition, so this one never runs. If it was to refuse something, it does not.",
        "Move it in front of that rule, give that rule a condition, or remove this one."),
    row(Code::Useless, "T411", Warning, "something is set that nothing uses",
        "What was described has no effect because the word that turns it on is missing.",
        "Add the word that is named, or remove the description."),
    row(Code::Tls, "T412", Error, "a certificate, key or TLS setting cannot be used",
        "Connections with TLS would fail, or be served with another certificate than was meant.",
        "Follow the message: the file must hold the certificate, then intermediate ones, and the key in PEM form, and key and certificate must belong together."),
    row(Code::ZeroWarning, "T413", Error, "warnings are not permitted",
        "'zero-warning' stands in 'global', and there are warnings.",
        "Mend what they say, or remove 'zero-warning'."),
    row(Code::VipUnserved, "T501", Warning, "nothing listens on a virtual address",
        "The node that holds this address answers connections to it with a reset: the address moves, and the service does not.",
        "Add a 'bind' for the address (or '*'), or remove it from the virtual router."),
    row(Code::ForeignListener, "T502", Warning, "a listener on an address that this host has not",
        "The address is neither on an interface nor virtual. The listener is bound all the same where the kernel permits it, and gets no connection until the address comes.",
        "Correct the address, or add it to the virtual router that is to hold it."),
    row(Code::SameRouter, "T503", Error, "two virtual routers with one number on an interface",
        "Each would take the other's adverts for its own, and both give up or both take the addresses.",
        "Give one of them another 'virtual_router_id', on all nodes."),
    row(Code::NopreemptMaster, "T504", Warning, "'nopreempt' with 'state MASTER'",
        "A node that starts as MASTER takes the address whoever has it: that is what 'nopreempt' was to prevent. keepalived drops 'nopreempt' then, and so it is here.",
        "Write 'state BACKUP' on both nodes and let the priority decide who begins."),
    row(Code::AdvertInterval, "T505", Warning, "an advert interval that the version cannot carry",
        "VRRPv2 has whole seconds, VRRPv3 hundredths up to 40.95 s. Another value is rounded, and if the nodes round differently they do not agree on when a master is dead.",
        "Write whole seconds, or 'vrrp_version 3' on all nodes for shorter ones."),
    row(Code::AuthPass, "T506", Warning, "a password of which only a part counts",
        "The packet has room for eight characters. Two passwords that begin alike are the same, and VRRPv3 has none at all.",
        "Write at most eight characters, the same on all nodes; do not take it for protection: it is sent in clear text."),
    row(Code::ScriptMissing, "T507", Warning, "a tracked script is missing or cannot be run",
        "The virtual router runs without it, as in keepalived: what it was to notice, nobody notices, and the node keeps the address whatever happens to the service. '--strict' makes this an error.",
        "Correct the path, and make the file executable for the user that runs it."),
    row(Code::ScriptUnsafe, "T508", Error, "a script that others may change",
        "It is run with rights that those who may write to it do not have: whoever can change the file, or a directory above it, could become that user.",
        "Let it and all directories above it belong to root, and take the right to write from group and others ('chmod go-w')."),
    row(Code::WeightWithoutEffect, "T509", Warning, "a weight that can never change the outcome",
        "However the script or interface ends, the order of the priorities stays what it is: a failed node keeps the address.",
        "Take a weight larger than the distance between the two nodes' priorities, or none, so that a failure makes the node give way."),
    row(Code::UnknownTracked, "T510", Warning, "something is tracked that is not defined",
        "The virtual router runs without it: what it was to notice, nobody notices.",
        "Define it, or correct the name as suggested."),
    row(Code::RouterIncomplete, "T511", Error, "a virtual router lacks what it needs",
        "It needs an interface, a number from 1 to 255 that is the same on all nodes, and an address.",
        "Add what is named."),
    row(Code::AddressFamily, "T512", Error, "addresses of both families in one virtual router",
        "An advert carries either IPv4 or IPv6 addresses.",
        "Put the others into 'virtual_ipaddress_excluded' to move them along, or into a virtual router of their own."),
    row(Code::TwoSources, "T513", Error, "virtual routers are defined in both files",
        "'vrrp' sections of haproxy.cfg and a keepalived.conf would contradict each other.",
        "Keep one of the two: 'tandem convert' makes one file of both."),
    row(Code::Lenient, "T514", Warning, "keepalived would go on, and so it is here",
        "The value is wrong; keepalived notes that and takes another. The node runs with something else than the file says.",
        "Correct the value. '--strict' makes these errors."),
    row(Code::Interface, "T515", Error, "an interface is not there",
        "The virtual router cannot speak, or cannot watch what it was to watch: the start is refused, as keepalived refuses it. For 'tandem check', which may run on another host, it is a warning.",
        "Correct the name, create the interface, or say 'dynamic_interfaces' if it comes later."),
    row(Code::NotifyMissing, "T516", Warning, "a notify script is missing or cannot be run",
        "When the state changes, nobody is told: what the script was to do is not done, and nothing else shows it.",
        "Correct the path, and make the file executable for the user that runs it."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_row_and_one_number() {
        let mut seen = std::collections::BTreeSet::new();
        for (n, r) in ROWS.iter().enumerate() {
            assert!(seen.insert(r.id), "twice: {}", r.id);
            assert_eq!(r.code as usize, n, "{:?}: rows stand in the order of the codes", r.code);
            assert!(r.id.len() == 4 && r.id.starts_with('T'));
            assert!(!r.title.is_empty() && r.why.ends_with(['.', ')']) && r.mend.ends_with(['.', ')']), "{:?}", r.code);
        }
        assert_eq!(Code::NotifyMissing as usize, ROWS.len() - 1, "every code has a row");
        assert_eq!(find("t202").map(|r| r.code), Some(Code::NotYet));
    }
}
