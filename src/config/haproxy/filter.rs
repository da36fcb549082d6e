//! `compression` and `filter` lines (configuration manual 9 and 10).
use super::Cx;
use crate::base::code::Code;
use crate::base::diag::suggestion;
use crate::base::units::{TimeUnit, parse_size};
use crate::config::model::{Bandwidth, Filter, Kind, Proxy};
use crate::http::coding::Coding;
use crate::rules::action::{HttpAction, TcpAction};
use std::sync::Arc;

/// `compression algo|algo-req|algo-res|type|type-req|type-res|direction|offload|minsize-req|minsize-res ...`
pub fn compression(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    const WORDS: &[&str] = &[
        "algo",
        "algo-req",
        "algo-res",
        "type",
        "type-req",
        "type-res",
        "direction",
        "offload",
        "minsize-req",
        "minsize-res",
    ];
    let c = p.compression.get_or_insert_default();
    let Some(word) = cx.arg(w, 1, "'algo', 'type', 'direction', 'offload', 'minsize-req' or 'minsize-res'") else {
        return;
    };
    match word {
        "algo" | "algo-res" | "algo-req" => {
            if cx.arg(w, 2, "an algorithm").is_none() {
                return;
            }
            let most = if word == "algo-req" { 1 } else { usize::MAX };
            for name in w[2..].iter().take(most) {
                match Coding::NAMES.iter().find(|n| n.0 == name) {
                    Some((_, coding)) if word == "algo-req" => c.algo_request = Some(*coding),
                    // The last one is tried first.
                    Some((_, coding)) => c.algos.insert(0, *coding),
                    None => {
                        let near = suggestion(name, Coding::NAMES.iter().map(|n| n.0));
                        let text = format!("'compression' : '{name}' is not a supported algorithm{near}");
                        return cx.error_of(Code::UnknownWord, text);
                    }
                }
            }
        }
        "type" | "type-res" | "type-req" => {
            if cx.arg(w, 2, "a content type").is_some() {
                let types = if word == "type-req" { &mut c.types_request } else { &mut c.types };
                types.extend_from_slice(&w[2..]);
            }
        }
        "offload" => c.offload = true,
        "direction" => match cx.arg(w, 2, "'request', 'response' or 'both'") {
            Some("request") => (c.requests, c.responses) = (true, false),
            Some("response") => (c.requests, c.responses) = (false, true),
            Some("both") => (c.requests, c.responses) = (true, true),
            Some(o) => cx.error(format!("'compression direction' expects 'request', 'response' or 'both', not '{o}'")),
            None => {}
        },
        "minsize-req" | "minsize-res" => {
            let Some(text) = cx.arg(w, 2, "a size") else { return };
            match parse_size(text) {
                Ok(n) if word == "minsize-req" => c.min_request = n,
                Ok(n) => c.min = n,
                Err(e) => cx.error(format!("'compression {word}' : {e}")),
            }
        }
        o => {
            let near = suggestion(o, WORDS.iter().copied());
            cx.error_of(Code::UnknownWord, format!("'compression' does not know '{o}'{near}"));
        }
    }
}

/// Filters that are honoured.
pub const FILTERS: &[&str] = &["bwlim-in", "bwlim-out", "cache", "comp-req", "comp-res", "compression"];

/// `filter <name> ...`
pub fn filter(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let Some(name) = cx.arg(w, 1, "the name of a filter") else { return };
    match name {
        "compression" | "comp-req" | "comp-res" => {
            cx.at_most(&w[1..], 1);
            let (requests, responses) = (name != "comp-res", name != "comp-req");
            let there =
                |f: &Filter| requests && *f == Filter::CompressRequests || responses && *f == Filter::CompressResponses;
            if p.filters.iter().any(there) {
                return cx.error_of(Code::Duplicate, format!("'filter {name}' : it is there already"));
            }
            if requests {
                p.filters.push(Filter::CompressRequests);
            }
            if responses {
                p.filters.push(Filter::CompressResponses);
            }
            if name != "compression" {
                let c = p.compression.get_or_insert_with(|| {
                    Box::new(crate::config::model::Compression { responses: false, ..Default::default() })
                });
                c.requests |= requests;
                c.responses |= responses;
            }
        }
        // It says where among the others it stands; what is kept and given is up to the rules.
        "cache" => {
            let Some(cache) = cx.arg(w, 2, "the name of a section 'cache'") else { return };
            cx.at_most(&w[1..], 2);
            if p.filters.iter().any(|f| matches!(f, Filter::CompressRequests | Filter::CompressResponses)) {
                return cx.error_of(Code::Misplaced, "'filter cache' : it has to stand before the compression filter");
            }
            cx.asked_caches.push((cache.to_owned(), cx.place.clone()));
            p.filters.push(Filter::Cache(cache.to_owned()));
        }
        "bwlim-in" | "bwlim-out" => bandwidth(cx, p, w),
        "trace" => trace(cx, w),
        o if super::keywords::is(super::keywords::Class::Filter, o) => cx.not_yet(&format!("'filter {o}'")),
        o => cx.error_of(
            Code::UnknownWord,
            format!("'filter' : unknown filter '{o}'{}", suggestion(o, FILTERS.iter().copied())),
        ),
    }
}

