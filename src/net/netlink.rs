//! Addresses and links through rtnetlink, behind our own types: the crates' interfaces change with each release.
use super::routes::{Gone, Way};
use crate::config::model::{Ipvlan, IpvlanMode};
use futures_util::{StreamExt, TryStreamExt};
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};
use netlink_packet_route::link::{
    InfoData, InfoIpVlan, InfoKind, InfoVrf, IpVlanFlags, IpVlanMode, LinkAttribute, LinkFlags, LinkInfo,
    LinkLayerType, LinkMessage, MacVlanMode,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{LinkIpVlan, LinkMacVlan, LinkUnspec, MulticastGroup};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// `IFA_PROTO` of addresses set here, by which stale ones are known after a crash.
pub const MARK: u8 = 0x7a;
/// The same of addresses that are here whatever the virtual routers do: they may be spoken from.
pub const STATIC_MARK: u8 = 0x7b;
/// The kernel answers within the request; a longer wait means that its answer was lost.
const ANSWER: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub ifindex: u32,
    pub addr: IpAddr,
    pub prefix: u8,
    /// The other end of a link between two.
    pub peer: Option<IpAddr>,
    pub mark: u8,
    /// Duplicate address detection is not over, or failed: it cannot be spoken from.
    pub tentative: bool,
    /// Another node has it, too.
    pub duplicate: bool,
}

#[derive(Clone, Debug)]
pub struct NewAddress {
    pub ifindex: u32,
    pub addr: IpAddr,
    /// Of the peer, if there is one.
    pub prefix: u8,
    /// The other end of a link between two.
    pub peer: Option<IpAddr>,
    /// Seconds after which the kernel takes the address off by itself; `u32::MAX` is for ever.
    pub lifetime: u32,
    pub scope: u8,
    pub label: Option<String>,
    pub broadcast: Option<Ipv4Addr>,
    pub no_prefix_route: bool,
    pub home: bool,
    pub temporary: bool,
    pub autojoin: bool,
    /// Seconds; `None`: as long as it lives, and a /128 not at all.
    pub preferred: Option<u32>,
    /// [`MARK`] or [`STATIC_MARK`]
    pub mark: u8,
}

impl NewAddress {
    /// One that stays as long as its interface does.
    fn of_link(ifindex: u32, addr: IpAddr, prefix: u8) -> Self {
        Self {
            ifindex,
            addr,
            prefix,
            peer: None,
            lifetime: u32::MAX,
            scope: 0,
            label: None,
            broadcast: None,
            no_prefix_route: false,
            home: false,
            temporary: false,
            autojoin: false,
            preferred: Some(u32::MAX),
            mark: STATIC_MARK,
        }
    }
}

/// One that is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldAddress {
    pub addr: IpAddr,
    pub prefix: u8,
    pub peer: Option<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub mac: [u8; 6],
    /// Administratively up and with carrier.
    pub usable: bool,
    pub ethernet: bool,
    /// Of a macvlan or an IPVLAN: the interface that it is beside.
    pub beside: Option<u32>,
    /// It is an IPVLAN in mode L2: its MAC address is that one's.
    pub ipvlan: Option<IpvlanMode>,
    /// Of a VRF: its table.
    pub vrf: Option<u32>,
}

impl Link {
    /// True if it is the one that was wanted, and no other interface of its name.
    pub fn is(&self, w: &NewMac) -> bool {
        let alike = self.ipvlan == w.ipvlan.map(|i| i.mode) && (w.ipvlan.is_some() || self.mac == w.mac);
        self.name == w.name && self.beside == Some(w.parent) && alike
    }
}

#[derive(Debug)]
pub enum Event {
    Link(Link),
    LinkGone(Link),
    AddressGone(Address),
    /// An address came, or was renewed.
    Address(Address),
    /// Messages were lost: everything is to be read again.
    Overrun,
}

/// Requests go over one connection and notifications over another: on a shared one the notice of an own change is swallowed.
pub struct Netlink {
    handle: rtnetlink::Handle,
}

