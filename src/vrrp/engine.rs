//! The driver: performs what the machines decide. Runs in the guardian, on its one thread; nothing here waits.
use super::debounce::Debouncer;
use super::fsm::{Action, Input, Role, State, Why};
use super::node::{Deed, Node};
use super::pacer::Pacer;
use super::packet::TTL;
use super::quarrel::Quarrel;
use super::router::{Incoming, Router, addresses, claim, device_of, params};
use super::track::{Facts, inside_key};
use super::view::VrrpView;
use super::vip::old_address;
use super::ways::WayWatch;
use crate::config::model::{Auth, Debounce, Notify, ScriptCall, Seen, Vip, Vmac, VrrpInstance, VrrpModel};
use crate::net::netlink::{Address, Done, Keeper, Link, MARK, Netlink, NewMac, OldAddress, Wanted};
use crate::net::raw;
use crate::net::routes::Gone;
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
    /// A line for the FIFOs.
    Line(String),
    /// `smtp_alert`
    Mail {
        subject: String,
        text: String,
    },
    /// A state or a cause is another one; for statistics.
    Changed,
}

/// Packets waiting for the engine: more than any sane network sends between two looks. A flood beyond it is dropped.
const QUEUE: usize = 256;
/// A lower master is answered with announcements, and told of, once in this time.
const LOWER_PAUSE: Duration = Duration::from_millis(100);
/// The keeper has this long to open the first sockets; a longer wait means that the kernel does not answer.
const START: Duration = Duration::from_secs(10);

/// An address where it lives.
pub(super) type Placed = (u32, OldAddress);

pub struct Engine {
    pub(super) routers: Vec<Router>,
    pub(super) node: Node,
    pub(super) group_conf: Vec<(String, Notify)>,
    /// Members of the groups that have names, and what was last told of each group.
    pub(super) named: Vec<Vec<usize>>,
    pub(super) group_told: HashMap<String, Role>,
    pub(super) model: VrrpModel,
    pub(super) keeper: Keeper,
    done: mpsc::UnboundedReceiver<Done>,
    pub(super) way_watch: WayWatch,
    /// Interfaces that were made for routers.
    pub(super) vmacs: Vec<NewMac>,
    /// Interfaces that were removed by us, until the kernel has told of it.
    pub(super) removed: Vec<u32>,
    /// Orders of static things that routers track, by their tags: group and thing; and those that are not there, with their groups.
    pub(super) guarded: Vec<(u64, String, String)>,
    pub(super) missing: HashMap<String, String>,
    /// When those are tried again.
    pub(super) missing_at: Option<Instant>,
    /// Static routes and rules that somebody else took away, and when they are put back.
    pub(super) statics_lost: Quarrel,
    pub(super) statics_at: Option<Instant>,
    /// The last of them that could not be put on.
    pub(super) static_problem: String,
    /// Orders of addresses and routes under way: tag, and key of the router.
    pub(super) puts: Vec<(u64, u64)>,
    /// The kernel's interfaces and addresses, as its notices have them.
    pub(super) links: HashMap<String, Link>,
    pub(super) addrs: Vec<Address>,
    pub(super) debounce: Debouncer,
    pub(super) pacer: Pacer,
    /// What the proxy sees inside itself, and how long that has lasted.
    pub(super) seen: Vec<Seen>,
    pub(super) inside: Debouncer,
    pub(super) frames: Option<socket2::Socket>,
    incoming: mpsc::Receiver<Incoming>,
    sender: mpsc::Sender<Incoming>,
    pub(super) resets: Resets,
    reset: mpsc::UnboundedReceiver<u64>,
    /// Addresses that go once their connections are reset.
    pub(super) leaving: Vec<(u64, Vec<Placed>)>,
    /// Taken off to be put on with other words: that they are gone is no news.
    pub(super) altered: Vec<(u32, IpAddr)>,
    /// Addresses found at the start, of a predecessor that was killed.
    adopted: Vec<(u32, IpAddr)>,
    pub told: Vec<Told>,
    pub(super) facts: Facts,
    standby: bool,
    /// On the way out: nothing is put back any more.
    pub(super) ending: bool,
    /// Routers begin then: `vrrp_startup_delay`, `vrrp_delay_after_boot`.
    begin_at: Instant,
    last_tag: u64,
    buf: Vec<u8>,
}

