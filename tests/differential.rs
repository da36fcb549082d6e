//! Verdicts on several hundred good and broken files, against the installed HAProxy and keepalived. What differs is listed, with its reason, in
//! `docs/compatibility.md`; a difference that is not listed fails, and so does one that is listed and gone.
//!
//! The files are made from `tests/differential/*.txt`:
//!
//! ```text
//! = name        a template begins
//! | line        a line of the file; `{}` is where the argument goes
//! + argument    a file that the reference takes
//! - argument    a file that it refuses
//! ? reason      the next file's verdict differs, for this reason of the document
//! ```
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use support::{Case, Need, tandem};
use tandem_proxy::cli::demo::lab::Lab;

struct File {
    name: String,
    good: bool,
    reason: Option<String>,
    text: String,
}

fn files(list: &str) -> Vec<File> {
    let text = std::fs::read_to_string(format!("{}/tests/differential/{list}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (mut name, mut template, mut reason) = (String::new(), String::new(), None);
    let mut out = Vec::new();
    for line in text.lines() {
        let rest = line.get(2..).unwrap_or_default();
        match line.as_bytes().first() {
            None | Some(b'#') => {}
            Some(b'=') => (name, template) = (rest.to_owned(), String::new()),
            Some(b'|') => template.push_str(&format!("{rest}\n")),
            Some(b'?') => reason = Some(rest.to_owned()),
            Some(mark @ (b'+' | b'-')) => out.push(File {
                name: format!("{name}: {rest}"),
                good: *mark == b'+',
                reason: reason.take(),
                text: template.replace("{}", rest),
            }),
            Some(_) => panic!("{list}: what is this line? {line}"),
        }
    }
    out
}

/// The reasons that the document gives under this heading.
fn reasons(heading: &str) -> BTreeSet<String> {
    let doc = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/compatibility.md")).unwrap();
    let part = doc.split_once(heading).expect("the heading").1;
    let part = part.split("\n## ").next().unwrap();
    part.lines().filter_map(|l| l.strip_prefix("| `")?.split_once('`').map(|x| x.0.to_owned())).collect()
}

/// A directory with what files name as `@DIR@`.
fn directory() -> tempfile::TempDir {
    let d = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["example.org".to_owned()]).unwrap();
    let body = "<html><body>sorry</body></html>\n";
    let router = |name: &str, vrid: u8| {
        format!(
            "vrrp_instance {name} {{\n interface eth0\n virtual_router_id {vrid}\n virtual_ipaddress {{\n 10.77.0.{vrid}/24\n }}\n}}\n"
        )
    };
    std::fs::create_dir(d.path().join("more")).unwrap();
    for (name, text) in [
        ("map.txt", "a b\nc d\nexample.org b\n".to_owned()),
        ("acl.txt", "alpha\nbeta\ngamma\n".to_owned()),
        (
            "500.http",
            format!(
                "HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        ),
        ("ca.pem", made.cert.pem()),
        ("cert.pem", format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem())),
        ("check.sh", "#!/bin/sh\nexit 0\n".to_owned()),
        ("inc.conf", router("INC", 201)),
        ("more/a.conf", router("MA", 202)),
        ("more/b.conf", router("MB", 203)),
    ] {
        std::fs::write(d.path().join(name), text).unwrap();
    }
    let mode = |m| std::os::unix::fs::PermissionsExt::from_mode(m);
    std::fs::set_permissions(d.path().join("check.sh"), mode(0o755)).unwrap();
    std::fs::set_permissions(d.path(), mode(0o755)).unwrap();
    d
}

/// A program that is given 10 seconds: keepalived 2.2.7 hangs on some files.
fn limited(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut c = Command::new("timeout");
    c.arg("-s").arg("KILL").arg("10").arg(program);
    c
}

/// Exit code and output; a program that dies, or is killed, has no code.
fn run(c: &mut Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = c.stdin(Stdio::null()).output().unwrap();
    (
        status.code().filter(|c| *c < 124),
        format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)),
    )
}

/// Only words that are not honoured yet stand in the way.
fn waits(code: Option<i32>, out: &str) -> bool {
    let mut alerts = out.lines().filter(|l| l.starts_with("[ALERT]") && !l.contains("Fatal errors found")).peekable();
    code != Some(0) && alerts.peek().is_some() && alerts.all(|l| l.contains("not honoured yet"))
}

type Verdict = (Option<i32>, String);