impl Netlink {
    /// Must be called inside a runtime that goes on running.
    pub fn new() -> std::io::Result<Self> {
        let (conn, handle, _) = rtnetlink::new_connection()?;
        tokio::task::spawn_local(conn);
        Ok(Self { handle })
    }

    /// Adds an address, or refreshes its lifetime.
    pub async fn put(&self, a: &NewAddress) -> Result<(), String> {
        let mut m = AddressMessage::default();
        m.header.family = family(a.addr);
        m.header.prefix_len = a.prefix;
        m.header.index = a.ifindex;
        m.header.scope = AddressScope::from(a.scope);
        let mut flags = AddressFlags::empty();
        if a.addr.is_ipv6() {
            // Duplicate address detection would keep the address dead for a second.
            flags |= AddressFlags::Nodad;
        }
        for (said, flag) in [
            (a.no_prefix_route, AddressFlags::Noprefixroute),
            (a.home, AddressFlags::Homeaddress),
            (a.temporary, AddressFlags::Managetempaddr),
            (a.autojoin, AddressFlags::Mcautojoin),
        ] {
            if said {
                flags |= flag;
            }
        }
        m.header.flags = AddressHeaderFlags::from_bits_retain(u8::try_from(flags.bits() & 0xff).unwrap_or(0));
        m.attributes.push(AddressAttribute::Local(a.addr));
        m.attributes.push(AddressAttribute::Address(a.peer.unwrap_or(a.addr)));
        m.attributes.push(AddressAttribute::Flags(flags));
        if let Some(b) = a.broadcast {
            m.attributes.push(AddressAttribute::Broadcast(b));
        }
        if let (Some(l), true) = (&a.label, a.addr.is_ipv4()) {
            m.attributes.push(AddressAttribute::Label(l.clone()));
        }
        let mut life = CacheInfo::default();
        life.ifa_valid = a.lifetime;
        // A /128 is not to be chosen as source by chance, as in keepalived.
        let usual = if a.addr.is_ipv6() && a.prefix == 128 { 0 } else { a.lifetime };
        // It cannot be preferred for longer than it lives; it is renewed long before.
        life.ifa_preferred = a.preferred.map_or(usual, |p| p.min(a.lifetime));
        m.attributes.push(AddressAttribute::CacheInfo(life));
        m.attributes.push(AddressAttribute::Protocol(AddressProtocol::from(a.mark)));
        let mut req = NetlinkMessage::from(RouteNetlinkMessage::NewAddress(m));
        req.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.ask(req).await.map_err(words)
    }

    pub async fn remove(&self, ifindex: u32, a: &OldAddress) -> Result<(), String> {
        let mut m = AddressMessage::default();
        m.header.family = family(a.addr);
        m.header.prefix_len = a.prefix;
        m.header.index = ifindex;
        m.attributes.push(AddressAttribute::Local(a.addr));
        m.attributes.push(AddressAttribute::Address(a.peer.unwrap_or(a.addr)));
        let wait = self.handle.address().del(m).execute();
        match tokio::time::timeout(ANSWER, wait).await {
            Ok(Ok(())) => Ok(()),
            // Not there (any more) is what was wanted.
            Ok(Err(rtnetlink::Error::NetlinkError(e))) if e.to_io().raw_os_error() == Some(libc::EADDRNOTAVAIL) => {
                Ok(())
            }
            Ok(Err(e)) => Err(e.to_string()),
            Err(_) => Err("no answer from the kernel".into()),
        }
    }

    /// Adds a route or a rule that is not there, or takes one off that is.
    pub async fn way(&self, w: &Way, add: bool) -> Result<(), String> {
        let request = match super::routes::request(w, add) {
            // What leads over an interface that is gone is gone.
            Err(_) if !add => return Ok(()),
            request => request?,
        };
        match self.ask(request).await {
            Err(libc::EEXIST) if add => Ok(()),
            Err(libc::ESRCH | libc::ENOENT | libc::ENODEV) if !add => Ok(()),
            other => other.map_err(words),
        }
    }

