//! Checks that speak a server's own protocol (configuration manual, `option redis-check` and its like): bytes in, bytes and a verdict out.

use super::found::Found;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialect {
    Redis,
    Mysql {
        user: Option<String>,
        /// The login packet of servers before 4.1.
        pre_41: bool,
    },
    Pgsql {
        user: String,
    },
    /// The greeting, such as `HELO localhost`.
    Smtp(String),
    Ldap,
    Spop,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Send(Vec<u8>),
    /// More bytes are needed.
    Read,
    Done(Found),
}

/// One conversation.
pub struct Talk<'a> {
    dialect: &'a Dialect,
    step: u8,
    /// What the server said of itself.
    greeting: String,
}

/// An anonymous simple bind of LDAPv3 (RFC 4511, 4.2).
const LDAP_BIND: &[u8] = b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00";
const MYSQL_QUIT: &[u8] = b"\x01\0\0\0\x01";

impl<'a> Talk<'a> {
    pub fn new(dialect: &'a Dialect) -> Self {
        Self { dialect, step: 0, greeting: String::new() }
    }

    /// Goes on with what came in; what is used of `seen` is taken off. `closed`: nothing more will come.
    pub fn go_on(&mut self, seen: &mut Vec<u8>, closed: bool) -> Next {
        let next = match self.dialect {
            Dialect::Redis => self.redis(seen),
            Dialect::Mysql { user, pre_41 } => self.mysql(seen, user.as_deref(), *pre_41),
            Dialect::Pgsql { user } => self.pgsql(seen, user),
            Dialect::Smtp(greeting) => self.smtp(seen, greeting),
            Dialect::Ldap => self.ldap(seen),
            Dialect::Spop => self.spop(seen),
        };
        if next == Next::Read && closed {
            let text = String::from_utf8_lossy(seen.trim_ascii_end()).into_owned();
            let (status, info) = match self.dialect {
                Dialect::Pgsql { .. } if !seen.is_empty() => ("L7STS", "PostgreSQL unknown error".to_owned()),
                Dialect::Spop => ("L7RSP", "invalid frame received".to_owned()),
                Dialect::Ldap => ("L7RSP", "Not LDAPv3 protocol".to_owned()),
                _ => ("L7RSP", text),
            };
            return Next::Done(Found::new(status, 0, info));
        }
        next
    }

    /// The first step of who speaks first.
    fn first(&mut self) -> bool {
        let first = self.step == 0;
        self.step = self.step.max(1);
        first
    }

    fn redis(&mut self, seen: &[u8]) -> Next {
        if self.first() {
            return Next::Send(b"*1\r\n$4\r\nPING\r\n".to_vec());
        }
        let Some(end) = seen.iter().position(|c| *c == b'\n') else { return Next::Read };
        Next::Done(match &seen[..end] {
            b"+PONG\r" => Found::new("L7OK", 0, "Redis server is ok"),
            other => Found::new("L7STS", 0, String::from_utf8_lossy(other.trim_ascii_end())),
        })
    }

    fn mysql(&mut self, seen: &mut Vec<u8>, user: Option<&str>, pre_41: bool) -> Next {
        // The login is sent at once: what stands between may want to see it before it connects.
        if self.first()
            && let Some(user) = user
        {
            return Next::Send(mysql_login(user, pre_41));
        }
        let Some([a, b, c, _]) = seen.first_chunk::<4>() else { return Next::Read };
        let len = usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16;
        if len == 0 || len > 64 * 1024 {
            return Next::Done(Found::new("L7RSP", 0, "MySQL : malformed packet"));
        }
        // The last packet of a refusal may be shorter than it says.
        if seen.len() < 4 + len && !(seen.get(4) == Some(&0xff) && seen.len() > 7) {
            return Next::Read;
        }
        let end = seen.len().min(4 + len);
        let packet: Vec<u8> = seen.drain(..end).skip(4).collect();
        if packet[0] == 0xff {
            let code = packet.get(1..3).map(|c| u16::from_le_bytes([c[0], c[1]]));
            let text = String::from_utf8_lossy(packet.get(3..).unwrap_or_default()).trim_end_matches('\0').to_owned();
            return Next::Done(Found::new("L7STS", code.map_or(0, i32::from), text));
        }
        let ok = |greeting: &str| Next::Done(Found::new("L7OK", 0, greeting));
        if self.step >= 2 {
            return ok(&self.greeting);
        }
        let version = packet[1..].split(|c| *c == 0).next().unwrap_or_default();
        self.greeting = String::from_utf8_lossy(version).into_owned();
        if user.is_none() {
            return ok(&self.greeting);
        }
        self.step = 2;
        // What follows may be here already.
        if seen.is_empty() { Next::Read } else { self.mysql(seen, user, pre_41) }
    }

