//! Tandem, HAProxy and nginx side by side: CPU time of the proxy's whole process tree for each request, in interleaved rounds of one run,
//! proxies on the first core, clients and servers on the others.
//!
//! `cargo bench --bench forward [-- WORK...]`, where WORK is part of a name in [`WORKS`], `idle`, `start`, `latency` or `threads`. `HAPROXY=<path>` and
//! `NGINX=<path>` name other binaries, `ROUNDS=<n>` the number of rounds. It prints figures and ratios with their spread; there is no limit in it, machines differ.
#![allow(clippy::unwrap_used)]
mod load;
mod peer;

use load::{Load, Origin};
use peer::{Kind, Peer};
use std::time::{Duration, Instant};

const ROUND: Duration = Duration::from_secs(2);

/// One line of the table: what is forwarded, and how.
pub struct Work {
    name: &'static str,
    /// HAProxy's language, read by HAProxy and by Tandem: what stands in `defaults`, `frontend` and `backend` besides addresses.
    defaults: &'static str,
    frontend: &'static str,
    backend: &'static str,
    servers: usize,
    maxconn: usize,
    tcp: bool,
    load: Load,
}

const PLAIN: Work = Work {
    name: "64 B, keep-alive",
    defaults: " mode http\n",
    frontend: "",
    backend: "",
    servers: 1,
    maxconn: 2_000,
    tcp: false,
    load: Load { path: "/64", body: 64, connections: 32, close: false },
};

/// Twenty conditions, edits, a cookie and a log line for each request.
const RULES: &str = " option httplog\n log 127.0.0.1:@LOG@ local0\n capture request header Host len 32\n \
 acl a1 path_beg /static /images /css /js\n acl a2 path_end .php .cgi\n acl a3 hdr(host) -i admin.example.com\n acl a4 hdr_beg(host) -i api.\n \
 acl a5 src 10.0.0.0/8 172.16.0.0/12\n acl a6 method POST PUT\n acl a7 hdr_sub(user-agent) -i bot crawler spider\n acl a8 path_sub ../ %00\n \
 acl a9 url_param(debug) -m found\n acl a10 hdr(x-forwarded-for) -m found\n acl a11 path_reg ^/v[0-9]+/users/[0-9]+$\n acl a12 hdr_cnt(cookie) gt 1\n \
 acl a13 cook(session) -m found\n acl a14 path_len gt 1000\n acl a15 hdr(accept-language) -m beg de fr\n acl a16 src 192.168.0.0/16\n \
 acl a17 hdr(upgrade) -i websocket\n acl a18 path -i /health /ready\n acl a19 hdr(content-type) -m sub json\n acl a20 dst_port 8443\n \
 http-request deny if a8\n http-request deny if a7 !a16\n http-request set-header X-Class static if a1\n http-request set-header X-Class dynamic if a2 or a11\n \
 http-request set-header X-Admin yes if a3 a5\n http-request set-header X-Api yes if a4\n http-request set-header X-Write yes if a6 a13\n \
 http-request set-header X-Debug yes if a9\n http-request del-header X-Forwarded-For if a10 !a5\n http-request set-header X-Real-IP %[src]\n \
 http-request add-header X-Forwarded-Proto http\n http-request deny if a12 a14\n http-request set-header X-Lang eu if a15\n \
 http-request return status 200 if a18 a17\n http-request set-header X-Json yes if a19 a20\n http-response set-header X-Frame-Options DENY\n \
 http-response del-header Server\n option forwardfor\n";

