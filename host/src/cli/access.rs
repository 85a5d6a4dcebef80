//! The credentials of commands that ask a gateway: the token that they send, and the certificate that they expect.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::config::{self, Secret};
use crate::net::{BoxedStream, ExpectedCertificate, Secrecy, Stream};

/// The environment variable with a token.
const TOKEN_VARIABLE: &str = "LOCKGATE_MANAGEMENT_TOKEN";

/// The options for a management listener with tokens or TLS. Beside a configuration file they are seldom needed: it has
/// the token and the certificate.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct AccessOptions {
    /// A file with a token of management.tokens; LOCKGATE_MANAGEMENT_TOKEN has the token itself
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The management listener has TLS, and its certificate is by an authority in this PEM file
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The name in that certificate [default: the address]
    #[arg(long, value_name = "HOST", requires = "ca")]
    server_name: Option<String>,
}

/// The token to send, or why there is none.
pub(super) struct FoundToken {
    pub(super) token: Option<Secret>,
    /// Why the configuration file has none; it matters only to a gateway that asks for one.
    pub(super) why_not: Option<String>,
}

impl From<Secret> for FoundToken {
    fn from(token: Secret) -> Self {
        Self {
            token: Some(token),
            why_not: None,
        }
    }
}

impl AccessOptions {
    /// The token to send: that of the options or of the environment, or else the first one of the configuration file.
    pub(super) fn token(&self, file: Option<&Path>) -> Result<FoundToken> {
        if let Some(path) = &self.token_file {
            let token = read_token(path).with_context(|| path.display().to_string())?;
            return Ok(token.into());
        }
        match std::env::var(TOKEN_VARIABLE) {
            Ok(token) if !token.is_empty() => {
                return Ok(single_token(&token).context(TOKEN_VARIABLE)?.into());
            }
            Ok(_) | Err(std::env::VarError::NotPresent) => {}
            Err(error @ std::env::VarError::NotUnicode(_)) => bail!("{TOKEN_VARIABLE}: {error}"),
        }
        let Some(file) = file else {
            return Ok(FoundToken {
                token: None,
                why_not: None,
            });
        };
        // A file that is broken by now is no error yet: the gateway may ask for no token.
        let found = config::management(file).map(|management| {
            management.and_then(|management| management.tokens.into_iter().next())
        });
        Ok(match found {
            Ok(Some(token)) => token.into(),
            Ok(None) => FoundToken {
                token: None,
                why_not: Some(format!("{} has no management.tokens", file.display())),
            },
            Err(problems) => FoundToken {
                token: None,
                why_not: Some(problems.to_string()),
            },
        })
    }

    /// The certificate to expect, if the options say that there is one.
    pub(super) fn certificate(&self, host: &str) -> Result<Option<ExpectedCertificate>> {
        let Some(authorities) = &self.ca else {
            return Ok(None);
        };
        let name = self.server_name.as_deref().unwrap_or(host);
        let expected = ExpectedCertificate::by_authority(authorities, name);
        expected
            .map(Some)
            .with_context(|| format!("{}: cannot be used", authorities.display()))
    }
}

/// Reads a file with a token, which others than its owner and its group have no access to.
fn read_token(path: &Path) -> Result<Secret> {
    let mut file = File::open(path).context("cannot be read")?;
    let mode = file.metadata().context("cannot be read")?.mode() & 0o7777;
    if let Err(exposed) = Secrecy::Group.check(mode) {
        bail!(
            "{exposed}\n  remedy: {}; if others have read it, make another token",
            exposed.command(path)
        );
    }
    let mut text = String::new();
    file.read_to_string(&mut text).context("cannot be read")?;
    single_token(&text)
}

/// Takes a text that is one token. Nothing shows it.
fn single_token(text: &str) -> Result<Secret> {
    let token = text.trim();
    match token.lines().count() {
        0 => bail!("has no token; write one of management.tokens"),
        1 if token.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(Secret::from(token.to_owned()))
        }
        1 => bail!(
            "has a space, or a character that no token has; leave one of management.tokens in it"
        ),
        lines => {
            bail!("has {lines} lines, and a token is one; leave one of management.tokens in it")
        }
    }
}

/// The certificate that a gateway with this configuration shows on its management listener: the one in the file.
pub(super) fn expected_certificate(file: &Path) -> Result<ExpectedCertificate> {
    let tls = config::management(file)?.and_then(|management| management.tls);
    let tls = tls.with_context(|| {
        format!(
            "{}: the gateway's management listener has TLS, and the file names no certificate; write --ca FILE",
            file.display()
        )
    })?;
    let expected = ExpectedCertificate::exactly(&tls.certificate);
    expected.with_context(|| format!("{}: cannot be used", tls.certificate.display()))
}

/// Does the TLS handshake, if a certificate is expected.
pub(super) async fn secure(
    stream: Stream,
    expected: Option<&ExpectedCertificate>,
) -> Result<BoxedStream> {
    match expected {
        Some(expected) => {
            let secured = expected.connect(stream).await;
            Ok(Box::new(secured.context("TLS failed")?))
        }
        None => Ok(Box::new(stream)),
    }
}
