//! What was prepared in a container of an image, kept as an image of its own: `skync-setup:KEY`.
//!
//! The key is of what was done, by whom, and of the image's id, so that a newer image makes a new one.
//! What an image has as a volume is in no layer, so one with volumes is never kept. The
//! engine can only keep a container's whole layer, and it gives the new image every setting and label
//! of the container that it is not told otherwise. So in a container that is to be kept
//! - everything of ours (agent, secret, state) is on a volume that goes with the container,
//! - the project's root is not made before it is kept,
//! - there is no `cmd`, which could not be taken away again (see `container`),
//!
//! and the image is told the settings of the one that it was made of. Of the container's labels the
//! names stay, without their values: the engine has no way to leave one out.
//!
//! The container is not paused for it: nothing but our agent runs in it, whose link would break.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    ContainerConfig, ImageConfig, ImageInspect, Mount, MountType, MountVolumeOptions,
};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder,
};
use sha2::{Digest, Sha256};

use super::AGENT_DIR;
use super::archive::make_directories;
use super::engine::{Engine, said, status};
use super::user::ids;
use crate::driver::excerpt::printable;
use crate::driver::{DriverError, ErrorKind, Sandbox, label};

/// The name of all of them, before the key.
const REPOSITORY: &str = "skync-setup";
/// What was done and to which image, whole: the name has only its beginning.
const KEY_LABEL: &str = "skync.setup.key";
/// Tells one from an image that somebody has built on it, which has its labels.
const COMMENT: &str = "prepared by skync";
/// The id of the image that it was made of.
const BASE_LABEL: &str = "skync.setup.base";

/// A prepared image: one that there is, or one that is to be.
pub(super) struct Kept {
    /// Its name.
    pub(super) name: String,
    /// The id of the one there is.
    pub(super) image: Option<String>,
    key: String,
}

impl Kept {
    /// What is known of an image that was prepared like this.
    pub(super) async fn look(
        engine: &Engine,
        preparation: &str,
        owner: &str,
        base: &ImageInspect,
    ) -> Result<Self, DriverError> {
        let base = base.id.as_deref().unwrap_or_default();
        let mut hash = Sha256::new();
        for part in [preparation, owner, base] {
            hash.update(part);
            hash.update([0]);
        }
        let key: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("{REPOSITORY}:{}", &key[..16]);
        let found = find(engine, &name).await?.filter(|found| is_of(found, &key, owner));
        Ok(Self { name, image: found.and_then(|found| found.id), key })
    }

    /// Says on a container what it is made of, or is to become.
    pub(super) fn label(&self, labels: &mut BTreeMap<String, String>) {
        let which = if self.image.is_some() { label::KEPT } else { label::KEEP };
        labels.insert(which.to_owned(), self.name.clone());
        labels.insert(KEY_LABEL.to_owned(), self.key.clone());
    }
}

/// What keeps a container of an image from being kept, in words; nothing if it can be.
pub(super) fn hindrance(name: &str, image: &ImageInspect) -> Option<String> {
    let volumes = image.config.as_ref()?.volumes.as_ref()?;
    let first = volumes.first()?;
    let (name, first) = (printable(name), printable(first));
    Some(format!("`{first}` is a volume of the image `{name}`, and what is written there is lost"))
}

/// Where everything of ours is in a container that is to be kept: it is no part of its layer, and goes
/// with the container.
pub(super) fn own_volume() -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        target: Some(AGENT_DIR.to_owned()),
        volume_options: Some(MountVolumeOptions {
            no_copy: Some(true),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    }
}

/// Keeps what is in a container, then makes the project's root in it.
pub(super) async fn keep(
    engine: &Engine,
    sandbox: &Sandbox,
    user: Option<&str>,
) -> Result<(), DriverError> {
    let doing = format!("look at the container `{}`", sandbox.name);
    let found = engine.call(&doing, engine.api.inspect_container(&sandbox.id, None)).await?;
    let base = found.image.unwrap_or_default();
    let call = engine.api.inspect_image(&base);
    let image = engine.call("look at the image of the container", call).await?;
    let image = image.config.unwrap_or_default();
    let container = found.config.unwrap_or_default();
    let own_user = image.user.clone().unwrap_or_default();
    let kept = commit(engine, sandbox, container, base, image).await;
    let owner = ids(engine, &sandbox.id, user.unwrap_or(&own_user)).await?;
    if owner.uid != 0 {
        make_directories(engine, &sandbox.id, &sandbox.root, owner).await?;
    }
    kept
}

