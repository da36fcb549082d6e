//! Ring 4: two nodes, real peers, a real network in namespaces; the table that the project is judged by.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

mod support;

use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{Case, Need, tandem, wait_for};
use tandem_proxy::cli::demo::lab::{Lab, Node, address, command};
use tandem_proxy::cli::demo::stage::{Dialect, Event, Stage, VIP};

fn main() {
    support::run(&[
        Case { name: "fast_adverts_table", needs: &[Need::Root], run: fast_table },
        Case { name: "adverts_every_ten_milliseconds", needs: &[Need::Root], run: fastest },
        Case { name: "two_hundred_addresses", needs: &[Need::Root], run: many_addresses },
        Case { name: "usual_adverts_table", needs: &[Need::Root], run: usual_table },
        Case { name: "proxy_killed_ten_times", needs: &[Need::Root], run: killed_ten_times },
        Case { name: "both_proxies_killed", needs: &[Need::Root], run: both_killed },
        Case { name: "full_load_moves_nothing", needs: &[Need::Root], run: full_load },
        Case { name: "hostile_adverts_are_counted_and_dropped", needs: &[Need::Root], run: hostile_adverts },
        Case { name: "keepalived_as_backup_peer", needs: &[Need::Root, Need::Keepalived], run: keepalived_backup },
        Case { name: "keepalived_as_master_peer", needs: &[Need::Root, Need::Keepalived], run: keepalived_master },
        Case { name: "keepalived_nopreempt_peer", needs: &[Need::Root, Need::Keepalived], run: keepalived_nopreempt },
        Case { name: "keepalived_over_ipv6", needs: &[Need::Root, Need::Keepalived], run: keepalived_ipv6 },
        Case { name: "keepalived_version_3_unicast", needs: &[Need::Root, Need::Keepalived], run: keepalived_unicast },
        Case {
            name: "keepalived_and_unicast_without_an_interface",
            needs: &[Need::Root, Need::Keepalived],
            run: keepalived_unbound,
        },
        Case { name: "keepalived_sync_group", needs: &[Need::Root, Need::Keepalived], run: keepalived_group },
        Case { name: "keepalived_split_as_master", needs: &[Need::Root, Need::Keepalived], run: keepalived_split },
        Case {
            name: "keepalived_with_authentication_headers",
            needs: &[Need::Root, Need::Keepalived],
            run: keepalived_header,
        },
        Case { name: "files_processes_fifos_and_dumps", needs: &[Need::Root], run: outside },
        Case {
            name: "keepalived_with_virtual_mac_addresses",
            needs: &[Need::Root, Need::Keepalived],
            run: keepalived_vmac,
        },
        Case { name: "versions_mixed", needs: &[Need::Root, Need::Keepalived], run: mixed_versions },
        Case { name: "ucarp_as_peer", needs: &[Need::Root, Need::Ucarp], run: ucarp },
        Case { name: "routes_and_rules_move_with_the_address", needs: &[Need::Root], run: routes },
        Case {
            name: "a_static_route_that_a_router_tracks",
            needs: &[Need::Root, Need::Keepalived],
            run: guarded_route,
        },
        Case { name: "a_reload_alters_an_address", needs: &[Need::Root], run: altered_address },
        Case { name: "addresses_with_interfaces_of_their_own", needs: &[Need::Root], run: address_macs },
        Case { name: "keepalived_as_bfd_neighbour", needs: &[Need::Root, Need::Keepalived], run: keepalived_bfd },
        Case { name: "backends_move_the_priority", needs: &[Need::Root], run: inside },
        Case { name: "adverts_keep_time_in_a_flood", needs: &[Need::Root], run: flood },
        Case { name: "clients_of_a_hung_proxy_are_reset", needs: &[Need::Root], run: hung_clients },
        Case { name: "a_guardian_that_is_back_at_once_keeps_the_address", needs: &[Need::Root], run: guardian_back },
        Case { name: "an_address_that_somebody_left_is_removed", needs: &[Need::Root], run: left_address },
        Case { name: "a_frozen_guardian_says_nothing_of_what_it_missed", needs: &[Need::Root], run: frozen },
        Case { name: "tracks_yield_and_strict_ones_fault", needs: &[Need::Root], run: tracks },
    ]);
}

const MS: fn(u64) -> Duration = Duration::from_millis;

fn play(stage: &mut Stage, e: Event) -> Duration {
    let limit = stage.limit(e);
    // The machines are shared: a stall of a whole host is told from a slow failover by doing it again. One was seen to last for two.
    for last in [false, false, false, false, true] {
        let c = stage.play(e).unwrap_or_else(|why| panic!("{}: {why}", e.name()));
        println!(
            "    {:<30} outage {:>7.1} ms (limit {}), failed {}, new {}",
            e.name(),
            c.outage.as_secs_f64() * 1000.0,
            limit.outage.as_millis(),
            c.failed,
            c.failed_new
        );
        let good = c.outage <= limit.outage && c.failed_new == 0 && (!limit.none_fails || c.failed == 0);
        assert!(good || !last, "{}: {c:?}\n{}", e.name(), stage.logs());
        if good {
            return c.outage;
        }
    }
    unreachable!("the last try is good or has failed")
}

fn table(d: &Dialect) {
    let mut s = Stage::new(&tandem(), d).unwrap();
    assert!(s.settle(Duration::from_secs(20)), "{}", s.logs());
    for e in Event::ALL {
        play(&mut s, *e);
    }
}

fn fast_table() {
    table(&Dialect::FAST);
}

/// The shortest interval: what is promised for a killed proxy, a cut link and a planned switch, which the middle one of three has to keep.
fn fastest() {
    let mut s = Stage::new(&tandem(), &Dialect::FASTEST).unwrap();
    assert!(s.settle(Duration::from_secs(20)), "{}", s.logs());
    // A planned switch may cost no new connection at all, which each of them is judged by; a kept one may lose a request, of which there is one every 5 ms.
    for (e, promised) in [(Event::KillProxy, MS(15)), (Event::CutLink, MS(60)), (Event::PlannedSwitch, MS(10))] {
        let mut all: Vec<Duration> = (0..3).map(|_| play(&mut s, e)).collect();
        all.sort();
        assert!(all[1] < promised, "{}: {all:?}\n{}", e.name(), s.logs());
    }
}

