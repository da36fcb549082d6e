//! The guardian's listening sockets: opened once, kept over reloads and over workers.
use super::bundle::{ListenSpec, Spec, Target};
use super::ipc::SocketRef;
use crate::base::addr::ListenAddr;
use crate::net::listen::{self, Options};
use std::collections::HashMap;
use std::os::fd::OwnedFd;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    target: Target,
    addr: ListenAddr,
    thread: usize,
}

#[derive(Default)]
pub struct Sockets {
    open: HashMap<Key, (u64, OwnedFd)>,
    next: u64,
}

/// Sockets of a load that is not yet in force.
pub struct Plan {
    wanted: Vec<(Key, u64)>,
    fresh: Vec<(Key, u64, OwnedFd)>,
}

impl Sockets {
    /// Opens what the specification wants and is not open yet. All errors at once; nothing changes on error.
    pub fn plan(&mut self, spec: &Spec) -> Result<Plan, Vec<String>> {
        let (mut wanted, mut fresh, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for l in &spec.listeners {
            // Several sockets share an Internet address, one a thread; other kinds cannot be shared.
            let shared = matches!(l.addr, ListenAddr::Inet { .. }) && matches!(l.target, Target::Frontend { .. });
            for thread in 0..if shared { spec.threads } else { 1 } {
                let key = Key { target: l.target.clone(), addr: l.addr.clone(), thread };
                if let Some((id, _)) = self.open.get(&key) {
                    wanted.push((key, *id));
                    continue;
                }
                match listen::open(&l.addr, &options(l)) {
                    Ok(fd) => {
                        self.next += 1;
                        wanted.push((key.clone(), self.next));
                        fresh.push((key, self.next, fd));
                    }
                    Err(e) => {
                        errors.push(format!("{} : {e}", l.place));
                        break;
                    }
                }
            }
        }
        if errors.is_empty() { Ok(Plan { wanted, fresh }) } else { Err(errors) }
    }

    /// Puts a plan in force: closes what it does not want. The worker holds its own copies until it has drained them.
    pub fn commit(&mut self, plan: Plan) {
        let keep: std::collections::HashSet<u64> = plan.wanted.iter().map(|w| w.1).collect();
        self.open.retain(|_, (id, _)| keep.contains(id));
        self.open.extend(plan.fresh.into_iter().map(|(k, id, fd)| (k, (id, fd))));
    }

    pub fn close_all(&mut self) {
        self.open.clear();
    }

    /// Every socket in force with its descriptor, for a new worker.
    pub fn all(&self) -> impl Iterator<Item = (SocketRef, &OwnedFd)> {
        self.open.iter().map(|(k, (id, fd))| (reference(k, *id), fd))
    }
}

impl Plan {
    pub fn wanted(&self) -> Vec<SocketRef> {
        self.wanted.iter().map(|(k, id)| reference(k, *id)).collect()
    }
    pub fn fresh(&self) -> impl Iterator<Item = (u64, &OwnedFd)> {
        self.fresh.iter().map(|(_, id, fd)| (*id, fd))
    }
}

fn reference(k: &Key, id: u64) -> SocketRef {
    SocketRef { id, thread: k.thread, target: k.target.clone(), unix: !matches!(k.addr, ListenAddr::Inet { .. }) }
}

fn options(l: &ListenSpec) -> Options {
    Options { backlog: l.backlog, freebind: l.freebind, mode: l.mode, uid: l.uid, gid: l.gid }
}
