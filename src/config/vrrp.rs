//! The VRRP half of a node, from `keepalived.conf` or from `vrrp` sections. It crosses to the guardian as JSON.
use super::route::{Route, RoutingRule};
use super::vmac::{OwnMac, Vmac};
use crate::base::addr::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VrrpModel {
    pub router_id: String,
    pub instances: Vec<VrrpInstance>,
    pub groups: Vec<VrrpGroup>,
    pub scripts: Vec<VrrpScript>,
    /// `static_ipaddress`: addresses that are here whatever the routers do. Each has its interface.
    pub statics: Vec<Vip>,
    /// `static_routes`, `static_rules`
    pub static_routes: Vec<Route>,
    pub static_rules: Vec<RoutingRule>,
    /// `track_group`: names, and their routers.
    pub track_groups: Vec<(String, Vec<String>)>,
    pub files: Vec<TrackFile>,
    pub processes: Vec<TrackProcess>,
    pub bfds: Vec<Bfd>,
    /// `vrrp_startup_delay`: the routers wait for so long before they begin.
    pub startup_delay: Duration,
    /// `vrrp_delay_after_boot`: they do not begin before the host has been up for so long.
    pub delay_after_boot: Duration,
    /// `fault strict`: other lost interfaces and failed weightless scripts are FAULT, as in keepalived.
    pub fault_strict: bool,
    /// `dynamic_interfaces`: interfaces may come later.
    pub dynamic_interfaces: bool,
    /// `enable_script_security`: a script that others may change is an error.
    pub script_security: bool,
    /// user, group of scripts
    pub script_user: Option<(String, Option<String>)>,
    /// `notify_fifo`, `vrrp_notify_fifo`: where changes are written, a line each.
    pub fifos: Vec<Fifo>,
    /// `interface_up_down_delays`: how long a change of an interface has to last before it counts.
    pub debounce: Vec<Debounce>,
    pub pace: Pace,
    /// `vrrp_mcast_group4`, `vrrp_mcast_group6`
    pub group4: Option<Ipv4Addr>,
    pub group6: Option<Ipv6Addr>,
    pub dumps: Dumps,
    /// Programs that real servers are checked with (`MISC_CHECK`).
    pub checks: Vec<VrrpScript>,
    /// What the proxy has to be told of things outside it.
    pub facts: Vec<FactRule>,
    /// Where alerts are sent, if they can be.
    pub mail: Option<MailConf>,
    /// `no_email_faults`: none of FAULT.
    pub no_fault_mail: bool,
    /// `disable_local_igmp`: the kernel tells nobody of the local groups it listens to.
    pub no_local_igmp: bool,
    /// `fifo_write_vrrp_states_on_reload`
    pub lines_on_reload: bool,
    /// `startup_script`, `shutdown_script`
    pub at_start: TimedScript,
    pub at_end: TimedScript,
    /// The proxy pings servers (`PING_CHECK`).
    pub pings: bool,
    /// Who is told of virtual servers.
    pub told: Vec<ServerScripts>,
}

/// A script that is waited for, no longer than its timeout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TimedScript {
    pub script: Option<ScriptCall>,
    /// `None`: the usual one.
    pub timeout: Option<Duration>,
}

/// `smtp_server`, `notification_email` and what belongs to them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MailConf {
    pub server: SocketAddr,
    pub from: String,
    pub to: Vec<String>,
    pub helo: String,
    /// `smtp_connect_timeout`
    pub timeout: Duration,
}

/// Something outside the proxy that servers are checked by, under the key that the proxy knows it by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FactRule {
    pub key: String,
    pub place: String,
    pub of: FactOf,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FactOf {
    /// The program under this key; `misc_dynamic`: its exit status is a weight, in place of this one.
    Script {
        dynamic: Option<u32>,
    },
    /// A `track_file`: its value times the weight; `dynamic`: that is added to the server's weight.
    File {
        name: String,
        weight: Option<i64>,
        dynamic: bool,
    },
    Bfd {
        name: String,
    },
}

