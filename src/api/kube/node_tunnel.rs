//! A node's tunnel, as a condition of the node. It is not in the store: it comes and goes with
//! connections, and no plan hangs on it.

use kgit_protocol::ids::NodeName;
use serde_json::{Value, json};

use crate::api::tunnels::{TunnelState, Tunnels};
use crate::domain::key::Kind;
use crate::kube::json::{object, put};
use crate::kube::seen::Shown;

/// Adds the condition `TunnelReady` to a node, and leaves everything else as it is.
pub fn with_tunnel(tunnels: &Tunnels, mut shown: Shown) -> Shown {
    if shown.object["kind"] != Kind::Node.as_str() {
        return shown;
    }
    let mut condition = condition(tunnels.state(&NodeName::new(&*shown.key.name)));
    let all = shown.object.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    if let Some(all) = all {
        // They all come with the same heartbeat.
        let heard = all.first().and_then(|first| first.get("lastHeartbeatTime")).cloned();
        put(object(&mut condition), "lastHeartbeatTime", heard);
        all.push(condition);
    }
    shown
}

fn condition(state: TunnelState) -> Value {
    let (status, reason, message, since) = match state {
        TunnelState::Up { since } => {
            let message = "logs, exec, attach and port-forward reach the node";
            ("True", "TunnelUp", message, Some(since))
        }
        TunnelState::Down { since } => {
            let message = "the agent has no tunnel to the master: no logs, exec or port-forward";
            ("False", "TunnelDown", message, since)
        }
    };
    let mut condition =
        json!({"type": "TunnelReady", "status": status, "reason": reason, "message": message});
    if let Some(since) = since {
        condition["lastTransitionTime"] = json!(since.to_string());
    }
    condition
}
