//! How the repo's workloads are written, as the manifests that somebody would write.

use crate::item::{Item, Set, Web, What};

pub const STRATEGIES: [&str; 5] = [
    "{type: RollingUpdate}",
    "{type: RollingUpdate, rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}",
    "{type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}",
    "{type: RollingUpdate, rollingUpdate: {maxSurge: 50%, maxUnavailable: 34%}}",
    "{type: Recreate}",
];
const RECREATE: &str = STRATEGIES[4];

/// Of the pods: where they may run, and where they would rather.
pub const PLACES: [&str; 7] = [
    "",
    "nodeSelector: {disk: ssd}\n",
    "topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, \
     whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: NAME}}}]\n",
    "tolerations: [{key: maintenance, operator: Exists}]\n",
    "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: \
     [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: NAME}}}]}}\n",
    "affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 10, \
     preference: {matchExpressions: [{key: zone, operator: In, values: [z1]}]}}]}, \
     podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 5, \
     podAffinityTerm: {topologyKey: zone, labelSelector: {matchLabels: {app: NAME}}}}]}}\n",
    "tolerations: [{key: maintenance, operator: Exists, effect: NoExecute, \
     tolerationSeconds: 60}]\n",
];
/// The place that only some of its pods may find.
pub const APART: usize = 4;

pub const REQUESTS: [&str; 4] =
    ["cpu: 100m", "cpu: 300m, memory: 64Mi", "cpu: 1500m", "cpu: 2500m, memory: 1Gi"];

/// Names of priority classes.
pub const PRIORITIES: [&str; 4] = ["", "low", "high", "meek"];

pub const BUDGETS: [&str; 4] = ["", "minAvailable: 1", "maxUnavailable: 1", "minAvailable: 60%"];

/// How a container uses the config, and whether a change of it rolls the pods.
pub const CONFIGS: [&str; 5] = [
    "",
    ", envFrom: [{configMapRef: {name: settings}}]",
    ", envFrom: [{secretRef: {name: keys}}]",
    ", envFrom: [{configMapRef: {name: extra, optional: true}}]",
    ", envFrom: [{configMapRef: {name: settings}}, {configMapRef: {name: extra}}]",
];

pub const DAEMON_UPDATES: [&str; 4] = [
    "{type: RollingUpdate}",
    "{type: RollingUpdate, rollingUpdate: {maxUnavailable: 50%}}",
    "{type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}",
    "{type: OnDelete}",
];

pub const SET_UPDATES: [&str; 4] = [
    "{type: RollingUpdate}",
    "{type: RollingUpdate, rollingUpdate: {partition: 1}}",
    "{type: RollingUpdate, rollingUpdate: {maxUnavailable: 2}}",
    "{type: OnDelete}",
];

pub const RETENTIONS: [&str; 3] =
    ["{}", "{whenScaled: Delete}", "{whenDeleted: Delete, whenScaled: Retain}"];

/// In a repo with stages; what is nothing else comes with the wave 0.
pub const WAVES: [&str; 4] = ["0", "-1", "1", "2"];
/// The wave of what the others refer to.
pub const FIRST: &str = "sync-wave: \"-2\"";
pub const HOOKS: [&str; 4] = ["PreSync", "Sync", "PostSync", "SyncFail"];
pub const HOOK_POLICIES: [&str; 3] = ["BeforeHookCreation", "HookSucceeded", "HookFailed"];

pub const SCHEDULES: [&str; 3] = ["*/20 * * * *", "7,37 * * * *", "@hourly"];
pub const POLICIES: [&str; 3] = ["Allow", "Forbid", "Replace"];

/// Ways to write what can't be read, or can't be carried out.
pub const BROKEN: [&str; 4] = [
    "kind: [\n",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: odd}\ndatas: {a: b}\n",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {MODE: twice}\n",
    "apiVersion: v1\nkind: Pod\nmetadata: {name: odd, annotations: {kgit.dev/depends-on: \
     Pod/odd}}\nspec: {containers: [{name: main, image: \"web:1\"}]}\n",
];

pub const CLUSTER: &str = "apiVersion: kgit.dev/v1\nkind: Cluster\nspec: {rebalanceBudget: 2}\n";

pub fn classes() -> String {
    let class = |name: &str, value: i32, more: &str| {
        format!(
            "---\napiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\n\
             metadata: {{name: {name}}}\nvalue: {value}\n{more}"
        )
    };
    class("low", -10, "")
        + &class("high", 1000, "")
        + &class("meek", 500, "preemptionPolicy: Never\n")
}

pub fn config(kind: &str, name: &str, mode: u64) -> String {
    let data = if kind == "Secret" { "stringData" } else { "data" };
    format!(
        "apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}}}\n{data}: {{MODE: \"{mode}\"}}\n"
    )
}

