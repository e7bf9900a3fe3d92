//! The sessions of a project that run now, whatever the configuration says by now.

use std::path::Path;

use super::Context;
use super::profile::differences;
use crate::config::Profile;
use crate::session::journal::{Entry, Journal};
use crate::ui::{render, visible};

/// The journal's entries of the sessions that run.
pub(super) fn of_project(context: &Context, root: &Path) -> Vec<Entry> {
    running(context, |entry| entry.root == root)
}

/// Those of them that are wanted. To ask whether one runs is to hold its lock for a moment, so none is
/// asked that is not wanted.
fn running(context: &Context, is_wanted: impl Fn(&Entry) -> bool) -> Vec<Entry> {
    let Ok(journal) = Journal::open(&context.places) else { return Vec::new() };
    let (entries, _) = journal.list().unwrap_or_default();
    let lives = |entry: &Entry| matches!(journal.claim(&entry.id), Ok(None));
    entries.into_iter().filter(|entry| is_wanted(entry) && lives(entry)).collect()
}

/// Says so if the session's sandbox was made with other settings: it keeps those.
pub(super) fn warn_of_older(context: &Context, root: &Path, profile: &Profile) {
    if context.json || context.quiet > 1 {
        return;
    }
    let is_older = |entry: &Entry| {
        entry.root == root
            && entry.profile.name == profile.name
            && !differences(&entry.profile, profile, context).is_empty()
    };
    for entry in running(context, is_older).into_iter().take(1) {
        let keys = differences(&entry.profile, profile, context);
        let text = format!(
            "the sandbox that runs was made with other settings ({}), and keeps them until `skync down`",
            visible(&keys.join(", "))
        );
        render::warning(&text, context.style);
    }
}
