//! The guardian: owns addresses, sockets and the worker's life. Parses no client byte, no file and no name; nothing on its VRRP path waits.
use super::bundle::{Bundle, Spec};
use super::child::{self, Load, Worker, kill};
use super::ipc::{Control, ToGuardian, ToWorker};
use super::loader::load_apart;
use super::master::{self, ToMaster};
use super::proof::{self, Clock, Verdict};
use super::rendezvous::{self, Answer, Ask, Asked, Half, Wish};
use super::servers::Servers;
use super::sockets::{self, Key, Plan, Sockets};
use super::start::{self, Options};
use super::stub;
use crate::config::model::{CliLevel, Fact, FactOf, ScriptCall, TimedScript, Tracked, VrrpModel};
use crate::config::source::LoadArgs;
use crate::log::console::Console;
use crate::net::listen::Bound;
use crate::net::netlink;
use crate::vrrp::dump::Clocks;
use crate::vrrp::engine::{Engine, Told};
use crate::vrrp::neighbours::{self, Neighbours};
use crate::vrrp::script::{self, Runner};
use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// Restart delays of a worker that keeps dying.
/// A deadline that is missed by more than this is one that this process slept through.
const LATE: Duration = Duration::from_millis(5);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A peer takes over within 10.2 ms of a yield; a worker that starts meanwhile would only be in its way.
const AFTER_YIELD: Duration = Duration::from_millis(15);
/// A worker that lived so long starts with a clean slate.
const HEALTHY: Duration = Duration::from_secs(30);
/// A worker that was told to stop hard has this long.
const LAST_CALL: Duration = Duration::from_millis(2500);
/// A worker that dies before it ever served is tried so often at the start.
const TRIES: u32 = 3;

pub struct Guardian {
    started: Instant,
    /// Reloads that took effect, and that did not.
    reloads: (u32, u32),
    /// SIGINT ended it.
    interrupted: bool,
    options: Options,
    log: Console,
    engine: Engine,
    sockets: Sockets,
    spec: Spec,
    bundle: OwnedFd,
    generation: u64,
    worker: Option<Worker>,
    backoff: Duration,
    restart_at: Option<Instant>,
    change: Change,
    /// Reloads that wait for the one under way.
    queue: VecDeque<Request>,
    stopping: Option<Stop>,
    scripts: Runner,
    neighbours: Neighbours,
    servers: Servers,
    views_at: Instant,
    /// A worker has served once; until then a start that fails is the end.
    ever_ready: bool,
    failures: u32,
    zombie: Option<i32>,
    /// Real-time priority was asked for.
    realtime: bool,
    /// Whoever started us in the background waits here.
    waiting: Option<OwnedFd>,
    /// Whether every unix socket has its name.
    placed: watch::Receiver<bool>,
    /// The process that takes keepalived's signals for us.
    stub: Option<std::process::Child>,
    _post: Option<rendezvous::Post>,
}

/// A wish for a reload.
struct Request {
    /// What to load from now on; `None`: the same files again.
    load: Option<LoadArgs>,
    reply: Option<oneshot::Sender<Answer>>,
}

type Loaded = Result<(OwnedFd, Bundle, Result<Vec<(Key, Bound)>, Vec<String>>), String>;

/// A change of configuration, from the wish to its end.
enum Change {
    None,
    /// The loader reads and the sockets are bound, on a thread of its own.
    Loading(JoinHandle<Loaded>, Request),
    /// A worker has it and has not answered yet.
    Offered(Box<Offer>),
}

