//! The terminal and the locale.

use super::around::Around;
use super::check::Finding;

/// What kind of terminal there is, and whether it shows all letters.
pub(super) fn look(around: &Around) -> Vec<Finding> {
    vec![kind(around), locale(around)]
}

fn kind(around: &Around) -> Finding {
    const WHAT: &str = "terminal";
    if !around.terminal {
        return Finding::skipped(WHAT, "there is none: nothing is asked, and nothing is drawn");
    }
    match around.variable("TERM") {
        Some(kind) if kind != "dumb" => Finding::ok(WHAT, kind),
        other => Finding::warning(WHAT, format!("TERM is {}", other.unwrap_or("not set")))
            .why("progress is not shown, and full-screen programs in the sandbox do not work")
            .remedy("export TERM=xterm-256color"),
    }
}

fn locale(around: &Around) -> Finding {
    const WHAT: &str = "locale";
    let names = ["LC_ALL", "LC_CTYPE", "LANG"];
    let set = names.into_iter().find_map(|name| Some((name, around.variable(name)?)));
    let is_utf8 = |value: &str| {
        let value = value.to_ascii_lowercase();
        value.contains("utf-8") || value.contains("utf8")
    };
    match set {
        Some((name, value)) if is_utf8(value) => Finding::ok(WHAT, format!("{value} ({name})")),
        _ if !around.terminal => Finding::skipped(WHAT, "the sandbox has C.UTF-8 in any case"),
        other => {
            let found = match other {
                Some((name, value)) => format!("`{value}` ({name}) is not UTF-8"),
                None => "none is set".to_owned(),
            };
            Finding::warning(WHAT, found)
                .why("names with other letters than English ones may look wrong here")
                .remedy("export LANG=C.UTF-8")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Level;
    use super::*;

    #[test]
    fn a_terminal_must_be_of_some_kind_and_show_all_letters() {
        let base = tempfile::tempdir().expect("a directory");
        let mut around = Around::below(base.path());
        let levels =
            |around: &Around| look(around).into_iter().map(|f| f.level).collect::<Vec<_>>();
        assert_eq!(levels(&around), [Level::Skipped, Level::Skipped]);
        around.terminal = true;
        assert_eq!(levels(&around), [Level::Warning, Level::Warning]);
        around.variables.insert("TERM".into(), "dumb".into());
        around.variables.insert("LANG".into(), "de_DE.ISO-8859-1".into());
        assert_eq!(levels(&around), [Level::Warning, Level::Warning]);
        around.variables.insert("TERM".into(), "xterm".into());
        around.variables.insert("LC_ALL".into(), "en_US.utf8".into());
        assert_eq!(levels(&around), [Level::Ok, Level::Ok]);
    }
}
