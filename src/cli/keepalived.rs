//! keepalived's command line, for the binary installed under that name.
use super::{haproxy, help};
use crate::base::diag::Severity;
use crate::config::source::LoadArgs;
use crate::process::loader;
use crate::process::rendezvous::Half;
use crate::process::start::{self, KEEPALIVED_PID, Options};

const DEFAULT_CONF: &str = "/etc/keepalived/keepalived.conf";

/// Flags that change nothing here.
const NO_EFFECT: &[&str] = &[
    "-l",
    "--log-console",
    "-D",
    "--log-detail",
    "-S",
    "--log-facility",
    "-g",
    "-G",
    "--no-syslog",
    "-P",
    "--vrrp",
    "-d",
    "--dump-conf",
    "--all",
    "-B",
    "--no-bfd",
    "-R",
    "-X",
    "-V",
    "-I",
];

pub fn run(args: &[String]) -> i32 {
    let mut conf = DEFAULT_CONF.to_owned();
    let mut o = Options {
        background: true,
        named: Some(Half::Keepalived),
        pidfile: Some(KEEPALIVED_PID.to_owned()),
        ..Options::default()
    };
    let (mut test, mut config_id) = (false, None);
    let mut i = 0;
    while let Some(a) = args.get(i) {
        i += 1;
        let (name, inline) = a
            .split_once('=')
            .filter(|_| a.starts_with("--"))
            .map_or((a.as_str(), None), |(n, v)| (n, Some(v.to_owned())));
        let mut value = || {
            let v = inline.clone().or_else(|| args.get(i).cloned());
            if inline.is_none() {
                i += 1;
            }
            v
        };
        match name {
            "-f" | "--use-file" => match value() {
                Some(f) => conf = f,
                None => return usage("'-f' expects a file"),
            },
            "-n" | "--dont-fork" => (o.background, o.foreground) = (false, true),
            "-p" | "--pid" => o.pidfile = value().or(o.pidfile),
            "-i" | "--config-id" => config_id = value(),
            "-r" | "--vrrp_pid" | "-c" | "--checkers_pid" | "-b" | "--bfd_pid" | "-m" | "-M" => drop(value()),
            "-t" | "--config-test" => test = true,
            "-v" | "--version" => {
                eprintln!("{}", help::VERSION_LINE_KEEPALIVED);
                eprintln!("Tandem {} speaking keepalived's configuration", env!("CARGO_PKG_VERSION"));
                return 0;
            }
            "--signum" => return signum(&value().unwrap_or_default()),
            "-C" | "--check" => return usage("'-C' runs the checkers only, which are not there yet"),
            n if NO_EFFECT.contains(&n) || n.starts_with("-S") => {}
            n => return usage(&format!("unknown option '{n}'")),
        }
    }
    let load = LoadArgs { keepalived: Some(conf), config_id, localpeer: haproxy::hostname(), ..LoadArgs::default() };
    if test {
        let l = loader::run(&load, false);
        eprint!("{}", l.report.render(std::process::id(), Severity::Warning));
        // keepalived's own: 4 if it cannot run at all, 5 for anything reported.
        if std::fs::metadata(load.keepalived.as_deref().unwrap_or_default()).is_err() {
            return 4;
        }
        return if l.report.diags.iter().any(|d| d.severity > Severity::Notice) { 5 } else { 0 };
    }
    o.load = load;
    start::main(o)
}

fn usage(why: &str) -> i32 {
    eprintln!(
        "keepalived (Tandem): {why}\nusage: keepalived [-f FILE] [-n] [-p PIDFILE] [-t] [-v] [--signum=NAME] ..."
    );
    1
}

fn signum(name: &str) -> i32 {
    let n = match name {
        "STOP" => libc::SIGTERM,
        "RELOAD" => libc::SIGHUP,
        "DATA" => libc::SIGUSR1,
        "STATS" => libc::SIGUSR2,
        _ => return usage(&format!("unknown signal name '{name}'")),
    };
    println!("{n}");
    0
}
