//! The worker: everything that touches client bytes. The composition root of the proxy.
use super::bundle::{self, Target};
use super::ipc::{Channel, Control, SocketRef, ToGuardian, ToWorker};
use super::privilege;
use super::proof::Page;
use crate::base::diag::Severity;
use crate::config::change::{self, Change};
use crate::config::load::load;
use crate::config::model::{CliLevel, Fact, Proxy, Seen, Tracked};
use crate::config::source::LoadArgs;
use crate::control::execute::Asked;
use crate::control::runtime::{self, Wish};
use crate::control::{Pages, socket, statsfile};
use crate::health::verdict::Office;
use crate::health::{prober, resolver, saved};
use crate::log::console::Console;
use crate::log::{Sinks, ship};
use crate::net::listen;
use crate::proxy::doors::accept_loop;
use crate::proxy::listener::{Mail, Place};
use crate::proxy::{Shared, Thread};
use crate::state::counters::{Counter, set_shard};
use crate::state::live::{Happening, Live, lock};
use crate::state::snapshot::{ProxyNode, Snapshot};
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::os::fd::{FromRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, watch};

/// Descriptors on which the worker finds its channel and the page of epochs.
pub const CHANNEL_FD: i32 = 3;
pub const PAGE_FD: i32 = 4;

/// What the control thread tells a traffic thread.
enum ThreadCmd {
    Listen {
        socket: OwnedFd,
        place: Place,
        stop: watch::Receiver<bool>,
    },
    Drain,
    Loop(u64),
    /// The process ends: what was logged goes out, and word goes back.
    LastLines(mpsc::UnboundedSender<()>),
}

/// How long threads are waited for at the end.
const LAST_LINES: Duration = Duration::from_millis(100);

/// A socket in service.
struct Served {
    stop: watch::Sender<bool>,
}

/// `background`: standard descriptors are given up once it serves.
pub fn main(background: bool) -> i32 {
    // SAFETY: the guardian put these two there; nobody else in this process owns them.
    let (channel, page) = unsafe { (OwnedFd::from_raw_fd(CHANNEL_FD), OwnedFd::from_raw_fd(PAGE_FD)) };
    // The guardian decides when to end; a terminal's Ctrl-C goes to it as well.
    // SAFETY: ignoring signals has no handler to be unsafe.
    unsafe {
        for s in [libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2, libc::SIGPIPE] {
            libc::signal(s, libc::SIG_IGN);
        }
    }
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return 1 };
    let set = tokio::task::LocalSet::new();
    match set.block_on(&runtime, Worker::run(channel, page, background)) {
        Ok(()) => 0,
        Err(e) => {
            eprintln!("[ALERT]    ({}) : {e}", std::process::id());
            1
        }
    }
}

struct Worker {
    channel: Channel,
    live: Arc<Live>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    shared: Arc<Shared>,
    threads: Vec<mpsc::UnboundedSender<ThreadCmd>>,
    served: HashMap<u64, Served>,
    probes: Option<prober::Probes>,
    resolutions: Option<resolver::Resolutions>,
    shipping: Option<ship::Shipping>,
    ask: mpsc::UnboundedSender<Asked>,
    sinks: Arc<Sinks>,
    orphan_life: Duration,
    page: Arc<Page>,
    /// What was loaded last, and what was changed since.
    bundle: OwnedFd,
    changes: Vec<Change>,
}

/// Without virtual addresses an orphan waits this long for its successor to be there.
const ORPHAN_LIFE: Duration = Duration::from_secs(300);
/// And lets its connections end for this long.
const ORPHAN_DRAIN: Duration = Duration::from_secs(60);

/// How often the control thread proves that it lives.
const LIFE: Duration = Duration::from_millis(100);

/// A load that is coming in: the bundle, and sockets until all are here.
struct Incoming {
    generation: u64,
    bundle: OwnedFd,
    wanted: Vec<SocketRef>,
    /// Descriptions and descriptors that are still to come.
    unsaid: usize,
    missing: usize,
    sockets: HashMap<u64, OwnedFd>,
}