    /// One request, and the number of the error that came back.
    async fn ask(&self, req: NetlinkMessage<RouteNetlinkMessage>) -> Result<(), i32> {
        let mut answers = self.handle.clone().request(req).map_err(|_| libc::EIO)?;
        let wait = async {
            while let Some(msg) = answers.next().await {
                if let NetlinkPayload::Error(e) = msg.payload {
                    return match e.to_io().raw_os_error() {
                        None | Some(0) => Ok(()),
                        Some(n) => Err(n),
                    };
                }
            }
            Ok(())
        };
        tokio::time::timeout(ANSWER, wait).await.unwrap_or(Err(libc::ETIMEDOUT))
    }

    /// Makes a macvlan or an IPVLAN, unless there is one of this name beside the same interface; true if there was none. The kernel gives a macvlan no
    /// address by itself.
    pub async fn make_mac(&self, w: &NewMac) -> Result<bool, String> {
        let failed = |e: String| format!("cannot make interface {} beside {}: {e}", w.name, w.base);
        let found = self.link_named(&w.name).await;
        if let Some(l) = &found {
            let l = link(l);
            if l.beside != Some(w.parent) || l.ipvlan != w.ipvlan.map(|i| i.mode) {
                return Err(failed("there is another one of this name".into()));
            }
        } else {
            self.handle.link().add(new_link(w)).execute().await.map_err(|e| failed(said(&e)))?;
        }
        // Before it is up: both nodes would make the same link-local address of its MAC address.
        // Nor does it take addresses and routes from a router's advertisements.
        // Of an IPVLAN the kernel makes another than its parent's.
        let silent = [("addr_gen_mode", "1")].into_iter().filter(|_| w.ipvlan.is_none());
        for (what, value) in silent.chain([("accept_ra", "0"), ("autoconf", "0")]) {
            let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{}/{what}", w.name), value);
        }
        let mut up = LinkUnspec::new_with_name(&w.name).up();
        if w.ipvlan.is_none() {
            up = up.address(w.mac.to_vec());
        }
        self.handle.link().set(up.build()).execute().await.map_err(|e| failed(said(&e)))?;
        if let Some(a) = w.ipvlan.and_then(|i| i.addr) {
            let made = self.link_named(&w.name).await.ok_or_else(|| failed("it is gone already".into()))?;
            // What a predecessor spoke from may be somebody else's by now.
            let stale = |o: &Address| o.ifindex == made.header.index && o.mark == STATIC_MARK && o.addr != a.addr;
            for o in self.addresses().await?.into_iter().filter(stale) {
                self.remove(o.ifindex, &OldAddress { addr: o.addr, prefix: o.prefix, peer: o.peer }).await?;
            }
            let own = NewAddress::of_link(made.header.index, a.addr, a.prefix);
            self.put(&own).await.map_err(|e| failed(format!("its address {}/{}: {e}", a.addr, a.prefix)))?;
        }
        Ok(found.is_none())
    }

    async fn link_named(&self, name: &str) -> Option<LinkMessage> {
        self.handle.link().get().match_name(name.to_owned()).execute().try_next().await.ok().flatten()
    }

    /// Removes what [`Netlink::make_mac`] made. Whatever else has its name stays.
    pub async fn remove_mac(&self, w: &NewMac) {
        if let Some(l) = self.link_named(&w.name).await
            && link(&l).is(w)
        {
            let _ = self.handle.link().del(l.header.index).execute().await;
        }
    }

    pub async fn addresses(&self) -> Result<Vec<Address>, String> {
        let all: Vec<AddressMessage> =
            self.handle.address().get().execute().try_collect().await.map_err(|e| e.to_string())?;
        Ok(all.iter().filter_map(address).collect())
    }

    pub async fn links(&self) -> Result<Vec<Link>, String> {
        let all: Vec<LinkMessage> =
            self.handle.link().get().execute().try_collect().await.map_err(|e| e.to_string())?;
        Ok(all.iter().map(link).collect())
    }
}

