//! Headers of syslog messages (RFC 3164, RFC 5424, and HAProxy's shorter ones; configuration manual 3.1, `log`).
use crate::config::model::LogForm;
use crate::rules::logformat::{DateForm, date};
use std::time::SystemTime;

/// When it happened.
#[derive(Clone, Copy, Debug)]
pub enum Time<'a> {
    /// Now, so many seconds east of UTC.
    At(SystemTime, i32),
    /// What a received message says: as RFC 3164 writes it, and as RFC 5424 does.
    Said { legacy: &'a [u8], iso: &'a [u8] },
}

/// What a header says of a message; what is not known is left out, or is `-` where something has to stand.
#[derive(Clone, Copy, Debug)]
pub struct Meta<'a> {
    pub facility: u32,
    pub severity: u32,
    pub time: Time<'a>,
    pub host: Option<&'a [u8]>,
    pub tag: Option<&'a [u8]>,
    pub pid: Option<&'a [u8]>,
    pub msgid: Option<&'a [u8]>,
    /// Structured data of RFC 5424.
    pub data: Option<&'a [u8]>,
}

/// Appends header and message in at most `most` bytes, the line's end included.
pub fn line(form: LogForm, m: &Meta<'_>, message: &[u8], most: usize, out: &mut Vec<u8>) {
    let start = out.len();
    event(form, m, message, most.saturating_sub(1), out);
    debug_assert!(out.len() - start < most.max(1));
    out.push(b'\n');
}

/// Appends header and message in at most `most` bytes, without an end.
pub fn event(form: LogForm, m: &Meta<'_>, message: &[u8], most: usize, out: &mut Vec<u8>) {
    let start = out.len();
    header(form, m, out);
    let end = message.iter().rposition(|c| !matches!(c, b'\n' | 0)).map_or(0, |i| i + 1);
    out.extend_from_slice(&message[..end]);
    out.truncate(start + most);
}

fn header(form: LogForm, m: &Meta<'_>, out: &mut Vec<u8>) {
    use std::io::Write as _;
    let pri = m.facility * 8 + m.severity;
    let time = |legacy: bool, out: &mut Vec<u8>| match m.time {
        Time::At(at, offset) => date(at, offset, if legacy { DateForm::Syslog } else { DateForm::Iso(offset) }, out),
        Time::Said { legacy: said, .. } if legacy => out.extend_from_slice(said),
        Time::Said { iso, .. } => out.extend_from_slice(iso),
    };
    // Writing to a Vec cannot fail.
    match form {
        LogForm::Raw => {}
        LogForm::Local | LogForm::Rfc3164 => {
            let _ = write!(out, "<{pri}>");
            time(true, out);
            out.push(b' ');
            if form == LogForm::Rfc3164 {
                out.extend_from_slice(m.host.unwrap_or(b"localhost"));
                out.push(b' ');
            }
            if let Some(tag) = m.tag {
                out.extend_from_slice(tag);
                if let Some(pid) = m.pid {
                    out.push(b'[');
                    out.extend_from_slice(pid);
                    out.push(b']');
                }
                out.extend_from_slice(b": ");
            }
        }
        LogForm::Rfc5424 => {
            let _ = write!(out, "<{pri}>1 ");
            time(false, out);
            for field in [m.host, m.tag, m.pid, m.msgid] {
                out.push(b' ');
                out.extend_from_slice(field.filter(|f| !f.is_empty()).unwrap_or(b"-"));
            }
            out.push(b' ');
            let data = m.data.map_or(&b"-"[..], <[u8]>::trim_ascii_end);
            out.extend_from_slice(if data.is_empty() { b"-" } else { data });
            out.push(b' ');
        }
        LogForm::Priority => drop(write!(out, "<{pri}>")),
        LogForm::Short => drop(write!(out, "<{}>", m.severity)),
        LogForm::Timed | LogForm::Iso => {
            if form == LogForm::Timed {
                let _ = write!(out, "<{}>", m.severity);
            }
            time(false, out);
            out.push(b' ');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(form: LogForm, m: &Meta<'_>, message: &str, most: usize) -> String {
        let mut out = Vec::new();
        line(form, m, message.as_bytes(), most, &mut out);
        String::from_utf8(out).unwrap()
    }

    const SAID: Meta<'static> = Meta {
        facility: 16,
        severity: 6,
        time: Time::Said { legacy: b"Nov 27 01:16:58", iso: b"2026-11-27T01:16:58.446004+00:00" },
        host: None,
        tag: Some(b"haproxy"),
        pid: Some(b"29015"),
        msgid: None,
        data: None,
    };

    #[test]
    fn every_header() {
        for (form, said) in [
            (LogForm::Local, "<134>Nov 27 01:16:58 haproxy[29015]: MSG\n"),
            (LogForm::Rfc3164, "<134>Nov 27 01:16:58 localhost haproxy[29015]: MSG\n"),
            (LogForm::Rfc5424, "<134>1 2026-11-27T01:16:58.446004+00:00 - haproxy 29015 - - MSG\n"),
            (LogForm::Priority, "<134>MSG\n"),
            (LogForm::Short, "<6>MSG\n"),
            (LogForm::Timed, "<6>2026-11-27T01:16:58.446004+00:00 MSG\n"),
            (LogForm::Iso, "2026-11-27T01:16:58.446004+00:00 MSG\n"),
            (LogForm::Raw, "MSG\n"),
        ] {
            assert_eq!(shown(form, &SAID, "MSG\n", 1024), said);
        }
    }

    #[test]
    fn a_line_ends_within_its_length() {
        let long = "x".repeat(200);
        let line = shown(LogForm::Local, &SAID, &long, 80);
        assert_eq!((line.len(), line.ends_with("xx\n")), (80, true));
    }
}