impl Incoming {
    fn new(generation: u64, bundle: OwnedFd, wanted: usize, fresh: usize) -> Self {
        Self { generation, bundle, wanted: Vec::new(), unsaid: wanted, missing: fresh, sockets: HashMap::new() }
    }

    /// Takes a part in.
    fn wanted(&mut self, refs: Vec<SocketRef>) {
        self.unsaid = self.unsaid.saturating_sub(refs.len());
        self.wanted.extend(refs);
    }

    fn sockets(&mut self, ids: Vec<u64>, fds: Vec<OwnedFd>) {
        self.missing = self.missing.saturating_sub(ids.len());
        self.sockets.extend(ids.into_iter().zip(fds));
    }

    fn whole(&self) -> bool {
        self.unsaid == 0 && self.missing == 0
    }
}

impl Worker {
    async fn run(channel: OwnedFd, page: OwnedFd, background: bool) -> Result<(), String> {
        let channel = Channel::new(channel).map_err(|e| e.to_string())?;
        let (first, (facts, states)) = receive_load(&channel).await?.ok_or("the guardian is gone")?;
        let read = bundle::read(&first.bundle, true).map_err(|e| e.to_string())?;
        let spec = read.spec;
        // The name that scripts look for belongs to what proxies.
        privilege::set_name(if spec.proxy { "haproxy" } else { "tandem-worker" });
        let mut recorded = read.recorded;
        let threads = spec.threads;
        // As long as addresses last in the kernel: the time a peer needs, and two seconds.
        let orphan_life =
            spec.vrrp.instances.iter().map(|i| i.advert_int * 4 + Duration::from_secs(4)).max().unwrap_or(ORPHAN_LIFE);
        let live = Live::new(threads);
        let args = recorded.args.clone();
        let (model, mut report) = load(&mut recorded, &args);
        // Logs are opened while their paths can be reached; then everything that is not needed is given up.
        let targets: Vec<_> =
            model.global.logs.iter().chain(model.proxies.iter().flat_map(|p| &p.logs)).cloned().collect();
        let console = Console::start(true, false);
        // Lines carry the guardian's number: that is what the pid file names, and who takes signals.
        let pid = u32::try_from(nix::unistd::getppid().as_raw()).unwrap_or(0);
        // Their files as well.
        for r in &model.rings {
            // What fails is said where the rest of the configuration is.
            let _ = live.ring(r);
        }
        let sinks = Arc::new(Sinks::open(targets.iter(), console.clone(), crate::log::utc_offset(), pid));
        privilege::raise_nofile(u64::from(spec.maxconn) * 2 + u64::from(spec.maxconn) / 2 + 200);
        let notes = privilege::confine(spec.chroot.as_deref(), spec.uid, spec.gid, spec.raw)?;
        notes.into_iter().for_each(|n| console.notice(n));
        let snapshot = Snapshot::compile(model, &mut recorded, &live, sinks.clone(), first.generation, &mut report);
        if report.has_fatal() {
            return Err(report.render(std::process::id(), Severity::NotYet));
        }
        if let Some(bytes) = &snapshot.global.stats_file {
            statsfile::preload(&String::from_utf8_lossy(bytes), &snapshot);
        }
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        let mut inboxes = Vec::new();
        let mut receivers = Vec::new();
        for _ in 0..threads {
            let (tx, rx) = mpsc::unbounded_channel();
            inboxes.push(tx);
            receivers.push(rx);
        }
        let shared = Arc::new(Shared {
            live: live.clone(),
            snapshot: snapshot.clone(),
            services: Box::new(Pages { live: live.clone(), snapshot: snapshot.clone() }),
            inboxes,
            secret: std::hash::RandomState::new(),
            draining: AtomicBool::new(false),
            unique: AtomicU64::new(0),
        });
        let page = Arc::new(Page::map(&page).map_err(|e| e.to_string())?);
        let (tids, mut got_tids) = mpsc::unbounded_channel();
        let mut commands = Vec::new();
        for (id, inbox) in receivers.into_iter().enumerate() {
            let (tx, rx) = mpsc::unbounded_channel();
            commands.push(tx);
            let (shared, page, tids) = (shared.clone(), page.clone(), tids.clone());
            std::thread::Builder::new()
                .name(format!("haproxy/{id}"))
                .spawn(move || {
                    let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        traffic(id, shared, &page, rx, inbox, tids)
                    }));
                    // A thread less would leave its sockets without anybody: better a new worker.
                    if end.is_err() {
                        std::process::abort();
                    }
                })
                .map_err(|e| format!("cannot start a thread: {e}"))?;
        }
        drop(tids);
        let mut kernel_ids = vec![0; threads];
        for _ in 0..threads {
            let (id, tid) = got_tids.recv().await.ok_or("a thread did not start")?;
            kernel_ids[id] = tid;
        }
        // The control thread proves that it lives as the others do; it is the last one.
        // SAFETY: gettid has no arguments and cannot fail.
        kernel_ids.push(unsafe { libc::gettid() });
        let (ask, asked) = mpsc::unbounded_channel();
        let mut w = Self {
            channel,
            live,
            snapshot,
            shared,
            threads: commands,
            served: HashMap::new(),
            probes: None,
            resolutions: None,
            shipping: None,
            ask,
            sinks,
            orphan_life,
            page,
            bundle: first.bundle.try_clone().map_err(|e| e.to_string())?,
            changes: Vec::new(),
        };
        w.snapshot.load().adopt(&w.live);
        w.live.facts.send_replace(facts);
        let snapshot = w.snapshot.load_full();
        let office = Office { snapshot: &snapshot, live: &w.live };
        saved::take_over(&office);
        states.iter().for_each(|s| office.recall(s));
        let generation = first.generation;
        listen_on(&first)?;
        w.put_in_service(first);
        w.probes = Some(prober::start(&w.snapshot.load_full(), &w.live));
        w.resolutions = Some(resolver::start(&w.snapshot.load_full(), &w.live));
        w.shipping = Some(ship::start(&w.snapshot.load_full()));
        w.say(&ToGuardian::Ready { generation, threads: kernel_ids });
        if background {
            privilege::close_standard(&targets.iter().filter_map(|t| t.dest.fd()).collect::<Vec<_>>());
        }
        w.serve(asked).await
    }

    fn say(&self, m: &ToGuardian) {
        // A guardian that is gone is noticed where messages are received.
        let _ = self.channel.send(m, &[]);
    }

    async fn serve(&mut self, mut asked: mpsc::UnboundedReceiver<Asked>) -> Result<(), String> {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut life = tokio::time::interval(LIFE);
        life.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut incoming: Option<Incoming> = None;
        let mut hard_stop: Option<tokio::time::Instant> = None;
        // A stop that is only told so far (`grace`).
        let mut grace: Option<tokio::time::Instant> = None;
        let mut orphan = false;
        let mut leave_at: Option<tokio::time::Instant> = None;
        // What virtual routers track in here, and what was said of it last.
        let Some(mut happenings) = self.live.happenings.take() else { return Err("it serves already".into()) };
        let mut watched: (Vec<(Tracked, String)>, Vec<Seen>) = (Vec::new(), Vec::new());
        loop {
            let leave = leave_at.unwrap_or_else(|| tokio::time::Instant::now() + Duration::from_secs(3600));
            let grace_at = grace.unwrap_or_else(|| tokio::time::Instant::now() + Duration::from_secs(3600));
            let stop_at = hard_stop.unwrap_or_else(|| tokio::time::Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                m = self.channel.receive::<ToWorker>(), if !orphan => {
                    let (m, fds) = match m {
                        Ok(Some(x)) => x,
                        // The guardian died. Serve on while the addresses last; then whoever follows has sockets of its own, and we go softly.
                        Ok(None) => {
                            orphan = true;
                            leave_at = Some(tokio::time::Instant::now() + self.orphan_life);
                            continue;
                        }
                        Err(e) => {
                            self.failed(incoming.take().map_or(0, |i| i.generation), e.to_string());
                            continue;
                        }
                    };
                    match m {
                        ToWorker::Load { generation, wanted, fresh } => {
                            let Some(bundle) = fds.into_iter().next() else {
                                self.failed(generation, "no bundle came with the load".into());
                                continue;
                            };
                            incoming = Some(Incoming::new(generation, bundle, wanted, fresh));
                        }
                        ToWorker::Wanted(refs) => {
                if let Some(i) = incoming.as_mut() {
                    i.wanted(refs);
                }
            }
            ToWorker::Sockets(ids) => {
                if let Some(i) = incoming.as_mut() {
                    i.sockets(ids, fds);
                }
            }
                        ToWorker::SoftStop { grace_ms, hard_stop_ms } => {
                            let now = tokio::time::Instant::now();
                            hard_stop = hard_stop_ms.map(|ms| now + Duration::from_millis(ms));
                            if grace_ms == 0 {
                                self.soft_stop();
                            } else {
                                self.live.stopping.store(true, Relaxed);
                                grace = Some(now + Duration::from_millis(grace_ms));
                            }
                        }
                        ToWorker::Vrrp(v) => *lock(&self.live.vrrp) = v,
                        ToWorker::Watch(what) => watched = (what, Vec::new()),
                        ToWorker::Facts { whole, facts } => self.live.facts.send_modify(|f| take_facts(f, whole, facts)),
                        // Only one that is new has to be told.
                        ToWorker::Known(_) => {}
                        ToWorker::Cli(level) => self.answer_master(level, fds),
                        ToWorker::ReloadFailed(_) => { self.live.failed_reloads.fetch_add(1, Relaxed); }
                    }
                    if incoming.as_ref().is_some_and(Incoming::whole) && let Some(i) = incoming.take() {
                        self.reload(i).await;
                    }
                }
                // None of them may be lost: scripts hang on them.
                Some(h) = happenings.recv() => drop(self.channel.send_wait(&ToGuardian::Happened(h), &[]).await),
                Some(a) = asked.recv() => match a {
                    Asked::Reload => self.say(&ToGuardian::Control(Control::Reload)),
                    Asked::Standby(yes) => self.say(&ToGuardian::Control(Control::Standby(yes))),
                    Asked::Loop(ms) => drop(self.threads[0].send(ThreadCmd::Loop(ms))),
                    Asked::Change(change, done) => drop(done.send(self.change(change).await)),
                },
                _ = life.tick() => {
                    self.page.advance(self.threads.len());
                    if !watched.0.is_empty() {
                        let seen = self.look_inside(&watched.0);
                        if seen != watched.1 {
                            self.say(&ToGuardian::Seen(seen.clone()));
                            watched.1 = seen;
                        }
                    }
                }
                _ = second.tick() => {
                    self.sample();
                    if self.shared.drains() && self.live.conns.get() == 0 {
                        self.last_lines().await;
                        self.say(&ToGuardian::Drained);
                        return Ok(());
                    }
                }
                () = tokio::time::sleep_until(leave), if leave_at.is_some() => {
                    leave_at = None;
                    self.soft_stop();
                    hard_stop = Some(tokio::time::Instant::now() + ORPHAN_DRAIN);
                }
                () = tokio::time::sleep_until(grace_at), if grace.is_some() => {
                    grace = None;
                    self.soft_stop();
                }
                () = tokio::time::sleep_until(stop_at), if hard_stop.is_some() => {
                    self.last_lines().await;
                    self.say(&ToGuardian::Drained);
                    return Ok(());
                }
            }
        }
    }

    /// The end: what threads have logged goes out. One that is stuck is not waited for.
    async fn last_lines(&self) {
        let (done, mut word) = mpsc::unbounded_channel();
        let asked = self.threads.iter().filter(|t| t.send(ThreadCmd::LastLines(done.clone())).is_ok()).count();
        let all = async {
            for _ in 0..asked {
                word.recv().await;
            }
        };
        let _ = tokio::time::timeout(LAST_LINES, all).await;
    }

    /// Compiles what was loaded last with one change more, and swaps; says what is to be said of that. The error says what speaks against
    /// it; nothing has changed then.
    async fn change(&mut self, wish: Wish) -> Result<String, String> {
        if self.live.stopping.load(Relaxed) {
            return Err("Not possible now: the process is ending.".into());
        }
        // What is in force now counts, not what was when the command came.
        let current = self.snapshot.load_full();
        let (change, said) = runtime::plan(&wish, &current)?;
        let (live, sinks) = (self.live.clone(), self.sinks.clone());
        let fd = self.bundle.try_clone().map_err(|e| e.to_string())?;
        let (mut changes, old) = (self.changes.clone(), current.clone());
        // The old name's counters and state go on under the new one.
        if let Change::RenameServer { backend, server, name } = &change
            && let Some(p) = current.backend(backend)
        {
            Live::rename_server(&p.live, server, name);
        }
        let latest = change.clone();
        change::push(&mut changes, change);
        let compiled = tokio::task::spawn_blocking(move || -> Result<(Snapshot, Vec<Change>), String> {
            let mut recorded = bundle::read(&fd, true).map_err(|e| e.to_string())?.recorded;
            let args = LoadArgs { changes, ..recorded.args.clone() };
            let (model, mut report) = load(&mut recorded, &args);
            let s =
                Snapshot::compile_from(model, &mut recorded, &live, sinks, old.generation + 1, Some(&old), &mut report);
            match report.diags.iter().find(|d| d.severity >= Severity::NotYet) {
                Some(d) => Err(runtime::refusal(&latest, &d.message)),
                None => Ok((s, args.changes)),
            }
        })
        .await;
        let compiled = compiled.map_err(|e| e.to_string()).and_then(|s| s);
        let (s, mut changes) = compiled.inspect_err(|_| current.forget_others(&self.live))?;
        if let Some(last) = changes.last_mut() {
            runtime::pin(last, &s);
        }
        self.changes = changes;
        drop(self.put_in_force(s));
        Ok(said)
    }

    /// The snapshot serves from here on; the one before is given back, to be dropped by the control thread.
    fn put_in_force(&mut self, s: Snapshot) -> Arc<Snapshot> {
        s.adopt(&self.live);
        let old = self.snapshot.swap(Arc::new(s));
        for p in &self.snapshot.load().proxies {
            p.live.bump();
            p.live.wake(None);
        }
        self.probes = Some(prober::start(&self.snapshot.load_full(), &self.live));
        self.resolutions = Some(resolver::start(&self.snapshot.load_full(), &self.live));
        old
    }

    /// Compiles off the traffic threads, then swaps. A bundle that cannot be compiled changes nothing.
    async fn reload(&mut self, i: Incoming) {
        let generation = i.generation;
        let (live, sinks) = (self.live.clone(), self.sinks.clone());
        // Changes at run time count as well; the guardian knows nothing of those.
        let version = self.snapshot.load().generation + 1;
        let fd = match i.bundle.try_clone() {
            Ok(fd) => fd,
            Err(e) => return self.failed(generation, e.to_string()),
        };
        let compiled = tokio::task::spawn_blocking(move || -> Result<Snapshot, String> {
            let read = bundle::read(&fd, true).map_err(|e| e.to_string())?;
            let mut recorded = read.recorded;
            let args = recorded.args.clone();
            let (model, mut report) = load(&mut recorded, &args);
            let s = Snapshot::compile(model, &mut recorded, &live, sinks, version, &mut report);
            if report.has_fatal() { Err(report.render(std::process::id(), Severity::NotYet)) } else { Ok(s) }
        })
        .await;
        let compiled = compiled.map_err(|e| e.to_string()).and_then(|s| s).and_then(|s| listen_on(&i).map(|()| s));
        match compiled {
            Ok(s) => {
                let old = self.put_in_force(s);
                self.live.reloads.fetch_add(1, Relaxed);
                self.changes.clear();
                if let Ok(bundle) = i.bundle.try_clone() {
                    self.bundle = bundle;
                }
                self.put_in_service(i);
                // Listeners that go with this load are told of that first.
                self.snapshot.load().open_doors(&self.live);
                // The old ones leave their places to the new ones.
                self.shipping = None;
                self.shipping = Some(ship::start(&self.snapshot.load_full()));
                // Dropped here, on the control thread, once sessions have let go of it.
                drop(old);
                self.say(&ToGuardian::Ready { generation, threads: Vec::new() });
            }
            Err(why) => {
                self.snapshot.load().forget_others(&self.live);
                self.failed(generation, why);
            }
        }
    }

    fn answer_master(&self, level: CliLevel, fds: Vec<OwnedFd>) {
        for fd in fds {
            if let Ok(s) = tokio::net::UnixStream::from_std(fd.into()) {
                let (snapshot, live, ask) = (self.snapshot.clone(), self.live.clone(), self.ask.clone());
                tokio::task::spawn_local(socket::serve(s, level, snapshot, live, ask));
            }
        }
    }

    fn failed(&self, generation: u64, why: String) {
        self.live.failed_reloads.fetch_add(1, Relaxed);
        self.say(&ToGuardian::Failed { generation, why });
    }

    /// Starts what is new, stops what is not wanted any more.
    fn put_in_service(&mut self, mut i: Incoming) {
        let keep: std::collections::HashSet<u64> = i.wanted.iter().map(|w| w.id).collect();
        self.served.retain(|id, s| {
            let kept = keep.contains(id);
            if !kept {
                let _ = s.stop.send(true);
            }
            kept
        });
        for w in i.wanted {
            let Some(fd) = i.sockets.remove(&w.id) else { continue };
            let (stop, stopped) = watch::channel(false);
            // An inherited descriptor may be of either kind; the socket knows.
            let unix = socket2::SockRef::from(&fd).local_addr().map_or(w.unix, |a| a.is_unix());
            match w.target {
                Target::Frontend { name, index } => {
                    let place = Place { frontend: name.into(), listener: index, unix };
                    let t = &self.threads[w.thread % self.threads.len()];
                    let _ = t.send(ThreadCmd::Listen { socket: fd, place, stop: stopped });
                }
                Target::Cli { level } => {
                    tokio::task::spawn_local(command_socket(
                        fd,
                        unix,
                        level,
                        self.snapshot.clone(),
                        self.live.clone(),
                        self.ask.clone(),
                        stopped,
                    ));
                }
            }
            self.served.insert(w.id, Served { stop });
        }
    }

    fn soft_stop(&mut self) {
        self.live.stopping.store(true, Relaxed);
        for s in self.served.values() {
            let _ = s.stop.send(true);
        }
        self.shared.draining.store(true, Relaxed);
        for t in &self.threads {
            let _ = t.send(ThreadCmd::Drain);
        }
        let s = self.snapshot.load();
        for p in s.proxies.iter().filter(|p| p.conf.is_frontend() || p.conf.is_backend()) {
            p.live.stopped.store(true, Relaxed);
            let (f, b) = (p.live.front.get(Counter::Sessions), p.live.back.get(Counter::Sessions));
            let text = format!("Proxy {} stopped (cumulated conns: FE: {f}, BE: {b}).", p.conf.name);
            p.note(crate::log::WARNING, &text, &self.live);
        }
    }

    /// Rates, once a second.
    /// What virtual routers track: servers that can be used, frontends that take connections, and whether there is room for more.
    fn look_inside(&self, what: &[(Tracked, String)]) -> Vec<Seen> {
        let s = self.snapshot.load();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let one = |(kind, name): &(Tracked, String)| {
            let proxy = |side: fn(&Proxy) -> bool| s.proxies.iter().find(|p| p.conf.name == *name && side(&p.conf));
            let (up, total) = match kind {
                Tracked::Backend => {
                    proxy(Proxy::is_backend).map_or((0, 0), |p| (count(p.usable_servers()), count(p.servers.len())))
                }
                Tracked::Frontend => {
                    let takes = |p: &Arc<ProxyNode>| !p.conf.disabled && p.live.is_open();
                    (u32::from(proxy(Proxy::is_frontend).is_some_and(takes)), 1)
                }
                _ => (u32::from(self.has_room()), 1),
            };
            Seen { kind: *kind, name: name.clone(), up, total }
        };
        what.iter().map(one).collect()
    }

    /// Connections are below nine tenths of what the process takes.
    fn has_room(&self) -> bool {
        let most = self.live.limits.maxconn.get();
        self.live.conns.get().saturating_mul(10) < most.saturating_mul(9)
    }

    fn sample(&self) {
        let seconds = self.live.started.elapsed().as_secs();
        let s = self.snapshot.load();
        self.live.conn_rate.sample(self.live.total_conns.load(Relaxed));
        self.live.comp_rate_in.sample(self.live.comp_in.load(Relaxed));
        self.live.comp_rate_out.sample(self.live.comp_out.load(Relaxed));
        self.live.ssl_rate.sample(self.live.total_ssl.load(Relaxed));
        for p in &s.proxies {
            p.live.front_rate.sample(p.live.front.get(Counter::Sessions));
            p.live.req_rate.sample(p.live.front.get(Counter::Requests));
            p.live.back_rate.sample(p.live.back.get(Counter::Sessions));
            // Servers that warm up weigh more each second, and have just become warm once.
            if p.servers.iter().any(|s| !s.conf.slowstart.is_zero()) {
                p.live.bump();
                p.live.wake(None);
            }
            for n in &p.servers {
                n.live.rate.sample(n.live.counters.get(Counter::Sessions));
                if seconds.is_multiple_of(n.conf.pool_purge.as_secs().max(1)) {
                    n.live.rethink_need();
                }
            }
        }
    }
}

