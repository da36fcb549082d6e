//! Log-format strings (configuration manual 8.2): compiled to a list of operations, rendered into a reused buffer.
mod alias;
mod date;
mod encode;

pub use self::alias::{Record, Stage, Times};
pub use self::date::{DateForm, date};
pub use self::encode::Codec;

use self::alias::{ALIASES, Class, Row};
use self::encode::{Datum, Writer};
use super::sample::{Expr, ExprError, KnownNames, Sample, Scope, Traffic};

pub const HTTPLOG: &str =
    "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r";
pub const TCPLOG: &str = "%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq";
pub const CLF: &str = "%{+Q}o %{-Q}ci - - [%trg] %r %ST %B \"\" \"\" %cp %ms %ft %b %s %TR %Tw %Tc %Tr %Ta %tsc %ac %fc %bc %sc %rc %sq %bq %CC %CS %hrl %hsl";

/// The moments of an exchange at which a line can be written (`log-steps`, `on` in a `log-profile`, `%OG`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    TcpReqConn,
    TcpReqSess,
    Accept,
    TcpReqCont,
    Request,
    HttpReq,
    Connect,
    TcpResCont,
    HttpRes,
    HttpAfterRes,
    Response,
    Close,
    /// There was no request.
    Error,
    /// The connection ended before there was a session.
    Killed,
}

impl Step {
    /// The words of `log-steps`.
    pub const STEPS: [(&'static str, Self); 12] = [
        ("accept", Self::Accept),
        ("request", Self::Request),
        ("connect", Self::Connect),
        ("response", Self::Response),
        ("close", Self::Close),
        ("tcp-req-conn", Self::TcpReqConn),
        ("tcp-req-sess", Self::TcpReqSess),
        ("tcp-req-cont", Self::TcpReqCont),
        ("tcp-res-cont", Self::TcpResCont),
        ("http-req", Self::HttpReq),
        ("http-res", Self::HttpRes),
        ("http-after-res", Self::HttpAfterRes),
    ];

    /// What `%OG` writes.
    pub fn origin(self) -> &'static str {
        match self {
            Self::TcpReqConn => "tcp-req-conn",
            Self::TcpReqSess => "tcp-req-sess",
            Self::Accept => "txn_accept",
            Self::TcpReqCont => "tcp-req-cont",
            Self::Request => "txn_request",
            Self::HttpReq => "http-req",
            Self::Connect => "txn_connect",
            Self::TcpResCont => "tcp-res-cont",
            Self::HttpRes => "http-res",
            Self::HttpAfterRes => "http-after-res",
            Self::Response => "txn_response",
            Self::Close => "txn_close",
            Self::Error => "sess_error",
            Self::Killed => "sess_killed",
        }
    }
}

/// A set of [`Step`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps(u16);

impl Steps {
    pub const ALL: Self = Self(u16::MAX);
    pub fn add(&mut self, s: Step) {
        self.0 |= 1 << s as u16;
    }
    pub fn has(self, s: Step) -> bool {
        self.0 & (1 << s as u16) != 0
    }
}

/// What stands in braces before an item, with a plus or a minus sign.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
struct Flags {
    /// `Q`
    quote: bool,
    /// `X`: addresses, ports and some numbers as hexadecimal digits.
    hex: bool,
    /// `M`: `-` where there is nothing.
    mandatory: bool,
    /// `E`: what RFC 5424 wants in structured data.
    escape: bool,
    /// `bin`: binary values as they are.
    bin: bool,
    /// `json`, `cbor`
    codec: Option<Codec>,
}

/// The type that `%(name:type)` wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Str,
    Int,
    Bool,
    Raw,
}

const TYPES: [(&str, Type); 4] = [("str", Type::Str), ("sint", Type::Int), ("bool", Type::Bool), ("raw", Type::Raw)];

#[derive(Clone, Debug)]
enum Value {
    Alias(&'static Row),
    Sample(Box<Expr>),
}

#[derive(Clone, Debug)]
struct Item {
    value: Value,
    flags: Flags,
    /// What encodings call it; nothing if it has no name.
    name: Box<str>,
    wanted: Option<Type>,
}

#[derive(Clone, Debug)]
enum Op {
    Text(Vec<u8>),
    Item(Item),
}

#[derive(Clone, Debug)]
pub struct LogFormat {
    ops: Vec<Op>,
    /// The whole is one value of this encoding.
    codec: Option<Codec>,
    bin: bool,
    /// Runs of blanks are one, and there is none at the beginning.
    merge: bool,
    stage: Stage,
}

impl LogFormat {
    /// Compiles a format of a header, a variable or a body.
    pub fn parse(text: &str, scope: Scope, known: &KnownNames<'_>) -> Result<Self, ExprError> {
        Self::compile(text, scope, known, Flags::default(), false)
    }

