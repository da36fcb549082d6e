//! Diagnostics: every problem of a load is collected, placed and then printed once.
use super::code::Code;
use std::fmt::{self, Write as _};
use std::sync::Arc;

/// Where in a configuration a thing was said.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Place {
    pub file: Arc<str>,
    /// 1-based; 0 when the whole file is meant.
    pub line: u32,
}

impl Place {
    pub fn new(file: &Arc<str>, line: u32) -> Self {
        Self { file: file.clone(), line }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// How much a finding matters. `NotYet` is fatal like `Error`, but counted apart: the word is right, the program is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Notice,
    Warning,
    NotYet,
    Error,
}

#[derive(Clone, Debug)]
pub struct Diag {
    pub code: Code,
    pub severity: Severity,
    pub place: Option<Place>,
    pub message: String,
    /// The line that it is about, once the sources are known.
    pub line: Option<String>,
}

impl Diag {
    /// Where the word that the message is about stands in the line: first column and length, in characters. It is the last one that the message quotes.
    pub fn span(&self) -> Option<(usize, usize)> {
        let line = self.line.as_deref()?;
        let said = self.message.split("; did you mean").next().unwrap_or_default();
        let quoted = said.split('\'').skip(1).step_by(2).filter(|q| !q.is_empty());
        let word = quoted.filter(|q| line.contains(q)).last()?;
        let at = line.rfind(word)?;
        Some((line[..at].chars().count(), word.chars().count()))
    }

    /// What the message suggests in its place.
    pub fn suggestion(&self) -> Option<&str> {
        self.message.split_once("did you mean '")?.1.split_once('\'').map(|s| s.0)
    }
}

/// All findings of one load, in the order they were met.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub diags: Vec<Diag>,
    /// How many there were of each severity.
    counts: [usize; 4],
}

/// Findings of one severity that are kept; more would be read by nobody.
const KEPT: usize = 500;

impl Report {
    pub fn push(&mut self, code: Code, severity: Severity, place: Option<Place>, message: impl Into<String>) {
        let n = &mut self.counts[severity as usize];
        *n += 1;
        if *n <= KEPT {
            self.diags.push(Diag { code, severity, place, message: message.into(), line: None });
        }
    }
    pub fn error(&mut self, code: Code, place: &Place, message: impl Into<String>) {
        self.push(code, Severity::Error, Some(place.clone()), message);
    }
    pub fn not_yet(&mut self, place: &Place, message: impl Into<String>) {
        self.push(Code::NotYet, Severity::NotYet, Some(place.clone()), message);
    }
    pub fn warning(&mut self, code: Code, place: &Place, message: impl Into<String>) {
        self.push(code, Severity::Warning, Some(place.clone()), message);
    }
    pub fn notice(&mut self, code: Code, place: &Place, message: impl Into<String>) {
        self.push(code, Severity::Notice, Some(place.clone()), message);
    }
    /// Makes the errors of a code warnings.
    pub fn demote(&mut self, code: Code) {
        for d in self.diags.iter_mut().filter(|d| d.code == code && d.severity == Severity::Error) {
            d.severity = Severity::Warning;
            self.counts[Severity::Error as usize] -= 1;
            self.counts[Severity::Warning as usize] += 1;
        }
    }
    pub fn has_fatal(&self) -> bool {
        self.count(Severity::NotYet) + self.count(Severity::Error) > 0
    }
    /// How many there were, those that were not kept included.
    pub fn count(&self, severity: Severity) -> usize {
        self.counts[severity as usize]
    }
    /// Whether one more of this severity would be kept.
    pub fn keeps(&self, severity: Severity) -> bool {
        self.count(severity) < KEPT
    }
    /// There are so many errors that more would say nothing.
    pub fn is_full(&self) -> bool {
        self.count(Severity::Error) >= KEPT
    }

    /// What is to be said of those that were not kept.
    fn rest(&self, least: Severity) -> String {
        let all = [Severity::Notice, Severity::Warning, Severity::NotYet, Severity::Error];
        let more: usize = all.into_iter().filter(|s| *s >= least).map(|s| self.count(s).saturating_sub(KEPT)).sum();
        if more > 0 { format!("[NOTICE]   config : {more} more are not shown.\n") } else { String::new() }
    }

    /// Finds the lines that the findings are about.
    pub fn attach(&mut self, mut source: impl FnMut(&str, u32) -> Option<String>) {
        for d in &mut self.diags {
            d.line = d.place.as_ref().filter(|p| p.line > 0).and_then(|p| source(&p.file, p.line));
        }
    }

