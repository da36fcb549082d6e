//! The driver: performs what the machines decide. Runs in the guardian, on its one thread; nothing here waits.
use super::fsm::{Action, Input, Role, State, Why};
use super::group;
use super::packet::{Advert, Expect, Reject};
use super::priority::{self, Track};
use super::router::{Incoming, Router, addresses, claim, is_six, params, reject_name, version};
use super::view::VrrpView;
use crate::config::model::{Notify, ScriptCall, Vip, VrrpGroup, VrrpInstance, VrrpModel};
use crate::net::netlink::{Address, Done, Event, Keeper, Link, MARK, Netlink, Wanted};
use crate::net::raw;
use crate::net::sockdiag::Resets;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// What the engine tells its owner.
pub enum Told {
    Log {
        important: bool,
        text: String,
    },
    /// A notify script to run, with its arguments.
    Notify {
        script: ScriptCall,
        args: Vec<String>,
    },
    /// A state or a cause is another one; for statistics.
    Changed,
}

/// Packets waiting for the engine: more than any sane network sends between two looks. A flood beyond it is dropped.
const QUEUE: usize = 256;
/// The keeper has this long to open the first sockets; a longer wait means that the kernel does not answer.
const START: Duration = Duration::from_secs(10);

/// An address where it lives: interface, address, prefix length.
pub(super) type Placed = (u32, IpAddr, u8);

pub struct Engine {
    pub(super) routers: Vec<Router>,
    groups: Vec<Vec<usize>>,
    group_conf: Vec<(String, Notify)>,
    model: VrrpModel,
    pub(super) keeper: Keeper,
    done: mpsc::UnboundedReceiver<Done>,
    /// Orders of addresses under way: tag, and key of the router.
    pub(super) puts: Vec<(u64, u64)>,
    /// The kernel's interfaces and addresses, as its notices have them.
    pub(super) links: HashMap<String, Link>,
    addrs: Vec<Address>,
    pub(super) frames: Option<socket2::Socket>,
    incoming: mpsc::Receiver<Incoming>,
    sender: mpsc::Sender<Incoming>,
    pub(super) resets: Resets,
    reset: mpsc::UnboundedReceiver<u64>,
    /// Addresses that go once their connections are reset.
    pub(super) leaving: Vec<(u64, Vec<Placed>)>,
    /// Addresses found at the start, of a predecessor that was killed.
    adopted: Vec<(u32, IpAddr)>,
    pub told: Vec<Told>,
    serving: bool,
    standby: bool,
    scripts: HashMap<String, bool>,
    last_tick: Instant,
    last_tag: u64,
    buf: Vec<u8>,
}

/// A router is known by what its packets carry, and where.
fn same(r: &Router, c: &VrrpInstance) -> bool {
    r.conf.vrid == c.vrid && r.conf.interface == c.interface && r.six() == is_six(c)
}

/// Something that arrived.
pub enum Work {
    Packet(Incoming),
    /// Connections on a router's addresses are reset.
    Released(u64),
    Done(Done),
}

