//! Ring 2: the machines on a virtual LAN, over seeds: loss, delay, splits, crashes, proxies that die and come back.
//! Promises: while anybody can serve, somebody holds the address soon; when all is quiet, exactly one does, and it can serve.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::time::{Duration, Instant};
use tandem_proxy::vrrp::fsm::{Action, Input, Machine, Params, State, Why};
use tandem_proxy::vrrp::timing::Version;

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
}

fn able(yes: bool) -> Result<(), Why> {
    if yes { Ok(()) } else { Err(Why::Proxy) }
}

struct Node {
    m: Option<Machine>,
    priority: u8,
    serving: bool,
    /// Which side of a split the node is on.
    side: u8,
}

struct Packet {
    at: Instant,
    from: usize,
    to: usize,
    priority: u8,
}

struct Lan {
    now: Instant,
    nodes: Vec<Node>,
    wire: Vec<Packet>,
    rng: Rng,
    loss: u64,
    params: Params,
}

impl Lan {
    fn new(seed: u64, n: usize, version: Version, preempt: bool) -> Self {
        let interval = if version == Version::V2 { Duration::from_secs(1) } else { Duration::from_millis(100) };
        let params = Params { version, interval, preempt, preempt_delay: Duration::ZERO, grouped: false };
        let mut lan =
            Self { now: Instant::now(), nodes: Vec::new(), wire: Vec::new(), rng: Rng(seed * 2 + 1), loss: 0, params };
        for i in 0..n {
            lan.nodes.push(Node { m: None, priority: 100 + 40 * u8::try_from(i).unwrap(), serving: true, side: 0 });
            lan.boot(i);
        }
        lan
    }

    fn boot(&mut self, i: usize) {
        let mut m = Machine::new(self.params.clone(), self.nodes[i].priority);
        let mut out = Vec::new();
        m.handle(self.now, Input::Serving(able(self.nodes[i].serving)), &mut out);
        m.handle(self.now, Input::Start, &mut out);
        self.nodes[i].m = Some(m);
        self.send(i, &out);
    }

    fn send(&mut self, from: usize, actions: &[Action]) {
        for a in actions {
            let Action::SendAdvert { priority } = a else { continue };
            for to in 0..self.nodes.len() {
                if to == from || self.nodes[to].side != self.nodes[from].side || self.rng.below(100) < self.loss {
                    continue;
                }
                let delay = Duration::from_micros(100 + self.rng.below(900));
                self.wire.push(Packet { at: self.now + delay, from, to, priority: *priority });
            }
        }
    }

    fn feed(&mut self, i: usize, input: Input) {
        let mut out = Vec::new();
        if let Some(m) = self.nodes[i].m.as_mut() {
            m.handle(self.now, input, &mut out);
        }
        self.send(i, &out);
    }

    /// Goes on to `until`, event by event.
    fn run(&mut self, until: Instant) {
        loop {
            let packet = self.wire.iter().map(|p| p.at).min();
            let timer = self.nodes.iter().filter_map(|n| n.m.as_ref()?.next_deadline()).min();
            let Some(next) = [packet, timer].into_iter().flatten().min().filter(|t| *t <= until) else { break };
            self.now = self.now.max(next);
            while let Some(k) = self.wire.iter().position(|p| p.at <= self.now) {
                let p = self.wire.swap_remove(k);
                if self.nodes[p.to].side == self.nodes[p.from].side {
                    let interval = self.params.interval;
                    self.feed(p.to, Input::Advert { priority: p.priority, interval, wins_tie: p.from > p.to });
                }
            }
            for i in 0..self.nodes.len() {
                let mut out = Vec::new();
                if let Some(m) = self.nodes[i].m.as_mut() {
                    m.tick(self.now, &mut out);
                }
                self.send(i, &out);
            }
        }
        self.now = until;
    }

    fn holders(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|i| self.nodes[*i].m.as_ref().is_some_and(|m| m.state().has_address())).collect()
    }

    /// Time by which any node has noticed any silence.
    fn patience(&self) -> Duration {
        self.params.interval * 5 + Duration::from_secs(if self.params.version == Version::V2 { 2 } else { 0 })
    }
}

