//! What manifests mean once they are lowered: the defaults, and what is resolved on the way.

use kgit_protocol::pod::{Handler, Protocol, PullPolicy, RestartPolicy};

use super::{accepted, report};
use crate::domain::resource::{
    AccessMode, BindingMode, IntOrPercent, ReclaimPolicy, ReferenceKind, Spec, Strategy, TargetPort,
};
use crate::domain::template::{EnvSource, Projection, VolumeTemplateSource};

const DEPLOYMENT: &str = "=== web.yaml
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      securityContext: {runAsUser: 1000, fsGroup: 2000}
      containers:
      - name: web
        image: nginx
        ports:
        - {name: http, containerPort: 8080}
        resources:
          limits: {cpu: 0.5, memory: 64Mi}
        readinessProbe:
          httpGet: {port: http}
        securityContext: {runAsUser: 1001}
";

#[test]
fn a_deployment_has_upstreams_defaults() {
    let web = accepted(DEPLOYMENT, "Deployment/default/web");
    let Spec::Deployment(spec) = &web.spec else { panic!() };
    let quarter = IntOrPercent::Percent(25);
    assert_eq!(spec.replicas, 1);
    assert_eq!(
        spec.strategy,
        Strategy::RollingUpdate { max_surge: quarter, max_unavailable: quarter }
    );
    assert_eq!((spec.revision_history_limit, spec.progress_deadline_seconds), (10, 600));
    assert_eq!(spec.template.termination_grace_seconds, 30);
    assert_eq!(spec.template.restart_policy, RestartPolicy::Always);
    assert_eq!(spec.template.network.dns_policy, "ClusterFirst");
    assert!(web.references.is_empty());
}

#[test]
fn a_container_has_upstreams_defaults() {
    let web = accepted(DEPLOYMENT, "Deployment/default/web");
    let container = &web.template().unwrap().containers[0];
    assert_eq!(container.pull_policy, PullPolicy::Always);
    assert_eq!(container.ports[0].protocol, Protocol::Tcp);
    assert_eq!(container.resources.cpu_request_millis, Some(500));
    assert_eq!(container.resources.memory_request_bytes, Some(64 << 20));
    assert_eq!(container.security.run_as_user, Some(1001));
    assert_eq!(container.termination_message_path, "/dev/termination-log");
    let probe = container.readiness.as_ref().unwrap();
    assert!(matches!(&probe.handler, Handler::Http { port: 8080, path, .. } if path == "/"));
    let numbers = (probe.initial_delay_seconds, probe.period_seconds, probe.timeout_seconds);
    assert_eq!(numbers, (0, 10, 1));
    assert_eq!((probe.success_threshold, probe.failure_threshold), (1, 3));
}

#[test]
fn the_manifest_is_kept_as_written_and_its_fields_have_places() {
    let text = "=== a.yaml
apiVersion: v1
kind: Namespace
metadata:
  name: a
  uid: 1-2-3
  creationTimestamp: null
  annotations:
    b.c/d: 'x'
status: {phase: Active}
";
    let a = accepted(text, "Namespace/a");
    insta::assert_snapshot!(
        a.manifest.value(),
        @r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"annotations":{"b.c/d":"x"},"name":"a"}}"#
    );
    assert_eq!(a.fields.nearest("/metadata/annotations/b.c~1d"), Some((8, 5)));
    assert_eq!(a.fields.nearest("/metadata/name"), Some((4, 3)));
    let moved = accepted(&format!("=== b.yaml\n# moved\n{}", &text[11..]), "Namespace/a");
    assert_eq!(a.digest, moved.digest);
}

#[test]
fn scalars_are_read_as_kubectl_reads_them() {
    let text = "=== pod.yaml
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  hostNetwork: no
  containers:
  - {name: a, image: 'a:1', tty: on}
  volumes:
  - name: config
    configMap: {name: c, defaultMode: 0600, optional: yes}
";
    let pod = accepted(text, "Pod/default/p");
    let template = pod.template().unwrap();
    assert!(template.containers[0].tty && !template.network.host_network);
    let VolumeTemplateSource::Projected { default_mode, sources } = &template.volumes[0].source
    else {
        panic!()
    };
    assert_eq!(*default_mode, 0o600);
    assert!(matches!(sources[0], Projection::Config { optional: true, items: None, .. }));
    assert_eq!(pod.references[0].kind, ReferenceKind::Optional);
}

