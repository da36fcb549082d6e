//! The compiled configuration: a table of per-proxy `Arc`s, swapped whole. A long connection pins its own proxy, not the world.
use super::live::{Doors, ListenerLive, Live, ProxyLive, ServerLive, lock};
use super::logging::LogBackend;
use crate::base::code::Code;
use crate::base::diag::Report;
use crate::config::model::{
    Bind, Chosen, Global, Kind, LogChoice, LogDest, LogProfile, Mode, Model, Proxy, RING_SIZE, Server,
};
use crate::config::source::Source;
use crate::http::h1::case::Cases;
use crate::http::status;
use crate::log::ring::Ring;
use crate::log::{BackendSlot, Logger};
use crate::rules::acl::{self, Cond};
use crate::rules::logformat::{CLF, HTTPLOG, LogFormat, Stage, TCPLOG};
use crate::rules::sample::{Scope, Traffic};
use crate::tls;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

#[derive(Debug)]
pub struct Snapshot {
    /// Counted from 1 at the start of the worker.
    pub generation: u64,
    pub global: Arc<Global>,
    pub proxies: Vec<Arc<ProxyNode>>,
    /// Processes and statistics number proxies from here.
    by_name: HashMap<String, usize>,
    /// Asked for each connection that comes in.
    frontends: HashMap<String, usize>,
    pub sinks: Arc<crate::log::Sinks>,
    pub maxconn: u32,
    pub resolvers: Vec<crate::config::model::Resolvers>,
    /// In the order of their sections.
    pub caches: Vec<Arc<super::cache::Store>>,
    pub rings: Vec<Arc<Ring>>,
    pub feeds: Vec<Feed>,
    /// Names of `defaults` sections.
    pub defaults: Vec<String>,
}

/// A server that gets what a ring has.
#[derive(Debug)]
pub struct Feed {
    pub ring: Arc<Ring>,
    pub node: Arc<ProxyNode>,
    pub server: usize,
}

/// One proxy with everything its sessions need.
#[derive(Debug)]
pub struct ProxyNode {
    pub conf: Proxy,
    /// As the statistics number it.
    pub iid: u32,
    pub live: Arc<ProxyLive>,
    pub servers: Vec<ServerNode>,
    pub listeners: Vec<ListenerNode>,
    pub logs: Vec<Logger>,
    pub sinks: Arc<crate::log::Sinks>,
    pub log_tag: String,
    pub log_hostname: Option<String>,
    /// `email-alert`, if all of it is said.
    pub email: Option<MailRoute>,
    pub format: LogLine,
    /// When all is known that the line says, or `option logasap` is content.
    pub log_at: Stage,
    /// A line may say which addresses the connection to the server has.
    pub tells_servers: bool,
    /// The line says how many there were.
    pub counts_lines: bool,
    pub profiles: Arc<Vec<Arc<LogProfile>>>,
    /// Indexes of backends, in the order of `use_backend` lines; set once all proxies are made.
    routes: OnceLock<Routes>,
    pub fullconn: u32,
    pub maxconn: u32,
    pub bufsize: usize,
    pub maxrewrite: usize,
    any_payload: bool,
    most_headers: u16,
    /// Bytes that logs keep of a request's line.
    pub log_line_len: usize,
    /// And of a captured cookie, its name included.
    pub log_cookie_len: usize,
    /// How names of headers are written for its clients, and for its servers.
    pub cases: [Option<Arc<Cases>>; 2],
    pub caches: Arc<HashMap<String, Arc<super::cache::Store>>>,
    /// Answers by status, ready to send.
    pub pages: HashMap<u16, Arc<[u8]>>,
    /// The servers that may be used, in the form that balancing wants, and the version of their states that it was made from.
    pub table: arc_swap::ArcSwap<(u64, Table)>,
}

/// See [`crate::balance`].
#[derive(Debug)]
pub enum Table {
    Turns(Vec<u16>),
    Ring(crate::balance::hash::Ring),
}

