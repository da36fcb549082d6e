//! What a check found, in the terms of the reference: status words, numbers, texts (management manual 9.1, `check_status`).
use std::borrow::Cow;
use std::time::Duration;

/// What a finding says about the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing: the counter of health stays.
    Neutral,
    Failed,
    Passed,
    /// It serves those that are bound to it and nobody else: it is stopping.
    Conditional,
}

#[derive(Clone, Copy, Debug)]
struct Status {
    word: &'static str,
    /// As `show servers state` has it.
    number: u8,
    text: &'static str,
}

const fn s(word: &'static str, number: u8, text: &'static str) -> Status {
    Status { word, number, text }
}

const STATUSES: &[Status] = &[
    s("UNK", 0, "Unknown"),
    s("INI", 1, "Initializing"),
    s("CHECKED", 3, "No status change"),
    s("HANA", 4, "Health analyze"),
    s("SOCKERR", 5, "Socket error"),
    s("L4OK", 6, "Layer4 check passed"),
    s("L4TOUT", 7, "Layer4 timeout"),
    s("L4CON", 8, "Layer4 connection problem"),
    s("L6OK", 9, "Layer6 check passed"),
    s("L6TOUT", 10, "Layer6 timeout"),
    s("L6RSP", 11, "Layer6 invalid response"),
    s("L7TOUT", 12, "Layer7 timeout"),
    s("L7RSP", 13, "Layer7 invalid response"),
    s("L7OK", 15, "Layer7 check passed"),
    s("L7OKC", 16, "Layer7 check conditionally passed"),
    s("L7STS", 17, "Layer7 wrong status"),
    s("PROCERR", 18, "External check error"),
    s("PROCTOUT", 19, "External check timeout"),
    s("PROCOK", 20, "External check passed"),
];

fn row(word: &str) -> Status {
    *STATUSES.iter().find(|s| s.word == word).unwrap_or(&STATUSES[1])
}

/// The text behind a status word, as logs and statistics have it.
pub fn describe(word: &str) -> &'static str {
    row(word).text
}

/// The number `show servers state` has for a status word.
pub fn status_number(word: &str) -> u8 {
    row(word).number
}

/// The status word of such a number.
pub fn numbered(number: u8) -> Option<&'static str> {
    STATUSES.iter().find(|s| s.number == number).map(|s| s.word)
}

/// The status word as a constant, without regard to case; none if there is no such word.
pub fn known(word: &str) -> Option<&'static str> {
    STATUSES.iter().find(|s| s.word.eq_ignore_ascii_case(word)).map(|s| s.word)
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// `L4OK`, `L7STS`, ...
    pub status: &'static str,
    /// Only statuses that are answers have one.
    pub code: Option<i32>,
    pub info: String,
}

/// No more of what a server said of itself is kept.
const MAX_INFO: usize = 127;

impl Found {
    pub fn new(status: &'static str, code: i32, info: impl Into<String>) -> Self {
        let mut info: String = info.into();
        let mut end = info.len().min(MAX_INFO);
        while !info.is_char_boundary(end) {
            end -= 1;
        }
        info.truncate(end);
        Self { status, code: (status_number(status) > 14).then_some(code), info }
    }

    /// A status alone.
    pub fn bare(status: &'static str) -> Self {
        Self::new(status, 0, "")
    }

    pub fn outcome(&self) -> Outcome {
        match self.status {
            "UNK" | "INI" | "CHECKED" => Outcome::Neutral,
            "L4OK" | "L6OK" | "L7OK" | "PROCOK" => Outcome::Passed,
            "L7OKC" => Outcome::Conditional,
            _ => Outcome::Failed,
        }
    }

    /// `reason: ...`, as log lines have it.
    pub fn reason(&self, took: Duration) -> String {
        let mut t = format!("reason: {}", describe(self.status));
        if let Some(c) = self.code {
            t.push_str(&format!(", code: {c}"));
        }
        if !self.info.is_empty() {
            t.push_str(&format!(", info: \"{}\"", printable(&self.info)));
        }
        // What traffic found took no time.
        if self.status != "HANA" {
            t.push_str(&format!(", check duration: {}ms", took.as_millis()));
        }
        t
    }
}

/// Text of a server as it may stand in quotes in a log line: what is not printable ASCII, quotes and angle brackets become `<XX>`.
fn printable(text: &str) -> Cow<'_, str> {
    let plain = |b: u8| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'<' | b'>');
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    for b in text.bytes() {
        if plain(b) { out.push(char::from(b)) } else { out.push_str(&format!("<{b:02X}>")) }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_read_as_the_reference_writes_them() {
        let ms = Duration::from_millis(2);
        assert_eq!(
            Found::new("L7STS", 0, "via agent : down (bye \"x\")").reason(ms),
            "reason: Layer7 wrong status, code: 0, info: \"via agent : down (bye <22>x<22>)\", check duration: 2ms"
        );
        assert_eq!(
            Found::new("L7RSP", 404, "x").reason(ms),
            "reason: Layer7 invalid response, info: \"x\", check duration: 2ms"
        );
        assert_eq!(Found::new("HANA", 0, "y").reason(ms), "reason: Health analyze, info: \"y\"");
        assert_eq!(Found::new("L7OK", 0, "é".repeat(100)).info.len(), 126);
    }
}
