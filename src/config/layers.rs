//! The layers of the configuration, weakest first, and what stands in each.
//!
//! The administrator's file, the user's, the project's `skync.toml` and `skync.local.toml`, variables,
//! flags. Nothing is merged here.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use toml_edit::{Array, DocumentMut, Item, Table, Value};

use super::file::{ConfigError, FILE_BYTES_MAX};
use super::settings::{self, Form};
use super::sources::Level;
use super::trust::{Store, Verdict, digest, verdict};
use crate::state::{self, Places};

/// The project's file, for everybody who works on it.
pub const PROJECT_FILE: &str = "skync.toml";
/// The project's file for one machine; to be left out of version control.
pub const LOCAL_FILE: &str = "skync.local.toml";

/// A file of a project, as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is none.
    Missing,
    /// Its content.
    Content(Vec<u8>),
    /// It cannot be read, or must not be: why, and what to do.
    Unusable(String, String),
}

/// One layer that is a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLayer {
    /// Which.
    pub level: Level,
    /// Where it is, or would be.
    pub path: PathBuf,
    /// What is there.
    pub found: Found,
    /// Whether it is trusted; one that is not the project's always is.
    pub verdict: Verdict,
}

/// Everything that says something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// The project, if there is one.
    pub root: Option<PathBuf>,
    /// The files, weakest first.
    pub files: Vec<FileLayer>,
    /// Variables of the environment: name, key of a profile, value.
    pub variables: Vec<(String, String, String)>,
    /// What stands behind each `--set`.
    pub sets: Vec<String>,
    /// Variables that say nothing, each with the one that was meant.
    pub slips: Vec<(String, String)>,
}

impl Layers {
    /// The files there are for a project, or outside of any.
    ///
    /// # Errors
    /// If a file that is not the project's cannot be read. One of the project's that cannot is a
    /// problem with a place, and no error.
    pub fn read(places: &Places, root: Option<&Path>) -> Result<Self, ConfigError> {
        let mut layers = Self { root: root.map(Path::to_owned), ..Self::default() };
        let own = |level, path: PathBuf| -> Result<FileLayer, ConfigError> {
            let found = match state::read(&path, FILE_BYTES_MAX)? {
                Some(bytes) => Found::Content(bytes),
                None => Found::Missing,
            };
            Ok(FileLayer { level, path, found, verdict: Verdict::Trusted })
        };
        for path in places.system.iter().rev() {
            layers.files.push(own(Level::System, path.clone())?);
        }
        layers.files.push(own(Level::User, places.config_file())?);
        let Some(root) = root else { return Ok(layers) };
        let record = Store::of(places).find(root);
        for (level, name) in [(Level::Project, PROJECT_FILE), (Level::ProjectLocal, LOCAL_FILE)] {
            let found = project_file(root, name);
            let verdict = match &found {
                Found::Content(bytes) => verdict(record.as_ref(), name, &digest(bytes)),
                // One that the user let count and that is away, is not as it was.
                Found::Missing | Found::Unusable(..) => verdict(record.as_ref(), name, ""),
            };
            layers.files.push(FileLayer { level, path: root.join(name), found, verdict });
        }
        Ok(layers)
    }

    /// The files of the project by name, each by the digest of its content; nothing of one that is not
    /// there.
    pub fn digests(&self) -> BTreeMap<String, String> {
        let of_project = self.files.iter().filter(|layer| layer.level.is_of_project());
        let known = of_project.filter_map(|layer| {
            let digest = match &layer.found {
                Found::Missing => return None,
                Found::Content(bytes) => digest(bytes),
                Found::Unusable(why, _) => why.clone(),
            };
            Some((layer.path.file_name()?.to_string_lossy().into_owned(), digest))
        });
        known.collect()
    }

    /// The same without what of the project is not trusted; nothing if all of it is.
    pub(super) fn trusted(&self) -> Option<Self> {
        let counts =
            |layer: &&FileLayer| !layer.level.is_of_project() || layer.verdict == Verdict::Trusted;
        let files: Vec<_> = self.files.iter().filter(counts).cloned().collect();
        let is_less =
            self.files.iter().any(|layer| !counts(&layer) && layer.found != Found::Missing);
        is_less.then(|| Self { root: self.root.clone(), files, ..Self::default() })
    }

