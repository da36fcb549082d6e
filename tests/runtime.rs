//! Ring 3: servers and backends made, renamed and removed while the proxy serves; counters that outlive it.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::time::Duration;
use support::{Origin, Proxy, ok, tandem, wait_for};

const HEAD: &str = "global\n stats socket {dir}/admin.sock level admin\n nbthread 2\ndefaults\n mode http\n timeout client 5s\n timeout server 2s\n timeout connect 500ms\n log stdout format raw local0\n";

fn proxy(rest: &str) -> Proxy {
    Proxy::start(&tandem(), &format!("{HEAD}{rest}"))
}

fn origin(name: &'static str) -> Origin {
    Origin::start(move |_| ok(name))
}

/// Ids and names of a backend's servers, as `show servers state` has them.
fn servers(p: &Proxy, backend: &str) -> Vec<String> {
    let state = p.cli(&format!("show servers state {backend}"));
    let rows = state.lines().skip(2).filter(|l| !l.is_empty());
    rows.map(|l| l.split(' ').skip(2).take(2).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn servers_are_made_and_removed_while_others_serve() {
    let (a, b) = (origin("a"), origin("b"));
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n default_backend be\nbackend be\n balance roundrobin\n server one 127.0.0.1:{} weight 10\n\
         backend fixed\n balance static-rr\n server x 127.0.0.1:1\n use-server x if FALSE\n",
        a.port
    ));
    assert_eq!(p.cli("add server nobody/s 127.0.0.1:1").trim(), "No such backend.");
    assert_eq!(p.cli("add server be/one 127.0.0.1:1").trim(), "Already exists a server with the same name in backend.");
    assert_eq!(p.cli("add server be/s").trim(), "'server' expects <name> and <addr>[:<port>] as arguments.");
    assert!(p.cli("add server fixed/s 127.0.0.1:1").contains("uses a non dynamic load balancing method."));
    assert_eq!(
        p.cli("add server be/s 127.0.0.1:1 resolvers r").trim(),
        "'resolvers' option is not accepted for dynamic server"
    );
    assert!(p.cli("add server be/s 127.0.0.1:1 wieght 3").contains("unknown keyword 'wieght'"));
    assert_eq!(servers(&p, "be"), ["1 one"], "what was refused left something behind");

    // A kept connection goes over to the new configuration.
    let mut kept = p.connect();
    let mut ask = |want: &str| {
        kept.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let mut buf = vec![0; 4096];
        let n = kept.read(&mut buf).unwrap();
        let text = String::from_utf8_lossy(&buf[..n]).into_owned();
        assert!(text.ends_with(want), "{want}: {text}");
    };
    ask("a");
    assert_eq!(p.cli(&format!("add server be/two 127.0.0.1:{} weight 256", b.port)).trim(), "New server registered.");
    // It has the configured weight and nothing of the others' lines, and serves nobody yet.
    assert_eq!(p.cli("get weight be/two").trim(), "256 (initial 256)");
    (0..5).for_each(|_| ask("a"));
    assert_eq!(p.cli("set weight be/one 0; enable server be/two").trim(), "");
    ask("b");

    // Numbers stay when others go, and are used again.
    assert_eq!(p.cli("add server be/three 127.0.0.1:1").trim(), "New server registered.");
    assert_eq!(p.cli("del server be/one").trim(), "Only servers in maintenance mode can be deleted.");
    assert_eq!(p.cli("disable server be/one; del server be/one").trim(), "Server deleted.");
    assert_eq!(servers(&p, "be"), ["2 two", "3 three"]);
    assert_eq!(p.cli("add server be/four 127.0.0.1:1").trim(), "New server registered.");
    assert_eq!(servers(&p, "be"), ["2 two", "3 three", "1 four"]);
    ask("b");
    assert_eq!(
        p.cli("del server fixed/x").trim(),
        "This server cannot be removed at runtime due to other configuration elements pointing to it."
    );

    // Another name: what it is and has been stays.
    assert_eq!(p.cli("set server be/three name other").trim(), "Server name updated.");
    assert_eq!(
        p.cli("disable server be/two; set server be/two name five; enable server be/five").trim().lines().last(),
        Some("Server name updated.")
    );
    ask("b");
    let stat = p.cli("show stat be 4 -1");
    let row = stat.lines().find(|l| l.starts_with("be,five,")).unwrap().split(',').nth(7).unwrap().to_owned();
    assert!(row.parse::<u32>().unwrap() >= 3, "{row} sessions");

    // A change that is refused late leaves nothing of it behind.
    assert!(p.cli("add server be/w 127.0.0.1:1 track be/five").contains("for tracking as it is a dynamic server."));
    assert_eq!(p.cli("add server be/w localhost:80 cookie a#b\\ c weight 7").trim(), "New server registered.");
    assert_eq!(p.cli("get weight be/w").trim(), "7 (initial 7)");
    assert!(p.cli("show stat be 4 -1").contains(",a#b c,"), "{}", p.cli("show stat be 4 -1"));
    assert_eq!(p.cli("disable server be/w; del server be/w").trim(), "Server deleted.");
    // The next reload has what the file has.
    p.cli("reload");
    assert!(wait_for(Duration::from_secs(5), || servers(&p, "be") == ["1 one"]), "{:?}", servers(&p, "be"));
}

