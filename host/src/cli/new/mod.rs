//! `lockgate new`: makes a plugin's project from a template, with the SDK in it.

pub(super) mod sdk;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::embedded;
use sdk::Sdk;

/// The name of the project in the templates, and the same where `-` is no letter of a name.
const PLACEHOLDERS: [&str; 2] = ["my-plugin", "my_plugin"];

/// The most characters of a name: npm and the gateway's configuration take more.
const MAX_NAME: usize = 64;

/// Names that mean something else to the tools of a language.
const TAKEN: [&str; 15] = [
    "alloc",
    "core",
    "crate",
    "extern",
    "lockgate",
    "lockgate-plugin",
    "main",
    "proc-macro",
    "sdk",
    "self",
    "serde",
    "serde-json",
    "std",
    "super",
    "test",
];

#[derive(Debug, clap::Args)]
pub(super) struct NewOptions {
    /// The folder to make; its name is the plugin's: lower-case letters, digits and hyphens
    #[arg(required_unless_present_any = ["sdk", "client"], value_name = "NAME")]
    dir: Option<PathBuf>,
    /// The language to write the plugin in
    #[arg(
        long,
        required_unless_present_any = ["sdk", "client"],
        value_name = "rust|js|ts|go",
        hide_possible_values = true
    )]
    language: Option<Choice>,
    /// What the plugin does at first: echo, chat, authorizer (who may connect) or lambda (handlers written for AWS Lambda)
    #[arg(long, default_value = "echo")]
    template: String,
    /// Instead: replace the SDK of the project in DIR, with all changes made to it, by that of this version
    #[arg(long, value_name = "DIR", conflicts_with_all = ["dir", "language", "template"])]
    sdk: Option<PathBuf>,
    /// Instead: write the client for web pages, @lockgate/client, into DIR; one of another version is replaced
    #[arg(long, value_name = "DIR", conflicts_with_all = ["dir", "language", "template", "sdk"])]
    client: Option<PathBuf>,
}

/// The files of the client for web pages, and their names beside a page.
const CLIENT: [(&str, &str); 2] = [
    ("index.js", "lockgate-client.js"),
    ("index.d.ts", "lockgate-client.d.ts"),
];

/// A language to choose: JavaScript and TypeScript have templates of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Choice {
    Rust,
    Js,
    Ts,
    Go,
}

impl Choice {
    const fn name(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::Js => "JavaScript",
            Self::Ts => "TypeScript",
            Self::Go => "Go",
        }
    }

    /// The folder of its templates.
    const fn templates(self) -> &'static str {
        match self {
            Self::Rust => "templates/rust",
            Self::Js => "templates/js",
            Self::Ts => "templates/ts",
            Self::Go => "templates/go",
        }
    }

    const fn sdk(self) -> Sdk {
        match self {
            Self::Rust => Sdk::Rust,
            Self::Js | Self::Ts => Sdk::Js,
            Self::Go => Sdk::Go,
        }
    }
}

pub(super) fn new(options: &NewOptions) -> Result<()> {
    if let Some(project) = &options.sdk {
        let sdk = sdk::replace(project)?;
        return super::print(&format!("{} is that of this version", sdk.display()));
    }
    if let Some(dir) = &options.client {
        for (path, content) in embedded::files("js/client") {
            if let Some((_, name)) = CLIENT.iter().find(|(file, _)| *file == path) {
                write(&dir.join(name), content)?;
            }
        }
        let [(_, module), _] = CLIENT;
        return super::print(&format!(
            "{} is a module for pages: import {{ connect }} from \"./{module}\"",
            dir.join(module).display()
        ));
    }
    let (Some(dir), Some(language)) = (&options.dir, options.language) else {
        bail!("name a folder and a language: lockgate new hello --language rust|js|ts|go");
    };
    // The folder `.` has its name from outside.
    let place = dir.canonicalize().unwrap_or_else(|_| dir.clone());
    let name = name(&place)?;
    let template = template(language, &options.template)?;
    ensure_free(dir)?;
    for (path, content) in embedded::files(&template) {
        let path = dir.join(path);
        match std::str::from_utf8(content) {
            Ok(text) => write(&path, named(text, name).as_bytes())?,
            Err(_) => write(&path, content)?,
        }
    }
    sdk::lay(language.sdk(), dir)?;
    let enter = if dir.as_os_str() == "." {
        String::new()
    } else {
        format!("  cd {}\n", dir.display())
    };
    // Lambda handlers need their routes and their environment, an authorizer its API: the configuration has them.
    let what = if ["lambda", "authorizer"].contains(&&*options.template) {
        "gateway.toml"
    } else {
        "."
    };
    super::print(&format!(
        "{name} is a plugin in {language}: the template {template}. Go on with:\n\n{enter}  lockgate dev {what}\n\n\
         README.md says what is there.",
        language = language.name(),
        template = options.template,
    ))
}

