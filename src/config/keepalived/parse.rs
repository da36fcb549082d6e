//! From bytes to a tree of directives. Lenient where keepalived is: what it would only log is a warning here.
use crate::base::diag::{Place, Report};
use crate::config::source::Source;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One directive: its words and, when braces follow, what stands in them.
#[derive(Clone, Debug)]
pub struct Node {
    pub words: Vec<String>,
    /// The text behind the first word, as written: scripts are split by their own rules.
    pub raw: String,
    pub place: Place,
    pub block: Option<Vec<Node>>,
}

/// Includes nest no deeper, and no more lines than this are read in all.
const MAX_DEPTH: usize = 16;
const MAX_LINES: usize = 1_000_000;

struct Line {
    text: String,
    place: Place,
}

struct Reader<'a> {
    src: &'a mut dyn Source,
    report: &'a mut Report,
    vars: BTreeMap<String, String>,
    lines: Vec<Line>,
}

pub fn tree(path: &str, src: &mut dyn Source, report: &mut Report) -> Vec<Node> {
    let mut r = Reader {
        src,
        report,
        vars: BTreeMap::from([("_HASH".into(), "#".into()), ("_BANG".into(), "!".into())]),
        lines: Vec::new(),
    };
    r.file(path, 0, None);
    let Reader { lines, report, .. } = r;
    // The stack holds the open blocks; the bottom is the file itself.
    let mut stack: Vec<Vec<Node>> = vec![Vec::new()];
    for line in lines {
        for piece in pieces(&line.text) {
            match piece {
                "{" => {
                    let opened = stack.last().and_then(|l| l.last()).is_some_and(|n| n.block.is_none());
                    if !opened {
                        report.error(&line.place, "'{' without a directive before it");
                        let node =
                            Node { words: Vec::new(), raw: String::new(), place: line.place.clone(), block: None };
                        if let Some(top) = stack.last_mut() {
                            top.push(node);
                        }
                    }
                    stack.push(Vec::new());
                }
                "}" => match stack.len() {
                    1 => report.error(&line.place, "extra '}' found: no block is open here"),
                    _ => close(&mut stack),
                },
                text => match words(text) {
                    Ok(w) if w.is_empty() => {}
                    Ok(w) => {
                        let raw = text.trim().strip_prefix(w[0].as_str()).unwrap_or_default().trim().to_owned();
                        if let Some(top) = stack.last_mut() {
                            top.push(Node { words: w, raw, place: line.place.clone(), block: None });
                        }
                    }
                    Err(m) => report.error(&line.place, m),
                },
            }
        }
    }
    if stack.len() > 1 {
        let place = stack[stack.len() - 2].last().map(|n| n.place.clone()).unwrap_or_default();
        report.error(
            &place,
            format!("{} missing '}}' at the end of the file: the block opened here is not closed", stack.len() - 1),
        );
        while stack.len() > 1 {
            close(&mut stack);
        }
    }
    stack.pop().unwrap_or_default()
}

fn close(stack: &mut Vec<Vec<Node>>) {
    let inner = stack.pop().unwrap_or_default();
    if let Some(n) = stack.last_mut().and_then(|l| l.last_mut()) {
        n.block = Some(inner);
    }
}

