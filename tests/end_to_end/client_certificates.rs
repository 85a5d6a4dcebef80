//! Mutual TLS: the certificates that clients show, and who they are by them.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use lockgate_tests::{Certificate, Gateway, Http, Http2, probe_configuration, within};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::LOCKGATE;
use crate::abandoned::{all_are_told_of, slowly};

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
pub(crate) struct ClientIdentity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    key_pem: String,
}

pub(crate) fn params(serial: u64) -> CertificateParams {
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

pub(crate) fn issue(authority: &Authority, params: &CertificateParams) -> ClientIdentity {
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
pub(crate) struct Asking {
    pub(crate) gateway: Gateway,
    server: Certificate,
    folder: TempDir,
}

impl Asking {
    /// With these authorities in `ca.pem`, and these lines in the listener's table and in the stage's.
    pub(crate) async fn by(authority: &Authority, clients: &str, stage: &str) -> Self {
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

    pub(crate) fn client(&self, identity: Option<&ClientIdentity>) -> Arc<ClientConfig> {
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
    pub(crate) async fn connect(&self, client: &Arc<ClientConfig>) -> Result<Value, Option<u16>> {
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

    /// A TLS connection that speaks this protocol.
    async fn stream(&self, client: &Arc<ClientConfig>, alpn: &str) -> TlsStream<TcpStream> {
        let mut config = ClientConfig::clone(client);
        config.alpn_protocols = vec![alpn.into()];
        let socket = TcpStream::connect(self.gateway.secure()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, socket);
        stream.await.unwrap()
    }

    async fn http2(&self, client: &Arc<ClientConfig>) -> Http2 {
        let stream = self.stream(client, "h2").await;
        Http2::over(stream, self.gateway.secure()).await
    }

    /// Replaces a file of the listener, and waits until it counts, as the `nth` change of its kind.
    pub(crate) async fn replace(&self, path: &Path, text: &str, nth: usize) {
        write(path, text);
        let changed = ["judging clients by the changed client_certificates"];
        self.gateway.log().nth_line(nth, &changed).await;
    }

    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

pub(crate) fn write(path: &Path, text: &str) {
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
    // One that begins before and asks after it is refused with an answer.
    let told = ["certificate has expired", "127.0.0.1"];
    within("the certificate has expired", async {
        while !asking.gateway.log().contains(&told) {
            let _ = asking.connect(&client).await;
        }
    })
    .await;
    assert!(asking.connect(&client).await.is_err());
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
    let client = asking.client(Some(&issue(&ca, &params(7))));
    let http2 = asking.http2(&client).await;
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

/// The stage's lines for the connections API, by a token.
const API: &str = "connections_api = true\n\
    [access_keys.backend]\ntoken = \"canary-of-a-token-4711\"\nallow = [\"*/*:*\"]\n";

fn token() -> Vec<(String, String)> {
    crate::connections_api::bearer(crate::connections_api::TOKEN)
}

/// The path of a connection that there is not: the answer to an allowed call is 410.
const NOBODY: &str = "/s/@connections/AAAAAAAAAAAAAAAA";

#[tokio::test]
async fn revoked_client_opens_and_calls_nothing_more_on_its_http2_connection() {
    let ca = authority("clients");
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.pem");
    write(&list, &revocation_list(&ca, &[]));
    let asking = Asking::by(&ca, &format!(", crl = \"{}\"", list.display()), API).await;
    let [revoked, other] = [10, 11].map(|serial| asking.client(Some(&issue(&ca, &params(serial)))));
    let (mut http2, others) = (asking.http2(&revoked).await, asking.http2(&other).await);
    let mut open = http2.open("/s").await;
    assert_eq!(http2.call("GET", NOBODY, &token(), b"").await.status, 410);
    let idle = asking.http2(&revoked).await;
    asking.replace(&list, &revocation_list(&ca, &[10]), 0).await;
    // All at once: the first refusal tells the client to go elsewhere.
    let (first, second) = (http2.ask("/s", &[]).await, http2.ask("/s", &[]).await);
    let call = http2.call("GET", NOBODY, &token(), b"").await;
    let (first, second) = (first.refused().await, second.refused().await);
    for refused in [&first, &second, &call] {
        assert_eq!(refused.status, 403);
        assert_eq!(refused.text(), "{\"message\":\"Forbidden\"}");
    }
    assert_eq!(idle.refused("/s", &[]).await.status, 403);
    let line = asking.gateway.log().line(&["no longer trusts"]).await;
    assert!(line.contains("\"status\":403"), "{line}");
    // A WebSocket that is open stays; with it, the connection ends.
    open.id().await;
    assert!(http2.try_ask("/s", &[]).await.is_none());
    open.close(1000, "").await;
    http2.ended().await;
    // Nobody else is concerned.
    others.open("/s").await.id().await;
    assert_eq!(others.call("GET", NOBODY, &token(), b"").await.status, 410);
}

#[tokio::test]
async fn revoked_client_calls_nothing_more_on_its_kept_http1_connection() {
    let ca = authority("clients");
    let asking = Asking::by(&ca, "", API).await;
    let client = asking.client(Some(&issue(&ca, &params(10))));
    let host = format!("localhost:{}", asking.gateway.secure().port());
    let mut http = Http::over(asking.stream(&client, "http/1.1").await, &host);
    let mut unused = Http::over(asking.stream(&client, "http/1.1").await, &host);
    for _ in 0..2 {
        let called = http.ask("GET", NOBODY, &token(), b"").await;
        assert_eq!((called.status, called.closed), (410, false));
    }
    let ca_file = asking.file("ca.pem");
    asking.replace(&ca_file, &authority("next").pem(), 0).await;
    for http in [&mut http, &mut unused] {
        let refused = http.ask("GET", NOBODY, &token(), b"").await;
        assert_eq!((refused.status, refused.closed), (403, true));
    }
}

/// Closing all of a client's connections would miss those that are let in afterwards.
#[tokio::test]
async fn client_that_is_revoked_while_its_handler_decides_is_refused_and_its_disconnect_runs() {
    let ca = authority("clients");
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.pem");
    write(&list, &revocation_list(&ca, &[]));
    let asking = Asking::by(&ca, &format!(", crl = \"{}\"", list.display()), "").await;
    let client = asking.client(Some(&issue(&ca, &params(10))));
    let target = slowly(2_000);
    let request = asking.gateway.wss(&target).bytes();
    let (mut http1, http2) = (
        asking.stream(&client, "http/1.1").await,
        asking.http2(&client).await,
    );
    http1.write_all(&request).await.unwrap();
    let stream = http2.ask(&target, &[]).await;
    asking.gateway.log().nth_line(1, &["\"asked\""]).await;
    write(&list, &revocation_list(&ca, &[10]));
    asking.gateway.change(&[]).await;
    assert_eq!(stream.refused().await.status, 403);
    let mut status = [0; 12];
    within("the answer", http1.read_exact(&mut status))
        .await
        .unwrap();
    assert_eq!(&status, b"HTTP/1.1 403");
    let refused = ["no longer trusts", "\"status\":403"];
    asking.gateway.log().nth_line(1, &refused).await;
    all_are_told_of(&asking.gateway, 2).await;
}

#[tokio::test]
async fn certificate_that_has_expired_opens_nothing_more_on_a_connection() {
    let ca = authority("clients");
    let asking = Asking::by(&ca, "", "").await;
    let mut short = params(11);
    short.not_before = date_time_ymd(2024, 1, 1);
    short.not_after = time::OffsetDateTime::now_utc() + Duration::from_secs(6);
    let http2 = asking
        .http2(&asking.client(Some(&issue(&ca, &short))))
        .await;
    let mut open = http2.open("/s").await;
    within("the certificate has expired", async {
        while let Some(asked) = http2.try_ask("/s", &[]).await {
            match asked.status().await {
                Some(200) | None => {}
                Some(status) => return assert_eq!(status, 403),
            }
        }
    })
    .await;
    open.id().await;
}

/// A listener with other keys has another TLS, and the connections of before are judged by that, also later.
#[tokio::test]
async fn requirement_that_is_added_counts_for_open_connections() {
    let ca = authority("clients");
    let asking = Asking::by(&ca, ", required = false", API).await;
    let address = asking.gateway.secure().to_string();
    asking.gateway.change(&[("127.0.0.1:0", &address)]).await;
    let good = asking.client(Some(&issue(&ca, &params(10))));
    let without = asking.client(None);
    let host = format!("localhost:{}", asking.gateway.secure().port());
    let mut kept = Http::over(asking.stream(&without, "http/1.1").await, &host);
    assert_eq!(kept.ask("GET", NOBODY, &token(), b"").await.status, 410);
    // No request has come on these: a changed listener lets the first one come.
    let (http2, proven) = (asking.http2(&without).await, asking.http2(&good).await);
    let late = asking.http2(&good).await;
    asking
        .gateway
        .change(&[(", required = false", ", required = true")])
        .await;
    assert_eq!(http2.refused("/s", &[]).await.status, 403);
    assert_eq!(kept.ask("GET", NOBODY, &token(), b"").await.status, 403);
    proven.open("/s").await.id().await;
    let ca_file = asking.file("ca.pem");
    asking.replace(&ca_file, &authority("next").pem(), 0).await;
    assert_eq!(late.refused("/s", &[]).await.status, 403);
}

/// A listener at another address has another socket, and the connections of before are judged by it all the same.
#[tokio::test]
async fn listener_that_moves_judges_the_connections_of_before() {
    let (ca, next) = (authority("clients"), authority("next"));
    let asking = Asking::by(&ca, "", API).await;
    let address = asking.gateway.secure();
    let host = format!("localhost:{}", address.port());
    asking
        .gateway
        .change(&[("127.0.0.1:0", &address.to_string())])
        .await;
    let both = ca.pem() + &next.pem();
    write(&asking.file("ca.pem"), &both);
    asking.gateway.change(&[]).await;
    let [kept, gone] =
        [&next, &ca].map(|authority| asking.client(Some(&issue(authority, &params(10)))));
    let (good, revoked) = (asking.http2(&kept).await, asking.http2(&gone).await);
    let mut http = Http::over(asking.stream(&gone, "http/1.1").await, &host);
    let before = asking.http2(&gone).await;
    let mut open = before.open("/s").await;
    assert_eq!(http.ask("GET", NOBODY, &token(), b"").await.status, 410);
    // It moves and trusts one authority less, by the same reload.
    write(&asking.file("ca.pem"), &next.pem());
    let moved = format!("0.0.0.0:{}", address.port());
    asking
        .gateway
        .change(&[(&address.to_string(), &moved)])
        .await;
    assert_eq!(http.ask("GET", NOBODY, &token(), b"").await.status, 403);
    // No request has come on these: a listener that goes lets the first one come.
    assert_eq!(revoked.refused("/s", &[]).await.status, 403);
    good.open("/s").await.id().await;
    open.id().await;
}

/// Nobody keeps its authorities and lists up to date any more.
#[tokio::test]
async fn connections_of_a_listener_that_is_gone_take_no_more_requests() {
    let ca = authority("clients");
    let asking = Asking::by(&ca, "", API).await;
    let client = asking.client(Some(&issue(&ca, &params(10))));
    let host = format!("localhost:{}", asking.gateway.secure().port());
    let http2 = asking.http2(&client).await;
    let mut http = Http::over(asking.stream(&client, "http/1.1").await, &host);
    let mut open = http2.open("/s").await;
    assert_eq!(http.ask("GET", NOBODY, &token(), b"").await.status, 410);
    // A free port, and so another.
    asking
        .gateway
        .change(&[("127.0.0.1:0\"\ntls", "0.0.0.0:0\"\ntls")])
        .await;
    assert_eq!(http.ask("GET", NOBODY, &token(), b"").await.status, 403);
    assert!(match http2.try_ask("/s", &[]).await {
        Some(asked) => asked.status().await != Some(200),
        None => true,
    });
    open.id().await;
}

/// Over QUIC no client is asked for a certificate, so that a listener which asks cannot have it.
#[tokio::test]
async fn requirement_that_is_added_counts_for_open_http3_connections() {
    let gateway = crate::http3::probe("", "").await;
    let address = gateway.secure();
    crate::quic::keep_port(&gateway).await;
    let (mut busy, idle) = (gateway.http3().await, gateway.http3().await);
    let mut open = busy.open("/s").await;
    let ca = gateway.folder().join("ca.pem");
    write(&ca, &authority("clients").pem());
    let asks = format!("client_certificates = {{ ca = {ca:?} }}");
    gateway.change(&[("quic = true", &asks)]).await;
    assert_eq!(idle.refused("/s", &[]).await.status, 403);
    busy.going_away().await;
    open.id().await;
    crate::quic::is_not_served(address).await;
}
