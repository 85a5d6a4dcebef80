//! Projects in Rust.

use crate::project::{self, Language};

const RUST: Language = Language {
    name: "rust",
    source: "src/lib.rs",
    answer: [
        "Ok(Some(message))",
        "Ok(Some(format!(\"new {}\", message.as_text().unwrap_or_default()).into()))",
    ],
    mistake: ["fn f( {", "error: "],
    checks: &[&["cargo", "test"], &["cargo", "fmt", "--check"]],
};

pub(crate) async fn saved_change_of_a_new_project_is_served() {
    project::is_built_served_and_saved(&RUST).await;
}

pub(crate) async fn new_authorizer_decides_who_may_connect() {
    project::authorizer_decides_who_may_connect(&RUST).await;
}

pub(crate) async fn new_chat_serves_its_page_and_its_clients() {
    project::chat_serves_its_page_and_its_clients(&RUST).await;
}
