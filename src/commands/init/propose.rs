//! What is proposed, by what the project is made of. Pure: names and texts in, proposals out.

/// What a project is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It has what `specify init` makes.
    SpecKit,
    Rust,
    Go,
    Node,
    Python,
    /// Nothing says what it is.
    Unknown,
}

/// Names that tell a kind, the first that is there decides.
const SIGNS: [(&str, Kind); 10] = [
    (".specify", Kind::SpecKit),
    ("Cargo.toml", Kind::Rust),
    ("go.mod", Kind::Go),
    ("package.json", Kind::Node),
    ("pyproject.toml", Kind::Python),
    ("setup.py", Kind::Python),
    ("setup.cfg", Kind::Python),
    ("requirements.txt", Kind::Python),
    ("Pipfile", Kind::Python),
    ("uv.lock", Kind::Python),
];

/// Images of the machine that are proposed beside those that fit.
const OTHERS_MAX: usize = 5;

impl Kind {
    /// The kind of a directory with these names.
    pub(super) fn of(names: &[String]) -> Self {
        let sign = SIGNS.iter().find(|(sign, _)| names.iter().any(|name| name == sign));
        let is_python = |name: &String| name.ends_with(".py");
        match sign {
            Some((_, kind)) => *kind,
            None if names.iter().any(is_python) => Self::Python,
            None => Self::Unknown,
        }
    }

    /// What it is called.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::SpecKit => "a spec-kit project",
            Self::Rust => "a Rust project",
            Self::Go => "a Go project",
            Self::Node => "a Node project",
            Self::Python => "a Python project",
            Self::Unknown => "a project of no kind that is known here",
        }
    }

    /// The image that has its tools: repository and tag.
    fn image(self) -> (&'static str, &'static str) {
        match self {
            Self::Rust => ("rust", "1"),
            Self::Go => ("golang", "1"),
            Self::Node => ("node", "22"),
            Self::SpecKit | Self::Python | Self::Unknown => ("python", "3.12"),
        }
    }
}

/// Images in the order in which they are proposed, each with why; the first is the default.
pub(super) fn images(
    kind: Kind,
    of_devcontainer: Option<&str>,
    local: &[String],
) -> Vec<(String, String)> {
    let (repository, tag) = kind.image();
    let usual = format!("{repository}:{tag}");
    let mut all: Vec<(String, String)> = Vec::new();
    let mut add = |image: &str, why: String| {
        if all.iter().all(|(known, _)| known != image) {
            all.push((image.to_owned(), why));
        }
    };
    if let Some(image) = of_devcontainer {
        add(image, "the project's devcontainer.json names it".to_owned());
    }
    let mut fitting: Vec<&String> = local
        .iter()
        .filter(|image| image.rsplit_once(':').is_some_and(|(name, _)| name == repository))
        .collect();
    // The usual one first, then the newest, as far as tags tell.
    fitting.sort_by(|a, b| (**b == usual).cmp(&(**a == usual)).then(b.cmp(a)));
    for image in fitting {
        add(image, format!("for {}; it is on this machine", kind.words()));
    }
    add(&usual, format!("for {}; it is pulled when it is first used", kind.words()));
    for image in local.iter().take(OTHERS_MAX) {
        add(image, "it is on this machine".to_owned());
    }
    all
}

/// The `image` of a devcontainer.json, which may have comments.
pub(super) fn devcontainer_image(text: &str) -> Option<String> {
    let document: serde_json::Value = serde_json::from_str(&plain_json(text)).ok()?;
    let image = document.get("image")?.as_str()?.trim();
    // One with variables means something only to the tool that fills them in.
    (!image.is_empty() && !image.contains("${")).then(|| image.to_owned())
}

/// The text without comments, and without a comma before a closing bracket.
fn plain_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if rest.starts_with("/*") {
            rest = rest.find("*/").map_or("", |end| &rest[end + 2..]);
        } else if c == '"' {
            let end = quoted_length(rest);
            out += &rest[..end];
            rest = &rest[end..];
        } else {
            if matches!(c, '}' | ']') && out.trim_end().ends_with(',') {
                out.truncate(out.trim_end().len() - 1);
            }
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// Bytes of the quoted text that begins here.
fn quoted_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(names: &[&str]) -> Kind {
        Kind::of(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    fn proposed(kind: Kind, of_devcontainer: Option<&str>, local: &[&str]) -> Vec<String> {
        let local: Vec<String> = local.iter().map(|image| (*image).to_owned()).collect();
        images(kind, of_devcontainer, &local).into_iter().map(|(image, _)| image).collect()
    }

    #[test]
    fn a_project_is_what_its_files_say() {
        assert_eq!(kind(&["package.json", ".specify"]), Kind::SpecKit);
        assert_eq!(kind(&["package.json", "Cargo.toml"]), Kind::Rust);
        assert_eq!(kind(&["go.mod"]), Kind::Go);
        assert_eq!(kind(&["package.json"]), Kind::Node);
        assert_eq!(kind(&["uv.lock"]), Kind::Python);
        assert_eq!(kind(&["tool.py"]), Kind::Python);
        assert_eq!(kind(&["notes.md"]), Kind::Unknown);
    }

    #[test]
    fn what_is_here_and_fits_is_proposed_before_what_must_be_pulled() {
        assert_eq!(proposed(Kind::Unknown, None, &[]), ["python:3.12"]);
        assert_eq!(proposed(Kind::Node, None, &["node:20", "x:1"]), ["node:20", "node:22", "x:1"]);
        let local = ["python:3.13", "python:3.12", "my/python:3"];
        assert_eq!(
            proposed(Kind::Python, None, &local),
            ["python:3.12", "python:3.13", "my/python:3"]
        );
        assert_eq!(proposed(Kind::Rust, Some("dev:1"), &[]), ["dev:1", "rust:1"]);
    }

    #[test]
    fn a_devcontainer_may_have_comments_and_a_comma_too_many() {
        let text = r#"// for "VS Code"
            { /* "image": "no" */ "name": "a // b", "image": "mcr/x:1", // why
              "features": [1, 2,], }"#;
        assert_eq!(devcontainer_image(text).as_deref(), Some("mcr/x:1"));
        for text in
            [r#"{"image": "${localEnv:X}"}"#, r#"{"build": {}}"#, "{", "", r#"{"image": 1}"#]
        {
            assert_eq!(devcontainer_image(text), None, "{text}");
        }
    }
}
