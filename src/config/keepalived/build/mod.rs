//! From the tree to the VRRP model.
mod address;
mod global;
mod group;
mod instance;
mod liveness;
mod notify;
mod route;
mod server;
mod track;

pub use address::scope;
pub use instance::{MAX_VIPS4, MAX_VIPS6, auth_bytes, blank_instance, hex};
pub use liveness::asks_for_haproxy;
pub use route::{Names, Wrong, number_in, route, rule};
pub use track::{blank_bfd, blank_file, blank_process, blank_script, usual_ttl};

use super::parse::Node;
use super::{Manner, known};
use crate::base::code::Code;
use crate::base::diag::{Place, Report, Severity, suggestion};
use crate::config::model::{Garp, Proxy, Vmac, VrrpModel, VrrpVersion};
use crate::config::source::Source;
use std::time::Duration;

/// An interface has room for 255 virtual routers of each family.
const MAX_BLOCKS: usize = 10_000;

struct Cx<'a> {
    report: &'a mut Report,
    source: &'a mut dyn Source,
    globals: Globals,
    /// What keepalived only reports is an error.
    strict: bool,
}

/// What `global_defs` says of mail.
#[derive(Default)]
struct Alerts {
    server: Option<std::net::SocketAddr>,
    from: Option<String>,
    to: Vec<String>,
    helo: Option<String>,
    timeout: Option<Duration>,
    /// `smtp_alert`, `smtp_alert_vrrp`, `smtp_alert_checker`
    all: Option<bool>,
    vrrp: Option<bool>,
    checker: Option<bool>,
}

impl Alerts {
    fn of_routers(&self) -> bool {
        self.vrrp.or(self.all).unwrap_or(false)
    }

    /// Of virtual servers, and of real ones.
    fn of_servers(&self) -> (bool, bool) {
        let said = self.checker.or(self.all);
        (said.unwrap_or(false), said.unwrap_or(true))
    }
}

/// What `global_defs` says for every instance that does not say it itself.
#[derive(Default)]
struct Globals {
    version: Option<VrrpVersion>,
    garp: Garp,
    skip_addr_check: bool,
    check_unicast_src: bool,
    checksum_v2: bool,
    strict: bool,
    down_adverts: Option<u32>,
    quiet_to_lower: Option<bool>,
    answers_higher: bool,
    owner_deaf: bool,
    priority_changes: bool,
    default_interface: String,
    alerts: Alerts,
    /// `vmac_prefix`
    vmac_prefix: String,
    vmac_addr_prefix: Option<String>,
    /// Preference of the next rule of each family that says none.
    next_preference: [u32; 2],
}

pub fn model(tree: &[Node], manner: &Manner, source: &mut dyn Source, report: &mut Report) -> (VrrpModel, Vec<Proxy>) {
    let mut cx = Cx {
        report,
        source,
        strict: manner.strict,
        globals: Globals {
            default_interface: "eth0".to_owned(),
            vmac_prefix: "vrrp".to_owned(),
            next_preference: [route::FIRST_PREFERENCE; 2],
            ..Globals::default()
        },
    };
    let mut servers = server::Servers::default();
    let mut m = VrrpModel { fault_strict: manner.fault_strict, ..VrrpModel::default() };
    for n in tree.iter().filter(|n| n.words.first().is_some_and(|w| w == "global_defs")) {
        global::read(&mut cx, n, &mut m);
    }
    m.mail = global::mail(&mut cx, &manner.id, &m.router_id);
    for n in tree {
        let Some(head) = n.words.first() else { continue };
        if m.instances.len() + m.scripts.len() + m.groups.len() + m.files.len() + m.processes.len() > MAX_BLOCKS {
            let text = format!("more than {MAX_BLOCKS} instances, scripts and groups; is this the right file?");
            cx.report.error(Code::TooMuch, &n.place, text);
            break;
        }
        match head.as_str() {
            "global_defs" => {}
            "vrrp_instance" => instance::read(&mut cx, n, &mut m),
            "vrrp_script" => track::script(&mut cx, n, &mut m),
            "track_file" | "vrrp_track_file" => track::file(&mut cx, n, &mut m),
            "bfd_instance" => track::bfd(&mut cx, n, &mut m),
            "vrrp_track_process" => track::process(&mut cx, n, &mut m),
            "vrrp_sync_group" => group::read(&mut cx, n, &mut m),
            "static_routes" => route::routes(&mut cx, n, &mut m.static_routes),
            "static_rules" => route::rules(&mut cx, n, &mut m.static_rules),
            "static_ipaddress" => address::statics(&mut cx, n, &mut m.statics),
            "virtual_server_group" => servers.group(&mut cx, n),
            "virtual_server" => servers.server(&mut cx, n),
            "garp_group" => global::pace_group(&mut cx, n, &mut m),
            "track_group" => group::tracking(&mut cx, n, &mut m),
            "interface_up_down_delays" => global::debounce(&mut cx, n, &mut m),
            h => {
                let before = cx.report.diags.len();
                cx.unknown(n, "");
                if known::is_known("", h) && before < cx.report.diags.len() {
                    // What stands in it is checked all the same.
                    inside(&mut cx, n, h);
                }
            }
        }
    }
    let g = &cx.globals;
    Vmac::name_all(&mut m.instances, &g.vmac_prefix, g.vmac_addr_prefix.as_ref().unwrap_or(&g.vmac_prefix));
    group::finish(&mut cx, &mut m);
    let sections = servers.sections(&mut cx, &mut m);
    (m, sections)
}

