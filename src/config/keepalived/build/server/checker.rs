//! Checkers of real servers: `TCP_CHECK`, `HTTP_GET` and their like.
use super::{Manners, manner};
use crate::base::code::Code;
use crate::base::diag::suggestion;
use crate::config::keepalived::build::{Cx, blank_script};
use crate::config::keepalived::parse::Node;
use crate::config::model::{
    Checker, FactOf, FactRule, HttpProbe, HttpVersion, Origin, Probe, UdpProbe, Url, VrrpModel,
};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// keepalived's defaults.
const TIMEOUT: Duration = Duration::from_secs(5);
const EVERY: Duration = Duration::from_secs(60);

/// Block, `retry`, and `delay_before_retry` where it is not the usual second.
const KINDS: &[(&str, u32, Option<Duration>)] = &[
    ("TCP_CHECK", 1, None),
    ("HTTP_GET", 1, Some(Duration::from_secs(3))),
    ("SSL_GET", 1, Some(Duration::from_secs(3))),
    ("SMTP_CHECK", 1, None),
    ("DNS_CHECK", 3, None),
    ("MISC_CHECK", 0, None),
    ("BFD_CHECK", 0, None),
    ("UDP_CHECK", 1, None),
    ("PING_CHECK", 1, None),
    ("FILE_CHECK", 0, None),
];

/// Types of records that `DNS_CHECK` asks for, and their numbers (RFC 1035, 3.2.2).
const RECORDS: &[(&str, u16)] = &[("A", 1), ("NS", 2), ("CNAME", 5), ("SOA", 6), ("MX", 15), ("TXT", 16), ("AAAA", 28)];

pub(super) fn is_one(word: &str) -> bool {
    KINDS.iter().any(|k| k.0 == word)
}

/// Words of checkers that stand in none of their own blocks.
const WORDS: &[&str] = &[
    "connect_ip",
    "connect_port",
    "bindto",
    "bind_port",
    "bind_if",
    "fwmark",
    "nb_get_retry",
    "http_protocol",
    "fast_recovery",
    "enable_sni",
    "sni_name",
    "url",
    "log_all_failures",
];

pub(super) fn has(word: &str) -> bool {
    WORDS.contains(&word)
}

/// The real server that a checker belongs to, its weight, and the virtual server.
pub(super) struct At<'a> {
    pub server: String,
    pub weight: u32,
    pub section: &'a str,
    pub udp: bool,
}

/// One checker block.
pub(super) fn read(cx: &mut Cx<'_>, block: &Node, from: &Manners, at: &At<'_>, m: &mut VrrpModel) -> Option<Checker> {
    let (name, retry, pause) = *KINDS.iter().find(|k| k.0 == block.words[0])?;
    let mut manners = from.clone();
    let mut to = (None, None);
    let (mut bind, mut bind_port, mut bind_if) = (None::<IpAddr>, 0u16, None::<String>);
    let mut fast_recovery = false;
    let mut own = Vec::new();
    let remote = !matches!(name, "MISC_CHECK" | "BFD_CHECK" | "FILE_CHECK");
    for n in block.block.iter().flatten().filter(|n| !n.words.is_empty()) {
        match n.words[0].as_str() {
            "connect_ip" if remote => to.0 = ip(cx, n),
            "connect_port" if remote => to.1 = cx.number(n, 1u16, u16::MAX),
            "bindto" if remote => bind = ip(cx, n),
            "bind_port" if remote => bind_port = cx.number(n, 1u16, u16::MAX).unwrap_or(0),
            "bind_if" if remote => bind_if = cx.value(n).map(str::to_owned),
            "fwmark" if remote => cx.not_yet(n),
            // Every failure is counted, and the last one can be asked for.
            "log_all_failures" => {}
            "nb_get_retry" if name.ends_with("_GET") => manners.retry = cx.number(n, 0u32, u32::MAX).or(manners.retry),
            "nb_get_retry" => {
                let text = format!(
                    "'nb_get_retry' is a word of HTTP_GET and SSL_GET; in '{name}' it is ignored as keepalived does. Say 'retry'"
                );
                cx.lenient(Code::UnknownWord, &n.place, text);
            }
            "fast_recovery" if name.ends_with("_GET") => fast_recovery = cx.flag(n),
            "virtualhost" if !name.ends_with("_GET") => cx.unknown(n, name),
            _ if manner(cx, n, &mut manners) => {}
            _ => own.push(n),
        }
    }
    let probe = match name {
        "TCP_CHECK" => none(cx, &own, name, Probe::Tcp),
        "PING_CHECK" => none(cx, &own, name, Probe::Ping),
        "HTTP_GET" | "SSL_GET" => http(cx, &own, name, block, &manners)?,
        "SMTP_CHECK" => smtp(cx, &own),
        "DNS_CHECK" => dns(cx, &own),
        "UDP_CHECK" => udp(cx, &own),
        _ => outside(cx, &own, name, block, &manners, at, m)?,
    };
    let every = manners.every.unwrap_or(EVERY);
    let pause = if name == "DNS_CHECK" { every } else { pause.unwrap_or(Duration::from_secs(1)) };
    let from = (bind.is_some() || bind_port > 0 || bind_if.is_some()).then(|| {
        let any = if at.server.starts_with('[') { IpAddr::from([0u16; 8]) } else { IpAddr::from([0u8; 4]) };
        Origin { addr: SocketAddr::new(bind.unwrap_or(any), bind_port), interface: bind_if }
    });
    Some(Checker {
        name,
        probe,
        to,
        from,
        timeout: manners.timeout.unwrap_or(TIMEOUT),
        retry: manners.retry.unwrap_or(retry),
        retry_delay: manners.retry_delay.unwrap_or(pause),
        every,
        warmup: manners.warmup.unwrap_or(every),
        alpha: manners.alpha,
        fast_recovery,
    })
}

