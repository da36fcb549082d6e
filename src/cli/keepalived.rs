//! keepalived's command line, for the binary installed under that name: letters may stand together, as getopt has it.
use super::{haproxy, help};
use crate::base::code::Code;
use crate::base::diag::Severity;
use crate::config::model::Tracked;
use crate::config::source::LoadArgs;
use crate::process::loader;
use crate::process::rendezvous::Half;
use crate::process::start::{self, KEEPALIVED_PID, Options};

const DEFAULT_CONF: &str = "/etc/keepalived/keepalived.conf";

/// What an option takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    Value,
    /// `-tLOG`, `--config-test=LOG`
    Maybe,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    File,
    Foreground,
    Pid,
    Id,
    Test,
    Version,
    Signum,
    Help,
    /// It changes nothing here.
    Nothing,
    /// Known, and refused for this reason.
    Refused(&'static str),
}

use Takes::{Maybe, Value};

/// Letter (a blank: none), long name, value, meaning.
const OPTIONS: &[(char, &str, Takes, Does)] = &[
    ('f', "use-file", Value, Does::File),
    ('n', "dont-fork", Takes::Nothing, Does::Foreground),
    ('p', "pid", Value, Does::Pid),
    ('i', "config-id", Value, Does::Id),
    ('t', "config-test", Maybe, Does::Test),
    ('v', "version", Takes::Nothing, Does::Version),
    ('h', "help", Takes::Nothing, Does::Help),
    (' ', "signum", Value, Does::Signum),
    ('r', "vrrp_pid", Value, Does::Nothing),
    ('c', "checkers_pid", Value, Does::Nothing),
    ('b', "bfd_pid", Value, Does::Nothing),
    ('m', "core-dump", Takes::Nothing, Does::Nothing),
    ('M', "core-dump-pattern", Maybe, Does::Nothing),
    ('l', "log-console", Takes::Nothing, Does::Nothing),
    ('D', "log-detail", Takes::Nothing, Does::Nothing),
    ('S', "log-facility", Value, Does::Nothing),
    ('g', "log-file", Maybe, Does::Nothing),
    ('G', "no-syslog", Takes::Nothing, Does::Nothing),
    ('e', "all-config", Takes::Nothing, Does::Nothing),
    (' ', "flush-log-file", Takes::Nothing, Does::Nothing),
    ('u', "umask", Value, Does::Nothing),
    ('X', "release-vips", Takes::Nothing, Does::Nothing),
    ('V', "dont-release-vrrp", Takes::Nothing, Does::Nothing),
    ('I', "dont-release-ipvs", Takes::Nothing, Does::Nothing),
    ('R', "dont-respawn", Takes::Nothing, Does::Nothing),
    ('d', "dump-conf", Takes::Nothing, Does::Nothing),
    ('P', "vrrp", Takes::Nothing, Does::Nothing),
    ('B', "no_bfd", Takes::Nothing, Does::Nothing),
    (' ', "all", Takes::Nothing, Does::Nothing),
    (' ', "ignore-sigint", Takes::Nothing, Does::Nothing),
    ('C', "check", Takes::Nothing, Does::Refused("it runs the checkers only, which are not there yet")),
    ('x', "snmp", Takes::Nothing, Does::Refused("SNMP is not there yet")),
    ('A', "snmp-agent-socket", Value, Does::Refused("SNMP is not there yet")),
    ('s', "namespace", Value, Does::Refused("start it inside the namespace: 'ip netns exec <name> keepalived ...'")),
    ('T', "genhash", Takes::Nothing, Does::Refused("checkers are not there yet")),
    ('a', "address-monitoring", Takes::Nothing, Does::Nothing),
    (' ', "config-fd", Value, Does::Refused("give the file with '-f'")),
];

/// One option as it was given.
struct Given {
    name: String,
    does: Does,
    value: Option<String>,
}

/// Splits the command line; words that are no options come back apart.
fn split(args: &[String]) -> Result<(Vec<Given>, Vec<String>), String> {
    let (mut out, mut rest) = (Vec::new(), Vec::new());
    let mut it = args.iter().cloned();
    while let Some(a) = it.next() {
        if a == "--" {
            rest.extend(it.by_ref());
        } else if let Some(long) = a.strip_prefix("--") {
            let (name, inline) = long.split_once('=').map_or((long, None), |(n, v)| (n, Some(v.to_owned())));
            // A beginning is enough where it fits one name alone.
            let mut fit = OPTIONS
                .iter()
                .filter(|o| o.1 == name)
                .chain(OPTIONS.iter().filter(|o| o.1.starts_with(name) && OPTIONS.iter().all(|x| x.1 != name)));
            let Some(o) = fit.next().filter(|_| fit.next().is_none()) else {
                return Err(format!("unknown option '{a}'"));
            };
            let value = match o.2 {
                Value => Some(inline.or_else(|| it.next()).ok_or(format!("'--{name}' expects a value"))?),
                Maybe => inline,
                Takes::Nothing => None,
            };
            out.push(Given { name: format!("--{}", o.1), does: o.3, value });
        } else if let Some(letters) = a.strip_prefix('-').filter(|l| !l.is_empty()) {
            let mut tail = letters;
            while let Some(c) = tail.chars().next() {
                tail = &tail[c.len_utf8()..];
                let Some(o) = OPTIONS.iter().find(|o| o.0 == c) else {
                    return Err(format!("unknown option '-{c}'"));
                };
                let behind = (!tail.is_empty()).then(|| tail.to_owned());
                let value = match o.2 {
                    Value => Some(behind.or_else(|| it.next()).ok_or(format!("'-{c}' expects a value"))?),
                    Maybe => behind,
                    Takes::Nothing => None,
                };
                out.push(Given { name: format!("-{c}"), does: o.3, value });
                if o.2 != Takes::Nothing {
                    break;
                }
            }
        } else {
            rest.push(a);
        }
    }
    Ok((out, rest))
}

