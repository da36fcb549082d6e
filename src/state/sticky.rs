//! Persistence of virtual servers (keepalived.conf(5), `persistence_timeout`): which server a client had last, by the client's address.
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Clients that are remembered; the one whose time is over soonest makes room for a new one.
const MOST: usize = 1_000_000;

#[derive(Debug, Default)]
pub struct Sticky {
    clients: HashMap<IpAddr, (u32, Instant)>,
    /// What is over is looked for then.
    sweep_at: Option<Instant>,
}

impl Sticky {
    /// The number of the server that this client had last.
    pub fn find(&self, client: IpAddr, now: Instant) -> Option<u32> {
        self.clients.get(&client).filter(|c| c.1 > now).map(|c| c.0)
    }

    /// The client has this server from now on, for `timeout`.
    pub fn keep(&mut self, client: IpAddr, server: u32, now: Instant, timeout: Duration) {
        if self.sweep_at.is_none_or(|t| t <= now) || self.clients.len() >= MOST && !self.clients.contains_key(&client) {
            self.clients.retain(|_, c| c.1 > now);
            self.sweep_at = Some(now + timeout.max(Duration::from_secs(1)));
            if self.clients.len() >= MOST
                && let Some(first) = self.clients.iter().min_by_key(|c| c.1.1).map(|c| *c.0)
            {
                self.clients.remove(&first);
            }
        }
        self.clients.insert(client, (server, now + timeout));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_keeps_its_server_for_so_long() {
        let (mut s, t, m) = (Sticky::default(), Instant::now(), Duration::from_secs(60));
        let ip = |n: u8| IpAddr::from([10, 0, 0, n]);
        s.keep(ip(1), 7, t, m);
        assert_eq!((s.find(ip(1), t), s.find(ip(2), t)), (Some(7), None));
        assert_eq!(s.find(ip(1), t + m), None);
        // What is over goes when its time has come.
        s.keep(ip(2), 8, t + m, m);
        assert_eq!(s.clients.len(), 1);
        s.keep(ip(2), 9, t + m, m);
        assert_eq!(s.find(ip(2), t + m), Some(9));
    }
}
