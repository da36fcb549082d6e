//! One load: files in, a cross-checked model and a report out.
use super::model::{CheckKind, Kind, Mode, Model, PortRule};
use super::source::{LoadArgs, Source};
use super::{haproxy, keepalived};
use crate::base::addr::ListenAddr;
use crate::base::diag::{Report, Severity, suggestion};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Reads and checks everything that `args` names. The model is meaningful only if the report has nothing fatal.
pub fn load(src: &mut dyn Source, args: &LoadArgs) -> (Model, Report) {
    let mut report = Report::default();
    let mut files: Vec<(Arc<str>, Arc<[u8]>)> = Vec::new();
    for path in &args.haproxy {
        let names = match src.list(path) {
            Some(names) => names
                .iter()
                .filter(|n| n.ends_with(".cfg") && !n.starts_with('.'))
                .map(|n| format!("{}/{n}", path.trim_end_matches('/')))
                .collect(),
            None => vec![path.clone()],
        };
        for name in names {
            match src.read(&name) {
                Ok(bytes) => files.push((Arc::from(name.as_str()), bytes)),
                Err(e) => {
                    report.push(Severity::Error, None, format!("could not open configuration file '{name}' : {e}"))
                }
            }
        }
    }
    let mut model = haproxy::parse(&files, src, args, &mut report);
    if let Some(n) = args.maxconn {
        model.global.maxconn = Some(n);
    }
    model.vrrp.fault_strict = model.global.fault_strict;
    if let Some(k) = &args.keepalived {
        if !model.vrrp.instances.is_empty() {
            report.push(
                Severity::Error,
                None,
                format!("both '{k}' and 'vrrp' sections define virtual routers; keep one of the two"),
            );
        }
        let host = args.localpeer.split('.').next().unwrap_or_default();
        let manner = keepalived::Manner {
            id: args.config_id.clone().unwrap_or_else(|| host.to_owned()),
            fault_strict: model.global.fault_strict,
            strict: args.strict_keepalived,
        };
        model.vrrp = keepalived::load(k, src, &manner, &mut report);
    }
    check_proxies(&model, args, &mut report);
    check_vrrp(&model, !args.haproxy.is_empty(), &mut report);
    if model.global.zero_warning && report.count(Severity::Warning) > 0 {
        report.push(Severity::Error, None, "there are warnings, and 'zero-warning' is set: mend them, or remove it");
    }
    (model, report)
}

