//! Dumps on SIGUSR1, SIGUSR2 and the signal for JSON, in the words of keepalived 2.2, since exporters and scripts read them.
use super::engine::Engine;
use super::fsm::State;
use super::router::Router;
use crate::config::model::{Auth, Garp, INSIDE_WEIGHT, Notify, ScriptCall, TrackEntry, Tracked, Vip, VrrpVersion};
use crate::rules::logformat::{DateForm, date};
use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What time it is, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    pub now: Instant,
    pub wall: SystemTime,
    /// Seconds that local time is ahead of UTC.
    pub offset: i32,
}

impl Clocks {
    /// The wall clock at a moment of the other one.
    fn wall_at(&self, t: Instant) -> SystemTime {
        let wall = match self.now.checked_duration_since(t) {
            Some(ago) => self.wall.checked_sub(ago),
            None => self.wall.checked_add(t - self.now),
        };
        wall.unwrap_or(UNIX_EPOCH)
    }

    /// Seconds and microseconds since 1970.
    fn at(&self, t: Instant) -> (u64, u32) {
        let since = self.wall_at(t).duration_since(UNIX_EPOCH).unwrap_or_default();
        (since.as_secs(), since.subsec_micros())
    }

    fn text(&self, t: Instant) -> String {
        let mut ctime = Vec::new();
        date(self.wall_at(t), self.offset, DateForm::Ctime, &mut ctime);
        let (s, us) = self.at(t);
        format!("{s}.{us:06} ({})", String::from_utf8_lossy(&ctime))
    }
}

fn yes(b: bool) -> &'static str {
    if b { "yes" } else { "no" }
}

fn enabled(b: bool) -> &'static str {
    if b { "enabled" } else { "disabled" }
}

/// As `ip address` would be told: `10.0.0.1/24 dev eth0 scope global set`.
fn address(r: &Router, v: &Vip, full: bool) -> String {
    let (ip, len) = (v.addr.addr, v.addr.prefix);
    let mut s = if len == if ip.is_ipv4() { 32 } else { 128 } { ip.to_string() } else { format!("{ip}/{len}") };
    let scope = match v.scope {
        0 => "global".to_owned(),
        200 => "site".to_owned(),
        253 => "link".to_owned(),
        254 => "host".to_owned(),
        n => n.to_string(),
    };
    match &v.own_mac {
        Some(m) => {
            let _ = write!(s, " dev {}@{} use_vmac scope {scope}", r.device(v), m.base);
        }
        None => {
            let _ = write!(s, " dev {} scope {scope}", r.device(v));
        }
    }
    if let Some(p) = &v.peer {
        let _ = write!(s, " peer {p}/{len}");
    }
    if let Some(l) = &v.label {
        let _ = write!(s, " label {l}");
    }
    if let Some(b) = &v.broadcast {
        let _ = write!(s, " broadcast {b}");
    }
    if v.no_prefix_route {
        s.push_str(" noprefixroute");
    }
    if full && r.machine.state().has_address() {
        s.push_str(" set");
    }
    s
}

fn script(c: &ScriptCall) -> String {
    let words: Vec<String> = c.command.split_whitespace().map(|w| format!("'{w}'")).collect();
    words.join(" ")
}

fn track(t: &TrackEntry, weight: i32, reverse: bool) -> String {
    format!("{} weight {weight}{}", t.name, if reverse { " reverse" } else { "" })
}

/// The number that keepalived gives a state in JSON.
fn state_number(s: State) -> u8 {
    match s {
        State::Init | State::Stopped => 0,
        State::Backup { .. } => 1,
        State::Master { .. } | State::Holding { .. } | State::Leaving { .. } => 2,
        State::Fault => 3,
    }
}

impl Router {
    fn counter(&self, names: &[&str]) -> u64 {
        names.iter().filter_map(|n| self.stats.rejected.get(n)).sum()
    }
}

/// A line of a dump.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => { let _ = writeln!($out, $($arg)*); };
}

