//! Scenarios: commits, observations and time against the real core and the real store.

mod agents;
mod autoscalers;
mod brakes;
mod cluster;
mod configs;
mod cron_jobs;
mod daemon_sets;
mod data;
mod fields;
mod found;
mod histories;
mod jobs;
mod large_histories;
mod lost;
mod manifests;
mod nodes;
mod promises;
mod restores;
mod rollouts;
mod scheduling;
mod seen;
mod services;
mod stateful_sets;
mod told;
mod waiting;
mod waves;
