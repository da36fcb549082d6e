//! What may be kept of answers and given again (RFC 9111), as the manual's `cache` has it: judged on heads alone. Times are seconds since 1970.
use super::h1::head::Head;
use crate::rules::sample::split_list;
use std::time::{Duration, SystemTime};

/// What a request says of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// It may be answered from the cache.
    pub may_hit: bool,
    /// Its answer may be kept.
    pub storable: bool,
}

/// The items of all `Cache-Control` lines, in lower case.
fn control(head: &Head) -> impl Iterator<Item = Vec<u8>> {
    let lines = head.headers().filter(|(n, _)| *n == b"cache-control");
    lines.flat_map(|(_, v)| split_list(v).map(<[u8]>::to_ascii_lowercase))
}

/// Looks at a request; `None`: the cache is not for it.
pub fn asked(req: &Head) -> Option<Asked> {
    if req.minor == 0 {
        return None;
    }
    let mut a = Asked { may_hit: matches!(req.method(), b"GET" | b"HEAD"), storable: req.method() == b"GET" };
    if req.get("authorization").is_some() {
        a = Asked { may_hit: false, storable: false };
    }
    let mut said = false;
    for item in control(req) {
        said = true;
        a.may_hit &= ![&b"max-age"[..], b"no-cache", b"max-stale", b"min-fresh"].iter().any(|w| item.starts_with(w));
        a.storable &= item != b"no-store";
    }
    a.may_hit &= said || !req.get("pragma").is_some_and(|p| p.eq_ignore_ascii_case(b"no-cache"));
    Some(a)
}

/// The name under which an answer is kept.
pub fn key(req: &Head) -> Vec<u8> {
    let target = req.target();
    match target.first() {
        Some(b'/') => [b"https://", req.get("host").unwrap_or_default(), target].concat(),
        _ => target.to_vec(),
    }
}

/// True if an answer to this method may have changed what is kept.
pub fn is_unsafe(method: &[u8]) -> bool {
    !matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE")
}

/// What was judged of an answer that may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// How long, in seconds.
    pub lifetime: u64,
    /// How old it was already.
    pub age: u64,
    /// What it varies with.
    pub varies: Varies,
}

/// The request headers that an answer depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Varies {
    encoding: bool,
    referer: bool,
    origin: bool,
}

/// What the request said in those headers, or what the kept answer is good for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Secondary {
    encodings: u32,
    referer: Vec<u8>,
    origin: Vec<u8>,
}

impl Secondary {
    /// Bytes on the heap.
    pub fn memory(&self) -> usize {
        self.referer.capacity() + self.origin.capacity()
    }
}

/// Judges an answer. `storable` is what the request and its rules left open, `vary` whether answers that vary may be kept.
pub fn keep(res: &Head, mut storable: bool, max_age: u64, vary: bool, now: u64) -> Option<Keep> {
    if res.status != 200 || res.get("pragma").is_some_and(|p| p.eq_ignore_ascii_case(b"no-cache")) {
        return None;
    }
    let mut varies = Varies::default();
    for (_, line) in res.headers().filter(|(n, _)| *n == b"vary") {
        if !vary {
            return None;
        }
        for item in split_list(line) {
            match item.to_ascii_lowercase().as_slice() {
                b"accept-encoding" => varies.encoding = true,
                b"referer" => varies.referer = true,
                b"origin" => varies.origin = true,
                _ => return None,
            }
        }
    }
    let (mut fresh, mut stale_at_once) = (false, false);
    let (mut own, mut shared) = (None, None);
    let with = |item: &[u8], word: &[u8]| item == word || item.starts_with(word) && item.get(word.len()) == Some(&b'=');
    for item in control(res) {
        match item.as_slice() {
            b"public" => storable = true,
            b"s-maxage=0" => storable = false,
            i if with(i, b"private") || with(i, b"no-cache") || with(i, b"no-store") => storable = false,
            b"max-age=0" => stale_at_once = true,
            i => {
                let (value, of) = match (i.strip_prefix(b"s-maxage="), i.strip_prefix(b"max-age=")) {
                    (Some(v), _) => (v, &mut shared),
                    (_, Some(v)) => (v, &mut own),
                    _ => continue,
                };
                stale_at_once &= i.starts_with(b"max-age=");
                fresh = true;
                // What is no number is over at once.
                *of = Some(seconds(value).unwrap_or(0)).filter(|n| *n > 0 || seconds(value).is_none());
            }
        }
    }
    let validated = ["expires", "etag", "last-modified"].iter().any(|h| res.get(h).is_some());
    if !storable || stale_at_once || !fresh && !validated {
        return None;
    }
    let expires = res.get("expires").map(|e| date(e).unwrap_or(0).saturating_sub(now));
    let freshness = shared.or(own).or(expires);
    let age = match res.get("age") {
        None => 0,
        Some(a) => seconds(a.split(|c| *c == b',').next().unwrap_or_default().trim_ascii())
            .filter(|n| *n > 0 && *n <= freshness.unwrap_or(0))?,
    };
    Some(Keep { lifetime: freshness.unwrap_or(max_age).min(max_age), age, varies })
}

