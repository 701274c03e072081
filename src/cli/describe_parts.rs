//! The parts that `kgit describe` puts together, with the headings that people know.

use serde_json::Value;

use crate::daemon::now;
use crate::kube::human;
use crate::kube::json::{fields, flag, items, number, text};
use crate::kube::table::aligned;

/// `Title:  value` lines, the values in one column; a value of several lines stays in it.
pub fn rows(lines: &[(&str, String)]) -> String {
    let width = lines.iter().map(|(title, _)| title.len()).max().unwrap_or(0) + 3;
    let mut shown = String::new();
    for (title, value) in lines {
        let value = if value.is_empty() { "<none>" } else { value };
        for (number, part) in value.lines().enumerate() {
            let title = if number == 0 { format!("{title}:") } else { String::new() };
            shown.push_str(format!("{title:<width$}{part}").trim_end());
            shown.push('\n');
        }
    }
    shown
}

pub fn pairs<'a>(fields: impl Iterator<Item = (&'a str, &'a Value)>, between: &str) -> String {
    let pairs = fields.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    pairs.collect::<Vec<_>>().join(between)
}

/// One label a line.
pub fn labels(object: &Value, pointer: &str) -> String {
    pairs(fields(object, pointer), "\n")
}

fn indented(text: &str, by: &str) -> String {
    text.lines().map(|line| format!("{by}{line}\n")).collect()
}

/// The pod template of a workload.
pub fn template(object: &Value) -> String {
    let labels = rows(&[("Labels", labels(object, "/spec/template/metadata/labels"))]);
    let all = containers("Containers", items(object, "/spec/template/spec/containers"), &[]);
    let volumes = volumes(object, "/spec/template/spec/volumes", "");
    format!("Pod Template:\n{}", indented(&format!("{labels}{all}{volumes}"), "  "))
}

/// Containers, each with its status where there is one.
pub fn containers(title: &str, containers: &[Value], statuses: &[Value]) -> String {
    let mut shown = format!("{title}:\n");
    for container in containers {
        let name = text(container, "/name");
        shown.push_str(&format!("  {name}:\n"));
        let status = statuses.iter().find(|status| text(status, "/name") == name);
        shown.push_str(&indented(&rows(&container_lines(container, status)), "    "));
    }
    shown
}

fn container_lines(container: &Value, status: Option<&Value>) -> Vec<(&'static str, String)> {
    let ports = items(container, "/ports").iter();
    let ports =
        ports.map(|port| format!("{}/{}", number(port, "/containerPort"), text(port, "/protocol")));
    let mounts = items(container, "/volumeMounts").iter();
    let mounts =
        mounts.map(|mount| format!("{} from {}", text(mount, "/mountPath"), text(mount, "/name")));
    let env = items(container, "/env").iter().map(|env| match env.get("valueFrom") {
        Some(from) => format!("{}: from {from}", text(env, "/name")),
        None => format!("{}: {}", text(env, "/name"), text(env, "/value")),
    });
    let mut lines = vec![
        ("Image", text(container, "/image").to_owned()),
        ("Ports", ports.collect::<Vec<_>>().join(", ")),
    ];
    lines.extend(status.map(status_lines).unwrap_or_default());
    lines.push(("Environment", env.collect::<Vec<_>>().join("\n")));
    lines.push(("Mounts", mounts.collect::<Vec<_>>().join("\n")));
    lines
}

fn status_lines(status: &Value) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("Container ID", text(status, "/containerID").to_owned()),
        ("Image ID", text(status, "/imageID").to_owned()),
        ("State", state(&status["state"])),
    ];
    if status.pointer("/lastState/terminated").is_some() {
        lines.push(("Last State", state(&status["lastState"])));
    }
    lines.push(("Ready", if flag(status, "/ready") { "True" } else { "False" }.to_owned()));
    lines.push(("Restart Count", number(status, "/restartCount").to_string()));
    lines
}

fn state(state: &Value) -> String {
    if let Some(waiting) = state.get("waiting") {
        let message = text(waiting, "/message");
        return format!("Waiting\n  Reason: {}\n  {message}", text(waiting, "/reason"))
            .trim_end()
            .to_owned();
    }
    if let Some(ended) = state.get("terminated") {
        return format!(
            "Terminated\n  Reason: {}\n  Exit Code: {}\n  Started: {}\n  Finished: {}",
            text(ended, "/reason"),
            number(ended, "/exitCode"),
            text(ended, "/startedAt"),
            text(ended, "/finishedAt"),
        );
    }
    format!("Running\n  Started: {}", text(state, "/running/startedAt"))
}

pub fn conditions(object: &Value) -> String {
    let mut lines = vec![["  Type", "Status", "Reason"].map(str::to_owned).to_vec()];
    for condition in items(object, "/status/conditions") {
        lines.push(vec![
            format!("  {}", text(condition, "/type")),
            text(condition, "/status").to_owned(),
            text(condition, "/reason").to_owned(),
        ]);
    }
    format!("Conditions:\n{}", aligned(&lines))
}

pub fn volumes(object: &Value, pointer: &str, indent: &str) -> String {
    let volumes = items(object, pointer);
    if volumes.is_empty() {
        return format!("{indent}Volumes: <none>\n");
    }
    let mut shown = format!("{indent}Volumes:\n");
    for volume in volumes {
        let source = fields(volume, "").find(|(field, _)| *field != "name");
        let (kind, source) = source.unwrap_or(("emptyDir", &Value::Null));
        shown.push_str(&format!("{indent}  {}: {kind} {source}\n", text(volume, "/name")));
    }
    shown
}

/// Events, oldest first, as kubectl lists them.
pub fn events(events: &[Value]) -> String {
    if events.is_empty() {
        return "Events: <none>\n".to_owned();
    }
    let title = ["  Type", "Reason", "Age", "From", "Message"].map(str::to_owned).to_vec();
    let mut lines = vec![title];
    for event in events {
        let age = human::age(text(event, "/lastTimestamp"), now());
        let age = match number(event, "/count") {
            0 | 1 => age,
            count => format!("{age} (x{count})"),
        };
        lines.push(vec![
            format!("  {}", text(event, "/type")),
            text(event, "/reason").to_owned(),
            age,
            text(event, "/source/component").to_owned(),
            text(event, "/message").to_owned(),
        ]);
    }
    format!("Events:\n{}", aligned(&lines))
}