    fn pgsql(&mut self, seen: &[u8], user: &str) -> Next {
        if self.first() {
            let mut out = b"\0\x03\0\0user\0".to_vec();
            out.extend_from_slice(user.as_bytes());
            out.extend_from_slice(&[0, 0]);
            let len = u32::try_from(out.len() + 4).unwrap_or(0);
            return Next::Send([&len.to_be_bytes()[..], &out].concat());
        }
        let [kind, ..] = seen else { return Next::Read };
        match kind {
            b'R' | b'E' if seen.len() < 6 => Next::Read,
            b'R' => Next::Done(Found::new("L7OK", 0, "PostgreSQL server is ok")),
            b'E' => {
                let Some(end) = seen[6..].iter().position(|c| *c == 0) else { return Next::Read };
                Next::Done(Found::new("L7RSP", 0, String::from_utf8_lossy(&seen[6..6 + end])))
            }
            _ => Next::Done(Found::new("L7STS", 0, "PostgreSQL unknown error")),
        }
    }

    fn smtp(&mut self, seen: &mut Vec<u8>, greeting: &str) -> Next {
        loop {
            let Some(end) = seen.iter().position(|c| *c == b'\n') else { return Next::Read };
            let line: Vec<u8> = seen.drain(..=end).collect();
            let text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
            let digits = text.bytes().take(3).filter(u8::is_ascii_digit).count() == 3;
            let Some(code) = digits.then(|| text[..3].parse::<u16>().ok()).flatten() else {
                return Next::Done(Found::new("L7RSP", 0, text));
            };
            if text.as_bytes().get(3) == Some(&b'-') {
                continue;
            }
            let rest = text.get(4..).unwrap_or_default();
            if code / 100 != 2 {
                return Next::Done(Found::new("L7STS", i32::from(code), rest));
            }
            self.step += 1;
            return match self.step {
                1 => Next::Send(format!("{greeting}\r\n").into_bytes()),
                2 => Next::Send(b"QUIT\r\n".to_vec()),
                _ => Next::Done(Found::new("L7OK", i32::from(code), rest)),
            };
        }
    }

    fn ldap(&mut self, seen: &[u8]) -> Next {
        if self.first() {
            return Next::Send(LDAP_BIND.to_vec());
        }
        let no = || Next::Done(Found::new("L7RSP", 0, "Not LDAPv3 protocol"));
        // Tag, length (BER, both forms), message number, then the bind response.
        let length = |at: usize| -> Option<usize> {
            let b = *seen.get(at)?;
            Some(at + 1 + if b & 0x80 == 0 { 0 } else { usize::from(b & 0x7f) })
        };
        if seen.first().is_some_and(|b| *b != 0x30) {
            return no();
        }
        let Some(at) = length(1) else { return Next::Read };
        match seen.get(at..at + 4) {
            None => return Next::Read,
            Some([2, 1, 1, 0x61]) => {}
            Some(_) => return no(),
        }
        let Some(at) = length(at + 4) else { return Next::Read };
        match seen.get(at..at + 3) {
            None => Next::Read,
            Some([0x0a, 1, 0]) => Next::Done(Found::new("L7OK", 0, "Success")),
            Some([0x0a, 1, code]) => Next::Done(Found::new(
                "L7STS",
                i32::from(*code),
                "See RFC: http://tools.ietf.org/html/rfc4511#section-4.1.9",
            )),
            Some(_) => no(),
        }
    }

