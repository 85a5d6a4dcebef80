//! The time from an author's save to the answer of the new build, under `lockgate dev`.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::Bench;
use crate::measure::Round;
use crate::raw::Raw;
use crate::report::{Row, Target};
use crate::server::Server;

/// The limit in milliseconds, for the languages that have one.
const MOST: f64 = 3_000.0;

/// The interval of asking. Each millisecond would be a load of its own.
const PAUSE: Duration = Duration::from_millis(10);

/// The deadline for a save to be served.
const PATIENCE: Duration = Duration::from_secs(120);

/// The toolchain of this repository: Rust has no other one on some machines.
const TOOLCHAIN: &str = "rust-toolchain.toml";

/// A project of `lockgate new`, and the handler that its author saves: it answers each message with its version.
struct Project {
    name: &'static str,
    /// The words of `--language` and `--template`.
    language: &'static str,
    template: &'static str,
    file: &'static str,
    /// The content of the file, with `VERSION` in place of the version.
    handler: &'static str,
    target: Option<Target>,
}

const PROJECTS: [Project; 4] = [
    Project {
        name: "Rust",
        language: "rust",
        template: "echo",
        file: "src/lib.rs",
        handler: r#"
            use lockgate_plugin::{Event, Handler, Message, Result};
            struct Plugin;
            impl Handler for Plugin {
                fn message(_: Event, _: Message) -> Result<Option<Message>> {
                    Ok(Some("version VERSION".into()))
                }
            }
            lockgate_plugin::export!(Plugin);
        "#,
        target: None,
    },
    Project {
        name: "Go",
        language: "go",
        template: "echo",
        file: "main.go",
        handler: r#"
            package main
            import (
                "context"
                lockgate "github.com/lockgate/lockgate/guest-sdk/go"
            )
            type plugin struct{ lockgate.Defaults }
            func (plugin) Message(context.Context, lockgate.Event, lockgate.Message) (*lockgate.Message, error) {
                return lockgate.Text("version VERSION"), nil
            }
            func main() { lockgate.Handle(plugin{}) }
        "#,
        target: Some(Target::AtMost(MOST)),
    },
    Project {
        name: "TypeScript",
        language: "ts",
        template: "echo",
        file: "src/plugin.ts",
        handler: r#"
            import { define } from "@lockgate/sdk";
            export default define({ message: () => "version VERSION" });
        "#,
        target: Some(Target::AtMost(MOST)),
    },
    Project {
        name: "a handler for Lambda",
        language: "ts",
        template: "lambda",
        file: "src/default.ts",
        handler: r#"
            import type { APIGatewayProxyResult } from "aws-lambda";
            export async function handler(): Promise<APIGatewayProxyResult> {
                return { statusCode: 200, body: "version VERSION" };
            }
        "#,
        target: None,
    },
];

pub(crate) async fn saves(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for project in &PROJECTS {
        let saved = project.saved(bench).await;
        let failed = |error| Row::failed(project.name.to_owned(), &error);
        rows.push(saved.unwrap_or_else(failed));
    }
    Ok(rows)
}

impl Project {
    /// Makes the project, builds it, and saves it a few times.
    async fn saved(&self, bench: &Bench) -> Result<Row> {
        let all = bench.lockgate.file("projects");
        let folder = all.join(format!("{}-{}", self.language, self.template));
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        fs::create_dir_all(&all).with_context(|| all.display().to_string())?;
        let toolchain = concat!(env!("CARGO_MANIFEST_DIR"), "/../../rust-toolchain.toml");
        fs::copy(toolchain, all.join(TOOLCHAIN)).context(TOOLCHAIN)?;
        let new = [
            "new",
            "--language",
            self.language,
            "--template",
            self.template,
        ];
        let mut new = bench.lockgate.command(&new)?;
        let made = new.arg(&folder).stdout(Stdio::null()).status()?;
        ensure!(made.success(), "lockgate new failed, see above");
        let target = all.join("target");
        let save = |version: usize| {
            let file = folder.join(self.file);
            let source = self.handler.replace("VERSION", &version.to_string());
            fs::write(&file, source).with_context(|| file.display().to_string())
        };

        save(0)?;
        // Without a deadline: a first build compiles all that the SDK needs.
        let mut build = bench.lockgate.command(&["build"])?;
        let built = build.arg(&folder).env("CARGO_TARGET_DIR", &target);
        let built = built.stdout(Stdio::null()).status()?;
        ensure!(built.success(), "lockgate build failed, see above");
        let mut dev = bench.lockgate.command(&["dev"])?;
        dev.arg(folder.join("gateway.toml"));
        dev.args(["--ws-port", "0", "--wss-port", "0"]);
        dev.env("CARGO_TARGET_DIR", &target);
        let server = Server::start("lockgate dev", dev).await?;
        let mut client = Raw::open(server.plain, "/dev").await?;
        served(&server, &mut client, 0).await?;
        let mut row = Row {
            target: self.target,
            ..Row::new(
                format!("dev, {}: from a save to the new build's answer", self.name),
                "ms",
                "",
            )
        };
        for version in 1..=bench.rounds {
            let began = Instant::now();
            save(version)?;
            served(&server, &mut client, version).await?;
            row.lockgate.push(Round {
                cost: began.elapsed().as_secs_f64() * 1e3,
                ..Round::default()
            });
        }
        Ok(row)
    }
}

/// Asks until this version answers.
async fn served(server: &Server, client: &mut Raw, version: usize) -> Result<()> {
    let (began, expected) = (Instant::now(), format!("version {version}"));
    loop {
        let answer = client.ask("which").await.with_context(|| server.log())?;
        if answer == expected {
            return Ok(());
        }
        ensure!(
            began.elapsed() < PATIENCE,
            "{answer:?} in place of {expected:?}\n{}",
            server.log()
        );
        tokio::time::sleep(PAUSE).await;
    }
}
