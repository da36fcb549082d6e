//! A proxy under test: its configuration, its processes, what they cost.
use crate::Work;
use crate::load::{self, Cores, Origin};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Haproxy,
    Tandem,
    Nginx,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "HAProxy",
            Self::Tandem => "Tandem",
            Self::Nginx => "nginx",
        }
    }

    /// The file for one work; `@PORT@` becomes the port to listen on. `None` where this proxy cannot do the work.
    pub fn config(self, w: &Work, origin: &Origin) -> Option<String> {
        let server =
            |i: usize, text: &str| text.replace("@I@", &i.to_string()).replace("@ORIGIN@", &origin.port.to_string());
        if self == Self::Nginx {
            if !w.frontend.is_empty() || w.tcp {
                return None;
            }
            return Some(format!(
                "daemon off; master_process off; worker_processes 1; pid @DIR@/pid; error_log stderr crit;\nevents {{ worker_connections 20000; }}\n\
                 http {{ access_log off; keepalive_requests 1000000000; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_temp_path @DIR@;\n\
                 client_body_temp_path @DIR@/b; fastcgi_temp_path @DIR@/f; uwsgi_temp_path @DIR@/u; scgi_temp_path @DIR@/s;\n\
                 upstream b {{ server 127.0.0.1:{}; keepalive 64; keepalive_requests 1000000000; }}\n\
                 server {{ listen 127.0.0.1:@PORT@; location / {{ proxy_pass http://b; }} }} }}\n",
                origin.port
            ));
        }
        let check = if w.servers > 1 { " check cookie s@I@" } else { "" };
        let servers: String =
            (0..w.servers).map(|i| server(i, &format!(" server s@I@ 127.0.0.1:@ORIGIN@{check}\n"))).collect();
        Some(format!(
            "global\n nbthread 1\n maxconn {}\ndefaults\n timeout client 60s\n timeout server 60s\n timeout connect 1s\n{}\
             frontend f\n bind 127.0.0.1:@PORT@\n{} default_backend b\nbackend b\n{}{servers}",
            w.maxconn,
            w.defaults,
            w.frontend.replace("@LOG@", &origin.log_port.to_string()),
            w.backend
        ))
    }

    /// A file with many backends, which nobody asks for anything.
    pub fn big_config(self, backends: usize, servers: usize) -> Option<String> {
        let mut s = String::new();
        if self == Self::Nginx {
            s.push_str("daemon off; master_process off; worker_processes 1; pid @DIR@/pid; error_log stderr crit;\nevents {}\nhttp { access_log off; proxy_temp_path @DIR@/p; client_body_temp_path @DIR@/b; fastcgi_temp_path @DIR@/f; uwsgi_temp_path @DIR@/u; scgi_temp_path @DIR@/s;\n");
            for b in 0..backends {
                s.push_str(&format!("upstream b{b} {{ "));
                for i in 0..servers {
                    s.push_str(&format!("server 127.0.{}.{}:{}; ", b % 250, b / 250 + 1, 8000 + i));
                }
                s.push_str("}\n");
            }
            s.push_str("server { listen 127.0.0.1:@PORT@;\n");
            for b in 0..backends {
                s.push_str(&format!("location /b{b} {{ proxy_pass http://b{b}; }}\n"));
            }
            s.push_str("} }\n");
            return Some(s);
        }
        s.push_str("global\n nbthread 1\n maxconn 1000\ndefaults\n mode http\n timeout client 10s\n timeout server 10s\n timeout connect 1s\nfrontend f\n bind 127.0.0.1:@PORT@\n");
        for b in 0..backends {
            s.push_str(&format!(" use_backend b{b} if {{ path_beg /b{b} }}\n"));
        }
        for b in 0..backends {
            s.push_str(&format!("backend b{b}\n balance roundrobin\n"));
            for i in 0..servers {
                s.push_str(&format!(" server s{i} 127.0.{}.{}:{}\n", b % 250, b / 250 + 1, 8000 + i));
            }
        }
        Some(s)
    }
}

pub struct Peer {
    pub kind: Kind,
    child: Child,
    pub port: u16,
    dir: std::path::PathBuf,
    /// CPU microseconds and requests of each round.
    rounds: Vec<(f64, u64)>,
}

impl Peer {
    pub fn start(kind: Kind, program: &str, config: &Option<String>) -> Option<Self> {
        Self::start_on(kind, program, config.as_deref()?, Cores::First)
    }

