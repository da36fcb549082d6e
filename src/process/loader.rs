//! The loader: reads and checks a configuration in a process of its own, resolves names without privileges, seals the result.
use super::bundle::{self, Bundle, ListenSpec, Spec, Target};
use super::child::dup_to;
use super::privilege;
use crate::base::addr::ListenAddr;
use crate::base::code::Code;
use crate::base::diag::{Report, Severity};
use crate::config::load::{load, vips};
use crate::config::model::{Model, SocketOptions, VrrpModel};
use crate::config::source::{Disk, LoadArgs, Recorded};
use crate::net::{dns, listen};
use crate::state::snapshot::check_tls;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::rc::Rc;

/// Descriptor on which the loader finds the memfd to fill.
pub const OUTPUT_FD: i32 = 3;
/// Of a line that is shown with a finding.
const SHOWN: usize = 4096;

/// One whole load.
pub struct Loaded {
    pub vrrp: VrrpModel,
    pub spec: Spec,
    pub report: Report,
    pub recorded: Recorded,
}

/// Loads in two passes: the first reads files and learns which names there are, the second, with the names resolved, is the one that counts.
/// `drop_rights` gives up root in between: answers of name servers are nobody's friend.
pub fn run(args: &LoadArgs, drop_rights: bool) -> Loaded {
    let names: Rc<RefCell<BTreeSet<String>>> = Rc::default();
    let seen = names.clone();
    let mut disk = Disk::new(
        args.clone(),
        Box::new(move |n| {
            seen.borrow_mut().insert(n.to_owned());
            vec![[127, 0, 0, 1].into()]
        }),
    );
    let (model, mut report) = load(&mut disk, args);
    let accounts = privilege::Accounts::read();
    let named = !names.borrow().is_empty();
    // Where no name was asked for, the second pass would find the same.
    let mut made = (!named).then(|| (spec(&model, args, &accounts, &mut report), model.vrrp.clone()));
    // Certificates are read here, and remembered for the worker.
    let mut unheard = Report::default();
    let heard = if named { &mut unheard } else { &mut report };
    check_tls(&model, &mut disk, heard);
    drop(model);
    if drop_rights {
        privilege::become_nobody();
    }
    disk.recorded.names = dns::lookup_all(names.borrow().iter());
    let mut recorded = std::mem::take(&mut disk.recorded);
    if named {
        let (model, again) = load(&mut recorded, args);
        report = again;
        made = Some((spec(&model, args, &accounts, &mut report), model.vrrp.clone()));
        check_tls(&model, &mut recorded, &mut report);
    }
    // Made by one of the two passes.
    let (mut spec, vrrp) = made.unwrap_or_default();
    if spec.listeners.is_empty() && spec.vrrp.instances.is_empty() && !report.has_fatal() {
        spec.frontends = 0;
    }
    let mut lines: HashMap<String, Vec<&[u8]>> = HashMap::new();
    report.attach(|file, line| {
        if !lines.contains_key(file) {
            let bytes = recorded.files.get(file)?.as_ref().ok()?;
            lines.insert(file.to_owned(), bytes.split(|c| *c == b'\n').collect());
        }
        let text = lines.get(file)?.get(usize::try_from(line).ok()?.checked_sub(1)?)?;
        Some(String::from_utf8_lossy(&text[..text.len().min(SHOWN)]).trim_end().to_owned())
    });
    Loaded { vrrp, spec, report, recorded }
}

