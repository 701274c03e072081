//! What stands in the repo, as data: one workload with what belongs to it. How it is written is
//! in `text`.

use crate::random::Random;

/// Versions of each image that the registries have.
pub const VERSIONS: usize = 4;
/// Of what comes into a repo with stages, in thousand: the hooks.
const HOOKS: u32 = 250;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Web(Web),
    /// A Deployment of one pod with a claim.
    Store {
        once_pod: bool,
        /// Reachable from every node.
        shared: bool,
    },
    Job {
        completions: u32,
        parallelism: u32,
        indexed: bool,
        short_lived: bool,
    },
    /// A Pod with a claim.
    Pod,
    Set(Set),
    Daemon {
        update: usize,
        selective: bool,
        min_ready: u32,
    },
    /// A ReplicaSet, or in older words a ReplicationController, with a manifest of its own.
    Controller {
        older: bool,
    },
    Cron {
        schedule: usize,
        policy: usize,
    },
    /// A Job that every commit runs.
    Hook(Hook),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    pub phase: usize,
    pub policy: usize,
    pub wave: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Web {
    pub strategy: usize,
    pub probe: bool,
    pub two: bool,
    pub config: usize,
    pub min_ready: u32,
    pub paused: bool,
    pub scaled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set {
    pub parallel: bool,
    pub update: usize,
    pub claims: bool,
    pub retention: usize,
    pub config: usize,
    pub min_ready: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub what: What,
    pub replicas: u32,
    pub image: String,
    pub folder: &'static str,
    /// By place in [`crate::text::PLACES`], [`crate::text::REQUESTS`], and so on.
    pub place: usize,
    pub requests: usize,
    pub priority: usize,
    pub budget: usize,
    /// Its pods may move when their node is cut off for long enough.
    pub fenced: bool,
    /// In a repo with stages; see [`crate::text::WAVES`].
    pub wave: usize,
}

impl Item {
    pub fn of(random: &mut Random, staged: bool) -> Self {
        let what = what(random, staged);
        let replicas = 1 + u32::try_from(random.below(4)).unwrap_or(0);
        let usually_none = |random: &mut Random, of: usize| match random.permille(500) {
            true => 0,
            false => random.below(of),
        };
        let mut item = Self {
            what,
            replicas,
            image: String::new(),
            folder: "",
            place: usually_none(random, crate::text::PLACES.len()),
            requests: usually_none(random, crate::text::REQUESTS.len()),
            priority: usually_none(random, crate::text::PRIORITIES.len()),
            budget: usually_none(random, crate::text::BUDGETS.len()),
            fenced: random.permille(300),
            wave: 0,
        };
        if staged && !matches!(item.what, What::Hook(_)) {
            item.wave = random.below(crate::text::WAVES.len());
        }
        item.image = format!("{}:1", item.image_kind());
        if !item.rolls() {
            (item.place, item.requests) = (0, 0);
        }
        item
    }

    /// What the images are called that do what this is to do.
    pub fn image_kind(&self) -> &'static str {
        match self.what {
            What::Web(_) | What::Daemon { .. } | What::Controller { .. } => "web",
            What::Store { .. } | What::Pod | What::Set(_) => "store",
            What::Job { .. } | What::Cron { .. } | What::Hook(_) => "job",
        }
    }

    /// Whether a change of its template changes the pods that there are.
    pub fn rolls(&self) -> bool {
        !matches!(self.what, What::Controller { .. })
    }

    pub fn name_kind(&self) -> &'static str {
        match self.what {
            What::Web(_) => "web",
            What::Store { .. } => "store",
            What::Job { .. } => "job",
            What::Pod => "bare",
            What::Set(_) => "db",
            What::Daemon { .. } => "log",
            What::Controller { older: true } => "rc",
            What::Controller { older: false } => "rs",
            What::Cron { .. } => "cron",
            What::Hook(_) => "hook",
        }
    }

    /// Pods that keep apart need nodes, also for those that replace them.
    pub fn fit(&mut self, roomy: bool) {
        if matches!(self.what, What::Hook(_)) {
            // The classes come after those that come first.
            self.priority = 0;
        }
        if self.place == crate::text::APART {
            self.place = if roomy { self.place } else { 0 };
            self.replicas = self.replicas.min(2);
            if let What::Web(web) = &mut self.what {
                web.scaled = false;
            }
        }
    }

    /// Only what can be reached is asked for from now on.
    pub fn heal(&mut self) {
        if self.image.starts_with("nowhere") || self.image.starts_with("crash") {
            self.image = format!("{}:2", self.image_kind());
        }
        self.requests = 0;
        // A place that is taken by something in a later wave is not given up before its turn.
        self.wave = 0;
        self.replicas = self.replicas.min(3);
        if self.place == crate::text::APART {
            self.place = 0;
        }
        match &mut self.what {
            What::Web(web) => web.paused = false,
            // Nobody deletes the pods by hand that only then would be replaced.
            What::Set(set) => set.update = 0,
            What::Daemon { update, .. } => *update = 0,
            _ => {}
        }
    }
}

fn what(random: &mut Random, staged: bool) -> What {
    if staged && random.permille(HOOKS) {
        return What::Hook(hook(random));
    }
    match random.below(17) {
        0..4 => What::Web(web(random)),
        4..6 => What::Store { once_pod: random.permille(400), shared: random.permille(400) },
        6..8 => What::Job {
            completions: 1 + small(random, 3),
            parallelism: 1 + small(random, 2),
            indexed: random.permille(400),
            short_lived: random.permille(200),
        },
        8 => What::Pod,
        9..12 => What::Set(set(random)),
        12..14 => What::Daemon {
            update: random.below(crate::text::DAEMON_UPDATES.len()),
            selective: random.permille(300),
            min_ready: random.pick(&[0, 0, 5]),
        },
        14..16 => What::Controller { older: random.permille(400) },
        _ => What::Cron {
            schedule: random.below(crate::text::SCHEDULES.len()),
            policy: random.below(crate::text::POLICIES.len()),
        },
    }
}

pub fn hook(random: &mut Random) -> Hook {
    Hook {
        phase: random.below(crate::text::HOOKS.len()),
        policy: random.below(crate::text::HOOK_POLICIES.len()),
        wave: random.below(crate::text::WAVES.len()),
    }
}

fn web(random: &mut Random) -> Web {
    Web {
        strategy: random.below(crate::text::STRATEGIES.len()),
        probe: random.permille(400),
        two: random.permille(300),
        config: random.below(crate::text::CONFIGS.len()),
        min_ready: random.pick(&[0, 0, 5]),
        paused: false,
        scaled: random.permille(250),
    }
}

fn set(random: &mut Random) -> Set {
    Set {
        parallel: random.permille(400),
        update: random.below(crate::text::SET_UPDATES.len()),
        claims: random.permille(700),
        retention: random.below(crate::text::RETENTIONS.len()),
        config: random.below(crate::text::CONFIGS.len()),
        min_ready: random.pick(&[0, 0, 5]),
    }
}

fn small(random: &mut Random, limit: usize) -> u32 {
    u32::try_from(random.below(limit)).unwrap_or(0)
}