/// One item's file.
pub fn text(item: &Item, name: &str, probe_seconds: u32) -> String {
    let text = plain(item, name, probe_seconds);
    match item.wave {
        0 => text,
        wave => staged(&text, &format!("sync-wave: \"{}\"", WAVES[wave])),
    }
}

/// Every object in the text with an annotation.
pub fn staged(text: &str, annotation: &str) -> String {
    let with = format!("\nmetadata: {{annotations: {{argocd.argoproj.io/{annotation}}}, name:");
    text.replace("\nmetadata: {name:", &with)
}

fn plain(item: &Item, name: &str, probe_seconds: u32) -> String {
    let writer = Writer { item, name, probe_seconds };
    match item.what {
        What::Web(web) => writer.web(web),
        What::Store { once_pod, shared } => {
            let mode = if once_pod { "ReadWriteOncePod" } else { "ReadWriteOnce" };
            let volume = if shared { export(name, mode) } else { String::new() };
            writer.deployment(1, RECREATE, 0, false, &writer.pods("", true, ""))
                + &claim(name, mode, shared)
                + &volume
        }
        What::Job { completions, parallelism, indexed, short_lived } => {
            let mut more = format!("completions: {completions}, parallelism: {parallelism}");
            more += if indexed { ", completionMode: Indexed" } else { "" };
            more += if short_lived { ", ttlSecondsAfterFinished: 100" } else { "" };
            format!("apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n")
                + &writer.job(&more, "  ")
        }
        What::Pod => format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n{}{}",
            writer.spec("", true, "", "  "),
            claim(name, "ReadWriteOnce", false)
        ),
        What::Set(set) => writer.set(set),
        What::Daemon { update, selective, min_ready } => {
            let place = if selective { "      nodeSelector: {disk: ssd}\n" } else { "" };
            let update = DAEMON_UPDATES[update];
            let more = format!("  updateStrategy: {update}\n  minReadySeconds: {min_ready}\n");
            writer.workload("apps/v1", "DaemonSet", &more, &(writer.pods("", false, "") + place))
        }
        What::Controller { older: false } => {
            let more = format!("  replicas: {}\n", item.replicas);
            writer.workload("apps/v1", "ReplicaSet", &more, &writer.pods("", false, ""))
        }
        What::Controller { older: true } => {
            let (replicas, pods) = (item.replicas, writer.pods("", false, ""));
            format!(
                "apiVersion: v1\nkind: ReplicationController\nmetadata: {{name: {name}}}\nspec:\n  \
                 replicas: {replicas}\n  selector: {{app: {name}}}\n  template:\n    metadata: \
                 {{labels: {{app: {name}}}}}\n    spec:\n{pods}"
            )
        }
        What::Cron { schedule, policy } => format!(
            "apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: {name}}}\nspec:\n  \
             schedule: \"{}\"\n  concurrencyPolicy: {}\n  startingDeadlineSeconds: 200\n  \
             jobTemplate:\n    spec:\n{}",
            SCHEDULES[schedule],
            POLICIES[policy],
            writer.job("completions: 1", "      ")
        ),
        What::Hook(hook) => {
            let (phase, policy, wave) =
                (HOOKS[hook.phase], HOOK_POLICIES[hook.policy], WAVES[hook.wave]);
            format!(
                "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: {name}\n  annotations:\n    \
                 argocd.argoproj.io/hook: {phase}\n    \
                 argocd.argoproj.io/hook-delete-policy: {policy}\n    \
                 kgit.dev/sync-wave: \"{wave}\"\nspec:\n"
            ) + &writer.job("completions: 1", "  ")
        }
    }
}

struct Writer<'a> {
    item: &'a Item,
    name: &'a str,
    probe_seconds: u32,
}

