//! Timelines.
use super::*;

#[test]
fn addresses_of_a_killed_predecessor_are_held_until_a_peer_would_have_been_heard() {
    let t = Instant::now();
    let params = Params { preempt: true, grouped: false, ..Params::plain(Version::V2, ms(1000)) };
    for peer in [false, true] {
        let mut m = Machine::new(params.clone(), 150);
        assert!(
            step(&mut m, t, Input::Adopt)
                .iter()
                .all(|a| !matches!(a, Action::SendAdvert { .. } | Action::Announce { .. }))
        );
        assert!(m.state().has_address());
        // Being able is no reason to speak before the peer has had its turn.
        assert_eq!(step(&mut m, t + ms(50), Input::Serving(Ok(()))), []);
        if peer {
            let advert = Input::Advert { priority: 100, interval: ms(1000), wins_tie: false };
            assert!(step(&mut m, t + ms(900), advert).contains(&Action::Release));
        } else {
            let mut out = Vec::new();
            m.tick(t + ms(1100), &mut out);
            assert!(out.contains(&Action::SendAdvert { priority: 150 }), "{out:?}");
            assert!(!out.contains(&Action::Acquire));
        }
    }
}

#[test]
fn a_master_that_cannot_serve_is_not_waited_for() {
    let t = Instant::now();
    let params = Params { preempt: false, grouped: false, ..Params::plain(Version::V2, ms(1000)) };
    let mut m = Machine::new(params, 150);
    step(&mut m, t, Input::Start);
    let last = Input::Advert { priority: 1, interval: ms(1000), wins_tie: false };
    step(&mut m, t + ms(500), last);
    step(&mut m, t + ms(600), Input::Serving(Ok(())));
    assert!(m.next_deadline().unwrap() <= t + ms(600) + timing::prompt(150), "{:?}", m.state());
    let mut m = Machine::new(m.params.clone(), 150);
    step(&mut m, t, Input::Serving(Ok(())));
    step(&mut m, t, Input::Start);
    step(&mut m, t + ms(500), last);
    assert!(m.next_deadline().unwrap() <= t + ms(500) + timing::prompt(150), "{:?}", m.state());
}

