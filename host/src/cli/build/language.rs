//! The languages whose plugins `lockgate build` builds, and the files that mark and make a plugin in each.

use std::path::Path;

use anyhow::{Result, bail};

use super::tool::{Tool, Version};

/// A language with its own tools. TypeScript is JavaScript's: they share tools and manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Language {
    Rust,
    JavaScript,
    Go,
}

/// The files of a plugin that its tools may read in the next build, and do not list as read in this one.
pub(in crate::cli) struct Sources {
    /// The endings of source files.
    pub(in crate::cli) endings: &'static [&'static str],
    /// The folders of a package that have source files; "" is the package's own.
    pub(in crate::cli) folders: &'static [&'static str],
    /// Other files of a package's folder.
    pub(in crate::cli) manifests: &'static [&'static str],
    /// The folders of a package that tools write to.
    pub(in crate::cli) outputs: &'static [&'static str],
}

impl Language {
    pub(in crate::cli) const ALL: [Self; 3] = [Self::Rust, Self::JavaScript, Self::Go];

    /// Detects the language of a folder by its manifest.
    pub(in crate::cli) fn of(dir: &Path) -> Result<Self> {
        let found: Vec<_> = Self::ALL
            .into_iter()
            .filter(|language| dir.join(language.manifest()).is_file())
            .collect();
        match found.as_slice() {
            [language] => Ok(*language),
            [] => bail!(
                "{}: there is no {}; name a plugin's folder, make one with lockgate new NAME --language rust|js|ts|go, \
                 or build the plugin with its own tools and name the component in a configuration",
                dir.display(),
                Self::ALL.map(Self::manifest).join(", ")
            ),
            [..] => {
                let marks = found
                    .iter()
                    .map(|language| format!("{} of {}", language.manifest(), language.name()));
                bail!(
                    "{}: there are {}; a plugin has one language: move the files of the other into a folder of their own",
                    dir.display(),
                    marks.collect::<Vec<_>>().join(" and ")
                )
            }
        }
    }

    /// Whether a folder is a package of any language.
    pub(in crate::cli) fn is_package(dir: &Path) -> bool {
        Self::ALL
            .iter()
            .any(|language| dir.join(language.manifest()).exists())
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::JavaScript => "JavaScript or TypeScript",
            Self::Go => "Go",
        }
    }

    /// The file that marks a folder as this language's.
    pub(in crate::cli) const fn manifest(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::JavaScript => "package.json",
            Self::Go => "go.mod",
        }
    }

    /// The programs that a build runs.
    pub(super) const fn tools(self) -> &'static [Tool] {
        match self {
            Self::Rust => &[
                Tool {
                    program: "cargo",
                    version: None,
                    install: RUSTUP,
                },
                Tool {
                    program: "rustc",
                    version: None,
                    install: RUSTUP,
                },
            ],
            Self::JavaScript => &[
                Tool {
                    program: "node",
                    version: Some(Version {
                        minimum: (20, 0),
                        arguments: &["--version"],
                    }),
                    install: NODE,
                },
                Tool {
                    program: "npm",
                    version: None,
                    install: NODE,
                },
            ],
            Self::Go => &[Tool {
                program: "go",
                version: Some(Version {
                    minimum: (1, 24),
                    arguments: &["version"],
                }),
                install: GO,
            }],
        }
    }

    pub(in crate::cli) const fn sources(self) -> Sources {
        match self {
            Self::Rust => Sources {
                endings: &["rs"],
                folders: &["src"],
                manifests: &[
                    "Cargo.toml",
                    ".cargo/config.toml",
                    "rust-toolchain.toml",
                    "rust-toolchain",
                ],
                outputs: &["target"],
            },
            Self::JavaScript => Sources {
                // JSON is read where it is imported: npm writes some.
                endings: &["js", "mjs", "cjs", "jsx", "ts", "mts", "cts", "tsx"],
                folders: &["", "src"],
                manifests: &["package.json", "tsconfig.json", "jsconfig.json"],
                outputs: &["node_modules", "dist"],
            },
            Self::Go => Sources {
                endings: &["go"],
                folders: &[""],
                manifests: &["go.mod", "go.sum", "go.work"],
                outputs: &[],
            },
        }
    }
}

/// How Rust is installed.
pub(super) const RUSTUP: &str = "install Rust with rustup, https://rustup.rs: `curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh`";

/// How Node and npm are installed.
const NODE: &str = "install Node.js 20 or newer, which has npm, from https://nodejs.org/en/download, or by a package \
                    manager: `brew install node`, `apt install nodejs npm`";

/// How Go is installed.
const GO: &str = "install Go 1.24 or newer from https://go.dev/dl, or by a package manager: `brew install go`, \
                  `apt install golang-go`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_has_the_language_of_its_only_manifest() {
        let dir = tempfile::tempdir().expect("a folder is made");
        let dir = dir.path();
        let refusal = || {
            let refused = Language::of(dir).expect_err("it is refused");
            refused.to_string()
        };
        assert!(refusal().contains("there is no Cargo.toml, package.json, go.mod; "));
        for language in Language::ALL {
            let manifest = dir.join(language.manifest());
            std::fs::write(&manifest, "").expect("it is written");
            assert_eq!(Language::of(dir).ok(), Some(language));
            std::fs::remove_file(manifest).expect("it is there");
        }
        for manifest in ["package.json", "Cargo.toml"] {
            std::fs::write(dir.join(manifest), "").expect("it is written");
        }
        let there = "there are Cargo.toml of Rust and package.json of JavaScript or TypeScript; ";
        assert!(refusal().contains(there), "{}", refusal());
    }
}
