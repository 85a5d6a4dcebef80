//! Plugins in Go: the standard compiler makes a library for WASI preview 1, and this module a component of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, anyhow, bail};
use serde::Deserialize;
use tokio::task::spawn_blocking;
// The other adapters need a file system, which no plugin has.
use wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_PROXY_ADAPTER as ADAPTER;
use wasm_metadata::Producers;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{PackageId, Resolve, SourceMap};

use super::super::embedded;
use super::tool::command;
use super::{Built, Language};
use crate::net::write_whole;

/// The folder inside the plugin's that has the core module and the component.
const OUTPUT: &str = ".lockgate";

/// The worlds of plugins in Go, beside the contract: their adapter has no environment, so that the SDK asks for it.
const WORLDS: &str = "package lockgate:go;
world handler {
    include lockgate:plugin/handler-plugin@0.1.0;
    import wasi:cli/environment@0.2.0;
}
world authorizer {
    include lockgate:plugin/authorizer-plugin@0.1.0;
    import wasi:cli/environment@0.2.0;
}
world both {
    include handler;
    include authorizer;
}
package wasi:cli@0.2.0 {
    interface environment {
        get-environment: func() -> list<tuple<string, string>>;
    }
}
";

/// What the SDK's functions say when they are called twice. The linker leaves out the texts of functions that nothing calls, so
/// that these tell what a program registers. The exports themselves are always there.
const HANDLE: &str = "lockgate.Handle was called twice";
const AUTHORIZE: &str = "lockgate.Authorize was called twice";

/// The field of the producers section for the languages of the source.
const LANGUAGE: &str = "language";

/// The name by which core modules import WASI preview 1.
const PREVIEW1: &str = "wasi_snapshot_preview1";

/// Builds the plugin in a canonical folder.
pub(super) async fn build(dir: &Path) -> Result<Built> {
    let output = dir.join(OUTPUT);
    std::fs::create_dir_all(&output).with_context(|| output.display().to_string())?;
    let core = output.join("core.wasm");
    let (listed, compiled) = tokio::join!(list(dir), compile(dir, &core));
    let packages = listed?;
    if let Some(main) = packages.iter().find(|package| package.dir == dir)
        && main.name != "main"
    {
        bail!(
            "{}: its package is {}, and a plugin is a program; write package main, and a func main that calls \
             lockgate.Handle or lockgate.Authorize",
            dir.display(),
            main.name
        );
    }
    if !compiled? {
        bail!(
            "{}: go could not build it; correct what it says above",
            dir.display()
        );
    }
    let component = output.join("plugin.wasm");
    let target = component.clone();
    let made = spawn_blocking(move || -> Result<()> {
        let encoded = componentize(&std::fs::read(&core)?)?;
        write_whole(&target, &encoded)?;
        Ok(())
    });
    made.await
        .map_err(anyhow::Error::from)
        .flatten()
        .with_context(|| format!("{}: cannot make a component of it", dir.display()))?;
    Ok(describe(component, output, &packages))
}

/// Compiles the program in a folder to a library. Gives whether it is made: if not, go has said why on standard error.
async fn compile(dir: &Path, core: &Path) -> Result<bool> {
    let status = go(dir)
        .args(["build", "-buildmode=c-shared", "-trimpath"])
        // Debugging information is most of the module, and Go has its own for the stack of a panic.
        .args(["-ldflags=-s -w", "-buildvcs=false", "-o"])
        .arg(core)
        .arg(".")
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .status()
        .await
        .context("cannot run go")?;
    Ok(status.success())
}

