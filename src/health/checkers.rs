//! Checkers of virtual servers: a task for each, on the worker's control thread. A server is up while all of its checkers are content.
use super::connect::{Link, Trouble, Wish, connect};
use super::dialect::Dialect;
use super::found::{Found, Outcome};
use super::prober;
use super::pulse::{self, Checker, HttpProbe, Origin, Probe, Pulse, UdpProbe};
use super::script::Answer;
use super::verdict::Office;
use crate::config::model::Fact;
use crate::state::live::{Live, lock};
use crate::state::snapshot::{ProxyNode, ServerNode, Snapshot};
use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// Answers are read up to here: more is no page to check with.
const MAX_PAGE: usize = 1 << 20;

/// What a server's checkers hold of it, side by side: whether it is up, and what it weighs more.
type Held = Rc<RefCell<Vec<Fact>>>;

/// Starts the checkers of one server.
pub fn start(p: &Arc<ProxyNode>, i: usize, snapshot: &Arc<Snapshot>, live: &Arc<Live>) -> Vec<JoinHandle<()>> {
    let s = &p.servers[i];
    // One that was checked before keeps what it was.
    let known = lock(&s.live.check).is_some();
    let up = |c: &Checker| if known { s.live.is_up() } else { !c.alpha };
    let held: Held = Rc::new(RefCell::new(s.conf.checkers.iter().map(|c| Fact { up: up(c), weight: 0 }).collect()));
    let many = u32::try_from(p.servers.len()).unwrap_or(u32::MAX).max(1);
    let share = f64::from(u32::try_from(i).unwrap_or(0)) / f64::from(many);
    let one = |k: usize| {
        let w = Watch { p: p.clone(), i, k, snapshot: snapshot.clone(), live: live.clone(), held: held.clone() };
        let first = if known { Duration::ZERO } else { s.conf.checkers[k].warmup.mul_f64(share) };
        tokio::task::spawn_local(async move {
            match &w.checker().probe {
                Probe::Outside(key) => w.told(key).await,
                _ => w.ask(first).await,
            }
        })
    };
    (0..s.conf.checkers.len()).map(one).collect()
}

struct Watch {
    p: Arc<ProxyNode>,
    i: usize,
    k: usize,
    snapshot: Arc<Snapshot>,
    live: Arc<Live>,
    held: Held,
}

impl Watch {
    fn server(&self) -> &ServerNode {
        &self.p.servers[self.i]
    }

    fn checker(&self) -> &Checker {
        &self.server().conf.checkers[self.k]
    }

    /// Nobody asks for it now.
    fn is_off(&self) -> bool {
        let l = &self.server().live;
        l.in_maintenance() || !l.check_enabled.load(Relaxed)
    }

    /// Asks again and again.
    async fn ask(&self, first: Duration) {
        let c = self.checker();
        let mut pulse = Pulse::new(self.held.borrow()[self.k].up);
        sleep(first).await;
        loop {
            let begin = Instant::now();
            if self.is_off() {
                sleep(c.every).await;
                continue;
            }
            let found = self.probe(pulse.turn).await;
            let passed = found.outcome() == Outcome::Passed;
            let (change, pause) = pulse.took(c, passed);
            if !self.is_off() {
                self.holds(Fact { up: change.unwrap_or(pulse.is_up()), weight: 0 }, passed, found, begin.elapsed());
            }
            sleep_until(begin + pause.max(Duration::from_millis(1)).max(begin.elapsed())).await;
        }
    }

    /// Waits for what the guardian says.
    async fn told(&self, key: &str) {
        let mut facts = self.live.facts.subscribe();
        loop {
            let fact = facts.borrow_and_update().get(key).copied();
            if let Some(f) = fact.filter(|_| !self.is_off()) {
                let status = if f.up { "PROCOK" } else { "PROCERR" };
                self.holds(f, f.up, Found::new(status, i32::from(!f.up), ""), Duration::ZERO);
            }
            if facts.changed().await.is_err() {
                return;
            }
        }
    }

