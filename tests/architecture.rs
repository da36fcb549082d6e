//! The layer table, held by reading `src/`: imports go down only, and the pure levels touch neither clocks nor sockets nor files.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::path::{Path, PathBuf};

/// Path prefix below `src/`, level. The longest prefix that fits counts.
const LAYERS: &[(&str, u32)] = &[
    ("main", 8),
    ("cli", 8),
    ("process", 7),
    ("control", 6),
    ("proxy", 5),
    ("health/checkers", 5),
    ("health/connect", 5),
    ("health/external", 5),
    ("health/post", 5),
    ("health/prober", 5),
    ("health/verdict", 5),
    ("health/saved", 5),
    ("health/resolver", 5),
    ("vrrp/engine", 5),
    ("vrrp/router", 5),
    ("vrrp/vip", 5),
    ("vrrp/vmac", 5),
    ("vrrp/script", 5),
    ("vrrp/hear", 5),
    ("vrrp/dump", 5),
    ("vrrp/neighbours", 5),
    ("vrrp/bfd", 3),
    ("vrrp/watch", 5),
    ("vrrp/ways", 5),
    ("vrrp/outside", 5),
    ("vrrp/proc_match", 3),
    ("vrrp/tell", 5),
    ("vrrp/tracked", 5),
    ("vrrp/track", 3),
    ("vrrp/debounce", 3),
    ("vrrp/pacer", 3),
    ("state", 4),
    ("tls", 3),
    ("net", 3),
    ("log/ship", 5),
    ("log", 3),
    ("config", 2),
    ("rules", 1),
    ("http", 1),
    ("wire", 1),
    ("balance", 1),
    ("health", 1),
    ("vrrp", 1),
    ("base", 0),
];

/// What the pure levels may not name outside their tests.
const IMPURE: &[&str] = &[
    "tokio",
    "std::fs",
    "std::os",
    "Instant::now",
    "SystemTime::now",
    "libc::",
    "socket2",
    "UdpSocket",
    "TcpStream",
    "std::env",
    "std::process",
];

fn level(path: &str) -> Option<u32> {
    LAYERS
        .iter()
        .filter(|(p, _)| path == *p || path.strip_prefix(p).is_some_and(|r| r.starts_with('/')))
        .max_by_key(|(p, _)| p.len())
        .map(|(_, l)| *l)
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for e in std::fs::read_dir(dir).unwrap().flatten() {
        let p = e.path();
        if p.is_dir() {
            sources(&p, out);
        } else if p.extension().is_some_and(|x| x == "rs") {
            out.push(p);
        }
    }
}

/// Files with their path below `src/` (without extension) and their text without tests.
fn files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    paths
        .iter()
        .filter(|p| !p.ends_with("lib.rs") && !p.to_string_lossy().ends_with("_tests.rs"))
        .map(|p| {
            let name =
                p.strip_prefix(&root).unwrap().with_extension("").to_string_lossy().trim_end_matches("/mod").to_owned();
            let text = std::fs::read_to_string(p).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
            (name, code)
        })
        .collect()
}

#[test]
fn imports_go_down_only() {
    let mut wrong = Vec::new();
    for (name, code) in files() {
        let own = level(&name).unwrap_or_else(|| panic!("src/{name}.rs has no place in the layer table"));
        for part in code.split("crate::").skip(1) {
            let path: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || "_:".contains(*c)).collect();
            let path = path.replace("::", "/");
            if let Some(theirs) = level(&path).filter(|t| *t > own) {
                wrong.push(format!("src/{name}.rs (level {own}) uses crate::{path} (level {theirs})"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_levels_are_pure() {
    let mut wrong = Vec::new();
    for (name, code) in files().into_iter().filter(|(n, _)| level(n).is_some_and(|l| l <= 1)) {
        for word in IMPURE.iter().filter(|w| code.contains(**w)) {
            wrong.push(format!("src/{name}.rs names {word}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn vrrp_never_sees_state_and_pure_machines_never_see_config() {
    for (name, code) in files() {
        // Machines, as against the drivers of level 5.
        let pure = level(&name).is_some_and(|l| l <= 1);
        if name.starts_with("vrrp") && pure
            || name.starts_with("rules")
            || name.starts_with("http")
            || name.starts_with("balance")
        {
            assert!(!code.contains("crate::config"), "src/{name}.rs sees config");
        }
        if name.starts_with("vrrp") {
            assert!(!code.contains("crate::state"), "src/{name}.rs sees state");
        }
    }
}
