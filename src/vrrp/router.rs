//! One virtual router as the engine runs it: its machine, its sockets, its counters.
use super::ah;
use super::carp;
use super::fsm::{Action, Cause, Machine, Params, Role};
use super::node::Seat;
use super::packet::{AUTH_HEADER, AUTH_SIMPLE, Advert, GROUP4, GROUP6, TTL, sum_up};
use super::quarrel::Quarrel;
use super::timing::Version;
use super::trailer;
use super::view::{Transition, VrrpView};
use crate::config::model::{Auth, HmacMode, OldChecksum, Vip, VrrpInstance, VrrpModel, VrrpVersion};
use crate::net::netlink::{Address, Link, Opened};
use crate::net::raw;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// Changes of state that are kept in mind.
const HISTORY: usize = 16;

/// A packet for one router.
pub struct Incoming {
    pub router: u64,
    pub packet: raw::Packet,
    pub bytes: Vec<u8>,
}

#[derive(Default, Clone, Debug)]
pub struct Stats {
    pub sent: u64,
    pub received: u64,
    pub zero_sent: u64,
    pub zero_received: u64,
    pub became_master: u64,
    pub released_master: u64,
    pub rejected: HashMap<&'static str, u64>,
}

/// The worst of a minute, and of the one before.
#[derive(Default)]
pub struct Jitter {
    begun: Option<Instant>,
    worst: Duration,
    before: Duration,
}

impl Jitter {
    const SPAN: Duration = Duration::from_secs(60);

    pub fn note(&mut self, now: Instant, deviation: Duration) {
        let begun = *self.begun.get_or_insert(now);
        if now.saturating_duration_since(begun) >= Self::SPAN {
            (self.before, self.worst, self.begun) = (self.worst, Duration::ZERO, Some(now));
        }
        self.worst = self.worst.max(deviation);
    }

    pub fn worst(&self, now: Instant) -> Duration {
        match self.begun {
            Some(b) if now.saturating_duration_since(b) < Self::SPAN * 2 => self.worst.max(self.before),
            _ => Duration::ZERO,
        }
    }
}

/// What a new master says only once its addresses are on.
pub struct Held {
    /// Of the order to the keeper.
    pub tag: u64,
    /// It goes on without them then.
    pub until: Instant,
    pub actions: Vec<Action>,
}

pub struct Router {
    /// Unique in this process; packets and finished work name the router by it.
    pub key: u64,
    pub conf: VrrpInstance,
    pub machine: Machine,
    pub link: Option<Link>,
    /// Index of the interface that adverts leave on.
    pub speaks_on: u32,
    /// Where adverts come from.
    pub src: Option<IpAddr>,
    socket: Option<socket2::Socket>,
    reader: Option<tokio::task::JoinHandle<()>>,
    /// Sockets are being opened under this tag.
    pub opening: Option<u64>,
    pub held: Option<Held>,
    /// Further announcements, and renewals of the addresses' lifetime.
    pub announce_at: Option<Instant>,
    pub announce_times: u32,
    /// When a lower master was last answered with announcements.
    pub lower_told: Option<Instant>,
    pub refresh_at: Option<Instant>,
    /// Announcements on other interfaces than its own: `garp_extra_if`.
    pub elsewhere_at: Option<Instant>,
    pub renew_at: Option<Instant>,
    /// Its routes and rules are put there again.
    pub ways_at: Option<Instant>,
    pub stats: Stats,
    pub cause: Cause,
    /// The last changes of state, the newest last.
    pub history: VecDeque<Transition>,
    /// The last advert of another: when, from whom, with which priority.
    pub last_heard: Option<(Instant, IpAddr, u8)>,
    pub jitter: Jitter,
    /// The multicast group that it speaks to.
    pub group: IpAddr,
    /// Numbers of authentication headers, its own and the others'.
    seq: u32,
    pub counts: ah::Counts,
    /// Sequence numbers of signed adverts, its own last one and the others'.
    sequence: u64,
    pub sequences: trailer::Sequences,
    /// An advert of another was summed up in the old way: `old_unicast_checksum`.
    pub heard_old_sum: bool,
    /// Who speaks version 3, and when it last did.
    moved: Vec<(IpAddr, Instant)>,
    /// Addresses, routes and rules that somebody else took away.
    pub put_back: Quarrel,
    /// The same of its interface with its MAC address, and when that is made again.
    pub vmac_lost: Quarrel,
    pub vmac_at: Option<Instant>,
    /// It was seen to be down; when that is looked at.
    pub vmac_down_at: Option<Instant>,
    /// Connections on its addresses are being reset; the addresses go afterwards.
    pub resetting: bool,
    /// The last thing that went wrong, so that it is said once.
    pub problem: String,
    /// Held while this process runs the router: an abstract socket, one a network namespace.
    claim: Option<std::os::unix::net::UnixDatagram>,
    /// No configuration has it any more: it gives its addresses up in order, and is forgotten.
    pub departing: bool,
}