    /// Compiles a format of a line: blanks that follow one another are one, and where there is nothing stands `-`.
    pub fn line(text: &str, scope: Scope, known: &KnownNames<'_>) -> Result<Self, ExprError> {
        Self::compile(text, scope, known, Flags { mandatory: true, ..Flags::default() }, true)
    }

    /// Compiles `unique-id-format`: as a line, but nothing stands where there is nothing.
    pub fn unique(text: &str, scope: Scope, known: &KnownNames<'_>) -> Result<Self, ExprError> {
        Self::compile(text, scope, known, Flags::default(), true)
    }

    fn compile(
        text: &str,
        scope: Scope,
        known: &KnownNames<'_>,
        mut default: Flags,
        merge: bool,
    ) -> Result<Self, ExprError> {
        let bad = |m: String| Err(ExprError::Bad(m));
        let mut ops: Vec<Op> = Vec::new();
        let mut lit: Vec<u8> = Vec::new();
        let (mut codec, mut bin, mut stage) = (None, false, Stage::Request);
        let mut rest = text;
        let put = |bytes: &[u8], lit: &mut Vec<u8>| {
            for c in bytes {
                if !(merge && *c == b' ' && lit.last() == Some(&b' ')) {
                    lit.push(*c);
                }
            }
        };
        while let Some(at) = rest.find('%') {
            put(&rest.as_bytes()[..at], &mut lit);
            rest = &rest[at + 1..];
            if let Some(r) = rest.strip_prefix('%') {
                lit.push(b'%');
                rest = r;
                continue;
            }
            let (mut name, mut wanted) = ("", None);
            if let Some(r) = rest.strip_prefix('(') {
                let Some(end) = r.find(')') else { return bad(format!("missing ')' in log format '{text}'")) };
                let (n, kind) = r[..end].split_once(':').map_or((&r[..end], ""), |(n, k)| (n, k));
                if let Some(c) = n.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))) {
                    return bad(format!("character '{c}' is not permitted in the name of an item in '{text}'"));
                }
                wanted = TYPES.iter().find(|t| t.0 == kind).map(|t| t.1);
                if wanted.is_none() && !kind.is_empty() {
                    return bad(format!("unexpected output type '{kind}' in '{text}'; write str, sint, bool or raw"));
                }
                (name, rest) = (n, &r[end + 1..]);
            }
            let mut flags = default;
            if let Some(r) = rest.strip_prefix('{') {
                let Some(end) = r.find('}') else { return bad(format!("missing '}}' in log format '{text}'")) };
                set_flags(&mut flags, &r[..end]);
                rest = &r[end + 1..];
            }
            let value = if let Some(r) = rest.strip_prefix('[') {
                let (expr, after) = Expr::parse(r, known)?;
                let Some(after) = after.strip_prefix(']') else {
                    return bad(format!("missing ']' after '{}' in '{text}'", expr.text()));
                };
                if expr.least() > scope {
                    return bad(format!("'{}' has no value at this point of the exchange", expr.text()));
                }
                rest = after;
                // The connection has to be there in any case.
                stage = stage.max(Stage::Response);
                Value::Sample(Box::new(expr))
            } else {
                let n = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
                let word = &rest[..n];
                rest = &rest[n..];
                match ALIASES.iter().find(|a| a.name == word) {
                    Some(row) => {
                        stage = stage.max(row.stage);
                        Value::Alias(row)
                    }
                    None if word == "o" => {
                        default = flags;
                        codec = codec.max(flags.codec);
                        bin |= flags.bin;
                        if !merge {
                            rest = rest.trim_start_matches(' ');
                        }
                        continue;
                    }
                    None if !word.is_empty() => {
                        let near = crate::base::diag::suggestion(word, ALIASES.iter().map(|a| a.name));
                        return bad(format!("no such log-format alias '%{word}' in '{text}'{near}"));
                    }
                    None => match rest.chars().next() {
                        None => {
                            return bad(format!(
                                "log format '{text}' ends behind a '%'; write '%%' for a percent sign"
                            ));
                        }
                        Some(' ') => {
                            return bad(format!(
                                "log format '{text}' has a blank behind a '%'; write '%%' for a percent sign"
                            ));
                        }
                        // As there, the sign itself is not written.
                        Some(_) => continue,
                    },
                }
            };
            if !lit.is_empty() {
                ops.push(Op::Text(std::mem::take(&mut lit)));
            }
            ops.push(Op::Item(Item { value, flags, name: name.into(), wanted }));
        }
        put(rest.as_bytes(), &mut lit);
        if !lit.is_empty() {
            ops.push(Op::Text(lit));
        }
        ops.shrink_to_fit();
        Ok(Self { ops, codec, bin, merge, stage })
    }

    /// The text, when no part of it depends on traffic.
    pub fn literal(&self) -> Option<&[u8]> {
        match &self.ops[..] {
            [] => Some(b""),
            [Op::Text(t)] => Some(t),
            _ => None,
        }
    }

    /// When all that it asks for is known.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// It asks for the number of lines so far.
    pub fn counts(&self) -> bool {
        self.has(&[alias::Alias::LogCounter])
    }

    /// The expressions in it.
    pub fn samples(&self) -> impl Iterator<Item = &Expr> {
        self.ops.iter().filter_map(|op| match op {
            Op::Item(Item { value: Value::Sample(e), .. }) => Some(&**e),
            _ => None,
        })
    }

    /// True if it looks into the bytes of a stream.
    pub fn wants_payload(&self) -> bool {
        let looks = |i: &Item| matches!(&i.value, Value::Sample(e) if e.wants_payload() || e.wants_request());
        self.ops.iter().any(|op| matches!(op, Op::Item(i) if looks(i)))
    }

    /// True if it says which addresses the connection to the server has.
    pub fn tells_servers(&self) -> bool {
        use alias::Alias::{BackendSourceIp, BackendSourcePort, ServerIp, ServerPort};
        let asks = |i: &Item| matches!(&i.value, Value::Sample(e) if e.tells_server());
        self.has(&[BackendSourceIp, BackendSourcePort, ServerIp, ServerPort])
            || self.ops.iter().any(|op| matches!(op, Op::Item(i) if asks(i)))
    }

    fn has(&self, any: &[alias::Alias]) -> bool {
        let is = |i: &Item| matches!(i.value, Value::Alias(r) if any.contains(&r.alias));
        self.ops.iter().any(|op| matches!(op, Op::Item(i) if is(i)))
    }

    /// Renders for a header, a redirect, a variable or a body: of the aliases only what rules know.
    pub fn render(&self, t: &dyn Traffic, out: &mut Vec<u8>) {
        if self.codec.is_some() {
            let named = |row: &'static Row, f: Flags, out: &mut Vec<u8>| alias::in_rules(row.alias, f, t, out);
            return self.encoded(t, &named, out);
        }
        for op in &self.ops {
            match op {
                Op::Text(text) => out.extend_from_slice(text),
                Op::Item(Item { value: Value::Sample(e), flags: f, .. }) => match e.eval(t) {
                    Some(s) => push_rule(&s.text(), *f, out),
                    None => nothing(*f, out),
                },
                Op::Item(Item { value: Value::Alias(row), flags: f, .. }) => alias::in_rules(row.alias, *f, t, out),
            }
        }
    }

    /// Renders a line.
    pub fn log(&self, r: &Record<'_>, out: &mut Vec<u8>) {
        let named = |row: &'static Row, f: Flags, out: &mut Vec<u8>| r.alias(row.alias, f, out);
        if self.codec.is_some() {
            return self.encoded(r.traffic, &named, out);
        }
        // Where nothing stands between two blanks there is one, and none at the beginning; a sample always counts as something.
        let mut blank = self.merge;
        for op in &self.ops {
            match op {
                Op::Text(text) => {
                    let text = if blank { text.strip_prefix(b" ").unwrap_or(text) } else { text };
                    out.extend_from_slice(text);
                    if let Some(last) = text.last() {
                        blank = self.merge && *last == b' ';
                    }
                }
                Op::Item(i) if i.flags.codec.is_some() => {
                    blank = false;
                    let codec = i.flags.codec.unwrap_or(Codec::Json);
                    i.encode(r.traffic, &named, &mut Writer { out, codec, bin: false });
                }
                Op::Item(i) => match &i.value {
                    Value::Sample(e) => {
                        blank = false;
                        match e.eval(r.traffic) {
                            Some(Sample::Int(n)) if !i.flags.quote => push_int(n, out),
                            Some(s) => push_text(&s.text(), i.flags, out),
                            None => nothing(i.flags, out),
                        }
                    }
                    Value::Alias(row) => {
                        let before = out.len();
                        r.alias(row.alias, i.flags, out);
                        blank &= out.len() == before;
                    }
                },
            }
        }
    }

    /// One value with all items that have a name; what stands between them is left out.
    fn encoded(&self, t: &dyn Traffic, named: &dyn Fn(&'static Row, Flags, &mut Vec<u8>), out: &mut Vec<u8>) {
        let Some(codec) = self.codec else { return };
        let mut w = Writer { out, codec, bin: self.bin };
        w.open();
        let mut first = true;
        for op in &self.ops {
            let Op::Item(i) = op else { continue };
            if i.name.is_empty() {
                continue;
            }
            w.key(&i.name, std::mem::replace(&mut first, false));
            i.encode(t, named, &mut w);
        }
        w.close();
    }
}

