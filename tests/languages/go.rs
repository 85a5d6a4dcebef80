//! Projects in Go.

use std::process::Command;

use lockgate_tests::{Gopls, LONG_PATIENCE};

use crate::{
    LOCKGATE,
    project::{self, Language, Project},
};

const GO: Language = Language {
    name: "go",
    source: "main.go",
    answer: [
        "return &message, nil",
        "return lockgate.Text(\"new \" + message.Text()), nil",
    ],
    mistake: ["func f( {", "main.go:1:1: expected 'package'"],
    checks: &[&["go", "vet", "./..."], &["go", "test", "./..."]],
};

pub(crate) async fn saved_change_of_a_new_go_project_is_served() {
    project::is_built_served_and_saved(&GO).await;
}

pub(crate) async fn new_go_authorizer_decides_who_may_connect() {
    project::authorizer_decides_who_may_connect(&GO).await;
}

pub(crate) async fn new_go_chat_serves_its_page_and_its_clients() {
    project::chat_serves_its_page_and_its_clients(&GO).await;
}

/// What an editor shows: the server of the language finds the SDK in the project, and nothing to complain of.
pub(crate) async fn new_go_projects_are_as_their_language_server_wants_them() {
    let gopls = Gopls::find(LOCKGATE.target()).unwrap();
    for template in ["echo", "chat", "authorizer", "lambda"] {
        let project = Project::named(&format!("gopls-{template}"), "go", template).await;
        let check = format!("{} check *.go", gopls.program.display());
        for (mistake, said) in [
            ("", ""),
            ("\nfunc wrong() int { return \"\" }\n", "as int value"),
        ] {
            let main = project.read("main.go");
            project.save("main.go", &format!("{main}{mistake}"));
            let mut command = Command::new("sh");
            command.args(["-c", &check]).current_dir(&project.folder);
            let ended = LOCKGATE.end_within(LONG_PATIENCE, command).await;
            assert_eq!(ended.code, Some(0), "{}", ended.error);
            assert!(ended.output.contains(said), "{}", ended.output);
            assert_eq!(ended.output.is_empty(), said.is_empty(), "{}", ended.output);
        }
    }
}
