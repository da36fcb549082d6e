//! The driver of the runtime socket: lines in, answers out.
use super::command::{self, Command, Events};
use super::execute::{Asked, Reply, execute, ring_of};
use super::runtime::{Refusal, Removable, is_removable};
use crate::config::model::CliLevel;
use crate::state::live::Live;
use crate::state::snapshot::Snapshot;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::oneshot;

/// Longest line taken.
const MAX_LINE: u64 = 16 * 1024;

/// Serves one connection: a single line, or many after `prompt`.
pub async fn serve<S>(
    stream: S,
    level: CliLevel,
    snapshot: Arc<ArcSwap<Snapshot>>,
    live: Arc<Live>,
    ask: tokio::sync::mpsc::UnboundedSender<Asked>,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (read, mut write) = tokio::io::split(stream);
    let mut read = BufReader::new(read);
    let mut interactive = false;
    loop {
        let mut line = String::new();
        let idle = snapshot.load().global.stats_timeout;
        let got =
            tokio::time::timeout(idle.max(Duration::from_secs(1)), (&mut read).take(MAX_LINE).read_line(&mut line))
                .await;
        let Ok(Ok(1..)) = got else { return };
        let mut quit = !interactive;
        for part in line.split(';').map(str::trim).filter(|p| !p.is_empty()) {
            let answer = match command::parse(part, level) {
                Ok(Command::Prompt) => {
                    (interactive, quit) = (true, false);
                    String::new()
                }
                Ok(Command::Quit) => return,
                Ok(Command::ShowEvents(e)) => {
                    let ring = ring_of(&e.sink, &snapshot.load(), &live);
                    match ring {
                        Err(why) => why.to_owned(),
                        Ok(ring) if show_events(&ring, &e, idle, &mut read, &mut write).await.is_err() => return,
                        Ok(_) => String::new(),
                    }
                }
                Ok(c) => {
                    let reply = execute(&c, &snapshot.load_full(), &live, level);
                    match reply {
                        Reply::Said(text) => text,
                        Reply::Ask(text, asked) => {
                            let _ = ask.send(asked);
                            text
                        }
                        Reply::Change(wish) => {
                            let (done, word) = oneshot::channel();
                            let _ = ask.send(Asked::Change(wish, done));
                            match word.await {
                                Ok(Ok(said)) => said,
                                Ok(Err(why)) => format!("{why}\n"),
                                Err(_) => "Not possible now: the process is ending.\n".into(),
                            }
                        }
                        // Who has said all closes one half: that is no sign of having gone.
                        Reply::Wait { most, until } => wait(most, until.as_ref(), &snapshot).await,
                    }
                }
                Err(e) => e,
            };
            if write.write_all(format!("{answer}\n").as_bytes()).await.is_err() {
                return;
            }
        }
        if interactive && write.write_all(b"> ").await.is_err() {
            return;
        }
        if quit {
            let _ = write.shutdown().await;
            return;
        }
    }
}

/// `wait`: until it is so, cannot become so, or the time is over.
async fn wait(most: Duration, until: Option<&Removable>, snapshot: &ArcSwap<Snapshot>) -> String {
    let end = tokio::time::Instant::now() + most;
    let Some(until) = until else {
        tokio::time::sleep_until(end).await;
        return "Done.\n".into();
    };
    loop {
        match is_removable(until, &snapshot.load()) {
            Ok(()) => return "Done.\n".into(),
            Err(Refusal::Never(why)) => return format!("Failed. {why}\n"),
            Err(Refusal::Yet(why)) if tokio::time::Instant::now() >= end => {
                return format!("Wait delay expired. {why}\n");
            }
            Err(Refusal::Yet(_)) => {}
        }
        tokio::time::sleep_until(end.min(tokio::time::Instant::now() + LOOK)).await;
    }
}

/// How often a `wait` looks.
const LOOK: Duration = Duration::from_millis(20);

/// Shows what a ring holds and, where that is wanted, what comes until the client sends something or goes.
async fn show_events<S>(
    ring: &crate::log::ring::Ring,
    e: &Events,
    patience: Duration,
    read: &mut BufReader<tokio::io::ReadHalf<S>>,
    write: &mut tokio::io::WriteHalf<S>,
) -> std::io::Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let reader = Attached(ring, ring.attach(e.new));
    let mut out = Vec::new();
    loop {
        out.clear();
        ring.read(reader.1, &mut |event| {
            out.extend_from_slice(event);
            out.push(if e.zero { 0 } else { b'\n' });
            out.len() < MOST_SHOWN
        });
        if !out.is_empty() {
            // Who does not take them keeps a ring from forgetting them.
            tokio::time::timeout(patience.max(Duration::from_secs(1)), write.write_all(&out)).await??;
            continue;
        }
        if !e.wait {
            return Ok(());
        }
        write.flush().await?;
        tokio::select! {
            () = ring.wait(reader.1) => {}
            n = read.fill_buf() => {
                let n = n?.len();
                read.consume(n);
                return if n == 0 { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) };
            }
        }
    }
}

/// Bytes of events that are written at once.
const MOST_SHOWN: usize = 64 * 1024;

/// A reader that gives its place up when it goes.
struct Attached<'r>(&'r crate::log::ring::Ring, crate::log::ring::ReaderId);

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        self.0.detach(self.1);
    }
}
