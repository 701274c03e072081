//! What all sides need of the engine: a client, and a count of starts by its own events.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::query_parameters::{EventsOptionsBuilder, ListContainersOptionsBuilder};
use futures_util::StreamExt as _;

/// Thirty starts take seconds; a machine that is busy with other things, more.
const PATIENCE: Duration = Duration::from_secs(180);

pub fn client() -> Docker {
    Docker::connect_with_defaults().expect("a Docker client")
}

pub async fn has_image(name: &str) -> bool {
    let docker = match Docker::connect_with_defaults() {
        Ok(docker) => docker,
        Err(_) => return false,
    };
    docker.inspect_image(name).await.is_ok()
}

/// Starts `work` and gives the seconds until the engine told of `count` starts of containers with
/// `label`.
pub async fn seconds_until_started<W: Future<Output = ()>>(
    label: &str,
    count: usize,
    work: impl FnOnce() -> W,
) -> f64 {
    let docker = client();
    let filters = HashMap::from([
        ("type", vec!["container"]),
        ("event", vec!["start"]),
        ("label", vec![label]),
    ]);
    // Looking a second back makes sure that nothing falls between subscribing and working.
    let since = jiff::Timestamp::now().as_second().to_string();
    let options = EventsOptionsBuilder::default().since(&since).filters(&filters).build();
    let mut events = Box::pin(docker.events(Some(options)));
    let before = Instant::now();
    let started = async {
        for _ in 0..count {
            events.next().await.expect("events go on").expect("events are readable");
        }
        before.elapsed()
    };
    let both = async { tokio::join!(work(), started).1 };
    tokio::time::timeout(PATIENCE, both).await.expect("all containers start").as_secs_f64()
}

/// Waits until no container with `label` is left.
pub async fn gone(label: &str) {
    let docker = client();
    let filters = HashMap::from([("label", vec![label])]);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        if docker.list_containers(Some(options)).await.expect("a list").is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "containers with {label} do not go");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