#[test]
fn what_others_began_with_may_go_and_circles_are_refused() {
    let p = proxy(
        "frontend f\n bind 127.0.0.1:{port}\n default_backend be\nbackend be\n balance roundrobin\n server one 127.0.0.1:1\n",
    );
    assert_eq!(p.cli("add server be/x 127.0.0.1:1 weight 9").trim(), "New server registered.");
    assert_eq!(p.cli("add server be/y 127.0.0.1:1 from srv:x").trim(), "New server registered.");
    assert_eq!(p.cli("del server be/x").trim(), "Server deleted.");
    assert_eq!(p.cli("add server be/z 127.0.0.1:1").trim(), "New server registered.");
    assert_eq!(p.cli("get weight be/y").trim(), "9 (initial 9)");
    assert_eq!(servers(&p, "be"), ["1 one", "3 y", "2 z"]);
    // What is gone without a trace has had its number all the same.
    for (line, said) in [
        ("add server be/p 127.0.0.1:1", "New server registered."),
        ("add server be/q 127.0.0.1:1", "New server registered."),
        ("del server be/p", "Server deleted."),
    ] {
        assert_eq!(p.cli(line).trim(), said);
    }
    assert_eq!(servers(&p, "be"), ["1 one", "3 y", "2 z", "5 q"]);
    let text = "defaults\n timeout client 1s\n timeout server 1s\n timeout connect 1s\nbackend b\n server a 127.0.0.1:1 track c\n server b 127.0.0.1:1 track a\n server c 127.0.0.1:1 track b/b\n server d 127.0.0.1:1 track a\n";
    let file = p.path("loop.cfg");
    std::fs::write(&file, text).unwrap();
    let said = std::process::Command::new(tandem()).args(["-c", "-f", &file]).output().unwrap();
    assert!(!said.status.success() && String::from_utf8_lossy(&said.stderr).contains("tracking chain looping back"));
}

#[test]
fn a_server_in_use_is_waited_for() {
    let (begun, begins) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel();
    let released = std::sync::Mutex::new(released);
    let slow = Origin::start(move |r| {
        if r.contains("ready-check") {
            return ok("");
        }
        begun.send(()).unwrap();
        released.lock().unwrap().recv().unwrap();
        ok("late")
    });
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n default_backend be\nbackend be\n balance roundrobin\n server one 127.0.0.1:{}\n",
        slow.port
    ));
    let mut c = p.connect();
    c.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    begins.recv().unwrap();
    p.cli("disable server be/one");
    let busy = "Server still has connections attached to it, cannot remove it.";
    assert_eq!(p.cli("del server be/one").trim(), busy);
    assert_eq!(p.cli("wait 1ms srv-removable be/one").trim(), format!("Wait delay expired. {busy}"));
    release.send(()).unwrap();
    assert_eq!(p.cli("wait 5s srv-removable be/one").trim(), "Done.");
    assert_eq!(p.cli("del server be/one").trim(), "Server deleted.");
    let mut text = String::new();
    c.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("late"), "{text}");
    assert_eq!(p.cli("wait 5s srv-removable be/one").trim(), "Failed. No such server.");
    assert_eq!(p.cli("wait 5ms").trim(), "Done.");
    assert_eq!(p.cli("wait soon; wait 0").trim(), "Invalid duration.\n\nInvalid duration.");
}

