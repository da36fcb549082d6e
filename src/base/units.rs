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
    let micros = match &word[digits..] {
        "" if default == TimeUnit::Secs => 1_000_000,
        "" | "ms" => 1_000,
        "us" => 1,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        other => return Err(format!("unknown time unit '{other}' in '{word}'; use us, ms, s, m, h or d")),
    };
    let total: u64 = n.checked_mul(micros).ok_or_else(overflow)?;
    if total / 1000 > MAX_TIME_MS {
        return Err(overflow());
    }
    Ok(Duration::from_micros(total))
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
