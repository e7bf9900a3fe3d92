//! The keys of a profile about `skync mount`.

use std::path::PathBuf;

use toml_edit::{TableLike, Value};

use super::Checker;
use crate::config::problem::Bad;
use crate::config::{MountConfig, values};
use crate::ui::visible;

impl Checker<'_> {
    pub(super) fn mount(&mut self, table: &dyn TableLike) -> MountConfig {
        let truth = |checker: &mut Self, key| {
            checker.value(table, key, "true or false", Value::as_bool).unwrap_or(false)
        };
        MountConfig {
            with_up: truth(self, "mount"),
            at: self.text(table, "mount_at", values::absolute_path),
            root: self.text(table, "mount_root", shown_root),
            writable: truth(self, "mount_rw"),
            timeout: self.text(table, "mount_timeout", values::duration),
        }
    }
}

/// A directory of the sandbox: absolute, `/` too, or below the project's root there.
fn shown_root(text: &str) -> Result<PathBuf, Bad> {
    let path = PathBuf::from(text);
    let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
    if text.is_empty() || climbs || text.starts_with('~') || text.chars().any(char::is_control) {
        return Err(Bad::new(format!("`{}` is not a plain path", visible(text))).hint(
            "write it from `/`, or from the project's root in the sandbox, without `~` and `..`",
        ));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_the_sandbox_may_be_all_of_it_or_below_the_project() {
        for path in ["/", "/var/log", "src", "."] {
            assert!(shown_root(path).is_ok_and(|found| found == *path), "{path}");
        }
        for path in ["", "..", "/a/../b", "~", "a\nb"] {
            assert!(shown_root(path).is_err(), "{path}");
        }
    }
}
