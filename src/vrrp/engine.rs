//! The driver: performs what the machines decide. Runs in the guardian, on its one thread.
use super::announce;
use super::fsm::{Action, Cause, Input, Machine, Params, Role, State};
use super::group;
use super::packet::{AUTH_SIMPLE, Advert, Expect, GROUP4, GROUP6, Reject};
use super::priority::{self, Track};
use super::timing::Version;
use super::view::VrrpView;
use crate::config::model::{Notify, Vip, VrrpInstance, VrrpModel, VrrpVersion};
use crate::net::netlink::{Event, Keeper, Link, MARK, Netlink, NewAddress};
use crate::net::{raw, sockdiag};
use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// What the engine tells its owner.
pub enum Told {
    Log {
        important: bool,
        text: String,
    },
    /// A notify script to run, with its arguments.
    Notify {
        command: String,
        args: Vec<String>,
    },
    /// The addresses of a router are gone or here; for statistics.
    Changed,
}

/// Packets waiting for the engine: more than any sane network sends between two looks. A flood beyond it is dropped.
const QUEUE: usize = 256;
/// How long a new master waits for its addresses before it announces them all the same.
const ACQUIRE: Duration = Duration::from_millis(50);

struct Incoming {
    router: u64,
    packet: raw::Packet,
    bytes: Vec<u8>,
}

#[derive(Default, Clone)]
struct Stats {
    sent: u64,
    received: u64,
    became_master: u64,
    released_master: u64,
    rejected: HashMap<&'static str, u64>,
}

struct Router {
    key: u64,
    conf: VrrpInstance,
    machine: Machine,
    socket: Option<socket2::Socket>,
    reader: Option<tokio::task::JoinHandle<()>>,
    link: Option<Link>,
    src: Option<IpAddr>,
    /// Further announcements: when, and whether they repeat for ever.
    announce_at: Option<Instant>,
    refresh_at: Option<Instant>,
    renew_at: Option<Instant>,
    stats: Stats,
    cause: Cause,
    resetting: bool,
    /// Held while this process runs the router: an abstract socket, one a network namespace.
    _claim: Option<std::os::unix::net::UnixDatagram>,
}

pub struct Engine {
    routers: Vec<Router>,
    groups: Vec<Vec<usize>>,
    group_conf: Vec<(String, Notify)>,
    model: VrrpModel,
    netlink: Netlink,
    keeper: Keeper,
    links: HashMap<String, Link>,
    frames: Option<socket2::Socket>,
    incoming: mpsc::Receiver<Incoming>,
    sender: mpsc::Sender<Incoming>,
    released: mpsc::UnboundedReceiver<u64>,
    release: mpsc::UnboundedSender<u64>,
    pub told: Vec<Told>,
    serving: bool,
    standby: bool,
    started: bool,
    scripts: HashMap<String, bool>,
    last_tick: Instant,
    next_key: u64,
    buf: Vec<u8>,
}

impl Engine {
    /// Must be called inside the guardian's runtime.
    pub async fn new(now: Instant) -> Result<Self, String> {
        let netlink = Netlink::new().map_err(|e| format!("cannot open netlink: {e}"))?;
        let keeper = Keeper::start().map_err(|e| format!("cannot start the keeper of addresses: {e}"))?;
        let (sender, incoming) = mpsc::channel(QUEUE);
        let (release, released) = mpsc::unbounded_channel();
        Ok(Self {
            routers: Vec::new(),
            groups: Vec::new(),
            group_conf: Vec::new(),
            model: VrrpModel::default(),
            netlink,
            keeper,
            links: HashMap::new(),
            frames: None,
            incoming,
            sender,
            released,
            release,
            told: Vec::new(),
            serving: false,
            standby: false,
            started: false,
            scripts: HashMap::new(),
            last_tick: now,
            next_key: 0,
            buf: Vec::new(),
        })
    }

    pub fn is_empty(&self) -> bool {
        self.routers.is_empty()
    }

    /// True once nothing is left to give away.
    pub fn stopped(&self) -> bool {
        self.routers.iter().all(|r| r.machine.state() == State::Stopped && !r.resetting)
    }

