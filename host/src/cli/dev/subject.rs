//! The subject of `lockgate dev`: a configuration file, or a plugin's folder with a generated configuration.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use toml::Value;

use super::guard::Guard;
use crate::cli::build::Language;
use crate::config::{self, Config, Faults, Grants};
use crate::net::watch::Stamp;

/// The name of the generated API, stage and plugin.
const NAME: &str = "dev";

pub(in crate::cli) enum Subject {
    /// A plugin's folder, or its component.
    Plugin {
        place: String,
        configuration: String,
    },
    File {
        path: PathBuf,
        /// The file's stamp at the last read.
        read: Option<Stamp>,
    },
}

/// The host and path of a stage.
pub(super) struct StageUrl {
    /// The host that a client must name; none allows any.
    pub(super) host: Option<String>,
    /// The path without its leading slash.
    pub(super) path: String,
    /// What a client has to show there.
    pub(super) guard: Option<Guard>,
}

impl Subject {
    pub(in crate::cli) fn of(path: &Path, routes: &[String]) -> Result<Self> {
        if path.is_file() {
            anyhow::ensure!(
                routes.is_empty(),
                "{}: the routes of a configuration file are in the file; remove --route",
                path.display()
            );
            return Ok(Self::File {
                path: path.to_owned(),
                read: None,
            });
        }
        let folder = path.canonicalize().with_context(|| {
            format!(
                "{}: name a plugin's folder or a configuration file",
                path.display()
            )
        })?;
        anyhow::ensure!(
            folder.is_dir(),
            "{}: it is neither a folder nor a plain file; name a plugin's folder or a configuration \
             file",
            path.display()
        );
        let file = path.join("gateway.toml");
        anyhow::ensure!(
            Language::is_package(&folder) || !file.exists(),
            "{}: it is no plugin's folder, and has a configuration; write lockgate dev {}",
            path.display(),
            file.display()
        );
        let twice =
            |(index, key): &(usize, &String)| routes.iter().take(*index).any(|other| other == *key);
        if let Some((_, key)) = routes.iter().enumerate().find(twice) {
            anyhow::bail!("--route {key} is given twice; name each key once");
        }
        Self::plugin("source", &folder, routes)
    }

    /// A component alone, with the configuration that its folder would have.
    pub(in crate::cli) fn of_component(path: &Path) -> Result<Self> {
        let path = path
            .canonicalize()
            .with_context(|| path.display().to_string())?;
        Self::plugin("component", &path, &[])
    }

    /// A plugin with a generated configuration, in which `key` has its place.
    fn plugin(key: &str, place: &Path, routes: &[String]) -> Result<Self> {
        let place = place
            .to_str()
            .with_context(|| format!("{}: its path is not UTF-8", place.display()))?;
        Ok(Self::Plugin {
            place: place.to_owned(),
            configuration: configuration(key, place, routes),
        })
    }

    /// Reads the configuration; builds nothing.
    pub(in crate::cli) fn read(&mut self) -> Result<Config> {
        match self {
            Self::Plugin { configuration, .. } => {
                Ok(Config::develop_text(configuration, Path::new(NAME))?)
            }
            Self::File { path, read } => {
                *read = Stamp::of(path);
                Ok(Config::develop(path)?)
            }
        }
    }

    /// Whether the file has changed since the last read.
    pub(super) fn has_changed(&self) -> bool {
        match self {
            Self::Plugin { .. } => false,
            Self::File { path, read } => Stamp::of(path) != *read,
        }
    }

    pub(super) fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Plugin { .. } => None,
            Self::File { path, .. } => Some(path.clone()),
        }
    }

    /// Adds the place in the file to each fault. A plugin alone has no file: its own name stands there.
    pub(in crate::cli) fn blame(&self, error: anyhow::Error) -> anyhow::Error {
        let place = match self {
            Self::File { path, .. } => return config::blame(Some(path), error),
            Self::Plugin { place, .. } => place,
        };
        match error.downcast::<Faults>() {
            Ok(faults) => {
                let faults = faults.0.into_iter();
                let paragraphs = faults
                    .map(|fault| format!("{place}: {}\n  remedy: {}", fault.message, fault.remedy));
                anyhow::Error::msg(paragraphs.collect::<Vec<_>>().join("\n"))
            }
            Err(error) => error,
        }
    }
}

/// Lists the hosts and paths of a configuration's stages.
pub(super) fn stage_urls(config: &Config) -> Vec<StageUrl> {
    let stages = config.apis.iter().flat_map(|api| &api.stages);
    stages
        .map(|stage| {
            let (host, path) = match stage.domains.first() {
                None => (None, stage.name.clone()),
                Some(domain) => (
                    Some(domain.host.clone()),
                    domain.base_path.clone().unwrap_or_default(),
                ),
            };
            StageUrl {
                host,
                path,
                guard: Guard::of(config, stage),
            }
        })
        .collect()
}

/// Parses a route key of the command line.
pub(super) fn route_key(written: &str) -> Result<String, String> {
    if written.is_empty() || written.starts_with('$') {
        return Err(
            "name a key of your own, such as the value of `action` in a message; it does not begin with \"$\""
                .into(),
        );
    }
    Ok(written.to_owned())
}

/// Writes a configuration with safe local defaults: this host's pages only, all grants, stubs for WASI imports that no
/// plugin gets, and an answer to every message.
fn configuration(key: &str, place: &str, routes: &[String]) -> String {
    // An unescaped `${` would read an environment variable.
    let place = Value::from(place.replace("${", "$${"));
    let routes = routes.iter().map(|key| {
        let key = Value::from(key.as_str());
        format!("[apis.{NAME}.routes.{key}]\nintegration = \"{NAME}\"\ntwo_way = true\n")
    });
    let routes: String = routes.collect();
    let grants = Grants::all();
    format!(
        r#"
limits.drain_s = 1
# The watcher has something to say whenever a folder goes, and QUIC about the buffers that many clients would need.
log.level = "info,notify=error,lockgate::listener::quic=error"

[apis.{NAME}.stages.{NAME}]

[apis.{NAME}.routes]
"$connect" = {{ integration = "{NAME}" }}
"$disconnect" = {{ integration = "{NAME}" }}
"$default" = {{ integration = "{NAME}", two_way = true }}

{routes}
[plugins.{NAME}]
{key} = {place}
grants = {grants}
stub_wasi = true
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Component;

    #[test]
    fn folder_and_routes_of_any_name_give_a_valid_configuration() {
        let folder = "/a folder/with \"${quotes}\"";
        let routes = ["join", "send it", "a\"b", "a.b"].map(String::from);
        let text = configuration("source", folder, &routes);
        let config = Config::develop_text(&text, Path::new(NAME));
        let config = config.unwrap_or_else(|problems| panic!("{problems}"));
        let [api] = config.apis.as_slice() else {
            panic!("there is one API")
        };
        let mut keys: Vec<_> = api.routes.iter().map(|route| route.key.as_str()).collect();
        keys.sort_unstable();
        let expected = [
            "$connect",
            "$default",
            "$disconnect",
            "a\"b",
            "a.b",
            "join",
            "send it",
        ];
        assert_eq!(keys, expected);
        let [plugin] = config.plugins.as_slice() else {
            panic!("there is one plugin")
        };
        let source = Component::Source {
            folder: folder.into(),
            built: None,
        };
        assert_eq!(plugin.component, source);
    }
}
