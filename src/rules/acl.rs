//! ACLs and conditions (configuration manual 7.1, 7.2).
use super::pattern::{Matcher, Method, Operator};
use super::sample::{Expr, ExprError, KnownNames, Scope, Traffic};
use crate::base::diag::suggestion;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// ACL keywords that stand for a fetch with a match method.
const ALIASES: &[(&str, &str, &str)] = &[
    ("base", "base", "str"),
    ("base_beg", "base", "beg"),
    ("base_dir", "base", "dir"),
    ("base_dom", "base", "dom"),
    ("base_end", "base", "end"),
    ("base_len", "base", "len"),
    ("base_reg", "base", "reg"),
    ("base_sub", "base", "sub"),
    ("cook", "req.cook", "str"),
    ("cook_beg", "req.cook", "beg"),
    ("cook_dir", "req.cook", "dir"),
    ("cook_dom", "req.cook", "dom"),
    ("cook_end", "req.cook", "end"),
    ("cook_len", "req.cook", "len"),
    ("cook_reg", "req.cook", "reg"),
    ("cook_sub", "req.cook", "sub"),
    ("hdr", "req.hdr", "str"),
    ("hdr_beg", "req.hdr", "beg"),
    ("hdr_dir", "req.hdr", "dir"),
    ("hdr_dom", "req.hdr", "dom"),
    ("hdr_end", "req.hdr", "end"),
    ("hdr_len", "req.hdr", "len"),
    ("hdr_reg", "req.hdr", "reg"),
    ("hdr_sub", "req.hdr", "sub"),
    ("http_auth_group", "http_auth_group", "str"),
    ("method", "method", "str"),
    ("path", "path", "str"),
    ("path_beg", "path", "beg"),
    ("path_dir", "path", "dir"),
    ("path_dom", "path", "dom"),
    ("path_end", "path", "end"),
    ("path_len", "path", "len"),
    ("path_reg", "path", "reg"),
    ("path_sub", "path", "sub"),
    ("payload", "req.payload", "bin"),
    ("payload_lv", "req.payload_lv", "bin"),
    ("req.ssl_ver", "req.ssl_ver", "int"),
    ("req_rdp_cookie", "req.rdp_cookie", "str"),
    ("req_rdp_cookie_cnt", "req.rdp_cookie_cnt", "int"),
    ("req_ssl_sni", "req.ssl_sni", "str"),
    ("req_ssl_ver", "req.ssl_ver", "int"),
    ("req_ver", "req.ver", "str"),
    ("resp_ver", "res.ver", "str"),
    ("scook", "res.cook", "str"),
    ("scook_beg", "res.cook", "beg"),
    ("scook_dir", "res.cook", "dir"),
    ("scook_dom", "res.cook", "dom"),
    ("scook_end", "res.cook", "end"),
    ("scook_len", "res.cook", "len"),
    ("scook_reg", "res.cook", "reg"),
    ("scook_sub", "res.cook", "sub"),
    ("shdr", "res.hdr", "str"),
    ("shdr_beg", "res.hdr", "beg"),
    ("shdr_dir", "res.hdr", "dir"),
    ("shdr_dom", "res.hdr", "dom"),
    ("shdr_end", "res.hdr", "end"),
    ("shdr_len", "res.hdr", "len"),
    ("shdr_reg", "res.hdr", "reg"),
    ("shdr_sub", "res.hdr", "sub"),
    ("ssl_fc_sni_end", "ssl_fc_sni", "end"),
    ("ssl_fc_sni_reg", "ssl_fc_sni", "reg"),
    ("url", "url", "str"),
    ("url_beg", "url", "beg"),
    ("url_dir", "url", "dir"),
    ("url_dom", "url", "dom"),
    ("url_end", "url", "end"),
    ("url_len", "url", "len"),
    ("url_reg", "url", "reg"),
    ("url_sub", "url", "sub"),
    ("urlp", "urlp", "str"),
    ("urlp_beg", "urlp", "beg"),
    ("urlp_dir", "urlp", "dir"),
    ("urlp_dom", "urlp", "dom"),
    ("urlp_end", "urlp", "end"),
    ("urlp_len", "urlp", "len"),
    ("urlp_reg", "urlp", "reg"),
    ("urlp_sub", "urlp", "sub"),
];

