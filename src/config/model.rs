//! What a configuration means: typed, names still names, nothing bound or opened.
pub use super::logging::*;
pub use super::route::{Hop, Order, Route, RoutingRule};
pub use super::virtual_server::*;
pub use super::vmac::*;
pub use super::vrrp::*;
use crate::balance::Algorithm;
use crate::balance::hash::HashType;
use crate::base::addr::{Host, IpNet, ListenAddr};
use crate::base::diag::Place;
use crate::health::fsm;
use crate::http::coding::Coding;
use crate::http::h1::case::Cases;
use crate::rules::acl::{AclSet, Cond};
use crate::rules::action::{HttpAction, Packets, Rule, TcpAction};
use crate::rules::logformat::LogFormat;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub global: Global,
    pub proxies: Vec<Box<Proxy>>,
    pub resolvers: Vec<Resolvers>,
    pub caches: Vec<Cache>,
    pub mailers: Vec<Arc<Mailers>>,
    pub healthchecks: Vec<Arc<HealthCheck>>,
    pub rings: Vec<Arc<Ring>>,
    pub log_profiles: Vec<Arc<LogProfile>>,
    pub vrrp: VrrpModel,
    /// Names of `defaults` sections.
    pub defaults: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Global {
    /// `stats-file`: what counters begin with.
    pub stats_file: Option<Arc<[u8]>>,
    /// `server-state-base`: where relative names of state files begin.
    pub state_base: Option<String>,
    /// `server-state-file`
    pub state_file: Option<String>,
    pub daemon: bool,
    pub user: Option<String>,
    pub group: Option<String>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub chroot: Option<String>,
    pub pidfile: Option<String>,
    pub nbthread: Option<u32>,
    pub maxconn: Option<u32>,
    pub rates: Rates,
    pub logs: Vec<LogTarget>,
    pub log_tag: String,
    /// `log-send-hostname`: the name to send, or none.
    pub log_hostname: Option<String>,
    pub stats_sockets: Vec<StatsSocket>,
    pub stats_timeout: Duration,
    pub hard_stop_after: Option<Duration>,
    /// `grace`: how long a soft stop is only told, before it begins.
    pub grace: Duration,
    pub crt_base: Option<String>,
    pub ca_base: Option<String>,
    /// There is a section `crt-store`: names of certificates may mean what it says.
    pub crt_store: bool,
    pub bind_tls: TlsLimits,
    pub server_tls: TlsLimits,
    pub server_verify_none: bool,
    pub node: Option<String>,
    pub description: Option<String>,
    pub bufsize: usize,
    pub maxrewrite: usize,
    pub pipes: Pipes,
    /// `tune.idle-pool.shared off`: threads keep idle connections for themselves.
    pub own_pools: bool,
    /// `cpu-map`: of each thread, from the first on, the CPUs that it may run on; none are all.
    pub cpu_map: Vec<Vec<u16>>,
    /// `maxcomprate`, in bytes of content a second; 0 is no limit.
    pub comp_rate: u64,
    /// `h1-accept-payload-with-any-method`
    pub any_payload: bool,
    pub kept: Kept,
    /// `h1-case-adjust`, `h1-case-adjust-file`
    pub cases: Cases,
    pub spread_checks: u32,
    /// `external-check`: programs may check; with the environment of this process or without it.
    pub external_check: Option<KeepEnv>,
    pub insecure_fork: bool,
    pub localpeer: String,
    pub fault_strict: bool,
    /// `zero-warning`: a configuration with warnings is refused.
    pub zero_warning: bool,
    pub setenv: BTreeMap<String, String>,
}

/// How much is taken and kept of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Header lines of a message (`tune.http.maxhdr`, without the start line).
    pub headers: u16,
    /// Bytes of a request's line in logs (`tune.http.logurilen`).
    pub log_line: usize,
    /// Bytes of a captured cookie (`tune.http.cookielen`).
    pub cookie: usize,
}

impl Default for Kept {
    fn default() -> Self {
        Self { headers: 100, log_line: 1023, cookie: 63 }
    }
}

/// `maxconnrate`, `maxsessrate`, `maxsslrate`: so many a second; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    pub connections: u32,
    pub sessions: u32,
    pub tls: u32,
}

/// What may be spliced, and with how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Pipes {
    /// `nosplice`
    pub none: bool,
    /// `maxpipes`, of all threads; a quarter of `maxconn` when not said.
    pub most: Option<u32>,
    /// `tune.pipesize`, in bytes; the system's own when not said.
    pub size: Option<u32>,
}

/// `tune.bufsize` when not set.
pub const DEFAULT_BUFSIZE: usize = 16384;
/// `global maxconn` when neither the file nor `-n` says one and descriptors allow it.
pub const DEFAULT_MAXCONN: u32 = 10_000;

