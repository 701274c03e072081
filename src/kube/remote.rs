//! The words of exec, attach and port-forward: the protocols' names, and how an end is told.

use kgit_protocol::stream::StreamEnd;
use serde_json::{Value, json};

/// Exec and attach, over WebSockets and over SPDY alike; the newer one can close standard input.
pub const CHANNELS_V5: &str = "v5.channel.k8s.io";
/// Also an older form of port-forward, with two channels for each port.
pub const CHANNELS_V4: &str = "v4.channel.k8s.io";
/// Port-forward over SPDY.
pub const PORT_FORWARD: &str = "portforward.k8s.io";
/// SPDY's bytes in a WebSocket's messages.
pub const TUNNELLED_PORT_FORWARD: &str = "SPDY/3.1+portforward.k8s.io";
pub const SPDY: &str = "SPDY/3.1";

/// The status on the error channel, in upstream's words (`remotecommand`): `kubectl` finds the
/// exit code by them.
pub fn status_of(end: &StreamEnd) -> Value {
    match end {
        StreamEnd::Exited { code: 0 } | StreamEnd::Detached => {
            json!({"metadata": {}, "status": "Success"})
        }
        StreamEnd::Exited { code } => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        StreamEnd::Failed { message } => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("Internal error occurred: {message}"),
            "reason": "InternalError",
            "details": {"causes": [{"message": message}]},
            "code": 500,
        }),
    }
}

/// The end that a status on the error channel tells of.
pub fn end_of(status: &Value) -> StreamEnd {
    if status["status"] == "Success" {
        return StreamEnd::Exited { code: 0 };
    }
    let message = || status["message"].as_str().unwrap_or("it failed").to_owned();
    let causes = status.pointer("/details/causes").and_then(Value::as_array);
    let of_code = |cause: &&Value| cause["reason"] == "ExitCode";
    let code = causes.and_then(|causes| causes.iter().find(of_code));
    let code = code.and_then(|cause| cause["message"].as_str()?.parse().ok());
    code.map_or_else(|| StreamEnd::Failed { message: message() }, |code| StreamEnd::Exited { code })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_read_back_from_the_status_that_tells_of_it() {
        let failed = |message: &str| StreamEnd::Failed { message: message.to_owned() };
        let cases = [
            (StreamEnd::Exited { code: 0 }, StreamEnd::Exited { code: 0 }),
            (StreamEnd::Exited { code: 137 }, StreamEnd::Exited { code: 137 }),
            (StreamEnd::Detached, StreamEnd::Exited { code: 0 }),
            (failed("gone"), failed("Internal error occurred: gone")),
        ];
        for (end, expected) in cases {
            assert_eq!(end_of(&status_of(&end)), expected);
        }
        assert_eq!(end_of(&json!({})), failed("it failed"));
    }
}
