//! From bytes to a tree of directives. Lenient where keepalived is: what it would only log is a warning here.
use super::glob;
use super::include::Checks;
use crate::base::code::Code;
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
const MAX_LINES: usize = 250_000;
const MAX_FILES: usize = 1_000;
/// Names that `include` looks for, after braces.
const MAX_PATTERNS: usize = 10_000;
/// Bytes of text that are read, substitutions and repetitions included: a few lines can stand for very many.
const MAX_TEXT: usize = 32 << 20;
/// No line is longer, whatever its definitions stand for.
const MAX_LINE: usize = 1 << 20;
/// Blocks nest no deeper.
const MAX_NESTED: usize = 16;

struct Line {
    text: String,
    place: Place,
}

/// Substitutions within one line: a definition that names itself would go on for ever.
const MAX_REPLACED: usize = 64;
/// In place of `${_HASH}` and `${_BANG}` until comments are cut off; private characters that no file has.
const HASH: char = '\u{e000}';
const BANG: char = '\u{e001}';

struct Reader<'a> {
    src: &'a mut dyn Source,
    report: &'a mut Report,
    /// `$NAME=`: values as they were written; they are looked into when they are used.
    defs: BTreeMap<String, String>,
    /// What `@id` is compared with.
    id: &'a str,
    lines: Vec<Line>,
    files: usize,
    patterns: usize,
    text: usize,
    full: bool,
    /// What includes may not miss.
    checks: Checks,
    /// Blocks that are open, by their first words.
    open: Vec<String>,
    /// What a `{` would open.
    head: String,
}

