//! What a person is told when a command has ended, or a client has left it.

use crate::commands::Context;
use crate::commands::attached::{Left, Outcome};
use crate::operation::OperationId;
use crate::session::proto::{Exit, Finished};

/// Tells it. Errors are told by who returns them.
pub(in crate::commands) fn ended(outcome: &Outcome, context: &Context) {
    if context.json {
        return;
    }
    if let Some(left) = outcome.left {
        self::left(left, outcome, context);
    }
    let warn = |text: &str| context.caution(text);
    if let Some(exit) = &outcome.exit {
        if exit.out_of_memory {
            let limit = match exit.memory_limit {
                0 => String::new(),
                limit => format!(" of {} MiB", limit >> 20),
            };
            warn(&format!("the command was killed: it reached the sandbox's memory limit{limit}"));
        }
        if exit.timed_out {
            warn("the command ran longer than it may, and was stopped");
        }
        if exit.lost_bytes > 0 {
            warn(&format!("{} bytes of its output were not kept", exit.lost_bytes));
        }
        if exit.cancelled || exit.timed_out {
            context.tell(&stopped(exit.stopped, exit.survivors));
        }
    }
    let Some(finished) = &outcome.finished else { return };
    if !finished.kept.is_empty() {
        warn(&format!("the sandbox is kept: {}", finished.kept));
        warn("the next `skync exec` tries again; `skync down --discard` gives it up");
    }
    if context.verbose > 0 {
        details(finished, outcome.exit.as_ref(), context);
    }
}

fn left(left: Left, outcome: &Outcome, context: &Context) {
    let id = outcome.id.short();
    match left {
        Left::Detached(true) => context.tell(&format!("detached; skync attach {id}")),
        Left::Detached(false) => {
            let text = format!(
                "detached, but the session could not be told: the command is stopped if nobody comes \
                 back in time; skync attach {id}"
            );
            context.tell(&text);
        }
        Left::Interrupted | Left::Lost => {}
    }
}

/// What became of the processes of a command that was stopped.
pub(in crate::commands) fn stopped(stopped: u32, survivors: u32) -> String {
    let processes = if stopped == 1 { "process" } else { "processes" };
    format!("stopped {stopped} {processes}, {survivors} left")
}

fn details(finished: &Finished, exit: Option<&Exit>, context: &Context) {
    if let Some(sync) = &finished.sync {
        let removed = sync.removed_in_sandbox + sync.removed_on_host;
        context.tell(&format!(
            "synced: {} files ({} bytes) in, {} files ({} bytes) out, {removed} removed",
            sync.files_sent, sync.bytes_sent, sync.files_received, sync.bytes_received
        ));
    }
    if let Some(timings) = finished.timings {
        let ms = |us: u64| format!("{}.{} ms", us / 1000, us / 100 % 10);
        context.tell(&format!(
            "took: sandbox {}, sync in {}, command {}, sync out {}, removal {}",
            ms(timings.sandbox_us),
            ms(timings.sync_in_us),
            ms(timings.command_us),
            ms(timings.sync_out_us),
            ms(timings.removal_us)
        ));
    }
    if let Some(exit) = exit {
        context.tell(&format!(
            "streams: {} bytes of output, {} bytes of input taken",
            exit.output_bytes, exit.input_bytes
        ));
    }
}

/// How a command ended, in a few words.
pub(in crate::commands) fn how(exit: &Exit) -> String {
    let how = match (exit.signal, exit.code) {
        (0, code) => format!("exit code {code}"),
        (signal, _) => format!("signal {signal}"),
    };
    match (exit.timed_out, exit.cancelled, exit.out_of_memory) {
        (true, _, _) => format!("{how}, it ran longer than it may"),
        (_, true, _) => format!("{how}, it was cancelled"),
        (_, _, true) => format!("{how}, out of memory"),
        (false, false, false) => how,
    }
}

/// The operation in words for a person: its name if it has one, else its id.
pub(in crate::commands) fn called(id: OperationId, name: &str) -> String {
    if name.is_empty() { id.short() } else { format!("{name} ({})", id.short()) }
}
