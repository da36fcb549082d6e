//! Level 1: what other protocols' first bytes say, for rules that look into a stream before it is forwarded (manual, `tcp-request content`).
pub mod client_hello;
pub mod proxy;
pub mod rdp;
pub mod socks4;

/// What bytes that are still coming in say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look<T> {
    Yes(T),
    /// More bytes will not change it.
    No,
    /// Too few bytes to tell.
    More,
}

impl<T> Look<T> {
    pub fn found(self) -> Option<T> {
        if let Self::Yes(v) = self { Some(v) } else { None }
    }
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Look<U> {
        match self {
            Self::Yes(v) => Look::Yes(f(v)),
            Self::No => Look::No,
            Self::More => Look::More,
        }
    }
}

/// `req.proto_http`: whether a stream begins with a request line of HTTP/1.
pub fn http_request(bytes: &[u8]) -> Look<()> {
    let Some(end) = bytes.iter().position(|c| *c == b'\n') else {
        let plausible = bytes.iter().all(|c| c.is_ascii_graphic() || *c == b' ' || *c == b'\r');
        let token = bytes.first().is_none_or(|c| crate::http::h1::head::may_begin(*c));
        return if plausible && token { Look::More } else { Look::No };
    };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    let mut words = line.split(|c| *c == b' ');
    let method = words.next().is_some_and(|m| !m.is_empty() && m.iter().all(|c| crate::http::h1::head::may_begin(*c)));
    let target = words.next().is_some_and(|t| !t.is_empty());
    let version = words.next().is_some_and(|v| v.starts_with(b"HTTP/1."));
    if method && target && version && words.next().is_none() { Look::Yes(()) } else { Look::No }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_lines() {
        assert_eq!(http_request(b"GET / HT"), Look::More);
        assert_eq!(http_request(b"GET / HTTP/1.1\r\n"), Look::Yes(()));
        assert_eq!(http_request(b"SSH-2.0-x\r\n"), Look::No);
        assert_eq!(http_request(b"\x16\x03\x01"), Look::No);
    }
}
