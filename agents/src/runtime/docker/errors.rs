//! What the engine's errors mean to the agent.

use bollard::errors::Error;

use crate::runtime::RuntimeError;

/// What kind of thing was asked for: the same status means different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Engine,
    Create,
    Start,
    /// Something about one container, volume or network.
    Container,
    Image,
}

pub(super) fn understood(asked: Asked, what: &str, error: Error) -> RuntimeError {
    match error {
        Error::DockerResponseServerError { status_code, message } => {
            from_status(asked, what, status_code, message)
        }
        Error::DockerStreamError { error } => from_words(asked, what, error),
        Error::IOError { err } => RuntimeError::Unavailable(err.to_string()),
        Error::HyperResponseError { err } => RuntimeError::Unavailable(err.to_string()),
        Error::HyperLegacyError { err } => RuntimeError::Unavailable(err.to_string()),
        Error::RequestTimeoutError => RuntimeError::Unavailable("no answer in time".to_owned()),
        Error::SocketNotFoundError(path) => {
            RuntimeError::Unavailable(format!("there is no socket {path}"))
        }
        other => RuntimeError::Refused(other.to_string()),
    }
}

fn from_status(asked: Asked, what: &str, status: u16, message: String) -> RuntimeError {
    match (asked, status) {
        // Not modified: already started, already stopped.
        (Asked::Create, 404) if message.to_lowercase().contains("no such image") => {
            RuntimeError::NoSuchImage(what.to_owned())
        }
        (Asked::Create, 409) => RuntimeError::NameTaken(what.to_owned()),
        (Asked::Container, 404) => RuntimeError::Gone(what.to_owned()),
        // Not running, or its removal is under way.
        (Asked::Container, 409) if is_over(&message) => RuntimeError::Gone(what.to_owned()),
        (Asked::Start, 404) if message.contains("No such container") => {
            RuntimeError::Gone(what.to_owned())
        }
        _ => from_words(asked, what, message),
    }
}

fn is_over(message: &str) -> bool {
    ["is not running", "is not paused", "already in progress"]
        .iter()
        .any(|words| message.contains(words))
}

fn from_words(asked: Asked, what: &str, message: String) -> RuntimeError {
    let contains = |words: &[&str]| words.iter().any(|word| message.contains(word));
    match asked {
        Asked::Start | Asked::Container
            if contains(&["Address already in use", "address already in use"])
                && !contains(&["port", "bind for", "userland proxy"]) =>
        {
            RuntimeError::AddressInUse(message)
        }
        Asked::Start
            if contains(&[
                "executable file not found",
                "no such file or directory: unknown",
                "permission denied: unknown",
                "exec format error",
                "is a directory: unknown",
                "unable to find user",
                "no matching entries in passwd",
            ]) =>
        {
            RuntimeError::CannotRun(message)
        }
        Asked::Image if contains(UNREACHABLE) => RuntimeError::RegistryUnreachable(message),
        Asked::Image
            if contains(&["not found", "No such image", "no such image", "manifest unknown"]) =>
        {
            RuntimeError::NoSuchImage(format!("{what}: {message}"))
        }
        _ => RuntimeError::Refused(message),
    }
}

/// How Go's network errors read when nothing at all answers.
const UNREACHABLE: &[&str] = &[
    "dial tcp",
    "no such host",
    "i/o timeout",
    "connection refused",
    "network is unreachable",
    "Client.Timeout",
    "context deadline exceeded",
    "TLS handshake timeout",
    "proxyconnect",
    "server misbehaving",
    "connection reset",
    "failed to do request",
    "EOF",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn server(status_code: u16, message: &str) -> Error {
        Error::DockerResponseServerError { status_code, message: message.to_owned() }
    }

    #[test]
    fn the_engines_words_are_told_apart() {
        let check = |asked, status, words: &str| {
            format!("{:?}", understood(asked, "it", server(status, words)))
                .split('(')
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        let is = |asked, status, words, expected: &str| {
            assert_eq!(check(asked, status, words), expected, "{words}");
        };
        is(Asked::Create, 404, "No such image: a:1", "NoSuchImage");
        is(Asked::Create, 409, "Conflict. The container name is in use", "NameTaken");
        is(Asked::Start, 403, "Address already in use", "AddressInUse");
        is(Asked::Start, 500, "Bind for 0.0.0.0:80 failed: port is already allocated", "Refused");
        is(Asked::Start, 400, "exec: \"x\": executable file not found in $PATH", "CannotRun");
        is(Asked::Container, 409, "Container abc is not running", "Gone");
        is(Asked::Image, 500, "dial tcp: lookup registry-1.docker.io", "RegistryUnreachable");
        is(Asked::Image, 404, "manifest for a:1 not found", "NoSuchImage");
    }
}
