//! What the less common fields of manifests come to. What follows from each is in its story.

use std::time::Duration;

use insta::assert_snapshot;
use kgit::domain::node_order::NodeOrder;

use crate::agents::Behaviour;
use crate::cluster::Cluster;
use crate::manifests::{daemon, job, stateful, web, web_with};

const MINUTE: Duration = Duration::from_secs(60);

/// A Pod `p` on the node `a`; `spec` as lines of its spec, `container` as lines of its container.
fn pod(spec: &str, container: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata:
  name: p
  labels: {{app: p, tier: one}}
  annotations: {{note: 'a \"b\"', other: c}}
spec:
{spec}  containers:
  - name: main
    image: main:1
{container}"
    )
}

/// The environment of the pods on the node `a`.
fn environment(cluster: &Cluster) -> String {
    let orders = cluster.orders("a");
    let containers = orders.pods.values().flat_map(|pod| &pod.spec.containers);
    let lines = containers
        .flat_map(|container| container.env.iter().map(|it| format!("{}={}\n", it.name, it.value)));
    lines.collect()
}

fn fields(paths: &[&str]) -> String {
    let variables = paths.iter().enumerate().map(|(index, path)| {
        format!("    - {{name: F{index}, valueFrom: {{fieldRef: {{fieldPath: \"{path}\"}}}}}}\n")
    });
    format!("    env:\n{}", variables.collect::<String>())
}

const PATHS: [&str; 13] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "metadata.labels['tier']",
    "metadata.labels['none']",
    "metadata.annotations['note']",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.podIP",
    "status.podIPs",
    "status.hostIP",
    "status.hostIPs",
    "metadata.annotations['other']",
];

