//! The repo that is followed: a few workloads as data, the files that they are written in, and
//! the changes that somebody makes to them.

use std::collections::BTreeMap;

use crate::random::Random;

pub type Tree = BTreeMap<String, String>;

/// What somebody commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Commit {
    Create,
    Image,
    /// An image that no registry has, or one that crashes.
    BadImage,
    Scale,
    Delete,
    Revert,
    Break,
    Mend,
    Config,
    Emptied,
    Moved,
    Pause,
}

impl Commit {
    pub const ALL: [Self; 12] = [
        Self::Create,
        Self::Image,
        Self::BadImage,
        Self::Scale,
        Self::Delete,
        Self::Revert,
        Self::Break,
        Self::Mend,
        Self::Config,
        Self::Emptied,
        Self::Moved,
        Self::Pause,
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Web {
        strategy: usize,
        probe: bool,
        two: bool,
        config: bool,
        min_ready: u32,
        paused: bool,
    },
    /// A Deployment of one pod with a claim.
    Store,
    Job {
        completions: u32,
        parallelism: u32,
    },
    /// A Pod with a claim.
    Pod,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    what: What,
    replicas: u32,
    image: String,
    folder: &'static str,
}

const STRATEGIES: [&str; 4] = [
    "{type: RollingUpdate}",
    "{type: RollingUpdate, rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}",
    "{type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}",
    "{type: Recreate}",
];

/// Versions of each image that the registries have.
const VERSIONS: usize = 4;

/// Workloads in a repo at most: more only make a run longer.
const MAX_ITEMS: usize = 6;

const BROKEN: &str = "zz-broken.yaml";

#[derive(Clone, Debug)]
pub struct Repo {
    items: BTreeMap<String, Item>,
    mode: u64,
    broken: bool,
    emptied: bool,
    made: usize,
    past: Vec<(BTreeMap<String, Item>, u64)>,
    /// How many commits there are.
    pub head: usize,
}

impl Repo {
    pub fn new(random: &mut Random) -> Self {
        let mut repo = Self {
            items: BTreeMap::new(),
            mode: 0,
            broken: false,
            emptied: false,
            made: 0,
            past: Vec::new(),
            head: 1,
        };
        for _ in 0..1 + random.below(3) {
            repo.create(random);
        }
        repo
    }

    /// All images that a registry has.
    pub fn images() -> impl Iterator<Item = String> {
        let kinds = ["web", "store", "job", "side", "crash"];
        kinds.into_iter().flat_map(|kind| (1..=VERSIONS).map(move |v| format!("{kind}:{v}")))
    }

    pub fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        if self.emptied {
            return tree;
        }
        tree.insert("settings.yaml".into(), settings(self.mode));
        for (name, item) in &self.items {
            tree.insert(format!("{}{name}.yaml", item.folder), item.text(name));
        }
        if self.broken {
            tree.insert(BROKEN.into(), "kind: [\n".into());
        }
        tree
    }

    /// Makes a change of this kind; `None` if there is nothing to change so.
    pub fn commit(&mut self, kind: Commit, random: &mut Random) -> Option<String> {
        let before = (self.items.clone(), self.mode);
        let was = self.tree();
        let said = self.change(kind, random)?;
        if self.tree() == was {
            return None;
        }
        if kind != Commit::Revert {
            self.past.push(before);
        }
        self.head += 1;
        Some(said)
    }

    fn change(&mut self, kind: Commit, random: &mut Random) -> Option<String> {
        match kind {
            Commit::Create if self.items.len() >= MAX_ITEMS => None,
            Commit::Create => Some(format!("create {}", self.create(random))),
            Commit::Image => self.edit(random, |item, random| {
                let kind = item.kind();
                item.image = format!("{kind}:{}", 1 + random.below(VERSIONS));
            }),
            Commit::BadImage => self.edit(random, |item, random| {
                item.image = random.pick(&["nowhere:1".to_owned(), "crash:1".to_owned()]);
            }),
            Commit::Scale => self.edit(random, |item, random| {
                item.replicas = u32::try_from(random.below(6)).unwrap_or(0);
            }),
            Commit::Pause => self.edit(random, |item, _| {
                if let What::Web { paused, .. } = &mut item.what {
                    *paused = !*paused;
                }
            }),
            Commit::Moved => self.edit(random, |item, _| {
                item.folder = if item.folder.is_empty() { "apps/" } else { "" };
            }),
            Commit::Delete => {
                let name = self.any(random)?;
                self.items.remove(&name);
                Some(format!("delete {name}"))
            }
            Commit::Revert => {
                (self.items, self.mode) = self.past.pop()?;
                Some("revert".to_owned())
            }
            Commit::Break => {
                self.broken = true;
                // What the broken file may define is no longer anywhere else.
                if random.permille(500) {
                    let name = self.any(random)?;
                    self.items.remove(&name);
                }
                Some("break a file".to_owned())
            }
            Commit::Mend => {
                (self.broken, self.emptied) = (false, false);
                Some("mend".to_owned())
            }
            Commit::Config => {
                self.mode += 1;
                Some("config".to_owned())
            }
            Commit::Emptied => {
                self.emptied = true;
                Some("empty the tree".to_owned())
            }
        }
    }