impl Default for Global {
    fn default() -> Self {
        Self {
            stats_file: None,
            state_base: None,
            state_file: None,
            daemon: false,
            user: None,
            group: None,
            uid: None,
            gid: None,
            chroot: None,
            pidfile: None,
            nbthread: None,
            maxconn: None,
            rates: Rates::default(),
            logs: Vec::new(),
            log_tag: "haproxy".to_owned(),
            log_hostname: None,
            stats_sockets: Vec::new(),
            stats_timeout: Duration::from_secs(10),
            hard_stop_after: None,
            grace: Duration::ZERO,
            crt_base: None,
            crt_store: false,
            ca_base: None,
            bind_tls: TlsLimits::default(),
            server_tls: TlsLimits::default(),
            server_verify_none: false,
            node: None,
            description: None,
            bufsize: DEFAULT_BUFSIZE,
            maxrewrite: 1024,
            pipes: Pipes::default(),
            own_pools: false,
            cpu_map: Vec::new(),
            comp_rate: 0,
            any_payload: false,
            kept: Kept::default(),
            cases: Cases::default(),
            spread_checks: 0,
            external_check: None,
            insecure_fork: false,
            localpeer: String::new(),
            fault_strict: false,
            zero_warning: false,
            setenv: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatsSocket {
    pub addr: ListenAddr,
    pub level: CliLevel,
    pub mode: Option<u32>,
    pub user: Option<String>,
    pub group: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CliLevel {
    User,
    Operator,
    Admin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TlsVersion {
    V12,
    #[default]
    V13,
}

/// Bounds on TLS parameters, as far as rustls has them. `None`: what the library allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsLimits {
    pub min: Option<TlsVersion>,
    pub max: Option<TlsVersion>,
    /// OpenSSL names of TLS 1.2 suites that rustls has.
    pub ciphers: Option<Vec<String>>,
    pub ciphersuites: Option<Vec<String>>,
    pub no_tickets: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Tcp,
    Http,
    /// A backend whose servers receive logs.
    Log,
    /// A `log-forward` section.
    Syslog,
    /// A virtual server of datagrams.
    Udp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Defaults,
    Frontend,
    Backend,
    Listen,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Defaults => "defaults",
            Self::Frontend => "frontend",
            Self::Backend => "backend",
            Self::Listen => "listen",
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Timeouts {
    pub client: Option<Duration>,
    pub server: Option<Duration>,
    pub connect: Option<Duration>,
    pub queue: Option<Duration>,
    pub check: Option<Duration>,
    pub http_request: Option<Duration>,
    pub http_keep_alive: Option<Duration>,
    pub tunnel: Option<Duration>,
    pub tarpit: Option<Duration>,
    pub client_fin: Option<Duration>,
    /// Headers of the PROXY protocol and TLS handshakes.
    pub client_hs: Option<Duration>,
    pub server_fin: Option<Duration>,
}

/// How connections are kept (manual 4, "HTTP connection modes").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ConnMode {
    #[default]
    KeepAlive,
    ServerClose,
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Reuse {
    /// The file says nothing: as `safe`, and first requests that can be sent again harmlessly go over any connection.
    #[default]
    Unsaid,
    Never,
    Safe,
    Aggressive,
    Always,
}

#[derive(Clone, Debug, Default)]
pub struct Options {
    pub dontlognull: bool,
    pub dontlog_normal: bool,
    pub log_health_checks: bool,
    pub log_separate_errors: bool,
    pub logasap: bool,
    pub socket_stats: bool,
    pub abortonclose: bool,
    /// `http-restrict-req-hdr-names`
    pub restrict_names: Restrict,
    /// `accept-unsafe-violations-in-http-request`
    pub violations_request: bool,
    /// `accept-unsafe-violations-in-http-response`
    pub violations_response: bool,
    pub conn_mode: ConnMode,
    /// `option redispatch [interval]`; `None` is off.
    pub redispatch: Option<i32>,
    pub forwardfor: Option<ForwardFor>,
    /// `option originalto`: the address that the client asked for.
    pub originalto: Option<ForwardFor>,
    /// `option forwarded`
    pub forwarded: Option<Box<Forwarded>>,
    /// `option http-pretend-keepalive`
    pub pretend_keepalive: bool,
    /// `option independent-streams`
    pub independent: bool,
    /// `option idle-close-on-response`
    pub idle_close_on_response: bool,
    /// `option http-drop-request-trailers`, `option http-drop-response-trailers`
    pub drop_request_trailers: bool,
    pub drop_response_trailers: bool,
    /// `option http-buffer-request`
    pub buffer_request: bool,
    pub allbackups: bool,
    pub persist: bool,
    pub prefer_last_server: bool,
    pub tcpka_client: bool,
    pub tcpka_server: bool,
    pub nolinger: bool,
    /// `h1-case-adjust-bogus-client` and `-server`
    pub adjust_client: bool,
    pub adjust_server: bool,
    pub ignore_probes: bool,
}

/// A part of `Forwarded`: what the connection says, or an expression.
#[derive(Clone, Debug)]
pub enum Told {
    Usual,
    Expr(Arc<crate::rules::sample::Expr>),
}

/// `option forwarded` (RFC 7239): what is said.
#[derive(Clone, Debug, Default)]
pub struct Forwarded {
    pub proto: bool,
    pub host: Option<Told>,
    pub by: Option<Told>,
    pub by_port: Option<Told>,
    /// `for`
    pub client: Option<Told>,
    pub client_port: Option<Told>,
}

#[derive(Clone, Debug)]
pub struct ForwardFor {
    pub header: String,
    pub except: Option<IpNet>,
    pub if_none: bool,
}

#[derive(Clone, Debug)]
pub struct Bind {
    pub place: Place,
    pub addr: ListenAddr,
    /// Given by `name`; else `sock-N` by its number.
    pub id: Option<u32>,
    pub name: Option<String>,
    pub maxconn: u32,
    pub backlog: Option<u32>,
    /// `dgram-bind`: not a listener.
    pub datagram: bool,
    pub accept_proxy: bool,
    /// `accept-netscaler-cip`: the number that its header begins with.
    pub accept_cip: Option<u32>,
    pub tls: Option<BindTls>,
    pub mode: Option<u32>,
    pub user: Option<String>,
    pub group: Option<String>,
    pub options: SocketOptions,
    /// `guid-prefix`, with the listener's number.
    pub guid: Option<Arc<str>>,
    /// `proto none`: what comes is never made HTTP.
    pub never_http: bool,
}

#[derive(Clone, Debug, Default)]
pub struct BindTls {
    pub crt: Vec<String>,
    pub alpn: Vec<String>,
    pub limits: TlsLimits,
    pub strict_sni: bool,
}

/// Options of a listening TCP socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SocketOptions {
    /// `transparent`: the address need not be this host's.
    pub transparent: bool,
    /// `mss`: the largest segment; a negative one is taken off what the peer can take.
    pub mss: Option<i32>,
    /// `tcp-ut`, in milliseconds.
    pub user_timeout_ms: Option<u32>,
    /// `tfo`
    pub fast_open: bool,
    /// `defer-accept`
    pub defer_accept: bool,
    /// `cc`
    pub congestion: Option<String>,
    /// `tcp-md5sig`
    pub md5: Option<String>,
    /// `option nolinger`
    pub no_linger: bool,
}

/// `clitcpka-*` and `srvtcpka-*`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepalive {
    pub count: Option<u32>,
    pub idle: Option<Duration>,
    pub interval: Option<Duration>,
}

/// `source`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Unspecified: wherever the route says.
    pub addr: std::net::SocketAddr,
    pub ports: Option<(u16, u16)>,
    pub usesrc: Option<UseSource>,
    pub interface: Option<String>,
}

/// Whom a rule chooses: one name, or what a format makes of each exchange.
#[derive(Clone, Debug)]
pub enum Chosen {
    Name(String),
    Computed(Arc<LogFormat>),
}

/// `usesrc`: the address that a server sees, which need not be this host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UseSource {
    Addr(std::net::SocketAddr),
    /// The client's address and port.
    Client,
    ClientIp,
    /// What a header says; the occurrence counts from 1, or back from -1.
    Header(String, i32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortRule {
    Fixed(u16),
    /// No port in the file: the client's destination port.
    Same,
    /// `+N` or `-N` relative to the client's destination port.
    Offset(i32),
}

#[derive(Clone, Debug)]
pub struct ServerTls {
    pub verify: bool,
    pub ca_file: Option<String>,
    pub sni: Option<SniRule>,
    pub verify_host: Option<String>,
    pub alpn: Vec<String>,
    pub limits: TlsLimits,
}

impl ServerTls {
    /// Whatever certificate there is: it is only asked whether the server answers.
    pub fn unverified() -> Self {
        Self {
            verify: false,
            ca_file: None,
            sni: None,
            verify_host: None,
            alpn: Vec::new(),
            limits: TlsLimits::default(),
        }
    }
}

#[derive(Clone, Debug)]
pub enum SniRule {
    Fixed(String),
    Expr(Arc<crate::rules::sample::Expr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendProxy {
    V1,
    V2,
}

/// `proxy-v2-options`: what a header of version 2 says besides addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyOptions {
    pub ssl: bool,
    pub ssl_cipher: bool,
    pub authority: bool,
    pub crc32c: bool,
    pub unique_id: bool,
}

/// What becomes of request headers with other characters in their names than letters, digits and `-`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restrict {
    #[default]
    Preserve,
    Delete,
    Reject,
}

/// What of the traffic `observe` looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observe {
    /// Connections.
    Layer4,
    /// Connections and answers.
    Layer7,
}

/// `on-error`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    Fastinter,
    FailCheck,
    SuddenDeath,
    MarkDown,
}

/// `retry-on`: what makes a request go to a server once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryOn {
    pub conn_failure: bool,
    pub empty_response: bool,
    pub junk_response: bool,
    pub response_timeout: bool,
    pub statuses: Vec<u16>,
}

