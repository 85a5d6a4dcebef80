//! The check of plugins: where each component is, who must have signed it, what it may do.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::LoadMode;
use super::expand;
use super::file;
use super::grant::{Grant, Grants};
use super::is_loopback_authority;
use super::model::{
    Api, Component, Credentials, Image, Integration, Plugin, Roles, Rollback, Secret, Signature,
};
use super::report::{Report, join};
use super::units;
use super::{Authorizer, AuthorizerKind};
use crate::net::told;

/// The scheme of a component in a registry.
const SCHEME: &str = "oci://";

/// Bytes of a plugin's environment variables, names and values together.
const MAX_ENVIRONMENT: usize = 16 << 10;

/// The remedy for a component that is not there.
const NOT_THERE: &str = "correct the path, which is relative to the folder of this file";

/// The same, of a plugin whose source is there.
const NOT_BUILT: &str = "put there what `lockgate build` makes of its source, or serve this file by `lockgate dev`, which builds it";

/// The sources of components that are not files.
pub(super) struct ComponentSources {
    pub(super) registries: BTreeMap<String, RegistryAccess>,
    pub(super) cache: Option<PathBuf>,
    pub(super) patience: Duration,
    pub(super) mode: LoadMode,
}

/// The access to one registry.
pub(super) struct RegistryAccess {
    credentials: Option<Credentials>,
    plain_http: bool,
}

pub(super) fn plugins(
    written: BTreeMap<String, file::Plugin>,
    sources: &ComponentSources,
    require_signatures: bool,
    report: &mut Report<'_>,
) -> Vec<Plugin> {
    let plugins: Vec<_> = written
        .into_iter()
        .map(|(name, written)| plugin(name, written, sources, report))
        .collect();
    if require_signatures {
        for plugin in &plugins {
            require_signature(plugin, report);
        }
    }
    plugins
}

/// Notes what each plugin is called for. One that nothing calls may be a handler to come.
pub(super) fn assign_roles(plugins: &mut [Plugin], apis: &[Api], authorizers: &[Authorizer]) {
    for plugin in plugins {
        let mut routes = apis.iter().flat_map(|api| &api.routes);
        let is_target = routes.any(
            |route| matches!(&route.integration, Integration::Plugin(name) if *name == plugin.name),
        );
        let is_authorizer = authorizers.iter().any(
            |authorizer| matches!(&authorizer.kind, AuthorizerKind::Plugin(name) if *name == plugin.name),
        );
        plugin.roles = Roles {
            handler: is_target || !is_authorizer,
            authorizer: is_authorizer,
        };
    }
}

pub(super) fn registries(
    written: BTreeMap<String, file::Registry>,
    report: &mut Report<'_>,
) -> BTreeMap<String, RegistryAccess> {
    let written = written.into_iter();
    written
        .map(|(name, written)| (name.clone(), registry(&name, written, report)))
        .collect()
}

fn registry(name: &str, written: file::Registry, report: &mut Report<'_>) -> RegistryAccess {
    let key = join("registries", name);
    if written.plain_http && !is_loopback_authority(name) {
        report.problem(
            &join(&key, "plain_http"),
            "without TLS anyone on the way could read the credentials and see what is pulled",
            "remove plain_http; it is for a registry on localhost",
        );
    }
    let credentials = match (written.username, written.password) {
        (Some(username), Some(password)) => Some(Credentials {
            username,
            password: report.secret(&join(&key, "password"), password),
        }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) if report.is_clean(&key) => {
            report.problem(
                &key,
                "a user name and a password belong together, and one is missing",
                "write both, or neither",
            );
            None
        }
        (Some(_), None) | (None, Some(_)) => None,
    };
    RegistryAccess {
        credentials,
        plain_http: written.plain_http,
    }
}

