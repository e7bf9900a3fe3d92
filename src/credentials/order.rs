//! In which order keys are looked for, and how long what was found is remembered.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::keychain::Trouble;
use super::{EVERY_PROFILE, KeyError, Login, Manner, Provider, Secret, Surroundings};
use super::{command, file, keychain, logins};

/// How long a key of the keychain or the command is used without asking again. A key that the provider
/// refuses is forgotten at once, so that a new login counts.
const KEPT: Duration = Duration::from_secs(300);
/// How long it is remembered that there was none: a burst of requests asks once.
const KEPT_NONE: Duration = Duration::from_secs(10);

/// Where a key came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A variable of this name.
    Variable(&'static str),
    /// The keychain's item of this account.
    Keychain(String),
    /// The profile's `credential_command`.
    Command,
    /// This account in the file.
    File(String),
    /// The login of the provider's own tool.
    Tool(Provider),
    /// It was given by who asks.
    Given,
}

impl Source {
    /// The word for programs; it never changes.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Variable(_) => "environment",
            Self::Keychain(_) => "keychain",
            Self::Command => "credential_command",
            Self::File(_) => "file",
            Self::Tool(_) => "provider_login",
            Self::Given => "given",
        }
    }

    /// True if what is found here may be used in place of a key of `refused`.
    pub fn may_replace(&self, refused: &Self) -> bool {
        self == refused || matches!(refused, Self::Variable(_))
    }

    /// The words for a person.
    pub fn words(&self) -> String {
        match self {
            Self::Variable(name) => (*name).to_owned(),
            Self::Keychain(account) => format!("keychain ({account})"),
            Self::Command => "credential_command".to_owned(),
            Self::File(account) => format!("file in plain text ({account})"),
            Self::Tool(Provider::E2b) => "`e2b auth login`".to_owned(),
            Self::Tool(Provider::Daytona) => "`daytona login`".to_owned(),
            Self::Given => "given".to_owned(),
        }
    }
}

/// A key, and where it came from.
#[derive(Clone)]
pub struct Found {
    /// The key.
    pub login: Login,
    /// Where it came from.
    pub source: Source,
}

/// The keys of one profile, or of all profiles of a driver.
#[derive(Clone)]
pub struct Keys {
    provider: Provider,
    surroundings: Surroundings,
}

impl Keys {
    /// Those for `provider` in these surroundings. Nothing is looked for yet.
    pub fn new(provider: Provider, surroundings: Surroundings) -> Self {
        Self { provider, surroundings }
    }

    /// Whose they are.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// Where they are looked for.
    pub fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// The key to use; nothing if there is none.
    ///
    /// # Errors
    /// If there may be one that cannot be read.
    pub async fn first(&self) -> Result<Option<Found>, KeyError> {
        if let Some(given) = &self.surroundings.given {
            return Ok(Some(Found { login: given.clone(), source: Source::Given }));
        }
        match self.variables()?.into_iter().next() {
            Some((name, login)) => Ok(Some(Found { login, source: Source::Variable(name) })),
            None => self.stored().await,
        }
    }

    /// Another one than what the provider has refused. What cannot be read is none.
    ///
    /// A session's environment is what it was at its start, and whoever has logged in since has a newer
    /// key. From everywhere else it is what the same place has now: the next place of the order may
    /// have the key of another account, which must not get this one's sandboxes.
    pub async fn another(&self, refused: &Found) -> Option<Found> {
        let found = match refused.source {
            Source::Given => return None,
            Source::Variable(_) => self.stored().await,
            Source::Keychain(_) | Source::Command | Source::File(_) | Source::Tool(_) => {
                self.first().await
            }
        };
        let found = found.unwrap_or_else(|error| {
            tracing::debug!(error = error.message, "there is no other key");
            None
        });
        found.filter(|found| {
            found.login.token != refused.login.token && found.source.may_replace(&refused.source)
        })
    }

    /// Has the keychain and the command asked again for these, after the provider refused a key.
    pub fn forget(&self) {
        let (accounts, command) = (self.accounts(), &self.surroundings.command);
        lock(&KEPT_KEYS).retain(|(_, kept)| match kept {
            Kept::Keychain(of, _) => *of != accounts,
            Kept::Command(of, _) => Some(of) != command.as_ref(),
        });
        lock(&LAST_GOOD).retain(|(of, _)| *of != accounts);
    }