impl Default for RetryOn {
    fn default() -> Self {
        Self {
            conn_failure: true,
            empty_response: false,
            junk_response: false,
            response_timeout: false,
            statuses: Vec::new(),
        }
    }
}

/// A `resolvers` section: who is asked for names at run time, how, and how long what was said holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolvers {
    pub name: String,
    /// Name, address, and whether it is asked over TCP only.
    pub servers: Vec<(String, std::net::SocketAddr, bool)>,
    pub hold_nx: Duration,
    pub hold_other: Duration,
    pub hold_refused: Duration,
    pub hold_timeout: Duration,
    pub hold_valid: Duration,
    pub hold_obsolete: Duration,
    pub retries: u32,
    pub timeout_resolve: Duration,
    pub timeout_retry: Duration,
    /// `accepted_payload_size`, in bytes.
    pub payload: u16,
}

impl Resolvers {
    pub fn new(name: &str) -> Self {
        let (second, half_minute) = (Duration::from_secs(1), Duration::from_secs(30));
        Self {
            name: name.to_owned(),
            servers: Vec::new(),
            hold_nx: half_minute,
            hold_other: half_minute,
            hold_refused: half_minute,
            hold_timeout: half_minute,
            hold_valid: Duration::from_secs(10),
            hold_obsolete: Duration::ZERO,
            retries: 3,
            timeout_resolve: second,
            timeout_retry: second,
            payload: 512,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Server {
    pub place: Place,
    pub name: String,
    pub id: Option<u32>,
    /// `id`, or the next number that nobody said.
    pub number: u32,
    /// Made at run time (`add server`).
    pub dynamic: bool,
    /// Rules ask about it by name.
    pub asked: bool,
    /// `guid`: what its counters are saved under.
    pub guid: Option<Arc<str>>,
    pub host: Host,
    /// Filled in from the bundle for a name; the first is used.
    pub ip: Option<IpAddr>,
    /// `observe`: what traffic says about the server counts for its health.
    pub observe: Option<Observe>,
    /// `error-limit`: so many errors in a row make a difference.
    pub error_limit: u32,
    /// `on-error`: the difference they make.
    pub on_error: OnError,
    /// `track`: backend and server whose state this one has.
    pub track: Option<(String, String)>,
    /// `init-addr` has a method that does without the resolver.
    pub may_lack_address: bool,
    /// `init-addr`: the address to begin with where no name server knows one.
    pub init_ip: Option<IpAddr>,
    /// `init-addr last`
    pub remembered: Remembered,
    /// What a state file says of it; taken over when the process starts.
    pub saved: Option<Arc<Saved>>,
    /// `init-addr` has `libc`, or nothing is said: the resolver of the system is asked at the start.
    pub ask_at_start: bool,
    /// `resolvers`: the section whose name servers are asked at run time.
    pub resolvers: Option<String>,
    /// `resolve-prefer ipv4`
    pub prefer_ipv4: bool,
    /// `resolve-net`
    pub resolve_nets: Vec<IpNet>,
    /// `resolve-opts allow-dup-ip`
    pub dup_ip: bool,
    /// `resolve-opts ignore-weight`
    pub ignore_weight: bool,
    pub port: PortRule,
    pub weight: u32,
    pub backup: bool,
    pub disabled: bool,
    pub maxconn: u32,
    pub maxqueue: u32,
    pub cookie: Option<String>,
    pub check: bool,
    pub agent: Agent,
    /// `init-state`
    pub init_state: Option<fsm::InitState>,
    pub inter: Duration,
    pub fastinter: Option<Duration>,
    pub downinter: Option<Duration>,
    pub health: fsm::Params,
    /// `healthcheck`: the section that says how it is checked, by its name, and what that says.
    pub healthcheck: Option<String>,
    pub own_check: Option<Arc<HealthCheck>>,
    pub check_port: Option<u16>,
    pub check_addr: Option<IpAddr>,
    /// The port that `addr` has behind it.
    pub check_addr_port: Option<u16>,
    pub check_tls: bool,
    pub check_sni: Option<String>,
    /// A check of HTTP names the host that its request is for.
    pub check_sni_auto: bool,
    pub check_alpn: Vec<String>,
    /// `socks4`: what stands between.
    pub socks4: Option<std::net::SocketAddr>,
    pub check_socks4: bool,
    /// `source`, in place of the backend's.
    pub source: Option<Arc<Source>>,
    /// `tcp-ut`
    pub user_timeout: Option<Duration>,
    /// `cc`
    pub congestion: Option<String>,
    /// `tcp-md5sig`
    pub md5: Option<String>,
    /// Parameters for traffic, checks or both.
    pub tls: Option<ServerTls>,
    /// `ssl`: traffic is encrypted (`check-ssl` alone is for checks only).
    pub traffic_tls: bool,
    pub send_proxy: Option<SendProxy>,
    pub proxy_options: ProxyOptions,
    /// `set-proxy-v2-tlv-fmt`: types and what they say.
    pub proxy_tlvs: Vec<(u8, Arc<LogFormat>)>,
    pub check_send_proxy: bool,
    pub shutdown_on_down: bool,
    /// `on-marked-up shutdown-backup-sessions`
    pub shutdown_backups_on_up: bool,
    /// The limit of connections while the backend has few of them; 0 for none.
    pub minconn: u32,
    /// How long a server that came up takes to its full weight and limit.
    pub slowstart: Duration,
    /// `pool-conn-name`: connections are shared by those whose requests give the same name.
    pub pool_name: Option<Arc<crate::rules::sample::Expr>>,
    /// `log-proto`
    pub log_proto: LogProto,
    /// `udp@`: logs go to it in datagrams.
    pub datagram: bool,
    /// `pool-max-conn`: idle connections kept, by all threads together; none is no limit.
    pub pool_max: Option<u32>,
    /// `redir`: where GET and HEAD are sent to.
    pub redirect: Option<String>,
    /// `max-reuse`: a connection is used again so many times at most.
    pub max_reuse: Option<u32>,
    /// `pool-low-conn`: so many idle connections are kept beyond what is needed.
    pub pool_low: u64,
    /// `pool-purge-delay`: an idle connection lives at most this long.
    pub pool_purge: Duration,
    /// Of a `real_server`: in place of the section's check.
    pub checkers: Arc<[Checker]>,
}

/// `init-addr`: what the address in a state file is for, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// In place of what the resolver says.
    First,
    /// Where the resolver has nothing to say.
    Behind,
    No,
}

/// `load-server-state-from-file`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadState {
    #[default]
    None,
    /// The file of the process.
    Global,
    /// A file of its own.
    Local,
}

/// Admin state bits as `show servers state` prints them.
pub const FORCED_MAINT: u32 = 0x01;
/// A server that it tracks is in maintenance.
pub const INHERITED_MAINT: u32 = 0x02;
/// `disabled` in the file; it only remembers why a server began in maintenance.
pub const CONFIG_MAINT: u32 = 0x04;
/// It has no address: its name is not known.
pub const RESOLUTION_MAINT: u32 = 0x20;
pub const FORCED_DRAIN: u32 = 0x08;
/// A server that it tracks is draining.
pub const INHERITED_DRAIN: u32 = 0x10;
/// It is in maintenance.
pub const ANY_MAINT: u32 = FORCED_MAINT | INHERITED_MAINT | RESOLUTION_MAINT;
/// Its name was set at run time.
pub const NAME_SET: u32 = 0x40;

/// A server's line of a state file, as far as it fits the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// None if it was in maintenance: then nobody knew.
    pub state: Option<SavedState>,
    /// In place of what the configuration says, unless that was changed.
    pub forced: Option<Forced>,
    /// The same.
    pub weight: Option<u32>,
    /// Since its state changed last.
    pub since: Duration,
    /// What its last check found, by number.
    pub status: u8,
    /// None if it had none.
    pub check_enabled: Option<bool>,
    pub agent_enabled: Option<bool>,
    /// Where an operator had put it and its checks: none where that is what the configuration says.
    pub port: Option<u16>,
    pub check_addr: Option<IpAddr>,
    pub check_port: Option<u16>,
    pub agent_addr: Option<IpAddr>,
    pub agent_port: Option<u16>,
}

