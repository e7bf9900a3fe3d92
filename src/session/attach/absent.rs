//! A client that asks for an operation which there is not any more: what is written down of it.

use bytes::Bytes;

use crate::error::{CliError, ExitCode};
use crate::operation::{OperationId, Record, RecordState};
use crate::session::events::{Events, failure};
use crate::session::exec::outcome_unknown;
use crate::session::proto::session_event::Event;
use crate::session::proto::{self, Finished, OperationState};
use crate::session::server::Session;

/// Answers a client that asks for an operation which there is not any more.
///
/// One that has ended is told from `from` on, as far as its output is kept; without it, from where
/// its last client took it to.
pub(in crate::session) async fn absent(
    session: &Session,
    id: &[u8],
    from: Option<u64>,
    events: &Events,
) {
    let known = OperationId::from_bytes(id).and_then(|id| session.store.read(id).ok().flatten());
    let state = match known {
        Some(record) if record.exit.is_some() => {
            let from = from.unwrap_or(record.taken);
            // Who only waits for the end has said that by the largest offset.
            if from < u64::MAX {
                tell_output(session, &record, from, events).await;
            }
            if let Some(exit) = record.exit.as_ref() {
                events.send(Event::Exit(exit.into())).await;
            }
            OperationState::OperationEnded
        }
        Some(record) if record.state != RecordState::Refused => {
            let why = match record.why.as_str() {
                "" => "the session that ran it is gone",
                why => why,
            };
            let message = format!("{why}; the command had started and its outcome is not known");
            let error = outcome_unknown(&message)
                .hint("what it had not brought home is lost with its sandbox");
            events.send(failure(error)).await;
            OperationState::OperationLost
        }
        Some(_) | None => {
            let error = CliError::new(ExitCode::NotFound, "there is no such operation")
                .hint("`skync ps -a` lists those there are");
            events.send(failure(error)).await;
            OperationState::OperationNone
        }
    };
    let finished = Finished { operation: state.into(), ..Finished::default() };
    events.send(Event::Finished(finished)).await;
}

async fn tell_output(session: &Session, record: &Record, from: u64, events: &Events) {
    let started = proto::Started {
        id: record.id.to_vec(),
        name: record.name.clone(),
        output_offset: from,
        ..proto::Started::default()
    };
    events.send(Event::Started(started)).await;
    if let Err(error) = replay(session, record.id, from, events).await {
        events.note(format!("warning: its output cannot be read: {error}")).await;
    }
}

/// Tells what is kept of the output of an operation that has ended, from an offset on.
pub(super) async fn replay(
    session: &Session,
    id: OperationId,
    from: u64,
    events: &Events,
) -> std::io::Result<()> {
    let Some(kept) = session.store.output(id).map_err(std::io::Error::other)? else {
        return Ok(());
    };
    let mut next = from;
    for piece in kept {
        let piece = piece?;
        let end = piece.offset + piece.data.len() as u64;
        if end <= from {
            continue;
        }
        if piece.offset > next {
            let gap = proto::Gap { from: next, to: piece.offset };
            events.send(Event::Gap(gap)).await;
        }
        next = end;
        let known = usize::try_from(from.saturating_sub(piece.offset)).unwrap_or(0);
        let output = proto::Output {
            stream: u32::from(piece.stream),
            offset: piece.offset + known as u64,
            data: Bytes::from(piece.data).slice(known..),
            time_ms: piece.time_ms,
        };
        if !events.send(Event::Output(output)).await {
            break;
        }
    }
    Ok(())
}
