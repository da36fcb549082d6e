//! HAProxy's language: sections, and a const table of keywords for each.
mod actions;
mod args;
mod bind;
mod cache;
mod changes;
mod check;
mod ciphers;
pub mod cond;
mod cpus;
mod errors;
mod filter;
mod forward;
mod global;
mod healthcheck;
pub mod keywords;
mod log;
mod mailers;
mod older;
mod proxy;
mod resolvers;
mod ring;
mod rules;
mod sections;
mod server;
mod server_state;
mod source;
mod tcp_rules;
mod vrrp;

pub use args::foreign;
pub use changes::{dynamic_server_words, number_behind};

use super::lex;
use super::model::{Chosen, Kind, Model, Proxy};
use super::source::Source;
use crate::base::code::Code;
use crate::base::diag::{Place, Report, Severity, suggestion};
use crate::base::version;
use crate::rules::logformat;
use crate::rules::pattern::regex_work;
use crate::rules::sample::{ExprError, KnownNames};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The names that exist in the reference, for telling "not yet" from "unknown".
pub const NAMES: KnownNames<'static> = KnownNames {
    is_fetch: |n| keywords::is(keywords::Class::Fetch, n),
    is_converter: |n| keywords::is(keywords::Class::Converter, n),
    env: None,
    fits: None,
    resolve: None,
};

/// The same, with the variables that `env()` finds.
pub fn names(env: &BTreeMap<String, Option<String>>) -> KnownNames<'_> {
    KnownNames { env: Some(env), ..NAMES }
}

/// What a word of the reference comes to here. There is no fourth state: a word that is parsed and then ignored is a defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Honoured,
    /// It has no meaning here, for this reason.
    Accepted(&'static str),
    /// A fatal error that says so.
    NotYet,
}

/// What a row of the keyword table comes to, as far as configurations go.
pub fn state(r: &keywords::Row) -> State {
    use keywords::Class;
    let known = |list: &[&str]| if list.contains(&r.name) { State::Honoured } else { State::NotYet };
    match r.class {
        Class::Global => global::state(r.name),
        Class::Listen => proxy::state(false, r.name),
        Class::Option => proxy::state(true, r.name),
        Class::Bind => bind::state(r.name),
        Class::Server => server::state(r.name),
        Class::TcpConnection | Class::TcpSession if tcp_rules::effects("session").contains(&r.name) => State::Honoured,
        Class::TcpContent if tcp_rules::effects("content").contains(&r.name) => State::Honoured,
        Class::TcpConnection | Class::TcpSession | Class::TcpContent => known(tcp_rules::TCP_ACTIONS),
        Class::TcpResponse if tcp_rules::RESPONSE_EFFECTS.contains(&r.name) => State::Honoured,
        Class::TcpResponse => known(tcp_rules::RESPONSE_ACTIONS),
        Class::HttpRequest | Class::HttpResponse | Class::HttpAfterResponse
            if matches!(r.name, "set-var" | "set-var-fmt" | "unset-var" | "do-log" | "set-log-level") =>
        {
            State::Honoured
        }
        Class::HttpRequest if actions::REQUEST.contains(&r.name) => State::Honoured,
        Class::HttpRequest | Class::HttpResponse if actions::BOTH.contains(&r.name) => State::Honoured,
        Class::HttpAfterResponse if actions::AFTER.contains(&r.name) => State::Honoured,
        Class::HttpResponse if r.name == "capture" => State::Honoured,
        Class::HttpAfterResponse => known(rules::AFTER_ACTIONS),
        Class::HttpRequest => known(rules::REQUEST_ACTIONS),
        Class::HttpResponse => known(rules::RESPONSE_ACTIONS),
        Class::Fetch if crate::rules::sample::is_fetch(r.name) => State::Honoured,
        Class::Converter if crate::rules::sample::is_converter(r.name) => State::Honoured,
        Class::Acl if crate::rules::acl::is_keyword(r.name) => State::Honoured,
        Class::Service => known(&["prometheus-exporter"]),
        Class::Filter => known(filter::FILTERS),
        _ => State::NotYet,
    }
}

/// Pages by status.
pub type ErrorSet = BTreeMap<u16, Arc<[u8]>>;

/// What every handler works with.
pub struct Cx<'a> {
    pub src: &'a mut dyn Source,
    pub report: &'a mut Report,
    pub place: Place,
    /// The line began with `no`.
    pub negated: bool,
    /// The environment, with what `setenv`, `presetenv` and `unsetenv` made of it.
    pub env: BTreeMap<String, Option<String>>,
    pub crt_base: Option<String>,
    pub ca_base: Option<String>,
    /// A section says where certificates are.
    pub crt_store: bool,
    pub no_verify: bool,
    /// `--dialect 3.5`: what that version refuses is refused.
    pub strict: bool,
    /// Proxies by name.
    names: HashMap<String, Vec<(Kind, Place)>>,
    /// The `http-errors` sections read so far.
    error_sets: BTreeMap<String, ErrorSet>,
    /// Servers that expressions ask about, as backend and server, and where.
    asked_servers: Vec<(String, String, Place)>,
    /// `resolvers` sections that servers name, and where.
    asked_resolvers: Vec<(String, Place)>,
    /// Servers whose names nobody knows, and what to say of it unless a state file knows them.
    unresolved: Vec<(Place, String, String)>,
    /// `cache` sections that rules and filters name, and where.
    asked_caches: Vec<(String, Place)>,
    /// `log-profile` sections that rules name, and where.
    asked_profiles: Vec<(String, Place)>,
    /// Who has which `guid`.
    guids: HashMap<String, String>,
    /// Rings read so far.
    rings: Vec<Arc<crate::config::model::Ring>>,
    /// Servers of the section being read.
    servers: HashMap<String, Place>,
    /// What only so much is read of: sections, listeners, regular expressions, bytes of variables.
    sections_read: usize,
    servers_read: usize,
    listeners: usize,
    rules: usize,
    /// Work for regular expressions, in units of [`regex_work`].
    regexes: usize,
    variables: usize,
    /// That there is too much of something is said once.
    too_much: bool,
    /// The kind of the proxy section being read, and its name.
    kind: Kind,
    own: String,
    /// Proxies that expressions ask about, and where: a backend, or a frontend.
    asked: Vec<(bool, String, Place)>,
    /// `defaults` with rules that were used: where, and whether by a frontend or by a backend.
    ruled: Vec<(Place, Kind)>,
    /// Kinds and names of the sections that are only checked.
    sections: BTreeSet<(String, String)>,
}

