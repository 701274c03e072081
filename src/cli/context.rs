//! What all commands share: how to reach the master, and in what form to answer.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;

use crate::cli::error::CliError;
use crate::client::http::Client;
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
        self.kubeconfig_in(&config::data_directory(None))
    }

    fn kubeconfig_in(&self, data: &Path) -> Result<Kubeconfig, CliError> {
        let named = self.kubeconfig.clone();
        let path = named
            .or_else(|| std::env::var_os("KUBECONFIG").filter(|v| !v.is_empty()).map(PathBuf::from))
            .unwrap_or_else(|| config::kubeconfig(data));
        Ok(Kubeconfig::read(&path)?)
    }

    /// A client of the master.
    pub fn client(&self) -> Result<Client, CliError> {
        Ok(Client::new(&self.kubeconfig()?)?)
    }

    /// The same, if nothing else is named, of the master whose data directory this is.
    pub fn client_in(&self, data: &Path) -> Result<Client, CliError> {
        Ok(Client::new(&self.kubeconfig_in(data)?)?)
    }

    /// Whether a program reads the output.
    pub fn for_programs(&self) -> bool {
        matches!(self.output, Output::Json | Output::Yaml)
    }

    /// Prints a value for programs.
    pub fn print_json(&self, value: &impl Serialize) -> Result<(), CliError> {
        print_json(value)
    }
}

/// Writes to standard output. A reader that went away (`| head`) is nobody's error.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(CliError::io("write the output")),
    }
}

pub fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| CliError::io("write JSON")(error.into()))?;
    print(&format!("{text}\n"))
}

pub fn print_yaml(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_yaml::to_string(value)
        .map_err(|error| CliError::io("write YAML")(std::io::Error::other(error)))?;
    print(&text)
}
