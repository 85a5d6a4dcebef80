//! The command line: parses arguments and calls the command.

mod access;
mod admin;
mod api_keys;
mod audit;
mod build;
mod client;
mod connections;
mod dev;
mod embedded;
mod health;
mod inspect;
mod new;
mod run;
mod sign;
mod signals;
mod systemd;
mod table;
mod test;
mod upgrade;
mod whom;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use self::signals::Signals;
use crate::config::{self, Log, LogFormat};
use crate::words::count_of;
use crate::{gateway, plugin, telemetry};

/// A self-hosted edge gateway for real-time APIs.
///
/// Lockgate terminates wss://, selects a route for each message the way Amazon API Gateway's WebSocket APIs do,
/// and runs the route's handler as a WebAssembly component.
#[derive(Debug, Parser)]
#[command(name = "lockgate", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  lockgate new hello --language ts make a plugin's project
  lockgate dev plugins/chat        build a plugin, serve it on this machine, rebuild on every save
  lockgate dev gateway.toml        do the same with the routes, limits and plugins of a configuration
  lockgate test plugins/chat       run a plugin's dialogues: clients that connect, send and expect
  lockgate build plugins/chat      build a plugin; the last line is the component's path
  lockgate validate gateway.toml   find every mistake in a configuration
  lockgate run gateway.toml        serve it
  lockgate inspect chat.wasm       show what a component is, and which grants it needs
  lockgate reload gateway.toml     have the running gateway read its configuration again

Logs go to standard error. LOCKGATE_LOG=debug shows more; it takes any tracing filter.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the APIs of a configuration file
    ///
    /// SIGTERM or ctrl-c stops the gateway: it closes clients with 1001, spread over limits.drain_s, and runs every
    /// $disconnect handler. A second signal exits at once. SIGHUP reads the configuration and the components again, as
    /// `lockgate reload` does. A component file that changes is loaded without a command. SIGUSR2 upgrades, as
    /// `lockgate upgrade` does.
    Run {
        /// The configuration (TOML); `lockgate config schema` documents every key
        file: PathBuf,
    },
    /// Check a configuration file: load and compile everything, open no port
    ///
    /// Exits with 1 if there are mistakes, and prints a paragraph for each: file, line, key, remedy.
    Validate {
        /// The configuration (TOML)
        file: PathBuf,
    },
    /// Replace a running gateway by a new process of the program, and refuse no connection
    ///
    /// The running process starts the program again, from the same path and with the same arguments, and hands it the
    /// listening sockets. Once the new process has loaded everything and serves, the old one closes its clients with
    /// 1012, spread over limits.drain_s, and exits with 0. If the new process is not ready within limits.upgrade_s, the
    /// old one continues; the command and the log say why. Prints the id of the new process. SIGUSR2 does the same.
    Upgrade(whom::GatewayArgument),
    /// Ask a running gateway whether it is ready: for the health check of a container
    ///
    /// Prints "ready" and exits with 0, or prints the reason and exits with 1, within 3 s. Asks the health listener of
    /// the configuration, or the management listener if there is no other. Mistakes elsewhere in the file do not matter.
    Health {
        /// The gateway's configuration file, or the address of its health or management listener: IP:PORT or unix:PATH
        gateway: String,
    },
    /// Have a running gateway read its configuration and components again; connections stay open
    ///
    /// Prints each change. If anything is wrong, nothing changes: prints the reasons, and exits with 1.
    Reload(whom::GatewayArgument),
    /// Show and change the versions of the plugins that a running gateway serves
    Plugins {
        #[command(subcommand)]
        command: admin::PluginsCommand,
    },
    /// Show the open connections of a running gateway, send to them, close them
    Connections {
        #[command(subcommand)]
        command: connections::ConnectionsCommand,
    },
    /// Show the groups of a running gateway, and send to their members
    Groups {
        #[command(subcommand)]
        command: connections::GroupsCommand,
    },
    /// Verify the file in which the gateway writes what operators change
    Audit {
        #[command(subcommand)]
        command: audit::AuditCommand,
    },
    /// Show the keys of the configuration file
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Make a plugin's project from a template
    ///
    /// The project has the SDK in its folder sdk, a test, and a configuration. It needs this program and the tools of
    /// its language, and nothing else of Lockgate.
    New(new::NewOptions),
    /// Build a plugin from its source folder, by the tools of its language
    ///
    /// The language follows from the folder's manifest: Cargo.toml, package.json or go.mod. The last line of standard
    /// output is the path of the component.
    Build {
        /// The plugin's folder
        #[arg(default_value = ".")]
        dir: PathBuf,
    },
    /// Run a plugin's dialogues: scripts of clients that connect, send and expect
    ///
    /// A dialogue is a text file such as tests/hello.dialogue: `a connects`, `a sends hello`, `a gets hello`. The plugin
    /// is built, and runs in a gateway without a network, whose clock moves only when all wait. A plugin's folder is tested
    /// with its gateway.toml; without one, and for a component, with the configuration of `lockgate dev FOLDER`.
    ///
    /// Exits with 1 if a dialogue fails: prints its line, what was expected, what came, and what the plugin printed.
    Test(test::TestOptions),
    /// Build plugins, serve them on this machine, rebuild and swap on every save
    ///
    /// Given a plugin's folder, serves it at wss://localhost:8443/dev and ws://localhost:8080/dev, with all grants, and
    /// answers every message.
    ///
    /// Given a configuration file, serves its stages, routes, limits and grants. Builds each plugin with a `source` from
    /// that folder, and reads the file again when it changes. Serves those of its listeners that have loopback addresses.
    ///
    /// Opens nothing beyond this machine. wss has a certificate made at start. The files of a plugin's folder `web` are
    /// served at /. Connections stay open across rebuilds.
    Dev(dev::DevOptions),
    /// Show what a component is: its world, imports, size, digest, toolchain, signature
    ///
    /// Says of each import that every plugin has it, that it needs a grant, or that it is refused. Lists the grants
    /// that the component needs. Compiles nothing.
    Inspect(inspect::InspectOptions),
    /// Make keys: those that sign components, and API keys of clients
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Sign a component: write FILE.sig beside it
    ///
    /// The signature (ed25519) covers the component's digest, the version and the time. plugins.NAME.signature in the
    /// configuration asks for it.
    Sign(sign::SignOptions),
    /// Check a component's signature
    Verify(sign::VerifyOptions),
    /// Compile the component on standard input into a folder, for the gateway that runs
    #[command(name = plugin::COMPILE_INTO, hide = true)]
    CompileInto {
        cache: PathBuf,
        parent: u32,
        cpu_s: u64,
        pace: plugin::Pace,
        addressing: plugin::Addressing,
        functions: Option<PathBuf>,
    },
    /// Print the version of Lockgate and of the plugin contract
    Version,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the JSON Schema of the configuration file
    Schema,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make a key pair: FILE (private, mode 0600) and FILE with the extension .pub.pem
    New {
        /// The file of the private key, such as release.pem; in a folder, its name is lockgate.pem
        file: PathBuf,
    },
    /// Make, list and revoke the API keys of clients, in the file that authorizers.NAME.api_keys names
    Api {
        #[command(subcommand)]
        command: api_keys::ApiKeysCommand,
    },
}

