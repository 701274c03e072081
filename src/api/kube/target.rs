//! What a path below `/api` and `/apis` names.

use crate::kube::resource_type::{ResourceType, find};

#[derive(Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// `/apis/{group}`.
    Group(&'a str),
    /// `/api/v1`, `/apis/{group}/{version}`.
    Version {
        group: &'a str,
        version: &'a str,
    },
    Collection {
        ty: &'static ResourceType,
        namespace: Option<&'a str>,
    },
    Object {
        ty: &'static ResourceType,
        namespace: &'a str,
        name: &'a str,
    },
    /// `…/pods/{name}/log`.
    PodLog {
        namespace: &'a str,
        name: &'a str,
    },
}

/// Takes a path apart. `None`: nothing is served there.
pub fn parse(path: &str) -> Option<Target<'_>> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group] => return Some(Target::Group(group)),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    match rest {
        [] => Some(Target::Version { group, version }),
        ["namespaces", namespace, "pods", name, "log"] if group.is_empty() => {
            Some(Target::PodLog { namespace, name })
        }
        // `/namespaces/{name}` is the object, `/namespaces/{ns}/{plural}` lists inside.
        ["namespaces", namespace, plural, name @ ..] => {
            let ty = find(group, version, plural).filter(|ty| ty.namespaced)?;
            target(ty, Some(namespace), name)
        }
        [plural, name @ ..] => {
            let ty = find(group, version, plural)?;
            // Objects of a namespace are listed everywhere without one, but not got.
            if ty.namespaced && !name.is_empty() {
                return None;
            }
            target(ty, None, name)
        }
    }
}

fn target<'a>(
    ty: &'static ResourceType,
    namespace: Option<&'a str>,
    name: &[&'a str],
) -> Option<Target<'a>> {
    match name {
        [] => Some(Target::Collection { ty, namespace }),
        [name] => Some(Target::Object { ty, namespace: namespace.unwrap_or_default(), name }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(path: &str) -> String {
        match parse(path) {
            None => "nothing".to_owned(),
            Some(Target::Group(group)) => format!("group {group}"),
            Some(Target::Version { group, version }) => format!("version {group}/{version}"),
            Some(Target::Collection { ty, namespace }) => format!("{} in {namespace:?}", ty.plural),
            Some(Target::Object { ty, namespace, name }) => {
                format!("{} {namespace}/{name}", ty.kind)
            }
            Some(Target::PodLog { namespace, name }) => format!("log {namespace}/{name}"),
        }
    }

    #[test]
    fn paths_name_what_kubernetes_has_there() {
        let cases = [
            ("/api/v1", "version /v1"),
            ("/apis/apps", "group apps"),
            ("/apis/apps/v1/", "version apps/v1"),
            ("/api/v1/pods", "pods in None"),
            ("/api/v1/namespaces", "namespaces in None"),
            ("/api/v1/namespaces/web", "Namespace /web"),
            ("/api/v1/namespaces/web/pods", "pods in Some(\"web\")"),
            ("/api/v1/namespaces/web/pods/a", "Pod web/a"),
            ("/api/v1/namespaces/web/pods/a/log", "log web/a"),
            ("/api/v1/nodes/a", "Node /a"),
            ("/apis/apps/v1/namespaces/web/deployments/a", "Deployment web/a"),
            ("/apis/kgit.dev/v1/reconciles/7", "Reconcile /7"),
            ("/api/v1/deployments", "nothing"),
            ("/api/v1/pods/a", "nothing"),
            ("/api/v1/namespaces/web/nodes", "nothing"),
            ("/api/v1/namespaces/web/pods/a/exec", "nothing"),
        ];
        for (path, expected) in cases {
            assert_eq!(shown(path), expected, "{path}");
        }
    }
}