fn plugin(
    name: String,
    written: file::Plugin,
    sources: &ComponentSources,
    report: &mut Report<'_>,
) -> Plugin {
    let key = join("plugins", &name);
    report.check_name(&key, &name);
    let component = match (&written.component, &written.source) {
        (_, Some(folder)) if sources.mode == LoadMode::Develop => Component::Source {
            folder: report.path(&join(&key, "source"), folder),
            built: None,
        },
        (Some(path), source) => {
            let missing = if source.is_some() {
                NOT_BUILT
            } else {
                NOT_THERE
            };
            component(&join(&key, "component"), path, missing, sources, report)
        }
        (None, folder) => {
            missing_component(&key, folder.as_deref(), report);
            Component::File(PathBuf::new())
        }
    };
    // A component that this machine has just built has no signature.
    let signed = written
        .signature
        .filter(|_| !matches!(component, Component::Source { .. }));
    Plugin {
        roles: Roles::default(),
        grants: grants(&join(&key, "grants"), &written.grants, report),
        stub_wasi: written.stub_wasi,
        environment: environment(&join(&key, "environment"), written.environment, report),
        signature: signed
            .map(|written| signature(&join(&key, "signature"), &written, &component, report)),
        component,
        isolation: written.isolation,
        rollback: Rollback::of(&written.rollback),
        limits: units::plugin(&join(&key, "limits"), written.limits, report),
        name,
    }
}

fn missing_component(key: &str, source: Option<&str>, report: &mut Report<'_>) {
    match source {
        Some(folder) => report.problem(
            &join(key, "source"),
            "the plugin has a source and no component, and only `lockgate dev` builds plugins",
            format!(
                "develop it with `lockgate dev FILE`; to serve it, run `lockgate build {folder}` and add \
                 component = \"…\" with the file that it prints"
            ),
        ),
        None if report.is_clean(key) => report.problem(
            &join(key, "component"),
            "the key \"component\" is missing",
            "add component = \"FILE.wasm\"; or, for `lockgate dev`, source = \"FOLDER\"",
        ),
        None => {}
    }
}

fn component(
    key: &str,
    written: &str,
    missing: &'static str,
    sources: &ComponentSources,
    report: &mut Report<'_>,
) -> Component {
    let Some(reference) = written.strip_prefix(SCHEME) else {
        if written.contains("://") {
            report.problem(
                key,
                format!(
                    "{} is a URL, and a component is a file or an image of a registry",
                    told(written)
                ),
                "write the path of a file, or oci://REGISTRY/NAME@sha256:…",
            );
            return Component::File(PathBuf::new());
        }
        return Component::File(report.file_or(key, written, missing));
    };
    let (name, digest) = reference.split_once('@').unwrap_or((reference, ""));
    let (registry, repository) = name.split_once('/').unwrap_or((name, ""));
    let names_image = digest.is_empty() || digest.starts_with("sha256:") || name.contains('/');
    if digest.contains(['/', '@']) || !names_image {
        // It is not shown: with a user there may be a password.
        report.problem(
            key,
            "a user stands before the registry",
            "write oci://REGISTRY/NAME@sha256:…, and add [registries.\"REGISTRY\"] with username and password",
        );
    } else if digest.is_empty() {
        report.problem(
            key,
            format!("{written:?} has no digest: a tag may name another component tomorrow"),
            "add the manifest's digest: oci://REGISTRY/NAME@sha256:…",
        );
    } else if !is_digest(digest) || !is_repository(repository) || !is_registry(registry) {
        report.problem(
            key,
            format!("{written:?} is no reference to an image"),
            "write oci://REGISTRY/NAME@sha256:…, with 64 hexadecimal digits in lower case and no tag",
        );
    }
    let access = sources.registries.get(registry);
    Component::Image(Box::new(Image {
        registry: registry.to_owned(),
        repository: repository.to_owned(),
        digest: digest.to_owned(),
        credentials: access.and_then(|access| access.credentials.clone()),
        plain_http: access.is_some_and(|access| access.plain_http),
        cache: sources.cache.clone(),
        patience: sources.patience,
    }))
}