impl Cx<'_> {
    /// A value that does not fit.
    pub fn error(&mut self, message: impl Into<String>) {
        self.error_of(Code::Value, message);
    }
    pub fn error_of(&mut self, code: Code, message: impl Into<String>) {
        self.report.error(code, &self.place, message);
    }
    /// Something that is honoured, and probably not meant.
    pub fn warn(&mut self, message: impl Into<String>) {
        self.warn_of(Code::Advice, message);
    }
    pub fn warn_of(&mut self, code: Code, message: impl Into<String>) {
        self.report.warning(code, &self.place, message);
    }
    pub fn not_yet(&mut self, what: &str) {
        self.report.not_yet(&self.place, format!("{what} is known but not honoured yet by this version; remove the line, or stay with HAProxy for this configuration"));
    }
    /// There is more of something than can be meant; said once.
    pub fn too_much(&mut self, what: &str, most: usize) {
        if !std::mem::replace(&mut self.too_much, true) {
            self.error_of(Code::TooMuch, format!("there are more than {most} {what}; is this the right file?"));
        }
    }
    /// Counts what regular expressions will cost.
    pub fn regex_work(&mut self, work: usize) {
        self.regexes = self.regexes.saturating_add(work);
        if self.regexes > MAX_REGEX_WORK && !std::mem::replace(&mut self.too_much, true) {
            self.error_of(
                Code::TooMuch,
                "there are more regular expressions than can be meant; is this the right file?",
            );
        }
    }
    /// A rule or an ACL; what it may cost is known before it is read.
    fn rule(&mut self, w: &[String]) {
        self.rules += 1;
        if self.rules > MAX_RULES {
            self.too_much("ACLs and rules", MAX_RULES);
        }
        let marks = |x: &String| {
            x.contains("_reg")
                || x.contains("regsub(")
                || x.starts_with("replace-")
                || matches!(&x[..], "reg" | "rstring" | "rstatus")
        };
        if w.iter().any(marks) {
            self.regex_work(w[1..].iter().map(|x| regex_work(x)).fold(0, usize::saturating_add));
        }
    }
    /// A word that means nothing here, with the reason.
    pub fn no_effect(&mut self, word: &str, why: &str) {
        self.report.notice(Code::NoEffect, &self.place, format!("'{word}' has no effect: {why}"));
    }
    /// Reports an expression error; `what` names the directive.
    pub fn expr_error(&mut self, what: &str, e: ExprError) {
        match e {
            ExprError::NotYet(m) => self.report.not_yet(
                &self.place,
                format!("'{what}' : {m}; remove the line, or stay with HAProxy for this configuration"),
            ),
            ExprError::Reported => {}
            ExprError::Unknown(m) | ExprError::Bad(m) => self.error_of(Code::Expression, format!("'{what}' : {m}")),
        }
    }
    pub fn env_of(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned().flatten()
    }
    /// The argument at `i`, or an error that names what is missing.
    pub fn arg<'w>(&mut self, w: &'w [String], i: usize, what: &str) -> Option<&'w str> {
        let found = w.get(i).map(String::as_str);
        if found.is_none() {
            self.error_of(Code::Missing, format!("'{}' expects {what}", w[..i.min(w.len())].join(" ")));
        }
        found
    }
    pub fn number<T: std::str::FromStr>(&mut self, w: &[String], i: usize, what: &str) -> Option<T> {
        let text = self.arg(w, i, what)?;
        let mut n = text.parse().ok();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        if n.is_none() && digits > 0 && digits < text.len() && !self.strict {
            n = text[..digits].parse().ok();
            if n.is_some() {
                let said = format!(
                    "'{}' : '{text}' is read as {}, as HAProxy does; write digits alone",
                    w[..i].join(" "),
                    &text[..digits]
                );
                self.warn_of(Code::Number, said);
            }
        }
        if n.is_none() {
            self.error_of(Code::Number, format!("'{}' expects {what}, but got '{text}'", w[..i].join(" ")));
        }
        n
    }
    pub fn time(&mut self, w: &[String], i: usize, unit: crate::base::units::TimeUnit) -> Option<std::time::Duration> {
        let text = self.arg(w, i, "a time, such as 5s or 500ms")?;
        match crate::base::units::parse_time(text, unit) {
            Ok(d) => {
                let behind = crate::base::units::behind_unit(text);
                if !behind.is_empty() {
                    self.warn_of(
                        Code::Time,
                        format!("'{}' : '{behind}' behind the unit in '{text}' is not used", w[..i].join(" ")),
                    );
                }
                Some(d)
            }
            Err(e) => {
                self.error_of(Code::Time, format!("'{}' : {e}", w[..i].join(" ")));
                None
            }
        }
    }
    pub fn read(&mut self, path: &str) -> Option<Arc<[u8]>> {
        match self.src.read(path) {
            Ok(b) => Some(b),
            Err(e) => {
                self.error_of(Code::Unreadable, format!("cannot read '{path}' : {e}"));
                None
            }
        }
    }
    pub fn resolve(&mut self, name: &str) -> Option<std::net::IpAddr> {
        let all = self.src.resolve(name);
        // HAProxy prefers IPv4 here unless told otherwise (`resolve-prefer` is for run time).
        all.iter().find(|a| a.is_ipv4()).or(all.first()).copied()
    }
    /// Expands `$VAR` in an address written without quotes.
    pub fn expand(&mut self, word: &str) -> Option<String> {
        let out = lex::expand(word, &|n| self.env_of(n));
        out.map_err(|e| self.error_of(Code::Quoting, format!("'{word}' : {e}"))).ok()
    }
    /// A name that nothing else has (`guid`); `what` has it from here on.
    pub fn guid(&mut self, name: &str, what: &str) -> Option<Arc<str>> {
        if name.is_empty() || name.len() > 127 {
            self.error_of(Code::Value, "'guid': invalid length");
            return None;
        }
        if let Some(bad) = args::foreign(name) {
            self.error_of(Code::Value, format!("'guid': invalid character '{bad}'"));
            return None;
        }
        if let Some(other) = self.guids.insert(name.to_owned(), what.to_owned()) {
            self.error_of(Code::Duplicate, format!("'guid': duplicate entry with {other}"));
            return None;
        }
        Some(name.into())
    }
    /// Warns when more words stand on the line than the directive takes.
    pub fn at_most(&mut self, w: &[String], n: usize) {
        if w.len() > n {
            self.error_of(Code::Extra, format!("'{}' cannot handle unexpected argument '{}'", w[0], w[n]));
        }
    }
}

