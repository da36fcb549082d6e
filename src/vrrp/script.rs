//! Scripts: checks that are asked again and again, and notifications in the order of the events. They run from a thread of their own, because starting a program
//! waits for the disk it lies on.
use super::outside;
use crate::base::diag::io_words;
use crate::config::model::{Fifo, MailConf, ScriptCall, TrackFile, TrackProcess, VrrpScript};
use crate::health::mail::Mail;
use crate::health::post;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// A script that does not end by itself is ended after this.
const NOTIFY_LIMIT: Duration = Duration::from_secs(60);

/// `startup_script_timeout` and `shutdown_script_timeout`, unless said; as keepalived was seen to wait.
const WAIT: Duration = Duration::from_secs(10);

/// Alerts that wait for the mail server.
const MAILS: usize = 1000;

/// uid and gid that a script runs with; `None`: those of this process.
pub type User = Option<(u32, u32)>;

enum Order {
    Notify { command: String, args: Vec<String>, user: User },
    Checks { all: Vec<VrrpScript>, default: User },
    Outside { files: Vec<TrackFile>, processes: Vec<TrackProcess> },
    Fifos { all: Vec<Fifo>, default: User },
    Line(String),
    Dump { path: String, text: String },
    Run { command: String, user: User, limit: Duration, done: oneshot::Sender<Result<i32, String>> },
    Mail(Box<(MailConf, Mail)>),
    Finish(oneshot::Sender<()>),
}

/// What came of them.
#[derive(Debug)]
pub enum Report {
    /// A check changed its mind, or has said something for the first time.
    Check { name: String, up: bool, code: i32 },
    /// What a tracked file says.
    File { name: String, value: i64 },
    /// Whether enough of the tracked processes are there.
    Processes { name: String, up: bool },
    /// A script could not be run, or a file not be written.
    Trouble(String),
}

/// The thread that runs scripts.
pub struct Runner(mpsc::UnboundedSender<Order>);

impl Runner {
    pub fn start() -> std::io::Result<(Self, mpsc::UnboundedReceiver<Report>)> {
        let (tx, orders) = mpsc::unbounded_channel();
        let (report, reports) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("scripts".into()).spawn(move || {
            tokio::task::LocalSet::new().block_on(&runtime, run(orders, report));
        })?;
        Ok((Self(tx), reports))
    }

    /// Starts a notify script after those that were asked for before.
    pub fn notify(&self, command: String, args: Vec<String>, user: User) {
        let _ = self.0.send(Order::Notify { command, args, user });
    }

    /// Puts these check scripts in place of those before. Liveness questions are answered elsewhere.
    pub fn check(&self, all: &[VrrpScript], default: User) {
        let all = all.iter().filter(|s| !s.liveness).cloned().collect();
        let _ = self.0.send(Order::Checks { all, default });
    }

    /// Puts these files and processes in place of those that were tracked before.
    pub fn watch(&self, files: &[TrackFile], processes: &[TrackProcess]) {
        let _ = self.0.send(Order::Outside { files: files.to_vec(), processes: processes.to_vec() });
    }

    /// Puts these FIFOs in place of those before.
    pub fn fifos(&self, all: &[Fifo], default: User) {
        let _ = self.0.send(Order::Fifos { all: all.to_vec(), default });
    }

    /// A line for every FIFO.
    pub fn line(&self, text: String) {
        let _ = self.0.send(Order::Line(text));
    }

    /// Sends a mail, after those that were to be sent before.
    pub fn mail(&self, conf: MailConf, subject: String, text: String) {
        let mail = Mail {
            from: conf.from.clone(),
            to: conf.to.clone(),
            hostname: conf.helo.clone(),
            date: post::date_now(),
            subject,
            text,
        };
        let _ = self.0.send(Order::Mail(Box::new((conf, mail))));
    }

    /// Runs a script and waits for its end, or until its time is over: its exit status.
    pub async fn run(&self, script: &ScriptCall, timeout: Option<Duration>, default: User) -> Result<i32, String> {
        let (done, ended) = oneshot::channel();
        let (command, user) = (script.command.clone(), ids(script.user.as_ref()).or(default));
        let _ = self.0.send(Order::Run { command, user, limit: timeout.unwrap_or(WAIT), done });
        ended.await.unwrap_or_else(|_| Err("the thread of the scripts has ended".to_owned()))
    }

    /// Writes a file, for its owner alone.
    pub fn dump(&self, path: String, text: String) {
        let _ = self.0.send(Order::Dump { path, text });
    }