/// `filter trace`, a tool of those who write filters: with `quiet` it says nothing, and that is all that is known of it here.
fn trace(cx: &mut Cx<'_>, w: &[String]) {
    let (mut name, mut quiet, mut i) = (false, false, 2);
    while let Some(word) = w.get(i) {
        match word.as_str() {
            "name" if name => return cx.error("'filter' : 'trace' : 'name' already defined"),
            "name" => {
                if w.get(i + 1).is_none() {
                    return cx.error_of(Code::Missing, "'filter' : 'trace' : 'name' option without value");
                }
                (name, i) = (true, i + 1);
            }
            "max-fwd" => {
                if w.get(i + 1).is_none_or(|n| n.parse::<u32>().is_err()) {
                    let text = "'filter' : 'trace' : 'max-fwd' expect unsigned integer (0 to 4294967295 expected)";
                    return cx.error_of(Code::Number, text);
                }
                i += 1;
            }
            "quiet" => quiet = true,
            "random-parsing" | "random-forwarding" | "hexdump" => {}
            o => return cx.error_of(Code::UnknownWord, format!("'filter trace' : unknown keyword '{o}'.")),
        }
        i += 1;
    }
    if quiet {
        return cx.no_effect("filter trace", "there is nothing to be traced, and what passes is cut as it comes");
    }
    cx.not_yet("'filter trace'");
}

/// Longer ones are no limits any more.
const MAX_PERIOD: std::time::Duration = std::time::Duration::from_secs(86_400);

/// `filter bwlim-in|bwlim-out <name> default-limit <size> default-period <time> [min-size <size>]`
fn bandwidth(cx: &mut Cx<'_>, p: &mut Proxy, w: &[String]) {
    let what = format!("filter {}", w[1]);
    let Some(name) = cx.arg(w, 2, "a name") else { return };
    if p.bandwidth(name).is_some() {
        return cx.error_of(Code::Duplicate, format!("'{what}' : there is a filter called '{name}' already"));
    }
    let mut b = Bandwidth {
        name: name.to_owned(),
        out: w[1] == "bwlim-out",
        limit: 0,
        period: std::time::Duration::ZERO,
        min_size: 0,
    };
    let mut i = 3;
    while let Some(word) = w.get(i) {
        match word.as_str() {
            "default-limit" | "min-size" => {
                let Some(text) = cx.arg(w, i + 1, "a size") else { return };
                match parse_size(text) {
                    Ok(n) if word == "min-size" => b.min_size = n,
                    Ok(n) => b.limit = n,
                    Err(e) => return cx.error(format!("'{what}' : {e}")),
                }
            }
            "default-period" => match cx.time(w, i + 1, TimeUnit::Millis) {
                Some(d) if d > MAX_PERIOD => {
                    return cx.error_of(Code::Time, format!("'{what}' : the period is longer than a day"));
                }
                Some(d) => b.period = d,
                None => return,
            },
            "limit" | "key" | "table" => return cx.not_yet(&format!("a limit shared by a table, in '{what}'")),
            o => {
                let near = suggestion(o, ["default-limit", "default-period", "min-size", "limit", "key", "table"]);
                return cx.error_of(Code::UnknownWord, format!("'{what}' : unknown keyword '{o}'{near}"));
            }
        }
        i += 2;
    }
    if b.limit == 0 || b.period.is_zero() {
        return cx
            .error_of(Code::Missing, format!("'{what}' expects 'default-limit' and 'default-period', larger than 0"));
    }
    p.filters.push(Filter::Bandwidth(Arc::new(b)));
}

/// At the end of a section: `compression` without a filter line brings its filters along, if nothing else could stand before or behind them.
pub fn finish(cx: &mut Cx<'_>, p: &mut Proxy) {
    let http = p.http_request.iter().chain(&p.http_response).map(|r| (&r.place, &r.action));
    let tcp = p.tcp_content.iter().chain(&p.tcp_response).filter_map(|r| match &r.action {
        TcpAction::Effect(a) => Some((&r.place, &**a)),
        _ => None,
    });
    for (place, action) in http.chain(tcp) {
        if let HttpAction::SetBandwidth { filter, .. } = action
            && p.bandwidth(filter).is_none()
        {
            let text = format!("unable to find bwlim filter '{filter}' referenced by set-bandwidth-limit rule");
            cx.report.error(Code::UnknownTarget, place, text);
        }
    }
    let compresses = |f: &Filter| matches!(f, Filter::CompressRequests | Filter::CompressResponses);
    if p.compression.is_none() || p.kind == Kind::Defaults || p.filters.iter().any(compresses) {
        return;
    }
    if p.filters.iter().all(|f| matches!(f, Filter::Cache(_))) {
        p.filters.extend([Filter::CompressRequests, Filter::CompressResponses]);
    } else {
        let text = format!(
            "{} '{}' has other filters, so that the place of compression among them has to be said: add 'filter comp-res' or 'filter comp-req'",
            p.kind.name(),
            p.name
        );
        cx.report.error(Code::Missing, &p.place, text);
    }
}
