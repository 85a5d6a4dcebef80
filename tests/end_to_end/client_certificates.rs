//! Mutual TLS: the certificates that clients show, and who they are by them.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use lockgate_tests::{Certificate, Gateway, Http2, probe_configuration, within};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::LOCKGATE;

pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A client's certificate chain and key.
#[derive(Clone)]
struct ClientIdentity {
    chain: Vec<CertificateDer<'static>>,
    key_pem: String,
}

fn params(serial: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Analytical, Engines");
    params.distinguished_name.push(DnType::CommonName, "ada");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.serial_number = Some(SerialNumber::from(serial));
    params
}

fn issue(authority: &Authority, params: &CertificateParams) -> ClientIdentity {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    ClientIdentity {
        chain: vec![certificate.der().clone()],
        key_pem: key.serialize_pem(),
    }
}

pub(crate) fn revocation_list(authority: &Authority, serials: &[u64]) -> String {
    revocation_list_until(authority, serials, date_time_ymd(2050, 1, 1))
}

fn revocation_list_until(
    authority: &Authority,
    serials: &[u64],
    next_update: time::OffsetDateTime,
) -> String {
    let revoked = serials.iter().map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date_time_ymd(2024, 1, 1),
        reason_code: None,
        invalidity_date: None,
    });
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update,
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(authority).unwrap().pem().unwrap()
}

/// A gateway that asks clients for certificates.
struct Asking {
    gateway: Gateway,
    server: Certificate,
    folder: TempDir,
}

impl Asking {
    /// With these authorities in `ca.pem`, and these lines in the listener's table and in the stage's.
    async fn by(authority: &Authority, clients: &str, stage: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        let server = Certificate::new();
        let (chain, key) = server.write(folder.path());
        let place = folder.path().display();
        let clients = clients.replace("{folder}", &place.to_string());
        let probe = probe_configuration(stage, "");
        let configuration = format!(
            "[log]\nformat = \"json\"\nlevel = \"debug\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\n\
             tls = {{ certificate = {chain:?}, key = {key:?} }}\n\
             client_certificates = {{ ca = \"{place}/ca.pem\"{clients} }}\n\
             [management]\naddress = \"127.0.0.1:0\"\n{probe}\n[authorizers.certificate]\nmtls = {{}}\n"
        );
        Self {
            gateway: LOCKGATE.serve_as_written(&configuration).await,
            server,
            folder,
        }
    }

