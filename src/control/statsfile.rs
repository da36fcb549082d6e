//! Counters that outlive the process: `dump stats-file` writes them by GUID, `stats-file` loads them (configuration manual 3.1; management
//! manual 9.3).
use super::stats::{Row, backend, frontend, listener, server};
use crate::state::counters::{Counter as C, Counters};
use crate::state::snapshot::Snapshot;
use std::collections::HashMap;

/// Columns of frontends and listeners, and of backends and servers.
const FRONT: &str = "stot,bin,bout,dreq,dresp,ereq,rate,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,req_rate,req_tot,comp_in,comp_out,comp_byp,comp_rsp,conn_rate,conn_tot,intercepted,dcon,dses,wrew,cache_lookups,cache_hits,eint,h1sess,h2sess,h3sess,req_other,h1req,h2req,h3req,reqbin,reqbout,resbin,resbout,cache_hint_hits";
const BACK: &str = "stot,bin,bout,dreq,dresp,econ,eresp,wretr,wredis,chkfail,chkdown,lastchg,lbtot,rate,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,hanafail,req_tot,cli_abrt,srv_abrt,comp_in,comp_out,comp_byp,comp_rsp,lastsess,wrew,connect,reuse,cache_lookups,cache_hits,eint,reqbin,reqbout,resbin,resbout,cache_hint_hits";

/// The counter of a column; rates and ages begin anew, and what is derived from others is not set twice.
const SET: &[(&str, C)] = &[
    ("stot", C::Sessions),
    ("bin", C::BytesIn),
    ("bout", C::BytesOut),
    ("dreq", C::DeniedRequests),
    ("dresp", C::DeniedResponses),
    ("ereq", C::RequestErrors),
    ("econ", C::ConnectErrors),
    ("eresp", C::ResponseErrors),
    ("wretr", C::Retries),
    ("wredis", C::Redispatches),
    ("chkfail", C::ChecksFailed),
    ("chkdown", C::ChecksDown),
    ("lbtot", C::Chosen),
    ("hrsp_1xx", C::Http1xx),
    ("hrsp_2xx", C::Http2xx),
    ("hrsp_3xx", C::Http3xx),
    ("hrsp_4xx", C::Http4xx),
    ("hrsp_5xx", C::Http5xx),
    ("hrsp_other", C::HttpOther),
    ("req_tot", C::Requests),
    ("cli_abrt", C::ClientAborts),
    ("srv_abrt", C::ServerAborts),
    ("comp_in", C::CompressionIn),
    ("comp_out", C::CompressionOut),
    ("comp_byp", C::CompressionBypassed),
    ("comp_rsp", C::CompressedResponses),
    ("intercepted", C::Intercepted),
    ("dcon", C::DeniedConnections),
    ("dses", C::DeniedSessions),
    ("wrew", C::FailedRewrites),
    ("connect", C::Connects),
    ("reuse", C::Reuses),
    ("cache_lookups", C::CacheLookups),
    ("cache_hits", C::CacheHits),
    ("cache_hint_hits", C::CacheHintHits),
    ("eint", C::InternalErrors),
];

/// `dump stats-file`: what has a GUID.
pub fn dump(s: &Snapshot) -> String {
    let line = |out: &mut String, guid: &str, columns: &str, r: &Row| {
        out.push_str(guid);
        for c in columns.split(',') {
            let v = r.get(c);
            out.push(',');
            out.push_str(if v.parse::<i64>().is_ok_and(|n| n >= 0) { v } else { "0" });
        }
        out.push_str(",\n");
    };
    let mut out = format!("#fe guid,{FRONT},\n");
    for p in s.proxies.iter().filter(|p| p.conf.is_frontend()) {
        if let Some(g) = &p.conf.guid {
            line(&mut out, g, FRONT, &frontend(p));
        }
        for l in p.listeners.iter().filter(|_| p.conf.options.socket_stats) {
            if let Some(g) = &l.conf.guid {
                line(&mut out, g, FRONT, &listener(p, l));
            }
        }
    }
    out.push_str(&format!("\n#be guid,{BACK},\n"));
    for p in s.proxies.iter().filter(|p| p.conf.is_backend()) {
        for n in &p.servers {
            if let Some(g) = &n.conf.guid {
                line(&mut out, g, BACK, &server(p, n));
            }
        }
        if let Some(g) = &p.conf.guid {
            line(&mut out, g, BACK, &backend(p));
        }
    }
    out
}

type ByGuid<'s> = HashMap<&'s str, &'s Counters>;

/// Takes the counters of a file over. What it does not know, a column or a GUID, is passed over.
pub fn preload(text: &str, s: &Snapshot) {
    let (mut front, mut back) = (ByGuid::new(), ByGuid::new());
    for p in &s.proxies {
        if let Some(g) = &p.conf.guid {
            if p.conf.is_frontend() {
                front.insert(g, &p.live.front);
            }
            if p.conf.is_backend() {
                back.insert(g, &p.live.back);
            }
        }
        for l in &p.listeners {
            front.extend(l.conf.guid.iter().map(|g| (&**g, &l.live.counters)));
        }
        for n in &p.servers {
            back.extend(n.conf.guid.iter().map(|g| (&**g, &n.live.counters)));
        }
    }
    let mut those: Option<(&ByGuid<'_>, Vec<Option<C>>)> = None;
    for line in text.lines().map(str::trim) {
        let columns = |l: &str| {
            l.split(',').skip(1).map(|c| SET.iter().find(|s| s.0 == c).map(|s| s.1)).collect::<Vec<Option<C>>>()
        };
        if let Some(head) = line.strip_prefix("#fe ") {
            those = Some((&front, columns(head)));
        } else if let Some(head) = line.strip_prefix("#be ") {
            those = Some((&back, columns(head)));
        } else if let Some((all, columns)) = &those {
            let mut words = line.split(',');
            let Some(counters) = words.next().and_then(|g| all.get(g)) else { continue };
            for (column, value) in columns.iter().zip(words) {
                if let (Some(c), Ok(n)) = (column, value.parse()) {
                    counters.add(*c, n);
                }
            }
        }
    }
}