enum Section {
    None,
    Global,
    Proxy(Box<Proxy>),
    Vrrp(Box<vrrp::Draft>),
    VrrpGroup(Box<crate::config::model::VrrpGroup>),
    VrrpScript(Box<crate::config::model::VrrpScript>),
    VrrpFile(Box<crate::config::model::TrackFile>),
    VrrpProcess(Box<crate::config::model::TrackProcess>),
    VrrpBfd(Box<crate::config::model::Bfd>),
    /// `http-errors`, by its name.
    Errors(String),
    Resolvers(Box<crate::config::model::Resolvers>, Box<sections::Open>),
    Cache(Box<crate::config::model::Cache>, Box<sections::Open>),
    Mailers(Box<crate::config::model::Mailers>, Box<sections::Open>),
    HealthCheck(Box<healthcheck::Draft>),
    Ring(Box<crate::config::model::Ring>, Box<sections::Open>),
    LogProfile(Box<crate::config::model::LogProfile>, Box<sections::Open>),
    LogForward(Box<Proxy>, Box<sections::Open>),
    /// One that is only checked.
    Other(Box<sections::Open>),
    /// A section whose lines are passed over because its header was refused.
    Skipped,
}

impl Section {
    /// `.SECTION`: the section's own name, or its kind if it has none.
    fn name(&self) -> &str {
        match self {
            Self::None | Self::Skipped | Self::Other(_) => "",
            Self::HealthCheck(d) => d.name(),
            Self::Global => "global",
            Self::Proxy(p) if p.name.is_empty() => p.kind.name(),
            Self::Proxy(p) => &p.name,
            Self::Vrrp(_) => "vrrp",
            Self::VrrpFile(_) => "vrrp-file",
            Self::VrrpProcess(_) => "vrrp-process",
            Self::VrrpBfd(_) => "vrrp-bfd",
            Self::VrrpGroup(g) => &g.name,
            Self::VrrpScript(s) => &s.name,
            Self::Errors(n) => n,
            Self::Resolvers(r, _) => &r.name,
            Self::Cache(c, _) => &c.name,
            Self::Mailers(m, _) => &m.name,
            Self::Ring(r, _) => &r.name,
            Self::LogProfile(p, _) => &p.name,
            Self::LogForward(p, _) => &p.name,
        }
    }
}

/// What conditions find out about this program.
pub fn facts<'a>(env: &'a dyn Fn(&str) -> Option<String>, features: &'a [&'a str]) -> cond::Facts<'a> {
    cond::Facts {
        env,
        version: version::VERSION,
        features,
        enabled: version::ENABLED,
        tls_library: version::TLS_LIBRARY,
        openssl: version::OPENSSL,
    }
}

/// The features that are here.
pub fn features() -> Vec<&'static str> {
    version::FEATURES.iter().filter(|f| f.1).map(|f| f.0).collect()
}

