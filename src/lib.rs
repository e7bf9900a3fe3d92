//! (crate docs being written)

pub mod cli;
pub mod commands;
pub mod config;
pub mod driver;
pub mod error;
pub mod state;
pub mod ui;
