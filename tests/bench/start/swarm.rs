//! What users would pick instead: `docker service create --detach --replicas N`, until the last
//! container runs.

use std::process::{Command, Stdio};

use super::{IMAGE, engine};

fn docker(arguments: &[&str]) -> bool {
    let mut command = Command::new("docker");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// False where the engine can't be a swarm; the comparison is then left out, and said to be.
pub async fn init() -> bool {
    let ready = docker(&["swarm", "init", "--advertise-addr", "127.0.0.1"]);
    if !ready {
        println!("this engine can't be a swarm: no comparison with it");
    }
    ready
}

pub async fn leave() {
    docker(&["swarm", "leave", "--force"]);
}

pub async fn run(round: usize, count: usize) -> f64 {
    let name = format!("kgit-bench-{round}");
    let label = format!("com.docker.swarm.service.name={name}");
    let replicas = count.to_string();
    let (create, remove) = (name.clone(), name);
    let seconds = engine::seconds_until_started(&label, count, || async move {
        let arguments = [
            "service",
            "create",
            "--detach",
            "--name",
            &create,
            "--replicas",
            &replicas,
            "--no-resolve-image",
            "--log-driver",
            "json-file",
            "--log-opt",
            "max-size=10m",
            "--log-opt",
            "max-file=3",
            IMAGE,
            "sh",
            "-c",
            "sleep 100000",
        ];
        assert!(docker(&arguments), "the service is created");
    })
    .await;
    docker(&["service", "rm", &remove]);
    engine::gone(&label).await;
    seconds
}
