//! The state machine of one virtual router (RFC 5798, 6.4), with what a node that carries its own proxy can do better: it yields when it
//! cannot serve, keeps the address until somebody else has it, and comes back by itself.
//!
//! ```text
//!            start                master-down            higher advert
//!   Init ----------> Backup --------------------> Master ------------> Backup
//!                      ^                            | cannot serve: advert 0
//!                      |     another's advert       v
//!                      +------------------------ Holding --(nobody came, or able again)--> Master
//!   Init -- the addresses are here, of a predecessor that was killed --> Holding
//!   any state -- own interface lost --> Fault -- back --> Backup
//! ```
//! No clock, socket or priority source: `handle`, `tick` and `next_deadline` take and give times.
use super::timing::{self, Version};
use std::time::{Duration, Instant};

/// A node that failed to serve contends again after this much health, if a master is there.
pub const PROBATION: Duration = Duration::from_secs(10);
/// Beyond one interval, how long a peer that may have the address is listened for.
const ADOPTION: Duration = Duration::from_millis(50);
/// One whose interface came back has been cut off from its servers as well: their checks get this long before it preempts.
pub const LINK_PROBATION: Duration = Duration::from_secs(3);

/// A master answers one that is no better once in this time: two that both think themselves better would fill the network.
const ANSWER_PAUSE: Duration = Duration::from_millis(10);

#[derive(Clone, Debug)]
pub struct Params {
    pub version: Version,
    pub interval: Duration,
    /// The interval that others are expected to have until one of them is heard: a longer one where version 2 is spoken beside version 3.
    pub others: Duration,
    /// Some of them may speak version 2, whose skew is over a whole second.
    pub beside_v2: bool,
    pub preempt: bool,
    pub preempt_delay: Duration,
    /// Member of a sync group: becoming master waits for the group's word.
    pub grouped: bool,
    /// `state MASTER` with priority 255: the owner begins as master, without listening first.
    pub begins_master: bool,
    /// `down_timer_adverts`: intervals without an advert before the skew, 1 to 100.
    pub down_adverts: u32,
    /// `lower_prio_no_advert`: a master does not answer a lower one.
    pub quiet_to_lower: bool,
    /// `higher_prio_send_advert`: a master that hears a higher one says where it was, so that the other announces the addresses anew.
    pub answers_higher: bool,
    /// `owner_ignore_adverts`, and `strict_mode`: one of priority 255 hears nobody.
    pub owner_deaf: bool,
    /// `timer_expired_backup`: with `nopreempt`, a master that was late for so long that a peer of this priority may have taken over becomes backup.
    pub late_backup: Option<u8>,
}

impl Params {
    /// What a file without a further word means.
    pub fn plain(version: Version, interval: Duration) -> Self {
        Self {
            version,
            interval,
            others: interval,
            beside_v2: false,
            preempt: true,
            preempt_delay: Duration::ZERO,
            grouped: false,
            begins_master: true,
            down_adverts: timing::DOWN_ADVERTS,
            quiet_to_lower: false,
            answers_higher: false,
            owner_deaf: false,
            late_backup: None,
        }
    }

    fn master_down(&self, priority: u8, master_interval: Duration) -> Duration {
        timing::master_down(self.version, priority, master_interval, self.down_adverts)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Init,
    /// `down_at`: when silence has lasted long enough. `wants`: it has, and the group has not agreed yet.
    Backup {
        down_at: Instant,
        wants: bool,
    },
    Master {
        advert_at: Instant,
    },
    /// Silent, but still with the address: until another master is heard or nobody came.
    Holding {
        until: Instant,
    },
    /// On the way out: as `Holding`, but for good.
    Leaving {
        until: Instant,
    },
    Fault,
    Stopped,
}

/// The names that keepalived's notify scripts and tools know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Init,
    Backup,
    Master,
    Fault,
    Stop,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Self::Init => "INIT",
            Self::Backup => "BACKUP",
            Self::Master => "MASTER",
            Self::Fault => "FAULT",
            Self::Stop => "STOP",
        }
    }
}

impl State {
    pub fn role(self) -> Role {
        match self {
            Self::Init => Role::Init,
            Self::Backup { .. } => Role::Backup,
            // Holding the address silently is still being responsible for it.
            Self::Master { .. } | Self::Holding { .. } | Self::Leaving { .. } => Role::Master,
            Self::Fault => Role::Fault,
            Self::Stopped => Role::Stop,
        }
    }
    pub fn has_address(self) -> bool {
        matches!(self, Self::Master { .. } | Self::Holding { .. } | Self::Leaving { .. })
    }
}

