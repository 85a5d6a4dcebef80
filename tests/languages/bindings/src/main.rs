//! Writes the bindings that wit-bindgen makes of the contract: `lockgate-bindings c|go WIT WORLD OUT`. Its own command is
//! a hundred crates more.

#![forbid(unsafe_code)]

use std::{env, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use wit_bindgen_core::{Files, WorldGenerator, wit_parser::Resolve};

fn main() -> Result<()> {
    let words: Vec<_> = env::args().skip(1).collect();
    let [language, wit, world, out] = words.as_slice() else {
        bail!("lockgate-bindings c|go WIT WORLD OUT");
    };
    let mut generator: Box<dyn WorldGenerator> = match language.as_str() {
        "c" => wit_bindgen_c::Opts::default().build(),
        "go" => wit_bindgen_go::Opts::default().build(),
        other => bail!("there is no generator for {other}"),
    };
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit)?;
    let world = resolve.select_world(&[package], Some(world))?;
    let mut files = Files::default();
    generator.generate(&mut resolve, world, &mut files)?;
    for (name, content) in files.iter() {
        let file = Path::new(out).join(name);
        fs::create_dir_all(file.parent().context("it lies in a folder")?)?;
        fs::write(&file, content).with_context(|| file.display().to_string())?;
    }
    Ok(())
}
