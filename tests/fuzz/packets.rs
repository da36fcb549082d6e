//! What comes from the network, or from a worker that is in other hands, against every decoder of the guardian. Nothing may panic or grow; what is taken
//! must come out again as it was; and the machines behind are given what was taken.
use super::Dice;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tandem_proxy::base::diag::Place;
use tandem_proxy::config::keepalived::build::blank_bfd;
use tandem_proxy::config::model::Bfd;
use tandem_proxy::process::ipc::ToGuardian;
use tandem_proxy::vrrp::bfd::{self, Session};
use tandem_proxy::vrrp::fsm::{Action, Input, Machine, Params};
use tandem_proxy::vrrp::packet::{AUTH_SIMPLE, Advert, Expect, Proof};
use tandem_proxy::vrrp::timing::Version;
use tandem_proxy::vrrp::{ah, carp, trailer};

const SECOND: Duration = Duration::from_secs(1);
const PASS: &[u8; 8] = b"secret\0\0";
const KEY: &[u8; 32] = b"0123456789abcdef0123456789abcdef";
const CARP_KEY: &[u8; carp::KEY] = b"secret\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// No packet makes a machine do more at once.
const MOST_ACTIONS: usize = 8;

fn ends(six: bool) -> (IpAddr, IpAddr) {
    let parse = |s: &str| s.parse().unwrap();
    if six { (parse("fe80::1"), parse("ff02::12")) } else { (parse("10.9.0.1"), parse("224.0.0.18")) }
}

fn advert(version: Version, six: bool) -> Advert {
    let addr = |n: u8| {
        if six {
            IpAddr::from([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n])
        } else {
            IpAddr::from([10, 9, 0, n])
        }
    };
    let auth = if version == Version::V2 { (AUTH_SIMPLE, *PASS) } else { (0, [0; 8]) };
    Advert { version, vrid: 51, priority: 100, interval: SECOND, addrs: vec![addr(100), addr(101)], auth }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (version, six) in [(Version::V2, false), (Version::V3, false), (Version::V3, true)] {
        let (src, dst) = ends(six);
        let mut b = Vec::new();
        advert(version, six).emit(src, dst, false, &mut b);
        all.push(b.clone());
        trailer::sign(&mut b, src, 1, KEY, trailer::sequence(SECOND, 0));
        all.push(b);
    }
    // One bit away from an interval of nothing.
    let (src, dst) = ends(false);
    let mut b = Vec::new();
    Advert { interval: Duration::from_millis(10), ..advert(Version::V3, false) }.emit(src, dst, false, &mut b);
    all.push(b);
    if let ((IpAddr::V4(src), IpAddr::V4(dst)), mut whole) = (ends(false), Vec::new()) {
        ah::wrap(src, dst, 255, PASS, 7, &all[0], &mut whole);
        all.push(whole);
    }
    let (addrs, mut b) = (["10.9.0.100".parse().unwrap()], Vec::new());
    let group = carp::Group { vhid: 51, key: CARP_KEY, addrs: &addrs };
    carp::Advert::of(100, SECOND).emit(1, &group, &mut b);
    all.push(b);
    let mut neighbour = Session::new(session_conf(), 9, Instant::now());
    let mut out = Vec::new();
    neighbour.tick(Instant::now(), &mut out);
    all.extend(out.iter().filter_map(|a| if let bfd::Action::Send(p) = a { Some(p.emit().to_vec()) } else { None }));
    for m in [
        ToGuardian::Ready { generation: 3, threads: vec![1, 2] },
        ToGuardian::Failed { generation: 1, why: "no".into() },
        ToGuardian::Drained,
    ] {
        all.push(serde_json::to_vec(&m).unwrap());
    }
    all
}