impl Router {
    pub fn new(key: u64, conf: &VrrpInstance, model: &VrrpModel) -> Result<Self, String> {
        Ok(Self {
            key,
            machine: Machine::new(params(conf, model), conf.priority),
            link: None,
            speaks_on: 0,
            src: None,
            socket: None,
            reader: None,
            opening: None,
            held: None,
            announce_at: None,
            announce_times: 0,
            lower_told: None,
            refresh_at: None,
            elsewhere_at: None,
            renew_at: None,
            ways_at: None,
            stats: Stats::default(),
            cause: Cause::Started,
            history: VecDeque::new(),
            last_heard: None,
            jitter: Jitter::default(),
            group: GROUP4.into(),
            seq: 0,
            counts: ah::Counts::default(),
            sequence: 0,
            sequences: trailer::Sequences::default(),
            heard_old_sum: false,
            moved: Vec::new(),
            put_back: Quarrel::default(),
            vmac_lost: Quarrel::default(),
            vmac_at: None,
            vmac_down_at: None,
            resetting: false,
            problem: String::new(),
            claim: Some(claim(conf)?),
            departing: false,
            conf: conf.clone(),
        })
    }

    /// It has ended here: another process may run it.
    pub fn unclaim(&mut self) {
        self.claim = None;
    }

    /// Adverts can leave and be heard.
    pub fn open(&self) -> bool {
        self.socket.is_some()
    }

    pub fn close(&mut self) {
        (self.socket, self.opening) = (None, None);
        if let Some(t) = self.reader.take() {
            t.abort();
        }
    }

    pub fn unicast(&self) -> bool {
        !self.conf.peers.is_empty()
    }

    pub fn six(&self) -> bool {
        self.conf.is_six()
    }

    /// The multicast group: its own, the configuration's, or the protocol's.
    pub fn group_of(&self, m: &VrrpModel) -> IpAddr {
        let usual: IpAddr = match self.six() {
            true => m.group6.unwrap_or(GROUP6).into(),
            false => m.group4.unwrap_or(GROUP4).into(),
        };
        self.conf.mcast_dst.unwrap_or(usual)
    }

    /// A change of state, for the log and for those who ask later.
    pub fn changed(&mut self, now: Instant, to: Role, cause: Cause) {
        self.cause = cause;
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(Transition { at: now, to, cause: cause.text(), priority: self.machine.priority() });
    }

    /// keepalived has one count for what it sends and what it hears, and takes nothing below it: ours goes on from the highest that was heard.
    pub fn count_on(&mut self, heard: Option<u32>) {
        self.seq = self.seq.max(heard.unwrap_or(0));
    }

    /// True if its adverts are summed up as those of keepalived before 1.3.7: as if they went to the group.
    fn old_sums(&self) -> bool {
        let wanted = match self.conf.old_checksum {
            OldChecksum::Always => true,
            OldChecksum::Answered => self.heard_old_sum,
            OldChecksum::Never => false,
        };
        wanted && self.unicast() && !self.six()
    }

    /// True if this sender has spoken version 3 lately; `now` it does, or does not.
    pub fn moved(&mut self, from: IpAddr, three: bool, now: Instant) -> bool {
        let (patience, before) = (self.machine.master_down(), self.moved.len());
        self.moved.retain(|m| now.saturating_duration_since(m.1) < patience && !(three && m.0 == from));
        // No more speak on one network.
        if three && before < 256 {
            self.moved.push((from, now));
        }
        self.moved.iter().any(|m| m.0 == from)
    }

