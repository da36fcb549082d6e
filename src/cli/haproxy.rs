//! HAProxy's own command line (management manual 3), with `-k` for the other half.
use super::{coverage, help};
use crate::base::code::Code;
use crate::base::diag::Severity;
use crate::config::source::LoadArgs;
use crate::process::loader::{self, Loaded};
use crate::process::rendezvous::Half;
use crate::process::start::{self, Options};

#[derive(Default)]
struct Said {
    options: Options,
    check: bool,
    verbose: bool,
    foreground: bool,
    daemon: bool,
    /// `-cc`
    condition: Option<String>,
    /// `--format json`
    json: bool,
    /// `-dK`: classes of keywords
    dump: Option<String>,
}

/// Runs HAProxy's grammar. `strict`: called by that name.
pub fn run(args: &[String], strict: bool) -> i32 {
    let said = match parse(args) {
        Ok(Parsed::Go(s)) => *s,
        Ok(Parsed::Version(full)) => {
            print!("{}", help::version(full));
            return 0;
        }
        Err(e) => {
            eprintln!("[ALERT]    ({}) : {e}", std::process::id());
            if !strict {
                eprint!("{}", help::TANDEM);
            }
            return 1;
        }
    };
    if let Some(c) = &said.condition {
        return condition(c);
    }
    if let Some(classes) = &said.dump {
        print!("{}", coverage::dump(classes));
    }
    if said.options.load.haproxy.is_empty() && said.options.load.keepalived.is_none() {
        if said.dump.is_some() {
            return 0;
        }
        eprintln!("[ALERT]    ({}) : no configuration: give one with -f", std::process::id());
        return 1;
    }
    if said.check {
        return check_only(&loader::run(&said.options.load, false), said.options.quiet, said.verbose, said.verbose);
    }
    let mut options = said.options;
    // `daemon` in the file counts unless the command line keeps the program in the foreground.
    options.background = said.daemon;
    options.foreground = said.foreground;
    options.named = strict.then_some(Half::Haproxy);
    start::main(options)
}

/// `tandem check`: both files, everything that is wrong.
pub fn check(args: &[String]) -> i32 {
    match parse(args) {
        Ok(Parsed::Go(s)) if s.options.load.haproxy.is_empty() && s.options.load.keepalived.is_none() => {
            eprintln!("tandem check: give the files with -f and -k");
            1
        }
        Ok(Parsed::Go(s)) if s.json => check_json(&s.options.load),
        Ok(Parsed::Go(s)) => {
            let mut l = loader::run(&s.options.load, false);
            // What is looked at may be for another host.
            l.report.demote(Code::Interface);
            check_only(&l, s.options.quiet, true, true)
        }
        Ok(Parsed::Version(full)) => {
            print!("{}", help::version(full));
            0
        }
        Err(e) => {
            eprintln!("tandem check: {e}");
            1
        }
    }
}

/// The files that a command line names.
pub fn load_args(args: &[String]) -> Result<LoadArgs, String> {
    match parse(args)? {
        Parsed::Go(s) => Ok(s.options.load),
        Parsed::Version(_) => Err("'-v' says nothing of files".to_owned()),
    }
}

/// `tandem explain [CODE]`: what a finding means, why it matters, and the mend; without a code, the list of them.
pub fn explain(args: &[String]) -> i32 {
    use crate::base::code;
    if args.is_empty() {
        for r in code::ROWS {
            println!("{}  {}", r.id, r.title);
        }
        return 0;
    }
    for a in args {
        let Some(r) = code::find(a) else {
            eprintln!("tandem explain: there is no code '{a}'; 'tandem explain' lists them");
            return 1;
        };
        println!("{}: {}\n\n{}\n\n{}", r.id, r.title, fold(r.why), fold(r.mend));
    }
    0
}

/// Lines of at most 80 characters.
fn fold(text: &str) -> String {
    let mut out = String::new();
    let mut width = 0;
    for w in text.split_whitespace() {
        if width > 0 && width + 1 + w.chars().count() > 80 {
            out.push('\n');
            width = 0;
        } else if width > 0 {
            out.push(' ');
            width += 1;
        }
        out.push_str(w);
        width += w.chars().count();
    }
    out
}