/// Gives the name of the project in a folder.
fn name(dir: &Path) -> Result<&str> {
    let name = dir
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let is_named = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.len() <= MAX_NAME
        && !name.ends_with('-')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !is_named {
        bail!(
            "{}: a plugin's name begins with a lower-case letter, and has lower-case letters, digits and hyphens, at most \
             {MAX_NAME}; choose one such as {}",
            dir.display(),
            suggestion(name)
        );
    }
    if TAKEN.contains(&name) {
        bail!(
            "{}: the name {name} means something else to the language's tools; choose another, such as my-{name}",
            dir.display()
        );
    }
    Ok(name)
}

/// Makes a valid name that is near to what was written.
fn suggestion(written: &str) -> String {
    let words = written
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    let near = words.collect::<Vec<_>>().join("-").to_ascii_lowercase();
    let near = near.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
    if near.is_empty() || near.len() > MAX_NAME {
        return "hello".into();
    }
    near.into()
}

/// Finds the folder of a language's template.
fn template(language: Choice, template: &str) -> Result<String> {
    let folder = language.templates();
    let names: BTreeSet<_> = embedded::files(folder)
        .filter_map(|(path, _)| Some(path.split_once('/')?.0))
        .collect();
    if names.contains(template) {
        return Ok(format!("{folder}/{template}"));
    }
    let names: Vec<_> = names.into_iter().collect();
    bail!(
        "there is no template {template} in {}; choose one with --template: {}",
        language.name(),
        names.join(", ")
    )
}

/// Refuses a folder with anything in it.
fn ensure_free(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    let in_folder = || dir.display().to_string();
    if !dir.is_dir() {
        bail!("{}: it is a file; name a new folder", dir.display());
    }
    if fs::read_dir(dir).with_context(in_folder)?.next().is_some() {
        bail!(
            "{}: the folder is not empty; name a new folder, or an empty one",
            dir.display()
        );
    }
    Ok(())
}

/// Puts the project's name into the text of a template.
fn named(text: &str, name: &str) -> String {
    let [with_hyphen, with_underscore] = PLACEHOLDERS;
    text.replace(with_hyphen, name)
        .replace(with_underscore, &name.replace('-', "_"))
}

/// Writes a file, with its folders.
fn write(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    fs::write(path, content).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn name_is_one_that_every_tool_takes_or_refused_with_a_suggestion() {
        for good in ["hello", "a", "my-plugin-2", "deep/in/hello"] {
            let name = name(Path::new(good)).expect(good);
            assert!(good.ends_with(name));
        }
        for (bad, remedy) in [
            ("Hello World", "such as hello-world"),
            ("2nd", "such as nd"),
            ("a_b", "such as a-b"),
            ("a-", "such as a"),
            ("..", "such as hello"),
            ("/", "such as hello"),
            ("é", "such as hello"),
            ("self", "such as my-self"),
        ] {
            let refused = name(Path::new(bad)).expect_err(bad).to_string();
            assert!(refused.contains(remedy), "{refused}");
        }
        let long = "a".repeat(65);
        assert!(name(Path::new(&long)).is_err());
    }

    #[test]
    fn templates_name_the_project() {
        let text = named("name = \"my-plugin\"\nlib = \"my_plugin.wasm\"", "a-b");
        assert_eq!(text, "name = \"a-b\"\nlib = \"a_b.wasm\"");
    }

    #[test]
    fn client_is_written_with_its_types_and_again() {
        let folder = tempfile::tempdir().expect("a folder is made");
        let web = folder.path().join("web");
        let options = NewOptions {
            dir: None,
            language: None,
            template: "echo".into(),
            sdk: None,
            client: Some(web.clone()),
        };
        for _ in 0..2 {
            new(&options).expect("it is written");
            for (name, part) in [
                ("lockgate-client.js", "export function connect("),
                ("lockgate-client.d.ts", "export function connect("),
            ] {
                let file = web.join(name);
                let text = fs::read_to_string(&file).expect(name);
                assert!(text.contains(part), "{name}");
                fs::write(&file, "// that of another version").expect(name);
            }
        }
    }

    #[test]
    fn every_template_has_what_a_project_needs() {
        for language in Choice::value_variants() {
            let folder = language.templates();
            let all: BTreeSet<_> = embedded::files(folder).map(|(path, _)| path).collect();
            let names = all.iter().filter_map(|path| Some(path.split_once('/')?.0));
            for name in names.collect::<BTreeSet<_>>() {
                for expected in [".gitignore", "README.md", "gateway.toml"] {
                    let path = format!("{name}/{expected}");
                    assert!(all.contains(path.as_str()), "{folder}/{path}");
                }
                let page = format!("{name}/web/index.html");
                assert_eq!(
                    all.contains(page.as_str()),
                    name == "chat",
                    "{folder}/{page}"
                );
            }
        }
        let refused = template(Choice::Rust, "lambda").expect_err("there is none");
        assert!(
            refused
                .to_string()
                .contains("--template: authorizer, chat, echo")
        );
    }
}