/// A packet with an octet or two changed, cut, or longer.
pub fn mutate(seeds: &[Vec<u8>], d: &mut Dice) -> Vec<u8> {
    let mut b = d.pick(seeds).clone();
    for _ in 0..=d.roll(2) {
        let at = d.roll(b.len().max(1));
        let value = u8::try_from(d.roll(256)).unwrap();
        match (d.roll(8), b.get_mut(at)) {
            (0..=2, Some(x)) => *x ^= 1 << d.roll(8),
            (3 | 4, Some(x)) => *x = *d.pick(&[0, 1, 0x7f, 0x80, 0xff]),
            (5, Some(x)) => *x = value,
            (6, _) => b.truncate(at),
            _ => drop(b.splice(at..at, vec![value; 1 + d.roll(40)])),
        }
    }
    b
}

fn session_conf() -> Bfd {
    Bfd { neighbour: ends(false).0, ttl: 255, ..blank_bfd("b", &Place::new(&"b".into(), 1)) }
}

/// RFC 1071, with the pseudo header where a version has it: most mutations would end at the checksum otherwise.
fn mend(b: &mut [u8], pseudo: Option<(IpAddr, IpAddr)>) {
    if b.len() < 8 {
        return;
    }
    b[6..8].fill(0);
    let mut all = b.to_vec();
    if all.len() % 2 == 1 {
        all.push(0);
    }
    for ip in pseudo.into_iter().flat_map(|(s, d)| [s, d]) {
        match ip {
            IpAddr::V4(a) => all.extend(a.octets()),
            IpAddr::V6(a) => all.extend(a.octets()),
        }
    }
    if pseudo.is_some() {
        all.extend([0, 112]);
        all.extend(u16::try_from(b.len()).unwrap_or(u16::MAX).to_be_bytes());
    }
    let mut sum: u64 = all.chunks(2).map(|c| u64::from(u16::from_be_bytes([c[0], c[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !u16::try_from(sum).unwrap();
    b[6..8].copy_from_slice(&sum.to_be_bytes());
}

/// Everything is tried on everything.
pub fn run(data: &[u8]) {
    // No larger packet is read.
    let data = &data[..data.len().min(2048)];
    for version in [Version::V2, Version::V3] {
        for six in [false, true] {
            let (src, dst) = ends(six);
            let mut b = data.to_vec();
            mend(&mut b, (version == Version::V3).then_some((src, dst)));
            for b in [data, &b] {
                vrrp(b, version, six);
            }
        }
    }
    for six in [false, true] {
        signed(data, six);
    }
    headers(data);
    carp_group(data);
    sessions(data);
    let _ = serde_json::from_slice::<ToGuardian>(data);
}

fn vrrp(b: &[u8], version: Version, six: bool) {
    let (src, dst) = ends(six);
    let auth = if b.get(4) == Some(&AUTH_SIMPLE) { Proof::Pass(PASS) } else { Proof::None };
    let e = Expect {
        version,
        vrid: 51,
        src,
        dst,
        ttl: Some(255),
        auth,
        interval: SECOND,
        plain_checksum: false,
        signed: 0,
    };
    let Ok(a) = Advert::parse(b, &e) else { return };
    // Octets of an authentication that is none are nobody's, and so are four reserved bits.
    let mut again = Vec::new();
    a.emit(src, dst, false, &mut again);
    let same = again.len() == b.len() && again[..4] == b[..4] && again[8..] == b[8..] && again[5] == b[5];
    assert!(same, "{b:x?} came out as {again:x?}");
    let input = Input::Advert { priority: a.priority, interval: a.interval, wins_tie: b.len().is_multiple_of(3) };
    for priority in [1, 100, 254, 255] {
        for master in [false, true] {
            machine(version, priority, master, input);
        }
    }
}

/// A machine that hears it does little, and has something to wait for.
fn machine(version: Version, priority: u8, master: bool, input: Input) {
    let mut now = Instant::now();
    let (mut m, mut out) = (Machine::new(Params::plain(version, SECOND), priority), Vec::new());
    m.handle(now, Input::Serving(Ok(())), &mut out);
    m.handle(now, Input::Start, &mut out);
    if master {
        now = m.next_deadline().unwrap();
        m.tick(now, &mut out);
    }
    for _ in 0..3 {
        out.clear();
        m.handle(now, input, &mut out);
        m.tick(now, &mut out);
        assert!(out.len() <= MOST_ACTIONS, "{input:?}: {out:?}");
        let better = matches!(input, Input::Advert { priority: p, .. } if p > priority);
        assert!(!(better && out.contains(&Action::Acquire)), "{input:?} made {priority} master: {out:?}");
        let next = m.next_deadline().unwrap();
        assert!(
            next > now && next <= now + Duration::from_secs(200),
            "{input:?} at {priority}: waits {:?}",
            next - now
        );
        assert!(out.iter().filter(|a| matches!(a, Action::SendAdvert { .. })).count() <= 2, "{out:?}");
        now += Duration::from_millis(10);
        if next < now {
            m.tick(now, &mut out);
        }
    }
}

fn signed(data: &[u8], six: bool) {
    let (src, dst) = ends(six);
    let key = |id: u8| (id == 1).then_some(&KEY[..]);
    let _ = trailer::verify(data, src, key);
    let _ = trailer::body_length(data, six);
    if data.len() < 8 || data.len() > 1500 {
        return;
    }
    let mut b = data.to_vec();
    trailer::sign(&mut b, src, 1, KEY, 5);
    assert!(trailer::verify(&b, src, key).is_ok_and(|s| s.sequence == 5));
    let e = Expect {
        version: Version::V3,
        vrid: 51,
        src,
        dst,
        ttl: None,
        auth: Proof::None,
        interval: SECOND,
        plain_checksum: true,
        signed: trailer::LENGTH,
    };
    let _ = Advert::parse(&b, &e);
}

fn headers(data: &[u8]) {
    let _ = ah::unwrap(data, PASS);
    let ((IpAddr::V4(src), IpAddr::V4(dst)), mut whole) = (ends(false), Vec::new()) else { return };
    ah::wrap(src, dst, 255, PASS, 7, data, &mut whole);
    // The kernel writes the header's checksum, which is not signed.
    assert_eq!(ah::unwrap(&whole, PASS), Ok((44, 7)));
}

fn carp_group(data: &[u8]) {
    let addrs = ["10.9.0.100".parse().unwrap()];
    let group = carp::Group { vhid: 51, key: CARP_KEY, addrs: &addrs };
    if let Ok(a) = carp::Advert::parse(data, Some(255), &group) {
        let mut again = Vec::new();
        let counter = data[8..16].try_into().map(u64::from_be_bytes).unwrap();
        a.emit(counter, &group, &mut again);
        // What a BSD counts as its demotion is not used.
        assert_eq!((&again[..4], &again[8..]), (&data[..4], &data[8..]));
    }
    // What a member could say.
    if let [advbase @ 1..=255, advskew, ..] = *data {
        let rank = carp::Advert { advbase, advskew }.rank(SECOND, 3);
        let input = |priority| Input::Advert {
            priority,
            interval: rank.interval,
            wins_tie: rank.wins_tie.unwrap_or(data.len().is_multiple_of(2)),
        };
        machine(Version::Carp, 254, false, input(if rank.slow { 0 } else { rank.priority }));
        machine(Version::Carp, 100, true, input(rank.priority));
    }
}

fn sessions(data: &[u8]) {
    let Some(p) = bfd::Packet::parse(data) else { return };
    let mut now = Instant::now();
    let (mut s, mut out) = (Session::new(session_conf(), 9, now), Vec::new());
    for _ in 0..3 {
        out.clear();
        s.handle(now, &p, &mut out);
        s.tick(now, &mut out);
        assert!(out.len() <= MOST_ACTIONS, "{out:?}");
        assert!(s.next_deadline().is_none_or(|t| t > now), "a deadline in the past");
        now += Duration::from_millis(1);
    }
}
