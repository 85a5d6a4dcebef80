//! What generators make of the contract: a name that is a keyword somewhere would break it.
//!
//! Those of Rust, JavaScript and Python are in every build of a plugin in these languages. Here are those of C and Go, by
//! `bindings/`, a program of its own.

use std::{fs, path::Path, process::Command};

use lockgate_tests::LONG_PATIENCE;

use crate::{LOCKGATE, project::outside};

/// The committed bindings, which `conformance::echo_in_c_passes_every_dialogue` compiles.
const COMMITTED: &str = "plugins/echo-c/bindings";

pub(crate) async fn generated_bindings_are_those_of_echo_in_c_and_parse_in_go() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let outside = outside("bindings");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--locked", "--quiet", "--manifest-path"])
        .arg(root.join("tests/languages/bindings/Cargo.toml"))
        .arg("--target-dir")
        .arg(LOCKGATE.target().join("bindings"));
    end(cargo).await;
    let generator = LOCKGATE.target().join("bindings/debug/lockgate-bindings");
    for language in ["c", "go"] {
        for world in ["handler-plugin", "authorizer-plugin"] {
            let mut command = Command::new(&generator);
            command
                .args([
                    language.as_ref(),
                    root.join("wit").as_os_str(),
                    world.as_ref(),
                ])
                .arg(outside.join(language).join(world));
            end(command).await;
        }
    }

    let mut compared = 0;
    for file in fs::read_dir(outside.join("c/handler-plugin")).unwrap() {
        let file = file.unwrap();
        let committed = root.join(COMMITTED).join(file.file_name());
        assert!(
            code(&file.path()) == code(&committed),
            "{} is not what wit-bindgen makes of wit/; copy {} there",
            committed.display(),
            file.path().display()
        );
        compared += 1;
    }
    assert_eq!(
        compared,
        fs::read_dir(root.join(COMMITTED)).unwrap().count()
    );

    // Their runtime is a module that not every proxy has: they are parsed and not compiled.
    let mut gofmt = Command::new("gofmt");
    gofmt.arg("-e").arg("-l").arg(outside.join("go"));
    assert_eq!(
        end(gofmt).await,
        "",
        "files that are not as gofmt writes them"
    );
}

/// A file without its comments, which say what those of the contract say.
fn code(file: &Path) -> Vec<u8> {
    let bytes = fs::read(file).unwrap();
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let code = lines.filter(|line| !line.trim_ascii_start().starts_with(b"//"));
    code.flatten().copied().collect()
}

async fn end(command: Command) -> String {
    let ended = LOCKGATE.end_within(LONG_PATIENCE, command).await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.output, ended.error);
    ended.output
}