    /// Takes a model in force: new routers start, known ones go on with their state, others give their addresses up.
    pub async fn apply(&mut self, model: VrrpModel, now: Instant) -> Result<(), String> {
        self.refresh_links().await?;
        if !self.started {
            for conf in &model.instances {
                // Before anything of a living predecessor is touched.
                drop(claim(conf)?);
            }
            self.remove_stale().await;
            if !model.instances.is_empty() {
                self.frames = Some(
                    raw::ethernet().map_err(|e| format!("cannot open a packet socket ({e}): CAP_NET_RAW is needed"))?,
                );
            }
        } else if self.frames.is_none() && !model.instances.is_empty() {
            self.frames =
                Some(raw::ethernet().map_err(|e| format!("cannot open a packet socket ({e}): CAP_NET_RAW is needed"))?);
        }
        let mut old = std::mem::take(&mut self.routers);
        for conf in &model.instances {
            let six = is_six(conf);
            let found = old
                .iter()
                .position(|r| r.conf.vrid == conf.vrid && r.conf.interface == conf.interface && is_six(&r.conf) == six);
            match found {
                Some(i) => {
                    let mut r = old.remove(i);
                    let gone: Vec<Vip> =
                        addresses(&r.conf).filter(|v| !addresses(conf).any(|w| w == *v)).cloned().collect();
                    let reopen = r.conf.unicast_peers.is_empty() != conf.unicast_peers.is_empty()
                        || r.conf.unicast_src != conf.unicast_src;
                    r.conf = conf.clone();
                    r.machine.reconfigure(params(conf, &model));
                    if reopen {
                        r.close();
                    }
                    if r.machine.state().has_address() {
                        for v in gone {
                            self.take_off(&r, &v);
                        }
                        r.renew_at = Some(now);
                        r.announce_at = Some(now);
                    }
                    self.routers.push(r);
                }
                None => {
                    self.next_key += 1;
                    self.routers.push(Router {
                        key: self.next_key,
                        machine: Machine::new(params(conf, &model), conf.priority),
                        conf: conf.clone(),
                        socket: None,
                        reader: None,
                        link: None,
                        src: None,
                        announce_at: None,
                        refresh_at: None,
                        renew_at: None,
                        stats: Stats::default(),
                        cause: Cause::Started,
                        resetting: false,
                        _claim: Some(claim(conf)?),
                    });
                }
            }
        }
        for mut r in old {
            let mut out = Vec::new();
            r.machine.handle(now, Input::Shutdown, &mut out);
            if out.contains(&Action::SendAdvert { priority: 0 }) {
                self.send_advert(&mut r, 0);
            }
            for v in addresses(&r.conf).cloned().collect::<Vec<_>>() {
                self.take_off(&r, &v);
            }
            r.close();
        }
        self.model = model;
        self.groups = self
            .model
            .groups
            .iter()
            .map(|g| g.members.iter().filter_map(|m| self.routers.iter().position(|r| r.conf.name == *m)).collect())
            .collect();
        self.group_conf = self.model.groups.iter().map(|g| (g.name.clone(), g.notify.clone())).collect();
        for i in 0..self.routers.len() {
            if let Some(twin) = &self.routers[i].conf.twin_of
                && let Some(j) = self.routers.iter().position(|r| r.conf.name == *twin)
            {
                self.groups.push(vec![j, i]);
                self.group_conf.push((twin.clone(), Notify::default()));
            }
        }
        for i in 0..self.routers.len() {
            self.attach(i).await?;
            let link_up = self.routers[i].ready();
            let able = self.able(i);
            let fresh = self.routers[i].machine.state() == State::Init;
            if fresh {
                self.feed(i, now, Input::Serving(able)).await;
                self.feed(i, now, if link_up { Input::Start } else { Input::Interface(false) }).await;
            } else {
                self.feed(i, now, Input::Interface(link_up)).await;
            }
            self.update_priority(i, now).await;
        }
        self.started = true;
        self.settle(now).await;
        Ok(())
    }

    /// Addresses with our mark that a crashed predecessor left.
    async fn remove_stale(&mut self) {
        for a in self.netlink.addresses().await.unwrap_or_default().into_iter().filter(|a| a.mark == MARK) {
            self.told.push(Told::Log {
                important: true,
                text: format!("removing stale address {}/{} left by a former run", a.addr, a.prefix),
            });
            let _ = self.netlink.remove(a.ifindex, a.addr, a.prefix).await;
        }
    }

    async fn refresh_links(&mut self) -> Result<(), String> {
        self.links = self.netlink.links().await?.into_iter().map(|l| (l.name.clone(), l)).collect();
        Ok(())
    }