/// Words in a block that is not honoured yet.
fn inside(cx: &mut Cx<'_>, n: &Node, block: &str) {
    // Groups of virtual servers, addresses and routes hold data, no words.
    if !known::has_words(block) {
        return;
    }
    for c in n.block.iter().flatten() {
        let Some(w) = c.words.first() else { continue };
        if known::is_known(block, w) || known::is_known("real_server", w) && block.ends_with("_CHECK") {
            inside(cx, c, w);
        } else if !matches!(block, "HTTP_GET" | "SSL_GET") || !known::is_anywhere(w) {
            cx.unknown(c, block);
        }
    }
}

impl Cx<'_> {
    /// What keepalived reports before it goes on.
    pub(super) fn lenient(&mut self, code: Code, place: &Place, text: String) {
        if self.strict {
            self.report.error(code, place, text);
        } else {
            self.report.warning(code, place, text);
        }
    }
    pub(super) fn value<'n>(&mut self, n: &'n Node) -> Option<&'n str> {
        let v = n.words.get(1).map(String::as_str);
        if v.is_none() {
            self.report.error(Code::Missing, &n.place, format!("'{}' is missing its value", n.words[0]));
        }
        v
    }
    pub(super) fn number<T: std::str::FromStr + PartialOrd + std::fmt::Display>(
        &mut self,
        n: &Node,
        lo: T,
        hi: T,
    ) -> Option<T> {
        let text = self.value(n)?;
        match text.parse::<T>() {
            Ok(v) if v >= lo && v <= hi => Some(v),
            _ => {
                let text = format!(
                    "'{}' : '{text}' is not a number from {lo} to {hi}; the default is used, as keepalived does",
                    n.words[0]
                );
                self.lenient(Code::Lenient, &n.place, text);
                None
            }
        }
    }
    /// Decimal seconds.
    pub(super) fn seconds(&mut self, n: &Node, lo: f64, hi: f64) -> Option<Duration> {
        let secs = self.number::<f64>(n, lo, hi)?;
        Some(Duration::from_secs_f64(secs))
    }
    /// The lines of a block; what stands where braces were to stand is reported.
    pub(super) fn lines<'n>(&mut self, n: &'n Node) -> impl Iterator<Item = &'n Node> + use<'n> {
        if n.block.is_none() {
            let text = format!("'{}' is missing its block: {} {{ ... }}", n.words[0], n.words[0]);
            self.lenient(Code::Braces, &n.place, text);
        } else if let Some(extra) = n.words.get(1) {
            let text = format!("'{}' takes no '{extra}' in front of its block", n.words[0]);
            self.lenient(Code::Extra, &n.place, text);
        }
        n.block.iter().flatten().filter(|l| !l.words.is_empty())
    }
    /// How often something is announced: at least once.
    pub(super) fn repeat(&mut self, n: &Node, default: u32) -> u32 {
        match self.number(n, 0u32, u32::MAX) {
            Some(0) => {
                self.lenient(Code::Lenient, &n.place, format!("'{}' must be greater than 0; 1 is used", n.words[0]));
                1
            }
            found => found.unwrap_or(default),
        }
    }
    pub(super) fn flag(&mut self, n: &Node) -> bool {
        match n.words.get(1).map(String::as_str) {
            None | Some("true" | "on" | "yes") => true,
            Some("false" | "off" | "no") => false,
            Some(o) => {
                self.report.error(Code::Value, &n.place, format!("'{}' : '{o}' is not a boolean", n.words[0]));
                true
            }
        }
    }
    pub(super) fn not_yet(&mut self, n: &Node) {
        self.report.not_yet(
            &n.place,
            format!("'{}' is known but not honoured yet by this version; remove the line, or stay with keepalived for this configuration", n.words[0]),
        );
    }
    /// A word without a handler: one that keepalived knows is not honoured yet, or means nothing here; any other is reported, as keepalived does.
    pub(super) fn unknown(&mut self, n: &Node, block: &str) {
        let w = n.words[0].as_str();
        match known::WORDS.iter().find(|k| k.0 == block && k.1 == w) {
            Some((.., "")) => return self.not_yet(n),
            Some((.., why)) => return self.no_effect(n, why),
            None => {}
        }
        // Of many, the first are shown; the others need no hint.
        if !self.report.keeps(Severity::Warning) {
            return self.lenient(Code::UnknownWord, &n.place, String::new());
        }
        let place = if block.is_empty() { "the file".to_owned() } else { format!("'{block}'") };
        let near = known::WORDS.iter().filter(|k| k.0 == block).map(|k| k.1);
        let elsewhere = known::WORDS.iter().find(|k| k.1 == w && !k.0.is_empty());
        let hint = match elsewhere {
            Some((b, ..)) => format!("; it belongs into a '{b}' block"),
            None => suggestion(w, near),
        };
        let skipped = if n.block.is_some() {
            "; its block is passed over, whose lines keepalived would read as the surrounding block's"
        } else {
            ""
        };
        let text = format!("unknown keyword '{w}' in {place}, ignored as keepalived does{skipped}{hint}");
        self.lenient(Code::UnknownWord, &n.place, text);
    }
    /// A VRRP-less word: said once, with the reason.
    pub(super) fn no_effect(&mut self, n: &Node, why: &str) {
        self.report.notice(Code::NoEffect, &n.place, format!("'{}' has no effect: {why}", n.words[0]));
    }
}

