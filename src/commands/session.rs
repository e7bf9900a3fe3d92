//! `skync __session`: the keeper, and with `--serve` the session itself. Started by other commands.

use std::io::{Read, Write};
use std::sync::Arc;

use crate::cli::SessionArgs;
use crate::commands::Context;
use crate::driver;
use crate::error::{CliError, ExitCode};
use crate::session::{Spec, keeper, server};

/// Runs one of the two; its specification comes on standard input.
///
/// # Errors
/// If the session could not be started or ended badly. Its first line of output says so too.
pub fn run(args: &SessionArgs, context: &Context) -> Result<ExitCode, CliError> {
    let failed = |error: &dyn std::error::Error| {
        CliError::new(ExitCode::Failed, "the session failed")
            .because(error)
            .hint("`skync up` and `skync exec` start sessions; this command is theirs")
    };
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| failed(&error))?;
    let spec: Spec = serde_json::from_str(&text).map_err(|error| failed(&error))?;
    if !args.serve {
        keeper::keep(&context.places, spec).map_err(|error| failed(&error))?;
        return Ok(ExitCode::Done);
    }
    let Some(driver) = driver::open(&spec.profile) else {
        return Err(CliError::new(ExitCode::Usage, "the profile `local` has no session")
            .hint("`skync profile list` shows the others"));
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    // Half a session serves nobody: after a panic in any task the keeper removes what there is.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    let places = context.places.clone();
    let served = runtime.block_on(server::serve(places, spec, Arc::from(driver), || word("ready")));
    // Blocking threads may still wait for a link that is gone.
    runtime.shutdown_background();
    match served {
        Ok(()) => Ok(ExitCode::Done),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            word("busy");
            Ok(keeper::BUSY)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotConnected => {
            tracing::error!(%error, "what an earlier session left could not be taken over");
            word(&format!("failed: {error}"));
            Ok(keeper::UNREACHED)
        }
        Err(error) => {
            word(&format!("failed: {error}"));
            Err(failed(&error))
        }
    }
}

/// Says one line to the command that waits, and lets it see that no more will come.
fn word(text: &str) {
    let mut output = std::io::stdout().lock();
    // The command may have been killed meanwhile; the session then ends for want of users.
    let _ = writeln!(output, "{text}").and_then(|()| output.flush());
    if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}
