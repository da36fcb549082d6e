//! Adverts that arrive: checked, counted, given to their router.
use super::ah;
use super::carp;
use super::engine::{Engine, Told};
use super::fsm::{Input, State};
use super::packet::{Advert, Expect, Proof, Reject};
use super::router::{Incoming, Router, since_epoch, version, whole_seconds};
use super::timing::Version;
use super::trailer::{self, Signed};
use crate::config::model::{Auth, CarpAuth, HmacAuth, HmacMode, OldChecksum, Peer, Replay};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The shortest default of `time_window`.
const MIN_WINDOW: Duration = Duration::from_secs(5);

/// An advert that was taken, of either protocol.
struct Heard {
    priority: u8,
    interval: Duration,
    wins_tie: bool,
    /// It names the addresses that we have.
    same_addresses: bool,
}

impl Engine {
    pub(super) fn packet(&mut self, p: &Incoming, now: Instant) {
        let Some(i) = self.routers.iter().position(|r| r.key == p.router) else { return };
        let r = &mut self.routers[i];
        let unicast = r.unicast();
        if Some(p.packet.src) == r.src || r.has(p.packet.src) {
            // Our own, or from one that speaks from the address which is at stake: such an advert is no peer's.
            r.reject("own source");
            return;
        }
        // For another router here, whose adverts come in over any interface.
        let (dst, vrid, six) = (Some(p.packet.dst), r.conf.vrid, r.six());
        if dst != r.src
            && self.routers.iter().any(|o| o.roams() && o.src == dst && o.conf.vrid == vrid && o.six() == six)
        {
            self.routers[i].reject(Reject::Vrid.name());
            return;
        }
        let r = &mut self.routers[i];
        let peer = r.conf.peers.iter().find(|q| q.addr == p.packet.src).copied();
        if unicast && peer.is_none() {
            let first = r.reject("source") == 1;
            let strict = r.conf.check_unicast_src;
            if first {
                let what = if strict {
                    "dropped"
                } else {
                    "taken all the same, as keepalived does without 'check_unicast_src'"
                };
                let text =
                    format!("({}) an advert from {}, which is no unicast peer: {what}", r.conf.name, p.packet.src);
                self.told.push(Told::Log { important: true, text });
            }
            if strict {
                return;
            }
        }
        let r = &mut self.routers[i];
        let checked = match peer.filter(Peer::is_bound) {
            Some(q) if p.packet.ttl.is_some_and(|t| t < q.min_ttl || t > q.max_ttl) => Err(Reject::Ttl),
            _ => Self::examine(r, p, now),
        };
        match checked {
            // Another router's VRID on the same wire is nobody's mistake, and no log line.
            Err(why @ (Reject::Vrid | Reject::Twice)) => drop(r.reject(why.name())),
            Err(e) => {
                if r.reject(e.name()) == 1 {
                    let text = format!("({}) dropped an advert from {}: wrong {}", r.conf.name, p.packet.src, e.name());
                    self.told.push(Told::Log { important: true, text });
                }
            }
            Ok(a) => {
                r.stats.received += 1;
                r.stats.zero_received += u64::from(a.priority == 0);
                r.heard(now, &p.packet.src, a.priority, a.interval);
                if !a.same_addresses && !r.conf.skip_addr_check && r.reject("addresses") == 1 {
                    let text = format!(
                        "({}) {} advertises other addresses than ours: compare the two configurations",
                        r.conf.name, p.packet.src
                    );
                    self.told.push(Told::Log { important: true, text });
                }
                let Heard { priority, interval, wins_tie, .. } = a;
                self.feed(i, now, Input::Advert { priority, interval, wins_tie });
                self.settle(now);
            }
        }
    }

    /// The signature of an advert: `None` if it has none and needs none.
    fn signature(r: &Router, h: &HmacAuth, message: &[u8], src: IpAddr) -> Result<Option<Signed>, Reject> {
        // Another router's VRID is nobody's mistake.
        if message.get(1).is_some_and(|v| *v != r.conf.vrid) {
            return Err(Reject::Vrid);
        }
        let body = trailer::body_length(message, src.is_ipv6()).ok_or(Reject::Length)?;
        if message.len() == body && h.mode != HmacMode::Enforce {
            return Ok(None);
        }
        if message.len() != body + trailer::LENGTH {
            return Err(if message.len() == body { Reject::AuthType } else { Reject::Length });
        }
        let signed = trailer::verify(message, src, |id| h.key(id))?;
        let window = h.window.unwrap_or_else(|| (r.conf.advert_int * 3).max(MIN_WINDOW));
        if h.replay == Replay::Time && !trailer::is_fresh(signed.sequence, since_epoch(), window) {
            return Err(Reject::Replay);
        }
        Ok(Some(signed))
    }