fn check_proxies(m: &Model, args: &LoadArgs, report: &mut Report) {
    let backends = || m.proxies.iter().filter(|p| p.is_backend()).map(|p| p.name.as_str());
    let mut bound: BTreeMap<String, String> = BTreeMap::new();
    for p in m.proxies.iter().filter(|p| !p.disabled) {
        let targets =
            p.use_backend.iter().map(|(_, n, at)| (n, at)).chain(p.default_backend.iter().map(|(n, at)| (n, at)));
        for (name, at) in targets {
            match m.proxies.iter().find(|b| b.is_backend() && b.name == *name) {
                None => report
                    .error(at, format!("unable to find required backend: '{name}'{}", suggestion(name, backends()))),
                Some(b) if b.mode != p.mode && !(p.mode == Mode::Tcp && b.mode == Mode::Tcp) => {
                    report.error(
                        at,
                        format!(
                            "{} '{}' is in mode {} but backend '{name}' is in mode {}; give both the same 'mode'",
                            p.kind.name(),
                            p.name,
                            mode(p.mode),
                            mode(b.mode)
                        ),
                    );
                }
                Some(_) => {}
            }
        }
        for b in &p.binds {
            if let Some(other) = bound.insert(b.addr.to_string(), p.name.clone()) {
                report.warning(
                    &b.place,
                    format!("'{}' is also bound by '{other}': connections are shared between the two", b.addr),
                );
            }
        }
        if p.is_frontend() && p.binds.is_empty() {
            report.warning(
                &p.place,
                format!("{} '{}' has no 'bind': it cannot receive connections", p.kind.name(), p.name),
            );
        }
        if p.is_frontend() && !p.binds.is_empty() && p.timeouts.client.is_none() {
            report.warning(&p.place, format!("missing timeouts for {} '{}': without 'timeout client' a dead client's connection is kept for ever", p.kind.name(), p.name));
        }
        if p.is_backend() && !p.servers.is_empty() && (p.timeouts.connect.is_none() || p.timeouts.server.is_none()) {
            report.warning(&p.place, format!("missing timeouts for {} '{}': set 'timeout connect' and 'timeout server', or hung servers will hold connections for ever", p.kind.name(), p.name));
        }
        if p.mode == Mode::Tcp {
            let http_only = [
                (!p.http_request.is_empty(), "http-request"),
                (!p.http_response.is_empty(), "http-response"),
                (p.cookie.is_some(), "cookie"),
                (p.stats.enabled && p.is_frontend() && p.kind != Kind::Defaults && p.stats.uri.is_some(), "stats"),
            ];
            for (_, word) in http_only.iter().filter(|x| x.0) {
                report.warning(
                    &p.place,
                    format!(
                        "'{word}' is ignored in {} '{}', which is in mode tcp; add 'mode http'",
                        p.kind.name(),
                        p.name
                    ),
                );
            }
        }
        if p.is_backend() && p.servers.iter().any(|s| s.cookie.is_some()) && p.cookie.is_none() && p.mode == Mode::Http
        {
            report.warning(
                &p.place,
                format!("'cookie' on servers of '{}' has no effect without a 'cookie' line in the section", p.name),
            );
        }
        if matches!(p.check, CheckKind::Http(_))
            && p.is_backend()
            && p.kind == Kind::Backend
            && !p.servers.is_empty()
            && !p.servers.iter().any(|s| s.check)
        {
            report.push(
                Severity::Notice,
                Some(p.place.clone()),
                format!("health checks are described for '{}' but no server has 'check'", p.name),
            );
        }
        for s in &p.servers {
            if let (Some(ip), PortRule::Fixed(port)) = (s.ip, &s.port) {
                let own = p.binds.iter().any(
                    |b| matches!(&b.addr, ListenAddr::Inet { addr, port: bp, .. } if *bp == *port && (*addr == ip)),
                );
                if own {
                    report.warning(
                        &s.place,
                        format!("server '{}' is this proxy's own listener {ip}:{port}: requests would loop", s.name),
                    );
                }
            }
        }
    }
    if !args.haproxy.is_empty() && args.no_verify {
        report.push(Severity::Notice, None, "servers' certificates are not verified (-dV)");
    }
}

fn mode(m: Mode) -> &'static str {
    match m {
        Mode::Tcp => "tcp",
        Mode::Http => "http",
    }
}

fn check_vrrp(m: &Model, with_proxy: bool, report: &mut Report) {
    let v = &m.vrrp;
    for (n, i) in v.instances.iter().enumerate() {
        let place = keepalived::build::place_of(&i.place);
        for other in &v.instances[..n] {
            let family = |x: &super::model::VrrpInstance| x.vips.first().is_some_and(|a| a.addr.addr.is_ipv6());
            if other.name == i.name {
                report.error(
                    &place,
                    format!("two virtual routers are called '{}'; the other is at {}", i.name, other.place),
                );
            }
            if other.vrid == i.vrid && other.interface == i.interface && family(other) == family(i) {
                report.error(
                    &place,
                    format!("'{}' and '{}' both use VRID {} on interface {}: give one of them another number (the other is at {})", i.name, other.name, i.vrid, i.interface, other.place),
                );
            }
        }
        if i.unicast_peers.is_empty() && i.unicast_src.is_some() {
            report
                .warning(&place, format!("'{}' has a unicast source but no unicast peers: multicast is used", i.name));
        }
        if with_proxy && !m.proxies.is_empty() {
            for vip in &i.vips {
                let ip = vip.addr.addr;
                let served = m.proxies.iter().filter(|p| !p.disabled).flat_map(|p| &p.binds).any(|b| match &b.addr {
                    ListenAddr::Inet { addr, v4v6, .. } => {
                        *addr == ip || addr.is_unspecified() && (addr.is_ipv4() == ip.is_ipv4() || *v4v6)
                    }
                    _ => false,
                });
                if !served {
                    report.warning(
                        &place,
                        format!(
                            "no 'bind' listens on virtual address {ip} of '{}': who holds it would not answer there",
                            i.name
                        ),
                    );
                }
            }
        }
    }
}

