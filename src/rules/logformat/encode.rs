//! JSON and CBOR (RFC 8949) as log formats write them (configuration manual 8.2.5, `json`, `cbor`).
//!
//! HAProxy's JSON escapes quotes and backslashes only, and its CBOR is of indefinite maps, so that nothing has to be counted beforehand: these are
//! formats of logs, which no library writes just so.
use std::borrow::Cow;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Codec {
    Cbor,
    Json,
}

/// A value to be written.
pub enum Datum<'a> {
    /// There was none.
    Missing,
    /// There can be none.
    Null,
    Bool(bool),
    Int(i64),
    Text(Cow<'a, [u8]>),
    /// Text in which `#XX` stands for bytes, and `{`, `|`, `}`, `~` between parts: each is a chunk of its own in CBOR.
    Pieces(&'a [u8]),
    List(Vec<Vec<u8>>),
}

pub struct Writer<'o> {
    pub out: &'o mut Vec<u8>,
    pub codec: Codec,
    /// CBOR as it is, not as hexadecimal digits.
    pub bin: bool,
}

// Major types and values of RFC 8949, section 3.
const TEXT: u8 = 3 << 5;
const INDEFINITE: u8 = 31;
const MAP: u8 = 5 << 5;
const ARRAY: u8 = 4 << 5;
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const NULL: u8 = 0xf6;
const BREAK: u8 = 0xff;

impl Writer<'_> {
    /// Begins the map of everything.
    pub fn open(&mut self) {
        match self.codec {
            Codec::Json => self.out.push(b'{'),
            Codec::Cbor => self.bytes(&[MAP | INDEFINITE]),
        }
    }

    pub fn close(&mut self) {
        match self.codec {
            Codec::Json => self.out.push(b'}'),
            Codec::Cbor => self.bytes(&[BREAK]),
        }
    }

    pub fn key(&mut self, name: &str, first: bool) {
        match self.codec {
            Codec::Json => {
                if !first {
                    self.out.extend_from_slice(b", ");
                }
                self.json_text(name.as_bytes());
                self.out.extend_from_slice(b": ");
            }
            Codec::Cbor => self.cbor_text(name.as_bytes()),
        }
    }

    pub fn put(&mut self, d: &Datum<'_>) {
        use std::io::Write as _;
        match (self.codec, d) {
            (Codec::Json, Datum::Missing) => self.out.extend_from_slice(b"\"\""),
            (Codec::Json, Datum::Null) => self.out.extend_from_slice(b"null"),
            (Codec::Json, Datum::Bool(b)) => self.out.extend_from_slice(if *b { b"true" } else { b"false" }),
            // Writing to a Vec cannot fail.
            (Codec::Json, Datum::Int(n)) => drop(write!(self.out, "{n}")),
            (Codec::Json, Datum::Text(t)) => self.json_text(t),
            (Codec::Json, Datum::Pieces(t)) => self.json_text(t),
            (Codec::Json, Datum::List(parts)) => {
                self.out.push(b'[');
                for (i, p) in parts.iter().enumerate() {
                    if i > 0 {
                        self.out.extend_from_slice(b", ");
                    }
                    self.json_text(p);
                }
                self.out.push(b']');
            }
            (Codec::Cbor, Datum::Missing | Datum::Null) => self.bytes(&[NULL]),
            (Codec::Cbor, Datum::Bool(b)) => self.bytes(&[if *b { TRUE } else { FALSE }]),
            (Codec::Cbor, Datum::Int(n)) => match u64::try_from(*n) {
                Ok(n) => self.head(0, n),
                Err(_) => self.head(1 << 5, n.unsigned_abs() - 1),
            },
            (Codec::Cbor, Datum::Text(t)) => self.cbor_text(t),
            (Codec::Cbor, Datum::Pieces(t)) => {
                self.bytes(&[TEXT | INDEFINITE]);
                for chunk in chunks(t) {
                    self.cbor_text(chunk);
                }
                self.bytes(&[BREAK]);
            }
            (Codec::Cbor, Datum::List(parts)) => {
                self.bytes(&[ARRAY | INDEFINITE]);
                for p in parts {
                    self.cbor_text(p);
                }
                self.bytes(&[BREAK]);
            }
        }
    }

    fn json_text(&mut self, text: &[u8]) {
        self.out.push(b'"');
        for &c in text {
            if matches!(c, b'"' | b'\\') {
                self.out.push(b'\\');
            }
            self.out.push(c);
        }
        self.out.push(b'"');
    }

    fn cbor_text(&mut self, text: &[u8]) {
        self.head(TEXT, text.len() as u64);
        self.bytes(text);
    }

    /// A major type with its number, in as few bytes as it takes (RFC 8949, 3).
    fn head(&mut self, major: u8, n: u64) {
        let be = n.to_be_bytes();
        let (info, len) = match n {
            0..24 => (be[7], 0),
            24..0x100 => (24, 1),
            0x100..0x1_0000 => (25, 2),
            0x1_0000..0x1_0000_0000 => (26, 4),
            _ => (27, 8),
        };
        self.bytes(&[major | info]);
        self.bytes(&be[8 - len..]);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        use std::io::Write as _;
        if self.bin {
            return self.out.extend_from_slice(bytes);
        }
        for b in bytes {
            // Writing to a Vec cannot fail.
            let _ = write!(self.out, "{b:02X}");
        }
    }
}

/// Text between escapes and separators, and each of these.
fn chunks(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let n = match text.first()? {
            b'#' => 3.min(text.len()),
            b'{' | b'|' | b'}' | b'~' => 1,
            _ => text.iter().position(|c| b"#{|}~".contains(c)).unwrap_or(text.len()),
        };
        let (chunk, rest) = text.split_at(n);
        text = rest;
        Some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cbor(d: &Datum<'_>) -> String {
        let mut out = Vec::new();
        Writer { out: &mut out, codec: Codec::Cbor, bin: false }.put(d);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_take_as_few_bytes_as_they_can() {
        for (n, hex) in [(0, "00"), (23, "17"), (200, "18C8"), (300, "19012C"), (-500, "3901F3"), (-1, "20")] {
            assert_eq!(cbor(&Datum::Int(n)), hex);
        }
        assert_eq!(cbor(&Datum::Int(5_000_000_000)), "1B000000012A05F200");
    }

    #[test]
    fn pieces_are_chunks() {
        assert_eq!(cbor(&Datum::Pieces(b"q#22w")), "7F617163233232617 7FF".replace(' ', ""));
        assert_eq!(cbor(&Datum::Text(b"127.0.0.1"[..].into())), "693132372E302E302E31");
        assert_eq!(cbor(&Datum::List(vec![b"a".to_vec()])), "9F6161FF");
        assert_eq!(cbor(&Datum::Missing), "F6");
    }

    #[test]
    fn json_escapes_quotes_and_backslashes() {
        let mut out = Vec::new();
        let mut w = Writer { out: &mut out, codec: Codec::Json, bin: false };
        w.open();
        w.key("a", true);
        w.put(&Datum::Text(br#"q"w\e"#[..].into()));
        w.key("b", false);
        w.put(&Datum::List(vec![b"x".to_vec(), b"-".to_vec()]));
        w.key("c", false);
        w.put(&Datum::Null);
        w.close();
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"a": "q\"w\\e", "b": ["x", "-"], "c": null}"#);
    }
}
