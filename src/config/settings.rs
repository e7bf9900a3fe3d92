//! What each key of a profile is: its form, a word of explanation, and whether a project may say it.
//!
//! The checker, the variables, the JSON Schema and the trust in project files all go by this table;
//! a test proves that every key that the checker knows is in it. A key that is not in it is one that
//! a project may not say unasked.

use super::values;

/// What a key's value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Text.
    Text,
    /// One of these words.
    Words(&'static [&'static str]),
    /// A number; it may have a fraction.
    Number,
    /// A whole number.
    Whole,
    /// `512MiB`, or a whole number of bytes.
    Size,
    /// `90s`, `1h30m`.
    Time,
    /// True or false.
    Truth,
    /// A list of texts.
    List,
    /// A text, or a list of texts and of lists of words.
    Commands,
    /// A table of texts.
    Table,
}

/// Whether what a project file says of a key counts before `skync trust`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// It does.
    Free,
    /// It does, unless it takes away what the user's own files say; see `judge`.
    Weakens,
    /// It does not.
    Asks,
    /// Not after it either.
    Never,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) key: &'static str,
    pub(super) form: Form,
    /// What it is; for the schema.
    pub(super) about: &'static str,
    pub(super) rule: Rule,
    /// Why: what it could do, as the rest of "in a project file it could …".
    pub(super) why: &'static str,
}

const fn new(
    key: &'static str,
    form: Form,
    about: &'static str,
    rule: Rule,
    why: &'static str,
) -> Setting {
    Setting { key, form, about, rule, why }
}

/// What a limit of the user's own is there for.
const LIMIT: &str = "change a limit that your own configuration sets";