/// What the keeper is told.
enum Order {
    Put {
        all: Vec<NewAddress>,
        tag: Option<u64>,
    },
    Remove(u32, OldAddress),
    /// Routes and rules, on or off.
    Ways {
        all: Vec<Way>,
        add: bool,
        tag: Option<u64>,
    },
    Open {
        tag: u64,
        wanted: Wanted,
    },
    Promote(String),
    QuietGroups,
    Pings(u32),
    MakeMac(NewMac),
    /// Settings of one that is there.
    SettleMac(NewMac),
    RemoveMac(NewMac),
    Restore,
    Survey,
}

/// A macvlan with a MAC address of its own, or an IPVLAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMac {
    pub name: String,
    /// The interface beside which it is.
    pub base: String,
    pub parent: u32,
    /// Of an IPVLAN all zeros.
    pub mac: [u8; 6],
    pub ipvlan: Option<Ipvlan>,
    pub group: Option<u32>,
}

impl NewMac {
    /// True if both are one interface, whatever else is said of it.
    pub fn is_same(&self, o: &Self) -> bool {
        self.name == o.name && self.parent == o.parent && self.mac == o.mac && self.ipvlan == o.ipvlan
    }
}

/// A VRRP socket pair to be opened: see [`Opened`].
#[derive(Clone, Debug)]
pub struct Wanted {
    pub wire: super::raw::Wire,
    /// The interface that adverts leave on, where it is not the one that they are heard on.
    pub out: Option<(String, u32)>,
    /// Address that adverts leave from.
    pub src: Option<IpAddr>,
    /// What is sent to others of our addresses is for others: of unicast that comes over any interface.
    pub only_to_source: bool,
}

/// One socket for sending and one for hearing: bound to a source address, a raw socket would not hear multicast.
#[derive(Debug)]
pub struct Opened {
    pub sending: socket2::Socket,
    pub hearing: socket2::Socket,
}

/// What the keeper has done.
#[derive(Debug)]
pub enum Done {
    /// Addresses are on, or these could not be added. `tag` as in the order.
    Put {
        tag: Option<u64>,
        failures: Vec<String>,
    },
    Opened {
        tag: u64,
        result: std::io::Result<Opened>,
    },
    /// Routes and rules are on or off, or these could not be.
    Ways {
        tag: Option<u64>,
        failures: Vec<String>,
    },
    /// An interface with a MAC address of its own could not be made.
    NotMade {
        name: String,
        why: String,
    },
    /// Everything there is, read anew.
    Survey(Vec<Link>, Vec<Address>),
}

/// Does what takes the kernel's lock for network changes, on a thread of its own and in the order it is told: that lock is shared with all that happens to
/// any network namespace of the host, and may keep a caller waiting for hundreds of milliseconds (seen), in which adverts have to go on.
pub struct Keeper(tokio::sync::mpsc::UnboundedSender<Order>);

impl Keeper {
    /// The keeper, and where it reports.
    pub fn start() -> std::io::Result<(Self, tokio::sync::mpsc::UnboundedReceiver<Done>)> {
        let (tx, mut orders) = tokio::sync::mpsc::unbounded_channel();
        let (report, done) = tokio::sync::mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("addresses".into()).spawn(move || {
            tokio::task::LocalSet::new().block_on(&runtime, async move {
                let Ok(netlink) = Netlink::new() else { return };
                let mut changed = Vec::new();
                while let Some(o) = orders.recv().await {
                    let said = match o {
                        Order::Put { all, tag } => {
                            let mut failures = Vec::new();
                            for a in &all {
                                if let Err(e) = netlink.put(a).await {
                                    failures.push(format!("cannot add {}/{}: {e}", a.addr, a.prefix));
                                }
                            }
                            Done::Put { tag, failures }
                        }
                        Order::Remove(ifindex, old) => {
                            let _ = netlink.remove(ifindex, &old).await;
                            continue;
                        }
                        Order::Ways { all, add, tag } => {
                            let mut failures = Vec::new();
                            for w in &all {
                                if let Err(e) = netlink.way(w, add).await {
                                    failures.push(format!(
                                        "cannot {} {}: {e}",
                                        if add { "add" } else { "remove" },
                                        w.text()
                                    ));
                                }
                            }
                            Done::Ways { tag, failures }
                        }
                        Order::Promote(ifname) => {
                            promote(&ifname, &mut changed);
                            continue;
                        }
                        Order::QuietGroups => {
                            set("/proc/sys/net/ipv4/igmp_link_local_mcast_reports".into(), "0", &mut changed);
                            continue;
                        }
                        Order::MakeMac(w) => match netlink.make_mac(&w).await {
                            Ok(_) => {
                                settle_mac(&w, &mut changed);
                                continue;
                            }
                            Err(why) => Done::NotMade { name: w.name, why },
                        },
                        Order::SettleMac(w) => {
                            settle_mac(&w, &mut changed);
                            continue;
                        }
                        Order::RemoveMac(w) => {
                            netlink.remove_mac(&w).await;
                            continue;
                        }
                        Order::Pings(gid) => {
                            allow_pings(gid, &mut changed);
                            continue;
                        }
                        Order::Restore => {
                            changed.drain(..).for_each(|(path, old): (String, String)| drop(std::fs::write(path, old)));
                            continue;
                        }
                        Order::Open { tag, wanted } => Done::Opened { tag, result: open(&wanted) },
                        Order::Survey => match (netlink.links().await, netlink.addresses().await) {
                            (Ok(l), Ok(a)) => Done::Survey(l, a),
                            _ => continue,
                        },
                    };
                    if report.send(said).is_err() {
                        return;
                    }
                }
            });
        })?;
        Ok((Self(tx), done))
    }

