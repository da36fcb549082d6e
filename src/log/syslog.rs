//! Received syslog messages: how a stream is cut into them (RFC 6587), and what their headers say (RFC 3164, RFC 5424).
use super::frame::{Meta, Time};
use crate::config::model::{HostName, LogForm};
use crate::rules::logformat::{DateForm, date};
use std::time::SystemTime;

/// The longest message that is taken, with its length before it or its end behind it.
pub const MOST: usize = 16_384;

/// What a stream begins with.
#[derive(Debug, PartialEq, Eq)]
pub enum Cut {
    /// Not enough is there.
    More,
    /// A message, and the bytes up to the next one.
    Message(std::ops::Range<usize>, usize),
    /// No message can begin so: the connection is closed.
    Broken,
}

/// Cuts the first message off. `lines`: every line is one, however it begins (`option assume-rfc6587-ntf`).
pub fn cut(buf: &[u8], lines: bool) -> Cut {
    let line = |from: usize| match buf[from..].iter().take(MOST - from.min(MOST)).position(|c| *c == b'\n') {
        Some(n) => {
            let end = from + n;
            let end_of_text = if end > from && buf[end - 1] == b'\r' { end - 1 } else { end };
            Cut::Message(from..end_of_text, end + 1)
        }
        None if buf.len() >= MOST => Cut::Broken,
        None => Cut::More,
    };
    match buf.first() {
        None => Cut::More,
        Some(_) if lines => line(0),
        Some(b'<') => line(0),
        Some(b'1'..=b'9') => {
            let digits = buf.iter().take_while(|c| c.is_ascii_digit()).count();
            let len = std::str::from_utf8(&buf[..digits]).ok().and_then(|t| t.parse::<usize>().ok());
            match (len, buf.get(digits)) {
                // More digits than the longest message has could not even be added up.
                _ if digits > 5 => Cut::Broken,
                (Some(len), _) if digits + 1 + len > MOST => Cut::Broken,
                (Some(_), None) => Cut::More,
                (Some(len), Some(b' ')) if buf.len() > digits + len => {
                    Cut::Message(digits + 1..digits + 1 + len, digits + 1 + len)
                }
                (Some(_), Some(b' ')) => Cut::More,
                _ => Cut::Broken,
            }
        }
        Some(_) => Cut::Broken,
    }
}

/// What a message says. Fields that are not there are none.
#[derive(Debug, Default, PartialEq, Eq, Clone)]
pub struct Received<'a> {
    pub pri: Option<u32>,
    /// In both forms.
    pub time: Option<(Vec<u8>, Vec<u8>)>,
    /// The time was said, or it was said that it is not known, as RFC 5424 does.
    pub iso: bool,
    pub host: Option<&'a [u8]>,
    pub tag: Option<&'a [u8]>,
    pub pid: Option<&'a [u8]>,
    pub msgid: Option<&'a [u8]>,
    pub data: Option<&'a [u8]>,
    pub text: &'a [u8],
}

/// Reads the header of a message. Where it is broken, only the number in front of it is taken, and all the rest is text.
pub fn read(message: &[u8], now: SystemTime) -> Received<'_> {
    let bare = Received { text: message, ..Received::default() };
    let Some(rest) = message.strip_prefix(b"<") else { return bare };
    let digits = rest.iter().take_while(|c| c.is_ascii_digit()).count();
    let Some(after) = rest[digits..].strip_prefix(b">").filter(|_| digits < 8) else { return bare };
    // Digits only, and few.
    let pri = std::str::from_utf8(&rest[..digits]).ok().and_then(|t| t.parse().ok()).unwrap_or(0);
    let known = match after.strip_prefix(b"1 ") {
        Some(fields) => rfc5424(fields),
        None => rfc3164(after, now),
    };
    Received { pri: Some(pri), ..known.unwrap_or(Received { text: after, ..Received::default() }) }
}

fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let n = text.iter().position(|c| *c == b' ')?;
    (n > 0).then(|| (&text[..n], &text[n + 1..]))
}

fn rfc5424(text: &[u8]) -> Option<Received<'_>> {
    let absent = |w: &&[u8]| *w != b"-";
    let (time, text) = word(text)?;
    let (host, text) = word(text)?;
    let (tag, text) = word(text)?;
    let (pid, text) = word(text)?;
    let (msgid, text) = word(text)?;
    let (data, text) = if let Some(rest) = text.strip_prefix(b"-") {
        (None, rest.strip_prefix(b" ").unwrap_or(rest))
    } else {
        let n = elements(text)?;
        (Some(&text[..n]), text[n..].strip_prefix(b" ").unwrap_or(&text[n..]))
    };
    let time = match time {
        b"-" => None,
        t => Some((legacy_of(t)?, t.to_vec())),
    };
    Some(Received {
        pri: None,
        time,
        iso: true,
        host: Some(host).filter(absent),
        tag: Some(tag).filter(absent),
        pid: Some(pid).filter(absent),
        msgid: Some(msgid).filter(absent),
        data,
        text,
    })
}

