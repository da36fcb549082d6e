//! Ring 2: whole nodes on a virtual LAN, over seeds: loss, delay, duplication, one-way links, splits, freezes, stopped clocks, crashes, restarts, proxies that
//! die and come back, priorities and configurations that change, sync groups on two segments.
//!
//! `SEEDS=100000 cargo test --release --test vrrp_sim -- --nocapture` runs more of them, `SEED=<n>` one with all that happens.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};
use tandem_proxy::vrrp::carp;
use tandem_proxy::vrrp::fsm::{Action, Cause, Input, LINK_PROBATION, Machine, PROBATION, Params, State, Why};
use tandem_proxy::vrrp::node::{Deed, Node, Seat};
use tandem_proxy::vrrp::timing::{self, Version};

struct Rng(u64);
impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Microseconds since the beginning.
type Time = u64;

fn us(d: Duration) -> Time {
    d.as_micros() as Time
}

const SECOND: Time = 1_000_000;

struct Place {
    machine: Machine,
    /// The address is here, as the actions have it.
    here: bool,
    /// When it last heard an advert, or something happened to it that begins its patience anew.
    since: Time,
}

impl Seat for Place {
    fn machine(&self) -> &Machine {
        &self.machine
    }
    fn machine_mut(&mut self) -> &mut Machine {
        &mut self.machine
    }
}

struct Host {
    node: Node,
    places: Vec<Place>,
    alive: bool,
    priority: u8,
    interval: Duration,
    preempt: bool,
    serving: Result<(), Why>,
    link: Vec<bool>,
    /// It does not run until then; packets wait in its sockets.
    asleep: Option<Time>,
    waiting: Vec<Packet>,
    /// How far its clock is behind: the sum of pauses in which it stood still.
    lag: Time,
    /// How often it has given its addresses away since it last could serve.
    zeros: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    at: Time,
    number: u64,
    from: usize,
    to: usize,
    segment: usize,
    priority: u8,
    interval: u64,
}

struct Lan {
    base: Instant,
    now: Time,
    hosts: Vec<Host>,
    wire: BinaryHeap<Reverse<Packet>>,
    sent: u64,
    rng: Rng,
    seed: u64,
    /// From, to, segment.
    cut: Vec<Vec<Vec<bool>>>,
    loss: u64,
    double: u64,
    delay: Time,
    version: Version,
    segments: usize,
    preempt_delay: Duration,
    moves: u64,
    talk: bool,
}

