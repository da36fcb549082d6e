//! `global_defs`, and the blocks beside it that are about interfaces.
use super::Cx;
use crate::base::code::Code;
use crate::config::keepalived::include::Checks;
use crate::config::keepalived::parse::Node;
use crate::config::model::{Debounce, Fifo, MailConf, PaceGroup, ScriptCall, VrrpModel, VrrpVersion};
use std::net::SocketAddr;
use std::time::Duration;

/// The port of mail servers, and how long one may take to answer.
const SMTP: u16 = 25;
const SMTP_TIMEOUT: Duration = Duration::from_secs(30);

/// `global_defs { ... }`
pub(super) fn read(cx: &mut Cx<'_>, block: &Node, m: &mut VrrpModel) {
    let secs = |n: Option<u32>| n.map(|n| Duration::from_secs(n.into()));
    for n in block.block.iter().flatten() {
        let Some(head) = n.words.first() else { continue };
        match head.as_str() {
            "router_id" if n.words.len() < 2 => {
                cx.lenient(Code::Lenient, &n.place, "'router_id' has no name; it is ignored".into())
            }
            "script_user" if n.words.get(1).is_none_or(String::is_empty) => {
                cx.lenient(Code::Lenient, &n.place, "'script_user' has no user; it is ignored".into())
            }
            "router_id" => m.router_id = cx.value(n).unwrap_or_default().to_owned(),
            "vrrp_version" => cx.globals.version = version(cx, n),
            "script_user" => {
                let group = n.words.get(2).filter(|g| !g.is_empty()).cloned();
                m.script_user = cx.value(n).map(|u| (u.to_owned(), group));
            }
            "vrrp_garp_master_delay" => {
                cx.globals.garp.delay = secs(cx.number(n, 0, 86_400)).unwrap_or(cx.globals.garp.delay)
            }
            "vrrp_garp_master_repeat" => {
                cx.globals.garp.repeat = cx.repeat(n, 5);
                cx.globals.garp.lower_prio_repeat = cx.globals.garp.repeat;
            }
            "vrrp_garp_master_refresh" => {
                cx.globals.garp.refresh = secs(cx.number(n, 0, 86_400)).filter(|d| !d.is_zero())
            }
            "vrrp_garp_master_refresh_repeat" => cx.globals.garp.refresh_repeat = cx.repeat(n, 1),
            "vrrp_garp_lower_prio_repeat" => {
                cx.globals.garp.lower_prio_repeat = cx.number(n, 0u32, u32::MAX).unwrap_or(5)
            }
            "vrrp_garp_lower_prio_delay" => {
                cx.globals.garp.lower_prio_delay = secs(cx.number(n, 0, 86_400)).unwrap_or_default()
            }
            "vrrp_check_unicast_src" => cx.globals.check_unicast_src = cx.flag(n),
            "dynamic_interfaces" => {
                m.dynamic_interfaces = true;
                if let Some(o) = n.words.get(1).filter(|o| *o != "allow_if_changes") {
                    let text = format!("'dynamic_interfaces' knows 'allow_if_changes' only, not '{o}'");
                    cx.lenient(Code::Value, &n.place, text);
                }
            }
            "enable_script_security" => m.script_security = true,
            "vrrp_skip_check_adv_addr" => cx.globals.skip_addr_check = cx.flag(n),
            "notification_email" => {
                let to: Vec<String> = cx.lines(n).map(|l| l.words[0].clone()).collect();
                if to.is_empty() {
                    cx.lenient(Code::Lenient, &n.place, "'notification_email' names nobody".to_owned());
                }
                cx.globals.alerts.to.extend(to);
            }
            "notification_email_from" => match n.words.get(1) {
                Some(from) => cx.globals.alerts.from = Some(from.clone()),
                None => {
                    cx.lenient(Code::Lenient, &n.place, "'notification_email_from' is missing its value".to_owned())
                }
            },
            "smtp_helo_name" => cx.globals.alerts.helo = cx.value(n).map(str::to_owned),
            "smtp_connect_timeout" => cx.globals.alerts.timeout = cx.seconds(n, 1.0, 4294.0),
            "smtp_server" => cx.globals.alerts.server = smtp_server(cx, n),
            "smtp_alert" => cx.globals.alerts.all = Some(cx.flag(n)),
            "smtp_alert_vrrp" => cx.globals.alerts.vrrp = Some(cx.flag(n)),
            "smtp_alert_checker" => cx.globals.alerts.checker = Some(cx.flag(n)),
            "vmac_prefix" => {
                if let Some(p) = prefix(cx, n) {
                    cx.globals.vmac_prefix = p;
                }
            }
            "default_interface" => {
                if let Some(name) = cx.value(n) {
                    cx.globals.default_interface = name.to_owned();
                }
            }
            "include_check" => {
                for w in Checks::default().say(&n.words[1..]) {
                    let text =
                        format!("'include_check {w}' : readable, match, wildcard_match and brace_match are known");
                    cx.lenient(Code::Value, &n.place, text);
                }
            }
            "disable_local_igmp" => m.no_local_igmp = true,
            "no_email_faults" => m.no_fault_mail = true,
            "fifo_write_vrrp_states_on_reload" => m.lines_on_reload = true,
            "startup_script" => m.at_start.script = script(cx, n),
            "shutdown_script" => m.at_end.script = script(cx, n),
            "startup_script_timeout" => m.at_start.timeout = secs(cx.number(n, 1, 1000)),
            "shutdown_script_timeout" => m.at_end.timeout = secs(cx.number(n, 1, 1000)),
            "vmac_addr_prefix" => cx.globals.vmac_addr_prefix = prefix(cx, n).or(cx.globals.vmac_addr_prefix.take()),
            "vrrp_strict" => cx.globals.strict = cx.flag(n),
            "v3_checksum_as_v2" => cx.globals.checksum_v2 = cx.flag(n),
            "vrrp_down_timer_adverts" => cx.globals.down_adverts = cx.number(n, 1, 100),
            "vrrp_lower_prio_no_advert" => cx.globals.quiet_to_lower = Some(cx.flag(n)),
            "vrrp_higher_prio_send_advert" => cx.globals.answers_higher = cx.flag(n),
            "vrrp_owner_ignore_adverts" => cx.globals.owner_deaf = cx.flag(n),
            "vrrp_notify_priority_changes" => cx.globals.priority_changes = cx.flag(n),
            "vrrp_startup_delay" => m.startup_delay = cx.seconds(n, 0.001, 4_294_967.0).unwrap_or_default(),
            "vrrp_delay_after_boot" => m.delay_after_boot = cx.seconds(n, 0.001, 4_294_967.0).unwrap_or_default(),
            "vrrp_garp_interval" => m.pace.arp = cx.seconds(n, 0.000_001, 4_294.967_295).unwrap_or_default(),
            "vrrp_gna_interval" => m.pace.na = cx.seconds(n, 0.000_001, 4_294.967_295).unwrap_or_default(),
            "vrrp_min_garp" => {
                if cx.flag(n) {
                    let g = &mut cx.globals.garp;
                    (g.repeat, g.lower_prio_repeat, g.refresh_repeat) = (1, 1, 1);
                    (g.delay, g.lower_prio_delay) = (Duration::ZERO, Duration::ZERO);
                }
            }
            "vrrp_garp_extra_if" | "vrrp_vmac_garp_intvl" => cx.globals.garp.extra = extra(cx, n),
            "vrrp_mcast_group4" => m.group4 = group(cx, n, |a: &std::net::Ipv4Addr| a.is_multicast()),
            "vrrp_mcast_group6" => m.group6 = group(cx, n, |a: &std::net::Ipv6Addr| a.is_multicast()),
            "notify_fifo" | "vrrp_notify_fifo" => fifo(cx, n, m),
            "notify_fifo_script" | "vrrp_notify_fifo_script" => fifo_script(cx, n, m),
            "state_dump_file" => m.dumps.state = cx.value(n).map(str::to_owned),
            "stats_dump_file" => m.dumps.stats = cx.value(n).map(str::to_owned),
            "json_dump_file" => m.dumps.json = cx.value(n).map(str::to_owned),
            "json_version" => m.dumps.json2 = cx.number(n, 1u8, 2) == Some(2),
            _ => cx.unknown(n, "global_defs"),
        }
    }
    for s in [&mut m.at_start, &mut m.at_end] {
        s.timeout = s.timeout.filter(|_| s.script.is_some());
    }
}

