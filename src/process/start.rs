//! From the command line to a running guardian: the first load, a process that is here already, the background, the pid files.
use super::bundle::Bundle;
use super::child;
use super::guardian::Guardian;
use super::loader::load_apart;
use super::privilege;
use super::rendezvous::{self, Ask, Found, Half};
use super::sockets::{self, Sockets};
use super::stub::{self, End};
use crate::config::source::LoadArgs;
use crate::log::console::Console;
use std::collections::HashSet;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::time::Duration;

/// How the program was started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub load: LoadArgs,
    /// `-p`, over the file's `pidfile`.
    pub pidfile: Option<String>,
    /// `--keepalived-pid`: where the stub for keepalived's signals leaves its pid.
    pub keepalived_pidfile: Option<String>,
    pub quiet: bool,
    /// Run in the background: `-D`, or `daemon` in the file, unless `-db` or `-W`.
    pub background: bool,
    /// Never, whatever the file says.
    pub foreground: bool,
    /// Started under the name of one of the two daemons, whose signals it takes and whose other half it looks for.
    pub named: Option<Half>,
    /// `-W` or `-Ws`: SIGINT is told in the exit code.
    pub master: bool,
    /// `-S`: sockets of the master CLI.
    pub master_sockets: Vec<super::master::Socket>,
    /// Processes that a started one replaces.
    pub replace: Vec<i32>,
    pub replace_hard: bool,
}

/// Where keepalived leaves its pid.
pub const KEEPALIVED_PID: &str = "/run/keepalived.pid";

fn alert(m: &str) {
    eprint!("[ALERT]    ({}) : {m}{}", std::process::id(), if m.ends_with('\n') { "" } else { "\n" });
}

/// Runs until stopped; the exit code of the program.
pub fn main(mut options: Options) -> i32 {
    options.load = rendezvous::absolute(&options.load);
    let (fd, first) = match load_apart(&options.load) {
        Ok(x) => x,
        Err(e) => {
            alert(&e);
            return 1;
        }
    };
    if !first.report.is_empty() && (!first.ok || !options.quiet) {
        eprint!("{}", first.report);
    }
    if !first.ok {
        alert("config : Fatal errors found in configuration.");
        return 1;
    }
    if first.spec.frontends == 0 && first.spec.vrrp.instances.is_empty() {
        alert(
            "no listener and no virtual router in the configuration: nothing to do; add a 'bind' line or a 'vrrp_instance'",
        );
        return 2;
    }
    options.background = (options.background || first.spec.daemon) && !options.foreground;
    options.pidfile = options.pidfile.take().or_else(|| first.spec.pidfile.clone());
    match join(&options) {
        Joined::Alone => {}
        Joined::Done(code) => return code,
        Joined::Stub(half, found) => return run_stub(half, found, &options),
    }
    guard(options, fd, first)
}

enum Joined {
    /// Nobody is here that does this work.
    Alone,
    Done(i32),
    /// Another process does the work; this one stands for a half of it.
    Stub(Half, Found),
}

