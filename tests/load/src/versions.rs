//! A component with any number of versions, each of them code that no gateway has seen.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};

use crate::raw::Raw;
use crate::server::Server;

/// The mark before the digits of the version in the guest `versions`, which is there once.
const MARK: &[u8] = b"@lockgate-version:";

/// The deadline for a version to serve.
const PATIENCE: Duration = Duration::from_secs(300);

/// The ids of the sections that are written here.
const CUSTOM: u8 = 0;
const CORE_MODULE: u8 = 1;

/// The guest `versions` in a file of its own.
pub(crate) struct Versions {
    guest: Vec<u8>,
    digits_at: usize,
    pub(crate) file: PathBuf,
    newest: u32,
}

impl Versions {
    /// Writes version 1.
    pub(crate) fn new(guest: &Path, file: PathBuf) -> Result<Self> {
        let guest = fs::read(guest).with_context(|| guest.display().to_string())?;
        let mut places = guest.windows(MARK.len()).enumerate();
        let place = places.find_map(|(place, bytes)| (bytes == MARK).then_some(place));
        let mut versions = Self {
            digits_at: place.context("the guest has no version")? + MARK.len(),
            guest,
            file,
            newest: 0,
        };
        versions.replace(None)?;
        Ok(versions)
    }

    /// Replaces the file by the next version with a rename, with `module` as an unused extra module. Returns the time
    /// of the rename.
    pub(crate) fn replace(&mut self, module: Option<&[u8]>) -> Result<Instant> {
        self.newest += 1;
        let mut bytes = self.guest.clone();
        let digits = format!("{:04}", self.newest);
        let place = bytes.get_mut(self.digits_at..self.digits_at + digits.len());
        place
            .context("the guest ends in its version")?
            .copy_from_slice(digits.as_bytes());
        if let Some(module) = module {
            section(CORE_MODULE, module, &mut bytes);
        }
        // No earlier run has compiled this one.
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        section(CUSTOM, format!("\x06unique{now}").as_bytes(), &mut bytes);
        let beside = self.file.with_extension("new");
        fs::write(&beside, bytes).with_context(|| beside.display().to_string())?;
        fs::rename(&beside, &self.file).with_context(|| self.file.display().to_string())?;
        Ok(Instant::now())
    }

    /// Asks with a pause after each answer until the newest version answers, and returns the time of that answer.
    pub(crate) async fn served(
        &self,
        server: &Server,
        client: &mut Raw,
        pause: Duration,
    ) -> Result<Instant> {
        let began = Instant::now();
        loop {
            let answer = client.ask("which").await.with_context(|| server.log())?;
            if answer == format!("{0} {0} which", self.newest) {
                return Ok(Instant::now());
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "{answer:?} in place of version {}\n{}",
                self.newest,
                server.log()
            );
            tokio::time::sleep(pause).await;
        }
    }
}

/// A core module of at least `bytes` bytes: functions of a few hundred instructions each, all different.
pub(crate) fn large_module(bytes: usize) -> Vec<u8> {
    const STATEMENTS: u32 = 200;
    const I32: u8 = 0x7f;
    let mut random = Random(1);
    let (mut bodies, mut count) = (Vec::new(), 0);
    while bodies.len() < bytes {
        // Six locals and the two parameters.
        let mut body = vec![1, 6, I32];
        for _ in 0..STATEMENTS {
            statement(&mut random, &mut body);
        }
        body.extend([0x20, 0, 0x0b]); // local.get 0, end
        leb128(body.len(), &mut bodies);
        bodies.extend(body);
        count += 1;
    }
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    section(1, &[1, 0x60, 2, I32, I32, 1, I32], &mut module); // one type
    let mut types = Vec::new();
    leb128(count, &mut types);
    types.resize(types.len() + count, 0);
    section(3, &types, &mut module);
    section(5, &[1, 0, 1], &mut module); // a memory of one page
    let mut code = Vec::new();
    leb128(count, &mut code);
    code.extend(bodies);
    section(10, &code, &mut module);
    module
}

/// Appends arithmetic, a load, a store or a branch over arithmetic, on any of eight locals.
fn statement(random: &mut Random, body: &mut Vec<u8>) {
    let [a, b, c, kind] = [(); 4].map(|()| random.below(8));
    let operation = 0x6a + random.below(3);
    let arithmetic = [0x20, a, 0x20, b, operation, 0x21, c];
    match kind {
        0 => body.extend([0x20, a, 0x28, 2, b * 4, 0x21, c]), // i32.load
        1 => body.extend([0x20, a, 0x20, b, 0x36, 2, c * 4]), // i32.store
        2 => {
            body.extend([0x02, 0x40, 0x20, b, 0x0d, 0]); // block, br_if
            body.extend(arithmetic);
            body.push(0x0b);
        }
        _ => body.extend(arithmetic),
    }
}

/// Pseudo-random numbers with a fixed seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u8) -> u8 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % u64::from(end)) as u8
    }
}

fn section(id: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(id);
    leb128(content.len(), out);
    out.extend_from_slice(content);
}

fn leb128(mut number: usize, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
