//! What a configuration says against what this host has: interfaces, addresses, scripts.
use crate::base::addr::ListenAddr;
use crate::base::code::Code;
use crate::base::diag::{Report, Severity};
use crate::config::keepalived::build::place_of;
use crate::config::load::vips;
use crate::config::model::{Model, ScriptCall, TrackEntry, Tracked, VrrpModel};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// `vrrp`: the routers as they will run, with numbers for accounts. Scripts that are missing are taken out, as keepalived does; with `strict` that is
/// an error.
pub fn check(m: &Model, vrrp: &mut VrrpModel, strict: bool, report: &mut Report) {
    interfaces(m, report);
    listeners(m, report);
    let missing = scripts(m, vrrp, strict, report);
    let there = |t: &TrackEntry| t.kind != Tracked::Script || !missing.contains(&t.name);
    vrrp.scripts.retain(|s| !missing.contains(&s.name));
    vrrp.instances.iter_mut().for_each(|i| i.tracks.retain(there));
    vrrp.groups.iter_mut().for_each(|g| g.tracks.retain(there));
}

fn interfaces(m: &Model, report: &mut Report) {
    let here: HashMap<String, bool> = nix::ifaddrs::getifaddrs().map_or_else(
        |_| HashMap::new(),
        |all| all.map(|i| (i.interface_name, i.flags.contains(nix::net::if_::InterfaceFlags::IFF_LOOPBACK))).collect(),
    );
    // An alias is not in the list, and found by the kernel all the same.
    let missing = |name: &str| !here.contains_key(name) && nix::net::if_::if_nametoindex(name).is_err();
    for g in &m.vrrp.groups {
        for t in interfaces_of(&g.tracks).filter(|t| missing(t)) {
            let text = format!(
                "vrrp_sync_group '{}' tracks interface '{}', which is not on this host; correct the name, or create it first",
                g.name, t
            );
            report.push(Code::Interface, Severity::Error, None, text);
        }
    }
    let statics: HashSet<&String> = m.vrrp.statics.iter().filter_map(|v| v.dev.as_ref()).collect();
    for name in statics.into_iter().filter(|n| missing(n)) {
        let text =
            format!("static addresses : there is no interface '{name}' on this host; they are added when it comes");
        report.push(Code::Interface, Severity::Warning, None, text);
    }
    let routes = m.vrrp.instances.iter().flat_map(|i| &i.routes).chain(&m.vrrp.static_routes);
    let vrfs: HashSet<&String> = routes.filter_map(|r| r.vrf.as_ref()).collect();
    for name in vrfs.into_iter().filter(|n| missing(n)) {
        let text = format!("there is no VRF '{name}' on this host; its routes are added when it comes");
        report.push(Code::Interface, Severity::Warning, None, text);
    }
    for i in &m.vrrp.instances {
        if here.get(&i.interface) == Some(&true) {
            let text = format!(
                "virtual router '{}' : '{}' is a loopback interface, on which there are no peers",
                i.name, i.interface
            );
            report.warning(Code::Interface, &place_of(&i.place), text);
        }
        let names =
            std::iter::once(&i.interface).chain(interfaces_of(&i.tracks)).chain(i.addresses().filter_map(|v| {
                match &v.own_mac {
                    // That one is made.
                    Some(m) => Some(&m.base),
                    None => v.dev.as_ref(),
                }
            }));
        for name in names.filter(|n| !n.is_empty() && missing(n)) {
            if report.is_full() {
                return;
            }
            let place = place_of(&i.place);
            if m.vrrp.dynamic_interfaces {
                let text =
                    format!("virtual router '{}' : there is no interface '{name}' yet; it is waited for", i.name);
                report.notice(Code::Interface, &place, text);
            } else {
                let text = format!(
                    "virtual router '{}' : there is no interface '{name}' on this host; correct the name, create it first, or say 'dynamic_interfaces' if it comes later",
                    i.name
                );
                report.error(Code::Interface, &place, text);
            }
        }
    }
}

fn interfaces_of(tracks: &[TrackEntry]) -> impl Iterator<Item = &String> {
    tracks.iter().filter(|t| t.kind == Tracked::Interface).map(|t| &t.name)
}

/// Listeners on addresses that are neither here nor virtual: the kernel will not bind them.
fn listeners(m: &Model, report: &mut Report) {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return };
    let here: HashSet<IpAddr> = all
        .filter_map(|i| {
            let a = i.address?;
            let four = a.as_sockaddr_in().map(|s| IpAddr::V4(s.ip()));
            four.or_else(|| a.as_sockaddr_in6().map(|s| IpAddr::V6(s.ip())))
        })
        .collect();
    let virtual_ips: HashSet<IpAddr> = vips(m).into_iter().collect();
    // Who brings the address of a virtual server was never said there.
    for p in m.proxies.iter().filter(|p| p.is_frontend() && !p.disabled && p.virtual_server.is_none()) {
        for b in &p.binds {
            let ListenAddr::Inet { addr, .. } = &b.addr else { continue };
            let fine = addr.is_unspecified()
                || addr.is_loopback()
                || addr.is_multicast()
                || here.contains(addr)
                || virtual_ips.contains(addr);
            if !fine {
                let text = format!(
                    "'bind {}' : {addr} is neither an address of this host nor a virtual one: correct it, or add it to the virtual router that brings it",
                    b.addr
                );
                report.warning(Code::ForeignListener, &b.place, text);
            }
        }
    }
}

