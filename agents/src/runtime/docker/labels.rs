//! The labels that mark what is kgit's, and whose.

use std::collections::HashMap;

use kgit_protocol::ids::{Attempt, PodUid};

use crate::runtime::{Identity, Scope};

const CLUSTER: &str = "dev.kgit.cluster";
const NODE: &str = "dev.kgit.node";
const POD_UID: &str = "dev.kgit.pod-uid";
const POD: &str = "dev.kgit.pod";
const NAMESPACE: &str = "dev.kgit.namespace";
const CONTAINER: &str = "dev.kgit.container";
const ATTEMPT: &str = "dev.kgit.attempt";
const SPEC: &str = "dev.kgit.spec";

/// What everything of this node carries.
pub(super) fn scope(scope: &Scope) -> HashMap<String, String> {
    HashMap::from([
        (CLUSTER.to_owned(), scope.cluster.as_str().to_owned()),
        (NODE.to_owned(), scope.node.as_str().to_owned()),
    ])
}

pub(super) fn container(of: &Scope, identity: &Identity) -> HashMap<String, String> {
    let mut labels = scope(of);
    labels.extend([
        (POD_UID.to_owned(), identity.pod.as_str().to_owned()),
        (POD.to_owned(), identity.pod_name.clone()),
        (NAMESPACE.to_owned(), identity.namespace.clone()),
        (CONTAINER.to_owned(), identity.container.clone()),
        (ATTEMPT.to_owned(), identity.attempt.to_string()),
        (SPEC.to_owned(), identity.spec.clone()),
    ]);
    labels
}

/// A filter for the engine's lists and events.
pub(super) fn filters(of: &Scope) -> HashMap<String, Vec<String>> {
    let wanted = scope(of).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    HashMap::from([("label".to_owned(), wanted)])
}

pub(super) fn in_scope(of: &Scope, labels: &HashMap<String, String>) -> bool {
    scope(of).iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Who a container is. `None` if a label is missing or makes no sense.
pub(super) fn identity(labels: &HashMap<String, String>) -> Option<Identity> {
    let get = |key: &str| labels.get(key).cloned();
    Some(Identity {
        pod: PodUid::new(get(POD_UID)?),
        namespace: get(NAMESPACE)?,
        pod_name: get(POD)?,
        container: get(CONTAINER)?,
        attempt: Attempt(get(ATTEMPT)?.parse().ok()?),
        spec: get(SPEC)?,
    })
}
