//! What drivers keep of prepared sandboxes: gone when nobody has used it for long, or on request.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::cli::GcArgs;
use crate::commands::Context;
use crate::commands::operations::now_ms;
use crate::driver::{self, DriverError, ErrorKind};
use crate::error::CliError;
use crate::session::server::owner;
use crate::session::setup;
use crate::session::setup::records::{self, KeptRecord};
use crate::ui::{render, status_view, visible};

/// One that was not used for so long is most likely not used any more; it can be made again.
const UNUSED_MS: u64 = 30 * DAY_MS;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// What is not there yet may be being made: the engine can take minutes to write a layer.
const MAKING_MS: u64 = 60 * 60 * 1000;

/// One kept image, and what became of it.
pub(super) struct Image {
    record: KeptRecord,
    /// Nothing if it is not known.
    bytes: Option<u64>,
    days: u64,
    done: Done,
}

/// What became of one.
enum Done {
    /// It is of use.
    Stays,
    /// It was removed, or would be.
    Removed,
    /// It is still there.
    Failed(DriverError),
}

/// Looks at all of them, removes those that are of no use, and says so.
pub(super) async fn all(args: &GcArgs, context: &Context) -> Vec<Image> {
    let mut images = Vec::new();
    let records = records::kept(&context.places);
    let nameless = nameless(&records).await;
    let named = records.into_iter().map(|record| (record, args.images));
    for (record, is_due) in named.chain(nameless.into_iter().map(|record| (record, true))) {
        let Some(image) = one(record, is_due, args, context).await else { continue };
        let verb = match (&image.done, args.dry_run) {
            (Done::Removed, false) => "removed",
            (Done::Removed, true) => "would remove",
            (Done::Stays, true) => "would keep",
            (Done::Stays, false) => "",
            (Done::Failed(error), _) => {
                let text = format!("{}: {error}", image.words());
                render::warning(&visible(&text), context.style);
                ""
            }
        };
        if !verb.is_empty() {
            context.tell(&visible(&format!("{verb} {}", image.words())));
        }
        images.push(image);
    }
    images
}

/// What lost its name at the engines of these, as records that were never written.
async fn nameless(records: &[KeptRecord]) -> Vec<KeptRecord> {
    let mut asked: Vec<&KeptRecord> = Vec::new();
    let mut found = Vec::new();
    for record in records {
        if asked.iter().any(|other| other.driver == record.driver) {
            continue;
        }
        asked.push(record);
        let Some(driver) = driver::open(&record.profile()) else { continue };
        // Its engine need not run.
        let names = driver.nameless_kept(&owner()).await.unwrap_or_default();
        // Two records may lead to one engine.
        let is_new = |name: &String| found.iter().all(|known: &KeptRecord| known.name != *name);
        let new: Vec<String> = names.into_iter().filter(is_new).collect();
        found.extend(new.into_iter().map(|name| record.named(name)));
    }
    found
}

/// Forgets what was written down of preparations long ago.
pub(super) fn forget(context: &Context) -> Result<(), CliError> {
    let now = SystemTime::now();
    setup::log::prune(&context.places, now)?;
    setup::records::prune(&context.places, now)?;
    Ok(())
}

/// Looks at one, and removes it if it is of no use; nothing if it is not there.
async fn one(record: KeptRecord, is_due: bool, args: &GcArgs, context: &Context) -> Option<Image> {
    let unused_ms = now_ms().saturating_sub(record.used_ms);
    let is_due = is_due || unused_ms > UNUSED_MS;
    let (bytes, done) = match driver::open(&record.profile()) {
        Some(driver) => match driver.kept_bytes(&record.name).await {
            Ok(None) => {
                // Somebody else has removed it.
                if !args.dry_run && unused_ms > MAKING_MS {
                    let _ = record.forget(&context.places);
                }
                return None;
            }
            Ok(bytes) if !is_due => (bytes, Done::Stays),
            Ok(bytes) if args.dry_run => (bytes, Done::Removed),
            Ok(bytes) => {
                let removed = driver.remove_kept(&record.name).await;
                let removed = removed.and_then(|()| {
                    record
                        .forget(&context.places)
                        .map_err(|error| DriverError::new(ErrorKind::Failed, error.to_string()))
                });
                (bytes, removed.map_or_else(Done::Failed, |()| Done::Removed))
            }
            Err(error) if is_due => (None, Done::Failed(error)),
            // Its engine need not run for what is not to be removed.
            Err(_) => (None, Done::Stays),
        },
        None => (None, Done::Stays),
    };
    Some(Image { record, bytes, days: unused_ms / DAY_MS, done })
}

impl Image {
    /// What it is, for a person.
    pub(super) fn words(&self) -> String {
        let size = match self.bytes {
            Some(bytes) => format!(", {} beside what it is built on", status_view::size(bytes)),
            None => String::new(),
        };
        let used = match self.days {
            0 => "used today".to_owned(),
            1 => "used yesterday".to_owned(),
            days => format!("used {days} days ago"),
        };
        let Self { record, .. } = self;
        format!("the prepared image `{}` (profile {}{size}, {used})", record.name, record.profile)
    }

    /// Puts it among what was removed, or what could not be.
    pub(super) fn count(&self, removed: &mut Vec<Value>, failed: &mut Vec<Value>) {
        match &self.done {
            Done::Stays => {}
            Done::Removed => removed.push(json!({ "session": null, "what": self.words() })),
            Done::Failed(error) => {
                failed.push(json!({ "session": null, "error": error.to_string() }));
            }
        }
    }

    pub(super) fn document(&self) -> Value {
        json!({
            "name": self.record.name,
            "profile": self.record.profile,
            "bytes": self.bytes,
            "used_ms": self.record.used_ms,
            "removed": matches!(self.done, Done::Removed),
        })
    }
}