/// Virtual addresses of the node: listeners on them are bound although they are not there yet.
pub fn vips(m: &Model) -> Vec<IpAddr> {
    m.vrrp.instances.iter().flat_map(|i| i.vips.iter().chain(&i.excluded)).map(|v| v.addr.addr).collect()
}

#[cfg(test)]
mod tests {
    use super::super::source::Recorded;
    use super::*;

    fn run(text: &str) -> (Model, Report) {
        let mut src = Recorded::default();
        src.files.insert("/h".into(), Ok(text.as_bytes().to_vec()));
        let args = LoadArgs { haproxy: vec!["/h".into()], localpeer: "lb1".into(), ..LoadArgs::default() };
        load(&mut src, &args)
    }

    const BASE: &str = "defaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 5s\n";

    #[test]
    fn a_usual_file_is_clean() {
        let (m, r) = run(&format!(
            "global\n log 127.0.0.1:514 local0\n maxconn 2000\n user nobody\n daemon\n{BASE} log global\n option httplog\nfrontend www\n bind *:80\n acl api path_beg /api\n use_backend api if api METH_GET or {{ hdr(host) -i a.example }}\n http-request set-header X-Proto https if {{ ssl_fc }}\n http-request redirect scheme https code 301 unless {{ ssl_fc }}\n default_backend app\nbackend app\n balance leastconn\n option httpchk GET /health\n cookie SRV insert indirect nocache\n server a 10.0.0.1:8080 check cookie a inter 1s rise 2 fall 3\n server b 10.0.0.2:8080 check cookie b backup\nbackend api\n server c 10.0.0.3:80 maxconn 10\n"
        ));
        assert!(r.diags.iter().all(|d| d.severity == Severity::Notice), "{:#?}", r.diags);
        assert_eq!(m.proxies.len(), 3);
        assert_eq!(m.proxies[1].servers.len(), 2);
    }

    #[test]
    fn all_errors_of_a_run_are_reported_with_their_lines() {
        let (_, r) = run(&format!(
            "global\n foo bar\n{BASE}frontend a\n bind :8080\n tmeout client 5s\n use_backend b if nope\n default_backend zz\n http-request denyy\nbackend b\n server x 1.2.3.4:99999\n balance rr\n stick-table type ip size 1k\n"
        ));
        let lines: Vec<u32> = r
            .diags
            .iter()
            .filter(|d| d.severity >= Severity::NotYet)
            .filter_map(|d| d.place.as_ref().map(|p| p.line))
            .collect();
        for want in [2, 10, 11, 12, 13, 15, 16, 17] {
            assert!(lines.contains(&want), "line {want}: {:#?}", r.diags);
        }
        assert_eq!(r.count(Severity::NotYet), 1);
        assert!(r.diags.iter().any(|d| d.message.contains("did you mean 'timeout'")));
    }

    #[test]
    fn a_virtual_address_nobody_listens_on_is_said() {
        let (m, r) = run(&format!(
            "{BASE}frontend a\n bind 10.0.0.1:80\nvrrp v\n interface eth0\n vrid 5\n priority 100\n address 10.0.0.9/24 2001:db8::9/64\n no preempt\n"
        ));
        assert_eq!(r.count(Severity::Error), 0, "{:?}", r.diags);
        assert!(r.diags.iter().any(|d| d.message.contains("10.0.0.9")));
        assert_eq!(m.vrrp.instances.len(), 2);
        assert!(!m.vrrp.instances[1].preempt && m.vrrp.instances[1].twin_of.is_some());
    }
}
