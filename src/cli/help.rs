//! What the program says of itself.

pub const TANDEM: &str = "\
Tandem: one binary in place of HAProxy and keepalived.

  tandem -f haproxy.cfg [-f more|directory] [-k keepalived.conf] [options]
  tandem check -f haproxy.cfg [-k keepalived.conf]   all errors of both files at once
  tandem convert -f haproxy.cfg -k keepalived.conf   one file that means the same as the two
  tandem explain [CODE]                              what a finding means, and the mend
  tandem status -f haproxy.cfg [--peer <address>]    who holds what and why, and what is up, here and on the other node
  tandem demo [--script]                             a pair of nodes, live, in namespaces of its own
  tandem help

Options, as in HAProxy's manual:
  -f <file|dir>   configuration, may be repeated      -k <file>  keepalived.conf
  -c  check only      -V  say more      -v, -vv  version      -q  say nothing
  -D  to the background   -db  stay in the foreground   -Ws  the same, and tell systemd
  -p <file>  pid file   -C <dir>  change there first   -n <max>  connections   -L <name>  local peer
  -sf, -st <pid>...  replace running processes softly, at once; a Tandem takes the configuration instead
  -cc <condition>  0 if it is true      -dK[<class>,...]  list the honoured keywords
  --dialect 3.5  refuse what that version refuses       --strict  refuse what keepalived only reports
  --config-id <name>  what '@name' lines are for        --format json  findings of 'check', for machines
  --keepalived-pid <file>  pid of the process that takes keepalived's signals (default /run/keepalived.pid)
";

pub const VERSION_LINE_HAPROXY: &str = "HAProxy version 3.4.0 2026/06/03 - https://haproxy.org/";
pub const VERSION_LINE_KEEPALIVED: &str = "Keepalived v2.4.3 (07/10,2026)";

pub fn version(full: bool) -> String {
    let mut out = format!(
        "{VERSION_LINE_HAPROXY}\nStatus: this is Tandem {} speaking HAProxy's configuration, sockets and logs.\nRunning on: {}\n",
        env!("CARGO_PKG_VERSION"),
        running_on()
    );
    if full {
        out.push_str(
            &"\nBuild options :\n  TARGET  = linux\n\nFeature list :FEATURES\n\n\
             Default settings :\n  bufsize = 16384, maxrewrite = 1024\n\nBuilt with multi-threading support (MAX_THREADS=64).\nBuilt with rustls (aws-lc-rs) : TLSv1.2 TLSv1.3\n\
             Built with the Prometheus exporter as a service\n\nAvailable polling systems :\n      epoll : pref=300,  test result OK\nTotal: 1 (1 usable), will use epoll.\n\n\
             Available multiplexer protocols :\n         h1 : mode=HTTP  side=FE|BE  mux=H1\n       none : mode=TCP   side=FE|BE  mux=PASS\n\nAvailable services : prometheus-exporter\n\nAvailable filters : none\n"
                .replace("FEATURES", &features()),
        );
    }
    out
}

fn features() -> String {
    let sign = |yes: bool| if yes { '+' } else { '-' };
    crate::base::version::FEATURES.iter().map(|(n, yes)| format!(" {}{n}", sign(*yes))).collect()
}

fn running_on() -> String {
    nix::sys::utsname::uname().map_or_else(
        |_| "Linux".to_owned(),
        |u| [u.sysname(), u.release(), u.version(), u.machine()].map(|s| s.to_string_lossy().into_owned()).join(" "),
    )
}
