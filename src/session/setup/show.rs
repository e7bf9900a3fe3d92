//! What is told of a preparation: each piece to whoever waits for the sandbox, its state to whoever looks.
//!
//! The one who prepares knows no client. Each call that needs the sandbox listens while it waits for
//! it, so the second `exec` sees what the first one began; a client that does not read misses
//! pieces, and holds up nobody.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, oneshot, watch};

use crate::session::events::Events;
use crate::session::proto::SetupNews;
use crate::session::proto::session_event::Event;
use crate::session::server::Session;

/// Pieces that wait for a slow client; then it is told how many it has missed.
const WAITING_MAX: usize = 1024;
/// How long a client may take to hear the last of it.
const GOODBYE: Duration = Duration::from_secs(2);

/// Tells of preparations.
#[derive(Debug)]
pub(in crate::session) struct Show {
    news: broadcast::Sender<SetupNews>,
    now: watch::Sender<Now>,
}

/// How far a preparation is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::session) enum Now {
    /// There is none.
    #[default]
    Nothing,
    /// This command runs.
    Runs(SetupNews),
    /// All is done; how, for a person.
    Done(String),
}

impl Default for Show {
    fn default() -> Self {
        Self { news: broadcast::Sender::new(WAITING_MAX), now: watch::Sender::default() }
    }
}

impl Show {
    /// Tells a piece of news.
    pub(in crate::session) fn tell(&self, news: SetupNews) {
        if !news.command.is_empty() {
            self.now.send_replace(Now::Runs(news.clone()));
        }
        // Nobody need listen.
        let _ = self.news.send(news);
    }

    /// Tells a line about all of it.
    pub(in crate::session) fn note(&self, note: String) {
        tracing::info!(note, "setup");
        self.tell(SetupNews { note, ..SetupNews::default() });
    }

    /// It is over, or there is none.
    pub(in crate::session) fn settle(&self, now: Now) {
        self.now.send_if_modified(|before| std::mem::replace(before, now.clone()) != now);
    }

    /// What a client hears, from now on; first of all what runs.
    fn listen(&self) -> (Option<SetupNews>, broadcast::Receiver<SetupNews>) {
        let news = self.news.subscribe();
        let now = match &*self.now.borrow() {
            Now::Runs(begun) => Some(begun.clone()),
            Now::Nothing | Now::Done(_) => None,
        };
        (now, news)
    }
}

impl Session {
    /// Waits for `work`, and tells a client meanwhile how the sandbox is prepared.
    pub(in crate::session) async fn with_setup<T>(
        &self,
        events: &Events,
        work: impl Future<Output = T>,
    ) -> T {
        let (now, news) = self.setup.listen();
        let (over, is_over) = oneshot::channel();
        let mut told = Box::pin(forward(now, news, events, is_over));
        let mut work = Box::pin(work);
        let done = tokio::select! {
            done = &mut work => done,
            () = &mut told => return work.await,
        };
        // What was said before it was over comes before what follows from it.
        let _ = over.send(());
        let _ = tokio::time::timeout(GOODBYE, told).await;
        done
    }
}

/// Tells a client all news until it is gone, or all is over and told.
async fn forward(
    now: Option<SetupNews>,
    mut news: broadcast::Receiver<SetupNews>,
    events: &Events,
    mut is_over: oneshot::Receiver<()>,
) {
    let mut next = now;
    loop {
        if let Some(said) = next.take()
            && !events.send(Event::Setup(said)).await
        {
            return;
        }
        next = tokio::select! {
            biased;
            said = news.recv() => match said {
                Ok(said) => Some(said),
                Err(RecvError::Lagged(missed)) => {
                    let note = format!("… {missed} pieces of output were left out");
                    Some(SetupNews { note, ..SetupNews::default() })
                }
                Err(RecvError::Closed) => return,
            },
            _ = &mut is_over => return,
        };
    }
}

/// Shows in the session's state how far a preparation is, as long as there is a session.
pub(in crate::session) async fn run(session: Arc<Session>) {
    let mut now = session.setup.now.subscribe();
    loop {
        let words = match &*now.borrow_and_update() {
            Now::Nothing => String::new(),
            Now::Runs(begun) => format!("{} of {}: {}", begun.number, begun.total, begun.command),
            Now::Done(words) => words.clone(),
        };
        session.show(|view| view.reply.setup = words);
        if now.changed().await.is_err() {
            return;
        }
    }
}