#[test]
fn a_pod_learns_of_itself_by_the_downward_api() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("p.yaml", &pod("", &fields(&PATHS)))]);
    cluster.settle();
    assert_snapshot!(environment(&cluster), @r#"
    KUBERNETES_SERVICE_HOST=10.16.0.1
    KUBERNETES_SERVICE_PORT=443
    F0=p
    F1=default
    F2=0a71343b-aea9-846d-9256-af20d367315b
    F3=one
    F4=
    F5=a "b"
    F6=a
    F7=default
    F8=10.77.0.2
    F9=10.77.0.2
    F10=
    F11=
    F12=c
    "#);
    cluster.commit(&[("p.yaml", &pod("  hostNetwork: true\n", &fields(&PATHS)))]);
    cluster.settle();
    assert_snapshot!(environment(&cluster), @r#"
    KUBERNETES_SERVICE_HOST=10.16.0.1
    KUBERNETES_SERVICE_PORT=443
    F0=p
    F1=default
    F2=a4a2a0f5-49c1-827d-8e9d-94e343186ce2
    F3=one
    F4=
    F5=a "b"
    F6=a
    F7=default
    F8=
    F9=
    F10=
    F11=
    F12=c
    "#);
}

#[test]
fn and_of_what_its_containers_may_use() {
    let mut cluster = Cluster::new(&["a"]);
    let mut container = String::from(
        "    resources:
      requests: {cpu: 1500m, memory: 1Gi}
      limits: {cpu: 2500m, memory: 3000001k}
    env:
",
    );
    let asked = ["cpu=1", "cpu=1m", "memory=1", "memory=1k", "memory=1Ki", "memory=1M"];
    let asked = asked.into_iter().chain(["memory=1Mi", "memory=1G", "memory=1Gi"]);
    for (index, (resource, divisor)) in asked.map(|it| it.split_once('=').unwrap()).enumerate() {
        for side in ["limits", "requests"] {
            container += &format!(
                "    - {{name: {side}{index}, valueFrom: {{resourceFieldRef: \
                 {{containerName: main, resource: {side}.{resource}, divisor: \"{divisor}\"}}}}}}\n"
            );
        }
    }
    let other = "  - name: other\n    image: main:1\n    env:\n    \
                 - {name: OWN, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}\n    \
                 - {name: OF_MAIN, valueFrom: {resourceFieldRef: {containerName: main, resource: limits.cpu}}}\n";
    cluster.commit(&[("p.yaml", &(pod("", &container) + other))]);
    assert!(cluster.diagnostics().is_empty(), "{:?}", cluster.diagnostics());
    cluster.settle();
    assert_snapshot!(environment(&cluster), @"
    KUBERNETES_SERVICE_HOST=10.16.0.1
    KUBERNETES_SERVICE_PORT=443
    limits0=3
    requests0=2
    limits1=2500
    requests1=1500
    limits2=3000001000
    requests2=1073741824
    limits3=3000001
    requests3=1073742
    limits4=2929689
    requests4=1048576
    limits5=3001
    requests5=1074
    limits6=2862
    requests6=1024
    limits7=4
    requests7=2
    limits8=3
    requests8=1
    KUBERNETES_SERVICE_HOST=10.16.0.1
    KUBERNETES_SERVICE_PORT=443
    OWN=0
    OF_MAIN=3
    ");
}

#[test]
fn labels_and_annotations_as_files() {
    let mut cluster = Cluster::new(&["a"]);
    let spec = "  volumes:
  - name: info
    downwardAPI:
      items:
      - {path: labels, fieldRef: {fieldPath: metadata.labels}}
      - {path: annotations, fieldRef: {fieldPath: metadata.annotations}, mode: 0400}
";
    let container = "    volumeMounts: [{name: info, mountPath: /info}]\n";
    cluster.commit(&[("p.yaml", &pod(spec, container))]);
    cluster.settle();
    let orders = cluster.orders("a");
    let volumes = &orders.pods.values().next().unwrap().spec.volumes;
    assert_snapshot!(serde_json::to_string_pretty(volumes).unwrap(), @r#"
    [
      {
        "name": "info",
        "source": {
          "Files": {
            "files": [
              {
                "path": "labels",
                "mode": 420,
                "content": "YXBwPSJwIgp0aWVyPSJvbmUi"
              },
              {
                "path": "annotations",
                "mode": 256,
                "content": "bm90ZT0iYSBcImJcIiIKb3RoZXI9ImMi"
              }
            ],
            "secret": false
          }
        }
      }
    ]
    "#);
}

#[test]
fn names_are_looked_up_as_the_pod_says() {
    let cases = [
        "",
        "  dnsPolicy: Default\n",
        "  hostNetwork: true\n",
        "  hostNetwork: true\n  dnsPolicy: ClusterFirstWithHostNet\n",
        "  dnsPolicy: None\n  dnsConfig: {nameservers: [10.0.0.1], searches: [x.y], options: [{name: ndots, value: \"2\"}]}\n",
        "  dnsConfig: {options: [{name: ndots, value: \"2\"}]}\n",
    ];
    let said = cases.map(|case| {
        let mut cluster = Cluster::new(&["a"]);
        cluster.commit(&[("p.yaml", &pod(case, ""))]);
        let orders = cluster.orders("a");
        let dns = &orders.pods.values().next().unwrap().spec.dns;
        format!("{} {:?} {:?} {:?}", dns.cluster, dns.nameservers, dns.searches, dns.options)
    });
    assert_snapshot!(said.join("\n"), @r#"
    true [] ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"] ["ndots:5"]
    false [] [] []
    false [] [] []
    true [] ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"] ["ndots:5"]
    false ["10.0.0.1"] ["x.y"] ["ndots:2"]
    true [] ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"] ["ndots:2"]
    "#);
}

#[test]
fn registries_are_logged_in_to_with_pull_secrets() {
    let mut cluster = Cluster::new(&["a"]);
    let secret = "apiVersion: v1
kind: Secret
metadata: {name: login}
type: kubernetes.io/dockerconfigjson
stringData:
  .dockerconfigjson: >-
    {\"auths\": {\"one.example\": {\"username\": \"u\", \"password\": \"p\", \"auth\": \"eDp5\"},
    \"two.example\": {\"auth\": \"YTpiOmM=\"}, \"three.example\": {\"username\": \"u\"},
    \"four.example\": {\"auth\": \"YQ==\"}}}
";
    cluster.commit(&[
        ("secret.yaml", secret),
        ("p.yaml", &pod("  imagePullSecrets: [{name: login}]\n", "")),
    ]);
    cluster.settle();
    let orders = cluster.orders("a");
    let logins = &orders.pods.values().next().unwrap().spec.registry_logins;
    let said = logins.iter().map(|it| format!("{} {} {}", it.registry, it.username, it.password));
    assert_snapshot!(said.collect::<Vec<_>>().join("\n"), @"
    one.example u p
    two.example a b:c
    ");
}

#[test]
fn a_key_that_is_not_there_is_waited_for_unless_it_is_optional() {
    let mut cluster = Cluster::new(&["a"]);
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {here: '1'}\n";
    let volume = |optional: &str| {
        format!(
            "  volumes: [{{name: v, configMap: {{name: c{optional}, items: [{{key: here, path: a}}, \
             {{key: gone, path: b, mode: 0400}}]}}}}]\n"
        )
    };
    let mount = "    volumeMounts: [{name: v, mountPath: /v}]\n";
    cluster.commit(&[("c.yaml", config), ("p.yaml", &pod(&volume(""), mount))]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"Pod/default/p waits for a place for pod `p`: ConfigMap `c` to have the key `gone`");
    cluster.commit(&[("p.yaml", &pod(&volume(", optional: true"), mount))]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"");
    let orders = cluster.orders("a");
    let volumes = &orders.pods.values().next().unwrap().spec.volumes;
    assert_snapshot!(serde_json::to_string(volumes).unwrap(), @r#"[{"name":"v","source":{"Files":{"files":[{"path":"a","mode":420,"content":"MQ=="}],"secret":false}}}]"#);
}

#[test]
fn a_secret_rolls_its_pods_as_a_config_map_does() {
    let mut cluster = Cluster::new(&["a"]);
    let secret = |value: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{KEY: {value}}}\n"
        )
    };
    let uses = web_with("web:1", 2, "        envFrom: [{secretRef: {name: s}}]\n");
    cluster.commit(&[("s.yaml", &secret("one")), ("web.yaml", &uses)]);
    cluster.settle();
    cluster.commit(&[("s.yaml", &secret("two"))]);
    cluster.settle();
    assert_snapshot!(environment(&cluster), @"
    KUBERNETES_SERVICE_HOST=10.16.0.1
    KUBERNETES_SERVICE_PORT=443
    KEY=two
    KUBERNETES_SERVICE_HOST=10.16.0.1
    KUBERNETES_SERVICE_PORT=443
    KEY=two
    ");
    cluster.ends_quietly();
}

#[test]
fn an_index_that_the_manifest_sets_itself_is_left_alone() {
    let mut cluster = Cluster::new(&["a"]);
    let more = "  completionMode: Indexed\n  completions: 2\n  parallelism: 2\n";
    let own = job("batch", "batch:1", more)
        + "        env: [{name: JOB_COMPLETION_INDEX, value: mine}, {name: OTHER, value: x}]\n";
    cluster.commit(&[("job.yaml", &own)]);
    assert_snapshot!(environment(&cluster), @"
    KUBERNETES_SERVICE_HOST=10.16.0.1
    KUBERNETES_SERVICE_PORT=443
    JOB_COMPLETION_INDEX=mine
    OTHER=x
    KUBERNETES_SERVICE_HOST=10.16.0.1
    KUBERNETES_SERVICE_PORT=443
    JOB_COMPLETION_INDEX=mine
    OTHER=x
    ");
}

#[test]
fn a_finished_job_whose_template_changes_runs_again() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("job.yaml", &job("batch", "batch:1", ""))]);
    cluster.settle();
    cluster.commit(&[("job.yaml", &job("batch", "batch:2", ""))]);
    cluster.settle();
    cluster.ends_quietly();
}

#[test]
fn a_deployment_that_is_scaled_in_mid_rollout_shares_out() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("web.yaml", &web("web:1", 10))]);
    cluster.settle();
    cluster.behaviour.insert("web".to_owned(), Behaviour::NeverReady);
    cluster.commit(&[("web.yaml", &web("web:2", 10))]);
    cluster.agents_act_on_new_pods_only();
    for replicas in [15, 12, 4] {
        cluster.commit(&[("web.yaml", &web("web:2", replicas))]);
        cluster.agents_act_on_new_pods_only();
    }
}

