//! `protocol carp`: a `vrrp` section that speaks the Common Address Redundancy Protocol, in its own words.
use crate::base::code::Code;
use crate::config::haproxy::Cx;
use crate::config::model::{Auth, CarpAuth, VrrpInstance, VrrpVersion};
use crate::vrrp::carp::{KEY, in_order};
use std::net::IpAddr;
use std::time::Duration;

/// `advskew` of a node that cannot serve is one more than the most that a file may say.
const MOST_SKEW: u8 = 252;

/// What a section says of it.
#[derive(Debug, Default)]
pub struct Words {
    wanted: bool,
    base: Option<u8>,
    skew: Option<u8>,
    key: Option<[u8; KEY]>,
    /// The first of these words, for what is wrong with all of them.
    first: Option<&'static str>,
}

/// Words that CARP has no place for.
const FOREIGN: &[&str] = &[
    "advertise",
    "version",
    "priority",
    "auth",
    "auth-header",
    "hmac-key",
    "hmac",
    "checksum",
    "strict",
    "no-address-check",
    "ignore-adverts-as-owner",
    "late-is-backup",
];

impl Words {
    /// True if the line was one of these.
    pub fn line(&mut self, cx: &mut Cx<'_>, w: &[String]) -> bool {
        let mut say = |word| _ = self.first.get_or_insert(word);
        match w[0].as_str() {
            "protocol" => match cx.arg(w, 1, "'vrrp' or 'carp'") {
                Some("carp") => self.wanted = true,
                Some("vrrp") => self.wanted = false,
                Some(o) => cx.error(format!("'protocol' expects 'vrrp' or 'carp', but got '{o}'")),
                None => {}
            },
            "advbase" => {
                say("advbase");
                self.base = cx.number(w, 1, "a number of seconds from 1 to 254");
                if self.base.is_some_and(|n| n == 0 || n == u8::MAX) {
                    cx.error_of(Code::Number, "'advbase' : a number of seconds from 1 to 254 is wanted");
                }
            }
            "advskew" => {
                say("advskew");
                self.skew = cx.number(w, 1, "a number from 0 to 252");
                if self.skew.is_some_and(|n| n > MOST_SKEW) {
                    cx.error_of(
                        Code::Number,
                        "'advskew' : a number from 0 to 252 is wanted; what is above says that a node cannot serve",
                    );
                }
            }
            "password" => {
                say("password");
                let Some(text) = cx.arg(w, 1, "a password of at most 20 characters") else { return true };
                if text.len() > KEY {
                    cx.error_of(
                        Code::AuthPass,
                        "'password' : CARP has room for 20 characters; choose a shorter one on all nodes",
                    );
                    return true;
                }
                let mut key = [0; KEY];
                key[..text.len()].copy_from_slice(text.as_bytes());
                self.key = Some(key);
            }
            _ => return false,
        }
        true
    }

    pub fn wanted(&self) -> bool {
        self.wanted
    }

    /// Makes it the protocol of a section that is whole. `said`: the words of the section. What is wrong comes back.
    pub fn finish(self, inst: &mut VrrpInstance, said: &[String]) -> Vec<String> {
        let name = &inst.name;
        if !self.wanted {
            return match self.first {
                Some(word) => vec![format!("vrrp '{name}' : '{word}' needs 'protocol carp'")],
                None => Vec::new(),
            };
        }
        let mut wrong: Vec<String> = FOREIGN
            .iter()
            .filter(|f| said.iter().any(|s| s == *f))
            .map(|f| match *f {
                "advertise" | "version" => format!("vrrp '{name}' : '{f}' is VRRP's; CARP has 'advbase'"),
                "priority" => format!("vrrp '{name}' : 'priority' is VRRP's; CARP has 'advskew', and the lowest wins"),
                "auth" | "auth-header" | "hmac" | "hmac-key" => {
                    format!("vrrp '{name}' : '{f}' is VRRP's; CARP has 'password'")
                }
                _ => format!("vrrp '{name}' : '{f}' means nothing to CARP; remove it"),
            })
            .collect();
        if self.key.is_none() {
            wrong.push(format!(
                "vrrp '{name}' has no 'password'; CARP signs its adverts with it, on all nodes the same"
            ));
        }
        inst.version = VrrpVersion::Carp;
        inst.advert_int = Duration::from_secs(self.base.unwrap_or(1).into());
        inst.priority = 254 - self.skew.unwrap_or(0).min(MOST_SKEW);
        inst.auth = Auth::Carp(CarpAuth { key: self.key.unwrap_or_default(), addrs: Vec::new() });
        wrong
    }
}

/// Adverts of both families sign the addresses of both.
pub fn sign(auth: &mut Auth, shown: impl IntoIterator<Item = IpAddr>) {
    if let Auth::Carp(c) = auth {
        c.addrs = in_order(shown);
    }
}
