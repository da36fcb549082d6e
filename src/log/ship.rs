//! What rings hold goes to their servers, over one stream each that is opened anew when it breaks (configuration manual 3.7, `server`, `log-proto`).
use super::ring::{ReaderId, Ring};
use crate::config::model::{LogProto, PortRule};
use crate::health::connect::{Io, Wish, connect};
use crate::state::snapshot::{Feed, Snapshot};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A connection that cannot be made is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// How long events are gathered once there is one: threads that log wake the shipper no more often.
const GATHER: Duration = Duration::from_millis(5);
/// Bytes that are written at once.
const BURST: usize = 64 * 1024;
/// Without `timeout connect`.
const CONNECT: Duration = Duration::from_secs(5);

/// The tasks of one configuration; they end with it.
#[derive(Debug)]
pub struct Shipping(Vec<JoinHandle<()>>);

impl Drop for Shipping {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Starts one task for each server of each ring.
pub fn start(snapshot: &Arc<Snapshot>) -> Shipping {
    let each = (0..snapshot.feeds.len()).map(|i| {
        let snapshot = snapshot.clone();
        tokio::task::spawn_local(async move { feed(&snapshot.feeds[i]).await })
    });
    Shipping(each.collect())
}

/// A reader that gives its place up when it goes, and takes it up again after a reload.
struct Reader<'r>(&'r Ring, ReaderId, &'r str);

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.0.detach_as(self.1, self.2);
    }
}

async fn feed(f: &Feed) {
    let server = &f.node.servers[f.server];
    let timeouts = f.node.conf.timeouts;
    let reader = Reader(&f.ring, f.ring.attach_as(&server.conf.name), &server.conf.name);
    loop {
        let begun = Instant::now();
        let wish = Wish {
            port: match server.conf.port {
                PortRule::Fixed(p) => Some(p),
                _ => None,
            },
            tls: server.conf.traffic_tls,
            sni: server.conf.tls.as_ref().and_then(|t| match &t.sni {
                Some(crate::config::model::SniRule::Fixed(n)) => Some(n.clone()),
                _ => None,
            }),
            alpn: server.conf.tls.as_ref().map(|t| t.alpn.clone()).unwrap_or_default(),
            send_proxy: server.conf.send_proxy.is_some(),
            socks4: server.conf.socks4.is_some(),
            linger: true,
            ..Wish::default()
        };
        let limit = begun + timeouts.connect.unwrap_or(CONNECT);
        if let Ok(mut link) = connect(&f.node, server, wish, limit).await {
            serve(&reader, server.conf.log_proto, timeouts.server, &mut *link.io).await;
        }
        tokio::time::sleep_until(begun + AGAIN).await;
    }
}

/// Until the stream breaks.
async fn serve(reader: &Reader<'_>, proto: LogProto, patience: Option<Duration>, io: &mut dyn Io) {
    let mut out = Vec::new();
    let mut ignored = [0; 1024];
    loop {
        out.clear();
        let mut events = 0;
        reader.0.read(reader.1, &mut |event| {
            match proto {
                LogProto::Legacy => {
                    out.extend_from_slice(event);
                    out.push(b'\n');
                }
                LogProto::OctetCount => {
                    out.extend_from_slice(event.len().to_string().as_bytes());
                    out.push(b' ');
                    out.extend_from_slice(event);
                }
            }
            events += 1;
            out.len() < BURST
        });
        if out.is_empty() {
            tokio::select! {
                () = reader.0.wait(reader.1) => {}
                // Nobody has anything to say here; only the end counts.
                n = io.read(&mut ignored) => match n {
                    Ok(1..) => continue,
                    _ => return,
                },
            }
            tokio::time::sleep(GATHER).await;
            continue;
        }
        let written = async {
            io.write_all(&out).await?;
            io.flush().await
        };
        let done = match patience {
            Some(p) => {
                tokio::time::timeout(p, written).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            }
            None => written.await,
        };
        if done.is_err() {
            // Some of them may have arrived; nobody can tell.
            reader.0.dropped.fetch_add(events, Relaxed);
            return;
        }
    }
}
