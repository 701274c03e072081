//! What stands in the repo, as data: one workload with what belongs to it. How it is written is
//! in `text`.

use crate::random::Random;

/// Versions of each image that the registries have.
pub const VERSIONS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Web(Web),
    /// A Deployment of one pod with a claim.
    Store {
        once_pod: bool,
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
    Controller,
    Cron {
        schedule: usize,
        policy: usize,
    },
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
}

impl Item {
    pub fn of(random: &mut Random) -> Self {
        let what = what(random);
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
        };
        item.image = format!("{}:1", item.image_kind());
        if !item.rolls() {
            (item.place, item.requests) = (0, 0);
        }
        item
    }

    /// What the images are called that do what this is to do.
    pub fn image_kind(&self) -> &'static str {
        match self.what {
            What::Web(_) | What::Daemon { .. } | What::Controller => "web",
            What::Store { .. } | What::Pod | What::Set(_) => "store",
            What::Job { .. } | What::Cron { .. } => "job",
        }
    }

    /// Whether a change of its template changes the pods that there are.
    pub fn rolls(&self) -> bool {
        !matches!(self.what, What::Controller)
    }

    pub fn name_kind(&self) -> &'static str {
        match self.what {
            What::Web(_) => "web",
            What::Store { .. } => "store",
            What::Job { .. } => "job",
            What::Pod => "bare",
            What::Set(_) => "db",
            What::Daemon { .. } => "log",
            What::Controller => "rc",
            What::Cron { .. } => "cron",
        }
    }

    /// Pods that keep apart need nodes, also for those that replace them.
    pub fn fit(&mut self, roomy: bool) {
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

fn what(random: &mut Random) -> What {
    match random.below(16) {
        0..4 => What::Web(web(random)),
        4..6 => What::Store { once_pod: random.permille(400) },
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
        14 => What::Controller,
        _ => What::Cron {
            schedule: random.below(crate::text::SCHEDULES.len()),
            policy: random.below(crate::text::POLICIES.len()),
        },
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
