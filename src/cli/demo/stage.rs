//! The stage of the demo and of the measured tests: two nodes, three servers, a client, and the events that befall them.
use super::lab::{Lab, Node, address, command, wait_for};
use super::probe::{Cost, Prober, cost};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

pub const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 100));
/// Pace of the probes.
pub const EVERY: Duration = Duration::from_millis(5);
/// Reloads after which the worker's memory is measured, and KiB that it may have grown by after as many more as make twenty.
const RELOADS_TO_LEVEL: u32 = 5;
const MEMORY_SLACK: u64 = 1024;
const CLIENT: usize = 2;
const SERVERS: usize = 3;

static ENDED: AtomicBool = AtomicBool::new(false);

/// Ctrl-C and SIGTERM end the demo in order, so that nothing is left behind.
pub fn end_on_signals() {
    extern "C" fn note(_: i32) {
        ENDED.store(true, Relaxed);
    }
    // SAFETY: the handler only stores an atomic.
    unsafe {
        libc::signal(libc::SIGINT, note as *const () as libc::sighandler_t);
        libc::signal(libc::SIGTERM, note as *const () as libc::sighandler_t);
    }
}

pub fn ended() -> bool {
    ENDED.load(Relaxed)
}

/// How the pair speaks.
#[derive(Clone, Debug)]
pub struct Dialect {
    /// Lines of `global_defs`.
    pub globals: &'static str,
    /// Lines of the instance on both nodes.
    pub lines: &'static str,
    /// `state` on the first and the second node.
    pub states: [&'static str; 2],
    pub interval: Duration,
    /// Longest skew at the priorities used.
    pub skew: Duration,
}

impl Dialect {
    /// VRRPv3 at 50 ms.
    pub const FAST: Self = Self {
        globals: "vrrp_version 3",
        lines: "advert_int 0.05",
        states: ["MASTER", "BACKUP"],
        interval: Duration::from_millis(50),
        skew: Duration::from_millis(31),
    };
    /// VRRPv3 at 10 ms, the shortest that its packets can say.
    pub const FASTEST: Self = Self {
        globals: "vrrp_version 3",
        lines: "advert_int 0.01",
        states: ["MASTER", "BACKUP"],
        interval: Duration::from_millis(10),
        skew: Duration::from_millis(7),
    };
    /// What most files say: VRRPv2, a second.
    pub const USUAL: Self = Self {
        globals: "router_id demo",
        lines: "advert_int 1\n authentication {\n auth_type PASS\n auth_pass 1111\n }",
        states: ["MASTER", "BACKUP"],
        interval: Duration::from_secs(1),
        skew: Duration::from_millis(610),
    };
    pub const FAST_NOPREEMPT: Self = Self {
        globals: "vrrp_version 3",
        lines: "advert_int 0.05\n nopreempt",
        states: ["BACKUP", "BACKUP"],
        interval: Duration::from_millis(50),
        skew: Duration::from_millis(31),
    };

    /// Three adverts, the skew and 50 ms: what silence may cost.
    pub fn silence(&self) -> Duration {
        self.interval * 3 + self.skew + Duration::from_millis(50)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    KillProxy,
    HangProxy,
    HangThread,
    CutLink,
    PlannedSwitch,
    Reload,
    StopGuardian,
    SoftStopGuardian,
    KillGuardian,
}

impl Event {
    pub const ALL: &'static [Self] = &[
        Self::KillProxy,
        Self::HangProxy,
        Self::HangThread,
        Self::CutLink,
        Self::PlannedSwitch,
        Self::Reload,
        Self::StopGuardian,
        Self::SoftStopGuardian,
        Self::KillGuardian,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::KillProxy => "proxy killed (SIGKILL)",
            Self::HangProxy => "proxy hung (SIGSTOP)",
            Self::HangThread => "one proxy thread in a loop",
            Self::CutLink => "link cut",
            Self::PlannedSwitch => "planned switch",
            Self::Reload => "20 reloads",
            Self::StopGuardian => "node stopped (SIGTERM)",
            Self::SoftStopGuardian => "node stopped softly (SIGUSR1)",
            Self::KillGuardian => "guardian killed (SIGKILL)",
        }
    }
}