/// The ACLs every configuration has: name, expression, values.
const PREDEFINED: &[(&str, &str, &[&str])] = &[
    ("FALSE", "always_false", &[]),
    ("TRUE", "always_true", &[]),
    ("WAIT_END", "wait_end", &[]),
    ("HTTP", "req.proto_http", &[]),
    ("REQ_CONTENT", "req.len", &["gt", "0"]),
    ("RDP_COOKIE", "req.rdp_cookie_cnt", &["gt", "0"]),
    ("LOCALHOST", "src", &["127.0.0.0/8", "::1"]),
    ("HTTP_1.0", "req_ver", &["1.0"]),
    ("HTTP_1.1", "req_ver", &["1.1"]),
    ("HTTP_2.0", "req_ver", &["2.0"]),
    ("HTTP_3.0", "req_ver", &["3.0"]),
    ("HTTP_CONTENT", "hdr_val(content-length)", &["gt", "0"]),
    ("HTTP_URL_ABS", "url_reg", &["^[^/:]*://"]),
    ("HTTP_URL_SLASH", "url_beg", &["/"]),
    ("HTTP_URL_STAR", "url", &["*"]),
    ("METH_CONNECT", "method", &["CONNECT"]),
    ("METH_DELETE", "method", &["DELETE"]),
    ("METH_GET", "method", &["GET", "HEAD"]),
    ("METH_HEAD", "method", &["HEAD"]),
    ("METH_OPTIONS", "method", &["OPTIONS"]),
    ("METH_POST", "method", &["POST"]),
    ("METH_PUT", "method", &["PUT"]),
    ("METH_TRACE", "method", &["TRACE"]),
];

/// True if this ACL keyword's fetch is honoured.
pub fn is_keyword(name: &str) -> bool {
    ALIASES.iter().any(|a| a.0 == name && super::sample::is_fetch(a.1))
}

/// One criterion with its values.
#[derive(Clone, Debug)]
pub struct Term {
    expr: Expr,
    matcher: Matcher,
    empty: bool,
}

/// Reads the lines of a pattern file named with `-f`.
pub type PatternFile<'a> = &'a mut dyn FnMut(&str) -> Result<Vec<String>, String>;

impl Term {
    /// Parses what follows an ACL's name, or stands in `{ }`.
    pub fn parse(words: &[String], known: &KnownNames<'_>, files: PatternFile<'_>) -> Result<Self, ExprError> {
        let Some(first) = words.first() else { return Err(ExprError::Bad("missing criterion".into())) };
        let end = first.find(['(', ',']).unwrap_or(first.len());
        let alias = ALIASES.iter().find(|a| a.0 == &first[..end]);
        let text = alias.map_or_else(|| first.clone(), |a| format!("{}{}", a.1, &first[end..]));
        let (expr, rest) = Expr::parse(&text, known).map_err(|e| match (e, alias) {
            (ExprError::NotYet(_), Some(a)) => ExprError::NotYet(format!("criterion '{}' is not honoured yet", a.0)),
            // A word that is no fetch may be meant for one of the criteria that only ACLs have.
            (ExprError::Unknown(m), _) if !m.contains("did you mean") => {
                ExprError::Unknown(m + &suggestion(&first[..end], ALIASES.iter().map(|a| a.0)))
            }
            (e, _) => e,
        })?;
        if !rest.is_empty() {
            return Err(ExprError::Bad(format!("unexpected '{rest}' after '{}'", expr.text())));
        }
        let mut method = alias.and_then(|a| Method::by_name(a.2));
        let (mut icase, mut op, mut i) = (false, Operator::Eq, 1);
        // Names are not resolved.
        let mut literal = false;
        let mut loaded = Vec::new();
        while let Some(w) = words.get(i) {
            match w.as_str() {
                "-i" => icase = true,
                "-n" => literal = true,
                "--" => {
                    i += 1;
                    break;
                }
                "-m" => {
                    i += 1;
                    let name = words.get(i).ok_or_else(|| ExprError::Bad("'-m' wants a match method".into()))?;
                    method = Some(Method::by_name(name).ok_or_else(|| {
                        ExprError::Bad(format!(
                            "unknown match method '{name}'{}",
                            crate::base::diag::suggestion(name, Method::NAMES.iter().map(|n| n.0))
                        ))
                    })?);
                }
                "-f" => {
                    i += 1;
                    let name = words.get(i).ok_or_else(|| ExprError::Bad("'-f' wants a file name".into()))?;
                    loaded.extend(files(name).map_err(ExprError::Bad)?);
                }
                "-M" | "-u" => return Err(ExprError::NotYet(format!("ACL flag '{w}' is not honoured yet"))),
                w if w.starts_with('-') && w.len() > 1 => {
                    return Err(ExprError::Bad(format!(
                        "'{w}' is no flag of an ACL; there are -i, -f, -m, -M, -n, -u, and '--' in front of a value that begins with a dash"
                    )));
                }
                _ => break,
            }
            i += 1;
        }
        let implicit = match () {
            () if expr.is_bool() => Method::Bool,
            () if expr.is_int() => Method::Int,
            () if expr.is_ip() => Method::Ip,
            () if expr.is_method() => Method::Str,
            () => Method::Str,
        };
        let method = method.unwrap_or(implicit);
        let mut matcher = Matcher::new(method, icase);
        for line in &loaded {
            matcher.add(line, Operator::Eq).map_err(ExprError::Bad)?;
        }
        let values = &words[i..];
        for w in values {
            if matches!(method, Method::Int | Method::Len)
                && let Some(o) = Operator::by_name(w)
            {
                op = o;
                continue;
            }
            let Err(e) = matcher.add(w, op) else { continue };
            let named = method == Method::Ip && !literal && w.bytes().any(|c| c.is_ascii_alphabetic());
            match known.resolve.filter(|_| named).and_then(|find| find(w)) {
                Some(ip) => matcher.add_address(ip),
                None if named => return Err(ExprError::Bad(format!("{e}, nor can it be resolved"))),
                None => return Err(ExprError::Bad(e)),
            }
        }
        let empty = matcher.is_empty()
            && loaded.is_empty()
            && !matches!(method, Method::Bool | Method::Found)
            && !words.iter().any(|w| w == "-f");
        matcher.shrink_to_fit();
        Ok(Self { expr, matcher, empty })
    }