/// A virtual server or one of its real servers, and the scripts that are told of it, if there are any (`quorum_up`, `quorum_down`, `notify_up`, `notify_down`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerScripts {
    /// The section, and its server.
    pub section: String,
    pub server: Option<String>,
    pub up: Option<ScriptCall>,
    pub down: Option<ScriptCall>,
    /// `omega`: at the end of the process it is down.
    pub omega: bool,
    /// `smtp_alert`
    pub mail: bool,
    /// What it is held for before anything is known (`alpha`); nothing of a quorum.
    pub begins: Option<bool>,
}

impl VrrpModel {
    /// Everything that is tracked, by routers and by groups.
    pub fn tracks(&self) -> impl Iterator<Item = &TrackEntry> {
        self.instances.iter().flat_map(|i| &i.tracks).chain(self.groups.iter().flat_map(|g| &g.tracks))
    }
}

impl VrrpModel {
    /// Leaves out routers of `track_groups` that are none, and groups of static things that are none. What was left out comes back in words, and whether
    /// keepalived says it, too.
    pub fn drop_undefined_groups(&mut self) -> Vec<(bool, String)> {
        let mut wrong = Vec::new();
        let routers: HashSet<&str> = self.instances.iter().map(|i| i.name.as_str()).collect();
        for (name, members) in &mut self.track_groups {
            members.retain(|r| {
                let known = routers.contains(r.as_str());
                if !known {
                    wrong.push((false, format!("track_group '{name}' : there is no virtual router '{r}'")));
                }
                known
            });
        }
        let groups: HashSet<&str> = self.track_groups.iter().map(|g| g.0.as_str()).collect();
        let moving = self.instances.iter_mut().flat_map(|i| {
            let vips = i.vips.iter_mut().chain(&mut i.excluded).map(|v| &mut v.group);
            vips.chain(i.routes.iter_mut().map(|r| &mut r.group)).chain(i.rules.iter_mut().map(|r| &mut r.group))
        });
        for g in moving.filter_map(Option::take) {
            wrong.push((
                false,
                format!("'track_group {g}' of something that moves with a virtual router has no meaning"),
            ));
        }
        let all = self.statics.iter_mut().map(|v| &mut v.group);
        let all = all.chain(self.static_routes.iter_mut().map(|r| &mut r.group));
        for group in all.chain(self.static_rules.iter_mut().map(|r| &mut r.group)) {
            if let Some(g) = group.take_if(|g| !groups.contains(g.as_str())) {
                wrong.push((true, format!("'track_group {g}' : there is no such group")));
            }
            // Nobody gives way for it.
            group.take_if(|g| self.track_groups.iter().any(|t| t.0 == *g && t.1.is_empty()));
        }
        self.track_groups.retain(|g| !g.1.is_empty());
        for r in self.static_rules.iter_mut().filter(|r| r.iif.is_none()) {
            if let Some(g) = r.group.take() {
                wrong.push((true, format!("'track_group {g}' of a rule without 'iif'")));
            }
        }
        wrong
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VrrpVersion {
    V2,
    V3,
    /// CARP in VRRP's place; with [`Auth::Carp`].
    Carp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vip {
    pub addr: IpNet,
    /// Interface other than the instance's.
    pub dev: Option<String>,
    /// `use_vmac`: `dev` is an interface with the virtual router's MAC address, made beside another one.
    pub own_mac: Option<OwnMac>,
    /// `peer`: the other end of a link between two.
    pub peer: Option<IpAddr>,
    pub label: Option<String>,
    pub broadcast: Option<Ipv4Addr>,
    /// Scope as the kernel numbers it (0 global, 253 link, 254 host).
    pub scope: u8,
    pub no_prefix_route: bool,
    /// A mobile node's home address (`home`, RFC 6275).
    pub home: bool,
    /// Privacy addresses are made of it (`mngtmpaddr`).
    pub temporary: bool,
    /// Its multicast group is joined (`autojoin`).
    pub autojoin: bool,
    /// `preferred_lft`: seconds after which it is no source of new connections any more, `u32::MAX` for ever. Unless said, a /128 is deprecated at once.
    pub preferred: Option<u32>,
    /// `no_track`: if somebody removes it, it stays away until the next time that we become master.
    pub untracked: bool,
    /// `track_group` of a static one: routers that give way while it is gone for good.
    pub group: Option<String>,
}

impl Vip {
    /// True if the kernel gives one that is there the rest of what this says: it has the same of what it cannot change.
    pub fn can_become(&self, other: &Self) -> bool {
        let both =
            (self.scope, self.no_prefix_route, self.autojoin) == (other.scope, other.no_prefix_route, other.autojoin);
        // IPv6 has neither of these.
        let four = (&self.label, self.broadcast) == (&other.label, other.broadcast);
        both && (four || self.addr.addr.is_ipv6())
    }

    /// An address of which nothing more is said.
    pub fn plain(addr: IpNet) -> Self {
        Self {
            addr,
            dev: None,
            own_mac: None,
            peer: None,
            label: None,
            broadcast: None,
            scope: 0,
            no_prefix_route: false,
            home: false,
            temporary: false,
            autojoin: false,
            preferred: None,
            untracked: false,
            group: None,
        }
    }
}

/// What kind of thing a router tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Tracked {
    Interface,
    Script,
    File,
    Process,
    /// A neighbour that a BFD session watches.
    Bfd,
    /// Servers of a backend that can be used.
    Backend,
    /// A frontend that takes connections.
    Frontend,
    /// How near the proxy is to its limits.
    Load,
}

impl Tracked {
    /// It is seen by the proxy itself.
    pub fn is_inside(self) -> bool {
        matches!(self, Self::Backend | Self::Frontend | Self::Load)
    }

    /// The word for it, as the one-file language and logs have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interface => "interface",
            Self::Script => "script",
            Self::File => "file",
            Self::Process => "process",
            Self::Bfd => "bfd",
            Self::Backend => "backend",
            Self::Frontend => "frontend",
            Self::Load => "load",
        }
    }
}

