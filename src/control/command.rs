//! Lines of the runtime socket, parsed to a typed command (management manual 9.3).
use super::runtime::{Removable, Wish};
use super::stats::Hide;
use super::typed::Form;
use crate::base::diag::suggestion;
use crate::config::model::CliLevel;
use crate::health::verdict::ServerAct;
use crate::state::live::Doors;
use std::time::Duration;

/// How much of the virtual routers is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vrrp {
    Brief,
    Explain,
    /// What was wrong with packets.
    Rejected,
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Help,
    Prompt,
    Quit,
    ShowInfo(Option<super::typed::Form>),
    DumpStats,
    ShowCache,
    ShowErrors(super::offences::Wanted),
    ShowSinks,
    ShowEvents(Events),
    ShowStat {
        form: Option<super::typed::Form>,
        iid: Option<String>,
        kinds: i64,
        sid: i64,
        hide: Hide,
    },
    ShowResolvers(Option<String>),
    StatOfResolvers,
    ShowServersState(Option<String>),
    ShowBackend,
    ShowVersion,
    ShowVrrp(Vrrp),
    ShowSess,
    ClearCounters,
    ClearServerCounters {
        backend: String,
        server: String,
    },
    Server {
        backend: String,
        server: String,
        act: ServerAct,
    },
    GetWeight {
        backend: String,
        server: String,
    },
    ShowDefaultServer(Option<String>),
    ShowDefaults,
    /// What `add server` takes.
    ServerWords,
    /// A server or a backend is made, renamed or removed.
    Make(Wish),
    Publish {
        backend: String,
        yes: bool,
    },
    /// A frontend's listeners.
    Doors(String, Doors),
    /// Another ceiling of the process or of a frontend.
    SetLimit(Ceilings, u64),
    DynamicCookie {
        backend: String,
        what: Dynamic,
    },
    Wait {
        most: Duration,
        until: Option<Removable>,
    },
    Reload,
    Standby(bool),
    ShowReloads,
    /// Keeps one traffic thread in a loop, in milliseconds: for testing what happens then.
    DebugLoop(u64),
}

/// What `set maxconn` and `set rate-limit` set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ceilings {
    Frontend(String),
    Maxconn,
    Connections,
    Sessions,
    Tls,
    /// In kilobytes a second.
    Compression,
}

/// What becomes of cookies made of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dynamic {
    On,
    Off,
    Key(String),
}

/// `show events <sink>`: how its events are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    pub sink: String,
    /// `-w`: what comes later as well.
    pub wait: bool,
    /// `-n`: only what comes later.
    pub new: bool,
    /// `-0`: a zero ends an event.
    pub zero: bool,
}