    /// Takes CARP's advert out of the packet.
    fn examine_carp(r: &Router, p: &Incoming, auth: &CarpAuth) -> Result<Heard, Reject> {
        let group = carp::Group { vhid: r.conf.vrid, key: &auth.key, addrs: &auth.addrs };
        let message = p.bytes.get(p.packet.start..).unwrap_or_default();
        let ttl = if r.unicast() { None } else { p.packet.ttl };
        let rank = carp::Advert::parse(message, ttl, &group)?.rank(r.conf.advert_int, r.conf.down_adverts);
        let lower = r.src.is_some_and(|s| carp::goes_before(p.packet.src, s));
        // One that cannot serve is glad of any other.
        let waits = matches!(r.machine.state(), State::Backup { .. }) && r.machine.able();
        Ok(Heard {
            priority: if rank.slow && waits { 0 } else { rank.priority },
            interval: rank.interval,
            wins_tie: rank.wins_tie.unwrap_or(lower),
            // They are signed.
            same_addresses: true,
        })
    }

    /// Takes the advert out of the packet, if it is one for this router.
    fn examine(r: &mut Router, p: &Incoming, now: Instant) -> Result<Heard, Reject> {
        if let Auth::Carp(auth) = &r.conf.auth {
            return Self::examine_carp(r, p, auth);
        }
        let mut start = p.packet.start;
        let mut counted = None;
        if let Auth::Header(key) = &r.conf.auth {
            // Whose VRID it is stands behind the header: another router's key is nobody's mistake.
            if p.bytes.get(start + ah::LENGTH + 1).is_some_and(|v| *v != r.conf.vrid) {
                return Err(Reject::Vrid);
            }
            let (at, seq) = ah::unwrap(&p.bytes, key)?;
            (start, counted) = (at, Some(seq));
        }
        let message = p.bytes.get(start..).unwrap_or_default();
        let signed = match &r.conf.hmac {
            None => None,
            Some(h) => Self::signature(r, h, message, p.packet.src)?,
        };
        let old = r.conf.also_v2 && message.first().is_some_and(|b| b >> 4 == 2);
        let expect = Expect {
            version: if old { Version::V2 } else { version(r.conf.version) },
            vrid: r.conf.vrid,
            src: p.packet.src,
            dst: p.packet.dst,
            ttl: if r.unicast() { None } else { p.packet.ttl },
            auth: match &r.conf.auth {
                Auth::None | Auth::Carp(_) => Proof::None,
                Auth::Pass(pass) => Proof::Pass(pass),
                Auth::Header(_) => Proof::Header,
            },
            interval: if old { whole_seconds(r.conf.advert_int) } else { r.conf.advert_int },
            plain_checksum: r.conf.checksum_v2,
            signed: if signed.is_some() { trailer::LENGTH } else { 0 },
        };
        let may_be_old = !old && r.unicast() && p.packet.src.is_ipv4() && r.conf.old_checksum != OldChecksum::Never;
        let (advert, old_sum) = match Advert::parse(message, &expect) {
            Err(Reject::Checksum) if may_be_old => (Advert::parse(message, &Expect { dst: r.group, ..expect })?, true),
            other => (other?, false),
        };
        if let Some(s) = signed {
            r.sequences.take(p.packet.src, s.sequence)?;
        }
        if r.conf.also_v2 && r.moved(p.packet.src, !old, now) && old {
            return Err(Reject::Twice);
        }
        r.heard_old_sum |= old_sum;
        r.count_on(counted);
        match counted {
            Some(seq) if !r.counts.is_new(p.packet.src, seq, now, r.machine.master_down()) => Err(Reject::Replay),
            _ => Ok(Heard {
                priority: advert.priority,
                interval: advert.interval,
                wins_tie: r.src.is_some_and(|s| p.packet.src > s),
                same_addresses: advert.addrs.len() == r.conf.vips.len()
                    && advert.addrs.iter().all(|x| r.conf.vips.iter().any(|v| v.addr.addr == *x)),
            }),
        }
    }
}