#[test]
fn backends_are_made_published_and_removed() {
    let o = origin("new");
    let p = proxy(
        "frontend f\n bind 127.0.0.1:{port}\n force-be-switch if { req.hdr(x-admin) 1 }\n use_backend %[req.hdr(x-be)]\n\
         defaults plain\n timeout connect 1s\n timeout server 1s\ndefaults web\n mode http\n timeout connect 1s\n timeout server 1s\nbackend old\n server s 127.0.0.1:1\n",
    );
    let ask = |more: &str| p.exchange(format!("GET / HTTP/1.0\r\nX-Be: be\r\n{more}\r\n").as_bytes());
    assert!(ask("").starts_with("HTTP/1.1 503"));
    assert_eq!(p.cli("show defaults").trim(), "plain\nweb");
    assert_eq!(p.cli("add backend be from nothing").trim(), "Cannot find default proxy 'nothing'.");
    assert!(p.cli("add backend old from web").contains("name is already used by other proxy 'backend old'"));
    assert_eq!(p.cli("add backend be from web").trim(), "New backend registered.");
    assert_eq!(p.cli(&format!("add server be/s 127.0.0.1:{}", o.port)).trim(), "New server registered.");
    p.cli("enable server be/s");
    assert!(ask("").starts_with("HTTP/1.1 503"), "it is not published");
    assert!(ask("X-Admin: 1\r\n").ends_with("new"));
    assert!(p.cli("show stat be 2 -1").contains(",UP (UNPUB),"));
    assert_eq!(p.cli("publish backend be").trim(), "Backend published.");
    assert!(ask("").ends_with("new"));
    // It stays what it is through other changes.
    p.cli("disable server be/s");
    assert_eq!(p.cli("del server be/s").trim(), "Server deleted.");
    assert_eq!(p.cli("del backend be").trim(), "Backend must be unpublished prior to its deletion.");
    p.cli("unpublish backend be");
    assert_eq!(p.cli("del backend be").trim(), "Backend deleted.");
    assert_eq!(p.cli("del backend be").trim(), "No such backend.");
}

#[test]
fn checks_of_new_servers_begin_when_they_are_asked_for_and_trackers_follow() {
    let o = origin("x");
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n default_backend be\nbackend be\n balance roundrobin\n log global\n server one 127.0.0.1:{} check inter 100ms\n",
        o.port
    ));
    let row = |name: &str, column: usize| {
        let all = p.cli("show stat be 4 -1");
        all.lines().find(|l| l.starts_with(&format!("be,{name},"))).unwrap().split(',').nth(column).unwrap().to_owned()
    };
    p.cli("add server be/dead 127.0.0.1:1 check inter 50ms rise 1 fall 1");
    p.cli("enable server be/dead");
    assert_eq!(row("dead", 17), "no check");
    p.cli("enable health be/dead");
    assert!(wait_for(Duration::from_secs(5), || row("dead", 17) == "DOWN"), "{}", row("dead", 17));
    assert!(p.cli("add server be/t 127.0.0.1:1 track be/dead").contains("for tracking as it is a dynamic server."));
    assert_eq!(p.cli(&format!("add server be/t 127.0.0.1:{} track be/one", o.port)).trim(), "New server registered.");
    p.cli("enable server be/t");
    p.drain();
    p.cli("disable server be/one");
    assert_eq!(
        p.line(),
        "Server be/one is going DOWN for maintenance. 1 active and 0 backup servers left. 0 sessions active, 0 requeued, 0 remaining in queue."
    );
    assert_eq!(
        p.line(),
        "Server be/t is going DOWN for maintenance via be/one. 0 active and 0 backup servers left. 0 sessions active, 0 requeued, 0 remaining in queue."
    );
    assert_eq!(p.line(), "backend be has no server available!");
    assert_eq!(row("t", 17), "MAINT (via be/one)");
    p.cli("enable server be/one");
    assert_eq!(p.line(), "Server be/one is UP/READY (leaving forced maintenance).");
    assert_eq!(p.line(), "Server be/t is UP/READY (leaving maintenance).");
}

