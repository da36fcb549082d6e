//! Scripts that only ask whether HAProxy is alive: they are answered from inside.

/// True for a command that only asks whether a process called haproxy lives.
pub fn asks_for_haproxy(command: &str) -> bool {
    // "cmd && exit 0 || exit 1" and the like change nothing.
    let mut text = command.trim();
    for shell in ["/bin/sh -c", "/bin/bash -c", "sh -c", "bash -c"] {
        text = text.strip_prefix(shell).map_or(text, |t| t.trim().trim_matches(['\'', '"']));
    }
    // Behind the question, only what passes its answer on.
    let mut words = text.split_whitespace().peekable();
    let Some(program) = words.next().map(|p| p.rsplit('/').next().unwrap_or(p)) else { return false };
    let mut question: Vec<&str> = Vec::new();
    while let Some(w) = words.next_if(|w| !matches!(*w, "||" | "&&") && !w.contains(['|', '&', ';', '>', '<'])) {
        question.push(w);
    }
    let behind: Vec<&str> = words.collect();
    let quiet = |w: &&str| {
        matches!(*w, ">" | ">/dev/null" | "/dev/null" | "2>&1" | "&>/dev/null" | ">&/dev/null" | "2>/dev/null")
    };
    let behind: Vec<&str> = behind.into_iter().filter(|w| !quiet(w)).collect();
    if !matches!(
        behind[..],
        [] | ["||", "exit", "1" | "2"]
            | ["||", "false"]
            | ["&&", "exit", "0"]
            | ["&&", "true"]
            | ["&&", "exit", "0", "||", "exit", "1"]
    ) {
        return false;
    }
    let bare = |w: &str| {
        let w = w.trim_matches(['\'', '"', '^', '$']);
        w == "haproxy" || w.ends_with("/haproxy") || w == "haproxy.service"
    };
    // Exactly one thing is asked about, and only with options that do not change the question.
    let (options, targets): (Vec<&str>, Vec<&str>) = question.iter().partition(|w| w.starts_with('-'));
    let one = targets.len() == 1 && bare(targets[0]);
    let only = |known: &[&str]| options.iter().all(|o| known.contains(o));
    let zero = || options.iter().any(|o| matches!(*o, "-0" | "-s0" | "--signal=0"));
    match program {
        "killall" | "pkill" => {
            let spelled = question.len() == 3 && matches!(question[..2], ["-s" | "--signal", "0"]) && bare(question[2]);
            spelled || one && zero() && only(&["-0", "-s0", "--signal=0", "-q", "-e", "-x", "-f", "--quiet", "--exact"])
        }
        "pidof" => one && only(&["-s", "-x", "-q", "-c", "-z"]),
        "pgrep" => one && only(&["-x", "-f", "-c", "-o", "-n", "-l", "-a", "--exact", "--full"]),
        "systemctl" => {
            options.iter().all(|o| matches!(*o, "--quiet" | "-q"))
                && targets.len() == 2
                && targets[0] == "is-active"
                && bare(targets[1])
        }
        "service" => question == ["haproxy", "status"],
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn liveness_questions_are_recognised() {
        for yes in [
            "killall -0 haproxy",
            "/usr/bin/killall -0 haproxy",
            "pidof haproxy",
            "/bin/pidof -s haproxy",
            "pgrep -x haproxy",
            "pkill -0 haproxy",
            "systemctl is-active --quiet haproxy",
            "systemctl is-active haproxy.service",
            "/bin/sh -c 'killall -0 haproxy'",
            "killall -0 haproxy || exit 1",
            "/usr/bin/pgrep haproxy > /dev/null",
            "pidof haproxy >/dev/null 2>&1 || exit 1",
            "killall -s 0 haproxy",
            "service haproxy status",
        ] {
            assert!(asks_for_haproxy(yes), "{yes}");
        }
        for no in [
            "killall haproxy",
            "pidof nginx",
            "/etc/keepalived/check.sh",
            "curl http://localhost/",
            "pgrep haproxy; curl x",
            "killall -0 haproxy && curl -f http://localhost/",
            "killall -9 haproxy",
            "killall -0 nginx haproxy",
            "pgrep -x nginx -u haproxy",
            "systemctl is-active nginx haproxy",
            "pidof haproxy && exit 1",
            "pidof haproxy || true",
            "",
        ] {
            assert!(!asks_for_haproxy(no), "{no}");
        }
    }
}