/// A router is known by what its packets carry, and where.
fn same(r: &Router, c: &VrrpInstance) -> bool {
    r.conf.vrid == c.vrid && r.conf.interface == c.interface && r.six() == c.is_six()
}

/// Groups that have a member in common move together: they are one.
fn merged(groups: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
    let mut out: Vec<Vec<usize>> = Vec::new();
    for g in groups {
        let (touched, rest): (Vec<_>, Vec<_>) = out.into_iter().partition(|o| o.iter().any(|m| g.contains(m)));
        let mut all: Vec<usize> = touched.into_iter().flatten().chain(g).collect();
        all.sort_unstable();
        all.dedup();
        out = rest;
        out.push(all);
    }
    out
}

/// What is missing of `delay` since the host has started.
fn until_boot(delay: Duration) -> Duration {
    let up = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from);
    delay.saturating_sub(up)
}

/// Something that arrived.
pub enum Work {
    Packet(Incoming),
    /// Connections on a router's addresses are reset.
    Released(u64),
    Done(Done),
    /// A route or a rule is gone; some are, and nobody knows which.
    WayGone(Option<Gone>),
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
            node: Node::default(),
            group_conf: Vec::new(),
            named: Vec::new(),
            group_told: HashMap::new(),
            model: VrrpModel::default(),
            keeper,
            done,
            way_watch: WayWatch::default(),
            vmacs: Vec::new(),
            removed: Vec::new(),
            guarded: Vec::new(),
            missing: HashMap::new(),
            missing_at: None,
            statics_lost: Quarrel::default(),
            statics_at: None,
            static_problem: String::new(),
            puts: Vec::new(),
            links: HashMap::new(),
            addrs: Vec::new(),
            debounce: Debouncer::default(),
            pacer: Pacer::default(),
            seen: Vec::new(),
            inside: Debouncer::default(),
            frames: None,
            incoming,
            sender,
            resets,
            reset,
            leaving: Vec::new(),
            altered: Vec::new(),
            adopted: Vec::new(),
            told: Vec::new(),
            facts: Facts::default(),
            standby: false,
            ending: false,
            begin_at: now + model.startup_delay.max(until_boot(model.delay_after_boot)),
            last_tag: 0,
            buf: Vec::new(),
        };
        if e.begin_at > now {
            let text = format!("the virtual routers begin in {:.1} s", (e.begin_at - now).as_secs_f64());
            e.told.push(Told::Log { important: false, text });
        }
        // Before anything of a living predecessor is touched.
        Self::claimable(&model)?;
        let made = e.begin_vmacs(&model, &netlink).await?;
        let begun = e.begin_all(model, &netlink, now).await;
        if begun.is_err() {
            for w in &made {
                netlink.remove_mac(w).await;
            }
            e.keeper.restore();
            e.keeper_done().await;
        }
        begun.map(|()| e)
    }

    async fn begin_all(&mut self, model: VrrpModel, netlink: &Netlink, now: Instant) -> Result<(), String> {
        let e = self;
        e.links = netlink.links().await?.into_iter().map(|l| (l.name.clone(), l)).collect();
        e.addrs = netlink.addresses().await?;
        for l in e.links.values() {
            e.facts.links.insert(l.name.clone(), e.debounce.see(&l.name, l.usable, now));
        }
        e.clear_stale(&model, netlink).await;
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
        Ok(())
    }

    /// Addresses of the routers that are here already: those with our mark are a killed predecessor's, whose worker may still serve on them, and are taken over;
    /// others were left by another program, and are removed, as keepalived does. The owner's (priority 255) stay. What else has the mark expires by itself.
    async fn clear_stale(&mut self, model: &VrrpModel, netlink: &Netlink) {
        for c in model.instances.iter().filter(|c| c.priority != 255) {
            for v in addresses(c) {
                let dev = device_of(c, v);
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
                let _ = netlink.remove(a.ifindex, &OldAddress { addr: a.addr, prefix: a.prefix, peer: a.peer }).await;
            }
            if !addresses(c).any(|v| self.adopted.iter().any(|a| a.1 == v.addr.addr)) {
                self.take_ways_off(c);
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
    pub fn apply(&mut self, mut model: VrrpModel, now: Instant) -> Result<(), String> {
        Vmac::keep_names(&mut model.instances, &self.model.instances);
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
        self.debounce.configure(&model.debounce);
        let inside = model.tracks().filter_map(|t| {
            let i = t.inside?;
            Some(Debounce { interface: inside_key(t), down: i.fall, up: i.rise })
        });
        self.inside.configure(&inside.collect::<Vec<_>>());
        let again = self.pacer.configure(&model.pace);
        self.forget_facts(&model);
        let kept = self.routers.len();
        for mut r in old {
            r.departing = true;
            self.routers.push(r);
        }
        let before = std::mem::replace(&mut self.model, model);
        if self.model.no_local_igmp {
            self.keeper.quiet_groups();
        }
        self.regroup();
        self.forget_guarded();
        self.static_problem.clear();
        self.put_statics(&before.statics, now);
        self.put_static_ways(&before);
        for i in kept..self.routers.len() {
            self.feed(i, now, Input::Shutdown);
        }
        self.forget_departed();
        self.forget_vmacs();
        for i in 0..kept {
            self.attach(i);
            self.ask_address_vmacs(i);
            if self.routers[i].machine.state() != State::Init {
                // While sockets are being opened anew nothing is said; what comes of it decides.
                if self.routers[i].opening.is_none() {
                    let up = self.up(i);
                    self.feed(i, now, Input::Interface(up));
                }
                self.update_priority(i, now);
            } else if self.routers[i].opening.is_none() && now >= self.begin_at {
                self.begin(i, now);
            }
        }
        self.spread_ability(now);
        if self.model.lines_on_reload && !before.instances.is_empty() {
            self.tell_states();
        }
        for i in (0..kept).filter(|_| again) {
            if matches!(self.routers[i].machine.state(), State::Master { .. }) {
                self.announce(i, 1, now);
            }
        }
        Ok(())
    }

    /// Routers without a configuration are gone once they have nothing left. They are the last ones, so that nobody's index changes.
    pub(super) fn forget_departed(&mut self) {
        let before = self.routers.len();
        self.routers.retain(|r| !r.departing || r.machine.state() != State::Stopped || r.resetting);
        if self.routers.len() < before {
            self.forget_vmacs();
        }
    }

    /// Whether nobody on this host runs these routers.
    pub fn claimable(model: &VrrpModel) -> Result<(), String> {
        model.instances.iter().try_for_each(|c| claim(c).map(drop))
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
        // What has only other words beside it stays where it is, and so do its connections.
        let stays = |v: &Vip| {
            addresses(&conf)
                .find(|w| old_address(w) == old_address(v) && device_of(&conf, w) == device_of(&r.conf, v))
                .map(|w| v.can_become(w))
        };
        let gone: Vec<Vip> = r.addresses().filter(|v| stays(v).is_none()).cloned().collect();
        let moves = r.conf.vmac != conf.vmac;
        let altered: Vec<Vip> = r.addresses().filter(|v| !moves && stays(v) == Some(false)).cloned().collect();
        let changed = r.conf.vips != conf.vips || r.conf.excluded != conf.excluded;
        let wire = |c: &VrrpInstance| {
            let c = c.clone();
            (
                c.peers.is_empty(),
                c.unicast_src,
                c.mcast_src,
                c.mcast_dst,
                c.unicast_ttl,
                c.lacks_peer,
                matches!(c.auth, Auth::Header(_)),
            )
        };
        if wire(&r.conf) != wire(&conf) || (self.model.group4, self.model.group6) != (model.group4, model.group6) {
            r.close();
        }
        if r.conf.vmac != conf.vmac {
            // Its addresses live elsewhere from now on.
            r.close();
            if r.machine.state().has_address() {
                self.take_all_off(&r);
                (r.renew_at, r.announce_at, r.announce_times) = (Some(now), Some(now), conf.garp.repeat);
            }
        }
        let replaced = r.machine.state().has_address() && !altered.is_empty();
        if r.machine.state().has_address() {
            self.change_ways(&mut r, &conf, now);
            self.part_with(&r, &gone);
            altered.iter().for_each(|v| self.take_off_for_now(&r, v));
            if changed {
                (r.renew_at, r.announce_at, r.announce_times) = (Some(now), Some(now), conf.garp.repeat);
            }
            if r.conf.garp != conf.garp && matches!(r.machine.state(), State::Master { .. }) {
                r.refresh_at = conf.garp.refresh.map(|d| now + d);
                r.elsewhere_at = conf.garp.extra.map(|(d, _)| now + d);
            }
        }
        r.machine.reconfigure(now, params(&conf, model));
        r.conf = conf;
        self.routers.push(r);
        if replaced {
            let tag = self.next_tag();
            self.put_on(self.routers.len() - 1, Some(tag));
        }
    }

    fn regroup(&mut self) {
        let index = |routers: &[Router], name: &str| routers.iter().position(|r| r.conf.name == name && !r.departing);
        let mut groups: Vec<Vec<usize>> = self
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
                groups.push(vec![j, i]);
                self.group_conf.push((twin.clone(), Notify::default()));
            }
        }
        self.named = groups[..self.model.groups.len()].to_vec();
        self.node.regroup(merged(groups));
    }

    /// Finds a router's interface and source address, and has its sockets opened if they are not.
    pub(super) fn attach(&mut self, i: usize) {
        let own: Vec<IpAddr> = self.routers.iter().flat_map(|r| r.addresses().map(|v| v.addr.addr)).collect();
        let tag = self.next_tag();
        let r = &mut self.routers[i];
        let link = self.links.get(&r.conf.interface).cloned();
        if r.link.as_ref().map(|l| l.index) != link.as_ref().map(|l| l.index) {
            r.close();
        }
        r.link = link;
        if r.conf.promote_secondaries
            && let Some(l) = &r.link
        {
            self.keeper.promote(&l.name);
        }
        let src = r
            .source(&self.addrs, &own, MARK)
            .filter(|s| !(r.conf.tracks_source || r.roams()) || self.addrs.iter().any(|a| a.addr == *s));
        if src != r.src {
            r.close();
            r.src = src;
        }
        if r.open() || r.opening.is_some() {
            return;
        }
        if r.conf.lacks_peer {
            let text = "has 'unicast_fault_no_peer' and no unicast peer: name one, or leave the word out";
            return self.problem(i, text.to_owned());
        }
        if r.conf.vmac.as_ref().is_some_and(|v| v.lacks_address(r.six())) {
            let text = "has an IPVLAN interface and no address on it to speak from: write one behind 'use_ipvlan'";
            return self.problem(i, text.to_owned());
        }
        let (true, Some(src)) = (r.link.is_some() || r.unbound(), r.src) else {
            let index = r.link.as_ref().map(|l| l.index);
            let twice =
                self.addrs.iter().find(|a| Some(a.ifindex) == index && a.duplicate && a.addr.is_ipv6() == r.six());
            let what = match (index, twice) {
                (None, _) => "does not exist".to_owned(),
                (_, Some(a)) => {
                    format!("cannot speak from {}: another node has that address (duplicate address detection)", a.addr)
                }
                _ => "has no address to speak from".to_owned(),
            };
            let text = match r.conf.unicast_src.filter(|_| r.unbound() || r.conf.vrf && index.is_some()) {
                Some(a) => format!("the address {a} to speak from is not on this host"),
                None => format!("interface {} {what}", r.conf.interface),
            };
            return self.problem(i, text);
        };
        // With a MAC address of its own it speaks and hears there; IPv6 speaks from the interface that has its link-local address.
        let missing = r.conf.vmac.as_ref().is_some_and(|v| v.from_base) && self.vmac_link(i).is_none();
        if missing {
            self.ask_vmac(i);
        }
        let r = &self.routers[i];
        let vmac = r.conf.vmac.as_ref().filter(|v| !v.from_base).map(|v| v.name.clone());
        let own = match vmac.map(|name| self.vmac_link(i).cloned().ok_or(name)) {
            Some(Err(name)) => {
                self.ask_vmac(i);
                return self.problem(i, format!("interface {name} is being made"));
            }
            Some(Ok(l)) => Some(l),
            None => None,
        };
        let r = &mut self.routers[i];
        r.opening = Some(tag);
        r.group = r.group_of(&self.model);
        let hears = own.as_ref().or(r.link.as_ref());
        let placed = r.conf.vmac.as_ref().is_some_and(|v| v.ipvlan.is_some_and(|i| i.addr.is_some()));
        let out = r.link.as_ref().filter(|_| r.six() && own.is_some() && !placed);
        r.speaks_on = out.or(hears).map_or(0, |l| l.index);
        let wire = raw::Wire {
            six: r.six(),
            ifname: hears.map(|l| l.name.clone()),
            ifindex: hears.map_or(0, |l| l.index),
            group: (!r.unicast()).then_some(r.group),
            header: matches!(r.conf.auth, Auth::Header(_)),
            ttl: r.conf.unicast_ttl.unwrap_or(TTL),
        };
        let out = out.map(|l| (l.name.clone(), l.index));
        let only_to_source = r.roams();
        self.keeper.open(tag, Wanted { wire, out, src: Some(src), only_to_source });
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
                            r.conf.place_to_speak(),
                            crate::base::diag::io_words(&e)
                        );
                        self.problem(i, text);
                    }
                }
                if self.routers[i].machine.state() == State::Init {
                    if now >= self.begin_at {
                        self.begin(i, now);
                    }
                } else {
                    let up = self.up(i);
                    self.feed(i, now, Input::Interface(up));
                }
                self.settle(now);
            }
            Done::NotMade { name, why } => self.vmac_not_made(&name, &why, now),
            Done::Ways { tag, failures } => self.ways_done(tag, &failures, now),
            Done::Survey(links, addrs) => self.surveyed(links, addrs, now),
        }
    }

    /// A new router begins. One that joins a group which holds its addresses joins in that, too: nobody else has to move.
    fn begin(&mut self, i: usize, now: Instant) {
        let joins = self.node.groups().iter().filter(|g| g.contains(&i)).any(|g| {
            let mut mates = g.iter().filter(|m| **m != i).map(|m| self.routers[*m].machine.state()).peekable();
            mates.peek().is_some() && mates.all(State::has_address)
        });
        let able = self.able(i);
        self.feed(i, now, Input::Serving(able));
        let up = self.up(i);
        // They are adopted once, and only if they are still here.
        let marked = |ip: &IpAddr| self.addrs.iter().any(|a| a.addr == *ip && a.mark == MARK);
        let left = self.routers[i]
            .addresses()
            .any(|v| self.adopted.iter().any(|a| a.1 == v.addr.addr) && marked(&v.addr.addr));
        let r = &self.routers[i];
        self.adopted.retain(|a| !r.has(a.1));
        if !(up && left) {
            // What a predecessor left goes; who adopts its addresses keeps it.
            self.take_ways_off(&r.conf);
        }
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
    pub(super) fn up(&self, i: usize) -> bool {
        let r = &self.routers[i];
        let link = r.conf.ignores_link || r.unbound() || self.facts.links.get(&r.conf.interface).is_some_and(|up| *up);
        link && r.open() && self.vmac_up(i) && !(self.model.fault_strict && self.failed_tracks(i))
    }

    /// Serving, not told to stand by, and nothing failed that is tracked without a weight.
    fn able(&self, i: usize) -> Result<(), Why> {
        let mut mates = self.node.groups().iter().filter(|g| g.contains(&i)).flatten().copied().chain([i]);
        if !self.facts.serving {
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
        self.facts.serving = yes;
        self.spread_ability(now);
    }

    /// An operator's wish to give the addresses away.
    pub fn standby(&mut self, yes: bool, now: Instant) {
        self.standby = yes;
        self.spread_ability(now);
    }

    pub(super) fn spread_ability(&mut self, now: Instant) {
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

    /// The next moment at which `tick` is wanted.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.routers
            .iter()
            .flat_map(|r| {
                let held = r.held.as_ref().map(|h| h.until);
                let timers =
                    [r.announce_at, r.refresh_at, r.elsewhere_at, r.renew_at, r.ways_at, r.vmac_at, r.vmac_down_at];
                timers.into_iter().chain([r.machine.next_deadline(), held])
            })
            .chain([self.statics_at, self.missing_at, self.beginning()])
            .chain([self.pacer.next(), self.debounce.next(), self.inside.next()])
            .flatten()
            .min()
    }

    /// When routers that wait for their beginning have waited long enough.
    fn beginning(&self) -> Option<Instant> {
        let waits = |r: &Router| r.machine.state() == State::Init && r.opening.is_none() && !r.departing;
        self.routers.iter().any(waits).then_some(self.begin_at)
    }

    /// Takes in what has come while this process was not running, before anything that was due meanwhile is done. Call it when a deadline was missed.
    pub async fn catch_up(&mut self) {
        // The event loop looks at the sockets, and their readers run.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        for _ in 0..QUEUE {
            let Ok(p) = self.incoming.try_recv() else { break };
            self.work(Work::Packet(p), Instant::now());
        }
    }

    /// Waits for something to do; `work` takes it in.
    pub async fn wait(&mut self) -> Work {
        tokio::select! {
            biased;
            Some(p) = self.incoming.recv() => Work::Packet(p),
            Some(key) = self.reset.recv() => Work::Released(key),
            Some(d) = self.done.recv() => Work::Done(d),
            Some(g) = self.way_watch.next() => Work::WayGone(g),
        }
    }

    pub fn work(&mut self, w: Work, now: Instant) {
        self.notice_freeze(now);
        match w {
            Work::Packet(p) => self.packet(&p, now),
            Work::Released(key) => self.released(key),
            Work::Done(d) => self.finished(d, now),
            Work::WayGone(g) => self.way_gone(g.as_ref(), now),
        }
        // However much comes in, what is due is done.
        if self.next_deadline().is_some_and(|t| t <= now) {
            self.tick(now);
        }
    }

    /// Notices that this process was not running for longer than a peer would wait, before anything is said as master.
    fn notice_freeze(&mut self, now: Instant) {
        let mut deeds = Vec::new();
        for i in self.node.wake(&mut self.routers, now, &mut deeds) {
            // Nothing that was due meanwhile is done: the addresses may be somebody else's by now.
            let r = &mut self.routers[i];
            (r.announce_at, r.refresh_at, r.elsewhere_at, r.renew_at, r.held) = (None, None, None, None, None);
            r.ways_at = None;
            let r = &self.routers[i];
            self.pacer.forget(|a| r.has(*a));
        }
        self.perform(now, deeds);
    }

    /// Does what is due: at [`Engine::next_deadline`], or earlier.
    pub fn tick(&mut self, now: Instant) {
        self.notice_freeze(now);
        if now >= self.begin_at && self.beginning().is_some() {
            for i in 0..self.routers.len() {
                if self.routers[i].machine.state() == State::Init && self.routers[i].opening.is_none() {
                    self.begin(i, now);
                }
            }
        }
        if !self.inside.due(now).is_empty() {
            self.weigh(now);
            // What is due behind that is not tracked any more: nobody would look at it again.
            self.inside.due(now).iter().for_each(|key| self.inside.forget(key));
        }
        for name in self.debounce.due(now) {
            match self.links.get(&name).cloned() {
                Some(l) => self.link_counts(&l, now),
                None => self.debounce.forget(&name),
            }
        }
        for i in 0..self.routers.len() {
            if self.routers[i].held.as_ref().is_some_and(|h| h.until <= now) {
                let name = &self.routers[i].conf.name;
                let text = format!("({name}) the kernel takes its time to add the addresses; going on meanwhile");
                self.told.push(Told::Log { important: true, text });
                self.speak(i, now);
            }
        }
        let mut deeds = Vec::new();
        self.node.tick(&mut self.routers, now, &mut deeds);
        self.perform(now, deeds);
        for i in 0..self.routers.len() {
            self.announce_due(i, now);
            if self.routers[i].renew_at.is_some_and(|t| t <= now) {
                self.put_on(i, None);
                // The kernel has dropped routes with an address that was away.
                if !self.routers[i].put_back.is_empty() {
                    self.put_ways(i);
                }
                let r = &mut self.routers[i];
                r.renew_at = Some(now + r.lifetime() / 3);
            }
            if self.routers[i].ways_at.is_some_and(|t| t <= now) {
                self.put_ways(i);
            }
            self.vmac_due(i, now);
        }
        self.static_ways_due(now);
        if self.missing_at.is_some_and(|t| t <= now) {
            self.try_missing(now);
        }
        self.send_frames(now);
        self.forget_departed();
    }

    /// Waits until addresses that were given up are off. The last thing before the end. `None` if another process runs some of the routers by now.
    /// Otherwise all of them are claimed until the result is dropped.
    pub async fn drain(&mut self) -> Option<Vec<std::os::unix::net::UnixDatagram>> {
        self.ending = true;
        // While connections ended here another process may have begun to run the routers: what it needs by now is not ours to take away.
        let model = std::mem::take(&mut self.model);
        let claims: Vec<_> = model.instances.iter().filter_map(|c| Some((c, claim(c).ok()?))).collect();
        self.end_vmacs(&claims.iter().map(|c| c.0).collect::<Vec<_>>());
        let alone = claims.len() == model.instances.len();
        if alone {
            self.end_static_ways(&model);
            for v in &model.statics {
                if let Some(l) = v.dev.as_ref().and_then(|d| self.links.get(d)) {
                    self.keeper.remove(l.index, old_address(v));
                }
            }
            self.keeper.restore();
        }
        self.keeper_done().await;
        alone.then(|| claims.into_iter().map(|c| c.1).collect())
    }

    /// Waits until the keeper has done what it was told.
    async fn keeper_done(&mut self) {
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
        // A successor may change what is here from now on.
        self.ending = true;
        for i in 0..self.routers.len() {
            self.feed(i, now, Input::Shutdown);
        }
    }

    pub(super) fn feed(&mut self, i: usize, now: Instant, input: Input) {
        let mut deeds = Vec::new();
        self.node.feed(&mut self.routers, i, now, input, &mut deeds);
        self.perform(now, deeds);
    }

    /// Lets groups agree.
    pub(super) fn settle(&mut self, now: Instant) {
        let mut deeds = Vec::new();
        self.node.settle(&mut self.routers, now, &mut deeds);
        self.perform(now, deeds);
    }

    pub(super) fn perform(&mut self, now: Instant, deeds: Vec<Deed>) {
        for (i, a) in deeds {
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
                // A flood of lower adverts is answered once in a while.
                Action::Announce { repeat: false } | Action::LowerHeard { .. }
                    if self.routers[i].lower_told.is_some_and(|t| now < t + LOWER_PAUSE && now != t) => {}
                Action::Announce { repeat } => {
                    let g = self.routers[i].conf.garp.clone();
                    let (n, delay) =
                        if repeat { (g.repeat, g.delay) } else { (g.lower_prio_repeat, g.lower_prio_delay) };
                    self.announce(i, n, now);
                    let r = &mut self.routers[i];
                    (r.announce_at, r.announce_times) = ((!delay.is_zero()).then(|| now + delay), n);
                    // After a freeze nothing was looked after.
                    if r.renew_at.is_none() {
                        (r.renew_at, r.ways_at) = (Some(now), Some(now));
                    }
                    r.refresh_at = g.refresh.map(|d| now + d);
                    r.elsewhere_at = g.extra.map(|(d, _)| now + d);
                }
                Action::Release => self.release(i),
                Action::LowerHeard { .. } => {
                    self.routers[i].lower_told = Some(now);
                    self.tell_lower(i);
                }
                Action::Changed { from, to, cause } => {
                    let r = &mut self.routers[i];
                    r.changed(now, to, cause);
                    match (from, to) {
                        (_, Role::Master) => r.stats.became_master += 1,
                        (Role::Master, _) => r.stats.released_master += 1,
                        _ => {}
                    }
                    let text = format!("({}) Entering {} STATE: {}", r.conf.name, to.name(), cause.text());
                    self.told.push(Told::Log { important: true, text });
                    self.told.push(Told::Changed);
                    self.tell_change(i, to);
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
        self.routers.iter().filter(|r| !r.departing).map(|r| r.view(now, self.share_texts(r))).collect()
    }

    /// What is counted of packets and changes begins at 0 again.
    pub fn clear_counters(&mut self) {
        self.routers.iter_mut().for_each(|r| r.stats = Default::default());
        self.told.push(Told::Log { important: false, text: "the counters of the virtual routers are cleared".into() });
    }

    /// Processes of this group may send echo requests until the end.
    pub fn allow_pings(&self, gid: u32) {
        self.keeper.allow_pings(gid);
    }

    /// The model in force.
    pub fn model(&self) -> &VrrpModel {
        &self.model
    }
}

#[cfg(test)]
mod tests {
    use super::merged;

    #[test]
    fn groups_with_a_common_member_are_one() {
        assert_eq!(merged(vec![vec![0, 1], vec![2, 3], vec![3, 1], vec![4]]), [vec![0, 1, 2, 3], vec![4]]);
        assert_eq!(merged(vec![vec![0, 1], vec![2, 3]]), [[0, 1], [2, 3]]);
    }
}