/// 200 addresses on one router with adverts every 10 ms: all are put on and announced, and no peer takes the master for dead meanwhile.
fn many_addresses() {
    let mut m = Mixed::new();
    m.vips = (0..200u8).map(|n| IpAddr::from([10, 78, 0, n])).collect();
    let conf = |priority: u8, extra: &str| {
        let vips: String = m.vips.iter().map(|v| format!(" {v}/32\n")).collect();
        format!(
            "vrrp_instance V {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n version 3\n priority {priority}\n advert_int 0.01\n {extra}\n virtual_ipaddress {{\n{vips} }}\n}}\n"
        )
    };
    let (ours, theirs) = (conf(150, "garp_master_delay 1"), conf(100, ""));
    m.start_keepalived_with(&theirs);
    m.moves_to(1, Duration::from_secs(8));
    m.start_tandem_with(&ours);
    // A master was heard before the proxy served: it has its probation.
    m.moves_to(0, Duration::from_secs(16));
    // Announcements, the second set of them, and renewals of all the addresses.
    m.stays_on(0, Duration::from_secs(4));
    let log = std::fs::read_to_string(m.path("t.log")).unwrap();
    assert_eq!(log.matches("Entering").count(), 2, "{log}");
    // An address that somebody takes away is back soon: the middle one of five within 50 ms.
    let mut times: Vec<Duration> = (0..5)
        .map(|n| {
            let gone = m.vips[7 + n];
            assert_eq!(ip(&m, 0, &["addr", "del", &format!("{gone}/32"), "dev", "eth0"]), "");
            let at = Instant::now();
            assert!(wait_for(MS(2000), || m.lab.addresses(0).contains(&gone)), "it was not put back");
            at.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("    put back after {times:?}");
    assert!(times[2] <= MS(50), "{times:?}");
}

fn usual_table() {
    table(&Dialect::USUAL);
}

/// The middle one of ten is within the limit, and none loses a new connection: a single one may fall into a stall of a shared machine.
fn killed_ten_times() {
    let mut s = Stage::new(&tandem(), &Dialect::FAST).unwrap();
    assert!(s.settle(Duration::from_secs(20)), "{}", s.logs());
    let limit = s.limit(Event::KillProxy).outage;
    let mut outages = Vec::new();
    for _ in 0..10 {
        let c = s.play(Event::KillProxy).unwrap_or_else(|why| panic!("{why}\n{}", s.logs()));
        assert!(c.failed_new == 0, "{c:?}\n{}", s.logs());
        outages.push(c.outage);
    }
    outages.sort_unstable();
    println!("    outages {outages:?} (limit {limit:?})");
    assert!(outages[5] <= limit, "{outages:?}\n{}", s.logs());
}

/// The address stays somewhere, and service returns when one proxy is back.
fn both_killed() {
    let s = Stage::new(&tandem(), &Dialect::USUAL).unwrap();
    assert!(s.settle(Duration::from_secs(20)), "{}", s.logs());
    let workers: Vec<(usize, i32)> = (0..2).map(|n| (n, s.nodes[n].as_ref().unwrap().worker().unwrap())).collect();
    let at = Instant::now();
    for (n, w) in workers {
        s.nodes[n].as_ref().unwrap().signal(w, 9);
    }
    let served = || s.prober.since(at).iter().any(|p| p.begun > at + MS(5) && p.result.is_ok());
    assert!(wait_for(Duration::from_secs(5), served), "{}", s.logs());
    let first =
        s.prober.since(at).iter().filter(|p| p.begun > at + MS(5) && p.result.is_ok()).map(|p| p.ended).min().unwrap();
    println!("    service returned after {:?}", first - at);
    assert!(first - at < MS(300), "{:?}\n{}", first - at, s.logs());
    assert!(s.master().is_some());
}

/// Both cores busy with other work and as much traffic as they give: no yield, no transition. TANDEM_SOAK sets the seconds, TANDEM_SOAK_FASTEST adverts
/// every 10 ms.
fn full_load() {
    use std::io::{Read, Write};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
    let seconds = std::env::var("TANDEM_SOAK").ok().and_then(|s| s.parse().ok()).unwrap_or(20);
    let fastest = std::env::var_os("TANDEM_SOAK_FASTEST").is_some();
    let s = Stage::new(&tandem(), if fastest { &Dialect::FASTEST } else { &Dialect::FAST }).unwrap();
    assert!(s.settle(Duration::from_secs(20)), "{}", s.logs());
    let before = s.logs().matches("Entering").count();
    let workers: Vec<_> = s.nodes.iter().map(|n| n.as_ref().unwrap().worker().unwrap()).collect();
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let answers = std::sync::Arc::new(AtomicU64::new(0));
    let mut threads = Vec::new();
    for _ in 0..std::thread::available_parallelism().unwrap().get() * 2 {
        let stop = stop.clone();
        threads.push(std::thread::spawn(move || {
            while !stop.load(Relaxed) {
                std::hint::black_box((0..100_000u64).fold(1u64, |a, b| a.wrapping_mul(31).wrapping_add(b)));
            }
        }));
    }
    for _ in 0..4 {
        let (stop, answers) = (stop.clone(), answers.clone());
        threads.push(
            s.lab.hosts[2]
                .thread(move || {
                    let mut buf = [0u8; 4096];
                    while !stop.load(Relaxed) {
                        let Ok(mut c) = std::net::TcpStream::connect((VIP, 80)) else { continue };
                        let _ = c.set_read_timeout(Some(Duration::from_secs(5)));
                        for _ in 0..1000 {
                            if stop.load(Relaxed)
                                || c.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").is_err()
                                || !c.read(&mut buf).is_ok_and(|n| n > 0)
                            {
                                break;
                            }
                            answers.fetch_add(1, Relaxed);
                        }
                    }
                })
                .unwrap(),
        );
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    let calm = !wait_for(end - Instant::now(), || s.logs().matches("Entering").count() != before);
    stop.store(true, Relaxed);
    threads.into_iter().for_each(|t| t.join().unwrap());
    println!("    {} answers in {seconds} s", answers.load(Relaxed));
    assert!(calm, "{}", s.logs());
    assert_eq!(
        workers,
        s.nodes.iter().map(|n| n.as_ref().unwrap().worker().unwrap()).collect::<Vec<_>>(),
        "a worker was replaced\n{}",
        s.logs()
    );
}

/// Packets that are no proper adverts change nothing and are counted.
fn hostile_adverts() {
    let s = Stage::new(&tandem(), &Dialect::FAST).unwrap();
    assert!(s.settle(Duration::from_secs(20)), "{}", s.logs());
    let sent = s.lab.hosts[2]
        .run(|| {
            let group: IpAddr = "224.0.0.18".parse().unwrap();
            let raw = tandem_proxy::net::raw::vrrp(&tandem_proxy::net::raw::Wire {
                six: false,
                ifname: Some("eth0".into()),
                ifindex: eth0(),
                group: Some(group),
                header: false,
                ttl: 255,
            })
            .unwrap();
            let mut good = Vec::new();
            let a = tandem_proxy::vrrp::packet::Advert {
                version: tandem_proxy::vrrp::timing::Version::V3,
                vrid: 51,
                priority: 254,
                interval: MS(50),
                addrs: vec![VIP],
                auth: (0, [0; 8]),
            };
            a.emit(address(2), group, false, &mut good);
            let mut n = 0;
            let mut send = |bytes: &[u8]| {
                tandem_proxy::net::raw::send(&raw, group, eth0(), bytes).unwrap();
                n += 1;
            };
            for cut in 0..good.len() {
                send(&good[..cut]);
            }
            for at in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 0x55;
                send(&bad);
            }
            // A proper advert that has crossed a router.
            raw.set_multicast_ttl_v4(64).unwrap();
            tandem_proxy::net::raw::send(&raw, group, eth0(), &good).unwrap();
            n + 1
        })
        .unwrap();
    let counted = || {
        (0..2)
            .map(|n| {
                let text = command(&s.socket(n), "show vrrp rejected").unwrap_or_default();
                text.split_whitespace().filter_map(|w| w.split_once('=')?.1.parse::<usize>().ok()).sum::<usize>()
            })
            .min()
            .unwrap_or(0)
    };
    // An empty datagram is none, so one less may arrive.
    assert!(wait_for(Duration::from_secs(5), || counted() + 1 >= sent), "{} of {sent} counted", counted());
    assert!(s.settle(Duration::from_secs(2)), "{}", s.logs());
}

fn eth0() -> u32 {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev_mcast").unwrap_or_default();
    text.lines()
        .find(|l| l.contains("eth0"))
        .and_then(|l| l.split_whitespace().next()?.parse().ok())
        .expect("eth0 has multicast groups")
}

/// A Tandem and a real keepalived on one wire.
struct Mixed {
    lab: Lab,
    tandem: Option<Node>,
    keepalived: Option<Child>,
    dir: tempfile::TempDir,
    /// What moves.
    vips: Vec<IpAddr>,
}

impl Drop for Mixed {
    fn drop(&mut self) {
        if let Some(mut k) = self.keepalived.take() {
            end(&mut k, 15);
        }
    }
}

fn end(c: &mut Child, signal: i32) {
    let _ = Command::new("kill").args([format!("-{signal}"), c.id().to_string()]).status();
    if !wait_for(Duration::from_secs(5), || c.try_wait().is_ok_and(|s| s.is_some())) {
        let _ = c.kill();
        let _ = c.wait();
    }
}

impl Mixed {
    fn new() -> Self {
        Self {
            lab: Lab::new(2).unwrap(),
            tandem: None,
            keepalived: None,
            dir: tempfile::tempdir().unwrap(),
            vips: vec![VIP],
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn conf(&self, priority: u8, extra: &str) -> String {
        format!(
            "vrrp_instance VI_1 {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n priority {priority}\n advert_int 1\n {extra}\n authentication {{\n auth_type PASS\n auth_pass 1111\n }}\n virtual_ipaddress {{\n 10.77.0.100/24\n }}\n}}\n"
        )
    }

    fn start_tandem(&mut self, priority: u8, extra: &str) {
        let conf = self.conf(priority, extra);
        self.start_tandem_with(&conf);
    }

    fn start_tandem_with(&mut self, conf: &str) {
        let (h, k) = (self.path("t.cfg"), self.path("t.conf"));
        std::fs::write(&k, conf).unwrap();
        let cfg = format!(
            "global\n stats socket {} level admin\n nbthread 1\ndefaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 1s\nfrontend f\n{} http-request return status 200\n",
            self.path("t.sock"),
            self.vips.iter().map(|v| format!(" bind {v}:80\n")).collect::<String>()
        );
        std::fs::write(&h, cfg).unwrap();
        let args = ["-f", &h, "-k", &k, "-db"].map(str::to_owned);
        self.tandem = Some(Node::start(&self.lab, 0, &tandem(), &args, &self.path("t.log")).unwrap());
    }

    /// keepalived's half in HAProxy's grammar.
    fn start_tandem_native(&mut self, section: &str) {
        let h = self.path("t.cfg");
        let cfg = format!(
            "global\n stats socket {} level admin\n nbthread 1\ndefaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 1s\nfrontend f\n bind {VIP}:80\n http-request return status 200\n{section}",
            self.path("t.sock"),
        );
        std::fs::write(&h, cfg).unwrap();
        let args = ["-f", &h, "-db"].map(str::to_owned);
        self.tandem = Some(Node::start(&self.lab, 0, &tandem(), &args, &self.path("t.log")).unwrap());
    }

    /// ucarp on the other host, which has an `advskew` and perhaps preempts.
    fn start_ucarp(&mut self, advskew: u8, more: &[&str]) {
        use std::os::unix::fs::PermissionsExt;
        let scripts = ["add", "del"].map(|what| {
            let path = self.path(what);
            std::fs::write(&path, format!("#!/bin/sh\nexec ip addr {what} $2/24 dev $1\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        });
        let mut c = Command::new("/usr/sbin/ucarp");
        c.args(["-i", "eth0", "-v", "51", "-p", "secret", "-b", "1", "-z"])
            .args(["-s", &address(1).to_string(), "-a", &VIP.to_string(), "-k", &advskew.to_string()])
            .args(["-u", &scripts[0], "-d", &scripts[1]])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.keepalived = Some(self.lab.hosts[1].spawn(c).unwrap());
    }

    fn start_keepalived(&mut self, priority: u8, extra: &str) {
        let conf = self.conf(priority, extra);
        self.start_keepalived_with(&conf);
    }

    fn start_keepalived_with(&mut self, conf: &str) {
        let k = self.path("k.conf");
        std::fs::write(&k, conf).unwrap();
        let mut c = Command::new("/usr/sbin/keepalived");
        let (p, r, q) = (self.path("k.pid"), self.path("kv.pid"), self.path("kc.pid"));
        c.args(["-n", "-l", "-P", "-f", &k, "-p", &p, "-r", &r, "-c", &q])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.keepalived = Some(self.lab.hosts[1].spawn(c).unwrap());
    }

    fn holds(&self, host: usize) -> bool {
        self.vips.iter().all(|v| self.lab.addresses(host).contains(v))
    }

    /// Waits for the address on one host and only there; how long it took.
    #[track_caller]
    fn moves_to(&self, host: usize, limit: Duration) -> Duration {
        let begin = Instant::now();
        let log = || std::fs::read_to_string(self.path("t.log")).unwrap_or_default();
        assert!(
            wait_for(limit, || self.holds(host)),
            "host {host} did not get the address within {limit:?}\n{}",
            log()
        );
        let took = begin.elapsed();
        assert!(wait_for(Duration::from_secs(2), || !self.holds(1 - host)), "both hold the address\n{}", log());
        assert!(self.holds(host));
        took
    }

    fn cli(&self, line: &str) {
        command(&self.path("t.sock"), line).unwrap();
    }

    /// Stays so for a while.
    #[track_caller]
    fn stays_on(&self, host: usize, time: Duration) {
        assert!(
            !wait_for(time, || self.holds(1 - host) || !self.holds(host)),
            "the address did not stay on host {host}"
        );
    }
}

/// keepalived's skew at priority 100 with VRRPv2, and what the issue allows on top, and what looking costs.
const SKEW_100: Duration = Duration::from_millis(610 + 50 + 40);
const DOWN: Duration = Duration::from_millis(3000 + 610 + 900);

fn keepalived_backup() {
    let mut m = Mixed::new();
    m.start_tandem(150, "");
    m.start_keepalived(100, "");
    m.moves_to(0, Duration::from_secs(8));
    m.stays_on(0, Duration::from_secs(3));
    // A yield: it takes over within its skew.
    m.cli("vrrp standby");
    let took = m.moves_to(1, SKEW_100);
    println!("    keepalived took over {took:?} after a yield");
    m.stays_on(1, Duration::from_secs(2));
    m.cli("vrrp resume");
    m.moves_to(0, Duration::from_secs(16));
    // A stop in order.
    m.tandem.as_ref().unwrap().signal(m.tandem.as_ref().unwrap().guardian(), 15);
    let took = m.moves_to(1, SKEW_100);
    println!("    keepalived took over {took:?} after SIGTERM");
    m.tandem = None;
    m.start_tandem(150, "");
    m.moves_to(0, Duration::from_secs(8));
    // Death without a word.
    m.tandem.as_mut().unwrap().kill();
    assert!(wait_for(DOWN, || m.holds(1)));
}

fn keepalived_master() {
    let mut m = Mixed::new();
    m.start_keepalived(200, "");
    m.start_tandem(150, "");
    m.moves_to(1, Duration::from_secs(8));
    m.stays_on(1, Duration::from_secs(3));
    // Priority 0 from keepalived: we can serve, so we wait milliseconds.
    let mut k = m.keepalived.take().unwrap();
    let _ = Command::new("kill").args(["-15", &k.id().to_string()]).status();
    let took = m.moves_to(0, MS(300));
    println!("    Tandem took over {took:?} after keepalived's SIGTERM");
    end(&mut k, 15);
    m.start_keepalived(200, "");
    m.moves_to(1, Duration::from_secs(8));
    // A split: both serve; when it heals, the higher priority wins.
    m.lab.port(1, false).unwrap();
    assert!(wait_for(Duration::from_secs(6), || m.holds(0)));
    m.lab.port(1, true).unwrap();
    m.moves_to(1, Duration::from_secs(8));
}

fn keepalived_nopreempt() {
    let mut m = Mixed::new();
    m.start_keepalived(100, "nopreempt");
    m.moves_to(1, Duration::from_secs(8));
    m.start_tandem(150, "nopreempt");
    m.stays_on(1, Duration::from_secs(6));
    let mut k = m.keepalived.take().unwrap();
    end(&mut k, 15);
    m.moves_to(0, Duration::from_secs(3));
    m.start_keepalived(200, "nopreempt");
    m.stays_on(0, Duration::from_secs(6));
    m.cli("vrrp standby");
    m.moves_to(1, SKEW_100);
    m.cli("vrrp resume");
    m.stays_on(1, Duration::from_secs(3));
}

/// A group on its way from version 2 to 3: who speaks both is understood by, and understands, either.
fn mixed_versions() {
    let mut m = Mixed::new();
    m.start_keepalived(100, "");
    m.moves_to(1, Duration::from_secs(8));
    let ours = format!(
        "vrrp V\n interface eth0\n vrid 51\n version both\n advertise 1s\n priority 150\n auth 1111\n address {VIP}/24\n"
    );
    m.start_tandem_native(&ours);
    m.moves_to(0, Duration::from_secs(18));
    m.stays_on(0, Duration::from_secs(4));
    // It hears of the end as it would from one of its own version.
    m.cli("vrrp standby");
    m.moves_to(1, SKEW_100);
    m.stays_on(1, Duration::from_secs(4));
    m.cli("vrrp resume");
    m.moves_to(0, Duration::from_secs(16));
    // The other one moves.
    end(&mut m.keepalived.take().unwrap(), 15);
    let three = m.conf(200, "version 3").replace("auth_type PASS\n auth_pass 1111", "");
    let three = three.replace("authentication {\n \n }", "");
    m.start_keepalived_with(&three);
    m.moves_to(1, Duration::from_secs(8));
    m.stays_on(1, Duration::from_secs(4));
    end(&mut m.keepalived.take().unwrap(), 15);
    m.moves_to(0, Duration::from_secs(2));
    let rejected = command(&m.path("t.sock"), "show vrrp rejected").unwrap();
    assert!(!rejected.contains("version="), "{rejected}");
}

/// CARP: who advertises more often is master, in both directions; a silent one is missed after three intervals and the skew; one that gives the address
/// away is followed at once.
fn ucarp() {
    let mut m = Mixed::new();
    let conf = |advskew: u8, password: &str| {
        format!(
            "vrrp V\n interface eth0\n vrid 51\n protocol carp\n advskew {advskew}\n password {password}\n address {VIP}/24\n"
        )
    };
    let again = |m: &mut Mixed, text: &str| {
        m.tandem.as_mut().unwrap().kill();
        m.tandem = None;
        m.start_tandem_native(text);
    };
    m.start_ucarp(0, &["-P"]);
    m.moves_to(1, Duration::from_secs(8));
    m.start_tandem_native(&conf(100, "secret"));
    m.stays_on(1, Duration::from_secs(5));
    let mut u = m.keepalived.take().unwrap();
    let at = Instant::now();
    end(&mut u, 15);
    m.moves_to(0, MS(3391 + 300));
    println!("    Tandem took over {:?} after ucarp's SIGTERM", at.elapsed());
    // It is back, and better.
    m.start_ucarp(0, &["-P"]);
    m.moves_to(1, Duration::from_secs(8));
    // A split; both serve. When it heals, the better one goes on.
    m.lab.port(1, false).unwrap();
    assert!(wait_for(Duration::from_secs(6), || m.holds(0)));
    m.lab.port(1, true).unwrap();
    m.moves_to(1, Duration::from_secs(8));
    // The other way round: we are better, and take it.
    let mut u = m.keepalived.take().unwrap();
    end(&mut u, 15);
    m.moves_to(0, Duration::from_secs(8));
    again(&mut m, &conf(0, "secret"));
    m.start_ucarp(200, &[]);
    m.moves_to(0, Duration::from_secs(8));
    m.stays_on(0, Duration::from_secs(5));
    m.cli("vrrp standby");
    let took = m.moves_to(1, MS(1500));
    println!("    ucarp took over {took:?} after a yield");
    m.cli("vrrp resume");
    m.moves_to(0, Duration::from_secs(16));
    // Another password is another group: neither hears the other.
    again(&mut m, &conf(0, "other"));
    assert!(wait_for(Duration::from_secs(8), || m.holds(0) && m.holds(1)));
    let shown = || command(&m.path("t.sock"), "show vrrp rejected").unwrap();
    assert!(wait_for(Duration::from_secs(3), || shown().contains("password")), "{}", shown());
    let mut u = m.keepalived.take().unwrap();
    end(&mut u, 15);
}

/// VRRPv3 over IPv6: an address of its own family, spoken from link-local ones.
fn keepalived_ipv6() {
    let mut m = Mixed::new();
    m.vips = vec!["fd77::100".parse().unwrap()];
    let conf = |priority: u8| {
        format!(
            "global_defs {{\n vrrp_version 3\n}}\nvrrp_instance V6 {{\n state BACKUP\n interface eth0\n virtual_router_id 61\n priority {priority}\n advert_int 0.2\n virtual_ipaddress {{\n fe80::100/64\n fd77::100/64\n }}\n}}\n"
        )
    };
    m.start_keepalived_with(&conf(100));
    m.moves_to(1, Duration::from_secs(8));
    m.start_tandem_with(&conf(150));
    m.moves_to(0, Duration::from_secs(8));
    m.stays_on(0, Duration::from_secs(2));
    m.cli("vrrp standby");
    // Its skew at 200 ms adverts is 122 ms.
    let took = m.moves_to(1, MS(122 + 50 + 40));
    println!("    keepalived took over {took:?} after a yield");
    m.stays_on(1, Duration::from_secs(1));
    m.cli("vrrp resume");
    m.moves_to(0, Duration::from_secs(16));
    let mut k = m.keepalived.take().unwrap();
    end(&mut k, 15);
    m.stays_on(0, Duration::from_secs(1));
}

/// VRRPv3 between two addresses, without multicast.
fn keepalived_unicast() {
    let mut m = Mixed::new();
    let conf = |own: usize, priority: u8| {
        format!(
            "global_defs {{\n vrrp_version 3\n}}\nvrrp_instance U {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n priority {priority}\n advert_int 0.2\n unicast_src_ip {}\n unicast_peer {{\n {}\n }}\n virtual_ipaddress {{\n 10.77.0.100/24\n }}\n}}\n",
            address(own),
            address(1 - own)
        )
    };
    m.start_tandem_with(&conf(0, 100));
    m.moves_to(0, Duration::from_secs(8));
    m.start_keepalived_with(&conf(1, 150));
    m.moves_to(1, Duration::from_secs(8));
    m.stays_on(1, Duration::from_secs(2));
    let mut k = m.keepalived.take().unwrap();
    let _ = Command::new("kill").args(["-15", &k.id().to_string()]).status();
    let took = m.moves_to(0, MS(300));
    println!("    Tandem took over {took:?} after keepalived's SIGTERM");
    end(&mut k, 15);
    // One that sums up as keepalived did before 1.3.7 is heard and answered in kind. (2.2 hears nothing else by then, and believes itself alone; 2.4 does.)
    m.start_keepalived_with(&conf(1, 50).replace(" unicast_src_ip", " old_unicast_checksum\n unicast_src_ip"));
    wait_for(MS(1500), || m.holds(1));
    m.moves_to(0, Duration::from_secs(4));
    m.stays_on(0, Duration::from_secs(2));
    m.cli("vrrp standby");
    // Priority 50 at 200 ms: 161 ms.
    m.moves_to(1, MS(161 + 50 + 40));
    let heard = format!("from {} with priority 50", address(1));
    let explained = || command(&m.path("t.sock"), "show vrrp explain").unwrap();
    assert!(wait_for(Duration::from_secs(2), || explained().contains(&heard)), "{}", explained());
}

/// Unicast over whatever leads to the peer: nothing but the source address has to be there.
fn keepalived_unbound() {
    let mut m = Mixed::new();
    let conf = |own: usize, priority: u8, interface: &str| {
        format!(
            "vrrp_instance U {{\n state BACKUP\n {interface}\n virtual_router_id 51\n priority {priority}\n advert_int 1\n unicast_src_ip {}\n unicast_peer {{\n {}\n }}\n virtual_ipaddress {{\n 10.77.0.100/24 dev eth0\n }}\n}}\n",
            address(own),
            address(1 - own)
        )
    };
    m.start_tandem_with(&conf(0, 150, ""));
    m.moves_to(0, Duration::from_secs(8));
    m.start_keepalived_with(&conf(1, 100, "interface eth0"));
    m.stays_on(0, Duration::from_secs(5));
    let own = format!("{}/24", address(0));
    let explained = || command(&m.path("t.sock"), "show vrrp explain").unwrap();
    assert_eq!(ip(&m, 0, &["addr", "del", &own, "dev", "eth0"]), "");
    m.moves_to(1, DOWN);
    assert!(explained().contains("FAULT"), "{}", explained());
    assert_eq!(ip(&m, 0, &["addr", "add", &own, "dev", "eth0"]), "");
    m.moves_to(0, Duration::from_secs(12));
    m.stays_on(0, Duration::from_secs(2));
}

/// Two instances that move together: what one loses, both give up.
fn keepalived_group() {
    let mut m = Mixed::new();
    let other: IpAddr = "10.77.0.101".parse().unwrap();
    m.vips = vec![VIP, other];
    let conf = |priority: u8, second: u8| {
        let one = |name: &str, vrid: u8, ip: IpAddr, priority: u8| {
            format!(
                "vrrp_instance {name} {{\n state BACKUP\n interface eth0\n virtual_router_id {vrid}\n priority {priority}\n advert_int 0.2\n virtual_ipaddress {{\n {ip}/24\n }}\n}}\n"
            )
        };
        format!(
            "global_defs {{\n vrrp_version 3\n}}\nvrrp_sync_group G {{\n group {{\n A\n B\n }}\n}}\n{}{}",
            one("A", 51, VIP, priority),
            one("B", 52, other, second)
        )
    };
    m.start_keepalived_with(&conf(100, 100));
    m.moves_to(1, Duration::from_secs(8));
    m.start_tandem_with(&conf(150, 150));
    m.moves_to(0, Duration::from_secs(8));
    m.stays_on(0, Duration::from_secs(2));
    m.cli("vrrp standby");
    m.moves_to(1, MS(800));
    m.cli("vrrp resume");
    m.moves_to(0, Duration::from_secs(16));
    let mut k = m.keepalived.take().unwrap();
    end(&mut k, 15);
    m.start_keepalived_with(&conf(200, 200));
    m.moves_to(1, Duration::from_secs(8));
    m.stays_on(1, Duration::from_secs(2));
}

/// A split while Tandem is the master: both serve; it heals to the one with the higher priority, and only that one.
fn keepalived_split() {
    let mut m = Mixed::new();
    m.start_tandem(150, "");
    m.start_keepalived(100, "");
    m.moves_to(0, Duration::from_secs(8));
    // Cut between the two, on keepalived's side: Tandem's interface stays up.
    m.lab.port(1, false).unwrap();
    m.stays_on(0, Duration::from_secs(1));
    m.lab.port(1, true).unwrap();
    m.moves_to(0, Duration::from_secs(8));
    m.stays_on(0, Duration::from_secs(3));
    // On Tandem's side: keepalived takes over, and gives back.
    m.lab.port(0, false).unwrap();
    assert!(wait_for(DOWN, || m.holds(1)));
    m.lab.port(0, true).unwrap();
    m.moves_to(0, Duration::from_secs(12));
}

/// The IP authentication header of version 2: signed there and here.
fn keepalived_header() {
    let mut m = Mixed::new();
    let conf = |priority: u8, pass: &str| {
        format!(
            "vrrp_instance VI_1 {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n priority {priority}\n advert_int 1\n authentication {{\n auth_type AH\n auth_pass {pass}\n }}\n virtual_ipaddress {{\n 10.77.0.100/24\n }}\n}}\n"
        )
    };
    m.start_keepalived_with(&conf(100, "secret"));
    m.moves_to(1, Duration::from_secs(8));
    m.start_tandem_with(&conf(150, "secret"));
    m.moves_to(0, Duration::from_secs(8));
    m.stays_on(0, Duration::from_secs(4));
    m.cli("vrrp standby");
    m.moves_to(1, SKEW_100);
    m.cli("vrrp resume");
    m.moves_to(0, Duration::from_secs(16));
    // Another key: whatever it says is dropped and counted.
    let mut k = m.keepalived.take().unwrap();
    end(&mut k, 15);
    m.start_keepalived_with(&conf(200, "others"));
    assert!(wait_for(Duration::from_secs(8), || {
        command(&m.path("t.sock"), "show vrrp rejected").unwrap_or_default().contains("password=")
    }));
    assert!(m.holds(0));
}

/// Files and processes move the priority; a FIFO and the dumps tell of it, as exporters read it.
fn outside() {
    let mut m = Mixed::new();
    let (file, fifo, proc) = (m.path("number"), m.path("fifo"), m.path("sleeper"));
    std::fs::write(&file, "0\n").unwrap();
    std::fs::copy("/bin/sleep", &proc).unwrap();
    let conf = format!(
        "global_defs {{\n vrrp_notify_fifo {fifo}\n vrrp_notify_priority_changes true\n state_dump_file {d}\n stats_dump_file {s}\n json_dump_file {j}\n}}\ntrack_file load {{\n file {file}\n weight -1\n}}\nvrrp_track_process sleeper {{\n process sleeper\n weight 20\n}}\nvrrp_instance V {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n priority 100\n version 3\n advert_int 0.1\n track_file {{\n load\n }}\n track_process {{\n sleeper\n }}\n virtual_ipaddress {{\n 10.77.0.100/24\n }}\n}}\n",
        d = m.path("d"),
        s = m.path("s"),
        j = m.path("j"),
    );
    m.start_tandem_with(&conf);
    assert!(wait_for(Duration::from_secs(5), || m.holds(0)));
    let explain = || command(&m.path("t.sock"), "show vrrp explain").unwrap_or_default();
    let priority = |n: u8| {
        assert!(
            wait_for(Duration::from_secs(5), || explain().contains(&format!(" priority    {n} "))),
            "{n}\n{}",
            explain()
        )
    };
    priority(100);
    std::fs::write(&file, "30\n").unwrap();
    priority(70);
    let mut child = m.lab.hosts[0]
        .spawn({
            let mut c = Command::new(&proc);
            c.arg("60");
            c
        })
        .unwrap();
    priority(90);
    assert!(
        explain().contains("process sleeper up (+20)") && explain().contains("file load says 30 (-30)"),
        "{}",
        explain()
    );
    let _ = child.kill();
    let _ = child.wait();
    priority(70);
    let told = {
        use std::io::Read as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut f = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&fifo).unwrap();
        let mut b = [0; 4096];
        let n = f.read(&mut b).unwrap();
        String::from_utf8_lossy(&b[..n]).into_owned()
    };
    for line in ["INSTANCE \"V\" BACKUP 100\n", "INSTANCE \"V\" MASTER 100\n", "INSTANCE \"V\" MASTER_PRIORITY 90\n"] {
        assert!(told.contains(line), "{line} in {told}");
    }
    let node = m.tandem.as_ref().unwrap();
    node.signal(node.guardian(), libc::SIGRTMIN() + 2);
    let json = || std::fs::read_to_string(m.path("j")).unwrap_or_default();
    assert!(wait_for(Duration::from_secs(3), || json().ends_with(']')), "{}", json());
    let v: serde_json::Value = serde_json::from_str(&json()).unwrap();
    assert_eq!((&v[0]["data"]["state"], &v[0]["data"]["effective_priority"]), (&2.into(), &70.into()));
    assert!(v[0]["stats"]["advert_sent"].as_u64().unwrap() > 0);
}

/// What `ip` says in a host's namespace.
fn ip(m: &Mixed, host: usize, args: &[&str]) -> String {
    let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
    m.lab.hosts[host]
        .run(move || {
            let o = Command::new("ip").args(&args).output().unwrap();
            format!("{}{}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr))
        })
        .unwrap()
}

/// Both with the virtual router's MAC address: they hear each other, the network learns that address, and nothing is left at the end.
fn keepalived_vmac() {
    let mut m = Mixed::new();
    let conf = |priority: u8| {
        format!(
            "vrrp_instance V {{\n state BACKUP\n interface eth0\n use_vmac\n virtual_router_id 51\n priority {priority}\n advert_int 1\n virtual_ipaddress {{\n 10.77.0.100/24\n }}\n}}\n"
        )
    };
    m.start_keepalived_with(&conf(100));
    m.moves_to(1, Duration::from_secs(8));
    m.start_tandem_with(&conf(150));
    m.moves_to(0, Duration::from_secs(18));
    m.stays_on(0, Duration::from_secs(4));
    let addr = ip(&m, 0, &["addr", "show", "vrrp.51"]);
    assert!(addr.contains("10.77.0.100/24") && addr.contains("00:00:5e:00:01:33"), "{addr}");
    assert!(!ip(&m, 0, &["addr", "show", "eth0"]).contains("10.77.0.100"));
    // Whoever asks is told that address, and reaches the proxy behind it.
    let answer = m.lab.hosts[1]
        .run(|| {
            let o = Command::new("curl")
                .args(["-s", "-m", "3", "-o", "/dev/null", "-w", "%{http_code}", "http://10.77.0.100/"])
                .output()
                .unwrap();
            String::from_utf8_lossy(&o.stdout).into_owned()
        })
        .unwrap();
    assert_eq!(answer, "200");
    let neighbours = ip(&m, 1, &["neigh", "show", "10.77.0.100"]);
    assert!(neighbours.contains("00:00:5e:00:01:33"), "{neighbours}");
    // Somebody removes the interface: it is made again, and the address comes back.
    assert_eq!(ip(&m, 0, &["link", "del", "vrrp.51"]), "");
    assert!(
        wait_for(Duration::from_secs(8), || m.holds(0)
            && ip(&m, 0, &["addr", "show", "vrrp.51"]).contains("10.77.0.100")),
        "{}",
        ip(&m, 0, &["addr"])
    );
    // Somebody sets it down: it is set up again.
    assert_eq!(ip(&m, 0, &["link", "set", "vrrp.51", "down"]), "");
    let back = || m.holds(0) && ip(&m, 0, &["addr", "show", "vrrp.51"]).contains("state UP");
    assert!(wait_for(Duration::from_secs(8), back), "{}", ip(&m, 0, &["addr"]));
    // Somebody gives it another MAC address, and again before it is forgotten, so that it waits: it gets its own back, and nothing moves.
    m.moves_to(0, Duration::from_secs(16));
    for others in ["02:00:00:00:00:07", "02:00:00:00:00:08"] {
        let seen = std::cell::RefCell::new(String::new());
        assert_eq!(ip(&m, 0, &["link", "set", "vrrp.51", "address", others]), "");
        let own = || {
            *seen.borrow_mut() = ip(&m, 0, &["link", "show", "vrrp.51"]);
            seen.borrow().contains("00:00:5e:00:01:33")
        };
        assert!(wait_for(Duration::from_secs(2), own), "{}", seen.borrow());
        m.stays_on(0, Duration::from_secs(2));
    }
    // A reload with another name and another address of its own: the old one goes, and with it its addresses.
    m.moves_to(0, Duration::from_secs(16));
    std::fs::write(m.path("t.conf"), conf(150).replace("use_vmac", "use_vmac v9 02:00:5e:10:01:33")).unwrap();
    m.cli("reload");
    let other = || ip(&m, 0, &["addr", "show", "v9"]);
    assert!(
        wait_for(Duration::from_secs(16), || other().contains("02:00:5e:10:01:33") && other().contains("10.77.0.100"))
    );
    assert!(wait_for(Duration::from_secs(2), || ip(&m, 0, &["link", "show", "vrrp.51"]).contains("does not exist")));
    // keepalived may have had it meanwhile, and both for a moment. A reload without news changes nothing.
    m.moves_to(0, Duration::from_secs(16));
    let node = m.tandem.as_ref().unwrap();
    m.cli("reload");
    m.stays_on(0, Duration::from_secs(1));
    // Whatever has its name by then, at the end only what was made is removed.
    node.signal(node.guardian(), libc::SIGSTOP);
    assert_eq!(ip(&m, 0, &["link", "del", "v9"]), "");
    assert_eq!(ip(&m, 0, &["link", "add", "v9", "type", "veth", "peer", "name", "x9"]), "");
    node.signal(node.guardian(), libc::SIGTERM);
    node.signal(node.guardian(), libc::SIGCONT);
    m.moves_to(1, Duration::from_secs(8));
    let cmdline = format!("/proc/{}/cmdline", node.guardian());
    let ended = || std::fs::read_to_string(&cmdline).is_ok_and(|c| c.is_empty());
    assert!(wait_for(Duration::from_secs(10), ended), "it goes on");
    let left = ip(&m, 0, &["-d", "link", "show", "v9"]);
    assert!(left.contains("veth"), "{left}");
}

/// Routes and rules are there while the address is, whoever takes them away meanwhile; static ones whatever happens; what a killed keepalived left goes.
fn routes() {
    let mut m = Mixed::new();
    let conf = |extra: &str| {
        format!(
            "static_routes {{\n 10.40.0.0/16 dev eth0 table 50\n}}\nstatic_rules {{\n to 10.40.0.0/16 table 50 preference 900\n}}\nvrrp_instance V {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n priority 150\n version 3\n advert_int 0.1\n virtual_ipaddress {{\n 10.77.0.100/24\n }}\n virtual_routes {{\n 10.50.0.0/16 via 10.77.0.77 dev eth0 src 10.77.0.100 mtu 1400\n default via 10.77.0.77 table 60\n 10.51.0.0/16 nexthop via 10.77.0.77 dev eth0 weight 2 nexthop via 10.77.0.78 dev eth0\n blackhole 10.52.0.0/16\n 2001:db8:5::/48 dev eth0 metric 7\n 2001:db8:6::/48 dev eth0 src fd77::9\n {extra}\n }}\n virtual_ipaddress_excluded {{\n fd77::9/64\n }}\n virtual_rules {{\n from 10.50.0.0/16 table 60 preference 1000\n inet6 iif eth0 fwmark 0x10/0xff table 60 preference 1001\n }}\n}}\n"
        )
    };
    ip(&m, 0, &["route", "add", "blackhole", "10.52.0.0/16", "proto", "18"]);
    m.start_tandem_with(&conf("10.53.0.0/16 dev eth0"));
    m.moves_to(0, Duration::from_secs(8));
    let has = |args: &[&str], want: &str| {
        assert!(wait_for(Duration::from_secs(3), || ip(&m, 0, args).contains(want)), "{want}\n{}", ip(&m, 0, args))
    };
    has(&["route"], "10.50.0.0/16 via 10.77.0.77 dev eth0 proto keepalived src 10.77.0.100 mtu 1400");
    has(&["route"], "nexthop via 10.77.0.77 dev eth0 weight 2");
    has(&["route"], "blackhole 10.52.0.0/16 proto keepalived");
    has(&["route"], "10.53.0.0/16 dev eth0");
    has(&["route", "show", "table", "60"], "default via 10.77.0.77 dev eth0 proto keepalived");
    has(&["route", "show", "table", "50"], "10.40.0.0/16 dev eth0 proto keepalived scope link");
    has(&["-6", "route"], "2001:db8:5::/48 dev eth0 proto keepalived metric 7");
    has(&["-6", "route"], "2001:db8:6::/48 dev eth0 proto keepalived src fd77::9");
    has(&["rule"], "1000:\tfrom 10.50.0.0/16 lookup 60 proto keepalived");
    has(&["rule"], "900:\tfrom all to 10.40.0.0/16 lookup 50 proto keepalived");
    has(&["-6", "rule"], "1001:\tfrom all fwmark 0x10/0xff iif eth0 lookup 60 proto keepalived");
    // Somebody else takes some away.
    for args in [
        &["route", "del", "10.50.0.0/16"][..],
        &["rule", "del", "preference", "1000"],
        &["-6", "route", "del", "2001:db8:5::/48"],
        &["route", "del", "10.40.0.0/16", "table", "50"],
    ] {
        assert_eq!(ip(&m, 0, args), "");
    }
    has(&["route"], "10.50.0.0/16 via 10.77.0.77");
    has(&["rule"], "1000:");
    has(&["-6", "route"], "2001:db8:5::/48");
    has(&["route", "show", "table", "50"], "10.40.0.0/16");
    let log = std::fs::read_to_string(m.path("t.log")).unwrap();
    assert!(
        log.contains(
            "route 10.50.0.0/16 via 10.77.0.77 dev eth0 src 10.77.0.100 mtu 1400 was removed by somebody else: put back"
        ),
        "{log}"
    );
    // The kernel drops a route with the address that it comes from, and says nothing.
    assert_eq!(ip(&m, 0, &["addr", "del", "10.77.0.100/24", "dev", "eth0"]), "");
    has(&["route"], "10.50.0.0/16 via 10.77.0.77");
    // It leaves one of IPv6 without its source.
    assert_eq!(ip(&m, 0, &["-6", "addr", "del", "fd77::9/64", "dev", "eth0"]), "");
    has(&["-6", "route"], "2001:db8:6::/48 dev eth0 proto keepalived src fd77::9");
    // A reload with another gateway, another metric, and without one of them; nobody else did that.
    let changed = conf("").replace("default via 10.77.0.77", "default via 10.77.0.78").replace("mtu 1400", "mtu 1300");
    std::fs::write(m.path("t.conf"), changed).unwrap();
    m.cli("reload");
    assert!(wait_for(Duration::from_secs(5), || !ip(&m, 0, &["route"]).contains("10.53.0.0/16")));
    has(&["route"], "10.50.0.0/16 via 10.77.0.77 dev eth0 proto keepalived src 10.77.0.100 mtu 1300");
    has(&["route", "show", "table", "60"], "default via 10.77.0.78");
    let log = std::fs::read_to_string(m.path("t.log")).unwrap();
    assert!(!log.contains("mtu 1300 was removed") && !log.contains("10.77.0.78 table 60 was removed"), "{log}");
    // The end takes all of it away.
    let node = m.tandem.as_ref().unwrap();
    node.signal(node.guardian(), libc::SIGTERM);
    let left = || {
        let all = ["route", "rule", "-6 route", "-6 rule", "route show table 60", "route show table 50"];
        all.map(|a| ip(&m, 0, &a.split(' ').collect::<Vec<_>>())).concat()
    };
    assert!(wait_for(Duration::from_secs(5), || !left().contains("keepalived")), "{}", left());
    assert!(!m.holds(0));
}

/// `track_group`: a static route that cannot be put back makes its routers give way, until it is there again.
fn guarded_route() {
    let mut m = Mixed::new();
    let conf = |priority: u8, statics: &str| {
        format!(
            "{statics}vrrp_instance V {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n version 3\n priority {priority}\n advert_int 0.1\n virtual_ipaddress {{\n 10.77.0.100/24\n }}\n}}\n"
        )
    };
    let make = |m: &Mixed| {
        assert_eq!(ip(m, 0, &["link", "add", "x0", "type", "veth", "peer", "name", "y0"]), "");
        assert_eq!(ip(m, 0, &["link", "set", "y0", "up"]), "");
        assert_eq!(ip(m, 0, &["link", "set", "x0", "up"]), "");
    };
    make(&m);
    m.start_keepalived_with(&conf(100, ""));
    m.moves_to(1, Duration::from_secs(8));
    let statics = "track_group G {\n group {\n V\n }\n}\nstatic_routes {\n 10.60.0.0/16 dev x0 track_group G\n}\n";
    m.start_tandem_with(&conf(150, statics));
    m.moves_to(0, Duration::from_secs(16));
    let routed = || ip(&m, 0, &["route"]).contains("10.60.0.0/16 dev x0");
    assert!(wait_for(Duration::from_secs(2), routed));
    // Taken away, it is put back, and nothing moves.
    assert_eq!(ip(&m, 0, &["route", "del", "10.60.0.0/16"]), "");
    assert!(wait_for(Duration::from_secs(2), routed));
    m.stays_on(0, Duration::from_secs(1));
    assert_eq!(ip(&m, 0, &["link", "del", "x0"]), "");
    m.moves_to(1, Duration::from_secs(3));
    make(&m);
    assert!(wait_for(Duration::from_secs(3), routed));
    m.moves_to(0, Duration::from_secs(16));
    // One that needs an address on its interface cannot be put on before that is there, nor after it went.
    let more = statics.replace("x0 track_group G\n", "x0 track_group G\n 10.61.0.0/16 via 10.62.0.1 track_group G\n");
    std::fs::write(m.path("t.conf"), conf(150, &more)).unwrap();
    m.cli("reload");
    m.moves_to(1, Duration::from_secs(3));
    let add = ["addr", "add", "10.62.0.2/24", "dev", "x0"];
    assert_eq!(ip(&m, 0, &add), "");
    m.moves_to(0, Duration::from_secs(16));
    assert!(ip(&m, 0, &["route"]).contains("10.61.0.0/16 via 10.62.0.1"));
    // With the last address the kernel drops all routes over the interface, and says nothing.
    assert_eq!(ip(&m, 0, &["addr", "flush", "dev", "x0", "scope", "global"]), "");
    m.moves_to(1, Duration::from_secs(3));
    assert!(wait_for(Duration::from_secs(2), routed), "{}", ip(&m, 0, &["route"]));
    assert_eq!(ip(&m, 0, &add), "");
    m.moves_to(0, Duration::from_secs(16));
}

/// An address with the router's MAC address on another interface, one of a link between two, scripts around the whole, and a line of each reload.
fn address_macs() {
    let mut m = Mixed::new();
    assert_eq!(ip(&m, 0, &["link", "add", "x0", "type", "veth", "peer", "name", "y0"]), "");
    assert_eq!(ip(&m, 0, &["link", "set", "y0", "up"]), "");
    assert_eq!(ip(&m, 0, &["link", "set", "x0", "up"]), "");
    let (log, fifo) = (m.path("scripts.log"), m.path("fifo"));
    let conf = |vips: &str| {
        format!(
            "global_defs {{\n script_user root\n disable_local_igmp\n startup_script \"/bin/echo start >> {log}\"\n shutdown_script \"/bin/echo end >> {log}\"\n vrrp_notify_fifo {fifo}\n vrrp_notify_fifo_script \"/bin/cat {fifo} >> {log}\"\n fifo_write_vrrp_states_on_reload\n}}\nvrrp_instance V {{\n state MASTER\n interface eth0\n virtual_router_id 51\n version 3\n priority 150\n advert_int 0.1\n virtual_ipaddress {{\n 10.77.0.100/24\n{vips} }}\n}}\n"
        )
    };
    m.start_tandem_with(&conf(" 10.9.4.80/24 dev x0 use_vmac\n 10.9.5.80 peer 10.9.5.81 dev x0\n"));
    m.moves_to(0, Duration::from_secs(8));
    let shows = |dev: &str, what: &[&str]| {
        let text = ip(&m, 0, &["addr", "show", dev]);
        what.iter().all(|w| text.contains(w))
    };
    let whole = || {
        shows("vrrp.51", &["10.9.4.80/24", "00:00:5e:00:01:33", "@x0"]) && shows("x0", &["10.9.5.80 peer 10.9.5.81/32"])
    };
    assert!(wait_for(Duration::from_secs(3), whole), "{}", ip(&m, 0, &["addr"]));
    let reports = || {
        let read = || std::fs::read_to_string("/proc/sys/net/ipv4/igmp_link_local_mcast_reports");
        m.lab.hosts[0].run(read).unwrap().unwrap().trim().to_owned()
    };
    assert_eq!(reports(), "0");
    // Whatever happens to it, the router goes on, and has it again.
    for what in [
        &["link", "del", "vrrp.51"][..],
        &["link", "set", "vrrp.51", "down"],
        &["link", "set", "vrrp.51", "address", "02:00:00:00:00:07"],
    ] {
        assert_eq!(ip(&m, 0, what), "");
        assert!(
            wait_for(Duration::from_secs(3), || whole() && shows("vrrp.51", &["state UP"])),
            "{what:?}: {}",
            ip(&m, 0, &["addr"])
        );
        m.stays_on(0, MS(500));
    }
    assert_eq!(ip(&m, 0, &["addr", "del", "10.9.5.80", "peer", "10.9.5.81", "dev", "x0"]), "");
    assert!(wait_for(Duration::from_secs(3), whole), "{}", ip(&m, 0, &["addr"]));
    // A reload without them takes them away.
    std::fs::write(m.path("t.conf"), conf("")).unwrap();
    m.cli("reload");
    let gone = || shows("vrrp.51", &["does not exist"]) && !shows("x0", &["10.9.5.80"]);
    assert!(wait_for(Duration::from_secs(3), gone), "{}", ip(&m, 0, &["addr"]));
    m.stays_on(0, MS(500));
    let written = || std::fs::read_to_string(&log).unwrap_or_default();
    assert!(
        wait_for(Duration::from_secs(3), || written().matches("INSTANCE \"V\" MASTER 150").count() == 2),
        "{}",
        written()
    );
    assert!(written().starts_with("start\n"), "{}", written());
    let node = m.tandem.as_ref().unwrap();
    node.signal(node.guardian(), libc::SIGTERM);
    assert!(wait_for(Duration::from_secs(10), || written().ends_with("end\n")), "{}", written());
    assert_eq!(reports(), "1");
}

/// A BFD session with keepalived: it comes up, notices a cut within its detection time and a bit, and comes up again.
fn keepalived_bfd() {
    let mut m = Mixed::new();
    let conf = |own: usize, priority: u8| {
        format!(
            "bfd_instance peer {{\n neighbor_ip {}\n source_ip {}\n min_rx 20\n min_tx 20\n idle_tx 1000\n multiplier 3\n weight -20\n}}\nvrrp_instance V {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n version 3\n priority {priority}\n advert_int 0.1\n track_bfd {{\n peer\n }}\n virtual_ipaddress {{\n 10.77.0.100/24\n }}\n}}\n",
            address(1 - own),
            address(own)
        )
    };
    m.start_tandem_with(&conf(0, 150));
    m.moves_to(0, Duration::from_secs(8));
    let (socket, written) = (m.path("t.sock"), m.path("t.log"));
    let explain = || command(&socket, "show vrrp explain").unwrap_or_default();
    let log = || std::fs::read_to_string(&written).unwrap_or_default();
    let says = |what: &str| wait_for(Duration::from_secs(6), || explain().contains(what));
    assert!(says("bfd peer down (-20)"), "{}", explain());
    // The whole program, not its VRRP part alone.
    let k = m.path("k.conf");
    std::fs::write(&k, conf(1, 100)).unwrap();
    let mut c = Command::new("/usr/sbin/keepalived");
    c.args(["-n", "-l", "-f", &k, "-p", &m.path("k.pid"), "-r", &m.path("kv.pid"), "-b", &m.path("kb.pid")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    m.keepalived = Some(m.lab.hosts[1].spawn(c).unwrap());
    assert!(says("bfd peer up"), "{}\n{}", explain(), log());
    let before = log().matches("bfd peer is down").count();
    let at = Instant::now();
    m.lab.port(1, false).unwrap();
    assert!(wait_for(Duration::from_secs(2), || log().matches("bfd peer is down").count() > before), "{}", log());
    println!("    BFD noticed the cut after {:?}", at.elapsed());
    assert!(at.elapsed() < MS(400), "{:?}", at.elapsed());
    m.lab.port(1, true).unwrap();
    assert!(says("bfd peer up"), "{}", explain());
}

/// Servers that go move the priority, once it has lasted, and no address by themselves.
fn inside() {
    let mut m = Mixed::new();
    let origins: Vec<std::net::TcpListener> =
        (0..2).map(|_| m.lab.hosts[0].run(|| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).unwrap()).collect();
    let port = |n: usize| origins[n].local_addr().unwrap().port();
    let cfg = format!(
        "global\n stats socket {} level admin\n nbthread 1\ndefaults\n mode tcp\n timeout client 5s\n timeout server 5s\n timeout connect 1s\nfrontend f\n bind {VIP}:80\n default_backend b\nbackend b\n server s1 127.0.0.1:{}\n server s2 127.0.0.1:{}\nvrrp v\n interface eth0\n vrid 51\n priority 150\n advertise 50ms\n address 10.77.0.100/24\n track backend b min-up 2 weight -30 rise 500ms\n track backend b weight -20\n track frontend f\n track load\n",
        m.path("t.sock"),
        port(0),
        port(1)
    );
    std::fs::write(m.path("t.cfg"), cfg).unwrap();
    let args = ["-f", &m.path("t.cfg"), "-db"].map(str::to_owned);
    m.tandem = Some(Node::start(&m.lab, 0, &tandem(), &args, &m.path("t.log")).unwrap());
    assert!(wait_for(Duration::from_secs(5), || m.holds(0)));
    let explain = || command(&m.path("t.sock"), "show vrrp explain").unwrap_or_default();
    let priority = |n: u8| {
        assert!(
            wait_for(Duration::from_secs(5), || explain().contains(&format!(" priority    {n} "))),
            "{n}\n{}",
            explain()
        );
    };
    priority(150);
    m.cli("disable server b/s1");
    priority(120);
    m.cli("disable server b/s2");
    priority(100);
    assert!(m.holds(0), "nobody is better");
    m.cli("enable server b/s1");
    m.cli("enable server b/s2");
    priority(150);
    assert!(m.holds(0));
}

/// As many packets as the machine can send (up to 100,000 a second) that are no adverts: every advert still leaves in time, and nothing moves.
fn flood() {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
    let s = Stage::new(&tandem(), &Dialect::FAST).unwrap();
    assert!(s.settle(Duration::from_secs(20)), "{}", s.logs());
    let before = s.logs().matches("Entering").count();
    let master = s.master().unwrap();
    let group: IpAddr = "224.0.0.18".parse().unwrap();
    let wire = move || tandem_proxy::net::raw::Wire {
        six: false,
        ifname: Some("eth0".into()),
        ifindex: eth0(),
        group: Some(group),
        header: false,
        ttl: 255,
    };
    // What the other node hears of the master's adverts is what counts; this machine hears them as well.
    let gaps = s.lab.hosts[2]
        .thread(move || {
            use std::os::fd::AsRawFd as _;
            let ears = tandem_proxy::net::raw::vrrp(&wire()).unwrap();
            let flood = tandem_proxy::net::raw::vrrp(&wire()).unwrap();
            let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let begin = Instant::now();
                    while !stop.load(Relaxed) {
                        // A thousand each ten milliseconds.
                        for k in 0..1000u32 {
                            let bytes = [0x31, 51, 200, 1, 0, 5, k as u8, (k >> 8) as u8, 10, 77, 0, 100];
                            if tandem_proxy::net::raw::send(&flood, address(master), eth0(), &bytes).is_ok() {
                                sent.fetch_add(1, Relaxed);
                            }
                        }
                        let due = Duration::from_micros(sent.load(Relaxed) * 10);
                        std::thread::sleep(due.saturating_sub(begin.elapsed()));
                    }
                });
                let (begin, mut last, mut worst) = (Instant::now(), None::<Instant>, Duration::ZERO);
                let mut buf = [0; 2048];
                while begin.elapsed() < Duration::from_secs(3) {
                    let Ok(p) = tandem_proxy::net::raw::receive(ears.as_raw_fd(), false, &mut buf) else {
                        std::thread::sleep(Duration::from_micros(200));
                        continue;
                    };
                    if p.src != address(master) {
                        continue;
                    }
                    let now = Instant::now();
                    if let Some(l) = last.replace(now) {
                        worst = worst.max(now - l);
                    }
                }
                stop.store(true, Relaxed);
                (worst, sent.load(Relaxed))
            })
        })
        .unwrap()
        .join()
        .unwrap();
    println!("    {} packets in 3 s, the longest pause between two adverts {:?}", gaps.1, gaps.0);
    assert!(gaps.1 > 10_000, "that was no flood");
    assert!(gaps.0 < MS(50) * 3, "{gaps:?}\n{}", s.logs());
    assert_eq!(s.logs().matches("Entering").count(), before, "{}", s.logs());
}

/// A client in the middle of an exchange with a proxy that hangs hears a reset, and does not wait for ever.
fn hung_clients() {
    use std::io::{Read, Write};
    let s = Stage::new(&tandem(), &Dialect::FAST).unwrap();
    assert!(s.settle(Duration::from_secs(20)), "{}", s.logs());
    let open = s.lab.hosts[2]
        .run(|| {
            let mut c = std::net::TcpStream::connect((VIP, 80)).unwrap();
            c.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            c.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut b = [0u8; 1024];
            assert!(c.read(&mut b).unwrap() > 0);
            c
        })
        .unwrap();
    let n = s.nodes[s.master().unwrap()].as_ref().unwrap();
    n.signal(n.worker().unwrap(), 19);
    let begin = Instant::now();
    let mut b = [0u8; 16];
    let r = (&open).read(&mut b);
    println!("    heard {r:?} after {:?}", begin.elapsed());
    assert!(matches!(&r, Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset), "{r:?}");
    assert!(begin.elapsed() < MS(400), "{:?}", begin.elapsed());
}

/// An interface tracked without a weight: lost, the node yields and keeps the address while nobody takes it; with `fault strict` it gives it up.
fn tracks() {
    for strict in [false, true] {
        let mut m = Mixed::new();
        m.lab.hosts[0]
            .run(|| {
                assert!(
                    Command::new("ip")
                        .args(["link", "add", "t0", "type", "veth", "peer", "name", "t1"])
                        .status()
                        .unwrap()
                        .success()
                )
            })
            .unwrap();
        let set = |m: &Mixed, what: &'static str| {
            m.lab.hosts[0]
                .run(move || {
                    ["t0", "t1"].iter().for_each(|l| {
                        assert!(Command::new("ip").args(["link", "set", l, what]).status().unwrap().success())
                    })
                })
                .unwrap();
        };
        set(&m, "up");
        let global = if strict { " fault strict\n" } else { "" };
        let cfg = format!(
            "global\n stats socket {} level admin\n nbthread 1\n{global}defaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 1s\nfrontend f\n bind {VIP}:80\n http-request return status 200\nvrrp v\n interface eth0\n vrid 51\n priority 150\n advertise 50ms\n address 10.77.0.100/24\n track interface t0\n",
            m.path("t.sock")
        );
        std::fs::write(m.path("t.cfg"), cfg).unwrap();
        let args = ["-f", &m.path("t.cfg"), "-db"].map(str::to_owned);
        m.tandem = Some(Node::start(&m.lab, 0, &tandem(), &args, &m.path("t.log")).unwrap());
        assert!(wait_for(Duration::from_secs(5), || m.holds(0)));
        set(&m, "down");
        let state = |m: &Mixed| command(&m.path("t.sock"), "show vrrp").unwrap_or_default();
        if strict {
            assert!(
                wait_for(Duration::from_secs(3), || !m.holds(0) && state(&m).contains("state=FAULT")),
                "{}",
                state(&m)
            );
        } else {
            assert!(wait_for(Duration::from_secs(3), || state(&m).contains("serves=false")), "{}", state(&m));
            assert!(!wait_for(Duration::from_secs(1), || !m.holds(0)), "the last one keeps it\n{}", state(&m));
        }
        set(&m, "up");
        assert!(wait_for(Duration::from_secs(8), || m.holds(0) && state(&m).contains("state=MASTER")), "{}", state(&m));
    }
}

/// A supervisor starts the guardian again before the peer has missed it: the orphaned worker serves on, and nothing moves.
fn guardian_back() {
    let mut s = Stage::new(&tandem(), &Dialect::USUAL).unwrap();
    assert!(s.settle(Duration::from_secs(20)), "{}", s.logs());
    let m = s.master().unwrap();
    let moved = |s: &Stage| s.logs().matches("Entering MASTER").count();
    s.prober.forget();
    let at = Instant::now();
    s.nodes[m].as_mut().unwrap().kill_guardian();
    s.start(m).unwrap();
    let before = moved(&s);
    assert!(wait_for(Duration::from_secs(5), || s.logs().contains("predecessor was killed")), "{}", s.logs());
    assert!(
        wait_for(Duration::from_secs(8), || s.logs().contains("the address was offered and nobody took it")),
        "{}",
        s.logs()
    );
    let failed: Vec<_> = s
        .prober
        .since(at)
        .iter()
        .filter(|p| p.begun > at && p.result.is_err())
        .map(|p| (p.begun - at, p.ended - at, p.result))
        .collect();
    assert!(failed.is_empty(), "{failed:?}\n{}", s.logs());
    assert_eq!(s.master(), Some(m));
    // The one that took over from itself; the peer never did.
    assert!(moved(&s) <= before + 1, "{}", s.logs());
    assert!(s.settle(Duration::from_secs(5)), "{}", s.logs());
}

/// What a killed keepalived left on the wrong host would be there twice, for ever.
fn left_address() {
    let mut m = Mixed::new();
    m.lab.hosts[0]
        .run(|| {
            assert!(
                Command::new("ip").args(["addr", "add", "10.77.0.100/24", "dev", "eth0"]).status().unwrap().success()
            )
        })
        .unwrap();
    m.start_tandem(150, "");
    assert!(wait_for(Duration::from_secs(2), || !m.holds(0)), "it is removed at the start");
    m.moves_to(0, Duration::from_secs(8));
}

/// A reload that says something else of an address changes that, and nothing of its connections.
fn altered_address() {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    let mut m = Mixed::new();
    let conf = |more: &str| {
        format!(
            "vrrp_instance V {{\n interface eth0\n virtual_router_id 51\n version 3\n priority 150\n advert_int 0.1\n virtual_ipaddress {{\n 10.77.0.100/24 {more}\n }}\n}}\n"
        )
    };
    m.start_tandem_with(&conf("label eth0:a"));
    m.moves_to(0, Duration::from_secs(8));
    let connect = || TcpStream::connect_timeout(&"10.77.0.100:80".parse().unwrap(), Duration::from_secs(2));
    let mut c = m.lab.hosts[1].run(connect).unwrap().unwrap();
    c.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let ask = |c: &mut TcpStream| {
        c.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let (mut got, mut b) = (Vec::new(), [0; 512]);
        while !got.ends_with(b"\r\n\r\n") {
            let n = c.read(&mut b).unwrap();
            assert!(n > 0, "closed behind {got:?}");
            got.extend_from_slice(&b[..n]);
        }
        assert!(got.starts_with(b"HTTP/1.1 200"));
    };
    ask(&mut c);
    let shows = |m: &Mixed, words: &[&str]| {
        let text = ip(m, 0, &["-o", "-4", "addr", "show", "dev", "eth0"]);
        let line = text.lines().find(|l| l.contains("10.77.0.100/24")).unwrap_or_default().to_owned();
        words.iter().all(|w| line.contains(w))
    };
    assert!(shows(&m, &["eth0:a"]));
    for (more, words) in [
        ("label eth0:b brd 10.77.0.250", &["eth0:b", "brd 10.77.0.250"][..]),
        // This the kernel changes by itself.
        ("label eth0:b brd 10.77.0.250 preferred_lft 1", &["eth0:b", "preferred_lft 1sec"]),
    ] {
        std::fs::write(m.path("t.conf"), conf(more)).unwrap();
        m.cli("reload");
        assert!(wait_for(Duration::from_secs(5), || shows(&m, words)), "{more}");
        ask(&mut c);
    }
    let log = std::fs::read_to_string(m.path("t.log")).unwrap();
    assert!(!log.contains("removed"), "{log}");
}

/// A guardian that did not run while the peer took over: no announcement of an address that is not its own any more.
fn frozen() {
    use std::os::fd::AsRawFd;
    let mut m = Mixed::new();
    m.start_tandem(150, "nopreempt");
    m.moves_to(0, Duration::from_secs(8));
    let guardian = m.tandem.as_ref().unwrap().guardian();
    m.tandem.as_ref().unwrap().signal(guardian, 19);
    // Another machine with the address, and ears for announcements.
    let heard = m.lab.hosts[1]
        .thread(move || {
            let ip = |args: &[&str]| assert!(Command::new("ip").args(args).status().unwrap().success());
            let s = socket2::Socket::new(
                socket2::Domain::PACKET,
                socket2::Type::RAW,
                Some(socket2::Protocol::from(i32::from(0x0806u16.to_be()))),
            )
            .unwrap();
            s.set_read_timeout(Some(MS(200))).unwrap();
            ip(&["addr", "add", "10.77.0.100/24", "dev", "eth0"]);
            // Long enough for the freeze to be longer than the master-down time, and for the first repeat to be due.
            std::thread::sleep(Duration::from_millis(6000));
            // SAFETY: plain system call; the guardian is this test's own.
            unsafe { libc::kill(guardian, libc::SIGCONT) };
            let end = Instant::now() + MS(1000);
            let mut n = 0;
            let mut buf = [0u8; 128];
            while Instant::now() < end {
                // SAFETY: `buf` is valid for its length.
                let got = unsafe { libc::recv(s.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), 0) };
                if got >= 42 && buf[28..32] == [10, 77, 0, 100] {
                    n += 1;
                }
            }
            n
        })
        .unwrap()
        .join()
        .unwrap();
    assert_eq!(heard, 0, "announcements after a freeze");
}