/// The sizes of `web`'s revisions, the oldest first.
fn sizes(cluster: &Cluster) -> Vec<u32> {
    let world = cluster.world();
    let mut sets: Vec<(u64, u32)> =
        world.replica_sets.values().map(|set| (set.revision, set.replicas)).collect();
    sets.sort_unstable();
    sets.into_iter().map(|(_, size)| size).collect()
}

/// A rollout of ten pods by this strategy, held up by new ones that do not get ready.
fn held_up(strategy: &str) -> Cluster {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("web.yaml", &rolled_by("web:1", 10, strategy))]);
    cluster.settle();
    cluster.behaviour.insert("web".to_owned(), Behaviour::NeverReady);
    cluster.commit(&[("web.yaml", &rolled_by("web:2", 10, strategy))]);
    cluster.agents_act_on_new_pods_only();
    cluster
}

fn rolled_by(image: &str, replicas: u32, strategy: &str) -> String {
    let strategy = format!("spec:\n  strategy: {{rollingUpdate: {{{strategy}}}}}\n  replicas");
    web(image, replicas).replace("spec:\n  replicas", &strategy)
}

#[test]
fn each_revisions_share_of_a_new_scale_is_in_proportion_to_the_surge_it_was_made_with() {
    let surge = "maxSurge: 3, maxUnavailable: 0";
    let mut cluster = held_up(surge);
    assert_eq!(sizes(&cluster), [10, 3]);
    cluster.commit(&[("web.yaml", &rolled_by("web:2", 20, surge))]);
    assert_eq!(sizes(&cluster), [18, 5]);
}

