//! Conflicts compared and decided by a person who sees them elsewhere than in `skync resolve`: by the
//! same steps. All of it may wait for a disk or a session.

use std::path::PathBuf;

use crate::commands::record::Record;
use crate::commands::{Context, runtime};
use crate::error::CliError;
use crate::project::Project;
use crate::sync::decide::{Choice, Decision};
use crate::sync::plan::Conflict;
use crate::ui::watch::model::Which;

use super::{difference_of, fetch, tell_session};

/// Whose conflicts.
#[derive(Clone, Debug)]
pub(in crate::commands) struct Place {
    pub(in crate::commands) context: Context,
    pub(in crate::commands) root: PathBuf,
    pub(in crate::commands) profile: String,
}

impl Place {
    fn record(&self) -> Record {
        Record { project: Project { root: self.root.clone(), inside: PathBuf::new() } }
    }

    fn conflicts(&self) -> Result<Vec<Conflict>, CliError> {
        let manifest = self.record().manifest(&self.context, &self.profile)?;
        manifest.map_or(Ok(Vec::new()), |manifest| manifest.conflicts().map_err(super::failed))
    }

    /// How the versions of the conflict differ that is shown as `shown`, and the conflict of which that
    /// is true.
    pub(in crate::commands) fn compare(&self, shown: &str) -> (Option<Conflict>, String) {
        let conflicts = match self.conflicts() {
            Ok(conflicts) => conflicts,
            Err(error) => return (None, error.message),
        };
        let found = conflicts.into_iter().find(|conflict| conflict.path.to_string() == shown);
        let Some(conflict) = found else {
            return (None, "it is not in conflict any more".to_owned());
        };
        let fetch =
            |conflict: &Conflict| fetch(&self.context.places, &self.root, &self.profile, conflict);
        let text = difference_of(&conflict, &self.root, &fetch);
        (Some(conflict), text)
    }

    /// Decides, and has the session carry it out; what is to be said.
    ///
    /// # Errors
    /// Why nothing, or not all, was decided.
    pub(in crate::commands) fn decide(&self, of: &Which, choice: Choice) -> Result<String, String> {
        let said = |error: CliError| error.message;
        let manifest = self.record().manifest(&self.context, &self.profile).map_err(said)?;
        let mut manifest = manifest.ok_or("nothing is recorded of this project")?;
        let conflicts = manifest.conflicts().map_err(|error| said(super::failed(error)))?;
        let (mut taken, mut refused) = (Vec::new(), Vec::new());
        for conflict in conflicts.iter().filter(|conflict| is_meant(of, conflict)) {
            match decision(of, conflict, choice) {
                Ok(decision) => taken.push((&conflict.path, decision)),
                Err(why) => refused.push(why),
            }
        }
        let decisions = taken.iter().map(|(path, decision)| (*path, decision));
        manifest.add_decisions(decisions).map_err(|error| said(super::failed(error)))?;
        let count = taken.len();
        drop(manifest);
        let is_told = count > 0
            && runtime().map_err(said)?.block_on(tell_session(
                &self.context.places,
                &self.root,
                &self.profile,
            ));
        let when = if is_told { "the session was told" } else { "the next session carries it out" };
        match (count, refused.first()) {
            (0, None) => Err("it is not in conflict any more".to_owned()),
            (0, Some(why)) => Err(why.clone()),
            (_, Some(why)) => Err(format!(
                "{} are decided, {} are not: {why}",
                super::counted(count),
                refused.len()
            )),
            (1, None) => Ok(format!("1 conflict is decided; {when}")),
            (_, None) => Ok(format!("{} are decided; {when}", super::counted(count))),
        }
    }
}

fn is_meant(of: &Which, conflict: &Conflict) -> bool {
    match of {
        Which::Shown(path) => conflict.path.to_string() == *path,
        Which::Seen(seen) => conflict.path == seen.path,
        Which::AllLike { guarded } => conflict.kind.is_held() == *guarded,
    }
}

fn decision(of: &Which, conflict: &Conflict, choice: Choice) -> Result<Decision, String> {
    match of {
        Which::Seen(seen) => {
            let decision = Decision::about(seen, choice)?;
            // What a person has compared is what the answer is about.
            if decision.holds_for(conflict) {
                Ok(decision)
            } else {
                Err(format!("`{}` has changed since it was compared: look again", conflict.path))
            }
        }
        Which::Shown(_) | Which::AllLike { .. } => Decision::about(conflict, choice),
    }
}
