//! Scenarios: commits, observations and time against the real core and the real store.

mod brakes;
mod cluster;
mod cron_jobs;
mod data;
mod histories;
mod jobs;
mod lost;
mod manifests;
mod nodes;
mod rollouts;
mod scheduling;
mod services;
mod waiting;
