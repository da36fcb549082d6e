//! The statistics page: access, CSV, administration and the table for people.
use super::stats::{self, Kind, Row};
use crate::health::verdict::{Office, ServerAct};
use crate::proxy::{ServiceReply, StatsRequest};
use crate::state::live::{Live, lock};
use crate::state::snapshot::ProxyNode;
use std::fmt::Write as _;

pub fn answer(r: &StatsRequest<'_>, live: &Live) -> ServiceReply {
    let Some(p) = r.snapshot.proxy(r.proxy) else { return plain(404, "text/plain", String::new()) };
    let conf = &p.conf.stats;
    if !conf.auth.is_empty() && !authorised(r.authorization, &conf.auth) {
        let realm = conf.realm.as_deref().unwrap_or("HAProxy Statistics");
        let mut reply = plain(401, "text/html", "<html><body><h1>401 Unauthorized</h1>\nYou need a valid user and password to access this content.\n</body></html>\n".into());
        reply.headers.push(("www-authenticate", format!("Basic realm=\"{realm}\"")));
        return reply;
    }
    let target = String::from_utf8_lossy(r.target).into_owned();
    let options: Vec<&str> = target.split(';').skip(1).collect();
    if r.method == b"POST" {
        return administrate(r, live);
    }
    let mut reply = if options.contains(&"csv") {
        let mut out = format!("# {},\n", stats::COLUMNS.join(","));
        stats::rows(r.snapshot).iter().filter(|row| in_scope(row, p, conf)).for_each(|row| row.csv(&mut out));
        plain(200, "text/plain", out)
    } else if options.contains(&"json") {
        let rows: Vec<serde_json::Value> = stats::rows(r.snapshot)
            .iter()
            .filter(|row| in_scope(row, p, conf))
            .map(|row| {
                serde_json::Value::Object(
                    stats::COLUMNS
                        .iter()
                        .filter(|c| !row.get(c).is_empty())
                        .map(|c| ((*c).to_owned(), row.get(c).into()))
                        .collect(),
                )
            })
            .collect();
        plain(200, "application/json", serde_json::Value::Array(rows).to_string())
    } else {
        plain(200, "text/html", html(r, p, live))
    };
    if let Some(every) = conf.refresh.filter(|_| !options.contains(&"norefresh")) {
        reply.headers.push(("refresh", every.as_secs().to_string()));
    }
    reply
}

fn plain(status: u16, kind: &str, body: String) -> ServiceReply {
    ServiceReply {
        status,
        headers: vec![("cache-control", "no-cache".into()), ("content-type", kind.into())],
        body: body.into_bytes(),
    }
}

fn in_scope(row: &Row, p: &ProxyNode, conf: &crate::config::model::StatsUri) -> bool {
    conf.scope.is_empty() || conf.scope.iter().any(|s| *s == row.proxy || s == "." && row.proxy == p.conf.name)
}

/// Basic authentication (RFC 7617) against `stats auth`.
fn authorised(header: Option<&[u8]>, users: &[(String, String)]) -> bool {
    let Some(text) = header.and_then(|h| std::str::from_utf8(h).ok()) else { return false };
    let Some((scheme, code)) = text.split_once(' ') else { return false };
    let given = base64(code.trim());
    scheme.eq_ignore_ascii_case("basic")
        && given.is_some_and(|g| users.iter().any(|(u, p)| same(&g, format!("{u}:{p}").as_bytes())))
}

/// Takes the same time wherever the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |d, (x, y)| d | (x ^ y)) == 0
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut bits, mut n) = (0u32, 0);
    for c in text.bytes().filter(|c| *c != b'=') {
        let v = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(v);
        n += 6;
        if n >= 8 {
            n -= 8;
            out.push(u8::try_from(bits >> n & 0xff).ok()?);
        }
    }
    Some(out)
}