    /// This checker holds something of the server now; what all of them hold together counts.
    fn holds(&self, f: Fact, passed: bool, found: Found, took: Duration) {
        self.held.borrow_mut()[self.k] = f;
        let (up, weight) = {
            let held = self.held.borrow();
            (held.iter().all(|h| h.up), held.iter().map(|h| h.weight).fold(0, i32::saturating_add))
        };
        let office = Office { snapshot: &self.snapshot, live: &self.live };
        office.held(&self.p, self.i, up, (self.checker().name, passed), found, took);
        let s = self.server();
        let varies = s.conf.checkers.iter().any(|c| matches!(c.probe, Probe::Outside(_)));
        if varies {
            let w = i64::from(s.conf.weight).saturating_add(weight.into()).clamp(0, 65_535);
            office.weigh(&self.p, self.i, u32::try_from(w).unwrap_or(0));
        }
    }

    /// Where this checker asks.
    fn to(&self) -> Option<SocketAddr> {
        let own = crate::proxy::server_address(self.server());
        let c = self.checker();
        let ip = c.to.0.or(own.map(|a| a.ip()))?;
        Some(SocketAddr::new(ip, c.to.1.or(own.map(|a| a.port()))?))
    }

    async fn probe(&self, turn: usize) -> Found {
        let c = self.checker();
        let limit = Instant::now() + c.timeout;
        let Some(to) = self.to() else { return Found::bare("SOCKERR") };
        match &c.probe {
            Probe::Tcp => match self.link(false, None, limit).await {
                Ok(_) => Found::bare("L4OK"),
                Err(f) => f,
            },
            Probe::Http(h) => self.http(h, turn, to, limit).await,
            Probe::Smtp { helo } => match self.link(false, None, limit).await {
                Ok(link) => prober::dialect(link, &Dialect::Smtp(format!("HELO {helo}")), limit).await,
                Err(f) => f,
            },
            Probe::Dns { kind, name } => self.dns(*kind, name, to, limit).await,
            Probe::Udp(u) => self.udp(u, to, limit).await,
            Probe::Ping => self.ping(to.ip(), limit).await,
            Probe::Outside(_) => Found::bare("CHECKED"),
        }
    }

    async fn link(&self, tls: bool, sni: Option<String>, limit: Instant) -> Result<Link, Found> {
        let c = self.checker();
        let wish = Wish {
            port: c.to.1,
            addr: c.to.0.map(|ip| (ip, None)),
            tls,
            sni,
            // Ended in order: keepalived's checks are, and what hears of a reset may complain.
            linger: true,
            source: c.from.clone(),
            ..Wish::default()
        };
        connect(&self.p, self.server(), wish, limit).await.map_err(|Trouble(status, why)| Found::new(status, 0, why))
    }

    async fn http(&self, h: &HttpProbe, turn: usize, to: SocketAddr, limit: Instant) -> Found {
        let u = &h.urls[turn.min(h.urls.len() - 1)];
        let mut link = match self.link(h.tls, h.sni.clone(), limit).await {
            Ok(l) => l,
            Err(f) => return f,
        };
        let (mut seen, mut answer) = (Vec::new(), Answer::default());
        let talk = async {
            link.io.write_all(&pulse::request(h, u, to)).await?;
            while !answer.is_whole() && !answer.is_broken() && seen.len() < MAX_PAGE {
                // One that ends without saying so has said all.
                if link.io.read_buf(&mut seen).await.or_else(ended)? == 0 {
                    break;
                }
                answer.take(&seen, b"GET");
            }
            std::io::Result::Ok(())
        };
        match timeout_at(limit, talk).await {
            Err(_) => Found::bare("L7TOUT"),
            Ok(Err(e)) => Found::new("SOCKERR", 0, crate::base::diag::io_words(&e)),
            Ok(Ok(())) => match answer.status() {
                Some(status) if seen.len() < MAX_PAGE => pulse::judge(u, status, answer.body()),
                Some(_) => Found::new("L7RSP", 0, format!("{} : more than {MAX_PAGE} bytes", u.path)),
                None => Found::new("L7RSP", 0, "no HTTP answer"),
            },
        }
    }

    async fn dns(&self, kind: u16, name: &str, to: SocketAddr, limit: Instant) -> Found {
        let Some((id, q)) = pulse::question(kind, name) else {
            return Found::new("L7RSP", 0, format!("'{name}' is no name"));
        };
        self.ask_once(to, &q, limit, "L7TOUT", |bytes| pulse::answered(bytes, id)).await
    }

    async fn udp(&self, u: &UdpProbe, to: SocketAddr, limit: Instant) -> Found {
        // Without a payload it is anything that no service takes for a question of its own.
        let payload = u.payload.clone().unwrap_or_else(|| vec![0; 8]);
        let silence = if u.reply.is_some() { "L7TOUT" } else { "L4OK" };
        self.ask_once(to, &payload, limit, silence, |bytes| Some(pulse::replied(u, bytes))).await
    }

