//! Conditions of `.if`, `.elif` and `-cc` (configuration manual 2.4): which lines of a file count.
use std::cmp::Ordering;

/// What conditions ask about.
pub struct Facts<'a> {
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The version whose language is spoken.
    pub version: &'a str,
    /// Features, as the list of `-vv` has them.
    pub features: &'a [&'a str],
    /// Options that are on, as `enabled()` names them.
    pub enabled: &'a [&'a str],
    /// The TLS library, as `ssllib_name_startswith()` sees it.
    pub tls_library: &'a str,
    /// The version of OpenSSL's interface that it stands for.
    pub openssl: &'a str,
}

/// Nested parentheses and exclamation marks beyond this are no condition a person wrote.
const DEEPEST: usize = 1024;

/// Evaluates a condition. The error says what is wrong with it, and where.
pub fn eval(text: &str, facts: &Facts<'_>) -> Result<bool, String> {
    let mut p = Parser { text, at: 0, facts, depth: 0 };
    p.blanks();
    if p.rest().is_empty() {
        return Ok(false);
    }
    let v = p.any()?;
    p.blanks();
    if p.rest().is_empty() { Ok(v) } else { Err(p.wrong(&format!("unexpected '{}'", p.rest()))) }
}

struct Parser<'t, 'f> {
    text: &'t str,
    at: usize,
    facts: &'f Facts<'f>,
    depth: usize,
}

impl<'t> Parser<'t, '_> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn blanks(&mut self) {
        self.at += self.rest().bytes().take_while(|c| matches!(c, b' ' | b'\t')).count();
    }

    fn eat(&mut self, what: &str) -> bool {
        self.blanks();
        let yes = self.rest().starts_with(what);
        if yes {
            self.at += what.len();
        }
        yes
    }

    fn wrong(&self, why: &str) -> String {
        format!("{why} at position {} of condition '{}'", self.at + 1, self.text)
    }

    /// `and || and ...`: every part is read, whatever the first ones come to.
    fn any(&mut self) -> Result<bool, String> {
        let mut value = self.all()?;
        while self.eat("||") {
            value |= self.all()?;
        }
        Ok(value)
    }

    fn all(&mut self) -> Result<bool, String> {
        let mut value = self.term()?;
        while self.eat("&&") {
            value &= self.term()?;
        }
        Ok(value)
    }

    fn term(&mut self) -> Result<bool, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.wrong("too deeply nested"));
        }
        let v = if self.eat("!") {
            !self.term()?
        } else if self.eat("(") {
            let v = self.any()?;
            if !self.eat(")") {
                return Err(self.wrong("missing ')'"));
            }
            v
        } else {
            self.atom()?
        };
        self.depth -= 1;
        Ok(v)
    }

    fn atom(&mut self) -> Result<bool, String> {
        self.blanks();
        // A sign changes nothing: what is not zero is true.
        if self.rest().starts_with('-') && self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) {
            self.at += 1;
        }
        let n = self.rest().bytes().take_while(|c| c.is_ascii_alphanumeric() || *c == b'_').count();
        let word = &self.rest()[..n];
        if word.bytes().next().is_some_and(|c| c.is_ascii_digit()) {
            self.at += n;
            let number = match word.strip_prefix("0x").or(word.strip_prefix("0X")) {
                Some(hex) => i64::from_str_radix(hex, 16).ok(),
                None if word.len() > 1 && word.starts_with('0') => i64::from_str_radix(word, 8).ok(),
                None => word.parse().ok(),
            };
            return number.map(|n| n != 0).ok_or_else(|| self.wrong(&format!("'{word}' is no number")));
        }
        let Some((_, arguments, test)) = PREDICATES.iter().find(|p| p.0 == word) else {
            let known = PREDICATES.iter().map(|p| p.0);
            let what = if word.is_empty() { self.rest().split(' ').next().unwrap_or_default() } else { word };
            return Err(
                self.wrong(&format!("unknown predicate '{what}'{}", crate::base::diag::suggestion(word, known)))
            );
        };
        self.at += n;
        let args = self.arguments()?;
        if args.len() != *arguments {
            return Err(self.wrong(&format!("'{word}' takes {arguments} argument(s), and got {}", args.len())));
        }
        test(self.facts, &args).map_err(|e| self.wrong(&e))
    }

    /// What stands in the parentheses behind a predicate; blanks belong to it.
    fn arguments(&mut self) -> Result<Vec<String>, String> {
        if !self.rest().starts_with('(') {
            return Ok(Vec::new());
        }
        let (mut args, mut cur, mut quote) = (Vec::new(), String::new(), None);
        let mut chars = self.rest().char_indices().skip(1).peekable();
        while let Some((i, c)) = chars.next() {
            match c {
                c if quote == Some(c) => quote = None,
                '"' | '\'' if quote.is_none() => quote = Some(c),
                '\\' if quote != Some('\'') => match chars.next() {
                    Some((_, e @ ('\\' | ' ' | '"' | '\''))) => cur.push(e),
                    Some((_, 'n')) => cur.push('\n'),
                    Some((_, 'r')) => cur.push('\r'),
                    Some((_, 't')) => cur.push('\t'),
                    Some((_, e)) => cur.extend(['\\', e]),
                    None => cur.push('\\'),
                },
                ',' if quote.is_none() => args.push(std::mem::take(&mut cur)),
                ')' if quote.is_none() => {
                    self.at += i + 1;
                    if !args.is_empty() || !cur.is_empty() {
                        args.push(cur);
                    }
                    return Ok(args);
                }
                c => cur.push(c),
            }
        }
        Err(self.wrong("missing ')' behind the arguments"))
    }
}