async fn commit(
    engine: &Engine,
    sandbox: &Sandbox,
    container: ContainerConfig,
    base: String,
    image: ImageConfig,
) -> Result<(), DriverError> {
    let keep = container.labels.as_ref().and_then(|labels| labels.get(label::KEEP));
    let Some(name) = keep.cloned() else { return Ok(()) };
    let of = |name: &str| {
        let labels = container.labels.as_ref();
        labels.and_then(|labels| labels.get(name)).map(String::as_str).unwrap_or_default()
    };
    // Another session was as far as this one: a second image would take the name from the first.
    if find(engine, &name)
        .await?
        .is_some_and(|found| is_of(&found, of(KEY_LABEL), of(label::OWNER)))
    {
        return Ok(());
    }
    let tag = name.strip_prefix(REPOSITORY).and_then(|tag| tag.strip_prefix(':'));
    let options = CommitContainerOptionsBuilder::new()
        .container(&sandbox.id)
        .repo(REPOSITORY)
        .tag(tag.unwrap_or_default())
        .comment(COMMENT)
        .pause(false)
        .build();
    let config = config(image, container, base);
    // As long as it takes: a layer can have gigabytes.
    let patient = engine.patient();
    patient
        .commit_container(options, config)
        .await
        .map_err(|error| engine.error(&format!("keep the prepared sandbox as `{name}`"), error))?;
    Ok(())
}

/// The settings of the image that a container was made of, with labels of our own.
fn config(image: ImageConfig, container: ContainerConfig, base: String) -> ContainerConfig {
    let mut labels = image.labels.unwrap_or_default();
    let of_container = container.labels.unwrap_or_default();
    for (name, value) in of_container.into_iter().filter(|(name, _)| name.starts_with("skync.")) {
        let is_its_own = [label::VERSION, label::OWNER, KEY_LABEL].contains(&name.as_str());
        labels.insert(name, if is_its_own { value } else { String::new() });
    }
    let is_user = |user: &String| !user.is_empty();
    // No user is root, as 0 is; but where there is none the container's own would be taken.
    let root = || container.user.filter(is_user).map(|_| "0".to_owned());
    labels.insert(BASE_LABEL.to_owned(), base);
    ContainerConfig {
        user: image.user.filter(is_user).or_else(root),
        exposed_ports: image.exposed_ports,
        env: image.env,
        cmd: image.cmd,
        healthcheck: image.healthcheck,
        volumes: image.volumes,
        working_dir: image.working_dir,
        // Empty is none; missing would become the container's own.
        entrypoint: Some(image.entrypoint.unwrap_or_default()),
        on_build: image.on_build,
        labels: Some(labels),
        stop_signal: image.stop_signal,
        ..ContainerConfig::default()
    }
}

/// How much larger it is than the image that it was made of; nothing if it is not there, or not ours.
pub(super) async fn bytes(engine: &Engine, name: &str) -> Result<Option<u64>, DriverError> {
    let Some(found) = find(engine, name).await? else { return Ok(None) };
    let base = match label_of(&found, BASE_LABEL) {
        Some(base) => engine.try_call(engine.api.inspect_image(base)).await.ok(),
        None => None,
    };
    let size = |image: &ImageInspect| u64::try_from(image.size.unwrap_or(0)).unwrap_or(0);
    Ok(Some(size(&found).saturating_sub(base.as_ref().map_or(0, size))))
}

/// Removes one, and nothing that it was made of.
pub(super) async fn remove(engine: &Engine, name: &str) -> Result<(), DriverError> {
    if find(engine, name).await?.is_none() {
        return Ok(());
    }
    let options = RemoveImageOptionsBuilder::new().noprune(true).build();
    match engine.try_call(engine.api.remove_image(name, Some(options), None)).await {
        Ok(_) => Ok(()),
        Err(error) if status(&error) == Some(404) => Ok(()),
        Err(error) if status(&error) == Some(409) => {
            let message = format!("the image `{name}` is in use: {}", said(&error));
            Err(DriverError::new(ErrorKind::Denied, message)
                .hint("`skync down` ends a session that uses it; then try again"))
        }
        Err(error) => Err(engine.error(&format!("remove the image `{name}`"), error)),
    }
}