/// `-cc`: 0 if the condition is true, 1 if not, 2 if it is none.
fn condition(text: &str) -> i32 {
    use crate::config::haproxy::{cond, facts, features};
    let features = features();
    let env = |n: &str| std::env::var(n).ok();
    // Quotes and variables are those of a line in a file.
    let text = match crate::config::lex::words(text, &env) {
        Ok(w) => w.words.join(" "),
        Err(e) => {
            eprintln!("[ALERT]    ({}) : -cc: {} at position {}", std::process::id(), e.message, e.column);
            return 2;
        }
    };
    match cond::eval(&text, &facts(&env, &features)) {
        Ok(yes) => i32::from(!yes),
        Err(e) => {
            eprintln!("[ALERT]    ({}) : -cc: {e}", std::process::id());
            2
        }
    }
}

/// For editors and pipelines: every finding as an object, in one array on standard output.
fn check_json(load: &LoadArgs) -> i32 {
    let mut l = loader::run(load, false);
    l.report.demote(Code::Interface);
    let all: Vec<serde_json::Value> = l
        .report
        .diags
        .iter()
        .map(|d| {
            let kind = match d.severity {
                Severity::Error => "error",
                Severity::NotYet => "not-yet",
                Severity::Warning => "warning",
                Severity::Notice => "notice",
            };
            serde_json::json!({
                "code": d.code.id(),
                "severity": kind,
                "file": d.place.as_ref().map(|p| p.file.to_string()),
                "line": d.place.as_ref().map(|p| p.line),
                "column": d.span().map(|s| s.0 + 1),
                "length": d.span().map(|s| s.1),
                "message": d.message,
                "suggestion": d.suggestion(),
            })
        })
        .collect();
    println!("{}", serde_json::Value::Array(all));
    i32::from(l.report.has_fatal())
}

fn check_only(l: &Loaded, quiet: bool, verbose: bool, notices: bool) -> i32 {
    let (errors, not_yet, warnings) =
        (l.report.count(Severity::Error), l.report.count(Severity::NotYet), l.report.count(Severity::Warning));
    if !quiet {
        use std::io::IsTerminal;
        let (pid, least) = (std::process::id(), if notices { Severity::Notice } else { Severity::Warning });
        // Tools grep the first line of each finding; people see what it is about.
        if std::io::stderr().is_terminal() {
            eprint!("{}", l.report.render_for_people(pid, least));
            if l.report.diags.iter().any(|d| d.severity > Severity::Notice) {
                eprintln!("'tandem explain <code>' says more.");
            }
        } else {
            eprint!("{}", l.report.render(pid, least));
        }
    }
    if errors + not_yet == 0 && l.spec.frontends == 0 && l.spec.vrrp.instances.is_empty() {
        if !quiet {
            eprintln!(
                "[ALERT]    ({}) : config : Configuration file has no error but will not start (no listener) => exit(2).",
                std::process::id()
            );
        }
        return 2;
    }
    if errors + not_yet > 0 {
        if !quiet {
            eprintln!(
                "[ALERT]    ({}) : config : Fatal errors found in configuration: {errors} error(s), {not_yet} word(s) not honoured yet.",
                std::process::id()
            );
        }
        return 1;
    }
    if !quiet {
        if warnings > 0 {
            println!("Warnings were found.");
        }
        if verbose {
            println!("Configuration file is valid");
        }
    }
    0
}

enum Parsed {
    Go(Box<Said>),
    Version(bool),
}