#[test]
fn of_two_revisions_as_large_as_each_other_the_newer_one_grows_first() {
    let check = |replicas: u32, strategy: &str, expected: [u32; 2]| {
        let mut cluster = held_up("maxSurge: 0, maxUnavailable: 5");
        assert_eq!(sizes(&cluster), [5, 5]);
        cluster.commit(&[("web.yaml", &rolled_by("web:2", replicas, strategy))]);
        assert_eq!(sizes(&cluster), expected, "{replicas} by {strategy}");
    };
    check(13, "maxSurge: 0, maxUnavailable: 5", [6, 7]);
    check(12, "maxSurge: 3, maxUnavailable: 5", [7, 8]);
}

#[test]
fn a_stateful_set_and_a_daemon_set_of_one_name_have_revisions_of_their_own() {
    let mut cluster = Cluster::new(&["a"]);
    let set =
        stateful("log:1", 1, "").replace("name: db", "name: log").replace("app: db", "app: log");
    let set = set.split("        volumeMounts").next().unwrap().to_owned();
    cluster.commit(&[("set.yaml", &set), ("daemon.yaml", &daemon("log:1", "", ""))]);
    cluster.settle();
    cluster.ends_quietly();
}

#[test]
fn services_with_a_name_elsewhere_several_ports_and_addresses_that_are_asked_for() {
    let service = |name: &str, spec: &str| {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {spec}\n")
    };
    let mut cluster = Cluster::new(&["a", "b"]);
    let two = "[{name: x, port: 80, nodePort: 30080}, {name: y, port: 81}, \
               {name: u, port: 80, protocol: UDP, nodePort: 30080}]";
    cluster.commit(&[
        ("web.yaml", &web("web:1", 2)),
        ("out.yaml", &service("out", "{type: ExternalName, externalName: db.example.org}")),
        (
            "two.yaml",
            &service("two", &format!("{{type: NodePort, selector: {{app: web}}, ports: {two}}}")),
        ),
        (
            "asked.yaml",
            &service("asked", "{clusterIP: 10.16.3.4, selector: {app: web}, ports: [{port: 80}]}"),
        ),
        (
            "balanced.yaml",
            &service("balanced", "{type: LoadBalancer, selector: {app: web}, ports: [{port: 80}]}"),
        ),
    ]);
    cluster.settle();
    cluster.commit(&[
        ("again.yaml", &service("again", "{clusterIP: 10.16.3.4, selector: {app: web}, ports: [{port: 80}]}")),
        ("outside.yaml", &service("outside", "{clusterIP: 10.99.0.1, selector: {app: web}, ports: [{port: 80}]}")),
        ("api.yaml", &service("api", "{clusterIP: 10.16.0.1, selector: {app: web}, ports: [{port: 80}]}")),
        ("taken.yaml", &service("taken", "{type: NodePort, selector: {app: web}, ports: [{port: 80, nodePort: 30080}]}")),
        ("out.yaml", &service("out", "{selector: {app: web}, ports: [{port: 80}]}")),
        ("two.yaml", &service("two", "{type: NodePort, selector: {app: web}, ports: [{name: x, port: 80}, {name: y, port: 81}]}")),
        ("plain.yaml", &service("plain", "{type: LoadBalancer, allocateLoadBalancerNodePorts: false, selector: {app: web}, ports: [{port: 80}]}")),
    ]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"
    Service/default/again waits for the address 10.16.3.4, which another service has
    Service/default/api waits for the address 10.16.0.1, which another service has
    Service/default/outside waits for the address 10.99.0.1, which is outside the range 10.16.0.0/16
    ");
    cluster.commit(&[("asked.yaml", ""), ("two.yaml", "")]);
    cluster.settle();
    assert_snapshot!(cluster.waits().join("\n"), @"
    Service/default/api waits for the address 10.16.0.1, which another service has
    Service/default/outside waits for the address 10.99.0.1, which is outside the range 10.16.0.0/16
    ");
}

/// Claims of one node, of one pod, and of many, with a pod each on both nodes.
#[test]
fn by_its_access_modes_a_claim_keeps_pods_together_alone_or_apart() {
    for mode in ["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"] {
        let mut cluster = Cluster::new(&["a", "b"]);
        let claim = format!(
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: data}}\nspec:\n  \
             accessModes: [{mode}]\n  storageClassName: shared\n  volumeName: share\n  \
             resources: {{requests: {{storage: 1Gi}}}}\n"
        );
        let volume = format!(
            "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: share}}\nspec:\n  \
             storageClassName: shared\n  capacity: {{storage: 1Gi}}\n  accessModes: [{mode}]\n  \
             nfs: {{server: nfs.example, path: /srv}}\n"
        );
        let user = |name: &str, node: &str| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  \
                 nodeSelector: {{kubernetes.io/hostname: {node}}}\n  containers:\n  \
                 - {{name: main, image: 'main:1', volumeMounts: [{{name: data, mountPath: /data}}]}}\n  \
                 volumes: [{{name: data, persistentVolumeClaim: {{claimName: data}}}}]\n"
            )
        };
        let files =
            [("claim.yaml", claim), ("volume.yaml", volume), ("one.yaml", user("one", "a"))];
        cluster.commit(&files.each_ref().map(|(path, text)| (*path, text.as_str())));
        cluster.settle();
        cluster.commit(&[("two.yaml", &user("two", "b")), ("three.yaml", &user("three", "a"))]);
        cluster.settle();
        cluster.commit(&[("one.yaml", "")]);
        cluster.settle();
        cluster.commit(&[("three.yaml", "")]);
        cluster.settle();
    }
}

