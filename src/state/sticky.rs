//! Persistence of virtual servers (keepalived.conf(5), `persistence_timeout`): which server a client had last, by the client's address.
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Clients that are remembered; beyond it one makes room for another.
const MOST: usize = 1_000_000;

#[derive(Debug, Default)]
pub struct Sticky {
    clients: HashMap<IpAddr, Client>,
    /// What is over is looked for then.
    sweep_at: Option<Instant>,
}

#[derive(Debug)]
struct Client {
    /// By its address: places in a section change.
    server: SocketAddr,
    until: Instant,
    /// Connections that are open; while there are some, its time does not run.
    open: u32,
}

impl Client {
    fn holds(&self, now: Instant) -> bool {
        self.open > 0 || self.until > now
    }
}

impl Sticky {
    /// The server that this client had last.
    pub fn find(&self, client: IpAddr, now: Instant) -> Option<SocketAddr> {
        self.clients.get(&client).filter(|c| c.holds(now)).map(|c| c.server)
    }

    /// The client begins a connection to this server, and has it from now on.
    pub fn begin(&mut self, client: IpAddr, server: SocketAddr, now: Instant, timeout: Duration) {
        if self.sweep_at.is_none_or(|t| t <= now) {
            self.clients.retain(|_, c| c.holds(now));
            self.sweep_at = Some(now + timeout.max(Duration::from_secs(1)));
        }
        if self.clients.len() >= MOST && !self.clients.contains_key(&client) {
            let any = self.clients.keys().next().copied();
            any.map(|a| self.clients.remove(&a));
        }
        let c = self.clients.entry(client).or_insert(Client { server, until: now, open: 0 });
        if c.server != server {
            // Connections to the one before hold nothing any more.
            (c.server, c.open) = (server, 0);
        }
        (c.open, c.until) = (c.open.saturating_add(1), now + timeout);
    }

    /// A connection has ended: its client's time begins, if it still has that server.
    pub fn end(&mut self, client: IpAddr, server: SocketAddr, now: Instant, timeout: Duration) {
        if let Some(c) = self.clients.get_mut(&client).filter(|c| c.server == server) {
            (c.open, c.until) = (c.open.saturating_sub(1), now + timeout);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_keeps_its_server_for_so_long() {
        let (mut s, t, m) = (Sticky::default(), Instant::now(), Duration::from_secs(60));
        let ip = |n: u8| IpAddr::from([10, 0, 0, n]);
        let to = |n: u16| SocketAddr::from(([10, 1, 0, 1], n));
        s.begin(ip(1), to(7), t, m);
        assert_eq!((s.find(ip(1), t), s.find(ip(2), t)), (Some(to(7)), None));
        // While it is open, time does not run.
        assert_eq!(s.find(ip(1), t + 2 * m), Some(to(7)));
        s.end(ip(1), to(7), t + 2 * m, m);
        assert_eq!((s.find(ip(1), t + 2 * m), s.find(ip(1), t + 3 * m)), (Some(to(7)), None));
        // What is over goes when its time has come.
        s.begin(ip(2), to(8), t + 4 * m, m);
        assert_eq!(s.clients.len(), 1);
        // An old connection's end says nothing about the new server.
        s.begin(ip(2), to(9), t + 4 * m, m);
        s.end(ip(2), to(8), t + 4 * m, m);
        assert_eq!(s.find(ip(2), t + 9 * m), Some(to(9)));
    }
}
