//! The audit file: a line of JSON for each change that operators ask for. Each line has the digest of the line before, so
//! that a line which is changed, or taken out, is found.
//!
//! Nothing of the file is kept in memory: two processes write to it during an upgrade, and it may be renamed at any time.
//! Whoever can write the file can also make the whole chain anew. The log has each line's digest, which shows that.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::net::{keep_room, lock_opened, open_to_add};

/// The most bytes of a line with its end.
const MAX_LINE: u64 = 32 << 10;

/// The most bytes of a line that is written: two texts of it have 512 bytes at most, each of which may be written with six.
const ROOM: u64 = 8 << 10;

/// The lines for which this process has room on the disk, and which are not written yet.
static AWAITED: AtomicU64 = AtomicU64::new(0);

/// A change, as its line has it.
#[derive(Debug, Serialize)]
pub(super) struct Entry<'a> {
    /// The time by RFC 3339, in UTC.
    pub(super) at: String,
    pub(super) by: Option<&'a str>,
    pub(super) from: &'a str,
    pub(super) action: &'a str,
    /// None as long as the change is not made.
    pub(super) status: Option<u16>,
    pub(super) done: Option<&'a str>,
}

#[derive(Serialize)]
struct Line<'a> {
    previous: Option<String>,
    #[serde(flatten)]
    entry: &'a Entry<'a>,
}

/// The right to make a change: there is room on the disk for its line.
#[derive(Debug)]
pub(super) struct Room(());

impl Drop for Room {
    fn drop(&mut self) {
        AWAITED.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Opens the file, or makes it. Fails if it cannot be written, or if others than its owner may write it.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let file = open_to_add(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "others may write it (mode {mode:04o}): chmod go-w {}",
                path.display()
            ),
        ));
    }
    Ok(file)
}

/// Takes room on the disk for the line of a change, so that a change for which there can be no line is not made. A file
/// system that keeps no room gets a line of the change before it is made.
pub(super) fn make_room(path: &Path, change: &Entry<'_>) -> io::Result<Room> {
    let mut file = open(path)?;
    lock_opened(&file)?;
    let before = last_line(&mut file)?;
    let awaited = AWAITED.fetch_add(1, Ordering::Relaxed) + 1;
    let room = Room(());
    match keep_room(&file, awaited * ROOM)? {
        true => Ok(room),
        false => add(&mut file, before, change).map(|_| room),
    }
}

/// Adds a line, and waits until it is on the disk. Gives the line's digest.
pub(super) fn append(path: &Path, entry: &Entry<'_>) -> io::Result<String> {
    let mut file = open(path)?;
    lock_opened(&file)?;
    let before = last_line(&mut file)?;
    add(&mut file, before, entry)
}

fn add(file: &mut File, before: Option<Vec<u8>>, entry: &Entry<'_>) -> io::Result<String> {
    let previous = before.map(|line| hash(&line));
    let line = serde_json::to_string(&Line { previous, entry })?;
    file.write_all(format!("{line}\n").as_bytes())?;
    file.sync_data()?;
    Ok(hash(line.as_bytes()))
}

/// The last line without its end; none of an empty file. Cuts off the beginning of a line that a crash has left: its change
/// was never answered.
fn last_line(file: &mut File) -> io::Result<Option<Vec<u8>>> {
    let length = file.metadata()?.len();
    let begin = length.saturating_sub(2 * MAX_LINE);
    file.seek(SeekFrom::Start(begin))?;
    let mut tail = Vec::new();
    io::Read::take(&mut *file, 2 * MAX_LINE).read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n');
    let whole = whole.map_or(0, |end| end + 1);
    if whole == 0 && begin > 0 {
        return Err(io::Error::other("it has no lines of an audit file"));
    }
    if whole < tail.len() {
        file.set_len(begin + whole as u64)?;
    }
    tail.truncate(whole);
    tail.pop();
    if whole == 0 {
        return Ok(None);
    }
    let before = tail.iter().rposition(|byte| *byte == b'\n');
    Ok(Some(tail.split_off(before.map_or(0, |end| end + 1))))
}

/// The digest of a line without its end: SHA-256, in hexadecimal.
fn hash(line: &[u8]) -> String {
    let hash = digest(&SHA256, line);
    hash.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// What is known of a file whose lines follow from one another.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) lines: u64,
    /// The digest of the last line; none of an empty file.
    pub(crate) last: Option<String>,
}

/// The first fault of an audit file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("cannot read it: {0}")]
    Unreadable(#[from] io::Error),
    #[error("line {0} is no line of an audit file, or was changed")]
    NoLine(u64),
    #[error("line {0} is cut short")]
    Cut(u64),
    #[error("the first line follows another one: lines are missing in front of it")]
    NoBeginning,
    #[error("line {0} does not follow line {before}: line {before} was changed, or lines between them are missing", before = .0 - 1)]
    Apart(u64),
    #[error("no line has the digest {0}: that line was changed, or is missing at the end")]
    Missing(String),
}

