//! Exit codes, all of them. `docs/reference/exit-codes.md` lists the same.

use std::process::ExitCode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Success,
    /// `kgit diff` found changes; `kgit audit verify` and `kgit doctor` found something wrong.
    Found,
    /// The command could not do what it was asked, or the input has errors.
    Error,
    /// Ended by Ctrl-C: 128 + SIGINT.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::Found => 1,
            Exit::Error => 2,
            Exit::Interrupted => 130,
        })
    }
}
