//! A worker process as the guardian sees it: started, spoken to, watched, mourned. Nothing here waits for it.
use super::bundle::Spec;
use super::ipc::{
    self, Channel, FACTS_PER_MESSAGE, FDS_PER_MESSAGE, REFS_PER_MESSAGE, SocketRef, ToGuardian, ToWorker,
};
use super::proof::{self, Page, Verdict, Watch};
use super::servers::Servers;
use super::worker;
use crate::config::model::Fact;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// A worker that does not get ready for so long hangs.
const START_LIMIT: Duration = Duration::from_secs(60);

pub struct Worker {
    pub pid: i32,
    pub started: Instant,
    pub ready: bool,
    /// Given up: it is only waited for.
    pub hung: bool,
    pidfd: AsyncFd<OwnedFd>,
    channel: Rc<Channel>,
    /// Messages to it, sent by a task of their own: one that does not read keeps nobody waiting.
    outbox: mpsc::UnboundedSender<(ToWorker, Vec<OwnedFd>)>,
    page: Page,
    watches: Vec<(i32, Watch)>,
}

/// What a worker is to serve.
pub struct Load<'a> {
    pub generation: u64,
    pub bundle: &'a OwnedFd,
    /// All sockets that shall be served.
    pub sockets: Vec<SocketRef>,
    /// Those that the worker does not have yet.
    pub fresh: Vec<(u64, &'a OwnedFd)>,
}

impl Worker {
    /// Starts a worker and hands it what it needs. Must be called inside the guardian's runtime.
    pub fn start(spec: &Spec, background: bool, servers: &Servers, load: Load<'_>) -> std::io::Result<Self> {
        let (ours, theirs) = ipc::pair()?;
        let (page, page_fd) = Page::create()?;
        let (a, b) = (theirs.as_raw_fd(), page_fd.as_raw_fd());
        let mut c = Command::new("/proc/self/exe");
        // The name that scripts look for belongs to what proxies.
        c.arg0(if spec.proxy { "haproxy" } else { "tandem-worker" });
        c.arg(if background { "--tandem-worker=background" } else { "--tandem-worker" }).stdin(Stdio::null());
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
        let r = Self::attach(i32::try_from(child.id()).unwrap_or(0), ours, page).and_then(|w| {
            w.inform(servers.facts(), true);
            let known: Vec<_> = servers.states().collect();
            known.chunks(FACTS_PER_MESSAGE).for_each(|part| w.say(ToWorker::Known(part.to_vec())));
            w.load(load)?;
            Ok(w)
        });
        if r.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        r
    }

    fn attach(pid: i32, ours: OwnedFd, page: Page) -> std::io::Result<Self> {
        // SAFETY: plain system call; the pid is that of an unreaped child.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = i32::try_from(fd).ok().filter(|f| *f >= 0).ok_or_else(std::io::Error::last_os_error)?;
        // SAFETY: just made, and nobody else's.
        let pidfd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the OwnedFd keeps the same descriptor open for the life of the AsyncFd.
        let pidfd = unsafe { AsyncFd::register(pidfd) }?;
        let channel = Rc::new(Channel::new(ours)?);
        let (outbox, mut messages) = mpsc::unbounded_channel::<(ToWorker, Vec<OwnedFd>)>();
        let out = channel.clone();
        tokio::task::spawn_local(async move {
            while let Some((m, fds)) = messages.recv().await {
                let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
                if out.send_wait(&m, &raw).await.is_err() {
                    // It is gone; its death is noticed elsewhere.
                    return;
                }
            }
        });
        Ok(Self {
            pid,
            started: Instant::now(),
            ready: false,
            hung: false,
            pidfd,
            channel,
            outbox,
            page,
            watches: Vec::new(),
        })
    }

    pub fn say(&self, m: ToWorker) {
        let _ = self.outbox.send((m, Vec::new()));
    }

    /// The same, with a descriptor that becomes the worker's.
    pub fn hand(&self, m: ToWorker, fd: OwnedFd) {
        let _ = self.outbox.send((m, vec![fd]));
    }