const WORKS: &[Work] = &[
    PLAIN,
    Work {
        name: "16 kB, keep-alive",
        load: Load { path: "/16k", body: 16 << 10, connections: 32, close: false },
        ..PLAIN
    },
    Work {
        name: "1 MB, keep-alive",
        defaults: " mode http\n option splice-auto\n",
        load: Load { path: "/1m", body: 1 << 20, connections: 8, close: false },
        ..PLAIN
    },
    Work { name: "connection a request", load: Load { path: "/64", body: 64, connections: 32, close: true }, ..PLAIN },
    Work {
        name: "rules and logs",
        frontend: RULES,
        backend: " balance leastconn\n cookie SRV insert indirect nocache\n option httpchk GET /64\n",
        servers: 8,
        ..PLAIN
    },
    Work { name: "TCP, small", defaults: " mode tcp\n", tcp: true, ..PLAIN },
    Work {
        name: "TCP, bulk",
        defaults: " mode tcp\n option splice-auto\n",
        tcp: true,
        load: Load { path: "/1m", body: 1 << 20, connections: 8, close: false },
        ..PLAIN
    },
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if args.iter().any(|a| a == "--test") {
        return;
    }
    let programs: Vec<(Kind, String)> = [
        (Kind::Haproxy, std::env::var("HAPROXY").unwrap_or_else(|_| "/usr/sbin/haproxy".to_owned())),
        (Kind::Tandem, env!("CARGO_BIN_EXE_tandem").to_owned()),
        (Kind::Nginx, std::env::var("NGINX").unwrap_or_else(|_| "/usr/sbin/nginx".to_owned())),
    ]
    .into_iter()
    .filter(|(k, p)| {
        let there = std::path::Path::new(p).exists();
        if !there {
            println!("{}: there is no {p}; install the distribution's package, or name another", k.name());
        }
        there
    })
    .collect();
    if programs.first().is_none_or(|p| p.0 != Kind::Haproxy) {
        return;
    }
    let rounds = std::env::var("ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(5usize);
    let wanted = |name: &str| args.is_empty() || args.iter().any(|a| name.contains(a.as_str()));
    load::pin(load::Cores::Others);
    let origin = Origin::start();
    println!(
        "{:<24} {:<8} {:>12} {:>10}   against HAProxy: median (least to most)",
        "work", "proxy", "us CPU/req", "req/s"
    );
    for w in WORKS.iter().filter(|w| wanted(w.name)) {
        let mut peers: Vec<Peer> =
            programs.iter().filter_map(|(k, p)| Peer::start(*k, p, &k.config(w, &origin))).collect();
        for round in 0..rounds {
            // The order changes, so that none always runs on a warmer machine.
            let n = peers.len();
            for k in 0..n {
                peers[(k + round) % n].round(|port| load::drive(&w.load, port, ROUND));
            }
        }
        for p in &peers {
            let r = p.ratios(&peers[0]);
            println!(
                "{:<24} {:<8} {:>12.2} {:>10.0}   {:.2} ({:.2} to {:.2})",
                w.name,
                p.kind.name(),
                p.median(),
                p.rate(ROUND),
                r[r.len() / 2],
                r[0],
                r[r.len() - 1]
            );
        }
    }
    if wanted("idle") {
        idle(&programs, &origin);
    }
    if wanted("start") {
        start(&programs, rounds);
    }
    if wanted("latency") {
        latency(&programs, &origin, rounds);
    }
    if wanted("threads") {
        threads(&programs, &origin, rounds);
    }
}

/// Two threads against one. With four cores or more the proxies have two of them, and what they forward is compared. With fewer the load runs on the
/// proxies' cores: what a request costs is compared, which says what two threads would forward if they had their cores to themselves.
fn threads(programs: &[(Kind, String)], origin: &Origin, rounds: usize) {
    let apart = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) >= 4;
    let load = Load { connections: 128, ..PLAIN.load };
    for (kind, program) in programs.iter().filter(|(k, _)| *k != Kind::Nginx) {
        let mut pair: Vec<Peer> = [1, 2]
            .iter()
            .filter_map(|n| {
                let config = kind.config(&PLAIN, origin)?.replace("nbthread 1", &format!("nbthread {n}"));
                Peer::start_on(*kind, program, &config, load::Cores::Two)
            })
            .collect();
        let mut gains: Vec<f64> = Vec::new();
        for round in 0..rounds {
            let mut seen = [(0.0, 0.0); 2];
            for k in 0..pair.len() {
                let i = (k + round) % 2;
                let (cpu, n) = pair[i].round(|port| load::drive_wide(&load, port, ROUND));
                seen[i] = (cpu / n as f64, n as f64);
            }
            gains.push(if apart { seen[1].1 / seen[0].1 } else { 2.0 * seen[0].0 / seen[1].0 });
        }
        println!(
            "{:<24} {:<8} {:>12.2} {:>10.0}   {:.2} times one thread, {}",
            "two threads",
            kind.name(),
            pair[1].median(),
            pair[1].rate(ROUND),
            median(&mut gains),
            if apart { "by rate" } else { "by cost" }
        );
    }
}