/// Compares both verdicts on every file. `exact`: the exit codes have to be equal, not only what they mean.
fn compare(list: &str, heading: &str, known: bool, exact: bool, judge: impl Fn(&Path, bool) -> Verdict + Sync) {
    let all = files(list);
    let reasons = reasons(heading);
    let mut wrong: Vec<String> = Vec::new();
    for r in all.iter().filter_map(|f| f.reason.as_ref()).filter(|r| !reasons.contains(*r)) {
        wrong.push(format!("reason '{r}' is not in the document"));
    }
    for r in reasons.iter().filter(|r| !all.iter().any(|f| f.reason.as_ref() == Some(*r))) {
        wrong.push(format!("no file is left for the document's reason '{r}'"));
    }
    let next = AtomicUsize::new(0);
    let found = std::sync::Mutex::new((wrong, BTreeMap::<&str, usize>::new()));
    std::thread::scope(|s| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            s.spawn(|| {
                let dir = directory();
                let path = dir.path().join("keepalived.conf");
                while let Some(f) = all.get(next.fetch_add(1, Relaxed)) {
                    let text = f.text.replace("@DIR@", dir.path().to_str().unwrap());
                    let text = if f.name.starts_with("no-newline") { text.trim_end() } else { &text };
                    std::fs::write(&path, text).unwrap();
                    let (reference, ours) = (judge(&path, true), judge(&path, false));
                    let mut found = found.lock().unwrap();
                    let (wrong, counts) = &mut *found;
                    let mut count = |what| *counts.entry(what).or_default() += 1;
                    let as_marked = (reference.0 == Some(0)) == f.good;
                    let waiting = waits(ours.0, &ours.1);
                    let same = if exact { ours.0 == reference.0 } else { (ours.0 == Some(0)) == f.good };
                    let what = match (&f.reason, same) {
                        // Another version of the reference has another opinion.
                        _ if !as_marked && !known => {
                            count("other version");
                            continue;
                        }
                        _ if !as_marked => "the mark is not the reference's verdict",
                        _ if waiting => {
                            count("not yet");
                            continue;
                        }
                        (None, false) => "the verdicts differ",
                        (Some(_), true) => "listed as a difference, and it is none any more",
                        (reason, _) => {
                            count(if reason.is_some() { "listed" } else { "same" });
                            continue;
                        }
                    };
                    wrong.push(format!(
                        "{what}: {}\n  reference {:?}: {}\n  ours {:?}: {}",
                        f.name,
                        reference.0,
                        reference.1.trim(),
                        ours.0,
                        ours.1.trim()
                    ));
                }
            });
        }
    });
    let (wrong, counts) = found.into_inner().unwrap();
    println!("    {} files: {counts:?}", all.len());
    assert!(wrong.is_empty(), "{} of {} files\n{}", wrong.len(), all.len(), wrong.join("\n"));
    // A test that waits for most of its words says little.
    let same = counts.get("same").copied().unwrap_or(0);
    assert!(!known || same * 2 > all.len(), "{counts:?}");
}

fn haproxy() {
    let known = run(Command::new("/usr/sbin/haproxy").arg("-v")).1.contains("version 2.6");
    let ours = tandem();
    compare("haproxy.txt", "\n## Verdicts that differ from HAProxy 2.6\n", known, false, |path, reference| {
        let program = if reference { "/usr/sbin/haproxy" } else { &ours };
        run(Command::new(program)
            .arg("-c")
            .arg("-f")
            .arg(path)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"))
    });
}

fn keepalived() {
    let known = run(Command::new("/usr/sbin/keepalived").arg("-v")).1.contains("v2.2.7");
    // The interfaces that the files name.
    let lab = Lab::new(1).unwrap();
    let made = lab.hosts[0].run(|| {
        ["link add eth1 type veth peer name eth2", "addr add 10.9.8.1/24 dev eth0"]
            .iter()
            .all(|a| Command::new("ip").args(a.split(' ')).status().is_ok_and(|s| s.success()))
    });
    assert!(made.unwrap());
    let dir = tempfile::tempdir().unwrap();
    let ours: PathBuf = dir.path().join("keepalived");
    std::os::unix::fs::symlink(std::fs::canonicalize(tandem()).unwrap(), &ours).unwrap();
    compare("keepalived.txt", "\n## Verdicts that differ from keepalived 2.2.7\n", known, true, |path, reference| {
        let mut c = limited(if reference { "/usr/sbin/keepalived".as_ref() } else { ours.as_path() });
        c.arg("-t").arg("-f").arg(path).current_dir(path.parent().unwrap());
        lab.hosts[0].run(move || run(&mut c)).unwrap()
    });
}

fn main() {
    support::run(&[
        Case { name: "verdicts_of_haproxy", needs: &[Need::Haproxy], run: haproxy },
        Case { name: "verdicts_of_keepalived", needs: &[Need::Root, Need::Keepalived], run: keepalived },
    ]);
}
