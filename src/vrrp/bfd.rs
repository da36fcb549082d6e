//! Bidirectional forwarding detection (RFC 5880, 5881, 5883): one asynchronous session without authentication, as pure as the routers' machine.
use crate::config::model::Bfd;
use std::time::{Duration, Instant};

/// UDP ports of control packets: a single hop (RFC 5881, 4), and several (RFC 5883, 5).
pub const PORT: u16 = 3784;
pub const PORT_MULTIHOP: u16 = 4784;
const LENGTH: usize = 24;
const VERSION: u8 = 1;

/// Session state (RFC 5880, 4.1), with the numbers of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    AdminDown = 0,
    Down = 1,
    Init = 2,
    Up = 3,
}

/// Why a session is down (RFC 5880, 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Diagnostic {
    None = 0,
    Expired = 1,
    NeighbourDown = 3,
    AdminDown = 7,
}

/// A control packet, as far as it is used here. Intervals in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub diagnostic: u8,
    pub state: State,
    pub poll: bool,
    pub last: bool,
    pub multiplier: u8,
    pub mine: u32,
    pub yours: u32,
    pub min_tx: u32,
    pub min_rx: u32,
}

impl Packet {
    /// Checks and reads a packet (RFC 5880, 6.8.6). `None`: it is to be dropped.
    pub fn parse(b: &[u8]) -> Option<Self> {
        let word = |at: usize| u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        if b.len() < LENGTH || b[0] >> 5 != VERSION || usize::from(b[3]) < LENGTH || usize::from(b[3]) > b.len() {
            return None;
        }
        let state = match b[1] >> 6 {
            0 => State::AdminDown,
            1 => State::Down,
            2 => State::Init,
            _ => State::Up,
        };
        let p = Self {
            diagnostic: b[0] & 0x1f,
            state,
            poll: b[1] & 0x20 != 0,
            last: b[1] & 0x10 != 0,
            multiplier: b[2],
            mine: word(4),
            yours: word(8),
            min_tx: word(12),
            min_rx: word(16),
        };
        // Authentication is not spoken here, and several at a time neither.
        let foreign = b[1] & 0x05 != 0;
        let lost = p.yours == 0 && matches!(state, State::Init | State::Up);
        (!foreign && p.multiplier != 0 && p.mine != 0 && !lost).then_some(p)
    }

    pub fn emit(&self) -> [u8; LENGTH] {
        let mut b = [0; LENGTH];
        b[0] = VERSION << 5 | self.diagnostic & 0x1f;
        b[1] = (self.state as u8) << 6 | u8::from(self.poll) << 5 | u8::from(self.last) << 4;
        b[2] = self.multiplier;
        b[3] = 24;
        b[4..8].copy_from_slice(&self.mine.to_be_bytes());
        b[8..12].copy_from_slice(&self.yours.to_be_bytes());
        b[12..16].copy_from_slice(&self.min_tx.to_be_bytes());
        b[16..20].copy_from_slice(&self.min_rx.to_be_bytes());
        b
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Send(Packet),
    /// The neighbour can be reached, or cannot any more.
    Changed {
        up: bool,
        why: Diagnostic,
    },
}

fn micros(d: Duration) -> u32 {
    u32::try_from(d.as_micros()).unwrap_or(u32::MAX)
}

#[derive(Debug)]
pub struct Session {
    conf: Bfd,
    state: State,
    diagnostic: Diagnostic,
    mine: u32,
    yours: u32,
    /// What the neighbour said last of itself.
    their_state: State,
    their_min_rx: Duration,
    their_min_tx: Duration,
    their_multiplier: u32,
    /// A change of our interval is under way (RFC 5880, 6.5).
    polling: bool,
    send_at: Option<Instant>,
    expires_at: Option<Instant>,
    dice: u32,
}

impl Session {
    /// `discriminator`: unique on this node, not 0.
    pub fn new(conf: Bfd, discriminator: u32, now: Instant) -> Self {
        let send_at = (!conf.passive).then_some(now);
        Self {
            conf,
            state: State::Down,
            diagnostic: Diagnostic::None,
            mine: discriminator,
            yours: 0,
            their_state: State::Down,
            their_min_rx: Duration::from_micros(1),
            their_min_tx: Duration::ZERO,
            their_multiplier: 0,
            polling: false,
            send_at,
            expires_at: None,
            dice: discriminator | 1,
        }
    }

    pub fn conf(&self) -> &Bfd {
        &self.conf
    }
    pub fn state(&self) -> State {
        self.state
    }
    pub fn discriminator(&self) -> u32 {
        self.mine
    }

