//! E-mail alerts on their way (configuration manual 3.6, `mailers`): one queue for each mailer, each mail over a connection of its own.
use super::mail::{Dialogue, Mail, Next};
use crate::rules::logformat::{DateForm, date};
use crate::state::live::{Live, lock};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Mails that wait for one mailer; what comes beyond is lost.
const MOST: usize = 1000;

/// Takes what is to be sent, for as long as the worker lives.
pub async fn deliver(live: Arc<Live>) {
    let Some(mut alerts) = lock(&live.outbox.1).take() else { return };
    let mut queues: HashMap<SocketAddr, mpsc::Sender<(Arc<Mail>, Duration)>> = HashMap::new();
    while let Some(a) = alerts.recv().await {
        for to in &a.mailers.servers {
            let queue = queues.entry(*to).or_insert_with(|| {
                let (tx, mut rx) = mpsc::channel::<(Arc<Mail>, Duration)>(MOST);
                let to = *to;
                tokio::task::spawn_local(async move {
                    while let Some((mail, limit)) = rx.recv().await {
                        // Given up silently, as there; an alert is no reason for another one.
                        let _ = tokio::time::timeout(limit, send(to, &mail)).await;
                    }
                });
                tx
            });
            let _ = queue.try_send((a.mail.clone(), a.mailers.timeout));
        }
    }
}

/// Now, as RFC 5322 writes it.
pub fn date_now() -> String {
    let mut when = Vec::new();
    date(SystemTime::now(), 0, DateForm::Http, &mut when);
    String::from_utf8_lossy(&when).replace("GMT", "+0000 (UTC)")
}

/// Gives one mail to a server; the error says why it was not taken.
pub async fn send(to: SocketAddr, mail: &Mail) -> std::io::Result<()> {
    let mut tcp = TcpStream::connect(to).await?;
    let (mut dialogue, mut seen) = (Dialogue::new(mail), Vec::new());
    loop {
        match dialogue.go_on(&mut seen) {
            Next::Send(bytes) => tcp.write_all(&bytes).await?,
            Next::Read => {
                let mut buf = [0; 1024];
                match tcp.read(&mut buf).await.or_else(|e| if dialogue.is_taken() { Ok(0) } else { Err(e) })? {
                    0 if dialogue.is_taken() => return Ok(()),
                    n @ 1.. if seen.len() < 16 * 1024 => seen.extend_from_slice(&buf[..n]),
                    _ => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                }
            }
            Next::Done => return Ok(()),
            Next::Refused(_) if dialogue.is_taken() => return Ok(()),
            Next::Refused(words) => return Err(std::io::Error::other(words)),
        }
    }
}