fn seconds(text: &[u8]) -> Option<u64> {
    let text = text.strip_prefix(b"\"").unwrap_or(text);
    let end = text.iter().position(|c| !c.is_ascii_digit()).unwrap_or(text.len());
    std::str::from_utf8(&text[..end]).ok()?.parse().ok()
}

/// An HTTP date (RFC 9110, 5.6.7).
pub fn date(text: &[u8]) -> Option<u64> {
    let at = httpdate::parse_http_date(std::str::from_utf8(text).ok()?).ok()?;
    Some(at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs())
}

const IDENTITY: u32 = 1;
const ALL: u32 = u32::MAX;
const CODINGS: &[(&[u8], u32)] = &[
    (b"identity", IDENTITY),
    (b"gzip", 2),
    (b"x-gzip", 2),
    (b"deflate", 4),
    (b"br", 8),
    (b"compress", 16),
    (b"x-compress", 16),
    (b"zstd", 32),
    (b"exi", 64),
    (b"aes128gcm", 128),
    (b"pack200-gzip", 256),
];
const OTHER: u32 = 1 << 31;
/// More codings than this are no browser's.
const MOST_CODINGS: usize = 16;

/// What a request says in the headers that answers may vary with. One that names more codings than any browser gets none that is coded.
pub fn secondary(req: &Head) -> Secondary {
    let of = |name: &str| req.get(name).unwrap_or_default().to_vec();
    let encodings = match req.get("accept-encoding") {
        None => ALL,
        Some(_) => {
            let (mut yes, mut no, mut n) = (IDENTITY, 0, 0);
            for (_, line) in req.headers().filter(|(name, _)| *name == b"accept-encoding") {
                for item in split_list(line).filter(|i| !i.is_empty()) {
                    n += 1;
                    let end = item.iter().position(|c| matches!(c, b';' | b' ' | b'\t')).unwrap_or(item.len());
                    let name = item[..end].to_ascii_lowercase();
                    let refused = item[end..].iter().filter(|c| !c.is_ascii_whitespace()).eq(b";q=0");
                    let bit = match name.as_slice() {
                        b"*" => ALL,
                        name => CODINGS.iter().find(|c| c.0 == name).map_or(OTHER, |c| c.1),
                    };
                    match (refused, bit) {
                        (false, bit) => yes |= bit,
                        (true, ALL) => {}
                        (true, bit) => no |= bit,
                    }
                }
            }
            if n >= MOST_CODINGS { 0 } else { yes & !no }
        }
    };
    Secondary { encodings, referer: of("referer"), origin: of("origin") }
}

/// What a kept answer is good for, given what the request said that it answered; `None`: a coding that nobody knows.
pub fn good_for(res: &Head, varies: Varies, said: &Secondary) -> Option<Secondary> {
    let encodings = if varies.encoding {
        let mut bits = 0;
        for (_, line) in res.headers().filter(|(n, _)| *n == b"content-encoding") {
            for item in split_list(line) {
                bits |= CODINGS.iter().find(|c| c.0 == item)?.1;
            }
        }
        if bits == 0 { IDENTITY } else { bits }
    } else {
        0
    };
    let only = |yes: bool, v: &[u8]| if yes { v.to_vec() } else { Vec::new() };
    Some(Secondary {
        encodings,
        referer: only(varies.referer, &said.referer),
        origin: only(varies.origin, &said.origin),
    })
}

/// True if what is `good` can answer a request that said `said`.
pub fn answers(varies: Varies, good: &Secondary, said: &Secondary) -> bool {
    good.encodings & !said.encodings == 0
        && (!varies.referer || good.referer == said.referer)
        && (!varies.origin || good.origin == said.origin)
}

/// What the `Link` headers of an answer tell a client that it will need: a value for each of them that tells something (RFC 8297, RFC 8288).
pub fn hints(res: &Head) -> Vec<Vec<u8>> {
    let lines = res.headers().filter(|(n, _)| *n == b"link");
    lines
        .filter_map(|(_, line)| {
            let kept: Vec<&[u8]> = elements(line, b',').filter(|e| is_hint(e)).collect();
            (!kept.is_empty()).then(|| kept.join(&b", "[..]))
        })
        .collect()
}