pub fn run(args: &[String]) -> i32 {
    let mut conf = DEFAULT_CONF.to_owned();
    let mut o = Options {
        background: true,
        named: Some(Half::Keepalived),
        pidfile: Some(KEEPALIVED_PID.to_owned()),
        ..Options::default()
    };
    let (mut test, mut config_id) = (None, None);
    let (given, rest) = match split(args) {
        Ok(x) => x,
        Err(e) => return usage(&e),
    };
    if !rest.is_empty() {
        eprintln!("Unexpected argument(s): {}", rest.join(" "));
    }
    for g in given {
        let value = g.value.unwrap_or_default();
        match g.does {
            Does::File => conf = value,
            Does::Foreground => (o.background, o.foreground) = (false, true),
            Does::Pid => o.pidfile = Some(value),
            Does::Id => config_id = Some(value),
            Does::Test => test = Some(value),
            Does::Signum => return signum(&value),
            Does::Nothing => {}
            Does::Refused(why) => return usage(&format!("'{}' : {why}", g.name)),
            Does::Help => {
                println!("{USAGE}");
                return 0;
            }
            Does::Version => {
                eprintln!("{}", help::VERSION_LINE_KEEPALIVED);
                eprintln!("Tandem {} speaking keepalived's configuration", env!("CARGO_PKG_VERSION"));
                return 0;
            }
        }
    }
    let load = LoadArgs { keepalived: Some(conf), config_id, localpeer: haproxy::hostname(), ..LoadArgs::default() };
    if let Some(log) = test {
        return test_only(&load, &log);
    }
    o.load = load;
    start::main(o)
}

/// `-t`: 0 if nothing is to be reported, 2 for a word without the value it needs, 4 if there is no file, 6 if an include finds nothing or scripts run
/// without 'enable_script_security', 5 for anything else.
fn test_only(load: &LoadArgs, log: &str) -> i32 {
    let l = loader::run(load, false);
    let text = l.report.render(std::process::id(), Severity::Warning);
    if log.is_empty() {
        eprint!("{text}");
    } else if let Err(e) = std::fs::write(log, &text) {
        eprintln!("keepalived (Tandem): cannot write '{log}': {e}");
        eprint!("{text}");
    }
    if std::fs::metadata(load.keepalived.as_deref().unwrap_or_default()).is_err() {
        return 4;
    }
    let told: Vec<Code> = l.report.diags.iter().filter(|d| d.severity > Severity::Notice).map(|d| d.code).collect();
    let v = &l.vrrp;
    let tracked = v.instances.iter().map(|i| &i.tracks).chain(v.groups.iter().map(|g| &g.tracks));
    let runs = v.at_start.script.is_some()
        || v.at_end.script.is_some()
        || tracked.flatten().any(|t| t.kind == Tracked::Script)
        || v.instances
            .iter()
            .map(|i| &i.notify)
            .chain(v.groups.iter().map(|g| &g.notify))
            .any(|n| n.calls().next().is_some());
    let fixed: Vec<Code> = told.iter().copied().filter(|c| *c != Code::ScriptUnsafe).collect();
    match fixed[..] {
        _ if fixed.contains(&Code::Missing) => 2,
        _ if fixed.contains(&Code::Include) => 6,
        [] if runs && !v.script_security => {
            eprintln!("SECURITY VIOLATION - scripts are run, and 'enable_script_security' is not said in global_defs");
            6
        }
        [] if told.is_empty() => 0,
        _ => 5,
    }
}

const USAGE: &str = "usage: keepalived [-f FILE] [-n] [-p PIDFILE] [-t[LOG]] [-i ID] [-v] [-h] [--signum=NAME] ...";

fn usage(why: &str) -> i32 {
    eprintln!("keepalived (Tandem): {why}\n{USAGE}");
    1
}

fn signum(name: &str) -> i32 {
    let n = match name {
        "STOP" => libc::SIGTERM,
        "RELOAD" => libc::SIGHUP,
        "DATA" => libc::SIGUSR1,
        "STATS" => libc::SIGUSR2,
        "JSON" => crate::process::stub::json_signal(),
        "STATS_CLEAR" => crate::process::stub::clear_signal(),
        _ => return usage(&format!("unknown signal name '{name}'")),
    };
    println!("{n}");
    0
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn letters_stand_together_as_getopt_has_it() {
        let split = |line: &str| split(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let names = |line: &str| -> Vec<(String, Option<String>)> {
            split(line).unwrap().0.into_iter().map(|g| (g.name, g.value)).collect()
        };
        let n = |s: &str| s.to_owned();
        assert_eq!(
            names("-nldDt"),
            [(n("-n"), None), (n("-l"), None), (n("-d"), None), (n("-D"), None), (n("-t"), None)]
        );
        assert_eq!(names("-t/log -f/k"), [(n("-t"), Some(n("/log"))), (n("-f"), Some(n("/k")))]);
        assert_eq!(
            names("--config-test=x --use-file k"),
            [(n("--config-test"), Some(n("x"))), (n("--use-file"), Some(n("k")))]
        );
        assert_eq!(names("--dont-fork"), [(n("--dont-fork"), None)]);
        assert_eq!(split("-f k extra").unwrap().1, ["extra"]);
        assert!(split("-Z").is_err() && split("-f").is_err() && split("--nope").is_err());
    }
}
