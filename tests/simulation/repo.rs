//! The repo that is followed: a few workloads, and the changes that somebody makes to them.

use std::collections::BTreeMap;

use crate::item::{self, Item, VERSIONS, What};
use crate::random::Random;
use crate::text;

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
    /// A config that some need comes or goes.
    Extra,
    Emptied,
    Moved,
    Pause,
    /// Another place, size, priority or budget.
    Placing,
    /// Another way to roll.
    Strategy,
    /// Another wave or phase.
    Stage,
}

impl Commit {
    pub const ALL: [Self; 16] = [
        Self::Create,
        Self::Image,
        Self::BadImage,
        Self::Scale,
        Self::Delete,
        Self::Revert,
        Self::Break,
        Self::Mend,
        Self::Config,
        Self::Extra,
        Self::Emptied,
        Self::Moved,
        Self::Pause,
        Self::Placing,
        Self::Strategy,
        Self::Stage,
    ];
}

/// Workloads in a repo at most: more only make a run longer.
const MAX_ITEMS: usize = 7;

/// Of repos, in thousand: those whose manifests say in which order they come.
const STAGED: u32 = 400;

const BROKEN: &str = "zz-broken.yaml";

#[derive(Clone, Debug)]
pub struct Repo {
    items: BTreeMap<String, Item>,
    mode: u64,
    extra: bool,
    broken: Option<usize>,
    emptied: bool,
    made: usize,
    past: Vec<(BTreeMap<String, Item>, u64)>,
    probe_seconds: u32,
    rebalances: bool,
    /// Whether manifests have waves, and some are hooks.
    pub staged: bool,
    /// Whether pods may keep apart from each other.
    roomy: bool,
    /// How many commits there are.
    pub head: usize,
}

impl Repo {
    pub fn new(random: &mut Random, probe_seconds: u32, roomy: bool) -> Self {
        let mut repo = Self {
            items: BTreeMap::new(),
            mode: 0,
            extra: true,
            broken: None,
            emptied: false,
            made: 0,
            past: Vec::new(),
            probe_seconds,
            rebalances: random.permille(300),
            staged: random.permille(STAGED),
            roomy,
            head: 1,
        };
        for _ in 0..1 + random.below(4) {
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
        // What everybody refers to comes first, if there is an order.
        let first = |text: String| match self.staged {
            true => text::staged(&text, text::FIRST),
            false => text,
        };
        let config = |kind, name, mode| first(text::config(kind, name, mode));
        tree.insert("settings.yaml".into(), config("ConfigMap", "settings", self.mode / 2));
        tree.insert("keys.yaml".into(), config("Secret", "keys", self.mode / 3));
        tree.insert("classes.yaml".into(), first(text::classes()));
        if self.rebalances {
            tree.insert("cluster.yaml".into(), text::CLUSTER.into());
        }
        if self.extra {
            tree.insert("extra.yaml".into(), config("ConfigMap", "extra", 0));
        }
        for (name, item) in &self.items {
            let text = text::text(item, name, self.probe_seconds);
            tree.insert(format!("{}{name}.yaml", item.folder), text);
        }
        if let Some(broken) = self.broken {
            tree.insert(BROKEN.into(), text::BROKEN[broken].into());
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
            Commit::Image
            | Commit::BadImage
            | Commit::Scale
            | Commit::Pause
            | Commit::Moved
            | Commit::Placing
            | Commit::Strategy
            | Commit::Stage => {
                let name = self.any(random)?;
                let scales = matches!(kind, Commit::Scale | Commit::Moved | Commit::Stage);
                if kind == Commit::Stage && !self.staged {
                    return None;
                }
                let item = self.items.get_mut(&name).filter(|item| scales || item.rolls())?;
                edit(kind, item, random);
                item.fit(self.roomy);
                Some(format!("{name}: {item:?}"))
            }
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
                self.broken = Some(random.below(text::BROKEN.len()));
                // What the broken file may define is no longer anywhere else.
                if random.permille(500) {
                    let name = self.any(random)?;
                    self.items.remove(&name);
                }
                Some(format!("break a file, {:?}", self.broken))
            }
            Commit::Mend => {
                (self.broken, self.emptied) = (None, false);
                Some("mend".to_owned())
            }
            Commit::Config => {
                self.mode += 1;
                Some("config".to_owned())
            }
            Commit::Extra => {
                self.extra = !self.extra;
                Some(format!("extra config: {}", self.extra))
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

    fn create(&mut self, random: &mut Random) -> String {
        self.made += 1;
        let mut item = Item::of(random, self.staged);
        item.fit(self.roomy);
        let name = format!("{}-{}", item.name_kind(), self.made);
        self.items.insert(name.clone(), item);
        name
    }

    pub fn needs_mending(&self) -> bool {
        self.broken.is_some() || self.emptied
    }

    /// Names of the workloads, for who wants to make load.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.items.keys()
    }

    /// Only what can be reached is asked for from now on.
    pub fn heal(&mut self) {
        (self.broken, self.emptied, self.extra) = (None, false, true);
        self.items.values_mut().for_each(Item::heal);
        self.head += 1;
    }
}

fn edit(kind: Commit, item: &mut Item, random: &mut Random) {
    match kind {
        Commit::Image => {
            item.image = format!("{}:{}", item.image_kind(), 1 + random.below(VERSIONS))
        }
        Commit::BadImage => {
            // A Job that waits for an image for ever is not there any more to be mended.
            let once = matches!(item.what, What::Cron { .. });
            let nowhere = !once && random.permille(500);
            item.image = (if nowhere { "nowhere:1" } else { "crash:1" }).to_owned();
        }
        Commit::Scale => item.replicas = u32::try_from(random.below(6)).unwrap_or(0),
        Commit::Pause => {
            if let What::Web(web) = &mut item.what {
                web.paused = !web.paused;
            }
        }
        Commit::Moved => item.folder = if item.folder.is_empty() { "apps/" } else { "" },
        Commit::Placing => match random.below(5) {
            0 => item.place = random.below(text::PLACES.len()),
            1 => item.requests = random.below(text::REQUESTS.len()),
            2 => item.priority = random.below(text::PRIORITIES.len()),
            3 => item.budget = random.below(text::BUDGETS.len()),
            _ => item.fenced = !item.fenced,
        },
        Commit::Stage => match &mut item.what {
            What::Hook(hook) => *hook = item::hook(random),
            _ => item.wave = random.below(text::WAVES.len()),
        },
        Commit::Strategy => match &mut item.what {
            What::Web(web) => {
                web.strategy = random.below(text::STRATEGIES.len());
                web.scaled = random.permille(300);
            }
            What::Set(set) => {
                set.update = random.below(text::SET_UPDATES.len());
                set.retention = random.below(text::RETENTIONS.len());
            }
            What::Daemon { update, .. } => *update = random.below(text::DAEMON_UPDATES.len()),
            What::Cron { schedule, policy } => {
                *schedule = random.below(text::SCHEDULES.len());
                *policy = random.below(text::POLICIES.len());
            }
            What::Hook(hook) => *hook = item::hook(random),
            What::Store { .. } | What::Job { .. } | What::Pod | What::Controller { .. } => {}
        },
        Commit::Create
        | Commit::Delete
        | Commit::Revert
        | Commit::Break
        | Commit::Mend
        | Commit::Config
        | Commit::Extra
        | Commit::Emptied => {}
    }
}