/// The guardian's part of a model; accounts become numbers here, because the guardian reads no file.
fn spec(m: &Model, args: &LoadArgs, accounts: &privilege::Accounts, report: &mut Report) -> Spec {
    let g = &m.global;
    if let Some(dir) = g.chroot.as_deref().filter(|d| !std::path::Path::new(d).is_dir()) {
        report.push(
            Code::Unreadable,
            Severity::Warning,
            None,
            format!("[global] chroot '{dir}' is no directory: create it, or correct the path"),
        );
    }
    let mut user = |name: &Option<String>, kind: &str, find: &dyn Fn(&str) -> Option<u32>| -> Option<u32> {
        let n = name.as_deref()?;
        let id = n.parse().ok().or_else(|| find(n));
        if id.is_none() {
            report.push(
                Code::UnknownTarget,
                Severity::Error,
                None,
                format!("[global] cannot find {kind} id for '{n}': create it, or correct the name"),
            );
        }
        id
    };
    let find_user = |n: &str| accounts.user(n);
    let find_group = |n: &str| accounts.group(n);
    let uid = g.uid.or_else(|| user(&g.user, "user", &find_user));
    let gid =
        g.gid.or_else(|| user(&g.group, "group", &find_group)).or_else(|| accounts.primary_group(g.user.as_deref()?));
    let virtual_ips = vips(m);
    let mut listeners = Vec::new();
    for s in &g.stats_sockets {
        listeners.push(ListenSpec {
            target: Target::Cli { level: s.level },
            addr: s.addr.clone(),
            datagram: false,
            backlog: 128,
            freebind: false,
            mode: s.mode,
            uid: user(&s.user, "user", &find_user),
            gid: user(&s.group, "group", &find_group),
            options: SocketOptions::default(),
            place: "stats socket".into(),
        });
    }
    for p in m.proxies.iter().filter(|p| p.is_frontend() && !p.disabled) {
        for (index, b) in p.binds.iter().enumerate() {
            // A virtual server's address may come from elsewhere.
            let freebind = p.virtual_server.is_some()
                || matches!(&b.addr, ListenAddr::Inet { addr, .. } if virtual_ips.contains(addr));
            listeners.push(ListenSpec {
                target: Target::Frontend { name: p.name.clone(), index },
                addr: b.addr.clone(),
                datagram: b.datagram,
                backlog: b
                    .backlog
                    .or(p.backlog)
                    .map_or(listen::DEFAULT_BACKLOG, |n| i32::try_from(n).unwrap_or(i32::MAX)),
                freebind,
                mode: b.mode,
                uid: user(&b.user, "user", &find_user),
                gid: user(&b.group, "group", &find_group),
                options: SocketOptions { no_linger: p.options.nolinger, ..b.options.clone() },
                place: b.place.to_string(),
            });
        }
    }
    // Scripts run with the rights the file names, else those of keepalived's own user if there is one; the guardian gets numbers.
    let mut vrrp = m.vrrp.clone();
    let named = vrrp
        .script_user
        .clone()
        .or_else(|| accounts.user("keepalived_script").map(|_| ("keepalived_script".to_owned(), None)));
    let mut numbers = |who: &(String, Option<String>)| -> Option<(String, Option<String>)> {
        let uid = user(&Some(who.0.clone()), "user", &find_user)?;
        let gid = match &who.1 {
            Some(g) => user(&Some(g.clone()), "group", &find_group)?,
            None => accounts.primary_group(&who.0).unwrap_or(uid),
        };
        Some((uid.to_string(), Some(gid.to_string())))
    };
    vrrp.script_user = named.as_ref().and_then(&mut numbers);
    for f in &mut vrrp.fifos {
        f.user = f.user.as_ref().and_then(&mut numbers);
    }
    // keepalived passes over a notify script whose account is not there.
    let mut lost = Vec::new();
    for slot in vrrp
        .instances
        .iter_mut()
        .map(|i| &mut i.notify)
        .chain(vrrp.groups.iter_mut().map(|g| &mut g.notify))
        .flat_map(crate::config::model::Notify::each)
        .chain(vrrp.fifos.iter_mut().map(|f| &mut f.script))
        .chain(vrrp.told.iter_mut().flat_map(|t| [&mut t.up, &mut t.down]))
        .chain([&mut vrrp.at_start.script, &mut vrrp.at_end.script])
    {
        let Some((name, group)) = slot.as_ref().and_then(|c| c.user.clone()) else { continue };
        let number = |n: &str, find: &dyn Fn(&str) -> Option<u32>| n.parse().ok().or_else(|| find(n));
        let uid = number(&name, &find_user);
        let gid = match &group {
            Some(g) => number(g, &find_group),
            None => uid.map(|uid| accounts.primary_group(&name).unwrap_or(uid)),
        };
        match (uid, gid, slot.as_mut()) {
            (Some(uid), Some(gid), Some(call)) => call.user = Some((uid.to_string(), Some(gid.to_string()))),
            _ => {
                let who = group.map_or(name.clone(), |g| format!("{name}' in group '{g}"));
                let command = slot.take().map(|c| c.command).unwrap_or_default();
                lost.push(format!("notify script '{command}' : there is no account '{who}': it is not run, as in keepalived; quote the command if that word belongs to it"));
            }
        }
    }
    for s in &mut vrrp.scripts {
        // Without a proxy of ours, the question is about somebody else's: it is asked.
        s.liveness &= !args.haproxy.is_empty();
        s.user = s.user.as_ref().and_then(&mut numbers);
    }
    for s in &mut vrrp.checks {
        s.user = s.user.as_ref().and_then(&mut numbers);
    }
    for text in lost {
        report.push(Code::UnknownTarget, Severity::Warning, None, text);
    }
    super::host::check(m, &mut vrrp, args.strict_keepalived, report);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let foreign =
        |s: &Option<std::sync::Arc<crate::config::model::Source>>| s.as_ref().is_some_and(|s| s.usesrc.is_some());
    // Marks need the same right.
    let marked = m.proxies.iter().any(|p| p.marks_packets());
    Spec {
        raw: marked || m.proxies.iter().any(|p| foreign(&p.source) || p.servers.iter().any(|s| foreign(&s.source))),
        listeners,
        threads: g.nbthread.map_or(cpus, |n| n as usize).clamp(1, crate::state::counters::MAX_THREADS),
        uid,
        gid,
        chroot: g.chroot.clone(),
        vrrp,
        pidfile: g.pidfile.clone(),
        daemon: g.daemon,
        hard_stop_ms: g.hard_stop_after.map(crate::base::units::millis),
        grace_ms: crate::base::units::millis(g.grace),
        maxconn: g.maxconn.unwrap_or(crate::config::model::DEFAULT_MAXCONN),
        proxy: !args.haproxy.is_empty() || m.proxies.iter().any(|p| p.virtual_server.is_some()),
        // A runtime socket is enough to run: checks and statistics are there.
        cpu_map: m.global.cpu_map.clone(),
        frontends: m.proxies.iter().filter(|p| p.is_frontend() && !p.binds.is_empty()).count()
            + m.global.stats_sockets.len(),
    }
}

