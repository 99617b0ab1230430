//! Tests with real VMs. Each runs the built `boxwood` in a lab of its own; a test whose name begins
//! with a letter and a number holds that number of the contract.

// A test that can't go on panics; its helpers are tests, too.
#![allow(clippy::unwrap_used)]
// What they skip, they say.
#![allow(clippy::print_stderr)]

mod bad_input;
mod clients;
mod crashes;
mod deaths;
mod events;
mod exec;
mod exec_bad_input;
mod exec_ends;
mod exec_hostile;
mod exec_many;
mod failpoints;
mod forks;
mod habits;
mod health;
mod images;
mod installing;
mod leaving;
mod library;
mod lifecycle;
mod logs;
mod main_process;
mod metrics;
mod ordinary_user;
mod owners;
mod pausing;
mod pool_failpoints;
mod pools;
mod rebirth;
mod resources;
mod rest;
mod rest_adoption;
mod rest_bad_input;
mod rest_daemon;
mod rest_remote;
mod rest_remote_snapshots;
mod rest_snapshots;
mod rest_streams;
mod restarting;
mod restoring;
mod results;
mod snapshot_disks;
mod snapshot_failpoints;
mod snapshot_files;
mod snapshots;
mod streams;
mod templates;
mod terminals;
mod together;
mod top;
