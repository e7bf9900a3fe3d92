//! The way to the sandbox, for all who have something to do in it: open, lost for now, or gone for
//! good. Who mends it publishes it here; who waits for it holds no lock.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::driver::Sandbox;
use crate::link::Link;

/// How the way to the sandbox is.
#[derive(Clone, Debug, Default)]
pub(super) enum Way {
    /// There is no sandbox yet, or no more.
    #[default]
    None,
    /// A link is open.
    Open(Box<(Link, Sandbox)>),
    /// The link has ended, and is dialled again; or the sandbox has stopped, and is started again.
    Lost(Outage),
    /// The sandbox is gone with all that was in it; how, in words for a person.
    Gone(String),
}

/// A link that is not there for now.
#[derive(Clone, Debug)]
pub(super) struct Outage {
    /// When it was seen to have ended.
    pub(super) since: Instant,
    /// When it is dialled next; nothing while it is.
    pub(super) retry_at: Option<Instant>,
    /// What is in the way, for a person.
    pub(super) why: String,
}

impl Outage {
    /// For how long it has been.
    pub(super) fn lasts(&self) -> Duration {
        self.since.elapsed()
    }
}

/// The way, told to whoever waits.
#[derive(Debug, Default)]
pub(super) struct Ways(watch::Sender<Way>);

impl Ways {
    /// To wait for a change.
    pub(super) fn subscribe(&self) -> watch::Receiver<Way> {
        self.0.subscribe()
    }

    /// As it is now.
    pub(super) fn now(&self) -> Way {
        self.0.borrow().clone()
    }

    /// Waits while the way is lost; false if it still is at `deadline`.
    pub(super) async fn is_mended_until(&self, deadline: Instant) -> bool {
        let mut ways = self.subscribe();
        let mended = ways.wait_for(|way| !matches!(way, Way::Lost(_)));
        matches!(tokio::time::timeout_at(deadline, mended).await, Ok(Ok(_)))
    }

    /// A link was opened; its end is noticed by itself.
    pub(super) fn open(&self, link: &Link, sandbox: &Sandbox) {
        self.0.send_replace(Way::Open(Box::new((link.clone(), sandbox.clone()))));
        let (ways, link, name) = (self.0.clone(), link.clone(), sandbox.name.clone());
        tokio::spawn(async move {
            link.closed().await;
            ways.send_if_modified(|way| {
                // Another link may have taken its place meanwhile.
                let is_its = matches!(way, Way::Open(open) if !open.0.is_open());
                if is_its {
                    let why = format!("the link to the sandbox `{name}` broke");
                    *way = Way::Lost(Outage { since: Instant::now(), retry_at: None, why });
                }
                is_its
            });
        });
    }

    /// It could not be mended yet.
    pub(super) fn in_the_way(&self, why: &str) {
        self.change_outage(|outage| why.clone_into(&mut outage.why));
    }

    /// When it is dialled next; nothing: now.
    pub(super) fn retry_at(&self, at: Option<Instant>) {
        self.change_outage(|outage| outage.retry_at = at);
    }

    fn change_outage(&self, change: impl FnOnce(&mut Outage)) {
        self.0.send_if_modified(|way| match way {
            Way::Lost(outage) => {
                change(outage);
                true
            }
            Way::None | Way::Open(_) | Way::Gone(_) => false,
        });
    }

    /// The sandbox is gone.
    pub(super) fn gone(&self, words: &str) {
        self.0.send_replace(Way::Gone(words.to_owned()));
    }

    /// The sandbox has stopped, and holds what it held.
    pub(super) fn stopped(&self, words: &str) {
        self.0.send_modify(|way| {
            let since = match way {
                Way::Lost(outage) => outage.since,
                Way::None | Way::Open(_) | Way::Gone(_) => Instant::now(),
            };
            *way = Way::Lost(Outage { since, retry_at: None, why: words.to_owned() });
        });
    }

    /// The session removes its sandbox.
    pub(super) fn close(&self) {
        self.0.send_replace(Way::None);
    }
}
