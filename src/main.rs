//! The `kgit` binary: reads the command line, and turns the outcome into an exit code.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use kgit::cli::exit::Exit;
use kgit::cli::{Cli, run};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = ["warn", "info", "debug"].get(usize::from(cli.verbose)).unwrap_or(&"trace");
    let filter = EnvFilter::try_from_env("KGIT_LOG").unwrap_or_else(|_| EnvFilter::new(*level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A log file is read by people and programs that know no colours.
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: failed to start the runtime: {error}");
            return Exit::Error.into();
        }
    };
    match runtime.block_on(run(cli)) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("{}", error.report());
            Exit::Error.into()
        }
    }
}
