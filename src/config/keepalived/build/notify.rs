//! Notify scripts of instances and groups.
use super::Cx;
use crate::base::code::Code;
use crate::config::keepalived::parse::Node;
use crate::config::model::{Notify, ScriptCall};

/// `notify_master "cmd args" [user [group]]`: a quoted command is one word; without quotes the first word is the command.
pub(super) fn read(cx: &mut Cx<'_>, n: &Node, block: &str, to: &mut Notify) {
    match n.words[0].as_str() {
        "notify_priority_changes" => return to.priority_changes = cx.flag(n),
        // A script is not needed.
        "notify_deleted" if n.words.len() < 2 => return to.says_deleted = true,
        _ => {}
    }
    let Some(cmd) = cx.value(n).map(str::to_owned) else { return };
    let slot = match n.words[0].as_str() {
        "notify" => &mut to.any,
        "notify_master" => &mut to.master,
        "notify_backup" => &mut to.backup,
        "notify_fault" => &mut to.fault,
        "notify_stop" => &mut to.stop,
        "notify_master_rx_lower_pri" if block == "vrrp_instance" => &mut to.lower,
        "notify_deleted" => {
            to.says_deleted = true;
            &mut to.deleted
        }
        _ => return cx.unknown(n, block),
    };
    if slot.is_some() {
        cx.report.warning(
            Code::Duplicate,
            &n.place,
            format!("'{}' was already given; the first one is kept, as keepalived does", n.words[0]),
        );
    } else {
        // What cannot be an account's name is part of the command.
        let name = |w: &String| !w.is_empty() && w.bytes().all(|c| c.is_ascii_alphanumeric() || b"_-.".contains(&c));
        *slot = Some(match n.words.get(2) {
            Some(u) if !name(u) => ScriptCall { command: n.raw.clone(), user: None },
            u => ScriptCall {
                command: cmd,
                user: u.map(|u| (u.clone(), n.words.get(3).filter(|g| !g.is_empty()).cloned())),
            },
        });
    }
}
