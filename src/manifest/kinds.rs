//! Which documents are for kgit: what an apiVersion and a kind stand for.

use crate::domain::key::Kind;
use crate::manifest::findings::did_you_mean;

/// What is to become of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Object(Kind),
    /// Its `items` are documents of their own; they may leave out what the list's kind says.
    List {
        item: Option<Kind>,
    },
    /// The repo's own settings.
    Settings,
    /// Planned, but not run yet.
    NotYet,
    /// Exists, and means nothing here, for this reason.
    Skipped(&'static str),
    /// An error, and what to write instead.
    Refused {
        message: String,
        hint: Option<String>,
    },
}

/// Kubernetes kinds that kgit is going to run, with their versions of today.
const NOT_YET: [(&str, &str); 5] = [
    ("Ingress", "networking.k8s.io/v1"),
    ("Endpoints", "v1"),
    ("EndpointSlice", "discovery.k8s.io/v1"),
    ("ServiceAccount", "v1"),
    ("Node", "v1"),
];

/// Kinds of Kubernetes' own groups that have no meaning on plain Docker hosts.
const MEANINGLESS: [(&str, &str); 25] = [
    ("NetworkPolicy", "kgit enforces no network policies"),
    ("LimitRange", "kgit enforces no limits by namespace"),
    ("ResourceQuota", "kgit enforces no quotas"),
    ("RuntimeClass", "containers run with the engine's own runtime"),
    ("IngressClass", "there is one way in here"),
    ("CSIDriver", STORAGE_DRIVERS),
    ("CSINode", STORAGE_DRIVERS),
    ("VolumeAttachment", STORAGE_DRIVERS),
    ("PodTemplate", "nothing starts pods from it"),
    ("PodSecurityPolicy", "what a node allows is set on that node"),
    ("Event", "events are not manifests"),
    ("Lease", "leases are not manifests"),
    ("Binding", "kgit places pods itself"),
    ("ComponentStatus", "it is not a manifest"),
    ("ControllerRevision", "kgit keeps revisions itself"),
    ("Config", "a kubeconfig is not a manifest"),
    ("Status", "it is an answer, not a manifest"),
    ("PodPreset", "Kubernetes has given it up"),
    ("Policy", "it is a setting of kube-scheduler"),
    ("CSIStorageCapacity", STORAGE_DRIVERS),
    ("VolumeAttributesClass", STORAGE_DRIVERS),
    ("Workload", PLACED_SINGLY),
    ("PodGroup", PLACED_SINGLY),
    ("IPAddress", "kgit gives addresses itself"),
    ("ServiceCIDR", "kgit chooses the range of services itself"),
];
const PLACED_SINGLY: &str = "pods are placed one by one here";
const STORAGE_DRIVERS: &str = "kgit uses no storage drivers";

/// Groups of Kubernetes that hold nothing else.
const MEANINGLESS_GROUPS: [(&str, &str); 15] = [
    ("rbac.authorization.k8s.io", "access is given by kgit's own tokens and roles"),
    ("apiextensions.k8s.io", "there are no custom resources here"),
    ("apiregistration.k8s.io", "there are no added API servers here"),
    ("admissionregistration.k8s.io", "there are no admission webhooks here"),
    ("node.k8s.io", "containers run with the engine's own runtime"),
    ("coordination.k8s.io", "leases are not manifests"),
    ("certificates.k8s.io", "kgit signs no requests of others"),
    ("flowcontrol.apiserver.k8s.io", "there is no Kubernetes API server here"),
    ("internal.apiserver.k8s.io", "there is no Kubernetes API server here"),
    ("resource.k8s.io", "kgit hands out no devices"),
    ("events.k8s.io", "events are not manifests"),
    ("authentication.k8s.io", "it is a question to an API server, not a manifest"),
    ("authorization.k8s.io", "it is a question to an API server, not a manifest"),
    ("audit.k8s.io", SETTINGS),
    ("kubeadm.k8s.io", SETTINGS),
];
/// Groups of the settings of Kubernetes' programs end so.
const SETTINGS_GROUPS: &str = ".config.k8s.io";
const SETTINGS: &str = "these are settings of another program";

/// Groups in which an unknown kind is a mistake, not somebody's extension.
const OWN_GROUPS: [&str; 10] = [
    "",
    "apps",
    "batch",
    "extensions",
    "autoscaling",
    "policy",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "networking.k8s.io",
    "discovery.k8s.io",
];

/// The kinds that kgit runs today; nodes and revisions are not among them.
fn runs(kind: &str) -> Option<Kind> {
    kind.parse().ok().filter(|kind| !matches!(kind, Kind::Node | Kind::ControllerRevision))
}

pub fn classify(api_version: &str, kind: &str) -> Verdict {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    if group == "kgit.dev" {
        return own(api_version, kind);
    }
    if let Some((_, reason)) = MEANINGLESS_GROUPS.iter().find(|(name, _)| *name == group) {
        return Verdict::Skipped(reason);
    }
    if group.ends_with(SETTINGS_GROUPS) {
        return Verdict::Skipped(SETTINGS);
    }
    let is_own = OWN_GROUPS.contains(&group) && (!group.is_empty() || is_version(api_version));
    if !is_own && group.contains('.') {
        return Verdict::Skipped("there are no custom resources here");
    }
    if let Some(verdict) = list(api_version, kind) {
        return verdict;
    }
    let versions = versions_of(kind);
    if versions.contains(&api_version) {
        return runs(kind).map_or(Verdict::NotYet, Verdict::Object);
    }
    if let Some(version) = versions.first() {
        return wrong_version(api_version, kind, version);
    }
    if !is_own {
        return Verdict::Skipped("this is not a Kubernetes kind");
    }
    match MEANINGLESS.iter().find(|(name, _)| *name == kind) {
        Some((_, reason)) => Verdict::Skipped(reason),
        None => unknown_kind(api_version, kind),
    }
}

