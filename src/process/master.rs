//! The master CLI (`-S`; management manual 9.4): one socket of the guardian that speaks for every process of the program.
use super::privilege::Accounts;
use super::rendezvous::Answer;
use crate::base::addr::{ListenAddr, abstract_name};
use crate::config::model::{CliLevel, SocketOptions};
use crate::control::{VERSION, command};
use crate::net::listen::{self, Bound};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// `-S <address>[,<option>...]`
#[derive(Clone, Debug)]
pub struct Socket {
    pub addr: ListenAddr,
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub level: CliLevel,
}

/// What a connection asks of the guardian.
pub enum ToMaster {
    /// The table of `show proc`.
    Processes(oneshot::Sender<String>),
    Reload(oneshot::Sender<Answer>),
    /// A connection to a worker's runtime socket, and its pid.
    Worker(Which, CliLevel, oneshot::Sender<Option<(i32, UnixStream)>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// `@<n>`: counted from the newest.
    Relative(u32),
    /// `@!<pid>`
    Pid(i32),
}

/// Longest line taken.
const MAX_LINE: u64 = 16 * 1024;
/// A connection on which nothing is asked is closed.
const IDLE: Duration = Duration::from_secs(600);
/// Connections at a time, as there.
const MOST: usize = 10;
/// A worker that does not answer is not waited for.
const PATIENCE: Duration = Duration::from_secs(10);

impl Socket {
    /// Options are separated by commas where a `bind` line has blanks. The error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split(',');
        let addr = words.next().unwrap_or_default();
        let wrong = |what: String| format!("-S {text}: {what}");
        let addr = match addr.split_once('@') {
            Some(("unix", path)) => ListenAddr::Unix(path.to_owned()),
            Some((f @ ("abns" | "abnsz"), name)) => ListenAddr::Abstract(abstract_name(name, f == "abns")),
            Some(("fd", n)) => ListenAddr::Fd(n.parse().map_err(|_| wrong(format!("'{n}' is no descriptor")))?),
            _ if addr.starts_with('/') => ListenAddr::Unix(addr.to_owned()),
            _ => {
                let bare = addr.trim_start_matches("ipv4@").trim_start_matches("ipv6@");
                let full =
                    if bare.starts_with(':') { format!("0.0.0.0{bare}") } else { bare.replace("*:", "0.0.0.0:") };
                let a: std::net::SocketAddr =
                    full.parse().map_err(|_| wrong(format!("'{addr}' is no address of a socket")))?;
                ListenAddr::Inet { addr: a.ip(), port: a.port(), v4v6: false, device: None }
            }
        };
        let mut s = Self { addr, mode: None, uid: None, gid: None, level: CliLevel::Admin };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| wrong(format!("'{word}' expects a value")));
            match word {
                "mode" => {
                    let v = value()?;
                    s.mode = Some(u32::from_str_radix(v, 8).map_err(|_| wrong(format!("'{v}' is no octal mode")))?);
                }
                "uid" => s.uid = Some(value()?.parse().map_err(|_| wrong("'uid' expects a number".into()))?),
                "gid" => s.gid = Some(value()?.parse().map_err(|_| wrong("'gid' expects a number".into()))?),
                "user" => {
                    let v = value()?;
                    s.uid = Some(Accounts::read().user(v).ok_or_else(|| wrong(format!("there is no user '{v}'")))?);
                }
                "group" => {
                    let v = value()?;
                    s.gid = Some(Accounts::read().group(v).ok_or_else(|| wrong(format!("there is no group '{v}'")))?);
                }
                "level" => {
                    s.level = match value()? {
                        "user" => CliLevel::User,
                        "operator" => CliLevel::Operator,
                        "admin" => CliLevel::Admin,
                        o => return Err(wrong(format!("'{o}' is no level; it is one of user, operator, admin"))),
                    }
                }
                o => return Err(wrong(format!("'{o}' is not known; options are mode, user, uid, group, gid, level"))),
            }
        }
        Ok(s)
    }

    pub fn bind(&self) -> Result<Bound, String> {
        let o = listen::Options {
            datagram: false,
            freebind: false,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            socket: SocketOptions::default(),
            backlog: 10,
        };
        let b = listen::bind(&self.addr, &o)?;
        listen::begin(&b.fd, 10).map_err(|e| format!("cannot listen for -S: {}", crate::base::diag::io_words(&e)))?;
        Ok(b)
    }
}