impl Writer<'_> {
    fn web(&self, web: Web) -> String {
        let mut main = CONFIGS[web.config].to_owned();
        if web.probe {
            main += &format!(
                ", readinessProbe: {{tcpSocket: {{port: 80}}, periodSeconds: {}}}",
                self.probe_seconds
            );
        }
        let side = if web.two { "      - {name: side, image: \"side:1\"}\n" } else { "" };
        let pods = self.pods(&main, false, side);
        let strategy = STRATEGIES[web.strategy];
        let name = self.name;
        let mut text =
            self.deployment(self.item.replicas, strategy, web.min_ready, web.paused, &pods);
        text += &format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  \
             type: NodePort\n  selector: {{app: {name}}}\n  ports: [{{port: 80}}]\n"
        );
        if web.scaled && web.strategy != 4 {
            text += &self.autoscaler();
        }
        text + &self.budget()
    }

    fn autoscaler(&self) -> String {
        let name = self.name;
        format!(
            "---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\n\
             metadata: {{name: {name}}}\nspec:\n  \
             scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: {name}}}\n  \
             minReplicas: 1\n  maxReplicas: 5\n  metrics: [{{type: Resource, resource: \
             {{name: cpu, target: {{type: Utilization, averageUtilization: 50}}}}}}]\n"
        )
    }

    fn budget(&self) -> String {
        let (name, bound) = (self.name, BUDGETS[self.item.budget]);
        if bound.is_empty() {
            return String::new();
        }
        format!(
            "---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {{name: {name}}}\n\
             spec: {{{bound}, selector: {{matchLabels: {{app: {name}}}}}}}\n"
        )
    }

    fn deployment(
        &self,
        replicas: u32,
        strategy: &str,
        min_ready: u32,
        paused: bool,
        pods: &str,
    ) -> String {
        let more = format!(
            "  replicas: {replicas}\n  minReadySeconds: {min_ready}\n  paused: {paused}\n  \
             strategy: {strategy}\n"
        );
        self.workload("apps/v1", "Deployment", &more, pods)
    }

    fn set(&self, set: Set) -> String {
        let (name, replicas) = (self.name, self.item.replicas);
        let policy = if set.parallel { "Parallel" } else { "OrderedReady" };
        let mut more = format!(
            "  replicas: {replicas}\n  serviceName: {name}\n  podManagementPolicy: {policy}\n  \
             updateStrategy: {}\n  minReadySeconds: {}\n  persistentVolumeClaimRetentionPolicy: {}\n",
            SET_UPDATES[set.update], set.min_ready, RETENTIONS[set.retention]
        );
        let mut main = CONFIGS[set.config].to_owned();
        if set.claims {
            main += ", volumeMounts: [{name: data, mountPath: /data}]";
            more += "  volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: \
                     [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]\n";
        }
        let pods = self.pods(&main, false, "");
        let text = self.workload("apps/v1", "StatefulSet", &more, &pods);
        let service = format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  \
             clusterIP: None\n  selector: {{app: {name}}}\n  ports: [{{port: 80}}]\n"
        );
        text + &service + &self.budget()
    }

    fn workload(&self, version: &str, kind: &str, more: &str, pods: &str) -> String {
        let name = self.name;
        let fenced = match self.item.fenced {
            true => "annotations: {kgit.dev/fence-after-seconds: \"300\"}, ",
            false => "",
        };
        format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n{more}  \
             selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    \
             metadata: {{{fenced}labels: {{app: {name}}}}}\n    spec:\n{pods}"
        )
    }

    fn job(&self, more: &str, indent: &str) -> String {
        let more: String = more.split(", ").map(|line| format!("{indent}{line}\n")).collect();
        let inner = format!("{indent}    ");
        let pods = self.spec("", false, "", &inner);
        format!(
            "{more}{indent}backoffLimit: 3\n{indent}template:\n{indent}  spec:\n{inner}\
             restartPolicy: Never\n{pods}"
        )
    }

    /// The pods of a template.
    fn pods(&self, main: &str, claimed: bool, side: &str) -> String {
        self.spec(main, claimed, side, "      ")
    }

    fn spec(&self, main: &str, claimed: bool, side: &str, indent: &str) -> String {
        let Item { image, place, requests, priority, .. } = self.item;
        let name = self.name;
        let mut text = format!("{indent}terminationGracePeriodSeconds: 10\n");
        let mounts = match claimed {
            true => ", volumeMounts: [{name: data, mountPath: /data}]",
            false => "",
        };
        if claimed {
            text += &format!(
                "{indent}volumes: [{{name: data, persistentVolumeClaim: {{claimName: {name}}}}}]\n"
            );
        }
        if !PLACES[*place].is_empty() && !matches!(self.item.what, What::Daemon { .. }) {
            text += &format!("{indent}{}", PLACES[*place].replace("NAME", name));
        }
        if !PRIORITIES[*priority].is_empty() {
            text += &format!("{indent}priorityClassName: {}\n", PRIORITIES[*priority]);
        }
        let requests = format!("resources: {{requests: {{{}}}}}", REQUESTS[*requests]);
        text + &format!(
            "{indent}containers:\n{indent}- {{name: main, image: \"{image}\", {requests}{main}{mounts}}}\n{side}"
        )
    }
}

/// A claim: of a volume of its own on the pod's node, or of one that all nodes reach.
fn claim(name: &str, mode: &str, shared: bool) -> String {
    let volume = match shared {
        true => format!("  volumeName: {name}\n  storageClassName: \"\"\n"),
        false => String::new(),
    };
    format!(
        "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\nspec:\n  \
         accessModes: [{mode}]\n  resources: {{requests: {{storage: 1Gi}}}}\n{volume}"
    )
}

fn export(name: &str, mode: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: {name}}}\nspec:\n  \
         capacity: {{storage: 1Gi}}\n  accessModes: [{mode}]\n  \
         nfs: {{server: nas, path: /exports/{name}}}\n"
    )
}