/// Every key of a profile.
pub(super) const SETTINGS: [Setting; 37] = [
    new(
        "driver",
        Form::Words(&super::keys::DRIVERS),
        "how sandboxes are made",
        Rule::Weakens,
        "run commands on this machine itself, or cost money, where your own choice would not",
    ),
    new(
        "extends",
        Form::Text,
        "the profile from which everything is taken that this one does not say",
        Rule::Weakens,
        "take over settings or variables that you made for something else",
    ),
    new(
        "env",
        Form::Table,
        "variables for every command",
        Rule::Asks,
        "have programs do something else than you meant",
    ),
    new(
        "image",
        Form::Text,
        "docker, daytona: the image of a new sandbox",
        Rule::Free,
        "only choose what the sandbox is made of",
    ),
    new(
        "container",
        Form::Text,
        "docker: a container that runs already; it is never removed",
        Rule::Asks,
        "write into a container of yours that has nothing to do with the project",
    ),
    new(
        "host",
        Form::Text,
        "docker: the engine's address",
        Rule::Asks,
        "send the project to another engine",
    ),
    new("memory", Form::Size, "docker, daytona: memory of the sandbox", Rule::Weakens, LIMIT),
    new("cpus", Form::Number, "docker, daytona: CPUs of the sandbox", Rule::Weakens, LIMIT),
    new("pids", Form::Whole, "docker: most processes in the sandbox", Rule::Weakens, LIMIT),
    new("disk", Form::Size, "daytona: disk of the sandbox", Rule::Weakens, LIMIT),
    new(
        "network",
        Form::Text,
        "docker: `none`, `bridge` or the name of a network",
        Rule::Asks,
        "let the sandbox reach this machine or a network of yours",
    ),
    new(
        "user",
        Form::Text,
        "docker, e2b: who commands run as",
        Rule::Asks,
        "run commands as another user than you meant",
    ),
    new(
        "link",
        // Which of them are meant is for the driver to say.
        Form::Words(&["auto", "socket", "stdio", "websocket", "stream"]),
        "docker, e2b: how the agent is reached",
        Rule::Asks,
        "reach the sandbox in a way that others can reach, too",
    ),
    new(
        "base",
        Form::Text,
        "directory: where sandboxes are made",
        Rule::Asks,
        "make and remove directories anywhere on this machine",
    ),
    new(
        "template",
        Form::Text,
        "e2b: the template",
        Rule::Free,
        "only choose what the sandbox is made of",
    ),
    new(
        "snapshot",
        Form::Text,
        "daytona: the snapshot",
        Rule::Free,
        "only choose what the sandbox is made of",
    ),
    new(
        "target",
        Form::Text,
        "daytona: the region",
        Rule::Asks,
        "send the project to another part of the world",
    ),
    new(
        "internet",
        Form::Truth,
        "e2b, daytona: the sandbox reaches the internet",
        Rule::Asks,
        "let the sandbox send the project to anybody",
    ),
    new(
        "timeout",
        Form::Time,
        "e2b, daytona: how long a sandbox outlives its session at most",
        Rule::Asks,
        "let a sandbox that costs money outlive its session",
    ),
    new(
        "on_timeout",
        Form::Words(&["kill", "pause"]),
        "e2b: what becomes of a sandbox whose time is over",
        Rule::Asks,
        "leave sandboxes behind that cost money",
    ),
    new(
        "mode",
        Form::Words(&values::MODE_WORDS),
        "how the two sides are kept the same",
        Rule::Asks,
        "let one side's files be overwritten without a word",
    ),
    new(
        "exclude",
        Form::List,
        "patterns of what is not synchronised, gitignore syntax",
        Rule::Weakens,
        "send files to the sandbox that your own configuration leaves out",
    ),
    new(
        "gitignore",
        Form::Truth,
        "leave out what .gitignore files leave out",
        Rule::Weakens,
        "send files to the sandbox that your own configuration leaves out",
    ),
    new(
        "guarded",
        Form::List,
        "patterns of what the sandbox may not change on the host without a yes, gitignore syntax",
        Rule::Asks,
        "let the sandbox change what this machine runs, such as git hooks",
    ),
    new(
        "root",
        Form::Text,
        "where the project is in the sandbox",
        Rule::Asks,
        "write over other files of a container that is yours",
    ),
    new("max_runtime", Form::Time, "a command is stopped after that", Rule::Weakens, LIMIT),
    new(
        "on_disconnect",
        Form::Text,
        "`keep`, `cancel` or a time: what becomes of a command whose client has gone",
        Rule::Asks,
        "let commands go on when nobody waits for them",
    ),
    new(
        "reconnect_timeout",
        Form::Time,
        "how long a lost link is dialled",
        Rule::Asks,
        "let a sandbox that costs money outlive its session",
    ),
    new(
        "mount",
        Form::Truth,
        "`skync up` mounts the sandbox",
        Rule::Asks,
        "mount a sandbox in your home directory",
    ),
    new(
        "mount_at",
        Form::Text,
        "where the sandbox is mounted on the host",
        Rule::Asks,
        "mount the sandbox over a directory of yours",
    ),
    new(
        "mount_root",
        Form::Text,
        "the directory of the sandbox that is mounted",
        Rule::Asks,
        "show more of the sandbox than the project",
    ),
    new(
        "mount_rw",
        Form::Truth,
        "the mount can be written",
        Rule::Asks,
        "let programs here write into the sandbox",
    ),
    new(
        "mount_timeout",
        Form::Time,
        "how long whoever reads in the mount waits for a lost link",
        Rule::Asks,
        "have programs here wait for a sandbox",
    ),
    new(
        "setup",
        Form::Commands,
        "commands that prepare a new sandbox",
        Rule::Asks,
        "run commands before the one that you asked for",
    ),
    new(
        "setup_timeout",
        Form::Time,
        "`setup` is stopped after that",
        Rule::Asks,
        "change a limit that your own configuration sets",
    ),
    new(
        "setup_image",
        Form::Truth,
        "docker: keep what `setup` made as an image",
        Rule::Asks,
        "fill the disk of the engine with images",
    ),
    new(
        "credential_command",
        Form::List,
        "e2b, daytona: a command of the host that prints the key",
        Rule::Never,
        "run any command on this machine",
    ),
];

/// What is known of a key.
pub(super) fn setting(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// True if no project may say this key, trusted or not.
pub fn is_never_of_project(key: &str) -> bool {
    rule(key) == Rule::Never
}

/// Whether a project may say this key; of one that is not known, not unasked.
pub(super) fn rule(key: &str) -> Rule {
    setting(key).map_or(Rule::Asks, |setting| setting.rule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::Kind;

    #[test]
    fn every_key_that_the_checker_knows_is_explained() {
        for key in Kind::Unknown.keys() {
            assert!(setting(key).is_some(), "`{key}` is not in SETTINGS");
        }
        let mut keys: Vec<_> = SETTINGS.iter().map(|setting| setting.key).collect();
        keys.sort_unstable();
        let count = keys.len();
        keys.dedup();
        assert_eq!(keys.len(), count, "a key is there twice");
    }

    #[test]
    fn what_no_table_knows_is_not_for_a_project_to_say() {
        assert_eq!(rule("invented"), Rule::Asks);
        assert_eq!(rule("credential_command"), Rule::Never);
    }
}