fn parse(args: &[String]) -> Result<Parsed, String> {
    let mut s = Said::default();
    s.options.load.localpeer = hostname();
    let mut i = 0;
    let mut files_only = false;
    while let Some(a) = args.get(i) {
        i += 1;
        let mut value = |what: &str| -> Result<String, String> {
            let v = args.get(i).cloned().ok_or(format!("'{a}' expects {what}"));
            i += 1;
            v
        };
        if files_only || !a.starts_with('-') {
            s.options.load.haproxy.push(a.clone());
            continue;
        }
        match a.as_str() {
            "--" => files_only = true,
            "-f" => s.options.load.haproxy.push(value("a file or directory")?),
            "-k" => s.options.load.keepalived = Some(value("a keepalived.conf")?),
            "-c" => s.check = true,
            "-V" => s.verbose = true,
            "-v" | "--version" => return Ok(Parsed::Version(false)),
            "-vv" => return Ok(Parsed::Version(true)),
            "-q" => s.options.quiet = true,
            "-d" => {
                s.foreground = true;
                s.verbose = true;
            }
            "-db" => s.foreground = true,
            "-Ws" => (s.foreground, s.options.master) = (true, true),
            // Master and worker are what it always is.
            "-W" => s.options.master = true,
            "-D" => s.daemon = true,
            "--keepalived-pid" => s.options.keepalived_pidfile = Some(value("a file")?),
            "-p" => s.options.pidfile = Some(value("a file")?),
            "-L" => s.options.load.localpeer = value("a name")?,
            "-n" => s.options.load.maxconn = Some(number(a, &value("a number")?)?),
            "-m" => {
                let mb: u64 = number(a, &value("megabytes")?)?;
                limit_memory(mb)?;
            }
            "-C" => {
                let dir = value("a directory")?;
                std::env::set_current_dir(&dir)
                    .map_err(|e| format!("-C {dir}: {}", crate::base::diag::io_words(&e)))?;
            }
            "-dV" => s.options.load.no_verify = true,
            "-dW" => s.options.load.zero_warning = true,
            "--strict" => s.options.load.strict_keepalived = true,
            "--config-id" => s.options.load.config_id = Some(value("a name")?),
            "--dialect" => match value("a version")?.as_str() {
                "3.5" => s.options.load.strict = true,
                "any" => s.options.load.strict = false,
                o => {
                    return Err(format!("'--dialect {o}' : 3.5, or any (every version's words, which is the default)"));
                }
            },
            "--format" => match value("'text' or 'json'")?.as_str() {
                "json" => s.json = true,
                "text" => s.json = false,
                o => return Err(format!("'--format {o}' : 'text' or 'json'")),
            },
            "-cc" => s.condition = Some(value("a condition")?),
            "-sf" | "-st" => {
                s.options.replace_hard = a == "-st";
                while let Some(pid) = args.get(i).and_then(|p| p.parse::<i32>().ok()).filter(|p| *p > 0) {
                    s.options.replace.push(pid);
                    i += 1;
                }
            }
            "-x" => {
                value("a socket")?;
                eprintln!(
                    "[NOTICE]   ({}) : '-x' has no effect: sockets are kept by the guardian; reload with SIGUSR2 instead of starting a second one",
                    std::process::id()
                );
            }
            "-S" => {
                let addr = value("an address")?;
                s.options.master_sockets.push(crate::process::master::Socket::parse(&addr)?);
            }
            "-dM" | "-dI" | "-de" | "-dp" | "-dS" | "-dG" | "-dR" | "-dL" | "-dA" | "-dc" | "-dF" | "-dZ" | "-dT" => {}
            o if o.starts_with("-dK") => {
                let classes = &o[3..];
                s.dump = Some(if classes.is_empty() { "all".to_owned() } else { classes.to_owned() });
            }
            o if matches!(o, "-dr" | "-dD") || o.starts_with("-dM") || o.starts_with("-dC") || o.starts_with("-dt") => {
                return Err(format!("'{o}' is known but not honoured yet by this version"));
            }
            o => {
                let known = [
                    "-f", "-k", "-c", "-V", "-v", "-vv", "-q", "-d", "-db", "-D", "-W", "-Ws", "-p", "-C", "-n", "-m",
                    "-sf", "-st", "-x", "-S", "-L",
                ];
                return Err(format!("unknown option '{o}'{}", crate::base::diag::suggestion(o, known)));
            }
        }
    }
    Ok(Parsed::Go(Box::new(s)))
}

fn number<T: std::str::FromStr>(option: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("'{option}' expects a number, but got '{text}'"))
}

/// `-m`: a bound on the address space, in MiB.
fn limit_memory(mb: u64) -> Result<(), String> {
    let bytes = mb.checked_mul(1 << 20).ok_or("-m: too large")?;
    let l = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: a plain struct that the call reads.
    if unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const l) } != 0 {
        return Err(format!("-m {mb}: {}", std::io::Error::last_os_error()));
    }
    Ok(())
}

pub fn hostname() -> String {
    nix::unistd::gethostname().map_or_else(|_| "localhost".to_owned(), |n| n.to_string_lossy().into_owned())
}
