//! Components from a registry: the gateway serves the image with the digest, and no other.

use std::{fs, os::unix::fs::chown, path::Path, process::Output};

use lockgate_tests::{
    After, Certificate, Gateway, Guest, PATIENCE, Registry, digest, write_configuration,
};
use rustix::process::geteuid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::LOCKGATE;

/// A folder with a configuration of one plugin with this component. The lines `before` come first in the file, and
/// `plugin` in the plugin's table.
pub(crate) fn configured(
    registry: &Registry,
    component: &str,
    before: &str,
    plugin: &str,
) -> TempDir {
    let folder = TempDir::new().unwrap();
    configure(folder.path(), registry, component, before, plugin);
    folder
}

fn configure(folder: &Path, registry: &Registry, component: &str, before: &str, plugin: &str) {
    let configuration = format!(
        r#"{before}
[[listeners]]
address = "127.0.0.1:0"
tls = "off"
[log]
format = "json"
[registries."{}"]
plain_http = {}
username = "${{LOCKGATE_TEST_USER:-me}}"
password = "${{LOCKGATE_TEST_PASSWORD:-secret}}"
[apis.a.stages.s]
[apis.a.routes."$default"]
integration = "echo"
two_way = true
[plugins.echo]
component = "{component}"
{plugin}
"#,
        registry.host(),
        !registry.is_secure()
    );
    let _ = write_configuration(folder, &configuration);
}

