//! `tandem demo`: a pair of nodes, three servers and a client in namespaces, live; `--script` runs the events and prints a table.
pub mod lab;
pub mod probe;
mod screen;
pub mod stage;

use stage::{Event, Stage};
use std::time::Duration;

pub fn run(args: &[String]) -> i32 {
    let script = args.iter().any(|a| a == "--script");
    if let Some(bad) = args.iter().find(|a| *a != "--script") {
        eprintln!("tandem demo: unknown option '{bad}'; the one there is: --script");
        return 1;
    }
    if let Err(e) = lab::become_root() {
        eprintln!("tandem demo: {e}");
        return 1;
    }
    stage::end_on_signals();
    let binary =
        std::env::current_exe().map_or_else(|_| "/proc/self/exe".to_owned(), |p| p.to_string_lossy().into_owned());
    let mut stage = match Stage::new(&binary, &stage::Dialect::FAST) {
        Ok(s) => s,
        Err(e) => {
            eprintln!("tandem demo: {e}");
            return 1;
        }
    };
    if !stage.settle(Duration::from_secs(10)) {
        eprintln!("tandem demo: the pair did not begin to serve within 10 s; the nodes say:\n{}", stage.logs());
        return 1;
    }
    if script { scripted(&mut stage) } else { screen::run(stage) }
}

/// The events in turn; one line each.
fn scripted(stage: &mut Stage) -> i32 {
    println!("{:<34} {:>10} {:>10} {:>8} {:>12}  verdict", "event", "outage ms", "limit ms", "failed", "failed new");
    let mut code = 0;
    for e in Event::ALL {
        let limit = stage.limit(*e);
        match stage.play(*e) {
            Ok(c) => {
                let good = c.outage <= limit.outage
                    && (!limit.no_new_failures || c.failed_new == 0)
                    && (!limit.none_fails || c.failed == 0);
                println!(
                    "{:<34} {:>10.1} {:>10} {:>8} {:>12}  {}",
                    e.name(),
                    c.outage.as_secs_f64() * 1000.0,
                    limit.outage.as_millis(),
                    c.failed,
                    c.failed_new,
                    if good { "ok" } else { "OVER THE LIMIT" }
                );
                if !good {
                    code = 1;
                }
            }
            Err(why) => {
                println!("{:<34} {why}", e.name());
                code = 1;
            }
        }
        if stage::ended() {
            return 130;
        }
    }
    if code != 0 {
        eprintln!("{}", stage.logs());
    }
    code
}