impl Engine {
    /// `/tmp/keepalived.data`
    pub fn dump_data(&self, clocks: Clocks) -> String {
        let mut o = String::new();
        let m = &self.model;
        put!(o, "------< Global definitions >------");
        put!(o, " Router ID = {}", m.router_id);
        put!(o, " Dynamic interfaces = {}", m.dynamic_interfaces);
        put!(o, " VRRP IPv4 mcast group = {}", m.group4.unwrap_or(super::packet::GROUP4));
        put!(o, " VRRP IPv6 mcast group = {}", m.group6.unwrap_or(super::packet::GROUP6));
        put!(o, " Gratuitous ARP interval = {:.6}", m.pace.arp.as_secs_f64());
        put!(o, " Gratuitous NA interval = {:.6}", m.pace.na.as_secs_f64());
        for f in &m.fifos {
            put!(o, " VRRP notify fifo = {}", f.path);
        }
        put!(o, " Script security {}", enabled(m.script_security));
        put!(o, "------< VRRP Topology >------");
        for r in self.routers.iter().filter(|r| !r.departing) {
            self.dump_router(&mut o, r, clocks);
        }
        if !m.groups.is_empty() {
            put!(o, "------< VRRP Sync groups >------");
        }
        for (k, g) in m.groups.iter().enumerate() {
            let members: Vec<&Router> = self.named.get(k).into_iter().flatten().map(|i| &self.routers[*i]).collect();
            let state = members.first().map_or("INIT", |r| r.machine.state().role().name());
            put!(o, " VRRP Sync Group = {}, {state}", g.name);
            let count = |s: &str| members.iter().filter(|r| r.machine.state().role().name() == s).count();
            put!(o, "   Num member fault {}, num member init {}", count("FAULT"), count("INIT"));
            put!(o, "   VRRP member instances :");
            for n in &g.members {
                put!(o, "     {n}");
            }
            self.dump_tracks(&mut o, &g.tracks);
            dump_notify(&mut o, &g.notify);
        }
        if !m.scripts.is_empty() {
            put!(o, "------< VRRP Scripts >------");
        }
        for s in &m.scripts {
            put!(o, " VRRP Script = {}", s.name);
            put!(o, "   Command = {}", script(&ScriptCall { command: s.command.clone(), user: None }));
            put!(o, "   Interval = {} sec", s.interval.as_secs_f64());
            put!(o, "   Timeout = {} sec", s.timeout.as_secs_f64());
            put!(o, "   Weight = {}{}", s.weight, if s.reverse { " reverse" } else { "" });
            put!(o, "   Rise = {}", s.rise);
            put!(o, "   Fall = {}", s.fall);
            let state = if s.liveness { Some(self.facts.serving) } else { self.facts.scripts.get(&s.name).copied() };
            let status = match state {
                Some(true) => "GOOD",
                Some(false) => "BAD",
                None => "INIT",
            };
            put!(o, "   Status = {status}");
            self.dump_trackers(&mut o, Tracked::Script, &s.name);
        }
        if !m.files.is_empty() {
            put!(o, "------< VRRP Track files >------");
        }
        for f in &m.files {
            put!(o, " Track file = {}", f.name);
            put!(o, "   File = {}", f.path);
            put!(o, "   Status = {}", self.facts.files.get(&f.name).copied().unwrap_or(0));
            put!(o, "   Weight = {}{}", f.weight, if f.reverse { " reverse" } else { "" });
            self.dump_trackers(&mut o, Tracked::File, &f.name);
        }
        if !m.processes.is_empty() {
            put!(o, "------< VRRP Track processes >------");
        }
        for p in &m.processes {
            put!(o, " VRRP Track process = {}", p.name);
            put!(o, "   Process = {}", p.command.join(" "));
            put!(o, "   Min processes = {}", p.quorum);
            put!(o, "   Weight = {}{}", p.weight, if p.reverse { " reverse" } else { "" });
            put!(
                o,
                "   Quorum {}",
                if self.facts.processes.get(&p.name).copied().unwrap_or(true) { "up" } else { "down" }
            );
            self.dump_trackers(&mut o, Tracked::Process, &p.name);
        }
        if !m.bfds.is_empty() {
            put!(o, "------< VRRP Track BFD >------");
        }
        for b in &m.bfds {
            put!(o, " BFD Instance = {}", b.name);
            put!(o, "   Neighbor IP = {}", b.neighbour);
            put!(
                o,
                "   State = {}",
                if self.facts.bfds.get(&b.name).copied().unwrap_or(false) { "UP" } else { "DOWN" }
            );
            self.dump_trackers(&mut o, Tracked::Bfd, &b.name);
        }
        put!(o, "------< Interfaces >------");
        let mut links: Vec<_> = self.links.values().collect();
        links.sort_by_key(|l| l.index);
        for l in links {
            put!(o, " Name = {}", l.name);
            put!(o, "   index = {}", l.index);
            for a in self.addrs.iter().filter(|a| a.ifindex == l.index) {
                put!(o, "   IPv{} address = {}", if a.addr.is_ipv4() { 4 } else { 6 }, a.addr);
            }
            if l.ethernet {
                let mac: Vec<String> = l.mac.iter().map(|b| format!("{b:02x}")).collect();
                put!(o, "   MAC = {}", mac.join(":"));
            }
            put!(o, "   State = {}", if l.usable { "UP, RUNNING" } else { "DOWN" });
        }
        o
    }