/// Verifies that each line has the digest of the line before, and that there is a line with each of these digests.
pub(crate) fn verify(path: &Path, digests: &[String]) -> Result<Verified, Broken> {
    #[derive(Deserialize)]
    struct Link {
        previous: Option<String>,
    }
    let mut reader = BufReader::new(File::open(path)?);
    let mut missing: Vec<_> = digests.iter().collect();
    let mut verified = Verified {
        lines: 0,
        last: None,
    };
    loop {
        let mut line = Vec::new();
        reader
            .by_ref()
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)?;
        let number = verified.lines + 1;
        match line.pop() {
            None => break,
            Some(b'\n') => {}
            Some(_) if (line.len() as u64) < MAX_LINE - 1 => return Err(Broken::Cut(number)),
            Some(_) => return Err(Broken::NoLine(number)),
        }
        let link: Link = serde_json::from_slice(&line).map_err(|_| Broken::NoLine(number))?;
        if link.previous != verified.last {
            return Err(match verified.lines {
                0 => Broken::NoBeginning,
                _ => Broken::Apart(number),
            });
        }
        let hash = hash(&line);
        missing.retain(|digest| !digest.eq_ignore_ascii_case(&hash));
        verified = Verified {
            lines: number,
            last: Some(hash),
        };
    }
    match missing.first() {
        Some(digest) => Err(Broken::Missing((*digest).clone())),
        None => Ok(verified),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn entry(action: &str) -> Entry<'_> {
        Entry {
            at: "2026-11-26T11:00:00Z".to_owned(),
            by: Some("management.tokens[0]"),
            from: "127.0.0.1:1",
            action,
            status: Some(200),
            done: None,
        }
    }

    /// A folder with a file of three lines, and their digests.
    fn three() -> (tempfile::TempDir, std::path::PathBuf, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let actions = ["POST /a", "POST /b", "POST /c"];
        let digests = actions.map(|action| append(&path, &entry(action)).unwrap());
        (folder, path, digests.to_vec())
    }

    #[test]
    fn lines_follow_from_one_another() {
        let (_folder, path, digests) = three();
        let verified = verify(&path, &digests).unwrap();
        assert_eq!(
            (verified.lines, verified.last.as_ref()),
            (3, digests.last())
        );
        fs::write(&path, "").unwrap();
        assert_eq!(verify(&path, &[]).unwrap().lines, 0);
    }

    #[test]
    fn every_edit_of_one_byte_is_found() {
        let (_folder, path, digests) = three();
        let written = fs::read(&path).unwrap();
        for place in 0..written.len() {
            for bit in [1, 0x20, 0x80] {
                let mut edited = written.clone();
                edited[place] ^= bit;
                fs::write(&path, &edited).unwrap();
                // Only the log knows the last line.
                assert!(verify(&path, &digests).is_err(), "{place}");
            }
        }
    }

    #[test]
    fn missing_lines_are_found() {
        let (_folder, path, digests) = three();
        let written = fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = written.lines().collect();
        let without = |gone: usize| {
            let mut lines = lines.clone();
            lines.remove(gone);
            fs::write(&path, lines.join("\n") + "\n").unwrap();
            verify(&path, &digests[2..]).unwrap_err()
        };
        assert!(matches!(without(0), Broken::NoBeginning));
        assert!(matches!(without(1), Broken::Apart(2)));
        assert!(matches!(without(2), Broken::Missing(_)));
        fs::write(&path, written.trim_end()).unwrap();
        assert!(matches!(verify(&path, &[]), Err(Broken::Cut(3))));
    }

    #[test]
    fn beginning_of_a_line_that_a_crash_has_left_is_cut_off() {
        let (_folder, path, _) = three();
        for torn in ["{\"previous\":\"", "x"] {
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(torn.as_bytes()).unwrap();
            append(&path, &entry("POST /d")).unwrap();
        }
        assert_eq!(verify(&path, &[]).unwrap().lines, 5);
        fs::write(&path, "torn").unwrap();
        append(&path, &entry("POST /a")).unwrap();
        assert_eq!(verify(&path, &[]).unwrap().lines, 1);
    }

    #[test]
    fn room_of_a_line_is_taken_before_its_change() {
        let (_folder, path, _) = three();
        let length = || fs::metadata(&path).unwrap().len();
        let allocated = || fs::metadata(&path).unwrap().blocks() * 512;
        let before = length();
        let rooms = [(); 2].map(|()| make_room(&path, &entry("POST /d")).unwrap());
        // A file system that keeps no room has a line instead.
        assert!(length() > before || allocated() >= before + 2 * ROOM);
        drop(rooms);
        append(&path, &entry("POST /d")).unwrap();
        assert!(verify(&path, &[]).unwrap().lines >= 4);
    }

    #[test]
    fn longest_line_has_room() {
        let worst = "\u{1}".repeat(512);
        let longest = Entry {
            from: &"f".repeat(60),
            done: Some(&worst),
            ..entry(&worst)
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        for _ in 0..2 {
            append(&path, &longest).unwrap();
        }
        assert!(fs::metadata(&path).unwrap().len() <= 2 * ROOM);
    }

    #[test]
    fn file_that_others_may_write_is_refused() {
        let (_folder, path, _) = three();
        for (mode, is_right) in [(0o666, false), (0o620, false), (0o644, true), (0o600, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let opened = open(&path);
            assert_eq!(opened.is_ok(), is_right, "{mode:o}");
            if let Err(error) = opened {
                assert!(error.to_string().contains("chmod go-w"), "{error}");
            }
        }
    }

    #[test]
    fn file_of_another_kind_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("long");
        fs::write(&long, vec![b'x'; 3 * MAX_LINE as usize]).unwrap();
        assert!(append(&long, &entry("POST /a")).is_err());
        assert!(matches!(verify(&long, &[]), Err(Broken::NoLine(1))));
        assert!(open(folder.path()).is_err());
    }

    #[test]
    fn lines_of_two_writers_at_once_are_one_chain() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..8 {
                        append(&path, &entry("POST /a")).unwrap();
                    }
                });
            }
        });
        assert_eq!(verify(&path, &[]).unwrap().lines, 32);
    }
}
