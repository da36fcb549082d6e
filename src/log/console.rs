//! A process's own messages: through a bounded queue to a thread, so that no write, however slow, delays an advert or a request. What does not fit is counted.
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};

/// Messages that may wait: more than a whole storm of transitions.
const DEPTH: usize = 1024;

#[derive(Clone, Debug)]
pub struct Console {
    queue: SyncSender<(u8, String)>,
    dropped: Arc<AtomicU64>,
}

impl Console {
    /// `stderr`: write there; `syslog`: send to /dev/log as `daemon`.
    pub fn start(stderr: bool, syslog: bool) -> Self {
        let (queue, rx) = sync_channel::<(u8, String)>(DEPTH);
        let pid = std::process::id();
        std::thread::spawn(move || {
            let socket = syslog.then(|| UnixDatagram::unbound().ok()).flatten();
            for (severity, text) in rx {
                if stderr {
                    let tag = match severity {
                        0..=3 => "[ALERT]   ",
                        4 => "[WARNING] ",
                        _ => "[NOTICE]  ",
                    };
                    let _ = writeln!(std::io::stderr(), "{tag} ({pid}) : {text}");
                }
                if let Some(s) = &socket {
                    let _ = s.send_to(format!("<{}>tandem[{pid}]: {text}", 3 * 8 + severity).as_bytes(), "/dev/log");
                }
            }
        });
        Self { queue, dropped: Arc::default() }
    }

    pub fn say(&self, severity: u8, text: String) {
        if self.queue.try_send((severity, text)).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
    pub fn alert(&self, text: impl Into<String>) {
        self.say(super::ALERT, text.into());
    }
    pub fn warning(&self, text: impl Into<String>) {
        self.say(super::WARNING, text.into());
    }
    pub fn notice(&self, text: impl Into<String>) {
        self.say(super::NOTICE, text.into());
    }
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}