/// `srv_op_state`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SavedState {
    Stopped,
    /// Up, and warming up (`slowstart`).
    Starting,
    Running,
    Stopping,
}

/// What an operator said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forced {
    pub maintenance: bool,
    pub drain: bool,
}

impl Server {
    /// It has a name that nobody knew when the file was loaded.
    pub fn is_nowhere(&self) -> bool {
        self.ip.is_none() && matches!(self.host, Host::Name(_))
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            place: Place::default(),
            name: String::new(),
            id: None,
            number: 0,
            dynamic: false,
            asked: false,
            guid: None,
            host: Host::ANY4,
            ip: None,
            observe: None,
            error_limit: 10,
            on_error: OnError::FailCheck,
            track: None,
            may_lack_address: false,
            init_ip: None,
            remembered: Remembered::First,
            saved: None,
            ask_at_start: true,
            resolvers: None,
            prefer_ipv4: false,
            resolve_nets: Vec::new(),
            dup_ip: false,
            ignore_weight: false,
            port: PortRule::Same,
            weight: 1,
            backup: false,
            disabled: false,
            maxconn: 0,
            maxqueue: 0,
            cookie: None,
            check: false,
            agent: Agent::default(),
            init_state: None,
            inter: Duration::from_secs(2),
            fastinter: None,
            downinter: None,
            health: fsm::Params { rise: 2, fall: 3 },
            healthcheck: None,
            own_check: None,
            check_port: None,
            check_addr: None,
            check_addr_port: None,
            check_tls: false,
            check_sni: None,
            check_sni_auto: true,
            check_alpn: Vec::new(),
            socks4: None,
            check_socks4: false,
            source: None,
            user_timeout: None,
            congestion: None,
            md5: None,
            tls: None,
            traffic_tls: false,
            send_proxy: None,
            proxy_options: ProxyOptions::default(),
            proxy_tlvs: Vec::new(),
            check_send_proxy: false,
            shutdown_on_down: false,
            shutdown_backups_on_up: false,
            minconn: 0,
            slowstart: Duration::ZERO,
            pool_name: None,
            log_proto: LogProto::Legacy,
            datagram: false,
            pool_max: None,
            max_reuse: None,
            redirect: None,
            pool_low: 0,
            pool_purge: Duration::from_secs(5),
            checkers: Arc::default(),
        }
    }
}