    /// The variable that wins over everything else, if one is set.
    pub fn variable(&self) -> Option<&'static str> {
        Some(self.variables().ok()?.first()?.0)
    }

    /// What does not come from the environment.
    async fn stored(&self) -> Result<Option<Found>, KeyError> {
        let of = |login: Login, source| Ok(Some(Found { login, source }));
        let around = &self.surroundings;
        let accounts = self.accounts();
        match keychain_key(around.keychain, &accounts).await {
            Ok(Some((account, login))) => return of(login, Source::Keychain(account)),
            Ok(None) | Err(Trouble::Absent(_)) => {}
            // What the user has written for a machine whose keychain is of no use.
            Err(_) if around.command.is_some() => {}
            Err(trouble) => return Err(trouble.for_reading(self.provider)),
        }
        if let Some(command) = &around.command {
            return of(command_key(command).await?, Source::Command);
        }
        if let Some((account, login)) = file::find(around, &accounts)? {
            return of(login, Source::File(account));
        }
        match logins::of(self.provider, around) {
            Some(login) => of(login, Source::Tool(self.provider)),
            None => Ok(None),
        }
    }

    /// The accounts of its items, the nearest first.
    fn accounts(&self) -> Vec<String> {
        let profile = self.surroundings.profile.as_str();
        let mut profiles = vec![profile, EVERY_PROFILE];
        profiles.dedup();
        let account = |profile: &str| self.provider.account(&self.surroundings, profile);
        profiles.into_iter().map(account).collect()
    }

    /// The keys in the environment. Never from a `.env` file: a project could send the key elsewhere.
    fn variables(&self) -> Result<Vec<(&'static str, Login)>, KeyError> {
        let variable = |name| self.surroundings.variable(name);
        let organization = || variable("DAYTONA_ORGANIZATION_ID").map(str::to_owned);
        let mut found = Vec::new();
        let own = self.provider.variable();
        if let Some(text) = variable(own) {
            let mut login = Login::parse(text).map_err(|why| {
                KeyError::new(format!("{own} holds no key: {why}")).hint(format!(
                    "set it to a key, or unset it; keys are made at {}",
                    self.provider.keys_page()
                ))
            })?;
            let is_person = login.token.reveal().starts_with("eyJ");
            if self.provider == Provider::Daytona && is_person && login.organization.is_none() {
                login.organization = organization();
            }
            found.push((own, login));
        }
        let key = |name| Some((name, Login::of(Secret::new(variable(name)?))));
        match self.provider {
            Provider::E2b => found.extend(key("E2B_API_KEY")),
            Provider::Daytona => {
                found.extend(key("DAYTONA_API_KEY"));
                let token = key("DAYTONA_JWT_TOKEN");
                found.extend(
                    token.map(|(name, login)| {
                        (name, Login { organization: organization(), ..login })
                    }),
                );
            }
        }
        Ok(found)
    }
}

/// Accounts, and which of them had which key.
type LastGood = (Vec<String>, (String, Login));
type Answer = Result<Option<(String, Login)>, Trouble>;

/// An answer that is used for a while.
enum Kept {
    Keychain(Vec<String>, Answer),
    Command(Vec<String>, Result<Login, KeyError>),
}

/// A mutex, because sessions ask from several tasks; it is held for a look and never while waiting.
static KEPT_KEYS: Mutex<Vec<(Instant, Kept)>> = Mutex::new(Vec::new());
/// The last key of the keychain for some accounts; a mutex for the same reason.
static LAST_GOOD: Mutex<Vec<LastGood>> = Mutex::new(Vec::new());
/// One look-up at a time in a process: whoever comes meanwhile gets the same answer.
static LOOKING: LazyLock<tokio::sync::Mutex<()>> = LazyLock::new(tokio::sync::Mutex::default);

async fn keychain_key(manner: Manner, accounts: &[String]) -> Answer {
    if matches!(manner, Manner::Off) {
        return Ok(None);
    }
    let known = |kept: &Kept| match kept {
        Kept::Keychain(of, answer) if of == accounts => Some(answer.clone()),
        Kept::Keychain(..) | Kept::Command(..) => None,
    };
    let _one = LOOKING.lock().await;
    if let Some(answer) = kept(known) {
        return answer;
    }
    let found = keychain::find(manner, accounts.to_vec()).await;
    let answer = found.and_then(|found| match found {
        None => Ok(None),
        Some((account, bytes)) => {
            let login = std::str::from_utf8(bytes.reveal()).map_err(|_| "it is no text");
            match login.and_then(Login::parse) {
                Ok(login) => Ok(Some((account, login))),
                Err(why) => Err(Trouble::Failed(format!("the item `{account}` is no key: {why}"))),
            }
        }
    });
    let answer = or_last_good(accounts, answer);
    let is_found = matches!(answer, Ok(Some(_)));
    keep(Kept::Keychain(accounts.to_vec(), answer.clone()), is_found);
    answer
}

