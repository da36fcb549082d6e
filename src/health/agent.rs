//! What an agent says of its server (configuration manual 5.2, `agent-check`): one line of words.
use super::found::Found;

/// The parts of a line that mean something; of each kind the last word counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// `up`: true; `down`, `stopped`, `fail`: false; with the word as it was sent.
    pub health: Option<(bool, String)>,
    pub admin: Option<Admin>,
    /// `75%`, or what follows `weight:`.
    pub weight: Option<String>,
    /// What follows `maxconn:`.
    pub maxconn: Option<String>,
    /// Behind `#`.
    pub description: String,
    /// The first word without a meaning.
    pub unknown: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admin {
    Ready,
    Drain,
    Maint,
}

/// Where a whole line ends in what came in so far.
pub fn line_end(seen: &[u8]) -> Option<usize> {
    let end = seen.iter().position(|b| matches!(b, b'\n' | b'\r' | 0))?;
    (seen[end] != 0).then_some(end)
}

impl Reply {
    pub fn parse(line: &[u8]) -> Self {
        let text = String::from_utf8_lossy(line);
        let mut r = Self::default();
        let blank = |c: char| matches!(c, ' ' | '\t' | ',');
        let mut rest = text.trim_start_matches(blank);
        while !rest.is_empty() {
            if let Some(said) = rest.strip_prefix('#') {
                r.description = said.trim_start_matches([' ', '\t']).to_owned();
                break;
            }
            let (word, after) = rest.split_at(rest.find(blank).unwrap_or(rest.len()));
            r.take(word);
            rest = after.trim_start_matches(blank);
        }
        r
    }

    fn take(&mut self, word: &str) {
        let lower = word.to_ascii_lowercase();
        match lower.as_str() {
            "up" => self.health = Some((true, word.to_owned())),
            "down" | "stopped" | "fail" => self.health = Some((false, word.to_owned())),
            "ready" => self.admin = Some(Admin::Ready),
            "drain" => self.admin = Some(Admin::Drain),
            "maint" => self.admin = Some(Admin::Maint),
            w if w.starts_with(|c: char| c.is_ascii_digit()) && w.contains('%') => self.weight = Some(word.to_owned()),
            w => {
                if let Some(n) = w.strip_prefix("weight:") {
                    self.weight = Some(n.to_owned());
                } else if let Some(n) = w.strip_prefix("maxconn:") {
                    self.maxconn = Some(n.to_owned());
                } else {
                    self.unknown.get_or_insert_with(|| word.to_owned());
                }
            }
        }
    }

    /// What it comes to; `warning`: what was wrong with the weight or the limit.
    pub fn found(&self, warning: Option<&str>) -> Found {
        let Some((up, word)) = &self.health else {
            let info = match (&self.unknown, warning) {
                (Some(w), _) => format!("agent reports an error : {w}"),
                (None, Some(w)) => format!("agent warns : {w}"),
                (None, None) => String::new(),
            };
            return Found::new("CHECKED", 0, info);
        };
        let trouble = self.unknown.as_deref().or(warning);
        let said = if self.description.is_empty() || *up { trouble } else { None };
        let text = said.unwrap_or(&self.description);
        let info = if text.is_empty() { format!("via agent : {word}") } else { format!("via agent : {word} ({text})") };
        Found::new(if *up { "L7OK" } else { "L7STS" }, 0, info)
    }
}

/// A weight as agents and operators write it: a number, or a percentage of the one in the file; or what is wrong with it.
pub fn weight(text: &str, configured: u32, fixed: bool) -> Result<u32, &'static str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    if text.is_empty() {
        return Err("Require <weight> or <weight%>.");
    }
    if number.is_empty() {
        return Err(if rest.starts_with('-') && rest.ends_with('%') {
            "Relative weight must be positive."
        } else if rest.starts_with('-') {
            "Absolute weight can only be between 0 and 256 inclusive."
        } else {
            "Empty weight string empty or preceded by garbage"
        });
    }
    let n: u32 = number.parse().unwrap_or(u32::MAX);
    let w = match rest {
        "%" => (u64::from(configured) * u64::from(n.min(25_600)) / 100).min(256),
        "" if n > 256 => return Err("Absolute weight can only be between 0 and 256 inclusive."),
        "" => u64::from(n),
        _ => return Err("Trailing garbage in weight string"),
    };
    let w = u32::try_from(w).unwrap_or(256);
    if fixed && w != 0 && w != configured {
        return Err("Backend is using a static LB algorithm and only accepts weights '0%' and '100%'.");
    }
    Ok(w)
}