/// Bytes of the elements of structured data.
fn elements(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    while text.get(at) == Some(&b'[') {
        let mut escaped = false;
        let n = text[at..].iter().position(|c| {
            let end = *c == b']' && !escaped;
            escaped = *c == b'\\' && !escaped;
            end
        })?;
        at += n + 1;
    }
    (at > 0 && matches!(text.get(at), None | Some(b' '))).then_some(at)
}

const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// `2003-10-11T22:14:15.003Z` as `Oct 11 22:14:15`
fn legacy_of(iso: &[u8]) -> Option<Vec<u8>> {
    let part = |r: std::ops::Range<usize>| std::str::from_utf8(iso.get(r)?).ok()?.parse::<usize>().ok();
    let shape = iso.len() >= 19
        && [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')].iter().all(|(i, c)| iso[*i] == *c);
    let rest = &iso[19.min(iso.len())..];
    let frac = rest.strip_prefix(b".").map_or(rest, |r| &r[r.iter().take_while(|c| c.is_ascii_digit()).count()..]);
    let zone = frac == b"Z" || frac.len() == 6 && matches!(frac[0], b'+' | b'-') && frac[3] == b':';
    let (_, month, day) = (part(0..4)?, part(5..7)?, part(8..10)?);
    let month = MONTHS.get(month.checked_sub(1)?)?;
    if !shape || !zone {
        return None;
    }
    let mut out = month.to_vec();
    out.extend_from_slice(format!(" {day:2} ").as_bytes());
    out.extend_from_slice(&iso[11..19]);
    Some(out)
}

/// `Nov  5 10:11:12` as `2026-11-05T10:11:12-00:00`: the year is this one, or the last if the month is yet to come.
fn iso_of(legacy: &[u8], now: SystemTime) -> Option<Vec<u8>> {
    let month = MONTHS.iter().position(|m| legacy.starts_with(m))? + 1;
    let shape = legacy.len() == 15 && legacy[3] == b' ' && legacy[6] == b' ' && legacy[9] == b':' && legacy[12] == b':';
    if !shape {
        return None;
    }
    let day: u32 = std::str::from_utf8(&legacy[4..6]).ok()?.trim().parse().ok()?;
    let mut today = Vec::new();
    date(now, 0, DateForm::Iso(0), &mut today);
    let part = |r: std::ops::Range<usize>| std::str::from_utf8(&today[r]).ok()?.parse::<usize>().ok();
    let year = part(0..4)? - usize::from(month > part(5..7)?);
    let time = std::str::from_utf8(&legacy[7..15]).ok()?;
    Some(format!("{year}-{month:02}-{day:02}T{time}-00:00").into_bytes())
}

/// `Nov  5 10:11:12 myhost app[77]: text`
fn rfc3164(text: &[u8], now: SystemTime) -> Option<Received<'_>> {
    let legacy = text.get(..15)?;
    let iso = iso_of(legacy, now)?;
    let (host, rest) = word(text[15..].strip_prefix(b" ")?)?;
    let mut r = Received { time: Some((legacy.to_vec(), iso)), host: Some(host), text: rest, ..Received::default() };
    // A tag ends in a colon, with a number in brackets before it or without.
    let n = rest.iter().position(|c| matches!(c, b' ' | b':' | b'[')).unwrap_or(rest.len());
    let (tag, behind) = rest.split_at(n);
    let pid = behind.strip_prefix(b"[").and_then(|p| {
        let n = p.iter().position(|c| matches!(c, b']' | b' '))?;
        p[n..].strip_prefix(b"]").map(|rest| (&p[..n], rest))
    });
    let (pid, behind) = pid.map_or((None, behind), |(p, rest)| (Some(p), rest));
    if n > 0
        && let Some(text) = behind.strip_prefix(b":")
    {
        (r.tag, r.pid, r.text) = (Some(tag), pid, text.strip_prefix(b" ").unwrap_or(text));
    }
    Some(r)
}

