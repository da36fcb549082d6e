//! A laboratory: hosts in network namespaces of their own on one bridge. The demo shows it, the tests measure in it.
use futures_util::TryStreamExt;
use netlink_packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth};
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A network namespace; it lives as long as this descriptor or a process in it.
pub struct Netns(OwnedFd);

impl Netns {
    fn create() -> io::Result<Self> {
        let made = std::thread::spawn(|| -> io::Result<OwnedFd> {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
            Ok(File::open("/proc/thread-self/ns/net")?.into())
        });
        made.join().map_err(|_| io::Error::other("the thread that makes a namespace failed"))?.map(Self)
    }

    /// Runs a closure on a thread of its own inside the namespace.
    pub fn thread<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<std::thread::JoinHandle<T>> {
        let fd = self.0.try_clone()?;
        std::thread::Builder::new().spawn(move || {
            // A namespace that this process made can be entered by it.
            if let Err(e) = nix::sched::setns(&fd, nix::sched::CloneFlags::CLONE_NEWNET) {
                eprintln!("cannot enter a namespace: {e}");
            }
            f()
        })
    }

    /// As `thread`, and waits for the result.
    pub fn run<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        self.thread(f)?.join().map_err(|_| io::Error::other("a thread in a namespace failed"))
    }

    /// Starts a program inside.
    pub fn spawn(&self, mut c: Command) -> io::Result<Child> {
        let fd = self.0.as_raw_fd();
        // SAFETY: only async-signal-safe calls between fork and exec.
        unsafe {
            c.pre_exec(move || {
                if libc::setns(fd, libc::CLONE_NEWNET) != 0 {
                    return Err(io::Error::last_os_error());
                }
                // Nothing started here outlives us.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        c.spawn()
    }
}

/// Gives up the outer user's view: without root, a user namespace makes us root inside. Must be called while single-threaded.
pub fn become_root() -> Result<(), String> {
    // SAFETY: plain system calls.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    if uid == 0 {
        return Ok(());
    }
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).map_err(|e| {
        format!("cannot make a user namespace ({e}); run as root, or permit unprivileged user namespaces")
    })?;
    let write = |file: &str, text: String| {
        std::fs::write(format!("/proc/self/{file}"), text).map_err(|e| format!("cannot write {file}: {e}"))
    };
    write("setgroups", "deny".into())?;
    write("uid_map", format!("0 {uid} 1"))?;
    write("gid_map", format!("0 {gid} 1"))
}

/// Hosts on one bridge. Host `i` has `eth0` with 10.77.0.(11+i)/24 and fd77::(11+i)/64.
pub struct Lab {
    pub hosts: Vec<Netns>,
    switch: Netns,
}

/// Address of a host.
pub fn address(host: usize) -> IpAddr {
    IpAddr::from([10, 77, 0, u8::try_from(11 + host).unwrap_or(254)])
}

fn runtime<T>(f: impl Future<Output = Result<T, rtnetlink::Error>>) -> Result<T, String> {
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    tokio::task::LocalSet::new().block_on(&rt, f).map_err(|e| e.to_string())
}

fn connect() -> Result<rtnetlink::Handle, rtnetlink::Error> {
    let (conn, handle, _) = rtnetlink::new_connection().map_err(|_| rtnetlink::Error::RequestFailed)?;
    tokio::task::spawn_local(conn);
    Ok(handle)
}

async fn index(h: &rtnetlink::Handle, name: &str) -> Result<u32, rtnetlink::Error> {
    let l = h.link().get().match_name(name.to_owned()).execute().try_next().await?;
    l.map(|l| l.header.index).ok_or(rtnetlink::Error::RequestFailed)
}

