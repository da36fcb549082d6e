//! What operators make and remove while the program runs (management manual 9.3, `add server` and its like). A change is kept beside the
//! files, and made again whenever they are compiled anew; the next reload forgets it, as a new HAProxy would.
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// `args`: what stands behind the name on a `server` line; `number`: the one it was given when it was made.
    AddServer {
        backend: String,
        server: String,
        args: Vec<String>,
        number: Option<u32>,
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
    /// `args`: what stands behind the name of the backend; `number` as above.
    AddBackend {
        name: String,
        args: Vec<String>,
        number: Option<u32>,
    },
    DelBackend {
        name: String,
    },
}

/// Puts one more behind the changes in force. What was made at run time and is removed again leaves nothing behind: the list is as long as
/// what it stands for.
pub fn push(all: &mut Vec<Change>, change: Change) {
    match &change {
        Change::DelServer { backend, server } => {
            // From its last name back to its first one.
            let (mut name, mut its, mut made) = (server.clone(), Vec::new(), false);
            for (i, c) in all.iter().enumerate().rev() {
                match c {
                    Change::RenameServer { backend: b, server: from, name: to } if b == backend && *to == name => {
                        name.clone_from(from);
                        its.push(i);
                    }
                    Change::Fqdn { backend: b, server: s, .. } if b == backend && *s == name => its.push(i),
                    Change::AddServer { backend: b, server: s, .. } if b == backend && *s == name => {
                        its.push(i);
                        made = true;
                        break;
                    }
                    _ => {}
                }
            }
            if !made {
                return all.push(change);
            }
            // What another began with has to be there when that one is made again.
            let first = its.last().copied().unwrap_or(0);
            if all[first..].iter().any(Change::begins_with_another) {
                return all.push(change);
            }
            its.into_iter().for_each(|i| drop(all.remove(i)));
        }
        Change::DelBackend { name } => {
            let made = |c: &Change| matches!(c, Change::AddBackend { name: n, .. } if n == name);
            let at = all.iter().rposition(made);
            let Some(at) = at.filter(|at| !all[*at..].iter().any(Change::begins_with_another)) else {
                return all.push(change);
            };
            // It had no servers any more: theirs are gone already.
            all.remove(at);
        }
        Change::Fqdn { backend, server, .. } => {
            // The last name is the one that is asked for.
            let same =
                |c: &Change| matches!(c, Change::Fqdn { backend: b, server: s, .. } if b == backend && s == server);
            if all.last().is_some_and(same) {
                all.pop();
            }
            all.push(change);
        }
        _ => all.push(change),
    }
}

impl Change {
    /// A server that begins with what another one has (`from srv:`, `from be:`).
    fn begins_with_another(&self) -> bool {
        let Self::AddServer { args, .. } = self else { return false };
        args.get(1).is_some_and(|w| w == "from") && args.get(2).is_some_and(|w| w != "none")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_again_leaves_nothing_behind() {
        let text = |t: &str| t.to_owned();
        let add =
            |s: &str| Change::AddServer { backend: text("b"), server: text(s), args: Vec::new(), number: Some(1) };
        let del = |s: &str| Change::DelServer { backend: text("b"), server: text(s) };
        let name = |s: &str, n: &str| Change::RenameServer { backend: text("b"), server: text(s), name: text(n) };
        let mut all = Vec::new();
        for c in [add("x"), add("y"), name("x", "z"), name("old", "x"), del("z"), name("y", "w")] {
            push(&mut all, c);
        }
        assert_eq!(all, [add("y"), name("old", "x"), name("y", "w")]);
        push(&mut all, del("x"));
        assert_eq!(all, [add("y"), name("old", "x"), name("y", "w"), del("x")]);
        push(&mut all, del("w"));
        push(&mut all, Change::AddBackend { name: text("n"), args: Vec::new(), number: None });
        push(&mut all, Change::DelBackend { name: text("n") });
        push(&mut all, Change::DelBackend { name: text("file") });
        assert_eq!(all, [name("old", "x"), del("x"), Change::DelBackend { name: text("file") }]);
    }
}