/// Looks for a process that does this work already: the one to be replaced, or the one that has the other half.
fn join(o: &Options) -> Joined {
    let mut there = if o.replace.is_empty() && o.named.is_none() { Vec::new() } else { rendezvous::guardians() };
    let own_half = o.named.unwrap_or(Half::Haproxy);
    if let Some(at) = there.iter().position(|g| o.replace.iter().any(|p| u32::try_from(*p) == Ok(g.answer.pid))) {
        // It keeps its sockets, its addresses and its connections, and takes the new configuration: no second guardian.
        let mut g = there.swap_remove(at);
        return match g.ask(&Ask::Replace(o.load.clone()), None) {
            Some(a) if a.ok && !o.background && o.foreground => Joined::Stub(own_half, g),
            Some(a) if a.ok => {
                if !o.quiet {
                    eprintln!("[NOTICE]   ({}) : process {} has taken this configuration", std::process::id(), a.pid);
                }
                write_pid(o.pidfile.as_deref(), a.pid).map_or(Joined::Done(1), |()| Joined::Done(0))
            }
            Some(a) => {
                alert(&format!("process {} did not take this configuration: {}", a.pid, a.text));
                Joined::Done(1)
            }
            None => Joined::Alone,
        };
    }
    let Some(half) = o.named else { return Joined::Alone };
    for mut g in there {
        let theirs = &g.answer.load;
        let same = match half {
            Half::Haproxy => theirs.haproxy == o.load.haproxy,
            Half::Keepalived => theirs.keepalived == o.load.keepalived,
        };
        if half.is_in(theirs) && !same {
            continue;
        }
        stub::hold();
        let answer = g.ask(&Ask::Take(half, o.load.clone()), None);
        if !answer.as_ref().is_some_and(|a| a.ok) {
            stub::let_go();
        }
        return match answer {
            Some(a) if a.ok => Joined::Stub(half, g),
            Some(a) => {
                alert(&format!("process {}, which has the other half, did not take this one: {}", a.pid, a.text));
                Joined::Done(1)
            }
            None => continue,
        };
    }
    Joined::Alone
}

fn write_pid(path: Option<&str>, pid: u32) -> Result<(), ()> {
    let Some(p) = path else { return Ok(()) };
    std::fs::write(p, format!("{pid}\n"))
        .map_err(|e| alert(&format!("cannot write pid file '{p}' : {}", crate::base::diag::io_words(&e))))
}

/// Removes the pid file, unless a successor has written his own into it.
fn remove_pid(path: Option<&str>) {
    let own = std::process::id().to_string();
    if let Some(p) = path.filter(|p| std::fs::read_to_string(p).is_ok_and(|t| t.trim() == own)) {
        let _ = std::fs::remove_file(p);
    }
}

/// Stands for a half until told to end. If the process that does the work goes away, this one begins anew, on its own.
fn run_stub(half: Half, found: Found, o: &Options) -> i32 {
    if !o.quiet {
        let pid = found.answer.pid;
        eprintln!("[NOTICE]   ({}) : process {pid} serves this configuration as well", std::process::id());
    }
    if o.background {
        match detach() {
            Ok(ready) => {
                privilege::close_standard(&[]);
                drop_ready(ready);
            }
            Err(e) => {
                alert(&format!("cannot go to the background: {e}"));
                return 1;
            }
        }
    }
    let own = std::process::id();
    if write_pid(o.pidfile.as_deref(), own).is_err() {
        return 1;
    }
    let _ = sd_notify::notify(&[
        sd_notify::NotifyState::Ready,
        sd_notify::NotifyState::Status("serving, through another process"),
    ]);
    let end = stub::run(half, found);
    remove_pid(o.pidfile.as_deref());
    match end {
        End::Told => 0,
        End::Gone => {
            // The same command line, in the foreground of this very process: whoever supervises it sees it go on.
            let args: Vec<String> = std::env::args().collect();
            let mut c = std::process::Command::new("/proc/self/exe");
            c.arg0(args.first().map_or("tandem", String::as_str)).args(args.get(1..).unwrap_or_default());
            let e = c.exec();
            alert(&format!("the process that served this configuration is gone, and this one cannot begin anew: {e}"));
            1
        }
    }
}

