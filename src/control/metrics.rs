//! The Prometheus exporter: HAProxy's names from the statistics rows, and our own under `tandem_`.
use super::names::METRICS;
use super::stats::{self, Kind, Row};
use crate::state::live::{Live, lock};
use crate::state::snapshot::Snapshot;
use crate::vrrp::view::VrrpView;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};
use std::sync::atomic::Ordering::Relaxed;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Process,
    Frontend,
    Listener,
    Backend,
    Server,
}

const CODES: [(&str, &str); 6] = [
    ("1xx", "hrsp_1xx"),
    ("2xx", "hrsp_2xx"),
    ("3xx", "hrsp_3xx"),
    ("4xx", "hrsp_4xx"),
    ("5xx", "hrsp_5xx"),
    ("other", "hrsp_other"),
];
const CHECKS: [&str; 16] = [
    "HANA", "SOCKERR", "L4OK", "L4TOUT", "L4CON", "L6OK", "L6TOUT", "L6RSP", "L7TOUT", "L7RSP", "L7OK", "L7OKC",
    "L7STS", "PROCERR", "PROCTOUT", "PROCOK",
];
const SERVER_STATES: [&str; 5] = ["DOWN", "UP", "MAINT", "DRAIN", "NOLB"];

/// What a scrape asked for: `scope=` (repeatable) and `no-maint`.
fn wanted(query: &str) -> (Vec<Scope>, bool) {
    let mut scopes = Vec::new();
    let mut no_maint = false;
    for part in query.split('&') {
        match part.split_once('=').unwrap_or((part, "")) {
            ("scope", "global") => scopes.push(Scope::Process),
            ("scope", "frontend") => scopes.push(Scope::Frontend),
            ("scope", "listener") => scopes.push(Scope::Listener),
            ("scope", "backend") => scopes.push(Scope::Backend),
            ("scope", "server") => scopes.push(Scope::Server),
            ("scope", "*") => {
                scopes.extend([Scope::Process, Scope::Frontend, Scope::Listener, Scope::Backend, Scope::Server])
            }
            ("no-maint", _) => no_maint = true,
            _ => {}
        }
    }
    if scopes.is_empty() {
        scopes = vec![Scope::Process, Scope::Frontend, Scope::Listener, Scope::Backend, Scope::Server];
    }
    (scopes, no_maint)
}

pub fn render(s: &Snapshot, live: &Live, query: &str) -> Vec<u8> {
    let (scopes, no_maint) = wanted(query);
    let rows = stats::rows(s);
    let info = stats::info(s, live);
    let mut families = Vec::new();
    for (name, counter, scope, field, millis) in METRICS {
        if !scopes.contains(scope) {
            continue;
        }
        let mut metrics = Vec::new();
        if *scope == Scope::Process {
            let value = info.iter().find(|i| i.0 == *field).and_then(|i| i.1.parse::<f64>().ok());
            metrics.extend(value.map(|v| metric(Vec::new(), v, *counter)));
        } else {
            for r in rows.iter().filter(|r| scope_of(r.kind) == *scope && !(no_maint && r.get("status") == "MAINT")) {
                values(field, *millis, *counter, r, &mut metrics);
            }
        }
        push(&mut families, name, *counter, metrics);
    }
    own(live, &mut families);
    let mut out = Vec::new();
    // Families without a metric were left out above, which is the only thing encoding refuses.
    let _ = TextEncoder::new().encode(&families, &mut out);
    out
}

fn scope_of(k: Kind) -> Scope {
    match k {
        Kind::Frontend => Scope::Frontend,
        Kind::Backend => Scope::Backend,
        Kind::Server => Scope::Server,
        Kind::Listener => Scope::Listener,
    }
}

fn labels(r: &Row) -> Vec<LabelPair> {
    let mut l = vec![label("proxy", &r.proxy)];
    match r.kind {
        Kind::Server => l.push(label("server", &r.name)),
        Kind::Listener => l.push(label("listener", &r.name)),
        Kind::Frontend | Kind::Backend => {}
    }
    l
}