    /// As [`Report::render`], with the line behind each finding, its word underlined and its code: for people.
    pub fn render_for_people(&self, pid: u32, least: Severity) -> String {
        let mut out = String::new();
        for d in self.diags.iter().filter(|d| d.severity >= least) {
            out.push_str(&one(d, pid));
            if let Some(line) = d.line.as_deref().filter(|l| l.chars().count() <= LONGEST) {
                // A tab is as wide as it is: one blank each, above and below.
                let shown: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
                let _ = writeln!(out, "      | {}", shown.trim_end());
                match d.span() {
                    Some((at, len)) => {
                        let _ = writeln!(out, "      | {}{} {}", " ".repeat(at), "^".repeat(len), d.code.id());
                    }
                    None => {
                        let _ = writeln!(out, "      = {}", d.code.id());
                    }
                }
            } else {
                let _ = writeln!(out, "      = {}", d.code.id());
            }
        }
        out + &self.rest(least)
    }

    /// The lines in HAProxy's own form, which tools grep: `[ALERT]    (pid) : config : parsing [file:line] : message`.
    pub fn render(&self, pid: u32, least: Severity) -> String {
        let mut out = String::new();
        for d in self.diags.iter().filter(|d| d.severity >= least) {
            out.push_str(&one(d, pid));
        }
        out + &self.rest(least)
    }
}

/// Longer lines are not shown: they would hide what is said of them.
const LONGEST: usize = 200;

fn one(d: &Diag, pid: u32) -> String {
    let tag = match d.severity {
        Severity::Error | Severity::NotYet => "[ALERT]   ",
        Severity::Warning => "[WARNING] ",
        Severity::Notice => "[NOTICE]  ",
    };
    match &d.place {
        Some(p) => format!("{tag} ({pid}) : config : parsing [{p}] : {}\n", d.message),
        None => format!("{tag} ({pid}) : config : {}\n", d.message),
    }
}

/// So many names are looked at: a suggestion must not cost more than the load.
const MOST_NAMES: usize = 4096;

/// The known word nearest to `word`, when it is near enough to be what was meant.
pub fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .take(MOST_NAMES)
        .filter(|k| k.len().abs_diff(word.len()) <= limit)
        .map(|k| (distance(word, k), k))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

/// `; did you mean 'x' maybe ?`, or nothing.
pub fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    closest(word, known).map_or_else(String::new, |k| format!("; did you mean '{k}' maybe ?"))
}

/// Levenshtein distance in characters, with transposed neighbours counted once.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut before: Vec<usize> = Vec::new();
    let mut prev: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut cur = vec![i + 1];
        for j in 0..b.len() {
            let mut d = (prev[j] + usize::from(a[i] != b[j])).min(prev[j + 1] + 1).min(cur[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                d = d.min(before[j - 1] + 1);
            }
            cur.push(d);
        }
        before = std::mem::replace(&mut prev, cur);
    }
    prev[b.len()]
}

/// An I/O error in an operator's words, without the number.
pub fn io_words(e: &std::io::Error) -> String {
    match e.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => {
            let text = e.to_string();
            text.split(" (os error").next().unwrap_or_default().to_ascii_lowercase()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_is_underlined() {
        let mut r = Report::default();
        let file: Arc<str> = Arc::from("/h.cfg");
        r.error(
            Code::UnknownWord,
            &Place::new(&file, 3),
            "unknown keyword 'tmeout' in 'frontend' section; did you mean 'timeout' maybe ?",
        );
        r.attach(|f, n| (f == "/h.cfg" && n == 3).then(|| "\ttmeout client 5s".to_owned()));
        assert_eq!((r.diags[0].span(), r.diags[0].suggestion()), (Some((1, 6)), Some("timeout")));
        let text = r.render_for_people(7, Severity::Error);
        assert!(text.starts_with("[ALERT]    (7) : config : parsing [/h.cfg:3] : unknown"), "{text}");
        assert!(text.ends_with("      |  tmeout client 5s\n      |  ^^^^^^ T201\n"), "{text}");
    }

    #[test]
    fn suggests_the_near_word_and_not_a_far_one() {
        assert_eq!(closest("tmeout", ["timeout", "retries"]), Some("timeout"));
        assert_eq!(closest("blaance", ["balance"]), Some("balance"));
        assert_eq!(closest("foo", ["timeout", "retries"]), None);
    }
}
