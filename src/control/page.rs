//! The statistics page: access, CSV, administration and the table for people.
use super::stats::{self, Hide, Kind, Row};
use super::typed::{self, Form};
use crate::health::verdict::{Office, ServerAct};
use crate::proxy::{ServiceReply, StatsRequest};
use crate::state::counters::Counter;
use crate::state::live::{Live, lock};
use crate::state::snapshot::{ProxyNode, ServerNode};
use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;

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
    let modifiers = target.strip_prefix(conf.uri()).unwrap_or(&target);
    let said = |word: &str| modifiers.contains(word);
    let hide = Hide { down: said(";up"), maint: said(";no-maint") };
    let scope = scope(&target);
    if r.method == b"POST" {
        return administrate(r, live, p, scope);
    }
    let in_scope = |name: &str| {
        let wanted = scope.is_none_or(|s| name.to_ascii_lowercase().contains(&s.to_ascii_lowercase()));
        wanted && is_listed(name, p, conf)
    };
    let table = stats::table(r.snapshot, hide, |row| in_scope(&row.proxy));
    let mut reply = if said(";json") {
        plain(200, "application/json", typed::stat(&table, Form::Json))
    } else if said(";typed") {
        plain(200, "text/plain", typed::stat(&table, Form::Typed))
    } else if said(";csv") {
        plain(200, "text/plain", stats::csv(&table))
    } else {
        plain(200, "text/html", html(r, p, live, &table))
    };
    if let Some(every) = conf.refresh.filter(|_| !said(";norefresh")) {
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

/// `stats scope`: proxy `p` shows only those that it lists.
fn is_listed(name: &str, p: &ProxyNode, conf: &crate::config::model::StatsUri) -> bool {
    conf.scope.is_empty() || conf.scope.iter().any(|s| s == name || s == "." && name == p.conf.name)
}

/// The part of a proxy's name that a request wants to see (`scope=`), at most twenty characters.
fn scope(target: &str) -> Option<&str> {
    let value = target.split_once("scope=")?.1;
    let value = value.split([';', '&', ' ']).next()?;
    let value = value.get(..20).unwrap_or(value);
    // A single last character is no name, as in the reference.
    let last = target.ends_with(value);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
    (value.len() > usize::from(last) && value.chars().all(plain)).then_some(value)
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
fn administrate(r: &StatsRequest<'_>, live: &Live, p: &ProxyNode, scope: Option<&str>) -> ServiceReply {
    let target = String::from_utf8_lossy(r.target);
    let kept: String = [";up", ";norefresh"].into_iter().filter(|w| target.contains(w)).collect();
    let scope = scope.map_or_else(String::new, |s| format!("?scope={s}"));
    let uri = p.conf.stats.uri();
    let back = |code: &str| ServiceReply {
        status: 303,
        headers: vec![
            ("cache-control", "no-cache".into()),
            ("content-type", "text/plain".into()),
            ("location", format!("{uri};st={code}{kept}{scope}")),
        ],
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
        "hnolb" => ServerAct::Stopping,
        "hdown" => ServerAct::Health(false),
        "ehlth" => ServerAct::EnableHealth(true),
        "dhlth" => ServerAct::EnableHealth(false),
        "eagent" => ServerAct::EnableAgent(true),
        "dagent" => ServerAct::EnableAgent(false),
        "arunn" => ServerAct::AgentSays(true),
        "adown" => ServerAct::AgentSays(false),
        "start" => ServerAct::Ready,
        "stop" => ServerAct::Drain,
        "shutdown" => ServerAct::ShutdownSessions,
        "" => return back("NONE"),
        _ => return back("ERRP"),
    };
    if backend.is_empty() {
        return back("NONE");
    }
    let by_id = backend.strip_prefix('#').and_then(|n| n.parse::<u32>().ok());
    let Some(be) =
        r.snapshot.proxies.iter().find(|b| b.conf.is_backend() && (b.conf.name == backend || Some(b.iid) == by_id))
    else {
        return back("ERRP");
    };
    if !is_listed(&be.conf.name, p, &p.conf.stats) {
        return back("DENY");
    }
    let can = |n: &ServerNode| match &act {
        ServerAct::EnableHealth(_) => n.conf.check,
        ServerAct::EnableAgent(_) => n.conf.agent.wanted,
        ServerAct::AgentSays(_) => n.conf.agent.wanted && n.live.agent.enabled.load(Relaxed),
        ServerAct::Health(_) | ServerAct::Stopping => n.conf.track.is_none(),
        _ => true,
    };
    let (mut done, mut unknown) = (0, 0);
    for name in &servers {
        match be.servers.iter().find(|n| n.conf.name == *name) {
            Some(n) if can(n) => {
                Office { snapshot: r.snapshot, live }.operate(be, n, &act);
                done += 1;
            }
            Some(_) => {}
            None => unknown += 1,
        }
    }
    back(match (done, unknown) {
        (0, 0) => "NONE",
        (0, _) => "ERRP",
        (_, 0) => "DONE",
        _ => "PART",
    })
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

fn html(r: &StatsRequest<'_>, p: &ProxyNode, live: &Live, rows: &[Row]) -> String {
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
        live.totals.get(Counter::Requests)
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
    // What came of an action that was asked for.
    let code = String::from_utf8_lossy(r.target).split_once(";st=").and_then(|t| t.1.get(..4).map(str::to_owned));
    if let Some(text) = code.as_deref().and_then(outcome) {
        let _ = write!(o, "<p class=\"total\">{text}</p>");
    }
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
    for row in rows {
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

/// The code that an action's redirection carries, in words.
fn outcome(code: &str) -> Option<&'static str> {
    Some(match code {
        "DONE" => "Action processed successfully.",
        "NONE" => "Nothing has changed.",
        "PART" => "Action partially processed. Some server names are unknown.",
        "ERRP" => "Action not processed: the action, the backend or a server is unknown.",
        "DENY" => "Action denied.",
        _ => return None,
    })
}

fn close_form(o: &mut String, admin: bool) {
    if admin {
        o.push_str("<p><select name=\"action\"><option value=\"ready\">Set state to READY</option><option value=\"drain\">Set state to DRAIN</option><option value=\"maint\">Set state to MAINT</option><option value=\"dhlth\">Health: disable checks</option><option value=\"ehlth\">Health: enable checks</option><option value=\"hrunn\">Health: force UP</option><option value=\"hnolb\">Health: force NOLB</option><option value=\"hdown\">Health: force DOWN</option><option value=\"dagent\">Agent: disable checks</option><option value=\"eagent\">Agent: enable checks</option><option value=\"arunn\">Agent: force UP</option><option value=\"adown\">Agent: force DOWN</option><option value=\"shutdown\">Kill sessions</option></select> <button>Apply</button></p></form>");
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