    fn spop(&mut self, seen: &[u8]) -> Next {
        if self.first() {
            return Next::Send(spop_hello());
        }
        let bad = |info: &str| Next::Done(Found::new("L7RSP", 0, info));
        let Some(len) = seen.first_chunk::<4>() else { return Next::Read };
        let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
        if !(7..=64 * 1024).contains(&len) {
            return bad("invalid frame received");
        }
        let Some(frame) = seen.get(4..4 + len) else { return Next::Read };
        // An agent's hello or its good-bye, in one piece, for no stream.
        if !matches!(frame[0], 101 | 102) || frame[1..7] != [0, 0, 0, 1, 0, 0] {
            return bad("invalid frame received");
        }
        let mut rest = &frame[7..];
        let (mut version, mut size, mut capabilities) = (false, false, false);
        while !rest.is_empty() {
            let Some((name, value, after)) = spop_pair(rest) else { return bad("invalid frame received") };
            match (name, value) {
                (b"version", SpopValue::Text(v)) if v.trim_ascii() == b"2.0" => version = true,
                (b"version", SpopValue::Text(_)) => return bad("unsupported version"),
                (b"max-frame-size", SpopValue::Number(n)) if (256..=MAX_SPOP_FRAME).contains(&n) => size = true,
                (b"max-frame-size", SpopValue::Number(_)) => return bad("max-frame-size too big or too small"),
                (b"capabilities", SpopValue::Text(_)) => capabilities = true,
                (b"version" | b"max-frame-size" | b"capabilities", _) => return bad("invalid frame received"),
                _ => {}
            }
            rest = after;
        }
        if !version {
            return bad("version value not found");
        }
        if !size {
            return bad("max-frame-size value not found");
        }
        if !capabilities {
            return bad("capabilities value not found");
        }
        Next::Done(Found::new("L7OK", 0, "SPOA server is ok"))
    }
}

/// The login packet without a password, and the word that ends the session.
fn mysql_login(user: &str, pre_41: bool) -> Vec<u8> {
    let mut login = Vec::new();
    if pre_41 {
        // Capabilities, the largest packet, the name, no password.
        login.extend_from_slice(&[0x00, 0x80, 0x00, 0x00, 0x01]);
    } else {
        // Capabilities (4.1's protocol, secure connection), the largest packet, UTF-8, and what is reserved.
        login.extend_from_slice(&[0x00, 0x82, 0x00, 0x00, 0x00, 0x80, 0x00, 0x01, 0x21]);
        login.extend_from_slice(&[0; 23]);
    }
    login.extend_from_slice(user.as_bytes());
    login.extend_from_slice(&[0, 0]);
    let mut out = vec![u8::try_from(login.len()).unwrap_or(u8::MAX), 0, 0, 1];
    out.extend_from_slice(&login);
    out.extend_from_slice(MYSQL_QUIT);
    out
}

/// The hello of a check (SPOE.txt, 3.2.4).
fn spop_hello() -> Vec<u8> {
    let mut f = vec![1, 0, 0, 0, 1, 0, 0];
    let mut pair = |name: &str, value: &[u8]| {
        f.push(u8::try_from(name.len()).unwrap_or(0));
        f.extend_from_slice(name.as_bytes());
        f.extend_from_slice(value);
    };
    pair("supported-versions", b"\x08\x032.0");
    // 16380 in SPOP's integers.
    pair("max-frame-size", b"\x03\xfc\xf0\x06");
    pair("capabilities", b"\x08\x00");
    pair("healthcheck", b"\x11");
    let len = u32::try_from(f.len()).unwrap_or(0);
    [&len.to_be_bytes()[..], &f].concat()
}

/// A value of a list, as far as anything here asks for it.
enum SpopValue<'a> {
    Text(&'a [u8]),
    Number(usize),
    Other,
}

/// The largest frame that fits into a buffer, as HAProxy has them.
const MAX_SPOP_FRAME: usize = 16_380;