/// Why a node cannot serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The proxy is dead, hung or not there yet.
    Proxy,
    /// An operator's wish.
    Standby,
    /// A track without weight failed, its own or one of its group.
    Track,
}

/// Why a state changed: every change has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Started,
    Adopted,
    MasterSilent,
    Preempts { priority: u8 },
    MasterReleased,
    HigherAdvert { priority: u8 },
    CannotServe(Why),
    ServesAgain,
    NobodyCame,
    PeerTookOver { priority: u8 },
    InterfaceDown,
    InterfaceUp,
    Group,
    Frozen,
    Late,
    Shutdown,
}

impl Cause {
    /// For the log: why it happened.
    pub fn text(self) -> String {
        match self {
            Self::Started => "started".into(),
            Self::Adopted => "started where a predecessor was killed, with the addresses still here".into(),
            Self::MasterSilent => "no master was heard for the master-down time".into(),
            Self::Preempts { priority } => format!("the master has a lower priority ({priority})"),
            Self::MasterReleased => "the master released the address (priority 0)".into(),
            Self::HigherAdvert { priority } => format!("an advert with priority {priority} was heard, which wins"),
            Self::CannotServe(Why::Proxy) => "the local proxy cannot serve".into(),
            Self::CannotServe(Why::Standby) => "an operator told it to stand by".into(),
            Self::CannotServe(Why::Track) => "something that it tracks without a weight has failed".into(),
            Self::ServesAgain => "this node can serve again and no other master was heard".into(),
            Self::NobodyCame => "the address was offered and nobody took it".into(),
            Self::PeerTookOver { priority } => format!("the peer took over with priority {priority}"),
            Self::InterfaceDown => "its interface or source address cannot be used".into(),
            Self::InterfaceUp => "its interface and source address can be used again".into(),
            Self::Group => "its sync group moved".into(),
            Self::Frozen => "this process was frozen for longer than the master-down time".into(),
            Self::Late => "it was late for so long that a peer may have taken over (timer_expired_backup)".into(),
            Self::Shutdown => "stopping".into(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    Start,
    /// An advert that passed all checks. `wins_tie`: the sender's address is greater than ours.
    Advert {
        priority: u8,
        interval: Duration,
        wins_tie: bool,
    },
    /// Whether this node can serve, or why not.
    Serving(Result<(), Why>),
    Priority(u8),
    Interface(bool),
    /// The group agreed on mastership, or a member lost it.
    GroupMaster,
    GroupBackup,
    /// The process was not running: [`Machine::overslept`].
    Frozen,
    /// In place of `Start`: the addresses are still here, from a predecessor that was killed a moment ago.
    Adopt,
    Shutdown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    SendAdvert {
        priority: u8,
    },
    /// Add the addresses.
    Acquire,
    /// Tell the network where they are. `repeat`: again after the configured delay.
    Announce {
        repeat: bool,
    },
    /// Reset connections on the addresses, then remove them.
    Release,
    /// A master heard one that is lower: `notify_master_rx_lower_pri`.
    LowerHeard {
        priority: u8,
    },
    Changed {
        from: Role,
        to: Role,
        cause: Cause,
    },
    /// Something worth a log line that is no change of role.
    Noted {
        cause: Cause,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ability {
    Able,
    Unable,
    /// Healthy again; contends when the time is over, or at once when no master is heard.
    Probation {
        until: Instant,
    },
}

#[derive(Clone, Debug)]
pub struct Machine {
    params: Params,
    state: State,
    priority: u8,
    ability: Ability,
    /// Interval of the current master: VRRPv3 learns it.
    master_interval: Duration,
    /// Until when the last master heard counts as alive.
    master_until: Option<Instant>,
    master_priority: u8,
    /// Holding what a predecessor left: a peer that took it over has to be heard before anything is said.
    adopted: bool,
    /// The last word of a master was that it gives the address away.
    released: bool,
    /// When a master last answered an advert that is not better than its own.
    answered: Option<Instant>,
    /// With a preempt delay: since when a lower master has been heard.
    lower_since: Option<Instant>,
}

impl Machine {
    pub fn new(params: Params, priority: u8) -> Self {
        let master_interval = params.others;
        Self {
            params,
            state: State::Init,
            priority,
            ability: Ability::Unable,
            master_interval,
            master_until: None,
            master_priority: 0,
            adopted: false,
            released: false,
            answered: None,
            lower_since: None,
        }
    }

    pub fn state(&self) -> State {
        self.state
    }
    pub fn priority(&self) -> u8 {
        self.priority
    }
    pub fn able(&self) -> bool {
        self.ability == Ability::Able
    }
    pub fn master_interval(&self) -> Duration {
        self.master_interval
    }
    /// Priority of the last master heard that counts as alive.
    pub fn heard_master(&self, now: Instant) -> Option<u8> {
        self.master_until.filter(|t| *t > now).map(|_| self.master_priority)
    }
    pub fn master_down(&self) -> Duration {
        self.params.master_down(self.contending(), self.master_interval)
    }

    /// New parameters after a reload; the state goes on.
    pub fn reconfigure(&mut self, now: Instant, params: Params) {
        if !matches!(self.state, State::Backup { .. }) || params.version != Version::V3 {
            self.master_interval = params.others;
        }
        if let (State::Backup { wants: true, .. }, false) = (self.state, params.grouped) {
            // The group that it waited for is gone.
            self.state = State::Backup { down_at: now, wants: false };
        }
        self.params = params;
        // A shorter interval makes for less patience at once.
        if let State::Backup { down_at, wants: false } = self.state {
            self.state = State::Backup { down_at: down_at.min(self.down_from(now)), wants: false };
        }
    }

    /// The earliest moment at which `tick` has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let state = match self.state {
            State::Backup { down_at, wants: false } => Some(down_at),
            State::Master { advert_at } => Some(advert_at),
            State::Holding { until } | State::Leaving { until } => Some(until),
            State::Init | State::Backup { wants: true, .. } | State::Fault | State::Stopped => None,
        };
        let probation = match self.ability {
            Ability::Probation { until } => Some(until),
            _ => None,
        };
        [state, probation].into_iter().flatten().min()
    }

    /// What we advertise and compare with: a node that cannot serve is the last resort.
    fn contending(&self) -> u8 {
        if self.able() { self.priority } else { 1 }
    }

    /// When a master that speaks now speaks again.
    fn advert_after(&self, now: Instant) -> Instant {
        now + timing::period(self.params.version, self.contending(), self.params.interval)
    }

    fn down_from(&self, now: Instant) -> Instant {
        now + self.master_down()
    }

    fn go(&mut self, to: State, cause: Cause, out: &mut Vec<Action>) {
        self.adopted = false;
        let (from, role) = (self.state.role(), to.role());
        self.state = to;
        if from == role {
            out.push(Action::Noted { cause });
        } else {
            out.push(Action::Changed { from, to: role, cause });
        }
    }

    fn become_master(&mut self, now: Instant, cause: Cause, out: &mut Vec<Action>) {
        // The address is there and announced before the old master hears of it: it may then drop what it has without a gap.
        if !self.state.has_address() {
            out.push(Action::Acquire);
        }
        out.push(Action::Announce { repeat: true });
        out.push(Action::SendAdvert { priority: self.contending() });
        self.master_interval = self.params.others;
        self.lower_since = None;
        let advert_at = self.advert_after(now);
        self.go(State::Master { advert_at }, cause, out);
    }

    fn become_backup(&mut self, now: Instant, cause: Cause, out: &mut Vec<Action>) {
        if self.state.has_address() {
            out.push(Action::Release);
        }
        let down_at = self.down_from(now);
        self.go(State::Backup { down_at, wants: false }, cause, out);
    }

    /// Version 3 learns its interval from a master, and not from one that it is about to replace (RFC 9568, 6.4.2).
    fn learn(&mut self, interval: Duration) {
        if self.params.version == Version::V3 {
            self.master_interval = interval;
        }
    }

    fn heard(&mut self, now: Instant, priority: u8, interval: Duration) {
        self.master_priority = priority;
        self.released = false;
        self.master_until = Some(now + self.params.master_down(self.priority, interval));
    }

    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Action>) {
        match (input, self.state) {
            (Input::Start, State::Init) => {
                if self.priority == 255 && self.params.begins_master && self.able() {
                    self.become_master(now, Cause::Started, out);
                } else {
                    self.become_backup(now, Cause::Started, out);
                }
            }
            (Input::Adopt, State::Init) => {
                // A peer that has taken over says so within its interval; nobody else is that fast without the old one's release.
                let until = now + timing::period(self.params.version, 1, self.params.others) + ADOPTION;
                self.go(State::Holding { until }, Cause::Adopted, out);
                self.adopted = true;
            }
            (Input::Start | Input::Adopt, _) => {}
            (Input::Advert { priority, interval, wins_tie }, state) => {
                self.advert(now, state, priority, interval, wins_tie, out)
            }
            (Input::Serving(Ok(())), _) => self.serves(now, out),
            (Input::Serving(Err(why)), _) => self.cannot_serve(now, why, out),
            (Input::Priority(p), _) => self.priority = p,
            (Input::Interface(false), State::Fault | State::Stopped | State::Init) => {
                if self.state == State::Init {
                    self.go(State::Fault, Cause::InterfaceDown, out);
                }
            }
            (Input::Interface(false), State::Backup { .. } | State::Master { .. } | State::Holding { .. }) => {
                if matches!(self.state, State::Master { .. }) {
                    out.push(Action::SendAdvert { priority: 0 });
                }
                if self.state.has_address() {
                    out.push(Action::Release);
                }
                (self.master_until, self.lower_since) = (None, None);
                self.go(State::Fault, Cause::InterfaceDown, out);
            }
            (Input::Interface(false), State::Leaving { .. }) => self.stop(out),
            (Input::Interface(true), State::Fault) => {
                self.master_interval = self.params.others;
                if self.able() {
                    self.ability = Ability::Probation { until: now + LINK_PROBATION.max(self.master_down()) };
                }
                self.become_backup(now, Cause::InterfaceUp, out);
            }
            (Input::Interface(true), _) => {}
            (Input::GroupMaster, State::Backup { .. }) => self.become_master(now, Cause::Group, out),
            (Input::GroupMaster, _) => {}
            (Input::GroupBackup, State::Master { .. }) => {
                // The peer takes the whole group; without this word it would wait for each member's silence.
                out.push(Action::SendAdvert { priority: 0 });
                self.become_backup(now, Cause::Group, out);
            }
            (Input::GroupBackup, State::Holding { .. }) => self.become_backup(now, Cause::Group, out),
            (Input::GroupBackup, State::Backup { wants: true, .. }) => {
                let down_at = self.down_from(now);
                self.state = State::Backup { down_at, wants: false };
            }
            (Input::GroupBackup, _) => {}
            // Who took over meanwhile keeps the address; if nobody did, we go on.
            (Input::Frozen, State::Master { .. }) if self.params.late_backup.is_some() && !self.params.preempt => {
                self.become_backup(now, Cause::Late, out);
            }
            (Input::Frozen, State::Master { .. }) => {
                let until = self.down_from(now);
                self.go(State::Holding { until }, Cause::Frozen, out);
            }
            (Input::Frozen, State::Holding { .. }) => {
                let until = self.down_from(now);
                self.state = State::Holding { until };
            }
            (Input::Frozen, State::Backup { .. }) => {
                self.lower_since = None;
                let down_at = self.down_from(now);
                self.state = State::Backup { down_at, wants: false };
            }
            (Input::Frozen, _) => {}
            (Input::Shutdown, State::Master { .. }) => {
                out.push(Action::SendAdvert { priority: 0 });
                self.leave(now, out);
            }
            // Priority 0 was sent already, once per loss of service.
            (Input::Shutdown, State::Holding { .. }) => self.leave(now, out),
            (Input::Shutdown, State::Leaving { .. } | State::Stopped) => {}
            (Input::Shutdown, State::Init | State::Backup { .. } | State::Fault) => self.stop(out),
        }
    }

    /// The slowest peer, at priority 1, needs its whole skew; the margin is for its scheduling.
    fn leave(&mut self, now: Instant, out: &mut Vec<Action>) {
        let version = if self.params.beside_v2 { Version::V2 } else { self.params.version };
        let until = now + timing::skew(version, 1, self.params.interval) + Duration::from_millis(50);
        self.go(State::Leaving { until }, Cause::Shutdown, out);
    }

    fn stop(&mut self, out: &mut Vec<Action>) {
        if self.state.has_address() {
            out.push(Action::Release);
        }
        self.go(State::Stopped, Cause::Shutdown, out);
    }

    fn advert(
        &mut self,
        now: Instant,
        state: State,
        priority: u8,
        interval: Duration,
        wins_tie: bool,
        out: &mut Vec<Action>,
    ) {
        match state {
            State::Init | State::Fault | State::Stopped => {}
            // Who owns the address is not to be talked out of it; one that cannot serve is glad to.
            State::Backup { .. } | State::Master { .. } if self.params.owner_deaf && self.contending() == 255 => {}
            State::Backup { .. } if priority == 0 => {
                self.master_until = None;
                if matches!(self.ability, Ability::Probation { .. }) {
                    self.ability = Ability::Able;
                }
                let wait = if self.able() {
                    timing::prompt(self.priority)
                } else {
                    timing::skew(self.params.version, 1, self.master_interval)
                };
                self.released = true;
                self.state = State::Backup { down_at: now + wait, wants: false };
            }
            State::Backup { down_at, wants } => {
                self.heard(now, priority, interval);
                let mine = self.contending();
                // A master of priority 1 cannot serve: it is never left in place out of politeness.
                let last_resort = priority == 1 && mine > 1;
                let lower = priority < mine;
                // And one that can serve waits for it no longer than after a priority 0.
                let down_at = if last_resort { down_at.min(now + timing::prompt(self.priority)) } else { down_at };
                let polite = !self.params.preempt && !last_resort;
                if !lower {
                    self.lower_since = None;
                }
                let delayed = lower && !last_resort && !self.params.preempt_delay.is_zero() && {
                    let since = *self.lower_since.get_or_insert(now);
                    now < since + self.params.preempt_delay
                };
                if !lower || polite || delayed {
                    self.learn(interval);
                    let down_at = self.down_from(now);
                    self.state = State::Backup { down_at, wants: false };
                } else {
                    self.state = State::Backup { down_at, wants };
                }
            }
            State::Master { .. } if priority == 0 => {
                out.push(Action::SendAdvert { priority: self.contending() });
                self.state = State::Master { advert_at: self.advert_after(now) };
            }
            State::Master { .. } => {
                let mine = self.contending();
                if priority > mine || priority == mine && wins_tie {
                    if self.params.answers_higher {
                        out.push(Action::SendAdvert { priority: mine });
                    }
                    self.heard(now, priority, interval);
                    self.learn(interval);
                    self.become_backup(now, Cause::HigherAdvert { priority }, out);
                } else {
                    // Two masters after a split, or a peer that did not hear us: say at once who wins, and where the address is.
                    out.push(Action::LowerHeard { priority });
                    if !self.params.quiet_to_lower {
                        self.answer(now, out);
                    }
                    out.push(Action::Announce { repeat: false });
                }
            }
            State::Holding { .. } | State::Leaving { .. } if priority == 0 => {}
            State::Holding { .. } => {
                self.heard(now, priority, interval);
                self.learn(interval);
                self.become_backup(now, Cause::PeerTookOver { priority }, out);
            }
            State::Leaving { .. } => {
                out.push(Action::Noted { cause: Cause::PeerTookOver { priority } });
                self.stop(out);
            }
        }
    }

    /// Says who is master, at once, but not to one that would answer each answer.
    fn answer(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.answered.is_some_and(|t| now < t + ANSWER_PAUSE) {
            return;
        }
        self.answered = Some(now);
        out.push(Action::SendAdvert { priority: self.contending() });
        self.state = State::Master { advert_at: self.advert_after(now) };
    }

    fn serves(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.ability != Ability::Unable {
            return;
        }
        // A master of priority 1 cannot serve: nobody is worth waiting for.
        if self.heard_master(now).is_some_and(|p| p > 1) && matches!(self.state, State::Backup { .. }) {
            self.ability = Ability::Probation { until: now + PROBATION };
            return;
        }
        self.ability = Ability::Able;
        match self.state {
            State::Holding { .. } if self.adopted => {}
            State::Holding { .. } => self.become_master(now, Cause::ServesAgain, out),
            State::Backup { down_at, wants: false } => {
                // It waited as one that cannot serve: now at its own pace, and not at all for a master that cannot serve.
                let last_resort = self.heard_master(now).is_some_and(|p| p == 1);
                let wait = if last_resort { timing::prompt(self.priority) } else { self.master_down() };
                self.state = State::Backup { down_at: down_at.min(now + wait), wants: false };
            }
            State::Master { .. } => {
                out.push(Action::SendAdvert { priority: self.contending() });
                self.state = State::Master { advert_at: self.advert_after(now) };
                out.push(Action::Noted { cause: Cause::ServesAgain });
            }
            State::Init | State::Backup { wants: true, .. } | State::Leaving { .. } | State::Fault | State::Stopped => {
            }
        }
    }

    fn cannot_serve(&mut self, now: Instant, why: Why, out: &mut Vec<Action>) {
        let (was_able, knew) = (self.able(), self.ability == Ability::Unable);
        self.ability = Ability::Unable;
        match self.state {
            State::Master { .. } if was_able => {
                out.push(Action::SendAdvert { priority: 0 });
                let until = self.down_from(now);
                self.go(State::Holding { until }, Cause::CannotServe(why), out);
            }
            // Waiting promptly after a priority 0 is for those who can serve. It is said again and again, and moves nothing the second time.
            State::Backup { .. } if knew => {}
            State::Backup { down_at, wants } => {
                let full = now + timing::skew(self.params.version, 1, self.master_interval);
                self.state = State::Backup { down_at: down_at.max(full), wants };
            }
            State::Init
            | State::Master { .. }
            | State::Holding { .. }
            | State::Leaving { .. }
            | State::Fault
            | State::Stopped => {}
        }
    }

    /// True if this process was not running for so long that the slowest peer has taken over, or that a master's adverts may still be on their way to us.
    /// Asked before anything is said: see [`Input::Frozen`].
    pub fn overslept(&self, now: Instant) -> bool {
        match self.state {
            State::Master { advert_at } => {
                now > advert_at
                    + timing::master_down(self.params.version, 1, self.params.interval, self.params.down_adverts)
            }
            State::Backup { down_at: until, wants: false } | State::Holding { until } => {
                now > until + self.master_down()
            }
            State::Backup { .. } | State::Init | State::Leaving { .. } | State::Fault | State::Stopped => false,
        }
    }

    /// `timer_expired_backup`: the last advert is so old that a peer has taken over, and `nopreempt` forbids to take the address back.
    fn is_late(&self, now: Instant, advert_at: Instant) -> bool {
        let silent_since = advert_at.checked_sub(self.params.interval).unwrap_or(advert_at);
        !self.params.preempt
            && self
                .params
                .late_backup
                .is_some_and(|highest| now >= silent_since + self.params.master_down(highest, self.params.interval))
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        if let Ability::Probation { until } = self.ability
            && now >= until
        {
            self.ability = Ability::Able;
            // The time since it came back has been wait enough: a lower master is preempted now.
            if let State::Backup { wants: false, .. } = self.state
                && self.params.preempt
                && self.params.preempt_delay.is_zero()
                && self.heard_master(now).is_some_and(|p| p < self.priority)
            {
                self.state = State::Backup { down_at: now, wants: false };
            }
        }
        match self.state {
            State::Backup { down_at, wants: false } if now >= down_at => {
                // Nobody is there: health, however short, is better than nothing.
                if matches!(self.ability, Ability::Probation { .. }) {
                    self.ability = Ability::Able;
                }
                let cause = match self.heard_master(now) {
                    _ if self.released => Cause::MasterReleased,
                    Some(priority) => Cause::Preempts { priority },
                    None => Cause::MasterSilent,
                };
                self.released = false;
                self.master_until = None;
                if self.params.grouped {
                    self.state = State::Backup { down_at, wants: true };
                } else {
                    self.become_master(now, cause, out);
                }
            }
            State::Master { advert_at } if self.is_late(now, advert_at) => self.become_backup(now, Cause::Late, out),
            State::Master { advert_at } if now >= advert_at => {
                out.push(Action::SendAdvert { priority: self.contending() });
                self.state = State::Master { advert_at: self.advert_after(now) };
            }
            State::Holding { until } if now >= until => self.become_master(now, Cause::NobodyCame, out),
            State::Leaving { until } if now >= until => self.stop(out),
            State::Init
            | State::Backup { .. }
            | State::Master { .. }
            | State::Holding { .. }
            | State::Leaving { .. }
            | State::Fault
            | State::Stopped => {}
        }
    }
}

#[cfg(test)]
#[path = "fsm_tests.rs"]
mod tests;
