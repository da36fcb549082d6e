//! Both languages, and the guardian's decoders of packets, against inputs that nobody wrote: mutations of good and broken ones. No input may panic, overflow the stack, or take long; what
//! loads is converted, and must load again to the same model.
//!
//! `TANDEM_FUZZ=<seconds>` says how long each target runs (3 by default), `TANDEM_FUZZ_SEED=<n>` begins elsewhere; `cargo test --test fuzz -- FILE` tries
//! one file with all targets. The input that was being tried is kept in the file that is named at the start, so that it survives an abort.
#![allow(clippy::unwrap_used)]

mod packets;

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::{Duration, Instant};
use tandem_proxy::base::diag::Severity;
use tandem_proxy::cli::convert;
use tandem_proxy::config::haproxy::keywords::ROWS;
use tandem_proxy::config::keepalived::known;
use tandem_proxy::config::load::load;
use tandem_proxy::config::source::{LoadArgs, Recorded};

/// No input of this size takes so long, on a busy machine and without optimisation.
const SLOW: Duration = Duration::from_secs(5);
/// Inputs grow no larger.
const LARGEST: usize = 64 << 10;

/// Numbers that look random, and are the same for a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(sides.max(1)).unwrap()).unwrap()
    }
    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len())]
    }
}

struct Target {
    name: &'static str,
    seeds: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
    /// Octets count, not words and lines.
    binary: bool,
    run: fn(&[u8]),
}

fn haproxy(data: &[u8]) {
    let mut src = Recorded::default();
    src.files.insert("/h".into(), Ok(data.to_vec()));
    src.env.insert("HOME".into(), "/root".into());
    let args = LoadArgs { haproxy: vec!["/h".into()], localpeer: "lb1".into(), ..LoadArgs::default() };
    finish(&mut src, &args, data);
}

fn keepalived(data: &[u8]) {
    let mut src = Recorded::default();
    src.files.insert("/d/k".into(), Ok(data.to_vec()));
    src.files.insert("/d/inc.conf".into(), Ok(b"vrrp_script i {\n script \"/bin/true\"\n}\n".to_vec()));
    src.dirs.insert("/d".into(), Some(vec!["inc.conf".into(), "k".into()]));
    let args = LoadArgs { keepalived: Some("/d/k".into()), localpeer: "lb1".into(), ..LoadArgs::default() };
    finish(&mut src, &args, data);
}

/// Loads, shows every finding as people see it, and converts what is good.
fn finish(src: &mut Recorded, args: &LoadArgs, data: &[u8]) {
    let (model, mut report) = load(src, args);
    let text = String::from_utf8_lossy(data).into_owned();
    report.attach(|_, line| text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?).map(str::to_owned));
    let shown = report.render_for_people(1, Severity::Notice);
    assert!(report.diags.is_empty() || !shown.is_empty());
    for d in &report.diags {
        assert!(!d.message.is_empty());
        assert!(d.place.as_ref().is_none_or(|p| p.line < u32::MAX));
    }
    if !report.has_fatal() {
        match convert::one_file(src, args, &model.vrrp) {
            Err(e) if e == convert::VIRTUAL_SERVERS => {}
            Ok(_) => {}
            // What HAProxy's grammar cannot carry is said.
            Err(e) => assert!(!e.contains("defect"), "{e}"),
        }
    }
}

fn files_in(dir: &str, out: &mut Vec<Vec<u8>>) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    for e in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        out.extend(std::fs::read(e.path()));
    }
}

/// The files of the differential test: a template with each of its arguments in turn.
fn cases(list: &str, out: &mut Vec<Vec<u8>>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential").join(list);
    let (mut template, mut arguments) = (String::new(), Vec::new());
    let mut flush = |template: &mut String, arguments: &mut Vec<String>| {
        out.extend(arguments.drain(..).map(|a| template.replace("{}", &a).into_bytes()));
        template.clear();
    };
    for line in std::fs::read_to_string(path).unwrap().lines() {
        match line.as_bytes().first() {
            Some(b'=') => flush(&mut template, &mut arguments),
            Some(b'|') => template.push_str(&format!("{}\n", line.get(2..).unwrap_or_default())),
            Some(b'+' | b'-') => arguments.push(line.get(2..).unwrap_or_default().to_owned()),
            _ => {}
        }
    }
    flush(&mut template, &mut arguments);
}

const SIGNS: &[&str] = &[
    " ",
    "\n",
    "\t",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "\"",
    "'",
    "\\",
    "#",
    "!",
    "$",
    "${",
    "$(",
    "%[",
    "%",
    ",",
    ":",
    ";",
    "@",
    "~SEQ(A,1,9)",
    "~LST(A,b,c)",
    "-1",
    "0",
    "255",
    "256",
    "65536",
    "99999999999999999999",
    "-9223372036854775808",
    "1.5",
    "10.0.0.1",
    "::1",
    "/24",
    "*",
    "+",
    "||",
    "&&",
    ".if",
    ".endif",
    "\0",
    "\u{feff}",
    "é",
    "include inc.conf",
    "if",
    "unless",
    "or",
    "no",
    "default",
];