/// Becomes the guardian.
fn guard(options: Options, fd: OwnedFd, first: Bundle) -> i32 {
    privilege::raise_nofile(65_536.max(u64::from(first.spec.maxconn) * 2 + 200 + crate::proxy::datagram::SESSIONS));
    let mut listeners = Sockets::default();
    match sockets::bind_missing(&first.spec, &HashSet::new()) {
        Ok(fresh) => {
            let plan = listeners.plan(&first.spec, fresh);
            listeners.commit(plan);
        }
        Err(errors) => {
            errors.iter().for_each(|e| alert(&format!("Binding {e}")));
            return 1;
        }
    }
    let mut masters = Vec::new();
    for s in &options.master_sockets {
        match s.bind().and_then(|b| b.unplaced.map_or(Ok(()), |u| u.place()).map(|()| b.fd)) {
            Ok(fd) => masters.push((fd, s.level)),
            Err(e) => {
                alert(&format!("-S: {e}"));
                return 1;
            }
        }
    }
    let ready = if options.background {
        match detach() {
            Ok(r) => Some(r),
            Err(e) => {
                alert(&format!("cannot go to the background: {e}"));
                return 1;
            }
        }
    } else {
        None
    };
    if write_pid(options.pidfile.as_deref(), std::process::id()).is_err() {
        return 1;
    }
    privilege::set_name("tandem");
    let log = Console::start(!options.quiet, true);
    if !first.spec.vrrp.instances.is_empty() {
        privilege::realtime().into_iter().for_each(|n| log.notice(n));
    }
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return 1 };
    let pidfile = options.pidfile.clone();
    let set = tokio::task::LocalSet::new();
    let code = set.block_on(&runtime, async {
        match Guardian::start(options, log.clone(), listeners, first.spec, fd, ready, masters).await {
            Ok((mut g, inputs)) => g.run(inputs).await,
            Err(e) => {
                log.alert(e);
                1
            }
        }
    });
    remove_pid(pidfile.as_deref());
    // The console's thread gets a moment for the last lines.
    std::thread::sleep(Duration::from_millis(20));
    code
}

/// Starts the process that stands for keepalived beside this guardian. It finds us through `/run/tandem`, as a stranger would.
pub fn start_keepalived_stub(pidfile: &str) -> std::io::Result<std::process::Child> {
    let mut c = std::process::Command::new("/proc/self/exe");
    c.arg0("keepalived").arg("--tandem-keepalived").arg(std::process::id().to_string()).arg(pidfile);
    c.stdin(std::process::Stdio::null()).spawn()
}

/// Entry of that process.
pub fn keepalived_stub(guardian: Option<&str>, pidfile: Option<&str>) -> i32 {
    let Some(pid) = guardian.and_then(|g| g.parse::<u32>().ok()) else { return 2 };
    privilege::set_name("keepalived");
    let Some(found) = rendezvous::guardians().into_iter().find(|g| g.answer.pid == pid) else { return 1 };
    let own = std::process::id();
    if let Some(p) = pidfile {
        // Another keepalived's file is left alone.
        let taken = std::fs::read_to_string(p)
            .ok()
            .and_then(|t| t.trim().parse::<u32>().ok())
            .is_some_and(|other| other != own && std::path::Path::new(&format!("/proc/{other}")).exists());
        if taken || std::fs::write(p, format!("{own}\n")).is_err() {
            return 3;
        }
    }
    stub::run(Half::Keepalived, found);
    remove_pid(pidfile);
    0
}

/// Into the background. The parent leaves once the returned descriptor says that everything is up, or with an error when it closes before.
fn detach() -> std::io::Result<OwnedFd> {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    // SAFETY: single-threaded at this point; the parent only reads and leaves.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error()),
        0 => {
            drop(read);
            // SAFETY: plain system call.
            unsafe { libc::setsid() };
            Ok(write)
        }
        _ => {
            drop(write);
            let up = std::fs::File::from(read).read(&mut [0u8; 1]).is_ok_and(|n| n == 1);
            // SAFETY: nothing of this process is left to be tidied up: the child has it.
            unsafe { libc::_exit(i32::from(!up)) }
        }
    }
}

/// Tells the parent that waits in the foreground that everything is up, and gives the terminal back.
pub fn drop_ready(ready: OwnedFd) {
    use std::io::Write;
    let _ = std::fs::File::from(ready).write_all(b"1");
}

/// `-sf` and `-st` towards strangers: who was here before may go now.
pub fn dismiss(pids: Vec<i32>, hard: bool) {
    for pid in pids {
        child::kill(pid, if hard { libc::SIGTERM } else { libc::SIGUSR1 });
    }
}
