//! A command that has run: its exit code and what it wrote.

use std::fmt;
use std::process::Command;

#[derive(Clone, Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Runs it to its end.
    pub fn of(command: &mut Command) -> Self {
        let output =
            command.output().unwrap_or_else(|error| panic!("failed to start {command:?}: {error}"));
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit {}\n{}{}", self.code, self.out, self.err)
    }
}