/// A line that begins with a dot. `Err`: the load cannot go on behind it.
fn directive(cx: &mut Cx<'_>, blocks: &mut cond::Blocks, w: &lex::Words) -> Result<(), ()> {
    let head = w.words[0].as_str();
    match head {
        ".if" | ".elif" | ".else" | ".endif" => {
            // An empty argument is as good as none here: the words are one text.
            let rest: Vec<&str> =
                w.words[1..].iter().chain(w.empty.iter().flat_map(|e| &e.1)).map(String::as_str).collect();
            let features = features();
            let result = blocks.directive(head, &rest.join(" "), &facts(&|n| cx.env_of(n), &features));
            result.map_err(|e| cx.error_of(Code::Conditional, e))
        }
        _ if !blocks.counts() => Ok(()),
        ".notice" | ".warning" | ".alert" | ".diag" => {
            let Some(text) = w.words.get(1) else {
                cx.error_of(Code::Missing, format!("'{head}' expects a message"));
                return Ok(());
            };
            if let Some(extra) = w.words.get(2) {
                cx.error_of(
                    Code::Extra,
                    format!(
                        "unexpected argument '{extra}' behind '{head}'; use quotes if the message should contain spaces"
                    ),
                );
                return Ok(());
            }
            let text = format!("'{text}'");
            match head {
                ".notice" => cx.report.notice(Code::Said, &cx.place, text),
                ".warning" => cx.warn_of(Code::Said, text),
                ".alert" => {
                    cx.error_of(Code::Said, text);
                    return Err(());
                }
                // Only with `-dD`.
                _ => {}
            }
            Ok(())
        }
        _ => {
            let known = [".if", ".elif", ".else", ".endif", ".notice", ".warning", ".alert", ".diag"];
            cx.error_of(Code::UnknownWord, format!("unknown directive '{head}'{}", suggestion(head, known)));
            Ok(())
        }
    }
}

/// Lines longer than this are refused, as a guard against binary files.
const MAX_LINE: usize = 1 << 20;
/// Real configurations have a hundredth of each; more is an accident, and would take memory without end.
const MAX_SECTIONS: usize = 50_000;
/// Servers of all sections.
pub const MAX_SERVERS: usize = 100_000;
pub const MAX_LISTENERS: usize = 50_000;
/// ACLs and rules of all sections.
const MAX_RULES: usize = 200_000;
/// For some 20,000 plain regular expressions, or 2,000 with repetitions.
const MAX_REGEX_WORK: usize = 4_000_000;
/// Bytes of variables that a configuration sets.
pub const MAX_VARIABLES: usize = 4 << 20;
/// After so many errors the rest would only hide them.
const MAX_ERRORS: usize = 200;