#[derive(Debug)]
pub struct Routes {
    pub rules: Vec<(Option<Cond>, Route)>,
    pub default: Option<std::sync::Weak<ProxyNode>>,
    /// Proxies that rules ask about by name, the same for all.
    pub named: Arc<Named>,
}

/// Where a `use_backend` rule leads.
#[derive(Debug)]
pub enum Route {
    To(std::sync::Weak<ProxyNode>),
    /// To the backend of the name that is computed for each exchange.
    Computed(Arc<LogFormat>),
}

#[derive(Debug, Default)]
pub struct Named {
    /// For `nbsrv`, `be_conn`.
    pub backends: HashMap<String, std::sync::Weak<ProxyNode>>,
    /// For `fe_conn`.
    pub frontends: HashMap<String, std::sync::Weak<ProxyNode>>,
}

/// Who is told of changes by mail, and of which.
#[derive(Debug)]
pub struct MailRoute {
    pub from: String,
    pub to: String,
    pub hostname: String,
    /// The least severe messages that are sent.
    pub level: u8,
    pub mailers: Arc<crate::config::model::Mailers>,
}

#[derive(Debug)]
pub enum LogLine {
    /// The line without a format: who connected to what.
    Default,
    Format(Arc<LogFormat>),
}

#[derive(Debug)]
pub struct ServerNode {
    pub conf: Server,
    pub sid: u32,
    pub live: Arc<ServerLive>,
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Changes whenever the address or its TLS parameters change, so that pooled connections are not mixed up.
    pub pool_key: u64,
}

impl ProxyNode {
    /// A line to where the proxy logs; `severity` as syslog numbers it.
    pub fn note(&self, severity: u8, text: &str, live: &Live) {
        let tag = crate::log::Tag { tag: &self.log_tag, hostname: self.log_hostname.as_deref() };
        self.sinks.send(&self.logs, severity, &tag, text.as_bytes(), &live.dropped_logs);
    }
}

