//! The keychain of this machine: Secret Service, macOS Keychain, Windows Credential Manager.
//!
//! Its libraries wait for as long as it pleases the keychain, and must not be called from an
//! asynchronous task. So each call runs on a thread of its own, one at a time in a process, and
//! whoever waits for it does so for a bounded time: what does not answer is *slow*, which is an error,
//! and never the same as not there.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use keyring_core::{Entry, Error};
use tokio::sync::{Mutex as Turn, oneshot};

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
use other as system;

use super::{KeyError, Manner, Provider, SERVICE, Secret};

/// How long it may take where nobody waits who could unlock it.
const QUICK: Duration = Duration::from_secs(3);
/// How long a person may take to type a password.
const PATIENT: Duration = Duration::from_secs(60);
/// After this the person is told what is waited for.
const NOTICE: Duration = Duration::from_secs(1);
/// One that did not answer is not asked again so soon: each of many requests would wait anew.
const REST: Duration = Duration::from_secs(10);

/// What the keychain is called on this system.
pub const NAME: &str = system::NAME;

/// Why the keychain is of no use now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// There is none on this machine: why that is thought.
    Absent(String),
    /// It is locked, and has what is wanted or may have it.
    Locked,
    /// It did not answer in this time.
    TimedOut(Duration),
    /// Something else.
    Failed(String),
}

impl Trouble {
    /// What happened, in one sentence.
    pub fn message(&self) -> String {
        match self {
            Self::Absent(why) => format!("this machine has no keychain: {why}"),
            Self::Locked => "the keychain is locked".to_owned(),
            Self::TimedOut(time) => {
                format!("the keychain did not answer within {} s", time.as_secs())
            }
            Self::Failed(why) => format!("the keychain does not work: {why}"),
        }
    }

    /// As an error of who wanted to read a key.
    pub fn for_reading(&self, provider: Provider) -> KeyError {
        let name = provider.name();
        let error = KeyError::new(format!("cannot read the key for {name}: {}", self.message()));
        let error = match self {
            Self::Locked | Self::TimedOut(_) => {
                error.hint("unlock it: `skync auth status` on a terminal asks for that and waits")
            }
            Self::Absent(_) | Self::Failed(_) => error,
        };
        error
            .hint(format!("set {} to the key", provider.variable()))
            .hint("set `credential_command` in the profile to a program that prints the key")
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error {
            Error::NoStorageAccess(_) => Self::Locked,
            Error::NoDefaultStore => Self::Absent("it has no store".to_owned()),
            // These two hold what they could not understand, which may be a key.
            Error::BadEncoding(_) | Error::BadDataFormat(..) => {
                Self::Failed("the item is not as it was stored".to_owned())
            }
            Error::Ambiguous(all) => {
                Self::Failed(format!("it has {} items of the same name", all.len()))
            }
            other => Self::Failed(other.to_string()),
        }
    }
}

/// Whether an item can be read.
#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "only the Secret Service tells of it before it is asked")
)]
enum Presence {
    Missing,
    /// It can, as far as can be known before.
    Readable,
    Locked,
    /// None was found, and something is locked that may have it.
    Unknown,
}

/// Whether an account has an item; a person may unlock what may hide it.
fn look(account: &str, may_unlock: bool) -> Result<Presence, Trouble> {
    match system::presence(account)? {
        Presence::Unknown if may_unlock => {
            system::unlock()?;
            system::presence(account)
        }
        presence => Ok(presence),
    }
}