/// The form of the page: `s` servers, `action`, `b` backend.
fn administrate(r: &StatsRequest<'_>, live: &Live) -> ServiceReply {
    let path = String::from_utf8_lossy(r.target).split(';').next().unwrap_or_default().to_owned();
    let back = |code: &str| ServiceReply {
        status: 303,
        headers: vec![("cache-control", "no-cache".into()), ("location", format!("{path};st={code}"))],
        body: Vec::new(),
    };
    if !r.admin {
        return back("DENY");
    }
    let form = String::from_utf8_lossy(r.body).into_owned();
    let value = |k: &str| {
        form.split('&')
            .filter_map(|f| f.split_once('='))
            .filter(|(n, _)| *n == k)
            .map(|(_, v)| unescape(v))
            .collect::<Vec<_>>()
    };
    let (servers, backend, action) =
        (value("s"), value("b").pop().unwrap_or_default(), value("action").pop().unwrap_or_default());
    let act = match action.as_str() {
        "ready" | "enable" => ServerAct::Ready,
        "drain" => ServerAct::Drain,
        "maint" | "disable" => ServerAct::Maint,
        "hrunn" => ServerAct::Health(true),
        "hdown" => ServerAct::Health(false),
        "shutdown" => ServerAct::ShutdownSessions,
        _ => return back("UNKN"),
    };
    let by_id = backend.strip_prefix('#').and_then(|n| n.parse::<u32>().ok());
    let Some(be) =
        r.snapshot.proxies.iter().find(|b| b.conf.is_backend() && (b.conf.name == backend || Some(b.iid) == by_id))
    else {
        return back("ERRP");
    };
    let mut done = 0;
    for n in be.servers.iter().filter(|n| servers.contains(&n.conf.name)) {
        Office { snapshot: r.snapshot, live }.operate(be, n, &act);
        done += 1;
    }
    back(if done == 0 { "NONE" } else { "DONE" })
}

