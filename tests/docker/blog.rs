//! The tutorial "Deploying WordPress and MySQL with Persistent Volumes": two Deployments, a claim each, a Secret, and a
//! Service each, on stand-ins for the two images that do as their originals do: the blog finds the database by its
//! Service's name, logs in with the Secret's password, writes a row when it is installed, and serves what it reads.
//!
//! The manifests here are of the tutorial's shape. `KGIT_TUTORIAL=FOLDER` takes those of a folder instead, such as the
//! originals: `wordpress-deployment.yaml` and `mysql-deployment.yaml` of `content/en/examples/application/wordpress` in
//! the repository kubernetes/website.

use std::path::Path;

use crate::cluster::Cluster;
use crate::own_engine::OwnEngine;
use crate::ran::Ran;

/// What the tutorial has its reader make with a `secretGenerator`.
const SECRET: &str = "
apiVersion: v1
kind: Secret
metadata: {name: mysql-pass}
type: Opaque
stringData: {password: not-1234}
";

const MYSQL: &str = "
apiVersion: v1
kind: Service
metadata: {name: wordpress-mysql, labels: {app: wordpress}}
spec: {clusterIP: None, selector: {app: wordpress, tier: mysql}, ports: [{port: 3306}]}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: mysql-pv-claim, labels: {app: wordpress}}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 20Gi}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: wordpress-mysql, labels: {app: wordpress}}
spec:
  selector: {matchLabels: {app: wordpress, tier: mysql}}
  strategy: {type: Recreate}
  template:
    metadata: {labels: {app: wordpress, tier: mysql}}
    spec:
      containers:
      - name: mysql
        image: mysql:8.0
        env:
        - {name: MYSQL_ROOT_PASSWORD, valueFrom: {secretKeyRef: {name: mysql-pass, key: password}}}
        - {name: MYSQL_DATABASE, value: wordpress}
        - {name: MYSQL_USER, value: wordpress}
        - {name: MYSQL_PASSWORD, valueFrom: {secretKeyRef: {name: mysql-pass, key: password}}}
        ports: [{name: mysql, containerPort: 3306}]
        volumeMounts: [{name: data, mountPath: /var/lib/mysql}]
      volumes: [{name: data, persistentVolumeClaim: {claimName: mysql-pv-claim}}]
";

const WORDPRESS: &str = "
apiVersion: v1
kind: Service
metadata: {name: wordpress, labels: {app: wordpress}}
spec: {type: LoadBalancer, selector: {app: wordpress, tier: frontend}, ports: [{port: 80}]}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: wp-pv-claim, labels: {app: wordpress}}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 20Gi}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: wordpress, labels: {app: wordpress}}
spec:
  selector: {matchLabels: {app: wordpress, tier: frontend}}
  strategy: {type: Recreate}
  template:
    metadata: {labels: {app: wordpress, tier: frontend}}
    spec:
      containers:
      - name: wordpress
        image: wordpress:6.2.1-apache
        env:
        - {name: WORDPRESS_DB_HOST, value: wordpress-mysql}
        - {name: WORDPRESS_DB_USER, value: wordpress}
        - {name: WORDPRESS_DB_PASSWORD, valueFrom: {secretKeyRef: {name: mysql-pass, key: password}}}
        ports: [{name: wordpress, containerPort: 80}]
        volumeMounts: [{name: html, mountPath: /var/www/html}]
      volumes: [{name: html, persistentVolumeClaim: {claimName: wp-pv-claim}}]
";

/// Each stand-in, and the name that the manifests have for it.
const IMAGES: [(&str, &str); 2] =
    [("kgit-test/mysql:1", "mysql:8.0"), ("kgit-test/wordpress:1", "wordpress:6.2.1-apache")];

#[test]
fn the_wordpress_tutorials_row_outlives_both_pods_and_the_master() {
    let Some(own) = OwnEngine::new("blog", &IMAGES.map(|(image, _)| image)) else { return };
    for (image, name) in IMAGES {
        own.engine.docker(&["tag", image, name]);
    }
    let files = manifests();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (&**name, &**text)).collect();
    let mut cluster = Cluster::up_on(&own.hosts, "one", &files);
    let checked = cluster.kgit(&["check", "manifests"]);
    assert_eq!(checked.code, 0, "{checked}");
    let first = cluster.until("the blog's page", || page(&own, &cluster));
    let author = pod_of(&cluster, "wordpress", "wordpress-mysql");
    assert_eq!(first, format!("Hello world! by {author}\n"));
    assert!(!database_takes(&own, &cluster, "1234"), "another password is refused");

    // Both pods' processes, and master and agent, which are one process here.
    cluster.kill();
    cluster.kill_containers();
    cluster.start();
    let again = cluster.until("the page of the same row", || page(&own, &cluster));
    assert_eq!(again, first, "the row of before is the only one");

    // And with nothing of the pods left but their volumes.
    cluster.kill();
    for container in cluster.containers() {
        own.engine.docker(&["rm", "-f", container.id()]);
    }
    cluster.start();
    let again = cluster.until("the page of the same row", || page(&own, &cluster));
    assert_eq!(again, first, "the row of before is the only one");
    cluster.until_quiet();
    assert_eq!(cluster.kgit(&["diff"]).code, 0);
}

fn manifests() -> Vec<(String, String)> {
    let mut files = vec![("secret.yaml".to_owned(), SECRET.to_owned())];
    match std::env::var("KGIT_TUTORIAL") {
        Ok(folder) => files.extend(read(Path::new(&folder))),
        Err(_) => files.extend(
            [("mysql.yaml", MYSQL), ("wordpress.yaml", WORDPRESS)]
                .map(|(name, text)| (name.to_owned(), text.to_owned())),
        ),
    }
    files
}

fn read(folder: &Path) -> Vec<(String, String)> {
    let files = std::fs::read_dir(folder).expect("KGIT_TUTORIAL is a folder");
    let paths = files.map(|file| file.expect("the folder can be read").path());
    let text = |path: &Path| std::fs::read_to_string(path).expect("the file can be read");
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    paths.map(|path| (name(&path), text(&path))).collect()
}

/// By the Service's address, from the host.
fn page(own: &OwnEngine, cluster: &Cluster) -> Option<String> {
    let service = cluster.object("services", "wordpress")?;
    let address = service["spec"]["clusterIP"].as_str()?;
    let mut curl = own.hosts.command("one", "curl");
    let ran = Ran::of(curl.args(["-sSf", "--max-time", "5", &format!("http://{address}/")]));
    (ran.code == 0).then_some(ran.out)
}

/// The pod whose name starts so, and not like another one's.
fn pod_of(cluster: &Cluster, name: &str, other: &str) -> String {
    let running = cluster.running(name).into_iter();
    let mut pods = running.filter(|pod| !pod.label("pod").starts_with(other));
    pods.next().expect("it runs").label("pod").to_owned()
}

/// Asked from the blog's pod, by the database's own name.
fn database_takes(own: &OwnEngine, cluster: &Cluster, password: &str) -> bool {
    let pod = pod_of(cluster, "wordpress", "wordpress-mysql");
    let script = format!("echo root {password} select | nc -w 5 wordpress-mysql 3306");
    let ran = cluster.kubectl(&["exec", &pod, "--", "sh", "-c", &script]);
    assert_eq!(ran.code, 0, "{ran} {}", own.engine.socket);
    assert!(ran.out.contains("Access denied") || ran.out.contains("Hello"), "{ran}");
    !ran.out.contains("Access denied")
}
