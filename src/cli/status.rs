//! `tandem status -f haproxy.cfg [-k keepalived.conf]`: what the process that runs says of its virtual routers and its proxies.
use super::haproxy;
use crate::base::addr::ListenAddr;
use crate::config::load::load;
use crate::process::loader;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A process that does not answer within this is not asked any longer.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn run(args: &[String]) -> i32 {
    match status(args) {
        Ok(text) => {
            print!("{text}");
            0
        }
        Err(e) => {
            eprintln!("tandem status: {e}");
            1
        }
    }
}

fn status(args: &[String]) -> Result<String, String> {
    let wanted = haproxy::load_args(args)?;
    if wanted.haproxy.is_empty() {
        return Err("give the file with -f, so that its 'stats socket' is known".to_owned());
    }
    let mut l = loader::run(&wanted, false);
    let (model, _) = load(&mut l.recorded, &wanted);
    let paths = model.global.stats_sockets.iter().filter_map(|s| match &s.addr {
        ListenAddr::Unix(path) => Some(path.clone()),
        _ => None,
    });
    let mut why = "no 'stats socket' with a path is configured; add one to 'global'".to_owned();
    for path in paths {
        match ask(&path, "show vrrp explain").and_then(|routers| Ok((routers, ask(&path, "show stat")?))) {
            Ok((routers, stat)) => return Ok(format!("{routers}{}", proxies(&stat))),
            Err(e) => why = format!("nobody answers on {path}: {e}"),
        }
    }
    Err(why)
}

fn ask(path: &str, line: &str) -> std::io::Result<String> {
    let mut s = UnixStream::connect(path)?;
    s.set_read_timeout(Some(PATIENCE))?;
    s.write_all(format!("{line}\n").as_bytes())?;
    let mut out = String::new();
    s.read_to_string(&mut out)?;
    Ok(out)
}

/// A line for each frontend and each backend, from the statistics in HAProxy's form.
fn proxies(csv: &str) -> String {
    let mut lines = csv.lines();
    let head: Vec<&str> = lines.next().unwrap_or_default().trim_start_matches("# ").split(',').collect();
    let at = |name: &str| head.iter().position(|h| *h == name);
    let (Some(name), Some(kind), Some(state), Some(now)) = (at("pxname"), at("svname"), at("status"), at("scur"))
    else {
        return String::new();
    };
    let mut servers: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    let rows: Vec<Vec<&str>> = lines.map(|l| l.split(',').collect()).collect();
    let cell = |r: &Vec<&str>, i: usize| r.get(i).map_or_else(String::new, |c| (*c).to_owned());
    for r in &rows {
        let Some(proxy) = r.get(name) else { continue };
        if !matches!(r.get(kind).copied(), Some("FRONTEND" | "BACKEND") | None) {
            let s = servers.entry(proxy).or_default();
            s.1 += 1;
            s.0 += u32::from(r.get(state).is_some_and(|s| s.starts_with("UP") || s.starts_with("no check")));
        }
    }
    let mut out = String::new();
    for r in &rows {
        let what = cell(r, kind);
        let (proxy, state, sessions) = (cell(r, name), cell(r, state), cell(r, now));
        match what.as_str() {
            "FRONTEND" => out.push_str(&format!("frontend {proxy}: {state}, {sessions} sessions\n")),
            "BACKEND" => {
                let (up, all) = servers.get(proxy.as_str()).copied().unwrap_or_default();
                out.push_str(&format!("backend {proxy}: {state}, {up} of {all} servers up, {sessions} sessions\n"));
            }
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_side() {
        let csv = "# pxname,svname,qcur,scur,status,\nf,FRONTEND,,3,OPEN,\nb,s1,0,1,UP,\nb,s2,0,0,DOWN 1/2,\nb,BACKEND,0,1,UP,\n";
        assert_eq!(proxies(csv), "frontend f: OPEN, 3 sessions\nbackend b: UP, 1 of 2 servers up, 1 sessions\n");
        assert_eq!(proxies(""), "");
    }
}