#[test]
fn budgets_count_the_pods_of_every_kind_of_workload() {
    let budget = |name: &str, app: &str, bound: &str| {
        format!(
            "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {{name: {name}}}\n\
             spec: {{{bound}, selector: {{matchLabels: {{app: {app}}}}}}}\n"
        )
    };
    let set = web("web:1", 3).replace("kind: Deployment", "kind: ReplicaSet").replace("web", "set");
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.commit(&[
        ("set.yaml", &set),
        ("web.yaml", &web("web:1", 4)),
        ("db.yaml", &stateful("db:1", 5, "")),
        ("log.yaml", &daemon("log:1", "", "")),
        ("b1.yaml", &budget("set", "set", "maxUnavailable: 50%")),
        ("b2.yaml", &budget("web", "web", "maxUnavailable: 50%")),
        ("b3.yaml", &budget("db", "db", "maxUnavailable: 50%")),
        ("b4.yaml", &budget("log", "log", "maxUnavailable: 50%")),
        ("b5.yaml", &budget("least", "web", "minAvailable: 30%")),
    ]);
    cluster.settle();
    cluster.pass(MINUTE);
    cluster.ends_quietly();
}

#[test]
fn a_drain_asks_the_budgets_of_pods_that_are_not_healthy_too() {
    for policy in ["AlwaysAllow", "IfHealthyBudget"] {
        for bound in ["minAvailable: 1", "minAvailable: 2", "minAvailable: 0"] {
            let mut cluster = Cluster::new(&["a", "b"]);
            let budget = format!(
                "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {{name: web}}\nspec: \
                 {{{bound}, unhealthyPodEvictionPolicy: {policy}, selector: {{matchLabels: {{app: web}}}}}}\n"
            );
            cluster.commit(&[("web.yaml", &web("web:1", 2)), ("budget.yaml", &budget)]);
            cluster.settle();
            let all = cluster.pods();
            let on_a = all.iter().find(|pod| pod.node().is_some_and(|node| node.as_str() == "a"));
            let bad = on_a.unwrap().key.name.to_string();
            cluster.behaviour.insert(bad, Behaviour::NeverReady);
            cluster.settle();
            cluster
                .order(
                    "a",
                    NodeOrder::Drain { grace_seconds: None, delete_empty_dirs: true, force: false },
                )
                .unwrap();
            cluster.pass(MINUTE);
        }
    }
}

