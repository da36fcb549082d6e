//! The binary: maps the outcome to an exit code, nothing else.

fn main() {
    let args: Vec<String> = std::env::args().collect();
    std::process::exit(tandem_proxy::cli::main(&args));
}
