//! "Who am I, and what may I do?": the reviews behind `kubectl auth`. Answered from the token's
//! role alone. Clients since 1.32 ask in protobuf, older ones in JSON.

use prost::Message;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::domain::token::Role;

/// What protobuf bodies begin with. Source: apimachinery, `runtime/serializer/protobuf`.
const MAGIC: &[u8] = b"k8s\0";

/// `/apis/{group}/v1/{plural}`, with the kind that is created there.
pub const REVIEWS: [(&str, &str, &str); 3] = [
    ("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
    ("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    ("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
];

/// Whoever asks: a token's name and role.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    pub name: &'a str,
    pub role: Role,
}

/// What somebody asks to be allowed.
#[derive(Clone, PartialEq, Eq, Deserialize, Message)]
#[serde(default)]
pub struct AccessReview {
    #[prost(message, optional, tag = "2")]
    spec: Option<AccessSpec>,
}

#[derive(Clone, PartialEq, Eq, Deserialize, Message)]
#[serde(default, rename_all = "camelCase")]
struct AccessSpec {
    #[prost(message, optional, tag = "1")]
    resource_attributes: Option<ResourceAttributes>,
    #[prost(message, optional, tag = "2")]
    non_resource_attributes: Option<PathAttributes>,
}

#[derive(Clone, PartialEq, Eq, Deserialize, Message)]
#[serde(default)]
struct ResourceAttributes {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    verb: String,
    #[prost(string, tag = "3")]
    group: String,
    #[prost(string, tag = "5")]
    resource: String,
    #[prost(string, tag = "6")]
    subresource: String,
    #[prost(string, tag = "7")]
    name: String,
}

#[derive(Clone, PartialEq, Eq, Deserialize, Message)]
#[serde(default)]
struct PathAttributes {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(string, tag = "2")]
    verb: String,
}

/// The envelope of a protobuf body: `runtime.Unknown`.
#[derive(Clone, PartialEq, Eq, Message)]
struct Envelope {
    #[prost(bytes = "vec", tag = "2")]
    raw: Vec<u8>,
}

/// Reads a body in either form. `Err` says what is wrong with it.
pub fn read(body: &[u8]) -> Result<AccessReview, String> {
    match body.strip_prefix(MAGIC) {
        Some(envelope) => {
            let envelope = Envelope::decode(envelope).map_err(|error| error.to_string())?;
            AccessReview::decode(envelope.raw.as_slice()).map_err(|error| error.to_string())
        }
        None => serde_json::from_slice(body).map_err(|error| error.to_string()),
    }
}

/// The answer to a SelfSubjectReview.
pub fn whoami(who: Who<'_>) -> Value {
    let role = who.role.as_str();
    json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "SelfSubjectReview",
        "metadata": {},
        "status": {"userInfo": {
            "username": who.name,
            "groups": [format!("kgit:{role}"), "system:authenticated"],
        }},
    })
}

/// The answer to a SelfSubjectAccessReview.
pub fn access(who: Who<'_>, review: &AccessReview) -> Value {
    let spec = review.spec.clone().unwrap_or_default();
    let (allowed, reason) = match (spec.resource_attributes, spec.non_resource_attributes) {
        (Some(asked), _) => resource_access(who, &asked),
        (None, Some(asked)) => path_access(&asked),
        (None, None) => (false, "nothing was asked".to_owned()),
    };
    json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "metadata": {},
        "spec": {},
        "status": {"allowed": allowed, "reason": reason},
    })
}

fn resource_access(who: Who<'_>, asked: &ResourceAttributes) -> (bool, String) {
    let role = who.role.as_str();
    let verb = asked.verb.as_str();
    let is_stream = STREAMS.contains(&asked.subresource.as_str()) && asked.resource == "pods";
    if is_stream && matches!(verb, "create" | "get") {
        let allowed = matches!(who.role, Role::Write | Role::Admin);
        return (allowed, format!("the token has the role {role}"));
    }
    if READS.contains(&verb) && who.role != Role::Join {
        return (true, format!("the token has the role {role}"));
    }
    if verb == "delete" && asked.resource == "pods" && asked.subresource.is_empty() {
        let allowed = matches!(who.role, Role::Write | Role::Admin);
        return (allowed, "pods that a workload made end, and are replaced".to_owned());
    }
    if verb == "create" && asked.resource.starts_with("selfsubject") {
        return (true, String::new());
    }
    (false, "what runs follows Git: change the manifest, then commit and push".to_owned())
}

fn path_access(asked: &PathAttributes) -> (bool, String) {
    (asked.verb == "get", String::new())
}

const READS: [&str; 3] = ["get", "list", "watch"];
/// What goes on in pods rather than changes them.
const STREAMS: [&str; 4] = ["exec", "attach", "portforward", "proxy"];

/// The answer to a SelfSubjectRulesReview.
pub fn rules(who: Who<'_>) -> Value {
    let mut rules = vec![json!({"verbs": READS, "apiGroups": ["*"], "resources": ["*"]})];
    if matches!(who.role, Role::Write | Role::Admin) {
        let streams = STREAMS.map(|name| format!("pods/{name}"));
        rules.push(json!({"verbs": ["create", "get"], "apiGroups": [""], "resources": streams}));
        rules.push(json!({"verbs": ["delete"], "apiGroups": [""], "resources": ["pods"]}));
    }
    json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "metadata": {},
        "spec": {},
        "status": {
            "incomplete": false,
            "resourceRules": rules,
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["*"]}],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(verb: &str, resource: &str, subresource: &str) -> AccessReview {
        let attributes = ResourceAttributes {
            verb: verb.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            ..ResourceAttributes::default()
        };
        let spec = AccessSpec { resource_attributes: Some(attributes), ..AccessSpec::default() };
        AccessReview { spec: Some(spec) }
    }

    #[test]
    fn both_forms_say_the_same() {
        let review = asked("get", "pods", "log");
        let json = r#"{"kind":"SelfSubjectAccessReview","spec":{"resourceAttributes":
            {"verb":"get","resource":"pods","subresource":"log"}}}"#;
        assert_eq!(read(json.as_bytes()).unwrap(), review);
        let envelope = Envelope { raw: review.encode_to_vec() };
        let bytes = [MAGIC, &envelope.encode_to_vec()].concat();
        assert_eq!(read(&bytes).unwrap(), review);
        assert!(read(b"k8s\0\xff").is_err());
        assert!(read(b"no").is_err());
    }

    #[test]
    fn a_role_allows_what_it_is_for() {
        let table = [
            (Role::Read, "list", "pods", "", true),
            (Role::Read, "get", "pods", "log", true),
            (Role::Read, "create", "pods", "exec", false),
            (Role::Write, "create", "pods", "exec", true),
            (Role::Admin, "get", "pods", "portforward", true),
            (Role::Write, "delete", "pods", "", true),
            (Role::Read, "delete", "pods", "", false),
            (Role::Admin, "delete", "deployments", "", false),
            (Role::Admin, "create", "deployments", "", false),
            (Role::Read, "create", "selfsubjectaccessreviews", "", true),
        ];
        for (role, verb, resource, subresource, expected) in table {
            let who = Who { name: "ann", role };
            let answer = access(who, &asked(verb, resource, subresource));
            let said = &answer["status"]["allowed"];
            assert_eq!(said, expected, "{role:?} {verb} {resource}/{subresource}");
        }
    }
}
