//! State files: what an earlier process knew of servers (`server-state-file`, `load-server-state-from-file`; management manual 9.3,
//! `show servers state`).
use super::Cx;
use crate::base::addr::Host;
use crate::base::code::Code;
use crate::config::model::{
    ANY_MAINT, CONFIG_MAINT, FORCED_DRAIN, FORCED_MAINT, Forced, Global, INHERITED_DRAIN, Kind, LoadState, Model,
    NAME_SET, PortRule, Proxy, Remembered, Saved, SavedState, Server,
};
use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// The version of the format that there is.
const VERSION: &str = "1";
/// A line has at least so many fields; those behind came with later versions.
const FIELDS: usize = 21;
const MAX_WEIGHT: u32 = 256;
/// All bits of an administrative state.
const ALL: u32 = ANY_MAINT | CONFIG_MAINT | FORCED_DRAIN | INHERITED_DRAIN | NAME_SET;
/// There is a check, and it is wanted.
const CONFIGURED: u32 = 0x02;
const ENABLED: u32 = 0x04;

/// `server-state-base <directory>`, `server-state-file <file>`
pub fn path(cx: &mut Cx<'_>, slot: fn(&mut Global) -> &mut Option<String>, g: &mut Global, w: &[String]) {
    let Some(path) = cx.arg(w, 1, "a path").map(str::to_owned) else { return };
    // HAProxy goes on with the first as well.
    match slot(g) {
        Some(_) => cx.warn_of(Code::Duplicate, format!("'{}' is already given, and that counts", w[0])),
        free => *free = Some(path),
    }
}

/// `load-server-state-from-file global|local|none`
pub fn from(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let what = "'global', 'local' or 'none'";
    p.load_state = match w.get(1).map_or("", String::as_str) {
        "global" => LoadState::Global,
        "local" => LoadState::Local,
        "none" => LoadState::None,
        o => return cx.error(format!("'load-server-state-from-file' expects {what}, but got '{o}'")),
    };
}

/// `server-state-file-name [use-backend-name|<file>]`
pub fn name(p: &mut Proxy, w: &[String]) {
    // HAProxy takes it in `defaults`, where nobody inherits it.
    if p.kind == Kind::Defaults {
        return;
    }
    p.state_file = w.get(1).filter(|n| *n != "use-backend-name").cloned();
}

/// A server's address is not known: that is an error unless a state file knows it.
pub fn unresolved(cx: &mut Cx<'_>, s: &Server, text: String) {
    if s.remembered == Remembered::No {
        cx.error_of(Code::Unresolved, text);
    } else {
        cx.unresolved.push((s.place.clone(), s.name.clone(), text));
    }
}

/// The fields of one line, and what was wrong with them.
struct Fields<'l> {
    words: Vec<&'l str>,
    wrong: Vec<String>,
}

impl<'l> Fields<'l> {
    fn word(&self, at: usize) -> &'l str {
        self.words.get(at).copied().unwrap_or("-")
    }

    fn number<T: FromStr + Default>(&mut self, at: usize, name: &str, fits: impl Fn(&T) -> bool) -> T {
        let found = self.word(at).parse().ok().filter(|n| fits(n));
        found.unwrap_or_else(|| {
            self.wrong.push(format!("{name} '{}'", self.word(at)));
            T::default()
        })
    }

    /// A field that later versions added: none where it is not, and where it says nothing.
    fn later<T: FromStr>(&mut self, at: usize, name: &str) -> Option<T> {
        let word = self.words.get(at).copied().filter(|w| !matches!(*w, "-" | "0"))?;
        let found = word.parse().ok();
        if found.is_none() {
            self.wrong.push(format!("{name} '{word}'"));
        }
        found
    }
}