/// A package of the program, as `go list -json` describes it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Package {
    name: String,
    dir: PathBuf,
    standard: bool,
    module: Option<Module>,
    go_files: Vec<PathBuf>,
    embed_files: Vec<PathBuf>,
    other_files: Vec<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Module {
    dir: PathBuf,
    main: bool,
    replace: Option<Replacement>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Replacement {
    version: String,
}

impl Package {
    /// The folder of its module, unless that is a copy that never changes.
    fn module_on_this_machine(&self) -> Option<&Path> {
        let module = self.module.as_ref()?;
        let is_folder = module
            .replace
            .as_ref()
            .is_some_and(|by| by.version.is_empty());
        (module.main || is_folder).then_some(&module.dir)
    }
}

/// Lists the packages of the program that change on this machine. What is wrong with one, the compiler says too.
async fn list(dir: &Path) -> Result<Vec<Package>> {
    let listed = go(dir)
        .args(["list", "-e", "-deps"])
        .arg("-json=Name,Dir,Standard,Module,GoFiles,EmbedFiles,OtherFiles")
        .arg(".")
        .stderr(Stdio::null())
        .output()
        .await
        .context("cannot run go")?;
    let packages = serde_json::Deserializer::from_slice(&listed.stdout).into_iter::<Package>();
    // Go ends after the last package that it understands.
    let packages = packages.map_while(Result::ok);
    Ok(packages.filter(|package| !package.standard).collect())
}

/// Makes a command for WASI preview 1, the only WASI that Go compiles for.
fn go(dir: &Path) -> tokio::process::Command {
    let mut go = command(dir, "go");
    go.envs([("GOOS", "wasip1"), ("GOARCH", "wasm")]);
    go
}

/// Makes a component of a core module: the contract's world around it, and WASI 0.2 behind its imports of preview 1.
fn componentize(core: &[u8]) -> Result<Vec<u8>> {
    let (resolve, package) = contract()?;
    let world = resolve.select_world(&[package], Some(world(core)))?;
    let language = languages(core)?;
    let mut core = core.to_vec();
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8)?;
    let component = ComponentEncoder::default()
        .module(&core)
        .map_err(|error| without_handler(&error))?
        .adapter(PREVIEW1, ADAPTER)?
        .encode()
        .map_err(|error| without_handler(&error))?;
    language.add_to_wasm(&component)
}

/// The world of a program: what it exports of the contract. One that registers nothing is to have a handler, and says so when it
/// is called.
fn world(core: &[u8]) -> &'static str {
    let has = |text: &str| {
        let mut places = core.windows(text.len());
        places.any(|place| place == text.as_bytes())
    };
    match (has(HANDLE), has(AUTHORIZE)) {
        (true, true) => "both",
        (false, true) => "authorizer",
        (_, false) => "handler",
    }
}

/// The languages that a core module names, for the component as a whole: its adapter is in Rust.
fn languages(core: &[u8]) -> Result<Producers> {
    let mut languages = Producers::empty();
    let found = Producers::from_wasm(core)?;
    if let Some(found) = found.as_ref().and_then(|found| found.get(LANGUAGE)) {
        for (name, version) in found.iter() {
            languages.add(LANGUAGE, name, version);
        }
    }
    Ok(languages)
}

/// Adds to an error of the encoder why it most likely is one: nothing of the SDK is in the program.
fn without_handler(error: &anyhow::Error) -> anyhow::Error {
    let said = format!("{error:#}");
    if said.contains("handler@") {
        return anyhow!(
            "it exports no handler of this gateway's contract ({said}); import github.com/lockgate/lockgate/guest-sdk/go and \
             call lockgate.Handle in main; if it does, its SDK is another lockgate's: `lockgate new --sdk .` replaces it"
        );
    }
    anyhow!(said)
}

/// Parses the contract that travels in this program, and the package of the worlds of plugins in Go.
fn contract() -> Result<(Resolve, PackageId)> {
    let mut sources = SourceMap::new();
    for (path, content) in embedded::files("wit") {
        if path.ends_with(".wit") {
            sources.push(Path::new(path), std::str::from_utf8(content)?);
        }
    }
    let mut resolve = Resolve::default();
    let group = sources.parse().map_err(|(_, error)| anyhow!("{error}"))?;
    resolve.push_group(group)?;
    let package = resolve.push_str("go.wit", WORLDS)?;
    Ok((resolve, package))
}

