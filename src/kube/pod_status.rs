//! A pod's row: the one word that says how it is. Source of the rules: `printPod` of
//! `pkg/printers/internalversion`.

use kgit_protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::kube::human;
use crate::kube::json::{flag, items, number, text};
use crate::kube::table::Column;

pub const COLUMNS: &[Column] = &[
    Column::name(),
    Column::text("Ready"),
    Column::text("Status"),
    Column::text("Restarts"),
    Column::text("Age"),
    Column::wide("IP"),
    Column::wide("Node"),
    Column::wide("Nominated Node"),
    Column::wide("Readiness Gates"),
];

pub fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = Summary::of(pod);
    let or_none = |text: &str| match text {
        "" => json!("<none>"),
        text => json!(text),
    };
    vec![
        json!(text(pod, "/metadata/name")),
        json!(format!("{}/{}", summary.ready, summary.total)),
        json!(summary.reason),
        json!(summary.restarts_text(now)),
        json!(human::age(text(pod, "/metadata/creationTimestamp"), now)),
        or_none(text(pod, "/status/podIP")),
        or_none(text(pod, "/spec/nodeName")),
        json!("<none>"),
        json!("<none>"),
    ]
}

/// What a row says of a pod's containers.
#[derive(Debug)]
struct Summary<'a> {
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: &'a str,
    reason: String,
}

impl<'a> Summary<'a> {
    fn of(pod: &'a Value) -> Self {
        let reason = match text(pod, "/status/reason") {
            "" => text(pod, "/status/phase"),
            reason => reason,
        };
        let total = items(pod, "/spec/containers").len() + sidecars(pod).count();
        let reason = reason.to_owned();
        let mut summary = Self { ready: 0, total, restarts: 0, last_restart: "", reason };
        let initializing = summary.init_containers(pod);
        if !initializing || condition(pod, "Initialized") {
            summary.containers(pod);
        }
        summary.deletion(pod);
        summary
    }

    /// True while an init container has not ended well.
    fn init_containers(&mut self, pod: &'a Value) -> bool {
        let statuses = items(pod, "/status/initContainerStatuses");
        let total = items(pod, "/spec/initContainers").len();
        for (index, status) in statuses.iter().enumerate() {
            self.count_restarts(status);
            let is_sidecar = sidecars(pod).any(|name| name == text(status, "/name"));
            if is_sidecar && flag(status, "/started") {
                self.ready += usize::from(flag(status, "/ready"));
                continue;
            }
            let ended = status.pointer("/state/terminated");
            if ended.is_some_and(|ended| number(ended, "/exitCode") == 0) {
                continue;
            }
            let waiting = text(status, "/state/waiting/reason");
            self.reason = match (ended, waiting) {
                (Some(ended), _) => format!("Init:{}", ended_because(ended)),
                (None, "" | "PodInitializing") => format!("Init:{index}/{total}"),
                (None, waiting) => format!("Init:{waiting}"),
            };
            return true;
        }
        false
    }