/// keepalived's `track_interface`, `track_script`, `track_file` and `track_process` blocks, a line each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrackEntry {
    pub kind: Tracked,
    pub name: String,
    /// `None`: the object's own default.
    pub weight: Option<i32>,
    /// `None`: the object's own default.
    pub reverse: Option<bool>,
    /// What counts as up, for what the proxy itself sees.
    pub inside: Option<Inside>,
}

/// What has to be seen inside the proxy, and how long before it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inside {
    pub min_up: MinUp,
    pub rise: Duration,
    pub fall: Duration,
}

impl Default for Inside {
    fn default() -> Self {
        Self { min_up: MinUp::Count(1), rise: Duration::from_secs(2), fall: Duration::ZERO }
    }
}

/// `min-up <n>` or `min-up <n>%`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MinUp {
    Count(u32),
    Percent(u32),
}

impl MinUp {
    /// Whether `up` of `total` are enough. Of none, none have to be.
    pub fn enough(self, up: u32, total: u32) -> bool {
        match self {
            Self::Count(n) => up >= n.min(total),
            Self::Percent(p) => u64::from(up) * 100 >= u64::from(p) * u64::from(total),
        }
    }
}

/// The weight of what the proxy sees inside, where none is said: it never moves an address by itself, only to a peer that is known to be better.
pub const INSIDE_WEIGHT: i32 = -30;

/// What the proxy sees of something inside it: so many of so many are up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub kind: Tracked,
    pub name: String,
    pub up: u32,
    pub total: u32,
}

/// A script to be run, and whose rights it has: user and group, numbers once the loader is through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptCall {
    pub command: String,
    pub user: Option<(String, Option<String>)>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Notify {
    pub master: Option<ScriptCall>,
    pub backup: Option<ScriptCall>,
    pub fault: Option<ScriptCall>,
    pub stop: Option<ScriptCall>,
    pub any: Option<ScriptCall>,
    /// `notify_master_rx_lower_pri`
    pub lower: Option<ScriptCall>,
    /// `notify_deleted`: what a reload takes away is told DELETED instead of FAULT.
    pub says_deleted: bool,
    pub deleted: Option<ScriptCall>,
    /// `notify_priority_changes`: lines in FIFOs.
    pub priority_changes: bool,
    /// `smtp_alert`
    pub mail: bool,
}