/// The ids of those whose names lead to others by now.
pub(super) async fn nameless(engine: &Engine, owner: &str) -> Result<Vec<String>, DriverError> {
    let labels = vec![format!("{}={owner}", label::OWNER), BASE_LABEL.to_owned()];
    let filters = HashMap::from([("dangling", vec!["true".to_owned()]), ("label", labels)]);
    let options = ListImagesOptionsBuilder::new().filters(&filters).build();
    let doing = "list the images without a name";
    let listed = engine.call(doing, engine.api.list_images(Some(options))).await?;
    let mut nameless = Vec::new();
    for id in listed.into_iter().map(|image| image.id) {
        let found = find(engine, &id).await?;
        // One that is just being made gets its name a moment later.
        let is_ours = |found: &ImageInspect| {
            let is_nameless = found.repo_tags.as_ref().is_none_or(Vec::is_empty);
            is_nameless && found.comment.as_deref() == Some(COMMENT)
        };
        if found.as_ref().is_some_and(is_ours) {
            nameless.push(id);
        }
    }
    Ok(nameless)
}

/// The image of that name, if we made it.
async fn find(engine: &Engine, name: &str) -> Result<Option<ImageInspect>, DriverError> {
    match engine.try_call(engine.api.inspect_image(name)).await {
        Ok(found) => Ok(Some(found).filter(|found| {
            let ours = [label::VERSION, label::OWNER, BASE_LABEL, KEY_LABEL];
            ours.iter().all(|name| label_of(found, name).is_some())
        })),
        Err(error) if status(&error) == Some(404) => Ok(None),
        Err(error) => Err(engine.error(&format!("look at the image `{name}`"), error)),
    }
}

/// True if that user made it in that way.
fn is_of(found: &ImageInspect, key: &str, owner: &str) -> bool {
    let is = |name, value: &str| label_of(found, name).is_some_and(|has| has == value);
    !key.is_empty() && is(KEY_LABEL, key) && is(label::OWNER, owner)
}

fn label_of<'a>(image: &'a ImageInspect, name: &str) -> Option<&'a String> {
    image.config.as_ref()?.labels.as_ref()?.get(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_image_has_the_settings_of_its_base_and_nothing_of_the_session() {
        let image = ImageConfig {
            env: Some(vec!["A=1".to_owned()]),
            working_dir: Some("/app".to_owned()),
            labels: Some(HashMap::from([("their".to_owned(), "label".to_owned())])),
            ..ImageConfig::default()
        };
        let labels = [
            (label::VERSION, "1"),
            (label::SESSION, "00000000000000aa"),
            (label::PROJECT, "/home/me/secret-plan"),
            (label::KEEP, "skync-setup:x"),
            (KEY_LABEL, "x"),
            ("their", "label"),
        ];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let container = ContainerConfig {
            user: Some("1000".to_owned()),
            labels: Some(HashMap::from(labels)),
            entrypoint: Some(vec!["/.skync/agent".to_owned()]),
            ..ContainerConfig::default()
        };
        let made = config(image, container, "sha256:b".to_owned());
        assert_eq!((made.env, made.working_dir), (Some(vec!["A=1".into()]), Some("/app".into())));
        assert_eq!((made.entrypoint, made.cmd), (Some(Vec::new()), None));
        assert_eq!(made.user.as_deref(), Some("0"));
        let labels = made.labels.unwrap();
        for gone in [label::SESSION, label::PROJECT, label::KEEP] {
            assert_eq!(labels[gone], "", "{gone}");
        }
        assert_eq!((&*labels[label::VERSION], &*labels[KEY_LABEL]), ("1", "x"));
        assert_eq!((&*labels["their"], &*labels[BASE_LABEL]), ("label", "sha256:b"));
    }
}
