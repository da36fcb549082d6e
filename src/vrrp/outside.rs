//! Files and processes that are tracked. Reading them waits for the disk, or for many processes: this runs on the scripts' thread.
use super::debounce::Debouncer;
use super::proc_match::{enough, matches, wants_command_line};
use super::script::Report;
use crate::base::diag::io_words;
use crate::config::model::{Debounce, TrackFile, TrackProcess};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedSender;

/// How often it is looked for new processes. The end of one that is known is seen at once.
const LOOK: Duration = Duration::from_millis(250);
/// A tracked file is a number; more than this is not read.
const FILE_LIMIT: u64 = 64;
/// A file is looked at this often in any case: its directory may not be there yet, or be replaced.
const POLL: Duration = Duration::from_secs(1);

/// Opens a file without ever waiting for somebody at its other end; what is no file is not opened.
fn open(path: &str, how: &mut std::fs::OpenOptions) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let f = how.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    if f.metadata()?.is_file() { Ok(f) } else { Err(std::io::ErrorKind::InvalidInput.into()) }
}

/// Reads a tracked file: a number, or 0 where there is none, as keepalived does.
fn value(path: &str) -> i64 {
    use std::io::Read as _;
    let mut text = String::new();
    let _ = open(path, std::fs::OpenOptions::new().read(true)).map(|f| f.take(FILE_LIMIT).read_to_string(&mut text));
    let text = text.trim_start();
    let end = text
        .char_indices()
        .find(|(i, c)| !(c.is_ascii_digit() || *i == 0 && "+-".contains(*c)))
        .map_or(text.len(), |e| e.0);
    text[..end].parse().unwrap_or(0)
}

/// `init_file`: not through a link that somebody else has put there.
fn init(f: &TrackFile) -> Result<(), String> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let Some((value, overwrite)) = f.init else { return Ok(()) };
    let mut how = std::fs::OpenOptions::new();
    how.write(true).mode(0o644).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    if overwrite {
        how.create(true).truncate(true);
    } else {
        how.create_new(true);
    }
    match how.open(&f.path) {
        Ok(mut file) => writeln!(file, "{value}").map_err(|e| e.to_string()),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && !overwrite => Ok(()),
        Err(e) => Err(io_words(&e)),
    }
}

/// Tells what a file says, now and whenever it changes. `first`: it was not tracked before, and may have to be written.
pub async fn file(f: TrackFile, first: bool, report: UnboundedSender<Report>) {
    if let Err(e) = if first { init(&f) } else { Ok(()) } {
        let _ = report.send(Report::Trouble(format!("track_file {}: cannot write {}: {e}", f.name, f.path)));
    }
    let mut said: Option<i64> = None;
    // The directory, since files are often replaced and not written into.
    let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok();
    let kinds = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_CREATE;
    let dir = Path::new(&f.path).parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // SAFETY: the Inotify lives in this function, longer than what waits for it.
    let fd = watch
        .as_ref()
        .and_then(|w| unsafe { AsyncFd::register_with_interest(w.as_fd().as_raw_fd(), Interest::READABLE) }.ok());
    loop {
        // Again each time: the directory may be another one by now.
        let _ = watch.as_ref().map(|w| w.add_watch(dir, kinds));
        let now = value(&f.path);
        if said != Some(now) {
            said = Some(now);
            if report.send(Report::File { name: f.name.clone(), value: now }).is_err() {
                return;
            }
        }
        let woken = async {
            match (&fd, &watch) {
                (Some(fd), Some(w)) => {
                    if let Ok(mut ready) = fd.readable().await {
                        while w.read_events().is_ok_and(|e| !e.is_empty()) {}
                        ready.clear_ready();
                    }
                }
                _ => std::future::pending().await,
            }
        };
        let _ = tokio::time::timeout(POLL, woken).await;
    }
}

/// A process that was found: its end is seen at once.
struct Found {
    pid: u32,
    end: Option<AsyncFd<OwnedFd>>,
}

fn pidfd(pid: u32) -> Option<AsyncFd<OwnedFd>> {
    // SAFETY: plain system call.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0) };
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the call gave a descriptor that is ours alone; the AsyncFd owns it.
    unsafe { AsyncFd::register_with_interest(OwnedFd::from_raw_fd(fd), Interest::READABLE) }.ok()
}

/// Every process that is no zombie, with its name.
fn processes() -> Vec<(u32, String)> {
    let Ok(dir) = std::fs::read_dir("/proc") else { return Vec::new() };
    dir.flatten()
        .filter_map(|e| {
            let pid: u32 = e.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (open, close) = (stat.find('(')?, stat.rfind(')')?);
            let state = stat.get(close + 2..close + 3)?;
            (!matches!(state, "Z" | "X")).then(|| (pid, stat[open + 1..close].to_owned()))
        })
        .collect()
}

/// Tells whether enough of each are there, now and whenever it changes.
pub async fn track_processes(all: Vec<TrackProcess>, report: UnboundedSender<Report>) {
    let mut bounce = Debouncer::default();
    bounce.configure(
        &all.iter()
            .map(|p| Debounce { interface: p.name.clone(), down: p.terminate_delay, up: p.fork_delay })
            .collect::<Vec<_>>(),
    );
    let mut found: Vec<Vec<Found>> = all.iter().map(|_| Vec::new()).collect();
    let mut said: Vec<Option<bool>> = vec![None; all.len()];
    loop {
        let there = processes();
        for (p, found) in all.iter().zip(&mut found) {
            let lines = wants_command_line(p);
            let is_one = |pid: u32, comm: &str| {
                let line =
                    if lines { std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default() } else { Vec::new() };
                matches(p, comm, &line)
            };
            let now: Vec<u32> = there.iter().filter(|(pid, comm)| is_one(*pid, comm)).map(|t| t.0).collect();
            found.retain(|f| now.contains(&f.pid));
            for pid in now {
                if !found.iter().any(|f| f.pid == pid) {
                    found.push(Found { pid, end: pidfd(pid) });
                }
            }
        }
        for (k, p) in all.iter().enumerate() {
            let up = bounce.see(&p.name, enough(p, found[k].len()), Instant::now());
            if said[k] != Some(up) {
                said[k] = Some(up);
                if report.send(Report::Processes { name: p.name.clone(), up }).is_err() {
                    return;
                }
            }
        }
        let until = bounce.next().map_or(Instant::now() + LOOK, |t| t.min(Instant::now() + LOOK));
        let ends: Vec<_> =
            found.iter().flatten().filter_map(|f| f.end.as_ref()).map(|fd| Box::pin(fd.readable())).collect();
        let one_ends = async {
            if ends.is_empty() {
                std::future::pending::<()>().await;
            }
            let (_ended, ..) = futures_util::future::select_all(ends).await;
        };
        let _ = tokio::time::timeout_at(until.into(), one_ends).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_a_number() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f").to_str().unwrap().to_owned();
        assert_eq!(value(&path), 0);
        for (text, wanted) in
            [(" 7 \n", 7), ("-254", -254), ("+3x", 3), ("", 0), ("abc", 0), ("99999999999999999999", 0)]
        {
            std::fs::write(&path, text).unwrap();
            assert_eq!(value(&path), wanted, "{text:?}");
        }
        let place = crate::config::keepalived::build::place_of("f:1");
        let mut f = crate::config::keepalived::build::blank_file("f", &place);
        (f.path, f.init) = (path.clone(), Some((5, false)));
        init(&f).unwrap();
        assert_eq!(value(&path), 0);
        f.init = Some((5, true));
        init(&f).unwrap();
        assert_eq!(value(&path), 5);
    }
}