/// What was made by hand first and then stands in the file is as if it had stood there always.
#[test]
fn what_was_made_at_run_time_and_is_in_the_file_then_is_like_the_rest() {
    let o = origin("x");
    let text = format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n use_backend %[req.hdr(x-be)]\n default_backend be\nbackend be\n balance roundrobin\n server one 127.0.0.1:{}\n\
         defaults web\n mode http\n timeout connect 1s\n timeout server 1s\n",
        o.port
    );
    let p = proxy(&text);
    p.cli("add server be/dead 127.0.0.1:1 check inter 50ms rise 1 fall 1");
    p.cli("enable server be/dead");
    p.cli("add backend late from web");
    let file = format!(
        "{HEAD}{text} backend late\n http-request return status 204\nbackend be2\n server x 127.0.0.1:1\n",
        HEAD = HEAD
    );
    let file = file.replace(" server one", " server dead 127.0.0.1:1 check inter 50ms rise 1 fall 1\n server one");
    std::fs::write(
        p.path("h.cfg"),
        file.replace("{port}", &p.port.to_string()).replace("{dir}", p.path("").trim_end_matches('/')),
    )
    .unwrap();
    p.cli("reload");
    assert!(wait_for(Duration::from_secs(5), || p.cli("show backend").contains("be2")));
    let down = || p.cli("show stat be 4 -1").lines().any(|l| l.starts_with("be,dead,") && l.contains(",DOWN,"));
    assert!(wait_for(Duration::from_secs(5), down), "{}", p.cli("show stat be 4 -1"));
    assert!(p.exchange(b"GET / HTTP/1.0\r\nX-Be: late\r\n\r\n").starts_with("HTTP/1.1 204"));
}

#[test]
fn counters_outlive_the_process_by_their_guid() {
    let o = origin("x");
    let rest = |port: u16| {
        format!(
            "frontend f\n guid fe-1\n bind 127.0.0.1:{{port}} guid-prefix li\n option socket-stats\n default_backend be\nbackend be\n guid be-1\n server s 127.0.0.1:{port} guid srv-1\n server t 127.0.0.1:{port} weight 0\n"
        )
    };
    let p = proxy(&rest(o.port));
    p.cli("clear counters all");
    (0..3).for_each(|_| drop(p.get("/")));
    let saved = p.cli("dump stats-file");
    assert!(saved.starts_with("#fe guid,stot,bin,bout,dreq,") && saved.contains("\n#be guid,stot,"), "{saved}");
    assert!(saved.contains("\nfe-1,3,") && saved.contains("\nli-0,3,") && saved.contains("\nsrv-1,3,"), "{saved}");
    let file = std::env::temp_dir().join(format!("tandem-stats-{}", std::process::id()));
    std::fs::write(&file, format!("{saved}\n// nothing\nunknown,5,\n")).unwrap();
    let head = HEAD.replacen("global\n", &format!("global\n stats-file {}\n", file.display()), 1);
    let q = Proxy::start(&tandem(), &format!("{head}{}", rest(o.port)));
    std::fs::remove_file(&file).unwrap();
    // A connection and a request were made to see that it serves.
    q.get("/");
    let again = q.cli("dump stats-file");
    assert!(again.contains("\nfe-1,6,") && again.contains("\nli-0,6,") && again.contains("\nbe-1,5,"), "{again}");
}

