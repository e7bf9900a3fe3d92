//! The flags of `doctor`.

use std::path::PathBuf;

use clap::Args;

pub(super) const DOCTOR_HELP: &str = "\
Examples:
  skync doctor                       check this machine, this project and the profile in use
  skync doctor cloud                 the same for the profile `cloud`
  skync doctor --fix                 clear away what crashes left, and close what is open to others
  skync doctor --bundle report.tgz   put what a bug report needs into a file, without secrets
  skync --json doctor                one document, for a program

Code 0: nothing worse than warnings. Code 1: there is a problem, and it is said what removes it.
No check takes longer than 5 seconds; one that gets no answer is told as such, and the others are
printed all the same.";

/// Arguments of `doctor`.
#[derive(Args, Clone, Debug, Default)]
pub struct DoctorArgs {
    /// Check this profile; else the one that is in use
    #[arg(value_name = "PROFILE")]
    pub name: Option<String>,
    /// Repair what can be repaired without harm and without root, and check it again
    #[arg(long)]
    pub fix: bool,
    /// Write the report, settings and logs, without secrets, into this file (.tar.gz)
    #[arg(long, value_name = "FILE")]
    pub bundle: Option<PathBuf>,
}