/// What came with a load listens from now on.
fn listen_on(i: &Incoming) -> Result<(), String> {
    for w in &i.wanted {
        if let Some(fd) = i.sockets.get(&w.id) {
            listen::begin(fd, w.backlog)
                .map_err(|e| format!("cannot listen for {}: {}", w.target, crate::base::diag::io_words(&e)))?;
        }
    }
    Ok(())
}

/// What the guardian knows of servers: facts, and the states that an earlier worker told.
type Known = (HashMap<String, Fact>, Vec<Happening>);

/// Facts that are new, or (`whole`) all that there are.
fn take_facts(all: &mut HashMap<String, Fact>, whole: bool, facts: HashMap<String, Fact>) {
    if whole {
        all.clear();
    }
    all.extend(facts);
}

/// The first load of a worker's life, and what stands in front of it.
async fn receive_load(channel: &Channel) -> Result<Option<(Incoming, Known)>, String> {
    let mut known = Known::default();
    let mut incoming: Option<Incoming> = None;
    loop {
        let Some((m, fds)) = channel.receive::<ToWorker>().await.map_err(|e| e.to_string())? else { return Ok(None) };
        match m {
            ToWorker::Load { generation, wanted, fresh } => {
                let bundle = fds.into_iter().next().ok_or("no bundle came with the load")?;
                incoming = Some(Incoming::new(generation, bundle, wanted, fresh));
            }
            ToWorker::Wanted(refs) => {
                if let Some(i) = incoming.as_mut() {
                    i.wanted(refs);
                }
            }
            ToWorker::Sockets(ids) => {
                if let Some(i) = incoming.as_mut() {
                    i.sockets(ids, fds);
                }
            }
            ToWorker::SoftStop { .. } => return Ok(None),
            ToWorker::Facts { whole, facts } => take_facts(&mut known.0, whole, facts),
            ToWorker::Known(states) => known.1.extend(states),
            ToWorker::Vrrp(_) | ToWorker::Watch(_) | ToWorker::Cli(_) | ToWorker::ReloadFailed(_) => {}
        }
        if incoming.as_ref().is_some_and(Incoming::whole) {
            return Ok(incoming.map(|i| (i, known)));
        }
    }
}