#[test]
fn frontends_are_paused_resumed_and_shut_down() {
    let (o, other) = (origin("o"), support::free_port());
    let p = proxy(&format!(
        "frontend f\n bind 127.0.0.1:{{port}}\n bind 127.0.0.1:{other}\n default_backend b\nbackend b\n server s 127.0.0.1:{}\n",
        o.port
    ));
    let connects = |port: u16| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    let ports = [p.addr().port(), other];
    let state = |what: &str| p.cli("show stat f 1 -1").contains(&format!(",{what},"));
    // Each thread has sockets of its own.
    let all =
        |open: bool| wait_for(Duration::from_secs(5), || ports.iter().all(|n| (0..20).all(|_| connects(*n) == open)));
    let mut kept = p.connect();
    assert_eq!(p.cli("enable frontend f").trim(), "All sockets are already enabled.");
    assert_eq!(p.cli("disable frontend b").trim(), "No such frontend.");
    assert_eq!(p.cli("disable frontend").trim(), "A frontend name is expected.");
    assert_eq!(p.cli("disable frontend f").trim(), "");
    assert!(all(false) && state("PAUSED"));
    assert_eq!(p.cli("disable frontend f").trim(), "All sockets are already disabled.");
    // Who is there is served.
    kept.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    kept.read_to_string(&mut text).unwrap();
    assert!(text.ends_with('o'), "{text}");
    // Another change does not open it.
    assert_eq!(p.cli(&format!("add server b/t 127.0.0.1:{}", o.port)).trim(), "New server registered.");
    assert!(!connects(other) && state("PAUSED"));
    assert_eq!(p.cli("enable frontend f").trim(), "");
    assert!(all(true) && state("OPEN"));
    assert!(p.get("/").ends_with('o'));
    assert_eq!(p.cli("disable frontend f").trim(), "");
    assert_eq!(p.cli("shutdown frontend f").trim(), "");
    assert!(all(false) && state("STOP"));
    assert_eq!(p.cli("enable frontend f").trim(), "Frontend was previously shut down, cannot enable.");
    assert_eq!(p.cli("disable frontend f").trim(), "Frontend was previously shut down, cannot disable.");
    assert_eq!(p.cli("shutdown frontend f").trim(), "Frontend was already shut down.");
    // A reload reads the file anew, and that says nothing of it.
    p.cli("reload");
    assert!(all(true) && state("OPEN"));
    assert!(p.get("/").ends_with('o'));
    // Another program may have the port meanwhile: that is said, and it is tried again.
    assert_eq!(p.cli("disable frontend f").trim(), "");
    assert!(all(false));
    let taken = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    taken.set_reuse_address(true).unwrap();
    taken.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], other)).into()).unwrap();
    taken.listen(5).unwrap();
    assert_eq!(p.cli("enable frontend f").trim(), "");
    assert!(wait_for(Duration::from_secs(5), || connects(ports[0]) && state("OPEN")));
    drop(taken);
    assert!(all(true));
}

/// What `show servers state` has of a server: state, administration, weight, port, and whether its age is at least so many seconds.
fn state(p: &Proxy, server: &str, age: u64) -> String {
    let all = p.cli("show servers state");
    let row: Vec<&str> =
        all.lines().map(|l| l.split(' ').collect()).find(|w: &Vec<&str>| w.get(3) == Some(&server)).unwrap();
    let old = row[9].parse::<u64>().unwrap() >= age;
    format!("{} {} {} {} {} {}", row[4], row[5], row[6], row[7], row[18], if old { "old" } else { "new" })
}

