//! Every integration test, in one binary: one link, and fixtures that are shared.

mod cleanup;
mod support;
