//! Pages whose commands run and whose files are built, in order, as a reader follows them.
//!
//! The second word of a fenced block says what a test does with it; a block without one is only read:
//!
//! | block | the test |
//! | --- | --- |
//! | `console run` | runs the lines after `$`, in the folder where the last block ended; the other lines are output, `…` stands for any |
//! | `console fails` | the same, and the last of them fails |
//! | `LANGUAGE file=PATH` | writes the file; while `dev` runs, waits until the new build serves; a configuration (`.toml`) is only written |
//! | `console dev` | starts the `lockgate dev` of the line after `$`, on free ports, until the page's end or the next one |
//! | `text page` | opens the page that `dev` serves in a browser, and waits until it shows these lines in order |
//! | `console talk` | connects to the path of the URL, sends the lines after `>`, and expects those after `<` |

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use lockgate_tests::{Chromium, Gateway, LONG_PATIENCE, Node};
use tempfile::TempDir;

use crate::{
    LOCKGATE,
    project::{self, Outside},
};

pub(crate) async fn lambda_page_runs_as_written() {
    runs_as_written("docs/lambda.md").await;
}

pub(crate) async fn plugins_page_runs_as_written() {
    runs_as_written("docs/plugins.md").await;
}

pub(crate) async fn go_page_runs_as_written() {
    runs_as_written("docs/go.md").await;
}

pub(crate) async fn testing_page_runs_as_written() {
    runs_as_written("docs/testing.md").await;
}

pub(crate) async fn javascript_page_runs_as_written() {
    runs_as_written("docs/javascript.md").await;
}

pub(crate) async fn client_page_runs_as_written() {
    runs_as_written("docs/client.md").await;
}

/// A fenced block of a page.
struct Block {
    /// The page and the line where it begins.
    place: String,
    info: String,
    lines: Vec<String>,
}

/// Does what a page says.
pub(crate) async fn runs_as_written(page: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = fs::read_to_string(root.join(page)).unwrap();
    let name = Path::new(page).file_stem().unwrap().to_str().unwrap();
    let outside = project::outside(&format!("page-{name}"));
    let mut reader = Reader {
        gateway: None,
        here: outside.to_path_buf(),
        outside,
        builds: 0,
    };
    let mut done = 0;
    for block in blocks(page, &text) {
        let words: Vec<_> = block.info.split_whitespace().collect();
        match words.as_slice() {
            [_, "run"] => reader.run(&block, false).await,
            [_, "fails"] => reader.run(&block, true).await,
            [_, "dev"] => reader.dev(&block).await,
            [_, "talk"] => reader.talk(&block).await,
            [_, "page"] => reader.look(&block).await,
            [_, file] if file.starts_with("file=") => reader.save(&file[5..], &block).await,
            [] | [_] => continue,
            _ => panic!(
                "{}: a block is run, fails, dev, talk, page or file=PATH",
                block.place
            ),
        }
        done += 1;
    }
    assert!(done > 0, "{page}: no block is marked");
}

