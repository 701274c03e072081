//! A Docker engine as tests look at it: through Docker's own command, past kgit.

use serde_json::Value;
use std::process::{Command, Stdio};

use crate::ran::Ran;
use crate::skip::not_tried;

#[derive(Clone, Debug)]
pub struct Engine {
    /// `unix:///var/run/docker.sock`.
    pub socket: String,
}

/// A container, as `docker inspect` tells of it.
#[derive(Clone, Debug)]
pub struct Container(pub Value);

impl Engine {
    /// This machine's engine, or nothing and a loud skip where none answers.
    pub fn of_this_machine() -> Option<Self> {
        let socket = std::env::var("DOCKER_HOST")
            .unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
        let engine = Self { socket };
        if engine.try_docker(&["version"]).code == 0 {
            return Some(engine);
        }
        not_tried("no Docker engine answers");
        None
    }

    pub fn at(socket: &std::path::Path) -> Self {
        Self { socket: format!("unix://{}", socket.display()) }
    }

    pub fn try_docker(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new("docker");
        Ran::of(command.args(["-H", &self.socket]).args(arguments).stdin(Stdio::null()))
    }

    /// # Panics
    /// If the command fails.
    pub fn docker(&self, arguments: &[&str]) -> String {
        let ran = self.try_docker(arguments);
        assert_eq!(ran.code, 0, "docker {arguments:?}: {ran}");
        ran.out.trim().to_owned()
    }

    /// All containers that bear a label, running or not, by name.
    pub fn containers(&self, label: &str) -> Vec<Container> {
        let ids = self.docker(&["ps", "-aq", "--filter", &format!("label={label}")]);
        let ids: Vec<&str> = ids.lines().collect();
        if ids.is_empty() {
            return Vec::new();
        }
        // One that goes away in between is left out.
        let listed = self.try_docker(&[&["inspect"][..], &ids].concat());
        let listed: Vec<Value> = serde_json::from_str(&listed.out).unwrap_or_default();
        let mut containers: Vec<_> = listed.into_iter().map(Container).collect();
        containers.sort_by(|a, b| a.name().cmp(b.name()));
        containers
    }

    /// What of a cluster is in the engine: containers, networks and volumes.
    pub fn left_of(&self, cluster: &str) -> Vec<String> {
        let label = format!("label=dev.kgit.cluster={cluster}");
        let kinds = [
            &["ps", "-a", "--format", "container {{.Names}}"][..],
            &["network", "ls", "--format", "network {{.Name}}"],
            &["volume", "ls", "--format", "volume {{.Name}}"],
        ];
        let list = |list: &[&str]| self.docker(&[list, &["--filter", &label]].concat());
        kinds
            .iter()
            .flat_map(|kind| list(kind).lines().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }
}

impl Container {
    pub fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or(&Value::Null)
    }

    pub fn text(&self, pointer: &str) -> &str {
        self.at(pointer).as_str().unwrap_or_default()
    }

    pub fn name(&self) -> &str {
        self.text("/Name")
    }

    pub fn id(&self) -> &str {
        self.text("/Id")
    }

    pub fn label(&self, name: &str) -> &str {
        self.at("/Config/Labels")
            .get(format!("dev.kgit.{name}"))
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    pub fn runs(&self) -> bool {
        self.at("/State/Running") == true
    }

    /// What must not change while nobody touches it: the container itself and since when it runs.
    pub fn life(&self) -> (String, String) {
        (self.id().to_owned(), self.text("/State/StartedAt").to_owned())
    }
}