/// The names of the tracked scripts that cannot be run.
fn scripts(m: &Model, vrrp: &VrrpModel, strict: bool, report: &mut Report) -> HashSet<String> {
    let mut missing = HashSet::new();
    let root = |user: &Option<(String, Option<String>)>| {
        user.as_ref().or(vrrp.script_user.as_ref()).is_none_or(|u| u.0 == "0")
    };
    let mut told = |text: String, place: &str, code: Code| {
        // keepalived runs what is not safe all the same, unless 'enable_script_security' is given.
        let severity = match code {
            Code::ScriptUnsafe if !m.vrrp.script_security => Severity::Warning,
            Code::ScriptMissing if strict => Severity::Error,
            c => c.severity(),
        };
        report.push(code, severity, (!place.is_empty()).then(|| place_of(place)), text);
    };
    for s in vrrp.scripts.iter().filter(|s| !s.liveness) {
        let Some(path) = program(&s.command) else { continue };
        if let Some(why) = not_runnable(path) {
            let text = format!("vrrp_script '{}' : '{path}' {why}; it is not tracked, as in keepalived", s.name);
            told(text, &s.place, Code::ScriptMissing);
            missing.insert(s.name.clone());
        } else if let Some(who) = root(&s.user).then(|| unsafe_part(path)).flatten() {
            told(unsafe_text(&format!("vrrp_script '{}'", s.name), path, &who), &s.place, Code::ScriptUnsafe);
        }
    }
    for (name, script) in [("startup_script", &vrrp.at_start.script), ("shutdown_script", &vrrp.at_end.script)] {
        let Some(ScriptCall { command, user }) = script else { continue };
        let Some(path) = program(command) else { continue };
        if let Some(why) = not_runnable(path) {
            told(format!("{name} '{path}' {why}"), "", Code::ScriptMissing);
        } else if let Some(who) = root(user).then(|| unsafe_part(path)).flatten() {
            told(unsafe_text(name, path, &who), "", Code::ScriptUnsafe);
        }
    }
    let instances = vrrp.instances.iter().map(|i| (&i.name, i.place.as_str(), &i.notify));
    let groups = vrrp.groups.iter().map(|g| (&g.name, "", &g.notify));
    for (name, place, n) in instances.chain(groups) {
        for ScriptCall { command, user } in n.calls() {
            let Some(path) = program(command) else { continue };
            if let Some(why) = not_runnable(path) {
                told(format!("'{name}' : notify script '{path}' {why}"), place, Code::NotifyMissing);
            } else if let Some(who) = root(user).then(|| unsafe_part(path)).flatten() {
                told(unsafe_text(&format!("'{name}' : notify script"), path, &who), place, Code::ScriptUnsafe);
            }
        }
    }
    missing
}

/// The program that a command runs, where it can be told: a path, or a plain name.
fn program(command: &str) -> Option<&str> {
    let word = command.trim_start_matches('"').split(|c: char| c.is_whitespace() || c == '"').next()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.+-".contains(c);
    (word.starts_with('/') || !word.is_empty() && word.chars().all(plain) && !BUILT_IN.contains(&word)).then_some(word)
}

/// Words that the shell itself knows.
const BUILT_IN: &[&str] = &[
    "test", "exit", "exec", "eval", "command", "if", "for", "while", "until", "case", "cd", "set", "export", "source",
    ".",
];

fn not_runnable(path: &str) -> Option<&'static str> {
    if !path.contains('/') {
        let dirs = std::env::var_os("PATH")
            .unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
        let found = std::env::split_paths(&dirs).any(|d| d.join(path).is_file());
        return (!found).then_some("is not found in PATH; write the whole path");
    }
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Some("is not there; correct the path"),
        Ok(f) if f.is_dir() => Some("is a directory; name the script in it"),
        Ok(f) if f.mode() & 0o111 == 0 => Some("cannot be executed; make it executable (chmod +x)"),
        _ => None,
    }
}

/// The first part of the path, the script's or a directory's, that others than root may change.
fn unsafe_part(path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return None;
    }
    let all: Vec<&Path> = Path::new(path).ancestors().collect();
    all.into_iter().rev().find_map(|part| {
        let f = std::fs::metadata(part).ok()?;
        // In a directory with the sticky bit nobody can replace what is another's.
        let guarded = f.is_dir() && f.mode() & 0o1000 != 0;
        let written = f.mode() & 0o002 != 0 || f.mode() & 0o020 != 0 && f.gid() != 0;
        let others = written && !guarded || f.uid() != 0;
        others.then(|| part.display().to_string())
    })
}

fn unsafe_text(what: &str, path: &str, part: &str) -> String {
    format!(
        "{what} : '{path}' runs as root, and others than root may change '{part}'; take that right away (chown root, chmod go-w), or run it as another user"
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_others_may_change_is_found_in_the_whole_path() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("s.sh");
        std::fs::write(&script, "#!/bin/sh\n").unwrap();
        let path = script.to_str().unwrap();
        assert_eq!(not_runnable(path), Some("cannot be executed; make it executable (chmod +x)"));
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(not_runnable(path), None);
        // The directory for temporary files has the sticky bit.
        assert_eq!(unsafe_part(path), None);
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert_eq!(unsafe_part(path).as_deref(), Some(path));
        assert_eq!(unsafe_part("/bin/sh"), None);
        assert_eq!(program("\"/bin/x -a\" root"), Some("/bin/x"));
        assert!(not_runnable("/nowhere/at/all").is_some());
        assert_eq!(program("</dev/tcp/127.0.0.1/80"), None);
        assert!(not_runnable("sh").is_none() && not_runnable("no-such-command-x").is_some());
    }
}
