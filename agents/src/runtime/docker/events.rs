//! What the engine tells as it happens.

use std::collections::HashMap;

use bollard::models::{EventMessage, EventMessageTypeEnum};
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use kgit_protocol::time::Timestamp;

use crate::runtime::docker::errors::{Asked, understood};
use crate::runtime::docker::{Docker, labels};
use crate::runtime::{Change, Event, EventKind, Outcome, Scope};

/// Signals by which `docker kill` and `docker stop` end a container are told as numbers; one
/// that can't be read counts as this.
const UNKNOWN_SIGNAL: i32 = 0;

impl Docker {
    pub(super) fn follow_events(&self, since: Timestamp) -> BoxStream<'static, Outcome<Event>> {
        let socket = self.socket.clone();
        let scope = self.scope.clone();
        let details = self.details.clone();
        // A connection of its own: it stays open for as long as the engine lives.
        let client = Self::new(scope.clone(), &socket);
        let opened = async move {
            let docker = match client.client().await {
                Ok(docker) => docker,
                Err(error) => return stream::once(async { Err(error) }).boxed(),
            };
            let filters = HashMap::from([(
                "type".to_owned(),
                ["container", "network", "image", "volume"].map(str::to_owned).to_vec(),
            )]);
            let since = format!("{}.{:03}", since.0.div_euclid(1000), since.0.rem_euclid(1000));
            let options = EventsOptionsBuilder::default().since(&since).filters(&filters).build();
            let messages = docker.events(Some(options));
            messages
                .filter_map(move |message| {
                    let event = match message {
                        Ok(message) => concerning(&scope, message).map(Ok),
                        Err(error) => Some(Err(understood(Asked::Engine, "events", error))),
                    };
                    match &event {
                        Some(Ok(Event { kind: EventKind::Container { id, .. }, .. })) => {
                            details.forget(id);
                        }
                        Some(Ok(Event { kind: EventKind::Network, .. }) | Err(_)) => {
                            details.forget_network();
                        }
                        Some(Ok(_)) | None => {}
                    }
                    std::future::ready(event)
                })
                .boxed()
        };
        stream::once(opened).flatten().boxed()
    }
}

/// The event, if it concerns something in scope.
fn concerning(scope: &Scope, message: EventMessage) -> Option<Event> {
    let at = message.time_nano.map(|nanos| Timestamp(nanos / 1_000_000)).unwrap_or_default();
    let actor = message.actor?;
    let attributes = actor.attributes.unwrap_or_default();
    let action = message.action.unwrap_or_default();
    let kind = match message.typ? {
        EventMessageTypeEnum::CONTAINER => {
            if action.starts_with("exec_") || !labels::in_scope(scope, &attributes) {
                return None;
            }
            let change = match action.as_str() {
                "kill" => Change::Signalled(signal(&attributes)),
                "update" => Change::Updated,
                _ => Change::State,
            };
            let identity = labels::identity(&attributes)?;
            EventKind::Container { id: actor.id?, identity, change }
        }
        EventMessageTypeEnum::NETWORK => {
            let ours = attributes.get("name") == Some(&scope.network());
            // Containers coming and going are told as containers.
            let matters = matches!(action.as_str(), "destroy" | "disconnect" | "remove");
            if !(ours && matters) {
                return None;
            }
            EventKind::Network
        }
        EventMessageTypeEnum::IMAGE if matches!(action.as_str(), "delete" | "untag") => {
            EventKind::Image
        }
        EventMessageTypeEnum::VOLUME if action == "destroy" => EventKind::Volume,
        _ => return None,
    };
    Some(Event { at, kind })
}

fn signal(attributes: &HashMap<String, String>) -> i32 {
    attributes.get("signal").and_then(|text| text.parse().ok()).unwrap_or(UNKNOWN_SIGNAL)
}
