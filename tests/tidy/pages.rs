//! Files and pages that pages and comments name are in the repository.

use std::fs;

use super::{files, root};

/// Readers must be able to open every page that is named: it is in the repository, and only RFCs are cited by section.
#[test]
fn cited_pages_are_in_the_repository() {
    let mut cited = 0;
    for ending in [".rs", ".md", ".toml", ".wit", ".js", ".cjs", ".mjs", ".py"] {
        for path in files(root(), ending) {
            // A corpus is bytes and no prose.
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let is_of_path = |c: char| c.is_alphanumeric() || "._-/".contains(c);
            for page in text.split(|c| !is_of_path(c)) {
                let is_page = page.ends_with(".md") && page.len() > 3 && !page.starts_with('/');
                if is_page {
                    let beside = path.parent().unwrap().join(page);
                    assert!(
                        beside.exists() || root().join(page).exists(),
                        "{}: there is no {page}",
                        path.display()
                    );
                    cited += 1;
                }
            }
            for line in text.lines().filter(|line| line.contains('\u{a7}')) {
                assert!(
                    line.contains("RFC"),
                    "{}: of which page? {line}",
                    path.display()
                );
            }
        }
    }
    assert!(cited > 30, "{cited}");
}

/// Files and folders that a page names from the top, and modules that the gateway's own page names from `src`.
#[test]
fn files_that_pages_name_are_in_the_repository() {
    let is_of_path = |c: char| c.is_alphanumeric() || "._-/".contains(c);
    let mut named = 0;
    for page in files(root(), ".md") {
        let text = fs::read_to_string(&page).unwrap();
        // The first line of a block names a file of the reader's own.
        let lines = text.lines().filter(|line| !line.starts_with("```"));
        for path in lines.flat_map(|line| line.split(|c| !is_of_path(c))) {
            if ["host/", "tests/", "guest-sdk/"]
                .iter()
                .any(|top| path.starts_with(top))
            {
                let path = path.trim_end_matches('.');
                assert!(
                    root().join(path).exists(),
                    "{}: there is no {path}",
                    page.display()
                );
                named += 1;
            }
        }
    }
    let text = fs::read_to_string(root().join("host/README.md")).unwrap();
    let sources = root().join("host/src");
    for name in text.split('`').skip(1).step_by(2) {
        let is_module = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_/".contains(c);
        if !name.starts_with('/') && name.contains('/') && name.chars().all(is_module) {
            let places = [
                sources.join(format!("{name}.rs")),
                sources.join(name),
                root().join(name),
            ];
            assert!(
                places.iter().any(|place| place.exists()),
                "host/README.md: there is no {name}"
            );
            named += 1;
        }
    }
    assert!(named > 50, "{named}");
}

/// A row of a table whose last column is `test` names the tests that hold it, unless it is about what is not there yet.
#[test]
fn tests_that_a_page_names_are_in_the_repository() {
    let mut named = 0;
    for page in files(&root().join("docs"), ".md") {
        let text = fs::read_to_string(&page).unwrap();
        let mut in_table = false;
        for line in text.lines() {
            let is_row = line.starts_with('|');
            in_table = is_row && (in_table || line.ends_with("| test |"));
            let cell = line
                .trim_end_matches(['|', ' '])
                .rsplit('|')
                .next()
                .unwrap()
                .trim();
            let is_head = cell == "test" || cell.starts_with("---");
            if !in_table || is_head || (cell == "\u{2013}" && line.contains(" yet ")) {
                continue;
            }
            let tests: Vec<_> = cell.split('`').skip(1).step_by(2).collect();
            assert!(!tests.is_empty(), "{}: no test: {line}", page.display());
            for test in tests {
                assert!(
                    has_test(test),
                    "{}: there is no test {test}",
                    page.display()
                );
                named += 1;
            }
        }
    }
    assert!(named > 80, "{named}");
}

/// Whether there is a test of this name, after its module.
fn has_test(path: &str) -> bool {
    let Some((module, name)) = path.rsplit_once("::") else {
        return false;
    };
    let places = ["tests/end_to_end", "tests/foreign", "host/src"].map(|top| root().join(top));
    places.iter().any(|top| {
        let text = fs::read_to_string(top.join(format!("{module}.rs"))).unwrap_or_default();
        text.contains(&format!("fn {name}("))
    })
}

/// A test that a page shows is one of the example's own, which runs.
#[test]
fn test_that_a_page_shows_is_in_the_example() {
    let lines = |text: &str| {
        let lines = text.lines().map(str::trim).collect::<Vec<_>>();
        lines.join("\n")
    };
    let page = fs::read_to_string(root().join("docs/plugins.md")).unwrap();
    let example = lines(&fs::read_to_string(root().join("plugins/chat/src/lib.rs")).unwrap());
    let blocks = page.split("```rust\n").skip(1);
    let blocks = blocks.map(|block| lines(block.split("```").next().unwrap()));
    let tests: Vec<_> = blocks
        .filter(|block| block.starts_with("#[test]"))
        .collect();
    assert!(!tests.is_empty());
    for test in tests {
        assert!(example.contains(test.trim()), "{test}");
    }
}
