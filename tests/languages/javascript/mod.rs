//! Projects in JavaScript and TypeScript.

pub(crate) mod behaviour;
pub(crate) mod million;

use std::fs;

use crate::project::{self, Language, Project};

const ANSWER: [&str; 2] = ["return message;", "return `new ${message}`;"];

const MISTAKE: [&str; 2] = ["function f( {", "[ERROR]"];

/// The compiler, which a project in JavaScript does not have.
const COMPILER: &str = "--package=typescript@7.0.2";

const JAVASCRIPT: Language = Language {
    name: "js",
    source: "src/plugin.js",
    answer: ANSWER,
    mistake: MISTAKE,
    checks: &[
        &["npm", "test"],
        // What an editor checks.
        &["npx", "--yes", COMPILER, "tsc", "-p", "jsconfig.json"],
        &["npx", "--yes", COMPILER, "tsc", "-p", "tests/jsconfig.json"],
    ],
};

const TYPESCRIPT: Language = Language {
    name: "ts",
    source: "src/plugin.ts",
    answer: ANSWER,
    mistake: MISTAKE,
    checks: &[&["npm", "run", "check"], &["npm", "test"]],
};

pub(crate) async fn saved_change_of_a_new_javascript_project_is_served() {
    project::is_built_served_and_saved(&JAVASCRIPT).await;
}

pub(crate) async fn saved_change_of_a_new_typescript_project_is_served() {
    project::is_built_served_and_saved(&TYPESCRIPT).await;
}

pub(crate) async fn new_javascript_chat_serves_its_page_and_its_clients() {
    project::chat_serves_its_page_and_its_clients(&JAVASCRIPT).await;
}

pub(crate) async fn new_typescript_chat_serves_its_page_and_its_clients() {
    project::chat_serves_its_page_and_its_clients(&TYPESCRIPT).await;
}

pub(crate) async fn new_javascript_authorizer_decides_who_may_connect() {
    project::authorizer_decides_who_may_connect(&JAVASCRIPT).await;
}

pub(crate) async fn new_typescript_authorizer_decides_who_may_connect() {
    project::authorizer_decides_who_may_connect(&TYPESCRIPT).await;
}

/// `lockgate dev` builds each save, and its author may build beside it.
pub(crate) async fn builds_of_one_folder_at_the_same_moment_do_not_disturb_each_other() {
    let project = Project::named("js-beside", "js", "echo").await;
    let build = async || {
        let built = project.lockgate(&["build", "."]).await;
        assert_eq!(built.code, Some(0), "{}", built.error);
    };
    // Alone, since npm installs the packages.
    build().await;
    // It stands for the half-written file of another build, whatever that calls it.
    let written = project.folder.join("dist/plugin.wasm.new");
    fs::create_dir(&written).unwrap();
    tokio::join!(build(), build(), build(), build());
    fs::remove_dir(&written).unwrap();
    let files = fs::read_dir(project.folder.join("dist")).unwrap();
    let names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names, ["plugin.wasm"]);
}