/// Takes connections until the guardian ends.
pub async fn serve(fd: OwnedFd, level: CliLevel, ask: mpsc::UnboundedSender<ToMaster>) {
    let unix = socket2::SockRef::from(&fd).local_addr().is_ok_and(|a| a.is_unix());
    // SAFETY: the OwnedFd keeps the same descriptor open for the life of the AsyncFd.
    let Ok(fd) = (unsafe { AsyncFd::register(fd) }) else { return };
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok(mut guard) = fd.readable().await else { return };
        let Some(conn) = listen::accept(fd.get_ref()) else {
            guard.clear_ready();
            continue;
        };
        let ask = ask.clone();
        if unix {
            if let Ok(s) = UnixStream::from_std(conn.into()) {
                tokio::task::spawn_local(async move {
                    talk(s, level, ask).await;
                    drop(place);
                });
            }
        } else if let Ok(s) = tokio::net::TcpStream::from_std(conn.into()) {
            tokio::task::spawn_local(async move {
                talk(s, level, ask).await;
                drop(place);
            });
        }
    }
}

/// One connection: a line, or many after `prompt`.
async fn talk<S>(stream: S, mut level: CliLevel, ask: mpsc::UnboundedSender<ToMaster>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (read, mut write) = tokio::io::split(stream);
    let mut read = BufReader::new(read);
    let (mut interactive, mut target) = (false, None::<(Which, i32)>);
    loop {
        let mut line = String::new();
        let got = tokio::time::timeout(IDLE, (&mut read).take(MAX_LINE).read_line(&mut line)).await;
        let Ok(Ok(1..)) = got else { return };
        for part in line.split(';').map(str::trim).filter(|p| !p.is_empty()) {
            let (to, words) = match prefix(part) {
                Prefix::None => (target.map(|t| t.0), part),
                Prefix::Master(rest) => {
                    if rest.is_empty() {
                        target = None;
                    }
                    (None, rest)
                }
                Prefix::Worker(w, rest) => (Some(w), rest),
                Prefix::Bad(word) => {
                    let text = format!("Can't find the target PID matching the prefix '{word}'\n");
                    if send(&mut write, text.as_bytes()).await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            let first = words.split_whitespace().next().unwrap_or_default();
            let said = match (to, first) {
                (_, "quit") => return,
                (_, "prompt") => {
                    interactive = !interactive;
                    String::new()
                }
                (Some(w), "") => match worker(&ask, w, level).await {
                    Some((pid, _)) => {
                        target = Some((w, pid));
                        String::new()
                    }
                    None => missing(part),
                },
                (Some(w), _) => match worker(&ask, w, level).await {
                    Some((_, s)) => match put(s, words, &mut write).await {
                        Ok(()) => continue,
                        Err(Broken::Client) => return,
                        Err(Broken::Worker) => "The worker does not answer.\n".into(),
                    },
                    None => missing(part),
                },
                (None, "") => String::new(),
                (None, _) => own(words, &mut level, &ask).await + "\n",
            };
            if send(&mut write, said.as_bytes()).await.is_err() {
                return;
            }
        }
        if !interactive {
            let _ = write.shutdown().await;
            return;
        }
        let prompt = target.map_or_else(|| "master> ".to_owned(), |t| format!("{}> ", t.1));
        if send(&mut write, prompt.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn missing(word: &str) -> String {
    let word = word.split_whitespace().next().unwrap_or_default();
    format!("Can't find the target PID matching the prefix '{word}'\n")
}

enum Prefix<'a> {
    None,
    Master(&'a str),
    Worker(Which, &'a str),
    Bad(&'a str),
}

/// `@<relative pid>`, `@!<pid>`, `@master`, `@` in front of a command.
fn prefix(line: &str) -> Prefix<'_> {
    let Some(rest) = line.strip_prefix('@') else { return Prefix::None };
    let (word, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let command = command.trim();
    // `@@<pid>`: the same, for as long as the connection lives.
    let name = word.trim_start_matches('@');
    if matches!(name, "" | "master") {
        return Prefix::Master(command);
    }
    let which = match name.strip_prefix('!') {
        Some(pid) => pid.parse().ok().map(Which::Pid),
        None => name.parse().ok().filter(|n| *n > 0).map(Which::Relative),
    };
    match which {
        Some(w) => Prefix::Worker(w, command),
        None => Prefix::Bad(&line[..word.len() + 1]),
    }
}

async fn worker(ask: &mpsc::UnboundedSender<ToMaster>, w: Which, level: CliLevel) -> Option<(i32, UnixStream)> {
    let (tx, rx) = oneshot::channel();
    ask.send(ToMaster::Worker(w, level, tx)).ok()?;
    rx.await.ok().flatten()
}

/// Writes to a client, who has so much time to read.
async fn send<W: tokio::io::AsyncWrite + Unpin>(to: &mut W, bytes: &[u8]) -> Result<(), ()> {
    match tokio::time::timeout(IDLE, to.write_all(bytes)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(()),
    }
}

enum Broken {
    Client,
    Worker,
}

/// Puts a line to a worker, and its answer to the client as it comes.
async fn put<W: tokio::io::AsyncWrite + Unpin>(mut s: UnixStream, line: &str, to: &mut W) -> Result<(), Broken> {
    s.write_all(format!("{line}\n").as_bytes()).await.map_err(|_| Broken::Worker)?;
    let mut buf = vec![0; 16 * 1024];
    loop {
        match tokio::time::timeout(PATIENCE, s.read(&mut buf)).await {
            Ok(Ok(0)) => return Ok(()),
            Ok(Ok(n)) => send(to, &buf[..n]).await.map_err(|()| Broken::Client)?,
            Ok(Err(_)) | Err(_) => return Err(Broken::Worker),
        }
    }
}

/// Commands of the guardian itself: words, the level they take, a line of help.
const TABLE: &[(&str, CliLevel, &str)] = &[
    ("@!<pid>", CliLevel::User, "send a command to the <pid> process"),
    ("@<relative pid>", CliLevel::User, "send a command to the <relative pid> process"),
    ("@master", CliLevel::User, "send a command to the master process"),
    ("echo", CliLevel::User, "print text to the output"),
    ("hard-reload", CliLevel::Admin, "load the configuration again"),
    ("help", CliLevel::User, "this list"),
    ("operator", CliLevel::Operator, "lower the level of this connection to operator"),
    ("prompt", CliLevel::User, "stay connected and prompt"),
    ("quit", CliLevel::User, "disconnect"),
    ("reload", CliLevel::Admin, "load the configuration again"),
    ("show cli level", CliLevel::User, "the level of this connection"),
    ("show proc", CliLevel::User, "the processes"),
    ("show version", CliLevel::User, "the version"),
    ("user", CliLevel::User, "lower the level of this connection to user"),
];

/// True if there is this command.
pub fn knows(name: &str) -> bool {
    TABLE.iter().any(|t| t.0 == name)
}

async fn own(line: &str, level: &mut CliLevel, ask: &mpsc::UnboundedSender<ToMaster>) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is = |name: &str| name.split(' ').enumerate().all(|(i, w)| words.get(i) == Some(&w));
    let Some((name, least, _)) = TABLE.iter().find(|t| is(t.0)) else {
        let near = crate::base::diag::suggestion(line, TABLE.iter().map(|t| t.0));
        return format!("Unknown command: '{line}'{near}\n{}", help(*level));
    };
    if *level < *least {
        return "Permission denied\n".into();
    }
    match *name {
        "help" => help(*level),
        "echo" => format!("{}\n", line.trim_start_matches("echo").trim_start()),
        "operator" | "user" => {
            *level = if *name == "user" { CliLevel::User } else { CliLevel::Operator };
            String::new()
        }
        "show cli level" => format!("{}\n", command::level_name(*level)),
        "show version" => format!("{VERSION}\n"),
        "show proc" => {
            let (tx, rx) = oneshot::channel();
            let _ = ask.send(ToMaster::Processes(tx));
            rx.await.unwrap_or_default()
        }
        _ => {
            let (tx, rx) = oneshot::channel();
            let _ = ask.send(ToMaster::Reload(tx));
            match rx.await {
                Ok(a) => format!("Success={}\n--\n{}", u8::from(a.ok), a.text.trim_end()),
                Err(_) => "Success=0\n--\nit is stopping".into(),
            }
        }
    }
}

fn help(level: CliLevel) -> String {
    let rows = TABLE.iter().filter(|t| t.1 <= level).map(|(n, _, text)| format!("  {n:<40}: {text}\n"));
    format!("The following commands are valid at this level:\n{}", rows.collect::<String>())
}

/// A row of `show proc`.
pub fn process_row(pid: i32, kind: &str, reloads: &str, up: Duration) -> String {
    let s = up.as_secs();
    let up = format!("{}d{:02}h{:02}m{:02}s", s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60);
    format!("{pid:<15} {kind:<15} {reloads:<15} {up:<15} {VERSION:<15}\n")
}

/// The heading of `show proc`.
pub const HEADING: &str = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_their_options() {
        let s = Socket::parse("/run/m.sock,level,operator,mode,660").unwrap();
        assert_eq!(
            (s.addr, s.mode, s.level),
            (ListenAddr::Unix("/run/m.sock".into()), Some(0o660), CliLevel::Operator)
        );
        assert_eq!(Socket::parse("fd@7").unwrap().addr, ListenAddr::Fd(7));
        assert!(matches!(Socket::parse("127.0.0.1:99").unwrap().addr, ListenAddr::Inet { port: 99, .. }));
        assert!(
            Socket::parse("/x,frob").is_err() && Socket::parse("/x,mode,99").is_err() && Socket::parse("fd@x").is_err()
        );
    }

    #[test]
    fn prefixes_choose_the_process() {
        assert!(matches!(prefix("@1 show info"), Prefix::Worker(Which::Relative(1), "show info")));
        assert!(matches!(prefix("@!42"), Prefix::Worker(Which::Pid(42), "")));
        assert!(matches!(prefix("@master show proc"), Prefix::Master("show proc")));
        assert!(matches!(prefix("@"), Prefix::Master("")));
        assert!(matches!(prefix("show proc"), Prefix::None));
        assert!(matches!(prefix("@x y"), Prefix::Bad("@x")));
    }
}
