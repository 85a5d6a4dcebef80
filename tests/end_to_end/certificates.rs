//! Certificates from files: the pairs that are served, those that are refused with the reason, the renewal under open
//! connections, and the choice between several.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use lockgate_tests::{
    Certificate, Gateway, Http2, PATIENCE, Trust, within, write_configuration, write_private,
};
use tempfile::TempDir;

use crate::{LOCKGATE, probe_configuration};

/// A configuration with a management listener, and one listener with this value of `tls`.
fn configuration(tls: &str) -> String {
    format!(
        "listeners = [{{ address = \"127.0.0.1:0\", tls = {tls} }}]\n\
         management = {{ address = \"127.0.0.1:0\" }}\n\
         log = {{ level = \"info,lockgate=debug\", format = \"json\" }}\n{}",
        probe_configuration("", "")
    )
}

/// Serves this value of `tls`. The folder of its files stays the test's.
async fn serve(tls: &str) -> Gateway {
    LOCKGATE.serve_as_written(&configuration(tls)).await
}

fn pem(folder: &TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

/// Replaces a file, and keeps its modification time.
fn replace_unseen(path: &Path, content: &str) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let next = path.with_extension("next");
    write_private(&next, content);
    let file = File::options().write(true).open(&next).unwrap();
    file.set_modified(modified).unwrap();
    fs::rename(next, path).unwrap();
}

/// Another certificate with files of the same size.
fn of_same_size(certificate: &Certificate) -> Certificate {
    loop {
        let other = Certificate::new();
        if other.certificate_pem.len() == certificate.certificate_pem.len()
            && other.key_pem.len() == certificate.key_pem.len()
        {
            return other;
        }
    }
}

async fn shown_within(gateway: &Gateway, certificate: &Certificate) {
    within("the certificate to be shown", async {
        while gateway.wss("/s").certificate().await != certificate.der {}
    })
    .await;
}

#[tokio::test]
async fn pair_of_equal_size_and_time_is_served() {
    let folder = TempDir::new().unwrap();
    let first = Certificate::new();
    let second = of_same_size(&first);
    let gateway = serve(&first.write_as(folder.path(), "c")).await;
    let mut client = gateway.wss("/s").open().await;

    // The key is written last: until then the pair does not match, and the old one is shown.
    replace_unseen(&pem(&folder, "c.pem"), &second.certificate_pem);
    gateway
        .log()
        .line(&["waiting for the other file of the pair"])
        .await;
    assert_eq!(gateway.wss("/s").certificate().await, first.der);
    replace_unseen(&pem(&folder, "c.key.pem"), &second.key_pem);
    shown_within(&gateway, &second).await;
    client.id().await;
    let refused = gateway.log().lines();
    assert!(!refused.iter().any(|line| line.contains("not reloaded")));

    // A reload finds it too, and reports it.
    let third = of_same_size(&first);
    replace_unseen(&pem(&folder, "c.key.pem"), &third.key_pem);
    replace_unseen(&pem(&folder, "c.pem"), &third.certificate_pem);
    let (status, said) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 200, "{said}");
    assert_eq!(gateway.wss("/s").certificate().await, third.der);
    client.id().await;
}

#[tokio::test]
async fn mismatched_pair_fails_the_reload_and_the_old_one_is_shown() {
    let folder = TempDir::new().unwrap();
    let (first, second) = (Certificate::new(), Certificate::new());
    let gateway = serve(&first.write_as(folder.path(), "c")).await;
    let mut client = gateway.wss("/s").open().await;
    let file = gateway.folder().join("gateway.toml");

    fs::write(pem(&folder, "c.pem"), &second.certificate_pem).unwrap();
    let address = gateway.management().to_string();
    let reload = LOCKGATE.run(&["reload", "--management", &address]).await;
    let validate = LOCKGATE.run(&["validate", file.to_str().unwrap()]).await;
    for ended in [reload, validate] {
        assert_eq!(ended.code, Some(1), "{ended:?}");
        for part in [
            "gateway.toml:1: listeners[0].tls.key: ",
            "do not belong together",
            "remedy: ",
        ] {
            assert!(ended.error.contains(part), "{part}: {}", ended.error);
        }
    }
    assert_eq!(gateway.wss("/s").certificate().await, first.der);
    client.id().await;

    // Once mended, the pair is read again.
    fs::write(pem(&folder, "c.key.pem"), &second.key_pem).unwrap();
    let (status, said) = gateway.post("/reload", "{}").await;
    assert!(status == 200, "{said}");
    assert_eq!(gateway.wss("/s").certificate().await, second.der);
}