impl Notify {
    pub fn each(&mut self) -> [&mut Option<ScriptCall>; 7] {
        [
            &mut self.master,
            &mut self.backup,
            &mut self.fault,
            &mut self.stop,
            &mut self.any,
            &mut self.lower,
            &mut self.deleted,
        ]
    }

    pub fn calls(&self) -> impl Iterator<Item = &ScriptCall> {
        [&self.any, &self.master, &self.backup, &self.fault, &self.stop, &self.lower, &self.deleted]
            .into_iter()
            .flatten()
    }
}

/// A named pipe, and the script that is started to read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fifo {
    pub path: String,
    /// Who owns it.
    pub user: Option<(String, Option<String>)>,
    pub script: Option<ScriptCall>,
}

/// Authentication of VRRPv2 (RFC 2338, 5.3.6), and of CARP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Auth {
    #[default]
    None,
    /// A clear-text password.
    Pass([u8; 8]),
    /// The IP authentication header (RFC 2402) with HMAC-MD5-96.
    Header([u8; 8]),
    Carp(CarpAuth),
}

/// What signs CARP's adverts.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarpAuth {
    /// The password, with zeros behind it.
    pub key: [u8; 20],
    /// All virtual addresses of the group, of both families, in order.
    pub addrs: Vec<IpAddr>,
}

impl std::fmt::Debug for CarpAuth {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CarpAuth").field("addrs", &self.addrs).finish_non_exhaustive()
    }
}

/// keepalived's `auth_hmac`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HmacAuth {
    /// Keys by their ids, 32 to 64 octets each.
    pub keys: Vec<(u8, Vec<u8>)>,
    /// Id of the key that signs.
    pub active: u8,
    pub replay: Replay,
    /// `time_window`; `None`: three intervals, at least 5 s.
    pub window: Option<Duration>,
    pub mode: HmacMode,
}

impl std::fmt::Debug for HmacAuth {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HmacAuth").field("active", &self.active).field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl HmacAuth {
    pub fn key(&self, id: u8) -> Option<&[u8]> {
        self.keys.iter().find(|k| k.0 == id).map(|k| k.1.as_slice())
    }
}

/// `anti_replay`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Replay {
    /// Sequence numbers grow, and are those of now.
    #[default]
    Time,
    /// Sequence numbers grow.
    Monotonic,
}

/// `mode` of `auth_hmac`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HmacMode {
    #[default]
    Enforce,
    /// Unsigned adverts are taken too.
    Permissive,
    /// And none are signed.
    ReceiveOnly,
}

/// Another router of a unicast instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub addr: IpAddr,
    /// TTL or hop limit that its adverts may arrive with.
    pub min_ttl: u8,
    pub max_ttl: u8,
}

impl Peer {
    pub fn any_ttl(addr: IpAddr) -> Self {
        Self { addr, min_ttl: 0, max_ttl: 255 }
    }

    /// Whether something is said about it.
    pub fn is_bound(&self) -> bool {
        (self.min_ttl, self.max_ttl) != (0, 255)
    }
}

