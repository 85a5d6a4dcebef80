//! The signature policy of a plugin: whether its component is signed as the configuration requires.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::source::MAX_COMPONENT;
use crate::config::{self, Component, Fault};
use crate::net::watch::{self, PAIR, Stamp};
use crate::signature::{self, PublicKey, Signature, Trust, Untrusted, digest_of};

/// The time between two looks at a component and a signature, one of which is still to come.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Whether a component and its signature are both whole and do not belong together: one has been replaced, the other
/// not yet.
pub(crate) fn is_mismatched(plugin: &config::Plugin) -> bool {
    let (Component::File(component), Some(wanted)) = (&plugin.component, &plugin.signature) else {
        return false;
    };
    let signature = signature::read(&wanted.file).and_then(|file| Signature::parse(&file));
    let Ok(signature) = signature else {
        return false;
    };
    let component = watch::read(component, MAX_COMPONENT);
    component.is_ok_and(|(component, _)| digest_of(&component) != signature.digest)
}

/// Waits for the second file of a pair when the first has just been replaced.
pub(crate) async fn await_pair(plugin: &config::Plugin) {
    let give_up = Instant::now() + PAIR;
    let is_awaited = async || {
        let plugin = plugin.clone();
        let look = move || is_young(&plugin) && is_mismatched(&plugin);
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    };
    while is_awaited().await && Instant::now() < give_up {
        sleep(POLL_INTERVAL).await;
    }
}

fn is_young(plugin: &config::Plugin) -> bool {
    let (Component::File(component), Some(wanted)) = (&plugin.component, &plugin.signature) else {
        return false;
    };
    let ages = [component, &wanted.file].map(|file| Stamp::of(file)?.age());
    ages.into_iter().flatten().any(|age| age < PAIR)
}

/// Checks a component's signature file and gives the signature; none when none is required. Without a `min_version` a
/// version below `loaded`, the newest that has served, is refused.
pub(crate) fn check(
    plugin: &config::Plugin,
    component: &[u8],
    loaded: u32,
) -> Result<Option<Signature>, Fault> {
    let Some(wanted) = &plugin.signature else {
        return Ok(None);
    };
    let trust = trust(plugin, wanted, loaded)?;
    signature::read(&wanted.file)
        .and_then(|file| trust.check(component, &file))
        .map(Some)
        .map_err(|untrusted| fault(plugin, &untrusted))
}

/// Checks whether code that was loaded before, with this signature, may serve under this configuration. Without a
/// `min_version` any version may.
pub(crate) fn check_again(
    plugin: &config::Plugin,
    signature: Option<&Signature>,
) -> Result<(), Fault> {
    let Some(wanted) = &plugin.signature else {
        return Ok(());
    };
    let trust = trust(plugin, wanted, 0)?;
    signature
        .ok_or(Untrusted::Unjudged)
        .and_then(|signature| trust.admit(signature))
        .map_err(|untrusted| fault(plugin, &untrusted))
}

fn trust(plugin: &config::Plugin, wanted: &config::Signature, loaded: u32) -> Result<Trust, Fault> {
    let mut keys = Vec::new();
    for (index, path) in wanted.keys.iter().enumerate() {
        keys.push(PublicKey::read(path).map_err(|error| {
            let unread = error.downcast_ref::<io::Error>();
            let otherwise =
                "name the PEM file of an ed25519 public key; `lockgate keys new FILE` makes one";
            Fault {
                key: format!("plugins.{}.signature.keys[{index}]", plugin.name),
                message: format!("{error:#}"),
                remedy: unread
                    .map_or(otherwise, |unread| watch::remedy(unread, otherwise))
                    .into(),
                is_passing: unread.is_some_and(watch::is_passing),
            }
        })?);
    }
    Ok(Trust {
        keys,
        min_version: wanted.min_version.unwrap_or(loaded),
        max_age: wanted.max_age,
    })
}