/// Who makes the cookie (manual, `cookie`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieMode {
    /// The server; its cookie is only looked at.
    Passive,
    Insert,
    /// The server; its value becomes ours.
    Rewrite,
    /// The server; ours and `~` stand before its value, and are taken off again.
    Prefix,
}

/// `cookie NAME insert|rewrite|prefix ...`
#[derive(Clone, Debug)]
pub struct CookiePersist {
    pub name: String,
    pub mode: CookieMode,
    pub indirect: bool,
    pub nocache: bool,
    pub postonly: bool,
    pub preserve: bool,
    pub httponly: bool,
    pub secure: bool,
    pub domains: Vec<String>,
    pub attrs: Vec<String>,
    /// `maxidle`, `maxlife`: in seconds.
    pub max_idle: Option<u64>,
    pub max_life: Option<u64>,
    /// Servers without a value get one made of their address.
    pub dynamic: bool,
}

/// `hash-preserve-affinity`: which servers a hash passes over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Affinity {
    #[default]
    Always,
    /// Those that have all the connections they may have.
    Maxconn,
    /// Those whose queue is full.
    Maxqueue,
}

/// What a hash-based algorithm hashes (manual, `balance`).
#[derive(Clone, Debug, Default)]
pub enum HashKey {
    #[default]
    Source,
    Uri {
        /// Characters that count; 0 for all.
        len: usize,
        /// Directories that count; 0 for all.
        depth: usize,
        whole: bool,
        path_only: bool,
    },
    /// Also looked for in the body of a POST (`check_post`).
    Param {
        name: String,
        post: bool,
    },
    Header {
        /// In lower case.
        name: String,
        domain_only: bool,
    },
    RdpCookie(String),
    /// The client's address and port (`sh-port` of a virtual server).
    SourcePort,
    /// The address that the client asked (`dh` of a virtual server).
    Destination,
    Sample(Arc<crate::rules::sample::Expr>),
}

/// `external-check preserve-env`: true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepEnv(pub bool);

/// What a check does on the wire.
#[derive(Clone, Debug, Default)]
pub enum CheckKind {
    /// A connection is all that is wanted.
    #[default]
    Tcp,
    /// `option tcp-check`
    TcpRules,
    /// `option httpchk`
    HttpRules,
    SslHello,
    /// A server's own protocol.
    Dialect(crate::health::dialect::Dialect),
    /// `option external-check`
    External,
}

