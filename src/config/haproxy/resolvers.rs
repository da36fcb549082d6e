//! `resolvers` sections (configuration manual 5.3.2).
use super::{Cx, sections};
use crate::base::addr::{Host, split_host_port};
use crate::base::code::Code;
use crate::base::units::TimeUnit;
use crate::config::model::Resolvers;
use std::net::SocketAddr;

/// What the lines of the section say; their shape was checked where every section's is.
pub fn line(cx: &mut Cx<'_>, r: &mut Resolvers, s: &mut sections::Open, w: &[String]) {
    let before = cx.report.count(crate::base::diag::Severity::Error);
    sections::line(cx, s, w);
    if cx.report.count(crate::base::diag::Severity::Error) > before {
        return;
    }
    match w[0].as_str() {
        "nameserver" => {
            let (Some(name), Some(addr)) = (w.get(1), w.get(2)) else { return };
            let plain = addr.strip_prefix("udp@").or(addr.strip_prefix("udp4@")).or(addr.strip_prefix("udp6@"));
            let (tcp, rest) = match (plain, addr.strip_prefix("tcp@")) {
                (_, Some(rest)) => (true, rest),
                (Some(rest), _) => (false, rest),
                _ => (false, addr.as_str()),
            };
            match split_host_port(rest) {
                Ok((Host::Ip(ip), port)) => {
                    let Some(port) = port.map_or(Some(53), |p| p.parse().ok()) else {
                        return cx.error_of(Code::Number, format!("'nameserver {name}' : '{addr}' has no port number"));
                    };
                    r.servers.push((name.clone(), SocketAddr::new(ip, port), tcp));
                }
                Ok(_) => cx.error(format!("'nameserver {name}' : '{addr}' is not an IP address with a port")),
                Err(e) => cx.error(format!("'nameserver {name}' : {e}")),
            }
        }
        "parse-resolv-conf" => {
            let Some(text) = cx.read("/etc/resolv.conf") else { return };
            for l in String::from_utf8_lossy(&text).lines() {
                let mut words = l.split_whitespace();
                if words.next() == Some("nameserver")
                    && let Some(ip) = words.next().and_then(|a| a.parse::<std::net::IpAddr>().ok())
                    && !r.servers.iter().any(|s| s.1.ip() == ip)
                {
                    r.servers.push((ip.to_string(), SocketAddr::new(ip, 53), false));
                }
            }
        }
        "hold" => {
            let Some(d) = cx.time(w, 2, TimeUnit::Millis) else { return };
            *match w[1].as_str() {
                "nx" => &mut r.hold_nx,
                "refused" => &mut r.hold_refused,
                "timeout" => &mut r.hold_timeout,
                "valid" => &mut r.hold_valid,
                "obsolete" => &mut r.hold_obsolete,
                _ => &mut r.hold_other,
            } = d;
        }
        "resolve_retries" => r.retries = cx.number(w, 1, "a number of tries").unwrap_or(r.retries),
        "timeout" => {
            let Some(d) = cx.time(w, 2, TimeUnit::Millis) else { return };
            *if w[1] == "retry" { &mut r.timeout_retry } else { &mut r.timeout_resolve } = d;
        }
        "accepted_payload_size" => r.payload = cx.number(w, 1, "a size in bytes").unwrap_or(r.payload),
        _ => {}
    }
}
