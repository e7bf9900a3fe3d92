//! What the commands of a preparation write, kept on the host until they have succeeded.
//!
//! A log that cannot be written keeps nobody from preparing a sandbox: the last of it is in memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::state::{self, Places, StateError};

/// Most bytes of a log. What comes after is left out, but for the last of it.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// Bytes of the last output that are remembered.
const TAIL_BYTES_MAX: usize = 64 << 10;
/// Lines of it that a person is shown …
const LINES_SHOWN_MAX: usize = 40;
/// … and characters of each.
const LINE_CHARS_MAX: usize = 400;
/// How long a log is of use.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The log of one preparation; removed with the value unless it is kept.
pub(in crate::session) struct Log {
    path: PathBuf,
    file: Option<File>,
    written: u64,
    left_out: u64,
    tail: VecDeque<u8>,
    is_kept: bool,
}

impl Log {
    /// An empty log of the session of this id.
    pub(in crate::session) fn begin(places: &Places, session: &str) -> Self {
        let path = directory(places).join(format!("{session}.log"));
        let file = state::make_directory(&directory(places)).and_then(|()| state::create(&path));
        if let Err(error) = &file {
            tracing::warn!(%error, "what `setup` writes is not kept");
        }
        let (written, left_out, tail, is_kept) = (0, 0, VecDeque::new(), false);
        Self { path, file: file.ok(), written, left_out, tail, is_kept }
    }

    /// Adds a line of our own.
    pub(in crate::session) fn line(&mut self, line: &str) {
        let newline = if self.tail.back().is_none_or(|last| *last == b'\n') { "" } else { "\n" };
        self.write(format!("{newline}{line}\n").as_bytes());
    }

    /// Adds output.
    pub(in crate::session) fn write(&mut self, data: &[u8]) {
        self.tail.extend(data);
        let over = self.tail.len().saturating_sub(TAIL_BYTES_MAX);
        self.tail.drain(..over);
        let bytes = data.len() as u64;
        if self.written + bytes > LOG_BYTES_MAX {
            self.left_out += bytes;
        } else if let Some(file) = &mut self.file {
            self.written += bytes;
            if let Err(error) = file.write_all(data) {
                tracing::warn!(%error, "the rest of what `setup` writes is not kept");
                self.file = None;
            }
        }
    }

    /// Forgets what was remembered: what comes next is another command's.
    pub(in crate::session) fn next(&mut self) {
        self.tail.clear();
    }

    /// True if the last output says this.
    pub(in crate::session) fn says(&self, words: &str) -> bool {
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        String::from_utf8_lossy(&tail).to_lowercase().contains(&words.to_lowercase())
    }

    /// The last lines of the output, for a person.
    pub(in crate::session) fn last_lines(&self) -> Vec<String> {
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        let text = String::from_utf8_lossy(&tail);
        let lines = text.split('\n').map(|line| {
            // Of what is drawn over and over only the last can be seen.
            let line = line.trim_end_matches('\r');
            let line = line.rsplit('\r').next().unwrap_or(line);
            line.chars().take(LINE_CHARS_MAX).collect::<String>()
        });
        let lines: Vec<String> = lines.filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(LINES_SHOWN_MAX)..].to_vec()
    }

    /// Keeps it for whoever looks for what went wrong; where it is, if it is anywhere.
    pub(in crate::session) fn keep(&mut self) -> Option<PathBuf> {
        if self.left_out > 0
            && let Some(file) = &mut self.file
        {
            let tail: Vec<u8> = self.tail.iter().copied().collect();
            let gap = self.left_out.saturating_sub(tail.len() as u64);
            let line = format!("\n[skync: {gap} bytes of output were not kept]\n");
            let written = file.write_all(line.as_bytes()).and_then(|()| file.write_all(&tail));
            if let Err(error) = written {
                tracing::warn!(%error, "the last of what `setup` wrote is not kept");
            }
        }
        self.is_kept = self.file.is_some();
        self.is_kept.then(|| self.path.clone())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if !self.is_kept
            && self.file.is_some()
            && let Err(error) = state::remove_file(&self.path)
        {
            tracing::warn!(%error, "a log of `setup` is left");
        }
    }
}

fn directory(places: &Places) -> PathBuf {
    places.state.join("setup")
}

/// Removes the logs that are of no use any more.
///
/// # Errors
/// If one is there and cannot be removed.
pub fn prune(places: &Places, now: SystemTime) -> Result<(), StateError> {
    super::records::older(&directory(places), now, KEPT, is_log)
        .iter()
        .try_for_each(|path| state::remove_file(path))
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn world() -> (tempfile::TempDir, Places) {
        let directory = tempfile::tempdir().expect("a directory");
        let places = Places::below(directory.path());
        (directory, places)
    }

    #[test]
    fn a_log_is_there_only_if_it_is_kept_and_only_for_its_owner() {
        let (_directory, places) = world();
        let mut log = Log::begin(&places, "a");
        log.write(b"output\n");
        let path = log.path.clone();
        drop(log);
        assert!(!path.exists());
        let mut log = Log::begin(&places, "a");
        log.line("$ x");
        log.write(b"no end");
        log.line("$ y");
        assert_eq!(log.keep(), Some(path.clone()));
        drop(log);
        assert_eq!(std::fs::read_to_string(&path).expect("kept"), "$ x\nno end\n$ y\n");
        let mode = path.metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        prune(&places, SystemTime::now()).expect("pruned");
        assert!(path.exists());
        prune(&places, SystemTime::now() + KEPT * 2).expect("pruned");
        assert!(!path.exists());
    }

    #[test]
    fn a_log_has_a_limit_and_its_last_lines_are_there_all_the_same() {
        let (_directory, places) = world();
        let mut log = Log::begin(&places, "a");
        let line = [vec![b'x'; (1 << 20) - 1], vec![b'\n']].concat();
        for _ in 0..20 {
            log.write(&line);
        }
        log.write(b"the end\n");
        assert!(log.says("THE END"));
        let path = log.keep().expect("kept");
        let content = std::fs::read_to_string(path).expect("kept");
        assert!(content.len() as u64 <= LOG_BYTES_MAX + (TAIL_BYTES_MAX as u64) + 100);
        assert!(content.ends_with("the end\n") && content.contains("bytes of output were not"));
    }

    #[test]
    fn the_last_lines_are_as_a_terminal_shows_them() {
        let (_directory, places) = world();
        let mut log = Log::begin(&places, "a");
        for number in 0..100 {
            log.write(format!("line {number}\n").as_bytes());
        }
        log.write(b"10%\r50%\r100%\r\n\n");
        let lines = log.last_lines();
        assert_eq!((lines.len(), &*lines[0], &*lines[39]), (40, "line 61", "100%"));
        log.next();
        assert!(log.last_lines().is_empty());
    }
}