/// Words, what follows, the level it takes, a line of help.
const TABLE: &[(&str, &str, CliLevel, &str)] = &[
    (
        "add backend",
        "<name> from <defaults> [mode <mode>] [guid <guid>]",
        CliLevel::Admin,
        "make a backend that is not published yet",
    ),
    ("add server", "<backend>/<server> <addr> [<args>...]", CliLevel::Admin, "make a server, in maintenance"),
    ("clear counters", "[all|server <backend>/<server> [force]]", CliLevel::Operator, "reset maxima, or all counters"),
    ("debug dev loop", "<ms>", CliLevel::Admin, "keep one thread in a loop, to test its detection"),
    ("del backend", "<backend>", CliLevel::Admin, "remove a backend that is unpublished and empty"),
    ("del server", "<backend>/<server>", CliLevel::Admin, "remove a server in maintenance"),
    ("disable agent", "<backend>/<server>", CliLevel::Admin, "stop asking a server's agent"),
    ("disable dynamic-cookie backend", "<backend>", CliLevel::Admin, "make no cookies of addresses"),
    ("disable frontend", "<frontend>", CliLevel::Admin, "let a frontend's listeners take no connections"),
    ("disable health", "<backend>/<server>", CliLevel::Admin, "stop checking a server"),
    ("disable server", "<backend>/<server>", CliLevel::Admin, "put a server into maintenance"),
    ("dump stats-file", "", CliLevel::User, "counters of what has a GUID, for 'stats-file'"),
    ("enable agent", "<backend>/<server>", CliLevel::Admin, "ask a server's agent again"),
    ("enable dynamic-cookie backend", "<backend>", CliLevel::Admin, "make cookies of addresses again"),
    ("enable frontend", "<frontend>", CliLevel::Admin, "let a frontend's listeners take connections again"),
    ("enable health", "<backend>/<server>", CliLevel::Admin, "check a server again"),
    ("enable server", "<backend>/<server>", CliLevel::Admin, "take a server out of maintenance"),
    ("get weight", "<backend>/<server>", CliLevel::User, "a server's weight now and as configured"),
    ("help", "", CliLevel::User, "this list"),
    ("prompt", "", CliLevel::User, "stay connected and prompt"),
    ("publish backend", "<backend>", CliLevel::Admin, "let rules lead to a backend"),
    ("quit", "", CliLevel::User, "disconnect"),
    ("reload", "", CliLevel::Admin, "load the configuration again"),
    ("set dynamic-cookie-key backend", "<backend> <key>", CliLevel::Admin, "another key for cookies of addresses"),
    ("set maxconn frontend", "<frontend> <n>", CliLevel::Admin, "change a frontend's connection limit"),
    ("set maxconn global", "<n>", CliLevel::Admin, "change the process's connection limit"),
    ("set maxconn server", "<backend>/<server> <n>", CliLevel::Admin, "change a server's connection limit"),
    (
        "set rate-limit",
        "connections|sessions|ssl-sessions|http-compression global <n>",
        CliLevel::Admin,
        "change how many a second there may be",
    ),
    ("set server", "<backend>/<server> state|weight|health|addr|fqdn|name ...", CliLevel::Admin, "change a server"),
    ("set weight", "<backend>/<server> <weight>", CliLevel::Admin, "change a server's weight"),
    ("show backend", "", CliLevel::User, "names of the backends"),
    ("show cache", "", CliLevel::Admin, "show cache status"),
    ("show default-server", "[<backend>]", CliLevel::User, "what servers made at run time may begin with"),
    ("show defaults", "", CliLevel::User, "names of the sections 'defaults'"),
    (
        "show errors",
        "[<iid>|<proxy>] [request|response]",
        CliLevel::Operator,
        "the last invalid messages of each proxy",
    ),
    ("show events", "[<sink>] [-w] [-n] [-0]", CliLevel::User, "rings of events, or what one of them holds"),
    ("show info", "", CliLevel::User, "what this process is and does"),
    ("show reloads", "", CliLevel::User, "reloads in force and reloads that failed"),
    ("show resolvers", "[<id>]", CliLevel::User, "what became of questions to name servers"),
    ("show servers state", "[<backend>]", CliLevel::User, "states of servers, one a line"),
    ("show sess", "", CliLevel::User, "current connections, summed up"),
    ("show stat", "[<iid>|<proxy> <type> <sid>]", CliLevel::User, "statistics as CSV"),
    ("show version", "", CliLevel::User, "the version"),
    ("show vrrp", "[rejected|explain]", CliLevel::User, "virtual routers with the cause of their state"),
    ("shutdown frontend", "<frontend>", CliLevel::Admin, "stop a frontend until the next reload"),
    ("shutdown sessions server", "<backend>/<server>", CliLevel::Admin, "close a server's connections"),
    ("unpublish backend", "<backend>", CliLevel::Admin, "make rules pass over a backend"),
    ("vrrp resume", "", CliLevel::Admin, "contend for the addresses again"),
    ("vrrp standby", "", CliLevel::Admin, "give the addresses to the peer and stay away"),
    (
        "wait",
        "<delay> [srv-removable <backend>/<server> | be-removable <backend>]",
        CliLevel::Admin,
        "wait for a time, or until something can be removed",
    ),
];

/// A level as files name it.
pub fn level_name(l: CliLevel) -> &'static str {
    match l {
        CliLevel::User => "user",
        CliLevel::Operator => "operator",
        CliLevel::Admin => "admin",
    }
}