impl Received<'_> {
    /// The form that says all that is known, for a target that names none.
    pub fn form(&self) -> LogForm {
        match (self.host, self.tag, self.pri) {
            (Some(_), ..) if self.iso || self.time.as_ref().is_none() => LogForm::Rfc5424,
            (Some(_), ..) => LogForm::Rfc3164,
            (None, Some(_), _) => LogForm::Local,
            (None, None, Some(_)) => LogForm::Priority,
            (None, None, None) => LogForm::Raw,
        }
    }

    /// How severe it is, if it says so.
    pub fn level(&self) -> Option<u32> {
        self.pri.map(|p| p % 8)
    }

    /// What is passed on: `facility` and 0 where it says none, `host` as [`host`] made it.
    pub fn meta<'m>(&'m self, facility: u8, min_level: u8, host: Option<&'m [u8]>, now: Time<'m>) -> Meta<'m> {
        Meta {
            facility: self.pri.map_or(u32::from(facility), |p| p / 8),
            severity: self.level().unwrap_or(0).max(u32::from(min_level)),
            time: self.time.as_ref().map_or(now, |(legacy, iso)| Time::Said { legacy, iso }),
            host,
            tag: self.tag,
            pid: self.pid,
            msgid: self.msgid,
            data: self.data,
        }
    }
}

/// `option host`: the name that is passed on, where `source` is who sent the message.
pub fn host(said: Option<&[u8]>, source: Option<&str>, rule: HostName) -> Option<Vec<u8>> {
    let Some(source) = source else { return said.map(<[u8]>::to_vec) };
    match (rule, said) {
        (HostName::Replace, _) | (HostName::Fill | HostName::Append, None) => Some(source.as_bytes().to_vec()),
        (HostName::Append, Some(said)) => Some([said, b",", source.as_bytes()].concat()),
        (HostName::Fill | HostName::Keep, said) => said.map(<[u8]>::to_vec),
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame;
    use super::*;
    use std::time::Duration;

    /// 27 November 2026.
    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn passed(message: &str, form: Option<LogForm>) -> String {
        let now = NOW + Duration::from_secs(1_795_766_006);
        let r = read(message.as_bytes(), now);
        let host = host(r.host, Some("127.0.0.1"), HostName::Fill);
        let said = Received { host: host.as_deref(), ..r.clone() };
        let mut out = Vec::new();
        let meta = said.meta(23, 0, host.as_deref(), Time::At(now, 0));
        frame::event(form.unwrap_or_else(|| said.form()), &meta, said.text, 1024, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_older_form_is_passed_on_in_every_other() {
        let m = "<13>Nov  5 10:11:12 myhost app[77]: hello world";
        for (form, said) in [
            (None, m),
            (Some(LogForm::Rfc5424), "<13>1 2026-11-05T10:11:12-00:00 myhost app 77 - - hello world"),
            (Some(LogForm::Local), "<13>Nov  5 10:11:12 app[77]: hello world"),
            (Some(LogForm::Short), "<5>hello world"),
            (Some(LogForm::Iso), "2026-11-05T10:11:12-00:00 hello world"),
            (Some(LogForm::Raw), "hello world"),
        ] {
            assert_eq!(passed(m, form), said);
        }
    }

    #[test]
    fn the_newer_form_is_passed_on_in_every_other() {
        let m = r#"<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog 123 ID47 [ex@1 a="b"][y@2] msg"#;
        for (form, said) in [
            (None, m),
            (Some(LogForm::Rfc3164), "<165>Oct 11 22:14:15 mymachine.example.com evntslog[123]: msg"),
            (Some(LogForm::Timed), "<5>2003-10-11T22:14:15.003Z msg"),
        ] {
            assert_eq!(passed(m, form), said);
        }
        assert!(passed("<165>1 - - - - - - msg", None).starts_with("<165>1 2026-"));
        assert!(passed("<165>1 - - - - - - msg", None).ends_with(" 127.0.0.1 - - - - msg"));
    }

    #[test]
    fn what_has_no_header_is_text() {
        assert_eq!(passed("no prio", Some(LogForm::Short)), "<0>no prio");
        assert_eq!(passed("<999>broken", Some(LogForm::Raw)), "broken");
        assert_eq!(read(b"<13>1 2003-10-11 x y z", NOW).text, b"1 2003-10-11 x y z");
    }

    #[test]
    fn messages_are_cut_by_length_or_by_line() {
        assert_eq!(cut(b"<13>abc\n5 <13>x", false), Cut::Message(0..7, 8));
        assert_eq!(cut(b"5 <13>x", false), Cut::Message(2..7, 7));
        assert_eq!(cut(b"5 <13>", false), Cut::More);
        assert_eq!(cut(b"<13>abc\r\n", false), Cut::Message(0..7, 9));
        assert_eq!(cut(b"\n", false), Cut::Broken);
        assert_eq!(cut(b"0 x", false), Cut::Broken);
        assert_eq!(cut(b"17000 x", false), Cut::Broken);
        assert_eq!(cut(b"18446744073709551615 xx", false), Cut::Broken);
        assert_eq!(cut(b"99999999999999999999999 xx", false), Cut::Broken);
        assert_eq!(cut(b"5 <13>x\n", true), Cut::Message(0..7, 8));
        assert_eq!(cut(&[b'<'; MOST], false), Cut::Broken);
        assert_eq!(cut(&[b'<'; MOST - 1], false), Cut::More);
    }
}
