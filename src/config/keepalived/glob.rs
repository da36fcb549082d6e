//! File name patterns of `include`, as glob(7) with braces: `*`, `?`, `[a-z]`, `[!a]`, `{a,b}`, and a backslash in front of what stands for itself.
use crate::config::source::Source;

/// More alternatives than this are not looked for: `{a,b}{a,b}...` doubles with every pair.
const MAX_BRANCHES: usize = 256;

/// No path is longer.
const LONGEST: usize = 4096;

pub fn is_wild(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

/// The files that a pattern without braces finds, sorted within each directory.
pub fn files(src: &mut dyn Source, pattern: &str) -> Vec<String> {
    let (mut found, rest) = match pattern.strip_prefix('/') {
        Some(rest) => (vec![String::from("/")], rest),
        None => (vec![String::new()], pattern),
    };
    let parts: Vec<&str> = rest.split('/').filter(|p| !p.is_empty()).collect();
    for (n, part) in parts.iter().enumerate() {
        let join = |dir: &str, name: &str| {
            let slash = if dir.is_empty() || dir.ends_with('/') { "" } else { "/" };
            format!("{dir}{slash}{name}")
        };
        let mut next = Vec::new();
        for dir in &found {
            if is_wild(part) {
                let names = src.list(if dir.is_empty() { "." } else { dir }).unwrap_or_default();
                // A leading dot is matched by a dot alone.
                let fits = |n: &&String| n.starts_with('.') <= part.starts_with('.') && matches(part, n);
                next.extend(names.iter().filter(fits).map(|name| join(dir, name)));
            } else {
                next.push(join(dir, &part.replace('\\', "")));
            }
        }
        found = next;
        if n + 1 == parts.len() {
            found.retain(|f| src.read(f).is_ok());
        }
    }
    found
}

/// `a{b,c{d,e}}` spelled out: `ab`, `acd`, `ace`.
pub fn braces(pattern: &str) -> Vec<String> {
    if pattern.len() > LONGEST {
        return vec![pattern.to_owned()];
    }
    let mut out = vec![String::new()];
    let mut rest = pattern;
    while let Some(open) = rest.find('{') {
        let Some(close) = closing(&rest[open..]).map(|c| open + c) else { break };
        let inner = alternatives(&rest[open + 1..close]);
        let tails: Vec<String> = inner.iter().flat_map(|i| braces(i)).collect();
        out = out.iter().flat_map(|o| tails.iter().map(move |t| format!("{o}{}{t}", &rest[..open]))).collect();
        out.truncate(MAX_BRANCHES);
        rest = &rest[close + 1..];
    }
    out.iter_mut().for_each(|o| o.push_str(rest));
    out
}

/// Where the brace that `text` begins with is closed.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth <= 1 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn alternatives(text: &str) -> Vec<&str> {
    let (mut out, mut depth, mut from) = (Vec::new(), 0i32, 0);
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                out.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    out.push(&text[from..]);
    out
}

/// True if a name fits. Iterative, so that a pattern of many stars costs no more than the product of the lengths.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (p, s): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut i, mut j, mut star, mut mark) = (0, 0, None, 0);
    while j < s.len() {
        if p.get(i) == Some(&'*') {
            (star, mark) = (Some(i), j);
            i += 1;
        } else if let Some(next) = one(&p, i, s[j]) {
            (i, j) = (next, j + 1);
        } else if let Some(at) = star {
            mark += 1;
            (i, j) = (at + 1, mark);
        } else {
            return false;
        }
    }
    p[i..].iter().all(|c| *c == '*')
}

/// The place behind the element at `i`, if it fits `c`.
fn one(p: &[char], i: usize, c: char) -> Option<usize> {
    match p.get(i)? {
        '?' => Some(i + 1),
        '\\' => (p.get(i + 1) == Some(&c)).then_some(i + 2),
        '[' => {
            let not = matches!(p.get(i + 1), Some('!' | '^'));
            let from = i + 1 + usize::from(not);
            // The first character may be a bracket.
            let Some(end) = (from + 1..p.len()).find(|k| p[*k] == ']') else { return (c == '[').then_some(i + 1) };
            let (mut k, mut hit) = (from, false);
            while k < end {
                if k + 2 < end && p[k + 1] == '-' {
                    hit |= p[k] <= c && c <= p[k + 2];
                    k += 3;
                } else {
                    hit |= p[k] == c;
                    k += 1;
                }
            }
            (hit != not).then_some(end + 1)
        }
        x => (*x == c).then_some(i + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (p, yes, no) in [
            ("*.conf", "a.conf", "a.cfg"),
            ("[ab].c", "a.c", "c.c"),
            ("[!ab].c", "c.c", "a.c"),
            ("[^a]", "b", "a"),
            ("[a-c]x", "bx", "dx"),
            ("?", "x", "xy"),
            ("\\*", "*", "x"),
            ("a*b*c", "axxbyyc", "axxbyy"),
            ("[]a]", "]", "b"),
        ] {
            assert!(matches(p, yes) && !matches(p, no), "{p}");
        }
        assert_eq!(braces("a{b,c{d,e}}f{,g}"), ["abf", "abfg", "acdf", "acdfg", "acef", "acefg"]);
        assert_eq!(braces("a{b"), ["a{b"]);
        assert!(braces(&"{a,b}".repeat(40)).len() <= MAX_BRANCHES);
        // Many stars end in a moment.
        assert!(!matches(&"*a".repeat(50), &"b".repeat(2000)));
    }
}
