//! `show stat|info typed|json` (management manual 9.2): every value with its place, what it is, and its type.
use super::stats::{self, COLUMNS, Kind, MODULES, Row};
use crate::state::live::Live;
use crate::state::snapshot::Snapshot;
use std::fmt::Write as _;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Typed,
    Json,
}

/// Of each column: the letters of origin, nature, scope and persistence, and the type.
#[rustfmt::skip] // As the columns stand.
const STAT: [&str; COLUMNS.len()] = ["KNSV str", "KNSV str", "MGPV u32", "MMPV u32", "MGPV u32", "MMPV u32", "CLPV u32", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "SGPV str", "MaPV u32", "SGPV u32", "SGPV u32", "MCPP u64", "MCPP u64", "MAPP u32", "MCPV u32", "CGSV u32", "KGPV u32", "KGSV u32", "KGSV u32", "SGPV u32", "MCPP u64", "CNSV str", "CGSV u32", "MRPP u32", "CLPV u32", "MMPV u32", "MOPV str", "MOPV u32", "MDPV u64", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "MRPP u32", "MMPV u32", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "MAPP s32", "MOPV str", "MOPV str", "MaPV u32", "MaPV u32", "MaPV u32", "MaPV u32", "MOPV str", "MDPV u64", "MDPV u64", "MOPV str", "MOPV str", "CGSV u32", "CGSV u32", "CGSV u32", "CGSV u32", "CGSV u32", "CGSV u32", "CGSV str", "CNSV str", "CGSV str", "CGSV str", "MRPP u32", "MMPV u32", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "MGPV u32", "CLPV u32", "MMPV u32", "MMPV u32", "MMPV u32", "MMPV u32", "MCPP u64", "MGPV u32", "MGPV u32", "MGPV u32", "MGPV u32", "MaPV u32", "MGPV u32", "MGPV u32", "MGPV u32", "MCPV u32", "MCPV u64", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "SGPV str", "MGPV u32", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64", "MCPP u64"];

/// Of each line of `show info`.
#[rustfmt::skip] // As the lines stand.
const INFO: &[&str] = &["POSV str", "POSV str", "POSV str", "CGSV u32", "CGSV u32", "KGPV u32", "SGPV u32", "MDPV str", "MDPV u32", "CLPV u32", "MGPV u32", "MGPV u32", "MCPV u32", "CLPV u32", "CLPV u32", "CLPV u32", "CLPV u32", "MGPV u32", "MCPV u32", "MCPV u32", "MMPV u32", "MGPV u32", "MCPV u32", "CLPV u32", "MGPV u32", "MGPV u32", "MRPV u32", "CLPV u32", "MMPV u32", "MRPV u32", "CLPV u32", "MRPV u32", "MRPV u32", "CLPV u32", "MMPV u32", "MGPV u32", "MMPV u32", "MGPV u32", "MRPV u32", "MMPV u32", "MCPV u32", "MCPV u32", "MRPV u32", "MRPV u32", "CLPV u32", "MGPV u32", "MGPV u32", "MaPV u32", "COSV str", "MGPV u32", "MGPV u32", "MGPV u32", "MGPV u32", "MGPV u32", "MGPV u32", "MGPV u32", "MGPV u32", "MGPV u32", "MGPV u64", "MGPV u64", "MRPV u64", "MGPV u32", "MCPV u32", "POSV str", "CLPV u32", "MGPV u64", "MGPV u64", "MDPV u32", "SGPV str", "MCPV u32", "MCPV u32", "MDPV u32", "MGPV u32", "MGPV u64", "MGPV u64", "MGPV u32", "MGPV u64", "MGPV u64", "CGSV u32"];

const ORIGINS: [(u8, &str); 5] =
    [(b'M', "Metric"), (b'S', "Status"), (b'K', "Key"), (b'C', "Config"), (b'P', "Product")];
const NATURES: [(u8, &str); 14] = [
    (b'A', "Age"),
    (b'a', "Average"),
    (b'C', "Counter"),
    (b'D', "Duration"),
    (b'G', "Gauge"),
    (b'L', "Limit"),
    (b'M', "Max"),
    (b'm', "Min"),
    (b'N', "Name"),
    (b'O', "Output"),
    (b'R', "Rate"),
    (b'T', "Time"),
    (b'P', "Part"),
    (b'S', "Speed"),
];
const SCOPES: [(u8, &str); 4] = [(b'C', "Cluster"), (b'S', "Service"), (b'P', "Process"), (b'T', "Thread")];

fn word(list: &[(u8, &'static str)], letter: u8) -> &'static str {
    list.iter().find(|l| l.0 == letter).map_or("Unknown", |l| l.1)
}

/// What of the statistics is shown.
pub struct Filter<'a> {
    pub proxy: Option<&'a str>,
    pub kinds: i64,
    pub sid: i64,
}

impl Filter<'_> {
    pub fn takes(&self, r: &Row) -> bool {
        let by_name = self.proxy.is_none_or(|i| i == r.proxy || i == r.iid.to_string());
        let by_kind = self.kinds < 0 || self.kinds & (1 << r.kind.number()) != 0;
        by_name && by_kind && (self.sid < 0 || self.sid == i64::from(r.sid))
    }
}

/// What a protocol's column is: a count, or how many there are now.
fn module_tag(name: &str) -> &'static str {
    if name.contains("_open_") { "MGPV u64" } else { "MCPV u64" }
}

pub fn stat(table: &[Row], form: Form) -> String {
    let mut rows = Vec::new();
    for r in table {
        let (letter, name) = match r.kind {
            Kind::Frontend => ('F', "Frontend"),
            Kind::Backend => ('B', "Backend"),
            Kind::Server => ('S', "Server"),
            Kind::Listener => ('L', "Listener"),
        };
        let object = match form {
            Form::Typed => format!("{letter}.{}.{}.", r.iid, r.sid),
            Form::Json => format!("\"objType\":\"{name}\",\"proxyId\":{},\"id\":{},", r.iid, r.sid),
        };
        let modules = MODULES.iter().map(|c| (c, module_tag(c)));
        let values = COLUMNS.iter().zip(STAT).chain(modules).enumerate().map(|(i, (c, tag))| (i, *c, tag, r.get(c)));
        rows.push(each(values.filter(|v| !v.3.is_empty()), &object, form));
    }
    match form {
        Form::Typed => rows.concat(),
        Form::Json => format!("[{}]\n", rows.join(",")),
    }
}

pub fn info(s: &Snapshot, live: &Live, form: Form) -> String {
    let all = stats::info(s, live);
    each(all.iter().zip(INFO).enumerate().map(|(i, ((n, v), tag))| (i, *n, *tag, v.as_str())), "", form)
        + if form == Form::Json { "\n" } else { "" }
}

fn each<'a>(values: impl Iterator<Item = (usize, &'a str, &'static str, &'a str)>, object: &str, form: Form) -> String {
    let mut out = String::new();
    for (i, name, tag, value) in values {
        let (letters, kind) = tag.split_once(' ').unwrap_or((tag, "str"));
        let l = letters.as_bytes();
        // Writing to a String cannot fail.
        let _ = match form {
            Form::Typed => writeln!(out, "{object}{i}.{name}.1:{letters}:{kind}:{value}"),
            Form::Json => {
                let value = match kind {
                    "str" => serde_json::Value::from(value).to_string(),
                    _ => value.to_owned(),
                };
                write!(
                    out,
                    "{}{{{object}\"field\":{{\"pos\":{i},\"name\":\"{name}\"}},\"processNum\":1,\"tags\":{{\"origin\":\"{}\",\"nature\":\"{}\",\"scope\":\"{}\"}},\"value\":{{\"type\":\"{kind}\",\"value\":{value}}}}}",
                    if out.is_empty() { "" } else { "," },
                    word(&ORIGINS, l[0]),
                    word(&NATURES, l[1]),
                    word(&SCOPES, l[2]),
                )
            }
        };
    }
    if form == Form::Json { format!("[{out}]") } else { out }
}