pub struct Limit {
    pub outage: Duration,
    pub no_new_failures: bool,
    pub none_fails: bool,
}

pub struct Stage {
    pub lab: Lab,
    pub nodes: [Option<Node>; 2],
    pub prober: Prober,
    pub dialect: Dialect,
    pub dir: PathBuf,
    binary: String,
    _servers: Vec<std::thread::JoinHandle<()>>,
}

impl Stage {
    pub fn new(binary: &str, dialect: &Dialect) -> Result<Self, String> {
        let dir = std::env::temp_dir().join(format!("tandem-demo-{}-{}", std::process::id(), unique()));
        std::fs::create_dir_all(&dir).map_err(|e| format!("cannot make {}: {e}", dir.display()))?;
        let lab = Lab::new(4)?;
        let mut servers = Vec::new();
        for n in 0..3u16 {
            servers.push(lab.hosts[SERVERS].thread(move || serve(n)).map_err(|e| e.to_string())?);
        }
        let prober = Prober::start(&lab.hosts[CLIENT], SocketAddr::new(VIP, 80), EVERY).map_err(|e| e.to_string())?;
        let mut s = Self {
            lab,
            nodes: [None, None],
            prober,
            dialect: dialect.clone(),
            dir,
            binary: binary.to_owned(),
            _servers: servers,
        };
        for i in 0..2 {
            s.start(i)?;
        }
        Ok(s)
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_string_lossy().into_owned()
    }

    pub fn socket(&self, node: usize) -> String {
        self.path(&format!("lb{}.sock", node + 1))
    }

    pub fn keepalived_conf(&self, node: usize) -> String {
        let d = &self.dialect;
        format!(
            "global_defs {{\n {}\n}}\nvrrp_script chk_haproxy {{\n script \"killall -0 haproxy\"\n interval 2\n}}\nvrrp_instance VI_1 {{\n state {}\n interface eth0\n virtual_router_id 51\n priority {}\n {}\n virtual_ipaddress {{\n 10.77.0.100/24\n }}\n track_script {{\n chk_haproxy\n }}\n}}\n",
            d.globals,
            d.states[node],
            if node == 0 { 150 } else { 100 },
            d.lines
        )
    }

    pub fn haproxy_cfg(&self, node: usize) -> String {
        let n = node + 1;
        let mut text = format!(
            "global\n    stats socket {} level admin\n    nbthread 2\n\ndefaults\n    mode http\n    timeout connect 1s\n    timeout client 5s\n    timeout server 5s\n\nfrontend www\n    bind {VIP}:80\n    http-response set-header X-Node {n}\n    default_backend app\n\nbackend app\n    balance roundrobin\n    option httpchk GET /\n",
            self.socket(node)
        );
        for s in 1..=3 {
            text.push_str(&format!("    server s{s} {}:{} check inter 500ms\n", address(SERVERS), 8000 + s));
        }
        text
    }

    /// Writes both files of a node and starts it.
    pub fn start(&mut self, node: usize) -> Result<(), String> {
        let (h, k, log) = (
            self.path(&format!("lb{}.cfg", node + 1)),
            self.path(&format!("lb{}.conf", node + 1)),
            self.path(&format!("lb{}.log", node + 1)),
        );
        std::fs::write(&h, self.haproxy_cfg(node)).map_err(|e| e.to_string())?;
        std::fs::write(&k, self.keepalived_conf(node)).map_err(|e| e.to_string())?;
        let args = ["-f", &h, "-k", &k, "-db"].map(str::to_owned);
        let n = Node::start(&self.lab, node, &self.binary, &args, &log)
            .map_err(|e| format!("cannot start node {}: {e}", node + 1))?;
        self.nodes[node] = Some(n);
        Ok(())
    }

