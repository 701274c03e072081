//! Repos of any size: applications of four objects each, ten applications a folder.

use std::fmt::Write as _;
use std::path::Path;

use git2::{IndexAddOption, Repository, Signature};

/// Objects of one application: Deployment, ConfigMap, Service, claim.
pub const OBJECTS: usize = 4;

/// The file of one application.
pub fn application(index: usize, image: &str) -> String {
    let mut text = String::new();
    write!(
        text,
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: app-{index}
  labels: {{app: app-{index}}}
spec:
  replicas: 1
  selector:
    matchLabels: {{app: app-{index}}}
  template:
    metadata:
      labels: {{app: app-{index}}}
    spec:
      containers:
      - name: main
        image: {image}
        ports: [{{containerPort: 8080, name: http}}]
        envFrom:
        - configMapRef: {{name: app-{index}}}
        readinessProbe:
          httpGet: {{path: /ready, port: http}}
        resources:
          requests: {{cpu: 10m, memory: 16Mi}}
        volumeMounts:
        - {{name: data, mountPath: /data}}
      volumes:
      - name: data
        persistentVolumeClaim: {{claimName: app-{index}}}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: app-{index}
data:
  MODE: production
  GREETING: \"hello from {index}\"
---
apiVersion: v1
kind: Service
metadata:
  name: app-{index}
spec:
  selector: {{app: app-{index}}}
  ports: [{{port: 80, targetPort: http}}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: app-{index}
spec:
  accessModes: [ReadWriteOnce]
  resources: {{requests: {{storage: 1Gi}}}}
"
    )
    .expect("a String takes everything");
    text
}

pub fn path(index: usize) -> String {
    format!("team-{}/app-{index}.yaml", index / 10)
}

/// A Git repository with so many objects, one commit.
pub fn make(dir: &Path, objects: usize) -> Repository {
    make_of(dir, objects, |index| application(index, "app:1"))
}

/// The same with other texts for the applications.
pub fn make_of(dir: &Path, objects: usize, text: impl Fn(usize) -> String) -> Repository {
    let repo = Repository::init(dir).unwrap();
    for index in 0..objects / OBJECTS {
        let path = dir.join(path(index));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text(index)).unwrap();
    }
    commit(&repo, "everything");
    repo
}

/// Writes one application's file anew and commits that.
pub fn change(repo: &Repository, index: usize, image: &str) {
    let file = repo.workdir().unwrap().join(path(index));
    std::fs::write(file, application(index, image)).unwrap();
    commit(repo, "one file");
}

fn commit(repo: &Repository, message: &str) {
    let mut index = repo.index().unwrap();
    index.add_all(["*"], IndexAddOption::DEFAULT, None).unwrap();
    index.write().unwrap();
    let tree = repo.find_tree(index.write_tree().unwrap()).unwrap();
    let author = Signature::now("Ann", "ann@example.org").unwrap();
    let parent = repo.head().ok().and_then(|head| head.peel_to_commit().ok());
    let parents: Vec<_> = parent.iter().collect();
    repo.commit(Some("HEAD"), &author, &author, message, &tree, &parents).unwrap();
}