    fn dump_router(&self, o: &mut String, r: &Router, clocks: Clocks) {
        let (c, state) = (&r.conf, r.machine.state());
        let two = c.version == VrrpVersion::V2;
        put!(o, " VRRP Instance = {}", c.name);
        let (protocol, number) = match c.version {
            VrrpVersion::V2 => ("VRRP", 2),
            VrrpVersion::V3 => ("VRRP", 3),
            VrrpVersion::Carp => ("CARP", 2),
        };
        put!(o, "   {protocol} Version = {number}");
        if let Some(g) = self.model.groups.iter().find(|g| g.members.contains(&c.name)) {
            put!(o, "   Sync group = {}", g.name);
        }
        if r.six() {
            put!(o, "   Using Native IPv6");
        }
        put!(o, "   State = {}", state.role().name());
        if matches!(state, State::Backup { .. }) {
            let (from, priority) = r.last_heard.map_or((r.group.to_string(), 0), |h| (h.1.to_string(), h.2));
            put!(o, "   Master router = {from}");
            put!(o, "   Master priority = {priority}");
            if !two {
                put!(o, "   Master advert int = {:.2} sec", r.machine.master_interval().as_secs_f64());
            }
        }
        if r.unicast() {
            put!(o, "   Flags:\n     Using unicast");
        } else {
            put!(o, "   Flags: none");
        }
        put!(o, "   Wantstate = {}", state.role().name());
        let shares = self.facts.shares(&self.model, c);
        let link = !c.ignores_link && !r.unbound() && !self.facts.links.get(&c.interface).copied().unwrap_or(false);
        let faults = shares.iter().filter(|s| s.points.failed).count() + usize::from(link);
        put!(o, "   Number of config faults = 0");
        put!(o, "   Number of interface and track script faults = {faults}");
        put!(o, "   Number of track scripts init = 0");
        if let Some(t) = r.history.back() {
            put!(o, "   Last transition = {}", clocks.text(t.at));
        }
        if let Some(t) = r.machine.next_deadline() {
            put!(o, "   Read timeout = {}", clocks.text(t));
        }
        put!(o, "   Master down timer = {} usecs", r.machine.master_down().as_micros());
        let interface = if r.roams() { "not configured" } else { &c.interface };
        put!(o, "   Interface = {interface}");
        if c.vrf {
            put!(o, "   VRF = {}", c.interface);
        }
        if let Some(src) = r.src {
            let said = c.unicast_src.or(c.mcast_src).is_some();
            put!(o, "   Using src_ip = {src}{}", if said { " (from configuration)" } else { "" });
        }
        if !r.unicast() {
            let index =
                r.link.as_ref().filter(|_| r.six()).map_or_else(String::new, |l| format!(", ifindex {}", l.index));
            put!(o, "   Multicast address {}{index}", r.group);
        }
        dump_garp(o, &c.garp);
        put!(o, "   Down timer adverts = {}", c.down_adverts);
        put!(o, "   Send advert after receive lower priority advert = {}", !c.quiet_to_lower);
        put!(o, "   Send advert after receive higher priority advert = {}", c.answers_higher);
        put!(o, "   Virtual Router ID = {}", c.vrid);
        put!(o, "   Priority = {}", c.priority);
        put!(o, "   Effective priority = {}", r.machine.priority());
        let total: i32 = i32::from(c.priority) + shares.iter().map(|s| s.points.sum).sum::<i32>();
        put!(o, "   Total priority = {}", if c.priority == 255 { 255 } else { total });
        if two {
            put!(o, "   Advert interval = {} sec", c.advert_int.as_secs());
        } else {
            put!(o, "   Advert interval = {} milli-sec", c.advert_int.as_millis());
            if matches!(state, State::Backup { .. }) {
                put!(o, "   Master advert interval = {} milli-sec", r.machine.master_interval().as_millis());
            }
        }
        put!(o, "   Accept = enabled");
        put!(o, "   Preempt = {}", enabled(c.preempt));
        if !c.preempt_delay.is_zero() {
            put!(o, "   Preempt delay = {} secs", c.preempt_delay.as_secs_f64());
        }
        put!(o, "   Promote_secondaries = {}", enabled(c.promote_secondaries));
        if two {
            match &c.auth {
                Auth::None | Auth::Carp(_) => {
                    put!(o, "   Authentication type = none");
                }
                Auth::Pass(_) => {
                    put!(o, "   Authentication type = SIMPLE_PASSWORD");
                }
                Auth::Header(_) => {
                    put!(o, "   Authentication type = IPSEC_AH");
                }
            }
        }
        put!(o, "   Virtual IP ({}):", c.vips.len());
        for v in &c.vips {
            put!(o, "     {}", address(r, v, true));
        }
        if !c.excluded.is_empty() {
            put!(o, "   Virtual IP Excluded :");
        }
        for v in &c.excluded {
            put!(o, "     {}", address(r, v, true));
        }
        for (what, all) in [
            ("Virtual Routes", c.routes.iter().map(|r| r.text()).collect::<Vec<_>>()),
            ("Virtual Rules", c.rules.iter().map(|r| r.text()).collect()),
        ] {
            if !all.is_empty() {
                put!(o, "   {what} ({}):", all.len());
            }
            for text in all {
                put!(o, "     {text}");
            }
        }
        if r.unicast() {
            put!(o, "   Unicast TTL = {}", c.unicast_ttl.unwrap_or(super::packet::TTL));
            put!(o, "   Check unicast src : {}", yes(c.check_unicast_src));
            put!(o, "   Unicast Peer :");
        }
        for p in &c.peers {
            put!(o, "     {} min_ttl {} max_ttl {}", p.addr, p.min_ttl, p.max_ttl);
        }
        self.dump_tracks(o, &c.tracks);
        dump_notify(o, &c.notify);
    }

