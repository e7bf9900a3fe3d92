//! (crate docs being written)

pub mod config;
pub mod driver;
pub mod error;
pub mod state;
