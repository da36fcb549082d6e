//! Scripts: checks that are asked again and again, and notifications in the order of the events. They run from a thread of their own, because starting a program
//! waits for the disk it lies on.
use crate::base::diag::io_words;
use crate::config::model::VrrpScript;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// A script that does not end by itself is ended after this.
const NOTIFY_LIMIT: Duration = Duration::from_secs(60);

/// uid and gid that a script runs with; `None`: those of this process.
pub type User = Option<(u32, u32)>;

enum Order {
    Notify { command: String, args: Vec<String>, user: User },
    Checks { all: Vec<VrrpScript>, default: User },
    Finish(oneshot::Sender<()>),
}

/// What came of them.
#[derive(Debug)]
pub enum Report {
    /// A check changed its mind, or has said something for the first time.
    Check { name: String, up: bool },
    /// A script could not be run.
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

    /// Waits until the notify scripts asked for so far have ended.
    pub async fn finish(&self, limit: Duration) {
        let (tx, rx) = oneshot::channel();
        let _ = self.0.send(Order::Finish(tx));
        let _ = tokio::time::timeout(limit, rx).await;
    }
}

async fn run(mut orders: mpsc::UnboundedReceiver<Order>, report: mpsc::UnboundedSender<Report>) {
    let (queue, notifications) = mpsc::unbounded_channel();
    tokio::task::spawn_local(notifier(notifications, report.clone()));
    let mut checks = Checks::default();
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
            o => drop(queue.send(o)),
        }
    }
    drop(checks);
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
    loop {
        let begin = Instant::now();
        let ok = run_command(&s.command, &[], s.timeout, user).await.unwrap_or_else(|e| {
            if first {
                let _ = report.send(Report::Trouble(format!("script {}: {e}", s.name)));
            }
            false
        });
        (good, bad) = if ok { (good.saturating_add(1), 0) } else { (0, bad.saturating_add(1)) };
        if (first || ok && good == s.rise || !ok && bad == s.fall)
            && report.send(Report::Check { name: s.name.clone(), up: ok }).is_err()
        {
            return;
        }
        first = false;
        tokio::time::sleep(s.interval.saturating_sub(begin.elapsed())).await;
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
            Order::Checks { .. } => {}
        }
        while running.try_join_next().is_some() {}
    }
}

/// Accounts as the loader wrote them: numbers.
pub fn ids(user: Option<&(String, Option<String>)>) -> User {
    let (u, g) = user?;
    Some((u.parse().ok()?, g.as_ref()?.parse().ok()?))
}

/// Runs one command to its end, or to its time-out. True if it ended with 0.
async fn run_command(command: &str, args: &[String], limit: Duration, user: User) -> Result<bool, String> {
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

async fn wait(mut child: tokio::process::Child, limit: Duration) -> bool {
    match tokio::time::timeout(limit, child.wait()).await {
        Ok(status) => status.is_ok_and(|s| s.success()),
        Err(_) => {
            // Whatever the script started goes with it.
            if let Some(pid) = child.id().and_then(|p| i32::try_from(p).ok()) {
                // SAFETY: plain system call; the group is that of our own child, which is not reaped yet.
                unsafe { libc::kill(-pid, libc::SIGKILL) };
            }
            false
        }
    }
}