fn unescape(v: &str) -> String {
    let mut out = Vec::new();
    let b = v.as_bytes();
    let mut i = 0;
    while i < b.len() {
        match b[i] {
            b'+' => out.push(b' '),
            b'%' => match v.get(i + 1..i + 3).and_then(|h| u8::from_str_radix(h, 16).ok()) {
                Some(c) => {
                    out.push(c);
                    i += 2;
                }
                None => out.push(b'%'),
            },
            c => out.push(c),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn escape(t: &str) -> String {
    t.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = "body{font:13px/1.4 system-ui,sans-serif;margin:1.5em;color:#1a1a1a}h1{font-size:1.3em}table{border-collapse:collapse;margin:0 0 1.5em}\
caption{text-align:left;font-weight:600;padding:.3em 0}th,td{border:1px solid #ccc;padding:.15em .5em;text-align:right}th{background:#eee}td:first-child,th:first-child{text-align:left}\
.up{background:#dff5dc}.down{background:#fadcd9}.maint{background:#eee}.drain{background:#fdf1cf}.total{font-weight:600;background:#f5f5f5}";

fn html(r: &StatsRequest<'_>, p: &ProxyNode, live: &Live) -> String {
    let conf = &p.conf.stats;
    let mut o = String::from(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Statistics Report for Tandem</title><style>",
    );
    o.push_str(STYLE);
    o.push_str("</style></head><body><h1>");
    o.push_str(if conf.hide_version { "Tandem" } else { concat!("Tandem ", env!("CARGO_PKG_VERSION")) });
    // Writing to a String cannot fail.
    let _ = write!(
        o,
        "</h1><p>Statistics of process {}, {} threads, up {} s, {} connections now, {} requests.",
        std::process::id(),
        live.threads,
        live.started.elapsed().as_secs(),
        live.conns.get(),
        live.total_requests.load(std::sync::atomic::Ordering::Relaxed)
    );
    if let Some(n) = &conf.show_node {
        let name =
            if n.is_empty() { r.snapshot.global.node.as_deref().unwrap_or(&r.snapshot.global.localpeer) } else { n };
        let _ = write!(o, " Node {}.", escape(name));
    }
    if let Some(d) = conf.show_desc.as_ref().filter(|d| !d.is_empty()).or(r.snapshot.global.description.as_ref()) {
        let _ = write!(o, " {}", escape(d));
    }
    o.push_str("</p>");
    let vrrp = lock(&live.vrrp);
    if !vrrp.is_empty() {
        o.push_str("<table><caption>Virtual routers</caption><tr><th>Name</th><th>State</th><th>Priority</th><th>Addresses</th><th>Cause</th></tr>");
        for v in vrrp.iter() {
            let _ = write!(
                o,
                "<tr class=\"{}\"><td>{}</td><td>{}</td><td>{}/{}</td><td>{}</td><td>{}</td></tr>",
                if v.state == "MASTER" { "up" } else { "" },
                escape(&v.name),
                v.state,
                v.effective,
                v.priority,
                escape(&v.vips.join(" ")),
                escape(&v.cause)
            );
        }
        o.push_str("</table>");
    }
    drop(vrrp);
    let mut current = String::new();
    let rows = stats::rows(r.snapshot);
    for row in rows.iter().filter(|row| in_scope(row, p, conf)) {
        if row.proxy != current {
            if !current.is_empty() {
                o.push_str("</table>");
                close_form(&mut o, r.admin);
            }
            current.clone_from(&row.proxy);
            if r.admin {
                let _ = write!(
                    o,
                    "<form method=\"post\"><input type=\"hidden\" name=\"b\" value=\"{}\">",
                    escape(&current)
                );
            }
            let _ = write!(o, "<table><caption>{}</caption><tr>", escape(&current));
            for h in [
                "",
                "Queue",
                "Max",
                "Rate",
                "Max",
                "Sessions",
                "Max",
                "Limit",
                "Total",
                "Bytes in",
                "Bytes out",
                "Denied",
                "Errors",
                "Retries",
                "Status",
                "Check",
                "Weight",
                "Act",
                "Bck",
                "Down",
                "2xx",
                "4xx",
                "5xx",
            ] {
                let _ = write!(o, "<th>{h}</th>");
            }
            o.push_str("</tr>");
        }
        let status = row.get("status");
        let class = match (row.kind, status.split(' ').next().unwrap_or_default()) {
            (Kind::Backend | Kind::Frontend, "UP" | "OPEN") => "total",
            (_, "UP" | "OPEN") => "up",
            (_, "DOWN" | "STOP") => "down",
            (_, "MAINT") => "maint",
            (_, "DRAIN") => "drain",
            _ => "",
        };
        let name = if row.kind == Kind::Server && r.admin {
            format!("<label><input type=\"checkbox\" name=\"s\" value=\"{0}\"> {0}</label>", escape(&row.name))
        } else {
            escape(&row.name)
        };
        let _ = write!(o, "<tr class=\"{class}\"><td>{name}</td>");
        for f in
            ["qcur", "qmax", "rate", "rate_max", "scur", "smax", "slim", "stot", "bin", "bout", "dreq", "econ", "wretr"]
        {
            let _ = write!(o, "<td>{}</td>", row.get(f));
        }
        let _ = write!(o, "<td>{}</td><td>{} {}</td>", escape(status), row.get("check_status"), row.get("check_code"));
        for f in ["weight", "act", "bck", "downtime", "hrsp_2xx", "hrsp_4xx", "hrsp_5xx"] {
            let _ = write!(o, "<td>{}</td>", row.get(f));
        }
        o.push_str("</tr>");
    }
    if !current.is_empty() {
        o.push_str("</table>");
        close_form(&mut o, r.admin);
    }
    o.push_str("</body></html>\n");
    o
}

fn close_form(o: &mut String, admin: bool) {
    if admin {
        o.push_str("<p><select name=\"action\"><option value=\"ready\">Set state to READY</option><option value=\"drain\">Set state to DRAIN</option><option value=\"maint\">Set state to MAINT</option><option value=\"hdown\">Health: force DOWN</option><option value=\"hrunn\">Health: force UP</option></select> <button>Apply</button></p></form>");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn basic_credentials() {
        let users = [("admin".to_owned(), "s:ecret".to_owned())];
        assert!(super::authorised(Some(b"Basic YWRtaW46czplY3JldA=="), &users));
        assert!(!super::authorised(Some(b"Basic YWRtaW46"), &users));
        assert!(!super::authorised(None, &users));
        assert_eq!(super::unescape("a%2Fb+c%"), "a/b c%");
    }
}
