//! Arguments as data: how many a word takes and what each has to be. For words that are checked although they do nothing here.
use super::Cx;
use crate::base::code::Code;
use crate::base::diag::suggestion;
use crate::base::units::{self, TimeUnit};

/// What an argument has to be.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    Any,
    /// A name of letters, digits and `-_.:`.
    Ident,
    Millis,
    Secs,
    Size,
    Int(i64, i64),
    /// An address with a port, or a path.
    Address,
    OneOf(&'static [&'static str]),
    /// `<word> <n arguments>` in any order, to the end of the line.
    Pairs(&'static [(&'static str, usize)]),
    Regex,
}

pub use Arg::{Address, Any, Ident, Int, Millis, OneOf, Pairs, Secs, Size};

/// The arguments of one word.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub min: usize,
    /// More are refused; [`OPEN`] for a list; with [`TAIL`] added, the rest is passed over in silence.
    pub max: usize,
    /// The last one repeats.
    pub args: &'static [Arg],
}

pub const OPEN: usize = 255;
pub const TAIL: usize = 1000;
pub const ON_OFF: Arg = OneOf(&["on", "off"]);
pub const I31: i64 = 0x7fff_ffff;
pub const U32: i64 = 0xffff_ffff;

/// A word that stands alone.
pub const ALONE: Shape = Shape { min: 0, max: 0, args: &[] };
/// Whatever stands there.
pub const FREE: Shape = Shape { min: 0, max: OPEN, args: &[Any] };

/// Exactly one argument, and nothing behind it.
pub const fn one(args: &'static [Arg]) -> Shape {
    Shape { min: 1, max: 1, args }
}

/// One argument; what stands behind it is passed over, as there.
pub const fn first(args: &'static [Arg]) -> Shape {
    Shape { min: 1, max: 1 + TAIL, args }
}

/// Says what is wrong with the arguments of `word`. True if nothing is.
pub fn check(cx: &mut Cx<'_>, word: &str, shape: &Shape, given: &[String]) -> bool {
    if given.len() < shape.min {
        let what = if shape.min == 1 { "an argument".to_owned() } else { format!("{} arguments", shape.min) };
        cx.error_of(Code::Missing, format!("'{word}' expects {what}"));
        return false;
    }
    if shape.max < OPEN && given.len() > shape.max {
        cx.error_of(Code::Extra, format!("'{word}' cannot handle unexpected argument '{}'", given[shape.max]));
        return false;
    }
    for (i, text) in given.iter().take(shape.max % TAIL).enumerate() {
        let Some(kind) = shape.args.get(i).or(shape.args.last()) else { break };
        if let Pairs(all) = kind {
            return pairs(cx, word, all, &given[i..]);
        }
        if let Err(e) = fits(*kind, text) {
            cx.error(format!("'{word}' : {e}"));
            return false;
        }
    }
    true
}

fn pairs(cx: &mut Cx<'_>, word: &str, pairs: &[(&str, usize)], args: &[String]) -> bool {
    let mut i = 0;
    while let Some(sub) = args.get(i) {
        let Some((_, n)) = pairs.iter().find(|p| p.0 == *sub) else {
            let text = format!("'{word}' : unknown keyword '{sub}'{}", suggestion(sub, pairs.iter().map(|p| p.0)));
            cx.error_of(Code::UnknownWord, text);
            return false;
        };
        i += 1 + n;
    }
    true
}

pub fn fits(kind: Arg, text: &str) -> Result<(), String> {
    match kind {
        Any | Pairs(_) => Ok(()),
        Ident => foreign(text).map_or(Ok(()), |c| Err(format!("character '{c}' is not permitted in name '{text}'"))),
        Millis => units::parse_time(text, TimeUnit::Millis).map(drop),
        Secs => units::parse_time(text, TimeUnit::Secs).map(drop),
        Size => match units::parse_size(text) {
            Ok(0) => Err("a size larger than 0 is wanted".into()),
            other => other.map(drop),
        },
        Int(low, high) => match text.parse::<i64>() {
            Ok(n) if (low..=high).contains(&n) => Ok(()),
            _ => Err(format!("a number from {low} to {high} is wanted, not '{text}'")),
        },
        OneOf(all) if all.contains(&text) => Ok(()),
        OneOf(all) => Err(format!(
            "'{text}' is not known here{}; it takes {}",
            suggestion(text, all.iter().copied()),
            all.join(", ")
        )),
        Address => address(text),
        Arg::Regex => {
            regex::bytes::Regex::new(text).map(drop).map_err(|_| format!("'{text}' is no regular expression"))
        }
    }
}

/// Paths are taken as they are; everything else needs a port.
fn address(text: &str) -> Result<(), String> {
    let bare = text.rsplit_once('@').map_or(text, |a| a.1);
    if bare.starts_with('/') || bare.contains('$') {
        return Ok(());
    }
    match bare.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok_and(|p| p > 0) => Ok(()),
        Some((_, port)) if !port.is_empty() => Err(format!("'{port}' is no port, in '{text}'")),
        _ => Err(format!("missing port number in '{text}'; write <address>:<port>")),
    }
}

/// The first character that names may not have.
pub fn foreign(name: &str) -> Option<char> {
    name.chars().find(|c| !(c.is_ascii_alphanumeric() || "-_.:".contains(*c)))
}