    /// Weight and direction of a tracked thing, its own or the definition's.
    fn weight(&self, t: &TrackEntry) -> (i32, bool) {
        let m = &self.model;
        let own = match t.kind {
            Tracked::Interface => None,
            Tracked::Backend | Tracked::Frontend | Tracked::Load => Some((INSIDE_WEIGHT, false)),
            Tracked::Script => m.scripts.iter().find(|s| s.name == t.name).map(|s| (s.weight, s.reverse)),
            Tracked::File => m.files.iter().find(|f| f.name == t.name).map(|f| (f.weight, f.reverse)),
            Tracked::Bfd => m.bfds.iter().find(|b| b.name == t.name).map(|b| (b.weight, b.reverse)),
            Tracked::Process => m.processes.iter().find(|p| p.name == t.name).map(|p| (p.weight, p.reverse)),
        };
        let (weight, reverse) = own.unwrap_or_default();
        (t.weight.unwrap_or(weight), t.reverse.unwrap_or(reverse))
    }

    fn dump_tracks(&self, o: &mut String, all: &[TrackEntry]) {
        for (kind, head) in [
            (Tracked::Interface, "Tracked interfaces"),
            (Tracked::Script, "Tracked scripts"),
            (Tracked::File, "Tracked files"),
            (Tracked::Process, "Tracked processes"),
            (Tracked::Bfd, "Tracked BFDs"),
        ] {
            let mut of_kind = all.iter().filter(|t| t.kind == kind).peekable();
            if of_kind.peek().is_some() {
                put!(o, "   {head} :");
            }
            for t in of_kind {
                let (weight, reverse) = self.weight(t);
                put!(o, "     {}", track(t, weight, reverse));
            }
        }
    }