    /// Adds or renews addresses.
    pub fn put(&self, all: Vec<NewAddress>, tag: Option<u64>) {
        let _ = self.0.send(Order::Put { all, tag });
    }

    pub fn remove(&self, ifindex: u32, old: OldAddress) {
        let _ = self.0.send(Order::Remove(ifindex, old));
    }

    /// Adds routes and rules, or takes them off in the order given.
    pub fn ways(&self, all: Vec<Way>, add: bool, tag: Option<u64>) {
        if !all.is_empty() {
            let _ = self.0.send(Order::Ways { all, add, tag });
        }
    }

    /// `promote_secondaries`: the other addresses of a network stay when the first one goes. Undone by [`Keeper::restore`].
    pub fn promote(&self, ifname: &str) {
        let _ = self.0.send(Order::Promote(ifname.to_owned()));
    }

    /// `disable_local_igmp`: the groups that routers speak to are forwarded everywhere (RFC 4541, 2.1.2). Undone by [`Keeper::restore`].
    pub fn quiet_groups(&self) {
        let _ = self.0.send(Order::QuietGroups);
    }

    pub fn make_mac(&self, w: NewMac) {
        let _ = self.0.send(Order::MakeMac(w));
    }

    /// What the kernel has to be told so that packets for its addresses arrive on it, and on nothing else. Undone by [`Keeper::restore`].
    pub fn settle_mac(&self, w: NewMac) {
        let _ = self.0.send(Order::SettleMac(w));
    }

    pub fn remove_mac(&self, w: NewMac) {
        let _ = self.0.send(Order::RemoveMac(w));
    }

    /// Lets processes of a group send echo requests. Undone by [`Keeper::restore`].
    pub fn allow_pings(&self, gid: u32) {
        let _ = self.0.send(Order::Pings(gid));
    }

    /// Puts back what was changed in the kernel's settings.
    pub fn restore(&self) {
        let _ = self.0.send(Order::Restore);
    }

    /// Joining a multicast group takes the lock as well.
    pub fn open(&self, tag: u64, wanted: Wanted) {
        let _ = self.0.send(Order::Open { tag, wanted });
    }

    pub fn survey(&self) {
        let _ = self.0.send(Order::Survey);
    }
}

/// What the kernel answered to a request of the library's.
fn said(e: &rtnetlink::Error) -> String {
    match e {
        rtnetlink::Error::NetlinkError(e) => match e.to_io().raw_os_error() {
            Some(libc::EOPNOTSUPP) => "this kernel has no interfaces of that kind (modules macvlan, ipvlan)".into(),
            Some(n) => words(n),
            None => e.to_string(),
        },
        e => e.to_string(),
    }
}