fn blocks(page: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        match (open.as_mut(), line.strip_prefix("```")) {
            (None, Some(info)) => {
                open = Some(Block {
                    place: format!("{page}:{}", number + 1),
                    info: info.to_owned(),
                    lines: Vec::new(),
                });
            }
            (Some(_), Some("")) => blocks.extend(open.take()),
            (Some(block), _) => block.lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{page}: a block has no end");
    blocks
}

impl Block {
    /// The commands of a console.
    fn commands(&self) -> Vec<&str> {
        let lines = self.lines.iter();
        lines.filter_map(|line| line.strip_prefix("$ ")).collect()
    }
}

/// What a reader has at hand.
struct Reader {
    // Dropped before the folder that it watches.
    gateway: Option<Gateway>,
    here: PathBuf,
    outside: Outside,
    /// The builds that the gateway has served since its start.
    builds: usize,
}

impl Reader {
    async fn run(&mut self, block: &Block, fails: bool) {
        let at = self.outside.join("at");
        let commands = block.commands().join("\n");
        let script = format!("set -e\ntrap 'pwd > {}' EXIT\n{commands}", at.display());
        let mut command = Command::new("sh");
        command.args(["-c", &script]).current_dir(&self.here);
        project::as_user(&mut command, &self.outside);
        let ended = LOCKGATE.end_within(LONG_PATIENCE, command).await;
        let said = format!("{}{}", ended.output, ended.error);
        let expected = i32::from(fails);
        assert_eq!(ended.code, Some(expected), "{}: {said}", block.place);
        for line in block.lines.iter().filter(|line| !line.starts_with("$ ")) {
            let parts: Vec<_> = line.trim().split('…').collect();
            let told = said.lines().any(|said| has_in_order(said, &parts));
            assert!(told, "{}: {line:?} is not in {said}", block.place);
        }
        self.here = fs::read_to_string(at).unwrap().trim().into();
    }

    async fn save(&mut self, file: &str, block: &Block) {
        let path = self.here.join(file);
        let text = block.lines.join("\n") + "\n";
        if fs::read_to_string(&path).is_ok_and(|before| before == text) {
            return;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        // No component has a configuration or a test in it.
        let is_built = !file.ends_with(".toml") && !file.contains("test");
        if let (Some(gateway), true) = (&self.gateway, is_built) {
            let serving = ["serving the new build"];
            let log = gateway.log();
            log.nth_line_within(LONG_PATIENCE, self.builds, &serving)
                .await;
            self.builds += 1;
        }
    }

    async fn dev(&mut self, block: &Block) {
        let commands = block.commands();
        let words = commands
            .first()
            .and_then(|command| command.strip_prefix("lockgate dev "))
            .unwrap_or_else(|| panic!("{}: it has no lockgate dev", block.place));
        let words = words.split('#').next().unwrap_or_default();
        let words: Vec<_> = words.split_whitespace().collect();
        let mut command = LOCKGATE.dev(Path::new(words[0]), &words[1..]);
        command.current_dir(&self.here);
        project::as_user(&mut command, &self.outside);
        self.gateway = None;
        let started = Gateway::start(command, TempDir::new().unwrap(), LONG_PATIENCE);
        self.gateway = Some(started.await);
        self.builds = 0;
    }

    async fn look(&mut self, block: &Block) {
        let gateway = self.gateway.as_ref();
        let gateway = gateway.unwrap_or_else(|| panic!("{}: no dev runs", block.place));
        let (node, chromium) = (Node::find(LOCKGATE.target()), Chromium::find());
        let url = format!("https://{}/", gateway.secure());
        let shown = block.lines.join("\n");
        let chromium = chromium.unwrap().path;
        let words = [chromium.to_str().unwrap(), &url, &shown];
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/foreign/node/shown.cjs"
        );
        let said = node.unwrap().run(Path::new(script), &words).await;
        assert!(said.status.success(), "{}: {said:?}", block.place);
    }

    async fn talk(&mut self, block: &Block) {
        let gateway = self.gateway.as_ref();
        let gateway = gateway.unwrap_or_else(|| panic!("{}: no dev runs", block.place));
        let commands = block.commands();
        let path = commands
            .iter()
            .find_map(|command| Some(command.split_once("://")?.1.split_once('/')?.1))
            .unwrap_or_else(|| panic!("{}: it has no URL", block.place));
        let path = path.split_whitespace().next().unwrap_or_default();
        let path = path.trim_matches(['"', '\'']);
        let mut client = gateway.connect(&format!("/{path}")).await;
        for line in &block.lines {
            if let Some(sent) = line.strip_prefix("> ") {
                client.send(sent).await;
            } else if let Some(expected) = line.strip_prefix("< ") {
                let parts: Vec<_> = expected.split('…').collect();
                let came = client.text().await;
                let place = &block.place;
                assert!(
                    has_in_order(&came, &parts),
                    "{place}: {expected}, but {came} came"
                );
            }
        }
    }
}

/// Whether a text has all parts, one after the other.
fn has_in_order(text: &str, parts: &[&str]) -> bool {
    let mut rest = text;
    parts.iter().all(|part| {
        let found = rest.split_once(part);
        found.map(|(_, after)| rest = after).is_some()
    })
}
