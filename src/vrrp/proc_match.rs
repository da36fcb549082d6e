//! Which processes a `vrrp_track_process` means (keepalived.conf(5)).
use crate::config::model::{ParamMatch, TrackProcess};

/// The kernel keeps this much of a name.
const COMM: usize = 15;

/// Whether its command line has to be read, and not its name alone.
pub fn wants_command_line(p: &TrackProcess) -> bool {
    p.full_command
        || p.command.len() > 1
        || p.params != ParamMatch::Exact
        || p.command.first().is_some_and(|c| c.contains('/'))
}

/// `comm`: the name as the kernel has it; `cmdline`: the words, NUL behind each, empty where they were not read.
pub fn matches(p: &TrackProcess, comm: &str, cmdline: &[u8]) -> bool {
    let Some((name, params)) = p.command.split_first() else { return false };
    if !wants_command_line(p) {
        let end = name.char_indices().map(|(i, c)| i + c.len_utf8()).take_while(|e| *e <= COMM).last().unwrap_or(0);
        return comm == &name[..end];
    }
    let mut words = cmdline.strip_suffix(&[0]).unwrap_or(cmdline).split(|b| *b == 0);
    let Some(program) = words.next() else { return false };
    // A name without a path is the program's, wherever it lies.
    let base = program.rsplit(|b| *b == b'/').next().unwrap_or(program);
    if program != name.as_bytes() && (name.contains('/') || base != name.as_bytes()) {
        return false;
    }
    if params.is_empty() && p.params == ParamMatch::Exact && !p.full_command {
        return true;
    }
    let have: Vec<&[u8]> = words.collect();
    let want: Vec<&[u8]> = params.iter().map(|w| w.as_bytes()).collect();
    match p.params {
        ParamMatch::Exact => have == want,
        ParamMatch::Partial => have.starts_with(&want),
        ParamMatch::Initial => {
            let Some((last, front)) = want.split_last() else { return have.is_empty() };
            have.len() == want.len() && have.starts_with(front) && have[front.len()].starts_with(last)
        }
    }
}

/// Whether so many of them are right.
pub fn enough(p: &TrackProcess, count: usize) -> bool {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    // 'quorum_max 0': there must be none.
    count <= p.quorum_max && (count >= p.quorum || p.quorum_max == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keepalived::build::blank_process;

    fn process(command: &[&str], full: bool, params: ParamMatch) -> TrackProcess {
        let mut p = blank_process("x", &crate::config::keepalived::build::place_of("f:1"));
        (p.command, p.full_command, p.params) = (command.iter().map(|w| (*w).to_owned()).collect(), full, params);
        p
    }

    #[test]
    fn names_and_command_lines() {
        let p = process(&["haproxy"], false, ParamMatch::Exact);
        assert!(matches(&p, "haproxy", b"") && !matches(&p, "haproxy2", b""));
        let p = process(&["a-very-long-process-name"], false, ParamMatch::Exact);
        assert!(matches(&p, "a-very-long-pro", b""));
        let p = process(&["nginx", "-g", "daemon"], false, ParamMatch::Exact);
        assert!(
            matches(&p, "nginx", b"/usr/sbin/nginx\0-g\0daemon\0") && !matches(&p, "nginx", b"nginx\0-g\0daemon\0-x\0")
        );
        let p = process(&["nginx", "-g"], false, ParamMatch::Partial);
        assert!(matches(&p, "", b"nginx\0-g\0daemon\0") && !matches(&p, "", b"nginx\0"));
        let p = process(&["nginx", "-g", "dae"], false, ParamMatch::Initial);
        assert!(matches(&p, "", b"nginx\0-g\0daemon\0") && !matches(&p, "", b"nginx\0-g\0x\0"));
        // No parameters at all.
        let p = process(&["nginx"], false, ParamMatch::Initial);
        assert!(matches(&p, "", b"nginx\0") && !matches(&p, "", b"nginx\0-g\0"));
        let p = process(&["/opt/nginx"], false, ParamMatch::Exact);
        assert!(matches(&p, "", b"/opt/nginx\0-x\0") && !matches(&p, "", b"/usr/nginx\0") && !matches(&p, "", b""));
    }

    #[test]
    fn quorums() {
        let mut p = process(&["x"], false, ParamMatch::Exact);
        assert!(!enough(&p, 0) && enough(&p, 1) && enough(&p, 9));
        (p.quorum, p.quorum_max) = (2, 3);
        assert!(!enough(&p, 1) && enough(&p, 3) && !enough(&p, 4));
        (p.quorum, p.quorum_max) = (1, 0);
        assert!(enough(&p, 0) && !enough(&p, 1));
    }
}