/// `startup_script <command> [user [group]]`
fn script(cx: &mut Cx<'_>, n: &Node) -> Option<ScriptCall> {
    let user = n.words.get(2).map(|u| (u.clone(), n.words.get(3).filter(|g| !g.is_empty()).cloned()));
    Some(ScriptCall { command: cx.value(n)?.to_owned(), user })
}

/// The beginning of names of interfaces.
fn prefix(cx: &mut Cx<'_>, n: &Node) -> Option<String> {
    let p = cx.value(n)?.to_owned();
    if p.len() < 10 {
        return Some(p);
    }
    let text = format!("'{} {p}' leaves no room for a number in the name of an interface; it is left out", n.words[0]);
    cx.lenient(Code::Value, &n.place, text);
    None
}

/// `smtp_server <address>|<name> [<port>]`
fn smtp_server(cx: &mut Cx<'_>, n: &Node) -> Option<SocketAddr> {
    let name = cx.value(n)?.to_owned();
    let port = match n.words.get(2) {
        None => SMTP,
        Some(p) => match p.parse::<u16>() {
            Ok(p) if p > 0 => p,
            _ => {
                let text = format!("'smtp_server' : '{p}' is not a port: a number from 1 to 65535; {SMTP} is used");
                cx.lenient(Code::Number, &n.place, text);
                SMTP
            }
        },
    };
    let ip = name.parse().ok().or_else(|| cx.source.resolve(&name).first().copied());
    if ip.is_none() {
        cx.lenient(
            Code::Lenient,
            &n.place,
            format!("'smtp_server {name}' is neither an IP address nor a known name; no mail is sent"),
        );
    }
    Some(SocketAddr::new(ip?, port))
}