type Test = fn(&Facts<'_>, &[String]) -> Result<bool, String>;

/// Name, number of arguments, meaning.
const PREDICATES: &[(&str, usize, Test)] = &[
    ("defined", 1, |f, a| Ok((f.env)(&a[0]).is_some())),
    ("feature", 1, |f, a| Ok(f.features.contains(&a[0].as_str()))),
    ("streq", 2, |_, a| Ok(a[0] == a[1])),
    ("strneq", 2, |_, a| Ok(a[0] != a[1])),
    ("strstr", 2, |_, a| Ok(a[0].contains(a[1].as_str()))),
    ("version_atleast", 1, |f, a| Ok(compare(f.version, &a[0])? != Ordering::Less)),
    ("version_before", 1, |f, a| Ok(compare(f.version, &a[0])? == Ordering::Less)),
    ("openssl_version_atleast", 1, |f, a| Ok(compare(f.openssl, &a[0])? != Ordering::Less)),
    ("openssl_version_before", 1, |f, a| Ok(compare(f.openssl, &a[0])? == Ordering::Less)),
    ("ssllib_name_startswith", 1, |f, a| Ok(f.tls_library.starts_with(a[0].as_str()))),
    ("awslc_api_atleast", 1, |_, _| Err(NO_API.into())),
    ("awslc_api_before", 1, |_, _| Err(NO_API.into())),
    ("enabled", 1, |f, a| Ok(f.enabled.contains(&a[0].as_str()))),
    ("fips_mode", 0, |_, _| Ok(false)),
];

const NO_API: &str = "the TLS library's API number is not known to this program";

/// Compares two versions: `MAJOR.MINOR[.PATCH][-devN|-rcN]`, where a development version comes before its release.
fn compare(a: &str, b: &str) -> Result<Ordering, String> {
    let key = |v: &str| -> Option<[u64; 5]> {
        let (numbers, pre) = v.split_once('-').map_or((v, None), |(n, p)| (n, Some(p)));
        // OpenSSL's letters behind the number: 1.1.1w.
        let numbers = numbers.trim_end_matches(|c: char| c.is_ascii_lowercase());
        let mut out = [0; 5];
        for (o, part) in out.iter_mut().zip(numbers.split('.')) {
            *o = part.parse().ok()?;
        }
        // Development before release candidates before the release.
        (out[3], out[4]) = match pre {
            None => (2, 0),
            Some(p) => match (p.strip_prefix("dev"), p.strip_prefix("rc")) {
                (Some(n), _) => (0, n.parse().unwrap_or(0)),
                (_, Some(n)) => (1, n.parse().unwrap_or(0)),
                _ => (2, 0),
            },
        };
        Some(out)
    };
    match (key(a), key(b)) {
        (Some(x), Some(y)) => Ok(x.cmp(&y)),
        _ => Err(format!("'{b}' is no version, such as 3.2 or 2.8-dev4")),
    }
}

/// Where a line stands between `.if` and `.endif`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Branch {
    /// Taken now.
    Taken,
    /// A later one may be taken.
    Waiting,
    /// One was taken before, or the whole block does not count.
    Over,
}

/// The open blocks of a file.
#[derive(Default, Debug)]
pub struct Blocks(Vec<(Branch, bool)>);

/// `.if` nests no deeper.
const NESTED: usize = 100;

impl Blocks {
    /// True if lines count here.
    pub fn counts(&self) -> bool {
        self.0.iter().all(|b| b.0 == Branch::Taken)
    }

    pub fn open(&self) -> usize {
        self.0.len()
    }