impl Lab {
    pub fn new(hosts: usize) -> Result<Self, String> {
        let ns = |what: &str| Netns::create().map_err(|e| format!("cannot make a network namespace for {what}: {e}"));
        let switch = ns("the switch")?;
        let hosts: Vec<Netns> = (0..hosts).map(|i| ns(&format!("host {i}"))).collect::<Result<_, _>>()?;
        let fds: Vec<i32> = hosts.iter().map(|h| h.0.as_raw_fd()).collect();
        switch
            .run(move || {
                runtime(async move {
                    let h = connect()?;
                    h.link().add(LinkBridge::new("br0").build()).execute().await?;
                    let br = index(&h, "br0").await?;
                    for (i, fd) in fds.into_iter().enumerate() {
                        let peer =
                            LinkMessageBuilder::<LinkUnspec>::new().name("eth0".to_owned()).setns_by_fd(fd).build();
                        let port = format!("p{i}");
                        h.link()
                            .add(
                                LinkVeth::new(&port, "unused")
                                    .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
                                    .build(),
                            )
                            .execute()
                            .await?;
                        let p = index(&h, &port).await?;
                        h.link().change(LinkUnspec::new_with_index(p).controller(br).up().build()).execute().await?;
                    }
                    Ok(())
                })
            })
            .map_err(|e| e.to_string())??;
        for (i, host) in hosts.iter().enumerate() {
            host.run(move || {
                runtime(async move {
                    let h = connect()?;
                    for name in ["lo", "eth0"] {
                        let l = index(&h, name).await?;
                        h.link().change(LinkUnspec::new_with_index(l).up().build()).execute().await?;
                    }
                    let eth0 = index(&h, "eth0").await?;
                    h.address().add(eth0, address(i), 24).execute().await?;
                    let six = IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, u16::try_from(11 + i).unwrap_or(99)]);
                    h.address().add(eth0, six, 64).execute().await
                })
            })
            .map_err(|e| e.to_string())??;
        }
        Ok(Self { hosts, switch })
    }

    /// Takes a host's switch port up or down.
    pub fn port(&self, host: usize, up: bool) -> Result<(), String> {
        self.switch
            .run(move || {
                runtime(async move {
                    let h = connect()?;
                    let p = index(&h, &format!("p{host}")).await?;
                    let change = LinkUnspec::new_with_index(p);
                    h.link().change(if up { change.up() } else { change.down() }.build()).execute().await
                })
            })
            .map_err(|e| e.to_string())?
    }

    /// Addresses of a host's eth0 now.
    pub fn addresses(&self, host: usize) -> Vec<IpAddr> {
        let list = self.hosts[host].run(|| {
            runtime(async {
                let n = crate::net::netlink::Netlink::new().map_err(|_| rtnetlink::Error::RequestFailed)?;
                n.addresses().await.map_err(|_| rtnetlink::Error::RequestFailed)
            })
        });
        list.ok().and_then(Result::ok).unwrap_or_default().into_iter().map(|a| a.addr).collect()
    }
}

/// A node: the guardian and, through it, its worker.
pub struct Node {
    pub child: Child,
}

impl Node {
    /// Starts this very binary on a host.
    pub fn start(lab: &Lab, host: usize, binary: &str, args: &[String], log: &str) -> io::Result<Self> {
        let mut c = Command::new(binary);
        let out = File::options().create(true).append(true).open(log)?;
        c.args(args).stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        Ok(Self { child: lab.hosts[host].spawn(c)? })
    }

    pub fn guardian(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(0)
    }

    /// The worker's pid, if there is one.
    pub fn worker(&self) -> Option<i32> {
        children(self.guardian())
            .into_iter()
            .find(|p| std::fs::read_to_string(format!("/proc/{p}/comm")).is_ok_and(|c| c.trim() == "haproxy"))
    }

    pub fn workers(&self) -> usize {
        children(self.guardian())
            .into_iter()
            .filter(|p| std::fs::read_to_string(format!("/proc/{p}/comm")).is_ok_and(|c| c.trim() == "haproxy"))
            .count()
    }

    /// Memory of the worker in KiB.
    pub fn worker_memory(&self) -> u64 {
        let status =
            self.worker().and_then(|p| std::fs::read_to_string(format!("/proc/{p}/status")).ok()).unwrap_or_default();
        status
            .lines()
            .find_map(|l| l.strip_prefix("VmRSS:"))
            .and_then(|l| l.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    }

    pub fn signal(&self, pid: i32, signal: i32) {
        // SAFETY: plain system call; the pid is that of a process of this laboratory.
        unsafe { libc::kill(pid, signal) };
    }

    /// Ends the guardian alone, and waits for it: its worker is an orphan.
    pub fn kill_guardian(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends the guardian at once, and waits for it and the worker.
    pub fn kill(&mut self) {
        let worker = self.worker();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(w) = worker {
            self.signal(w, libc::SIGKILL);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn children(pid: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .flat_map(|t| {
            std::fs::read_to_string(t.path().join("children"))
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter_map(|p| p.parse().ok())
        .collect()
}

/// Sends one line to a runtime socket and reads the answer.
pub fn command(socket: &str, line: &str) -> io::Result<String> {
    use std::io::{Read, Write};
    let mut s = std::os::unix::net::UnixStream::connect(socket)?;
    s.set_read_timeout(Some(Duration::from_secs(5)))?;
    s.write_all(format!("{line}\n").as_bytes())?;
    let mut out = String::new();
    s.read_to_string(&mut out)?;
    Ok(out)
}

/// Waits until a condition holds; false if it does not within `limit`.
pub fn wait_for(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    holds()
}