/// What the kernel answered, or that it did not.
fn words(errno: i32) -> String {
    match errno {
        libc::ETIMEDOUT => "no answer from the kernel".into(),
        e => crate::base::diag::io_words(&std::io::Error::from_raw_os_error(e)),
    }
}

/// Of an IPVLAN in mode L2.
fn ipvlan_mode(data: &[InfoIpVlan]) -> Option<IpvlanMode> {
    if !data.contains(&InfoIpVlan::Mode(IpVlanMode::L2)) {
        return None;
    }
    let flags = data.iter().find_map(|d| if let InfoIpVlan::Flags(f) = d { Some(*f) } else { None });
    Some(match flags.unwrap_or_default() {
        f if f.contains(IpVlanFlags::Private) => IpvlanMode::Private,
        f if f.contains(IpVlanFlags::Vepa) => IpvlanMode::Vepa,
        _ => IpvlanMode::Bridge,
    })
}

/// The message that makes an interface beside another.
fn new_link(w: &NewMac) -> LinkMessage {
    match w.ipvlan {
        None => {
            let b = LinkMacVlan::new(&w.name, w.parent, MacVlanMode::Private).address(w.mac.to_vec());
            if let Some(g) = w.group { b.link_group(g).build() } else { b.build() }
        }
        Some(i) => {
            let flags = match i.mode {
                IpvlanMode::Bridge => IpVlanFlags::empty(),
                IpvlanMode::Private => IpVlanFlags::Private,
                IpvlanMode::Vepa => IpVlanFlags::Vepa,
            };
            let b = LinkIpVlan::new(&w.name, w.parent, IpVlanMode::L2).append_info_data(InfoIpVlan::Flags(flags));
            if let Some(g) = w.group { b.link_group(g).build() } else { b.build() }
        }
    }
}

/// Sets a setting of the kernel, and notes what it was.
fn set(path: String, value: &str, changed: &mut Vec<(String, String)>) {
    let Ok(old) = std::fs::read_to_string(&path) else { return };
    let old = old.trim().to_owned();
    if old != value && std::fs::write(&path, value).is_ok() && !changed.iter().any(|c| c.0 == path) {
        changed.push((path, old));
    }
}

/// Questions for an address are answered by the interface that has it; reverse paths are not asked of one whose answers leave elsewhere.
fn settle_mac(w: &NewMac, changed: &mut Vec<(String, String)>) {
    let v4 = |name: &str, what: &str| format!("/proc/sys/net/ipv4/conf/{name}/{what}");
    for (what, value) in [("arp_ignore", "1"), ("arp_filter", "0"), ("accept_local", "1"), ("rp_filter", "0")] {
        // Gone with the interface: nothing to put back.
        let _ = std::fs::write(v4(&w.name, what), value);
    }
    // What shares a MAC address with another may be answered for by it.
    if w.ipvlan.is_none() {
        set(v4(&w.base, "arp_ignore"), "1", changed);
        set(v4(&w.base, "arp_announce"), "2", changed);
    }
    // What is set for all counts for each: each of the others gets it for itself.
    let all: u8 = std::fs::read_to_string(v4("all", "rp_filter")).ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0);
    if all > 0 {
        let names = std::fs::read_dir("/proc/sys/net/ipv4/conf").into_iter().flatten().flatten();
        for name in names.filter_map(|n| n.file_name().into_string().ok()).filter(|n| *n != "all" && *n != w.name) {
            let own: u8 =
                std::fs::read_to_string(v4(&name, "rp_filter")).ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0);
            set(v4(&name, "rp_filter"), &own.max(all).to_string(), changed);
        }
        set(v4("all", "rp_filter"), "0", changed);
    }
}

/// Widens `ping_group_range`, if this group is not in it.
fn allow_pings(gid: u32, changed: &mut Vec<(String, String)>) {
    let path = "/proc/sys/net/ipv4/ping_group_range";
    let Ok(old) = std::fs::read_to_string(path) else { return };
    let mut range = old.split_whitespace().map(|n| n.parse::<u32>().unwrap_or(u32::MAX));
    let (Some(lo), Some(hi)) = (range.next(), range.next()) else { return };
    let empty = lo > hi;
    if !empty && (lo..=hi).contains(&gid) {
        return;
    }
    let (lo, hi) = if empty { (gid, gid) } else { (lo.min(gid), hi.max(gid)) };
    if std::fs::write(path, format!("{lo} {hi}")).is_ok() {
        changed.push((path.to_owned(), old.trim().to_owned()));
    }
}

