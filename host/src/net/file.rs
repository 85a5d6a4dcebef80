//! Files that are read by others while they are replaced.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Writes a file whole or not at all: a temporary file beside it takes its place. The umask decides who may read it.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let mut unfinished = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    unfinished.write_all(content)?;
    unfinished.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let (path, usual) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&usual, "").expect("it can be written");
        for content in ["first", "second"] {
            write_whole(&path, content.as_bytes()).expect("it can be written");
            assert_eq!(fs::read_to_string(&path).expect("it is there"), content);
        }
        let mode = |path| fs::metadata(path).expect("it is there").permissions();
        assert_eq!(mode(&path), mode(&usual));
        assert_eq!(fs::read_dir(&folder).expect("it is there").count(), 2);
        let nowhere = folder.path().join("none").join("a");
        assert!(write_whole(&nowhere, b"").is_err());
    }
}