#[test]
fn who_waited_for_a_group_that_is_gone_waits_no_longer() {
    let t = Instant::now();
    let params = Params { preempt: true, grouped: true, ..Params::plain(Version::V2, ms(1000)) };
    let mut m = Machine::new(params.clone(), 150);
    step(&mut m, t, Input::Start);
    m.tick(t + ms(5000), &mut Vec::new());
    assert!(matches!(m.state(), State::Backup { wants: true, .. }));
    m.reconfigure(t + ms(6000), Params { grouped: false, ..params });
    assert_eq!(m.next_deadline(), Some(t + ms(6000)));
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn machine(priority: u8, preempt: bool) -> (Machine, Instant) {
    let p = Params { preempt, ..Params::plain(Version::V3, ms(100)) };
    let now = Instant::now();
    let mut m = Machine::new(p, priority);
    let mut out = Vec::new();
    m.handle(now, Input::Serving(Ok(())), &mut out);
    m.handle(now, Input::Start, &mut out);
    (m, now)
}

fn step(m: &mut Machine, now: Instant, input: Input) -> Vec<Action> {
    let mut out = Vec::new();
    m.handle(now, input, &mut out);
    out
}

fn expire(m: &mut Machine) -> Vec<Action> {
    let at = m.next_deadline().unwrap();
    tick(m, at)
}

fn tick(m: &mut Machine, now: Instant) -> Vec<Action> {
    let mut out = Vec::new();
    m.tick(now, &mut out);
    out
}

fn advert(priority: u8) -> Input {
    Input::Advert { priority, interval: ms(100), wins_tie: true }
}

fn master(priority: u8) -> (Machine, Instant) {
    let (mut m, now) = machine(priority, true);
    let at = m.next_deadline().unwrap();
    assert_eq!(at - now, ms(300) + timing::skew(Version::V3, priority, ms(100)));
    let out = tick(&mut m, at);
    assert_eq!(out[..3], [Action::Acquire, Action::Announce { repeat: true }, Action::SendAdvert { priority }]);
    (m, at)
}

#[test]
fn yields_once_holds_and_drops_when_the_peer_speaks() {
    let (mut m, t) = master(100);
    let out = step(&mut m, t, Input::Serving(Err(Why::Proxy)));
    assert_eq!(out[0], Action::SendAdvert { priority: 0 });
    assert!(m.state().has_address());
    assert_eq!(step(&mut m, t, Input::Serving(Err(Why::Proxy))), []);
    let out = step(&mut m, t + ms(7), advert(90));
    assert_eq!(out[0], Action::Release);
    assert_eq!(m.state().role(), Role::Backup);
}

#[test]
fn the_last_one_keeps_the_address_at_priority_one() {
    let (mut m, t) = master(100);
    step(&mut m, t, Input::Serving(Err(Why::Proxy)));
    let at = m.next_deadline().unwrap();
    assert_eq!(at - t, timing::master_down(Version::V3, 1, ms(100), timing::DOWN_ADVERTS));
    let out = tick(&mut m, at);
    assert!(out.contains(&Action::SendAdvert { priority: 1 }) && !out.contains(&Action::Acquire));
    // Able again: at once, since nobody else is there.
    let out = step(&mut m, at + ms(1), Input::Serving(Ok(())));
    assert_eq!(out[0], Action::SendAdvert { priority: 100 });
    // And never a second 0 while it cannot serve as last resort.
    step(&mut m, at, Input::Serving(Err(Why::Proxy)));
    expire(&mut m);
    assert!(!step(&mut m, at, Input::Serving(Err(Why::Proxy))).contains(&Action::SendAdvert { priority: 0 }));
}

#[test]
fn a_restart_within_the_hold_takes_back_at_once() {
    let (mut m, t) = master(100);
    step(&mut m, t, Input::Serving(Err(Why::Proxy)));
    let out = step(&mut m, t + ms(30), Input::Serving(Ok(())));
    assert_eq!(out[1], Action::SendAdvert { priority: 100 });
}

#[test]
fn a_backup_takes_over_promptly_after_priority_zero_only_if_it_can_serve() {
    let (mut m, t) = machine(90, true);
    step(&mut m, t, advert(100));
    step(&mut m, t, advert(0));
    assert_eq!(m.next_deadline().unwrap() - t, Duration::from_micros(40 * 166));
    let (mut m, t) = machine(90, true);
    step(&mut m, t, advert(100));
    step(&mut m, t, Input::Serving(Err(Why::Proxy)));
    step(&mut m, t, advert(0));
    assert_eq!(m.next_deadline().unwrap() - t, timing::skew(Version::V3, 1, ms(100)));
}

#[test]
fn contends_again_after_probation_or_when_the_master_goes() {
    let (mut m, t) = machine(200, true);
    step(&mut m, t, Input::Serving(Err(Why::Proxy)));
    step(&mut m, t, advert(100));
    step(&mut m, t, Input::Serving(Ok(())));
    assert!(!m.able());
    let mut now = t;
    while now < t + ms(9_900) {
        now += ms(100);
        step(&mut m, now, advert(100));
        tick(&mut m, now);
        assert_eq!(m.state().role(), Role::Backup);
    }
    tick(&mut m, t + PROBATION);
    assert!(m.able());
    let (mut m, t) = machine(200, true);
    step(&mut m, t, Input::Serving(Err(Why::Proxy)));
    step(&mut m, t, advert(100));
    step(&mut m, t, Input::Serving(Ok(())));
    step(&mut m, t, advert(0));
    assert!(m.able());
}

#[test]
fn nopreempt_is_polite_but_not_to_a_master_that_cannot_serve() {
    let (mut m, t) = machine(200, false);
    let before = m.next_deadline();
    step(&mut m, t + ms(50), advert(100));
    assert!(m.next_deadline() > before);
    step(&mut m, t + ms(90), advert(1));
    assert_eq!(m.next_deadline(), Some(t + ms(90) + timing::prompt(200)));
}

#[test]
fn two_masters_settle_and_the_winner_announces_at_once() {
    let (mut m, t) = master(100);
    let out = step(&mut m, t, Input::Advert { priority: 100, interval: ms(100), wins_tie: false });
    assert_eq!(
        out,
        [
            Action::LowerHeard { priority: 100 },
            Action::SendAdvert { priority: 100 },
            Action::Announce { repeat: false }
        ]
    );
    let out = step(&mut m, t, advert(100));
    assert_eq!(out[0], Action::Release);
}

#[test]
fn shutdown_keeps_serving_until_the_peer_has_it() {
    let (mut m, t) = master(100);
    assert_eq!(step(&mut m, t, Input::Shutdown)[0], Action::SendAdvert { priority: 0 });
    assert!(m.state().has_address());
    assert_eq!(step(&mut m, t + ms(8), advert(90))[1], Action::Release);
    assert_eq!(m.state(), State::Stopped);
    let (mut m, t) = master(100);
    step(&mut m, t, Input::Shutdown);
    assert_eq!(expire(&mut m)[0], Action::Release);
    let _ = t;
}

#[test]
fn a_lost_interface_is_a_fault_and_comes_back_as_backup() {
    let (mut m, t) = master(100);
    let out = step(&mut m, t, Input::Interface(false));
    assert_eq!(out[..2], [Action::SendAdvert { priority: 0 }, Action::Release]);
    assert_eq!(m.next_deadline(), None);
    step(&mut m, t + ms(500), Input::Interface(true));
    assert_eq!(m.state().role(), Role::Backup);
    // A lower master is left in peace until the checks have had their time, then preempted at once.
    let mut now = t + ms(500);
    while now < t + ms(500) + LINK_PROBATION - ms(100) {
        now += ms(100);
        step(&mut m, now, advert(50));
        assert_eq!(tick(&mut m, now), []);
    }
    let out = tick(&mut m, t + ms(500) + LINK_PROBATION);
    assert_eq!(out[0], Action::Acquire);
}

#[test]
fn a_freeze_is_noticed_before_anything_is_said_as_master() {
    let (mut m, t) = master(200);
    let woke = t + ms(5000);
    assert!(!step(&mut m, woke, Input::Frozen).iter().any(|a| matches!(a, Action::SendAdvert { .. })));
    assert_eq!(step(&mut m, woke, advert(100))[0], Action::Release);
    let (mut m, t) = master(200);
    step(&mut m, t + ms(5000), Input::Frozen);
    let at = m.next_deadline().unwrap();
    assert!(tick(&mut m, at).contains(&Action::SendAdvert { priority: 200 }));
}

#[test]
fn what_the_words_of_an_instance_change() {
    let t = Instant::now();
    let plain = Params::plain(Version::V3, ms(100));
    let started = |p: Params, priority| {
        let mut m = Machine::new(p, priority);
        step(&mut m, t, Input::Serving(Ok(())));
        step(&mut m, t, Input::Start);
        m
    };
    let master = |p: Params, priority| {
        let mut m = started(p, priority);
        let at = m.next_deadline().unwrap();
        tick(&mut m, at);
        (m, at)
    };
    // down_timer_adverts
    let m = started(Params { down_adverts: 5, ..plain.clone() }, 100);
    assert_eq!(m.next_deadline(), Some(t + ms(500) + timing::skew(Version::V3, 100, ms(100))));
    // lower_prio_no_advert: the addresses are announced all the same.
    let (mut m, at) = master(Params { quiet_to_lower: true, ..plain.clone() }, 100);
    let before = m.next_deadline();
    let out = step(&mut m, at + ms(10), Input::Advert { priority: 50, interval: ms(100), wins_tie: false });
    assert_eq!(out, [Action::LowerHeard { priority: 50 }, Action::Announce { repeat: false }]);
    assert_eq!(m.next_deadline(), before);
    // higher_prio_send_advert
    let (mut m, at) = master(Params { answers_higher: true, ..plain.clone() }, 100);
    let out = step(&mut m, at, advert(200));
    assert_eq!(out[..2], [Action::SendAdvert { priority: 100 }, Action::Release]);
    // owner_ignore_adverts, and only the owner; and not one that cannot serve.
    let deaf = Params { owner_deaf: true, ..plain.clone() };
    let (mut m, at) = master(deaf.clone(), 255);
    assert_eq!(step(&mut m, at, advert(255)), []);
    let (mut m, at) = master(deaf, 100);
    assert!(step(&mut m, at, advert(255)).contains(&Action::Release));
    // Priority 255 begins as master only with 'state MASTER'.
    assert_eq!(started(plain.clone(), 255).state().role(), Role::Master);
    assert_eq!(started(Params { begins_master: false, ..plain }, 255).state().role(), Role::Backup);
}

#[test]
fn late_with_nopreempt_is_backup() {
    let p = Params { preempt: false, late_backup: Some(200), ..Params::plain(Version::V3, ms(100)) };
    let t = Instant::now();
    for (late, gone) in [(ms(150), false), (ms(330), true)] {
        let mut m = Machine::new(p.clone(), 100);
        step(&mut m, t, Input::Serving(Ok(())));
        step(&mut m, t, Input::Start);
        let at = m.next_deadline().unwrap();
        tick(&mut m, at);
        let out = tick(&mut m, at + late);
        assert_eq!(out.contains(&Action::Release), gone, "{late:?}");
    }
}

/// Found by the simulation: a late advert of one that had given up made the wait of the others shorter than the master's own interval.
#[test]
fn the_interval_is_learned_from_a_master_and_not_from_a_lower_one() {
    let (mut m, t) = machine(100, true);
    step(&mut m, t, Input::Advert { priority: 200, interval: ms(1000), wins_tie: false });
    step(&mut m, t + ms(10), Input::Advert { priority: 50, interval: ms(20), wins_tie: false });
    assert_eq!(m.master_interval(), ms(1000));
    step(&mut m, t + ms(20), Input::Advert { priority: 150, interval: ms(50), wins_tie: false });
    assert_eq!(m.master_interval(), ms(50));
}

/// Version 2 beside version 3: whoever speaks the older one says something once a second.
#[test]
fn one_that_speaks_both_versions_waits_for_the_slower() {
    let t = Instant::now();
    let p = Params { others: ms(1000), ..Params::plain(Version::V3, ms(100)) };
    let (mut m, mut out) = (Machine::new(p.clone(), 150), Vec::new());
    m.handle(t, Input::Serving(Ok(())), &mut out);
    m.handle(t, Input::Start, &mut out);
    let slow = t + ms(3000) + timing::skew(Version::V3, 150, ms(1000));
    assert_eq!(m.next_deadline(), Some(slow));
    // Once a faster one is heard, it counts.
    m.handle(t, Input::Advert { priority: 200, interval: ms(100), wins_tie: false }, &mut out);
    let fast = t + ms(300) + timing::skew(Version::V3, 150, ms(100));
    assert_eq!(m.next_deadline(), Some(fast));
    // A link that comes back begins anew.
    m.handle(t, Input::Interface(false), &mut out);
    m.handle(t, Input::Interface(true), &mut out);
    assert!(m.next_deadline() >= Some(t + ms(3000)));
    m.reconfigure(t, p);
    assert!(m.next_deadline() >= Some(t + ms(3000)));
}

#[test]
fn two_that_think_themselves_better_do_not_fill_the_network() {
    let t = Instant::now();
    let (mut m, mut out) = (Machine::new(Params::plain(Version::V3, ms(100)), 150), Vec::new());
    m.handle(t, Input::Serving(Ok(())), &mut out);
    m.handle(t, Input::Start, &mut out);
    let now = m.next_deadline().unwrap();
    m.tick(now, &mut out);
    let mut answers = |priority| -> usize {
        out.clear();
        for n in 0..1000 {
            let at = now + ms(1) + Duration::from_micros(20) * n;
            m.handle(at, Input::Advert { priority, interval: ms(100), wins_tie: false }, &mut out);
        }
        out.iter().filter(|a| matches!(a, Action::SendAdvert { .. })).count()
    };
    assert_eq!(answers(100), 2);
}

/// Another interval after a reload counts for a backup too, in all but version 3, which learns it.
#[test]
fn a_backup_takes_over_the_interval_of_a_reload() {
    let t = Instant::now();
    for (version, learned) in [(Version::V2, ms(5000)), (Version::Carp, ms(5000)), (Version::V3, ms(1000))] {
        let (mut m, mut out) = (Machine::new(Params::plain(version, ms(1000)), 100), Vec::new());
        m.handle(t, Input::Serving(Ok(())), &mut out);
        m.handle(t, Input::Start, &mut out);
        m.reconfigure(t, Params::plain(version, ms(5000)));
        assert_eq!(m.master_interval(), learned, "{version:?}");
    }
}