    /// The last order: waits until the notify scripts asked for so far have ended, and the mails are sent.
    pub async fn finish(&self, limit: Duration) {
        let (tx, rx) = oneshot::channel();
        let _ = self.0.send(Order::Finish(tx));
        let _ = tokio::time::timeout(limit, rx).await;
    }
}

async fn run(mut orders: mpsc::UnboundedReceiver<Order>, report: mpsc::UnboundedSender<Report>) {
    let (queue, notifications) = mpsc::unbounded_channel();
    tokio::task::spawn_local(notifier(notifications, report.clone()));
    let (mails, waiting) = mpsc::channel(MAILS);
    let mut mails = Some((mails, tokio::task::spawn_local(mailer(waiting, report.clone()))));
    let mut checks = Checks::default();
    let mut outside = Outside::default();
    let mut fifos = Fifos::default();
    while let Some(o) = orders.recv().await {
        match o {
            Order::Checks { all, default } => {
                // One that has not changed goes on where it is, with what it has counted.
                let mut before = std::mem::take(&mut checks);
                for s in all {
                    let known = before.0.iter().position(|c| c.script == s && c.default == default);
                    checks.0.push(match known {
                        Some(at) => before.0.swap_remove(at),
                        None => Check {
                            script: s.clone(),
                            default,
                            task: tokio::task::spawn_local(check(s, default, report.clone())),
                        },
                    });
                }
            }
            Order::Outside { files, processes } => outside.replace(files, processes, &report),
            Order::Fifos { all, default } => fifos.replace(all, default, &report),
            Order::Mail(m) => {
                if mails.as_ref().is_none_or(|(queue, _)| queue.try_send(*m).is_err()) {
                    let _ =
                        report.send(Report::Trouble(format!("more than {MAILS} alerts wait to be sent: one is lost")));
                }
            }
            Order::Line(text) => fifos.write(&text, &report),
            Order::Dump { path, text } => {
                if let Err(e) = dump(&path, &text) {
                    let _ = report.send(Report::Trouble(format!("cannot write {path}: {}", io_words(&e))));
                }
            }
            Order::Run { command, user, limit, done } => {
                tokio::task::spawn_local(async move {
                    let _ = done.send(run_command(&command, &[], limit, user).await);
                });
            }
            Order::Finish(done) => {
                fifos.end();
                let (tx, notified) = oneshot::channel();
                let _ = queue.send(Order::Finish(tx));
                // Without a sender the mailer ends behind the last of its mails.
                let sent = mails.take().map(|(_, task)| task);
                tokio::task::spawn_local(async move {
                    let _ = notified.await;
                    if let Some(sent) = sent {
                        let _ = sent.await;
                    }
                    let _ = done.send(());
                });
            }
            o => drop(queue.send(o)),
        }
    }
    drop(checks);
}

/// Writes a dump as keepalived does: for root alone, and never through a file that somebody else has put there.
fn dump(path: &str, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut f = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    f.write_all(text.as_bytes())
}

/// Files and processes that are tracked, a task each: one that has not changed goes on where it is.
#[derive(Default)]
struct Outside {
    files: Vec<(TrackFile, tokio::task::JoinHandle<()>)>,
    processes: Vec<(TrackProcess, tokio::task::JoinHandle<()>)>,
    /// Paths that were tracked since the start: they are not written again.
    known: std::collections::HashSet<String>,
}

impl Outside {
    fn replace(&mut self, files: Vec<TrackFile>, processes: Vec<TrackProcess>, report: &mpsc::UnboundedSender<Report>) {
        let known = &mut self.known;
        keep(&mut self.files, files, |f| {
            let first = known.insert(f.path.clone());
            tokio::task::spawn_local(outside::file(f, first, report.clone()))
        });
        keep(&mut self.processes, processes, |p| {
            tokio::task::spawn_local(outside::track_processes(vec![p], report.clone()))
        });
    }
}

/// Ends the tasks of what is not wanted any more, and begins those of what is new.
fn keep<T: PartialEq + Clone>(
    tasks: &mut Vec<(T, tokio::task::JoinHandle<()>)>,
    wanted: Vec<T>,
    mut begin: impl FnMut(T) -> tokio::task::JoinHandle<()>,
) {
    tasks.retain(|t| {
        let stays = wanted.contains(&t.0);
        if !stays {
            t.1.abort();
        }
        stays
    });
    for w in wanted {
        if !tasks.iter().any(|t| t.0 == w) {
            tasks.push((w.clone(), begin(w)));
        }
    }
}

/// The FIFOs, each with the script that reads it.
#[derive(Default)]
struct Fifos(Vec<OpenFifo>);

