//! Discovery: which resources there are, in the old form and in the aggregated one.

use serde_json::{Value, json};

use crate::domain::key::Kind;
use crate::kube::resource_type::{Noun, ResourceType, SERVED};
use crate::kube::review::REVIEWS;

/// The version of Kubernetes whose objects and behaviour this is; vendors' `kubectl` pick
/// themselves by it.
pub const MINOR: &str = "32";

/// The media type of aggregated discovery, for Accept and Content-Type.
pub const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// `GET /version`.
pub fn version() -> Value {
    json!({
        "major": "1",
        "minor": MINOR,
        "gitVersion": format!("v1.{MINOR}.0+kgit"),
        "gitCommit": env!("CARGO_PKG_VERSION"),
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "go0.0.0",
        "compiler": "rustc",
        "platform": "linux/amd64",
    })
}

/// The groups, without the core one.
fn groups() -> Vec<&'static str> {
    let reviewed = REVIEWS.iter().map(|(group, ..)| *group);
    let served = SERVED.iter().map(|ty| ty.group).filter(|group| !group.is_empty());
    let mut groups: Vec<_> = served.chain(reviewed).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// `GET /api`.
pub fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// `GET /apis`.
pub fn group_list() -> Value {
    let groups: Vec<_> = groups().into_iter().map(group_object).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `GET /apis/{group}`. `None`: there is no such group.
pub fn group(name: &str) -> Option<Value> {
    let mut object = groups().contains(&name).then(|| group_object(name))?;
    object["kind"] = json!("APIGroup");
    object["apiVersion"] = json!("v1");
    Some(object)
}

fn group_object(name: &str) -> Value {
    let version = version_of(name);
    let version = json!({"groupVersion": format!("{name}/{version}"), "version": version});
    json!({"name": name, "versions": [version], "preferredVersion": version})
}

/// Each group has one version.
fn version_of(group: &str) -> &'static str {
    SERVED.iter().find(|ty| ty.group == group).map_or("v1", |ty| ty.version)
}

/// `GET /api/v1` and `GET /apis/{group}/{version}`. `None`: there is no such version.
///
/// A struct, not a JSON value, because some clients search the raw text and so depend on the
/// order of the fields.
pub fn resource_list(group: &str, version: &str) -> Option<ResourceList> {
    let types = SERVED.iter().filter(|ty| (ty.group, ty.version) == (group, version));
    let reviews = reviews(group).filter(|_| version == "v1").map(review_entry);
    let resources: Vec<ResourceEntry> = types.flat_map(entries).chain(reviews).collect();
    let group_version = match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    };
    (!resources.is_empty()).then_some(ResourceList {
        kind: "APIResourceList",
        api_version: "v1",
        group_version,
        resources,
    })
}

#[derive(Debug, serde::Serialize)]
pub struct ResourceList {
    kind: &'static str,
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    #[serde(rename = "groupVersion")]
    group_version: String,
    resources: Vec<ResourceEntry>,
}

#[derive(Debug, serde::Serialize)]
struct ResourceEntry {
    name: String,
    #[serde(rename = "singularName")]
    singular: &'static str,
    namespaced: bool,
    kind: &'static str,
    verbs: &'static [&'static str],
    #[serde(rename = "shortNames", skip_serializing_if = "<[_]>::is_empty")]
    short: &'static [&'static str],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    categories: &'static [&'static str],
}

const READ: &[&str] = &["get", "list", "watch"];
const PROXIED: &[&str] = &["create", "delete", "get", "patch", "update"];
/// What is done with an object beside reading it: the name, the kind that it takes or gives, how.
type Subresource = (&'static str, &'static str, &'static [&'static str]);
const OF_PODS: &[Subresource] = &[
    ("attach", "PodAttachOptions", &["create", "get"]),
    ("exec", "PodExecOptions", &["create", "get"]),
    ("log", "Pod", &["get"]),
    ("portforward", "PodPortForwardOptions", &["create", "get"]),
    ("proxy", "PodProxyOptions", PROXIED),
];
const OF_SERVICES: &[Subresource] = &[("proxy", "ServiceProxyOptions", PROXIED)];

fn subresources(ty: &ResourceType) -> &'static [Subresource] {
    match ty.noun {
        Noun::Recorded(Kind::Pod) => OF_PODS,
        Noun::Recorded(Kind::Service) => OF_SERVICES,
        _ => &[],
    }
}

const ALL_CATEGORY: &[&str] = &["all"];

fn entries(ty: &'static ResourceType) -> Vec<ResourceEntry> {
    let mut entries = vec![ResourceEntry {
        name: ty.plural.to_owned(),
        singular: ty.singular,
        namespaced: ty.namespaced,
        kind: ty.kind,
        verbs: READ,
        short: ty.short,
        categories: if ty.in_all { ALL_CATEGORY } else { &[] },
    }];
    entries.extend(subresources(ty).iter().map(|(name, kind, verbs)| ResourceEntry {
        name: format!("{}/{name}", ty.plural),
        singular: "",
        namespaced: true,
        kind,
        verbs,
        short: &[],
        categories: &[],
    }));
    entries
}

fn reviews(
    group: &str,
) -> impl Iterator<Item = &'static (&'static str, &'static str, &'static str)> {
    REVIEWS.iter().filter(move |(of, ..)| *of == group)
}

fn review_entry(
    (_, plural, kind): &'static (&'static str, &'static str, &'static str),
) -> ResourceEntry {
    ResourceEntry {
        name: (*plural).to_owned(),
        singular: "",
        namespaced: false,
        kind,
        verbs: &["create"],
        short: &[],
        categories: &[],
    }
}

fn aggregated_review(
    (group, plural, kind): &'static (&'static str, &'static str, &'static str),
) -> Value {
    json!({
        "resource": plural,
        "responseKind": {"group": group, "version": "v1", "kind": kind},
        "scope": "Cluster",
        "singularResource": "",
        "verbs": ["create"],
    })
}

/// `GET /api` and `GET /apis` in the aggregated form.
pub fn aggregated(core: bool) -> Value {
    let names = if core { vec![""] } else { groups() };
    let items: Vec<_> = names.into_iter().map(aggregated_group).collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

fn aggregated_group(group: &str) -> Value {
    let types = SERVED.iter().filter(|ty| ty.group == group);
    let reviews = reviews(group).map(aggregated_review);
    let resources: Vec<_> = types.map(aggregated_resource).chain(reviews).collect();
    let metadata = match group {
        "" => json!({}),
        name => json!({"name": name}),
    };
    json!({
        "metadata": metadata,
        "versions": [{"version": version_of(group), "freshness": "Current", "resources": resources}],
    })
}

fn aggregated_resource(ty: &ResourceType) -> Value {
    let kind = json!({"group": ty.group, "version": ty.version, "kind": ty.kind});
    let mut resource = json!({
        "resource": ty.plural,
        "responseKind": kind,
        "scope": if ty.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": ty.singular,
        "verbs": READ,
    });
    if !ty.short.is_empty() {
        resource["shortNames"] = json!(ty.short);
    }
    if ty.in_all {
        resource["categories"] = json!(ALL_CATEGORY);
    }
    let of_object = |(name, kind, verbs): &Subresource| {
        let kind = json!({"group": "", "version": "v1", "kind": kind});
        json!({"subresource": name, "responseKind": kind, "verbs": verbs})
    };
    if !subresources(ty).is_empty() {
        let all = subresources(ty).iter().map(of_object);
        resource["subresources"] = all.collect();
    }
    resource
}