fn ip(cx: &mut Cx<'_>, n: &Node) -> Option<IpAddr> {
    let found = cx.value(n)?.parse().ok();
    if found.is_none() {
        let text =
            format!("'{} {}' : that is not an IP address; it is left out, as keepalived does", n.words[0], n.words[1]);
        cx.lenient(Code::Lenient, &n.place, text);
    }
    found
}

/// A checker without words of its own.
fn none(cx: &mut Cx<'_>, own: &[&Node], name: &str, p: Probe) -> Probe {
    own.iter().for_each(|n| cx.unknown(n, name));
    p
}

fn http(cx: &mut Cx<'_>, own: &[&Node], name: &'static str, block: &Node, manners: &Manners) -> Option<Probe> {
    let mut p = HttpProbe { tls: name == "SSL_GET", sni: None, version: HttpVersion::default(), urls: Vec::new() };
    let (mut sni, mut sni_name) = (false, None);
    for n in own {
        match n.words[0].as_str() {
            "http_protocol" => {
                p.version = match cx.value(n) {
                    Some("1.0") | None => HttpVersion::V10,
                    Some("1.0C" | "1.0c") => HttpVersion::V10C,
                    Some("1.1") => HttpVersion::V11,
                    Some(o) => {
                        cx.lenient(
                            Code::Value,
                            &n.place,
                            format!("'http_protocol {o}' is none of 1.0, 1.0C and 1.1; 1.0 is used"),
                        );
                        HttpVersion::V10
                    }
                }
            }
            "enable_sni" if p.tls => sni = true,
            "sni_name" if p.tls => sni_name = cx.value(n).map(str::to_owned),
            // Connections are ended in order in any case.
            "tls_compliant" if p.tls => {}
            "url" => p.urls.extend(url(cx, n, manners)),
            _ => cx.unknown(n, name),
        }
    }
    if p.urls.is_empty() {
        let text = format!("'{name}' has no 'url': it is left out, as keepalived does");
        cx.lenient(Code::Missing, &block.place, text);
        return None;
    }
    p.sni = sni_name.or_else(|| p.urls[0].host.clone().filter(|_| sni));
    Some(Probe::Http(Box::new(p)))
}