/// Where alerts go, if enough is said. `host`: this host's name.
pub(super) fn mail(cx: &mut Cx<'_>, host: &str, router_id: &str) -> Option<MailConf> {
    let a = std::mem::take(&mut cx.globals.alerts);
    let conf = a.server.filter(|_| !a.to.is_empty()).map(|server| MailConf {
        server,
        from: a.from.clone().unwrap_or_else(|| format!("keepalived@{host}")),
        to: a.to.clone(),
        helo: a
            .helo
            .clone()
            .unwrap_or_else(|| if router_id.is_empty() { host.to_owned() } else { router_id.to_owned() }),
        timeout: a.timeout.unwrap_or(SMTP_TIMEOUT),
    });
    cx.globals.alerts = a;
    conf
}

pub(super) fn version(cx: &mut Cx<'_>, n: &Node) -> Option<VrrpVersion> {
    Some(if cx.number(n, 2u8, 3)? == 2 { VrrpVersion::V2 } else { VrrpVersion::V3 })
}

/// A multicast group of one family.
fn group<A: std::str::FromStr>(cx: &mut Cx<'_>, n: &Node, fits: impl Fn(&A) -> bool) -> Option<A> {
    let found = cx.value(n)?.parse().ok().filter(fits);
    if found.is_none() {
        let text = format!(
            "'{}' : '{}' is no multicast address of its family; the usual group is used",
            n.words[0], n.words[1]
        );
        cx.lenient(Code::Value, &n.place, text);
    }
    found
}

/// `[all] <seconds>`; 0 is off.
pub(super) fn extra(cx: &mut Cx<'_>, n: &Node) -> Option<(Duration, bool)> {
    if n.words[0].ends_with("vmac_garp_intvl") {
        let text = format!("'{}' is an old word; say 'garp_extra_if'", n.words[0]);
        cx.lenient(Code::OldWord, &n.place, text);
    }
    let all = n.words.get(1).is_some_and(|w| w == "all");
    let at = usize::from(all) + 1;
    match n.words.get(at).map(|w| w.parse::<u32>()) {
        Some(Ok(secs)) if secs <= 86_400 => (secs > 0).then(|| (Duration::from_secs(secs.into()), all)),
        _ => {
            let text = format!("'{}' expects [all] and a number from 0 to 86400", n.words[0]);
            cx.lenient(Code::Value, &n.place, text);
            None
        }
    }
}