/// What a line says of a server; the error names the fields that cannot be.
fn saved(f: &mut Fields<'_>, s: &Server) -> Result<(Saved, Option<IpAddr>), String> {
    let state = match f.number(5, "srv_op_state", |n: &u8| *n <= 3) {
        0 => SavedState::Stopped,
        1 => SavedState::Starting,
        3 => SavedState::Stopping,
        _ => SavedState::Running,
    };
    let both = FORCED_MAINT | FORCED_DRAIN;
    let admin = f.number(6, "srv_admin_state", |n: &u32| n & !ALL == 0 && n & both != both);
    let weight = f.number(7, "srv_uweight", |n: &u32| *n <= MAX_WEIGHT);
    let configured = f.number(8, "srv_iweight", |n: &u32| *n <= MAX_WEIGHT);
    let since = f.number(9, "srv_time_since_last_change", |_: &i64| true);
    let status = f.number(10, "srv_check_status", |n: &u8| *n <= 20);
    f.number(11, "srv_check_result", |n: &u8| *n <= 4);
    f.number(12, "srv_check_health", |_: &u32| true);
    let check = f.number(13, "srv_check_state", |n: &u32| *n < 0x10);
    let agent = f.number(14, "srv_agent_state", |n: &u32| *n < 0x20);
    let port = f.number(18, "srv_port", |_: &u16| true);
    let (check_port, check_addr) = (f.later(21, "srv_check_port"), f.later(22, "srv_check_addr"));
    let (agent_addr, agent_port) = (f.later(23, "srv_agent_addr"), f.later(24, "srv_agent_port"));
    if !f.wrong.is_empty() {
        return Err(f.wrong.join(", "));
    }
    // Who changed the file between `disabled` and not meant that.
    let same = (admin & CONFIG_MAINT != 0) == s.disabled;
    // What the configuration says is no override: it would outlive a change of that.
    let wanted = |state: u32| (state & CONFIGURED != 0).then_some(state & ENABLED != 0);
    Ok((
        Saved {
            state: Some(state).filter(|s| *s != SavedState::Stopped || admin & ANY_MAINT == 0),
            forced: same.then_some(Forced { maintenance: admin & FORCED_MAINT != 0, drain: admin & FORCED_DRAIN != 0 }),
            weight: (configured == s.weight).then_some(weight),
            since: Duration::from_secs(u64::try_from(since).unwrap_or(0)),
            status,
            check_enabled: wanted(check),
            agent_enabled: wanted(agent),
            port: Some(port).filter(|n| *n > 0 && matches!(s.port, PortRule::Fixed(own) if own != *n)),
            check_addr: check_addr.filter(|a| s.check_addr != Some(*a)),
            check_port: check_port.filter(|n| s.check_port != Some(*n)),
            agent_addr: agent_addr.filter(|a| s.agent.addr.or(s.check_addr) != Some(*a)),
            agent_port: agent_port.filter(|n| s.agent.port.or(s.check_port) != Some(*n)),
        },
        f.word(4).parse().ok(),
    ))
}

/// The lines of a file: those of each backend by server, each with all its fields.
type Lines<'t> = HashMap<&'t str, HashMap<&'t str, Vec<&'t str>>>;

/// The lines of a file; the error says why nothing of it counts.
fn lines(text: &str) -> Result<Lines<'_>, String> {
    let mut all = text.lines().enumerate();
    if all.next().is_none_or(|(_, first)| first.trim() != VERSION) {
        return Err(format!("its first line is not '{VERSION}', the version of the format"));
    }
    let mut out = Lines::new();
    for (n, line) in all.filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#')) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if words.len() < FIELDS {
            return Err(format!("line {} has {} fields instead of {FIELDS} or more", n + 1, words.len()));
        }
        out.entry(words[1]).or_default().entry(words[3]).or_insert(words);
    }
    Ok(out)
}

/// One file, read; nothing of it where it cannot be used.
fn file(cx: &mut Cx<'_>, path: &str, p: &Proxy) -> String {
    let text = match cx.src.read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        // The first start has none.
        Err(e) => {
            cx.report.notice(Code::Advice, &p.place, format!("cannot read state file '{path}': {e}"));
            return String::new();
        }
    };
    if text.is_empty() {
        cx.report.notice(Code::Advice, &p.place, format!("state file '{path}' is empty"));
    } else if let Err(e) = lines(&text) {
        cx.report.warning(Code::Advice, &p.place, format!("state file '{path}' is not used: {e}"));
        return String::new();
    }
    text
}

/// The file that a backend's servers are looked for in.
fn path_of(cx: &mut Cx<'_>, g: &Global, p: &Proxy) -> Option<String> {
    let name = match (p.load_state, &g.state_file) {
        (LoadState::Local, _) => p.state_file.as_ref().unwrap_or(&p.name),
        (LoadState::Global, Some(name)) => name,
        (LoadState::Global, None) => {
            let text = format!(
                "'load-server-state-from-file global' of '{}' finds nothing: 'server-state-file' is not set in 'global'",
                p.name
            );
            cx.report.warning(Code::Useless, &p.place, text);
            return None;
        }
        (LoadState::None, _) => return None,
    };
    // An absolute name replaces what stands in front.
    let whole = g.state_base.as_ref().map(|b| Path::new(b).join(name).to_string_lossy().into_owned());
    Some(whole.unwrap_or_else(|| name.clone()))
}