    /// One datagram out, and what comes back; `silence`: what it means that nothing does.
    async fn ask_once(
        &self,
        to: SocketAddr,
        bytes: &[u8],
        limit: Instant,
        silence: &'static str,
        take: impl Fn(&[u8]) -> Option<Found>,
    ) -> Found {
        let trouble = |e: std::io::Error| Found::new("L4CON", 0, crate::base::diag::io_words(&e));
        let s = match datagrams(to, self.checker().from.as_ref()) {
            Ok(s) => s,
            Err(e) => return trouble(e),
        };
        if let Err(e) = s.send(bytes).await {
            return trouble(e);
        }
        let mut buf = vec![0; 65_536];
        loop {
            match timeout_at(limit, s.recv(&mut buf)).await {
                Err(_) => return Found::bare(silence),
                Ok(Err(e)) => return trouble(e),
                Ok(Ok(n)) => {
                    if let Some(f) = take(&buf[..n]) {
                        return f;
                    }
                }
            }
        }
    }

    async fn ping(&self, to: IpAddr, limit: Instant) -> Found {
        let trouble = |e: std::io::Error| {
            let hint = match e.kind() {
                std::io::ErrorKind::PermissionDenied => "; net.ipv4.ping_group_range leaves the proxy's group out",
                _ => "",
            };
            Found::new("SOCKERR", 0, format!("{}{hint}", crate::base::diag::io_words(&e)))
        };
        let opened = pings(to, self.checker().from.as_ref()).and_then(|s| {
            // SAFETY: the socket is owned by the AsyncFd from here on.
            unsafe { AsyncFd::register(s) }.map_err(std::io::Error::from)
        });
        let fd = match opened {
            Ok(fd) => fd,
            Err(e) => return trouble(e),
        };
        let number = u16::try_from(self.server().live.next_port() & 0xffff).unwrap_or(0);
        let six = to.is_ipv6();
        if let Err(e) = fd.get_ref().send(&pulse::echo(six, number)) {
            return Found::new("L4CON", 0, crate::base::diag::io_words(&e));
        }
        let answer = async {
            loop {
                let mut guard = fd.readable().await?;
                let mut buf = [std::mem::MaybeUninit::uninit(); 256];
                let n = match fd.get_ref().recv(&mut buf) {
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                        guard.clear_ready();
                        continue;
                    }
                    n => n?,
                };
                // SAFETY: the kernel has just filled the first `n` bytes.
                let bytes: Vec<u8> = buf[..n].iter().map(|b| unsafe { b.assume_init() }).collect();
                if pulse::is_echo(six, number, &bytes) {
                    return std::io::Result::Ok(());
                }
            }
        };
        match timeout_at(limit, answer).await {
            Err(_) => Found::bare("L4TOUT"),
            Ok(Ok(())) => Found::bare("L4OK"),
            Ok(Err(e)) => Found::new("L4CON", 0, crate::base::diag::io_words(&e)),
        }
    }
}

/// A peer that resets or truncates TLS behind its answer has ended as well.
fn ended(e: std::io::Error) -> std::io::Result<usize> {
    match e.kind() {
        std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset => Ok(0),
        _ => Err(e),
    }
}

fn prepare(s: &socket2::Socket, from: Option<&Origin>) -> std::io::Result<()> {
    s.set_nonblocking(true)?;
    if let Some(f) = from {
        if let Some(d) = &f.interface {
            s.bind_device(Some(d.as_bytes()))?;
        }
        s.bind(&f.addr.into())?;
    }
    Ok(())
}

fn datagrams(to: SocketAddr, from: Option<&Origin>) -> std::io::Result<tokio::net::UdpSocket> {
    let s = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::DGRAM, None)?;
    prepare(&s, from)?;
    s.connect(&to.into())?;
    tokio::net::UdpSocket::from_std(s.into())
}

fn pings(to: IpAddr, from: Option<&Origin>) -> std::io::Result<socket2::Socket> {
    let to = SocketAddr::new(to, 0);
    let protocol = if to.is_ipv6() { socket2::Protocol::ICMPV6 } else { socket2::Protocol::ICMPV4 };
    let s = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::DGRAM, Some(protocol))?;
    prepare(&s, from)?;
    s.connect(&to.into())?;
    Ok(s)
}
