//! The flags of `config` and `trust`.

use clap::{Args, Subcommand};

pub(super) const CONFIG_HELP: &str = "\
Examples:
  skync config show --origin      what is set for the profile that is used, and where
  skync config path               the files that are read, the weakest first
  skync config schema             the JSON Schema of the files, for an editor";

pub(super) const TRUST_HELP: &str = "\
Examples:
  skync trust             show what the project's files say, ask, and let it count
  skync trust --show      show it only
  skync trust --revoke    let it count no longer

What could harm this machine, send files elsewhere or cost money counts only after this. A file that
changes afterwards is not trusted any more.";

/// Verbs of `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show what is set for a profile
    Show(ConfigShowArgs),
    /// List the files that are read, the weakest first
    Path,
    /// Print the JSON Schema of the files
    Schema,
}

/// Arguments of `config show`.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigShowArgs {
    /// The profile; else the one that is used
    pub name: Option<String>,
    /// Say where each value is from
    #[arg(long)]
    pub origin: bool,
}

/// Arguments of `trust`.
#[derive(Args, Clone, Debug, Default)]
pub struct TrustArgs {
    /// Show what the files say, and change nothing
    #[arg(long, group = "what")]
    pub show: bool,
    /// Let them count no longer
    #[arg(long, group = "what")]
    pub revoke: bool,
    /// List the projects whose files are trusted
    #[arg(long, group = "what")]
    pub list: bool,
    /// Do not ask
    #[arg(long, conflicts_with = "what")]
    pub yes: bool,
}