pub fn main() -> ExitCode {
    let arguments = Arguments::try_parse();
    let arguments = arguments.unwrap_or_else(|error| whom::suggest_option(error).exit());
    let serves = matches!(arguments.command, Command::Run { .. } | Command::Dev(_));
    let done = match arguments.command {
        Command::Run { file } => run::run(&file),
        Command::Validate { file } => validate(&file),
        Command::Health { gateway } => health::health(&gateway),
        Command::Upgrade(gateway) => upgrade::upgrade(&gateway),
        Command::Reload(gateway) => admin::reload(&gateway),
        Command::Plugins { command } => admin::plugins(&command),
        Command::Connections { command } => connections::connections(&command),
        Command::Groups { command } => connections::groups(&command),
        Command::Config {
            command: ConfigCommand::Schema,
        } => print(&config::schema()),
        Command::New(options) => new::new(&options),
        Command::Build { dir } => {
            if let Some(difference) = new::sdk::difference(&dir) {
                telemetry::print(&format!("warning: {difference}"));
            }
            let built = run::block_on(build::build(&dir));
            built.and_then(|built| print(&built.component.display().to_string()))
        }
        Command::Test(options) => test::test(&options),
        Command::Dev(options) => dev::dev(&options),
        Command::Inspect(options) => inspect::inspect(&options),
        Command::Keys {
            command: KeysCommand::New { file },
        } => sign::new_key(&file),
        Command::Keys {
            command: KeysCommand::Api { command },
        } => api_keys::api_keys(&command),
        Command::Audit { command } => audit::audit(&command),
        Command::Sign(options) => sign::sign(&options),
        Command::Verify(options) => sign::verify(&options),
        Command::CompileInto {
            cache,
            parent,
            cpu_s,
            pace,
            addressing,
            functions,
        } => plugin::compile_into(
            &cache,
            parent,
            cpu_s,
            pace,
            addressing,
            functions.as_deref(),
        ),
        Command::Version => print(concat!(
            "lockgate ",
            env!("CARGO_PKG_VERSION"),
            " (lockgate:plugin@0.1.0)"
        )),
    };
    let code = match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error, serves);
            ExitCode::FAILURE
        }
    };
    telemetry::finish(serves);
    code
}

fn validate(file: &std::path::Path) -> Result<()> {
    let signals = Signals::listen()?;
    let checked = async {
        let config = run::load(file).await?;
        // Shows what plugins print in their test calls and warnings of the file, and hides the gateway's own lines.
        telemetry::start(&Log {
            filter: "off,guest=info,config=warn".into(),
            format: LogFormat::Text,
        })?;
        gateway::check(&config)
            .await
            .map_err(|error| config::blame(Some(file), error))?;
        Ok(config)
    };
    let config = run::block_on(signals.until_any(checked))?;
    print(&format!(
        "{}: valid; {}, {}, {}",
        file.display(),
        count_of(config.listeners.len(), "listener"),
        count_of(config.apis.len(), "API"),
        count_of(config.plugins.len(), "plugin")
    ))
}

/// Prints a line to standard output; a closed pipe is an error.
fn print(line: &str) -> Result<()> {
    writeln!(io::stdout().lock(), "{line}")?;
    Ok(())
}

/// Prints an error with its causes to standard error: the problems of a configuration as paragraphs. A gateway whose
/// log is JSON logs them instead.
fn print_error(error: &anyhow::Error, serves: bool) {
    if serves && telemetry::takes_errors_as_json() {
        return log_error(error);
    }
    telemetry::print(&match error.downcast_ref::<config::Problems>() {
        Some(problems) => problems.to_string(),
        None => format!("error: {error:#}"),
    });
}

fn log_error(error: &anyhow::Error) {
    let Some(problems) = error.downcast_ref::<config::Problems>() else {
        tracing::error!("cannot serve: {error:#}");
        return;
    };
    for problem in &problems.0 {
        tracing::error!(
            file = %problem.file.display(),
            line = problem.line,
            key = problem.key,
            remedy = problem.remedy,
            "cannot serve: {}",
            problem.message
        );
    }
}
