//! Components in an OCI registry: pulled by digest, bounded in bytes and time, and kept on disk.
//!
//! The content is always that of the configured digest, despite the registry, a proxy or the cache: the digest of the
//! manifest is recomputed, and so is that of the layer that it names. Knows nothing of components.

mod address;
mod bounds;
mod challenge;
mod client;
mod refusal;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::timeout;

use self::client::{Content, RegistryClient};
use crate::config::{Image, is_digest};
use crate::net::{watch, write_whole};
use crate::signature::digest_of;
use crate::words::count_of;

/// The types that the registry may answer with. An index is useless here, and accepted so that the error can name its
/// images.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json";

/// Bytes of the longest manifest.
const LONGEST_MANIFEST: u64 = 4 << 20;

/// The reason why there is no component.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    #[error("the registry {0} cannot be reached: {1}")]
    Unreachable(String, String),
    /// The registry, the image, and the registry's own text.
    #[error("the registry {0} has no {1}{2}")]
    Unknown(String, String, String),
    #[error("the registry {0} refuses these credentials, or wants some{1}")]
    Unauthorized(String, String),
    #[error("the registry {0} {1}")]
    Busy(String, String),
    #[error("the registry {0} is not followed: {1}")]
    ForbiddenTarget(String, String),
    #[error("the registry {0} failed: {1}")]
    Failed(String, String),
    #[error("the registry's answer does not match the digest: {0}")]
    OtherContent(String),
    #[error("it is no artifact with one WebAssembly layer: {0}")]
    NoComponent(String),
    #[error("the digest of its WebAssembly layer is {0}, and only sha256 is understood")]
    OtherDigest(String),
    #[error("its WebAssembly layer has {0} bytes, and the maximum is {1}")]
    TooLarge(u64, u64),
    #[error("the pull did not end within {} s, which is limits.pull_s", .0.as_secs())]
    TooSlow(Duration),
    #[error("{0} cannot be written: {1}")]
    Cache(PathBuf, std::io::Error),
}

/// The part of a manifest that matters here.
#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
    /// The images, if it is an index.
    #[serde(default)]
    manifests: Vec<IndexEntry>,
}

/// An image in an index.
#[derive(Deserialize)]
struct IndexEntry {
    digest: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
    size: u64,
}