/// Runs `validate` on the configuration in a folder.
pub(crate) async fn validate(folder: &TempDir, password: &str) -> Output {
    let mut command = LOCKGATE.command(&["validate", "gateway.toml"]);
    command
        .current_dir(folder.path())
        .env("LOCKGATE_TEST_PASSWORD", password);
    let certificate = folder.path().join("certificate.pem");
    if certificate.exists() {
        // This certificate replaces those that the machine trusts.
        command.env("SSL_CERT_FILE", certificate);
    }
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

pub(crate) async fn accepted(folder: &TempDir) {
    let output = validate(folder, "secret").await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
}

pub(crate) async fn refused(folder: &TempDir, said: &str) {
    let output = validate(folder, "secret").await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    for part in [
        "gateway.toml:",
        " plugins.echo.component: ",
        said,
        "\n  remedy: ",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

pub(crate) fn echo() -> Vec<u8> {
    fs::read(Guest::Echo.path()).unwrap()
}

#[tokio::test]
async fn image_is_served_by_its_digest() {
    let registry = Registry::start().await;
    let component = registry.push("team/echo", &echo());
    let folder = configured(&registry, &component, "", "");
    let file = folder.path().join("gateway.toml");
    let command = LOCKGATE.command(&["run", file.to_str().unwrap()]);
    let gateway = Gateway::start(command, folder, PATIENCE).await;
    let mut client = gateway.connect("/s").await;
    client.send("hello").await;
    client.expect("hello").await;
}

#[tokio::test]
async fn pulled_component_is_kept_and_checked_again() {
    let registry = Registry::start().await;
    let component = registry.push("echo", &echo());
    let folder = configured(&registry, &component, "component_cache = \"kept\"", "");
    fs::create_dir(folder.path().join("kept")).unwrap();
    accepted(&folder).await;
    let asked = registry.asked();
    accepted(&folder).await;
    assert_eq!(registry.asked(), asked);

    // A changed file is pulled again, and replaced.
    let kept = folder.path().join("kept");
    let layer = kept.join(digest(&echo()).replace(':', "-"));
    for file in fs::read_dir(&kept).unwrap() {
        let file = file.unwrap().path();
        let mut bytes = fs::read(&file).unwrap();
        bytes[20] ^= 1;
        fs::write(&file, bytes).unwrap();
        let asked = registry.asked().len();
        accepted(&folder).await;
        assert!(registry.asked().len() > asked);
        assert_eq!(fs::read(&layer).unwrap(), echo());
    }
    drop(registry);
    accepted(&folder).await;
    fs::remove_file(&layer).unwrap();
    refused(&folder, "cannot be reached").await;
}

/// A file of root's in the cache could not be replaced by the gateway's own user.
#[tokio::test]
async fn validate_makes_no_component_cache_and_leaves_another_users_untouched() {
    let registry = Registry::start().await;
    let component = registry.push("echo", &echo());
    let folder = configured(&registry, &component, "component_cache = \"kept\"", "");
    let kept = folder.path().join("kept");
    accepted(&folder).await;
    assert!(!kept.exists());
    fs::create_dir(&kept).unwrap();
    // Only root can give a folder away.
    if chown(&kept, Some(65_534), None).is_ok() {
        accepted(&folder).await;
        assert_eq!(fs::read_dir(&kept).unwrap().count(), 0);
        chown(&kept, Some(geteuid().as_raw()), None).unwrap();
    }
    accepted(&folder).await;
    assert_eq!(fs::read_dir(&kept).unwrap().count(), 2);
    // Files of another user's gateway are used.
    if chown(&kept, Some(65_534), None).is_ok() {
        drop(registry);
        accepted(&folder).await;
    }
}

#[tokio::test]
async fn layer_of_another_digest_than_sha256_is_refused_with_the_reason() {
    let registry = Registry::start().await;
    let digest = format!("sha512:{}", "0".repeat(128));
    let layer = json!([{"mediaType": "application/wasm", "digest": digest, "size": 3}]);
    let component = registry.push_manifest("echo", &layer);
    let folder = configured(&registry, &component, "", "");
    let said = format!(
        "the digest of its WebAssembly layer is \"{digest}\", and only sha256 is understood"
    );
    refused(&folder, &said).await;
}

#[tokio::test]
async fn failed_pull_is_refused_with_the_reason() {
    let registry = Registry::start().await;
    let (echo, layer) = (echo(), digest(&echo()));
    let wasm = json!({"mediaType": "application/wasm", "digest": layer, "size": echo.len()});
    let blob = |name: &str| format!("/v2/{name}/blobs/{layer}");
    let with = |name: &str, layers: Value| registry.push_manifest(name, &layers);
    let other = {
        let mut other = echo.clone();
        other[1_000] ^= 1;
        other
    };

    let unknown = format!("oci://{}/none@{}", registry.host(), digest(b"none"));
    check(&registry, &unknown, "has no ").await;

    let manifest = registry.push("manifest", &echo);
    let path = manifest.replace(&format!("oci://{}", registry.host()), "/v2");
    registry.put(&path.replace('@', "/manifests/"), b"{\"schemaVersion\": 2}");
    check(&registry, &manifest, "does not match the digest").await;

    let component = registry.push("changed", &echo);
    registry.put(&blob("changed"), &other);
    check(&registry, &component, "does not match the digest").await;
    let component = registry.push("longer", &echo);
    registry.put(&blob("longer"), &[&*echo, b"more"].concat());
    check(&registry, &component, "longer than").await;
    let component = registry.push("shorter", &echo);
    registry.put(&blob("shorter"), &echo[..echo.len() / 2]);
    check(&registry, &component, "does not match the digest").await;
    let component = registry.push("truncated", &echo);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", echo.len());
    let half = [head.as_bytes(), &echo[..echo.len() / 2]].concat();
    registry.answer(&blob("truncated"), half, After::Close);
    check(&registry, &component, "failed: ").await;
    let component = registry.push("gone", &echo);
    registry.answer(
        &blob("gone"),
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        After::Close,
    );
    check(&registry, &component, "has no ").await;
    let component = registry.push("broken", &echo);
    registry.answer(
        &blob("broken"),
        "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
        After::Close,
    );
    check(&registry, &component, "failed: ").await;

    let tar =
        json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 3});
    check(&registry, &with("tar", json!([tar])), "layer.v1.tar").await;
    check(
        &registry,
        &with("two", json!([wasm, wasm])),
        "application/wasm, application/wasm",
    )
    .await;
    check(&registry, &with("empty", json!([])), "it has no layers").await;
    check(
        &registry,
        &with("odd", json!("none")),
        "its manifest is invalid",
    )
    .await;

    let large = json!({"mediaType": "application/wasm", "digest": layer, "size": (64 << 20) + 1});
    let large = with("large", json!([large]));
    check(
        &registry,
        &large,
        "67108865 bytes, and the maximum is 67108864",
    )
    .await;
    assert!(!registry.asked().contains(&blob("large")));
}

/// Checks that a component is refused with these words.
#[track_caller]
pub(crate) fn check<'a>(
    registry: &'a Registry,
    component: &'a str,
    said: &'a str,
) -> impl Future<Output = ()> + 'a {
    let folder = configured(registry, component, "", "");
    async move { refused(&folder, said).await }
}

