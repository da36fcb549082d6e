//! The guardian: owns addresses, sockets and the worker's life. Parses no client byte, no file and no name; nothing on its VRRP path waits.
use super::bundle::{self, Spec};
use super::ipc::{self, Channel, Control, FDS_PER_MESSAGE, SocketRef, ToGuardian, ToWorker};
use super::logger::Logger;
use super::proof::{self, Clock, Page, Verdict, Watch};
use super::sockets::{Plan, Sockets};
use super::{loader, privilege, worker};
use crate::config::source::LoadArgs;
use crate::net::netlink;
use crate::vrrp::engine::{Engine, Told};
use crate::vrrp::script::{self, Runner};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// How the program was started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub load: LoadArgs,
    /// `-p`, over the file's `pidfile`.
    pub pidfile: Option<String>,
    pub quiet: bool,
    /// Run in the background: `-D`, or `daemon` in the file, unless `-db` or `-W`.
    pub background: bool,
    /// Never, whatever the file says.
    pub foreground: bool,
    /// Started as `keepalived`: SIGUSR1 and SIGUSR2 ask for dumps there.
    pub keepalived: bool,
    /// Processes that a started one replaces.
    pub replace: Vec<i32>,
    pub replace_hard: bool,
    pub foreground_log: bool,
}

/// Restart delays of a worker that keeps dying.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// A peer takes over within 10.2 ms of a yield; a worker that starts meanwhile would only be in its way.
const AFTER_YIELD: Duration = Duration::from_millis(15);
/// A worker that does not get ready for so long hangs.
const START_LIMIT: Duration = Duration::from_secs(60);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A worker that lived so long starts with a clean slate.
const HEALTHY: Duration = Duration::from_secs(30);
/// A worker that was told to stop hard has this long.
const LAST_CALL: Duration = Duration::from_millis(500);

struct Running {
    pid: i32,
    pidfd: AsyncFd<OwnedFd>,
    channel: Channel,
    page: Page,
    tids: Vec<i32>,
    watches: Vec<Watch>,
    ready: bool,
    started: Instant,
    hung: bool,
}