/// The end of all files: what state files say goes to the servers in them, and those that have no address even so are errors.
pub fn finish(cx: &mut Cx<'_>, model: &mut Model) {
    let mut texts = HashMap::new();
    let mut paths = Vec::new();
    for p in &model.proxies {
        let path = if p.is_backend() { path_of(cx, &model.global, p) } else { None };
        if let Some(path) = path.clone().filter(|path| !texts.contains_key(path)) {
            let text = file(cx, &path, p);
            texts.insert(path, text);
        }
        paths.push(path);
    }
    let mut files: HashMap<&str, Lines<'_>> =
        texts.iter().map(|(path, text)| (path.as_str(), lines(text).unwrap_or_default())).collect();
    for (p, path) in model.proxies.iter_mut().zip(&paths) {
        let Some((path, all)) = path.as_ref().and_then(|path| Some((path, files.get_mut(path.as_str())?))) else {
            continue;
        };
        if let Some(other) = all.keys().find(|b| p.load_state == LoadState::Local && **b != p.name) {
            let text =
                format!("state file '{path}' of backend '{}' has servers of '{other}', which do not count", p.name);
            cx.report.warning(Code::Advice, &p.place, text);
        }
        let Some(mut its) = all.remove(p.name.as_str()) else { continue };
        for s in &mut p.servers {
            if let Some(words) = its.remove(s.name.as_str()) {
                adopt(cx, &p.name, s, words);
            }
        }
    }
    let unresolved = std::mem::take(&mut cx.unresolved);
    if unresolved.is_empty() {
        return;
    }
    let servers = model.proxies.iter().flat_map(|p| &p.servers).filter(|s| s.ip.is_some());
    let known: HashSet<(&str, u32, &str)> = servers.map(|s| (&*s.place.file, s.place.line, s.name.as_str())).collect();
    let mut last = None;
    for (place, name, text) in unresolved {
        // Those of one `server-template` have one name to ask for.
        if !known.contains(&(&*place.file, place.line, name.as_str())) && last.as_ref() != Some(&place) {
            cx.report.error(Code::Unresolved, &place, text);
            last = Some(place);
        }
    }
}

fn adopt(cx: &mut Cx<'_>, backend: &impl Display, s: &mut Server, words: Vec<&str>) {
    match saved(&mut Fields { words, wrong: Vec::new() }, s) {
        Err(wrong) => {
            let text = format!("state of server '{backend}/{}' is not used: invalid {wrong}", s.name);
            cx.report.warning(Code::Advice, &s.place, text);
        }
        Ok((state, ip)) => {
            // An address that is written down is not looked up.
            match (&s.host, s.remembered) {
                (Host::Name(_), Remembered::First) => s.ip = ip.or(s.ip),
                (Host::Name(_), Remembered::Behind) => s.ip = s.ip.or(ip),
                _ => {}
            }
            s.saved = Some(Arc::new(state));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "2 b 1 s 127.0.0.7 2 8 3 10 77 6 3 4 6 0 0 0 - 81 - 0 8080 127.0.0.5 - 0";

    fn read(line: &str, s: &Server) -> Result<(Saved, Option<IpAddr>), String> {
        saved(&mut Fields { words: line.split(' ').collect(), wrong: Vec::new() }, s)
    }

    #[test]
    fn a_line_is_read_by_its_fields() {
        let s = Server { weight: 10, ..Server::default() };
        let (got, ip) = read(LINE, &s).unwrap();
        assert_eq!((got.weight, got.since.as_secs(), got.check_port), (Some(3), 77, Some(8080)));
        assert_eq!((got.state, got.check_enabled, got.agent_enabled), (Some(SavedState::Running), Some(true), None));
        assert_eq!(got.forced, Some(Forced { maintenance: false, drain: true }));
        assert_eq!((ip, got.port, got.agent_port), ("127.0.0.7".parse().ok(), None, None));
        // The file was changed since.
        let port = PortRule::Fixed(82);
        let other = Server { weight: 11, disabled: true, check_port: Some(8080), port, ..Server::default() };
        let (got, ..) = read(LINE, &other).unwrap();
        assert_eq!((got.weight, got.forced, got.check_port, got.port), (None, None, None, Some(81)));
        // In maintenance nobody knew whether it was up; a name that was set is none.
        assert_eq!(read(&LINE.replace(" 2 8 3 ", " 0 1 3 "), &s).unwrap().0.state, None);
        assert_eq!(read(&LINE.replace(" 2 8 3 ", " 0 64 3 "), &s).unwrap().0.state, Some(SavedState::Stopped));
    }

    #[test]
    fn fields_that_cannot_be_are_named() {
        let bad = LINE.replace(" 2 8 3 10 ", " 7 9 x 257 ").replace(" 81 ", " 99999 ");
        let wrong = read(&bad, &Server::default()).unwrap_err();
        for name in
            ["srv_op_state '7'", "srv_admin_state '9'", "srv_uweight 'x'", "srv_iweight '257'", "srv_port '99999'"]
        {
            assert!(wrong.contains(name), "{wrong}");
        }
    }

    #[test]
    fn a_file_counts_whole_or_not_at_all() {
        assert_eq!(lines(&format!("1\n# head\n\n{LINE}\n")).unwrap()["b"].len(), 1);
        assert!(lines(LINE).unwrap_err().contains("version"));
        assert!(lines("").is_err());
        let short: Vec<&str> = LINE.split(' ').take(FIELDS - 1).collect();
        assert!(lines(&format!("1\n{LINE}\n{}\n", short.join(" "))).unwrap_err().contains("line 3"));
    }
}