struct Offer {
    generation: u64,
    plan: Plan,
    spec: Spec,
    bundle: OwnedFd,
    request: Request,
    /// The change takes a new worker; this one.
    successor: Option<Worker>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stop {
    /// The addresses go first, then the worker.
    Soft {
        told: bool,
    },
    Hard {
        since: Instant,
        told: bool,
    },
    /// No worker could be started.
    Failed,
}

struct Signals {
    term: Signal,
    int: Signal,
    usr1: Signal,
    usr2: Signal,
    hup: Signal,
    child: Signal,
    json: Signal,
    clear: Signal,
}

/// keepalived's dumps.
#[derive(Clone, Copy)]
enum Dump {
    Data,
    Stats,
    Json,
}

/// What comes in from beside the network.
pub struct Inputs {
    events: mpsc::UnboundedReceiver<netlink::Event>,
    reports: mpsc::UnboundedReceiver<script::Report>,
    neighbours: mpsc::UnboundedReceiver<neighbours::Told>,
    asks: mpsc::UnboundedReceiver<Asked>,
    /// Keeps the channel open where there is no rendezvous.
    _no_asks: Option<mpsc::UnboundedSender<Asked>>,
    master: mpsc::UnboundedReceiver<ToMaster>,
    _ask_master: mpsc::UnboundedSender<ToMaster>,
    signals: Signals,
}

impl Guardian {
    /// Takes the first configuration in force, all but its worker.
    pub async fn start(
        options: Options,
        log: Console,
        sockets: Sockets,
        spec: Spec,
        bundle: OwnedFd,
        waiting: Option<OwnedFd>,
        masters: Vec<(OwnedFd, CliLevel)>,
    ) -> Result<(Self, Inputs), String> {
        let now = Instant::now();
        let mut signals = Self::signals().map_err(|e| format!("cannot take signals: {e}"))?;
        let events = netlink::monitor().map_err(|e| format!("cannot watch interfaces: {e}"))?;
        let (scripts, reports) = Runner::start().map_err(|e| format!("cannot start the runner of scripts: {e}"))?;
        if spec.vrrp.at_start.script.is_some() {
            // Nothing is done to a node whose routers another process runs.
            Engine::claimable(&spec.vrrp)?;
            tokio::select! {
                () = wait_for(&scripts, &spec.vrrp, &spec.vrrp.at_start, "startup_script", &log) => {}
                _ = signals.term.recv() => return Err("stopped while its startup script ran".into()),
                _ = signals.int.recv() => return Err("interrupted while its startup script ran".into()),
            }
        }
        let engine = Engine::start(spec.vrrp.clone(), Instant::now()).await?;
        let (neighbours, reachable) = Neighbours::start();
        let (post, asks, no_asks) = match rendezvous::open() {
            Ok((post, asks)) => (Some(post), asks, None),
            Err(e) => {
                log.notice(format!("other processes cannot find this one: {e}"));
                let (tx, rx) = mpsc::unbounded_channel();
                (None, rx, Some(tx))
            }
        };
        let (ask_master, master) = mpsc::unbounded_channel();
        for (fd, level) in masters {
            tokio::task::spawn_local(master::serve(fd, level, ask_master.clone()));
        }
        let g = Self {
            started: now,
            reloads: (0, 0),
            interrupted: false,
            options,
            log,
            engine,
            sockets,
            spec,
            bundle,
            generation: 1,
            worker: None,
            backoff: BACKOFF_MIN,
            restart_at: None,
            change: Change::None,
            queue: VecDeque::new(),
            stopping: None,
            scripts,
            neighbours,
            servers: Servers::default(),
            views_at: now,
            ever_ready: false,
            failures: 0,
            zombie: None,
            realtime: false,
            waiting,
            placed: watch::channel(true).1,
            stub: None,
            _post: post,
        };
        Ok((
            g,
            Inputs {
                events,
                reports,
                neighbours: reachable,
                asks,
                _no_asks: no_asks,
                master,
                _ask_master: ask_master,
                signals,
            },
        ))
    }