#[test]
fn anchors_and_merge_keys_are_resolved() {
    let text = "=== a.yaml
apiVersion: v1
kind: Pod
metadata: {name: p, labels: &labels {app: p}, annotations: {<<: *labels, own: x}}
spec:
  containers:
  - &first
    name: a
    image: &image a:1
    env: [{name: X, value: '1'}]
  - <<: *first
    name: b
    image: *image
";
    let pod = accepted(text, "Pod/default/p");
    assert_eq!(pod.annotations["app"], "p");
    let containers = &pod.template().unwrap().containers;
    assert_eq!((containers[1].name.as_str(), containers[1].image.as_str()), ("b", "a:1"));
    assert_eq!(containers[1].env[0].value, EnvSource::Literal("1".into()));
}

#[test]
fn a_service_has_upstreams_defaults() {
    let text = "=== a.json
{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": \"a\"},
 \"spec\": {\"clusterIP\": \"None\", \"ports\": [{\"port\": 80}, {\"port\": 81, \"name\": \"b\"}]}}
";
    assert!(report(text).contains("each port needs a name"));
    let text = text.replace("{\"port\": 80}", "{\"port\": 80, \"name\": \"a\"}");
    let service = accepted(&text, "Service/default/a");
    let Spec::Service(spec) = &service.spec else { panic!() };
    assert!(spec.headless && spec.selector.is_none() && spec.kind == "ClusterIP");
    assert_eq!(spec.ports[0].target, TargetPort::Number(80));
}

#[test]
fn storage_has_upstreams_defaults() {
    let text = "=== a.yaml
apiVersion: v1
kind: PersistentVolume
metadata: {name: v}
spec:
  storageClassName: manual
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  hostPath: {path: /tmp}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: c}
spec:
  storageClassName: manual
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1.5G}}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: s}
provisioner: kgit.dev/docker-volume
";
    let Spec::PersistentVolume(volume) = &accepted(text, "PersistentVolume/v").spec else {
        panic!()
    };
    assert_eq!((volume.capacity_bytes, volume.reclaim), (1 << 30, ReclaimPolicy::Retain));
    let claim = accepted(text, "PersistentVolumeClaim/default/c");
    let Spec::PersistentVolumeClaim(claim) = &claim.spec else { panic!() };
    assert_eq!(claim.request_bytes, 1_500_000_000);
    assert_eq!(claim.access_modes, [AccessMode::ReadWriteOnce]);
    let Spec::StorageClass(class) = &accepted(text, "StorageClass/s").spec else { panic!() };
    assert_eq!((class.reclaim, class.binding), (ReclaimPolicy::Delete, BindingMode::Immediate));
}

#[test]
fn a_job_runs_one_pod_once_unless_it_says_otherwise() {
    let job = |more: &str| {
        let text = format!(
            "=== a.yaml
apiVersion: batch/v1
kind: Job
metadata: {{name: j}}
spec:
  {more}
  template:
    spec:
      restartPolicy: Never
      containers: [{{name: a, image: 'a:1'}}]
"
        );
        match &accepted(&text, "Job/default/j").spec {
            Spec::Job(spec) => (spec.completions, spec.parallelism, spec.backoff_limit),
            _ => panic!(),
        }
    };
    assert_eq!(job("suspend: false"), (Some(1), 1, 6));
    assert_eq!(job("parallelism: 3"), (None, 3, 6));
    assert_eq!(job("completions: 4"), (Some(4), 1, 6));
}

#[test]
fn base64_may_span_lines_and_string_data_wins() {
    let text = "=== a.yaml
apiVersion: v1
kind: Secret
metadata: {name: s}
data:
  a: |
    aGVs
    bG8=
  b: eA==
stringData: {b: 'y'}
";
    let Spec::Secret(secret) = &accepted(text, "Secret/default/s").spec else { panic!() };
    assert_eq!(secret.kind, "Opaque");
    assert_eq!(secret.content.entries["a"], "aGVsbG8=");
    assert_eq!(secret.content.entries["b"], "eQ==");
}

