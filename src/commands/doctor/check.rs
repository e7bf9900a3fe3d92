//! A check: its name, what it looks at, and how checks are run side by side.
//!
//! Each has a thread of its own, because what hangs (a dead network file system, a stuck engine)
//! often hangs in the kernel, where nothing can be told to stop. One that is late is left behind: it
//! ends with the process.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::around::Around;
use super::fix::Fix;

/// How long one check may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// It was not looked at, or nothing here needs it.
    Skipped,
    /// Something will work less well, or later not.
    Warning,
    /// Something does not work.
    Problem,
}

impl Level {
    /// The word for it; for programs too, so it never changes.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What one look has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// What was looked at, in a few words.
    pub(super) what: String,
    /// How bad it is.
    pub(super) level: Level,
    /// What was found.
    pub(super) found: String,
    /// Why it matters; of what is not as it should be.
    pub(super) why: Option<String>,
    /// What removes it: commands as they are typed, or a sentence.
    pub(super) remedy: Vec<String>,
    /// What `--fix` would do.
    pub(super) fix: Option<Fix>,
}

impl Finding {
    fn new(level: Level, what: impl Into<String>, found: impl Into<String>) -> Self {
        let (what, found) = (what.into(), found.into());
        Self { what, level, found, why: None, remedy: Vec::new(), fix: None }
    }

    /// All is well.
    pub(super) fn ok(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(Level::Ok, what, found)
    }

    /// It was not looked at, for this reason.
    pub(super) fn skipped(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(Level::Skipped, what, found)
    }

    /// Something works less well.
    pub(super) fn warning(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(Level::Warning, what, found)
    }

    /// Something does not work.
    pub(super) fn problem(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(Level::Problem, what, found)
    }

    /// The same finding, this bad.
    #[must_use]
    pub(super) fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// Adds why it matters.
    #[must_use]
    pub(super) fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// Adds what removes it.
    #[must_use]
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy.push(remedy.into());
        self
    }

    /// Adds what `--fix` does about it.
    #[must_use]
    pub(super) fn fix(mut self, fix: Fix) -> Self {
        self.fix = Some(fix);
        self
    }
}

/// Something that is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Check {
    /// Under which heading its findings stand.
    pub(super) group: &'static str,
    /// Its name, which a program may ask for; it never changes.
    pub(super) name: &'static str,
    /// Looks. It may take as long as it likes: it is left behind when it is late.
    pub(super) look: fn(&Around) -> Vec<Finding>,
}

/// A check and what it has found.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub(super) group: &'static str,
    pub(super) name: &'static str,
    pub(super) findings: Vec<Finding>,
}

impl Checked {
    /// The worst of what was found.
    pub(super) fn level(&self) -> Level {
        self.findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }
}

/// Runs checks side by side, and returns what they found in the order in which they were given. One
/// that is not done in time has found that.
pub(super) fn run_all(checks: &[Check], around: &Arc<Around>, patience: Duration) -> Vec<Checked> {
    let (tell, told) = mpsc::channel();
    for (at, check) in checks.iter().enumerate() {
        let (tell, around, look) = (tell.clone(), Arc::clone(around), check.look);
        let thread = std::thread::Builder::new().name(check.name.to_owned());
        // One that cannot be started says nothing, and counts as late.
        let _ = thread.spawn(move || tell.send((at, look(&around))));
    }
    drop(tell);
    let deadline = Instant::now() + patience;
    let mut found: Vec<Option<Vec<Finding>>> = vec![None; checks.len()];
    while found.iter().any(Option::is_none) {
        let left = deadline.saturating_duration_since(Instant::now());
        match told.recv_timeout(left) {
            Ok((at, findings)) => found[at] = Some(findings),
            Err(_) => break,
        }
    }
    let checked = |(check, findings): (&Check, Option<Vec<Finding>>)| Checked {
        group: check.group,
        name: check.name,
        findings: findings.unwrap_or_else(|| vec![late(check, patience)]),
    };
    checks.iter().zip(found).map(checked).collect()
}

fn late(check: &Check, patience: Duration) -> Finding {
    let found = format!("no answer within {} s", patience.as_secs());
    Finding::warning(check.name.replace('-', " "), found)
        .why("whatever it asks is stuck, and so may be who needs it")
        .remedy("skync doctor    once more; if it stays so, something on this machine hangs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quick(_: &Around) -> Vec<Finding> {
        vec![Finding::ok("quick", "done")]
    }

    fn stuck(_: &Around) -> Vec<Finding> {
        loop {
            std::thread::park();
        }
    }

    fn broken(_: &Around) -> Vec<Finding> {
        panic!("a defect in a check")
    }

    #[test]
    fn what_hangs_or_breaks_keeps_nobody_from_the_rest() {
        let check = |name, look| Check { group: "g", name, look };
        let checks =
            [check("a-stuck", stuck as fn(&_) -> _), check("b", broken), check("c", quick)];
        let base = tempfile::tempdir().expect("a directory");
        let around = Arc::new(Around::below(base.path()));
        let found = run_all(&checks, &around, Duration::from_millis(300));
        let names: Vec<_> = found.iter().map(|one| (one.name, one.level())).collect();
        assert_eq!(names, [("a-stuck", Level::Warning), ("b", Level::Warning), ("c", Level::Ok)]);
        assert_eq!(found[0].findings[0].what, "a stuck");
        assert_eq!(found[0].findings[0].found, "no answer within 0 s");
    }
}
