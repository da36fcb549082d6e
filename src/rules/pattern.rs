//! Match methods (configuration manual 7.1.2 to 7.1.6): what a sample is compared with.
use super::sample::Sample;
use crate::base::addr::IpNet;
use regex::bytes::{Regex, RegexBuilder};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    Found,
    Bool,
    Int,
    Ip,
    Bin,
    Len,
    Str,
    Sub,
    Reg,
    Beg,
    End,
    Dir,
    Dom,
}

impl Method {
    pub const NAMES: &'static [(&'static str, Method)] = &[
        ("found", Self::Found),
        ("bool", Self::Bool),
        ("int", Self::Int),
        ("ip", Self::Ip),
        ("bin", Self::Bin),
        ("len", Self::Len),
        ("str", Self::Str),
        ("sub", Self::Sub),
        ("reg", Self::Reg),
        ("beg", Self::Beg),
        ("end", Self::End),
        ("dir", Self::Dir),
        ("dom", Self::Dom),
    ];
    pub fn by_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(n, _)| *n == name).map(|(_, m)| *m)
    }
}

#[derive(Clone, Debug)]
enum Pattern {
    Bytes(Vec<u8>),
    /// Inclusive bounds.
    Range(i64, i64),
    Net(IpNet),
    Reg(Regex),
}

/// A method with the values it accepts; any one of them matching is a match.
#[derive(Clone, Debug)]
pub struct Matcher {
    method: Method,
    ignore_case: bool,
    patterns: Vec<Pattern>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operator {
    Eq,
    Ge,
    Gt,
    Le,
    Lt,
}

impl Operator {
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "eq" => Self::Eq,
            "ge" => Self::Ge,
            "gt" => Self::Gt,
            "le" => Self::Le,
            "lt" => Self::Lt,
            _ => return None,
        })
    }
}

/// What it takes to compile a regular expression, in units of some 0.2 us: its length, times what `{n,m}` repeats.
pub fn regex_work(text: &str) -> usize {
    let most = |braces: &str| {
        let inner = braces.split('}').next().unwrap_or_default();
        let last = inner.rsplit(',').find(|n| !n.is_empty()).unwrap_or_default();
        last.parse::<usize>().map_or(1, |n| n.clamp(1, 1000))
    };
    let times = text.split('{').skip(1).map(most).fold(1, usize::saturating_mul);
    text.len().saturating_add(30).saturating_mul(times)
}

impl Matcher {
    pub fn new(method: Method, ignore_case: bool) -> Self {
        Self { method, ignore_case, patterns: Vec::new() }
    }
    pub fn method(&self) -> Method {
        self.method
    }
    pub fn shrink_to_fit(&mut self) {
        self.patterns.shrink_to_fit();
    }
    pub fn regex_work(&self) -> usize {
        let of = |p: &Pattern| if let Pattern::Reg(r) = p { regex_work(r.as_str()) } else { 0 };
        self.patterns.iter().map(of).fold(0, usize::saturating_add)
    }
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Adds the address that a name was resolved to.
    pub fn add_address(&mut self, ip: std::net::IpAddr) {
        let prefix = if ip.is_ipv4() { 32 } else { 128 };
        self.patterns.push(Pattern::Net(IpNet { addr: ip, prefix }));
    }

    /// Adds one value as written in the file. `op` is the operator in force for integers.
    pub fn add(&mut self, word: &str, op: Operator) -> Result<(), String> {
        let pattern = match self.method {
            Method::Found | Method::Bool => {
                let truth = match word.to_ascii_lowercase().as_str() {
                    "true" | "yes" | "on" | "1" => 1,
                    "false" | "no" | "off" | "0" => 0,
                    _ => return Err(format!("'{word}' is not a boolean")),
                };
                Pattern::Range(truth, truth)
            }
            Method::Int | Method::Len => {
                let int = |w: &str| w.parse::<i64>().map_err(|_| format!("'{word}' is not a number or a range"));
                let (lo, hi) = match word.char_indices().skip(1).find(|(_, c)| matches!(c, ':' | '-')) {
                    Some((at, _)) if op == Operator::Eq => {
                        let (a, b) = (&word[..at], &word[at + 1..]);
                        (if a.is_empty() { i64::MIN } else { int(a)? }, if b.is_empty() { i64::MAX } else { int(b)? })
                    }
                    _ if op == Operator::Eq && word.starts_with(':') => (i64::MIN, int(&word[1..])?),
                    _ => {
                        let n = int(word)?;
                        match op {
                            Operator::Eq => (n, n),
                            Operator::Ge => (n, i64::MAX),
                            Operator::Gt => (n.saturating_add(1), i64::MAX),
                            Operator::Le => (i64::MIN, n),
                            Operator::Lt => (i64::MIN, n.saturating_sub(1)),
                        }
                    }
                };
                if lo > hi {
                    return Err(format!("'{word}' is not a range: its end is below its beginning"));
                }
                Pattern::Range(lo, hi)
            }
            Method::Ip => Pattern::Net(
                IpNet::parse(word).ok_or_else(|| format!("'{word}' is not a valid IPv4 or IPv6 address or network"))?,
            ),
            Method::Reg => Pattern::Reg(
                RegexBuilder::new(word)
                    .case_insensitive(self.ignore_case)
                    .unicode(false)
                    .size_limit(1 << 20)
                    .build()
                    .map_err(|e| {
                    format!("regular expression '{word}': {}", e.to_string().lines().last().unwrap_or_default())
                })?,
            ),
            Method::Bin => {
                let hex: Option<Vec<u8>> = (word.len().is_multiple_of(2) && word.is_ascii())
                    .then(|| {
                        (0..word.len())
                            .step_by(2)
                            .map(|i| u8::from_str_radix(&word[i..i + 2], 16))
                            .collect::<Result<_, _>>()
                            .ok()
                    })
                    .flatten();
                Pattern::Bytes(hex.ok_or_else(|| format!("'{word}' is not a series of hexadecimal digits"))?)
            }
            _ if self.ignore_case => Pattern::Bytes(word.to_ascii_lowercase().into_bytes()),
            _ => Pattern::Bytes(word.as_bytes().to_vec()),
        };
        self.patterns.push(pattern);
        Ok(())
    }