/// Sets an interface's `promote_secondaries`, and notes it if it was not set.
fn promote(ifname: &str, changed: &mut Vec<(String, String)>) {
    let path = format!("/proc/sys/net/ipv4/conf/{ifname}/promote_secondaries");
    let was_off = std::fs::read_to_string(&path).is_ok_and(|v| v.trim() == "0");
    if was_off && std::fs::write(&path, "1").is_ok() {
        changed.push((path, "0".to_owned()));
    }
}

fn open(w: &Wanted) -> std::io::Result<Opened> {
    let mut out = w.wire.clone();
    if let Some((name, index)) = &w.out {
        (out.ifname, out.ifindex, out.group) = (Some(name.clone()), *index, None);
    }
    let sending = super::raw::vrrp(&out)?;
    super::raw::deafen(&sending)?;
    if let Some(src) = w.src {
        super::raw::bind_source(&sending, src, out.ifindex)?;
    }
    let hearing = super::raw::vrrp(&w.wire)?;
    if let (true, Some(src)) = (w.only_to_source, w.src) {
        super::raw::bind_source(&hearing, src, 0)?;
    }
    Ok(Opened { sending, hearing })
}

/// Watches links and addresses. Must be called inside the runtime.
pub fn monitor() -> std::io::Result<tokio::sync::mpsc::UnboundedReceiver<Event>> {
    let (conn, handle, mut messages) = rtnetlink::new_multicast_connection(&[
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
    ])?;
    tokio::task::spawn_local(conn);
    let (tx, rx) = tokio::sync::mpsc::unbounded_channel();
    tokio::task::spawn_local(async move {
        let _keep = handle;
        while let Some((m, _)) = messages.next().await {
            let event = match m.payload {
                // Bridges report ports that leave them in the same group: the link itself is still there.
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(l) | RouteNetlinkMessage::DelLink(l))
                    if l.header.interface_family != AddressFamily::Unspec =>
                {
                    continue;
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(l)) => Event::Link(link(&l)),
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(l)) => Event::LinkGone(link(&l)),
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(a)) => match address(&a) {
                    Some(a) => Event::AddressGone(a),
                    None => continue,
                },
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(a)) => match address(&a) {
                    Some(a) => Event::Address(a),
                    None => continue,
                },
                NetlinkPayload::Overrun(_) => Event::Overrun,
                _ => continue,
            };
            if tx.send(event).is_err() {
                return;
            }
        }
    });
    Ok(rx)
}

/// Watches for routes and rules that go. Of a router's thousands only those that keepalived and its like put there are told, unless they say another protocol.
pub fn monitor_ways(protocols: Vec<u8>) -> std::io::Result<tokio::sync::mpsc::UnboundedReceiver<Option<Gone>>> {
    let (conn, handle, mut messages) = rtnetlink::new_multicast_connection(&[
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
        MulticastGroup::Ipv4Rule,
        MulticastGroup::Ipv6Rule,
    ])?;
    tokio::task::spawn_local(conn);
    let (tx, rx) = tokio::sync::mpsc::unbounded_channel();
    tokio::task::spawn_local(async move {
        let _keep = handle;
        while let Some((m, _)) = messages.next().await {
            let gone = match &m.payload {
                NetlinkPayload::InnerMessage(m) => match Gone::of(m) {
                    Some(g) if protocols.contains(&g.protocol()) => Some(g),
                    _ => continue,
                },
                // Some were lost: nobody knows which.
                NetlinkPayload::Overrun(_) => None,
                _ => continue,
            };
            if tx.send(gone).is_err() {
                return;
            }
        }
    });
    Ok(rx)
}

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn address(m: &AddressMessage) -> Option<Address> {
    let (mut local, mut other, mut mark) = (None, None, 0);
    let mut flags = AddressFlags::from_bits_retain(u32::from(m.header.flags.bits()));
    for a in &m.attributes {
        match a {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => other = Some(*ip),
            AddressAttribute::Protocol(p) => mark = u8::from(*p),
            AddressAttribute::Flags(f) => flags = *f,
            _ => {}
        }
    }
    let tentative = flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed);
    let duplicate = flags.contains(AddressFlags::Dadfailed);
    Some(Address {
        ifindex: m.header.index,
        addr: local.or(other)?,
        peer: other.filter(|o| local.is_some_and(|l| l != *o)),
        prefix: m.header.prefix_len,
        mark,
        tentative,
        duplicate,
    })
}

