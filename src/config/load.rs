//! One load: files in, a cross-checked model and a report out.
use super::model::{Model, Vmac};
use super::source::{LoadArgs, Source};
use super::{haproxy, keepalived, together};
use crate::base::code::Code;
use crate::base::diag::{Diag, Report, Severity};
use std::net::IpAddr;
use std::sync::Arc;

/// HAProxy's files in the order in which they are read: of a directory, those that end in `.cfg`.
pub fn files(src: &mut dyn Source, args: &LoadArgs) -> Vec<String> {
    let mut all = Vec::new();
    for path in &args.haproxy {
        match src.list(path) {
            Some(names) => all.extend(
                names
                    .iter()
                    .filter(|n| n.ends_with(".cfg") && !n.starts_with('.'))
                    .map(|n| format!("{}/{n}", path.trim_end_matches('/'))),
            ),
            None => all.push(path.clone()),
        }
    }
    all
}

/// Reads and checks everything that `args` names. The model is meaningful only if the report has nothing fatal.
pub fn load(src: &mut dyn Source, args: &LoadArgs) -> (Model, Report) {
    let mut report = Report::default();
    let mut files: Vec<(Arc<str>, Arc<[u8]>)> = Vec::new();
    for name in self::files(src, args) {
        match src.read(&name) {
            Ok(bytes) => files.push((Arc::from(name.as_str()), bytes)),
            Err(e) => {
                let text = format!("could not open configuration file '{name}' : {e}");
                report.push(Code::Unreadable, Severity::Error, None, text);
            }
        }
    }
    let mut model = haproxy::parse(&files, src, args, &mut report);
    if let Some(n) = args.maxconn {
        model.global.maxconn = Some(n);
    }
    model.vrrp.fault_strict = model.global.fault_strict;
    Vmac::name_all(&mut model.vrrp.instances, "vrrp", "vrrp");
    for (_, text) in model.vrrp.drop_undefined_groups() {
        report.push(Code::UnknownTracked, Severity::Error, None, text);
    }
    if let Some(k) = &args.keepalived {
        if !model.vrrp.instances.is_empty() {
            report.push(
                Code::TwoSources,
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
        let (vrrp, mut servers) = keepalived::load(k, src, &manner, &mut report);
        model.vrrp = vrrp;
        haproxy::number_behind(&model, &mut servers);
        model.proxies.extend(servers.into_iter().map(Box::new));
    }
    together::check(&model, !args.haproxy.is_empty(), &mut report);
    if !args.haproxy.is_empty() && args.no_verify {
        let text = "servers' certificates are not verified (-dV)";
        report.push(Code::Remark, Severity::Notice, None, text);
    }
    // Advice that HAProxy does not give is none that its files could have heeded.
    let counts = |d: &Diag| d.severity == Severity::Warning && !together::ADVICE.contains(&d.code);
    let strict = (model.global.zero_warning || args.zero_warning) && args.changes.is_empty();
    if strict && report.diags.iter().any(counts) {
        let text = "there are warnings, and 'zero-warning' (or '-dW') is set: mend them, or remove it";
        report.push(Code::ZeroWarning, Severity::Error, None, text);
    }
    (model, report)
}

/// Virtual addresses of the node: listeners on them are bound although they are not there yet.
pub fn vips(m: &Model) -> Vec<IpAddr> {
    m.vrrp.instances.iter().flat_map(|i| i.addresses()).map(|v| v.addr.addr).collect()
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
    fn a_later_httpchk_brings_its_host() {
        use crate::health::script::{Act, Send};
        let (m, _) =
            run("defaults\n timeout client 1s\nbackend b\n option httpchk\n option httpchk GET /x HTTP/1.1 www\n");
        let script = &m.proxies[0].script;
        assert!(script.http && matches!(&script.steps[1].act, Act::Send(Send::Http(h)) if h.headers.len() == 1));
    }

    #[test]
    fn rules_and_the_work_for_regular_expressions_are_bounded() {
        let much = |line: &str, times: usize| {
            let text = format!("defaults\n timeout client 1s\nfrontend f\n bind :1\n{}", line.repeat(times));
            run(&text).1.diags.iter().any(|d| d.code == Code::TooMuch)
        };
        assert!(much(" acl a path_reg ^/(a|b){1,50}$\n", 2000));
        assert!(!much(" acl a path_reg ^/(a|b)$\n", 2000));
        assert!(much(" acl a path /x\n", 200_001));
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