    /// What servers are checked by outside it: what is new, or all of it.
    pub fn inform(&self, facts: &HashMap<String, Fact>, whole: bool) {
        let all: Vec<_> = facts.iter().collect();
        let mut parts: Vec<HashMap<String, Fact>> =
            all.chunks(FACTS_PER_MESSAGE).map(|part| part.iter().map(|(k, f)| ((*k).clone(), **f)).collect()).collect();
        if parts.is_empty() && whole {
            parts.push(HashMap::new());
        }
        for (n, facts) in parts.into_iter().enumerate() {
            self.say(ToWorker::Facts { whole: whole && n == 0, facts });
        }
    }

    /// Offers a configuration; the answer comes as [`ToGuardian::Ready`] or [`ToGuardian::Failed`].
    pub fn load(&self, l: Load<'_>) -> std::io::Result<()> {
        let head = ToWorker::Load { generation: l.generation, wanted: l.sockets.len(), fresh: l.fresh.len() };
        let _ = self.outbox.send((head, vec![l.bundle.try_clone()?]));
        for part in l.sockets.chunks(REFS_PER_MESSAGE) {
            let _ = self.outbox.send((ToWorker::Wanted(part.to_vec()), Vec::new()));
        }
        for part in l.fresh.chunks(FDS_PER_MESSAGE) {
            let fds = part.iter().map(|f| f.1.try_clone()).collect::<Result<Vec<_>, _>>()?;
            let _ = self.outbox.send((ToWorker::Sockets(part.iter().map(|f| f.0).collect()), fds));
        }
        Ok(())
    }

    /// It serves; from now on every thread has to prove that it lives. The last one is the control thread.
    pub fn watch(&mut self, threads: Vec<i32>) {
        let last = threads.len().saturating_sub(1);
        let kind = |i: usize| if i == last { Watch::patient() } else { Watch::default() };
        self.watches = threads.into_iter().enumerate().map(|(i, tid)| (tid, kind(i))).collect();
        self.ready = true;
    }

    /// Reads the proof of life of every thread. `gap`: time since the last look.
    pub fn look(&mut self, gap: Duration, now: Instant) -> Verdict {
        if self.hung {
            return Verdict::Alive;
        }
        if !self.ready {
            let late = now.duration_since(self.started) > START_LIMIT;
            return if late { Verdict::Hung("does not get ready") } else { Verdict::Alive };
        }
        let mut verdict = Verdict::Alive;
        for (i, (tid, watch)) in self.watches.iter_mut().enumerate() {
            let epoch = self.page.epoch(i);
            let facts = if watch.wants_facts(epoch) { proof::sched(self.pid, *tid) } else { None };
            match watch.look(epoch, gap, facts) {
                Verdict::Alive => {}
                v => verdict = v,
            }
        }
        verdict
    }

    /// A descriptor of the process, for whoever has to end it.
    pub fn pidfd(&self) -> std::io::Result<OwnedFd> {
        self.pidfd.get_ref().try_clone()
    }

    /// Waits for its death.
    pub async fn died(&self) {
        let _ = self.pidfd.readable().await;
    }

    /// The next thing it says; `None` if it says nothing any more.
    pub async fn said(&self) -> Option<ToGuardian> {
        self.channel.receive::<ToGuardian>().await.ok().flatten().map(|m| m.0)
    }

    /// Waits for its end, says so to nobody.
    pub async fn bury(self) {
        self.died().await;
        ended(self.pid);
    }
}

pub fn kill(pid: i32, signal: i32) {
    // SAFETY: plain system call; pids are of own children, or named by the operator.
    unsafe { libc::kill(pid, signal) };
}

/// Reaps a child that has ended, and says how it did.
pub fn ended(pid: i32) -> String {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    match waitpid(nix::unistd::Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, code)) => format!("ended with code {code}"),
        Ok(WaitStatus::Signaled(_, s, _)) => format!("was killed by {s}"),
        _ => "is gone".to_owned(),
    }
}

/// As PID 1 of a container, strangers are reaped: one a look, and only if it was a zombie a look ago, so that whoever waits for it comes first.
pub fn reap(worker: Option<i32>, seen: &mut Option<i32>) {
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

/// `dup2`, between fork and exec.
pub fn dup_to(from: RawFd, to: RawFd) -> std::io::Result<()> {
    // SAFETY: plain system call on descriptors of this process.
    if unsafe { libc::dup2(from, to) } < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
