//! Users, groups, rights. Accounts are read from the files themselves: a static binary has no NSS.
use std::ffi::CString;

/// uid and gid of nobody, where the loader resolves names.
const NOBODY: u32 = 65534;

pub struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    pub fn read() -> Self {
        let file = |p: &str| std::fs::read_to_string(p).unwrap_or_default();
        Self { passwd: file("/etc/passwd"), group: file("/etc/group") }
    }
    fn field(text: &str, name: &str, n: usize) -> Option<u32> {
        text.lines()
            .map(|l| l.split(':').collect::<Vec<_>>())
            .find(|f| f.first() == Some(&name))
            .and_then(|f| f.get(n)?.parse().ok())
    }
    pub fn user(&self, name: &str) -> Option<u32> {
        Self::field(&self.passwd, name, 2)
    }
    pub fn group(&self, name: &str) -> Option<u32> {
        Self::field(&self.group, name, 2)
    }
    pub fn primary_group(&self, user: &str) -> Option<u32> {
        Self::field(&self.passwd, user, 3)
    }
}

pub fn become_nobody() {
    // SAFETY: plain system calls of a single-threaded process; failure (no right to change) leaves us what we are.
    unsafe {
        if libc::geteuid() == 0 {
            libc::setgroups(0, std::ptr::null());
            libc::setresgid(NOBODY, NOBODY, NOBODY);
            libc::setresuid(NOBODY, NOBODY, NOBODY);
        }
    }
}

/// Gives up root for good: chroot, groups, user, capabilities. Must run before threads are started.
/// Returns what could not be done and does not matter (an unprivileged user namespace cannot change users).
/// `raw`: the right to speak from foreign addresses (`usesrc`) and to mark packets is kept.
pub fn confine(chroot: Option<&str>, uid: Option<u32>, gid: Option<u32>, raw: bool) -> Result<Vec<String>, String> {
    if raw {
        // SAFETY: prctl with these arguments takes no pointers. Without it a change of user takes all rights.
        unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) };
    }
    let mut notes = Vec::new();
    let err = || crate::base::diag::io_words(&std::io::Error::last_os_error());
    if let Some(dir) = chroot {
        let path = CString::new(dir).map_err(|_| "chroot: bad path".to_owned())?;
        // SAFETY: `path` is a C string.
        if unsafe { libc::chroot(path.as_ptr()) } != 0 {
            return Err(format!("cannot chroot to '{dir}' : {}", err()));
        }
        // SAFETY: a constant C string.
        if unsafe { libc::chdir(c"/".as_ptr()) } != 0 {
            return Err(format!("cannot enter '{dir}' : {}", err()));
        }
    }
    // SAFETY: plain system call.
    let root = unsafe { libc::geteuid() } == 0;
    if root && (uid.is_some() || gid.is_some()) {
        let gid = gid.unwrap_or(0);
        let uid = uid.unwrap_or(0);
        // SAFETY: plain system calls; each result is checked. EINVAL means that the number is not mapped in this user namespace.
        unsafe {
            if libc::setgroups(0, std::ptr::null()) != 0 && libc::setgroups(1, &raw const gid) != 0 {
                notes.push(format!("cannot drop supplementary groups ({})", err()));
            }
            for (what, n) in [("group", gid), ("user", uid)] {
                let done = if what == "group" { libc::setresgid(n, n, n) } else { libc::setresuid(n, n, n) };
                if done != 0 {
                    let e = std::io::Error::last_os_error();
                    if e.raw_os_error() == Some(libc::EINVAL) {
                        notes.push(format!(
                            "{what} id {n} is not mapped in this user namespace; running as the mapped user"
                        ));
                    } else {
                        return Err(format!("cannot set {what} id to {n} : {}", crate::base::diag::io_words(&e)));
                    }
                }
            }
        }
    }
    // SAFETY: prctl with these arguments takes no pointers.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    }
    drop_capabilities(raw);
    Ok(notes)
}

/// Drops every capability of this process (a no-op for who has none), but for CAP_NET_RAW if that is wanted.
fn drop_capabilities(raw: bool) {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let head = Header { version: VERSION_3, pid: 0 };
    const NET_RAW: u32 = 1 << 13;
    let kept = if raw { NET_RAW } else { 0 };
    // Effective, permitted and inheritable; the second three are for numbers from 32.
    let sets = [kept, kept, 0, 0, 0, 0];
    // SAFETY: the kernel reads a header of version 3 and two triples of words, which is what these are.
    unsafe {
        // What was not had cannot be kept; then nothing is.
        if libc::syscall(libc::SYS_capset, &raw const head, sets.as_ptr()) != 0 {
            libc::syscall(libc::SYS_capset, &raw const head, [0u32; 6].as_ptr());
        }
        libc::prctl(libc::PR_SET_KEEPCAPS, 0, 0, 0, 0);
    }
}

/// Puts /dev/null in place of the standard descriptors, but for those in `keep`.
pub fn close_standard(keep: &[i32]) {
    // SAFETY: plain system calls on descriptors of this process.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        if null < 0 {
            return;
        }
        for fd in (0..3).filter(|fd| !keep.contains(fd)) {
            libc::dup2(null, fd);
        }
        if null > 2 {
            libc::close(null);
        }
    }
}

/// Raises the soft limit of descriptors as far as allowed, up to `want`.
pub fn raise_nofile(want: u64) -> u64 {
    // SAFETY: `l` is a plain struct that the calls read and write.
    unsafe {
        let mut l: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut l) != 0 {
            return 0;
        }
        if l.rlim_cur < want {
            let hard = l.rlim_max.max(want);
            let both = libc::rlimit { rlim_cur: want, rlim_max: hard };
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const both) != 0 {
                l.rlim_cur = l.rlim_max.min(want);
                libc::setrlimit(libc::RLIMIT_NOFILE, &raw const l);
            }
            libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut l);
        }
        l.rlim_cur
    }
}

/// Real-time priority for the calling thread and locked memory, where permitted. What is not is said, not fatal.
pub fn realtime() -> Vec<String> {
    let mut notes = Vec::new();
    // SAFETY: `p` is a plain struct; RESET_ON_FORK keeps children ordinary.
    unsafe {
        let p = libc::sched_param { sched_priority: 2 };
        if libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &raw const p) != 0
        {
            notes.push("no real-time priority (not permitted)".to_owned());
        }
        let mut l: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut l);
        // With a limit that holds, locking future pages would make later allocations fail.
        if l.rlim_cur != libc::RLIM_INFINITY && !may_lock() {
            notes.push("memory is not locked: that takes CAP_IPC_LOCK, or no limit (ulimit -l)".to_owned());
        } else if libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) != 0 {
            notes.push("memory is not locked (not permitted)".to_owned());
        }
    }
    notes
}

/// CAP_IPC_LOCK is in force: limits of locked memory do not count.
fn may_lock() -> bool {
    const CAP_IPC_LOCK: u64 = 14;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:")?.trim().parse::<String>().ok());
    effective.and_then(|h| u64::from_str_radix(&h, 16).ok()).is_some_and(|c| c & (1 << CAP_IPC_LOCK) != 0)
}

/// The process's name as `ps` and `pidof` see it.
pub fn set_name(name: &str) {
    if let Ok(c) = CString::new(name) {
        // SAFETY: a C string of any length; the kernel cuts it at 15 bytes.
        unsafe { libc::prctl(libc::PR_SET_NAME, c.as_ptr(), 0, 0, 0) };
    }
}
