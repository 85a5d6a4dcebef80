//! Components that lie in an OCI registry: pulled by digest, bounded in bytes and time, and kept on disk.
//!
//! What is pulled is what the digest in the configuration names, whatever the registry, a proxy or the cache says: the
//! manifest's digest is recomputed, and with it the digest of the layer that it names. Knows not what a component is.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{DigestError, OciDistributionError};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde::Deserialize;
use tokio::time::timeout;

use crate::config::Image;
use crate::signature::digest_of;

/// What a registry may be asked for.
const MANIFESTS: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// How long a registry may take to be reached, and to send anything more.
const SILENCE: Duration = Duration::from_secs(10);

/// Bytes of the longest manifest that is read from the cache or believed.
const LONGEST_MANIFEST: usize = 4 << 20;

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    #[error("the registry {0} cannot be reached: {1}")]
    Unreachable(String, String),
    #[error("the registry {0} has no {1}")]
    Unknown(String, String),
    #[error("the registry {0} refuses these credentials, or wants some")]
    Unauthorized(String),
    #[error("the registry {0} failed: {1}")]
    Failed(String, String),
    #[error("what the registry sent is not what the digest names: {0}")]
    OtherContent(String),
    #[error("it is no artifact with one WebAssembly layer: {0}")]
    NoComponent(String),
    #[error("its WebAssembly layer has {0} bytes, and {1} are the most")]
    TooLarge(u64, u64),
    #[error("it was not there within {} s, which is limits.pull_s", .0.as_secs())]
    TooSlow(Duration),
    #[error("{0} cannot be written: {1}")]
    Cache(PathBuf, std::io::Error),
}

/// The part of a manifest that counts here.
#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
    size: u64,
}

/// Gives the component that an image holds, of at most so many bytes: from the cache, or from its registry. Waits for
/// the network: not for a thread that serves.
pub(crate) fn pull(image: &Image, longest: u64) -> Result<Vec<u8>, PullError> {
    if let Some(folder) = &image.cache
        && let Some(component) = cached(folder, image, longest)
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
    if let Some(folder) = &image.cache {
        keep(folder, &image.digest, &manifest)?;
        keep(folder, &digest_of(&component), &component)?;
    }
    Ok(component)
}

