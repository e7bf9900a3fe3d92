//! How much room there is. `statfs` never waits: desktops ask often, and freeze until they know.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Filesystem, lock};
use crate::source::{Source, Space};

/// How old what is told may be.
const FRESH_FOR: Duration = Duration::from_secs(5);

/// What was heard last, and when somebody asked last.
pub(super) struct LastSpace {
    space: Space,
    asked: Option<Instant>,
}

impl Default for LastSpace {
    /// Plenty: programs that find no room do not even try.
    fn default() -> Self {
        const COUNT: u64 = 1 << 28;
        let space = Space {
            block_bytes: 4096,
            blocks: COUNT,
            blocks_free: COUNT,
            blocks_available: COUNT,
            files: COUNT,
            files_free: COUNT,
            name_bytes_max: 255,
        };
        Self { space, asked: None }
    }
}

impl<S: Source> Filesystem<S> {
    /// How much room there was a short while ago.
    pub(crate) fn statfs(self: &Arc<Self>) -> Space {
        let now = Instant::now();
        let (space, is_old) = {
            let mut last = lock(&self.space);
            let is_old = last.asked.is_none_or(|asked| asked + FRESH_FOR < now);
            if is_old {
                last.asked = Some(now);
            }
            (last.space, is_old)
        };
        if is_old {
            let filesystem = Arc::clone(self);
            self.runtime.spawn(async move { filesystem.refresh_space().await });
        }
        space
    }

    pub(super) async fn refresh_space(&self) {
        match self.source.space().await {
            Ok(space) => {
                let mut last = lock(&self.space);
                last.space = space;
                last.asked = Some(Instant::now());
            }
            Err(error) => tracing::debug!(%error, "the source does not say how much room there is"),
        }
    }
}