/// `cpu-map`. A thread that cannot be bound runs where the kernel likes.
fn bind_to_cpus(id: usize, shared: &Shared) {
    let snapshot = shared.snapshot.load();
    let Some(cpus) = snapshot.global.cpu_map.get(id).filter(|c| !c.is_empty()) else { return };
    let mut set = nix::sched::CpuSet::new();
    // Numbers beyond the set's room are those of no CPU.
    for c in cpus {
        let _ = set.set((*c).into());
    }
    if let Err(e) = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)
        && let Some(c) = &snapshot.sinks.console
    {
        c.warning(format!("Cannot bind thread {} to CPUs {cpus:?} ('cpu-map'): {e}.", id + 1));
    }
}

/// A traffic thread: its own runtime, sockets, timers and epoch.
fn traffic(
    id: usize,
    shared: Arc<Shared>,
    page: &Page,
    mut commands: mpsc::UnboundedReceiver<ThreadCmd>,
    mut inbox: mpsc::UnboundedReceiver<Mail>,
    tids: mpsc::UnboundedSender<(usize, i32)>,
) {
    set_shard(id);
    bind_to_cpus(id, &shared);
    // SAFETY: gettid has no arguments and cannot fail.
    let tid = unsafe { libc::gettid() };
    // Not a LocalSet: its tasks are woken over the event loop's own wake-up descriptor, which costs a write and a turn of the loop more.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let Ok(runtime) = runtime.enable_all().event_interval(31).build_local(LocalOptions::default()) else { return };
    runtime.block_on(async move {
        let t = Thread::new(id, shared);
        if tids.send((id, tid)).is_err() {
            return;
        }
        drop(tids);
        let ticker: Rc<Thread> = t.clone();
        tokio::task::spawn_local(crate::proxy::parking::attend(t.clone()));
        tokio::task::spawn_local(crate::proxy::postman(t.clone()));
        let mut bell = t.shared.live.bell.listen();
        let mut tick = tokio::time::interval(Duration::from_millis(crate::proxy::wheel::TICK));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    page.advance(id);
                    ticker.tick();
                }
                Ok(()) = bell.changed() => t.wheel.wake_all(),
                c = commands.recv() => match c {
                    Some(ThreadCmd::Listen { socket, place, stop }) => {
                        if listen::takes_datagrams(&socket) {
                            let virtual_server = t.snapshot().frontend(&place.frontend).is_some_and(|f| f.conf.mode == crate::config::model::Mode::Udp);
                            if virtual_server {
                                tokio::task::spawn_local(crate::proxy::datagram::serve(t.clone(), socket, place, stop));
                            } else {
                                tokio::task::spawn_local(crate::proxy::syslog::datagrams(t.clone(), socket, place, stop));
                            }
                        } else {
                            tokio::task::spawn_local(accept_loop(t.clone(), socket, place, stop));
                        }
                    }
                    Some(ThreadCmd::Drain) => {
                        t.wheel.expire_idle();
                        if let Some(p) = &t.parking {
                            p.drain();
                        }
                    }
                    Some(ThreadCmd::Loop(ms)) => {
                        let end = std::time::Instant::now() + Duration::from_millis(ms);
                        while std::time::Instant::now() < end {
                            std::hint::spin_loop();
                        }
                    }
                    Some(ThreadCmd::LastLines(done)) => {
                        t.last_lines();
                        let _ = done.send(());
                    }
                    None => return,
                },
                Some(m) = inbox.recv() => crate::proxy::listener::read(&t, m),
            }
        }
    });
}