    /// Takes `.if`, `.elif`, `.else` and `.endif` in. An error in a condition is one of the whole load.
    pub fn directive(&mut self, word: &str, condition: &str, facts: &Facts<'_>) -> Result<(), String> {
        let bare = |condition: &str| match condition {
            "" => Ok(()),
            c => Err(format!("unexpected '{c}' behind '{word}'")),
        };
        match word {
            ".if" => {
                if self.0.len() >= NESTED {
                    return Err(format!("too many nested '.if', at most {NESTED}"));
                }
                let branch = match self.counts() {
                    false => Branch::Over,
                    true if eval(condition, facts)? => Branch::Taken,
                    true => Branch::Waiting,
                };
                self.0.push((branch, false));
            }
            ".elif" => {
                let Some((branch, had_else)) = self.0.pop() else { return Err("'.elif' without '.if'".into()) };
                if had_else {
                    return Err("'.elif' after '.else'".into());
                }
                let next = match branch {
                    Branch::Waiting if eval(condition, facts)? => Branch::Taken,
                    Branch::Waiting => Branch::Waiting,
                    Branch::Taken | Branch::Over => Branch::Over,
                };
                self.0.push((next, false));
            }
            ".else" => {
                bare(condition)?;
                let Some(top) = self.0.last_mut() else { return Err("'.else' without '.if'".into()) };
                if top.1 {
                    return Err("'.else' after '.else'".into());
                }
                *top = (if top.0 == Branch::Waiting { Branch::Taken } else { Branch::Over }, true);
            }
            _ => {
                bare(condition)?;
                self.0.pop().ok_or("'.endif' without '.if'")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(env: &dyn Fn(&str) -> Option<String>, f: impl FnOnce(&Facts<'_>)) {
        f(&Facts {
            env,
            version: "3.4.0",
            features: &["THREAD"],
            enabled: &["EPOLL"],
            tls_library: "AWS-LC",
            openssl: "1.1.1",
        });
    }

    #[test]
    fn conditions() {
        facts(&|n| (n == "A").then(String::new), |f| {
            for (text, want) in [
                ("", false),
                ("0", false),
                ("0x10", true),
                ("!0", true),
                ("! ! 1", true),
                ("defined(A)", true),
                ("defined(B) || defined(A)", true),
                ("defined(B) && 1 || 1", true),
                ("1 || 0 && 0", true),
                ("(1 || 0) && 0", false),
                ("streq(a,a)", true),
                ("streq(a, a)", false),
                ("strneq(\"a,b\",c)", true),
                ("strstr(haystack,sta)", true),
                ("feature(THREAD) && !feature(QUIC)", true),
                ("version_atleast(3.4)", true),
                ("version_atleast(3.4.1)", false),
                ("version_before(3.5-dev5)", true),
                ("version_atleast(3.4-dev9)", true),
                ("openssl_version_atleast(1.1.1)", true),
                ("openssl_version_before(3.0)", true),
                ("enabled(EPOLL)", true),
                ("fips_mode()", false),
            ] {
                assert_eq!(eval(text, f), Ok(want), "{text}");
            }
            for bad in
                ["foo", "defined", "streq(a)", "1 2", "(1", "!", "1 &&", "defined(A", "version_atleast(x)", "feture(A)"]
            {
                assert!(eval(bad, f).is_err(), "{bad}");
            }
            assert!(eval("feture(A)", f).unwrap_err().contains("feature"));
            assert!(eval(&"!".repeat(5000), f).is_err() && eval(&"(".repeat(5000), f).is_err());
        });
    }

    #[test]
    fn blocks() {
        facts(&|_| None, |f| {
            let run = |lines: &[(&str, &str)]| {
                let mut b = Blocks::default();
                lines.iter().map(|(w, c)| b.directive(w, c, f).map(|()| b.counts())).collect::<Vec<_>>()
            };
            let ok = |v: &[bool]| v.iter().map(|b| Ok(*b)).collect::<Vec<_>>();
            assert_eq!(
                run(&[(".if", "1"), (".elif", "nonsense"), (".else", ""), (".endif", "")]),
                ok(&[true, false, false, true])
            );
            assert_eq!(
                run(&[(".if", "0"), (".elif", "1"), (".else", ""), (".endif", "")]),
                ok(&[false, true, false, true])
            );
            assert_eq!(
                run(&[(".if", "0"), (".if", "nonsense"), (".else", ""), (".endif", ""), (".else", "")]),
                ok(&[false, false, false, false, true])
            );
            assert!(run(&[(".else", "")])[0].is_err() && run(&[(".endif", "")])[0].is_err());
            assert!(run(&[(".if", "1"), (".else", ""), (".else", "")])[2].is_err());
            assert!(run(&[(".if", "nonsense")])[0].is_err() && run(&[(".if", "1"), (".endif", "x")])[1].is_err());
        });
    }
}