    fn any(&self, random: &mut Random) -> Option<String> {
        let names: Vec<String> = self.items.keys().cloned().collect();
        (!names.is_empty()).then(|| random.pick(&names))
    }

    fn edit(&mut self, random: &mut Random, edit: fn(&mut Item, &mut Random)) -> Option<String> {
        let name = self.any(random)?;
        let item = self.items.get_mut(&name)?;
        edit(item, random);
        Some(format!("{name}: {item:?}"))
    }

    fn create(&mut self, random: &mut Random) -> String {
        self.made += 1;
        let web = What::Web {
            strategy: random.below(STRATEGIES.len()),
            probe: random.permille(400),
            two: random.permille(300),
            config: random.permille(300),
            min_ready: random.pick(&[0, 0, 5]),
            paused: false,
        };
        let job = What::Job {
            completions: 1 + u32::try_from(random.below(3)).unwrap_or(0),
            parallelism: 1 + u32::try_from(random.below(2)).unwrap_or(0),
        };
        let what = random.pick(&[web, web, web, What::Store, job, What::Pod]);
        let replicas = 1 + u32::try_from(random.below(4)).unwrap_or(0);
        let mut item = Item { what, replicas, image: String::new(), folder: "" };
        item.image = format!("{}:1", item.kind());
        let name = format!("{}-{}", item.kind(), self.made);
        self.items.insert(name.clone(), item);
        name
    }

    /// Only what can be reached is asked for from now on.
    pub fn heal(&mut self) {
        (self.broken, self.emptied) = (false, false);
        for item in self.items.values_mut() {
            if item.image.starts_with("nowhere") || item.image.starts_with("crash") {
                item.image = format!("{}:2", item.kind());
            }
            if let What::Web { paused, .. } = &mut item.what {
                *paused = false;
            }
        }
        self.head += 1;
    }
}

impl Item {
    fn kind(&self) -> &'static str {
        match self.what {
            What::Web { .. } => "web",
            What::Store | What::Pod => "store",
            What::Job { .. } => "job",
        }
    }

    fn text(&self, name: &str) -> String {
        match self.what {
            What::Web { strategy, min_ready, paused, .. } => {
                let pods = self.pods(name);
                let strategy = STRATEGIES[strategy];
                deployment(name, self.replicas, strategy, min_ready, paused, &pods) + &service(name)
            }
            What::Store => {
                let pods = self.pods(name);
                deployment(name, 1, STRATEGIES[3], 0, false, &pods) + &claim(name)
            }
            What::Job { completions, parallelism } => format!(
                "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n  \
                 completions: {completions}\n  parallelism: {parallelism}\n  backoffLimit: 3\n  \
                 template:\n    spec:\n      restartPolicy: Never\n      containers:\n      \
                 - {{name: main, image: {}}}\n",
                self.image
            ),
            What::Pod => format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n{}{}",
                self.with_claim(name, "  "),
                claim(name)
            ),
        }
    }

    fn pods(&self, name: &str) -> String {
        let What::Web { probe, two, config, .. } = self.what else {
            return self.with_claim(name, "      ");
        };
        let mut main = format!("name: main, image: {}", self.image);
        if probe {
            main += ", readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 5}";
        }
        if config {
            main += ", envFrom: [{configMapRef: {name: settings}}]";
        }
        let side = if two { "      - {name: side, image: \"side:1\"}\n" } else { "" };
        format!(
            "      terminationGracePeriodSeconds: 10\n      containers:\n      - {{{main}}}\n{side}"
        )
    }

    fn with_claim(&self, name: &str, indent: &str) -> String {
        format!(
            "{indent}terminationGracePeriodSeconds: 10\n{indent}containers:\n{indent}\
             - {{name: main, image: {}, volumeMounts: [{{name: data, mountPath: /data}}]}}\n{indent}\
             volumes:\n{indent}- {{name: data, persistentVolumeClaim: {{claimName: {name}}}}}\n",
            self.image
        )
    }
}

fn deployment(
    name: &str,
    replicas: u32,
    strategy: &str,
    min_ready: u32,
    paused: bool,
    pods: &str,
) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  \
         replicas: {replicas}\n  minReadySeconds: {min_ready}\n  paused: {paused}\n  \
         strategy: {strategy}\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    \
         metadata: {{labels: {{app: {name}}}}}\n    spec:\n{pods}"
    )
}

fn service(name: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  \
         type: NodePort\n  selector: {{app: {name}}}\n  ports: [{{port: 80}}]\n"
    )
}

fn claim(name: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\nspec:\n  \
         accessModes: [ReadWriteOnce]\n  resources: {{requests: {{storage: 1Gi}}}}\n"
    )
}

fn settings(mode: u64) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata: {{MODE: \"{mode}\"}}\n"
    )
}