impl Reader<'_> {
    fn file(&mut self, path: &str, depth: usize, from: Option<&Place>) {
        let bytes = match self.src.read(path) {
            Ok(b) => b,
            Err(e) => {
                self.report.push(
                    crate::base::diag::Severity::Error,
                    from.cloned(),
                    format!("cannot read '{path}' : {e}"),
                );
                return;
            }
        };
        let file: Arc<str> = Arc::from(path);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut lines = text.lines().enumerate();
        while let Some((n, line)) = lines.next() {
            let place = Place::new(&file, u32::try_from(n + 1).unwrap_or(0));
            if self.lines.len() > MAX_LINES {
                self.report.error(&place, "too many lines");
                return;
            }
            let line = without_comment(line);
            let trimmed = line.trim();
            if let Some(def) = definition(trimmed) {
                let (name, mut value) = (def.0.to_owned(), def.1.to_owned());
                while let Some(head) = value.strip_suffix('\\') {
                    let Some((_, next)) = lines.next() else { break };
                    value = format!("{head}\n{}", without_comment(next).trim());
                }
                let value = self.expand(&value);
                self.vars.insert(name, value);
                continue;
            }
            let mut expanded = self.expand(trimmed);
            if let Some(rest) = expanded.strip_prefix('@') {
                let (id, tail) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                let host = self.src.env("HOSTNAME").unwrap_or_default();
                let (want, id) = id.strip_prefix('^').map_or((true, id), |i| (false, i));
                if (id == host) != want {
                    continue;
                }
                expanded = tail.trim().to_owned();
            }
            let word = expanded.split_whitespace().next().unwrap_or_default();
            if matches!(word, "include" | "includer" | "includem" | "includew" | "includeb" | "includea") {
                let pattern = expanded[word.len()..].trim().trim_matches('"').to_owned();
                if depth >= MAX_DEPTH {
                    self.report.error(
                        &place,
                        format!(
                            "'include {pattern}' : includes nest deeper than {MAX_DEPTH}; does a file include itself?"
                        ),
                    );
                    continue;
                }
                self.include(&pattern, path, word != "include", depth, &place);
                continue;
            }
            for part in expanded.split('\n') {
                self.lines.push(Line { text: part.to_owned(), place: place.clone() });
            }
        }
    }

    /// Includes every file that matches, relative to the including file's directory. No match is silent for plain `include`.
    fn include(&mut self, pattern: &str, from: &str, strict: bool, depth: usize, place: &Place) {
        let full = if pattern.starts_with('/') {
            pattern.to_owned()
        } else {
            format!("{}/{pattern}", from.rsplit_once('/').map_or(".", |x| x.0))
        };
        let (dir, name) = full.rsplit_once('/').unwrap_or((".", &full));
        let found: Vec<String> = if name.contains(['*', '?', '[', '{']) {
            let names = self.src.list(dir).unwrap_or_default();
            braces(name)
                .iter()
                .flat_map(|g| {
                    names
                        .iter()
                        .filter(|n| !n.starts_with('.') && glob(g.as_bytes(), n.as_bytes()))
                        .map(|n| format!("{dir}/{n}"))
                        .collect::<Vec<_>>()
                })
                .collect()
        } else {
            vec![full.clone()]
        };
        if found.is_empty() {
            if strict {
                self.report.error(place, format!("'include {pattern}' : no file matches"));
            } else {
                self.report.warning(place, format!("'include {pattern}' : no file matches"));
            }
        }
        for f in found {
            if !strict && self.src.read(&f).is_err() {
                self.report.warning(place, format!("'include {pattern}' : cannot read '{f}'"));
                continue;
            }
            self.file(&f, depth + 1, Some(place));
        }
    }

    fn expand(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            let tail = &rest[at + 1..];
            let (name, used) = match tail.strip_prefix('{').and_then(|t| t.split_once('}')) {
                Some((n, _)) => (n, n.len() + 2),
                None => {
                    let n = tail.bytes().take_while(|c| c.is_ascii_alphanumeric() || *c == b'_').count();
                    (&tail[..n], n)
                }
            };
            let value =
                name.strip_prefix("_ENV ").map_or_else(|| self.vars.get(name).cloned(), |n| self.src.env(n.trim()));
            match value {
                Some(v) => out.push_str(&v),
                None => out.push_str(&rest[at..at + 1 + used]),
            }
            rest = &tail[used..];
        }
        out.push_str(rest);
        out
    }
}

/// `$NAME=value` at the start of a line.
fn definition(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix('$')?.split_once('=')?;
    let valid = !name.is_empty()
        && !name.as_bytes()[0].is_ascii_digit()
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
    valid.then_some((name, value))
}

/// `!` and `#` begin a comment anywhere outside quotes, unless a backslash stands before them.
fn without_comment(line: &str) -> String {
    let (mut out, mut quoted) = (String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' if !quoted && matches!(chars.peek(), Some('#' | '!')) => {
                out.extend(chars.next());
                continue;
            }
            '#' | '!' if !quoted => break,
            _ => {}
        }
        out.push(c);
    }
    out
}