#[tokio::test]
async fn slow_or_dead_registry_is_not_waited_for() {
    let registry = Registry::start().await;
    let component = registry.push("echo", &echo());
    let blob = format!("/v2/echo/blobs/{}", digest(&echo()));
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\nabc",
        echo().len()
    );
    registry.answer(&blob, head, After::Silence);
    let folder = configured(&registry, &component, "limits = { pull_s = 1 }", "");
    refused(&folder, "did not end within 1 s, which is limits.pull_s").await;
    drop(registry);
    refused(&folder, "cannot be reached").await;
}

#[tokio::test]
async fn credentials_come_from_the_environment_and_are_never_shown() {
    let registry = Registry::start().await;
    let component = registry.push("echo", &echo());
    // Base64 of `me:secret`.
    registry.require("Basic bWU6c2VjcmV0");
    let folder = configured(&registry, &component, "", "");
    accepted(&folder).await;
    let output = validate(&folder, "wrong-one").await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("refuses these credentials"), "{error}");
    assert!(!error.contains("wrong-one"), "{error}");
}

/// Large registries keep layers on another host. The digest still decides, and credentials do not go there.
#[tokio::test]
async fn redirected_layer_is_pulled_without_credentials() {
    let (registry, elsewhere) = (Registry::start().await, Registry::start().await);
    let component = registry.push("echo", &echo());
    let blob = format!("/v2/echo/blobs/{}", digest(&echo()));
    let location = format!("http://{}/layer", elsewhere.host());
    registry.answer(&blob, redirect(&location), After::Close);
    registry.require("Basic bWU6c2VjcmV0");
    elsewhere.put("/layer", &echo());
    let folder = configured(&registry, &component, "", "");
    accepted(&folder).await;
    assert_eq!(elsewhere.asked(), ["/layer"]);
    assert!(!registry.credentials().is_empty());
    assert!(
        elsewhere.credentials().is_empty(),
        "{:?}",
        elsewhere.credentials()
    );

    elsewhere.put("/layer", &echo()[1..]);
    refused(&folder, "does not match the digest").await;
}