/// Reads a file and what it includes. `id`: what `@id` conditions are compared with.
pub fn tree(path: &str, src: &mut dyn Source, id: &str, report: &mut Report) -> Vec<Node> {
    let mut r = Reader {
        src,
        report,
        defs: BTreeMap::new(),
        id,
        lines: Vec::new(),
        files: 0,
        patterns: 0,
        text: 0,
        full: false,
        checks: Checks::default(),
        open: Vec::new(),
        head: String::new(),
    };
    r.file(path, 0, None);
    let Reader { lines, report, .. } = r;
    // The stack holds the open blocks; the bottom is the file itself.
    let mut stack: Vec<Vec<Node>> = vec![Vec::new()];
    for line in lines {
        if report.is_full() {
            break;
        }
        for piece in pieces(&line.text) {
            match piece {
                "{" => {
                    let opened = stack.last().and_then(|l| l.last()).is_some_and(|n| n.block.is_none());
                    if !opened {
                        report.error(Code::Braces, &line.place, "'{' without a directive before it");
                        let node =
                            Node { words: Vec::new(), raw: String::new(), place: line.place.clone(), block: None };
                        if let Some(top) = stack.last_mut() {
                            top.push(node);
                        }
                    }
                    if stack.len() > MAX_NESTED {
                        report.error(Code::TooMuch, &line.place, format!("blocks nest deeper than {MAX_NESTED}"));
                        return Vec::new();
                    }
                    stack.push(Vec::new());
                }
                "}" => match stack.len() {
                    1 => report.error(Code::Braces, &line.place, "extra '}' found: no block is open here"),
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
                    Err(m) => report.error(Code::Quoting, &line.place, m),
                },
            }
        }
    }
    if stack.len() > 1 {
        let place = stack[stack.len() - 2].last().map(|n| n.place.clone()).unwrap_or_default();
        report.error(
            Code::Braces,
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
        self.files += 1;
        if self.files > MAX_FILES {
            if let (Some(place), false) = (from, self.full) {
                self.full = true;
                self.report.error(Code::TooMuch, place, format!("more than {MAX_FILES} files are included"));
            }
            return;
        }
        let bytes = match self.src.read(path) {
            Ok(b) => b,
            Err(e) => {
                self.report.push(
                    Code::Unreadable,
                    crate::base::diag::Severity::Error,
                    from.cloned(),
                    format!("cannot read '{path}' : {e}"),
                );
                return;
            }
        };
        let file: Arc<str> = Arc::from(path);
        self.text += bytes.len();
        if self.text > MAX_TEXT {
            self.full = true;
            let place = from.cloned().unwrap_or_else(|| Place::new(&file, 1));
            return self.report.error(Code::TooMuch, &place, "there is too much text, counting what is included");
        }
        let at = At { path, depth };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        // A multi-line definition being read.
        let mut open: Option<(String, Vec<String>)> = None;
        for (n, line) in text.lines().enumerate() {
            let place = Place::new(&file, u32::try_from(n + 1).unwrap_or(0));
            let line = without_comment(line);
            let line = line.trim();
            if let Some((_, parts)) = open.as_mut() {
                let (part, more) = match line.strip_suffix('\\') {
                    Some(head) => (head.trim_end(), true),
                    None => (line, false),
                };
                parts.push(part.to_owned());
                if !more {
                    let (name, parts) = open.take().unwrap_or_default();
                    self.defs.insert(name, parts.join("\n"));
                }
                continue;
            }
            let Some(line) = self.conditional(line) else { continue };
            match definition(line) {
                Some((name, value)) => match value.trim_end().strip_suffix('\\') {
                    Some(head) => open = Some((name.to_owned(), vec![head.trim_end().to_owned()])),
                    None => drop(self.defs.insert(name.to_owned(), value.trim_end().to_owned())),
                },
                None => self.line(line, &place, at, 0),
            }
            if self.full || self.report.is_full() {
                return;
            }
        }
        if let Some((name, parts)) = open {
            self.defs.insert(name, parts.join("\n"));
        }
    }

    /// `@id rest` counts where the configuration's id is this one, `@^id rest` where it is not.
    fn conditional<'l>(&self, mut line: &'l str) -> Option<&'l str> {
        while let Some(rest) = line.strip_prefix('@') {
            let (id, tail) = rest.split_once(char::is_whitespace)?;
            let (want, id) = id.strip_prefix('^').map_or((true, id), |i| (false, i));
            if (id == self.id) != want {
                return None;
            }
            line = tail.trim_start();
        }
        Some(line)
    }

    /// One line, with what its definitions make of it. `replaced`: substitutions so far.
    fn line(&mut self, line: &str, place: &Place, at: At<'_>, replaced: usize) {
        let Some(line) = self.conditional(line) else { return };
        if self.full || line.is_empty() {
            return;
        }
        self.text += line.len() + 16;
        if self.text > MAX_TEXT || line.len() > MAX_LINE {
            self.full = true;
            let text = "there is too much text, counting what definitions and repetitions stand for";
            return self.report.error(Code::TooMuch, place, text);
        }
        if replaced > MAX_REPLACED {
            return self.report.error(
                Code::TooMuch,
                place,
                format!("more than {MAX_REPLACED} substitutions: does a definition name itself?"),
            );
        }
        if replaced > 0
            && let Some((name, value)) = definition(line)
        {
            self.defs.insert(name.to_owned(), value.to_owned());
            return;
        }
        if line.starts_with("~SEQ") || line.starts_with("~LST") {
            return self.repeat(line, place, at, replaced);
        }
        // A definition of several lines stands for them where it ends the line.
        if let Some((before, lines)) = self.multiline(line) {
            for (n, l) in lines.iter().enumerate() {
                let text = if n == 0 { format!("{before}{l}") } else { l.clone() };
                self.line(text.trim(), place, at, replaced + 1);
            }
            return;
        }
        if let Some(text) = self.expand(line, place) {
            return self.line(text.trim(), place, at, replaced + 1);
        }
        let line = without_comment(line);
        let line = line.trim();
        let word = line.split_whitespace().next().unwrap_or_default();
        if matches!(word, "include" | "includer" | "includem" | "includew" | "includeb" | "includea") {
            let pattern = line[word.len()..].trim().trim_matches('"').to_owned();
            if at.depth >= MAX_DEPTH {
                let text =
                    format!("'include {pattern}' : includes nest deeper than {MAX_DEPTH}; does a file include itself?");
                return self.report.error(Code::TooMuch, place, text);
            }
            return self.include(&pattern, at.path, word, at.depth, place);
        }
        if self.lines.len() >= MAX_LINES {
            self.full = true;
            return self.report.error(Code::TooMuch, place, format!("more than {MAX_LINES} lines"));
        }
        let text = line.chars().map(|c| match c {
            HASH => '#',
            BANG => '!',
            c => c,
        });
        let text: String = text.collect();
        self.follow(&text);
        self.lines.push(Line { text, place: place.clone() });
    }

    /// `include_check` counts from where it stands, in `global_defs`.
    fn follow(&mut self, line: &str) {
        for piece in pieces(line) {
            match piece {
                "{" => self.open.push(std::mem::take(&mut self.head)),
                "}" => drop(self.open.pop()),
                text => {
                    let Ok(mut w) = words(text) else { continue };
                    if w.is_empty() {
                        continue;
                    }
                    self.head = w.remove(0);
                    if self.head == "include_check" && self.open == ["global_defs"] {
                        // Words that are none are told of where the block is read.
                        self.checks.say(&w);
                    }
                }
            }
        }
    }

    /// `~SEQ(var, start, step, end) rest` and `~LST(var, values) rest`: the rest, once for each value.
    fn repeat(&mut self, line: &str, place: &Place, at: At<'_>, replaced: usize) {
        let kind = &line[..4];
        let hex = kind == "~SEQ" && line[4..].starts_with('x');
        let open = 4 + usize::from(hex);
        let bad = |r: &mut Self, why: &str| {
            r.report.error(
                Code::Value,
                place,
                format!("'{kind}' : {why}; such as '~SEQ(N, 1, 3) line $N' or '~LST(N, a, b) line $N'"),
            )
        };
        let Some(inner) = line[open..].strip_prefix('(') else { return bad(self, "'(' is missing") };
        let Some(end) = closing(inner) else { return bad(self, "')' is missing") };
        let (args, rest) = (&inner[..end], inner[end + 1..].trim());
        // The numbers may be parameters themselves.
        let args =
            (0..MAX_REPLACED).try_fold(args.to_owned(), |a, _| self.expand(&a, place).ok_or(a)).unwrap_or_else(|a| a);
        let parts = split_list(&args);
        let rounds: Vec<Vec<(String, String)>> = if kind == "~SEQ" {
            let Some((name, numbers)) = parts.split_first() else { return bad(self, "a name is missing") };
            let numbers: Option<Vec<i64>> = numbers.iter().map(|n| integer(n)).collect();
            let Some(numbers) = numbers else { return bad(self, "numbers are wanted behind the name") };
            let (start, step, last) = match numbers[..] {
                [end] => (end.signum(), end.signum(), end),
                [start, end] => (start, if end < start { -1 } else { 1 }, end),
                [start, step, end] => (start, step, end),
                _ => return bad(self, "one to three numbers are wanted behind the name"),
            };
            if step == 0 || last != start && (last > start) != (step > 0) {
                return bad(self, "the step never leads to the end");
            }
            let count = last.checked_sub(start).and_then(|n| n.checked_div(step));
            let Some(count) = count.filter(|c| usize::try_from(*c).is_ok_and(|c| c <= MAX_LINES)) else {
                return bad(self, "it makes too many lines");
            };
            let text = |n: i64| if hex { format!("{n:x}") } else { n.to_string() };
            (0..=count).map(|k| vec![(name.clone(), text(start + k * step))]).collect()
        } else {
            let Some((name, values)) = parts.split_first() else { return bad(self, "a name is missing") };
            match name.strip_prefix('{').and_then(|n| n.strip_suffix('}')) {
                None => values.iter().map(|v| vec![(name.clone(), v.clone())]).collect(),
                Some(names) => {
                    let names = split_list(names);
                    let mut rounds = Vec::new();
                    for v in values {
                        let Some(group) = v.strip_prefix('{').and_then(|v| v.strip_suffix('}')) else {
                            return bad(self, "as many values in braces are wanted as there are names");
                        };
                        let group = split_list(group);
                        if group.len() > names.len() {
                            return bad(self, "there are more values than names");
                        }
                        let value = |i: usize| group.get(i).cloned().unwrap_or_default();
                        rounds.push(names.iter().enumerate().map(|(i, n)| (n.clone(), value(i))).collect());
                    }
                    rounds
                }
            }
        };
        for round in rounds {
            self.defs.extend(round);
            self.line(rest, place, at, replaced + 1);
            if self.full {
                return;
            }
        }
    }

    /// What stands before a definition of several lines at the end of `line`, and its lines.
    fn multiline(&self, line: &str) -> Option<(String, Vec<String>)> {
        let at = line.rfind('$')?;
        let name = line[at + 1..].trim_end();
        let name = name.strip_prefix('{').and_then(|n| n.strip_suffix('}')).unwrap_or(name);
        let value = self.defs.get(name).filter(|v| v.contains('\n'))?;
        Some((line[..at].to_owned(), value.split('\n').map(str::to_owned).collect()))
    }

    /// Replaces what is defined; `None` if nothing is. Names that are not stay as they are: scripts have parameters of their own.
    fn expand(&self, text: &str, place: &Place) -> Option<String> {
        let (mut out, mut rest, mut any) = (String::new(), text, false);
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            // Too long already; it is said where the line is read.
            if out.len() > MAX_LINE {
                return Some(out);
            }
            let tail = &rest[at + 1..];
            let (name, used) = match tail.strip_prefix('{').and_then(|t| t.split_once('}')) {
                Some((n, _)) => (n, n.len() + 2),
                None => {
                    let n = tail.bytes().take_while(|c| c.is_ascii_alphanumeric() || *c == b'_').count();
                    let ends = tail[n..].chars().next().is_none_or(|c| c.is_whitespace() || matches!(c, ',' | ')'));
                    (if ends { &tail[..n] } else { "" }, n)
                }
            };
            match self.value(name, place) {
                Some(v) => {
                    any = true;
                    out.push_str(&v);
                }
                None => out.push_str(&rest[at..at + 1 + used]),
            }
            rest = &tail[used..];
        }
        out.push_str(rest);
        any.then_some(out)
    }

    fn value(&self, name: &str, place: &Place) -> Option<String> {
        if let Some(v) = self.defs.get(name) {
            return Some(v.replace('\n', " "));
        }
        let (word, args) = name.split_once(' ').map_or((name, ""), |(w, a)| (w, a.trim()));
        match word {
            "_HASH" => Some(HASH.to_string()),
            "_BANG" => Some(BANG.to_string()),
            "_PWD" => Some(place.file.rsplit_once('/').map_or(".", |p| p.0).to_owned()),
            "_INSTANCE" => Some(String::new()),
            "_ENV" => Some(self.src.env(args).unwrap_or_default()),
            "_RANDOM" => {
                // The same for every pass over the same files: a load is read more than once.
                let mut bounds = args.split_whitespace().filter_map(integer);
                let (low, high) = (bounds.next().unwrap_or(0), bounds.next().unwrap_or(32_767));
                let seed = place
                    .file
                    .bytes()
                    .fold(u64::from(place.line), |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
                let span = u64::try_from(high.saturating_sub(low).max(0)).unwrap_or(0) + 1;
                Some((low + i64::try_from(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) % span).unwrap_or(0)).to_string())
            }
            _ => None,
        }
    }

    /// Includes every file that matches, relative to the including file's directory.
    fn include(&mut self, pattern: &str, from: &str, word: &str, depth: usize, place: &Place) {
        let checks = self.checks.and(word.strip_prefix("include").unwrap_or_default());
        let full = if pattern.starts_with('/') {
            pattern.to_owned()
        } else {
            format!("{}/{pattern}", from.rsplit_once('/').map_or(".", |x| x.0))
        };
        let mut found: Vec<String> = Vec::new();
        let mut missed = false;
        for branch in glob::braces(&full) {
            self.patterns += 1;
            if self.patterns > MAX_PATTERNS {
                if !std::mem::replace(&mut self.full, true) {
                    self.report.error(Code::TooMuch, place, format!("more than {MAX_PATTERNS} names are included"));
                }
                return;
            }
            let hits = glob::files(self.src, &branch);
            missed |= hits.is_empty() && checks.want(&full, &branch);
            found.extend(hits);
        }
        if missed {
            self.report.error(Code::Include, place, format!("'{word} {pattern}' : no such file, or it cannot be read"));
        } else if found.is_empty() {
            // keepalived goes on as if the line were not there.
            self.report.notice(Code::Include, place, format!("'{word} {pattern}' : no file matches"));
        }
        for f in found {
            // What a file says of its includes ends with it.
            let checks = self.checks;
            self.file(&f, depth + 1, Some(place));
            self.checks = checks;
        }
    }
}