    pub fn logs(&self) -> String {
        (1..=2)
            .map(|n| {
                format!("--- lb{n}\n{}", std::fs::read_to_string(self.path(&format!("lb{n}.log"))).unwrap_or_default())
            })
            .collect()
    }

    /// `show vrrp` of a node: state and whether it can serve.
    pub fn vrrp(&self, node: usize) -> Option<(String, bool)> {
        let text = command(&self.socket(node), "show vrrp").ok()?;
        let field = |k: &str| text.split_whitespace().find_map(|w| w.strip_prefix(k)).map(str::to_owned);
        Some((field("state=")?, field("serves=")? == "true"))
    }

    /// Index of the node that holds the address.
    pub fn master(&self) -> Option<usize> {
        (0..2).find(|n| self.lab.addresses(*n).contains(&VIP))
    }

    /// Waits for the usual state: both can serve, one master, and, where preemption says so, the first one.
    pub fn settle(&self, limit: Duration) -> bool {
        let preempt = self.dialect.states[0] == "MASTER";
        wait_for(limit, || {
            if ended() {
                return true;
            }
            let v: Vec<_> = (0..2).filter_map(|n| self.vrrp(n)).collect();
            let masters = v.iter().filter(|x| x.0 == "MASTER").count();
            v.len() == 2 && v.iter().all(|x| x.1) && masters == 1 && (!preempt || v[0].0 == "MASTER") && self.answers()
        })
    }

    /// The last ten probes were answered.
    fn answers(&self) -> bool {
        let recent = self.prober.since(Instant::now() - EVERY * 20);
        recent.len() >= 5 && recent.iter().all(|s| s.result.is_ok())
    }

    pub fn limit(&self, e: Event) -> Limit {
        let ms = Duration::from_millis;
        let (outage, no_new_failures, none_fails) = match e {
            Event::KillProxy => (ms(20), true, false),
            Event::HangProxy | Event::HangThread => (ms(250), true, false),
            Event::CutLink | Event::KillGuardian => (self.dialect.silence(), true, false),
            Event::PlannedSwitch | Event::StopGuardian | Event::SoftStopGuardian => (ms(20), true, false),
            Event::Reload => (ms(100), true, true),
        };
        Limit { outage, no_new_failures, none_fails }
    }