fn targets() -> Vec<Target> {
    let signs = || SIGNS.iter().map(|s| s.as_bytes().to_vec());
    let mut h = Target {
        name: "haproxy",
        seeds: Vec::new(),
        words: ROWS.iter().map(|r| r.name.as_bytes().to_vec()).chain(signs()).collect(),
        binary: false,
        run: haproxy,
    };
    files_in("config", &mut h.seeds);
    cases("haproxy.txt", &mut h.seeds);
    // What was found once.
    files_in("tests/fuzz/found/haproxy", &mut h.seeds);
    let mut k = Target {
        name: "keepalived",
        seeds: Vec::new(),
        words: known::WORDS.iter().map(|w| w.1.as_bytes().to_vec()).chain(signs()).collect(),
        binary: false,
        run: keepalived,
    };
    files_in("config", &mut k.seeds);
    files_in("tests/fuzz/found/keepalived", &mut k.seeds);
    cases("keepalived.txt", &mut k.seeds);
    let p = Target { name: "packets", seeds: packets::seeds(), words: Vec::new(), binary: true, run: packets::run };
    vec![h, k, p]
}

/// One input: a seed with a few mutations.
fn mutate(t: &Target, d: &mut Dice) -> Vec<u8> {
    if t.binary {
        return packets::mutate(&t.seeds, d);
    }
    let mut data = d.pick(&t.seeds).clone();
    for _ in 0..=d.roll(6) {
        if data.is_empty() {
            data.push(b'\n');
        }
        let at = d.roll(data.len() + 1);
        match d.roll(9) {
            0 => drop(data.splice(at..at, d.pick(&t.words).iter().copied())),
            1 => {
                let end = (at + d.roll(20)).min(data.len());
                drop(data.drain(at..end));
            }
            2 => {
                if let Some(b) = data.get_mut(at) {
                    *b ^= u8::try_from(1 << d.roll(8)).unwrap();
                }
            }
            // A line again, once or often.
            3 => {
                let lines: Vec<&[u8]> = data.split_inclusive(|c| *c == b'\n').collect();
                let line = d.pick(&lines).to_vec();
                let times = if d.roll(10) == 0 { 1 + d.roll(300) } else { 1 };
                drop(data.splice(at..at, line.repeat(times)));
            }
            4 => {
                let mut lines: Vec<Vec<u8>> = data.split_inclusive(|c| *c == b'\n').map(<[u8]>::to_vec).collect();
                let (a, b) = (d.roll(lines.len()), d.roll(lines.len()));
                if !lines.is_empty() {
                    lines.swap(a, b);
                }
                data = lines.concat();
            }
            5 => {
                let other = d.pick(&t.seeds);
                let from = d.roll(other.len() + 1);
                let end = (from + d.roll(200)).min(other.len());
                drop(data.splice(at..at, other[from..end].iter().copied()));
            }
            6 => data.truncate(at),
            // A word in the place of another.
            7 => {
                let end = data[at..].iter().position(u8::is_ascii_whitespace).map_or(data.len(), |n| at + n);
                drop(data.splice(at..end, d.pick(&t.words).iter().copied()));
            }
            _ => {
                let sign = d.pick(SIGNS).as_bytes();
                let most = if d.roll(20) == 0 { 3000 } else { 4 };
                let times = 1 + d.roll(most);
                drop(data.splice(at..at, sign.repeat(times)));
            }
        }
        data.truncate(LARGEST);
    }
    data
}

/// Runs a target on an input; the error says what is wrong.
fn attempt(t: &Target, data: &[u8]) -> Result<(), String> {
    let begin = Instant::now();
    let end = std::panic::catch_unwind(AssertUnwindSafe(|| (t.run)(data)));
    if end.is_err() {
        return Err("it panicked".to_owned());
    }
    if begin.elapsed() > SLOW { Err(format!("it took {:?}", begin.elapsed())) } else { Ok(()) }
}

fn main() {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let all = targets();
    if std::env::args().any(|a| a == "--list") {
        all.iter().for_each(|t| println!("{}: test", t.name));
        return;
    }
    if let Some(data) = args.first().and_then(|f| std::fs::read(f).ok()) {
        for t in &all {
            println!("{}: {:?}", t.name, attempt(t, &data));
        }
        return;
    }
    let (limit, seed) = (Duration::from_secs(number("TANDEM_FUZZ", 3)), number("TANDEM_FUZZ_SEED", 1));
    let mut failed = 0;
    for t in all.iter().filter(|t| args.is_empty() || args.iter().any(|a| t.name.contains(a.as_str()))) {
        let kept = std::env::temp_dir().join(format!("tandem-fuzz-{}-{}", t.name, std::process::id()));
        println!(
            "fuzz {}: {} seeds, {limit:?} from seed {seed}; the input is kept in {}",
            t.name,
            t.seeds.len(),
            kept.display()
        );
        for s in &t.seeds {
            attempt(t, s).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(s)));
        }
        let mut d = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let (begin, mut n) = (Instant::now(), 0u64);
        let mut wrong = None;
        while begin.elapsed() < limit && wrong.is_none() {
            let data = mutate(t, &mut d);
            std::fs::write(&kept, &data).unwrap();
            wrong = attempt(t, &data).err();
            n += 1;
        }
        match wrong {
            None => {
                let _ = std::fs::remove_file(&kept);
                println!("fuzz {} ... ok ({n} inputs)", t.name);
            }
            Some(e) => {
                println!("fuzz {} ... FAILED after {n} inputs: {e}; see {}", t.name, kept.display());
                failed += 1;
            }
        }
    }
    println!("\ntest result: {}. {failed} failed\n", if failed == 0 { "ok" } else { "FAILED" });
    if failed > 0 {
        std::process::exit(101);
    }
}