/// The lines `tcp-check` or `http-check` of a section, or of its `defaults`.
#[derive(Clone, Debug, Default)]
pub struct CheckLines {
    pub steps: Vec<crate::health::script::Step>,
    /// Counts every line, comments as well.
    pub count: usize,
    /// What a `comment` line says, of which kind of steps if it has met one.
    pub comment: Option<(String, Option<CheckWord>)>,
    /// They are those of `defaults`: the section's own ones will take their place.
    pub inherited: bool,
    /// Where the first own one is.
    pub place: Option<Place>,
}

/// Kinds of steps that follow on one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckWord {
    Connect,
    Send,
    Expect,
}

/// What sections say of checks while they are read; `Proxy::script` is made of it at their end.
#[derive(Clone, Debug, Default)]
pub struct CheckRules {
    pub tcp: CheckLines,
    pub http: CheckLines,
    /// The request of `option httpchk`, with what the first `http-check send` says.
    pub request: Option<crate::health::script::HttpSend>,
    /// The section says something of its own.
    pub own: bool,
    /// `http-check send-state`
    pub send_state: bool,
    /// `http-check disable-on-404`
    pub disable_on_404: bool,
}

/// `agent-check` and its like.
#[derive(Clone, Debug, Default)]
pub struct Agent {
    pub wanted: bool,
    pub addr: Option<IpAddr>,
    pub port: Option<u16>,
    /// None: as often as health checks.
    pub inter: Option<Duration>,
    /// Sent as soon as the connection is there.
    pub send: Vec<u8>,
}

/// A `healthcheck` section.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    pub name: String,
    pub kind: CheckKind,
    /// What is done if `kind` is a matter of rules.
    pub script: Arc<crate::health::script::Script>,
}

/// A `mailers` section.
#[derive(Clone, Debug)]
pub struct Mailers {
    pub name: String,
    pub servers: Vec<std::net::SocketAddr>,
    /// For one mail as a whole.
    pub timeout: Duration,
}

/// `email-alert`
#[derive(Clone, Debug)]
pub struct EmailAlert {
    pub from: Option<String>,
    pub to: Option<String>,
    pub mailers: Option<String>,
    pub hostname: Option<String>,
    /// The least severe messages that are sent, as syslog numbers them.
    pub level: u8,
    pub place: Place,
}

impl Default for EmailAlert {
    fn default() -> Self {
        Self { from: None, to: None, mailers: None, hostname: None, level: 1, place: Place::default() }
    }
}

#[derive(Clone, Debug, Default)]
pub struct StatsUri {
    pub uri: Option<String>,
    pub realm: Option<String>,
    /// user, password
    pub auth: Vec<(String, String)>,
    pub refresh: Option<Duration>,
    pub hide_version: bool,
    pub show_legends: bool,
    pub show_node: Option<String>,
    pub show_desc: Option<String>,
    pub admin: Vec<Option<Cond>>,
    pub scope: Vec<String>,
    pub enabled: bool,
}

impl StatsUri {
    pub const DEFAULT_URI: &'static str = "/haproxy?stats";
    pub fn uri(&self) -> &str {
        self.uri.as_deref().unwrap_or(Self::DEFAULT_URI)
    }
}

/// `compression` lines of a section.
#[derive(Clone, Debug)]
pub struct Compression {
    /// `algo` and `algo-res`, in the order in which they are tried.
    pub algos: Vec<Coding>,
    pub algo_request: Option<Coding>,
    /// Beginnings of content types; empty for all.
    pub types: Vec<String>,
    pub types_request: Vec<String>,
    /// Least lengths, in bytes.
    pub min: u64,
    pub min_request: u64,
    /// Servers are not told that the client can decode.
    pub offload: bool,
    /// `direction`
    pub requests: bool,
    pub responses: bool,
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            algos: Vec::new(),
            algo_request: None,
            types: Vec::new(),
            types_request: Vec::new(),
            min: 0,
            min_request: 0,
            offload: false,
            requests: false,
            responses: true,
        }
    }
}

/// A `cache` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    pub name: String,
    /// Bytes of all entries, and of one.
    pub total: u64,
    pub max_object: u64,
    /// Seconds that an answer is kept at most.
    pub max_age: u64,
    /// `process-vary`
    pub vary: bool,
    /// `max-secondary-entries`
    pub max_variants: u32,
    /// `early-hints`
    pub hints: Hints,
    /// How much of an answer's size its hints may take, in percent, to outlive it.
    pub hints_ratio: u32,
}

/// What a cache does about `Link` headers that tell a client what it will need (RFC 8297).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hints {
    #[default]
    Off,
    /// They outlive the answer that they came with.
    On,
    /// Nothing else is kept.
    Only,
}

impl Cache {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            total: 0,
            max_object: 0,
            max_age: 60,
            vary: false,
            max_variants: 10,
            hints: Hints::Off,
            hints_ratio: 25,
        }
    }
}

/// `filter` lines, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    CompressRequests,
    CompressResponses,
    Cache(String),
    Bandwidth(Arc<Bandwidth>),
}

/// `filter bwlim-in` and `filter bwlim-out`, each stream for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bandwidth {
    pub name: String,
    /// Towards the client.
    pub out: bool,
    /// Bytes in a period.
    pub limit: u64,
    pub period: Duration,
    /// Fewer bytes than this are not sent alone.
    pub min_size: u64,
}

