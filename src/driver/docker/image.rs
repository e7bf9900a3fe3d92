//! The image of a container: found here, or pulled; and the machine type it is for.

use std::collections::HashMap;

use bollard::models::{CreateImageInfo, ImageInspect};
use bollard::query_parameters::{CreateImageOptionsBuilder, ListImagesOptionsBuilder};
use futures_util::StreamExt;

use super::engine::{Engine, said, status};
use crate::driver::excerpt::{nearest, printable};
use crate::driver::{DriverError, ErrorKind, Progress};

/// Most layers of one pull that are counted; an image has at most 127.
const LAYERS_MAX: usize = 1024;

/// An image's name, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ImageName<'a> {
    /// As it was given.
    pub(super) full: &'a str,
    repository: &'a str,
    tag: &'a str,
}

impl<'a> ImageName<'a> {
    /// Checks what the engine would otherwise take for another path of its interface.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] says what a name looks like.
    pub(super) fn parse(full: &'a str) -> Result<Self, DriverError> {
        let (rest, digest) = match full.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (full, None),
        };
        let last = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match rest[last..].split_once(':') {
            Some((name, tag)) => (&rest[..last + name.len()], Some(tag)),
            None => (rest, None),
        };
        let word = |text: &str, more: &str| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        let good = repository.split('/').all(|part| word(part, "._-:"))
            && tag.is_none_or(|tag| word(tag, "._-"))
            && digest.is_none_or(|digest| word(digest, ":"));
        if !good {
            let message = format!("`{}` is no name of an image", printable(full));
            return Err(DriverError::new(ErrorKind::Invalid, message)
                .hint("set `image` in the profile to a name like `python:3.12`"));
        }
        Ok(Self { full, repository, tag: digest.or(tag).unwrap_or("latest") })
    }
}

/// The image, pulled if it is not here.
///
/// # Errors
/// [`ErrorKind::NotFound`] says why it could not be pulled, and which images are here.
pub(super) async fn obtain(
    engine: &Engine,
    name: &ImageName<'_>,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<ImageInspect, DriverError> {
    if let Some(image) = find(engine, name).await? {
        return Ok(image);
    }
    pull(engine, name, progress).await?;
    find(engine, name).await?.ok_or_else(|| {
        let message =
            format!("the image `{}` was pulled, and the engine does not have it", name.full);
        DriverError::new(ErrorKind::NotFound, message)
            .hint(format!("see what `docker pull {}` says", name.full))
    })
}

/// The image if it is here.
pub(super) async fn find(
    engine: &Engine,
    name: &ImageName<'_>,
) -> Result<Option<ImageInspect>, DriverError> {
    match engine.try_call(engine.api.inspect_image(name.full)).await {
        Ok(image) => Ok(Some(image)),
        Err(error) if status(&error) == Some(404) => Ok(None),
        Err(error) => Err(engine.error(&format!("look at the image `{}`", name.full), error)),
    }
}

/// Says whether a pull would work, without pulling.
///
/// # Errors
/// The error that a pull would end with.
pub(super) async fn check_registry(
    engine: &Engine,
    name: &ImageName<'_>,
) -> Result<(), DriverError> {
    match engine.try_call(engine.api.inspect_registry_image(name.full, None)).await {
        Ok(_) => Ok(()),
        Err(error) => Err(not_to_be_had(engine, name, &said(&error)).await),
    }
}

async fn pull(
    engine: &Engine,
    name: &ImageName<'_>,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<(), DriverError> {
    progress(Progress::Step(format!("pulling image `{}`", name.full)));
    let options =
        CreateImageOptionsBuilder::new().from_image(name.repository).tag(name.tag).build();
    let patient = engine.patient();
    let mut messages = std::pin::pin!(patient.create_image(Some(options), None, None));
    let mut pulled = Pulled::default();
    while let Some(message) = messages.next().await {
        match message {
            Ok(message) => {
                if let Some(bytes) = pulled.count(&message) {
                    progress(bytes);
                }
            }
            Err(error) => {
                let why = said(&error);
                let translated = engine.error(&format!("pull the image `{}`", name.full), error);
                return match translated.kind {
                    ErrorKind::Exhausted | ErrorKind::Unreachable => Err(translated),
                    _ => Err(not_to_be_had(engine, name, &why).await),
                };
            }
        }
    }
    Ok(())
}

async fn not_to_be_had(engine: &Engine, name: &ImageName<'_>, why: &str) -> DriverError {
    let message = format!("the image `{}` is not here, and pulling it failed: {why}", name.full);
    let mut error = DriverError::new(ErrorKind::NotFound, message);
    let here = tags(engine).await;
    let near = nearest(name.full, here.iter().map(String::as_str));
    if !near.is_empty() {
        error = error.hint(format!("did you mean `{}`?", near.join("`, `")));
    }
    let full = name.full;
    error.hint(format!(
        "if its registry wants a login, run `docker login` and `docker pull {full}`; `docker images` lists those here"
    ))
}

/// The names of the images that are here; none if the engine does not say.
pub(super) async fn tags(engine: &Engine) -> Vec<String> {
    let options = ListImagesOptionsBuilder::new().build();
    let images = engine.try_call(engine.api.list_images(Some(options))).await.unwrap_or_default();
    let tags = images.into_iter().flat_map(|image| image.repo_tags);
    tags.filter(|tag| tag != "<none>:<none>").collect()
}