/// `old_unicast_checksum`: unicast adverts of VRRPv3 that are summed up as if they went to the multicast group, as keepalived did before 1.3.7.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OldChecksum {
    /// To those who do it.
    #[default]
    Answered,
    Always,
    Never,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VrrpInstance {
    pub name: String,
    pub place: String,
    pub version: VrrpVersion,
    /// Empty where it speaks to its unicast peers over whatever leads there.
    pub interface: String,
    /// `vrf`: `interface` is a VRF. What speaks and hears is bound to it, and no address lives there.
    pub vrf: bool,
    pub vrid: u8,
    pub priority: u8,
    pub initial_master: bool,
    pub advert_int: Duration,
    pub preempt: bool,
    pub preempt_delay: Duration,
    pub auth: Auth,
    pub hmac: Option<HmacAuth>,
    pub vips: Vec<Vip>,
    pub excluded: Vec<Vip>,
    /// `virtual_routes`, `virtual_rules`
    pub routes: Vec<Route>,
    pub rules: Vec<RoutingRule>,
    pub unicast_src: Option<IpAddr>,
    pub peers: Vec<Peer>,
    /// `unicast_ttl`, 255 unless said
    pub unicast_ttl: Option<u8>,
    pub mcast_src: Option<IpAddr>,
    /// `mcast_dst_ip`: another group than the protocol's.
    pub mcast_dst: Option<IpAddr>,
    pub tracks: Vec<TrackEntry>,
    /// `dont_track_primary`: its own interface may be down.
    pub ignores_link: bool,
    /// `track_src_ip`: the source address has to be there.
    pub tracks_source: bool,
    pub notify: Notify,
    pub garp: Garp,
    /// Adverts of version 2 are sent beside those of version 3, and heard (RFC 9568, 8.4): for the time in which routers move from one to the other.
    pub also_v2: bool,
    /// keepalived's `v3_checksum_as_v2`: no pseudo header in a VRRPv3 checksum over IPv4.
    pub checksum_v2: bool,
    /// `unicast_fault_no_peer`, and there is none: FAULT instead of multicast.
    pub lacks_peer: bool,
    /// `old_unicast_checksum`
    pub old_checksum: OldChecksum,
    pub skip_addr_check: bool,
    /// Adverts that do not come from a unicast peer are dropped.
    pub check_unicast_src: bool,
    /// `strict_mode`: what the RFC forbids is refused.
    pub strict: bool,
    /// `down_timer_adverts`
    pub down_adverts: u32,
    /// `lower_prio_no_advert`
    pub quiet_to_lower: bool,
    /// `higher_prio_send_advert`
    pub answers_higher: bool,
    /// `owner_ignore_adverts`
    pub owner_deaf: bool,
    /// `timer_expired_backup`: the highest priority of the others.
    pub late_backup: Option<u8>,
    /// `promote_secondaries`
    pub promote_secondaries: bool,
    /// `use_vmac`
    pub vmac: Option<Vmac>,
    /// Two instances made of one section, IPv4 and IPv6, move together.
    pub twin_of: Option<String>,
}

impl VrrpInstance {
    /// It speaks to unicast peers over whatever leads there: the address that it speaks from may be on any interface, and has to be there.
    pub fn roams(&self) -> bool {
        self.interface.is_empty() || self.vrf
    }

    /// Its ends of unicast mean something on one link only.
    pub fn is_link_local(&self) -> bool {
        let mut ends = self.unicast_src.into_iter().chain(self.peers.iter().map(|p| p.addr));
        ends.any(|ip| matches!(ip, IpAddr::V6(a) if a.is_unicast_link_local()))
    }

    /// Where it speaks, for people.
    pub fn place_to_speak(&self) -> &str {
        if self.interface.is_empty() { "any interface" } else { &self.interface }
    }

    /// Those that are announced, and those that move along.
    pub fn addresses(&self) -> impl Iterator<Item = &Vip> {
        self.vips.iter().chain(&self.excluded)
    }

    pub fn addresses_mut(&mut self) -> impl Iterator<Item = &mut Vip> {
        self.vips.iter_mut().chain(&mut self.excluded)
    }

