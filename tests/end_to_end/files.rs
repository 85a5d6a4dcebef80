//! Files that are read again while the gateway serves: special files, and files that are written in parts.

use std::{fs, path::Path};

use lockgate_tests::{replace, version};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::LOCKGATE;
use crate::reload::{Served, expect};

/// Replaces a file by a FIFO without a writer.
fn put_fifo(path: &Path) {
    let next = path.with_extension("fifo");
    mknodat(CWD, &next, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    fs::rename(next, path).unwrap();
}

/// A reload that waits for a writer would block every later one.
#[tokio::test]
async fn fifo_in_place_of_a_file_is_refused_and_later_reloads_work() {
    let served = Served::new().await;
    let folder = served.component.parent().unwrap();
    let mut client = served.connect().await;

    put_fifo(&served.component);
    let line = [
        "changed file",
        "cannot be read: it is a FIFO and not a file",
    ];
    served.gateway.log().line(&line).await;
    let said = served.refused().await;
    assert!(said.contains("is a FIFO and not a file"), "{said}");
    replace(&served.component, &version(2, '-'));
    served.reload().await;
    expect(&mut client, 2).await;

    let configuration = fs::read(served.file()).unwrap();
    put_fifo(&served.file());
    let said = served.refused().await;
    assert!(said.contains("cannot be read: it is a FIFO"), "{said}");
    fs::remove_file(served.file()).unwrap();
    fs::write(served.file(), &configuration).unwrap();
    served.reload().await;

    let made = LOCKGATE.run_in(folder, &["keys", "new", "k.pem"]).await;
    assert_eq!(made.code, Some(0), "{}", made.error);
    put_fifo(&folder.join("versions.wasm.sig"));
    let key = folder.join("k.pub.pem");
    let signature = format!("[plugins.v]\nsignature = {{ keys = [{key:?}] }}");
    served.edit("[plugins.v]", &signature);
    let said = served.refused().await;
    assert!(said.contains("cannot be read: it is a FIFO"), "{said}");
    fs::remove_file(folder.join("versions.wasm.sig")).unwrap();
    let said = served.refused().await;
    assert!(said.contains("it is not signed"), "{said}");
    expect(&mut client, 2).await;
}

/// The documentation says to write the signature first. Until the component follows, it matches nothing.
#[tokio::test]
async fn signature_that_comes_first_waits_for_its_component() {
    let served = Served::new().await;
    let folder = served.component.parent().unwrap();
    let made = LOCKGATE.run_in(folder, &["keys", "new", "k.pem"]).await;
    assert_eq!(made.code, Some(0), "{}", made.error);
    let sign = async |number: u32| {
        fs::write(folder.join("next.wasm"), version(number, '-')).unwrap();
        let signed = number.to_string();
        let words = ["sign", "next.wasm", "--key", "k.pem", "--version", &signed];
        let ended = LOCKGATE.run_in(folder, &words).await;
        assert_eq!(ended.code, Some(0), "{}", ended.error);
        fs::rename(
            folder.join("next.wasm.sig"),
            folder.join("versions.wasm.sig"),
        )
        .unwrap();
    };
    let key = folder.join("k.pub.pem");
    let signature = format!("[plugins.v]\nsignature = {{ keys = [{key:?}] }}");
    served.edit("[plugins.v]", &signature);
    sign(1).await;
    served.reload().await;
    let mut client = served.connect().await;
    expect(&mut client, 1).await;

    // The watcher finds it.
    sign(2).await;
    let log = served.gateway.log();
    log.line(&["plugin v: waiting for the other file of the pair"])
        .await;
    replace(&served.component, &version(2, '-'));
    log.line(&["changed file", "version 3 serves"]).await;
    expect(&mut client, 2).await;

    // A reload by command comes in between, and waits too.
    sign(3).await;
    let (said, ()) = tokio::join!(served.reload(), async {
        log.nth_line(1, &["waiting for the other file of the pair"])
            .await;
        replace(&served.component, &version(3, '-'));
    });
    assert!(said.contains("serves") || said.contains("[]"), "{said}");
    log.line(&["version 4 serves"]).await;
    expect(&mut client, 3).await;
    let lines = log.lines();
    for refused in ["do not run it before", "not reloaded"] {
        assert!(!lines.iter().any(|line| line.contains(refused)));
    }
}
