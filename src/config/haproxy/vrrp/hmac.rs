//! keepalived's `auth_hmac` in a `vrrp` section.
use crate::base::code::Code;
use crate::base::units::TimeUnit;
use crate::config::haproxy::Cx;
use crate::config::keepalived::build;
use crate::config::model::{HmacAuth, HmacMode, Replay, VrrpInstance};

fn blank() -> HmacAuth {
    HmacAuth { keys: Vec::new(), active: 0, replay: Replay::default(), window: None, mode: HmacMode::default() }
}

/// `hmac-key <id> <text>|hex:<digits>`; the first one signs unless `hmac active <id>` says another.
pub fn key(cx: &mut Cx<'_>, i: &mut VrrpInstance, w: &[String]) {
    let id: u8 = cx.number(w, 1, "a number from 1 to 255").unwrap_or(0);
    let Some(value) = cx.arg(w, 2, "a key") else { return };
    let key = value.strip_prefix("hex:").map_or_else(|| Some(value.as_bytes().to_vec()), build::hex);
    match key {
        Some(k) if id > 0 && (32..=64).contains(&k.len()) => {
            let h = i.hmac.get_or_insert_with(blank);
            if h.active == 0 {
                h.active = id;
            }
            h.keys.retain(|k| k.0 != id);
            h.keys.push((id, k));
        }
        _ => cx.error_of(Code::Value, "'hmac-key' expects a number from 1 to 255 and a key of 32 to 64 octets, which may be written as hex:<digits>"),
    }
}

/// `hmac [active <id>] [replay time|monotonic] [window <time>] [mode enforce|permissive|receive-only]`
pub fn line(cx: &mut Cx<'_>, i: &mut VrrpInstance, w: &[String]) {
    let h = i.hmac.get_or_insert_with(blank);
    for (at, word) in w.iter().enumerate().skip(1).step_by(2) {
        match (word.as_str(), w.get(at + 1).map(String::as_str)) {
            ("active", Some(_)) => h.active = cx.number(w, at + 1, "a number from 1 to 255").unwrap_or(0),
            ("replay", Some("time")) => h.replay = Replay::Time,
            ("replay", Some("monotonic")) => h.replay = Replay::Monotonic,
            ("window", Some(_)) => h.window = cx.time(w, at + 1, TimeUnit::Secs),
            ("mode", Some("enforce")) => h.mode = HmacMode::Enforce,
            ("mode", Some("permissive")) => h.mode = HmacMode::Permissive,
            ("mode", Some("receive-only")) => h.mode = HmacMode::ReceiveOnly,
            (o, _) => {
                return cx.error(format!("'hmac' expects active <id>, replay time|monotonic, window <time> or mode enforce|permissive|receive-only, but got '{o}'"));
            }
        }
    }
}