#[test]
fn quoted_text_may_go_on_further_to_the_left_as_with_kubectl() {
    let shallow = "=== a.yaml
apiVersion: v1
kind: ConfigMap
metadata:
  name: a
data:
  deep: 'it is
   == ''one''

 text'
  wide: \"and
so \\
is this\"
---
apiVersion: v1
kind: ConfigMap
metadata: {name: b}
data: {c: 'd
e', f: g}
";
    let text = |key: &str, entry: &str| {
        let resource = accepted(shallow, key);
        resource.manifest.value()["data"][entry].as_str().map(str::to_owned)
    };
    assert_eq!(text("ConfigMap/default/a", "deep").as_deref(), Some("it is == 'one'\ntext"));
    assert_eq!(text("ConfigMap/default/a", "wide").as_deref(), Some("and so is this"));
    assert_eq!(text("ConfigMap/default/b", "c").as_deref(), Some("d e"));
    assert_eq!(text("ConfigMap/default/b", "f").as_deref(), Some("g"));
}

#[test]
fn a_claim_template_takes_the_place_of_a_volume_of_its_name() {
    let set = "=== a.yaml
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      containers: [{name: db, image: db, volumeMounts: [{name: data, mountPath: /data}]}]
      volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";
    assert_eq!(report(set), "1 object in 1 file: no findings\n");
}

#[test]
fn a_placeholder_in_an_images_name_is_told_as_such() {
    let pod = |image: &str| {
        let spec = format!("spec: {{containers: [{{name: a, image: '{image}'}}]}}\n");
        report(&format!("=== a.yaml\napiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\n{spec}"))
    };
    for (image, odd) in [("$IMAGE", '$'), ("eu.example.org/<PROJECT>/a:1", '<'), ("a:{tag}", '{')] {
        let report = pod(image);
        assert!(report.contains(&format!("it has a `{odd}` in it")), "{report}");
        assert!(report.contains("hint: put the image's name in its place"), "{report}");
    }
    assert!(pod("[::1]:5000/a_b/c-d.e:1@sha256:0123").contains("no digest"));
}

#[test]
fn a_hook_of_helms_may_have_a_generated_name_too() {
    let text = "=== job.yaml
apiVersion: batch/v1
kind: Job
metadata:
  generateName: migrate-
  annotations: {helm.sh/hook: \"pre-install,pre-upgrade\"}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: \"main:1\"}]
";
    accepted(text, "Job/default/migrate-pre-install");
}

#[test]
fn what_can_have_no_effect_is_told() {
    let job = |spec: &str| {
        format!(
            "=== a.yaml\napiVersion: batch/v1\nkind: Job\nmetadata: {{name: a}}\nspec:\n{spec}  \
             template: {{spec: {{restartPolicy: Never, containers: [{{name: a, image: a}}]}}}}\n"
        )
    };
    let condition = |condition: &str| {
        let rule = format!("{{action: Ignore, onPodConditions: [{condition}]}}");
        report(&job(&format!("  podFailurePolicy: {{rules: [{rule}]}}\n")))
    };
    let quiet = "1 object in 1 file: no findings\n";
    assert_eq!(condition("{type: DisruptionTarget}"), quiet);
    assert_eq!(condition("{type: DisruptionTarget, status: 'True'}"), quiet);
    for useless in ["{type: Other}", "{type: DisruptionTarget, status: 'False'}"] {
        assert!(condition(useless).contains("no pod gets it"), "{useless}");
    }
    let indexed = "  completionMode: Indexed\n  completions: 2\n";
    let report_of = |more: &str| report(&job(&format!("{indexed}{more}")));
    assert_eq!(report_of("  backoffLimitPerIndex: 1\n  maxFailedIndexes: 1\n"), quiet);
    assert!(report_of("  maxFailedIndexes: 1\n").contains("needs `backoffLimitPerIndex`"));
}

#[test]
fn a_deadline_that_no_slot_meets_is_told() {
    let cron_job = |schedule: &str, seconds: u32| {
        report(&format!(
            "=== a.yaml\napiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: a}}\nspec:\n  \
             schedule: '{schedule}'\n  startingDeadlineSeconds: {seconds}\n  jobTemplate: {{spec: \
             {{template: {{spec: {{restartPolicy: Never, containers: [{{name: a, image: a}}]}}}}}}}}\n"
        ))
    };
    let is_told =
        |schedule, seconds| cron_job(schedule, seconds).contains("no Job is ever started");
    assert!(is_told("@every 1h", 60) && is_told("@every 1h", 3599) && is_told("@hourly", 0));
    assert!(!is_told("@every 1h", 3600) && !is_told("@hourly", 1));
}