/// True if there is this command.
pub fn knows(name: &str) -> bool {
    TABLE.iter().any(|t| t.0 == name)
}

/// Why a line is no command; the text is what the client gets.
pub type Refusal = String;

pub fn parse(line: &str, level: CliLevel) -> Result<Command, Refusal> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let found = TABLE
        .iter()
        .filter(|t| t.0.split(' ').enumerate().all(|(i, w)| words.get(i) == Some(&w)))
        .max_by_key(|t| t.0.len());
    let Some((name, _, least, _)) = found else {
        return Err(format!(
            "Unknown command: '{}'{}\n{}",
            line.trim(),
            suggestion(line.trim(), TABLE.iter().map(|t| t.0)),
            help(level)
        ));
    };
    if level < *least {
        return Err("Permission denied\n".into());
    }
    let rest = &words[name.split(' ').count()..];
    let server = || -> Result<(String, String), Refusal> {
        let (b, s) = rest.first().and_then(|w| w.split_once('/')).ok_or("Require 'backend/server'.\n")?;
        Ok((b.to_owned(), s.to_owned()))
    };
    let act = |act: ServerAct| -> Result<Command, Refusal> {
        let (backend, server) = server()?;
        Ok(Command::Server { backend, server, act })
    };
    Ok(match *name {
        "help" => Command::Help,
        "prompt" => Command::Prompt,
        "quit" => Command::Quit,
        "dump stats-file" => Command::DumpStats,
        "show cache" => Command::ShowCache,
        "show default-server" => Command::ShowDefaultServer(rest.first().map(|w| (*w).to_owned())),
        "show defaults" => Command::ShowDefaults,
        "show errors" => {
            let side = |w: &str| match w {
                "request" => Some(0),
                "response" => Some(1),
                _ => None,
            };
            let word = |i: usize| rest.get(i).copied();
            Command::ShowErrors(super::offences::Wanted {
                proxy: word(0).filter(|w| *w != "-1").map(str::to_owned),
                side: word(1).and_then(side),
            })
        }
        "show events" => {
            let Some((sink, options)) = rest.split_first() else { return Ok(Command::ShowSinks) };
            if level < CliLevel::Operator {
                return Err("Permission denied\n".into());
            }
            let mut e = Events { sink: (*sink).to_owned(), ..Events::default() };
            for o in options {
                match *o {
                    "-w" => e.wait = true,
                    "-n" => e.new = true,
                    "-0" => e.zero = true,
                    "-nw" | "-wn" => (e.wait, e.new) = (true, true),
                    _ => return Err("unknown option\n".into()),
                }
            }
            Command::ShowEvents(e)
        }
        "show info" => match rest.first() {
            Some(&"typed") => Command::ShowInfo(Some(Form::Typed)),
            Some(&"json") => Command::ShowInfo(Some(Form::Json)),
            None | Some(_) => Command::ShowInfo(None),
        },
        "show stat" if rest == ["domain", "resolvers"] => Command::StatOfResolvers,
        "show stat" => {
            let form = rest.iter().find_map(|w| match *w {
                "typed" => Some(Form::Typed),
                "json" => Some(Form::Json),
                _ => None,
            });
            let hide = Hide { down: rest.contains(&"up"), maint: rest.contains(&"no-maint") };
            let asked = |w: &&&str| !matches!(**w, "typed" | "json" | "desc" | "up" | "no-maint");
            let rest: Vec<&str> = rest.iter().filter(asked).copied().collect();
            let num = |i: usize| rest.get(i).and_then(|w| w.parse().ok()).unwrap_or(-1);
            Command::ShowStat {
                form,
                iid: rest.first().filter(|w| **w != "-1").map(|w| (*w).to_owned()),
                kinds: num(1),
                sid: num(2),
                hide,
            }
        }
        "show resolvers" => Command::ShowResolvers(rest.first().map(|w| (*w).to_owned())),
        "show servers state" => Command::ShowServersState(rest.first().map(|w| (*w).to_owned())),
        "show backend" => Command::ShowBackend,
        "show version" => Command::ShowVersion,
        "show vrrp" => Command::ShowVrrp(match rest {
            ["rejected"] => Vrrp::Rejected,
            ["explain"] => Vrrp::Explain,
            _ => Vrrp::Brief,
        }),
        "show sess" => Command::ShowSess,
        "clear counters" if rest == ["all"] && level < CliLevel::Admin => return Err("Permission denied\n".into()),
        "clear counters" if rest.first() == Some(&"server") => {
            let named = rest.get(1).and_then(|w| w.split_once('/')).ok_or("Require 'backend/server'.\n")?;
            if level < CliLevel::Admin {
                return Err("Permission denied\n".into());
            }
            Command::ClearServerCounters { backend: named.0.to_owned(), server: named.1.to_owned() }
        }
        "clear counters" => Command::ClearCounters,
        "disable server" => act(ServerAct::Maint)?,
        "enable server" => act(ServerAct::Ready)?,
        "disable agent" => act(ServerAct::EnableAgent(false))?,
        "enable agent" => act(ServerAct::EnableAgent(true))?,
        "disable health" => act(ServerAct::EnableHealth(false))?,
        "enable health" => act(ServerAct::EnableHealth(true))?,
        "shutdown sessions server" => act(ServerAct::ShutdownSessions)?,
        "get weight" => {
            let (backend, server) = server()?;
            Command::GetWeight { backend, server }
        }
        "set weight" => act(ServerAct::Weight(rest.get(1).copied().unwrap_or_default().to_owned()))?,
        "set maxconn server" => {
            act(ServerAct::MaxConn(rest.get(1).and_then(|n| n.parse().ok()).ok_or("Integer expected.\n")?))?
        }
        "set server" => match rest[1.min(rest.len())..] {
            ["state", "ready"] => act(ServerAct::Ready)?,
            ["state", "drain"] => act(ServerAct::Drain)?,
            ["state", "maint"] => act(ServerAct::Maint)?,
            ["state", ..] => return Err("'set server <srv> state' expects 'ready', 'drain' and 'maint'.\n".into()),
            ["weight", w] => act(ServerAct::Weight(w.to_owned()))?,
            ["health", "up"] => act(ServerAct::Health(true))?,
            ["health", "down"] => act(ServerAct::Health(false))?,
            ["health", "stopping"] => act(ServerAct::Stopping)?,
            ["health", ..] => {
                return Err("'set server <srv> health' expects 'up', 'stopping', or 'down'.\n".into());
            }
            ["agent", "up"] => act(ServerAct::AgentSays(true))?,
            ["agent", "down"] => act(ServerAct::AgentSays(false))?,
            ["agent", ..] => return Err("'set server <srv> agent' expects 'up' or 'down'.\n".into()),
            ["agent-addr", a] => act(ServerAct::AgentAddr(a.to_owned(), None))?,
            ["agent-addr", a, "port", p] => act(ServerAct::AgentAddr(a.to_owned(), Some(p.to_owned())))?,
            ["agent-addr", ..] => {
                return Err("set server <b>/<s> agent-addr requires an address and optionally a port.\n".into());
            }
            ["agent-port", p] => act(ServerAct::AgentPort(p.to_owned()))?,
            ["agent-port", ..] => return Err("set server <b>/<s> agent-port requires a port.\n".into()),
            ["check-addr", a] => act(ServerAct::CheckAddr(a.to_owned(), None))?,
            ["check-addr", a, "port", p] => act(ServerAct::CheckAddr(a.to_owned(), Some(p.to_owned())))?,
            ["check-addr", ..] => {
                return Err("set server <b>/<s> check-addr requires an address and optionally a port.\n".into());
            }
            ["check-port", p] => act(ServerAct::CheckPort(p.to_owned()))?,
            ["check-port", ..] => return Err("set server <b>/<s> check-port requires a port.\n".into()),
            ["agent-send", ..] => act(ServerAct::AgentSend(unescaped(line, "agent-send")))?,
            ["addr", a] => act(ServerAct::Addr(a.to_owned(), None))?,
            ["addr", a, "port", p] => act(ServerAct::Addr(a.to_owned(), Some(p.to_owned())))?,
            ["fqdn"] => return Err("set server <b>/<s> fqdn requires a FQDN.\n".into()),
            ["fqdn", name, ..] => {
                let (backend, server) = server()?;
                Command::Make(Wish::Fqdn { backend, server, name: name.to_owned() })
            }
            ["name"] => return Err("set server <b>/<s> name requires a new name.\n".into()),
            ["name", name, ..] => {
                let (backend, server) = server()?;
                Command::Make(Wish::RenameServer { backend, server, name: name.to_owned() })
            }
            _ => return Err("usage: set server <backend>/<server> addr | agent | agent-addr | agent-port | agent-send | check-addr | check-port | fqdn | health | name | state | weight\n".into()),
        },
        "add server" if rest == ["help"] => Command::ServerWords,
        "add server" => {
            let (backend, server) = server()?;
            Command::Make(Wish::AddServer { backend, server, args: words_from(line, 3) })
        }
        "del server" => {
            let (backend, server) = server()?;
            Command::Make(Wish::DelServer { backend, server })
        }
        "add backend" => {
            let name = named(rest, "Require backend name.\n")?;
            Command::Make(Wish::AddBackend { name, args: rest[1..].iter().map(|w| (*w).to_owned()).collect() })
        }
        "del backend" => Command::Make(Wish::DelBackend { name: named(rest, "Require backend name.\n")? }),
        "publish backend" => Command::Publish { backend: named(rest, "Require backend name.\n")?, yes: true },
        "unpublish backend" => Command::Publish { backend: named(rest, "Require backend name.\n")?, yes: false },
        "disable frontend" => Command::Doors(named(rest, "A frontend name is expected.\n")?, Doors::Paused),
        "enable frontend" => Command::Doors(named(rest, "A frontend name is expected.\n")?, Doors::Open),
        "shutdown frontend" => Command::Doors(named(rest, "A frontend name is expected.\n")?, Doors::Shut),
        "set maxconn frontend" => {
            let frontend = named(rest, "A frontend name is expected.\n")?;
            let n = rest.get(1).and_then(|n| n.parse().ok()).ok_or("Integer value expected.\n")?;
            Command::SetLimit(Ceilings::Frontend(frontend), n)
        }
        "set maxconn global" => Command::SetLimit(Ceilings::Maxconn, ceiling(rest.first())?),
        "set rate-limit" => {
            let what = match rest {
                ["connections", "global", ..] => Ceilings::Connections,
                ["sessions", "global", ..] => Ceilings::Sessions,
                ["ssl-sessions", "global", ..] => Ceilings::Tls,
                ["http-compression", "global", ..] => Ceilings::Compression,
                _ => return Err(RATE_LIMITS.into()),
            };
            Command::SetLimit(what, ceiling(rest.get(2))?)
        }
        "set dynamic-cookie-key backend" => {
            let backend = named(rest, NO_BACKEND)?;
            let key = rest.get(1).ok_or("String value expected.\n")?;
            Command::DynamicCookie { backend, what: Dynamic::Key((*key).to_owned()) }
        }
        "enable dynamic-cookie backend" => {
            Command::DynamicCookie { backend: named(rest, NO_BACKEND)?, what: Dynamic::On }
        }
        "disable dynamic-cookie backend" => {
            Command::DynamicCookie { backend: named(rest, NO_BACKEND)?, what: Dynamic::Off }
        }
        "wait" => wait(rest)?,
        "reload" => Command::Reload,
        "show reloads" => Command::ShowReloads,
        "debug dev loop" => Command::DebugLoop(
            rest.first()
                .and_then(|n| n.parse().ok())
                .filter(|n| *n <= 60_000)
                .ok_or("Require milliseconds, at most 60000.\n")?,
        ),
        "vrrp standby" => Command::Standby(true),
        _ => Command::Standby(false),
    })
}

