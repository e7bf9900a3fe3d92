//! (crate docs being written)

pub mod error;
pub mod config;
pub mod driver;
pub mod sync;
