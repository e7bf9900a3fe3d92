//! What the machine's docker has.

use std::process::Stdio;

use tokio::process::Command;

/// Whether the machine has an image. Nothing is ever pulled.
pub(crate) async fn has_image(image: &str) -> bool {
    let mut command = Command::new("docker");
    command.args(["image", "inspect", "--format", "{{.Id}}", image]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.kill_on_drop(true).status().await.is_ok_and(|status| status.success())
}