struct Guardian {
    options: Options,
    log: Logger,
    engine: Engine,
    sockets: Sockets,
    spec: Spec,
    bundle: OwnedFd,
    generation: u64,
    worker: Option<Running>,
    backoff: Duration,
    restart_at: Option<Instant>,
    /// A load that the worker has not answered yet.
    pending: Option<(u64, Plan, Spec, OwnedFd)>,
    stopping: Option<Stop>,
    scripts: Runner,
    views_at: Instant,
    loading: Option<tokio::task::JoinHandle<Result<(OwnedFd, bundle::Bundle), String>>>,
    /// A worker has served once; until then a start that fails is the end.
    ever_ready: bool,
    failures: u32,
    zombie: Option<i32>,
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

/// Loads once in a loader process; its messages are on standard error already.
fn load_now(args: &LoadArgs) -> Result<(OwnedFd, bundle::Bundle), String> {
    let (mut child, fd) = spawn_loader(args).map_err(|e| format!("cannot start the loader: {e}"))?;
    child.wait().map_err(|e| e.to_string())?;
    let b = bundle::read(&fd, false).map_err(|e| format!("the loader left no result: {e}"))?;
    Ok((fd, b))
}

fn spawn_loader(args: &LoadArgs) -> std::io::Result<(std::process::Child, OwnedFd)> {
    let fd = bundle::memfd()?;
    let json = serde_json::to_string(args)?;
    let raw = fd.as_raw_fd();
    let mut c = Command::new("/proc/self/exe");
    c.arg0("tandem-loader").arg("--tandem-loader").arg(json).stdin(Stdio::null());
    // SAFETY: only async-signal-safe calls between fork and exec.
    unsafe {
        c.pre_exec(move || if raw == loader::OUTPUT_FD { clear_cloexec(raw) } else { dup_to(raw, loader::OUTPUT_FD) });
    }
    Ok((c.spawn()?, fd))
}

fn dup_to(from: RawFd, to: RawFd) -> std::io::Result<()> {
    // SAFETY: plain system call on descriptors of this process.
    if unsafe { libc::dup2(from, to) } < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

fn clear_cloexec(fd: RawFd) -> std::io::Result<()> {
    // SAFETY: plain system call on a descriptor of this process.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Runs until stopped; the exit code of the program.
pub fn main(options: Options) -> i32 {
    let complain = |m: &str| {
        eprint!("{m}");
        if !m.ends_with('\n') {
            eprintln!();
        }
    };
    let pid = std::process::id();
    let (fd, first) = match load_now(&options.load) {
        Ok(x) => x,
        Err(e) => {
            complain(&format!("[ALERT]    ({pid}) : {e}"));
            return 1;
        }
    };
    if !first.ok || !options.quiet {
        complain_if(&first.report, &complain);
    }
    if !first.ok {
        complain(&format!("[ALERT]    ({pid}) : config : Fatal errors found in configuration."));
        return 1;
    }
    if first.spec.frontends == 0 && first.spec.vrrp.instances.is_empty() {
        complain(&format!(
            "[ALERT]    ({pid}) : no listener and no virtual router in the configuration: nothing to do; add a 'bind' line or a 'vrrp_instance'"
        ));
        return 2;
    }
    privilege::raise_nofile(65_536.max(u64::from(first.spec.maxconn) * 2 + 200));
    let mut sockets = Sockets::default();
    let plan = match sockets.plan(&first.spec) {
        Ok(p) => p,
        Err(errors) => {
            errors.iter().for_each(|e| complain(&format!("[ALERT]    ({pid}) : Binding {e}")));
            return 1;
        }
    };
    sockets.commit(plan);
    let background = (options.background || first.spec.daemon) && !options.foreground;
    if background && let Err(e) = detach() {
        complain(&format!("[ALERT]    ({pid}) : cannot go to the background: {e}"));
        return 1;
    }
    let pidfile = options.pidfile.clone().or_else(|| first.spec.pidfile.clone());
    if let Some(p) = &pidfile
        && let Err(e) = std::fs::write(p, format!("{}\n", std::process::id()))
    {
        complain(&format!("[ALERT]    ({pid}) : cannot write pid file '{p}' : {}", crate::base::diag::io_words(&e)));
        return 1;
    }
    privilege::set_name("tandem");
    let log = Logger::start(!options.quiet && !background, true);
    if !first.spec.vrrp.instances.is_empty() {
        privilege::realtime().into_iter().for_each(|n| log.notice(n));
    }
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return 1 };
    let set = tokio::task::LocalSet::new();
    let code = set.block_on(&runtime, async {
        match Guardian::start(options, log.clone(), sockets, first.spec, fd).await {
            Ok((mut g, events, reports)) => g.run(events, reports).await,
            Err(e) => {
                log.alert(e);
                1
            }
        }
    });
    if let Some(p) = pidfile {
        let _ = std::fs::remove_file(p);
    }
    // The logger's thread gets a moment for the last lines.
    std::thread::sleep(Duration::from_millis(20));
    code
}

fn complain_if(report: &str, complain: &dyn Fn(&str)) {
    if !report.is_empty() {
        complain(report);
    }
}

/// Into the background, once everything that can fail at the start has not.
fn detach() -> std::io::Result<()> {
    // SAFETY: single-threaded at this point; the parent leaves without running anything.
    unsafe {
        match libc::fork() {
            -1 => return Err(std::io::Error::last_os_error()),
            0 => {}
            _ => libc::_exit(0),
        }
        libc::setsid();
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        if null >= 0 {
            for fd in 0..3 {
                libc::dup2(null, fd);
            }
            if null > 2 {
                libc::close(null);
            }
        }
    }
    Ok(())
}

type Started = (Guardian, mpsc::UnboundedReceiver<netlink::Event>, mpsc::UnboundedReceiver<script::Report>);

struct Signals {
    term: Signal,
    int: Signal,
    usr1: Signal,
    usr2: Signal,
    hup: Signal,
    child: Signal,
}

impl Guardian {
    /// Takes the first configuration in force, all but its worker.
    async fn start(options: Options, log: Logger, sockets: Sockets, spec: Spec, bundle: OwnedFd) -> Result<Started, String> {
        let now = Instant::now();
        let events = netlink::monitor().map_err(|e| format!("cannot watch interfaces: {e}"))?;
        let engine = Engine::start(spec.vrrp.clone(), now).await?;
        let (scripts, reports) = Runner::start().map_err(|e| format!("cannot start the runner of scripts: {e}"))?;
        let g = Self {
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
            pending: None,
            stopping: None,
            scripts,
            views_at: now,
            loading: None,
            ever_ready: false,
            failures: 0,
            zombie: None,
        };
        Ok((g, events, reports))
    }

    async fn run(&mut self, mut events: mpsc::UnboundedReceiver<netlink::Event>, mut reports: mpsc::UnboundedReceiver<script::Report>) -> i32 {
        let mut s = match Self::signals() {
            Ok(s) => s,
            Err(e) => {
                self.log.alert(format!("cannot take signals: {e}"));
                return 1;
            }
        };
        self.start_scripts();
        self.start_worker().await;
        let mut look = tokio::time::interval(proof::LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut clock = Clock::new(Instant::now());
        loop {
            self.flush();
            if let Some(code) = self.finished() {
                self.last_scripts().await;
                return code;
            }
            let now = Instant::now();
            let deadline = [self.engine.next_deadline(), self.restart_at]
                .into_iter()
                .flatten()
                .min()
                .unwrap_or(now + Duration::from_secs(1));
            let timer = tokio::time::sleep_until(deadline.into());
            tokio::select! {
                // Adverts first: what arrives on the wire and what is due, before anything else.
                biased;
                w = self.engine.wait() => self.engine.work(w, Instant::now()),
                () = timer => {
                    let now = Instant::now();
                    self.engine.tick(now);
                    if self.restart_at.is_some_and(|t| t <= now) {
                        self.restart_at = None;
                        self.start_worker().await;
                    }
                }
                () = died(self.worker.as_ref()) => self.worker_died().await,
                Some(e) = events.recv() => self.engine.event(e, Instant::now()),
                _ = look.tick() => {
                    let now = Instant::now();
                    let gap = clock.gap(now);
                    self.engine.tick(now);
                    self.look(gap, now).await;
                    if std::process::id() == 1 {
                        reap(self.worker.as_ref().map(|w| w.pid), &mut self.zombie);
                    }
                }
                r = loaded(&mut self.loading) => self.loaded(r).await,
                m = said(self.worker.as_ref()) => match m {
                    Some(m) => self.heard(m).await,
                    // The channel closed before the process ended: its death is a moment away.
                    None => tokio::time::sleep(Duration::from_millis(1)).await,
                },
                Some(r) = reports.recv() => match r {
                    script::Report::Check { name, up } => self.engine.script(&name, up, Instant::now()),
                    script::Report::Trouble(text) => self.log.alert(text),
                },
                _ = s.term.recv() => self.stop(true).await,
                _ = s.int.recv() => self.stop(true).await,
                _ = s.usr1.recv() => if self.options.keepalived { self.no_dump() } else { self.stop(false).await },
                _ = s.usr2.recv() => if self.options.keepalived { self.no_dump() } else { self.reload() },
                _ = s.hup.recv() => self.reload(),
                _ = s.child.recv() => {}
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
        })
    }

    /// Hands on what the engine said.
    fn flush(&mut self) {
        let mut changed = false;
        for t in self.engine.told.drain(..) {
            match t {
                Told::Log { important, text } if important => self.log.warning(text),
                Told::Log { text, .. } => self.log.notice(text),
                Told::Notify { command, args } => {
                    self.scripts.notify(command, args, script::ids(self.spec.vrrp.script_user.as_ref()))
                }
                Told::Changed => changed = true,
            }
        }
        let now = Instant::now();
        if changed || now >= self.views_at {
            self.views_at = now + Duration::from_secs(1);
            if let Some(w) = self.worker.as_ref().filter(|w| w.ready && !self.engine.is_empty()) {
                let _ = w.channel.send(&ToWorker::Vrrp(self.engine.view(now)), &[]);
            }
        }
    }

    async fn start_worker(&mut self) {
        if self.worker.is_some() || self.stopping.is_some() {
            return;
        }
        match self.spawn_worker().await {
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

    async fn spawn_worker(&mut self) -> std::io::Result<Running> {
        let (ours, theirs) = ipc::pair()?;
        let (page, page_fd) = Page::create()?;
        let (a, b) = (theirs.as_raw_fd(), page_fd.as_raw_fd());
        let mut c = Command::new("/proc/self/exe");
        c.arg0("haproxy").arg("--tandem-worker").stdin(Stdio::null());
        // SAFETY: only async-signal-safe calls between fork and exec. First out of the way, in case one lies where the other has to go.
        unsafe {
            c.pre_exec(move || {
                let (x, y) = (libc::fcntl(a, libc::F_DUPFD, 10), libc::fcntl(b, libc::F_DUPFD, 10));
                if x < 0 || y < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                dup_to(x, worker::CHANNEL_FD)?;
                dup_to(y, worker::PAGE_FD)?;
                libc::close(x);
                libc::close(y);
                Ok(())
            });
        }
        let mut child = c.spawn()?;
        let pid = i32::try_from(child.id()).unwrap_or(0);
        let r = self.equip_worker(pid, ours, page).await;
        if r.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        r
    }

    /// Hands a new worker what it needs.
    async fn equip_worker(&self, pid: i32, ours: OwnedFd, page: Page) -> std::io::Result<Running> {
        // SAFETY: plain system call; the pid is that of an unreaped child.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = i32::try_from(fd).ok().filter(|f| *f >= 0).ok_or_else(std::io::Error::last_os_error)?;
        // SAFETY: just made, and nobody else's.
        let pidfd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the OwnedFd keeps the same descriptor open for the life of the AsyncFd.
        let pidfd = unsafe { AsyncFd::register(pidfd) }?;
        let channel = Channel::new(ours)?;
        let (refs, fds): (Vec<SocketRef>, Vec<RawFd>) = self.sockets.all().map(|(r, fd)| (r, fd.as_raw_fd())).unzip();
        channel
            .send_wait(
                &ToWorker::Load { generation: self.generation, sockets: refs.clone(), fresh: refs.len() },
                &[self.bundle.as_raw_fd()],
            )
            .await?;
        for (r, f) in refs.chunks(FDS_PER_MESSAGE).zip(fds.chunks(FDS_PER_MESSAGE)) {
            channel.send_wait(&ToWorker::Sockets(r.iter().map(|r| r.id).collect()), f).await?;
        }
        Ok(Running {
            pid,
            pidfd,
            channel,
            page,
            tids: Vec::new(),
            watches: Vec::new(),
            ready: false,
            started: Instant::now(),
            hung: false,
        })
    }

    async fn worker_died(&mut self) {
        let Some(w) = self.worker.take() else { return };
        let now = Instant::now();
        // The advert is first; everything else can wait a moment.
        if w.ready || w.hung {
            self.engine.serving(false, now);
        }
        let status = wait_status(w.pid);
        if self.stopping.is_some() {
            return;
        }
        self.pending = None;
        let lived = now.duration_since(w.started);
        if !self.ever_ready {
            self.failures += 1;
            if self.failures >= 3 {
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
        self.log.alert(format!(
            "worker {} {status} after {} ms; a new one starts in {} ms",
            w.pid,
            lived.as_millis(),
            if w.ready { 0 } else { self.backoff.as_millis() }
        ));
        if w.ready && lived > Duration::from_secs(1) {
            // Not before a peer has had its time: two that contend at the same moment cost more than either.
            self.restart_at = Some(now + AFTER_YIELD);
        } else {
            self.later();
        }
    }

    /// Reads the proof of life of every worker thread.
    async fn look(&mut self, gap: Duration, now: Instant) {
        if self.worker.as_ref().is_some_and(|w| !w.ready && !w.hung && now.duration_since(w.started) > START_LIMIT) {
            return self.condemn("does not get ready", now).await;
        }
        let Some(w) = self.worker.as_mut().filter(|w| w.ready && !w.hung) else { return };
        let mut verdict = Verdict::Alive;
        for (i, tid) in w.tids.iter().enumerate() {
            let epoch = w.page.epoch(i);
            let facts = if w.watches[i].wants_facts(epoch) { proof::sched(w.pid, *tid) } else { None };
            let v = w.watches[i].look(epoch, gap, facts);
            if v != Verdict::Alive {
                verdict = v;
            }
        }
        match verdict {
            Verdict::Alive => {}
            Verdict::Starved if !self.engine.better_peer(now) => {}
            Verdict::Starved => self.condemn("waits for a CPU for a second while a peer is there", now).await,
            Verdict::Hung(why) => self.condemn(why, now).await,
        }
    }

    /// A hung worker: the advert first, then its end while the address is still here, so that the kernel resets its clients.
    async fn condemn(&mut self, why: &str, now: Instant) {
        self.engine.serving(false, now);
        if let Some(w) = self.worker.as_mut() {
            w.hung = true;
            self.log.alert(format!("worker {} hangs (a thread {why}): killed", w.pid));
            self.engine.reset_clients();
            kill(w.pid, libc::SIGKILL);
        }
    }

    async fn heard(&mut self, m: ToGuardian) {
        match m {
            ToGuardian::Ready { generation, threads } => {
                if let Some(w) = self.worker.as_mut()
                    && !threads.is_empty()
                {
                    w.watches = vec![Watch::default(); threads.len()];
                    w.tids = threads;
                    w.ready = true;
                    self.ever_ready = true;
                    self.engine.serving(true, Instant::now());
                    self.log.notice(format!("worker {} serves", self.worker.as_ref().map_or(0, |w| w.pid)));
                    tell_systemd(true);
                    self.replace_old();
                }
                if let Some((g, plan, spec, fd)) = self.pending.take() {
                    if g == generation {
                        self.sockets.commit(plan);
                        (self.spec, self.bundle, self.generation) = (spec, fd, g);
                        if self.stopping.is_none() {
                            if let Err(e) = self.engine.apply(self.spec.vrrp.clone(), Instant::now()) {
                                self.log.alert(e);
                            }
                            self.start_scripts();
                        }
                        self.log.notice(format!("configuration {g} is in force"));
                        tell_systemd(true);
                    } else {
                        self.pending = Some((g, plan, spec, fd));
                    }
                }
            }
            ToGuardian::Failed { generation, why } => {
                self.pending.take_if(|p| p.0 == generation);
                self.log.alert(format!("reload failed, the old configuration stays in force: {why}"));
                tell_systemd(true);
            }
            ToGuardian::Drained => {}
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

    /// Starts a load in a loader process; everything else goes on meanwhile.
    fn reload(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        if self.pending.is_some() || self.loading.is_some() {
            self.log.warning("a reload is under way already; this one is ignored");
            return;
        }
        tell_systemd(false);
        let args = self.options.load.clone();
        self.loading = Some(tokio::task::spawn_blocking(move || load_now(&args)));
    }

    fn no_dump(&self) {
        self.log.warning("dumps of data and statistics are not there yet; 'show vrrp' on a stats socket shows them");
    }

    /// What was given up is taken off, and scripts of the last transitions get their time.
    async fn last_scripts(&mut self) {
        self.engine.drain().await;
        self.flush();
        self.scripts.finish(Duration::from_secs(5)).await;
    }

    /// The loader has ended: what it left goes to the worker.
    async fn loaded(&mut self, result: Result<Result<(OwnedFd, bundle::Bundle), String>, tokio::task::JoinError>) {
        self.loading = None;
        if self.stopping.is_some() {
            return;
        }
        let refuse = |why: &str, g: &Self| {
            g.log.alert(format!("reload failed, the old configuration stays in force: {}", why.trim_end()));
            if let Some(w) = &g.worker {
                let _ = w.channel.send(&ToWorker::ReloadFailed(String::new()), &[]);
            }
            tell_systemd(true);
        };
        let (fd, b) = match result {
            Ok(Ok(x)) => x,
            Ok(Err(e)) => return refuse(&e, self),
            Err(e) => return refuse(&e.to_string(), self),
        };
        if !b.ok {
            return refuse(&b.report, self);
        }
        if !b.report.is_empty() {
            self.log.warning(b.report.trim_end().to_owned());
        }
        if self.spec.needs_new_worker(&b.spec) {
            return refuse("user, group, chroot or nbthread changed: these words need a restart", self);
        }
        let plan = match self.sockets.plan(&b.spec) {
            Ok(p) => p,
            Err(e) => return refuse(&e.join("; "), self),
        };
        let Some(w) = self.worker.as_ref().filter(|w| w.ready) else {
            return refuse("no worker is there to take it", self);
        };
        let generation = self.generation + 1;
        let (ids, fds): (Vec<u64>, Vec<RawFd>) = plan.fresh().map(|(id, fd)| (id, fd.as_raw_fd())).unzip();
        let sent = async {
            w.channel
                .send_wait(&ToWorker::Load { generation, sockets: plan.wanted(), fresh: ids.len() }, &[fd.as_raw_fd()])
                .await?;
            for (i, f) in ids.chunks(FDS_PER_MESSAGE).zip(fds.chunks(FDS_PER_MESSAGE)) {
                w.channel.send_wait(&ToWorker::Sockets(i.to_vec()), f).await?;
            }
            Ok::<(), std::io::Error>(())
        }
        .await;
        match sent {
            Ok(()) => self.pending = Some((generation, plan, b.spec, fd)),
            Err(e) => refuse(&e.to_string(), self),
        }
    }

    async fn stop(&mut self, hard: bool) {
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
        self.pending = None;
    }

    /// Drives an end that has begun; the exit code once it is over.
    fn finished(&mut self) -> Option<i32> {
        let stop = self.stopping?;
        if !self.engine.stopped() {
            return None;
        }
        let Some(w) = &self.worker else {
            return Some(i32::from(stop == Stop::Failed));
        };
        match stop {
            Stop::Soft { told: false } => {
                self.sockets.close_all();
                let _ = w.channel.send(&ToWorker::SoftStop { hard_stop_ms: self.spec.hard_stop_ms }, &[]);
                self.stopping = Some(Stop::Soft { told: true });
            }
            Stop::Hard { since, told: false } => {
                kill(w.pid, libc::SIGTERM);
                self.stopping = Some(Stop::Hard { since, told: true });
            }
            Stop::Hard { since, told: true } if since.elapsed() > LAST_CALL + Duration::from_secs(2) => {
                kill(w.pid, libc::SIGKILL)
            }
            Stop::Soft { .. } | Stop::Hard { .. } | Stop::Failed => {}
        }
        None
    }

    /// `-sf` and `-st`: who was here before may go now.
    fn replace_old(&mut self) {
        for pid in std::mem::take(&mut self.options.replace) {
            kill(pid, if self.options.replace_hard { libc::SIGTERM } else { libc::SIGUSR1 });
        }
    }

    /// Check scripts that are not answered from inside.
    fn start_scripts(&self) {
        self.scripts.check(self.engine.scripts(), script::ids(self.spec.vrrp.script_user.as_ref()));
    }
}

/// Waits for the worker's death; for ever if there is none.
async fn died(w: Option<&Running>) {
    match w {
        Some(w) => drop(w.pidfd.readable().await),
        None => std::future::pending().await,
    }
}

async fn said(w: Option<&Running>) -> Option<ToGuardian> {
    match w {
        Some(w) => w.channel.receive::<ToGuardian>().await.ok().flatten().map(|m| m.0),
        None => std::future::pending().await,
    }
}

fn kill(pid: i32, signal: i32) {
    // SAFETY: plain system call; pids are of own children, or named by the operator.
    unsafe { libc::kill(pid, signal) };
}

/// Reaps the worker and says how it ended.
fn wait_status(pid: i32) -> String {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    match waitpid(nix::unistd::Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, code)) => format!("ended with code {code}"),
        Ok(WaitStatus::Signaled(_, s, _)) => format!("was killed by {s}"),
        _ => "is gone".to_owned(),
    }
}

/// As PID 1 of a container, strangers are reaped: one a second, and only if it was a zombie a look ago, so that whoever waits for it comes first.
fn reap(worker: Option<i32>, seen: &mut Option<i32>) {
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    let found = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT)
        .ok()
        .and_then(|s| s.pid())
        .filter(|p| Some(p.as_raw()) != worker);
    match found {
        Some(p) if *seen == Some(p.as_raw()) => {
            let _ = waitid(Id::Pid(p), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
            *seen = None;
        }
        z => *seen = z.map(nix::unistd::Pid::as_raw),
    }
}

/// The end of a load; for ever if there is none.
async fn loaded(
    task: &mut Option<tokio::task::JoinHandle<Result<(OwnedFd, bundle::Bundle), String>>>,
) -> Result<Result<(OwnedFd, bundle::Bundle), String>, tokio::task::JoinError> {
    match task {
        Some(t) => t.await,
        None => std::future::pending().await,
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