/// Accepts on a runtime socket.
async fn command_socket(
    fd: OwnedFd,
    unix: bool,
    level: CliLevel,
    snapshot: Arc<ArcSwap<Snapshot>>,
    live: Arc<Live>,
    ask: mpsc::UnboundedSender<Asked>,
    mut stop: watch::Receiver<bool>,
) {
    // SAFETY: the OwnedFd keeps the same descriptor open for the life of the AsyncFd.
    let Ok(fd) = (unsafe { AsyncFd::register(fd) }) else { return };
    loop {
        let mut guard = tokio::select! {
            g = fd.readable() => match g { Ok(g) => g, Err(_) => return },
            _ = stop.changed() => return,
        };
        let Some(conn) = listen::accept(fd.get_ref()) else {
            guard.clear_ready();
            continue;
        };
        let (snapshot, live, ask) = (snapshot.clone(), live.clone(), ask.clone());
        if unix {
            if let Ok(s) = tokio::net::UnixStream::from_std(conn.into()) {
                tokio::task::spawn_local(socket::serve(s, level, snapshot, live, ask));
            }
        } else if let Ok(s) = tokio::net::TcpStream::from_std(conn.into()) {
            tokio::task::spawn_local(socket::serve(s, level, snapshot, live, ask));
        }
    }
}
