//! What all commands share: how to reach the master, and in what form to answer.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::Serialize;

use crate::cli::error::CliError;
use crate::client::kubeconfig::Kubeconfig;
use crate::daemon::config;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    #[default]
    Text,
    Wide,
    Json,
    Yaml,
    Name,
}

#[derive(Debug)]
pub struct Context {
    kubeconfig: Option<PathBuf>,
    pub output: Output,
}

impl Context {
    pub fn new(kubeconfig: Option<PathBuf>, output: Output) -> Self {
        Self { kubeconfig, output }
    }

    /// Where the master is: `--kubeconfig`, `$KUBECONFIG`, or the default data directory's.
    pub fn kubeconfig(&self) -> Result<Kubeconfig, CliError> {
        let named = self.kubeconfig.clone();
        let path = named
            .or_else(|| std::env::var_os("KUBECONFIG").filter(|v| !v.is_empty()).map(PathBuf::from))
            .unwrap_or_else(|| config::kubeconfig(&config::default_data()));
        Ok(Kubeconfig::read(&path)?)
    }

    /// Prints a value for programs.
    pub fn print_json(&self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| CliError::io("write JSON")(error.into()))?;
        println!("{text}");
        Ok(())
    }
}