    pub fn start_on(kind: Kind, program: &str, config: &str, cores: Cores) -> Option<Self> {
        let p = Self::launch(kind, program, config, cores)?;
        // What a start leaves to be done in the background is not the work's.
        std::thread::sleep(Duration::from_millis(500));
        Some(p)
    }

    /// Returns as soon as the proxy accepts a connection.
    pub fn start_eagerly(kind: Kind, program: &str, config: &Option<String>) -> Option<Self> {
        Self::launch(kind, program, config.as_deref()?, Cores::First)
    }

    fn launch(kind: Kind, program: &str, config: &str, cores: Cores) -> Option<Self> {
        use std::os::unix::process::CommandExt;
        let port = load::free_port();
        let dir = std::env::temp_dir().join(format!("tandem-bench-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("cfg");
        let text = config.replace("@PORT@", &port.to_string()).replace("@DIR@", dir.to_str().unwrap());
        std::fs::write(&file, text).unwrap();
        let mut c = Command::new(program);
        match kind {
            // A variable of that name lists sockets to it.
            Kind::Nginx => c.env_remove("NGINX").args(["-p", dir.to_str().unwrap(), "-e", "stderr", "-c"]).arg(&file),
            _ => c.args(["-q", "-db", "-f"]).arg(&file),
        };
        // SAFETY: between fork and exec, only the affinity of this very thread is set; nothing is allocated.
        unsafe {
            c.pre_exec(move || {
                load::pin(cores);
                Ok(())
            });
        }
        let child = c.stdout(Stdio::null()).spawn().unwrap();
        // From here on the process is ended when this is dropped.
        let peer = Self { kind, child, port, dir, rounds: Vec::new() };
        let end = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > end {
                println!("{} did not start", kind.name());
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Some(peer)
    }

    fn tree(&self) -> Vec<u32> {
        let mut pids = vec![self.child.id()];
        let mut i = 0;
        while i < pids.len() {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", pids[i])).into_iter().flatten().flatten();
            for t in tasks {
                if let Ok(t) = std::fs::read_to_string(t.path().join("children")) {
                    pids.extend(t.split_whitespace().filter_map(|p| p.parse::<u32>().ok()));
                }
            }
            i += 1;
        }
        pids
    }

    /// CPU time of the program and all its descendants, in microseconds.
    fn cpu(&self) -> f64 {
        self.tree()
            .iter()
            .flat_map(|p| std::fs::read_dir(format!("/proc/{p}/task")).into_iter().flatten().flatten())
            .filter_map(|t| {
                std::fs::read_to_string(t.path().join("schedstat")).ok()?.split_whitespace().next()?.parse::<f64>().ok()
            })
            .sum::<f64>()
            / 1000.0
    }

    /// Memory of the whole tree, shared pages counted once (PSS).
    pub fn memory_kb(&self) -> f64 {
        self.tree()
            .iter()
            .filter_map(|p| std::fs::read_to_string(format!("/proc/{p}/smaps_rollup")).ok())
            .filter_map(|t| {
                t.lines().find_map(|l| l.strip_prefix("Pss:")?.trim().strip_suffix("kB")?.trim().parse::<f64>().ok())
            })
            .sum()
    }

    /// One round: CPU microseconds and requests.
    pub fn round(&mut self, work: impl FnOnce(u16) -> u64) -> (f64, u64) {
        let before = self.cpu();
        let n = work(self.port);
        let round = (self.cpu() - before, n);
        self.rounds.push(round);
        round
    }

    fn costs(&self) -> Vec<f64> {
        self.rounds.iter().map(|r| r.0 / r.1 as f64).collect()
    }
    pub fn median(&self) -> f64 {
        crate::median(&mut self.costs())
    }
    pub fn rate(&self, round: Duration) -> f64 {
        self.rounds.iter().map(|r| r.1 as f64).sum::<f64>() / (round.as_secs_f64() * self.rounds.len() as f64)
    }
    /// This proxy's cost over the other's, round by round, in order of size.
    pub fn ratios(&self, other: &Self) -> Vec<f64> {
        let mut r: Vec<f64> = self.costs().iter().zip(other.costs()).map(|(a, b)| a / b).collect();
        r.sort_by(f64::total_cmp);
        r
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