/// What of headers is kept for logs and rules: `capture`, `declare capture`.
#[derive(Clone, Debug, Default)]
pub struct Captures {
    pub request: Vec<Slot>,
    pub response: Vec<Slot>,
    /// Name of a cookie, or the beginning of it, and the bytes kept.
    pub cookie: Option<(String, usize)>,
}

#[derive(Clone, Debug)]
pub struct Slot {
    /// In lower case; none if a rule fills the slot.
    pub header: Option<String>,
    pub len: usize,
}

#[derive(Clone, Debug)]
pub struct Proxy {
    pub place: Place,
    pub name: String,
    pub kind: Kind,
    pub id: Option<u32>,
    /// `id`, or the next number that nobody said; the highest for what statistics do not know.
    pub number: u32,
    pub mode: Mode,
    /// `guid`
    pub guid: Option<Arc<str>>,
    /// `mode` stands in this section or in what it inherits.
    pub mode_said: bool,
    /// `be-unpublished`: rules pass over it until it is published.
    pub unpublished: bool,
    /// `rate-limit sessions`: so many a second; 0 is no limit.
    pub session_rate: u32,
    /// `http-send-name-header`
    pub name_header: Option<String>,
    /// `max-keep-alive-queue`: a client's last server is given up where more than so many wait for it.
    pub keep_alive_queue: Option<u32>,
    /// `load-server-state-from-file`
    pub load_state: LoadState,
    /// `server-state-file-name`
    pub state_file: Option<String>,
    /// `persist rdp-cookie`: its name.
    pub rdp_persist: Option<String>,
    /// `dynamic-cookie-key`
    pub cookie_key: Option<String>,
    /// `force-be-switch`: when rules may lead to backends that are disabled or not published.
    pub force_switch: Vec<Cond>,
    pub disabled: bool,
    pub description: Option<String>,
    pub timeouts: Timeouts,
    pub options: Options,
    pub maxconn: Option<u32>,
    pub fullconn: Option<u32>,
    pub backlog: Option<u32>,
    pub retries: u32,
    pub logs: Vec<LogTarget>,
    /// `log global` stands in this section.
    pub log_global: bool,
    pub log_tag: Option<String>,
    pub log_format: LogChoice,
    /// `log-format-sd`: structured data of RFC 5424.
    pub log_sd: Option<Arc<LogFormat>>,
    /// `error-log-format`: for what was no request.
    pub error_log_format: Option<Arc<LogFormat>>,
    /// `log-steps`, if it is said when lines are written.
    pub log_steps: Option<Steps>,
    /// A `log-forward` section.
    pub forwarding: Option<Box<Forwarding>>,
    pub error_files: BTreeMap<u16, Arc<[u8]>>,
    /// `http-error`: those that depend on the request.
    pub error_replies: BTreeMap<u16, Arc<crate::rules::action::Reply>>,
    pub unique_id: Option<Arc<LogFormat>>,
    /// In lower case.
    pub unique_id_header: Option<String>,
    pub acls: AclSet,
    pub http_request: Vec<Rule<HttpAction>>,
    pub http_response: Vec<Rule<HttpAction>>,
    /// `http-after-response`: for every answer, our own ones included.
    pub http_after_response: Vec<Rule<HttpAction>>,
    pub captures: Captures,
    pub compression: Option<Box<Compression>>,
    pub filters: Vec<Filter>,
    /// Rules of old words that run before all others: so many at the beginning of `http_request`.
    pub blocks: usize,
    /// Rules of old words that run after all others, until the section ends.
    pub late_request: Vec<Rule<HttpAction>>,
    pub late_response: Vec<Rule<HttpAction>>,
    pub tcp_connection: Vec<Rule<TcpAction>>,
    /// Behind what a PROXY header says of the client.
    pub tcp_session: Vec<Rule<TcpAction>>,
    /// `tcp-response content`, and its `inspect-delay`.
    pub tcp_response: Vec<Rule<TcpAction>>,
    pub response_delay: Option<Duration>,
    /// A rule has `switch-mode http`.
    pub switches: bool,
    pub tcp_content: Vec<Rule<TcpAction>>,
    /// `tcp-request inspect-delay`: how long those rules may wait for bytes.
    pub inspect_delay: Option<Duration>,
    pub use_server: Vec<(Option<Cond>, Chosen, Place)>,
    /// What `tcp-check` and `http-check` lines say, until the section ends.
    pub check_rules: Arc<CheckRules>,
    /// `external-check command` and `path`
    pub external_command: Option<String>,
    pub external_path: Option<String>,
    pub email: EmailAlert,
    pub source: Option<Arc<Source>>,
    pub keepalive_client: Keepalive,
    pub keepalive_server: Keepalive,
    pub retry_on: RetryOn,
    /// `ignore-persist` and `force-persist` (true), in the order of the lines.
    pub persist_rules: Vec<(Cond, bool)>,
    pub monitor_uri: Option<String>,
    pub monitor_fail: Vec<Cond>,
    pub stats: StatsUri,
    // frontend side
    pub binds: Vec<Bind>,
    pub use_backend: Vec<(Option<Cond>, Chosen, Place)>,
    pub default_backend: Option<(String, Place)>,
    // backend side
    pub balance: Option<Algorithm>,
    pub hash_key: HashKey,
    pub hash_type: HashType,
    /// `hash-balance-factor`: most of the average load that a server of a ring may have, in percent; 0 is no limit.
    pub hash_balance_factor: u32,
    pub hash_affinity: Affinity,
    pub servers: Vec<Server>,
    pub default_server: Server,
    /// `default-server name <name>`
    pub named_servers: Vec<(String, Server)>,
    /// `default-server` says something, `from none` apart.
    pub default_server_said: bool,
    pub cookie: Option<CookiePersist>,
    pub check: CheckKind,
    /// What is done if `check` is a matter of rules.
    pub script: Arc<crate::health::script::Script>,
    pub reuse: Reuse,
    /// `max-session-srv-conns`: idle connections to servers that one client may have for itself.
    pub session_conns: usize,
    /// It was a `virtual_server` block.
    pub virtual_server: Option<Arc<VirtualServer>>,
}

