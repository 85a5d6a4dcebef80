//! Projects in Go.

use crate::project::{self, Language};

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

pub(crate) async fn new_go_chat_serves_its_page_and_its_clients() {
    project::chat_serves_its_page_and_its_clients(&GO).await;
}