impl Item {
    fn encode(&self, t: &dyn Traffic, named: &dyn Fn(&'static Row, Flags, &mut Vec<u8>), w: &mut Writer<'_>) {
        let plain = Flags { hex: self.flags.hex, ..Flags::default() };
        match &self.value {
            Value::Sample(e) => {
                let Some(s) = e.eval(t) else { return w.put(&Datum::Missing) };
                let is_true = match &s {
                    Sample::Str(s) => s.eq_ignore_ascii_case(b"true"),
                    s => s.int().is_some_and(|n| n != 0),
                };
                let datum = match (self.wanted, &s) {
                    (Some(Type::Raw), s) => return w.out.extend_from_slice(&s.text()),
                    (Some(Type::Bool), _) => Datum::Bool(is_true),
                    (Some(Type::Int), s) => Datum::Int(s.int().unwrap_or(0)),
                    (Some(Type::Str), s) => Datum::Text(s.text()),
                    (None, Sample::Bool(b)) => Datum::Bool(*b),
                    (None, Sample::Int(n)) => Datum::Int(*n),
                    (None, s) => Datum::Text(s.text()),
                };
                w.put(&datum);
            }
            Value::Alias(row) => {
                let mut text = Vec::new();
                let list = row.class == Class::List;
                // The parts of a list are told from one another by their quotes.
                named(row, Flags { quote: list, ..plain }, &mut text);
                let number = || std::str::from_utf8(&text).ok()?.trim_start_matches('+').parse::<i64>().ok();
                let datum = match (row.class, self.wanted, number().filter(|_| !plain.hex)) {
                    (Class::Int, Some(Type::Bool), Some(n)) => Datum::Bool(n != 0),
                    (Class::Int, Some(Type::Str), Some(_)) if w.codec == Codec::Json => Datum::Text(text.into()),
                    (Class::Int, _, Some(n)) => Datum::Int(n),
                    (Class::List | Class::Pieces, ..) if text.is_empty() => Datum::Null,
                    (Class::List, ..) => Datum::List(alias::parts(&text)),
                    (Class::Pieces, ..) => Datum::Pieces(&text),
                    _ if text.is_empty() => Datum::Missing,
                    _ => Datum::Text(text.into()),
                };
                w.put(&datum);
            }
        }
    }
}

fn set_flags(flags: &mut Flags, list: &str) {
    for f in list.split(',') {
        let (on, name) = match f.split_at_checked(1) {
            Some(("+", n)) => (true, n),
            Some(("-", n)) => (false, n),
            _ => continue,
        };
        match name {
            "Q" => flags.quote = on,
            "X" => flags.hex = on,
            "M" => flags.mandatory = on,
            "E" => flags.escape = on,
            "bin" => flags.bin = on,
            // The first of them stays.
            "json" if on && flags.codec.is_none() => flags.codec = Some(Codec::Json),
            "cbor" if on && flags.codec.is_none() => flags.codec = Some(Codec::Cbor),
            // Others mean nothing there, and are no mistake.
            _ => {}
        }
    }
}

fn nothing(f: Flags, out: &mut Vec<u8>) {
    if f.quote {
        out.extend_from_slice(b"\"\"");
    } else if f.mandatory {
        out.push(b'-');
    }
}

/// Text in a rule's value, which the rule makes safe for where it goes.
fn push_rule(text: &[u8], f: Flags, out: &mut Vec<u8>) {
    if f.quote {
        out.push(b'"');
    }
    out.extend_from_slice(text);
    if f.quote {
        out.push(b'"');
    }
}

/// Text in a line. Bytes that would break it are written as `#XX`, where HAProxy lets them through.
fn push_text(text: &[u8], f: Flags, out: &mut Vec<u8>) {
    if text.is_empty() {
        return nothing(f, out);
    }
    let breaks = |c: u8| c < 0x20 && c != b'\t' || c == 0x7f;
    if f.quote {
        out.push(b'"');
    }
    if !f.escape && !text.iter().any(|c| breaks(*c)) {
        out.extend_from_slice(text);
    } else {
        for &c in text {
            if breaks(c) {
                push_hex(c, out);
                continue;
            }
            if f.escape && matches!(c, b'"' | b'\\' | b']') {
                out.push(b'\\');
            }
            out.push(c);
        }
    }
    if f.quote {
        out.push(b'"');
    }
}

/// `#XX`
fn push_hex(c: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'#', DIGITS[usize::from(c >> 4)], DIGITS[usize::from(c & 15)]]);
}

fn push_int(n: i64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut m = n.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(m % 10).unwrap_or(0);
        m /= 10;
        if m == 0 {
            break;
        }
    }
    if n < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// Turns a sample into header-safe bytes: line breaks become blanks.
pub fn header_safe(value: &mut [u8]) {
    for c in value {
        if matches!(*c, b'\r' | b'\n' | 0) {
            *c = b' ';
        }
    }
}
