//! Where a load gets its bytes from: the disk in the loader, the bundle in the worker.
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The facts a load needs from outside.
pub trait Source {
    /// A file's bytes; the error is a sentence without the path.
    fn read(&mut self, path: &str) -> Result<Arc<[u8]>, String>;
    /// Names in a directory, sorted; `None` if the path is not a directory.
    fn list(&mut self, path: &str) -> Option<Vec<String>>;
    fn env(&self, name: &str) -> Option<String>;
    /// The whole environment.
    fn envs(&self) -> BTreeMap<String, Option<String>>;
    /// Addresses of a host name. The loader fills them in before the worker asks; an unknown name has none.
    fn resolve(&mut self, name: &str) -> Vec<IpAddr>;
}

/// Everything one load read. Sealed into a memfd and handed on, so that nobody reads a file twice and sees two versions.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Recorded {
    pub args: LoadArgs,
    pub files: BTreeMap<String, Result<Vec<u8>, String>>,
    pub dirs: BTreeMap<String, Option<Vec<String>>>,
    pub env: BTreeMap<String, String>,
    pub names: BTreeMap<String, Vec<IpAddr>>,
}

/// What the command line says of the configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct LoadArgs {
    /// `-f`, in order: files or directories.
    pub haproxy: Vec<String>,
    /// `-k`
    pub keepalived: Option<String>,
    /// `-L`, or the host's name.
    pub localpeer: String,
    /// `-n`
    pub maxconn: Option<u32>,
    /// `-dV`: servers' certificates are not verified by default.
    pub no_verify: bool,
    /// `-dW`: as `zero-warning` in the file.
    pub zero_warning: bool,
    /// `--config-id` of keepalived.
    pub config_id: Option<String>,
    /// `--strict`: what keepalived only reports is an error.
    pub strict_keepalived: bool,
    /// `--dialect 3.5`: older words are refused as that version refuses them.
    pub strict: bool,
    /// What was made and removed at run time, in order.
    #[serde(default)]
    pub changes: Vec<super::change::Change>,
}

/// Finds the addresses of a host name.
pub type Resolver = Box<dyn FnMut(&str) -> Vec<IpAddr>>;

/// Reads the disk and remembers what it read.
pub struct Disk {
    pub recorded: Recorded,
    pub resolver: Resolver,
}

/// No file of a configuration is larger.
const MAX_FILE: u64 = 64 << 20;

impl Disk {
    pub fn new(args: LoadArgs, resolver: Resolver) -> Self {
        let env = std::env::vars().collect();
        Self { recorded: Recorded { args, env, ..Recorded::default() }, resolver }
    }
}

impl Source for Disk {
    fn read(&mut self, path: &str) -> Result<Arc<[u8]>, String> {
        let entry = self.recorded.files.entry(path.to_owned()).or_insert_with(|| {
            let too_big = std::fs::metadata(path).is_ok_and(|m| m.len() > MAX_FILE);
            if too_big {
                return Err(format!("larger than {} MiB", MAX_FILE >> 20));
            }
            std::fs::read(path).map_err(|e| crate::base::diag::io_words(&e))
        });
        entry.as_ref().map(|b| Arc::from(&b[..])).map_err(Clone::clone)
    }
    fn list(&mut self, path: &str) -> Option<Vec<String>> {
        let entry = self.recorded.dirs.entry(path.to_owned()).or_insert_with(|| {
            let mut names: Vec<String> =
                std::fs::read_dir(path).ok()?.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
            names.sort();
            Some(names)
        });
        entry.clone()
    }
    fn env(&self, name: &str) -> Option<String> {
        self.recorded.env.get(name).cloned()
    }
    fn envs(&self) -> BTreeMap<String, Option<String>> {
        self.recorded.envs()
    }
    fn resolve(&mut self, name: &str) -> Vec<IpAddr> {
        if let Some(known) = self.recorded.names.get(name) {
            return known.clone();
        }
        let found = (self.resolver)(name);
        self.recorded.names.insert(name.to_owned(), found.clone());
        found
    }
}

/// Replays what a [`Disk`] recorded.
impl Source for Recorded {
    fn read(&mut self, path: &str) -> Result<Arc<[u8]>, String> {
        match self.files.get(path) {
            Some(r) => r.as_ref().map(|b| Arc::from(&b[..])).map_err(Clone::clone),
            None => Err("not in the bundle".to_owned()),
        }
    }
    fn list(&mut self, path: &str) -> Option<Vec<String>> {
        self.dirs.get(path).cloned().flatten()
    }
    fn env(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }
    fn envs(&self) -> BTreeMap<String, Option<String>> {
        self.env.iter().map(|(k, v)| (k.clone(), Some(v.clone()))).collect()
    }
    fn resolve(&mut self, name: &str) -> Vec<IpAddr> {
        self.names.get(name).cloned().unwrap_or_default()
    }
}
