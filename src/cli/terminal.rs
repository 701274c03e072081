//! The terminal that kgit runs in: its size, and its raw mode.

use std::io::IsTerminal as _;

use kgit_protocol::stream::TerminalSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::error::CliError;

/// Whether somebody types.
pub fn is_there() -> bool {
    std::io::stdin().is_terminal()
}

/// Raw until it is dropped: every key goes where the bytes go, Ctrl-C included.
#[derive(Debug)]
pub struct Raw {
    before: Termios,
}

impl Raw {
    pub fn enter() -> Result<Self, CliError> {
        let failed = |error: rustix::io::Errno| CliError::io("set up the terminal")(error.into());
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// The terminal's sizes: the first at once, then each one that it is changed to.
#[derive(Debug)]
pub struct Sizes {
    changed: Signal,
    told: bool,
}

impl Sizes {
    pub fn follow() -> Result<Self, CliError> {
        let changed =
            signal(SignalKind::window_change()).map_err(CliError::io("follow the terminal"))?;
        Ok(Self { changed, told: false })
    }

    pub async fn next(&mut self) -> TerminalSize {
        loop {
            if std::mem::replace(&mut self.told, true) && self.changed.recv().await.is_none() {
                // No signals any more: the size stays.
                std::future::pending::<()>().await;
            }
            if let Ok(size) = tcgetwinsize(std::io::stdout())
                && size.ws_col > 0
            {
                return TerminalSize { width: size.ws_col, height: size.ws_row };
            }
        }
    }
}