    /// Its family: that of its first address, or of what it speaks from or to.
    pub fn is_six(&self) -> bool {
        let first = self.vips.first().map(|v| v.addr.addr).or(self.mcast_src).or(self.unicast_src);
        first.or_else(|| self.peers.first().map(|p| p.addr)).is_some_and(|a| a.is_ipv6())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Garp {
    pub repeat: u32,
    pub delay: Duration,
    pub refresh: Option<Duration>,
    pub refresh_repeat: u32,
    pub lower_prio_repeat: u32,
    pub lower_prio_delay: Duration,
    /// `garp_extra_if`: announcements on other interfaces than the instance's own, and whether on all of them or virtual ones only.
    pub extra: Option<(Duration, bool)>,
}

impl Default for Garp {
    fn default() -> Self {
        Self {
            repeat: 5,
            delay: Duration::from_secs(5),
            refresh: None,
            refresh_repeat: 1,
            lower_prio_repeat: 5,
            lower_prio_delay: Duration::from_secs(5),
            extra: None,
        }
    }
}

/// How close announcements may follow each other: `vrrp_garp_interval`, `vrrp_gna_interval` for each interface, and `garp_group`s that share a switch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    pub arp: Duration,
    pub na: Duration,
    pub groups: Vec<PaceGroup>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PaceGroup {
    pub arp: Duration,
    pub na: Duration,
    pub interfaces: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Debounce {
    pub interface: String,
    pub down: Duration,
    pub up: Duration,
}

/// Where dumps go: `state_dump_file`, `stats_dump_file`, `json_dump_file`; `None` is keepalived's place in `/tmp`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dumps {
    pub state: Option<String>,
    pub stats: Option<String>,
    pub json: Option<String>,
    /// `json_version 2`
    pub json2: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VrrpGroup {
    pub name: String,
    pub members: Vec<String>,
    pub notify: Notify,
    pub tracks: Vec<TrackEntry>,
    /// `sync_group_tracking_weight`: what the members themselves track may have weights.
    pub own_weights: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VrrpScript {
    pub name: String,
    pub place: String,
    pub command: String,
    pub interval: Duration,
    pub timeout: Duration,
    pub weight: i32,
    pub reverse: bool,
    pub rise: u32,
    pub fall: u32,
    pub init_fail: bool,
    pub user: Option<(String, Option<String>)>,
    /// Only asks whether HAProxy is alive: answered from inside.
    pub liveness: bool,
    /// How long after a failure it is asked again, while that does not count yet; `None`: the usual interval.
    pub pause: Option<Duration>,
    /// Every change of its exit status is told.
    pub tells_codes: bool,
}

/// `track_file`: a number in a file, times the weight, is added to the priority; with weight 0 anything but 0 is a failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrackFile {
    pub name: String,
    pub place: String,
    pub path: String,
    pub weight: i32,
    pub reverse: bool,
    /// `init_file`: written at the start where there is none, or in any case.
    pub init: Option<(i64, bool)>,
}

/// `vrrp_track_process`: how many processes of a name, or of a command line, have to be there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrackProcess {
    pub name: String,
    pub place: String,
    /// Its name, then its parameters.
    pub command: Vec<String>,
    /// The whole command line counts, not the name alone.
    pub full_command: bool,
    pub params: ParamMatch,
    pub weight: i32,
    pub reverse: bool,
    pub quorum: u32,
    pub quorum_max: u32,
    /// How long enough of them have to be there, or to be missing, before it counts.
    pub fork_delay: Duration,
    pub terminate_delay: Duration,
}

/// `bfd_instance`: a neighbour whose reachability is watched (RFC 5880).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bfd {
    pub name: String,
    pub place: String,
    pub neighbour: IpAddr,
    pub source: Option<IpAddr>,
    /// How often we take packets, want to send them, and send them before the session is up.
    pub min_rx: Duration,
    pub min_tx: Duration,
    pub idle_tx: Duration,
    /// Packets that may be missing.
    pub multiplier: u8,
    /// The neighbour speaks first.
    pub passive: bool,
    /// TTL or hop limit of what is sent, and how much of it may be missing of what comes; 255 is any.
    pub ttl: u8,
    pub max_hops: u8,
    /// RFC 5883's port.
    pub multihop: bool,
    pub weight: i32,
    pub reverse: bool,
}

/// `param_match` of `vrrp_track_process`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ParamMatch {
    /// All parameters, exactly; none are looked at where none are given.
    #[default]
    Exact,
    /// The last one may go on.
    Initial,
    /// There may be more.
    Partial,
}