const NO_BACKEND: &str = "A backend name is expected.\n";
const RATE_LIMITS: &str = "'set rate-limit' only supports :\n   - 'connections global' to set the per-process maximum connection rate\n   - 'sessions global' to set the per-process maximum session rate\n   - 'ssl-sessions global' to set the per-process maximum SSL session rate\n   - 'http-compression global' to set the per-process maximum compression speed in kB/s\n";

/// A number from 0.
fn ceiling(word: Option<&&str>) -> Result<u64, Refusal> {
    let word = word.ok_or("Expects an integer value.\n")?;
    word.parse::<u32>().map(u64::from).map_err(|_| "Value out of range.\n".to_owned())
}

fn named(rest: &[&str], missing: &str) -> Result<String, Refusal> {
    rest.first().map(|n| (*n).to_owned()).ok_or_else(|| missing.to_owned())
}

/// The words of a line from the one at `at` on: blanks divide them, a backslash takes what stands behind it as it is.
fn words_from(line: &str, at: usize) -> Vec<String> {
    let (mut all, mut word, mut escaped) = (Vec::new(), None::<String>, false);
    for c in line.chars() {
        if !escaped && c.is_whitespace() {
            all.extend(word.take());
        } else if !escaped && c == '\\' {
            escaped = true;
            word.get_or_insert_default();
        } else {
            word.get_or_insert_default().push(c);
            escaped = false;
        }
    }
    all.extend(word);
    all.split_off(at.min(all.len()))
}