    /// An advert of another router was taken.
    pub fn heard(&mut self, now: Instant, from: &IpAddr, priority: u8, interval: Duration) {
        if let Some((before, whom, _)) = self.last_heard
            && whom == *from
            && priority > 0
        {
            let gap = now.saturating_duration_since(before);
            self.jitter.note(now, gap.abs_diff(interval));
        }
        self.last_heard = Some((now, *from, priority));
    }

    pub fn addresses(&self) -> impl Iterator<Item = &Vip> {
        addresses(&self.conf)
    }

    pub fn has(&self, ip: IpAddr) -> bool {
        self.addresses().any(|v| v.addr.addr == ip)
    }

    /// The interface that an address lives on.
    pub fn device<'a>(&'a self, v: &'a Vip) -> &'a str {
        device_of(&self.conf, v)
    }

    /// It needs no interface of its own: it speaks to peers over whatever leads there.
    pub fn unbound(&self) -> bool {
        self.conf.interface.is_empty()
    }

    /// See [`VrrpInstance::roams`].
    pub fn roams(&self) -> bool {
        self.conf.roams()
    }

    /// The address to speak from: what the file says, else the one used so far, else the first one of the interface that is no virtual one of ours.
    pub fn source(&self, all: &[Address], virtual_ones: &[IpAddr], mark: u8) -> Option<IpAddr> {
        let six = self.six();
        if self.unbound() {
            return self.conf.unicast_src;
        }
        let index = self.link.as_ref()?.index;
        let suits = |a: &&Address| {
            let kind = match a.addr {
                IpAddr::V6(ip) => six && ip.is_unicast_link_local(),
                IpAddr::V4(_) => !six,
            };
            kind && a.ifindex == index && a.mark != mark && !a.tentative && !virtual_ones.contains(&a.addr)
        };
        let own = self.conf.vmac.as_ref().and_then(|v| v.ipvlan?.addr).map(|a| a.addr);
        self.conf.unicast_src.or(self.conf.mcast_src).or(own).or_else(|| {
            let mut found = all.iter().filter(suits).map(|a| a.addr);
            let first = found.next()?;
            if found.chain([first]).any(|a| Some(a) == self.src) { self.src } else { Some(first) }
        })
    }