impl Engine {
    /// Takes the first model in force. Must be called inside the guardian's runtime, after the watch of the kernel has begun, so that nothing is missed.
    /// The only place that waits: nothing is under way yet.
    pub async fn start(model: VrrpModel, now: Instant) -> Result<Self, String> {
        let netlink = Netlink::new().map_err(|e| format!("cannot open netlink: {e}"))?;
        let (keeper, done) = Keeper::start().map_err(|e| format!("cannot start the keeper of addresses: {e}"))?;
        let (sender, incoming) = mpsc::channel(QUEUE);
        let (resets, reset) = Resets::start().map_err(|e| format!("cannot start a thread: {e}"))?;
        let mut e = Self {
            routers: Vec::new(),
            groups: Vec::new(),
            group_conf: Vec::new(),
            model: VrrpModel::default(),
            keeper,
            done,
            puts: Vec::new(),
            links: netlink.links().await?.into_iter().map(|l| (l.name.clone(), l)).collect(),
            addrs: netlink.addresses().await?,
            frames: None,
            incoming,
            sender,
            resets,
            reset,
            leaving: Vec::new(),
            adopted: Vec::new(),
            told: Vec::new(),
            serving: false,
            standby: false,
            scripts: HashMap::new(),
            last_tick: now,
            last_tag: 0,
            buf: Vec::new(),
        };
        // Before anything of a living predecessor is touched.
        model.instances.iter().try_for_each(|c| claim(c).map(drop))?;
        e.clear_stale(&model, &netlink).await;
        e.apply(model, now)?;
        while e.routers.iter().any(|r| r.opening.is_some()) {
            match tokio::time::timeout(START, e.done.recv()).await {
                Ok(Some(Done::Opened { result: Err(why), .. }))
                    if why.kind() == std::io::ErrorKind::PermissionDenied =>
                {
                    return Err(format!("cannot open a VRRP socket ({why}): CAP_NET_RAW and CAP_NET_ADMIN are needed"));
                }
                Ok(Some(d)) => e.finished(d, Instant::now()),
                _ => return Err("the kernel does not answer: no VRRP socket could be opened".into()),
            }
        }
        Ok(e)
    }