/// The parts of a list between `by`, outside of quotes and angle brackets, without the space around them.
fn elements(line: &[u8], by: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped, mut inside) = (false, false, false);
    line.split(move |c| {
        match c {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if !inside => quoted = !quoted,
            b'<' if !quoted => inside = true,
            b'>' if !quoted => inside = false,
            c => return *c == by && !quoted && !inside,
        }
        false
    })
    .map(<[u8]>::trim_ascii)
}

/// An element of `Link` whose first `rel` has one of the relations that are worth a hint.
fn is_hint(element: &[u8]) -> bool {
    const WORTH: [&[u8]; 5] = [b"preload", b"preconnect", b"dns-prefetch", b"modulepreload", b"prefetch"];
    if element.first() != Some(&b'<') {
        return false;
    }
    let params = elements(element, b';').skip(1);
    let rel = params.filter_map(|p| {
        let at = p.iter().position(|c| *c == b'=')?;
        p[..at].trim_ascii().eq_ignore_ascii_case(b"rel").then(|| p[at + 1..].trim_ascii())
    });
    let Some(rel) = rel.into_iter().next() else { return false };
    let rel = rel.strip_prefix(b"\"").and_then(|r| r.strip_suffix(b"\"")).unwrap_or(rel);
    rel.split(u8::is_ascii_whitespace).any(|r| WORTH.iter().any(|w| r.eq_ignore_ascii_case(w)))
}

/// True if the client has what is kept already (RFC 9110, 13.1). `stored`: when it was kept.
pub fn not_modified(req: &Head, kept: &Head, stored: u64) -> bool {
    let mut any = false;
    let weak = |t: &[u8]| t.strip_prefix(b"W/").unwrap_or(t).to_vec();
    let tag = kept.get("etag").map(weak);
    for (_, line) in req.headers().filter(|(n, _)| *n == b"if-none-match") {
        any = true;
        if split_list(line).any(|t| t == b"*" || Some(weak(t)) == tag) {
            return true;
        }
    }
    if any {
        return false;
    }
    let Some(since) = req.get("if-modified-since").and_then(date) else { return false };
    let modified = kept.get("last-modified").and_then(date).or_else(|| kept.get("date").and_then(date));
    since >= modified.unwrap_or(stored)
}

#[cfg(test)]
mod tests {
    use super::super::h1::head::Accept;
    use super::*;

    fn request(headers: &str) -> Head {
        let mut h = Head::default();
        h.parse_request(format!("GET /a HTTP/1.1\r\nHost: h\r\n{headers}\r\n").as_bytes(), Accept::default()).unwrap();
        h
    }
    fn response(headers: &str) -> Head {
        let mut h = Head::default();
        h.parse_response(format!("HTTP/1.1 200 OK\r\n{headers}\r\n").as_bytes(), b"GET", Accept::default()).unwrap();
        h
    }

    #[test]
    fn what_requests_say() {
        let of = |h: &str| asked(&request(h)).map(|a| (a.may_hit, a.storable)).unwrap();
        assert_eq!(of(""), (true, true));
        assert_eq!(of("Authorization: x\r\n"), (false, false));
        assert_eq!(of("Cache-Control: no-cache\r\n"), (false, true));
        assert_eq!(of("Cache-Control: Max-Age=0\r\n"), (false, true));
        assert_eq!(of("Cache-Control: no-store\r\n"), (true, false));
        assert_eq!(of("Pragma: no-cache\r\n"), (false, true));
        assert_eq!(of("Pragma: no-cache\r\nCache-Control: x\r\n"), (true, true));
        assert_eq!(key(&request("")), b"https://h/a");
    }