fn link(m: &LinkMessage) -> Link {
    let f = m.header.flags;
    let mut l = Link {
        index: m.header.index,
        name: String::new(),
        mac: [0; 6],
        usable: f.contains(LinkFlags::Up) && f.contains(LinkFlags::Running),
        ethernet: m.header.link_layer_type == LinkLayerType::Ether,
        beside: None,
        ipvlan: None,
        vrf: None,
    };
    let (mut parent, mut is_macvlan) = (None, false);
    for a in &m.attributes {
        match a {
            LinkAttribute::IfName(n) => l.name.clone_from(n),
            LinkAttribute::Address(b) => l.mac = b.as_slice().try_into().unwrap_or_default(),
            LinkAttribute::Link(p) => parent = Some(*p),
            LinkAttribute::LinkInfo(all) => {
                is_macvlan = all.contains(&LinkInfo::Kind(InfoKind::MacVlan));
                l.ipvlan = all.iter().find_map(|i| match i {
                    LinkInfo::Data(InfoData::IpVlan(d)) => ipvlan_mode(d),
                    _ => None,
                });
                l.vrf = all.iter().find_map(|i| match i {
                    LinkInfo::Data(InfoData::Vrf(d)) => d.iter().find_map(|d| match d {
                        InfoVrf::TableId(t) => Some(*t),
                        _ => None,
                    }),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    l.beside = parent.filter(|_| is_macvlan || l.ipvlan.is_some());
    l
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This kernel may have no IPVLAN: what it is asked for is looked at.
    #[test]
    fn an_ipvlan_is_asked_for_as_keepalived_does() {
        for (mode, flags) in [(IpvlanMode::Bridge, 0u8), (IpvlanMode::Private, 1), (IpvlanMode::Vepa, 2)] {
            let w = NewMac {
                name: "vrrp.51".into(),
                base: "v0".into(),
                parent: 3,
                mac: [0; 6],
                ipvlan: Some(Ipvlan { mode, addr: None }),
                group: Some(7),
            };
            let asked = new_link(&w);
            let mut req = NetlinkMessage::from(RouteNetlinkMessage::NewLink(asked.clone()));
            req.finalize();
            let mut bytes = vec![0; req.buffer_len()];
            req.serialize(&mut bytes);
            let has = |part: &[u8]| bytes.windows(part.len()).any(|b| b == part);
            // IFLA_IPVLAN_MODE (1): L2, and IFLA_IPVLAN_FLAGS (2), each in two octets and two of padding.
            assert!(has(&[6, 0, 1, 0, 0, 0, 0, 0, 6, 0, 2, 0, flags, 0, 0, 0]), "{bytes:x?}");
            assert!(has(b"ipvlan"));
            // IFLA_GROUP (27)
            assert!(has(&[8, 0, 27, 0, 7, 0, 0, 0]));
            let made = link(&asked);
            assert!(made.is(&w) && made.ipvlan == Some(mode));
            let other = if mode == IpvlanMode::Vepa { IpvlanMode::Bridge } else { IpvlanMode::Vepa };
            assert!(!made.is(&NewMac { ipvlan: Some(Ipvlan { mode: other, addr: None }), ..w.clone() }));
            assert!(!made.is(&NewMac { ipvlan: None, ..w.clone() }));
            assert!(!made.is(&NewMac { parent: 4, ..w }));
        }
    }
}