async fn fetch(image: &Image, longest: u64) -> Result<(Vec<u8>, Vec<u8>), PullError> {
    let client = Client::try_from(ClientConfig {
        protocol: if image.plain_http {
            ClientProtocol::Http
        } else {
            ClientProtocol::Https
        },
        connect_timeout: Some(SILENCE),
        read_timeout: Some(SILENCE),
        user_agent: concat!("lockgate/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    })
    .map_err(|error| why(image, error))?;
    let reference = Reference::with_digest(
        image.registry.clone(),
        image.repository.clone(),
        image.digest.clone(),
    );
    let auth = match &image.credentials {
        Some(credentials) => RegistryAuth::Basic(
            credentials.username.clone(),
            credentials.password.reveal().to_owned(),
        ),
        None => RegistryAuth::Anonymous,
    };
    let (manifest, _) = client
        .pull_manifest_raw(&reference, &auth, &MANIFESTS)
        .await
        .map_err(|error| why(image, error))?;
    check_digest(&manifest, &image.digest)?;
    let layer = layer(&manifest, longest)?;

    // By its digest alone: other places that a manifest may name for a layer are not asked.
    let mut stream = client
        .pull_blob_stream(&reference, &*layer.digest)
        .await
        .map_err(|error| why(image, error))?;
    let mut component = Vec::new();
    loop {
        match stream.try_next().await {
            Ok(Some(bytes)) => component.extend_from_slice(&bytes),
            Ok(None) => break,
            Err(error) => return Err(broken(image, &error)),
        }
        if component.len() as u64 > layer.size {
            return Err(PullError::OtherContent(format!(
                "the layer is longer than the {} bytes that its manifest says",
                layer.size
            )));
        }
    }
    check_digest(&component, &layer.digest)?;
    Ok((manifest.to_vec(), component))
}

/// The only layer of a manifest that is WebAssembly.
fn layer(manifest: &[u8], longest: u64) -> Result<Layer, PullError> {
    if manifest.len() > LONGEST_MANIFEST {
        return Err(PullError::NoComponent("its manifest is too long".into()));
    }
    let manifest: Manifest = serde_json::from_slice(manifest)
        .map_err(|error| PullError::NoComponent(format!("its manifest is none: {error}")))?;
    let kinds: Vec<_> = manifest
        .layers
        .iter()
        .map(|layer| layer.media_type.clone())
        .collect();
    let mut layers = manifest.layers.into_iter().filter(|layer| {
        let kind = layer.media_type.as_str();
        kind == "application/wasm" || kind.ends_with("+wasm")
    });
    match (layers.next(), layers.next()) {
        (Some(layer), None) if layer.size > longest => {
            Err(PullError::TooLarge(layer.size, longest))
        }
        (Some(layer), None) if layer.digest.starts_with("sha256:") => Ok(layer),
        _ if kinds.is_empty() => Err(PullError::NoComponent(
            "it has no layers, as an index of several images has none".into(),
        )),
        _ => Err(PullError::NoComponent(format!(
            "it has {}",
            kinds.join(", ")
        ))),
    }
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

/// What the client's errors mean to an operator.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the client has two dozen errors, and new ones in each version"
)]
fn why(image: &Image, error: OciDistributionError) -> PullError {
    let registry = image.registry.clone();
    match error {
        OciDistributionError::RequestError(error) if error.is_timeout() => {
            PullError::Failed(registry, "it fell silent".into())
        }
        OciDistributionError::RequestError(error) if error.is_connect() => {
            PullError::Unreachable(registry, chain(&error))
        }
        OciDistributionError::ImageManifestNotFoundError(_)
        | OciDistributionError::ServerError { code: 404, .. } => {
            PullError::Unknown(registry, image.to_string())
        }
        OciDistributionError::RegistryError { ref envelope, .. }
            if envelope.errors.iter().any(|error| {
                use oci_client::errors::OciErrorCode::{
                    BlobUnknown, ManifestUnknown, NameUnknown, NotFound,
                };
                matches!(
                    error.code,
                    BlobUnknown | ManifestUnknown | NameUnknown | NotFound
                )
            }) =>
        {
            PullError::Unknown(registry, image.to_string())
        }
        OciDistributionError::UnauthorizedError { .. }
        | OciDistributionError::AuthenticationFailure(_) => PullError::Unauthorized(registry),
        OciDistributionError::DigestError(DigestError::VerificationError { expected, actual }) => {
            PullError::OtherContent(format!("{expected} is asked for, {actual} was sent"))
        }
        error => PullError::Failed(registry, chain(&error)),
    }
}

/// What went wrong in the middle of a layer.
fn broken(image: &Image, error: &std::io::Error) -> PullError {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<DigestError>());
    match inner {
        Some(DigestError::VerificationError { expected, actual }) => {
            PullError::OtherContent(format!("{expected} is asked for, {actual} was sent"))
        }
        _ => PullError::Failed(image.registry.clone(), chain(error)),
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// The file of the cache that holds what has this digest.
fn place(folder: &Path, digest: &str) -> PathBuf {
    folder.join(digest.replace(':', "-"))
}

/// What the cache has of an image, if it is right.
fn cached(folder: &Path, image: &Image, longest: u64) -> Option<Vec<u8>> {
    let read = |digest: &str, longest: u64| {
        let path = place(folder, digest);
        let length = fs::metadata(&path).ok()?.len();
        let content = (length <= longest).then(|| fs::read(path).ok())??;
        check_digest(&content, digest).is_ok().then_some(content)
    };
    let manifest = read(&image.digest, LONGEST_MANIFEST as u64)?;
    let layer = layer(&manifest, longest).ok()?;
    read(&layer.digest, longest)
}

/// Writes a file of the cache, whole or not at all.
fn keep(folder: &Path, digest: &str, content: &[u8]) -> Result<(), PullError> {
    let path = place(folder, digest);
    let unfinished = folder.join(format!(
        "{}.{}",
        digest.replace(':', "-"),
        std::process::id()
    ));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&unfinished, content))
        .and_then(|()| fs::rename(&unfinished, &path))
        .map_err(|error| PullError::Cache(path, error))
}