/// Parses the files, in order, into one model. Findings go to `report`.
pub fn parse(
    files: &[(Arc<str>, Arc<[u8]>)],
    src: &mut dyn Source,
    args: &super::source::LoadArgs,
    report: &mut Report,
) -> Model {
    let mut model = Model::default();
    model.global.localpeer = args.localpeer.clone();
    model.global.server_verify_none = args.no_verify;
    let src_env = src.envs();
    let mut cx = Cx {
        src,
        report,
        place: Place::default(),
        negated: false,
        env: src_env
            .into_iter()
            .chain([
                ("HAPROXY_LOCALPEER".to_owned(), Some(args.localpeer.clone())),
                ("HAPROXY_BRANCH".to_owned(), Some(version::VERSION.rsplit_once('.').map_or("", |v| v.0).to_owned())),
                ("HAPROXY_STARTUP_VERSION".to_owned(), Some(version::VERSION.to_owned())),
                ("HAPROXY_HTTP_LOG_FMT".to_owned(), Some(logformat::HTTPLOG.to_owned())),
                ("HAPROXY_TCP_LOG_FMT".to_owned(), Some(logformat::TCPLOG.to_owned())),
                ("HAPROXY_HTTP_CLF_LOG_FMT".to_owned(), Some(logformat::CLF.to_owned())),
                ("HAPROXY_CFGFILES".to_owned(), Some(args.haproxy.join(";"))),
            ])
            .collect(),
        crt_base: None,
        ca_base: None,
        crt_store: false,
        no_verify: args.no_verify,
        strict: args.strict,
        names: HashMap::new(),
        error_sets: BTreeMap::new(),
        asked_servers: Vec::new(),
        asked_resolvers: Vec::new(),
        unresolved: Vec::new(),
        asked_caches: Vec::new(),
        asked_profiles: Vec::new(),
        guids: HashMap::new(),
        rings: Vec::new(),
        servers: HashMap::new(),
        sections_read: 0,
        servers_read: 0,
        listeners: 0,
        rules: 0,
        regexes: 0,
        variables: 0,
        too_much: false,
        kind: Kind::Defaults,
        own: String::new(),
        asked: Vec::new(),
        ruled: Vec::new(),
        sections: BTreeSet::new(),
    };
    let mut defaults: Vec<Proxy> = vec![Proxy::new(Place::default(), "", Kind::Defaults)];
    let mut section = Section::None;
    for (file, bytes) in files {
        let text = String::from_utf8_lossy(bytes);
        if !text.is_empty() && !text.ends_with('\n') {
            let place = Place::new(file, u32::try_from(text.lines().count()).unwrap_or(0));
            let what = "missing LF on the last line; the file may have been truncated";
            if cx.strict {
                cx.report.error(Code::LastLine, &place, what);
            } else {
                cx.report.warning(Code::LastLine, &place, what);
            }
        }
        let mut blocks = cond::Blocks::default();
        for (n, line) in text.lines().enumerate() {
            cx.place = Place::new(file, u32::try_from(n + 1).unwrap_or(0));
            if cx.too_much {
                break;
            }
            if cx.report.count(Severity::Error) > MAX_ERRORS {
                cx.error_of(Code::TooMuch, "too many errors; the rest of the file was not read");
                break;
            }
            if line.len() > MAX_LINE {
                cx.error_of(Code::TooMuch, "line too long");
                continue;
            }
            // A scope of a filter's own file.
            if line.trim_start().starts_with('[') {
                continue;
            }
            let own = |name: &str| match name {
                ".FILE" => Some(file.to_string()),
                ".LINE" => Some(cx.place.line.to_string()),
                ".SECTION" => Some(section.name().to_owned()),
                n if n.starts_with('.') => None,
                n => cx.env_of(n),
            };
            let lexed = match lex::words(line, &own) {
                Ok(w) if w.words.is_empty() => continue,
                Ok(w) => w,
                Err(e) => {
                    cx.error_of(Code::Quoting, format!("{} at column {}", e.message, e.column));
                    continue;
                }
            };
            if lexed.words[0].starts_with('.') {
                match directive(&mut cx, &mut blocks, &lexed) {
                    Ok(()) => continue,
                    // What follows would be read as something that it is not.
                    Err(()) => return model,
                }
            }
            if !blocks.counts() {
                continue;
            }
            if let Some((at, behind)) = &lexed.empty {
                let lost = if behind.is_empty() {
                    String::new()
                } else {
                    format!(", and '{}' behind it is not used", behind.join(" "))
                };
                let text = format!(
                    "argument number {at} of '{}' is empty and ends the line{lost}; is a variable not set?",
                    lexed.words[0]
                );
                if cx.strict { cx.error_of(Code::EmptyArgument, text) } else { cx.warn_of(Code::EmptyArgument, text) }
            }
            let words = lexed.words;
            self::line(&mut cx, &mut model, &mut defaults, &mut section, words);
        }
        if blocks.open() > 0 {
            cx.error_of(Code::Conditional, "non-terminated '.if' block: '.endif' is missing");
        }
        // A section never spans two files in effect, but HAProxy lets `global` go on; closing here keeps places right.
        close(&mut cx, &mut model, &mut defaults, std::mem::replace(&mut section, Section::None));
    }
    changes::number(&mut model);
    // What was changed at run time is newer than any file.
    server_state::finish(&mut cx, &mut model);
    for c in &args.changes {
        changes::apply(&mut cx, &mut model, &defaults, c);
    }
    model.global.crt_store = cx.crt_store;
    model.defaults = defaults.iter().map(|d| d.name.clone()).filter(|n| !n.is_empty()).collect();
    for (backend, name, place) in std::mem::take(&mut cx.asked) {
        let those = || model.proxies.iter().filter(|p| if backend { p.is_backend() } else { p.is_frontend() });
        if !those().any(|p| p.name == name) {
            let what = if backend { "backend" } else { "frontend" };
            let near = suggestion(&name, those().map(|p| p.name.as_str()));
            let text = format!("unable to find {what} '{name}', which is asked about here{near}");
            cx.report.error(Code::UnknownTarget, &place, text);
        }
    }
    for (backend, name, place) in std::mem::take(&mut cx.asked_servers) {
        let mut proxies = model.proxies.iter_mut().filter(|p| p.is_backend() && p.name == backend);
        match proxies.find_map(|p| p.servers.iter_mut().find(|s| s.name == name)) {
            Some(s) => s.asked = true,
            None => {
                let text = format!("unable to find server '{name}' in proxy '{backend}', which is asked about here");
                cx.report.error(Code::UnknownTarget, &place, text);
            }
        }
    }
    tracking_loops(&mut cx, &model);
    let tracks =
        model.proxies.iter().flat_map(|p| &p.servers).filter_map(|s| Some((s.track.clone()?, s.place.clone())));
    for ((backend, name), place) in tracks.collect::<Vec<_>>() {
        let there = model.proxies.iter().filter(|p| p.is_backend() && p.name == backend).flat_map(|p| &p.servers);
        match there.clone().find(|s| s.name == name) {
            None => {
                let what = if model.proxies.iter().any(|p| p.is_backend() && p.name == backend) {
                    ("server", &name)
                } else {
                    ("proxy", &backend)
                };
                let text = format!("unable to find required {} '{}' for tracking.", what.0, what.1);
                cx.report.error(Code::UnknownTarget, &place, text);
            }
            Some(s) if s.dynamic => {
                let text = format!("unable to use {backend}/{name} for tracking as it is a dynamic server.");
                cx.report.error(Code::UnknownTarget, &place, text);
            }
            Some(s) if !s.check && !s.agent.wanted && s.track.is_none() => {
                let text = format!(
                    "unable to use {backend}/{name} for tracking as it does not have any check nor agent enabled."
                );
                cx.report.error(Code::UnknownTarget, &place, text);
            }
            Some(_) => {}
        }
    }
    mailers::finish(&mut cx, &model);
    let checks = std::mem::take(&mut model.healthchecks);
    model.proxies.iter_mut().for_each(|p| healthcheck::adopt(&mut cx, &checks, p));
    model.healthchecks = checks;
    model.rings = std::mem::take(&mut cx.rings);
    log::finish(&mut cx, &model);
    check::external_finish(&mut cx, &model);
    for (name, place) in std::mem::take(&mut cx.asked_caches) {
        if !model.caches.iter().any(|c| c.name == name) {
            let near = suggestion(&name, model.caches.iter().map(|c| c.name.as_str()));
            let text = format!("unable to find the cache '{name}', which is named here{near}");
            cx.report.error(Code::UnknownTarget, &place, text);
        }
    }
    for (name, place) in std::mem::take(&mut cx.asked_resolvers) {
        if !model.resolvers.iter().any(|r| r.name == name) {
            let near = suggestion(&name, model.resolvers.iter().map(|r| r.name.as_str()));
            let text = format!("unable to find required resolvers '{name}'{near}");
            cx.report.error(Code::UnknownTarget, &place, text);
        }
    }
    model
}