#[test]
fn a_state_file_says_what_servers_begin_as() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (origin("a"), origin("b"));
    let file = dir.path().join("all");
    let conf = format!(
        "{HEAD} load-server-state-from-file global\nfrontend f\n bind 127.0.0.1:{{port}}\n default_backend be\nbackend be\n server down 127.0.0.1:{} weight 10\n server moved 127.0.0.1:1 weight 10\n server drained 127.0.0.1:1 weight 10\n server held 127.0.0.1:1 weight 10\n server off 127.0.0.1:1 disabled\n server name nosuch.invalid:{} backup\n server other 127.0.0.1:1 weight 10\n\
         backend own\n load-server-state-from-file local\n server s 127.0.0.1:1 weight 10\n",
        a.port, b.port
    )
    .replace("defaults", &format!(" server-state-base {}\n server-state-file all\ndefaults", dir.path().display()));
    let row = |backend: &str, name: &str, rest: &str, port: u16| {
        format!("9 {backend} 9 {name} {rest} 10 5000 6 3 4 6 0 0 0 - {port} - 0 0 - - 0\n")
    };
    let text = [
        "1\n# be_id and so on\n".to_owned(),
        row("be", "down", "127.0.0.1 0 0 10", a.port),
        row("be", "moved", "127.0.0.9 2 0 20", b.port),
        row("be", "drained", "127.0.0.1 2 8 10", 1),
        row("be", "held", "127.0.0.1 0 1 10", 1),
        row("be", "off", "127.0.0.1 2 4 1", 1),
        row("be", "name", "127.0.0.1 2 0 1", b.port),
        row("be", "other", "127.0.0.1 7 0 1", 1),
        row("own", "s", "127.0.0.1 2 0 3", 1),
    ];
    std::fs::write(&file, text.concat()).unwrap();
    std::fs::write(dir.path().join("own"), format!("1\n{}", row("own", "s", "127.0.0.1 2 0 4", 1))).unwrap();
    let p = Proxy::start(&tandem(), &conf);
    let ports = (a.port, b.port);
    let want = |p: &Proxy| {
        assert_eq!(state(p, "down", 5000), format!("127.0.0.1 0 0 10 {} old", ports.0));
        // The address of one that is written down stays, its port does not.
        assert_eq!(state(p, "moved", 5000), format!("127.0.0.1 2 0 20 {} old", ports.1));
        assert_eq!(state(p, "drained", 5000), "127.0.0.1 2 8 10 1 old");
        assert_eq!(state(p, "held", 5000), "127.0.0.1 0 1 10 1 old");
        // An operator had enabled it.
        assert_eq!(state(p, "off", 5000), "127.0.0.1 2 4 1 1 old");
        // Nobody knows its name, and it is known where it was.
        assert_eq!(state(p, "name", 5000), format!("127.0.0.1 2 0 1 {} old", ports.1));
        assert_eq!(state(p, "other", 5000), "127.0.0.1 2 0 10 1 new");
        assert_eq!(state(p, "s", 5000), "127.0.0.1 2 0 4 1 old");
    };
    want(&p);
    p.cli("disable server be/off; disable server be/other");
    assert!(p.get("/").ends_with('b'));
    p.cli(
        "enable server be/off; enable server be/other; set server be/down health up; set server be/moved state maint",
    );
    assert!((0..40).any(|_| p.get("/").ends_with('a')), "it stays down");
    p.cli("set server be/down health down; set server be/moved state ready");
    // What it says now is what the next one begins as.
    std::fs::write(&file, p.cli("show servers state be")).unwrap();
    std::fs::write(dir.path().join("own"), p.cli("show servers state own")).unwrap();
    drop(p);
    let p = Proxy::start(&tandem(), &conf);
    assert_eq!(state(&p, "down", 0), format!("127.0.0.1 0 0 10 {} old", ports.0));
    assert_eq!(state(&p, "moved", 0), format!("127.0.0.1 2 0 20 {} old", ports.1));
    for (name, is) in [("drained", "127.0.0.1 2 8 10 1"), ("held", "127.0.0.1 0 1 10 1"), ("off", "127.0.0.1 2 4 1 1")]
    {
        assert_eq!(state(&p, name, 0), format!("{is} old"));
    }
    assert_eq!(state(&p, "s", 5000), "127.0.0.1 2 0 4 1 old");
    // A reload asks nobody: servers go on as they are, whatever else changes.
    p.cli("set server be/drained state ready; set weight own/s 7; set server be/off health down");
    p.cli("add server be/other2 127.0.0.1:7");
    let h = p.dir.path().join("h.cfg");
    let text = std::fs::read_to_string(&h).unwrap();
    std::fs::write(&h, text.replace(" disabled\n", "\n")).unwrap();
    p.cli("reload");
    assert!(wait_for(Duration::from_secs(5), || state(&p, "off", 0).starts_with("127.0.0.1 0 0 1 1 ")));
    assert_eq!(state(&p, "down", 0), format!("127.0.0.1 0 0 10 {} old", ports.0));
    assert_eq!(state(&p, "moved", 0), format!("127.0.0.1 2 0 20 {} old", ports.1));
    assert_eq!(state(&p, "drained", 0), "127.0.0.1 2 0 10 1 old");
    assert_eq!(state(&p, "s", 0), "127.0.0.1 2 0 7 1 old");
}

/// Numbers decide where consistent hashing puts a server: HAProxy counts those that say one, too (seen in 2.6 and 3.5).
#[test]
fn servers_are_numbered_as_in_haproxy() {
    let p = proxy(
        "frontend f\n bind 127.0.0.1:{port}\nbackend b\n server s1 127.0.0.1:1 id 33\n server s2 127.0.0.1:1\n server s3 127.0.0.1:1 id 2\n server s4 127.0.0.1:1\n server s5 127.0.0.1:1\n\
         backend i\n server a 127.0.0.1:1\n server b 127.0.0.1:1 id 1\n server c 127.0.0.1:1\n",
    );
    assert_eq!(servers(&p, "b"), ["33 s1", "3 s2", "2 s3", "5 s4", "6 s5"]);
    assert_eq!(servers(&p, "i"), ["2 a", "1 b", "4 c"]);
}