    pub async fn run(&mut self, mut i: Inputs) -> i32 {
        self.realtime = !self.spec.vrrp.instances.is_empty();
        self.start_scripts();
        self.start_worker();
        let mut look = tokio::time::interval(proof::LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut clock = Clock::new(Instant::now());
        let mut ticked = Instant::now();
        let s = &mut i.signals;
        loop {
            self.flush();
            if let Some(code) = self.finished() {
                self.last_words().await;
                return code;
            }
            let now = Instant::now();
            let deadline = [self.engine.next_deadline(), self.restart_at]
                .into_iter()
                .flatten()
                .min()
                .unwrap_or(now + Duration::from_secs(1))
                // What a tick leaves to be done at once lets everybody else have a turn.
                .max(ticked + Duration::from_millis(1));
            tokio::select! {
                // Adverts first: what arrives on the wire and what is due, before anything else.
                biased;
                w = self.engine.wait() => self.engine.work(w, Instant::now()),
                () = tokio::time::sleep_until(deadline.into()) => {
                    if deadline.elapsed() > LATE {
                        self.engine.catch_up().await;
                    }
                    let now = Instant::now();
                    ticked = now;
                    self.engine.tick(now);
                    if self.restart_at.is_some_and(|t| t <= now) {
                        self.restart_at = None;
                        self.start_worker();
                    }
                }
                () = died(self.worker.as_ref()) => self.worker_died(),
                Some(e) = i.events.recv() => self.engine.event(e, Instant::now()),
                _ = look.tick() => {
                    let now = Instant::now();
                    let gap = clock.gap(now);
                    self.engine.tick(now);
                    self.look(gap, now);
                    self.mind_children();
                }
                m = said(self.worker.as_ref()) => match m {
                    Some(m) => self.heard(m),
                    // The channel closed before the process ended: its death is a moment away.
                    None => tokio::time::sleep(Duration::from_millis(1)).await,
                },
                r = progress(&mut self.change) => match r {
                    Progress::Loaded(r) => self.loaded(*r),
                    Progress::Said(m) => self.successor_said(m),
                    Progress::Died => self.successor_died(),
                },
                Some(r) = i.reports.recv() => match r {
                    script::Report::Check { name, up, code } => {
                        self.engine.script(&name, up, Instant::now());
                        let news = self.servers.script(&name, up, code);
                        self.inform(&news);
                    }
                    script::Report::File { name, value } => {
                        self.engine.file(&name, value, Instant::now());
                        let news = self.servers.file(&name, value);
                        self.inform(&news);
                    }
                    script::Report::Processes { name, up } => self.engine.processes(&name, up, Instant::now()),
                    script::Report::Trouble(text) => self.log.alert(text),
                },
                Some(t) = i.neighbours.recv() => match t {
                    neighbours::Told::Changed { name, up, why } => {
                        self.engine.neighbour(&name, up, why, Instant::now());
                        let news = self.servers.neighbour(&name, up);
                        self.inform(&news);
                    }
                    neighbours::Told::Trouble(text) => self.log.alert(text),
                },
                Some((ask, reply)) = i.asks.recv() => self.asked(ask, reply),
                Some(m) = i.master.recv() => self.master(m),
                _ = s.term.recv() => self.stop(true),
                _ = s.int.recv() => {
                    self.interrupted = true;
                    self.stop(true);
                }
                _ = s.usr1.recv() => if self.options.named == Some(Half::Keepalived) { self.dump(Dump::Data) } else { self.stop(false) },
                _ = s.usr2.recv() => if self.options.named == Some(Half::Keepalived) { self.dump(Dump::Stats) } else { self.reload() },
                _ = s.json.recv() => self.dump(Dump::Json),
                _ = s.clear.recv() => self.engine.clear_counters(),
                _ = s.hup.recv() => self.reload(),
                _ = s.child.recv() => self.mind_children(),
            }
        }
    }

    fn signals() -> std::io::Result<Signals> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
            hup: signal(SignalKind::hangup())?,
            child: signal(SignalKind::child())?,
            clear: signal(SignalKind::from_raw(stub::clear_signal()))?,
            json: signal(SignalKind::from_raw(stub::json_signal()))?,
        })
    }

    /// Hands on what the engine said.
    fn flush(&mut self) {
        let mut changed = false;
        for t in self.engine.told.drain(..) {
            match t {
                Told::Log { important, text } if important => self.log.warning(text),
                Told::Log { text, .. } => self.log.notice(text),
                Told::Notify { script: s, args } => {
                    let user = script::ids(s.user.as_ref().or(self.spec.vrrp.script_user.as_ref()));
                    self.scripts.notify(s.command, args, user);
                }
                Told::Line(text) => self.scripts.line(text),
                Told::Mail { subject, text } => {
                    if let Some(m) = &self.spec.vrrp.mail {
                        self.scripts.mail(m.clone(), subject, text);
                    }
                }
                Told::Changed => changed = true,
            }
        }
        let now = Instant::now();
        if changed || now >= self.views_at {
            self.views_at = now + Duration::from_secs(1);
            if let Some(w) = self.worker.as_ref().filter(|w| w.ready && !self.engine.is_empty()) {
                w.say(ToWorker::Vrrp(self.engine.view(now)));
            }
        }
    }

    // === the worker ===

    fn start_worker(&mut self) {
        if self.worker.is_some() || self.stopping.is_some() {
            return;
        }
        let (sockets, fresh) = self.sockets.all();
        let load = Load { generation: self.generation, bundle: &self.bundle, sockets, fresh };
        match Worker::start(&self.spec, self.options.background, &self.servers, load) {
            Ok(w) => self.worker = Some(w),
            Err(e) => {
                self.log.alert(format!("cannot start a worker: {e}"));
                self.later();
            }
        }
    }

    fn later(&mut self) {
        self.restart_at = Some(Instant::now() + self.backoff);
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }

    fn worker_died(&mut self) {
        let Some(w) = self.worker.take() else { return };
        let now = Instant::now();
        // The advert is first; everything else can wait a moment.
        if w.ready || w.hung {
            self.engine.serving(false, now);
        }
        let status = child::ended(w.pid);
        if self.stopping.is_some() {
            return;
        }
        if matches!(&self.change, Change::Offered(o) if o.successor.is_none()) {
            self.change_ended(Err("the worker died over it".into()));
        }
        let lived = now.duration_since(w.started);
        if !self.ever_ready {
            self.failures += 1;
            if self.failures >= TRIES {
                self.log.alert(format!(
                    "worker {} {status}; no worker could be started, giving up: see the messages above",
                    w.pid
                ));
                self.stopping = Some(Stop::Failed);
                self.engine.shutdown(now);
                return;
            }
        }
        if lived > HEALTHY {
            self.backoff = BACKOFF_MIN;
        }
        // Not before a peer has had its time: two that contend at the same moment cost more than either.
        let soon = w.ready && lived > Duration::from_secs(1);
        let pause = if soon { AFTER_YIELD } else { self.backoff };
        self.log.alert(format!(
            "worker {} {status} after {} ms; a new one starts in {} ms",
            w.pid,
            lived.as_millis(),
            pause.as_millis()
        ));
        if soon {
            self.restart_at = Some(now + AFTER_YIELD);
        } else {
            self.later();
        }
    }

    /// Reads the proof of life of every worker thread.
    fn look(&mut self, gap: Duration, now: Instant) {
        let Some(w) = self.worker.as_mut() else { return };
        match w.look(gap, now) {
            Verdict::Alive => {}
            Verdict::Starved if !self.engine.better_peer(now) => {}
            Verdict::Starved => self.condemn("waits for a CPU for a second while a peer is there", now),
            // One that was told to end ends thread by thread.
            Verdict::Hung(super::proof::DEAD) if self.stopping.is_some() => {}
            Verdict::Hung(why) => self.condemn(why, now),
        }
    }

    /// A hung worker: the advert first, then its end while the address is still here, so that the kernel resets its clients.
    fn condemn(&mut self, why: &str, now: Instant) {
        self.engine.serving(false, now);
        if let Some(w) = self.worker.as_mut() {
            w.hung = true;
            self.log.alert(format!("worker {} hangs (a thread {why}): killed", w.pid));
            match w.pidfd() {
                Ok(fd) => self.engine.reset_and_kill(fd),
                Err(_) => kill(w.pid, libc::SIGKILL),
            }
        }
    }

    fn heard(&mut self, m: ToGuardian) {
        match m {
            ToGuardian::Ready { generation, threads } => {
                if let Some(w) = self.worker.as_mut()
                    && !threads.is_empty()
                {
                    w.watch(threads);
                    let pid = w.pid;
                    self.worker_serves(pid);
                }
                if matches!(&self.change, Change::Offered(o) if o.generation == generation) {
                    self.in_force();
                }
            }
            ToGuardian::Failed { generation, why } => {
                if matches!(&self.change, Change::Offered(o) if o.generation == generation) {
                    self.change_ended(Err(why));
                }
            }
            ToGuardian::Drained => {}
            ToGuardian::Seen(seen) => self.engine.inside(seen, Instant::now()),
            ToGuardian::Happened(h) => {
                let up = h.up;
                if let Some(news) = self.servers.happened(h, Instant::now()) {
                    if let (Some(subject), Some(m)) = (news.subject, &self.spec.vrrp.mail) {
                        self.scripts.mail(m.clone(), subject, news.text.clone());
                    }
                    if up {
                        self.log.notice(news.text)
                    } else {
                        self.log.warning(news.text)
                    }
                    news.script.into_iter().for_each(|s| self.run_script(s));
                }
            }
            ToGuardian::Control(Control::Reload) => self.reload(),
            ToGuardian::Control(Control::Standby(yes)) => {
                self.log.warning(if yes {
                    "standing by: the addresses are given to the peer"
                } else {
                    "contending again"
                });
                self.engine.standby(yes, Instant::now());
            }
        }
    }

    /// A script without arguments, after those that were asked for before.
    fn run_script(&self, s: ScriptCall) {
        let user = script::ids(s.user.as_ref().or(self.spec.vrrp.script_user.as_ref()));
        self.scripts.notify(s.command, Vec::new(), user);
    }

    /// Tells the worker what its servers are checked by.
    fn inform(&self, news: &HashMap<String, Fact>) {
        if let Some(w) = self.worker.as_ref().filter(|w| w.ready) {
            w.inform(news, false);
        }
    }

    /// Asks the worker for what is tracked inside it.
    fn watch_inside(&self) {
        let m = self.engine.model();
        let mut what: Vec<(Tracked, String)> =
            m.tracks().filter(|t| t.kind.is_inside()).map(|t| (t.kind, t.name.clone())).collect();
        what.dedup();
        if let Some(w) = &self.worker {
            w.say(ToWorker::Watch(what));
        }
    }

    fn worker_serves(&mut self, pid: i32) {
        self.engine.serving(true, Instant::now());
        self.watch_inside();
        // What was learned while it got ready.
        if let Some(w) = &self.worker {
            w.inform(self.servers.facts(), true);
        }
        self.say_lost();
        self.log.notice(format!("worker {pid} serves"));
        self.place_sockets();
        if !self.ever_ready {
            self.ever_ready = true;
            let (old, hard) = (std::mem::take(&mut self.options.replace), self.options.replace_hard);
            self.once_placed(move || start::dismiss(old, hard));
            if let Some(w) = self.waiting.take() {
                self.once_placed(move || {
                    super::privilege::close_standard(&[]);
                    start::drop_ready(w);
                });
            }
        }
        self.once_placed(|| tell_systemd(true));
        self.mind_stub();
    }

    /// Options that sockets could not be given.
    fn say_lost(&mut self) {
        self.sockets.lost().into_iter().for_each(|l| self.log.warning(l));
    }

    /// Unix sockets get their names now that somebody listens on them. Touches the file system, so not here.
    fn place_sockets(&mut self) {
        let all = self.sockets.unplaced();
        if all.is_empty() {
            return;
        }
        let log = self.log.clone();
        let (done, placed) = watch::channel(false);
        self.placed = placed;
        drop(tokio::task::spawn_blocking(move || {
            all.into_iter().filter_map(|u| u.place().err()).for_each(|e| log.alert(e));
            let _ = done.send(true);
        }));
    }

    /// Whoever is told that we serve may look for a unix socket at once: it is told when all have their names.
    fn once_placed(&self, tell: impl FnOnce() + 'static) {
        let mut placed = self.placed.clone();
        if *placed.borrow() {
            return tell();
        }
        tokio::task::spawn_local(async move {
            // An error means that the thread is gone: nothing more will be placed.
            let _ = placed.wait_for(|p| *p).await;
            tell();
        });
    }

    // === other processes ===

    /// A process called `keepalived` stands beside us while its half is ours.
    fn mind_stub(&mut self) {
        let wanted = self.options.load.keepalived.is_some()
            && self.options.named != Some(Half::Keepalived)
            && self._post.is_some();
        if wanted && self.stub.is_none() {
            let file = self.options.keepalived_pidfile.as_deref().unwrap_or(start::KEEPALIVED_PID);
            match start::start_keepalived_stub(file) {
                Ok(c) => self.stub = Some(c),
                Err(e) => self.log.notice(format!("no process stands for keepalived: {e}")),
            }
        }
    }

    fn mind_children(&mut self) {
        if let Some(Ok(Some(status))) = self.stub.as_mut().map(std::process::Child::try_wait) {
            self.stub = None;
            if status.code() == Some(3) {
                self.log
                    .notice("no process stands for keepalived: its pid file is another one's, or cannot be written");
            }
        }
        if std::process::id() == 1 {
            child::reap(self.worker.as_ref().map(|w| w.pid), &mut self.zombie);
        }
    }

    /// A process beside us asks for something.
    fn asked(&mut self, ask: Ask, reply: oneshot::Sender<Answer>) {
        match ask {
            Ask::Hello => self.answer(reply, Ok(String::new())),
            Ask::Replace(load) => self.request(Request { load: Some(load), reply: Some(reply) }),
            Ask::Take(half, load) => {
                let load = half.moved(&load, &self.options.load);
                self.request(Request { load: Some(load), reply: Some(reply) });
            }
            Ask::Wish(_, Wish::Reload) => self.request(Request { load: None, reply: Some(reply) }),
            Ask::Wish(_, w @ (Wish::Data | Wish::Stats | Wish::Json | Wish::Clear)) => {
                match w {
                    Wish::Data => self.dump(Dump::Data),
                    Wish::Stats => self.dump(Dump::Stats),
                    Wish::Json => self.dump(Dump::Json),
                    _ => self.engine.clear_counters(),
                }
                self.answer(reply, Ok(String::new()));
            }
            Ask::Wish(half, Wish::Leave { soft }) => {
                let rest = half.moved(
                    &LoadArgs { localpeer: self.options.load.localpeer.clone(), ..LoadArgs::default() },
                    &self.options.load,
                );
                if rest.haproxy.is_empty() && rest.keepalived.is_none() {
                    self.answer(reply, Ok(String::new()));
                    return self.stop(!soft);
                }
                self.log.warning(format!("{} leaves", half.name()));
                self.request(Request { load: Some(rest), reply: Some(reply) });
            }
        }
    }

    /// What the master CLI was asked.
    fn master(&mut self, m: ToMaster) {
        match m {
            ToMaster::Processes(reply) => {
                let (done, failed) = self.reloads;
                let pid = i32::try_from(std::process::id()).unwrap_or(0);
                let mut t = master::HEADING.to_owned();
                t += &master::process_row(pid, "master", &format!("{done} [failed: {failed}]"), self.started.elapsed());
                t += "# workers\n";
                if let Some(w) = &self.worker {
                    t += &master::process_row(w.pid, "worker", "0", w.started.elapsed());
                }
                let _ = reply.send(t);
            }
            ToMaster::Reload(reply) => self.request(Request { load: None, reply: Some(reply) }),
            ToMaster::Worker(which, level, reply) => {
                let found = self.worker.as_ref().filter(|w| {
                    w.ready
                        && match which {
                            master::Which::Relative(n) => n == 1,
                            master::Which::Pid(p) => p == w.pid,
                        }
                });
                let link = found.and_then(|w| {
                    let (ours, theirs) = tokio::net::UnixStream::pair().ok()?;
                    w.hand(ToWorker::Cli(level), theirs.into_std().ok()?.into());
                    Some((w.pid, ours))
                });
                let _ = reply.send(link);
            }
        }
    }

    fn answer(&self, reply: oneshot::Sender<Answer>, r: Result<String, String>) {
        let ok = r.is_ok();
        let (Ok(text) | Err(text)) = r;
        let answer = Answer { ok, text, pid: std::process::id(), load: self.options.load.clone() };
        self.once_placed(move || drop(reply.send(answer)));
    }

    /// keepalived's dumps: SIGUSR1, SIGUSR2, and the signal that `keepalived --signum=JSON` names.
    fn dump(&self, what: Dump) {
        let clocks =
            Clocks { now: Instant::now(), wall: std::time::SystemTime::now(), offset: crate::log::utc_offset() };
        let d = &self.spec.vrrp.dumps;
        let (said, usual, text) = match what {
            Dump::Data => (&d.state, "/tmp/keepalived.data", self.engine.dump_data(clocks)),
            Dump::Stats => (&d.stats, "/tmp/keepalived.stats", self.engine.dump_stats()),
            Dump::Json => (&d.json, "/tmp/keepalived.json", self.engine.dump_json(clocks)),
        };
        let path = said.clone().unwrap_or_else(|| usual.to_owned());
        self.log.notice(format!("writing {path} on a signal"));
        self.scripts.dump(path, text);
    }

    // === a change of configuration ===

    fn reload(&mut self) {
        self.request(Request { load: None, reply: None });
    }

    /// Begins a change, or has it wait for the one under way.
    fn request(&mut self, r: Request) {
        if self.stopping.is_some() {
            if let Some(reply) = r.reply {
                self.answer(reply, Err("it is stopping".into()));
            }
            return;
        }
        // Files are read when the turn comes: one wish that waits is as good as many.
        let plain = |r: &Request| r.load.is_none() && r.reply.is_none();
        if !(plain(&r) && self.queue.back().is_some_and(plain)) {
            self.queue.push_back(r);
        }
        self.next_change();
    }

    /// Starts a load in a loader process; everything else goes on meanwhile.
    fn next_change(&mut self) {
        if !matches!(self.change, Change::None) {
            return;
        }
        let Some(r) = self.queue.pop_front() else { return };
        tell_systemd(false);
        let args = r.load.clone().unwrap_or_else(|| self.options.load.clone());
        let known: HashSet<Key> = self.sockets.known();
        let task = tokio::task::spawn_blocking(move || {
            let (fd, b) = load_apart(&args)?;
            let fresh = if b.ok { sockets::bind_missing(&b.spec, &known) } else { Ok(Vec::new()) };
            Ok((fd, b, fresh))
        });
        self.change = Change::Loading(task, r);
    }

    /// The loader has ended: what it left goes to a worker.
    fn loaded(&mut self, result: Loaded) {
        let Change::Loading(_, request) = std::mem::replace(&mut self.change, Change::None) else { return };
        if self.stopping.is_some() {
            return;
        }
        match result.and_then(|r| self.offer(r)) {
            Ok((generation, plan, spec, bundle, successor)) => {
                self.change = Change::Offered(Box::new(Offer { generation, plan, spec, bundle, request, successor }));
            }
            Err(why) => self.conclude(request, Err(why)),
        }
    }

    #[allow(clippy::type_complexity)] // Taken apart where it is made.
    fn offer(
        &mut self,
        (bundle, b, fresh): (OwnedFd, Bundle, Result<Vec<(Key, Bound)>, Vec<String>>),
    ) -> Result<(u64, Plan, Spec, OwnedFd, Option<Worker>), String> {
        if !b.ok {
            return Err(b.report);
        }
        if !b.report.is_empty() {
            self.log.warning(b.report.trim_end().to_owned());
        }
        self.engine.check(&b.spec.vrrp)?;
        let plan = self.sockets.plan(&b.spec, fresh.map_err(|e| e.join("; "))?);
        let generation = self.generation + 1;
        // One that keeps dying may do so because of its configuration: the new one gets a worker of its own then.
        let here = self.worker.as_ref().is_some_and(|w| w.ready && !w.hung);
        let successor = if self.spec.needs_new_worker(&b.spec) || !here {
            let (sockets, fresh) = self.sockets.with(&plan);
            let load = Load { generation, bundle: &bundle, sockets, fresh };
            Some(
                Worker::start(&b.spec, self.options.background, &self.servers, load)
                    .map_err(|e| format!("cannot start a worker: {e}"))?,
            )
        } else {
            let w = self.worker.as_ref().filter(|w| w.ready && !w.hung).ok_or("no worker is there to take it")?;
            let load = Load { generation, bundle: &bundle, sockets: plan.wanted(), fresh: plan.fresh().collect() };
            w.load(load).map_err(|e| e.to_string())?;
            None
        };
        Ok((generation, plan, b.spec, bundle, successor))
    }

    fn successor_said(&mut self, m: Option<ToGuardian>) {
        let Change::Offered(o) = &mut self.change else { return };
        let Some(w) = o.successor.as_mut() else { return };
        match m {
            Some(ToGuardian::Ready { threads, .. }) => {
                w.watch(threads);
                self.in_force();
            }
            Some(ToGuardian::Failed { why, .. }) => self.change_ended(Err(why)),
            Some(ToGuardian::Drained | ToGuardian::Control(_) | ToGuardian::Seen(_) | ToGuardian::Happened(_))
            | None => {}
        }
    }

    fn successor_died(&mut self) {
        let Change::Offered(o) = &mut self.change else { return };
        let status = o.successor.take().map_or_else(String::new, |w| child::ended(w.pid));
        self.change_ended(Err(format!("the worker for it {status}; see the messages above")));
    }

    /// The worker serves the configuration that was offered.
    fn in_force(&mut self) {
        let Change::Offered(o) = std::mem::replace(&mut self.change, Change::None) else { return };
        let Offer { generation, plan, spec, bundle, request, successor } = *o;
        self.sockets.commit(plan);
        self.say_lost();
        (self.spec, self.bundle, self.generation) = (spec, bundle, generation);
        if let Some(load) = &request.load {
            self.options.load = load.clone();
        }
        if !self.realtime && !self.spec.vrrp.instances.is_empty() {
            self.realtime = true;
            super::privilege::realtime().into_iter().for_each(|n| self.log.notice(n));
        }
        if let Some(w) = successor {
            let pid = w.pid;
            if let Some(old) = self.worker.replace(w) {
                // It lets its connections end, and nobody waits for it.
                old.say(ToWorker::SoftStop { grace_ms: 0, hard_stop_ms: self.spec.hard_stop_ms });
                tokio::task::spawn_local(old.bury());
            }
            self.restart_at = None;
            self.worker_serves(pid);
        }
        self.place_sockets();
        let applied =
            if self.stopping.is_none() { self.engine.apply(self.spec.vrrp.clone(), Instant::now()) } else { Ok(()) };
        self.start_scripts();
        self.watch_inside();
        self.mind_stub();
        let log = format!("configuration {generation} is in force");
        self.change = Change::None;
        self.conclude(request, applied.map(|()| log));
    }

    /// The change under way has failed: everything is as it was.
    fn change_ended(&mut self, r: Result<String, String>) {
        match std::mem::replace(&mut self.change, Change::None) {
            Change::None => {}
            Change::Loading(_, request) => self.conclude(request, r),
            Change::Offered(o) => {
                if let Some(w) = o.successor {
                    kill(w.pid, libc::SIGKILL);
                    tokio::task::spawn_local(w.bury());
                }
                self.conclude(o.request, r);
            }
        }
    }

    /// Says how a change ended to everybody who wants to know, and begins the next.
    fn conclude(&mut self, request: Request, r: Result<String, String>) {
        match &r {
            Ok(text) => {
                self.reloads.0 += 1;
                self.log.notice(text.clone());
            }
            Err(why) => {
                self.reloads.1 += 1;
                self.log.alert(format!("reload failed, the old configuration stays in force: {}", why.trim_end()));
                if let Some(w) = &self.worker {
                    w.say(ToWorker::ReloadFailed(String::new()));
                }
            }
        }
        if let Some(reply) = request.reply {
            self.answer(reply, r);
        }
        self.once_placed(|| tell_systemd(true));
        self.next_change();
    }

    // === the end ===

    fn stop(&mut self, hard: bool) {
        let now = Instant::now();
        match (&self.stopping, hard) {
            (None, _) => {
                self.log.warning(if hard { "stopping" } else { "stopping softly: the addresses go first" });
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
                self.engine.shutdown(now);
            }
            (Some(Stop::Soft { .. }), true) => {}
            _ => return,
        }
        self.stopping = Some(if hard { Stop::Hard { since: now, told: false } } else { Stop::Soft { told: false } });
        self.restart_at = None;
        self.change_ended(Err("it is stopping".into()));
    }

    /// Drives an end that has begun; the exit code once it is over.
    fn finished(&mut self) -> Option<i32> {
        let stop = self.stopping?;
        if !self.engine.stopped() {
            return None;
        }
        let Some(w) = &self.worker else {
            // As a master of HAProxy ends, for those who look at it.
            let interrupted = self.interrupted && self.options.master;
            return Some(if interrupted { 128 + libc::SIGINT } else { i32::from(stop == Stop::Failed) });
        };
        match stop {
            Stop::Soft { told: false } => {
                self.sockets.close_all();
                let Spec { grace_ms, hard_stop_ms, .. } = self.spec;
                w.say(ToWorker::SoftStop { grace_ms, hard_stop_ms });
                self.stopping = Some(Stop::Soft { told: true });
            }
            Stop::Hard { since, told: false } => {
                kill(w.pid, libc::SIGTERM);
                self.stopping = Some(Stop::Hard { since, told: true });
            }
            Stop::Hard { since, told: true } if since.elapsed() > LAST_CALL => kill(w.pid, libc::SIGKILL),
            Stop::Soft { .. } | Stop::Hard { .. } | Stop::Failed => {}
        }
        None
    }

    /// What was given up is taken off, and scripts of the last transitions get their time.
    async fn last_words(&mut self) {
        self.neighbours.replace(Vec::new());
        let claims = self.engine.drain().await;
        self.flush();
        self.servers.ending().into_iter().for_each(|s| self.run_script(s));
        self.scripts.finish(Duration::from_secs(5)).await;
        // Whoever took over needs what the script would take away.
        if claims.is_some() {
            let m = &self.spec.vrrp;
            wait_for(&self.scripts, m, &m.at_end, "shutdown_script", &self.log).await;
        }
    }

    /// Check scripts that are not answered from inside.
    fn start_scripts(&mut self) {
        let m = self.engine.model();
        let facts = self.servers.configure(m);
        if let Some(w) = self.worker.as_ref().filter(|w| w.ready) {
            w.inform(facts, true);
        }
        if m.pings {
            self.engine.allow_pings(self.spec.gid.unwrap_or(0));
        }
        let asked = |of: &dyn Fn(&FactOf) -> bool| m.facts.iter().any(|f| of(&f.of));
        let checks_file = |name: &str| asked(&|of| matches!(of, FactOf::File { name: n, .. } if n == name));
        let checks_bfd = |name: &str| asked(&|of| matches!(of, FactOf::Bfd { name: n } if n == name));
        let user = script::ids(m.script_user.as_ref());
        // What nobody tracks is not asked, as in keepalived.
        let used = |kind, name: &str| m.tracks().any(|t| t.kind == kind && t.name == name);
        let tracked = m.scripts.iter().filter(|s| used(Tracked::Script, &s.name));
        let scripts: Vec<_> = tracked.chain(&m.checks).cloned().collect();
        let files: Vec<_> =
            m.files.iter().filter(|f| used(Tracked::File, &f.name) || checks_file(&f.name)).cloned().collect();
        let processes: Vec<_> = m.processes.iter().filter(|p| used(Tracked::Process, &p.name)).cloned().collect();
        let bfds = m.bfds.iter().filter(|b| used(Tracked::Bfd, &b.name) || checks_bfd(&b.name));
        self.neighbours.replace(bfds.cloned().collect());
        self.scripts.fifos(&m.fifos, user);
        self.scripts.check(&scripts, user);
        self.scripts.watch(&files, &processes);
    }
}

