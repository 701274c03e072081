//! Fields that exist and that kgit does not act on, by the type that has them. What is listed here
//! is named in a warning, so that nothing is dropped in silence; when kgit learns to act on a
//! field, its line goes.

/// Why a field has no effect; `None` where it has one, or where it only records something.
pub fn field(type_name: &str, field: &str) -> Option<&'static str> {
    Some(match (type_name, field) {
        ("ObjectMeta", "finalizers") => "nothing here runs finalizers",
        ("ConfigMap" | "Secret", "immutable") => "its content is what Git says, whatever that was",
        ("ObjectMeta", "ownerReferences") => "owners are kgit's to set",
        ("PodSpec", "priority") => "it follows from `priorityClassName`",
        ("PodSpec", "serviceAccountName" | "serviceAccount" | "automountServiceAccountToken") => {
            "pods get no service account here"
        }
        ("PodSpec", "runtimeClassName") => "containers run with the engine's own runtime",
        ("PodSpec", "schedulerName" | "schedulingGates") => "kgit places pods itself",
        ("PodSpec", "readinessGates") => "nothing here sets such conditions",
        ("PodSpec", "resourceClaims" | "resources" | "overhead") => {
            "only containers' cpu and memory count"
        }
        ("PodSpec", "ephemeralContainers") => "they can't be part of a manifest",
        ("PodSpec", "hostUsers" | "setHostnameAsFQDN" | "os") => "kgit does not act on it yet",
        ("PodSpec", "enableServiceLinks") => "service addresses are found by DNS only",
        ("Container", "resizePolicy") => "resources are not changed in place",
        ("Container", "stdinOnce") => "kgit keeps standard input open",
        ("Container", "volumeDevices") => "kgit does not attach block devices",
        ("Lifecycle", "stopSignal") => "the image's own stop signal is used",
        ("Probe", "grpc") => "kgit does not run gRPC probes yet",
        ("Probe", "terminationGracePeriodSeconds") => "the pod's own grace period is used",
        ("ResourceRequirements", "claims") => "kgit does not hand out devices",
        ("VolumeMount", "mountPropagation" | "recursiveReadOnly") => "mounts are private here",
        ("SecurityContext" | "PodSecurityContext", "seLinuxOptions" | "appArmorProfile") => {
            "the engine's own profile is used"
        }
        ("SecurityContext" | "PodSecurityContext", "windowsOptions") => {
            "kgit runs Linux containers"
        }
        ("SecurityContext", "procMount") => "the engine's own mask is used",
        ("PodSecurityContext", "seLinuxChangePolicy" | "supplementalGroupsPolicy") => {
            "the engine's own rule is used"
        }
        ("PodSecurityContext", "fsGroupChangePolicy") => "ownership is always set",
        ("VolumeProjection", "serviceAccountToken" | "clusterTrustBundle") => {
            "there is no Kubernetes API to speak to"
        }
        ("JobSpec", "successPolicy" | "podReplacementPolicy" | "managedBy") => {
            "kgit does not act on it yet"
        }
        ("PersistentVolumeClaimSpec", "dataSource" | "dataSourceRef") => "volumes start empty here",
        ("PersistentVolumeClaimSpec" | "PersistentVolumeSpec", "volumeAttributesClassName") => {
            "kgit does not act on it yet"
        }
        ("PersistentVolumeSpec" | "StorageClass", "mountOptions") => "kgit does not act on it yet",
        ("StorageClass", "allowedTopologies" | "allowVolumeExpansion") => {
            "kgit does not act on it yet"
        }
        ("ServiceSpec", "ipFamilies" | "ipFamilyPolicy") => "services have one address, of IPv4",
        ("HPAScalingRules", "tolerance") => "a tenth is tolerated",
        ("ServiceSpec", "loadBalancerClass") => "every LoadBalancer is at its nodes' own addresses",
        ("ServiceSpec", "loadBalancerIP") => "a LoadBalancer is at its nodes' own addresses",
        ("ServiceSpec", "loadBalancerSourceRanges") => "kgit filters no clients yet",
        ("ServiceSpec", "healthCheckNodePort") => "nothing asks for it here",
        ("ServiceSpec", "trafficDistribution") => "endpoints are chosen evenly",
        ("ServicePort", "appProtocol") => "traffic is passed on as it is",
        ("NamespaceSpec", "finalizers") => "nothing here runs finalizers",
        ("LocalVolumeSource", "fsType") => "kgit does not format disks",
        _ => return None,
    })
}

/// Where a field belongs that was written one level too high or too low.
pub fn belongs(type_name: &str, field: &str) -> Option<&'static str> {
    let of_a_pod = matches!(
        field,
        "containers"
            | "initContainers"
            | "volumes"
            | "restartPolicy"
            | "imagePullSecrets"
            | "nodeSelector"
            | "tolerations"
            | "affinity"
            | "hostNetwork"
    );
    let of_a_container = matches!(
        field,
        "image" | "command" | "args" | "env" | "envFrom" | "ports" | "volumeMounts" | "resources"
    );
    match type_name {
        "DeploymentSpec"
        | "ReplicaSetSpec"
        | "ReplicationControllerSpec"
        | "StatefulSetSpec"
        | "DaemonSetSpec"
        | "JobSpec"
            if of_a_pod =>
        {
            Some("it belongs under `template.spec`")
        }
        "PodTemplateSpec" if of_a_pod => Some("it belongs under `spec`"),
        "PodSpec" if of_a_container => Some("it belongs to one of the `containers`"),
        "Container" if of_a_pod => Some("it belongs to the pod, beside `containers`"),
        "Deployment"
        | "ReplicaSet"
        | "ReplicationController"
        | "StatefulSet"
        | "DaemonSet"
        | "Job"
        | "Pod"
        | "Service"
            if of_a_pod || matches!(field, "replicas" | "selector" | "template" | "ports") =>
        {
            Some("it belongs under `spec`")
        }
        _ => None,
    }
}

/// Written by a server, meaningless in a manifest: neither read nor shown.
pub fn is_server_side(type_name: &str, field: &str) -> bool {
    match type_name {
        "ObjectMeta" => SERVER_SIDE_METADATA.contains(&field),
        "PodFailurePolicyOnPodConditionsPattern" => false,
        _ => field == "status",
    }
}

pub const SERVER_SIDE_METADATA: [&str; 8] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "managedFields",
    "selfLink",
];
