//! Connections of checks (configuration manual 5.2, `check`, `addr`, `port`, `check-ssl`, `check-send-proxy`, `check-via-socks4`).
use super::pulse::Origin;
use super::script::Connect;
use crate::base::addr::{Host, canonical};
use crate::base::diag::io_words;
use crate::config::model::PortRule;
use crate::net::sockopt::{self, Outgoing};
use crate::state::live::lock;
use crate::state::snapshot::{ProxyNode, ServerNode};
use crate::wire::socks4;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

pub trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// An open connection.
pub struct Link {
    pub io: Box<dyn Io>,
    pub tls: bool,
}

/// Why there is none: a status, and what to say beside it.
pub struct Trouble(pub &'static str, pub String);

/// How it is made.
#[derive(Default)]
pub struct Wish {
    pub port: Option<u16>,
    pub addr: Option<(IpAddr, Option<u16>)>,
    pub tls: bool,
    pub sni: Option<String>,
    pub alpn: Vec<String>,
    pub send_proxy: bool,
    pub socks4: bool,
    pub linger: bool,
    /// Where it comes from, if not from where the server's connections do.
    pub source: Option<Origin>,
}

impl Wish {
    /// What the server line wants of its checks.
    pub fn of_server(s: &ServerNode) -> Self {
        let c = &s.conf;
        let own = !c.dynamic && c.check_port.is_none() && c.check_addr.is_none();
        Self {
            tls: c.check_tls || c.traffic_tls && own,
            sni: c.check_sni.clone(),
            alpn: match &c.check_alpn[..] {
                [] => c.tls.as_ref().map(|t| t.alpn.clone()).unwrap_or_default(),
                said => said.to_vec(),
            },
            send_proxy: c.check_send_proxy || c.send_proxy.is_some() && own,
            socks4: c.check_socks4,
            ..Self::default()
        }
    }

    /// What a step wants, with what the server line wants where the step takes that.
    pub fn of_step(s: &ServerNode, c: &Connect, port: Option<u16>) -> Self {
        let base = if c.default || c.implicit { Self::of_server(s) } else { Self::default() };
        Self {
            port,
            addr: c.addr,
            tls: base.tls || c.tls,
            sni: c.sni.clone().or(base.sni),
            alpn: match &c.alpn[..] {
                [] if base.alpn.is_empty() => s.conf.tls.as_ref().map(|t| t.alpn.clone()).unwrap_or_default(),
                [] => base.alpn,
                said => said.to_vec(),
            },
            send_proxy: base.send_proxy || c.send_proxy,
            socks4: base.socks4 || c.socks4,
            linger: c.linger,
            source: None,
        }
    }
}

fn refused(e: &std::io::Error) -> Trouble {
    let words = io_words(e);
    let mut c = words.chars();
    let text = c.next().map_or_else(String::new, |f| f.to_uppercase().chain(c).collect());
    Trouble(
        "L4CON",
        if e.kind() == std::io::ErrorKind::ConnectionRefused {
            format!("ECONNREFUSED returned by OS ({text})")
        } else {
            text
        },
    )
}

/// Opens a connection to a server for a check, until `limit`.
pub async fn connect(be: &ProxyNode, s: &ServerNode, w: Wish, limit: Instant) -> Result<Link, Trouble> {
    if w.addr.is_none() {
        match &s.conf.host {
            Host::Unix(path) => {
                let c = tokio::net::UnixStream::connect(path).await.map_err(|e| refused(&e))?;
                return Ok(Link { io: Box::new(c), tls: false });
            }
            Host::Abstract(name) => {
                let c = crate::net::connect_abstract(name).map_err(|e| refused(&e))?;
                return Ok(Link { io: Box::new(c), tls: false });
            }
            Host::Ip(_) | Host::Name(_) => {}
        }
    }
    let set = *lock(&s.live.addr);
    let said = *lock(&s.live.check_addr);
    let ip = w.addr.map(|a| a.0).or(said).or(s.conf.check_addr).or(set.map(|a| a.0)).or(s.conf.ip);
    let ip = ip.ok_or_else(|| Trouble("SOCKERR", String::new()))?;
    let own = match (set, &s.conf.port) {
        (Some((_, Some(port))), _) => port,
        (_, PortRule::Fixed(port)) => *port,
        (_, _) => 0,
    };
    let said = u16::try_from(s.live.check_port.load(std::sync::atomic::Ordering::Relaxed)).ok().filter(|p| *p > 0);
    let port =
        w.port.or(w.addr.and_then(|a| a.1)).or(said).or(s.conf.check_port).or(s.conf.check_addr_port).unwrap_or(own);
    let addr = SocketAddr::new(ip, port);
    let through = s.conf.socks4.filter(|_| w.socks4);
    let late = |_| Trouble("L4TOUT", String::new());
    let from = s.conf.source.as_ref().or(be.conf.source.as_ref()).filter(|_| w.source.is_none());
    let origin = w.source.as_ref();
    let o = Outgoing {
        congestion: s.conf.congestion.as_deref(),
        md5: s.conf.md5.as_deref(),
        user_timeout: s.conf.user_timeout,
        // Nobody is behind a check: it comes from the plain address.
        source: origin.map(|o| o.addr).or(from.map(|f| f.addr)).filter(|a| !a.ip().is_unspecified() || a.port() > 0),
        ports: from.and_then(|f| f.ports),
        first_port: s.live.next_port(),
        interface: origin.map_or_else(|| from.and_then(|f| f.interface.as_deref()), |o| o.interface.as_deref()),
        ..Outgoing::default()
    };
    let opened = timeout_at(limit, sockopt::connect(through.unwrap_or(addr), &o)).await.map_err(late)?;
    let mut tcp = opened.map_err(|e| refused(&e.into()))?;
    if !w.linger {
        // Checks end with a reset: no TIME_WAIT, and the application sees at once that nobody waits.
        let _ = socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO));
    }
    if through.is_some() {
        timeout_at(limit, ask(&mut tcp, addr)).await.map_err(late)??;
    }
    if w.send_proxy {
        let line = match s.conf.send_proxy {
            // The kind that says that nobody is behind it.
            Some(crate::config::model::SendProxy::V2) => crate::wire::proxy::write(None, &[], false),
            _ => crate::proxy::proxy_header(
                crate::config::model::SendProxy::V1,
                tcp.local_addr().ok(),
                tcp.peer_addr().ok(),
            ),
        };
        tcp.write_all(&line).await.map_err(|_| Trouble("SOCKERR", String::new()))?;
    }
    if !w.tls {
        return Ok(Link { io: Box::new(tcp), tls: false });
    }
    let Some(config) = &s.tls else { return Err(Trouble("SOCKERR", String::new())) };
    let mut config = config.clone();
    let alpn: Vec<Vec<u8>> = w.alpn.iter().map(|a| a.clone().into_bytes()).collect();
    if config.alpn_protocols != alpn {
        Arc::make_mut(&mut config).alpn_protocols = alpn;
    }
    let fixed = s.conf.tls.as_ref().and_then(|t| t.verify_host.clone());
    let name = match w.sni.or(fixed).and_then(|n| rustls_pki_types::ServerName::try_from(n).ok()) {
        Some(n) => n,
        None => rustls_pki_types::ServerName::IpAddress(canonical(addr.ip()).into()),
    };
    match timeout_at(limit, tokio_rustls::TlsConnector::from(config).connect(name, tcp)).await {
        Err(_) => Err(Trouble("L6TOUT", String::new())),
        Ok(Ok(c)) => Ok(Link { io: Box::new(c), tls: true }),
        Ok(Err(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(Trouble("L6RSP", "Connection closed during SSL handshake".into()))
        }
        Ok(Err(e)) => Err(Trouble("L6RSP", format!("SSL handshake failure ({e})"))),
    }
}

/// Asks a SOCKS4 proxy for the way.
async fn ask(tcp: &mut TcpStream, to: SocketAddr) -> Result<(), Trouble> {
    let failed = |what: &str| Trouble("SOCKERR", what.to_owned());
    let SocketAddr::V4(to) = to else { return Err(failed("SOCKS4 Proxy deny the request")) };
    tcp.write_all(&socks4::request(to)).await.map_err(|_| failed("SOCKS4 Proxy write error during handshake"))?;
    let mut answer = [0; socks4::ANSWER];
    match tcp.read_exact(&mut answer).await {
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(failed("SOCKS4 Proxy handshake aborted by server"))
        }
        Err(_) => Err(failed("SOCKS4 Proxy read error during handshake")),
        Ok(_) if socks4::is_granted(&answer) => Ok(()),
        Ok(_) => Err(failed("SOCKS4 Proxy deny the request")),
    }
}
