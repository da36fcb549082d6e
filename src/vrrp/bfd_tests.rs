//! Two sessions with each other, on a wire that may be cut.
use super::*;
use crate::config::keepalived::build::{blank_bfd, place_of};

fn conf(passive: bool) -> Bfd {
    let mut c = blank_bfd("b", &place_of("f:1"));
    (c.passive, c.multiplier) = (passive, 3);
    c
}

/// Runs both until `until`, with 1 ms on the wire; gives what changed, and when.
fn run(a: &mut [Session; 2], from: Instant, until: Instant, whole: [bool; 2]) -> Vec<(usize, bool, Duration)> {
    let mut changes = Vec::new();
    let mut wire: Vec<(Instant, usize, [u8; 24])> = Vec::new();
    let mut now = from;
    while let Some(next) =
        wire.iter().map(|w| w.0).chain(a.iter().filter_map(Session::next_deadline)).min().filter(|t| *t <= until)
    {
        now = now.max(next);
        let mut out = Vec::new();
        if let Some(k) = wire.iter().position(|w| w.0 <= now) {
            let (_, to, bytes) = wire.remove(k);
            let mut acts = Vec::new();
            a[to].handle(now, &Packet::parse(&bytes).unwrap(), &mut acts);
            out.extend(acts.into_iter().map(|x| (to, x)));
        } else {
            for (i, s) in a.iter_mut().enumerate() {
                let mut acts = Vec::new();
                s.tick(now, &mut acts);
                out.extend(acts.into_iter().map(|x| (i, x)));
            }
        }
        for (i, act) in out {
            match act {
                Action::Send(p) if whole[i] => wire.push((now + Duration::from_millis(1), 1 - i, p.emit())),
                Action::Send(_) => {}
                Action::Changed { up, .. } => changes.push((i, up, now - from)),
            }
        }
    }
    changes
}

#[test]
fn they_meet_lose_each_other_and_meet_again() {
    for passive in [false, true] {
        let t = Instant::now();
        let s = Duration::from_secs;
        let mut pair = [Session::new(conf(false), 11, t), Session::new(conf(passive), 22, t)];
        let up = run(&mut pair, t, t + s(5), [true, true]);
        assert_eq!(up.iter().map(|c| (c.0, c.1)).collect::<Vec<_>>().len(), 2, "{up:?}");
        assert!(pair.iter().all(|p| p.state() == State::Up));
        // Fast by now: three times the neighbour's 10 ms.
        let down = run(&mut pair, t + s(5), t + s(6), [false, false]);
        assert!(down.len() == 2 && down.iter().all(|c| !c.1 && c.2 < Duration::from_millis(35)), "{down:?}");
        let again = run(&mut pair, t + s(6), t + s(12), [true, true]);
        assert!(again.len() >= 2 && again.iter().all(|c| c.1), "{again:?}");
        // One direction is enough to bring both down.
        let half = run(&mut pair, t + s(12), t + s(13), [true, false]);
        assert!(half.iter().any(|c| c.0 == 0 && !c.1) && half.iter().any(|c| c.0 == 1 && !c.1), "{half:?}");
        assert!(pair.iter().all(|p| p.state() != State::Up));
    }
}

#[test]
fn who_leaves_says_so() {
    let t = Instant::now();
    let s = Duration::from_secs;
    let mut pair = [Session::new(conf(false), 11, t), Session::new(conf(false), 22, t)];
    run(&mut pair, t, t + s(5), [true, true]);
    let mut out = Vec::new();
    pair[0].leave(&mut out);
    let Action::Send(p) = out[0] else { panic!("{out:?}") };
    let mut heard = Vec::new();
    pair[1].handle(t + s(5), &p, &mut heard);
    assert!(heard.contains(&Action::Changed { up: false, why: Diagnostic::NeighbourDown }), "{heard:?}");
}

#[test]
fn packets_both_ways_and_what_is_dropped() {
    let p = Packet {
        diagnostic: 1,
        state: State::Init,
        poll: true,
        last: false,
        multiplier: 5,
        mine: 7,
        yours: 9,
        min_tx: 10_000,
        min_rx: 20_000,
    };
    let good = p.emit();
    assert_eq!(good[..4], [0x21, 0xa0, 5, 24]);
    assert_eq!(Packet::parse(&good), Some(p));
    for (at, value) in [(0, 0x41), (1, 0xa4), (1, 0xa1), (2, 0), (3, 23), (3, 25), (7, 0), (11, 0)] {
        let mut bad = good;
        bad[at] = value;
        assert_eq!(Packet::parse(&bad), None, "{at} {value}");
    }
    for len in 0..good.len() {
        assert_eq!(Packet::parse(&good[..len]), None);
    }
    // For somebody else.
    let t = Instant::now();
    let mut s = Session::new(conf(false), 8, t);
    let mut out = Vec::new();
    s.handle(t, &p, &mut out);
    assert_eq!((s.state(), out.len()), (State::Down, 0));
}