    /// Addresses of the routers that are here already: those with our mark are a killed predecessor's, whose worker may still serve on them, and are taken over;
    /// others were left by another program, and are removed, as keepalived does. The owner's (priority 255) stay. What else has the mark expires by itself.
    async fn clear_stale(&mut self, model: &VrrpModel, netlink: &Netlink) {
        for c in model.instances.iter().filter(|c| c.priority != 255) {
            for v in addresses(c) {
                let dev = v.dev.as_deref().unwrap_or(&c.interface);
                let Some(link) = self.links.get(dev) else { continue };
                let Some(at) = self.addrs.iter().position(|a| a.ifindex == link.index && a.addr == v.addr.addr) else {
                    continue;
                };
                let a = self.addrs[at].clone();
                if a.mark == MARK {
                    self.adopted.push((a.ifindex, a.addr));
                    continue;
                }
                self.addrs.remove(at);
                self.told.push(Told::Log {
                    important: true,
                    text: format!(
                        "({}) removing address {}/{}, which somebody left on {dev}",
                        c.name, a.addr, a.prefix
                    ),
                });
                let _ = netlink.remove(a.ifindex, a.addr, a.prefix).await;
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.routers.is_empty()
    }

    /// True once nothing is left to give away. Another process may run the routers then.
    pub fn stopped(&mut self) -> bool {
        let all = self.routers.iter().all(|r| r.machine.state() == State::Stopped && !r.resetting);
        if all {
            self.routers.iter_mut().for_each(Router::unclaim);
        }
        all
    }

    pub(super) fn next_tag(&mut self) -> u64 {
        self.last_tag += 1;
        self.last_tag
    }

    /// Takes a model in force: new routers start, known ones go on with their state, others give their addresses up. An error changes nothing.
    pub fn apply(&mut self, model: VrrpModel, now: Instant) -> Result<(), String> {
        if self.frames.is_none() && !model.instances.is_empty() {
            self.frames =
                Some(raw::ethernet().map_err(|e| format!("cannot open a packet socket ({e}): CAP_NET_RAW is needed"))?);
        }
        // One that is on its way out and wanted again begins anew, at once.
        let back: Vec<usize> = (0..self.routers.len())
            .rev()
            .filter(|i| self.routers[*i].departing && model.instances.iter().any(|c| same(&self.routers[*i], c)))
            .collect();
        for i in back {
            let r = self.routers.remove(i);
            self.take_all_off(&r);
        }
        let mut fresh = Vec::new();
        for conf in &model.instances {
            if self.routers.iter().any(|r| same(r, conf)) {
                continue;
            }
            let key = self.next_tag();
            fresh.push(Router::new(key, conf, &model)?);
        }
        let mut old = std::mem::take(&mut self.routers);
        for conf in &model.instances {
            match old.iter().position(|r| same(r, conf)) {
                Some(i) => {
                    let r = old.remove(i);
                    self.reconfigure(r, conf.clone(), &model, now);
                }
                None => {
                    if let Some(i) = fresh.iter().position(|r| same(r, conf)) {
                        self.routers.push(fresh.swap_remove(i));
                    }
                }
            }
        }
        let kept = self.routers.len();
        for mut r in old {
            r.departing = true;
            self.routers.push(r);
        }
        self.model = model;
        self.regroup();
        for i in kept..self.routers.len() {
            self.feed(i, now, Input::Shutdown);
        }
        self.forget_departed();
        for i in 0..kept {
            self.attach(i);
            if self.routers[i].machine.state() != State::Init {
                let up = self.up(i);
                self.feed(i, now, Input::Interface(up));
                self.update_priority(i, now);
            } else if self.routers[i].opening.is_none() {
                self.begin(i, now);
            }
        }
        self.spread_ability(now);
        Ok(())
    }

    /// Routers without a configuration are gone once they have nothing left. They are the last ones, so that nobody's index changes.
    pub(super) fn forget_departed(&mut self) {
        self.routers.retain(|r| !r.departing || r.machine.state() != State::Stopped || r.resetting);
    }

    /// Whether a model could be taken in force: every router that is new can be claimed.
    pub fn check(&self, model: &VrrpModel) -> Result<(), String> {
        let known = |c: &VrrpInstance| self.routers.iter().any(|r| same(r, c));
        model.instances.iter().filter(|c| !known(c)).try_for_each(|c| claim(c).map(drop))
    }

    /// A known router under a new configuration.
    fn reconfigure(
        &mut self,
        mut r: Router,
        conf: crate::config::model::VrrpInstance,
        model: &VrrpModel,
        now: Instant,
    ) {
        let gone: Vec<Vip> = r.addresses().filter(|v| !addresses(&conf).any(|w| w == *v)).cloned().collect();
        let changed = r.conf.vips != conf.vips || r.conf.excluded != conf.excluded;
        if r.unicast() == conf.unicast_peers.is_empty()
            || r.conf.unicast_src != conf.unicast_src
            || r.conf.mcast_src != conf.mcast_src
        {
            r.close();
        }
        if r.machine.state().has_address() {
            self.part_with(&r, &gone);
            if changed {
                (r.renew_at, r.announce_at) = (Some(now), Some(now));
            }
        }
        r.machine.reconfigure(now, params(&conf, model));
        r.conf = conf;
        self.routers.push(r);
    }

    fn regroup(&mut self) {
        let index = |routers: &[Router], name: &str| routers.iter().position(|r| r.conf.name == name && !r.departing);
        self.groups = self
            .model
            .groups
            .iter()
            .map(|g| g.members.iter().filter_map(|m| index(&self.routers, m)).collect())
            .collect();
        self.group_conf = self.model.groups.iter().map(|g| (g.name.clone(), g.notify.clone())).collect();
        // Both families of one section move together.
        for i in 0..self.routers.len() {
            if self.routers[i].departing {
                continue;
            }
            if let Some(twin) = &self.routers[i].conf.twin_of
                && let Some(j) = index(&self.routers, twin)
            {
                self.groups.push(vec![j, i]);
                self.group_conf.push((twin.clone(), Notify::default()));
            }
        }
    }

    /// Finds a router's interface and source address, and has its sockets opened if they are not.
    fn attach(&mut self, i: usize) {
        let own: Vec<IpAddr> = self.routers.iter().flat_map(|r| r.addresses().map(|v| v.addr.addr)).collect();
        let tag = self.next_tag();
        let r = &mut self.routers[i];
        let link = self.links.get(&r.conf.interface).cloned();
        if r.link.as_ref().map(|l| l.index) != link.as_ref().map(|l| l.index) {
            r.close();
        }
        r.link = link;
        let src = r.source(&self.addrs, &own, MARK);
        if src != r.src {
            r.close();
            r.src = src;
        }
        if r.open() || r.opening.is_some() {
            return;
        }
        let (Some(link), Some(src)) = (&r.link, r.src) else {
            let what = if r.link.is_none() { "does not exist" } else { "has no address to speak from" };
            let text = format!("interface {} {what}", r.conf.interface);
            return self.problem(i, text);
        };
        r.opening = Some(tag);
        let wanted = Wanted {
            six: r.six(),
            ifname: link.name.clone(),
            ifindex: link.index,
            multicast: !r.unicast(),
            src: Some(src),
        };
        self.keeper.open(tag, wanted);
    }

    /// Says what is wrong with a router, once.
    pub(super) fn problem(&mut self, i: usize, text: String) {
        let r = &mut self.routers[i];
        if r.problem != text {
            self.told.push(Told::Log { important: true, text: format!("({}) {text}", r.conf.name) });
            r.problem = text;
        }
    }

    /// The keeper has done something.
    fn finished(&mut self, d: Done, now: Instant) {
        match d {
            Done::Put { tag, failures } => self.put_done(tag, &failures, now),
            Done::Opened { tag, result } => {
                // Closed or asked for again meanwhile: it belongs to nobody.
                let Some(i) = self.routers.iter().position(|r| r.opening == Some(tag)) else { return };
                self.routers[i].opening = None;
                match result.and_then(|o| self.routers[i].serve(o, self.sender.clone())) {
                    Ok(()) => self.routers[i].problem.clear(),
                    Err(e) => {
                        let r = &self.routers[i];
                        let from = r.src.map_or_else(String::new, |s| format!(" from {s}"));
                        let text = format!(
                            "cannot open a VRRP socket on {}{from} ({}); correct the address or give the rights CAP_NET_RAW and CAP_NET_ADMIN",
                            r.conf.interface,
                            crate::base::diag::io_words(&e)
                        );
                        self.problem(i, text);
                    }
                }
                if self.routers[i].machine.state() == State::Init {
                    self.begin(i, now);
                } else {
                    let up = self.up(i);
                    self.feed(i, now, Input::Interface(up));
                }
                self.settle(now);
            }
            Done::Survey(links, addrs) => self.surveyed(links, addrs, now),
        }
    }

    /// A new router begins. One that joins a group which holds its addresses joins in that, too: nobody else has to move.
    fn begin(&mut self, i: usize, now: Instant) {
        let joins = self.groups.iter().filter(|g| g.contains(&i)).any(|g| {
            let mut mates = g.iter().filter(|m| **m != i).map(|m| self.routers[*m].machine.state()).peekable();
            mates.peek().is_some() && mates.all(State::has_address)
        });
        let able = self.able(i);
        self.feed(i, now, Input::Serving(able));
        let up = self.up(i);
        let left = self.routers[i].addresses().any(|v| self.adopted.iter().any(|a| a.1 == v.addr.addr));
        self.feed(
            i,
            now,
            match (up, left) {
                (false, _) => Input::Interface(false),
                (true, true) => Input::Adopt,
                (true, false) => Input::Start,
            },
        );
        if left && up {
            // Its lifetime ran on while nobody renewed it.
            self.routers[i].renew_at = Some(now);
        }
        self.update_priority(i, now);
        if joins && up && able.is_ok() {
            self.feed(i, now, Input::GroupMaster);
        }
    }

    /// The router's own interface can be used; with `fault strict`, so can everything that it tracks without a weight.
    fn up(&self, i: usize) -> bool {
        self.routers[i].ready() && !(self.model.fault_strict && self.failed_tracks(i))
    }

    /// Serving, not told to stand by, and nothing failed that is tracked without a weight.
    fn able(&self, i: usize) -> Result<(), Why> {
        let mut mates = self.groups.iter().filter(|g| g.contains(&i)).flatten().copied().chain([i]);
        if !self.serving {
            Err(Why::Proxy)
        } else if self.standby {
            Err(Why::Standby)
        } else if !self.model.fault_strict && mates.any(|m| self.failed_tracks(m)) {
            Err(Why::Track)
        } else {
            Ok(())
        }
    }

    /// Whether the local proxy serves. Passed on to every router.
    pub fn serving(&mut self, yes: bool, now: Instant) {
        self.serving = yes;
        self.spread_ability(now);
    }

    /// An operator's wish to give the addresses away.
    pub fn standby(&mut self, yes: bool, now: Instant) {
        self.standby = yes;
        self.spread_ability(now);
    }

    fn spread_ability(&mut self, now: Instant) {
        for i in 0..self.routers.len() {
            if self.routers[i].machine.state() == State::Init || self.routers[i].departing {
                continue;
            }
            let able = self.able(i);
            self.feed(i, now, Input::Serving(able));
            if self.model.fault_strict && self.routers[i].opening.is_none() {
                let up = self.up(i);
                self.feed(i, now, Input::Interface(up));
            }
            self.update_priority(i, now);
        }
        self.settle(now);
    }

    fn tracks(&self, i: usize) -> Vec<Track> {
        let r = &self.routers[i];
        let mut out = Vec::new();
        // Members of a group share what the group tracks.
        let groups: Vec<&VrrpGroup> = self.model.groups.iter().filter(|g| g.members.contains(&r.conf.name)).collect();
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

    fn update_priority(&mut self, i: usize, now: Instant) {
        let p = priority::effective(self.routers[i].conf.priority, self.tracks(i)).priority;
        let before = self.routers[i].machine.priority();
        if p != before {
            let text = format!("({}) effective priority {before} -> {p}", self.routers[i].conf.name);
            self.told.push(Told::Log { important: false, text });
            self.feed(i, now, Input::Priority(p));
        }
    }

    /// A check script's state changed.
    pub fn script(&mut self, name: &str, up: bool, now: Instant) {
        if self.scripts.insert(name.to_owned(), up) != Some(up) {
            self.told.push(Told::Log {
                important: true,
                text: format!("script {name} {}", if up { "succeeds" } else { "fails" }),
            });
            self.spread_ability(now);
        }
    }

    /// A change that the kernel reports.
    pub fn event(&mut self, e: Event, now: Instant) {
        match e {
            Event::Link(l) => self.link_changed(l, now),
            Event::LinkGone(l) => {
                self.link_changed(Link { usable: false, ..l.clone() }, now);
                self.links.remove(&l.name);
                self.addrs.retain(|a| a.ifindex != l.index);
                for r in self.routers.iter_mut().filter(|r| r.conf.interface == l.name) {
                    (r.link, r.src) = (None, None);
                    r.close();
                }
            }
            Event::Address(a) => {
                let known = self.addrs.iter().position(|b| b.ifindex == a.ifindex && b.addr == a.addr);
                if known.is_some_and(|k| self.addrs[k] == a) {
                    return;
                }
                match known {
                    Some(k) => self.addrs[k] = a.clone(),
                    None => self.addrs.push(a.clone()),
                }
                self.addresses_changed(a.ifindex, now);
            }
            Event::AddressGone(a) => {
                self.addrs.retain(|b| b.ifindex != a.ifindex || b.addr != a.addr);
                self.address_gone(a.addr);
                self.addresses_changed(a.ifindex, now);
            }
            Event::Overrun => self.keeper.survey(),
        }
    }

    /// Addresses of an interface came or went: adverts may have to leave from another one.
    fn addresses_changed(&mut self, ifindex: u32, now: Instant) {
        for i in 0..self.routers.len() {
            if self.routers[i].link.as_ref().is_none_or(|l| l.index != ifindex) {
                continue;
            }
            let before = self.routers[i].ready();
            self.attach(i);
            // While sockets are being opened anew nothing is said; what comes of it decides.
            if self.routers[i].opening.is_none()
                && self.routers[i].machine.state() != State::Init
                && before != self.routers[i].ready()
            {
                let up = self.up(i);
                self.feed(i, now, Input::Interface(up));
            }
        }
        self.settle(now);
    }

    /// Notices were lost: what is there now, against what was known.
    fn surveyed(&mut self, links: Vec<Link>, addrs: Vec<Address>, now: Instant) {
        let gone: Vec<Link> =
            self.links.values().filter(|l| !links.iter().any(|n| n.name == l.name)).cloned().collect();
        gone.into_iter().for_each(|l| self.event(Event::LinkGone(l), now));
        links.into_iter().for_each(|l| self.link_changed(l, now));
        let lost: Vec<Address> = self
            .addrs
            .iter()
            .filter(|a| !addrs.iter().any(|b| b.ifindex == a.ifindex && b.addr == a.addr))
            .cloned()
            .collect();
        lost.into_iter().for_each(|a| self.event(Event::AddressGone(a), now));
        addrs.into_iter().for_each(|a| self.event(Event::Address(a), now));
        self.routers.iter_mut().filter(|r| r.machine.state().has_address()).for_each(|r| r.renew_at = Some(now));
    }

    fn link_changed(&mut self, l: Link, now: Instant) {
        // A rename: the old name is nobody's.
        self.links.retain(|name, k| k.index != l.index || *name == l.name);
        let before = self.links.insert(l.name.clone(), l.clone());
        if before.as_ref().is_some_and(|b| *b == l) {
            return;
        }
        let tracked = self.routers.iter().flat_map(|r| &r.conf.track_interfaces).any(|t| t.name == l.name)
            || self.model.groups.iter().flat_map(|g| &g.track_interfaces).any(|t| t.name == l.name);
        if tracked && before.is_none_or(|b| b.usable != l.usable) {
            let text = format!("tracked interface {} {}", l.name, if l.usable { "can be used" } else { "is lost" });
            self.told.push(Told::Log { important: true, text });
        }
        for i in 0..self.routers.len() {
            if self.routers[i].conf.interface == l.name {
                self.attach(i);
                if self.routers[i].machine.state() == State::Init {
                    continue;
                }
                let up = self.up(i);
                // Not yet known to be up again while its sockets are opened.
                if !up || self.routers[i].opening.is_none() {
                    self.feed(i, now, Input::Interface(up));
                }
            }
        }
        if l.usable {
            self.restore_on(&l.name);
        }
        self.spread_ability(now);
    }

    /// The next moment at which `tick` is wanted.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.routers
            .iter()
            .flat_map(|r| {
                let held = r.held.as_ref().map(|h| h.until);
                [r.machine.next_deadline(), r.announce_at, r.refresh_at, r.renew_at, held]
            })
            .flatten()
            .min()
    }

    /// Waits for something to do; `work` takes it in.
    pub async fn wait(&mut self) -> Work {
        tokio::select! {
            biased;
            Some(p) = self.incoming.recv() => Work::Packet(p),
            Some(key) = self.reset.recv() => Work::Released(key),
            Some(d) = self.done.recv() => Work::Done(d),
        }
    }

    pub fn work(&mut self, w: Work, now: Instant) {
        match w {
            Work::Packet(p) => {
                self.notice_freeze(now);
                self.packet(&p, now);
            }
            Work::Released(key) => self.released(key),
            Work::Done(d) => self.finished(d, now),
        }
        // However much comes in, what is due is done.
        if self.next_deadline().is_some_and(|t| t <= now) {
            self.tick(now);
        }
    }

    fn packet(&mut self, p: &Incoming, now: Instant) {
        let Some(i) = self.routers.iter().position(|r| r.key == p.router) else { return };
        let r = &mut self.routers[i];
        let unicast = r.unicast();
        if Some(p.packet.src) == r.src || r.has(p.packet.src) {
            // Our own, or from one that speaks from the address which is at stake: such an advert is no peer's.
            r.reject("own source");
            return;
        }
        if unicast && !r.conf.unicast_peers.contains(&p.packet.src) {
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
        let expect = Expect {
            version: version(r.conf.version),
            vrid: r.conf.vrid,
            src: p.packet.src,
            dst: p.packet.dst,
            ttl: if unicast { None } else { p.packet.ttl },
            auth: r.conf.auth_pass.as_ref(),
            interval: r.conf.advert_int,
            plain_checksum: r.conf.checksum_v2,
        };
        match Advert::parse(&p.bytes, &expect) {
            // Another router's VRID on the same wire is nobody's mistake, and no log line.
            Err(Reject::Vrid) => drop(r.reject("vrid")),
            Err(e) => {
                if r.reject(reject_name(e)) == 1 {
                    let text =
                        format!("({}) dropped an advert from {}: wrong {}", r.conf.name, p.packet.src, reject_name(e));
                    self.told.push(Told::Log { important: true, text });
                }
            }
            Ok(a) => {
                r.stats.received += 1;
                let same = a.addrs.len() == r.conf.vips.len()
                    && a.addrs.iter().all(|x| r.conf.vips.iter().any(|v| v.addr.addr == *x));
                if !same && !r.conf.skip_addr_check && r.reject("addresses") == 1 {
                    let text = format!(
                        "({}) {} advertises other addresses than ours: compare the two configurations",
                        r.conf.name, p.packet.src
                    );
                    self.told.push(Told::Log { important: true, text });
                }
                let wins_tie = r.src.is_some_and(|s| p.packet.src > s);
                self.feed(i, now, Input::Advert { priority: a.priority, interval: a.interval, wins_tie });
                self.settle(now);
            }
        }
    }

    /// Notices that this process was not running for longer than a peer would wait, before anything is said as master.
    fn notice_freeze(&mut self, now: Instant) {
        let gap = now.saturating_duration_since(self.last_tick);
        self.last_tick = now;
        for i in 0..self.routers.len() {
            if gap > self.routers[i].machine.master_down() {
                self.feed(i, now, Input::Frozen);
                // Nothing that was due meanwhile is done: the addresses may be somebody else's by now.
                let r = &mut self.routers[i];
                (r.announce_at, r.refresh_at, r.renew_at) = (None, None, None);
            }
        }
    }

    /// Called at least every second, so that a gap means a freeze.
    pub fn tick(&mut self, now: Instant) {
        self.notice_freeze(now);
        for i in 0..self.routers.len() {
            if self.routers[i].held.as_ref().is_some_and(|h| h.until <= now) {
                let name = &self.routers[i].conf.name;
                let text = format!("({name}) the kernel takes its time to add the addresses; going on meanwhile");
                self.told.push(Told::Log { important: true, text });
                self.speak(i, now);
            }
            let mut out = Vec::new();
            self.routers[i].machine.tick(now, &mut out);
            self.perform(i, now, out);
            // Only a master says where the addresses are.
            let r = &mut self.routers[i];
            if !matches!(r.machine.state(), State::Master { .. }) {
                (r.announce_at, r.refresh_at) = (None, None);
            }
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
                self.put_on(i, None);
                let r = &mut self.routers[i];
                r.renew_at = Some(now + r.lifetime() / 3);
            }
        }
        self.forget_departed();
        self.settle(now);
    }

    /// Waits until addresses that were given up are off. The last thing before the end.
    pub async fn drain(&mut self) {
        let tag = self.next_tag();
        self.keeper.put(Vec::new(), Some(tag));
        let seen = async {
            while let Some(d) = self.done.recv().await {
                if matches!(d, Done::Put { tag: Some(t), .. } if t == tag) {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), seen).await;
    }

    pub fn shutdown(&mut self, now: Instant) {
        for i in 0..self.routers.len() {
            self.feed(i, now, Input::Shutdown);
        }
    }

    pub(super) fn feed(&mut self, i: usize, now: Instant, input: Input) {
        let mut out = Vec::new();
        self.routers[i].machine.handle(now, input, &mut out);
        self.perform(i, now, out);
    }

    /// Lets groups agree.
    fn settle(&mut self, now: Instant) {
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
                    self.feed(i, now, input);
                }
            }
        }
    }

