//! The page for operators at night: each command is run as it stands there, against a running gateway.

use std::{fs, path::Path, process::Command};

use lockgate_tests::Gateway;
use serde_json::json;

use crate::LOCKGATE;
use crate::authorizers::{behind_a_door, saying};

/// The commands of the section, each without its prompt.
fn commands() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join("docs/operating.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, section) = page.split_once("\n## Ten questions at night\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    for question in 1..=10 {
        assert!(section.contains(&format!("\n{question}. **")), "{question}");
    }
    let lines = section
        .lines()
        .filter_map(|line| line.trim().strip_prefix("$ "));
    lines.map(str::to_owned).collect()
}

/// Runs a command by a shell, in the folder of the gateway's configuration.
async fn run(gateway: &Gateway, command: &str) {
    let mut shell = Command::new("sh");
    // The shell's own functions stand for the programs.
    let script =
        "lockgate() { \"$PROGRAM\" \"$@\"; }\njournalctl() { cat journal; }\n".to_owned() + command;
    let journal = gateway.folder().join("journal");
    fs::write(journal, gateway.log().lines().join("\n")).unwrap();
    shell.args(["-c", &script]).current_dir(gateway.folder());
    shell.env("PROGRAM", LOCKGATE.command(&[]).get_program());
    let ended = LOCKGATE.end(shell).await;
    assert_eq!(ended.code, Some(0), "{command}: {ended:?}");
    assert_ne!(ended.output, "", "{command}");
}

#[tokio::test]
async fn each_command_of_the_page_answers_at_a_running_gateway() {
    // The names that the page uses.
    let configuration = behind_a_door("", "")
        .replace("[apis.a.", "[apis.chat.")
        .replace(".stages.s]", ".stages.prod]")
        .replace("integration = \"probe\"", "integration = \"chat\"")
        .replace("[plugins.probe]", "[plugins.chat]");
    let gateway = LOCKGATE.serve(&configuration).await;
    let commands = commands();
    assert!(commands.len() >= 14, "{commands:?}");
    for command in commands {
        let target = saying(&json!({"principal": "ada"})).replace("/s?", "/prod?");
        let mut client = gateway.connect(&target).await;
        let id = client.id().await;
        client.step(json!({"do": "join", "group": "lobby"})).await;
        client
            .step(json!({"do": "set", "name": "name", "value": "ada"}))
            .await;
        let command = command.replace("L0SM9cOFvHcCIhw_", &id);
        if command.starts_with("journalctl") {
            gateway.log().line(&["asked for a change"]).await;
        }
        if command.contains(" trace ") {
            // It goes on until the connection ends.
            let ends = async {
                gateway.log().line(&["a trace begins", &id]).await;
                client.close(1000, "").await;
            };
            tokio::join!(run(&gateway, &command), ends);
        } else {
            run(&gateway, &command).await;
        }
    }
}
