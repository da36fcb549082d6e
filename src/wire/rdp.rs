//! The cookie in the first packet of a remote desktop client (MS-RDPBCGR 2.2.1.1; manual, `rdp_cookie`).
use super::Look;

/// TPKT header and the fixed part of the X.224 connection request.
const HEADER: usize = 11;

/// The value of the cookie called `name`, or of any if `name` is empty.
pub fn cookie<'a>(bytes: &'a [u8], name: &str) -> Look<&'a [u8]> {
    if !bytes.starts_with(&[3, 0]) && bytes.len() >= 2 {
        return Look::No;
    }
    if bytes.len() <= HEADER {
        return Look::More;
    }
    if bytes[5] & 0xf0 != 0xe0 {
        return Look::No;
    }
    let text = &bytes[HEADER..];
    let word = b"Cookie:";
    let n = text.len().min(word.len());
    if !text[..n].eq_ignore_ascii_case(&word[..n]) {
        return Look::No;
    }
    let Some(end) = text.iter().position(|c| *c == b'\r') else { return Look::More };
    let pair = text[word.len()..end].trim_ascii_start();
    let Some(eq) = pair.iter().position(|c| *c == b'=') else { return Look::No };
    if name.is_empty() || pair[..eq].eq_ignore_ascii_case(name.as_bytes()) {
        Look::Yes(&pair[eq + 1..])
    } else {
        Look::No
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies() {
        let p = b"\x03\x00\x00\x2a\x25\xe0\x00\x00\x00\x00\x00Cookie: mstshash=admin\r\n\x01\x00\x08\x00";
        assert_eq!(cookie(p, "mstshash"), Look::Yes(&b"admin"[..]));
        assert_eq!(cookie(p, "msts"), Look::No);
        assert_eq!(cookie(&p[..20], "mstshash"), Look::More);
        assert_eq!(cookie(b"SSH-", ""), Look::No);
    }
}