fn story(seed: u64, version: Version, preempt: bool) {
    let mut lan = Lan::new(seed, 3, version, preempt);
    let patience = lan.patience();
    lan.run(lan.now + patience);
    assert_eq!(lan.holders().len(), 1, "seed {seed}: at the start");
    for step in 0..40 {
        let i = usize::try_from(lan.rng.below(3)).unwrap();
        let what = lan.rng.below(7);
        match what {
            0 => {
                lan.nodes[i].serving = false;
                lan.feed(i, Input::Serving(Err(Why::Proxy)));
            }
            1 => {
                lan.nodes[i].serving = true;
                lan.feed(i, Input::Serving(Ok(())));
            }
            2 => lan.nodes[i].m = None,
            3 if lan.nodes[i].m.is_none() => lan.boot(i),
            4 => lan.nodes[i].side ^= 1,
            5 => lan.nodes.iter_mut().for_each(|n| n.side = 0),
            6 => lan.loss = lan.rng.below(3) * 10,
            _ => {}
        }
        let pause = Duration::from_millis(lan.rng.below(400));
        lan.run(lan.now + pause);
        if step % 8 != 7 {
            continue;
        }
        // All quiet: everybody up, one wire, no loss, everybody serves but perhaps one.
        lan.loss = 0;
        lan.nodes.iter_mut().for_each(|n| n.side = 0);
        for k in 0..3 {
            if lan.nodes[k].m.is_none() {
                lan.boot(k);
            }
        }
        let lame = usize::try_from(lan.rng.below(4)).unwrap();
        for k in 0..3 {
            lan.nodes[k].serving = k != lame;
            lan.feed(k, Input::Serving(able(k != lame)));
        }
        lan.run(lan.now + Duration::from_secs(10) + patience * 3);
        let h = lan.holders();
        assert_eq!(
            h.len(),
            1,
            "seed {seed} step {step}: {:?}",
            lan.nodes.iter().map(|n| n.m.as_ref().map(Machine::state)).collect::<Vec<_>>()
        );
        assert!(lan.nodes[h[0]].serving, "seed {seed} step {step}: the holder cannot serve");
        if preempt {
            let best = (0..3).filter(|k| lan.nodes[*k].serving).max_by_key(|k| lan.nodes[*k].priority).unwrap();
            assert_eq!(h[0], best, "seed {seed} step {step}: not the best one");
        }
    }
}

#[test]
fn somebody_always_holds_the_address_in_the_end() {
    for seed in 0..150 {
        for version in [Version::V2, Version::V3] {
            for preempt in [true, false] {
                story(seed, version, preempt);
            }
        }
    }
}

#[test]
fn nobody_can_serve_and_the_address_still_stays_somewhere() {
    for seed in 0..50 {
        let mut lan = Lan::new(seed, 2, Version::V3, true);
        let patience = lan.patience();
        lan.run(lan.now + patience);
        lan.feed(1, Input::Serving(Err(Why::Proxy)));
        lan.feed(0, Input::Serving(Err(Why::Proxy)));
        // Never a moment without a holder, and no ping-pong: the roles settle.
        let mut moves = 0;
        let mut last = lan.holders();
        for _ in 0..200 {
            let pause = Duration::from_millis(10 + lan.rng.below(10));
            lan.run(lan.now + pause);
            let h = lan.holders();
            assert!(!h.is_empty(), "seed {seed}: nobody holds the address");
            moves += usize::from(h != last);
            last = h;
        }
        assert!(moves <= 2, "seed {seed}: {moves} moves");
    }
}

#[test]
fn a_killed_proxy_costs_a_backup_that_serves_at_most_its_prompt_wait() {
    for seed in 0..100 {
        let mut lan = Lan::new(seed, 2, Version::V2, true);
        lan.run(lan.now + Duration::from_secs(6));
        assert_eq!(lan.holders(), [1]);
        let at = lan.now;
        lan.feed(1, Input::Serving(Err(Why::Proxy)));
        while !matches!(lan.nodes[0].m.as_ref().unwrap().state(), State::Master { .. }) {
            lan.run(lan.now + Duration::from_micros(500));
            assert!(lan.now - at < Duration::from_millis(12), "seed {seed}");
        }
    }
}