fn wait(rest: &[&str]) -> Result<Command, Refusal> {
    let delay = rest.first().ok_or("Expects a duration in milliseconds.\n")?;
    let most = crate::base::units::parse_time(delay, crate::base::units::TimeUnit::Millis);
    let most = most.ok().filter(|d| !d.is_zero()).ok_or("Invalid duration.\n")?;
    let until = match rest[1..] {
        [] => None,
        ["srv-removable", name, ..] => {
            let (b, s) = name.split_once('/').ok_or("Missing server name (<backend>/<server>).\n")?;
            Some(Removable::Server { backend: b.to_owned(), server: s.to_owned() })
        }
        ["srv-removable"] => return Err("Missing server name (<backend>/<server>).\n".into()),
        ["be-removable", name, ..] => Some(Removable::Backend(name.to_owned())),
        ["be-removable"] => return Err("Missing backend name.\n".into()),
        _ => return Err("Unknown condition; it is srv-removable or be-removable.\n".into()),
    };
    Ok(Command::Wait { most, until })
}

/// What stands behind a word, with `\\ `, `\\n` and their like as what they mean.
fn unescaped(line: &str, word: &str) -> String {
    let Some(at) = line.find(word) else { return String::new() };
    let (mut out, mut escaped) = (String::new(), false);
    for c in line[at + word.len()..].trim().chars() {
        match (escaped, c) {
            (false, '\\') => escaped = true,
            (true, c) => {
                out.push(match c {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    c => c,
                });
                escaped = false;
            }
            (false, c) => out.push(c),
        }
    }
    out
}

pub fn help(level: CliLevel) -> String {
    let mut out = "The following commands are valid at this level:\n".to_owned();
    for (name, args, least, text) in TABLE.iter().filter(|t| t.2 <= level) {
        let _ = least;
        out.push_str(&format!("  {:<40}: {text}\n", format!("{name} {args}").trim()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_commands_and_levels_hold() {
        let p = |l| parse(l, CliLevel::Admin);
        assert_eq!(p("show info"), Ok(Command::ShowInfo(None)));
        assert_eq!(
            p("show stat -1 4 -1"),
            Ok(Command::ShowStat { form: None, iid: None, kinds: 4, sid: -1, hide: Hide::default() })
        );
        assert!(matches!(p("set server b/s state drain"), Ok(Command::Server { act: ServerAct::Drain, .. })));
        assert!(matches!(p("disable server b/s"), Ok(Command::Server { act: ServerAct::Maint, .. })));
        assert!(p("set server b").unwrap_err().contains("usage") || p("set server b").is_err());
        assert!(p("shwo info").unwrap_err().starts_with("Unknown command"));
        assert_eq!(parse("disable server b/s", CliLevel::Operator), Err("Permission denied\n".into()));
    }
}