#[derive(Debug)]
pub struct ListenerNode {
    pub conf: Bind,
    pub name: String,
    pub id: u32,
    pub live: Arc<ListenerLive>,
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl Snapshot {
    /// The backend or `listen` section of this name.
    pub fn backend(&self, name: &str) -> Option<&Arc<ProxyNode>> {
        self.proxies.iter().find(|p| p.conf.is_backend() && p.conf.name == name)
    }
    /// The same, for a name or `#` and a number.
    pub fn backend_of(&self, name: &str) -> Option<&Arc<ProxyNode>> {
        match name.strip_prefix('#').map(str::parse) {
            Some(id) => self.proxies.iter().find(|p| p.conf.is_backend() && id == Ok(p.iid)),
            None => self.backend(name),
        }
    }
    pub fn frontend(&self, name: &str) -> Option<&Arc<ProxyNode>> {
        self.frontends.get(name).map(|i| &self.proxies[*i])
    }
    pub fn proxy(&self, name: &str) -> Option<&Arc<ProxyNode>> {
        self.by_name.get(name).map(|i| &self.proxies[*i])
    }

    /// A configuration that was read anew says nothing of frontends that were paused.
    pub fn open_doors(&self, live: &Live) {
        self.proxies.iter().for_each(|p| p.live.set_doors(Doors::Open));
        live.doors.send_if_modified(|d| !std::mem::take(d).is_empty());
    }

    /// Comes into force: what lives on takes what the files say now. Until here nothing that is shared has changed.
    pub fn adopt(&self, live: &Live) {
        for p in &self.proxies {
            p.live.stopped.store(false, std::sync::atomic::Ordering::Relaxed);
            p.live.reconcile(&p.conf);
            let dynamic = p.conf.cookie.as_ref().is_some_and(|c| c.dynamic);
            p.live.cookies.adopt(p.conf.cookie_key.as_deref(), dynamic);
            p.live.maxconn.adopt(p.maxconn.into());
            p.live.sessions.limit.adopt(p.conf.session_rate.into());
            p.servers.iter().for_each(|s| s.live.reconcile(&s.conf));
        }
        let (limits, rates) = (&live.limits, self.global.rates);
        limits.maxconn.adopt(self.maxconn.into());
        limits.connections.limit.adopt(rates.connections.into());
        limits.sessions.limit.adopt(rates.sessions.into());
        limits.tls.limit.adopt(rates.tls.into());
        limits.compression.adopt(self.global.comp_rate);
        live.adopt_caches(&self.caches);
        live.adopt_rings(|r| {
            let used = self.rings.iter().chain(self.feeds.iter().map(|f| &f.ring));
            used.into_iter().any(|u| Arc::ptr_eq(u, r))
        });
        self.forget_others(live);
    }

    /// Forgets what lives on of configurations that did not come into force, or are in force no more.
    pub fn forget_others(&self, live: &Live) {
        for p in &self.proxies {
            let mine: HashMap<&str, &Arc<ServerLive>> =
                p.servers.iter().map(|s| (s.conf.name.as_str(), &s.live)).collect();
            lock(&p.live.servers).retain(|name, l| mine.get(name.as_str()).is_some_and(|m| Arc::ptr_eq(m, l)));
        }
        let kept: HashSet<*const ProxyLive> = self.proxies.iter().map(|p| Arc::as_ptr(&p.live)).collect();
        live.forget_proxies(|l| kept.contains(&Arc::as_ptr(l)));
    }

    /// Compiles a model. See [`compile_from`](Self::compile_from).
    pub fn compile(
        model: Model,
        src: &mut dyn Source,
        live: &Live,
        sinks: Arc<crate::log::Sinks>,
        generation: u64,
        report: &mut Report,
    ) -> Self {
        Self::compile_from(model, src, live, sinks, generation, None, report)
    }

    /// Compiles a model. `old`: one that was made of the same files, whose TLS parameters (tickets with them) go on. `live` is given by a worker; a check compiles with a throw-away one. Findings go to `report`.
    pub fn compile_from(
        model: Model,
        src: &mut dyn Source,
        live: &Live,
        sinks: Arc<crate::log::Sinks>,
        generation: u64,
        old: Option<&Self>,
        report: &mut Report,
    ) -> Self {
        let (resolvers, defaults) = (model.resolvers, model.defaults);
        let caches: Vec<Arc<super::cache::Store>> = model.caches.into_iter().map(|c| live.cache(c)).collect();
        let by_cache = Arc::new(caches.iter().map(|c| (c.conf.name.clone(), c.clone())).collect::<HashMap<_, _>>());
        let global = Arc::new(model.global);
        let maxconn = global.maxconn.filter(|n| *n > 0).unwrap_or(crate::config::model::DEFAULT_MAXCONN);
        // What the frontends that lead to a backend may have together, each counted once.
        let mut sums: HashMap<String, u32> = HashMap::new();
        for p in model.proxies.iter().filter(|p| p.is_frontend()) {
            let own = (p.kind == Kind::Listen).then_some(&p.name);
            let named = p.use_backend.iter().filter_map(|x| match &x.1 {
                Chosen::Name(n) => Some(n),
                Chosen::Computed(_) => None,
            });
            let targets = named.chain(p.default_backend.iter().map(|d| &d.0)).chain(own);
            for t in targets.collect::<HashSet<_>>() {
                let sum = sums.entry(t.clone()).or_default();
                *sum = sum.saturating_add(p.maxconn.unwrap_or(maxconn));
            }
        }
        let cases = (!global.cases.is_empty()).then(|| Arc::new(global.cases.clone()));
        let mut rings: HashMap<String, Arc<Ring>> = HashMap::new();
        for r in &model.rings {
            match live.ring(r) {
                Ok(ring) => drop(rings.insert(r.name.clone(), ring)),
                Err(e) => report.error(Code::Unreadable, &r.place, e),
            }
        }
        let slots: HashMap<String, BackendSlot> = model
            .proxies
            .iter()
            .filter(|p| p.mode == Mode::Log)
            .map(|p| (p.name.clone(), BackendSlot::default()))
            .collect();
        let profiles = Arc::new(model.log_profiles);
        let ring = |name: &str| rings.get(name).cloned().or_else(|| live.built_in_ring(name));
        let loggers = |conf: &Proxy| -> Vec<Logger> {
            let all = conf.logs.iter().chain(global.logs.iter().filter(|_| conf.log_global));
            // A backend of logs does not log to one: its lines would go round.
            let all = all.filter(|t| conf.mode != Mode::Log || !matches!(t.dest, LogDest::Backend(_)));
            all.filter_map(|t| Logger::new(t, &profiles, &ring, &|n| slots.get(n).cloned())).collect()
        };
        let node = |conf: Box<Proxy>, src: &mut dyn Source, report: &mut Report| {
            let plive = live.proxy(&conf);
            let before =
                old.and_then(|o| o.proxies.iter().find(|p| p.conf.name == conf.name && p.conf.kind == conf.kind));
            // By their numbers, where one has gone or come.
            let earlier: HashMap<u32, &ServerNode> = match before {
                Some(p) if p.servers.len() != conf.servers.len() => p.servers.iter().map(|n| (n.sid, n)).collect(),
                _ => HashMap::new(),
            };
            let mut servers = Vec::new();
            for s in &conf.servers {
                // The same number on the same line is the same server.
                let same =
                    |o: &&ServerNode| o.sid == s.number && o.conf.place == s.place && o.conf.dynamic == s.dynamic;
                let there = || before.and_then(|p| p.servers.get(servers.len()).filter(same));
                let tls = match there().or_else(|| earlier.get(&s.number).copied().filter(same)) {
                    Some(o) => o.tls.clone(),
                    None => client_tls(s, &global, src, report),
                };
                use std::hash::{Hash, Hasher};
                let mut h = std::hash::DefaultHasher::new();
                (
                    &conf.name,
                    &s.name,
                    &s.host,
                    s.ip,
                    format!("{:?}{:?}{:?}{:?}", s.port, s.tls, s.send_proxy, s.proxy_options),
                    format!("{:?}{:?}{:?}", s.source.as_ref().or(conf.source.as_ref()), s.socks4, s.md5),
                )
                    .hash(&mut h);
                servers.push(ServerNode {
                    sid: s.number,
                    live: live.server(&plive, s),
                    tls,
                    pool_key: h.finish(),
                    conf: s.clone(),
                });
            }
            let mut listeners = Vec::new();
            // Who says none follows on whoever stands in front.
            let mut taken: HashSet<u32> = conf.binds.iter().filter_map(|b| b.id).collect();
            let mut last = 0u32;
            for b in &conf.binds {
                let tls = match before.and_then(|p| p.listeners.get(listeners.len())) {
                    Some(o) => o.tls.clone(),
                    None => server_tls(b, &global, src, report),
                };
                // Never none: there are more numbers than listeners.
                last =
                    b.id.unwrap_or_else(|| (last..=u32::MAX).skip(1).find(|n| !taken.contains(n)).unwrap_or(u32::MAX));
                taken.insert(last);
                let id = last;
                let name = b.name.clone().unwrap_or_else(|| format!("sock-{id}"));
                listeners.push(ListenerNode { live: live.listener(&plive, &name), name, id, tls, conf: b.clone() });
            }
            let names = &crate::config::haproxy::NAMES;
            let builtin = |text: &str| {
                LogFormat::line(text, Scope::Log, names).map(Arc::new).map_or(LogLine::Default, LogLine::Format)
            };
            let format = match &conf.log_format {
                LogChoice::Default => LogLine::Default,
                LogChoice::Http if conf.mode == Mode::Tcp => builtin(TCPLOG),
                LogChoice::Http => builtin(HTTPLOG),
                LogChoice::Tcp => builtin(TCPLOG),
                LogChoice::Clf => builtin(CLF),
                LogChoice::Custom(f, _) => LogLine::Format(f.clone()),
            };
            let pages = conf.error_files.iter().map(|(s, b)| (*s, b.clone())).collect();
            let sum = sums.get(&conf.name).copied().unwrap_or(0);
            Arc::new(ProxyNode {
                iid: conf.number,
                live: plive,
                servers,
                listeners,
                sinks: sinks.clone(),
                logs: loggers(&conf),
                log_tag: conf.log_tag.clone().unwrap_or_else(|| global.log_tag.clone()),
                log_hostname: global.log_hostname.clone(),
                email: mail_route(&conf, &model.mailers, &global),
                log_at: match &format {
                    LogLine::Default => Stage::Request,
                    LogLine::Format(f) if conf.options.logasap => f.stage().min(Stage::Response),
                    LogLine::Format(f) => f.stage(),
                },
                tells_servers: matches!(&format, LogLine::Format(f) if f.tells_servers())
                    || conf.log_sd.is_some()
                    || conf.error_log_format.is_some()
                    || !profiles.is_empty(),
                counts_lines: matches!(&format, LogLine::Format(f) if f.counts()),
                profiles: profiles.clone(),
                format,
                routes: OnceLock::new(),
                fullconn: conf.fullconn.unwrap_or_else(|| sum.div_ceil(10)),
                maxconn: conf.maxconn.filter(|n| *n > 0).unwrap_or(maxconn),
                bufsize: global.bufsize,
                maxrewrite: global.maxrewrite.min(global.bufsize / 2),
                any_payload: global.any_payload,
                most_headers: global.kept.headers,
                log_line_len: global.kept.log_line,
                log_cookie_len: global.kept.cookie,
                cases: [conf.options.adjust_client, conf.options.adjust_server]
                    .map(|yes| cases.clone().filter(|_| yes)),
                caches: by_cache.clone(),
                pages,
                table: arc_swap::ArcSwap::from_pointee((u64::MAX, Table::Turns(Vec::new()))),
                conf: *conf,
            })
        };
        let mut proxies: Vec<Arc<ProxyNode>> = Vec::new();
        for conf in model.proxies {
            proxies.push(node(conf, src, report));
        }
        let mut feeds = Vec::new();
        for r in model.rings {
            if let Some(ring) = rings.get(&r.name) {
                // A backend of the ring's name is another one.
                let mut servers = r.proxy.clone();
                servers.name = format!("ring/{}", r.name);
                let n = node(servers, src, report);
                feeds.extend((0..n.servers.len()).map(|server| Feed { ring: ring.clone(), node: n.clone(), server }));
            }
        }
        for n in proxies.iter().filter(|n| n.conf.mode == Mode::Log) {
            let stream = |(i, s): (usize, &ServerNode)| {
                if s.conf.datagram {
                    return None;
                }
                let ring = live.ring(&Arc::new(server_ring(&n.conf, &s.conf))).ok()?;
                feeds.push(Feed { ring: ring.clone(), node: n.clone(), server: i });
                Some(ring)
            };
            let rings = n.servers.iter().enumerate().map(stream).collect();
            if let Some(slot) = slots.get(&n.conf.name) {
                // Set once, just here.
                let _ = slot.set(Arc::new(LogBackend::new(n.clone(), rings)));
            }
        }
        let of = |wanted: fn(&Proxy) -> bool| -> HashMap<String, std::sync::Weak<ProxyNode>> {
            let those = proxies.iter().filter(|p| wanted(&p.conf));
            those.map(|p| (p.conf.name.clone(), Arc::downgrade(p))).collect()
        };
        let named = Arc::new(Named { backends: of(Proxy::is_backend), frontends: of(Proxy::is_frontend) });
        let find = |name: &str| named.backends.get(name).cloned();
        for p in &proxies {
            let rules = p.conf.use_backend.iter().filter_map(|(c, n, _)| {
                let route = match n {
                    Chosen::Name(n) => Route::To(find(n)?),
                    Chosen::Computed(f) => Route::Computed(f.clone()),
                };
                Some((c.clone(), route))
            });
            let rules = rules.collect();
            let own = (p.conf.kind == Kind::Listen).then(|| Arc::downgrade(p));
            let default = p.conf.default_backend.as_ref().and_then(|(n, _)| find(n)).or(own);
            // Set once, just here.
            let _ = p.routes.set(Routes { rules, default, named: named.clone() });
        }
        let numbered = || proxies.iter().enumerate().map(|(i, p)| (p.conf.name.clone(), i));
        let by_name = numbered().collect();
        let frontends = numbered().filter(|(_, i)| proxies[*i].conf.is_frontend()).collect();
        let rings = rings.into_values().collect();
        Self {
            generation,
            global,
            proxies,
            by_name,
            frontends,
            sinks,
            maxconn,
            resolvers,
            caches,
            rings,
            feeds,
            defaults,
        }
    }
}

/// The ring in which the messages for a server of a log backend wait.
fn server_ring(p: &Proxy, s: &Server) -> crate::config::model::Ring {
    let name = format!("{}/{}", p.name, s.name);
    crate::config::model::Ring {
        place: s.place.clone(),
        description: name.clone(),
        name,
        form: Some(crate::config::model::LogForm::Raw),
        max_len: usize::from(u16::MAX),
        size: RING_SIZE,
        backing_file: None,
        proxy: Box::new(Proxy::new(s.place.clone(), &p.name, Kind::Backend)),
    }
}

fn mail_route(p: &Proxy, all: &[Arc<crate::config::model::Mailers>], g: &Global) -> Option<MailRoute> {
    let e = &p.email;
    let name = e.mailers.as_ref()?;
    Some(MailRoute {
        from: e.from.clone()?,
        to: e.to.clone()?,
        hostname: e.hostname.clone().unwrap_or_else(|| g.localpeer.clone()),
        level: e.level,
        mailers: all.iter().find(|m| m.name == *name)?.clone(),
    })
}

/// What of a compilation can fail: certificates, keys and the authorities of servers. For those who only check.
pub fn check_tls(m: &Model, src: &mut dyn Source, report: &mut Report) {
    for p in &m.proxies {
        for s in &p.servers {
            client_tls(s, &m.global, src, report);
        }
        for b in p.binds.iter().filter(|_| !m.global.crt_store) {
            server_tls(b, &m.global, src, report);
        }
    }
}

fn client_tls(s: &Server, g: &Global, src: &mut dyn Source, report: &mut Report) -> Option<Arc<rustls::ClientConfig>> {
    let made = tls::client_config(s.tls.as_ref()?, &g.server_tls, src);
    made.map_err(|e| report.error(Code::Tls, &s.place, format!("server '{}' : {e}", s.name))).ok()
}

fn server_tls(b: &Bind, g: &Global, src: &mut dyn Source, report: &mut Report) -> Option<Arc<rustls::ServerConfig>> {
    let made = tls::server_config(b.tls.as_ref()?, &g.bind_tls, g.crt_base.as_deref(), src);
    made.map_err(|e| report.error(Code::Tls, &b.place, format!("'bind {}' : {e}", b.addr))).ok()
}

impl ProxyNode {
    /// Writes names in a head that goes to a client as its application wants them.
    pub fn adjust_answer(&self, head: &mut [u8]) {
        if let Some(c) = &self.cases[0] {
            c.apply(head);
        }
    }

