//! The flags of `init`.

use clap::Args;

pub(super) const INIT_HELP: &str = "\
Examples:
  skync init                           at most four questions, each with a proposal
  skync init --yes                     the proposals, without a question
  skync init --driver docker --image node:22 --project --yes
  skync init --dry-run                 show what would be written, and write nothing

Nothing that is there already is changed: a profile gets another name, and what stands in a file
stays there. Ctrl-C, and the end of the input, write nothing.";

/// Arguments of `init`.
#[derive(Args, Clone, Debug, Default)]
pub struct InitArgs {
    /// Where the code runs: docker, e2b, daytona or directory
    #[arg(long)]
    pub driver: Option<String>,
    /// The image of new sandboxes; with e2b, the template
    #[arg(long)]
    pub image: Option<String>,
    /// Leave out what this pattern matches, gitignore syntax
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// The profile's name; else the driver's
    #[arg(long)]
    pub name: Option<String>,
    /// Write it into `skync.toml` in the project, for all who work on it
    #[arg(long, conflicts_with = "user")]
    pub project: bool,
    /// Write it into your own configuration
    #[arg(long)]
    pub user: bool,
    /// Ask nothing: take the proposals, and write
    #[arg(short, long)]
    pub yes: bool,
    /// Show what would be written, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}