/// Servers that track one another in a circle would wait for each other's state for ever.
fn tracking_loops(cx: &mut Cx<'_>, model: &Model) {
    let backends = model.proxies.iter().filter(|p| p.is_backend());
    let all = backends.flat_map(|p| p.servers.iter().map(move |s| ((p.name.as_str(), s.name.as_str()), s)));
    let follows: HashMap<_, _> = all.filter_map(|(name, s)| Some((name, (s.track.as_ref()?, s)))).collect();
    let mut seen = std::collections::HashSet::new();
    for begin in follows.keys() {
        let (mut at, mut way) = (*begin, std::collections::HashSet::new());
        while seen.insert(at) {
            way.insert(at);
            match follows.get(&at) {
                Some(((b, n), _)) => at = (b.as_str(), n.as_str()),
                None => break,
            }
        }
        // Where it has been on this very way, it goes round.
        if let (true, Some((_, s))) = (way.contains(&at), follows.get(&at)) {
            let text = format!("unable to track {}/{}: tracking chain looping back to the same server", at.0, at.1);
            cx.report.error(Code::Loop, &s.place, text);
        }
    }
}

const SECTIONS: &[&str] = &[
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "http-errors",
    "vrrp",
    "vrrp-group",
    "vrrp-script",
    "vrrp-file",
    "vrrp-process",
    "vrrp-bfd",
];

/// Lines that [`Cx::rule`] counts.
const RULES: &[&str] = &[
    "acl",
    "http-request",
    "http-response",
    "http-after-response",
    "tcp-request",
    "tcp-response",
    "http-check",
    "tcp-check",
    "use_backend",
    "use-server",
    "redirect",
];

fn line(cx: &mut Cx<'_>, model: &mut Model, defaults: &mut Vec<Proxy>, section: &mut Section, mut w: Vec<String>) {
    let head = w[0].as_str();
    if RULES.contains(&head) {
        cx.rule(&w);
        if cx.too_much {
            return;
        }
    }
    if SECTIONS.contains(&head) {
        close(cx, model, defaults, std::mem::replace(section, Section::None));
        *section = open(cx, defaults, &w);
        return;
    }
    if sections::is_header(head) {
        close(cx, model, defaults, std::mem::replace(section, Section::None));
        *section = match sections::open(cx, &w) {
            None => Section::Skipped,
            Some(s) if w[0] == "resolvers" => {
                Section::Resolvers(Box::new(crate::config::model::Resolvers::new(&w[1])), Box::new(s))
            }
            Some(s) if w[0] == "healthcheck" => Section::HealthCheck(Box::new(healthcheck::new(cx, &w[1], s))),
            Some(s) if w[0] == "mailers" => Section::Mailers(Box::new(mailers::new(&w[1])), Box::new(s)),
            Some(s) if w[0] == "cache" => {
                Section::Cache(Box::new(crate::config::model::Cache::new(&w[1])), Box::new(s))
            }
            Some(s) if w[0] == "ring" => {
                cx.servers.clear();
                Section::Ring(Box::new(ring::new(cx, &w[1])), Box::new(s))
            }
            Some(s) if w[0] == "log-profile" => {
                let name = w[1].clone();
                let profile = crate::config::model::LogProfile { name, tag: None, steps: Vec::new(), any: None };
                Section::LogProfile(Box::new(profile), Box::new(s))
            }
            Some(s) if w[0] == "log-forward" => Section::LogForward(Box::new(forward::new(cx, &w[1])), Box::new(s)),
            Some(s) => Section::Other(Box::new(s)),
        };
        return;
    }
    cx.negated = false;
    if matches!(section, Section::Vrrp(_)) && head == "no" && w.get(1).is_some_and(|x| x == "preempt") {
        w = vec!["no-preempt".to_owned()];
    }
    let head = w[0].as_str();
    if head == "no" || head == "default" {
        if w.len() < 2 {
            cx.error_of(Code::Missing, format!("'{head}' expects the directive it applies to"));
            return;
        }
        if !matches!(
            w[1].as_str(),
            "option"
                | "log"
                | "quick-exit"
                | "busy-polling"
                | "set-dumpable"
                | "strict-limits"
                | "insecure-fork-wanted"
                | "numa-cpu-mapping"
        ) && !w[1].starts_with("tune.")
        {
            cx.error_of(
                Code::Misplaced,
                format!("'{head}' cannot be applied to '{}': it is for options and log targets", w[1]),
            );
            return;
        }
        // Every option is off by default: to restore that is to turn it off.
        cx.negated = true;
        w.remove(0);
    }
    match section {
        Section::Skipped => {}
        Section::None => {
            let names = SECTIONS.iter().copied().chain(sections::names());
            cx.error_of(
                Code::OutOfSection,
                format!("unknown keyword '{}' out of section{}", w[0], suggestion(&w[0], names)),
            );
        }
        Section::Global if vrrp::global::line(cx, &mut model.vrrp, &w) => {}
        Section::Global => global::line(cx, &mut model.global, &w),
        Section::Proxy(p) => {
            cx.kind = p.kind;
            if cx.own != p.name {
                cx.own.clone_from(&p.name);
            }
            proxy::line(cx, p, &w);
        }
        Section::Other(s) => sections::line(cx, s, &w),
        Section::Resolvers(r, s) => resolvers::line(cx, r, s, &w),
        Section::Cache(c, s) => cache::line(cx, c, s, &w),
        Section::Mailers(m, s) => mailers::line(cx, m, s, &w),
        Section::HealthCheck(d) => healthcheck::line(cx, d, &w),
        Section::Ring(r, s) => ring::line(cx, r, s, &w),
        Section::LogProfile(p, s) => log::profile_line(cx, p, s, &w),
        Section::LogForward(p, s) => forward::line(cx, p, s, &w),
        Section::Vrrp(d) => vrrp::line(cx, d, &w),
        Section::VrrpGroup(g) => vrrp::group_line(cx, g, &w),
        Section::VrrpScript(s) => vrrp::tracked::script_line(cx, s, &w),
        Section::VrrpFile(f) => vrrp::tracked::file_line(cx, f, &w),
        Section::VrrpProcess(p) => vrrp::tracked::process_line(cx, p, &w),
        Section::VrrpBfd(b) => vrrp::tracked::bfd_line(cx, b, &w),
        Section::Errors(name) => errors::line(cx, name, &w),
    }
    (cx.crt_base, cx.ca_base) = (model.global.crt_base.clone(), model.global.ca_base.clone());
    cx.no_verify = model.global.server_verify_none;
}