    pub(super) fn perform(&mut self, i: usize, now: Instant, actions: Vec<Action>) {
        for a in actions {
            if Self::hold(&mut self.routers[i], a) {
                continue;
            }
            match a {
                Action::SendAdvert { priority } => {
                    let r = &mut self.routers[i];
                    if priority == 0 {
                        r.held = None;
                    }
                    r.send_advert(priority, &mut self.buf);
                }
                Action::Acquire => self.acquire(i, now),
                Action::Announce { repeat } => {
                    let g = self.routers[i].conf.garp.clone();
                    let (n, delay) =
                        if repeat { (g.repeat, g.delay) } else { (g.lower_prio_repeat, g.lower_prio_delay) };
                    self.announce(i, n);
                    let r = &mut self.routers[i];
                    r.announce_at = (!delay.is_zero()).then(|| now + delay);
                    r.renew_at.get_or_insert(now);
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
                    let text = format!("({}) Entering {} STATE: {}", r.conf.name, to.name(), cause.text());
                    self.told.push(Told::Log { important: true, text });
                    self.told.push(Told::Changed);
                    self.notify(i, to);
                }
                Action::Noted { cause } => {
                    let r = &mut self.routers[i];
                    r.cause = cause;
                    let text = format!("({}) {}", r.conf.name, cause.text());
                    self.told.push(Told::Log { important: true, text });
                    self.told.push(Told::Changed);
                }
            }
        }
    }