/// A name and a value of a list, and what follows.
fn spop_pair(bytes: &[u8]) -> Option<(&[u8], SpopValue<'_>, &[u8])> {
    let (n, rest) = spop_int(bytes)?;
    let (name, rest) = rest.split_at_checked(n)?;
    let (kind, rest) = rest.split_first()?;
    Some(match kind & 0x0f {
        0 | 1 => (name, SpopValue::Other, rest),
        2..=5 => {
            let (n, rest) = spop_int(rest)?;
            (name, SpopValue::Number(n), rest)
        }
        6 => (name, SpopValue::Other, rest.get(4..)?),
        7 => (name, SpopValue::Other, rest.get(16..)?),
        8 => {
            let (n, rest) = spop_int(rest)?;
            let (value, rest) = rest.split_at_checked(n)?;
            (name, SpopValue::Text(value), rest)
        }
        9 => {
            let (n, rest) = spop_int(rest)?;
            (name, SpopValue::Other, rest.get(n..)?)
        }
        _ => return None,
    })
}

/// An integer of variable length: below 240 one byte, then seven bits a byte.
fn spop_int(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (first, mut rest) = bytes.split_first()?;
    let mut n = usize::from(*first);
    if *first < 240 {
        return Some((n, rest));
    }
    let mut shift = 4;
    loop {
        let (b, after) = rest.split_first()?;
        rest = after;
        n = n.checked_add(usize::from(*b).checked_shl(shift)?)?;
        shift += 7;
        if *b < 128 {
            return Some((n, rest));
        }
        if shift > 32 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a conversation: what the server says after each of our messages. The verdict, and what was sent.
    fn talk(dialect: &Dialect, server: &[&[u8]]) -> (Found, Vec<u8>) {
        let (mut t, mut seen, mut sent) = (Talk::new(dialect), Vec::new(), Vec::new());
        let mut server = server.iter();
        for _ in 0..20 {
            match t.go_on(&mut seen, false) {
                Next::Send(b) => sent.extend(b),
                Next::Done(v) => return (v, sent),
                Next::Read => match server.next() {
                    Some(b) => seen.extend_from_slice(b),
                    None => match t.go_on(&mut seen, true) {
                        Next::Done(v) => return (v, sent),
                        n => panic!("{n:?}"),
                    },
                },
            }
        }
        panic!("no end");
    }

    fn said(dialect: &Dialect, server: &[&[u8]]) -> (&'static str, Option<i32>, String) {
        let v = talk(dialect, server).0;
        (v.status, v.code, v.info)
    }

    #[test]
    fn redis_and_smtp() {
        assert_eq!(said(&Dialect::Redis, &[b"+PO", b"NG\r\n"]), ("L7OK", Some(0), "Redis server is ok".into()));
        assert_eq!(said(&Dialect::Redis, &[b"-ERR x\r\n"]), ("L7STS", Some(0), "-ERR x".into()));
        let smtp = Dialect::Smtp("EHLO a.b".into());
        let (v, sent) = talk(&smtp, &[b"220 hi\r\n", b"250-a\r\n250-b\r\n", b"250 c\r\n", b"221 bye\r\n"]);
        assert_eq!((v.status, v.code, &v.info[..]), ("L7OK", Some(221), "bye"));
        assert_eq!(sent, b"EHLO a.b\r\nQUIT\r\n");
        assert_eq!(said(&smtp, &[b"hello\r\n"]), ("L7RSP", None, "hello".into()));
        assert_eq!(said(&smtp, &[b"421 later\r\n"]), ("L7STS", Some(421), "later".into()));
    }

    #[test]
    fn mysql() {
        let hello = b"\x0f\0\0\0\x0a8.0.19\0\x0a\0\0\0ab\0";
        let user = |pre_41| Dialect::Mysql { user: Some("user".into()), pre_41 };
        assert_eq!(said(&Dialect::Mysql { user: None, pre_41: false }, &[hello]), ("L7OK", Some(0), "8.0.19".into()));
        let (v, sent) = talk(&user(true), &[hello, b"\x03\0\0\x02\0\0\0"]);
        assert_eq!(v.status, "L7OK");
        assert_eq!(sent, b"\x0b\0\0\x01\x00\x80\0\0\x01user\0\0\x01\0\0\0\x01");
        let (v, sent) = talk(&user(false), &[hello, b"\x05\0\0\x02\xff\xe3\x04no"]);
        assert_eq!((v.status, v.code, &v.info[..]), ("L7STS", Some(1251), "no"));
        assert_eq!(sent.len(), 47);
        assert_eq!(said(&user(true), &[b"\0\0\0\0"]).0, "L7RSP");
    }

    #[test]
    fn pgsql_ldap_spop() {
        let pg = Dialect::Pgsql { user: "postgres".into() };
        let (v, sent) = talk(&pg, &[b"R\0\0\0\x08\0\0\0\0"]);
        assert!(v.status == "L7OK" && sent.len() == 23 && sent.starts_with(b"\0\0\0\x17\0\x03\0\0user\0"));
        assert_eq!(said(&pg, &[b"E\0\0\0\x0bSFATAL\0"]), ("L7RSP", None, "FATAL".into()));
        assert_eq!(said(&pg, &[b"Not"]), ("L7STS", Some(0), "PostgreSQL unknown error".into()));
        let ldap = |b: &[u8]| said(&Dialect::Ldap, &[b]);
        assert_eq!(ldap(b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\0\x04\0").0, "L7OK");
        assert_eq!(ldap(b"\x30\x84\0\0\0\x10\x02\x01\x01\x61\x84\0\0\0\x07\x0a\x01\x00\x04\0").0, "L7OK");
        assert_eq!(ldap(b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x01\x04\0\x04\0").1, Some(1));
        assert_eq!(ldap(b"\x30\x0c\x02\x01\x01\x60\x07\x0a\x01\x00\x04\0\x04\0").2, "Not LDAPv3 protocol");
        assert_eq!(spop_hello().len(), 82);
        let spop = |b: &[u8]| said(&Dialect::Spop, &[b]);
        let hello = |v: &str| {
            [
                b"e\0\0\0\x01\0\0\x07version\x08\x03",
                v.as_bytes(),
                b"\x0emax-frame-size\x03\xfc\xf0\x06\x0ccapabilities\x08\0",
            ]
            .concat()
        };
        let framed = |f: Vec<u8>| [&u32::try_from(f.len()).unwrap().to_be_bytes()[..], &f].concat();
        assert_eq!(spop(&framed(hello("2.0"))).2, "SPOA server is ok");
        assert_eq!(spop(&framed(hello("2.1"))).2, "unsupported version");
        assert_eq!(spop(b"\0\0\0\x14e\0\0\0\x01\0\0\x07version\x08\x032.0").2, "max-frame-size value not found");
        assert_eq!(spop(b"\0\0\0\x07f\0\0\0\x01\0\0").2, "version value not found");
        assert_eq!(spop(b"\0\0\0\x14e\0\0\0\x01\0\0\x07version\x08\x031.0").2, "unsupported version");
        assert_eq!(spop(b"\0\0\0\0").2, "invalid frame received");
        assert_eq!(spop(b"\0\0\0\x07e\0\0\0\0\0\0").2, "invalid frame received");
    }

    #[test]
    fn no_input_panics() {
        let all = [
            Dialect::Redis,
            Dialect::Mysql { user: Some("u".into()), pre_41: true },
            Dialect::Pgsql { user: "u".into() },
            Dialect::Smtp("HELO x".into()),
            Dialect::Ldap,
            Dialect::Spop,
        ];
        let mut n = 1u32;
        for _ in 0..20_000 {
            for d in &all {
                let mut t = Talk::new(d);
                let mut seen = Vec::new();
                for _ in 0..3 {
                    n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    seen.extend(
                        n.to_be_bytes()
                            .iter()
                            .take(1 + n as usize % 4)
                            .map(|b| if n.is_multiple_of(3) { b & 3 } else { *b }),
                    );
                    drop(t.go_on(&mut seen, n.is_multiple_of(5)));
                }
            }
        }
    }
}