    /// It has no value to match, so that it is never true.
    pub fn is_empty(&self) -> bool {
        self.empty
    }

    /// Regular expressions among its values.
    /// See [`super::pattern::regex_work`].
    pub fn regex_work(&self) -> usize {
        self.matcher.regex_work()
    }

    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    pub fn least(&self) -> Scope {
        self.expr.least()
    }

    fn test(&self, t: &dyn Traffic) -> bool {
        self.expr.any(t, &mut |s| self.matcher.matches(&s))
    }

    /// As [`Term::test`]; `None` where more bytes of the stream may tell.
    fn test_so_far(&self, t: &dyn Traffic) -> Option<bool> {
        match self.test(t) {
            false if self.expr.may_change(t) => None,
            hit => Some(hit),
        }
    }
}

/// A named ACL: true if any of its terms is.
#[derive(Clone, Debug)]
struct Acl {
    terms: Vec<Arc<Term>>,
}

/// Every ACL visible in a proxy section.
#[derive(Clone, Debug, Default)]
pub struct AclSet {
    acls: Vec<Acl>,
    /// Where each name stands in the list.
    index: HashMap<String, usize>,
    /// Names whose definition was refused: their users are not blamed for it.
    refused: HashSet<String>,
}

impl AclSet {
    /// Remembers a name whose definition was refused, and reported.
    pub fn refuse(&mut self, name: &str) {
        self.refused.insert(name.to_owned());
    }

    pub fn add(&mut self, name: &str, term: Term) {
        let term = Arc::new(term);
        match self.index.get(name) {
            Some(at) => self.acls[*at].terms.push(term),
            None => {
                self.index.insert(name.to_owned(), self.acls.len());
                self.acls.push(Acl { terms: vec![term] });
            }
        }
    }

    fn find(&self, name: &str) -> Option<&Acl> {
        self.index.get(name).map(|at| &self.acls[*at])
    }
}

#[derive(Clone, Debug)]
struct Literal {
    negated: bool,
    terms: Vec<Arc<Term>>,
}

/// `if` / `unless` with an "or" of "and"s.
#[derive(Clone, Debug)]
pub struct Cond {
    unless: bool,
    any: Vec<Vec<Literal>>,
    least: Scope,
}

