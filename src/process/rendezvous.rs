//! `/run/tandem`: where the guardians of a host are found by a second process that wants the same: `keepalived` started beside `haproxy`, `-sf` of a running one.
//! One socket a guardian, named after its network namespace and pid; one line of JSON each way. Only root and the guardian's own user are heard.
use crate::config::source::LoadArgs;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};

const DIR: &str = "/run/tandem";
/// A guardian that does not answer a question about itself within this is passed over; a reload may take longer.
const HELLO: Duration = Duration::from_secs(2);

/// One of the two daemons that a guardian stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Half {
    Haproxy,
    Keepalived,
}

impl Half {
    pub fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Keepalived => "keepalived",
        }
    }
    /// True if `load` has this half.
    pub fn is_in(self, load: &LoadArgs) -> bool {
        match self {
            Self::Haproxy => !load.haproxy.is_empty(),
            Self::Keepalived => load.keepalived.is_some(),
        }
    }
    /// `into` with this half taken from `from`.
    pub fn moved(self, from: &LoadArgs, into: &LoadArgs) -> LoadArgs {
        match self {
            Self::Haproxy => LoadArgs { keepalived: into.keepalived.clone(), ..from.clone() },
            Self::Keepalived => LoadArgs { keepalived: from.keepalived.clone(), ..into.clone() },
        }
    }
}

/// What a daemon's signals ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    Reload,
    /// Give this half up: softly, or at once.
    Leave {
        soft: bool,
    },
    /// keepalived's dumps.
    Data,
    Stats,
    Json,
    /// Its counters begin anew.
    Clear,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Who are you?
    Hello,
    /// Serve this half as well.
    Take(Half, LoadArgs),
    /// `-sf`, `-st`: serve this in place of what you serve.
    Replace(LoadArgs),
    Wish(Half, Wish),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer {
    pub ok: bool,
    pub text: String,
    pub pid: u32,
    pub load: LoadArgs,
}

pub type Asked = (Ask, oneshot::Sender<Answer>);

/// Removes the socket when the guardian ends.
pub struct Post(PathBuf);

impl Drop for Post {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn namespace() -> u64 {
    std::fs::metadata("/proc/self/ns/net").map_or(0, |m| m.ino())
}

/// Makes this guardian known. `Err` says why it cannot be found (no root, no /run): everything else works all the same.
/// Must be called inside the guardian's runtime.
pub fn open() -> Result<(Post, mpsc::UnboundedReceiver<Asked>), String> {
    let say = |e: std::io::Error| format!("{DIR}: {}", crate::base::diag::io_words(&e));
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(DIR).map_err(say)?;
    let path = Path::new(DIR).join(format!("{}-{}.sock", namespace(), std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = tokio::net::UnixListener::bind(&path).map_err(say)?;
    let (tx, rx) = mpsc::unbounded_channel();
    tokio::task::spawn_local(async move {
        loop {
            match listener.accept().await {
                Ok((s, _)) => drop(tokio::task::spawn_local(answer(s, tx.clone()))),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    });
    Ok((Post(path), rx))
}

async fn answer(mut s: tokio::net::UnixStream, asked: mpsc::UnboundedSender<Asked>) -> Option<()> {
    /// Longer than any command line.
    const LONGEST: u64 = 1 << 20;
    // SAFETY: plain system call.
    let own = unsafe { libc::geteuid() };
    if !s.peer_cred().is_ok_and(|c| c.uid() == 0 || c.uid() == own) {
        return None;
    }
    let (read, mut write) = s.split();
    let mut lines = tokio::io::BufReader::new(tokio::io::AsyncReadExt::take(read, LONGEST)).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let ask: Ask = serde_json::from_str(&line).ok()?;
        let (tx, rx) = oneshot::channel();
        asked.send((ask, tx)).ok()?;
        let mut text = serde_json::to_string(&rx.await.ok()?).ok()?;
        text.push('\n');
        write.write_all(text.as_bytes()).await.ok()?;
    }
    Some(())
}

/// A guardian that was found.
pub struct Found {
    pub stream: UnixStream,
    pub answer: Answer,
}

impl Found {
    /// Asks and waits for the answer; `None` when the guardian is gone.
    pub fn ask(&mut self, a: &Ask, limit: Option<Duration>) -> Option<Answer> {
        self.stream.set_read_timeout(limit).ok()?;
        let mut text = serde_json::to_string(a).ok()?;
        text.push('\n');
        self.stream.write_all(text.as_bytes()).ok()?;
        let mut line = String::new();
        // One answer a question: nothing behind it can be lost in the buffer.
        BufReader::new(&self.stream).read_line(&mut line).ok().filter(|n| *n > 0)?;
        serde_json::from_str(&line).ok()
    }
}

/// The guardians of this network namespace, in the order of their pids.
pub fn guardians() -> Vec<Found> {
    let prefix = format!("{}-", namespace());
    let mut found: Vec<Found> = std::fs::read_dir(DIR)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with(&prefix))
        .filter_map(|e| {
            let stream = match UnixStream::connect(e.path()) {
                Ok(s) => s,
                Err(why) => {
                    if why.kind() == std::io::ErrorKind::ConnectionRefused {
                        // Left by one that was killed.
                        let _ = std::fs::remove_file(e.path());
                    }
                    return None;
                }
            };
            let nobody = Answer { ok: false, text: String::new(), pid: 0, load: LoadArgs::default() };
            let mut f = Found { stream, answer: nobody };
            f.answer = f.ask(&Ask::Hello, Some(HELLO))?;
            Some(f)
        })
        .collect();
    found.sort_by_key(|f| f.answer.pid);
    found
}

/// Paths as they are from anywhere.
pub fn absolute(load: &LoadArgs) -> LoadArgs {
    let whole = |p: &String| std::path::absolute(p).map_or_else(|_| p.clone(), |a| a.to_string_lossy().into_owned());
    LoadArgs {
        haproxy: load.haproxy.iter().map(whole).collect(),
        keepalived: load.keepalived.as_ref().map(whole),
        ..load.clone()
    }
}
