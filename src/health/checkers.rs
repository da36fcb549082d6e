//! Checkers of virtual servers: a task for each, on the worker's control thread. A server is up while all of its checkers are content.
use super::connect::{Link, Trouble, Wish, connect};
use super::dialect::Dialect;
use super::found::{Found, Outcome};
use super::prober;
use super::pulse::{self, Checker, HttpProbe, Origin, Probe, Pulse, UdpProbe};
use super::script::Answer;
use super::verdict::Office;
use crate::config::model::Fact;
use crate::state::live::{KeptPulse, Live, lock};
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

/// What was told is looked at again so often: an operator may have changed the server meanwhile.
const AGAIN: Duration = Duration::from_secs(1);

/// Starts the checkers of one server. Those that were there before a reload go on where they are.
pub fn start(p: &Arc<ProxyNode>, i: usize, snapshot: &Arc<Snapshot>, live: &Arc<Live>) -> Vec<JoinHandle<()>> {
    let s = &p.servers[i];
    let all = &s.conf.checkers;
    let mut kept = lock(&s.live.pulses);
    let same = kept.len() == all.len()
        && kept.iter().zip(all.iter()).all(|(k, c)| k.as_ref().is_none_or(|k| k.name == c.name));
    if !same {
        *kept = vec![None; all.len()];
    }
    // One that was down with other checkers has to pass them all.
    let known = lock(&s.live.check).is_some() || s.live.is_recalled();
    let up = |k: usize| match &kept[k] {
        Some(k) => k.pulse.is_up(),
        None if known => s.live.is_up(),
        None => !all[k].alpha && s.live.is_up(),
    };
    let held: Held = Rc::new(RefCell::new((0..all.len()).map(|k| Fact { up: up(k), weight: 0 }).collect()));
    let firsts: Vec<Instant> = (0..all.len())
        .map(|k| kept[k].as_ref().map_or_else(|| Instant::now() + warmup(p, s, k, all[k].warmup, known), |k| k.due))
        .collect();
    drop(kept);
    let one = |(k, first): (usize, Instant)| {
        let w = Watch { p: p.clone(), i, k, snapshot: snapshot.clone(), live: live.clone(), held: held.clone() };
        tokio::task::spawn_local(async move {
            match &w.checker().probe {
                Probe::Outside(key) => w.told(key).await,
                _ => w.ask(first).await,
            }
        })
    };
    firsts.into_iter().enumerate().map(one).collect()
}

/// Checks do not all begin at once: each somewhere within its `warmup`, always at the same place.
fn warmup(p: &ProxyNode, s: &ServerNode, k: usize, most: Duration, known: bool) -> Duration {
    use std::hash::{Hash as _, Hasher as _};
    if known {
        return Duration::ZERO;
    }
    let mut h = std::hash::DefaultHasher::new();
    (&p.conf.name, &s.conf.name, k).hash(&mut h);
    let part = u32::try_from(h.finish() % 1000).unwrap_or(0);
    most.mul_f64(f64::from(part) / 1000.0)
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
    async fn ask(&self, first: Instant) {
        let c = self.checker();
        let before = lock(&self.server().live.pulses).get(self.k).cloned().flatten().map(|k| k.pulse);
        let mut pulse = before.unwrap_or_else(|| Pulse::new(self.held.borrow()[self.k].up));
        sleep_until(first).await;
        loop {
            if self.is_off() {
                sleep(c.every).await;
                continue;
            }
            let begin = Instant::now();
            let found = self.probe(pulse.turn).await;
            let (_, pause) = pulse.took(c, found.outcome() == Outcome::Passed);
            let due = Instant::now() + pause.max(Duration::from_millis(1));
            if let Some(k) = lock(&self.server().live.pulses).get_mut(self.k) {
                *k = Some(KeptPulse { name: c.name, pulse: pulse.clone(), due });
            }
            if !self.is_off() {
                self.holds(Fact { up: pulse.is_up(), weight: 0 }, found, begin.elapsed());
            }
            sleep_until(due).await;
        }
    }

    /// Waits for what the guardian says.
    async fn told(&self, key: &str) {
        let mut facts = self.live.facts.subscribe();
        let mut last = None;
        loop {
            let fact = facts.borrow_and_update().get(key).copied();
            if let Some(f) = fact.filter(|_| !self.is_off()) {
                let news = last.replace(f) != Some(f);
                let all_up = self.held.borrow().iter().enumerate().all(|(k, h)| if k == self.k { f.up } else { h.up });
                if news || self.server().live.is_up() != all_up {
                    let status = if f.up { "PROCOK" } else { "PROCERR" };
                    self.holds(f, Found::new(status, i32::from(!f.up), ""), Duration::ZERO);
                }
            }
            if tokio::time::timeout(AGAIN, facts.changed()).await.is_ok_and(|r| r.is_err()) {
                return;
            }
        }
    }

    /// This checker holds something of the server now; what all of them hold together counts.
    fn holds(&self, f: Fact, found: Found, took: Duration) {
        self.held.borrow_mut()[self.k] = f;
        let (up, extra) = {
            let held = self.held.borrow();
            (held.iter().all(|h| h.up), held.iter().map(|h| i64::from(h.weight)).sum())
        };
        let office = Office { snapshot: &self.snapshot, live: &self.live };
        office.held(&self.p, self.i, up, self.checker().name, found, took);
        add_weight(&office, &self.p, self.i, extra);
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

/// What checkers add to a server's weight. What an operator has set stays while they add the same.
pub fn add_weight(office: &Office<'_>, p: &Arc<ProxyNode>, i: usize, extra: i64) {
    let s = &p.servers[i];
    if s.live.extra_weight.swap(extra, Relaxed) != extra {
        let w = i64::from(s.conf.weight).saturating_add(extra).clamp(0, 65_535);
        office.weigh(p, i, u32::try_from(w).unwrap_or(0));
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
