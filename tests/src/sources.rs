//! Copies of a plugin's sources, for tests that change or build them.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// A copy of `plugins/NAME` in `folder` that builds on its own. Unchanged sources are not built again, and dependencies
/// are shared with the other guests.
#[must_use]
pub fn copy_of_plugin(name: &str, folder: &Path, target: &Path) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let package = folder.file_name().unwrap().to_str().unwrap();
    copy(&root.join("plugins").join(name), folder, &|text| {
        // Another name, so that its component is not mistaken for the plugin's own.
        text.replace(
            &format!("name = \"{name}\""),
            &format!("name = \"{package}\""),
        )
        .replace("../../guest-sdk", root.join("guest-sdk").to_str().unwrap())
    });
    write(
        &folder.join("rust-toolchain.toml"),
        &fs::read(root.join("rust-toolchain.toml")).unwrap(),
    );
    let (shared, link) = (target.join("guests"), folder.join("target"));
    // A folder that is kept may have the link of a target folder that was moved since.
    if fs::read_link(&link).ok().as_ref() != Some(&shared) {
        let _ = fs::remove_file(&link);
        symlink(shared, link).unwrap();
    }
    folder.to_owned()
}

/// Makes the handler of a copy of `echo` put `word` before each answer.
pub fn answer_with(folder: &Path, word: &str) {
    let source = r#"use lockgate_plugin::{Event, Handler, Message, Result};

struct Echo;

impl Handler for Echo {
    fn message(_: Event, message: Message) -> Result<Option<Message>> {
        let text = message.as_text().unwrap_or_default();
        Ok(Some(format!("WORD {}", text).into()))
    }
}

lockgate_plugin::export!(Echo);
"#;
    fs::write(folder.join("src/lib.rs"), source.replace("WORD", word)).unwrap();
}

/// Copies files and folders except for `target`; `adapt` rewrites the manifests.
fn copy(from: &Path, to: &Path, adapt: &dyn Fn(&str) -> String) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        let copied = to.join(name);
        if path.is_dir() {
            if name != "target" {
                copy(&path, &copied, adapt);
            }
        } else if name == "Cargo.toml" || name == "Cargo.lock" {
            write(
                &copied,
                adapt(&fs::read_to_string(&path).unwrap()).as_bytes(),
            );
        } else {
            write(&copied, &fs::read(&path).unwrap());
        }
    }
}

/// Writes a file unless it has this content: cargo decides by its time whether to build.
fn write(path: &Path, content: &[u8]) {
    if fs::read(path).ok().as_deref() != Some(content) {
        fs::write(path, content).unwrap();
    }
}