fn describe(component: PathBuf, output: PathBuf, packages: &[Package]) -> Built {
    let mut files = BTreeSet::new();
    let mut folders = BTreeSet::new();
    for package in packages {
        let Some(module) = package.module_on_this_machine() else {
            continue;
        };
        folders.insert(module.to_owned());
        let read = [
            &package.go_files,
            &package.embed_files,
            &package.other_files,
        ];
        files.extend(
            read.into_iter()
                .flatten()
                .map(|file| package.dir.join(file)),
        );
    }
    Built {
        language: Language::Go,
        component,
        files,
        packages: folders,
        outputs: BTreeSet::from([output]),
    }
}

#[cfg(test)]
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the contract has few of the kinds of types"
)]
mod tests {
    use std::fmt::Write as _;

    use wit_parser::{Function, SizeAlign, Type, TypeDefKind, TypeOwner};

    use super::*;

    /// The constants by which the SDK's hand-written ABI reads and writes memory.
    const LAYOUT: &str = "guest-sdk/go/internal/gateway/layout_wasip1.go";

    #[test]
    fn abi_of_the_go_sdk_is_laid_out_as_the_contract() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("it lies in the repository");
        let file = root.join(LAYOUT);
        let expected = layout();
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&file, &expected).expect("it is written");
        }
        let written = std::fs::read_to_string(&file).expect("it is there");
        let differing = written
            .lines()
            .zip(expected.lines())
            .find(|(ours, theirs)| ours != theirs);
        assert!(
            written == expected,
            "{LAYOUT} is not the layout of wit/ ({differing:?}); write it with BLESS=1, and adapt what uses it"
        );
    }

    /// Writes the constants from the contract.
    fn layout() -> String {
        let (resolve, _) = contract().expect("it is valid");
        let mut sizes = SizeAlign::default();
        sizes.fill(&resolve);
        let mut layout = Layout {
            resolve: &resolve,
            sizes: &sizes,
            text: String::new(),
        };
        for (id, definition) in resolve.types.iter() {
            let TypeOwner::Interface(_) = definition.owner else {
                continue;
            };
            let name = definition.name.as_deref().map(go_name).unwrap_or_default();
            match &definition.kind {
                TypeDefKind::Record(record) => {
                    layout.constant(
                        &format!("{name}Size"),
                        sizes.size(&Type::Id(id)).size_wasm32(),
                    );
                    let fields = record.fields.iter().map(|field| &field.ty);
                    for (field, offset) in record.fields.iter().zip(sizes.field_offsets(fields)) {
                        layout.constant(
                            &format!("{name}{}", go_name(&field.name)),
                            offset.0.size_wasm32(),
                        );
                    }
                }
                TypeDefKind::Variant(variant) => {
                    for (number, case) in variant.cases.iter().enumerate() {
                        layout.constant(&format!("{name}Is{}", go_name(&case.name)), number);
                    }
                    let cases = variant.cases.iter().map(|case| case.ty.as_ref());
                    layout.payload(&format!("{name}Payload"), variant.tag(), cases);
                }
                _ => {}
            }
        }
        for (_, definition) in resolve.types.iter() {
            layout.unnamed(&definition.kind);
        }
        for (_, interface) in &resolve.interfaces {
            for function in interface.functions.values() {
                layout.function(function);
            }
        }
        layout.file()
    }

    struct Layout<'a> {
        resolve: &'a Resolve,
        sizes: &'a SizeAlign,
        text: String,
    }

    impl Layout<'_> {
        fn constant(&mut self, name: &str, value: usize) {
            let line = format!("\t{name} = {value}\n");
            if !self.text.contains(&line) {
                self.text += &line;
            }
        }

        fn payload<'t>(
            &mut self,
            name: &str,
            tag: wit_parser::Int,
            cases: impl IntoIterator<Item = Option<&'t Type>>,
        ) {
            let offset = self.sizes.payload_offset(tag, cases);
            self.constant(name, offset.size_wasm32());
        }

        /// Options, and the pairs in lists.
        fn unnamed(&mut self, kind: &TypeDefKind) {
            match kind {
                TypeDefKind::Option(inside) => {
                    let name = format!("Option{}Payload", self.name(inside));
                    self.payload(&name, wit_parser::Int::U8, [None, Some(inside)]);
                }
                TypeDefKind::Tuple(tuple) => {
                    let of: String = tuple.types.iter().map(|inside| self.name(inside)).collect();
                    let element = self.sizes.record(&tuple.types);
                    self.constant(&format!("Tuple{of}Size"), element.size.size_wasm32());
                    for (number, (offset, _)) in
                        self.sizes.field_offsets(&tuple.types).iter().enumerate()
                    {
                        self.constant(&format!("Tuple{of}{number}"), offset.size_wasm32());
                    }
                }
                TypeDefKind::List(inside) => {
                    let name = format!("List{}Element", self.name(inside));
                    self.constant(&name, self.sizes.size(inside).size_wasm32());
                }
                _ => {}
            }
        }

        fn function(&mut self, function: &Function) {
            let name = go_name(&function.name);
            let parameters: Vec<_> = function
                .params
                .iter()
                .map(|parameter| &parameter.ty)
                .collect();
            if ["OnConnect", "Authorize"].contains(&&*name) {
                // Their arguments are too many for the stack.
                let offsets = self.sizes.field_offsets(parameters);
                for (parameter, (offset, _)) in function.params.iter().zip(offsets) {
                    self.constant(
                        &format!("{name}{}", go_name(&parameter.name)),
                        offset.size_wasm32(),
                    );
                }
            }
            let Some(result) = &function.result else {
                return;
            };
            self.constant(
                &format!("{name}ResultSize"),
                self.sizes.size(result).size_wasm32(),
            );
            if let Type::Id(id) = result
                && let TypeDefKind::Result(cases) = &self.resolve.types[*id].kind
            {
                let cases = [cases.ok.as_ref(), cases.err.as_ref()];
                self.payload(&format!("{name}ResultPayload"), wit_parser::Int::U8, cases);
            }
        }

        /// The name of a type inside an unnamed one.
        fn name(&self, of: &Type) -> String {
            match of {
                Type::Id(id) => {
                    let definition = &self.resolve.types[*id];
                    match (&definition.kind, &definition.name) {
                        (TypeDefKind::Type(aliased), _) => self.name(aliased),
                        (_, Some(name)) => go_name(name),
                        (TypeDefKind::Tuple(tuple), None) => {
                            let inside = tuple.types.iter().map(|inside| self.name(inside));
                            format!("Tuple{}", inside.collect::<String>())
                        }
                        (kind, None) => kind.as_str().to_owned(),
                    }
                }
                simple => go_name(&format!("{simple:?}").to_lowercase()),
            }
        }

        /// The file as gofmt writes it: the values stand below each other.
        fn file(&self) -> String {
            let lines: Vec<_> = self
                .text
                .lines()
                .filter_map(|line| line.trim().split_once(" = "))
                .collect();
            let width = lines
                .iter()
                .map(|(name, _)| name.len())
                .max()
                .unwrap_or_default();
            let mut file = String::from(
                "// Code generated from wit/ by a test of host/src/cli/build/go.rs. DO NOT EDIT.\n\npackage gateway\n\nconst (\n",
            );
            for (name, value) in lines {
                writeln!(file, "\t{name:width$} = {value}")
                    .expect("a string takes what is written");
            }
            file + ")\n"
        }
    }

    /// Writes a name of the contract as Go does.
    fn go_name(name: &str) -> String {
        let words = name.split('-').map(|word| match word {
            "id" | "api" | "ip" | "http" => word.to_uppercase(),
            _ => {
                let (first, rest) = word.split_at(1);
                first.to_uppercase() + rest
            }
        });
        words.collect()
    }
}
