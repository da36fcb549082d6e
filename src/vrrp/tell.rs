//! What others are told of a router's changes: notify scripts and FIFOs, in the order and the words of keepalived.
use super::engine::{Engine, Told};
use super::fsm::Role;
use crate::config::model::Notify;

/// What is told of a router that a reload has taken away, unless `notify_deleted` is said.
const GONE: Role = Role::Fault;

impl Engine {
    /// A router has changed its state, and perhaps its groups with it.
    pub(super) fn tell_change(&mut self, i: usize, to: Role) {
        let r = &self.routers[i];
        let departed = r.departing && to == Role::Stop;
        let (prio, name, notify) = (r.machine.priority().to_string(), r.conf.name.clone(), r.conf.notify.clone());
        match (departed, notify.says_deleted) {
            (true, true) => {
                if let Some(c) = &notify.deleted {
                    self.told.push(Told::Notify { script: c.clone(), args: Vec::new() });
                }
                self.say(&notify, "INSTANCE", &name, "DELETED", &prio);
            }
            (true, false) => self.say_all(&notify, "INSTANCE", &name, GONE, &prio),
            (false, _) => self.say_all(&notify, "INSTANCE", &name, to, &prio),
        }
        for g in 0..self.named.len() {
            let members = &self.named[g];
            // A group has moved when its last member has, and is told of once.
            if members.contains(&i) && members.iter().all(|m| self.routers[*m].machine.state().role() == to) {
                let (name, n) = self.group_conf[g].clone();
                if self.group_told.insert(name.clone(), to) == Some(to) {
                    continue;
                }
                // A group has no priority, and keepalived says 0.
                self.say_all(&n, "GROUP", &name, to, "0");
            }
        }
    }

    fn say_all(&mut self, n: &Notify, kind: &str, name: &str, to: Role, prio: &str) {
        let own = match to {
            Role::Master => &n.master,
            Role::Backup => &n.backup,
            Role::Fault => &n.fault,
            Role::Stop => &n.stop,
            Role::Init => &None,
        };
        if let Some(c) = own {
            self.told.push(Told::Notify { script: c.clone(), args: Vec::new() });
        }
        let mails = matches!(to, Role::Master | Role::Backup) || to == Role::Fault && !self.model.no_fault_mail;
        if n.mail && self.model.mail.is_some() && mails {
            let what = if kind == "GROUP" { "Group" } else { "Instance" };
            let subject = format!("[{}] VRRP {what} {name} - Entering {} state", self.model.router_id, to.name());
            let holds = if to == Role::Master { "holds" } else { "does not hold" };
            let text = format!("VRRP {what} {name} is {} and {holds} its addresses now.", to.name());
            self.told.push(Told::Mail { subject, text });
        }
        self.say(n, kind, name, to.name(), prio);
    }

    /// `fifo_write_vrrp_states_on_reload`: what is known already, to the FIFOs alone.
    pub(super) fn tell_states(&mut self) {
        for i in 0..self.routers.len() {
            let r = &self.routers[i];
            let role = r.machine.state().role();
            if !r.departing && matches!(role, Role::Master | Role::Backup | Role::Fault) {
                let (name, prio) = (r.conf.name.clone(), r.machine.priority().to_string());
                self.line("INSTANCE", &name, role.name(), &prio);
            }
        }
        let groups: Vec<(String, Role)> = self.group_told.iter().map(|(n, r)| (n.clone(), *r)).collect();
        for (name, role) in groups {
            if self.group_conf.iter().any(|g| g.0 == name) {
                self.line("GROUP", &name, role.name(), "0");
            }
        }
    }

    /// To the script for every change, and to the FIFOs.
    fn say(&mut self, n: &Notify, kind: &str, name: &str, what: &str, prio: &str) {
        if let Some(c) = &n.any {
            let args = vec![kind.to_owned(), name.to_owned(), what.to_owned(), prio.to_owned()];
            self.told.push(Told::Notify { script: c.clone(), args });
        }
        self.line(kind, name, what, prio);
    }

    fn line(&mut self, kind: &str, name: &str, what: &str, prio: &str) {
        if !self.model.fifos.is_empty() {
            self.told.push(Told::Line(format!("{kind} \"{name}\" {what} {prio}\n")));
        }
    }

    /// `notify_master_rx_lower_pri`
    pub(super) fn tell_lower(&mut self, i: usize) {
        let r = &self.routers[i];
        let (name, prio) = (r.conf.name.clone(), r.machine.priority().to_string());
        if let Some(c) = r.conf.notify.lower.clone() {
            self.told.push(Told::Notify { script: c, args: Vec::new() });
        }
        self.line("INSTANCE", &name, "MASTER_RX_LOWER_PRI", &prio);
    }

    /// `notify_priority_changes`
    pub(super) fn tell_priority(&mut self, i: usize) {
        let r = &self.routers[i];
        let what = match r.machine.state().role() {
            Role::Master => "MASTER_PRIORITY",
            Role::Backup => "BACKUP_PRIORITY",
            Role::Init | Role::Fault | Role::Stop => return,
        };
        let (name, prio) = (r.conf.name.clone(), r.machine.priority().to_string());
        let by_group = |(k, g): (usize, &Vec<usize>)| g.contains(&i) && self.group_conf[k].1.priority_changes;
        if r.conf.notify.priority_changes || self.named.iter().enumerate().any(by_group) {
            self.line("INSTANCE", &name, what, &prio);
        }
    }
}