#[test]
fn binary_data_is_for_files_only() {
    let config = "apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {MODE: fast}
binaryData: {BLOB: AAEC}
";
    let container = "    envFrom: [{configMapRef: {name: settings}}]
    env:
    - name: KEY
      valueFrom: {configMapKeyRef: {name: settings, key: BLOB, optional: true}}
    volumeMounts: [{name: files, mountPath: /files}]
";
    let volumes = "  volumes: [{name: files, configMap: {name: settings}}]\n";
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("config.yaml", config), ("pod.yaml", &pod(volumes, container))]);
    cluster.settle();
    assert_snapshot!(environment(&cluster), @"
    KUBERNETES_SERVICE_HOST=10.16.0.1
    KUBERNETES_SERVICE_PORT=443
    MODE=fast
    ");
    let orders = cluster.orders("a");
    let volumes = orders.pods.values().flat_map(|pod| &pod.spec.volumes);
    let told = volumes.map(|volume| serde_json::to_string(&volume.source).unwrap());
    let told = told.collect::<String>();
    assert!(told.contains("BLOB") && told.contains("MODE"), "{told}");
}

#[test]
fn a_pod_with_a_subdomain_has_a_whole_name() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.commit(&[("pod.yaml", &pod("  hostname: one\n  subdomain: sub\n", ""))]);
    cluster.settle();
    let orders = cluster.orders("a");
    let spec = &orders.pods.values().next().unwrap().spec;
    assert_eq!(
        (spec.hostname.as_str(), spec.domain.as_deref()),
        ("one", Some("sub.default.svc.cluster.local"))
    );
}