    /// What it lets through that is against the rules, in requests or in responses.
    pub fn accept(&self, request: bool) -> crate::http::h1::head::Accept {
        let o = &self.conf.options;
        let violations = if request { o.violations_request } else { o.violations_response };
        crate::http::h1::head::Accept { violations, any_payload: self.any_payload, most_headers: self.most_headers }
    }

    pub fn routes(&self) -> &Routes {
        static NONE: OnceLock<Routes> = OnceLock::new();
        self.routes
            .get()
            .unwrap_or_else(|| NONE.get_or_init(|| Routes { rules: Vec::new(), default: None, named: Arc::default() }))
    }

    /// Rules may lead to it.
    pub fn is_open(&self) -> bool {
        !self.conf.disabled && !self.live.unpublished.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The backend that an exchange of this frontend goes to (`use_backend`, `default_backend`); none if there is none that speaks the same mode.
    /// One that is disabled or not published is passed over, unless `force-be-switch` says otherwise.
    pub fn route(&self, x: &dyn Traffic) -> Option<Arc<ProxyNode>> {
        let routes = self.routes();
        let forced = OnceLock::new();
        let open = |b: &Arc<ProxyNode>| {
            b.is_open() || *forced.get_or_init(|| self.conf.force_switch.iter().any(|c| c.holds(x)))
        };
        let by_rule = routes.rules.iter().find_map(|(c, r)| {
            if !acl::holds(c.as_ref(), x) {
                return None;
            }
            let b = match r {
                Route::To(b) => b.upgrade(),
                Route::Computed(f) => {
                    let mut name = Vec::new();
                    f.render(x, &mut name);
                    let found = std::str::from_utf8(&name).ok().and_then(|n| routes.named.backends.get(n));
                    // A name that nobody has leads where no rule leads.
                    found.or(routes.default.as_ref()).and_then(std::sync::Weak::upgrade)
                }
            };
            b.filter(|b| open(b))
        });
        let by_default = || routes.default.as_ref().and_then(std::sync::Weak::upgrade).filter(|b| open(b));
        // Bytes can become HTTP, not the other way round.
        let fits = |b: &Arc<ProxyNode>| {
            b.conf.mode == self.conf.mode || (self.conf.mode, b.conf.mode) == (Mode::Tcp, Mode::Http)
        };
        by_rule.or_else(by_default).filter(fits)
    }

    /// The answer for a status: the `errorfile`, or the built-in one.
    pub fn page(&self, status: u16) -> Arc<[u8]> {
        self.pages.get(&status).cloned().unwrap_or_else(|| status::page(status).into())
    }

    /// Servers that balancing may use now: active ones, else the first backup (or all with `allbackups`). A virtual server without its quorum
    /// has its `sorry_server` alone.
    pub fn candidates(&self, mut keep: impl FnMut(usize, &ServerNode)) {
        let usable = |s: &ServerNode| s.live.effective_weight() > 0;
        let sorry = self.live.sorry.load(std::sync::atomic::Ordering::Relaxed);
        let active = !sorry && self.servers.iter().any(|s| !s.conf.backup && usable(s));
        for (i, s) in self.servers.iter().enumerate() {
            if usable(s) && s.conf.backup != active {
                keep(i, s);
                if !active && !self.conf.options.allbackups {
                    return;
                }
            }
        }
    }

    /// Sessions that one of its servers may have now; 0 is no limit. With `minconn` the limit follows the backend's load, up to `fullconn`;
    /// while the server warms up it has its part of it.
    pub fn limit(&self, s: &ServerNode) -> u64 {
        use std::sync::atomic::Ordering::Relaxed;
        let max = u64::from(s.live.maxconn.load(Relaxed));
        if max == 0 {
            return 0;
        }
        let min = u64::from(s.conf.minconn);
        let (load, whole) = (self.live.back_sessions.get(), u64::from(self.fullconn));
        let now = if min == 0 || min >= max || load >= whole { max } else { (load * max / whole).max(min) };
        (now * u64::from(s.live.warmth()) / 100).max(1)
    }

    pub fn usable_servers(&self) -> usize {
        let mut n = 0;
        self.candidates(|_, _| n += 1);
        n
    }

    /// `UP` or `DOWN`, as the statistics say of a backend.
    pub fn is_up(&self) -> bool {
        self.servers.is_empty() || self.usable_servers() > 0
    }
}