struct OpenFifo {
    conf: Fifo,
    pipe: std::fs::File,
    /// The script's process, and what waits for its end.
    script: Option<(i32, tokio::task::JoinHandle<()>)>,
    /// Lines that had no room.
    lost: u64,
}

impl Fifos {
    fn replace(&mut self, all: Vec<Fifo>, default: User, report: &mpsc::UnboundedSender<Report>) {
        let mut before = std::mem::take(&mut self.0);
        for conf in all {
            let known = before.iter().position(|f| f.conf == conf);
            match known.map(|at| before.swap_remove(at)).map_or_else(|| OpenFifo::new(conf, default), Ok) {
                Ok(f) => self.0.push(f),
                Err(e) => drop(report.send(Report::Trouble(e))),
            }
        }
        before.iter_mut().for_each(OpenFifo::end);
    }

    fn write(&mut self, text: &str, report: &mpsc::UnboundedSender<Report>) {
        use std::io::Write as _;
        for f in &mut self.0 {
            // A pipe takes such a line whole or not at all.
            match f.pipe.write(text.as_bytes()) {
                Ok(n) if n == text.len() => {}
                _ => {
                    f.lost += 1;
                    if f.lost.is_power_of_two() {
                        let path = &f.conf.path;
                        let text = format!("FIFO {path}: nobody reads it, {} lines are lost", f.lost);
                        let _ = report.send(Report::Trouble(text));
                    }
                }
            }
        }
    }

    /// Their scripts are told that the end is near; what is still to be said follows.
    fn end(&mut self) {
        self.0.iter_mut().for_each(OpenFifo::end);
    }
}

impl OpenFifo {
    fn new(conf: Fifo, default: User) -> Result<Self, String> {
        use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
        let path = &conf.path;
        let wrong = |e: &std::io::Error| format!("FIFO {path}: {}", io_words(e));
        let owner = ids(conf.user.as_ref()).or_else(|| ids(conf.script.as_ref()?.user.as_ref()).or(default));
        match std::fs::symlink_metadata(path) {
            // Who may write into it may tell the script what he likes.
            Ok(m) if m.file_type().is_fifo() && m.uid() != 0 && Some(m.uid()) != owner.map(|o| o.0) => {
                return Err(format!(
                    "FIFO {path}: it belongs to user {}; remove it, or say that user behind its name",
                    m.uid()
                ));
            }
            Ok(m) if m.file_type().is_fifo() => {}
            Ok(_) => return Err(format!("FIFO {path}: something else is there; remove it, or name another path")),
            Err(_) => {
                nix::unistd::mkfifo(path.as_str(), nix::sys::stat::Mode::from_bits_truncate(0o600))
                    .map_err(|e| wrong(&e.into()))?;
                if let Some((uid, gid)) = owner {
                    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).map_err(|e| wrong(&e))?;
                }
            }
        }
        // Open for reading too: so it is open whether or not somebody reads, and what is written waits.
        let pipe = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
            .open(path)
            .map_err(|e| wrong(&e))?;
        let script = match &conf.script {
            None => None,
            Some(s) => {
                let mut child = start(&s.command, std::slice::from_ref(path), ids(s.user.as_ref()).or(default), false)?;
                child.id().and_then(|p| i32::try_from(p).ok()).map(|pid| {
                    let ended = async move {
                        let _ = child.wait().await;
                    };
                    (pid, tokio::task::spawn_local(ended))
                })
            }
        };
        Ok(Self { conf, pipe, script, lost: 0 })
    }

    fn end(&mut self) {
        if let Some((pid, ended)) = &self.script
            && !ended.is_finished()
        {
            // SAFETY: plain system call; it is our own child, which was not waited for yet.
            unsafe { libc::kill(*pid, libc::SIGTERM) };
        }
    }
}

#[derive(Default)]
struct Checks(Vec<Check>);

