//! The first message of a TLS client (RFC 8446, 4.1.2), as far as routing without termination needs it.
use super::Look;

/// Content type of a record with handshake messages.
const HANDSHAKE: u8 = 0x16;

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (a, b) = self.0.split_at_checked(n)?;
        self.0 = b;
        Some(a)
    }
    fn u8(&mut self) -> Option<usize> {
        self.take(1).map(|b| usize::from(b[0]))
    }
    fn u16(&mut self) -> Option<usize> {
        self.take(2).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]])))
    }
}

/// `req.ssl_hello_type`: the type of the first handshake message; 1 is ClientHello.
pub fn handshake_type(bytes: &[u8]) -> Look<u8> {
    match bytes {
        [] => Look::More,
        [HANDSHAKE] | [HANDSHAKE, 3] => Look::More,
        [HANDSHAKE, 3, ..] => bytes.get(5).map_or(Look::More, |t| Look::Yes(*t)),
        _ => Look::No,
    }
}

/// `req.ssl_ver`: major and minor version of the record.
pub fn version(bytes: &[u8]) -> Look<(u8, u8)> {
    match handshake_type(bytes) {
        Look::Yes(1) => match bytes.get(9..11) {
            Some(v) => Look::Yes((v[0], v[1])),
            None => Look::More,
        },
        Look::Yes(_) | Look::No => Look::No,
        Look::More => Look::More,
    }
}

/// The contents of an extension by its number; an absent one is `No`.
pub fn extension(bytes: &[u8], number: u16) -> Look<&[u8]> {
    match handshake_type(bytes) {
        Look::Yes(1) => {}
        Look::Yes(_) | Look::No => return Look::No,
        Look::More => return Look::More,
    }
    let walk = |bytes: &'_ [u8]| -> Option<Look<(usize, usize)>> {
        // Record, handshake header, version and random number.
        let mut r = Reader(bytes);
        r.take(5 + 4 + 2 + 32)?;
        let n = r.u8()?;
        r.take(n)?;
        let n = r.u16()?;
        r.take(n)?;
        let n = r.u8()?;
        r.take(n)?;
        let all = r.u16()?;
        let mut left = all;
        while left >= 4 {
            let (kind, len) = (r.u16()?, r.u16()?);
            let at = bytes.len() - r.0.len();
            if len + 4 > left {
                return Some(Look::No);
            }
            r.take(len)?;
            if kind == usize::from(number) {
                return Some(Look::Yes((at, len)));
            }
            left -= 4 + len;
        }
        Some(Look::No)
    };
    match walk(bytes) {
        Some(found) => found.map(|(at, len)| &bytes[at..at + len]),
        // What the record itself says is its end cannot be waited for beyond it.
        None if bytes.len() > 5 + 16 * 1024 => Look::No,
        None => Look::More,
    }
}

/// `req.ssl_sni`: the host name asked for (RFC 6066, 3).
pub fn server_name(bytes: &[u8]) -> Look<&[u8]> {
    match extension(bytes, 0) {
        Look::Yes(ext) => {
            let mut r = Reader(ext);
            let name = (|| {
                r.u16()?;
                if r.u8()? != 0 {
                    return None;
                }
                let n = r.u16()?;
                r.take(n)
            })();
            name.map_or(Look::No, Look::Yes)
        }
        other => other,
    }
}

/// `req.ssl_alpn`: the first protocol that the client would speak (RFC 7301).
pub fn first_protocol(bytes: &[u8]) -> Look<&[u8]> {
    match extension(bytes, 16) {
        Look::Yes(ext) => {
            let mut r = Reader(ext);
            let name = (|| {
                r.u16()?;
                let n = r.u8()?;
                r.take(n)
            })();
            name.map_or(Look::No, Look::Yes)
        }
        other => other,
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A ClientHello with a server name and two protocols.
    pub fn hello(name: &str) -> Vec<u8> {
        let len16 = |n: usize| u16::try_from(n).unwrap().to_be_bytes();
        let mut sni = len16(name.len() + 3).to_vec();
        sni.push(0);
        sni.extend(len16(name.len()));
        sni.extend(name.as_bytes());
        let alpn = b"\0\x0c\x02h2\x08http/1.1";
        let mut ext = Vec::new();
        for (kind, body) in [(16u16, &alpn[..]), (0, &sni)] {
            ext.extend(kind.to_be_bytes());
            ext.extend(len16(body.len()));
            ext.extend(body);
        }
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend(len16(ext.len()));
        body.extend(ext);
        let mut out = vec![0x16, 3, 1];
        out.extend(len16(body.len() + 4));
        out.extend([1, 0]);
        out.extend(len16(body.len()));
        out.extend(body);
        out
    }

    #[test]
    fn names_at_every_length() {
        let h = hello("www.example.com");
        for n in 0..h.len() {
            assert!(matches!(server_name(&h[..n]), Look::More), "{n}");
        }
        assert_eq!(server_name(&h), Look::Yes(&b"www.example.com"[..]));
        assert_eq!(first_protocol(&h), Look::Yes(&b"h2"[..]));
        assert_eq!(extension(&h, 51), Look::No);
        assert_eq!((handshake_type(&h), version(&h)), (Look::Yes(1), Look::Yes((3, 3))));
    }

    #[test]
    fn what_is_no_hello() {
        assert_eq!(server_name(b"GET / HTTP/1.1\r\n"), Look::No);
        assert_eq!(handshake_type(b"\x16\x02"), Look::No);
        let mut h = hello("a");
        h[5] = 2;
        assert_eq!(server_name(&h), Look::No);
        // Lengths that lead beyond the end of what they stand in.
        let mut h = hello("abc");
        let at = h.len() - 5;
        h[at] = 0xff;
        assert_eq!(server_name(&h), Look::No);
    }
}