fn open(cx: &mut Cx<'_>, defaults: &[Proxy], w: &[String]) -> Section {
    let kind = match w[0].as_str() {
        "global" => {
            cx.at_most(w, 1);
            return Section::Global;
        }
        "http-errors" => return errors::open(cx, w).map_or(Section::Skipped, Section::Errors),
        "vrrp" | "vrrp-group" | "vrrp-script" | "vrrp-file" | "vrrp-process" | "vrrp-bfd" => {
            let Some(name) = cx.arg(w, 1, "a name") else { return Section::Skipped };
            return match w[0].as_str() {
                "vrrp" => Section::Vrrp(Box::new(vrrp::Draft::new(name, &cx.place))),
                "vrrp-group" => Section::VrrpGroup(Box::new(vrrp::new_group(name))),
                "vrrp-file" => {
                    Section::VrrpFile(Box::new(crate::config::keepalived::build::blank_file(name, &cx.place)))
                }
                "vrrp-bfd" => Section::VrrpBfd(Box::new(crate::config::keepalived::build::blank_bfd(name, &cx.place))),
                "vrrp-process" => {
                    Section::VrrpProcess(Box::new(crate::config::keepalived::build::blank_process(name, &cx.place)))
                }
                _ => Section::VrrpScript(Box::new(crate::config::keepalived::build::blank_script(name, &cx.place))),
            };
        }
        "defaults" => Kind::Defaults,
        "frontend" => Kind::Frontend,
        "backend" => Kind::Backend,
        _ => Kind::Listen,
    };
    let from = w.iter().position(|x| x == "from");
    let base = match from {
        Some(i) => {
            let Some(name) = cx.arg(w, i + 1, "the name of a defaults section") else { return Section::Skipped };
            match defaults.iter().rev().find(|d| d.name == name && !name.is_empty()) {
                Some(d) => d,
                None => {
                    cx.error_of(
                        Code::UnknownTarget,
                        format!(
                            "there is no defaults section called '{name}' before this line{}",
                            suggestion(name, defaults.iter().map(|d| d.name.as_str()))
                        ),
                    );
                    return Section::Skipped;
                }
            }
        }
        None if kind == Kind::Defaults => &defaults[0],
        // The last one read applies, named or not; the first entry is the built-in one.
        None => &defaults[defaults.len() - 1],
    };
    let name = match w.get(1) {
        Some(n) if n != "from" => n.as_str(),
        _ if kind == Kind::Defaults => "",
        _ => {
            cx.error_of(Code::Missing, format!("'{}' expects a name: {} <name>", w[0], w[0]));
            return Section::Skipped;
        }
    };
    if let Some(bad) = args::foreign(name) {
        cx.error_of(
            Code::Name,
            format!(
                "character '{bad}' is not permitted in the name of a section ('{name}'); use letters, digits and -_.:"
            ),
        );
    }
    if cx.sections_read > MAX_SECTIONS {
        cx.too_much("sections", MAX_SECTIONS);
        return Section::Skipped;
    }
    cx.sections_read += 1;
    if kind != Kind::Defaults {
        let same = cx.names.entry(name.to_owned()).or_default();
        let other = same.iter().find(|p| kind == Kind::Listen || p.0 == Kind::Listen || p.0 == kind).cloned();
        same.push((kind, cx.place.clone()));
        if let Some((k, place)) = other {
            let text =
                format!("{} '{name}' has the same name as {} '{name}' declared at {place}", kind.name(), k.name());
            cx.error_of(Code::Duplicate, text);
        }
    }
    cx.servers.clear();
    if has_rules(base) {
        let refused = match kind {
            Kind::Defaults => Some("another 'defaults' section"),
            Kind::Listen => Some("a 'listen' section, which is both a frontend and a backend"),
            Kind::Backend if !(base.tcp_connection.is_empty() && base.tcp_session.is_empty()) => {
                Some("a backend, which has no 'tcp-request connection' and no 'tcp-request session'")
            }
            Kind::Frontend if !base.tcp_response.is_empty() => Some("a frontend, which has no 'tcp-response'"),
            Kind::Frontend | Kind::Backend => None,
        };
        if let Some(what) = refused {
            let text = format!("the rules of the defaults section at {} cannot go to {what}", base.place);
            cx.error_of(Code::Misplaced, text);
        } else if cx.ruled.iter().any(|(at, k)| *at == base.place && *k != kind) {
            let text = format!(
                "the rules of the defaults section at {} cannot go to a frontend and to a backend; give each a defaults section of its own",
                base.place
            );
            cx.error_of(Code::Misplaced, text);
        }
        cx.ruled.push((base.place.clone(), kind));
    }
    let mut p = base.clone();
    (p.kind, p.name, p.place) = (kind, name.to_owned(), cx.place.clone());
    if kind != Kind::Defaults {
        // Rules and ACLs of an anonymous defaults section are not inherited by HAProxy either: they are refused there.
        p.binds.clear();
        p.servers.clear();
    }
    check::begin(&mut p);
    let rest = if from == Some(1) { &w[..1] } else { &w[..from.unwrap_or(w.len())] };
    if let Some(extra) = rest.get(2) {
        if matches!(kind, Kind::Frontend | Kind::Listen) && !cx.strict {
            cx.warn_of(
                Code::OldWord,
                format!(
                    "'{} {name} {extra}' : an address on the section line is old syntax; write 'bind {extra}'",
                    w[0]
                ),
            );
            bind::parse(cx, &mut p, &["bind".to_owned(), extra.clone()]);
        } else {
            // 3.x alerts and goes on, 2.6 passes over it.
            cx.warn_of(Code::Extra, format!("'{} {name}' : '{extra}' has no meaning here", w[0]));
        }
    }
    Section::Proxy(Box::new(p))
}