/// A place back from its text form `file:line`.
pub fn place_of(text: &str) -> Place {
    let (file, line) = text.rsplit_once(':').unwrap_or((text, "0"));
    Place { file: file.into(), line: line.parse().unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> (VrrpModel, Report) {
        let mut src = crate::config::source::Recorded::default();
        src.files.insert("/k".into(), Ok(text.as_bytes().to_vec()));
        let mut report = Report::default();
        let (m, _) = super::super::load("/k", &mut src, &Manner::default(), &mut report);
        (m, report)
    }

    #[test]
    fn a_usual_instance() {
        let (m, r) = load(
            "vrrp_script chk { script \"killall -0 haproxy\"\n interval 2\n weight 2 }\nvrrp_instance VI_1 {\n state MASTER\n interface eth0\n virtual_router_id 51\n priority 101\n advert_int 1\n authentication {\n auth_type PASS\n auth_pass 1111\n }\n virtual_ipaddress {\n 192.168.1.10/24 dev eth0 label eth0:1\n }\n track_script { chk }\n}\n",
        );
        assert!(!r.has_fatal(), "{:?}", r.diags);
        let i = &m.instances[0];
        assert_eq!((i.vrid, i.priority, i.version, i.vips[0].addr.prefix), (51, 101, VrrpVersion::V2, 24));
        assert_eq!(i.auth, crate::config::model::Auth::Pass(*b"1111\0\0\0\0"));
        assert!(m.scripts[0].liveness && m.scripts[0].weight == 2);
    }

    /// keepalived 2.4.3 says no more than a word of it and signs nothing: who is with it in a network would be alone.
    #[test]
    fn the_key_that_signs_has_to_be_named() {
        let signs = |line: &str| {
            let key = "0123456789abcdef0123456789abcdef";
            let (m, r) = load(&format!(
                "vrrp_instance V {{\n interface eth0\n version 3\n virtual_router_id 51\n auth_hmac {{\n key 3 {key}\n {line}\n }}\n virtual_ipaddress {{\n 10.0.0.1\n }}\n}}\n"
            ));
            m.instances.first().and_then(|i| i.hmac.as_ref()).map(|h| h.active).filter(|_| !r.has_fatal())
        };
        assert_eq!([signs("active_key 3"), signs("active_key 4"), signs("")], [Some(3), None, None]);
    }

    #[test]
    fn mistakes_are_errors_with_places() {
        let (_, r) = load(
            "vrrp_instance A {\n interface eth0\n virtual_router_id 300\n virtual_ipaddress { 10.0.0.300 }\n track_script { nope }\n}\n",
        );
        assert!(
            r.diags.iter().filter(|d| d.severity >= crate::base::diag::Severity::Warning).count() >= 4 && r.has_fatal(),
            "{:?}",
            r.diags
        );
    }
}