/// Where a line comes from: includes are looked for beside it.
#[derive(Clone, Copy)]
struct At<'p> {
    path: &'p str,
    depth: usize,
}

/// `$NAME=value` at the start of a line.
fn definition(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix('$')?.split_once('=')?;
    let valid = !name.is_empty()
        && !name.as_bytes()[0].is_ascii_digit()
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
    valid.then_some((name, value.trim_start()))
}

/// The parenthesis that closes what is open before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    text.char_indices().find_map(|(i, c)| {
        match c {
            '(' => depth += 1,
            ')' if depth == 0 => return Some(i),
            ')' => depth -= 1,
            _ => {}
        }
        None
    })
}

/// Parts at commas outside braces.
fn split_list(text: &str) -> Vec<String> {
    let (mut out, mut depth, mut start) = (Vec::new(), 0, 0);
    for (i, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                out.push(text[start..i].trim().to_owned());
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(text[start..].trim().to_owned());
    out
}

/// As C reads it: decimal, 0x hexadecimal, 0 octal.
fn integer(text: &str) -> Option<i64> {
    let (minus, digits) = text.strip_prefix('-').map_or((false, text), |d| (true, d));
    let n = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(h) => i64::from_str_radix(h, 16).ok()?,
        None if digits.len() > 1 && digits.starts_with('0') => i64::from_str_radix(digits, 8).ok()?,
        None => digits.parse().ok()?,
    };
    Some(if minus { -n } else { n })
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
    let (mut out, mut start, mut quoted, mut parameter) = (Vec::new(), 0, false, false);
    let mut before = ' ';
    for (i, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            // A parameter that nothing defines stays as it is.
            '{' if before == '$' => parameter = true,
            '}' if parameter => parameter = false,
            '{' | '}' if !quoted => {
                if !line[start..i].trim().is_empty() {
                    out.push(line[start..i].trim());
                }
                out.push(&line[i..=i]);
                start = i + 1;
            }
            _ => {}
        }
        before = c;
    }
    if !line[start..].trim().is_empty() {
        out.push(line[start..].trim());
    }
    out
}