    /// Takes opened sockets into service.
    pub fn serve(&mut self, o: Opened, sender: mpsc::Sender<Incoming>) -> std::io::Result<()> {
        let (key, six) = (self.key, self.six());
        // SAFETY: the Socket owns its descriptor for the life of the AsyncFd.
        let fd = unsafe { AsyncFd::register_with_interest(o.hearing, Interest::READABLE) }?;
        self.socket = Some(o.sending);
        self.reader = Some(tokio::task::spawn_local(async move {
            let mut buf = vec![0u8; 2048];
            loop {
                let got = fd.async_io(Interest::READABLE, |s| raw::receive(s.as_raw_fd(), six, &mut buf)).await;
                match got {
                    Ok(packet) => {
                        let bytes = buf[..packet.len].to_vec();
                        if let Err(mpsc::error::TrySendError::Closed(_)) =
                            sender.try_send(Incoming { router: key, packet, bytes })
                        {
                            return;
                        }
                    }
                    Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {}
                    // A link that went down: the netlink watch says so; here it is only to be survived.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        }));
        Ok(())
    }

    /// One advert to whoever has to hear it. `buf` is scratch.
    pub fn send_advert(&mut self, priority: u8, buf: &mut Vec<u8>) {
        let (Some(s), Some(src)) = (&self.socket, self.src) else { return };
        let mut vrrp = Advert {
            version: version(self.conf.version),
            vrid: self.conf.vrid,
            priority,
            interval: self.conf.advert_int,
            addrs: Vec::new(),
            auth: match self.conf.auth {
                Auth::None | Auth::Carp(_) => (0, [0; 8]),
                Auth::Pass(p) => (AUTH_SIMPLE, p),
                Auth::Header(_) => (AUTH_HEADER, [0; 8]),
            },
        };
        if self.conf.version != VrrpVersion::Carp {
            vrrp.addrs.extend(self.conf.vips.iter().map(|v| v.addr.addr));
        }
        let one = [self.group];
        let unicast = !self.conf.peers.is_empty();
        let targets = self.conf.peers.iter().map(|p| p.addr);
        let targets: &mut dyn Iterator<Item = IpAddr> =
            if unicast { &mut { targets } } else { &mut one.iter().copied() };
        let versions: &[Version] = if self.conf.also_v2 { &[Version::V3, Version::V2] } else { &[vrrp.version] };
        for (dst, version) in targets.flat_map(|dst| versions.iter().map(move |v| (dst, *v))) {
            vrrp.version = version;
            let old = self.conf.also_v2 && version == Version::V2;
            vrrp.interval = if old { whole_seconds(self.conf.advert_int) } else { self.conf.advert_int };
            if let Auth::Carp(auth) = &self.conf.auth {
                self.sequence = trailer::sequence(since_epoch(), self.sequence);
                let group = carp::Group { vhid: self.conf.vrid, key: &auth.key, addrs: &auth.addrs };
                let said = carp::Advert::of(priority, self.conf.advert_int);
                said.emit(self.sequence, &group, buf);
            } else {
                let summed = if self.old_sums() && version == Version::V3 { self.group } else { dst };
                vrrp.emit(src, summed, self.conf.checksum_v2, buf);
            }
            if let Some(h) = self.conf.hmac.as_ref().filter(|h| h.mode != HmacMode::ReceiveOnly)
                && let Some(key) = h.key(h.active)
            {
                self.sequence = trailer::sequence(since_epoch(), self.sequence);
                trailer::sign(buf, src, h.active, key, self.sequence);
                if dst.is_ipv6() {
                    sum_up(buf, src, dst);
                }
            }
            if let (Auth::Header(key), IpAddr::V4(src), IpAddr::V4(to)) = (&self.conf.auth, src, dst) {
                self.seq = self.seq.wrapping_add(1).max(1);
                let ttl = if unicast { self.conf.unicast_ttl.unwrap_or(TTL) } else { TTL };
                let mut whole = Vec::with_capacity(buf.len() + 64);
                ah::wrap(src, to, ttl, key, self.seq, buf, &mut whole);
                std::mem::swap(buf, &mut whole);
            }
            if raw::send(s, dst, self.speaks_on, buf).is_ok() {
                self.stats.sent += 1;
                self.stats.zero_sent += u64::from(priority == 0);
            }
        }
    }

    /// How long an address outlives a dead guardian: the time a peer needs, and a little. Whole seconds, as the kernel counts.
    pub fn lifetime(&self) -> Duration {
        let down = super::timing::master_down(
            version(self.conf.version),
            self.machine.priority(),
            // Who speaks version 2 beside it waits longer.
            if self.conf.also_v2 { whole_seconds(self.conf.advert_int) } else { self.conf.advert_int },
            self.conf.down_adverts,
        ) + Duration::from_secs(2);
        Duration::from_secs(down.as_secs() + u64::from(down.subsec_nanos() > 0))
    }

    pub fn reject(&mut self, why: &'static str) -> u64 {
        let n = self.stats.rejected.entry(why).or_default();
        *n += 1;
        *n
    }

    /// `shares`: what it tracks, in words.
    pub fn view(&self, now: Instant, shares: Vec<String>) -> VrrpView {
        let ago = |t: Instant| now.saturating_duration_since(t).as_secs_f64();
        let mut rejected: Vec<(String, u64)> = self.stats.rejected.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        rejected.sort();
        VrrpView {
            name: self.conf.name.clone(),
            interface: self.conf.interface.clone(),
            vrid: self.conf.vrid,
            state: self.machine.state().role().name().to_owned(),
            priority: self.conf.priority,
            effective: if self.machine.able() { self.machine.priority() } else { 1 },
            able: self.machine.able(),
            vips: self.addresses().map(|v| v.addr.to_string()).collect(),
            cause: self.cause.text(),
            since: self.history.back().map_or(0.0, |t| ago(t.at)),
            shares,
            history: self
                .history
                .iter()
                .rev()
                .map(|t| (ago(t.at), format!("{} at priority {}: {}", t.to.name(), t.priority, t.cause)))
                .collect(),
            heard: self.last_heard.map(|(t, from, priority)| (ago(t), from.to_string(), priority)),
            jitter: self.jitter.worst(now).as_secs_f64() * 1000.0,
            next: self.machine.next_deadline().map(|t| t.saturating_duration_since(now).as_secs_f64()),
            master_priority: self.machine.heard_master(now),
            sent: self.stats.sent,
            received: self.stats.received,
            became_master: self.stats.became_master,
            released_master: self.stats.released_master,
            rejected,
        }
    }
}

impl Seat for Router {
    fn machine(&self) -> &Machine {
        &self.machine
    }
    fn machine_mut(&mut self) -> &mut Machine {
        &mut self.machine
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.close();
    }
}

/// An interval as version 2 has it beside version 3: whole seconds, one at least.
pub fn whole_seconds(interval: Duration) -> Duration {
    Duration::from_secs((interval.as_secs() + u64::from(interval.subsec_nanos() > 0)).max(1))
}

/// The wall clock, for sequence numbers.
pub fn since_epoch() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

pub fn addresses(c: &VrrpInstance) -> impl Iterator<Item = &Vip> {
    c.addresses()
}

/// The interface that an address of a router lives on where none is said: its interface with its own MAC address, else its interface. An IPVLAN is there
/// for adverts only, as in keepalived.
pub fn home_of(c: &VrrpInstance) -> &str {
    c.vmac.as_ref().filter(|m| m.ipvlan.is_none()).map_or(c.interface.as_str(), |m| &m.name)
}

/// The interface that an address of a router lives on.
pub fn device_of<'a>(c: &'a VrrpInstance, v: &'a Vip) -> &'a str {
    v.dev.as_deref().unwrap_or_else(|| home_of(c))
}

pub fn version(v: VrrpVersion) -> Version {
    match v {
        VrrpVersion::V2 => Version::V2,
        VrrpVersion::V3 => Version::V3,
        VrrpVersion::Carp => Version::Carp,
    }
}

pub fn params(c: &VrrpInstance, m: &VrrpModel) -> Params {
    let grouped = m.groups.iter().any(|g| g.members.contains(&c.name))
        || c.twin_of.is_some()
        || m.instances.iter().any(|i| i.twin_of.as_ref() == Some(&c.name));
    Params {
        version: version(c.version),
        interval: c.advert_int,
        beside_v2: c.also_v2,
        others: if c.also_v2 { whole_seconds(c.advert_int) } else { c.advert_int },
        preempt: c.preempt,
        preempt_delay: c.preempt_delay,
        grouped,
        begins_master: c.initial_master,
        down_adverts: c.down_adverts,
        quiet_to_lower: c.quiet_to_lower,
        answers_higher: c.answers_higher,
        owner_deaf: c.owner_deaf,
        late_backup: c.late_backup,
    }
}

/// Makes sure that no other process on this host runs the same router.
pub fn claim(c: &VrrpInstance) -> Result<std::os::unix::net::UnixDatagram, String> {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("tandem/vrrp/{}/{}/{}", c.interface, c.vrid, if c.is_six() { 6 } else { 4 });
    let addr = std::os::unix::net::SocketAddr::from_abstract_name(name).map_err(|e| e.to_string())?;
    std::os::unix::net::UnixDatagram::bind_addr(&addr)
        .map_err(|_| format!("'{}' : another process on this host already runs virtual router {} on {}; reload that one with SIGUSR2, or stop it first", c.name, c.vrid, c.place_to_speak()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Ipvlan, Vmac};

    #[test]
    fn an_ipvlan_is_for_adverts_only() {
        let place = crate::config::keepalived::build::place_of("k:1");
        let mut c = crate::config::keepalived::build::blank_instance("V", &place);
        c.interface = "eth0".into();
        assert_eq!(home_of(&c), "eth0");
        let own = Vmac { name: "own".into(), mac: [0; 6], ipvlan: None, group: None, from_base: false };
        c.vmac = Some(own.clone());
        assert_eq!(home_of(&c), "own");
        c.vmac = Some(Vmac { ipvlan: Some(Ipvlan { mode: Default::default(), addr: None }), ..own });
        assert_eq!(home_of(&c), "eth0");
    }
}