/// Runs the script of the start or of the end, if there is one. What becomes of it changes nothing, as in keepalived.
async fn wait_for(scripts: &Runner, m: &VrrpModel, which: &TimedScript, what: &str, log: &Console) {
    let Some(s) = &which.script else { return };
    match scripts.run(s, which.timeout, script::ids(m.script_user.as_ref())).await {
        Ok(0) => {}
        Ok(code) => log.warning(format!("{what} '{}' ended with {code}", s.command)),
        Err(e) => log.warning(format!("{what}: {e}")),
    }
}

/// Waits for the worker's death; for ever if there is none.
async fn died(w: Option<&Worker>) {
    match w {
        Some(w) => w.died().await,
        None => std::future::pending().await,
    }
}

async fn said(w: Option<&Worker>) -> Option<ToGuardian> {
    match w {
        Some(w) => w.said().await,
        None => std::future::pending().await,
    }
}

enum Progress {
    Loaded(Box<Loaded>),
    /// The new worker of a change.
    Said(Option<ToGuardian>),
    Died,
}

/// The next step of a change under way; for ever if there is none.
async fn progress(c: &mut Change) -> Progress {
    match c {
        Change::Loading(task, _) => Progress::Loaded(Box::new(task.await.unwrap_or_else(|e| Err(e.to_string())))),
        Change::Offered(o) => match &o.successor {
            Some(w) => tokio::select! {
                biased;
                Some(m) = w.said() => Progress::Said(Some(m)),
                () = w.died() => Progress::Died,
            },
            None => std::future::pending().await,
        },
        Change::None => std::future::pending().await,
    }
}

fn tell_systemd(ready: bool) {
    use sd_notify::NotifyState;
    let _ = if ready {
        sd_notify::notify(&[NotifyState::Ready, NotifyState::Status("serving")])
    } else {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => sd_notify::notify(&[NotifyState::Reloading, now]),
            Err(e) => Err(e),
        }
    };
}