/// Words are parted by blanks; quotes make one word of what they enclose, and begin it even within another one.
fn words(text: &str) -> Result<Vec<String>, String> {
    let (mut out, mut cur, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    for c in text.chars() {
        match c {
            '"' => {
                if any {
                    out.push(std::mem::take(&mut cur));
                }
                quoted = !quoted;
                any = quoted;
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
        (tree(files[0].0, &mut src, "lb1", &mut report), report)
    }

    /// The words of every line, blocks flattened.
    fn lines(text: &str) -> (Vec<String>, Report) {
        fn flat(nodes: &[Node], out: &mut Vec<String>) {
            for n in nodes {
                out.push(n.words.join(" "));
                flat(n.block.as_deref().unwrap_or_default(), out);
            }
        }
        let (t, r) = parse(&[("/d/k.conf", text)]);
        let mut out = Vec::new();
        flat(&t, &mut out);
        (out, r)
    }

    #[test]
    fn definitions_are_looked_into_when_they_are_used() {
        for (text, want) in [
            ("$A=10.2.${S}\n$S=0\nx $A\n", vec!["x 10.2.0"]),
            ("$A=one\n$A=two\nx ${A}y $A\n", vec!["x twoy two"]),
            ("x $1 $UNKNOWN ${UNKNOWN}\n", vec!["x $1 $UNKNOWN ${UNKNOWN}"]),
            ("$IF=@lb1\n$IF x\n$NO=@lb2\n$NO y\n", vec!["x"]),
            ("@lb1 a\n@lb2 b\n@^lb1 c\n@^lb2 d\n@never\n", vec!["a", "d"]),
            ("@lb1 $A=1\n@lb2 $A=2\nx $A\n", vec!["x 1"]),
            ("$M= one \\\n two \\\n three\nx $M\n", vec!["x one", "two", "three"]),
            ("x ${_HASH}y ${_BANG}\n", vec!["x #y !"]),
            ("~SEQ(N, 3) x $N\n", vec!["x 1", "x 2", "x 3"]),
            ("~SEQ(N, 2, 4) x $N\n", vec!["x 2", "x 3", "x 4"]),
            ("~SEQ(N, 0, 5, 10) x $N\n", vec!["x 0", "x 5", "x 10"]),
            ("~SEQ(N, -2) x $N\n", vec!["x -1", "x -2"]),
            ("~SEQx(N, 9, 11) x $N\n", vec!["x 9", "x a", "x b"]),
            ("~LST(N, a, b) x $N\n", vec!["x a", "x b"]),
            ("~LST({A, B}, {1, 2}, {3}) x $A,${B}.\n", vec!["x 1,2.", "x 3,."]),
            ("~SEQ(A, 2) ~SEQ(B, 2) x $A $B\n", vec!["x 1 1", "x 1 2", "x 2 1", "x 2 2"]),
            ("$E=2\n~SEQ(N, $E) x $N\n", vec!["x 1", "x 2"]),
            ("a\"b c\"d\n", vec!["a b c d"]),
        ] {
            let (got, r) = lines(text);
            assert_eq!(got, want, "{text}");
            assert!(r.diags.is_empty(), "{text} {:?}", r.diags);
        }
        for bad in [
            "~SEQ(N, 1, 0, 5) x\n",
            "~SEQ(N, 1 x\n",
            "~SEQ(N, a) x\n",
            "~LST({A}, {1, 2}) x\n",
            "$A=x$A\ny $A\n",
            "~SEQ(N, 99999999) x\n",
        ] {
            assert!(lines(bad).1.has_fatal(), "{bad}");
        }
    }

    #[test]
    fn includes_say_what_they_miss() {
        let (_, r) = parse(&[("/d/k.conf", "include nope\n")]);
        assert!(!r.has_fatal() && !r.diags.is_empty());
        for word in ["includer nope", "includew *.nope", "includea {a.inc,b}", "includeb {a.inc,b}", "includem b"] {
            let (_, r) = parse(&[("/d/k.conf", &format!("{word}\n")), ("/d/a.inc", "one\n")]);
            assert!(r.has_fatal(), "{word}");
        }
        // As keepalived 2.2.7 judges them; `readable` is a word of 2.4.
        for (checks, include, refused) in [
            ("include_check", "nope", true),
            ("include_check match", "nope", true),
            ("include_check match", "*.nope", false),
            ("include_check wildcard_match", "*.nope", true),
            ("include_check wildcard_match", "nope", false),
            ("include_check -wildcard_match +match", "nope", true),
            ("include_check\n include_check -match", "nope", false),
            ("include_check\n include_check -match", "*.nope", true),
            ("include_check brace_match", "{a.inc,b}", true),
            ("include_check match", "{a.inc,b*}", false),
            ("include_check readable", "nope", true),
        ] {
            let text = format!("global_defs {{\n {checks}\n}}\ninclude {include}\n");
            let (_, r) = parse(&[("/d/k.conf", &text), ("/d/a.inc", "one\n")]);
            assert_eq!(r.has_fatal(), refused, "{checks}: {include}");
        }
        // Elsewhere it says nothing; and what a file says ends with it.
        let (_, r) = parse(&[("/d/k.conf", "include_check\ninclude nope\n")]);
        assert!(!r.has_fatal());
        let (_, r) = parse(&[
            ("/d/k.conf", "include a.inc\ninclude nope\n"),
            ("/d/a.inc", "global_defs {\n include_check\n}\n"),
        ]);
        assert!(!r.has_fatal());
    }

    #[test]
    fn what_is_included_is_bounded() {
        let branches = format!("include /{}x\n", "{a,b}".repeat(10)).repeat(100);
        let (_, r) = parse(&[("/d/k.conf", &branches)]);
        assert!(r.diags.iter().any(|d| d.code == Code::TooMuch && d.message.contains("names are included")));
        let itself = format!("include k.conf\n{}", format!("# {}\n", "x".repeat(1000)).repeat(MAX_TEXT / 2000));
        let (_, r) = parse(&[("/d/k.conf", &itself)]);
        assert!(r.diags.iter().any(|d| d.code == Code::TooMuch && d.message.contains("what is included")));
    }

    #[test]
    fn any_text_is_answered_without_a_panic() {
        let parts = [
            "~SEQ(",
            "~LST(",
            "$A",
            "${A}",
            "=",
            "@",
            "{",
            "}",
            "\"",
            "\\",
            ",",
            ")",
            "1",
            " ",
            "\n",
            "#",
            "include x",
            "é",
        ];
        let mut seed = 7u64;
        for _ in 0..5_000 {
            let mut text = String::new();
            for _ in 0..12 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                text.push_str(parts[(seed >> 33) as usize % parts.len()]);
            }
            let _ = lines(&text);
        }
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
