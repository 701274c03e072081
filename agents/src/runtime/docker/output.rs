//! What containers say: commands run in them, and their logs.

use std::time::Duration;

use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::query_parameters::LogsOptionsBuilder;
use bytes::Bytes;
use futures_util::StreamExt as _;
use kgit_protocol::stream::LogRequest;

use crate::runtime::docker::Docker;
use crate::runtime::docker::errors::{Asked, understood};
use crate::runtime::{ExecResult, LogStream, Outcome, RuntimeError};

/// As much of a command's output as goes into a message to people.
const OUTPUT_LIMIT: usize = 2048;
/// What a shell reports for a command that ran into its time limit.
const TIMED_OUT: i64 = 124;

impl Docker {
    pub(super) async fn run_command(
        &self,
        id: &str,
        command: &[String],
        timeout: Duration,
    ) -> Outcome<ExecResult> {
        let client = self.client().await?;
        let failed = |error| self.failed(Asked::Container, id, error);
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.to_vec()),
            ..Default::default()
        };
        let exec = client.create_exec(id, options).await.map_err(failed)?.id;
        let started = client.start_exec(&exec, None).await.map_err(failed)?;
        let StartExecResults::Attached { mut output, .. } = started else {
            return Err(RuntimeError::Refused("the engine did not attach".to_owned()));
        };
        let mut said = Vec::new();
        let listen = async {
            while let Some(Ok(chunk)) = output.next().await {
                let room = OUTPUT_LIMIT.saturating_sub(said.len());
                said.extend(chunk.into_bytes().iter().take(room));
            }
        };
        let in_time = tokio::time::timeout(timeout, listen).await.is_ok();
        let output = String::from_utf8_lossy(&said).trim_end().to_owned();
        if !in_time {
            let output = format!("command timed out after {} s; {output}", timeout.as_secs());
            return Ok(ExecResult { code: TIMED_OUT, output });
        }
        let shown = client.inspect_exec(&exec).await.map_err(failed)?;
        Ok(ExecResult { code: shown.exit_code.unwrap_or(-1), output })
    }

    pub(super) async fn read_logs(&self, id: &str, request: &LogRequest) -> Outcome<LogStream> {
        let client = self.client().await?;
        let tail = request.tail_lines.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let since = request.since.map_or(0, |at| i32::try_from(at.0 / 1000).unwrap_or(0));
        let options = LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .follow(request.follow)
            .timestamps(request.timestamps)
            .since(since)
            .tail(&tail)
            .build();
        let name = id.to_owned();
        let lines = client.logs(id, Some(options)).map(move |line| {
            line.map(bollard::container::LogOutput::into_bytes)
                .map_err(|error| understood(Asked::Container, &name, error))
        });
        Ok(limited(lines.boxed(), request.limit_bytes))
    }
}

/// At most `limit` bytes of `lines`.
fn limited(lines: LogStream, limit: Option<u64>) -> LogStream {
    let Some(limit) = limit else { return lines };
    let mut left = usize::try_from(limit).unwrap_or(usize::MAX);
    lines
        .take_while(move |line| {
            let go_on = left > 0;
            left = left.saturating_sub(line.as_ref().map_or(0, Bytes::len));
            std::future::ready(go_on)
        })
        .boxed()
}