/// `notify_fifo <path> [user [group]]`: the general one and VRRP's own both get every line of a router.
fn fifo(cx: &mut Cx<'_>, n: &Node, m: &mut VrrpModel) {
    let Some(path) = cx.value(n).map(str::to_owned) else { return };
    let user = n.words.get(2).map(|u| (u.clone(), n.words.get(3).filter(|g| !g.is_empty()).cloned()));
    if m.fifos.iter().any(|f| f.path == path) {
        let text = format!("'{}' : '{path}' is named twice; each needs a FIFO of its own", n.words[0]);
        return cx.lenient(Code::Duplicate, &n.place, text);
    }
    m.fifos.push(Fifo { path, user, script: None });
}

fn fifo_script(cx: &mut Cx<'_>, n: &Node, m: &mut VrrpModel) {
    let Some(command) = cx.value(n).map(str::to_owned) else { return };
    match m.fifos.last_mut() {
        Some(f) => {
            f.script = Some(ScriptCall {
                command,
                user: n.words.get(2).map(|u| (u.clone(), n.words.get(3).filter(|g| !g.is_empty()).cloned())),
            })
        }
        None => cx.lenient(
            Code::Missing,
            &n.place,
            format!("'{}' stands in front of its FIFO; write it behind", n.words[0]),
        ),
    }
}

/// `garp_group { ... }`
pub(super) fn pace_group(cx: &mut Cx<'_>, block: &Node, m: &mut VrrpModel) {
    let mut g = PaceGroup::default();
    for n in block.block.iter().flatten() {
        let Some(head) = n.words.first() else { continue };
        match head.as_str() {
            "garp_interval" => g.arp = cx.seconds(n, 0.000_001, 4_294.967_295).unwrap_or_default(),
            "gna_interval" => g.na = cx.seconds(n, 0.000_001, 4_294.967_295).unwrap_or_default(),
            "interface" => g.interfaces.extend(cx.value(n).map(str::to_owned)),
            "interfaces" => {
                let all: Vec<String> = cx.lines(n).flat_map(|l| l.words.clone()).collect();
                g.interfaces.extend(all);
            }
            _ => cx.unknown(n, "garp_group"),
        }
    }
    if g.arp.is_zero() && g.na.is_zero() {
        let text = "'garp_group' has no interval: it is left out, as keepalived does".to_owned();
        return cx.lenient(Code::Lenient, &block.place, text);
    }
    if g.interfaces.is_empty() {
        let text = "'garp_group' names no interface: it is left out".to_owned();
        return cx.report.notice(Code::NoEffect, &block.place, text);
    }
    m.pace.groups.push(g);
}

/// `interface_up_down_delays { <interface> <down> [<up>] ... }`
pub(super) fn debounce(cx: &mut Cx<'_>, block: &Node, m: &mut VrrpModel) {
    for l in cx.lines(block) {
        let time = |w: Option<&String>| w.and_then(|w| w.parse::<f64>().ok()).filter(|s| (0.0..=255.0).contains(s));
        if l.words.len() < 2 {
            let text = format!("'{}' has no delay: it is left out", l.words[0]);
            cx.report.notice(Code::NoEffect, &l.place, text);
            continue;
        }
        let down = time(l.words.get(1));
        let up = if l.words.len() > 2 { time(l.words.get(2)) } else { down };
        match (down, up) {
            (Some(down), Some(up)) => {
                let (down, up) = (Duration::from_secs_f64(down), Duration::from_secs_f64(up));
                m.debounce.retain(|d| d.interface != l.words[0]);
                m.debounce.push(Debounce { interface: l.words[0].clone(), down, up });
            }
            _ => {
                let text = format!(
                    "'{}' expects a delay for going down, and may have one for coming up, from 0 to 255 seconds",
                    l.words[0]
                );
                cx.lenient(Code::Value, &l.place, text);
            }
        }
    }
}