    /// Takes what `SKYNC_<KEY>` says; an empty one says nothing. `env` has no variable: commands get
    /// variables by `--env`.
    #[must_use]
    pub fn with_variables(
        mut self,
        variables: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
    ) -> Self {
        for (name, value) in variables {
            let Some(name) = name.to_str() else { continue };
            let Some(key) = name.strip_prefix("SKYNC_").map(str::to_lowercase) else { continue };
            let is_key = super::keys::Kind::Unknown.keys().contains(&key.as_str()) && key != "env";
            if let Some(near) = near(name, &key) {
                self.slips.push((name.to_owned(), near));
            }
            if is_key && !value.is_empty() && name == name.to_uppercase() {
                // One that is not text is no good value either, and is shown as such.
                self.variables.push((name.to_owned(), key, value.to_string_lossy().into_owned()));
            }
        }
        self.variables.sort();
        self.slips.sort();
        self
    }
}

/// The variable that one without a meaning is a slip of, if it is near enough.
fn near(name: &str, key: &str) -> Option<String> {
    /// Others have variables that begin like ours: one letter in four may differ.
    const SIMILARITY_MIN: f64 = 0.75;
    let keys = super::keys::Kind::Unknown.keys();
    let known = keys.into_iter().filter(|known| *known != "env").chain(["profile"]);
    let (near, known) = known
        .map(|known| (strsim::normalized_damerau_levenshtein(key, known), known))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    let meant = format!("SKYNC_{}", known.to_uppercase());
    (near >= SIMILARITY_MIN && name != meant).then_some(meant)
}

/// A file of the project, which whoever wrote the project made: it may be a trap. A link is followed
/// only to where the project itself could have put the content.
pub fn project_file(root: &Path, name: &str) -> Found {
    let path = root.join(name);
    let unusable = |why: &str, what: &str| Found::Unusable(why.to_owned(), what.to_owned());
    let cannot = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound => Found::Missing,
        _ => unusable(
            &format!("`{name}` cannot be read: {error}"),
            "make it readable, or take it away",
        ),
    };
    let target = match path.symlink_metadata() {
        Err(error) => return cannot(&error),
        Ok(found) if found.is_symlink() => match path.canonicalize() {
            Ok(target) if target.starts_with(root) => target,
            Ok(_) => {
                return unusable(
                    &format!("`{name}` is a link that leads out of the project"),
                    "put a file in its place",
                );
            }
            Err(_) => {
                return unusable(
                    &format!("`{name}` is a link that leads nowhere"),
                    "put a file in its place",
                );
            }
        },
        Ok(_) => path,
    };
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
    let opened =
        OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(&target);
    let file = match opened {
        Ok(file) => file,
        Err(error) => return cannot(&error),
    };
    if !file.metadata().is_ok_and(|found| found.is_file()) {
        return unusable(&format!("`{name}` is not a file"), "take it away, or put a file there");
    }
    let mut bytes = Vec::new();
    match file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes) {
        Err(error) => cannot(&error),
        Ok(_) if bytes.len() as u64 > FILE_BYTES_MAX => unusable(
            &format!("`{name}` has more than {FILE_BYTES_MAX} bytes"),
            "a configuration is shorter; what is this file?",
        ),
        Ok(_) => Found::Content(bytes),
    }
}

