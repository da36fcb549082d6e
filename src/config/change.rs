//! What operators make and remove while the program runs (management manual 9.3, `add server` and its like). A change is kept beside the
//! files, and made again whenever they are compiled anew; the next reload forgets it, as a new HAProxy would.
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// `args`: what stands behind the name on a `server` line.
    AddServer {
        backend: String,
        server: String,
        args: Vec<String>,
    },
    DelServer {
        backend: String,
        server: String,
    },
    RenameServer {
        backend: String,
        server: String,
        name: String,
    },
    /// Name servers are asked for another name; until they answer the server is where it was.
    Fqdn {
        backend: String,
        server: String,
        name: String,
        ip: Option<IpAddr>,
    },
    /// `args`: what stands behind the name of the backend.
    AddBackend {
        name: String,
        args: Vec<String>,
    },
    DelBackend {
        name: String,
    },
}
