//! The conformance of each SDK: its echo, its chat and its conformance plugin pass the same dialogues. So do the echoes in
//! languages without an SDK.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use lockgate_tests::{CommandResult, LONG_PATIENCE, OtherLanguages};

use crate::{
    LOCKGATE,
    project::{as_user, outside},
};

/// The folder of the dialogues, from the top.
const DIALOGUES: &str = "tests/conformance/sdk";

pub(crate) async fn rust_sdk_passes_every_dialogue() {
    passes("echo", "chat", "rust").await;
}

pub(crate) async fn typescript_sdk_passes_every_dialogue() {
    passes("echo-ts", "chat-ts", "ts").await;
}

pub(crate) async fn go_sdk_passes_every_dialogue() {
    passes("echo-go", "chat-go", "go").await;
}

/// Runs the dialogues against an echo, a chat, and the conformance plugin of a language.
async fn passes(echo: &str, chat: &str, language: &str) {
    let gateway = format!("{DIALOGUES}/gateway.toml");
    for (plugin, dialogues) in [
        (format!("plugins/{echo}"), "echo"),
        (format!("plugins/{chat}"), "chat"),
        (gateway, "plugin"),
    ] {
        let dialogues = format!("{DIALOGUES}/{dialogues}");
        let mut command = LOCKGATE.command(&["test", &plugin, &dialogues]);
        command.env("LOCKGATE_SDK_PLUGIN", language);
        as_user(&mut command, &root());
        ends(command, &root()).await;
    }
}

pub(crate) async fn echo_in_python_passes_every_dialogue() {
    follows_its_page("echo-python").await;
}

pub(crate) async fn echo_in_c_passes_every_dialogue() {
    follows_its_page("echo-c").await;
}

/// Runs the commands of a plugin's page, but for the first, which installs its tools, and the dialogues of an echo.
async fn follows_its_page(plugin: &str) {
    let tools = OtherLanguages::find(LOCKGATE.target()).unwrap();
    let folder = root().join("plugins").join(plugin);
    let outside = outside(plugin);
    std::os::unix::fs::symlink(tools.bin.parent().unwrap(), outside.join(".venv")).unwrap();
    for file in fs::read_dir(&folder).unwrap() {
        let file = file.unwrap();
        if !file.file_name().to_string_lossy().starts_with('.') {
            // A copy: a tool shows its program this folder alone.
            let mut copy = Command::new("cp");
            copy.arg("-R").arg(file.path()).arg(&*outside);
            assert!(copy.status().unwrap().success());
        }
    }
    let page = fs::read_to_string(folder.join("README.md")).unwrap();
    let commands: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("$ "))
        .collect();
    let [install, commands @ ..] = commands.as_slice() else {
        panic!("{plugin} has no commands")
    };
    assert!(install.contains("pip install"), "{install}");
    for words in commands {
        let words = words.replace("../../", &format!("{}/", root().display()));
        let mut command = Command::new("sh");
        command.args(["-c", &words]);
        as_user(&mut command, &outside);
        ends(command, &outside).await;
    }
}

async fn ends(mut command: Command, folder: &Path) {
    command.current_dir(folder);
    let CommandResult {
        code,
        output,
        error,
    } = LOCKGATE.end_within(LONG_PATIENCE, command).await;
    assert_eq!(code, Some(0), "{output}{error}");
}

fn root() -> PathBuf {
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    host.parent().unwrap().to_owned()
}
