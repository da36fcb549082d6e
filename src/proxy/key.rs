//! What hash-based balancing hashes of a request (configuration manual, `balance`).
use super::outcome::Exchange;
use crate::config::model::HashKey;
use crate::http::h1::body::Framing;
use crate::rules::sample::{HeadSide, Sample, Traffic, param, pathq_of, query_of, split_list};
use crate::state::snapshot::ProxyNode;
use crate::wire::rdp;
use std::net::IpAddr;

/// The hash of the request's key; `None` if it has none, and the servers take turns.
pub fn hash(x: &Exchange<'_>, be: &ProxyNode) -> Option<u32> {
    let kind = be.conf.hash_type;
    match &be.conf.hash_key {
        HashKey::Source => x.src().map(|a| kind.finish(crate::base::hash::source(a.ip()))),
        HashKey::SourcePort => x.src().map(|a| kind.finish(crate::base::hash::source(a.ip()) ^ u32::from(a.port()))),
        HashKey::Destination => x.dst.map(|a| kind.finish(crate::base::hash::source(a.ip()))),
        HashKey::Uri { len, depth, whole, path_only } => {
            let url = x.url();
            let url = if *path_only { pathq_of(url)? } else { url };
            if url.is_empty() {
                return None;
            }
            Some(kind.of(part_of_uri(url, *len, *depth, *whole)))
        }
        HashKey::Param { name, .. } => {
            param(query_of(x.url()), name.as_bytes()).or(x.posted.as_deref()).map(|v| kind.of(v))
        }
        HashKey::Header { name, domain_only } => {
            let mut found = None;
            x.header(name, HeadSide::Request, &mut |line| {
                found = split_list(line).next();
                true
            });
            let value = found?;
            Some(kind.of(if *domain_only { domain(value) } else { value }))
        }
        HashKey::RdpCookie(name) => rdp::cookie(x.payload().0, name).found().map(|v| kind.of(v)),
        HashKey::Sample(e) => {
            let value = e.eval(x)?;
            Some(match &value {
                Sample::Ip(IpAddr::V4(ip)) => kind.of(&ip.octets()),
                Sample::Ip(IpAddr::V6(ip)) => kind.of(&ip.octets()),
                Sample::Int(n) => kind.of(&n.to_be_bytes()),
                Sample::Bool(b) => kind.of(&i64::from(*b).to_be_bytes()),
                Sample::Str(s) => kind.of(s),
            })
        }
    }
}

/// The parameter that `balance url_param ... check_post` wants of a POST whose target has none: what of it stands in the body's first bytes.
pub fn posted(x: &Exchange<'_>, be: &ProxyNode, body: &[u8]) -> Option<Vec<u8>> {
    let HashKey::Param { name, post: true } = &be.conf.hash_key else { return None };
    if !be.conf.balances_posts() || x.method() != b"POST" || param(query_of(x.url()), name.as_bytes()).is_some() {
        return None;
    }
    let first = match x.req.framing {
        Framing::None => return None,
        // Behind the body there may be the next request.
        Framing::Length(n) => &body[..body.len().min(usize::try_from(n).unwrap_or(usize::MAX))],
        // Of chunks, the first one counts.
        Framing::Chunked => &body[body.iter().position(|c| *c == b'\n')? + 1..],
        Framing::UntilClose => body,
    };
    // A list of parameters has neither blanks nor control characters.
    let end = first.iter().position(|c| *c <= b' ' || *c == 0x7f).unwrap_or(first.len());
    param(&first[..end], name.as_bytes()).map(<[u8]>::to_vec)
}

/// `len`, `depth` and `whole` of `balance uri`.
fn part_of_uri(url: &[u8], len: usize, depth: usize, whole: bool) -> &[u8] {
    let url = if len > 0 { &url[..url.len().min(len)] } else { url };
    let mut slashes = 0;
    let end = url.iter().position(|c| match c {
        b'/' => {
            slashes += 1;
            depth > 0 && slashes > depth
        }
        b'?' => !whole,
        _ => false,
    });
    &url[..end.unwrap_or(url.len())]
}

/// `use_domain_only`: what stands before the last dot, without the host in front of it.
fn domain(host: &[u8]) -> &[u8] {
    let end = host.iter().rposition(|c| *c == b'.').unwrap_or(host.len());
    let start = host[..end].iter().rposition(|c| *c == b'.').map_or(0, |p| p + 1);
    &host[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_uri() {
        let url = b"/a/b/c?d=/e";
        assert_eq!(part_of_uri(url, 0, 0, false), b"/a/b/c");
        assert_eq!(part_of_uri(url, 0, 0, true), url);
        assert_eq!(part_of_uri(url, 0, 1, false), b"/a");
        assert_eq!(part_of_uri(url, 4, 0, false), b"/a/b");
    }

    #[test]
    fn domains() {
        assert_eq!(domain(b"www.example.com"), b"example");
        assert_eq!(domain(b"example.com"), b"example");
        assert_eq!(domain(b"localhost"), b"localhost");
    }
}
