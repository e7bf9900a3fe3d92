//! What goes between the agent and a client over one link, both ways at the same time.

use skync_agent::proto::attach_begin::From as FromWhere;
use skync_agent::proto::attach_reply::Reply;
use skync_agent::proto::attach_request::Request as ToAgent;
use skync_agent::proto::{self as agent, AttachRequest};
use tokio::sync::mpsc;
use tonic::Streaming;

use super::{Pumped, Terms, millis, started};
use crate::session::events::{Events, exit_to_client};
use crate::session::operations::{Attachment, Operation, Place};
use crate::session::proto::exec_request::Request;
use crate::session::proto::session_event::Event;
use crate::session::proto::{self, ExecRequest, LinkNews};
use crate::session::ways::Outage;

/// From the agent to the client.
pub(super) struct Down<'a> {
    pub(super) operation: &'a Operation,
    pub(super) events: &'a Events,
    pub(super) terms: &'a mut Terms,
    pub(super) outage: &'a mut Option<Outage>,
    pub(super) attachment: &'a mut Attachment,
    pub(super) place: &'a Place,
}

impl Down<'_> {
    pub(super) async fn run(
        &mut self,
        mut replies: Streaming<agent::AttachReply>,
    ) -> Result<proto::Exit, Pumped> {
        loop {
            let reply = match replies.message().await {
                Ok(Some(reply)) => reply.reply,
                Ok(None) if self.terms.no_follow => return Err(Pumped::Seen),
                Ok(None) | Err(_) => return Err(Pumped::Broken),
            };
            let told = match reply {
                Some(Reply::Attached(attached)) => self.attached(&attached).await,
                Some(Reply::Output(frame)) => self.output(frame).await,
                Some(Reply::Gap(gap)) => {
                    self.terms.from = FromWhere::Offset(gap.to);
                    let gap = proto::Gap { from: gap.from, to: gap.to };
                    self.events.send(Event::Gap(gap)).await
                }
                Some(Reply::InputTaken(offset)) => {
                    self.events.send(Event::InputTaken(offset)).await
                }
                Some(Reply::Evicted(_)) => {
                    self.attachment.disown();
                    self.events.send(Event::Evicted(true)).await
                }
                Some(Reply::Exit(exit)) if exit.unknown => return Err(Pumped::Broken),
                Some(Reply::Exit(exit)) => {
                    self.operation.exited(exit);
                    return Ok(exit_to_client(exit));
                }
                // Whoever asked for the start has heard of it.
                Some(Reply::Started(_)) | None => true,
            };
            if !told {
                return Err(Pumped::Left);
            }
        }
    }

    async fn attached(&mut self, attached: &agent::Attached) -> bool {
        self.terms.from = FromWhere::Offset(attached.output_offset);
        self.terms.is_first = false;
        self.terms.is_attached = true;
        if let Some(outage) = self.outage.take() {
            let lost_ms = millis(outage.lasts());
            let news = LinkNews { up: true, lost_ms, ..LinkNews::default() };
            self.events.send(Event::Link(news)).await;
        }
        let started = started(self.operation, Some(self.place), Some(attached));
        self.events.send(Event::Started(started)).await
    }

    async fn output(&mut self, frame: agent::OutputFrame) -> bool {
        let stream = frame.stream.cast_unsigned();
        let end = frame.offset + frame.data.len() as u64;
        if self.attachment.is_owner() {
            self.operation.remember(stream, frame.offset, frame.time_ms, &frame.data);
        }
        let (offset, time_ms, data) = (frame.offset, frame.time_ms, frame.data);
        let output = proto::Output { stream, data, offset, time_ms };
        let told = self.events.send(Event::Output(output)).await;
        self.terms.from = FromWhere::Offset(end);
        told
    }
}

/// From the client to the agent, until the agent does not listen any more.
pub(super) async fn up(
    requests: &mut Streaming<ExecRequest>,
    send: &mpsc::Sender<AttachRequest>,
    closed: &mut Vec<u32>,
    operation: &Operation,
) {
    while let Ok(Some(request)) = requests.message().await {
        let request = match request.request {
            Some(Request::Input(input)) => ToAgent::Input(agent::InputFrame {
                offset: input.offset,
                data: input.data,
                eof: input.eof,
            }),
            Some(Request::Taken(offset)) => {
                let mut record = operation.record();
                record.taken = record.taken.max(offset);
                ToAgent::Taken(offset)
            }
            Some(Request::Resize(size)) => {
                ToAgent::Resize(agent::TerminalSize { rows: size.rows, columns: size.columns })
            }
            Some(Request::Close(stream)) => {
                closed.push(stream);
                ToAgent::Close(i32::from(stream != 0))
            }
            Some(Request::Begin(_) | Request::Join(_)) | None => continue,
        };
        if send.send(AttachRequest { request: Some(request) }).await.is_err() {
            return;
        }
    }
    // A client that has nothing more to say may still listen.
    std::future::pending::<()>().await;
}
