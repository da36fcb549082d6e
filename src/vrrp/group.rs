//! Sync groups: members move together (keepalived.conf(5), "vrrp_sync_group").
use super::fsm::{Input, State};

/// What a group has to say to its members after one of them moved. Repeat until it is empty.
pub fn settle(states: &[State]) -> Vec<(usize, Input)> {
    let fault = states.iter().any(|s| matches!(s, State::Fault));
    let master = |s: &State| s.has_address();
    let backup = |s: &State| matches!(s, State::Backup { wants: false, .. });
    let wants = |s: &State| matches!(s, State::Backup { wants: true, .. });
    let any_master = states.iter().any(master);
    let mut out = Vec::new();
    if fault || any_master && states.iter().any(backup) {
        // One member cannot, or lost: none may.
        for (i, s) in states.iter().enumerate() {
            if master(s) || fault && wants(s) {
                out.push((i, Input::GroupBackup));
            }
        }
    } else if states.iter().all(|s| wants(s) || master(s)) && states.iter().any(wants) {
        out.extend(states.iter().enumerate().filter(|(_, s)| wants(s)).map(|(i, _)| (i, Input::GroupMaster)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn all_must_want_and_one_lost_is_all_lost() {
        let now = Instant::now();
        let backup = |wants| State::Backup { down_at: now, wants };
        let master = State::Master { advert_at: now };
        assert!(settle(&[backup(true), backup(false)]).is_empty());
        assert_eq!(settle(&[backup(true), backup(true)]), [(0, Input::GroupMaster), (1, Input::GroupMaster)]);
        assert_eq!(settle(&[master, backup(false)]), [(0, Input::GroupBackup)]);
        assert_eq!(settle(&[master, State::Fault]), [(0, Input::GroupBackup)]);
        assert_eq!(settle(&[backup(true), State::Fault]), [(0, Input::GroupBackup)]);
        assert!(settle(&[master, master]).is_empty());
        // One that a reload added has not begun yet: it is waited for, and nobody moves because of it.
        assert!(settle(&[master, State::Init]).is_empty());
        assert!(settle(&[backup(true), State::Init]).is_empty());
    }
}
