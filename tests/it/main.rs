//! Every integration test, in one binary: one link, and fixtures that are shared.
#![expect(unreachable_pub, reason = "fixtures are public to the modules of this binary")]

mod bad_input;
mod cleanup;
mod clouds;
mod conformance;
mod hostile;
mod images;
mod model;
mod mount;
mod operations;
mod profiles;
mod rules;
mod safety;
mod simulation;
mod spec_kit;
mod support;
mod survive;
mod sync;
mod terminal;
mod tidy;
mod turns;
mod up;
