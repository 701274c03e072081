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
    /// `kgit exec`: the code that the command ended with.
    Command(u8),
}

impl Exit {
    /// Those that are kgit's own.
    pub const ALL: [Self; 4] = [Self::Success, Self::Found, Self::Error, Self::Interrupted];

    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Found => 1,
            Self::Error => 2,
            Self::Interrupted => 130,
            Self::Command(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_lists_these_codes_and_no_others() {
        let reference = include_str!("../../docs/reference/exit-codes.md");
        let rows = reference.lines().filter_map(|line| line.strip_prefix('|')?.split_once('|'));
        let listed: Vec<u8> = rows.filter_map(|(code, _)| code.trim().parse().ok()).collect();
        assert_eq!(listed, Exit::ALL.map(Exit::code));
    }
}
