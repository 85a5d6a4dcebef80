//! What `lockgate dev` is asked to serve: a configuration file, or a plugin's folder, for which it writes a
//! configuration itself.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use toml::Value;

use crate::config::{self, Config, Faults, Grants};
use crate::net::watch::Stamp;

/// The name of a folder's API, stage and plugin.
const NAME: &str = "dev";

pub(super) enum Subject {
    Folder {
        folder: String,
        configuration: String,
    },
    File {
        path: PathBuf,
        /// How it looked when it was read last.
        read: Option<Stamp>,
    },
}

/// Where a stage is served.
pub(super) struct Place {
    /// The host that a client has to name; none is any.
    pub(super) host: Option<String>,
    /// Without its first slash.
    pub(super) path: String,
}

impl Subject {
    pub(super) fn of(path: &Path, routes: &[String]) -> Result<Self> {
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
                "{}: name a plugin's folder, such as plugins/echo, or a configuration file",
                path.display()
            )
        })?;
        anyhow::ensure!(
            folder.is_dir(),
            "{}: it is neither a folder nor a plain file; name a plugin's folder, such as plugins/echo, or a \
             configuration file",
            path.display()
        );
        let twice =
            |(place, key): &(usize, &String)| routes.iter().take(*place).any(|other| other == *key);
        if let Some((_, key)) = routes.iter().enumerate().find(twice) {
            anyhow::bail!("--route {key} is given twice; name each key once");
        }
        let folder = folder
            .to_str()
            .with_context(|| format!("{}: its path is not UTF-8", folder.display()))?;
        Ok(Self::Folder {
            folder: folder.to_owned(),
            configuration: configuration(folder, routes),
        })
    }

    /// The configuration as it is now, nothing built.
    pub(super) fn read(&mut self) -> Result<Config> {
        match self {
            Self::Folder { configuration, .. } => {
                Ok(Config::develop_text(configuration, Path::new(NAME))?)
            }
            Self::File { path, read } => {
                *read = Stamp::of(path);
                Ok(Config::develop(path)?)
            }
        }
    }

    /// Whether the file changed since it was read.
    pub(super) fn has_changed(&self) -> bool {
        match self {
            Self::Folder { .. } => false,
            Self::File { path, read } => Stamp::of(path) != *read,
        }
    }

    pub(super) fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Folder { .. } => None,
            Self::File { path, .. } => Some(path.clone()),
        }
    }

    /// Adds the places in the file to what was found wrong. A folder has none, and is named itself.
    pub(super) fn blame(&self, error: anyhow::Error) -> anyhow::Error {
        let folder = match self {
            Self::File { path, .. } => return config::blame(Some(path), error),
            Self::Folder { folder, .. } => folder,
        };
        match error.downcast::<Faults>() {
            Ok(faults) => {
                let faults = faults.0.into_iter();
                let said = faults.map(|fault| {
                    format!("{folder}: {}\n  remedy: {}", fault.message, fault.remedy)
                });
                anyhow::Error::msg(said.collect::<Vec<_>>().join("\n"))
            }
            Err(error) => error,
        }
    }
}

/// Where the stages of a configuration are served.
pub(super) fn places(config: &Config) -> Vec<Place> {
    let stages = config.apis.iter().flat_map(|api| &api.stages);
    stages
        .map(|stage| match stage.domains.first() {
            None => Place {
                host: None,
                path: stage.name.clone(),
            },
            Some(domain) => Place {
                host: Some(domain.host.clone()),
                path: domain.base_path.clone().unwrap_or_default(),
            },
        })
        .collect()
}

/// A route key of the command line.
pub(super) fn route_key(written: &str) -> Result<String, String> {
    if written.is_empty() || written.starts_with('$') {
        return Err(
            "name a key of your own, such as the value of `action` in a message; it does not begin with \"$\""
                .into(),
        );
    }
    Ok(written.to_owned())
}

/// Safe local defaults: this host's own pages only, all grants, stubs for what no plugin is given, and an answer to every
/// message.
fn configuration(folder: &str, routes: &[String]) -> String {
    // `${` would be an environment variable.
    let folder = Value::from(folder.replace("${", "$${"));
    let routes = routes.iter().map(|key| {
        let key = Value::from(key.as_str());
        format!("[apis.{NAME}.routes.{key}]\nintegration = \"{NAME}\"\ntwo_way = true\n")
    });
    let routes: String = routes.collect();
    let grants = Grants::all();
    format!(
        r#"
limits.drain_s = 1
# The watcher has something to say whenever a folder goes.
log.level = "info,notify=error"

[apis.{NAME}.stages.{NAME}]

[apis.{NAME}.routes]
"$connect" = {{ integration = "{NAME}" }}
"$disconnect" = {{ integration = "{NAME}" }}
"$default" = {{ integration = "{NAME}", two_way = true }}

{routes}
[plugins.{NAME}]
source = {folder}
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
    fn folder_and_routes_of_any_name_are_a_right_configuration() {
        let folder = "/a folder/with \"${quotes}\"";
        let routes = ["join", "send it", "a\"b", "a.b"].map(String::from);
        let text = configuration(folder, &routes);
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
