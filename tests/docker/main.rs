//! Tests with real Docker engines, real containers and real networks. They need root and an engine: `tests/run docker`
//! sees to both.
#![allow(clippy::disallowed_methods, reason = "tests prepare files and read the environment")]

mod blog;
mod brakes;
mod by_itself;
mod clients;
mod cluster;
mod comebacks;
mod configs;
mod crashes;
mod drains;
mod engine;
mod face;
mod fenced;
#[path = "../support/firewalld.rs"]
mod firewalld;
mod host_ports;
#[path = "../support/hosts.rs"]
mod hosts;
mod joining;
mod lives;
mod load;
mod mortal;
mod names;
mod neighbours;
#[path = "../support/net_process.rs"]
mod net_process;
mod networks;
mod office;
mod outages;
mod own_engine;
mod plain;
mod pods;
mod privacy;
mod process;
mod pushes;
mod ran;
mod repo;
mod room;
mod sets;
#[path = "../support/skip.rs"]
mod skip;
mod streams;
mod terminal;
mod traffic;
mod transcript;
mod tutorials;
mod vandalism;
mod wait;