/// What of a pull is done, summed over its layers.
#[derive(Default)]
struct Pulled {
    layers: HashMap<String, (u64, u64)>,
    told: Option<(u64, u64)>,
}

impl Pulled {
    /// Counts a message; the sum if it changed.
    fn count(&mut self, message: &CreateImageInfo) -> Option<Progress> {
        let (layer, said) = (message.id.as_ref()?, message.status.as_deref()?);
        let detail = message.progress_detail.as_ref();
        let size = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        if self.layers.len() >= LAYERS_MAX && !self.layers.contains_key(layer) {
            return None;
        }
        match said {
            "Downloading" => {
                let done = size(detail.and_then(|detail| detail.current)).unwrap_or(0);
                let total = size(detail.and_then(|detail| detail.total)).unwrap_or(0);
                self.layers.insert(layer.clone(), (done, total.max(done)));
            }
            "Download complete" | "Verifying Checksum" | "Extracting" | "Pull complete" => {
                let layer = self.layers.get_mut(layer)?;
                layer.0 = layer.1;
            }
            _ => return None,
        }
        let sum = self.layers.values().fold((0u64, 0u64), |sum, layer| {
            (sum.0.saturating_add(layer.0), sum.1.saturating_add(layer.1))
        });
        if self.told.replace(sum) == Some(sum) {
            return None;
        }
        Some(Progress::Bytes { done: sum.0, total: (sum.1 > 0).then_some(sum.1) })
    }
}

/// What `uname -m` says where an image for `architecture` (a Go word) runs.
///
/// # Errors
/// [`ErrorKind::NoAgent`] for a word that stands for no machine type.
pub(super) fn machine(architecture: &str, of_what: &str) -> Result<&'static str, DriverError> {
    match architecture {
        "amd64" | "x86_64" => Ok("x86_64"),
        "arm64" | "aarch64" => Ok("aarch64"),
        "386" | "i386" | "i686" => Ok("i686"),
        "arm" | "armv7l" => Ok("armv7l"),
        "riscv64" => Ok("riscv64"),
        "ppc64le" => Ok("ppc64le"),
        "s390x" => Ok("s390x"),
        other => {
            let other = printable(other);
            let message = if other.is_empty() {
                format!("{of_what} does not say what machine type it is for, so no agent fits it")
            } else {
                format!("{of_what} is for the machine type `{other}`, for which there is no agent")
            };
            Err(DriverError::new(ErrorKind::NoAgent, message)
                .hint("use an image for x86_64 (amd64) or aarch64 (arm64)"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_as_docker_splits_them() {
        let check = |full, repository, tag| {
            assert_eq!(ImageName::parse(full).unwrap(), ImageName { full, repository, tag });
        };
        check("python", "python", "latest");
        check("python:3.12", "python", "3.12");
        check("host:5000/a/b", "host:5000/a/b", "latest");
        check("host:5000/a/b:v1_x", "host:5000/a/b", "v1_x");
        check("a/b@sha256:00ff", "a/b", "sha256:00ff");
        check("a/b:1@sha256:00ff", "a/b", "sha256:00ff");
    }

    #[test]
    fn what_would_lead_elsewhere_is_no_name() {
        for odd in
            ["", "a b", "../x", "a//b", "/a", "a?x=1", "a:", "a:b:c", "a@", "x\u{1b}", "a/.."]
        {
            assert_eq!(ImageName::parse(odd).unwrap_err().kind, ErrorKind::Invalid, "{odd:?}");
        }
    }

    #[test]
    fn a_pull_is_summed_over_its_layers() {
        let message = |json: &str| serde_json::from_str::<CreateImageInfo>(json).unwrap();
        let mut pulled = Pulled::default();
        let mut count = |json: &str| match pulled.count(&message(json)) {
            Some(Progress::Bytes { done, total }) => Some((done, total)),
            _ => None,
        };
        assert_eq!(count(r#"{"status":"Pulling from library/x","id":"latest"}"#), None);
        let a = r#"{"status":"Downloading","id":"a","progressDetail":{"current":10,"total":100}}"#;
        assert_eq!(count(a), Some((10, Some(100))));
        assert_eq!(count(a), None);
        let b = r#"{"status":"Downloading","id":"b","progressDetail":{"current":7,"total":-1}}"#;
        assert_eq!(count(b), Some((17, Some(107))));
        let done = r#"{"status":"Download complete","id":"a","progressDetail":{}}"#;
        assert_eq!(count(done), Some((107, Some(107))));
        assert_eq!(count(r#"{"status":"Already exists","id":"c"}"#), None);
        assert_eq!(count("{}"), None);
    }

    #[test]
    fn machine_types_are_those_of_uname() {
        assert_eq!(machine("amd64", "x").unwrap(), "x86_64");
        assert_eq!(machine("arm64", "x").unwrap(), "aarch64");
        assert_eq!(machine("wasm", "the image `x`").unwrap_err().kind, ErrorKind::NoAgent);
        assert_eq!(machine("", "the image `x`").unwrap_err().kind, ErrorKind::NoAgent);
    }
}