    #[test]
    fn what_answers_say() {
        let of = |h: &str| keep(&response(h), true, 60, false, 1_000).map(|k| (k.lifetime, k.age));
        for (headers, want) in [
            ("Cache-Control: max-age=30\r\n", Some((30, 0))),
            ("Cache-Control: max-age=300\r\n", Some((60, 0))),
            ("Cache-Control: max-age=30, s-maxage=5\r\n", Some((5, 0))),
            ("Cache-Control: max-age=0\r\n", None),
            ("Cache-Control: max-age=0, s-maxage=5\r\n", Some((5, 0))),
            ("Cache-Control: s-maxage=5, max-age=0\r\n", None),
            ("Cache-Control: private, max-age=5\r\n", None),
            ("Cache-Control: private, public, max-age=5\r\n", Some((5, 0))),
            ("Cache-Control: no-cache=\"x\", max-age=5\r\n", None),
            ("Cache-Control: public\r\n", None),
            ("ETag: \"x\"\r\n", Some((60, 0))),
            ("Expires: Thu, 01 Jan 1970 00:17:10 GMT\r\n", Some((30, 0))),
            ("Expires: 0\r\n", Some((0, 0))),
            ("Cache-Control: max-age=30\r\nAge: 20\r\n", Some((30, 20))),
            ("Cache-Control: max-age=30\r\nAge: 40\r\n", None),
            ("Cache-Control: max-age=30\r\nAge: x\r\n", None),
            ("Cache-Control: max-age=30\r\nVary: Accept-Encoding\r\n", None),
            ("", None),
        ] {
            assert_eq!(of(headers), want, "{headers}");
        }
    }

    #[test]
    fn variants() {
        let zipped =
            response("Cache-Control: max-age=5\r\nVary: Accept-Encoding, Origin\r\nContent-Encoding: gzip\r\n");
        let k = keep(&zipped, true, 60, true, 0).unwrap();
        let first = secondary(&request("Accept-Encoding: gzip\r\nOrigin: a\r\n"));
        let good = good_for(&zipped, k.varies, &first).unwrap();
        for (headers, want) in [
            ("Accept-Encoding: br, gzip;q=0.5\r\nOrigin: a\r\n", true),
            ("Origin: a\r\n", true),
            ("Accept-Encoding: *\r\nOrigin: a\r\n", true),
            ("Accept-Encoding: gzip ; q=0\r\nOrigin: a\r\n", false),
            ("Accept-Encoding: br\r\nOrigin: a\r\n", false),
            ("Accept-Encoding: gzip\r\nOrigin: b\r\n", false),
            ("Accept-Encoding: gzip\r\n", false),
        ] {
            assert_eq!(answers(k.varies, &good, &secondary(&request(headers))), want, "{headers}");
        }
        assert!(keep(&response("Cache-Control: max-age=5\r\nVary: *\r\n"), true, 60, true, 0).is_none());
        let many = secondary(&request(&format!("Origin: a\r\nAccept-Encoding: {}\r\n", "gzip,".repeat(20))));
        assert!(!answers(k.varies, &good, &many));
    }

    #[test]
    fn what_is_worth_a_hint() {
        for (headers, want) in [
            ("Link: </a>; rel=preload; as=style\r\n", &["</a>; rel=preload; as=style"][..]),
            ("Link: </a>; rel=author\r\n", &[]),
            (
                "Link: </a,b>; REL=\"x PreConnect\" , </c>; rel=next,</d>;rel=prefetch\r\n",
                &["</a,b>; REL=\"x PreConnect\", </d>;rel=prefetch"],
            ),
            ("Link: </a>; rel=next; rel=preload\r\n", &[]),
            (
                "Link: a; rel=preload\r\nLink: </b>; title=\"x, </c>; rel=preload\"; rel=modulepreload\r\n",
                &["</b>; title=\"x, </c>; rel=preload\"; rel=modulepreload"],
            ),
            ("Link: </a>\r\nX: </b>; rel=preload\r\n", &[]),
        ] {
            let got: Vec<String> =
                hints(&response(headers)).into_iter().map(|h| String::from_utf8(h).unwrap()).collect();
            assert_eq!(got, want, "{headers}");
        }
    }

    #[test]
    fn what_the_client_has() {
        let kept = response("ETag: W/\"e\"\r\nLast-Modified: Thu, 01 Jan 1970 00:17:10 GMT\r\n");
        for (headers, want) in [
            ("If-None-Match: \"e\"\r\n", true),
            ("If-None-Match: \"x\", W/\"e\"\r\n", true),
            ("If-None-Match: *\r\n", true),
            ("If-None-Match: e\r\n", false),
            ("If-None-Match: \"x\"\r\nIf-Modified-Since: Thu, 01 Jan 1970 00:17:10 GMT\r\n", false),
            ("If-Modified-Since: Thu, 01 Jan 1970 00:17:10 GMT\r\n", true),
            ("If-Modified-Since: Thu, 01 Jan 1970 00:17:09 GMT\r\n", false),
            ("If-Modified-Since: today\r\n", false),
            ("", false),
        ] {
            assert_eq!(not_modified(&request(headers), &kept, 0), want, "{headers}");
        }
    }
}