impl Lan {
    fn new(seed: u64, talk: bool) -> Self {
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            rng.next();
        }
        let version = match (rng.one_in(4), seed % 8) {
            (_, 7) => Version::Carp,
            (true, _) => Version::V2,
            (false, _) => Version::V3,
        };
        let interval = match (version, rng.below(20)) {
            (Version::V2 | Version::Carp, _) => Duration::from_secs(1),
            (Version::V3, 0) => Duration::from_millis(10),
            (Version::V3, 1..8) => Duration::from_millis(50),
            (Version::V3, 8..14) => Duration::from_millis(100),
            (Version::V3, _) => Duration::from_secs(1),
        };
        let n = 2 + rng.below(4) as usize;
        let segments = if rng.one_in(3) { 2 } else { 1 };
        let preempt = !rng.one_in(4);
        let preempt_delay = if rng.one_in(6) { Duration::from_millis(rng.below(4000)) } else { Duration::ZERO };
        let same = rng.one_in(8);
        let mut lan = Self {
            base: Instant::now(),
            now: 0,
            hosts: Vec::new(),
            wire: BinaryHeap::new(),
            sent: 0,
            rng,
            seed,
            cut: vec![vec![vec![false; segments]; n]; n],
            loss: 0,
            double: 0,
            delay: 500,
            version,
            segments,
            preempt_delay,
            moves: 0,
            talk,
        };
        for i in 0..n {
            // 1 is what one says that cannot serve.
            let priority = if same { 100 } else { 2 + lan.rng.below(253) as u8 };
            lan.hosts.push(Host {
                node: Node::default(),
                places: Vec::new(),
                alive: false,
                priority,
                interval,
                preempt,
                serving: Ok(()),
                link: vec![true; segments],
                asleep: None,
                waiting: Vec::new(),
                lag: 0,
                zeros: 0,
            });
            lan.boot(i);
        }
        lan.say(format!(
            "{n} hosts, {segments} segments, {version:?} every {interval:?}, preempt {preempt} after {preempt_delay:?}"
        ));
        lan
    }

    fn say(&self, text: String) {
        if self.talk {
            println!("{:>10.6} {text}", self.now as f64 / SECOND as f64);
        }
    }

    /// What a host takes for now.
    fn clock(&self, i: usize) -> Instant {
        self.base + Duration::from_micros(self.now - self.hosts[i].lag)
    }

    fn params(&self, i: usize) -> Params {
        let h = &self.hosts[i];
        Params {
            preempt: h.preempt,
            preempt_delay: self.preempt_delay,
            grouped: self.segments > 1,
            ..Params::plain(self.version, h.interval)
        }
    }

    fn boot(&mut self, i: usize) {
        let params = self.params(i);
        let (now, segments) = (self.now, self.segments);
        let h = &mut self.hosts[i];
        h.places = (0..segments)
            .map(|_| Place { machine: Machine::new(params.clone(), h.priority), here: false, since: now })
            .collect();
        (h.alive, h.asleep, h.zeros, h.lag) = (true, None, 0, 0);
        h.waiting.clear();
        h.node = Node::default();
        h.node.regroup(if segments > 1 { vec![(0..segments).collect()] } else { Vec::new() });
        let serving = h.serving;
        for k in 0..segments {
            self.give(i, k, Input::Serving(serving));
            let begin = if self.hosts[i].link[k] { Input::Start } else { Input::Interface(false) };
            self.give(i, k, begin);
        }
        self.settle(i);
    }

    fn give(&mut self, i: usize, k: usize, input: Input) {
        let clock = self.clock(i);
        let mut deeds = Vec::new();
        let h = &mut self.hosts[i];
        h.node.feed(&mut h.places, k, clock, input, &mut deeds);
        self.perform(i, deeds);
    }

    fn give_all(&mut self, i: usize, input: Input) {
        if !self.hosts[i].alive || self.hosts[i].asleep.is_some() {
            return;
        }
        for k in 0..self.segments {
            self.give(i, k, input);
        }
        self.settle(i);
    }

    fn settle(&mut self, i: usize) {
        let clock = self.clock(i);
        let mut deeds = Vec::new();
        let h = &mut self.hosts[i];
        h.node.settle(&mut h.places, clock, &mut deeds);
        self.perform(i, deeds);
    }

    fn perform(&mut self, i: usize, deeds: Vec<Deed>) {
        for (k, a) in deeds {
            let seed = self.seed;
            let p = &mut self.hosts[i].places[k];
            match a {
                Action::SendAdvert { priority } => {
                    assert!(p.here || priority == 0, "seed {seed}: {i}.{k} speaks as master without the address");
                    self.say(format!("{i}.{k} adverts {priority}"));
                    self.send(i, k, priority);
                }
                Action::Acquire => {
                    assert!(!p.here, "seed {seed}: {i}.{k} takes what it has");
                    p.here = true;
                }
                Action::Release => {
                    assert!(p.here, "seed {seed}: {i}.{k} gives up what it has not");
                    p.here = false;
                    p.since = self.now;
                }
                Action::Announce { .. } => assert!(p.here, "seed {seed}: {i}.{k} announces what it has not"),
                Action::LowerHeard { .. } => {}
                Action::Changed { from, to, cause } => {
                    p.since = self.now;
                    self.moves += 1;
                    self.say(format!("{i}.{k} {} -> {}: {}", from.name(), to.name(), cause.text()));
                }
                Action::Noted { cause } => {
                    p.since = self.now;
                    if matches!(cause, Cause::CannotServe(_)) {
                        self.hosts[i].zeros += 1;
                    }
                    self.say(format!("{i}.{k} {}", cause.text()));
                }
            }
        }
    }

    fn send(&mut self, from: usize, segment: usize, priority: u8) {
        if !self.hosts[from].link[segment] {
            return;
        }
        let interval = us(self.hosts[from].interval);
        for to in 0..self.hosts.len() {
            if to == from || self.cut[from][to][segment] || self.rng.below(100) < self.loss {
                continue;
            }
            let copies = if self.rng.below(100) < self.double { 2 } else { 1 };
            for _ in 0..copies {
                self.sent += 1;
                let at = self.now + 50 + self.rng.below(self.delay);
                self.wire.push(Reverse(Packet { at, number: self.sent, from, to, segment, priority, interval }));
            }
        }
    }

    fn next_timer(&self, i: usize) -> Option<Time> {
        let h = &self.hosts[i];
        if !h.alive {
            return None;
        }
        if h.asleep.is_some() {
            return h.asleep;
        }
        let due = h.places.iter().filter_map(|p| p.machine.next_deadline()).min()?;
        // Rounded up: a timer never fires early.
        Some(due.saturating_duration_since(self.base).as_nanos().div_ceil(1000) as Time + h.lag)
    }

    /// As the engine does before anything it does.
    fn wake(&mut self, i: usize) {
        let clock = self.clock(i);
        let mut deeds = Vec::new();
        let h = &mut self.hosts[i];
        let slept = h.node.wake(&mut h.places, clock, &mut deeds);
        for k in slept {
            h.places[k].since = self.now;
        }
        self.perform(i, deeds);
    }

    fn tick(&mut self, i: usize) {
        self.wake(i);
        let clock = self.clock(i);
        let mut deeds = Vec::new();
        let h = &mut self.hosts[i];
        h.node.tick(&mut h.places, clock, &mut deeds);
        self.perform(i, deeds);
        self.check(i);
    }

    fn deliver(&mut self, p: Packet) {
        let h = &mut self.hosts[p.to];
        if !h.alive || !h.link[p.segment] {
            return;
        }
        if h.asleep.is_some() {
            // As many as the engine's queue holds.
            if h.waiting.len() < 256 {
                h.waiting.push(p);
            }
            return;
        }
        // Version 2 takes no advert with another interval.
        if self.version == Version::V2 && p.interval != us(h.interval) {
            return;
        }
        self.wake(p.to);
        self.say(format!("{}.{} hears {} from {}", p.to, p.segment, p.priority, p.from));
        let place = &mut self.hosts[p.to].places[p.segment];
        place.since = self.now;
        let interval = Duration::from_micros(p.interval);
        let heard = match self.version {
            Version::V2 | Version::V3 => Input::Advert { priority: p.priority, interval, wins_tie: p.from > p.to },
            Version::Carp => {
                let r = carp::Advert::of(p.priority, interval).rank(self.hosts[p.to].interval, timing::DOWN_ADVERTS);
                let wins_tie = r.wins_tie.unwrap_or(p.from < p.to);
                let state = self.hosts[p.to].places[p.segment].machine.state();
                let priority = if r.slow && matches!(state, State::Backup { .. }) { 0 } else { r.priority };
                Input::Advert { priority, interval: r.interval, wins_tie }
            }
        };
        self.give(p.to, p.segment, heard);
        self.settle(p.to);
        if self.next_timer(p.to).is_some_and(|t| t <= self.now) {
            self.tick(p.to);
        }
        self.check(p.to);
    }

    /// Goes on for so long, event by event.
    fn run(&mut self, time: Time) {
        let until = self.now + time;
        loop {
            let packet = self.wire.peek().map(|p| p.0.at);
            let timer = (0..self.hosts.len()).filter_map(|i| Some((self.next_timer(i)?, i))).min();
            let next = [packet, timer.map(|t| t.0)].into_iter().flatten().min().filter(|t| *t <= until);
            let Some(next) = next else { break };
            assert!(next + 1 >= self.now, "seed {}: a deadline in the past", self.seed);
            self.now = self.now.max(next);
            if packet == Some(next) {
                let Some(Reverse(p)) = self.wire.pop() else { break };
                self.deliver(p);
            } else if let Some((_, i)) = timer {
                if self.hosts[i].asleep.take().is_some() {
                    self.say(format!("{i} wakes up"));
                    self.hosts[i].places.iter_mut().for_each(|p| p.since = next);
                    for p in std::mem::take(&mut self.hosts[i].waiting) {
                        self.deliver(p);
                    }
                }
                self.tick(i);
            }
        }
        self.now = until;
        // A node looks at its clock at least once a second.
        for i in 0..self.hosts.len() {
            if self.hosts[i].alive && self.hosts[i].asleep.is_none() {
                self.tick(i);
            }
        }
    }

    /// What holds at every step.
    fn check(&self, i: usize) {
        let (h, seed, clock) = (&self.hosts[i], self.seed, self.clock(i));
        assert!(h.zeros as usize <= self.segments, "seed {seed}: {i} gives its address away again and again");
        for (k, p) in h.places.iter().enumerate() {
            let state = p.machine.state();
            assert_eq!(p.here, state.has_address(), "seed {seed}: {i}.{k} {state:?}");
            assert!(
                p.machine.next_deadline().is_none_or(|t| t > clock),
                "seed {seed}: {i}.{k} has not done what was due: {state:?}"
            );
            // Somebody was heard, or it holds the address itself.
            let waits = matches!(state, State::Backup { wants: false, .. }) && self.segments == 1;
            let longest = timing::master_down(self.version, 1, p.machine.master_interval().max(h.interval), 3);
            assert!(
                !waits || self.now <= p.since + us(longest) + 1000,
                "seed {seed}: {i}.{k} has heard nobody for {} us and waits: {state:?}",
                self.now - p.since
            );
        }
        // Groups are in one place; on the way out each member waits for its own successor.
        if h.places.iter().any(|p| matches!(p.machine.state(), State::Leaving { .. } | State::Stopped)) {
            return;
        }
        let held: Vec<bool> = h.places.iter().map(|p| p.machine.state().has_address()).collect();
        assert!(
            held.windows(2).all(|w| w[0] == w[1]),
            "seed {seed}: the group of {i} is torn: {:?}",
            h.places.iter().map(|p| p.machine.state()).collect::<Vec<_>>()
        );
    }

    fn holders(&self, k: usize) -> Vec<usize> {
        (0..self.hosts.len()).filter(|i| self.hosts[*i].alive && self.hosts[*i].places[k].here).collect()
    }

    /// Time in which any node has noticed any silence.
    fn patience(&self) -> Time {
        let longest = self.hosts.iter().map(|h| h.interval).max().unwrap_or_default();
        us(timing::master_down(self.version, 1, longest, 3)) + us(longest) * 2
    }

    fn disturb(&mut self) {
        let n = self.hosts.len() as u64;
        let i = self.rng.below(n) as usize;
        let k = self.rng.below(self.segments as u64) as usize;
        match self.rng.below(17) {
            0 | 1 => {
                let why = if self.rng.one_in(3) { Why::Standby } else { Why::Proxy };
                self.serving(i, Err(why));
            }
            2 | 3 => self.serving(i, Ok(())),
            4 => {
                self.say(format!("{i} crashes"));
                self.hosts[i].alive = false;
            }
            5 if !self.hosts[i].alive => {
                self.say(format!("{i} starts"));
                self.boot(i);
            }
            6 => {
                self.say(format!("{i} is stopped"));
                self.hosts[i].zeros = 0;
                self.give_all(i, Input::Shutdown);
            }
            7 => {
                let j = self.rng.below(n) as usize;
                self.say(format!("{i} is not heard by {j} on {k}"));
                self.cut[i][j][k] = true;
            }
            8 => {
                let sides: Vec<bool> = (0..n).map(|_| self.rng.one_in(2)).collect();
                self.say(format!("split on {k}: {sides:?}"));
                for (a, x) in sides.iter().enumerate() {
                    for (b, y) in sides.iter().enumerate() {
                        self.cut[a][b][k] = x != y;
                    }
                }
            }
            9 => self.mend(),
            10 => {
                (self.loss, self.double) = (self.rng.below(4) * 10, self.rng.below(3) * 20);
                self.delay = [500, 5_000, 60_000][self.rng.below(3) as usize];
                self.say(format!("loss {}%, {}% twice, delays up to {} us", self.loss, self.double, self.delay));
            }
            // A clock never goes backwards: one sleep at a time.
            11 if self.hosts[i].asleep.is_none() => {
                let time = 1000 << self.rng.below(15);
                self.say(format!("{i} is frozen for {time} us"));
                self.hosts[i].asleep = Some(self.now + time);
            }
            12 if self.hosts[i].asleep.is_none() => {
                let time = 1000 << self.rng.below(15);
                self.say(format!("{i} is paused with its clock for {time} us"));
                self.hosts[i].asleep = Some(self.now + time);
                self.hosts[i].lag += time;
            }
            13 => {
                let up = !self.hosts[i].link[k];
                self.link(i, k, up);
            }
            14 => {
                let p = 2 + self.rng.below(253) as u8;
                self.say(format!("{i} has priority {p}"));
                self.hosts[i].priority = p;
                self.give_all(i, Input::Priority(p));
            }
            15 if self.version == Version::V3 && self.hosts[i].alive && self.hosts[i].asleep.is_none() => {
                self.hosts[i].interval = Duration::from_millis([20, 50, 100, 500][self.rng.below(4) as usize]);
                self.hosts[i].preempt ^= self.rng.one_in(3);
                self.reload(i);
            }
            // CARP's interval is the same for all: who is better would be another question otherwise.
            15 if self.version == Version::Carp => {
                let interval = Duration::from_secs(1 + self.rng.below(3));
                for i in 0..self.hosts.len() {
                    self.hosts[i].interval = interval;
                    self.reload(i);
                }
            }
            _ => {}
        }
    }

    fn serving(&mut self, i: usize, how: Result<(), Why>) {
        self.say(format!("{i} serves: {how:?}"));
        self.hosts[i].serving = how;
        if how.is_ok() {
            self.hosts[i].zeros = 0;
        }
        let now = self.now;
        self.hosts[i].places.iter_mut().for_each(|p| p.since = now);
        self.give_all(i, Input::Serving(how));
    }

    fn link(&mut self, i: usize, k: usize, up: bool) {
        self.hosts[i].link[k] = up;
        if self.hosts[i].alive && self.hosts[i].asleep.is_none() {
            self.say(format!("{i}.{k} link {up}"));
            self.hosts[i].zeros = 0;
            self.hosts[i].places[k].since = self.now;
            self.give(i, k, Input::Interface(up));
            self.settle(i);
        }
    }

    fn reload(&mut self, i: usize) {
        if !self.hosts[i].alive || self.hosts[i].asleep.is_some() {
            return;
        }
        let (params, clock, now) = (self.params(i), self.clock(i), self.now);
        self.say(format!("{i} reloads: every {:?}, preempt {}", params.interval, params.preempt));
        for p in &mut self.hosts[i].places {
            p.machine.reconfigure(clock, params.clone());
            p.since = now;
        }
        self.settle(i);
    }

    fn mend(&mut self) {
        self.say("the network is whole".into());
        for from in &mut self.cut {
            for to in from {
                to.fill(false);
            }
        }
    }

    /// All is well again: whole, everybody up and able but for `lame`, one mind about the configuration.
    fn heal(&mut self, lame: Option<usize>) {
        self.mend();
        (self.loss, self.double, self.delay) = (0, 0, 500);
        let longest = (0..self.hosts.len()).filter_map(|i| self.hosts[i].asleep).max();
        if let Some(t) = longest {
            self.run(t.saturating_sub(self.now) + 1);
        }
        let preempt = self.hosts[0].preempt;
        for i in 0..self.hosts.len() {
            let stopped = self.hosts[i]
                .places
                .iter()
                .any(|p| matches!(p.machine.state(), State::Stopped | State::Leaving { .. }));
            if !self.hosts[i].alive || stopped {
                self.boot(i);
            }
            for k in 0..self.segments {
                self.link(i, k, true);
            }
            self.hosts[i].preempt = preempt;
            self.reload(i);
            // What its tracks said while it was not running is told when it runs.
            let p = self.hosts[i].priority;
            self.give_all(i, Input::Priority(p));
            self.serving(i, if lame == Some(i) { Err(Why::Proxy) } else { Ok(()) });
        }
    }

    /// The priority of who has to hold the address: the best that can serve. Equals do not preempt each other.
    fn best(&self) -> Option<u8> {
        self.hosts.iter().filter(|h| h.serving.is_ok()).map(|h| h.priority).max()
    }
}