/// A variable's or a flag's text as the line that would say the same in a file.
pub(super) fn line(key: &str, text: &str) -> String {
    let mut document = DocumentMut::new();
    if let Some(name) = key.strip_prefix("env.") {
        let mut env = Table::new();
        env.insert(name, Item::Value(Value::from(text)));
        document.insert("env", Item::Table(env));
        return document.to_string();
    }
    let form = settings::setting(key).map_or(Form::Text, |setting| setting.form);
    let number = || match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(whole), _) => Value::from(whole),
        (Err(_), Ok(number)) if number.is_finite() => Value::from(number),
        _ => Value::from(text),
    };
    let value = match form {
        Form::Number | Form::Whole => number(),
        Form::Truth => match text {
            "true" => Value::from(true),
            "false" => Value::from(false),
            other => Value::from(other),
        },
        Form::List | Form::Commands if text.trim_start().starts_with('[') => {
            text.parse().unwrap_or_else(|_| Value::from(text))
        }
        Form::List | Form::Commands => Value::Array(Array::from_iter([text])),
        Form::Text | Form::Words(_) | Form::Size | Form::Time | Form::Table => Value::from(text),
    };
    document.insert(key, Item::Value(value));
    document.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_what_the_key_wants() {
        for (key, text, wanted) in [
            ("image", "python:3.12", "image = \"python:3.12\"\n"),
            ("user", "1000", "user = \"1000\"\n"),
            ("cpus", "1.5", "cpus = 1.5\n"),
            ("pids", "512", "pids = 512\n"),
            ("pids", "many", "pids = \"many\"\n"),
            ("memory", "1048576", "memory = \"1048576\"\n"),
            ("gitignore", "true", "gitignore = true\n"),
            ("exclude", "dist/", "exclude = [\"dist/\"]\n"),
            ("exclude", "[\"a\", \"b\"]", "exclude = [\"a\", \"b\"]\n"),
            ("env.CI", "1", "[env]\nCI = \"1\"\n"),
            ("image", "a\"\nb", "image = \"\"\"\na\"\nb\"\"\"\n"),
        ] {
            assert_eq!(line(key, text).parse::<DocumentMut>().expect("TOML").to_string(), wanted);
        }
    }

    #[test]
    fn a_variable_that_is_nearly_a_setting_is_a_slip() {
        let slips = |name: &str| {
            let variable = (format!("SKYNC_{name}").into(), "x".into());
            Layers::default().with_variables([variable]).slips
        };
        let words: [(&str, Option<&str>); 7] = [
            ("IMGAE", Some("IMAGE")),
            ("PROFIL", Some("PROFILE")),
            ("IMAGE", None),
            ("PROFILE", None),
            ("LOG", None),
            ("AGENT_DIR", None),
            ("REQUIRE", None),
        ];
        for (name, meant) in words {
            let wanted = meant.map(|meant| (format!("SKYNC_{name}"), format!("SKYNC_{meant}")));
            assert_eq!(slips(name), Vec::from_iter(wanted));
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "fixtures below a temporary directory")]
    fn a_project_file_that_is_a_trap_is_told_and_not_followed() {
        let base = tempfile::tempdir().expect("a directory");
        let root = base.path().canonicalize().expect("a path").join("p");
        std::fs::create_dir_all(root.join("sub")).expect("made");
        let find = || project_file(&root, PROJECT_FILE);
        assert_eq!(find(), Found::Missing);
        let said = |found: Found| match found {
            Found::Unusable(why, _) => why,
            other => format!("{other:?}"),
        };
        let path = root.join(PROJECT_FILE);
        std::fs::create_dir(&path).expect("made");
        assert_eq!(said(find()), "`skync.toml` is not a file");
        std::fs::remove_dir(&path).expect("removed");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).expect("made");
        assert_eq!(said(find()), "`skync.toml` is not a file");
        std::fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink("/etc/passwd", &path).expect("made");
        assert_eq!(said(find()), "`skync.toml` is a link that leads out of the project");
        std::fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink(&path, &path).expect("made");
        assert_eq!(said(find()), "`skync.toml` is a link that leads nowhere");
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(root.join("sub/real"), "profile = \"a\"").expect("written");
        std::os::unix::fs::symlink("sub/real", &path).expect("made");
        assert_eq!(find(), Found::Content(b"profile = \"a\"".to_vec()));
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(&path, vec![b'#'; 2 << 20]).expect("written");
        assert!(said(find()).contains("more than 1048576 bytes"));
    }
}
