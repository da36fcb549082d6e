//! The last messages that were none, kept for `show errors` (management manual 9.3).
use super::Thread;
use super::outcome::Exchange;
use crate::http::h1::head::{Head, HeadError};
use crate::state::live::{Offence, lock};
use crate::state::snapshot::ProxyNode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

/// Keeps a request that could not be read.
pub fn request(t: &Thread, x: &Exchange<'_>, bytes: &[u8]) {
    let accept = x.fe.accept(true);
    keep(t, x, &x.fe, 0, bytes, |head, part| head.parse_request(part, accept).err());
}

/// Keeps a response that could not be read.
pub fn response(t: &Thread, x: &Exchange<'_>, be: &Arc<ProxyNode>, bytes: &[u8]) {
    let (accept, method) = (be.accept(false), x.req.method().to_vec());
    keep(t, x, be, 1, bytes, |head, part| head.parse_response(part, &method, accept).err());
}

fn keep(
    t: &Thread,
    x: &Exchange<'_>,
    node: &ProxyNode,
    side: usize,
    bytes: &[u8],
    parse: impl Fn(&mut Head, &[u8]) -> Option<HeadError>,
) {
    let bytes = &bytes[..bytes.len().min(node.bufsize)];
    // The first byte that spoils it: up to there it could have gone on.
    let mut head = t.take_head();
    let (mut good, mut spoilt) = (0, bytes.len());
    while spoilt - good > 1 {
        let middle = good.midpoint(spoilt);
        if matches!(parse(&mut head, &bytes[..middle]), None | Some(HeadError::Partial)) {
            good = middle;
        } else {
            spoilt = middle;
        }
    }
    t.give_head(head);
    let named = |p: &Arc<ProxyNode>| (p.conf.name.clone(), p.iid);
    let server = x.server.and_then(|i| x.backend().servers.get(i));
    let offence = Offence {
        at: SystemTime::now(),
        number: t.shared.live.offences.fetch_add(1, Relaxed),
        src: x.src,
        other: if side == 0 { x.be.as_ref().map(named) } else { Some(named(&x.fe)) },
        server: server.map(|s| (s.conf.name.clone(), s.sid)),
        position: spoilt.saturating_sub(1),
        bytes: bytes.into(),
    };
    *lock(&node.live.offences[side]) = Some(Box::new(offence));
}
