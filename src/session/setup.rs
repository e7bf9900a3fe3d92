//! What is done in a sandbox once, before anything else: the profile's `setup`.
//!
//! `live::setup` has the commands run; here is what that needs and leaves on the host. In reading order:
//! the key of a preparation, `log` for what its commands write, `records` for which sandbox is prepared
//! and what is kept, `show` for whoever watches.
//!
//! That a sandbox is prepared is written down on the host, not in the sandbox: of one that we made in
//! the journal's entry of its session, beside the sandbox itself, with which it comes and goes; of a
//! container that was there before and stays in a file by the container's id, which its engine gives to
//! no other. So nothing of ours stays in what is not ours, an image that is kept holds no mark that
//! could be wrong, and the two records of one session cannot disagree. The price: another user of
//! the same container prepares it once more, which commands must bear anyway, since a mark that was
//! not written has the same effect.

pub mod log;
pub mod records;
pub(super) mod show;

use serde_json::json;
use sha2::{Digest, Sha256};
use skync_agent::proto::Variable;

use crate::config::Profile;
use crate::environment;

/// Version of what a preparation is: another one prepares every sandbox anew. History: 1, the first.
const VERSION: u32 = 1;

/// Stands for everything that decides what preparing a sandbox does; nothing if nothing is to be done.
pub fn key(profile: &Profile) -> Option<String> {
    if profile.setup.commands.is_empty() {
        return None;
    }
    let commands: Vec<_> = profile.setup.commands.iter().map(|command| command.argv()).collect();
    // Each part in quotes and in its place: no two preparations have the same text.
    let all = json!([VERSION, commands, profile.env, profile.user()]).to_string();
    Some(Sha256::digest(all).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The variables of the commands: what every operation gets, then the profile's. Nothing of the host,
/// not even what a command of a user gets: what is prepared must not depend on who began.
pub(super) fn environment(profile: &Profile) -> Vec<Variable> {
    let git = [("safe.directory".to_owned(), "*".to_owned())];
    let ours = environment::collect(std::iter::empty(), &[], &git).unwrap_or_default();
    let ours = ours
        .into_iter()
        .map(|(name, value)| (name.into_encoded_bytes(), value.into_encoded_bytes()));
    let of_profile = profile.env.iter();
    let of_profile =
        of_profile.map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes()));
    ours.chain(of_profile).map(|(name, value)| Variable { name, value }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DockerConfig, DriverConfig, SetupCommand};

    fn profile(commands: &[&str]) -> Profile {
        let mut profile = Profile::new("dev", DriverConfig::Docker(DockerConfig::default()));
        let line = |line: &&str| SetupCommand::Line((*line).to_owned());
        profile.setup.commands = commands.iter().map(line).collect();
        profile
    }

    #[test]
    fn the_key_is_of_all_that_reaches_the_commands_and_of_nothing_else() {
        assert_eq!(key(&profile(&[])), None);
        let base = key(&profile(&["a", "b"]));
        assert_ne!(base, key(&profile(&["b", "a"])));
        assert_ne!(base, key(&profile(&["a b"])));
        let mut other = profile(&["a", "b"]);
        other.setup.timeout = Some(std::time::Duration::from_secs(1));
        other.exclude = vec!["x".to_owned()];
        other.name = "other".to_owned();
        assert_eq!(base, key(&other));
        other.env.insert("A".to_owned(), "1".to_owned());
        assert_ne!(base, key(&other));
        let mut user = profile(&["a", "b"]);
        user.driver = DriverConfig::Docker(DockerConfig {
            user: Some("1".into()),
            ..DockerConfig::default()
        });
        assert_ne!(base, key(&user));
        let mut argv = profile(&[]);
        let words = ["/bin/sh", "-c", "a"].map(str::to_owned).to_vec();
        argv.setup.commands = vec![SetupCommand::Argv(words)];
        assert_eq!(key(&argv), key(&profile(&["a"])));
    }

    #[test]
    fn the_commands_get_the_profiles_variables_and_none_of_the_host() {
        let mut profile = profile(&["a"]);
        profile.env.insert("LANG".to_owned(), "de_DE.UTF-8".to_owned());
        let variables = environment(&profile);
        let value = |name: &str| {
            let found = variables.iter().rev().find(|variable| variable.name == name.as_bytes());
            found.map(|variable| String::from_utf8_lossy(&variable.value).into_owned())
        };
        assert_eq!(value("LANG").as_deref(), Some("de_DE.UTF-8"));
        assert_eq!(value("SKYNC").as_deref(), Some("1"));
        assert_eq!((value("PATH"), value("HOME"), value("TERM")), (None, None, None));
    }
}