    fn dump_trackers(&self, o: &mut String, kind: Tracked, name: &str) {
        put!(o, "   Tracking instances :");
        let all = self
            .model
            .instances
            .iter()
            .map(|i| (&i.name, &i.tracks))
            .chain(self.model.groups.iter().map(|g| (&g.name, &g.tracks)));
        for (who, tracks) in all {
            for t in tracks.iter().filter(|t| t.kind == kind && t.name == name) {
                let (weight, reverse) = self.weight(t);
                put!(o, "     {who}, weight {weight}{}", if reverse { " reverse" } else { "" });
            }
        }
    }

    /// `/tmp/keepalived.stats`
    pub fn dump_stats(&self) -> String {
        let mut o = String::new();
        for r in self.routers.iter().filter(|r| !r.departing) {
            let s = &r.stats;
            put!(o, "VRRP Instance: {}", r.conf.name);
            put!(o, "  Advertisements:\n    Received: {}\n    Sent: {}", s.received, s.sent);
            put!(o, "  Became master: {}\n  Released master: {}", s.became_master, s.released_master);
            put!(o, "  Packet Errors:");
            for (head, names) in PACKET_ERRORS {
                put!(o, "    {head}: {}", r.counter(names));
            }
            put!(o, "  Authentication Errors:");
            for (head, names) in AUTH_ERRORS {
                put!(o, "    {head}: {}", r.counter(names));
            }
            put!(o, "  Priority Zero:\n    Received: {}\n    Sent: {}", s.zero_received, s.zero_sent);
        }
        o
    }

    /// `/tmp/keepalived.json`
    pub fn dump_json(&self, clocks: Clocks) -> String {
        let all: Vec<serde_json::Value> =
            self.routers.iter().filter(|r| !r.departing).map(|r| self.json_router(r, clocks)).collect();
        let v = if self.model.dumps.json2 { serde_json::json!({ "vrrp": all }) } else { serde_json::json!(all) };
        v.to_string()
    }

    fn json_router(&self, r: &Router, clocks: Clocks) -> serde_json::Value {
        let (c, state, s) = (&r.conf, r.machine.state(), &r.stats);
        let (secs, us) = r.history.back().map_or((0, 0), |t| clocks.at(t.at));
        let number = |d: Duration| match d.subsec_nanos() {
            0 => serde_json::json!(d.as_secs()),
            _ => serde_json::json!(d.as_secs_f64()),
        };
        let mut data = serde_json::json!({
            "iname": c.name,
            "dont_track_primary": u8::from(c.ignores_link),
            "skip_check_adv_addr": u8::from(c.skip_addr_check),
            "strict_mode": u8::from(c.strict),
            "vmac_ifname": c.vmac.as_ref().map_or("", |v| &v.name),
            "ifp_ifname": c.vmac.as_ref().map_or(&c.interface, |v| &v.name),
            "master_priority": r.machine.heard_master(clocks.now).unwrap_or(0),
            "last_transition": Duration::new(secs, us * 1000).as_secs_f64(),
            "garp_delay": c.garp.delay.as_secs(),
            "garp_refresh": c.garp.refresh.unwrap_or_default().as_secs(),
            "garp_rep": c.garp.repeat,
            "garp_refresh_rep": c.garp.refresh_repeat,
            "garp_lower_prio_delay": c.garp.lower_prio_delay.as_secs(),
            "garp_lower_prio_rep": c.garp.lower_prio_repeat,
            "lower_prio_no_advert": u8::from(c.quiet_to_lower),
            "higher_prio_send_advert": u8::from(c.answers_higher),
            "vrid": c.vrid,
            "base_priority": c.priority,
            "effective_priority": r.machine.priority(),
            "vipset": state.has_address(),
            "promote_secondaries": c.promote_secondaries,
            "adver_int": number(c.advert_int),
            "master_adver_int": number(r.machine.master_interval()),
            "accept": 1,
            "nopreempt": !c.preempt,
            "preempt_delay": number(c.preempt_delay),
            "state": state_number(state),
            "wantstate": state_number(state),
            "version": if c.version == VrrpVersion::V3 { 3 } else { 2 },
            "smtp_alert": false,
            "notify_deleted": c.notify.says_deleted,
            "vips": c.vips.iter().map(|v| address(r, v, true)).collect::<Vec<_>>(),
            "auth_type": match c.auth { Auth::None | Auth::Carp(_) => 0, Auth::Pass(_) => 1, Auth::Header(_) => 2 },
        });
        let mut more = |name: &str, value: serde_json::Value| {
            if let Some(d) = data.as_object_mut() {
                d.insert(name.to_owned(), value);
            }
        };
        let n = &c.notify;
        for (name, call) in [
            ("script_master", &n.master),
            ("script_backup", &n.backup),
            ("script_fault", &n.fault),
            ("script_stop", &n.stop),
            ("script", &n.any),
            ("script_master_rx_lower_pri", &n.lower),
        ] {
            if let Some(call) = call {
                more(name, script(call).into());
            }
        }
        if !c.excluded.is_empty() {
            more("evips", c.excluded.iter().map(|v| address(r, v, true)).collect());
        }
        for (kind, name) in
            [(Tracked::Interface, "track_ifp"), (Tracked::Script, "track_script"), (Tracked::File, "track_file")]
        {
            let names: Vec<String> = c.tracks.iter().filter(|t| t.kind == kind).map(|t| t.name.clone()).collect();
            if !names.is_empty() {
                more(name, names.into());
            }
        }
        let count = |names: &[&str]| r.counter(names);
        let (p, a) = (PACKET_ERRORS, AUTH_ERRORS);
        serde_json::json!({
            "data": data,
            "stats": {
                "advert_rcvd": s.received,
                "advert_sent": s.sent,
                "become_master": s.became_master,
                "release_master": s.released_master,
                "packet_len_err": count(p[0].1),
                "advert_interval_err": count(p[3].1),
                "ip_ttl_err": count(p[1].1),
                "invalid_type_rcvd": count(p[2].1),
                "addr_list_err": count(p[4].1),
                "invalid_authtype": count(a[0].1),
                "authtype_mismatch": count(a[1].1),
                "auth_failure": count(a[2].1),
                "pri_zero_rcvd": s.zero_received,
                "pri_zero_sent": s.zero_sent,
            },
        })
    }

