//! Every integration test, in one binary: one link, and fixtures that are shared.

#![allow(unreachable_pub, reason = "fixtures are for all modules of this one binary")]

mod hostile;
mod model;
mod rules;
mod support;
mod sync;
