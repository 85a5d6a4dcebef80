//! Inspects a component file: its world, its needs, its toolchain. Nothing of it is compiled or run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};
use serde::Serialize;
use wasmparser::{
    Encoding, Parser, Payload, ProducersField, ProducersSectionReader, ValidPayload, Validator,
    WasmFeatures,
};

use super::source::MAX_COMPONENT;
use super::world;
use super::{CORE_MODULE, MAGIC, NAME_COMPONENT};
use crate::config::Grants;
use crate::net::watch;
use crate::plugin::capability::{Need, need};

/// Bytes of a page of memory.
const PAGE: u64 = 64 << 10;

/// The field of the producers section for the languages of the source.
const LANGUAGE: &str = "language";

/// A component as it describes itself.
#[derive(Debug, Serialize)]
pub(crate) struct Inspection {
    /// Bytes of the file.
    pub(crate) size: u64,
    /// The world that it fits; none when this gateway has nothing to call in it.
    pub(crate) world: Option<&'static str>,
    /// Where it differs from the world.
    pub(crate) misfits: Vec<String>,
    pub(crate) exports: Vec<InterfaceName>,
    pub(crate) imports: Vec<Import>,
    /// The grants that it needs, as the key `grants` lists them.
    pub(crate) grants: Grants,
    /// Whether it needs `stub_wasi = true`.
    pub(crate) stub_wasi: bool,
    /// Bytes of the largest memory that one of its modules begins with.
    pub(crate) memory_bytes: u64,
    /// Elements of the largest table that one of its modules begins with.
    pub(crate) table_elements: u64,
    /// The tools that made it, by `language`, `processed-by` and `sdk`. Languages are those that the component as a
    /// whole names, if it does: its modules may be an engine or an adapter in another one.
    pub(crate) toolchain: BTreeMap<String, BTreeSet<Tool>>,
}

/// An interface, or a function of the world itself.
#[derive(Debug, Serialize)]
pub(crate) struct InterfaceName {
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
}

/// An interface that a component imports, and the condition for it.
#[derive(Debug, Serialize)]
pub(crate) struct Import {
    #[serde(flatten)]
    pub(crate) interface: InterfaceName,
    #[serde(flatten)]
    pub(crate) need: Need,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// Reads a component file; one that is too long is refused.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    match watch::read(path, MAX_COMPONENT) {
        Ok((bytes, _)) => Ok(bytes),
        Err(error) => bail!(
            "{} cannot be read: {error}; {}",
            path.display(),
            watch::remedy(&error, NAME_COMPONENT)
        ),
    }
}

/// Validates a component and describes it. Fails when it is none, or damaged.
pub(crate) fn inspect(bytes: &[u8]) -> Result<Inspection> {
    if !bytes.starts_with(MAGIC) {
        bail!("it is no WebAssembly file; `lockgate build DIR` makes one");
    }
    if bytes.starts_with(CORE_MODULE) {
        bail!(
            "it is a core module and not a component; build it for the target wasm32-wasip2, or make a component of it \
             with `wasm-tools component new`"
        );
    }
    if let Err(error) = Validator::new_with_features(WasmFeatures::all()).validate_all(bytes) {
        bail!("it is damaged, or no component: {error}; build it again, and copy it whole");
    }
    describe(bytes)
}

/// Describes a component without validating its code: takes milliseconds, however long compiling would. Fails where
/// it cannot be parsed, or its types are wrong.
pub(crate) fn describe(bytes: &[u8]) -> Result<Inspection> {
    let mut found = Inspection {
        size: bytes.len() as u64,
        world: None,
        misfits: Vec::new(),
        exports: Vec::new(),
        imports: Vec::new(),
        grants: Grants::default(),
        stub_wasi: false,
        memory_bytes: 0,
        table_elements: 0,
        toolchain: BTreeMap::new(),
    };
    // Only the imports and exports of the outermost component count; of nested modules and components, only memories,
    // tables and makers.
    let mut depth = 0_usize;
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    let mut types = None;
    let mut languages = BTreeSet::new();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        if let ValidPayload::End(known) = validator.payload(&payload)? {
            types = Some(known);
        }
        if let Payload::Version {
            encoding: Encoding::Component | Encoding::Module,
            ..
        } = payload
        {
            depth += 1;
        } else if let Payload::End(_) = payload {
            depth = depth.saturating_sub(1);
        } else if let Payload::MemorySection(section) = payload {
            for memory in section {
                let bytes = memory?.initial.saturating_mul(PAGE);
                found.memory_bytes = found.memory_bytes.max(bytes);
            }
        } else if let Payload::TableSection(section) = payload {
            for table in section {
                found.table_elements = found.table_elements.max(table?.ty.initial);
            }
        } else if depth == 1
            && let Payload::ComponentImportSection(section) = payload
        {
            for import in section {
                found.import(import?.name.name);
            }
        } else if depth == 1
            && let Payload::ComponentExportSection(section) = payload
        {
            for export in section {
                found.export(export?.name.name);
            }
        } else if let Payload::CustomSection(section) = payload
            && section.name() == "producers"
        {
            let reader = wasmparser::BinaryReader::new(section.data(), section.data_offset());
            let producers = ProducersSectionReader::new(reader)?;
            if depth == 1 {
                for field in producers.clone() {
                    let field = field?;
                    if field.name == LANGUAGE {
                        languages.append(&mut tools(field)?);
                    }
                }
            }
            found.made_by(producers)?;
        }
    }
    if !languages.is_empty() {
        found.toolchain.insert(LANGUAGE.to_owned(), languages);
    }
    // The outermost component ends last.
    if let Some(types) = types {
        let exports: Vec<_> = found.exports.iter().map(InterfaceName::to_string).collect();
        let exports: Vec<_> = exports.iter().map(String::as_str).collect();
        found.misfits = world::misfits(&types, &exports);
        found.world = world::world(&exports).filter(|_| found.misfits.is_empty());
    }
    Ok(found)
}

impl Inspection {
    fn import(&mut self, name: &str) {
        let need = need(name);
        match need {
            Need::Grant(grant) => drop(self.grants.add(grant)),
            Need::Stub => self.stub_wasi = true,
            Need::Nothing | Need::Refused => {}
        }
        self.imports.push(Import {
            interface: InterfaceName::from(name),
            need,
        });
    }

    fn export(&mut self, name: &str) {
        self.exports.push(InterfaceName::from(name));
    }

    fn made_by(&mut self, producers: ProducersSectionReader<'_>) -> Result<()> {
        for field in producers {
            let field = field?;
            let known = self.toolchain.entry(field.name.to_owned()).or_default();
            known.append(&mut tools(field)?);
        }
        Ok(())
    }
}

fn tools(field: ProducersField<'_>) -> Result<BTreeSet<Tool>> {
    let mut tools = BTreeSet::new();
    for tool in field.values {
        let tool = tool?;
        tools.insert(Tool {
            name: tool.name.to_owned(),
            version: tool.version.to_owned(),
        });
    }
    Ok(tools)
}

/// The name as a component spells it.
impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl From<&str> for InterfaceName {
    fn from(name: &str) -> Self {
        let (name, version) = match name.split_once('@') {
            Some((name, version)) => (name, Some(version.to_owned())),
            None => (name, None),
        };
        Self {
            name: name.to_owned(),
            version,
        }
    }
}
