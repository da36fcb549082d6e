//! Level 8: the command line. The program's name, or the first word, decides whose grammar is spoken.
pub mod convert;
pub mod coverage;
pub mod demo;
mod haproxy;
mod help;
mod keepalived;
mod status;

use crate::process::{loader, start, worker};

/// Runs the program; the value is its exit code.
pub fn main(args: &[String]) -> i32 {
    match args.get(1).map(String::as_str) {
        Some("--tandem-worker") => return worker::main(false),
        Some("--tandem-worker=background") => return worker::main(true),
        Some("--tandem-keepalived") => {
            return start::keepalived_stub(args.get(2).map(String::as_str), args.get(3).map(String::as_str));
        }
        Some("--tandem-loader") => return args.get(2).map_or(2, |json| loader::main(json)),
        _ => {}
    }
    let name = args.first().map_or("tandem", |a| a.rsplit('/').next().unwrap_or(a));
    let rest = args.get(1..).unwrap_or_default();
    match (name, rest.first().map(String::as_str)) {
        ("keepalived", _) => keepalived::run(rest),
        ("haproxy", _) => haproxy::run(rest, true),
        (_, Some("check" | "convert" | "explain" | "status" | "demo"))
            if matches!(rest.get(1).map(String::as_str), Some("--help" | "-h")) =>
        {
            print!("{}", help::TANDEM);
            0
        }
        (_, Some("check")) => haproxy::check(&rest[1..]),
        (_, Some("convert")) => convert::run(&rest[1..]),
        (_, Some("status")) => status::run(&rest[1..]),
        (_, Some("explain")) => haproxy::explain(&rest[1..]),
        (_, Some("demo")) => demo::run(&rest[1..]),
        (_, Some("help" | "--help" | "-h")) => {
            print!("{}", help::TANDEM);
            0
        }
        (_, None) => {
            eprint!("{}", help::TANDEM);
            1
        }
        // A word that is no file and no option was meant as a command.
        (_, Some(w)) if !w.starts_with('-') && !std::path::Path::new(w).exists() => {
            eprintln!(
                "tandem: unknown command '{w}'{}",
                crate::base::diag::suggestion(w, ["check", "convert", "explain", "status", "demo", "help"])
            );
            eprint!("{}", help::TANDEM);
            1
        }
        _ => haproxy::run(rest, false),
    }
}