    pub fn matches(&self, s: &Sample<'_>) -> bool {
        match self.method {
            Method::Found => true,
            Method::Bool if self.patterns.is_empty() => s.truth(),
            Method::Bool => self.in_range(Some(i64::from(s.truth()))),
            Method::Int => self.in_range(s.int()),
            Method::Len => self.in_range(i64::try_from(s.text().len()).ok()),
            Method::Ip => {
                s.ip().is_some_and(|ip| self.patterns.iter().any(|p| matches!(p, Pattern::Net(n) if n.contains(ip))))
            }
            Method::Reg => {
                let t = s.text();
                self.patterns.iter().any(|p| matches!(p, Pattern::Reg(r) if r.is_match(&t)))
            }
            _ => {
                let t = s.text();
                if self.ignore_case && t.iter().any(u8::is_ascii_uppercase) {
                    let lower = t.to_ascii_lowercase();
                    self.bytes_match(&lower)
                } else {
                    self.bytes_match(&t)
                }
            }
        }
    }

    fn in_range(&self, n: Option<i64>) -> bool {
        n.is_some_and(|n| self.patterns.iter().any(|p| matches!(p, Pattern::Range(lo, hi) if (*lo..=*hi).contains(&n))))
    }

    fn bytes_match(&self, t: &[u8]) -> bool {
        self.patterns.iter().any(|p| match p {
            Pattern::Bytes(w) => match self.method {
                Method::Beg => t.starts_with(w),
                Method::End => t.ends_with(w),
                Method::Sub => w.is_empty() || t.windows(w.len()).any(|x| x == &w[..]),
                Method::Dir => delimited(t, w, b"/?"),
                Method::Dom => delimited(t, w, b"/?.:"),
                _ => t == &w[..],
            },
            _ => false,
        })
    }
}

/// True if `word`, stripped of delimiters at its ends, stands in `text` between delimiters or its ends.
fn delimited(text: &[u8], word: &[u8], delims: &[u8]) -> bool {
    let is = |c: &u8| delims.contains(c);
    let start = word.iter().position(|c| !is(c)).unwrap_or(word.len());
    let end = word.iter().rposition(|c| !is(c)).map_or(start, |p| p + 1);
    let word = &word[start..end];
    if word.is_empty() || word.len() > text.len() {
        return false;
    }
    (0..=text.len() - word.len()).any(|i| {
        &text[i..i + word.len()] == word && (i == 0 || is(&text[i - 1])) && text.get(i + word.len()).is_none_or(is)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(method: Method, icase: bool, pattern: &str, text: &str) -> bool {
        let mut m = Matcher::new(method, icase);
        m.add(pattern, Operator::Eq).unwrap();
        m.matches(&Sample::str(text.as_bytes()))
    }

    #[test]
    fn text_methods() {
        assert!(hit(Method::Beg, false, "/api", "/api/x") && !hit(Method::Beg, false, "/api", "/ap"));
        assert!(hit(Method::End, true, ".JPG", "/a.jpg") && !hit(Method::End, false, ".JPG", "/a.jpg"));
        assert!(hit(Method::Dir, false, "static", "/static/x") && !hit(Method::Dir, false, "static", "/statics/x"));
        assert!(
            hit(Method::Dom, true, "example.com", "www.example.com:80")
                && !hit(Method::Dom, true, "example.com", "www.badexample.com")
        );
        assert!(hit(Method::Reg, true, "^/A[0-9]+$", "/a12") && hit(Method::Sub, false, "b", "abc"));
        assert!(hit(Method::Str, false, "GET", "GET") && !hit(Method::Str, false, "GET", "get"));
    }

    #[test]
    fn numbers_and_addresses() {
        assert!(
            hit(Method::Int, false, "80:90", "85")
                && hit(Method::Int, false, "1024:", "70000")
                && !hit(Method::Int, false, "80", "81")
        );
        assert!(hit(Method::Ip, false, "10.0.0.0/8", "10.1.1.1"));
        let mut m = Matcher::new(Method::Int, false);
        m.add("5", Operator::Gt).unwrap();
        assert!(m.matches(&Sample::Int(6)) && !m.matches(&Sample::Int(5)));
        assert!(m.add("x", Operator::Eq).is_err());
    }
}
