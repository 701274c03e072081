//! Manifests that scenarios are made of.

/// A Deployment `web` of so many replicas.
pub fn web(image: &str, replicas: u32) -> String {
    web_with(image, replicas, "")
}

/// The same, with more lines in its only container (eight spaces deep).
pub fn web_with(image: &str, replicas: u32, container: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: {replicas}
  selector:
    matchLabels: {{app: web}}
  template:
    metadata:
      labels: {{app: web}}
    spec:
      containers:
      - name: web
        image: {image}
{container}"
    )
}

/// A ConfigMap `settings` with one key.
pub fn config(mode: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  MODE: {mode}\n")
}

/// A Pod that mounts a claim.
pub fn pod_with_claim(name: &str, claim: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata:
  name: {name}
spec:
  containers:
  - name: main
    image: main:1
    volumeMounts: [{{name: data, mountPath: /data}}]
  volumes:
  - name: data
    persistentVolumeClaim: {{claimName: {claim}}}
"
    )
}

/// A claim of 1Gi; `class` as a line of its spec, or nothing.
pub fn claim(name: &str, class: &str) -> String {
    format!(
        "apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {name}
spec:
  accessModes: [ReadWriteOnce]
  resources: {{requests: {{storage: 1Gi}}}}
{class}"
    )
}

/// A hostPath volume of a class.
pub fn volume(name: &str, class: &str, size: &str) -> String {
    format!(
        "apiVersion: v1
kind: PersistentVolume
metadata:
  name: {name}
spec:
  storageClassName: {class}
  capacity: {{storage: {size}}}
  accessModes: [ReadWriteOnce]
  hostPath: {{path: /srv/{name}}}
"
    )
}

/// A Job; `more` as lines of its spec.
pub fn cron_job(name: &str, schedule: &str, more: &str) -> String {
    format!(
        "apiVersion: batch/v1
kind: CronJob
metadata:
  name: {name}
spec:
  schedule: \"{schedule}\"
{more}  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers:
          - name: main
            image: {name}:1
"
    )
}

pub fn job(name: &str, image: &str, more: &str) -> String {
    format!(
        "apiVersion: batch/v1
kind: Job
metadata:
  name: {name}
spec:
{more}  template:
    spec:
      restartPolicy: Never
      containers:
      - name: main
        image: {image}
"
    )
}