#[tokio::test]
async fn every_certificate_of_a_file_is_sent() {
    let folder = TempDir::new().unwrap();
    let (leaf, other) = (Certificate::new(), Certificate::new());
    let tls = leaf.write_as(folder.path(), "c");
    let without_newline = leaf.certificate_pem.trim_end();
    let both = format!("\u{feff}{without_newline}{}", other.certificate_pem);
    fs::write(pem(&folder, "c.pem"), both).unwrap();
    let gateway = serve(&tls).await;
    let chain = gateway.wss("/s").chain().await;
    assert_eq!(chain, [leaf.der.clone(), other.der.clone()]);
}

/// The error of `validate` about a pair that it must refuse.
async fn refusal(certificate: &Path, key: &Path) -> String {
    let folder = TempDir::new().unwrap();
    let tls = format!("{{ certificate = {certificate:?}, key = {key:?} }}");
    let file = write_configuration(folder.path(), &configuration(&tls));
    let ended = LOCKGATE.run(&["validate", file.to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    ended.error
}

#[tokio::test]
async fn unusable_pair_is_refused_with_reason_and_command() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/certificates");
    for (certificate, key, parts) in [
        (
            "version-1.pem",
            "version-1.key.pem",
            [
                "tls.certificate: ",
                "an X.509 certificate of version 1",
                "`openssl req -x509 -new -key ",
            ],
        ),
        (
            "short-rsa.pem",
            "short-rsa.key.pem",
            [
                "tls.certificate: ",
                "an RSA key of 1024 bits, and TLS takes 2048",
                "`(umask 077; openssl genpkey ",
            ],
        ),
        (
            "encrypted.pem",
            "encrypted.key.pem",
            ["tls.key: ", "is encrypted", "openssl pkey -in "],
        ),
        (
            "encrypted.pem",
            "encrypted-sec1.key.pem",
            ["tls.key: ", "is encrypted", "openssl pkey -in "],
        ),
        (
            "encrypted.pem",
            "encrypted.pem",
            ["tls.key: ", "holds no private key", "remedy: "],
        ),
        (
            "short-rsa.key.pem",
            "short-rsa.key.pem",
            ["tls.certificate: ", "holds no certificate", "remedy: "],
        ),
    ] {
        let said = refusal(&fixtures.join(certificate), &fixtures.join(key)).await;
        for part in parts {
            assert!(said.contains(part), "{certificate}, {key}: {part}: {said}");
        }
    }
}

#[tokio::test]
async fn pem_that_would_be_skipped_is_refused() {
    let folder = TempDir::new().unwrap();
    let pair = Certificate::new();
    let _ = pair.write_as(folder.path(), "c");
    let (certificate, key) = (pem(&folder, "c.pem"), pem(&folder, "c.key.pem"));
    let good = &pair.certificate_pem;
    for (text, expected) in [
        (good.replacen("-----END", "-----", 1), "has no END"),
        (format!("{good}-----BEGIN CERTIFICATE-----\n"), "has no END"),
        (
            format!("{good}{}", good.replace("-----", "----")),
            "is not written as PEM",
        ),
        (
            good.replace("CERTIFICATE", "CERTIFICATE REQUEST"),
            "is a request for a certificate",
        ),
        (good.replace("MII", "M!I"), "is damaged"),
        (
            format!("{good}{}", good.replace("CERTIFICATE", "X")),
            "is no certificate",
        ),
    ] {
        fs::write(&certificate, &text).unwrap();
        let said = refusal(&certificate, &key).await;
        assert!(said.contains(expected), "{expected}: {said}");
    }
    fs::write(&certificate, good).unwrap();
    let twice = format!("{0}{0}", pair.key_pem);
    fs::write(&key, twice).unwrap();
    let said = refusal(&certificate, &key).await;
    assert!(said.contains("holds two keys"), "{said}");
}

/// The metric of a certificate's remaining time.
async fn seconds_left(gateway: &Gateway) -> i64 {
    let (_, page) = gateway.page("/metrics").await;
    let line = page
        .lines()
        .find(|line| line.starts_with("lockgate_certificate_expiry_seconds{"))
        .unwrap_or_else(|| panic!("{page}"));
    let listener = format!("listener=\"{}\"", gateway.secure());
    assert!(
        line.contains(&listener) && line.contains("name=\"localhost\""),
        "{line}"
    );
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn certificate_that_expires_is_warned_of_and_measured() {
    let folder = TempDir::new().unwrap();
    let tls = Certificate::of_years(2020, 2021).write_as(folder.path(), "c");
    let gateway = serve(&tls).await;
    gateway
        .log()
        .line(&["WARN", "c.pem: it expired at 2021-01-01T00:00:00Z"])
        .await;
    assert!(seconds_left(&gateway).await < 0);
    let file = gateway.folder().join("gateway.toml");
    let ended = LOCKGATE.run(&["validate", file.to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.error.contains("it expired at 2021-01-01"),
        "{}",
        ended.error
    );

    let _ = Certificate::of_years(2090, 2091).write_as(folder.path(), "c");
    gateway
        .log()
        .line(&["WARN", "c.pem: it is not valid before 2090-01-01T00:00:00Z"])
        .await;
    assert!(seconds_left(&gateway).await > 60 * 365 * 86_400);
}

#[tokio::test]
async fn certificate_without_a_host_that_clients_look_at_is_warned_of() {
    let folder = TempDir::new().unwrap();
    let tls = Certificate::of(&[]).write_as(folder.path(), "c");
    let gateway = serve(&tls).await;
    gateway
        .log()
        .line(&["WARN", "c.pem: it has no subjectAltName", "remedy: "])
        .await;
}

/// A listener with three certificates: for this machine, for one name, and for all names of a domain.
struct Several {
    folder: TempDir,
    this: Certificate,
    named: Certificate,
    wild: Certificate,
    gateway: Gateway,
}

impl Several {
    async fn serve() -> Self {
        let folder = TempDir::new().unwrap();
        let (this, named, wild) = (
            Certificate::new(),
            Certificate::of(&["Chat.Example.com", "a.example.org"]),
            Certificate::of(&["*.example.com"]),
        );
        let pairs = [(&this, "this"), (&named, "named"), (&wild, "wild")];
        let pairs = pairs.map(|(pair, name)| pair.write_as(folder.path(), name));
        let gateway = serve(&format!("[{}]", pairs.join(", "))).await;
        Self {
            folder,
            this,
            named,
            wild,
            gateway,
        }
    }

    async fn expect(&self, name: Option<&str>, certificate: &Certificate) {
        let request = self.gateway.wss("/s").server_name(name);
        assert_eq!(request.certificate().await, certificate.der, "{name:?}");
    }
}

#[tokio::test]
async fn client_is_shown_the_certificate_for_the_host_that_it_names() {
    let several = Several::serve().await;
    let Several {
        this, named, wild, ..
    } = &several;
    for (name, certificate) in [
        (Some("localhost"), this),
        (None, this),
        (Some("chat.example.com"), named),
        (Some("CHAT.example.com"), named),
        (Some("a.example.org"), named),
        (Some("other.example.com"), wild),
        (Some("example.com"), this),
        (Some("a.b.example.com"), this),
        (Some("b.example.org"), this),
    ] {
        several.expect(name, certificate).await;
    }
    // A client that checks everything accepts it.
    let trusted = Trust::Only(named.der.clone());
    let request = several.gateway.wss("/s").trusting(trusted);
    request.server_name(Some("chat.example.com")).open().await;

    // A renewed certificate leaves the others as they are.
    let renewed = Certificate::of(&["*.example.com"]);
    let _ = renewed.write_as(several.folder.path(), "wild");
    let line = [
        "serving the changed certificate",
        "wild.pem for *.example.com",
    ];
    several.gateway.log().line(&line).await;
    several.expect(Some("other.example.com"), &renewed).await;
    several.expect(Some("chat.example.com"), named).await;
    several.expect(None, this).await;
}

#[tokio::test]
async fn name_of_two_certificates_is_refused() {
    let several = Several::serve().await;
    let second = Certificate::of(&["b.example", "chat.example.com"]);
    let _ = second.write_as(several.folder.path(), "wild");
    let (status, said) = several.gateway.post("/reload", "{}").await;
    assert_eq!(status, 422, "{said}");
    for part in [
        "gateway.toml:1: listeners[0].tls[2].certificate: ",
        "it is for chat.example.com, and so is listeners[0].tls[1]",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    several
        .expect(Some("other.example.com"), &several.wild)
        .await;
    // A certificate that no client could ask for is refused as well.
    let nameless = Certificate::of(&["127.0.0.1"]);
    let _ = nameless.write_as(several.folder.path(), "wild");
    let (status, said) = several.gateway.post("/reload", "{}").await;
    assert!(
        status == 422 && said.contains("holds no DNS name"),
        "{said}"
    );
}

/// A client that uses one connection for two hosts gets 421 if the certificate covers one of them only.
#[tokio::test]
async fn request_for_a_host_outside_the_certificate_is_misdirected_over_http_2() {
    let several = Several::serve().await;
    let address = several.gateway.secure();
    let mut http2 = Http2::connect_to(address, Some("chat.example.com")).await;
    for host in ["chat.example.com", "a.example.org", "CHAT.example.com"] {
        http2.set_host(host);
        http2.open("/s").await;
    }
    for host in ["other.example.com", "localhost", "127.0.0.1"] {
        http2.set_host(host);
        let refused = http2.refused("/s", &[]).await;
        assert_eq!(refused.status, 421, "{host}");
        assert_eq!(refused.text(), "{\"message\":\"Misdirected Request\"}");
    }
    // The first certificate was shown for a host that none covers, and to a client that named no host.
    let mut http2 = Http2::connect_to(address, Some("unknown.example")).await;
    http2.set_host("unknown.example");
    http2.open("/s").await;
    http2.set_host("chat.example.com");
    assert_eq!(http2.refused("/s", &[]).await.status, 421);
    let mut http2 = Http2::connect_to(address, None).await;
    http2.set_host("127.0.0.2");
    http2.open("/s").await;
    http2.set_host("chat.example.com");
    assert_eq!(http2.refused("/s", &[]).await.status, 421);
}

/// Renewal tools often write the key first, or to another path.
#[tokio::test]
async fn missing_certificate_is_warned_of_and_the_old_one_is_shown() {
    let folder = TempDir::new().unwrap();
    let (first, second) = (Certificate::new(), Certificate::new());
    let tls = first.write_as(folder.path(), "c");
    let gateway = serve(&tls).await;
    fs::remove_file(pem(&folder, "c.pem")).unwrap();
    let log = gateway.log();
    log.line_within(PATIENCE, &["the file is gone", "c.pem"])
        .await;
    assert_eq!(gateway.wss("/s").certificate().await, first.der);
    let _ = second.write_as(folder.path(), "c");
    shown_within(&gateway, &second).await;
}