    /// Lets an event happen to the master, measures, and puts everything right again.
    pub fn play(&mut self, e: Event) -> Result<Cost, String> {
        let m = self.master().ok_or("nobody holds the address")?;
        let old = u8::try_from(m + 1).ok();
        self.prober.forget();
        std::thread::sleep(EVERY * 20);
        let node = self.nodes[m].as_ref().ok_or("the master is not running")?;
        let worker = node.worker().ok_or("the master has no worker")?;
        let at = Instant::now();
        match e {
            Event::KillProxy => node.signal(worker, libc::SIGKILL),
            Event::HangProxy => node.signal(worker, libc::SIGSTOP),
            Event::HangThread => drop(command(&self.socket(m), "debug dev loop 5000").map_err(|e| e.to_string())?),
            Event::CutLink => self.lab.port(m, false)?,
            Event::PlannedSwitch => drop(command(&self.socket(m), "vrrp standby").map_err(|e| e.to_string())?),
            Event::Reload => {
                let mut level = 0;
                for n in 0..20 {
                    // Caches and arenas fill with the first few; from then on memory stays level.
                    if n == RELOADS_TO_LEVEL {
                        level = node.worker_memory();
                    }
                    let before = reloads(&self.socket(m));
                    node.signal(node.guardian(), libc::SIGUSR2);
                    if !wait_for(Duration::from_secs(5), || reloads(&self.socket(m)) > before) {
                        return Err("a reload did not come into force within 5 s".into());
                    }
                }
                let grown = node.worker_memory().saturating_sub(level);
                if grown > MEMORY_SLACK {
                    return Err(format!("the worker grew by {grown} KiB over 15 reloads, from {level} KiB"));
                }
                if node.workers() != 1 {
                    return Err(format!("{} worker processes after the reloads", node.workers()));
                }
            }
            Event::StopGuardian => node.signal(node.guardian(), libc::SIGTERM),
            Event::SoftStopGuardian => node.signal(node.guardian(), libc::SIGUSR1),
            Event::KillGuardian => node.signal(node.guardian(), libc::SIGKILL),
        }
        // A killed worker may be back before the peer has to take over.
        let moves = !matches!(e, Event::Reload | Event::KillProxy);
        let window = self.dialect.silence() + Duration::from_millis(1200);
        if moves {
            wait_for(window, || {
                self.prober.since(at).iter().any(|s| s.begun >= at && s.result.is_ok_and(|r| Some(r.0) != old))
            });
        }
        // Late failures are to be seen as well: a probe takes up to a second.
        std::thread::sleep(Duration::from_millis(1100));
        let c = cost(&self.prober.since(at - EVERY * 10), at, old, EVERY);
        if moves && !c.moved {
            return Err(format!("the address did not move ({} probes failed)\n{}", c.failed, self.logs()));
        }
        let back = Instant::now();
        match e {
            Event::CutLink => self.lab.port(m, true)?,
            Event::PlannedSwitch => drop(command(&self.socket(m), "vrrp resume").map_err(|e| e.to_string())?),
            Event::StopGuardian | Event::SoftStopGuardian | Event::KillGuardian => {
                if e == Event::KillGuardian && self.nodes[m].as_ref().is_some_and(|_| !alive(worker)) {
                    return Err("the worker did not outlive its guardian".into());
                }
                self.nodes[m] = None;
                if e == Event::KillGuardian {
                    // What the orphan held expires by itself; then its time is over.
                    if !wait_for(Duration::from_secs(10), || !self.lab.addresses(m).contains(&VIP)) {
                        return Err("the address stayed on the host whose guardian was killed".into());
                    }
                    // SAFETY: plain system call; the pid is that of a process of this laboratory.
                    unsafe { libc::kill(worker, libc::SIGKILL) };
                }
                self.start(m)?;
            }
            Event::KillProxy | Event::HangProxy | Event::HangThread | Event::Reload => {}
        }
        if !self.settle(Duration::from_secs(25)) {
            return Err(format!("the pair did not come back to its usual state within 25 s\n{}", self.logs()));
        }
        // Moving back may fail no new connection either.
        std::thread::sleep(Duration::from_millis(1100));
        let again = cost(&self.prober.since(back), back, old.map(|o| 3 - o), EVERY);
        Ok(Cost { failed_new: c.failed_new + again.failed_new, ..c })
    }
}

fn alive(pid: i32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}/stat")).exists()
}

fn reloads(socket: &str) -> u64 {
    command(socket, "show reloads").ok().and_then(|t| t.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.nodes = [None, None];
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn unique() -> u64 {
    static N: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    N.fetch_add(1, Relaxed)
}

/// A small HTTP server, number `n`, on hyper.
fn serve(n: u16) {
    use http_body_util::Full;
    use hyper::body::{Bytes, Incoming};
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    let Ok(rt) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    tokio::task::LocalSet::new().block_on(&rt, async move {
        let Ok(l) = tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8001 + n)).await else { return };
        loop {
            let Ok((s, _)) = l.accept().await else { continue };
            tokio::task::spawn_local(async move {
                let answer = service_fn(move |_: Request<Incoming>| async move {
                    Response::builder()
                        .header("x-server", n + 1)
                        .body(Full::new(Bytes::from(format!("server {}\n", n + 1))))
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(hyper_util::rt::TokioIo::new(s), answer)
                    .await;
            });
        }
    });
}