fn story(seed: u64, talk: bool) {
    let mut lan = Lan::new(seed, talk);
    let slack = us(PROBATION.max(LINK_PROBATION)) + us(lan.preempt_delay);
    for chapter in 0..3 {
        let wait = lan.patience() * 3 + slack;
        lan.run(wait);
        let lame = lan.hosts.iter().position(|h| h.serving.is_err());
        for k in 0..lan.segments {
            let h = lan.holders(k);
            let states: Vec<_> = lan.hosts.iter().map(|h| (h.priority, h.places[k].machine.state())).collect();
            assert_eq!(h.len(), 1, "seed {seed} chapter {chapter}: holders {h:?} of {states:?}");
            assert!(lame != Some(h[0]), "seed {seed} chapter {chapter}: who cannot serve holds the address");
            if lan.hosts[0].preempt {
                assert_eq!(
                    Some(lan.hosts[h[0]].priority),
                    lan.best(),
                    "seed {seed} chapter {chapter}: not the best one of {states:?}"
                );
            }
        }
        let before = lan.moves;
        lan.run(lan.patience() * 2 + 2 * SECOND);
        assert_eq!(lan.moves, before, "seed {seed} chapter {chapter}: it flaps without a cause");
        for _ in 0..lan.rng.below(14) {
            lan.disturb();
            let pause = match lan.rng.below(4) {
                0 => 0,
                1 => lan.rng.below(20_000),
                2 => lan.rng.below(us(lan.hosts[0].interval) * 5),
                _ => lan.rng.below(us(lan.hosts[0].interval) * 2),
            };
            lan.run(pause);
        }
        let lame = lan.rng.below(lan.hosts.len() as u64 * 2) as usize;
        lan.heal((lame < lan.hosts.len()).then_some(lame));
    }
    let wait = lan.patience() * 3 + slack;
    lan.run(wait);
    for k in 0..lan.segments {
        assert_eq!(lan.holders(k).len(), 1, "seed {seed}: in the end");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Two nodes with adverts every 10 ms on busy machines: each is kept from running for up to 20 ms again and again. Nothing moves. HOURS says for how long
/// (a day).
#[test]
fn a_busy_day_moves_nothing() {
    let plain = |lan: &Lan| {
        lan.version == Version::V3
            && lan.hosts.len() == 2
            && lan.segments == 1
            && lan.hosts[0].interval == Duration::from_millis(10)
    };
    let mut lan = (0..).map(|seed| Lan::new(seed, false)).find(plain).expect("there is such a seed");
    lan.run(30 * SECOND);
    let before = lan.moves;
    assert_eq!(lan.holders(0).len(), 1);
    let (hours, sent) = (number("HOURS").unwrap_or(24), lan.sent);
    for _ in 0..hours * 3600 * 10 {
        let i = lan.rng.below(2) as usize;
        let time = lan.rng.below(20_000);
        lan.hosts[i].asleep = Some(lan.now + time);
        lan.run(SECOND / 10);
        assert_eq!(lan.moves, before, "after {} s", lan.now / SECOND);
    }
    // At most one in ten was put off.
    assert!(lan.sent - sent > hours * 3600 * 90, "{} adverts", lan.sent - sent);
}

/// Seeds that failed once.
const FOUND: &[u64] = &[4975];

#[test]
fn promises_hold_on_every_step() {
    if let Some(seed) = number("SEED") {
        return story(seed, true);
    }
    FOUND.iter().for_each(|s| story(*s, false));
    let all = number("SEEDS").unwrap_or(1500);
    let first = number("FIRST").unwrap_or(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|s| {
        let begun: Vec<_> = (0..threads)
            .map(|t| s.spawn(move || (first..first + all).filter(|n| n % threads == t).for_each(|n| story(n, false))))
            .collect();
        for b in begun {
            b.join().expect("a seed has failed: see above, and run it with SEED=<n>");
        }
    });
}