    fn notify(&mut self, i: usize, to: Role) {
        let r = &self.routers[i];
        let prio = r.machine.priority().to_string();
        let say = |n: &Notify, kind: &str, name: &str, prio: &str, told: &mut Vec<Told>| {
            let own = match to {
                Role::Master => &n.master,
                Role::Backup => &n.backup,
                Role::Fault => &n.fault,
                Role::Stop => &n.stop,
                Role::Init => &None,
            };
            if let Some(c) = own {
                told.push(Told::Notify { script: c.clone(), args: Vec::new() });
            }
            if let Some(c) = &n.any {
                let args = vec![kind.into(), name.into(), to.name().into(), prio.into()];
                told.push(Told::Notify { script: c.clone(), args });
            }
        };
        say(&r.conf.notify, "INSTANCE", &r.conf.name, &prio, &mut self.told);
        for (g, members) in self.groups.iter().enumerate() {
            // A group has moved when its last member has.
            if members.contains(&i) && members.iter().all(|m| self.routers[*m].machine.state().role() == to) {
                let (name, n) = &self.group_conf[g];
                // A group has no priority, and keepalived says 0.
                say(n, "GROUP", name, "0", &mut self.told);
            }
        }
    }

    /// True if a master is heard that is better than a node whose proxy starves.
    pub fn better_peer(&self, now: Instant) -> bool {
        // A backup needs nobody's leave; a master that hears a better one is about to lose anyway.
        self.holds_any() && self.routers.iter().any(|r| r.machine.heard_master(now).is_some_and(|p| p > 1))
    }

    /// True if an address of any router is here.
    pub fn holds_any(&self) -> bool {
        self.routers.iter().any(|r| r.machine.state().has_address())
    }

    pub fn view(&self, now: Instant) -> Vec<VrrpView> {
        self.routers.iter().filter(|r| !r.departing).map(|r| r.view(now)).collect()
    }

    /// Check scripts of the model in force.
    pub fn scripts(&self) -> &[crate::config::model::VrrpScript] {
        &self.model.scripts
    }
}