/// The first of these accounts that has an item, with its value.
///
/// # Errors
/// If the keychain cannot be read, or is locked and may hold one of these.
pub async fn find(
    manner: Manner,
    accounts: Vec<String>,
) -> Result<Option<(String, Secret<Vec<u8>>)>, Trouble> {
    apart(manner, move |may_unlock| {
        let mut is_hidden = false;
        for account in accounts {
            match look(&account, may_unlock)? {
                Presence::Missing => continue,
                Presence::Unknown => {
                    is_hidden = true;
                    continue;
                }
                Presence::Locked if !may_unlock => return Err(Trouble::Locked),
                Presence::Locked | Presence::Readable => {}
            }
            match entry(&account)?.get_secret() {
                Ok(bytes) => return Ok(Some((account, Secret::of(bytes)))),
                Err(Error::NoEntry) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if is_hidden { Err(Trouble::Locked) } else { Ok(None) }
    })
    .await
}

/// Puts a value there, in place of an old one.
///
/// # Errors
/// If it could not be stored.
pub async fn put(manner: Manner, account: String, value: Secret) -> Result<(), Trouble> {
    apart(manner, move |may_unlock| {
        if matches!(system::writable()?, Presence::Locked) && !may_unlock {
            return Err(Trouble::Locked);
        }
        Ok(entry(&account)?.set_secret(value.reveal().as_bytes())?)
    })
    .await
}

/// Removes an item. False if there was none.
///
/// # Errors
/// If it could not be removed.
pub async fn remove(manner: Manner, account: String) -> Result<bool, Trouble> {
    apart(manner, move |may_unlock| {
        match look(&account, may_unlock)? {
            Presence::Missing => return Ok(false),
            Presence::Unknown => return Err(Trouble::Locked),
            Presence::Locked if !may_unlock => return Err(Trouble::Locked),
            Presence::Locked | Presence::Readable => {}
        }
        match entry(&account)?.delete_credential() {
            Ok(()) => Ok(true),
            Err(Error::NoEntry) => Ok(false),
            Err(error) => Err(error.into()),
        }
    })
    .await
}

/// The accounts of all our items, as far as this system lists them.
///
/// # Errors
/// If the keychain cannot be asked.
pub async fn accounts(manner: Manner) -> Result<Vec<String>, Trouble> {
    apart(manner, |_| system::accounts()).await
}

fn entry(account: &str) -> Result<Entry, Trouble> {
    let store = system::store()?;
    Ok(store.build(SERVICE, account, None)?)
}

/// Whose turn it is. A thread that hangs keeps it: no second one is started beside it.
static TURN: LazyLock<Arc<Turn<()>>> = LazyLock::new(Arc::default);
/// Until when one that did not answer is left alone.
static SLOW_UNTIL: Mutex<Option<Instant>> = Mutex::new(None);
/// The person was asked to unlock it, and did not: that is an answer for all of this process.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Runs a call apart from all tasks, which is told whether it may have the keychain unlocked.
async fn apart<T: Send + 'static>(
    manner: Manner,
    call: impl FnOnce(bool) -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    let (patience, notice) = match manner {
        Manner::Off => return Err(Trouble::Absent("it is not asked".to_owned())),
        Manner::Quick => (QUICK, None),
        Manner::Patient(notice) => (PATIENT, Some(notice)),
    };
    let slow = || *SLOW_UNTIL.lock().unwrap_or_else(PoisonError::into_inner);
    if slow().is_some_and(|until| Instant::now() < until) {
        return Err(Trouble::TimedOut(patience));
    }
    let work = async {
        let turn = Arc::clone(&TURN).lock_owned().await;
        let may_unlock = notice.is_some() && !REFUSED.load(Ordering::Relaxed);
        let (send, receive) = oneshot::channel();
        let thread = std::thread::Builder::new().name("keychain".to_owned()).spawn(move || {
            let answer = call(may_unlock);
            drop(turn);
            // Who asked may have gone.
            let _ = send.send(answer);
        });
        thread.map_err(|error| Trouble::Failed(format!("no thread can be started: {error}")))?;
        let answer = receive.await.unwrap_or_else(|_| {
            Err(Trouble::Failed("the call of its library ended without an answer".to_owned()))
        });
        if may_unlock && matches!(answer, Err(Trouble::Locked)) {
            REFUSED.store(true, Ordering::Relaxed);
        }
        answer
    };
    let told = async {
        tokio::time::sleep(NOTICE).await;
        if let Some(notice) = notice {
            notice("waiting for the keychain to be unlocked (Ctrl-C gives up)");
        }
        std::future::pending::<()>().await
    };
    let answered = tokio::select! {
        answered = tokio::time::timeout(patience, work) => answered,
        () = told => unreachable!("it only tells"),
    };
    answered.unwrap_or_else(|_| {
        let mut slow = SLOW_UNTIL.lock().unwrap_or_else(PoisonError::into_inner);
        *slow = Some(Instant::now() + REST);
        Err(Trouble::TimedOut(patience))
    })
}