impl Cond {
    /// Parses `if|unless ...`.
    pub fn parse(
        words: &[String],
        acls: &AclSet,
        known: &KnownNames<'_>,
        files: PatternFile<'_>,
    ) -> Result<Self, ExprError> {
        let unless = match words.first().map(String::as_str) {
            Some("if") => false,
            Some("unless") => true,
            Some(w) => {
                return Err(ExprError::Bad(format!("expects 'if', 'unless' or the end of the line, but got '{w}'")));
            }
            None => return Err(ExprError::Bad("missing condition".into())),
        };
        let (mut any, mut all, mut least) = (Vec::new(), Vec::new(), Scope::Connection);
        let mut negated = false;
        let mut i = 1;
        while i < words.len() {
            let mut w = words[i].as_str();
            i += 1;
            if matches!(w, "or" | "||" | "OR") {
                if all.is_empty() {
                    return Err(ExprError::Bad(format!("'{w}' with nothing before it")));
                }
                any.push(std::mem::take(&mut all));
                continue;
            }
            while let Some(rest) = w.strip_prefix('!') {
                negated = !negated;
                w = rest;
            }
            if w.is_empty() {
                continue;
            }
            let terms = if w == "{" {
                let end = words[i..]
                    .iter()
                    .position(|w| w == "}")
                    .ok_or_else(|| ExprError::Bad("missing '}' of an anonymous ACL".into()))?
                    + i;
                let term = Term::parse(&words[i..end], known, files)?;
                i = end + 1;
                vec![Arc::new(term)]
            } else if acls.refused.contains(w) {
                return Err(ExprError::Reported);
            } else if let Some(a) = acls.find(w) {
                a.terms.clone()
            } else if let Some((_, expr, values)) = PREDEFINED.iter().find(|p| p.0 == w) {
                let words: Vec<String> =
                    std::iter::once(*expr).chain(values.iter().copied()).map(str::to_owned).collect();
                vec![Arc::new(Term::parse(&words, known, files)?)]
            } else {
                let own = acls.index.keys().chain(&acls.refused).map(String::as_str);
                let names = own.chain(PREDEFINED.iter().map(|p| p.0));
                return Err(ExprError::Bad(format!("no such ACL : '{w}'{}", suggestion(w, names))));
            };
            least = terms.iter().fold(least, |l, t| l.max(t.least()));
            all.push(Literal { negated, terms });
            negated = false;
        }
        if all.is_empty() && !any.is_empty() {
            return Err(ExprError::Bad("nothing stands behind the last 'or'".into()));
        }
        if negated {
            return Err(ExprError::Bad("'!' with nothing behind it".into()));
        }
        // Nothing behind 'if' is a condition that never holds, as in HAProxy.
        if !all.is_empty() {
            any.push(all);
        }
        // There may be hundreds of thousands of these.
        any.iter_mut().for_each(Vec::shrink_to_fit);
        any.shrink_to_fit();
        Ok(Self { unless, any, least })
    }

    /// Nothing stands behind 'if'.
    pub fn is_empty(&self) -> bool {
        self.any.is_empty()
    }

    /// Its criteria.
    pub fn terms(&self) -> impl Iterator<Item = &Term> {
        self.any.iter().flatten().flat_map(|l| &l.terms).map(|t| &**t)
    }

    /// The earliest moment at which the condition can be evaluated.
    pub fn least(&self) -> Scope {
        self.least
    }

    pub fn holds(&self, t: &dyn Traffic) -> bool {
        let hit = self.any.iter().any(|all| all.iter().all(|l| l.terms.iter().any(|term| term.test(t)) != l.negated));
        hit != self.unless
    }
}

impl Cond {
    /// As [`Cond::holds`], over a stream that is still coming in: `None` where more bytes may tell (manual, `tcp-request content`).
    pub fn holds_so_far(&self, t: &dyn Traffic) -> Option<bool> {
        // Of alternatives the best counts, of things that must hold together the worst: no, not known, yes.
        let rank = |r: Option<bool>| match r {
            Some(false) => 0,
            None => 1,
            Some(true) => 2,
        };
        let literal = |l: &Literal| {
            let hit = l.terms.iter().map(|term| term.test_so_far(t)).max_by_key(|r| rank(*r)).unwrap_or(Some(false));
            hit.map(|h| h != l.negated)
        };
        let all = |list: &Vec<Literal>| list.iter().map(literal).min_by_key(|r| rank(*r)).unwrap_or(Some(false));
        let hit = self.any.iter().map(all).max_by_key(|r| rank(*r)).unwrap_or(Some(false));
        hit.map(|h| h != self.unless)
    }

    /// True if it looks into the bytes of the stream.
    pub fn wants_payload(&self) -> bool {
        self.terms().any(|t| t.expr().wants_payload() || t.expr().wants_request())
    }
}

/// A missing condition is a true one.
pub fn holds(cond: Option<&Cond>, t: &dyn Traffic) -> bool {
    cond.is_none_or(|c| c.holds(t))
}