/// A connection limit, in the same way.
pub fn maxconn(text: &str) -> Result<u32, &'static str> {
    if text.is_empty() {
        return Err("Require <maxconn>.");
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    match (digits, digits == text.len()) {
        (0, _) => Err("maxconn string empty or preceded by garbage"),
        (_, false) => Err("Trailing garbage in maxconn string"),
        (_, true) => Ok(text.parse().unwrap_or(u32::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status, info, administrative state, weight of 50 and limit after a line.
    fn said(line: &str) -> (&'static str, String, Option<Admin>, Option<u32>, Option<u32>) {
        let r = Reply::parse(line.as_bytes());
        let (w, m) = (r.weight.as_deref().map(|w| weight(w, 50, false)), r.maxconn.as_deref().map(maxconn));
        let warning = w.and_then(Result::err).or(m.and_then(Result::err));
        let f = r.found(warning);
        (f.status, f.info, r.admin, w.and_then(Result::ok), m.and_then(Result::ok))
    }

    #[test]
    fn lines_mean_what_they_mean_to_the_reference() {
        let none = || (None, None, None);
        for (line, status, info, (admin, w, m)) in [
            ("up", "L7OK", "via agent : up", none()),
            ("UP", "L7OK", "via agent : UP", none()),
            ("75%", "CHECKED", "", (None, Some(37), None)),
            ("weight:20", "CHECKED", "", (None, Some(20), None)),
            ("weight:150%", "CHECKED", "", (None, Some(75), None)),
            ("300%", "CHECKED", "", (None, Some(150), None)),
            ("down # maintenance window", "L7STS", "via agent : down (maintenance window)", none()),
            ("up # all well", "L7OK", "via agent : up (all well)", none()),
            ("up down", "L7STS", "via agent : down", none()),
            ("foo bar up", "L7OK", "via agent : up (foo)", none()),
            ("foo down #why", "L7STS", "via agent : down (why)", none()),
            ("up 5x%", "L7OK", "via agent : up (Trailing garbage in weight string)", none()),
            ("foo", "CHECKED", "agent reports an error : foo", none()),
            ("50", "CHECKED", "agent reports an error : 50", none()),
            ("maxconn:x", "CHECKED", "agent warns : maxconn string empty or preceded by garbage", none()),
            ("drain up 50%", "L7OK", "via agent : up", (Some(Admin::Drain), Some(25), None)),
            ("drain,maint", "CHECKED", "", (Some(Admin::Maint), None, None)),
            ("75%,maxconn:30,maint,down", "L7STS", "via agent : down", (Some(Admin::Maint), Some(37), Some(30))),
            ("fail#disk full", "CHECKED", "agent reports an error : fail#disk", none()),
            ("#x", "CHECKED", "", none()),
            ("", "CHECKED", "", none()),
        ] {
            assert_eq!(said(line), (status, info.to_owned(), admin, w, m), "{line}");
        }
    }

    #[test]
    fn static_algorithms_take_all_or_nothing() {
        assert_eq!((weight("0%", 50, true), weight("100%", 50, true)), (Ok(0), Ok(50)));
        assert!(weight("50%", 50, true).is_err());
    }

    #[test]
    fn a_line_ends_with_its_first_end() {
        assert_eq!(line_end(b"up\r\nx"), Some(2));
        assert_eq!((line_end(b"up"), line_end(b"up\0\n")), (None, None));
    }
}
