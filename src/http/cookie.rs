//! The `Cookie` header (RFC 6265, 4.2) and the edits that cookie persistence makes in it.

/// Name and value pairs of one `Cookie` line.
pub fn pairs(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    line.split(|c| *c == b';').filter_map(|p| {
        let p = p.trim_ascii();
        let eq = p.iter().position(|c| *c == b'=')?;
        Some((p[..eq].trim_ascii(), p[eq + 1..].trim_ascii()))
    })
}

/// The line without the cookie called `name`; `None` if nothing else is left.
pub fn without(line: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let kept: Vec<&[u8]> = line
        .split(|c| *c == b';')
        .map(<[u8]>::trim_ascii)
        .filter(|p| !p.is_empty() && p.split(|c| *c == b'=').next().is_none_or(|n| n.trim_ascii() != name))
        .collect();
    (!kept.is_empty()).then(|| kept.join(&b"; "[..]))
}

/// The line with another value of the cookie called `name`.
pub fn replaced(line: &[u8], name: &[u8], value: &[u8]) -> Vec<u8> {
    let parts: Vec<Vec<u8>> = line
        .split(|c| *c == b';')
        .map(|p| match p.iter().position(|c| *c == b'=') {
            Some(eq) if p[..eq].trim_ascii() == name => [&p[..=eq], value].concat(),
            _ => p.to_vec(),
        })
        .collect();
    parts.join(&b";"[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_and_removes() {
        let line = b"a=1; SRV=s1; b=2";
        assert_eq!(pairs(line).find(|(n, _)| *n == b"SRV").map(|p| p.1), Some(&b"s1"[..]));
        assert_eq!(without(line, b"SRV").as_deref(), Some(&b"a=1; b=2"[..]));
        assert_eq!(without(b"SRV=s1", b"SRV"), None);
        assert_eq!(replaced(line, b"SRV", b"x"), b"a=1; SRV=x; b=2");
    }
}