/// Rules of a defaults section go to frontends or to backends, and to nothing else (manual 4.1).
fn has_rules(p: &Proxy) -> bool {
    !(p.http_request.is_empty()
        && p.http_response.is_empty()
        && p.http_after_response.is_empty()
        && p.tcp_connection.is_empty()
        && p.tcp_session.is_empty()
        && p.tcp_content.is_empty()
        && p.tcp_response.is_empty())
}

fn close(cx: &mut Cx<'_>, model: &mut Model, defaults: &mut Vec<Proxy>, section: Section) {
    match section {
        Section::Proxy(mut p) if p.kind == Kind::Defaults => {
            check::finish(cx, &mut p);
            defaults.push(*p);
        }
        Section::Proxy(mut p) => {
            older::finish(&mut p);
            check::finish(cx, &mut p);
            mailers::alert(cx, &p);
            proxy::finish_logs(cx, &p);
            filter::finish(cx, &mut p);
            for (_, name, place) in &p.use_server {
                let Chosen::Name(name) = name else { continue };
                if !p.servers.iter().any(|s| s.name == *name) {
                    let near = suggestion(name, p.servers.iter().map(|s| s.name.as_str()));
                    let text = format!("unable to find server '{name}' referenced in a 'use-server' rule{near}");
                    cx.report.error(Code::UnknownTarget, place, text);
                }
            }
            // There may be tens of thousands of sections.
            p.servers.shrink_to_fit();
            p.binds.shrink_to_fit();
            p.use_backend.shrink_to_fit();
            p.http_request.shrink_to_fit();
            model.proxies.push(p);
        }
        Section::Vrrp(d) => vrrp::finish(cx, *d, &mut model.vrrp),
        Section::VrrpGroup(g) => model.vrrp.groups.push(*g),
        Section::VrrpScript(s) => vrrp::tracked::finish_script(cx, *s, &mut model.vrrp),
        Section::VrrpFile(f) => vrrp::tracked::finish_file(cx, *f, &mut model.vrrp),
        Section::VrrpProcess(p) => vrrp::tracked::finish_process(cx, *p, &mut model.vrrp),
        Section::VrrpBfd(b) => vrrp::tracked::finish_bfd(cx, *b, &mut model.vrrp),
        Section::Other(s) => sections::finish(cx, &s),
        Section::Resolvers(r, s) => {
            sections::finish(cx, &s);
            if r.servers.is_empty() {
                cx.report.warning(
                    Code::Missing,
                    &s.place,
                    format!("section 'resolvers {}' has no 'nameserver': nobody is asked", r.name),
                );
            }
            model.resolvers.push(*r);
        }
        Section::Mailers(m, s) => {
            sections::finish(cx, &s);
            model.mailers.push(std::sync::Arc::new(*m));
        }
        Section::HealthCheck(d) => healthcheck::finish(cx, *d, model),
        Section::Ring(r, s) => {
            sections::finish(cx, &s);
            ring::finish(cx, *r);
        }
        Section::LogProfile(p, s) => {
            sections::finish(cx, &s);
            model.log_profiles.push(std::sync::Arc::new(*p));
        }
        Section::LogForward(p, s) => {
            sections::finish(cx, &s);
            model.proxies.push(p);
        }
        Section::Cache(mut c, s) => {
            sections::finish(cx, &s);
            cache::finish(cx, &mut c, &s.place);
            model.caches.push(*c);
        }
        Section::Errors(_) => {}
        Section::None | Section::Global | Section::Skipped => {}
    }
}
