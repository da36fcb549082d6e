//! What one load read and found, sealed in a memfd: made by the loader, looked into by the guardian for its own part, compiled by the worker.
use crate::base::addr::ListenAddr;
use crate::config::model::{CliLevel, SocketOptions, VrrpModel};
use crate::config::source::{LoadArgs, Recorded};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::IpAddr;
use std::os::fd::OwnedFd;

const MAGIC: &[u8; 8] = b"TANDEM01";

/// The guardian's part.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Spec {
    pub listeners: Vec<ListenSpec>,
    pub threads: usize,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub chroot: Option<String>,
    /// Connections come from addresses that are not this host's (`usesrc`), or packets are marked: CAP_NET_RAW is kept.
    pub raw: bool,
    pub vrrp: VrrpModel,
    pub pidfile: Option<String>,
    pub daemon: bool,
    pub hard_stop_ms: Option<u64>,
    /// `grace`
    pub grace_ms: u64,
    pub maxconn: u32,
    /// There is a proxy's half: `-f`.
    pub proxy: bool,
    pub cpu_map: Vec<Vec<u16>>,
    pub frontends: usize,
}

impl Spec {
    /// The words that need a new worker when they change: user, group, chroot, nbthread, cpu-map; and whether there is anything to proxy.
    pub fn needs_new_worker(&self, other: &Self) -> bool {
        (self.threads, self.uid, self.gid, &self.chroot, self.proxy, self.raw, &self.cpu_map)
            != (other.threads, other.uid, other.gid, &other.chroot, other.proxy, other.raw, &other.cpu_map)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListenSpec {
    pub target: Target,
    pub addr: ListenAddr,
    /// Datagrams, not connections.
    pub datagram: bool,
    pub backlog: i32,
    pub freebind: bool,
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub options: SocketOptions,
    /// Where the file says it, for errors.
    pub place: String,
}

/// What a listening socket is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Target {
    Frontend { name: String, index: usize },
    Cli { level: CliLevel },
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Frontend { name, .. } => write!(f, "frontend '{name}'"),
            Self::Cli { .. } => f.write_str("a stats socket"),
        }
    }
}

/// Offset and length in the blob, or why the file could not be read.
type Blob = Result<(u64, u64), String>;

#[derive(Serialize, Deserialize)]
struct Manifest {
    ok: bool,
    report: String,
    spec: Spec,
    args: LoadArgs,
    env: BTreeMap<String, String>,
    dirs: BTreeMap<String, Option<Vec<String>>>,
    names: BTreeMap<String, Vec<IpAddr>>,
    /// Path, and where its bytes are or why it could not be read.
    files: Vec<(String, Blob)>,
}

/// A load as it comes out of the memfd.
pub struct Bundle {
    pub ok: bool,
    pub report: String,
    pub spec: Spec,
    pub recorded: Recorded,
}

pub fn memfd() -> nix::Result<OwnedFd> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    memfd_create(c"tandem-bundle", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
}

/// Writes and seals.
pub fn write(fd: OwnedFd, ok: bool, report: String, spec: Spec, r: &Recorded) -> std::io::Result<()> {
    let mut at = 0u64;
    let mut files = Vec::new();
    for (path, content) in &r.files {
        files.push((
            path.clone(),
            content.as_ref().map_err(Clone::clone).map(|b| {
                let start = at;
                at += b.len() as u64;
                (start, b.len() as u64)
            }),
        ));
    }
    let m = Manifest {
        ok,
        report,
        spec,
        args: r.args.clone(),
        env: r.env.clone(),
        dirs: r.dirs.clone(),
        names: r.names.clone(),
        files,
    };
    let json = serde_json::to_vec(&m)?;
    let mut f = File::from(fd);
    f.write_all(MAGIC)?;
    f.write_all(&(json.len() as u64).to_le_bytes())?;
    f.write_all(&json)?;
    for b in r.files.values().flatten() {
        f.write_all(b)?;
    }
    fcntl(
        &f,
        FcntlArg::F_ADD_SEALS(
            SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL,
        ),
    )?;
    Ok(())
}

/// Reads a bundle; `with_files` is for the worker, the guardian does not look at them.
pub fn read(fd: &OwnedFd, with_files: bool) -> std::io::Result<Bundle> {
    let bad = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, format!("bundle: {what}"));
    let seals = SealFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GET_SEALS)?);
    if !seals.contains(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK) {
        return Err(bad("not sealed"));
    }
    let mut f = File::from(fd.try_clone()?);
    f.rewind()?;
    let mut head = [0u8; 16];
    f.read_exact(&mut head)?;
    if &head[..8] != MAGIC {
        return Err(bad("made by another version"));
    }
    let len = u64::from_le_bytes(head[8..].try_into().unwrap_or_default());
    let mut json = Vec::new();
    (&mut f).take(len).read_to_end(&mut json)?;
    let m: Manifest = serde_json::from_slice(&json)?;
    let mut recorded = Recorded { args: m.args, env: m.env, dirs: m.dirs, names: m.names, ..Recorded::default() };
    if with_files {
        let mut blob = Vec::new();
        f.read_to_end(&mut blob)?;
        for (path, place) in m.files {
            let content = match place {
                Ok((at, n)) => {
                    let range = usize::try_from(at)
                        .ok()
                        .zip(usize::try_from(n).ok())
                        .and_then(|(a, n)| blob.get(a..a.checked_add(n)?));
                    Ok(range.ok_or_else(|| bad("truncated"))?.to_vec())
                }
                Err(e) => Err(e),
            };
            recorded.files.insert(path, content);
        }
    }
    Ok(Bundle { ok: m.ok, report: m.report, spec: m.spec, recorded })
}
