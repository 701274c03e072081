//! What the engine shows: one list, and one closer look at each container whose state is new.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::models::{ContainerState, ContainerSummary, ContainerSummaryStateEnum};
use bollard::query_parameters::ListContainersOptionsBuilder;
use ipnet::Ipv4Net;
use kgit_protocol::time::Timestamp;
use tokio::time::Instant;

use crate::runtime::docker::errors::Asked;
use crate::runtime::docker::{Docker, labels};
use crate::runtime::{Exit, NetworkState, Outcome, RunState, RuntimeError, Seen, View};

/// What was learned by a closer look, by container id, for as long as the list shows the same
/// state and no event said that something changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Details(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    states: HashMap<String, (ContainerSummaryStateEnum, RunState)>,
    network: Option<(Ipv4Net, Instant)>,
}

/// The network is looked at again after this long though no event told of it.
const NETWORK_STAYS: Duration = Duration::from_secs(3);

impl Details {
    pub fn forget(&self, id: &str) {
        self.lock().states.remove(id);
    }

    pub fn forget_network(&self) {
        self.lock().network = None;
    }

    fn network_is_fresh(&self, expected: Ipv4Net) -> bool {
        self.lock()
            .network
            .is_some_and(|(range, at)| range == expected && at.elapsed() < NETWORK_STAYS)
    }

    fn network_seen(&self, range: Ipv4Net) {
        self.lock().network = Some((range, Instant::now()));
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, id: &str, listed: ContainerSummaryStateEnum) -> Option<RunState> {
        self.lock()
            .states
            .get(id)
            .filter(|(state, _)| *state == listed)
            .map(|(_, state)| state.clone())
    }

    fn keep_only(&self, ids: &[Seen]) {
        self.lock().states.retain(|id, _| ids.iter().any(|seen| seen.id == *id));
    }
}

impl Docker {
    pub(super) async fn look(&self, expected: Ipv4Net) -> Outcome<View> {
        let client = self.client().await?;
        let filters = labels::filters(&self.scope);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed = client
            .list_containers(Some(options))
            .await
            .map_err(|error| self.failed(Asked::Engine, "containers", error))?;
        let mut containers = Vec::with_capacity(listed.len());
        for summary in listed {
            if let Some(seen) = self.see(summary).await? {
                containers.push(seen);
            }
        }
        self.details.keep_only(&containers);
        let present = self.network_is_still(expected).await?;
        let network = if present { NetworkState::Present } else { NetworkState::Missing };
        Ok(View { containers, network })
    }

    /// The network is looked at now and then, and at once when an event says so: a view is taken
    /// for each burst of events.
    async fn network_is_still(&self, expected: Ipv4Net) -> Outcome<bool> {
        if self.details.network_is_fresh(expected) {
            return Ok(true);
        }
        let present = self.network_is(expected).await?;
        if present {
            self.details.network_seen(expected);
        }
        Ok(present)
    }

    async fn see(&self, summary: ContainerSummary) -> Outcome<Option<Seen>> {
        let Some(identity) = labels::identity(&summary.labels.unwrap_or_default()) else {
            return Ok(None);
        };
        let (Some(id), Some(listed)) = (summary.id, summary.state) else { return Ok(None) };
        let Some(state) = self.state_of(&id, listed).await? else { return Ok(None) };
        let address = summary
            .network_settings
            .and_then(|settings| settings.networks)
            .and_then(|mut networks| networks.remove(&self.scope.network()))
            .and_then(|endpoint| endpoint.ip_address)
            .and_then(|text| text.parse::<Ipv4Addr>().ok());
        let image = self.image_identity(&summary.image_id.unwrap_or_default()).await;
        Ok(Some(Seen { id, identity, state, image, address }))
    }

    /// The state in full; `None` if the container vanished meanwhile.
    async fn state_of(
        &self,
        id: &str,
        listed: ContainerSummaryStateEnum,
    ) -> Outcome<Option<RunState>> {
        match listed {
            ContainerSummaryStateEnum::CREATED => return Ok(Some(RunState::Created)),
            ContainerSummaryStateEnum::REMOVING | ContainerSummaryStateEnum::DEAD => {
                return Ok(Some(RunState::Removing));
            }
            _ => {}
        }
        if let Some(state) = self.details.known(id, listed) {
            return Ok(Some(state));
        }
        let client = self.client().await?;
        let shown = match client.inspect_container(id, None).await {
            Ok(shown) => shown.state.unwrap_or_default(),
            Err(error) => match self.failed(Asked::Container, id, error) {
                RuntimeError::Gone(_) => return Ok(None),
                other => return Err(other),
            },
        };
        let state = in_full(&shown);
        let matches_list = matches!(
            (&state, listed),
            (RunState::Running { .. }, ContainerSummaryStateEnum::RUNNING)
                | (RunState::Paused { .. }, ContainerSummaryStateEnum::PAUSED)
                | (RunState::Exited(_), ContainerSummaryStateEnum::EXITED)
        );
        if matches_list {
            self.details.lock().states.insert(id.to_owned(), (listed, state.clone()));
        }
        Ok(Some(state))
    }
}

fn in_full(state: &ContainerState) -> RunState {
    let moment = |text: &Option<String>| {
        // The engine writes the year 1 for "never".
        text.as_deref().and_then(Timestamp::parse).filter(|moment| moment.0 > 0)
    };
    let started_at = moment(&state.started_at);
    if state.dead == Some(true) {
        return RunState::Removing;
    }
    match (state.running == Some(true), state.paused == Some(true), started_at) {
        (true, true, at) => RunState::Paused { started_at: at.unwrap_or_default() },
        (true, false, at) => RunState::Running { started_at: at.unwrap_or_default() },
        (false, _, None) => RunState::Created,
        (false, _, Some(_)) => RunState::Exited(Exit {
            code: state.exit_code.unwrap_or(-1),
            started_at,
            finished_at: moment(&state.finished_at).or(started_at).unwrap_or_default(),
            out_of_memory: state.oom_killed == Some(true),
            error: state.error.clone().unwrap_or_default(),
        }),
    }
}