    fn containers(&mut self, pod: &'a Value) {
        (self.restarts, self.last_restart) = (0, "");
        let mut has_running = false;
        for status in items(pod, "/status/containerStatuses").iter().rev() {
            self.count_restarts(status);
            let waiting = text(status, "/state/waiting/reason");
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(ended) = status.pointer("/state/terminated") {
                self.reason = ended_because(ended);
            } else if flag(status, "/ready") && status.pointer("/state/running").is_some() {
                has_running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && has_running {
            let ready = condition(pod, "Ready");
            self.reason = if ready { "Running" } else { "NotReady" }.to_owned();
        }
    }

    fn count_restarts(&mut self, status: &'a Value) {
        self.restarts += number(status, "/restartCount");
        let ended = text(status, "/lastState/terminated/finishedAt");
        // RFC 3339 in UTC sorts as it passes.
        self.last_restart = self.last_restart.max(ended);
    }

    fn deletion(&mut self, pod: &Value) {
        let finished = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
        if !text(pod, "/metadata/deletionTimestamp").is_empty() && !finished {
            self.reason = "Terminating".to_owned();
        }
    }

    fn restarts_text(&self, now: Timestamp) -> String {
        match (self.restarts, self.last_restart) {
            (0, _) | (_, "") => self.restarts.to_string(),
            (restarts, last) => format!("{restarts} ({} ago)", human::age(last, now)),
        }
    }
}

fn ended_because(ended: &Value) -> String {
    match (text(ended, "/reason"), number(ended, "/signal")) {
        ("", 0) => format!("ExitCode:{}", number(ended, "/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn condition(pod: &Value, kind: &str) -> bool {
    let conditions = items(pod, "/status/conditions").iter();
    conditions.clone().any(|c| text(c, "/type") == kind && text(c, "/status") == "True")
}

/// The names of the init containers that keep running.
fn sidecars(pod: &Value) -> impl Iterator<Item = &str> {
    let init = items(pod, "/spec/initContainers").iter();
    init.filter(|container| text(container, "/restartPolicy") == "Always")
        .map(|container| text(container, "/name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pod: Value) -> String {
        let now = Timestamp::parse("2026-01-01T01:00:00Z").unwrap();
        let cells = cells(&pod, now);
        cells[1..4].iter().map(|cell| cell.as_str().unwrap()).collect::<Vec<_>>().join(" | ")
    }

    fn pod(phase: &str, containers: Value, init: Value) -> Value {
        let names = |list: &Value| {
            let names = list.as_array().unwrap().iter();
            names.map(|status| json!({"name": status["name"]})).collect::<Vec<_>>()
        };
        json!({
            "spec": {"containers": names(&containers), "initContainers": names(&init)},
            "status": {
                "phase": phase,
                "containerStatuses": containers,
                "initContainerStatuses": init,
            },
        })
    }

    #[test]
    fn a_running_container_that_is_ready_counts() {
        let a = json!({"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}});
        let b = json!({"name": "b", "ready": false, "restartCount": 0, "state": {"running": {}}});
        assert_eq!(row(pod("Running", json!([a, b]), json!([]))), "1/2 | Running | 0");
    }

    #[test]
    fn a_waiting_containers_reason_is_the_pods() {
        let state = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let last = json!({"terminated": {"finishedAt": "2026-01-01T00:55:00Z"}});
        let a = json!({"name": "a", "restartCount": 4, "state": state, "lastState": last});
        assert_eq!(
            row(pod("Running", json!([a]), json!([]))),
            "0/1 | CrashLoopBackOff | 4 (5m ago)"
        );
    }

    #[test]
    fn init_containers_are_counted_until_all_are_done() {
        let done = json!({"name": "i", "state": {"terminated": {"exitCode": 0}}});
        let running = json!({"name": "j", "state": {"running": {}}});
        let main = json!([{"name": "a", "state": {"waiting": {"reason": "PodInitializing"}}}]);
        assert_eq!(row(pod("Pending", main.clone(), json!([done, running]))), "0/1 | Init:1/2 | 0");
        let failed = json!({"name": "j", "restartCount": 2,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}});
        let shown = row(pod("Pending", main.clone(), json!([done, failed])));
        assert_eq!(shown, "0/1 | Init:CrashLoopBackOff | 2");
        let ended = json!({"name": "j", "state": {"terminated": {"exitCode": 3}}});
        assert_eq!(row(pod("Pending", main, json!([ended]))), "0/1 | Init:ExitCode:3 | 0");
    }

    #[test]
    fn a_pod_that_ended_says_how_and_one_on_its_way_out_is_terminating() {
        let end = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
        let a = json!([{"name": "a", "state": end}]);
        assert_eq!(row(pod("Succeeded", a, json!([]))), "0/1 | Completed | 0");
        let mut leaving = pod("Running", json!([]), json!([]));
        leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(row(leaving), "0/0 | Terminating | 0");
    }
}
