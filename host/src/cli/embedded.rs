//! The files that travel in the program: the contract, the SDKs and the templates of new projects. `build.rs` lists them.

/// Each file's path, such as `rust/Cargo.toml`, and its content, by the order of the paths in each folder.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// Gives the files below a folder, such as `wit` or `templates/rust/echo`, by their paths from there.
pub(super) fn files(folder: &str) -> impl Iterator<Item = (&'static str, &'static [u8])> {
    FILES.iter().filter_map(move |(path, content)| {
        let path = path.strip_prefix(folder)?.strip_prefix('/')?;
        Some((path, *content))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_sdk_is_complete_without_what_tools_write() {
        let names: Vec<_> = files("rust").map(|(path, _)| path).collect();
        for expected in ["Cargo.toml", "src/lib.rs", "wit/world.wit"] {
            assert!(names.contains(&expected), "{expected}: {names:?}");
        }
        for (path, _) in FILES {
            let left_out = ["node_modules", "target", ".lockgate"];
            let mut parts = path.split('/');
            assert!(parts.all(|part| !left_out.contains(&part)), "{path}");
        }
        assert_eq!(
            files("wit").filter(|(path, _)| path.contains('/')).count(),
            0
        );
    }
}