/// A line cut at its braces: `a { b }` is `a`, `{`, `b`, `}`.
fn pieces(line: &str) -> Vec<&str> {
    let (mut out, mut start, mut quoted) = (Vec::new(), 0, false);
    for (i, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '{' | '}' if !quoted => {
                if !line[start..i].trim().is_empty() {
                    out.push(line[start..i].trim());
                }
                out.push(&line[i..=i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    if !line[start..].trim().is_empty() {
        out.push(line[start..].trim());
    }
    out
}

fn words(text: &str) -> Result<Vec<String>, String> {
    let (mut out, mut cur, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    for c in text.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                any = true;
            }
            c if c.is_whitespace() && !quoted => {
                if any {
                    out.push(std::mem::take(&mut cur));
                    any = false;
                }
            }
            c => {
                cur.push(c);
                any = true;
            }
        }
    }
    if quoted {
        return Err(format!("unterminated quote in '{text}'"));
    }
    if any {
        out.push(cur);
    }
    Ok(out)
}

/// `{a,b}` alternatives of a glob, one level.
fn braces(pattern: &str) -> Vec<String> {
    match (pattern.find('{'), pattern.find('}')) {
        (Some(a), Some(b)) if a < b => {
            pattern[a + 1..b].split(',').map(|m| format!("{}{m}{}", &pattern[..a], &pattern[b + 1..])).collect()
        }
        _ => vec![pattern.to_owned()],
    }
}

fn glob(p: &[u8], s: &[u8]) -> bool {
    // Iterative, so that a pattern of many stars costs no more than the product of the lengths.
    let (mut i, mut j, mut star, mut mark) = (0, 0, None, 0);
    while j < s.len() {
        if i < p.len() && (p[i] == b'?' || p[i] == s[j]) && p[i] != b'*' {
            (i, j) = (i + 1, j + 1);
        } else if i < p.len() && p[i] == b'*' {
            star = Some(i);
            mark = j;
            i += 1;
        } else if let Some(at) = star {
            i = at + 1;
            mark += 1;
            j = mark;
        } else {
            return false;
        }
    }
    p[i..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::Recorded;

    fn parse(files: &[(&str, &str)]) -> (Vec<Node>, Report) {
        let mut src = Recorded::default();
        for (n, t) in files {
            src.files.insert((*n).to_owned(), Ok(t.as_bytes().to_vec()));
        }
        src.dirs
            .insert("/d".to_owned(), Some(files.iter().map(|f| f.0.trim_start_matches("/d/").to_owned()).collect()));
        let mut report = Report::default();
        (tree(files[0].0, &mut src, &mut report), report)
    }

    #[test]
    fn braces_quotes_comments_and_definitions() {
        let (t, r) = parse(&[(
            "/d/k.conf",
            "$IF=eth0 ! c\nvrrp_instance VI_1 {\n state BACKUP # x\n interface ${IF}\n script \"a # b\" }\nx\n{\n y { z } }\n",
        )]);
        assert!(r.diags.is_empty(), "{:?}", r.diags);
        let b = t[0].block.as_ref().unwrap();
        assert_eq!(b[1].words, ["interface", "eth0"]);
        assert_eq!(b[2].words, ["script", "a # b"]);
        assert_eq!(t[1].block.as_ref().unwrap()[0].block.as_ref().unwrap()[0].words, ["z"]);
    }

    #[test]
    fn includes_globs_and_loops() {
        let (t, _) = parse(&[("/d/k.conf", "include *.inc\n"), ("/d/a.inc", "one\n"), ("/d/b.inc", "two\n")]);
        assert_eq!(t.iter().map(|n| n.words[0].as_str()).collect::<Vec<_>>(), ["one", "two"]);
        let (_, r) = parse(&[("/d/k.conf", "include k.conf\n")]);
        assert!(r.has_fatal());
    }

    #[test]
    fn unbalanced_braces_are_errors_with_a_place() {
        let (_, r) = parse(&[("/d/k.conf", "a {\n b\n")]);
        assert_eq!(r.diags[0].place.as_ref().unwrap().line, 1);
        let (_, r) = parse(&[("/d/k.conf", "a\n}\n")]);
        assert_eq!(r.diags[0].place.as_ref().unwrap().line, 2);
    }
}
