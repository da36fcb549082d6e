//! The driver of the runtime socket: lines in, answers out.
use super::command::{self, Command};
use super::execute::{Asked, execute};
use crate::config::model::CliLevel;
use crate::state::live::Live;
use crate::state::snapshot::Snapshot;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

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
                Ok(c) => {
                    let (text, asked) = execute(&c, &snapshot.load_full(), &live, level);
                    if let Some(a) = asked {
                        let _ = ask.send(a);
                    }
                    text
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