    /// Opens the socket of a router and starts reading from it.
    async fn attach(&mut self, i: usize) -> Result<(), String> {
        let own: Vec<IpAddr> = self.routers.iter().flat_map(|r| addresses(&r.conf).map(|v| v.addr.addr)).collect();
        let all = self.netlink.addresses().await?;
        let sender = self.sender.clone();
        let r = &mut self.routers[i];
        r.link = self.links.get(&r.conf.interface).cloned();
        let Some(link) = r.link.clone() else { return Ok(()) };
        let six = is_six(&r.conf);
        let suits = |ip: &IpAddr| match ip {
            IpAddr::V6(a) => six && a.is_unicast_link_local(),
            IpAddr::V4(_) => !six,
        };
        let src = r.conf.unicast_src.or(r.conf.mcast_src).or_else(|| {
            all.iter()
                .find(|a| a.ifindex == link.index && a.mark != MARK && suits(&a.addr) && !own.contains(&a.addr))
                .map(|a| a.addr)
        });
        if src != r.src {
            r.close();
            r.src = src;
        }
        if r.socket.is_some() {
            return Ok(());
        }
        let multicast = r.conf.unicast_peers.is_empty();
        let open = || -> std::io::Result<socket2::Socket> {
            let s = raw::vrrp(six, &link.name, link.index, multicast)?;
            if let Some(src) = r.src {
                raw::bind_source(&s, src, link.index).ok();
            }
            Ok(s)
        };
        // Bound to a source address, a raw socket would not hear multicast: one for sending, one for hearing.
        let sending = open().map_err(|e| {
            format!(
                "'{}' : cannot open a VRRP socket on {} ({e}): CAP_NET_RAW and CAP_NET_ADMIN are needed",
                r.conf.name, link.name
            )
        })?;
        let hearing = raw::vrrp(six, &link.name, link.index, multicast)
            .map_err(|e| format!("'{}' : cannot open a VRRP socket on {} ({e})", r.conf.name, link.name))?;
        r.socket = Some(sending);
        let key = r.key;
        // SAFETY: the Socket owns its descriptor for the life of the AsyncFd.
        let fd = unsafe { AsyncFd::register_with_interest(hearing, Interest::READABLE) }.map_err(|e| e.to_string())?;
        r.reader = Some(tokio::task::spawn_local(async move {
            let mut buf = vec![0u8; 2048];
            loop {
                let got = fd.async_io(Interest::READABLE, |s| raw::receive(s.as_raw_fd(), six, &mut buf)).await;
                match got {
                    Ok(packet) => {
                        let bytes = buf[packet.start..packet.len].to_vec();
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

    /// Serving, not told to stand by, and nothing failed that is tracked without a weight.
    fn able(&self, i: usize) -> bool {
        let mates = self.groups.iter().filter(|g| g.contains(&i)).flatten().copied().chain([i]);
        self.serving && !self.standby && !mates.into_iter().any(|m| self.failed_tracks(m))
    }

    /// Whether the local proxy serves. Passed on to every router.
    pub async fn serving(&mut self, yes: bool, now: Instant) {
        self.serving = yes;
        self.spread_ability(now).await;
    }

    /// An operator's wish to give the addresses away.
    pub async fn standby(&mut self, yes: bool, now: Instant) {
        self.standby = yes;
        self.spread_ability(now).await;
    }

    async fn spread_ability(&mut self, now: Instant) {
        for i in 0..self.routers.len() {
            let able = self.able(i);
            self.feed(i, now, Input::Serving(able)).await;
            self.update_priority(i, now).await;
        }
        self.settle(now).await;
    }

    fn tracks(&self, i: usize) -> Vec<Track> {
        let r = &self.routers[i];
        let mut out = Vec::new();
        // Members of a group share what the group tracks.
        let groups: Vec<&crate::config::model::VrrpGroup> =
            self.model.groups.iter().filter(|g| g.members.contains(&r.conf.name)).collect();
        for t in r.conf.track_interfaces.iter().chain(groups.iter().flat_map(|g| &g.track_interfaces)) {
            let up = self.links.get(&t.name).is_some_and(|l| l.usable);
            out.push(Track { weight: t.weight.unwrap_or(0), reverse: t.reverse, up });
        }
        for t in r.conf.track_scripts.iter().chain(groups.iter().flat_map(|g| &g.track_scripts)) {
            let Some(s) = self.model.scripts.iter().find(|s| s.name == t.name) else { continue };
            let up = if s.liveness { self.serving } else { self.scripts.get(&s.name).copied().unwrap_or(!s.init_fail) };
            out.push(Track { weight: t.weight.unwrap_or(s.weight), reverse: t.reverse || s.reverse, up });
        }
        out
    }

    /// True if something tracked without weight failed: the node yields.
    fn failed_tracks(&self, i: usize) -> bool {
        priority::effective(self.routers[i].conf.priority, self.tracks(i)).failed
    }

    async fn update_priority(&mut self, i: usize, now: Instant) {
        let p = priority::effective(self.routers[i].conf.priority, self.tracks(i)).priority;
        if p != self.routers[i].machine.priority() {
            let text = format!(
                "({}) effective priority {} -> {p}",
                self.routers[i].conf.name,
                self.routers[i].machine.priority()
            );
            self.told.push(Told::Log { important: false, text });
            self.feed(i, now, Input::Priority(p)).await;
        }
    }

    pub async fn script(&mut self, name: &str, up: bool, now: Instant) {
        if self.scripts.insert(name.to_owned(), up) != Some(up) {
            self.told.push(Told::Log {
                important: true,
                text: format!("script {name} {}", if up { "succeeds" } else { "fails" }),
            });
            self.spread_ability(now).await;
        }
    }

    /// A change that the kernel reports.
    pub async fn event(&mut self, e: Event, now: Instant) {
        match e {
            Event::Link(l) => self.link_changed(l, now).await,
            Event::LinkGone(l) => {
                self.link_changed(Link { usable: false, ..l.clone() }, now).await;
                self.links.remove(&l.name);
                for r in self.routers.iter_mut().filter(|r| r.conf.interface == l.name) {
                    r.close();
                }
            }
            Event::AddressGone(a) => {
                let lost: Vec<usize> = (0..self.routers.len())
                    .filter(|i| {
                        self.routers[*i].machine.state().has_address()
                            && addresses(&self.routers[*i].conf).any(|v| v.addr.addr == a.addr)
                    })
                    .collect();
                for i in lost {
                    let text = format!(
                        "({}) address {} was removed by somebody else: put back",
                        self.routers[i].conf.name, a.addr
                    );
                    self.told.push(Told::Log { important: true, text });
                    self.put_on(i, ACQUIRE).await;
                    self.announce(i, 1);
                }
            }
            Event::AddressChanged(ifindex) => {
                for i in 0..self.routers.len() {
                    if self.routers[i].link.as_ref().is_some_and(|l| l.index == ifindex) {
                        if let Err(e) = self.attach(i).await {
                            self.told.push(Told::Log { important: true, text: e });
                        }
                        let up = self.routers[i].ready();
                        self.feed(i, now, Input::Interface(up)).await;
                    }
                }
                self.settle(now).await;
            }
            Event::Overrun => {
                let Ok(found) = self.netlink.links().await else { return };
                let gone: Vec<Link> =
                    self.links.values().filter(|l| !found.iter().any(|n| n.name == l.name)).cloned().collect();
                for l in gone {
                    self.link_changed(Link { usable: false, ..l }, now).await;
                }
                for l in found {
                    self.link_changed(l, now).await;
                }
                self.routers
                    .iter_mut()
                    .filter(|r| r.machine.state().has_address())
                    .for_each(|r| r.renew_at = Some(now));
            }
        }
    }

    async fn link_changed(&mut self, l: Link, now: Instant) {
        let before = self.links.insert(l.name.clone(), l.clone());
        if before.as_ref().is_some_and(|b| *b == l) {
            return;
        }
        for i in 0..self.routers.len() {
            if self.routers[i].conf.interface == l.name {
                if self.routers[i].link.as_ref().is_none_or(|old| old.index != l.index) {
                    self.routers[i].close();
                }
                if let Err(e) = self.attach(i).await {
                    self.told.push(Told::Log { important: true, text: e });
                }
                self.routers[i].link = Some(l.clone());
                let up = self.routers[i].ready();
                self.feed(i, now, Input::Interface(up)).await;
            }
        }
        self.spread_ability(now).await;
    }

    /// The next moment at which `tick` is wanted.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.routers
            .iter()
            .flat_map(|r| [r.machine.next_deadline(), r.announce_at, r.refresh_at, r.renew_at])
            .flatten()
            .min()
    }

    /// Waits for a packet or a finished reset, and takes it in.
    pub async fn wait(&mut self) -> Work {
        tokio::select! {
            Some(p) = self.incoming.recv() => Work::Packet(p),
            Some(key) = self.released.recv() => Work::Released(key),
        }
    }

    pub async fn work(&mut self, w: Work, now: Instant) {
        match w {
            Work::Packet(p) => {
                self.notice_freeze(now).await;
                self.packet(p, now).await;
                // However many packets come, what is due is done.
                if self.next_deadline().is_some_and(|t| t <= now) {
                    self.tick(now).await;
                }
            }
            Work::Released(key) => {
                if let Some(i) = self.routers.iter().position(|r| r.key == key) {
                    self.routers[i].resetting = false;
                    if !self.routers[i].machine.state().has_address() {
                        for v in addresses(&self.routers[i].conf).cloned().collect::<Vec<_>>() {
                            self.take_off(&self.routers[i], &v);
                        }
                    }
                }
            }
        }
    }

    async fn packet(&mut self, p: Incoming, now: Instant) {
        let Some(i) = self.routers.iter().position(|r| r.key == p.router) else { return };
        let r = &mut self.routers[i];
        let unicast = !r.conf.unicast_peers.is_empty();
        if Some(p.packet.src) == r.src || addresses(&r.conf).any(|v| v.addr.addr == p.packet.src) {
            return;
        }
        if unicast && !r.conf.unicast_peers.contains(&p.packet.src) {
            *r.stats.rejected.entry("source").or_default() += 1;
            return;
        }
        let version = version(r.conf.version);
        let expect = Expect {
            version,
            vrid: r.conf.vrid,
            src: p.packet.src,
            dst: p.packet.dst,
            ttl: if unicast { None } else { p.packet.ttl },
            auth: r.conf.auth_pass.as_ref(),
            interval: r.conf.advert_int,
            plain_checksum: r.conf.checksum_v2,
        };
        // Another router's VRID on the same wire is nobody's mistake, and not counted as one.
        match Advert::parse(&p.bytes, &expect) {
            Err(Reject::Vrid) => *r.stats.rejected.entry("vrid").or_default() += 1,
            Err(e) => {
                let n = r.stats.rejected.entry(reject_name(e)).or_default();
                *n += 1;
                if *n == 1 {
                    let text =
                        format!("({}) dropped an advert from {}: wrong {}", r.conf.name, p.packet.src, reject_name(e));
                    self.told.push(Told::Log { important: true, text });
                }
            }
            Ok(a) => {
                r.stats.received += 1;
                let same = a.addrs.len() == r.conf.vips.len()
                    && a.addrs.iter().all(|x| r.conf.vips.iter().any(|v| v.addr.addr == *x));
                if !same && !r.conf.skip_addr_check {
                    let n = r.stats.rejected.entry("addresses").or_default();
                    *n += 1;
                    if *n == 1 {
                        let text = format!(
                            "({}) {} advertises other addresses than ours: compare the two configurations",
                            r.conf.name, p.packet.src
                        );
                        self.told.push(Told::Log { important: true, text });
                    }
                }
                let wins_tie = r.src.is_some_and(|s| p.packet.src > s);
                self.feed(i, now, Input::Advert { priority: a.priority, interval: a.interval, wins_tie }).await;
                self.settle(now).await;
            }
        }
    }

    /// Notices that this process was not running for longer than a peer would wait, before anything is said as master.
    async fn notice_freeze(&mut self, now: Instant) {
        let gap = now.saturating_duration_since(self.last_tick);
        self.last_tick = now;
        for i in 0..self.routers.len() {
            if gap > self.routers[i].machine.master_down() {
                self.feed(i, now, Input::Frozen).await;
            }
        }
    }

    /// Called at least every second, so that a gap means a freeze.
    pub async fn tick(&mut self, now: Instant) {
        self.notice_freeze(now).await;
        for i in 0..self.routers.len() {
            let mut out = Vec::new();
            self.routers[i].machine.tick(now, &mut out);
            self.perform(i, now, out).await;
            let r = &mut self.routers[i];
            if r.announce_at.is_some_and(|t| t <= now) {
                r.announce_at = None;
                let n = r.conf.garp.repeat;
                self.announce(i, n);
            }
            let r = &mut self.routers[i];
            if r.refresh_at.is_some_and(|t| t <= now) {
                r.refresh_at = r.conf.garp.refresh.map(|d| now + d);
                let n = r.conf.garp.refresh_repeat;
                self.announce(i, n);
            }
            if self.routers[i].renew_at.is_some_and(|t| t <= now) {
                self.put_on(i, Duration::ZERO).await;
                self.routers[i].renew_at = Some(now + lifetime(&self.routers[i]) / 3);
            }
        }
        self.settle(now).await;
    }

    /// Waits until addresses that were given up are off.
    pub async fn drain(&self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.keeper.put(Vec::new())).await;
    }

    pub async fn shutdown(&mut self, now: Instant) {
        for i in 0..self.routers.len() {
            self.feed(i, now, Input::Shutdown).await;
        }
    }

    async fn feed(&mut self, i: usize, now: Instant, input: Input) {
        let mut out = Vec::new();
        self.routers[i].machine.handle(now, input, &mut out);
        self.perform(i, now, out).await;
    }

    /// Lets groups agree.
    async fn settle(&mut self, now: Instant) {
        for g in 0..self.groups.len() {
            // Each round moves members one step; there are only a few steps.
            for _ in 0..4 {
                let states: Vec<State> = self.groups[g].iter().map(|i| self.routers[*i].machine.state()).collect();
                let said = group::settle(&states);
                if said.is_empty() {
                    break;
                }
                for (k, input) in said {
                    let i = self.groups[g][k];
                    self.feed(i, now, input).await;
                }
            }
        }
    }

    async fn perform(&mut self, i: usize, now: Instant, actions: Vec<Action>) {
        for a in actions {
            match a {
                Action::SendAdvert { priority } => {
                    let mut r = std::mem::replace(&mut self.routers[i], Router::hollow());
                    self.send_advert(&mut r, priority);
                    self.routers[i] = r;
                }
                Action::Acquire => {
                    self.put_on(i, ACQUIRE).await;
                    let life = lifetime(&self.routers[i]);
                    self.routers[i].renew_at = Some(now + life / 3);
                }
                Action::Announce { repeat } => {
                    let g = self.routers[i].conf.garp.clone();
                    let (n, delay) =
                        if repeat { (g.repeat, g.delay) } else { (g.lower_prio_repeat, g.lower_prio_delay) };
                    self.announce(i, n);
                    let r = &mut self.routers[i];
                    r.announce_at = (!delay.is_zero()).then(|| now + delay);
                    r.refresh_at = g.refresh.map(|d| now + d);
                }
                Action::Release => self.release(i),
                Action::Changed { from, to, cause } => {
                    let r = &mut self.routers[i];
                    r.cause = cause;
                    match (from, to) {
                        (_, Role::Master) => r.stats.became_master += 1,
                        (Role::Master, _) => r.stats.released_master += 1,
                        _ => {}
                    }
                    let name = r.conf.name.clone();
                    self.told.push(Told::Log {
                        important: true,
                        text: format!("({name}) Entering {} STATE: {}", to.name(), cause.text()),
                    });
                    self.told.push(Told::Changed);
                    self.notify(i, to);
                }
                Action::Noted { cause } => {
                    let r = &mut self.routers[i];
                    r.cause = cause;
                    let name = r.conf.name.clone();
                    self.told.push(Told::Log { important: true, text: format!("({name}) {}", cause.text()) });
                    self.told.push(Told::Changed);
                }
            }
        }
    }

    fn notify(&mut self, i: usize, to: Role) {
        let r = &self.routers[i];
        let prio = r.machine.priority().to_string();
        let say = |n: &Notify, kind: &str, name: &str, told: &mut Vec<Told>| {
            let own = match to {
                Role::Master => &n.master,
                Role::Backup => &n.backup,
                Role::Fault => &n.fault,
                Role::Stop => &n.stop,
                Role::Init => &None,
            };
            if let Some(c) = own {
                told.push(Told::Notify { command: c.clone(), args: Vec::new() });
            }
            if let Some(c) = &n.any {
                told.push(Told::Notify {
                    command: c.clone(),
                    args: vec![kind.into(), name.into(), to.name().into(), prio.clone()],
                });
            }
        };
        say(&r.conf.notify, "INSTANCE", &r.conf.name, &mut self.told);
        for (g, members) in self.groups.iter().enumerate() {
            // A group has moved when its last member has.
            if members.contains(&i) && members.iter().all(|m| self.routers[*m].machine.state().role() == to) {
                let (name, n) = &self.group_conf[g];
                say(n, "GROUP", name, &mut self.told);
            }
        }
    }

    fn send_advert(&mut self, r: &mut Router, priority: u8) {
        let (Some(s), Some(src), Some(link)) = (&r.socket, r.src, &r.link) else { return };
        let auth = r.conf.auth_pass.map_or((0, [0; 8]), |p| (AUTH_SIMPLE, p));
        let advert = Advert {
            version: version(r.conf.version),
            vrid: r.conf.vrid,
            priority,
            interval: r.conf.advert_int,
            addrs: r.conf.vips.iter().map(|v| v.addr.addr).collect(),
            auth,
        };
        let group: IpAddr = if src.is_ipv4() { GROUP4.into() } else { GROUP6.into() };
        let targets: &[IpAddr] = if r.conf.unicast_peers.is_empty() { &[group] } else { &r.conf.unicast_peers };
        for dst in targets {
            advert.emit(src, *dst, r.conf.checksum_v2, &mut self.buf);
            if raw::send(s, *dst, link.index, &self.buf).is_ok() {
                r.stats.sent += 1;
            }
        }
    }

    fn announce(&mut self, i: usize, times: u32) {
        let r = &self.routers[i];
        let Some(frames) = &self.frames else { return };
        for _ in 0..times {
            for v in addresses(&r.conf) {
                let Some(link) = self.links.get(v.dev.as_ref().unwrap_or(&r.conf.interface)).filter(|l| l.ethernet)
                else {
                    continue;
                };
                let sent = match v.addr.addr {
                    IpAddr::V4(ip) => raw::send_frame(frames, link.index, &announce::gratuitous_arp(link.mac, ip)),
                    IpAddr::V6(ip) => {
                        raw::send_frame(frames, link.index, &announce::neighbour_advertisement(link.mac, ip, false))
                    }
                };
                // A full queue: the repeat makes up for it.
                let _ = sent;
            }
        }
    }

    /// Puts the addresses on, or renews them. A new master waits a moment for them, because it announces them next; a renewal waits for nothing.
    async fn put_on(&mut self, i: usize, wait: Duration) {
        let r = &self.routers[i];
        let seconds = u32::try_from(lifetime(r).as_secs()).unwrap_or(u32::MAX);
        let all = addresses(&r.conf)
            .filter_map(|v| {
                let link = self.links.get(v.dev.as_ref().unwrap_or(&r.conf.interface))?;
                Some(NewAddress {
                    ifindex: link.index,
                    addr: v.addr.addr,
                    prefix: v.addr.prefix,
                    lifetime: seconds,
                    scope: v.scope,
                    label: v.label.clone(),
                    broadcast: v.broadcast,
                    no_prefix_route: v.no_prefix_route,
                })
            })
            .collect();
        let name = r.conf.name.clone();
        let done = self.keeper.put(all);
        if wait.is_zero() {
            return;
        }
        match tokio::time::timeout(wait, done).await {
            Ok(failures) => self.told.extend(
                failures
                    .unwrap_or_default()
                    .into_iter()
                    .map(|f| Told::Log { important: true, text: format!("({name}) {f}") }),
            ),
            Err(_) => self.told.push(Told::Log {
                important: true,
                text: format!("({name}) the kernel takes its time to add the addresses; going on meanwhile"),
            }),
        }
    }

    fn take_off(&self, r: &Router, v: &Vip) {
        if let Some(link) = self.links.get(v.dev.as_ref().unwrap_or(&r.conf.interface)) {
            self.keeper.remove(link.index, v.addr.addr, v.addr.prefix);
        }
    }

    /// Resets connections on the addresses, on a thread of its own because there may be many, then removes the addresses.
    fn release(&mut self, i: usize) {
        let r = &mut self.routers[i];
        (r.announce_at, r.refresh_at, r.renew_at) = (None, None, None);
        r.resetting = true;
        let ips: Vec<IpAddr> = addresses(&r.conf).map(|v| v.addr.addr).collect();
        let (key, done) = (r.key, self.release.clone());
        std::thread::spawn(move || {
            // A kernel without SOCK_DESTROY leaves the connections to time out; the address goes all the same.
            let _ = sockdiag::reset_local(&ips);
            let _ = done.send(key);
        });
    }

    /// Resets what is open on the addresses while they are here: a hung worker's clients come back at once.
    pub fn reset_clients(&self) {
        let ips: Vec<IpAddr> = self
            .routers
            .iter()
            .filter(|r| r.machine.state().has_address())
            .flat_map(|r| addresses(&r.conf).map(|v| v.addr.addr))
            .collect();
        if !ips.is_empty() {
            std::thread::spawn(move || drop(sockdiag::reset_local(&ips)));
        }
    }

    /// True if a master is heard that is better than a node whose proxy starves.
    pub fn better_peer(&self, now: Instant) -> bool {
        // A backup needs nobody's leave; a master that hears a better one is about to lose anyway.
        self.holds_any() && self.routers.iter().any(|r| r.machine.heard_master(now).is_some_and(|p| p > 1))
    }

    /// True if somebody else is being heard, or the address is not here.
    pub fn holds_any(&self) -> bool {
        self.routers.iter().any(|r| r.machine.state().has_address())
    }

    pub fn view(&self, now: Instant) -> Vec<VrrpView> {
        self.routers
            .iter()
            .map(|r| {
                let mut rejected: Vec<(String, u64)> =
                    r.stats.rejected.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
                rejected.sort();
                VrrpView {
                    name: r.conf.name.clone(),
                    interface: r.conf.interface.clone(),
                    vrid: r.conf.vrid,
                    state: r.machine.state().role().name().to_owned(),
                    priority: r.conf.priority,
                    effective: if r.machine.able() { r.machine.priority() } else { 1 },
                    able: r.machine.able(),
                    vips: addresses(&r.conf).map(|v| v.addr.to_string()).collect(),
                    cause: r.cause.text(),
                    master_priority: r.machine.heard_master(now),
                    sent: r.stats.sent,
                    received: r.stats.received,
                    became_master: r.stats.became_master,
                    released_master: r.stats.released_master,
                    rejected,
                }
            })
            .collect()
    }

    /// Scripts that have to be run, and how.
    pub fn scripts(&self) -> &[crate::config::model::VrrpScript] {
        &self.model.scripts
    }
    pub fn model(&self) -> &VrrpModel {
        &self.model
    }
}

/// Something that arrived.
pub enum Work {
    #[allow(private_interfaces)] // Made and taken in by the engine only.
    Packet(Incoming),
    Released(u64),
}

impl Router {
    /// The interface is usable and has an address to speak from.
    fn ready(&self) -> bool {
        self.link.as_ref().is_some_and(|l| l.usable) && self.src.is_some()
    }

    fn close(&mut self) {
        self.socket = None;
        if let Some(t) = self.reader.take() {
            t.abort();
        }
    }

    /// Stands in while the real one is borrowed.
    fn hollow() -> Self {
        let conf = crate::config::keepalived::build::blank_instance("", &crate::base::diag::Place::default());
        Self {
            key: 0,
            machine: Machine::new(
                Params {
                    version: Version::V2,
                    interval: Duration::from_secs(1),
                    preempt: true,
                    preempt_delay: Duration::ZERO,
                    grouped: false,
                },
                100,
            ),
            conf,
            socket: None,
            reader: None,
            link: None,
            src: None,
            announce_at: None,
            refresh_at: None,
            renew_at: None,
            stats: Stats::default(),
            cause: Cause::Started,
            resetting: false,
            _claim: None,
        }
    }
}

/// Whole seconds, as the kernel counts: the address outlives a dead guardian by the time a peer needs, and a little.
fn lifetime(r: &Router) -> Duration {
    let down = super::timing::master_down(version(r.conf.version), r.machine.priority(), r.conf.advert_int)
        + Duration::from_secs(2);
    Duration::from_secs(down.as_secs() + u64::from(down.subsec_nanos() > 0))
}

fn addresses(c: &VrrpInstance) -> impl Iterator<Item = &Vip> {
    c.vips.iter().chain(&c.excluded)
}

fn is_six(c: &VrrpInstance) -> bool {
    c.vips.first().is_some_and(|v| v.addr.addr.is_ipv6())
}

fn version(v: VrrpVersion) -> Version {
    match v {
        VrrpVersion::V2 => Version::V2,
        VrrpVersion::V3 => Version::V3,
    }
}

fn params(c: &VrrpInstance, m: &VrrpModel) -> Params {
    let grouped = m.groups.iter().any(|g| g.members.contains(&c.name))
        || c.twin_of.is_some()
        || m.instances.iter().any(|i| i.twin_of.as_ref() == Some(&c.name));
    Params {
        version: version(c.version),
        interval: c.advert_int,
        preempt: c.preempt,
        preempt_delay: c.preempt_delay,
        grouped,
    }
}

fn reject_name(r: Reject) -> &'static str {
    match r {
        Reject::Length => "length",
        Reject::Ttl => "ttl",
        Reject::Version => "version",
        Reject::Type => "type",
        Reject::Checksum => "checksum",
        Reject::Vrid => "vrid",
        Reject::AuthType => "authentication type",
        Reject::AuthPass => "password",
        Reject::Interval => "advert interval",
        Reject::Addresses => "addresses",
    }
}

/// Makes sure that no other process on this host runs the same router.
fn claim(c: &VrrpInstance) -> Result<std::os::unix::net::UnixDatagram, String> {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("tandem/vrrp/{}/{}/{}", c.interface, c.vrid, if is_six(c) { 6 } else { 4 });
    let addr = std::os::unix::net::SocketAddr::from_abstract_name(name).map_err(|e| e.to_string())?;
    std::os::unix::net::UnixDatagram::bind_addr(&addr)
        .map_err(|_| format!("'{}' : another process on this host already runs virtual router {} on {}; reload that one with SIGUSR2, or stop it first", c.name, c.vrid, c.interface))
}
