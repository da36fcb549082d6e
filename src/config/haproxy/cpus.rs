//! `cpu-map`: which threads run on which CPUs.
use super::Cx;

/// Threads that can be named; a machine's word has so many bits.
const THREADS: usize = 64;
/// CPUs that can be named.
const CPUS: usize = 1024;

/// `cpu-map [auto:]<thread-group>[/<thread-set>] <cpu-set>...`. All threads are one group here, the first: what is said of others is passed over.
pub fn cpu_map(cx: &mut Cx<'_>, map: &mut Vec<Vec<u16>>, w: &[String]) {
    let (Some(first), true) = (w.get(1), w.len() > 2) else {
        return cx.error(
            "'cpu-map' expects a thread group ('all', 'odd', 'even', a number from 1 to 64 or a range), and CPUs from 0 to 1023"
                .to_owned(),
        );
    };
    let (auto, sets) = first.strip_prefix("auto:").map_or((false, first.as_str()), |s| (true, s));
    let (group, threads) = sets.split_once('/').unwrap_or((sets, "all"));
    let (group, threads) = match (numbers(group), numbers(threads)) {
        (Ok(g), Ok(t)) => (g, t),
        (Err(e), _) | (_, Err(e)) => return cx.error(format!("'cpu-map' : {e}")),
    };
    let mut cpus = Vec::new();
    for range in w[2..].iter().flat_map(|a| a.split(',')).filter(|r| !r.is_empty()) {
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let high = if high.is_empty() { "63" } else { high };
        let (Ok(low), Ok(high)) = (low.parse::<usize>(), high.parse::<usize>()) else {
            return cx.error(format!("'cpu-map' : '{range}' is not a CPU range"));
        };
        if low.max(high) >= CPUS {
            return cx.error(format!("'cpu-map' : CPUs have numbers from 0 to {}", CPUS - 1));
        }
        cpus.extend((low.min(high)..=low.max(high)).filter_map(|n| u16::try_from(n).ok()));
    }
    cpus.sort_unstable();
    cpus.dedup();
    // Of a set of threads those that are left over run anywhere, as in HAProxy.
    let by_thread = sets.contains('/');
    if auto && !by_thread && group.len() != cpus.len() {
        return cx.error("'cpu-map' : with 'auto:' there have to be as many CPUs as groups or threads".to_owned());
    }
    let Some(first) = group.iter().position(|g| *g == 1) else { return };
    map.resize(THREADS, Vec::new());
    for (i, t) in threads.iter().enumerate() {
        map[t - 1] = match (auto, by_thread) {
            (true, true) => cpus.get(i).map(|c| vec![*c]).unwrap_or_default(),
            (true, false) => vec![cpus[first]],
            (false, _) => cpus.clone(),
        };
    }
}

/// `all`, `odd`, `even`, a number from 1 to 64 or a range, in order.
fn numbers(text: &str) -> Result<Vec<usize>, String> {
    let all = 1..=THREADS;
    let bad = || format!("'{text}' is not a valid number or range; numbers are from 1 to {THREADS}");
    let (low, high) = match text {
        "all" => return Ok(all.collect()),
        "odd" => return Ok(all.step_by(2).collect()),
        "even" => return Ok(all.skip(1).step_by(2).collect()),
        t => t.split_once('-').unwrap_or((t, t)),
    };
    let low: usize = low.parse().map_err(|_| bad())?;
    let high: usize = if high.is_empty() { THREADS } else { high.parse().map_err(|_| bad())? };
    if !all.contains(&low) || !all.contains(&high) {
        return Err(bad());
    }
    Ok((low.min(high)..=low.max(high)).collect())
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn sets_of_threads() {
        assert_eq!(numbers("3"), Ok(vec![3]));
        assert_eq!(numbers("2-4"), Ok(vec![2, 3, 4]));
        assert_eq!(numbers("63-"), Ok(vec![63, 64]));
        assert_eq!(
            (numbers("odd").unwrap()[1], numbers("even").unwrap()[1], numbers("all").unwrap().len()),
            (3, 4, 64)
        );
        for bad in ["0", "65", "1-2-3", "x", "", "-3"] {
            assert!(numbers(bad).is_err(), "{bad}");
        }
    }
}