    /// What a tracked thing is like, for `show vrrp`.
    pub(super) fn share_texts(&self, r: &Router) -> Vec<String> {
        self.facts.shares(&self.model, &r.conf).iter().map(super::track::Share::text).collect()
    }
}

/// keepalived's names of what was wrong with packets, and ours.
const PACKET_ERRORS: [(&str, &[&str]); 5] = [
    ("Length", &["length"]),
    ("TTL", &["ttl"]),
    ("Invalid Type", &["type", "version"]),
    ("Advertisement Interval", &["advert interval"]),
    ("Address List", &["addresses"]),
];
const AUTH_ERRORS: [(&str, &[&str]); 3] =
    [("Invalid Type", &[]), ("Type Mismatch", &["authentication type"]), ("Failure", &["password", "sequence number"])];

fn dump_garp(o: &mut String, g: &Garp) {
    put!(o, "   Gratuitous ARP delay = {}", g.delay.as_secs());
    put!(o, "   Gratuitous ARP repeat = {}", g.repeat);
    put!(o, "   Gratuitous ARP refresh = {}", g.refresh.unwrap_or_default().as_secs());
    put!(o, "   Gratuitous ARP refresh repeat = {}", g.refresh_repeat);
    put!(o, "   Gratuitous ARP lower priority delay = {}", g.lower_prio_delay.as_secs());
    put!(o, "   Gratuitous ARP lower priority repeat = {}", g.lower_prio_repeat);
}

fn dump_notify(o: &mut String, n: &Notify) {
    put!(o, "   Using smtp notification = no");
    put!(o, "   Notify deleted = {}", if n.says_deleted { "Deleted" } else { "Fault" });
    for (head, call) in [
        ("Backup state transition script", &n.backup),
        ("Master state transition script", &n.master),
        ("Fault state transition script", &n.fault),
        ("Stop state transition script", &n.stop),
        ("Generic state transition script", &n.any),
        ("Master rx lower priority script", &n.lower),
    ] {
        if let Some(call) = call {
            put!(o, "   {head} = {}", script(call));
        }
    }
    put!(o, "   Notify priority changes = {}", n.priority_changes);
}