fn fault(plugin: &config::Plugin, untrusted: &Untrusted) -> Fault {
    let component = &plugin.component;
    let (part, remedy) = match untrusted {
        Untrusted::Unsigned(_) => ("", format!("sign it: `lockgate sign {component} --key KEY.pem`")),
        Untrusted::Unjudged => ("", "load it anew, signed".into()),
        Untrusted::Unreadable(_, _, remedy) => ("", (*remedy).into()),
        Untrusted::Malformed(_) => (
            "",
            format!("copy the signature file unchanged, or sign again: `lockgate sign {component} --key KEY.pem`"),
        ),
        Untrusted::UnknownKey(_) => (
            ".keys",
            "add the signer's public key, if you trust them; `lockgate inspect` names it".into(),
        ),
        Untrusted::Forged | Untrusted::OtherComponent { .. } => (
            "",
            "do not run it before you know who changed it; copy component and signature together from where they were \
             signed"
                .into(),
        ),
        Untrusted::OldVersion { version, .. } => (
            ".min_version",
            format!("load a newer one; to go back to this one deliberately, write min_version = {version}"),
        ),
        Untrusted::Expired { .. } => (
            ".max_age_days",
            format!("sign it again, if it is still to run: `lockgate sign {component} --key KEY.pem`"),
        ),
    };
    Fault {
        key: format!("plugins.{}.signature{part}", plugin.name),
        message: untrusted.to_string(),
        remedy,
        is_passing: matches!(untrusted, Untrusted::Unreadable(..)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use lockgate_tests::Guest;

    use crate::config;
    use crate::plugin::{Cause, Plugins};
    use crate::signature::{PrivateKey, Signature};

    /// Loads versions one after the other, each with its `min_version`, and checks which are refused. They are
    /// committed, or only prepared.
    async fn check(commits: bool, loads: &[(u32, Option<u32>, bool)]) {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let component = folder.path().join("echo.wasm");
        let public = folder.path().join("key.pub.pem");
        let bytes = fs::read(Guest::Echo.path()).expect("the guest is built");
        fs::write(&component, &bytes).expect("the folder can be written");
        let key = PrivateKey::generate().expect("there are random numbers");
        let half = key.public().expect("it has a public half");
        fs::write(&public, half.to_pem()).expect("the folder can be written");
        let plugins = Plugins::start(None).expect("the engine starts");
        for &(version, min_version, loaded) in loads {
            let signature = Signature::new(&bytes, version, &key).expect("it can be signed");
            fs::write(config::signature_beside(&component), signature.to_text())
                .expect("the folder can be written");
            let plugin = config::Plugin {
                roles: config::Roles::default(),
                name: "echo".into(),
                component: config::Component::File(component.clone()),
                grants: config::Grants::default(),
                signature: Some(config::Signature {
                    keys: vec![public.clone()],
                    file: config::signature_beside(&component),
                    min_version,
                    max_age: None,
                }),
                stub_wasi: false,
                environment: BTreeMap::default(),
                isolation: config::Isolation::default(),
                limits: config::PluginLimits::default(),
                rollback: None,
            };
            let (ready, fault) = match plugins.prepare(&plugin, Cause::Check).await {
                Ok(ready) => (Some(ready), None),
                Err(fault) => (None, Some(fault)),
            };
            assert_eq!(fault.is_none(), loaded, "version {version}: {fault:?}");
            // A version that is not committed raises no floor, however new it is.
            if let Some(ready) = ready.filter(|_| commits) {
                let held = plugins.hold(vec![ready]).await;
                held.expect("it is current").commit(|_| true, |_| {});
            }
            let key = fault.map(|fault| fault.key);
            assert!(key.is_none_or(|key| key == "plugins.echo.signature.min_version"));
        }
    }

    #[tokio::test]
    async fn older_version_is_refused_unless_a_rollback_names_it() {
        let loads = [
            (4, None, true),
            (3, None, false),
            (4, None, true),
            (3, Some(3), true),
            (3, None, false),
            (5, None, true),
            (4, None, false),
        ];
        check(true, &loads).await;
    }

    #[tokio::test]
    async fn prepared_version_that_never_serves_raises_no_floor() {
        check(false, &[(5, None, true), (4, None, true)]).await;
    }
}
