//! The guardian's listening sockets: opened once, kept over reloads and over workers.
use super::bundle::{ListenSpec, Spec, Target};
use super::ipc::SocketRef;
use crate::base::addr::ListenAddr;
use crate::config::model::SocketOptions;
use crate::net::listen::{self, Bound, Options, Unplaced};
use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;

#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key {
    target: Target,
    addr: ListenAddr,
    datagram: bool,
    thread: usize,
    options: SocketOptions,
}

struct Open {
    id: u64,
    backlog: i32,
    fd: OwnedFd,
}

#[derive(Default)]
pub struct Sockets {
    open: HashMap<Key, Open>,
    next: u64,
    /// Unix sockets that get their names once the worker listens.
    unplaced: Vec<Unplaced>,
    /// Options that could not be set and are done without.
    lost: Vec<String>,
}

/// Sockets of a load that is not yet in force.
pub struct Plan {
    wanted: Vec<(Key, u64, i32)>,
    fresh: Vec<(Key, u64, i32, Bound)>,
}

/// What a specification wants, with what there is to bind for it.
fn keys(spec: &Spec) -> impl Iterator<Item = (Key, &ListenSpec)> {
    spec.listeners.iter().flat_map(|l| {
        // Several sockets share an Internet address, one a thread; other kinds cannot be shared.
        let shared = matches!(l.addr, ListenAddr::Inet { .. }) && matches!(l.target, Target::Frontend { .. });
        (0..if shared { spec.threads } else { 1 }).map(move |thread| {
            (
                Key {
                    target: l.target.clone(),
                    addr: l.addr.clone(),
                    datagram: l.datagram,
                    thread,
                    options: if matches!(l.addr, ListenAddr::Inet { .. }) {
                        l.options.clone()
                    } else {
                        SocketOptions::default()
                    },
                },
                l,
            )
        })
    })
}

/// Binds what the specification wants beyond `known`. All errors at once. Touches the file system: not for the guardian's loop.
pub fn bind_missing(spec: &Spec, known: &HashSet<Key>) -> Result<Vec<(Key, Bound)>, Vec<String>> {
    let (mut fresh, mut errors) = (Vec::new(), Vec::new());
    let mut failed: HashSet<&str> = HashSet::new();
    for (key, l) in keys(spec).filter(|k| !known.contains(&k.0)) {
        // The other threads' sockets of a line would fail just so.
        if failed.contains(l.place.as_str()) {
            continue;
        }
        match listen::bind(&l.addr, &options(l)) {
            Ok(b) => fresh.push((key, b)),
            Err(e) => {
                failed.insert(&l.place);
                errors.push(format!("{} : {e}", l.place));
            }
        }
    }
    if errors.is_empty() { Ok(fresh) } else { Err(errors) }
}

impl Sockets {
    /// What is open.
    pub fn known(&self) -> HashSet<Key> {
        self.open.keys().cloned().collect()
    }

    /// Numbers the sockets of a load. Nothing changes until the plan is in force.
    pub fn plan(&mut self, spec: &Spec, fresh: Vec<(Key, Bound)>) -> Plan {
        let mut bound: HashMap<Key, Bound> = fresh.into_iter().collect();
        let mut plan = Plan { wanted: Vec::new(), fresh: Vec::new() };
        for (key, l) in keys(spec) {
            if let Some(o) = self.open.get(&key) {
                plan.wanted.push((key, o.id, l.backlog));
            } else if let Some(b) = bound.remove(&key) {
                self.next += 1;
                plan.wanted.push((key.clone(), self.next, l.backlog));
                plan.fresh.push((key, self.next, l.backlog, b));
            }
        }
        plan
    }

    /// Puts a plan in force: closes what it does not want. The worker holds its own copies until it has drained them.
    pub fn commit(&mut self, plan: Plan) {
        let keep: HashSet<u64> = plan.wanted.iter().map(|w| w.1).collect();
        self.open.retain(|_, o| keep.contains(&o.id));
        for (key, id, backlog, b) in plan.fresh {
            // One thread's socket of a line stands for all.
            if key.thread == 0 {
                self.lost.extend(b.lost);
            }
            self.unplaced.extend(b.unplaced);
            self.open.insert(key, Open { id, backlog, fd: b.fd });
        }
    }

    /// Unix sockets that the worker listens on by now.
    pub fn unplaced(&mut self) -> Vec<Unplaced> {
        std::mem::take(&mut self.unplaced)
    }

    /// What could not be set on sockets, once.
    pub fn lost(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lost)
    }

    pub fn close_all(&mut self) {
        self.open.clear();
    }

    /// Every socket in force, and its descriptor.
    pub fn all(&self) -> (Vec<SocketRef>, Vec<(u64, &OwnedFd)>) {
        self.open.iter().map(|(k, o)| (reference(k, o.id, o.backlog), (o.id, &o.fd))).unzip()
    }

    /// All that a plan wants, for a worker that has nothing yet.
    pub fn with<'a>(&'a self, plan: &'a Plan) -> (Vec<SocketRef>, Vec<(u64, &'a OwnedFd)>) {
        let open = plan.wanted.iter().filter_map(|w| self.open.get(&w.0).map(|o| (o.id, &o.fd)));
        (plan.wanted(), open.chain(plan.fresh()).collect())
    }
}

impl Plan {
    pub fn wanted(&self) -> Vec<SocketRef> {
        self.wanted.iter().map(|(k, id, backlog)| reference(k, *id, *backlog)).collect()
    }
    pub fn fresh(&self) -> impl Iterator<Item = (u64, &OwnedFd)> {
        self.fresh.iter().map(|f| (f.1, &f.3.fd))
    }
}

fn reference(k: &Key, id: u64, backlog: i32) -> SocketRef {
    let unix = !matches!(k.addr, ListenAddr::Inet { .. });
    SocketRef { id, thread: k.thread, target: k.target.clone(), unix, backlog }
}

fn options(l: &ListenSpec) -> Options {
    Options {
        datagram: l.datagram,
        freebind: l.freebind,
        mode: l.mode,
        uid: l.uid,
        gid: l.gid,
        socket: l.options.clone(),
        backlog: l.backlog,
    }
}