struct Check {
    script: VrrpScript,
    default: User,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Check {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Asks one script again and again; says what it says, after `rise` and `fall` answers alike.
async fn check(s: VrrpScript, default: User, report: mpsc::UnboundedSender<Report>) {
    let user = ids(s.user.as_ref()).or(default);
    let (mut good, mut bad, mut first) = (0u32, 0u32, true);
    let mut told = None;
    loop {
        let begin = Instant::now();
        let code = run_command(&s.command, &[], s.timeout, user).await.unwrap_or_else(|e| {
            if first {
                let _ = report.send(Report::Trouble(format!("script {}: {e}", s.name)));
            }
            FAILED
        });
        // With `misc_dynamic`, only 1 and what is no exit status say that it failed.
        let ok = code == 0 || s.tells_codes && code > 1;
        (good, bad) = if ok { (good.saturating_add(1), 0) } else { (0, bad.saturating_add(1)) };
        let counts = if ok { good >= s.rise } else { bad >= s.fall };
        // A server is taken for up until its check has failed as often as it may; a router's script has to say so first.
        let begins = first && (ok || counts || s.pause.is_none());
        let turned = begins || ok && good == s.rise || !ok && bad == s.fall;
        if turned || s.tells_codes && counts && told != Some(code) {
            told = Some(code);
            if report.send(Report::Check { name: s.name.clone(), up: ok, code }).is_err() {
                return;
            }
        }
        first = false;
        let pause = if ok || counts { s.interval } else { s.pause.unwrap_or(s.interval) };
        tokio::time::sleep(pause.saturating_sub(begin.elapsed())).await;
    }
}

/// Sends alerts one after the other.
async fn mailer(mut waiting: mpsc::Receiver<(MailConf, Mail)>, report: mpsc::UnboundedSender<Report>) {
    while let Some((conf, mail)) = waiting.recv().await {
        let sent = tokio::time::timeout(conf.timeout, post::send(conf.server, &mail)).await;
        let why = match sent {
            Ok(Ok(())) => continue,
            Ok(Err(e)) => io_words(&e),
            Err(_) => format!("no answer in {} s", conf.timeout.as_secs()),
        };
        let text = format!("the alert '{}' could not be given to {}: {why}", mail.subject, conf.server);
        if report.send(Report::Trouble(text)).is_err() {
            return;
        }
    }
}

/// Starts notify scripts in the order of the events; they run side by side, as keepalived's do.
async fn notifier(mut queue: mpsc::UnboundedReceiver<Order>, report: mpsc::UnboundedSender<Report>) {
    let mut running = tokio::task::JoinSet::new();
    while let Some(o) = queue.recv().await {
        match o {
            Order::Notify { command, args, user } => match start(&command, &args, user, false) {
                Ok(child) => drop(running.spawn_local(wait(child, NOTIFY_LIMIT))),
                Err(e) => drop(report.send(Report::Trouble(format!("notify: {e}")))),
            },
            Order::Finish(done) => {
                while running.join_next().await.is_some() {}
                let _ = done.send(());
            }
            // The others are not passed on to here.
            _ => {}
        }
        while running.try_join_next().is_some() {}
    }
}

/// Accounts as the loader wrote them: numbers.
pub fn ids(user: Option<&(String, Option<String>)>) -> User {
    let (u, g) = user?;
    Some((u.parse().ok()?, g.as_ref()?.parse().ok()?))
}

/// What counts as the exit status of one that was ended, or could not be started.
const FAILED: i32 = -1;

/// Runs one command to its end, or to its time-out: its exit status.
async fn run_command(command: &str, args: &[String], limit: Duration, user: User) -> Result<i32, String> {
    Ok(wait(start(command, args, user, true)?, limit).await)
}

/// Starts a command. `ours`: it is ended when nobody waits for it any more.
fn start(command: &str, args: &[String], user: User, ours: bool) -> Result<tokio::process::Child, String> {
    let plain = !command.contains(['|', '&', ';', '<', '>', '$', '`', '"', '\'', '(', '*', '?']);
    let mut c = if plain {
        let mut words = command.split_whitespace();
        let mut c = tokio::process::Command::new(words.next().unwrap_or_default());
        c.args(words);
        c
    } else {
        // What needs a shell gets one, as the operator wrote it.
        let mut c = tokio::process::Command::new("/bin/sh");
        c.arg("-c").arg(if args.is_empty() { command.to_owned() } else { format!("{command} \"$@\"") }).arg("sh");
        c
    };
    if let Some((uid, gid)) = user {
        c.uid(uid).gid(gid);
    }
    c.process_group(0).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(ours);
    c.spawn().map_err(|e| format!("cannot run '{command}': {}", io_words(&e)))
}

async fn wait(mut child: tokio::process::Child, limit: Duration) -> i32 {
    match tokio::time::timeout(limit, child.wait()).await {
        Ok(status) => status.ok().and_then(|s| s.code()).unwrap_or(FAILED),
        Err(_) => {
            // Whatever the script started goes with it.
            if let Some(pid) = child.id().and_then(|p| i32::try_from(p).ok()) {
                // SAFETY: plain system call; the group is that of our own child, which is not reaped yet.
                unsafe { libc::kill(-pid, libc::SIGKILL) };
            }
            FAILED
        }
    }
}