fn url(cx: &mut Cx<'_>, block: &Node, manners: &Manners) -> Option<Url> {
    let mut u = Url {
        path: String::new(),
        host: manners.host.clone(),
        digest: None,
        status: Vec::new(),
        regex: None,
        offsets: (0, None),
    };
    let (mut pattern, mut no_match, mut flags) = (None, false, String::new());
    for n in cx.lines(block) {
        match n.words[0].as_str() {
            "path" => u.path = cx.value(n).unwrap_or_default().to_owned(),
            "virtualhost" => u.host = cx.value(n).map(str::to_owned),
            "digest" => {
                let w = cx.value(n).unwrap_or_default();
                u.digest = crate::health::script::hex(w.as_bytes()).and_then(|b| b.try_into().ok());
                if u.digest.is_none() {
                    cx.lenient(
                        Code::Value,
                        &n.place,
                        format!("'digest {w}' is not an MD5 sum of 32 hexadecimal digits; it is left out"),
                    );
                }
            }
            "status_code" => {
                let codes = n.words[1..].iter().flat_map(|w| w.split(',')).filter(|w| !w.is_empty());
                for w in codes.map(str::to_owned).collect::<Vec<_>>() {
                    let (a, b) = w.split_once('-').unwrap_or((&w, &w));
                    match (a.parse::<u16>(), b.parse::<u16>()) {
                        (Ok(a), Ok(b)) if (100..=999).contains(&a) && a <= b && b <= 999 => u.status.push((a, b)),
                        _ => cx.lenient(Code::Value, &n.place, format!("'status_code {w}' is neither a status code nor a range of them; it is left out, as keepalived does")),
                    }
                }
            }
            "regex" => pattern = cx.value(n).map(|w| (w.to_owned(), n)),
            "regex_no_match" => no_match = true,
            "regex_options" => {
                for w in &n.words[1..] {
                    match REGEX_OPTIONS.iter().find(|o| o.0 == w) {
                        Some((_, Some(f))) => flags.push(*f),
                        Some((_, None)) => {}
                        None => {
                            cx.report.not_yet(&n.place, format!("'regex_options {w}' is not known or not honoured yet"))
                        }
                    }
                }
            }
            "regex_min_offset" => u.offsets.0 = cx.number(n, 0usize, 1 << 30).unwrap_or(0),
            "regex_max_offset" => u.offsets.1 = cx.number(n, 0usize, 1 << 30),
            "regex_stack" | "tls_compliant" => cx.unknown(n, "url"),
            _ => cx.unknown(n, "url"),
        }
    }
    if u.path.is_empty() {
        let text = "'url' has no 'path': it is left out, as keepalived does".to_owned();
        cx.lenient(Code::Missing, &block.place, text);
        return None;
    }
    if let Some((w, n)) = pattern {
        let text = if flags.is_empty() { w.clone() } else { format!("(?{flags}){w}") };
        match crate::health::script::regex(&text) {
            Ok(r) => u.regex = Some((r, no_match)),
            Err(e) => {
                let why = e.to_string();
                let text = format!("'regex {w}' cannot be used: {}", why.lines().last().unwrap_or_default());
                cx.report.error(Code::Value, &n.place, text);
            }
        }
    }
    if u.status.is_empty() {
        u.status.push((200, 299));
    }
    Some(u)
}

/// Options of regular expressions that there are here, as flags; or that change nothing.
const REGEX_OPTIONS: &[(&str, Option<char>)] = &[
    ("caseless", Some('i')),
    ("multiline", Some('m')),
    ("dotall", Some('s')),
    ("extended", Some('x')),
    ("ungreedy", Some('U')),
    ("utf", Some('u')),
    ("ucp", Some('u')),
    ("dollar_endonly", None),
    ("dupnames", None),
    ("no_auto_capture", None),
    ("no_auto_possess", None),
    ("no_dotstar_anchor", None),
    ("no_start_optimize", None),
    ("auto_callout", None),
    ("never_ucp", None),
    ("never_utf", None),
    ("never_backslash_c", None),
    ("use_offset_limit", None),
];

fn smtp(cx: &mut Cx<'_>, own: &[&Node]) -> Probe {
    let mut helo = None;
    for n in own {
        match n.words[0].as_str() {
            "helo_name" => helo = cx.value(n).map(str::to_owned),
            "host" => cx.not_yet(n),
            _ => cx.unknown(n, "SMTP_CHECK"),
        }
    }
    Probe::Smtp { helo: helo.unwrap_or_else(|| "smtpchecker.keepalived.org".to_owned()) }
}

fn dns(cx: &mut Cx<'_>, own: &[&Node]) -> Probe {
    let (mut kind, mut name) = (6, ".".to_owned());
    for n in own {
        match n.words[0].as_str() {
            "type" => {
                let w = cx.value(n).unwrap_or_default();
                match RECORDS.iter().find(|r| r.0.eq_ignore_ascii_case(w)) {
                    Some(r) => kind = r.1,
                    None => {
                        let text = format!(
                            "'type {w}' is not known; SOA is asked for{}",
                            suggestion(&w.to_uppercase(), RECORDS.iter().map(|r| r.0))
                        );
                        cx.lenient(Code::Value, &n.place, text);
                    }
                }
            }
            "name" => name = cx.value(n).unwrap_or(".").to_owned(),
            _ => cx.unknown(n, "DNS_CHECK"),
        }
    }
    Probe::Dns { kind, name }
}

fn udp(cx: &mut Cx<'_>, own: &[&Node]) -> Probe {
    let mut p = UdpProbe { max: 255, ..UdpProbe::default() };
    for n in own {
        match n.words[0].as_str() {
            "payload" => p.payload = octets(cx, n).map(|v| v.into_iter().map(|o| o.0).collect()),
            "require_reply" => p.reply = octets(cx, n).or(Some(Vec::new())),
            "min_reply_length" => p.min = cx.number(n, 0usize, 65_507).unwrap_or(0),
            "max_reply_length" => p.max = cx.number(n, 0usize, 65_507).unwrap_or(255),
            _ => cx.unknown(n, "UDP_CHECK"),
        }
    }
    Probe::Udp(Box::new(p))
}

