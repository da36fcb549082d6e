//! HAProxy's times and sizes (configuration manual, 2.5 "Time format" and 2.6 "Size format").
use std::time::Duration;

/// Unit a bare number is taken in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    Millis,
    Secs,
}

/// The largest time HAProxy takes, in milliseconds (a signed 32-bit tick).
pub const MAX_TIME_MS: u64 = 2_147_483_647;

/// Parses `100`, `5s`, `2m`, `1d`, `10us`; the error says what is wrong with the word.
pub fn parse_time(word: &str, default: TimeUnit) -> Result<Duration, String> {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Err(format!("unexpected character '{}' in time '{word}'", word.chars().next().unwrap_or(' ')));
    }
    let overflow = || format!("timer overflow in '{word}': the largest value is {MAX_TIME_MS} ms (about 24.8 days)");
    let n: u64 = word[..digits].parse().map_err(|_| overflow())?;
    let micros = match unit(&word[digits..]) {
        Some("") if default == TimeUnit::Secs => 1_000_000,
        Some("" | "ms") => 1_000,
        Some("us") => 1,
        Some("s") => 1_000_000,
        Some("m") => 60_000_000,
        Some("h") => 3_600_000_000,
        Some("d") => 86_400_000_000,
        _ => {
            return Err(format!("unknown time unit '{}' in '{word}'; use us, ms, s, m, h or d", &word[digits..]));
        }
    };
    let total: u64 = n.checked_mul(micros).ok_or_else(overflow)?;
    if total / 1000 > MAX_TIME_MS {
        return Err(overflow());
    }
    Ok(Duration::from_micros(total))
}

/// The unit that `text` begins with.
fn unit(text: &str) -> Option<&str> {
    let n = match text.as_bytes() {
        [] => 0,
        [b'u' | b'm', b's', ..] => 2,
        [b's' | b'm' | b'h' | b'd', ..] => 1,
        _ => return None,
    };
    Some(&text[..n])
}

/// What stands behind the unit of a time; HAProxy passes over it.
pub fn behind_unit(word: &str) -> &str {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
    unit(rest).map_or("", |u| &rest[u.len()..])
}

/// Parses `1024`, `64k`, `2m`, `1g` into bytes.
pub fn parse_size(word: &str) -> Result<u64, String> {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let n: u64 = word[..digits].parse().map_err(|_| format!("'{word}' is not a size"))?;
    let factor: u64 = match word[digits..].to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        other => return Err(format!("unknown size unit '{other}' in '{word}'; use k, m or g")),
    };
    n.checked_mul(factor).ok_or_else(|| format!("size '{word}' overflows"))
}

/// Milliseconds, saturated.
pub fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(parse_time("250", TimeUnit::Millis), Ok(Duration::from_millis(250)));
        assert_eq!(parse_time("5s", TimeUnit::Millis), Ok(Duration::from_secs(5)));
        assert_eq!(parse_time("3", TimeUnit::Secs), Ok(Duration::from_secs(3)));
        assert_eq!(parse_time("10us", TimeUnit::Millis), Ok(Duration::from_micros(10)));
        for bad in ["", "s", "5x", "30d", "99999999999999999999"] {
            assert!(parse_time(bad, TimeUnit::Millis).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("16k"), Ok(16384));
        assert_eq!(parse_size("1g"), Ok(1 << 30));
        assert!(parse_size("1t").is_err());
        assert!(parse_size("99999999999g").is_err());
    }
}
