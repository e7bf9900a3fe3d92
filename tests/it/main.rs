//! Every integration test, in one binary: one link, and fixtures that are shared.

mod bad_input;
mod cleanup;
mod profiles;
mod support;