    fn client(&self, identity: Option<&ClientIdentity>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.server.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match identity {
            Some(identity) => {
                let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
                let chain = identity.chain.clone();
                config.with_client_auth_cert(chain, key).unwrap()
            }
            None => config.with_no_client_auth(),
        })
    }

    /// Connects, and gives who the probe says the client is; the status of a refusal; or nothing if TLS fails.
    async fn connect(&self, client: &Arc<ClientConfig>) -> Result<Value, Option<u16>> {
        let socket = TcpStream::connect(self.gateway.secure()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::clone(client)).connect(name, socket);
        let stream = stream.await.map_err(|_| None)?;
        let url = format!("wss://localhost:{}/s", self.gateway.secure().port());
        let opened = tokio_tungstenite::client_async(url, stream).await;
        let (mut client, _) = opened.map_err(|error| {
            let tungstenite::Error::Http(response) = error else {
                return None;
            };
            Some(response.status().as_u16())
        })?;
        let step = json!([{"do": "who"}]).to_string();
        client.send(Message::text(step)).await.map_err(|_| None)?;
        let answer = client.next().await.ok_or(None)?.map_err(|_| None)?;
        let answer: Value = serde_json::from_str(answer.to_text().unwrap()).unwrap();
        Ok(answer[0].clone())
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

#[tokio::test]
async fn certificate_lets_in_and_names_the_client() {
    let ca = authority("clients");
    let asking = Asking::by(&ca, "", "authorizer = \"certificate\"").await;
    let subject = "CN=ada,O=Analytical\\, Engines";
    let plain = asking.client(Some(&issue(&ca, &params(7))));
    let who = json!({"principal": subject, "values": {"subject": subject}});
    assert_eq!(asking.connect(&plain).await, Ok(who));
    let mut named = params(8);
    let uri = "spiffe://example.org/ada";
    named.subject_alt_names = vec![
        SanType::DnsName("ada.example".try_into().unwrap()),
        SanType::URI(uri.try_into().unwrap()),
    ];
    let named = asking.client(Some(&issue(&ca, &named)));
    assert_eq!(asking.connect(&named).await.unwrap()["principal"], uri);
    // A second connection resumes the first one's session, and is the same client.
    assert_eq!(asking.connect(&named).await.unwrap()["principal"], uri);
}

/// Promise A4.
#[tokio::test]
async fn client_without_a_good_certificate_is_refused_in_tls() {
    let (ca, other) = (authority("clients"), authority("others"));
    let asking = Asking::by(&ca, "", "").await;
    let mut expired = params(2);
    expired.not_before = date_time_ymd(2020, 1, 1);
    expired.not_after = date_time_ymd(2021, 1, 1);
    let mut early = params(3);
    early.not_before = date_time_ymd(2090, 1, 1);
    early.not_after = date_time_ymd(2091, 1, 1);
    let mut server = params(4);
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Of an authority with the same name and another key.
    let forged = issue(&authority("clients"), &params(5));
    for (what, identity) in [
        ("none", None),
        ("another authority's", Some(issue(&other, &params(1)))),
        ("expired", Some(issue(&ca, &expired))),
        ("not valid yet", Some(issue(&ca, &early))),
        ("for servers", Some(issue(&ca, &server))),
        ("forged", Some(forged)),
    ] {
        let client = asking.client(identity.as_ref());
        assert_eq!(asking.connect(&client).await, Err(None), "{what}");
    }
    let good = asking.client(Some(&issue(&ca, &params(6))));
    assert!(asking.connect(&good).await.is_ok());
}

#[tokio::test]
async fn optional_certificate_is_required_by_the_authorizer() {
    let ca = authority("clients");
    let optional = ", required = false";
    let asking = Asking::by(&ca, optional, "authorizer = \"certificate\"").await;
    let without = asking.client(None);
    assert_eq!(asking.connect(&without).await, Err(Some(403)));
    let with = asking.client(Some(&issue(&ca, &params(1))));
    assert!(asking.connect(&with).await.is_ok());
    // A bad one is worse than none.
    let foreign = asking.client(Some(&issue(&authority("others"), &params(1))));
    assert_eq!(asking.connect(&foreign).await, Err(None));
}

/// TLS judges no certificate when it resumes a session: the gateway looks at the time itself.
#[tokio::test]
async fn session_is_not_resumed_once_the_certificate_has_expired() {
    let ca = authority("clients");
    let asking = Asking::by(&ca, "", "").await;
    let mut short = params(11);
    short.not_before = date_time_ymd(2024, 1, 1);
    short.not_after = time::OffsetDateTime::now_utc() + Duration::from_secs(6);
    let client = asking.client(Some(&issue(&ca, &short)));
    assert!(asking.connect(&client).await.is_ok());
    within("the certificate has expired", async {
        while asking.connect(&client).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let line = asking
        .gateway
        .log()
        .line(&["certificate has expired"])
        .await;
    assert!(line.contains("127.0.0.1"), "{line}");
}

/// Promised in docs/authorizers.md: the gateway fails safe where nobody renews the list.
#[tokio::test]
async fn revocation_list_that_is_out_of_date_still_counts() {
    let ca = authority("clients");
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.pem");
    write(
        &list,
        &revocation_list_until(&ca, &[9], date_time_ymd(2024, 2, 1)),
    );
    let asking = Asking::by(&ca, &format!(", crl = \"{}\"", list.display()), "").await;
    let revoked = asking.client(Some(&issue(&ca, &params(9))));
    assert_eq!(asking.connect(&revoked).await, Err(None));
    let other = asking.client(Some(&issue(&ca, &params(10))));
    assert!(asking.connect(&other).await.is_ok());
}

#[tokio::test]
async fn certificate_names_the_client_on_every_stream_of_http2() {
    let ca = authority("clients");
    let asking = Asking::by(&ca, "", "authorizer = \"certificate\"").await;
    let mut config = ClientConfig::clone(&asking.client(Some(&issue(&ca, &params(7)))));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let socket = TcpStream::connect(asking.gateway.secure()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, socket);
    let http2 = Http2::over(stream.await.unwrap(), asking.gateway.secure()).await;
    for _ in 0..2 {
        let mut client = http2.open("/s").await;
        let who = client.step(json!({"do": "who"})).await;
        assert_eq!(who["principal"], "CN=ada,O=Analytical\\, Engines");
    }
}

/// A ticket of a session from before a change resumes nothing after it: TLS judges no certificate then.
#[tokio::test]
async fn changed_authority_or_list_counts_for_the_next_client_and_for_tickets() {
    let ca = authority("clients");
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.pem");
    write(&list, &revocation_list(&ca, &[9]));
    let clients = format!(", crl = \"{}\"", list.display());
    let asking = Asking::by(&ca, &clients, "").await;
    let revoked = asking.client(Some(&issue(&ca, &params(9))));
    assert_eq!(asking.connect(&revoked).await, Err(None));
    let client = asking.client(Some(&issue(&ca, &params(10))));
    for _ in 0..2 {
        assert!(asking.connect(&client).await.is_ok());
    }
    write(&list, &revocation_list(&ca, &[9, 10]));
    let changed = ["judging clients by the changed client_certificates"];
    asking.gateway.log().nth_line(0, &changed).await;
    assert_eq!(asking.connect(&client).await, Err(None));
    // A file that says nothing keeps what was there.
    write(&list, "nothing");
    asking.gateway.log().line(&["WARN", "crl"]).await;
    assert_eq!(asking.connect(&client).await, Err(None));
    write(&list, &revocation_list(&ca, &[]));
    asking.gateway.log().nth_line(1, &changed).await;
    assert!(asking.connect(&client).await.is_ok());
    // Another authority.
    let next = authority("next");
    write(&asking.file("ca.pem"), &next.pem());
    write(&list, &revocation_list(&next, &[]));
    let (status, body) = asking.gateway.post("/reload", "{}").await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(asking.connect(&client).await, Err(None));
    let renewed = asking.client(Some(&issue(&next, &params(10))));
    assert!(asking.connect(&renewed).await.is_ok());
}