/// Memory of keep-alive clients that have had one answer and say nothing.
fn idle(programs: &[(Kind, String)], origin: &Origin) {
    // As many as HAProxy can have under a hard limit of 20,000 descriptors.
    const CLIENTS: usize = 9_500;
    load::many_files();
    let work = Work { maxconn: CLIENTS + 100, ..PLAIN };
    for (kind, program) in programs {
        let Some(p) = Peer::start(*kind, program, &kind.config(&work, origin)) else { continue };
        load::drive(&PLAIN.load, p.port, ROUND);
        let before = p.memory_kb();
        let held = load::hold(p.port, &PLAIN.load, CLIENTS);
        let after = p.memory_kb();
        // What serving them took is another thing than what they cost while they wait.
        std::thread::sleep(Duration::from_secs(5));
        let later = p.memory_kb();
        println!(
            "{:<24} {:<8} {:.2} kB each ({} held, {} kB to {} kB), {:.2} kB five seconds later",
            "idle clients",
            kind.name(),
            (after - before) / held.len() as f64,
            held.len(),
            before,
            after,
            (later - before) / held.len() as f64
        );
    }
}

/// From exec to the first accepted connection.
fn start(programs: &[(Kind, String)], rounds: usize) {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); programs.len()];
    for round in 0..rounds {
        for k in 0..programs.len() {
            let i = (k + round) % programs.len();
            let (kind, program) = &programs[i];
            let config = kind.big_config(2_000, 4);
            let begun = Instant::now();
            // What its end takes is not its start.
            let peer = Peer::start_eagerly(*kind, program, &config);
            let took = begun.elapsed().as_secs_f64() * 1e3;
            if peer.is_some() {
                times[i].push(took);
            }
        }
    }
    let reference = median(&mut times[0].clone());
    for (i, (kind, _)) in programs.iter().enumerate() {
        let m = median(&mut times[i]);
        println!("{:<24} {:<8} {m:>9.0} ms   {:.2}", "start, 2,000 backends", kind.name(), m / reference);
    }
}

/// The 99th percentile at 70% of the rate that HAProxy reaches at most.
fn latency(programs: &[(Kind, String)], origin: &Origin, rounds: usize) {
    let mut peers: Vec<Peer> =
        programs.iter().filter_map(|(k, p)| Peer::start(*k, p, &k.config(&PLAIN, origin))).collect();
    let top = load::drive(&PLAIN.load, peers[0].port, ROUND) as f64 / ROUND.as_secs_f64();
    let mut all: Vec<Vec<f64>> = vec![Vec::new(); peers.len()];
    for round in 0..rounds {
        let n = peers.len();
        for k in 0..n {
            let i = (k + round) % n;
            all[i].push(load::percentile99(&PLAIN.load, peers[i].port, top * 0.7, ROUND));
        }
    }
    let reference = median(&mut all[0].clone());
    for (p, t) in peers.iter_mut().zip(&mut all) {
        let m = median(t);
        println!("{:<24} {:<8} {m:>9.0} us p99 at {:.0}/s   {:.2}", "latency", p.kind.name(), top * 0.7, m / reference);
    }
}

fn median(v: &mut [f64]) -> f64 {
    v.sort_by(f64::total_cmp);
    v.get(v.len() / 2).copied().unwrap_or(f64::NAN)
}