/// An answer that redirects to this address.
fn redirect(location: &str) -> String {
    format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\nConnection: close\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// Most registries use TLS, and a token from an address that they name.
#[tokio::test]
async fn token_is_fetched_from_the_address_that_the_registry_names() {
    let certificate = Certificate::new();
    let (registry, tokens) = (
        Registry::secure(&certificate).await,
        Registry::secure(&certificate).await,
    );
    let component = registry.push("team/echo", &echo());
    let realm = format!("https://{}/token", tokens.host());
    let challenge = format!("Bearer realm=\"{realm}\",service=\"a b\",scope=\"else\"");
    registry.require_as(&challenge, "Bearer granted");
    tokens.grant("/token", br#"{"token": "granted", "expires_in": 300}"#);
    let folder = configured(&registry, &component, "", "");
    refused(&folder, "cannot be reached").await;
    certificate.write(folder.path());
    accepted(&folder).await;
    let asked = ["/token?scope=repository%3Ateam%2Fecho%3Apull&service=a+b"];
    assert_eq!(tokens.asked(), asked);
    assert_eq!(tokens.credentials(), ["Basic bWU6c2VjcmV0"]);
    assert_eq!(registry.credentials(), ["Bearer granted"; 2]);

    // A token under the OAuth name, `access_token`, is as good.
    tokens.grant("/token", br#"{"access_token": "granted"}"#);
    accepted(&folder).await;
    tokens.grant("/token", br#"{"token": "other"}"#);
    refused(&folder, "refuses these credentials").await;
    tokens.grant("/token", b"granted");
    refused(&folder, "its token is invalid").await;
    tokens.grant("/token", &[b' '; (64 << 10) + 1]);
    refused(&folder, "its token is too long").await;
}

#[tokio::test]
async fn credentials_are_not_sent_in_clear() {
    let certificate = Certificate::new();
    let secure = Registry::secure(&certificate).await;
    let (plain, other) = (Registry::start().await, Registry::start().await);
    let realm = |host: String| format!("Bearer realm=\"http://{host}/token\"");
    for registry in [&secure, &plain] {
        let component = registry.push("echo", &echo());
        registry.require_as(&realm(other.host()), "Bearer granted");
        let folder = configured(registry, &component, "", "");
        certificate.write(folder.path());
        refused(&folder, "is not followed: it leads to").await;
    }
    assert!(other.asked().is_empty(), "{:?}", other.asked());

    // A registry without TLS may lead to itself, since it has had the credentials anyway.
    let component = plain.push("echo", &echo());
    plain.require_as(&realm(plain.host()), "Bearer granted");
    plain.grant("/token", br#"{"token": "granted"}"#);
    accepted(&configured(&plain, &component, "", "")).await;

    // A registry that it redirects to gets none, whatever it asks for.
    let component = secure.push("echo", &echo());
    secure.require_as("Basic realm=\"here\"", "Basic bWU6c2VjcmV0");
    let elsewhere = Registry::secure(&certificate).await;
    elsewhere.require("Basic bWU6c2VjcmV0");
    let blob = format!("/v2/echo/blobs/{}", digest(&echo()));
    let location = format!("https://{}/layer", elsewhere.host());
    secure.answer(&blob, redirect(&location), After::Close);
    let folder = configured(&secure, &component, "", "");
    certificate.write(folder.path());
    refused(&folder, "refuses these credentials").await;
    assert!(elsewhere.credentials().is_empty());
}

#[tokio::test]
async fn redirect_to_another_scheme_is_refused() {
    let certificate = Certificate::new();
    let (secure, plain) = (
        Registry::secure(&certificate).await,
        Registry::start().await,
    );
    let blob = format!("/v2/echo/blobs/{}", digest(&echo()));
    for (registry, elsewhere, scheme) in [(&secure, &plain, "http"), (&plain, &secure, "https")] {
        let component = registry.push("echo", &echo());
        let location = format!("{scheme}://{}/layer", elsewhere.host());
        registry.answer(&blob, redirect(&location), After::Close);
        elsewhere.put("/layer", &echo());
        let folder = configured(registry, &component, "", "");
        certificate.write(folder.path());
        refused(&folder, "another scheme").await;
    }
    let component = plain.push("echo", &echo());
    plain.answer(&blob, redirect(&blob), After::Close);
    check(&plain, &component, "one address after the other").await;
}

#[tokio::test]
async fn oversized_or_invalid_manifest_is_refused() {
    let registry = Registry::start().await;
    let reference = |manifest: &[u8]| {
        let digest = digest(manifest);
        registry.put(&format!("/v2/echo/manifests/{digest}"), manifest);
        format!("oci://{}/echo@{digest}", registry.host())
    };
    let longest = reference(&vec![b' '; 4 << 20]);
    let longer = reference(&vec![b' '; (4 << 20) + 1]);
    check(&registry, &longest, "its manifest is invalid").await;
    check(&registry, &longer, "its manifest is too long").await;

    // A digest that would name a path outside the folder.
    let layer = json!({"mediaType": "application/wasm", "digest": "sha256:../../x", "size": 3});
    let odd = registry.push_manifest("odd", &json!([layer]));
    check(&registry, &odd, "it is no artifact").await;
}

#[tokio::test]
async fn signed_component_of_a_registry_is_verified() {
    let registry = Registry::start().await;
    let component = registry.push("echo", &echo());
    let plugin = "signature = { keys = [\"k.pub.pem\"], file = \"echo.sig\" }";
    let folder = TempDir::new().unwrap();
    fs::copy(Guest::Echo.path(), folder.path().join("echo")).unwrap();
    for words in [
        &["keys", "new", "k.pem"][..],
        &["sign", "echo", "--key", "k.pem"],
    ] {
        let ended = LOCKGATE.run_in(folder.path(), words).await;
        assert_eq!(ended.code, Some(0), "{}", ended.error);
    }
    configure(folder.path(), &registry, &component, "", plugin);
    accepted(&folder).await;

    // Another component, pulled correctly, is not the signed one.
    let probe = registry.push("echo", &fs::read(Guest::Probe.path()).unwrap());
    configure(folder.path(), &registry, &probe, "", plugin);
    let output = validate(&folder, "secret").await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("it is not the component that was signed"),
        "{error}"
    );
}
