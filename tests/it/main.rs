//! Every integration test, in one binary: one link, and fixtures that are shared.
#![expect(unreachable_pub, reason = "fixtures are public to the modules of this binary")]

mod auth;
mod bad_input;
mod cleanup;
mod clouds;
mod config;
mod conformance;
mod contract;
mod doctor;
mod errors;
mod hostile;
mod images;
mod init;
mod model;
mod mount;
mod operations;
mod profiles;
mod readme;
mod rules;
mod safety;
mod setup;
mod shells;
mod simulation;
mod spec_kit;
mod support;
mod survive;
mod sync;
mod terminal;
mod tidy;
mod turns;
mod up;
mod watch;