/// Loads in a loader process, and waits for it. The bundle is there even if the configuration is bad; it says so.
pub fn load_apart(args: &LoadArgs) -> Result<(OwnedFd, Bundle), String> {
    let fd = bundle::memfd().map_err(|e| format!("cannot make a bundle: {e}"))?;
    let json = serde_json::to_string(args).map_err(|e| e.to_string())?;
    let raw = fd.as_raw_fd();
    let mut c = Command::new("/proc/self/exe");
    c.arg0("tandem-loader").arg("--tandem-loader").arg(json).stdin(Stdio::null());
    // SAFETY: only async-signal-safe calls between fork and exec.
    unsafe {
        c.pre_exec(move || if raw == OUTPUT_FD { clear_cloexec(raw) } else { dup_to(raw, OUTPUT_FD) });
    }
    let mut child = c.spawn().map_err(|e| format!("cannot start the loader: {e}"))?;
    child.wait().map_err(|e| e.to_string())?;
    let b = bundle::read(&fd, false).map_err(|e| format!("the loader left no result: {e}"))?;
    Ok((fd, b))
}

fn clear_cloexec(fd: RawFd) -> std::io::Result<()> {
    // SAFETY: plain system call on a descriptor of this process.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Entry of the loader process: arguments as JSON, the memfd on a fixed descriptor. The exit code says whether the bundle can be used.
pub fn main(json: &str) -> i32 {
    // SAFETY: the guardian put the memfd there; nobody else in this process owns it.
    let out = unsafe { OwnedFd::from_raw_fd(OUTPUT_FD) };
    let Ok(args) = serde_json::from_str::<LoadArgs>(json) else { return 2 };
    let l = run(&args, true);
    let ok = !l.report.has_fatal();
    let text = l.report.render(std::process::id(), Severity::Warning);
    if bundle::write(out, ok, text, l.spec, &l.recorded).is_err() {
        return 2;
    }
    i32::from(!ok)
}
