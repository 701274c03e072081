//! The parts that `kgit describe` puts together, with the headings that people know from `kubectl
//! describe`. Which kind has which parts is not decided here.

use serde_json::Value;

use crate::daemon::now;
use crate::kube::human;
use crate::kube::json::{fields, flag, items, number, text};

/// A title and what stands beside it. A value that starts with a line break stands below its
/// title instead.
pub type Row = (String, String);

pub fn row(title: &str, value: impl Into<String>) -> Row {
    (title.to_owned(), value.into())
}

/// `Title:  value` lines, the values in one column; a value of several lines stays in it.
pub fn rows(lines: &[Row]) -> String {
    let width = lines.iter().map(|(title, _)| title.chars().count()).max().unwrap_or(0) + 3;
    let mut shown = String::new();
    for (title, value) in lines {
        if let Some(below) = value.strip_prefix('\n') {
            shown.push_str(&format!("{title}:\n{}", indented(below, "  ")));
            continue;
        }
        let value = if value.is_empty() { "<none>" } else { value };
        for (number, part) in value.lines().enumerate() {
            let title = if number == 0 { format!("{title}:") } else { String::new() };
            shown.push_str(format!("{title:<width$}{part}").trim_end());
            shown.push('\n');
        }
    }
    shown
}

/// Titles, a line below each, and the lines; columns two spaces apart.
fn columns(titles: &[&str], lines: &[Vec<String>]) -> String {
    let mut all: Vec<Vec<String>> = vec![
        titles.iter().map(|title| (*title).to_owned()).collect(),
        titles.iter().map(|title| "-".repeat(title.len())).collect(),
    ];
    all.extend_from_slice(lines);
    let width = |column: usize| {
        all.iter().map(|line| line.get(column).map_or(0, |cell| cell.chars().count())).max()
    };
    let widths: Vec<usize> = (0..titles.len()).filter_map(width).collect();
    let shown = all.iter().map(|line| {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("  {}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    });
    shown.collect()
}

/// `key=value`, comma by comma.
pub fn selector(object: &Value, pointer: &str) -> String {
    let pairs = fields(object, pointer).map(|(key, value)| format!("{key}={}", plain(value)));
    pairs.collect::<Vec<_>>().join(",")
}

/// One label a line.
pub fn labels(object: &Value, pointer: &str, between: &str) -> String {
    let pairs =
        fields(object, pointer).map(|(key, value)| format!("{key}{between}{}", plain(value)));
    pairs.collect::<Vec<_>>().join("\n")
}

pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub fn indented(text: &str, by: &str) -> String {
    text.lines().map(|line| format!("{by}{line}\n")).collect()
}

/// Below its title, or `<none>` beside it.
fn below(lines: &[String]) -> String {
    if lines.is_empty() { String::new() } else { format!("\n{}", lines.join("\n")) }
}

/// The pod template of a workload.
pub fn template(object: &Value) -> String {
    let labels = rows(&[row("Labels", labels(object, "/spec/template/metadata/labels", "="))]);
    let all = containers("Containers", items(object, "/spec/template/spec/containers"), &[]);
    let volumes = volumes(object, "/spec/template/spec/volumes");
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

fn container_lines(container: &Value, status: Option<&Value>) -> Vec<Row> {
    let mut lines = Vec::new();
    if let Some(status) = status {
        lines.push(row("Container ID", text(status, "/containerID")));
    }
    lines.push(row("Image", text(container, "/image")));
    if let Some(status) = status {
        lines.push(row("Image ID", text(status, "/imageID")));
    }
    let ports = items(container, "/ports").iter();
    let ports =
        ports.map(|port| format!("{}/{}", number(port, "/containerPort"), text(port, "/protocol")));
    lines.push(row("Ports", ports.collect::<Vec<_>>().join(", ")));
    for (title, pointer) in [("Command", "/command"), ("Args", "/args")] {
        let words: Vec<String> = items(container, pointer).iter().map(plain).collect();
        if !words.is_empty() {
            lines.push(row(title, below(&words)));
        }
    }
    lines.extend(status.map(status_lines).unwrap_or_default());
    for (title, pointer) in [("Limits", "/resources/limits"), ("Requests", "/resources/requests")] {
        let amounts = fields(container, pointer);
        let amounts: Vec<Row> = amounts.map(|(what, amount)| row(what, plain(amount))).collect();
        if !amounts.is_empty() {
            lines.push(row(title, format!("\n{}", rows(&amounts).trim_end())));
        }
    }
    lines.push(row("Environment", below(&environment(container))));
    let mounts = items(container, "/volumeMounts").iter().map(|mount| {
        let how = if flag(mount, "/readOnly") { "ro" } else { "rw" };
        format!("{} from {} ({how})", text(mount, "/mountPath"), text(mount, "/name"))
    });
    lines.push(row("Mounts", below(&mounts.collect::<Vec<_>>())));
    lines
}

fn environment(container: &Value) -> Vec<String> {
    let from = items(container, "/envFrom").iter().flat_map(|source| fields(source, ""));
    let from = from.filter(|(kind, _)| *kind != "prefix");
    let from = from.map(|(kind, source)| format!("all of {kind} {}", text(source, "/name")));
    let named = items(container, "/env").iter().map(|env| match env.get("valueFrom") {
        Some(from) => format!("{}: from {from}", text(env, "/name")),
        None => format!("{}: {}", text(env, "/name"), text(env, "/value")),
    });
    from.chain(named).collect()
}

fn status_lines(status: &Value) -> Vec<Row> {
    let mut lines = state("State", &status["state"]);
    if status.pointer("/lastState/terminated").is_some() {
        lines.extend(state("Last State", &status["lastState"]));
    }
    lines.push(row("Ready", if flag(status, "/ready") { "True" } else { "False" }));
    lines.push(row("Restart Count", number(status, "/restartCount").to_string()));
    lines
}

fn state(title: &str, state: &Value) -> Vec<Row> {
    let (word, about, facts): (_, _, &[_]) =
        match (state.get("waiting"), state.get("terminated"), state.get("running")) {
            (Some(waiting), ..) => {
                ("Waiting", waiting, &[("  Reason", "reason"), ("  Message", "message")])
            }
            (None, Some(ended), _) => (
                "Terminated",
                ended,
                &[
                    ("  Reason", "reason"),
                    ("  Message", "message"),
                    ("  Exit Code", "exitCode"),
                    ("  Started", "startedAt"),
                    ("  Finished", "finishedAt"),
                ],
            ),
            (None, None, Some(running)) => ("Running", running, &[("  Started", "startedAt")]),
            (None, None, None) => ("Waiting", state, &[]),
        };
    let facts = facts.iter().filter_map(|(title, field)| {
        about.get(*field).map(|value| row(title, human::moment(&plain(value))))
    });
    std::iter::once(row(title, word)).chain(facts).collect()
}

pub fn conditions(object: &Value) -> String {
    let lines = items(object, "/status/conditions").iter().map(|condition| {
        ["/type", "/status", "/reason", "/message"].map(|at| text(condition, at).to_owned()).into()
    });
    let lines: Vec<Vec<String>> = lines.collect();
    match lines.is_empty() {
        true => String::new(),
        false => {
            format!("Conditions:\n{}", columns(&["Type", "Status", "Reason", "Message"], &lines))
        }
    }
}

pub fn volumes(object: &Value, pointer: &str) -> String {
    let volumes = items(object, pointer);
    if volumes.is_empty() {
        return "Volumes:  <none>\n".to_owned();
    }
    let mut shown = "Volumes:\n".to_owned();
    for volume in volumes {
        let source = fields(volume, "").find(|(field, _)| *field != "name");
        let (kind, source) = source.unwrap_or(("emptyDir", &Value::Null));
        let mut lines = vec![row("Type", titled(kind))];
        lines.extend(fields(source, "").map(|(field, value)| row(&titled(field), plain(value))));
        shown.push_str(&format!("  {}:\n", text(volume, "/name")));
        shown.push_str(&indented(&rows(&lines), "    "));
    }
    shown
}

/// `claimName` → `ClaimName`.
fn titled(field: &str) -> String {
    let mut letters = field.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

/// Any value, a field a line, deeper ones indented.
pub fn nested(value: &Value, indent: &str) -> String {
    let deeper = format!("{indent}  ");
    let is_plain = |value: &Value| !value.is_object() && !value.is_array();
    match value {
        Value::Object(all) => {
            let simple = all.iter().filter(|(_, value)| is_plain(value));
            let simple: Vec<Row> =
                simple.map(|(field, value)| row(&titled(field), moment_or_plain(value))).collect();
            let mut shown = indented(&rows(&simple), indent);
            for (field, value) in all.iter().filter(|(_, value)| !is_plain(value)) {
                shown.push_str(&format!("{indent}{}:\n{}", titled(field), nested(value, &deeper)));
            }
            shown
        }
        Value::Array(list) if list.is_empty() => format!("{indent}<none>\n"),
        Value::Array(list) => {
            let each = list.iter().map(|item| {
                let shown = nested(item, &deeper);
                // A dash in place of the first line's indentation tells where an item starts.
                format!("{indent}- {}", shown.get(deeper.len()..).unwrap_or_default())
            });
            each.collect()
        }
        simple => format!("{indent}{}\n", moment_or_plain(simple)),
    }
}

fn moment_or_plain(value: &Value) -> String {
    human::moment(&plain(value))
}

/// By when they were last told of, the oldest first; equal ones in a stable order.
pub fn by_time(events: &[Value]) -> Vec<Value> {
    let mut sorted = events.to_vec();
    sorted.sort_by(|a, b| {
        let key = |event: &Value| {
            let at = |pointer| text(event, pointer).to_owned();
            (at("/lastTimestamp"), at("/firstTimestamp"), at("/metadata/name"))
        };
        key(a).cmp(&key(b))
    });
    sorted
}

/// Events, in the order in which they are given.
pub fn events(events: &[Value]) -> String {
    if events.is_empty() {
        return "Events:  <none>\n".to_owned();
    }
    let line = |event: &Value| {
        let (first, last) = (text(event, "/firstTimestamp"), text(event, "/lastTimestamp"));
        let age = human::age(last, now());
        let age = match number(event, "/count") {
            0 | 1 => age,
            count => format!("{age} (x{count} over {})", human::age(first, now())),
        };
        let cell = |pointer| text(event, pointer).to_owned();
        let (kind, reason) = (cell("/type"), cell("/reason"));
        vec![kind, reason, age, cell("/source/component"), cell("/message")]
    };
    let lines: Vec<Vec<String>> = events.iter().map(line).collect();
    format!("Events:\n{}", columns(&["Type", "Reason", "Age", "From", "Message"], &lines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;
    use serde_json::json;

    #[test]
    fn values_stand_in_one_column_and_long_ones_below_their_title() {
        let lines = [
            row("Name", "web"),
            row("Labels", "app=web\ntier=front"),
            row("Command", "\nsh\n-c"),
            row("Annotations", ""),
        ];
        assert_snapshot!(rows(&lines), @"
        Name:         web
        Labels:       app=web
                      tier=front
        Command:
          sh
          -c
        Annotations:  <none>
        ");
    }

    #[test]
    fn a_container_in_back_off_tells_how_it_ended_before() {
        let container = json!({
            "name": "c", "image": "web:1", "command": ["sh", "-c", "exit 3"],
            "env": [{"name": "A", "value": "b"}],
            "volumeMounts": [{"mountPath": "/data", "name": "d"}],
            "resources": {"limits": {"memory": "64Mi"}},
        });
        let ended = json!({"exitCode": 3, "reason": "Error", "startedAt": "2026-11-21T03:13:57Z"});
        let status = json!({
            "name": "c", "ready": false, "restartCount": 2, "imageID": "sha256:1", "containerID": "docker://1",
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": ended},
        });
        assert_snapshot!(containers("Containers", &[container], &[status]), @"
        Containers:
          c:
            Container ID:   docker://1
            Image:          web:1
            Image ID:       sha256:1
            Ports:          <none>
            Command:
              sh
              -c
              exit 3
            State:          Waiting
              Reason:       CrashLoopBackOff
            Last State:     Terminated
              Reason:       Error
              Exit Code:    3
              Started:      Sat, 21 Nov 2026 03:13:57 +0000
            Ready:          False
            Restart Count:  2
            Limits:
              memory:  64Mi
            Environment:
              A: b
            Mounts:
              /data from d (rw)
        ");
    }

    #[test]
    fn any_other_object_is_told_field_by_field() {
        let plan = json!({"spec": {"deletions": ["Job/default/a"]}, "status": {
            "phase": "Held", "waits": [{"object": {"kind": "Job"}, "forWhat": "approval"}],
        }});
        assert_snapshot!(nested(&plan, ""), @"
        Spec:
          Deletions:
            - Job/default/a
        Status:
          Phase:  Held
          Waits:
            - ForWhat:  approval
              Object:
                Kind:  Job
        ");
    }
}
