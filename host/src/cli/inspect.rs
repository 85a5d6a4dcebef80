//! `lockgate inspect`: describes a component file and its needs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::json;

use crate::config;
use crate::plugin::{self, Import, Inspection, Need};
use crate::signature::{self, Signature, Untrusted};

#[derive(Debug, clap::Args)]
pub(super) struct InspectOptions {
    /// The component file
    file: PathBuf,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

pub(super) fn inspect(options: &InspectOptions) -> Result<()> {
    let file = &options.file;
    let bytes = plugin::read(file)?;
    let inspection = plugin::inspect(&bytes).with_context(|| file.display().to_string())?;
    let digest = signature::digest_of(&bytes);
    let signature = signature_state(file, &digest);
    super::print(&if options.json {
        format!("{:#}", in_json(file, &digest, &inspection, &signature)?)
    } else {
        in_words(file, &digest, &inspection, &signature)
    })
}

/// The signature file beside a component. A check of the signature takes a key: `lockgate verify`.
#[derive(Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
enum SignatureState {
    /// There is none.
    None,
    /// There is one for this component.
    Present {
        version: u32,
        signed_at: String,
        key: String,
    },
    /// There is one that no key makes right.
    Wrong { why: String },
}

fn signature_state(component: &Path, digest: &str) -> SignatureState {
    let found = signature::read(&config::signature_beside(component))
        .and_then(|file| Signature::parse(&file));
    match found {
        Ok(signature) if signature.digest == digest => SignatureState::Present {
            version: signature.version,
            signed_at: signature.signed_at,
            key: signature.key,
        },
        Ok(signature) => SignatureState::Wrong {
            why: Untrusted::OtherComponent {
                signed: signature.digest,
                found: digest.to_owned(),
            }
            .to_string(),
        },
        Err(Untrusted::Unsigned(_)) => SignatureState::None,
        Err(untrusted) => SignatureState::Wrong {
            why: untrusted.to_string(),
        },
    }
}

fn in_json(
    file: &Path,
    digest: &str,
    inspection: &Inspection,
    signature: &SignatureState,
) -> Result<serde_json::Value> {
    let mut json = json!({"file": file, "digest": digest, "signature": signature});
    let inspection = serde_json::to_value(inspection)?;
    if let (Some(json), serde_json::Value::Object(inspection)) = (json.as_object_mut(), inspection)
    {
        json.extend(inspection);
    }
    Ok(json)
}

fn in_words(
    file: &Path,
    digest: &str,
    inspection: &Inspection,
    signature: &SignatureState,
) -> String {
    let mut rows = vec![
        ("size", format!("{} bytes", inspection.size)),
        ("digest", digest.to_owned()),
        (
            "world",
            inspection.world.map_or_else(
                || {
                    format!(
                        "none that this gateway calls: {}",
                        inspection.misfits.join("; ")
                    )
                },
                str::to_owned,
            ),
        ),
    ];
    rows.extend(
        inspection
            .exports
            .iter()
            .map(|export| ("exports", export.to_string())),
    );
    let width = inspection
        .imports
        .iter()
        .map(|import| import.interface.to_string().len())
        .max();
    for Import { interface, need } in &inspection.imports {
        let needs = match need {
            Need::Nothing => "given to every plugin".to_owned(),
            Need::Grant(grant) => format!("needs the grant \"{grant}\""),
            Need::Stub => {
                "given to no plugin; stub_wasi = true puts a stub in its place".to_owned()
            }
            Need::Refused => "the gateway does not have it".to_owned(),
        };
        let width = width.unwrap_or_default();
        let interface = interface.to_string();
        rows.push(("imports", format!("{interface:width$}  {needs}")));
    }
    for (field, tools) in &inspection.toolchain {
        for tool in tools {
            rows.push((
                "toolchain",
                format!("{field} {} {}", tool.name, tool.version),
            ));
        }
    }
    rows.push(("signature", match signature {
        SignatureState::None => "none".to_owned(),
        SignatureState::Present { version, signed_at, key } => format!(
            "version {version}, signed at {signed_at} with the key {key}; `lockgate verify` checks it"
        ),
        SignatureState::Wrong { why } => format!("wrong: {why}"),
    }));
    rows.push((
        "memory",
        format!("{} KiB to begin with", inspection.memory_bytes >> 10),
    ));
    rows.push(("grants", format!("grants = {}", inspection.grants)));
    if inspection.stub_wasi {
        let stub = "stub_wasi = true: stubs take the place of the interfaces that no plugin has, and refuse every call";
        rows.push(("stubs", stub.to_owned()));
    }

    let mut text = file.display().to_string();
    let mut before = "";
    for (title, row) in rows {
        let shown = if title == before { "" } else { title };
        before = title;
        let row = row.trim_end();
        write!(text, "\n  {shown:9}  {row}").expect("a string takes what is written");
    }
    text
}