    /// The interval that we want: slow until the session is up (RFC 5880, 6.8.3).
    fn min_tx(&self) -> Duration {
        if self.state == State::Up { self.conf.min_tx } else { self.conf.idle_tx.max(self.conf.min_tx) }
    }

    /// When the next packet goes: the slower of both wishes, less up to a quarter (RFC 5880, 6.8.7).
    fn next_send(&mut self, now: Instant) -> Instant {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 17;
        self.dice ^= self.dice << 5;
        let interval = self.min_tx().max(self.their_min_rx);
        // With a multiplier of 1 one late packet is the end: at most nine tenths then.
        let (least, spread) = if self.conf.multiplier == 1 { (750, 150) } else { (750, 250) };
        now + interval * (least + self.dice % spread) / 1000
    }

    fn packet(&self, last: bool) -> Packet {
        Packet {
            diagnostic: self.diagnostic as u8,
            state: self.state,
            poll: self.polling && !last,
            last,
            multiplier: self.conf.multiplier,
            mine: self.mine,
            yours: self.yours,
            min_tx: micros(self.min_tx()),
            min_rx: micros(self.conf.min_rx),
        }
    }

    fn go(&mut self, now: Instant, to: State, why: Diagnostic, out: &mut Vec<Action>) {
        let (was_up, is_up) = (self.state == State::Up, to == State::Up);
        (self.state, self.diagnostic) = (to, why);
        if was_up != is_up {
            out.push(Action::Changed { up: is_up, why });
            // The wanted interval is another one now.
            self.polling = is_up;
        }
        // What changed is said at once.
        self.send_at = Some(now);
    }

    /// A packet from the neighbour, whose TTL was checked (RFC 5880, 6.8.6).
    pub fn handle(&mut self, now: Instant, p: &Packet, out: &mut Vec<Action>) {
        if p.yours != 0 && p.yours != self.mine || self.state == State::AdminDown {
            return;
        }
        (self.yours, self.their_state) = (p.mine, p.state);
        (self.their_min_rx, self.their_min_tx) =
            (Duration::from_micros(p.min_rx.into()), Duration::from_micros(p.min_tx.into()));
        self.their_multiplier = p.multiplier.into();
        if p.last {
            self.polling = false;
        }
        self.expires_at = Some(now + self.detection());
        // One that only answers begins now.
        self.send_at.get_or_insert(now);
        match (p.state, self.state) {
            (State::AdminDown, State::Init | State::Up) => self.go(now, State::Down, Diagnostic::NeighbourDown, out),
            (State::Down, State::Down) => self.go(now, State::Init, Diagnostic::None, out),
            (State::Init, State::Down) | (State::Init | State::Up, State::Init) => {
                self.go(now, State::Up, Diagnostic::None, out)
            }
            (State::Down, State::Up) => self.go(now, State::Down, Diagnostic::NeighbourDown, out),
            _ => {}
        }
        if p.poll {
            out.push(Action::Send(self.packet(true)));
        }
        self.tick(now, out);
    }

    /// How long silence may last: their multiplier, and the slower of what we take and they send (RFC 5880, 6.8.4).
    fn detection(&self) -> Duration {
        self.conf.min_rx.max(self.their_min_tx) * self.their_multiplier
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        [self.send_at, self.expires_at].into_iter().flatten().min()
    }

    pub fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.expires_at.is_some_and(|t| t <= now) {
            self.expires_at = None;
            (self.yours, self.their_min_rx) = (0, Duration::from_micros(1));
            if matches!(self.state, State::Init | State::Up) {
                self.go(now, State::Down, Diagnostic::Expired, out);
            }
        }
        if self.send_at.is_some_and(|t| t <= now) {
            // A neighbour that wants no packets gets none; one that only answers is not spoken to first.
            let silent = self.their_min_rx.is_zero() || self.conf.passive && self.yours == 0;
            if !silent {
                out.push(Action::Send(self.packet(false)));
            }
            self.send_at = (!silent || !self.conf.passive).then(|| self.next_send(now));
        }
    }

    /// On the way out: the neighbour need not wait.
    pub fn leave(&mut self, out: &mut Vec<Action>) {
        (self.state, self.diagnostic) = (State::AdminDown, Diagnostic::AdminDown);
        out.push(Action::Send(self.packet(false)));
    }
}

#[cfg(test)]
#[path = "bfd_tests.rs"]
mod tests;