fn values(field: &str, millis: bool, counter: bool, r: &Row, out: &mut Vec<Metric>) {
    let mut states = |all: &[&str], is: &dyn Fn(&str) -> f64| {
        for s in all {
            let mut l = labels(r);
            l.push(label("state", s));
            out.push(metric(l, is(s), counter));
        }
    };
    let flag = |b: bool| if b { 1.0 } else { 0.0 };
    match field {
        "status" => {
            let status = r.get("status").split(' ').next().unwrap_or_default();
            match r.kind {
                Kind::Listener => states(&["WAITING", "OPEN", "FULL"], &|s| flag(s == "OPEN")),
                Kind::Server => states(&SERVER_STATES, &|s| flag(s == status || s == "UP" && status == "no")),
                _ => states(&["DOWN", "UP"], &|s| flag((s == "UP") == matches!(status, "UP" | "OPEN"))),
            }
        }
        "check_status" => states(&CHECKS, &|s| flag(r.get("check_status") == s)),
        "agg_server_status" | "agg_server_check_status" => states(&SERVER_STATES, &|_| 0.0),
        "agg_check_status" => states(&CHECKS, &|_| 0.0),
        "hrsp_1xx" => {
            for (code, f) in CODES {
                if let Ok(v) = r.get(f).parse() {
                    let mut l = labels(r);
                    l.push(label("code", code));
                    out.push(metric(l, v, counter));
                }
            }
        }
        f => {
            if let Ok(v) = r.get(f).parse::<f64>() {
                out.push(metric(labels(r), if millis { v / 1000.0 } else { v }, counter));
            }
        }
    }
}

/// What HAProxy has no name for.
fn own(live: &Live, out: &mut Vec<MetricFamily>) {
    let count = |v: &std::sync::atomic::AtomicU64| v.load(Relaxed).to_string().parse().unwrap_or(0.0);
    push(out, "tandem_reloads_total", true, vec![metric(Vec::new(), count(&live.reloads), true)]);
    push(out, "tandem_failed_reloads_total", true, vec![metric(Vec::new(), count(&live.failed_reloads), true)]);
    let views = lock(&live.vrrp).clone();
    let base =
        |v: &VrrpView| vec![label("iname", &v.name), label("intf", &v.interface), label("vrid", &v.vrid.to_string())];
    let each = |f: &dyn Fn(&VrrpView) -> f64, counter: bool| {
        views.iter().map(|v| metric(base(v), f(v), counter)).collect::<Vec<_>>()
    };
    let num = |n: u64| n.to_string().parse().unwrap_or(0.0);
    let mut states = Vec::new();
    for v in &views {
        for ip in &v.vips {
            let mut l = base(v);
            l.push(label("ip_address", ip));
            let state = match v.state.as_str() {
                "BACKUP" => 1.0,
                "MASTER" => 2.0,
                "FAULT" => 3.0,
                _ => 0.0,
            };
            states.push(metric(l, state, false));
        }
    }
    push(out, "keepalived_vrrp_state", false, states);
    push(out, "keepalived_advertisements_sent_total", true, each(&|v| num(v.sent), true));
    push(out, "keepalived_advertisements_received_total", true, each(&|v| num(v.received), true));
    push(out, "keepalived_become_master_total", true, each(&|v| num(v.became_master), true));
    push(out, "keepalived_release_master_total", true, each(&|v| num(v.released_master), true));
    push(out, "tandem_vrrp_effective_priority", false, each(&|v| f64::from(v.effective), false));
    push(out, "tandem_vrrp_able", false, each(&|v| if v.able { 1.0 } else { 0.0 }, false));
    let mut rejected = Vec::new();
    for v in &views {
        for (reason, n) in &v.rejected {
            let mut l = base(v);
            l.push(label("reason", reason));
            rejected.push(metric(l, num(*n), true));
        }
    }
    push(out, "tandem_vrrp_rejected_adverts_total", true, rejected);
}

fn label(n: &str, v: &str) -> LabelPair {
    let mut l = LabelPair::default();
    l.set_name(n.to_owned());
    l.set_value(v.to_owned());
    l
}

fn metric(labels: Vec<LabelPair>, v: f64, counter: bool) -> Metric {
    let mut m = Metric::from_label(labels);
    if counter {
        let mut c = Counter::default();
        c.set_value(v);
        m.set_counter(c);
    } else {
        let mut g = Gauge::default();
        g.set_value(v);
        m.set_gauge(g);
    }
    m
}

fn push(out: &mut Vec<MetricFamily>, name: &str, counter: bool, metrics: Vec<Metric>) {
    if metrics.is_empty() {
        return;
    }
    let mut f = MetricFamily::default();
    f.set_name(name.to_owned());
    // The name says it; the help only takes its words apart.
    f.set_help(name.split('_').skip(1).collect::<Vec<_>>().join(" "));
    f.set_field_type(if counter { MetricType::COUNTER } else { MetricType::GAUGE });
    f.set_metric(metrics);
    out.push(f);
}