impl Proxy {
    /// How a server is checked: as its own `healthcheck` says, or as all of the section are.
    pub fn check_of<'a>(&'a self, s: &'a Server) -> (&'a CheckKind, &'a crate::health::script::Script) {
        match &s.own_check {
            Some(h) => (&h.kind, &h.script),
            None => (&self.check, &self.script),
        }
    }

    pub fn new(place: Place, name: &str, kind: Kind) -> Self {
        Self {
            place,
            name: name.to_owned(),
            kind,
            id: None,
            number: u32::MAX,
            mode: Mode::Tcp,
            guid: None,
            mode_said: false,
            unpublished: false,
            session_rate: 0,
            name_header: None,
            keep_alive_queue: None,
            load_state: LoadState::None,
            state_file: None,
            rdp_persist: None,
            cookie_key: None,
            force_switch: Vec::new(),
            disabled: false,
            description: None,
            timeouts: Timeouts::default(),
            options: Options::default(),
            maxconn: None,
            fullconn: None,
            backlog: None,
            retries: 3,
            logs: Vec::new(),
            log_global: false,
            log_tag: None,
            log_format: LogChoice::Default,
            log_sd: None,
            error_log_format: None,
            log_steps: None,
            forwarding: None,
            error_files: BTreeMap::new(),
            error_replies: BTreeMap::new(),
            unique_id: None,
            unique_id_header: None,
            acls: AclSet::default(),
            http_request: Vec::new(),
            http_response: Vec::new(),
            http_after_response: Vec::new(),
            captures: Captures::default(),
            compression: None,
            filters: Vec::new(),
            blocks: 0,
            late_request: Vec::new(),
            late_response: Vec::new(),
            tcp_connection: Vec::new(),
            tcp_session: Vec::new(),
            tcp_response: Vec::new(),
            response_delay: None,
            switches: false,
            tcp_content: Vec::new(),
            inspect_delay: None,
            check_rules: Arc::default(),
            external_command: None,
            external_path: None,
            email: EmailAlert::default(),
            source: None,
            keepalive_client: Keepalive::default(),
            keepalive_server: Keepalive::default(),
            retry_on: RetryOn::default(),
            persist_rules: Vec::new(),
            use_server: Vec::new(),
            monitor_uri: None,
            monitor_fail: Vec::new(),
            stats: StatsUri::default(),
            binds: Vec::new(),
            use_backend: Vec::new(),
            default_backend: None,
            balance: None,
            hash_key: HashKey::default(),
            hash_type: HashType::default(),
            hash_balance_factor: 0,
            hash_affinity: Affinity::Always,
            servers: Vec::new(),
            default_server: Server::default(),
            named_servers: Vec::new(),
            default_server_said: false,
            cookie: None,
            check: CheckKind::Tcp,
            script: Arc::new(crate::health::script::Script::connect()),
            reuse: Reuse::Unsaid,
            session_conns: 5,
            virtual_server: None,
        }
    }
    pub fn is_frontend(&self) -> bool {
        matches!(self.kind, Kind::Frontend | Kind::Listen)
    }
    pub fn is_backend(&self) -> bool {
        matches!(self.kind, Kind::Backend | Kind::Listen)
    }
    /// Balancing goes by a table that is made once: weights are all or nothing, and no server comes or goes.
    pub fn is_static(&self) -> bool {
        match self.balance.unwrap_or(Algorithm::RoundRobin) {
            Algorithm::StaticRr => true,
            Algorithm::RoundRobin
            | Algorithm::LeastConn
            | Algorithm::ShortestDelay
            | Algorithm::NeverQueue
            | Algorithm::First
            | Algorithm::Random(_) => false,
            _ => !self.hash_type.consistent,
        }
    }
    /// `balance url_param ... check_post`: bodies of POST requests have to be there.
    pub fn balances_posts(&self) -> bool {
        self.balance == Some(Algorithm::UrlParam) && matches!(self.hash_key, HashKey::Param { post: true, .. })
    }
    /// Rules of it set marks, which takes a right (`set-fc-mark`, `set-bc-mark`).
    pub fn marks_packets(&self) -> bool {
        let marks = |a: &HttpAction| matches!(a, HttpAction::SetPackets { what: Packets::Mark, .. });
        let tcp = [&self.tcp_connection, &self.tcp_session, &self.tcp_content, &self.tcp_response];
        let mut http = self.http_request.iter().chain(&self.http_response);
        http.any(|r| marks(&r.action))
            || tcp.into_iter().flatten().any(|r| matches!(&r.action, TcpAction::Effect(a) if marks(a)))
    }
    /// The bandwidth limit of this name.
    pub fn bandwidth(&self, name: &str) -> Option<&Bandwidth> {
        self.filters.iter().find_map(|f| match f {
            Filter::Bandwidth(b) if b.name == name => Some(&**b),
            _ => None,
        })
    }
}