/// `v1`, `v1beta2`: other programs have versions of other forms.
fn is_version(text: &str) -> bool {
    let digits = text.strip_prefix('v').unwrap_or_default();
    digits.starts_with(|first: char| first.is_ascii_digit())
}

/// The apiVersions that a kind is read from, today's first; none for kinds that kgit knows not.
fn versions_of(kind: &str) -> Vec<&'static str> {
    match runs(kind) {
        Some(Kind::HorizontalPodAutoscaler) => vec!["autoscaling/v2", "autoscaling/v1"],
        Some(kind) => vec![kind.api_version()],
        None => NOT_YET.iter().filter(|(name, _)| *name == kind).map(|it| it.1).collect(),
    }
}

fn own(api_version: &str, kind: &str) -> Verdict {
    if api_version == "kgit.dev/v1" && kind == "Cluster" {
        return Verdict::Settings;
    }
    let message = format!("kgit has no {kind} of apiVersion `{api_version}`");
    let hint = Some("write `apiVersion: kgit.dev/v1` and `kind: Cluster`".to_owned());
    Verdict::Refused { message, hint }
}

/// `List`, or the list of one kind, as `kubectl get -o yaml` prints them.
fn list(api_version: &str, kind: &str) -> Option<Verdict> {
    let item = kind.strip_suffix("List")?;
    if item.is_empty() && api_version == "v1" {
        return Some(Verdict::List { item: None });
    }
    let item = runs(item).filter(|kind| kind.api_version() == api_version)?;
    Some(Verdict::List { item: Some(item) })
}

fn wrong_version(api_version: &str, kind: &str, today: &str) -> Verdict {
    let old = api_version.contains("beta") || api_version.contains("alpha");
    let message = match old {
        true => format!("`{api_version}` is an old apiVersion of {kind}"),
        false => format!("there is no {kind} in apiVersion `{api_version}`"),
    };
    let mut hint = format!("write `apiVersion: {today}`");
    if old && matches!(api_version, "v1beta1" | "v1beta2" | "v1beta3") {
        hint.push_str(", `metadata.name` for `id`, and `spec` for `desiredState`");
    } else if old && matches!(kind, "Deployment" | "ReplicaSet" | "DaemonSet" | "StatefulSet") {
        hint.push_str("; it needs a `spec.selector` that matches the template's labels");
    }
    Verdict::Refused { message, hint: Some(hint) }
}

fn unknown_kind(api_version: &str, kind: &str) -> Verdict {
    let known = Kind::ALL.iter().map(|kind| kind.as_str()).filter(|kind| runs(kind).is_some());
    let known = known.chain(NOT_YET.iter().map(|it| it.0)).chain(MEANINGLESS.iter().map(|it| it.0));
    let message = format!("there is no kind `{kind}` in apiVersion `{api_version}`");
    Verdict::Refused { message, hint: did_you_mean(kind, known) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart_by_group_and_name() {
        assert_eq!(classify("apps/v1", "Deployment"), Verdict::Object(Kind::Deployment));
        assert_eq!(classify("v1", "List"), Verdict::List { item: None });
        assert_eq!(classify("v1", "ConfigMapList"), Verdict::List { item: Some(Kind::ConfigMap) });
        assert_eq!(classify("kgit.dev/v1", "Cluster"), Verdict::Settings);
        assert_eq!(classify("networking.k8s.io/v1", "Ingress"), Verdict::NotYet);
        assert!(matches!(classify("serving.knative.dev/v1", "Service"), Verdict::Skipped(_)));
        assert!(matches!(classify("builtin", "LabelTransformer"), Verdict::Skipped(_)));
        assert!(matches!(classify("v1", "Policy"), Verdict::Skipped(_)));
        assert!(matches!(classify("scheduling.k8s.io/v1alpha2", "Workload"), Verdict::Skipped(_)));
        let why = |version, kind| match classify(version, kind) {
            Verdict::Skipped(why) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(why("skaffold/v2", "Config"), "this is not a Kubernetes kind");
        assert_eq!(why("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration"), SETTINGS);
        assert_eq!(why("resource.k8s.io/v1", "ResourceClaim"), "kgit hands out no devices");
        assert!(matches!(classify("v1", "Servise"), Verdict::Refused { .. }));
        assert!(matches!(classify("1", "Pod"), Verdict::Refused { .. }));
        assert!(matches!(classify("rbac.authorization.k8s.io/v1", "Role"), Verdict::Skipped(_)));
    }

    #[test]
    fn mistakes_are_told_with_what_to_write() {
        let hint = |version, kind| match classify(version, kind) {
            Verdict::Refused { hint, .. } => hint.unwrap_or_default(),
            other => panic!("{other:?}"),
        };
        assert_eq!(hint("v1", "Deployment"), "write `apiVersion: apps/v1`");
        assert_eq!(hint("app/v1", "Deployment"), "write `apiVersion: apps/v1`");
        assert_eq!(hint("apps/v1", "Deploymnet"), "did you mean `Deployment`?");
        assert_eq!(hint("v1", "pod"), "did you mean `Pod`?");
        assert!(hint("v1beta1", "Pod").contains("`spec` for `desiredState`"));
        assert!(hint("extensions/v1beta1", "Deployment").contains("spec.selector"));
        assert!(hint("batch/v1beta1", "CronJob").contains("batch/v1"));
    }
}