/// Whether it is a SHA-256 in its usual form, which is safe as a name in a path.
pub(crate) fn is_digest(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:");
    digits.is_some_and(|digits| {
        digits.len() == 64
            && digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Follows the distribution specification, without its finer rules on where separators may stand.
fn is_repository(text: &str) -> bool {
    let is_part = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
            && part
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
    };
    text.len() <= 255 && text.split('/').all(is_part)
}

fn is_registry(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

fn signature(
    key: &str,
    written: &file::Signature,
    component: &Component,
    report: &mut Report<'_>,
) -> Signature {
    let keys_key = join(key, "keys");
    if written.keys.is_empty() && report.is_clean(&keys_key) {
        report.problem(
            &keys_key,
            "no key is listed, so no signature could count",
            "name the public key's file; `lockgate keys new FILE` makes one",
        );
    }
    let file = match (&written.file, component) {
        (Some(file), _) => report.path(&join(key, "file"), file),
        (None, Component::File(path)) => signature_beside(path),
        (None, Component::Image(_)) => {
            report.problem(
                &join(key, "file"),
                "a component in a registry has no signature beside it, and no signature file is named",
                "add file = \"….sig\", the file that `lockgate sign` wrote for the component",
            );
            PathBuf::new()
        }
        (None, Component::Source { .. }) => PathBuf::new(),
    };
    let keys = written.keys.iter().enumerate();
    Signature {
        keys: keys
            .map(|(index, path)| report.existing_file(&format!("{keys_key}[{index}]"), path))
            .collect(),
        file,
        min_version: written.min_version,
        max_age: written
            .max_age_days
            .map(|days| Duration::from_secs(u64::from(days) * 86_400)),
    }
}

/// The default path of a component's signature.
pub(crate) fn signature_beside(component: &Path) -> PathBuf {
    let mut name = OsString::from(component);
    name.push(".sig");
    name.into()
}

fn require_signature(plugin: &Plugin, report: &mut Report<'_>) {
    let key = join(&join("plugins", &plugin.name), "signature");
    let built_here = matches!(plugin.component, Component::Source { .. });
    if plugin.signature.is_none() && !built_here && !report.is_written(&key) {
        report.problem(
            &key,
            "require_signatures is true, and this plugin has no signature table",
            "add signature = { keys = [\"release.pub.pem\"] }, with the signer's public key",
        );
    }
}

fn environment(
    key: &str,
    written: BTreeMap<String, String>,
    report: &mut Report<'_>,
) -> BTreeMap<String, Secret> {
    for (name, value) in &written {
        let key = join(key, name);
        if !expand::is_variable(name) {
            report.problem(
                &key,
                format!("{name:?} is not the name of an environment variable"),
                "use letters, digits and _, and begin with no digit",
            );
        }
        if value.contains('\0') {
            report.problem(
                &key,
                "the value has a NUL, at which a program would take it to end",
                "remove the NUL; to pass bytes, write them in base64",
            );
        }
    }
    let variables = written.iter();
    let bytes: usize = variables
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > MAX_ENVIRONMENT {
        report.problem(
            key,
            format!(
                "names and values have {bytes} bytes, and {MAX_ENVIRONMENT} is the most: every instance gets a copy"
            ),
            "keep large texts in the component",
        );
    }
    let variables = written.into_iter();
    variables
        .map(|(name, value)| {
            let value = report.variable(&join(key, &name), &name, value);
            (name, value)
        })
        .collect()
}

fn grants(key: &str, written: &[Grant], report: &mut Report<'_>) -> Grants {
    let mut grants = Grants::default();
    for (index, grant) in written.iter().enumerate() {
        if !grants.add(*grant) {
            report.problem(
                &format!("{key}[{index}]"),
                "this is granted already",
                "remove the second one",
            );
        }
    }
    grants
}