/// `ab12f 3 X4`: octets of two digits each, those left alone of one; `X` may be anything.
fn octets(cx: &mut Cx<'_>, n: &Node) -> Option<Vec<(u8, u8)>> {
    let found = parse_octets(&n.words[1..]);
    if found.is_none() {
        let text = format!("'{}' : hexadecimal digits are expected", n.words[0]);
        cx.report.error(Code::Value, &n.place, text);
    }
    found.filter(|v| !v.is_empty())
}

fn parse_octets(words: &[String]) -> Option<Vec<(u8, u8)>> {
    let digit = |c: u8| match c {
        b'x' | b'X' => Some((0, 0)),
        _ => char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok()).map(|d| (d, 0xf)),
    };
    let mut out = Vec::new();
    for w in words {
        for pair in w.as_bytes().chunks(2) {
            out.push(match *pair {
                [a, b] => {
                    let ((a, ma), (b, mb)) = (digit(a)?, digit(b)?);
                    (a << 4 | b, ma << 4 | mb)
                }
                _ => {
                    let (a, m) = digit(pair[0])?;
                    (a, m | 0xf0)
                }
            });
        }
    }
    Some(out)
}

/// Checkers that the guardian answers.
fn outside(
    cx: &mut Cx<'_>,
    own: &[&Node],
    name: &str,
    block: &Node,
    manners: &Manners,
    at: &At<'_>,
    m: &mut VrrpModel,
) -> Option<Probe> {
    // The same in every reading, wherever it stands in the file.
    let before = m.facts.iter().filter(|f| f.key.starts_with(name)).count();
    let udp = if at.udp { "udp@" } else { "" };
    let key = format!("{name} {} of {} in {udp}{}", before + 1, at.server, at.section);
    let mut s = blank_script(&key, &block.place);
    let (mut what, mut dynamic, mut weight) = (None, false, None);
    for n in own {
        match (n.words[0].as_str(), name) {
            ("misc_path", "MISC_CHECK") => {
                s.command = if n.words.len() == 2 { n.words[1].clone() } else { n.raw.clone() };
            }
            ("misc_timeout", "MISC_CHECK") => s.timeout = cx.seconds(n, 0.001, 4294.0).unwrap_or_default(),
            ("misc_dynamic", "MISC_CHECK") => dynamic = true,
            ("user", "MISC_CHECK") => s.user = cx.value(n).map(|u| (u.to_owned(), n.words.get(2).cloned())),
            ("track_file", "FILE_CHECK") | ("name", "BFD_CHECK") => what = cx.value(n).map(str::to_owned),
            ("dynamic", "FILE_CHECK") => dynamic = true,
            ("weight", "FILE_CHECK") => {
                weight = cx.number(n, -2_147_483_647i64, 2_147_483_647);
                if n.words.get(2).is_some_and(|w| w == "reverse") {
                    weight = weight.map(|w| -w);
                }
            }
            _ => cx.unknown(n, name),
        }
    }
    let missing = if name == "MISC_CHECK" { s.command.is_empty() } else { what.is_none() };
    if missing {
        let word =
            ["misc_path", "track_file", "name"][usize::from(name != "MISC_CHECK") + usize::from(name == "BFD_CHECK")];
        let text = format!("'{name}' has no '{word}': it is left out, as keepalived does");
        cx.lenient(Code::Lenient, &block.place, text);
        return None;
    }
    let of = match name {
        "MISC_CHECK" => {
            s.interval = manners.every.unwrap_or(EVERY);
            if s.timeout.is_zero() {
                s.timeout = s.interval;
            }
            s.rise = 1;
            s.fall = manners.retry.unwrap_or(0).saturating_add(1);
            s.pause = Some(manners.retry_delay.unwrap_or(Duration::from_secs(1)));
            s.tells_codes = dynamic;
            m.checks.push(s);
            FactOf::Script { dynamic: dynamic.then_some(at.weight) }
        }
        "FILE_CHECK" => FactOf::File { name: what?, weight, dynamic },
        _ => FactOf::Bfd { name: what? },
    };
    m.facts.push(FactRule { key: key.clone(), place: block.place.to_string(), of });
    Some(Probe::Outside(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_read_freely() {
        let p = |t: &str| parse_octets(&t.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let plain = |v: &[u8]| Some(v.iter().map(|b| (*b, 0xff)).collect::<Vec<_>>());
        // The manual's example.
        assert_eq!(p("Ab12f 3 456 546443123"), plain(&[0xab, 0x12, 0x0f, 3, 0x45, 6, 0x54, 0x64, 0x43, 0x12, 3]));
        assert_eq!(p("Xf x0"), Some(vec![(0x0f, 0x0f), (0, 0x0f)]));
        assert_eq!(p("zz"), None);
    }
}