/// Gives the component of an image, of at most `longest` bytes: from the cache, or from its registry, and then writes
/// it into the folder `writable_cache`. Waits for the network: not for a thread that serves.
pub(crate) fn pull(
    image: &Image,
    longest: u64,
    writable_cache: Option<&Path>,
) -> Result<Vec<u8>, PullError> {
    if let Some(folder) = &image.cache
        && let Some(component) = read_from_cache(folder, image, longest)
    {
        return Ok(component);
    }
    let failed = |error: &dyn std::fmt::Display| {
        PullError::Failed(image.registry.clone(), error.to_string())
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    let (manifest, component) = runtime
        .block_on(async { timeout(image.patience, fetch(image, longest)).await })
        .map_err(|_| PullError::TooSlow(image.patience))??;
    if let Some(folder) = writable_cache {
        write_to_cache(folder, &image.digest, &manifest)?;
        write_to_cache(folder, &digest_of(&component), &component)?;
    }
    Ok(component)
}

async fn fetch(image: &Image, longest: u64) -> Result<(Vec<u8>, Vec<u8>), PullError> {
    let mut client = RegistryClient::new(image).await?;
    let path = format!("manifests/{}", image.digest);
    let Content::Whole(manifest) = client.get(&path, MANIFESTS, LONGEST_MANIFEST).await? else {
        return Err(PullError::NoComponent("its manifest is too long".into()));
    };
    check_digest(&manifest, &image.digest)?;
    let layer = layer(&manifest, longest)?;

    // Asked for by its digest alone: other locations that a manifest may name for a layer are not used.
    let path = format!("blobs/{}", layer.digest);
    let Content::Whole(component) = client.get(&path, "*/*", layer.size).await? else {
        return Err(PullError::OtherContent(format!(
            "the layer is longer than the {} bytes that its manifest says",
            layer.size
        )));
    };
    check_digest(&component, &layer.digest)?;
    Ok((manifest, component))
}

/// The only WebAssembly layer of a manifest.
fn layer(manifest: &[u8], longest: u64) -> Result<Layer, PullError> {
    let manifest: Manifest = serde_json::from_slice(manifest)
        .map_err(|error| PullError::NoComponent(format!("its manifest is invalid: {error}")))?;
    let kinds: Vec<_> = manifest
        .layers
        .iter()
        .map(|layer| layer.media_type.clone())
        .collect();
    let mut layers = manifest.layers.into_iter().filter(|layer| {
        // Media types ignore case, and may have parameters.
        let kind = layer.media_type.split(';').next().unwrap_or_default();
        let kind = kind.trim().to_ascii_lowercase();
        kind == "application/wasm" || kind.ends_with("+wasm")
    });
    match (layers.next(), layers.next()) {
        (Some(layer), None) if layer.size > longest => {
            Err(PullError::TooLarge(layer.size, longest))
        }
        (Some(layer), None) if is_digest(&layer.digest) => Ok(layer),
        (Some(layer), None) if layer.digest.starts_with("sha256:") => Err(PullError::NoComponent(
            format!("the digest of its layer is {}", quoted(&layer.digest)),
        )),
        (Some(layer), None) => Err(PullError::OtherDigest(quoted(&layer.digest))),
        _ if !manifest.manifests.is_empty() => Err(PullError::NoComponent(format!(
            "it is an index of {}, among them {}",
            count_of(manifest.manifests.len(), "image"),
            first_digests(&manifest.manifests)
        ))),
        _ if kinds.is_empty() => Err(PullError::NoComponent("it has no layers".into())),
        _ => Err(PullError::NoComponent(format!(
            "it has {}",
            kinds.join(", ")
        ))),
    }
}

/// The digests of the first images in an index.
fn first_digests(images: &[IndexEntry]) -> String {
    let digests = images.iter().map(|image| image.digest.as_str());
    let digests: Vec<_> = digests.filter(|digest| is_digest(digest)).take(4).collect();
    digests.join(", ")
}

/// A foreign digest for an error: on one line, and no longer than digests are.
fn quoted(digest: &str) -> String {
    const LONGEST: usize = 160;
    let short = digest.chars().take(LONGEST).flat_map(char::escape_debug);
    format!("\"{}\"", short.collect::<String>())
}

fn check_digest(content: &[u8], expected: &str) -> Result<(), PullError> {
    let found = digest_of(content);
    if found == expected {
        return Ok(());
    }
    Err(PullError::OtherContent(format!(
        "{expected} is asked for, {found} was sent"
    )))
}

/// The text of an error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// The path of the cached content with this digest.
fn cache_path(folder: &Path, digest: &str) -> PathBuf {
    folder.join(digest.replace(':', "-"))
}

/// The component of an image from the cache, if its digests match.
fn read_from_cache(folder: &Path, image: &Image, longest: u64) -> Option<Vec<u8>> {
    let read = |digest: &str, longest: u64| {
        let path = cache_path(folder, digest);
        let (content, _) = watch::read(&path, longest).ok()?;
        check_digest(&content, digest).is_ok().then_some(content)
    };
    let manifest = read(&image.digest, LONGEST_MANIFEST)?;
    let layer = layer(&manifest, longest).ok()?;
    read(&layer.digest, longest)
}

/// Writes a file of the cache, as a whole or not at all.
fn write_to_cache(folder: &Path, digest: &str, content: &[u8]) -> Result<(), PullError> {
    let path = cache_path(folder, digest);
    fs::create_dir_all(folder)
        .and_then(|()| write_whole(&path, content))
        .map_err(|error| PullError::Cache(path, error))
}
