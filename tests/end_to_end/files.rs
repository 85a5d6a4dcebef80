//! Files that are read again while the gateway serves: what is no file, and what comes in parts.

use std::{fs, path::Path};

use lockgate_tests::{replace, version};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::LOCKGATE;
use crate::reload::{Served, expect};

/// Puts a FIFO, which nobody writes to, in the place of a file.
fn put_fifo(path: &Path) {
    let next = path.with_extension("fifo");
    mknodat(CWD, &next, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    fs::rename(next, path).unwrap();
}

/// A reload that waits for a writer would keep every later one waiting.
#[tokio::test]
async fn fifo_in_a_files_place_is_refused_and_later_reloads_work() {
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
