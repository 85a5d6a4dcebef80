//! `lockgate new`: what it makes and what it refuses. The target `languages` builds and serves what it makes.

use std::fs;

use tempfile::TempDir;

use crate::LOCKGATE;

#[tokio::test]
async fn new_project_is_refused_with_the_choices_and_the_remedy() {
    let folder = TempDir::new().unwrap();
    let full = folder.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("file"), "").unwrap();
    for (words, code, said) in [
        (&["new", "hello"][..], 2, "--language <rust|js|ts|go>"),
        (&["new"], 2, "<NAME>"),
        (
            &["new", "hello", "--language", "perl"],
            2,
            "[possible values: rust, js, ts, go]",
        ),
        (
            &["new", "full", "--language", "rust"],
            1,
            "full: the folder is not empty; name a new folder",
        ),
        (
            &["new", "full/file", "--language", "rust"],
            1,
            "full/file: it is a file; name a new folder",
        ),
        (
            &["new", "Hello You", "--language", "rust"],
            1,
            "choose one such as hello-you",
        ),
        (
            &["new", "test", "--language", "rust"],
            1,
            "choose another, such as my-test",
        ),
        (
            &["new", "hello", "--language", "rust", "--template", "lambda"],
            1,
            "there is no template lambda in Rust; choose one with --template: authorizer, chat, echo",
        ),
        (
            &["new", "--sdk", "full"],
            1,
            "full/sdk: there is no SDK that `lockgate new` has laid",
        ),
    ] {
        let ended = LOCKGATE.run_in(folder.path(), words).await;
        assert_eq!(ended.code, Some(code), "{words:?}: {}", ended.error);
        assert!(ended.error.contains(said), "{words:?}: {}", ended.error);
        assert!(ended.output.is_empty(), "{words:?}: {}", ended.output);
    }
    assert!(!folder.path().join("hello").exists());
}

#[tokio::test]
async fn new_project_lies_where_it_is_named_and_goes_by_its_name() {
    let folder = TempDir::new().unwrap();
    let empty = folder.path().join("my-echo");
    fs::create_dir(&empty).unwrap();
    for place in ["my-echo", "deep/in/my-echo"] {
        let words = ["new", place, "--language", "rust"];
        let ended = LOCKGATE.run_in(folder.path(), &words).await;
        assert_eq!(ended.code, Some(0), "{}", ended.error);
        let next = format!("cd {place}\n  lockgate dev .\n");
        assert!(ended.output.contains(&next), "{}", ended.output);
        let project = folder.path().join(place);
        let manifest = fs::read_to_string(project.join("Cargo.toml")).unwrap();
        assert!(manifest.contains("name = \"my-echo\""), "{manifest}");
        for file in [
            ".gitignore",
            "README.md",
            "gateway.toml",
            "src/lib.rs",
            "sdk/Cargo.toml",
        ] {
            assert!(project.join(file).is_file(), "{file}");
        }
    }
}

/// Whoever knows the secret makes tickets: there is none that every project has.
#[tokio::test]
async fn new_authorizer_is_served_with_a_secret_of_its_own_alone() {
    let folder = TempDir::new().unwrap();
    for language in ["rust", "js", "ts", "go"] {
        let words = [
            "new",
            language,
            "--language",
            language,
            "--template",
            "authorizer",
        ];
        let ended = LOCKGATE.run_in(folder.path(), &words).await;
        assert_eq!(ended.code, Some(0), "{}", ended.error);
        let project = folder.path().join(language);
        fs::write(project.join(format!("{language}.wasm")), "").unwrap();
        for (value, is_asked_for) in [("", true), ("export TICKET_SECRET=4711 && ", false)] {
            let before = format!("{value}cd {}", project.display());
            let ended = LOCKGATE
                .run_after(&before, &["validate", "gateway.toml"])
                .await;
            let said =
                "environment.TICKET_SECRET: the environment variable TICKET_SECRET is not set";
            assert_eq!(ended.error.contains(said), is_asked_for, "{}", ended.error);
        }
    }
}

#[tokio::test]
async fn new_project_in_the_folder_where_one_stands_has_its_name() {
    let folder = TempDir::new().unwrap();
    let here = folder.path().join("here");
    fs::create_dir(&here).unwrap();
    let ended = LOCKGATE
        .run_in(&here, &["new", ".", "--language", "rust"])
        .await;
    assert_eq!(ended.code, Some(0), "{}", ended.error);
    assert!(!ended.output.contains("cd "), "{}", ended.output);
    let manifest = fs::read_to_string(here.join("Cargo.toml")).unwrap();
    assert!(manifest.contains("name = \"here\""), "{manifest}");
}

#[tokio::test]
async fn sdk_of_another_version_is_told_and_replaced() {
    let folder = TempDir::new().unwrap();
    let words = ["new", "hello", "--language", "rust"];
    assert_eq!(LOCKGATE.run_in(folder.path(), &words).await.code, Some(0));
    let project = folder.path().join("hello");
    let mark = project.join("sdk/lockgate-sdk.toml");
    let text = fs::read_to_string(&mark).unwrap();
    let digest = text.lines().find(|line| line.starts_with("digest"));
    let other = text
        .replace(digest.unwrap(), "digest = \"sha256:00\"")
        .replace(env!("CARGO_PKG_VERSION"), "0.0.7");
    fs::write(&mark, other).unwrap();

    // Nothing is built here: there are no tools.
    let build = async |told: bool| {
        for words in [&["build", "hello"][..], &["dev", "hello"]] {
            let mut command = LOCKGATE.command(words);
            command.current_dir(folder.path()).env("PATH", "");
            let ended = LOCKGATE.end(command).await;
            assert_eq!(ended.code, Some(1));
            assert!(ended.error.contains("cargo is missing"), "{}", ended.error);
            let said = ended
                .error
                .contains("the SDK is that of another lockgate (0.0.7, ");
            assert_eq!(said, told, "{}", ended.error);
            let remedy = ended.error.contains("`lockgate new --sdk ");
            assert_eq!(remedy, told, "{}", ended.error);
        }
    };
    build(true).await;
    let ended = LOCKGATE
        .run_in(folder.path(), &["new", "--sdk", "hello"])
        .await;
    assert_eq!(ended.code, Some(0), "{}", ended.error);
    build(false).await;
}