/// The answer, or the last good one of these accounts if the keychain has only become locked or slow
/// since: that must not end a session which has the key already.
fn or_last_good(accounts: &[String], answer: Answer) -> Answer {
    let mut all = lock(&LAST_GOOD);
    let known = all.iter().position(|(of, _)| of == accounts);
    match (&answer, known) {
        (Err(Trouble::Locked | Trouble::TimedOut(_)), Some(known)) => {
            return Ok(Some(all[known].1.clone()));
        }
        (Ok(_), Some(known)) => drop(all.swap_remove(known)),
        _ => {}
    }
    if let Ok(Some(found)) = &answer {
        all.push((accounts.to_vec(), found.clone()));
    }
    answer
}

async fn command_key(command: &[String]) -> Result<Login, KeyError> {
    let known = |kept: &Kept| match kept {
        Kept::Command(of, answer) if of == command => Some(answer.clone()),
        Kept::Keychain(..) | Kept::Command(..) => None,
    };
    let _one = LOOKING.lock().await;
    if let Some(answer) = kept(known) {
        return answer;
    }
    let answer = command::run(command).await;
    keep(Kept::Command(command.to_vec(), answer.clone()), answer.is_ok());
    answer
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn kept<T>(known: impl Fn(&Kept) -> Option<T>) -> Option<T> {
    let mut all = lock(&KEPT_KEYS);
    all.retain(|(until, _)| Instant::now() < *until);
    all.iter().find_map(|(_, one)| known(one))
}

fn keep(answer: Kept, is_found: bool) {
    let time = if is_found { KEPT } else { KEPT_NONE };
    let mut all = lock(&KEPT_KEYS);
    all.push((Instant::now() + time, answer));
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
mod tests {
    use super::*;

    async fn first(provider: Provider, around: Surroundings) -> Option<(String, Source)> {
        let found = Keys::new(provider, around).first().await.expect("readable")?;
        Some((found.login.token.reveal().clone(), found.source))
    }

    /// A home with a login of E2B's own tool, and with a key for each of two accounts in the file.
    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(home.path().join(".e2b")).expect("made");
        let login = r#"{"projectApiKey":"of-the-tool"}"#;
        std::fs::write(home.path().join(".e2b/config.json"), login).expect("written");
        home
    }

    #[tokio::test]
    async fn the_first_that_there_is_wins() {
        let home = home();
        let e2b = |variables: &[(&str, &str)]| {
            first(Provider::E2b, Surroundings::of(variables, Some(home.path())))
        };
        let own = ("SKYNC_E2B_TOKEN", "of-skync");
        let other = ("E2B_API_KEY", "of-e2b");
        let (token, source) = e2b(&[other, own]).await.expect("a key");
        assert_eq!((token.as_str(), source), ("of-skync", Source::Variable("SKYNC_E2B_TOKEN")));
        assert_eq!(e2b(&[other]).await.expect("a key").0, "of-e2b");
        assert_eq!(
            e2b(&[("E2B_API_KEY", " ")]).await.expect("a key").1,
            Source::Tool(Provider::E2b)
        );

        let around = Surroundings::of(&[], Some(home.path()));
        let put = |account: &str, key: &str| {
            file::put(&around, account, &Login::of(Secret::new(key))).expect("written");
        };
        put("e2b/e2b.app/-", "for-all");
        put("e2b/other.host/p", "for-elsewhere");
        assert_eq!(
            first(Provider::E2b, around.clone().for_profile("p", None)).await.expect("a key").0,
            "for-all"
        );
        put("e2b/e2b.app/p", "for-p");
        assert_eq!(
            first(Provider::E2b, around.clone().for_profile("p", None)).await.expect("a key").0,
            "for-p"
        );
        let command = ["echo", "of-command"].map(str::to_owned);
        let with_command = around.clone().for_profile("p", Some(&command));
        assert_eq!(first(Provider::E2b, with_command).await.expect("a key").1, Source::Command);
        assert_eq!(first(Provider::Daytona, around).await, None);
        assert_eq!(first(Provider::E2b, Surroundings::of(&[], None)).await, None);
    }

    #[tokio::test]
    async fn only_a_refused_variable_makes_room_for_another_place() {
        let home = home();
        let around = Surroundings::of(&[("E2B_API_KEY", "old")], Some(home.path()));
        let keys = Keys::new(Provider::E2b, around.clone());
        let refused = keys.first().await.ok().flatten().expect("the variable");
        let other = keys.another(&refused).await.expect("the login");
        assert_eq!(other.login.token.reveal(), "of-the-tool");
        // Who asks with one key is answered about that one alone.
        let only = Keys::new(Provider::E2b, around.only(Login::of(Secret::new("old"))));
        let given = only.first().await.ok().flatten().expect("the given one");
        assert!(only.another(&given).await.is_none());

        // A key of the file is replaced by what the file has now, and never by the tool's login.
        let around = Surroundings::of(&[], Some(home.path())).for_profile("p", None);
        let keys = Keys::new(Provider::E2b, around.clone());
        let put = |key: &str| {
            file::put(&around, "e2b/e2b.app/p", &Login::of(Secret::new(key))).expect("written");
        };
        put("of-file");
        let refused = keys.first().await.ok().flatten().expect("of the file");
        assert!(keys.another(&refused).await.is_none());
        put("newer");
        let other = keys.another(&refused).await.expect("the newer one");
        assert_eq!(other.login.token.reveal(), "newer");
        file::remove(&around, "e2b/e2b.app/p").expect("removed");
        assert!(keys.another(&refused).await.is_none());
    }

    #[test]
    fn a_keychain_that_locks_later_does_not_cost_the_key_that_was_read() {
        let accounts = ["e2b/of.this.test/p".to_owned()];
        let login = Login::of(Secret::new("read-once"));
        let (locked, slow) = (Trouble::Locked, Trouble::TimedOut(KEPT));
        let is_there = |answer: Answer| matches!(answer, Ok(Some(_)));
        assert!(!is_there(or_last_good(&accounts, Err(locked.clone()))));
        let _ = or_last_good(&accounts, Ok(Some((accounts[0].clone(), login.clone()))));
        assert!(is_there(or_last_good(&accounts, Err(locked.clone()))));
        assert!(is_there(or_last_good(&accounts, Err(slow))));
        assert!(!is_there(or_last_good(&["e2b/x/q".to_owned()], Err(locked.clone()))));
        // It was removed.
        let _ = or_last_good(&accounts, Ok(None));
        assert!(!is_there(or_last_good(&accounts, Err(locked.clone()))));
        // It was refused.
        let variables = [("E2B_DOMAIN", "of.this.test")];
        let around = Surroundings::of(&variables, None).for_profile("p", None);
        let keys = Keys::new(Provider::E2b, around);
        let accounts = keys.accounts();
        let _ = or_last_good(&accounts, Ok(Some((accounts[0].clone(), login))));
        keys.forget();
        assert!(!is_there(or_last_good(&accounts, Err(locked))));
    }

    #[tokio::test]
    async fn an_api_key_of_daytona_wins_over_a_token() {
        let all = [("DAYTONA_JWT_TOKEN", "t"), ("DAYTONA_API_KEY", "k")];
        let found = Keys::new(Provider::Daytona, Surroundings::of(&all, None)).first().await;
        let found = found.ok().flatten().expect("a key");
        assert_eq!((found.login.token.reveal().as_str(), found.login.organization), ("k", None));
        let person = [("SKYNC_DAYTONA_TOKEN", "eyJh.b"), ("DAYTONA_ORGANIZATION_ID", "o")];
        let found = Keys::new(Provider::Daytona, Surroundings::of(&person, None)).first().await;
        assert_eq!(found.ok().flatten().expect("a key").login.organization.as_deref(), Some("o"));
    }

    #[tokio::test]
    async fn a_variable_that_holds_no_key_is_an_error_and_not_shown() {
        let around = Surroundings::of(&[("SKYNC_E2B_TOKEN", "not a key")], None);
        let error = Keys::new(Provider::E2b, around).first().await.err().expect("no key");
        assert!(error.message.contains("SKYNC_E2B_TOKEN") && !error.message.contains("not a key"));
    }

    #[tokio::test]
    async fn the_command_is_run_once_until_a_key_is_refused() {
        let home = home();
        let count = home.path().join("count");
        let script = format!("echo >> {}; echo a-key", count.display());
        let command = ["sh".to_owned(), "-c".to_owned(), script];
        let around = Surroundings::of(&[], Some(home.path())).for_profile("p", Some(&command));
        let keys = Keys::new(Provider::E2b, around);
        let runs = || std::fs::read(&count).expect("it ran").len();
        for _ in 0..3 {
            assert!(keys.first().await.is_ok());
        }
        assert_eq!(runs(), 1);
        keys.forget();
        assert!(keys.first().await.is_ok());
        assert_eq!(runs(), 2);
    }
}
